import numpy as np
import pytest

from codesign.catalog import models
from codesign.workload import (
    Formats,
    cf_device,
    cf_request,
    decode_work,
    distinct_experts,
    kv_bytes,
    parameter_counts,
    prefill_work,
    weight_bytes,
)

CARDS = models()
FP16 = Formats("fp16", "bf16", "bf16")
FP8 = Formats("fp8", "fp8", "fp8")
LLAMA = CARDS["Llama-3.1-70B"]


def test_ffn_decode_intensity_of_the_paper() -> None:
    work = decode_work(LLAMA, [1, 16, 64, 128], 1e4, FP16, "ffn")
    assert work.intensity.round(1).tolist() == [1.0, 16.0, 63.4, 125.5]


def test_ffn_prefill_intensity_of_the_paper() -> None:
    work = prefill_work(LLAMA, 1, [512, 2048, 8192], 0, FP16, "ffn")
    assert work.intensity.round().tolist() == [474, 1550, 3584]


def test_ffn_intensity_doubles_with_half_the_bits() -> None:
    assert decode_work(LLAMA, 1, 1, FP8, "ffn").intensity == pytest.approx(2.0, rel=1e-3)
    int4 = Formats("int4", "bf16", "bf16")
    assert decode_work(LLAMA, 1, 1, int4, "ffn").intensity == pytest.approx(4.0, rel=0.04)
    # Weight-only quantization saves bytes, not FLOPs.
    assert decode_work(LLAMA, 8, 1e3, int4).flops == decode_work(LLAMA, 8, 1e3, FP16).flops


@pytest.mark.parametrize(
    ("name", "expected"), [("Llama-2-7B", 1.0), ("Llama-3.1-70B", 8.0), ("DeepSeek-V3", 241.78)]
)
def test_attention_decode_intensity_depends_on_neither_batch_nor_context(name: str, expected: float) -> None:
    work = decode_work(CARDS[name], [[1], [64]], [1e3, 1e5], FP16, "attention")
    assert work.intensity == pytest.approx(np.full((2, 2), expected), rel=1e-4)


def test_attention_prefill_by_hand() -> None:
    new, cached = 1000.0, 9000.0
    work = prefill_work(LLAMA, 2, new, cached, FP16, "attention")
    assert work.flops == 2 * 80 * 4 * 64 * 128 * new * (cached + new / 2)
    query_and_output = 2 * 64 * 128 * new * 2
    assert work.bytes == 2 * 80 * (2 * 8 * 128 * (cached + new) * 2 + query_and_output)


def test_sliding_layers_attend_to_their_window() -> None:
    card = CARDS["gpt-oss-120b"]
    per_pair = 4 * 64 * 64
    decode = decode_work(card, 1, 10_000, FP16, "attention")
    assert decode.flops == per_pair * 18 * (10_000 + 128)
    # 100 tokens after 78: 50 of them still grow to the window of 128, 50 are at it.
    prefill = prefill_work(card, 1, 100, 78, FP16, "attention")
    growing = 50 * 78 + 50**2 / 2 + 50 * 128
    assert prefill.flops == per_pair * 18 * (100 * 78 + 100**2 / 2 + growing)


def test_sparse_attention_scores_all_and_attends_to_the_top() -> None:
    work = decode_work(CARDS["DeepSeek-V3.2"], 1, 100_000, FP8, "attention")
    assert work.flops == 61 * (2 * 128 * (2 * 512 + 64) * 2048 + 2 * 64 * 128 * 100_000)
    assert work.bytes == 61 * (2048 * 656 + 132 * 100_000)


def test_latent_prefill_takes_the_cheaper_form() -> None:
    card = CARDS["DeepSeek-V3"]
    expanded = prefill_work(card, 1, 8000, 0, FP16, "attention")
    assert expanded.flops == 61 * 2 * 128 * (192 + 128) * 8000**2 / 2
    absorbed = prefill_work(card, 1, 10, 100_000, FP16, "attention")
    assert absorbed.flops == 61 * 2 * 128 * (2 * 512 + 64) * 10 * (100_000 + 5)


