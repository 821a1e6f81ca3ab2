"""From published rows to points that the model can predict: parts, precisions, shape of the replica, load.

A row that cannot be predicted gets a reason instead of a point. What a row does not say is assumed here and
nowhere else: the shape of MLPerf systems, prompt lengths of ML.ENERGY tasks, the precision of the KV cache.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from codesign.catalog import Accelerator, ModelCard, accelerators, models
from codesign.validation.measured import METRICS, TPOT_AT_SHARE, Row, number, text, year
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

MEASURED_BEYOND_LATENCY = ("itl_ms_p50", "e2e_ms_p50", "prefill_power_w", "decode_power_w")
"""Figures that are scored of disaggregated and cached rows only: elsewhere they repeat TTFT and TPOT."""

MOST_WATTS = 2500.0
"""More than any accelerator of the catalogue draws."""
NO_LENGTH = "input or output length missing"
MOST_CACHED = 0.99
"""A prompt has some new tokens: reported hit ratios of 1 are rounded, or of whole blocks."""

CONTRADICTION = 2.0
"""Factor between the published end-to-end time and TTFT + (osl − 1)·TPOT beyond which one is wrong."""
MULTIMODAL_TASKS = ("image-chat", "video-chat")

KNOWN_ENGINES = ("vllm", "sglang", "tensorrt-llm")
CALIBRATED_SINCE = 2025
"""First year of the stacks that the kernel tables stand for; older ones are uncalibrated engines."""


COLOCATED, DISAGGREGATED, CACHED = SERVING = ("colocated", "disaggregated", "cached")


@dataclass(frozen=True)
class Engines:
    """Equal engines of one side of a disaggregated deployment."""

    count: int
    tp: int
    ep: int
    dp: int

    @property
    def accelerators(self) -> int:
        """All accelerators of the side."""
        return self.count * self.tp * self.dp


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
    """Requests on one replica at once, or on a whole disaggregated deployment; inf where only memory limits it."""
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
    prompts: Engines | None = None
    """Engines for prompts of a disaggregated deployment; the shape of the point is then that of one that decodes."""
    engines: int = 1
    """Engines that decode, of a disaggregated deployment."""
    decode_share: float = math.nan
    """Measured share of a request's time after its first token, of a disaggregated deployment; NaN: not published."""
    cached: float = 0.0
    """Tokens of a prompt that the prefix cache holds; NaN where there is a cache and its hits are not published."""
    most_running: float = math.inf
    """Sequences that an engine was told to run at once at most."""

    @property
    def slice(self) -> str:
        """What kind of serving the point validates."""
        if self.prompts is not None:
            return DISAGGREGATED
        return COLOCATED if self.cached == 0.0 else CACHED

    @property
    def accelerators(self) -> int:
        """Accelerators of a replica, or of both sides of a disaggregated deployment."""
        replica = self.tp * self.pp * self.dp
        return replica if self.prompts is None else self.engines * replica + self.prompts.accelerators

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
    """Points of the rows that can be predicted, and how many others there are for each reason.

    A cached row without a prompt length gets the median of its source's others of the model (an assumption).
    """
    points: list[Point] = []
    skipped: dict[str, int] = {}
    for row in rows:
        try:
            points.append(point_of(row, names))
        except Skip as skip:
            reason = str(skip)
            skipped[reason] = skipped.get(reason, 0) + 1
    return _with_prompts(points, skipped), skipped


def _with_prompts(points: Sequence[Point], skipped: dict[str, int]) -> list[Point]:
    """Points with a prompt length each: those of a cached row that publishes none are like its source's others."""
    known: dict[tuple[str, str], list[float]] = {}
    for point in points:
        if math.isfinite(point.isl):
            known.setdefault((point.source, point.model), []).append(point.isl)
    found: list[Point] = []
    for point in points:
        others = known.get((point.source, point.model))
        if math.isfinite(point.isl):
            found.append(point)
        elif others:
            isl = median(others)
            # Until here a share of the prompt, for want of a length.
            found.append(replace(point, isl=isl, cached=point.cached * isl))
        else:
            skipped[NO_LENGTH] = skipped.get(NO_LENGTH, 0) + 1
    return found


def point_of(row: Row, names: Mapping[tuple[str, str], str]) -> Point:
    """The point of one row; raises Skip with the reason where there is none."""
    _refuse(row)
    whole, row = row, decode_engine(row) if is_apart(row) else row
    accelerator = accelerators()[_known(row, "accelerator", names, accelerators())]
    card = models()[_known(row, "model", names, models())]
    load = _load(row)
    apart, hits = is_apart(whole), hit_ratio(row)
    measured = _measured(row, load)
    if apart or hits != 0.0:
        measured |= _beyond_latency(whole, apart)
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
    prompts = _engines(whole, "prefill") if apart else None
    if prompts is not None:
        # Output tokens per accelerator are of those that decode or of all.
        measured.pop("output_tok_s_per_gpu", None)
    if prompts is not None and text(row, "length_kind") == "exact":
        load = "closed"  # prompts come one after the other from their engines, so answers do not end together
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
        prompts=prompts,
        decode_share=1.0 - number(whole, "ttft_ms_p50") / number(whole, "e2e_ms_p50") if apart else math.nan,
        engines=_engines(whole, "decode").count if apart else 1,
        cached=_cached(row, isl, hits),
        most_running=_most_running(row),
    )


