"""What the fleet optimiser decides over, as numbers: columns, flows, servers and limits.

A *column* is a deployment configuration at an operating point; everything in it is per replica.
A *flow* is one phase of one commodity on a column, in calls per second.  Nothing here knows YAML,
accelerators or models: The rest of `candidates/` fills these arrays; `optimize/` only does algebra on them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

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

    def with_rows(self, use: Floats) -> RowUse:
        """The same with further rows, use [rows, V] of each alike for all columns."""
        more = np.broadcast_to(use, (len(self.fixed), *use.shape))
        return replace(
            self,
            fixed=np.concatenate([self.fixed, more], axis=1),
            scaled=np.concatenate([self.scaled, np.zeros_like(more)], axis=1),
            power=np.concatenate([self.power, np.zeros(len(use))]),
        )

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
    other_packing: Ints | None = None
    """[K] the packing of a second kind of accelerator in the replica, -1 where there is none; None: nowhere."""
    other_packed: Floats | None = None
    """[K] slots that the replica occupies there."""
    flow_slots: Floats | None = None
    """[S, V] slots that a call/s takes on top, by `use.source`: what relaxations reserve for spares."""

    def __len__(self) -> int:
        return int(self.limit.shape[0])

    @cached_property
    def kinds(self) -> tuple[Ints, Ints]:
        """A column of each kind [kinds], and the kind of each column [K]: alike in what flows use, bring and may do.

        Columns of a kind differ in what they offer alone, so what depends on use is worked out once for a kind.
        """
        parts = (self.use.source.astype(np.int64), self.use.level.astype(np.float64), self.packing.astype(np.int64))
        words = [np.ascontiguousarray(part).view(np.uint8).reshape(len(self), 8) for part in parts]
        words.append(np.packbits(self.admissible, axis=1))
        key = np.ascontiguousarray(np.concatenate(words, axis=1))
        whole = key.view(np.dtype((np.void, key.shape[1]))).ravel()
        _, first, kind = np.unique(whole, return_index=True, return_inverse=True)
        return first.astype(np.int64), kind.ravel().astype(np.int64)

    def places(self) -> list[tuple[Ints, Ints, Floats]]:
        """(columns, packing, slots) of each kind of accelerator in the replicas: the first, then the other."""
        found = [(np.arange(len(self)), self.packing, self.packed)]
        if self.other_packing is not None and self.other_packed is not None:
            pairs = np.flatnonzero(self.other_packing >= 0)
            found.append((pairs, self.other_packing[pairs], self.other_packed[pairs]))
        return found

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
            other_packing=_stacked([b.other_packing for b in blocks]),
            other_packed=_stacked([b.other_packed for b in blocks]),
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
            None if self.other_packing is None else self.other_packing[rows],
            None if self.other_packed is None else self.other_packed[rows],
            self.flow_slots,
        )


def _stacked(parts: Sequence[NDArray[Any] | None]) -> Any:
    """The parts one after another; None where they are."""
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


@dataclass(frozen=True)
class Offer:
    """One way to buy servers.  A server bought is a server of each row of hardware that it supplies."""

    name: str
    hardware: int
    """Row that it supplies: index into FleetData.hardware."""
    usd_per_hour: float
    """Per server, all that the offer charges, averaged over all hours."""
    capital_usd: float
    """Per server, counted against a capital budget."""
    min_servers: int
    """Least purchase, if any is made at all."""
    also_supplies: tuple[int, ...] = ()
    """Further rows: other periods in which the server stands, other kinds of slot in the same rack."""

    @property
    def supplies(self) -> tuple[int, ...]:
        """Every row of hardware that a server of this offer adds to."""
        return (self.hardware, *self.also_supplies)


@dataclass(frozen=True)
class Module:
    """Something bought by itself, in whole numbers: a memory module, a network card, a drawer of a pool."""

    name: str
    usd_per_hour: float
    capital_usd: float = 0.0
    """Counted against a capital budget."""
    power_w: float = 0.0
    """Drawn all the time, IT side."""
    electricity_usd_per_wh: float = 0.0
    """$ per watt-hour at the meter (PUE included); 0 where the price covers it."""
    whole: bool = True
    """Bought in whole numbers; False for quantities that only rows know, which come in any amount."""


@dataclass(frozen=True)
class Hardware:
    """A row of servers that can be bought: one kind of slot in one kind of server, in one period or scenario."""

    name: str
    accelerators: int
    """Accelerators per server."""
    peak_power_w: float
    """Provisioned IT power of one server, without PUE."""
    electricity_usd_per_wh: float
    """$ per watt-hour of average IT power at the meter (PUE included); 0 where the price covers it."""
    vendor: str = ""
    hours_share: float = 1.0
    """Share of all hours in which replicas on this row draw power: that of its period."""


@dataclass(frozen=True)
class Packing:
    """Servers of one hardware set aside for replica sizes that divide one another."""

    hardware: int
    slots: int
    """Accelerator slots per server."""
    modules: dict[int, float] = field(default_factory=dict)
    """Modules in each server set aside, by their number."""


@dataclass(frozen=True)
class Group:
    """Pools of equal accelerator, model, precision, parallelism and role."""

    name: str
    hardware: int
    replicas_lost_with_server: int
    """Replicas that stop when one server is lost."""
    stage: int = 0
    """Period or scenario that it runs in: limits on designs hold in each."""
    work: str = ""
    """What its replicas do: model and role."""
    role: str = ""


@dataclass(frozen=True)
class SideLimit:
    """A shared upper limit on what is bought or run, in the user's words or a branch of the search.

    Σ per_server·servers + Σ per_packing·servers set aside + Σ per_group·replicas + Σ per_watt·watts
    + Σ per_module·modules + Σ per_flow·calls/s ≤ limit.  Coefficients of flows are ≥ 0.
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
    per_module: dict[int, float] = field(default_factory=dict)
    """Coefficient by module; negative where modules bring what flows use."""
    per_flow: dict[tuple[int, int], float] = field(default_factory=dict)
    """Coefficient per call/s by (flow, hardware of the column that carries it; -1: whichever)."""
    size: float = 0.0
    """What the row is divided by where that is known; 0: its limit, or its largest coefficient."""

    @property
    def scale(self) -> float:
        """What the row is divided by: its size, else its limit, or its largest coefficient where the limit is zero.

        Where things widen the limit, no less than what one of them brings: sums that cancel are held to their terms.
        """
        if self.size:
            return self.size
        coefficients = (
            *self.per_server.values(),
            *self.per_packing.values(),
            *self.per_group.values(),
            *self.per_module.values(),
        )
        brought = max((-c for c in coefficients if c < 0), default=0.0)
        return max(abs(self.limit), brought) or max(map(abs, coefficients), default=1.0) or 1.0


