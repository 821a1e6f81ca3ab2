"""`codesign solve`: the fleet of a problem file, or the chip of an architecture problem."""

from __future__ import annotations

import os
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.command import NO_PLAN, STATUS_CODES, InputError, command, exit_code, say
from codesign.cli.inputs import load, quantity, time_limit_seconds, writable
from codesign.cli.options import Json, ProblemFile
from codesign.cli.output import plan_view, planned, show, stderr_console, worked

if TYPE_CHECKING:
    from codesign.solution import Solution


@dataclass(frozen=True)
class SearchOptions:
    """How designs of chips are searched, where the problem is one of architecture."""

    trials: Annotated[
        int | None, typer.Option(min=1, help="Architecture problems: designs to try (the file's otherwise).")
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Architecture problems: where trials are kept; a killed search resumes."),
    ] = None
    workers: Annotated[int | None, typer.Option(min=1, help="Architecture problems: processes.")] = None

    def given(self) -> dict[str, str]:
        """The options that were given, as words of the command line."""
        return {f"--{name}": str(value) for name, value in vars(self).items() if value is not None}


@command(interrupted=NO_PLAN)
def solve(
    problem: ProblemFile,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="SOLUTION.json", help="Write the solution here.")
    ] = None,
    gap: Annotated[str | None, typer.Option(metavar="0.1%", help="Stop at this distance from the bound.")] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(metavar="60s", help="Stop after this time, enumeration, --robust and conflicts included."),
    ] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="Buy for all scenarios of the file, route in each; and its price.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Simulate the plan, and tighten and plan again until every SLO holds: beyond the time limit, which "
            "each of its plans has anew.",
        ),
    ] = False,
    alternatives: Annotated[
        int, typer.Option(min=0, max=50, metavar="N", help="Also up to N plans that differ as much as they can.")
    ] = 0,
    within: Annotated[str, typer.Option(metavar="2%", help="What an alternative may cost more than the best.")] = "2%",
    *,
    search: SearchOptions,
    as_json: Json = False,
) -> None:
    """Find the fleet of least cost (or energy, or power) that meets every SLO and limit.

    Exit code 3 says that it is proven that there is none; 4 that none was found, and none proven impossible. Ctrl-C
    ends with the best plan so far.
    """
    wanted_gap = quantity(gap, "fraction", "--gap")
    seconds = time_limit_seconds(time_limit)
    target = writable(output, problem) if output is not None else None
    from codesign.problem.load import problem_kind

    if problem_kind(problem) == "architecture":
        _solve_architecture(problem, target, output, search, as_json)
        return
    for option in search.given():
        raise InputError(f"{option}: found a procurement problem; expected one of kind architecture")
    loaded = load(problem)
    from codesign.planner import solve as plan

    words = ["codesign", "solve", problem]
    words += ["--gap", gap] if gap is not None else []
    words += ["--time-limit", time_limit] if time_limit is not None else []
    words += ["--robust"] if robust else []
    words += ["--verify"] if verify else []
    words += ["--alternatives", str(alternatives), "--within", within] if alternatives else []
    if alternatives and (robust or verify):
        raise InputError("--alternatives: found --robust or --verify beside it; expected one of them")
    allowed = quantity(within, "fraction", "--within") or 0.0
    cancel = threading.Event()
    if alternatives:
        from codesign.study.alternatives import alternatives as vary

        varied = worked(
            plan_view(loaded),
            lambda view: vary(
                loaded,
                alternatives,
                allowed,
                gap=wanted_gap,
                time_limit_s=seconds,
                progress=view,
                cancel=cancel,
                command=shlex.join(words),
            ),
            cancel,
        )
        solution = varied.best
        try:
            if target is not None:
                solution = _write_alternatives(solution, varied.plans, target)
        finally:  # a full disk must not cost the answer
            _show_solution(solution, as_json)
        if target is not None:
            say(f"wrote {output}")
        raise typer.Exit(exit_code(solution))
    solution = planned(
        plan_view(loaded),
        lambda view: plan(
            loaded,
            gap=wanted_gap,
            time_limit_s=seconds,
            progress=view,
            cancel=cancel,
            robust=robust,
            verify=verify,
            workers=os.cpu_count() or 1,
            command=shlex.join(words),
        ),
        cancel,
    )
    from codesign.report.interrupt import finishing

    with finishing():
        if cancel.is_set() and solution.solve.stopped_by is not None:
            stopped = solution.solve.model_copy(update={"stopped_by": "interrupt"})
            solution = solution.model_copy(update={"solve": stopped})
        try:
            if target is not None:
                solution.write(target)
        finally:  # a full disk must not cost the answer
            _show_solution(solution, as_json)
        if cancel.is_set() and solution.objective.gap is not None:
            say(f"stopped by Ctrl-C: the plan is within {100 * solution.objective.gap:.2f} % of the bound")
        if not solution.fleet and not solution.violations:
            say(f"why, and by how much each limit would have to give way: codesign explain {problem}")
        if target is not None:
            say(f"wrote {output}")
    raise typer.Exit(exit_code(solution))


def _solve_architecture(
    path: str,
    target: Path | None,
    output: str | None,
    search: SearchOptions,
    as_json: bool,
) -> None:
    """The `solve` of an architecture problem."""
    from codesign.architecture.search import SearchError
    from codesign.architecture.solve import UNITS, solve_architecture
    from codesign.problem.architecture import load_architecture
    from codesign.report.architecture import architecture_report
    from codesign.report.progress import ProgressView

    loaded = load_architecture(path)
    words = ["codesign", "solve", path]
    words += [word for option, value in search.given().items() for word in (option, value)]
    cancel = threading.Event()
    try:
        found = worked(
            ProgressView(stderr_console(), UNITS[loaded.objectives[0]]),
            lambda view: solve_architecture(
                loaded,
                trials=search.trials,
                storage=search.storage,
                workers=search.workers,
                progress=view,
                cancel=cancel,
                command=shlex.join(words),
            ),
            cancel,
        )
    except SearchError as error:
        raise InputError(str(error)) from None
    try:
        if target is not None:
            found.write(target)
    finally:
        if as_json:
            typer.echo(found.to_json(), nl=False)
        else:
            show(architecture_report(found))
    if target is not None:
        say(f"wrote {output}")
    raise typer.Exit(STATUS_CODES[found.status])


def _show_solution(solution: Solution, as_json: bool) -> None:
    if as_json:
        typer.echo(solution.to_json(), nl=False)
    else:
        from codesign.report.plan import plan_report

        show(plan_report(solution))


def _write_alternatives(best: Solution, plans: tuple[Solution, ...], target: Path) -> Solution:
    """Write the alternatives beside the best plan's file, then that, which names them."""
    named = []
    for number, (item, plan) in enumerate(zip(best.alternatives, plans, strict=True), 1):
        path = target.with_name(f"{target.stem}.alternative-{number}{target.suffix}")
        plan.write(path)
        named.append(item.model_copy(update={"solution": path.name}))
    best = best.model_copy(update={"alternatives": tuple(named)})
    best.write(target)
    return best
