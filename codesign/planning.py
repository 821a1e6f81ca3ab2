"""An instance planned within a clock: enumerate, find a first plan where there are stages, optimise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates, build_candidates, rejoined, resold
from codesign.clock import CLOCK, Clock
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.search import Start
from codesign.problem.instance import NOMINAL, Instance
from codesign.staged import among, first_plan, solver_of

ANY_PLAN = 0.9
"""A gap at which the first plan will do."""


def enumerated(instance: Instance, clock: Clock) -> Candidates:
    """The candidates of an instance.  Raises StoppedError where the clock ends first: some columns prove nothing."""
    clock.check()
    return build_candidates(instance, clock.built)


def plan_fleet(
    candidates: Candidates,
    gap: float | None,
    clock: Clock,
    known: dict[int, Start] | None = None,
    start: Start | None = None,
    found: Callable[[FleetPlan], None] = lambda _: None,
    floor: float = -np.inf,
) -> FleetPlan:
    """Optimise candidates until the clock's deadline under the instance's options.

    `start` is a plan of a similar problem with these columns.  Without one, of several stages one after another is
    planned first (`known`: plans of some, by their place), so that there is a plan of all to improve on.  The first
    plan is kept whatever becomes of the search, and `found` hears of it.  `floor` is a bound that is
    known already.
    """
    options = candidates.instance.options
    asked = options.gap if gap is None else gap
    first = None
    if start is not None:
        first = among(candidates, start, clock)
    elif candidates.stages:
        first = first_plan(candidates, clock, asked, known or {})
    if first is not None and first.status == "infeasible":
        return first
    if first is not None:
        first = _better(replace(first, bound=max(first.bound, floor)), FleetPlan("no_solution", np.inf, -np.inf), asked)
        floor = first.bound
        found(first)
        if asked >= ANY_PLAN:
            return first
    if clock.stopped() or clock.short(candidates.data.columns):
        nothing = FleetPlan("no_solution", np.inf, -np.inf, stopped_by=clock.stopped() or CLOCK)
        return nothing if first is None else _better(first, nothing, asked)
    solver = solver_of(candidates, clock)
    best = solver.solve(
        gap=asked,
        time_limit=clock.left(),
        progress=clock.search,
        cancel=clock.cancel,
        start=[first.start] if first is not None else [],
        floor=floor,
    )
    return best if first is None else _better(first, best, asked)


def _better(first: FleetPlan, found: FleetPlan, gap: float) -> FleetPlan:
    """The plan that the search has found, or the first one beside what the search has proven."""
    if found.replicas and found.objective <= first.objective:
        return found
    bound = min(max(found.bound if found.status != "infeasible" else -np.inf, first.bound), first.objective)
    bound = max(bound, 0.0) if first.objective >= 0.0 else bound  # nothing that is counted can be negative
    kept = replace(
        found.holding(first),
        objective=first.objective,
        bound=bound,
        pool=tuple(sorted({*first.pool, *found.pool})),
    )
    closed = kept.gap <= gap
    return replace(
        kept, status="optimal" if closed else "feasible", stopped_by=None if closed else found.stopped_by or CLOCK
    )


def nominal_of(candidates: Candidates, instance: Instance) -> Candidates:
    """The candidates of the nominal problem (`instance`) from those of its scenarios: nothing is enumerated again."""
    parts = [part.candidates for part in candidates.stages if part.stage.scenario == NOMINAL]
    return rejoined(instance, parts) if instance.stages else resold(parts[0], instance)
