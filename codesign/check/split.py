"""Split-decode pools anew: what their sequences add to each of the three curves, and their power (DESIGN 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codesign.check.calls import Array
from codesign.performance import (
    decode_attention_seconds,
    decode_flops,
    decode_weight_bytes,
    kv_read_bytes,
)
from codesign.performance.energy import base_power_w, joules_per_byte, joules_per_flop
from codesign.performance.split import SplitTable, split_step_seconds

if TYPE_CHECKING:
    from codesign.check.plan import ModelledRoute

_LINE_BATCHES = (32.0, 128.0)
_WEIGHTS_BATCH = 64.0


@dataclass(frozen=True, eq=False)
class SplitLoad:
    """What a replica's calls ask of it, per second."""

    split: SplitTable
    tokens: float
    attention: float
    """Seconds that sequences add to a step of their attention instance, for each second of step time."""
    flops: float
    reads: float
    stays: tuple[tuple[float, Array, Array], ...]
    """By route: calls/s, [Q] tokens' weight, [Q] seconds that a sequence adds to a step."""

    @staticmethod
    def of(split: SplitTable, routes: list[ModelledRoute], replicas: int) -> SplitLoad:
        """The load of one of `replicas`."""
        tokens = attention = flops = reads = 0.0
        stays = []
        for route in routes:
            points, rate = route.calls.population, route.calls.rate / replicas
            stay, middle = points.weight * points.output, points.context + points.output / 2.0
            each = decode_attention_seconds(split.attention, middle)[0] / float(split.groups[0])
            tokens += rate * float(stay.sum())
            attention += rate * float(each @ stay)
            halves = (split.attention, split.feed_forward)
            flops += rate * sum(float(decode_flops(half, middle)[0] @ stay) for half in halves)
            reads += rate * float(kv_read_bytes(split.attention, middle)[0] @ stay)
            stays.append((rate, stay, each))
        return SplitLoad(split, tokens, attention, flops, reads, tuple(stays))

    def steps(self, seconds: Array) -> Array:
        """[J] the step that follows from sequences that stay for steps of `seconds` [J]."""
        own, forward, chain = (
            curve[0] for curve in split_step_seconds(self.split, self.tokens * np.asarray(seconds))
        )
        added = self.attention * np.asarray(seconds)
        slowest = np.maximum(own + added, forward)
        return np.asarray(np.maximum(slowest, chain + added / float(self.split.microbatches[0])))

    def deviation(self, t: float) -> float:
        """Standard deviation of the step: Poisson arrivals, each adding the steepest slope and its own r."""
        batch = self.tokens * t
        more = batch * 0.01 + 0.01
        both = split_step_seconds(self.split, np.array([batch, batch + more]))
        slope = max(float(curve[0, 1] - curve[0, 0]) for curve in both) / more
        return float(np.sqrt(sum(t * rate * float(stay @ (slope + r) ** 2) for rate, stay, r in self.stays)))

    def weight_bytes(self, batch: float) -> float:
        """Weights streamed in one step by both halves, once for each microbatch."""
        return _weight_bytes(self.split, batch, 1.0, 1.0)


def _weight_bytes(split: SplitTable, batch: float, attention: float, forward: float) -> float:
    """Bytes of weights in one step, those of each half times a factor."""
    m, n = float(split.microbatches[0]), float(split.groups[0])
    own = decode_weight_bytes(split.attention, np.array([max(batch / (m * n), 1.0)]))[0, 0]
    other = decode_weight_bytes(split.feed_forward, np.array([max(batch / m, 1.0)]))[0, 0]
    return m * (n * attention * float(own) + forward * float(other))


def split_peaks(split: SplitTable) -> tuple[float, float]:
    """FLOP/s and byte/s of a replica, both halves."""
    flops = bandwidth = 0.0
    sides = ((split.attention, split.attention_accelerators), (split.feed_forward, split.feed_forward_accelerators))
    for half, count in sides:
        flops += float(count[0]) * float(half.part_accelerators.running_peak[0, half.activations[0]])
        bandwidth += float(count[0]) * float(half.part_accelerators.bandwidth[0])
    return flops, bandwidth


def split_power(split: SplitTable) -> tuple[float, Callable[[ModelledRoute], float]]:
    """Watts of a replica that steps without pause, and joules of a route's call beyond them."""
    batches = np.array(_LINE_BATCHES)
    low, high = np.max(np.stack(split_step_seconds(split, batches)), axis=0)[0].tolist()
    slope = max((high - low) / (_LINE_BATCHES[1] - _LINE_BATCHES[0]), 0.0)
    intercept = max(low - _LINE_BATCHES[0] * slope, 1e-6)
    halves, counts = (split.attention, split.feed_forward), (float(split.groups[0]), 1.0)
    energies = [float(joules_per_byte(half)[0]) for half in halves]
    weights_j = _weight_bytes(split, _WEIGHTS_BATCH, *energies)
    most = base = 0.0
    for half, count, energy in zip(halves, counts, energies, strict=True):
        accelerators = count * float(half.replica_accelerators[0])
        most += energy * float(half.part_accelerators.bandwidth[0]) * accelerators
        base += float(base_power_w(half)[0]) * count

    def per_call(route: ModelledRoute) -> float:
        points = route.calls.population
        middle, stay = points.context + points.output / 2.0, points.weight * points.output
        token = kv_read_bytes(halves[0], middle)[0] * energies[0]
        token = token + decode_flops(halves[0], middle)[0] * float(joules_per_flop(halves[0])[0])
        token = token + decode_flops(halves[1], np.zeros(1))[0, 0] * float(joules_per_flop(halves[1])[0])
        slowed = slope + decode_attention_seconds(halves[0], middle)[0] / counts[0]
        return float(stay @ (token - weights_j / intercept * slowed))

    return base + min(weights_j / intercept, most), per_call
