"""How each pool runs: queues, steps and memory at the fixed point t = step(b(t)) of the unlinearised model.

Written from the physics of DESIGN 3.4, not from the planner's rows: those are linear. Colocated pools stand in
:mod:`~codesign.check.colocated`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from codesign.check.calls import Array
from codesign.check.colocated import Colocated, colocated
from codesign.check.plan import ModelledPool, ModelledRoute, Plan
from codesign.check.split import SplitLoad, split_peaks
from codesign.check.traffic import moved, session_bytes, transfer_seconds
from codesign.performance import (
    EngineMemory,
    bandwidth_share,
    decode_attention_seconds,
    decode_flops,
    decode_step_seconds,
    first_token_seconds,
    kv_bytes,
    kv_capacity_bytes,
    kv_read_bytes,
    link_bytes_per_s,
    prefill_flops,
    prefill_occupancy_seconds,
    prefill_seconds,
    rank_sequences,
)
from codesign.performance.drafts import accepted
from codesign.performance.queueing import (
    PLANNING_PERCENTILE,
    mean_wait,
    normal_quantile,
    poisson_mean_within,
    wait_probability,
)
from codesign.performance.split import SplitTable, activation_bytes
from codesign.problem.instance import Options

_LONGEST_STEP_S = 1e3
_FULLEST = 0.99
"""Of the moments in which a pool's sessions find room, where nothing but that keeps them from waiting for some."""
_EVEN_REPLICAS = 4
"""Replicas from which on routing to the emptiest makes batches even."""
_HIGHEST_GROWTH = 0.95
"""Percent by which a step grows for one percent of its batch, as far as the loop from one to the other is followed."""
_NO_STEPS: Mapping[str, float] = MappingProxyType({})
_GRID = 400


@dataclass(frozen=True)
class PoolState:
    """One pool in operation; everything is per replica."""

    step_s: float = 0.0
    """Mean step time (0 for prefill)."""
    step_sd_s: float = 0.0
    batch: float = 0.0
    full_step_s: float = 0.0
    """Step that holds a full chunk of a prompt (colocated)."""
    busy: float = 0.0
    """ρ of the prompt queue."""
    wait_s: float = 0.0
    """Mean wait in it."""
    servers: int = 1
    """Replicas that share it."""
    skew: float = 1.5
    """E[S]·E[S³]/E[S²]² of what it serves."""
    memory_share: float = 0.0
    """Planning percentile of the bytes held, over the room for them."""
    fullest_share: float = 0.0
    """The same of what is exceeded one time in a hundred."""
    slots_share: float = 0.0
    """Mean batch over the largest mean whose planning percentile fits the engine's maximum."""
    link_share: float = 0.0
    compute_share: float = 0.0
    bandwidth_share: float = 0.0
    colocated: Colocated | None = None
    """Prompts in the steps of a colocated pool."""

    def wait_moments(self) -> tuple[float, float]:
        """Mean and variance (s, s²) of a prompt's wait."""
        if self.colocated is not None:
            return self.colocated.wait_moments()
        # Takács' second moment of those that wait, an exponential one's at the least.
        waiting = max(float(wait_probability(self.busy, self.servers)), 1e-12)
        ratio = max(2.0, 2.0 * self.busy + (4.0 / 3.0) * (1.0 - self.busy) * self.skew)
        return self.wait_s, ratio * self.wait_s**2 / waiting - self.wait_s**2


class _Bytes:
    """Mean and variance of the bytes in a replica: each call holds some for a time (M/G/∞)."""

    def __init__(self) -> None:
        self.mean = 0.0
        self.variance = 0.0

    def hold(self, rate: float, weight: Array, seconds: Array | float, size: Array) -> None:
        """Calls arrive at `rate` and hold `size` [J] bytes for `seconds` [J]."""
        self.mean += rate * float(weight @ (seconds * size))
        self.variance += rate * float(weight @ (seconds * size**2))

    def percentile(self, level: float = PLANNING_PERCENTILE) -> float:
        """Bytes that are exceeded with a percentile's complement."""
        return self.mean + float(normal_quantile(level)) * float(np.sqrt(self.variance))


