"""`solve --verify`: what a simulation breaks is planned with stricter rows, and the loop says where it ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign import check, load_problem, load_solution, simulate, verification
from codesign.candidates.build import build_candidates
from codesign.cli import app
from codesign.problem import resolve
from codesign.problem.instance import Tightening
from codesign.verification import verified

PROBLEM, SOLUTION = "problems/azure-chat.yaml", "solutions/azure-chat.json"


@pytest.fixture(scope="module")
def instance():
    return resolve(load_problem(PROBLEM))


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(verification, "DURATION_S", 60.0)
    monkeypatch.setattr(verification, "SEEDS", 1)


def thin(solution):
    """The plan with a tenth of its prefill replicas less, which costs less."""
    fleet = []
    for pool in solution.fleet:
        if pool.role == "prefill":
            replicas = int(0.9 * pool.replicas)
            pool = pool.model_copy(update={"replicas": replicas, "accelerators": replicas})
        fleet.append(pool)
    objective = solution.objective.model_copy(update={"value": 0.95 * solution.objective.value})
    return solution.model_copy(update={"fleet": tuple(fleet), "objective": objective})


def with_tightening(instance, *tightening):
    return replace(instance, options=replace(instance.options, tightening=tightening))


def limits(candidates, role, row):
    """[K] limits of a row over all blocks of a role that have it."""
    return np.concatenate(
        [
            block.limit[:, block.row_names.index(row)]
            for block, points in zip(candidates.data.blocks, candidates.points, strict=True)
            if points is not None and points.role == role and row in block.row_names
        ]
    )


def test_a_broken_promise_is_planned_again_with_less_load_and_wait(instance, brief):
    good = load_solution(SOLUTION)
    asked = []

    def attempt(changed):
        asked.append(changed.options.tightening)
        return good

    found = verified(instance, thin(good), attempt, lambda what: None)
    seen = found.verification
    assert seen.ok
    assert [len(each.broken) > 0 for each in seen.rounds] == [True, False]
    assert {(b.pool, b.resource) for b in seen.rounds[0].broken} == {("mi300x-llama-prefill", "compute")}
    ((tightening,),) = asked
    assert (tightening.role, tightening.model, tightening.hardware) == ("prefill", "llama", "mi300x")
    assert tightening.utilization < 1
    assert tightening.wait < 1
    assert seen.price == pytest.approx(1 / 0.95 - 1)
    # The bound is the first plan's, which holds for stricter rows as well.
    assert found.objective.bound == good.objective.bound
    assert found.objective.gap == pytest.approx(1 - good.objective.bound / good.objective.value)


def test_a_plan_that_holds_is_left_alone(instance, brief):
    good = load_solution(SOLUTION)
    found = verified(instance, good, lambda changed: pytest.fail("planned again"), lambda what: None)
    assert found.verification.ok
    assert found.verification.price == 0.0
    assert found.model_copy(update={"verification": None}) == good


def test_the_loop_says_why_it_ends_without_success(instance, brief, monkeypatch):
    good = load_solution(SOLUTION)
    bad = thin(good)
    monkeypatch.setattr(verification, "ROUNDS", 3)
    found = verified(instance, bad, lambda changed: bad, lambda what: None)
    assert not found.verification.ok
    assert len(found.verification.rounds) == 3
    assert "3 plans were simulated" in found.verification.stopped
    nothing = good.model_copy(update={"fleet": (), "status": "infeasible"})
    found = verified(instance, bad, lambda changed: nothing, lambda what: None)
    assert not found.verification.ok
    assert "infeasible" in found.verification.stopped
    assert found.fleet == bad.fleet


def test_tightenings_scale_the_rows_of_their_pools_alone(instance):
    loose = build_candidates(instance)
    strict = build_candidates(
        with_tightening(
            instance,
            Tightening("prefill", "llama", "mi300x", utilization=0.9, wait=0.5, z=2.0),
            Tightening("decode", "llama", None, z=1.5, link=0.8),
            Tightening("colocated", "llama", None, z=4.0, utilization=0.9),
        )
    )
    hardware = np.concatenate(
        [
            loose.configurations.hardware[points.configuration]
            for points in loose.points
            if points is not None and points.role == "prefill"
        ]
    )
    mi300x = hardware == [option.name for option in instance.hardware].index("mi300x")
    for row, factor in (("busy", 0.9), ("ttft", 0.9 * 0.5**0.5), ("capacity", 0.5**0.5), ("link", 1.0)):
        ratio = limits(strict, "prefill", row) / limits(loose, "prefill", row)
        assert ratio[mi300x] == pytest.approx(factor)
        assert ratio[~mi300x] == pytest.approx(1.0)
    for row, factor in (("time", 1.5**-0.5), ("capacity", 1.5**-0.5), ("link", 0.8), ("slots", 1.0)):
        assert limits(strict, "decode", row) / limits(loose, "decode", row) == pytest.approx(factor)
    for row, factor in (("tpot", 0.45), ("ttft", 0.9), ("busy", 0.9), ("capacity", 0.5), ("slots", 1.0)):
        assert limits(strict, "colocated", row) / limits(loose, "colocated", row) == pytest.approx(factor)


TIGHT = """\
name: tight
models: {m: {card: Llama-3.1-70B, weights: [fp8], kv: [fp8]}}
tasks:
  - name: chat
    rate: 32/s
    models: [m]
    context: {p50: 1500, p90: 5000}
    output: {mean: 250}
    on_overlong: truncate
    slo: {ttft: {p95: 1.1 s}, tpot: {p95: 40 ms}}
hardware: {b200: {accelerator: b200-sxm, server: {accelerators: 1}}}
options: {max_replica_accelerators: 1, disaggregation: always}
"""


def test_solve_verify_at_the_command_line_plans_again_what_the_simulation_breaks(tmp_path, brief, monkeypatch):
    """Prefill replicas wait longer than they were planned to: the loop buys what the promise costs."""
    monkeypatch.setattr(verification, "DURATION_S", 300.0)
    problem, plan = tmp_path / "tight.yaml", tmp_path / "plan.json"
    problem.write_text(TIGHT)
    found = CliRunner().invoke(app, ["solve", str(problem), "--verify", "-o", str(plan)])
    assert found.exit_code == 0, found.stderr
    assert "Every SLO holds in simulation" in found.stdout
    solution = load_solution(plan)
    first, *_, last = solution.verification.rounds
    assert {(b.metric, b.pool, b.resource) for b in first.broken} == {("ttft", "b200-m-prefill", "compute")}
    assert first.tightened[0].startswith("b200 m prefill: utilization ×")
    assert last.broken == ()
    assert solution.verification.price == pytest.approx(last.objective / first.objective - 1)
    assert last.objective > first.objective
    # The figures are those of a plan of the problem as it stands, with the bound that was proven for it.
    assert check(load_problem(problem), solution).ok
    assert solution.objective.bound <= first.objective
    assert simulate(load_problem(problem), solution, duration_s=120.0, seed=5).ok
