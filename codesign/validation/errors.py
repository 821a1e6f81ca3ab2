"""Error tables: median, mean, signed, p90, share within 20 %, coverage of the bands; and macro-averages.

Rows are of one slice each (:mod:`~codesign.validation.slices`): what was in view while terms were chosen, or what was
held out. Averages over sources count those with 20 rows and more, and come with a bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.validation.compare import Comparison
from codesign.validation.points import COLOCATED
from codesign.validation.slices import slice_of

WITHIN = 0.2

LEAST_ROWS = 20
"""Of a source that counts in averages: medians of fewer rows are chance."""
RESAMPLES = 1000
LEVEL = 0.8
"""Of the bootstrap intervals around averages."""

BY: dict[str, Callable[[Comparison], str]] = {
    "slice": lambda c: slice_of(c.point),
    "source": lambda c: ", ".join((c.point.source, *([] if c.point.slice == COLOCATED else [c.point.slice]))),
    "accelerator": lambda c: c.point.accelerator,
    "model": lambda c: c.point.model,
    "precision": lambda c: c.point.weights,
    "stack": lambda c: c.point.stack,
    "class": lambda c: c.kind,
}
"""What the tables are broken down by, beside the metric."""


@dataclass(frozen=True)
class ErrorRow:
    """Errors of one group of comparisons; fractions."""

    by: str
    key: str
    metric: str
    count: int
    median: float
    mean: float
    signed: float
    """Median of predicted/measured − 1."""
    p90: float
    within_20: float
    covered: float
    """Share of measurements inside the 80 % band."""
    median_low: float | None = None
    """Of an average: the 80 % interval of its median, by drawing the rows of every source again; else None."""
    median_high: float | None = None
    sources: int | None = None
    """Of an average: sources that have enough rows to count in it; else None."""


def error_row(by: str, key: str, metric: str, group: Sequence[Comparison]) -> ErrorRow:
    """The errors of a non-empty group."""
    signed = np.array([c.error for c in group])
    size = np.abs(signed)
    return ErrorRow(
        by=by,
        key=key,
        metric=metric,
        count=len(group),
        median=float(np.median(size)),
        mean=float(size.mean()),
        signed=float(np.median(signed)),
        p90=float(np.quantile(size, 0.9)),
        within_20=float((size <= WITHIN).mean()),
        covered=float(np.mean([c.covered for c in group])),
    )


def error_tables(comparisons: Iterable[Comparison], held_out: Iterable[Comparison] = ()) -> list[ErrorRow]:
    """Errors of the scored comparisons by metric and each of :data:`BY`, then averages over sources.

    `held_out` are the same rows predicted without what was measured on their parts: they count in slices alone.
    """
    held = [c for c in held_out if c.scored]
    scored = [c for c in comparisons if c.scored]
    rows: list[ErrorRow] = []
    for by, key_of in BY.items():
        groups: dict[tuple[str, str], list[Comparison]] = {}
        for comparison in [*scored, *held] if by == "slice" else scored:
            groups.setdefault((comparison.metric, key_of(comparison)), []).append(comparison)
        rows += [error_row(by, key, metric, group) for (metric, key), group in sorted(groups.items())]
    return macro_averages([*scored, *held]) + rows


def macro_averages(comparisons: Iterable[Comparison]) -> list[ErrorRow]:
    """One row per slice and metric: plain means of its figures over sources, so that no big table drowns the others.

    A metric that no source has enough rows of has no average.
    """
    groups: dict[tuple[str, str], dict[str, list[Comparison]]] = {}
    for c in comparisons:
        groups.setdefault((c.metric, slice_of(c.point)), {}).setdefault(c.point.source, []).append(c)
    averaged = []
    for (metric, key), by_source in sorted(groups.items()):
        enough = {source: group for source, group in by_source.items() if len(group) >= LEAST_ROWS}
        if not enough:
            continue
        rows = [error_row("source", source, metric, group) for source, group in enough.items()]
        sizes = [np.array([abs(c.error) for c in group]) for group in enough.values()]
        low, high = bootstrap(sizes)
        means = {
            name: float(np.mean([getattr(row, name) for row in rows]))
            for name in ("median", "mean", "signed", "p90", "within_20", "covered")
        }
        count = sum(row.count for row in rows)
        interval = {"median_low": low, "median_high": high}
        averaged.append(ErrorRow("all", key, metric, count, **means, **interval, sources=len(rows)))
    return averaged


def bootstrap(sizes: Sequence[NDArray[np.float64]], seed: int = 0) -> tuple[float, float]:
    """80 % interval of the mean over sources of the median error, the rows of each source drawn again."""
    rng = np.random.default_rng(seed)
    medians = [np.median(rng.choice(each, (RESAMPLES, len(each))), axis=1) for each in sizes]
    drawn = np.mean(medians, axis=0)
    low, high = np.quantile(drawn, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)
