"""One plan of a study as a pure function of a job: the same result in any process, on any machine, in any order.

A job carries its resolved instance, so that workers need no files.  What a worker remembers between jobs
(candidates of the last instances) saves time and changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codesign.candidates.build import Candidates, build_candidates, resold, unpriced
from codesign.candidates.data import Ints
from codesign.candidates.objectives import blended, ceiling, figure, minimising, weighted
from codesign.clock import Clock, StoppedError
from codesign.optimize.fleet import FleetPlan, FleetSolver, solve_fleet
from codesign.optimize.search import Start
from codesign.planner import plan_extreme
from codesign.problem.extremes import EXTREMES
from codesign.problem.instance import Instance, ObjectiveName
from codesign.solution.build import build_solution, unplanned
from codesign.solution.schema import Solution
from codesign.study.store import FORMAT, fingerprint
from codesign.witnesses import witnessed

_POLISH_SECONDS, _POLISH_GAP = 5.0, 1e-3
_SLACK = 1e-9
"""Share by which the first objective may give way while the next ones are lowered: rounding alone."""
_REMEMBERED = 2
"""Instances whose candidates a worker keeps."""

_COUNTS = ("replicas", "servers", "spares", "modules")

Progress = Callable[[str, float, float], None]


def limits_of(instance: Instance, gap: float | None, time_limit_s: float | None) -> tuple[float, float]:
    """The gap and the time limit of each job of a study: those asked for, else those of the problem file."""
    options = instance.options
    return (
        options.gap if gap is None else gap,
        options.time_limit_s if time_limit_s is None else time_limit_s,
    )


@dataclass(frozen=True)
class Job:
    """What to solve: minimise `objective` with `ceilings` on others, then lower `then` at the same value."""

    instance: Instance
    objective: ObjectiveName
    gap: float
    time_limit_s: float
    ceilings: tuple[tuple[ObjectiveName, float], ...] = ()
    then: tuple[ObjectiveName, ...] = ()
    start: tuple[Start, ...] = ()
    """Plans nearby, which are combined before anything else is tried."""
    floor: float = -np.inf
    """A bound that is known already: what is proven under wider ceilings holds under these."""
    blend: tuple[tuple[ObjectiveName, float], ...] = ()
    """Weights of a sum of objectives that is minimised in place of `objective`, which `floor` bounds."""
    command: str = ""
    point: bool = False
    """A point of a frontier: its ceilings stand in the solution."""

    @cached_property
    def problem_key(self) -> str:
        """Names the instance apart from its objective, which candidates do not depend on."""
        files = [_content(path) for path in self.instance.options.profiles]
        return fingerprint([replace(self.instance, objective="cost_per_hour"), files])

    @cached_property
    def columns_key(self) -> str:
        """Names what the candidates' columns depend on, which prices, stocks and limits are not part of."""
        if self.instance.stages:
            return self.problem_key
        files = [_content(path) for path in self.instance.options.profiles]
        return fingerprint([unpriced(self.instance), files])

    @cached_property
    def key(self) -> str:
        """Names the job by all that decides its result."""
        limits = (self.gap, self.time_limit_s)
        asked = (self.objective, self.ceilings, self.then, self.blend, self.command, self.point)
        versions = version("codesign"), version("highspy")  # another solver is asked anew
        decides = [FORMAT, versions, self.problem_key, limits, asked, self.start, self.floor]
        return fingerprint(decides)


@dataclass(frozen=True)
class Finished:
    """A job's solution."""

    key: str
    problem_key: str
    solution: Solution
    start: Start
    """What the plan buys and runs, by position among the candidates of `problem_key`: where others may start."""
    sum_bound: float | None = None
    """What a weighted sum of objectives is at least, where that was minimised."""

    def to_document(self) -> dict[str, Any]:
        """What the store keeps."""
        return {
            "problem_key": self.problem_key,
            "sum_bound": self.sum_bound,
            "start": {
                "columns": list(self.start.columns),
                **{name: sorted(getattr(self.start, name).items()) for name in _COUNTS},
            },
            "solution": self.solution.model_dump(mode="json", by_alias=True),
        }

    @staticmethod
    def from_document(document: dict[str, Any]) -> Finished:
        """The same again.  Raises ValueError where the document holds no solution."""
        return Finished(
            document["key"],
            document["problem_key"],
            Solution.model_validate(document["solution"]),
            Start(
                tuple(document["start"]["columns"]),
                **{name: {int(i): int(n) for i, n in document["start"][name]} for name in _COUNTS},
            ),
            document["sum_bound"],
        )


