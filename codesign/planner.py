"""From a problem to a checked plan: resolve, enumerate, optimise, account."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from codesign.candidates.build import Candidates, rejoined
from codesign.candidates.stages import PER_TASK
from codesign.clock import Clock, PlanProgress, Progress, StoppedError
from codesign.explanation.schema import Binding, Conflict, Explanation, NotChosen, Relaxation
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.search import Start
from codesign.planning import enumerated, nominal_of, plan_fleet
from codesign.polish import noted, polished
from codesign.problem import Issue, Problem, ProblemError, resolve
from codesign.problem.extremes import EXTREMES, at_cost, at_extreme
from codesign.problem.instance import NOMINAL, Instance
from codesign.solution.build import build_solution, unplanned
from codesign.solution.schema import Solution
from codesign.solution.stages import split
from codesign.witnesses import witnessed

__all__ = [
    "Binding",
    "Conflict",
    "Explanation",
    "NotChosen",
    "PlanProgress",
    "Relaxation",
    "explain",
    "solve",
    "verify",
]

_CONFLICT_SECONDS = 20.0
"""At most, for the names of what conflicts in a problem without a plan; the least that an explanation has."""
_AGAIN = ((("colocated",), 0.94), (("colocated", "decode"), 0.94), (("colocated", "decode"), 0.9))
"""Where a witness refuses a plan others are made, whose pools of these roles carry such a share of what rows say."""
_MET = 1e-6
"""Share of an objective within which it is its bound."""
_AGAIN_SECONDS = 2.0
"""As long has to be left for one."""
_SETTLE_SECONDS, _SETTLE_SHARE = 2.0, 0.1
"""Of the time limit, kept for the plan's accounts: seconds, and at most this share."""
_POLISH_SECONDS, _POLISH_SHARE = 4.0, 0.07
"""Of the time limit, for fewer replicas under the same calls and their accounts: seconds, and at most this share."""
_POLISHING_SECONDS = 10.0
"""At most, for the counts alone, which mostly take one or two: a busy machine is to find the same plan."""
_NOMINAL_SHARE, _ROBUSTNESS_SHARE = 0.8, 0.1
"""Of what is left of the time limit: for the nominal problem beside `robust`, and for what becomes of a plan that is
not ready."""


def solve(
    problem: Problem,
    *,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    robust: bool = False,
    verify: bool = False,
    workers: int = 1,
    command: str = "",
) -> Solution:
    """Plan the fleet of a procurement problem.

    `gap` (a fraction) and `time_limit_s` override the file's options.  The time limit holds for all of it: resolving,
    enumerating, optimising, what `robust` adds, and which limits conflict where there is no plan; `verify` comes on
    top, each of its plans within the limit again.  `cancel` ends the work early; the solution then holds the best plan
    with its true gap.  Raises ProblemError for a problem that cannot be resolved.

    A status of `infeasible` is a proof over every configuration; `no_solution` says that no plan was found, and that
    none was proven impossible.  `robust` buys once for all scenarios of the problem and routes in each; the nominal
    problem is planned before it, for a first plan and for the price of robustness.  `verify` simulates the plan (in
    `workers` processes) and plans again with stricter rows until every SLO holds there too.
    """
    clock = Clock(progress, cancel or threading.Event())
    if robust and not problem.scenarios:
        expected = "at least one scenario to be ready for, such as [{name: more, set: {tasks.chat.rate: 9/s}}]"
        raise ProblemError([Issue(problem.file, None, "scenarios", "nothing", expected)])
    instance = resolve(problem, robust=robust)
    if verify:
        _refuse_extremes(problem, instance)
    limit = instance.options.time_limit_s if time_limit_s is None else time_limit_s
    clock.deadline = clock.started + limit - min(_SETTLE_SECONDS, _SETTLE_SHARE * limit)
    polish_s = min(_POLISH_SECONDS, _POLISH_SHARE * limit)
    name = str(problem.name)

    def heard(of: Candidates, plan: FleetPlan) -> None:
        """Keeps a first plan, however the search for a better one ends."""
        known = witnessed(instance, of, plan, build_solution(of, plan, name, command, {}), 1.0)
        if known.fleet:
            clock.publish(known)

    try:
        if instance.objective in EXTREMES:
            candidates, plan = plan_extreme(instance, gap, clock, heard)
            built = clock.started
        else:
            candidates = enumerated(instance, clock)
            built = time.monotonic()
            first = clock.part(clock.left() - polish_s)
            if robust:
                nominal, alone, known = _nominal(problem, candidates, gap, first)
                first = first.part(first.left() * (1.0 - _ROBUSTNESS_SHARE))
                plan = alone
                if alone.status != "infeasible":  # then no plan is ready for the scenarios either
                    hear, floor = partial(heard, candidates), _floor(instance, alone)
                    plan = plan_fleet(candidates, gap, first, known, found=hear, floor=floor)
            else:
                plan = plan_fleet(candidates, gap, first, found=partial(heard, candidates))
    except StoppedError as stopped:
        return unplanned(instance, stopped.reason, name, command, {"build": time.monotonic() - clock.started})
    seconds = {"build": built - clock.started, "optimize": time.monotonic() - built}
    asked = instance.options.gap if gap is None else gap
    accounting = time.monotonic()
    solution = build_solution(candidates, plan, name, command, seconds)
    solution = witnessed(instance, candidates, plan, solution, asked)
    accounted = time.monotonic() - accounting
    for roles, share in _AGAIN if instance.objective not in EXTREMES else ():
        if not solution.violations or clock.left() < _AGAIN_SECONDS:
            break
        # Rows and accounts differ by what mixes and kernels do between the loads that rows look at.
        clock.tell("stricter rows")
        own = stricter(candidates, roles, share)
        again = beside(plan_fleet(own, gap, clock, start=plan.start), plan.bound, asked)
        seconds["optimize"] = time.monotonic() - built
        solution = witnessed(instance, own, again, build_solution(own, again, name, command, seconds), asked)
        if not solution.violations:
            candidates, plan = own, again
            break
    clock.publish(solution)
    if solution.violations:
        return solution
    # Where a bound over all operating points is met, no plan of fewer replicas costs less.
    met = bool(candidates.data.outer) and plan.objective - plan.bound <= _MET * abs(plan.objective)
    if instance.objective not in EXTREMES and not met:
        clock.tell("fewer replicas")
        # The accounts of the plan that it makes take as long as those of the plan before.
        left = clock.started + limit - accounted - time.monotonic()
        spent = replace(clock, deadline=time.monotonic() + min(left, _POLISHING_SECONDS))
        _, solution = _polished(instance, candidates, plan, solution, asked, spent)
        clock.publish(solution)
    if robust and plan.replicas and instance.objective not in EXTREMES:
        from codesign.robustness import robustness

        if alone.replicas and (better := polished(nominal, alone, clock.part(_POLISHING_SECONDS))):
            nominal, alone = better.candidates, better.plan
        found = robustness(candidates, solution, nominal, alone, clock)
        solution = solution.model_copy(update={"robustness": found})
        clock.publish(solution)
    if verify and plan.replicas and not clock.cancel.is_set():
        solution = _verified(instance, solution, gap, limit, clock, workers)
    if plan.status != "infeasible" or instance.objective in EXTREMES or clock.cancel.is_set():
        return solution
    from codesign.explanation.conflicts import conflict_names

    names = conflict_names(candidates, plan, min(_CONFLICT_SECONDS, clock.left()), clock.tell)
    return solution.model_copy(update={"conflicts": names})


