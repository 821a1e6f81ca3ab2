"""The look that all reports share: consoles, tables, and figures as people write them."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from codesign.units import format_quantity

PIPED_WIDTH = 140
"""Columns where the output is no terminal: wide enough that no table of ours is folded."""

_KIND_OF_UNIT = {
    "W": "power",
    "s": "time",
    "B": "bytes",
    "B/s": "bandwidth",
    "FLOP/s": "flops",
    "1/s": "rate",
    "/s": "rate",
    "tokens": "tokens",
}

_COUNTS = ("accelerators", "servers", "designs", "vendors")


def make_console(*, stderr: bool = False) -> Console:
    """A console that prints names as they stand: no markup, emoji codes or highlighting in users' words."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    elif console.is_terminal:
        # Standard output may be a copy of the terminal's descriptor, of which rich does not ask the size.
        console.width = shutil.get_terminal_size((console.width, 24)).columns
    return console


def make_table(title: str, left: Iterable[str], right: Iterable[str] = (), last: Iterable[str] = ()) -> Table:
    """A table whose columns `left` hold words, `right` figures, and `last` words again."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.min_width = len(title) + 1  # a title is folded to the width of its table
    for position, name in enumerate(left):
        table.add_column(name, overflow="fold", no_wrap=position == 0)
    for name in right:
        table.add_column(name, justify="right", overflow="fold")
    for name in last:
        table.add_column(name, overflow="fold")
    return table


def line(text: str, style: str = "") -> Text:
    """A sentence that is not folded: a terminal folds it itself, and a file keeps it whole."""
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def print_report(console: Console, report: RenderableType) -> None:
    """Print tables and sentences; the latter may be longer than the console is wide."""
    console.print(report, crop=False)


def quantity(value: float | None, kind: str, digits: int = 4) -> str:
    """A quantity with its unit; a dash where there is none."""
    return "–" if value is None else format_quantity(value, kind, digits)


def money(value: float | None) -> str:
    """Dollars to the cent with thousands separated, so that a column adds up; small ones to four digits."""
    if value is None:
        return "–"
    return f"{value:,.2f}" if value == 0 or abs(value) >= 1 else f"{value:.4g}"


def joules(value: float | None) -> str:
    """An energy, with the prefixes of a power."""
    return "–" if value is None else f"{format_quantity(value, 'power').removesuffix('W')}J"


def number(value: float | None) -> str:
    """A count, whole where it is large."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float | None, digits: int = 3) -> str:
    """A fraction in percent."""
    return "–" if value is None else f"{100 * value:.{digits}g} %"


def worth(value: float, unit: str, objective_unit: str) -> str:
    """Objective saved per unit of a limit; the unit may already name both."""
    if objective_unit in unit:
        return f"{value:.4g} {unit}"
    one = unit.removesuffix("s") if len(unit) > 2 and not unit[0].isdigit() else unit  # "servers", but not "10 ms"
    return f"{value:.4g} {objective_unit} per {one}"


def amount(value: float | None, unit: str) -> str:
    """A figure in a unit that is given as text ("W", "$/h", "accelerators")."""
    if value is None:
        return "–"
    if unit in _KIND_OF_UNIT:
        return format_quantity(value, _KIND_OF_UNIT[unit])
    if unit.startswith("$"):
        return f"{money(value)} {unit}"
    if unit.startswith("J"):
        return f"{joules(value)}{unit[1:]}"
    if unit in _COUNTS:
        value = math.ceil(value - 1e-6)  # 343.3 accelerators are 344
    return f"{number(value)} {unit}".rstrip()
