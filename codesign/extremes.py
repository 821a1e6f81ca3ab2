"""Objectives that no price can express: the most demand that the limits allow, and the tightest SLOs.

Both ask how hard a problem may become while a plan exists.  Plans are searched by bisection, each by the fleet
optimiser at one hardness, from the plan before; a plan's own counts mostly carry more than it was found for, which an
LP tells.  The other side is proven, by infeasibility, and for `max_rate` by one relaxation in which the limits
themselves are bought: with all quantities divided by θ, demand is fixed and limits cost 1/θ, so the least 1/θ bounds
every plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.build import Candidates, changed
from codesign.candidates.data import FleetData, Module
from codesign.clock import CLOCK, INTERRUPT, Clock, StoppedError
from codesign.optimize.alone import first_columns
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.relaxation import relax
from codesign.optimize.sensitivity import carries
from codesign.planning import ANY_PLAN, enumerated, plan_fleet
from codesign.problem.extremes import at_extreme
from codesign.problem.instance import Instance
from codesign.staged import among, moved

_WIDEST = 1024.0
"""Factor on SLOs beyond which nobody waits."""
_TRY_SHARE, _AGAIN_SHARE, _NEAR_SHARE = 0.2, 0.45, 0.1
"""Of the time left, for one plan: at first, where there was none in the time of a try before, and right below what is
proven."""
_STRETCHES = 12
"""Halvings of the distance to which a plan's counts are stretched."""
_EASIEST = 1e-6
"""Of the most demand that the relaxation allows: where no plan is found for less either, none is looked for."""


@dataclass(frozen=True)
class Extreme:
    """The hardest problem for which a plan was found, and what is proven beyond it."""

    candidates: Candidates
    plan: FleetPlan
    """Its objective and bound are the objective's own."""


Heard = Callable[[Candidates, FleetPlan], None]
"""Hears of each plan that is harder than those before."""


def find_extreme(instance: Instance, gap: float, clock: Clock, heard: Heard = lambda *_: None) -> Extreme:
    """The largest rate factor, or the smallest SLO factor, for which the limits allow a plan.

    The status is optimal when value and bound are within `gap` of each other, infeasible when it is proven that no
    factor has a plan.  Raises StoppedError where the clock ends before there are columns.
    """
    find = _most_rate if instance.objective == "max_rate" else _least_slo
    return find(instance, gap, clock, heard)


def _most_rate(instance: Instance, gap: float, clock: Clock, heard: Heard) -> Extreme:
    candidates = enumerated(instance, clock)

    def at(hardness: float) -> Candidates:
        return changed(candidates, at_extreme(instance, hardness))

    search = Search(gap, clock, at, lambda hardness: f"{hardness:.4g} times the rates", stretches=True)
    search.heard = lambda: heard(*search.result(lambda hardness: hardness))
    if not np.all(np.isfinite(first_columns(candidates.data)[2])):
        return Extreme(candidates, FleetPlan("infeasible", math.inf, 0.0))
    search.proven = most_rate(candidates.data.bounding, clock.deadline)
    if math.isinf(search.proven):
        return Extreme(candidates, FleetPlan("no_solution", math.inf, math.inf))
    search.from_above(search.proven)
    search.bisect()
    return search.outcome(candidates, lambda hardness: hardness, proven_empty=False)


def _least_slo(instance: Instance, gap: float, clock: Clock, heard: Heard) -> Extreme:
    """Hardness is one over the factor."""

    def factor(hardness: float) -> float:
        return 1.0 / hardness if hardness else math.inf

    def at(hardness: float) -> Candidates:
        return enumerated(at_extreme(instance, 1.0 / hardness), clock)

    candidates = at(1.0 / _WIDEST)
    search = Search(gap, clock, at, lambda hardness: f"{1.0 / hardness:.4g} times the SLOs", stretches=False)
    search.heard = lambda: heard(*search.result(factor))
    search.from_below(1.0 / _WIDEST)
    search.bisect()
    empty = False
    if search.best is None and search.proven <= 1.0 / _WIDEST and not clock.stopped():
        plan = plan_fleet(enumerated(_without_slos(instance), clock), ANY_PLAN, clock)
        empty = plan.status == "infeasible"
    return search.outcome(candidates, factor, empty)


def _without_slos(instance: Instance) -> Instance:
    """The problem whose SLOs any plan meets: what it cannot do no factor can."""
    tasks = tuple(task.unpromised for task in instance.tasks)
    stages = tuple(replace(stage, instance=_without_slos(stage.instance)) for stage in instance.stages)
    return replace(instance, tasks=tasks, stages=stages)


def most_rate(data: FleetData, deadline: float) -> float:
    """An upper bound on the factor by which all demand may grow within the limits, whole numbers aside."""
    share = len(data.modules)
    limits = tuple(
        replace(item, limit=0.0, per_module=item.per_module | {share: -item.limit}) if item.limit else item
        for item in data.limits
    )
    bought = replace(
        data,
        offers=tuple(replace(offer, usd_per_hour=0.0) for offer in data.offers),
        hardware=tuple(replace(row, hours_share=0.0) for row in data.hardware),
        modules=(
            *(replace(m, usd_per_hour=0.0, power_w=0.0) for m in data.modules),
            Module("share of the limits", 1.0, whole=False),
        ),
        limits=limits,
        usd_weight=1.0,
        watt_weight=0.0,
    )
    bound = relax(bought, deadline).bound
    return 1.0 / bound if bound > 1e-12 else math.inf