def _polished(
    instance: Instance, candidates: Candidates, plan: FleetPlan, solution: Solution, gap: float, clock: Clock
) -> tuple[FleetPlan, Solution]:
    """The same calls on fewer replicas, where that costs less and both witnesses accept it; else what there is."""
    begun = time.monotonic()
    found = polished(candidates, plan, clock) if plan.replicas else None
    if found is None:
        return plan, solution
    made, seconds = solution.provenance, {**solution.solve.seconds, "polish": time.monotonic() - begun}
    again = build_solution(found.candidates, found.plan, made.problem, made.command, seconds)
    again = witnessed(instance, found.candidates, found.plan, noted(again, found, solution), gap)
    return (plan, solution) if again.violations else (found.plan, again)


def stricter(candidates: Candidates, roles: tuple[str, ...], share: float) -> Candidates:
    """The candidates with a share of what rows of pools of some roles would carry."""
    if candidates.stages:
        parts = [stricter(part.candidates, roles, share) for part in candidates.stages]
        return rejoined(candidates.instance, parts)
    blocks = tuple(
        replace(block, limit=block.limit * share) if points is not None and points.role in roles else block
        for block, points in zip(candidates.data.blocks, candidates.points, strict=True)
    )
    return replace(candidates, data=replace(candidates.data, blocks=blocks))


def beside(plan: FleetPlan, bound: float, gap: float) -> FleetPlan:
    """A plan of fewer operating points, beside the bound over all of them."""
    if not plan.replicas:
        return replace(plan, status="no_solution", bound=bound)
    closed = plan.objective - bound <= gap * abs(plan.objective)
    return replace(plan, bound=min(bound, plan.objective), status="optimal" if closed else "feasible")


def _floor(instance: Instance, nominal: FleetPlan) -> float:
    """What a plan ready for all scenarios costs at least, by the bound of the nominal problem's."""
    assert instance.risk is not None
    if instance.objective in PER_TASK or not nominal.bound > 0.0:
        return -math.inf
    chance = 1.0
    if instance.risk.measure != "worst-case":  # the mean at least
        chance = next(stage.probability for stage in instance.stages if stage.scenario == NOMINAL)
    return nominal.bound * chance


def _nominal(
    problem: Problem, candidates: Candidates, gap: float | None, clock: Clock
) -> tuple[Candidates, FleetPlan, dict[int, Start]]:
    """The nominal problem of one with scenarios, its plan, and that plan by the place of each stage among all."""
    clock.tell("nominal problem alone")
    nominal = nominal_of(candidates, resolve(problem))
    plan = plan_fleet(nominal, gap, clock.part(clock.left() * _NOMINAL_SHARE))
    if not plan.replicas:
        return nominal, plan, {}
    own = split(nominal.stages, plan) if nominal.stages else [plan]
    places = [i for i, part in enumerate(candidates.stages) if part.stage.scenario == NOMINAL]
    return nominal, plan, {i: item.start for i, item in zip(places, own, strict=True)}


