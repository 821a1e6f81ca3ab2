"""Traces of requests as joint histograms of prompt and answer lengths.

The bins are fixed, so that a trace and the histogram made from it give the same problem: edges at powers of
√2 (0, 1, √2, 2, …) in tokens, for inputs and outputs. A cell keeps the exact means of the requests in it: the
means of the whole are exact, and the spread inside a bin (at most a factor √2) is all that is lost.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from codesign.files import write_atomically
from codesign.problem.errors import FieldError
from codesign.problem.instance import JointLengths

Array = NDArray[np.float64]

TRACE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
HISTOGRAM_COLUMNS = ("input_tokens", "output_tokens", "weight")
MAX_TRACE_BYTES = 500_000_000
_BINS_PER_OCTAVE = 2
_LARGEST_TOKENS = 1e9


class TraceError(FieldError):
    """A trace or histogram cannot be read; `line` (from 1) says where, None where it is the file as a
    whole."""

    def __init__(self, found: object, expected: str, line: int | None = None) -> None:
        super().__init__(found, expected, words=True)
        self.line = line


@dataclass(frozen=True)
class Histogram:
    """Lengths of requests, with the rate of the trace that they come from."""

    lengths: JointLengths
    rate_per_s: float | None
    header: tuple[str, ...] = ()
    """Comment lines of the file: source, licence, date."""


def read_trace(path: Path) -> Histogram:
    """Return the histogram of a trace CSV (plain or .gz) with columns TIMESTAMP, ContextTokens,
    GeneratedTokens.

    The rate is requests per second between the first and the last. Raises TraceError.
    """
    times: list[float] = []
    inputs: list[float] = []
    outputs: list[float] = []
    for line, row in _rows(path, TRACE_COLUMNS, []):
        times.append(_timestamp(row[0], line))
        inputs.append(_tokens(row[1], line))
        outputs.append(_tokens(row[2], line))
    if not times:
        raise TraceError("no request", "at least one row of " + ", ".join(TRACE_COLUMNS))
    span = max(times) - min(times)
    rate = (len(times) - 1) / span if span > 0 else None
    return Histogram(bin_lengths(np.array(inputs), np.array(outputs)), rate)


def read_requests(path: Path) -> tuple[Array, Array, Array]:
    """Return (seconds from the first, input, output tokens) of a trace CSV, in order of arrival.  Raises TraceError."""
    rows = [(_timestamp(r[0], n), _tokens(r[1], n), _tokens(r[2], n)) for n, r in _rows(path, TRACE_COLUMNS, [])]
    if not rows:
        raise TraceError("no request", "at least one row of " + ", ".join(TRACE_COLUMNS))
    table = np.array(sorted(rows), dtype=np.float64)
    return table[:, 0] - table[0, 0], table[:, 1], table[:, 2]


def bin_lengths(inputs: Array, outputs: Array) -> JointLengths:
    """Return the joint histogram of requests with `inputs`[n] and `outputs`[n] tokens (see the module)."""
    cells = np.stack([_bin(inputs), _bin(outputs)], axis=1)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    cell = cell.ravel()
    return JointLengths(
        input=np.bincount(cell, inputs) / counts,
        output=np.bincount(cell, outputs) / counts,
        weight=counts / counts.sum(),
    )


def _bin(tokens: Array) -> NDArray[np.int64]:
    """0 for no token, else 1 + floor(2·log2(tokens)); the small term keeps powers of two on their own
    edge."""
    return np.where(
        tokens < 1, 0, 1 + np.floor(_BINS_PER_OCTAVE * np.log2(np.maximum(tokens, 1)) + 1e-9)
    ).astype(np.int64)


def write_histogram(histogram: Histogram, path: Path, comments: Iterable[str]) -> None:
    """Write a histogram CSV: comment lines (source, licence, date), the rate, then the cells in full
    precision."""
    stream = io.StringIO()
    for comment in comments:
        stream.write(f"# {comment}\n")
    if histogram.rate_per_s is not None:
        stream.write(f"# rate_per_s: {histogram.rate_per_s!r}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HISTOGRAM_COLUMNS)
    lengths = histogram.lengths
    for cell in zip(
        lengths.input.tolist(), lengths.output.tolist(), lengths.weight.tolist(), strict=True
    ):
        writer.writerow([repr(value) for value in cell])
    write_atomically(path, stream.getvalue())


def read_histogram(path: Path) -> Histogram:
    """Return the histogram in a CSV with columns input_tokens, output_tokens, weight. Raises TraceError."""
    comments: list[str] = []
    cells: list[tuple[float, float, float]] = []
    for line, row in _rows(path, HISTOGRAM_COLUMNS, comments):
        cells.append((_tokens(row[0], line), _tokens(row[1], line), _number(row[2], line, "a weight")))
    table = np.array(cells, dtype=float).reshape(-1, 3)
    total = math.fsum(table[:, 2])
    if not total > 0:
        raise TraceError("no weight above 0", "at least one cell of " + ", ".join(HISTOGRAM_COLUMNS))
    # Weights that sum to 1 as written stay bit for bit what they were.
    weight = table[:, 2] if abs(total - 1) < 1e-12 else table[:, 2] / total
    rate = next((c.split(":", 1)[1] for c in comments if c.startswith("rate_per_s:")), None)
    return Histogram(
        JointLengths(table[:, 0].copy(), table[:, 1].copy(), weight.copy()),
        None if rate is None else _number(rate, None, "a rate per second"),
        tuple(comments),
    )


def catalogue_histogram(name: str) -> Path | None:
    """Return the path of a histogram of the catalogue, None where it has none of that name."""
    place = Path(str(files("codesign.catalog"))) / "data" / f"{name}.csv"
    return place if name in catalogue_histograms() else None


def catalogue_histograms() -> list[str]:
    """Names of the histograms in the catalogue."""
    place = Path(str(files("codesign.catalog"))) / "data"
    return sorted(path.stem for path in place.glob("*.csv"))


def _rows(path: Path, columns: tuple[str, ...], comments: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, the cells of `columns`) of a CSV; comment lines before the head go to `comments`."""
    line = 0
    try:
        with _open(path) as stream:
            head: list[str] | None = None
            places: list[int] = []
            for line, row in enumerate(csv.reader(stream), start=1):
                if not row or not "".join(row).strip():
                    continue
                if head is None and row[0].startswith("#"):
                    comments.append(",".join(row).lstrip("# "))
                elif head is None:
                    head = [cell.strip() for cell in row]
                    missing = [column for column in columns if column not in head]
                    if missing:
                        raise TraceError(f"no column {missing[0]}", "columns " + ", ".join(columns), line)
                    places = [head.index(column) for column in columns]
                elif len(row) != len(head):
                    raise TraceError(f"{len(row)} cells", f"{len(head)} cells as in the head", line)
                else:
                    yield line, [row[place] for place in places]
            if head is None:
                raise TraceError("an empty file", "columns " + ", ".join(columns))
    except FileNotFoundError:
        raise TraceError(
            f"no file '{path}'", "a path to an existing file, relative to the problem file"
        ) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(
            f"a file that cannot be read ({error})", "a CSV file, plain or .gz", line or None
        ) from None


def _open(path: Path) -> TextIO:
    if path.stat().st_size > MAX_TRACE_BYTES:
        raise TraceError("a file of more than 500 MB", "a smaller trace, or its histogram")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _number(text: str, line: int | None, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= _LARGEST_TOKENS):
        raise TraceError(f"'{text[:60]}'", f"{what}: a number from 0 to 1e9", line)
    return value


def _tokens(text: str, line: int) -> float:
    return _number(text, line, "tokens")


def _timestamp(text: str, line: int) -> float:
    """Seconds of `2023-11-16 18:15:46.6805900`; the seventh digit is more than the library reads."""
    whole, _, fraction = text.strip().partition(".")
    try:
        instant = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC).timestamp()
        return instant + (float(f"0.{fraction}") if fraction else 0.0)
    except (ValueError, OverflowError):
        raise TraceError(f"'{text[:60]}'", "a time such as 2023-11-16 18:15:46.68", line) from None
