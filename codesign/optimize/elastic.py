"""Limits that may give way at a price: the least by which some would have to move for a plan in whole numbers.

What a limit is exceeded by is a quantity bought in any amount, 1 for a whole limit, and nothing else costs anything.
So every plan of such a fleet proves a relaxation, and its bound says that no smaller one will do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from codesign.candidates.data import FleetData, Module, SideLimit
from codesign.candidates.objectives import figure
from codesign.optimize.fleet import FleetPlan


def elastic(data: FleetData, names: Collection[str]) -> FleetData:
    """The fleet whose objective is the sum of the shares by which the limits of these names are exceeded."""
    beyond: list[Module] = []
    limits: list[SideLimit] = []
    for limit in data.limits:
        if limit.name in names:
            j = len(data.modules) + len(beyond)
            beyond.append(Module(f"beyond {limit.name}", 1.0, whole=False))
            limit = replace(limit, per_module={**limit.per_module, j: -limit.scale})
        limits.append(limit)
    return replace(free(data), limits=tuple(limits), modules=(*free(data).modules, *beyond))


def free(data: FleetData) -> FleetData:
    """The fleet where nothing costs anything."""
    return replace(
        data,
        offers=tuple(replace(offer, usd_per_hour=0.0) for offer in data.offers),
        hardware=tuple(replace(row, hours_share=0.0) for row in data.hardware),
        modules=tuple(
            replace(module, usd_per_hour=0.0, power_w=0.0, electricity_usd_per_wh=0.0) for module in data.modules
        ),
        usd_weight=1.0,
        watt_weight=0.0,
    )


def countable(limit: SideLimit) -> bool:
    """Does a limit count servers, modules and watts alone, which `used` knows?"""
    return not (limit.per_packing or limit.per_group or limit.per_flow)


def used(data: FleetData, limit: SideLimit, plan: FleetPlan) -> float:
    """What a plan takes of a limit over servers, modules and watts.  Raises ValueError for one over anything else."""
    if not countable(limit):
        raise ValueError(f"{limit.name} counts more than servers, modules and watts")
    bare = free(data)
    offers = tuple(replace(o, usd_per_hour=limit.per_server.get(i, 0.0)) for i, o in enumerate(bare.offers))
    modules = tuple(replace(m, usd_per_hour=limit.per_module.get(j, 0.0)) for j, m in enumerate(bare.modules))
    hardware = tuple(
        replace(row, electricity_usd_per_wh=limit.per_watt.get(h, 0.0), hours_share=1.0)
        for h, row in enumerate(bare.hardware)
    )
    counted = replace(bare, offers=offers, modules=modules, hardware=hardware)
    modules_of = {j: n for j, n in plan.modules.items() if j < len(counted.modules)}
    return figure(counted, plan.servers, plan.replicas, plan.spares, plan.rates, modules_of)
