"""T1, T3, T4, T11, T12: what whole fleets decide, by their least cost over every configuration."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from hypotheses_lab import (
    REFUTED,
    SUPPORTED,
    Finding,
    Plot,
    Series,
    crossing,
    least,
    least_at_ratio,
    percent,
    servers,
    stated,
    whole,
    without,
)

from codesign.candidates.build import Candidates, build_candidates
from codesign.check import check
from codesign.check.plan import read_plan
from codesign.check.report import Findings
from codesign.extremes import most_rate
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import solve
from codesign.problem import Problem, resolve
from codesign.solution import Solution
from codesign.solution.build import build_solution
from codesign.workload.intensity import Formats, prefill_work

LOW = 0.30
"""Below this share a resource idles."""
HITS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.94, 0.96, 0.98)


def t1() -> Finding:
    """The wall on real parts: capacity full, FLOPs and bandwidth idle; and what a model without it would plan."""
    problem = stated("T1")
    plan = solve(problem)
    rows = []
    walled = 0.0
    roles = set()
    read = _prefill_bandwidth(problem, plan)
    for pool in plan.fleet:
        use = pool.utilization
        # A prefill pool reports no bandwidth: what its prompts move is reckoned here.  Unknown is never idle.
        moved = use.bandwidth if use.bandwidth is not None else read.get(pool.pool)
        idle = use.compute is not None and moved is not None and max(use.compute, moved) < LOW
        if pool.binding == "capacity" and idle:
            walled += pool.cost_per_hour
            roles.add(pool.role)
        rows.append(
            (
                pool.pool,
                f"{pool.accelerators} × {pool.accelerator}",
                f"{100 * use.compute:.1f} %" if use.compute is not None else "–",
                f"{100 * moved:.1f} %" if moved is not None else "–",
                f"{100 * (use.capacity or 0):.0f} %",
                pool.binding,
                f"{pool.cost_per_hour:,.0f}",
            )
        )
    serving = sum(pool.cost_per_hour for pool in plan.fleet)
    with_rows, without_rows, broken = _without_capacity(problem)
    worth = {what: _more_memory(problem, with_rows, field, factor) for what, field, factor in (
        ("10 % more GB", "memory_capacity", 1.1), ("10 % more GB/s", "memory_bandwidth", 1.1))}  # fmt: skip
    found = walled > 0.1 * serving and without_rows < 0.95 * with_rows and broken > 0
    return Finding(
        "T1",
        "Do agents on real parts fill the memory while FLOPs and bandwidth idle, and does a model without "
        "capacity mislead?",
        "Coding preset, 2 tasks/s, Qwen3-Coder-480B (GQA) in FP8 on H200, B200, B300 and MI355X; KV waits on the "
        "replica "
        f"between calls. A solved plan (gap {100 * (plan.objective.gap or 0):.2f} %), then relaxations.",
        ("pool", "accelerators", "MFU", "MBU", "capacity", "binds", "$/h"),
        rows,
        f"without capacity rows the least cost is {without_rows:,.0f} $/h instead of {with_rows:,.0f} "
        f"({percent(without_rows / with_rows - 1)}), and the plan breaks {broken} requirements of the independent "
        "check; " + ", ".join(f"{what} saves {percent(saved)}" for what, saved in worth.items()),
        "the paper's wall: FLOPs are low before the bandwidth ceiling is reached; MFU and MBU both low (notes A, "
        "B, C).",
        SUPPORTED if found else REFUTED,
        f"{100 * walled / serving:.0f} % of the money stands in pools where capacity binds and MFU and MBU are below "
        f"{100 * LOW:.0f} %: memory full of sessions that wait for their tools, on "
        f"{', '.join(sorted(roles)) or 'no'} pools. "
        "Pools of other roles read their memory hard (MBU above) or are bound by their queue.",
        "less than a tenth of the money in such pools, or the same least cost (within 5 %) without capacity rows.",
        (_worth_by_life(problem),),
        {"walled": walled / serving, "without": without_rows / with_rows, **worth},
        optima=False,
    )


LIVES = (60, 300, 900, 3600)
"""Seconds for which the KV of a waiting session is kept."""


def _worth_by_life(problem: Problem) -> Plot:
    """Share of the cost that a share more GB or GB/s saves, on one part with 141 GB and one with 288 GB."""
    lines = []
    for part in ("h200", "mi355x"):
        alone = without(problem, "hardware", [part])
        chip = next(option.accelerator for option in resolve(problem).hardware if option.name == part)
        more = {
            "GB": {f"hardware.{part}.memory_capacity": f"{1.05 * chip.memory_capacity / 1e9} GB"},
            "GB/s": {f"hardware.{part}.memory_bandwidth": f"{1.05 * chip.memory_bandwidth / 1e9} GB/s"},
        }
        saved: dict[str, list[float]] = {word: [] for word in more}
        for life in LIVES:
            at = alone | {"tasks.coding.prefix.ttl": f"{life} s"}
            base = least(problem, at)
            for word, change in more.items():
                saved[word].append((1 - least(problem, at | change) / base) / 0.05)
        lines += [Series(f"{part}, {word}", LIVES, shares) for word, shares in saved.items()]
    return Plot("worth-by-time-to-live", "KV kept for, s", "share of cost saved per share more", lines, True)


def _prefill_bandwidth(problem: Problem, plan: Solution) -> dict[str, float]:
    """MBU of each prefill pool: weights once per prompt, cached KV read, new KV written (workload/intensity.py)."""
    read = read_plan(resolve(problem), plan, Findings())
    found = {}
    for name, pool in read.modelled.items():
        precision = pool.entry.precision
        if pool.entry.role != "prefill" or precision is None:
            continue
        formats = Formats(precision.weights, precision.activations, precision.kv)
        moved = 0.0
        for route in read.routes_of(pool):
            prompts = route.calls.prompts()
            work = prefill_work(pool.model.card, 1, prompts.new, prompts.cached, formats)
            moved += route.calls.rate * prompts.mean(work.bytes)
        found[name] = moved / (pool.option.accelerator.memory_bandwidth * pool.entry.accelerators)
    return found


def _without_capacity(problem: Problem) -> tuple[float, float, int]:
    """Least $/h with and without the rows of memory, and what `check` says of a plan that ignores them."""
    candidates = build_candidates(resolve(problem))
    blocks = []
    for block in candidates.data.blocks:
        rows = np.array([name.startswith("capacity") for name in block.row_names])
        blocks.append(replace(block, limit=np.where(rows[None, :], 1e6 * block.limit, block.limit)))
    blind = replace(candidates, data=replace(candidates.data, blocks=tuple(blocks)))
    values = [relax(strengthened(data), time.monotonic() + 60).bound for data in (candidates.data, blind.data)]
    return values[0], values[1], _violations(problem, blind)


def _violations(problem: Problem, candidates: Candidates) -> int:
    plan = solve_fleet(candidates.data, gap=0.05, time_limit=20.0)
    solution = build_solution(candidates, plan, problem.name, "", {})
    return sum("memory" in violation.what for violation in check(problem, solution).violations)


def _more_memory(problem: Problem, base: float, field: str, factor: float) -> float:
    """Share that a better memory on every part saves at unchanged prices."""
    instance = resolve(problem)
    changes = {}
    for option in instance.hardware:
        unit = "GB" if field == "memory_capacity" else "GB/s"
        changes[f"hardware.{option.name}.{field}"] = f"{getattr(option.accelerator, field) * factor / 1e9} {unit}"
    return 1.0 - least(problem, changes) / base


def t3() -> Finding:
    """Several kinds of accelerator against one kind, and throughput at equal cost and power."""
    problem = stated("T3")
    names = list(problem.hardware)
    alone = {name: least(problem, without(problem, "hardware", [name])) for name in names}
    mixed = least(problem)
    apart = least(problem, {"options.disaggregation": "always"})
    together = least(problem, {"options.disaggregation": "never"})
    best = min(alone, key=lambda name: alone[name])
    rows = [(f"{name} alone", f"{cost:.2f}", percent(1 - cost / alone[best])) for name, cost in alone.items()]
    for word, cost in (("all, colocated only", together), ("all, phases apart", apart), ("all, as decided", mixed)):
        rows.append((word, f"{cost:.2f}", percent(1 - cost / alone[best])))
    saving = 1 - mixed / alone[best]
    cheaper, turn = _cheaper_helper(problem, best)
    rows += [
        (f"{best} and rtx-pro at {share:.0%} of its price", f"{cost:.2f}", percent(1 - cost / alone[best]))
        for share, cost in zip(SHARES, cheaper, strict=True)
    ]
    gains, together_gains = _at_equal_cost(problem)
    rows += [
        (f"a100 at {share:.0%} of an h100's price: a100 + h100 against the better of both, rate at 100 $/h and 100 kW",
         f"{gain:.2f} times; {mixed_gain:.2f} times the colocated one", "")
        for share, gain, mixed_gain in zip(PRICES, gains, together_gains, strict=True)
    ]  # fmt: skip
    plans = [
        whole(f"{word}, {rate} calls/s", problem, {"tasks.chat.rate": f"{rate}/s"} | kept)
        for rate in (40, 400)
        for word, kept in (("all kinds", {}), (f"{best} alone", without(problem, "hardware", [best])))
    ]
    pays = crossing(PRICES, [gain - 1.05 for gain in gains])
    return Finding(
        "T3",
        "Do accelerators of different kinds for prefill and decode lower cost at equal SLOs?",
        "Chat with Llama-3.1-70B in FP8, 40 calls/s, TTFT p95 1 s, TPOT p95 40 ms; rental prices of 2026-08; "
        "relaxation.",
        ("fleet", "$/h", "saving against the best single kind"),
        rows,
        f"mixture against the best single kind ({best}): {percent(saving)}; an RTX PRO beside it saves more than 1 % "
        + (f"below {turn:.0%} of its price" if turn else f"at no price down to {SHARES[-1]:.0%} of today's")
        + "; A100 + H100 carry 5 % more than the better of the two alone (equal cost and power) "
        + (f"where an A100 costs less than {pays:.0%} of an H100" if pays else "at no price ratio tried")
        + f", {max(gains):.2f} times at most, {max(together_gains):.2f} times against colocated fleets of one kind",
        "SPAD: 19 to 41 % less hardware cost; Splitwise: 1.4 times the throughput at 20 % less cost, 2.35 times "
        "at equal "
        "cost and power (in its own prices of 2023).",
        SUPPORTED if saving >= 0.05 else f"depends on prices: {percent(saving)} here" if saving > 0.01 else REFUTED,
        f"the best fleet of one kind is {best} at {alone[best]:.2f} $/h, that of all kinds {mixed:.2f}. Where a fleet "
        "is a few servers, a second kind may still round better: in whole servers "
        + ", ".join(f"{p.setting} {p.plan:.1f} $/h" for p in plans if p.plan is not None)
        + ".",
        "a mixture that saves less than 1 %; between 1 and 5 % the verdict is 'depends'.",
        (
            Plot(
                "rate-at-equal-cost", "price of an A100, share of an H100's", "rate of A100 + H100, 100 $/h and 100 kW",
                (Series("against the better of both", PRICES, gains),
                 Series("against the better of both, colocated", PRICES, together_gains)),
                level=("no gain", 1.0), published=("Splitwise: 2.35", 2.35),
            ),
            Plot(
                "saving-by-price", "price of an RTX PRO, share of today's", f"saving beside {best}",
                (Series("RTX PRO offered", SHARES, [1 - cost / alone[best] for cost in cheaper]),),
                level=("no saving", 0.0), published=("SPAD: 19 % at least", 0.19),
            ),
        ),
        {"saving": saving, **{f"gain at {share:g}": gain for share, gain in zip(PRICES, gains, strict=True)}},
        plans=plans,
    )  # fmt: skip


SHARES = (1.0, 0.75, 0.5, 0.25)
"""Of the price of a part that may help another."""
PRICES = (0.2, 0.3, 0.4, 0.6, 0.8)
"""Of an A100, as shares of an H100's."""


