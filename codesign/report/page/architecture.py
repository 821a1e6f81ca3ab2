"""A designed chip as a document: the answer, the chip, the fleets that it serves, what the design hangs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from codesign.report.architecture import parameter_text, price_changes
from codesign.report.console import amount, money, number, percent, quantity
from codesign.report.page.blocks import Block, Cell, Document, Figure, Section, Text, share_cell, table
from codesign.report.page.figures import costs
from codesign.report.page.flow import flow
from codesign.report.page.svg import WIDTH, Drawing, linear, polyline
from codesign.report.page.words import listing
from codesign.solution.labels import stage_of

if TYPE_CHECKING:
    from codesign.architecture.solution import ArchitectureSolution, ChipRecord, FlipRecord


def architecture_document(found: ArchitectureSolution) -> Document:
    """The document of an architecture solution, whatever its status."""
    sections = (
        Section("chip", "The chip", tuple(_chips(found))),
        Section("search", "How good it is", tuple(_search(found))),
        Section("fleet", "The fleets that it serves", tuple(_fleets(found))),
        Section("hangs", "What the design hangs on", tuple(_hangs(found))),
        Section("assumptions", "What it assumes", tuple(_assumptions(found))),
        Section("provenance", "Where it comes from", (_provenance(found),)),
    )
    return Document(
        found.provenance.problem,
        tuple(_answer(found)),
        tuple(_glance(found)),
        tuple(section for section in sections if section.blocks),
        found.status,
    )


def _answer(found: ArchitectureSolution) -> Iterator[str]:
    objective, record = found.objective, found.search
    if objective.value is None:
        yield f"No design found: {record.trials} tried, {record.feasible} of which can be made and serve all."
        return
    used = [chip for chip in found.designs if chip.used]
    value = amount(objective.value, objective.unit)
    against = ""
    if objective.baseline:
        less = 1 - objective.value / objective.baseline
        against = f", {percent(less, 2)} below buying alone ({amount(objective.baseline, objective.unit)})"
    if used:
        chips = listing([f"{chip.name} (price {money(chip.price_usd)} $, {_tdp(chip)})" for chip in used])
        yield f"Build {chips}: {value}{against}."
    else:
        yield f"Build nothing: {value} is reached with parts on sale, and no design tried is bought at its price."
    proof = "no bound over all designs was asked for"
    if objective.bound is not None:
        word = "optimal" if found.status == "optimal" else "not proven optimal"
        bound = amount(objective.bound, objective.unit)
        proof = f"{word}: no design of the space is below {bound}, a gap of {percent(objective.gap)}"
    yield f"Of {record.trials} designs tried {record.feasible} can be made and serve all; {proof}."
    told = found.sensitivity
    if told is not None and told.entry_price_usd is not None:
        volume = "" if told.break_even_volume is None else (
            f", and from {told.break_even_volume:,.0f} chips on its NRE fits under that")  # fmt: skip
        yield f"The fleet buys the chip, server included, up to {money(told.entry_price_usd)} ${volume}."


def _glance(found: ArchitectureSolution) -> Iterator[tuple[str, str]]:
    objective = found.objective
    if objective.value is None:
        return
    yield objective.name.replace("_", " "), amount(objective.value, objective.unit)
    if objective.baseline:
        yield "below buying alone", percent(1 - objective.value / objective.baseline, 2)
    if objective.gap is not None:
        yield "proven within", percent(objective.gap)
    for chip in found.designs:
        if chip.used:
            yield f"price of {chip.name}", f"{money(chip.price_usd)} $"
            yield f"TDP of {chip.name}", quantity(chip.power_w["tdp"], "power")


# ---- the chip, and how it was found


def _chips(found: ArchitectureSolution) -> Iterator[Block]:
    for chip in found.designs:
        bought = "" if chip.used else " (not bought: parts on sale are cheaper)"
        rows: list[list[Cell | str]] = [[name, parameter_text(name, value)] for name, value in chip.parameters.items()]
        rows += [[name.replace("_", " "), f"{value:,.0f} mm²"] for name, value in chip.area_mm2.items() if value]
        rows += [[f"power: {name.replace('_', ' ')}", quantity(w, "power")] for name, w in chip.power_w.items() if w]
        yield table(f"{chip.name}{bought}: what the search decided, and what follows", ("", ""), rows, words=1)
        parts = sorted(chip.cost_usd.items(), key=lambda item: -item[1])
        bill: list[list[Cell | str]] = [
            [name.replace("_", " "), money(usd), share_cell(usd / chip.bom_usd)] for name, usd in parts if usd
        ]
        bill.append([Cell("bill of materials", strong=True), Cell(money(chip.bom_usd), strong=True), ""])
        bill.append(["price, with margin and its share of the NRE", money(chip.price_usd), ""])
        bill.append(["in its server, with host and network", money(chip.capital_usd), ""])
        yield table(f"{chip.name}: what it costs", ("", "$", "of the bill"), bill)
        limits: list[list[Cell | str]] = [
            [
                limit.limit,
                f"{limit.needed:.4g} {limit.unit}",
                f"{limit.offered:.4g} {limit.unit}",
                share_cell(limit.needed / limit.offered if limit.offered else None),
            ]
            for limit in chip.limits
        ]
        yield table(f"{chip.name}: limits of making and cooling it", ("limit", "needed", "offered", "used"), limits)


def _tdp(chip: ChipRecord) -> str:
    return f"TDP {quantity(chip.power_w['tdp'], 'power')}"


def _search(found: ArchitectureSolution) -> Iterator[Block]:
    if len(found.history) > 1:
        yield _history(found)
    objective = found.objective
    rows = [
        ("best found", objective.value),
        ("of these, by the search alone", objective.search_value),
        (f"exact optimum of a grid of {objective.grid_points} designs", objective.grid_value),
        (f"lower bound over all designs ({objective.boxes} boxes)", objective.bound),
        ("buying alone", objective.baseline),
    ]
    told = [[name, amount(value, objective.unit)] for name, value in rows if value is not None]
    if told:
        yield table("Values; fleets are fractional here, whole in the plans below", ("", objective.name), told)
    if found.reasons:
        order = sorted(found.reasons.items(), key=lambda item: -item[1])
        yield table("Why designs were ruled out", ("limit", "designs"), [[name, f"{n:,}"] for name, n in order])
    if len(found.front) > 1:
        front = [[str(t.number), amount(t.value, objective.unit), f"{t.second:.5g}"] for t in found.front]
        yield table("Designs that none beats in both objectives", ("trial", "first", "second"), front)


def _history(found: ArchitectureSolution) -> Figure:
    """The best value after each trial, between the bound and buying alone."""
    caption = "The best design after each trial"
    objective, history = found.objective, found.history
    left, right, top, bottom = 84.0, WIDTH - 20, 30.0, 260.0
    # The first trials may be far off: what matters is the way from the middle of the search on.
    level = [*history[len(history) // 4 :], *(v for v in (objective.bound, objective.baseline) if v is not None)]
    across, upright = linear([0.0, float(len(history))], left, right, zero=True), linear(level, bottom, top)
    drawing = Drawing(bottom + 48)
    drawing.across(across, top, bottom, "trials")
    drawing.upright(upright, left, right, objective.unit)
    named = [("best found", "orange")]
    for value, name, colour in ((objective.bound, "lower bound", "blue"), (objective.baseline, "buying alone", "grey")):
        if value is not None:
            named.append((name, colour))
            y = upright.place(value)
            said = f"{name}: {amount(value, objective.unit)}"
            drawing.shape(polyline([(left, y), (right, y)]), colour, "trace", said, "stroke-dasharray:7 4")
    drawing.legend(named, left, 12)
    steps: list[tuple[float, float]] = []
    for i, value in enumerate(history):
        y = upright.place(value)
        steps += [(across.place(i), y), (across.place(i + 1.0), y)]
    drawing.shape(polyline(steps), "orange", "trace")
    return Figure(caption, drawing.svg(caption))


# ---- what it serves, and what it hangs on


def _fleets(found: ArchitectureSolution) -> Iterator[Block]:
    rows: list[list[Cell | str]] = []
    for plan in found.plans:
        solution = plan.solution
        fleet = solution.totals.accelerators if solution.totals else {}
        rows.append(
            [
                plan.workload,
                ", ".join(f"{n:,} × {name}" for name, n in sorted(fleet.items(), key=lambda item: -item[1])),
                "agrees" if plan.check_ok else "violation" if solution.fleet else solution.status,
                amount(solution.objective.value, solution.objective.unit),
                percent(solution.objective.gap),
            ]
        )
    if rows:
        head = ("workload", "fleet", "independent check", "objective", "proven within")
        yield table("Plans in whole servers", head, rows, words=3)
    for plan in found.plans:
        if plan.solution.totals is None:
            continue
        yield Text(f"{plan.workload}:")
        for stage in dict.fromkeys(stage_of(route) for route in plan.solution.routing):
            yield flow(plan.solution, stage)
        if any(pool.cost_split for pool in plan.solution.fleet):
            yield costs(plan.solution)


def _hangs(found: ArchitectureSolution) -> Iterator[Block]:
    told = found.sensitivity
    if told is None:
        return
    if told.importances:
        rows: list[list[Cell | str]] = [[name, share_cell(share)] for name, share in told.importances.items()]
        yield table("Which parameters matter (PED-ANOVA)", ("parameter", "share"), rows)
    every = [*told.assumptions, *told.memory_prices, *told.hit_ratio]
    if every:
        yield table(
            "Assumptions, one moved at a time: does another of the designs tried become the best?",
            ("assumption", "another design", "set to", "nominal", "regret of this design"),
            [_flip(row) for row in every],
            words=2,
        )
        yield from map(Text, price_changes(told))
    if len(told.regret) > 1:
        rows = [[name, percent(value)] for name, value in told.regret.items()]
        yield table("Regret by workload: what a chip made for it alone would save", ("workload", "regret"), rows)
    if told.break_even_fleets is not None:
        yield Text(f"{told.break_even_fleets:,.3g} fleets of this size repay the NRE over the chips' life.")
    if told.chip_first is not None:
        yield Text(f"Chip first, variants later costs {percent(told.chip_first)} more than both together.")


def _flip(row: FlipRecord) -> list[Cell | str]:
    scale = 1e9 if row.assumption.startswith("memory.") else 1.0
    flips = Cell("yes", strong=True) if row.flips else "no"
    return [row.assumption, flips, f"{row.setting * scale:.4g}", f"{row.nominal * scale:.4g}", percent(row.regret)]


def _assumptions(found: ArchitectureSolution) -> Iterator[Block]:
    if found.assumptions:
        rows = []
        for name, (low, nominal, high) in found.assumptions.items():
            scale, unit = (1e9, " $/GB") if name.startswith("memory.") else (1.0, "")
            rows.append([name, *(f"{value * scale:.4g}{unit}" for value in (low, nominal, high))])
        yield table("Constants of the chip model in use, with their ranges", ("", "low", "nominal", "high"), rows)


def _provenance(found: ArchitectureSolution) -> Block:
    made, record = found.provenance, found.search
    rows = [
        ["problem", made.problem],
        ["sha256 of the problem", made.problem_sha256],
        ["command", made.command or "–"],
        ["search", f"{record.sampler}, {record.trials} trials, seed {record.seed}"],
        ["linear programs", number(record.linear_programs)],
        ["versions", ", ".join(f"{name} {release}" for name, release in record.versions.items()) or "–"],
    ]
    return table("To make it again", ("", ""), rows, words=2)
