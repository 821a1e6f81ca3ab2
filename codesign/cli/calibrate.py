"""`codesign calibrate`: an engine profile from a user's own measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import setting, writable
from codesign.cli.options import Json
from codesign.cli.output import show, show_json

if TYPE_CHECKING:
    from codesign.validation.calibrate import Calibration


@command()
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
) -> None:
    """Make an engine profile from a few measured points of your own stack, for `options.profile`."""
    target = writable(output, bench[0], "bench") if output is not None else None
    stated = dict(setting(words, "--stack", "accelerator=h200-sxm") for words in stack or ())
    from codesign.performance.profile import write_profile
    from codesign.validation.commands import calibrate as fit
    from codesign.validation.measured import DataError

    try:
        found = fit(bench, name, stated)
    except DataError as error:
        raise InputError(str(error)) from None
    try:
        if target is not None:
            write_profile(found.profile, target)
    finally:  # a full disk must not cost the answer
        _show(found, as_json)
    if target is not None:
        say(f"wrote {output}")


def _show(found: Calibration, as_json: bool) -> None:
    if as_json:
        show_json(
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

        show(calibration_report(found))
