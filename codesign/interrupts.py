"""Whether Ctrl-C was pressed, also where a library that it met has made another error of it (Pydantic does)."""

from __future__ import annotations

import signal
from typing import NoReturn

_heard = False


def listen() -> None:
    """Remember from now on that Ctrl-C was pressed; a process in which it is ignored goes on to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def heard() -> bool:
    """Whether it was pressed since: an error that comes after it is its answer, whatever its type."""
    return _heard


def _interrupt(*_: object) -> NoReturn:
    global _heard
    _heard = True
    raise KeyboardInterrupt
