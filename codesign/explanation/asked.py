"""What a problem file asks for, as requirements that could give way: rates, limits, purchases, the fleet's shape."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import floor

from codesign.candidates.build import Candidates
from codesign.candidates.data import FleetData, SideLimit
from codesign.optimize.elastic import countable, elastic, used
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.requirements import (
    TASK,
    Requirement,
    by_the_accelerator,
    without_limit,
    without_minimum,
    without_task,
)
from codesign.problem.instance import Instance, Rack

_MOST_PER_RACK = 16
"""Servers in a rack up to which its power is varied."""


def requirements(candidates: Candidates) -> list[Requirement]:
    """What the file asks for, each with the fleet without it; those that seldom conflict first."""
    instance, data = candidates.instance, candidates.data
    racks = _racks(candidates)
    found = [
        Requirement(
            rate_name(instance, c), "tasks/s", float(data.demand[c]), TASK, partial(_without_task, name=name)
        )
        for c, name in enumerate(data.tasks)
    ]
    for limit in data.limits:
        if limit.per_flow or not limit.unit:  # what tiers and ports hold, or rows of ours: nobody's wish
            continue
        found += racks.get(limit.name) or [_shared(limit)]
    sold = _sold(instance)
    for offer in data.offers:
        if offer.min_servers > 1:
            of, label, size = sold[offer.name]
            found.append(
                Requirement(
                    f"{of}.offers.{label}.min",
                    "accelerators" if size else "units",
                    float(offer.min_servers * (size or 1)),
                    "purchase",
                    partial(without_minimum, offer=offer.name),
                    used=partial(_taken, offer=offer.name, size=size or 1),
                )
            )
    found += [
        Requirement(
            f"hardware.{item.name}.server.accelerators",
            "accelerators",
            float(item.accelerators),
            "purchase",
            partial(by_the_accelerator, hardware=item.name),
            used=lambda data, plan: 1.0,
        )
        for item in {h.name: h for h in data.hardware[: len(instance.hardware)]}.values()
        if item.accelerators > 1 and not any(item.name in unit.hardware for unit in instance.units)
    ]
    found += _structure(data)
    order = ("limit", "purchase", "shape", TASK)
    return sorted(found, key=lambda r: order.index(r.kind))


def stated(instance: Instance, c: int) -> tuple[Instance, int, str]:
    """The instance that states task `c` of the fleet problem, its place there, and in which period and scenario."""
    for stage in instance.stages:
        if c < len(stage.instance.tasks):
            return stage.instance, c, stage.named("")
        c -= len(stage.instance.tasks)
    return instance, c, ""


def rate_name(instance: Instance, c: int) -> str:
    """The field of a task's rate, by its place in the fleet problem, with the period that it belongs to."""
    where, own, when = stated(instance, c)
    return f"tasks.{where.tasks[own].name}.rate{when}"


def _shared(limit: SideLimit) -> Requirement:
    """A limit over what is bought and run."""
    counted = countable(limit)
    return Requirement(
        limit.name,
        limit.unit,
        limit.limit,
        "limit",
        partial(without_limit, name=limit.name),
        used=partial(_used, limit=limit) if counted else None,
        measured=partial(elastic, names=(limit.name,)) if counted else None,
    )


def _used(data: FleetData, plan: FleetPlan, limit: SideLimit) -> float:
    return used(data, limit, plan)


def _sold(instance: Instance) -> dict[str, tuple[str, str, int]]:
    """By name of an offer: the field of what it sells, its label, and the accelerators of a server (0: a unit)."""
    found: dict[str, tuple[str, str, int]] = {}
    for where in (instance, *(stage.instance for stage in instance.stages)):
        for option in where.hardware:
            for offer in option.offers:
                sold = (f"hardware.{option.hardware}", offer.name, option.server_accelerators)
                found[f"{option.name}/{offer.name}"] = sold
        for unit in where.units:
            for offer in unit.offers:
                found[f"{unit.name}/{offer.name}"] = (f"purchase_units.{unit.name}", offer.name, 0)
    return found


# ---- racks: how many there are, and what each may draw ---------------------------------------------------------


