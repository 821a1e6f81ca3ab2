"""Why there is no plan: a minimal set of shared limits and tasks that conflict, and what would resolve it.

All of it on the relaxation with slack at a price, over every column: the set comes from the slacks' shadow
prices (a Farkas certificate) and a deletion filter over named requirements makes it minimal.  What only whole
numbers feel is `requirements.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import FleetData
from codesign.optimize.alone import first_columns
from codesign.optimize.model import Penalty
from codesign.optimize.relaxation import Relaxation, relax

_HARD = 1e4
_TOUCHED = 1e-7
_CLOSE = 1e-3
"""Relative gap to which a least excess is found: what the relaxation needs is not yet what whole servers need."""
_SUPPORT = 1e-7


@dataclass(frozen=True)
class LimitConflict:
    """A shared limit of the minimal set, and what it would have to be if it alone gave way."""

    limit: str
    unit: str
    allowed: float
    needed: float | None
    """None where no value of this limit alone makes a plan possible, or none was found in time."""


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
    """Share of the conflicting tasks' rates that the limits allow (at least)."""
    undecided: tuple[str, ...] = ()
    """Limits of the set that the clock left untested: the conflict may do without them."""


def diagnose(
    data: FleetData, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> Infeasibility | None:
    """The conflict of an infeasible relaxation; None where the relaxation has a plan."""
    deadline = time.monotonic() + seconds
    start, _, alone = first_columns(data)
    unserved = tuple(int(c) for c in np.flatnonzero(~np.isfinite(alone)))
    if unserved:
        return Infeasibility(unserved, unserved, (), (), 0.0)
    slack = _Slack(data, start, deadline)
    every = range(len(data.limits))
    # All limits soft at one price: those with excess or a shadow price take part in a certificate.
    tell("which limits conflict")
    soft = slack.least(every, dict.fromkeys(every, 1.0))
    if not np.any(soft.excess > _TOUCHED):
        return None
    core = [i for i in every if soft.duals.limit[i] > _TOUCHED or soft.excess[i] > _TOUCHED]
    undecided = [] if soft.bound > _TOUCHED else [data.limits[i].name for i in core]
    for i in list(core):
        rest = [j for j in core if j != i]
        if not rest:  # every task can be served without limits: the last one cannot be spared
            continue
        tell(f"does it take part: {data.limits[i].name}")
        possible = slack.possible(rest)
        if possible is None:
            undecided.append(data.limits[i].name)
        elif not possible:
            core = rest
    undecided = [name for name in dict.fromkeys(undecided) if name in {data.limits[i].name for i in core}]
    limits = tuple(_conflict(slack, soft, i, tell) for i in core)
    tasks = tuple(int(c) for c in np.flatnonzero(soft.duals.demand > _TOUCHED))
    together = tuple(
        LimitConflict(limit.name, limit.unit, limit.limit, limit.limit + float(share) * limit.scale)
        for limit, share in zip(data.limits, soft.excess, strict=True)
        if share > _TOUCHED
    )
    tell("what share of the tasks the limits allow")
    short = slack.least(every, {}, shortfall=1.0)
    servable = 1.0 - float(short.shortfall[list(tasks)].max(initial=0.0))
    return Infeasibility((), tasks, limits, together, servable, tuple(undecided))


class _Slack:
    """Relaxations of one fleet whose limits may be exceeded at a price; each starts at the columns of those before."""

    def __init__(self, data: FleetData, start: Iterable[int], deadline: float) -> None:
        self.data = replace(data, usd_weight=0.0, watt_weight=0.0)
        self.deadline = deadline
        self._columns = set(start)

    def least(self, limits: Iterable[int], price: dict[int, float], shortfall: float = _HARD) -> Relaxation:
        """The least excess of limits (and shortfall) at these prices, _HARD where none is given."""
        kept = list(limits)
        return self._relax(kept, Penalty(shortfall, tuple(price.get(i, _HARD) for i in kept)), _CLOSE)

    def possible(self, limits: Iterable[int]) -> bool | None:
        """Has the relaxation a plan within these limits?  None where the clock came first.

        Columns at hand that do prove it; a bound above 0 on the excess, over all columns, disproves it.
        """
        kept = list(limits)
        penalty = Penalty(_HARD, (1.0,) * len(kept))
        own = self._with(kept)
        mask = np.zeros(own.columns, dtype=bool)
        mask[sorted(self._columns)] = True
        if _fits(relax(own.keep(mask), self.deadline, penalty=penalty)):
            return True
        seen = [np.inf, -np.inf]

        def note(value: float, bound: float) -> None:
            seen[:] = value, bound

        found = self._relax(kept, penalty, 0.0, note, lambda: seen[1] > _TOUCHED or seen[0] <= _TOUCHED)
        if _fits(found):
            return True
        return False if found.bound > _TOUCHED else None

    def _with(self, limits: list[int]) -> FleetData:
        return replace(self.data, limits=tuple(self.data.limits[i] for i in limits))

    def _relax(
        self,
        limits: list[int],
        penalty: Penalty,
        gap: float,
        note: Callable[[float, float], None] | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Relaxation:
        found = relax(
            self._with(limits),
            self.deadline,
            gap=gap,
            start=sorted(self._columns),
            penalty=penalty,
            progress=note,
            cancelled=enough,
        )
        self._columns.update(k for k in found.columns if found.reduced_cost[k] <= _SUPPORT)
        return found


def _fits(found: Relaxation) -> bool:
    return not (np.any(found.excess > _TOUCHED) or np.any(found.shortfall > _TOUCHED))


def _conflict(slack: _Slack, soft: Relaxation, i: int, tell: Callable[[str], None]) -> LimitConflict:
    """How far limit i must move when all others hold."""
    limit = slack.data.limits[i]
    found = soft
    if np.any(np.delete(soft.excess, i) > _TOUCHED):  # else the least over all limits moves this one alone
        tell(f"how far would it have to move: {limit.name}")
        found = slack.least(range(len(slack.data.limits)), {i: 1.0})
    others = np.delete(found.excess, i)
    possible = not np.any(others > _TOUCHED) and not np.any(found.shortfall > _TOUCHED)
    needed = limit.limit + float(found.excess[i]) * limit.scale if possible else None
    return LimitConflict(limit.name, limit.unit, limit.limit, needed)
