"""Which test a measured row is: what was in view while terms were chosen, or held out by part or by model, and so on.

A row is of the first slice whose test it passes. Readers of further kinds of serving (disaggregated, cached,
speculative) put their tests first in :data:`SLICES`: such a row is of its kind, whatever part it ran on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from codesign.validation.measured import read_names, shipped_rows
from codesign.validation.points import CACHED, DISAGGREGATED, Point, points_of

GIVEN, BY_PART, BY_MODEL = "given", "held out by part", "held out by model"


@cache
def looked_at() -> tuple[frozenset[str], frozenset[str]]:
    """(parts, models) of the rows that ship with the package: they were looked at while terms were chosen."""
    points, _ = points_of(shipped_rows(), read_names())
    return frozenset(p.accelerator for p in points), frozenset(p.model for p in points)


SLICES: dict[str, Callable[[Point], bool]] = {
    DISAGGREGATED: lambda p: p.slice == DISAGGREGATED,
    CACHED: lambda p: p.slice == CACHED,
    BY_PART: lambda p: p.held_out == "part" or p.accelerator not in looked_at()[0],
    BY_MODEL: lambda p: p.held_out == "model" or p.model not in looked_at()[1],
}
"""Test of each slice, in the order in which they are asked; what passes none is given."""


def slice_of(point: Point) -> str:
    """The slice of a point."""
    return next((name for name, test in SLICES.items() if test(point)), GIVEN)
