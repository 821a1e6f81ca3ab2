"""What an architecture search found, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from codesign.report.console import amount, line, make_table, money, percent, quantity

if TYPE_CHECKING:
    from codesign.architecture.solution import ArchitectureSolution, ChipRecord, SensitivityRecord
    from codesign.architecture.space import Value

_KINDS = {"fp16": "flops", "sram": "bytes", "scaleup.bandwidth": "bandwidth", "scaleout": "bandwidth"}


def architecture_report(found: ArchitectureSolution) -> Group:
    """The whole report."""
    return Group(*_parts(found))


def _parts(found: ArchitectureSolution) -> Iterator[RenderableType]:
    objective, record = found.objective, found.search
    tried = f"{record.trials} designs tried ({record.feasible} can be made and serve all), sampler {record.sampler}"
    if objective.value is None:
        yield line(f"No design found: {tried}.", "bold")
        yield from _reasons(found)
        return
    yield line(
        f"{found.status}: {amount(objective.value, objective.unit)}"
        + (f", buying alone {amount(objective.baseline, objective.unit)}" if objective.baseline is not None else ""),
        "bold",
    )
    yield line(tried + "; fleets fractional here, whole in the plans below")
    if objective.search_value is not None and objective.bound is not None:
        behind = (objective.search_value - objective.bound) / objective.search_value
        alone = amount(objective.search_value, objective.unit)
        yield line(f"the search alone found {alone}, {percent(behind)} above the bound")
    if objective.bound is not None:
        yield line(
            f"lower bound over all designs {amount(objective.bound, objective.unit)} "
            f"(gap {percent(objective.gap)}, {objective.boxes} boxes)"
        )
    if objective.grid_value is not None:
        yield line(
            f"exact optimum of a grid of {objective.grid_points} designs "
            f"{amount(objective.grid_value, objective.unit)} "
            f"(the search's is {percent(objective.grid_gap)} above it)"
        )
    yield ""
    for chip in found.designs:
        yield _chip(chip)
    plans = make_table("Plans in whole servers", ("workload",), ("objective", "gap"), ("check", "fleet"))
    for plan in found.plans:
        solution = plan.solution
        fleet = solution.totals.accelerators if solution.totals else {}
        plans.add_row(
            plan.workload,
            amount(solution.objective.value, solution.objective.unit),
            percent(solution.objective.gap),
            "ok" if plan.check_ok else "VIOLATION" if solution.fleet else solution.status,
            ", ".join(f"{count} × {name}" for name, count in sorted(fleet.items(), key=lambda item: -item[1])),
        )
    if found.plans:
        yield plans
    if len(found.front) > 1:
        front = make_table("Designs that none beats in both objectives", ("trial",), ("first", "second"))
        for trial in found.front:
            front.add_row(str(trial.number), amount(trial.value, objective.unit), f"{trial.second:.5g}")
        yield front
    yield from _sensitivity(found)
    yield from _reasons(found)


def parameter_text(name: str, value: Value) -> str:
    """A parameter of a design as people write it."""
    kind = _KINDS.get(name)
    return quantity(float(value), kind) if kind and not isinstance(value, str) else f"{value}"


def _chip(chip: ChipRecord) -> RenderableType:
    title = f"Chip '{chip.name}'" + ("" if chip.used else " (not bought: buying parts is cheaper)")
    table = make_table(title, ("what",), ("value",))
    for name, value in chip.parameters.items():
        table.add_row(name, parameter_text(name, value))
    area = chip.area_mm2
    table.add_row("compute dies", f"{area['compute_dies']:,.0f} mm²")
    if area["io_dies"]:
        table.add_row("I/O dies", f"{area['io_dies']:,.0f} mm²")
    table.add_row("TDP", quantity(chip.power_w["tdp"], "power"))
    terms = ", ".join(f"{name.replace('_', ' ')} {money(value)}" for name, value in chip.cost_usd.items() if value)
    table.add_row("bill of materials", f"{money(chip.bom_usd)} $ ({terms})")
    table.add_row("price", f"{money(chip.price_usd)} $, in its server {money(chip.capital_usd)} $")
    tight = max(chip.limits, key=lambda limit: limit.needed / limit.offered)
    table.add_row("tightest limit", f"{tight.limit}: {tight.needed:.4g} of {tight.offered:.4g} {tight.unit}")
    return table


def price_changes(told: SensitivityRecord) -> Iterator[str]:
    """From which memory prices another of the designs tried is better, the nearest to today's on either side."""
    for name in sorted({row.assumption for row in told.memory_prices}):
        flips = [row for row in told.memory_prices if row.assumption == name and row.flips]
        below = max((row.setting for row in flips if row.setting < row.nominal), default=None)
        above = min((row.setting for row in flips if row.setting > row.nominal), default=None)
        words = [f"below {below * 1e9:.3g}"] if below is not None else []
        words += [f"above {above * 1e9:.3g}"] if above is not None else []
        if words:
            nominal = flips[0].nominal * 1e9
            kind = name.removeprefix("memory.")
            yield f"{kind} {' or '.join(words)} $/GB (nominal {nominal:.3g}): another design is better."


def _sensitivity(found: ArchitectureSolution) -> Iterator[RenderableType]:
    told = found.sensitivity
    if told is None:
        return
    if told.importances:
        table = make_table("Which parameters matter (PED-ANOVA)", ("parameter",), ("share",))
        for name, share in told.importances.items():
            table.add_row(name, percent(share))
        yield table
    flips = make_table(
        "Assumptions that flip the design, among those tried", ("assumption",), ("setting", "nominal", "regret")
    )
    rows = [*told.assumptions, *told.memory_prices, *told.hit_ratio]
    for row in rows:
        if row.flips:
            scale = 1e9 if row.assumption.startswith("memory.") else 1.0
            flips.add_row(
                row.assumption, f"{row.setting * scale:.4g}", f"{row.nominal * scale:.4g}", percent(row.regret)
            )
    if any(row.flips for row in rows):
        yield flips
        for words in price_changes(told):
            yield line(words)
    else:
        yield line(f"None of {len(rows)} settings of assumptions flips the design among those tried.")
    if told.entry_price_usd is not None:
        volume = "–" if told.break_even_volume is None else f"{told.break_even_volume:,.0f}"
        yield line(
            f"The fleet buys the chip, server included, up to {money(told.entry_price_usd)} $; "
            f"from a volume of {volume} chips its NRE fits under that"
        )
    if told.break_even_fleets is not None:
        yield line(f"{told.break_even_fleets:,.3g} fleets of this size repay the NRE over the chips' life")
    if len(told.regret) > 1:
        yield line("Regret by workload: " + ", ".join(f"{name} {percent(v)}" for name, v in told.regret.items()))
    if told.chip_first is not None:
        yield line(f"Chip first, variants later costs {percent(told.chip_first)} more than both together")


def _reasons(found: ArchitectureSolution) -> Iterator[RenderableType]:
    if found.reasons:
        told = ", ".join(f"{name} {count}" for name, count in sorted(found.reasons.items(), key=lambda item: -item[1]))
        yield line(f"Designs ruled out by: {told}")
