"""Tables as notebooks show them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table with a caption; every word is escaped, figures have five digits."""

    def show(cell: object) -> str:
        return f"{cell:.5g}" if isinstance(cell, float) else escape("" if cell is None else str(cell))

    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{show(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
