"""A plan that is known is never lost: of scenarios, of periods, of the rates that limits allow, of the time limit."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from codesign import planning
from codesign.candidates.build import build_candidates, changed
from codesign.candidates.identity import point_of, same_columns
from codesign.check import check
from codesign.clock import Clock
from codesign.explanation.least import _slower
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.sensitivity import carries
from codesign.planner import solve
from codesign.planning import plan_fleet
from codesign.problem import Problem, resolve
from codesign.problem.extremes import at_extreme
from codesign.report.interrupt import interruptible
from codesign.staged import first_plan, moved

CHAT = {
    "name": "chat",
    "models": {"m": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat",
            "rate": "20/s",
            "models": ["m"],
            "context": {"mean": 1500, "cv": 0.5},
            "output": {"mean": 250},
            "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 2}, "price": "2 $/h"}},
    "options": {"gap": "2%", "threads": 1, "max_replica_accelerators": 1, "time_limit": "30 s"},
}
DAY = {"day": {"hours": "14 h/day"}, "night": {"hours": "10 h/day", "scale": 0.35}}
DEAR = [{"name": "dear", "probability": 0.3, "set": {"hardware.h100.price": "3 $/h"}}]


class Hopeless:
    """A search that ends without a plan, as on a machine that is too busy."""

    def solve(self, **_: object) -> FleetPlan:
        return FleetPlan("no_solution", np.inf, -np.inf, stopped_by="time limit")


@pytest.mark.parametrize(("changes", "robust"), [({"scenarios": DEAR}, True), ({"periods": DAY}, False)])
@pytest.mark.parametrize("survive", ["none", "one-server"])
def test_a_plan_of_one_stage_is_one_of_all(changes, robust, survive, monkeypatch):
    """The joined search finds nothing here: the plan of a stage, and the other stages on what it buys, remain."""
    problem = Problem.from_dict(CHAT).replace({**changes, "redundancy": {"survive": survive}})
    best = solve(problem, robust=robust)
    candidates = build_candidates(resolve(problem, robust=robust))
    real = planning.solver_of

    def solver_of(of, clock):
        return Hopeless() if of.data.columns == candidates.data.columns else real(of, clock)

    monkeypatch.setattr(planning, "solver_of", solver_of)
    plan = solve(problem, robust=robust)
    assert plan.status == "feasible"
    assert plan.solve.stopped_by == "time limit"
    assert plan.objective.value <= 1.2 * best.objective.value
    assert 0.0 <= plan.objective.bound <= plan.objective.value
    report = check(problem, plan)
    assert report.ok, report.violations


@pytest.mark.parametrize(("changes", "robust"), [({"scenarios": DEAR}, True), ({"periods": DAY}, False)])
def test_what_a_stage_proves_impossible_is_impossible(changes, robust, monkeypatch):
    """A day that no plan serves is enough: the joined search is not asked."""
    problem = Problem.from_dict(CHAT).replace({**changes, "limits.inventory": {"h100": 2}, "tasks.chat.rate": "900/s"})
    candidates = build_candidates(resolve(problem, robust=robust))
    real = planning.solver_of

    def solver_of(of, clock):
        assert of.data.columns < candidates.data.columns
        return real(of, clock)

    monkeypatch.setattr(planning, "solver_of", solver_of)
    plan = solve(problem, robust=robust)
    assert plan.status == "infeasible"
    assert "limits.inventory.h100" in plan.conflicts


def test_a_scenario_with_more_demand_gets_more_of_the_same():
    more = [{"name": "more", "set": {"tasks.chat.rate": "35/s"}}]
    candidates = build_candidates(resolve(Problem.from_dict(CHAT).replace({"scenarios": more}), robust=True))
    plan = first_plan(candidates, Clock(deadline=time.monotonic() + 20), 0.02, {})
    assert plan is not None
    halves = [part.columns for part in candidates.stages] + [candidates.data.columns]
    replicas = [
        sum(n for k, n in plan.replicas.items() if a <= k < b) for a, b in itertools.pairwise(halves)
    ]
    assert len(replicas) == 2
    assert min(replicas) >= 1


def test_stages_that_differ_in_rates_and_prices_share_their_columns():
    for changes, robust in (({"periods": DAY}, False), ({"scenarios": DEAR}, True)):
        candidates = build_candidates(resolve(Problem.from_dict(CHAT).replace(changes), robust=robust))
        one, other = (part.candidates for part in candidates.stages)
        assert all(a is b for a, b in zip(one.data.blocks, other.data.blocks, strict=True))
        alone = build_candidates(candidates.stages[1].stage.instance).data
        for name in ("demand", "calls_bound", "flows", "offers", "hardware", "limits", "groups", "packings"):
            mine, theirs = getattr(other.data, name), getattr(alone, name)
            assert np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs, name


def test_columns_of_other_rates_are_those_of_a_new_enumeration():
    instance = resolve(Problem.from_dict(CHAT).replace({"objective": "max_rate", "site.power": "20 kW"}))
    candidates = build_candidates(instance)
    twice = at_extreme(instance, 2.0)
    known, new = changed(candidates, twice).data, build_candidates(twice).data
    assert np.array_equal(known.demand, new.demand)
    assert np.array_equal(known.calls_bound, new.calls_bound)
    assert known.limits == new.limits
    assert all(np.array_equal(a.limit, b.limit) for a, b in zip(known.blocks, new.blocks, strict=True))


def test_columns_are_found_again_in_another_enumeration():
    problem = Problem.from_dict(CHAT)
    of = build_candidates(resolve(problem))
    tighter = build_candidates(resolve(problem.replace({"tasks.chat.slo.tpot": {"p95": "25 ms"}})))
    place = same_columns(range(of.data.columns), of, tighter)
    assert 0 < len(place) < of.data.columns
    for k, other in list(place.items())[::97]:
        assert point_of(of, k) == point_of(tighter, other)
    assert set(same_columns(range(5), of, of)) == set(range(5))


def test_counts_carry_more_than_they_were_bought_for():
    """Seven boxes of 10/s serve 70/s: 3.5 times the demand that a plan was made for."""
    boxes = {
        "name": "boxes",
        "tasks": [{"name": "chat", "rate": "20/s"}],
        "measured_pools": [{"name": "box", "accelerator": "A", "cost": "1 $/h", "max_rate": {"chat": "10/s"}}],
    }
    candidates = build_candidates(resolve(Problem.from_dict(boxes)))
    plan = plan_fleet(candidates, 0.0, Clock(deadline=time.monotonic() + 10))
    start = moved(plan.start, candidates, candidates)
    seven = type(start)(start.columns, {k: 7 for k in start.replicas}, {o: 7 for o in start.servers})
    assert carries(candidates.data, seven, 5.0, 20) == pytest.approx(3.5, abs=1e-4)


def test_rates_of_some_tasks_in_one_period():
    instance = resolve(Problem.from_dict(CHAT).replace({"periods": DAY}))
    slower = _slower(instance, {1}, 0.5)
    assert [s.instance.tasks[0].rate_per_s for s in slower.stages] == pytest.approx([20.0, 3.5])


# ---- the clock covers everything --------------------------------------------------------------------------------


def test_the_time_limit_covers_the_enumeration():
    plan = solve(Problem.from_dict(CHAT), time_limit_s=1e-6)
    assert plan.status == "no_solution"
    assert (plan.solve.stopped_by, plan.solve.columns_total) == ("time limit", 0)
    assert check(Problem.from_dict(CHAT), plan).ok


@pytest.mark.parametrize("robust", [False, True])
def test_cancelled_while_columns_are_enumerated(robust):
    problem = Problem.from_dict(CHAT).replace({"scenarios": DEAR})
    cancel = threading.Event()
    plan = solve(problem, robust=robust, cancel=cancel, progress=lambda news: cancel.set())
    assert plan.status == "no_solution"
    assert plan.solve.stopped_by == "interrupt"


def test_what_follows_a_plan_cannot_lose_it():
    """Cancelled once there is a plan: the price of robustness does not take it away."""
    cancel = threading.Event()

    def stop(news):
        if news.solution is not None:
            cancel.set()

    plan = solve(Problem.from_dict(CHAT).replace({"scenarios": DEAR}), robust=True, cancel=cancel, progress=stop)
    assert plan.status in ("optimal", "feasible")
    assert plan.fleet


def test_robust_keeps_to_the_time_limit():
    problem = Problem.from_dict(CHAT).replace({"scenarios": DEAR, "periods": DAY})
    begun = time.monotonic()
    plan = solve(problem, gap=0.0, time_limit_s=6.0, robust=True)
    assert time.monotonic() - begun < 6.0 + 2.0
    assert plan.fleet


def test_work_that_does_not_end_leaves_what_is_known():
    cancel, release = threading.Event(), threading.Event()
    cancel.set()
    said: list[str] = []
    try:
        begun = time.monotonic()
        assert interruptible(lambda: release.wait(30), cancel, said.append, known=lambda: True) is True
        assert time.monotonic() - begun < 2.0
        with pytest.raises(KeyboardInterrupt):
            interruptible(lambda: release.wait(30), cancel, said.append)
    finally:
        release.set()


# ---- the extremes' words ----------------------------------------------------------------------------------------


def test_infeasible_at_any_factor_needs_a_proof():
    """Less than a server of power: no SLO is to blame. Enough for one: some factor on the SLOs has a plan."""
    tight = Problem.from_dict(CHAT).replace({"objective": "slo_scale", "site.power": "100 W"})
    assert solve(tight).status == "infeasible"
    assert solve(tight.replace({"site.power": "40 kW"})).fleet
    nobody = {"tasks": [{"name": "chat", "rate": "1/s"}, {"name": "orphan", "rate": "1/s"}]}
    boxes = {
        "name": "boxes",
        "objective": "max_rate",
        "measured_pools": [{"name": "box", "accelerator": "A", "cost": "1 $/h", "max_rate": {"chat": "10/s"}}],
        "limits": {"inventory": {"A": 7}},
    }
    assert solve(Problem.from_dict({**boxes, **nobody})).status == "infeasible"