class Memory:
    """Candidates of the last few problems, and solvers that know their columns; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, Candidates, FleetSolver]] = OrderedDict()

    def prepared(self, job: Job, progress: Progress | None = None) -> tuple[Candidates, FleetSolver]:
        """Those of a job's instance, enumerated where they are not remembered."""
        with self._lock:
            found = self._kept.pop(job.columns_key, None)
            if found is None:
                candidates = build_candidates(
                    job.instance, lambda what, _: progress(what, np.inf, -np.inf) if progress else None
                )
                solver = FleetSolver(candidates.data, threads=1, seed=job.instance.options.seed)
            else:
                known, candidates, solver = found
                if known != job.problem_key:
                    candidates = resold(candidates, job.instance)
            self._kept[job.columns_key] = (job.problem_key, candidates, solver)
            while len(self._kept) > _REMEMBERED:
                self._kept.popitem(last=False)
        instance = replace(candidates.instance, objective=job.objective)
        return replace(candidates, instance=instance), solver


def run_job(
    job: Job,
    memory: Memory,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Finished:
    """Solve a job.  Infeasibility and a limit without a plan are results, not errors."""
    started = time.monotonic()
    if job.objective in EXTREMES:
        clock = Clock(cancel=cancel or threading.Event(), deadline=started + job.time_limit_s)
        try:
            candidates, plan = plan_extreme(job.instance, job.gap, clock)
        except StoppedError as stopped:
            spent = {"build": time.monotonic() - started}
            solution = unplanned(job.instance, stopped.reason, job.instance.name, job.command, spent)
            return Finished(job.key, job.problem_key, solution, Start(()))
        seconds = {"optimize": time.monotonic() - started}
        solution = build_solution(candidates, plan, job.instance.name, job.command, seconds)
        solution = witnessed(job.instance, candidates, plan, solution, job.gap)
        return Finished(job.key, job.problem_key, solution, Start(()))
    built, solver = memory.prepared(job, progress)
    candidates = minimising(built, job.objective, dict(job.ceilings))
    optimising = time.monotonic()
    data = blended(candidates.data, job.instance, dict(job.blend)) if job.blend else candidates.data
    plan = solver.solve(
        data,
        gap=job.gap,
        time_limit=job.time_limit_s,
        progress=progress,
        cancel=cancel,
        start=job.start,
        floor=-np.inf if job.blend else job.floor,
    )
    sum_bound = plan.bound if job.blend and np.isfinite(plan.bound) else None
    if job.blend and plan.replicas:
        plan = _as_minimised(plan, _value(built, plan, job.objective), job)
    for number, name in enumerate(job.then):
        if plan.replicas:
            plan = _lowered(built, job, plan, name, job.then[:number])
    seconds = {"build": optimising - started, "optimize": time.monotonic() - optimising}
    solution = build_solution(candidates, plan, job.instance.name, job.command, seconds)
    if job.point:
        objective = solution.objective.model_copy(update={"ceilings": dict(job.ceilings)})
        solution = solution.model_copy(update={"objective": objective})
    instance = replace(job.instance, objective=job.objective)
    solution = witnessed(instance, candidates, plan, solution, job.gap)
    return Finished(job.key, job.problem_key, solution, plan.start, sum_bound)


def _as_minimised(plan: FleetPlan, value: float, job: Job) -> FleetPlan:
    """The plan of a weighted sum as one of the job's objective, whose bound was known before."""
    found = replace(
        plan, objective=value, bound=min(job.floor, value), demand_duals=(), commodity_duals=(), limit_duals=()
    )
    closed = found.gap <= job.gap
    return replace(found, status="optimal" if closed else "feasible", stopped_by=None if closed else plan.stopped_by)


def _placed(plan: FleetPlan, columns: Ints) -> FleetPlan:
    """A plan over some columns under their positions among all."""
    return replace(
        plan,
        replicas={int(columns[k]): n for k, n in plan.replicas.items()},
        rates={(int(columns[k]), f): rate for (k, f), rate in plan.rates.items()},
    )


def _lowered(
    candidates: Candidates, job: Job, plan: FleetPlan, name: ObjectiveName, before: tuple[ObjectiveName, ...]
) -> FleetPlan:
    """The plan with a further objective lowered over the configurations that it uses; the first stays."""
    data, instance = candidates.data, candidates.instance
    used = np.zeros(data.columns, dtype=bool)
    used[list(plan.replicas)] = True
    first = {job.objective: plan.objective * (1 + _SLACK)}
    first |= {other: _value(candidates, plan, other) * (1 + _SLACK) for other in before}
    held = {**dict(job.ceilings), **first}
    rows = [ceiling(data, instance, other, most) for other, most in held.items() if other != name]
    found = solve_fleet(
        weighted(data, instance, name).keep(used).with_limits(rows),
        gap=_POLISH_GAP,
        time_limit=_POLISH_SECONDS,
        threads=1,
        seed=instance.options.seed,
    )
    if not found.replicas or found.objective >= _value(candidates, plan, name):
        return plan
    found = _placed(found, np.flatnonzero(used))
    better = plan.holding(found)
    value = _value(candidates, better, job.objective)
    return replace(better, objective=value, bound=min(plan.bound, value))


def _value(candidates: Candidates, plan: FleetPlan, name: ObjectiveName) -> float:
    data = weighted(candidates.data, candidates.instance, name)
    return figure(data, plan.servers, plan.replicas, plan.spares, plan.rates, plan.modules)


def _content(path: str) -> str:
    try:
        return fingerprint(Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
