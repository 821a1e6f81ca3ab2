"""What shadow prices say of every column at once: costs, earnings, and the bound that they prove (DESIGN 3.7).

From any duals a feasible dual solution of the *whole* relaxation is built: server prices come from the
offers, bought or not, and the worth of the flows is scaled down until no column anywhere earns more than it
costs.  So a bound holds over columns that no linear program has ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from codesign.candidates.data import Bools, ColumnBlock, FleetData, Floats, Ints, SideLimit

_ROUNDING = 1e-9
"""Relative error of a linear program's duals that is mended rather than taken for an unbounded ray."""
_ROUNDING_OF_SUMS = 1e-12
_SETTLED = 30
"""Rounds in which prices of limits that pay one another's items mostly settle."""
_NEGLIGIBLE = 1e-10
"""Of a bound: what columns may earn beyond their cost before the bound is scaled for them."""
_DEARER_THAN_ANY = 1e100
"""Objective of what no offer supplies, where a number is wanted."""
_FEW_SHORT = 2000
"""Columns up to which each one's part of the bound is worked out."""


@dataclass(frozen=True)
class Duals:
    """Shadow prices of the shared rows, in objective units; those of servers and limits are ≥ 0."""

    demand: Floats
    """[C] per whole task class; of one without demand none counts."""
    commodity: Floats
    """[M] per call/s."""
    limit: Floats
    """[L] per whole limit."""
    bought: Floats
    """[H] per server of each row of hardware: a split of the offers' prices where an offer supplies several rows."""

    def scaled(self, factor: float) -> Duals:
        """The same with the flows' worth scaled; limits and servers keep their price."""
        return Duals(self.demand * factor, self.commodity * factor, self.limit, self.bought)

    def times(self, factor: float) -> Duals:
        """The same in other units of the objective."""
        return Duals(*(getattr(self, f.name) * factor for f in fields(self)))

    @staticmethod
    def none(data: FleetData) -> Duals:
        """All zero: a replica costs its cheapest servers and its power."""
        sizes = (len(data.tasks), len(data.commodities), len(data.limits), len(data.hardware))
        return Duals(*(np.zeros(size) for size in sizes))


def charges(limits: tuple[SideLimit, ...], sigma: Floats, kind: str, size: int) -> Floats:
    """[size] what limits at shadow prices `sigma` [L] charge a unit of one kind: per_server, per_group, …"""
    found = np.zeros(size)
    for price, limit in zip(sigma.tolist(), limits, strict=True):
        if price:
            coefficients: dict[int, float] = getattr(limit, kind)
            for index, coefficient in coefficients.items():
                found[index] += price * coefficient / limit.scale
    return found


def flow_charges(data: FleetData, sigma: Floats) -> Floats | None:
    """[H, F] what limits charge a call/s of a flow by the hardware that carries it; None where none does."""
    found = None
    for price, limit in zip(sigma.tolist(), data.limits, strict=True):
        if price and limit.per_flow:
            if found is None:
                found = np.zeros((len(data.hardware), len(data.flows)))
            for (flow, hardware), coefficient in limit.per_flow.items():
                rows = slice(None) if hardware < 0 else hardware
                found[rows, flow] += price * coefficient / limit.scale
    return found


def server_prices(data: FleetData, duals: Duals) -> Floats:
    """[H] the most that a server of each row may be priced at: no offer's rows together above the offer.

    An offer of one row gives that row its price; where offers share rows, the duals' own split is raised until
    every row stands at some offer's price.
    """
    price = np.array([data.server_price(offer) for offer in data.offers])
    price = price + charges(data.limits, duals.limit, "per_server", len(data.offers))
    price[(price < 0) & (price > -_ROUNDING * (1.0 + np.abs(price).max(initial=0.0)))] = 0.0
    supplies = [offer.supplies for offer in data.offers]
    found = np.zeros(len(data.hardware))
    if any(len(rows) > 1 for rows in supplies):
        found = np.maximum(duals.bought, 0.0)
        for o, rows in enumerate(supplies):
            asked = float(found[list(rows)].sum())
            if asked > max(price[o], 0.0):
                found[list(rows)] *= max(price[o], 0.0) / asked
    room = np.full(len(data.hardware), np.inf)
    for h in range(len(data.hardware)):
        offers = [o for o, rows in enumerate(supplies) if h in rows]
        spare = min((_left(price[o], sum(found[r] for r in supplies[o])) for o in offers), default=np.inf)
        room[h] = found[h] + spare
        found[h] = room[h]
    return room


def _left(price: float, taken: float) -> float:
    """What is left of a price; what is left by rounding alone would price rows that cost nothing."""
    left = price - taken
    return left if left > _ROUNDING_OF_SUMS * price else min(left, 0.0)


def watt_prices(data: FleetData, limit_duals: Floats) -> Floats:
    """[packings] objective per watt of mean IT power, the shared limits' part included."""
    hardware = np.array([data.watt_price(h) for h in range(len(data.hardware))], dtype=np.float64)
    hardware = hardware + charges(data.limits, limit_duals, "per_watt", len(data.hardware))
    return hardware[[p.hardware for p in data.packings]] if len(data.packings) else np.zeros(0)


