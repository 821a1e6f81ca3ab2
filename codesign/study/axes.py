"""The axes of a frontier: what each objective measures, and how it is held at a ceiling.

Linear axes (cost, energy, carbon, power) are rows of the MILP.  `slo_scale` and `robustness` change the problem
itself: all SLO values times a factor, and the percentile of the model's own error at which times are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from codesign.problem.extremes import at_extreme
from codesign.problem.instance import Instance, ObjectiveName
from codesign.solution.schema import Solution

SAFETY_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Percentiles that `options.safety` knows."""


@dataclass(frozen=True)
class Axis:
    """One objective.  Inside a frontier all are minimised: `sign` is −1 where people want more."""

    name: str
    unit: str
    kind: Literal["linear", "slo_scale", "robustness"]
    objective: ObjectiveName | None = None
    """What the MILP minimises for it (linear axes)."""
    sign: int = 1

    def factor(self, instance: Instance) -> float:
        """Axis value per unit of `objective`: carbon is energy times the grid's intensity.

        Planned in joules: a few milligrams a task would drown in a solver's absolute tolerances.
        """
        return instance.site.carbon_kg_per_joule if self.name == "carbon_per_task" else 1.0

    def of(self, solution: Solution, instance: Instance) -> float:
        """The value of a plan on a linear axis."""
        totals = solution.totals
        if totals is None or self.objective is None:
            raise ValueError(f"no plan has a value of {self.name}")
        value = {
            "cost_per_hour": totals.cost_per_hour,
            "cost_per_task": totals.cost_per_task,
            "energy_per_task": totals.energy_per_task_j,
            "power": totals.power_w,
        }[self.objective]
        return value * self.factor(instance)


AXES = {
    axis.name: axis
    for axis in (
        Axis("cost_per_hour", "$/h", "linear", "cost_per_hour"),
        Axis("cost_per_task", "$/task", "linear", "cost_per_task"),
        Axis("energy_per_task", "J/task", "linear", "energy_per_task"),
        Axis("carbon_per_task", "kg/task", "linear", "energy_per_task"),
        Axis("power", "W", "linear", "power"),
        Axis("slo_scale", "× the SLOs", "slo_scale"),
        Axis("robustness", "percentile of the model's error", "robustness", sign=-1),
    )
}
ALIASES = {
    "cost": "cost_per_task",
    "energy": "energy_per_task",
    "carbon": "carbon_per_task",
    "latency": "slo_scale",
}
_DIRECTION = {
    "cost_per_hour": "$",
    "cost_per_task": "$",
    "energy_per_task": "W",
    "power": "W",
}
"""Objectives that are proportional to one another: one plan minimises all of a kind."""


def parse_axes(words: Sequence[str]) -> tuple[Axis, ...]:
    """Axes by name or alias, the first linear one first: it is minimised, the others are held.

    Raises ValueError for an unknown word, fewer than two or more than three, or none that is linear.
    """
    names = [ALIASES.get(word.strip(), word.strip()) for word in words]
    for word, name in zip(words, names, strict=True):
        if name not in AXES:
            known = ", ".join([*ALIASES, *(n for n in AXES if n not in ALIASES.values())])
            raise ValueError(f"found {word!r}; expected objectives out of {known}")
    if len(set(names)) != len(names) or not 2 <= len(names) <= 3:
        raise ValueError(f"found {','.join(words)!r}; expected two or three different objectives")
    axes = [AXES[name] for name in names]
    primary = next((axis for axis in axes if axis.kind == "linear"), None)
    if primary is None:
        raise ValueError(f"found {','.join(words)!r}; expected at least one of cost, energy, carbon, power")
    return (primary, *(axis for axis in axes if axis is not primary))


def independent(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes that can be traded against one another: of those that always move together, the first."""
    kept: dict[str, Axis] = {}
    for axis in axes:
        kept.setdefault(_DIRECTION[axis.objective] if axis.objective else axis.name, axis)
    return tuple(kept.values())


def settled(instance: Instance, held: Mapping[str, float]) -> Instance:
    """The instance at given values of the axes that change it ({} changes nothing)."""
    changed = instance
    if "slo_scale" in held:
        changed = at_extreme(replace(changed, objective="slo_scale"), held["slo_scale"])
    if "robustness" in held:
        changed = _safer(changed, held["robustness"])
    return replace(changed, objective=instance.objective)


def _safer(instance: Instance, percentile: float) -> Instance:
    return replace(
        instance,
        options=replace(instance.options, safety=percentile),
        stages=tuple(replace(stage, instance=_safer(stage.instance, percentile)) for stage in instance.stages),
    )