def test_distinct_experts() -> None:
    assert distinct_experts(256, 8, 1) == pytest.approx(8)
    assert distinct_experts(256, 8, 64) == pytest.approx(256 * (1 - (1 - 8 / 256) ** 64))
    assert distinct_experts(256, 8, 1e9) == 256
    assert distinct_experts(8, 8, 3) == 8


def test_expert_bytes_and_flops_by_hand() -> None:
    card = CARDS["Mixtral-8x7B"]
    expert = 3 * 4096 * 14336
    work = decode_work(card, 4, 1, FP16, "ffn")
    router = 4096 * 8
    activations = 2 * 4 * (2 * 3 * (4096 + 14336) + 4096 + 8)
    touched = 8 * (1 - 0.75**4)
    assert work.flops == pytest.approx(32 * 2 * 4 * (2 * expert + router))
    assert work.bytes == pytest.approx(32 * (2 * (touched * expert + router) + activations))
    # Low OI, high CF: FLOPs know the active experts, the footprint all of them.
    dense = decode_work(LLAMA, 16, 1, FP16, "ffn").intensity
    assert decode_work(CARDS["DeepSeek-V3"], 16, 1, FP16, "ffn").intensity < 0.25 * dense
    assert cf_request(card, 1, 0, FP16) == 2 * parameter_counts(card).total


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_decode_step_costs_two_flops_a_weight_and_its_attention(name: str) -> None:
    card = CARDS[name]
    whole, attention = (decode_work(card, 8, 5000, FP16, block) for block in ("all", "attention"))
    assert whole.flops - attention.flops == pytest.approx(2 * 8 * parameter_counts(card).multiplied, rel=1e-9)
    # A huge batch reads all weights once.
    step = decode_work(card, 1e6, 0, FP16).bytes - decode_work(card, 1e6, 0, FP16, "attention").bytes
    assert step > weight_bytes(card, "fp16") - 2 * (2 * card.vocab * card.hidden)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_prefill_of_one_token_is_a_decode_step(name: str) -> None:
    card = CARDS[name]
    decode = decode_work(card, 1, 4000.5, FP16).flops
    assert prefill_work(card, 1, 1, 4000, FP16).flops == pytest.approx(decode, rel=1e-6)


def test_footprints_of_the_paper() -> None:
    # DeepSeek-R1 at batch 16 in FP16: 84 GB of weights and the KV, "100+ GB" (facts/paper.md 1.2).
    request = cf_request(CARDS["DeepSeek-R1"], 16, 300_000, FP16)
    assert request == pytest.approx(2 * 671.03e9 / 16 + 300_000 * 70_272, rel=1e-4)
    assert request > 100e9
    batch = np.array([1.0, 4.0, 16.0])
    per_request, device = cf_request(LLAMA, batch, 1e4, FP16), cf_device(LLAMA, batch, 1e4, FP16)
    assert np.all(np.diff(per_request) < 0)
    assert np.all(np.diff(device) > 0)
    assert device == pytest.approx(batch * per_request)


def test_footprint_of_a_rank_replicates_kv_beyond_the_heads() -> None:
    weights, kv = weight_bytes(LLAMA, "fp16"), float(kv_bytes(LLAMA, 1e4, "bf16"))
    assert cf_device(LLAMA, 3, 1e4, FP16, tp=8) == pytest.approx((weights + 3 * kv) / 8)
    assert cf_device(LLAMA, 3, 1e4, FP16, tp=16) == pytest.approx(weights / 16 + 3 * kv / 8)
    # On every tensor-parallel rank stands the whole latent.
    deepseek = CARDS["DeepSeek-V3"]
    latent = float(kv_bytes(deepseek, 1e4, "fp8"))
    assert cf_device(deepseek, 3, 1e4, FP8, "attention", tp=8) == pytest.approx(3 * latent)