def is_apart(row: Row) -> bool:
    """Whether a row is of a disaggregated deployment."""
    return number(row, "disagg") == 1 or text(row, "disagg").lower() == "true"


def decode_engine(row: Row) -> Row:
    """A disaggregated row as if one of its decode engines stood alone."""
    side = _engines(row, "decode")
    return {
        **row,
        "disagg": "",
        "n_accel": str(side.tp * side.dp),
        "tp": str(side.tp),
        "pp": "",
        "ep": str(side.ep),
        "dp": str(side.dp),
    }


def _engines(row: Row, side: str) -> Engines:
    """The engines of one side of a disaggregated row; raises Skip where it does not say their size."""
    workers, held = number(row, f"{side}_workers"), number(row, f"{side}_accels")
    if not held >= 1:
        held = number(row, f"n_{side}_accel")
    ranks = number(row, f"{side}_tp")
    if not ranks >= 1:
        ranks = held / workers
    if not workers >= 1:
        workers = held / ranks
    if not (ranks >= 1 and workers >= 1):
        raise Skip("engines of a side not published")
    size, ep = int(ranks), number(row, f"{side}_ep")
    attention_apart = number(row, f"{side}_dp_attention") == 1 or text(row, f"{side}_dp_attention").lower() == "true"
    tp, dp = (1, size) if attention_apart else (size, 1)
    return Engines(count=int(workers), tp=tp, ep=int(ep) if ep >= 1 else 1, dp=dp)


def hit_ratio(row: Row) -> float:
    """Share of a row's prompt tokens that a prefix cache held: 0 without a cache, NaN where only that is published."""
    isl, cached, new = (number(row, column) for column in ("isl", "cached_tokens_mean", "new_tokens_mean"))
    given = number(row, "hit_ratio")
    for part, whole in ((cached, cached + new), (cached, isl), (isl - new, isl)):
        if 0.0 <= part <= whole and whole > 0.0:
            return min(part / whole, MOST_CACHED)
    if given > 1.0:
        given /= 100.0  # in per cent
    if 0.0 <= given <= 1.0:
        return min(given, MOST_CACHED)
    return math.nan if re.search(r"prefix cach\w* on", text(row, "load_mode").lower()) else 0.0


def _cached(row: Row, isl: float, hits: float) -> float:
    """Cached tokens of a prompt; of one without a length the share."""
    return hits * isl if math.isfinite(isl) else hits


def _beyond_latency(row: Row, apart: bool) -> dict[str, float]:
    found = {metric: number(row, metric) for metric in MEASURED_BEYOND_LATENCY}
    if apart:
        # Gaps are between chunks of several tokens there.
        found["itl_ms_p50"] = math.nan
        found |= {f"{side}_power_w": _watts(row, side) for side in ("prefill", "decode")}
        ttft, whole = number(row, "ttft_ms_p50"), number(row, "e2e_ms_p50")
        if 0.0 < ttft < whole:
            found[TPOT_AT_SHARE] = number(row, "tpot_ms_p50")
    else:
        found["tpot_ms_p50"] = number(row, "tpot_ms_p50")
    joules = number(row, "j_per_output_token")
    found["energy_per_output_token_j"] = joules
    return {metric: value for metric, value in found.items() if value > 0}


def _watts(row: Row, side: str) -> float:
    """Watts of an accelerator of a side; a figure that no accelerator draws is all of the side's."""
    watts = number(row, f"{side}_power_w")
    return watts / _engines(row, side).accelerators if watts > MOST_WATTS else watts


def _most_running(row: Row) -> float:
    limit = re.search(r"max_num_seqs (\d+)|max batch size (\d+)", text(row, "notes"))
    return float(limit.group(1) or limit.group(2)) if limit else math.inf


def _refuse(row: Row) -> None:
    speculation = text(row, "spec_decode").lower()
    if speculation not in ("", "none", "off", "false", "0", "no"):
        raise Skip("speculative decoding: acceptance unknown")
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
    found = {metric: number(row, metric) for metric in METRICS if metric not in MEASURED_BEYOND_LATENCY}
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
    if math.isnan(isl):
        isl = number(row, "cached_tokens_mean") + number(row, "new_tokens_mean")
    if math.isnan(osl) and load == "closed":
        # Little's law: requests per second are clients over a request's time.
        mean = number(row, "e2e_ms_mean")
        whole = number(row, "e2e_ms_p50") if math.isnan(mean) else mean
        osl = number(row, "output_tok_s") * whole * 1e-3 / _concurrency(row, load)
    shared = math.isnan(isl) and hit_ratio(row) > 0.0
    if not ((isl >= 1 or shared) and osl >= 1):
        raise Skip(NO_LENGTH)
    if "nominal" in text(row, "length_kind"):
        isl, osl = NOMINAL_LENGTH_SHARE * isl, NOMINAL_LENGTH_SHARE * osl
    return isl, osl


def _concurrency(row: Row, load: str) -> float:
    if load == "saturated" and number(row, "avg_batch_size") > 0:
        return number(row, "avg_batch_size")
    if load in ("offline", "open"):
        return math.inf
    value = number(row, "concurrency_or_batch")
    if math.isnan(value) and load == "closed":
        value = number(row, "sessions")
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
