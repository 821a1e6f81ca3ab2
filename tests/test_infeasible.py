"""The word infeasible is said with a proof alone, and what is advised makes a plan possible."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from codesign import planner
from codesign.candidates.build import build_candidates
from codesign.cli import app
from codesign.clock import Clock
from codesign.explanation.conflicts import explain_infeasible
from codesign.explanation.held import NotThisPlanError
from codesign.optimize.fleet import FleetPlan
from codesign.planner import explain, solve
from codesign.planning import plan_fleet
from codesign.problem import load_problem, resolve
from codesign.solution import Solution

LAB = """
kind: procurement
name: lab
site: {electricity: 0.28 $/kWh, pue: 1.4}
models: {m: {card: Llama-3.1-8B}}
tasks:
  - {name: chat, rate: 12/s, context: 4000, output: 300, models: [m], slo: {ttft: {p95: 2 s}, tpot: {p95: 30 ms}}}
hardware: {a100: {accelerator: a100-80-sxm, server: {accelerators: 8}, offers: {}}}
existing: [{hardware: a100, servers: 1}]
limits: {inventory: {a100: 8}}
options: {gap: 2%, time_limit: 20 s, max_replica_accelerators: 1}
"""

RACKS = """
kind: procurement
site: {racks: {r: {count: COUNT, power: POWER}}}
models: {m: {card: Llama-3.1-8B}}
tasks:
  - {name: t, rate: 5/s, context: 1000, output: 200, models: [m], slo: {ttft: {p95: 2 s}, tpot: {p95: 50 ms}}}
hardware: {h: {accelerator: h100-sxm, server: {accelerators: 8, rack: r}, price: 2 $/h}}
options: {gap: 5%, time_limit: 20 s, max_replica_accelerators: 1}
"""


def written(tmp_path, text):
    path = tmp_path / "problem.yaml"
    path.write_text(text)
    return path


# ---- one word, one meaning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["infeasible", "no_solution"])
def test_explain_says_what_solve_says(status):
    """Whatever the explanation finds out by itself, what is proven is the answer's own."""
    problem = load_problem_text(RACKS.replace("COUNT", "10").replace("POWER", "10 kW"))
    candidates = build_candidates(resolve(problem))
    plan = FleetPlan(status, float("inf"), 0.0)
    found = explain_infeasible(candidates, plan, Clock(deadline=time.monotonic() + 20))
    assert found.status == status
    unproven = [note for note in found.notes if "not proven" in note]
    assert bool(unproven) == (status == "no_solution")


def load_problem_text(text):
    from codesign.problem.load import problem_from_text

    return problem_from_text(text, "problem.yaml")


@pytest.mark.parametrize(
    ("status", "says", "never"),
    [
        ("infeasible", "which is proven", "none is proven impossible"),
        ("no_solution", "none is proven impossible", "infeasible"),
    ],
)
def test_words_of_both_commands(status, says, never, tmp_path, monkeypatch):
    path = str(written(tmp_path, RACKS.replace("COUNT", "10").replace("POWER", "12 kW")))
    solved = solve(load_problem(path))
    objective = {"value": None, "gap": None, "bound": None}
    without = {"fleet": (), "purchase": (), "routing": (), "tasks": (), "totals": None, "status": status}
    bare = solved.model_copy(update={**without, "objective": solved.objective.model_copy(update=objective)})
    monkeypatch.setattr(planner, "solve", lambda *_, **__: bare)
    explanation = planner.Explanation(False, status=status, solution=bare)
    monkeypatch.setattr(planner, "explain", lambda *_, **__: explanation)
    for command, code in (("solve", 3 if status == "infeasible" else 4), ("explain", 0)):
        result = CliRunner().invoke(app, [command, path])
        assert result.exit_code == code
        assert says in result.stdout
        assert never not in result.stdout
    document = json.loads(CliRunner().invoke(app, ["explain", path, "--json"]).stdout)
    assert document["status"] == status


