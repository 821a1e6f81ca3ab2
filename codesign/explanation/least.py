"""The least that makes a plan possible, each figure with a plan of the relaxed problem to show for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from codesign.candidates.build import Candidates, changed
from codesign.candidates.data import FleetData
from codesign.clock import Clock
from codesign.extremes import Search
from codesign.optimize.elastic import countable, elastic, used
from codesign.optimize.fleet import FleetPlan, FleetSolver
from codesign.optimize.requirements import Requirement, least_choice
from codesign.problem.instance import Instance, TaskClass

_ALONE_SHARE, _TOGETHER_SHARE = 0.2, 0.4
"""Of the time left, for one limit by itself, and for all of them together."""
_NEAR = 0.005
"""Gap to which the least value of a limit is found."""
_RATE_GAP = 0.02
"""The same of the factor on rates."""


class Least:
    """Solves a problem without a plan again with something relaxed."""

    def __init__(self, candidates: Candidates, clock: Clock) -> None:
        self._candidates, self._clock = candidates, clock
        options = candidates.instance.options
        self._solver = FleetSolver(candidates.data, options.threads, options.seed)

    def alone(self, requirement: Requirement) -> float | None:
        """The least value found of a requirement while all others hold; None where no plan was found."""
        data = self._candidates.data
        self._clock.tell(f"what would it have to be: {requirement.name}")
        seconds = self._clock.left() * _ALONE_SHARE
        if requirement.measured is not None and requirement.used is not None:
            plan = self._plan(requirement.measured(data), seconds)
            return requirement.used(data, plan) if plan is not None else None
        if not requirement.choices:
            return None
        return least_choice(requirement, data, lambda relaxed: self._plan(relaxed, seconds / 2, gap=1.0))

    def together(self, names: Sequence[str]) -> dict[str, float]:
        """What the limits of these names would have to be together, those that move alone; none without a plan."""
        if not names:
            return {}
        data = self._candidates.data
        self._clock.tell("the least by which limits would have to move together")
        plan = self._plan(elastic(data, names), self._clock.left() * _TOGETHER_SHARE)
        if plan is None:
            return {}
        values = {
            limit.name: used(data, limit, plan) for limit in data.limits if limit.name in names and countable(limit)
        }
        allowed = {limit.name: limit.limit for limit in data.limits}
        return {name: value for name, value in values.items() if value > allowed[name] + 1e-6 * abs(allowed[name])}

    def buyable(self, name: str, value: float) -> float:
        """A value of a limit as it can be bought: in steps of what its servers take of it, where those are whole."""
        limit = next(limit for limit in self._candidates.data.limits if limit.name == name)
        steps = [c for c in limit.per_server.values() if c > 0]
        if not steps or any(c != round(c) for c in steps):
            return value
        step = math.gcd(*(round(c) for c in steps))
        return float(step * math.ceil(value / step - 1e-9))

    def rates(self, tasks: Sequence[int]) -> float | None:
        """The largest factor below 1 found for the rates of tasks (by place in the fleet problem) alike."""
        if not tasks:
            return None
        wanted = set(tasks)

        def at(factor: float) -> Candidates:
            return changed(self._candidates, _slower(self._candidates.instance, wanted, factor))

        search = Search(_RATE_GAP, self._clock, at, lambda factor: f"{factor:.4g} times the rates", stretches=False)
        search.proven = 1.0
        search.from_above(1.0)
        search.bisect()
        return search.reached if search.best is not None else None

    def _plan(self, data: FleetData, seconds: float, gap: float = _NEAR) -> FleetPlan | None:
        found = self._solver.solve(
            data,
            gap=gap,
            time_limit=seconds,
            progress=self._clock.search,
            cancel=self._clock.cancel,
        )
        return found if found.replicas else None


def _slower(instance: Instance, tasks: set[int], factor: float) -> Instance:
    """The instance with the rates of some tasks, counted over all stages, times a factor."""

    def own(some: tuple[TaskClass, ...], first: int) -> tuple[TaskClass, ...]:
        return tuple(
            replace(task, rate_per_s=task.rate_per_s * factor) if first + c in tasks else task
            for c, task in enumerate(some)
        )

    if not instance.stages:
        return replace(instance, tasks=own(instance.tasks, 0))
    first, stages = 0, []
    for stage in instance.stages:
        changed_tasks = own(stage.instance.tasks, first)
        stages.append(replace(stage, instance=replace(stage.instance, tasks=changed_tasks)))
        first += len(stage.instance.tasks)
    return replace(instance, stages=tuple(stages))