def slot_prices(data: FleetData, duals: Duals) -> Floats:
    """[packings] objective per accelerator slot of a server set aside."""
    server = server_prices(data, duals)[[p.hardware for p in data.packings]] if data.packings else np.zeros(0)
    aside = charges(data.limits, duals.limit, "per_packing", len(data.packings))
    return np.asarray((server + aside) / np.array([p.slots for p in data.packings], dtype=np.float64))


@dataclass(frozen=True)
class Places:
    """What a replica of every column takes of the shared rows, whatever it serves."""

    group: Ints
    """[columns]."""
    power_w: Floats
    """[columns]."""
    packing: Ints
    """[columns]."""
    taken: tuple[tuple[Ints, Ints, Floats], ...]
    """(columns, packing, slots) of each kind of accelerator in the replicas."""

    @staticmethod
    def of(data: FleetData) -> Places:
        """Those of all columns of a problem."""
        places: dict[int, list[tuple[Ints, Ints, Floats]]] = {}
        for first, block in zip(data.offsets.tolist(), data.blocks, strict=False):
            for n, (rows, packing, slots) in enumerate(block.places()):
                places.setdefault(n, []).append((first + rows, packing, slots))
        return Places(
            np.concatenate([np.zeros(0, np.int64), *(block.group for block in data.blocks)]),
            np.concatenate([np.zeros(0), *(block.replica_power_w for block in data.blocks)]),
            np.concatenate([np.zeros(0, np.int64), *(block.packing for block in data.blocks)]),
            tuple(
                (
                    np.concatenate([r for r, _, _ in parts]),
                    np.concatenate([p for _, p, _ in parts]),
                    np.concatenate([s for _, _, s in parts]),
                )
                for parts in places.values()
            ),
        )

    def costs(self, data: FleetData, duals: Duals) -> Floats:
        """[columns] objective of one replica: its share of servers at the cheapest offers, and its power."""
        slot = slot_prices(data, duals)
        group = charges(data.limits, duals.limit, "per_group", len(data.groups))
        cost = group[self.group] + watt_prices(data, duals.limit)[self.packing] * self.power_w
        for columns, packing, slots in self.taken:
            cost[columns] += slot[packing] * slots
        return np.asarray(cost)


def column_costs(data: FleetData, duals: Duals) -> Floats:
    """The costs [columns] of a problem that is priced once."""
    return Places.of(data).costs(data, duals)


def flow_worth(data: FleetData, duals: Duals) -> Floats:
    """[F] what one call/s of each flow earns at these duals."""
    worth = np.zeros(len(data.flows))
    for f, flow in enumerate(data.flows):
        if flow.serves and data.demand[flow.task] > 0:
            worth[f] += duals.demand[flow.task] * flow.tasks_per_call / data.demand[flow.task]
        if flow.commodity is not None:
            worth[f] += duals.commodity[flow.commodity] * flow.commodity_sign
    return worth


class Gains:
    """What a call/s of each flow brings on each column at some duals, net of its power and of limits."""

    def __init__(self, data: FleetData, duals: Duals) -> None:
        self._worth = flow_worth(data, duals)
        self._watts = watt_prices(data, duals.limit)
        self._charged = flow_charges(data, duals.limit)
        # Of hardware that no offer supplies none is used, and infinity times none would be no number.
        self._slots = np.minimum(slot_prices(data, duals), _DEARER_THAN_ANY)
        self._hardware = np.array([p.hardware for p in data.packings], dtype=np.int64)

    def of(self, block: ColumnBlock, part: slice | np.ndarray) -> Floats:
        """[n, V] of some columns of a block; 0 for flows that they may not carry."""
        source = block.use.source[part]
        slots = None if block.flow_slots is None else block.flow_slots[source]
        flows = np.broadcast_to(block.flows, (len(source), len(block.flows)))
        return self.at(flows, block.packing[part], block.flow_power_w[source], slots, block.admissible[part])

    def at(self, flows: Ints, packing: Ints, power: Floats, slots: Floats | None, admissible: Bools) -> Floats:
        """The same of any columns: `flows`, `power`, `slots` per call/s and `admissible` [n, V], `packing` [n]."""
        gain = self._worth[flows] - self._watts[packing][:, None] * power
        if slots is not None:
            gain = gain - self._slots[packing][:, None] * slots
        if self._charged is not None:
            gain = gain - self._charged[self._hardware[packing][:, None], flows]
        return np.asarray(np.where(admissible, gain, 0.0))


