"""Progress while a plan is sought: a status line on a terminal, else a line now and then."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from codesign.report.console import amount, percent

if TYPE_CHECKING:
    from codesign.clock import PlanProgress
    from codesign.solution.schema import Solution
    from codesign.study.workers import StudyProgress

News = TypeVar("News")

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


class View(ABC, Generic[News]):
    """Shows the last news of a work until it ends; use it as a context manager and pass it as `progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._said = time.monotonic()
        self._news: News | None = None
        self._spinner = Spinner("dots")
        self._live = Live(self, console=console, transient=True, refresh_per_second=8)

    def __call__(self, news: News) -> None:
        """Take news; from any thread."""
        self._news = news
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= QUIET_SECONDS:
            self._said = now
            self._console.print(self.text(), soft_wrap=True)

    def __enter__(self) -> Self:
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
        """The last news, as far as there is any, with the seconds since the start."""
        seconds = f"{time.monotonic() - self._started:.0f} s"
        return "  ".join(["reading", seconds] if self._news is None else self._words(self._news, seconds))

    @abstractmethod
    def _words(self, news: News, seconds: str) -> list[str]:
        """What there is to say."""


class ProgressView(View["PlanProgress"]):
    """How far a solve is: stage, incumbent, bound and gap, as far as known."""

    def __init__(self, console: Console, unit: str) -> None:
        super().__init__(console)
        self._unit = unit

    @property
    def solution(self) -> Solution | None:
        """A plan that is complete already, as far as the last news say."""
        return None if self._news is None else self._news.solution

    @property
    def promising(self) -> bool:
        """Did the last news speak of a plan?"""
        return self._news is not None and self._news.incumbent is not None

    def _words(self, news: PlanProgress, seconds: str) -> list[str]:
        parts = [news.stage]
        if news.incumbent is not None:
            parts.append(f"best {amount(news.incumbent, self._unit)}")
        if news.bound is not None:
            parts.append(f"bound {amount(news.bound, self._unit)}")
        if news.gap is not None:
            parts.append(f"gap {percent(news.gap, 2)}")
        return [*parts, seconds]


class ShareView(View[float]):
    """How much of a work of known length is done."""

    def __init__(self, console: Console, what: str) -> None:
        super().__init__(console)
        self._what = what

    def _words(self, news: float, seconds: str) -> list[str]:
        return [f"{self._what} {news:.0%}", seconds]


class StudyView(View["StudyProgress"]):
    """How far a study is: points done, the stage of the one at work, and about how long the others will take."""

    def __init__(self, console: Console, noun: str) -> None:
        super().__init__(console)
        self._noun = noun

    def _words(self, news: StudyProgress, seconds: str) -> list[str]:
        parts = [f"{news.done} of about {news.planned} {self._noun}", *([news.stage] if news.stage else []), seconds]
        if news.seconds_left is not None:
            parts.append(f"about {news.seconds_left:.0f} s left")
        return parts
