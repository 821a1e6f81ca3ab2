"""What the calls of one task carry together, of which some find their history on the replica and the others compute it.

Kept histories fill the memory and computed ones the steps, so that a mix of both carries more calls than either. By
the share θ of calls that are kept, what a call/s of the mix takes of the steps, h(θ) = 1/X(θ), falls from that of calls
that are not, and what it takes of the memory rises to that of calls that are. Where they cross a replica carries most:
rows through what is seen there say both how much that is and that it is no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import Bools, Floats, Ints

_LOOKS = 3
"""For the share at which steps and memory cross."""
ABOVE = 6
"""Lines above what mixes take: four of steps, and two of memory."""
_CROSSING = 2
"""Number of the look at which steps and memory cross."""
_BETWEEN = (0.25, 0.75)
"""Of the way to the crossing, where lines are compared with what is seen."""
_END = 0.02
"""Shares nearer to those of one kind alone are none of mixes."""

Heights = tuple[Floats, Floats]
Both = tuple[Heights, Heights]


def crosses(cold: Heights, warm: Heights) -> Bools:
    """[K] do steps bind calls that are not kept, and memory those that are?"""
    finite = np.isfinite([*cold, *warm]).all(axis=0)
    return np.asarray(finite & (cold[0] > cold[1]) & (warm[1] > warm[0]))


@dataclass(frozen=True, eq=False)
class Seen:
    """What calls/s of mixes take of steps (promises, slots and the queue) and of memory, of K configurations."""

    theta: Floats
    """[K, 5] share that is kept: 0, half of the way to where they cross, that, half of the way from there, 1."""
    steps: Floats
    """[K, 5]."""
    memory: Floats
    """[K, 5]."""
    mixed: Bools
    """[K] do steps bind calls that are not kept, and memory those that are?"""
    between: Floats
    """[K, 2] shares between looks at steps, and"""
    taken: Floats
    """[K, 2] what mixes take there of whichever binds: by it lines are told how far they are off."""

    @staticmethod
    def of(cold: Both, warm: Both, look: Callable[[Floats], Both]) -> tuple[Seen, Seen]:
        """(what mixes surely take at most, what they likely take) between calls that are not kept and those that are.

        Of configurations where they cross: (steps, memory) [K] twice, of either alone and as one `look`s at shares [K].
        The crossing is looked for where lines through the last looks at either side of it cross.
        """
        (sure, likely), (sure_kept, likely_kept) = cold, warm
        zero, one = np.zeros_like(sure[0]), np.ones_like(sure[0])
        low, high = [zero, *sure], [one, *sure_kept]
        crossing, at = zero + 0.5, (sure, likely)
        for _ in range(_LOOKS):
            with np.errstate(invalid="ignore"):
                left, right = low[1] - low[2], high[2] - high[1]
                known = np.isfinite(left + right) & (left + right > 0)
            part = np.where(known, left, 1.0) / np.where(known, left + right, 2.0)
            crossing = np.clip(low[0] + part * (high[0] - low[0]), _END, 1.0 - _END)
            at = look(crossing)
            here, below = [crossing, *at[0]], at[0][0] >= at[0][1]
            low = [np.where(below, new, old) for new, old in zip(here, low, strict=True)]
            high = [np.where(below, old, new) for new, old in zip(here, high, strict=True)]
        shares = [zero, crossing / 2.0, crossing, (1.0 + crossing) / 2.0, one]
        looks = [(sure, likely), look(shares[1]), at, look(shares[3]), (sure_kept, likely_kept)]
        between = [crossing * part for part in _BETWEEN]
        seen_between = [look(share) for share in between]
        theta = np.stack(shares, axis=1)

        def made(n: int) -> Seen:
            steps, memory = (np.stack([each[n][part] for each in looks], axis=1) for part in range(2))
            taken = np.stack([np.maximum(*each[n]) for each in seen_between], axis=1)
            return Seen(theta, steps, memory, np.ones(len(theta), dtype=bool), np.stack(between, axis=1), taken)

        found = made(0), made(1)
        numbers: Bools = np.all([np.isfinite(each.steps + each.memory).all(axis=1) for each in found], axis=0)
        numbers &= np.all([np.isfinite(each.taken).all(axis=1) for each in found], axis=0)
        return tuple(each.where(numbers) for each in found)  # type: ignore[return-value]

    def among(self, count: int, rows: Ints) -> Seen:
        """Of `count` configurations, among which these have the numbers `rows`; others take as much of all shares."""
        every: Bools = np.zeros(count, dtype=bool)
        every[rows] = self.mixed

        def spread(values: Floats, other: Floats) -> Floats:
            found = np.tile(other, (count, 1))
            found[rows] = values
            return found

        one = np.ones(self.theta.shape[1])
        theta = spread(self.theta, np.linspace(0.0, 1.0, len(one)))
        between, taken = spread(self.between, np.full(len(_BETWEEN), 0.5)), spread(self.taken, one[: len(_BETWEEN)])
        return Seen(theta, spread(self.steps, one), spread(self.memory, one), every, between, taken)

    def where(self, known: Bools) -> Seen:
        """Where all that was seen is a number."""
        steps, memory, taken = (np.where(known[:, None], each, 1.0) for each in (self.steps, self.memory, self.taken))
        return replace(self, steps=steps, memory=memory, taken=taken, mixed=self.mixed & known)

    def times(self, factor: float) -> Seen:
        """What takes so many times as much."""
        return replace(self, steps=self.steps * factor, memory=self.memory * factor, taken=self.taken * factor)

    def above(self) -> list[Heights]:
        """(height at 0, slope) [K] of lines of which the largest is at least what mixes take: from look to look.

        Between two, a curve that bends upwards is below such a line, and one that bends downwards below the next one.
        """
        taken = np.maximum(self.steps, self.memory)
        first, second = (np.stack([each[:, n] for n in (0, 1)]) for each in (self.between, self.taken))
        theta = [self.theta[:, 0], first[0], self.theta[:, 1], first[1], *self.theta.T[2:]]
        values = [taken[:, 0], second[0], taken[:, 1], second[1], *taken.T[2:]]
        slopes = [np.diff(values[n : n + 2], axis=0)[0] / np.diff(theta[n : n + 2], axis=0)[0] for n in range(ABOVE)]
        return [(values[n] - slope * theta[n], slope) for n, slope in enumerate(slopes)]

    def below(self) -> list[Heights]:
        """(height at 0, slope) [K] of lines that are at most what mixes take: of steps, and of memory.

        Beside two looks a curve that bends upwards is above a line through them, and between them a quarter as far
        below it as the look between the ends is below theirs: twice that is counted. One that bends downwards is above
        the line between the ends.
        """
        found = []
        for values, first in ((self.steps, 0), (self.memory, _CROSSING)):
            start, middle, end = (values[:, first + n] for n in range(3))
            dip = (start + end) / 2.0 - middle
            whole = self._line(values, first, first + 2)
            for n in range(2):
                part = self._line(values, first + n, first + n + 1)
                height, slope = (np.where(dip > 0, own, line) for own, line in zip(part, whole, strict=True))
                height = height - np.maximum(dip, 0.0) / 2.0
                over = (height[:, None] + slope[:, None] * self.theta) - np.maximum(self.steps, self.memory)
                found.append((height - np.max(np.maximum(over, 0.0), axis=1), slope))
        far = np.max(self._largest(found) / self.taken, axis=1, initial=1.0)
        return [(start / far, slope / far) for start, slope in found]

    def _largest(self, lines: Sequence[Heights]) -> Floats:
        """[K, 2] of the lines between looks."""
        return np.asarray(np.max([start[:, None] + slope[:, None] * self.between for start, slope in lines], axis=0))

    def _line(self, values: Floats, i: int, j: int) -> Heights:
        """(height at 0, slope) of the line through what was seen at two looks."""
        slope = (values[:, j] - values[:, i]) / (self.theta[:, j] - self.theta[:, i])
        return values[:, i] - slope * self.theta[:, i], slope
