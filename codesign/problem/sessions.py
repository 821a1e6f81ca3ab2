"""Traces that know which requests belong together: how many calls a session has, what it reuses, how long it idles.

Two shapes are read (plain or .gz):

- JSON lines with `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, one id for each block of 512 prompt
  tokens, where equal ids mean equal prompts up to and including that block (Mooncake's traces). A request continues the
  latest one all of whose full blocks it begins with; other leading blocks that were seen before are a shared prefix.
- CSV with columns `session`, `timestamp_s`, `approx_in_tokens`, `approx_out_tokens` and
  `approx_prefix_shared_tokens` (tokens that the call before of the same session already had).

Reuse is that of a cache which forgets nothing. Times are arrivals: a gap holds the time of the call before as well.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from codesign.problem.distributions import Distribution
from codesign.problem.trace import MAX_TRACE_BYTES, Histogram, TraceError, bin_lengths, read_requests

Array = NDArray[np.float64]

BLOCK_TOKENS = 512
BLOCK_FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")
SESSION_COLUMNS = ("session", "timestamp_s", "approx_in_tokens", "approx_out_tokens", "approx_prefix_shared_tokens")
_LARGEST = 1e9


@dataclass(frozen=True, eq=False)
class Requests:
    """Calls in order of arrival; arrays [n]."""

    time_s: Array
    input: Array
    output: Array
    cached: Array
    """Prompt tokens that an earlier call already had."""
    session: NDArray[np.int64]
    common: Array
    """Of `cached`, tokens that came from other sessions."""


@dataclass(frozen=True, eq=False)
class Sessions:
    """What a session trace says of a task class, beside the lengths of its calls."""

    histogram: Histogram
    """Lengths over calls; its rate is that of sessions."""
    calls: Distribution
    append: Distribution
    """New prompt tokens of calls that continue a session."""
    gaps: Distribution
    """Seconds between two calls of a session."""
    shared_tokens: float
    """Median over sessions of what their first call finds from other sessions."""
    reusable: float
    """Cached tokens over prompt tokens."""


def is_session_trace(path: Path) -> bool:
    """Does the file have one of the two shapes? False where it cannot be read: the reader of traces says why."""
    try:
        with _open(path) as stream:
            head = stream.readline(100_000)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, TraceError):
        return False
    return head.lstrip().startswith("{") or "session" in [cell.strip() for cell in head.split(",")]


def read_sessions(path: Path) -> Sessions:
    """Return what a session trace says. Raises TraceError."""
    return summarize(_requests_of(path))


def read_trace_requests(path: Path) -> Requests:
    """Return every request of a trace of any shape; without sessions each is one of its own.  Raises TraceError."""
    if is_session_trace(path):
        return _requests_of(path)
    time_s, tokens, output = read_requests(path)
    nothing = np.zeros(time_s.size)
    return Requests(time_s, np.maximum(tokens, 1.0), output, nothing, np.arange(time_s.size), nothing)


def _requests_of(path: Path) -> Requests:
    try:
        with _open(path) as stream:
            blocks = stream.read(1) == "{"
            stream.seek(0)
            return _from_blocks(stream) if blocks else _from_table(stream)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"a file that cannot be read ({error})", "JSON lines or CSV, plain or .gz") from None


def summarize(requests: Requests) -> Sessions:
    """Distributions over sessions of requests in order of arrival."""
    order = np.lexsort((requests.time_s, requests.session))
    session, time_s = requests.session[order], requests.time_s[order]
    again = np.concatenate([[False], session[1:] == session[:-1]])
    gap = np.concatenate([[0.0], np.diff(time_s)])[again]
    later = order[again]
    first = order[~again]
    _, calls = np.unique(session, return_counts=True)
    new = np.maximum(requests.input - requests.cached, 1.0)
    span = float(requests.time_s.max() - requests.time_s.min())
    rate = (len(calls) - 1) / span if span > 0 and len(calls) > 1 else None
    return Sessions(
        histogram=Histogram(bin_lengths(requests.input, requests.output), rate),
        calls=_empirical(calls.astype(np.float64)),
        append=_empirical(new[later] if len(later) else new),
        gaps=_empirical(np.maximum(gap, 0.0)) if len(gap) else Distribution.constant(0.0),
        shared_tokens=float(np.median(requests.common[first])),
        reusable=float(requests.cached.sum() / requests.input.sum()),
    )


def _empirical(values: Array) -> Distribution:
    found, counts = np.unique(values, return_counts=True)
    return Distribution.empirical(found, counts / counts.sum())


def _from_blocks(stream: TextIO) -> Requests:
    rows: list[tuple[float, float, float, float, int, float]] = []
    seen: set[int] = set()
    ends: dict[int, int] = {}  # last full block of a request → its session
    sessions = 0
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        time_ms, tokens, output, ids = _block_row(text, line)
        known = next((i for i, block in enumerate(ids) if block not in seen), len(ids))
        parent = next(((i, ends[ids[i]]) for i in range(known - 1, -1, -1) if ids[i] in ends), None)
        if parent is None:
            depth, session = 0, sessions
            sessions += 1
        else:
            depth, session = parent[0] + 1, parent[1]
        cached = min(known * BLOCK_TOKENS, max(tokens - 1.0, 0.0))
        own = min(depth * BLOCK_TOKENS, cached)
        rows.append((time_ms / 1e3, tokens, output, cached, session, cached - own))
        seen.update(ids)
        full = int(tokens // BLOCK_TOKENS)
        if 0 < full <= len(ids):
            ends[ids[full - 1]] = session
    return _requests(rows)


def _block_row(text: str, line: int) -> tuple[float, float, float, list[int]]:
    expected = "a JSON object with " + ", ".join(BLOCK_FIELDS)
    try:
        row = json.loads(text)
        ids = row["hash_ids"]
        numbers = [row[name] for name in BLOCK_FIELDS[:3]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TraceError(f"'{text.strip()[:60]}'", expected, line) from None
    if not isinstance(ids, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise TraceError("hash_ids that are no whole numbers", expected, line)
    if not all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) and n >= 0 for n in numbers
    ):
        raise TraceError(f"'{text.strip()[:60]}'", "numbers from 0", line)
    if not 0 < numbers[1] <= _LARGEST or numbers[2] > _LARGEST:
        raise TraceError(f"input_length {numbers[1]}", "tokens from 1 to 1e9", line)
    return float(numbers[0]), float(numbers[1]), float(numbers[2]), ids


def _from_table(stream: TextIO) -> Requests:
    reader = csv.DictReader(stream)
    missing = [name for name in SESSION_COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise TraceError(f"no column {missing[0]}", "columns " + ", ".join(SESSION_COLUMNS), 1)
    names: dict[str, int] = {}
    rows: list[tuple[float, float, float, float, int, float]] = []
    for line, row in enumerate(reader, start=2):
        time_s, tokens, output, shared = (_cell(row[name], line) for name in SESSION_COLUMNS[1:])
        if tokens <= 0:
            raise TraceError(f"{tokens:g} prompt tokens", "more than 0", line)
        session = names.setdefault(row["session"], len(names))
        rows.append((time_s, tokens, output, min(shared, tokens - 1.0), session, 0.0))
    return _requests(rows)


def _cell(text: str | None, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise TraceError(f"'{(text or '')[:60]}'", "a number from 0", line)
    return value


def _requests(rows: list[tuple[float, float, float, float, int, float]]) -> Requests:
    if not rows:
        raise TraceError("no request", "at least one")
    table = np.array(sorted(rows), dtype=np.float64)
    return Requests(
        table[:, 0], table[:, 1], table[:, 2], np.maximum(table[:, 3], 0.0), table[:, 4].astype(np.int64), table[:, 5]
    )


def _open(path: Path) -> TextIO:
    if path.stat().st_size > MAX_TRACE_BYTES:
        raise TraceError("a file of more than 500 MB", "a smaller trace, or its histogram")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
