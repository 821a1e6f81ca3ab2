"""Context parallelism: one prompt over several groups, by hand, against a published run, and as a decision."""

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.check import check
from codesign.export.deploy import deployment
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    kv_bytes,
    kv_capacity_bytes,
    prefill_attention_seconds,
    prefill_flops,
    prefill_seconds,
    shape_valid,
    weight_bytes,
)
from codesign.performance.confidence import log_half_width
from codesign.performance.replica import replica
from codesign.planner import solve
from codesign.problem import Problem, resolve
from codesign.solution import Solution

FP8 = PRECISIONS.index("fp8")
HOP_S, LINK_SHARE = 9.009e-6, 0.8377
"""Constants of a hop between stages: seconds, and share of a link that messages reach."""


def table(card="Llama-3.1-8B", tp=2, cp=4, part="h100-sxm", pp=1, ep=1, dp=1):
    return ConfigurationTable(
        (accelerators()[part],),
        (models()[card],),
        *([value] for value in (0, 0, FP8, FP8, FP8, tp, pp, ep, dp)),
        cp=np.array([cp]),
    )


# ---- by hand -----------------------------------------------------------------------------------------------


def test_ring_by_hand():
    """Three of four shards come in, each over the link to one neighbour."""
    shard = np.array([40e6])
    inside = replica(table(tp=2, cp=4)).ring_seconds(shard)  # 8 accelerators: NVLink at 450 GB/s
    assert inside == pytest.approx(3 * (HOP_S + 40e6 / (450e9 * LINK_SHARE)))
    outside = replica(table(tp=4, cp=4)).ring_seconds(shard)  # 16: one port of 400 Gb/s each
    assert outside == pytest.approx(3 * (HOP_S + 40e6 / (50e9 * LINK_SHARE)))
    part = accelerators()["mi300x"]
    mesh = replica(table(tp=2, cp=4, part="mi300x")).ring_seconds(shard)  # one of seven links
    assert mesh == pytest.approx(3 * (HOP_S + 40e6 / (part.scaleup_bandwidth / 7 * LINK_SHARE)))
    assert replica(table(cp=1)).ring_seconds(shard) == pytest.approx(0.0)


def test_pairs_are_divided_and_keys_are_not():
    """32 layers: compute·2·pairs/cp·(1 + fill/own) + row·own, where a quarter of the tokens are own."""
    one, four = table(cp=1), table(cp=4)
    terms = {name: float(values[0]) for name, values in replica(four).prefill_attention.items()}
    n = 400e3
    own = n / 4
    compute = terms["compute"] * 2 * (n**2 / 2 / 4) * (1 + terms["fill"] / own) + terms["row"] * own
    memory = terms["query"] * own + terms["keys"] * n
    each = (compute ** terms["p"] + memory ** terms["p"]) ** (1 / terms["p"]) + terms["floor"]
    ring = 3 * (HOP_S + 2048 * n / 8 / (450e9 * LINK_SHARE))
    assert ring < each  # it hides behind the products
    assert prefill_attention_seconds(four, [n]) == pytest.approx(32 * each)
    assert prefill_attention_seconds(one, [n]) > 3.9 * prefill_attention_seconds(four, [n])


def test_a_short_prompt_behind_a_long_history_waits_for_the_ring():
    """512 new tokens, 1,000,000 cached: what goes round is 32 layers of 2,048 bytes a token, over the network."""
    ring = 15 * (HOP_S + 2048 * 1_000_512 / 16 / (50e9 * LINK_SHARE))
    assert prefill_attention_seconds(table(tp=1, cp=16), [512.0], [1e6]) == pytest.approx(32 * ring)


