"""The time that a piece of work may take, who may stop it, and who hears how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign.solution.schema import Solution

CLOCK, INTERRUPT = "time limit", "interrupt"
"""What ends a search early, in the words of solution files."""
_ROUNDS = 2.0
"""Preparations that a search takes before there is anything to read from it."""


@dataclass(frozen=True)
class PlanProgress:
    """Where a solve stands.  Objective figures are in the problem's objective unit."""

    stage: str
    incumbent: float | None
    bound: float | None
    gap: float | None
    seconds: float
    solution: Solution | None = None
    """A plan that is complete and accounted for, once there is one: what follows can only add to it."""


Progress = Callable[[PlanProgress], None]


class StoppedError(Exception):
    """The time limit or an interrupt came before there was anything to show; `reason` is CLOCK or INTERRUPT."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Clock:
    """The deadline of a solve (time.monotonic seconds), its cancellation, and its listener."""

    progress: Progress | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    deadline: float = float("inf")
    pace: list[float] = field(default_factory=lambda: [0.0])
    """One figure that all parts share: seconds per column that a solver has last taken to prepare."""
    _published: list[Solution] = field(default_factory=list)
    """The last plan that was made known, which all parts share, too."""

    def part(self, seconds: float) -> Clock:
        """The same for some of the time that is left."""
        return replace(self, deadline=min(self.deadline, time.monotonic() + seconds))

    def left(self) -> float:
        """Seconds until the deadline; at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def short(self, columns: int) -> bool:
        """Would a search over so many columns only overrun what is left, as far as their preparation so far tells?"""
        return self.left() <= _ROUNDS * self.pace[0] * columns

    def stopped(self) -> str | None:
        """Why to stop now, if so."""
        if self.cancel.is_set():
            return INTERRUPT
        return CLOCK if time.monotonic() > self.deadline else None

    def check(self) -> None:
        """Raise StoppedError where it is time to."""
        reason = self.stopped()
        if reason is not None:
            raise StoppedError(reason)

    def tell(self, stage: str) -> None:
        """Say what is being done."""
        self._say(stage, None, None)

    def built(self, what: str, share: float) -> None:
        """Say how much of the columns is there; raises StoppedError where it is time to stop."""
        self.check()
        self.tell(f"{what} {share:.0%}")

    def search(self, stage: str, incumbent: float, bound: float) -> None:
        """Say how far a search is: infinite figures are unknown ones."""
        self._say(
            stage,
            incumbent if abs(incumbent) < float("inf") else None,
            bound if abs(bound) < float("inf") else None,
        )

    def publish(self, solution: Solution) -> None:
        """Make a finished plan known, so that nothing that comes after it can lose it."""
        if solution.fleet:
            self._published[:] = [solution]
            self.tell("plan found")

    def _say(self, stage: str, value: float | None, low: float | None) -> None:
        if self.progress is None:
            return
        gap = (value - low) / abs(value) if value and low is not None else None
        published = self._published[0] if self._published else None
        self.progress(PlanProgress(stage, value, low, gap, time.monotonic() - self.started, published))