def _cheaper_helper(problem: Problem, best: str) -> tuple[list[float], float | None]:
    """Least $/h of the best part and an RTX PRO at shares of its price, and the share at which it saves 1 %."""
    pair = without(problem, "hardware", [best, "rtx-pro"])
    listed = next(option for option in resolve(problem).hardware if option.name == "rtx-pro").offers[0]
    today = listed.usd_per_accelerator_hour or 0.0
    costs = [least(problem, pair | {"hardware.rtx-pro.price": f"{share * today} $/h"}) for share in SHARES]
    alone = least(problem, without(problem, "hardware", [best]))
    return costs, crossing(SHARES, [1 - cost / alone - 0.01 for cost in costs])


def _at_equal_cost(problem: Problem) -> tuple[list[float], list[float]]:
    """Rate of A100 + H100 in 16 bit, against the better of both alone: phases as decided, and colocated alone."""

    def rate(kept: list[str], share: float, phases: str) -> float:
        prices = {"a100": f"{2.0 * share} $/h", "h100": "2 $/h"}
        changes = without(problem, "hardware", kept) | {
            "site.power": "100 kW",
            "limits.budget.cost_per_hour": "100 $/h",
            "models.m.weights": ["bf16"],
            "options.disaggregation": phases,
        }
        changes |= {f"hardware.{name}.price": prices[name] for name in kept}
        return most_rate(build_candidates(resolve(problem.replace(changes))).data, time.monotonic() + 60)

    free, colocated = [], []
    for share in PRICES:
        both = rate(["a100", "h100"], share, "decide")
        free.append(both / max(rate([name], share, "decide") for name in ("a100", "h100")))
        colocated.append(both / max(rate([name], share, "never") for name in ("a100", "h100")))
    return free, colocated


