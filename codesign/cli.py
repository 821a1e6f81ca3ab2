"""The command line of codesign: `codesign --help` lists its commands.

Exit codes: 0 done, 2 bad input, 3 infeasible, 4 a limit came before a plan, 5 `check` or `simulate` found a violation,
1 anything unexpected.  Results go to standard output, all else to standard error.  Heavy imports stand inside the
commands, so that `codesign --help` answers at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.report.interrupt import interruptible, still_working

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from codesign.planner import Explanation
    from codesign.problem import Problem
    from codesign.simulate import Replay
    from codesign.solution import Solution

BAD_INPUT, INFEASIBLE, NO_PLAN, VIOLATION, UNEXPECTED = 2, 3, 4, 5, 1
INTERRUPTED = 130
"""128 + SIGINT, as shells have it; an interrupted `solve` without a plan is NO_PLAN."""

_STATUS_CODES = {"optimal": 0, "feasible": 0, "infeasible": INFEASIBLE, "no_solution": NO_PLAN}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 2 bad input, 3 infeasible, 4 no plan within the limit, 5 violation, 1 unexpected.",
)

ProblemFile = Annotated[str, typer.Argument(metavar="PROBLEM", help="The problem file (YAML).")]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON document.")]
Folder = Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder of the results.")]
Gap = Annotated[str | None, typer.Option(metavar="1%", help="For each plan: stop at this distance from the bound.")]
TimeLimit = Annotated[str | None, typer.Option(metavar="20s", help="For each plan: stop after this time.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Local processes; default: as many as there are cores, up to 8.")
]
Dask = Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="A Dask scheduler, in place of them.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]


class InputError(ValueError):
    """What the user gave cannot be used; the message says what was found and what would be right."""


def main() -> None:
    """Run the command line of this process."""
    _reserve_standard_output()
    try:
        app(prog_name="codesign")
    except SystemExit as end:
        if still_working():
            # Interrupted: the interpreter cannot end in order while a solver's threads are at work.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else UNEXPECTED)
        raise


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"codesign {version('codesign')}")
        raise typer.Exit


@app.callback()
def codesign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Which accelerators to buy for AI agents, how many, and how to configure them; with proof."""


