"""The grids that operating points and commodity levels come from, all in one place.

Absolute: no SLO, rate or price moves them, so that a tighter SLO only removes columns (DESIGN 3.4).  What a
grid costs is reported by solving again on `refined()` ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

_DECADE_MS = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)
_STEP_LIMITS_S = (0.005, 0.006, 0.008, *(n / 1000 for n in _DECADE_MS), *(n / 100 for n in _DECADE_MS), 1.0)


@dataclass(frozen=True)
class Grids:
    """Ascending values of each grid; seconds, bytes per second, tokens and shares."""

    step_limits_s: tuple[float, ...] = _STEP_LIMITS_S
    """Step limits, round numbers since promises are such; none is an SLO's own, so that a tighter SLO only
    removes columns.  The last is the longest step of all."""
    step_spreads: tuple[float, ...] = (0.04, 0.08, 0.14, 0.22, 0.33)
    """Shares of the step limit that decode pools keep free for fluctuation."""
    memory_spreads: tuple[float, ...] = (0.06, 0.2, 0.4)
    """Shares of the memory that decode pools keep free for fluctuation."""
    colocated_spreads: tuple[float, ...] = (0.06, 0.12, 0.25)
    colocated_memory_spreads: tuple[float, ...] = (0.1, 0.4)
    prefill_memory_spreads: tuple[float, ...] = (0.1, 0.4)
    utilizations: tuple[float, ...] = (0.3, 0.45, 0.6, 0.7, 0.8, 0.87, 0.93)
    """Of prefill queues."""
    colocated_utilizations: tuple[float, ...] = (0.5, 0.7, 0.85)
    pools: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Replicas that pool one prefill queue."""
    waits_s: tuple[float, ...] = tuple(0.004 * 1.6**i for i in range(20))
    """Mean waits of prompt queues."""
    chunks: tuple[float, ...] = (256.0, 1024.0, 4096.0)
    """New prompt tokens that a colocated step may hold."""
    batches: tuple[float, ...] = (1.0, 4.0, 16.0, 48.0, 128.0, 384.0, 1024.0)
    """Knots of the chords of the step curve."""
    anchors: tuple[float, ...] = (1.0, 16.0, 128.0)
    """Batches (among `batches`) at which the chords of a non-convex step are tight."""
    fabrics_bytes_per_s: tuple[float, ...] = (25e9, 100e9, 400e9)
    """Transfer rates that a commodity may count on, of a replica and direction."""
    ttls_s: tuple[float, ...] = (15.0, 60.0, 300.0, 1800.0)
    """Times-to-live of idle sessions' KV, where the planner decides them."""
    admission_s: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
    """Steps that a TTFT may count on for decode admission."""
    tpot_levels_s: tuple[float, ...] = tuple(s for s in _STEP_LIMITS_S if 0.008 <= s <= 0.6)
    """Step limits that a commodity may count on for task latency."""
    ttft_levels_s: tuple[float, ...] = tuple(0.05 * 1.25**i for i in range(40))
    """Mean (and deviation) of TTFT that a commodity may count on for task latency."""

    def refined(self) -> Grids:
        """Every grid with a value between each two neighbours: a superset of the columns of this one."""
        finer: dict[str, Any] = {}
        for item in fields(self):
            values = getattr(self, item.name)
            finer[item.name] = _refined(
                values, whole=item.name in ("pools", "chunks", "batches", "anchors")
            )
        knots = np.array(finer["batches"])
        nearest = {float(knots[np.argmin(np.abs(np.log(knots / anchor)))]) for anchor in finer["anchors"]}
        return replace(self, **{**finer, "anchors": tuple(sorted(nearest))})


def _refined(values: tuple[float, ...], whole: bool) -> tuple[float, ...]:
    between = np.sqrt(np.array(values[:-1]) * np.array(values[1:]))
    if whole:
        between = np.round(between)
    kind = type(values[0])
    return tuple(sorted({*values, *(kind(v) for v in between.tolist())}))
