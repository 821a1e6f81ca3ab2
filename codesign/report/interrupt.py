"""Work that Ctrl-C stops: in good order first, at once when it is pressed again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

WORKER = "codesign-worker"
AGAIN_SECONDS = 1.0
"""A second interrupt counts after this time: wrappers such as `timeout` send one signal twice."""

T = TypeVar("T")


def interruptible(work: Callable[[], T], cancel: threading.Event | None, say: Callable[[str], None]) -> T:
    """Do the work in a thread, so that Ctrl-C is heard at once, whatever a library is at.

    Ctrl-C sets `cancel`; pressed again, or without `cancel`, it raises KeyboardInterrupt.
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
        told = False
        while not done.wait(0.2):
            if cancel is not None and cancel.is_set() and not told:
                say("stopping with the best plan so far (Ctrl-C again ends at once)")
                told = True
    finally:
        signal.signal(signal.SIGINT, usual)
    if errors:
        raise errors[0]
    return results[0]


def still_working() -> bool:
    """Whether work that was interrupted has not ended yet."""
    return any(thread.name == WORKER for thread in threading.enumerate())
