"""Who pays for what: pools' costs and energy divided over tasks, and the totals that they sum to.

A pool's cost is divided by its tasks' shares of its binding row, so idle time is borne in proportion
(DESIGN 3.6); what is bought beyond the pools (empty slots, spares) follows the pools' cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.candidates.build import Candidates
from codesign.optimize.fleet import FleetPlan


@dataclass(frozen=True)
class PoolAccount:
    """One column's part of the fleet."""

    column: int
    group: int
    hardware: int
    replicas: int
    spares: int
    accelerators: int
    """Of replicas and spares."""
    cost_per_hour: float
    power_w: float
    """Mean IT power."""
    share: dict[int, float]
    """Of the cost, by task."""
    flow_power_w: dict[int, float]
    """Of the power beyond the replicas', by task."""
    load: float
    """Largest share of a row in use (design rows)."""
    unfilled: float
    """Share of its servers' slots that no replica fills."""


@dataclass(frozen=True)
class Accounts:
    """The whole fleet's money and power."""

    pools: tuple[PoolAccount, ...]
    servers_usd_per_hour: float
    modules_usd_per_hour: float
    """Of memory modules, their electricity included."""
    task_modules_usd_per_hour: dict[int, float]
    """Of these, by task."""
    electricity_usd_per_hour: float
    """Of the pools."""
    power_w: float
    """Mean IT power."""
    task_cost_per_hour: dict[int, float]
    task_power_w: dict[int, float]


def settle(candidates: Candidates, plan: FleetPlan) -> Accounts:
    """Accounts of a plan.  Spares of a group stand with its first pool."""
    data = candidates.data
    by_hardware = np.zeros(len(data.hardware))
    for o, count in plan.servers.items():
        for row, portion in data.shares(data.offers[o]).items():
            by_hardware[row] += count * data.offers[o].usd_per_hour * portion
    spares = dict(plan.spares)
    drafts = []
    for column, replicas in plan.replicas.items():
        block, i = data.locate([column])[0]
        part = data.blocks[block]
        group = int(part.group[i])
        use = part.use.one(i)
        spare = spares.pop(group, 0)
        hardware = data.groups[group].hardware
        flow_power: dict[int, float] = {}
        rows: dict[int, np.ndarray] = {}
        for v, f in enumerate(part.flows.tolist()):
            rate = plan.rates.get((column, f), 0.0)
            if rate:
                task = data.flows[f].task
                flow_power[task] = flow_power.get(task, 0.0) + rate * float(
                    part.flow_power_w[part.use.source[i], v]
                )
                rows[task] = rows.get(task, np.zeros(part.use.shape[1])) + rate * use[:, v]
        loads = sum(rows.values(), np.zeros(part.use.shape[1])) / (part.limit[i] * replicas)
        binding = int(np.argmax(loads)) if len(loads) else 0
        total = sum(float(use[binding]) for use in rows.values())
        share = {task: float(use[binding]) / total for task, use in rows.items()} if total else {}
        places = [(hardware, int(part.packed[i]))]
        if part.other_packing is not None and part.other_packed is not None and part.other_packing[i] >= 0:
            other = data.packings[int(part.other_packing[i])].hardware
            places.append((other, int(part.other_packed[i])))
        power = float(part.replica_power_w[i]) * (replicas + spare) + sum(flow_power.values())
        drafts.append(
            (
                column,
                group,
                hardware,
                replicas,
                spare,
                places,
                power,
                share,
                flow_power,
                float(loads[binding]),
            )
        )
    slots = np.zeros(len(data.hardware))
    for o, count in plan.servers.items():
        for row in data.offers[o].supplies:
            slots[row] += count * data.hardware[row].accelerators
    used = np.zeros(len(data.hardware))
    for _, _, _, replicas, spare, places, *_ in drafts:
        for row, size in places:
            used[row] += (replicas + spare) * size
    electricity = 0.0
    pools = []
    for column, group, hardware, replicas, spare, places, power, share, flow_power, load in drafts:
        count = replicas + spare
        accelerators = count * sum(size for _, size in places)
        bill = power * data.hardware[hardware].electricity_usd_per_wh
        electricity += bill
        cost = bill + sum(by_hardware[row] * count * size / used[row] for row, size in places)
        pools.append(
            PoolAccount(
                column,
                group,
                hardware,
                replicas,
                spare,
                accelerators,
                cost,
                power,
                share,
                flow_power,
                load,
                1.0 - used[hardware] / slots[hardware],
            )
        )
    task_cost = dict.fromkeys(range(len(data.tasks)), 0.0)
    task_power = dict.fromkeys(range(len(data.tasks)), 0.0)
    idle = idle_power = 0.0
    for pool in pools:
        constant = pool.power_w - sum(pool.flow_power_w.values())
        for task, part_of in pool.share.items():
            task_cost[task] += part_of * pool.cost_per_hour
            task_power[task] += part_of * constant + pool.flow_power_w.get(task, 0.0)
        if not pool.share:
            idle += pool.cost_per_hour
            idle_power += pool.power_w
    idle += float(by_hardware[used == 0].sum())
    spread = sum(task_cost.values())
    if spread > 0 and idle > 0:
        task_cost = {task: cost * (1 + idle / spread) for task, cost in task_cost.items()}
    drawn = sum(task_power.values())
    if drawn > 0 and idle_power > 0:
        task_power = {task: power * (1 + idle_power / drawn) for task, power in task_power.items()}
    modules = dict.fromkeys(task_cost, 0.0)
    module_power = 0.0
    for m, count in plan.modules.items():
        item = data.modules[m]
        cost = count * (item.usd_per_hour + item.power_w * item.electricity_usd_per_wh)
        module_power += count * item.power_w
        for task, part_of in _module_shares(candidates, plan, m, pools).items():
            modules[task] += part_of * cost
            task_cost[task] += part_of * cost
            task_power[task] += part_of * count * item.power_w
    return Accounts(
        tuple(pools),
        float(by_hardware.sum()),
        sum(modules.values()),
        modules,
        electricity,
        sum(pool.power_w for pool in pools) + module_power,
        task_cost,
        task_power,
    )


def _module_shares(
    candidates: Candidates, plan: FleetPlan, module: int, pools: Sequence[PoolAccount]
) -> dict[int, float]:
    """Shares of a module's cost by task: of what its rows are used for, of all demand where nothing uses it.

    Attached modules are used by the tasks of their pools, as those share the pools themselves.
    """
    data = candidates.data
    rates: dict[int, float] = {}
    for (_, f), rate in plan.rates.items():
        rates[f] = rates.get(f, 0.0) + rate
    use = np.zeros(len(data.tasks))
    for limit in data.limits:
        size = -limit.per_module.get(module, 0.0)
        if size > 0 and limit.per_flow:
            for (f, _), each in limit.per_flow.items():
                use[data.flows[f].task] += each * rates.get(f, 0.0) / size
    for pool in pools:
        block, i = data.locate([pool.column])[0]
        packing = data.packings[int(data.blocks[block].packing[i])]
        each = packing.modules.get(module, 0.0) / packing.slots
        for task, part_of in pool.share.items():
            use[task] += each * pool.accelerators * part_of
    if not use.sum() > 0:
        use = data.demand
    return {task: float(share) for task, share in enumerate(use / use.sum()) if share > 0}
