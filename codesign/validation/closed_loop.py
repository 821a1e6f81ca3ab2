"""Measured closed-loop runs in the simulator: a fixed number of clients on one replica, sending as they are served.

The engine is the one that simulates plans: continuous batching with prompts in chunks between the steps. What a
formula has to assume (how prefills of others stretch a token, how long a prompt waits) comes out here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.performance import (
    ConfigurationTable,
    decode_attention_seconds,
    first_token_seconds,
    kv_bytes,
    kv_capacity_bytes,
    prefill_attention_seconds,
)
from codesign.simulate.demand import COLUMNS, step_table
from codesign.simulate.fleet import RECORD, CallRows, Fleet, PoolSpec, RouteSpec
from codesign.validation.engine_load import BATCHED_PROMPT_TOKENS, engine_memory
from codesign.validation.points import Point

FloatArray = NDArray[np.float64]

LENGTHS = (8 / 9, 10 / 9)
"""InferenceX draws lengths uniformly from 0.8 to 1.0 times the nominal ones, whose means points have."""
_ROUNDS = 5
"""Calls of a client; the first and the last are not counted: everybody begins at once, and somebody ends alone."""


@dataclass(frozen=True)
class ClosedLoop:
    """What clients see in one simulation; milliseconds."""

    ttft_ms_p50: float
    tpot_ms_p50: float


def simulate_closed(point: Point, table: ConfigurationTable, seed: int = 0) -> ClosedLoop:
    """Simulate one point of closed load on the single configuration of a table."""
    rng = np.random.default_rng(seed)
    clients = max(1, round(point.concurrency))
    n = clients * _ROUNDS
    context = np.maximum(np.round(point.isl * rng.uniform(*LENGTHS, n)), 1.0)
    output = np.maximum(np.round(point.osl * rng.uniform(*LENGTHS, n)), 2.0)
    cached = np.minimum(np.round(context * (point.cached / point.isl)), context - 1.0)
    demand = _Demand(table)
    rows = CallRows(
        session=np.repeat(np.arange(clients), _ROUNDS),
        route=np.zeros(n, dtype=np.int64),
        place=np.zeros(n),
        follows=np.zeros(n, dtype=bool),
        expects=np.zeros(n, dtype=bool),
        gap_s=np.zeros(n),
        values=demand.rows(context, cached, output),
    )
    chunk = BATCHED_PROMPT_TOKENS * float(table.dp[0])
    spec = PoolSpec(
        name="replica",
        role="colocated",
        replicas=1,
        spares=0,
        lanes=1,
        steps=step_table(table, max(clients, 1), chunk),
        room_bytes=float(kv_capacity_bytes(table, engine_memory([point]))[0]),
        link_bytes_per_s=1.0,
        chunk=chunk,
        max_sequences=max(clients, 1),
    )
    start_s = float(first_token_seconds(table)[0])
    way = RouteSpec("drop", "replica", "replica", np.inf, 0.0, False, demand, start_s=start_s)
    fleet = Fleet([spec], [way], rows)
    for client in range(clients):
        fleet.enter(client * _ROUNDS, 0.0)
    records = fleet.run(1e6, 1).records
    found = dict(zip(RECORD, records[np.argsort(records[:, RECORD.index("end")])].T, strict=True))
    middle = slice(clients, n - clients)
    tpot = (found["end"] - found["first"]) / (found["output"] - 1.0)
    ttft = found["first"] - found["start"]
    return ClosedLoop(1e3 * float(np.median(ttft[middle])), 1e3 * float(np.median(tpot[middle])))


@dataclass(frozen=True, eq=False)
class _Demand:
    """Rows of calls on a table's single configuration, all of whose cached prefixes are there when they come."""

    table: ConfigurationTable
    shared: float = 0.0

    def rows(self, context: FloatArray, cached: FloatArray, output: FloatArray) -> FloatArray:
        """[n, columns of :mod:`~codesign.simulate.demand`] of calls with these lengths in tokens ([n] each).

        Prefixes are held once for all that share them, and make way: what a sequence adds to them counts.
        """
        table, last = self.table, context + output
        attention, shared = decode_attention_seconds(table, context)[0], kv_bytes(table, cached)[0]
        values = np.zeros((len(context), len(COLUMNS)))
        for name, found in (
            ("context", context),
            ("cached", cached),
            ("output", output),
            ("prompt_s", prefill_attention_seconds(table, context - cached, cached)[0]),
            ("begin", kv_bytes(table, context)[0] - shared),
            ("end", kv_bytes(table, last)[0] - shared),
            ("attention_s", attention),
            ("attention_more", (decode_attention_seconds(table, last)[0] - attention) / output),
            ("steps", output),
        ):
            values[:, COLUMNS.index(name)] = found
        return values
