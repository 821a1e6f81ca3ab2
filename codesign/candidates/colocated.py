"""Colocated columns: chunked prefill inside decode steps, at the edge of what each configuration carries (DESIGN 3.4).

A column is a configuration, a chunk size s, and a set of flows whose promises it keeps. Its rows are Σ x/X ≤ 1, with X
the most calls/s of each flow alone at which a promise of any flow of the set, the memory, the slots or the prompts'
queue are at their limit: the same account as that of a solution, so no step limit, spread or wait is chosen from a
grid. Sessions stay with their replica, so its queue is its own: no pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.candidates.context import (
    MomentBook,
    OperatingPoints,
    Slice,
    decode_constant_power,
    decode_power,
    tier_joules,
)
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.edges import Edges, FlowCalls
from codesign.candidates.flows import CallFlow
from codesign.candidates.outer import Blocks, Built, outer_block, with_parts
from codesign.candidates.prefixes import sets_of_tasks

_LEVELS = 6
"""Of promises of each kind, at which sets of flows begin."""
_WORTH = 0.005
"""By how much a set of flows must leave more than a larger one, to be offered beside it."""


def colocated_blocks(part: Slice, book: MomentBook, select: list[int]) -> Built:
    """The block of a slice's colocated columns, and that of those that bound (none where it has no flows)."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index) or not np.any(part.room > 0):
        return Built()
    calls = [FlowCalls.of(part, book, flow) for flow in flows]
    edges = [Edges(part, calls, chunk) for chunk in part.grids.chunks]
    power = np.stack([decode_power(part, book, f) + _prompt_joules(part, book, f) for f in flows], axis=1)
    return Built(_inner(part, edges, power, select), _outer(part, edges, power, select) if part.bounded else [])


def _outer(part: Slice, edges: Sequence[Edges], power: Floats, select: list[int]) -> Blocks:
    """Columns that hold every load which keeps its promises, with chunks of each size."""
    calls, count = edges[0].calls, len(part.index)
    flows = [each.flow for each in calls]
    found: Blocks = []
    for edge in edges:
        use, wider, own, open_ = edge.holding()
        names, mixed = edge.row_names, range(len(edge.row_names))
        if any(flow.tier is not None for flow in flows):
            moved = np.stack([each.moved_bytes for each in calls], axis=1) / part.link[:, None]
            names, use = (*names, "link"), np.concatenate([use, moved[:, None]], axis=1)
            wider = np.concatenate([wider, np.ones((count, 1))], axis=1)
        rows = with_parts(use, wider, names, mixed, own, flows, edge.like)
        every, least = np.arange(count), np.ones(count, dtype=np.int64)
        constant = decode_constant_power(part)
        found += outer_block(part, "colocated", select, rows, every, open_, power, constant, least, edge.chunk)
    return found


def _inner(part: Slice, edges: Sequence[Edges], power: Floats, select: list[int]) -> Blocks:
    """Columns whose rows keep every promise."""
    calls, sets = edges[0].calls, _sets(edges)
    flows = [each.flow for each in calls]
    found = _Columns.joined([_Columns.of(edge, sets) for edge in edges])
    if not len(found.rows):
        return []
    configuration = part.index[found.rows]
    row_names, use = edges[0].row_names, found.use
    if any(flow.tier is not None for flow in flows):
        moved = np.stack([each.moved_bytes for each in calls], axis=1) / part.link[:, None]
        row_names, use = (*row_names, "link"), np.concatenate([use, moved[found.rows, None]], axis=1)
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=row_names,
        use=RowUse.dense(use),
        limit=np.ones(use.shape[:2]),
        admissible=found.admissible,
        flow_power_w=power[found.rows],
        replica_power_w=decode_constant_power(part)[found.rows],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("colocated", configuration),
        min_replicas=np.ones(len(configuration), dtype=np.int64),
    )
    nothing = np.full(len(configuration), np.nan)
    busy = np.full(len(configuration), part.instance.options.max_utilization)
    return [(block, OperatingPoints("colocated", configuration, found.longest_s, busy, nothing, found.chunk))]


