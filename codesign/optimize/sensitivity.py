"""What one more unit would be worth with the counts of a plan held: duals of the LP that is left.

The prices of the relaxation say what a limit is worth where the fleet may follow in fractions; these say what it is
worth to the fleet that has been bought, where only calls can move.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.core as pyo
from pyomo.common.errors import InfeasibleConstraintException

from codesign.candidates.data import FleetData
from codesign.optimize.duals import Duals
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel
from codesign.optimize.scale import objective_scale, scaled
from codesign.optimize.search import Start

_UP = 1 + 1e-9
"""Amounts that an LP has found are taken a little larger: held there, they must leave its plan one."""

def fixed_duals(data: FleetData, plan: FleetPlan) -> Duals:
    """Shadow prices in objective units, with servers, modules, replicas and spares as in the plan.

    Binaries that only link counts are free between 0 and 1: the counts decide.  Raises ValueError for a plan that is
    none of `data`.
    """
    factor = objective_scale(data)
    m = held(scaled(data, factor), plan.start)
    for variable in m.component_data_objects(pyo.Var):
        if not variable.fixed and not variable.is_continuous():
            variable.domain = pyo.NonNegativeReals
    try:
        outcome = CompiledModel(m).run()
    except InfeasibleConstraintException:
        outcome = None
    if outcome is None or not outcome.values:
        raise ValueError("the plan does not keep the rows of this fleet")
    duals = outcome.duals
    held_at = Duals(duals["demand"], duals["commodity"], duals["limit"], np.zeros(len(data.hardware)))
    return held_at.times(1.0 / factor)


def held(data: FleetData, start: Start) -> Any:
    """The fleet model over a start's columns with its counts; what comes in any amount, such as a level of risk, is
    free."""
    m = FleetModel(data, sorted(start.replicas), relaxed=False).pyomo
    for name in ("servers", "modules", "replicas", "spares"):
        counts: dict[int, int] = getattr(start, name)
        for index, variable in m.component(name).items():
            if name != "modules" or data.modules[index].whole:
                variable.fix(counts.get(index, 0))
    return m


def with_amounts(data: FleetData, start: Start) -> Start:
    """The start with what comes in any amount at the amounts that its counts need; as it is where they are no plan."""
    free = [j for j, module in enumerate(data.modules) if not module.whole]
    if not free:
        return start
    m = held(data, start)
    try:
        outcome = CompiledModel(m).run()
    except InfeasibleConstraintException:
        return start
    amounts = {j: outcome.values.get(id(m.modules[j]), 0.0) * _UP for j in free}
    return replace(start, modules={**start.modules, **amounts})  # type: ignore[dict-item]


def carries(data: FleetData, start: Start, most: float, halvings: int) -> float:
    """The factor, from 1 to `most`, by which demand may grow on a plan's counts: found by halving, so a little less."""
    mask = np.zeros(data.columns, dtype=bool)
    columns = sorted(start.replicas)
    mask[columns] = True
    few = data.keep(mask)
    inside = replace(start, replicas={n: start.replicas[k] for n, k in enumerate(columns)})

    def holds(factor: float) -> bool:
        grown = replace(few, demand=few.demand * factor, calls_bound=few.calls_bound * factor)
        try:
            return bool(CompiledModel(held(grown, inside)).run().values)
        except InfeasibleConstraintException:
            return False

    low, high = 1.0, most
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
