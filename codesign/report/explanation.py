"""Why there is no plan and what would have to give way; or what binds a plan and why parts stayed out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from codesign.report.console import amount, line, make_table, worth
from codesign.report.plan import headline

if TYPE_CHECKING:
    from codesign.planner import Explanation


def explanation_report(explanation: Explanation) -> Group:
    """An explanation, infeasible or not."""
    body = _feasible(explanation) if explanation.feasible else _infeasible(explanation)
    return Group(*body, *(line(f"Note: {note}") for note in explanation.notes))


def _infeasible(explanation: Explanation) -> Iterator[RenderableType]:
    solution = explanation.solution
    if explanation.status == "no_solution":
        yield line("No plan found, none proven impossible." if solution is None else headline(solution), "bold")
    else:
        yield line("Infeasible, which is proven: these cannot hold together.", "bold")
    yield ""
    conflicts = make_table("In conflict", ("limit",), ("allowed", "needed"), ("",))
    for conflict in explanation.conflicts:
        alone = "if it alone gave way" if conflict.needed is not None else "no value found that is enough alone"
        conflicts.add_row(
            conflict.limit,
            amount(conflict.allowed, conflict.unit),
            amount(conflict.needed, conflict.unit),
            alone,
        )
    yield conflicts
    if explanation.relaxations:
        ways = make_table(
            "The least that makes a plan possible", ("limit",), ("from", "to", "change"), ("", "verified by a plan")
        )
        for way in explanation.relaxations:
            change = None if way.needed is None or not way.allowed else way.needed / way.allowed - 1
            ways.add_row(
                way.limit,
                amount(way.allowed, way.unit),
                amount(way.needed, way.unit),
                "–" if change is None else f"{100 * change:+.3g} %",
                way.note,
                "yes" if way.verified else "no",
            )
        yield ways


def _feasible(explanation: Explanation) -> Iterator[RenderableType]:
    solution = explanation.solution
    if solution is not None:
        yield line(headline(solution), "bold")
        yield ""
    binding = make_table("What binds", ("what", "why"))
    for row in explanation.binding:
        binding.add_row(row.what, row.detail)
    yield binding
    if explanation.shadow_prices:
        unit = solution.objective.unit if solution is not None else "objective"
        prices = make_table("What one more unit is worth", ("limit",), ("saves",), ("from",))
        for price in explanation.shadow_prices:
            prices.add_row(price.limit, worth(price.value, price.unit, unit), price.source)
        yield prices
    if explanation.not_chosen:
        others = make_table("Not chosen", ("accelerator", "why"), ("enters at $/h",))
        for part in explanation.not_chosen:
            enters = "–" if part.enters_at_price is None else f"{part.enters_at_price:,.3f}"
            others.add_row(part.accelerator, part.reason, enters)
        yield others
