"""`codesign export`: a plan for serving engines, a MILP for other solvers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import load, output_refused, writable
from codesign.cli.options import RecordedProblem

if TYPE_CHECKING:
    from codesign.problem import Problem


@command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="SOLUTION|PROBLEM", help="A solution; for mps and lp its problem too.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="vllm, sglang, dynamo, llm-d, mps or lp.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|FILE", help="A directory; for mps and lp a file.")
    ],
    problem: RecordedProblem = None,
) -> None:
    """Write a plan as launch commands, manifests and router weights of an engine, or its MILP for another solver."""
    if to in ("mps", "lp"):
        _export_milp(source, to, output, problem)
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


def _export_milp(source: str, kind: str, output: str, problem: str | None) -> None:
    if _is_solution(source):
        target = writable(output, source, "solution")
        loaded = _problem_of(source, problem)
    else:
        target = writable(output, source)
        loaded = load(source)
    from pyomo.common.errors import InfeasibleConstraintException

    from codesign.candidates.build import build_candidates
    from codesign.export import write_milp
    from codesign.optimize.equilibrate import RangeError
    from codesign.optimize.fleet import solve_fleet
    from codesign.problem import resolve
    from codesign.report.interrupt import interruptible

    candidates = build_candidates(resolve(loaded), bounded=False)
    options = candidates.instance.options
    cancel = threading.Event()
    plan = interruptible(
        lambda: solve_fleet(
            candidates.data, options.gap, options.time_limit_s, options.threads, options.seed, cancel=cancel
        ),
        cancel,
        say,
    )
    try:
        written = write_milp(candidates.data, plan, target, kind)
    except (RangeError, InfeasibleConstraintException) as error:
        raise InputError(f"{source}: its MILP cannot be written: {error}") from None
    except OSError as error:
        raise output_refused(output, "file", error) from None
    say(f"wrote {output}: {written.columns:,} of {candidates.data.columns:,} columns")
    if plan.replicas:
        times = "" if written.factor == 1.0 else f" (its objective is that of the problem times {written.factor:.10g})"
        most = plan.objective * written.factor
        say(f"its optimum is at most {most:.10g}, the plan found here ({plan.status}){times}")


def _is_solution(source: str) -> bool:
    """Is it a solution file rather than a problem?"""
    try:
        told = json.loads(Path(source).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and "provenance" in told


def _problem_of(source: str, problem: str | None) -> Problem:
    """The problem that a solution was made from."""
    from codesign.report.page import ReportError, read_plan

    try:
        plan = read_plan(source, problem)
    except ReportError as error:
        raise InputError(str(error)) from None
    if plan.problem is None:
        raise InputError(
            f"{source} is a solution; its MILP is made from the problem file, and the one that its recorded command "
            "names is not there or has changed since (sha256 differs); expected --problem FILE, or the problem file "
            "in place of the solution"
        )
    return plan.problem