def _prompt_joules(part: Slice, book: MomentBook, flow: CallFlow) -> Floats:
    """[K] joules of a call's prompt, and of what it moves to and from a tier."""
    return np.asarray(book.prompt(flow.calls, flow.residency).energy_j + tier_joules(part, flow))


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns for sets of flows that no larger set makes superfluous."""

    use: Floats
    """[n, R, V] of the rows, whose limits are 1."""
    admissible: Bools
    rows: Ints
    """[n] configurations of the slice."""
    longest_s: Floats
    """[n] longest step that the promises of TPOT leave (nan: there are none)."""
    chunk: Floats

    @staticmethod
    def of(edges: Edges, sets: Sequence[tuple[int, ...]]) -> _Columns:
        """Those with chunks of one size; `sets` have larger ones first."""
        taken: list[tuple[Floats, Bools]] = []
        found: list[_Columns] = []
        for chosen in sets:
            use, open_ = edges.rows(chosen, _room(edges, chosen))
            needed: Bools = np.any(open_, axis=1)
            for others, others_open in taken:
                offered: Bools = np.all((others <= use * (1.0 + _WORTH)) | ~open_[:, None, :], axis=(1, 2))
                needed &= ~(offered & np.all(~open_ | others_open, axis=1))
            taken.append((use, open_ & needed[:, None]))
            rows = np.flatnonzero(needed)
            longest = min((t for v in chosen for _, t in edges.calls[v].flow.calls.task.tpot_slo), default=np.nan)
            same = np.ones(len(rows))
            found.append(_Columns(use[rows], open_[rows], rows, longest * same, edges.chunk * same))
        return _Columns.joined(found)

    @staticmethod
    def joined(parts: Sequence[_Columns]) -> _Columns:
        """Them all."""
        return _Columns(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("use", "admissible", "rows", "longest_s", "chunk")
            )
        )


def _room(edges: Edges, chosen: tuple[int, ...]) -> Floats:
    """[K] bytes for sessions, less the prefixes that the tasks of a set share."""
    shared = {edges.calls[v].task: edges.calls[v].flow.calls.shared for v in chosen}
    taken = [edges.part.prefix_bytes(tokens) for tokens in shared.values() if tokens > 0]
    return np.maximum(edges.part.room - sum(taken), 0.0)


def _sets(edges: Sequence[Edges]) -> list[tuple[int, ...]]:
    """Sets of flows that columns are offered for, larger ones first: those no stricter than two levels.

    One of steps (TPOT and ITL) and one of TTFT; among the flows of all tasks and of some, since memory holds the
    prefixes of a set, and among those alone whose history is kept, or is not.
    """
    calls = edges[0].calls
    steps, ttft = (np.sum([_ease(edge, kinds) for edge in edges], axis=0) for kinds in (("tpot", "itl"), ("ttft",)))
    found = set()
    some = [
        [v for v, each in enumerate(calls) if each.task in among]
        for among in sets_of_tasks(edges[0].part, {each.task: each.flow.calls.shared for each in calls})
    ]
    dropped = [each.flow.residency == "drop" for each in calls]
    for flows in [*some, *([v for v in own if dropped[v] is without] for own in some for without in (True, False))]:
        mine = np.array(flows, dtype=np.int64)
        for fast in _levels(steps[mine]):
            for prompt in _levels(ttft[mine]):
                found.add(tuple(mine[(steps[mine] >= fast) & (ttft[mine] >= prompt)].tolist()))
    return sorted(found - {()}, key=lambda chosen: (-len(chosen), chosen))


def _ease(edges: Edges, kinds: Sequence[str]) -> Floats:
    """[V] how much may come until a flow's promises of kinds break: of what slots hold, over all flows that come."""
    slots = edges.replica["slots"][:, None, :]
    most = np.min([edges.promises[kind] for kind in kinds if kind in edges.kinds], axis=0)
    return np.asarray((np.minimum(most, slots) / np.maximum(slots, 1e-300)).sum(axis=(0, 2)))


def _levels(scores: Floats) -> Floats:
    """A few of the scores that differ, the least among them."""
    distinct = np.unique(np.round(scores, 9))
    if not len(distinct):
        return distinct
    few = np.unique(np.linspace(0, len(distinct) - 1, min(len(distinct), _LEVELS)).astype(int))
    return np.asarray(distinct[few] - 1e-9)
