"""The simulator against closed forms, on the engine that simulates plans: M/M/c, M/G/1, Little, a closed network."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codesign.performance.queueing import mean_wait
from codesign.simulate.demand import COLUMNS
from codesign.simulate.engine import StepTable
from codesign.simulate.fleet import RECORD, CallRows, Fleet, PoolSpec, RouteSpec
from codesign.simulate.statistics import mean_interval, percentile_interval

FAST = 1e-9
GB = 1e9


def steps(seconds=FAST, per_sequence=0.0, most=64):
    """A step that takes `seconds`, and more for each sequence."""
    batch = np.arange(most + 1)
    return StepTable(np.zeros(1), (seconds + per_sequence * batch)[None, None, :], np.zeros((1, most + 1)))


def pool(name, role, replicas=1, *, lanes=1, table=None, room=math.inf, link=1e15, chunk=0.0, most=64, spares=0):
    return PoolSpec(name, role, replicas, spares, lanes, table, room, link, chunk, most)


def rows(n, session=None, follows=None, gap=0.0, **columns):
    """Calls as rows; `columns` are scalars or [n] by the names of demand.COLUMNS."""
    values = np.zeros((n, len(COLUMNS)))
    values[:, COLUMNS.index("output")] = 1.0
    values[:, COLUMNS.index("context")] = 1.0
    for name, value in columns.items():
        values[:, COLUMNS.index(name)] = value
    values[:, COLUMNS.index("steps")] = values[:, COLUMNS.index("output")]  # a step for each token
    session = np.arange(n) if session is None else np.asarray(session)
    follows = np.zeros(n, dtype=bool) if follows is None else np.asarray(follows)
    gaps = np.broadcast_to(np.asarray(gap, dtype=np.float64), n).copy()
    return CallRows(session, np.zeros(n, dtype=np.int64), np.zeros(n), follows, follows, gaps, values)


def route(policy="drop", prefill="prefill", decode="decode", stream=math.inf, ttl=math.inf):
    return RouteSpec(policy, prefill, decode, stream, ttl, False, None)


def record(outcome):
    return dict(zip(RECORD, outcome.records.T, strict=True))


def queue(service, gaps, replicas):
    """Waits of calls with these service times and gaps between arrivals in a prefill pool."""
    pools = [pool("prefill", "prefill", replicas), pool("decode", "decode", table=steps())]
    fleet = Fleet(pools, [route()], rows(len(service), prefill_s=service))
    for row, time in enumerate(np.cumsum(gaps).tolist()):
        fleet.enter(row, time)
    found = record(fleet.run(float(np.sum(gaps)), 4))
    warm = found["start"] > 0.1 * np.sum(gaps)
    return (found["queued"] - found["ready"])[warm]


def erlang_c_wait(rate, service, servers):
    """Mean wait of M/M/c."""
    load = rate * service
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last) * service / (servers - load)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.8), (16, 0.9)])
def test_mmc_waits(servers, load):
    rng = np.random.default_rng(1)
    n, rate = 30_000, load * servers
    waits = queue(rng.exponential(1.0, n), rng.exponential(1 / rate, n), servers)
    low, high = mean_interval(waits)
    assert low <= erlang_c_wait(rate, 1.0, servers) <= high


def test_an_interval_is_as_wide_as_a_busy_queue_asks():
    """M/M/1 at 90 %: each run is a few bursts, so intervals of independent batches would miss the truth too often."""
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        waits = queue(rng.exponential(1.0, 12_000), rng.exponential(1 / 0.9, 12_000), 1)[2000:]
        low, high = percentile_interval(np.arange(waits.size, dtype=float), waits, 0.95)
        missed += not low <= 10.0 * math.log(0.9 / 0.05) <= high
    assert missed <= 8


def test_mg1_waits_follow_pollaczek_khinchine():
    rng = np.random.default_rng(2)
    n, load, sigma = 40_000, 0.6, 0.8
    service = rng.lognormal(-(sigma**2) / 2, sigma, n)
    waits = queue(service, rng.exponential(1 / load, n), 1)
    expected = float(mean_wait(load, load * math.exp(sigma**2), 1))
    low, high = mean_interval(waits)
    assert low <= expected <= high


def test_little_s_law_of_a_decode_batch():
    rng = np.random.default_rng(3)
    n, rate = 4_000, 8.0
    outputs = rng.integers(1, 200, n).astype(np.float64)
    pools = [pool("prefill", "prefill", 64), pool("decode", "decode", table=steps(0.01, 1e-4, 512), most=512)]
    fleet = Fleet(pools, [route()], rows(n, output=outputs, attention_s=1e-5, attention_more=1e-7))
    for row, time in enumerate(np.cumsum(rng.exponential(1 / rate, n)).tolist()):
        fleet.enter(row, time)
    outcome = fleet.run(n / rate + 100, 8)
    found = record(outcome)
    engine = fleet.engines["decode"][0]
    assert len(found["end"]) == n
    assert engine.tokens == outputs.sum()
    # A call joins the batch at the end of a step: its first token comes one step after that.
    decoding = found["end"] - found["first"]
    assert decoding.sum() <= engine.batch_s <= (found["end"] - found["sent"]).sum()
    # Mean batch = arrival rate × mean time in it, which is a step more than from first token to last.
    step = engine.busy_s / engine.steps
    assert engine.batch_s == pytest.approx(decoding.sum() + n * step, rel=0.005)


def test_closed_network_of_sessions_that_think():
    """N sessions, thinking for an exponential time between calls to one exponential server (machine repair)."""
    rng = np.random.default_rng(4)
    sessions, calls, think, service = 6, 5_000, 4.0, 1.0
    n = sessions * calls
    pools = [pool("prefill", "prefill"), pool("decode", "decode", table=steps())]
    chains = np.repeat(np.arange(sessions), calls)
    fleet = Fleet(
        pools, [route()], rows(n, chains, gap=rng.exponential(think, n), prefill_s=rng.exponential(service, n))
    )
    for chain in range(sessions):
        fleet.enter(chain * calls, 0.0)
    horizon = 5_000.0
    found = record(fleet.run(horizon, 2))
    states = [math.factorial(sessions) / math.factorial(sessions - k) * (service / think) ** k for k in range(7)]
    throughput = (1 - states[0] / sum(states)) / service
    ends = np.histogram(found["end"], bins=200, range=(0, horizon))[0][10:] / (horizon / 200)
    low, high = mean_interval(ends)
    assert low <= throughput <= high
    # Little's law over the whole cycle: N = throughput × (response + think).
    response = sessions / throughput - think
    low, high = mean_interval((found["end"] - found["start"])[1000:])
    assert low <= response <= high


def test_steps_by_hand():
    """Two sequences: 10 ms, 1 ms a sequence, and contexts that add 2 ms and 0.5 ms more with each token."""
    pools = [pool("prefill", "prefill", 2), pool("decode", "decode", table=steps(0.010, 0.001))]
    calls = rows(2, output=[5.0, 2.0], attention_s=0.002, attention_more=0.0005)
    fleet = Fleet(pools, [route()], calls)
    fleet.enter(0, 0.0)
    fleet.enter(1, 0.015)  # inside the second step of the first call
    found = record(fleet.run(1.0, 1))
    first, second = np.argsort(found["output"])[::-1]
    one = [0.013, 0.0135]  # alone: 10 + 1 + 2 ms, then + 0.5 ms
    both = [0.010 + 0.002 + 0.003 + 0.002, 0.010 + 0.002 + 0.0035 + 0.0025]
    last = 0.010 + 0.001 + 0.004
    joined = sum(one)
    assert found["first"][first] == pytest.approx(one[0])
    assert found["first"][second] == pytest.approx(joined + both[0])
    assert found["end"][second] == pytest.approx(joined + sum(both))
    assert found["end"][first] == pytest.approx(joined + sum(both) + last)


def test_time_to_first_token_by_hand():
    """Prefill, transfer at the stream's rate, then one step; the history is read back on the next call."""
    pools = [pool("prefill", "prefill", link=50 * GB), pool("decode", "decode", table=steps(0.02), link=50 * GB)]
    calls = rows(
        2, [0, 0], [False, True], gap=1.0, prefill_s=[0.5, 0.1], send=[10 * GB, GB], reload=[0.0, 9 * GB], end=10 * GB
    )
    fleet = Fleet(pools, [route("decode", stream=25 * GB)], calls)
    fleet.enter(0, 0.0)
    found = record(fleet.run(10.0, 1))
    ttft = found["first"] - found["start"]
    assert ttft[0] == pytest.approx(0.5 + 10 / 25 + 0.02)
    assert ttft[1] == pytest.approx(9 / 25 + 0.1 + 1 / 25 + 0.02)
    assert found["hit"].tolist() == [0.0, 1.0]
    assert found["start"][1] == pytest.approx(found["end"][0] + 1.0)