def _racks(candidates: Candidates) -> dict[str, list[Requirement]]:
    """By name of a row of racks: their number, where some server fits in one, and the power of each."""
    data = candidates.data
    own = candidates.stages[0].candidates.data if candidates.stages else data
    peak = {o.name: sum(own.hardware[row].peak_power_w for row in o.supplies) for o in own.offers}
    found: dict[str, list[Requirement]] = {}
    for rack in candidates.instance.site.racks:
        for limit in data.limits:
            base = f"site.racks.{rack.name}"
            if limit.name != base and not limit.name.startswith(f"{base} ("):
                continue
            watts = {o: peak[data.offers[o].name] for o in limit.per_server if data.offers[o].name in peak}
            too_large = tuple(o for o, each in watts.items() if each > rack.power_w * (1 + 1e-9))
            power = Requirement(
                f"{base}.power{limit.name[len(base) :]}",
                "W",
                rack.power_w,
                "limit",
                partial(without_limit, name=limit.name),
                at=partial(_racks_of, name=limit.name, rack=rack, watts=watts),
                of=limit.name,
                choices=_powers(rack, watts),
            )
            count = Requirement(
                limit.name,
                limit.unit,
                limit.limit,
                "limit",
                partial(_any_number, name=limit.name, too_large=too_large),
                used=partial(_used, limit=limit),
                measured=partial(_more_racks, name=limit.name, too_large=too_large),
            )
            found[limit.name] = [power] if len(too_large) == len(watts) else [count, power]
    return found


def _powers(rack: Rack, watts: dict[int, float]) -> tuple[float, ...]:
    """Powers of a rack, above its own, from which on one more server of some kind stands in it."""
    powers = {n * each for each in watts.values() for n in range(1, _MOST_PER_RACK + 1)}
    return tuple(sorted(power for power in powers if power > rack.power_w * (1 + 1e-9)))


def _racks_of(data: FleetData, value: float, name: str, rack: Rack, watts: dict[int, float]) -> FleetData:
    """The fleet whose racks of one kind may draw `value` watts each.  (`data` may have lost the row.)"""
    share = {}
    for o, each in watts.items():
        fitting = floor(value / each + 1e-9)
        share[o] = 1.0 / fitting if fitting else rack.count + 1.0
    return without_limit(data, name).with_limits([SideLimit(name, "racks", float(rack.count), share)])


def _alone(name: str, too_large: tuple[int, ...]) -> list[SideLimit]:
    """Servers that draw more than a rack's power stand in none, however many racks there are."""
    return [SideLimit(f"{name}: servers that fit in none", "", 0.0, dict.fromkeys(too_large, 1.0))] if too_large else []


def _any_number(data: FleetData, name: str, too_large: tuple[int, ...]) -> FleetData:
    """The fleet with as many racks as it wants."""
    return without_limit(data, name).with_limits(_alone(name, too_large))


def _more_racks(data: FleetData, name: str, too_large: tuple[int, ...]) -> FleetData:
    """The fleet whose objective is the share of further racks."""
    return elastic(data.with_limits(_alone(name, too_large)), (name,))


def _structure(data: FleetData) -> list[Requirement]:
    """Requirements on the fleet's shape."""
    found = []
    if not data.split_tasks:
        found.append(
            Requirement(
                "options.split_tasks",
                "pools a task",
                1.0,
                "shape",
                lambda d: replace(d, split_tasks=True),
                used=_pools_a_task,
            )
        )
    if data.max_vendors is not None:
        found.append(
            Requirement(
                "limits.vendors",
                "vendors",
                float(data.max_vendors),
                "shape",
                lambda d: replace(d, max_vendors=None),
                lambda d, value: replace(d, max_vendors=int(value)),
                _vendors,
            )
        )
    if data.survive_one_server:
        found.append(
            Requirement(
                "redundancy.survive", "servers lost", 1.0, "shape", lambda d: replace(d, survive_one_server=False)
            )
        )
    if data.max_designs is not None:
        found.append(
            Requirement(
                "limits.max_designs",
                "designs",
                float(data.max_designs),
                "shape",
                lambda d: replace(d, max_designs=None),
                lambda d, value: replace(d, max_designs=int(value)),
                _designs,
            )
        )
    return found


def _without_task(data: FleetData, name: str) -> FleetData:
    return without_task(data, data.tasks.index(name))


def _taken(data: FleetData, plan: FleetPlan, offer: str, size: int) -> float:
    """What a plan takes of an offer, in things of which one server or unit has `size`."""
    o = next(i for i, item in enumerate(data.offers) if item.name == offer)
    return float(plan.servers.get(o, 0) * size)


def _groups(data: FleetData, plan: FleetPlan) -> set[int]:
    return {int(data.blocks[b].group[i]) for b, i in data.locate(list(plan.replicas))}


def _designs(data: FleetData, plan: FleetPlan) -> float:
    return float(len(_groups(data, plan)))


def _vendors(data: FleetData, plan: FleetPlan) -> float:
    return float(len({data.hardware[row].vendor for o in plan.servers for row in data.offers[o].supplies}))


def _pools_a_task(data: FleetData, plan: FleetPlan) -> float:
    pools: dict[tuple[int, bool], set[int]] = {}
    for column, f in plan.rates:
        pools.setdefault((data.flows[f].task, data.flows[f].serves), set()).add(column)
    return float(max(map(len, pools.values())))
