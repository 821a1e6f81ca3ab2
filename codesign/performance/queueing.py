"""Waiting and fluctuation: what turns means at full load into percentiles (DESIGN 3.4).

Waits follow Pollaczek–Khinchine for one server and Sakasegawa's approximation for n pooled ones. Behind the probability
of waiting at all their tail has the second moment that the third moment of the jobs gives (Takács), and is exponential
at the least.  Batches fluctuate as Poisson counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaincinv, ndtr, ndtri

Floats = NDArray[np.float64]

ADMISSION_STEPS = 1.5
"""Decode steps from a call's arrival to the end of its first one, on average: half of one that runs, and its own."""
EVEN_REPLICAS = 4
"""Replicas from which on calls that no replica keeps, and that go to the emptiest, make batches even."""
UNEVEN = 0.4
"""Square of what the calls on a replica differ from their mean over the replicas, where calls go to the emptiest: a
whole number of them is there, and who leaves is chance. Source: routing simulated with 2 to 32 replicas, 0.1 to 30
calls on each, that stay for times alike, exponential, or of a coefficient of variation of 2: 0.15 to 0.33."""
ALIKE = 0.01
"""Square of the coefficient of variation of answers at which half of the calls no longer leave as they came."""
MOST_EVEN = 32
"""Replicas beyond which more are taken to even out no more: what they differ by is known for so many."""
LEAST_MET = 1e-3
"""Share of its calls by chance that a call is taken to meet at the least, that rates stay above nothing."""
EXPONENTIAL_SKEW = 1.5
"""E[S]·E[S³]/E[S²]² of exponential jobs: waits behind them are exponential."""
_LARGEST_GAIN = 0.95
_INSTANT = 1e-300
PLANNING_PERCENTILE = 0.95
"""Percentile at which slots, memory and step time hold by design; SLOs at others are checked against it."""


def normal_quantile(percentile: ArrayLike) -> Floats:
    """z with P(Z ≤ z) = percentile for a standard normal."""
    return np.asarray(ndtri(percentile), dtype=np.float64)


def wait_probability(utilization: ArrayLike, servers: ArrayLike) -> Floats:
    """P(a job waits) = ρ^(√(2(n+1))−1), which is ρ for one server (Sakasegawa 1977)."""
    rho, n = np.asarray(utilization, dtype=np.float64), np.asarray(servers, dtype=np.float64)
    return np.asarray(rho ** (np.sqrt(2.0 * (n + 1.0)) - 1.0))


def pooling_factor(utilization: ArrayLike, servers: ArrayLike) -> Floats:
    """κ = ρ^(√(2(n+1))−1) / (2n(1−ρ)), so that the mean wait is κ·E[S²]·λ/(ρ·n)·n/n (see `mean_wait`)."""
    rho, n = np.asarray(utilization, dtype=np.float64), np.asarray(servers, dtype=np.float64)
    return np.asarray(wait_probability(rho, n) / (2.0 * n * (1.0 - rho)))


def mean_wait(busy: ArrayLike, second_moment: ArrayLike, servers: ArrayLike) -> Floats:
    """Mean wait in seconds of n servers under a mix of jobs; inf at or above full load.

    `busy` = Σ x·E[S] and `second_moment` = Σ x·E[S²] of the whole pool (jobs/s times seconds, seconds²).
    """
    n = np.asarray(servers, dtype=np.float64)
    rho = np.asarray(busy, dtype=np.float64) / n
    safe = np.clip(rho, 1e-12, 1.0 - 1e-12)
    wait = pooling_factor(safe, n) * np.asarray(second_moment) / (safe * n)
    return np.where(rho >= 1.0, np.inf, np.where(rho <= 0.0, 0.0, wait))


def wait_moment_ratio(utilization: ArrayLike, skew: ArrayLike) -> Floats:
    """E[W²]/E[W]² of the waits W of those that wait, never below an exponential one's 2.

    `skew` = E[S]·E[S³]/E[S²]² of the jobs (1.5 where they are exponential, 1 where all are alike). Of one server it is
    2ρ + 4/3·(1 − ρ)·skew (Takács 1962: E[W²] = 2w² + λE[S³]/(3(1 − ρ))); for pooled ones the same, an approximation.
    """
    rho, s = np.asarray(utilization, dtype=np.float64), np.asarray(skew, dtype=np.float64)
    return np.asarray(np.maximum(2.0, 2.0 * rho + 4.0 / 3.0 * (1.0 - rho) * s))