def test_where_nothing_on_offer_can_run_a_call_the_answer_says_so(tmp_path):
    """Weights of 141 GB fit no card of 80 GB, and a replica has one."""
    text = RACKS.replace("COUNT", "10").replace("POWER", "12 kW")
    text = text.replace("Llama-3.1-8B", "Llama-3.1-70B, weights: [bf16]")
    result = CliRunner().invoke(app, ["solve", str(written(tmp_path, text))])
    said = " ".join(result.stdout.split())
    assert result.exit_code == 3
    assert "infeasible, which is proven. Nothing on offer can run any of its calls" in said
    assert "No fleet of" not in said


# ---- what is advised does ---------------------------------------------------------------------------------------


def test_a_stock_is_advised_in_whole_servers_and_rates_as_far_as_it_takes(tmp_path):
    problem = load_problem(written(tmp_path, LAB))
    busy = problem.replace({"tasks.chat.rate": "60/s"})
    assert solve(problem).fleet
    assert solve(busy).status == "infeasible"
    found = explain(busy)
    assert found.status == "infeasible"
    ways = {way.limit: way for way in found.relaxations}
    assert all(way.verified for way in ways.values())
    stocks = {name: way.needed for name, way in ways.items() if way.unit == "accelerators"}
    assert stocks
    assert all(needed % 8 == 0 and needed > 8 for needed in stocks.values())
    slower = busy.replace({"tasks.chat.rate": f"{ways['tasks.chat.rate'].needed}/s"})
    assert solve(slower).fleet
    assert ways["tasks.chat.rate"].needed > 12.0
    more = {"existing": [{"hardware": "a100", "servers": int(stocks["hardware.a100.offers.existing.max"] / 8)}]}
    more |= {"limits.inventory.a100": int(stocks.get("limits.inventory.a100", 8))}
    assert solve(busy.replace(more)).fleet


@pytest.mark.parametrize("count", [10, 11])
def test_racks_that_no_server_fits_in_need_power_not_number(count):
    problem = load_problem_text(RACKS.replace("COUNT", str(count)).replace("POWER", "10 kW"))
    assert solve(problem).status == "infeasible"
    found = explain(problem)
    assert not any(way.unit == "racks" for way in found.relaxations)
    assert not any(conflict.unit == "racks" for conflict in found.conflicts)
    (way,) = [way for way in found.relaxations if way.limit == "site.racks.r.power"]
    assert way.verified
    assert 10e3 < way.needed <= 11e3
    rack = {"count": count, "power": f"{way.needed / 1e3} kW"}
    assert solve(problem.replace({"site.racks.r": rack})).fleet
    assert solve(problem.replace({"site.racks.r": {"count": 100, "power": "10 kW"}})).status == "infeasible"


def test_racks_that_servers_fit_in_need_number_or_power():
    """Two servers of 11 kW each, one rack of 12 kW: a second one, or 22 kW."""
    problem = load_problem_text(RACKS.replace("COUNT", "1").replace("POWER", "12 kW"))
    busy = problem.replace({"tasks.t.rate": "300/s"})
    assert solve(problem).fleet
    assert solve(busy).status == "infeasible"
    ways = {way.limit: way for way in explain(busy).relaxations}
    assert ways["site.racks.r"].needed == 2
    assert 21e3 < ways["site.racks.r.power"].needed < 22e3
    for name in ("site.racks.r", "site.racks.r.power"):
        power = 12e3 if name == "site.racks.r" else ways[name].needed
        rack = {"count": 2 if name == "site.racks.r" else 1, "power": f"{power / 1e3} kW"}
        assert solve(busy.replace({"site.racks.r": rack})).fleet


def test_a_hardware_name_with_a_slash_is_no_offer(tmp_path):
    text = LAB.replace("offers: {}", "offers: {big: {rent: 2 $/h, min: 64}}").replace(
        "hardware: {a100:", "hardware: {a/b:"
    )
    text = text.replace("existing: [{hardware: a100, servers: 1}]\n", "").replace(
        "limits: {inventory: {a100: 8}}", "limits: {budget: {cost_per_hour: 100 $/h}}"
    )
    found = explain(load_problem(written(tmp_path, text)))
    assert "hardware.a/b.offers.big.min" in {conflict.limit for conflict in found.conflicts}


