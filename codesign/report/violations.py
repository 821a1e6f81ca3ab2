"""What an independent check found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from codesign.report.console import amount, line, make_table
from codesign.solution import Solution


def check_report(solution: Solution, violations: Sequence[Mapping[str, Any]]) -> Group:
    """The verdict on a plan, and what is broken with the limit and what was found."""
    value = amount(solution.objective.value, solution.objective.unit)
    if not violations:
        verdict = f"ok: {solution.provenance.problem}, {solution.objective.name} {value}, {solution.status}: "
        return Group(line(verdict + "every check holds.", "bold green"))
    return Group(violation_table(violations))


def violation_table(violations: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each requirement that is broken."""
    table = make_table(f"{len(violations)} violations", ("what",), ("limit", "found"))
    for violation in violations:
        table.add_row(str(violation["what"]), _figure(violation["limit"]), _figure(violation["found"]))
    return table


def _figure(value: Any) -> str:
    return f"{value:,.8g}" if isinstance(value, float) else str(value)
