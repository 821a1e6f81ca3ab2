"""Prefix caches whose hits are not published: the constant hit ratio that explains a source's rows best, and its range.

This is no prediction of the hits: the ratio is chosen by looking at the very rows that are then scored, one number for
all rows of a source, part and model.  What it leaves to be tested is the rest: loads, lengths and settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.validation.points import Point
from codesign.validation.predict import EngineOf, predict

RATIOS = tuple(round(0.02 * step, 2) for step in range(49))
"""Hit ratios that are tried."""
RANGE = 0.05
"""How far from the best one the range goes over which predictions are shown."""
METRIC = "tpot_ms_p50"


@dataclass(frozen=True)
class AssumedHits:
    """The hit ratio taken for rows that publish none."""

    source: str
    pair: str
    """Accelerator and model."""
    rows: int
    ratio: float
    median: float
    """Median absolute error of TPOT at that ratio."""
    low: float
    high: float
    """Ratios of the range."""
    median_low: float
    median_high: float
    """Median absolute errors of TPOT at both."""
    change: float
    """Largest predicted TPOT over the smallest within the range, less one: of the row that it moves most."""


def with_hits(points: Sequence[Point], engine: EngineOf) -> tuple[list[Point], tuple[AssumedHits, ...]]:
    """Points with cached tokens each, and what was assumed for those that publish no hits."""
    found = list(points)
    groups: dict[tuple[str, str], list[int]] = {}
    for index, point in enumerate(points):
        if math.isnan(point.cached):
            groups.setdefault((point.source, point.pair), []).append(index)
    assumed = []
    for (source, pair), indices in groups.items():
        hits = _assume(source, pair, [points[i] for i in indices], engine)
        assumed.append(hits)
        for i in indices:
            found[i] = replace(points[i], cached=hits.ratio * points[i].isl)
    return found, tuple(assumed)


def _assume(source: str, pair: str, points: Sequence[Point], engine: EngineOf) -> AssumedHits:
    every = [replace(p, cached=ratio * p.isl) for ratio in RATIOS for p in points]
    tpot = predict(every, engine, waits=False).values[METRIC].reshape(len(RATIOS), len(points))
    measured = np.array([math.nan if p.out_of_score else p.measured.get(METRIC, math.nan) for p in points])
    scored = np.isfinite(measured)
    if not scored.any():
        median = np.full(len(RATIOS), math.nan)
        best = len(RATIOS) // 2
    else:
        median = np.median(np.abs(tpot[:, scored] / measured[scored] - 1.0), axis=1)
        best = int(np.argmin(median))
    steps = round(RANGE / (RATIOS[1] - RATIOS[0]))
    low, high = max(best - steps, 0), min(best + steps, len(RATIOS) - 1)
    within = tpot[low : high + 1]
    return AssumedHits(
        source=source,
        pair=pair,
        rows=len(points),
        ratio=RATIOS[best],
        median=float(median[best]),
        low=RATIOS[low],
        high=RATIOS[high],
        median_low=float(median[low]),
        median_high=float(median[high]),
        change=float((within.max(axis=0) / within.min(axis=0)).max() - 1.0),
    )
