import pytest

from codesign.catalog import models
from codesign.workload import parameter_counts, precision_bits, weight_bytes

CARDS = models()


@pytest.mark.parametrize("name", [n for n, card in CARDS.items() if card.published_total_parameters])
def test_total_is_within_1_5_percent_of_the_published_one(name: str) -> None:
    card = CARDS[name]
    assert parameter_counts(card).total == pytest.approx(card.published_total_parameters, rel=0.015)


def test_llama_70b_by_hand_to_the_last_parameter() -> None:
    attention = 8192 * (64 * 128 + 2 * 8 * 128) + 64 * 128 * 8192
    mlp = 3 * 8192 * 28672
    counts = parameter_counts(CARDS["Llama-3.1-70B"])
    assert counts.attention_per_layer == attention
    assert counts.dense_mlp_per_layer == mlp
    assert counts.total == 80 * (attention + mlp + 2 * 8192) + 2 * 128256 * 8192 + 8192 == 70_553_706_496
    assert counts.active == counts.total
    assert counts.multiplied == counts.total - 128256 * 8192 - 161 * 8192


def test_latent_attention_and_experts_by_hand() -> None:
    counts = parameter_counts(CARDS["DeepSeek-V3"])
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
    assert counts.attention_per_layer == attention
    assert counts.expert == counts.shared_per_layer == 3 * 7168 * 2048
    assert counts.router_per_layer == 7168 * 256
    assert counts.total - counts.active == 58 * (256 - 8) * counts.expert
    assert counts.active / 1e9 == pytest.approx(37.55, abs=0.01)


def test_sparse_indexer_belongs_to_attention() -> None:
    sparse, full = (parameter_counts(CARDS[name]) for name in ("DeepSeek-V3.2", "DeepSeek-V3"))
    indexer = 1536 * 64 * 128 + 7168 * 128 + 7168 * 64
    assert sparse.index - full.index == 61 * indexer


def test_tied_embeddings_are_stored_once_and_multiplied() -> None:
    counts = parameter_counts(CARDS["Gemma-3-27B"])
    assert counts.embedding == 0
    assert counts.lm_head == 262144 * 5376


def test_hybrids_count_each_kind_of_layer() -> None:
    nemotron = parameter_counts(CARDS["Nemotron-3-Super-120B-A12B"])
    assert nemotron.expert == 2 * 1024 * 2688  # experts live in the latent, without a gate
    assert nemotron.latent_per_layer == 2 * 4096 * 1024
    assert nemotron.linear_layers == 40
    qwen = parameter_counts(CARDS["Qwen3-Next-80B-A3B"])
    gated_query = 2 * 16 * 256
    assert qwen.attention_per_layer == 2048 * (gated_query + 2 * 2 * 256) + 16 * 256 * 2048


def test_weight_bytes_follow_the_precision() -> None:
    llama = CARDS["Llama-3.1-70B"]
    total = parameter_counts(llama).total
    assert weight_bytes(llama, "fp16") == 2 * total
    assert weight_bytes(llama, "nvfp4") == total * 4.5 / 8
    oss = CARDS["gpt-oss-120b"]
    counts = parameter_counts(oss)
    # Native: experts in MXFP4, the rest in 16 bits (the checkpoint has 65 GB); else one precision for all.
    assert weight_bytes(oss, "mxfp4") == counts.routed * 4.25 / 8 + (counts.total - counts.routed) * 2
    assert weight_bytes(oss, "fp8") == counts.total


def test_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"found precision 'fp7'; expected one of .*fp8"):
        precision_bits("fp7")
