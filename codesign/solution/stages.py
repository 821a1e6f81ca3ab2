"""The solution of several stages: each stage's own solution side by side, and the totals over all hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from codesign.candidates.stages import StagePart
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.search import Start
from codesign.problem.instance import ALL_HOURS, NOMINAL, Instance, Stage
from codesign.solution.labels import told_apart
from codesign.solution.schema import Purchase, Scenario, Solution, StageTotals, Totals

if TYPE_CHECKING:
    from codesign.candidates.build import Candidates


def split(parts: Sequence[StagePart], plan: FleetPlan) -> list[FleetPlan]:
    """The plan of each stage in its own candidates' numbers.  Prices of demand are those of its own hours."""
    found = []
    for part in parts:
        data = part.candidates.data
        last_column, last_flow = part.columns + data.columns, part.flows + len(data.flows)
        replicas = {k - part.columns: n for k, n in plan.replicas.items() if part.columns <= k < last_column}
        rates = {
            (k - part.columns, f - part.flows): rate
            for (k, f), rate in plan.rates.items()
            if part.columns <= k < last_column and part.flows <= f < last_flow
        }
        spares = {
            g - part.groups: n for g, n in plan.spares.items() if 0 <= g - part.groups < len(data.groups)
        }
        servers = {o: plan.servers[j] for o, j in enumerate(part.offers) if plan.servers.get(j)}
        modules = {m: plan.modules[j] for m, j in enumerate(part.modules) if plan.modules.get(j)}
        demand = plan.demand_duals[part.tasks : part.tasks + len(data.tasks)]
        found.append(
            replace(
                plan,
                replicas=replicas,
                rates=rates,
                servers=servers,
                spares=spares,
                modules=modules,
                amounts={},
                set_aside={},
                by_rows={k - part.columns: n for k, n in plan.by_rows.items() if k - part.columns in replicas},
                pool=tuple(k - part.columns for k in plan.pool if part.columns <= k < last_column),
                demand_duals=tuple(dual / part.weight for dual in demand),
                commodity_duals=(),
                limit_duals=(),
            )
        )
    return found


def joined_start(parts: Sequence[StagePart], alone: Sequence[Start]) -> Start:
    """Plans of each stage by itself (in the stages' order) as one of all: bought is the most that any of them buys."""
    columns: list[int] = []
    replicas: dict[int, int] = {}
    spares: dict[int, int] = {}
    servers: dict[int, int] = {}
    modules: dict[int, int] = {}
    for part, start in zip(parts, alone, strict=True):
        columns += (part.columns + k for k in start.columns)
        replicas |= {part.columns + k: n for k, n in start.replicas.items()}
        spares |= {part.groups + g: n for g, n in start.spares.items()}
        for own, joint, place in ((start.servers, servers, part.offers), (start.modules, modules, part.modules)):
            for item, count in own.items():
                joint[place[item]] = max(joint.get(place[item], 0), count)
    return Start(tuple(columns), replicas, servers, spares, modules)


def joined(candidates: Candidates, shell: Solution, alone: Sequence[Solution]) -> Solution:
    """One solution of the stages' own ones (in the stages' order); `shell` has status, objective and record."""
    instance = candidates.instance
    pools = [(i, pool.pool) for i, solution in enumerate(alone) for pool in solution.fleet]
    stems = [_pool_name(candidates.stages[i].stage, name) for i, name in pools]
    labels = dict(zip(pools, told_apart(stems), strict=True))
    named = [_named(part.stage, alone[i], i, labels) for i, part in enumerate(candidates.stages)]
    stages = tuple(
        StageTotals(
            period=stage.period,
            scenario=stage.scenario,
            share=stage.share,
            probability=stage.probability,
            totals=solution.totals,
        )
        for stage, solution in zip(instance.stages, alone, strict=True)
        if solution.totals is not None
    )
    purchase = merged_purchase(instance, [solution.purchase for solution in alone])
    return shell.model_copy(
        update={
            "totals": joined_totals(candidates, stages, purchase),
            "stages": stages,
            "scenarios": scenario_values(instance, stages),
            "purchase": purchase,
            "fleet": tuple(pool for solution in named for pool in solution.fleet),
            "memory": tuple(item for solution in named for item in solution.memory),
            "routing": tuple(route for solution in named for route in solution.routing),
            "tasks": tuple(task for solution in named for task in solution.tasks),
        }
    )


