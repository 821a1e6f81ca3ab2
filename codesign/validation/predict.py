"""TTFT, TPOT, throughput and energy of measured points, all at once (facts/performance_model.md 2).

    TPOT = step(B) + B·attention(isl + osl/2) + κ·(B − 1)/osl·P

with B = min(concurrency, what the KV memory holds) and P a prompt's share of a 4,096-token batch of prompts:
while a sequence decodes osl tokens every other one is prefilled once. Host terms are part of the step. TTFT of closed
loops, overloaded ones among them, is the simulator's (:mod:`~codesign.validation.closed_loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codesign.performance import ConfigurationTable, cached_prefill_range, calibration, first_token_seconds
from codesign.performance.energy import mean_power_w, wall_power_w
from codesign.performance.profile import EngineProfile, default_profile
from codesign.validation.closed_loop import simulate_closed
from codesign.validation.disaggregated import predict_apart
from codesign.validation.engine_load import Load, column, table_of
from codesign.validation.measured import PREDICTED
from codesign.validation.points import Point

FloatArray = NDArray[np.float64]

OPEN_DELAY_STEPS = 1.5
"""Steps that a request waits at an engine with spare capacity: half of the current one, and its own."""
OPEN_TPOT_SHARE = 0.75
"""Median TPOT of an open load over the SLO that it was driven up to: SLOs are on p99, which spreads 14 %."""
LONGEST_FIRST_TOKEN_S = 0.5
"""Upper end of what serving stacks were seen to add to a TTFT (SGLang on Blackwell)."""
BRACKET = (0.8, 1.2)
"""TTFT lies in [0.8·P, 1.2·(P + B·P + step + 0.5 s)]: prefill alone, or behind everyone else and the slowest stack."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions of N points; arrays are [N], NaN where a point has no such figure."""

    values: Mapping[str, FloatArray]
    """By metric of :data:`~codesign.validation.measured.PREDICTED`, in its unit."""
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
    """The default profile of a point's engine and year.

    MLPerf's load generator calls the engine in its own process: there is no server that adds to a TTFT.
    """
    profile = default_profile(point.engine, point.year)
    return replace(profile, first_token_s=0.0) if point.source.startswith("MLPerf") else profile


def given_or_default(profile: EngineProfile | None) -> EngineOf:
    """A given profile for the accelerators that it holds for, else each stack's default."""
    if profile is None:
        return stack_default
    return lambda point: profile if profile.applies_to(point.accelerator) else stack_default(point)


def predict(points: Sequence[Point], engine: EngineOf = stack_default, waits: bool = True) -> Prediction:
    """Predict points, each with the profile that ``engine`` gives it.

    Without ``waits`` nothing is simulated: TTFT and end-to-end time of closed loops are as if nobody waited.
    """
    profiles = [engine(point) for point in points]
    groups: dict[tuple[EngineProfile, bool], list[int]] = {}
    for index, profile in enumerate(profiles):
        groups.setdefault((profile, points[index].prompts is not None), []).append(index)
    count = len(points)
    columns = {name: np.full(count, np.nan) for name in (*PREDICTED, "batch", "low", "high")}
    fits = np.zeros(count, dtype=bool)
    keys = [""] * count
    for (profile, apart), indices in groups.items():
        chosen = [points[i] for i in indices]
        table = table_of(chosen, profile)
        found = predict_apart(table, chosen, profile) if apart else _evaluate(table, chosen, profile, waits)
        for name, values in found.items():
            if name == "fits":
                fits[indices] = values > 0
            else:
                columns[name][indices] = values
        by_part = calibration(table)
        for i, part in zip(indices, table.accelerator, strict=True):
            keys[i] = by_part[part]
    return Prediction(
        values={metric: columns[metric] for metric in PREDICTED},
        batch=columns["batch"],
        ttft_low_ms=columns["low"],
        ttft_high_ms=columns["high"],
        fits=fits,
        calibration=tuple(keys),
        engine=tuple(profile.name for profile in profiles),
    )


def _evaluate(
    table: ConfigurationTable, points: Sequence[Point], profile: EngineProfile, waits: bool
) -> dict[str, FloatArray]:
    load = Load.of(table, points)
    mode = np.array([point.load for point in points])
    closed, opened = mode == "closed", mode == "open"
    isl, osl, own = load.isl, load.osl, load.own_s
    gpus = table.replica_accelerators.astype(float)
    rate = column(points, "rate_per_s")

    def tpot_at(batch: FloatArray) -> FloatArray:
        return load.step_s(table, batch) + load.interference_s(batch, profile.prefill_charge)

    batch = np.where(opened, _open_batch(tpot_at, rate * osl, load.batch), load.batch)
    # Near saturation TPOT says nothing about the machine: the load was raised until it met the limit.
    limit = column(points, "tpot_limit_s")
    tpot = np.where(opened & np.isfinite(limit), OPEN_TPOT_SHARE * limit, tpot_at(batch))
    everyone = own + (batch - 1.0) * load.shared_s
    stack = first_token_seconds(table)
    in_place = np.where(load.together, everyone, stack + own + OPEN_DELAY_STEPS * tpot)
    ttft = in_place.copy()
    # Waits of clients for one another, and for memory, are what the simulator finds.
    for i in np.flatnonzero(closed & load.fits & waits).tolist():
        ttft[i] = 1e-3 * simulate_closed(replace(points[i], concurrency=load.asked[i]), table.take([i])).ttft_ms_p50
    first = closed | load.together
    request = np.where(first, in_place, 0.0) + np.maximum(osl - first, 0.0) * tpot
    ended = load.finite_rate(table, column(points, "requests"), profile.prefill_charge)
    per_s = np.where(opened, rate, np.where(np.isnan(ended), batch / request, ended))
    wall = np.array([point.power_scope == "wall" for point in points])
    new = isl - column(points, "cached")
    watts = mean_power_w(table, batch, tpot, isl + osl / 2.0, prompts_per_s=per_s, prompt_tokens=new)
    watts = np.where(wall, wall_power_w(table, watts), watts)
    low, high = BRACKET
    least, most = (s[:, 0] for s in cached_prefill_range(table, new[:, None], column(points, "cached")[:, None]))
    latest = most + batch * load.shared_s + load.step_s(table, batch) + LONGEST_FIRST_TOKEN_S
    return {
        "ttft_ms_p50": 1e3 * ttft,
        "tpot_ms_p50": 1e3 * tpot,
        "output_tok_s_per_gpu": per_s * osl / gpus,
        "total_tok_s_per_gpu": per_s * (isl + osl) / gpus,
        "energy_per_output_token_j": watts / (per_s * osl),
        # The median gap between tokens holds no prompt.
        "itl_ms_p50": 1e3 * load.step_s(table, batch),
        "e2e_ms_p50": 1e3 * (ttft + np.maximum(osl - 1.0, 0.0) * tpot),
        "batch": batch,
        "low": 1e3 * low * least,
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
