"""`codesign init`: a commented problem file from a few flags or questions."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import setting, writable


@command()
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
) -> None:
    """Write a commented problem file from a few flags; on a terminal, what is missing is asked."""
    if Path(output).exists() and not force:
        raise InputError(f"--output: found the file {output!r}; expected a new path, or --force")
    target = writable(output, "")
    from codesign.files import write_atomically
    from codesign.problem import resolve
    from codesign.problem.load import problem_from_text
    from codesign.problem.starter import Answers, StarterError, starter

    asks = sys.stdin.isatty()
    first = Answers()
    tasks = dict(setting(words, "--task", "coding=2/s") for words in task or ())
    if not tasks:
        answer = typer.prompt("Tasks, as preset=rate", "chat=10/s", err=True) if asks else "chat=10/s"
        tasks = dict(setting(words.strip(), "--task", "coding=2/s") for words in answer.split(","))
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
    say(f"wrote {output}; next: codesign solve {shlex.quote(output)} -o plan.json")
