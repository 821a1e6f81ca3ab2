"""Why parts that were offered were not bought, and the price at which each would be."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.data import FleetData, Offer
from codesign.explanation.schema import NotChosen
from codesign.explanation.worth import binding_rows, duals_of, net_values
from codesign.optimize.duals import Duals
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened

_CONFIRMATIONS, _UNDERBID, _CONFIRM_SECONDS = 12, 0.005, 10.0
"""Relaxations solved again for an entry price, how far below it the part is offered, and seconds for each."""


def parts_not_chosen(candidates: Candidates, plan: FleetPlan, deadline: float = math.inf) -> list[NotChosen]:
    """Each part of which nothing was bought, with the reason and its entry price (confirmed until `deadline`)."""
    data = candidates.data
    bought = {data.hardware[h].name for o in plan.servers for h in data.offers[o].supplies}
    prices = entry_prices(candidates, plan, deadline)
    tight = strengthened(data)
    uses = _best_uses(tight, duals_of(plan))
    found: list[NotChosen] = []
    for h, hardware in enumerate(data.hardware):
        if hardware.name in bought or any(item.accelerator == hardware.name for item in found):
            continue
        price, use = prices[h], uses[h]
        if price is None or use is None:
            found.append(NotChosen(hardware.name, _no_use(candidates, h), None))
            continue
        binds = _binding(tight, use.column, duals_of(plan))
        alone = [o.usd_per_hour for o in data.offers if sold_alone(data, o, h)]
        offered = min(alone, default=np.inf) / hardware.accelerators
        if data.usd_weight > 0 and not alone:
            reason = f"its purchase unit is dearer for the same work; worth {price:.2f} $/h by itself; {binds}"
            found.append(NotChosen(hardware.name, reason, price))
        elif data.usd_weight <= 0:
            found.append(NotChosen(hardware.name, f"its use costs more of the objective; {binds}", None))
        elif price >= offered * (1 - 1e-9):
            reason = f"at {offered:.2f} $/h it is as good as what was bought; whole servers decided; {binds}"
            found.append(NotChosen(hardware.name, reason, price))
        else:
            reason = f"dearer for the same work: offered at {offered:.2f} $/h, worth {price:.2f} $/h; {binds}"
            found.append(NotChosen(hardware.name, reason, price))
    return found


def sold_alone(data: FleetData, offer: Offer, h: int) -> bool:
    """Does an offer bring servers of this hardware, and of no other?"""
    return h in offer.supplies and {data.hardware[row].name for row in offer.supplies} == {data.hardware[h].name}


def _no_use(candidates: Candidates, h: int) -> str:
    """Why a hardware can serve nothing at all: no model fits, or no operating point meets the SLOs."""
    data, configurations = candidates.data, candidates.configurations
    if configurations is None or h >= len(candidates.instance.hardware):
        return "it serves none of the tasks"
    mine = {int(m) for m in configurations.model[configurations.hardware == h]}
    models = [model.name for m, model in enumerate(candidates.instance.models) if m in mine]
    if not models:
        return "memory: no replica that is allowed holds the weights of any model, in a precision that it can run"
    columns = sum(
        int(np.count_nonzero([data.packings[p].hardware == h for p in block.packing.tolist()])) for block in data.blocks
    )
    if not columns:
        return f"it holds the weights of {', '.join(models)}, but no operating point with room for KV meets the SLOs"
    return f"it could run {', '.join(models)}, but at the plan's prices no call that it can carry is worth its power"


_ROWS = (
    (("capacity",), "memory capacity"),
    (("time", "busy", "wait", "spread"), "step time (compute and memory bandwidth)"),
    (("slots",), "sequences per replica"),
    (("link",), "network"),
)
"""Beginnings of the names of rows, and what they limit."""


def _binding(data: FleetData, column: int, duals: Duals) -> str:
    """What limits a replica in its best use, in words."""
    shares: dict[str, float] = {}
    for row, share in binding_rows(data, column, duals).items():
        word = next((word for names, word in _ROWS if row.startswith(names)), row)
        shares[word] = shares.get(word, 0.0) + share
    parts = [f"{word} {share:.0%}" for word, share in shares.items() if share >= 0.05]
    return f"in its best use, {data.groups[_group(data, column)].name}, it is limited by {', '.join(parts)}"


def _group(data: FleetData, column: int) -> int:
    b, i = data.locate([column])[0]
    return int(data.blocks[b].group[i])


def entry_prices(candidates: Candidates, plan: FleetPlan, deadline: float = math.inf) -> list[float | None]:
    """By hardware, $ per accelerator-hour below which the relaxation buys it (None: at no price).

    What the best use of a replica is worth at the relaxation's prices, less its power and its part of the
    shared limits, is what its accelerators may cost at most.  Prices of a relaxation are seldom unique, so a
    part that is not bought there is offered for a little less, the relaxation is solved again, and its new
    prices are taken, or the middle between what it was not bought for and what it was, until that is close, or until
    `deadline` (time.monotonic seconds).
    """
    data = strengthened(candidates.data)  # the rows whose relaxation gave the prices
    duals = duals_of(plan)
    bought = {h for o in plan.servers for h in data.offers[o].supplies}
    prices = _worth(data, duals)
    for h, price in enumerate(prices):
        low, high = 0.0, math.inf
        for _ in range(_CONFIRMATIONS if h not in bought and data.usd_weight > 0 else 0):
            if price is None or price <= 0 or time.monotonic() > deadline:
                break
            offered = price * (1 - _UNDERBID)
            found = relax(_offered_at(data, h, offered), time.monotonic() + _CONFIRM_SECONDS)
            if found.servers[h] > 1e-9:
                if not high - offered > 2 * _UNDERBID * offered or math.isinf(high):
                    break
                low, price = offered, (offered + high) / 2.0
                continue
            high, again = offered, _worth(data, found.duals)[h]
            lower = again is not None and low < again < offered * (1 - _UNDERBID)
            price = again if lower else (low + high) / 2.0
        prices[h] = price
    return prices


def _offered_at(data: FleetData, h: int, usd_per_accelerator_hour: float) -> FleetData:
    """The same problem with one hardware sold by itself at a price."""
    price = usd_per_accelerator_hour * data.hardware[h].accelerators
    offers = tuple(replace(o, usd_per_hour=price) if sold_alone(data, o, h) else o for o in data.offers)
    if not any(sold_alone(data, o, h) for o in offers):
        offers = (*offers, Offer(data.hardware[h].name, h, price, 0.0, 0))
    return replace(data, offers=offers)


@dataclass(frozen=True)
class _Use:
    """The best use of a hardware: what it is worth in $ per accelerator-hour, and the column."""

    price: float
    column: int


def _best_uses(data: FleetData, duals: Duals) -> list[_Use | None]:
    """By hardware, its best use at these prices (None: no use at all)."""
    free = replace(data, offers=tuple(replace(o, usd_per_hour=0.0) for o in data.offers))
    net = net_values(free, duals)  # limits and power alone charge a replica
    best: list[_Use | None] = [None] * len(data.hardware)
    hardware_of = np.array([p.hardware for p in data.packings], dtype=np.int64)
    slots = np.array([p.slots for p in data.packings], dtype=np.float64)
    weight = data.usd_weight or 1.0
    for b, block in enumerate(data.blocks):
        rows = slice(int(data.offsets[b]), int(data.offsets[b + 1]))
        by_server = net[rows] / block.packed * slots[block.packing]
        for h in np.unique(hardware_of[block.packing]).tolist():
            mine = np.where(hardware_of[block.packing] == h, by_server, -np.inf)
            k = int(np.argmax(mine))
            price = max(0.0, float(mine[k])) / weight / data.hardware[h].accelerators
            known = best[h]
            if np.isfinite(mine[k]) and (known is None or price > known.price):
                best[h] = _Use(price, rows.start + k)
    return best


def _worth(data: FleetData, duals: Duals) -> list[float | None]:
    """By hardware, $ per accelerator-hour that its best use is worth at these prices (None: no use at all)."""
    return [None if use is None else use.price for use in _best_uses(data, duals)]
