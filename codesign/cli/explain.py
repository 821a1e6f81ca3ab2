"""`codesign explain`: why a plan is as it is, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.cli.command import BAD_INPUT, VIOLATION, command, say
from codesign.cli.inputs import load, load_plan
from codesign.cli.options import Json, ProblemFile
from codesign.cli.output import plain, plan_view, show, show_json, worked

if TYPE_CHECKING:
    from codesign.planner import Explanation


@command()
def explain(
    problem: ProblemFile,
    solution: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOLUTION]", help="A solution file of this problem to explain; without one it is solved first."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why there is no plan and what would help, or what binds the plan and what one more unit is worth.

    Solving takes the problem's time limit at most, explaining as long again. A relaxation is said to be verified where
    a plan of the relaxed problem was found.
    """
    loaded = load(problem)
    plan = load_plan(solution) if solution is not None else None
    from codesign.explanation.held import NotThisPlanError
    from codesign.planner import explain as account

    try:
        explanation = worked(plan_view(loaded), lambda view: account(loaded, plan, progress=view))
    except NotThisPlanError as error:
        say(f"codesign: {solution}: {error}")
        if error.violations:
            say(f"all of them: codesign check {problem} {solution}")
        raise typer.Exit(VIOLATION if error.violations else BAD_INPUT) from None
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
            "status": explanation.status,
            "conflicts": [plain(row) for row in explanation.conflicts],
            "relaxations": [plain(row) for row in explanation.relaxations],
        }
    return {
        "binding": [plain(row) for row in explanation.binding],
        "shadow_prices": [price.model_dump(by_alias=True) for price in explanation.shadow_prices],
        "not_chosen": [plain(row) for row in explanation.not_chosen],
    }
