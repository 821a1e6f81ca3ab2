"""What engines leave for caches: against their own logs and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from performance_tables import table_of

from codesign.catalog import accelerators, override
from codesign.performance import (
    EngineMemory,
    kv_bytes,
    kv_capacity_bytes,
    rank_sequences,
    step_tokens,
    weight_bytes,
    workspace_bytes,
)
from codesign.performance.profile import default_profile
from codesign.planner import solve
from codesign.problem import Problem
from codesign.problem.instance import Options

FP8, BF16 = ("fp8", "fp8", "fp8"), ("bf16", "bf16", "bf16")
ONE = (1, 1, 1, 1)


def tokens(table, memory=None):
    """[K] that the caches hold, of sequences whose states do not count."""
    growth = (kv_bytes(table, 2e5) - kv_bytes(table, 1e5))[:, 0] / 1e5
    return kv_capacity_bytes(table, memory or EngineMemory()) / growth


def test_what_engines_logged():
    """vLLM 0.14 on an H200 at 0.9 and its defaults of a server; Kimi-K3 on eight B300, 42.23 GiB each."""
    table = table_of(
        ("h200-sxm", "Llama-3.1-70B", FP8, ONE), ("b300-sxm", "Kimi-K3", ("mxfp4", "bf16", "fp8"), (8, 1, 1, 1))
    )
    assert tokens(table) == pytest.approx([348_304, 3_249_215], rel=0.1)
    assert tokens(table)[0] < 348_304


def test_what_leaves_room_on_small_cards():
    """Llama-3.1-8B on an A10G: 90 % of 22.18 GiB less 16.06 GB of weights, 256 sequences that are sampled at 30 bytes
    of each of 128,256 logits, a step of 2,048 tokens, graphs of 32 layers and the runtime: 24K tokens."""
    table = table_of(("a10g", "Llama-3.1-8B", BF16, ONE))
    step = 2048 * 2 * (4 * 4096 + 3 * 14336)
    room = 0.9 * 22.18 * 2**30 - weight_bytes(table)[0] - 256 * 128256 * 30 - step - 32 * 10e6 - 0.7e9
    assert kv_capacity_bytes(table)[0] == pytest.approx(room)
    assert tokens(table)[0] == pytest.approx(23_850, rel=1e-3)


def test_a_prompt_that_no_card_holds_has_no_plan():
    problem = Problem.from_dict(
        {
            "name": "long",
            "models": {"m": {"card": "Llama-3.1-8B", "weights": ["bf16"], "kv": ["bf16"]}},
            "tasks": [
                {
                    "name": "t",
                    "rate": "0.001/s",
                    "context": 40000,
                    "output": 200,
                    "models": ["m"],
                    "slo": {"ttft": {"p95": "60 s"}, "tpot": {"p95": "1 s"}},
                }
            ],
            "hardware": {"g5": {"accelerator": "a10g", "server": {"accelerators": 1}, "price": "1 $/h"}},
            "options": {"max_replica_accelerators": 1, "gap": "5%"},
        }
    )
    assert solve(problem).status == "infeasible"
    assert solve(problem.replace({"tasks.t.context": 20000})).status == "optimal"


def test_steps_and_sequences_by_role_and_card():
    table = table_of(("h200-sxm", "Qwen3-30B-A3B", FP8, (1, 1, 4, 4)), ("l4", "Llama-3.1-8B", FP8, ONE))
    most = rank_sequences(table)
    assert most.tolist() == [1024, 256]
    assert rank_sequences(table, 64).tolist() == [64, 64]
    assert step_tokens(table, most, "prefill", None).tolist() == [8192, 2048]
    assert step_tokens(table, most, "decode", None).tolist() == [2048, 2048]
    assert step_tokens(table, most, "colocated", 1022).tolist() == [256 + 1024, 1022 + 256]
    more = EngineMemory.of(Options(), table, "colocated", 16384)
    assert np.all(workspace_bytes(table, more) > workspace_bytes(table, EngineMemory.of(Options(), table, "colocated")))


def test_a_share_of_what_is_free():
    """TensorRT-LLM is told a share of what weights and its own leave: 0.9 · (139.8 GiB − …)."""
    plain = table_of(("h200-sxm", "Llama-3.1-70B", FP8, ONE))
    table = replace(plain, engines=(default_profile("tensorrt-llm"),))
    taken = weight_bytes(table)[0] + workspace_bytes(table)[0] + 0.7e9
    assert kv_capacity_bytes(table)[0] == pytest.approx(0.9 * (139.8 * 2**30 - taken))


def test_a_memory_of_another_size_is_usable_in_the_same_share():
    h200 = accelerators()["h200-sxm"]
    assert h200.usable_bytes == pytest.approx(139.8 * 2**30)
    assert override(h200, {"memory_capacity": "100 GB"}).usable_bytes == pytest.approx(100e9 * 139.8 / 141)
    with pytest.raises(ValueError, match="at most memory_capacity"):
        override(h200, {"usable_memory": "200 GiB"})


def test_every_part_says_what_its_driver_offers():
    for part in accelerators().values():
        said = part.usable_memory is not None and "DRV" in part.sources.get("usable", "")
        assumed = any(text.startswith("usable_memory: ") for text in part.assumptions)
        assert said != assumed, part.id
