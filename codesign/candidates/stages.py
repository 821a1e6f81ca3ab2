"""Periods and scenarios as one fleet problem: copies of everything but what is bought (DESIGN 3.6).

Each stage is enumerated by itself, as if it were the whole problem.  Here its numbers are put side by side: tasks,
flows, columns and rows of servers once per stage, and offers of one name as one purchase that supplies them all.
Weights make the objective that of all hours: an offer costs its price in the stages that hold it, by their share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from codesign.candidates.data import ColumnBlock, FleetData, Flow, Group, Hardware, Ints, Module, Offer, SideLimit
from codesign.candidates.flows import Commodity
from codesign.problem.instance import NOMINAL, Instance, Stage

if TYPE_CHECKING:
    from codesign.candidates.build import Candidates

PER_TASK = ("cost_per_task", "energy_per_task", "carbon_per_task")
"""Objectives that divide by a scenario's own tasks."""


@dataclass(frozen=True)
class StagePart:
    """A stage's own candidates, and where they stand in the joined problem."""

    stage: Stage
    candidates: Candidates
    weight: float
    """Joint objective per unit of the stage's $/h or watts."""
    offers: tuple[int, ...]
    """Position in the joined problem of each of the stage's offers."""
    modules: tuple[int, ...]
    tasks: int
    """First of the stage's tasks, and so on; all of them follow one another."""
    flows: int
    columns: int
    commodities: int
    hardware: int
    packings: int
    groups: int


def stage_weight(instance: Instance, stage: Stage) -> float:
    """Joint objective per unit of a stage's objective rate ($/h, or watts): its hours, chance and tasks."""
    factor = stage.share * stage.probability
    if instance.objective in PER_TASK:
        factor *= instance.mean_rate() / instance.mean_rate(stage.scenario)
    return factor


def join(instance: Instance, candidates: Sequence[Candidates]) -> tuple[FleetData, tuple[StagePart, ...]]:
    """The joined fleet problem of an instance's stages, whose candidates are given in their order."""
    parts = _placed(instance, candidates)
    first = candidates[0].data
    # Per task: the first stage divides by its own tasks, the whole by those of all hours.
    own = sum(task.rate_per_s for task in candidates[0].instance.tasks)
    per_task = own / instance.mean_rate() if instance.objective in PER_TASK else 1.0
    return (
        FleetData(
            tasks=tuple(p.stage.named(name) for p in parts for name in p.candidates.data.tasks),
            demand=np.concatenate([p.candidates.data.demand for p in parts]),
            calls_bound=np.concatenate([p.candidates.data.calls_bound for p in parts]),
            flows=tuple(_flow(p, flow) for p in parts for flow in p.candidates.data.flows),
            commodities=tuple(_commodity(p, item) for p in parts for item in p.candidates.book.commodities),
            blocks=tuple(_block(p, block) for p in parts for block in p.candidates.data.blocks),
            offers=_offers(parts),
            hardware=tuple(_hardware(parts[0], p, row) for p in parts for row in p.candidates.data.hardware),
            packings=tuple(
                replace(
                    item,
                    hardware=item.hardware + p.hardware,
                    modules={p.modules[m]: count for m, count in item.modules.items()},
                )
                for p in parts
                for item in p.candidates.data.packings
            ),
            groups=tuple(_group(i, p, group) for i, p in enumerate(parts) for group in p.candidates.data.groups),
            limits=(*_limits(parts), *_budgets(instance, parts)),
            usd_weight=first.usd_weight * per_task,
            watt_weight=first.watt_weight * per_task,
            pue=first.pue,
            max_designs=first.max_designs,
            max_vendors=first.max_vendors,
            survive_one_server=first.survive_one_server,
            split_tasks=first.split_tasks,
            modules=_modules(parts),
            outer=tuple(_block(p, block) for p in parts for block in p.candidates.data.outer),
        ),
        parts,
    )


