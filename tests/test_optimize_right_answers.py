"""Fleets whose right answer is known by counting, and which were answered otherwise: as optimal, infeasible or a bound.

Comments say what the answer was before.
"""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from fleets import block, brute_force, colocated, fleet, server
from random_fleets import random_fleet

from codesign import check, solve
from codesign.candidates.data import Group, Module, Offer, Packing, SideLimit
from codesign.check.fits import fits
from codesign.optimize import fleet as search
from codesign.optimize.duals import Duals, Gains, server_prices
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.lean import Held
from codesign.optimize.model import FleetModel
from codesign.optimize.most import most_of_all
from codesign.optimize.pricer import lower_bound
from codesign.problem import Problem


@pytest.fixture(params=["at once", "by branching"])
def way(request, monkeypatch):
    """Both ways of the search: a MILP over all columns, and column generation with branching."""
    if request.param == "by branching":
        monkeypatch.setattr(search, "_SMALL", 0)


def answered(data):
    """The optimum of a problem, proven and judged row by row."""
    plan = solve_fleet(data, gap=0.0, time_limit=20.0, threads=1)
    assert plan.status == "optimal"
    assert plan.bound == pytest.approx(plan.objective, rel=1e-6)
    assert not fits(data, plan)
    return plan


def box(demand, price, limits=(), least=0, modules=(), **options):
    """A task on one kind of server that serves 1/s."""
    return fleet(
        [demand],
        [colocated(0)],
        [block([0], [[[1.0]]], [[1.0]])],
        offers=(Offer("rent", 0, price, 0.0, least),),
        limits=limits,
        modules=modules,
        **options,
    )


# ---- second packings, negative coefficients and limits, chains ---------------------------------------------------


@pytest.mark.usefixtures("way")
def test_a_replica_whose_second_packing_is_shared_is_whole():
    """1.6/s take two replicas of one 10 $ server and 5 of 8 slots each: 10 slots, hence two servers of 100 $.

    Before: "optimal" 120, with 1.6 replicas in the 8 slots of one server, since the first packing was theirs alone.
    """
    pair = replace(
        block([0], [[[1.0]]], [[1.0]], packing=0),
        other_packing=np.array([1]),
        other_packed=np.array([5.0]),
    )
    data = fleet(
        [1.6],
        [colocated(0)],
        [pair],
        hardware=(server("attention"), server("experts", 8)),
        offers=(Offer("a", 0, 10.0, 0.0, 0), Offer("e", 1, 100.0, 0.0, 0)),
    )
    counts = range(1, 5)
    enumerated = min(10 * n + 100 * math.ceil(5 * n / 8) for n in counts if n >= 1.6)
    plan = answered(data)
    assert (plan.objective, plan.servers) == (pytest.approx(220.0), {0: 2, 1: 2})
    assert enumerated == 220


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("least", "options"), [(0, {"max_vendors": 1}), (2, {})])
def test_servers_bought_for_the_memory_that_stands_in_them(least, options):
    """1/s parks 20 GB, and a server of 10 $ brings one: 19 servers more than what runs stands in.

    Before: infeasible, since no more servers could be bought than replicas fill.
    """
    memory = SideLimit("memory", "GB", 0.0, {0: -1.0}, per_flow={(0, -1): 20.0})
    plan = answered(box(1.0, 10.0, (memory,), least, **options))
    assert (plan.objective, plan.servers) == (pytest.approx(200.0), {0: 20})


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("options", [{"max_vendors": 1}, {}])
def test_servers_kept_beside_a_limit_on_vendors(options):
    """A limit keeps 7 servers of 2 $ where one is needed.  Before: infeasible with the limit on vendors."""
    kept = SideLimit("kept", "servers", -7.0, {0: -1.0})
    plan = answered(box(1.0, 2.0, (kept,), **options))
    assert (plan.objective, plan.servers) == (pytest.approx(14.0), {0: 7})


def chain():
    """1/s on a server of 1 $ parks 1 GB in a module of 0.5 $, which takes a place that another of 0.5 $ gives."""
    memory = SideLimit("memory", "GB", 0.0, per_module={0: -1.0}, per_flow={(0, -1): 1.0})
    places = SideLimit("places", "", 0.0, per_module={0: 1.0, 1: -1.0})
    modules = (Module("memory", 0.5), Module("board", 0.5))
    return box(1.0, 1.0, (memory, places), modules=modules)


