"""The files behind a report: one solution, or every solution in a folder, each with its problem where it is found."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.files import parse_json
from codesign.problem import Problem, load_problem
from codesign.solution import Solution, load_solution

if TYPE_CHECKING:
    from codesign.architecture.solution import ArchitectureSolution
    from codesign.study.front import Front

MOST_PLANS = 200
"""Plans in one page: more would not be looked through, nor stay below its size."""


class ReportError(ValueError):
    """What was given cannot be shown; the message says what was found and what would be right."""


@dataclass(frozen=True)
class PlanFile:
    """A solution, where it was read, and the very problem that it was made from (None: not found)."""

    name: str
    solution: Solution
    problem: Problem | None = None


def read_plan(source: str | Path, problem: str | Path | None = None) -> PlanFile:
    """A solution file with its problem: `problem`, or the one that its recorded command names.

    Raises ReportError where it cannot be read or is not of that problem, ProblemError for a faulty problem.
    """
    place = Path(source)
    given = load_problem(problem) if problem is not None else None
    try:
        solution = _read(place)
    except ValueError as error:
        raise ReportError(str(error)) from None
    if given is not None and given.sha256 != solution.provenance.problem_sha256:
        raise ReportError(
            f"--problem: found {problem}, which is not the file that {source} was made from (sha256 differs); "
            "expected that very file"
        )
    return PlanFile(place.stem, solution, given or find_problem(solution))


def read_architecture(source: str | Path) -> ArchitectureSolution | None:
    """The designed chips of a file; None where it is not one of those.  Raises ReportError for a damaged one."""
    try:
        told = parse_json(Path(source).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("kind") != "architecture":
        return None
    from codesign.architecture.solution import load_architecture_solution

    try:
        return load_architecture_solution(source)
    except ValueError as error:
        raise ReportError(str(error)) from None


def read_plans(source: str | Path, problem: str | Path | None = None) -> list[PlanFile]:
    """The plans of a solution file, of a frontier's folder, or of a folder's solution files (by name, subfolders too).

    Raises as `read_plan`; in a folder, what is no solution file is passed over, and so is `problem` for the
    plans that were not made from it.
    """
    place = Path(source)
    if not place.is_dir():
        return [read_plan(source, problem)]
    given = load_problem(problem) if problem is not None else None
    front = read_front(source)
    if front is not None:
        files = [(f"point {i}{', the knee' if p.knee else ''}", p.solution) for i, p in enumerate(front.points, 1)]
    else:
        files = list(_solutions(place))
    if not files:
        raise ReportError(f"{source}: found no solution file (*.json) in this folder; expected at least one")
    if len(files) > MOST_PLANS:
        raise ReportError(f"{source}: found {len(files)} solution files; expected at most {MOST_PLANS}")
    found = []
    for name, solution in files:
        same = given is not None and given.sha256 == solution.provenance.problem_sha256
        found.append(PlanFile(name, solution, given if same else find_problem(solution)))
    return found


def read_front(source: str | Path) -> Front | None:
    """The frontier that `codesign pareto` left in a folder; None where there is none.  Raises ReportError."""
    place = Path(source)
    if not (place / "front.json").is_file():
        return None
    from codesign.study.front import load_front

    try:
        return load_front(place)
    except ValueError as error:
        raise ReportError(str(error)) from None


def _read(path: Path) -> Solution:
    """A solution whose routes lead to its pools.  Raises ValueError where the file holds none."""
    solution = load_solution(path)
    pools = {(pool.period, pool.scenario, pool.pool) for pool in solution.fleet}
    for number, route in enumerate(solution.routing):
        for field in ("prefill_pool", "decode_pool"):
            name = getattr(route, field)
            if (route.period, route.scenario, name) not in pools:
                where = f"{path}: routing.{number}.{field}"
                raise ValueError(f"{where}: found {name!r}; expected a pool of the fleet in that period")
    return solution


def _solutions(place: Path) -> Iterator[tuple[str, Solution]]:
    for path in sorted(place.rglob("*.json")):
        try:
            solution = _read(path)
        except ValueError:
            continue  # anybody's file
        yield path.relative_to(place).with_suffix("").as_posix(), solution


def find_problem(solution: Solution) -> Problem | None:
    """The problem file that the recorded command names, if it is still the very file."""
    try:
        words = shlex.split(solution.provenance.command)
    except ValueError:
        return None
    for word in words:
        path = Path(word)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest == solution.provenance.problem_sha256:
                return load_problem(path)
    return None
