"""Polish: fewer replicas for a plan's own calls, as far as the accounts keep every promise; it proves nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from codesign import planning
from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.check.fits import fits
from codesign.clock import Clock
from codesign.explanation.held import held_plan
from codesign.optimize.recount import bought
from codesign.optimize.sensitivity import fixed_duals
from codesign.planner import solve, stricter
from codesign.planning import plan_fleet
from codesign.polish import polished
from codesign.problem import Problem, resolve
from codesign.report.plan import headline
from codesign.solution.counted import counted

MIXED = {
    "name": "mixed",
    "models": {"small": {"card": "gpt-oss-20b"}},
    "tasks": [
        {
            "name": "chat", "preset": "chat", "rate": "24/s", "models": ["small"],
            "slo": {"ttft": {"p95": "800 ms"}, "tpot": {"p95": "40 ms"}},
        },
        {
            "name": "reports", "rate": "0.1/s", "models": ["small"], "context": {"p50": 20000, "p90": 60000},
            "output": {"mean": 1500}, "on_overlong": "truncate",
            "slo": {"ttft": {"p95": "30 s"}, "tpot": {"p95": "100 ms"}},
        },
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}},
    "options": {"gap": 0, "threads": 1, "max_replica_accelerators": 1, "disaggregation": "never"},
}  # fmt: skip
"""Eight replicas by its accounts; nine by rows that carry a share `ROWS` of what they do."""
ROWS = 0.82
ALONE = {
    "models": {"small": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat", "rate": "60/s", "models": ["small"], "context": {"mean": 1500, "cv": 0.5},
            "output": {"mean": 250}, "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
}  # fmt: skip
"""Four replicas: on three, one percent more calls bring over four percent more sequences."""


def tight(instance, *args, **options):
    """Candidates whose rows say too little."""
    return stricter(build_candidates(instance, *args, **options), ("colocated",), ROWS)


@pytest.fixture
def rows(monkeypatch):
    """Plans are made of such rows."""
    monkeypatch.setattr(planning, "build_candidates", tight)


def planned(changes=None, share=ROWS, bounded=True):
    """Candidates and their plan before polish, of rows that carry a `share` of what they do.

    Unless it is `bounded` its bound is over these rows alone.
    """
    candidates = build_candidates(resolve(Problem.from_dict(MIXED).replace(changes or {})), bounded=bounded)
    own = stricter(candidates, ("colocated",), share)
    return own, plan_fleet(own, None, Clock())


@pytest.fixture(scope="module")
def mixed():
    return planned()


@pytest.fixture(scope="module")
def solved():
    problem = Problem.from_dict(MIXED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "build_candidates", tight)
        return problem, solve(problem)


def test_a_mix_needs_a_server_less_than_its_rows_ask_for(solved):
    problem, solution = solved
    assert (solution.objective.value, solution.polish.value) == (pytest.approx(16.0), pytest.approx(18.0))
    (pool,) = solution.fleet
    assert (pool.replicas, pool.replicas_by_rows) == (8, 9)
    assert [(item.pool, item.before, item.after) for item in solution.polish.pools] == [(pool.pool, 9, 8)]
    report = check(problem, solution)
    assert report.ok, report.violations


def test_what_mixes_carry_more_is_in_the_bound(solved):
    _, solution = solved
    assert solution.objective.bound <= solution.objective.value
    assert solution.polish.note is None


def test_a_plan_below_the_bound_withdraws_it(monkeypatch):
    """The relaxation of the rows alone said 18 $/h, and nothing is proven by a plan."""
    monkeypatch.setattr(planning, "build_candidates", partial(tight, bounded=False))
    solution = solve(Problem.from_dict(MIXED))
    assert (solution.status, solution.objective.bound, solution.objective.gap) == ("feasible", None, None)
    assert "18 $/h is withdrawn" in solution.polish.note
    assert solution.fleet[0].pool in solution.polish.note
    assert "without a bound" in headline(solution)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"replicas_by_rows": 8}, "replicas_by_rows"),
        ({"replicas": 6, "accelerators": 6}, "batch under one percent more calls"),
    ],
)
def test_fewer_still_are_refused(solved, changes, what):
    problem, solution = solved
    pool = solution.fleet[0].model_copy(update=changes)
    found = check(problem, solution.model_copy(update={"fleet": (pool,)})).violations
    assert any(what in item.what or "step time" in item.what for item in found), found


def test_a_polished_pool_keeps_the_most_utilisation(solved):
    problem, solution = solved
    stricter_rule = problem.replace({"options.max_utilization": 0.9 * solution.fleet[0].utilization.busy})
    assert any("options.max_utilization" in item.what for item in check(stricter_rule, solution).violations)


def test_a_bound_below_the_plan_stays_and_so_does_the_status(mixed):
    candidates, plan = mixed
    for status in ("optimal", "feasible"):
        found = polished(candidates, replace(plan, bound=15.0, status=status), Clock())
        assert (found.plan.objective, found.plan.bound, found.plan.status) == (pytest.approx(16.0), 15.0, status)


def test_fits_takes_counts_from_accounts_and_nothing_else(mixed):
    """On the rows as they are the plan breaks its own capacity alone; on those of its counts every family holds."""
    candidates, plan = mixed
    found = polished(candidates, plan, Clock())
    assert fits(found.candidates.data, found.plan) == []
    (column,) = found.plan.replicas
    broken = fits(candidates.data, found.plan)
    assert broken
    assert all(f"of column {column}" in item.what for item in broken)
    few = replace(found.plan, replicas={column: found.plan.replicas[column] - 1})
    assert any(f"of column {column}" in item.what for item in fits(found.candidates.data, few))
    poor = replace(found.plan, servers={o: n - 1 for o, n in found.plan.servers.items()})
    assert any("servers of" in item.what for item in fits(found.candidates.data, poor))


def test_rows_that_say_too_little_are_undone():
    """Rows of 0.6 of what is there, and their bound: polish finds the plan of the rows as they are, and no other."""
    candidates, plan = planned(ALONE, share=0.6, bounded=False)
    assert (plan.objective, plan.bound) == (pytest.approx(12.0), pytest.approx(12.0))
    found = polished(candidates, plan, Clock())
    assert found.plan.objective == pytest.approx(8.0)
    assert (found.plan.status, found.plan.bound) == ("feasible", -np.inf)
    right = planned(ALONE, share=1.0, bounded=False)
    assert right[1].objective == pytest.approx(8.0)
    assert polished(*right, Clock()) is None


def test_servers_that_cost_the_same_keep_their_replicas():
    """Seven replicas are enough, said somebody: four servers of two hold eight, and fewer would save nothing."""
    candidates, plan = planned({"hardware.h100.server.accelerators": 2})
    (column,) = plan.replicas
    found = bought(candidates.data, plan, {column: 7}, plan.rates, seconds=5.0)
    assert (plan.replicas[column], found.replicas[column], sum(found.servers.values())) == (9, 8, 4)
    assert found.objective == pytest.approx(16.0)


def test_each_period_is_polished(rows):
    night = {"night": {"hours": "14 h/day", "set": {"tasks.chat.rate": "5/s"}}}
    problem = Problem.from_dict(MIXED).replace({"periods": {"day": {"hours": "10 h/day"}} | night})
    solution = solve(problem)
    assert (solution.objective.value, solution.polish.value) == (pytest.approx(16.0), pytest.approx(18.0))
    assert [(item.pool.split("/")[0], item.before, item.after) for item in solution.polish.pools] == [("day", 9, 8)]
    assert check(problem, solution).ok


def test_spares_stay_beside_fewer_replicas(rows):
    problem = Problem.from_dict(MIXED).replace({"redundancy.survive": "one-server"})
    solution = solve(problem)
    assert (solution.objective.value, solution.polish.value) == (pytest.approx(18.0), pytest.approx(20.0))
    assert (sum(pool.replicas for pool in solution.fleet), sum(pool.spares for pool in solution.fleet)) == (8, 1)
    assert check(problem, solution).ok


def test_a_polished_plan_is_explained_from_its_file(solved, mixed):
    _, solution = solved
    candidates, _ = mixed
    plan = held_plan(candidates, solution, Clock())
    assert list(plan.by_rows.values()) == [9]
    fixed_duals(counted(candidates, plan).data, plan)  # raises where the plan does not keep the rows


def test_polish_ends_with_its_time(mixed):
    candidates, plan = mixed
    assert polished(candidates, plan, Clock(deadline=time.monotonic() - 1.0)) is None
