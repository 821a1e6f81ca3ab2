"""Gaps between the tokens of answers while engines run: how many were how long, by the route of their call.

Every sequence in a step waits for it: a step of so many seconds is a gap for each of them. What a preempted call waits
until it is computed again is in its TPOT and in no gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.simulate.statistics import BATCHES, half_width

Array = NDArray[np.float64]

_FINE = 512
"""Bins for each factor of e: a length is known to 0.1 %."""


@dataclass(frozen=True, eq=False)
class Told:
    """Gaps of one task, in the order of time."""

    seconds: Array
    """[n] lengths, ascending."""
    count: Array
    """[looks, n] gaps of a length, between one look at the fleet and the next."""

    @staticmethod
    def of(rows: Array, looks: int) -> Told:
        """Of rows [m, 3]: number of a look, bin, and how many."""
        place, where = np.unique(rows[:, 1], return_inverse=True)
        count = np.zeros((looks, place.size))
        np.add.at(count, (rows[:, 0].astype(np.int64), where.ravel()), rows[:, 2])
        return Told(np.exp((place + 0.5) / _FINE), count)

    def percentile(self, share: float) -> float:
        """The smallest length that at least `share` of all gaps do not exceed; nan of none."""
        many = np.cumsum(self.count.sum(axis=0))
        if not many.size or many[-1] <= 0:
            return float("nan")
        return float(self.seconds[min(int(np.searchsorted(many, share * many[-1] - 1e-9)), many.size - 1)])

    def interval(self, share: float) -> tuple[float, float]:
        """95 % confidence interval of a percentile, by the share beyond it in batches of equal times.

        (nan, nan) where there are fewer looks than batches, or a batch without gaps.
        """
        if len(self.count) < BATCHES:
            return float("nan"), float("nan")
        batches = np.array([part.sum(axis=0) for part in np.array_split(self.count, BATCHES)])
        of_batch = batches.sum(axis=1)
        if not np.all(of_batch > 0):
            return float("nan"), float("nan")
        beyond = batches[:, self.seconds > self.percentile(share)].sum(axis=1)
        half = half_width(beyond / of_batch)
        return self.percentile(max(share - half, 0.0)), self.percentile(min(share + half, 1.0))


class Gaps:
    """What engines tell of their steps, until it is taken."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], int] = {}

    def add(self, first: float, slope: float, steps: int, sequences: Mapping[int, int]) -> None:
        """A run of steps, the first of `first` seconds and each `slope` longer, with sequences by route."""
        found, left = self._found, steps
        while left:
            place = math.floor(math.log(first) * _FINE)
            alike = left
            if slope > 0 and first + slope * (left - 1) >= math.exp((place + 1) / _FINE):
                alike = min(left, max(1, math.ceil((math.exp((place + 1) / _FINE) - first) / slope)))
            for route, count in sequences.items():
                if count:
                    found[route, place] = found.get((route, place), 0) + count * alike
            left -= alike
            first += slope * alike

    def take(self) -> Array:
        """[m, 3] route, bin and number of gaps; and begin anew."""
        found, self._found = self._found, {}
        return np.array([(*key, count) for key, count in found.items()], dtype=np.float64).reshape(-1, 3)