def operate_all(plan: Plan) -> dict[str, PoolState]:
    """States of all modelled pools, by name; those that answer first, since sessions may stay where prompts are."""
    states: dict[str, PoolState] = {}
    for name, pool in sorted(plan.modelled.items(), key=lambda item: item[1].entry.role == "prefill"):
        routes = plan.routes_of(pool)
        steps = {r.decode.entry.pool: states[r.decode.entry.pool].step_s for r in routes if r.decode is not pool}
        states[name] = operate(pool, routes, plan.instance.options, steps)
    return {name: states[name] for name in plan.modelled}


def operate(
    pool: ModelledPool, routes: list[ModelledRoute], options: Options, steps: Mapping[str, float] = _NO_STEPS
) -> PoolState:
    """State of a pool, given the mean `steps` of its routes' decode pools; infinite figures where it is overloaded."""
    if not routes:
        return PoolState()
    if pool.split is not None:
        return _split_steps(pool, pool.split, routes, options)
    if pool.entry.role == "prefill":
        return _queue(pool, routes, options, steps)
    return _steps(pool, routes, options)


def _steps(pool: ModelledPool, routes: list[ModelledRoute], options: Options) -> PoolState:
    """Decode and colocated pools."""
    table, role, chunk = pool.table, pool.entry.role, float(pool.entry.prefill_chunk or 0)
    tokens = attention = flops = reads = arriving = leaving = 0.0
    for route in routes:
        calls, rate = route.calls, route.calls.rate / pool.entry.replicas
        points = calls.population
        stay, middle = points.weight * _steps_of(pool, route), points.context + points.output / 2.0
        tokens += rate * float(stay.sum())
        attention += rate * float(decode_attention_seconds(table, middle)[0] @ stay)
        flops += rate * float(decode_flops(table, middle)[0] @ stay)
        reads += rate * float(kv_read_bytes(table, middle)[0] @ stay)
        prompts = calls.prompts()
        if role == "colocated":
            flops += rate * prompts.mean(prefill_flops(table, prompts.new, prompts.cached)[0])
        bytes_ = moved(route, prompts)
        arriving += rate * prompts.mean(bytes_.into_prefill if role == "colocated" else bytes_.into_decode)
        leaving += rate * prompts.mean(bytes_.out_of_decode)
    overloaded = PoolState(np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, 1, np.inf, np.inf, np.inf)
    shared = None
    if role == "colocated":
        shared = colocated(pool, routes, fixed_point, reload_seconds)
        if shared is None:
            return overloaded
        t, batch, deviation = shared.step_s, shared.batch, float(np.sqrt(max(shared.others, 0.0)))
    else:

        own = attention / tokens if tokens > 0 else 0.0

        def step(seconds: Array) -> Array:
            seen = _seen(pool, routes, tokens * seconds)
            return np.asarray(decode_step_seconds(table, seen)[0] + own * seen)

        t = fixed_point(step, float(decode_step_seconds(table, np.ones(1))[0, 0]) + own)
        if not np.isfinite(t):
            return overloaded
        batch, deviation = tokens * t, _step_deviation(pool, routes, t, tokens * t)
    held = _Bytes()
    for route in routes:
        calls, rate = route.calls, route.calls.rate / pool.entry.replicas
        points, prompts = calls.population, calls.prompts()
        end = session_bytes(pool, calls, points.context + points.output)
        decoding = t * _steps_of(pool, route) if shared is None else shared.decoding(route)
        held.hold(rate, points.weight, decoding + calls.held_by(role), end)
        if shared is not None:
            prefilling = np.ceil(prompts.new / chunk) * shared.full_step_s
            held.hold(rate, prompts.weight, prefilling, session_bytes(pool, calls, prompts.context))
    return PoolState(
        step_s=t,
        step_sd_s=deviation,
        batch=batch,
        full_step_s=0.0 if shared is None else shared.full_step_s,
        busy=0.0 if shared is None else shared.busy,
        wait_s=0.0 if shared is None else float(shared.shared.wait[0]),
        memory_share=held.percentile() / _room(pool, routes, options),
        fullest_share=held.percentile(_FULLEST) / _room(pool, routes, options),
        slots_share=batch / float(poisson_mean_within(rank_sequences(table, options.max_sequences)[0]) * table.dp[0]),
        link_share=_over(max(arriving, leaving), float(link_bytes_per_s(table)[0])),
        compute_share=flops / _peak_flops(pool),
        bandwidth_share=float(bandwidth_share(table, *(np.array([x]) for x in (max(batch, 1.0), t, reads)))[0]),
        colocated=shared,
    )


