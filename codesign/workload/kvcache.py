"""Bytes of the KV cache: held for a sequence, read by a decode step, replicated by tensor parallelism.

Everything broadcasts: tokens, bits and tensor-parallel degree may be scalars or arrays of one common shape.
A sequence holds, of each layer kind:

=================== ============================================================================
full attention      every token: 2·n_kv·h elements (GQA, MHA, MQA) or d_c + d_rope (MLA's latent)
sliding window      min(tokens, window) tokens of the same elements
linear, Mamba       a state that does not grow (recurrent part; the short convolution's is left out)
sparse index (DSA)  index bytes for every token and full layer, beside the latents
=================== ============================================================================

Sources: facts/paper.md 1.4 (κ), DESIGN 3.2, the notes of facts/models.csv.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.workload.parameters import precision_bits

if TYPE_CHECKING:
    from codesign.catalog import ModelCard

FloatArray = NDArray[np.float64]

STATE_MIN_BITS = 16.0
"""Recurrent states are accumulated over the whole sequence: engines never hold them below 16 bits."""


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
    Linear states are held in at least 16 bits and are replicated only beyond their own heads.
    """
    bits = _bits(precision)
    length = np.asarray(tokens, dtype=float)
    element_bytes = kv_elements_per_token_layer(card) * bits / 8.0
    attention = element_bytes * (
        card.full_attention_layers * length + card.sliding_layers * np.minimum(length, card.sliding_window)
    )
    state = _state_bytes(card, bits, tp)
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
    element_bytes = kv_elements_per_token_layer(card) * bits / 8.0
    attention = element_bytes * (
        card.full_attention_layers * attended + card.sliding_layers * np.minimum(length, card.sliding_window)
    )
    state = _state_bytes(card, bits, tp)
    return np.asarray((attention + _index_bytes(card, length)) * kv_replication(card, tp) + 2.0 * state)


def max_context_tokens(
    card: ModelCard, budget_bytes: ArrayLike, precision: str | ArrayLike, tp: ArrayLike = 1
) -> FloatArray:
    """Longest sequence whose cache fits a budget: the inverse of :func:`kv_bytes`.

    0 where the constant part alone exceeds the budget, ``inf`` where nothing grows any more.
    """
    bits = _bits(precision)
    copies = kv_replication(card, tp)
    spare = np.asarray(budget_bytes, dtype=float) - _state_bytes(card, bits, tp)
    element_bytes = kv_elements_per_token_layer(card) * bits / 8.0
    growing = copies * (
        card.full_attention_layers * (element_bytes + card.sparse_index_bytes_per_token_layer)
    )
    windowed = copies * element_bytes * card.sliding_layers
    inside = _divide(spare, growing + windowed)
    beyond = _divide(spare - windowed * card.sliding_window, growing)
    fitting = np.where(inside <= card.sliding_window, inside, beyond)
    return np.where(spare < 0, 0.0, fitting)


def _bits(precision: str | ArrayLike) -> FloatArray:
    return np.asarray(precision_bits(precision) if isinstance(precision, str) else precision, dtype=float)


def _index_bytes(card: ModelCard, length: FloatArray) -> FloatArray:
    return card.full_attention_layers * card.sparse_index_bytes_per_token_layer * length


def _state_bytes(card: ModelCard, bits: FloatArray, tp: ArrayLike) -> FloatArray:
    copies = np.maximum(1.0, np.asarray(tp, dtype=float) / max(card.linear_v_heads, 1))
    if not card.linear_layers:
        return np.zeros(np.broadcast_shapes(bits.shape, copies.shape))
    return linear_state_elements(card) * np.maximum(bits, STATE_MIN_BITS) / 8.0 * copies


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.inf)