@dataclass
class Search:
    """Bisection over hardness: `reached` has a plan, `proven` has none beyond it, `missed` had none in its time.

    `settled` had none though time was left: what plans are made of has none there, and bounds may leave it open.
    """

    gap: float
    clock: Clock
    at: Callable[[float], Candidates]
    words: Callable[[float], str]
    stretches: bool
    """Does hardness change demand alone?"""
    reached: float = 0.0
    proven: float = math.inf
    missed: float = math.inf
    settled: float = math.inf
    best: tuple[Candidates, FleetPlan] | None = None
    heard: Callable[[], None] = lambda: None

    def closed(self) -> bool:
        """Are plan and proof within the gap?"""
        return self.best is not None and self.proven - self.reached <= self.gap * self.reached

    def over(self) -> bool:
        """Is there nothing left to do, or no time?"""
        return self.closed() or self._ended() or self.clock.stopped() is not None

    def _ended(self) -> bool:
        """Is there a plan about as hard as what plans are made of can do?"""
        return self.best is not None and self.settled - self.reached <= 0.5 * self.gap * self.reached

    def ask(self, hardness: float, share: float) -> bool:
        """Look for a plan for a share of the time left."""
        self.clock.tell(f"is there a plan at {self.words(hardness)}")
        try:
            candidates = self.at(hardness)
        except StoppedError:
            return False
        start = None
        if self.best is not None:
            of, known = self.best
            start = moved(known.start, of, candidates)
        part = self.clock.part(self.clock.left() * share)
        plan = plan_fleet(candidates, ANY_PLAN, part, start=start)
        if plan.replicas:
            self.reached, self.best = hardness, (candidates, plan)
            self._reached_beyond()
            if self.stretches:
                self._stretch()
            self.heard()
            return True
        if plan.status == "infeasible":
            self.proven = min(self.proven, hardness)
        elif not self.clock.cancel.is_set():
            self.missed = min(self.missed, hardness)
            if part.stopped() is None:
                self.settled = min(self.settled, hardness)
        return False

    def _reached_beyond(self) -> None:
        """What had no plan below what is reached says nothing."""
        self.missed = self.missed if self.missed > self.reached else math.inf
        self.settled = self.settled if self.settled > self.reached else math.inf

    def _stretch(self) -> None:
        """How far the plan's own counts go."""
        assert self.best is not None
        candidates, plan = self.best
        most = min(self.proven, 2.0 * self.reached) / self.reached
        factor = carries(candidates.data, plan.start, most, _STRETCHES)
        if factor <= 1.0:
            return
        there = self.at(self.reached * factor)
        found = among(there, plan.start, self.clock)
        if found is not None:
            self.reached, self.best = self.reached * factor, (there, found)
            self._reached_beyond()

    def from_above(self, most: float) -> None:
        """Step down from a bound, by halves, until a plan is found."""
        hardness = most / 2.0
        while not self.over() and hardness > _EASIEST * most:
            if self.ask(hardness, _TRY_SHARE):
                break
            hardness /= 2.0 if hardness > most / 8.0 else 8.0
        self.near()

    def near(self) -> None:
        """Once right below what is proven: there relaxations are mostly right."""
        target = self.proven * (1.0 - self.gap / 2.0)
        if self.best is not None and not self.over() and target > self.reached:
            self.ask(target, _NEAR_SHARE)

    def from_below(self, least: float) -> None:
        """Step up from the easiest problem until there is no plan."""
        if not self.ask(least, _TRY_SHARE):
            return
        hardness = max(1.0, least)
        while not self.over() and self.ask(hardness, _TRY_SHARE):
            hardness *= 2.0

    def bisect(self) -> None:
        """Halve the distance between the best plan and what has none, until the gap, the clock, or both are near."""
        share = _TRY_SHARE
        while self.best is not None and not self.over():
            high = min(self.proven, self.missed)
            if high - self.reached <= 0.5 * self.gap * self.reached:
                # What had no plan in its time is tried again with more of it.
                share, self.missed = _AGAIN_SHARE, math.inf
                continue
            self.ask(math.sqrt(high * self.reached) if high > 2 * self.reached else 0.5 * (high + self.reached), share)

    def outcome(self, candidates: Candidates, value: Callable[[float], float], proven_empty: bool) -> Extreme:
        """The best plan with its value and bound; `proven_empty`: there is none at any hardness."""
        if self.best is None:
            status = "infeasible" if proven_empty else "no_solution"
            return Extreme(candidates, FleetPlan(status, math.inf, value(self.proven)))
        return Extreme(*self.result(value))

    def result(self, value: Callable[[float], float]) -> tuple[Candidates, FleetPlan]:
        """The best plan so far, which there has to be, with its value and bound."""
        assert self.best is not None
        found, plan = self.best
        closed = self.closed()
        ended = closed or self._ended()
        stopped = INTERRUPT if self.clock.cancel.is_set() else CLOCK
        return (
            found,
            replace(
                plan,
                status="optimal" if closed else "feasible",
                objective=value(self.reached),
                bound=value(self.proven),
                stopped_by=None if ended else stopped,
                demand_duals=(),
                commodity_duals=(),
                limit_duals=(),
            ),
        )


