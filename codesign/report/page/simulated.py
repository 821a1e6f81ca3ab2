"""What a plan's promises became under simulation: the documents of `codesign simulate --json` beside the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.report.console import quantity
from codesign.report.page.plans import ReportError
from codesign.solution import Solution, TaskResult
from codesign.solution.labels import stage_of
from codesign.solution.schema import SloResult

if TYPE_CHECKING:
    from codesign.simulate import SimulationReport
    from codesign.simulate.report import SloOutcome


@dataclass(frozen=True)
class Simulated:
    """Simulations of one plan: of its periods, or with several seeds."""

    runs: tuple[SimulationReport, ...] = ()

    def worst(self, task: TaskResult, slo: SloResult) -> SloOutcome | None:
        """A promise in the run that kept it worst; None where none simulated it, or nothing of it finished."""
        found = [
            outcome
            for run in self.runs
            for each in run.tasks
            if each.stage == stage_of(task)
            for outcome in each.slo
            if _key(each.name, outcome) == _key(task.name, slo) and outcome.simulated is not None
        ]
        return max(found, key=lambda outcome: (not outcome.ok, outcome.simulated or 0.0), default=None)

    def sentences(self) -> list[tuple[str, bool]]:
        """What was run, and whether all held in it."""
        said = []
        for run in self.runs:
            promised = [slo for task in run.tasks for slo in task.slo]
            broken, all_ = sum(not slo.ok for slo in promised), len(promised)
            held = f"{broken} of {all_} promises are broken" if broken else f"all {all_} promises hold"
            stages = list(dict.fromkeys(task.stage for task in run.tasks if task.stage))
            when = f" in {' and '.join(stages)}" if stages else ""
            what = f"{run.calls:,} calls in {quantity(run.duration_s, 'time')}, {run.arrivals}, seed {run.seed}"
            what += f"; {run.failure}" if run.failure else ""
            said.append((f"Simulated request by request{when}, {held}: {what}.", not broken))
        return said


def read_simulated(paths: Sequence[str | Path], solution: Solution) -> Simulated:
    """The simulations in files; ReportError where one is not of this plan."""
    if not paths:
        return Simulated()
    from codesign.simulate import SimulationReport

    runs = []
    for path in paths:
        try:
            run = SimulationReport.read(path)
        except ValueError as error:
            raise ReportError(f"--simulated: {error}") from None
        promised = {(stage_of(task), *_key(task.name, slo)): slo for task in solution.tasks for slo in task.slo}
        seen = [(promised.get((task.stage, *_key(task.name, slo))), slo) for task in run.tasks for slo in task.slo]
        pools = {pool.pool for pool in run.pools} <= {pool.pool for pool in solution.fleet}
        if not pools or not all(own is not None and _same(own, slo) for own, slo in seen):
            raise ReportError(
                f"--simulated: found {str(path)!r}, the simulation of another plan; expected one of this solution file"
            )
        runs.append(run)
    return Simulated(tuple(runs))


def _key(task: str, slo: SloResult | SloOutcome) -> tuple[str, str, float]:
    return task, slo.metric, round(slo.percentile, 9)


def _same(own: SloResult, seen: SloOutcome) -> bool:
    """Whether a simulation was held against this promise of this plan."""
    planned = seen.planned is None or math.isclose(seen.planned, own.achieved, rel_tol=1e-6)
    return planned and math.isclose(seen.target, own.target, rel_tol=1e-9)
