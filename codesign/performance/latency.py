"""Seconds of a decode step, of one more sequence in it, and of a prefill, for K configurations at J points.

Arguments broadcast [K, J], [J] or scalars; results are [K, J] (J = 1 for a scalar). The step is

    L·(projections + attention) + dense·MLP + moe·(router + experts + shared + all-to-all)
    + (mixers + dense + moe)·all-reduce + elementwise + head + host           (facts/performance_model.md 2)

summed over pipeline stages, each of which sees batch/pp sequences, of which each attention group has 1/dp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.constants import constants
from codesign.performance.drafts import Drafts, undrafted
from codesign.performance.operators import (
    causal_pairs,
    distinct_experts,
    distinct_ranks,
    iterate_nonzero,
    smooth_maximum,
)
from codesign.performance.replica import HALF_BYTES, Replica, replica
from codesign.performance.table import ConfigurationTable, points_first

FloatArray = NDArray[np.float64]

SHARED = ("shared_up", "shared_down")
"""Products that run beside the routed experts."""


def decode_step_seconds(table: ConfigurationTable, batch: ArrayLike, prefill_tokens: ArrayLike = 0.0) -> FloatArray:
    """Step time [K, J] of a replica with ``batch`` sequences, without what each sequence's own context adds.

    ``batch`` counts the whole replica: all dp groups and all microbatches in flight. ``prefill_tokens`` are
    new prompt tokens of the same step (chunked prefill): they join every product except the head. Add Σ
    :func:`decode_attention_seconds` over the sequences for the full step; the attention of prompt tokens is
    that of :func:`prefill_seconds`. Where tokens are drafted, k + 1 of each sequence are verified, and k more are
    drafted for the next step; what drafts computes prompts too.
    """
    r = replica(table)
    sequences, prompt = points_first(batch), points_first(prefill_tokens)
    drafts = Drafts.of(table)
    written = sequences * r.positions if np.any(table.drafts) else sequences
    in_group = (written + prompt) / r.pp
    # A step that runs at all holds a token: fractions below one are load averages, not shapes of a kernel.
    tokens = np.maximum(r.positions, in_group / r.dp)
    heads = np.maximum(r.positions, written / (r.pp * r.dp))
    time = _layers(r, tokens, tokens, np.maximum(r.positions, in_group))
    attention = r.decode_attention["floor"] * r.card["attention_layers"]
    time += attention
    if np.any(r.card["linear"]):
        time += r.recurrent["recurrent_decode.t0"] * r.card["linear"]
    time *= r.imbalance
    # The head stands on the last stage alone, once for each of the pp microbatches of a cycle.
    time += r.gemms["head"].seconds(heads) * r.pp
    time += _pipeline(r, tokens)
    time *= table.time_factor
    time += host_step_seconds(table) * r.pp
    per_sequence = table.part_accelerators.host_per_sequence + table.part_engines.per_sequence_s
    time += per_sequence[table.accelerator] * sequences
    found = time.T
    if drafts is not None:
        found[drafts.rows] += _drafting_seconds(table, drafts, sequences, prompt)
    return found


def _drafting_seconds(
    table: ConfigurationTable, drafts: Drafts, sequences: FloatArray, prompt: FloatArray
) -> FloatArray:
    """Seconds [n, J] of a step in which the tokens of the next one are drafted, contexts left out.

    The first pass takes up what was verified, and prompts; the others one token of each sequence. Launched with the
    step: the host's part of one is no other where tokens are drafted (assumption).
    """
    shape = np.broadcast_shapes(sequences.shape, prompt.shape)
    both = [np.broadcast_to(each, shape) for each in (sequences, prompt)]
    own, new = (each[:, drafts.rows].T if shape[1] > 1 else each.T for each in both)
    own, new = (np.broadcast_to(each, (len(drafts.rows), shape[0])) for each in (own, new))

    def kernels(layers: ConfigurationTable, batch: FloatArray, tokens: FloatArray | float = 0.0) -> FloatArray:
        per_sequence = layers.part_accelerators.host_per_sequence + layers.part_engines.per_sequence_s
        host = host_step_seconds(layers) * layers.pp
        beside = host[:, None] + per_sequence[layers.accelerator][:, None] * batch
        return decode_step_seconds(layers, batch, tokens) - beside

    first = kernels(drafts.table, own * (drafts.passes + 1.0)[:, None], new)
    found = first + (drafts.passes - 1.0)[:, None] * kernels(drafts.table, own)
    priced = ~np.isnan(drafts.cost)
    if np.any(priced):
        plain = undrafted(table.take(drafts.rows[priced]))
        alone, shared = (kernels(plain, own[priced], n) for n in (np.zeros_like(own[priced]), new[priced]))
        passes = drafts.passes[priced][:, None]
        found[priced] = drafts.cost[priced][:, None] * (passes * alone + shared - alone)
    return found


def decode_attention_seconds(table: ConfigurationTable, context: ArrayLike) -> FloatArray:
    """Seconds [K, J] that one more sequence of ``context`` tokens adds to the replica's step.

    Already divided by dp·pp, whose groups and stages work in parallel. Zero context adds (almost) nothing but
    its recurrent state. Drafted tokens read the context together, and multiply by it in the same tiles of
    queries as far as those have room; sparse attention chooses for each what it reads.
    """
    r = replica(table)
    length = points_first(context)
    card, terms = r.card, r.decode_attention
    attended = np.minimum(length, card["attended"])
    tiles = np.where(card["sparse"] > 0, 1.0, r.query_tiles)
    layers = card["full"] * _sequence(terms, attended, tiles)
    if np.any(card["sparse"]):
        layers = layers + card["full"] * terms["index"] * length
        layers = layers * np.where(card["sparse"] > 0, r.positions, 1.0)
    if np.any(card["sliding"]):
        layers = layers + card["sliding"] * _sequence(terms, np.minimum(length, card["window"]), r.query_tiles)
    if np.any(card["linear"]):
        layers = layers + _state_seconds(r)
    found = (layers * (table.time_factor * r.imbalance / (r.pp * r.dp))).T
    drafts = Drafts.of(table)
    if drafts is not None:
        mine = drafts.of_rows(context)
        each = decode_attention_seconds(drafts.table, mine)
        priced = ~np.isnan(drafts.cost)
        if np.any(priced):
            plain = undrafted(table.take(drafts.rows[priced]))
            some = mine[priced] if mine.ndim == 2 and len(mine) > 1 else mine
            each[priced] = drafts.cost[priced][:, None] * decode_attention_seconds(plain, some)
        found[drafts.rows] += drafts.passes[:, None] * each
    return found


def prefill_seconds(table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0) -> FloatArray:
    """Latency [K, J] of one prefill of ``new_tokens`` behind ``cached_tokens``, whole (not chunked).

    Sum over the stages; the replica is busy for latency/(pp·dp) of it, see :func:`prefill_occupancy_seconds`.
    With attention data parallelism the other groups are taken to prefill as much at the same time, which is
    what a loaded prefill replica does and decides how many experts are touched. With context parallelism each
    group computes 1/cp of the tokens, attends with them to all keys, and passes its keys and values on meanwhile.
    """
    r = replica(table)
    new, cached = points_first(new_tokens), points_first(cached_tokens)
    card = r.card
    # Keys and values of an MLA prefix are expanded again from its latents; sparse attention reads latents.
    expanded = new + np.where(card["sparse"] > 0, 0.0, cached)
    own = new / r.cp
    time = _layers(r, own, expanded, own * r.dp)
    time += _prefill_attention(r, new, cached)
    if np.any(card["linear"]):
        flop = r.constant("linear_attention", "flop_per_state_element") * card["state_elements"] / r.tp
        c = r.recurrent
        scanned = (new + c["recurrent_prefill.w0"]) * (flop / (r.half_peak * c["recurrent_prefill.e"]))
        time += scanned + c["recurrent_prefill.t0"] * card["linear"]
    time *= r.imbalance
    time += r.gemms["head"].seconds(np.ones((1, 1)))
    time += _pipeline(r, own)
    time *= table.part_accelerators.prefill_factor[table.accelerator] * table.time_factor
    time += host_step_seconds(table) * r.pp
    found = time.T
    drafts = Drafts.of(table)
    if drafts is not None:
        each, both = drafts.table, [drafts.of_rows(tokens) for tokens in (new_tokens, cached_tokens)]
        found[drafts.rows] += prefill_seconds(each, *both) - (host_step_seconds(each) * each.pp)[:, None]
    return found


def cached_prefill_range(
    table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """(least, most) of :func:`prefill_seconds` [K, J]: kernels that split the keys of a prefix, and that do not.

    No kernel was measured behind a prefix: this is how far attention may be off, whichever an engine has.
    """
    r = replica(table)
    new, cached = points_first(new_tokens), points_first(cached_tokens)
    own = _prefill_attention(r, new, cached)
    factor = table.part_accelerators.prefill_factor[table.accelerator] * table.time_factor * r.imbalance
    expected = prefill_seconds(table, new_tokens, cached_tokens)
    ends = (_prefill_attention(r, new, cached, np.full(len(table), splits)) for splits in (True, False))
    least, most = (expected + ((end - own) * factor).T for end in ends)
    return least, most


def prefill_occupancy_seconds(
    table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0
) -> FloatArray:
    """Seconds [K, J] of the whole replica that one prefill uses: latency/(pp·dp)."""
    r = replica(table)
    return prefill_seconds(table, new_tokens, cached_tokens) / (r.pp * r.dp)[:, None]


def prefill_attention_seconds(
    table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0
) -> FloatArray:
    """Attention part [K, J] of one prefill on the replica, divided by dp·pp as in the decode step.

    What a prompt adds to the steps of a colocated pool beside its tokens (:func:`decode_step_seconds`).
    """
    r = replica(table)
    time = _prefill_attention(r, points_first(new_tokens), points_first(cached_tokens))
    factor = table.part_accelerators.prefill_factor[table.accelerator] * table.time_factor
    found = (time * (r.imbalance * factor / (r.pp * r.dp))).T
    drafts = Drafts.of(table)
    if drafts is not None:
        both = [drafts.of_rows(tokens) for tokens in (new_tokens, cached_tokens)]
        found[drafts.rows] += prefill_attention_seconds(drafts.table, *both)
    return found


def host_step_seconds(table: ConfigurationTable) -> FloatArray:
    """Host's part of a step [K], seconds: those of the engine profile, else the constants file's default."""
    parts = table.part_accelerators
    given, exact = table.part_engines.host_step_s, table.part_engines.exact
    # A default is beside what a vendor's parts add; a profile that was measured on the part includes it.
    extra = np.where(exact, 0.0, parts.host_step - float(constants().sections["engine"]["host_step_ms"]) * 1e-3)
    host = np.where(np.isnan(given), parts.host_step, given + extra)
    return np.asarray(host[table.accelerator])


def first_token_seconds(table: ConfigurationTable) -> FloatArray:
    """Seconds [K] of a TTFT that no queue, prompt, transfer or step explains: what the serving stack adds to each.

    The accelerator is not busy with it: it delays a request and takes no capacity.
    """
    return np.asarray(table.part_engines.first_token_s[table.accelerator])


def _layers(r: Replica, tokens: FloatArray, expanded: FloatArray, group_tokens: FloatArray) -> FloatArray:
    """Everything that grows with tokens: products, experts, elementwise work and collectives. [J, K]."""
    card = r.card
    launches = (
        r.constant("elementwise", "launches_per_mixer") * card["attention_layers"]
        + r.constant("elementwise", "launches_per_linear_mixer") * card["linear"]
        + r.constant("elementwise", "launches_per_mlp") * (card["dense"] + card["moe"])
    )
    blocks = card["mixers"] + card["dense"] + card["moe"]
    # Fused add and norm: two reads and two writes of the residual stream per block; the activation reads its
    # two inputs and writes one.
    moved = HALF_BYTES * (
        4.0 * card["hidden"] * blocks
        + (card["mlp_inputs"] + 1.0) * (card["dense"] * card["dense_width"] + card["moe"] * card["shared_width"]) / r.tp
    )
    time = (
        launches * (r.constant("elementwise", "launch_us") * 1e-6)
        + (moved / (r.bandwidth * r.constant("elementwise", "b"))) * tokens
    )
    time = time + r.access_latency
    for name, gemm in iterate_nonzero(r.gemms):
        if name != "head" and name not in SHARED:
            time = time + gemm.seconds(expanded if name == "kv_up" else tokens)
    if np.any(card["moe"]):
        time = time + _mixture(r, tokens, group_tokens)
    if np.any(r.tp > 1):
        # Attention ranks reduce after each mixer and dense MLP; after experts too where no all-to-all does.
        reduced = card["mixers"] + card["dense"] + card["moe"] * ((r.dp == 1) | (card["shared_width"] > 0))
        message = tokens * card["hidden"] * HALF_BYTES
        time = time + reduced * r.all_reduce_seconds(message, r.tp, r.rank_class)
    return np.asarray(time)


def _mixture(r: Replica, tokens: FloatArray, group_tokens: FloatArray) -> FloatArray:
    """All layers of experts: the shared ones run beside the routed ones and their exchange.

    What both do at full use of the accelerator adds up; floors and the exchange are time in which the other runs.
    """
    card, c = r.card, r.moe
    hot = r.hot(group_tokens)
    experts = _experts(r, group_tokens, hot)
    routed = card["moe"] * (experts + _exchange(r, group_tokens, hot))
    shared = [gemm for name, gemm in iterate_nonzero(r.gemms) if name in SHARED]
    if not shared:
        return np.asarray(routed)
    beside = sum(gemm.seconds(tokens) for gemm in shared)
    working = card["moe"] * (experts - c["moe.t0"]) + beside - sum(gemm.floor * gemm.count for gemm in shared)
    return np.asarray(np.maximum(np.maximum(routed, beside), working))


def _experts(r: Replica, tokens: FloatArray, hot: FloatArray) -> FloatArray:
    """One layer of routed experts on the slowest rank, ``tokens`` in the whole group."""
    card, c = r.card, r.moe
    width, hidden = card["expert_width"] / r.slices, card["expert_hidden"]
    active = distinct_experts(card["experts"], card["top_k"], tokens) / r.ep
    pairs = tokens * (card["top_k"] / r.ep) * hot
    matrices = card["mlp_inputs"] + 1.0
    compute = (pairs + active * c["moe.m0"]) * (2.0 * matrices * hidden * (width + c["moe.i0"]) / (r.peak * c["moe.e"]))
    memory = active * (matrices * hidden * width * r.expert_bytes / (r.expert_bandwidth * c["moe.b"]))
    memory += pairs * (8.0 * c["moe.a"] * hidden / (r.bandwidth * c["moe.b"]))
    return smooth_maximum(compute, memory, c["moe.p"]) + c["moe.t0"]


def _exchange(r: Replica, tokens: FloatArray, hot: FloatArray) -> FloatArray:
    """Tokens to experts and back under attention data parallelism; 0 where dp is 1: every rank has all.

    The faster of two kernels: a copy for each expert (low latency), or one for each rank and node with any.
    """
    card = r.card
    parts, a = r.table.part_accelerators, r.table.accelerator
    if not np.any(r.dp > 1):
        return np.zeros(np.broadcast_shapes(tokens.shape, r.tp.shape))
    domain = np.minimum(parts.domain[a], r.group)
    nodes = r.group / domain
    inside = np.maximum(parts.scaleup[a], 1.0)
    outside = np.maximum(parts.scaleout[a], 1.0)
    sent = r.slices * r.constant("expert_parallel", "bytes_per_element") * card["expert_hidden"] / r.group
    # Copies within the domain, and copies that leave it.
    near = (domain - 1.0) / r.group
    copies = {
        "exchange_low_latency": (card["top_k"] * near, card["top_k"] * (1.0 - 1.0 / nodes)),
        "exchange_throughput": (
            distinct_ranks(r.group, card["top_k"]) * near,
            distinct_ranks(nodes, card["top_k"]) * (1.0 - 1.0 / nodes),
        ),
    }
    scattered: FloatArray | float = np.inf
    for name, (local, crossing) in copies.items():
        c, far = r.gather(name, np.zeros_like(a)), constants().row(name, "hopper", "nodes")
        launch = 2.0 * (c[f"{name}.t0"] + far["cross_us"] * 1e-6 * (nodes > 1))
        slowest = np.maximum(local / (inside * c[f"{name}.e"]), crossing / (outside * far["e_out"]))
        scattered = np.minimum(scattered, launch + tokens * hot * (sent * slowest))
    # Without expert parallelism every rank needs all tokens: an all-reduce's bytes.
    message = tokens * card["expert_hidden"] * HALF_BYTES
    gathered = r.all_reduce_seconds(message, r.group, r.group_class)
    return np.where(r.dp > 1, np.where(r.ep > 1, scattered, gathered), 0.0)


def _sequence(terms: dict[str, FloatArray], attended: FloatArray, tiles: FloatArray) -> FloatArray:
    memory = terms["memory"] * (attended + terms["s0"] * (attended > 0))
    return smooth_maximum(memory, terms["compute"] * attended * tiles, terms["p"])


def _state_seconds(r: Replica) -> FloatArray:
    """One read and, for each token, one write of a sequence's recurrent state on a rank, all layers [K]."""
    elements = r.card["state_elements"] * np.maximum(1.0, r.tp / r.card["state_heads"]) / r.tp
    moved = (1.0 + r.positions) * r.constant("linear_attention", "state_bytes") * elements
    return np.asarray(moved / (r.kv_bandwidth * r.recurrent["recurrent_decode.b"]))