def verify(
    problem: Problem,
    solution: Solution,
    *,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    workers: int = 1,
) -> Solution:
    """Simulate a plan that `solve` has made of a problem, and plan again until its SLOs hold there too.

    Raises ProblemError for a problem that cannot be resolved, SimulationError for a solution without a fleet.
    """
    instance = resolve(problem, robust=bool(solution.scenarios))
    _refuse_extremes(problem, instance)
    limit = instance.options.time_limit_s if time_limit_s is None else time_limit_s
    return _verified(instance, solution, gap, limit, Clock(progress, cancel or threading.Event()), workers)


def _refuse_extremes(problem: Problem, instance: Instance) -> None:
    if instance.objective in EXTREMES:
        expected = f"another objective beside --verify than {' or '.join(EXTREMES)}"
        raise ProblemError([Issue(problem.file, None, "objective", instance.objective, expected)])


def _verified(
    instance: Instance, first: Solution, gap: float | None, limit: float, clock: Clock, workers: int
) -> Solution:
    begun = time.monotonic()

    def attempt(changed: Instance) -> Solution:
        own = replace(clock, deadline=time.monotonic() + limit)
        again = enumerated(changed, own)
        found = plan_fleet(again, gap, own)
        solution = build_solution(
            again, found, first.provenance.problem, first.provenance.command, dict(first.solve.seconds)
        )
        return witnessed(changed, again, found, solution, changed.options.gap)

    options = replace(instance.options, gap=instance.options.gap if gap is None else gap)
    from codesign.verification import verified

    solution = verified(replace(instance, options=options), first, attempt, clock.tell, workers)
    seconds = {**solution.solve.seconds, "verify": time.monotonic() - begun}
    return solution.model_copy(update={"solve": solution.solve.model_copy(update={"seconds": seconds})})


def plan_extreme(
    instance: Instance,
    gap: float | None,
    clock: Clock,
    heard: Callable[[Candidates, FleetPlan], None] = lambda *_: None,
) -> tuple[Candidates, FleetPlan]:
    """Candidates and plan at the extreme of max_rate or slo_scale; `heard` are those found on the way.

    Raises StoppedError as `enumerated` does.
    """
    if instance.objective == "max_rate" and not enumerated(instance, clock).data.limits:
        expected = "a limit that demand can grow to: inventory, budget, site power or racks"
        raise ProblemError([Issue("", None, "limits", "nothing", expected)])
    from codesign.extremes import find_extreme

    found = find_extreme(instance, instance.options.gap if gap is None else gap, clock, heard)
    return found.candidates, found.plan


def explain(
    problem: Problem,
    solution: Solution | None = None,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Explanation:
    """Why there is no plan and what would make one possible; or what binds, and why not the other parts.

    Explained is `solution` where it is given, a plan of this problem, or the status of one without a plan; else the
    problem is solved first, within its time limit.  Explaining takes as long again at most.  Raises
    explanation.held.NotThisPlanError for a solution that is none of this problem.

    A problem of `max_rate` or `slo_scale` is explained as it is stated, by the cheapest plan at its own rates and SLOs;
    a solution of it at the rates or SLOs that it reaches.
    """
    clock = Clock(progress, cancel or threading.Event())
    instance = resolve(problem, robust=solution is not None and bool(solution.scenarios))
    limit = instance.options.time_limit_s
    if instance.objective in EXTREMES:
        value = solution.objective.value if solution is not None else None
        instance = at_cost(instance if value is None else at_extreme(instance, value))
    clock.deadline = clock.started + limit
    notes: tuple[str, ...] = ()
    if solution is not None:
        from codesign.explanation.held import belongs

        notes = belongs(problem, solution)
    candidates = enumerated(instance, replace(clock, deadline=float("inf")))
    if solution is None:
        plan = plan_fleet(candidates, None, clock)
        seconds = {"optimize": time.monotonic() - clock.started}
        solution = build_solution(candidates, plan, str(problem.name), "explain", seconds)
        solution = witnessed(instance, candidates, plan, solution, instance.options.gap)
        spent = replace(clock, deadline=time.monotonic() + _POLISHING_SECONDS)
        plan, solution = _polished(instance, candidates, plan, solution, instance.options.gap, spent)
    else:
        from codesign.explanation.held import held_plan

        plan = held_plan(candidates, solution, clock)
    clock.deadline = time.monotonic() + max(_CONFLICT_SECONDS, limit)
    from codesign.explanation.conflicts import explain_infeasible
    from codesign.explanation.plan import explain_plan

    if plan.replicas:
        found = explain_plan(candidates, plan, solution, clock)
    else:
        found = replace(explain_infeasible(candidates, plan, clock), solution=solution)
    return replace(found, notes=(*notes, *found.notes))