# ---- the plan that the user holds -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat():
    return load_problem_text(LAB.replace("offers: {}", "price: 2 $/h").replace("{a100: 8}", "{a100: 64}"))


@pytest.mark.parametrize(
    "changes", [{}, {"periods": {"day": {"hours": "14 h/day"}, "night": {"scale": 0.3, "hours": "10 h/day"}}}]
)
def test_a_plan_is_explained_without_another_one(chat, changes, monkeypatch):
    problem = chat.replace({**changes, "existing": [], "hardware.h100": {"accelerator": "h100-sxm", "price": "9 $/h"}})
    plan = solve(problem)
    solved_anew = explain(problem)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("another plan was looked for")

    monkeypatch.setattr(planner, "plan_fleet", refuse)
    found = explain(problem, plan)
    assert found.solution == plan
    assert {row.what for row in found.binding} >= {pool.pool for pool in plan.fleet}
    assert [part.accelerator for part in found.not_chosen] == ["h100"]
    prices = {(price.limit, price.source): price.value for price in found.shadow_prices}
    others = {(price.limit, price.source): price.value for price in solved_anew.shadow_prices}
    for key in [key for key in prices if key[1] == "relaxation" and key[0].startswith("tasks.")]:
        assert prices[key] == pytest.approx(others[key], rel=1e-3, abs=1e-9)
    assert ("limits.inventory.a100", "fixed") in prices


def test_counts_that_the_user_holds_are_those_explained(chat):
    """A plan with servers to spare, which no optimum has: its own counts are held."""
    plan = solve(chat)
    candidates = build_candidates(resolve(chat))
    from codesign.explanation.held import held_plan

    held = held_plan(candidates, plan, Clock(deadline=time.monotonic() + 20))
    found = plan_fleet(candidates, None, Clock(deadline=time.monotonic() + 20))
    assert sum(held.replicas.values()) == sum(pool.replicas for pool in plan.fleet)
    assert held.servers == found.servers
    assert sum(held.rates.values()) == pytest.approx(sum(found.rates.values()))


def test_a_plan_of_another_problem_is_refused(chat, tmp_path):
    path = written(tmp_path, LAB.replace("offers: {}", "price: 2 $/h").replace("{a100: 8}", "{a100: 64}"))
    problem, target = load_problem(path), tmp_path / "plan.json"
    plan = solve(problem)
    plan.write(target)
    busier = tmp_path / "busier.yaml"
    busier.write_text(path.read_text().replace("rate: 12/s", "rate: 90/s"))
    with pytest.raises(NotThisPlanError, match="not of this problem"):
        explain(load_problem(busier), plan)
    result = CliRunner().invoke(app, ["explain", str(busier), str(target)])
    assert result.exit_code == 2
    assert "sha256 differs" in result.stderr
    assert "does not hold in it" in result.stderr
    wrong = json.loads(target.read_text())
    wrong["fleet"][0]["replicas"] += 50
    target.write_text(json.dumps(wrong))
    result = CliRunner().invoke(app, ["explain", str(path), str(target)])
    assert result.exit_code == 5
    assert "the plan does not hold" in result.stderr
    # Another file in which the plan holds as well is no obstacle: it is said.
    same = tmp_path / "same.yaml"
    same.write_text(path.read_text() + "# a remark\n")
    found = explain(load_problem(same), plan)
    assert any("another file" in note for note in found.notes)


def test_a_solution_without_a_plan_is_explained_as_such():
    problem = load_problem_text(RACKS.replace("COUNT", "10").replace("POWER", "10 kW"))
    answer = solve(problem)
    assert answer.status == "infeasible"
    assert answer.conflicts[0] == "site.racks.r.power"
    found = explain(problem, Solution.model_validate_json(answer.to_json()))
    assert (found.feasible, found.status) == (False, "infeasible")
    with pytest.raises(NotThisPlanError, match="holds no plan"):
        explain(problem.replace({"tasks.t.rate": "6/s"}), answer)
