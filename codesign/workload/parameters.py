"""Exact parameter counts of a model card, from the shapes of its weight matrices.

Counts cover embeddings, projections, experts, routers and norms. Biases and convolution kernels (each below
0.5 %) are left out, and multi-token prediction heads, as published totals leave them out. The shapes are
those of the published implementations (Hugging Face ``transformers``); the widths come from the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from codesign.catalog import ModelCard
    from codesign.catalog.schema import Precision, Tensors

Matrix = tuple[int, int]
"""(inputs, outputs) of one weight matrix."""

PRECISION_BITS: dict[str, float] = {
    "fp32": 32.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "nvfp4": 4.5,  # 4 bits and an FP8 scale for each 16 elements
    "mxfp4": 4.25,  # 4 bits and an E8M0 scale for each 32 elements
    "int4": 4.125,  # 4 bits and an FP16 scale for each 128 elements (GPTQ/AWQ group 128)
}
"""Stored bits of one element, block scales included."""


def precision_bits(precision: str) -> float:
    """Stored bits of one element of a precision, scales included.

    Raises ValueError that lists the known precisions when the name is not one of them.
    """
    try:
        return PRECISION_BITS[precision]
    except KeyError:
        known = ", ".join(PRECISION_BITS)
        raise ValueError(f"found precision '{precision}'; expected one of {known}") from None


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of a model, in total and of each kind of block (all are numbers of elements)."""

    total: int
    """Every stored parameter of the language model."""
    active: int
    """Parameters that one token uses: top-k experts instead of all; embeddings counted once, as published."""
    embedding: int
    """Input table; 0 when it is tied, since the head then holds it."""
    lm_head: int
    """Output head: always vocabulary × hidden, because it is always stored and multiplied."""
    attention_per_layer: int
    """Projections of one softmax-attention layer (full or sliding), without the sparse indexer."""
    index: int
    """Sparse indexers of all layers that have one."""
    linear_per_layer: int
    """Projections of one linear-attention or Mamba layer."""
    dense_mlp_per_layer: int
    """Matrices of one dense MLP."""
    expert: int
    """One routed expert of one layer."""
    shared_per_layer: int
    """Shared experts of one MoE layer, together."""
    router_per_layer: int
    """Router of one MoE layer."""
    latent_per_layer: int
    """Down and up projections of a latent MoE layer (LatentMoE); 0 elsewhere."""
    norms: int
    """RMSNorm/LayerNorm weights of the whole model."""
    attention_layers: int
    """Layers with softmax attention: full and sliding."""
    linear_layers: int
    dense_layers: int
    moe_layers: int
    experts: int
    top_k: int

    @property
    def routed(self) -> int:
        """All routed experts of all layers."""
        return self.moe_layers * self.experts * self.expert

    @property
    def multiplied(self) -> int:
        """Weights that multiply each token: the active ones without the input table and norms."""
        return self.active - self.embedding - self.norms


def elements(matrices: Sequence[Matrix]) -> int:
    """Sum of inputs × outputs over a list of matrices."""
    return sum(rows * columns for rows, columns in matrices)


def io_widths(matrices: Sequence[Matrix]) -> int:
    """Sum of inputs + outputs over a list of matrices: activations that one token moves through them."""
    return sum(rows + columns for rows, columns in matrices)


def attention_matrices(card: ModelCard) -> list[Matrix]:
    """Projections of one softmax-attention layer.

    Multi-head latent attention: query (through ``q_lora`` if any), joint latent with the rotary key,
    up-projection to keys and values, output. Otherwise query (doubled by an output gate), key, value, output.
    """
    if card.attention == "mla":
        query = card.heads * (card.qk_nope + card.qk_rope)
        shapes = [(card.hidden, card.q_lora), (card.q_lora, query)] if card.q_lora else [(card.hidden, query)]
        shapes += [
            (card.hidden, card.kv_lora + card.qk_rope),
            (card.kv_lora, card.heads * (card.qk_nope + card.v_head)),
            (card.heads * card.v_head, card.hidden),
        ]
        shapes += [(card.hidden, card.heads * card.v_head)] if card.gated_attention else []
    else:
        query = card.heads * card.head_dim
        shapes = [
            (card.hidden, query * (2 if card.gated_attention else 1)),
            (card.hidden, card.kv_heads * card.head_dim),
            (card.hidden, card.kv_heads * card.head_dim),
            (query, card.hidden),
        ]
    return shapes


