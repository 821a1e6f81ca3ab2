"""Deployment configurations as a struct of arrays: one entry per replica design, nothing evaluated yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.attached import AttachedArrays, AttachedMemory
from codesign.performance.parts import AcceleratorArrays, CardArrays
from codesign.performance.profile import EngineArrays, EngineProfile, profile_of

if TYPE_CHECKING:
    from codesign.catalog import Accelerator, ModelCard
    from codesign.problem.speculation import Speculation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_NONE: IntArray = np.full(0, -1)


@dataclass(frozen=True, eq=False)
class ConfigurationTable:
    """K configurations of one replica each; all arrays have shape [K].

    A replica has tp·pp·dp·cp accelerators: ``pp`` pipeline stages, each of ``dp`` attention data-parallel groups
    of ``tp`` tensor-parallel ranks. With context parallelism ``cp`` such groups, each with all weights, share every
    prompt: its tokens are divided, and keys and values go round the groups in a ring. Experts are spread over the
    tp·dp ranks of a stage: ``ep`` expert-parallel ranks times tp·dp/ep tensor slices. ``weights``, ``activations``
    and ``kv`` index :data:`~codesign.performance.parts.PRECISIONS`. Any integers are accepted; whether a shape makes
    sense is asked of :func:`~codesign.performance.footprint.shape_valid`.
    """

    accelerators: Sequence[Accelerator]
    cards: Sequence[ModelCard]
    accelerator: IntArray
    """Index into ``accelerators``."""
    card: IntArray
    """Index into ``cards``."""
    weights: IntArray
    activations: IntArray
    kv: IntArray
    tp: IntArray
    pp: IntArray
    ep: IntArray
    dp: IntArray
    cp: IntArray = field(default_factory=lambda: _NONE, kw_only=True)
    """Groups that share a prompt; 1 by default, and in all replicas that decode."""
    memory: IntArray = field(default_factory=lambda: _NONE, kw_only=True)
    """Index into ``memories``; -1 where everything lies in the accelerators' own memory, as it does by default."""
    drafts: IntArray = field(default_factory=lambda: _NONE, kw_only=True)
    """Tokens drafted for each sequence in a step; 0, as by default, where a step writes one token."""
    speculations: tuple[Speculation | None, ...] = field(default=(), kw_only=True)
    """What drafts for each of ``cards``; may be left out where nothing does."""
    memories: tuple[AttachedMemory, ...] = field(default=(), kw_only=True)
    """Memories attached to the accelerators that replicas may use."""
    engines: tuple[EngineProfile, ...] = field(default=(), kw_only=True)
    """Engine profiles: the first that applies to an accelerator holds for it, else the default."""
    safety: float = field(default=0.5, kw_only=True)
    """Share (0–1) of such predictions that times stay below; 0.5 predicts the median."""

    def __post_init__(self) -> None:
        """Make every column an integer array; raises ValueError when their lengths differ."""
        for name, default in (("cp", 1), ("memory", -1), ("drafts", 0)):
            if getattr(self, name) is _NONE:
                object.__setattr__(self, name, np.full(np.shape(self.accelerator), default))
        for name in COLUMNS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.intp))
        shapes = {name: getattr(self, name).shape for name in COLUMNS}
        if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
            raise ValueError(f"found columns of shapes {shapes}; expected one length K for all")

    def __len__(self) -> int:
        """Number of configurations K."""
        return len(self.accelerator)

    def take(self, selection: ArrayLike | slice) -> ConfigurationTable:
        """The configurations at an index array, boolean mask or slice, over the same parts."""
        index = selection if isinstance(selection, slice) else np.asarray(selection)
        columns = {name: getattr(self, name)[index] for name in COLUMNS}
        taken = ConfigurationTable(self.accelerators, self.cards, **columns, **self._same)  # type: ignore[arg-type]
        # Building the per-part arrays costs more than a small selection is worth: hand them on.
        vars(taken).update(part_accelerators=self.part_accelerators, part_cards=self.part_cards)
        if "draft_cards" in vars(self):
            vars(taken).update(draft_cards=self.draft_cards)
        return taken

    @property
    def _same(self) -> dict[str, object]:
        """What all configurations share, whichever are taken."""
        return {name: getattr(self, name) for name in _SHARED if name not in ("accelerators", "cards")}

    @cached_property
    def part_accelerators(self) -> AcceleratorArrays:
        """Per-accelerator arrays, one entry for each of ``accelerators``."""
        kernels = [profile_of(accelerator.id, self.engines).kernels for accelerator in self.accelerators]
        return AcceleratorArrays.build(self.accelerators, kernels)

    @cached_property
    def part_cards(self) -> CardArrays:
        """Per-card arrays, one entry for each of ``cards``."""
        return CardArrays.build(self.cards)

    @cached_property
    def draft_cards(self) -> tuple[tuple[ModelCard | None, ...], CardArrays]:
        """What drafts for each of ``cards`` (None: nothing that multiplies), and arrays of it, else of the card."""
        from codesign.performance.drafts import draft_card

        both = zip(self.cards, self.speculations, strict=True)
        drafting = tuple(None if drafts is None else draft_card(card, drafts) for card, drafts in both)
        return drafting, CardArrays.build([d or card for card, d in zip(self.cards, drafting, strict=True)])

    @cached_property
    def part_memories(self) -> AttachedArrays:
        """Arrays of the attached memories, and of none."""
        return AttachedArrays.build(self.memories)

    @cached_property
    def part_engines(self) -> EngineArrays:
        """What the engine profile of each of ``accelerators`` says."""
        return EngineArrays.build(self.accelerators, self.engines)

    @cached_property
    def time_factor(self) -> FloatArray:
        """Factor on kernel times [K]: the engine's multiplier, at the safety percentile of its predictions."""
        from codesign.performance.confidence import safety_factor

        factor = self.part_engines.multiplier[self.accelerator]
        return factor if self.safety == 0.5 else factor * safety_factor(self, self.safety)

    @cached_property
    def replica_accelerators(self) -> IntArray:
        """Accelerators of one replica [K]."""
        return self.tp * self.pp * self.dp * self.cp


_SHARED = ("accelerators", "cards", "speculations", "memories", "engines", "safety")
COLUMNS = tuple(f.name for f in fields(ConfigurationTable) if f.name not in _SHARED)


def points_first(values: ArrayLike) -> FloatArray:
    """Arguments as [J, 1] or [J, K] from a scalar, [J] or [K, J].

    Inside, points come first: long contiguous inner loops over K are what makes numpy fast here.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim <= 1:
        return np.atleast_1d(array)[:, None]
    return np.ascontiguousarray(array.T)
