"""Decode columns: operating points (step limit τ, shares of spread) and their rows (DESIGN 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.context import (
    MomentBook,
    OperatingPoints,
    Slice,
    Z,
    decode_constant_power,
    decode_power,
    tier_joules,
)
from codesign.candidates.data import ColumnBlock, Floats, RowUse
from codesign.candidates.flows import CallFlow
from codesign.candidates.grids import Grids
from codesign.candidates.step import Chords, step_chords
from codesign.performance.queueing import normal_quantile


@dataclass(frozen=True)
class StepPoints:
    """Step limits and spreads of K configurations: [P] points of the grid, then those of each configuration's own."""

    tau: Floats
    """[K, P] seconds."""
    step: Floats
    """[P] share of the limit that is kept free for the step's fluctuation."""
    memory: Floats
    """[P] the same of the memory."""

    @staticmethod
    def of(grids: Grids, flows: list[CallFlow], empty: Floats) -> StepPoints:
        """Points that some flow tolerates on configurations whose steps take `empty` [K] seconds without a load."""
        points = [
            (tau, step, memory)
            for step in grids.step_spreads
            for memory in grids.memory_spreads
            for tau in step_limits(grids, flows, step, empty)
        ]
        tau, step, memory = np.array(points, dtype=np.float64).reshape(-1, 3).T
        own = own_limits(grids, empty, grids.step_spreads[0])
        count = len(grids.memory_spreads)
        return StepPoints(
            np.concatenate([np.tile(tau, (len(empty), 1)), np.tile(own[:, None], (1, count))], axis=1),
            np.concatenate([step, np.full(count, grids.step_spreads[0])]),
            np.concatenate([memory, grids.memory_spreads]),
        )


def step_limits(grids: Grids, flows: list[CallFlow], spread: float, empty: Floats) -> list[float]:
    """Step limits of the grid that some flow tolerates when `spread` of the step fluctuates.

    The rows plan for a batch that takes the whole step limit, so where memory, slots or prompts bind a shorter
    limit carries more.  All are of the absolute grid, none an SLO's own: a tighter SLO only removes columns.
    `empty` [K] are the steps of the configurations without a load.
    """
    longest = max(longest_step(flow, spread) for flow in flows)
    fastest, slowest = float(empty.min()) / (1 - spread), float(empty.max()) / (1 - spread)
    return [limit for limit in grids.steps(fastest, slowest) if limit <= longest * (1 + 1e-12)]


def own_limits(grids: Grids, empty: Floats, spread: float) -> Floats:
    """[K] the shortest step limit that each configuration can keep, as absolute as its steps are."""
    return np.asarray(empty * (1 + grids.floor_room) / (1 - spread))


def longest_step(flow: CallFlow, spread: float) -> float:
    """Longest step (at the planning percentile) that meets a flow's TPOT SLO and its commodity's level."""
    limits = [flow.tpot_level_s]
    for percentile, seconds in flow.calls.task.tpot_slo:
        limits.append(seconds / (1.0 - spread * (1.0 - float(normal_quantile(percentile)) / Z)))
    return float(min(limits))


def decode_blocks(
    part: Slice, book: MomentBook, select: list[int]
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """One block for each anchor of the step curve."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index):
        return []
    capacity = part.room
    found = []
    for anchor in part.grids.anchors:
        usable = capacity > 0 if anchor == part.grids.anchors[0] else (capacity > 0) & ~part.convex
        if usable.any():
            chords = step_chords(part.table, part.grids, part.slots, 0.0, anchor)
            found.append(_block(part, book, select, flows, capacity, chords, np.flatnonzero(usable)))
    return [item for item in found if len(item[0])]


def _block(
    part: Slice,
    book: MomentBook,
    select: list[int],
    flows: list[CallFlow],
    capacity: Floats,
    chords: Chords,
    usable: np.ndarray,
) -> tuple[ColumnBlock, OperatingPoints]:
    grids = part.grids
    points = StepPoints.of(grids, flows, chords.intercept[usable].max(axis=1))
    tau, step, memory = points.tau, points.step, points.memory
    segments = chords.slope.shape[1]
    rows = segments + 5
    count = len(usable)
    fixed = np.zeros((count, rows, len(flows)))
    scaled = np.zeros((count, rows, len(flows)))
    power = np.zeros((count, len(flows)))
    steepest = chords.slope.max(axis=1)
    for v, flow in enumerate(flows):
        moments = book.decode(flow.calls)
        per_step = chords.slope * moments.tokens + moments.attention[:, None]
        square = (
            moments.tokens * steepest**2 + 2 * steepest * moments.attention + moments.attention_square
        )
        held = flow.calls.held_s if flow.residency == "decode" else 0.0
        scaled[:, :segments, v] = per_step[usable]
        scaled[:, segments, v] = square[usable]
        scaled[:, segments + 1, v] = moments.tokens
        scaled[:, segments + 2, v] = moments.bytes_tokens[usable]
        scaled[:, segments + 3, v] = moments.square_tokens[usable]
        fixed[:, segments + 2, v] = moments.bytes_after[usable] * held
        fixed[:, segments + 3, v] = moments.square_after[usable] * held
        fixed[:, segments + 4, v] = _link_use(book, flow)[usable]
        power[:, v] = decode_power(part, book, flow)[usable] + tier_joules(part, flow)
    limit = np.zeros((*tau.shape, rows))
    limit[:, :, :segments] = (tau * (1 - step))[:, :, None] - chords.intercept[usable, None, :]
    limit[:, :, segments] = (tau * step / Z) ** 2
    limit[:, :, segments + 1] = (part.slots * part.table.dp)[usable, None]
    limit[:, :, segments + 2] = capacity[usable, None] * (1 - memory)[None, :]
    limit[:, :, segments + 3] = (capacity[usable, None] * memory[None, :] / Z) ** 2
    limit[:, :, segments + 4] = part.link[usable, None]
    longest = np.array([[longest_step(flow, s) for flow in flows] for s in step])
    fabric = np.array([flow.fabric_bytes_per_s for flow in flows])
    admissible = (tau[:, :, None] <= longest * (1 + 1e-12)) & (part.link[usable, None, None] >= fabric)
    keep_k, keep_p = np.nonzero(np.all(limit > 0, axis=2) & admissible.any(axis=2))
    configuration = part.index[usable[keep_k]]
    names = (
        *(f"time{i}" for i in range(segments)),
        "spread",
        "slots",
        "capacity",
        "capacity spread",
        "link",
    )
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=names,
        use=RowUse(fixed, scaled, np.ones(rows), keep_k, tau[keep_k, keep_p]),
        limit=limit[keep_k, keep_p],
        admissible=admissible[keep_k, keep_p],
        flow_power_w=power,
        replica_power_w=decode_constant_power(part)[usable[keep_k]],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("decode", configuration),
        min_replicas=np.ones(len(configuration), dtype=np.int64),
    )
    nothing = np.full(len(configuration), np.nan)
    return block, OperatingPoints("decode", configuration, tau[keep_k, keep_p], nothing, nothing, nothing)


def _link_use(book: MomentBook, flow: CallFlow) -> Floats:
    """[K] bytes per call over the replica's busier direction."""
    prompt = book.prompt(flow.calls, flow.residency)
    return np.maximum(prompt.decode_arriving, prompt.decode_leaving)
