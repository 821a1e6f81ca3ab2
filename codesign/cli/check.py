"""`codesign check`: a solution file verified by the second implementation."""

from __future__ import annotations

import typer

from codesign.cli.command import VIOLATION, command, say
from codesign.cli.inputs import load, load_plan
from codesign.cli.options import Json, ProblemFile, SolutionFile
from codesign.cli.output import show, show_json


@command()
def check(
    problem: ProblemFile,
    solution: SolutionFile,
    as_json: Json = False,
) -> None:
    """Verify a solution file against its problem, independently of the optimiser."""
    loaded = load(problem)
    plan = load_plan(solution)
    from codesign.check import check as verify

    report = verify(loaded, plan)
    violations = [{"what": v.what, "limit": v.limit, "found": v.found} for v in report.violations]
    if plan.provenance.problem_sha256 != loaded.sha256:
        say(f"note: {problem} is not the very file that this plan was made from (sha256 differs)")
    if as_json:
        show_json({"ok": report.ok, "violations": violations})
    else:
        from codesign.report.violations import check_report

        show(check_report(plan, violations))
    raise typer.Exit(0 if report.ok else VIOLATION)
