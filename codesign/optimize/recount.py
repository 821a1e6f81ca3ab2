"""Fewer replicas under the same calls: rows widened to what those are known to carry, and what is bought for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyomo.core as pyo
from pyomo.common.errors import InfeasibleConstraintException

from codesign.candidates.data import ColumnBlock, FleetData, Floats
from codesign.candidates.objectives import figure
from codesign.optimize.fleet import FleetPlan, plan_of
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel
from codesign.optimize.scale import objective_scale, scaled, spending
from codesign.optimize.search import settle

_ROUNDING = 1e-9
"""Relative; of rows that are exactly full, and of objectives that cost the same."""

Rates = Mapping[tuple[int, int], float]
"""Calls/s by (column, flow)."""


def rows_need(data: FleetData, rates: Rates) -> dict[int, int]:
    """Replicas that the rows of each column ask for under its calls, those of its pooling at the least."""
    found = {}
    for k, used in _uses(data, rates).items():
        block, i = _place(data, k)
        with np.errstate(divide="ignore", invalid="ignore"):
            load = np.where(used > 0, used / block.limit[i], 0.0)
        found[k] = max(int(np.ceil(float(load.max(initial=0.0)) * (1.0 - _ROUNDING))), int(block.min_replicas[i]), 1)
    return found


def carried(data: FleetData, rates: Rates, replicas: Mapping[int, int]) -> FleetData:
    """The same problem, in which so many replicas of each column carry its calls: rows that say less are widened.

    For counts that are known to carry them by another account than the rows.  Columns without a count stay as they are.
    """
    limits: dict[int, Floats] = {}
    least = {}
    for k, used in _uses(data, rates).items():
        if not (n := replicas.get(k)):
            continue
        b, i = data.locate([k])[0]
        block = data.blocks[b]
        if b not in limits:
            limits[b], least[b] = block.limit.copy(), block.min_replicas.copy()
        limits[b][i] = np.maximum(block.limit[i], used / n * (1.0 + _ROUNDING))
        least[b][i] = min(int(block.min_replicas[i]), n)
    blocks = tuple(
        replace(block, limit=limits[b], min_replicas=least[b]) if b in limits else block
        for b, block in enumerate(data.blocks)
    )
    return replace(data, blocks=blocks)


def bought(
    data: FleetData,
    plan: FleetPlan,
    replicas: Mapping[int, int],
    rates: Rates,
    *,
    seconds: float,
    threads: int = 1,
    seed: int = 0,
    cancel: threading.Event | None = None,
) -> FleetPlan | None:
    """The best purchase for the calls of a plan at `rates` and no fewer than so many `replicas` by column.

    Of purchases that cost the same, one that runs as many of the plan's own replicas as it has room for: nothing is
    saved by fewer.  None where none was found.  It has the proof and prices of `plan`, untouched.
    """
    columns = sorted(replicas)
    mask = np.zeros(data.columns, dtype=bool)
    mask[columns] = True
    place = {k: n for n, k in enumerate(columns)}
    few = carried(data, rates, replicas).keep(mask)
    factor = objective_scale(few)
    few = scaled(few, factor)
    inside = {(place[k], f): rate for (k, f), rate in rates.items()}
    least = [replicas[k] for k in columns]
    top = [float(max(plan.replicas.get(k, 0), n)) for k, n in zip(columns, least, strict=True)]

    def run(under: FleetData, closest: bool) -> FleetPlan | None:
        model = FleetModel(under, range(len(columns)), relaxed=False)
        if closest:
            _closest(model, top)
        m = model.pyomo
        fixed = {
            id(m.rate[k, v]): inside.get((k, int(model.place[k][0].flows[v])), 0.0) / model.unit(k, v)
            for k, v in model.flow_keys
        }
        try:
            compiled = CompiledModel(m, threads, seed)
        except InfeasibleConstraintException:
            return None
        compiled.hold(fixed)
        compiled.within(
            {id(m.replicas[n]): (float(least[n]), top[n] if closest else np.inf) for n in range(len(columns))}
        )
        compiled.tighten()
        outcome = compiled.run(time_limit=seconds, cancel=cancel)
        settled = settle(compiled, model, outcome) if outcome.values else None
        return None if settled is None else plan_of(few, model, settled.values, settled.objective)

    found = run(few, closest=False)
    if found is None:
        return None
    found = run(few.with_limits([spending(few, found.objective * (1.0 + _ROUNDING))]), closest=True) or found
    found = replace(found, replicas={columns[n]: count for n, count in found.replicas.items()}, rates=dict(rates))
    amounts = {**found.modules, **found.amounts}
    value = figure(data, found.servers, found.replicas, found.spares, rates, amounts)
    return replace(plan.holding(found), objective=value)


def _closest(model: FleetModel, top: list[float]) -> None:
    """Ask a model for the fewest servers and modules, and among those for replicas as near to `top` as there is room.

    Nothing is saved by fewer, and each that stays takes load off the others.
    """
    m = model.pyomo
    replicas = sum(m.replicas[n] / most for n, most in enumerate(top))
    beside = [*m.servers.values(), *(m.modules[j] for j, item in enumerate(model.data.modules) if item.whole)]
    m.cost.deactivate()
    m.closest = pyo.Objective(expr=(len(top) + 1.0) * sum(beside) - replicas)


def _uses(data: FleetData, rates: Rates) -> dict[int, Floats]:
    """[R] what the calls of each column take of its rows."""
    found: dict[int, Floats] = {}
    for (k, f), rate in rates.items():
        block, i = _place(data, k)
        v = int(np.flatnonzero(block.flows == f)[0])
        found[k] = found.get(k, np.zeros(block.use.shape[1])) + rate * block.use.one(i)[:, v]
    return found


def _place(data: FleetData, column: int) -> tuple[ColumnBlock, int]:
    b, i = data.locate([column])[0]
    return data.blocks[b], i