def test_every_group_has_all_weights_and_its_part_of_the_caches():
    one, four = table(cp=1), table(cp=4)
    assert weight_bytes(four) == pytest.approx(weight_bytes(one))
    assert kv_capacity_bytes(four) == pytest.approx(4 * kv_capacity_bytes(one))
    assert kv_bytes(four, [1e5]) == pytest.approx(kv_bytes(one, [1e5]))
    assert prefill_flops(four, [1e5]) == pytest.approx(prefill_flops(one, [1e5]))


def test_published_million_tokens_are_within_the_band():
    """Llama 3 405B on 128 H100, 400 Gb/s each: 1M tokens in 77 s, 128K in 3.8 s (arXiv 2411.01783, abstract)."""
    asked = table("Llama-3.1-405B", tp=8, cp=16)
    band = float(np.exp(log_half_width(asked, "ttft"))[0])
    for tokens, seconds in ((1e6, 77.0), (128e3, 3.8)):
        found = prefill_seconds(asked, [tokens])[0, 0]
        assert seconds / band < found < seconds * band
    alone = prefill_seconds(table("Llama-3.1-405B", tp=8, cp=1), [1e6])[0, 0]
    assert 0.9 < alone / (16 * prefill_seconds(asked, [1e6])[0, 0]) < 1.0  # published: 93 % of a sixteenth


def test_what_cannot_share_a_prompt():
    assert shape_valid(table(cp=4))[0]
    assert not shape_valid(table(cp=4, pp=2))[0]
    assert not shape_valid(table("Qwen3-Next-80B-A3B", tp=2, cp=2))[0]  # recurrent layers
    assert not shape_valid(table("Qwen3-30B-A3B", tp=2, dp=2, ep=4, cp=2))[0]
    assert shape_valid(table("Qwen3-30B-A3B", tp=2, ep=2, cp=2))[0]


# ---- a decision --------------------------------------------------------------------------------------------


def problem(ttft, most=4):
    return Problem.from_dict(
        {
            "name": "long",
            "models": {"scout": {"card": "Llama-4-Scout", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "read",
                    "rate": "0.01/s",
                    "context": 500000,
                    "output": 300,
                    "models": ["scout"],
                    "slo": {"ttft": {"p90": ttft}, "tpot": {"p95": "50 ms"}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 8}, "price": "2 $/h"}},
            "options": {
                "max_replica_accelerators": 32,
                "max_context_parallel": most,
                "disaggregation": "always",
                "gap": "2%",
            },
        }
    )


def complaints(asked, solution):
    return [violation.what for violation in check(asked, solution).violations]


def test_a_tight_ttft_on_half_a_million_tokens_needs_it():
    """500,000 tokens take the eight H100 of a server 12.3 s, two servers 6.2 s: a TTFT of 10 s needs both."""
    relaxed, tight = problem("60 s"), problem("10 s")
    one = solve(relaxed)
    assert not complaints(relaxed, one)
    assert solve(problem("60 s", most=1)).objective.value == pytest.approx(one.objective.value)  # worth nothing there

    both = solve(tight)
    assert not complaints(tight, both)
    sharing = [pool for pool in both.fleet if pool.role == "prefill"]
    assert {pool.parallelism.cp for pool in sharing} <= {2, 4}
    assert all(pool.accelerators == pool.replicas * pool.parallelism.tp * pool.parallelism.cp for pool in sharing)
    assert {pool.parallelism.cp for pool in both.fleet if pool.role == "decode"} == {1}
    assert both.objective.value >= one.objective.value + 8.0

    assert solve(problem("10 s", most=1)).status == "infeasible"
    assert any("context-parallel groups" in what for what in complaints(problem("10 s", most=1), both))
    data = both.model_dump(mode="json", by_alias=True)
    at = next(i for i, pool in enumerate(both.fleet) if pool.role == "decode")
    data["fleet"][at]["parallelism"]["cp"] = 2
    assert any("of a decode replica" in what for what in complaints(tight, Solution.model_validate(data)))
    assert "groups share each prompt" in deployment(both, resolve(tight), "vllm")["README.md"]
