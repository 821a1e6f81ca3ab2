"""From published rows to points that the model can predict: parts, precisions, shape of the replica, load.

A row that cannot be predicted gets a reason instead of a point. What a row does not say is assumed here and
nowhere else: the shape of MLPerf systems, prompt lengths of ML.ENERGY tasks, the precision of the KV cache.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codesign.catalog import Accelerator, ModelCard, accelerators, models
from codesign.validation.measured import METRICS, Row, number, text, year
from codesign.validation.shapes import assumed_tp

NOMINAL_LENGTH_SHARE = 0.9
"""InferenceX draws lengths uniformly from 0.8 to 1.0 times the nominal one."""

TASK_PROMPT_TOKENS = {
    "lm-arena-chat": 300,
    "gpqa": 300,
    "sourcegraph-fim": 2000,
    "image-chat": 1000,
    "video-chat": 2000,
    "chat": 200,
    "code": 200,
}
"""Mean prompt of ML.ENERGY's tasks, which its rows do not publish (assumptions)."""

OFFLINE_REQUESTS = {
    (128, 128): 30000,
    (128, 2048): 3000,
    (128, 4096): 1500,
    (500, 2000): 3000,
    (1000, 1000): 3000,
    (1000, 2000): 1500,
    (1024, 1024): 3000,
    (1024, 8192): 1500,
    (1024, 32768): 1000,
    (2048, 128): 3000,
    (2048, 2048): 1500,
    (5000, 500): 1500,
    (8192, 1024): 1500,
    (20000, 2000): 1000,
    (32768, 1024): 1000,
}
"""Requests of an offline run of TensorRT-LLM's overviews since v0.17, by (input, output) tokens, from the pages
whose tables the rows are: 1,500 requests of 8,192 tokens never fill 2,048 places, and end in a near-empty round."""
OVERVIEWS_WITH_REQUESTS = ("TensorRT-LLM-perf-overview-v0.17", "TensorRT-LLM-perf-overview-v1")

CONTRADICTION = 2.0
"""Factor between the published end-to-end time and TTFT + (osl − 1)·TPOT beyond which one is wrong."""
MULTIMODAL_TASKS = ("image-chat", "video-chat")

KNOWN_ENGINES = ("vllm", "sglang", "tensorrt-llm")
CALIBRATED_SINCE = 2025
"""First year of the stacks that the kernel tables stand for; older ones are uncalibrated engines."""


@dataclass(frozen=True)
class Point:
    """One predictable row: a replica, its load, and what was measured on it."""

    row_id: str
    source: str
    engine: str
    year: int | None
    accelerator: str
    model: str
    weights: str
    activations: str
    kv: str
    tp: int
    pp: int
    ep: int
    dp: int
    load: str
    """closed (a fixed number of clients), waves (the same, all lengths equal: they end together), static (one
    batch), offline (all queued), open (arrivals at a rate), or saturated (a fixed number running)."""
    isl: float
    osl: float
    concurrency: float
    """Requests on one replica at once; inf where nothing but memory limits it."""
    rate_per_s: float
    """Requests per second and replica of open loads, else NaN."""
    tpot_limit_s: float
    """TPOT that an open load is known to have met (a valid MLPerf run's SLO); inf where none is known."""
    power_scope: str
    """gpu or wall."""
    measured: Mapping[str, float]
    out_of_score: str
    """Why the point is predicted but not scored; empty: it is scored."""
    requests: float = math.inf
    """Requests of an offline run on one replica, all of the same lengths; inf: as many as make it steady."""
    held_out: str = ""
    """part or model: predicted without anything that was measured on its generation, or chosen with its model's rows;
    empty: with all constants."""

    @property
    def stack(self) -> str:
        """Engine and year, as tables print it."""
        return f"{self.engine} {self.year or ''}".strip()

    @property
    def pair(self) -> str:
        """Accelerator and model: the unit that cross-validation leaves out."""
        return f"{self.accelerator} {self.model}"

    @property
    def known_engine(self) -> bool:
        """Whether the stack is one that the kernels stand for."""
        return self.engine in KNOWN_ENGINES and (self.year is None or self.year >= CALIBRATED_SINCE)


