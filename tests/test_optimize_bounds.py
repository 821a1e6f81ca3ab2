"""Linear relaxations pinned by hand, so that a looser formulation shows: bounds decide how long a proof takes.

Those of column generation, of the relaxed model, and of the whole model with its counts in any amount, whose families
`reserve` and `usable` no whole plan needs.
"""

import time
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from test_optimize_families import cheap_and_dear, one, prefill_and_decode, servers_of_two_slots
from test_optimize_right_answers import chain

from codesign.candidates.data import SideLimit
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel, Penalty
from codesign.optimize.relaxation import first_master, generate, relax


def later():
    return time.monotonic() + 10.0


RELAXED = {
    "demand, capacity, packing, bought": (servers_of_two_slots(), 2.3 * 2 / 4 * 4.0),
    "commodity": (prefill_and_decode(), 0.2 + 2.0),
    "limit": (cheap_and_dear(3.0, 10.0), 1.0 + 2 * 10.0),
    "limit, a chain of modules": (chain(), 1.0 + 0.5 + 0.5),
}


@pytest.mark.parametrize("family", RELAXED)
def test_relaxation_by_hand(family):
    data, value = RELAXED[family]
    found = relax(data, later())
    assert found.converged
    assert (found.value, found.bound) == (pytest.approx(value), pytest.approx(value))
    model = FleetModel(data, range(data.columns), relaxed=True)
    assert CompiledModel(model.pyomo).run().objective == pytest.approx(value)
    # The same where demand and limits may be missed at a price that nobody pays.
    missed = FleetModel(data, range(data.columns), relaxed=True, penalty=Penalty(1e3, (1e3,) * len(data.limits)))
    assert CompiledModel(missed.pyomo).run().objective == pytest.approx(value)


@pytest.mark.parametrize(
    ("offer", "interval", "value"),
    [
        (0, (-np.inf, 1.0), 1.0 + 2 * 10.0),
        (0, (0.5, 0.5), 0.5 + 2.5 * 10.0),
        (1, (1.0, np.inf), 2.0 + 10.0),
        (1, (-np.inf, np.inf), 3.0),
    ],
)
def test_intervals_of_counts_by_hand(offer, interval, value):
    """3/s on servers of 1 $/h or of 10: at most one of the cheap ones, half of one, at least one of the dear ones."""
    data = replace(cheap_and_dear(3.0, 10.0), limits=())
    members = SideLimit("servers", "", 1.0, per_server={offer: 1.0})
    master, _ = first_master(data)
    found = generate(master, {"servers": (members, interval)}, later())
    assert found.converged
    assert (found.value, found.bound) == (pytest.approx(value), pytest.approx(value))


def in_any_amount(data):
    """The whole model's optimum with counts in any amount; None where there is no plan."""
    model = FleetModel(data, range(data.columns), relaxed=False).pyomo
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(model)
    found = CompiledModel(model).run()
    return found.objective if found.status == "optimal" else None


def test_every_replica_reserves_its_part_of_the_spares():
    """4 replicas of at most 5 that a plan runs, one lost with a server: 4 + 4·1/5; without `reserve` half a spare."""
    assert in_any_amount(one(4.0, survive_one_server=True)) == pytest.approx(4.8)


def test_one_server_alone_runs_nothing():
    """Half a replica and as much of a spare would fit into the one server that there is; `usable` leaves no slot."""
    stock = SideLimit("stock", "servers", 1.0, {0: 1.0})
    assert in_any_amount(one(0.5, limits=(stock,), survive_one_server=True)) is None
