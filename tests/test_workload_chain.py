"""The chain of a median task: slices of the population by hand, and sums that agree with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.catalog import models
from codesign.problem import load_problem, resolve
from codesign.workload import call_population, kv_bytes
from codesign.workload.chain import _slices, chain
from codesign.workload.profile import profile

ROOT = Path(__file__).parents[1]


def _coding():
    instance = resolve(load_problem(ROOT / "problems" / "agent-fleet.yaml"))
    task = next(t for t in instance.tasks if t.name == "coding")
    return instance, task, call_population(task, task.variants[0])


def test_every_call_together_is_the_population():
    instance, task, population = _coding()
    card = instance.model(task.variants[0].model).card
    calls = chain(population, card, "fp8", shown=10_000)
    assert [c.call for c in calls] == list(range(1, calls[0].of + 1))
    assert np.mean([c.context_tokens for c in calls]) == pytest.approx(population.mean(population.context))
    assert np.mean([c.cached_tokens for c in calls]) == pytest.approx(population.mean(population.reusable))
    after = kv_bytes(card, population.context + population.output, "fp8")
    assert np.mean([c.kv_bytes for c in calls]) == pytest.approx(population.mean(after))
    contexts = [c.context_tokens for c in calls]
    assert np.all(np.diff(contexts) >= -1e-6)
    assert calls[-1].wait_s == 0
    assert calls[0].wait_s == pytest.approx(task.tool_wait.mean)


def test_two_halves_by_hand():
    _, _, population = _coding()
    order = np.argsort(population.context, kind="stable")
    weight, context = population.weight[order], population.context[order]
    part = np.clip(0.5 - (np.cumsum(weight) - weight), 0.0, weight)
    expected = (part @ context / 0.5, (weight - part) @ context / 0.5)
    assert _slices(context[None, :], weight, 2)[0] == pytest.approx(expected)


def test_profile_shows_the_chain_of_every_task():
    instance, _, _ = _coding()
    shown = profile(instance, (1,)).chains
    assert set(shown) == {task.name for task in instance.tasks}
    assert all(1 <= len(calls) <= 6 and calls[-1].call == calls[-1].of for calls in shown.values())


def test_a_single_call_is_its_own_chain():
    _, _, population = _coding()
    alone = replace(population, calls_values=np.ones(1), calls_weights=np.ones(1))
    (call,) = chain(alone, models()["gpt-oss-120b"], "bf16")
    assert (call.call, call.of, call.wait_s) == (1, 1, 0.0)
