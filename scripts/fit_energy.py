"""Fit watts of accelerators to measured runs, and print what cross-validation by model says.

    python scripts/fit_energy.py ENERGY.csv.gz

W = min(TDP, base + j_byte·bytes/s + j_flop·FLOP/s) per accelerator, bytes and FLOP from the model's shapes at the
measured rate, least squares of the logarithms. Prints rows for codesign/performance/data/energy.toml and the error of
each model predicted by a fit that has not seen it; then joules per token predicted fully, likewise.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from codesign.performance import decode_flops, decode_weight_bytes, kv_read_bytes, prefill_flops
from codesign.performance.energy import tdp_w
from codesign.performance.profile import EngineProfile
from codesign.validation.engine_load import table_of
from codesign.validation.measured import number, read_names, read_rows
from codesign.validation.points import Point, points_of
from codesign.validation.predict import predict

FloatArray = NDArray[np.float64]

SOURCES = ("ML.ENERGY-v3",)
SYSTEMS = {"h100-sxm": "h100_sxm", "b200-sxm": "b200_sxm"}
START = np.array([300.0, 60.0, 1.0])
"""W, pJ/B (= W per TB/s), pJ/FLOP (= W per TFLOP/s)."""


def features(points: list[Point], rate: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(TB/s, TFLOP/s, TDP) of one accelerator at measured output rates of the replica."""
    table = table_of(points, EngineProfile())
    isl, osl, batch = (np.array([getattr(p, name) for p in points]) for name in ("isl", "osl", "concurrency"))
    context = (isl + osl / 2.0)[:, None]
    step = decode_weight_bytes(table, batch[:, None])[:, 0] + batch * kv_read_bytes(table, context)[:, 0]
    flop = decode_flops(table, context)[:, 0] + prefill_flops(table, isl[:, None])[:, 0] / osl
    ranks = table.replica_accelerators
    return step * rate / batch / ranks / 1e12, flop * rate / ranks / 1e12, tdp_w(table)


def watts(x: FloatArray, f: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """The form, at constants x."""
    return np.minimum(f[2], x[0] + x[1] * f[0] + x[2] * f[1])


def fit(f: tuple[FloatArray, FloatArray, FloatArray], measured: FloatArray) -> FloatArray:
    """Constants of some rows."""
    found = least_squares(
        lambda x: np.log(watts(x, f) / measured), START, bounds=(1e-3, 2000.0), loss="soft_l1", f_scale=0.1
    )
    return np.asarray(found.x)


def main() -> None:
    """Fit and print."""
    rows = read_rows(sys.argv[1])
    by_id = {row["row_id"]: row for row in rows}
    points = [p for p in points_of(rows, read_names())[0] if p.source in SOURCES and not p.out_of_score]
    for part, system in SYSTEMS.items():
        chosen = [p for p in points if p.accelerator == part]
        measured = np.array([number(by_id[p.row_id], "avg_power_w_per_gpu") for p in chosen])
        rate = np.array([number(by_id[p.row_id], "output_tok_s") for p in chosen])
        replicas = [number(by_id[p.row_id], "n_accel") / (p.tp * p.pp * p.dp) for p in chosen]
        f = features(chosen, rate / np.maximum(1.0, replicas))
        joules = np.array([p.measured["energy_per_output_token_j"] for p in chosen])
        found = predict(chosen)
        own_rate = found.values["output_tok_s_per_gpu"] * np.array([p.tp * p.pp * p.dp for p in chosen])
        at_own_rate = features(chosen, own_rate)
        models = np.array([p.model for p in chosen])
        unseen, energy = np.zeros(len(chosen)), np.zeros(len(chosen))
        for model in np.unique(models):
            held = models == model
            x = fit(tuple(column[~held] for column in f), measured[~held])  # type: ignore[arg-type]
            unseen[held] = watts(x, f)[held] / measured[held] - 1.0
            per_token = watts(x, at_own_rate) * np.array([p.tp * p.pp * p.dp for p in chosen]) / own_rate
            energy[held] = per_token[held] / joules[held] - 1.0
        x = fit(f, measured)
        cv = np.median(np.abs(unseen))
        print(
            f'{{ system = "{system}", base_w = {x[0]:.1f}, tdp_w = {f[2][0]:.1f}, pj_per_byte = {x[1]:.1f}, '
            f"pj_per_flop = {x[2]:.2f}, cv_median = {cv:.3f}, rows = {len(chosen)} }}"
        )
        print(
            f"  watts, model left out: median {100 * cv:.1f} %, mean {100 * np.mean(np.abs(unseen)):.1f} %; J/token "
            f"fully predicted: median {100 * np.median(np.abs(energy)):.1f} %, "
            f"mean {100 * np.mean(np.abs(energy)):.1f} %"
        )


if __name__ == "__main__":
    main()
