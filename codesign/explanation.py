"""Why a plan is as it is, or why there is none, in the words of the problem file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData
from codesign.optimize.duals import Duals, column_costs, column_values
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.infeasible import diagnose
from codesign.optimize.relaxation import first_columns, relax
from codesign.optimize.strengthen import strengthened
from codesign.problem.instance import Instance, SloLevels, TaskClass
from codesign.solution.schema import ShadowPrice, Solution

_FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Multiples of an SLO that are tried to find what it would have to be."""
_CONFIRMATIONS, _UNDERBID, _CONFIRM_SECONDS = 6, 0.005, 10.0
"""Relaxations solved again for an entry price, how far below it the part is offered, and seconds for each."""


@dataclass(frozen=True)
class Conflict:
    """A limit that takes part in the infeasibility; `needed` is what it must be if it alone gives way."""

    limit: str
    unit: str
    allowed: float
    needed: float | None


@dataclass(frozen=True)
class Relaxation:
    """One step of the least relaxation that makes a plan possible (all steps together)."""

    limit: str
    unit: str
    allowed: float
    needed: float
    note: str


@dataclass(frozen=True)
class Binding:
    """What is full."""

    what: str
    detail: str


@dataclass(frozen=True)
class NotChosen:
    """A part that was offered and not bought."""

    accelerator: str
    reason: str
    enters_at_price: float | None
    """$ per accelerator-hour below which the relaxation would buy it."""


