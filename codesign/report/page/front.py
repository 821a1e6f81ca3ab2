"""Several plans side by side: two objectives against each other, and a table whose rows lead to the plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codesign.report.console import amount, joules, money, percent, quantity
from codesign.report.page.blocks import Cell, Figure, Table
from codesign.report.page.plans import PlanFile
from codesign.report.page.svg import WIDTH, Drawing, linear, marker, polyline
from codesign.report.studies import inner, outer
from codesign.study.front import Front

LEFT, RIGHT, TOP, BOTTOM = 84.0, WIDTH - 20, 30.0, 360.0


@dataclass(frozen=True)
class _Axis:
    name: str
    unit: str
    values: tuple[float, ...]
    """By plan; infinite where it has none."""


def front_figure(plans: Sequence[PlanFile], front: Front | None = None) -> Figure:
    """Two objectives, the dominated plans pale, every point a link to its plan; with `front` also its proof."""
    across, upright = _axes(plans, front)
    best = efficient(plans, front)
    shown = [i for i, plan in enumerate(plans) if plan.solution.totals is not None]
    caption = f"{across.name} against {upright.name}: click a point to see its plan"
    places = ([across.values[i] for i in shown] or [0.0], [upright.values[i] for i in shown] or [0.0])
    steps: list[tuple[float, float]] = []
    proof: list[tuple[float, float]] = []
    if front is not None and len(front.objectives) == 2:
        steps = [(x, y) for y, x in zip(*inner(front), strict=True)]
        proof = [(x, y) for y, x in zip(*outer(front), strict=True)]
        for axis, more in zip(places, zip(*proof, strict=True) if proof else (), strict=False):
            axis.extend(more)
    elif front is None:
        for i in sorted(best, key=lambda i: across.values[i]):
            if steps:
                steps.append((across.values[i], steps[-1][1]))
            steps.append((across.values[i], upright.values[i]))
    x, y = linear(places[0], LEFT, RIGHT), linear(places[1], BOTTOM, TOP)
    drawing = Drawing(BOTTOM + 48)
    named = [("not dominated", "orange"), *([("dominated", "grey")] if len(best) < len(shown) else [])]
    drawing.legend([*named, *([("proof: nothing below", "blue")] if proof else [])], LEFT, 12)
    drawing.across(x, TOP, BOTTOM, f"{across.name}, {across.unit}")
    drawing.upright(y, LEFT, RIGHT, f"{upright.name}, {upright.unit}")
    for points, colour, dash in ((proof, "blue", "2 3"), (steps, "orange", "none")):
        if points:
            path = polyline([(x.place(a), y.place(b)) for a, b in points])
            drawing.shape(path, colour, "trace", style=f"stroke-dasharray:{dash}")
    for i in sorted(shown, key=lambda i: i in best):
        path = marker("circle", x.place(across.values[i]), y.place(upright.values[i]))
        said = f"{plans[i].name}: " + ", ".join(amount(a.values[i], a.unit) for a in (across, upright))
        drawing.shape(path, "orange" if i in best else "grey", "fill", said, link=f"#plan-{i}")
    return Figure(caption, drawing.svg(caption, links=True))


def efficient(plans: Sequence[PlanFile], front: Front | None = None) -> set[int]:
    """Numbers of the plans that no other beats in both objectives: all of a front, which keeps no others."""
    if front is not None:
        return set(range(len(plans)))
    cost, energy = _axes(plans, None)
    points = {i: (cost.values[i], energy.values[i]) for i, p in enumerate(plans) if p.solution.totals is not None}
    return {
        i for i, (c, e) in points.items() if not any(a <= c and b <= e and (a, b) != (c, e) for a, b in points.values())
    }


def front_table(plans: Sequence[PlanFile], front: Front | None = None) -> Table:
    """A row for every plan, cheapest first; the template makes the first cell the link to it."""
    best = efficient(plans, front)
    others = (
        () if front is None else tuple(n for n in front.objectives if n not in ("cost_per_task", "energy_per_task"))
    )
    rows = []
    for i in order(plans):
        solution, totals = plans[i].solution, plans[i].solution.totals
        gap = solution.objective.gap if front is None else front.points[i].gap
        fleet = sorted(totals.accelerators.items(), key=lambda item: -item[1]) if totals else []
        rows.append(
            (
                Cell(plans[i].name, strong=i in best and front is None),
                Cell(", ".join(f"{count:,} × {name}" for name, count in fleet) or solution.status),
                *(
                    Cell(amount(front.points[i].values[name], front.units[name]))
                    for name in others
                    if front is not None
                ),
                Cell(money(totals.cost_per_hour if totals else None)),
                Cell(money(totals.cost_per_task if totals else None)),
                Cell(joules(totals.energy_per_task_j if totals else None)),
                Cell(quantity(totals.power_w if totals else None, "power")),
                Cell(percent(gap)),
            )
        )
    head = ("plan", "fleet", *others, "$/h", "$/task", "energy/task", "mean power", "proven within")
    caption = "All plans; those that none beats in both cost and energy are bold"
    if front is not None:
        caption = f"The frontier of {' and '.join(front.objectives)}: no plan here beats another"
    return Table(caption, head, tuple(rows), words=2)


def order(plans: Sequence[PlanFile]) -> list[int]:
    """Numbers of the plans, cheapest first, those without a fleet last."""
    cost = [p.solution.totals.cost_per_task if p.solution.totals else float("inf") for p in plans]
    return sorted(range(len(plans)), key=lambda i: (cost[i], i))


def _axes(plans: Sequence[PlanFile], front: Front | None) -> tuple[_Axis, _Axis]:
    """A front's first two objectives; cost and energy of a task for other plans."""
    if front is not None:
        first, second = (
            _Axis(name, front.units[name], tuple(p.values[name] for p in front.points)) for name in front.objectives[:2]
        )
        return first, second
    totals = [plan.solution.totals for plan in plans]
    cost = tuple(t.cost_per_task if t else float("inf") for t in totals)
    energy = tuple(t.energy_per_task_j if t else float("inf") for t in totals)
    return _Axis("cost per task", "$", cost), _Axis("energy per task", "J", energy)
