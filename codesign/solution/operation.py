"""How a decided fleet runs: each pool's fixed point t = step(b(t)) on the unlinearised model.

The rows of the optimiser are design limits; an engine steps as fast as it can.  Reported batch, step time,
waits and utilisation come from here (DESIGN 3.4, last paragraph of the decode part); those of colocated pools from
:mod:`~codesign.solution.colocated`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.context import MEMORY_Z, OperatingPoints, Z
from codesign.candidates.data import Floats
from codesign.candidates.flows import CallFlow, Commodity
from codesign.candidates.moments import decode_moments, prompt_moments
from codesign.candidates.split import ROLE
from codesign.optimize.fleet import FleetPlan
from codesign.performance import (
    ConfigurationTable,
    bandwidth_share,
    decode_attention_seconds,
    decode_flops,
    decode_step_seconds,
    first_token_seconds,
    kv_bytes,
    kv_read_bytes,
    link_bytes_per_s,
    prefill_flops,
    rank_sequences,
)
from codesign.performance.drafts import accepted
from codesign.performance.queueing import ADMISSION_STEPS, batch_swing, mean_wait, poisson_mean_within, seen_batch
from codesign.solution.colocated import Chunked, operate_colocated
from codesign.solution.split_decode import operate_split
from codesign.solution.state import PoolState, session_room

_ITERATIONS = 400


Known = dict[Hashable, PoolState]
"""States by what they follow from."""


def operate(candidates: Candidates, plan: FleetPlan, known: Known | None = None) -> dict[int, PoolState]:
    """The state of every modelled pool of a plan, by column.

    `known` keeps states from one plan of these candidates to the next: pools that are the same in both are not worked
    out again.
    """
    known = {} if known is None else known
    states: dict[int, PoolState] = {}
    prefills = {}
    for column, replicas in plan.replicas.items():
        block, position = candidates.data.locate([column])[0]
        points = candidates.points[block]
        if points is None:
            continue
        rates = tuple((f, rate) for (k, f), rate in plan.rates.items() if k == column)
        flows = tuple((candidates.book.flows[f], rate) for f, rate in rates)
        key = column, replicas, rates
        if flows and points.role == "prefill":
            prefills[column] = key, candidates.table(int(points.configuration[position])), flows
        elif flows:
            if key not in known:
                known[key] = _state(candidates, column, points, position, replicas, flows)
            states[column] = known[key]
    steps = _decode_steps(states)
    for column, (key, table, flows) in prefills.items():
        # KV that stays with prompts does so while the other side answers.
        answers = tuple(steps.get(flow.commodity, 0.0) for flow, _ in flows if flow.residency == "prefill")
        if (key, answers) not in known:
            known[key, answers] = _prefill(candidates, column, table, plan.replicas[column], flows, steps)
        states[column] = known[key, answers]
    return states


def _decode_steps(states: dict[int, PoolState]) -> dict[Commodity, float]:
    """Mean time per token of the calls of each commodity, over the decode pools that share them."""
    rates: dict[Commodity, float] = {}
    seconds: dict[Commodity, float] = {}
    for state in states.values():
        for flow, rate in state.flows:
            key = flow.commodity
            rates[key] = rates.get(key, 0.0) + rate
            each = state.step_s / accepted(state.table, flow.calls).tokens
            seconds[key] = seconds.get(key, 0.0) + rate * each
    return {key: seconds[key] / rates[key] for key in rates if rates[key] > 0}


def _state(
    candidates: Candidates,
    column: int,
    points: OperatingPoints,
    position: int,
    replicas: int,
    flows: tuple[tuple[CallFlow, float], ...],
) -> PoolState:
    """Of any pool but a prefill one."""
    configuration = int(points.configuration[position])
    if points.role == ROLE:
        assert candidates.splits is not None
        split = candidates.splits.table.take(np.array([configuration]))
        return operate_split(candidates.instance.options, split, column, replicas, flows)
    table = candidates.table(configuration)
    chunked = None
    if points.role == "colocated":
        reloads = [tier_seconds(flow, table) for flow, _ in flows]
        chunked = operate_colocated(table, flows, replicas, float(points.chunk[position]), reloads)
    return _stepping(candidates, column, table, replicas, flows, points.role, chunked)


def _stepping(
    candidates: Candidates,
    column: int,
    table: ConfigurationTable,
    replicas: int,
    flows: tuple[tuple[CallFlow, float], ...],
    role: str,
    chunked: Chunked | None,
) -> PoolState:
    """Decode and colocated pools; the latter's steps are those of `chunked`."""
    tokens = attention = kept = kept_square = waiting = waiting_square = 0.0
    flops = reads = arriving = leaving = 0.0
    for flow, rate in flows:
        x = rate / replicas
        population = flow.calls.population
        stay = population.weight * population.output / accepted(table, flow.calls).tokens
        middle = population.context + population.output / 2.0
        moments = decode_moments(table, flow.calls)
        prompt = prompt_moments(table, flow.calls, flow.residency)
        tokens += x * moments.steps
        attention += x * float(moments.attention[0])
        flops += x * float(decode_flops(table, middle)[0] @ stay)
        reads += x * float(kv_read_bytes(table, middle)[0] @ stay)
        if flow.residency == role:
            kept += x * flow.calls.held_s * float(moments.bytes_after[0])
            kept_square += x * flow.calls.held_s * float(moments.square_after[0])
        if chunked is not None:
            seconds = x * np.ceil(prompt.new_tokens / chunked.chunk) * prompt.weight * chunked.full_step_s
            waiting += float(prompt.held[0] @ seconds)
            waiting_square += float(prompt.held[0] ** 2 @ seconds)
            cached = flow.calls.prefill_points(flow.residency)
            flops += x * float(prefill_flops(table, cached.new, cached.cached)[0] @ cached.weight)
            if flow.tier is not None:
                arriving += x * float(prompt.arriving[0])
                leaving += x * float(prompt.decode_leaving[0])
        else:
            arriving += x * float(prompt.decode_arriving[0])
            leaving += x * float(prompt.decode_leaving[0])
    if chunked is None:
        t, deviation = _decode_step(table, flows, replicas, tokens, attention)
        batch, utilization, wait = tokens * t, 0.0, 0.0
    else:
        t, deviation = chunked.step_s, chunked.step_sd_s
        batch, utilization, wait = chunked.batch, chunked.utilization, chunked.wait_s
    state = PoolState(column, role, table, replicas, flows, t, deviation, batch, utilization, wait, 1, {}, 0.0, chunked)
    active, active_square = _active_bytes(state)
    options = candidates.instance.options
    room = session_room(options, table, role, flows, None if chunked is None else chunked.chunk)
    spread = float(np.sqrt(active_square + kept_square + waiting_square))
    held = active + kept + waiting
    accelerators = float(table.replica_accelerators[0])
    peak = _peak_flops(table)
    shares = {
        "compute": flops / (peak * accelerators),
        "bandwidth": float(bandwidth_share(table, *(np.array([x]) for x in (max(batch, 1.0), t, reads)))[0]),
        "capacity": (held + Z * spread) / room,
        "slots": batch / float(poisson_mean_within(rank_sequences(table, options.max_sequences)[0]) * table.dp[0]),
    }
    if role == "decode" or arriving or leaving:
        shares["link"] = max(arriving, leaving) / max(float(link_bytes_per_s(table)[0]), 1e-9)
    if role == "colocated":
        shares["busy"] = utilization
    return replace(state, shares=shares, fullest=(held + MEMORY_Z * spread) / room)


