"""Results of benchmark tools: `vllm bench serve`, GuideLLM, and rows in the shape of InferenceX.

Each becomes a `Result` in the same words.  What a tool does not write (which accelerator, how parallel) its user
states beside the file.  Shapes as of vllm 0.33.0, guidellm 0.8.1 and InferenceX's benchmarks of 2026-06.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.catalog import accelerators, models
from codesign.files import parse_json
from codesign.validation.measured import DataError

Levels = dict[float, float]
"""Seconds by percentile (0-1)."""
_PERCENTILES = (0.5, 0.9, 0.95, 0.99)
_INFERENCEX_MODELS = {
    "dsr1": "DeepSeek-R1",
    "gptoss120b": "gpt-oss-120b",
    "llama70b": "Llama-3.1-70B",
}
_INFERENCEX_PRECISIONS = {"fp4": "nvfp4", "fp8": "fp8", "bf16": "bf16"}


@dataclass(frozen=True)
class Result:
    """One run of a benchmark tool at one load."""

    tool: str
    isl: float
    """Mean tokens of a prompt."""
    osl: float
    """Mean tokens of an answer."""
    requests_per_s: float
    """Of the whole deployment that was measured."""
    concurrency: float
    """Requests in the system: what the tool kept there, else the mean by Little's law."""
    ttft_s: Levels
    tpot_s: Levels
    stack: dict[str, Any] = field(default_factory=dict)
    """What the file itself says of accelerator, model, precision, tp, ep, dp, engine."""

    def entry(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a measured point (`validation.bench`); what the user states goes first."""
        found = {"isl": self.isl, "osl": self.osl, "concurrency": self.concurrency} | self.stack | dict(stated)
        if 0.5 in self.tpot_s:
            found["tpot_ms"] = 1e3 * self.tpot_s[0.5]
        if 0.5 in self.ttft_s:
            found["ttft_ms"] = 1e3 * self.ttft_s[0.5]
        return found | {"output_tok_s": self.requests_per_s * self.osl}


def results_of(document: Any, where: str) -> list[Result] | None:
    """The runs in a tool's JSON document; None where it is in no tool's shape.

    Raises DataError, which names file and field, for a document of a known shape that lacks what it should have.
    """
    rows = document if isinstance(document, list) else [document]
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    try:
        if all("request_throughput" in row and "total_output_tokens" in row for row in rows):
            return [_vllm(row) for row in rows]
        if len(rows) == 1 and isinstance(rows[0].get("benchmarks"), list):
            return [_guidellm(row) for row in rows[0]["benchmarks"]]
        if all({"hardware", "conc", "metrics"} <= set(row) for row in rows):
            return [_inferencex(row) for row in rows]
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise DataError(f"{where}: found a result without {error}; expected its tool's own JSON") from None
    return None


def read_results(path: str | Path) -> list[Result]:
    """The runs in a result file.  Raises DataError where it is none."""
    try:
        document = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: found no JSON file that can be read ({error}); expected a result file") from None
    found = results_of(document, str(path))
    if not found:
        raise DataError(
            f"{path}: found no result of a benchmark; expected JSON of vllm bench serve, GuideLLM or InferenceX"
        )
    return found


def _vllm(row: Mapping[str, Any]) -> Result:
    completed = _positive(row["completed"])
    osl = _positive(row["total_output_tokens"]) / completed
    rate = _positive(row["request_throughput"])
    ttft, tpot = _vllm_levels(row, "ttft"), _vllm_levels(row, "tpot")
    seconds = _positive(row["mean_ttft_ms"]) / 1e3 + (osl - 1) * float(row["mean_tpot_ms"]) / 1e3
    limit = row.get("max_concurrency")
    known = {key: row[key] for key in ("accelerator", "model", "precision", "tp", "pp", "ep", "dp") if key in row}
    return Result(
        "vllm bench serve",
        _positive(row["total_input_tokens"]) / completed,
        osl,
        rate,
        float(limit) if limit else rate * seconds,
        ttft,
        tpot,
        {"engine": "vllm"} | _model(row.get("model_id")) | known,
    )


def _vllm_levels(row: Mapping[str, Any], metric: str) -> Levels:
    names = {0.5: f"median_{metric}_ms"} | {p: f"p{100 * p:g}_{metric}_ms" for p in _PERCENTILES[1:]}
    return {p: _positive(row[name]) / 1e3 for p, name in names.items() if row.get(name)}


def _guidellm(row: Mapping[str, Any]) -> Result:
    metrics = row["metrics"]

    def of(name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = metrics[name]["successful"]
        return found

    def levels(name: str) -> Levels:
        found = of(name)["percentiles"]
        return {p: _positive(found[f"p{100 * p:.0f}"]) / 1e3 for p in _PERCENTILES if found.get(f"p{100 * p:.0f}")}

    return Result(
        "GuideLLM",
        _positive(of("prompt_token_count")["mean"]),
        _positive(of("output_token_count")["mean"]),
        _positive(of("requests_per_second")["mean"]),
        _positive(of("request_concurrency")["mean"]),
        levels("time_to_first_token_ms"),
        levels("inter_token_latency_ms"),  # GuideLLM's own time per output token counts the first one too
    )


def _inferencex(row: Mapping[str, Any]) -> Result:
    metrics = row["metrics"]
    accelerators_in_use = _positive(row["num_decode_gpu"])
    if row.get("disagg"):
        raise ValueError("a replica of its own: disaggregated rows are two pools")
    osl = _positive(row["osl"])
    output = metrics.get("output_tput_per_gpu") or metrics["tput_per_gpu"] * osl / (osl + row["isl"])
    attention = bool(row.get("decode_dp_attention"))
    tp = int(row["decode_tp"])
    name = str(row["hardware"])
    part = name if name in accelerators() else next((a for a in accelerators() if a.startswith(f"{name}-")), name)
    stack = {
        "accelerator": part,
        "model": _INFERENCEX_MODELS.get(str(row["model"]), str(row["model"])),
        "precision": _INFERENCEX_PRECISIONS.get(str(row["precision"]), str(row["precision"])),
        "tp": 1 if attention else tp,
        "dp": tp if attention else 1,
        "ep": int(row.get("decode_ep") or 1),
        "engine": str(row["framework"]),
    }
    levels = {
        metric: {
            p: _positive(metrics[name])
            for p, name in ({0.5: f"median_{metric}"} | {p: f"p{100 * p:g}_{metric}" for p in _PERCENTILES[1:]}).items()
            if metrics.get(name)
        }
        for metric in ("ttft", "tpot")
    }
    return Result(
        "InferenceX",
        _positive(row["isl"]),
        osl,
        output * accelerators_in_use / osl,
        _positive(row["conc"]),
        levels["ttft"],
        levels["tpot"],
        stack,
    )


def _model(published: Any) -> dict[str, Any]:
    """The catalogue's model of a name on the Hugging Face hub, where it has it."""
    ids = [card.id for card in models().values() if published in (card.id, card.hf_id)]
    return {"model": ids[0]} if ids else {}


def _positive(value: Any) -> float:
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"a number above 0 (found {value!r})")
    return number


def sustained_rate(results: list[Result], ttft: Mapping[float, float], tpot: Mapping[float, float]) -> float:
    """Requests per second of the fastest run that kept every promise (seconds by percentile); 0 where none did.

    Raises DataError for a promise at a percentile that no run has measured.
    """
    best = 0.0
    for promises, metric in ((ttft, "ttft_s"), (tpot, "tpot_s")):
        for percentile in promises:
            if not any(percentile in getattr(result, metric) for result in results):
                measured = sorted({p for result in results for p in getattr(result, metric)})
                raise DataError(
                    f"{metric[:4]}: found no p{100 * percentile:g} in the results; expected one of "
                    + ", ".join(f"p{100 * p:g}" for p in measured)
                )
    for result in results:
        kept = all(result.ttft_s.get(p, math.inf) <= limit for p, limit in ttft.items())
        if kept and all(result.tpot_s.get(p, math.inf) <= limit for p, limit in tpot.items()):
            best = max(best, result.requests_per_s)
    return best
