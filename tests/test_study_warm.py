"""Solving again from plans nearby: less work for the same answer, and no answer that depends on what went before."""

from dataclasses import replace

import numpy as np
import pytest
from fleets import NARROW, any_fleets
from hypothesis import given, settings
from studies import modelled, problem
from test_memory_tiers import DDR5, task
from test_memory_tiers import problem as tiers
from test_optimize_brute_force import QUIET

from codesign import solve, sweep
from codesign.candidates.build import build_candidates, resold, unpriced
from codesign.candidates.data import SideLimit
from codesign.candidates.objectives import minimising
from codesign.check import check
from codesign.optimize.fleet import FleetSolver, Start, solve_fleet
from codesign.problem import resolve
from codesign.study.jobs import Job, Memory, run_job

DEAR = {"hardware.h100.price": "9 $/h", "site.power": "200 kW", "limits.inventory": {"h100": 40}}


def test_other_prices_are_the_same_columns():
    cheap, dear = (resolve(modelled(**changes)) for changes in ({}, {"site": {"power": "200 kW", "pue": 1.4}}))
    dear = replace(dear, hardware=resolve(modelled().replace(DEAR)).hardware)
    assert unpriced(cheap) == unpriced(dear)
    assert unpriced(resolve(modelled().replace({"tasks.chat.rate": "7/s"}))) != unpriced(cheap)
    assert unpriced(resolve(modelled().replace({"hardware.h100.server.accelerators": 4}))) != unpriced(cheap)
    first = build_candidates(cheap)
    again, anew = resold(first, dear), build_candidates(dear)
    assert all(mine is theirs for mine, theirs in zip(again.data.blocks, first.data.blocks, strict=True))
    for field in ("offers", "hardware", "limits", "modules", "usd_weight", "watt_weight", "pue", "packings", "groups"):
        assert getattr(again.data, field) == getattr(anew.data, field), field
    plans = [solve_fleet(data, gap=0.0, threads=1) for data in (again.data, anew.data)]
    assert plans[0].objective == plans[1].objective
    assert plans[0].replicas == plans[1].replicas


def parked(price):
    """Much KV between calls, for which a tier is bought whatever it costs here."""
    agent = {"rate": "20/s", "prefix": {"shared": 1000, "reusable": 0.95, "ttl": "90 s"}}
    return tiers(task(**agent), memory={"host": DDR5 | {"price": price, "max_per_server": "1 TB"}})


def test_dearer_memory_holds_no_more_than_cheap():
    """A tier is the one of its name: rows of capacity and bandwidth stand whatever it costs."""
    cheap, dear = (resolve(parked(price)) for price in ("1 $/GB", "2 $/GB"))
    assert unpriced(cheap) == unpriced(dear)
    again, anew = resold(build_candidates(cheap), dear), build_candidates(dear)
    assert any(limit.per_flow for limit in anew.data.limits if limit.name.startswith("memory.host."))
    assert again.data.limits == anew.data.limits
    assert again.data.modules == anew.data.modules
    assert {flow.tier for flow in again.book.flows} == {flow.tier for flow in anew.book.flows}
    found = sweep(parked("1 $/GB"), {"memory.host.price": ["1 $/GB", "2 $/GB"]}, gap=0.005)
    for run, price in zip(found.runs, ("1 $/GB", "2 $/GB"), strict=True):
        assert run.solution.memory[0].used_bytes > 0
        assert check(parked(price), run.solution).ok


def test_what_a_worker_remembers_changes_nothing():
    jobs = [
        Job(resolve(modelled().replace(changes)), "cost_per_hour", 0.001, 60.0)
        for changes in ({}, DEAR, {"hardware.l40s.price": "2 $/h"}, {})
    ]
    assert len({job.columns_key for job in jobs}) == 1
    assert len({job.problem_key for job in jobs}) == 3
    memory = Memory()
    for job in jobs:
        shared, alone = run_job(job, memory), run_job(job, Memory())
        assert shared.start == alone.start
        assert shared.solution.objective == alone.solution.objective


def test_a_sweep_of_prices_is_that_of_single_solves():
    prices = ["1.5 $/h", "2.5 $/h", "5 $/h", "9 $/h"]
    found = sweep(modelled(), {"hardware.h100.price": prices}, gap=0.0)
    alone = [solve(modelled().replace({"hardware.h100.price": price}), gap=0.0) for price in prices]
    values = [run.solution.objective.value for run in found.runs]
    assert values == pytest.approx([plan.objective.value for plan in alone], rel=1e-6)
    assert all(run.solution.status == "optimal" for run in found.runs)


def test_a_start_that_fits_is_never_made_worse():
    base = build_candidates(resolve(problem()))
    best = minimising(base, "cost_per_task", {})
    solver = FleetSolver(base.data, threads=1)
    thrifty = solver.solve(minimising(base, "energy_per_task", {}).data, gap=0.0)
    start = thrifty.start
    found = solver.solve(best.data, gap=0.9, start=[start])
    alone = solve_fleet(best.data, gap=0.0, threads=1)
    assert alone.objective <= found.objective
    assert found.bound <= alone.objective * (1 + 1e-9)
    assert solver.solve(best.data, gap=0.0, start=[start]).objective == pytest.approx(alone.objective, rel=1e-9)


@settings(QUIET, max_examples=40)
@given(any_fleets(NARROW))
def test_a_start_that_does_not_fit_is_left(data):
    solver = FleetSolver(data, threads=1)
    plan = solver.solve(gap=0.0)
    every = dict.fromkeys(range(len(data.offers)), 1.0)
    few = data.with_limits([SideLimit("servers", "servers", 1.0, per_server=every)])
    starts = [plan.start, Start((0,), {0: 10**6}, {0: 10**6})]
    again, anew = solver.solve(few, gap=0.0, start=starts), solve_fleet(few, gap=0.0, threads=1)
    assert again.status == anew.status
    if anew.replicas:
        assert again.objective == pytest.approx(anew.objective, rel=1e-6)


def test_a_bound_that_is_known_ends_the_search_at_the_first_plan_that_meets_it():
    data = build_candidates(resolve(modelled())).data
    solver = FleetSolver(data, threads=1)
    first = solver.solve(gap=0.0)
    again = solver.solve(gap=0.01, start=[first.start], floor=first.bound)
    assert again.rounds == 0  # no relaxation was needed
    assert again.status == "optimal"
    assert again.objective == pytest.approx(first.objective, rel=1e-9)
    assert np.isclose(again.bound, first.bound)
