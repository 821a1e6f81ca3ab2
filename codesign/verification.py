"""Plan, simulate, tighten, plan again, until promises hold under simulation or it is known why not (DESIGN 3.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from codesign.problem.instance import Instance, Tightening
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.report import SimulationReport
from codesign.simulate.run import plan_of, simulate_plan, staged
from codesign.solution.schema import BrokenPromise, Solution, Verification, VerifyRound

ROUNDS = 8
"""Plans that are simulated at most."""
SEEDS = 3
DURATION_S = 300.0
_ALIKE = 3
"""From this round on, what one part broke is asked of all parts in its role: else each takes its turn to fail."""
_LEAST_UTILIZATION = 0.3
_MOST_Z = 8.0

Attempt = Callable[[Instance], Solution]
"""Plans an instance."""
Tell = Callable[[str], None]


def verified(instance: Instance, first: Solution, attempt: Attempt, tell: Tell, workers: int = 1) -> Solution:
    """The first plan, or a later one of tightened rows, whose promises hold; with what was seen on the way.

    Its bound is the first plan's: it holds for every plan that keeps the rows, and tightened ones do.
    """
    seeds = tuple(range(instance.options.seed, instance.options.seed + SEEDS))
    rounds: list[VerifyRound] = []
    solution, tightening, stopped = first, instance.options.tightening, None
    while True:
        number = len(rounds) + 1
        broken = _broken(instance, solution, seeds, tell, workers, number)
        wanted = _tightened(tightening, broken, solution, number)
        words = tuple(_words(new) for new in wanted if new not in tightening)
        rounds.append(_round(solution, broken, words if broken else ()))
        if not broken:
            break
        if number == ROUNDS:
            stopped = f"{ROUNDS} plans were simulated"
        elif any(t.utilization < _LEAST_UTILIZATION or t.z > _MOST_Z for t in wanted):
            stopped = "no tightening of " + ", ".join(sorted({b.pool for b in broken})) + " helps"
        if stopped is not None:
            break
        tightening = wanted
        tell(f"round {number + 1}: planning")
        following = attempt(_with(instance, tightening))
        if not following.fleet:
            stopped = f"under the tightened rows the problem is {following.status.replace('_', ' ')}"
            break
        solution = _bounded(following, first, instance.options.gap)
    values = [found.objective for found in rounds if found.objective is not None]
    return solution.model_copy(
        update={
            "verification": Verification(
                ok=stopped is None,
                seeds=seeds,
                duration_s=DURATION_S,
                price=values[-1] / values[0] - 1.0 if values and values[0] else None,
                rounds=tuple(rounds),
                stopped=stopped,
            )
        }
    )


def _broken(
    instance: Instance, solution: Solution, seeds: tuple[int, ...], tell: Tell, workers: int, number: int
) -> tuple[BrokenPromise, ...]:
    """Promises that are exceeded in some seed, be it by less than one run can tell."""
    found: list[BrokenPromise] = []
    for name, (part, plan) in staged(instance, solution).items():
        worst: dict[tuple[str, str, float], BrokenPromise] = {}
        for seed in seeds:

            def heard(share: float, seed: int = seed, name: str = name) -> None:
                tell(" ".join(filter(None, (f"round {number}: simulating", name, f"seed {seed} {share:.0%}"))))

            report = simulate_plan(
                plan_of(part, plan),
                duration_s=DURATION_S,
                seed=seed,
                arrivals=Arrivals(),
                workers=workers,
                progress=heard,
            )
            for promise in _failing(name, report):
                key = (promise.task, promise.metric, promise.percentile)
                if key not in worst or _excess(promise) > _excess(worst[key]):
                    worst[key] = promise
        found += worst.values()
    return tuple(found)


def _failing(stage: str, report: SimulationReport) -> list[BrokenPromise]:
    return [
        BrokenPromise(
            stage=stage,
            task=task.name,
            metric=slo.metric,
            percentile=slo.percentile,
            target=slo.target,
            simulated=slo.simulated,
            pool=slo.suspect.pool,
            resource=slo.suspect.resource,
            reason=slo.suspect.reason,
        )
        for task in report.tasks
        for slo in task.slo
        if slo.simulated is None or slo.simulated > slo.target
    ]


def _excess(promise: BrokenPromise) -> float:
    return float("inf") if promise.simulated is None else promise.simulated / promise.target


def _tightened(
    known: tuple[Tightening, ...], broken: tuple[BrokenPromise, ...], solution: Solution, number: int
) -> tuple[Tightening, ...]:
    """Stricter rows for each pool that broke a promise, by how much it was broken."""
    pools = {pool.pool: pool for pool in solution.fleet}
    worst: dict[tuple[str, str], float] = {}
    for promise in broken:
        key = (promise.pool, promise.resource)
        worst[key] = max(worst.get(key, 1.0), min(_excess(promise), 2.0))
    found = {(t.role, t.model, t.hardware): t for t in known}
    for (name, resource), excess in worst.items():
        pool = pools[name]
        assert pool.model is not None  # measured pools promise nothing here
        place = (pool.role, pool.model, pool.hardware if number < _ALIKE else None)
        now = found.get(place) or Tightening(*place)
        if resource == "link":
            now = replace(now, link=now.link / max(excess, 1.1))
        elif pool.role == "prefill" and resource == "compute":
            now = replace(now, utilization=now.utilization * (1 - 0.1 * excess**0.5), wait=now.wait / max(excess, 1.1))
        elif pool.role == "colocated" and resource in ("compute", "bandwidth"):
            now = replace(now, z=now.z * 1.25, utilization=now.utilization * (1 - 0.1 * excess**0.5))
        else:
            now = replace(now, z=now.z * max(1.25, excess))
        found[place] = now
    return tuple(found.values())


def _words(found: Tightening) -> str:
    where = f"{found.hardware or 'all'} {found.model} {found.role}"
    names = ("z", "utilization", "wait", "link")
    factors = [f"{name} × {getattr(found, name):.3g}" for name in names if getattr(found, name) != 1.0]
    return f"{where}: {', '.join(factors)}"


def _with(instance: Instance, tightening: tuple[Tightening, ...]) -> Instance:
    """The instance, and each of its stages, under tightenings."""
    stages = tuple(replace(stage, instance=_with(stage.instance, tightening)) for stage in instance.stages)
    return replace(instance, options=replace(instance.options, tightening=tightening), stages=stages)


def _bounded(solution: Solution, first: Solution, asked_gap: float) -> Solution:
    """A later plan beside the first one's bound."""
    value, bound = solution.objective.value, first.objective.bound
    if value is None:
        return solution
    if bound is None:  # withdrawn; that of stricter rows is none
        objective = solution.objective.model_copy(update={"bound": None, "gap": None})
        return solution.model_copy(update={"objective": objective, "status": "feasible"})
    gap = (value - bound) / abs(value) if value else 0.0
    status = "optimal" if gap <= asked_gap else "feasible"
    objective = solution.objective.model_copy(update={"bound": bound, "gap": gap})
    return solution.model_copy(update={"objective": objective, "status": status})


def _round(solution: Solution, broken: tuple[BrokenPromise, ...], tightened: tuple[str, ...]) -> VerifyRound:
    objective = solution.objective
    return VerifyRound(objective=objective.value, bound=objective.bound, broken=broken, tightened=tightened)