def index_layers(card: ModelCard) -> int:
    """Layers that have a sparse index of their own."""
    if not card.sparse_index_heads:
        return 0
    return card.sparse_index_layers or card.full_attention_layers


def index_matrices(card: ModelCard) -> list[Matrix]:
    """The lightning indexer of DeepSeek sparse attention, of one layer: its queries come from the query latent."""
    if not card.sparse_index_heads:
        return []
    return [
        (card.q_lora or card.hidden, card.sparse_index_heads * card.sparse_index_dim),
        (card.hidden, card.sparse_index_dim),
        (card.hidden, card.sparse_index_heads),
    ]


def linear_attention_matrices(card: ModelCard) -> list[Matrix]:
    """Projections of one linear layer: Gated DeltaNet, Kimi Delta Attention (``kda``) or ``mamba2``.

    Mamba-2 is written in the same words: value heads = its heads, value dimension = its head dimension, key
    heads = its groups, key dimension = its state size.
    """
    if not card.linear_layers:
        return []
    keys = card.linear_k_heads * card.linear_k_dim
    values = card.linear_v_heads * card.linear_v_dim
    if card.linear_kind == "mamba2":
        inputs = [(card.hidden, 2 * values + 2 * keys + card.linear_v_heads)]
    elif card.linear_kind == "kda":
        inputs = [
            (card.hidden, 2 * keys + values + card.linear_v_heads),
            (card.hidden, card.linear_k_dim),  # the decay is of low rank
            (card.linear_k_dim, keys),
        ]
        if card.linear_full_gate:
            inputs += [(card.hidden, values)]
        else:
            inputs += [(card.hidden, card.linear_v_dim), (card.linear_v_dim, values)]
    else:
        inputs = [(card.hidden, 2 * keys + 2 * values), (card.hidden, 2 * card.linear_v_heads)]
    return [*inputs, (values, card.hidden)]


def mlp_matrices(width: int, intermediate: int, gated: bool) -> list[Matrix]:
    """Matrices of an MLP: up (twice when gated) and down. Empty when the intermediate width is 0."""
    if not intermediate:
        return []
    return [(width, intermediate)] * (2 if gated else 1) + [(intermediate, width)]


def expert_matrices(card: ModelCard) -> list[Matrix]:
    """Matrices of one routed expert; a latent MoE's experts work in the latent width."""
    return mlp_matrices(card.moe_latent or card.hidden, card.expert_intermediate, card.gated_mlp)


def shared_matrices(card: ModelCard) -> list[Matrix]:
    """Matrices of the shared experts of one MoE layer, all of them."""
    return mlp_matrices(card.hidden, card.shared_intermediate, card.gated_mlp) * card.shared_experts


def latent_matrices(card: ModelCard) -> list[Matrix]:
    """Projections into and out of the latent of a LatentMoE layer; empty for other models."""
    return [(card.hidden, card.moe_latent), (card.moe_latent, card.hidden)] if card.moe_latent else []


