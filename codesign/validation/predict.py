"""TTFT, TPOT, throughput and energy of measured points, all at once (facts/performance_model.md 2).

    TPOT = step(B) + B·attention(isl + osl/2) + κ·(B − 1)/osl·P

with B = min(concurrency, what the KV memory holds) and P a prompt's share of a 4,096-token batch of prompts:
while a sequence decodes osl tokens every other one is prefilled once. Host terms are part of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.catalog import accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    EngineMemory,
    calibration,
    decode_attention_seconds,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
    prefill_attention_seconds,
    prefill_seconds,
)
from codesign.performance.energy import mean_power_w, wall_power_w
from codesign.performance.profile import EngineProfile, default_profile
from codesign.validation.measured import METRICS
from codesign.validation.points import Point

FloatArray = NDArray[np.float64]

BATCHED_PROMPT_TOKENS = 4096.0
"""Tokens of the batch of prompts whose time a prompt shares: a lone short prompt over-charges by 70 %."""
MAX_RUNNING = 2048.0
"""Sequences that an engine runs at once where a benchmark sets no limit."""
OPEN_DELAY_STEPS = 1.5
"""Steps that a request waits at an engine with spare capacity: half of the current one, and its own."""
OPEN_TPOT_SHARE = 0.75
"""Median TPOT of an open load over the SLO that it was driven up to: SLOs are on p99, which spreads 14 %."""
LONGEST_DELAY_STEPS = 50.0
"""Upper end of the range of scheduler delays that has been measured."""
BRACKET = (0.8, 1.2, 0.1)
"""TTFT lies in [0.8·P, 1.2·(P + B·P + delay + 0.1 s)]: prefill alone, or behind everyone else and the longest
delay."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions of N points; arrays are [N], NaN where a point has no such figure."""

    values: Mapping[str, FloatArray]
    """By metric of :data:`~codesign.validation.measured.METRICS`, in its unit."""
    batch: FloatArray
    """Sequences that decode at once in a replica."""
    ttft_low_ms: FloatArray
    ttft_high_ms: FloatArray
    fits: NDArray[np.bool_]
    calibration: tuple[str, ...]
    """``kernel-fit:<system>`` or ``inherited:<system>``."""
    engine: tuple[str, ...]
    """Engine profile of each point."""


EngineOf = Callable[[Point], EngineProfile]


def stack_default(point: Point) -> EngineProfile:
    """The default profile of a point's engine and year."""
    return default_profile(point.engine, point.year)


def given_or_default(profile: EngineProfile | None) -> EngineOf:
    """A given profile for the accelerators that it holds for, else each stack's default."""
    if profile is None:
        return stack_default
    return lambda point: profile if profile.applies_to(point.accelerator) else stack_default(point)


def predict(points: Sequence[Point], engine: EngineOf = stack_default) -> Prediction:
    """Predict points, each with the profile that ``engine`` gives it."""
    profiles = [engine(point) for point in points]
    groups: dict[EngineProfile, list[int]] = {}
    for index, profile in enumerate(profiles):
        groups.setdefault(profile, []).append(index)
    count = len(points)
    columns = {name: np.full(count, np.nan) for name in (*METRICS, "batch", "low", "high")}
    fits = np.zeros(count, dtype=bool)
    keys = [""] * count
    for profile, indices in groups.items():
        chosen = [points[i] for i in indices]
        table = table_of(chosen, profile)
        found = _evaluate(table, chosen, profile)
        for name, values in found.items():
            if name == "fits":
                fits[indices] = values > 0
            else:
                columns[name][indices] = values
        by_part = calibration(table)
        for i, part in zip(indices, table.accelerator, strict=True):
            keys[i] = by_part[part]
    return Prediction(
        values={metric: columns[metric] for metric in METRICS},
        batch=columns["batch"],
        ttft_low_ms=columns["low"],
        ttft_high_ms=columns["high"],
        fits=fits,
        calibration=tuple(keys),
        engine=tuple(profile.name for profile in profiles),
    )


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


def _fraction(points: Sequence[Point]) -> float | None:
    """Share of memory that benchmarks gave the engine; None: its default.

    TensorRT-LLM's published runs are told 0.95 of what is free (`kv_cache_free_gpu_mem_fraction`).
    """
    return 0.95 if all(point.engine == "tensorrt-llm" for point in points) else None


