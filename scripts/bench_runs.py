"""Runs of the solver benchmark: this solver, the whole model as one MILP, and Mélange's sliced ILP.

Each run notes the time of every improvement, where the time went (by sampling the stack, so that the solver
is not touched) and the memory that its process came to.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from bench_fleets import Pools, synthetic_fleet

from codesign.candidates.build import build_candidates
from codesign.candidates.data import FleetData
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel
from codesign.problem import Problem, resolve

Point = tuple[float, float, float]
"""(seconds since the start, incumbent or inf, bound or -inf)."""

_SAMPLE_SECONDS = 0.01
_ALGEBRA = ("model", "highs", "pricing", "data", "strengthen")
"""Modules of codesign.optimize that work for a stage of the search, and are not one."""


@dataclass
class Run:
    """What one run came to.  Objectives are in the problem's unit, times in seconds."""

    status: str
    seconds: float
    objective: float = math.inf
    bound: float = -math.inf
    load_seconds: float = 0.0
    """Until the search could start: candidates built, or the model handed to the MILP solver."""
    trace: list[Point] = field(default_factory=list)
    where: dict[str, float] = field(default_factory=dict)
    """Seconds by stage and module."""
    columns: int = 0
    nodes: int = 0
    peak_gb: float = 0.0

    @property
    def gap(self) -> float:
        """(value − bound)/|value|, inf without a plan."""
        return _gap(self.objective, self.bound)

    def seconds_to_gap(self, gap: float) -> float:
        """When the gap was first at most this; inf if never."""
        reached = (t for t, value, bound in self.trace if _gap(value, bound) <= gap * (1 + 1e-9) + 1e-12)
        return next(reached, math.inf)

    def seconds_to_value(self, value: float) -> float:
        """When a plan first cost at most this; inf if never, and where there is no value."""
        if not math.isfinite(value):
            return math.inf
        return next((t for t, found, _ in self.trace if found <= value + 1e-9 * abs(value)), math.inf)

    def json(self) -> dict[str, Any]:
        """Plain data, without the trace; null where there is no figure."""
        plain = {
            "status": self.status,
            "seconds": self.seconds,
            "load_seconds": self.load_seconds,
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "columns": self.columns,
            "nodes": self.nodes,
            "peak_gb": self.peak_gb,
            "where": self.where,
        }
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


def _gap(value: float, bound: float) -> float:
    if not (math.isfinite(value) and math.isfinite(bound)):
        return math.inf
    return max(0.0, (value - bound) / max(abs(value), 1e-12))


class Trace:
    """Improvements as they are told."""

    def __init__(self, start: float) -> None:
        self.points: list[Point] = []
        self._start = start

    def tell(self, incumbent: float, bound: float) -> None:
        """Note a pair if it is news."""
        _, value, low = self.points[-1] if self.points else (0.0, math.inf, -math.inf)
        if incumbent < value or bound > low:
            self.points.append((time.monotonic() - self._start, min(incumbent, value), max(bound, low)))


