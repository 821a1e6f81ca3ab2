"""Replicas that keep active KV, weights or experts in memory attached to their accelerators (DESIGN 3.3-3.5).

One more axis of the configurations, where the file gives a tier `attached` modules.  Servers that hold such replicas
are set aside for them, since all their accelerators have the modules: so modules count by servers, spares included.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.performance import AttachedMemory
from codesign.performance.attached import Held
from codesign.problem.instance import HardwareOption, Instance, Model

_HELD: dict[str, tuple[Held, ...]] = {"active": ("kv",), "weights": ("weights", "experts")}
"""What may lie in a tier, by what the file says that it holds."""


@dataclass(frozen=True)
class Attachment:
    """Modules of a tier for each accelerator, and what replicas keep there."""

    tier: int
    """Index into instance.memory."""
    modules: float
    """For each accelerator."""
    memory: AttachedMemory
    name: str
    """Of what it holds, where and in how many modules, for group names."""

    def suits(self, instance: Instance, option: HardwareOption, model: Model) -> bool:
        """May replicas of this model on this hardware use it?"""
        tier, holds = instance.memory[self.tier], self.memory.holds
        if holds != "kv" and option.accelerator.weight_capacity is not None:
            return False  # the part has a memory of its own for weights
        if holds == "experts" and not model.card.experts:
            return False
        if tier.max_bytes_per_server is None:
            return True
        needed = self.modules * option.server_accelerators * tier.module_bytes
        return option.name in tier.hardware and needed <= tier.max_bytes_per_server * (1 + 1e-9)


def attachments(instance: Instance) -> tuple[Attachment, ...]:
    """Every way to use attached memory that the problem allows."""
    return tuple(
        Attachment(t, modules, AttachedMemory.of(tier, modules, holds), f"{holds}@{tier.name}x{modules:g}")
        for t, tier in enumerate(instance.memory)
        if tier.attached is not None
        for word in tier.holds
        for holds in _HELD.get(word, ())
        for modules in tier.attached.modules
    )
