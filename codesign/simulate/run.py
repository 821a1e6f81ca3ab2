"""`simulate`: a plan under discrete-event simulation, its parts in processes of their own (DESIGN 3.9)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from codesign.check.plan import Plan, read_plan
from codesign.check.report import Findings
from codesign.check.stages import stage_solutions
from codesign.problem import Problem, resolve
from codesign.problem.extremes import EXTREMES, at_extreme
from codesign.problem.instance import Instance
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.assess import assess
from codesign.simulate.components import build, components
from codesign.simulate.fleet import Failure, Outcome
from codesign.simulate.report import SimulationReport
from codesign.solution.schema import Solution

Progress = Callable[[float], None]
"""Hears the share that is done."""

SAMPLES = 240
"""Looks at every pool over the duration."""
_PATIENCE_S = 0.25


class SimulationError(ValueError):
    """The plan cannot be simulated; the message says why."""


@dataclass(frozen=True)
class _Job:
    """One part of a fleet, for a process of its own."""

    instance: Instance
    solution: Solution
    part: int
    duration_s: float
    seed: int
    arrivals: Arrivals
    failures: tuple[Failure, ...]


def simulate(
    problem: Problem,
    solution: Solution,
    *,
    duration_s: float = 600.0,
    seed: int = 0,
    arrivals: Arrivals | None = None,
    failures: Sequence[Failure] = (),
    stage: str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> SimulationReport:
    """Run a plan under random arrivals and say whether its SLOs hold at their percentiles.

    Parameters
    ----------
    duration_s:
        Simulated seconds; the warm-up at their start is found and left out.
    failures:
        Replicas that are lost; the SLOs are then judged over calls that come after the last failure.
    stage:
        Which period (and scenario) of a plan that has some; by default the one with the most tasks per second.
    workers:
        Processes. Parts of the fleet that share no pool run apart; results do not depend on their number. More than one
        needs a main module that can be imported, as :mod:`multiprocessing` says.

    Raises ProblemError for a problem that cannot be resolved, SimulationError for a solution without a fleet, or one
    that does not fit the problem.
    """
    if not duration_s > 0:
        raise SimulationError(f"found a duration of {duration_s} s; expected more than 0")
    plan = plan_of(*staged(problem, solution, stage))
    return simulate_plan(
        plan,
        duration_s=duration_s,
        seed=seed,
        arrivals=arrivals or Arrivals(),
        failures=tuple(failures),
        workers=workers,
        progress=progress,
    )


def server_lost(
    problem: Problem, solution: Solution, pool: str, at_s: float, stage: str | None = None
) -> Failure:
    """The failure of one server of a pool: as many replicas as it holds, one where a replica is larger."""
    plan = plan_of(*staged(problem, solution, stage))
    if pool not in plan.modelled:
        raise SimulationError(f"found no pool {pool!r}; expected one of {', '.join(plan.modelled)}")
    known = plan.modelled[pool]
    return Failure(pool, at_s, max(1, known.option.server_accelerators // known.replica_accelerators))


def staged(problem: Problem, solution: Solution, stage: str | None) -> tuple[Instance, Solution]:
    """The problem and the solution of one stage; both as they are where there are no stages."""
    instance = resolve(problem, robust=bool(solution.scenarios))
    if instance.objective in EXTREMES:
        instance = at_extreme(instance, solution.objective.value or 0.0)
    if not instance.stages:
        if stage is not None:
            raise SimulationError(f"found the stage {stage!r}; expected none: the problem has no periods")
        return instance, solution
    names = [each.name for each in instance.stages]
    if stage is not None and stage not in names:
        raise SimulationError(f"found no stage {stage!r}; expected one of {', '.join(names)}")
    rates = [sum(task.rate_per_s for task in each.instance.tasks) for each in instance.stages]
    chosen = rates.index(max(rates)) if stage is None else names.index(stage)
    return instance.stages[chosen].instance, stage_solutions(instance, solution, Findings())[chosen]


def plan_of(instance: Instance, solution: Solution) -> Plan:
    """The plan of a solution; SimulationError where there is none to simulate."""
    if solution.status in ("infeasible", "no_solution"):
        raise SimulationError(f"found a solution of status {solution.status}; expected one with a fleet")
    findings = Findings()
    plan = read_plan(instance, solution, findings)
    faults = findings.report().violations
    if faults:
        raise SimulationError(
            f"the solution does not fit the problem: {faults[0].what} (`codesign check` lists all {len(faults)})"
        )
    halves = [pool.entry.pool for pool in plan.modelled.values() if pool.split is not None]
    if halves:
        raise SimulationError(
            f"found the split-decode pool {halves[0]}; expected whole replicas: halves are not simulated"
        )
    return plan


def simulate_plan(
    plan: Plan,
    *,
    duration_s: float,
    seed: int,
    arrivals: Arrivals,
    failures: tuple[Failure, ...] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> SimulationReport:
    """Simulate a plan whose names are known."""
    for failure in failures:
        if failure.pool not in plan.modelled:
            raise SimulationError(f"found no pool {failure.pool!r}; expected one of {', '.join(plan.modelled)}")
        if not 0 <= failure.at_s < duration_s:
            raise SimulationError(f"found a failure at {failure.at_s:g} s; expected a time within {duration_s:g} s")
    parts = components(plan)
    jobs = [
        _Job(plan.instance, plan.solution, i, duration_s, seed, arrivals, tuple(failures)) for i in range(len(parts))
    ]
    shares = [part.calls_per_s for part in parts]
    if workers > 1 and len(jobs) > 1:
        outcomes = _apart(jobs, shares, min(workers, len(jobs)), progress)
    else:
        outcomes = _in_turn(plan, jobs, shares, progress)
    return assess(plan, parts, outcomes, duration_s, seed, arrivals, failures)


def _in_turn(plan: Plan, jobs: list[_Job], shares: list[float], progress: Progress | None) -> list[Outcome]:
    total, done, outcomes = sum(shares), 0.0, []
    for job, share in zip(jobs, shares, strict=True):

        def tell(part: float, before: float = done, share: float = share) -> None:
            if progress is not None:
                progress((before + share * part) / total)

        outcomes.append(_outcome(plan, job, tell))
        done += share
    return outcomes


def _apart(jobs: list[_Job], shares: list[float], workers: int, progress: Progress | None) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    board = context.Array("d", len(jobs))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_take_board, initargs=(board,)) as pool:
        order = sorted(range(len(jobs)), key=lambda i: -shares[i])
        futures = {i: pool.submit(_work, jobs[i]) for i in order}
        open_ = set(futures.values())
        while open_:
            done, open_ = wait(open_, timeout=_PATIENCE_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if progress is not None:
                progress(sum(share * part for share, part in zip(shares, board[:], strict=True)) / sum(shares))
        return [futures[i].result() for i in range(len(jobs))]


_board: Any = None
"""In a worker: where it writes how far each job is."""


def _take_board(board: Any) -> None:
    global _board
    _board = board


def _work(job: _Job) -> Outcome:
    def tell(part: float) -> None:
        _board[job.part] = part

    return _outcome(plan_of(job.instance, job.solution), job, tell)


def _outcome(plan: Plan, job: _Job, tell: Progress) -> Outcome:
    part = components(plan)[job.part]
    fleet = build(plan, part, job.duration_s, job.seed, job.arrivals)
    names = {pool.entry.pool for pool in part.pools}
    for failure in job.failures:
        if failure.pool in names:
            fleet.fail(failure)
    return fleet.run(job.duration_s, SAMPLES, tell)
