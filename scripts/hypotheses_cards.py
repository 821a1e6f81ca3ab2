"""T2, T6, T7: what model cards alone decide, redrawn as the source paper's figures 2 to 4 from our model."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypotheses_lab import REFUTED, SUPPORTED, Finding, Plot, Series, least, percent, stated

from codesign.catalog import ModelCard
from codesign.problem import Problem, resolve
from codesign.problem.instance import Instance
from codesign.workload.intensity import Formats, attention_decode_work, cf_request, decode_work, prefill_work
from codesign.workload.kvcache import kv_bytes
from codesign.workload.parameters import weight_bytes

GB = 1e9
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTEXTS = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)


def t2() -> Finding:
    """The footprint of each workflow against one B200."""
    instance = resolve(stated("T2"))
    memory = instance.hardware[0].accelerator.memory_capacity
    card = instance.models[0].card
    rows, curves, exceeded = [], [], {}
    for formats in (Formats("bf16", "bf16", "bf16"), Formats("fp8", "fp8", "fp8")):
        for task in instance.tasks:
            context = task.context.quantile(0.5)
            used = np.array(BATCHES) * cf_request(card, np.array(BATCHES), context, formats)
            beyond = [b for b, total in zip(BATCHES, used, strict=True) if total > memory]
            room = memory - weight_bytes(card, formats.weights)
            longest = room / 16 / float(kv_bytes(card, 1.0, formats.kv))
            first = beyond[0] if beyond else None
            exceeded[task.name, formats.kv] = first
            rows.append(
                (
                    task.name, formats.kv, f"{context:,.0f}", f"{float(kv_bytes(card, context, formats.kv)) / GB:.2f}",
                    f"{first}" if first else f"> {BATCHES[-1]}", f"{longest:,.0f}",
                )
            )  # fmt: skip
            if formats.kv == "bf16":
                curves.append(Series(task.name, BATCHES, (used / GB).tolist()))
    agents = [name for name in ("web-use", "computer-use", "coding", "coding-extreme")]
    modest = [name for name in agents if (exceeded[name, "bf16"] or 1e9) <= 16]
    verdict = SUPPORTED if len(modest) > len(agents) / 2 else REFUTED
    return Finding(
        "T2",
        "Does the footprint of agent workflows exceed one B200, and from which batch on?",
        "Llama-3.1-70B, median context of each preset, one B200 of 193 GB; weights and KV in BF16 and in FP8.",
        (
            "workflow",
            "precision",
            "context p50",
            "KV per request, GB",
            "batch that exceeds it",
            "longest context at B = 16",
        ),
        rows,
        "at batch 16: contexts above "
        + ", ".join(f"{row[5]} tokens ({row[1].upper()})" for row in rows if row[0] == "coding"),
        "Figure 2: most agents' CF exceeds one B200 (192 GB) at modest batch (notes A, C of the paper).",
        verdict,
        f"{len(modest)} of {len(agents)} agent presets exceed it at a batch of 16 or less in BF16.",
        "half of the agent presets or fewer exceeding one B200 at batch 16.",
        (Plot("footprint", "batch", "GB", curves, True, True, ("one B200", memory / GB)), _quadrants(instance)),
        {f"batch {name} {kv}": float(b or np.inf) for (name, kv), b in exceeded.items()},
        optima=False,
    )


def _quadrants(instance: Instance) -> Plot:
    """Figure 1 from our model: intensity and footprint of each workflow's prefill and decode, 16 sequences at once."""
    part, card, formats = instance.hardware[0].accelerator, instance.models[0].card, Formats("bf16", "bf16", "bf16")
    points = []
    for task in instance.tasks:
        context = task.context.quantile(0.5)
        new = min(task.append.quantile(0.5), context)
        held = float(cf_request(card, 16, context, formats)) / GB
        decode = float(decode_work(card, 16, context, formats).intensity)
        prefill = float(prefill_work(card, 1, new, context - new, formats).intensity)
        cold = float(prefill_work(card, 1, context, 0.0, formats).intensity)
        points.append(Series(task.name, (decode, prefill, cold), (held,) * 3))
    return Plot(
        "quadrants", "operational intensity, FLOP/B: decode, prefill after a hit, prefill without",
        "footprint per request at batch 16, GB", points,
        True, True, ("a sixteenth of one B200", part.memory_capacity / 16 / GB),
        upright=("ridge of a B200 in BF16", (part.fp16_flops or 0) / part.memory_bandwidth), kind="points",
    )  # fmt: skip


