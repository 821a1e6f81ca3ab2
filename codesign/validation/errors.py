"""Error tables: median, mean, signed, p90, share within 20 %, coverage of the bands; and macro-averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.validation.compare import Comparison
from codesign.validation.points import COLOCATED

WITHIN = 0.2

BY: dict[str, Callable[[Comparison], str]] = {
    "slice": lambda c: c.point.slice,
    "source": lambda c: ", ".join((c.point.source, *([] if c.point.slice == COLOCATED else [c.point.slice]))),
    "accelerator": lambda c: c.point.accelerator,
    "model": lambda c: c.point.model,
    "precision": lambda c: c.point.weights,
    "stack": lambda c: c.point.stack,
    "class": lambda c: c.kind,
}
"""What the tables are broken down by, beside the metric."""

MACRO = "average over sources"


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


def error_tables(comparisons: Iterable[Comparison]) -> list[ErrorRow]:
    """Errors of the scored comparisons by metric and each of :data:`BY`, then averages over sources."""
    scored = [c for c in comparisons if c.scored]
    rows: list[ErrorRow] = []
    for by, key_of in BY.items():
        groups: dict[tuple[str, str], list[Comparison]] = {}
        for comparison in scored:
            groups.setdefault((comparison.metric, key_of(comparison)), []).append(comparison)
        rows += [error_row(by, key, metric, group) for (metric, key), group in sorted(groups.items())]
    return macro_averages(rows) + rows


def macro_averages(rows: Sequence[ErrorRow]) -> list[ErrorRow]:
    """One row per metric: plain means of its figures over sources, so that no big table drowns the others."""
    averaged: list[ErrorRow] = []
    for metric in dict.fromkeys(row.metric for row in rows):
        of_sources = [row for row in rows if row.by == "source" and row.metric == metric]

        def mean(name: str, of_sources: Sequence[ErrorRow] = of_sources) -> float:
            return float(np.mean([getattr(row, name) for row in of_sources]))

        averaged.append(
            ErrorRow(
                by="all",
                key=MACRO,
                metric=metric,
                count=sum(row.count for row in of_sources),
                median=mean("median"),
                mean=mean("mean"),
                signed=mean("signed"),
                p90=mean("p90"),
                within_20=mean("within_20"),
                covered=mean("covered"),
            )
        )
    return averaged
