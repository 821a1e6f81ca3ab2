"""Several plans side by side: cost against energy of a task, and a table whose rows lead to the plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.report.console import joules, money, percent, quantity
from codesign.report.page.blocks import Cell, Figure, Table, label
from codesign.report.page.plans import PlanFile


def front_figure(plans: Sequence[PlanFile]) -> Figure:
    """Cost against energy per task; the dominated are pale.  `customdata` is the number of the plan."""
    shown = [(i, plan) for i, plan in enumerate(plans) if plan.solution.totals is not None]
    best = efficient(plans)
    traces: list[dict[str, Any]] = []
    for name, colour, members in (
        ("not dominated", "orange", [(i, p) for i, p in shown if i in best]),
        ("dominated", "grey", [(i, p) for i, p in shown if i not in best]),
    ):
        if not members:
            continue
        members.sort(key=lambda member: _cost(member[1]))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if colour == "orange" else "markers",
                "name": name,
                "x": [_cost(plan) for _, plan in members],
                "y": [_energy(plan) for _, plan in members],
                "customdata": [i for i, _ in members],
                "text": [label(plan.name) for _, plan in members],
                "line": {"shape": "hv", "width": 1, "color": colour},
                "marker": {"size": 11, "color": colour},
                "hovertemplate": "%{text}<br>%{x:.4g} $/task, %{y:.4g} J/task<extra></extra>",
            }
        )
    spec = {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "cost per task, $"}, "exponentformat": "power"},
            "yaxis": {"title": {"text": "energy per task, J"}, "exponentformat": "power"},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"l": 70, "r": 20, "t": 40, "b": 50},
        },
    }
    return Figure("Cost against energy of a task: click a point to see its plan", spec, 420)


def efficient(plans: Sequence[PlanFile]) -> set[int]:
    """Numbers of the plans that no other beats in cost and energy of a task."""
    points = {i: (_cost(p), _energy(p)) for i, p in enumerate(plans) if p.solution.totals is not None}
    return {
        i
        for i, (cost, energy) in points.items()
        if not any(c <= cost and e <= energy and (c, e) != (cost, energy) for c, e in points.values())
    }


def front_table(plans: Sequence[PlanFile]) -> Table:
    """A row for every plan, cheapest first; the template makes the first cell the link to it."""
    best = efficient(plans)
    rows = []
    for i in order(plans):
        solution, totals = plans[i].solution, plans[i].solution.totals
        gap = solution.objective.gap
        rows.append(
            (
                Cell(plans[i].name, strong=i in best),
                Cell(solution.status),
                Cell(money(totals.cost_per_hour if totals else None)),
                Cell(money(totals.cost_per_task if totals else None)),
                Cell(joules(totals.energy_per_task_j if totals else None)),
                Cell(quantity(totals.power_w if totals else None, "power")),
                Cell(percent(gap)),
            )
        )
    head = ("plan", "status", "$/h", "$/task", "energy/task", "mean power", "proven within")
    return Table("All plans; those that none beats in both cost and energy are bold", head, tuple(rows), words=2)


def order(plans: Sequence[PlanFile]) -> list[int]:
    """Numbers of the plans, cheapest first, those without a fleet last."""
    return sorted(range(len(plans)), key=lambda i: (plans[i].solution.totals is None, _cost(plans[i]), i))


def _cost(plan: PlanFile) -> float:
    return plan.solution.totals.cost_per_task if plan.solution.totals else float("inf")


def _energy(plan: PlanFile) -> float:
    return plan.solution.totals.energy_per_task_j if plan.solution.totals else float("inf")
