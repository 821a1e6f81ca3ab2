"""Colocated columns: chunked prefill inside decode steps, operating points (chunk s, step limit τ, ρ, w)."""

from __future__ import annotations

import numpy as np

from codesign.candidates.context import (
    MomentBook,
    OperatingPoints,
    Slice,
    Z,
    decode_constant_power,
    decode_power,
)
from codesign.candidates.decode import longest_step, step_limits
from codesign.candidates.flows import CallFlow
from codesign.candidates.prefill import distinct_waits
from codesign.candidates.step import ANCHORS, Chords, step_chords
from codesign.candidates.waiting import WAITS, Queues, longest_waits
from codesign.optimize.data import ColumnBlock, Floats, Ints

CHUNKS = (256.0, 1024.0, 4096.0)
"""New prompt tokens that a step may hold."""
SPREADS = ((0.08, 0.1), (0.08, 0.4), (0.25, 0.2))
QUEUES = Queues.product((0.5, 0.7, 0.85), (1,))
"""Sessions stay with their replica, so its queue is its own (no pooling)."""


def colocated_blocks(
    part: Slice, book: MomentBook, select: list[int]
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """One block for each chunk size, anchor of the step curve, and pair of spreads."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index):
        return []
    capacity = part.capacity([flow.calls for flow in flows])
    found = []
    for chunk in CHUNKS:
        for anchor in ANCHORS[:2]:
            usable = np.flatnonzero(
                (capacity > 0) & (~part.convex if anchor else part.convex | (anchor == 0))
            )
            if not len(usable):
                continue
            chords = step_chords(part.table, chunk, anchor)
            for spreads in SPREADS:
                for tau in step_limits(flows, spreads[0]).tolist():
                    shape = _Shape(chunk, tau, *spreads)
                    item = _block(part, book, select, flows, capacity, chords, usable, shape)
                    if item is not None:
                        found.append(item)
    return found


class _Shape:
    """Chunk, step limit, and the shares of step and memory kept free for fluctuation."""

    def __init__(self, chunk: float, tau: float, step: float, memory: float) -> None:
        self.chunk, self.tau, self.step, self.memory = chunk, tau, step, memory


def _block(
    part: Slice,
    book: MomentBook,
    select: list[int],
    flows: list[CallFlow],
    capacity: Floats,
    chords: Chords,
    usable: Ints,
    shape: _Shape,
) -> tuple[ColumnBlock, OperatingPoints] | None:
    tau, chunk = shape.tau, shape.chunk
    room = tau * (1 - shape.step) - chords.intercept
    usable = usable[np.all(room[usable] > 0, axis=1)]
    if not len(usable):
        return None
    waits = np.stack([_waits(part, book, flow, shape, usable) for flow in flows], axis=2)
    keep_k, keep_o, wait = distinct_waits(waits)
    if not len(keep_k):
        return None
    segments = chords.slope.shape[1]
    use = np.zeros((len(usable), segments + 6, len(flows)))
    power = np.zeros((len(usable), len(flows)))
    steepest = chords.slope.max(axis=1)
    for v, flow in enumerate(flows):
        moments, prompt = book.decode(flow.calls), book.prompt(flow.calls, flow.residency)
        per_step = chords.slope * moments.tokens + (moments.attention + prompt.attention)[:, None]
        chunks = prompt.new_tokens / chunk
        chunk_square = (prompt.attention**2) / max(float(chunks @ prompt.weight), 1.0)
        square = moments.tokens * steepest**2 + 2 * steepest * moments.attention + moments.attention_square
        first = np.ceil(chunks) * tau
        held = flow.calls.held_s if flow.residency == "colocated" else 0.0
        use[:, :segments, v] = per_step[usable] * tau
        use[:, segments, v] = (square + chunk_square)[usable] * tau
        use[:, segments + 1, v] = moments.tokens * tau
        use[:, segments + 2, v] = (moments.bytes_tokens * tau + moments.bytes_after * held)[usable]
        use[:, segments + 3, v] = (moments.square_tokens * tau + moments.square_after * held)[usable]
        use[:, segments + 2, v] += (prompt.held @ (first * prompt.weight))[usable]
        use[:, segments + 3, v] += (prompt.held**2 @ (first * prompt.weight))[usable]
        use[:, segments + 4, v] = float(chunks @ prompt.weight) * tau
        use[:, segments + 5, v] = float((chunks * tau) ** 2 @ prompt.weight)
        power[:, v] = (decode_power(part, book, flow) + prompt.energy_j)[usable]
    rows = usable[keep_k]
    limit = np.zeros((len(rows), segments + 6))
    limit[:, :segments] = room[rows]
    limit[:, segments] = (tau * shape.step / Z) ** 2
    limit[:, segments + 1] = part.slots
    limit[:, segments + 2] = capacity[rows] * (1 - shape.memory)
    limit[:, segments + 3] = (capacity[rows] * shape.memory / Z) ** 2
    limit[:, segments + 4] = QUEUES.utilization[keep_o]
    limit[:, segments + 5] = QUEUES.second_moment_limit(WAITS[:, None])[wait, keep_o]
    configuration = part.index[rows]
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=(
            *(f"time{i}" for i in range(segments)),
            "spread",
            "slots",
            "capacity",
            "capacity spread",
            "busy",
            "wait",
        ),
        use=use[keep_k],
        limit=limit,
        admissible=waits[keep_k, keep_o] >= wait[:, None],
        flow_power_w=power[keep_k],
        replica_power_w=decode_constant_power(part)[rows],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("colocated", configuration),
        min_replicas=np.ones(len(rows), dtype=np.int64),
    )
    same = np.ones(len(rows))
    return block, OperatingPoints(
        "colocated", configuration, tau * same, QUEUES.utilization[keep_o], WAITS[wait], chunk * same
    )


def _waits(part: Slice, book: MomentBook, flow: CallFlow, shape: _Shape, usable: Ints) -> Ints:
    """[K, O] longest wait: a prompt of p tokens takes ceil(p/s) steps, each at most τ."""
    if shape.tau > longest_step(flow, shape.step) * (1 + 1e-12):
        return np.full((len(usable), len(QUEUES.pooled)), -1)
    prompt = book.prompt(flow.calls, flow.residency)
    seconds = np.ceil(prompt.new_tokens / shape.chunk)[None, :] * shape.tau
    one = longest_waits(flow, QUEUES, seconds, prompt.weight, np.full(1, shape.tau))
    return np.repeat(one, len(usable), axis=0)
