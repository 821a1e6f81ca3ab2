"""What the fleet optimiser decides over, as numbers: columns, flows, servers and limits.

A *column* is a deployment configuration at an operating point; everything in it is per replica.
A *flow* is one phase of one commodity on a column, in calls per second.  Nothing here knows YAML,
accelerators or models: The rest of `candidates/` fills these arrays; `optimize/` only does algebra on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Flow:
    """One phase of one commodity: what one call per second of it does to the shared rows."""

    name: str
    task: int
    """Index of the task whose calls these are."""
    serves: bool
    """Counts towards the task's demand (False: the other phase of the same call does)."""
    tasks_per_call: float
    """Tasks completed per call: 1/calls of the variant (shared demand rows count tasks)."""
    commodity: int | None
    """Index of the conservation row (None: one pool serves both phases)."""
    commodity_sign: int
    """+1 supplies the commodity's decode side, -1 consumes it (its prefill side), 0 without one."""


@dataclass(frozen=True)
class RowUse:
    """What flows consume of the rows of K columns, stored by S configurations and a level each.

    use[k] = fixed[source[k]] + scaled[source[k]]·level[k]^power  (power by row): the operating points of a
    configuration differ in their step limit alone, and 10^6 columns of 100 flows would not fit in memory.
    """

    fixed: Floats
    """[S, R, V]."""
    scaled: Floats
    """[S, R, V]."""
    power: Floats
    """[R] exponent of the level."""
    source: Ints
    """[K] index into S."""
    level: Floats
    """[K] the step limit in seconds; 1 where nothing scales."""

    @staticmethod
    def dense(use: Floats) -> RowUse:
        """Columns [K, R, V] that share nothing."""
        count, rows, _ = use.shape
        return RowUse(
            np.asarray(use, dtype=np.float64),
            np.zeros_like(use, dtype=np.float64),
            np.zeros(rows),
            np.arange(count),
            np.ones(count),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, R, V)."""
        return len(self.source), self.fixed.shape[1], self.fixed.shape[2]

    def of(self, columns: Ints | Bools | slice) -> Floats:
        """[n, R, V] of some columns."""
        source = self.source[columns]
        factor = self.level[columns][:, None] ** self.power[None, :]
        return np.asarray(self.fixed[source] + self.scaled[source] * factor[:, :, None])

    def one(self, column: int) -> Floats:
        """[R, V] of one column."""
        return np.asarray(self.of(slice(column, column + 1))[0])

    def take(self, columns: Ints | Bools) -> RowUse:
        """The same for some columns; configurations are shared, not copied."""
        return replace(self, source=self.source[columns], level=self.level[columns])


@dataclass(frozen=True)
class ColumnBlock:
    """Columns that offer the same flows through the same kinds of rows.

    Row r of column k reads  Σ_v use[k, r, v]·x_v ≤ limit[k, r]·n  with n replicas and x in calls/s.
    """

    flows: Ints
    """[V] indices into FleetData.flows."""
    row_names: tuple[str, ...]
    """[R] what each row limits: time, spread, slots, capacity, link, busy, wait, …"""
    use: RowUse
    """Consumption of the rows per call/s."""
    limit: Floats
    """[K, R] what one replica offers."""
    admissible: Bools
    """[K, V] may this flow run on this column under its SLOs."""
    flow_power_w: Floats
    """[S, V] watts per call/s (joules per call) on top of the replica's power, by `use.source`."""
    replica_power_w: Floats
    """[K] watts of a replica that serves nothing beyond its operating point's constant work."""
    packing: Ints
    """[K] index into FleetData.packings."""
    packed: Floats
    """[K] accelerator slots that a replica occupies in servers of its packing."""
    group: Ints
    """[K] index into FleetData.groups."""
    min_replicas: Ints
    """[K] least replicas for which the operating point's pooling holds."""

    def __len__(self) -> int:
        return int(self.limit.shape[0])

    def flow_power(self, columns: Ints | Bools | slice) -> Floats:
        """[n, V] watts per call/s of some columns' flows."""
        return np.asarray(self.flow_power_w[self.use.source[columns]])

    @staticmethod
    def joined(blocks: Sequence[ColumnBlock]) -> ColumnBlock:
        """One block of several over the same flows, rows and configurations (they share `use.fixed` …)."""
        first = blocks[0]
        use = replace(
            first.use,
            source=np.concatenate([b.use.source for b in blocks]),
            level=np.concatenate([b.use.level for b in blocks]),
        )
        return replace(
            first,
            use=use,
            limit=np.concatenate([b.limit for b in blocks]),
            admissible=np.concatenate([b.admissible for b in blocks]),
            replica_power_w=np.concatenate([b.replica_power_w for b in blocks]),
            packing=np.concatenate([b.packing for b in blocks]),
            packed=np.concatenate([b.packed for b in blocks]),
            group=np.concatenate([b.group for b in blocks]),
            min_replicas=np.concatenate([b.min_replicas for b in blocks]),
        )

    def take(self, rows: Ints | Bools) -> ColumnBlock:
        """The same block restricted to some columns."""
        return ColumnBlock(
            self.flows,
            self.row_names,
            self.use.take(rows),
            self.limit[rows],
            self.admissible[rows],
            self.flow_power_w,
            self.replica_power_w[rows],
            self.packing[rows],
            self.packed[rows],
            self.group[rows],
            self.min_replicas[rows],
        )


