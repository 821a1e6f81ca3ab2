"""`codesign simulate`: a plan run request by request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.command import VIOLATION, InputError, command, say
from codesign.cli.inputs import load, load_plan, plots_refused, quantity, unknown
from codesign.cli.options import Json, Plots, ProblemFile, SolutionFile
from codesign.cli.output import show, stderr_console, worked

if TYPE_CHECKING:
    from codesign.problem import Problem
    from codesign.simulate import Replay


@command()
def simulate(
    problem: ProblemFile,
    solution: SolutionFile,
    duration: Annotated[str, typer.Option(metavar="10min", help="Simulated time, warm-up included.")] = "10min",
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
    burstiness: Annotated[
        float, typer.Option(metavar="CV", min=0.0, help="CV of the gaps between arrivals: 1 is Poisson, 2 bursty.")
    ] = 1.0,
    trace: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="A task's calls from a trace (CSV or JSON lines), at the plan's rate."),
    ] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option(metavar="POOL@TIME", help="Lose a server of a pool at a time, such as decode@5min; repeatable."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="A period (and scenario) of the plan; default: each.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes; default: one a core.")] = None,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Run a plan's fleet under random arrivals, request by request: do its SLOs hold at their percentiles?"""
    seconds = quantity(duration, "time", "--duration")
    loaded, plan = load(problem), load_plan(solution)
    from codesign.report.progress import ShareView
    from codesign.report.simulation import PlotsMissingError, simulation_report, write_plots
    from codesign.simulate import Arrivals, SimulationError, server_lost
    from codesign.simulate import simulate as run

    try:
        arrivals = Arrivals(burstiness, dict(_replay(loaded, text) for text in trace or ()))
    except ValueError as error:
        raise InputError(f"--burstiness: {error}") from None
    try:
        failures = [server_lost(loaded, plan, *_pool_and_time(text), stage) for text in fail or ()]
        report = worked(
            ShareView(stderr_console(), "simulating"),
            lambda view: run(
                loaded,
                plan,
                duration_s=seconds or 0.0,
                seed=seed,
                arrivals=arrivals,
                failures=failures,
                stage=stage,
                workers=workers or os.cpu_count() or 1,
                progress=view,
            ),
        )
    except SimulationError as error:
        raise InputError(str(error)) from None
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        show(simulation_report(report))
    if plots is not None:
        try:
            written = write_plots(report, plots)
        except PlotsMissingError as error:
            raise InputError(str(error)) from None
        except OSError as error:
            raise plots_refused(plots, error) from None
        for path in written:
            say(f"wrote {path}")
    raise typer.Exit(0 if report.ok else VIOLATION)


def _replay(problem: Problem, text: str) -> tuple[str, Replay]:
    """`TASK=FILE` as (task, its calls)."""
    from codesign.problem.sessions import read_trace_requests
    from codesign.problem.trace import TraceError
    from codesign.simulate import Replay

    names = [each.name for each in problem.tasks]
    own = max((name for name in names if text.startswith(f"{name}=")), key=len, default="")  # a name may hold a "="
    task, equals, path = (own, "=", text[len(own) + 1 :]) if own else text.partition("=")
    if not (task and equals and path):
        raise InputError(f"--trace: found {text!r}; expected a task and a file, such as chat=requests.csv")
    if task not in names:
        raise InputError(f"--trace: {unknown('task', task, names)}")
    try:
        return task, Replay(read_trace_requests(Path(path)))
    except TraceError as error:
        where = f", line {error.line}" if error.line else ""
        raise InputError(f"--trace: {path}{where}: found {error.found}; expected {error.expected}") from None


def _pool_and_time(text: str) -> tuple[str, float]:
    """`POOL@TIME` as (pool, seconds)."""
    pool, at, time = text.rpartition("@")
    if not (pool and at):
        raise InputError(f"--fail: found {text!r}; expected a pool and a time, such as decode@5min")
    seconds = quantity(time, "time", "--fail")
    assert seconds is not None
    return pool, seconds
