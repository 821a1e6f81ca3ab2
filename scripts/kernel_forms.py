"""Forms of the operators as the fit sees them: seconds of table rows for one set of constants.

The package evaluates the same forms (codesign/performance: operators.py, replica.py, latency.py) with
coefficients gathered per configuration; tests/test_kernel_fits.py holds the two together. Columns are those
of :mod:`kernel_tables`, constants have the names and units of ``constants.toml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Columns = Mapping[str, FloatArray]
Constants = Mapping[str, float]


def pnorm(x: FloatArray, y: FloatArray, p: float) -> FloatArray:
    """(x^p + y^p)^(1/p), scaled by the larger term."""
    larger = np.maximum(np.maximum(x, y), 1e-30)
    return larger * (1.0 + (np.minimum(x, y) / larger) ** p) ** (1.0 / p)


def gemm(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm(2(M+m0)(N+n0)(K+k1)/(F·e), (bytes + k0·K)/(BW·b))."""
    m, n, k = t["m"], t["n"], t["k"]
    compute = 2.0 * (m + c["m0"]) * (n + c["n0"]) * (k + c["k1"]) / (t["peak"] * c["e"])
    moved = t["size"] * (m * k + n * k) + 2.0 * m * n + c["k0_kb"] * 1e3 * k
    return c["t0_us"] * 1e-6 + pnorm(compute, moved / (t["bandwidth"] * c["b"]), c["p"])


