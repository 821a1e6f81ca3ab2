"""`simulate`: a plan under discrete-event simulation, its parts in processes of their own (DESIGN 3.9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from codesign.check.plan import ModelledPool, Plan, read_plan
from codesign.check.report import Findings
from codesign.check.stages import stage_solutions
from codesign.problem import Problem, resolve
from codesign.problem.extremes import EXTREMES, at_extreme
from codesign.problem.instance import Instance
from codesign.processes import Processes
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
        Which period (and scenario) of a plan that has some; by default all, each for the whole duration.
    workers:
        Processes. Parts of the fleet that share no pool run apart; results do not depend on their number. More than one
        needs a main module that can be imported, as :mod:`multiprocessing` says.

    Raises ProblemError for a problem that cannot be resolved, SimulationError for a solution without a fleet, or one
    that does not fit the problem.
    """
    if not duration_s > 0:
        raise SimulationError(f"found a duration of {duration_s} s; expected more than 0")
    plans = _plans(problem, solution, stage)
    for failure in failures:
        _modelled(plans, failure.pool)
        if not 0 <= failure.at_s < duration_s:
            raise SimulationError(f"found a failure at {failure.at_s:g} s; expected a time within {duration_s:g} s")
    reports = {}
    for number, (name, plan) in enumerate(plans.items()):

        def tell(share: float, before: int = number) -> None:
            if progress is not None:
                progress((before + share) / len(plans))

        reports[name] = simulate_plan(
            plan,
            duration_s=duration_s,
            seed=seed,
            arrivals=arrivals or Arrivals(),
            failures=tuple(failure for failure in failures if failure.pool in plan.modelled),
            workers=workers,
            progress=tell,
        )
    return _joined(reports)


def server_lost(
    problem: Problem, solution: Solution, pool: str, at_s: float, stage: str | None = None
) -> Failure:
    """The failure of one server of a pool: as many replicas as it holds, one where a replica is larger."""
    known = _modelled(_plans(problem, solution, stage), pool)
    lost = [option.server_accelerators // count for option, count in known.places]
    return Failure(pool, at_s, max(1, *lost))


def staged(instance: Instance, solution: Solution) -> dict[str, tuple[Instance, Solution]]:
    """Instance and solution of each stage by its name; both as they are, under an empty name, where there are none."""
    if not instance.stages:
        return {"": (instance, solution)}
    own = stage_solutions(instance, solution, Findings())
    return {stage.name: (stage.instance, found) for stage, found in zip(instance.stages, own, strict=True)}


def _plans(problem: Problem, solution: Solution, stage: str | None) -> dict[str, Plan]:
    """The plan of each stage, or of the one that is asked for."""
    instance = resolve(problem, robust=bool(solution.scenarios))
    if instance.objective in EXTREMES:
        instance = at_extreme(instance, solution.objective.value or 0.0)
    if stage is not None and not instance.stages:
        raise SimulationError(f"found the stage {stage!r}; expected none: the problem has no periods")
    if stage is not None and stage not in (names := [each.name for each in instance.stages]):
        raise SimulationError(f"found no stage {stage!r}; expected one of {', '.join(names)}")
    parts = staged(instance, solution)
    return {name: plan_of(*part) for name, part in parts.items() if stage in (None, name)}


def _modelled(plans: Mapping[str, Plan], pool: str) -> ModelledPool:
    """A pool of the performance model in any stage."""
    every = {name: found for plan in plans.values() for name, found in plan.modelled.items()}
    if pool not in every:
        raise SimulationError(f"found no pool {pool!r}; expected one of {', '.join(every)}")
    return every[pool]


def _joined(reports: Mapping[str, SimulationReport]) -> SimulationReport:
    """One report of all stages, each task and pool with the name of its own."""
    first, *others = reports.values()
    if not others and "" in reports:
        return first

    def named(word: str) -> tuple[BaseModel, ...]:
        return tuple(
            part.model_copy(update={"stage": name})
            for name, report in reports.items()
            for part in getattr(report, word)
        )

    every = list(reports.values())
    return first.model_copy(
        update={
            "ok": all(report.ok for report in every),
            "warm_up_s": max(report.warm_up_s for report in every),
            "calls": sum(report.calls for report in every),
            "tasks": named("tasks"),
            "pools": named("pools"),
            "failure": "; ".join(report.failure for report in every if report.failure) or None,
            "notes": tuple(
                dict.fromkeys(f"{name}: {note}" for name, report in reports.items() for note in report.notes)
            ),
        }
    )


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
    parts = components(plan)
    jobs = [
        _Job(plan.instance, plan.solution, i, duration_s, seed, arrivals, tuple(failures)) for i in range(len(parts))
    ]
    shares = [part.calls_per_s for part in parts]
    if workers > 1 and len(jobs) > 1:
        outcomes = _apart(jobs, shares, min(workers, len(jobs)), progress)
    else:
        outcomes = _in_turn(plan, jobs, shares, progress)
    return assess(plan, parts, outcomes, duration_s, seed, arrivals, failures, SAMPLES)


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
    done = dict.fromkeys(range(len(jobs)), 0.0)

    def hear(job: int, part: float) -> None:
        done[job] = part
        if progress is not None:
            progress(sum(share * done[i] for i, share in enumerate(shares)) / sum(shares))

    largest_first = sorted(range(len(jobs)), key=lambda i: -shares[i])
    with Processes(workers, _work) as processes:
        outcomes = dict(processes.run({i: jobs[i] for i in largest_first}, hear=hear))
    return [outcomes[i] for i in range(len(jobs))]


def _work(job: _Job, tell: Progress) -> Outcome:
    return _outcome(plan_of(job.instance, job.solution), job, tell)


def _outcome(plan: Plan, job: _Job, tell: Progress) -> Outcome:
    part = components(plan)[job.part]
    fleet = build(plan, part, job.duration_s, job.seed, job.arrivals)
    names = {pool.entry.pool for pool in part.pools}
    for failure in job.failures:
        if failure.pool in names:
            fleet.fail(failure)
    return fleet.run(job.duration_s, SAMPLES, tell)
