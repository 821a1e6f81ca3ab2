"""Random fleets of every kind of one order: the search against the whole MILP through Pyomo's stock interface."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pyomo.contrib.appsi.base import TerminationCondition
from pyomo.contrib.appsi.solvers import Highs
from random_fleets import KINDS, random_fleet

from codesign.optimize import fleet as search
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.model import FleetModel

EACH = 4
"""Problems of each kind."""
KINDS_OF_ONE_ORDER = [n for n, kind in KINDS.items() if not {"wide", "outer"} & set(kind.always) and n != "rescaled"]
LARGE = (2, 4)
"""Columns of each role: more than elsewhere, since no enumeration has to follow."""


def whole(data):
    """The optimum over all columns in one MILP, as Pyomo hands it to HiGHS; inf where there is none."""
    if any(not _served(data, c) for c in range(len(data.tasks))):
        return math.inf
    solver = Highs()
    solver.config.load_solution = False
    solver.highs_options = {"mip_rel_gap": 0.0, "mip_abs_gap": 1e-9, "threads": 1}
    found = solver.solve(FleetModel(data, range(data.columns), relaxed=False).pyomo)
    if found.termination_condition == TerminationCondition.optimal:
        return found.best_feasible_objective
    assert found.termination_condition in (
        TerminationCondition.infeasible,
        TerminationCondition.infeasibleOrUnbounded,
    )
    return math.inf


def _served(data, task):
    """Is any flow of the task open on any column?  Without one the model has an empty row."""
    return any(
        data.flows[f].task == task and data.flows[f].serves and np.any(block.admissible[:, v])
        for block in data.blocks
        for v, f in enumerate(block.flows.tolist())
    )


def agrees(plan, expected):
    if math.isinf(expected):
        assert plan.status == "infeasible"
        return
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(expected, rel=1e-6)
    assert plan.bound <= expected * (1 + 1e-6) + 1e-9
    assert plan.bound <= plan.objective
    assert plan.gap <= 1e-6


@pytest.mark.parametrize("kind", KINDS_OF_ONE_ORDER)
def test_search_is_the_whole_milp(kind, monkeypatch):
    """Every third goes through column generation and branching, as fleets do that are too large for one MILP."""
    first = 100 * KINDS_OF_ONE_ORDER.index(kind)
    for seed in range(first, first + EACH):
        data = random_fleet(seed, kind, LARGE)
        expected = whole(data)
        with monkeypatch.context() as patch:
            if seed % 3 == 0:
                patch.setattr(search, "_SMALL", 0)
            agrees(solve_fleet(data, gap=0.0, threads=1), expected)


def test_dominated_columns_change_nothing():
    """A fleet with copies that offer less, or need more replicas, has the optimum of the fleet without them."""
    for seed in range(1, 61, 4):
        data = random_fleet(seed, "minima", LARGE)
        blocks = []
        for block in data.blocks:
            twice = block.take(np.tile(np.arange(len(block)), 2))
            worse = np.arange(len(twice)) >= len(block)
            limit = np.where(worse[:, None], 0.8 * twice.limit, twice.limit)
            least = twice.min_replicas + (worse & (seed % 2 == 0))
            blocks.append(replace(twice, limit=limit, min_replicas=least))
        doubled = replace(data, blocks=tuple(blocks))
        pruned = solve_fleet(doubled, gap=0.0, threads=1)
        kept = solve_fleet(doubled, gap=0.0, threads=1, prune=False)
        assert pruned.status == kept.status
        assert pruned.columns_undominated <= data.columns
        if pruned.replicas:
            assert pruned.objective == pytest.approx(kept.objective, rel=1e-6)