def _decode_step(
    table: ConfigurationTable,
    flows: tuple[tuple[CallFlow, float], ...],
    replicas: int,
    tokens: float,
    attention: float,
) -> tuple[float, float]:
    """Mean step of a decode pool's calls and its standard deviation, at a batch of B = tokens·t.

    Batches swing by their own loop; those of calls that no replica keeps even out over the replicas.
    """
    even = 1 if any(flow.residency == "decode" for flow, _ in flows) else replicas

    def step(batch: float) -> float:
        return float(decode_step_seconds(table, np.array([batch]))[0, 0])

    own = attention / max(tokens, 1e-300)
    t = step(1.0) + own
    for _ in range(_ITERATIONS):
        seen = float(seen_batch(tokens * t, even))
        following = step(seen) + own * seen
        if abs(following - t) <= 1e-12 * t:
            break
        t = following
    batch, seen = tokens * t, float(seen_batch(tokens * t, even))
    more = max(float(np.sqrt(batch)), 1e-6)
    slope = (step(seen + more) - step(seen)) / more
    gain = batch * slope / t + attention
    square = 0.0
    for flow, rate in flows:
        population = flow.calls.population
        r = decode_attention_seconds(table, population.context + population.output / 2.0)[0]
        swing = float(batch_swing(gain, batch, 1 if flow.residency == "decode" else replicas))
        steps = population.output / accepted(table, flow.calls).tokens
        square += swing * rate / replicas * float((population.weight * steps) @ (slope + r) ** 2)
    return t, float(np.sqrt(square * t))


