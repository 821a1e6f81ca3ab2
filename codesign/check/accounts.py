"""Money and energy: what the plan says they are, against what purchase and pools come to."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.check.plan import ModelledPool, Plan
from codesign.check.power import measured_power_w, modelled_power_w
from codesign.check.purchase import Basket, provisioned_power_w
from codesign.check.report import ENERGY_TOLERANCE, Findings
from codesign.hardware.tco import electricity_usd_per_hour
from codesign.solution.schema import Totals

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Sums:
    """The fleet's figures, recomputed."""

    cost_per_hour: float
    cost_per_task: float
    energy_per_task_j: float
    power_w: float
    """Mean, at the meter."""
    carbon_per_task_kg: float


def check_accounts(plan: Plan, basket: Basket, findings: Findings) -> Sums:
    """Recompute cost, power and energy, compare them with the plan's, and return them."""
    site = plan.instance.site
    it_power = 0.0
    electricity = 0.0
    for pool in plan.pools:
        if isinstance(pool, ModelledPool):
            power = modelled_power_w(pool, plan.routes_of(pool))
            bought = basket.hardware[pool.option.name]
            flag = pool.entry.pays_electricity
            paid = power * (bought.share_without_power if flag is None else float(flag))
            electricity += electricity_usd_per_hour(paid, site.pue, site.electricity_usd_per_joule)
        else:
            power = measured_power_w(pool)
        name = f"pool {pool.entry.pool}: mean IT power, W"
        findings.equal(name, pool.entry.power_w, power, ENERGY_TOLERANCE)
        it_power += power
    modules = sum(bought.peak_power_w for bought in basket.memory.values())
    it_power += modules
    electricity += electricity_usd_per_hour(modules, site.pue, site.electricity_usd_per_joule)
    servers = sum(bought.usd_per_hour for bought in basket.items)
    rate = sum(task.rate_per_s for task in plan.instance.tasks)
    cost = servers + electricity
    meter = it_power * site.pue
    carbon = meter * site.carbon_kg_per_joule
    sums = Sums(cost, cost / (_SECONDS_PER_HOUR * rate), meter / rate, meter, carbon / rate)
    totals = plan.solution.totals
    if totals is None:
        findings.fail("totals", "given with a plan", None)
    else:
        _check_totals(plan, basket, totals, sums, findings)
    paid = electricity_usd_per_hour(modules, site.pue, site.electricity_usd_per_joule)
    paid += sum(bought.usd_per_hour for bought in basket.memory.values())
    _check_pool_costs(plan, basket, cost - paid, findings)
    _check_tasks(plan, sums, findings)
    budget = plan.instance.limits.cost_usd_per_hour
    if budget is not None:
        findings.at_most("limits.budget.cost_per_hour, $/h", cost, budget)
    return sums


def _check_totals(plan: Plan, basket: Basket, totals: Totals, sums: Sums, findings: Findings) -> None:
    findings.equal("totals.cost_per_hour", totals.cost_per_hour, sums.cost_per_hour)
    findings.equal("totals.cost_per_task", totals.cost_per_task, sums.cost_per_task)
    findings.equal(
        "totals.energy_per_task_j", totals.energy_per_task_j, sums.energy_per_task_j, ENERGY_TOLERANCE
    )
    findings.equal("totals.power_w", totals.power_w, sums.power_w, ENERGY_TOLERANCE)
    findings.equal("totals.peak_power_w", totals.peak_power_w, provisioned_power_w(plan, basket))
    accelerators: dict[str, int] = {}
    servers: dict[str, int] = {}
    kinds = [(o.catalogue_id, o.name, basket.hardware[o.name]) for o in plan.instance.hardware]
    kinds += [(p.accelerator, p.name, basket.measured[p.name]) for p in plan.instance.measured_pools]
    for label, name, bought in kinds:
        if bought.count:
            accelerators[label] = accelerators.get(label, 0) + bought.accelerators
        if alone := bought.count - bought.in_units:
            servers[name] = servers.get(name, 0) + alone
    servers |= {name: count for name, count in basket.units.items() if count}
    for word, reported, expected in (
        ("accelerators", totals.accelerators, accelerators),
        ("servers", totals.servers, servers),
    ):
        if {name: count for name, count in reported.items() if count} != expected:
            findings.fail(f"totals.{word} as purchased", str(expected), str(reported))


def _check_pool_costs(plan: Plan, basket: Basket, cost: float, findings: Findings) -> None:
    """Pools' costs come to that of all servers, less what was bought of hardware that no pool stands on."""
    used = {
        (part.name, pool.entry.pays_electricity) for pool in plan.modelled.values() for part, _ in pool.places
    }
    used_measured = {pool.source.name for pool in plan.measured.values()}
    idle = 0.0
    for name, bought in basket.hardware.items():
        if (name, None) not in used:
            beside, rest = bought.usd_without_power, bought.usd_per_hour - bought.usd_without_power
            idle += (beside if (name, True) not in used else 0.0) + (rest if (name, False) not in used else 0.0)
    idle += sum(b.usd_per_hour for name, b in basket.measured.items() if name not in used_measured)
    total = sum(entry.cost_per_hour for entry in plan.solution.fleet)
    findings.equal("sum of the pools' cost_per_hour", total, cost - idle)


def _check_tasks(plan: Plan, sums: Sums, findings: Findings) -> None:
    """Each task of the problem has its account, and the accounts come to the totals."""
    rates = {task.name: task.rate_per_s for task in plan.instance.tasks}
    listed = [task.name for task in plan.solution.tasks]
    if sorted(listed) != sorted(rates):
        findings.fail("tasks of the solution", ", ".join(rates), ", ".join(listed))
        return
    cost = sum(rates[task.name] * task.cost_per_task for task in plan.solution.tasks) * _SECONDS_PER_HOUR
    energy = sum(rates[task.name] * task.energy_per_task_j for task in plan.solution.tasks)
    findings.equal("sum over tasks of rate × cost_per_task, $/h", cost, sums.cost_per_hour)
    findings.equal("sum over tasks of rate × energy_per_task_j, W", energy, sums.power_w, ENERGY_TOLERANCE)
