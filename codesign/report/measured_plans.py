"""Plans against measurements, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from codesign.report.console import line, make_table, percent
from codesign.report.validation import counts
from codesign.validation.plans import DEPLOYMENTS, TTFT_SLACK, PlanValidation
from codesign.validation.ratios import NEAR, PlanSlice


def measured_plans_report(found: PlanValidation) -> Group:
    """All tables: how many accelerators are planned for measured loads, by slice; and which rows were left out."""
    parts: list[RenderableType] = []
    for by in dict.fromkeys(each.by for each in found.summary):
        slices = [each for each in found.summary if each.by == by]
        if by != "all":
            parts.append(_table(f"Planned over measured accelerators by {by}", by, slices))
            continue
        own = [each for each in slices if each.role == each.measured_role]
        parts.append(_table("Planned over measured accelerators, planned in the way that was measured", "", own))
        other = [each for each in slices if each.role != each.measured_role]
        parts.append(_table("Planned in the other way: how many would do, not whether the plan is right", "", other))
    parts.append(counts("Rows left out", found.left_out))
    if found.sampled < found.deployments:
        sample = f"A sample: {found.sampled} of {found.deployments} measured rows, evenly spaced."
        parts.append(line(sample, "yellow"))
    parts.append(
        line(
            f"{DEPLOYMENTS} deployments at once; TPOT p50 promised at a factor of the measured one, TTFT p50 at "
            f"{TTFT_SLACK:g} times the measured one; engines at most as large as measured, of any shape."
        )
    )
    return Group(*parts)


def _table(title: str, by: str, slices: Sequence[PlanSlice]) -> Table:
    near = f"{NEAR[0]:g} to {NEAR[1]:g}"
    figures = ("TPOT", "rows", "impossible", "none found", "median", "80 % of rows", near)
    table = make_table(title, (*([by] if by else []), "planned"), figures)
    for each in slices:
        table.add_row(
            *([each.key] if by else []),
            each.role,
            "none" if each.tpot_factor is None else f"× {each.tpot_factor:g}",
            str(each.rows),
            str(each.impossible),
            str(each.none_found),
            _ratio(each.median),
            "–" if each.low is None else f"{_ratio(each.low)}–{_ratio(each.high)}",
            percent(each.near),
        )
    return table


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
