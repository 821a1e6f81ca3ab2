"""`codesign validate`: the performance model, or whole plans, against measurements."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import load, plots_refused
from codesign.cli.options import Json, Plots
from codesign.cli.output import show, show_json, stderr_console, worked

if TYPE_CHECKING:
    from codesign.performance.profile import EngineProfile

_WORKERS = 2
"""Processes that plan; each takes some hundred megabytes."""


@command()
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
    plans: Annotated[
        bool,
        typer.Option(
            "--plans", help="Plan fleets for the measured loads, and compare how many accelerators they have (minutes)."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --plans: of so many rows, evenly spaced; default: all.")
    ] = None,
    leverage: Annotated[
        str | None,
        typer.Option(
            "--leverage", metavar="PROBLEM", help="Which constants move this problem's plan by more than 2 % (minutes)."
        ),
    ] = None,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Predict measured serving and energy rows, and show how far off the model is.

    With --plans: plan the least accelerators for each measured load, and compare with those that carried it.
    With --leverage: move each constant over its own range, and show those that move the plan of a problem.
    """
    if leverage is not None:
        if data or names or engine or plans or limit is not None or plots is not None:
            raise InputError("--leverage: found other options beside it; expected --json at most")
        _leverage(leverage, as_json)
        return
    from codesign.performance.profile import read_profile
    from codesign.validation.measured import DataError
    from codesign.validation.plots import PlotsMissingError

    if limit is not None and not plans:
        raise InputError(f"--limit: found {limit} without --plans; expected both")
    try:
        profile = read_profile(engine) if engine is not None else None
    except ValueError as error:
        raise InputError(f"--profile: {error}") from None
    try:
        score = _plans if plans else _predictions
        draw = score(data or (), names, profile, limit, as_json)
    except DataError as error:
        raise InputError(str(error)) from None
    if plots is None:
        return
    try:
        written = draw(plots)
    except PlotsMissingError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise plots_refused(plots, error) from None
    for path in written:
        say(f"wrote {path}")


Draw = Callable[[str], list[Path]]
"""Writes plots of what was found into a folder."""


def _leverage(path: str, as_json: bool) -> None:
    from codesign.report.validation import leverage_report
    from codesign.validation.leverage import leverage

    found = leverage(load(path))
    if as_json:
        show_json(found.to_dict())
    else:
        show(leverage_report(found))


def _predictions(
    data: Sequence[str], names: str | None, profile: EngineProfile | None, _: int | None, as_json: bool
) -> Draw:
    from codesign.validation.commands import validate as score
    from codesign.validation.plots import write_plots

    found = score(data, names, profile)
    if as_json:
        show_json(found.to_dict())
    else:
        from codesign.report.validation import validation_report

        show(validation_report(found))
    return lambda folder: write_plots(found.comparisons, folder)


def _plans(
    data: Sequence[str], names: str | None, profile: EngineProfile | None, limit: int | None, as_json: bool
) -> Draw:
    from codesign.report.progress import ShareView
    from codesign.validation.plans import validate_plans
    from codesign.validation.plots import write_plan_plots

    found = worked(
        ShareView(stderr_console(), "planned"),
        lambda view: validate_plans(data, names, profile, limit, min(_WORKERS, os.cpu_count() or 1), view),
    )
    if as_json:
        show_json(found.to_dict())
    else:
        from codesign.report.measured_plans import measured_plans_report

        show(measured_plans_report(found))
    return lambda folder: write_plan_plots(found.rows, folder)