def test_a_bound_from_any_duals_of_a_chain_of_modules():
    """Places at 4.5 pay a board of 0.5 nine times over; once they are priced down, so is the memory that pays for them.

    Before: memory kept its price of 5, and the bound was 6 where the relaxation, and the plan, is 2.
    """
    data = chain()
    relaxed = CompiledModel(FleetModel(data, range(1), relaxed=True).pyomo).run().objective
    assert relaxed == pytest.approx(2.0)
    duals = replace(Duals.none(data), demand=np.array([6.0]), limit=np.array([5.0, 4.5]))
    assert lower_bound(data, duals)[0] <= relaxed * (1 + 1e-9)
    draw = np.random.default_rng(1)
    for size in (0.1, 1.0, 10.0, 1e6):
        duals = replace(duals, demand=size * draw.random(1), limit=size * draw.random(2))
        assert 0 <= lower_bound(data, duals)[0] <= relaxed * (1 + 1e-9)


@pytest.mark.usefixtures("way")
def test_a_chain_of_modules_costs_all_its_links():
    plan = answered(chain())
    assert (plan.objective, plan.modules) == (pytest.approx(2.0), {0: 1, 1: 1})


@pytest.mark.usefixtures("way")
def test_a_column_whose_limit_is_negative_runs_nothing():
    """No replica of the first column can run, and the second costs 80 $.  Before: "optimal" 0, calls on no replica."""
    columns = block([0], [[[1.0]], [[1.0]]], [[-1.0], [1.0]], group=[0, 1])
    data = fleet([1.0], [colocated(0)], [columns], offers=(Offer("rent", 0, 80.0, 0.0, 0),))
    plan = answered(data)
    assert (plan.objective, plan.replicas) == (pytest.approx(80.0), {1: 1})


# ---- rates and prices of any size --------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
def test_a_limit_below_zero_on_what_no_call_takes_lets_nothing_run():
    """Before: the first column ran, its row having no calls in it."""
    columns = block([0], [[[0.5], [0.0]], [[1.0], [0.0]]], [[1.0, -1.0], [1.0, 1.0]], group=[0, 1])
    data = fleet([1.6], [colocated(0)], [columns], offers=(Offer("rent", 0, 80.0, 0.0, 0),))
    assert answered(data).replicas == {1: 2}


def three_pools(sizes=(1.0, 1.0)):
    """Two tasks on three pools; calls of each task `sizes` times as many and as light."""
    first, second = sizes
    use = np.array([[[1.0, 0.7]], [[0.4, 2.0]], [[2.5, 0.3]]]) / np.array([first, second])
    columns = block([0, 1], use, [[1.0]] * 3, packing=[0, 1, 2], group=[0, 1, 2])
    return fleet(
        [2.6 * first, 3.3 * second],
        [colocated(0), colocated(1)],
        [columns],
        hardware=tuple(server(f"box{h}") for h in range(3)),
        offers=tuple(Offer(f"rent{h}", h, price, 0.0, 0) for h, price in enumerate((1.9, 1.7, 1.6))),
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("sizes", [(1e-9, 1e-9), (1e6, 1e6), (1e-9, 1e6), (1e6, 1e-9)])
def test_rates_of_any_size_cost_what_those_of_one_do(sizes):
    """From 1e-9/s to 1e6/s.  Before: up to 37 million times too dear."""
    by_hand = three_pools()
    expected = brute_force(by_hand)
    assert answered(by_hand).objective == pytest.approx(expected)
    assert answered(three_pools(sizes)).objective == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("least", [1e-4, 1.0])
def test_prices_over_nine_orders(least):
    """3/s by servers that do 1/s for 1 or 2/s for 1.5, beside one that does all for a billion times as much.

    Before: three of the first for 3, "optimal", since beside the dearest offer what the cheap ones cost was rounding.
    """
    columns = [block([0], [[[1.0]]], [[rate]], packing=p, group=p) for p, rate in enumerate((1.0, 2.0, 9.0))]
    prices = (least, 1.5 * least, 1e9 * least)
    data = fleet(
        [3.0],
        [colocated(0)],
        columns,
        hardware=tuple(server(f"box{h}") for h in range(3)),
        offers=tuple(Offer(f"rent{h}", h, price, 0.0, 0) for h, price in enumerate(prices)),
    )
    plan = answered(data)
    assert (plan.objective, plan.servers) == (pytest.approx(2.5 * least), {0: 1, 1: 1})


@pytest.mark.usefixtures("way")
def test_nothing_idle_is_taken_where_it_is_free():
    """2.5/s take three servers.  Before: nine, all that were in stock."""
    stock = SideLimit("stock", "servers", 9.0, {0: 1.0})
    data = replace(box(2.5, 0.0, (stock,), modules=(Module("free", 0.0),)), groups=(Group("g", 0, 1),))
    plan = answered(data)
    assert (plan.objective, plan.servers, plan.replicas, plan.modules) == (0.0, {0: 3}, {0: 3}, {})


# ---- what a stopped search may say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "kind"),
    [(27, "measured pools"), (201, "measured pools"), (405, "measured pools, nine orders")],
)
@pytest.mark.parametrize("seconds", [0.0, 1e-3])
def test_bounds_are_never_below_nothing(seed, kind, seconds, monkeypatch):
    """Limits that the first columns exceed, at a price: before, a search stopped there claimed at least -9,653."""
    data = random_fleet(seed, kind)
    optimum = solve_fleet(data, gap=0.0, threads=1).objective
    monkeypatch.setattr(search, "_SMALL", 0)
    plan = solve_fleet(data, gap=0.0, time_limit=seconds, threads=1)
    assert plan.status in ("optimal", "feasible", "infeasible", "no_solution")
    assert 0.0 <= plan.bound <= optimum * (1 + 1e-9)


