"""What a simulation's output says: where the warm-up ends, percentiles, and how sure they are.

Warm-up by the marginal standard error rule (MSER-5, White 1997); confidence intervals of percentiles by batch means
over the time that is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

BATCHES = 20
"""Batches of a confidence interval."""
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

    (nan, nan) where the batches hold fewer than two values beyond it on average.
    """
    if values.size * (1 - share) < 2 * BATCHES:
        return float("nan"), float("nan")
    order = np.argsort(end_s, kind="stable")
    found = np.array([percentile(part, share) for part in np.array_split(values[order], BATCHES)])
    half = float(stdtrit(BATCHES - 1, 0.5 + CONFIDENCE / 2)) * float(found.std(ddof=1)) / BATCHES**0.5
    middle = percentile(values, share)
    return middle - half, middle + half


def mean_interval(values: Array) -> tuple[float, float]:
    """95 % confidence interval of the mean of a correlated series, by batch means."""
    means = np.array([part.mean() for part in np.array_split(values, BATCHES)])
    half = float(stdtrit(BATCHES - 1, 0.5 + CONFIDENCE / 2)) * float(means.std(ddof=1)) / BATCHES**0.5
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
