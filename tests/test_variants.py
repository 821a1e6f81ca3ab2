"""The agent's side of the co-design: variants and number formats, each of which flips the optimum (by hand below)."""

import pytest

from codesign.check import check
from codesign.planner import solve
from codesign.problem import Problem, ProblemError, resolve

BASE = {
    "name": "variants",
    "models": {
        "large": {"card": "Llama-3.1-70B", "quality": 0.9, "weights": ["fp8"]},
        "small": {"card": "Llama-3.1-8B", "quality": 0.7, "weights": ["fp8"]},
    },
    "tasks": [
        {
            "name": "agent", "rate": "2/s", "calls": 4, "context": {"mean": 12000, "cv": 0.5}, "append": 800,
            "output": {"mean": 250}, "tool_wait": {"mean": "5 s"}, "prefix": {"reusable": 0.9},
            "slo": {"ttft": {"p95": "3 s"}, "tpot": {"p95": "80 ms"}},
            "variants": [
                {"name": "large", "model": "large"},
                {"name": "small", "model": "small", "calls_factor": 1.5},
            ],
        }
    ],
    "hardware": {"h200": {"accelerator": "h200-sxm", "server": {"accelerators": 4}, "price": "2 $/h"}},
    "options": {"gap": 0, "threads": 1, "max_replica_accelerators": 2, "disaggregation": "never"},
}  # fmt: skip


def solved(**changes):
    problem = Problem.from_dict(BASE).replace(changes)
    plan = solve(problem)
    assert plan.status == "optimal" or plan.polish.note  # polish went below the bound of the rows
    report = check(problem, plan)
    assert report.ok, report.violations
    return problem, plan


def variants_of(plan):
    return {route.variant for route in plan.routing}


def test_the_cheaper_variant_serves_until_quality_forbids_it():
    _, free = solved()
    _, strict = solved(**{"tasks.agent.min_quality": 0.8})
    assert variants_of(free) == {"small"}
    assert variants_of(strict) == {"large"}
    assert free.objective.value < strict.objective.value


def test_more_calls_flip_the_choice_back():
    """By hand: the small model costs some $/h at 1.5 times the calls, in proportion; beyond the ratio it loses."""
    _, large = solved(**{"tasks.agent.min_quality": 0.8})
    _, small = solved()
    ratio = large.objective.value / small.objective.value * 1.5
    _, dear = solved(**{"tasks.agent.variants.small.calls_factor": 8.0 * ratio})
    assert "large" in variants_of(dear)  # what is left of its servers may serve some by the small one
    assert dear.objective.value == pytest.approx(large.objective.value, rel=1e-6)


def test_compaction_pays_where_memory_binds():
    """Half the context is half the KV bytes per session: the compacted variant needs no more servers."""
    two = [
        {"name": "full", "model": "large"},
        {"name": "compacted", "model": "large", "max_context": 6000, "quality_factor": 0.95},
    ]
    change = {"tasks.agent.variants": two, "tasks.agent.rate": "6/s", "tasks.agent.tool_wait": {"mean": "60 s"}}
    _, full = solved(**change, **{"tasks.agent.min_quality": 0.88})
    _, either = solved(**change, **{"tasks.agent.min_quality": 0.85})
    assert variants_of(full) == {"full"}
    assert "compacted" in variants_of(either)
    assert either.objective.value < full.objective.value


FORMATS = {
    "models.large.weights": ["fp8", "bf16"],
    "models.large.activations": ["bf16"],
    "models.large.precision_quality": {"weights": {"fp8": 0.95}},
    "tasks.agent.variants": [{"name": "large", "model": "large"}],
}


def test_quality_of_a_number_format_flips_the_precision():
    """0.9 · 0.95 = 0.855: FP8 weights serve a task that asks for 0.855, and not one that asks for 0.86."""
    _, enough = solved(**FORMATS, **{"tasks.agent.min_quality": 0.855})
    problem, strict = solved(**FORMATS, **{"tasks.agent.min_quality": 0.86})
    assert {pool.precision.weights for pool in enough.fleet} == {"fp8"}
    assert {pool.precision.weights for pool in strict.fleet} == {"bf16"}
    assert enough.objective.value < strict.objective.value
    report = check(problem, enough)
    assert any("min_quality, in the precision of" in violation.what for violation in report.violations)


def test_no_precision_is_good_enough():
    change = FORMATS | {"models.large.weights": ["fp8"], "tasks.agent.min_quality": 0.86}
    expected = r"tasks\.agent\.min_quality: found 0\.86; expected at most 0\.855"
    with pytest.raises(ProblemError, match=expected):
        resolve(Problem.from_dict(BASE).replace(change))


def test_kv_format_alone_decides():
    """Prefill and decode share the KV format; its factor bars it in both phases."""
    change = {
        "models.large.kv": ["fp8", "bf16"],
        "models.large.precision_quality": {"kv": {"fp8": 0.9}},
        "tasks.agent.variants": [{"name": "large", "model": "large"}],
        "tasks.agent.min_quality": 0.9,
        "options.disaggregation": "always",
        "options.gap": 0.02,
    }
    _, plan = solved(**change)
    assert {pool.precision.kv for pool in plan.fleet} == {"bf16"}
