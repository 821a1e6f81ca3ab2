"""From a problem to a checked plan: resolve, enumerate, optimise, account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.grids import Grids
from codesign.explanation.schema import Binding, Conflict, Explanation, NotChosen, Relaxation
from codesign.optimize.fleet import FleetPlan, solve_fleet
from codesign.problem import Issue, Problem, ProblemError, resolve
from codesign.problem.extremes import EXTREMES, at_cost
from codesign.problem.instance import Instance
from codesign.solution.build import build_solution
from codesign.solution.schema import Solution

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

_CONFLICT_SECONDS, _EXPLAIN_SECONDS = 20.0, 60.0
"""For the conflict of a problem without a plan; for what easier SLOs are worth, and what robustness costs."""
_ANY_PLAN = 0.9
"""A gap that the first plan closes, mostly."""


@dataclass(frozen=True)
class PlanProgress:
    """Where a solve stands.  Objective figures are in the problem's objective unit."""

    stage: str
    incumbent: float | None
    bound: float | None
    gap: float | None
    seconds: float


Progress = Callable[[PlanProgress], None]


def solve(
    problem: Problem,
    *,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    refine: bool = False,
    robust: bool = False,
    verify: bool = False,
    workers: int = 1,
    command: str = "",
) -> Solution:
    """Plan the fleet of a procurement problem.

    `gap` (a fraction) and `time_limit_s` override the file's options.  `cancel` ends the search early; the
    solution then holds the best plan with its true gap.  Raises ProblemError for a problem that cannot be
    resolved; infeasibility is a status, not an error.  `refine` plans once more on grids twice as fine and
    reports what that saves as the objective's `grid_error`.  `robust` buys once for all scenarios of the problem and
    routes in each; the nominal problem is planned beside it, for the price of robustness.  `verify` simulates the plan
    (in `workers` processes) and plans again with stricter rows until every SLO holds there too.
    """
    started = time.monotonic()
    clock = _Clock(started, progress)
    if robust and not problem.scenarios:
        expected = "at least one scenario to be ready for, such as [{name: more, set: {tasks.chat.rate: 9/s}}]"
        raise ProblemError([Issue(problem.file, None, "scenarios", "nothing", expected)])
    instance = resolve(problem, robust=robust)
    if verify:
        _refuse_extremes(problem, instance)
    if instance.objective in EXTREMES:
        candidates, plan = plan_extreme(instance, gap, time_limit_s, clock, cancel)
        built = started
    else:
        candidates = build_candidates(instance, lambda what, share: clock.tell(f"{what} {share:.0%}"))
        built = time.monotonic()
        plan = plan_fleet(candidates, gap, time_limit_s, clock, cancel)
    seconds = {"build": built - started, "optimize": time.monotonic() - built}
    solution = build_solution(candidates, plan, str(problem.name), command, seconds)
    if refine and plan.replicas:
        solution = _refined(candidates, plan, solution, (gap, time_limit_s), clock, cancel)
    if robust and plan.replicas and instance.objective not in EXTREMES:
        clock.tell("nominal problem alone")
        nominal = build_candidates(resolve(problem))
        alone = plan_fleet(nominal, gap, time_limit_s, clock, cancel)
        from codesign.robustness import robustness

        found = robustness(candidates, solution, nominal, alone, _EXPLAIN_SECONDS)
        solution = solution.model_copy(update={"robustness": found})
    if verify and plan.replicas:
        solution = _verified(instance, solution, (gap, time_limit_s), clock, cancel, workers)
    if plan.status != "infeasible" or instance.objective in EXTREMES:
        return solution
    from codesign.explanation.conflicts import explain_infeasible

    reason = explain_infeasible(candidates, plan, _CONFLICT_SECONDS, clock.tell)
    return solution.model_copy(update={"conflicts": tuple(c.limit for c in reason.conflicts)})


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
    return _verified(
        instance, solution, (gap, time_limit_s), _Clock(time.monotonic(), progress), cancel, workers
    )


def _refuse_extremes(problem: Problem, instance: Instance) -> None:
    if instance.objective in EXTREMES:
        expected = f"another objective beside --verify than {' or '.join(EXTREMES)}"
        raise ProblemError([Issue(problem.file, None, "objective", instance.objective, expected)])


def _verified(
    instance: Instance,
    first: Solution,
    limits: tuple[float | None, float | None],
    clock: _Clock,
    cancel: threading.Event | None,
    workers: int,
) -> Solution:
    begun, (gap, time_limit_s) = time.monotonic(), limits

    def attempt(changed: Instance) -> Solution:
        again = build_candidates(changed)
        found = plan_fleet(again, gap, time_limit_s, clock, cancel)
        return build_solution(
            again, found, first.provenance.problem, first.provenance.command, dict(first.solve.seconds)
        )

    options = replace(instance.options, gap=instance.options.gap if gap is None else gap)
    from codesign.verification import verified

    solution = verified(replace(instance, options=options), first, attempt, clock.tell, workers)
    seconds = {**solution.solve.seconds, "verify": time.monotonic() - begun}
    return solution.model_copy(update={"solve": solution.solve.model_copy(update={"seconds": seconds})})


