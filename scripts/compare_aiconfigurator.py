"""TPOT on AIConfigurator's own sample of measured serving rows: this model beside AIConfigurator's, where installed.

    python scripts/compare_aiconfigurator.py [SILICON_SAMPLE.csv | WHEEL] [--seen SERVING.csv.gz]

The sample is for testing only: no coefficient is fitted to it or chosen by looking at it. It is aggregated serving
alone, deduplicated (newest run of a configuration), with its known errors repaired and listed, without the
configurations of ``--seen`` (rows that bands or profiles were set by). Without a path the file of the installed
package ``aiconfigurator-core`` is read; without that package its columns stay empty.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
import zipfile
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from codesign.validation.compare import Comparison, compare
from codesign.validation.measured import Row, number, read_names, read_rows, text
from codesign.validation.points import Skip, point_of, points_of
from codesign.validation.predict import predict

SAMPLE = "aiconfigurator_core/systems/silicon_sample.csv"
SYSTEMS = {
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200-nvl72",
    "gb300": "gb300-nvl72",
}
MODELS = {
    "MiniMaxAI/MiniMax-M2.5": "MiniMax-M2",
    "deepseek-ai/DeepSeek-R1": "DeepSeek-R1",
    "nvidia/DeepSeek-R1-NVFP4": "DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3": "DeepSeek-V3",
    "nvidia/DeepSeek-V3.1-NVFP4": "DeepSeek-V3",
    "meta-llama/Llama-3.1-70B": "Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct": "Llama-3.1-8B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "Llama-3.1-8B",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "Qwen/Qwen3-32B": "Qwen3-32B",
    "nvidia/Qwen3-32B-NVFP4": "Qwen3-32B",
    "Qwen/Qwen3.5-397B-A17B": "Qwen3.5-397B-A17B",
    "Qwen/Qwen3-235B-A22B-FP8": "Qwen3-235B-A22B",
    "moonshotai/Kimi-K2.5": "Kimi-K2",
    "zhipuai/GLM-5": "GLM-5",
}
Shape = tuple[int, int, int, int]
"""(tp, attention dp, expert tp, expert ep)."""


def sample_rows(path: str | None) -> list[Row]:
    """The sample from a CSV, a wheel, or the installed package."""
    if path is None:
        spec = find_spec("aiconfigurator_core")
        if spec is None or spec.origin is None:
            raise SystemExit(
                "found no aiconfigurator-core; expected the path of silicon_sample.csv or of a wheel"
            )
        path = str(Path(spec.origin).parent / "systems" / "silicon_sample.csv")
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as wheel:
            content = wheel.read(SAMPLE).decode("utf-8")
    else:
        content = Path(path).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def repaired_shape(row: Row) -> tuple[Shape, str]:
    """The shape of a row, and what was repaired in it; raises Skip for one that cannot be."""
    tp, dp, moe_tp, ep = (
        int(number(row, name)) if number(row, name) > 0 else 0
        for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    if tp == 0:
        raise Skip("parallelism published as 0")
    dp, moe_tp, ep = max(dp, 1), max(moe_tp, 1), max(ep, 1)
    if moe_tp == ep > 1 and tp == ep * ep:
        return (ep, 1, 1, ep), "tp_size published as tp × ep"
    if moe_tp == ep > 1 and dp == ep * ep:
        return (1, ep, 1, ep), "attention_dp_size published as dp × ep"
    if dp == tp > 1 and ep == tp * dp:
        return (1, dp, 1, dp), "attention dp counted twice in moe_ep_size"
    if tp > 8 and tp not in (16, 32, 64):
        raise Skip("tp no power of two: presumably disaggregated")
    if tp > 8:
        raise Skip("tp beyond a server: presumably disaggregated")
    if dp == 1 and 1 < tp != moe_tp * ep and moe_tp * ep > 1:
        raise Skip("attention and expert ranks contradict each other")
    return (tp, dp, moe_tp, ep), ""


def as_measured(row: Row) -> tuple[dict[str, str], Shape, str]:
    """A row in the columns of the serving tables, its shape, and what was repaired."""
    shape, repair = repaired_shape(row)
    source = text(row, "silicon_data_source")
    found = re.search(r"silicon_concurrency=(\d+)", source)
    if not found:
        raise Skip("concurrency not published")
    measured = re.search(r"measured=(\d{4}-\d\d-\d\d)", source)
    tp, dp, _, ep = shape
    return (
        {
            "row_id": text(row, "id"),
            "source": "silicon_sample",
            "date": measured.group(1) if measured else "2025-06-01",
            "model": text(row, "model_path"),
            "accelerator": text(row, "system"),
            "precision": text(row, "precision") or text(row, "gemm_quant_mode") or "bf16",
            "n_accel": str(tp * dp),
            "tp": str(tp),
            "pp": "1",
            "ep": str(ep),
            "dp": str(dp),
            "backend": text(row, "backend"),
            "isl": text(row, "isl"),
            "osl": text(row, "osl"),
            # Runs with a date are InferenceX's, which draw lengths from 0.8 to 1.0 of the nominal ones.
            "length_kind": "nominal" if measured else "mean",
            "concurrency_or_batch": found.group(1),
            "load_mode": "closed-loop",
            "tpot_ms_p50": text(row, "silicon_tpot_ms"),
        },
        shape,
        repair,
    )


@cache
def peer_engine(model: str, system: str, backend: str, shape: Shape, gemm: str, moe: str) -> Any:
    """AIConfigurator's engine of a configuration; None where it has no tables for it."""
    from aiconfigurator_core.sdk.engine import EngineHandle

    tp, dp, moe_tp, ep = shape
    try:
        return EngineHandle.compile(
            model,
            system,
            backend,
            tp_size=tp,
            attention_dp_size=dp,
            moe_tp_size=moe_tp,
            moe_ep_size=ep,
            gemm_quant_mode=gemm or None,
            moe_quant_mode=moe or None,
        )
    except Exception:  # its errors have no common class; any means that it cannot predict the point
        return None


