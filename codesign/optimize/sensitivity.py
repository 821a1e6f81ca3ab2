"""What one more unit would be worth with the counts of a plan held: duals of the LP that is left.

The prices of the relaxation say what a limit is worth where the fleet may follow in fractions; these say what it is
worth to the fleet that has been bought, where only calls can move.
"""

from __future__ import annotations

from dataclasses import replace

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


def fixed_duals(data: FleetData, plan: FleetPlan) -> Duals:
    """Shadow prices in objective units, with servers, modules, replicas and spares as in the plan.

    Binaries that only link counts are free between 0 and 1: the counts decide.  Raises ValueError for a plan that is
    none of `data`.
    """
    factor = objective_scale(data)
    compiled = _held(scaled(data, factor), plan.start, relaxed=True)
    outcome = None if compiled is None else compiled.run()
    if outcome is None or not outcome.values:
        raise ValueError("the plan does not keep the rows of this fleet")
    duals = outcome.duals
    commodity = duals["commodity"] / data.commodity_unit
    held_at = Duals(duals["demand"], commodity, duals["limit"], np.zeros(len(data.hardware)))
    return held_at.times(1.0 / factor)


def _held(data: FleetData, start: Start, relaxed: bool = False) -> CompiledModel | None:
    """The fleet model over a start's columns with its counts, and `relaxed` with nothing else whole; None where a row
    cannot be kept.  What comes in any amount, such as a level of risk, is free."""
    m = FleetModel(data, sorted(start.replicas), relaxed=False).pyomo
    counts: dict[int, float] = {}
    for name in ("servers", "modules", "replicas", "spares"):
        own: dict[int, int] = getattr(start, name)
        for index, variable in m.component(name).items():
            if name != "modules" or data.modules[index].whole:
                counts[id(variable)] = float(own.get(index, 0))
    if relaxed:
        for variable in m.component_data_objects(pyo.Var):
            if not variable.is_continuous():
                variable.domain = pyo.NonNegativeReals
    try:
        compiled = CompiledModel(m)
    except InfeasibleConstraintException:
        return None
    compiled.hold(counts)
    return compiled


def carries(data: FleetData, start: Start, most: float, halvings: int) -> float:
    """The factor, from 1 to `most`, by which demand may grow on a plan's counts: found by halving, so a little less."""
    mask = np.zeros(data.columns, dtype=bool)
    columns = sorted(start.replicas)
    mask[columns] = True
    few = data.keep(mask)
    inside = replace(start, replicas={n: start.replicas[k] for n, k in enumerate(columns)})

    def holds(factor: float) -> bool:
        grown = replace(few, demand=few.demand * factor, calls_bound=few.calls_bound * factor)
        compiled = _held(grown, inside)
        return compiled is not None and bool(compiled.run().values)

    low, high = 1.0, most
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
