"""The linear relaxation over every column, by column generation, with a bound that holds in every round.

The master (`master.py`) holds a few hundred columns with the flows that they are good at; all others are priced
exactly (`pricing.py`), and from its duals comes a bound over every column (`duals.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import Bools, ColumnBlock, FleetData, Floats, Ints, SideLimit
from codesign.optimize.duals import (
    Duals,
    Gains,
    affordable,
    column_costs,
    proven,
    watt_prices,
)
from codesign.optimize.master import Interval, Master, MasterSolution
from codesign.optimize.model import Penalty
from codesign.optimize.pricer import Pricer
from codesign.optimize.pricing import chunks
from codesign.optimize.scale import objective_scale, scaled

MANY, FEW = (150, 8), (20, 2)
"""Columns that enter in a round, over all and of one group: from nothing, or near an optimum, where a large master is
what takes time."""
_ENTERS_BELOW = -1e-9
_TOUCHED = 1e-7
_DEARER = (1e3, 1e6)
"""Prices of a missed task or limit, in costs of all tasks: the next where the last was worth paying."""


@dataclass(frozen=True)
class Relaxation:
    """The relaxation's optimum, or the best bound at the time limit."""

    value: float
    """Objective of the last master."""
    bound: float
    """Lower bound on the objective over all columns."""
    duals: Duals
    """Of the data's own rows; intervals of counts have theirs, which are left out."""
    reduced_cost: Floats
    """[columns] at the duals of the bound: what a replica costs beyond the best use of it."""
    columns: list[int]
    """Those that the master held."""
    running: dict[int, float]
    """Replicas by column, where it runs any."""
    rates: dict[tuple[int, int], float]
    """Calls/s by (column, position of the flow in its block), where not zero."""
    servers: Floats
    """[hardware] servers that the relaxation buys."""
    offers: Floats
    """[offers] servers by the offer that they are bought through."""
    set_aside: Floats
    """[packings] servers that it sets aside for each packing."""
    modules: Floats
    """[modules]."""
    replicas: Floats
    """[groups] replicas that it runs."""
    shortfall: Floats
    """[C] demand that the relaxation cannot serve within the limits, as a share."""
    excess: Floats
    """[L] share by which limits are exceeded where demand is not given up."""
    missed: float
    """By how much an interval of counts is missed at the most."""
    rounds: int
    converged: bool
    """At its optimum over all columns; else the clock, an interrupt or `stop_above` came first."""

    def divided(self, factor: float) -> Relaxation:
        """The same with its objective, and with it all prices, divided by `factor`."""
        return replace(
            self,
            value=self.value / factor,
            bound=self.bound / factor,
            duals=self.duals.times(1.0 / factor),
            reduced_cost=self.reduced_cost / factor,
        )

    @property
    def infeasible(self) -> bool:
        """Is it proven that no plan keeps all limits and serves all demand?"""
        missed = np.any(self.shortfall > _TOUCHED) or np.any(self.excess > _TOUCHED) or self.missed > _TOUCHED
        return self.converged and bool(missed)


def solo_costs(data: FleetData, block_index: int, costs: Floats) -> Floats:
    """[K, V] objective per call/s when a column serves one flow alone (inf where it may not)."""
    block = data.blocks[block_index]
    first = data.offsets[block_index]
    watt = watt_prices(data, np.zeros(len(data.limits)))[block.packing][:, None]
    alone = np.full(block.admissible.shape, np.inf)
    for part, need in replicas_needed(block):
        cost = costs[first + part.start : first + part.stop, None]
        usable = np.isfinite(need) & np.isfinite(cost)  # no offer supplies some hardware at all
        cost = np.where(np.isfinite(cost), cost, 0.0)
        alone[part] = np.where(usable, np.where(usable, need, 0.0) * cost + watt[part] * block.flow_power(part), np.inf)
    return alone


def replicas_needed(block: ColumnBlock) -> Iterator[tuple[slice, Floats]]:
    """(part of a block, [n, V] replicas per call/s of each flow alone; inf where the column may not carry it)."""
    first, kind = block.kinds
    for part in chunks(block):
        here, own = np.unique(kind[part], return_inverse=True)
        use = block.use.of(first[here])
        limit = block.limit[part]
        need = np.zeros((len(limit), use.shape[2]))
        for row in range(use.shape[1]):
            with np.errstate(divide="ignore", invalid="ignore"):
                share = use[:, row, :][own] / limit[:, row, None]
            np.fmax(need, share, out=need)
        usable = block.admissible[part] & np.all(limit >= 0, axis=1)[:, None]
        yield part, np.where(usable, need, np.inf)