def test_no_solution_is_no_plan_and_a_bound(monkeypatch):
    """Interrupted before the first plan: nothing is claimed but what is proven."""
    monkeypatch.setattr(search, "_SMALL", 0)
    stopped = threading.Event()
    stopped.set()
    data = three_pools()
    plan = solve_fleet(data, gap=0.0, threads=1, cancel=stopped)
    assert plan.status == "no_solution"
    assert (plan.objective, plan.replicas, plan.servers, plan.rates) == (math.inf, {}, {}, {})
    assert 0.0 <= plan.bound <= brute_force(data)


# ---- the same in problem files ----------------------------------------------------------------------------------


def pools(name, tasks, pools, **rest):
    """Measured pools {name: (accelerator, how many, $/h, {task: rate})} of a problem at gap 0."""
    return Problem.from_dict(
        {
            "name": name,
            "tasks": [{"name": task, "rate": f"{rate}/s"} for task, rate in tasks.items()],
            "measured_pools": [
                {
                    "name": pool,
                    "accelerator": accelerator,
                    "accelerators_per_replica": count,
                    "cost": f"{cost} $/h",
                    "max_rate": {task: f"{rate}/s" for task, rate in rates.items()},
                }
                | more
                for pool, (accelerator, count, cost, rates, more) in pools.items()
            ],
            "options": {"gap": 0, "threads": 1},
            **rest,
        }
    )


TINY = pools(
    "tiny",
    {"t0": 1.8e-6, "t1": 7.4e-7, "t2": 6e-7},
    {
        "p0": ("C", 4, 0.56, {"t0": 1.1e-6, "t1": 4.2e-7}, {}),
        "p1": ("B", 2, 0.64, {"t0": 8.7e-6, "t1": 3.3e-6, "t2": 1.6e-6}, {}),
        "p2": ("A", 2, 10, {"t2": 4.5e-6}, {}),
    },
)
HUGE = pools(
    "huge",
    {"t0": 4.5e6, "t1": 4.8e6, "t2": 1.7e6},
    {
        "p0": ("A", 2, 5, {"t0": 6.8e6, "t2": 3.4e6}, {}),
        "p2": ("C", 2, 15, {"t1": 2.6e6}, {}),
        "p3": ("A", 2, 0.23, {"t0": 0.4e6, "t2": 1.5e6}, {}),
    },
    limits={"inventory": {"A": 6, "C": 21}},
)
IDLE = pools(
    "idle",
    {"t0": 5.3},
    {
        "p1": ("B", 2, 0, {"t0": 5.4}, {"power": "0 W"}),
        "p3": ("A", 2, 0, {"t0": 0.44}, {"power": "1800 W"}),
        "p4": ("C", 1, 0, {"t0": 0.89}, {"power": "4500 W"}),
    },
    limits={"inventory": {"A": 28, "B": 15, "C": 6}},
)


