"""Objectives that no price can express: the most demand that the limits allow, and the tightest SLOs.

Both ask how hard a problem may become while a plan exists.  Plans are searched by bisection, each by the fleet
optimiser at one hardness; the other side is proven, by the relaxation's infeasibility, and for `max_rate` by one
relaxation in which the limits themselves are bought: with all quantities divided by θ, demand is fixed and limits
cost 1/θ, so the least 1/θ bounds every plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from codesign.candidates.build import Candidates
from codesign.candidates.data import FleetData, Module
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.relaxation import relax
from codesign.problem.extremes import at_extreme
from codesign.problem.instance import Instance

_WIDEST = 1024.0
"""Factor on SLOs beyond which nobody waits."""
_TRY_SHARE = 0.25
"""Of the time left, for one plan."""

Attempt = Callable[[Instance, float], tuple[Candidates, FleetPlan]]
"""Plan an instance within some seconds; any plan will do."""


@dataclass(frozen=True)
class Extreme:
    """The hardest problem for which a plan was found, and what is proven beyond it."""

    candidates: Candidates
    plan: FleetPlan
    """Its objective and bound are the objective's own."""


def find_extreme(
    instance: Instance,
    build: Callable[[Instance], Candidates],
    attempt: Attempt,
    gap: float,
    deadline: float,
    tell: Callable[[str], None],
) -> Extreme:
    """The largest rate factor, or the smallest SLO factor, for which the limits allow a plan.

    The status is optimal when value and bound are within `gap` of each other, infeasible when no factor has a plan.
    """
    growing = instance.objective == "max_rate"

    def value_at(hardness: float) -> float:
        return hardness if growing else 1.0 / hardness

    def plan_at(hardness: float) -> tuple[Candidates, FleetPlan]:
        tell(f"is there a plan at {value_at(hardness):.4g} times the {'rates' if growing else 'SLOs'}")
        changed = at_extreme(instance, value_at(hardness))
        left = max(deadline - time.monotonic(), 1.0)
        return attempt(changed, left * _TRY_SHARE)

    search = _Search(gap, deadline, plan_at)
    if growing:
        candidates = build(instance)
        search.proven = most_rate(candidates.data, deadline)
        if math.isinf(search.proven):
            return Extreme(candidates, _outcome("no_solution", math.inf, math.inf))
        search.from_above(search.proven)
    else:
        candidates = build(at_extreme(instance, _WIDEST))
        search.from_below(1.0 / _WIDEST)
    search.bisect()
    bound = value_at(search.proven) if search.proven else math.inf
    if search.best is None:
        infeasible = search.proven <= (0.0 if growing else 1.0 / _WIDEST)
        return Extreme(candidates, _outcome("infeasible" if infeasible else "no_solution", math.inf, bound))
    found, plan = search.best
    status = "optimal" if search.closed() else "feasible"
    return Extreme(
        found,
        replace(
            plan,
            status=status,
            objective=value_at(search.reached),
            bound=bound,
            stopped_by=None if status == "optimal" else "clock",
            demand_duals=(),
            commodity_duals=(),
            limit_duals=(),
        ),
    )


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
class _Search:
    """Bisection over hardness; `reached` has a plan, `proven` has none beyond it, `missed` had none in its time."""

    gap: float
    deadline: float
    plan_at: Callable[[float], tuple[Candidates, FleetPlan]]
    reached: float = 0.0
    proven: float = math.inf
    missed: float = math.inf
    best: tuple[Candidates, FleetPlan] | None = None

    def closed(self) -> bool:
        return self.best is not None and self.proven - self.reached <= self.gap * self.reached

    def over(self) -> bool:
        return self.closed() or time.monotonic() > self.deadline

    def ask(self, hardness: float) -> bool:
        candidates, plan = self.plan_at(hardness)
        if plan.replicas:
            self.reached, self.best = hardness, (candidates, plan)
            return True
        self.missed = min(self.missed, hardness)
        if plan.status == "infeasible":
            self.proven = min(self.proven, hardness)
        return False

    def from_above(self, most: float) -> None:
        """Step down from a bound in growing strides until a plan is found."""
        stride = self.gap / 2
        while not self.over() and stride < 1.0:
            if self.ask(most * (1.0 - stride)):
                return
            stride *= 2.0
        while not self.over() and self.best is None and most > 1e-6:
            most /= 4.0
            self.ask(most)

    def from_below(self, least: float) -> None:
        """Step up from the easiest problem until there is no plan."""
        if not self.ask(least):
            return
        hardness = max(1.0, least)
        while not self.over() and self.ask(hardness):
            hardness *= 2.0

    def bisect(self) -> None:
        while self.best is not None and not self.over():
            high = min(self.proven, self.missed)
            if high - self.reached <= 0.5 * self.gap * self.reached:
                return
            self.ask(math.sqrt(high * self.reached) if high > 2 * self.reached else 0.5 * (high + self.reached))


def _outcome(status: str, objective: float, bound: float) -> FleetPlan:
    return FleetPlan(status, objective, bound)
