"""Why parts that were offered were not bought, and the price at which each would be."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.data import FleetData
from codesign.explanation.schema import NotChosen
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.pricing import best_values, chunks
from codesign.optimize.relaxation import Duals, column_costs, flow_worth, relax, watt_prices
from codesign.optimize.strengthen import strengthened

_CONFIRMATIONS, _UNDERBID, _CONFIRM_SECONDS = 6, 0.005, 10.0
"""Relaxations solved again for an entry price, how far below it the part is offered, and seconds for each."""


def parts_not_chosen(candidates: Candidates, plan: FleetPlan) -> list[NotChosen]:
    """Each part of which nothing was bought, with the reason and its entry price."""
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
        np.array(plan.demand_duals), np.array(plan.commodity_duals), np.array(plan.limit_duals)
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
    worth = flow_worth(data, duals)
    watts = watt_prices(data, duals.limit)
    free = replace(data, offers=tuple(replace(o, usd_per_hour=0.0) for o in data.offers))
    shadow = column_costs(free, duals.limit)  # what limits and power alone charge a replica
    best = np.full(len(data.hardware), -np.inf)
    hardware_of = np.array([p.hardware for p in data.packings], dtype=np.int64)
    slots = np.array([p.slots for p in data.packings], dtype=np.float64)
    for b, block in enumerate(data.blocks):
        for part in chunks(block):
            packing = block.packing[part]
            spent = watts[packing][:, None] * block.flow_power(part)
            gain = np.where(block.admissible[part], worth[block.flows][None, :] - spent, 0.0)
            value = best_values(block.use.of(part), block.limit[part], gain)
            charged = shadow[data.offsets[b] + part.start : data.offsets[b] + part.stop]
            net = (value - charged) / block.packed[part] * slots[packing]
            np.maximum.at(best, hardware_of[packing], np.where(value > 0, net, -np.inf))
    weight = data.usd_weight or 1.0
    return [
        max(0.0, float(value)) / weight / data.hardware[h].accelerators if np.isfinite(value) else None
        for h, value in enumerate(best)
    ]