def t4() -> Finding:
    """The prefill chip's saving against the hit ratio, bought freely or in the ratio that is best without hits."""
    problem = stated("T4")
    homogeneous, offered, forced = [], [], []
    uncached = servers(problem, {"tasks.coding.prefix.hit": HITS[0]})
    ratio = uncached["prefill-chip"] / uncached["h100"]
    for hit in HITS:
        at = {"tasks.coding.prefix.hit": hit}
        homogeneous.append(least(problem, at | without(problem, "hardware", ["h100"])))
        offered.append(least(problem, at))
        forced.append(least_at_ratio(problem, at, ("prefill-chip", "h100"), ratio))
    choice = [1 - b / a for a, b in zip(homogeneous, offered, strict=True)]
    sign = [1 - b / a for a, b in zip(homogeneous, forced, strict=True)]
    turn = crossing(HITS, sign)
    rows = [
        (f"{hit:.2f}", f"{a:,.0f}", f"{b:,.0f}", percent(x), f"{c:,.0f}", percent(y))
        for hit, a, b, x, c, y in zip(HITS, homogeneous, offered, choice, forced, sign, strict=True)
    ]
    agents = [x for hit, x in zip(HITS, choice, strict=True) if 0.94 <= hit <= 0.96]
    if turn is not None:
        verdict = f"depends on the hit ratio: the sign turns at {turn:.2f}"
    elif max(choice[:1]) > 4 * max(agents):
        verdict = (
            f"depends on the hit ratio: {percent(choice[0])} without hits, {percent(max(agents))} at agents' 94-96 %"
        )
    else:
        verdict = SUPPORTED if min(sign) > 0 else REFUTED
    return Finding(
        "T4",
        "What does a prefill chip save, against the prefix hit ratio?",
        "Coding preset, 2 tasks/s, Qwen3-235B in FP8, TTFT p95 60 s; H100 at 1.78 $/h, SPAD's prefill chip at 48 "
        "% of it. "
        f"'offered': it may be bought; 'rack': {ratio:.2f} chips to one H100, as is best without a cache. "
        "Relaxation.",
        ("hit ratio", "H100 alone, $/h", "chip offered, $/h", "saving", "rack, $/h", "saving"),
        rows,
        f"the sign of the rack turns at a hit ratio of {turn:.2f}; the offered chip still saves "
        f"{percent(choice[-2])} at 96 %"
        if turn is not None
        else f"no change of sign; the chip saves {percent(choice[0])} at no hits, {percent(choice[-2])} at 96 %",
        "SPAD: 19 to 41 % less hardware cost (no prefix cache); traces of coding agents hit 94 to 96 % "
        "(TraceLab, WEKA, vLLM); "
        "NVIDIA withdrew Rubin CPX in March 2026.",
        verdict,
        "prefill demand falls with every hit, and with it what the chip can save.",
        "a saving of one sign at every hit ratio that keeps a quarter of its size at agents' 94 to 96 %.",
        (
            Plot(
                "saving-by-hit-ratio", "prefix hit ratio", "saving",
                (Series("offered", HITS, choice), Series("rack of the best ratio without hits", HITS, sign)),
                level=("no saving", 0.0), published=("SPAD: 41 % at most", 0.41),
            ),
        ),
        {f"offered at {hit}": x for hit, x in zip(HITS, choice, strict=True)},
        plans=[
            whole(f"{word}, hit ratio {hit:.2f}", problem, {"tasks.coding.prefix.hit": hit} | kept)
            for hit in (0.0, 0.96)
            for word, kept in (("H100 alone", without(problem, "hardware", ["h100"])), ("chip offered", {}))
        ],
    )  # fmt: skip


