"""What a command shows: results on standard output, progress on standard error."""

from __future__ import annotations

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

from codesign.cli.command import say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from codesign.problem import Problem
    from codesign.report.progress import ProgressView, View
    from codesign.solution import Solution

T = TypeVar("T")
V = TypeVar("V", bound="View[Any]")


def reserve_standard_output() -> None:
    """Keep standard output for results: what a solver's library prints there goes to standard error."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or no real file
        sys.stdout.flush()
        own = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors="replace")


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
