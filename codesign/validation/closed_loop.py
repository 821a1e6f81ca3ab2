"""Measured closed-loop runs in the simulator: a fixed number of clients on one replica, sending as they are served.

The engine is the one that simulates plans: continuous batching with prompts in chunks between the steps. What a
formula has to assume (how prefills of others stretch a token, how long a prompt waits) comes out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.performance import (
    ConfigurationTable,
    decode_attention_seconds,
    kv_bytes,
    kv_capacity_bytes,
    prefill_attention_seconds,
)
from codesign.simulate.demand import COLUMNS, step_table
from codesign.simulate.fleet import RECORD, CallRows, Fleet, PoolSpec, RouteSpec
from codesign.validation.engine_load import BATCHED_PROMPT_TOKENS, table_of
from codesign.validation.points import COLOCATED, Point
from codesign.validation.predict import stack_default

FloatArray = NDArray[np.float64]

LENGTHS = (8 / 9, 10 / 9)
"""InferenceX draws lengths uniformly from 0.8 to 1.0 times the nominal ones, whose means points have."""
_ROUNDS = 5
"""Calls of a client; the first and the last are not counted: everybody begins at once, and somebody ends alone."""


@dataclass(frozen=True)
class ClosedLoop:
    """One point under simulation; milliseconds."""

    point: Point
    ttft_ms_p50: float
    tpot_ms_p50: float


def simulate_closed(points: Sequence[Point], seed: int = 0) -> list[ClosedLoop]:
    """Simulate the colocated points of closed load, each with the default profile of its stack."""
    simulated = [p for p in points if p.load == "closed" and p.slice == COLOCATED]
    return [_run(p, table_of([p], stack_default(p)), seed) for p in simulated]


def _run(point: Point, table: ConfigurationTable, seed: int) -> ClosedLoop:
    rng = np.random.default_rng(seed)
    clients = max(1, round(point.concurrency))
    n = clients * _ROUNDS
    context = np.maximum(np.round(point.isl * rng.uniform(*LENGTHS, n)), 1.0)
    output = np.maximum(np.round(point.osl * rng.uniform(*LENGTHS, n)), 2.0)
    rows = CallRows(
        session=np.repeat(np.arange(clients), _ROUNDS),
        route=np.zeros(n, dtype=np.int64),
        place=np.zeros(n),
        follows=np.zeros(n, dtype=bool),
        expects=np.zeros(n, dtype=bool),
        gap_s=np.zeros(n),
        values=_values(table, context, output),
    )
    chunk = BATCHED_PROMPT_TOKENS * float(table.dp[0])
    spec = PoolSpec(
        name="replica",
        role="colocated",
        replicas=1,
        spares=0,
        lanes=1,
        steps=step_table(table, max(clients, 1), chunk),
        room_bytes=float(kv_capacity_bytes(table)[0]),
        link_bytes_per_s=1.0,
        chunk=chunk,
        max_sequences=max(clients, 1),
    )
    fleet = Fleet([spec], [RouteSpec("drop", "replica", "replica", np.inf, 0.0, False, None)], rows)
    for client in range(clients):
        fleet.enter(client * _ROUNDS, 0.0)
    records = fleet.run(1e6, 1).records
    found = dict(zip(RECORD, records[np.argsort(records[:, RECORD.index("end")])].T, strict=True))
    middle = slice(clients, n - clients)
    tpot = (found["end"] - found["first"]) / (found["output"] - 1.0)
    ttft = found["first"] - found["start"]
    return ClosedLoop(point, 1e3 * float(np.median(ttft[middle])), 1e3 * float(np.median(tpot[middle])))


def _values(table: ConfigurationTable, context: FloatArray, output: FloatArray) -> FloatArray:
    last = context + output
    values = np.zeros((len(context), len(COLUMNS)))
    for name, found in (
        ("context", context),
        ("output", output),
        ("prompt_s", prefill_attention_seconds(table, context)[0]),
        ("begin", kv_bytes(table, context)[0]),
        ("end", kv_bytes(table, last)[0]),
        ("attention_s", decode_attention_seconds(table, context)[0]),
        (
            "attention_more",
            (decode_attention_seconds(table, last)[0] - decode_attention_seconds(table, context)[0]) / output,
        ),
    ):
        values[:, COLUMNS.index(name)] = found
    return values
