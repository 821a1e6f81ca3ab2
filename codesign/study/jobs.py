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

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData, Ints
from codesign.candidates.objectives import ceiling, figure, minimising, weighted
from codesign.optimize.fleet import FleetPlan, solve_fleet
from codesign.planner import plan_extreme
from codesign.problem.extremes import EXTREMES
from codesign.problem.instance import Instance, ObjectiveName
from codesign.solution.build import build_solution
from codesign.solution.schema import Solution
from codesign.study.store import FORMAT, fingerprint

_POLISH_SECONDS, _POLISH_GAP = 5.0, 1e-3
_SLACK = 1e-9
"""Share by which the first objective may give way while the next ones are lowered: rounding alone."""
_NEARBY_SHARE = 0.25
"""Of a job's time, for combining plans nearby."""
_EXACT = 1e-6
"""Relative tolerance within which an objective is its bound: that of the rows."""
_REMEMBERED = 2
"""Instances whose candidates a worker keeps."""

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Job:
    """What to solve: minimise `objective` with `ceilings` on others, then lower `then` at the same value."""

    instance: Instance
    objective: ObjectiveName
    gap: float
    time_limit_s: float
    ceilings: tuple[tuple[ObjectiveName, float], ...] = ()
    then: tuple[ObjectiveName, ...] = ()
    start: tuple[int, ...] = ()
    """Columns of plans nearby, which are combined before anything else is tried."""
    floor: float = -np.inf
    """A bound that is known already: what is proven under wider ceilings holds under these."""
    command: str = ""
    point: bool = False
    """A point of a frontier: its ceilings stand in the solution."""

    @cached_property
    def problem_key(self) -> str:
        """Names the instance apart from its objective, which candidates do not depend on."""
        files = [_content(path) for path in self.instance.options.profiles]
        return fingerprint([replace(self.instance, objective="cost_per_hour"), files])

    @cached_property
    def key(self) -> str:
        """Names the job by all that decides its result."""
        decides = [FORMAT, version("codesign"), self.problem_key, self.objective, self.gap, self.time_limit_s]
        return fingerprint([*decides, self.ceilings, self.then, self.start, self.floor, self.command, self.point])


@dataclass(frozen=True)
class Finished:
    """A job's solution."""

    key: str
    problem_key: str
    solution: Solution
    columns: tuple[int, ...]
    """Columns in use, by their position among the candidates of `problem_key`."""

    def to_document(self) -> dict[str, Any]:
        """What the store keeps."""
        return {
            "problem_key": self.problem_key,
            "columns": list(self.columns),
            "solution": self.solution.model_dump(mode="json", by_alias=True),
        }

    @staticmethod
    def from_document(document: dict[str, Any]) -> Finished:
        """The same again.  Raises ValueError where the document holds no solution."""
        return Finished(
            document["key"],
            document["problem_key"],
            Solution.model_validate(document["solution"]),
            tuple(document["columns"]),
        )


class Memory:
    """Candidates of the last few instances; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Candidates] = OrderedDict()

    def candidates(self, job: Job, progress: Progress | None = None) -> Candidates:
        """Those of a job's instance, enumerated where they are not remembered."""
        with self._lock:
            found = self._kept.pop(job.problem_key, None)
            if found is None:
                found = build_candidates(
                    job.instance, lambda what, _: progress(what, np.inf, -np.inf) if progress else None
                )
            self._kept[job.problem_key] = found
            while len(self._kept) > _REMEMBERED:
                self._kept.popitem(last=False)
        instance = replace(found.instance, objective=job.objective)
        return replace(found, instance=instance)


def run_job(
    job: Job,
    memory: Memory,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Finished:
    """Solve a job.  Infeasibility and a limit without a plan are results, not errors."""
    started = time.monotonic()
    if job.objective in EXTREMES:
        candidates, plan = plan_extreme(job.instance, job.gap, job.time_limit_s, cancel=cancel)
        seconds = {"optimize": time.monotonic() - started}
        solution = build_solution(candidates, plan, job.instance.name, job.command, seconds)
        return Finished(job.key, job.problem_key, solution, ())
    built = memory.candidates(job, progress)
    candidates = minimising(built, job.objective, dict(job.ceilings))
    optimising = time.monotonic()
    plan = _solved(candidates, job, progress, cancel)
    for number, name in enumerate(job.then):
        if plan.replicas:
            plan = _lowered(built, job, plan, name, job.then[:number])
    seconds = {"build": optimising - started, "optimize": time.monotonic() - optimising}
    solution = build_solution(candidates, plan, job.instance.name, job.command, seconds)
    if job.point:
        objective = solution.objective.model_copy(update={"ceilings": dict(job.ceilings)})
        solution = solution.model_copy(update={"objective": objective})
    return Finished(job.key, job.problem_key, solution, tuple(sorted(plan.replicas)))


def _solved(
    candidates: Candidates, job: Job, progress: Progress | None, cancel: threading.Event | None
) -> FleetPlan:
    """The plan of a job.  Where plans nearby are known their configurations are combined first, and the search over
    all columns ends as soon as its bound proves that good enough."""
    seed = job.instance.options.seed
    deadline = time.monotonic() + job.time_limit_s
    near = _nearby(candidates.data, job)
    good = near.objective - job.gap * abs(near.objective) if near is not None else np.inf
    if near is not None and job.floor >= good:
        proven = replace(near, bound=min(job.floor, near.objective), status="optimal", stopped_by=None)
        return replace(proven, demand_duals=(), commodity_duals=(), limit_duals=())
    enough = threading.Event()
    heard = job.floor

    def hear(stage: str, incumbent: float, bound: float) -> None:
        nonlocal heard
        heard = max(heard, bound)
        if heard >= good or (cancel is not None and cancel.is_set()):
            enough.set()
        if progress is not None:
            progress(stage, incumbent, bound)

    plan = solve_fleet(
        candidates.data,
        gap=job.gap,
        time_limit=max(deadline - time.monotonic(), 0.0),
        threads=1,
        seed=seed,
        progress=hear,
        cancel=enough,
    )
    if near is not None and near.objective < plan.objective:
        plan = replace(
            plan,
            objective=near.objective,
            replicas=near.replicas,
            rates=near.rates,
            servers=near.servers,
            spares=near.spares,
            modules=near.modules,
            columns_considered=max(plan.columns_considered, len(job.start)),
        )
    if not plan.replicas:
        return plan
    plan = replace(plan, bound=min(max(plan.bound, heard), plan.objective))
    if plan.gap <= max(job.gap, _EXACT):
        return replace(plan, status="optimal", stopped_by=None)
    interrupted = cancel is not None and cancel.is_set()
    return replace(plan, status="feasible", stopped_by="interrupt" if interrupted else "clock")


def _nearby(data: FleetData, job: Job) -> FleetPlan | None:
    """The best plan over the columns of plans nearby, if there is one."""
    if not job.start:
        return None
    used = np.zeros(data.columns, dtype=bool)
    used[list(job.start)] = True
    found = solve_fleet(
        data.keep(used),
        gap=job.gap,
        time_limit=job.time_limit_s * _NEARBY_SHARE,
        threads=1,
        seed=job.instance.options.seed,
    )
    return _placed(found, np.flatnonzero(used)) if found.replicas else None


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
    better = replace(
        plan,
        replicas=found.replicas,
        rates=found.rates,
        servers=found.servers,
        spares=found.spares,
        modules=found.modules,
    )
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
