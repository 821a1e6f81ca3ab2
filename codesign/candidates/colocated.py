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
    joined,
    tier_joules,
)
from codesign.candidates.data import ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.decode import longest_step, own_limits, step_limits
from codesign.candidates.flows import CallFlow
from codesign.candidates.prefill import distinct_waits
from codesign.candidates.step import step_chords
from codesign.candidates.waiting import Queues, longest_waits


def colocated_blocks(
    part: Slice, book: MomentBook, select: list[int]
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """Blocks for each chunk size, anchor of the step curve, step limit, and pair of spreads."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index):
        return []
    grids = part.grids
    queues = Queues.product(grids.colocated_utilizations, (1,), grids.waits_s)
    capacity = part.room
    found = []
    for chunk in grids.chunks:
        for anchor in grids.anchors[:2]:
            first = anchor == grids.anchors[0]
            usable = np.flatnonzero((capacity > 0) & (first | ~part.convex))
            if len(usable):
                pool = _Pool(part, queues, select, flows, capacity, chunk, anchor, usable, book)
                found += pool.blocks()
    return found


class _Pool:
    """Columns of one chunk size and one anchor of the step curve.

    Sessions stay with their replica, so its queue is its own: no pooling.
    """

    def __init__(
        self,
        part: Slice,
        queues: Queues,
        select: list[int],
        flows: list[CallFlow],
        capacity: Floats,
        chunk: float,
        anchor: float,
        usable: Ints,
        book: MomentBook,
    ) -> None:
        self.part, self.queues, self.select, self.flows = part, queues, select, flows
        self.capacity, self.chunk, self.usable, self.book = capacity, chunk, usable, book
        self.chords = step_chords(part.table, part.grids, chunk, anchor)
        self._fill()

    def _fill(self) -> None:
        """Rows as a fixed part and a part that scales with the step limit: [K, R, V] each."""
        part, chords, usable = self.part, self.chords, self.usable
        segments = chords.slope.shape[1]
        # Only tiers move KV over the links of a colocated replica.
        self.linked = any(flow.tier is not None for flow in self.flows)
        rows = segments + 6 + self.linked
        self.fixed, self.scaled = np.zeros((2, len(usable), rows, len(self.flows)))
        self.power = np.zeros((len(usable), len(self.flows)))
        self.exponent = np.ones(rows)
        self.exponent[segments + 5] = 2.0
        self.longest_chunks = 0.0
        """Largest E[chunks²]/E[chunks] of a flow."""
        steepest = chords.slope.max(axis=1)
        for v, flow in enumerate(self.flows):
            moments, prompt = self.book.decode(flow.calls), self.book.prompt(flow.calls, flow.residency)
            per_step = chords.slope * moments.tokens + (moments.attention + prompt.attention)[:, None]
            chunks = prompt.new_tokens / self.chunk
            mean_chunks = float(chunks @ prompt.weight)
            square = moments.tokens * steepest**2 + 2 * steepest * moments.attention
            square = square + moments.attention_square + prompt.attention**2 / max(mean_chunks, 1.0)
            self.longest_chunks = max(self.longest_chunks, float(chunks**2 @ prompt.weight) / mean_chunks)
            steps = np.ceil(chunks) * prompt.weight
            held = flow.calls.held_s if flow.residency == "colocated" else 0.0
            self.scaled[:, :segments, v] = per_step[usable]
            self.scaled[:, segments, v] = square[usable]
            self.scaled[:, segments + 1, v] = moments.tokens
            self.scaled[:, segments + 2, v] = (moments.bytes_tokens + prompt.held @ steps)[usable]
            self.scaled[:, segments + 3, v] = (moments.square_tokens + prompt.held**2 @ steps)[usable]
            self.scaled[:, segments + 4, v] = mean_chunks
            self.scaled[:, segments + 5, v] = float(chunks**2 @ prompt.weight)
            self.fixed[:, segments + 2, v] = moments.bytes_after[usable] * held
            self.fixed[:, segments + 3, v] = moments.square_after[usable] * held
            if flow.tier is not None:
                self.fixed[:, segments + 6, v] = np.maximum(prompt.arriving, prompt.decode_leaving)[usable]
            power = decode_power(part, self.book, flow) + prompt.energy_j
            self.power[:, v] = power[usable] + tier_joules(part, flow)

    def blocks(self) -> list[tuple[ColumnBlock, OperatingPoints]]:
        """One block of all step limits and pairs of spreads that leave room."""
        grids = self.part.grids
        found = []
        empty = self.chords.intercept[self.usable].max(axis=1)
        for step in grids.colocated_spreads:
            limits: list[float | Floats] = [*step_limits(grids, self.flows, step, empty)]
            if step == grids.colocated_spreads[0]:
                limits.append(own_limits(grids, empty, step))
            for tau in limits:
                for memory in grids.colocated_memory_spreads:
                    item = self._block(np.broadcast_to(tau, empty.shape), step, memory)
                    if item is not None:
                        found.append(item)
        return joined(found)

    def _block(
        self, tau: Floats, step: float, memory: float
    ) -> tuple[ColumnBlock, OperatingPoints] | None:
        """Columns of a step limit for each configuration, `tau` [usable]."""
        part, queues = self.part, self.queues
        room = (tau * (1 - step))[:, None] - self.chords.intercept[self.usable]
        usable = np.flatnonzero(np.all(room > 0, axis=1))
        if not len(usable):
            return None
        waits = np.stack([self._waits(flow, tau[usable], step, usable) for flow in self.flows], axis=2)
        keep_k, keep_o, wait = distinct_waits(waits)
        if not len(keep_k):
            return None
        source = usable[keep_k]
        own = tau[source]
        rows = self.usable[source]
        segments = self.chords.slope.shape[1]
        limit = np.zeros((len(rows), segments + 6 + self.linked))
        limit[:, :segments] = room[source]
        limit[:, segments] = (own * step / Z) ** 2
        limit[:, segments + 1] = part.slots
        limit[:, segments + 2] = self.capacity[rows] * (1 - memory)
        limit[:, segments + 3] = (self.capacity[rows] * memory / Z) ** 2
        limit[:, segments + 4] = queues.utilization[keep_o]
        limit[:, segments + 5] = queues.second_moment_limit(keep_o, wait)
        limit[:, segments + 6 :] = part.link[rows, None]
        configuration = part.index[rows]
        same = np.ones(len(rows))
        names = ("spread", "slots", "capacity", "capacity spread", "busy", "wait", "link")
        block = ColumnBlock(
            flows=np.array(self.select, dtype=np.int64),
            row_names=(*(f"time{i}" for i in range(segments)), *names)[: limit.shape[1]],
            use=RowUse(self.fixed, self.scaled, self.exponent, source, own),
            limit=limit,
            admissible=waits[keep_k, keep_o] >= wait[:, None],
            flow_power_w=self.power,
            replica_power_w=decode_constant_power(part)[rows],
            packing=part.configurations.packing[configuration],
            packed=part.configurations.packed[configuration],
            group=part.group("colocated", configuration),
            min_replicas=np.ones(len(rows), dtype=np.int64),
        )
        return block, OperatingPoints(
            "colocated",
            configuration,
            own,
            queues.utilization[keep_o],
            queues.waits[wait],
            self.chunk * same,
        )

    def _waits(self, flow: CallFlow, tau: Floats, step: float, usable: Ints) -> Ints:
        """[K, O] longest wait: a prompt of p tokens takes ceil(p/s) steps, each at most τ, after its reload."""
        limits, where = np.unique(tau, return_inverse=True)
        prompt = self.book.prompt(flow.calls, flow.residency)
        seconds = np.ceil(prompt.new_tokens / self.chunk)[None, :] * limits[:, None]
        if flow.tier is not None:
            # One copy of a cache is as large on every configuration of a slice.
            seconds = seconds + flow.transfer_seconds(prompt.reload[:1], np.zeros(1))
        longest = self.longest_chunks * limits
        waits = longest_waits(flow, self.queues, seconds, prompt.weight, limits, longest)
        waits[limits > longest_step(flow, step) * (1 + 1e-12)] = -1
        waits = waits[where.ravel()]
        if flow.tier is not None:
            waits[self.part.link[self.usable[usable]] < flow.fabric_bytes_per_s] = -1
        return waits
