"""Several plans side by side: cost against energy of a task, and a table whose rows lead to the plans."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.report.console import joules, money, percent, quantity
from codesign.report.page.blocks import Cell, Figure, Table
from codesign.report.page.plans import PlanFile
from codesign.report.page.svg import WIDTH, Drawing, linear, marker, polyline


def front_figure(plans: Sequence[PlanFile]) -> Figure:
    """Cost against energy per task; the dominated are pale, and every point is a link to its plan."""
    shown = [(i, plan) for i, plan in enumerate(plans) if plan.solution.totals is not None]
    best = efficient(plans)
    caption = "Cost against energy of a task: click a point to see its plan"
    left, right, top, bottom = 84.0, WIDTH - 20, 30.0, 360.0
    across = linear([_cost(plan) for _, plan in shown] or [0.0], left, right)
    upright = linear([_energy(plan) for _, plan in shown] or [0.0], bottom, top)
    drawing = Drawing(bottom + 48)
    drawing.legend([("not dominated", "orange"), ("dominated", "grey")], left, 12)
    drawing.across(across, top, bottom, "cost per task, $")
    drawing.upright(upright, left, right, "energy per task, J")
    steps: list[tuple[float, float]] = []
    for _, plan in sorted(((i, p) for i, p in shown if i in best), key=lambda member: _cost(member[1])):
        x, y = across.place(_cost(plan)), upright.place(_energy(plan))
        steps += [(x, steps[-1][1]), (x, y)] if steps else [(x, y)]
    if steps:
        drawing.shape(polyline(steps), "orange", "trace")
    for i, plan in sorted(shown, key=lambda member: member[0] in best):
        path = marker("circle", across.place(_cost(plan)), upright.place(_energy(plan)))
        said = f"{plan.name}: {money(_cost(plan))} $/task, {joules(_energy(plan))}/task"
        drawing.shape(path, "orange" if i in best else "grey", "fill", said, link=f"#plan-{i}")
    return Figure(caption, drawing.svg(caption, links=True))


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