def test_chunks_by_hand():
    """100 prompt tokens in chunks of 40: three steps, of 40, 40 and 20 tokens; 1 ms and 0.1 ms a prompt token."""
    knots = np.array([0.0, 40.0])
    table = StepTable(knots, np.array([[[0.001] * 65, [0.005] * 65]]), np.zeros((2, 65)))
    fleet = Fleet(
        [pool("both", "colocated", table=table, chunk=40.0)],
        [route("colocated", "both", "both")],
        rows(1, context=100.0, output=3.0),
    )
    fleet.enter(0, 0.0)
    found = record(fleet.run(1.0, 1))
    assert found["first"][0] == pytest.approx(0.005 + 0.005 + 0.003)
    assert found["end"][0] == pytest.approx(0.013 + 2 * 0.001)


def test_the_slowest_of_three_lines_by_hand():
    """Attention 4 ms + r, the other half 10 ms, the chain 7 ms + r/2; r grows by 2 ms with each token from 1 ms."""
    lines = np.stack([np.full((1, 65), seconds) for seconds in (0.004, 0.010, 0.007)])
    table = StepTable(np.zeros(1), lines, np.zeros((1, 65)), attention=(1.0, 0.0, 0.5), extra_j=np.arange(65) * 2.0)
    pools = [pool("prefill", "prefill", 2), pool("decode", "decode", table=table)]
    fleet = Fleet(pools, [route()], rows(1, output=8.0, attention_s=0.001, attention_more=0.002))
    fleet.enter(0, 0.0)
    outcome = fleet.run(1.0, 1)
    found = record(outcome)
    steps = [max(0.004 + r, 0.010, 0.007 + r / 2) for r in (0.001 * (1 + 2 * j) for j in range(8))]
    assert steps[:4] == [0.010, 0.010, 0.010, pytest.approx(0.011)]
    assert found["first"][0] == pytest.approx(steps[0])
    assert found["end"][0] == pytest.approx(sum(steps))
    assert outcome.energy["decode"][2] == 8 * 2.0


