"""The gap of an answer counts every column, not those that a restricted MILP has seen."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fleets import block, colocated, fleet, server

from codesign.candidates.data import Group, Offer, Packing
from codesign.optimize.alone import first_columns
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel

BIG = 45_000
"""Columns of one large server; as many entries do not go to one MILP at once."""
BEST = 11.0001
"""One large server and one small one, by hand; all of the work on small ones costs 11.0011, on two large ones 20."""


@pytest.fixture(scope="module")
def data():
    """Demand 11.  Large servers of 10 for 10 $ are the best per call, and two of them are nearly twice too much."""
    large = 10.0 * (1 - 1e-5 * np.arange(BIG) / BIG)
    limit = np.concatenate([large, [1.0]])[:, None]
    group = np.append(np.arange(BIG) // 100, BIG // 100)
    columns = block([0], np.ones((BIG + 1, 1, 1)), limit, packing=[0] * BIG + [1], group=group)
    return fleet(
        [11.0],
        [colocated(0)],
        [columns],
        hardware=(server("large"), server("small")),
        offers=(Offer("large", 0, 10.0, 0.0, 0), Offer("small", 1, 1.0001, 0.0, 0)),
        packings=(Packing(0, 1), Packing(1, 1)),
        groups=tuple(Group(f"g{g}", 0 if g < BIG // 100 else 1, 1) for g in range(BIG // 100 + 1)),
    )


def test_a_restricted_milp_closes_its_own_gap_on_a_plan_that_is_not_the_best(data):
    columns = sorted(first_columns(data)[0])
    found = CompiledModel(FleetModel(data, columns, relaxed=False).pyomo).run(gap=0.0)
    assert found.status == "optimal"
    assert found.objective == found.bound == pytest.approx(20.0)  # its own gap: 0
    assert found.objective / BEST > 1.8


def test_stopped_there_the_answer_states_the_true_gap(data):
    stop = threading.Event()

    def at_the_restricted_optimum(stage, incumbent, bound):
        if incumbent < 20.5:
            stop.set()

    plan = solve_fleet(data, gap=0.0, threads=1, progress=at_the_restricted_optimum, cancel=stop)
    assert plan.status == "feasible"
    assert plan.stopped_by == "interrupt"
    assert plan.objective == pytest.approx(20.0)
    assert plan.bound == pytest.approx(11.0, rel=1e-6)
    assert plan.bound <= BEST
    assert plan.gap == pytest.approx(9 / 20, rel=1e-5)  # what the restricted MILP called 0


def test_given_time_the_answer_is_the_best_over_every_column(data):
    plan = solve_fleet(data, gap=1e-4, threads=1)
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(BEST)
    assert plan.bound <= BEST
    assert plan.gap <= 1e-4
