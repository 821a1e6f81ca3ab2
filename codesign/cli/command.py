"""What all commands share: exit codes, errors as one clear message, blocks of options."""

from __future__ import annotations

import errno
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from codesign import interrupts
from codesign.files import WriteError

if TYPE_CHECKING:
    from codesign.solution import Solution

BAD_INPUT, INFEASIBLE, NO_PLAN, VIOLATION, UNEXPECTED = 2, 3, 4, 5, 1
INTERRUPTED, UNHEARD = 130, 141
"""128 + SIGINT and 128 + SIGPIPE, as shells have it; an interrupted `solve` without a plan is NO_PLAN."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""What a disk says that takes no more, wherever it says so."""

STATUS_CODES = {"optimal": 0, "feasible": 0, "infeasible": INFEASIBLE, "no_solution": NO_PLAN}


def exit_code(solution: Solution) -> int:
    """Of a solution: 5 where the plan that was found is none."""
    return VIOLATION if solution.violations else STATUS_CODES[solution.status]


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]

F = TypeVar("F", bound=Callable[..., None])


class InputError(ValueError):
    """What the user gave cannot be used; the message says what was found and what would be right."""


def say(message: str) -> None:
    """A message for people, on standard error."""
    typer.echo(message, err=True)


def command(interrupted: int = INTERRUPTED) -> Callable[[F], F]:
    """Make a command of a function: its errors become exit codes, its blocks of options single options.

    A parameter whose type is a dataclass is such a block: its fields are options of the command, and the function
    gets the dataclass. All commands have `--debug`. `interrupted` is the exit code of Ctrl-C.
    """

    def decorate(function: F) -> F:
        plain: list[inspect.Parameter] = []
        blocks: dict[str, Any] = {}
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
                blocks[parameter.name] = parameter.annotation
                plain += inspect.signature(parameter.annotation, eval_str=True).parameters.values()
            else:
                plain.append(parameter)
        plain.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug))
        plain = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in plain]

        @functools.wraps(function)
        def run(*, debug: bool = False, **given: Any) -> None:
            for name, block in blocks.items():
                given[name] = block(**{field.name: given.pop(field.name) for field in fields(block)})
            with _reported(debug, interrupted):
                function(**given)

        run.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in plain}
        return run  # type: ignore[return-value]

    return decorate


@contextmanager
def _reported(debug: bool, interrupted: int) -> Iterator[None]:
    """Turn exceptions into exit codes and one clear message."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        say("codesign: interrupted")
        raise typer.Exit(interrupted) from None
    except Exception as error:
        if interrupts.heard():
            say("codesign: interrupted")
            raise typer.Exit(interrupted) from None
        _report(error, debug)


def _report(error: Exception, debug: bool) -> NoReturn:
    """Turn an exception into its exit code and one clear message."""
    if isinstance(error, InputError):
        say(f"codesign: {error}")
        raise typer.Exit(BAD_INPUT) from None
    from codesign.problem import ProblemError

    if isinstance(error, ProblemError):
        say(str(error))
        raise typer.Exit(BAD_INPUT) from None
    if "codesign.processes" in sys.modules:
        from codesign.processes import WorkersError

        if isinstance(error, WorkersError):
            say(f"codesign: {error}")
            raise typer.Exit(BAD_INPUT) from None
    if isinstance(error, OSError) and (isinstance(error, WriteError) or error.errno in _NO_ROOM):
        say(f"codesign: {unwritten(error)}")
        raise typer.Exit(BAD_INPUT) from None
    if debug:
        raise error
    if "codesign.optimize.lp" in sys.modules:
        from codesign.optimize.lp import SolverError

        if isinstance(error, SolverError):
            say(f"codesign: {error}")
            raise typer.Exit(UNEXPECTED) from None
    say(unexpected(error))
    raise typer.Exit(UNEXPECTED) from None


def unwritten(error: OSError) -> str:
    """The message for what a disk does not take."""
    reason = (error.strerror or str(error)).lower()
    return (
        f"{error.filename or 'a temporary file'}: cannot be written ({reason}); "
        "expected a disk with room, and a folder that takes files"
    )


def unexpected(error: BaseException) -> str:
    """The message for a fault of ours."""
    words = " ".join(str(error).split())
    return (
        f"codesign: unexpected {type(error).__name__}: {words} (a fault of codesign: please report it, with your files "
        "and what the same command says with --debug)"
    )
