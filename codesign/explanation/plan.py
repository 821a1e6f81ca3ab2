"""What binds in a plan, and what one more unit of it is worth."""

from __future__ import annotations

from codesign.candidates.build import Candidates
from codesign.clock import Clock
from codesign.explanation.parts import parts_not_chosen
from codesign.explanation.prices import shadow_prices
from codesign.explanation.schema import Binding, Explanation
from codesign.explanation.slos import slo_prices
from codesign.optimize.fleet import FleetPlan
from codesign.solution.schema import Solution

_SLO_SHARE = 0.7
"""Of the time left, for what easier SLOs are worth."""


def explain_plan(
    candidates: Candidates,
    plan: FleetPlan,
    solution: Solution,
    clock: Clock,
) -> Explanation:
    """What binds in a plan, what one more unit is worth, and why the other parts were not bought.

    Prices that the clock leaves no time for are named in the notes, or not confirmed by solving again.
    """
    prices, late = shadow_prices(candidates, plan, solution, clock)
    easier, notes = slo_prices(candidates, clock.left() * _SLO_SHARE, clock.tell)
    notes = [*late, *notes]
    clock.tell("why the other parts were not bought")
    binding = [
        Binding(
            pool.pool, f"{pool.binding}, {_share(pool.utilization.model_dump(), pool.binding):.0%} in use"
        )
        for pool in solution.fleet
    ]
    binding += [
        Binding(
            price.limit, f"full: one more {price.unit} saves {price.value:.4g} {solution.objective.unit}"
        )
        for price in solution.shadow_prices
        if price.value > 0
    ]
    return Explanation(
        feasible=True,
        binding=tuple(binding),
        shadow_prices=(*prices, *easier),
        not_chosen=tuple(parts_not_chosen(candidates, plan, clock.deadline)),
        solution=solution,
        notes=tuple(notes),
    )


def _share(utilization: dict[str, float | None], name: str) -> float:
    value = utilization.get(name)
    return max(v or 0.0 for v in utilization.values()) if value is None else value
