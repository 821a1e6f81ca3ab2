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
from codesign.optimize.alone import replicas_needed
from codesign.optimize.pricing import chunks

_SAYS_SOMETHING = 1.0 - 1e-9
"""A row `all of …` is left out where serving all of the task takes at least this many times n₁ replicas anyway."""


_MOST_ENTRIES = 20_000_000
"""Entries of rows up to which a block gets rows `all of …`: with a hundred classes they would fill the memory."""


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
        asked = data.calls_bound[block.flows] > 0
        if not asked.all():  # what nobody asks for in this period runs nowhere
            block = replace(block, admissible=block.admissible & asked[None, :])
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
        with np.errstate(invalid="ignore"):  # inf·0 where a flow that nobody asks for may not run either
            loose |= np.any(need * calls[None, :] < _SAYS_SOMETHING * least[part][:, None], axis=0) & (calls > 0)
    names = np.unique(tasks[loose])
    if not len(names) or len(block.use.fixed) * len(tasks) * (block.use.shape[1] + len(names)) > _MOST_ENTRIES:
        return block
    each = np.divide(1.0, calls, out=np.zeros(len(calls)), where=calls > 0)
    shares = np.where(tasks[None, :] == names[:, None], each[None, :], 0.0)
    return replace(
        block,
        row_names=(*block.row_names, *(f"all of {data.tasks[c]}" for c in names.tolist())),
        use=block.use.with_rows(shares),
        limit=np.concatenate([block.limit, np.broadcast_to(1.0 / least[:, None], (len(block), len(names)))], axis=1),
    )


def with_spares(data: FleetData) -> FleetData:
    """A relaxation of all plans that pays for n+1: every call reserves its part of its group's spares.

    A group of n replicas keeps min(lost, n) spares.  Its n is at least Σ_v share_v·m_v, where share_v is the part of a
    task that flow v serves and m_v the replicas that one row asks for all of it, in any one row of each column.  With
    weights w that sum to 1 over the tasks, e_v = min(m_v, w_task·lost) therefore gives Σ_v share_v·e_v ≤ min(lost, n):
    shares of a task sum to at most 1 over all columns of a group.  The weights follow the work of each task.
    """
    if not data.survive_one_server:
        return data
    lost = np.array([group.replicas_lost_with_server for group in data.groups], dtype=np.float64)
    least = np.full((len(data.groups), len(data.tasks)), np.inf)
    for block in data.blocks:
        tasks = np.array([data.flows[f].task for f in block.flows.tolist()], dtype=np.int64)
        calls = data.calls_bound[block.flows]
        for part, need in replicas_needed(block):
            for task in np.unique(tasks):
                with np.errstate(invalid="ignore"):
                    work = np.fmin.reduce((need * calls)[:, tasks == task], axis=1, initial=np.inf)
                np.minimum.at(least[:, task], block.group[part], work)
    work = np.where(np.isfinite(least), least, 0.0)
    weight = work / np.maximum(work.sum(axis=1, keepdims=True), 1e-300)
    return replace(data, blocks=tuple(_reserving(data, block, weight, lost) for block in data.blocks))


def _reserving(data: FleetData, block: ColumnBlock, weight: Floats, lost: Floats) -> ColumnBlock:
    """The block with the slots that calls reserve, by configuration: the least over its columns."""
    if not len(block):
        return block
    tasks = np.array([data.flows[f].task for f in block.flows.tolist()], dtype=np.int64)
    calls = data.calls_bound[block.flows]
    reserved = np.full((len(block.use.fixed), len(tasks)), np.inf)
    for part in chunks(block):
        with np.errstate(divide="ignore", invalid="ignore"):
            asked = block.use.of(part) * calls / block.limit[part][:, :, None]
        asked = np.where(block.admissible[part][:, None, :] & np.isfinite(asked), asked, 0.0)
        row = np.argmax(np.minimum(asked, 1e6).sum(axis=2), axis=1)
        all_of = np.take_along_axis(asked, row[:, None, None], axis=1)[:, 0, :]
        group = block.group[part]
        most = weight[group][:, tasks] * lost[group][:, None]
        slots = np.where(block.admissible[part], np.minimum(all_of, most) * block.packed[part][:, None], np.inf)
        np.minimum.at(reserved, block.use.source[part], slots)
    reserved = np.where(np.isfinite(reserved), reserved, 0.0) / np.maximum(calls, 1e-300)[None, :]
    return replace(block, flow_slots=reserved)
