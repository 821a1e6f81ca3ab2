"""What the builders of decode, prefill and colocated columns share: the instance as numbers, once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codesign.candidates.configurations import Configurations
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints
from codesign.candidates.flows import CallFlow, FlowBook
from codesign.candidates.grids import Grids
from codesign.candidates.kept import flow_traffic
from codesign.candidates.lengths import TaskCalls
from codesign.candidates.moments import DecodeMoments, PromptMoments, decode_moments, prompt_moments
from codesign.candidates.step import is_convex
from codesign.performance import (
    ConfigurationTable,
    EngineMemory,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
    link_bytes_per_s,
    rank_sequences,
)
from codesign.performance.energy import base_power_w, joules_per_byte, weight_joules, working_power_w
from codesign.performance.queueing import PLANNING_PERCENTILE, normal_quantile, poisson_mean_within
from codesign.problem.instance import Instance

ROLES = ("prefill", "decode", "colocated")
Z = float(normal_quantile(PLANNING_PERCENTILE))
MEMORY_Z = float(normal_quantile(0.99))
"""Deviations above the mean for which pools have memory: calls that find none wait, and no account of a promise counts
on one that does; at the planning percentile they would be as many as may break it."""


@dataclass(frozen=True)
class OperatingPoints:
    """[K] of a block: what each column's operating point is, for reports and checks."""

    role: str
    configuration: Ints
    """Index into the instance's configurations."""
    step_limit_s: Floats
    """τ, the step time at the planning percentile (nan for prefill)."""
    utilization: Floats
    """ρ of the prefill queue (nan for decode)."""
    wait_s: Floats
    """Mean wait of the prefill queue by design."""
    chunk: Floats
    """New prompt tokens of a colocated step (nan elsewhere)."""

    def take(self, rows: Ints) -> OperatingPoints:
        """The same restricted to some columns."""
        return OperatingPoints(
            self.role,
            self.configuration[rows],
            self.step_limit_s[rows],
            self.utilization[rows],
            self.wait_s[rows],
            self.chunk[rows],
        )


