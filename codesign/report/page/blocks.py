"""What a report is made of: sections of texts, tables, lists and figures.

Plain text only, which the template escapes; a figure is markup, made by `Drawing`, which escapes its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codesign.report.console import percent


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and a bar behind it where `share` (0–1) is given."""

    text: str
    share: float | None = None
    strong: bool = False
    tone: str = ""
    """good, bad or nothing."""


@dataclass(frozen=True)
class Table:
    """Rows under a caption; the first `words` columns are left-aligned, figures follow."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """An SVG element, and what it shows in words."""

    caption: str
    svg: str
    kind: str = "figure"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]
    kind: str = "items"


Block = Table | Figure | Text | Items


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; `name` is its place in the page's links."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """One plan: a title, its answer in three sentences, the figures of the first glance, and the sections."""

    title: str
    answer: tuple[str, ...]
    glance: tuple[tuple[str, str], ...]
    """(name, figure)."""
    sections: tuple[Section, ...]
    status: str = ""


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell | str]], words: int = 1
) -> Table:
    """A table from rows of cells or plain text."""
    return Table(
        caption,
        tuple(head),
        tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows),
        words,
    )


def share_cell(share: float | None, strong: bool = False) -> Cell:
    """A share with its bar."""
    return Cell(percent(share, 3 if share is not None and share >= 0.995 else 2), share, strong)