def _placed(instance: Instance, candidates: Sequence[Candidates]) -> tuple[StagePart, ...]:
    names: dict[str, int] = {}
    modules: dict[str, int] = {}
    parts: list[StagePart] = []
    at = dict.fromkeys(("tasks", "flows", "columns", "commodities", "hardware", "packings", "groups"), 0)
    for stage, item in zip(instance.stages, candidates, strict=True):
        data = item.data
        parts.append(
            StagePart(
                stage,
                item,
                stage_weight(instance, stage),
                tuple(names.setdefault(offer.name, len(names)) for offer in data.offers),
                tuple(modules.setdefault(module.name, len(modules)) for module in data.modules),
                **at,
            )
        )
        for word in at:
            at[word] += data.columns if word == "columns" else len(getattr(data, word))
    return tuple(parts)


def _flow(part: StagePart, flow: Flow) -> Flow:
    return replace(
        flow,
        name=part.stage.named(flow.name),
        task=flow.task + part.tasks,
        commodity=None if flow.commodity is None else flow.commodity + part.commodities,
    )


def _commodity(part: StagePart, item: Commodity) -> Commodity:
    return replace(item, stage=(part.stage.period, part.stage.scenario))


def _block(part: StagePart, block: ColumnBlock) -> ColumnBlock:
    other: Ints | None = block.other_packing
    return replace(
        block,
        flows=block.flows + part.flows,
        packing=block.packing + part.packings,
        group=block.group + part.groups,
        other_packing=None if other is None else np.where(other >= 0, other + part.packings, -1),
    )


def _group(number: int, part: StagePart, group: Group) -> Group:
    return replace(group, hardware=group.hardware + part.hardware, stage=number)


def _hardware(first: StagePart, part: StagePart, row: Hardware) -> Hardware:
    """Its watts count by the stage's weight."""
    return replace(row, hours_share=row.hours_share * part.weight * _watts(first, part))


def _watts(first: StagePart, part: StagePart) -> float:
    """What a watt counts in a stage, relative to the first: electricity in $ has PUE and price inside already."""
    here, there = part.candidates.instance, first.candidates.instance
    if here.objective not in ("power", "energy_per_task", "carbon_per_task"):
        return 1.0
    factor = here.site.pue / there.site.pue
    if here.objective == "carbon_per_task":
        factor *= here.site.carbon_kg_per_joule / there.site.carbon_kg_per_joule
    return factor


def _offers(parts: Sequence[StagePart]) -> tuple[Offer, ...]:
    """One purchase by name: its servers stand in every stage that holds it."""
    found: dict[int, Offer] = {}
    for part in parts:
        for number, offer in zip(part.offers, part.candidates.data.offers, strict=True):
            rows = tuple(row + part.hardware for row in offer.supplies)
            price = offer.usd_per_hour * part.weight
            known = found.get(number)
            if known is None:
                found[number] = replace(offer, hardware=rows[0], also_supplies=rows[1:], usd_per_hour=price)
            else:
                found[number] = replace(
                    known,
                    also_supplies=(*known.also_supplies, *rows),
                    usd_per_hour=known.usd_per_hour + price,
                    capital_usd=max(known.capital_usd, offer.capital_usd),
                    min_servers=max(known.min_servers, offer.min_servers),
                )
    return tuple(found[number] for number in sorted(found))


def _modules(parts: Sequence[StagePart]) -> tuple[Module, ...]:
    """One purchase by name; its electricity, which differs by stage, stands in its price."""
    found: dict[int, Module] = {}
    for part in parts:
        for number, module in zip(part.modules, part.candidates.data.modules, strict=True):
            price = part.weight * (module.usd_per_hour + module.power_w * module.electricity_usd_per_wh)
            power = part.weight * _watts(parts[0], part) * module.power_w
            known = found.get(number)
            found[number] = replace(
                module,
                usd_per_hour=price + (known.usd_per_hour if known else 0.0),
                power_w=power + (known.power_w if known else 0.0),
                electricity_usd_per_wh=0.0,
            )
    return tuple(found[number] for number in sorted(found))


