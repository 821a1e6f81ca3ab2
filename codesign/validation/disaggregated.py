"""Disaggregated points: a closed network of engines for prompts and engines that decode.

C clients that send as they are served are divided between the two sides by their times (Little's law):

    C = X·(W(X) + P + handover + (osl − 1)·TPOT(B)),    B = X·(osl − 1)·TPOT(B)/decode engines

with X requests per second. Decoding is undisturbed by prompts; a prompt waits W for the engines of its side, whose
rate μ is that of batches of prompts: W = ρ/(2μ(1 − ρ)) of a queue with equal services, ρ = X/μ.  Three numbers were
chosen by looking at rows: :data:`HANDOVER_S`, :data:`HELD_BACK`, and that a run's end costs half a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codesign.performance import ConfigurationTable, prefill_seconds
from codesign.performance.energy import base_power_w, idle_power_w, mean_power_w, prefill_energy_j, tdp_w
from codesign.performance.footprint import kv_transfer_bytes
from codesign.performance.profile import EngineProfile
from codesign.validation.engine_load import Load, column, shared_prefill_seconds, table_of
from codesign.validation.measured import TPOT_AT_SHARE
from codesign.validation.points import Point

FloatArray = NDArray[np.float64]

TTFT_LOAD = 0.5
"""Load of the prefill side up to which TTFT is predicted: above it is the difference of two large numbers."""
HANDOVER_S = 0.15
"""Seconds of router, scheduling on both sides and transfer beside a prefill. Chosen by looking at TTFT of the given
InferenceX rows at low load, where it is 0.06 to 0.7 s."""
HELD_BACK = 2.5
"""Prompts that TensorRT-LLM's engines with attention data parallelism hold until others come: their groups step
together. Chosen by looking at TTFT of the given InferenceX rows with few clients, where it is 1 to 5."""
ROUNDS = {"InferenceX": 10.0}
"""Requests of each client of a run whose tokens per second are over its whole time, by source. It begins with idle
engines and ends with ones that empty: half a round more (measured: 0.94 of clients over their mean time)."""
_HALVINGS = 40


def predict_apart(table: ConfigurationTable, points: Sequence[Point], profile: EngineProfile) -> dict[str, FloatArray]:
    """Figures of disaggregated points, each with one decode engine in ``table``; arrays are [K]."""
    prompts = table_of([_prompt_engine(p) for p in points], profile)
    load = Load.of(table, points)
    isl, osl, cached = load.isl, load.osl, column(points, "cached")
    new, clients, engines = isl - cached, column(points, "concurrency"), column(points, "engines")
    sides = [p.prompts for p in points]
    workers = np.array([side.count for side in sides if side is not None], dtype=float)
    own = prefill_seconds(prompts, new[:, None], cached[:, None])[:, 0]
    most = workers / shared_prefill_seconds(prompts, new, cached)
    moved = kv_transfer_bytes(prompts, isl[:, None])[:, 0]
    link = prompts.part_accelerators.scaleout[prompts.accelerator] * prompts.tp
    transfer = HANDOVER_S + np.where(link > 0, moved / np.maximum(link, 1.0), 0.0)
    together = np.array([p.engine == "tensorrt-llm" for p in points]) & (prompts.dp > 1)
    held_back = np.where(together, np.minimum(HELD_BACK, clients / 2.0), 0.0)
    later = np.maximum(osl - 1.0, 0.0)

    def tpot_at(batch: FloatArray) -> FloatArray:
        return load.step_s(table, batch)

    def ttft_at(rate: FloatArray) -> FloatArray:
        used = rate / most
        return np.asarray(own + transfer + used / (2.0 * most * np.maximum(1.0 - used, 1e-9)) + held_back / rate)

    # The more sequences decode, the more requests per second they are, and the fewer clients are left for prompts.
    low, high = np.full_like(clients, 1e-6), np.minimum(clients / engines, load.batch)
    room = high.copy()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        rate = engines * middle / (later * tpot_at(np.maximum(middle, 1.0)))
        fits = (rate < most) & (rate * ttft_at(rate) + engines * middle <= clients)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    batch, tpot = np.maximum(low, 1.0), tpot_at(np.maximum(low, 1.0))
    rate = engines * low / (later * tpot)
    ttft = np.where(low < 0.999 * room, clients / rate - later * tpot, ttft_at(rate))
    # Clients beyond the room of the engines that decode wait for it.
    ttft = np.maximum(ttft, clients / rate - later * tpot)
    share = np.clip(column(points, "decode_share"), 0.0, 1.0)
    running = np.clip(clients * share / engines, 1.0, load.batch)
    accelerators = column(points, "accelerators")
    held = accelerators - engines * table.replica_accelerators
    decoding = mean_power_w(table, batch, tpot, isl + osl / 2.0)
    prompting = _prompt_watts(prompts, rate / workers, rate / most, new, cached)
    watts = engines * decoding + workers * prompting
    rounds = np.array([ROUNDS.get(p.source, np.inf) for p in points])
    mean_rate = rate / (1.0 + 0.5 / rounds)
    return {
        "ttft_ms_p50": np.where(rate / most <= TTFT_LOAD, 1e3 * ttft, np.nan),
        "tpot_ms_p50": 1e3 * tpot,
        TPOT_AT_SHARE: 1e3 * tpot_at(running),
        "total_tok_s_per_gpu": mean_rate * (isl + osl) / accelerators,
        "output_tok_s_per_gpu": mean_rate * osl / accelerators,
        "e2e_ms_p50": 1e3 * (ttft + later * tpot),
        "energy_per_output_token_j": watts / (rate * osl),
        "prefill_power_w": workers * prompting / held,
        "decode_power_w": decoding / table.replica_accelerators,
        "batch": batch,
        "fits": load.fits.astype(float),
    }


def _prompt_watts(
    table: ConfigurationTable, per_s: FloatArray, used: FloatArray, new: FloatArray, cached: FloatArray
) -> FloatArray:
    """Watts [K] of an engine with so many prompts per second that is busy a share ``used`` of its time."""
    idle = idle_power_w(table)
    moving = per_s * prefill_energy_j(table, new[:, None], cached[:, None])[:, 0]
    working = idle + np.minimum(used, 1.0) * (base_power_w(table) - idle) + moving
    return np.asarray(np.minimum(working, tdp_w(table) * table.replica_accelerators))


def _prompt_engine(point: Point) -> Point:
    side = point.prompts
    if side is None:
        raise ValueError(f"{point.row_id}: found no engines for prompts; expected a disaggregated point")
    return replace(point, tp=side.tp, pp=1, ep=side.ep, dp=side.dp)
