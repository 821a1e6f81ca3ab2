"""What a sweep sets: fields of the problem file over values or ranges, as people write them.

    tasks.coding.rate=2/s,4/s,6/s        three values
    tasks.coding.rate=2/s..6/s:5         five values from 2/s to 6/s, in equal steps
    models.chat.kv=[fp8],[bf16]          values may be lists
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*$")
_RANGE = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*\.\.\s*({_NUMBER})\s*(.*?)\s*:\s*(\d+)\s*$")
_DIGITS = 12

Settings = dict[str, Any]
"""Value by dotted path."""


def parse_setting(text: str) -> tuple[str, list[Any]]:
    """The path and the values of `path=v1,v2,...` or `path=low..high:count`.  Raises ValueError."""
    path, equals, values = text.partition("=")
    if not equals or not path.strip() or not values.strip():
        raise ValueError(f"found {text!r}; expected path=v1,v2,... such as tasks.coding.rate=2/s,4/s")
    span = _RANGE.match(values)
    if span is None:
        return path.strip(), [_value(word) for word in _words(values)]
    low, low_unit, high, high_unit, count = span.groups()
    unit = high_unit or low_unit
    if low_unit and low_unit != unit:
        raise ValueError(f"found {text!r}; expected one unit for both ends")
    if not 2 <= int(count) <= 10_000:
        raise ValueError(f"found {text!r}; expected 2 to 10000 values")
    steps = [i / (int(count) - 1) for i in range(int(count))]
    return path.strip(), [quantity(float(low) + (float(high) - float(low)) * step, unit) for step in steps]


def grid(settings: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Every combination of the values, the last path fastest."""
    paths = list(settings)
    return [dict(zip(paths, values, strict=True)) for values in itertools.product(*settings.values())]


def listed(settings: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """First values together, second values together, …  Raises ValueError for lists of different length."""
    if len({len(values) for values in settings.values()}) > 1:
        lengths = ", ".join(f"{path}: {len(values)}" for path, values in settings.items())
        raise ValueError(f"found lists of different length ({lengths}); expected the same for all")
    return [dict(zip(settings, values, strict=True)) for values in zip(*settings.values(), strict=True)]


def rows(table: Any) -> list[Settings]:
    """The rows of a pandas DataFrame, or of a list of mappings."""
    records = table.to_dict("records") if hasattr(table, "to_dict") else table
    return [{str(path): value for path, value in record.items()} for record in records]


def read_scenario(path: str | Path) -> tuple[str, Settings]:
    """The name (of the file) and the values by path of a scenario file.  Raises ValueError or ProblemError."""
    from codesign.problem.yaml_lines import read_yaml

    document, _ = read_yaml(Path(path))
    data = document.data
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{path}: found no mapping; expected values by path, such as tasks.chat.rate: 2/s")
    return Path(path).stem, {str(key): value for key, value in data.items()}


def measure(value: Any) -> tuple[float, str] | None:
    """(number, unit) of a value; None where it is not one number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found = _QUANTITY.match(str(value))
    return (float(found[1]), found[2]) if found and not re.search(r"\d", found[2]) else None


def quantity(number: float, unit: str) -> Any:
    """A value of a problem file: text with its unit, or a plain number, whole where it is."""
    number = float(f"{number:.{_DIGITS}g}")
    plain: int | float = int(number) if number.is_integer() and abs(number) < 1e15 else number
    return f"{plain!r}{'' if unit[:1] in ('', '/', '%') else ' '}{unit}" if unit else plain


def between(low: Any, high: Any) -> Any | None:
    """The value half-way of two that have the same unit; None where there is none (or none that is whole)."""
    a, b = measure(low), measure(high)
    if a is None or b is None or a[1] != b[1]:
        return None
    middle = (a[0] + b[0]) / 2
    if isinstance(low, int) and isinstance(high, int):
        middle = float(int(middle))
    value = quantity(middle, a[1])
    return None if value in (low, high) else value


def differing(run: Settings, other: Settings) -> list[str]:
    """Paths at which two runs differ."""
    return [path for path in run if run[path] != other.get(path)]


def _words(text: str) -> Iterable[str]:
    """Split at commas outside brackets."""
    depth, word = 0, ""
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield word
            word = ""
        else:
            word += letter
    yield word


def _value(word: str) -> Any:
    """As the problem file would read it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(word.strip())
    except YAMLError:
        raise ValueError(f"found {word.strip()!r}; expected a value as in a problem file") from None
