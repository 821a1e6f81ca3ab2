"""Frontiers: against enumeration of every fleet, against weighted sums, and point by point."""

from dataclasses import replace

import numpy as np
import pytest
from studies import enumerated_front, modelled, problem

from codesign import check, pareto
from codesign.candidates.build import build_candidates
from codesign.candidates.objectives import ceiling, figure, minimising
from codesign.optimize.fleet import solve_fleet
from codesign.problem import resolve
from codesign.study.axes import parse_axes, settled
from codesign.study.front import dominates, unit_box, volume


@pytest.fixture(scope="module")
def front():
    return pareto(problem(), points=60)


def pairs(front):
    return [(p.values["cost_per_task"], p.values["energy_per_task"]) for p in front.points]


def test_front_is_that_of_every_fleet(front):
    assert np.array(pairs(front)) == pytest.approx(np.array(enumerated_front()), rel=1e-6)
    assert front.status == "optimal"
    assert front.complete


@pytest.mark.parametrize("seed", range(4))
def test_front_of_random_fleets_is_that_of_every_fleet(seed):
    draw = np.random.default_rng(seed)
    pools = {
        f"p{i}": (
            float(draw.integers(5, 60)) / 10,
            int(draw.integers(5, 60)) * 10,
            {"short": int(draw.integers(3, 20)), "long": int(draw.integers(1, 9))},
        )
        for i in range(3)
    }
    found = pareto(problem(pools), points=80)
    assert np.array(pairs(found)) == pytest.approx(np.array(enumerated_front(pools)), rel=1e-6)


def test_each_point_is_checked_proven_and_unbeaten(front):
    base = problem()
    for point in front.points:
        assert check(base, point.solution).violations == ()
        assert point.bound <= point.values["cost_per_task"] * (1 + 1e-9)
        assert point.gap <= 1e-6
    assert not any(dominates(one, other) for one in pairs(front) for other in pairs(front))
    assert sum(point.knee for point in front.points) == 1


def test_a_ceiling_that_is_broken_is_found(front):
    point = next(p for p in front.points if p.solution.objective.ceilings)
    objective = point.solution.objective
    broken = {"energy_per_task": point.values["energy_per_task"] * 0.999}
    wrong = point.solution.model_copy(update={"objective": objective.model_copy(update={"ceilings": broken})})
    assert [v.what for v in check(problem(), wrong).violations] == ["objective.ceilings.energy_per_task"]


def test_another_objective_than_the_files_needs_a_frontier(front):
    point = front.points[-1]
    objective = point.solution.objective.model_copy(update={"ceilings": None})
    wrong = point.solution.model_copy(update={"objective": objective})
    assert any(v.what == "objective.name" for v in check(problem(), wrong).violations)


def test_front_has_the_volume_of_weighted_sums_or_more(front):
    base = build_candidates(resolve(problem()))
    ends = pairs(front)
    best, worst = [ends[0][0], ends[-1][1]], [ends[-1][0], ends[0][1]]
    instance = base.instance
    sums = []
    for weight in np.linspace(0, 1, 50):
        usd = (1 - weight) / (worst[0] - best[0]) / (48 * 3600)
        watt = weight / (worst[1] - best[1]) / 48
        data = replace(base.data, usd_weight=usd, watt_weight=watt)
        plan = solve_fleet(data, gap=0.0, threads=1)
        value = {
            name: figure(
                minimising(base, name, {}).data, plan.servers, plan.replicas, plan.spares, plan.rates, plan.modules
            )
            for name in ("cost_per_task", "energy_per_task")
        }
        sums.append((value["cost_per_task"], value["energy_per_task"]))
    assert instance.tasks[0].rate_per_s + instance.tasks[1].rate_per_s == 48
    ours = volume([unit_box(p, best, worst) for p in ends])
    assert ours >= volume([unit_box(p, best, worst) for p in sums]) - 1e-9


def test_bounds_hold_where_gaps_are_wide():
    every = enumerated_front()
    front = pareto(problem(gap=0.08), points=20)
    for point in front.points:
        least = min(cost for cost, energy in every if energy <= point.values["energy_per_task"] * (1 + 1e-9))
        assert point.bound <= least * (1 + 1e-9)
        assert point.gap <= 0.08 + 1e-9
    for proof in front.proofs:
        most = proof.ceilings.get("energy_per_task", float("inf"))
        assert proof.bound <= min(cost for cost, energy in every if energy <= most * (1 + 1e-9)) * (1 + 1e-9)


def test_few_points_spread_over_the_front():
    few = pareto(problem(), points=5)
    assert 3 <= len(few.points) <= 5
    every = enumerated_front()
    assert pairs(few)[0] == pytest.approx(every[0], rel=1e-6)
    assert pairs(few)[-1] == pytest.approx(every[-1], rel=1e-6)
    for pair in pairs(few):  # each is on the front, not only near it
        assert min(abs(pair[0] - e[0]) / e[0] + abs(pair[1] - e[1]) / e[1] for e in every) < 1e-6