@pytest.mark.parametrize(
    ("problem", "cost", "bought"),
    [
        (TINY, 0.64, {"p1": 1}),  # before: infeasible with HiGHS 1.15
        (HUGE, 35.23, {"p0": 1, "p2": 2, "p3": 1}),  # before: 40.00, "optimal", with HiGHS 1.15
        (IDLE, 0.0, {"p1": 1}),  # before: 27 servers, 20 of them idle
        (IDLE.replace({"objective": "power"}), 0.0, {"p1": 1}),
    ],
    ids=["tiny", "huge", "idle", "idle, least power"],
)
def test_measured_pools(problem, cost, bought):
    found = solve(problem)
    assert (found.status, found.objective.value) == ("optimal", pytest.approx(cost))
    assert {pool.pool: pool.replicas for pool in found.fleet} == bought
    report = check(problem, found)
    assert report.ok, report.violations


@pytest.mark.parametrize("limits", [{"vendors": 1}, {}])
def test_thousands_of_servers_kept(limits):
    """3,000 servers of 8 at 1 $ for each accelerator.  Before: infeasible beside a limit on vendors."""
    problem = Problem.from_dict(
        {
            "kind": "procurement",
            "models": {"m": {"card": "Llama-3.1-70B", "weights": ["fp8"], "kv": ["fp8"]}},
            "tasks": [{"name": "a", "rate": "0.1/s", "models": ["m"], "calls": 1, "context": 2000, "output": 100}],
            "hardware": {"h200": {"accelerator": "h200-sxm", "price": "3 $/h"}},
            "existing": [{"hardware": "h200", "servers": 3000, "price": "1 $/h", "includes_power": True}],
            "limits": {"churn": {"servers": "0%"}} | limits,
            "options": {"max_replica_accelerators": 1, "disaggregation": "never", "gap": "1%", "time_limit": "20 s"},
        }
    )
    found = solve(problem)
    assert (found.status, found.objective.value) == ("optimal", pytest.approx(24_000.0))
    report = check(problem, found)
    assert report.ok, report.violations


# ---- at the edge of tolerances -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
def test_a_count_that_misses_its_row_by_half_a_tolerance_is_one_too_few():
    """3.00000057 modules are 4, and each takes a place in a server.  Before: infeasible, HiGHS having fixed 3."""
    kept = SideLimit("kept", "servers", -2.0, {0: -1.0})
    places = SideLimit("places", "modules", 0.0, {0: -1.0}, per_module={0: 1.0})
    memory = SideLimit("memory", "B", -0.05707895585150897, per_packing={0: 2.0}, per_module={0: -1.0},
                       per_flow={(0, -1): 0.9429216149323418})  # fmt: skip
    plan = answered(box(1.0, 0.5, (kept, places, memory), modules=(Module("module", 0.15),)))
    assert (plan.objective, plan.servers, plan.modules) == (pytest.approx(2.6), {0: 4}, {0: 4})


@pytest.mark.usefixtures("way")
def test_little_of_something_cheap_asks_for_something_dear():
    """A module takes a third of a board of 0.006 $, which takes a ninth of a rack of 30,000 $.

    Before: not proven, the bound without the rack: a third of a board is a ten-millionth of a plan.
    """
    limits = (
        SideLimit("memory", "B", 0.0, per_module={0: -2e12}, per_flow={(0, -1): 1e21}),
        SideLimit("boards", "", 0.0, per_module={0: 1.0, 1: -3.0}),
        SideLimit("racks", "", 0.0, per_module={1: 1.0, 2: -3.0}),
    )
    modules = (Module("module", 6.0), Module("board", 0.006, whole=False), Module("rack", 30_000.0))
    plan = answered(box(2e-9, 10_000.0, limits, modules=modules))
    assert plan.objective == pytest.approx(40_006.002)
    assert plan.modules == {0: 1, 2: 1}


@pytest.mark.usefixtures("way")
def test_too_little_of_something_cheap_is_infeasible():
    """1.2 B/s in memory of 0.9 B/s at most.  Before: no answer, what is missed being a ten-millionth of a plan."""
    memory = SideLimit("memory", "B/s", 0.0, per_module={0: -0.9}, per_flow={(0, -1): 2e8})
    most = SideLimit("modules", "", 1.0, per_module={0: 1.0})
    data = box(6e-9, 70_000.0, (memory, most), modules=(Module("module", 0.001, whole=False),))
    assert solve_fleet(data, gap=0.0, time_limit=20.0, threads=1).status == "infeasible"


