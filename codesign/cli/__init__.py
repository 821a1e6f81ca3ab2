"""The command line of codesign: `codesign --help` lists its commands, one module each.

Exit codes: 0 done, 2 bad input, 3 infeasible, 4 a limit came before a plan, 5 `check` or `simulate` found a violation,
1 anything unexpected.  Results go to standard output, all else to standard error.  A command's module is imported when
it is asked for, and heavy imports stand inside the commands, so that `codesign --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from codesign.cli.command import UNEXPECTED
from codesign.cli.output import reserve_standard_output
from codesign.report.interrupt import end_at_once, still_working

COMMANDS = (
    "init",
    "solve",
    "pareto",
    "sweep",
    "check",
    "simulate",
    "explain",
    "profile",
    "report",
    "export",
    "catalog",
    "validate",
    "calibrate",
    "bench",
    "schema",
)
"""Each is the function of its name in the module of its name, in the order of the help."""

_SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is read."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_SETTINGS)
        single.command(name)(getattr(import_module(f"codesign.cli.{name}"), name))
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _Commands()


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    epilog="Exit codes: 0 done, 2 bad input, 3 infeasible, 4 no plan within the limit, 5 violation, 1 unexpected.",
)


def main() -> None:
    """Run the command line of this process."""
    reserve_standard_output()
    try:
        app(prog_name="codesign")
    except SystemExit as end:
        if still_working():
            # Interrupted: the interpreter cannot end in order while a solver's threads are at work.
            end_at_once(end.code if isinstance(end.code, int) else UNEXPECTED)
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
