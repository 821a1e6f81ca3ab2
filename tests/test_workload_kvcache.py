import numpy as np
import pytest

from codesign.catalog import models
from codesign.workload import kv_bytes, kv_read_bytes, kv_replication, max_context_tokens

CARDS = models()


def per_token(name: str, precision: str = "bf16") -> float:
    card = CARDS[name]
    return float(kv_bytes(card, 2e6, precision) - kv_bytes(card, 2e6 - 1, precision))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-3.1-70B", 327_680),
        ("Llama-2-7B", 524_288),
        ("DeepSeek-V3", 70_272),
        ("Gemma-3-27B", 10 * 2 * 16 * 128 * 2),  # beyond the window only the global layers grow
        ("gpt-oss-120b", 18 * 2 * 8 * 64 * 2),
        ("Qwen3-Next-80B-A3B", 24_576),
        ("DeepSeek-V3.2", 70_272 + 61 * 132),  # the sparse index is held for every token and layer
    ],
)
def test_bytes_per_token_in_16_bits(name: str, expected: float) -> None:
    assert per_token(name) == pytest.approx(expected, rel=1e-9)


def test_sliding_layers_hold_at_most_their_window() -> None:
    card = CARDS["gpt-oss-120b"]
    token = 2 * 8 * 64 * 2
    tokens = np.array([0, 100, 128, 1000])
    expected = token * (18 * tokens + 18 * np.minimum(tokens, 128))
    assert kv_bytes(card, tokens, "bf16") == pytest.approx(expected)
    assert kv_read_bytes(card, tokens, "bf16") == pytest.approx(expected)


def test_sparse_attention_holds_all_and_reads_the_top() -> None:
    card = CARDS["DeepSeek-V3.2"]
    # An index row is 128 bytes and a scale; an 8-bit row 512 + 4 scales of 4 bytes + 64 rotary elements of 2.
    assert kv_bytes(card, 100_000, "fp8") == 61 * 100_000 * (656 + 132)
    assert kv_read_bytes(card, 100_000, "fp8") == 61 * (2048 * 656 + 100_000 * 132)
    assert kv_read_bytes(card, 1000, "fp8") == kv_bytes(card, 1000, "fp8")


def test_recurrent_states_do_not_grow_and_stay_in_32_bits() -> None:
    card = CARDS["Qwen3-Next-80B-A3B"]
    # Beside them the last three inputs of a convolution over 2 x 16 keys and 32 values of 128, in 36 layers.
    state = 4 * 18_874_368 + 2 * 36 * 3 * 8192
    assert kv_bytes(card, 0, "bf16") == state
    assert kv_bytes(card, 0, "fp8") == state
    assert kv_read_bytes(card, 0, "fp8") == 2 * state  # read and written back
    # 32 value heads: eight ranks share the states, while two KV heads stand four times.
    grown = kv_bytes(card, 1000, "bf16", tp=8) - kv_bytes(card, 0, "bf16", tp=8)
    assert kv_bytes(card, 0, "bf16", tp=8) == kv_bytes(card, 0, "bf16")
    assert grown == pytest.approx(4 * 1000 * 24_576)


def test_replication_over_tensor_parallel_ranks() -> None:
    assert kv_replication(CARDS["Llama-3.1-70B"], [1, 4, 8, 16]).tolist() == [1, 1, 1, 2]
    assert kv_replication(CARDS["Qwen3-235B-A22B"], [1, 4, 8]).tolist() == [1, 1, 2]
    assert kv_replication(CARDS["DeepSeek-V3"], [1, 4, 8]).tolist() == [1, 4, 8]
    llama = CARDS["Llama-3.1-70B"]
    assert kv_bytes(llama, 1000, "fp8", tp=16) == 2 * kv_bytes(llama, 1000, "fp8")


def test_everything_broadcasts() -> None:
    card = CARDS["DeepSeek-V3"]
    held = kv_bytes(card, np.ones((3, 1)) * 1e4, np.array([16.0, 8.0]), tp=np.array([1, 2]))
    assert held.shape == (3, 2)
    assert np.allclose(held, 1e4 * 70_272)  # half the bits, twice the copies


@pytest.mark.parametrize("name", sorted(CARDS))
@pytest.mark.parametrize("tokens", [50.0, 3_000.0, 200_000.0])
def test_max_context_inverts_the_bytes_held(name: str, tokens: float) -> None:
    card = CARDS[name]
    budget = kv_bytes(card, tokens, "fp8", tp=4)
    assert max_context_tokens(card, budget, "fp8", tp=4) == pytest.approx(tokens, rel=1e-6)


def test_max_context_is_zero_without_room() -> None:
    assert max_context_tokens(CARDS["Llama-3.1-8B"], -1.0, "fp8") == 0
    assert max_context_tokens(CARDS["Qwen3-Next-80B-A3B"], 1e6, "fp8") == 0