def test_slots_and_memory_make_calls_wait():
    pools = [pool("prefill", "prefill", 8), pool("decode", "decode", table=steps(0.01), room=25.0, most=4)]
    fleet = Fleet(pools, [route()], rows(3, output=10.0, begin=10.0, end=10.0))
    for row in range(3):
        fleet.enter(row, 0.0)
    found = record(fleet.run(1.0, 1))
    # The first runs at once, the second joins after its first step; the third has no memory until the first is done.
    assert sorted(found["end"]) == pytest.approx([0.1, 0.11, 0.2])


def test_transfers_share_a_link():
    """Four transfers of 10 GB from one sender: streams at 25 GB/s, 50 GB/s in all."""
    pools = [pool("prefill", "prefill", lanes=4, link=50 * GB), pool("decode", "decode", 4, table=steps(), link=1e15)]
    fleet = Fleet(pools, [route(stream=25 * GB)], rows(4, send=10 * GB))
    for row in range(4):
        fleet.enter(row, 0.0)
    found = record(fleet.run(5.0, 1))
    assert sorted(found["sent"]) == pytest.approx([0.4, 0.6, 0.8, 1.0], abs=1e-6)


def test_same_rows_same_records():
    def once():
        rng = np.random.default_rng(5)
        pools = [pool("prefill", "prefill", 2), pool("decode", "decode", 2, table=steps(0.01, 1e-4))]
        n = 500
        calls = rows(n, prefill_s=rng.exponential(0.1, n), output=rng.integers(1, 50, n), begin=1.0, end=2.0)
        fleet = Fleet(pools, [route()], calls)
        for row, time in enumerate(np.cumsum(rng.exponential(0.1, n)).tolist()):
            fleet.enter(row, time)
        return fleet.run(60.0, 3).records

    assert np.array_equal(once(), once())
