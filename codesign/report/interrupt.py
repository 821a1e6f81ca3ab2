"""Work that Ctrl-C stops: in good order first, at once when it is pressed again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

WORKER = "codesign-worker"
AGAIN_SECONDS = 1.0
"""A second interrupt counts after this time: wrappers such as `timeout` send one signal twice."""
PATIENCE_SECONDS = 1.4
"""For work that was told to stop to end in good order: people wait two seconds."""
PLAN_SECONDS = 20.0
"""The same where it has found something that it alone can hand over."""

T = TypeVar("T")


def interruptible(
    work: Callable[[], T],
    cancel: threading.Event | None,
    say: Callable[[str], None],
    known: Callable[[], T | None] = lambda: None,
    promising: Callable[[], bool] = lambda: False,
) -> T:
    """Do the work in a thread, so that Ctrl-C is heard at once, whatever a library is at.

    Ctrl-C sets `cancel`; pressed again, or without `cancel`, it raises KeyboardInterrupt.  Work that does not end then
    within PATIENCE_SECONDS is left behind: the result that is `known` is returned where there is one, and
    KeyboardInterrupt is raised where there is none, nor anything `promising` that is worth waiting for.
    """
    done = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []
    first: float | None = None

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    def interrupt(*_: object) -> None:
        nonlocal first
        if cancel is None or (first is not None and time.monotonic() - first > AGAIN_SECONDS):
            raise KeyboardInterrupt
        first = time.monotonic() if first is None else first
        cancel.set()

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        threading.Thread(target=run, name=WORKER, daemon=True).start()
        told: float | None = None
        while not done.wait(0.1):
            if cancel is None or not cancel.is_set():
                continue
            if told is None:
                say("stopping with the best plan so far (Ctrl-C again ends at once)")
                told = time.monotonic()
            waited = time.monotonic() - (told if first is None else first)
            if waited > PATIENCE_SECONDS:
                found = known()
                if found is not None:
                    return found
                if not promising() or waited > PLAN_SECONDS:
                    raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, usual)
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def finishing() -> Iterator[None]:
    """A block that hands over what is found: Ctrl-C no longer stops it, unless it is pressed again."""
    first: float | None = None

    def interrupt(*_: object) -> None:
        nonlocal first
        if first is not None and time.monotonic() - first > AGAIN_SECONDS:
            raise KeyboardInterrupt
        first = time.monotonic() if first is None else first

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def end_at_once(code: int) -> NoReturn:
    """End this process and those that it has started: work that was interrupted may be in the midst of anything."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def still_working() -> bool:
    """Whether work that was interrupted has not ended yet."""
    return any(thread.name == WORKER for thread in threading.enumerate())
