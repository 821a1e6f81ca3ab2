"""The linear relaxation over every column, by column generation, with a bound that holds in every round.

The master holds a few hundred columns as a Pyomo model; all others are priced exactly (`pricing.py`).
From any duals a feasible dual solution of the *whole* relaxation is built, so the bound is global
(DESIGN 3.7): server prices come from the offers, bought or not, and the worth of the flows is scaled
down until no column anywhere earns more than it costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.candidates.data import FleetData, Floats, Ints
from codesign.optimize.highs import Basis, CompiledModel
from codesign.optimize.model import FleetModel, Penalty
from codesign.optimize.pricing import best_values, chunks, upper_values

_PER_ROUND = 150
_ENTERS_BELOW = -1e-9
_TOUCHED = 1e-7
_DEARER = (1e3, 1e6)
"""Prices of a missed task or limit, in costs of all tasks: the next where the last was worth paying."""


@dataclass(frozen=True)
class Duals:
    """Shadow prices of the shared rows, in objective units; those of limits are ≥ 0."""

    demand: Floats
    """[C] per whole task class."""
    commodity: Floats
    """[M] per call/s."""
    limit: Floats
    """[L] per whole limit."""

    def scaled(self, factor: float) -> Duals:
        """The same with the flows' worth scaled; limits keep their price."""
        return Duals(self.demand * factor, self.commodity * factor, self.limit)


@dataclass(frozen=True)
class Relaxation:
    """The relaxation's optimum, or the best bound at the time limit."""

    value: float
    """Objective of the last master."""
    bound: float
    """Lower bound on the objective over all columns."""
    duals: Duals
    reduced_cost: Floats
    """[columns] at the duals of the bound: what a replica costs beyond the best use of it."""
    columns: list[int]
    servers: Floats
    """[hardware] servers that the relaxation buys."""
    set_aside: Floats
    """[packings] servers that it sets aside for each packing."""
    replicas: Floats
    """[groups] replicas that it runs."""
    shortfall: Floats
    """[C] demand that the relaxation cannot serve within the limits, as a share."""
    excess: Floats
    """[L] share by which limits are exceeded where demand is not given up."""
    rounds: int
    converged: bool
    """At its optimum over all columns; else the clock or an interrupt came first."""

    @property
    def infeasible(self) -> bool:
        """Is it proven that no plan keeps all limits and serves all demand?"""
        return self.converged and bool(
            np.any(self.shortfall > _TOUCHED) or np.any(self.excess > _TOUCHED)
        )


def column_costs(data: FleetData, limit_duals: Floats) -> Floats:
    """[columns] objective of one replica: its share of a server at the cheapest offer, and its power."""
    server = np.full(len(data.hardware), np.inf)
    for o, offer in enumerate(data.offers):
        price = data.server_price(offer) + _priced(data, limit_duals, "per_server", o)
        server[offer.hardware] = min(server[offer.hardware], price)
    slot = np.array(
        [
            (server[p.hardware] + _priced(data, limit_duals, "per_packing", i)) / p.slots
            for i, p in enumerate(data.packings)
        ]
    )
    watt = watt_prices(data, limit_duals)
    group = np.zeros(len(data.groups))
    for sigma, limit in zip(limit_duals.tolist(), data.limits, strict=True):
        for g, coefficient in limit.per_group.items():
            group[g] += sigma * coefficient / limit.scale
    return np.concatenate(
        [
            slot[b.packing] * b.packed + group[b.group] + watt[b.packing] * b.replica_power_w
            for b in data.blocks
        ]
        or [np.zeros(0)]
    )


def watt_prices(data: FleetData, limit_duals: Floats) -> Floats:
    """[packings] objective per watt of mean IT power, the shared limits' part included."""
    hardware = np.array([data.watt_price(h) for h in range(len(data.hardware))], dtype=np.float64)
    for sigma, limit in zip(limit_duals.tolist(), data.limits, strict=True):
        for h, coefficient in limit.per_watt.items():
            hardware[h] += sigma * coefficient / limit.scale
    return hardware[[p.hardware for p in data.packings]] if len(data.packings) else np.zeros(0)


