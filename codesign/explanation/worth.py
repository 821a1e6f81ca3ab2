"""What replicas are worth at the prices of a relaxation: their best use, less what they cost."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from codesign.candidates.data import FleetData, Floats
from codesign.optimize.duals import Duals, Gains, column_costs
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.lp import SolverError
from codesign.optimize.pricer import column_values
from codesign.optimize.solver import Solver


def duals_of(plan: FleetPlan) -> Duals:
    """The relaxation's shadow prices that a plan came with."""
    return Duals(
        np.array(plan.demand_duals),
        np.array(plan.commodity_duals),
        np.array(plan.limit_duals),
        np.array(plan.server_duals),
    )


def net_values(data: FleetData, duals: Duals) -> Floats:
    """[columns] what a replica earns in its best use beyond what it costs; -inf where it earns nothing."""
    values = column_values(data, duals, np.zeros(data.columns))
    return np.asarray(np.where(values > 0, values - column_costs(data, duals), -np.inf))


def binding_rows(data: FleetData, column: int, duals: Duals) -> dict[str, float]:
    """Share of a column's value that each of its own rows bounds, by row name, the largest first (duals · limits)."""
    b, i = data.locate([column])[0]
    block = data.blocks[b]
    gain = np.maximum(Gains(data, duals).of(block, slice(i, i + 1))[0], 0.0)
    peak = float(gain.max(initial=0.0))
    if peak == 0:
        return {}
    scale = np.where(block.limit[i] > 0, block.limit[i], 1.0)
    free = np.zeros(len(gain)), np.full(len(gain), np.inf)
    limit = block.limit[i] / scale
    solver = Solver(threads=1)
    use = csr_array(block.use.one(i) / scale[:, None])
    solver.load(use, -gain / peak, *free, np.full(len(limit), -np.inf), limit)
    status = solver.run().status
    if status != "optimal":
        raise SolverError(f"the best use of column {column} at these prices ended as '{status}'")
    earned = -solver.duals() * limit
    total = float(earned.sum())
    shares = dict.fromkeys(block.row_names, 0.0)
    for name, share in zip(block.row_names, (earned / total).tolist(), strict=True):
        shares[name] += share
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0}