def t6() -> Finding:
    """Attention kinds and KV bits in the quadrants."""
    instance = resolve(stated("T6"))
    context = instance.tasks[0].context.quantile(0.5)
    rows, footprints = [], []
    intensity: dict[tuple[str, str], float] = {}
    held: dict[tuple[str, str], float] = {}
    for model in instance.models:
        for kv in model.kv:
            formats = Formats("fp8", "bf16", kv)
            intensity[model.name, kv] = float(attention_decode_work(model.card, context, 1, formats).intensity)
            held[model.name, kv] = float(kv_bytes(model.card, context, kv))
            rows.append((model.name, kv, f"{held[model.name, kv] / GB:.2f}", f"{intensity[model.name, kv]:.1f}"))
        footprints.append(Series(model.name, CONTEXTS, [float(kv_bytes(model.card, c, "bf16")) / GB for c in CONTEXTS]))
    read, kept = _sparsity(stated("T6"))
    for share, one, other in zip(SHARES, read, kept, strict=True):
        what = f"mha, fleet with 1/{1 / share:.0f} of the KV"
        rows.append((what, "fp8", f"held and read: {other:,.0f} $/h", f"read alone: {one:,.0f} $/h"))
    down = held["mha", "bf16"] > held["gqa", "bf16"] > held["mla", "bf16"] > held["mla", "fp8"]
    up = intensity["mha", "bf16"] < intensity["gqa", "bf16"] < intensity["mla", "bf16"] < intensity["mla", "fp8"]
    accelerator = instance.hardware[0].accelerator
    return Finding(
        "T6",
        "Do MLA, GQA and fewer KV bits move decode out of the low-OI, high-CF quadrant?",
        f"One decode step of attention at {context:,.0f} tokens (median of the coding preset), one sequence. Sparsity "
        "as an axis: the coding fleet (1 task/s) on B200, the multi-head card reading a share of its KV, or holding no "
        "more.",
        ("attention", "KV", "GB per request", "OI of decode attention, FLOP/B"),
        rows,
        "MLA in BF16 reaches the ridge of a B200 in BF16 "
        f"({(accelerator.fp16_flops or 0) / accelerator.memory_bandwidth:.0f} FLOP/B) nearly; GQA stays below a "
        f"tenth of it. Reading a 64th of the KV saves {percent(1 - read[-1] / read[0])} of the fleet's cost, "
        f"holding and reading a 64th {percent(1 - kept[-1] / kept[0])}",
        "closed forms: MHA 1, GQA-8 8, MLA absorbed about 242 FLOP/B at FP16; figure 3 (MHA steepest, MLA almost "
        "flat). A hardware author's reply: indexed and sparse attention with speculation shrink CF some 128-fold.",
        SUPPORTED if down and up else REFUTED,
        "bytes fall and intensity rises from MHA to GQA to MLA and again with KV in FP8. Sparse attention (a "
        "top-2,048 "
        f"of the context) holds {held['sparse', 'fp8'] / held['mla', 'fp8']:.2f} times the bytes of MLA: it cuts "
        "reads, not CF.",
        "an order other than MHA > GQA > MLA in bytes, or other than MHA < GQA < MLA in intensity.",
        (
            Plot("kv-by-context", "context, tokens", "KV per request, GB (BF16)", footprints, True, True),
            Plot(
                "fleet-by-sparsity", "KV read or held, share of the dense one", "least $/h of the coding fleet",
                (Series("reads less, holds all", SHARES, read), Series("holds and reads less", SHARES, kept)),
                True, True,
            ),
        ),
        {f"OI {name} {kv}": value for (name, kv), value in intensity.items()}
        | {f"$/h reading {share:g}": cost for share, cost in zip(SHARES, read, strict=True)}
        | {f"$/h holding {share:g}": cost for share, cost in zip(SHARES, kept, strict=True)},
    )  # fmt: skip


SHARES = (1.0, 1 / 4, 1 / 16, 1 / 64)


