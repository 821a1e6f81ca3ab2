"""max_rate and slo_scale: by hand on measured pools, by their own meaning on modelled hardware."""

import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.extremes import most_rate
from codesign.planner import explain, solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.solution import Solution

BOXES = {
    "name": "boxes",
    "objective": "max_rate",
    "site": {"pue": 1.0},
    "tasks": [{"name": "chat", "rate": "5/s"}, {"name": "code", "rate": "1/s"}],
    "measured_pools": [
        {"name": "box", "accelerator": "A", "cost": "1 $/h", "max_rate": {"chat": "10/s", "code": "4/s"}}
    ],
    "limits": {"inventory": {"A": 7}},
    "options": {"gap": "0.2%", "threads": 1, "time_limit": "30 s"},
}
"""One box serves 1/(5/10 + 1/4) = 4/3 of the demand; seven serve 28/3, of any split."""

MODELLED = {
    "name": "modelled",
    "objective": "max_rate",
    "models": {"m": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat", "rate": "10/s", "models": ["m"], "context": {"mean": 1500, "cv": 0.5},
            "output": {"mean": 250}, "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}},
    "limits": {"budget": {"cost_per_hour": "8 $/h"}},
    "options": {
        "gap": "2%", "threads": 1, "max_replica_accelerators": 1, "disaggregation": "never", "time_limit": "30 s"
    },
}  # fmt: skip


def solved(description, **changes):
    problem = Problem.from_dict(description).replace(changes)
    plan = solve(problem)
    report = check(problem, plan)
    assert report.ok, report.violations
    return problem, plan


def test_rate_that_an_inventory_carries():
    _, plan = solved(BOXES)
    assert plan.status == "optimal"
    assert plan.objective.bound == pytest.approx(28 / 3)
    assert 28 / 3 * 0.998 <= plan.objective.value <= 28 / 3 * (1 + 1e-9)


def test_whole_boxes_carry_less_than_the_bound():
    """Boxes of two: seven accelerators make three, θ = 4; half a box more is what the relaxation hopes for."""
    _, plan = solved(BOXES, **{"measured_pools.box.accelerators_per_replica": 2})
    assert plan.objective.value == pytest.approx(4.0, rel=0.002)
    assert 4.0 - 1e-9 <= plan.objective.bound <= 4.0 * 1.004
    assert plan.status == "optimal"


def test_plan_at_the_largest_rate_spends_the_budget_and_a_little_more_is_infeasible():
    problem, plan = solved(MODELLED)
    assert plan.totals.cost_per_hour <= 8.0
    rate = f"{10 * plan.objective.bound * 1.001}/s"
    beyond = problem.replace({"objective": "cost_per_hour", "tasks.chat.rate": rate})
    assert solve(beyond).status == "infeasible"
    wrong = plan.model_dump(mode="json", by_alias=True)
    wrong["objective"]["value"] *= 1.01
    found = [v.what for v in check(problem, Solution.model_validate(wrong)).violations]
    assert any("tasks served per second" in what for what in found)


def test_more_money_carries_more():
    _, four = solved(MODELLED)
    _, eight = solved(MODELLED, **{"limits.budget.cost_per_hour": "16 $/h"})
    assert eight.objective.value > 1.9 * four.objective.value
    # What plans are made of does no more: the bound is over more than that, and time would not bring the two together.
    assert [plan.solve.stopped_by for plan in (four, eight)] == [None, None]


def test_bound_is_the_same_at_any_stated_rate():
    """θ·λ is what counts: stating twice the rate halves θ."""
    once, twice = (
        most_rate(build_candidates(resolve(Problem.from_dict(MODELLED).replace({"tasks.chat.rate": rate}))).data, 1e12)
        for rate in ("10/s", "20/s")
    )
    assert once == pytest.approx(2 * twice)


def test_nothing_limits_the_rate():
    with pytest.raises(ProblemError, match="limits: found nothing; expected a limit that demand can grow to"):
        solve(Problem.from_dict(MODELLED).replace({"limits": {}}))


def test_tightest_slos_that_the_budget_allows():
    problem, plan = solved(MODELLED, objective="slo_scale")
    value, bound = plan.objective.value, plan.objective.bound
    assert bound <= value < 1.0
    slo = {"ttft": {"p95": f"{2 * value} s"}, "tpot": {"p95": f"{50 * value} ms"}}
    same = problem.replace({"objective": "cost_per_hour", "tasks.chat.slo": slo})
    assert solve(same).status == "optimal"
    tight = {"ttft": {"p95": f"{2 * bound * 0.999} s"}, "tpot": {"p95": f"{50 * bound * 0.999} ms"}}
    assert solve(problem.replace({"objective": "cost_per_hour", "tasks.chat.slo": tight})).status == "infeasible"


def test_rate_over_periods_is_held_in_each():
    """By night twice the demand for half the hours: the night decides. θ = 14/3."""
    periods = {"day": {"hours": "12 h/day"}, "night": {"hours": "12 h/day", "scale": 2.0}}
    _, plan = solved(BOXES, periods=periods)
    assert plan.objective.value == pytest.approx(14 / 3, rel=0.002)


def test_explain_speaks_of_the_problem_as_stated():
    """Demand is three quarters of a box: one box, 1 $/h, and no rate that was not asked for."""
    objective = explain(Problem.from_dict(BOXES)).solution.objective
    assert (objective.name, objective.value) == ("cost_per_hour", pytest.approx(1.0))
