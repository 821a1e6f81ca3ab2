"""Memory attached to accelerators beside their own: where active KV, all weights, or routed experts may lie.

Every accelerator of a replica has the same modules to itself and reads them over one link, so that a byte there
costs 1/bandwidth like one in its own memory, at the same kernel efficiency (an assumption: no such system has been
measured).  Each layer waits once for the access latency: nothing of it is hidden.  What steps write (one token a
sequence) is not charged: each byte of a cache is read once for every token that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codesign.problem.instance import MemoryOption

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Held = Literal["kv", "weights", "experts"]
"""What a replica keeps in attached memory: its KV cache, all weights, or those of the routed experts."""


@dataclass(frozen=True)
class AttachedMemory:
    """What one accelerator has of it."""

    holds: Held
    capacity_bytes: float
    bandwidth_bytes_per_s: float
    """Of the modules or of the link to them, whichever is slower."""
    latency_s: float
    joules_per_byte: float
    """Of the memory and the link, on top of what a byte from the accelerator's own memory takes."""

    @staticmethod
    def of(tier: MemoryOption, modules: float, holds: Held) -> AttachedMemory:
        """`modules` of a tier for each accelerator.  Raises ValueError for a tier that is attached to none."""
        if tier.attached is None:
            raise ValueError(f"found the tier {tier.name} without attached modules; expected some")
        return AttachedMemory(
            holds,
            modules * tier.module_bytes,
            min(modules * tier.read_bytes_per_s, tier.attached.link_bytes_per_s),
            tier.latency_s + tier.attached.link_latency_s,
            tier.joules_per_byte + tier.attached.link_joules_per_byte,
        )


@dataclass(frozen=True, eq=False)
class AttachedArrays:
    """The memories of a table as arrays; the last entry, which index -1 finds, is none."""

    holds: NDArray[np.str_]
    capacity: FloatArray
    bandwidth: FloatArray
    latency: FloatArray
    joules: FloatArray

    @staticmethod
    def build(memories: Sequence[AttachedMemory]) -> AttachedArrays:
        """Of a sequence of memories."""
        every = [*memories, None]

        def each(name: str) -> FloatArray:
            return np.array([0.0 if memory is None else float(getattr(memory, name)) for memory in every])

        return AttachedArrays(
            np.array(["" if memory is None else memory.holds for memory in every]),
            each("capacity_bytes"),
            each("bandwidth_bytes_per_s"),
            each("latency_s"),
            each("joules_per_byte"),
        )
