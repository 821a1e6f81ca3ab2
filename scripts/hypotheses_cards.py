"""T2, T6, T7: what model cards alone decide, redrawn as the source paper's figures 2 to 4 from our model."""

from __future__ import annotations

import numpy as np
from hypotheses_lab import REFUTED, SUPPORTED, Finding, Plot, Series, stated

from codesign.catalog import ModelCard
from codesign.problem import resolve
from codesign.workload.intensity import Formats, attention_decode_work, cf_request, decode_work
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
        (Plot("footprint", "batch", "GB", curves, True, True, ("one B200", memory / GB)),),
        {f"batch {name} {kv}": float(b or np.inf) for (name, kv), b in exceeded.items()},
    )


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
    down = held["mha", "bf16"] > held["gqa", "bf16"] > held["mla", "bf16"] > held["mla", "fp8"]
    up = intensity["mha", "bf16"] < intensity["gqa", "bf16"] < intensity["mla", "bf16"] < intensity["mla", "fp8"]
    accelerator = instance.hardware[0].accelerator
    return Finding(
        "T6",
        "Do MLA, GQA and fewer KV bits move decode out of the low-OI, high-CF quadrant?",
        f"One decode step of attention at {context:,.0f} tokens (median of the coding preset), one sequence.",
        ("attention", "KV", "GB per request", "OI of decode attention, FLOP/B"),
        rows,
        "MLA in BF16 reaches the ridge of a B200 in BF16 "
        f"({(accelerator.fp16_flops or 0) / accelerator.memory_bandwidth:.0f} FLOP/B) nearly; GQA stays below a "
        "tenth of it.",
        "closed forms: MHA 1, GQA-8 8, MLA absorbed about 242 FLOP/B at FP16; figure 3 (MHA steepest, MLA almost "
        "flat).",
        SUPPORTED if down and up else REFUTED,
        "bytes fall and intensity rises from MHA to GQA to MLA and again with KV in FP8. Sparse attention (a "
        "top-2,048 "
        f"of the context) holds {held['sparse', 'fp8'] / held['mla', 'fp8']:.2f} times the bytes of MLA: it cuts "
        "reads, not CF.",
        "an order other than MHA > GQA > MLA in bytes, or other than MHA < GQA < MLA in intensity.",
        (Plot("kv-by-context", "context, tokens", "KV per request, GB (BF16)", footprints, True, True),),
        {f"OI {name} {kv}": value for (name, kv), value in intensity.items()},
    )


def t7() -> Finding:
    """Dense against mixture of experts of about the same active size."""
    instance = resolve(stated("T7"))
    cards = {model.name: (model.card, model.weights[0]) for model in instance.models}
    context = instance.tasks[0].context.quantile(0.5)
    rows, curves = [], []
    recovered: dict[str, float] = {}
    at_16: dict[str, tuple[float, float]] = {}
    fine = np.unique(np.round(np.geomspace(1, 16384, 400)))
    for name, (card, weights) in cards.items():
        formats = Formats(weights, "bf16", "fp8")
        curves.append(Series(name, BATCHES, _per_weight(card, formats, np.array(BATCHES), context).tolist()))
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
        (Plot("ffn-intensity", "batch", "OI of the FFN, FLOP/B", curves, True, True),),
        {f"batch that recovers {name}": batch for name, batch in recovered.items()},
    )


def _per_weight(card: ModelCard, formats: Formats, batch: np.ndarray, context: float) -> np.ndarray:
    return np.asarray(decode_work(card, batch, context, formats, "ffn").intensity)