class Sampler:
    """Where a thread spends its time, by stage of the search and module, from its stack every 10 ms."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._stop = threading.Event()
        self._counts: Counter[str] = Counter()
        self._worker = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._start = time.monotonic()
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._worker.join()
        self._seconds = time.monotonic() - self._start

    def seconds(self) -> dict[str, float]:
        """By "stage: module", the largest first."""
        total = sum(self._counts.values())
        return {k: round(self._seconds * n / total, 3) for k, n in self._counts.most_common()}

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            frame = sys._current_frames().get(self._thread)
            modules = []
            while frame is not None:
                modules.append(frame.f_globals.get("__name__", ""))
                frame = frame.f_back
            self._counts[_place(modules)] += 1


def _place(modules: list[str]) -> str:
    """Name of a stack (innermost first): its stage in codesign.optimize, and who works for that stage."""
    ours = [name for name in modules if name.startswith("codesign.")]
    if not ours:
        return "benchmark"
    search = [n.removeprefix("codesign.optimize.") for n in ours if n.startswith("codesign.optimize.")]
    if not search:
        return ours[0].split(".")[1]
    stage = next((name for name in search if name not in _ALGEBRA), "whole")
    return f"{stage}: {search[0]}"


# ---- this solver -------------------------------------------------------------------------------------------


def run_search(data: FleetData | Problem, gap: float, seconds: float, threads: int = 2, seed: int = 0) -> Run:
    """This solver on a fleet, or on a problem with the time of building its columns."""
    start = time.monotonic()
    with Sampler() as sampler:
        fleet = data if isinstance(data, FleetData) else build_candidates(resolve(data)).data
        loaded = time.monotonic() - start
        trace = Trace(start)
        plan = solve_fleet(
            fleet,
            gap=gap,
            time_limit=max(0.1, seconds - loaded),
            threads=threads,
            seed=seed,
            progress=lambda _, incumbent, bound: trace.tell(incumbent, bound),
        )
        if plan.status != "infeasible":
            trace.tell(plan.objective, plan.bound)
    return Run(
        status=plan.status,
        seconds=time.monotonic() - start,
        objective=plan.objective,
        bound=plan.bound,
        load_seconds=loaded,
        trace=trace.points,
        where=sampler.seconds(),
        columns=fleet.columns,
        nodes=plan.nodes,
    )


# ---- the whole model as one MILP ---------------------------------------------------------------------------


def run_monolith(data: FleetData, gap: float, seconds: float, threads: int = 2, seed: int = 0) -> Run:
    """All columns in one Pyomo model, compiled and handed to HiGHS."""
    start = time.monotonic()
    with Sampler() as sampler:
        model = FleetModel(data, list(range(data.columns)), relaxed=False)
        compiled = CompiledModel(model.pyomo, threads, seed)
        loaded = time.monotonic() - start
        trace = Trace(start)
        outcome = compiled.run(gap=gap, time_limit=max(0.1, seconds - loaded), progress=trace.tell)
        if outcome.values:
            trace.tell(outcome.objective, outcome.bound)
    return Run(
        status=outcome.status,
        seconds=time.monotonic() - start,
        objective=outcome.objective,
        bound=outcome.bound if outcome.status != "infeasible" else -math.inf,
        load_seconds=loaded,
        trace=trace.points,
        where=sampler.seconds(),
        columns=data.columns,
        nodes=outcome.nodes,
    )


# ---- Mélange's sliced ILP ----------------------------------------------------------------------------------


def run_sliced(pools: Pools, factor: int, seconds: float, threads: int = 2) -> Run:
    """Mélange's ILP in PuLP and CBC, written anew from its paper (Griggs et al., arXiv 2404.14527).

    Buckets are cut into `factor` equal slices; slice i goes whole to one GPU type, Σ_j A_ij = 1; its load there
    is its rate over the type's highest rate, L_ij = r_i/rate_ij; B_j whole GPUs carry them, Σ_i A_ij·L_ij ≤ B_j;
    least Σ_j c_j·B_j.  Raises ImportError where PuLP is not installed (`pip install codesign[bench]`).
    """
    import pulp  # type: ignore[import-untyped]

    start = time.monotonic()
    offers, classes = pools.rate_per_s.shape
    model = pulp.LpProblem("sliced", pulp.LpMinimize)
    count = [pulp.LpVariable(f"B_{j}", lowBound=0, cat="Integer") for j in range(offers)]
    loads: list[list[Any]] = [[] for _ in range(offers)]
    for c in range(classes):
        able = np.flatnonzero(pools.rate_per_s[:, c] > 0).tolist()
        for s in range(factor):
            goes = {j: pulp.LpVariable(f"A_{c}_{s}_{j}", cat="Binary") for j in able}
            model += pulp.lpSum(goes.values()) == 1
            for j, variable in goes.items():
                load = pools.demand_per_s[c] / factor / pools.rate_per_s[j, c]
                loads[j].append(float(load) * variable)
    for j in range(offers):
        model += pulp.lpSum(loads[j]) <= count[j]
    model.setObjective(pulp.lpSum(float(price) * b for price, b in zip(pools.usd_per_hour, count, strict=True)))
    loaded = time.monotonic() - start
    # CBC's threaded mode with a single thread sleeps until its time limit once in some 200 runs.
    workers = threads if threads > 1 else None
    model.solve(pulp.PULP_CBC_CMD(msg=False, threads=workers, timeLimit=max(1.0, seconds - loaded)))
    spent = time.monotonic() - start
    found = model.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    objective = math.inf
    if found:
        objective = float(sum(p * round(b.value()) for p, b in zip(pools.usd_per_hour, count, strict=True)))
    status = {pulp.LpSolutionOptimal: "optimal", pulp.LpSolutionIntegerFeasible: "feasible"}.get(
        model.sol_status, "no_solution"
    )
    return Run(status, spent, objective, load_seconds=loaded, columns=offers)


# ---- processes ---------------------------------------------------------------------------------------------


def in_own_process(
    run: Callable[..., Run], instance: FleetData | Callable[[], FleetData | Problem], seconds: float, **options: Any
) -> Run:
    """A run in a process of its own: its peak memory is its own, and one that does not load can be ended.

    `instance` is made there where it is a function; that is not timed.  Loading a model cannot be interrupted,
    so a run that is still at it after its time (and a tenth) is ended and has status "did not load".
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_child, args=(theirs, run, instance, {**options, "seconds": seconds}), daemon=True)
    worker.start()
    theirs.close()
    try:
        ours.recv()  # the instance stands
        if ours.poll(seconds * 1.1 + 5.0):
            result: Run = ours.recv()
            return result
        return Run("did not load", math.inf, load_seconds=math.inf)
    except EOFError:
        return Run("died", math.inf, load_seconds=math.inf)
    finally:
        if worker.is_alive():
            worker.join(0.5)
            worker.kill()
        worker.join()


def warm_up() -> None:
    """Import and start what a first solve imports and starts, so that it is not timed."""
    fleet = synthetic_fleet(4, 2, hardware=2)
    run_search(fleet, gap=0.1, seconds=5.0)
    run_monolith(fleet, gap=0.1, seconds=5.0)


def _child(pipe: Connection, run: Callable[..., Run], instance: Any, options: dict[str, Any]) -> None:
    data = instance() if callable(instance) else instance
    warm_up()
    pipe.send("ready")
    result = run(data, **options)
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    result.peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    pipe.send(result)
