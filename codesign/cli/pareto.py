"""`codesign pareto`: the frontier of two or three objectives."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from codesign.cli.command import STATUS_CODES, InputError, command, say
from codesign.cli.inputs import load, made_folder
from codesign.cli.options import Folder, Json, ProblemFile, StudyOptions
from codesign.cli.output import show, show_json, stderr_console, worked


@command()
def pareto(
    problem: ProblemFile,
    output: Folder,
    objectives: Annotated[
        str,
        typer.Option(metavar="A,B[,C]", help="Of cost, energy, carbon, power, cost_per_hour, latency, robustness."),
    ] = "cost,energy",
    points: Annotated[int, typer.Option(min=2, max=10_000, help="Plans on the frontier, about.")] = 20,
    *,
    study: StudyOptions,
    as_json: Json = False,
) -> None:
    """Find the frontier of two or three objectives, each point with its own bound.

    Finished points are kept in DIR: the same command goes on where a stopped one ended.
    """
    directory = made_folder(output)
    settings = study.arguments()
    loaded = load(problem)
    from codesign.report.progress import StudyView
    from codesign.report.studies import front_report, plot_front
    from codesign.study.axes import parse_axes
    from codesign.study.pareto import pareto as trace

    names = objectives.split(",")
    try:
        parse_axes(names)
    except ValueError as error:
        raise InputError(f"--objectives: {error}") from None
    cancel = threading.Event()
    front = worked(
        StudyView(stderr_console(), "points"),
        lambda view: trace(loaded, names, points, directory=directory, progress=view, cancel=cancel, **settings),
        cancel,
    )
    for note in front.notes:
        say(f"note: {note}")
    try:
        written = front.write(directory) + plot_front(front, directory)
    finally:  # a full disk must not cost the answer
        show_json(front.to_dict()) if as_json else show(front_report(front))
    say(f"wrote {len(written)} files to {output}")
    raise typer.Exit(STATUS_CODES[front.status])
