"""Experts in several scale-up domains: what crosses the network by hand, and the group size as a decision."""

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.check import check
from codesign.performance import PRECISIONS, ConfigurationTable, shape_valid
from codesign.performance.constants import constants
from codesign.performance.latency import _exchange
from codesign.performance.operators import distinct_ranks
from codesign.performance.replica import replica
from codesign.planner import solve
from codesign.problem import Problem

FP8 = PRECISIONS.index("fp8")


def table(dp, tp=1):
    part, card = accelerators()["h100-sxm"], models()["DeepSeek-V3"]
    return ConfigurationTable((part,), (card,), *([v] for v in (0, 0, FP8, FP8, FP8, tp, 1, tp * dp, dp)))


def exchange(dp, tokens):
    r, each = replica(table(dp)), np.array([[tokens]])
    return _exchange(r, each, r.hot(each))[0, 0]


def test_many_tokens_wait_for_the_network():
    """16 ranks in two domains of 8: half of a token's distinct nodes lie over one port of 50 GB/s a rank."""
    part, tokens = accelerators()["h100-sxm"], 16 * 8192.0
    found = exchange(16, tokens)
    far = constants().row("exchange_throughput", "hopper", "nodes")
    own = constants().row("exchange_throughput", "hopper", "node")
    r = replica(table(16))
    bytes_per_token = r.constant("expert_parallel", "bytes_per_element") * 7168 / 16 * r.hot(np.array([[tokens]]))[0]
    crossing = float(distinct_ranks(np.array([2.0]), np.array([8.0]))[0]) * 0.5
    seconds = bytes_per_token * tokens * crossing / (part.scaleout_bandwidth * far["e_out"])
    launch = 2e-6 * (own["t0_us"] + far["cross_us"])
    assert found == pytest.approx(float((launch + seconds)[0]), rel=1e-6)


@pytest.mark.parametrize("per_rank", [1, 32, 128, 4096])
def test_a_domain_more_takes_longer(per_rank):
    """At equal tokens a rank; DeepEP's README has 77, 118 and 155 µs a dispatch of 128 tokens to 8, 16 and 32 ranks."""
    times = [exchange(dp, float(dp * per_rank)) for dp in (8, 16, 32)]
    assert times == sorted(times)
    assert times[1] > 1.2 * times[0]


def test_tensor_parallelism_stays_in_a_domain():
    assert shape_valid(table(dp=2, tp=8))[0]
    assert not shape_valid(table(dp=1, tp=16))[0]


def problem(domains, tpot="60 ms"):
    return Problem.from_dict(
        {
            "name": "wide",
            "models": {"deepseek": {"card": "DeepSeek-V3", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "chat",
                    "rate": "40/s",
                    "context": 4000,
                    "output": 1000,
                    "models": ["deepseek"],
                    "slo": {"ttft": {"p95": "10 s"}, "tpot": {"p95": tpot}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 8}, "price": "2 $/h"}},
            "options": {
                "max_replica_accelerators": 32,
                "max_expert_domains": domains,
                "disaggregation": "always",
                "gap": "2%",
            },
        }
    )


def test_a_large_group_serves_cheaper():
    """Eight H100 cannot hold the weights (671 GB in 640): stages across servers, or experts across them."""
    stages, wide = solve(problem(1)), solve(problem(4))
    assert not check(problem(1), stages).violations
    assert not check(problem(4), wide).violations
    assert all(pool.parallelism.tp * pool.parallelism.dp <= 8 for pool in stages.fleet)
    assert any(pool.parallelism.tp * pool.parallelism.dp > 8 for pool in wide.fleet)
    assert wide.objective.value < stages.objective.bound
    told = [violation.what for violation in check(problem(1), wide).violations]
    assert any("ranks in scale-up domains" in what for what in told)