def whole_columns(data: FleetData, per_flow: int) -> list[int]:
    """For each flow the columns that serve all of it at least cost in whole replicas, spares included."""
    costs = column_costs(data, Duals.none(data))
    lost = np.array([group.replicas_lost_with_server for group in data.groups], dtype=np.float64)
    chosen: set[int] = set()
    for b, block in enumerate(data.blocks):
        calls = data.calls_bound[block.flows]
        cost = np.full(block.admissible.shape, np.inf)
        for part, need in replicas_needed(block):
            usable = np.isfinite(need)
            whole = np.ceil(np.where(usable, need * calls, 1.0) - 1e-9)
            whole = np.maximum(whole, block.min_replicas[part][:, None])
            if data.survive_one_server:
                whole = whole + np.minimum(whole, lost[block.group[part]][:, None])
            first = data.offsets[b] + part.start
            cost[part] = np.where(usable, whole * costs[first : first + part.stop - part.start, None], np.inf)
        for v in range(len(block.flows)):
            for k in np.argsort(cost[:, v], kind="stable")[:per_flow].tolist():
                if np.isfinite(cost[k, v]):
                    chosen.add(int(data.offsets[b]) + k)
    return sorted(chosen)


def first_columns(data: FleetData) -> tuple[dict[int, set[int]], Floats, Floats]:
    """{column: flows of its block that it alone serves cheapest}, the cheapest cost of each flow [F] and task [C]."""
    costs = column_costs(data, Duals.none(data))
    cheapest = np.full(len(data.flows), np.inf)
    chosen: dict[int, set[int]] = {}
    for b, block in enumerate(data.blocks):
        alone = solo_costs(data, b, costs)
        if not len(alone):
            continue
        best = np.argmin(alone, axis=0)
        for v, (f, k) in enumerate(zip(block.flows.tolist(), best.tolist(), strict=True)):
            if np.isfinite(alone[k, v]):
                chosen.setdefault(int(data.offsets[b]) + k, set()).add(v)
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
    return chosen, cheapest, tasks


def relax(
    data: FleetData,
    deadline: float,
    gap: float = 0.0,
    start: Sequence[int] = (),
    penalty: Penalty | None = None,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    duals: Duals | None = None,
    intervals: Mapping[str, tuple[SideLimit, Interval]] | None = None,
) -> Relaxation:
    """Column generation to the relaxation's optimum (or to `gap`, `deadline` in time.monotonic seconds).

    `start` are the columns of the first master, with the flows that earn at `duals` where given; without them it
    holds the cheapest of each flow.  Without a
    `penalty` missing demand or limits grows so dear that shortfall and excess prove infeasibility.
    """
    factor = objective_scale(data)
    data = scaled(data, factor)
    if penalty is not None:
        penalty = Penalty(penalty.shortfall * factor, tuple(price * factor for price in penalty.excess))
    if duals is not None:
        duals = duals.times(factor)

    def tell(value: float, bound: float) -> None:
        if progress is not None:
            progress(value / factor, bound / factor)

    master, dearer = first_master(data, start, penalty, duals)
    while True:
        found = generate(master, intervals or {}, deadline, gap=gap, progress=tell, cancelled=cancelled, most=MANY)
        if not (found.infeasible and dearer):
            return found.divided(factor)
        master.set_penalty(dearer.pop(0))


def first_master(
    data: FleetData, start: Sequence[int] = (), penalty: Penalty | None = None, duals: Duals | None = None
) -> tuple[Master, list[Penalty]]:
    """A master of the cheapest columns of each flow, or of `start`; and dearer penalties to prove infeasibility.

    With `duals`, those of `start` bring the flows that earn there; without, all of theirs.
    """
    chosen: dict[int, set[int]] = {}
    dearer: list[Penalty] = []
    if penalty is None or not len(start):
        chosen, _, alone = first_columns(data)
    if penalty is None:
        prices = [factor * float(alone[np.isfinite(alone)].sum() or 1.0) for factor in _DEARER]
        penalty, *dearer = [Penalty(price, (price,) * len(data.limits)) for price in prices]
    master = Master(data, penalty)
    widest = max((len(block.flows) for block in data.blocks), default=0)
    columns = np.array(sorted(start) if len(start) else sorted(chosen), dtype=np.int64)
    flows = np.ones((len(columns), widest), dtype=bool)
    if len(start) and duals is not None:
        flows = earning_flows(data, duals, columns, least=-1e-6)
    if not len(start):
        flows[:] = False
        for n, k in enumerate(columns.tolist()):
            flows[n, list(chosen[k])] = True
    master.extend(columns, flows)
    return master, dearer


