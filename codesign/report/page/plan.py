"""One plan as a document: the answer, what to buy, how it runs, what it costs, why, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from codesign.report.console import amount, joules, money, number, percent, quantity, worth
from codesign.report.page.blocks import Block, Cell, Document, Items, Section, Text, share_cell, table
from codesign.report.page.figures import costs
from codesign.report.page.flow import flow
from codesign.report.page.intensity import intensity_blocks
from codesign.report.page.simulated import Simulated
from codesign.report.page.words import answer
from codesign.report.plan import parallelism, served
from codesign.solution import Solution
from codesign.solution.labels import labelled, stage_of

if TYPE_CHECKING:
    from codesign.planner import Explanation
    from codesign.problem import Problem

METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "task_latency": "task latency"}
RESOURCES = ("compute", "bandwidth", "capacity", "link", "slots", "busy")
PHASES = {
    "prefill": "prefill",
    "decode": "decode",
    "parked_kv": "parked KV",
    "serve": "serving (measured)",
    "idle": "idle",
    "redundancy": "redundancy",
}


def plan_document(
    solution: Solution,
    problem: Problem | None = None,
    explanation: Explanation | None = None,
    simulated: Simulated | None = None,
) -> Document:
    """The document of a solution, whatever its status.

    `problem` adds the map of operational intensity and footprint, and the parts that stayed out;
    `explanation` says why they did; `simulated` is what simulations made of the promises.
    """
    sections = list(_without_plan(solution)) if solution.totals is None else []
    if solution.totals is not None:
        sections += _plan(solution, problem, explanation, simulated or Simulated())
    sections.append(_provenance(solution))
    return Document(
        solution.provenance.problem,
        answer(solution, simulated or Simulated()),
        tuple(_glance(solution)),
        tuple(section for section in sections if section.blocks),
        solution.status,
    )


def _plan(
    solution: Solution, problem: Problem | None, explanation: Explanation | None, simulated: Simulated
) -> Iterator[Section]:
    yield Section("buy", "What to buy", (_purchases(solution), *_memory(solution)))
    yield Section("fleet", "How it runs", tuple(_fleet(solution)))
    yield Section("routing", "Where the calls go", tuple(_routing(solution)))
    yield Section("tasks", "What a task costs", tuple(_tasks(solution)))
    yield Section("money", "Where the money goes", tuple(_split(solution)))
    yield Section("promises", "Latency promised and achieved", tuple(_promises(solution, simulated)))
    yield Section("resources", "What is in use, and what binds", (_resources(solution),))
    yield Section("intensity", "Why: operational intensity and footprint", tuple(intensity_blocks(solution, problem)))
    yield Section("worth", "What one more unit is worth", tuple(_worth(solution)))
    yield Section("parts", "Why not other parts", tuple(_not_chosen(explanation)))
    yield Section("accuracy", "How far to trust it", tuple(_accuracy(solution)))


def _without_plan(solution: Solution) -> Iterator[Section]:
    if solution.conflicts:
        yield Section(
            "conflicts",
            "What cannot hold together",
            (Items(solution.conflicts), Text("codesign explain says by how much each would have to give way.")),
        )


def _glance(solution: Solution) -> Iterator[tuple[str, str]]:
    objective, totals = solution.objective, solution.totals
    if totals is not None:
        yield "cost", f"{money(totals.cost_per_hour)} $/h"
        yield "per task", f"{money(totals.cost_per_task)} $"
        yield "energy per task", joules(totals.energy_per_task_j)
        yield "mean power", quantity(totals.power_w, "power")
        yield "accelerators", f"{sum(totals.accelerators.values()):,}"
    if objective.gap is not None:
        yield "proven within", percent(objective.gap)
    elif objective.bound is not None:
        yield "at least", amount(objective.bound, objective.unit)


# ---- what to buy, and how it runs


def _purchases(solution: Solution) -> Block:
    rows: list[list[Cell | str]] = [
        [
            bought.item,
            bought.kind,
            f"{bought.price_source}{f', {bought.price_date}' if bought.price_date else ''}",
            f"{bought.count:,}",
            f"{bought.accelerators:,}",
            money(bought.capital_usd) if bought.capital_usd else "–",
            money(bought.usd_per_hour),
        ]
        for bought in solution.purchase
    ]
    total = [
        "all",
        "",
        "",
        "",
        f"{sum(b.accelerators for b in solution.purchase):,}",
        money(sum(b.capital_usd for b in solution.purchase)) if any(b.capital_usd for b in solution.purchase) else "–",
        money(sum(b.usd_per_hour for b in solution.purchase)),
    ]
    rows.append([Cell(text, strong=True) for text in total])
    head = ("offer", "kind", "price list", "count", "accelerators", "capital $", "$/h")
    return table("Bill of materials; electricity comes on top where a price excludes it", head, rows, words=3)


def _memory(solution: Solution) -> Iterator[Block]:
    if solution.memory:
        rows: list[list[Cell | str]] = [
            [
                labelled(tier.tier, tier),
                f"{tier.modules:,}",
                f"{tier.attached_modules:,g}" if tier.attached_modules else "–",
                quantity(tier.capacity_bytes, "bytes"),
                share_cell(tier.used_bytes / tier.capacity_bytes if tier.capacity_bytes else None),
                share_cell(tier.bandwidth_utilization),
            ]
            for tier in solution.memory
        ]
        head = ("tier", "modules bought", "attached", "capacity", "KV between calls", "bandwidth in use")
        yield table("Memory tiers; attached modules serve the accelerators that they belong to", head, rows)


def _fleet(solution: Solution) -> Iterator[Block]:
    many = len({stage_of(pool) for pool in solution.fleet}) > 1
    head = ["pool", "role", "accelerators", "model", "weights/act./KV", "parallelism", "serves"]
    rows = []
    for pool in solution.fleet:
        precision = pool.precision
        row: list[Cell | str] = [
            pool.pool,
            pool.role,
            f"{pool.accelerators} × {pool.accelerator}",
            pool.model or "–",
            f"{precision.weights}/{precision.activations}/{precision.kv}" if precision else "–",
            parallelism(pool),
            served(solution, pool),
        ]
        row += [
            f"{pool.replicas}{f' + {pool.spares}' if pool.spares else ''}",
            "–" if pool.batch is None else f"{pool.batch:.3g}",
            quantity(pool.step_time_s, "time", 3),
            quantity(pool.wait_s, "time", 3),
            quantity(pool.power_w, "power", 3),
            money(pool.cost_per_hour),
        ]
        rows.append([stage_of(pool), *row] if many else row)
    head = [*(["period"] if many else []), *head, "replicas", "batch", "step (TPOT)", "wait", "power", "$/h"]
    yield table("Pools of equal replicas at their fixed point", head, rows, words=8 if many else 7)


def _routing(solution: Solution) -> Iterator[Block]:
    for stage in dict.fromkeys(stage_of(route) for route in solution.routing):
        yield flow(solution, stage)
    rows: list[list[Cell | str]] = []
    for route in solution.routing:
        total = sum(r.calls_per_s for r in solution.routing if (r.task, stage_of(r)) == (route.task, stage_of(route)))
        rows.append(
            [
                labelled(route.task, route),
                route.variant or "–",
                route.prefill_pool,
                route.decode_pool,
                route.kv_policy or "–",
                number(route.calls_per_s),
                share_cell(route.calls_per_s / total if total else None),
            ]
        )
    head = ("task", "variant", "prefill pool", "decode pool", "KV between calls", "calls/s", "share of the task")
    yield table("Routing", head, rows, words=5)


# ---- what it costs


def _tasks(solution: Solution) -> Iterator[Block]:
    head = ("task", "$/task", "one more costs $", "energy/task", "open tasks", "resident KV", "headroom")
    rows: list[list[Cell | str]] = []
    for task in solution.tasks:
        rows.append(
            [
                labelled(task.name, task),
                money(task.cost_per_task),
                money(task.marginal_cost_per_task),
                joules(task.energy_per_task_j),
                number(task.open_tasks),
                quantity(task.resident_kv_bytes, "bytes"),
                percent(task.headroom, 2),
            ]
        )
    yield table(
        "By task; headroom is how far its rate could grow on the pools that it uses before a row is full", head, rows
    )
    priced = [(task, task.usd_per_million_tokens) for task in solution.tasks if task.usd_per_million_tokens]
    if priced:
        yield table(
            "Dollars per million tokens",
            ("task", "new input", "cached input", "output"),
            [
                [labelled(task.name, task), money(tokens.new_input), money(tokens.cached_input), money(tokens.output)]
                for task, tokens in priced
                if tokens is not None
            ],
        )


def _split(solution: Solution) -> Iterator[Block]:
    yield costs(solution)
    split = {phase: sum(pool.cost_split.get(phase, 0.0) for pool in solution.fleet) for phase in PHASES}
    total = sum(split.values())
    if total:
        rows: list[list[Cell | str]] = [
            [PHASES[phase], money(usd), share_cell(usd / total)] for phase, usd in split.items() if usd
        ]
        yield table("Cost by phase", ("phase", "$/h", "share"), rows)


def _promises(solution: Solution, simulated: Simulated) -> Iterator[Block]:
    rows: list[list[Cell | str]] = []
    seen = {
        (broken.stage, broken.task, broken.metric, broken.percentile): broken
        for broken in (solution.verification.rounds[-1].broken if solution.verification else ())
    }
    for task in solution.tasks:
        for slo in task.slo:
            broken = seen.get((stage_of(task), task.name, slo.metric, slo.percentile))
            run = simulated.worst(task, slo)
            held = "–"
            if run is not None:
                held = quantity(run.simulated, "time", 3)
                if run.low is not None and run.high is not None:
                    held += f" ({quantity(run.low, 'time', 3)} to {quantity(run.high, 'time', 3)})"
            elif solution.verification is not None:
                held = "holds" if broken is None else quantity(broken.simulated, "time", 3)
            in_time = broken is None if run is None else run.ok
            met = in_time and slo.achieved <= slo.target * (1 + 1e-6)
            rows.append(
                [
                    labelled(task.name, task),
                    f"{METRICS.get(slo.metric, slo.metric)} p{100 * slo.percentile:g}",
                    Cell("met" if met else "missed", strong=not met, tone="good" if met else "bad"),
                    quantity(slo.target, "time", 3),
                    quantity(slo.achieved, "time", 3),
                    held,
                    share_cell(slo.achieved / slo.target if slo.target else None),
                ]
            )
    if rows:
        head = ("task", "promise", "", "target", "planned", "simulated", "of the target")
        yield table(
            "Percentiles: planned at the fixed point of the unlinearised model, simulated with their 95 % interval",
            head,
            rows,
            words=3,
        )
    for words, held_all in simulated.sentences():
        yield Text(words, "" if held_all else "bad")
    found = solution.verification
    if found is not None:
        seeds = f"{len(found.seeds)} seeds of {quantity(found.duration_s, 'time')}"
        verdict = "every promise held" if found.ok else f"promises were broken ({found.stopped})"
        yield Text(f"Planned until simulations agree, in {seeds}: {verdict}.", "" if found.ok else "bad")
    elif not simulated.runs:
        yield Text(
            "Not simulated: codesign simulate PROBLEM SOLUTION --json > simulated.json, then codesign report SOLUTION "
            "--simulated simulated.json; or codesign solve --verify, which plans until the promises hold."
        )


# ---- why


def _resources(solution: Solution) -> Block:
    shown = [name for name in RESOURCES if any(getattr(p.utilization, name) is not None for p in solution.fleet)]
    rows: list[list[Cell | str]] = []
    for pool in solution.fleet:
        cells = [share_cell(getattr(pool.utilization, name), name == pool.binding) for name in shown]
        rows.append([labelled(pool.pool, pool), pool.binding, *cells])
    return table("Share of each resource in use, per replica; the one that binds is bold", ("pool", "binds", *shown),
                 rows, words=2)  # fmt: skip


def _worth(solution: Solution) -> Iterator[Block]:
    prices = [price for price in solution.shadow_prices if price.value]
    if prices:
        unit = solution.objective.unit
        rows = [[p.limit, p.source, worth(p.value, p.unit, unit)] for p in prices]
        yield table("Saved by one more unit of a limit", ("limit", "from", "worth"), rows, words=2)
        yield Text("From the relaxation: exact for small changes, and an estimate where whole servers decide.")
    elif solution.shadow_prices:
        yield Text("No limit of the problem file is full: one more unit of any of them saves nothing.")


def _not_chosen(explanation: Explanation | None) -> Iterator[Block]:
    if explanation is None:
        return
    rows = [
        [part.accelerator, part.reason, money(part.enters_at_price)] for part in explanation.not_chosen
    ]
    if rows:
        head = ("part", "why it stayed out", "enters at $/h per accelerator")
        yield table("Offered and not bought", head, rows, words=2)
    else:
        yield Text("Every part on offer was bought.")


def _accuracy(solution: Solution) -> Iterator[Block]:
    pools: dict[tuple[str, float | None], list[str]] = {}
    for pool in solution.fleet:
        pools.setdefault((pool.calibration, pool.expected_error), []).append(labelled(pool.pool, pool))
    rows = [
        [calibration, ", ".join(names), "–" if error is None else f"±{percent(error, 2)}"]
        for (calibration, error), names in pools.items()
    ]
    yield table("What the figures were calibrated on", ("calibration", "pools", "expected error"), rows, words=2)
    if solution.provenance.warnings:
        yield Text("Assumptions in use, and what is not verified:")
        yield Items(solution.provenance.warnings)


def _provenance(solution: Solution) -> Section:
    made, record = solution.provenance, solution.solve
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    rows = [
        ["problem", made.problem],
        ["sha256 of the problem", made.problem_sha256],
        ["price lists", ", ".join(made.price_list) or "the problem file"],
        ["oldest price", made.price_date or "–"],
        ["command", made.command or "–"],
        ["seed", str(made.seed)],
        ["configurations", f"{record.columns_total:,}"],
        ["search", f"{record.rounds} rounds, {record.nodes:,} nodes, {record.solver}"],
        ["versions", versions],
    ]
    return Section("provenance", "Where it comes from", (table("To make it again", ("", ""), rows, words=2),))
