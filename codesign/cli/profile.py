"""`codesign profile`: what tasks ask for, before anything is solved."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from codesign.cli.command import InputError, command
from codesign.cli.inputs import load
from codesign.cli.options import Json, ProblemFile
from codesign.cli.output import show, show_json


@command()
def profile(
    problem: ProblemFile,
    batch: Annotated[str, typer.Option(metavar="1,16,64", help="Batch sizes.")] = "1,16,64",
    as_json: Json = False,
) -> None:
    """Show operational intensity, capacity footprint and regime of every task, before anything is solved."""
    batches = _batches(batch)
    loaded = load(problem)
    from codesign.problem import resolve
    from codesign.workload.profile import profile as measure

    result = measure(resolve(loaded), batches)
    if as_json:
        show_json(result.to_dict())
    else:
        from codesign.report.profile import profile_report

        show(profile_report(result))


def _batches(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,6}", word) for word in words):
        raise InputError(f"--batch: found {text!r}; expected whole numbers from 1, such as '1,16,64'")
    return tuple(dict.fromkeys(int(word) for word in words))