@pytest.mark.usefixtures("way")
def test_nothing_idle_is_run_where_only_calls_draw_power():
    """Calls draw 6.3 W in one pool, 13 and 33 in another.  Before: one replica of the other, which served nothing."""
    first = block([0, 1], [[[1.2, 0.27]]], [[0.94]], packing=1, flow_power=[[13.0, 33.0]])
    second = block([0, 1], [[[1.7, 0.39]]], [[1.0]], packing=0, group=1, least=2, flow_power=[[0.0, 6.3]])
    data = fleet(
        [1.0, 1.7],
        [colocated(0), colocated(1)],
        [first, second],
        hardware=(server("box0", 1, 1000.0), server("box1", 8, 1000.0)),
        offers=(Offer("rent0", 0, 0.75, 0.0, 0), Offer("rent1", 1, 28.0, 0.0, 0)),
        groups=(Group("g0", 1, 2), Group("g1", 0, 1)),
        usd_weight=0.0,
        watt_weight=0.01,
    )
    plan = answered(data)
    assert (plan.replicas, plan.servers) == ({1: 3}, {0: 3})


def test_a_pool_that_offers_none_of_what_a_call_takes():
    """How many of it a plan can have use for is no number.  Before: 1.8e308, which no row of a program can hold."""
    pool = block([0, 1], [[[1.0, 0.0], [0.5, 1.0]]], [[1.0, 0.0]])
    other = block([0, 1], [[[1.0, 1.0]]], [[1.0]], group=1)
    data = fleet([1.0, 1.0], [colocated(0), colocated(1)], [pool, other], offers=(Offer("rent", 0, 2.0, 0.0, 0),))
    assert most_of_all(data).set_aside[0] == math.inf
    assert answered(data).servers == {0: 2}


def test_rounding_is_no_price():
    """Before: a row of no price had 2e-21 of one, which where nothing else has a price was the size of a plan."""
    data = fleet(
        [1.0],
        [colocated(0)],
        [block([0], [[[1.0]]], [[1.0]])],
        hardware=tuple(server(f"box{h}") for h in range(3)),
        offers=(Offer("unit", 0, 1e-5, 0.0, 0, also_supplies=(1, 2)), Offer("own", 1, 1e-5 * 0.4, 0.0, 0)),
    )
    split = replace(Duals.none(data), bought=1e-5 * np.array([0.4, 0.2, 0.0]))
    assert server_prices(data, split)[2] == 0.0


def test_a_share_that_is_rounding_uses_nothing():
    """Before: 5e-32 of a flow kept a replica that served nothing else."""
    first = block([0, 1], [[[0.5, 0.5]]], [[1.0]])
    second = block([0, 1], [[[0.4, 0.4]]], [[1.0]], group=1)
    data = fleet([1.0, 1.0], [colocated(0), colocated(1)], [first, second], hardware=(server("box", 2),))
    model = FleetModel(data, range(2), relaxed=False)
    m = model.pyomo
    values = {id(m.servers[0]): 1.0, id(m.set_aside[0]): 1.0, id(m.replicas[0]): 1.0, id(m.replicas[1]): 1.0}
    served = {id(m.rate[1, 0]): 1.0, id(m.rate[1, 1]): 1.0}
    assert Held(model.data, model, {**values, **served, id(m.rate[0, 0]): 5e-32}).idle()
    assert not Held(model.data, model, {**values, id(m.rate[0, 0]): 1.0, id(m.rate[1, 1]): 1.0}).idle()


@pytest.mark.usefixtures("way")
def test_half_a_million_replicas_beside_a_million_that_cost_little():
    """528,092 replicas of 88,829 $ serve, and 1,056,187 of 2.48 $ make up a floor; each pool has a spare.

    Before: "optimal" with 29 more of the dear ones, a point that HiGHS's postsolve had made dearer than its bound.
    """
    serving = block([0], [[[238.15708765189063]], [[0.0]]], [[1.0], [1.0]], packing=[0, 1], packed=[1.0, 8.0],
                    group=[0, 1])  # fmt: skip
    data = fleet(
        [2217.40620175],
        [colocated(0)],
        [serving],
        hardware=(server("dear", 1), server("cheap", 8)),
        offers=(Offer("dear", 0, 88828.79499376194, 0.0, 0), Offer("cheap", 1, 2.4831376168291746, 0.0, 0)),
        limits=(SideLimit("least run", "replicas", -1584279.0, per_group={0: -1.0, 1: -1.0}),),
        survive_one_server=True,
    )
    plan = answered(data)
    assert plan.replicas == {0: 528_092, 1: 1_056_187}
    assert plan.servers == {0: 528_093, 1: 1_056_188}


