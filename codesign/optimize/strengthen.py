"""Make the relaxation tell more of the truth: a replica offers no more than all demand asks of it.

A column that is used at all has n ≥ n₁ whole replicas.  No plan can load row r with more than L_r =
Σ_tasks max_flow use·(all calls of the task), so Σ use·x ≤ min(limit_r, L_r/n₁)·n; and no plan serves more of a
task than all of it, so Σ share·x ≤ n/n₁ over the flows of the task (a row `all of …` where that says anything).
Both hold for every plan and cut off the relaxation's slivers of large replicas.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.candidates.data import ColumnBlock, FleetData, Floats
from codesign.optimize.duals import Duals, column_costs
from codesign.optimize.pricing import chunks
from codesign.optimize.relaxation import replicas_needed

_SAYS_SOMETHING = 1.0 - 1e-9
"""A row `all of …` is left out where serving all of the task takes at least this many times n₁ replicas anyway."""


def most_load(data: FleetData, block: ColumnBlock) -> Floats:
    """[K, R] the most that all demand together can load each row of each column with."""
    tasks = np.array([data.flows[f].task for f in block.flows.tolist()], dtype=np.int64)
    first, kind = block.kinds
    calls = block.admissible[first] * data.calls_bound[block.flows][None, :]
    load = np.zeros((len(first), block.use.shape[1]))
    for part in chunks(block, len(first)):
        use = block.use.of(first[part])
        for task in np.unique(tasks):
            members = np.flatnonzero(tasks == task)
            load[part] += (use[:, :, members] * calls[part][:, None, members]).max(axis=2)
    return np.asarray(load[kind])


def strengthened(data: FleetData) -> FleetData:
    """The same problem (same plans, same objective) with a tighter relaxation."""
    blocks = []
    for block in data.blocks:
        load = most_load(data, block)
        whole = load / np.maximum(block.min_replicas, 1)[:, None]
        capped = replace(block, limit=np.where(load > 0, np.minimum(block.limit, whole), block.limit))
        blocks.append(_with_whole_tasks(data, capped))
    return replace(data, blocks=tuple(blocks))


def _with_whole_tasks(data: FleetData, block: ColumnBlock) -> ColumnBlock:
    """The block with a row for each task of which a column could otherwise serve more than all."""
    if not len(block):
        return block
    tasks = np.array([data.flows[f].task for f in block.flows.tolist()], dtype=np.int64)
    calls = data.calls_bound[block.flows]
    least = np.maximum(block.min_replicas, 1)
    loose = np.zeros(len(tasks), dtype=bool)
    for part, need in replicas_needed(block):
        loose |= np.any(need * calls[None, :] < _SAYS_SOMETHING * least[part][:, None], axis=0)
    names = np.unique(tasks[loose])
    if not len(names):
        return block
    shares = np.where(tasks[None, :] == names[:, None], 1.0 / calls[None, :], 0.0)
    return replace(
        block,
        row_names=(*block.row_names, *(f"all of {data.tasks[c]}" for c in names.tolist())),
        use=block.use.with_rows(shares),
        limit=np.concatenate([block.limit, np.broadcast_to(1.0 / least[:, None], (len(block), len(names)))], axis=1),
    )


def with_spares(data: FleetData, ceiling: float) -> FleetData:
    """A relaxation of all plans of objective ≤ `ceiling` that pays for n+1: each replica brings a part of a spare.

    A group of n replicas keeps min(lost, n) spares, and (n + spares) replicas cost at most the ceiling, so
    n ≤ N and spares ≥ min(lost, N)/N·n: the chord of a concave function.  Without n+1 nothing changes.
    """
    if not data.survive_one_server or not np.isfinite(ceiling):
        return data
    costs = column_costs(data, Duals.none(data))
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
