"""Which resource of an accelerator a phase runs into: compute, bandwidth, capacity or link.

Peaks and nameplate bandwidths only: this places a workload on the OI × CF plane (facts/paper.md 1.5). What a
replica reaches in practice is the business of the performance model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.workload.intensity import Block, Formats, block_weight_bytes
from codesign.workload.kvcache import kv_bytes, max_context_tokens
from codesign.workload.parameters import attention_bits, parameter_counts, tensor_bits, weight_bytes

if TYPE_CHECKING:
    from codesign.catalog import Accelerator, ModelCard

FloatArray = NDArray[np.float64]
Regime = Literal["compute", "bandwidth", "capacity", "link"]

LINK_ACTIVATION_BYTES = 2.0
"""Bytes of an element that tensor-parallel ranks exchange: collectives run in 16 bits."""

_FALLBACKS: dict[str, tuple[str, ...]] = {
    "nvfp4": ("fp4_flops", "fp8_flops", "fp16_flops"),
    "mxfp4": ("fp4_flops", "fp8_flops", "fp16_flops"),
    "fp8": ("fp8_flops", "fp16_flops"),
    "int8": ("int8_flops", "fp16_flops"),
}


def peak_flops(accelerator: Accelerator, activations: str) -> float:
    """Dense peak (FLOP/s) for an activation precision; one that the chip lacks runs at the next wider rate.

    A chip that publishes nothing as wide is taken at the widest rate that it has.
    """
    names = _FALLBACKS.get(activations, ("fp16_flops",))
    for name in (*names, "fp16_flops", "fp8_flops", "int8_flops", "fp4_flops"):
        rate: float | None = getattr(accelerator, name)
        if rate:
            return rate
    raise ValueError(f"accelerator {accelerator.name}: found no peak FLOP/s; expected at least one")


@dataclass(frozen=True)
class Unit:
    """The fewest accelerators, a power of two in one scale-up domain, whose memory holds the weights.

    Where even the whole domain is too small, the largest such number: everything is then capacity-bound.
    Raw memory, with no reserve.
    """

    accelerator: Accelerator
    card: ModelCard
    formats: Formats
    size: int

    @classmethod
    def smallest(cls, accelerator: Accelerator, card: ModelCard, formats: Formats) -> Unit:
        """Build the unit of an accelerator for a model in given formats."""
        weights = weight_bytes(card, formats.weights)
        size = 1
        while size * accelerator.memory_capacity < weights and 2 * size <= accelerator.scaleup_domain:
            size *= 2
        return cls(accelerator, card, formats, size)

    @property
    def memory_bytes(self) -> float:
        """Raw memory of the unit."""
        return self.size * self.accelerator.memory_capacity

    @cached_property
    def _layouts(self) -> tuple[tuple[float, int], ...]:
        """(weight bytes in the unit, KV copies' tp): tensor parallel, and attention data parallel.

        Attention data parallelism keeps one copy of each sequence and one of attention's weights per rank.
        """
        weights = weight_bytes(self.card, self.formats.weights)
        counts = parameter_counts(self.card)
        precision = self.formats.weights
        attention = counts.linear_layers * counts.linear_per_layer * tensor_bits(self.card, precision, "linear")
        attention += counts.index * tensor_bits(self.card, precision, "attention")
        if counts.attention_layers:
            attention += counts.attention_layers * attention_bits(self.card, precision)
        return (weights, self.size), (weights + (self.size - 1) * attention / 8.0, 1)

    def max_context(self, batch: ArrayLike) -> FloatArray:
        """Longest context (tokens) at which ``batch`` sequences and the weights fill the unit's memory.

        0 where the weights alone do not fit.
        """
        sequences = np.asarray(batch, dtype=float)
        best = np.zeros_like(sequences)
        for weights, tp in self._layouts:
            budget = (self.memory_bytes - weights) / sequences
            best = np.maximum(best, max_context_tokens(self.card, budget, self.formats.kv, tp))
        return best

    def footprint(self, block: Block, batch: float, contexts: FloatArray, weight: FloatArray) -> float:
        """Bytes that the unit holds of a block for a batch of sequences of contexts[Q] with weight[Q].

        In the layout that holds least, as in :meth:`max_context`.
        """
        if block == "ffn":
            return block_weight_bytes(self.card, self.formats, block)
        return min(
            (weights if block == "all" else 0.0)
            + batch * float(kv_bytes(self.card, contexts, self.formats.kv, tp) @ weight)
            for weights, tp in self._layouts
        )

    def allreduce_bytes(self, tokens: float, per_layer: int) -> float:
        """Bytes that each rank sends for tensor parallelism: ``per_layer`` ring all-reduces of ``tokens``."""
        steps = 2.0 * (self.size - 1) / self.size
        return steps * per_layer * self.card.hidden * LINK_ACTIVATION_BYTES * tokens

    def regime(
        self,
        flops: float,
        moved_bytes: float,
        footprint_bytes: float,
        scaleup_bytes: float = 0.0,
        scaleout_bytes: float = 0.0,
    ) -> Regime:
        """Resource that binds a piece of work on this unit.

        - ``capacity``: the footprint exceeds the unit's memory; batch and context are then out of reach,
          however idle FLOPs and bandwidth are.
        - ``link``: the bytes that must cross take longer than the work itself: ``scaleup_bytes`` that each
          rank sends inside the unit, or ``scaleout_bytes`` of the whole unit to or from other accelerators.
        - else ``compute`` where OI ≥ ridge (peak FLOP/s over memory bandwidth), ``bandwidth`` where it is
          below.
        """
        if footprint_bytes > self.memory_bytes:
            return "capacity"
        accelerator = self.accelerator
        compute = flops / (self.size * peak_flops(accelerator, self.formats.activations))
        memory = moved_bytes / (self.size * accelerator.memory_bandwidth)
        link = max(
            _seconds(scaleup_bytes, accelerator.scaleup_bandwidth),
            _seconds(scaleout_bytes, self.size * accelerator.scaleout_bandwidth),
        )
        if link > max(compute, memory):
            return "link"
        return "compute" if compute >= memory else "bandwidth"


def _seconds(moved_bytes: float, bandwidth: float) -> float:
    if not moved_bytes:
        return 0.0
    return moved_bytes / bandwidth if bandwidth else float("inf")
