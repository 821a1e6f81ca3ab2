"""What one more unit would be worth with the counts of a plan held: duals of the LP that is left.

The prices of the relaxation say what a limit is worth where the fleet may follow in fractions; these say what it is
worth to the fleet that has been bought, where only calls can move.
"""

from __future__ import annotations

import numpy as np
import pyomo.core as pyo

from codesign.candidates.data import FleetData
from codesign.optimize.duals import Duals
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel
from codesign.optimize.scale import objective_scale, scaled


def fixed_duals(data: FleetData, plan: FleetPlan) -> Duals:
    """Shadow prices in objective units, with servers, modules, replicas and spares as in the plan.

    Binaries that only link counts are free between 0 and 1: the counts decide.  Raises ValueError for a plan that is
    none of `data`.
    """
    factor = objective_scale(data)
    m = FleetModel(scaled(data, factor), sorted(plan.replicas), relaxed=False).pyomo
    for name in ("servers", "modules", "replicas", "spares"):
        held: dict[int, int] = getattr(plan, name)
        for index, variable in m.component(name).items():
            variable.fix(held.get(index, 0))
    for variable in m.component_data_objects(pyo.Var):
        if not variable.fixed and not variable.is_continuous():
            variable.domain = pyo.NonNegativeReals
    outcome = CompiledModel(m).run()
    if not outcome.values:
        raise ValueError("the plan does not keep the rows of this fleet")
    duals = outcome.duals
    commodity = duals["commodity"] / data.commodity_unit
    held_at = Duals(duals["demand"], commodity, duals["limit"], np.zeros(len(data.hardware)))
    return held_at.times(1.0 / factor)
