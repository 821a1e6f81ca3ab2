"""Split decode: attention and KV cache on one kind of accelerator, feed-forward layers and experts on another.

A replica is ``groups`` attention instances (tp accelerators each) and one feed-forward instance.  Microbatches
go back and forth between the two in ping-pong, layer by layer (MegaScale-Infer, arXiv 2504.02263): with m of
them a step of L layers takes

    max(m·T_A, m·T_F, T_A + T_F + 2·T_link)

where T_A, T_F and T_link are one microbatch's times through the attention and feed-forward halves of all layers
and over the link.  Unmeasured: the kernels are those of whole replicas, each half runs its own of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.catalog import ModelCard
from codesign.performance.engine_memory import EngineMemory
from codesign.performance.footprint import kv_capacity_bytes
from codesign.performance.latency import decode_attention_seconds, decode_step_seconds, host_step_seconds
from codesign.performance.operators import distinct_ranks
from codesign.performance.replica import HALF_BYTES, replica
from codesign.performance.table import ConfigurationTable
from codesign.problem.instance import Options

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def attention_half(card: ModelCard) -> ModelCard:
    """The card's attention (or recurrent) layers, embedding and head."""
    nothing = ("dense_layers", "moe_layers", "experts", "top_k", "shared_experts", "moe_latent")
    return card.model_copy(update=dict.fromkeys(nothing, 0))


def feed_forward_half(card: ModelCard) -> ModelCard:
    """The card's MLPs and experts alone."""
    nothing = ("full_attention_layers", "sliding_layers", "linear_layers", "sparse_topk")
    return card.model_copy(update=dict.fromkeys(nothing, 0) | {"vocab": 1, "tied_embeddings": True})


@dataclass(frozen=True, eq=False)
class SplitTable:
    """K replicas in two halves; arrays have shape [K]."""

    attention: ConfigurationTable
    """One attention instance of each."""
    feed_forward: ConfigurationTable
    groups: IntArray
    """Attention instances of a replica."""
    microbatches: IntArray

    def __len__(self) -> int:
        """Number of replicas K."""
        return len(self.groups)

    def take(self, selection: ArrayLike) -> SplitTable:
        """The replicas at an index array or mask."""
        index = np.asarray(selection)
        return SplitTable(
            self.attention.take(index),
            self.feed_forward.take(index),
            self.groups[index],
            self.microbatches[index],
        )

    @property
    def attention_accelerators(self) -> IntArray:
        """Accelerators that hold KV [K]."""
        return self.groups * self.attention.replica_accelerators

    @property
    def feed_forward_accelerators(self) -> IntArray:
        """Accelerators that hold feed-forward weights [K]."""
        return self.feed_forward.replica_accelerators


def split_step_seconds(split: SplitTable, batch: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Seconds [K, J] of a step with ``batch`` sequences: by the attention half, by the other, by their chain.

    Without what each sequence's own context adds (:func:`split_attention_seconds`); the step is the largest of
    the three.  The host's part of a step is counted once.
    """
    m, n = split.microbatches[:, None], split.groups[:, None]
    each = np.broadcast_to(np.asarray(batch, dtype=float), (len(split), np.shape(np.atleast_2d(batch))[-1])) / m
    host = host_step_seconds(split.attention)[:, None]
    other = host_step_seconds(split.feed_forward)[:, None]
    attention = decode_step_seconds(split.attention, each / n) - host
    forward = decode_step_seconds(split.feed_forward, each) - other
    host = np.maximum(host, other)
    link = link_seconds(split, each)
    return m * attention + host, m * forward + host, attention + forward + 2.0 * link + host


def split_attention_seconds(split: SplitTable, context: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Seconds [K, J] that a sequence of ``context`` tokens adds to the attention half, and to the chain."""
    one = decode_attention_seconds(split.attention, context) / split.groups[:, None]
    return one, one / split.microbatches[:, None]


def activation_bytes(split: SplitTable) -> FloatArray:
    """Bytes [K] of one token's activations from the attention half to the other, all layers (as many return).

    16-bit residual streams, one copy for each feed-forward accelerator that has any of the token's experts.
    """
    r = replica(split.feed_forward)
    copies = np.where(r.card["moe"] > 0, distinct_ranks(r.ep, np.maximum(r.card["top_k"], 1.0)), 1.0)
    return np.asarray(r.card["hidden"] * HALF_BYTES * (r.card["dense"] + r.card["moe"] * copies))


def link_seconds(split: SplitTable, tokens: FloatArray) -> FloatArray:
    """Seconds [K, J] of one microbatch of ``tokens`` on the way between the halves, all layers, one direction.

    Over the scale-out network, at the rate of the side that has less of it.
    """
    r = replica(split.feed_forward)
    rate = np.maximum(split_link_bytes_per_s(split), 1.0) * r.constant("pipeline", "e")
    hops = r.constant("pipeline", "hop_us") * 1e-6 * (r.card["dense"] + r.card["moe"])
    return np.asarray(hops[:, None] + tokens * (activation_bytes(split) / rate)[:, None])


def split_link_bytes_per_s(split: SplitTable) -> FloatArray:
    """Scale-out bandwidth [K] between the halves, per direction, B/s."""
    sides = []
    for table, count in (
        (split.attention, split.attention_accelerators),
        (split.feed_forward, split.feed_forward_accelerators),
    ):
        sides.append(table.part_accelerators.scaleout[table.accelerator] * count)
    return np.asarray(np.minimum(*sides))


def split_kv_capacity_bytes(split: SplitTable, options: Options) -> FloatArray:
    """Bytes [K] of a replica that KV caches may use: all on the attention half; ≤ 0 where a half does not fit."""
    halves = (split.attention, split.feed_forward)
    room, other = (kv_capacity_bytes(half, EngineMemory.of(options, half, "decode")) for half in halves)
    return np.where(other >= 0, room * split.groups, 0.0)

