"""Columns of good whole plans: round the relaxation down, refill what is left with replicas of its size.

A relaxation spreads what is left of a task thinly over large replicas.  Once whole replicas are held, the rest of
the demand is a smaller fleet of its own: its relaxation, told that no replica can serve more than that rest
(`strengthen.py`), sees what the last replica of each kind really costs, and prices columns that fit it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.candidates.data import Bools, FleetData, Floats
from codesign.optimize.duals import affordable, column_costs, column_values
from codesign.optimize.model import Penalty
from codesign.optimize.relaxation import earning_flows, entering_columns, first_columns
from codesign.optimize.master import Master
from codesign.optimize.strengthen import strengthened

_ROUNDS = 3
"""Of column generation for a rest: its columns are proposals, nothing is proven with them."""
_STEPS = 30
_WHOLE = 1e-6
_ENOUGH = 1e-7
"""Share of a task below which it counts as served."""


@dataclass
class _Rest:
    """What is held already, and what is left of the demand."""

    demand: Floats
    """[C] shares of the tasks without a replica for their first phase."""
    commodity: Floats
    """[M] calls/s whose prefill is held and whose decode is not (negative: the other way round)."""
    slots: Floats
    """[P] taken by what is held."""
    held: dict[int, int] = field(default_factory=dict)


def dive(data: FleetData, running: dict[int, float], rates: dict[tuple[int, int], float], over: Callable[[], bool]) -> dict[int, int]:
    """{column: replicas} of a plan for `data` (limits aside) that starts at a relaxation's replicas and rates.

    `data` is the problem as it is, without strengthening.  An empty result: no plan within the steps, or `over`.
    """
    rest = _Rest(np.ones(len(data.tasks)), np.zeros(len(data.commodities)), np.zeros(len(data.packings)))
    for _ in range(_STEPS):
        if not _hold(data, rest, running, rates):
            return {}
        if rest.demand.max(initial=0.0) <= _ENOUGH and np.abs(rest.commodity).max(initial=0.0) <= _ENOUGH:
            return rest.held
        if over():
            return {}
        running, rates = _refill(data, rest)
    return {}


def _hold(data: FleetData, rest: _Rest, running: dict[int, float], rates: dict[tuple[int, int], float]) -> bool:
    """Hold the whole replicas of a relaxation of the rest; where there are none, the fullest one rounded up."""
    served: dict[int, list[tuple[int, float]]] = {}
    for (k, v), rate in rates.items():
        served.setdefault(k, []).append((v, rate))
    columns = [k for k in running if k in served]
    if not columns:
        return False
    places = dict(zip(columns, data.locate(columns), strict=True))
    least = {k: int(data.blocks[b].min_replicas[i]) for k, (b, i) in places.items()}
    counts = {k: int(np.floor(running[k] + _WHOLE)) for k in columns}
    counts = {k: n for k, n in counts.items() if n >= max(1, least[k])}
    if not counts:
        fullest = max(columns, key=lambda k: (running[k] / max(1, least[k]), -k))
        counts = {fullest: max(1, least[fullest])}
    for k, n in counts.items():
        b, i = places[k]
        block = data.blocks[b]
        part = min(1.0, n / running[k])
        rest.held[k] = rest.held.get(k, 0) + n
        rest.slots[block.packing[i]] += n * block.packed[i]
        if block.other_packing is not None and block.other_packed is not None and block.other_packing[i] >= 0:
            rest.slots[block.other_packing[i]] += n * block.other_packed[i]
        for v, rate in served[k]:
            flow = data.flows[int(block.flows[v])]
            if flow.serves:
                rest.demand[flow.task] -= rate * part * flow.tasks_per_call / float(data.demand[flow.task])
            if flow.commodity is not None:
                rest.commodity[flow.commodity] -= flow.commodity_sign * rate * part
    rest.demand = np.where(rest.demand < _ENOUGH, 0.0, rest.demand)
    rest.commodity = np.where(np.abs(rest.commodity) < _ENOUGH, 0.0, rest.commodity)
    return True


def _refill(data: FleetData, rest: _Rest) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
    """Replicas and rates of the relaxation of the rest."""
    bound = np.zeros(len(data.flows))
    for f, flow in enumerate(data.flows):
        bound[f] = rest.demand[flow.task] * float(data.demand[flow.task]) / flow.tasks_per_call
        if flow.commodity is not None:
            bound[f] += max(0.0, flow.commodity_sign * float(rest.commodity[flow.commodity]))
    wanted = bound > 0
    blocks = tuple(
        replace(block, admissible=block.admissible & wanted[block.flows][None, :]) for block in data.blocks
    )
    left = strengthened(replace(data, calls_bound=np.maximum(bound, 1e-300), blocks=blocks))
    chosen, _, alone = first_columns(left)
    price = 1e3 * float(alone[np.isfinite(alone)].sum() or 1.0)
    master = Master(left, Penalty(price, (price,) * len(left.limits)))
    flows = np.zeros((len(chosen), max(len(block.flows) for block in left.blocks)), dtype=bool)
    for n, (_, own) in enumerate(sorted(chosen.items())):
        flows[n, list(own)] = True
    master.extend(np.array(sorted(chosen), dtype=np.int64), flows)
    master.ask(rest.demand, rest.commodity, rest.slots)
    for last in (*(False,) * _ROUNDS, True):
        found = master.solve()
        if last:
            break
        duals = affordable(left, found.duals)
        costs = column_costs(left, duals)
        values = column_values(left, duals, costs, exact_below=0.0)
        fresh = entering_columns(left, costs - values, costs)
        if not len(fresh) or not master.extend(fresh, earning_flows(left, duals, fresh)):
            break
    running = {k: float(n) for k, n in zip(master.columns, found.replicas.tolist(), strict=True) if n > _WHOLE}
    return running, master.rates()


def near(reduced_cost: Floats, most: int) -> Bools:
    """[columns] the `most` of least reduced cost: where dives look for proposals."""
    if len(reduced_cost) <= most:
        return np.ones(len(reduced_cost), dtype=bool)
    return np.asarray(reduced_cost <= np.partition(reduced_cost, most)[most])
