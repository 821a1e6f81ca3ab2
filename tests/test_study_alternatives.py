"""Near-optimal alternatives: other plans at almost the same cost, each a plan of the problem in its own right."""

import json

import pytest
from studies import document, modelled, problem
from typer.testing import CliRunner

from codesign import alternatives, check, load_problem, load_solution
from codesign.cli import app
from codesign.study.alternatives import difference

TWINS = {
    "acme": (2.0, 100, {"short": 10}),
    "bolt": (2.02, 100, {"short": 10}),
    "crow": (2.5, 100, {"short": 10}),
}


def twins():
    return problem(TWINS, {"short": 40.0})


def test_another_vendor_at_one_per_cent_more_by_hand():
    found = alternatives(twins(), 5, 0.02)
    assert found.best.objective.value == pytest.approx(8.0)
    values = {item.what: item.value for item in found.best.alternatives}
    assert values["nothing from ACME"] == pytest.approx(8.08)  # 4 × 2.02 $/h
    assert all(item.extra <= 0.02 + 1e-9 for item in found.best.alternatives)  # crow would cost 25 % more
    assert all("CROW" not in item.accelerators for item in found.best.alternatives)
    assert max(item.difference for item in found.best.alternatives) == pytest.approx(1.0)
    for plan in found.plans:
        assert check(twins(), plan).violations == ()


def test_more_money_more_choice():
    wide = alternatives(twins(), 5, 0.3)
    assert any("CROW" in item.accelerators for item in wide.best.alternatives)
    assert len({json.dumps(item.accelerators, sort_keys=True) for item in wide.best.alternatives}) == len(wide.plans)


def test_no_alternative_where_there_is_none():
    alone = problem({"acme": TWINS["acme"]}, {"short": 40.0})
    assert alternatives(alone, 3, 0.1).plans == ()


def test_modelled_alternatives_pass_the_check():
    base = modelled(options={"gap": "1%", "threads": 1, "max_replica_accelerators": 1, "time_limit": "20 s"})
    found = alternatives(base, 3, 2.5)
    assert found.plans
    assert any(difference(found.best, plan) > 0.5 for plan in found.plans)
    for plan in (found.best, *found.plans):
        assert check(base, plan).violations == ()


def test_on_the_command_line(tmp_path):
    file, plan = tmp_path / "p.yaml", tmp_path / "plan.json"
    file.write_text(json.dumps(document(TWINS, {"short": 40.0})))
    words = ["solve", str(file), "--alternatives", "2", "--within", "2%", "-o", str(plan)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "Almost as good" in result.output
    best = load_solution(plan)
    assert best.alternatives
    for item in best.alternatives:
        other = load_solution(tmp_path / str(item.solution))
        assert check(load_problem(file), other).ok
    assert CliRunner().invoke(app, [*words, "--robust"]).exit_code == 2
