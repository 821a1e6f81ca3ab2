"""What a simulation's output says: where the warm-up ends, percentiles, and how sure they are.

Warm-up by the marginal standard error rule (MSER-5, White 1997); confidence intervals of percentiles by batch means
over the time that is left, widened where a batch resembles the one before it: in a busy queue one burst is in several.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

BATCHES = 20
"""Batches of a confidence interval."""
_MOST_ALIKE = 0.9
"""Largest correlation of neighbouring batches that is believed: beyond it a run says nothing."""
CONFIDENCE = 0.95
_BINS = 400


def warm_up_s(end_s: Array, value: Array, horizon_s: float) -> float:
    """When the start no longer shows in a series: MSER-5 over its means in equal times, at most half of the horizon."""
    if end_s.size < 10:
        return 0.0
    bins = int(min(_BINS, max(10, end_s.size // 10)))
    where = np.minimum((end_s / horizon_s * bins).astype(np.int64), bins - 1)
    counts = np.bincount(where, minlength=bins)
    means = np.bincount(where, weights=value, minlength=bins) / np.maximum(counts, 1)
    usable = counts > 0
    series, times = means[usable], (np.flatnonzero(usable) + 1) * horizon_s / bins
    groups = series.size // 5
    if groups < 4:
        return 0.0
    series = series[: groups * 5].reshape(groups, 5).mean(axis=1)
    times = times[4 : groups * 5 : 5]
    cuts = np.arange(groups // 2)
    left = groups - cuts
    sums = np.cumsum(series[::-1])[::-1][cuts]
    squares = np.cumsum((series**2)[::-1])[::-1][cuts]
    error = (squares - sums**2 / left) / left**2
    best = int(np.argmin(error))
    return float(times[best - 1]) if best else 0.0


def percentile(values: Array, share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; nan of none."""
    if not values.size:
        return float("nan")
    place = min(max(int(np.ceil(share * values.size - 1e-9)) - 1, 0), values.size - 1)
    return float(np.partition(values, place)[place])


def percentile_interval(end_s: Array, values: Array, share: float) -> tuple[float, float]:
    """95 % confidence interval of a percentile from its values in batches of equal size in order of time.

    What differs between batches is the share beyond the percentile; the interval is between the percentiles that are
    as many more and less.  Percentiles of batches themselves would hide that long waits come together.
    (nan, nan) where the batches hold fewer than two values beyond it on average.
    """
    if values.size * (1 - share) < 2 * BATCHES:
        return float("nan"), float("nan")
    middle = percentile(values, share)
    ordered = values[np.argsort(end_s, kind="stable")]
    half = half_width(np.array([float((part > middle).mean()) for part in np.array_split(ordered, BATCHES)]))
    return percentile(values, max(share - half, 0.0)), percentile(values, min(share + half, 1.0))


def half_width(batches: Array) -> float:
    """Half of the 95 % interval of a mean of batches that follow one another with some correlation (AR(1))."""
    spread = float(batches.std(ddof=1))
    if spread <= 0.0:
        return 0.0
    off = batches - batches.mean()
    alike = max(float(off[1:] @ off[:-1]) / float(off @ off), 0.0)
    alike = min(alike + (1 + 3 * alike) / batches.size, _MOST_ALIKE)  # of so few it is too small on average
    width = spread * float(np.sqrt((1 + alike) / (1 - alike) / batches.size))
    return float(stdtrit(batches.size - 1, 0.5 + CONFIDENCE / 2)) * width


def mean_interval(values: Array) -> tuple[float, float]:
    """95 % confidence interval of the mean of a correlated series, by batch means."""
    means = np.array([part.mean() for part in np.array_split(values, BATCHES)])
    half = half_width(means)
    middle = float(values.mean())
    return middle - half, middle + half


def chain_latency(
    place: Array, latency: Array, places: Array, chain: NDArray[np.int64], chains: int, rng: np.random.Generator
) -> Array:
    """[chains] summed latencies of chains put together from simulated calls.

    `places` [m] are the places of calls in their chains, `chain` [m] which one they belong to: each takes the latency
    of a simulated call near its place, so that long contexts meet the end of a chain. What calls of one task share
    beyond their place (a slow replica) is lost.
    """
    order = np.argsort(place, kind="stable")
    near = max(1, place.size // 100)
    found = np.searchsorted(place[order], places) + rng.integers(-near, near + 1, places.size)
    taken = latency[order][np.clip(found, 0, place.size - 1)]
    return np.bincount(chain, weights=taken, minlength=chains).astype(np.float64)