def joined(
    items: list[tuple[ColumnBlock, OperatingPoints]],
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """Blocks over the same configurations as one; none of none."""
    items = [item for item in items if len(item[0])]
    if not items:
        return []
    points = [point for _, point in items]
    names = ("configuration", "step_limit_s", "utilization", "wait_s", "chunk")
    columns = {name: np.concatenate([getattr(point, name) for point in points]) for name in names}
    return [(ColumnBlock.joined([block for block, _ in items]), OperatingPoints(points[0].role, **columns))]


_FEW = 300
"""Configurations times tasks up to which mixes of calls are looked at closely: with more, it would take too long."""


@dataclass(frozen=True)
class Slice:
    """The configurations of one (model, KV precision, vendor), with the flows that they may carry."""

    instance: Instance
    grids: Grids
    book: FlowBook
    configurations: Configurations
    index: Ints
    """[K] of the slice's configurations."""
    first_group: int
    """Number of the first group of modelled hardware; groups follow by role, then configuration."""
    bounded: bool = False
    """Are columns asked for that bound beside those that plans are made of?"""
    role: str = "decode"
    """Of the pools that are asked for: memory is shared out by what their steps hold."""
    chunk: Floats | None = None
    """[K] prompt tokens that share a step of a colocated pool; None: as few as there are."""

    def group(self, role: str, configuration: Ints) -> Ints:
        """[K] group numbers of a role on configurations."""
        return self.first_group + ROLES.index(role) * len(self.configurations) + configuration

    @property
    def closely(self) -> bool:
        """Are the problem's configurations and tasks few enough for a closer look at mixes of calls?"""
        return len(self.configurations) * len(self.instance.tasks) <= _FEW

    @cached_property
    def table(self) -> ConfigurationTable:
        """Their performance table."""
        return self.configurations.table.take(self.index)

    @cached_property
    def base_power_w(self) -> Floats:
        """[K] of a replica that works, with the network that it was bought with."""
        return base_power_w(self.table) + self.network_power_w

    @cached_property
    def idle_power_w(self) -> Floats:
        """[K] of a replica that waits, with the network that it was bought with."""
        return base_power_w(self.table) - working_power_w(self.table) + self.network_power_w

    @cached_property
    def network_power_w(self) -> Floats:
        """[K] of the network that a replica was bought with."""
        network = [option.link.power_w if option.link else 0.0 for option in self.instance.hardware]
        extra = np.array(network)[self.configurations.hardware[self.index]]
        return np.asarray(extra * self.table.replica_accelerators)

    @cached_property
    def convex(self) -> np.ndarray:
        """[K] is the step convex in the batch?"""
        return is_convex(self.table)

    @cached_property
    def link(self) -> Floats:
        """[K] byte/s of a replica, each way."""
        return link_bytes_per_s(self.table)

    @cached_property
    def slots(self) -> Floats:
        """[K] largest mean of active sequences whose percentile fits the engine's maximum of a data-parallel rank."""
        return poisson_mean_within(rank_sequences(self.table, self.instance.options.max_sequences))

    @cached_property
    def room(self) -> Floats:
        """[K] bytes for KV: what weights and the largest step leave."""
        chunk = min(self.grids.chunks) if self.chunk is None else self.chunk
        memory = EngineMemory.of(self.instance.options, self.table, self.role, chunk)
        return np.maximum(kv_capacity_bytes(self.table, memory), 0.0)

    def hold(self, flow: CallFlow) -> Bools:
        """[K] has an attention group room for a flow's longest call, alone? Engines refuse what does not fit."""
        longest = np.array([flow.longest_tokens])
        return np.asarray(kv_bytes(self.table, longest)[:, 0] * self.table.dp <= self.room)

    def prefix_bytes(self, tokens: float) -> Floats:
        """[K] bytes that a prefix of so many tokens takes of a replica: once in each attention group."""
        return np.asarray(kv_bytes(self.table, np.array([tokens]))[:, 0] * self.table.dp.astype(np.float64))

    @cached_property
    def stepping(self) -> tuple[Floats, Floats, Floats]:
        """[K] each: intercept and slope (seconds) of the step's line for energy, and J of weights per step."""
        batches = np.array([32.0, 128.0])
        step = decode_step_seconds(self.table, batches)
        slope = np.maximum(np.diff(step, axis=1)[:, 0] / 96.0, 0.0)
        intercept = np.maximum(step[:, 0] - 32.0 * slope, 1e-6)
        return intercept, slope, weight_joules(self.table, np.array([64.0]))[:, 0]


class MomentBook:
    """Moments of every task variant on a slice's configurations, built once."""

    def __init__(self, part: Slice) -> None:
        self.part = part
        self._decode: dict[tuple[str, str], DecodeMoments] = {}
        self._prompt: dict[tuple[str, str, str, float], PromptMoments] = {}

    def decode(self, calls: TaskCalls) -> DecodeMoments:
        """Decode moments of a task variant."""
        key = (calls.task.name, calls.variant.name)
        if key not in self._decode:
            self._decode[key] = decode_moments(self.part.table, calls)
        return self._decode[key]

    def prompt(self, calls: TaskCalls, residency: str) -> PromptMoments:
        """Prompt moments of a task variant under a residency policy."""
        place = "tier:" if residency.startswith("tier:") else residency  # all tiers move the same bytes
        key = (calls.task.name, calls.variant.name, place, calls.ttl_s)
        if key not in self._prompt:
            self._prompt[key] = prompt_moments(self.part.table, calls, residency)
        return self._prompt[key]


def tier_joules(part: Slice, flow: CallFlow) -> float:
    """Joules per call of what a flow reads from its tier and writes there."""
    if flow.tier is None:
        return 0.0
    moved = flow_traffic(part.instance, flow).of_phase(flow.phase)
    return flow.tier.joules_per_byte * (moved.read + moved.written)


def decode_power(part: Slice, book: MomentBook, flow: CallFlow) -> Floats:
    """[K] joules per call of a decode phase: reads and FLOPs, less the weight streaming that it slows down.

    With step time a + Σ b·(β + r) the engine makes (1 − Σ y·(β + r))/a steps a second at a token rate y, so
    the energy at the fixed point of that line is linear in the flows.
    """
    intercept, slope, weights_j = part.stepping
    moments = book.decode(flow.calls)
    return moments.read_j - weights_j / intercept * (slope * moments.steps + moments.attention)


def decode_constant_power(part: Slice) -> Floats:
    """[K] watts of a replica that steps without pause: base, and its weights streamed each step."""
    intercept, _, weights_j = part.stepping
    accelerators = part.table.replica_accelerators
    bandwidth = part.table.part_accelerators.weight_bandwidth[part.table.accelerator]
    full = joules_per_byte(part.table) * bandwidth * accelerators
    return part.base_power_w + np.minimum(weights_j / intercept, full)