def _priced(data: FleetData, limit_duals: Floats, kind: str, index: int) -> float:
    """Shadow price that the shared limits put on one unit of an offer or packing."""
    price = 0.0
    for sigma, limit in zip(limit_duals.tolist(), data.limits, strict=True):
        coefficients: dict[int, float] = getattr(limit, kind)
        price += sigma * coefficients.get(index, 0.0) / limit.scale
    return price


def flow_worth(data: FleetData, duals: Duals) -> Floats:
    """[F] what one call/s of each flow earns at these duals."""
    worth = np.zeros(len(data.flows))
    for f, flow in enumerate(data.flows):
        if flow.serves:
            worth[f] += duals.demand[flow.task] * flow.tasks_per_call / data.demand[flow.task]
        if flow.commodity is not None:
            worth[f] += duals.commodity[flow.commodity] * flow.commodity_sign
    return worth


def column_values(data: FleetData, duals: Duals, costs: Floats, exact_below: float = np.inf) -> Floats:
    """[columns] best earnings of one replica; an upper bound instead where cost − bound ≥ `exact_below`."""
    worth = flow_worth(data, duals)
    watts = watt_prices(data, duals.limit)
    values = np.zeros(data.columns)
    for b, block in enumerate(data.blocks):
        watt = watts[block.packing][:, None]
        first = data.offsets[b]
        for part in chunks(block):
            use = block.use.of(part)
            spent = watt[part] * block.flow_power(part)
            gain = np.where(block.admissible[part], worth[block.flows][None, :] - spent, 0.0)
            found = upper_values(use, block.limit[part], gain)
            close = np.flatnonzero(
                (costs[first + part.start : first + part.stop] - found < exact_below) & (found > 0)
            )
            found[close] = best_values(use[close], block.limit[part][close], gain[close])
            values[first + part.start : first + part.stop] = found
    return values


def lower_bound(data: FleetData, duals: Duals) -> tuple[float, Duals, Floats]:
    """A valid bound from any duals, the scaled duals that prove it, and all reduced costs [columns] there."""
    costs = column_costs(data, duals.limit)
    values = column_values(data, duals, costs, exact_below=0.0)
    return proven(data, duals, costs, values)


