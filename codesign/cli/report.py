"""`codesign report`: plans as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import writable
from codesign.cli.options import RecordedProblem
from codesign.cli.output import plan_view, worked


@command()
def report(
    source: Annotated[
        str,
        typer.Argument(metavar="SOLUTION|DIR", help="A solution file (plan or chip), or a folder (front or sweep)."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="REPORT.html", help="Write the page here.")
    ] = "report.html",
    problem: RecordedProblem = None,
    why_not: Annotated[
        bool, typer.Option("--why-not", help="Plan again to say why the other parts stayed out (one solution).")
    ] = False,
    simulated: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Output of `simulate --json` of this plan; repeatable (periods, seeds)."),
    ] = None,
) -> None:
    """Write a plan, or a folder of plans, as one HTML page that needs no network."""
    target = writable(output, source, "solution")
    from codesign.report.page import (
        ReportError,
        read_architecture,
        read_front,
        read_plans,
        read_simulated,
        render_architecture,
        render_report,
        write_report,
    )

    try:
        designed = read_architecture(source)
        if designed is not None:
            if problem is not None or why_not or simulated:
                raise ReportError(f"{source}: found designed chips; expected no --problem, --why-not or --simulated")
            write_report(render_architecture(designed, Path(source).stem), target)
            say(f"wrote {output}")
            return
        plans = read_plans(source, problem)
        if simulated and len(plans) > 1:
            raise ReportError("--simulated: found several plans; expected one solution")
        front = read_front(source)
        runs = read_simulated(simulated or (), plans[0].solution)
    except ReportError as error:
        raise InputError(str(error)) from None
    explanation = None
    if why_not:
        if len(plans) > 1 or plans[0].problem is None:
            raise InputError(
                "--why-not: found no problem file of one solution; expected one solution, with --problem FILE"
            )
        from codesign.planner import explain as account

        wanted = plans[0].problem
        explanation = worked(plan_view(wanted), lambda view: account(wanted, progress=view))
    title = Path(source).resolve().name if len(plans) > 1 else ""
    write_report(render_report(plans, title, explanation, runs, front), target)
    say(f"wrote {output}")
