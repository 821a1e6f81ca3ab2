"""Split-decode columns: attention on one kind of accelerator, feed-forward layers on another (DESIGN 3.4).

Off unless the file says `options.split_decode: decide`: every pair of parts of a vendor makes columns.  Both
halves run at the same precisions and hand activations to each other over the scale-out network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.configurations import Places, engines
from codesign.candidates.context import OperatingPoints, Z
from codesign.candidates.data import ColumnBlock, Floats, Group, Ints, RowUse
from codesign.candidates.flows import CallFlow, FlowBook
from codesign.candidates.grids import Grids
from codesign.candidates.kept import flow_traffic
from codesign.candidates.moments import DecodeMoments, decode_moments, prompt_moments
from codesign.candidates.prefixes import Memory, by_prefixes
from codesign.candidates.step import Chords, chords
from codesign.candidates.step_points import StepPoints, longest_step
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    decode_flops,
    decode_weight_bytes,
    kv_bytes,
    precision_supported,
    rank_sequences,
    shape_valid,
)
from codesign.performance.energy import base_power_w, joules_per_byte, joules_per_flop
from codesign.performance.queueing import poisson_mean_within
from codesign.performance.split import (
    SplitTable,
    activation_bytes,
    attention_half,
    feed_forward_half,
    split_kv_capacity_bytes,
    split_link_bytes_per_s,
    split_step_seconds,
)
from codesign.problem.instance import HardwareOption, Instance, Model

ROLE = "split-decode"
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MICROBATCHES = (1, 2, 3)
_KNOTS = (1.0, 16.0, 128.0, 1024.0)
"""Batches between which each of the three curves has a chord: fewer than whole replicas have, for three curves."""


@dataclass(frozen=True)
class SplitConfigurations:
    """[K] replicas in two halves, with where each half is bought."""

    table: SplitTable
    hardware: Ints
    """[K] index into instance.hardware of the attention half."""
    other_hardware: Ints
    model: Ints
    packing: Ints
    packed: Floats
    other_packing: Ints
    other_packed: Floats

    def __len__(self) -> int:
        return len(self.hardware)


def enumerate_splits(instance: Instance, places: list[Places]) -> SplitConfigurations | None:
    """All pairs of halves that the instance may buy; None where it asks for none."""
    if instance.options.split_decode == "never" or not instance.hardware or not instance.models:
        return None
    rows = [
        (h, f, m, *precision, tp, groups, *forward, batches)
        for h, first in enumerate(instance.hardware)
        for f, other in enumerate(instance.hardware)
        if _pair(first, other)
        for m, model in enumerate(instance.models)
        for tp, groups, *forward in _shapes(first, other, model, instance.options.max_replica_accelerators)
        for precision in ([PRECISIONS.index(p) for p in names] for names in model.precisions)
        for batches in _MICROBATCHES
    ]
    if not rows:
        return None
    hardware, other, model, weights, activations, kv, tp, groups, f_tp, f_ep, f_dp, batches = np.array(rows).T
    accelerators = [option.accelerator for option in instance.hardware]
    one = np.ones_like(tp)

    def half(cards: list[object], part: Ints, *shape: Ints) -> ConfigurationTable:
        return ConfigurationTable(
            accelerators,
            cards,  # type: ignore[arg-type]
            part,
            model,
            weights,
            activations,
            kv,
            *shape,
            engines=engines(instance),
            safety=instance.options.safety,
        )

    cards = [entry.card for entry in instance.models]
    table = SplitTable(
        half([attention_half(card) for card in cards], hardware, tp, one, one, one),
        half([feed_forward_half(card) for card in cards], other, f_tp, one, f_ep, f_dp),
        groups,
        batches,
    )
    options = instance.options
    fits = split_kv_capacity_bytes(table, options) > 0
    good = fits & (split_link_bytes_per_s(table) > 0)
    for side in (table.attention, table.feed_forward):
        good &= shape_valid(side) & precision_supported(side)
    keep = np.flatnonzero(good)
    if not len(keep):
        return None
    table = table.take(keep)
    first = [
        places[h].of(int(size)) for h, size in zip(hardware[keep], table.attention_accelerators, strict=True)
    ]
    second = [
        places[h].of(int(size)) for h, size in zip(other[keep], table.feed_forward_accelerators, strict=True)
    ]
    return SplitConfigurations(
        table,
        hardware[keep],
        other[keep],
        model[keep],
        np.array([p for p, _ in first]),
        np.array([n for _, n in first], dtype=np.float64),
        np.array([p for p, _ in second]),
        np.array([n for _, n in second], dtype=np.float64),
    )


def _pair(first: HardwareOption, other: HardwareOption) -> bool:
    """May these two stand in one replica: one vendor, both for decode, both paying for power alike?"""
    return (
        first.accelerator.vendor == other.accelerator.vendor
        and all("decode" in option.roles for option in (first, other))
        and first.includes_power == other.includes_power
    )


def _shapes(
    first: HardwareOption, other: HardwareOption, model: Model, most: int | None
) -> list[tuple[int, int, int, int, int]]:
    """(tp, attention instances, and tp, ep, dp of the feed-forward half) worth trying."""
    largest = most or _SIZES[-1] + _SIZES[-1]
    is_moe = model.card.experts > 0
    found = []
    for size in _SIZES:
        for tp in (t for t in _SIZES[:4] if t <= size):
            for forward in _SIZES:
                if size + forward <= largest and _whole(size, first) and _whole(forward, other):
                    found.append((tp, size // tp, *((1, forward, forward) if is_moe else (forward, 1, 1))))
    return found


def _whole(size: int, option: HardwareOption) -> bool:
    if option.unlinked:
        return size == 1
    return size <= option.server_accelerators or size % option.server_accelerators == 0


def split_groups(instance: Instance, splits: SplitConfigurations | None) -> list[Group]:
    """One group for each configuration, after those of whole replicas."""
    groups = []
    for k in range(len(splits) if splits else 0):
        assert splits is not None
        first, other = (instance.hardware[int(h[k])] for h in (splits.hardware, splits.other_hardware))
        table = splits.table
        precision = "-".join(
            PRECISIONS[int(p[k])]
            for p in (table.attention.weights, table.attention.activations, table.attention.kv)
        )
        shape = (
            f"tp{table.attention.tp[k]}x{table.groups[k]}+{int(splits.other_packed[k])}x{other.name}"
            f"m{table.microbatches[k]}"
        )
        lost = max(
            1,
            first.server_accelerators // int(splits.packed[k]),
            other.server_accelerators // int(splits.other_packed[k]),
        )
        name = f"{first.name}/{instance.models[int(splits.model[k])].name}/{precision}/{shape}/{ROLE}"
        groups.append(Group(name, int(splits.hardware[k]), lost, role=ROLE))
    return groups


def split_columns(
    instance: Instance, grids: Grids, book: FlowBook, splits: SplitConfigurations, first_group: int
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """Blocks of all split-decode columns: for each (model, KV format, vendor) and anchor of the step curve."""
    vendors = np.array([option.accelerator.vendor for option in instance.hardware])[splits.hardware]
    kv = splits.table.attention.kv
    keys = np.stack([splits.model.astype(str), kv.astype(str), vendors], axis=1)
    kinds, where = np.unique(keys, axis=0, return_inverse=True)
    found = []
    for number in range(len(kinds)):
        index = np.flatnonzero(where.ravel() == number)
        k = int(index[0])
        select = book.select("decode", int(splits.model[k]), PRECISIONS[int(kv[k])], str(vendors[k]))
        if select:
            part = _Part(instance, grids, [book.flows[f] for f in select], splits, index)
            for anchor in _KNOTS[:-1] if part.is_moe else _KNOTS[:1]:
                item = part.block(select, anchor, first_group)
                memory = Memory(index, part.capacity, part.prefix_bytes)
                found += [each for each in by_prefixes(item, part.flows, memory, grids.prefix_worth) if len(each[0])]
    return found


class _Part:
    """The split replicas of one (model, KV format, vendor) as numbers."""

    def __init__(
        self,
        instance: Instance,
        grids: Grids,
        flows: list[CallFlow],
        splits: SplitConfigurations,
        index: Ints,
    ) -> None:
        self.instance, self.grids, self.flows, self.splits, self.index = instance, grids, flows, splits, index
        self.table = splits.table.take(index)
        self.is_moe = instance.models[int(splits.model[index[0]])].card.experts > 0
        self.link = split_link_bytes_per_s(self.table)
        options = instance.options
        self.capacity = np.maximum(split_kv_capacity_bytes(self.table, options), 0.0)
        self.moments: dict[tuple[str, str], DecodeMoments] = {}

    def block(
        self, select: list[int], anchor: float, first_group: int
    ) -> tuple[ColumnBlock, OperatingPoints]:
        """Rows of one anchor: chords of the three curves, then those of any decode replica."""
        grids, table = self.grids, self.table
        curves = [
            chords(lambda b, which=which: split_step_seconds(table, b)[which], _KNOTS, anchor)  # type: ignore[misc]
            for which in range(3)
        ]
        fixed, scaled, power = self._use(curves)
        intercepts = np.concatenate([curve.intercept for curve in curves], axis=1)
        points = StepPoints.of(grids, self.flows, intercepts.max(axis=1))
        tau, step, memory = points.tau, points.step, points.memory
        lines = intercepts.shape[1]
        limit = np.zeros((*tau.shape, lines + 5))
        limit[:, :, :lines] = (tau * (1 - step))[:, :, None] - intercepts[:, None, :]
        limit[:, :, lines] = (tau * step / Z) ** 2
        most = rank_sequences(table.attention, self.instance.options.max_sequences)
        limit[:, :, lines + 1] = poisson_mean_within(most)[:, None]
        limit[:, :, lines + 2] = self.capacity[:, None] * (1 - memory)[None, :]
        limit[:, :, lines + 3] = (self.capacity[:, None] * memory[None, :] / Z) ** 2
        limit[:, :, lines + 4] = self.link[:, None]
        longest = np.array([[longest_step(flow, s) for flow in self.flows] for s in step])
        fabric = np.array([flow.fabric_bytes_per_s for flow in self.flows])
        tokens = np.array([flow.longest_tokens for flow in self.flows])
        held = kv_bytes(table.attention, tokens) <= (self.capacity / table.groups)[:, None]
        admissible = (tau[:, :, None] <= longest * (1 + 1e-12)) & (self.link[:, None, None] >= fabric) & held[:, None]
        keep_k, keep_p = np.nonzero(np.all(limit > 0, axis=2) & admissible.any(axis=2))
        where = self.index[keep_k]
        splits = self.splits
        names = [f"{half}{i}" for half, curve in zip(("attention", "feed-forward", "chain"), curves, strict=True)
                 for i in range(curve.slope.shape[1])]  # fmt: skip
        block = ColumnBlock(
            flows=np.array(select, dtype=np.int64),
            row_names=(*names, "spread", "slots", "capacity", "capacity spread", "link"),
            use=RowUse(fixed, scaled, np.ones(lines + 5), keep_k, tau[keep_k, keep_p]),
            limit=limit[keep_k, keep_p],
            admissible=admissible[keep_k, keep_p],
            flow_power_w=power,
            replica_power_w=(self.stepping[2] + self._network_power_w())[keep_k],
            packing=splits.packing[where],
            packed=splits.packed[where],
            group=first_group + where,
            min_replicas=np.ones(len(where), dtype=np.int64),
            other_packing=splits.other_packing[where],
            other_packed=splits.other_packed[where],
        )
        nothing = np.full(len(where), np.nan)
        return block, OperatingPoints(ROLE, where, tau[keep_k, keep_p], nothing, nothing, nothing)

    def prefix_bytes(self, tokens: float) -> Floats:
        """[K] bytes that a prefix of so many tokens takes of a replica: once in each attention instance."""
        return np.asarray(kv_bytes(self.table.attention, np.array([tokens]))[:, 0] * self.table.groups)

    def _network_power_w(self) -> Floats:
        """[K] watts of the networks that a replica's accelerators were bought with."""
        each = np.array([option.link.power_w if option.link else 0.0 for option in self.instance.hardware])
        first, other = self.splits.hardware[self.index], self.splits.other_hardware[self.index]
        table = self.table
        return np.asarray(
            each[first] * table.attention_accelerators + each[other] * table.feed_forward_accelerators
        )

    def _use(self, curves: list[Chords]) -> tuple[Floats, Floats, Floats]:
        """[K, R, V] fixed and scaled use of the rows, and [K, V] joules per call."""
        table, count = self.table, len(self.table)
        widths = [curve.slope.shape[1] for curve in curves]
        lines = sum(widths)
        fixed, scaled = np.zeros((2, count, lines + 5, len(self.flows)))
        power = np.zeros((count, len(self.flows)))
        steepest = np.stack([curve.slope.max(axis=1) for curve in curves]).max(axis=0)
        n, m = table.groups.astype(np.float64), table.microbatches.astype(np.float64)
        sent = activation_bytes(table)
        for v, flow in enumerate(self.flows):
            moments = self._moments(flow)
            attention = moments.attention / n
            shares = np.concatenate(
                [
                    np.repeat(attention[:, None], widths[0], axis=1),
                    np.zeros((count, widths[1])),
                    np.repeat((attention / m)[:, None], widths[2], axis=1),
                ],
                axis=1,
            )
            slopes = np.concatenate([curve.slope for curve in curves], axis=1)
            scaled[:, :lines, v] = slopes * moments.steps + shares
            scaled[:, lines, v] = (
                moments.steps * steepest**2
                + 2 * steepest * attention
                + moments.attention_square / n**2
            )
            scaled[:, lines + 1, v] = moments.steps
            scaled[:, lines + 2, v] = moments.bytes_steps
            scaled[:, lines + 3, v] = moments.square_steps
            held = flow.calls.held_s if flow.residency == "decode" else 0.0
            fixed[:, lines + 2, v] = moments.bytes_after * held
            fixed[:, lines + 3, v] = moments.square_after * held
            prompt = prompt_moments(table.attention, flow.calls, flow.residency)
            moved = np.maximum(prompt.decode_arriving, prompt.decode_leaving)
            fixed[:, lines + 4, v] = moved + moments.steps * sent
            power[:, v] = self._joules(flow, moments)
        return fixed, scaled, power

    def _moments(self, flow: CallFlow) -> DecodeMoments:
        key = (flow.calls.task.name, flow.calls.variant.name)
        if key not in self.moments:
            self.moments[key] = decode_moments(self.table.attention, flow.calls)
        return self.moments[key]

    @property
    def stepping(self) -> tuple[Floats, Floats, Floats]:
        """[K] each: joules of weights per second of a step's fixed part, its slope, and watts of a replica.

        The line through the steps of 32 and 128 sequences, as for whole replicas.
        """
        return split_power_line(self.table)

    def _joules(self, flow: CallFlow, moments: DecodeMoments) -> Floats:
        """[K] joules per call: reads and FLOPs, less the weight streaming that the call slows down."""
        per_second, slope, _ = self.stepping
        other = self.table.feed_forward
        forward = decode_flops(other, np.zeros(1))[:, 0] * joules_per_flop(other) * moments.steps
        slowed = slope * moments.steps + moments.attention / self.table.groups
        joules = moments.read_j + forward - per_second * slowed
        if flow.tier is not None:
            tier = flow_traffic(self.instance, flow).of_phase("decode")
            joules = joules + flow.tier.joules_per_byte * (tier.read + tier.written)
        return np.asarray(joules)


def split_power_line(table: SplitTable) -> tuple[Floats, Floats, Floats]:
    """[K] each: watts of streaming the weights without pause, slope of the step (s), watts of a replica."""
    batches = np.array([32.0, 128.0])
    step = np.max(np.stack(split_step_seconds(table, batches)), axis=0)
    slope = np.maximum(np.diff(step, axis=1)[:, 0] / 96.0, 0.0)
    intercept = np.maximum(step[:, 0] - 32.0 * slope, 1e-6)
    m, n = table.microbatches.astype(np.float64), table.groups.astype(np.float64)
    watts = np.zeros(len(table))
    most = np.zeros(len(table))
    base = np.zeros(len(table))
    for half, copies, each in (
        (table.attention, n, 64.0 / (m * n)),
        (table.feed_forward, np.ones_like(n), 64.0 / m),
    ):
        streamed = decode_weight_bytes(half, np.maximum(each, 1.0)[:, None])[:, 0] * joules_per_byte(half)
        watts += m * copies * streamed / intercept
        bandwidth = half.part_accelerators.bandwidth[half.accelerator]
        most += joules_per_byte(half) * bandwidth * half.replica_accelerators * copies
        base += base_power_w(half) * copies
    return watts, slope, base + np.minimum(watts, most)
