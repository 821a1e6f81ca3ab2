"""Bytes, FLOPs and admissibility of K configurations: what fits, what a token costs, what the links carry.

Arguments broadcast [K, J], [J] or scalars; results are [K, J] where there is a point, else [K].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.catalog.schema import Tensors
from codesign.performance.drafts import Drafts
from codesign.performance.engine_memory import DEFAULTS, EngineMemory, memory_share, workspace_bytes
from codesign.performance.operators import causal_pairs, distinct_experts
from codesign.performance.parts import PRECISION_BYTES, PRECISIONS
from codesign.performance.replica import HALF_BYTES, Replica, replica
from codesign.performance.table import ConfigurationTable, points_first

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def weight_bytes(table: ConfigurationTable) -> FloatArray:
    """Weights on the fullest accelerator of a replica [K].

    Split over tp (KV projections replicated beyond the KV heads, MLA's down-projections on every rank),
    experts over ep × slices with ⌈E/ep⌉ experts a rank, ⌈L/pp⌉ layers. Embedding, head and router stay in 16
    bits.
    """
    return sum(_weight_parts(replica(table)), np.zeros(len(table))) + _draft_weight_bytes(table)


def _draft_weight_bytes(table: ConfigurationTable) -> FloatArray:
    """Weights of what drafts on an accelerator [K]: in its own memory, with the tables that the model has not."""
    found, drafts = np.zeros(len(table)), Drafts.of(table)
    if drafts is not None:
        r = replica(drafts.table)
        both = sum(_weight_parts(r), np.zeros(len(drafts.rows)))
        found[drafts.rows] = both - np.where(drafts.own_tables, 0.0, _table_bytes(r))
    return found


def _weight_parts(r: Replica) -> tuple[FloatArray, FloatArray]:
    """(all but routed experts, routed experts) of :func:`weight_bytes`."""
    card = r.card
    common, expert = _layer_weight_bytes(r)
    routed = np.ceil(card["experts"] / r.ep) * card["moe"] * expert / r.slices
    share = r.imbalance / r.pp
    return common * share + _table_bytes(r), routed * share


def _table_bytes(r: Replica) -> FloatArray:
    """Embedding and head on a rank: one stage holds both; with several, the first holds one and the last the other."""
    return np.asarray(
        r.card["vocab"] * r.card["hidden"] * HALF_BYTES / r.tp * np.where(r.pp > 1, 1.0, 1.0 + r.card["untied"])
    )


def _layer_weight_bytes(r: Replica) -> tuple[FloatArray, FloatArray]:
    """(bytes of all layers on one rank without routed experts and pipelining, bytes of one expert)."""
    card = r.card
    router = card["moe"] * card["hidden"] * card["experts"] * HALF_BYTES * (card["top_k"] > 0)
    common = router
    for tensors, held in _layer_elements(r).items():
        kept = r.kept[tensors] if tensors != "latent" else False
        common = common + held * np.where(kept, HALF_BYTES, r.other_bytes)
    matrices = card["mlp_inputs"] + 1.0
    expert = matrices * card["expert_hidden"] * card["expert_width"] * r.expert_bytes
    return common, expert


def _layer_elements(r: Replica) -> dict[Tensors | Literal["latent"], FloatArray]:
    """Elements of all layers on one rank without routed experts, routers and pipelining, by tensors [K]."""
    card, tp = r.card, r.tp
    hidden = card["hidden"]
    mla = card["mla"] > 0
    latent = card["kv_lora"] + card["qk_rope"]
    query_mla = card["heads"] * (card["qk_nope"] + card["qk_rope"])
    two_step = card["q_lora"] > 0
    mla_elements = (
        hidden * latent
        + np.where(
            two_step, hidden * card["q_lora"] + card["q_lora"] * query_mla / tp, hidden * query_mla / tp
        )
        + card["kv_lora"] * r.heads_rank * (card["qk_nope"] + card["v_head"])
        + card["gated_mla"] * r.heads_rank * card["v_head"] * hidden
    )
    gqa_elements = hidden * card["head_dim"] * (r.heads_rank * card["gated_q"] + 2.0 * r.kv_heads_rank)
    output = r.heads_rank * np.where(mla, card["v_head"], card["head_dim"]) * hidden
    index = card["sparse"] * (
        np.where(two_step, card["q_lora"], hidden) * card["index_heads"] * card["index_dim"]
        + hidden * (card["index_dim"] + card["index_heads"])
    )
    matrices = card["mlp_inputs"] + 1.0
    return {
        "attention": card["attention_layers"] * (np.where(mla, mla_elements, gqa_elements) + index),
        "output": card["attention_layers"] * output,
        "linear": card["linear"] * hidden * (card["linear_inputs"] + card["values"]) / tp,
        "dense": card["dense"] * matrices * hidden * card["dense_width"] / tp,
        "shared": card["moe"] * matrices * hidden * card["shared_width"] / tp,
        "latent": card["moe"] * 2.0 * hidden * card["latent"],
    }


def kv_capacity_bytes(table: ConfigurationTable, memory: EngineMemory = DEFAULTS) -> FloatArray:
    """Bytes of the whole replica that KV caches may use [K]; ≤ 0 where the model does not fit.

    Of attached memory that holds the caches; else of the accelerators' own, less the weights that lie there and what
    the engine's largest step takes (:mod:`~codesign.performance.engine_memory`).
    """
    r, parts, attached = replica(table), table.part_accelerators, table.part_memories
    own, beside = parts.weight_capacity[table.accelerator], attached.capacity[table.memory]
    common, routed = _weight_parts(r)
    weights = common + routed
    inside = np.where((own > 0) | r.weights_apart, 0.0, common + np.where(r.experts_apart, 0.0, routed))
    taken = inside + _draft_weight_bytes(table) + workspace_bytes(table, memory) + memory.runtime_bytes
    usable = parts.capacity[table.accelerator]
    share, of_free = memory_share(table, memory.fraction)
    free = np.where(of_free, share * (usable - taken), share * usable - taken)
    overflows = (own > 0) & (weights > own)
    overflows |= (r.weights_apart & (weights > beside)) | (r.experts_apart & (routed > beside))
    room = np.where(r.kv_apart & (free >= 0), beside * share, free)
    return np.where(overflows, 0.0, room * table.replica_accelerators)


def kv_bytes(table: ConfigurationTable, tokens: ArrayLike) -> FloatArray:
    """Bytes [K, J] that one sequence takes of :func:`kv_capacity_bytes`.

    Copies over tensor-parallel ranks are counted, and the fullest stage stands for all (× pp·⌈L/pp⌉/L).
    """
    r = replica(table)
    length = points_first(tokens)
    found = (_held_bytes(r, length, r.kv_copies, r.state_bytes) * r.imbalance).T
    drafts = Drafts.of(table)
    if drafts is not None:
        found[drafts.rows] += kv_bytes(drafts.table, drafts.of_rows(tokens))
    return found


def kv_transfer_bytes(table: ConfigurationTable, tokens: ArrayLike) -> FloatArray:
    """Bytes [K, J] of one copy of a sequence's cache: what a transfer between replicas moves."""
    r = replica(table)
    return _held_bytes(r, points_first(tokens), np.ones_like(r.tp), r.card["state_bytes"]).T


def _held_bytes(r: Replica, length: FloatArray, copies: FloatArray, state: FloatArray) -> FloatArray:
    card = r.card
    growing = card["full"] * (r.row_bytes + card["sparse"] * card["index_bytes"]) * length
    windowed = card["sliding"] * r.row_bytes * np.minimum(length, card["window"])
    return (growing + windowed) * copies + state


def kv_read_bytes(table: ConfigurationTable, context: ArrayLike) -> FloatArray:
    """Bytes [K, J] that one sequence adds to a decode step, all ranks; states are read, and written for each token."""
    r = replica(table)
    card, length = r.card, points_first(context)
    index = card["sparse"] * card["index_bytes"] * length
    full = card["full"] * (r.row_bytes * np.minimum(length, card["attended"]) + index)
    windowed = card["sliding"] * r.row_bytes * np.minimum(length, card["window"])
    found = ((full + windowed) * r.kv_copies + (1.0 / r.positions + 1.0) * r.state_bytes).T
    drafts = Drafts.of(table)
    if drafts is not None:
        found[drafts.rows] += drafts.passes[:, None] * kv_read_bytes(drafts.table, drafts.of_rows(context))
    return found


def decode_weight_bytes(table: ConfigurationTable, batch: ArrayLike) -> FloatArray:
    """Weight bytes [K, J] that a replica streams in one decode step.

    Every data-parallel group streams its own copies, every stage its layers once for each of the pp
    microbatches of a cycle; of the experts those that the stage's tokens touch.
    """
    common, routed = _streamed(replica(table), points_first(batch))
    found = (common + routed).T
    drafts = Drafts.of(table)
    if drafts is not None:
        found[drafts.rows] += drafts.passes[:, None] * decode_weight_bytes(drafts.table, drafts.of_rows(batch))
    return found


def attached_weight_bytes(table: ConfigurationTable, batch: ArrayLike) -> FloatArray:
    """Part [K, J] of :func:`decode_weight_bytes` that comes from attached memory."""
    r = replica(table)
    common, routed = _streamed(r, points_first(batch))
    return (np.where(r.weights_apart, common + routed, np.where(r.experts_apart, routed, 0.0))).T


def _streamed(r: Replica, batch: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(all but routed experts [1, K], routed experts [J, K]) of the weight bytes of a step."""
    card = r.card
    common, expert = _layer_weight_bytes(r)
    tokens = np.maximum(1.0, batch / r.pp) * r.positions
    head = card["vocab"] * card["hidden"] * HALF_BYTES
    routed = card["moe"] * expert * distinct_experts(card["experts"], card["top_k"], tokens)
    return (common * r.group + head * r.dp) * r.pp, routed * r.pp


def bandwidth_share(
    table: ConfigurationTable, batch: FloatArray, step_seconds: FloatArray, kv_bytes_per_s: FloatArray
) -> FloatArray:
    """Share [K] in use of a replica's memory bandwidth, that of whichever memory is busier.

    All arguments are [K]: sequences, seconds of a step, bytes of KV caches read in a second.
    """
    r, attached = replica(table), table.part_memories
    streamed = decode_weight_bytes(table, batch[:, None])[:, 0] / step_seconds
    apart = attached_weight_bytes(table, batch[:, None])[:, 0] / step_seconds
    apart = apart + np.where(r.kv_apart, kv_bytes_per_s, 0.0)
    accelerators = table.replica_accelerators
    own = (streamed + kv_bytes_per_s - apart) / (table.part_accelerators.bandwidth[table.accelerator] * accelerators)
    return np.maximum(own, apart / np.maximum(attached.bandwidth[table.memory] * accelerators, 1e-9))


def decode_flops(table: ConfigurationTable, context: ArrayLike) -> FloatArray:
    """FLOP [K, J] of a sequence in a step over the whole replica, products and attention.

    Of one token, where none is drafted; else of those that are verified, and of drafting them.
    """
    r = replica(table)
    card, length = r.card, points_first(context)
    sliding = np.minimum(length, card["window"])
    pairs = card["full"] * np.minimum(length, card["attended"]) + card["sliding"] * sliding
    absorbed = 2.0 * card["heads"] * (2.0 * card["kv_lora"] + card["qk_rope"])
    plain = 4.0 * card["heads"] * card["head_dim"]
    attention = np.where(card["mla"] > 0, absorbed, plain) * pairs
    index = 2.0 * card["full"] * card["sparse"] * card["index_heads"] * card["index_dim"] * length
    found = ((_product_flops(r) + attention + index + _state_flops(r)) * r.positions).T
    drafts = Drafts.of(table)
    if drafts is not None:
        found[drafts.rows] += drafts.passes[:, None] * decode_flops(drafts.table, drafts.of_rows(context))
    return found


def prefill_flops(
    table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0
) -> FloatArray:
    """FLOP [K, J] of one prefill over the whole replica: products, causal attention, one head."""
    r = replica(table)
    card = r.card
    new, cached = points_first(new_tokens), points_first(cached_tokens)
    unlimited = np.full_like(r.tp, np.inf)
    all_pairs = causal_pairs(new, cached, unlimited)
    full_pairs = np.where(card["sparse"] > 0, causal_pairs(new, cached, card["attended"]), all_pairs)
    pairs = card["full"] * full_pairs
    pairs += card["sliding"] * causal_pairs(new, cached, np.maximum(card["window"], 1.0))
    expanded = 2.0 * (card["qk_nope"] + card["qk_rope"] + card["v_head"])
    absorbed = 2.0 * (2.0 * card["kv_lora"] + card["qk_rope"])
    per_pair = np.where(card["sparse"] > 0, absorbed, expanded)
    per_pair = card["heads"] * np.where(card["mla"] > 0, per_pair, 4.0 * card["head_dim"])
    index = 2.0 * card["full"] * card["sparse"] * card["index_heads"] * card["index_dim"] * all_pairs
    head = 2.0 * card["vocab"] * card["hidden"]
    prefix = np.where(card["sparse"] > 0, 0.0, cached) * card["mla"] * card["attention_layers"]
    prefix = prefix * 2.0 * card["kv_lora"] * card["heads"] * (card["qk_nope"] + card["v_head"])
    tokens = (_product_flops(r) - head + _state_flops(r)) * new
    found = (tokens + pairs * per_pair + index + prefix + head).T
    drafts = Drafts.of(table)
    if drafts is not None:
        found[drafts.rows] += prefill_flops(drafts.table, drafts.of_rows(new_tokens), drafts.of_rows(cached_tokens))
    return found


def _product_flops(r: Replica) -> FloatArray:
    """FLOP of the matrix products of one token, replicated parts counted on each rank that runs them [K]."""
    card = r.card
    router = card["moe"] * card["hidden"] * card["experts"] * (card["top_k"] > 0)
    expert = (card["mlp_inputs"] + 1.0) * card["expert_hidden"] * card["expert_width"]
    products = sum(_layer_elements(r).values(), router) * r.tp + card["moe"] * card["top_k"] * expert
    return np.asarray(2.0 * (products + card["vocab"] * card["hidden"]))


def _state_flops(r: Replica) -> FloatArray:
    return np.asarray(r.constant("linear_attention", "flop_per_state_element") * r.card["state_elements"])


def link_bytes_per_s(table: ConfigurationTable) -> FloatArray:
    """Scale-out bandwidth of a whole replica per direction [K], B/s; 0 where the part has none known."""
    return table.part_accelerators.scaleout[table.accelerator] * table.replica_accelerators


# Admissibility ----------------------------------------------------------------------------------------------


def shape_valid(table: ConfigurationTable) -> BoolArray:
    """Whether tp, pp, ep and dp make sense for the model and the part [K].

    tp divides the query heads and the recurrent value heads, and KV heads evenly or by replication; experts
    divide over ep, their width over the remaining slices; attention data parallelism belongs to MoE models;
    tensor parallelism stays inside the scale-up domain, and what leaves it needs scale-out. Context parallelism is
    for attention alone: recurrent layers pass a state from token to token, and one group holds all weights.
    """
    r = replica(table)
    card, parts, a = r.card, table.part_accelerators, table.accelerator
    positive = (table.tp > 0) & (table.pp > 0) & (table.ep > 0) & (table.dp > 0) & (table.cp > 0)
    kv_heads = card["kv_heads"]
    heads = (card["attention_layers"] == 0) | (
        _divides(r.tp, card["heads"])
        & ((card["mla"] > 0) | _divides(r.tp, kv_heads) | _divides(kv_heads, r.tp))
    )
    states = (card["linear"] == 0) | _divides(r.tp, card["state_heads"])
    is_moe = card["moe"] > 0
    experts = np.where(
        is_moe,
        _divides(r.ep, r.group) & _divides(r.ep, card["experts"]) & _divides(r.slices, card["expert_width"]),
        (r.ep == 1) & (r.dp == 1),
    )
    widths = _divides(r.tp, card["dense_width"]) & _divides(r.tp, card["shared_width"])
    domain = parts.domain[a]
    reach = (r.tp <= domain) & ((r.group * r.pp * r.cp <= domain) | (parts.scaleout[a] > 0))
    shared = (r.cp == 1) | ((r.dp == 1) & (r.pp == 1) & (card["linear"] == 0))
    linked = (table.replica_accelerators == 1) | (parts.scaleup[a] > 0) | (r.group <= 1)
    return np.asarray(
        positive & heads & states & experts & widths & (r.pp <= card["layers"]) & reach & shared & linked, dtype=bool
    )


def _divides(divisor: FloatArray, number: FloatArray) -> BoolArray:
    return np.asarray(np.mod(number, np.maximum(divisor, 1e-9)) == 0, dtype=bool)


def precision_supported(table: ConfigurationTable) -> BoolArray:
    """Whether the part runs the precisions [K].

    Activations need units of their precision; weights may be wider than none of them (W8A16 and W4A16 save
    bytes and run at the rate of the activations; W16A8 does not exist). KV caches in 8 bits are converted
    anywhere, in 4 bits only where there are 4-bit units. A card with expert bits of its own keeps its
    activations in 16 or 8.
    """
    parts, a = table.part_accelerators, table.accelerator
    activation_units = parts.peak[a, table.activations] > 0
    width = np.floor(8.0 * PRECISION_BYTES)
    ordered = width[table.weights] <= width[table.activations]
    names = np.array(PRECISIONS)
    integer = names[table.activations] == "int8"
    same_kind = ~integer | (names[table.weights] == "int8")
    float_four = np.isin(names[table.activations], ("nvfp4", "mxfp4"))
    four = ~float_four | (names[table.weights] == names[table.activations])
    cache = (PRECISION_BYTES[table.kv] >= 1.0) | (parts.peak[a, PRECISIONS.index("nvfp4")] > 0)
    return np.asarray(activation_units & ordered & same_kind & four & cache, dtype=bool)


def fits(table: ConfigurationTable, memory: EngineMemory = DEFAULTS) -> BoolArray:
    """Whether weights, workspace and runtime leave room for any KV cache [K]."""
    return kv_capacity_bytes(table, memory) > 0
