"""Waiting by hand, against Erlang's formula, and the numbers that DESIGN 3.4 quotes."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import poisson

from codesign.performance.queueing import (
    UNEVEN,
    batch_swing,
    calls_met,
    mean_wait,
    normal_quantile,
    poisson_mean_within,
    pooling_factor,
    wait_exceeds,
    wait_moment_ratio,
    wait_probability,
)


def test_pollaczek_khinchine_by_hand():
    """Half of the jobs take 1 s, half 3 s, 0.3 jobs/s: λE[S²]/(2(1−ρ)) = 0.3·5/(2·0.4) s."""
    assert mean_wait(0.3 * 2.0, 0.3 * 5.0, 1) == pytest.approx(1.875)


def test_one_server_waits_with_probability_of_its_load():
    rho = np.array([0.1, 0.5, 0.9])
    assert wait_probability(rho, 1) == pytest.approx(rho)
    assert pooling_factor(rho, 1) == pytest.approx(rho / (2 * (1 - rho)))


def erlang_c(load, servers):
    """P(a job waits) in M/M/n."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(
    ("rho", "servers"),
    [(rho, n) for rho in (0.6, 0.7, 0.8, 0.87, 0.9, 0.95) for n in (1, 2, 4, 8, 16)],
)
def test_sakasegawa_is_near_erlang(rho, servers):
    """M/M/n with jobs of 1 s: the exact mean wait is C/(n(1−ρ)); E[S²] = 2 s².

    Within 10 % where waits matter (high load, few servers); above the truth elsewhere.
    """
    load = rho * servers
    exact = erlang_c(load, servers) / (servers * (1 - rho))
    found = float(mean_wait(load, 2.0 * load, servers))
    assert found >= 0.97 * exact
    if rho >= 0.87 or servers <= 2 or (rho >= 0.8 and servers <= 8):
        assert found == pytest.approx(exact, rel=0.10)
    assert found - exact <= 0.04  # of a job


def test_waits_without_load_and_beyond_it():
    assert mean_wait(0.0, 0.0, 4) == 0.0
    assert mean_wait(4.0, 8.0, 4) == np.inf
    assert mean_wait(5.0, 8.0, 4) == np.inf


def test_pooling_shortens_waits():
    waits = mean_wait(0.8 * np.array([1, 2, 4, 8]), 1.6 * np.array([1, 2, 4, 8]), np.array([1, 2, 4, 8]))
    assert np.all(np.diff(waits) < 0)


def test_a_wait_that_ignores_the_mix_is_wrong_tenfold():
    """DESIGN 3.4: chats of 20 ms alone, or 5 % of the load in 85K-token prompts of 8 s, at one load."""
    rho, chat, long = 0.7, 0.020, 8.0
    alone = float(mean_wait(rho, rho * chat, 1))
    mixed = float(mean_wait(rho, 0.95 * rho * chat + 0.05 * rho * long, 1))
    assert alone == pytest.approx(rho * chat / (2 * (1 - rho)))
    assert mixed > 10 * alone


def test_tail_is_exponential_behind_the_probability_of_waiting():
    rho, mean = 0.8, 0.5
    assert wait_exceeds(0.0, mean, rho, 1) == pytest.approx(rho)
    assert wait_exceeds(-0.1, mean, rho, 1) == 1.0
    seconds = np.linspace(0.0, 60.0, 200_001)
    tail = wait_exceeds(seconds, mean, rho, 1)
    assert np.trapezoid(tail, seconds) == pytest.approx(mean, rel=1e-6)  # the mean is the tail's area
    assert np.all(np.diff(tail) < 0)
    assert wait_exceeds(3.0, 0.0, rho, 1) == 0.0
    assert wait_exceeds(3.0, np.inf, rho, 1) == 1.0


@pytest.mark.parametrize(("mean", "slots"), [(8.0, 14), (40.0, 52)])
def test_slots_for_a_poisson_batch(mean, slots):
    """P(wait) ≤ 5 % needs 14 slots for a mean of 8, and 52 for 40 (DESIGN 3.4)."""
    assert poisson_mean_within(slots) >= mean
    assert poisson_mean_within(slots - 1) < mean


@pytest.mark.parametrize("most", [1, 3, 14, 52, 256, 1024])
@pytest.mark.parametrize("percentile", [0.9, 0.95, 0.99])
def test_largest_poisson_mean_is_the_largest(most, percentile):
    mean = float(poisson_mean_within(most, percentile))
    assert poisson.cdf(most - 1, mean) == pytest.approx(percentile, rel=1e-9)


def test_normal_quantiles():
    assert normal_quantile([0.5, 0.95, 0.99]) == pytest.approx([0.0, 1.6448536, 2.3263479])


# ---- loads of one ratio ------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", [1, 4, 64])
@pytest.mark.parametrize("ratio", [0.02, 0.5, 4.0])
def test_of_one_ratio_waits_are_longer_where_replicas_are_busier(servers, ratio):
    """E[S²] grows with the load: prefill columns look for the most utilisation by halves."""
    rho = np.linspace(0.01, 0.99, 99)
    wait = pooling_factor(rho, servers) * ratio
    assert wait == pytest.approx(mean_wait(servers * rho, servers * rho * ratio, servers))
    deviation = np.sqrt(2 * wait**2 / wait_probability(rho, servers) - wait**2)
    for rising in (wait, deviation, *(wait_exceeds(t, wait, rho, servers) for t in (0.05, 0.3, 1.0, 4.0))):
        assert np.all(np.diff(rising) >= -1e-12)


