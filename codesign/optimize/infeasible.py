"""Why there is no plan: a minimal set of shared limits and tasks that conflict, and what would resolve it.

All of it on the relaxation with slack at a price, over every column: the set comes from the slacks' shadow
prices (a Farkas certificate) and a deletion filter over named requirements makes it minimal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import FleetData
from codesign.optimize.model import Penalty
from codesign.optimize.relaxation import Relaxation, relax

_HARD = 1e4
_TOUCHED = 1e-7


@dataclass(frozen=True)
class LimitConflict:
    """A shared limit of the minimal set, and what it would have to be if it alone gave way."""

    limit: str
    unit: str
    allowed: float
    needed: float | None
    """None where no value of this limit alone makes a plan possible."""


@dataclass(frozen=True)
class Infeasibility:
    """What conflicts."""

    unserved: tuple[int, ...]
    """Tasks that no column can serve at all, whatever the limits."""
    tasks: tuple[int, ...]
    """Tasks whose rates take part in the conflict."""
    limits: tuple[LimitConflict, ...]
    """A minimal set: without any one of them there would be a plan under the others of the set."""
    together: tuple[LimitConflict, ...]
    """The least relaxation over all limits (sum of shares): every step is needed beside the others."""
    servable: float
    """Share of the conflicting tasks' rates that the limits allow."""


def diagnose(
    data: FleetData, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> Infeasibility | None:
    """The conflict of an infeasible relaxation; None where the relaxation has a plan."""
    deadline = time.monotonic() + seconds
    feasibility = replace(data, usd_weight=0.0, watt_weight=0.0)
    free = replace(feasibility, limits=())
    alone = _elastic(free, 1.0, (), deadline)
    unserved = tuple(int(c) for c in np.flatnonzero(alone.shortfall > _TOUCHED))
    if unserved:
        return Infeasibility(unserved, unserved, (), (), 0.0)
    # All limits soft at one price: those with excess or a shadow price take part in a certificate.
    soft = _elastic(feasibility, _HARD, (1.0,) * len(data.limits), deadline)
    if not np.any(soft.excess > _TOUCHED):
        return None
    core = [
        i for i, price in enumerate(soft.duals.limit) if price > _TOUCHED or soft.excess[i] > _TOUCHED
    ]
    for i in list(core):
        tell(f"does it take part: {data.limits[i].name}")
        rest = [j for j in core if j != i]
        if rest and not _feasible(feasibility, rest, deadline):
            core = rest
    limits = tuple(_conflict(feasibility, i, deadline, tell) for i in core)
    tasks = tuple(int(c) for c in np.flatnonzero(soft.duals.demand > _TOUCHED))
    together = tuple(
        LimitConflict(limit.name, limit.unit, limit.limit, limit.limit + float(share) * limit.scale)
        for limit, share in zip(data.limits, soft.excess, strict=True)
        if share > _TOUCHED
    )
    short = _elastic(feasibility, 1.0, (_HARD,) * len(data.limits), deadline)
    servable = 1.0 - float(short.shortfall[list(tasks)].max(initial=0.0))
    return Infeasibility((), tasks, limits, together, servable)


def _elastic(data: FleetData, shortfall: float, excess: tuple[float, ...], deadline: float) -> Relaxation:
    return relax(data, deadline, penalty=Penalty(shortfall, excess))


def _feasible(data: FleetData, keep: list[int], deadline: float) -> bool:
    kept = replace(data, limits=tuple(data.limits[i] for i in keep))
    found = _elastic(kept, _HARD, (1.0,) * len(keep), deadline)
    return not np.any(found.excess > _TOUCHED)


def _conflict(data: FleetData, i: int, deadline: float, tell: Callable[[str], None]) -> LimitConflict:
    """How far limit i must move when all others hold."""
    limit = data.limits[i]
    tell(f"how far would it have to move: {limit.name}")
    prices = [_HARD] * len(data.limits)
    prices[i] = 1.0
    found = _elastic(data, _HARD, tuple(prices), deadline)
    others = np.delete(found.excess, i)
    possible = not np.any(others > _TOUCHED) and not np.any(found.shortfall > _TOUCHED)
    needed = limit.limit + float(found.excess[i]) * limit.scale if possible else None
    return LimitConflict(limit.name, limit.unit, limit.limit, needed)
