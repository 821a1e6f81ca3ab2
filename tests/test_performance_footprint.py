"""Bytes, FLOPs and admissibility: against workload/, hand arithmetic and known facts."""

import dataclasses

import numpy as np
import pytest
from performance_tables import BF16, FP8, table_from, table_of

from codesign.catalog import accelerators, models
from codesign.performance import (
    ConfigurationTable,
    EngineMemory,
    decode_flops,
    decode_weight_bytes,
    fits,
    kv_bytes,
    kv_capacity_bytes,
    kv_read_bytes,
    kv_transfer_bytes,
    link_bytes_per_s,
    precision_supported,
    prefill_flops,
    shape_valid,
    weight_bytes,
    workspace_bytes,
)
from codesign.workload import kvcache, parameter_counts
from codesign.workload.parameters import weight_bytes as stored_bytes

ONE = (1, 1, 1, 1)
CONTEXTS = np.array([1.0, 100.0, 4096.0, 131072.0])


def every_card(precisions, shape=ONE):
    cards = list(models().values())
    rows = [("b300-sxm", card.id, precisions, shape) for card in cards]
    return cards, table_from([accelerators()["b300-sxm"]], cards, rows)


def test_one_accelerator_holds_all_parameters():
    cards, table = every_card(BF16)
    stored = np.array([stored_bytes(card, "bf16") for card in cards])
    # Norms are the difference.
    assert weight_bytes(table) == pytest.approx(stored, rel=0.001)


def test_flops_of_a_token_are_twice_the_weights_that_multiply_it():
    cards, table = every_card(BF16)
    state = np.array([8.0 * kvcache.linear_state_elements(c) if c.linear_layers else 0.0 for c in cards])
    counted = np.array([2.0 * parameter_counts(card).multiplied for card in cards])
    assert decode_flops(table, 0.0)[:, 0] - state == pytest.approx(counted, rel=0.01)
    # A long prefill costs the same products for each token, but only one head.
    head = np.array([2.0 * card.vocab * card.hidden for card in cards])
    products = prefill_flops(table, 1e-3)[:, 0]
    assert products == pytest.approx(head + 1e-3 * (counted + state - head), rel=0.01)


@pytest.mark.parametrize("tp", [1, 2, 16])
def test_cache_bytes_are_those_of_the_workload_room(tp):
    cards, table = every_card(FP8, (tp, 1, 1, 1))
    held, read = kv_bytes(table, CONTEXTS), kv_read_bytes(table, CONTEXTS)
    for k, card in enumerate(cards):
        assert held[k] == pytest.approx(kvcache.kv_bytes(card, CONTEXTS, "fp8", tp)), card.id
        assert read[k] == pytest.approx(kvcache.kv_read_bytes(card, CONTEXTS, "fp8", tp)), card.id


def test_cache_is_replicated_beyond_the_kv_heads_and_for_latents():
    table = table_of(
        ("gb200-nvl72", "Llama-3.1-70B", FP8, (8, 1, 1, 1)),
        ("gb200-nvl72", "Llama-3.1-70B", FP8, (16, 1, 1, 1)),
        ("gb200-nvl72", "DeepSeek-V3", FP8, (8, 1, 1, 1)),
        ("gb200-nvl72", "DeepSeek-V3", FP8, (1, 1, 8, 8)),
    )
    copies = kv_bytes(table, 1000.0) / kv_transfer_bytes(table, 1000.0)
    assert copies[:, 0] == pytest.approx([1.0, 2.0, 8.0, 1.0])
    # 70B: 80 layers × 8 heads × 128 × 2 at one byte: 160 KiB a token. MLA: 61 × 576.
    assert kv_transfer_bytes(table, 1.0)[:, 0] == pytest.approx([163840, 163840, 35136, 35136])


def test_pipeline_stages_hold_the_fullest_stage():
    table = table_of(
        ("h100-sxm", "Llama-3.1-70B", FP8, (2, 1, 1, 1)),
        ("h100-sxm", "Llama-3.1-70B", FP8, (2, 4, 1, 1)),
        ("h100-sxm", "Gemma-3-27B", FP8, (2, 1, 1, 1)),
        ("h100-sxm", "Gemma-3-27B", FP8, (2, 4, 1, 1)),
    )
    held = kv_bytes(table, 8192.0)[:, 0]
    assert held[1] == pytest.approx(held[0])
    assert held[3] == pytest.approx(held[2] * 4 * 16 / 62)  # ⌈62/4⌉ = 16 layers on a stage
    assert weight_bytes(table)[1] < weight_bytes(table)[0] / 3


def test_memory_is_gib_and_what_fits_is_known():
    table = table_of(
        ("h100-sxm", "Llama-3.1-70B", FP8, ONE),
        ("h100-sxm", "Llama-3.1-70B", BF16, ONE),
        ("h100-sxm", "DeepSeek-V3", FP8, (8, 1, 1, 1)),
        ("h200-sxm", "DeepSeek-V3", FP8, (8, 1, 1, 1)),
        ("h100-sxm", "gpt-oss-120b", ("mxfp4", "bf16", "fp8"), ONE),
    )
    few = EngineMemory(sequences=64, tokens=2048)
    assert fits(table, few).tolist() == [True, False, False, True, True]
    free = 79.18 * 2**30 * 0.9 - 0.7e9 - weight_bytes(table)[0] - workspace_bytes(table, few)[0]
    assert kv_capacity_bytes(table, few)[0] == pytest.approx(free)
    # The capacity is the whole replica's: eight times that of one accelerator.
    one = 139.8 * 2**30 * 0.9 - 0.7e9
    by_hand = 8 * (one - weight_bytes(table)[3] - workspace_bytes(table)[3])
    assert kv_capacity_bytes(table)[3] == pytest.approx(by_hand)