def _steps_of(pool: ModelledPool, route: ModelledRoute) -> Array:
    """[P] mean steps of a route's answers: fewer than their tokens where a step emits several."""
    return np.asarray(route.calls.population.output / accepted(pool.table, route.calls).tokens)


def _split_steps(
    pool: ModelledPool, split: SplitTable, routes: list[ModelledRoute], options: Options
) -> PoolState:
    """Split-decode pools: the slowest of attention half, feed-forward half and the chain through both."""
    load = SplitLoad.of(split, routes, pool.entry.replicas)
    t = fixed_point(load.steps, float(load.steps(np.zeros(1))[0]))
    if not np.isfinite(t):
        return PoolState(np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, 1, np.inf, np.inf, np.inf)
    batch = load.tokens * t
    arriving = leaving = 0.0
    held = _Bytes()
    for route in routes:
        calls, rate = route.calls, route.calls.rate / pool.entry.replicas
        points, prompts = calls.population, calls.prompts()
        end = session_bytes(pool, calls, points.context + points.output)
        held.hold(rate, points.weight, t * points.output + calls.held_by("decode"), end)
        bytes_ = moved(route, prompts)
        arriving += rate * prompts.mean(bytes_.into_decode)
        leaving += rate * prompts.mean(bytes_.out_of_decode)
    room = _room(pool, routes, options) * float(split.groups[0])
    network = max(arriving, leaving) + load.tokens * float(activation_bytes(split)[0])
    return PoolState(
        step_s=t,
        step_sd_s=load.deviation(t),
        batch=batch,
        memory_share=held.percentile() / room,
        fullest_share=held.percentile(_FULLEST) / room,
        slots_share=batch / float(poisson_mean_within(rank_sequences(split.attention, options.max_sequences)[0])),
        link_share=_over(network, pool.link_bytes_per_s),
        compute_share=load.flops / split_peaks(split)[0],
        bandwidth_share=(load.weight_bytes(batch) / t + load.reads) / split_peaks(split)[1],
    )


def _seen(pool: ModelledPool, routes: list[ModelledRoute], batch: Array) -> Array:
    """Sequences in a call's steps: those that are there and itself; no more than there are where routing evens them."""
    even = pool.entry.replicas >= _EVEN_REPLICAS and not any(route.calls.policy == "decode" for route in routes)
    return np.maximum(batch, 1.0) if even else batch + 1.0


def _step_deviation(pool: ModelledPool, routes: list[ModelledRoute], t: float, batch: float) -> float:
    """Standard deviation of the step: Poisson arrivals, each adding slope + r for its stay.

    A larger batch has longer steps, which make it larger still: with a step that grows by g percent for one percent of
    the batch, its variance is 1/(1 − g) times its mean, as of a shared processor. Calls that go to the emptiest of n
    replicas swing together, and less than Poisson calls do only where there are fewer than one a replica.
    """
    seen, more = float(_seen(pool, routes, np.array(batch))), max(float(np.sqrt(batch)), 1e-6)
    both = decode_step_seconds(pool.table, np.array([seen, seen + more]))[0]
    slope = float(both[1] - both[0]) / more
    parts = []
    growth = batch * slope / t
    for route in routes:
        points = route.calls.population
        stay = points.weight * _steps_of(pool, route) * route.calls.rate / pool.entry.replicas
        r = decode_attention_seconds(pool.table, points.context + points.output / 2.0)[0]
        growth += float(stay @ r)
        parts.append((route.calls.policy == "decode", t * float(stay @ (slope + r) ** 2)))
    swing = 1.0 / (1.0 - min(growth, _HIGHEST_GROWTH))
    even = max(swing / pool.entry.replicas, min(batch, 1.0) if pool.entry.replicas >= _EVEN_REPLICAS else 1.0)
    return float(np.sqrt(sum(own * (swing if stays else even) for stays, own in parts)))


