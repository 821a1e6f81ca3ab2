"""The Pyomo model: families as ARCHITECTURE.md lists them, rows as written by hand, any solver alike."""

import re
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from fleets import block, colocated, fleet, phases, server
from pyomo.contrib.appsi.solvers import Highs
from pyomo.repn import generate_standard_repn

from codesign.candidates.data import Offer, Packing, SideLimit
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel, Penalty

ROOT = Path(__file__).parents[1]


def golden(**options):
    """Two tasks on a pooled colocated column, and a prefill-decode pair for the second, on two boxes."""
    flows = [colocated(0), colocated(1, calls=2.0), *phases(1, 0, calls=2.0)]
    both = block(
        [0, 1],
        [[[0.5, 0.25], [2.0, 0.0]]],
        [[1.0, 4.0]],
        packed=2,
        least=2,
        power=100.0,
        flow_power=[[10.0, 20.0]],
    )
    prefill = block([2], [[[0.1]]], [[0.8]], packing=1, group=1, power=50.0)
    decode = block([3], [[[0.2]]], [[0.5]], packing=1, group=2, power=60.0)
    limits = (
        SideLimit("inventory", "accelerators", 24.0, {0: 4.0, 1: 4.0}),
        SideLimit("budget", "$/h", 50.0, {0: 3.0, 1: 2.5, 2: 1.0}, per_watt={1: 0.002}),
    )
    return fleet(
        [3.0, 1.5],
        flows,
        [both, prefill, decode],
        hardware=(server("four", 4, 500.0, vendor="a"), server("one", 1, 200.0, 0.001, vendor="b")),
        offers=(
            Offer("rent", 0, 3.0, 0.0, 0),
            Offer("reserved", 0, 2.5, 0.0, 3),
            Offer("single", 1, 1.0, 0.0, 0),
        ),
        limits=limits,
        **options,
    )


EVERYTHING = {"max_designs": 2, "max_vendors": 2, "survive_one_server": True, "split_tasks": False}


def families(model):
    return {c.local_name for c in model.component_objects(pyo.Constraint)}


