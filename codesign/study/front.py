"""What a frontier is once it is found: plans that nobody beats, and the proof of how far they could be from it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.files import make_folder, parse_json, write_atomically
from codesign.notebook import html_table
from codesign.solution.schema import Solution, load_solution
from codesign.study.axes import AXES


@dataclass(frozen=True)
class FrontPoint:
    """One plan of the front."""

    values: Mapping[str, float]
    """By objective, in its own unit."""
    bound: float
    """No plan that is as good on the other objectives has a first objective below this."""
    solution: Solution
    key: str
    held: Mapping[str, float]
    """Axes that change the problem (slo_scale, robustness) and where they stand."""
    knee: bool = False

    @property
    def gap(self) -> float:
        """(value − bound)/|value| of the first objective."""
        value = next(iter(self.values.values()))
        return max(0.0, (value - self.bound) / max(abs(value), 1e-300))

    @property
    def file(self) -> str:
        """Name of its solution file within the folder of the front."""
        return f"solutions/{self.key[:16]}.json"


@dataclass(frozen=True)
class Proof:
    """Nobody can have a first objective below `bound` while the others keep to `ceilings`."""

    ceilings: Mapping[str, float]
    bound: float


@dataclass(frozen=True)
class Front:
    """A Pareto frontier: the inner front of plans (`points`), the outer one of proof (`proofs`)."""

    problem: str
    problem_sha256: str
    objectives: tuple[str, ...]
    """The first is minimised at each point while the others are held."""
    units: Mapping[str, str]
    points: tuple[FrontPoint, ...]
    """In ascending order of the first objective; none dominates another."""
    proofs: tuple[Proof, ...]
    least: Mapping[str, float]
    """Proven lower bounds of the linear objectives, each by itself."""
    gap_asked: float
    solves: int
    complete: bool
    """False where the study was cancelled."""
    status: str
    """optimal | feasible (some point's gap is wider than asked) | infeasible | no_solution."""
    notes: tuple[str, ...] = ()
    """Stored solves that were not believed."""

    @property
    def knee(self) -> FrontPoint | None:
        """The point beyond which one objective costs much of another: farthest below the plane of the ends."""
        return next((point for point in self.points if point.knee), None)

    def hypervolume(self, reference: Mapping[str, float] | None = None) -> float:
        """Volume between the front and a reference point, as a share of the box from the front's ideal point to it.

        Without a reference, the front's own worst values.  Three objectives need moocore.
        """
        if not self.points:
            return 0.0
        rows = [[AXES[n].sign * p.values[n] for n in self.objectives] for p in self.points]
        worst = [max(row[i] for row in rows) for i in range(len(self.objectives))]
        if reference is not None:
            worst = [AXES[n].sign * reference[n] for n in self.objectives]
        best = [min(row[i] for row in rows) for i in range(len(self.objectives))]
        return volume([unit_box(row, best, worst) for row in rows])

    def to_dataframe(self) -> Any:
        """One row per point, as a pandas DataFrame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.rows(), columns=self.header())

    def header(self) -> list[str]:
        """Columns of front.csv: one by objective, then bound, gap, status, knee, solution."""
        return [*self.objectives, "bound", "gap", "status", "knee", "solution"]

    def rows(self) -> list[list[Any]]:
        """Rows of front.csv."""
        asked = self.gap_asked
        return [
            [
                *(point.values[name] for name in self.objectives),
                point.bound,
                point.gap,
                "optimal" if point.gap <= asked + 1e-9 else "feasible",
                point.knee,
                point.file,
            ]
            for point in self.points
        ]

    def to_dict(self) -> dict[str, Any]:
        """The document of front.json."""
        return {
            "problem": self.problem,
            "problem_sha256": self.problem_sha256,
            "objectives": [{"name": n, "unit": self.units[n]} for n in self.objectives],
            "points": [
                {
                    "values": dict(point.values),
                    "bound": point.bound,
                    "gap": point.gap,
                    "status": row[-3],
                    "knee": point.knee,
                    "held": dict(point.held),
                    "solution": point.file,
                }
                for point, row in zip(self.points, self.rows(), strict=True)
            ],
            "proofs": [{"ceilings": dict(p.ceilings), "bound": p.bound} for p in self.proofs],
            "least": dict(self.least),
            "knee": self.knee.file if self.knee else None,
            "gap_asked": self.gap_asked,
            "solves": self.solves,
            "complete": self.complete,
            "status": self.status,
        }

    def write(self, directory: Path) -> list[Path]:
        """Write front.csv, front.json and a solution file per point; return their paths, solutions last."""
        make_folder(directory / "solutions")
        for point in self.points:  # first what the tables name, then the tables
            point.solution.write(directory / point.file)
        write_atomically(directory / "front.csv", csv_text(self.header(), self.rows()))
        document = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(directory / "front.json", document + "\n")
        files = [directory / "front.csv", directory / "front.json"]
        return files + [directory / point.file for point in self.points]

    def _repr_html_(self) -> str:
        title = f"Frontier of {self.problem}: {len(self.points)} points"
        return html_table(title, self.header()[:-1], [row[:-1] for row in self.rows()])


def load_front(directory: Path) -> Front:
    """The frontier that :meth:`Front.write` left in a folder, its hypervolume and tables included.

    Raises ValueError where front.json is no front's, or a solution file that it names cannot be read.
    """
    path = directory / "front.json"
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
        points = tuple(
            FrontPoint(
                each["values"],
                each["bound"],
                load_solution(directory / each["solution"]),
                Path(each["solution"]).stem,
                each["held"],
                each["knee"],
            )
            for each in told["points"]
        )
        return Front(
            problem=told["problem"],
            problem_sha256=told["problem_sha256"],
            objectives=tuple(each["name"] for each in told["objectives"]),
            units={each["name"]: each["unit"] for each in told["objectives"]},
            points=points,
            proofs=tuple(Proof(each["ceilings"], each["bound"]) for each in told["proofs"]),
            **{name: told[name] for name in ("least", "gap_asked", "solves", "complete", "status")},
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: found no front ({error}); expected what codesign pareto writes") from None


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV file's text; nothing where there is no figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return text.getvalue()


def unit_box(row: Sequence[float], best: Sequence[float], worst: Sequence[float]) -> tuple[float, ...]:
    """Values as shares of the box from `best` (0) to `worst` (1)."""
    return tuple(
        (value - low) / (high - low) if high > low else 0.0
        for value, low, high in zip(row, best, worst, strict=True)
    )


def volume(points: Sequence[Sequence[float]]) -> float:
    """Hypervolume of points in the unit box towards (1, …, 1); all are minimised."""
    inside = sorted(tuple(p) for p in points if all(v <= 1.0 for v in p))
    if not inside:
        return 0.0
    if len(inside[0]) > 2:
        import moocore
        import numpy as np

        return float(moocore.hypervolume(np.array(inside), ref=np.ones(len(inside[0]))))
    total, height = 0.0, 1.0
    for x, y in inside:
        if y < height:
            total += (1.0 - x) * (height - y)
            height = y
    return total


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Is `one` at least as good everywhere, and better somewhere?  All are minimised."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
