"""Finished runs on disk: content-addressed, written whole or not at all, readable by any number of processes.

A run's name is the SHA-256 of everything that decides its result.  A killed study finds its runs again; one of
another problem, gap or version has other names and never meets them.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from codesign.files import write_atomically

FORMAT = 3


class Store:
    """JSON documents by key in a directory; without one, in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._kept: dict[str, dict[str, Any]] = {}
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """The document of a key; None where there is none, or none that is whole."""
        if self._directory is None:
            return self._kept.get(key)
        try:
            document = json.loads((self._directory / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) and document.get("key") == key else None

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a document; on disk when this returns."""
        kept = {"key": key, **document}
        if self._directory is None:
            self._kept[key] = kept
        else:
            write_atomically(self._directory / f"{key}.json", json.dumps(kept, ensure_ascii=False) + "\n")


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's content: dataclasses, catalogue entries, arrays, and what JSON knows."""
    text = json.dumps(_canonical(value), sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"": type(value).__name__, **fields}
    if isinstance(value, BaseModel):
        return {"": type(value).__name__, **_canonical(value.model_dump())}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_canonical(item), sort_keys=True) for item in value)
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return ["array", value.dtype.str, list(value.shape), content]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (datetime.date, Path)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} has no canonical form")