def test_a_share_that_is_rounding_fills_no_memory():
    """Before: memory for 5e-32 of a flow was bought, and a plan that costs nothing cost 1e-31."""
    memory = SideLimit("memory", "B", 0.0, per_module={0: -9e11}, per_flow={(0, -1): 4.5e11})
    data = box(1.0, 0.0, (memory,), modules=(Module("memory", 0.52, whole=False),))
    model = FleetModel(data, range(1), relaxed=False)
    assert Held(model.data, model, {id(model.pyomo.rate[0, 0]): 5e-32}).exact_amounts() == {0: 0.0}
    assert Held(model.data, model, {id(model.pyomo.rate[0, 0]): 1.0}).exact_amounts() == {0: pytest.approx(0.5)}


def test_what_a_place_in_the_search_asks_for_is_idle():
    """Before: two replicas, since the branch in which the plan was found had at least two of them."""
    data = box(1.0, 1.0)
    branch = SideLimit("group 0", "", -2.0, per_group={0: -1.0})
    model = FleetModel(data.with_limits([branch]), range(1), relaxed=False)
    m = model.pyomo
    values = {id(m.rate[0, 0]): 1.0, id(m.replicas[0]): 2.0, id(m.servers[0]): 2.0, id(m.set_aside[0]): 2.0}
    assert Held(data, model, values).idle()


@pytest.mark.usefixtures("way")
def test_what_a_limit_asks_for_and_nothing_else_has_a_price():
    """Nine servers of two kinds; one costs nothing.  Before: four of the other, 8e-9 $/h being no money."""
    limit = SideLimit("least bought", "servers", -9.0, {0: -2.0, 1: -1.0})
    data = fleet(
        [1.0], [colocated(0)], [block([0], [[[1.0]]], [[1.0]], packing=1)],
        hardware=(server("dear"), server("free", 3)), limits=(limit,),
        offers=(Offer("dear", 0, 2e-9, 0.0, 0), Offer("free", 1, 0.0, 0.0, 0)),
    )  # fmt: skip
    plan = answered(data)
    assert (plan.objective, plan.servers) == (0.0, {1: 9})


@pytest.mark.usefixtures("way")
def test_an_amount_that_a_limit_holds_to_little():
    """8 modules in 3 trays in 0.75 m of racks, of 5 m that there are, at 0.02 $/m beside servers of 10,000 $.

    Before: infeasible, 5 m being a millionth of what a plan could buy, and less than a tolerance.
    """
    limits = (
        SideLimit("memory", "B", 0.0, per_packing={0: 9e11}, per_module={0: -2e12}),
        SideLimit("trays", "", 0.0, per_module={0: 1.0, 1: -3.0}),
        SideLimit("racks", "", 0.0, per_module={1: 1.0, 2: -4.0}),
        SideLimit("room", "m", 5.0, per_module={2: 1.0}),
    )
    modules = (Module("module", 0.0), Module("tray", 0.0), Module("rack", 0.02, whole=False))
    plan = answered(box(17.0, 10_000.0, limits, modules=modules))
    assert plan.objective == pytest.approx(170_000.0 + 0.75 * 0.02)
    assert plan.amounts == {2: pytest.approx(0.75)}


@pytest.mark.usefixtures("way")
def test_of_plans_that_cost_nothing_the_one_of_the_fewest_replicas():
    """Two and one fill their servers, where two and two would too.  Before: the latter, parts of them being fewer."""
    columns = block([0, 1], [[[1.2, 1.6]], [[0.8, 0.96]]], [[1.0], [1.0]], packing=[0, 1], packed=[1.0, 2.0],
                    group=[0, 1])  # fmt: skip
    data = fleet(
        [1.5, 1.0], [colocated(0), colocated(1)], [columns], hardware=(server("a"), server("b", 2)), usd_weight=0.0,
        limits=(
            SideLimit("region", "share", 0.0, per_flow={(1, 1): 1.0}),
            SideLimit("kept", "servers", -2.0, {1: -1.0}),
        ),
    )  # fmt: skip
    plan = answered(data)
    assert (plan.replicas, plan.servers) == ({0: 2, 1: 1}, {0: 2, 1: 2})


