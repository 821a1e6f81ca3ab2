"""Scenarios: buy first, route in each. Expected value, worst case and CVaR on fleets that can be worked out by hand."""

from pathlib import Path

import pytest

from codesign.check import check
from codesign.planner import solve
from codesign.problem import Problem, ProblemError, load_problem, resolve
from codesign.solution import Solution
from codesign.solution.schema import load_solution

ROOT = Path(__file__).parents[1]

BOXES = {
    "name": "boxes",
    "site": {"pue": 1.0},
    "tasks": [{"name": "chat", "rate": "20/s"}],
    "measured_pools": [
        {"name": "risky", "accelerator": "A", "cost": "1 $/h", "power": "100 W", "max_rate": {"chat": "10/s"}},
        {"name": "safe", "accelerator": "B", "cost": "1.5 $/h", "power": "200 W", "max_rate": {"chat": "10/s"}},
    ],
    "scenarios": [{"name": "dear", "probability": 0.2, "set": {"measured_pools.risky.cost": "3 $/h"}}],
    "options": {"gap": 0, "threads": 1},
}
"""Two boxes either way: risky ones cost 2 $/h, or 6 in one case of five; safe ones always 3."""


def solved(changes=None):
    problem = Problem.from_dict(BOXES).replace(changes or {})
    plan = solve(problem, robust=True)
    assert plan.status == "optimal"
    report = check(problem, plan)
    assert report.ok, report.violations
    return plan


def bought(plan):
    return {line.item: line.count for line in plan.purchase}


def values(plan):
    return {scenario.name: pytest.approx(scenario.value) for scenario in plan.scenarios}


@pytest.mark.parametrize(
    ("risk", "probability", "item", "value"),
    [
        ({"measure": "expected"}, 0.2, "risky", 0.8 * 2 + 0.2 * 6),
        ({"measure": "expected"}, 0.4, "safe", 3.0),
        ({"measure": "worst-case"}, 0.2, "safe", 3.0),
        # The worst half holds the dear case (0.2) and 0.3 of the cheap one: (0.2·6 + 0.3·2)/0.5 = 3.6 > 3.
        ({"measure": "cvar", "level": 0.5}, 0.2, "safe", 3.0),
        # The worst nine tenths: (0.1·6 + 0.8·2)/0.9 = 2.44 < 3.
        ({"measure": "cvar", "level": 0.1}, 0.1, "risky", (0.1 * 6 + 0.8 * 2) / 0.9),
    ],
)
def test_the_measure_decides_what_is_bought(risk, probability, item, value):
    plan = solved({"risk": risk, "scenarios.dear.probability": probability})
    assert bought(plan) == {item: 2}
    assert plan.objective.value == pytest.approx(value)
    assert plan.objective.bound == pytest.approx(value)
    assert values(plan) == ({"nominal": 2.0, "dear": 6.0} if item == "risky" else {"nominal": 3.0, "dear": 3.0})


def test_the_price_of_robustness_is_what_being_ready_costs_if_nothing_happens():
    plan = solved()
    assert plan.robustness.nominal == pytest.approx(3.0)
    assert plan.robustness.nominal_optimum == pytest.approx(2.0)
    assert plan.robustness.price == pytest.approx(0.5)
    assert plan.robustness.unprepared == {"nominal": pytest.approx(1.0), "dear": pytest.approx(1.0)}


def test_demand_of_every_scenario_is_served_by_one_purchase():
    """35 tasks/s need four boxes; two of them, all that the nominal plan has, serve 20/35."""
    more = [{"name": "more", "set": {"tasks.chat.rate": "35/s"}}]
    plan = solved({"scenarios": more})
    assert bought(plan) == {"risky": 4}
    assert {(pool.scenario, pool.replicas) for pool in plan.fleet} >= {("more", 4)}
    assert plan.robustness.price == pytest.approx(1.0)
    assert plan.robustness.unprepared["more"] == pytest.approx(20 / 35)