def peer_tpot_ms(row: Row, shape: Shape, isl: float, osl: float, concurrency: float) -> tuple[float, float]:
    """AIConfigurator's TPOT: static, and with the others' prefills added; NaN where it has none."""
    names = ("model_path", "system", "backend", "gemm_quant_mode", "moe_quant_mode")
    model, system, backend, gemm, moe = (text(row, name) for name in names)
    engine = peer_engine(model, system, backend, shape, gemm, moe)
    if engine is None:
        return math.nan, math.nan
    batch = max(1, round(concurrency / shape[1]))
    try:
        prompts, generation, _ = engine.run_static(
            batch_size=batch, isl=round(isl), osl=round(osl), mode="static"
        )
    except Exception:  # as above
        return math.nan, math.nan
    steps = max(round(osl) - 1, 1)
    return generation / steps, (generation + prompts * (batch - 1) / batch) / steps


def line(name: str, errors: np.ndarray) -> str:
    """Median, mean, signed and share within 20 % of relative errors."""
    size = np.abs(errors)
    return (
        f"{name:40}{len(errors):6}{100 * np.median(size):9.1f}{100 * size.mean():8.1f}"
        f"{100 * np.median(errors):+9.1f}{100 * (size <= 0.2).mean():10.1f}"
    )


def main() -> None:
    """Score, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("sample", nargs="?")
    arguments.add_argument("--seen", default=None, help="serving rows whose configurations are left out")
    arguments.add_argument("--peer", action="store_true", help="ask AIConfigurator too (slow)")
    asked = arguments.parse_args()
    names = read_names() | {("accelerator", a): b for a, b in SYSTEMS.items()}
    names |= {("model", a): b for a, b in MODELS.items()}
    reasons: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    newest: dict[tuple[str, ...], tuple[dict[str, str], Shape, Row]] = {}
    for row in sample_rows(asked.sample):
        if text(row, "mode") != "agg":
            reasons["disaggregated"] += 1
            continue
        try:
            measured, shape, repair = as_measured(row)
        except Skip as skip:
            reasons[str(skip)] += 1
            continue
        repairs.update([repair] if repair else [])
        keys = ("model", "accelerator", "precision", "backend", "isl", "osl", "concurrency_or_batch")
        key = (*(measured[name] for name in keys), str(shape))
        if key in newest:
            reasons["older run of the same configuration"] += 1
            if measured["date"] <= newest[key][0]["date"]:
                continue
        newest[key] = measured, shape, row
    seen = set()
    for known in points_of(read_rows(asked.seen), read_names())[0] if asked.seen else []:
        seen.add((known.model, known.accelerator, known.tp, known.isl, known.osl, known.concurrency))
    kept: list[tuple[dict[str, str], Shape, Row]] = []
    for entry in newest.values():
        try:
            p = point_of(entry[0], names)
        except Skip as skip:
            reasons[str(skip)] += 1
            continue
        if (p.model, p.accelerator, p.tp, p.isl, p.osl, p.concurrency) in seen:
            reasons["configuration seen by a fit"] += 1
        else:
            kept.append(entry)
    points, _ = points_of([measured for measured, _, _ in kept], names)
    comparisons, unfit = compare(points, predict(points))
    reasons.update(unfit)
    print(f"{len(comparisons)} rows scored; left out {dict(reasons)}; repaired {dict(repairs)}\n")
    print(f"{'':40}{'rows':>6}{'median':>9}{'mean':>8}{'signed':>9}{'within 20':>10}")
    print(line("codesign", np.array([c.error for c in comparisons])))
    print(f"in the 80 % band: {100 * np.mean([c.covered for c in comparisons]):.1f} %")
    for of in ("accelerator", "model", "engine", "weights"):
        groups: dict[str, list[Comparison]] = {}
        for c in comparisons:
            groups.setdefault(str(getattr(c.point, of)), []).append(c)
        for name, group in sorted(groups.items()):
            print(line(f"  {name}", np.array([c.error for c in group])))
    if asked.peer:
        by_id = {measured["row_id"]: (row, shape) for measured, shape, row in kept}
        peer = np.array(
            [
                peer_tpot_ms(*by_id[c.point.row_id], c.point.isl, c.point.osl, c.point.concurrency)
                for c in comparisons
            ]
        )
        both = np.isfinite(peer[:, 0])
        truth = np.array([c.measured for c in comparisons])
        own = np.array([c.predicted for c in comparisons])
        print("\nrows that AIConfigurator predicts too")
        print(line("codesign", (own / truth - 1.0)[both]))
        print(line("AIConfigurator, static", (peer[:, 0] / truth - 1.0)[both]))
        print(line("AIConfigurator, with others' prefills", (peer[:, 1] / truth - 1.0)[both]))


if __name__ == "__main__":
    main()