def parameter_counts(card: ModelCard) -> ParameterCounts:
    """Parameters of a model card, in total, active for a token, and by block.

    Within 1.5 % of the published total for every card of the catalogue that has one.
    """
    table = card.vocab * card.hidden
    embedding = 0 if card.tied_embeddings else table
    attention_layers = card.full_attention_layers + card.sliding_layers
    attention = elements(attention_matrices(card)) if attention_layers else 0
    index = index_layers(card) * elements(index_matrices(card))
    linear = elements(linear_attention_matrices(card))
    dense = (
        elements(mlp_matrices(card.hidden, card.dense_intermediate, card.gated_mlp))
        if card.dense_layers
        else 0
    )
    expert = elements(expert_matrices(card)) if card.moe_layers else 0
    shared = elements(shared_matrices(card)) if card.moe_layers else 0
    router = card.hidden * card.experts if card.moe_layers else 0
    latent = elements(latent_matrices(card)) if card.moe_layers else 0
    # One norm before each mixer and each MLP, and a final one.
    blocks = attention_layers + card.linear_layers + card.dense_layers + card.moe_layers
    norms = (blocks + 1) * card.hidden
    common = (
        embedding
        + table
        + norms
        + attention_layers * attention
        + index
        + card.linear_layers * linear
        + card.dense_layers * dense
        + card.moe_layers * (shared + router + latent)
    )
    return ParameterCounts(
        total=common + card.moe_layers * card.experts * expert,
        active=common + card.moe_layers * card.top_k * expert,
        embedding=embedding,
        lm_head=table,
        attention_per_layer=attention,
        index=index,
        linear_per_layer=linear,
        dense_mlp_per_layer=dense,
        expert=expert,
        shared_per_layer=shared,
        router_per_layer=router,
        latent_per_layer=latent,
        norms=norms,
        attention_layers=attention_layers,
        linear_layers=card.linear_layers,
        dense_layers=card.dense_layers,
        moe_layers=card.moe_layers,
        experts=card.experts,
        top_k=card.top_k,
    )


def weight_bits(card: ModelCard, precision: str) -> tuple[float, float]:
    """(bits of a routed expert's element, bits of any other element) when the card is served at a precision.

    A card with ``expert_bits`` (gpt-oss) keeps everything but its experts in 16 bits at its native precision.
    Otherwise one precision holds for all parameters, as in W = parameters × bytes (facts/paper.md 2.4), but for those
    that :func:`tensor_bits` knows better.
    """
    bits = precision_bits(precision)
    if card.expert_bits is not None and precision == card.native_precision:
        return card.expert_bits, 16.0
    return bits, bits


def tensor_bits(card: ModelCard, precision: str, tensors: Tensors) -> float:
    """Bits of an element of such tensors when the card is served at a precision: 16 where its releases keep them so."""
    _, other = weight_bits(card, precision)
    return max(other, 16.0) if tensors in card.kept_16_bit.get(cast("Precision", precision), ()) else other


def output_matrix(card: ModelCard) -> Matrix:
    """Projection out of one softmax-attention layer: one of :func:`attention_matrices`."""
    return (card.heads * (card.v_head if card.attention == "mla" else card.head_dim), card.hidden)


def attention_bits(card: ModelCard, precision: str) -> float:
    """Bits of all projections of one softmax-attention layer together."""
    out = elements([output_matrix(card)])
    into = elements(attention_matrices(card)) - out
    return into * tensor_bits(card, precision, "attention") + out * tensor_bits(card, precision, "output")


def weight_bytes(card: ModelCard, precision: str) -> float:
    """Bytes of all weights of one copy of the model at a precision."""
    counts = parameter_counts(card)
    expert, other = weight_bits(card, precision)
    bits = counts.routed * expert + (counts.total - counts.routed) * other
    if counts.attention_layers:
        bits += counts.attention_layers * (attention_bits(card, precision) - counts.attention_per_layer * other)
    blocks: tuple[tuple[Tensors, int], ...] = (
        ("attention", counts.index),
        ("linear", counts.linear_layers * counts.linear_per_layer),
        ("dense", counts.dense_layers * counts.dense_mlp_per_layer),
        ("shared", counts.moe_layers * counts.shared_per_layer),
    )
    bits += sum(held * (tensor_bits(card, precision, tensors) - other) for tensors, held in blocks)
    return bits / 8.0
