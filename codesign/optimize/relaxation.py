"""The linear relaxation over every column, by column generation, with a bound that holds in every round.

The master (`master.py`) holds a few hundred columns with the flows that they are good at; all others are priced
exactly (`pricing.py`), and from its duals comes a bound over every column (`duals.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import Bools, FleetData, Floats, Ints, SideLimit
from codesign.optimize.alone import first_columns
from codesign.optimize.duals import Duals, Gains, affordable, column_costs, proven
from codesign.optimize.master import Interval, Master, MasterSolution
from codesign.optimize.model import Penalty
from codesign.optimize.pricer import Pricer
from codesign.optimize.scale import objective_scale, scaled

MANY, FEW = (150, 8), (20, 2)
"""Columns that enter in a round, over all and of one group: from nothing, or near an optimum, where a large master is
what takes time."""
_ENTERS_BELOW = -1e-9
_ROUNDING = 1e-12
TOUCHED = 1e-7
"""Shares of demand and of limits up to which they count as kept: a tenth of what plans are held to."""
_DEARER = (1e3, 1e6, 1e9)
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
    infeasible: bool = False
    """Is it proven that no plan keeps all limits and serves all demand?  By a ray that holds over every column."""

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
    def misses(self) -> bool:
        """Does it leave demand unserved or exceed a limit?  At a price that is no proof: missing may be cheaper."""
        return bool(np.any(self.shortfall > TOUCHED) or np.any(self.excess > TOUCHED) or self.missed > TOUCHED)


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
    holds the cheapest of each flow.  Without a `penalty`, what is missed grows dearer until nothing is or the
    relaxation is proven `infeasible`; with one, missing stays for sale and nothing is proven of it.
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
    rows = intervals or {}
    while True:
        found = generate(master, rows, deadline, gap=gap, progress=tell, cancelled=cancelled, most=MANY)
        if not (found.converged and found.misses and penalty is None):
            return found.divided(factor)
        proof = least_missed(master, rows, deadline, cancelled)
        if proof.infeasible:
            return replace(found, infeasible=True, bound=np.inf).divided(factor)
        if proof.misses or not dearer:  # the clock, or a miss too small to prove: nothing is known
            return replace(found, converged=False).divided(factor)
        hold(master, proof)
        master.set_penalty(dearer.pop(0))


def least_missed(
    master: Master,
    intervals: Mapping[str, tuple[SideLimit, Interval]],
    deadline: float,
    cancelled: Callable[[], bool] = lambda: False,
    pricer: Pricer | None = None,
) -> Relaxation:
    """The least that demand and limits must be missed by, nothing else having a price; or the proof that they must.

    The duals of a positive bound are a Farkas ray: they charge every column, server and module at least what it earns,
    and all demand is worth more than all limits allow, so no plan exists at any price.  The bound is worked out over
    every column, whatever the linear program holds.
    """
    free = replace(master.data, usd_weight=0.0, watt_weight=0.0)
    lightest = Master(free, Penalty(1.0, (1.0,) * len(free.limits)))
    lightest.extend(*master.held())
    found = generate(
        lightest, intervals, deadline, stop_above=TOUCHED, cancelled=cancelled, most=MANY, pricer=pricer
    )
    return replace(found, infeasible=found.bound > TOUCHED)


def hold(master: Master, found: Relaxation) -> None:
    """Let a master hold what another relaxation runs."""
    columns = np.array(sorted(found.running), dtype=np.int64)
    widest = max((len(block.flows) for block in master.data.blocks), default=0)
    flows = np.zeros((len(columns), widest), dtype=bool)
    place = {int(k): n for n, k in enumerate(columns.tolist())}
    for k, v in found.rates:
        if k in place:
            flows[place[k], v] = True
    master.extend(columns, flows)


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
        found = master.solve(list(intervals), max(0.0, deadline - time.monotonic()))
        duals = affordable(data, _on_sides(found.duals, own, finite, scale))
        stop = not found.solved or time.monotonic() > deadline or cancelled()
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
        converged = found.solved and (near_enough or not len(entering))
        if not converged and not (best >= stop_above or stop):
            if master.extend(entering, earning_flows(data, duals, entering)):
                continue
            converged = found.solved  # what seems to enter is held already: rounding of the last basis
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
    finite = np.isfinite(costs)
    costs, reduced = np.where(finite, costs, 0.0), np.where(finite, reduced, 0.0)
    # What a replica that costs nothing earns is rounding where it is nothing beside what others cost or earn.
    rounding = _ROUNDING * float(np.maximum(np.abs(costs), np.abs(costs - reduced)).max(initial=0.0))
    relative = reduced / np.maximum(np.maximum(costs, rounding), 1e-300)
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
