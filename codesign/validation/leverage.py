"""Which constants move a plan: each at both ends of its own range, everything else as it is, and the plan made again.

Those that move the objective by more than 2 % are the ones to measure next. A range is what stands beside the constant
in ``performance/data`` (``NAME_range``: what was seen, or what is assumed); kernel times of a generation move together,
by one standard deviation of the errors of predictions on parts with kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from codesign.performance.confidence import KNOWN, NORMAL_80, half_width
from codesign.performance.constants import constants, generation
from codesign.performance.facts import facts, replaced
from codesign.planner import solve
from codesign.problem import Problem, resolve
from codesign.solution.schema import Solution

WORTH = 0.02
"""Share of the objective by which a constant has to move it."""

_FASTER = ("e", "e1", "e_out", "b", "f")
_SLOWER = ("t0_us", "lat_us", "cross_us")


@dataclass(frozen=True)
class Constant:
    """A constant with its range, and the data files in which it has another value."""

    name: str
    low: float
    high: float
    changed: Callable[[float], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Lever:
    """What a plan is at the ends of a constant's range; an objective is None where no plan was found."""

    constant: str
    low: float
    high: float
    objective_low: float | None
    objective_high: float | None
    purchase_changes: bool
    """Whether other accelerators are bought at one of the ends, or another number of them by more than 2 %."""


@dataclass(frozen=True)
class Leverage:
    """Constants that move a plan, by how much they move it."""

    objective: float | None
    looked_at: int
    """Constants that were moved."""
    rows: tuple[Lever, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {"objective": self.objective, "looked_at": self.looked_at, "rows": [asdict(row) for row in self.rows]}


def leverage(problem: Problem, time_limit_s: float | None = None) -> Leverage:
    """Solve a problem again with each constant at both ends of its range; `time_limit_s` is that of one plan.

    Raises ProblemError for a problem that cannot be resolved.
    """
    base = solve(problem, time_limit_s=time_limit_s)
    found, looked_at = [], 0
    for constant in constants_of(problem):
        looked_at += 1
        ends = []
        for value in (constant.low, constant.high):
            with replaced(**constant.changed(value)):
                ends.append(solve(problem, time_limit_s=time_limit_s))
        low, high = (end.objective.value for end in ends)
        lever = Lever(constant.name, constant.low, constant.high, low, high, any(_differs(base, end) for end in ends))
        if _moved(lever, base.objective.value) > WORTH:
            found.append(lever)
    order = sorted(found, key=lambda lever: -_moved(lever, base.objective.value))
    return Leverage(base.objective.value, looked_at, tuple(order))


def constants_of(problem: Problem) -> Iterator[Constant]:
    """The constants with a range that a problem's hardware depends on."""
    parts = [option.accelerator for option in resolve(problem).hardware]
    generations = {generation(part) for part in parts}
    systems = sorted({constants().system(part)[0] for part in parts})
    deviation = half_width("time", KNOWN) / NORMAL_80
    for system in systems:
        fastest, slowest = math.exp(-deviation), math.exp(deviation)
        yield Constant(f"kernels.{system}", fastest, slowest, partial(_kernels, system))
    document = facts("constants")
    for section in ("engine", "power"):
        yield from _ranged("constants", (section,), document[section])
    for name, entry in document["engine"]["generation"].items():
        if name in generations:
            yield from _ranged("constants", ("engine", "generation", name), entry)
    last = len(facts("engines")["first_token"]) - 1
    yield from _ranged("engines", ("first_token", last), facts("engines")["first_token"][last])


def _ranged(file: str, path: tuple[str | int, ...], entry: Mapping[str, Any]) -> Iterator[Constant]:
    """The numbers of an entry beside which a range stands."""
    for name, value in entry.items():
        stem, _, unit = name.rpartition("_")
        beside = [f"{name}_range", f"{stem}_range_{unit}", f"range_{name}"]
        span = next((entry[key] for key in beside if key in entry), None)
        if isinstance(value, int | float) and span is not None:
            label = ".".join(map(str, (*path, name)))
            yield Constant(label, float(span[0]), float(span[1]), partial(_changed, file, (*path, name)))


def _changed(file: str, path: tuple[str | int, ...], value: float) -> Mapping[str, Mapping[str, Any]]:
    return {file: _put(facts(file), path, value)}


def _put(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a document with another value at a path."""
    if not path:
        return value
    copy: Any = list(document) if isinstance(document, list) else dict(document)
    copy[path[0]] = _put(document[path[0]], path[1:], value)
    return copy


def _kernels(system: str, factor: float) -> Mapping[str, Mapping[str, Any]]:
    """All kernels of a generation so many times as long."""

    def changed(row: Mapping[str, Any]) -> dict[str, Any]:
        faster = {name: row[name] / factor for name in _FASTER if name in row}
        return {**row, **faster, **{name: row[name] * factor for name in _SLOWER if name in row}}

    document = facts("constants")
    rows = {
        operator: [changed(row) if row["system"] == system else row for row in entries]
        for operator, entries in document.items()
        if isinstance(entries, list)
    }
    return {"constants": {**document, **rows}}


def _moved(lever: Lever, base: float | None) -> float:
    """Share of the objective by which a constant moves it at most; without end where a plan comes or goes."""
    ends = [lever.objective_low, lever.objective_high]
    if base is None or None in ends:
        return 0.0 if base is None and ends == [None, None] else math.inf
    return max(abs(float(end or 0.0) - base) for end in ends) / max(abs(base), 1e-300)


def _differs(one: Solution, other: Solution) -> bool:
    mine, others = _accelerators(one), _accelerators(other)
    return set(mine) != set(others) or any(abs(others[part] - n) > WORTH * n for part, n in mine.items())


def _accelerators(solution: Solution) -> dict[str, float]:
    """Accelerators bought, by item."""
    counted: dict[str, float] = {}
    for bought in solution.purchase:
        counted[bought.item] = counted.get(bought.item, 0.0) + float(bought.count)
    return {item: count for item, count in counted.items() if count > 0}
