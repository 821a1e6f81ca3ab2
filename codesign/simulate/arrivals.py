"""When tasks arrive: a Poisson process, or a burstier renewal process with gamma gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codesign.simulate.replay import Replay

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Arrivals:
    """How the gaps between two arrivals of a task class vary: `cv` is their standard deviation over their mean.

    1 is Poisson, more is bursty (gamma gaps), 0 is a clock.
    """

    cv: float = 1.0
    traces: Mapping[str, Replay] = field(default_factory=dict)
    """By task: calls come from a trace instead, with its own bursts."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cv) and 0 <= self.cv <= 100):
            raise ValueError(f"found a coefficient of variation of {self.cv}; expected a number from 0 to 100")

    @property
    def name(self) -> str:
        """For people."""
        drawn = "Poisson arrivals" if self.cv == 1 else f"gamma arrivals of CV {self.cv:g}"
        return ", ".join([drawn, *(f"{task} from a trace" for task in sorted(self.traces))])

    def times(self, rate_per_s: float, horizon_s: float, rng: np.random.Generator) -> Array:
        """Arrivals in [0, horizon) at a mean rate, from a process that has been running for ever."""
        if rate_per_s <= 0:
            return np.empty(0)
        expected = rate_per_s * horizon_s
        count = int(expected + 10 * max(self.cv, 1.0) * math.sqrt(expected) + 20 * max(self.cv, 1.0) ** 2)
        # At a random time the gap under way is one in proportion to its length, and that time lies anywhere in it.
        first = rng.random() * self._gap(rng, 1, biased=True)[0]
        gaps = self._gap(rng, count)
        times = np.concatenate([[first], first + np.cumsum(gaps)]) / rate_per_s
        while times[-1] < horizon_s:
            times = np.concatenate([times, times[-1] + np.cumsum(self._gap(rng, count)) / rate_per_s])
        return times[times < horizon_s]

    def _gap(self, rng: np.random.Generator, count: int, biased: bool = False) -> Array:
        """[count] gaps of mean 1; in proportion to their length where `biased`."""
        if self.cv == 0:
            return np.ones(count)
        shape = 1.0 / self.cv**2
        return np.asarray(rng.gamma(shape + (1.0 if biased else 0.0), 1.0 / shape, count))