def _prefill_attention(
    r: Replica, new: FloatArray, cached: FloatArray, splits: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Softmax attention of one prefill on one rank, all layers [J, K].

    Context-parallel ranks have equal shares of the pairs (each takes a piece from either end of the prompt). What fills
    the part are the queries' rows, or where a kernel ``splits`` keys (default: as the engine does) those of the whole
    context: a long prefix then is as good as a long prompt.
    """
    card, terms, own = r.card, r.prefill_attention, new / r.cp
    if splits is None:
        splits = r.table.part_accelerators.splits_keys[r.table.accelerator]
    ring = r.card["kv_elements"] * r.kv_bytes * r.kv_copies / (r.tp * r.cp)

    def layer(window: FloatArray) -> FloatArray:
        pairs = 2.0 * causal_pairs(new, cached, window) / r.cp
        seen = new + np.minimum(cached, window)
        memory = terms["query"] * own + terms["keys"] * seen
        compute = pairs * (1.0 + terms["fill"] / np.where(splits, seen / r.cp, own))
        compute *= terms["compute"]
        compute += terms["row"] * own
        return exchanged(smooth_maximum(compute, memory, terms["p"]) + terms["floor"], seen)

    def exchanged(seconds: FloatArray, seen: FloatArray) -> FloatArray:
        return np.maximum(seconds, r.ring_seconds(ring * seen)) if np.any(r.cp > 1) else seconds

    unlimited = np.full_like(r.tp, np.inf)
    dense = layer(unlimited)
    if np.any(card["sparse"]):
        # Sparse models attend densely as long as that is cheaper, their prefix expanded from latents then.
        expansion = 2.0 * cached * card["kv_lora"] * r.heads_rank * (card["qk_nope"] + card["v_head"])
        expanded = dense + expansion / (r.half_peak * r.gather("gemm", np.zeros_like(r.table.kv))["gemm.e"])
        selected = causal_pairs(new, cached, card["attended"]) / r.cp
        index = terms["index"] * causal_pairs(new, cached, unlimited) / r.cp
        chosen = 2.0 * terms["selected"] * selected * (1.0 + terms["fill"] / own) + terms["row"] * own
        launch = terms["floor"] + r.index_floor
        sparse = exchanged(chosen + index + launch, new + cached)
        dense = np.where(card["sparse"] > 0, np.minimum(expanded, sparse), dense)
    time = card["full"] * dense
    if np.any(card["sliding"]):
        time = time + card["sliding"] * layer(np.maximum(card["window"], 1.0))
    return time


def _pipeline(r: Replica, tokens: FloatArray) -> FloatArray:
    """Activations from stage to stage: pp − 1 hops, over scale-out when the replica leaves its domain."""
    rate = r.link(r.group * r.pp) * r.constant("pipeline", "e")
    message = tokens * r.card["hidden"] * HALF_BYTES / r.tp
    return (r.pp - 1.0) * (r.constant("pipeline", "hop_us") * 1e-6 + message / rate)