def test_the_figures_of_a_ceiling_are_those_that_are_reported():
    base = build_candidates(resolve(modelled()))
    plan = solve_fleet(base.data, gap=0.0, threads=1)
    solution = pareto(modelled(), ("cost_per_hour", "power"), points=2).points[0].solution
    assert solution.totals is not None
    counts = (plan.servers, plan.replicas, plan.spares, plan.rates, plan.modules)
    assert figure(minimising(base, "cost_per_hour", {}).data, *counts) == pytest.approx(plan.objective, rel=1e-6)
    row = ceiling(base.data, base.instance, "power", 1000.0)
    assert row.limit == 1000.0
    assert set(row.per_watt.values()) == {base.instance.site.pue}
    assert row.per_server == {}


def test_objectives_that_move_together_are_one_axis():
    front = pareto(problem(), ("energy", "carbon"), points=5)
    (point,) = front.points
    per_joule = resolve(problem()).site.carbon_kg_per_joule
    assert point.values["carbon_per_task"] == pytest.approx(point.values["energy_per_task"] * per_joule)
    three = pareto(problem(), ("cost", "energy", "power"), points=4)
    assert list(three.points[0].values) == ["cost_per_task", "energy_per_task", "power"]


def test_a_carbon_ceiling_is_an_energy_ceiling():
    carbon = pareto(problem(), ("cost", "carbon"), points=60)
    energy = pareto(problem(), ("cost", "energy"), points=60)
    assert [p.values["cost_per_task"] for p in carbon.points] == [p.values["cost_per_task"] for p in energy.points]


def test_tighter_slos_cost_more():
    front = pareto(modelled(), ("cost", "latency"), points=4)
    scales = [p.values["slo_scale"] for p in front.points]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] <= 1.0
    assert len(front.points) >= 2
    point = front.points[-1]
    targets = {s.metric: s.target for s in point.solution.tasks[0].slo}
    assert targets["ttft"] == pytest.approx(1.0 * point.held["slo_scale"])
    for p in front.points:
        assert all(s.achieved <= s.target * (1 + 1e-6) for s in p.solution.tasks[0].slo)


def test_robustness_is_bought():
    front = pareto(modelled(), ("robustness", "cost"), points=4)
    assert front.objectives == ("cost_per_task", "robustness")  # the one that can be minimised comes first
    safe = [p.values["robustness"] for p in front.points]
    assert safe == sorted(safe)
    assert safe[-1] == 0.95
    assert front.points[0].values["cost_per_task"] <= front.points[-1].values["cost_per_task"]


def test_three_objectives():
    front = pareto(modelled(), ("cost", "energy", "robustness"), points=8)
    rows = [
        (p.values["cost_per_task"], p.values["energy_per_task"], -p.values["robustness"]) for p in front.points
    ]
    assert len(rows) >= 3
    assert not any(dominates(a, b) for a in rows for b in rows)
    assert all(p.bound <= p.values["cost_per_task"] * (1 + 1e-9) for p in front.points)


def test_no_plan_no_front():
    tight = problem().replace({"limits.inventory": {n: 0 for n in ("A100", "H100", "L4", "THRIFTY")}})
    front = pareto(tight, points=3)
    assert front.status == "infeasible"
    assert front.points == ()
    assert front.knee is None


@pytest.mark.parametrize("words", [("cost",), ("cost", "cost"), ("cost", "beauty"), ("latency", "robustness")])
def test_objectives_that_make_no_frontier(words):
    with pytest.raises(ValueError, match="expected"):
        parse_axes(words)


def test_held_axes_change_the_instance():
    instance = resolve(modelled())
    changed = settled(instance, {"slo_scale": 0.5, "robustness": 0.9})
    assert changed.tasks[0].ttft_slo == ((0.95, 0.5),)
    assert changed.tasks[0].tpot_slo == ((0.95, 0.03),)
    assert changed.options.safety == 0.9
    assert changed.objective == instance.objective
    assert settled(instance, {}) == instance


def test_the_frontier_of_periods():
    base = problem().replace({"periods": {"day": {"hours": "10 h/day"}, "night": {"hours": "14 h/day", "scale": 0.3}}})
    front = pareto(base, points=6)
    assert len(front.points) >= 3
    for point in front.points:
        assert check(base, point.solution).violations == ()
        assert point.solution.objective.value == pytest.approx(point.values["cost_per_task"], rel=1e-6) or (
            point.solution.objective.name == "energy_per_task"
        )


def test_in_a_notebook_and_as_a_table(front):
    html = front._repr_html_()
    assert html.count("<tr>") == len(front.points) + 1
    pandas = pytest.importorskip("pandas")
    table = front.to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns)[:4] == ["cost_per_task", "energy_per_task", "bound", "gap"]
    assert len(table) == len(front.points)