def _pool_name(stage: Stage, name: str) -> str:
    """A pool's name among those of all stages."""
    words = [w for w, usual in ((stage.period, ALL_HOURS), (stage.scenario, NOMINAL)) if w != usual]
    return f"{'-'.join(words)}/{name}" if words else name


def _named(stage: Stage, solution: Solution, number: int, labels: Mapping[tuple[int, str], str]) -> Solution:
    """A stage's solution with its period and scenario on every entry, and names that no other stage has."""
    here = {"period": stage.period, "scenario": stage.scenario}

    def pool(name: str) -> str:
        return labels[number, name]

    return solution.model_copy(
        update={
            "fleet": tuple(e.model_copy(update=here | {"pool": pool(e.pool)}) for e in solution.fleet),
            "routing": tuple(
                e.model_copy(
                    update=here
                    | {"prefill_pool": pool(e.prefill_pool), "decode_pool": pool(e.decode_pool)}
                )
                for e in solution.routing
            ),
            "memory": tuple(e.model_copy(update=here) for e in solution.memory),
            "tasks": tuple(e.model_copy(update=here) for e in solution.tasks),
        }
    )


def merged_purchase(instance: Instance, lines: Sequence[Sequence[Purchase]]) -> tuple[Purchase, ...]:
    """One line for each item, its $/h averaged over all hours and scenarios (nothing where it is not held)."""
    found: dict[tuple[str, str], Purchase] = {}
    for stage, bought in zip(instance.stages, lines, strict=True):
        for line in bought:
            known = found.get((line.kind, line.item))
            price = stage.share * stage.probability * line.usd_per_hour
            price += known.usd_per_hour if known is not None else 0.0
            found[line.kind, line.item] = (known or line).model_copy(update={"usd_per_hour": price})
    return tuple(found.values())


def joined_totals(
    candidates: Candidates, stages: Sequence[StageTotals], purchase: Sequence[Purchase]
) -> Totals:
    """Means over all hours and scenarios; the peak of the stage that has the highest; everything bought."""
    instance = candidates.instance

    def mean(word: str) -> float:
        return sum(s.share * s.probability * float(getattr(s.totals, word)) for s in stages)

    rate = sum(
        s.share * s.probability * sum(task.rate_per_s for task in s.instance.tasks) for s in instance.stages
    )
    sizes = {option.name: {option.catalogue_id: option.server_accelerators} for option in instance.hardware}
    sizes |= {pool.name: {pool.accelerator: pool.accelerators_per_replica} for pool in instance.measured_pools}
    for unit in instance.units:
        held = Counter[str]()
        for name in unit.hardware:
            held.update(sizes[name])
        sizes[unit.name] = dict(held)
    accelerators: Counter[str] = Counter()
    servers: Counter[str] = Counter()
    sellers = {
        offer.name: sold[0].name if isinstance(sold, tuple) else sold.name
        for offer, sold in zip(candidates.data.offers, candidates.sold, strict=True)
    }
    for line in purchase:
        if line.kind in ("server", "unit", "measured"):
            name = sellers[line.item]
            servers[name] += line.count
            accelerators.update({label: line.count * size for label, size in sizes[name].items()})
    return Totals(
        cost_per_hour=mean("cost_per_hour"),
        cost_per_task=mean("cost_per_hour") / (3600.0 * rate),
        energy_per_task_j=mean("power_w") / rate,
        power_w=mean("power_w"),
        peak_power_w=max(s.totals.peak_power_w for s in stages),
        accelerators=dict(accelerators),
        servers=dict(servers),
    )


def scenario_values(instance: Instance, stages: Sequence[StageTotals]) -> tuple[Scenario, ...]:
    """The objective in each scenario, over its periods; none where there is one scenario."""
    names = list(dict.fromkeys(stage.scenario for stage in instance.stages))
    found = []
    for name in names if len(names) > 1 else ():
        here = [(i, s) for i, s in zip(instance.stages, stages, strict=True) if s.scenario == name]
        rate = instance.mean_rate(name)
        usd = sum(s.share * s.totals.cost_per_hour for _, s in here)
        watts = sum(s.share * s.totals.power_w for _, s in here)
        carbon = sum(s.share * s.totals.power_w * i.instance.site.carbon_kg_per_joule for i, s in here)
        value = {
            "cost_per_hour": usd,
            "cost_per_task": usd / (3600.0 * rate),
            "energy_per_task": watts / rate,
            "power": watts,
            "carbon_per_task": carbon / rate,
        }.get(instance.objective, usd)
        found.append(Scenario(name=name, probability=here[0][1].probability, value=value))
    return tuple(found)
