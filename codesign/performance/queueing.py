"""Waiting and fluctuation: what turns means at full load into percentiles (DESIGN 3.4).

Waits follow Pollaczek–Khinchine for one server and Sakasegawa's approximation for n pooled ones, with an
exponential tail behind the probability of waiting at all.  Batches fluctuate as Poisson counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, ndtri

Floats = NDArray[np.float64]

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


def wait_exceeds(t: ArrayLike, wait: ArrayLike, utilization: ArrayLike, servers: ArrayLike) -> Floats:
    """P(wait > t): P(waits)·exp(−t·P(waits)/mean wait), 1 for t < 0."""
    seconds, mean = np.asarray(t, dtype=np.float64), np.asarray(wait, dtype=np.float64)
    waits = wait_probability(utilization, servers)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tail = np.where(mean > 0, waits * np.exp(-np.maximum(seconds, 0.0) * waits / mean), 0.0)
    tail = np.where(np.isinf(mean), 1.0, tail)
    return np.where(seconds < 0, 1.0, tail)


def worst_wait_exceeds(
    t: ArrayLike, wait: ArrayLike, utilization: ArrayLike, servers: ArrayLike, longest: ArrayLike
) -> Floats:
    """Largest P(wait > t) of any load that a design admits: up to `utilization`, with E[S²] that makes `wait` there.

    A load that is lighter and yet has all of that E[S²] is one of few long jobs: it waits more seldom, and longer. With
    L = Σ x·E[S²] of a server the tail is ρ^m·exp(−2n·t·ρ(1−ρ)/L), m = √(2(n+1)) − 1, which has a hump at
    ρ = (1 − √(1 − 4m·L/(n·t)))/4. Jobs whose E[S²]/E[S] is at most `longest` bring a load of ρ ≥ L/longest at least.
    """
    seconds, rho = np.asarray(t, dtype=np.float64), np.asarray(utilization, dtype=np.float64)
    n, most = np.asarray(servers, dtype=np.float64), np.asarray(longest, dtype=np.float64)
    second = _second_moment(wait, rho, n)
    power = np.sqrt(2.0 * (n + 1.0)) - 1.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rate = 2.0 * n * np.maximum(seconds, 0.0) / second
        hump = (1.0 - np.sqrt(np.maximum(1.0 - 8.0 * power / rate, 0.0))) / 4.0
        lightest = np.minimum(rho, second / most)
        lighter = np.where(8.0 * power < rate, np.clip(hump, lightest, rho), rho)
        tails = [np.exp(power * np.log(load) - rate * (load * (1.0 - load))) for load in (rho, lighter)]
    tail = np.where(second > 0, np.maximum(*tails), 0.0)
    return np.where(seconds < 0, 1.0, tail)


def worst_wait_deviation(wait: ArrayLike, utilization: ArrayLike, servers: ArrayLike, longest: ArrayLike) -> Floats:
    """Largest standard deviation of the wait of any load that a design admits, as in :func:`worst_wait_exceeds`.

    The variance falls with the load, then rises: it is largest at either end.
    """
    rho, n = np.asarray(utilization, dtype=np.float64), np.asarray(servers, dtype=np.float64)
    second = _second_moment(wait, rho, n)
    lightest = np.clip(second / np.asarray(longest, dtype=np.float64), 1e-12, rho)
    found = np.zeros(np.broadcast(second, lightest).shape)
    for load in (rho, lightest):
        mean = pooling_factor(load, n) * second / load
        found = np.maximum(found, 2.0 * mean**2 / wait_probability(load, n) - mean**2)
    return np.sqrt(found)


def _second_moment(wait: ArrayLike, utilization: Floats, servers: Floats) -> Floats:
    """Σ x·E[S²] of a server that makes jobs wait for so long on average at this utilisation."""
    return np.asarray(np.asarray(wait) * utilization / pooling_factor(utilization, servers), dtype=np.float64)


def poisson_mean_within(most: ArrayLike, percentile: float = PLANNING_PERCENTILE) -> Floats:
    """Largest Poisson mean at which an arrival finds a free slot among `most` with probability `percentile`.

    14 slots carry a mean of 8 at 95 %, and 52 a mean of 40.
    """
    return np.asarray(gammaincinv(np.asarray(most, dtype=np.float64), 1.0 - percentile), dtype=np.float64)
