"""Mean IT power of each pool at its load (facts/performance_model.md 4, in the planner's linear form).

Pools that only prefill wait at idle power between prompts; those that decode are taken to step without pause.
"""

from __future__ import annotations

import numpy as np

from codesign.check.plan import MeasuredUse, ModelledPool, ModelledRoute
from codesign.check.split import split_power
from codesign.check.traffic import moved
from codesign.performance import (
    decode_attention_seconds,
    decode_flops,
    decode_step_seconds,
    kv_read_bytes,
    prefill_occupancy_seconds,
)
from codesign.performance.drafts import accepted
from codesign.performance.energy import (
    base_power_w,
    idle_power_w,
    joules_per_byte,
    joules_per_flop,
    kv_joules_per_byte,
    prefill_energy_j,
    weight_joules,
)

_LINE_BATCHES = (32.0, 128.0)
_WEIGHTS_BATCH = 64.0


def measured_power_w(pool: MeasuredUse) -> float:
    """Power of a measured pool, spares included: each replica draws what was measured."""
    return pool.source.power_w * (pool.entry.replicas + pool.entry.spares)


def modelled_power_w(pool: ModelledPool, routes: list[ModelledRoute]) -> float:
    """Power of a pool under its routes: a constant per replica (spares too), and joules per call."""
    if pool.split is not None:
        constant, per_call = split_power(pool.split)
        constant += network_power_w(pool)
        calls = sum(route.calls.rate * (per_call(route) + _tier_j(pool, route)) for route in routes)
        return constant * (pool.entry.replicas + pool.entry.spares) + calls
    line = None if pool.entry.role == "prefill" else _StepLine(pool)
    waiting = idle_power_w if line is None else base_power_w
    constant = float(waiting(pool.table)[0]) + network_power_w(pool)
    if line is not None:
        most = float(joules_per_byte(pool.table)[0] * pool.table.part_accelerators.weight_bandwidth[0])
        constant += min(line.weights_j / line.intercept, most * pool.replica_accelerators)
    calls = sum(route.calls.rate * (_call_j(pool, route, line) + _tier_j(pool, route)) for route in routes)
    return constant * (pool.entry.replicas + pool.entry.spares) + calls


def network_power_w(pool: ModelledPool) -> float:
    """Power of the networks that a replica's accelerators were bought with."""
    return sum(count * part.link.power_w for part, count in pool.places if part.link is not None)


def _tier_j(pool: ModelledPool, route: ModelledRoute) -> float:
    """Joules that a call's reads and writes of its memory tier take, on the pool that makes them."""
    if route.tier is None:
        return 0.0
    prompts = route.calls.prompts()
    bytes_ = moved(route, prompts)
    decoding = bytes_.fetch + bytes_.returned
    sides = {
        "prefill": bytes_.reload,
        "decode": decoding,
        "split-decode": decoding,
        "colocated": bytes_.reload + bytes_.returned,
    }
    return route.tier.joules_per_byte * prompts.mean(sides[pool.entry.role])


class _StepLine:
    """The step as intercept + slope·batch, and the joules of streaming the weights once."""

    def __init__(self, pool: ModelledPool) -> None:
        low, high = decode_step_seconds(pool.table, np.array(_LINE_BATCHES))[0].tolist()
        first, last = _LINE_BATCHES
        self.slope = max((high - low) / (last - first), 0.0)
        self.intercept = max(low - first * self.slope, 1e-6)
        self.weights_j = float(weight_joules(pool.table, np.array([_WEIGHTS_BATCH]))[0, 0])


def _call_j(pool: ModelledPool, route: ModelledRoute, line: _StepLine | None) -> float:
    """Joules of one call beyond the constant; sequences slow the steps down, which saves weight streaming."""
    table, points = pool.table, route.calls.population
    joules = 0.0
    if pool.entry.role in ("prefill", "colocated"):
        prompts = route.calls.prompts()
        joules += prompts.mean(prefill_energy_j(table, prompts.new, prompts.cached)[0])
    if line is None:  # it works while it computes prompts, and waits in between
        above = float(max(base_power_w(table)[0] - idle_power_w(table)[0], 0.0))
        joules += above * prompts.mean(prefill_occupancy_seconds(table, prompts.new, prompts.cached)[0])
    if line is not None:
        middle = points.context + points.output / 2.0
        stay = points.weight * points.output / accepted(table, route.calls).tokens
        per_token = kv_read_bytes(table, middle)[0] * kv_joules_per_byte(table)[0]
        per_token = per_token + decode_flops(table, middle)[0] * joules_per_flop(table)[0]
        slowed = line.slope + decode_attention_seconds(table, middle)[0]
        joules += float(stay @ (per_token - line.weights_j / line.intercept * slowed))
    return joules