@dataclass(frozen=True)
class Offer:
    """One way to buy servers of one hardware."""

    name: str
    hardware: int
    usd_per_hour: float
    """Per server, all that the offer charges."""
    capital_usd: float
    """Per server, counted against a capital budget."""
    min_servers: int
    """Least purchase, if any is made at all."""


@dataclass(frozen=True)
class Hardware:
    """A kind of server that can be bought."""

    name: str
    accelerators: int
    """Accelerators per server."""
    peak_power_w: float
    """Provisioned IT power of one server, without PUE."""
    electricity_usd_per_wh: float
    """$ per watt-hour of average IT power at the meter (PUE included); 0 where the price covers it."""
    rack: int | None
    servers_per_rack: int
    vendor: str = ""


@dataclass(frozen=True)
class Packing:
    """Servers of one hardware set aside for replica sizes that divide one another."""

    hardware: int
    slots: int
    """Accelerator slots per server."""


@dataclass(frozen=True)
class Group:
    """Pools of equal accelerator, model, precision, parallelism and role."""

    name: str
    hardware: int
    replicas_lost_with_server: int
    """Replicas that stop when one server is lost."""


@dataclass(frozen=True)
class SideLimit:
    """A shared upper limit on what is bought or run, in the user's words or a branch of the search.

    Σ per_server·servers + Σ per_packing·servers set aside + Σ per_group·replicas + Σ per_watt·watts ≤ limit.
    """

    name: str
    unit: str
    limit: float
    per_server: dict[int, float] = field(default_factory=dict)
    """Coefficient by offer."""
    per_packing: dict[int, float] = field(default_factory=dict)
    """Coefficient by packing."""
    per_group: dict[int, float] = field(default_factory=dict)
    """Coefficient by group."""
    per_watt: dict[int, float] = field(default_factory=dict)
    """Coefficient by hardware, per watt of mean IT power."""

    @property
    def scale(self) -> float:
        """What the row is divided by: its limit, or its largest coefficient where the limit is zero."""
        coefficients = (*self.per_server.values(), *self.per_packing.values(), *self.per_group.values())
        return abs(self.limit) or max(map(abs, coefficients), default=1.0) or 1.0


@dataclass(frozen=True)
class FleetData:
    """A whole fleet problem as numbers.  The objective is linear in servers, watts and flows."""

    tasks: tuple[str, ...]
    demand: Floats
    """[C] tasks per second."""
    calls_bound: Floats
    """[F] the most calls per second that a flow can ever carry."""
    flows: tuple[Flow, ...]
    commodities: tuple[str, ...]
    blocks: tuple[ColumnBlock, ...]
    offers: tuple[Offer, ...]
    hardware: tuple[Hardware, ...]
    packings: tuple[Packing, ...]
    groups: tuple[Group, ...]
    limits: tuple[SideLimit, ...]
    usd_weight: float
    """Objective per $/h (1 for cost per hour, 0 for energy)."""
    watt_weight: float
    """Objective per watt at the meter, beyond what usd_weight charges for electricity."""
    pue: float
    max_designs: int | None = None
    max_vendors: int | None = None
    survive_one_server: bool = False
    split_tasks: bool = True

    @cached_property
    def offsets(self) -> Ints:
        """[blocks + 1] first global column index of each block."""
        return np.concatenate([[0], np.cumsum([len(b) for b in self.blocks])]).astype(np.int64)

    @property
    def columns(self) -> int:
        """Number of columns over all blocks."""
        return int(self.offsets[-1])

    def keep(self, columns: Bools) -> FleetData:
        """The same problem with only the columns marked in `columns` [columns]."""
        blocks = []
        for b, block in enumerate(self.blocks):
            rows = np.flatnonzero(columns[self.offsets[b] : self.offsets[b + 1]])
            blocks.append(block.take(rows))
        return replace(self, blocks=tuple(blocks))

    def with_limits(self, limits: Iterable[SideLimit]) -> FleetData:
        """The same problem under further shared limits."""
        return replace(self, limits=(*self.limits, *limits))

    def watt_price(self, hardware: int) -> float:
        """Objective per watt of average IT power drawn by replicas on this hardware."""
        electricity = self.usd_weight * self.hardware[hardware].electricity_usd_per_wh
        return electricity + self.watt_weight * self.pue

    def server_price(self, offer: Offer) -> float:
        """Objective per server bought through this offer."""
        return self.usd_weight * offer.usd_per_hour

    def locate(self, columns: Sequence[int] | Ints) -> list[tuple[int, int]]:
        """(block, position in the block) of global column indices."""
        index = np.asarray(columns, dtype=np.int64)
        block = np.searchsorted(self.offsets, index, side="right") - 1
        return list(zip(block.tolist(), (index - self.offsets[block]).tolist(), strict=True))