def test_experts_spread_over_ranks_and_slices():
    shapes = [(8, 1, 1, 1), (8, 1, 8, 1), (1, 1, 8, 8), (2, 1, 4, 4)]
    table = table_of(*[("h200-sxm", "Qwen3-235B-A22B", FP8, shape) for shape in shapes])
    sharded, expert, data, mixed = weight_bytes(table)
    assert sharded == pytest.approx(expert)  # the same bytes, sliced or whole
    assert sharded < mixed < data  # attention data parallelism replicates attention
    counts = parameter_counts(models()["Qwen3-235B-A22B"])
    assert sharded == pytest.approx(counts.total / 8, rel=0.05)


def test_streamed_weights_grow_to_all_experts():
    table = table_of(
        ("h200-sxm", "Mixtral-8x7B", BF16, (2, 1, 1, 1)), ("h200-sxm", "Llama-3.1-8B", BF16, (2, 1, 1, 1))
    )
    streamed = decode_weight_bytes(table, [1.0, 8.0, 1000.0])
    counts = parameter_counts(models()["Mixtral-8x7B"])
    assert streamed[0, 0] == pytest.approx(2.0 * (counts.active - counts.embedding), rel=0.002)
    assert streamed[0, 2] == pytest.approx(2.0 * (counts.total - counts.embedding), rel=0.002)
    assert np.all(np.diff(streamed[0]) > 0)
    assert np.ptp(streamed[1]) == 0.0


def test_precisions():
    cases = {
        ("a100-80-sxm", ("fp8", "bf16", "fp8")): True,  # W8A16
        ("a100-80-sxm", ("fp8", "fp8", "fp8")): False,  # no FP8 units
        ("a100-80-sxm", ("int8", "int8", "bf16")): True,
        ("h100-sxm", ("fp8", "fp8", "fp8")): True,
        ("h100-sxm", ("bf16", "fp8", "fp8")): False,  # W16A8 does not exist
        ("h100-sxm", ("nvfp4", "nvfp4", "fp8")): False,
        ("h100-sxm", ("int4", "bf16", "fp8")): True,
        ("h100-sxm", ("fp8", "int8", "fp8")): False,
        ("h100-sxm", ("bf16", "bf16", "nvfp4")): False,
        ("b200-sxm", ("nvfp4", "nvfp4", "nvfp4")): True,
        ("b200-sxm", ("mxfp4", "fp8", "fp8")): True,
        ("b200-sxm", ("fp8", "nvfp4", "fp8")): False,
    }
    table = table_of(*[(part, "Llama-3.1-8B", precision, ONE) for part, precision in cases])
    assert precision_supported(table).tolist() == list(cases.values())


def test_shapes():
    cases = {
        ("h100-sxm", "Llama-3.1-70B", (8, 1, 1, 1)): True,
        ("h100-sxm", "Llama-3.1-70B", (16, 1, 1, 1)): False,  # leaves the NVLink domain
        ("gb200-nvl72", "Llama-3.1-70B", (16, 1, 1, 1)): True,  # KV heads replicated twice
        ("h100-sxm", "Llama-3.1-70B", (3, 1, 1, 1)): False,
        ("h100-sxm", "Llama-3.1-70B", (8, 2, 1, 1)): True,  # stages over scale-out
        ("h100-sxm", "Llama-3.1-70B", (1, 81, 1, 1)): False,
        ("h100-sxm", "Llama-3.1-70B", (1, 1, 1, 2)): False,  # data parallelism is another replica
        ("h100-sxm", "Llama-3.1-70B", (2, 1, 2, 1)): False,  # no experts
        ("h200-sxm", "DeepSeek-V3", (1, 1, 8, 8)): True,
        ("h200-sxm", "DeepSeek-V3", (2, 1, 8, 4)): True,
        ("h200-sxm", "DeepSeek-V3", (2, 1, 16, 4)): False,
        ("h200-sxm", "DeepSeek-V3", (1, 1, 0, 1)): False,
        ("h200-sxm", "Qwen3-Coder-480B-A35B", (1, 1, 64, 64)): False,  # 160 experts
    }
    table = table_of(*[(part, model, FP8, shape) for part, model, shape in cases])
    with np.errstate(divide="ignore", invalid="ignore"):
        assert shape_valid(table).tolist() == list(cases.values())


def test_links_and_lengths():
    table = table_of(("h100-sxm", "Llama-3.1-70B", FP8, (4, 2, 1, 1)))
    assert link_bytes_per_s(table) == pytest.approx([8 * 400e9 / 8])
    columns = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
    with pytest.raises(ValueError, match="one length K"):
        ConfigurationTable(**{**columns, "tp": np.array([1, 2])})
