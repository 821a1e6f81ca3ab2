"""What one more unit is worth: of limits, of tasks, and of what the accelerators of a pool offer.

Prices come from the relaxation, where the fleet may follow in fractions of servers, or from the LP with the plan's
counts held (`fixed`), where only calls can move.  A price holds for small changes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData
from codesign.clock import Clock
from codesign.explanation.worth import duals_of, net_values
from codesign.optimize.duals import Duals
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.sensitivity import fixed_duals
from codesign.optimize.strengthen import strengthened
from codesign.problem.instance import Instance
from codesign.solution.counted import counted
from codesign.solution.schema import ShadowPrice, Solution

_FEWER = 0.01
"""Share of a task's rate that its price is given for."""
_STEP = 0.01
"""Share by which a resource grows to see what it is worth."""
_NOTHING = 1e-9


@dataclass(frozen=True)
class Resource:
    """Something that an accelerator offers."""

    label: str
    fields: tuple[str, ...]
    """Fields of the accelerator that grow together."""
    unit: str
    per_unit: float
    """SI units in one of these."""


RESOURCES = (
    Resource("memory", ("memory_capacity", "usable_memory"), "GB per replica", 1e9),
    Resource("memory bandwidth", ("memory_bandwidth",), "GB/s per replica", 1e9),
    Resource("compute", ("fp16_flops", "fp8_flops", "fp4_flops", "int8_flops"), "TFLOP/s per replica", 1e12),
    Resource("network", ("scaleout_bandwidth",), "GB/s per replica", 1e9),
)
"""Compute is counted at the fastest rate that the accelerator has; its other rates grow in proportion."""


def shadow_prices(
    candidates: Candidates, plan: FleetPlan, solution: Solution, clock: Clock
) -> tuple[list[ShadowPrice], list[str]]:
    """Of every limit (relaxation and fixed), of 1 % of every task, and of what binds in each pool; and which hardware
    the clock left no time for."""
    data = candidates.data
    clock.tell("what one more unit is worth")
    held = fixed_duals(counted(candidates, plan).data, plan)
    relaxed = duals_of(plan)
    found = list(solution.shadow_prices)
    found += [
        _price(limit.name, limit.unit, float(dual) / limit.scale, "fixed")
        for limit, dual in zip(data.limits, held.limit, strict=True)
    ]
    for source, duals in (("relaxation", relaxed), ("fixed", held)):
        found += [
            _price(f"tasks.{name}.rate", "1 % fewer", _FEWER * float(dual), source)
            for name, dual in zip(data.tasks, duals.demand, strict=True)
        ]
    resources, late = _resources(candidates, plan, solution, relaxed, clock)
    notes = [f"what more of an accelerator's resources is worth: no time was left for {', '.join(late)}"]
    return found + resources, notes if late else []


def _price(limit: str, unit: str, value: float, source: str) -> ShadowPrice:
    return ShadowPrice.model_validate({"limit": limit, "unit": unit, "value": value + 0.0, "from": source})


def _resources(
    candidates: Candidates, plan: FleetPlan, solution: Solution, duals: Duals, clock: Clock
) -> tuple[list[ShadowPrice], list[str]]:
    """Of what each modelled pool's accelerators offer, where more of it is worth anything; hardware that is left."""
    found: list[ShadowPrice] = []
    late: list[str] = []
    for option in sorted({pool.hardware for pool in solution.fleet if pool.parallelism is not None}):
        if clock.stopped():
            late.append(option)
            continue
        clock.tell(f"what more of everything would be worth on {option}")
        for resource, (gains, size) in resource_gains(candidates, duals, option).items():
            for pool in solution.fleet:
                gain = gains.get(pool.group, 0.0)
                if pool.hardware == option and pool.replicas and gain > _NOTHING * abs(plan.objective):
                    accelerators = pool.accelerators / (pool.replicas + pool.spares)
                    value = pool.replicas * gain / (_STEP * size * accelerators / resource.per_unit)
                    found.append(_price(f"{pool.pool}: {resource.label}", resource.unit, value, "relaxation"))
    return sorted(found, key=lambda price: price.limit), late


