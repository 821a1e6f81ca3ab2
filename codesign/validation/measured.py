"""Measured serving and energy rows, read from tables with the columns as published (plain or .gz CSV)."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

Row = Mapping[str, str]
"""One published row: column → text; a missing column reads as empty through :func:`text`."""

MAX_BYTES = 200_000_000
"""Largest table that is read (decompressed)."""

REQUIRED_COLUMNS = ("row_id", "source", "model", "accelerator")

METRICS = (
    "ttft_ms_p50",
    "tpot_ms_p50",
    "output_tok_s_per_gpu",
    "total_tok_s_per_gpu",
    "energy_per_output_token_j",
    "itl_ms_p50",
    "e2e_ms_p50",
    "prefill_power_w",
    "decode_power_w",
)
"""What is predicted, by the names of the published columns; watts are per accelerator of a side."""

TPOT_AT_SHARE = "tpot_ms_p50_at_measured_share"
"""TPOT of disaggregated rows once more, with the share of requests that decode taken from measured TTFT and
end-to-end time: what the decode side alone is off."""

PREDICTED = (*METRICS, TPOT_AT_SHARE)
"""Everything that predictions are compared by."""


class DataError(ValueError):
    """A table that cannot be read; the message names the file and says what was found and expected."""


def read_rows(path: str | Path) -> list[Row]:
    """Rows of a table of measurements; raises DataError where it is none."""
    return _rows(_text(Path(path)), str(path), REQUIRED_COLUMNS)


def shipped_rows() -> list[Row]:
    """The measured points that ship with the package: figures with source, date and licence of each."""
    return [row for _, row in placed_rows()]


def placed_rows(path: str | Path | None = None) -> list[tuple[str, Row]]:
    """Rows of a table of measurements, each with its place ("FILE: line N"); the shipped one without a path.

    Raises DataError where it is none.
    """
    if path is not None:
        return _placed(_text(Path(path)), str(path), REQUIRED_COLUMNS)
    shipped = files("codesign.validation").joinpath("data/points.csv").read_text(encoding="utf-8")
    return _placed(shipped, "points.csv", REQUIRED_COLUMNS)


def read_names(path: str | Path | None = None) -> dict[tuple[str, str], str]:
    """(kind, published name) → catalogue id, empty where out of scope; the shipped file without a path.

    Raises DataError where the file cannot be read.
    """
    columns = ("kind", "published_name", "facts_id")
    if path is None:
        text = files("codesign.validation").joinpath("data/names.csv").read_text(encoding="utf-8")
        rows = _rows(text, "names.csv", columns)
    else:
        rows = _rows(_text(Path(path)), str(path), columns)
    return {(row["kind"], row["published_name"]): row["facts_id"].strip() for row in rows}


def text(row: Row, column: str) -> str:
    """A cell as text, stripped; empty where the column or the value is missing."""
    return (row.get(column) or "").strip()


def number(row: Row, column: str) -> float:
    """A cell as a number; NaN where it is missing or is no finite number."""
    try:
        value = float(text(row, column))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def year(row: Row) -> int | None:
    """The year of a row's date or, for energy rows, of its stack; None where nothing says it."""
    date = text(row, "date").lstrip("v")
    if date[:2] == "20" and date[:4].isdigit():
        return int(date[:4])
    # MLPerf rounds: v4.1 was August 2024, v5.0 and v5.1 2025, v6 2026.
    round_number = date.split(".")[0]
    if round_number.isdigit() and 1 <= int(round_number) < 30:
        return 2020 + int(round_number)
    return None


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: found no such file; expected a table of measured rows (CSV or CSV.gz)")
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path}: found more than {MAX_BYTES:,} bytes; expected a smaller table")
        return data.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path}: found a file that cannot be read ({error}); expected CSV or CSV.gz"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: found bytes that are no UTF-8; expected CSV or CSV.gz") from None


def _rows(content: str, name: str, required: Sequence[str]) -> list[Row]:
    return [row for _, row in _placed(content, name, required)]


def _placed(content: str, name: str, required: Sequence[str]) -> list[tuple[str, Row]]:
    above = 0
    while content.startswith("#"):
        content = content.partition("\n")[2]
        above += 1
    reader = csv.DictReader(io.StringIO(content, newline=""))
    try:
        missing = [column for column in required if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{name}: found no column {missing[0]!r}; expected at least {', '.join(required)}"
            )
        return [
            (
                f"{name}: line {above + reader.line_num}",
                {column: value or "" for column, value in row.items() if column},
            )
            for row in reader
        ]
    except csv.Error as error:
        raise DataError(f"{name}: line {above + reader.line_num}: found {error}; expected CSV") from None
