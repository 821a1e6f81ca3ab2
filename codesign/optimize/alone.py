"""Each flow and task served alone: what it takes of every column, what that costs, and who does it cheapest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from codesign.candidates.data import ColumnBlock, FleetData, Floats
from codesign.optimize.duals import Duals, column_costs, flow_charges, watt_prices
from codesign.optimize.pricing import chunks


def solo_costs(data: FleetData, block_index: int, costs: Floats, sigma: Floats) -> Floats:
    """[K, V] objective per call/s when a column serves one flow alone (inf where it may not), at prices of limits."""
    block = data.blocks[block_index]
    first = data.offsets[block_index]
    watt = watt_prices(data, sigma)[block.packing][:, None]
    charged = flow_charges(data, sigma)
    hardware = np.array([p.hardware for p in data.packings], dtype=np.int64)
    alone = np.full(block.admissible.shape, np.inf)
    for part, need in replicas_needed(block):
        cost = costs[first + part.start : first + part.stop, None]
        usable = np.isfinite(need) & np.isfinite(cost)  # no offer supplies some hardware at all
        cost = np.where(np.isfinite(cost), cost, 0.0)
        each = np.where(usable, need, 0.0) * cost + watt[part] * block.flow_power(part)
        if charged is not None:
            each = each + charged[hardware[block.packing[part]][:, None], block.flows]
        alone[part] = np.where(usable, each, np.inf)
    return alone


def replicas_needed(block: ColumnBlock) -> Iterator[tuple[slice, Floats]]:
    """(part of a block, [n, V] replicas per call/s of each flow alone; inf where the column may not carry it)."""
    first, kind = block.kinds
    for part in chunks(block):
        here, own = np.unique(kind[part], return_inverse=True)
        use = block.use.of(first[here])
        limit = block.limit[part]
        need = np.zeros((len(limit), use.shape[2]))
        for row in range(use.shape[1]):
            with np.errstate(divide="ignore", invalid="ignore"):
                share = use[:, row, :][own] / limit[:, row, None]
            np.fmax(need, share, out=need)
        usable = block.admissible[part] & np.all(limit >= 0, axis=1)[:, None]
        yield part, np.where(usable, need, np.inf)


def whole_columns(data: FleetData, per_flow: int) -> list[int]:
    """For each flow the columns that serve all of it at least cost in whole replicas, spares included."""
    costs = column_costs(data, Duals.none(data))
    lost = np.array([group.replicas_lost_with_server for group in data.groups], dtype=np.float64)
    chosen: set[int] = set()
    for b, block in enumerate(data.blocks):
        calls = data.calls_bound[block.flows]
        cost = np.full(block.admissible.shape, np.inf)
        for part, need in replicas_needed(block):
            usable = np.isfinite(need)
            whole = np.ceil(np.where(usable, np.where(usable, need, 0.0) * calls, 1.0) - 1e-9)
            whole = np.maximum(whole, block.min_replicas[part][:, None])
            if data.survive_one_server:
                whole = whole + np.minimum(whole, lost[block.group[part]][:, None])
            first = data.offsets[b] + part.start
            cost[part] = np.where(usable, whole * costs[first : first + part.stop - part.start, None], np.inf)
        for v in range(len(block.flows)):
            for k in np.argsort(cost[:, v], kind="stable")[:per_flow].tolist():
                if np.isfinite(cost[k, v]):
                    chosen.add(int(data.offsets[b]) + k)
    return sorted(chosen)


def least_cost(data: FleetData) -> float:
    """The least that any column takes for all of any flow, of those that cost anything; 0 where none does."""
    costs = column_costs(data, replace(Duals.none(data), bought=_own_prices(data)))
    least = np.inf
    for b, block in enumerate(data.blocks):
        calls = data.calls_bound[block.flows]
        alone = solo_costs(data, b, costs, np.zeros(len(data.limits)))[:, calls > 0] * calls[calls > 0]
        least = min(least, float(np.min(alone, initial=np.inf, where=alone > 0)))
    return least if np.isfinite(least) else 0.0


def _own_prices(data: FleetData) -> Floats:
    """[H] objective of a server of each row at its cheapest, its share of what an offer of several rows costs."""
    price = np.full(len(data.hardware), np.inf)
    for offer in data.offers:
        for row, share in data.shares(offer).items():
            price[row] = min(price[row], data.server_price(offer) * share)
    return np.where(np.isfinite(price), price, 0.0)


def first_columns(data: FleetData, sigma: Floats | None = None) -> tuple[dict[int, set[int]], Floats, Floats]:
    """{column: flows of its block that it alone serves cheapest}, the cheapest cost of each flow [F] and task [C].

    `sigma` [L]: prices of limits, of none by default.
    """
    sigma = np.zeros(len(data.limits)) if sigma is None else sigma
    costs = column_costs(data, replace(Duals.none(data), limit=sigma, bought=_own_prices(data)))
    cheapest = np.full(len(data.flows), np.inf)
    chosen: dict[int, set[int]] = {}
    for b, block in enumerate(data.blocks):
        alone = solo_costs(data, b, costs, sigma)
        if not len(alone):
            continue
        best = np.argmin(alone, axis=0)
        for v, (f, k) in enumerate(zip(block.flows.tolist(), best.tolist(), strict=True)):
            if np.isfinite(alone[k, v]):
                chosen.setdefault(int(data.offsets[b]) + k, set()).add(v)
                cheapest[f] = min(cheapest[f], alone[k, v])
    decode = np.full(len(data.commodities), np.inf)
    for f, flow in enumerate(data.flows):
        if flow.commodity is not None and flow.commodity_sign > 0:
            decode[flow.commodity] = min(decode[flow.commodity], cheapest[f])
    tasks = np.full(len(data.tasks), np.inf)
    for f, flow in enumerate(data.flows):
        if flow.serves:
            other = decode[flow.commodity] if flow.commodity is not None else 0.0
            calls = data.demand[flow.task] / flow.tasks_per_call
            tasks[flow.task] = min(tasks[flow.task], (cheapest[f] + other) * calls if calls > 0 else 0.0)
    return chosen, cheapest, tasks
