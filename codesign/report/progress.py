"""Progress while a plan is sought: a status line on a terminal, else a line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from codesign.report.console import amount, percent

if TYPE_CHECKING:
    from codesign.planner import PlanProgress
    from codesign.study.workers import StudyProgress

OBJECTIVE_UNITS = {
    "cost_per_hour": "$/h",
    "cost_per_task": "$/task",
    "energy_per_task": "J/task",
    "power": "W",
    "carbon_per_task": "kg/task",
    "max_rate": "$/h",
    "slo_scale": "$/h",
}

QUIET_SECONDS = 5.0
"""Least time between two lines where standard error is no terminal."""


class ProgressView:
    """Shows the last news of a solve; use it as a context manager and pass it as `progress`."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console, self._unit = console, unit
        self._started = self._said = time.monotonic()
        self._news: PlanProgress | None = None
        self._spinner = Spinner("dots")
        self._live = Live(self, console=console, transient=True, refresh_per_second=8)

    def __call__(self, news: PlanProgress) -> None:
        """Take news; from any thread."""
        self._news = news
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= QUIET_SECONDS:
            self._said = now
            self._console.print(self.text(), soft_wrap=True)

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __rich__(self) -> Spinner:
        """What the status line shows now: seconds run on between two news."""
        self._spinner.update(text=Text(self.text()))
        return self._spinner

    def text(self) -> str:
        """Stage, incumbent, bound, gap and seconds, as far as known."""
        seconds = f"{time.monotonic() - self._started:.0f} s"
        news = self._news
        if news is None:
            return f"reading  {seconds}"
        parts = [news.stage]
        if news.incumbent is not None:
            parts.append(f"best {amount(news.incumbent, self._unit)}")
        if news.bound is not None:
            parts.append(f"bound {amount(news.bound, self._unit)}")
        if news.gap is not None:
            parts.append(f"gap {percent(news.gap, 2)}")
        return "  ".join([*parts, seconds])


class ShareView:
    """Shows how much of a work of known length is done; use it as a context manager and pass it as `progress`."""

    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what = console, what
        self._started = self._said = time.monotonic()
        self._share = 0.0
        self._spinner = Spinner("dots")
        self._live = Live(self, console=console, transient=True, refresh_per_second=8)

    def __call__(self, share: float) -> None:
        """Take news; from any thread."""
        self._share = share
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= QUIET_SECONDS:
            self._said = now
            self._console.print(self.text(), soft_wrap=True)

    def __enter__(self) -> ShareView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __rich__(self) -> Spinner:
        """What the status line shows now."""
        self._spinner.update(text=Text(self.text()))
        return self._spinner

    def text(self) -> str:
        """What is done, the share, and seconds."""
        return f"{self._what} {self._share:.0%}  {time.monotonic() - self._started:.0f} s"


class StudyView:
    """Shows how far a study is, on a terminal alone: points done, and about how long the others will take."""

    def __init__(self, console: Console, noun: str) -> None:
        self._console, self._noun = console, noun
        self._started = time.monotonic()
        self._news: StudyProgress | None = None
        self._spinner = Spinner("dots")
        self._live = Live(self, console=console, transient=True, refresh_per_second=4)

    def __call__(self, news: StudyProgress) -> None:
        """Take news; from any thread."""
        self._news = news

    def __enter__(self) -> StudyView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __rich__(self) -> Spinner:
        """What the status line shows now."""
        self._spinner.update(text=Text(self.text()))
        return self._spinner

    def text(self) -> str:
        """Points done, the stage of the one at work, seconds, and seconds left as far as known."""
        seconds = f"{time.monotonic() - self._started:.0f} s"
        news = self._news
        if news is None:
            return f"reading  {seconds}"
        parts = [f"{news.done} of about {news.planned} {self._noun}", *([news.stage] if news.stage else []), seconds]
        if news.seconds_left is not None:
            parts.append(f"about {news.seconds_left:.0f} s left")
        return "  ".join(parts)
