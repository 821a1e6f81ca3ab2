import dataclasses
from typing import Any

import numpy as np
import pytest

from codesign.problem.distributions import Distribution
from codesign.problem.instance import JointLengths, TaskClass, Variant
from codesign.workload import call_population, held_seconds, kept_probability

FULL = Variant("full", "m", None, 1.0, 1.0)


def coding(**changes: Any) -> TaskClass:
    task = TaskClass(
        name="coding",
        rate_per_s=4.0,
        calls=Distribution.from_quantiles({0.5: 33, 0.9: 85}),
        context=Distribution.from_quantiles({0.5: 110e3, 0.9: 300e3}),
        append=Distribution.from_mean(2242),
        output=Distribution.from_quantiles({0.9: 937}, mean=446),
        tool_wait=Distribution.from_quantiles({0.5: 5.2, 0.99: 81}),
        prefix_shared_tokens=15e3,
        prefix_reusable=0.96,
    )
    return dataclasses.replace(task, **changes)


def test_moments_of_the_lengths_survive_the_quadrature() -> None:
    task = coding()
    calls = call_population(task, FULL)
    assert calls.weight.sum() == pytest.approx(1)
    assert calls.mean(calls.context) == pytest.approx(task.context.mean, rel=1e-8)
    assert calls.mean(calls.context**2) == pytest.approx(task.context.second_moment, rel=1e-8)
    assert calls.mean(calls.output**2) == pytest.approx(task.output.second_moment, rel=1e-8)
    # Context and output are independent, and a border between first and later calls must not couple them.
    product = calls.mean(calls.context * calls.output)
    assert product == pytest.approx(task.context.mean * task.output.mean, rel=1e-8)
    assert calls.calls_mean == pytest.approx(task.calls.mean, rel=1e-8)


def test_first_calls_are_one_in_n_and_the_shortest() -> None:
    calls = call_population(coding(), FULL)
    assert calls.weight[calls.first].sum() == pytest.approx(1 / calls.calls_mean)
    assert calls.context[calls.first].max() <= calls.context[~calls.first].min()
    assert np.all(calls.reusable[calls.first] == 15e3)


def test_reuse_meets_the_published_share() -> None:
    calls = call_population(coding(), FULL)
    assert calls.reusable_share == pytest.approx(0.96)
    assert np.all(calls.reusable < calls.context)
    # What was appended is always new.
    later = ~calls.first
    assert np.all(calls.context[later] - calls.reusable[later] >= 500)


def test_reuse_by_hand() -> None:
    task = coding(
        calls=Distribution.constant(4),
        context=Distribution.constant(1000),
        append=Distribution.constant(100),
        output=Distribution.constant(10),
        prefix_shared_tokens=200.0,
        prefix_reusable=0.5,
    )
    calls = call_population(task, FULL)
    # A quarter are first calls with 200 tokens; the others share the rest of 500: (500 − 50) / 0.75.
    assert calls.weight.tolist() == [0.25, 0.75]
    assert calls.reusable == pytest.approx([200, 600])
    # Everything but the appended tokens is the most that can be reused.
    most = call_population(dataclasses.replace(task, prefix_reusable=1.0), FULL)
    assert most.reusable == pytest.approx([200, 900])
    assert most.reusable_share == pytest.approx(0.725)
    # The shared prefix is found even when a task's own history was dropped.
    assert calls.cached(0.0) == pytest.approx([200, 200])
    assert calls.cached(0.5) == pytest.approx([200, 400])


def test_single_calls_reuse_the_shared_prefix_alone() -> None:
    calls = call_population(coding(calls=Distribution.constant(1)), FULL)
    assert calls.first.all()
    assert np.all(calls.reusable == np.minimum(15e3, calls.context - 1))


def test_compaction_cuts_the_context_and_adds_calls() -> None:
    task = coding()
    calls = call_population(task, Variant("compacted", "m", 128e3, 1.15, 1.0))
    assert calls.context.max() == 128e3
    assert calls.mean(calls.context) == pytest.approx(task.context.limited_mean(128e3), rel=1e-6)
    assert calls.calls_mean == pytest.approx(1.15 * task.calls.mean, rel=1e-6)
    truncated = call_population(task, FULL, context_limit=100e3)
    assert truncated.context.max() == 100e3