def affordable(data: FleetData, duals: Duals) -> Duals:
    """The duals with limits priced so that nothing bought is paid more by limits than it costs.

    A limit that an item widens (modules that flows fill, memory that stands in servers, servers to be kept) pays for
    the item.  Where all that is paid exceeds the price, what pays is priced down, and with it what the same limits
    charge other items: to a fixed point, which exists since prices only fall and all zero is one.
    """
    paying = [i for i, limit in enumerate(data.limits) if duals.limit[i] > 0 and _pays(limit)]
    if not paying:
        return duals
    sigma = duals.limit.copy()
    for attempt in range(_SETTLED + len(paying) + 1):
        over = list(_overpaid(data, replace(duals, limit=sigma)))
        if not over:
            break
        for members, factor in over:
            # Chains that only converge end by dropping what still pays too much: each time one limit less.
            sigma[members] *= factor if attempt < _SETTLED else 0.0
    return replace(duals, limit=sigma)


def _pays(limit: SideLimit) -> bool:
    kinds = (limit.per_server, limit.per_packing, limit.per_module)
    return any(c < 0 for kind in kinds for c in kind.values())


def _overpaid(data: FleetData, duals: Duals) -> Iterator[tuple[list[int], float]]:
    """(limits that pay an item more than it costs, what their prices may be of what they are)."""
    server = server_prices(data, duals)
    aside = np.array([min(float(server[p.hardware]), _DEARER_THAN_ANY) for p in data.packings])
    prices: tuple[tuple[str, list[float]], ...] = (
        ("per_server", [data.server_price(offer) for offer in data.offers]),
        ("per_module", [data.module_price(j) for j in range(len(data.modules))]),
        ("per_packing", aside.tolist()),
    )
    for kind, price in prices:
        paid, asked = np.zeros(len(price)), np.array(price, dtype=np.float64)
        payers: dict[int, list[int]] = {}
        for i, (sigma, limit) in enumerate(zip(duals.limit.tolist(), data.limits, strict=True)):
            if not sigma > 0:
                continue
            coefficients: dict[int, float] = getattr(limit, kind)
            for item, c in coefficients.items():
                if c < 0:
                    paid[item] -= sigma * c / limit.scale
                    payers.setdefault(item, []).append(i)
                else:
                    asked[item] += sigma * c / limit.scale
        for item, members in payers.items():
            if paid[item] > asked[item] * (1 + _ROUNDING_OF_SUMS):
                yield members, max(0.0, float(asked[item] / paid[item]))


def proven(data: FleetData, duals: Duals, costs: Floats, values: Floats) -> tuple[float, Duals, Floats]:
    """A bound from costs and values [columns] at `affordable` duals, the duals that prove it, reduced costs from below.

    Flows that draw no power earn in proportion to the duals.  Those that do, or that limits charge, lose faster,
    f·worth − charge ≤ f·(worth − charge) for f ≤ 1, so one pricing proves the scaled duals feasible as well.  Columns
    that earn more than they cost by rounding alone need no scale: if n_k replicas run where N_k would serve all, the
    sum of n_k/N_k is at most one for each phase of each task, so all of them together are worth no more than
    2·tasks·max (value − cost)·N_k, which is taken off the bound.
    """
    if np.any(costs < -_ROUNDING * np.max(np.abs(costs), initial=0.0, where=np.isfinite(costs))):
        # limits pay for a replica that does nothing: no scale of the worth helps
        return -np.inf, duals.scaled(0.0), costs
    costs = np.maximum(costs, 0.0)
    factor, lost = 1.0, 0.0
    short = np.flatnonzero(values > costs)
    if len(short):
        gain = values[short] - costs[short]
        ignored = np.zeros(len(short), dtype=bool)
        if len(short) <= _FEW_SHORT:
            worth = gain * full_replicas(data, short)
            ignored = worth <= _NEGLIGIBLE * float(np.abs(duals.demand[data.demand > 0]).sum())
            lost = 2.0 * len(data.tasks) * float(worth[ignored].max(initial=0.0))
        scales = costs[short[~ignored]] / values[short[~ignored]]
        if len(scales):
            factor = max(0.0, float(scales.min())) * (1 - 1e-12)
    limits = sum(
        float(sigma) * limit.limit / limit.scale for sigma, limit in zip(duals.limit, data.limits, strict=True)
    )
    scaled = duals.scaled(factor)
    return float(scaled.demand[data.demand > 0].sum()) - limits - lost, scaled, costs - factor * values


def full_replicas(data: FleetData, columns: Ints) -> Floats:
    """[n] replicas of each column that serve every call that it may serve, at the most."""
    found = np.zeros(len(columns))
    block_of = np.searchsorted(data.offsets, columns, side="right") - 1
    for b in np.unique(block_of).tolist():
        here = np.flatnonzero(block_of == b)
        block, local = data.blocks[b], columns[here] - data.offsets[b]
        calls = np.where(block.admissible[local], data.calls_bound[block.flows], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            load = block.use.of(local) * calls[:, None, :] / block.limit[local][:, :, None]
        phases: dict[tuple[int, bool], list[int]] = {}
        for v, f in enumerate(block.flows.tolist()):
            phases.setdefault((data.flows[f].task, data.flows[f].serves), []).append(v)
        load = np.nan_to_num(load, nan=0.0, posinf=np.inf, neginf=0.0)
        rows = sum(load[:, :, members].max(axis=2) for members in phases.values())
        found[here] = np.max(rows, axis=1, initial=0.0)
    return found
