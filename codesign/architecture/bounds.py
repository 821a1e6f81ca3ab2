"""What the search cannot have missed: the exact optimum on a grid of designs, and a lower bound over all designs.

The lower bound is branch and bound on boxes. The cell of a box has the performance of its fastest corner at
the price, power and needs of its cheapest: no design inside is worth less, since neither cost nor speed falls
as a parameter grows. Cells are exact LPs; boxes above the incumbent are dropped, others are split.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.architecture.evaluate import Evaluator
from codesign.architecture.part import least_sram_bytes
from codesign.architecture.space import Box, Space, Value

_BATCH = 12
_TIE = 1e-9
_TRIED = 3
_SPEED = 0.25
"""What an e-fold of a parameter is taken to be worth where boxes are split, against its part of the price."""

Progress = Callable[[str, int, float], None]
"""Called with (what, how many done, best or bound so far)."""


@dataclass(frozen=True)
class GridOptimum:
    """The best design of a grid: at most what any search over it could find."""

    points: int
    value: float
    point: dict[str, Value] | None


@dataclass(frozen=True)
class LowerBound:
    """No design of the space is worth less than `value` (given the fleets' relaxation)."""

    value: float
    boxes: int
    """Cells evaluated."""
    closed: bool
    """Whether the gap that was asked for is proven; else the number of boxes ended it."""
    best_value: float
    """Of the best design met on the way, or the incumbent."""
    best_point: dict[str, Value] | None
    """None where the incumbent was not improved on."""


def grid_optimum(
    space: Space,
    evaluator: Evaluator,
    count: int,
    cutoff: float = np.inf,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> GridOptimum:
    """The least value over every point of a grid; points proven to be no better than `cutoff` are not solved.

    With a cutoff below the grid's optimum the value is inf: the grid has nothing better.
    """
    best, where, done = np.inf, None, 0
    points = space.grid(count)
    while batch := list(itertools.islice(points, _BATCH)):
        if cancelled():
            break
        for point, found in zip(batch, evaluator.points(batch, min(best, cutoff)), strict=True):
            if found.value < best - _TIE * abs(found.value):
                best, where = found.value, point
        done += len(batch)
        if progress is not None:
            progress("grid", done, best)
    return GridOptimum(done, float(best), where)


def lower_bound(
    space: Space,
    evaluator: Evaluator,
    incumbent: float,
    boxes: int,
    gap: float,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LowerBound:
    """Branch and bound on boxes until the bound is within `gap` of the incumbent, or `boxes` cells were tried."""
    order = itertools.count()
    heap: list[tuple[float, int, Box]] = []
    done, pending, point = 0, space.boxes(), None
    floor = np.inf
    """The least bound among boxes that are not split any further."""
    while True:
        pending = [_tightened(space, box) for box in pending]
        for start in range(0, len(pending), _BATCH):
            batch = pending[start : start + _BATCH]
            for box, cell in zip(batch, evaluator.cells(batch, incumbent), strict=True):
                if cell.reasons and not math.isfinite(cell.bound):
                    continue  # nothing inside can be made, or meets the demand
                if cell.bound >= incumbent or box.single:
                    floor = min(floor, cell.bound)
                else:
                    heapq.heappush(heap, (cell.bound, next(order), box))
            done += len(batch)
        # A better design makes the rest of the proof shorter: try the middle of the most promising boxes.
        middles = [space.middle(box) for _, _, box in heapq.nsmallest(_TRIED, heap)]
        for tried, found in zip(middles, evaluator.points(middles, incumbent), strict=True):
            if found.value < incumbent:
                incumbent, point = found.value, tried
        bound = min(heap[0][0] if heap else np.inf, floor, incumbent)
        target = incumbent * (1.0 - gap)
        if progress is not None:
            progress("boxes", done, bound)
        if bound >= target or done >= boxes or cancelled():
            return LowerBound(float(bound), done, bool(bound >= target), float(incumbent), point)
        pending = []
        while heap and heap[0][0] < target and len(pending) < _BATCH:
            _, _, box = heapq.heappop(heap)
            pending += space.split(box, _axis(space, evaluator, box))


def _tightened(space: Space, box: Box) -> Box:
    """The box without SRAM that none of its chips may have: at least what its least FLOP/s need."""
    low = dict(box.low)
    for name, design in space.designs(box.low).items():
        axis = f"{name}.sram"
        if axis in low and not isinstance(low[axis], str):
            io = design.io.sram_bytes if design.io else 0.0
            needed = least_sram_bytes(space.problem, design.fp16_flops) - io
            choices = next(a for a in space.axes if a.name == axis).choices
            if choices:
                enough = [value for value in choices if float(value) >= needed]
                needed = float(enough[0]) if enough else float(choices[-1])
            low[axis] = min(max(low[axis], needed), box.high[axis])
    return Box(low, box.high)


def _axis(space: Space, evaluator: Evaluator, box: Box) -> str:
    """The axis whose split should raise the cell most: by what its upper end adds to the price, and by its range,
    in which the cell may be too fast."""
    base = evaluator.cell_price_usd(box)
    best, chosen = -1.0, ""
    for axis in space.axes:
        low, high = box.low[axis.name], box.high[axis.name]
        if low == high or not axis.ordered:
            continue
        dearer = evaluator.cell_price_usd(Box({**box.low, axis.name: high}, box.high))
        spread = (dearer - base) / base + _SPEED * math.log(float(high) / max(float(low), 1e-12))
        if spread > best:
            best, chosen = spread, axis.name
    return chosen