@dataclass(frozen=True)
class FleetData:
    """A whole fleet problem as numbers.  The objective is linear in servers, watts and flows."""

    tasks: tuple[str, ...]
    demand: Floats
    """[C] tasks per second."""
    calls_bound: Floats
    """[F] the most calls per second that a flow can ever carry."""
    flows: tuple[Flow, ...]
    commodities: tuple[Hashable, ...]
    """What tells each from all others; the same one in another problem has an equal key."""
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
    modules: tuple[Module, ...] = ()
    outer: tuple[ColumnBlock, ...] = ()
    """Columns that hold every load which any plan could have, over which bounds are; none: they are over `blocks`."""

    @property
    def bounding(self) -> FleetData:
        """The problem that bounds are of: no plan of this one, or beside its columns, costs less."""
        return replace(self, blocks=self.outer, outer=()) if self.outer else self

    @cached_property
    def offsets(self) -> Ints:
        """[blocks + 1] first global column index of each block."""
        return np.concatenate([[0], np.cumsum([len(b) for b in self.blocks])]).astype(np.int64)

    @property
    def columns(self) -> int:
        """Number of columns over all blocks."""
        return int(self.offsets[-1])

    @cached_property
    def flow_unit(self) -> Floats:
        """[F] calls/s of all of a flow: what a share of 1 stands for in every linear program over this fleet.

        Flows of a commodity have one unit, the most that any of them can carry; 1 where nothing is asked for.
        """
        unit = np.where(self.calls_bound > 0, self.calls_bound, 0.0)
        for f, flow in enumerate(self.flows):
            if flow.commodity is not None:
                unit[f] = self.commodity_unit[flow.commodity]
        return np.where(unit > 0, unit, 1.0)

    @cached_property
    def commodity_unit(self) -> Floats:
        """[M] calls/s of all of a commodity; 1 where nothing is asked for."""
        most = np.zeros(len(self.commodities))
        for flow, calls in zip(self.flows, self.calls_bound.tolist(), strict=True):
            if flow.commodity is not None:
                most[flow.commodity] = max(most[flow.commodity], calls)
        return np.where(most > 0, most, 1.0)

    def keep(self, columns: Bools) -> FleetData:
        """The same problem with only the columns marked in `columns` [columns], and no bound over more than them."""
        blocks = []
        for b, block in enumerate(self.blocks):
            rows = np.flatnonzero(columns[self.offsets[b] : self.offsets[b + 1]])
            blocks.append(block.take(rows))
        return replace(self, blocks=tuple(blocks), outer=())

    def with_limits(self, limits: Iterable[SideLimit]) -> FleetData:
        """The same problem under further shared limits."""
        return replace(self, limits=(*self.limits, *limits))

    def watt_price(self, hardware: int) -> float:
        """Objective per watt of average IT power drawn by replicas on this hardware."""
        row = self.hardware[hardware]
        electricity = self.usd_weight * row.electricity_usd_per_wh
        return (electricity + self.watt_weight * self.pue) * row.hours_share

    def module_price(self, module: int) -> float:
        """Objective per module bought, its power included."""
        item = self.modules[module]
        electricity = self.usd_weight * item.electricity_usd_per_wh + self.watt_weight * self.pue
        return self.usd_weight * item.usd_per_hour + electricity * item.power_w

    def shares(self, offer: Offer) -> dict[int, float]:
        """How an offer's price divides over the rows that it supplies: by their servers' provisioned power."""
        watts = [self.hardware[row].peak_power_w for row in offer.supplies]
        if not sum(watts) > 0:
            watts = [1.0] * len(watts)
        return {row: each / sum(watts) for row, each in zip(offer.supplies, watts, strict=True)}

    def server_price(self, offer: Offer) -> float:
        """Objective per server bought through this offer."""
        return self.usd_weight * offer.usd_per_hour

    def locate(self, columns: Sequence[int] | Ints) -> list[tuple[int, int]]:
        """(block, position in the block) of global column indices."""
        index = np.asarray(columns, dtype=np.int64)
        block = np.searchsorted(self.offsets, index, side="right") - 1
        return list(zip(block.tolist(), (index - self.offsets[block]).tolist(), strict=True))
