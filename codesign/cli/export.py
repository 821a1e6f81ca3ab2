"""`codesign export`: a plan for serving engines, a MILP for other solvers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import load, output_refused, writable
from codesign.cli.options import RecordedProblem


@command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="SOLUTION|PROBLEM", help="A solution for an engine; a problem file for mps and lp.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="vllm, sglang, dynamo, llm-d, mps or lp.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|FILE", help="A directory; for mps and lp a file.")
    ],
    problem: RecordedProblem = None,
) -> None:
    """Write a plan as launch commands, manifests and router weights of an engine, or its MILP for another solver."""
    if to in ("mps", "lp"):
        _export_milp(source, to, output)
        return
    from codesign.export import ExportError, deployment, write_files
    from codesign.problem import resolve
    from codesign.report.page import ReportError, read_plan

    try:
        plan = read_plan(source, problem)
        if plan.problem is None:
            raise InputError(f"{source}: found no problem file by its recorded command; expected --problem FILE")
        files = deployment(plan.solution, resolve(plan.problem), to)
    except (ReportError, ExportError) as error:
        raise InputError(str(error)) from None
    try:
        write_files(files, output)
    except OSError as error:
        raise output_refused(output, "directory", error) from None
    say(f"wrote {len(files)} files to {output}; start with {Path(output) / 'README.md'}")


def _export_milp(source: str, kind: str, output: str) -> None:
    target = writable(output, source)
    loaded = load(source)
    from codesign.candidates.build import build_candidates
    from codesign.export import write_milp
    from codesign.optimize.fleet import solve_fleet
    from codesign.problem import resolve
    from codesign.report.interrupt import interruptible

    candidates = build_candidates(resolve(loaded))
    options = candidates.instance.options
    cancel = threading.Event()
    plan = interruptible(
        lambda: solve_fleet(
            candidates.data, options.gap, options.time_limit_s, options.threads, options.seed, cancel=cancel
        ),
        cancel,
        say,
    )
    columns = write_milp(candidates.data, plan, target, kind)
    say(f"wrote {output}: {columns:,} of {candidates.data.columns:,} columns")
    if plan.replicas:
        say(f"its optimum is at most {plan.objective:.10g}, the plan found here ({plan.status})")