@dataclass(frozen=True)
class Explanation:
    """Either conflicts and relaxations, or what binds and why not the other parts."""

    feasible: bool
    conflicts: tuple[Conflict, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    binding: tuple[Binding, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    not_chosen: tuple[NotChosen, ...] = ()
    solution: Solution | None = None


def explain_infeasible(
    candidates: Candidates, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> tuple[tuple[Conflict, ...], tuple[Relaxation, ...]]:
    """Conflicting limits, and the least relaxation, of a problem without a plan."""
    found = diagnose(candidates.data, seconds, tell)
    if found is None:
        return _whole_number_conflicts(candidates.instance), ()
    conflicts: list[Conflict] = []
    relaxations: list[Relaxation] = []
    for c in found.unserved:
        for conflict, relaxation in _unserved(candidates.instance, c, seconds, tell):
            conflicts.append(conflict)
            if relaxation is not None:
                relaxations.append(relaxation)
    if found.unserved:
        return tuple(conflicts), tuple(relaxations)
    alone = {i.limit for i in found.limits}
    conflicts += [Conflict(i.limit, i.unit, i.allowed, i.needed) for i in found.limits]
    # Limits beyond the minimal set that would stand in the way next: they have to give way too.
    conflicts += [Conflict(i.limit, i.unit, i.allowed, None) for i in found.together if i.limit not in alone]
    for c in found.tasks:
        task = candidates.instance.tasks[c]
        conflicts.append(Conflict(f"tasks.{task.name}.rate", "tasks/s", task.rate_per_s, None))
    relaxations = [
        Relaxation(
            i.limit, i.unit, i.allowed, i.needed, "together with the other steps, the rest unchanged"
        )
        for i in found.together
        if i.needed is not None
    ]
    if found.servable < 1.0:
        relaxations += [
            Relaxation(
                f"tasks.{candidates.instance.tasks[c].name}.rate",
                "tasks/s",
                candidates.instance.tasks[c].rate_per_s,
                candidates.instance.tasks[c].rate_per_s * found.servable,
                "instead of moving any limit, all tasks of the conflict scaled down alike",
            )
            for c in found.tasks
        ]
    return tuple(conflicts), tuple(relaxations)


def _whole_number_conflicts(instance: Instance) -> tuple[Conflict, ...]:
    """The relaxation has a plan, whole servers and pools have none: the requirements that only they feel."""
    found = []
    limits, options = instance.limits, instance.options
    if limits.max_designs is not None:
        found.append(Conflict("limits.max_designs", "designs", float(limits.max_designs), None))
    if limits.max_vendors is not None:
        found.append(Conflict("limits.vendors", "vendors", float(limits.max_vendors), None))
    if instance.redundancy.survive != "none":
        found.append(Conflict("redundancy.survive", "servers lost", 1.0, 0.0))
    if not options.split_tasks:
        found.append(Conflict("options.split_tasks", "pools per task", 1.0, None))
    found += [
        Conflict(f"limits.inventory.{i.name}", "accelerators", float(i.accelerators), None)
        for i in limits.inventory
    ]
    return tuple(found)


def _unserved(
    instance: Instance, c: int, seconds: float, tell: Callable[[str], None]
) -> list[tuple[Conflict, Relaxation | None]]:
    """What keeps a task from every configuration: its SLOs, or the hardware and models on offer."""
    deadline = time.monotonic() + seconds
    task = instance.tasks[c]
    found: list[tuple[Conflict, Relaxation | None]] = []
    if task.variants:
        for metric in ("ttft", "tpot", "task_latency"):
            levels: SloLevels = getattr(task, f"{metric}_slo")
            if not levels:
                continue
            tell(f"tasks.{task.name}.slo.{metric}: what would it have to be")
            for factor in _FACTORS:
                if time.monotonic() > deadline or not _servable(instance, _eased(task, metric, 100.0)):
                    break
                if _servable(instance, _eased(task, metric, factor)):
                    percentile, target = levels[0]
                    name = f"tasks.{task.name}.slo.{metric}.p{percentile * 100:g}"
                    note = "the only change needed for this task; found on a grid of multiples"
                    found.append(
                        (
                            Conflict(name, "s", target, target * factor),
                            Relaxation(name, "s", target, target * factor, note),
                        )
                    )
                    break
    if not found:
        limits = [
            (f"tasks.{task.name}.slo.{metric}.p{p * 100:g}", seconds)
            for metric in ("ttft", "tpot", "task_latency")
            for p, seconds in getattr(task, f"{metric}_slo")
        ]
        bare = replace(task, ttft_slo=(), tpot_slo=(), task_latency_slo=())
        if task.variants and _servable(instance, bare):
            found = [(Conflict(name, "s", target, None), None) for name, target in limits]
        else:
            found = [
                (Conflict(f"tasks.{task.name}: no hardware on offer can serve it", "", 0.0, None), None)
            ]
    return found


def _eased(task: TaskClass, metric: str, factor: float) -> TaskClass:
    levels: SloLevels = getattr(task, f"{metric}_slo")
    eased = tuple((p, seconds * factor) for p, seconds in levels)
    return replace(task, **{f"{metric}_slo": eased})  # type: ignore[arg-type]


def _servable(instance: Instance, task: TaskClass) -> bool:
    """Does any configuration serve the task alone, limits aside?"""
    alone = replace(instance, tasks=(task,), measured_pools=())
    _, _, cost = first_columns(build_candidates(alone).data)
    return bool(np.all(np.isfinite(cost)))


def explain_plan(candidates: Candidates, plan: FleetPlan, solution: Solution) -> Explanation:
    """What binds in a plan, what one more unit is worth, and why the other parts were not bought."""
    binding = [
        Binding(
            pool.pool, f"{pool.binding}, {_share(pool.utilization.model_dump(), pool.binding):.0%} in use"
        )
        for pool in solution.fleet
    ]
    binding += [
        Binding(
            price.limit, f"full: one more {price.unit} saves {price.value:.4g} {solution.objective.unit}"
        )
        for price in solution.shadow_prices
        if price.value > 0
    ]
    return Explanation(
        feasible=True,
        binding=tuple(binding),
        shadow_prices=solution.shadow_prices,
        not_chosen=tuple(_not_chosen(candidates, plan)),
        solution=solution,
    )


def _share(utilization: dict[str, float | None], name: str) -> float:
    value = utilization.get(name)
    return max(v or 0.0 for v in utilization.values()) if value is None else value


def _not_chosen(candidates: Candidates, plan: FleetPlan) -> list[NotChosen]:
    data = candidates.data
    bought = {data.hardware[data.offers[o].hardware].name for o in plan.servers}
    prices = entry_prices(candidates, plan)
    found: list[NotChosen] = []
    for h, hardware in enumerate(data.hardware):
        if hardware.name in bought or any(item.accelerator == hardware.name for item in found):
            continue
        price = prices[h]
        offered = (
            min((o.usd_per_hour for o in data.offers if o.hardware == h), default=np.inf)
            / hardware.accelerators
        )
        if price is None:
            reason = "no configuration of it meets the SLOs and fits in memory"
            found.append(NotChosen(hardware.name, reason, None))
        elif data.usd_weight <= 0:
            found.append(NotChosen(hardware.name, "its use costs more of the objective", None))
        elif price >= offered * (1 - 1e-9):
            reason = f"at {offered:.2f} $/h it is as good as what was bought; whole servers decided"
            found.append(NotChosen(hardware.name, reason, price))
        else:
            reason = f"dearer for the same work: offered at {offered:.2f} $/h, worth {price:.2f} $/h"
            found.append(NotChosen(hardware.name, reason, price))
    return found


def entry_prices(candidates: Candidates, plan: FleetPlan) -> list[float | None]:
    """By hardware, $ per accelerator-hour below which the relaxation buys it (None: at no price).

    What the best use of a replica is worth at the relaxation's prices, less its power and its part of the
    shared limits, is what its accelerators may cost at most.  Prices of a relaxation are seldom unique, so a
    part that is not bought there is offered for a little less, the relaxation is solved again, and its new
    prices are taken, until it is bought.
    """
    data = strengthened(candidates.data)  # the rows whose relaxation gave the prices
    duals = Duals(
        np.array(plan.demand_duals),
        np.array(plan.commodity_duals),
        np.array(plan.limit_duals),
        np.array(plan.server_duals),
    )
    bought = {data.offers[o].hardware for o in plan.servers}
    prices = _worth(data, duals)
    for h, price in enumerate(prices):
        for _ in range(_CONFIRMATIONS if h not in bought and data.usd_weight > 0 else 0):
            if price is None or price <= 0:
                break
            offered = price * (1 - _UNDERBID)
            found = relax(_offered_at(data, h, offered), time.monotonic() + _CONFIRM_SECONDS)
            if found.servers[h] > 1e-9:
                break
            again = _worth(data, found.duals)[h]
            price = min(offered, again if again is not None else offered)
        prices[h] = price
    return prices


def _offered_at(data: FleetData, h: int, usd_per_accelerator_hour: float) -> FleetData:
    """The same problem with every offer of one hardware at a price."""
    price = usd_per_accelerator_hour * data.hardware[h].accelerators
    return replace(
        data, offers=tuple(replace(o, usd_per_hour=price) if o.hardware == h else o for o in data.offers)
    )


def _worth(data: FleetData, duals: Duals) -> list[float | None]:
    """By hardware, $ per accelerator-hour that its best use is worth at these prices (None: no use at all)."""
    free = replace(data, offers=tuple(replace(o, usd_per_hour=0.0) for o in data.offers))
    shadow = column_costs(free, duals)  # what limits and power alone charge a replica
    values = column_values(data, duals, np.zeros(data.columns))
    best = np.full(len(data.hardware), -np.inf)
    hardware_of = np.array([p.hardware for p in data.packings], dtype=np.int64)
    slots = np.array([p.slots for p in data.packings], dtype=np.float64)
    for b, block in enumerate(data.blocks):
        rows = slice(int(data.offsets[b]), int(data.offsets[b + 1]))
        net = (values[rows] - shadow[rows]) / block.packed * slots[block.packing]
        np.maximum.at(best, hardware_of[block.packing], np.where(values[rows] > 0, net, -np.inf))
    weight = data.usd_weight or 1.0
    return [
        max(0.0, float(value)) / weight / data.hardware[h].accelerators if np.isfinite(value) else None
        for h, value in enumerate(best)
    ]