def plan_extreme(
    instance: Instance,
    gap: float | None,
    time_limit_s: float | None,
    clock: _Clock | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Candidates, FleetPlan]:
    """Candidates and plan at the extreme of max_rate or slo_scale."""
    clock = clock or _Clock(time.monotonic(), None)
    options = instance.options
    limit = options.time_limit_s if time_limit_s is None else time_limit_s
    if instance.objective == "max_rate" and not build_candidates(instance).data.limits:
        expected = "a limit that demand can grow to: inventory, budget, site power or racks"
        raise ProblemError([Issue("", None, "limits", "nothing", expected)])

    def attempt(changed: Instance, seconds: float) -> tuple[Candidates, FleetPlan]:
        candidates = build_candidates(changed)
        return candidates, plan_fleet(candidates, _ANY_PLAN, seconds, clock, cancel)

    from codesign.extremes import find_extreme

    found = find_extreme(
        instance,
        build_candidates,
        attempt,
        options.gap if gap is None else gap,
        time.monotonic() + limit,
        clock.tell,
    )
    return found.candidates, found.plan


def _refined(
    candidates: Candidates,
    plan: FleetPlan,
    solution: Solution,
    limits: tuple[float | None, float | None],
    clock: _Clock,
    cancel: threading.Event | None,
) -> Solution:
    """The solution with its grid error: the share by which finer grids lower the objective."""
    started = time.monotonic()
    clock.tell("finer grids")
    finer = build_candidates(
        candidates.instance, lambda what, share: clock.tell(f"finer {what} {share:.0%}"), Grids().refined()
    )
    found = plan_fleet(finer, *limits, clock, cancel)
    better = min(found.objective, plan.objective)
    error = (plan.objective - better) / max(abs(plan.objective), 1e-12)
    seconds = {**solution.solve.seconds, "refine": time.monotonic() - started}
    return solution.model_copy(
        update={
            "objective": solution.objective.model_copy(update={"grid_error": error}),
            "solve": solution.solve.model_copy(update={"seconds": seconds}),
        }
    )


def explain(problem: Problem, *, progress: Progress | None = None) -> Explanation:
    """Why there is no plan and what would make one possible; or what binds, and why not the other parts.

    A problem of `max_rate` or `slo_scale` is explained as it is stated: the cheapest plan at its own rates and SLOs.
    """
    started = time.monotonic()
    clock = _Clock(started, progress)
    instance = resolve(problem)
    if instance.objective in EXTREMES:
        instance = at_cost(instance)
    candidates = build_candidates(instance, lambda what, share: clock.tell(f"{what} {share:.0%}"))
    plan = plan_fleet(candidates, None, None, clock)
    seconds = {"optimize": time.monotonic() - started}
    solution = build_solution(candidates, plan, str(problem.name), "explain", seconds)
    from codesign.explanation.conflicts import explain_infeasible
    from codesign.explanation.plan import explain_plan

    if plan.replicas:
        return explain_plan(candidates, plan, solution, _EXPLAIN_SECONDS, clock.tell)
    return replace(explain_infeasible(candidates, plan, _CONFLICT_SECONDS, clock.tell), solution=solution)


def plan_fleet(
    candidates: Candidates,
    gap: float | None,
    time_limit_s: float | None,
    clock: _Clock,
    cancel: threading.Event | None = None,
) -> FleetPlan:
    """Optimise candidates under the instance's options."""
    options = candidates.instance.options
    return solve_fleet(
        candidates.data,
        gap=options.gap if gap is None else gap,
        time_limit=options.time_limit_s if time_limit_s is None else time_limit_s,
        threads=options.threads,
        seed=options.seed,
        progress=clock.search,
        cancel=cancel,
    )


class _Clock:
    """Turns the optimiser's news into PlanProgress."""

    def __init__(self, started: float, progress: Progress | None) -> None:
        self._started, self._progress = started, progress

    def tell(self, stage: str) -> None:
        if self._progress is not None:
            self._progress(PlanProgress(stage, None, None, None, time.monotonic() - self._started))

    def search(self, stage: str, incumbent: float, bound: float) -> None:
        if self._progress is None:
            return
        value = incumbent if abs(incumbent) < float("inf") else None
        low = bound if abs(bound) < float("inf") else None
        gap = (value - low) / abs(value) if value and low is not None else None
        self._progress(PlanProgress(stage, value, low, gap, time.monotonic() - self._started))
