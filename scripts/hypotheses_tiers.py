"""T5, T8, T9, T10: memory beside the accelerators' own, and attention apart from feed-forward layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypotheses_lab import REFUTED, SUPPORTED, Finding, Plot, Series, crossing, least, percent, stated, whole, without

from codesign.catalog import memory_tiers, models
from codesign.problem import resolve
from codesign.workload.kvcache import kv_bytes
from codesign.workload.parameters import parameter_counts, weight_bytes

CONTEXTS = (16_000, 20_000, 25_000, 32_000, 64_000, 128_000, 256_000, 512_000, 900_000)
PRICES = {"2025": 2.2, "2026": 15.2}
"""$/GB of DDR5 behind CXL: 2.0 in mid 2025 and 13.8 in 2026 Q1, and 10 % for the controller."""
_PAYS = 0.01


def t5() -> Finding:
    """A pool against more accelerators, by context and by price of memory; and what optical memory may cost."""
    problem = stated("T5")
    rows, savings = [], {year: [] for year in PRICES}
    even = []
    for context in CONTEXTS:
        at: dict[str, Any] = {"tasks.agent.context": context}
        base = least(problem, at | {"memory": {}})
        for year, price in PRICES.items():
            change = at | without(problem, "memory", ["cxl"]) | {"memory.cxl.price": f"{price} $/GB"}
            savings[year].append(1 - least(problem, change) / base)
        even.append(_break_even(problem, at, base))
        rows.append(
            (
                f"{context:,}", f"{base:,.0f}", *(percent(savings[year][-1]) for year in PRICES),
                f"{even[-1]:.1f}" if even[-1] else "none pays",
            )
        )  # fmt: skip
    starts = {
        year: next((c for c, saved in zip(CONTEXTS, savings[year], strict=True) if saved > _PAYS), None)
        for year in PRICES
    }
    always = all(saved > _PAYS for year in PRICES for saved in savings[year])
    never = not any(saved > _PAYS for year in PRICES for saved in savings[year])
    # Price matters only where it moves the context at which the pool begins to pay.
    what = "context" if len(set(starts.values())) == 1 else "context and price"
    where = "; ".join(f"{year}: from {c:,} tokens" if c else f"{year}: nowhere" for year, c in starts.items())
    return Finding(
        "T5",
        "From which context, and at which price, does remote memory for parked KV beat more accelerators?",
        "Agents of 25 calls with waits of p50 30 s, Llama-4-Maverick in FP8, B200 and B300; the same context in "
        "every call. "
        "CXL memory at the DDR5 prices of mid 2025 (2.2 $/GB) and 2026 Q1 (15.2); break-even of an optical pool "
        "of 32 TB at "
        "14.4 TB/s. Parked KV only: neither active KV nor weights are put there. Relaxation.",
        ("context, tokens", "without, $/h", *(f"CXL saves, {year}" for year in PRICES), "optical break-even, $/GB"),
        rows,
        f"CXL saves more than {100 * _PAYS:.0f} %: {where}",
        "Celestial (simulated): 3.66 times the throughput for 405B and 7.04 for 1T; no price of optical memory "
        "was found.",
        SUPPORTED if always else REFUTED if never else f"depends on {what}: {where}",
        "memory that sessions wait in is cheaper per byte than HBM; what that is worth grows with the bytes that "
        "wait.",
        "no saving above 1 % at any context and price.",
        (
            Plot(
                "saving-by-context", "context, tokens", "saving of CXL memory",
                [Series(year, CONTEXTS, savings[year]) for year in PRICES], True, level=("no saving", 0.0),
            ),
            Plot(
                "optical-break-even", "context, tokens", "break-even price, $/GB",
                (Series("optical pool", CONTEXTS, [e or math.nan for e in even]),), True, True,
                level=("DDR5 of 2026 Q1", 13.8),
            ),
        ),
        {f"break-even {c}": e or 0.0 for c, e in zip(CONTEXTS, even, strict=True)},
        plans=[
            whole(f"{word}, 128,000 tokens", problem, {"tasks.agent.context": 128_000} | memory)
            for word, memory in (
                ("no pool", {"memory": {}}),
                ("CXL of 2026", without(problem, "memory", ["cxl"])),
            )
        ],
    )  # fmt: skip


def _break_even(problem: Any, at: dict[str, Any], base: float) -> float | None:
    """Highest price of the optical pool at which it is bought (found by halving), None where at none above 0.1 $/GB."""
    low, high = 0.1, 1000.0

    def saves(price: float) -> bool:
        change = at | without(problem, "memory", ["pool"]) | {"memory.pool.price": f"{price} $/GB"}
        return least(problem, change) < base * (1 - 1e-4)

    if not saves(low):
        return None
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if saves(middle) else (low, middle)
    return low


def t8() -> Finding:
    """Split decode against whole replicas, by the parts that stand beside each other."""
    problem = stated("T8")
    sets = {"H200 + RTX PRO": ["h200", "rtx-pro"], "H100 + H200": ["h100", "h200"], "B200 + B300": ["b200", "b300"]}
    sets["all five"] = list(problem.hardware)
    cards = {"Kimi-K2": {}, "Mixtral-8x22B": {"tasks.chat.context": {"p50": 500, "p90": 1500}}}
    rows, gains = [], {}
    for word, kept in sets.items():
        for card, changes in cards.items():
            at = without(problem, "hardware", kept) | changes | {"models.m.card": card}
            unsplit = least(problem, at | {"options.split_decode": "never"})
            split = least(problem, at)
            gains[word, card] = unsplit / split
            rows.append((word, card, f"{unsplit:,.1f}", f"{split:,.1f}", f"{unsplit / split:.3f}"))
    pair = without(problem, "hardware", sets["H200 + RTX PRO"])
    by_price = _split_by_price(problem, pair)
    turn = crossing(SHARES, [gain - 1.02 for gain in by_price])
    paying = [f"{word} ({card})" for (word, card), gain in gains.items() if gain > 1.02]
    verdict = SUPPORTED if len(paying) == len(gains) else f"depends on the parts: pays with {', '.join(paying)}"
    return Finding(
        "T8",
        "Do more than two kinds of accelerator help: attention, feed-forward layers and prefill apart?",
        "Kimi-K2 (p50 2K in) and Mixtral-8x22B (p50 500 in), mean 500 out, 100 calls/s, TPOT p95 150 ms; parts "
        "at rental prices "
        "of 2026-08; prefill has pools of its own in both. Relaxation.",
        ("parts on offer", "model", "whole replicas, $/h", "split allowed, $/h", "throughput per $ against whole"),
        rows,
        ", ".join(f"{gain:.3f} times with {word} ({card})" for (word, card), gain in gains.items() if gain > 1.001)
        + (f"; beside H200s the gain passes 2 % where an RTX PRO costs {turn:.0%} of today's" if turn else "")
        + f"; {max(by_price):.2f} times at {SHARES[by_price.index(max(by_price))]:.0%} of its price",
        "MegaScale-Infer: 1.90 times per GPU, 1.86 (v1) or 1.66 (published) times per cost, with H20 for "
        "attention and L40S for "
        "experts, against whole replicas of one kind.",
        verdict if paying else REFUTED,
        "attention wants bytes, experts want FLOPs: the split pays where one part on offer is cheap per byte of "
        "HBM and another "
        "per FLOP, and not where one part is best at both.",
        "no more than 2 % per $ with any set of parts.",
        (
            Plot(
                "gain-by-parts", "parts on offer", "throughput per $ against whole replicas",
                [Series(card, list(range(len(sets))), [gains[word, card] for word in sets]) for card in cards],
                level=("no gain", 1.0), published=("MegaScale-Infer: 1.66", 1.66), kind="bars", words=list(sets),
            ),
            Plot(
                "gain-by-price", "price of an RTX PRO, share of today's", "throughput per $ against whole replicas",
                (Series("Kimi-K2 on H200 + RTX PRO", SHARES, by_price),),
                level=("no gain", 1.0), published=("MegaScale-Infer: 1.66", 1.66),
            ),
        ),
        {f"gain with {word} ({card})": gain for (word, card), gain in gains.items()}
        | {f"gain at {share:g} of the price": gain for share, gain in zip(SHARES, by_price, strict=True)},
        plans=(
            whole("H200 + RTX PRO (Kimi-K2), whole replicas", problem, pair | {"options.split_decode": "never"}),
            whole("H200 + RTX PRO (Kimi-K2), split allowed", problem, pair),
        ),
    )  # fmt: skip


SHARES = (2.0, 1.5, 1.0, 0.6, 0.3)
"""Of today's price of the part that may take the experts."""