def shared_prefill_seconds(table: ConfigurationTable, isl: FloatArray) -> FloatArray:
    """Seconds [K] of the replica that one prompt costs in a batch of 4,096 prompt tokens.

    Products run over the whole batch; each prompt attends to itself alone, all in one kernel per layer.
    """
    spread = (table.pp * table.dp).astype(float)
    prompts = np.maximum(1.0, BATCHED_PROMPT_TOKENS / isl)
    tokens = (prompts * isl)[:, None]
    batch = prefill_seconds(table, tokens)[:, 0] / spread
    own = prefill_attention_seconds(table, isl[:, None])[:, 0]
    floor = prefill_attention_seconds(table, np.ones((len(isl), 1)))[:, 0]
    together = prefill_attention_seconds(table, tokens)[:, 0]
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
        """The load of points that a table was made for."""
        isl, osl = _column(points, "isl"), _column(points, "osl")
        load = np.array([point.load for point in points])
        together = (load == "static") | (load == "waves")
        # TensorRT-LLM admits what it can finish without eviction; others hold what has been written so far.
        guaranteed = np.array([point.engine == "tensorrt-llm" for point in points]) | together
        held = kv_bytes(table, (isl + np.where(guaranteed, osl, osl / 2.0))[:, None])[:, 0]
        room = kv_capacity_bytes(table, EngineMemory(fraction=_fraction(points))) / held
        asked = np.minimum(_column(points, "concurrency"), MAX_RUNNING * table.dp)
        return Load(
            isl=isl,
            osl=osl,
            asked=asked,
            # What was seen to run had its room, whatever the account of it says.
            batch=np.maximum(1.0, np.where(load == "saturated", asked, np.minimum(asked, room))),
            fits=np.asarray((room >= 1.0) & np.isfinite(room), dtype=bool),
            together=np.asarray(together, dtype=bool),
            own_s=prefill_seconds(table, isl[:, None])[:, 0],
            shared_s=shared_prefill_seconds(table, isl),
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


def _column(points: Sequence[Point], name: str) -> FloatArray:
    return np.array([getattr(point, name) for point in points], dtype=float)


def _evaluate(
    table: ConfigurationTable, points: Sequence[Point], profile: EngineProfile
) -> dict[str, FloatArray]:
    load = Load.of(table, points)
    mode = np.array([point.load for point in points])
    closed, opened = mode == "closed", mode == "open"
    isl, osl, own = load.isl, load.osl, load.own_s
    gpus = table.replica_accelerators.astype(float)
    rate = _column(points, "rate_per_s")

    def tpot_at(batch: FloatArray) -> FloatArray:
        return load.step_s(table, batch) + load.interference_s(batch, profile.prefill_charge)

    batch = np.where(opened, _open_batch(tpot_at, rate * osl, load.batch), load.batch)
    # Near saturation TPOT says nothing about the machine: the load was raised until it met the limit.
    limit = _column(points, "tpot_limit_s")
    tpot = np.where(opened & np.isfinite(limit), OPEN_TPOT_SHARE * limit, tpot_at(batch))
    delay = np.where(closed, profile.scheduler_delay_steps, np.where(opened, OPEN_DELAY_STEPS, 0.0))
    everyone = own + (batch - 1.0) * load.shared_s
    # One client alone never waits.
    ttft = np.where(load.together, everyone, own + np.where(load.asked > 1.0, delay, 0.0) * tpot)
    first = closed | load.together
    request = np.where(first, ttft, 0.0) + np.maximum(osl - first, 0.0) * tpot
    ended = load.finite_rate(table, _column(points, "requests"), profile.prefill_charge)
    per_s = np.where(opened, rate, np.where(np.isnan(ended), batch / request, ended))
    # Clients beyond the memory's room wait for a place.
    queued = np.where(closed, np.maximum(load.asked - batch, 0.0) / per_s, 0.0)
    wall = np.array([point.power_scope == "wall" for point in points])
    watts = mean_power_w(table, batch, tpot, isl + osl / 2.0, prompts_per_s=per_s, prompt_tokens=isl)
    watts = np.where(wall, wall_power_w(table, watts), watts)
    low, high, slack = BRACKET
    latest = own + batch * load.shared_s + (1.0 + LONGEST_DELAY_STEPS) * load.step_s(table, batch) + slack
    return {
        "ttft_ms_p50": 1e3 * (ttft + queued),
        "tpot_ms_p50": 1e3 * tpot,
        "output_tok_s_per_gpu": per_s * osl / gpus,
        "total_tok_s_per_gpu": per_s * (isl + osl) / gpus,
        "energy_per_output_token_j": watts / (per_s * osl),
        "batch": batch,
        "low": 1e3 * low * own,
        "high": 1e3 * high * latest,
        "fits": load.fits.astype(float),
    }


def _open_batch(
    tpot_at: Callable[[FloatArray], FloatArray], tokens_per_s: FloatArray, room: FloatArray
) -> FloatArray:
    """Running sequences B = TPOT(B)·tokens/s of an open load (Little), at most ``room``."""
    low, high = np.ones_like(room), room.copy()
    rate = np.nan_to_num(tokens_per_s)
    for _ in range(30):
        middle = np.sqrt(low * high)
        enough = middle >= rate * tpot_at(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(high)
