"""What measured points ask of an engine, and the kernel times of it: what predictions of every kind of serving use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.catalog import accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    EngineMemory,
    decode_attention_seconds,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
    prefill_attention_seconds,
    prefill_seconds,
)
from codesign.performance.profile import EngineProfile
from codesign.validation.points import Point

FloatArray = NDArray[np.float64]

BATCHED_PROMPT_TOKENS = 4096.0
"""Tokens of the batch of prompts whose time a prompt shares: a lone short prompt over-charges by 70 %."""
MAX_RUNNING = 2048.0
"""Sequences that an engine runs at once where a benchmark sets no limit."""


def table_of(points: Sequence[Point], profile: EngineProfile) -> ConfigurationTable:
    """One configuration per point, all under one engine profile."""
    parts = list(dict.fromkeys(point.accelerator for point in points))
    cards = list(dict.fromkeys(point.model for point in points))
    part_index, card_index = ({name: i for i, name in enumerate(names)} for names in (parts, cards))
    columns = zip(
        *(
            (
                part_index[p.accelerator],
                card_index[p.model],
                *(PRECISIONS.index(name) for name in (p.weights, p.activations, p.kv)),
                *(p.tp, p.pp, p.ep, p.dp),
            )
            for p in points
        ),
        strict=True,
    )
    return ConfigurationTable(
        [accelerators()[name] for name in parts],
        [models()[name] for name in cards],
        *(np.array(column) for column in columns),
        engines=(profile,),
    )


def engine_memory(points: Sequence[Point]) -> EngineMemory:
    """Memory that benchmarks gave the engine of some points: its default.

    TensorRT-LLM's published runs are told 0.95 of what is free (`kv_cache_free_gpu_mem_fraction`).
    """
    return EngineMemory(fraction=0.95 if all(point.engine == "tensorrt-llm" for point in points) else None)


def shared_prefill_seconds(table: ConfigurationTable, new: FloatArray, cached: ArrayLike = 0.0) -> FloatArray:
    """Seconds [K] of the replica that one prompt of ``new`` tokens behind ``cached`` ones costs in a batch of 4,096.

    Products run over the whole batch; each prompt attends to itself and its prefix alone, all in one kernel per layer.
    """
    spread = (table.pp * table.dp).astype(float)
    prompts = np.maximum(1.0, BATCHED_PROMPT_TOKENS / new)
    prefix = np.broadcast_to(np.asarray(cached, dtype=float), new.shape)[:, None]
    tokens, prefixes = (prompts * new)[:, None], prompts[:, None] * prefix
    batch = prefill_seconds(table, tokens, prefixes)[:, 0] / spread
    own = prefill_attention_seconds(table, new[:, None], prefix)[:, 0]
    floor = prefill_attention_seconds(table, np.ones((len(new), 1)))[:, 0]
    together = prefill_attention_seconds(table, tokens, prefixes)[:, 0]
    attention = prompts * np.maximum(own - floor, 0.0) + floor
    return np.asarray((batch - together + attention) / prompts)


@dataclass(frozen=True, eq=False)
class Load:
    """What the engine is asked to run in each of K points, and the kernel times of it; all arrays [K]."""

    isl: FloatArray
    osl: FloatArray
    asked: FloatArray
    """Requests on the replica at once."""
    batch: FloatArray
    """Of these, the ones that memory holds."""
    fits: NDArray[np.bool_]
    together: NDArray[np.bool_]
    """Batches and waves of equal requests: prefilled together, then decoding undisturbed."""
    own_s: FloatArray
    """Prefill of a prompt alone."""
    shared_s: FloatArray
    """A prompt's share of a batch of 4,096 prompt tokens."""
    attention_s: FloatArray
    """Decode attention of one sequence per step, at its mean context."""

    @staticmethod
    def of(table: ConfigurationTable, points: Sequence[Point]) -> Load:
        """The load of points that a table was made for; of disaggregated ones on an engine that decodes."""
        isl, osl, cached = (column(points, name) for name in ("isl", "osl", "cached"))
        load = np.array([point.load for point in points])
        together = (load == "static") | (load == "waves")
        # TensorRT-LLM admits what it can finish without eviction; others hold what has been written so far.
        guaranteed = np.array([point.engine == "tensorrt-llm" for point in points]) | together
        # Prefixes in the cache are held once for all that share them, and make way: what a sequence adds counts.
        held = kv_bytes(table, (isl - cached + np.where(guaranteed, osl, osl / 2.0))[:, None])[:, 0]
        room = kv_capacity_bytes(table, engine_memory(points)) / held
        limit = np.minimum(column(points, "most_running"), MAX_RUNNING) * table.dp
        asked = np.minimum(column(points, "concurrency"), limit)
        return Load(
            isl=isl,
            osl=osl,
            asked=asked,
            # What was seen to run had its room, whatever the account of it says.
            batch=np.maximum(1.0, np.where(load == "saturated", asked, np.minimum(asked, room))),
            fits=np.asarray((room >= 1.0) & np.isfinite(room), dtype=bool),
            together=np.asarray(together, dtype=bool),
            own_s=prefill_seconds(table, (isl - cached)[:, None], cached[:, None])[:, 0],
            shared_s=shared_prefill_seconds(table, isl - cached, cached),
            attention_s=decode_attention_seconds(table, (isl + osl / 2.0)[:, None])[:, 0],
        )

    def step_s(self, table: ConfigurationTable, batch: FloatArray) -> FloatArray:
        """A decode step of ``batch`` sequences."""
        return np.asarray(decode_step_seconds(table, batch[:, None])[:, 0] + batch * self.attention_s)

    def interference_s(self, batch: FloatArray, charge: float) -> FloatArray:
        """What the others' prefills add to a step: each of them once while this one decodes."""
        one = np.where(self.together, 0.0, charge) * self.shared_s / self.osl
        return np.asarray(np.maximum(batch - 1.0, 0.0) * one)

    def finite_rate(self, table: ConfigurationTable, requests: FloatArray, charge: float) -> FloatArray:
        """Requests per second of an offline run of so many equal ``requests``; NaN where they are unlimited.

        Full rounds of what memory holds, and one of the rest: a place serves a whole number of requests.
        """
        finite = np.isfinite(requests)
        asked = np.where(finite, requests, self.batch)
        full = np.minimum(self.batch, asked)
        rounds = np.floor(asked / full)
        rest = asked - rounds * full

        def seconds(batch: FloatArray) -> FloatArray:
            return charge * batch * self.shared_s + self.osl * self.step_s(table, np.maximum(batch, 1.0))

        total = rounds * seconds(full) + np.where(rest >= 1.0, seconds(rest), 0.0)
        return np.asarray(np.where(finite, asked / total, np.nan))


def column(points: Sequence[Point], name: str) -> FloatArray:
    """A number of each point [K]."""
    return np.array([getattr(point, name) for point in points], dtype=float)