class Skip(Exception):  # noqa: N818 - it is no error: the row is counted under its reason
    """A row that cannot be predicted, with the reason."""


def points_of(
    rows: Sequence[Row], names: Mapping[tuple[str, str], str]
) -> tuple[list[Point], dict[str, int]]:
    """Points of the rows that can be predicted, and how many others there are for each reason."""
    points: list[Point] = []
    skipped: dict[str, int] = {}
    for row in rows:
        try:
            points.append(point_of(row, names))
        except Skip as skip:
            reason = str(skip)
            skipped[reason] = skipped.get(reason, 0) + 1
    return points, skipped


def point_of(row: Row, names: Mapping[tuple[str, str], str]) -> Point:
    """The point of one row; raises Skip with the reason where there is none."""
    _refuse(row)
    accelerator = accelerators()[_known(row, "accelerator", names, accelerators())]
    card = models()[_known(row, "model", names, models())]
    load = _load(row)
    measured = _measured(row, load)
    if not measured:
        raise Skip("publishes none of the predicted metrics")
    engine = engine_of(text(row, "backend"))
    when = year(row) or _energy_year(row)
    weights, activations, kv = precisions_of(row, card, accelerator, engine, when)
    count = number(row, "n_accel")
    if not count >= 1:
        raise Skip("number of accelerators missing")
    tp, pp, ep, dp = _shape(row, int(count), card, accelerator, weights)
    replicas = max(1, int(count) // (tp * pp * dp))
    isl, osl = _lengths(row, load)
    concurrency = _concurrency(row, load) / replicas
    return Point(
        row_id=text(row, "row_id"),
        source=text(row, "source"),
        engine=engine,
        year=when,
        accelerator=accelerator.id,
        model=card.id,
        weights=weights,
        activations=activations,
        kv=kv,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        load=load,
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        rate_per_s=number(row, "req_s") / replicas if load == "open" else math.nan,
        tpot_limit_s=_tpot_limit(row),
        power_scope="wall" if re.search(r"wall|node|system", text(row, "power_scope").lower()) else "gpu",
        measured=measured,
        out_of_score=_out_of_score(row, engine, tp),
        requests=_requests(row, load) / replicas,
    )


def _refuse(row: Row) -> None:
    speculation = text(row, "spec_decode").lower()
    if speculation not in ("", "none", "off", "false", "0", "no"):
        raise Skip("speculative decoding: acceptance unknown")
    if number(row, "disagg") == 1 or text(row, "disagg").lower() == "true":
        raise Skip("disaggregated serving")
    if "do not use" in text(row, "notes"):
        raise Skip("batch semantics unclear (llama.cpp)")


def _known(
    row: Row,
    column: str,
    names: Mapping[tuple[str, str], str],
    catalogue: Mapping[str, Accelerator] | Mapping[str, ModelCard],
) -> str:
    published = text(row, column)
    found = names.get((column, published), "")
    if not found and published in catalogue:
        found = published
    if found not in catalogue:
        listed = (column, published) in names
        raise Skip(f"{column} without a card" if listed else f"{column} not in the names file")
    return found


def _measured(row: Row, load: str) -> dict[str, float]:
    found = {metric: number(row, metric) for metric in METRICS}
    if load == "open":
        # The rate is given, and at the knee of the curve TPOT says more about the SLO than about the machine.
        found = {metric: found[metric] for metric in ("ttft_ms_p50", "energy_per_output_token_j")}
    # ML.ENERGY v2 publishes energy per request alone.
    per_request, osl = number(row, "energy_per_request_j"), number(row, "osl")
    if "mean, not p50" in text(row, "notes"):
        found["tpot_ms_p50"] = math.nan
    energy = found["energy_per_output_token_j"]
    if math.isnan(energy) and "ML.ENERGY" in text(row, "source") and osl > 0:
        found["energy_per_output_token_j"] = per_request / osl
    return {metric: value for metric, value in found.items() if value > 0}


def engine_of(backend: str) -> str:
    """The engine behind a published stack name."""
    lowered = backend.lower()
    for engine, words in {
        "sglang": ("sglang",),
        "vllm": ("vllm",),
        "tensorrt-llm": ("trt", "tensorrt"),
        "llama.cpp": ("llama.cpp",),
        "deepspeed-mii": ("deepspeed", "mii"),
    }.items():
        if any(word in lowered for word in words):
            return engine
    return "other"


def _energy_year(row: Row) -> int | None:
    """Stack years of sources that publish no date per row."""
    source, backend = text(row, "source"), text(row, "backend")
    if found := re.search(r"20\d\d", backend):
        return int(found.group())
    by_source = {"ML.ENERGY-v3": 2025, "ML.ENERGY-v2": 2024, "Argonne-LLM-Inference-Bench": 2024}
    return by_source.get(source)


_PRECISION_WORDS = (
    (r"nvfp4|fp4|mxfp4", "fp4"),
    (r"fp8|e4m3", "fp8"),
    (r"int4|awq|gptq|w4a16", "int4"),
    (r"int8|w8a16", "int8"),
    (r"fp16|bf16|bfloat16|float16|half", "bf16"),
)


def _width(words: str) -> str | None:
    return next((name for pattern, name in _PRECISION_WORDS if re.search(pattern, words)), None)


def precisions_of(
    row: Row, card: ModelCard, accelerator: Accelerator, engine: str, when: int | None
) -> tuple[str, str, str]:
    """(weights, activations, KV) of a row; what it leaves out follows the model, the division and the engine.

    KV caches are in 8 bits where TensorRT-LLM runs narrow weights, else in 16 (the engines' own defaults; MXFP4
    weights under 16-bit activations count as wide: its overview runs gpt-oss on Hopper with the cache on "auto").
    """
    published = text(row, "precision").lower()
    is_mlperf = "mlperf" in text(row, "source").lower()
    cache = None
    if "kv cache" in published:
        head, _, tail = published.partition("kv cache")
        published, cache = head, _width(tail)
    width = _width(published)
    if width is None and is_mlperf:
        width = "fp8" if accelerator.fp8_flops else "bf16"
        if accelerator.fp4_flops:
            width = "fp4"
    if width is None:
        width = {"mxfp4": "fp4", "nvfp4": "fp4"}.get(card.native_precision, card.native_precision)
    if width == "bf16" and card.native_precision == "mxfp4":
        width = "fp4"
    has8, has4 = bool(accelerator.fp8_flops), bool(accelerator.fp4_flops)
    if card.native_precision == "mxfp4" and width in ("fp4", "fp8"):
        weights, activations = "mxfp4", "fp8" if has4 and engine == "tensorrt-llm" else "bf16"
    elif width == "fp4":
        weights = "nvfp4" if accelerator.vendor == "NVIDIA" else "mxfp4"
        activations = weights if has4 else "bf16"
    elif width == "fp8":
        weights, activations = "fp8", "fp8" if has8 else "bf16"
    else:
        weights, activations = width, "bf16"
    wide = weights == "bf16" or (weights == "mxfp4" and activations == "bf16")
    narrow = not wide and engine == "tensorrt-llm"
    kv = {"fp8": "fp8", "int8": "fp8", "bf16": "bf16", "fp4": "fp8", None: "fp8" if narrow else "bf16"}[
        cache if cache != "int4" else "fp8"
    ]
    if is_mlperf and weights != "bf16":
        kv = "fp8"
    return weights, activations, kv


def _shape(
    row: Row, count: int, card: ModelCard, accelerator: Accelerator, weights: str
) -> tuple[int, int, int, int]:
    def given(column: str) -> int:
        value = number(row, column)
        return int(value) if value >= 1 else 0

    notes = text(row, "notes")
    tp, pp, ep, dp = (given(column) for column in ("tp", "pp", "ep", "dp"))
    moe = card.moe_layers > 0
    if not tp and "parallelism not published" in notes:
        return assumed_tp(card, accelerator, weights, count), 1, 1, 1
    pp, dp = max(pp, 1), max(dp, 1)
    if re.search(r"dp[_ -]?attention", notes) and dp == 1 and moe:
        return 1, pp, max(ep, 1), max(tp, 1)
    if not tp:
        tp = max(count // (pp * dp), 1)
    if not moe:
        return tp, pp, 1, 1
    # "tp=1, ep=8, n=8" is attention over all ranks and experts over all ranks: tp names the expert slices.
    if ep > 1 and dp == 1 and tp * pp < count:
        tp = count // pp
    # "Hybrid TP and EP" counts both: the ranks are what there are.
    return tp, pp, max(ep, 1), dp


def _load(row: Row) -> str:
    mode = text(row, "load_mode").lower()
    if "closed" in mode:
        # Clients whose requests all have the same length finish and start together.
        return "waves" if text(row, "length_kind") == "exact" else "closed"
    if "offline" in mode:
        return "offline"
    if "server" in mode or "poisson" in mode or "open" in mode:
        return "open"
    if "saturated" in mode:
        return "saturated"
    if "static" in mode:
        return "static"
    raise Skip("load mode unknown")


def _lengths(row: Row, load: str) -> tuple[float, float]:
    isl, osl = number(row, "isl"), number(row, "osl")
    if math.isnan(isl):
        isl = float(TASK_PROMPT_TOKENS.get(text(row, "task"), math.nan))
    if math.isnan(osl):
        # MLPerf publishes tokens and requests per second.
        osl = number(row, "output_tok_s") / number(row, "req_s")
    if not (isl >= 1 and osl >= 1):
        raise Skip("input or output length missing")
    if "nominal" in text(row, "length_kind"):
        isl, osl = NOMINAL_LENGTH_SHARE * isl, NOMINAL_LENGTH_SHARE * osl
    return isl, osl


def _concurrency(row: Row, load: str) -> float:
    if load == "saturated" and number(row, "avg_batch_size") > 0:
        return number(row, "avg_batch_size")
    if load in ("offline", "open"):
        return math.inf
    value = number(row, "concurrency_or_batch")
    if not value >= 1:
        raise Skip("concurrency or batch missing")
    return value


def _requests(row: Row, load: str) -> float:
    if load != "offline" or text(row, "source") not in OVERVIEWS_WITH_REQUESTS:
        return math.inf
    return float(OFFLINE_REQUESTS.get((int(number(row, "isl")), int(number(row, "osl"))), math.inf))


def _tpot_limit(row: Row) -> float:
    limit = number(row, "slo_tpot_ms")
    return limit * 1e-3 if limit > 0 else math.inf


def _out_of_score(row: Row, engine: str, tp: int) -> str:
    if text(row, "is_latest_for_config") == "0":
        return "not the newest run of its configuration"
    if text(row, "trust").lower().startswith("low"):
        return "marked as of low trust"
    if text(row, "source") == "Splitwise" and tp >= 4:
        return "host-bound stack"
    if text(row, "task") in MULTIMODAL_TASKS:
        return "prompts with images: their tokens and encoder are not published"
    whole = number(row, "ttft_ms_p50") + (number(row, "osl") - 1.0) * number(row, "tpot_ms_p50")
    end_to_end = number(row, "e2e_ms_p50")
    if end_to_end > 0 and whole > 0 and max(whole / end_to_end, end_to_end / whole) > CONTRADICTION:
        return "published figures contradict each other"
    return ""
