"""Bytes of the KV cache: held for a sequence, read by a decode step, replicated by tensor parallelism.

Everything broadcasts: tokens, bits and tensor-parallel degree may be scalars or arrays of one common shape.
A sequence holds, of each layer kind:

=================== ============================================================================
full attention      every token: 2·n_kv·h elements (GQA, MHA, MQA) or d_c + d_rope (MLA's latent)
sliding window      min(tokens, window) tokens of the same elements
linear, Mamba       a state that does not grow: the recurrent part in 32 bits, the convolution's last inputs in 16
sparse index (DSA)  index bytes for every token and full layer, beside the latents, whose 8-bit rows have 656 bytes
=================== ============================================================================

Sources: facts/paper.md 1.4 (κ), DESIGN 3.2, the notes of facts/models.csv.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.workload.parameters import index_layers, precision_bits

if TYPE_CHECKING:
    from codesign.catalog import ModelCard

FloatArray = NDArray[np.float64]

STATE_BYTES = 4.0
"""Of an element of a recurrent state: it is accumulated over the whole sequence, in 32 bits."""
CONVOLUTION_BYTES = 2.0
"""Of an element of a convolution's state: inputs, as the layer gets them."""
LATENT_SCALE_BYTES = 4.0 / 128.0
"""Of the scales of an 8-bit latent that sparse attention reads, for each element (DeepSeek's FlashMLA format: 656 bytes
of 512 + 64 elements, the rotary ones in 16 bits)."""


def kv_elements_per_token_layer(card: ModelCard) -> int:
    """Cache elements of one token in one softmax-attention layer: 2·n_kv·h, or the latent's d_c + d_rope."""
    if card.attention == "mla":
        return card.kv_lora + card.qk_rope
    return 2 * card.kv_heads * card.head_dim


def linear_state_elements(card: ModelCard) -> int:
    """Elements of the recurrent state of one sequence, all linear layers together."""
    if card.linear_state_elements_per_sequence:
        return card.linear_state_elements_per_sequence
    return card.linear_layers * card.linear_v_heads * card.linear_k_dim * card.linear_v_dim


def convolution_elements(card: ModelCard) -> int:
    """Elements of the convolutions' states of one sequence, all linear layers: kernel − 1 inputs of every channel.

    Convolved are queries, keys and values (Mamba-2: the inputs and both groups).
    """
    keys, values = card.linear_k_heads * card.linear_k_dim, card.linear_v_heads * card.linear_v_dim
    return card.linear_layers * max(card.linear_conv_kernel - 1, 0) * (2 * keys + values)


def state_bytes(card: ModelCard) -> float:
    """Bytes of what linear layers hold of one sequence, one copy."""
    return STATE_BYTES * linear_state_elements(card) + CONVOLUTION_BYTES * convolution_elements(card)


def row_bytes(card: ModelCard, bits: ArrayLike) -> FloatArray:
    """Bytes of a token's cache in one softmax-attention layer, without the sparse index."""
    width = np.asarray(bits, dtype=float)
    plain = kv_elements_per_token_layer(card) * width / 8.0
    if not (card.sparse_topk and card.attention == "mla"):
        return plain
    return np.where(width == 8.0, card.kv_lora * (1.0 + LATENT_SCALE_BYTES) + 2.0 * card.qk_rope, plain)


def kv_replication(card: ModelCard, tp: ArrayLike) -> FloatArray:
    """Copies of each cached token inside a tensor-parallel group: ≥ 1.

    Heads are split over ranks; with more ranks than KV heads each head is held by tp / n_kv of them. MLA's
    latent belongs to no head and stands on every rank (attention data parallelism avoids it: there tp is 1).
    """
    ranks = np.asarray(tp, dtype=float)
    if card.attention == "mla":
        return ranks
    return np.maximum(1.0, ranks / max(card.kv_heads, 1))


def kv_bytes(card: ModelCard, tokens: ArrayLike, precision: str | ArrayLike, tp: ArrayLike = 1) -> FloatArray:
    """Bytes held for one sequence of ``tokens`` tokens, summed over the ranks of one tensor-parallel group.

    ``precision`` is a name ("fp8") or bits per element. With ``tp`` = 1 it is one copy (κ·L, facts/paper.md).
    Linear states are replicated only beyond their own heads.
    """
    bits = _bits(precision)
    length = np.asarray(tokens, dtype=float)
    element_bytes = row_bytes(card, bits)
    attention = element_bytes * (
        card.full_attention_layers * length + card.sliding_layers * np.minimum(length, card.sliding_window)
    )
    state = _state_bytes(card, tp)
    return np.asarray((attention + _index_bytes(card, length)) * kv_replication(card, tp) + state)


def kv_read_bytes(
    card: ModelCard, tokens: ArrayLike, precision: str | ArrayLike, tp: ArrayLike = 1
) -> FloatArray:
    """Bytes that one decode step moves for one sequence, summed over the ranks of one tensor-parallel group.

    Sparse attention reads its top-k tokens and the whole index; a linear state is read and written back. The
    one token that a step appends is left out.
    """
    bits = _bits(precision)
    length = np.asarray(tokens, dtype=float)
    attended = np.minimum(length, card.sparse_topk) if card.sparse_topk else length
    element_bytes = row_bytes(card, bits)
    attention = element_bytes * (
        card.full_attention_layers * attended + card.sliding_layers * np.minimum(length, card.sliding_window)
    )
    state = _state_bytes(card, tp)
    return np.asarray((attention + _index_bytes(card, length)) * kv_replication(card, tp) + 2.0 * state)


def max_context_tokens(
    card: ModelCard, budget_bytes: ArrayLike, precision: str | ArrayLike, tp: ArrayLike = 1
) -> FloatArray:
    """Longest sequence whose cache fits a budget: the inverse of :func:`kv_bytes`.

    0 where the constant part alone exceeds the budget, ``inf`` where nothing grows any more.
    """
    bits = _bits(precision)
    copies = kv_replication(card, tp)
    spare = np.asarray(budget_bytes, dtype=float) - _state_bytes(card, tp)
    element_bytes = row_bytes(card, bits)
    growing = copies * (
        card.full_attention_layers * element_bytes + index_layers(card) * card.sparse_index_bytes_per_token_layer
    )
    windowed = copies * element_bytes * card.sliding_layers
    inside = _divide(spare, growing + windowed)
    beyond = _divide(spare - windowed * card.sliding_window, growing)
    fitting = np.where(inside <= card.sliding_window, inside, beyond)
    return np.where(spare < 0, 0.0, fitting)


def _bits(precision: str | ArrayLike) -> FloatArray:
    return np.asarray(precision_bits(precision) if isinstance(precision, str) else precision, dtype=float)


def _index_bytes(card: ModelCard, length: FloatArray) -> FloatArray:
    return index_layers(card) * card.sparse_index_bytes_per_token_layer * length


def _state_bytes(card: ModelCard, tp: ArrayLike) -> FloatArray:
    copies = np.maximum(1.0, np.asarray(tp, dtype=float) / max(card.linear_v_heads, 1))
    return state_bytes(card) * copies if card.linear_layers else np.zeros(copies.shape)


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.inf)
