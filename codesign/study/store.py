"""Finished runs on disk: content-addressed, written whole or not at all, readable by any number of processes.

A run's name is the SHA-256 of everything that decides its result.  A killed study finds its runs again; one of
another problem, gap or version has other names and never meets them.  A file that is not what was written (cut
off, changed, or with what is no number) is not believed.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from codesign.files import make_folder, write_atomically

FORMAT = 4


class Store:
    """JSON documents by key in a directory; without one, in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._kept: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        """Files that were not believed, and why."""
        if directory is not None:
            make_folder(directory)

    def get(self, key: str) -> dict[str, Any] | None:
        """The document of a key; None where there is none, or none to believe."""
        if self._directory is None:
            return self._kept.get(key)
        try:
            text = self._path(key).read_text(encoding="utf-8")
            document = json.loads(text, parse_constant=_finite, parse_float=_finite)
            _believe(key, document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.doubt(key, error)
            return None
        return document  # type: ignore[no-any-return]

    def doubt(self, key: str, why: Exception) -> None:
        """Note that the document of a key is no good."""
        words = why.strerror if isinstance(why, OSError) else str(why).partition("\n")[0]
        self.notes.append(f"{self._path(key)}: not a finished run ({words}); solved again")

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a document; on disk when this returns.  Raises WriteError where the disk does not take it."""
        kept = {"key": key, "format": FORMAT, **document}
        if self._directory is None:
            self._kept[key] = kept
        else:
            kept["sha256"] = _digest(kept)
            write_atomically(self._path(key), json.dumps(kept, ensure_ascii=False) + "\n")

    def _path(self, key: str) -> Path:
        return (self._directory or Path()) / f"{key}.json"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"found {text}; expected a number")
    return number


def _believe(key: str, document: Any) -> None:
    """Leave of a document what was given to `put`.  Raises ValueError where it is not what `put` wrote."""
    if not isinstance(document, dict) or document.get("key") != key:
        raise ValueError("found another key, or none")
    if document.get("format") != FORMAT:
        raise ValueError(f"found format {document.get('format')!r}; expected {FORMAT}")
    if document.pop("sha256", None) != _digest(document):
        raise ValueError("its content has changed since it was written")
    del document["format"]


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


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