def _split_by_price(problem: Any, pair: dict[str, Any]) -> list[float]:
    """Throughput per $ of the split against whole replicas, by the price of the cheap part."""
    listed = next(option for option in resolve(problem).hardware if option.name == "rtx-pro").offers[0]
    found = []
    for share in SHARES:
        at = pair | {"hardware.rtx-pro.price": f"{share * (listed.usd_per_accelerator_hour or 0.0)} $/h"}
        found.append(least(problem, at | {"options.split_decode": "never"}) / least(problem, at))
    return found


def t9() -> Finding:
    """Recompute, keep in HBM and evict, or park in a tier, at three times to live."""
    problem = stated("T9")
    lives = ("1 min", "5 min", "1 h")
    recompute = least(problem, {"tasks.coding.prefix.reusable": 0, "memory": {}})
    rows: list[tuple[str, ...]] = [("recompute all", f"{recompute:,.0f}", "", "", "")]
    costs: dict[tuple[str, str], float] = {}
    kinds: dict[str, list[str]] = {"HBM alone": [], "+ DDR5": ["ddr5"], "+ NVMe": ["nvme"], "+ both": ["ddr5", "nvme"]}
    for word, kept in kinds.items():
        for life in lives:
            memory = without(problem, "memory", kept) if kept else {"memory": {}}
            costs[word, life] = least(problem, memory | {"tasks.coding.prefix.ttl": life})
        rows.append((word, *(f"{costs[word, life]:,.0f}" for life in lives), percent(1 - min(
            costs[word, life] for life in lives) / recompute)))  # fmt: skip
    rows[0] = ("recompute all", *[f"{recompute:,.0f}"] * 3, "")
    hbm = min(costs["HBM alone", life] for life in lives)
    parked = min(costs["+ both", life] for life in lives)
    best = {word: min(lives, key=lambda life: costs[word, life]) for word in kinds}
    saving = 1 - parked / hbm
    order = parked < hbm * 0.99 < recompute
    verdict = SUPPORTED if order else REFUTED if saving < 0.01 else "depends on price"
    return Finding(
        "T9",
        "Does parking the KV of suspended sessions in a slow tier beat eviction and recomputation?",
        "Coding preset, 2 tasks/s, Qwen3-Coder-480B in FP8 on H200, B200, B300; idle gaps as TraceLab measured "
        "them (85.4 % "
        "return within 1 min, 94 % within 5 min, 98.6 % within 1 h); DDR5 at 13.8 $/GB, NVMe at 0.2 $/GB. "
        "Relaxation.",
        ("KV between calls", *(f"ttl {life}, $/h" for life in lives), "best, against recomputing"),
        rows,
        f"parking saves {percent(saving)} against HBM alone; best times to live: "
        + ", ".join(f"{word} {life}" for word, life in best.items())
        + f"; throughput per $ {recompute / parked:.2f} times that of recomputing",
        "TraceLab: hits 85.4, 94, 98.6 % at 1 min, 5 min, 1 h; vLLM with Mooncake: 3.8 times the throughput of "
        "evicting.",
        verdict,
        "a byte in a module costs a fraction of a byte of HBM, and a reload takes less time than the prefill "
        "that it saves.",
        "parking saving less than 1 % against HBM alone, or HBM alone dearer than recomputing.",
        (
            Plot(
                "cost-by-ttl", "time to live, s", "$/h",
                [Series(word, (60, 300, 3600), [costs[word, life] for life in lives]) for word in kinds],
                True, level=("recompute all", recompute),
            ),
        ),
        {"saving": saving, "against recomputing": 1 - parked / recompute},
        plans=(
            whole("HBM alone, 5 min", problem, {"memory": {}, "tasks.coding.prefix.ttl": "5 min"}),
            whole("+ both, 1 h", problem, {"tasks.coding.prefix.ttl": "1 h"}),
        ),
    )  # fmt: skip