def t11() -> Finding:
    """Least cost per task by the size of the scale-up domain, at several TPOTs."""
    problem = stated("T11")
    domains, tpots = (8, 16, 32, 72), (10, 15, 20, 30, 50)
    rows, curves = [], []
    worth: dict[int, float] = {}
    for tpot in tpots:
        costs = [
            least(problem, {"hardware.gpu.scaleup_domain": n, "tasks.reasoning.slo.tpot.p95": f"{tpot} ms"})
            for n in domains
        ]
        base = costs[0]
        # Cost is in proportion to the price of the accelerator: this premium makes the large domain as dear as 8.
        possible = np.isfinite(costs[-1])
        worth[tpot] = (2.60 * max(0.0, base / costs[-1] - 1) if np.isfinite(base) else np.inf) if possible else 0.0
        rows.append(
            (
                f"{tpot} ms",
                *(f"{1e3 * c:.3f}" if np.isfinite(c) else "no plan" for c in costs),
                percent(1 - costs[-1] / base) if np.isfinite(base) else "only there" if possible else "–",
                (f"{worth[tpot]:.2f}" if np.isfinite(worth[tpot]) else "any") if possible else "–",
            )
        )
        if all(np.isfinite(costs)):
            curves.append(Series(f"TPOT {tpot} ms", domains, [c / base for c in costs]))
    gains = [tpot for tpot in tpots if worth[tpot] > 0.02 * 2.60]
    verdict = (
        SUPPORTED if len(gains) == len(tpots) else
        f"depends on TPOT: pays at {', '.join(map(str, gains))} ms" if gains else REFUTED
    )  # fmt: skip
    half = [least(problem, {"hardware.gpu.scaleup_bandwidth": f"{450 * f} GB/s"}) for f in (1, 2, 4)]
    rows.append(
        (
            "20 ms, domain 72",
            *(f"{b} GB/s: {1e3 * c:.3f}" for b, c in zip((450, 900, 1800), half, strict=True)),
            "",
            "",
            "",
        )
    )
    return Finding(
        "T11",
        "At which TPOT does a larger scale-up domain lower the cost per task, and what may its links cost?",
        "DeepSeek-V3.2, reasoning (p50 4K in, mean 2K out), GB200 at 2.60 $/h with its domain cut to 8, 16, 32 "
        "or left at 72; "
        "replicas of up to 64. Relaxation; the last row varies the bandwidth per direction (450, 900, 1,800 GB/s).",
        (
            "TPOT p95",
            *(f"domain {n}, $ per 1,000 tasks" for n in domains),
            "72 against 8",
            "worth, $ per accelerator-hour",
        ),
        rows,
        "break-even premium of 72 over 8: "
        + ", ".join(f"{w:.2f} $/h at {t} ms" if np.isfinite(w) else f"any at {t} ms" for t, w in worth.items()),
        "the abstract's 'broader scale up networking'; GB200 NVL72 rents at the price of an 8-GPU B200 (2.60 "
        "$/h, 2026-08).",
        verdict,
        "larger domains allow more ranks of tensor and expert parallelism, whose value grows as TPOT tightens.",
        "no premium above 2 % of the price at any TPOT.",
        (Plot("cost-by-domain", "accelerators in the domain", "cost per task against domain 8", curves, True),),
        {f"worth at {tpot} ms": value for tpot, value in worth.items()},
        plans=[
            whole(f"domain {n}, TPOT 20 ms", problem, {"hardware.gpu.scaleup_domain": n,
                                                       "tasks.reasoning.slo.tpot.p95": "20 ms"})
            for n in (8, 72)
        ],
    )  # fmt: skip


