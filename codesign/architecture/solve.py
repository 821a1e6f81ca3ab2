"""From an architecture problem to its answer: search, grid, bound, whole-server plans, sensitivity."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import numpy as np

from codesign.architecture.bounds import GridOptimum, LowerBound, grid_optimum, lower_bound
from codesign.architecture.evaluate import Evaluation, Evaluator
from codesign.architecture.part import (
    Assumptions,
    assumption_ranges,
    capital_usd,
    design_excesses,
)
from codesign.architecture.procurement import procurement
from codesign.architecture.search import Found, Trial, search
from codesign.architecture.sensitivity import Flip, Sensitivity, analyse
from codesign.architecture.solution import (
    ArchitectureSolution,
    ChipRecord,
    DesignObjective,
    FlipRecord,
    LimitUse,
    Origin,
    PlanRecord,
    SearchRecord,
    SensitivityRecord,
    TrialRecord,
)
from codesign.architecture.space import Space, Value, parameters
from codesign.check import check
from codesign.clock import PlanProgress
from codesign.hardware.chip import Design, area, power
from codesign.hardware.chip_cost import chip_cost, chip_price_usd
from codesign.planner import solve as plan
from codesign.problem.architecture import ArchitectureProblem
from codesign.solution.build import versions

T = TypeVar("T")

UNITS = {"cost_per_hour": "$/h", "cost_per_task": "$/task", "energy_per_task": "J/task", "power": "W"}

MAX_GRID = 20_000
"""Points of the largest grid that is tried."""


def solve_architecture(
    problem: ArchitectureProblem,
    *,
    trials: int | None = None,
    storage: str | None = None,
    workers: int | None = None,
    progress: Callable[[PlanProgress], None] | None = None,
    cancel: threading.Event | None = None,
    command: str = "",
) -> ArchitectureSolution:
    """Search for the chips of an architecture problem, and prove what can be proven.

    `trials`, `storage` and `workers` override the file's. `cancel` ends the search early: what was found stands.
    Raises ProblemError for workloads that cannot be resolved, SearchError for a storage or sampler that is missing.
    """
    run = _Run(problem, progress, cancel or threading.Event())
    space = Space.of(problem)
    evaluator = Evaluator(space)
    run.tell("buying alone")
    baseline = evaluator.baseline
    found = run.timed(
        "search",
        lambda: search(
            space,
            evaluator,
            trials=trials,
            storage=storage,
            workers=workers,
            progress=lambda done, best: run.tell(f"trial {done}", best),
            cancelled=run.cancel.is_set,
        ),
    )
    best = found.best
    if best is None:
        return _nothing(problem, found, evaluator, run, command)
    grid, bound = _bounds(space, evaluator, best, run)
    value, point = best.value, best.point
    others = [(grid.value, grid.point)] if grid is not None else []
    others += [(bound.best_value, bound.best_point)] if bound is not None else []
    for better, where in others:
        if where is not None and better < value:
            value, point = better, where
    chosen = evaluator.points([point])[0]
    sensitivity = None
    if problem.search.sensitivity and not run.cancel.is_set():
        sensitivity = run.timed("sensitivity", lambda: analyse(space, evaluator, found, run.tell))
    plans = run.timed("plans", lambda: _plans(problem, space.designs(point), evaluator.assumptions, chosen, run))
    gap = (value - bound.value) / value if bound is not None and value > 0 else None
    return ArchitectureSolution(
        status="optimal" if gap is not None and gap <= problem.search.bound.gap else "feasible",
        objective=DesignObjective(
            name=problem.objectives[0],
            unit=UNITS[problem.objectives[0]],
            value=value,
            second=chosen.second,
            search_value=best.value,
            bound=None if bound is None else bound.value,
            gap=gap,
            grid_value=grid.value if grid is not None and np.isfinite(grid.value) else None,
            grid_points=grid.points if grid is not None else 0,
            grid_gap=(best.value - grid.value) / best.value if grid is not None and np.isfinite(grid.value) else None,
            boxes=bound.boxes if bound is not None else 0,
            baseline=baseline.value if baseline.feasible else None,
        ),
        designs=_chips(problem, space, point, evaluator.assumptions, chosen),
        plans=plans,
        front=[_trial(trial) for trial in found.front],
        history=_history(found),
        sensitivity=None if sensitivity is None else _sensitivity(sensitivity),
        reasons=_reasons(space, evaluator, found),
        assumptions=assumption_ranges(problem),
        search=_record(problem, found, evaluator, run),
        provenance=_origin(problem, command),
    )


class _Run:
    """Clock, progress and cancellation of one solve."""

    def __init__(
        self,
        problem: ArchitectureProblem,
        progress: Callable[[PlanProgress], None] | None,
        cancel: threading.Event,
    ) -> None:
        self.problem, self.cancel = problem, cancel
        self.seconds: dict[str, float] = {}
        self._progress, self._started = progress, time.monotonic()

    def tell(self, stage: str, best: float = float("inf")) -> None:
        if self._progress is not None:
            known = best if np.isfinite(best) else None
            self._progress(PlanProgress(stage, known, None, None, time.monotonic() - self._started))

    def timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        result = work()
        self.seconds[name] = time.monotonic() - started
        return result


def _bounds(
    space: Space, evaluator: Evaluator, best: Trial, run: _Run
) -> tuple[GridOptimum | None, LowerBound | None]:
    wanted = space.problem.search.bound
    grid, bound = None, None
    if wanted.grid and space.grid_size(wanted.grid) <= MAX_GRID:
        grid = run.timed(
            "grid",
            lambda: grid_optimum(
                space,
                evaluator,
                wanted.grid,
                progress=lambda what, done, value: run.tell(f"{what} {done}", value),
                cancelled=run.cancel.is_set,
            ),
        )
    if wanted.boxes:
        incumbent = min(best.value, grid.value if grid is not None else np.inf)
        bound = run.timed(
            "bound",
            lambda: lower_bound(
                space,
                evaluator,
                incumbent,
                wanted.boxes,
                wanted.gap,
                progress=lambda what, done, value: run.tell(f"{what} {done}", incumbent),
                cancelled=run.cancel.is_set,
            ),
        )
    return grid, bound


def _plans(
    problem: ArchitectureProblem,
    designs: dict[str, Design],
    given: Assumptions,
    chosen: Evaluation,
    run: _Run,
) -> list[PlanRecord]:
    """Whole-server plans of every workload with the designs that its fleet uses, each checked."""
    records = []
    bought = {name: design for name, design in designs.items() if name in chosen.used}
    if not bought and not problem.compete:
        return []
    for index, workload in enumerate(problem.workloads):
        run.tell(f"plan {workload.name}")
        stated = procurement(problem, index, bought, given)
        solution = plan(stated, command=f"plan of {problem.name}, workload {workload.name}")
        document = stated._document
        hardware = dict(document.data["hardware"]) if document is not None else {}
        ok = bool(solution.fleet) and check(stated, solution).ok
        records.append(
            PlanRecord(
                workload=workload.name,
                weight=workload.weight,
                problem={"hardware": hardware},
                check_ok=ok,
                solution=solution,
            )
        )
    return records


def _chips(
    problem: ArchitectureProblem, space: Space, point: dict[str, Value], given: Assumptions, chosen: Evaluation
) -> list[ChipRecord]:
    records = []
    for name, design in space.designs(point).items():
        cost, watts = chip_cost(design, given.facts), power(design, given.facts)
        records.append(
            ChipRecord(
                name=name,
                used=name in chosen.used,
                parameters={
                    path: point[f"{name}.{path}"]
                    for path, parameter in parameters(problem.designs[name])
                    if parameter.free
                },
                area_mm2=asdict(area(design, given.facts)),
                power_w=asdict(watts) | {"tdp": watts.tdp},
                cost_usd=asdict(cost),
                bom_usd=cost.bom,
                price_usd=chip_price_usd(cost.bom, given.margin, given.nre_usd, problem.market.volume or 0),
                capital_usd=capital_usd(problem, design, given),
                limits=[
                    LimitUse(limit=e.limit, needed=e.needed, offered=e.offered, unit=e.unit)
                    for e in design_excesses(problem, design, given.facts)
                ],
            )
        )
    return records


def _history(found: Found) -> list[float]:
    """Best feasible value after each trial, from the first that is feasible on."""
    best, values = np.inf, []
    for trial in found.trials:
        best = min(best, trial.value if trial.feasible else np.inf)
        if np.isfinite(best):
            values.append(float(best))
    return values


def _reasons(space: Space, evaluator: Evaluator, found: Found) -> dict[str, int]:
    """How many trials broke each limit of manufacture."""
    counts: Counter[str] = Counter()
    for trial in found.trials:
        if trial.feasible:
            continue
        broken = {
            excess.limit
            for design in space.designs(trial.point).values()
            for excess in design_excesses(space.problem, design, evaluator.assumptions.facts)
            if excess.over > 1e-9
        }
        counts.update(broken or {"demand"})
    return dict(sorted(counts.items()))


def _trial(trial: Trial) -> TrialRecord:
    return TrialRecord(number=trial.number, value=trial.value, second=trial.second, parameters=trial.point)


def _flip(flip: Flip) -> FlipRecord:
    figures = asdict(flip) | {"regret": flip.regret}
    known = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in figures.items()}
    return FlipRecord.model_validate(known)


def _sensitivity(found: Sensitivity) -> SensitivityRecord:
    return SensitivityRecord(
        importances=found.importances,
        assumptions=[_flip(flip) for flip in found.assumptions],
        memory_prices=[_flip(flip) for flip in found.memory_prices],
        hit_ratio=[_flip(flip) for flip in found.hit_ratio],
        entry_price_usd=found.break_even.entry_price_usd,
        break_even_volume=found.break_even.volume,
        break_even_fleets=found.break_even.fleets,
        regret=found.regret,
        chip_first=found.chip_first,
    )


def _record(problem: ArchitectureProblem, found: Found, evaluator: Evaluator, run: _Run) -> SearchRecord:
    return SearchRecord(
        sampler=problem.search.sampler,
        trials=len(found.trials),
        feasible=sum(trial.feasible for trial in found.trials),
        seed=problem.search.seed,
        linear_programs=evaluator.solves,
        seconds=run.seconds,
        versions=versions(),
    )


def _origin(problem: ArchitectureProblem, command: str) -> Origin:
    return Origin(
        problem=problem.name,
        problem_sha256=problem.sha256,
        workload_sha256=[stated.sha256 for stated in problem.problems],
        command=command,
    )


def _nothing(
    problem: ArchitectureProblem, found: Found, evaluator: Evaluator, run: _Run, command: str
) -> ArchitectureSolution:
    return ArchitectureSolution(
        status="no_solution",
        objective=DesignObjective(name=problem.objectives[0], unit=UNITS[problem.objectives[0]], value=None),
        reasons=_reasons(evaluator.space, evaluator, found),
        assumptions=assumption_ranges(problem),
        search=_record(problem, found, evaluator, run),
        provenance=_origin(problem, command),
    )