def _limits(parts: Sequence[StagePart]) -> list[SideLimit]:
    """Each stage's limits; one that reads the same in several stages stands once."""
    kept: dict[tuple[object, ...], tuple[SideLimit, list[StagePart]]] = {}
    for part in parts:
        for limit in part.candidates.data.limits:
            here = _limit(part, limit)
            words = ("per_server", "per_packing", "per_group", "per_watt", "per_module", "per_flow")
            same = (here.name, here.limit, *(tuple(sorted(getattr(here, word).items())) for word in words))
            kept.setdefault(same, (here, []))[1].append(part)
    names = [limit.name for limit, _ in kept.values()]
    return [
        limit if names.count(limit.name) == 1 else replace(limit, name=f"{limit.name} ({_joined(members)})")
        for limit, members in kept.values()
    ]


def _joined(members: Sequence[StagePart]) -> str:
    return "; ".join(part.stage.name or NOMINAL for part in members)


def _limit(part: StagePart, limit: SideLimit) -> SideLimit:
    def shifted(values: Mapping[int, float], by: int) -> dict[int, float]:
        return {index + by: value for index, value in values.items()}

    flows = {
        (flow + part.flows, row + part.hardware if row >= 0 else row): value
        for (flow, row), value in limit.per_flow.items()
    }
    return replace(
        limit,
        per_server={part.offers[o]: value for o, value in limit.per_server.items()},
        per_packing=shifted(limit.per_packing, part.packings),
        per_group=shifted(limit.per_group, part.groups),
        per_watt=shifted(limit.per_watt, part.hardware),
        per_module={part.modules[m]: value for m, value in limit.per_module.items()},
        per_flow=flows,
    )


def _budgets(instance: Instance, parts: Sequence[StagePart]) -> list[SideLimit]:
    """Budgets hold over all hours: capital over everything bought, $/h on the average of each scenario.

    Capital is spent at the prices of the first stage that knows an item: before those of other scenarios come.
    """
    limits, found = instance.limits, []
    if limits.capital_usd is not None:
        capital: dict[int, float] = {}
        modules: dict[int, float] = {}
        for part in parts:
            data = part.candidates.data
            for o, offer in zip(part.offers, data.offers, strict=True):
                capital.setdefault(o, offer.capital_usd)
            for m, module in zip(part.modules, data.modules, strict=True):
                modules.setdefault(m, module.capital_usd)
        found.append(
            SideLimit(
                "limits.budget.capital",
                "$",
                limits.capital_usd,
                {o: usd for o, usd in capital.items() if usd > 0},
                per_module=modules,
            )
        )
    if limits.cost_usd_per_hour is not None:
        scenarios = list(dict.fromkeys(part.stage.scenario for part in parts))
        for scenario in scenarios:
            name = "limits.budget.cost_per_hour"
            found.append(
                replace(
                    _spent([part for part in parts if part.stage.scenario == scenario]),
                    name=name if len(scenarios) == 1 else f"{name} ({scenario})",
                    unit="$/h",
                    limit=limits.cost_usd_per_hour,
                )
            )
    return found


def _spent(parts: Sequence[StagePart]) -> SideLimit:
    """$/h of one scenario, averaged over its periods, as a row without a limit."""
    row = SideLimit("", "$/h", 0.0)
    for part in parts:
        data, share = part.candidates.data, part.stage.share
        for o, offer in zip(part.offers, data.offers, strict=True):
            row.per_server[o] = row.per_server.get(o, 0.0) + share * offer.usd_per_hour
        for m, module in zip(part.modules, data.modules, strict=True):
            price = module.usd_per_hour + module.power_w * module.electricity_usd_per_wh
            row.per_module[m] = row.per_module.get(m, 0.0) + share * price
        for h, hardware in enumerate(data.hardware):
            if hardware.electricity_usd_per_wh:
                row.per_watt[h + part.hardware] = share * hardware.electricity_usd_per_wh
    return row
