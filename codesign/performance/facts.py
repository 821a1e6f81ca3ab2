"""The data files of the performance model: read once, and for the time of a block others in their place.

Whoever asks how much a constant matters (`codesign validate --leverage`), or what a prediction would be without the
rows of a generation, works with a changed copy (:func:`replaced`); nothing else changes them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

Document = Mapping[str, Any]

NAMES = ("constants", "engines", "energy", "intervals")

_READ: dict[str, Document] = {}


def facts(name: str) -> Document:
    """The content of ``data/NAME.toml``, or of what stands in its place at the moment."""
    if name not in _READ:
        text = files("codesign.performance").joinpath(f"data/{name}.toml").read_text(encoding="utf-8")
        _READ[name] = tomllib.loads(text)
    return _READ[name]


@contextmanager
def replaced(**documents: Document) -> Iterator[None]:
    """Other contents for the time of a block, by file name; of this process alone.

    Tables (:class:`~codesign.performance.table.ConfigurationTable`) made before keep what they were made with.
    """
    before = {name: facts(name) for name in documents}
    _READ.update(documents)
    try:
        yield
    finally:
        _READ.update(before)


def forget(name: str) -> None:
    """Read a file again when it is asked for next: it was written anew."""
    _READ.pop(name, None)
