"""The growing master against the Pyomo relaxation; offers of several rows, modules, and flows in limits."""

import time
from dataclasses import replace

import numpy as np
import pytest
from fleets import NARROW, any_fleets, block, colocated, fleet, server
from hypothesis import given, settings
from test_optimize_brute_force import QUIET

from codesign.candidates.data import Module, Offer, Packing, SideLimit
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.master import Master
from codesign.optimize.model import FleetModel, Penalty
from codesign.optimize.relaxation import relax


def later():
    return time.monotonic() + 30


@settings(QUIET, max_examples=60)
@given(any_fleets(NARROW))
def test_master_is_the_relaxed_model(data):
    penalty = Penalty(1e3, (1e3,) * len(data.limits))
    model = CompiledModel(FleetModel(data, range(data.columns), relaxed=True, penalty=penalty).pyomo)
    master = Master(data, penalty)
    widest = max(len(b.flows) for b in data.blocks)
    for k in range(data.columns):  # one after another, as column generation adds them
        master.extend(np.array([k]), np.ones((1, widest), dtype=bool))
    assert master.solve().objective == pytest.approx(model.run().objective, rel=1e-7, abs=1e-7)


def two_periods(reserved=10.0, peak_only=7.0):
    """4 tasks/s at peak, 1 off peak; a replica serves 1/s; servers of one slot, for all hours or for the peak."""
    rows = (server("peak"), server("offpeak"))
    offers = (
        Offer("reserved", 0, reserved, 0.0, 0, also_supplies=(1,)),
        Offer("peak only", 0, peak_only, 0.0, 0),
    )
    blocks = [block([p], [[[1.0]]], [[1.0]], packing=p, group=p) for p in (0, 1)]
    return fleet([4.0, 1.0], [colocated(0), colocated(1)], blocks, hardware=rows, offers=offers)


@pytest.mark.parametrize(("reserved", "cost", "servers"), [(10.0, 31.0, {0: 1, 1: 3}), (6.0, 24.0, {0: 4})])
def test_servers_of_all_periods_compete_with_those_of_one(reserved, cost, servers):
    data = two_periods(reserved)
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert (plan.status, plan.objective, plan.servers) == ("optimal", pytest.approx(cost), servers)
    assert relax(data, later()).bound == pytest.approx(cost)


def parked(price, capacity=16.0):
    """A task that parks 10 GB per task/s in modules of 16 GB, or is served at twice the servers without."""
    flows = [colocated(0), replace(colocated(0), name="recompute")]
    boxes = block([0, 1], [[[0.5, 1.0]]], [[1.0]])
    tier = SideLimit("tier", "GB", 0.0, per_module={0: -capacity}, per_flow={(0, 0): 10.0})
    return fleet(
        [4.0], flows, [boxes], offers=(Offer("rent", 0, 3.0, 0.0, 0),), limits=(tier,), modules=(Module("dimm", price),)
    )


@pytest.mark.parametrize(("price", "cost", "modules"), [(1.0, 9.0, {0: 3}), (3.0, 12.0, {})])
def test_modules_are_bought_whole_where_what_they_carry_pays(price, cost, modules):
    """4/s need 2 servers and 40 GB, hence 3 modules: 6 + 3·price; without, 4 servers: 12."""
    plan = solve_fleet(parked(price), gap=0.0, threads=1)
    assert (plan.status, plan.objective, plan.modules) == ("optimal", pytest.approx(cost), modules)


@pytest.mark.parametrize("price", [0.5, 1.0, 2.0, 3.0])
def test_relaxation_prices_modules_by_their_capacity(price):
    """40 GB are 2.5 modules in the relaxation: 6 + 2.5·price, or 12."""
    found = relax(parked(price), later())
    assert found.bound == pytest.approx(min(6.0 + 2.5 * price, 12.0))
    assert found.value == pytest.approx(found.bound)


def test_a_replica_of_two_kinds_takes_slots_of_both():
    """Attention on 1 of 4 slots, experts on 2 of 2: 3 replicas take one server of the first and three of the other."""
    pair = replace(
        block([0], [[[1.0]]], [[1.0]], packing=0, packed=1.0),
        other_packing=np.array([1]),
        other_packed=np.array([2.0]),
    )
    rows = (server("attention", 4), server("experts", 2))
    offers = (Offer("a", 0, 8.0, 0.0, 0), Offer("f", 1, 5.0, 0.0, 0))
    data = fleet(
        [3.0], [colocated(0)], [pair], hardware=rows, offers=offers, packings=(Packing(0, 4), Packing(1, 2))
    )
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert (plan.objective, plan.servers) == (pytest.approx(23.0), {0: 1, 1: 3})
    assert relax(data, later()).bound == pytest.approx(0.75 * 8.0 + 3 * 5.0)