def t12() -> Finding:
    """Agent side and fleet together, against one after the other."""
    problem = stated("T12")
    instance = resolve(problem)
    task = instance.tasks[0]
    active = {model.name: model.card for model in instance.models}
    together = least(problem)
    data = {variant.name: variant for variant in task.variants}

    def only(variant: str) -> dict[str, object]:
        kept = [
            v.model_dump(mode="json", exclude_unset=True) for v in problem.tasks[0].variants or [] if v.name == variant
        ]
        return {"tasks.coding.variants": kept}

    by_variant = {name: least(problem, only(name)) for name in data}

    def flops(name: str) -> float:
        from codesign.workload.parameters import parameter_counts

        variant = data[name]
        return float(parameter_counts(active[variant.model]).active) * variant.calls_factor

    first = {
        "agent first, by quality": max(data, key=lambda n: (data[n].quality, -by_variant[n])),
        "agent first, by FLOPs per task": min(data, key=flops),
    }
    parts = list(problem.hardware)
    # Hardware first: the part that serves the best agent at least cost; then the variants on that part.
    reference = only(first["agent first, by quality"])
    on_part = {part: least(problem, reference | without(problem, "hardware", [part])) for part in parts}
    chosen = min(on_part, key=lambda part: on_part[part])
    hardware_first = least(problem, without(problem, "hardware", [chosen]))
    rows = [("together", "as decided", f"{together:,.1f}", "")]
    orders = {order: by_variant[name] for order, name in first.items()}
    rows += [(order, first[order], f"{cost:,.1f}", percent(1 - together / cost)) for order, cost in orders.items()]
    orders["hardware first"] = hardware_first
    rows.append(("hardware first", chosen, f"{hardware_first:,.1f}", percent(1 - together / hardware_first)))
    rows += [(f"variant {name} alone", name, f"{cost:,.1f}", "") for name, cost in by_variant.items()]
    savings = {order: 1 - together / cost for order, cost in orders.items()}
    worst, best = max(savings.values()), min(savings.values())
    if best > 0.02:
        verdict = SUPPORTED
    elif worst > 0.02:
        losing = ", ".join(order for order, saved in savings.items() if saved > 0.02)
        verdict = f"depends on the order: loses with {losing}"
    else:
        verdict = REFUTED
    return Finding(
        "T12",
        "Does choosing agent (model, context, calls) and fleet together beat one after the other, at equal least "
        "quality?",
        "Coding preset, 4 tasks/s, min_quality 0.86 (scores assumed), four models, compaction to 96K at 1.15 "
        "times the calls; "
        "six parts at rental prices of 2026-08. Relaxation.",
        ("order of decisions", "chosen first", "$/h", "saved by deciding together"),
        rows,
        ", ".join(f"{order}: {percent(saved)}" for order, saved in savings.items()),
        "the abstract's hypothesis 'agent-hardware co design'; no published figure.",
        verdict,
        "the joint optimum is never dearer by construction; what is tested is whether it is cheaper by more than "
        "2 %.",
        "2 % or less against every order.",
        (
            Plot(
                "cost-by-order", "order of decisions", "least $/h",
                (Series("fleet", list(range(len(orders) + 1)), [together, *orders.values()]),),
                kind="bars", words=["together", *orders],
            ),
        ),
        savings,
        plans=(
            whole("together", problem),
            whole("hardware first", problem, without(problem, "hardware", [chosen])),
            whole("agent first, by quality", problem, reference),
        ),
    )  # fmt: skip
