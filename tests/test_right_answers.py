"""Small problems whose right answer is known by hand: each was once answered wrongly, as optimal or as infeasible."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from codesign import check, solve
from codesign.candidates.flows import chain_moments, task_latency_probability
from codesign.candidates.lengths import task_calls
from codesign.problem import Problem, resolve

H200 = {"h200": {"accelerator": "h200-sxm", "price": "3 $/h"}}


def problem(task, hardware=H200, model=None, **options):
    """One model, tasks that differ from a common one, one hardware."""
    tasks = [task] if isinstance(task, dict) else task
    common = {"name": "a", "rate": "1/s", "models": ["m"], "calls": 1, "context": 2000, "output": 100}
    return Problem.from_dict(
        {
            "kind": "procurement",
            "models": {"m": model or {"card": "Llama-3.1-70B"}},
            "tasks": [common | each for each in tasks],
            "hardware": hardware,
            "options": {"max_replica_accelerators": 4, "gap": "1%", "time_limit": "30 s"} | options,
        }
    )


def solved(stated):
    """The solution of a problem, once the checker has accepted it."""
    found = solve(stated)
    report = check(stated, found)
    assert report.ok, report.violations
    return found


# ---- tools run between calls ------------------------------------------------------------------------------------


def latency(**task):
    return problem({"slo": {"task_latency": {"p95": "30 s"}}} | task)


def test_no_tool_runs_after_the_only_call():
    wait = {"mean": "5 s", "cv": 12}
    plans = [solved(latency(tool_wait=wait)), solved(latency())]
    assert [plan.objective.value for plan in plans] == pytest.approx([24.0, 24.0])
    first, second = (plan.tasks[0].slo[0].achieved for plan in plans)
    assert first == pytest.approx(second)


def some_calls(**task):
    instance = resolve(latency(**task))
    cards = {model.name: model.card for model in instance.models}
    return task_calls(instance.tasks[0], cards)[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_moments_of_a_chain_by_hand(count):
    calls = some_calls(calls=count, tool_wait={"mean": "5 s", "cv": 12}, output={"mean": 100, "cv": 0.5})
    mean, deviation = chain_moments(calls, count, 3.0, 0.25)
    assert mean == pytest.approx(3.0 * count + 5.0 * (count - 1))
    assert deviation**2 == pytest.approx(0.25 * count + 60.0**2 * (count - 1))
    # TTFT of 1 ± 0.3 s and 100 ± 50 tokens of 20 ms: 3 s a call.
    middle, spread = mean, np.sqrt(count * (0.3**2 + (50 * 0.02) ** 2) + 60.0**2 * (count - 1))
    found = task_latency_probability(calls, 1.0, 0.3, 0.02, 30.0)
    assert found == pytest.approx(ndtr((30.0 - middle) / spread), rel=1e-9)


def test_a_mixture_of_chains_has_a_wait_less_than_calls_in_each():
    calls = some_calls(calls=4, tool_wait={"mean": "5 s", "cv": 1})
    mixed = replace(calls.population, calls_values=np.array([1.0, 4.0]), calls_weights=np.array([0.5, 0.5]))
    calls = replace(calls, population=mixed)
    one = ndtr((6.0 - 3.0) / 0.3)  # nothing waits
    four = ndtr((6.0 - (4 * 3.0 + 3 * 5.0)) / np.sqrt(4 * 0.3**2 + 3 * 5.0**2))
    assert task_latency_probability(calls, 1.0, 0.3, 0.02, 6.0) == pytest.approx(0.5 * one + 0.5 * four)


def test_planner_and_checker_agree_on_chains_with_long_waits():
    wait = {"mean": "4 s", "cv": 1}
    for calls in (1, 2, 3):
        solved(latency(calls=calls, tool_wait=wait))  # `check` recomputes what is reported
