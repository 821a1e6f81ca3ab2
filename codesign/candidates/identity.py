"""Which column of one enumeration is that of another: by its group and operating point, in the order of both.

Enumerations of problems that differ in prices and rates alone have the same columns at the same places; of others only
some, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.data import Ints

Point = tuple[float | None, ...]
"""Step limit, utilisation, wait and chunk of an operating point; None where it has none."""


def point_of(candidates: Candidates, column: int) -> Point:
    """The operating point of a column; all None for a measured pool."""
    block, i = candidates.data.locate([column])[0]
    points = candidates.points[block]
    if points is None:
        return (None, None, None, None)
    figures = (points.step_limit_s[i], points.utilization[i], points.wait_s[i], points.chunk[i])
    return tuple(None if np.isnan(figure) else float(figure) for figure in figures)


def columns_at(candidates: Candidates, group: str, point: Point, pays_electricity: bool | None = None) -> list[int]:
    """The columns of a group (by name) at an operating point, which differ in what they keep free for fluctuation.

    `pays_electricity` tells apart groups of one name whose servers are bought with electricity and without.
    """
    data, options = candidates.data, candidates.instance.hardware
    groups = [
        g
        for g, item in enumerate(data.groups)
        if item.name == group
        and (
            pays_electricity is None
            or item.hardware >= len(options)
            or options[item.hardware].includes_power is not pays_electricity
        )
    ]
    found: list[int] = []
    for b, block in enumerate(data.blocks):
        mine = np.isin(block.group, groups)
        points = candidates.points[b]
        if points is not None:
            figures = (points.step_limit_s, points.utilization, points.wait_s, points.chunk)
            for values, wanted in zip(figures, point, strict=True):
                mine &= np.isnan(values) if wanted is None else np.isclose(values, wanted, rtol=1e-9, atol=0.0)
        found += (int(data.offsets[b]) + np.flatnonzero(mine)).tolist()
    return found


def same_columns(columns: Iterable[int], of: Candidates, among: Candidates) -> dict[int, int]:
    """{column of one enumeration: the same one among another}; columns that it does not have are left out.

    Both have the same stages, or none.
    """
    wanted = sorted(set(columns))
    if alike(of, among):
        return {k: k for k in wanted}
    if of.stages:
        return {
            part.columns + k: other.columns + own
            for part, other in zip(of.stages, among.stages, strict=True)
            for k, own in same_columns(
                [k - part.columns for k in wanted if 0 <= k - part.columns < part.candidates.data.columns],
                part.candidates,
                other.candidates,
            ).items()
        }
    found: dict[int, int] = {}
    places: dict[tuple[str, Point], tuple[list[int], list[int]]] = {}
    for k in wanted:
        key = (_group(of, k), point_of(of, k))
        if key not in places:
            places[key] = columns_at(of, *key), columns_at(among, *key)
        here, there = places[key]
        position = here.index(k)
        if position < len(there):
            found[k] = there[position]
    return found


def same_names(numbers: Mapping[int, int], names: Iterable[str], among: Iterable[str]) -> dict[int, int]:
    """Counts by position among `names` as counts by position of the same names among others; unknown ones go."""
    known, others = list(names), list(among)
    if known == others:  # names may come twice, such as servers with electricity and without
        return dict(numbers)
    place = {name: n for n, name in enumerate(others)}
    return {place[known[n]]: count for n, count in numbers.items() if known[n] in place}


def alike(of: Candidates, among: Candidates) -> bool:
    """Do two enumerations share their columns, each stage's of one with the same stage's of the other?"""
    if of.stages:
        return all(alike(a.candidates, b.candidates) for a, b in zip(of.stages, among.stages, strict=True))
    mine, theirs = of.data.blocks, among.data.blocks
    return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))


def _group(candidates: Candidates, column: int) -> str:
    block, i = candidates.data.locate([column])[0]
    group: Ints = candidates.data.blocks[block].group
    return candidates.data.groups[int(group[i])].name
