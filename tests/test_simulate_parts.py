"""Parts of the simulator: memory, sessions as they are found open, arrivals, statistics."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.problem import load_problem, resolve
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.memory import KvMemory
from codesign.simulate.sessions import Lengths, open_sessions, size_biased
from codesign.simulate.statistics import chain_latency, percentile, percentile_interval, warm_up_s
from codesign.workload.population import call_population, held_seconds, kept_probability

# ---- memory


def test_what_is_parked_longest_gives_way_first():
    memory = KvMemory(10.0)
    for session in range(3):
        assert memory.take(3.0, float(session))
        memory.park(session, 3.0, 100.0, float(session))
    assert memory.take(4.0, 3.0)
    assert memory.resume(0, 100.0, 3.0) is None
    assert memory.resume(1, 100.0, 3.0) == 3.0
    assert memory.evicted == 1
    # 4 + 3 bytes run, 3 are parked: 4 more do not fit, and the parked ones are gone for nothing.
    assert not memory.take(4.0, 3.0)
    assert memory.used == 7.0


def test_a_parked_session_expires_at_its_time_to_live():
    memory = KvMemory(10.0)
    memory.take(2.0, 0.0)
    memory.park(7, 2.0, 5.0, 0.0)
    assert memory.resume(7, 5.0, 5.0) == 2.0
    memory.park(7, 2.0, 5.0, 5.0)
    assert memory.resume(7, 5.0, 10.1) is None
    assert memory.used == 0.0
    # 2 bytes for 10 s, whenever somebody looks.
    assert memory.area(50.0) == pytest.approx(20.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.floats(0.1, 4.0)), max_size=60))
def test_memory_never_holds_more_than_its_room_nor_less_than_nothing(moves):
    memory, running, now = KvMemory(10.0), [], 0.0
    for what, session, size in moves:
        now += 1.0
        if what == 0 and memory.take(size, now):
            running.append(size)
        elif what == 1 and running:
            memory.give(running.pop(), now)
        elif what == 2 and running:
            memory.park(100 * session + len(moves) + int(now), running.pop(), 7.0, now)
        assert sum(running) - 1e-9 <= memory.used <= memory.room + 1e-9


# ---- sessions


@pytest.fixture(scope="module")
def coding():
    """The coding task of the example fleet under its long variant, with its population."""
    task = next(t for t in resolve(load_problem("problems/agent-fleet.yaml")).tasks if t.name == "coding")
    variant = task.variants[0]
    return task, variant, call_population(task, variant)


def lengths_of(coding):
    task, variant, population = coding
    return Lengths(task, population, variant.max_context, variant.calls_factor)


def drawn(lengths, rng, chains=4000):
    of = lengths.numbers(rng, chains)
    number = np.concatenate([np.arange(n) for n in of])
    chain = np.repeat(np.arange(chains), of)
    place = lengths.places(number, of[chain], rng.random(chains)[chain])
    return chain, number, lengths.draw(rng, place, number == 0)


def test_chains_have_the_population_s_means(coding):
    _, _, population = coding
    chain, number, (context, reusable, output) = drawn(lengths_of(coding), np.random.default_rng(0))
    assert np.bincount(chain).mean() == pytest.approx(population.calls_mean, rel=0.03)
    assert context.mean() == pytest.approx(float(population.mean(population.context)), rel=0.02)
    assert (context**2).mean() == pytest.approx(float(population.mean(population.context**2)), rel=0.06)
    assert reusable.sum() / context.sum() == pytest.approx(population.reusable_share, abs=0.005)
    assert output.mean() == pytest.approx(float(population.mean(population.output)), rel=0.02)
    # First calls are the short ones, as the population has it (on points fine enough to see the shortest 1/45).
    population = call_population(*coding[:2], points=(63, 3, 3))
    first = float(population.weight[population.first] @ population.context[population.first]) * population.calls_mean
    assert context[number == 0].mean() == pytest.approx(first, rel=0.1)
    # Contexts grow along a chain.
    assert np.all(np.diff(context)[np.diff(chain) == 0] >= 0)


def test_open_sessions_are_those_of_the_stationary_state(coding):
    task, _, population = coding
    rate, call_s, horizon = 2.0, 11.0, 400.0
    rng = np.random.default_rng(1)
    starts = Arrivals().times(rate, horizon, rng)
    found = open_sessions(lengths_of(coding), starts, rate, call_s, horizon, rng)
    # Calls would start at the plan's rate from the first second on if each took call_s.
    calls = found.calls
    begins = np.flatnonzero(np.diff(calls.session, prepend=-1))
    cycle = calls.gap_s + call_s
    total = np.cumsum(cycle) - cycle
    at = found.entry_s[calls.session] + total - np.repeat(total[begins], np.diff(np.append(begins, total.size)))
    counts = np.histogram(at, bins=8, range=(0, horizon))[0] / (horizon / 8)
    assert counts == pytest.approx(rate * population.calls_mean, rel=0.08)
    # What is parked follows Little's law with the planner's holding time, calls under way apart.
    parked = int((found.parked.age_s >= 0).sum())
    held = held_seconds(task, task.prefix_ttl_s)[0]
    assert parked == pytest.approx(rate * population.calls_mean * held, rel=0.08)
    later = calls.after_gap
    assert calls.in_time[later].mean() == pytest.approx(kept_probability(task, task.prefix_ttl_s), abs=0.01)


def test_size_biased_waits(coding):
    wait = coding[0].tool_wait
    middle = (np.arange(100_000) + 0.5) / 100_000
    assert wait.quantiles(middle).mean() == pytest.approx(wait.mean, rel=0.01)
    assert size_biased(wait, middle).mean() == pytest.approx(wait.second_moment / wait.mean, rel=0.05)


# ---- arrivals


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_arrivals_have_their_rate_from_the_start_and_their_burstiness(cv):
    rng = np.random.default_rng(2)
    times = Arrivals(cv).times(50.0, 1000.0, rng)
    gaps = np.diff(times)
    assert times.size == pytest.approx(50_000, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.08 * max(cv, 0.1))
    # A process that has always been running shows no burst at its start.
    early = [Arrivals(cv).times(50.0, 0.2, np.random.default_rng(seed)).size for seed in range(600)]
    assert np.mean(early) == pytest.approx(10.0, rel=0.15)


def test_arrivals_refuse_what_is_no_burstiness():
    with pytest.raises(ValueError, match="coefficient of variation"):
        Arrivals(-1.0)


# ---- statistics


def test_percentile_is_a_value_that_was_seen():
    values = np.arange(1.0, 101.0)
    assert percentile(values, 0.95) == 95.0
    assert percentile(values, 0.99) == 99.0
    assert percentile(values[:1], 0.5) == 1.0
    assert np.isnan(percentile(values[:0], 0.5))


def test_warm_up_ends_where_the_start_no_longer_shows():
    rng = np.random.default_rng(3)
    end = np.sort(rng.random(20_000)) * 100
    value = 1.0 + 0.1 * rng.standard_normal(end.size) + 3.0 * np.exp(-end / 4)
    assert 8 <= warm_up_s(end, value, 100.0) <= 25
    assert warm_up_s(end, 1.0 + 0.1 * rng.standard_normal(end.size), 100.0) <= 50


def test_percentile_intervals_cover():
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = rng.exponential(1.0, 8000)
        low, high = percentile_interval(np.arange(8000.0), values, 0.95)
        inside += low <= -np.log(0.05) <= high
    assert inside >= 88


def test_chains_take_calls_of_their_place():
    rng = np.random.default_rng(4)
    place = rng.random(50_000)
    places = np.tile((np.arange(10) + 0.5) / 10, 500)
    totals = chain_latency(place, 1.0 + place, places, np.repeat(np.arange(500), 10), 500, rng)
    assert totals.mean() == pytest.approx(15.0, rel=0.01)
    assert totals.std() < 0.1


def test_a_fixed_hit_ratio_is_met(coding):
    task, variant, _ = coding
    fixed = dataclasses.replace(task, prefix_hit=0.8)
    population = call_population(fixed, variant)
    lengths = Lengths(fixed, population, variant.max_context, variant.calls_factor)
    _, _, (context, reusable, _) = drawn(lengths, np.random.default_rng(5))
    assert reusable.sum() / context.sum() == pytest.approx(0.8, abs=0.01)