def _active_bytes(state: PoolState) -> tuple[float, float]:
    """Mean and variance (bytes, bytes²) of what the sequences in a replica's batch hold."""
    mean = variance = 0.0
    for flow, rate in state.flows:
        population = flow.calls.population
        held = kv_bytes(state.table, population.context + population.output)[0]
        held = np.maximum(held - kv_bytes(state.table, np.array([flow.calls.shared]))[0, 0], 0.0)
        seconds = rate / state.replicas * population.weight * state.decode_seconds(flow)
        mean += float(held @ seconds)
        variance += float(held**2 @ seconds)
    return mean, variance


def _prefill(
    candidates: Candidates,
    column: int,
    table: ConfigurationTable,
    replicas: int,
    flows: tuple[tuple[CallFlow, float], ...],
    steps: dict[Commodity, float],
) -> PoolState:
    busy = square = cube = held = held_square = arriving = leaving = flops = 0.0
    for flow, rate in flows:
        prompt, after = prompt_moments(table, flow.calls, flow.residency), decode_moments(table, flow.calls)
        points = flow.calls.prefill_points(flow.residency)
        busy += rate * float(prompt.busy[0])
        square += rate * float(prompt.busy_square[0])
        cube += rate * float(prompt.busy_cube[0])
        there = prompt.seconds[0] + flow.transfer_seconds(prompt.reload[0], prompt.send[0])
        kept = 0.0
        if flow.residency == "prefill":
            kept = flow.calls.held_s
            there = there + prompt.answer_tokens * steps.get(flow.commodity, 0.0)
        there = there * prompt.weight
        held += rate * (float(prompt.held[0] @ there) + kept * float(after.bytes_after[0]))
        held_square += rate * (float(prompt.held[0] ** 2 @ there) + kept * float(after.square_after[0]))
        arriving += rate * float(prompt.arriving[0])
        leaving += rate * float(prompt.leaving[0])
        flops += rate * float(prefill_flops(table, points.new, points.cached)[0] @ points.weight)
    sticky = any(flow.residency == "prefill" for flow, _ in flows)
    servers = 1 if sticky else replicas
    share = servers / replicas
    wait = float(mean_wait(busy * share, square * share, servers))
    room = session_room(candidates.instance.options, table, "prefill", flows)
    spread = float(np.sqrt(held_square * replicas))
    fullest = (held + MEMORY_Z * spread) / replicas / room
    accelerators = float(table.replica_accelerators[0])
    peak = _peak_flops(table)
    shares = {
        "compute": flops / replicas / (peak * accelerators),
        "capacity": (held + Z * spread) / replicas / room,
        "link": max(arriving, leaving) / replicas / float(link_bytes_per_s(table)[0]),
        "busy": busy / replicas,
    }
    return PoolState(
        column,
        "prefill",
        table,
        replicas,
        flows,
        0.0,
        0.0,
        0.0,
        busy / replicas,
        wait,
        servers,
        shares,
        fullest,
        skew=busy * cube / max(square**2, 1e-300),
    )


def _peak_flops(table: ConfigurationTable) -> float:
    """FLOP/s at the table's activations of one accelerator."""
    return float(table.part_accelerators.running_peak[table.accelerator, table.activations][0])


def rest_of_ttft(flow: CallFlow, prefill: PoolState, decode: PoolState) -> tuple[Floats, Floats]:
    """(weight [J], seconds [J]) of a call's TTFT beside the wait, on the pools that it goes through."""
    prompt = prompt_moments(prefill.table, flow.calls, flow.residency)
    start = first_token_seconds(prefill.table)[0]
    if prefill.chunked is not None:
        weight, seconds = prefill.chunked.own_seconds(prefill.table, flow)
        return weight, seconds + reload_seconds(flow, prefill) + start
    moved = flow.transfer_seconds(prompt.reload[0], prompt.send[0])
    return prompt.weight, prompt.seconds[0] + moved + start + ADMISSION_STEPS * decode.step_s


def reload_seconds(flow: CallFlow, pool: PoolState) -> Floats:
    """[J] seconds in which the prompts of a colocated flow get their history from a tier; none where it has none."""
    return tier_seconds(flow, pool.table)


def tier_seconds(flow: CallFlow, table: ConfigurationTable) -> Floats:
    """The same on replicas of one configuration."""
    prompt = prompt_moments(table, flow.calls, flow.residency)
    if flow.tier is None:
        return np.zeros_like(prompt.weight)
    return flow.transfer_seconds(prompt.reload[0], np.zeros(1))
