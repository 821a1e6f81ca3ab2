"""What the plan claims about itself: objective, bound, gap and status."""

from __future__ import annotations

import math

from codesign.check.accounts import Sums
from codesign.check.report import ENERGY_TOLERANCE, LIMIT_TOLERANCE, Findings
from codesign.problem.instance import Instance
from codesign.solution.schema import Solution

_GAP_TOLERANCE = 1e-6
_UNITS = {
    "cost_per_hour": "$/h",
    "cost_per_task": "$/task",
    "energy_per_task": "J/task",
    "power": "W",
    "carbon_per_task": "kg/task",
    "max_rate": "×",
    "slo_scale": "×",
}


def check_objective(
    instance: Instance, solution: Solution, sums: Sums, asked_gap: float, findings: Findings
) -> None:
    """The value is the recomputed one, the bound is below it, and the gap between them is as claimed."""
    objective = solution.objective
    figures = {
        "cost_per_hour": (sums.cost_per_hour, LIMIT_TOLERANCE),
        "cost_per_task": (sums.cost_per_task, LIMIT_TOLERANCE),
        "energy_per_task": (sums.energy_per_task_j, ENERGY_TOLERANCE),
        "power": (sums.power_w, ENERGY_TOLERANCE),
        "carbon_per_task": (sums.carbon_per_task_kg, ENERGY_TOLERANCE),
        # The plan was held against the rates and SLOs of this very value.
        "max_rate": (objective.value or 0.0, LIMIT_TOLERANCE),
        "slo_scale": (objective.value or 0.0, LIMIT_TOLERANCE),
    }
    # A point of a frontier minimises what it says, under ceilings; any other plan the problem's objective.
    known = (instance.objective,) if objective.ceilings is None else tuple(figures)
    name = objective.name if objective.name in known else instance.objective
    expected, tolerance = figures[name]
    findings.one_of("objective.name", objective.name, known)
    findings.one_of("objective.unit", objective.unit, (_UNITS[name],))
    findings.equal("objective.value", objective.value, expected, tolerance)
    for other, most in (objective.ceilings or {}).items():
        findings.one_of("objective.ceilings", other, tuple(figures))
        if other in figures:
            found, slack = figures[other]
            findings.at_most(f"objective.ceilings.{other}", found, most, slack)
    value, bound = objective.value, objective.bound
    if value is None or bound is None:
        if solution.status == "optimal":
            findings.fail("status optimal: bound", "a proven one", None)
        return
    low, high = (value, bound) if instance.objective == "max_rate" else (bound, value)
    name = "objective.value ≤ bound" if instance.objective == "max_rate" else "objective.bound ≤ value"
    findings.at_most(name, low, high, 1e-9)
    gap = (high - low) / abs(value) if value else (0.0 if bound == value else math.inf)
    if objective.gap is None or not abs(objective.gap - gap) <= _GAP_TOLERANCE:
        findings.fail("objective.gap = (value − bound)/|value|", gap, objective.gap)
    if solution.status == "optimal":
        findings.at_most("status optimal: gap", gap, asked_gap + _GAP_TOLERANCE)


def check_no_plan(instance: Instance, solution: Solution, findings: Findings) -> None:
    """A solution without a plan holds none: no fleet, no figures that look like one."""
    name = f"status {solution.status}"
    findings.one_of("objective.name", solution.objective.name, (instance.objective,))
    for word in ("purchase", "fleet", "memory", "routing", "tasks", "stages", "scenarios"):
        entries = getattr(solution, word)
        if entries:
            findings.fail(f"{name}: {word}", "empty", f"{len(entries)} entries")
    for word, found in (
        ("totals", solution.totals.cost_per_hour if solution.totals else None),
        ("objective.value", solution.objective.value),
        ("objective.gap", solution.objective.gap),
    ):
        if found is not None:
            findings.fail(f"{name}: {word}", None, found)
