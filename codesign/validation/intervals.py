"""Widths of the 80 % bands, and their coverage of rows that did not set them.

A width is the 80 % quantile of |log(measured/predicted)| of a class, every accelerator–model pair with equal
weight. Cross-validation leaves one pair out at a time: residuals of the same fit covered 58 % of unseen rows
where 80 % were promised (facts/performance_model.md 1), so nothing else counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.validation.compare import QUANTITY, Comparison

FloatArray = NDArray[np.float64]

PROMISED = 0.8
PAIR_PENALTY = 1.0
"""A class of n pairs takes the quantile (0.8·n + penalty)/(n + penalty): few pairs say little of the next."""

COUNTED = ("tpot_ms_p50", "ttft_ms_p50", "output_tok_s_per_gpu", "energy_per_output_token_j")
"""Metrics that set widths (total throughput repeats output throughput)."""


@dataclass(frozen=True)
class Coverage:
    """Coverage of the bands of one quantity and class, on pairs that did not set them."""

    quantity: str
    kind: str
    rows: int
    pairs: int
    covered: float
    """Share of rows."""
    covered_pairs: float
    """Mean over pairs of their shares: what a pair not yet seen can expect."""
    half_width: float
    """Width that all pairs together give."""


def weighted_width(sizes: FloatArray, pairs: NDArray[np.str_]) -> float:
    """The half width of a class from residual sizes [n] and their pairs [n]."""
    names, index, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[index]
    order = np.argsort(sizes)
    share = np.cumsum(weights[order]) / weights.sum()
    wanted = (PROMISED * len(names) + PAIR_PENALTY) / (len(names) + PAIR_PENALTY)
    place = min(int(np.searchsorted(share, wanted)), len(sizes) - 1)
    return float(sizes[order][place])


def coverage(comparisons: Iterable[Comparison]) -> list[Coverage]:
    """Cross-validated coverage by quantity and class; a class of one pair has none."""
    found = []
    for (quantity, kind), group in _groups(comparisons).items():
        sizes = np.array([abs(c.log_error) for c in group])
        pairs = np.array([c.point.pair for c in group])
        names = np.unique(pairs)
        inside = np.zeros(len(group), dtype=bool)
        for name in names if len(names) > 1 else ():
            held = pairs == name
            inside[held] = sizes[held] <= weighted_width(sizes[~held], pairs[~held])
        known = len(names) > 1
        covered = float(inside.mean()) if known else float("nan")
        by_pair = float(np.mean([inside[pairs == name].mean() for name in names])) if known else float("nan")
        width = weighted_width(sizes, pairs)
        found.append(Coverage(quantity, kind, len(group), len(names), covered, by_pair, width))
    return found


def widths(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], float]:
    """(quantity, class) → half width of all pairs together."""
    return {(c.quantity, c.kind): c.half_width for c in coverage(comparisons)}


def bracket_coverage(comparisons: Iterable[Comparison]) -> tuple[int, float]:
    """How many scored TTFTs there are, and the share inside their bracket (NaN for none)."""
    inside = [
        c.bracket[0] <= c.measured <= c.bracket[1] for c in comparisons if c.scored and c.bracket is not None
    ]
    return len(inside), float(np.mean(inside)) if inside else float("nan")


def _groups(comparisons: Iterable[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.scored and comparison.metric in COUNTED:
            groups.setdefault((QUANTITY[comparison.metric], comparison.kind), []).append(comparison)
    return dict(sorted(groups.items()))
