"""What ``codesign validate`` and ``codesign calibrate`` do, without their command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codesign.catalog import accelerators
from codesign.performance.constants import generation, measured_generations, without_generation
from codesign.performance.profile import EngineProfile, default_profile
from codesign.validation.bench import read_bench
from codesign.validation.cached import AssumedHits, with_hits
from codesign.validation.calibrate import Calibration, StackResult, leave_rest_out
from codesign.validation.calibrate import calibrate as fit_profile
from codesign.validation.compare import Comparison, compare
from codesign.validation.errors import ErrorRow, error_tables
from codesign.validation.intervals import Coverage, bracket_coverage, coverage
from codesign.validation.measured import Row, read_names, read_rows, shipped_rows
from codesign.validation.points import COLOCATED, Point, points_of
from codesign.validation.predict import given_or_default, predict
from codesign.validation.ranks import RankAgreement, rank_agreement
from codesign.validation.slices import slice_of


@dataclass(frozen=True)
class Validation:
    """Everything that a validation found."""

    comparisons: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    """The same rows predicted without anything that was measured on their part's generation (kernels, host terms,
    what a stack adds to TTFT): in the tables by slice and in the bands alone."""
    skipped: dict[str, int]
    """Rows that cannot be predicted, by reason."""
    out_of_score: dict[str, int]
    """Rows that are predicted and stay out of the tables, by reason."""
    summary: tuple[ErrorRow, ...]
    coverage: tuple[Coverage, ...]
    bracket_rows: int
    bracket_covered: float
    """Share of TTFTs inside their bracket."""
    ranks: tuple[RankAgreement, ...]
    user_calibration: tuple[StackResult, ...]
    """Leave-rest-out: four points of a stack calibrate it, the others are predicted."""
    assumed_hits: tuple[AssumedHits, ...] = ()
    """Hit ratios of prefix caches that were chosen for lack of published ones."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: rows, skipped, summary, and the tests of bands, ranks and calibration."""
        return {
            "rows": [_row(comparison) for comparison in self.comparisons],
            "held_out": [_row(comparison) for comparison in self.held_out],
            "skipped": self.skipped,
            "out_of_score": self.out_of_score,
            "summary": [asdict(row) for row in self.summary],
            "coverage": [asdict(row) for row in self.coverage],
            "ttft_bracket": {"rows": self.bracket_rows, "covered": self.bracket_covered},
            "ranks": [asdict(row) for row in self.ranks],
            "user_calibration": [asdict(row) for row in self.user_calibration],
            "assumed_hits": [asdict(row) for row in self.assumed_hits],
        }


def _row(c: Comparison) -> dict[str, Any]:
    return {
        "row_id": c.point.row_id,
        "metric": c.metric,
        "measured": c.measured,
        "predicted": c.predicted,
        "low": c.low,
        "high": c.high,
        "source": c.point.source,
        "accelerator": c.point.accelerator,
        "model": c.point.model,
        "class": c.kind,
        "slice": slice_of(c.point),
        "calibration": c.calibration,
        "scored": c.scored,
        "out_of_score": c.point.out_of_score or None,
    }


def validate(
    data: Sequence[str | Path] = (),
    names: str | Path | None = None,
    profile: EngineProfile | None = None,
    leave_out: bool = True,
) -> Validation:
    """Predict measured rows and score the predictions.

    Without ``data`` the table that ships with the package is taken; ``names`` adds to the shipped names.
    ``profile`` replaces the engines' defaults; ``leave_out`` also tests calibration by four points of each
    stack. Raises :class:`~codesign.validation.measured.DataError` for a file that cannot be used.
    """
    rows = [row for path in data for row in read_rows(path)] if data else shipped_rows()
    return validate_rows(rows, names, profile, leave_out)


def validate_rows(
    rows: Sequence[Row],
    names: str | Path | None = None,
    profile: EngineProfile | None = None,
    leave_out: bool = True,
) -> Validation:
    """:func:`validate` for rows in memory."""
    known = read_names()
    if names is not None:
        known = {**known, **read_names(names)}
    points, skipped = points_of(rows, known)
    engine = given_or_default(profile)
    points, assumed = with_hits(points, engine)
    comparisons, unfit = compare(points, predict(points, engine))
    held = without_their_generation(points, profile) if leave_out else ()
    bracket_rows, bracket_covered = bracket_coverage(comparisons)
    return Validation(
        comparisons=tuple(comparisons),
        held_out=tuple(held),
        skipped=dict(sorted((Counter(skipped) + Counter(unfit)).items())),
        out_of_score=dict(sorted(Counter(p.out_of_score for p in points if p.out_of_score).items())),
        summary=tuple(error_tables(comparisons, held)),
        coverage=tuple(coverage([*comparisons, *held])),
        bracket_rows=bracket_rows,
        bracket_covered=bracket_covered,
        ranks=tuple(rank_agreement(comparisons)),
        user_calibration=tuple(leave_rest_out([p for p in points if p.slice == COLOCATED])) if leave_out else (),
        assumed_hits=assumed,
    )


def without_their_generation(points: Sequence[Point], profile: EngineProfile | None) -> list[Comparison]:
    """Colocated points predicted as if nothing were measured on their part's generation; of those that anything was."""
    found: list[Comparison] = []
    for architecture in measured_generations():
        mine = [
            replace(point, held_out="part")
            for point in points
            if point.slice == COLOCATED and generation(accelerators()[point.accelerator]) == architecture
        ]
        if mine:
            with without_generation(architecture):
                found += compare(mine, predict(mine, given_or_default(profile)))[0]
    return found


def calibrate(
    bench: str | Path | Sequence[str | Path], name: str = "", stack: Mapping[str, Any] | None = None
) -> Calibration:
    """An engine profile from files of measured points, or of benchmark tools' results.

    `stack` has the fields that a tool does not write: accelerator, model, precision, tp, ...  Raises
    :class:`~codesign.validation.measured.DataError` for a file that cannot be used.
    """
    files = [bench] if isinstance(bench, (str, Path)) else list(bench)
    points = read_bench(*files, stack=stack)
    prior = default_profile(points[0].engine, points[0].year)
    return fit_profile(points, prior, name or Path(files[0]).stem)