def wait_exceeds(
    t: ArrayLike, wait: ArrayLike, utilization: ArrayLike, servers: ArrayLike, skew: ArrayLike = EXPONENTIAL_SKEW
) -> Floats:
    """P(wait > t), 1 for t < 0: P(waits) times an exponential tail, or a longer one behind jobs of very unlike lengths.

    Of those that wait with a squared coefficient of variation v > 1 (:func:`wait_moment_ratio` less one) the share
    1 − 1/v² is lognormal with that mean and v, the rest exponential; nothing is below the exponential tail. Gamma and
    hyperexponential tails of the same two moments put p99 behind lognormal jobs a third too high.
    """
    seconds, mean = np.asarray(t, dtype=np.float64), np.asarray(wait, dtype=np.float64)
    waits = wait_probability(utilization, servers)
    spread = wait_moment_ratio(utilization, skew) - 1.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reduced = np.maximum(seconds, 0.0) * waits / mean
        tail = np.exp(-reduced)
        if np.any(spread > 1.0):
            deviation = np.sqrt(np.log1p(spread))
            longer = ndtr(-np.log(np.maximum(reduced, _INSTANT)) / deviation - deviation / 2.0)
            tail = np.maximum(tail, tail + (1.0 - spread**-2.0) * (longer - tail))
        tail = np.where(mean > 0, waits * tail, 0.0)
    tail = np.where(np.isinf(mean), 1.0, tail)
    return np.where(seconds < 0, 1.0, tail)


def seen_batch(batch: ArrayLike, replicas: int) -> Floats:
    """Sequences in the steps of a call, itself included, where `batch` are under way on a replica on average.

    Those that come by chance find as many as there are on average. Calls that go to the emptiest of several replicas
    find one less than that, or none.
    """
    there = np.asarray(batch, dtype=np.float64)
    return np.maximum(there, 1.0) if replicas >= EVEN_REPLICAS else there + 1.0


def batch_swing(gain: ArrayLike, batch: ArrayLike, replicas: int) -> Floats:
    """Variance of a replica's batch over its mean `batch`, where one percent more makes steps `gain` percent longer.

    Longer steps keep calls for longer, which makes the batch larger: 1/(1 − gain), as in a processor that is shared
    (1 where steps do not depend on the batch). Calls that go to the emptiest of n `replicas` swing together, each by
    1/n; less than by chance only where there are fewer than one a replica, which seldom meet.
    """
    swing = 1.0 / (1.0 - np.clip(np.asarray(gain, dtype=np.float64), 0.0, _LARGEST_GAIN))
    least = np.minimum(np.asarray(batch, dtype=np.float64), 1.0) if replicas >= EVEN_REPLICAS else 1.0
    return np.maximum(swing / replicas, least)


def calls_met(calls: ArrayLike, replicas: ArrayLike) -> Floats:
    """Others that a call meets on its replica, where `calls` are under way on each of n `replicas` on average.

    Those that come by chance meet as many as there are. Where each goes to the emptiest replica, N calls (a Poisson
    number) stand in rows of n, and one meets whoever stands before and behind it: E[N·max(N/n − 1, 0)]/E[N], and what
    replicas differ by, once there are enough for more than one on each.
    """
    there, n = np.asarray(calls, dtype=np.float64), np.minimum(np.asarray(replicas, dtype=np.float64), MOST_EVEN)
    mean = np.maximum(n * there, 1e-300)

    def at_least(number: Floats) -> Floats:
        return np.where(number > 0, gammainc(np.maximum(number, 1e-9), mean), 1.0)

    lines = there * at_least(n - 2.0) - (1.0 - 1.0 / n) * at_least(n - 1.0)
    uneven = UNEVEN * (1.0 - 1.0 / n) * at_least(n) / np.maximum(there, 1e-300)
    return np.clip(lines + uneven, 0.0, there)


def share_met(calls: ArrayLike, replicas: ArrayLike) -> Floats:
    """The same as a share of the calls that are under way: 1 of those that come by chance, or without end."""
    there = np.asarray(calls, dtype=np.float64)
    some = np.where(np.isfinite(there), np.maximum(there, 1e-300), 1.0)
    share = np.maximum(calls_met(some, replicas) / some, LEAST_MET)
    return np.where(np.isfinite(there) & (np.asarray(replicas) > 1), share, 1.0)


def poisson_mean_within(most: ArrayLike, percentile: float = PLANNING_PERCENTILE) -> Floats:
    """Largest Poisson mean at which an arrival finds a free slot among `most` with probability `percentile`.

    14 slots carry a mean of 8 at 95 %, and 52 a mean of 40.
    """
    return np.asarray(gammaincinv(np.asarray(most, dtype=np.float64), 1.0 - percentile), dtype=np.float64)
