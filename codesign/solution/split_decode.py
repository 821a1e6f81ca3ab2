"""A split-decode pool in operation: the fixed point of its three curves (DESIGN 3.4)."""

from __future__ import annotations

import numpy as np

from codesign.candidates.context import MEMORY_Z, Z
from codesign.candidates.flows import CallFlow
from codesign.candidates.moments import decode_moments, prompt_moments
from codesign.candidates.split import ROLE
from codesign.performance import (
    decode_attention_seconds,
    decode_flops,
    decode_weight_bytes,
    kv_read_bytes,
    rank_sequences,
)
from codesign.performance.queueing import poisson_mean_within
from codesign.performance.split import (
    SplitTable,
    activation_bytes,
    split_link_bytes_per_s,
    split_step_seconds,
)
from codesign.problem.instance import Options
from codesign.solution.state import PoolState, session_room

_ITERATIONS = 400


def operate_split(
    options: Options,
    split: SplitTable,
    column: int,
    replicas: int,
    flows: tuple[tuple[CallFlow, float], ...],
) -> PoolState:
    """State of a split-decode pool under its flows (calls/s of the whole pool)."""
    table, other = split.attention, split.feed_forward
    n, m = float(split.groups[0]), float(split.microbatches[0])
    tokens = attention = active = active_square = kept = kept_square = 0.0
    flops = reads = arriving = leaving = 0.0
    for flow, rate in flows:
        x = rate / replicas
        population = flow.calls.population
        stay, middle = population.weight * population.output, population.context + population.output / 2.0
        moments = decode_moments(table, flow.calls)
        prompt = prompt_moments(table, flow.calls, flow.residency)
        tokens += x * moments.steps
        attention += x * float(moments.attention[0]) / n
        active += x * float(moments.bytes_steps[0])
        active_square += x * float(moments.square_steps[0])
        if flow.residency == "decode":
            kept += x * flow.calls.held_s * float(moments.bytes_after[0])
            kept_square += x * flow.calls.held_s * float(moments.square_after[0])
        each = decode_flops(table, middle)[0] + decode_flops(other, middle)[0]
        flops += x * float(each @ stay)
        reads += x * float(kv_read_bytes(table, middle)[0] @ stay)
        arriving += x * float(prompt.decode_arriving[0])
        leaving += x * float(prompt.decode_leaving[0])
    added = np.array([attention, 0.0, attention / m])

    def step(batch: float) -> np.ndarray:
        return np.array([float(curve[0, 0]) for curve in split_step_seconds(split, np.array([batch]))])

    t = float(step(0.0).max())
    for _ in range(_ITERATIONS):
        following = float((step(tokens * t) + added * t).max())
        if abs(following - t) <= 1e-12 * t:
            break
        t = following
    batch = tokens * t
    rise = (step(batch * 1.01 + 0.01) - step(batch)) / (batch * 0.01 + 0.01)
    slope = float(rise.max())
    square = 0.0
    for flow, rate in flows:
        population = flow.calls.population
        r = _attention(split, flow) / n
        square += rate / replicas * float((population.weight * population.output) @ (slope + r) ** 2)
    peak = bandwidth = 0.0
    for half, copies in ((table, n), (other, 1.0)):
        parts, a = half.part_accelerators, half.accelerator
        count = copies * float(half.replica_accelerators[0])
        peak += count * float(parts.running_peak[a, half.activations][0])
        bandwidth += count * float(parts.bandwidth[a][0])
    weights = m * n * float(decode_weight_bytes(table, np.array([max(batch / (m * n), 1.0)]))[0, 0])
    weights += m * float(decode_weight_bytes(other, np.array([max(batch / m, 1.0)]))[0, 0])
    room = session_room(options, table, "decode", flows) * n
    spread = float(np.sqrt(active_square * t + kept_square))
    moved = max(arriving, leaving) + tokens * float(activation_bytes(split)[0])
    shares = {
        "compute": flops / peak,
        "bandwidth": (weights / t + reads) / bandwidth,
        "capacity": (active * t + kept + Z * spread) / room,
        "slots": batch / float(poisson_mean_within(rank_sequences(table, options.max_sequences)[0])),
        "link": moved / float(split_link_bytes_per_s(split)[0]),
    }
    fullest = (active * t + kept + MEMORY_Z * spread) / room
    return PoolState(
        column, ROLE, table, replicas, flows, t, float(np.sqrt(square * t)), batch, 0.0, 0.0, 1, shares, fullest
    )


def _attention(split: SplitTable, flow: CallFlow) -> np.ndarray:
    """[Q] seconds that a sequence adds to its attention instance's step."""
    points = flow.calls.population
    return np.asarray(decode_attention_seconds(split.attention, points.context + points.output / 2.0)[0])
