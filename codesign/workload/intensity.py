"""Operational intensity (FLOP per byte moved) and capacity footprint (bytes held), phase by phase.

Closed forms of facts/paper.md 1.4; b_w, b_a, b_kv are bytes of a weight, activation and KV element, B
sequences of context L, S new and C cached tokens of a prompt:

=================== ================================= =================================
block               FLOP                              bytes
=================== ================================= =================================
one matrix m × d    2·m·d·tokens                      b_w·m·d + b_a·(d + m)·tokens
attention, decode   4·n_h·h·L·B                       2·n_kv·h·L·b_kv·B
attention, prefill  4·n_h·h·S·(C + S/2)·B             2·n_kv·h·(C + S)·b_kv·B + q and o
experts             2·active·tokens                   E·(1 − (1 − k/E)^tokens) experts
=================== ================================= =================================

`attention` is the part that reads the cache (scores, values, recurrent state, sparse index), `ffn` the MLPs,
experts and routers; `all` adds the projections and the output head. Everything broadcasts over batch and
lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.workload.kvcache import (
    kv_bytes,
    kv_read_bytes,
    linear_state_elements,
    row_bytes,
)
from codesign.workload.parameters import (
    Matrix,
    attention_bits,
    attention_matrices,
    elements,
    expert_matrices,
    index_layers,
    index_matrices,
    io_widths,
    latent_matrices,
    linear_attention_matrices,
    mlp_matrices,
    parameter_counts,
    precision_bits,
    shared_matrices,
    tensor_bits,
    weight_bits,
    weight_bytes,
)

if TYPE_CHECKING:
    from codesign.catalog import ModelCard

FloatArray = NDArray[np.float64]
Block = Literal["all", "attention", "ffn"]
BLOCKS: tuple[Block, ...] = ("all", "attention", "ffn")

STATE_FLOPS_PER_ELEMENT = {"mamba2": 4.0, "deltanet": 6.0, "kda": 6.0}
"""FLOP per state element and token: update and readout (2 + 2); the delta rule reads once more."""


@dataclass(frozen=True, eq=False)
class Work:
    """FLOPs and bytes moved from memory, as arrays of one shape."""

    flops: FloatArray
    bytes: FloatArray

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def intensity(self) -> FloatArray:
        """Operational intensity in FLOP per byte; 0 where nothing moves."""
        return np.divide(
            self.flops, self.bytes, out=np.zeros_like(self.flops * self.bytes), where=self.bytes > 0
        )


@dataclass(frozen=True)
class Formats:
    """Precisions of weights, activations and KV cache, by name."""

    weights: str
    activations: str
    kv: str


def linear_work(
    matrices: Sequence[Matrix], tokens: ArrayLike, weight_bits: float, activation_bits: float
) -> Work:
    """Work of multiplying ``tokens`` tokens with each of the matrices, read once."""
    count = np.asarray(tokens, dtype=float)
    weights = elements(matrices)
    moved = weights * weight_bits / 8.0 + io_widths(matrices) * activation_bits / 8.0 * count
    return Work(2.0 * weights * count, moved)


def distinct_experts(experts: int, top_k: int, tokens: ArrayLike) -> FloatArray:
    """Expected experts that ``tokens`` tokens touch under uniform routing: E·(1 − (1 − k/E)^tokens)."""
    count = np.asarray(tokens, dtype=float)
    return np.asarray(experts * -np.expm1(count * np.log1p(-min(top_k / experts, 1.0 - 1e-15))))


def ffn_work(card: ModelCard, tokens: ArrayLike, formats: Formats) -> Work:
    """MLPs, experts, latents and routers of the whole model for ``tokens`` tokens in one pass."""
    expert_bits, bits = weight_bits(card, formats.weights)
    activation = precision_bits(formats.activations)
    count = np.asarray(tokens, dtype=float)
    dense = mlp_matrices(card.hidden, card.dense_intermediate, card.gated_mlp) * card.dense_layers
    work = linear_work(dense, count, tensor_bits(card, formats.weights, "dense"), activation)
    if card.moe_layers:
        shared = linear_work(shared_matrices(card), count, tensor_bits(card, formats.weights, "shared"), activation)
        common = [*latent_matrices(card), (card.hidden, card.experts)]
        expert = expert_matrices(card)
        touched = distinct_experts(card.experts, card.top_k, count)
        visits = linear_work(expert, card.top_k * count, 0.0, activation)
        routed = Work(visits.flops, visits.bytes + touched * elements(expert) * expert_bits / 8.0)
        layer = linear_work(common, count, bits, activation) + shared + routed
        work = work + Work(card.moe_layers * layer.flops, card.moe_layers * layer.bytes)
    return work


def projection_work(card: ModelCard, tokens: ArrayLike, sequences: ArrayLike, formats: Formats) -> Work:
    """Projections around attention for all tokens, and the output head for one token of each sequence."""
    _, bits = weight_bits(card, formats.weights)
    activation = precision_bits(formats.activations)
    attention = attention_matrices(card) * (card.full_attention_layers + card.sliding_layers)
    index = index_matrices(card) * index_layers(card)
    linear = linear_attention_matrices(card) * card.linear_layers
    head = linear_work([(card.hidden, card.vocab)], sequences, bits, activation)
    work = linear_work(linear, tokens, tensor_bits(card, formats.weights, "linear"), activation) + head
    work = work + linear_work(index, tokens, tensor_bits(card, formats.weights, "attention"), activation)
    if not attention:
        return work
    mean_bits = attention_bits(card, formats.weights) / elements(attention_matrices(card))
    return linear_work(attention, tokens, mean_bits, activation) + work


def attention_decode_work(card: ModelCard, context: ArrayLike, batch: ArrayLike, formats: Formats) -> Work:
    """Attention of one decode step over ``batch`` sequences of ``context`` tokens (MLA in absorbed form)."""
    length, sequences = np.asarray(context, dtype=float), np.asarray(batch, dtype=float)
    attended = np.minimum(length, card.sparse_topk) if card.sparse_topk else length
    if card.attention == "mla":
        per_pair = 2.0 * card.heads * (2 * card.kv_lora + card.qk_rope)
    else:
        per_pair = 4.0 * card.heads * card.head_dim
    pairs = card.full_attention_layers * attended
    pairs = pairs + card.sliding_layers * np.minimum(length, card.sliding_window)
    flops = per_pair * pairs + _index_flops(card) * length + _state_flops(card)
    return Work(sequences * flops, sequences * kv_read_bytes(card, length, formats.kv))


def attention_prefill_work(
    card: ModelCard, new: ArrayLike, cached: ArrayLike, batch: ArrayLike, formats: Formats
) -> Work:
    """Attention of ``batch`` prompts of ``new`` tokens over ``cached`` ones, causal, each K and V read once.

    MLA takes the cheaper of its two forms: absorbed, or keys and values of the cached prefix expanded first.
    """
    fresh, prefix, sequences = (np.asarray(x, dtype=float) for x in (new, cached, batch))
    full, sliding = card.full_attention_layers, card.sliding_layers
    pairs = full * _causal_pairs(fresh, prefix, card.sparse_topk or np.inf)
    if sliding:
        pairs = pairs + sliding * _causal_pairs(fresh, prefix, card.sliding_window)
    if card.attention == "mla":
        query, value = card.qk_nope + card.qk_rope, card.v_head
        expand = 2.0 * card.kv_lora * card.heads * (card.qk_nope + card.v_head) * (full + sliding) * prefix
        flops = np.minimum(
            2.0 * card.heads * (2 * card.kv_lora + card.qk_rope) * pairs,
            2.0 * card.heads * (query + value) * pairs + expand,
        )
    else:
        query = value = card.head_dim
        flops = 4.0 * card.heads * card.head_dim * pairs
    flops = flops + _index_flops(card) * fresh * (prefix + fresh / 2.0) + _state_flops(card) * fresh
    element = row_bytes(card, precision_bits(formats.kv))
    read = (full * element + index_layers(card) * card.sparse_index_bytes_per_token_layer) * (prefix + fresh)
    read = read + sliding * element * (np.minimum(prefix, card.sliding_window) + fresh)
    outer = (full + sliding) * card.heads * (query + value) * precision_bits(formats.activations) / 8.0
    state = kv_read_bytes(card, 0.0, formats.kv)  # the recurrent state alone: read and written once
    return Work(sequences * flops, sequences * (read + outer * fresh + state))


def decode_work(
    card: ModelCard, batch: ArrayLike, context: ArrayLike, formats: Formats, block: Block = "all"
) -> Work:
    """Work of one decode step: ``batch`` sequences, one token each, at ``context`` tokens."""
    if block == "ffn":
        return ffn_work(card, batch, formats)
    attention = attention_decode_work(card, context, batch, formats)
    if block == "attention":
        return attention
    return attention + ffn_work(card, batch, formats) + projection_work(card, batch, batch, formats)


def prefill_work(
    card: ModelCard,
    batch: ArrayLike,
    new: ArrayLike,
    cached: ArrayLike,
    formats: Formats,
    block: Block = "all",
) -> Work:
    """Work of one pass over ``batch`` prompts of ``new`` tokens each, over ``cached`` tokens each."""
    tokens = np.asarray(batch, dtype=float) * np.asarray(new, dtype=float)
    if block == "ffn":
        return ffn_work(card, tokens, formats)
    attention = attention_prefill_work(card, new, cached, batch, formats)
    if block == "attention":
        return attention
    return attention + ffn_work(card, tokens, formats) + projection_work(card, tokens, batch, formats)


def block_weight_bytes(card: ModelCard, formats: Formats, block: Block = "all") -> float:
    """Bytes of the weights that belong to a block (all experts); attention itself has none."""
    if block == "attention":
        return 0.0
    if block == "all":
        return weight_bytes(card, formats.weights)
    counts = parameter_counts(card)
    expert_bits, bits = weight_bits(card, formats.weights)
    other = counts.moe_layers * (counts.router_per_layer + counts.latent_per_layer) * bits
    other += counts.dense_layers * counts.dense_mlp_per_layer * tensor_bits(card, formats.weights, "dense")
    other += counts.moe_layers * counts.shared_per_layer * tensor_bits(card, formats.weights, "shared")
    return (counts.routed * expert_bits + other) / 8.0


def cf_request(
    card: ModelCard, batch: ArrayLike, context: ArrayLike, formats: Formats, block: Block = "all"
) -> FloatArray:
    """Capacity footprint of one request (bytes): its share W/B of the weights, and its KV cache.

    Falls with the batch; the footprint of the whole batch, batch × cf_request, rises (:func:`cf_device`).
    """
    kv = 0.0 if block == "ffn" else kv_bytes(card, context, formats.kv)
    return np.asarray(block_weight_bytes(card, formats, block) / np.asarray(batch, dtype=float) + kv)


def cf_device(
    card: ModelCard,
    batch: ArrayLike,
    context: ArrayLike,
    formats: Formats,
    block: Block = "all",
    tp: ArrayLike = 1,
) -> FloatArray:
    """Capacity footprint of one device (bytes): weights and KV of the whole batch, over ``tp`` ranks.

    KV that tensor parallelism replicates is counted on every rank.
    """
    kv = 0.0 if block == "ffn" else kv_bytes(card, context, formats.kv, tp)
    total = block_weight_bytes(card, formats, block) + np.asarray(batch, dtype=float) * kv
    return np.asarray(total / np.asarray(tp, dtype=float))


def _causal_pairs(new: FloatArray, cached: FloatArray, window: float) -> FloatArray:
    """Query-key pairs of one layer: ∫ min(C + s, window) ds over the new tokens."""
    growing = np.clip(window - cached, 0.0, new)
    rest = new - growing
    # A rest exists only below a finite window, and 0·inf must not be asked for.
    return np.asarray(growing * (cached + growing / 2.0) + rest * (window if np.isfinite(window) else 0.0))


def _index_flops(card: ModelCard) -> float:
    return 2.0 * card.sparse_index_heads * card.sparse_index_dim * index_layers(card)


def _state_flops(card: ModelCard) -> float:
    if card.linear_kind is None:
        return 0.0
    return STATE_FLOPS_PER_ELEMENT[card.linear_kind] * linear_state_elements(card)
