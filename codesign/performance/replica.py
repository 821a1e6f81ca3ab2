"""What one replica of each configuration multiplies, reads and sends: coefficients gathered once per table.

A :class:`Replica` turns facts of parts into per-rank shapes: tensor parallelism splits heads and widths (KV
heads are replicated beyond their number, the MLA latent always), attention data parallelism splits sequences,
experts are spread over the tp·dp ranks of a stage, and the slowest pipeline stage has ⌈layers/pp⌉ layers.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.performance.constants import constants
from codesign.performance.operators import Gemm, all_reduce_seconds
from codesign.performance.parts import (
    GEMM_CLASS,
    KV_CLASS,
    MOE_CLASS,
    MOE_WIDE_CLASS,
    PRECISION_BYTES,
    RANK_CLASSES,
    TENSOR_CLASS,
)
from codesign.performance.table import ConfigurationTable
from codesign.workload.kvcache import LATENT_SCALE_BYTES

FloatArray = NDArray[np.float64]

HALF_BYTES = 2.0
"""Bytes of an element of what stays in 16 bits: embeddings, head, router, residual stream, messages."""
QUERY_TILE = 64.0
"""Rows of queries that decode kernels multiply at once: the heads that share a KV head, of all positions (BLOCK_SIZE_M
of deepseek-ai/FlashMLA; FlashAttention-3's PackGQA fills its tiles so). Rates were fitted with one position, that is
for a tile which a few heads fill in part."""
LOGIT_BYTES = 12.0
"""Traffic of the sparse indexer for each query and key: a 32-bit logit written and read twice."""


class Replica:
    """Gathered facts of the K configurations of a table; every attribute is [K] unless it says otherwise."""

    def __init__(self, table: ConfigurationTable) -> None:
        self.table = table
        parts, cards = table.part_accelerators, table.part_cards
        a = table.accelerator
        self.card = {name: values[table.card] for name, values in cards.values.items()}
        self.tp, self.pp = table.tp.astype(np.float64), table.pp.astype(np.float64)
        self.ep, self.dp = table.ep.astype(np.float64), table.dp.astype(np.float64)
        self.cp = table.cp.astype(np.float64)
        self.positions: FloatArray = table.drafts.astype(np.float64) + 1.0
        """Tokens of a sequence in a step: what was drafted, and one more."""
        self.group = self.tp * self.dp
        """Accelerators of one stage."""
        self.slices = self.group / self.ep
        """Tensor slices of one expert."""
        self.bandwidth = parts.bandwidth[a]
        attached = table.part_memories
        apart = {kind: attached.holds[table.memory] == kind for kind in ("kv", "weights", "experts")}
        self.kv_apart, self.weights_apart, self.experts_apart = apart.values()
        """Whether the KV cache, all weights, or the routed experts lie in attached memory."""
        beside = attached.bandwidth[table.memory]
        self.kv_bandwidth: FloatArray = np.where(self.kv_apart, beside, self.bandwidth)
        self.weight_bandwidth: FloatArray = np.where(self.weights_apart, beside, parts.weight_bandwidth[a])
        self.expert_bandwidth: FloatArray = np.where(self.experts_apart, beside, self.weight_bandwidth)
        self.half_peak = parts.half_peak[a]
        self.index_peak = parts.index_peak[a]
        self.peak = parts.running_peak[a, table.activations]
        self.expert_bytes = cards.expert_bytes[table.card, table.weights]
        self.other_bytes = cards.other_bytes[table.card, table.weights]
        self.kept = {tensors: kept[table.card, table.weights] for tensors, kept in cards.kept.items()}
        """Whether tensors stay in 16 bits beside narrower ones."""
        self.activation_bytes = PRECISION_BYTES[table.activations]
        self.kv_bytes = PRECISION_BYTES[table.kv]
        self.stage_layers: FloatArray = np.ceil(self.card["layers"] / self.pp)
        self.imbalance: FloatArray = self.stage_layers * self.pp / self.card["layers"]
        """Time or bytes of the fullest stage over those of an even split: ≥ 1."""

    @staticmethod
    def constant(section: str, name: str) -> float:
        """A scalar of the constants file."""
        return float(constants().sections[section][name])

    def gather(self, operator: str, classes: NDArray[np.intp]) -> dict[str, FloatArray]:
        """Constants of an operator at each configuration's class."""
        a = self.table.accelerator
        return {
            name: values[a, classes]
            for name, values in self.table.part_accelerators.constants.items()
            if name.startswith(operator + ".")
        }

    # Per-rank shapes

    @cached_property
    def kv_heads_rank(self) -> FloatArray:
        """KV heads on one rank: at least one, hence replication when tp exceeds them."""
        return np.asarray(np.maximum(1.0, self.card["kv_heads"] / self.tp))

    @cached_property
    def heads_rank(self) -> FloatArray:
        """Query heads on one rank."""
        return self.card["heads"] / self.tp

    @cached_property
    def query_tiles(self) -> FloatArray:
        """Tiles of queries of a sequence in a step, over those of one position: 1 where nothing is drafted."""
        rows = np.where(self.card["mla"] > 0, self.heads_rank, self.heads_rank / self.kv_heads_rank)
        return np.asarray(np.maximum(rows * self.positions, QUERY_TILE) / np.maximum(rows, QUERY_TILE))

    @cached_property
    def kv_copies(self) -> FloatArray:
        """Copies of each cached token in a tensor-parallel group."""
        return np.where(self.card["mla"] > 0, self.tp, np.maximum(1.0, self.tp / self.card["kv_heads"]))

    @cached_property
    def state_bytes(self) -> FloatArray:
        """Recurrent state of one sequence over a tensor-parallel group, all layers."""
        copies = np.maximum(1.0, self.tp / self.card["state_heads"])
        # What drafts are accepted is known when their states are: one of each is kept until then.
        return np.asarray(self.card["state_bytes"] * copies * self.positions)

    @cached_property
    def row_bytes(self) -> FloatArray:
        """Bytes of a token's cache in one attention layer, one copy.

        Of sparse MLA in 8 bits engines keep the rotary key in 16 bits and a 32-bit scale for each 128 of the latent:
        656 bytes where there are 512 + 64 elements.
        """
        card = self.card
        scaled = card["kv_lora"] * (1.0 + LATENT_SCALE_BYTES) + HALF_BYTES * card["qk_rope"]
        packed = (card["sparse"] > 0) & (card["mla"] > 0) & (self.kv_bytes == 1.0)
        return np.asarray(np.where(packed, scaled, card["kv_elements"] * self.kv_bytes))

    @cached_property
    def gemms(self) -> dict[str, Gemm]:
        """Every matrix product of the model on one rank, by name; counts are layers of the whole model."""
        card, tp, kept = self.card, self.tp, self.kept
        mla, hidden = card["mla"] > 0, card["hidden"]
        # gpt-oss at its native precision: only the experts are narrow, all else multiplies in 16 bits.
        plain = self.other_bytes >= HALF_BYTES
        narrow = GEMM_CLASS[self.table.activations]
        narrow = np.where((narrow == 1) & (card["block_scales"] == 0), TENSOR_CLASS, narrow)
        main = self.gather("gemm", np.where(plain, 0, narrow))
        half = self.gather("gemm", np.zeros_like(self.table.activations))
        main_peak = np.where(plain, self.half_peak, self.peak)
        main_input = np.where(plain, HALF_BYTES, self.activation_bytes)
        two = np.full_like(tp, HALF_BYTES)

        wide = two, two, self.half_peak, half
        usual = self.other_bytes, main_input, main_peak, main

        def product(
            inputs: FloatArray, outputs: FloatArray, count: FloatArray, sixteen_bit: NDArray[np.bool_] | bool = False
        ) -> Gemm:
            kinds = wide if np.all(sixteen_bit) else usual
            if np.any(sixteen_bit) and not np.all(sixteen_bit):
                weights, acts, peak = (
                    np.where(sixteen_bit, x, y) for x, y in zip(wide[:3], usual[:3], strict=True)
                )
                kinds = weights, acts, peak, {name: np.where(sixteen_bit, half[name], main[name]) for name in main}
            weights, acts, peak, rows = kinds
            return Gemm.of(inputs, outputs, count, weights, acts, peak, self.weight_bandwidth, self.bandwidth, rows)

        attention, moe, dense = card["attention_layers"], card["moe"], card["dense"]
        query_mla = self.heads_rank * (card["qk_nope"] + card["qk_rope"])
        latent = card["kv_lora"] + card["qk_rope"]
        two_step = card["q_lora"] > 0
        down_mla = latent + np.where(two_step, card["q_lora"], query_mla)
        down_mla = down_mla + card["gated_mla"] * self.heads_rank * card["v_head"]
        qkv = (self.heads_rank * card["gated_q"] + 2.0 * self.kv_heads_rank) * card["head_dim"]
        value_width = np.where(mla, card["v_head"], card["head_dim"])
        query_source = np.where(two_step, card["q_lora"], hidden)
        dense_rank = card["dense_width"] / tp
        shared_rank = card["shared_width"] / tp
        shared = moe * (card["shared_width"] > 0)
        kv_up = self.heads_rank * (card["qk_nope"] + card["v_head"])
        into = kept["attention"]
        linear_out = card["values"] / tp
        linear_in = card["linear_inputs"] / tp
        return {
            "qkv": product(hidden, np.where(mla, down_mla, qkv), attention, into),
            "query_up": product(card["q_lora"], query_mla, attention * (mla & two_step), into),
            "kv_up": product(card["kv_lora"], kv_up, attention * mla, into),
            "output": product(self.heads_rank * value_width, hidden, attention, kept["output"]),
            "index": product(query_source, card["index_heads"] * card["index_dim"], attention * card["sparse"], into),
            "linear_in": product(hidden, linear_in, card["linear"], kept["linear"]),
            "linear_out": product(linear_out, hidden, card["linear"], kept["linear"]),
            "dense_up": product(hidden, card["mlp_inputs"] * dense_rank, dense, kept["dense"]),
            "dense_down": product(dense_rank, hidden, dense, kept["dense"]),
            "router": product(hidden, card["experts"], moe, sixteen_bit=True),
            "shared_up": product(hidden, card["mlp_inputs"] * shared_rank, shared, kept["shared"]),
            "shared_down": product(shared_rank, hidden, shared, kept["shared"]),
            "latent": product(hidden, card["latent"], 2.0 * moe * (card["latent"] > 0)),
            "head": product(hidden, card["vocab"] / tp, np.ones_like(tp), sixteen_bit=True),
        }

    @cached_property
    def all_on_one_rank(self) -> FloatArray:
        """Load over the mean of a rank whose experts every token wants: what no skew exceeds."""
        wanted = self.card["experts"] / self.ep / np.maximum(self.card["top_k"], 1.0)
        return np.asarray(np.maximum(1.0, self.ep * np.minimum(1.0, wanted)))

    @cached_property
    def moe(self) -> dict[str, FloatArray]:
        """Constants of the fused expert kernel, with the load over the mean of the slowest rank of few tokens."""
        classes = MOE_CLASS[self.table.weights, self.table.activations]
        behind = (self.dp > 1) & (self.ep > 1)
        found = self.gather("moe", np.where(behind, MOE_WIDE_CLASS[classes], classes))
        limit = self.constant("expert_parallel", "hot_rank_max")
        found["hot"] = np.minimum(np.minimum(self.ep ** found["moe.s"], self.all_on_one_rank), limit)
        return found

    def hot(self, tokens: FloatArray) -> FloatArray:
        """Load over the mean of the slowest rank [J, K], ``tokens`` in the whole group.

        Routers are trained to be even, and engines place experts so: what stays is a share and chance, by which the
        fullest of n ranks with R pairs each has R + √(2·R·ln n) of them. Few tokens have the skew of the kernel tables.
        """
        pairs = np.maximum(tokens * (self.card["top_k"] / self.ep), 1e-9)
        chance = np.sqrt(2.0 * np.log(self.ep) / pairs)
        lasting = np.where(self.ep > 1, self.constant("expert_parallel", "skew"), 1.0)
        return np.asarray(np.minimum(self.moe["hot"], lasting + chance))

    def all_reduce_seconds(self, message: FloatArray, ranks: FloatArray, classes: NDArray[np.intp]) -> FloatArray:
        """One all-reduce [J, K] among ``ranks``, of whole domains where they are more than one has.

        Across domains it is one of scatter and gather within each, and between them, at the scale-out rate, one of each
        rank's share: two hops for each doubling of domains.
        """
        parts, a = self.table.part_accelerators, self.table.accelerator
        rows = self.gather("all_reduce", classes)
        inside = np.minimum(ranks, parts.domain[a])
        time = all_reduce_seconds(message, inside, self.link(inside), rows)
        nodes = np.ceil(ranks / parts.domain[a])
        if not np.any(nodes > 1):
            return time
        far = constants().row("exchange_low_latency", "hopper", "nodes")
        rate = np.maximum(parts.scaleout[a], 1.0) * far["e_out"]
        hops = 2.0 * np.ceil(np.log2(nodes)) * (far["cross_us"] * 1e-6 + float(far["t0_us"]) * 1e-6)
        between = hops + message / inside * (2.0 * (nodes - 1.0) / nodes / rate)
        return np.asarray(time + np.where(nodes > 1, between, 0.0))

    @cached_property
    def decode_attention(self) -> dict[str, FloatArray]:
        """One layer of decode attention on a rank: floor; per sequence memory·(S + s0) against compute·S."""
        kv = KV_CLASS[self.table.kv]
        gqa, mla = self.gather("decode_attention", kv), self.gather("mla_decode", kv)
        card, is_mla = self.card, self.card["mla"] > 0
        per_head = 2.0 * card["head_dim"] * self.kv_bytes / (self.kv_bandwidth * gqa["decode_attention.b"])
        latent = card["kv_elements"] * self.kv_bytes / (self.kv_bandwidth * mla["mla_decode.b"])
        heads_per_kv = self.heads_rank / self.kv_heads_rank
        flop = 4.0 * card["head_dim"] * self.kv_heads_rank * (heads_per_kv + gqa["decode_attention.g0"])
        flop_mla = (2.0 * card["kv_lora"] + card["qk_rope"]) * (self.heads_rank + mla["mla_decode.h0"])
        s0 = np.where(is_mla, mla["mla_decode.s0"], gqa["decode_attention.s0"])
        # What the kernel pays for no sequence at all (b0) belongs to the step, at one context.
        context = self.constant("attention", "floor_context_tokens") + s0
        idle = np.where(is_mla, mla["mla_decode.b0"] * latent, gqa["decode_attention.b0"] * per_head)
        none = np.zeros_like(kv)
        # Two batched products absorb the up-projections of MLA; the product itself stands among the GEMMs.
        absorb = self.gather("mla_absorb", none)["mla_absorb.t0"]
        index = self.gather("sparse_index", none)["sparse_index.t0"] * card["sparse"]
        t0 = np.where(is_mla, mla["mla_decode.t0"] + absorb, gqa["decode_attention.t0"])
        return {
            "floor": t0 + index * self.constant("attention", "index_kernels") + idle * context,
            "s0": s0,
            "memory": np.where(is_mla, latent, self.kv_heads_rank * per_head),
            "compute": np.where(
                is_mla,
                flop_mla / (self.half_peak * mla["mla_decode.f"]),
                flop / (self.half_peak * gqa["decode_attention.f"]),
            ),
            "p": np.where(is_mla, mla["mla_decode.p"], gqa["decode_attention.p"]),
            "index": self._index_seconds(self.card["index_bytes"]),
        }

    def _index_seconds(self, stored_bytes: FloatArray) -> FloatArray:
        """Seconds of the sparse indexer per query and cached token: logits, then the selection among them.

        The index keys stand on every rank; ``stored_bytes`` of a token are read for each query (decode), or
        shared by all queries of a prompt (0).
        """
        c = self.gather("sparse_index", np.zeros_like(self.table.kv))
        flop = 2.0 * self.card["index_heads"] * self.card["index_dim"]
        logits = flop / (self.index_peak * c["sparse_index.e"])
        selection = LOGIT_BYTES / (self.bandwidth * c["sparse_index.b"])
        return self.card["sparse"] * (np.maximum(stored_bytes / self.kv_bandwidth, logits) + selection)

    @cached_property
    def prefill_attention(self) -> dict[str, FloatArray]:
        """One layer of prefill attention of n tokens on a rank, in seconds.

        compute·(2·pairs)·(1 + fill/n) + row·n against query·n + keys·context, and a floor; the rows that fill
        the part (w0, heads × tokens) are all that a short prompt leaves idle.
        """
        kv = KV_CLASS[self.table.kv]
        gqa, mla = self.gather("prefill_attention", kv), self.gather("mla_prefill", kv)
        card, is_mla, heads = self.card, self.card["mla"] > 0, self.heads_rank
        flop_s = 2.0 / (self.half_peak * gqa["prefill_attention.e"])
        flop_s_mla = 1.0 / (self.half_peak * mla["mla_prefill.e"])
        per_head = card["qk_nope"] + card["qk_rope"] + card["v_head"]
        rate, kv_rate = (b * gqa["prefill_attention.b"] for b in (self.bandwidth, self.kv_bandwidth))
        query = 2.0 * heads * card["head_dim"] * HALF_BYTES
        keys = 2.0 * self.kv_heads_rank * card["head_dim"] * self.kv_bytes
        fill = np.where(is_mla, mla["mla_prefill.w0"], gqa["prefill_attention.w0"]) / np.maximum(heads, 1e-9)
        row = np.where(is_mla, mla["mla_prefill.r0"] * flop_s_mla, gqa["prefill_attention.r0"] * flop_s)
        return {
            "floor": np.where(is_mla, mla["mla_prefill.t0"], gqa["prefill_attention.t0"]),
            "fill": fill,
            "row": heads * row,
            "compute": heads
            * np.where(is_mla, per_head * flop_s_mla, (card["head_dim"] + gqa["prefill_attention.d0"]) * flop_s),
            "query": np.where(is_mla, 0.0, query / rate),
            "keys": np.where(is_mla, card["kv_elements"] * self.kv_bytes, keys) / kv_rate,
            "p": gqa["prefill_attention.p"],
            # Over selected tokens: of MLA in absorbed form, 2·d_c + d_rope FLOP for half a pair and head.
            "selected": heads
            * np.where(
                is_mla,
                (2.0 * card["kv_lora"] + card["qk_rope"]) * flop_s_mla,
                (card["head_dim"] + gqa["prefill_attention.d0"]) * flop_s,
            ),
            "index": self._index_seconds(np.zeros_like(self.tp)),
        }

    @cached_property
    def access_latency(self) -> FloatArray:
        """Seconds of all layers together that wait for their first byte from attached memory."""
        card = self.card
        layers = card["mixers"] * (self.kv_apart | self.weights_apart)
        layers = layers + (card["dense"] + card["moe"]) * self.weights_apart + card["moe"] * self.experts_apart
        return np.asarray(layers * self.table.part_memories.latency[self.table.memory])

    @cached_property
    def recurrent(self) -> dict[str, FloatArray]:
        """Constants of linear attention."""
        none = np.zeros_like(self.table.kv)
        return self.gather("recurrent_decode", none) | self.gather("recurrent_prefill", none)

    @cached_property
    def index_floor(self) -> FloatArray:
        """Floor of the sparse indexer's kernels."""
        kernels = self.constant("attention", "index_kernels")
        return self.gather("sparse_index", np.zeros_like(self.table.kv))["sparse_index.t0"] * kernels

    # Links

    def link(self, ranks: FloatArray) -> FloatArray:
        """Bytes/s per direction of an accelerator among ``ranks``: scale-up in its domain, else scale-out.

        In a full mesh only the links to the ranks that take part count.
        """
        parts, a = self.table.part_accelerators, self.table.accelerator
        peers = parts.mesh_peers[a]
        share = np.where(peers > 0, np.minimum(1.0, (ranks - 1.0) / np.maximum(peers, 1.0)), 1.0)
        inside = parts.scaleup[a] * np.maximum(share, 1e-9)
        return np.maximum(np.where(ranks <= parts.domain[a], inside, parts.scaleout[a]), 1.0)

    def ring_seconds(self, shard_bytes: FloatArray) -> FloatArray:
        """Keys and values of a layer go round the groups of a prompt: cp − 1 times a rank hands its shard on.

        To a neighbour alone, so in a full mesh over one of its links; over scale-out where the ring leaves the domain.
        """
        parts, a = self.table.part_accelerators, self.table.accelerator
        inside = parts.scaleup[a] / np.maximum(parts.mesh_peers[a], 1.0)
        rate = np.where(self.tp * self.cp <= parts.domain[a], inside, parts.scaleout[a])
        hop = self.constant("pipeline", "hop_us") * 1e-6
        moving = shard_bytes / np.maximum(rate * self.constant("pipeline", "e"), 1.0)
        return np.asarray((self.cp - 1.0) * (hop + moving))

    @cached_property
    def rank_class(self) -> NDArray[np.intp]:
        """Which rows of the all-reduce table tp takes: the next size up, 8 beyond."""
        return np.minimum(np.searchsorted(RANK_CLASSES, self.table.tp), len(RANK_CLASSES) - 1)

    @cached_property
    def group_class(self) -> NDArray[np.intp]:
        """The same for the tp·dp ranks of a stage."""
        return np.minimum(np.searchsorted(RANK_CLASSES, self.table.tp * self.table.dp), len(RANK_CLASSES) - 1)


def replica(table: ConfigurationTable) -> Replica:
    """The gathered coefficients of a table, computed on first use and kept with it."""
    found: Replica | None = vars(table).get("_replica")
    if found is None:
        found = Replica(table)
        vars(table)["_replica"] = found
    return found
