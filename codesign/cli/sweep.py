"""`codesign sweep`: plans for many values of fields."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import load, made_folder, unknown
from codesign.cli.options import Folder, Json, ProblemFile, StudyOptions
from codesign.cli.output import show, show_json, stderr_console, worked


@command()
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
    *,
    study: StudyOptions,
    as_json: Json = False,
) -> None:
    """Plan the problem for many values of its fields, as one table.

    Finished runs are kept in DIR: the same command goes on where a stopped one ended.
    """
    directory = made_folder(output)
    how = study.arguments()
    loaded = load(problem)
    from codesign.report.progress import StudyView
    from codesign.report.studies import plot_sweep, sweep_report
    from codesign.study.settings import grid, listed, parse_setting, read_scenario
    from codesign.study.sweep import WATCHED
    from codesign.study.sweep import sweep as run

    if watch not in WATCHED:
        raise InputError(f"--watch: {unknown('word', watch, WATCHED)}")
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
    cancel = threading.Event()
    found = worked(
        StudyView(stderr_console(), "runs"),
        lambda view: run(
            loaded,
            combined,
            scenarios=scenarios or None,
            breakpoints=breakpoints,
            watch=watch,
            directory=directory,
            progress=view,
            cancel=cancel,
            **how,
        ),
        cancel,
    )
    for note in found.notes:
        say(f"note: {note}")
    try:
        written = found.write(directory, parquet) + plot_sweep(found, directory)
    finally:  # a full disk must not cost the answer
        show_json(found.to_dict()) if as_json else show(sweep_report(found))
    say(f"wrote {len(written)} files to {output}")


def _need(module: str, extra: str, option: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise InputError(f"{option}: found no {module}; expected: pip install 'codesign[{extra}]'")
