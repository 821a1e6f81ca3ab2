"""What an engine is given of an accelerator's memory, and what its largest step takes of it beside weights and caches.

Engines reserve at their start what the largest step that they may run needs: activations of its tokens, the sampling of
its sequences, captured graphs. What they count on stands in ``data/memory.toml`` with its sources; the planner, the
checker, the simulator and exports all ask here, so that a plan's caches are those that the engine will report.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.profile import profile_of
from codesign.performance.replica import HALF_BYTES, replica
from codesign.performance.table import ConfigurationTable
from codesign.problem.instance import Options

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RUNTIME_BYTES = 0.7e9
"""What drivers, communication and workspaces of libraries keep of an accelerator: an assumption (vLLM's logs of single
accelerators give 0.1 to 1.8 GiB outside of its allocator)."""
_USUAL = "vllm"
"""The engine whose account holds where a profile names none."""


@lru_cache(maxsize=1)
def memory_constants() -> Mapping[str, Any]:
    """The file ``data/memory.toml``, read once."""
    text = files("codesign.performance").joinpath("data/memory.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True, eq=False)
class EngineMemory:
    """What an engine was told, or its defaults; arrays are [K] or scalars."""

    fraction: float | None = None
    """Share of the usable memory (of what is free, for an engine that counts so); None: the engine's default."""
    runtime_bytes: float = RUNTIME_BYTES
    sequences: ArrayLike | None = None
    """Of a data-parallel rank, at most; None: the default for so much memory."""
    tokens: ArrayLike | None = None
    """New tokens of a rank's step, at most; None: the default for so much memory."""

    @staticmethod
    def of(options: Options, table: ConfigurationTable, role: str, chunk: ArrayLike | None = None) -> EngineMemory:
        """As a plan tells it: `chunk` [K] prompt tokens share a replica's step in a colocated pool."""
        sequences = rank_sequences(table, options.max_sequences)
        tokens = step_tokens(table, sequences, role, chunk)
        return EngineMemory(options.memory_fraction, options.memory_reserve_bytes, sequences, tokens)


DEFAULTS = EngineMemory()


def rank_sequences(table: ConfigurationTable, most: int | None = None) -> FloatArray:
    """Sequences of a data-parallel rank [K], at most: `most`, else the engines' default for so much memory."""
    return _default(table, "sequences") if most is None else np.full(len(table), float(most))


def step_tokens(table: ConfigurationTable, sequences: FloatArray, role: str, chunk: ArrayLike | None) -> FloatArray:
    """New tokens in a step of a data-parallel rank [K], at most: what engines are told, see exports."""
    decoding = sequences * (table.drafts + 1.0)
    if role == "colocated":
        shared = np.asarray(0.0 if chunk is None else chunk, dtype=np.float64)
        return np.asarray(np.ceil(shared / table.dp) + decoding)
    if role == "prefill":
        return _default(table, "tokens")
    return np.maximum(decoding, float(memory_constants()["activations"]["decode_tokens"]))


def _default(table: ConfigurationTable, name: str) -> FloatArray:
    usable = table.part_accelerators.capacity[table.accelerator]
    found = np.zeros(len(table))
    for entry in sorted(memory_constants()["defaults"], key=lambda entry: entry["least_gib"]):
        found = np.where(usable >= entry["least_gib"] * 2.0**30, float(entry[name]), found)
    return found


def memory_share(table: ConfigurationTable, fraction: float | None = None) -> tuple[FloatArray, BoolArray]:
    """(share of memory that engines are given, is it a share of what is free?) [K] each."""
    rows = [_engine(accelerator.id, table) for accelerator in table.accelerators]
    share = np.array([row["share"] if fraction is None else fraction for row in rows], dtype=np.float64)
    free = np.array([row["of"] == "free" for row in rows], dtype=bool)
    return share[table.accelerator], free[table.accelerator]


def _engine(accelerator: str, table: ConfigurationTable) -> Mapping[str, Any]:
    engines: Mapping[str, Mapping[str, Any]] = memory_constants()["engine"]
    return engines.get(profile_of(accelerator, table.engines).kernels, engines[_USUAL])


def workspace_bytes(table: ConfigurationTable, memory: EngineMemory = DEFAULTS) -> FloatArray:
    """Bytes on one accelerator [K] that the largest step takes: activations, sampling and captured graphs.

    Of each token the residual stream and the widest intermediate; experts of a rank see the tokens of all attention
    groups. Logits of all of a rank's sequences are sampled over the whole vocabulary on every accelerator.
    """
    r = replica(table)
    card, facts = r.card, memory_constants()
    sequences = rank_sequences(table) if memory.sequences is None else np.asarray(memory.sequences, dtype=np.float64)
    tokens = _default(table, "tokens") if memory.tokens is None else np.asarray(memory.tokens, dtype=np.float64)
    intermediate = np.maximum(card["dense_width"], card["shared_width"]) / r.tp
    routed = card["top_k"] * np.maximum(card["expert_width"] / r.slices, card["expert_hidden"]) * r.dp / r.ep
    held = facts["activations"]
    width = held["hidden_copies"] * card["hidden"] + held["wide_copies"] * np.maximum(intermediate, routed)
    logits = [_engine(accelerator.id, table)["sampling_bytes"] for accelerator in table.accelerators]
    sampling = np.array(logits, dtype=np.float64)[table.accelerator] * sequences * card["vocab"]
    graphs = facts["graphs"]["bytes_per_layer"] * r.stage_layers
    return np.asarray(tokens * HALF_BYTES * width + sampling + graphs)
