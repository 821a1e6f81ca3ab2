"""Time of single operators: a floor plus a smooth maximum of compute and memory time.

Forms of facts/performance_model.md 2.

Shapes: coefficients are [K] (one per configuration), token counts [J, 1] or [J, K]; results [J, K]. Seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def smooth_maximum(first: FloatArray, second: FloatArray, exponent: FloatArray) -> FloatArray:
    """(x^p + y^p)^(1/p) for x, y ≥ 0, p ≥ 1: the sum at p = 1, the larger one for large p.

    Scaled by the larger term, so that neither 1e-9 s to the 12th nor 0 is a problem.
    """
    larger = np.maximum(first, second)
    ratio = np.minimum(first, second)
    ratio /= np.maximum(larger, 1e-300)
    np.maximum(ratio, 1e-300, out=ratio)
    np.log(ratio, out=ratio)
    ratio *= exponent
    np.exp(ratio, out=ratio)
    ratio += 1.0
    np.log(ratio, out=ratio)
    ratio /= exponent
    np.exp(ratio, out=ratio)
    larger *= ratio
    return larger


@dataclass(frozen=True, eq=False)
class Gemm:
    """Matrix products of one shape, all layers of a model together: time = count·(t0 + pnorm(…)) at M tokens.

    compute = flop_s·(M + m0), memory = weight_s + token_s·M, both in seconds; n0 and k1 pad the product.
    """

    count: FloatArray
    floor: FloatArray
    flop_s: FloatArray
    m0: FloatArray
    weight_s: FloatArray
    token_s: FloatArray
    p: FloatArray

    @staticmethod
    def of(
        inputs: FloatArray,
        outputs: FloatArray,
        count: FloatArray,
        weight_bytes: FloatArray,
        activation_bytes: FloatArray,
        peak: FloatArray,
        weight_bandwidth: FloatArray,
        bandwidth: FloatArray,
        constants: dict[str, FloatArray],
    ) -> Gemm:
        """Products of M × inputs by inputs × outputs; bytes are per element; outputs have 16 bits.

        Weights come at a bandwidth of their own, what goes in and out at that of the accelerator's memory.
        """
        weight_rate, rate = weight_bandwidth * constants["gemm.b"], bandwidth * constants["gemm.b"]
        return Gemm(
            count=count,
            floor=constants["gemm.t0"],
            flop_s=2.0
            * (outputs + constants["gemm.n0"])
            * (inputs + constants["gemm.k1"])
            / (peak * constants["gemm.e"]),
            m0=constants["gemm.m0"],
            weight_s=inputs * (outputs * weight_bytes + constants["gemm.k0"]) / weight_rate,
            token_s=(inputs * activation_bytes + 2.0 * outputs) / rate,
            p=constants["gemm.p"],
        )

    def seconds(self, tokens: FloatArray) -> FloatArray:
        """Time of all ``count`` products at ``tokens`` rows each."""
        time = smooth_maximum(self.flop_s * (tokens + self.m0), self.weight_s + self.token_s * tokens, self.p)
        time += self.floor
        time *= self.count
        return time


def distinct_experts(experts: FloatArray, top_k: FloatArray, tokens: FloatArray) -> FloatArray:
    """Distinct experts that ``tokens`` tokens are expected to touch: E(1 − (1 − k/E)^T), uniform routing."""
    miss = np.log1p(-np.minimum(top_k / experts, 1.0 - 1e-12))
    return -experts * np.expm1(tokens * miss)


def all_reduce_seconds(
    message_bytes: FloatArray, ranks: FloatArray, link: FloatArray, constants: dict[str, FloatArray]
) -> FloatArray:
    """One all-reduce of a message over ``ranks``; 0 for a single rank.

    (t0^p + min((n − 1)·V/(NV·e1), lat + 2(n − 1)/n·V/(NV·e))^p)^(1/p): one shot (every rank reads all
    others) while that is faster, then reduce-scatter and gather. Beyond 8 ranks floor and latency grow with
    log2 n (an assumption: the tables end there).
    """
    hops = np.maximum(1.0, np.log2(ranks) / 3.0)
    one_shot = message_bytes * ((ranks - 1.0) / (link * constants["all_reduce.e1"]))
    two_shot = message_bytes * (2.0 * (ranks - 1.0) / ranks / (link * constants["all_reduce.e"]))
    two_shot += constants["all_reduce.lat"] * hops
    floor = np.broadcast_to(constants["all_reduce.t0"] * hops, one_shot.shape)
    time = smooth_maximum(floor, np.minimum(one_shot, two_shot), constants["all_reduce.p"])
    return np.where(ranks > 1, time, 0.0)


def distinct_ranks(ranks: FloatArray, top_k: FloatArray) -> FloatArray:
    """Distinct ranks (or nodes) among which ``top_k`` experts of a token are expected to lie, uniformly."""
    miss = np.log1p(-np.minimum(1.0 / ranks, 1.0 - 1e-12))
    return -ranks * np.expm1(top_k * miss)


def causal_pairs(new: FloatArray, cached: FloatArray, window: FloatArray) -> FloatArray:
    """Query-key pairs of ``new`` tokens behind ``cached`` ones, each seeing at most ``window`` others."""
    return _pairs_to(new + cached, window) - _pairs_to(cached, window)


def _pairs_to(length: FloatArray, window: FloatArray) -> FloatArray:
    inside = np.minimum(length, window)
    # ∫ min(t, w) dt: a triangle up to the window, then a strip; w = ∞ leaves the triangle alone.
    beyond = length - inside
    return 0.5 * inside**2 + np.where(beyond > 0, beyond * np.where(np.isfinite(window), window, 0.0), 0.0)


def iterate_nonzero(gemms: dict[str, Gemm]) -> Iterator[tuple[str, Gemm]]:
    """Those products that at least one configuration has."""
    return ((name, gemm) for name, gemm in gemms.items() if np.any(gemm.count))
