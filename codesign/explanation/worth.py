"""What replicas are worth at the prices of a relaxation: their best use, less what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from codesign.candidates.data import FleetData, Floats
from codesign.optimize.pricing import best_values, chunks
from codesign.optimize.relaxation import column_costs, watt_prices


@dataclass(frozen=True)
class Part:
    """Some columns of a block, priced."""

    block: int
    first: int
    """Position of the first of them in the block."""
    value: Floats
    """[n] best earnings of a replica, its flows' power paid."""
    cost: Floats
    """[n] what a replica costs: servers, power, shared limits."""


def priced(data: FleetData, worth: Floats, limit_duals: Floats) -> Iterator[Part]:
    """Every column's value at a worth of the flows [F] and prices of the limits [L], a chunk at a time."""
    watts = watt_prices(data, limit_duals)
    cost = column_costs(data, limit_duals)
    for b, block in enumerate(data.blocks):
        for part in chunks(block):
            spent = watts[block.packing[part]][:, None] * block.flow_power(part)
            gain = np.where(block.admissible[part], worth[block.flows][None, :] - spent, 0.0)
            value = best_values(block.use.of(part), block.limit[part], gain)
            first = data.offsets[b]
            yield Part(b, part.start, value, cost[first + part.start : first + part.stop])


def net_by_group(data: FleetData, worth: Floats, limit_duals: Floats) -> Floats:
    """[groups] what the best column of each group earns beyond its cost; -inf where none earns anything."""
    best = np.full(len(data.groups), -np.inf)
    for part in priced(data, worth, limit_duals):
        stop = part.first + len(part.value)
        group = data.blocks[part.block].group[part.first : stop]
        np.maximum.at(best, group, np.where(part.value > 0, part.value - part.cost, -np.inf))
    return best


def binding_rows(data: FleetData, column: int, worth: Floats, limit_duals: Floats) -> dict[str, float]:
    """Share of a column's value that each of its own rows bounds, by row name, the largest first (duals · limits)."""
    b, i = data.locate([column])[0]
    block = data.blocks[b]
    watt = watt_prices(data, limit_duals)[block.packing[i]]
    gain = np.where(block.admissible[i], worth[block.flows] - watt * block.flow_power(slice(i, i + 1))[0], 0.0)
    scale = np.where(block.limit[i] > 0, block.limit[i], 1.0)
    found = linprog(-np.maximum(gain, 0.0), A_ub=block.use.one(i) / scale[:, None], b_ub=block.limit[i] / scale)
    earned = -np.asarray(found.ineqlin.marginals) * block.limit[i] / scale
    total = float(earned.sum()) or 1.0
    shares = {block.row_names[r]: float(earned[r]) / total for r in np.argsort(-earned, kind="stable")}
    return {name: share for name, share in shares.items() if share > 0}
