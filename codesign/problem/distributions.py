"""Distributions of lengths, counts and waits: what people know (a mean, a few percentiles) turned into
moments.

Three kinds suffice: a constant, a lognormal (token counts and tool waits are right-skewed over decades; a
lognormal is fixed by two published figures) and an empirical one (a trace or histogram). Values carry the
unit of their field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

MAX_SIGMA = 6.0
"""Widest lognormal accepted (p99/p50 of a million): beyond it moments lose all meaning."""

_MAX_EXPONENT = 64.0
_NEVER_S = 365.25 * 86400.0


@dataclass(frozen=True)
class Distribution:
    """A non-negative random quantity.

    `kind` decides which fields count: `value` (constant), `mu` and `sigma` of the logarithm (lognormal), or
    `values` (ascending) with `weights` that sum to 1 (empirical). Build it with the class methods, which
    check their input.
    """

    kind: Literal["constant", "lognormal", "empirical"]
    value: float = 0.0
    mu: float = 0.0
    sigma: float = 0.0
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    # ---- construction --------------------------------------------------------------------------------------

    @classmethod
    def constant(cls, value: float) -> Distribution:
        """Return the distribution that is always `value` (≥ 0)."""
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"found {value!r}; expected a finite number that is not negative")
        return cls("constant", value=float(value))

    @classmethod
    def lognormal(cls, mu: float, sigma: float) -> Distribution:
        """Return exp(N(mu, sigma²)); sigma = 0 gives a constant, sigma above `MAX_SIGMA` a ValueError."""
        if not (math.isfinite(mu) and 0 <= sigma <= MAX_SIGMA):
            raise ValueError(
                f"the spread is too wide (standard deviation {sigma:.3g} of the logarithm; "
                f"at most {MAX_SIGMA:g})"
            )
        if sigma == 0:
            return cls.constant(math.exp(mu))
        return cls("lognormal", mu=float(mu), sigma=float(sigma))

    @classmethod
    def from_mean(cls, mean: float, cv: float = 1.0) -> Distribution:
        """Return the lognormal with this mean and coefficient of variation; mean 0 gives the constant 0."""
        if mean == 0 or cv == 0:
            return cls.constant(mean)
        if not (math.isfinite(mean) and mean > 0 and math.isfinite(cv) and cv > 0):
            raise ValueError(f"found mean {mean!r}, cv {cv!r}; expected finite numbers that are not negative")
        variance = math.log1p(cv * cv)
        return cls.lognormal(math.log(mean) - variance / 2, math.sqrt(variance))

    @classmethod
    def from_quantiles(cls, quantiles: Mapping[float, float], mean: float | None = None) -> Distribution:
        """Return the lognormal that fits `quantiles` {probability: value}, and `mean` exactly where it is
        given.

        Two quantiles are met exactly, more by least squares on logarithms. With a mean and one quantile both
        are met; with a mean and several quantiles the quantiles give the spread and the mean the position
        (loads follow from the mean). Raises ValueError where no lognormal fits.
        """
        points = sorted(quantiles.items())
        if not points:
            raise ValueError("expected at least one percentile")
        if all(value == 0 for _, value in points) and not mean:
            return cls.constant(0.0)
        if any(not (math.isfinite(value) and value > 0) for _, value in points) or (
            mean is not None and not (math.isfinite(mean) and mean > 0)
        ):
            raise ValueError("percentiles and mean must be above 0 (or all of them 0)")
        for (p, low), (q, high) in pairwise(points):
            if high < low:
                raise ValueError(f"p{100 * q:g} ({high:g}) is below p{100 * p:g} ({low:g})")
        z = ndtri(np.array([p for p, _ in points]))
        logs = np.log(np.array([value for _, value in points]))
        if len(points) == 1:
            if mean is None:
                raise ValueError("one percentile alone does not fix a distribution: add p50, p90 or mean")
            return cls._from_mean_and_quantile(mean, points[0][0], points[0][1])
        centred = z - z.mean()
        sigma = float((centred * logs).sum() / (centred * centred).sum())
        mu = float(logs.mean() - sigma * z.mean()) if mean is None else math.log(mean) - sigma * sigma / 2
        return cls.lognormal(mu, sigma)

    @classmethod
    def _from_mean_and_quantile(cls, mean: float, p: float, quantile: float) -> Distribution:
        # ln(q/mean) = z·s − s²/2 has two roots: the smaller spread is the one that people mean.
        z = float(ndtri(p))
        ratio = math.log(quantile / mean)
        root = z * z - 2 * ratio
        sigma = z - math.sqrt(root) if ratio >= 0 and root >= 0 else math.nan
        if z <= 0 and ratio <= 0:
            sigma = z + math.sqrt(root)
        if not sigma >= 0:
            high = mean * math.exp(z * z / 2) if z > 0 else mean
            low = mean if z > 0 else 0.0
            raise ValueError(
                f"no lognormal has mean {mean:g} and p{100 * p:g} {quantile:g}: "
                f"with that mean p{100 * p:g} lies between {low:.4g} and {high:.4g}"
            )
        return cls.lognormal(math.log(mean) - sigma * sigma / 2, sigma)

    @classmethod
    def empirical(
        cls, values: Sequence[float] | Array, weights: Sequence[float] | Array | None = None
    ) -> Distribution:
        """Return the distribution over `values`[n] with `weights`[n] (normalised here; equal by default)."""
        x = np.asarray(values, dtype=float).ravel()
        w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float).ravel()
        if x.size == 0 or x.shape != w.shape:
            raise ValueError("expected as many weights as values, and at least one")
        usable = np.isfinite(x) & np.isfinite(w) & (x >= 0) & (w >= 0)
        if not (usable.all() and w.sum() > 0):
            raise ValueError("expected finite values and weights that are not negative")
        order = np.argsort(x, kind="stable")
        x, w = x[order], w[order] / w.sum()
        if x[0] == x[-1]:
            return cls.constant(float(x[0]))
        return cls("empirical", values=tuple(x.tolist()), weights=tuple(w.tolist()))

    @classmethod
    def from_curve(cls, curve: Mapping[float, float], points: int = 40) -> Distribution:
        """Return the distribution whose P(X ≤ t) meets `curve` {t: probability} at each of its points.

        Between two points (below the first, from a hundredth of it) the probability grows with log t; what
        lies beyond the last one never comes in a year. Raises ValueError for a curve that falls.
        """
        knots = sorted(curve.items())
        if not knots or any(not (t > 0 and 0 <= p <= 1) for t, p in knots):
            raise ValueError("expected times above 0 and probabilities from 0 to 1, at least one")
        if any(q < p for (_, p), (_, q) in pairwise(knots)):
            raise ValueError("the probability falls with time")
        values, weights = [_NEVER_S], [1.0 - knots[-1][1]]
        for (low, p), (high, q) in pairwise([(knots[0][0] / 100.0, 0.0), *knots]):
            share = (np.arange(points) + 0.5) / points
            values += (low * (high / low) ** share).tolist()
            weights += [(q - p) / points] * points
        return cls.empirical(values, weights)

    # ---- moments and functions -----------------------------------------------------------------------------

    @cached_property
    def _arrays(self) -> tuple[Array, Array]:
        return np.array(self.values), np.array(self.weights)

    @property
    def mean(self) -> float:
        """E[X]."""
        return self._moment(1)

    @property
    def second_moment(self) -> float:
        """E[X²]."""
        return self._moment(2)

    @property
    def variance(self) -> float:
        """Var[X]."""
        if self.kind == "constant":
            return 0.0
        if self.kind == "lognormal":
            return math.expm1(self.sigma**2) * math.exp(2 * self.mu + self.sigma**2)
        x, w = self._arrays
        return float(w @ (x - self.mean) ** 2)

    def _moment(self, order: int) -> float:
        if self.kind == "constant":
            return self.value**order
        if self.kind == "lognormal":
            return math.exp(order * self.mu + (order * self.sigma) ** 2 / 2)
        x, w = self._arrays
        return float(w @ x**order)

    def quantile(self, p: float) -> float:
        """Return the smallest x with P(X ≤ x) ≥ p, for 0 < p < 1."""
        if not 0 < p < 1:
            raise ValueError(f"found probability {p!r}; expected a number between 0 and 1")
        if self.kind == "constant":
            return self.value
        if self.kind == "lognormal":
            return math.exp(self.mu + self.sigma * float(ndtri(p)))
        x, w = self._arrays
        return float(x[min(int(np.searchsorted(np.cumsum(w), p * (1 - 1e-12))), x.size - 1)])

    def quantiles(self, p: Array) -> Array:
        """[n] quantiles at probabilities [n] in (0, 1)."""
        if self.kind == "constant":
            return np.full(p.size, self.value)
        if self.kind == "lognormal":
            return np.asarray(np.exp(self.mu + self.sigma * ndtri(np.clip(p, 1e-12, 1 - 1e-12))))
        values, weights = self._arrays
        return values[np.minimum(np.searchsorted(np.cumsum(weights), p), values.size - 1)]

    @overload
    def cdf(self, x: float) -> float: ...
    @overload
    def cdf(self, x: Array) -> Array: ...
    def cdf(self, x: float | Array) -> float | Array:
        """Return P(X ≤ x), elementwise."""
        at = np.asarray(x, dtype=float)
        if self.kind == "constant":
            result = (at >= self.value).astype(float)
        elif self.kind == "lognormal":
            result = np.asarray(ndtr(self._z(at)))
        else:
            values, w = self._arrays
            cumulative = np.concatenate(([0.0], np.cumsum(w)))
            result = np.minimum(cumulative[np.searchsorted(values, at, side="right")], 1.0)
        return float(result) if result.ndim == 0 else result

    @overload
    def limited_mean(self, t: float) -> float: ...
    @overload
    def limited_mean(self, t: Array) -> Array: ...
    def limited_mean(self, t: float | Array) -> float | Array:
        """Return E[min(X, t)] for t ≥ 0, elementwise (t may be inf)."""
        return self._limited(t, 1)

    @overload
    def limited_second_moment(self, t: float) -> float: ...
    @overload
    def limited_second_moment(self, t: Array) -> Array: ...
    def limited_second_moment(self, t: float | Array) -> float | Array:
        """Return E[min(X, t)²] for t ≥ 0, elementwise (t may be inf)."""
        return self._limited(t, 2)

    def _limited(self, t: float | Array, order: int) -> float | Array:
        at = np.asarray(t, dtype=float)
        if self.kind == "constant":
            result = np.minimum(self.value, at) ** order
        elif self.kind == "lognormal":
            z = self._z(at)
            tail = np.where(np.isinf(at), 0.0, np.where(np.isinf(at), 0.0, at) ** order * ndtr(-z))
            result = self._moment(order) * ndtr(z - order * self.sigma) + tail
        else:
            x, w = self._arrays
            result = np.minimum(x, at[..., None]) ** order @ w
        result = np.asarray(result)
        return float(result) if result.ndim == 0 else result

    def _z(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return (np.log(np.maximum(x, 0.0)) - self.mu) / self.sigma

    def scaled(self, factor: float) -> Distribution:
        """Return the distribution of factor·X."""
        if self.kind == "constant":
            return Distribution.constant(self.value * factor)
        if self.kind == "lognormal" and factor > 0:
            return Distribution.lognormal(self.mu + math.log(factor), self.sigma)
        return Distribution.empirical([v * factor for v in self.values] or [0.0], self.weights or None)

    # ---- quadrature ----------------------------------------------------------------------------------------

    def points(self, n: int) -> tuple[Array, Array]:
        """Return (values[m], weights[m]), m ≤ n, that stand for the distribution in sums over its population.

        The values are conditional means of n bins. Bins of equal probability come first; where so few cannot
        carry the second moment (a heavy tail), the bins have equal shares of E[X], or else of E[X²], so that
        the last ones are the rare and long. Averaging inside bins loses spread: it is put back by raising the
        values to a common power and rescaling, so that all stay positive, and **mean and second moment are
        exact** (relative 1e-9). A constant has one point, an empirical distribution of at most n values its
        own.
        """
        if n < 1:
            raise ValueError(f"found {n} points; expected at least 1")
        if self.kind == "constant" or n == 1:
            return np.array([self.mean]), np.array([1.0])
        if self.kind == "empirical" and len(self.values) <= n:
            return self._arrays
        target = self.second_moment / self.mean**2
        for order in (0, 1, 2):
            values, weights = self._bins(n, order)
            if target <= 0.5 / weights[-1]:
                break
        return _with_moments(values, weights, self.mean, target), weights

    def _bins(self, n: int, order: int) -> tuple[Array, Array]:
        """Conditional means and probabilities of n bins that hold equal shares of E[X^order]."""
        share = np.arange(n + 1) / n
        if self.kind == "lognormal":
            edges = ndtri(share) + order * self.sigma
            weights = np.diff(ndtr(edges))
            # The upper tail loses its digits in 1 − tiny: use the mirrored function there.
            weights = np.where(edges[:-1] > 0, -np.diff(ndtr(-edges)), weights)
            shifted = edges - self.sigma
            sums = np.where(shifted[:-1] > 0, -np.diff(ndtr(-shifted)), np.diff(ndtr(shifted))) * self.mean
            return sums / weights, weights / weights.sum()
        x, w = self._arrays
        measure = np.concatenate(([0.0], np.cumsum(w * x**order)))
        measure /= measure[-1]
        # An atom that straddles an edge is shared between the two bins.
        index = np.arange(measure.size)
        position = np.interp(share, measure, index)
        position[0] = 0.0  # values of measure 0 (zeros, for order > 0) belong to the first bin
        weights = np.diff(np.interp(position, index, np.concatenate(([0.0], np.cumsum(w)))))
        sums = np.diff(np.interp(position, index, np.concatenate(([0.0], np.cumsum(w * x)))))
        used = weights > 0
        return sums[used] / weights[used], weights[used] / weights[used].sum()


def _with_moments(values: Array, weights: Array, mean: float, target: float) -> Array:
    """Return c·values^a with the given mean and with E[v²]/mean² = target (as near as a ≤ 64 can come)."""
    logs = np.log(np.maximum(values, 1e-300) / values.max())

    def ratio(a: float) -> float:
        v = np.exp(a * logs)
        return float((weights @ v**2) / (weights @ v) ** 2)

    low, high = 1.0, 1.0
    while ratio(high) < target and high < _MAX_EXPONENT:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle) < target else (low, middle)
    spread = np.exp(high * logs)
    return np.asarray(spread * (mean / (weights @ spread)))