def test_worst_case_of_energy_per_task_counts_each_scenarios_own_tasks():
    """Nominal: 2 boxes of 100 W for 20/s; more: 4 for 35/s. 10 J against 400/35 = 11.43 J per task."""
    more = [{"name": "more", "set": {"tasks.chat.rate": "35/s"}}]
    plan = solved({"scenarios": more, "objective": "energy_per_task"})
    assert plan.objective.value == pytest.approx(400 / 35)
    mean = solved({"scenarios": more, "objective": "energy_per_task", "risk": {"measure": "expected"}})
    assert mean.objective.value == pytest.approx((10 + 400 / 35) / 2)


def test_scenarios_and_periods_together():
    """By day 40/s or, in the scenario, 60/s; a quarter by night. Power: 4 or 6 boxes by day, 1 or 2 by night."""
    changes = {
        "tasks.chat.rate": "40/s",
        "periods": {"day": {"hours": "12 h/day"}, "night": {"hours": "12 h/day", "scale": 0.25}},
        "scenarios": [{"name": "more", "probability": 0.5, "set": {"tasks.chat.rate": "60/s"}}],
        "objective": "power",
        "risk": {"measure": "worst-case"},
    }
    plan = solved(changes)
    assert len(plan.stages) == 4
    assert plan.objective.value == pytest.approx(100 * (6 + 2) / 2)
    expected = solved(changes | {"risk": {"measure": "expected"}})
    assert expected.objective.value == pytest.approx(100 * ((4 + 1) + (6 + 2)) / 4)


def test_without_robust_scenarios_are_not_looked_at():
    problem = Problem.from_dict(BOXES)
    plan = solve(problem)
    assert plan.objective.value == pytest.approx(2.0)
    assert plan.scenarios == ()
    assert check(problem, plan).ok


def test_check_recomputes_the_measure():
    problem = Problem.from_dict(BOXES)
    data = solve(problem, robust=True).model_dump(mode="json", by_alias=True)
    data["scenarios"][1]["value"] = 1.0
    data["objective"] |= {"value": 2.0, "bound": 2.0}
    found = [v.what for v in check(problem, Solution.model_validate(data)).violations]
    assert any("objective.value" in what for what in found)
    assert any("scenario dear" in what for what in found)


def test_what_is_bought_ties_up_capital_at_todays_prices():
    """Memory of 13.8 $/GB today and 35 $/GB in a scenario: $/h are the mean of both, the capital is that of today."""
    problem = load_problem(ROOT / "problems" / "price-what-if.yaml")
    plan = load_solution(ROOT / "solutions" / "price-what-if.json")
    (line,) = [line for line in plan.purchase if line.kind == "module"]
    assert line.capital_usd == pytest.approx(13.8 * 64 * line.count)
    assert line.usd_per_hour > 0
    assert check(problem, plan).ok
    data = plan.model_dump(mode="json", by_alias=True)
    data["purchase"][plan.purchase.index(line)]["capital_usd"] = 35 * 64 * line.count
    found = [v.what for v in check(problem, Solution.model_validate(data)).violations]
    assert found == ["purchase host-ddr5: capital, $"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenarios": []}, "scenarios: found nothing"),
        ({"scenarios.dear.probability": 1.5}, "probability"),
        ({"scenarios": [{"name": "nominal"}]}, "none of them 'nominal'"),
        ({"scenarios": [{"name": "a", "set": {"tasks.chatt.rate": "1/s"}}]}, "scenarios.a.set: tasks.chatt.rate"),
        ({"scenarios": [{"name": "a", "set": {"limits.budget.capital": "1 $"}}]}, "budgets hold over all"),
        ({"risk": {"level": 1}}, "risk.level"),
    ],
)
def test_faults_name_their_field(changes, message):
    with pytest.raises(ProblemError, match=message):
        solve(Problem.from_dict(BOXES).replace(changes), robust=True)


def test_probabilities_leave_the_rest_to_the_file_as_it_stands():
    instance = resolve(Problem.from_dict(BOXES), robust=True)
    assert [(s.scenario, s.probability) for s in instance.stages] == [("nominal", 0.8), ("dear", 0.2)]
    even = resolve(Problem.from_dict(BOXES).replace({"scenarios.dear.probability": None}), robust=True)
    assert [s.probability for s in even.stages] == [0.5, 0.5]
