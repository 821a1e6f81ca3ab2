"""Make the relaxation tell more of the truth: a replica offers no more than all demand asks of it.

A column that is used at all has n ≥ n₁ whole replicas, and no plan can load row r with more than
L_r = Σ_tasks max_flow use·(all calls of the task).  So Σ use·x ≤ min(limit_r, L_r/n₁)·n holds for every plan
and cuts off the relaxation's slivers of large replicas.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.candidates.data import ColumnBlock, FleetData, Floats
from codesign.optimize.pricing import chunks
from codesign.optimize.relaxation import column_costs


def most_load(data: FleetData, block: ColumnBlock) -> Floats:
    """[K, R] the most that all demand together can load each row of each column with."""
    tasks = np.array([data.flows[f].task for f in block.flows.tolist()], dtype=np.int64)
    open_flows = block.admissible * data.calls_bound[block.flows][None, :]
    load = np.zeros(block.limit.shape)
    for part in chunks(block):
        use = block.use.of(part)
        for task in np.unique(tasks):
            members = np.flatnonzero(tasks == task)
            load[part] += (use[:, :, members] * open_flows[part][:, None, members]).max(axis=2)
    return load


def strengthened(data: FleetData) -> FleetData:
    """The same problem (same plans, same objective) with a tighter relaxation."""
    blocks = []
    for block in data.blocks:
        load = most_load(data, block)
        whole = load / np.maximum(block.min_replicas, 1)[:, None]
        blocks.append(
            replace(block, limit=np.where(load > 0, np.minimum(block.limit, whole), block.limit))
        )
    return replace(data, blocks=tuple(blocks))


def with_spares(data: FleetData, ceiling: float) -> FleetData:
    """A relaxation of all plans of objective ≤ `ceiling` that pays for n+1: each replica brings a part of a spare.

    A group of n replicas keeps min(lost, n) spares, and (n + spares) replicas cost at most the ceiling, so
    n ≤ N and spares ≥ min(lost, N)/N·n: the chord of a concave function.  Without n+1 nothing changes.
    """
    if not data.survive_one_server or not np.isfinite(ceiling):
        return data
    costs = column_costs(data, np.zeros(len(data.limits)))
    cheapest = np.full(len(data.groups), np.inf)
    np.minimum.at(cheapest, np.concatenate([block.group for block in data.blocks]), costs)
    lost = np.array([group.replicas_lost_with_server for group in data.groups], dtype=np.float64)
    affordable = ceiling / np.maximum(cheapest, 1e-300)
    most = np.where(affordable >= 2 * lost, affordable - lost, affordable / 2)
    most = np.maximum(1.0, np.floor(most + 1e-9))
    part = 1.0 + np.minimum(lost, most) / most
    blocks = [
        replace(
            block,
            packed=block.packed * part[block.group],
            replica_power_w=block.replica_power_w * part[block.group],
        )
        for block in data.blocks
    ]
    return replace(data, blocks=tuple(blocks))