def generate(
    master: Master,
    intervals: Mapping[str, tuple[SideLimit, Interval]],
    deadline: float,
    gap: float = 0.0,
    stop_above: float = np.inf,
    progress: Callable[[float, float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    most: tuple[int, int] = FEW,
    near: tuple[Ints, FleetData, Pricer] | None = None,
    pricer: Pricer | None = None,
) -> Relaxation:
    """Column generation on a master with sums of counts held in intervals; ends early at a bound ≥ `stop_above`.

    At `most` so many columns enter in a round, and of one group.  Those of `near` (their places, the data of them alone
    and its pricer) are priced before all: the others are looked at when none of these earns its cost.  `pricer` is that
    of the master's columns, where there is one.
    """
    master.restrict(intervals)
    own = len(master.data.limits)
    sides = [side for members, interval in intervals.values() for side in sides_of(members, interval)]
    finite = np.array([side is not None for side in sides], dtype=bool)
    rows = [side for side in sides if side is not None]
    data = master.data.with_limits(rows)
    shut = shut_columns(data, intervals)
    pricer = pricer or Pricer(data)
    some = None if near is None else (near[0], near[1].with_limits(rows), near[2], shut[near[0]])
    scale = np.array([limit.scale for limit in rows])
    best, best_duals = -np.inf, Duals.none(data)
    reduced = column_costs(data, best_duals)
    rounds = 0
    while True:
        rounds += 1
        found = master.solve(list(intervals))
        duals = affordable(data, _on_sides(found.duals, own, finite, scale))
        stop = time.monotonic() > deadline or cancelled()
        if some is not None and not stop:
            places, nearest, few, closed = some
            costs, values = _priced(few, nearest, duals, closed)
            entering = places[entering_columns(nearest, costs - values, costs, *most)]
            if len(entering) and master.extend(entering, earning_flows(data, duals, entering)):
                continue
        costs, values = _priced(pricer, data, duals, shut)
        bound, scaled, at_bound = proven(data, duals, costs, values)
        if bound > best:
            best, best_duals, reduced = bound, scaled, at_bound
        if progress is not None:
            progress(found.objective, best)
        entering = entering_columns(data, costs - values, costs, *most)
        near_enough = found.objective - best <= max(gap, 1e-9) * abs(found.objective)
        converged = near_enough or not len(entering)
        if not converged and not (best >= stop_above or stop):
            if master.extend(entering, earning_flows(data, duals, entering)):
                continue
            converged = True  # what seems to enter is held already: rounding of the last basis
        return _relaxation(master, found, (best, best_duals, reduced), rounds, converged)


def _priced(pricer: Pricer, data: FleetData, duals: Duals, shut: Bools) -> tuple[Floats, Floats]:
    """Costs and values [columns] at some duals; those that are shut cost infinitely much."""
    costs = pricer.costs(data, duals)
    costs[shut] = np.inf
    return costs, pricer.values(data, duals, costs, exact_below=0.0)


def shut_columns(data: FleetData, intervals: Mapping[str, tuple[SideLimit, Interval]]) -> Bools:
    """[columns] that may not run at all where some sums of counts are held at nothing."""
    offers = np.zeros(len(data.offers), dtype=bool)
    packings = np.zeros(len(data.packings), dtype=bool)
    groups = np.zeros(len(data.groups), dtype=bool)
    for members, (_, high) in intervals.values():
        kinds = (members.per_server, members.per_packing, members.per_module, members.per_group)
        if high <= 0 and all(c >= 0 for kind in kinds for c in kind.values()):
            offers[[o for o, c in members.per_server.items() if c > 0]] = True
            packings[[p for p, c in members.per_packing.items() if c > 0]] = True
            groups[[g for g, c in members.per_group.items() if c > 0]] = True
    for p, box in enumerate(data.packings):
        supply = [o for o, offer in enumerate(data.offers) if box.hardware in offer.supplies]
        packings[p] |= bool(np.all(offers[supply]))
    found = [groups[block.group] for block in data.blocks]
    for closed, block in zip(found, data.blocks, strict=True):
        for rows, packing, _ in block.places():
            closed[rows] |= packings[packing]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def sides_of(members: SideLimit, interval: Interval) -> list[SideLimit | None]:
    """An interval as two limits: at most its upper end, and at least its lower one; None where it is open."""
    low, high = interval
    upper = replace(members, limit=high) if np.isfinite(high) else None
    lower = None
    if np.isfinite(low):
        lower = replace(
            members,
            limit=-low,
            per_server=_turned(members.per_server),
            per_packing=_turned(members.per_packing),
            per_group=_turned(members.per_group),
            per_module=_turned(members.per_module),
        )
    return [upper, lower]


def _turned(coefficients: dict[int, float]) -> dict[int, float]:
    return {index: -c for index, c in coefficients.items()}


def _on_sides(duals: Duals, limits: int, finite: np.ndarray, scale: Floats) -> Duals:
    """Duals of whole limits: those of interval rows hold per unit of the row."""
    return replace(duals, limit=np.concatenate([duals.limit[:limits], duals.limit[limits:][finite] * scale]))


def _relaxation(
    master: Master, found: MasterSolution, proof: tuple[float, Duals, Floats], rounds: int, converged: bool
) -> Relaxation:
    data = master.data
    servers = np.zeros(len(data.hardware))
    for o, offer in enumerate(data.offers):
        servers[list(offer.supplies)] += found.servers[o]
    replicas = np.zeros(len(data.groups))
    running: dict[int, float] = {}
    for k, (b, i), count in zip(master.columns, data.locate(master.columns), found.replicas.tolist(), strict=True):
        if count > 0:
            running[k] = count
            replicas[data.blocks[b].group[i]] += count
    bound, duals, reduced = proof
    duals = replace(duals, limit=duals.limit[: len(data.limits)])
    return Relaxation(
        value=found.objective,
        bound=bound,
        duals=duals,
        reduced_cost=reduced,
        columns=sorted(master.columns),
        running=running,
        rates=master.rates(),
        servers=servers,
        offers=found.servers,
        set_aside=found.set_aside,
        modules=found.modules,
        replicas=replicas,
        shortfall=found.shortfall,
        excess=found.excess,
        missed=found.missed,
        rounds=rounds,
        converged=converged,
    )


def earning_flows(data: FleetData, duals: Duals, columns: Ints, least: float = 0.0) -> Bools:
    """[n, widest block] flows that earn more than `least` on each column at these duals.

    Those beyond the column's best mix make the master larger and save most of its rounds: duals are seldom unique.
    """
    gains = Gains(data, duals)
    found = np.zeros((len(columns), max(len(block.flows) for block in data.blocks)), dtype=bool)
    block_of = np.searchsorted(data.offsets, columns, side="right") - 1
    for b in np.unique(block_of).tolist():
        here = np.flatnonzero(block_of == b)
        gain = gains.of(data.blocks[b], columns[here] - data.offsets[b])
        found[here, : gain.shape[1]] = (gain > least) & (gain != 0.0)
    return found


def entering_columns(
    data: FleetData, reduced: Floats, costs: Floats, per_round: int = MANY[0], per_group: int = MANY[1]
) -> Ints:
    """The most promising columns, at most a few of each group so that they differ."""
    relative = np.where(np.isfinite(costs), reduced, 0.0) / np.maximum(costs, 1e-300)
    order = np.flatnonzero(relative < _ENTERS_BELOW)
    order = order[np.argsort(relative[order], kind="stable")][: 20 * per_round]
    if not len(order):
        return order
    groups = np.concatenate([b.group for b in data.blocks])[order]
    seen: dict[int, int] = {}
    chosen = []
    for k, g in zip(order.tolist(), groups.tolist(), strict=True):
        seen[g] = seen.get(g, 0) + 1
        if seen[g] <= per_group:
            chosen.append(k)
        if len(chosen) >= per_round:
            break
    return np.array(chosen, dtype=np.int64)
