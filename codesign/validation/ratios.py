"""Planned over measured accelerators: a row for each deployment, way of planning and promise; and slices of rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NEAR = (0.7, 1.4)
"""Ratios that summaries count as near."""
PLANNED, IMPOSSIBLE, NONE_FOUND = ("optimal", "feasible"), "infeasible", "no_solution"
"""What the planner says: of rows with a plan, of those proven to have none, and of those where neither is known."""


@dataclass(frozen=True)
class PlannedRow:
    """One measured deployment planned in one way at one promise; counts are per deployment."""

    row_id: str
    role: str
    """How it is planned: colocated, or disaggregated."""
    measured_role: str
    """How it was measured."""
    tpot_factor: float | None
    """Promised over measured TPOT; None where none was measured, hence none is promised."""
    measured_accelerators: int
    planned_accelerators: float | None
    """A sixteenth of those planned for sixteen deployments; None where there is no plan."""
    status: str
    """The planner's: only `infeasible` says that it is impossible."""
    ratio: float | None
    """Planned over measured accelerators."""
    source: str
    accelerator: str
    model: str
    precision: str
    stack: str
    isl: float
    osl: float
    concurrency: float
    """Calls at once on one engine that decodes; infinite where a queue never empties."""
    calls_per_s: float
    """Of one deployment."""
    predicted_time: float | None
    """Predicted over measured time per token at the measured load: the model's own error, before any plan."""
    engine: tuple[int, int, int]
    """TP, PP and attention DP of the measured engine that decodes."""
    planned_engine: tuple[int, int, int] | None
    """Those of the engine that most of the plan's accelerators decode in."""

    @property
    def as_measured(self) -> bool:
        """Whether it is planned in the way that it was measured in."""
        return self.role == self.measured_role

    @property
    def near(self) -> bool:
        """Whether there is a plan whose ratio is within :data:`NEAR`."""
        return self.ratio is not None and NEAR[0] <= self.ratio <= NEAR[1]


@dataclass(frozen=True)
class PlanSlice:
    """A group of rows that are planned in one way at one promise."""

    by: str
    key: str
    role: str
    measured_role: str
    tpot_factor: float | None
    rows: int
    impossible: int
    """Rows for which the planner proves that there is no plan."""
    none_found: int
    """Rows for which it finds none and proves nothing."""
    median: float | None
    """Of the ratios of those that are planned."""
    low: float | None
    high: float | None
    """First and ninth decile of the ratios."""
    near: float
    """Share of all rows whose ratio is within :data:`NEAR`."""


BY: dict[str, Callable[[PlannedRow], str]] = {
    "all": lambda row: "",
    "source": lambda row: row.source,
    "accelerator": lambda row: row.accelerator,
    "model": lambda row: row.model,
    "stack": lambda row: row.stack,
    "calls on an engine": lambda row: _load(row.concurrency),
    "prompt and answer": lambda row: f"{_nominal(row.isl)}/{_nominal(row.osl)}",
    "planned engine": lambda row: _beside(row),
    "predicted time per token": lambda row: _error(row.predicted_time),
}
"""What rows are sliced by, beside role and factor."""


def _beside(row: PlannedRow) -> str:
    if row.planned_engine is None:
        return "no plan"
    if row.planned_engine == row.engine:
        return "as measured"
    same = math.prod(row.planned_engine) == math.prod(row.engine)
    return "as large, another shape" if same else "of another size"


def _error(predicted: float | None) -> str:
    if predicted is None:
        return "does not fit"
    if 0.9 <= predicted <= 1.1:
        return "within 10 %"
    if 0.8 <= predicted <= 1.25:
        return "within 25 %"
    return "further below" if predicted < 1.0 else "further above"


def _load(concurrency: float) -> str:
    if not np.isfinite(concurrency):
        return "as many as fit"
    return next((words for most, words in ((4, "1–4"), (16, "5–16"), (64, "17–64")) if concurrency <= most), "over 64")


def _nominal(tokens: float) -> str:
    """The nearest power of two, as nominal lengths are, of which runs keep nine tenths."""
    return f"{max(2 ** round(float(np.log2(tokens))), 1):,}"


def summary_of(rows: Sequence[PlannedRow]) -> list[PlanSlice]:
    """Rows by each of :data:`BY`, role and promise; rows planned in another way than measured in `all` alone."""
    found = []
    for by, key_of in BY.items():
        groups: dict[tuple[str, str, str, float], list[PlannedRow]] = {}
        for row in rows:
            if row.as_measured or by == "all":
                place = (key_of(row), row.measured_role, row.role, row.tpot_factor or 0.0)
                groups.setdefault(place, []).append(row)
        found += [_slice(by, key, group) for (key, *_), group in sorted(groups.items())]
    return found


def _slice(by: str, key: str, group: Sequence[PlannedRow]) -> PlanSlice:
    ratios = [row.ratio for row in group if row.ratio is not None]
    statuses = Counter(row.status for row in group)
    low, median, high = (float(x) for x in np.quantile(ratios, (0.1, 0.5, 0.9))) if ratios else (None, None, None)
    return PlanSlice(
        by=by,
        key=key,
        role=group[0].role,
        measured_role=group[0].measured_role,
        tpot_factor=group[0].tpot_factor,
        rows=len(group),
        impossible=statuses[IMPOSSIBLE],
        none_found=statuses[NONE_FOUND],
        median=median,
        low=low,
        high=high,
        near=sum(row.near for row in group) / len(group),
    )
