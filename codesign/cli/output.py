"""What a command shows: results on standard output, progress on standard error."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from codesign.cli.command import BAD_INPUT, UNHEARD, say, unwritten

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from codesign.problem import Problem
    from codesign.report.progress import ProgressView, View
    from codesign.solution import Solution

T = TypeVar("T")
V = TypeVar("V", bound="View[Any]")


class _Output(io.FileIO):
    """A stream of this process that never fails those who write: its reader may be gone, its disk full."""

    failure: OSError | None = None
    """Why nothing is written any more."""

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def reserve_standard_output() -> None:
    """Keep standard output for results: what a solver's library prints there goes to standard error.

    Streams that were closed when the process began lead nowhere, so that no file takes their place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest descriptor that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    encoding = getattr(sys.stdout, "encoding", "utf-8")
    if sys.stdout is not None:
        sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Output(own, "wb")), encoding, "replace")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Output(2, "wb", closefd=False)), encoding, "backslashreplace", line_buffering=True
    )


def finished(code: int) -> int:
    """The exit code of a process whose command ends with `code`, when all that it said has left."""
    with suppress(ValueError):  # closed by whoever wrote there
        sys.stdout.flush()
    output: Any = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure: OSError | None = getattr(output, "failure", None)
    if failure is None:
        return code
    if failure.errno == errno.EPIPE:  # such as `| head`, which has what it wanted
        return UNHEARD
    failure.filename = "standard output"
    say(f"codesign: {unwritten(failure)}")
    return BAD_INPUT


def show(report: RenderableType) -> None:
    """Print a report for people."""
    from codesign.report.console import make_console, print_report

    print_report(make_console(), report)


def show_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Dataclasses, tuples and numpy numbers as JSON has them; what is not finite becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if not isinstance(value, (str, int, float)) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stderr_console() -> Console:
    """The console of messages."""
    from codesign.report.console import make_console

    return make_console(stderr=True)


def plan_view(problem: Problem) -> ProgressView:
    """Shows how far one solve is."""
    from codesign.report.progress import OBJECTIVE_UNITS, ProgressView

    return ProgressView(stderr_console(), OBJECTIVE_UNITS[problem.objective])


def worked(view: V, work: Callable[[V], T], cancel: threading.Event | None = None) -> T:
    """Do work that tells a view how far it is, and that Ctrl-C stops."""
    from codesign.report.interrupt import interruptible

    with view:
        return interruptible(lambda: work(view), cancel, say)


def planned(view: ProgressView, work: Callable[[ProgressView], Solution], cancel: threading.Event) -> Solution:
    """`worked` for a plan: Ctrl-C leaves the one that is known."""
    from codesign.report.interrupt import interruptible

    with view:
        return interruptible(lambda: work(view), cancel, say, lambda: view.solution, lambda: view.promising)