def prefill_attention(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm(2[(B·H·S + w0)·S·(D+d0) + B·H·S·r0]/(F16·e), bytes/(BW·b))."""
    rows, s = t["batch"] * t["heads"] * t["length"], t["length"]
    work = (rows + c["w0"]) * s * (t["dim"] + c["d0"]) + rows * c["r0"] * 1e3
    moved = t["batch"] * s * t["dim"] * (4.0 * t["heads"] + 2.0 * t["kv_heads"] * t["size"])
    compute = 2.0 * work / (t["half"] * c["e"])
    return c["t0_us"] * 1e-6 + pnorm(compute, moved / (t["bandwidth"] * c["b"]), c["p"])


def decode_attention(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm(2(B·K+b0)(S+s0)·D·bytes/(BW·b), 4·B·K·S·D(G+g0)/(F16·f))."""
    b, s, k, d = t["batch"], t["length"], t["kv_heads"], t["dim"]
    memory = 2.0 * (b * k + c["b0"]) * (s + c["s0"]) * d * t["size"] / (t["bandwidth"] * c["b"])
    compute = 4.0 * b * k * s * d * (t["heads"] / k + c["g0"]) / (t["half"] * c["f"])
    return c["t0_us"] * 1e-6 + pnorm(memory, compute, c["p"])


def mla_prefill(t: Columns, c: Constants) -> FloatArray:
    """t0 + [(B·H·S + w0)·S·320 + B·H·S·r0]/(F16·e); r0 in thousands of FLOP pairs."""
    rows, s = t["batch"] * t["heads"] * t["length"], t["length"]
    return c["t0_us"] * 1e-6 + ((rows + c["w0"]) * s * 320.0 + rows * c["r0"] * 1e3) / (t["half"] * c["e"])


def mla_decode(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm((B+b0)(S+s0)·576·bytes/(BW·b), B·S·1088·(H+h0)/(F16·f))."""
    b, s = t["batch"], t["length"]
    memory = (b + c["b0"]) * (s + c["s0"]) * 576.0 * t["size"] / (t["bandwidth"] * c["b"])
    compute = b * s * 1088.0 * (t["heads"] + c["h0"]) / (t["half"] * c["f"])
    return c["t0_us"] * 1e-6 + pnorm(memory, compute, c["p"])


def mla_absorb(t: Columns, c: Constants) -> FloatArray:
    """2·t0 + 2·(weights and activations)/(BW·b): M tokens, H heads of 128 × 512."""
    m, h = t["m"], t["heads"]
    moved = 2.0 * h * (128.0 * 512.0 + m * 640.0) * 2.0
    return 2.0 * c["t0_us"] * 1e-6 + moved / (t["bandwidth"] * c["b"])


def hot_rank(ep: FloatArray, experts: FloatArray, top_k: FloatArray, s: float) -> FloatArray:
    """Load of the fullest rank over the mean: ep^s, at most all tokens on as many experts as it has."""
    return np.minimum(ep**s, np.maximum(1.0, ep * np.minimum(1.0, experts / ep / top_k)))


def moe(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm(6(R·hot + A·m0)·h(i+i0)/(F·e), (3·A·h·i·weight bytes + 8·a·R·hot·h)/(BW·b))."""
    tokens, ep, h, i = t["tokens"], t["ep"], t["hidden"], t["width"]
    miss = np.log1p(-np.minimum(t["top_k"] / t["experts"], 1.0 - 1e-12))
    active = -t["experts"] * np.expm1(tokens * miss) / ep
    rows = tokens * t["top_k"] / ep * hot_rank(ep, t["experts"], t["top_k"], c["s"])
    compute = 6.0 * (rows + active * c["m0"]) * h * (i + c["i0"]) / (t["peak"] * c["e"])
    moved = 3.0 * active * h * i * t["size"] + 8.0 * c["a"] * rows * h
    return c["t0_us"] * 1e-6 + pnorm(compute, moved / (t["bandwidth"] * c["b"]), c["p"])


def all_reduce(t: Columns, c: Constants) -> FloatArray:
    """pnorm(t0, min((n−1)·V/(NV·e1), lat + 2(n−1)/n·V/(NV·e))): one shot, or reduce-scatter and gather."""
    others, size = t["ranks"] - 1.0, t["bytes"]
    one = others * size / (t["link"] * c["e1"])
    two = c["lat_us"] * 1e-6 + 2.0 * others / t["ranks"] * size / (t["link"] * c["e"])
    floor = np.full_like(size, c["t0_us"] * 1e-6)
    return pnorm(floor, np.minimum(one, two), c["p"])


def _exchange(t: Columns, c: Constants, copies: FloatArray, crossing: FloatArray) -> FloatArray:
    element = 3.0 * t["tokens"] * t["hidden"]
    far = t["nodes"] > 1
    launch = 2e-6 * (c["t0_us"] + np.where(far, c["cross_us"], 0.0))
    inside = element * copies / (t["link"] * c["e"])
    outside = element * crossing / (np.maximum(t["scaleout"], 1.0) * c["e_out"])
    return launch + np.maximum(inside, np.where(far, outside, 0.0))


def exchange_low_latency(t: Columns, c: Constants) -> FloatArray:
    """Every token goes to each of its k experts by itself: 1 byte out, 2 back."""
    ranks = t["nodes"] * t["per_node"]
    return _exchange(t, c, t["top_k"] * (t["per_node"] - 1.0) / ranks, t["top_k"] * (1.0 - 1.0 / t["nodes"]))


def exchange_throughput(t: Columns, c: Constants) -> FloatArray:
    """A token goes once to each rank (and each other node) that has one of its experts."""
    nodes, ranks = t["nodes"], t["nodes"] * t["per_node"]
    copies = (t["per_node"] - 1.0) * -np.expm1(t["top_k"] * np.log1p(-1.0 / ranks))
    crossing = (nodes - 1.0) * -np.expm1(t["top_k"] * np.log1p(-np.minimum(1.0 / nodes, 1.0 - 1e-9)))
    return _exchange(t, c, copies, crossing)


def recurrent_decode(t: Columns, c: Constants) -> FloatArray:
    """t0 + (B+b0)·2·4 bytes·state/(BW·b): a 32-bit state is read and written."""
    return c["t0_us"] * 1e-6 + (t["batch"] + c["b0"]) * 8.0 * t["state"] / (t["bandwidth"] * c["b"])


def recurrent_prefill(t: Columns, c: Constants) -> FloatArray:
    """t0 + [B·S + w0]·8·state/(F16·e)."""
    tokens = t["batch"] * t["length"]
    return c["t0_us"] * 1e-6 + (tokens + c["w0"]) * 8.0 * t["state"] / (t["half"] * c["e"])


def sparse_index(t: Columns, c: Constants) -> FloatArray:
    """t0 + pnorm(queries·keys·2·heads·128/(F8·e), stored·132 bytes/BW) + queries·keys·12 bytes/(BW·b)."""
    products = t["queries"] * t["keys"]
    logits = products * 2.0 * t["heads"] * 128.0 / (t["index"] * c["e"])
    return (
        c["t0_us"] * 1e-6
        + np.maximum(logits, t["stored"] * 132.0 / t["bandwidth"])
        + products * 12.0 / (t["bandwidth"] * c["b"])
    )


@dataclass(frozen=True)
class Form:
    """A form with the range of each constant: (start, least, most), searched in logarithms."""

    seconds: Callable[[Columns, Constants], FloatArray]
    ranges: Mapping[str, tuple[float, float, float]]


_P = (1.5, 1.0, 6.0)
_COMM = {
    "t0_us": (12.0, 2.0, 100.0),
    "e": (0.6, 0.05, 1.2),
    "e_out": (0.8, 0.1, 1.2),
    "cross_us": (10.0, 0.1, 100.0),
}

FORMS = {
    "gemm": Form(
        gemm,
        {
            "t0_us": (4, 1, 60),
            "e": (0.7, 0.1, 1.2),
            "b": (0.85, 0.2, 1.1),
            "p": _P,
            "m0": (5, 0.1, 300),
            "n0": (100, 0.1, 4000),
            "k0_kb": (1, 0.01, 30),
            "k1": (50, 0.1, 2000),
        },
    ),
    "prefill_attention": Form(
        prefill_attention,
        {
            "t0_us": (13, 2, 60),
            "e": (0.8, 0.1, 1.5),
            "b": (0.7, 0.1, 1.1),
            "p": _P,
            "d0": (30, 0.1, 200),
            "w0": (1e4, 1, 3e5),
            "r0": (20, 0.1, 1000),
        },
    ),
    "decode_attention": Form(
        decode_attention,
        {
            "t0_us": (9, 1, 60),
            "b": (0.9, 0.1, 1.1),
            "f": (0.4, 0.02, 1.5),
            "p": _P,
            "s0": (100, 0.1, 2000),
            "b0": (2, 0.01, 100),
            "g0": (1, 0.01, 8),
        },
    ),
    "mla_prefill": Form(
        mla_prefill,
        {"t0_us": (18, 2, 60), "e": (0.7, 0.05, 1.2), "w0": (1e4, 1, 3e5), "r0": (200, 0.1, 4000)},
    ),
    "mla_decode": Form(
        mla_decode,
        {
            "t0_us": (13, 2, 60),
            "b": (0.9, 0.1, 1.1),
            "f": (0.8, 0.05, 1.5),
            "p": _P,
            "s0": (100, 0.1, 2000),
            "h0": (1, 0.01, 16),
            "b0": (1, 0.01, 100),
        },
    ),
    "mla_absorb": Form(mla_absorb, {"t0_us": (4, 1, 20), "b": (0.7, 0.05, 1.1)}),
    "moe": Form(
        moe,
        {
            "t0_us": (30, 5, 120),
            "e": (0.5, 0.05, 1.2),
            "b": (0.9, 0.1, 1.1),
            "p": _P,
            "m0": (30, 0.1, 300),
            "s": (0.45, 0.05, 0.7),
            "i0": (50, 0.1, 3000),
            "a": (1, 0.01, 20),
        },
    ),
    "all_reduce": Form(
        all_reduce,
        {
            "t0_us": (3, 1, 60),
            "e1": (0.5, 0.05, 1.5),
            "lat_us": (5, 0.1, 100),
            "e": (0.7, 0.05, 1.2),
            "p": (1.5, 1, 8),
        },
    ),
    "exchange_low_latency": Form(exchange_low_latency, _COMM),
    "exchange_throughput": Form(exchange_throughput, {**_COMM, "t0_us": (35.0, 2.0, 200.0)}),
    "recurrent_decode": Form(recurrent_decode, {"t0_us": (6, 1, 60), "b": (0.7, 0.05, 1.1), "b0": (0.1, 0.001, 50)}),
    "recurrent_prefill": Form(
        recurrent_prefill, {"t0_us": (30, 1, 500), "e": (0.1, 0.002, 1.2), "w0": (100, 0.1, 1e5)}
    ),
    "sparse_index": Form(sparse_index, {"t0_us": (8, 1, 60), "e": (0.6, 0.02, 1.2), "b": (0.5, 0.02, 1.1)}),
}
"""Operator → its form."""
