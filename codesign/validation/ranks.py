"""Rank agreement: does the model order the choices that a planner would have as the measurements do?

Within a group of equal model, lengths, load and number of accelerators, every two (accelerator, precision)
whose measured time per output token differs by more than 10 % are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from codesign.validation.compare import Comparison

DIFFERENCE = 0.1
TIME_METRICS = ("tpot_ms_p50", "output_tok_s_per_gpu")


@dataclass(frozen=True)
class RankAgreement:
    """Pairs compared, and the share that is predicted in the right order."""

    metric: str
    source: str
    pairs: int
    agreed: float


def rank_agreement(comparisons: Iterable[Comparison]) -> list[RankAgreement]:
    """Agreement by metric and source; sources without a pair are left out."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for c in comparisons:
        if c.scored and c.metric in TIME_METRICS:
            p = c.point
            ranks = p.tp * p.pp * p.dp
            key = (c.metric, p.source, p.model, p.isl, p.osl, p.concurrency, ranks, p.load)
            groups.setdefault(key, []).append(c)
    counts: dict[tuple[str, str], list[bool]] = {}
    for group in groups.values():
        for a, b in combinations(group, 2):
            if (a.point.accelerator, a.point.weights) == (b.point.accelerator, b.point.weights):
                continue
            ratio = a.measured / b.measured
            if max(ratio, 1.0 / ratio) > 1.0 + DIFFERENCE:
                right = (ratio > 1.0) == (a.predicted > b.predicted)
                counts.setdefault((a.metric, a.point.source), []).append(right)
    return [
        RankAgreement(metric, source, len(right), sum(right) / len(right))
        for (metric, source), right in sorted(counts.items())
    ]
