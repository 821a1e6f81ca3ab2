"""Decisions that one number flips, on real parts: disaggregation by the TPOT, precision by the memory of the part.

Each by whole plans that `check` verifies, and by hand. Tiers, links, splits, periods and variants have their own tests.
"""

import math

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.check import check
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    EngineMemory,
    kv_capacity_bytes,
    weight_bytes,
    workspace_bytes,
)
from codesign.performance.latency import decode_attention_seconds, decode_step_seconds, prefill_seconds
from codesign.planner import solve
from codesign.problem import Problem


def problem(card, context, output, rate, tpot, weights=("fp8",), disaggregation="decide", sequences=1024, **part):
    """A task of single calls on H100s at 2 $/h, one accelerator to a replica."""
    return Problem.from_dict(
        {
            "name": "flip",
            "models": {"m": {"card": card, "weights": list(weights), "kv": ["fp8"]}},
            "tasks": [
                {
                    "name": "chat",
                    "rate": rate,
                    "context": context,
                    "output": output,
                    "models": ["m"],
                    "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": tpot}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"} | part},
            "options": {"max_replica_accelerators": 1, "disaggregation": disaggregation, "max_sequences": sequences},
        }
    )


def table(card, weights):
    columns = (0, 0, *(PRECISIONS.index(word) for word in (weights, "fp8" if weights == "fp8" else "bf16", "fp8")))
    return ConfigurationTable(
        (accelerators()["h100-sxm"],), (models()[card],), *(np.array([v]) for v in (*columns, 1, 1, 1, 1))
    )


def solved(asked):
    """The plan and its $/h, verified, and the best of what plans are made of."""
    solution = solve(asked)
    assert solution.status in ("optimal", "feasible")
    assert solution.solve.stopped_by is None
    assert [violation.what for violation in check(asked, solution).violations] == []
    return solution, solution.totals.cost_per_hour


# ---- disaggregation ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_tpot():
    """Least $/h of 400 calls/s (300 tokens in and out, Llama-3.1-8B) at two TPOTs, by how phases may be placed."""
    words = ("decide", "always", "never")
    return {
        tpot: {word: solved(problem("Llama-3.1-8B", 300, 300, "400/s", tpot, disaggregation=word)) for word in words}
        for tpot in ("7 ms", "60 ms")
    }


def test_a_tight_tpot_takes_the_phases_apart_and_a_loose_one_puts_them_together(by_tpot):
    """Prompts make the mean step longer: where the TPOT is little more than a step without, few fit in."""
    tight, loose = by_tpot["7 ms"], by_tpot["60 ms"]
    assert tight["always"][1] < tight["never"][1]
    assert loose["never"][1] < loose["always"][1]
    assert tight["decide"][1] == pytest.approx(tight["always"][1])
    assert loose["decide"][1] == pytest.approx(loose["never"][1])
    assert {pool.role for pool in loose["decide"][0].fleet} == {"colocated"}
    routes = tight["decide"][0].routing
    apart = sum(route.calls_per_s for route in routes if route.prefill_pool != route.decode_pool)
    assert apart > 0.8 * 400


def test_the_pools_of_both_plans_by_hand(by_tpot):
    """Apart: the prompts' seconds, and what the sequences in flight take. Together: 400 × 300 prompt tokens a second
    come in chunks of at most the step's, at a load of at most ρ."""
    card = table("Llama-3.1-8B", "fp8")
    seconds = float(prefill_seconds(card, np.array([300.0]), np.array([0.0]))[0, 0])
    apart = by_tpot["7 ms"]["always"][0]
    prefill = [pool for pool in apart.fleet if pool.role == "prefill"]
    assert sum(pool.replicas for pool in prefill) == math.ceil(400 * seconds / prefill[0].utilization_limit)
    decode = [pool for pool in apart.fleet if pool.role == "decode"]
    flight = sum(pool.replicas * pool.batch / pool.step_time_s for pool in decode)  # tokens per second
    assert flight == pytest.approx(400 * 300, rel=0.01)
    each = float(decode_attention_seconds(card, np.array([450.0]))[0, 0])  # a sequence's mean context
    for pool in decode:
        seen = pool.batch if pool.replicas >= 4 else pool.batch + 1
        step = float(decode_step_seconds(card, np.array([seen]))[0, 0]) + seen * each
        assert pool.step_time_s == pytest.approx(step, rel=0.02)
        assert pool.step_time_s <= pool.step_limit_s <= 0.007
    for tpot in ("7 ms", "60 ms"):
        for pool in by_tpot[tpot]["never"][0].fleet:
            routes = [route for route in by_tpot[tpot]["never"][0].routing if route.decode_pool == pool.pool]
            prompts = 300 * sum(route.calls_per_s for route in routes)
            assert prompts <= pool.utilization_limit * pool.prefill_chunk / pool.step_time_s * pool.replicas


# ---- precision ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_memory():
    """Least $/h of Llama-3.1-70B in FP8 or INT4 weights on an H100 as it is, and with 141 GB of the same bandwidth."""
    choices, few = {"fp8": ["fp8"], "int4": ["int4"], "both": ["fp8", "int4"]}, {"sequences": 256}
    return {
        memory: {
            word: solved(problem("Llama-3.1-70B", 500, 500, "200/s", "50 ms", some, memory_capacity=memory, **few))
            for word, some in choices.items()
        }
        for memory in ("80 GiB", "141 GB")
    }


def test_small_memory_takes_fewer_bits_and_large_memory_more_flops(by_memory):
    """INT4 weights save bytes and no FLOP; FP8 runs at twice the rate of BF16. Which counts is the memory's choice."""
    small, large = by_memory["80 GiB"], by_memory["141 GB"]
    assert small["int4"][1] < 0.5 * small["fp8"][1]
    assert large["fp8"][1] < large["int4"][1]

    def decoding(plan, weights):
        pools = [pool for pool in plan.fleet if pool.role != "prefill"]
        return sum(p.replicas for p in pools if p.precision.weights == weights) / sum(p.replicas for p in pools)

    assert decoding(small["both"][0], "int4") > 0.7
    assert decoding(large["both"][0], "fp8") == 1.0
    for memory in (small, large):
        assert memory["both"][1] <= min(memory["fp8"][1], memory["int4"][1])


def test_room_for_sequences_by_hand():
    """A token holds 163,840 bytes in FP8. FP8 weights are 68.45 G of one byte, and two embeddings of 128,256 × 8,192
    of two. An engine is given 90 % of 79.18 GiB; 256 sequences take 30 bytes of each of 128,256 logits, 2,048 tokens
    four streams of 8,192 and three widths of 28,672 in 16 bits, graphs 10 MB of 80 layers, the runtime 0.7 GB. A
    sequence has 750 tokens on average: room for 7 of them, for 277 with INT4 weights."""
    token = 2 * 80 * 8 * 128
    fp8, int4 = table("Llama-3.1-70B", "fp8"), table("Llama-3.1-70B", "int4")
    assert weight_bytes(fp8)[0] == pytest.approx(68.45e9 + 2 * 2 * 128256 * 8192, rel=1e-3)
    engine = EngineMemory(sequences=256, tokens=2048)
    taken = 256 * 128256 * 30 + 2048 * 2 * (4 * 8192 + 3 * 28672) + 80 * 10e6
    assert workspace_bytes(fp8, engine)[0] == pytest.approx(taken)
    rooms = []
    for weights in (fp8, int4):
        usable = 0.9 * 79.18 * 2**30 - 0.7e9 - float(weight_bytes(weights)[0]) - taken
        assert float(kv_capacity_bytes(weights, engine)[0]) == pytest.approx(usable)
        rooms.append(int(usable / (750 * token)))
    assert rooms == [7, 277]