def _queue(
    pool: ModelledPool, routes: list[ModelledRoute], options: Options, steps: Mapping[str, float]
) -> PoolState:
    """Prefill pools."""
    table, replicas = pool.table, pool.entry.replicas
    busy = second = third = flops = arriving = leaving = 0.0
    held = _Bytes()
    for route in routes:
        calls, prompts = route.calls, route.calls.prompts()
        rate = calls.rate / replicas
        service = prefill_occupancy_seconds(table, prompts.new, prompts.cached)[0]
        busy += rate * prompts.mean(service)
        second += rate * prompts.mean(service**2)
        third += rate * prompts.mean(service**3)
        flops += rate * prompts.mean(prefill_flops(table, prompts.new, prompts.cached)[0])
        bytes_ = moved(route, prompts)
        arriving += rate * prompts.mean(bytes_.into_prefill)
        leaving += rate * prompts.mean(bytes_.send)
        present = prefill_seconds(table, prompts.new, prompts.cached)[0] + transfer_seconds(route, prompts)
        if calls.policy == "prefill":  # the prompt's KV stays while the decode side answers
            each = steps[route.decode.entry.pool] / accepted(route.decode.table, calls).tokens
            present = present + prompts.output * each
        held.hold(rate, prompts.weight, present, session_bytes(pool, calls, prompts.context))
        end = session_bytes(pool, calls, prompts.context + prompts.output)
        held.hold(rate, prompts.weight, calls.held_by("prefill"), end)
    # Sessions that stay with a replica go back to it: no other one can take their prompts.
    servers = 1 if any(route.calls.policy == "prefill" for route in routes) else replicas
    return PoolState(
        busy=busy,
        wait_s=float(mean_wait(busy * servers, second * servers, servers)),
        skew=busy * third / max(second**2, 1e-300),
        servers=servers,
        memory_share=held.percentile() / _room(pool, routes, options),
        fullest_share=held.percentile(_FULLEST) / _room(pool, routes, options),
        link_share=_over(max(arriving, leaving), float(link_bytes_per_s(table)[0])),
        compute_share=flops / _peak_flops(pool),
    )


def fixed_point(step: Callable[[Array], Array], least: float) -> float:
    """Smallest t ≥ `least` with step(t) = t for a function that rises with t; inf where it stays above t.

    The first crossing on a grid of 400 points, then on ever finer ones inside the interval that holds it.
    """
    grid = np.geomspace(least * (1.0 - 1e-9), _LONGEST_STEP_S, 4 * _GRID)
    for _ in range(6):
        reached = np.flatnonzero(step(grid) <= grid)
        if not len(reached):
            return float("inf")
        first = max(int(reached[0]), 1)
        low, high = grid[first - 1], grid[first]
        if high - low <= 1e-13 * high:
            break
        grid = np.linspace(low, high, _GRID)
    return float(high)


def ttft_parts(route: ModelledRoute, prefill: PoolState, decode: PoolState) -> tuple[Array, Array]:
    """(weight [J], seconds [J]) of a call's time to first token beside its wait in the queue.

    The decode side ends the step that runs, of which half is left on average, and then the call's own.
    """
    prompts = route.calls.prompts()
    start = stack_seconds(route)
    if prefill.colocated is not None:
        weight, seconds = prefill.colocated.prefilling(route)
        return weight, start + seconds + reload_seconds(route)
    alone = prefill_seconds(route.prefill.table, prompts.new, prompts.cached)[0]
    return prompts.weight, np.asarray(start + alone + transfer_seconds(route, prompts) + (0.5 + 1.0) * decode.step_s)


def stack_seconds(route: ModelledRoute) -> float:
    """What the serving stack adds to each TTFT of a route, whatever its prompt and the load."""
    return float(first_token_seconds(route.prefill.table)[0])


def reload_seconds(route: ModelledRoute) -> Array:
    """[J] seconds in which a colocated route's prompts get their history from a tier; 0 where there is none."""
    prompts = route.calls.prompts()
    return transfer_seconds(route, prompts) if route.tier is not None else np.zeros_like(prompts.weight)


def _room(pool: ModelledPool, routes: list[ModelledRoute], options: Options) -> float:
    """Bytes of a replica for sessions: what weights leave, less each task's shared prefix, once per group."""
    memory = EngineMemory.of(options, pool.table, pool.entry.role, pool.entry.prefill_chunk)
    room = float(kv_capacity_bytes(pool.table, memory)[0])
    for tokens in {r.calls.task.name: r.calls.shared for r in routes if r.calls.rate > 0}.values():
        if tokens > 0:
            room -= float(pool.table.dp[0]) * float(kv_bytes(pool.table, np.array([tokens]))[0, 0])
    return max(room, 1.0)


def _peak_flops(pool: ModelledPool) -> float:
    table = pool.table
    return float(table.part_accelerators.peak[0, table.activations[0]]) * pool.replica_accelerators


def _over(use: float, offer: float) -> float:
    if offer > 0:
        return use / offer
    return np.inf if use > 0 else 0.0
