"""Where to look next on a frontier of two objectives: ε values for the second, given what is known.

Known are solves: at ceiling ε the least first objective, and the plan that has it.  Between two neighbouring plans
A (dearer) and B lies a box that nobody has searched; the largest box goes next, so points gather where the curve
bends.  Nothing here depends on how many workers there are, or on who finishes first.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

_RESOLUTION = 1e-6
"""Of the range: boxes narrower than this are empty."""
_ROW_TOLERANCE = 2e-6
"""Of the value: what a row of the MILP can tell apart, with a margin."""
_TRIES = 3
"""Halvings of a box without news before the next try goes right beside its cheap end, which settles it."""


@dataclass(frozen=True)
class Known:
    """A solve: the ceiling on the second objective, and both values of its plan (infinite without one)."""

    ceiling: float
    first: float
    second: float


@dataclass(frozen=True)
class Box:
    """What is unsearched between two neighbouring plans: second in (low, high), first in (bottom, top)."""

    low: float
    high: float
    top: float
    bottom: float
    tries: int

    def next(self, step: float) -> float | None:
        """The ceiling to try; None where the box is too narrow to hold a plan."""
        if self.high - self.low <= 2 * step:
            return None
        return (self.low + self.high) / 2 if self.tries < _TRIES else self.high - step


def staircase(known: Sequence[Known]) -> list[Known]:
    """Plans that no other beats, by ascending second objective."""
    kept: list[Known] = []
    for point in sorted(known, key=lambda k: (k.second, k.first, k.ceiling)):
        if math.isfinite(point.first) and (not kept or point.first < kept[-1].first):
            kept.append(point)
    return kept


def boxes(known: Sequence[Known]) -> list[Box]:
    """The unsearched boxes between neighbours of the staircase."""
    stairs = staircase(known)
    found = []
    for a, b in itertools.pairwise(stairs):
        inside = [k.ceiling for k in known if a.second <= k.ceiling < b.second]
        found.append(Box(max([a.second, *inside]), b.second, a.first, b.first, max(0, len(inside) - 1)))
    return found


def next_ceilings(known: Sequence[Known], count: int) -> list[float]:
    """Up to `count` ceilings to solve at next, the largest boxes first, large ones several times.

    Empty when nothing is left to search.
    """
    stairs = staircase(known)
    if len(stairs) < 2:
        return []
    width, height = stairs[-1].second - stairs[0].second, stairs[0].first - stairs[-1].first
    step = max(_RESOLUTION * width, _ROW_TOLERANCE * max(abs(stair.second) for stair in stairs))

    def area(box: Box) -> float:
        return (box.high - box.low) / width * (box.top - box.bottom) / height

    heap = [(-area(box), number, box) for number, box in enumerate(boxes(known))]
    heapq.heapify(heap)
    chosen: list[float] = []
    number = len(heap)
    while heap and len(chosen) < count:
        _, _, box = heapq.heappop(heap)
        ceiling = box.next(step)
        if ceiling is None:
            continue
        chosen.append(ceiling)
        if box.tries >= _TRIES:
            continue  # that answer settles the box
        # As if the answer lay on the diagonal: the halves compete with the other boxes for this round.
        middle = (box.top + box.bottom) / 2
        for half in (
            Box(box.low, ceiling, box.top, middle, 0),
            Box(ceiling, box.high, middle, box.bottom, 0),
        ):
            heapq.heappush(heap, (-area(half), number, half))
            number += 1
    return sorted(chosen)


def even_ceilings(low: float, high: float, count: int) -> list[float]:
    """`count` values from low to high with equal ratios where both are positive, else equal steps."""
    if count < 2:
        return [high]
    steps = [i / (count - 1) for i in range(count)]
    if low > 0:
        return [math.exp(math.log(low) + (math.log(high) - math.log(low)) * s) for s in steps]
    return [low + (high - low) * s for s in steps]
