"""`codesign validate`: the performance model against measurements."""

from __future__ import annotations

from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import plots_refused
from codesign.cli.options import Json, Plots
from codesign.cli.output import show, show_json


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
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Predict measured serving and energy rows, and show how far off the model is."""
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
    except DataError as error:
        raise InputError(str(error)) from None
    if as_json:
        show_json(found.to_dict())
    else:
        from codesign.report.validation import validation_report

        show(validation_report(found))
    if plots is None:
        return
    try:
        written = write_plots(found.comparisons, plots)
    except PlotsMissingError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise plots_refused(plots, error) from None
    for path in written:
        say(f"wrote {path}")