def _sparsity(problem: Problem) -> tuple[list[float], list[float]]:
    """Least $/h of the coding fleet where attention reads a share of its KV, and where that share is all that there is.

    The card is that of multi-head attention.  Reading less is a top-k of the context with an indexer of no weight to
    speak of; holding less is fewer KV heads, whose reads fall with it.
    """
    task = problem.tasks[0].name
    alone = {f"tasks.{task}.models": ["mha"], "models.mha.kv": ["fp8"]}
    context = resolve(problem).tasks[0].context.quantile(0.5)
    read, kept = [], []
    for share in SHARES:
        sparse: dict[str, Any] = {"models.mha.sparse_topk": round(share * context)} | {
            "models.mha.sparse_index_heads": 1, "models.mha.sparse_index_dim": 1} if share < 1 else {}  # fmt: skip
        read.append(least(problem, alone | sparse))
        kept.append(least(problem, alone | {"models.mha.kv_heads": round(64 * share)}))
    return read, kept


def t7() -> Finding:
    """Dense against mixture of experts of about the same active size."""
    instance = resolve(stated("T7"))
    cards = {model.name: (model.card, model.weights[0]) for model in instance.models}
    context = instance.tasks[0].context.quantile(0.5)
    rows, curves, held = [], [], []
    recovered: dict[str, float] = {}
    at_16: dict[str, tuple[float, float]] = {}
    fine = np.unique(np.round(np.geomspace(1, 16384, 400)))
    for name, (card, weights) in cards.items():
        formats = Formats(weights, "bf16", "fp8")
        curves.append(Series(name, BATCHES, _per_weight(card, formats, np.array(BATCHES), context).tolist()))
        held.append(Series(name, BATCHES, (cf_request(card, np.array(BATCHES), context, formats) / GB).tolist()))
        at_16[name] = (
            float(decode_work(card, 16, context, formats, "ffn").intensity),
            float(cf_request(card, 16, context, formats)) / GB,
        )
        rows.append(
            (
                name,
                card.id,
                f"{weight_bytes(card, weights) / GB:.0f}",
                f"{at_16[name][0]:.1f}",
                f"{at_16[name][1]:.2f}",
            )
        )
    for moe, dense in (("moe", "dense"), ("moe-large", "dense-large")):
        sparse = decode_work(cards[moe][0], fine, context, Formats(cards[moe][1], "bf16", "fp8"), "ffn").intensity
        whole = decode_work(cards[dense][0], 16, context, Formats(cards[dense][1], "bf16", "fp8"), "ffn").intensity
        reached = fine[sparse >= whole]
        recovered[moe] = float(reached[0]) if len(reached) else np.inf
    pairs = (("moe", "dense"), ("moe-large", "dense-large"))
    lower = all(at_16[moe][0] < at_16[dense][0] for moe, dense in pairs)
    higher = all(at_16[moe][1] > at_16[dense][1] for moe, dense in pairs)
    return Finding(
        "T7",
        "Does a mixture of experts lower OI and raise CF against a dense model of equal active size, and when "
        "does it recover?",
        f"FFN of one decode step under uniform routing; CF at batch 16 and {context:,.0f} tokens (median of the "
        "chat preset).",
        ("model", "card", "weights, GB", "OI of the FFN at batch 16", "CF per request at batch 16, GB"),
        rows,
        "the FFN intensity of the dense model at batch 16 is reached at batch "
        + ", ".join(f"{batch:,.0f} by {cards[name][0].id}" for name, batch in recovered.items()),
        "figure 4: DeepSeek-R1 lower OI, 100+ GB per request at batch 16 (BF16); SHIP notes: batch of 1,000 or "
        "more for gpt-oss-120b.",
        SUPPORTED if lower and higher else REFUTED,
        "both pairs have lower intensity and a larger footprint at batch 16.",
        "a mixture of experts with the higher intensity or the smaller footprint of its pair at batch 16.",
        (
            Plot("ffn-intensity", "batch", "OI of the FFN, FLOP/B", curves, True, True),
            Plot(
                "footprint", "batch", "CF per request, GB", held, True, True,
                published=("figure 4, at 16: 100+ GB", 100),
            ),
        ),
        {f"batch that recovers {name}": batch for name, batch in recovered.items()},
        optima=False,
    )  # fmt: skip


def _per_weight(card: ModelCard, formats: Formats, batch: np.ndarray, context: float) -> np.ndarray:
    return np.asarray(decode_work(card, batch, context, formats, "ffn").intensity)