def test_a_batch_that_lengthens_its_own_steps_swings_as_a_shared_processor():
    """In one, n jobs have mean ρ/(1−ρ) and variance ρ/(1−ρ)²; the share of a step that grows with them is ρ there."""
    load = np.array([0.0, 0.3, 0.6, 0.9])
    assert batch_swing(load, 5.0, 1) == pytest.approx(1 / (1 - load))
    assert batch_swing(load, 5.0, 4) == pytest.approx(np.maximum(1 / (1 - load) / 4, 1.0))
    assert batch_swing(0.0, 0.3, 4) == pytest.approx(0.3)
    rng = np.random.default_rng(3)
    jobs, time, held, square, now = 0, 0.0, 0.0, 0.0, rng.exponential(1 / 0.6, 200_000)
    for gap in now:  # M/M/1 counts are those of a shared processor
        left = gap
        while jobs and (done := rng.exponential(1.0)) < left:
            time, held, square = time + done, held + done * jobs, square + done * jobs**2
            left, jobs = left - done, jobs - 1
        time, held, square = time + left, held + left * jobs, square + left * jobs**2
        jobs += 1
    mean = held / time
    assert (square / time - mean**2) / mean == pytest.approx(batch_swing(0.6, mean, 1), rel=0.1)


def test_calls_met_by_hand():
    """By chance as many as there are; two replicas and many calls: one less, and half of one, and who is uneven."""
    assert calls_met([0.2, 3.0, 80.0], 1) == pytest.approx([0.2, 3.0, 80.0])
    assert calls_met(50.0, 2) == pytest.approx(50.0 - 1.0 + 0.5 + UNEVEN / 2 / 50.0)
    assert calls_met(1e-3, 16) < 1e-20


@pytest.mark.parametrize("calls", [0.3, 1.0, 2.5, 20.0])
def test_calls_met_are_those_of_routing_to_the_emptiest(calls):
    """Exponential stays, simulated."""
    rng = np.random.default_rng(4)
    for n in (2, 4, 16):
        there, met, arrivals = np.zeros(n, dtype=int), 0, 0
        for event in range(30_000):
            busy = there.sum()
            if rng.random() * (n * calls + busy) < n * calls:
                least = int(np.argmin(there))
                if event > 3000:
                    met, arrivals = met + there[least], arrivals + 1
                there[least] += 1
            else:
                there[np.searchsorted(np.cumsum(there), rng.random() * busy, side="right")] -= 1
        assert float(calls_met(calls, n)) == pytest.approx(met / arrivals, rel=0.1, abs=0.06)


def test_calls_met_are_fewer_on_more_replicas():
    found = calls_met(np.geomspace(1e-2, 100, 40)[:, None], np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]))
    assert np.all(np.diff(found, axis=1) <= 1e-9)
    assert np.all(np.diff(found, axis=0) >= -1e-12)


def lognormal(cv):
    """E[S], E[S²], E[S³] of lognormal jobs of mean 1 s."""
    return 1.0, 1.0 + cv**2, (1.0 + cv**2) ** 3


def waits(rho, service, n=400_000, seed=3):
    """Waits in a queue of one server by Lindley's recursion."""
    rng = np.random.default_rng(seed)
    steps = service(rng, n) - rng.exponential(1.0 / rho, n)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    return walk - np.minimum.accumulate(walk)


def test_second_moment_of_waits_by_hand():
    """ρ = 0.5, jobs of 1 s: skew 1, E[W²|W>0]/E[W|W>0]² = 1 + 2/3, an exponential wait's 2 at the least."""
    assert wait_moment_ratio(0.5, 1.0) == 2.0
    assert wait_moment_ratio(0.5, 1.5) == pytest.approx(2.0)
    # Skew 10 (lognormal of cv 3): 1.2 + 4/3·0.4·10.
    assert wait_moment_ratio(0.6, 10.0) == pytest.approx(1.2 + 16 / 3)


def p99(rho, wait, skew):
    return brentq(lambda t: float(wait_exceeds(t, wait, rho, 1, skew)) - 0.01, 0.0, 1e4)


@pytest.mark.parametrize("cv", [1.5, 2.0, 3.0])
def test_high_percentiles_of_waits_behind_jobs_of_very_different_lengths(cv):
    """60 % load: an exponential tail has p99 up to 1.8 times too low, one with the third moment is within a quarter."""
    rho, (one, two, three) = 0.6, lognormal(cv)
    sigma = math.sqrt(math.log(1 + cv**2))
    true = np.quantile(waits(rho, lambda rng, n: rng.lognormal(-(sigma**2) / 2, sigma, n)), 0.99)
    wait = float(mean_wait(rho * one, rho * two, 1))
    found = p99(rho, wait, one * three / two**2)
    assert 0.9 * true < found < 1.25 * true
    if cv == 3.0:
        assert p99(rho, wait, 1.5) < 0.7 * true


def test_two_lengths_of_jobs():
    """One job in 82 takes 41 s, the others 0.5 s: a cv of 4.4; p99 by simulation of the queue."""
    share, short, long = 1 / 82, 0.5, 41.0
    one, two, three = ((1 - share) * short**k + share * long**k for k in (1, 2, 3))
    rho = 0.6
    true = np.quantile(waits(rho / one, lambda rng, n: np.where(rng.random(n) < share, long, short)), 0.99)
    found = p99(rho, float(mean_wait(rho, rho / one * two, 1)), one * three / two**2)
    assert 0.9 * true < found < 1.3 * true