@pytest.mark.usefixtures("way")
def test_places_for_amounts_that_are_parts():
    """0.5 of a tray, of 0.8 that there is room for, takes 8 servers.  Before: infeasible, 0.8 trays being none."""
    limits = (
        SideLimit("memory", "B", 0.0, per_module={0: -2.0}, per_flow={(0, -1): 1.0}),
        SideLimit("places", "", 0.0, {0: -1.0}, per_module={0: 16.0}),
        SideLimit("room", "", 0.8, per_module={0: 1.0}),
    )
    plan = answered(box(1.0, 3.0, limits, least=2, modules=(Module("tray", 0.1, whole=False),)))
    assert (plan.objective, plan.servers) == (pytest.approx(24.05), {0: 8})


@pytest.mark.usefixtures("way")
def test_a_plan_far_cheaper_than_it_seemed():
    """56 servers that are there already bring the memory that modules of 0.1 $ would; power adds 2.6e-7 $ of risk.

    Before: not proven, beside modules of 5 $ in all the risk being rounding.
    """
    data = fleet(
        [0.7, 0.2],
        [colocated(0), colocated(1)],
        [block([0], [[[2.0]]], [[1.0]], packed=4.0), block([1], [[[2.0]]], [[1.0]], packing=1, group=1, power=400.0)],
        hardware=(server("day", 2), server("night", 2)),
        packings=(Packing(0, 2, {0: 8.0}), Packing(1, 2, {0: 8.0})),
        offers=(Offer("rent", 0, 5.0, 0.0, 0, (1,)), Offer("there", 0, 0.0, 0.0, 0, (1,))),
        modules=(Module("memory", 0.1), Module("risk", 0.8, whole=False)),
        limits=(
            SideLimit("memory", "B", 0.0, {1: -0.5}, per_packing={0: 7.0}, per_module={0: -0.9}),
            SideLimit("risk", "", 0.0, {0: 1.0}, per_watt={1: 8e-10}, per_module={1: -1.0}),
        ),
    )
    plan = answered(data)
    assert plan.objective == pytest.approx(0.8 * 400 * 8e-10)
    assert plan.servers == {1: 56}


@pytest.mark.usefixtures("way")
def test_a_quarter_of_a_million_servers_and_the_watts_of_a_million_replicas():
    """236,236 servers are to be bought; 880,541 replicas of 400 W would run beside them, 944,944 of 100 W in them.

    Before: "optimal" with the 64,403 replicas at 0.1 $ too many, each of which was less than a tolerance.
    """
    columns = block([0], [[[944943.8447442028]], [[220135.27484496922]]], [[1.0], [1.0]], packing=[0, 1], group=[0, 1],
                    power=[100.0, 400.0])  # fmt: skip
    data = fleet(
        [1.0],
        [colocated(0)],
        [columns],
        hardware=(server("box0", 4, electricity=0.001), server("box1", 2, electricity=0.001)),
        offers=(Offer("rent0", 0, 1616.4093186965536, 0.0, 0), Offer("rent1", 1, 0.0003024027269035456, 0.0, 0)),
        limits=(SideLimit("least bought", "servers", -236236.0, {0: -1.0}),),
    )
    plan = answered(data)
    alone = 236236 * 1616.4093186965536 + 0.4 * 220136 + 110068 * 0.0003024027269035456
    assert plan.objective <= alone * (1 + 1e-9)


def test_slots_of_hardware_that_nobody_offers_have_no_part_in_gains():
    """Before: none of them at an infinite price was no number, and a warning."""
    data = fleet(
        [1.0],
        [colocated(0)],
        [block([0], [[[1.0]], [[1.0]]], [[1.0], [1.0]], packing=[0, 1], group=[0, 1])],
        hardware=(server("offered"), server("not offered")),
        offers=(Offer("rent", 0, 1.0, 0.0, 0),),
    )
    own = replace(data.blocks[0], flow_slots=np.zeros((2, 1)))
    gains = Gains(data, replace(Duals.none(data), demand=np.ones(1))).of(own, slice(None))
    assert gains == pytest.approx(np.ones((2, 1)))