@app.command()
def init(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PROBLEM.yaml", help="Write the problem file here.")
    ] = "problem.yaml",
    name: Annotated[str, typer.Option(metavar="NAME", help="What plans call it.")] = "my-fleet",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="PRESET=RATE", help="Such as coding=2/s, of `codesign catalog workloads`; repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Of `codesign catalog models`.")] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="PART,PART", help="Of `codesign catalog accelerators`.")
    ] = None,
    power: Annotated[str | None, typer.Option(metavar="2MW", help="Provisioned power of the site.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    debug: Debug = False,
) -> None:
    """Write a commented problem file from a few flags; on a terminal, what is missing is asked."""
    with _reported(debug):
        if Path(output).exists() and not force:
            raise InputError(f"--output: found the file {output!r}; expected a new path, or --force")
        target = _writable(output, "")
        assert target is not None
        from codesign.files import write_atomically
        from codesign.problem import resolve
        from codesign.problem.load import problem_from_text
        from codesign.problem.starter import Answers, StarterError, starter

        asks = sys.stdin.isatty()
        first = Answers()
        tasks = dict(_setting(words, "--task", "coding=2/s") for words in task or ())
        if not tasks:
            answer = typer.prompt("Tasks, as preset=rate", "chat=10/s", err=True) if asks else "chat=10/s"
            tasks = dict(_setting(words.strip(), "--task", "coding=2/s") for words in answer.split(","))
        if model is None:
            model = typer.prompt("Model", first.model, err=True) if asks else first.model
        if hardware is None:
            parts = ",".join(first.hardware)
            hardware = typer.prompt("Accelerators to choose from", parts, err=True) if asks else parts
        if power is None and asks:
            power = typer.prompt("Power of the site (empty: no limit)", "", err=True) or None
        chosen = tuple(part.strip() for part in hardware.split(","))
        try:
            text = starter(Answers(name, tasks, model, chosen, power))
        except StarterError as error:
            raise InputError(str(error)) from None
        resolve(problem_from_text(text, output))  # what is written can be planned, or is refused here
        write_atomically(target, text)
        _say(f"wrote {output}; next: codesign solve {shlex.quote(output)} -o plan.json")


def _setting(words: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = words.partition("=")
    if not (key and equals and value):
        raise InputError(f"{option}: found {words!r}; expected a name and a value, such as {example}")
    return key, value


@app.command()
def solve(
    problem: ProblemFile,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="SOLUTION.json", help="Write the solution here.")
    ] = None,
    gap: Annotated[str | None, typer.Option(metavar="0.1%", help="Stop at this distance from the bound.")] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="60s", help="Stop after this time.")] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Plan again on grids twice as fine: what do the grids cost?")
    ] = False,
    robust: Annotated[
        bool, typer.Option("--robust", help="Buy for all scenarios of the file, route in each; and its price.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Simulate the plan, and tighten and plan again until every SLO holds.")
    ] = False,
    alternatives: Annotated[
        int, typer.Option(min=0, max=50, metavar="N", help="Also up to N plans that differ as much as they can.")
    ] = 0,
    within: Annotated[str, typer.Option(metavar="2%", help="What an alternative may cost more than the best.")] = "2%",
    trials: Annotated[
        int | None, typer.Option(min=1, help="Architecture problems: designs to try (the file's otherwise).")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Architecture problems: where trials are kept; a killed search resumes."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Architecture problems: processes.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the fleet of least cost (or energy, or power) that meets every SLO and limit."""
    with _reported(debug, interrupted=NO_PLAN):
        wanted_gap = _quantity(gap, "fraction", "--gap")
        seconds = _time_limit(time_limit)
        target = _writable(output, problem)
        from codesign.problem.architecture import problem_kind

        if problem_kind(problem) == "architecture":
            _solve_architecture(problem, target, output, trials, storage, workers, as_json)
            return
        for option, value in (("--trials", trials), ("--storage", storage), ("--workers", workers)):
            if value is not None:
                raise InputError(f"{option}: found a procurement problem; expected one of kind architecture")
        loaded = _load(problem)
        from codesign.planner import solve as plan

        words = ["codesign", "solve", problem]
        words += ["--gap", gap] if gap is not None else []
        words += ["--time-limit", time_limit] if time_limit is not None else []
        words += ["--refine"] if refine else []
        words += ["--robust"] if robust else []
        words += ["--verify"] if verify else []
        words += ["--alternatives", str(alternatives), "--within", within] if alternatives else []
        if alternatives and (robust or refine or verify):
            raise InputError("--alternatives: found --robust, --refine or --verify beside it; expected one of them")
        allowed = _quantity(within, "fraction", "--within") or 0.0
        cancel = threading.Event()
        if alternatives:
            from codesign.study.alternatives import alternatives as vary

            with _progress(loaded) as view:
                varied = interruptible(
                    lambda: vary(
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
                    _say,
                )
            solution = varied.best
            if target is not None:
                solution = _write_alternatives(solution, varied.plans, target)
                _say(f"wrote {output}")
            _show_solution(solution, as_json)
            raise typer.Exit(_STATUS_CODES[solution.status])
        with _progress(loaded) as view:
            solution = interruptible(
                lambda: plan(
                    loaded,
                    gap=wanted_gap,
                    time_limit_s=seconds,
                    progress=view,
                    cancel=cancel,
                    refine=refine,
                    robust=robust,
                    verify=verify,
                    workers=os.cpu_count() or 1,
                    command=shlex.join(words),
                ),
                cancel,
                _say,
            )
        try:
            if target is not None:
                solution.write(target)
        finally:  # a full disk must not cost the answer
            _show_solution(solution, as_json)
        if cancel.is_set() and solution.objective.gap is not None:
            _say(f"stopped by Ctrl-C: the plan is within {100 * solution.objective.gap:.2f} % of the bound")
        if solution.status == "infeasible":
            _say(f"why, and by how much each limit would have to give way: codesign explain {problem}")
        if target is not None:
            _say(f"wrote {output}")
        raise typer.Exit(_STATUS_CODES[solution.status])


def _solve_architecture(
    path: str,
    target: Path | None,
    output: str | None,
    trials: int | None,
    storage: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """The `solve` of an architecture problem."""
    from codesign.architecture.search import SearchError
    from codesign.architecture.solve import UNITS, solve_architecture
    from codesign.problem.architecture import load_architecture
    from codesign.report.architecture import architecture_report
    from codesign.report.console import make_console
    from codesign.report.progress import ProgressView

    loaded = load_architecture(path)
    words = ["codesign", "solve", path]
    given = {"--trials": trials, "--storage": storage, "--workers": workers}
    words += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    cancel = threading.Event()
    try:
        with ProgressView(make_console(stderr=True), UNITS[loaded.objectives[0]]) as view:
            found = interruptible(
                lambda: solve_architecture(
                    loaded,
                    trials=trials,
                    storage=storage,
                    workers=workers,
                    progress=view,
                    cancel=cancel,
                    command=shlex.join(words),
                ),
                cancel,
                _say,
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
            _print(architecture_report(found))
    if target is not None:
        _say(f"wrote {output}")
    raise typer.Exit(_STATUS_CODES[found.status])


@app.command()
def pareto(
    problem: ProblemFile,
    output: Folder,
    objectives: Annotated[
        str,
        typer.Option(metavar="A,B[,C]", help="Of cost, energy, carbon, power, cost_per_hour, latency, robustness."),
    ] = "cost,energy",
    points: Annotated[int, typer.Option(min=2, max=10_000, help="Plans on the frontier, about.")] = 20,
    gap: Gap = None,
    time_limit: TimeLimit = None,
    workers: Workers = None,
    dask: Dask = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the frontier of two or three objectives, each point with its own bound.

    Finished points are kept in DIR: the same command goes on where a stopped one ended.
    """
    with _reported(debug):
        folder = _folder(output)
        seconds = _time_limit(time_limit)
        loaded = _load(problem)
        from codesign.report.studies import front_report, plot_front
        from codesign.study.axes import parse_axes
        from codesign.study.pareto import pareto as trace

        names = objectives.split(",")
        try:
            parse_axes(names)
        except ValueError as error:
            raise InputError(f"--objectives: {error}") from None
        wanted_gap = _quantity(gap, "fraction", "--gap")
        cancel = threading.Event()
        with _study("points") as view:
            front = interruptible(
                lambda: trace(
                    loaded,
                    names,
                    points,
                    directory=folder,
                    workers=workers or _cores(),
                    dask=dask,
                    gap=wanted_gap,
                    time_limit_s=seconds,
                    progress=view,
                    cancel=cancel,
                ),
                cancel,
                _say,
            )
            written = front.write(folder) + plot_front(front, folder)
        _print_json(front.to_dict()) if as_json else _print(front_report(front))
        _say(f"wrote {len(written)} files to {output}")
        raise typer.Exit(_STATUS_CODES[front.status])


@app.command()
def sweep(
    problem: ProblemFile,
    output: Folder,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=V1,V2,...", help="Or PATH=LOW..HIGH:COUNT; repeatable."),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A YAML file of values by path; each is combined with all settings."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="First values with first values, … instead of every combination.")
    ] = False,
    breakpoints: Annotated[
        bool, typer.Option("--breakpoints", help="Find where the plan changes between two values, by bisection.")
    ] = False,
    watch: Annotated[
        str, typer.Option(metavar="accelerators|pools|counts", help="What makes it another plan.")
    ] = "accelerators",
    parquet: Annotated[bool, typer.Option("--parquet", help="Also runs.parquet (needs the extra `tables`).")] = False,
    gap: Gap = None,
    time_limit: TimeLimit = None,
    workers: Workers = None,
    dask: Dask = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Plan the problem for many values of its fields, as one table.

    Finished runs are kept in DIR: the same command goes on where a stopped one ended.
    """
    with _reported(debug):
        folder = _folder(output)
        seconds = _time_limit(time_limit)
        loaded = _load(problem)
        from codesign.report.studies import plot_sweep, sweep_report
        from codesign.study.settings import grid, listed, parse_setting, read_scenario
        from codesign.study.sweep import WATCHED
        from codesign.study.sweep import sweep as run

        if watch not in WATCHED:
            raise InputError(f"--watch: {_unknown('word', watch, WATCHED)}")
        if not settings and not scenario:
            raise InputError("found neither --set nor --scenario; expected one, such as --set tasks.chat.rate=1/s,2/s")
        try:
            wanted = dict(parse_setting(text) for text in settings or ())
            combined = listed(wanted) if together else grid(wanted)
            scenarios = dict(read_scenario(path) for path in scenario or ())
        except ValueError as error:
            raise InputError(str(error)) from None
        if parquet:
            _need("pyarrow", "tables", "--parquet")
        wanted_gap = _quantity(gap, "fraction", "--gap")
        cancel = threading.Event()
        with _study("runs") as view:
            found = interruptible(
                lambda: run(
                    loaded,
                    combined,
                    scenarios=scenarios or None,
                    breakpoints=breakpoints,
                    watch=watch,
                    directory=folder,
                    workers=workers or _cores(),
                    dask=dask,
                    gap=wanted_gap,
                    time_limit_s=seconds,
                    progress=view,
                    cancel=cancel,
                ),
                cancel,
                _say,
            )
            written = found.write(folder, parquet) + plot_sweep(found, folder)
        _print_json(found.to_dict()) if as_json else _print(sweep_report(found))
        _say(f"wrote {len(written)} files to {output}")


@app.command()
def check(
    problem: ProblemFile,
    solution: Annotated[str, typer.Argument(metavar="SOLUTION", help="The solution file (JSON).")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Verify a solution file against its problem, independently of the optimiser."""
    with _reported(debug):
        loaded = _load(problem)
        plan = _load_solution(solution)
        from codesign.check import check as verify

        report = verify(loaded, plan)
        violations = [{"what": v.what, "limit": v.limit, "found": v.found} for v in report.violations]
        if plan.provenance.problem_sha256 != loaded.sha256:
            _say(f"note: {problem} is not the very file that this plan was made from (sha256 differs)")
        if as_json:
            _print_json({"ok": report.ok, "violations": violations})
        else:
            from codesign.report.violations import check_report

            _print(check_report(plan, violations))
        raise typer.Exit(0 if report.ok else VIOLATION)


@app.command()
def simulate(
    problem: ProblemFile,
    solution: Annotated[str, typer.Argument(metavar="SOLUTION", help="The solution file (JSON).")],
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
        str | None, typer.Option(metavar="NAME", help="A period (and scenario) of the plan; default: the busiest.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes; default: one a core.")] = None,
    plots: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write plots over time here (needs the extra `plots`).")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a plan's fleet under random arrivals, request by request: do its SLOs hold at their percentiles?"""
    with _reported(debug):
        seconds = _quantity(duration, "time", "--duration")
        loaded, plan = _load(problem), _load_solution(solution)
        from codesign.report.progress import ShareView
        from codesign.report.simulation import PlotsMissingError, simulation_report, write_plots
        from codesign.simulate import Arrivals, SimulationError, server_lost
        from codesign.simulate import simulate as run

        try:
            arrivals = Arrivals(burstiness, dict(_replay(loaded, text) for text in trace or ()))
        except ValueError as error:
            raise InputError(f"--burstiness: {error}") from None
        with ShareView(_stderr_console(), "simulating") as view:
            try:
                failures = [server_lost(loaded, plan, *_pool_and_time(text), stage) for text in fail or ()]
                report = interruptible(
                    lambda: run(
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
                    None,
                    _say,
                )
            except SimulationError as error:
                raise InputError(str(error)) from None
        if as_json:
            typer.echo(report.to_json(), nl=False)
        else:
            _print(simulation_report(report))
        if plots is not None:
            try:
                written = write_plots(report, plots)
            except PlotsMissingError as error:
                raise InputError(str(error)) from None
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise InputError(f"--plots: found {plots!r} ({reason}); expected a directory to write to") from None
            for path in written:
                _say(f"wrote {path}")
        raise typer.Exit(0 if report.ok else VIOLATION)


@app.command()
def explain(problem: ProblemFile, as_json: Json = False, debug: Debug = False) -> None:
    """Say why there is no plan, or what binds the plan and what one more unit is worth."""
    with _reported(debug):
        loaded = _load(problem)
        from codesign.planner import explain as account

        with _progress(loaded) as view:
            explanation = interruptible(lambda: account(loaded, progress=view), None, _say)
        if as_json:
            _print_json(_explanation(explanation))
            for note in explanation.notes:
                _say(f"note: {note}")
        else:
            from codesign.report.explanation import explanation_report

            _print(explanation_report(explanation))


@app.command()
def profile(
    problem: ProblemFile,
    batch: Annotated[str, typer.Option(metavar="1,16,64", help="Batch sizes.")] = "1,16,64",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show operational intensity, capacity footprint and regime of every task, before anything is solved."""
    with _reported(debug):
        batches = _batches(batch)
        loaded = _load(problem)
        from codesign.problem import resolve
        from codesign.workload.profile import profile as measure

        result = measure(resolve(loaded), batches)
        if as_json:
            _print_json(result.to_dict())
        else:
            from codesign.report.profile import profile_report

            _print(profile_report(result))


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(metavar="SOLUTION|DIR", help="A solution file, or a folder of them (a front, a sweep).")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="REPORT.html", help="Write the page here.")
    ] = "report.html",
    problem: Annotated[
        str | None,
        typer.Option(metavar="PROBLEM", help="The problem file, where the recorded command does not name it."),
    ] = None,
    why_not: Annotated[
        bool, typer.Option("--why-not", help="Plan again to say why the other parts stayed out (one solution).")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a plan, or a folder of plans, as one HTML page that needs no network."""
    with _reported(debug):
        target = _writable(output, source, "solution")
        from codesign.report.page import ReportError, read_plans, render_report, write_report

        try:
            plans = read_plans(source, problem)
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
            with _progress(wanted) as view:
                explanation = interruptible(lambda: account(wanted, progress=view), None, _say)
        assert target is not None
        title = Path(source).resolve().name if len(plans) > 1 else ""
        write_report(render_report(plans, title, explanation), target)
        _say(f"wrote {output}")


@app.command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="SOLUTION|PROBLEM", help="A solution for an engine; a problem file for mps and lp.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="vllm, sglang, dynamo, llm-d, mps or lp.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|FILE", help="A directory; for mps and lp a file.")
    ],
    problem: Annotated[
        str | None,
        typer.Option(metavar="PROBLEM", help="The problem file, where the recorded command does not name it."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a plan as launch commands, manifests and router weights of an engine, or its MILP for another solver."""
    with _reported(debug):
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
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--output: found {output!r} ({reason}); expected a directory to write to") from None
        _say(f"wrote {len(files)} files to {output}; start with {Path(output) / 'README.md'}")


def _export_milp(source: str, kind: str, output: str) -> None:
    target = _writable(output, source)
    loaded = _load(source)
    from codesign.candidates.build import build_candidates
    from codesign.export import write_milp
    from codesign.optimize.fleet import solve_fleet
    from codesign.problem import resolve

    candidates = build_candidates(resolve(loaded))
    options = candidates.instance.options
    cancel = threading.Event()
    plan = interruptible(
        lambda: solve_fleet(
            candidates.data, options.gap, options.time_limit_s, options.threads, options.seed, cancel=cancel
        ),
        cancel,
        _say,
    )
    assert target is not None
    columns = write_milp(candidates.data, plan, target, kind)
    _say(f"wrote {output}: {columns:,} of {candidates.data.columns:,} columns")
    if plan.replicas:
        _say(f"its optimum is at most {plan.objective:.10g}, the plan found here ({plan.status})")


@app.command()
def catalog(
    section: Annotated[
        str | None,
        typer.Argument(metavar="SECTION", help="accelerators, models, memory, links, workloads or prices."),
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="An entry to show.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the catalogue, or show an entry with its sources."""
    with _reported(debug):
        from codesign.report.catalogue import SECTIONS, cited_sources, entry_report, listing, overview

        if section is None:
            names = {each: list(part.entries()) for each, part in SECTIONS.items()}
            _print_json(names) if as_json else _print(overview())
            return
        if section not in SECTIONS:
            home = next((each for each, part in SECTIONS.items() if section in part.entries()), None)
            hint = f" (try: codesign catalog {home} {section})" if home else ""
            raise InputError(f"{_unknown('section', section, SECTIONS)}{hint}")
        entries = SECTIONS[section].entries()
        if name is None:
            if as_json:
                _print_json([entry.model_dump(mode="json") for entry in entries.values()])
            else:
                _print(listing(section))
            return
        if name not in entries:
            raise InputError(_unknown(SECTIONS[section].noun, name, entries))
        entry = entries[name]
        if as_json:
            cited = {code: source.model_dump(mode="json") for code, source in cited_sources(entry).items()}
            _print_json(entry.model_dump(mode="json") | {"cited": cited})
        else:
            _print(entry_report(section, entry))


@app.command()
def validate(
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Measured rows (CSV or CSV.gz); repeatable. Default: the shipped ones."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(metavar="FILE", help="Published names and their catalogue ids (CSV).")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="An engine profile (see `calibrate`).")
    ] = None,
    plots: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write scatter plots here (needs the extra `plots`).")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict measured serving and energy rows, and show how far off the model is."""
    with _reported(debug):
        from codesign.performance.profile import read_profile
        from codesign.validation.commands import validate as score
        from codesign.validation.measured import DataError
        from codesign.validation.plots import PlotsMissingError, write_plots

        try:
            profile = read_profile(engine) if engine is not None else None
        except ValueError as error:
            raise InputError(f"--profile: {error}") from None
        try:
            found = score(data or (), names, profile)
            written = write_plots(found.comparisons, plots) if plots is not None else []
        except (DataError, PlotsMissingError) as error:
            raise InputError(str(error)) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--plots: found {plots!r} ({reason}); expected a directory to write to") from None
        if as_json:
            _print_json(found.to_dict())
        else:
            from codesign.report.validation import validation_report

            _print(validation_report(found))
        for path in written:
            _say(f"wrote {path}")


@app.command()
def calibrate(
    bench: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="3 to 5 points (CSV, JSON), or results of vllm bench serve, GuideLLM, InferenceX; repeatable.",
        ),
    ],
    stack: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="What results lack: accelerator, model, precision, tp; repeatable."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PROFILE.yaml", help="Write the profile here.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What a plan calls it.")] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make an engine profile from a few measured points of your own stack, for `options.profile`."""
    with _reported(debug):
        target = _writable(output, bench[0], "bench")
        stated = dict(_setting(words, "--stack", "accelerator=h200-sxm") for words in stack or ())
        from codesign.performance.profile import write_profile
        from codesign.validation.commands import calibrate as fit
        from codesign.validation.measured import DataError

        try:
            found = fit(bench, name, stated)
        except DataError as error:
            raise InputError(str(error)) from None
        if target is not None:
            write_profile(found.profile, target)
        if as_json:
            _print_json(
                {
                    "profile": found.profile.to_dict(),
                    "points": [
                        {"measured_ms": m, "default_ms": b, "calibrated_ms": a}
                        for m, b, a in zip(found.measured_ms, found.before_ms, found.after_ms, strict=True)
                    ],
                    "median_error": {"default": found.median_before, "calibrated": found.median_after},
                }
            )
        else:
            from codesign.report.validation import calibration_report

            _print(calibration_report(found))
        if target is not None:
            _say(f"wrote {output}")


@app.command()
def bench(
    results: Annotated[
        list[str],
        typer.Argument(metavar="TASK=FILE...", help="Results of vllm bench serve, GuideLLM or InferenceX, by task."),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the measured pool.")],
    accelerator: Annotated[str, typer.Option(metavar="PART", help="What it ran on (any name).")],
    cost: Annotated[str, typer.Option(metavar="23.2$/h", help="Of one such deployment.")],
    accelerators: Annotated[int, typer.Option(min=1, metavar="N", help="Of one such deployment.")] = 1,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC.PERCENTILE=TIME", help="Such as ttft.p99=1s or tpot.p95=50ms; repeatable."),
    ] = None,
    calls: Annotated[
        list[str] | None, typer.Option(metavar="TASK=N", help="Requests of one task; 1 where not said; repeatable.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn benchmark results into a measured pool: the rate of each task that keeps the SLOs."""
    with _reported(debug):
        from codesign.validation.measured import DataError
        from codesign.validation.results import read_results, sustained_rate

        files: dict[str, list[str]] = {}
        for task, path in (_setting(words, "TASK=FILE", "chat=run-64.json") for words in results):
            files.setdefault(task, []).append(path)
        promised: dict[str, dict[float, float]] = {"ttft": {}, "tpot": {}}
        for key, value in (_setting(words, "--slo", "ttft.p99=1s") for words in slo or ()):
            asked = re.fullmatch(r"(ttft|tpot)\.p(\d\d)", key)
            seconds = _quantity(value, "time", "--slo")
            if asked is None or seconds is None:
                raise InputError(f"--slo: found {key!r}; expected ttft or tpot with .p50, .p90, .p95 or .p99")
            promised[asked[1]][int(asked[2]) / 100] = seconds
        per_task: dict[str, float] = {}
        for task, value in (_setting(words, "--calls", "coding=33") for words in calls or ()):
            if task not in files or not re.fullmatch(r"\d+(\.\d+)?", value) or not float(value) > 0:
                raise InputError(f"--calls: found {task}={value}; expected a task of the results and a number above 0")
            per_task[task] = float(value)
        _quantity(cost, "usd_per_hour", "--cost")
        rates = {}
        try:
            for task, paths in files.items():
                runs = [run for path in paths for run in read_results(path)]
                rates[task] = sustained_rate(runs, promised["ttft"], promised["tpot"]) / per_task.get(task, 1.0)
        except DataError as error:
            raise InputError(str(error)) from None
        for task in [task for task, rate in rates.items() if not rate]:
            _say(f"note: no run of {task} keeps the SLOs, so this pool does not serve it")
        pool = {
            "name": name,
            "accelerator": accelerator,
            "accelerators_per_replica": accelerators,
            "cost": cost,
            "max_rate": {task: f"{rate:.6g}/s" for task, rate in rates.items() if rate},
        }
        if not pool["max_rate"]:
            raise InputError("--slo: found no run that keeps the SLOs; expected looser ones, or runs at less load")
        if as_json:
            _print_json({"measured_pools": [pool]})
        else:
            typer.echo("measured_pools:\n  - " + json.dumps(pool, ensure_ascii=False))


@app.command()
def schema(
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="procurement or architecture.")
    ] = "procurement",
    as_json: Json = True,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of the problem file, from which editors complete."""
    with _reported(debug):
        from codesign.problem import json_schema
        from codesign.problem.architecture import architecture_schema

        schemas = {"procurement": json_schema, "architecture": architecture_schema}
        if kind not in schemas:
            raise InputError(_unknown("kind", kind, schemas))
        _print_json(schemas[kind]())


# ---- input


def _load(path: str) -> Problem:
    from codesign.problem import load_problem

    return load_problem(path)


def _load_solution(path: str) -> Solution:
    from codesign.solution import load_solution

    try:
        return load_solution(path)
    except ValueError as error:
        raise InputError(str(error)) from None


def _replay(problem: Problem, text: str) -> tuple[str, Replay]:
    """`TASK=FILE` as (task, its calls)."""
    from codesign.problem.sessions import read_trace_requests
    from codesign.problem.trace import TraceError
    from codesign.simulate import Replay

    task, equals, path = text.partition("=")
    names = [each.name for each in problem.tasks]
    if not (task and equals and path):
        raise InputError(f"--trace: found {text!r}; expected a task and a file, such as chat=requests.csv")
    if task not in names:
        raise InputError(f"--trace: {_unknown('task', task, names)}")
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
    seconds = _quantity(time, "time", "--fail")
    assert seconds is not None
    return pool, seconds


def _quantity(text: str | None, kind: str, option: str) -> float | None:
    if text is None:
        return None
    from codesign.units import UnitError, parse_quantity

    try:
        return parse_quantity(text, kind)
    except UnitError as error:
        raise InputError(f"{option}: found {error.found}; expected {error.expected}") from None


def _time_limit(text: str | None) -> float | None:
    seconds = _quantity(text, "time", "--time-limit")
    if seconds == 0:
        raise InputError(f"--time-limit: found {text!r}; expected a time above 0, such as '60 s'")
    return seconds


def _folder(output: str) -> Path:
    """A folder to write into, made where it is missing and tried before any work is done."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"--output: found {output!r} ({reason}); expected a folder to write to") from None


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _need(module: str, extra: str, option: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise InputError(f"{option}: found no {module}; expected: pip install 'codesign[{extra}]'")


def _batches(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,6}", word) for word in words):
        raise InputError(f"--batch: found {text!r}; expected whole numbers from 1, such as '1,16,64'")
    return tuple(dict.fromkeys(int(word) for word in words))


def _unknown(noun: str, name: str, choices: Any) -> str:
    from codesign.catalog import nearest

    near = nearest(name, choices)
    known = ", ".join(near) if near else ", ".join(choices)
    return f"found no {noun} {name!r}; expected {'perhaps' if near else 'one of'} {known}"


def _writable(output: str | None, problem: str, kind: str = "problem") -> Path | None:
    """The path of a file to write, tried before any work is done for it; not that of the input."""
    if output is None:
        return None
    path = Path(output)
    if path.exists() and not path.is_file():
        # A device would be replaced by a file of its name.
        raise InputError(f"--output: found {output!r}, which is no file; expected the path of a file")
    if path.exists() and Path(problem).exists() and path.samefile(problem):
        raise InputError(f"--output: found the {kind} file {output!r}; expected another path")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            return path
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"--output: found {output!r}, which cannot be written ({reason}); expected a path in a directory "
            "that exists and takes files"
        ) from None


# ---- work


def _stderr_console() -> Console:
    from codesign.report.console import make_console

    return make_console(stderr=True)


@contextmanager
def _progress(problem: Problem) -> Iterator[Any]:
    from codesign.report.console import make_console
    from codesign.report.progress import OBJECTIVE_UNITS, ProgressView

    with ProgressView(make_console(stderr=True), OBJECTIVE_UNITS[problem.objective]) as view:
        yield view


@contextmanager
def _study(noun: str) -> Iterator[Any]:
    from codesign.report.console import make_console
    from codesign.report.progress import StudyView

    with StudyView(make_console(stderr=True), noun) as view:
        yield view


def _explanation(explanation: Explanation) -> dict[str, Any]:
    """The JSON document of an explanation: one of two sets of fields."""
    if not explanation.feasible:
        return {
            "conflicts": [_plain(row) for row in explanation.conflicts],
            "relaxations": [_plain(row) for row in explanation.relaxations],
        }
    return {
        "binding": [_plain(row) for row in explanation.binding],
        "shadow_prices": [price.model_dump(by_alias=True) for price in explanation.shadow_prices],
        "not_chosen": [_plain(row) for row in explanation.not_chosen],
    }


# ---- output


def _reserve_standard_output() -> None:
    """Keep standard output for results: what a solver's library prints there goes to standard error."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or no real file
        sys.stdout.flush()
        own = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors="replace")


def _show_solution(solution: Solution, as_json: bool) -> None:
    if as_json:
        typer.echo(solution.to_json(), nl=False)
    else:
        from codesign.report.plan import plan_report

        _print(plan_report(solution))


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


def _print(report: RenderableType) -> None:
    from codesign.report.console import make_console, print_report

    print_report(make_console(), report)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and numpy numbers as JSON has them; what is not finite becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if not isinstance(value, (str, int, float)) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say(message: str) -> None:
    typer.echo(message, err=True)


@contextmanager
def _reported(debug: bool, interrupted: int = INTERRUPTED) -> Iterator[None]:
    """Turn exceptions into exit codes and one clear message."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _say("codesign: interrupted")
        raise typer.Exit(interrupted) from None
    except InputError as error:
        _say(f"codesign: {error}")
        raise typer.Exit(BAD_INPUT) from None
    except Exception as error:
        from codesign.problem import ProblemError

        if isinstance(error, ProblemError):
            _say(str(error))
            raise typer.Exit(BAD_INPUT) from None
        if "codesign.study.workers" in sys.modules:
            from codesign.study.workers import WorkersError

            if isinstance(error, WorkersError):
                _say(f"codesign: {error}")
                raise typer.Exit(BAD_INPUT) from None
        if debug:
            raise
        words = " ".join(str(error).split())
        _say(f"codesign: unexpected {type(error).__name__}: {words} (--debug shows where)")
        raise typer.Exit(UNEXPECTED) from None