def test_a_fixed_hit_ratio_replaces_residency() -> None:
    task = coding(prefix_hit=0.9)
    assert call_population(task, FULL).reusable_share == pytest.approx(0.9)
    assert kept_probability(task, 0.0) == 1.0


def test_joint_lengths_keep_their_pairs() -> None:
    lengths = JointLengths(np.array([10.0, 3000.0]), np.array([500.0, 20.0]), np.array([0.25, 0.75]))
    task = coding(
        lengths=lengths, calls=Distribution.constant(1), prefix_shared_tokens=0.0, prefix_reusable=0.0
    )
    calls = call_population(task, FULL)
    assert calls.mean(calls.context * calls.output) == 0.25 * 5000 + 0.75 * 60_000
    assert calls.weight.size == 2
    assert calls.reusable_share == 0


def test_fewest_points_still_keep_the_means() -> None:
    task = coding()
    calls = call_population(task, FULL, points=(1, 1, 1))
    assert calls.mean(calls.context) == pytest.approx(task.context.mean)
    assert calls.weight.size == 2  # first and later calls


def test_what_is_kept_and_for_how_long() -> None:
    task = coding(calls=Distribution.constant(5), tool_wait=Distribution.constant(30.0))
    assert kept_probability(task, 29.0) == 0.0
    assert kept_probability(task, 30.0) == 1.0
    # Four of five calls are followed after 30 s; the last holds for the whole time-to-live.
    mean, second = held_seconds(task, 100.0)
    assert mean == pytest.approx(0.8 * 30 + 0.2 * 100)
    assert second == pytest.approx(0.8 * 900 + 0.2 * 10_000)
    assert held_seconds(task, 10.0) == pytest.approx((10.0, 100.0))


def test_held_seconds_of_a_long_tail_match_sampling() -> None:
    task = coding()
    waits = np.exp(task.tool_wait.mu + task.tool_wait.sigma * np.random.default_rng(1).normal(size=400_000))
    calls = call_population(task, FULL).calls_mean
    held = np.minimum(waits, 60.0)
    mean, second = held_seconds(task, 60.0)
    assert mean == pytest.approx((1 - 1 / calls) * held.mean() + 60 / calls, rel=0.01)
    assert second == pytest.approx((1 - 1 / calls) * (held**2).mean() + 3600 / calls, rel=0.01)


def test_a_time_to_live_must_be_finite() -> None:
    with pytest.raises(ValueError, match="found a time-to-live of inf s; expected a finite number"):
        held_seconds(coding(), float("inf"))


def test_the_most_that_can_be_reused_is_that_of_the_distributions() -> None:
    """Pages of 1K to 8K and more in contexts of 20K: three appends said 0.905 of what draws say is 0.887."""
    task = coding(
        calls=Distribution.constant(14),
        context=Distribution.from_quantiles({0.5: 15e3, 0.9: 45e3}),
        append=Distribution.from_quantiles({0.5: 1e3, 0.9: 8e3}),
        prefix_shared_tokens=0.0,
        prefix_reusable=1.0,
    )
    rng = np.random.default_rng(0)
    context = np.sort(np.minimum(task.context.quantiles(rng.random(400_000)), 128e3))
    new = np.minimum(task.append.quantiles(rng.random(context.size)), context)
    new[: context.size // 14] = context[: context.size // 14]
    calls = call_population(task, FULL, context_limit=128e3)
    assert calls.reusable_share == pytest.approx(1 - new.sum() / context.sum(), rel=2e-3)


def test_contexts_that_are_cut_keep_their_mean() -> None:
    task = coding(context=Distribution.from_quantiles({0.5: 20e3, 0.9: 90e3}))
    for limit in (30e3, 64e3, 128e3, 256e3):
        calls = call_population(task, FULL, context_limit=limit)
        assert calls.mean(calls.context) == pytest.approx(task.context.limited_mean(limit), rel=1e-6), limit
