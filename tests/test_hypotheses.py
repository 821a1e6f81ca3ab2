"""The hypotheses: every problem loads, every verdict has its figures, and cheap ones come out the same again."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import hypotheses  # noqa: E402
import hypotheses_cards  # noqa: E402
from hypotheses_lab import crossing  # noqa: E402

from codesign.problem import load_problem, resolve  # noqa: E402

PROBLEMS = sorted((ROOT / "problems" / "hypotheses").glob("*.yaml"))
FOUND = json.loads((ROOT / "solutions" / "hypotheses" / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PROBLEMS, ids=lambda path: path.stem)
def test_problem_loads_and_resolves(path):
    assert resolve(load_problem(path)).name == path.stem


def test_every_test_has_a_problem_and_a_result():
    assert {path.stem for path in PROBLEMS} == set(hypotheses.TESTS) == set(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_a_verdict_stands_on_figures_and_says_what_would_have_refuted_it(name):
    found = FOUND[name]
    assert found["verdict"].startswith(("supported", "not supported", "depends on"))
    assert found["refuted_by"]
    assert found["published"]
    assert found["crossover"]
    assert found["figures"]
    assert found["plots"]
    assert all(len(row) == len(found["header"]) for row in found["rows"])
    for plot in found["plots"]:
        assert (ROOT / "solutions" / "hypotheses" / f"{name}-{plot['name']}.png").exists()


def test_report_is_that_of_the_results():
    text = (ROOT / "solutions" / "hypotheses" / "report.md").read_text(encoding="utf-8")
    assert text == hypotheses.report(FOUND)


@pytest.mark.parametrize("name", ["t2", "t6", "t7"])
def test_what_cards_decide_comes_out_the_same_again(name):
    finding = getattr(hypotheses_cards, name)()
    stored = FOUND[finding.test]
    assert finding.verdict == stored["verdict"]
    assert [list(row) for row in finding.rows] == stored["rows"]


def test_published_closed_forms():
    """facts of the paper's reading notes: 1 (MHA), 8 (GQA of 8) and about 242 (MLA absorbed) FLOP/B in 16 bits."""
    figures = FOUND["T6"]["figures"]
    assert figures["OI mha bf16"] == pytest.approx(1.0)
    assert figures["OI gqa bf16"] == pytest.approx(8.0)
    assert figures["OI mla bf16"] == pytest.approx(242, rel=0.01)


@pytest.mark.parametrize("name", FOUND)
def test_optima_are_called_so_and_plans_are_no_better(name):
    found = FOUND[name]
    section = hypotheses.report({name: found})
    assert (hypotheses.OPTIMA in section) == found["optima"]
    for entry in found["plans"]:
        assert entry["plan"] is None or entry["plan"] >= entry["least"] * (1 - 1e-6)
        assert f"| {entry['setting']} |" in section


def test_sparsity_that_holds_less_saves_more_than_sparsity_that_reads_less():
    figures = FOUND["T6"]["figures"]
    for share in ("0.25", "0.0625", "0.015625"):
        assert figures[f"$/h holding {share}"] < figures[f"$/h reading {share}"] < figures["$/h reading 1"]


def test_crossing_by_straight_lines():
    assert crossing([0.0, 1.0, 2.0], [3.0, 1.0, -1.0]) == pytest.approx(1.5)
    assert crossing([0.0, 1.0], [1.0, 2.0]) is None
