"""Split decode: halves that add up, the step by hand, and a fleet that it makes cheaper, checked."""

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.check import check
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    decode_attention_seconds,
    decode_flops,
    kv_bytes,
    weight_bytes,
)
from codesign.performance.latency import decode_step_seconds, host_step_seconds
from codesign.performance.split import (
    SplitTable,
    activation_bytes,
    attention_half,
    feed_forward_half,
    link_seconds,
    split_attention_seconds,
    split_kv_capacity_bytes,
    split_step_seconds,
)
from codesign.planner import solve
from codesign.problem import Problem
from codesign.problem.instance import Options
from codesign.simulate import server_lost, simulate
from codesign.solution import Solution


def table(part, card, tp, ep=1, dp=1):
    fp8 = PRECISIONS.index("fp8")
    columns = (0, 0, fp8, fp8, fp8, tp, 1, ep, dp)
    return ConfigurationTable((accelerators()[part],), (card,), *(np.array([value]) for value in columns))


def split(card, groups=2, microbatches=2):
    """Attention on single H200s, feed-forward layers over four H100s."""
    return SplitTable(
        table("h200-sxm", attention_half(card), 1),
        table("h100-sxm", feed_forward_half(card), 4),
        np.array([groups]),
        np.array([microbatches]),
    )


@pytest.mark.parametrize("name", ["Llama-3.1-70B", "gpt-oss-120b", "DeepSeek-V3.2"])
def test_the_halves_hold_what_the_whole_holds(name):
    card = models()[name]
    whole = table("b200-sxm", card, 1)
    halves = [table("b200-sxm", half(card), 1) for half in (attention_half, feed_forward_half)]
    assert sum(weight_bytes(half)[0] for half in halves) == pytest.approx(weight_bytes(whole)[0], rel=1e-3)
    flops = sum(decode_flops(half, np.array([1e4]))[0, 0] for half in halves)
    assert flops == pytest.approx(decode_flops(whole, np.array([1e4]))[0, 0], rel=1e-3)
    tokens = np.array([1e5])
    assert kv_bytes(halves[0], tokens) == pytest.approx(kv_bytes(whole, tokens))
    assert kv_bytes(halves[1], tokens)[0, 0] == 0
    assert decode_attention_seconds(halves[0], tokens) == pytest.approx(decode_attention_seconds(whole, tokens))


def test_the_step_is_the_slowest_of_three():
    """m·T_A, m·T_F, and T_A + T_F + 2·T_link of one microbatch, the host once."""
    card = models()["Llama-3.1-70B"]
    replica = split(card)
    batch = 64.0
    host = host_step_seconds(replica.attention)[0]
    assert host == pytest.approx(host_step_seconds(replica.feed_forward)[0])
    own = decode_step_seconds(replica.attention, np.array([batch / 2 / 2]))[0, 0] - host
    forward = decode_step_seconds(replica.feed_forward, np.array([batch / 2]))[0, 0] - host
    # 32 tokens of 8,192 16-bit numbers, 80 layers, over two NICs of 50 GB/s on the attention side.
    assert activation_bytes(replica)[0] == 80 * 8192 * 2
    link = link_seconds(replica, np.array([[32.0]]))[0, 0]
    assert link == pytest.approx(80 * 9.009e-6 + 32 * 80 * 8192 * 2 / (100e9 * 0.8377))
    found = [curve[0, 0] for curve in split_step_seconds(replica, np.array([batch]))]
    assert found == pytest.approx([2 * own + host, 2 * forward + host, own + forward + 2 * link + host])
    alone = decode_attention_seconds(replica.attention, np.array([5e4]))[0, 0]
    adds = [value[0, 0] for value in split_attention_seconds(replica, np.array([5e4]))]
    assert adds == pytest.approx([alone / 2, alone / 4])


def test_the_cache_stands_on_the_attention_half_alone():
    replica = split(models()["Llama-3.1-70B"])
    one = split(models()["Llama-3.1-70B"], groups=1)
    rooms = [split_kv_capacity_bytes(item, Options())[0] for item in (replica, one)]
    assert rooms[0] == pytest.approx(2 * rooms[1])
    # An H200 of 139.8 GiB less attention weights (12 GB), head and table (4 GB), runtime and 0.8 GB of graphs, 1,024
    # sequences that are sampled (3.9 GB) and 2,048 tokens of four residual streams (0.1 GB).
    assert rooms[1] == pytest.approx(0.9 * 139.8 * 2**30 - 0.7e9 - 16.3e9 - 0.8e9 - 3.94e9 - 0.13e9, rel=2e-3)


