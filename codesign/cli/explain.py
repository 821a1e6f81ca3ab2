"""`codesign explain`: why a plan is as it is, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.cli.command import command, say
from codesign.cli.inputs import load
from codesign.cli.options import Json, ProblemFile
from codesign.cli.output import plain, plan_view, show, show_json, worked

if TYPE_CHECKING:
    from codesign.planner import Explanation


@command()
def explain(problem: ProblemFile, as_json: Json = False) -> None:
    """Say why there is no plan, or what binds the plan and what one more unit is worth."""
    loaded = load(problem)
    from codesign.planner import explain as account

    explanation = worked(plan_view(loaded), lambda view: account(loaded, progress=view))
    if as_json:
        show_json(_explanation(explanation))
        for note in explanation.notes:
            say(f"note: {note}")
    else:
        from codesign.report.explanation import explanation_report

        show(explanation_report(explanation))


def _explanation(explanation: Explanation) -> dict[str, Any]:
    """The JSON document of an explanation: one of two sets of fields."""
    if not explanation.feasible:
        return {
            "conflicts": [plain(row) for row in explanation.conflicts],
            "relaxations": [plain(row) for row in explanation.relaxations],
        }
    return {
        "binding": [plain(row) for row in explanation.binding],
        "shadow_prices": [price.model_dump(by_alias=True) for price in explanation.shadow_prices],
        "not_chosen": [plain(row) for row in explanation.not_chosen],
    }
