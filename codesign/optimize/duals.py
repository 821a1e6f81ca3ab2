"""What shadow prices say of every column at once: costs, earnings, and the bound that they prove (DESIGN 3.7).

From any duals a feasible dual solution of the *whole* relaxation is built: server prices come from the
offers, bought or not, and the worth of the flows is scaled down until no column anywhere earns more than it
costs.  So a bound holds over columns that no linear program has ever held.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from codesign.candidates.data import ColumnBlock, FleetData, Floats, SideLimit
from codesign.optimize.pricing import best_ratios, best_values, chunks, held_ratios, upper_values

_ROUNDING = 1e-9
"""Relative error of a linear program's duals that is mended rather than taken for an unbounded ray."""


@dataclass(frozen=True)
class Duals:
    """Shadow prices of the shared rows, in objective units; those of servers and limits are ≥ 0."""

    demand: Floats
    """[C] per whole task class."""
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
        spare = [price[o] - sum(found[r] for r in supplies[o]) for o in offers]
        room[h] = found[h] + min(spare, default=np.inf)
        found[h] = room[h]
    return room


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


def column_costs(data: FleetData, duals: Duals) -> Floats:
    """[columns] objective of one replica: its share of servers at the cheapest offers, and its power."""
    slot = slot_prices(data, duals)
    watt = watt_prices(data, duals.limit)
    group = charges(data.limits, duals.limit, "per_group", len(data.groups))
    costs = []
    for block in data.blocks:
        cost = group[block.group] + watt[block.packing] * block.replica_power_w
        for rows, packing, packed in block.places():
            cost[rows] += slot[packing] * packed
        costs.append(cost)
    return np.concatenate(costs) if costs else np.zeros(0)


def flow_worth(data: FleetData, duals: Duals) -> Floats:
    """[F] what one call/s of each flow earns at these duals."""
    worth = np.zeros(len(data.flows))
    for f, flow in enumerate(data.flows):
        if flow.serves:
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
        self._slots = slot_prices(data, duals)
        self._hardware = np.array([p.hardware for p in data.packings], dtype=np.int64)

    def of(self, block: ColumnBlock, part: slice | np.ndarray) -> Floats:
        """[n, V] of some columns of a block; 0 for flows that they may not carry."""
        packing = block.packing[part]
        gain = self._worth[block.flows][None, :] - self._watts[packing][:, None] * block.flow_power(part)
        if block.flow_slots is not None:
            gain = gain - self._slots[packing][:, None] * block.flow_slots[block.use.source[part]]
        if self._charged is not None:
            gain = gain - self._charged[self._hardware[packing][:, None], block.flows[None, :]]
        return np.asarray(np.where(block.admissible[part], gain, 0.0))


def column_values(data: FleetData, duals: Duals, costs: Floats, exact_below: float = np.inf) -> Floats:
    """[columns] best earnings of one replica; an upper bound instead where cost − bound ≥ `exact_below`."""
    gains = Gains(data, duals)
    values = np.zeros(data.columns)
    for b, block in enumerate(data.blocks):
        rows = slice(int(data.offsets[b]), int(data.offsets[b + 1]))
        first, kind = block.kinds
        ratios = np.zeros((len(first), block.use.shape[1]))
        held = block.units_of_row
        if held is not None:
            ratios = held_ratios(held, gains.of(block, first))
        else:
            for part in chunks(block, len(first)):
                ratios[part] = best_ratios(block.use.of(first[part]), gains.of(block, first[part]))
        found = upper_values(ratios[kind], block.limit)
        close = np.flatnonzero((costs[rows] - found < exact_below) & (found > 0))
        for part in chunks(block, len(close)):
            some = close[part]
            found[some] = best_values(block.use.of(some), block.limit[some], gains.of(block, some))
        values[rows] = found
    return values


def lower_bound(data: FleetData, duals: Duals) -> tuple[float, Duals, Floats]:
    """A valid bound from any duals, the scaled duals that prove it, and all reduced costs [columns] there."""
    duals = affordable(data, duals)
    costs = column_costs(data, duals)
    values = column_values(data, duals, costs, exact_below=0.0)
    return proven(data, duals, costs, values)


def affordable(data: FleetData, duals: Duals) -> Duals:
    """The duals with limits that modules fill priced so that no module earns more than it costs."""
    sigma = duals.limit.copy()
    for j in range(len(data.modules)):
        price = data.module_price(j)
        limits = [(i, limit) for i, limit in enumerate(data.limits) if j in limit.per_module]
        members = [(i, limit.per_module[j] / limit.scale) for i, limit in limits]
        spent = price + sum(sigma[i] * c for i, c in members if c > 0)
        earned = -sum(sigma[i] * c for i, c in members if c < 0)
        if earned > spent:
            for i, c in members:
                if c < 0:
                    sigma[i] *= spent / earned
    return Duals(duals.demand, duals.commodity, sigma, duals.bought)


def proven(data: FleetData, duals: Duals, costs: Floats, values: Floats) -> tuple[float, Duals, Floats]:
    """The same from costs and values [columns] at `affordable` duals; the reduced costs are from below.

    Flows that draw no power earn in proportion to the duals.  Those that do, or that limits charge, lose faster,
    f·worth − charge ≤ f·(worth − charge) for f ≤ 1, so one pricing proves the scaled duals feasible as well.
    """
    slack = 1e-12 * np.maximum(1.0, costs)
    if np.any(costs < -slack):  # limits pay for a replica that does nothing: no scale of the worth helps
        return -np.inf, duals.scaled(0.0), costs
    factor = 1.0
    if np.any(costs - values < -slack):
        earning = values > 0
        least = float(np.min(costs[earning] / values[earning], initial=1.0))
        factor = max(0.0, least) * (1 - 1e-12)
    limits = sum(
        float(sigma) * limit.limit / limit.scale for sigma, limit in zip(duals.limit, data.limits, strict=True)
    )
    scaled = duals.scaled(factor)
    return float(scaled.demand.sum()) - limits, scaled, costs - factor * values