def proven(
    data: FleetData, duals: Duals, costs: Floats, values: Floats
) -> tuple[float, Duals, Floats]:
    """The same from costs and values [columns] at these duals; the reduced costs are from below.

    Flows that draw no power earn in proportion to the duals.  Those that do lose faster, f·worth − watts ≤
    f·(worth − watts) for f ≤ 1, so one pricing proves the scaled duals feasible as well.
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
        float(sigma) * limit.limit / limit.scale
        for sigma, limit in zip(duals.limit, data.limits, strict=True)
    )
    scaled = duals.scaled(factor)
    return float(scaled.demand.sum()) - limits, scaled, costs - factor * values


def solo_costs(data: FleetData, block_index: int, costs: Floats) -> Floats:
    """[K, V] objective per call/s when a column serves one flow alone (inf where it may not)."""
    block = data.blocks[block_index]
    first = data.offsets[block_index]
    watt = watt_prices(data, np.zeros(len(data.limits)))[block.packing][:, None]
    alone = np.full(block.admissible.shape, np.inf)
    for part in chunks(block):
        use, limit = block.use.of(part), block.limit[part]
        with np.errstate(divide="ignore", invalid="ignore"):
            need = np.where(use > 0, use / limit[:, :, None], 0.0).max(axis=1)
        cost = costs[first + part.start : first + part.stop, None]
        usable = block.admissible[part] & np.all(limit >= 0, axis=1)[:, None]
        alone[part] = np.where(usable, need * cost + watt[part] * block.flow_power(part), np.inf)
    return alone


def whole_columns(data: FleetData, per_flow: int) -> list[int]:
    """For each flow the columns that serve all of it at least cost in whole replicas, spares included."""
    costs = column_costs(data, np.zeros(len(data.limits)))
    lost = np.array([group.replicas_lost_with_server for group in data.groups], dtype=np.float64)
    chosen: set[int] = set()
    for b, block in enumerate(data.blocks):
        calls = data.calls_bound[block.flows]
        cost = np.full(block.admissible.shape, np.inf)
        for part in chunks(block):
            use, limit = block.use.of(part), block.limit[part]
            with np.errstate(divide="ignore", invalid="ignore"):
                need = np.where(use > 0, use / limit[:, :, None], 0.0).max(axis=1) * calls
            usable = block.admissible[part] & np.all(limit >= 0, axis=1)[:, None]
            whole = np.maximum(np.ceil(np.where(usable, need, 1.0) - 1e-9), block.min_replicas[part][:, None])
            if data.survive_one_server:
                whole = whole + np.minimum(whole, lost[block.group[part]][:, None])
            first = data.offsets[b] + part.start
            cost[part] = np.where(usable, whole * costs[first : first + part.stop - part.start, None], np.inf)
        for v in range(len(block.flows)):
            for k in np.argsort(cost[:, v], kind="stable")[:per_flow].tolist():
                if np.isfinite(cost[k, v]):
                    chosen.add(int(data.offsets[b]) + k)
    return sorted(chosen)


def first_columns(data: FleetData) -> tuple[list[int], Floats, Floats]:
    """Cheapest columns of each flow alone, the cheapest cost of each flow [F], and of each task [C]."""
    costs = column_costs(data, np.zeros(len(data.limits)))
    cheapest = np.full(len(data.flows), np.inf)
    chosen: set[int] = set()
    for b, block in enumerate(data.blocks):
        alone = solo_costs(data, b, costs)
        if not len(alone):
            continue
        best = np.argmin(alone, axis=0)
        for v, (f, k) in enumerate(zip(block.flows.tolist(), best.tolist(), strict=True)):
            if np.isfinite(alone[k, v]):
                chosen.add(int(data.offsets[b]) + k)
                cheapest[f] = min(cheapest[f], alone[k, v])
    decode = np.full(len(data.commodities), np.inf)
    for f, flow in enumerate(data.flows):
        if flow.commodity is not None and flow.commodity_sign > 0:
            decode[flow.commodity] = min(decode[flow.commodity], cheapest[f])
    tasks = np.full(len(data.tasks), np.inf)
    for f, flow in enumerate(data.flows):
        if flow.serves:
            other = decode[flow.commodity] if flow.commodity is not None else 0.0
            price = (cheapest[f] + other) * data.demand[flow.task] / flow.tasks_per_call
            tasks[flow.task] = min(tasks[flow.task], price)
    return sorted(chosen), cheapest, tasks


def relax(
    data: FleetData,
    deadline: float,
    gap: float = 0.0,
    start: Sequence[int] = (),
    penalty: Penalty | None = None,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Relaxation:
    """Column generation to the relaxation's optimum (or to `gap`, `deadline` in time.monotonic seconds).

    `start` are the columns of the first master; without them it holds the cheapest of each flow.  Without a
    `penalty` missing demand or limits grows so dear that shortfall and excess prove infeasibility.
    """
    columns, _, alone = first_columns(data)
    dearer: list[Penalty] = []
    if penalty is None:
        prices = [factor * float(alone[np.isfinite(alone)].sum() or 1.0) for factor in _DEARER]
        penalty, *dearer = [Penalty(price, (price,) * len(data.limits)) for price in prices]
    if start:
        columns = sorted(set(start))
    inside = np.zeros(data.columns, dtype=bool)
    inside[columns] = True
    best = -np.inf
    best_duals = Duals(
        np.zeros(len(data.tasks)), np.zeros(len(data.commodities)), np.zeros(len(data.limits))
    )
    reduced = column_costs(data, best_duals.limit)
    rounds = 0
    basis: Basis = {}
    while True:
        rounds += 1
        master = FleetModel(data, columns, relaxed=True, penalty=penalty)
        compiled = CompiledModel(master.pyomo)
        compiled.start_at(basis)
        outcome = compiled.run()
        basis = compiled.basis()
        duals = _duals(data, outcome.duals)
        costs = column_costs(data, duals.limit)
        values = column_values(data, duals, costs, exact_below=0.0)
        bound, scaled, at_bound = proven(data, duals, costs, values)
        if bound > best:
            best, best_duals, reduced = bound, scaled, at_bound
        if progress is not None:
            progress(outcome.objective, best)
        entering = _entering(data, costs - values, costs, inside)
        closed = outcome.objective - best <= max(gap, 1e-9) * abs(outcome.objective)
        converged = closed or not len(entering)
        stopped = time.monotonic() > deadline or cancelled()
        model = master.pyomo
        missed = [
            outcome.values.get(id(v), 0.0) for v in (*model.shortfall.values(), *model.excess.values())
        ]
        if converged and not stopped and dearer and max(missed) > _TOUCHED:
            penalty = dearer.pop(0)
            continue
        if converged or stopped:
            return Relaxation(
                value=outcome.objective,
                bound=best,
                duals=best_duals,
                reduced_cost=reduced,
                columns=columns,
                servers=_bought(data, outcome.values, model),
                set_aside=np.array([outcome.values.get(id(v), 0.0) for v in model.set_aside.values()]),
                replicas=_running(data, outcome.values, master),
                shortfall=np.array([outcome.values.get(id(v), 0.0) for v in model.shortfall.values()]),
                excess=np.array([outcome.values.get(id(v), 0.0) for v in model.excess.values()]),
                rounds=rounds,
                converged=converged,
            )
        inside[entering] = True
        columns = sorted([*columns, *entering.tolist()])


def _bought(data: FleetData, values: dict[int, float], model: Any) -> Floats:
    servers = np.zeros(len(data.hardware))
    for o, offer in enumerate(data.offers):
        servers[offer.hardware] += values.get(id(model.servers[o]), 0.0)
    return servers


def _running(data: FleetData, values: dict[int, float], master: FleetModel) -> Floats:
    replicas = np.zeros(len(data.groups))
    for k in master.columns:
        block, i = master.place[k]
        replicas[block.group[i]] += values.get(id(master.pyomo.replicas[k]), 0.0)
    return replicas


def _duals(data: FleetData, found: dict[str, Floats]) -> Duals:
    return Duals(
        found.get("demand", np.zeros(len(data.tasks))),
        found.get("commodity", np.zeros(len(data.commodities))),
        found.get("limit", np.zeros(len(data.limits))),
    )


def _entering(data: FleetData, reduced: Floats, costs: Floats, inside: np.ndarray) -> Ints:
    """The most promising columns, at most a few of each group so that they differ."""
    relative = np.where(inside, 0.0, reduced / np.maximum(costs, 1e-300))
    order = np.flatnonzero(relative < _ENTERS_BELOW)
    order = order[np.argsort(relative[order], kind="stable")][: 20 * _PER_ROUND]
    if not len(order):
        return order
    groups = np.concatenate([b.group for b in data.blocks])[order]
    seen: dict[int, int] = {}
    chosen = []
    for k, g in zip(order.tolist(), groups.tolist(), strict=True):
        seen[g] = seen.get(g, 0) + 1
        if seen[g] <= 8:
            chosen.append(k)
        if len(chosen) >= _PER_ROUND:
            break
    return np.array(chosen, dtype=np.int64)