def resource_gains(
    candidates: Candidates, duals: Duals, option: str
) -> dict[Resource, tuple[dict[str, float], float]]:
    """What a replica of each group of one hardware gains by 1 % more of each resource at these prices; its SI amount.

    The best operating point of the configuration before against that after: the grids stay as they are.
    """
    part = _alone(candidates.instance, option)
    accelerator = part.hardware[0].accelerator
    before = _net(candidates.data, duals, part)
    found = {}
    for resource in RESOURCES:
        amounts = {name: value for name in resource.fields if (value := getattr(accelerator, name))}
        more = {name: value * (1 + _STEP) for name, value in amounts.items()}
        hardware = tuple(
            replace(item, accelerator=item.accelerator.model_copy(update=more)) for item in part.hardware
        )
        after = _net(candidates.data, duals, replace(part, hardware=hardware))
        gains = {name: after[name] - value for name, value in before.items() if name in after}
        found[resource] = gains, float(max(amounts.values()))
    return found


def _alone(instance: Instance, option: str) -> Instance:
    """The instance with one hardware, and nothing measured."""
    hardware = tuple(item for item in instance.hardware if item.name == option)
    inventory = tuple(
        replace(item, hardware=tuple({option} & set(item.hardware)), measured=()) for item in instance.limits.inventory
    )
    limits = replace(instance.limits, inventory=inventory)
    units = tuple(replace(unit, hardware=(option,)) for unit in instance.units if option in unit.hardware)
    return replace(instance, hardware=hardware, units=units, measured_pools=(), limits=limits)


def _net(whole: FleetData, duals: Duals, instance: Instance) -> dict[str, float]:
    """By group name, what its best column earns beyond its cost at the whole fleet's prices.

    The instance is the whole one with less hardware, so its limits are among the whole's. A level that only better
    hardware reaches is none of the whole's commodities and has no price: its flows stay closed.
    """
    data = _of_commodities(strengthened(build_candidates(instance, bounded=False).data), whole.commodities)
    commodity = dict(zip(whole.commodities, duals.commodity.tolist(), strict=True))
    limit = {item.name: float(dual) / item.scale for item, dual in zip(whole.limits, duals.limit, strict=True)}
    server = dict(zip(_numbered(whole), duals.bought.tolist(), strict=True))
    mine = Duals(
        duals.demand,
        np.array([commodity.get(key, 0.0) for key in data.commodities], dtype=np.float64),
        np.array([limit[item.name] * item.scale for item in data.limits], dtype=np.float64),
        np.array([server[key] for key in _numbered(data)], dtype=np.float64),
    )
    best = np.full(len(data.groups), -np.inf)
    if data.columns:
        np.maximum.at(best, np.concatenate([block.group for block in data.blocks]), net_values(data, mine))
    found: dict[str, float] = {}
    for group, value in zip(data.groups, best.tolist(), strict=True):
        if np.isfinite(value):  # a group has one name in all periods: that where it is worth most
            found[group.name] = max(found.get(group.name, -np.inf), value)
    return found


def _of_commodities(data: FleetData, known: Sequence[Hashable]) -> FleetData:
    """The problem with the flows of all other commodities closed."""
    keys = set(known)
    opened = np.array([f.commodity is None or data.commodities[f.commodity] in keys for f in data.flows], dtype=bool)
    blocks = tuple(replace(block, admissible=block.admissible & opened[block.flows]) for block in data.blocks)
    return replace(data, blocks=blocks)


def _numbered(data: FleetData) -> list[tuple[str, int]]:
    """Rows of hardware by name and number: a name comes once in each period."""
    seen: dict[str, int] = {}
    keys = []
    for item in data.hardware:
        seen[item.name] = seen.get(item.name, -1) + 1
        keys.append((item.name, seen[item.name]))
    return keys