def t10() -> Finding:
    """Which data a tier may hold under a TPOT, and what flash for weights is worth."""
    problem = stated("T10")
    card = models()[problem.models["m"].card or ""]
    data = {
        "all weights (FP8)": weight_bytes(card, "fp8"),
        "weights read per token (active)": float(parameter_counts(card).active),
        "KV of 16 active sessions of 110K": 16 * float(kv_bytes(card, 110e3, "fp8")),
        "KV of one parked session of 110K": float(kv_bytes(card, 110e3, "fp8")),
    }
    rates = {
        name: memory_tiers()[name].bandwidth or 0.0 for name in ("hbm3e", "hbf", "optical-pool", "cxl-ddr5", "nvme-ssd")
    }
    rows = [(what, *(_time(size / rate) for rate in rates.values())) for what, size in data.items()]
    stacks, tpots = (2, 4, 8), (20, 40, 80)
    worth = {}
    for tpot in tpots:
        at = {"tasks.coding.slo.tpot.p95": f"{tpot} ms"}
        with_hbm = least(problem, at | without(problem, "hardware", ["hbm"]))
        for count in stacks:
            flash = {
                "hardware.hbf.weight_capacity": f"{512 * count} GB",
                "hardware.hbf.weight_bandwidth": f"{1.6 * count} TB/s",
            }
            with_hbf = least(problem, at | without(problem, "hardware", ["hbf"]) | flash)
            worth[tpot, count] = 2.60 * (with_hbm / with_hbf - 1) if math.isfinite(with_hbf) else -math.inf
    for count in stacks:
        texts = (f"{t} ms: {worth[t, count]:+.2f} $/h" for t in tpots)
        rows.append((f"worth of {count} stacks by TPOT", *texts, *[""] * (len(rates) - len(tpots))))
    paying = [f"{count} stacks at {tpot} ms" for (tpot, count), value in worth.items() if value > 0.02 * 2.60]
    life = 4 * 8766
    verdict = SUPPORTED if len(paying) == len(worth) else f"depends on stacks and TPOT: {', '.join(paying)}"
    verdict = verdict if paying else REFUTED
    return Finding(
        "T10",
        "Which data may live in high-bandwidth flash and other tiers under a TPOT?",
        "Kimi-K2 in FP8; time to read each kind of data once at the bandwidth of one unit of a tier. Then a B200 "
        "with 2, 4 or "
        "8 stacks of flash (512 GB, 1.6 TB/s each) for its weights against a plain one, coding preset, 2 "
        "tasks/s. Relaxation.",
        ("data", *rates),
        rows,
        "most that the flash may cost per accelerator: "
        + ", ".join(f"{v * life:,.0f} $ in 4 years ({n} stacks, {t} ms)" for (t, n), v in worth.items() if v > 0)
        if max(worth.values()) > 0
        else "the flash is worth nothing at any TPOT and number of stacks",
        "SanDisk: Llama-3.1-405B within 2.2 % of unlimited HBM (vendor); write endurance bars KV that changes "
        "per token; cost "
        "of an HBM stack at 8 to 16 times its capacity.",
        verdict,
        "flash that holds the weights leaves HBM to the KV cache, but every step waits for the weights that it "
        "streams.",
        "no worth above 2 % of the accelerator's price at any TPOT.",
        (
            Plot(
                "worth-of-flash", "stacks of flash", "worth, $/h per accelerator",
                [Series(f"TPOT {t} ms", stacks, [worth[t, n] for n in stacks]) for t in tpots], level=("nothing", 0.0),
            ),
        ),
        {f"worth of {count} stacks at {tpot} ms": value for (tpot, count), value in worth.items()},
    )  # fmt: skip


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms" if np.isfinite(seconds) else "–"