def listed():
    """{family: is it in the relaxation} from the table of ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## The fleet MILP")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `(\w+)`( R)? \| (.+?) \| `(.+?)` \|$", text, flags=re.MULTILINE)
    assert rows
    for formula, name, _, unit, file in rows:
        assert formula.strip(), name
        assert unit.startswith("u per "), name
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"\.{name} = pyo\.Constraint\(", source), f"{name} is not built in {file}"
    return {name: bool(relaxed) for _, name, relaxed, _, _ in rows}


def test_every_family_is_listed_and_every_listed_family_is_built():
    relaxed = FleetModel(golden(), range(3), relaxed=True, penalty=Penalty(1e3, (1e3, 1e3)))
    whole = FleetModel(golden(**EVERYTHING), range(3), relaxed=False)
    table = listed()
    assert families(whole.pyomo) == set(table)
    assert families(relaxed.pyomo) == {name for name, in_relaxation in table.items() if in_relaxation}


def test_every_family_has_its_inequality_in_a_docstring():
    methods = [getattr(FleetModel, name) for name in vars(FleetModel) if name.startswith("_define_")]
    text = "\n".join(method.__doc__ for method in methods)
    for name in listed():
        assert re.search(rf"\b{name}\b", text), name


def rows(constraint):
    """{index: ({variable: coefficient}, lower, upper)} of a family."""
    found = {}
    for index, member in constraint.items():
        form = generate_standard_repn(member.body)
        terms = {v.name: float(c) for v, c in zip(form.linear_vars, form.linear_coefs, strict=True) if c}
        lower, upper = (None if b is None else float(b) for b in (member.lower, member.upper))
        found[index] = (terms, lower, upper)
    return found


# Rates are shares of the 3 calls/s that every flow carries at the most.
GOLDEN = {
    "demand": {
        0: ({"rate[0,0]": 1.0}, 1.0, 1.0),
        1: ({"rate[0,1]": 1.0, "rate[1,0]": 1.0}, 1.0, 1.0),
    },
    "commodity": {0: ({"rate[1,0]": -1.0, "rate[2,0]": 1.0}, 0.0, 0.0)},
    # The second row of column 0 charges half a replica per call/s of one task: the first charges both as much or more.
    "capacity": {
        (0, 0): ({"rate[0,0]": 1.5, "rate[0,1]": 0.75, "replicas[0]": -1.0}, None, 0.0),
        (1, 0): ({"rate[1,0]": 0.375, "replicas[1]": -1.0}, None, 0.0),
        (2, 0): ({"rate[2,0]": 1.2, "replicas[2]": -1.0}, None, 0.0),
    },
    "packing": {
        0: ({"replicas[0]": 2.0, "spares[0]": 2.0, "set_aside[0]": -4.0}, None, 0.0),
        1: (
            {
                "replicas[1]": 1.0, "spares[1]": 1.0, "replicas[2]": 1.0, "spares[2]": 1.0,
                "set_aside[1]": -1.0,
            },
            None,
            0.0,
        ),
    },
    "bought": {
        0: ({"set_aside[0]": 1.0, "servers[0]": -1.0, "servers[1]": -1.0}, None, 0.0),
        1: ({"set_aside[1]": 1.0, "servers[2]": -1.0}, None, 0.0),
    },
    "limit": {
        0: ({"servers[0]": 4 / 24, "servers[1]": 4 / 24}, None, 1.0),
        1: (
            {
                "servers[0]": 0.06, "servers[1]": 0.05, "servers[2]": 0.02, "replicas[1]": 0.002,
                "spares[1]": 0.002, "replicas[2]": 0.0024, "spares[2]": 0.0024,
            },
            None,
            1.0,
        ),
    },
    # Column 0 serves 3 calls/s of task 0 and 3 of task 1: 2.25 replicas: at most 3, and 2 more for pooling.
    "least_servers": {1: ({"taken[1]": 3.0, "servers[1]": -1.0}, None, 0.0)},
    # Column 0 runs 5 replicas at the most and a spare: 12 slots, 3 servers of 4.  The others run 2 and 3 on servers of
    # one slot, and a spare each: 7.
    "most_servers": {1: ({"servers[1]": 1.0, "taken[1]": -3.0}, None, 0.0)},
    "pooled": {0: ({"open[0]": 2.0, "replicas[0]": -1.0}, None, 0.0)},
    "unpooled": {0: ({"replicas[0]": 1.0, "open[0]": -5.0}, None, 0.0)},
    "whole": {
        (0, 0): ({"rate[0,0]": 1.0, "chosen[0,0]": -1.0}, None, 0.0),
        (0, 1): ({"rate[0,1]": 1.0, "chosen[0,1]": -1.0}, None, 0.0),
        (1, 0): ({"rate[1,0]": 1.0, "chosen[1,0]": -1.0}, None, 0.0),
        (2, 0): ({"rate[2,0]": 1.0, "chosen[2,0]": -1.0}, None, 0.0),
    },
    # Prefill completes the calls of a task as colocated pools do; decode is a phase of its own.
    "one_pool": {
        0: ({"chosen[0,0]": 1.0}, None, 1.0),
        1: ({"chosen[0,1]": 1.0, "chosen[1,0]": 1.0}, None, 1.0),
        2: ({"chosen[2,0]": 1.0}, None, 1.0),
    },
    "design": {
        0: ({"replicas[0]": 1.0, "used[0]": -5.0}, None, 0.0),
        1: ({"replicas[1]": 1.0, "used[1]": -2.0}, None, 0.0),
        2: ({"replicas[2]": 1.0, "used[2]": -3.0}, None, 0.0),
    },
    "designs": {0: ({"used[0]": 1.0, "used[1]": 1.0, "used[2]": 1.0}, None, 2.0)},
    "spare": {
        0: ({"used[0]": 1.0, "small[0]": -1.0, "spares[0]": -1.0}, None, 0.0),
        1: ({"used[1]": 1.0, "small[1]": -1.0, "spares[1]": -1.0}, None, 0.0),
        2: ({"used[2]": 1.0, "small[2]": -1.0, "spares[2]": -1.0}, None, 0.0),
    },
    "small_pool": {
        0: ({"replicas[0]": 1.0, "spares[0]": -1.0, "small[0]": 5.0}, None, 5.0),
        1: ({"replicas[1]": 1.0, "spares[1]": -1.0, "small[1]": 2.0}, None, 2.0),
        2: ({"replicas[2]": 1.0, "spares[2]": -1.0, "small[2]": 3.0}, None, 3.0),
    },
    # Six servers of four slots at most; spares take the 2 slots of a replica at the least.
    "spread": {
        (0, 0): ({"used[0]": 2.0, "set_aside[0]": -1.0}, None, 0.0),
        (1, 1): ({"used[1]": 2.0, "set_aside[1]": -1.0}, None, 0.0),
        (1, 2): ({"used[2]": 2.0, "set_aside[1]": -1.0}, None, 0.0),
    },
    "reserve": {
        0: ({"replicas[0]": 1 / 5, "spares[0]": -1.0}, None, 0.0),
        1: ({"replicas[1]": 1 / 2, "spares[1]": -1.0}, None, 0.0),
        2: ({"replicas[2]": 1 / 3, "spares[2]": -1.0}, None, 0.0),
    },
    "usable": {
        0: ({"replicas[0]": 2.0, "set_aside[0]": -22 / 6}, None, 0.0),
        1: ({"replicas[1]": 1.0, "replicas[2]": 1.0, "set_aside[1]": -49 / 50}, None, 0.0),
    },
    "vendor": {
        (0, "a"): ({"servers[0]": 1.0, "trusted[a]": -3.0}, None, 0.0),
        (1, "a"): ({"servers[1]": 1.0, "trusted[a]": -3.0}, None, 0.0),
        (2, "b"): ({"servers[2]": 1.0, "trusted[b]": -7.0}, None, 0.0),
    },
    "vendors": {None: ({"trusted[a]": 1.0, "trusted[b]": 1.0}, None, 2.0)},
}  # fmt: skip


def test_rows_are_those_written_by_hand():
    assert GOLDEN.keys() == listed().keys()
    model = FleetModel(golden(**EVERYTHING), range(3), relaxed=False).pyomo
    for name, expected in GOLDEN.items():
        found = rows(model.component(name))
        assert found.keys() == expected.keys(), name
        for index, (terms, lower, upper) in expected.items():
            assert found[index][0] == pytest.approx(terms), (name, index)
            assert found[index][1:] == (lower, upper), (name, index)


def test_objective_is_the_one_written_by_hand():
    model = FleetModel(golden(), range(3), relaxed=True).pyomo
    form = generate_standard_repn(model.cost.expr)
    found = {v.name: c for v, c in zip(form.linear_vars, form.linear_coefs, strict=True) if c}
    # Power is paid beside the single boxes alone: 0.001 $/Wh of 50 and 60 W.
    assert found == pytest.approx(
        {"servers[0]": 3.0, "servers[1]": 2.5, "servers[2]": 1.0, "replicas[1]": 0.05, "replicas[2]": 0.06}
    )


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("options", [{}, EVERYTHING, {"split_tasks": False}, {"survive_one_server": True}])
def test_the_stock_interface_finds_the_same(relaxed, options):
    data = golden(**options)
    model = FleetModel(data, range(3), relaxed=relaxed).pyomo
    own = CompiledModel(model).run(gap=0.0)
    solver = Highs()
    solver.config.load_solution = False
    solver.highs_options = {"mip_rel_gap": 0.0}
    stock = solver.solve(FleetModel(data, range(3), relaxed=relaxed).pyomo)
    assert own.objective == pytest.approx(stock.best_feasible_objective, rel=1e-7)


def test_duals_price_what_they_say():
    """Strong duality of the relaxation: its value is what demand earns less what limits cost."""
    data = golden()
    outcome = CompiledModel(FleetModel(data, range(3), relaxed=True).pyomo).run()
    earned = float(np.sum(outcome.duals["demand"])) - float(np.sum(outcome.duals["limit"]))
    assert earned == pytest.approx(outcome.objective, rel=1e-9)


def whole_counts(model):
    return {v.name for v in model.component_data_objects(pyo.Var) if not v.is_continuous()}


def test_counts_that_others_make_whole_are_not_branched_on():
    flows = [colocated(0)]
    filling = block([0], [[[1.0]]], [[1.0]], packed=2)
    box = (server(accelerators=2, electricity=0.001),)
    watts = SideLimit("watts", "W", 9.0, per_watt={0: 1.0})
    per_group = SideLimit("replicas", "", 9.0, per_group={0: 1.0})

    def whole(columns, **options):
        data = fleet([1.0], flows, columns, hardware=box, **options)
        return whole_counts(FleetModel(data, range(data.columns), relaxed=False).pyomo) - {"spares[0]"}

    powered = block([0], [[[1.0]]], [[1.0]], packed=2, power=10.0)
    half = block([0], [[[1.0]]], [[1.0]], packed=1)
    pooled = block([0], [[[1.0]]], [[1.0]], packed=2, least=2)
    assert whole([filling]) == {"servers[0]"}
    assert whole([powered], limits=[watts]) == {"servers[0]", "replicas[0]"}
    assert whole([powered]) == {"servers[0]", "replicas[0]"}  # each replica pays for its power
    assert whole([filling], limits=[per_group]) == {"servers[0]", "replicas[0]"}
    assert whole([half]) == {"servers[0]", "replicas[0]"}
    assert whole([pooled]) == {"servers[0]", "replicas[0]", "open[0]"}
    assert whole([filling], survive_one_server=True) >= {"servers[0]", "replicas[0]"}
    two = (Packing(0, 2), Packing(0, 1))  # servers must be split between two packings
    assert whole([filling], packings=two) >= {"servers[0]", "set_aside[0]", "replicas[0]"}


def test_replicas_that_fill_their_servers_are_read_whole():
    data = fleet([2.3], [colocated(0)], [block([0], [[[1.0]]], [[1.0]])])
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert plan.servers == plan.replicas == {0: 3}
    assert sum(plan.rates.values()) == pytest.approx(2.3)