CHIP = {
    "vendor": "own",
    "memory_type": "any",
    "scaleup_bandwidth": "450 GB/s",
    "scaleup_domain": 8,
    "scaleout_bandwidth": "400 GB/s",
    "tdp": "400 W",
    "server": {"accelerators": 8},
}
PARTS = {
    "store": CHIP
    | {"fp16_flops": "100 TFLOPS", "fp8_flops": "100 TFLOPS", "memory_capacity": "256 GB",
       "memory_bandwidth": "4 TB/s", "price": "1 $/h", "roles": ["decode"]},
    "mult": CHIP
    | {"fp16_flops": "1000 TFLOPS", "fp8_flops": "2000 TFLOPS", "memory_capacity": "10 GB",
       "memory_bandwidth": "2 TB/s", "price": "1 $/h", "roles": ["decode"]},
    "pre": CHIP
    | {"fp16_flops": "1000 TFLOPS", "fp8_flops": "2000 TFLOPS", "memory_capacity": "64 GB",
       "memory_bandwidth": "2 TB/s", "price": "0.01 $/h", "roles": ["prefill"]},
}  # fmt: skip


def problem(choice, **changes):
    """Much memory with few FLOPs beside many FLOPs with little memory: neither decodes a 70B model well."""
    return Problem.from_dict(
        {
            "name": "split",
            "models": {"m": {"card": "Llama-3.1-70B", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "agent",
                    "rate": "60/s",
                    "context": 8000,
                    "output": 1000,
                    "models": ["m"],
                    "slo": {"ttft": {"p95": "20 s"}, "tpot": {"p95": "60 ms"}},
                }
            ],
            "hardware": PARTS,
            "options": {
                "max_replica_accelerators": 40, "gap": "5%", "disaggregation": "always", "split_decode": choice
            },
        }
        | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def plans():
    return {choice: solve(problem(choice)) for choice in ("never", "decide")}


def test_split_decode_pays_where_no_part_does_both_well(plans):
    """Per replica of 32 + 8: attention and 12 GFLOP of projections a token on one side, 56 on the other.

    At 60 calls/s of 1,000 tokens the feed-forward layers alone ask for 60,000 · 113 GFLOP = 6.8 PFLOP/s: 68 whole
    stores at their peak, 4 of the other part; 8 GB of cache a call bind the other part, which has 10 GB.
    """
    never, decide = plans["never"], plans["decide"]
    roles = {pool.role for pool in decide.fleet}
    assert "split-decode" in roles
    assert "split-decode" not in {pool.role for pool in never.fleet}
    assert decide.objective.value < 0.95 * never.objective.bound
    for choice, plan in plans.items():
        assert [v.what for v in check(problem(choice), plan).violations] == []
    pool = next(pool for pool in decide.fleet if pool.role == "split-decode")
    half = pool.feed_forward
    assert (pool.hardware, half.hardware) == ("store", "mult")
    size = pool.parallelism.tp * pool.parallelism.dp + half.accelerators_per_replica
    assert pool.accelerators == pool.replicas * size
    assert pool.step_time_s <= pool.step_limit_s


def test_an_altered_split_pool_fails(plans):
    plan = plans["decide"]
    number = next(i for i, pool in enumerate(plan.fleet) if pool.role == "split-decode")
    cases = {
        "options.split_decode": (problem("never"), {}),
        "accelerators of the feed-forward half": (problem("decide"), {"accelerators_per_replica": 7}),
        "hardware of the feed-forward half": (problem("decide"), {"hardware": "tape"}),
        "step_time_s as reported": (problem("decide"), {"microbatches": 3}),
    }
    for what, (asked, changes) in cases.items():
        data = plan.model_dump(mode="json", by_alias=True)
        data["fleet"][number]["feed_forward"] |= changes
        found = [v.what for v in check(asked, Solution.model_validate(data)).violations]
        assert any(what in text for text in found), (what, found)


def test_a_split_pool_is_simulated_near_its_plan(plans):
    """Steps, watts and use of both halves follow request by request from the same performance model."""
    plan = plans["decide"]
    report = simulate(problem("decide"), plan, duration_s=150.0)
    assert report.ok
    # Plans of one cost may have one such pool or two: batches are those of all replicas, the rest of most of them.
    pools = [pool for pool in plan.fleet if pool.role == "split-decode"]
    simulated = {each.pool: each for each in report.pools}
    batch = sum(pool.replicas * simulated[pool.pool].batch for pool in pools)
    planned = sum(pool.replicas * simulated[pool.pool].planned_batch for pool in pools)
    assert batch == pytest.approx(planned, rel=0.05)
    pool = max(pools, key=lambda pool: pool.replicas)
    found = simulated[pool.pool]
    assert found.power_w == pytest.approx(found.planned_power_w, rel=0.15)
    for name in ("compute", "bandwidth", "link"):
        assert getattr(found.utilization, name) == pytest.approx(getattr(found.planned, name), rel=0.1)
    (task,) = report.tasks
    tpot = next(slo for slo in task.slo if slo.metric == "tpot")
    assert tpot.simulated == pytest.approx(tpot.planned, rel=0.15)
    # A server of eight accelerators stops each replica that has one of them.
    assert server_lost(problem("decide"), plan, pool.pool, 1.0).replicas == 1
