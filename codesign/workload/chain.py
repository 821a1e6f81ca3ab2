"""The chain of calls of a median task: how its context, its reuse and its KV cache grow from call to call.

Context grows along a task, so the j-th of n calls is taken from the j-th n-th of the population in order of
context (the rule by which the population tells first calls from later ones).  Averages over the rows of all n
calls are those of the population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.catalog import ModelCard
from codesign.workload.kvcache import kv_bytes
from codesign.workload.population import CallPopulation

SHOWN_CALLS = 6
"""Calls of a chain that are shown: the first, the last, and some between."""


@dataclass(frozen=True)
class ChainCall:
    """One call of the chain; lengths in tokens, means over the tasks of the class."""

    call: int
    """From 1."""
    of: int
    """Calls of the median task."""
    context_tokens: float
    cached_tokens: float
    """Found in a cache that keeps everything."""
    new_tokens: float
    output_tokens: float
    kv_bytes: float
    """One copy, when the call ends."""
    wait_s: float
    """Mean tool time before the next call; 0 after the last."""


def chain(population: CallPopulation, card: ModelCard, kv: str, shown: int = SHOWN_CALLS) -> tuple[ChainCall, ...]:
    """Calls of the median task, at most `shown` of them, evenly along the chain."""
    cumulative = np.cumsum(population.calls_weights)
    median = population.calls_values[np.searchsorted(cumulative, 0.5 * cumulative[-1])]
    count = max(1, round(float(median)))
    order = np.argsort(population.context, kind="stable")
    after = kv_bytes(card, population.context + population.output, kv)
    values = np.stack([population.context, population.reusable, population.output, after])[:, order]
    rows = _slices(values, population.weight[order], count)
    places = sorted({round(p) for p in np.linspace(1, count, min(shown, count)).tolist()})
    return tuple(
        ChainCall(
            call=place,
            of=count,
            context_tokens=float(rows[0, place - 1]),
            cached_tokens=float(rows[1, place - 1]),
            new_tokens=float(rows[0, place - 1] - rows[1, place - 1]),
            output_tokens=float(rows[2, place - 1]),
            kv_bytes=float(rows[3, place - 1]),
            wait_s=population.wait.mean if place < count else 0.0,
        )
        for place in places
    )


def _slices(values: NDArray[np.float64], weight: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Means [n, count] of values [n, Q] over equal shares of the weight, in the order given."""
    edges = np.concatenate([[0.0], np.cumsum(weight)])
    totals = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values * weight, axis=1)], axis=1)
    at = np.linspace(0.0, edges[-1], count + 1)
    sums = np.stack([np.interp(at, edges, row) for row in totals])
    return np.asarray(np.diff(sums, axis=1) * count / edges[-1], dtype=np.float64)
