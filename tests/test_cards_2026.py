"""Cards of 2026 against what their classes count (transformers 5.24.0), or by hand from their configurations."""

import pytest

from codesign.catalog import accelerators, from_huggingface_config, models
from codesign.performance.constants import calibration_key
from codesign.workload import parameter_counts
from codesign.workload.kvcache import convolution_elements, kv_elements_per_token_layer, linear_state_elements
from codesign.workload.parameters import index_layers

CARDS = models()


@pytest.mark.parametrize(
    ("name", "total", "active", "growing"),
    [
        ("GLM-5", 743_911_199_232, 41_784_709_632, 54_912),
        ("GLM-5.2", 743_377_000_704, 41_250_511_104, 47_616),
        ("MiniMax-M3", 426_174_565_632, 25_962_466_560, 68_736),
        ("MiniMax-M2.7", 228_689_748_992, 11_030_537_216, 126_976),
        ("Nemotron-3-Nano-30B-A3B", 31_577_937_344, 3_580_073_408, 3_072),
        ("Nemotron-3-Ultra-550B-A55B", 549_308_968_960, 56_058_818_560, 6_144),
        ("Qwen3-Coder-30B-A3B", 30_532_122_624, 3_353_032_704, 49_152),
    ],
)
def test_parameters_and_cache_are_those_of_the_class(name, total, active, growing):
    """Biases, convolutions and norms of heads are left out: 0.003 % of the total, 0.03 % of the active ones at most."""
    card = CARDS[name]
    counts = parameter_counts(card)
    assert counts.total == pytest.approx(total, rel=3e-5)
    assert counts.active == pytest.approx(active, rel=3e-4)
    held = card.full_attention_layers * kv_elements_per_token_layer(card) + index_layers(card) * card.sparse_index_dim
    assert held == growing


def test_states_are_those_of_the_class():
    for name, state, whole_kernel in (
        ("Nemotron-3-Nano-30B-A3B", 12_058_624, 565_248),
        ("Nemotron-3-Ultra-550B-A55B", 100_663_296, 3_538_944),
        ("Qwen3-Next-80B-A3B", 18_874_368, 1_179_648),
    ):
        assert linear_state_elements(CARDS[name]) == state
        assert convolution_elements(CARDS[name]) == whole_kernel * 3 // 4  # engines hold kernel - 1 of 4


def test_kimi_k3_as_released():
    """Experts of 92 layers in MXFP4 and the rest in 16 bits make the 1,561 GB of the checkpoint, with a vision tower of
    some 1 GB. A gate of full rank has 7,168 x 96 x 128 weights, in 69 KDA and 24 MLA layers."""
    card = CARDS["Kimi-K3"]
    counts = parameter_counts(card)
    assert counts.routed == 92 * 896 * 3 * 3584 * 3072
    assert (counts.routed * 4.25 + (counts.total - counts.routed) * 16) / 8 == pytest.approx(1.561e12, rel=1e-3)
    plain = parameter_counts(card.model_copy(update={"gated_attention": False}))
    assert counts.total - plain.total == 24 * 7168 * 96 * 128
    low = parameter_counts(card.model_copy(update={"linear_full_gate": False}))
    assert counts.total - low.total == 69 * (7168 * 96 * 128 - 128 * (7168 + 96 * 128))


def test_kimi_k2_5_and_glm_5_3_by_hand():
    """K2.5 and K2.6: routed experts of 60 layers at 4.5 bits, the rest in 16 bits. GLM-5.3 has GLM-5.2's shapes."""
    for name in ("Kimi-K2.5", "Kimi-K2.6"):
        counts = parameter_counts(CARDS[name])
        assert counts.routed == 60 * 384 * 3 * 7168 * 2048
        assert counts.total == pytest.approx(1_026_408_209_408, rel=1e-6)
        assert "Not witnessed" in CARDS[name].notes
    assert parameter_counts(CARDS["GLM-5.3"]) == parameter_counts(CARDS["GLM-5.2"])


def test_shared_indexes_are_read_from_configurations():
    config = {
        "model_type": "glm_moe_dsa", "hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 4,
        "kv_lora_rank": 16, "q_lora_rank": 32, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
        "index_topk": 8, "index_n_heads": 2, "index_head_dim": 128, "vocab_size": 100, "max_position_embeddings": 64,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "intermediate_size": 32,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    assert index_layers(from_huggingface_config(config)) == 12
    every = config | {"index_topk_freq": 4, "index_skip_topk_offset": 3}
    assert from_huggingface_config(every).sparse_index_layers == 5  # 0, 1, 2, 6, 10
    listed = config | {"indexer_types": ["full"] * 3 + ["shared"] * 9}
    assert from_huggingface_config(listed).sparse_index_layers == 3
    assert from_huggingface_config(listed).sparse_index_bytes_per_token_layer == 132


def test_h20_inherits_hopper_s_kernels():
    for name in ("h20-96", "h20-141"):
        part = accelerators()[name]
        assert calibration_key(part) == "inherited:hopper"
        assert part.fp8_flops == 2 * part.fp16_flops == 296e12
