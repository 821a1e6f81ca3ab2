"""The command line of codesign: `codesign --help` lists its commands, one module each.

Exit codes: 0 done, 2 bad input or a disk that takes no more, 3 infeasible, 4 a limit came before a plan, 5 `check` or
`simulate` found a violation, 1 anything unexpected, 130 interrupted, 141 nobody reads on (`| head`).  Results go to
standard output, all else to standard error.  A command's module is imported when it is asked for, and heavy imports
stand inside the commands, so that `codesign --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from codesign import interrupts
from codesign.cli.command import INTERRUPTED, UNEXPECTED, say, unexpected
from codesign.cli.output import finished, reserve_standard_output
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

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": ("codesign init --task chat=5/s --model Llama-3.1-8B --hardware h100-sxm,l40s",),
    "solve": ("codesign solve problem.yaml -o plan.json --gap 10%",),
    "pareto": ("codesign pareto problem.yaml --points 3 --gap 10% -o front",),
    "sweep": ("codesign sweep problem.yaml --set tasks.chat.rate=5/s,20/s --gap 10% -o runs",),
    "check": ("codesign check problem.yaml plan.json",),
    "simulate": ("codesign simulate problem.yaml plan.json --duration 300s",),
    "explain": ("codesign explain problem.yaml plan.json",),
    "profile": ("codesign profile problem.yaml --batch 1,32",),
    "report": ("codesign report plan.json", "codesign report front -o front.html"),
    "export": ("codesign export plan.json --to vllm -o deploy", "codesign export problem.yaml --to mps -o fleet.mps"),
    "catalog": ("codesign catalog accelerators", "codesign catalog models gpt-oss-120b"),
    "validate": ("codesign validate",),
    "calibrate": ("codesign calibrate --bench points.csv -o mine.yaml",),
    "bench": ('codesign bench chat=run.json --name mine --accelerator H100 --cost "2 $/h"',),
    "schema": ("codesign schema > problem.schema.json",),
}
"""What the help of each command shows of its use; in this order one has what another has written."""

_SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is read."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_SETTINGS)
        single.command(name, epilog=_epilog(EXAMPLES[name]))(getattr(import_module(f"codesign.cli.{name}"), name))
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


def _epilog(examples: tuple[str, ...]) -> str:
    """Examples as the help's last lines."""
    return "\n\n".join(["Example:" if len(examples) == 1 else "Examples:", *examples])


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    epilog="Exit codes: 0 done, 2 bad input or a full disk, 3 infeasible, 4 no plan within the limit, 5 violation, "
    "1 unexpected.",
)


def main() -> None:
    """Run the command line of this process."""
    reserve_standard_output()
    code = UNEXPECTED
    try:
        app(prog_name="codesign")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code if end.code else 0
        if code == UNEXPECTED and interrupts.heard():  # Click says Aborted where it loads a command
            code = INTERRUPTED
    except KeyboardInterrupt:  # outside a command
        code = INTERRUPTED
    except Exception as error:
        if interrupts.heard():
            say("codesign: interrupted")
            code = INTERRUPTED
        elif "--debug" in sys.argv:
            raise
        else:
            say(unexpected(error))
    code = finished(code)
    if still_working():
        # Interrupted: the interpreter cannot end in order while a solver's threads are at work.
        end_at_once(code)
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        for package in ("codesign", "highspy", "pyomo"):
            typer.echo(f"{package} {version(package)}")
        raise typer.Exit


@app.callback()
def codesign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it, and those of the solver.")
    ] = False,
) -> None:
    """Which accelerators to buy for AI agents, how many, and how to configure them; with proof."""
