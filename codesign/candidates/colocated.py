"""Colocated columns: chunked prefill inside decode steps, at the edge of what each configuration carries (DESIGN 3.4).

A column is a configuration, a chunk size s, and a set of flows whose promises it keeps. Its rows are Σ x/X ≤ 1, with X
the most calls/s of each flow alone at which a promise of any flow of the set, the memory, the slots or the prompts'
queue are at their limit: the same account as that of a solution, so no step limit, spread or wait is chosen from a
grid. Sessions stay with their replica, so its queue is its own; other calls go to the emptiest of several, for which
there are columns that begin at some numbers of replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from codesign.candidates.edges import Edges, FlowCalls, Look
from codesign.candidates.flows import CallFlow
from codesign.candidates.outer import (
    Blocks,
    Built,
    Mixes,
    Rows,
    bulge,
    lowered,
    memory_rows,
    outer_block,
    task_rows,
    tasks_of,
)
from codesign.candidates.prefixes import sets_of_tasks
from codesign.performance.queueing import MOST_EVEN

_AT_ONCE = 120
"""Configurations that are looked at together, one with chunks of another size counted again."""
_LEVELS = 6
"""Of promises of each kind, at which sets of flows begin."""
_PAIR, _POOLED = 2, (4, 8, 16)
"""Replicas from which on columns count on calls that go to the emptiest: of those between, the fewer are counted on.
Batches of two vary as those of one, and of more as over the first of these: two looks at loads do for all."""
_SEVERAL = (2, 4, 8, 16)
"""Replicas from which on columns bound: each stands for all numbers up to the next."""
_CURVED = 1.08
"""By how much mixes of one task's calls may carry more than between two that were seen, or with chunks left out."""
_THIRD = 1.5
"""Of what the promises of two tasks leave beyond their parts, what those of three and more do."""
_LEFT_OUT = 1.01
"""By how much calls that are evened out over many may carry more with chunks left out than with those that are not:
where it is more, they are not left out."""
_WAVES = 1.015
"""By how much mixes of one task's calls that are kept or not may carry more than between those that were looked at."""
_ASKS_MORE = 1.02
"""How much more a task's promises must take of others than their own do, for loads with and without it to differ."""
_HELD = 0.99
"""Of what memory holds with chunks of one size, how much it must hold with another that does as well."""
_MORE = 0.02
"""By how much a column of more replicas must leave more than one of fewer."""
_WORTH = 0.005
"""By how much a set of flows must leave more than a larger one, to be offered beside it."""


def colocated_blocks(part: Slice, book: MomentBook, select: list[int]) -> Built:
    """The block of a slice's colocated columns, and those of the ones that bound (none where it has no flows)."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index) or not np.any(part.room > 0):
        return Built()
    calls = [FlowCalls.of(part, book, flow) for flow in flows]
    power = np.stack([decode_power(part, book, f) + _prompt_joules(part, book, f) for f in flows], axis=1)
    looks = _Looks.of(part, calls)
    moved = None
    if any(flow.tier is not None for flow in flows):
        moved = np.stack([each.moved_bytes for each in calls], axis=1) / part.link[:, None]
    outer = _outer(part, looks, power, moved, select) if part.bounded else []
    return Built(_inner(part, looks, power, moved, select), outer)


def _inner(part: Slice, looks: _Looks, power: Floats, moved: Floats | None, select: list[int]) -> Blocks:
    """Columns whose rows keep every promise."""
    found = _columns(looks)
    if not len(found.rows):
        return []
    configuration = part.index[found.rows]
    row_names, use = found.row_names, found.use
    if moved is not None:
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
        min_replicas=found.pooled,
    )
    nothing = np.full(len(configuration), np.nan)
    busy = np.full(len(configuration), part.instance.options.max_utilization)
    return [(block, OperatingPoints("colocated", configuration, found.longest_s, busy, nothing, found.chunk))]


def _outer(part: Slice, looks: _Looks, power: Floats, moved: Floats | None, select: list[int]) -> Blocks:
    """Columns that hold every load which keeps its promises, on one replica and on any number up to the next.

    What mixes carry more is seen on single replicas.
    """
    constant, blocks = decode_constant_power(part), []
    for own, evened, rows in looks.kept:
        wider, several = Edges(own), []
        if evened is not None:
            after = zip(_SEVERAL, (*_SEVERAL[1:], MOST_EVEN + 1), strict=True)
            several = [(n, Edges(evened, most - 1), looks.some) for n, most in after]
        for pooled, edges, flows in [(1, wider, looks.every), *several]:
            use, open_ = edges.holding()
            if pooled > 1:
                use = use / _LEFT_OUT
            own_flows, like, together = [each.flow for each in edges.calls], edges.look.like, bulge(_together(wider))
            corners = 1.0 + (edges.corners() - 1.0) * (1.0 if len(tasks_of(own_flows)) < 3 else _THIRD)
            together[:, : len(edges.kinds)] = np.maximum(together[:, : len(edges.kinds)], corners)
            share, seen = _seen(edges, wider)
            names, kept = edges.row_names[:-1], share * np.array([f.residency == "colocated" for f in own_flows])
            steps = task_rows(use[:, :-1], names, own_flows, like, share, seen, together[:, :-1], _CURVED)
            memory = memory_rows(
                use[:, -1], edges.holding_least(), own_flows, like, "colocated", together[:, -1],
                edges.held_mixes(), kept,
            )  # fmt: skip
            shared = steps.beside(memory)
            if pooled == 1 and wider.kept_mixes:
                through = wider.holding_mixes()
                alone = np.max(use, axis=1)[:, None]
                shared = shared.beside(replace(through, use=np.minimum(through.use, alone) / _WAVES))
            least = np.full(len(rows), pooled)
            for built, admits in _by_strictest(edges, wider, shared, open_, own_flows, seen, pooled > 1):
                everyone = len(looks.every)
                whole, every = np.zeros((*built.use.shape[:2], everyone)), np.zeros((len(rows), everyone), dtype=bool)
                whole[:, :, flows], every[:, flows] = built.use, admits
                found = Rows(built.names, whole, built.limit)
                if moved is not None:
                    found = Rows(
                        (*found.names, "link"),
                        np.concatenate([whole, moved[rows, None]], axis=1),
                        np.concatenate([built.limit, np.ones((len(rows), 1))], axis=1),
                    )
                blocks += outer_block(part, "colocated", select, found, rows, every, power, constant, least, own.chunk)
    return blocks


def _by_strictest(
    edges: Edges,
    wider: Edges,
    shared: Rows,
    open_: Bools,
    flows: Sequence[CallFlow],
    seen: dict[str, Mixes],
    evened: bool,
) -> Iterator[tuple[Rows, Bools]]:
    """Columns for loads by the strictest task that comes: (rows, [K, V] who may come), which hold all loads together.

    Each admits that task and those that are less strict, and holds them to its promises; the last holds to no more than
    `shared` rows what is left, once a task asks for no more than others do.
    """
    tasks = tasks_of(flows)
    ease = _ease(edges, edges.kinds)
    mine = {task: np.array([flow.calls.task.name == task for flow in flows]) for task in tasks}
    left = sorted(tasks, key=lambda task: float(ease[mine[task]].mean()))
    while left:
        among = open_ & np.any([mine[task] for task in left], axis=0)
        use = edges.beside(left[0])
        others = among & ~mine[left[0]]
        cuts = others & edges.closely & np.any(use > _ASKS_MORE * shared.use[:, : use.shape[1]], axis=1)
        if not np.any(cuts):
            yield shared, among
            return
        use = lowered(use, flows, seen) / (_LEFT_OUT if evened else 1.0)
        limit = bulge(wider.carried_beside(left[0]))
        names = tuple(f"{kind} beside {left[0]}" for kind in edges.kinds)
        present = np.any(open_ & mine[left[0]], axis=1)
        yield Rows(names, use, limit).beside(shared), among & present[:, None]
        left = left[1:]


def _seen(edges: Edges, wider: Edges) -> tuple[Floats, dict[str, Mixes]]:
    """([V] how much each finds of what the warmest flow of its task does, what was seen of mixes by task)."""
    found = np.array([edges.look.found(v) for v in range(len(edges.calls))])
    pairs = wider.look.pairs
    if not pairs:
        return found, {}
    carried, parts = wider.carried, wider.look.parts
    count = len(edges.part.index)
    seen: dict[str, Mixes] = {}
    for task in {each.task for each in edges.calls}:
        mine = [v for v, each in enumerate(edges.calls) if each.task == task]
        cold, warm = min(mine, key=lambda v: found[v]), max(mine, key=lambda v: found[v])
        own = [n for n, (a, b) in enumerate(pairs) if wider.calls[a].task == task == wider.calls[b].task]
        if cold != warm and found[warm] > found[cold] and own:
            brought = [part.reshape(len(pairs), count)[own].T for part in parts]
            theta = brought[1] / (brought[0] + brought[1])
            order = np.argsort(theta, axis=1)
            theta = np.clip(np.take_along_axis(theta, order, axis=1), 1e-3, 1.0 - 1e-3)
            some = np.take_along_axis(np.stack([carried[n] for n in own], axis=1), order[:, :, None], axis=1)
            seen[task] = Mixes((cold, warm), theta, some)
    for task in seen:
        mine = [v for v, each in enumerate(edges.calls) if each.task == task]
        low, high = min(found[mine]), max(found[mine])
        found[mine] = (found[mine] - low) / (high - low)
    return found, seen


def _together(wider: Edges) -> Floats:
    """[K, R] the most that mixes of two tasks carry over what their flows do alone."""
    carried = wider.carried
    apart = [n for n, (a, b) in enumerate(wider.look.pairs) if wider.calls[a].task != wider.calls[b].task]
    return np.asarray(np.max(carried[apart], axis=0, initial=1.0))


def _prompt_joules(part: Slice, book: MomentBook, flow: CallFlow) -> Floats:
    """[K] joules of a call's prompt, and of what it moves to and from a tier."""
    return np.asarray(book.prompt(flow.calls, flow.residency).energy_j + tier_joules(part, flow))


@dataclass(frozen=True, eq=False)
class _Looks:
    """Looks at configurations with chunks of each size, but those for which another size does as well."""

    kept: list[tuple[Look, Look | None, Ints]]
    """(all flows by chance, those that do not stay with a replica evened out over many, configurations)."""
    every: Ints
    """Numbers of all flows."""
    some: Ints
    """Of those that do not stay with a replica."""

    @staticmethod
    def of(part: Slice, calls: list[FlowCalls]) -> _Looks:
        """Those of some calls."""
        stays = np.array([each.flow.residency == "colocated" for each in calls])
        kept, size, moves = [], max(1, _AT_ONCE // len(part.grids.chunks)), np.flatnonzero(~stays)
        for first in range(0, len(part.index), size):
            some = np.arange(first, min(first + size, len(part.index)))
            own = replace(part, index=part.index[some])
            look = Look.at(own, [each.take(some) for each in calls], part.grids.chunks)
            carried = [(1.0, [Edges(look, n) for n in (1, _POOLED[-1])])]
            evened = look.evened(moves, MOST_EVEN) if len(moves) else None
            if evened is not None:
                carried.append((_LEFT_OUT, [Edges(evened, n) for n in _POOLED[1:]]))
            rows = _kept(carried, len(part.grids.chunks))
            kept.append((look.take(rows), evened.take(rows) if evened is not None else None, some[rows % len(some)]))
        return _Looks(kept, np.arange(len(calls)), moves)


def _columns(looks: _Looks) -> _Columns:
    """Columns of single replicas, and of several for flows that do not stay."""
    every, some = looks.every, looks.some
    flows = [every, every, *([some] * len(_POOLED))] if len(some) else [every]
    edges = []
    for own, _, _ in looks.kept:
        edges.append([Edges(own)])
        if len(some):
            evened = own.evened(some, _POOLED[0])
            pooled = [Edges(evened, n, Edges(own, n), some) for n in _POOLED]
            edges[-1] += [Edges(own, _PAIR), *pooled]
    among = [every, *([some] if len(some) else []), *(np.arange(len(some)) for _ in flows[2:])]
    sets = [_sets([each[n] for each in edges], own.tolist()) for n, own in enumerate(among)]
    found = [_Columns.of(each, sets, flows) for each in edges]
    return _Columns.joined(
        [replace(each, rows=rows[each.rows]) for each, (_, _, rows) in zip(found, looks.kept, strict=True)]
    )


def _kept(carried: Sequence[tuple[float, Sequence[Edges]]], sizes: int) -> Ints:
    """Rows of configurations with chunks of so many sizes, but for those that carry no more than with another one.

    Of each flow, beside each flow's promises, on each of some numbers of replicas, up to so many times as much.  Looked
    at closely, whatever memory there is: calls that it holds to few leave others room.
    """
    looks = []
    for times, edges in carried:
        own = np.stack([each.least_by_flow for each in edges])
        held = np.stack([each.capacity(each.part.room) for each in edges])[:, :, None]
        parts = [(times, own), (times / _HELD, held)] if edges[0].closely else [(times, np.minimum(own, held))]
        shape = (len(edges), sizes, own.shape[1] // sizes)
        open_ = edges[0].open.reshape(*shape[1:], -1)
        looks.append((open_, [(most, part.reshape(*shape, *part.shape[2:])) for most, part in parts]))
    dropped = np.zeros(looks[0][0].shape[:2], dtype=bool)
    for one in range(sizes):
        for other in range(sizes):
            if one != other:
                as_much: Bools = ~dropped[other]
                for open_, parts in looks:
                    asked = open_[one][:, :, None] & open_[one][:, None, :]
                    as_much &= np.all(~open_[one] | open_[other], axis=1)
                    for times, least in parts:
                        as_much &= np.all((times * least[:, other] >= least[:, one]) | ~asked, axis=(0, 2, 3))
                dropped[one] |= as_much
    return np.flatnonzero(~dropped.ravel())


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
    pooled: Ints
    """[n] replicas at the least."""
    row_names: tuple[str, ...]

    @staticmethod
    def of(edges: Sequence[Edges], sets: Sequence[Sequence[tuple[int, ...]]], flows: Sequence[Ints]) -> _Columns:
        """Those of few replicas and of more, for sets of some of all `flows` each.

        `sets` have larger ones first. What more replicas need has to be worth more.
        """
        count, every = len(edges[0].part.index), len(flows[0])
        number = sum(len(own_sets) for own_sets in sets)
        uses = np.zeros((number, count, len(edges[0].mixed_names), every))
        opens = np.zeros((number, count, every), dtype=bool)
        found: list[_Columns] = []
        taken = 0
        for each, own_sets, own in zip(edges, sets, flows, strict=True):
            fewer = taken
            for chosen in own_sets:
                use, open_ = uses[taken], opens[taken]
                found_use, open_[:, own] = each.rows(chosen, _room(each, chosen))
                use[:, : found_use.shape[1], own] = found_use
                needed: Bools = np.any(open_, axis=1)
                # Of those taken that admit as much, which leave about as much?
                n, k = np.nonzero(~np.any(open_ & ~opens[:taken], axis=2) & needed)
                worth = 1.0 + np.where(n >= fewer, _WORTH, _MORE)[:, None, None]
                closed = ~open_[k][:, None]
                needed[k[np.all((uses[n, k] <= use[k] * worth) | closed, axis=(1, 2))]] = False
                open_ &= needed[:, None]
                taken += 1
                rows = np.flatnonzero(needed)
                longest = min(
                    (
                        each.calls[v].accepted.target("tpot", t)
                        for v in chosen
                        for _, t in each.calls[v].flow.calls.task.tpot_slo
                    ),
                    default=np.nan,
                )
                same = np.ones(len(rows))
                found.append(
                    _Columns(
                        use[rows], open_[rows], rows, longest * same, each.chunk[rows],
                        np.full(len(rows), each.replicas), edges[0].mixed_names,
                    )
                )  # fmt: skip
        return _Columns.joined(found)

    @staticmethod
    def joined(parts: Sequence[_Columns]) -> _Columns:
        """Them all."""
        names = ("use", "admissible", "rows", "longest_s", "chunk", "pooled")
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return _Columns(**joined, row_names=parts[0].row_names)


def _room(edges: Edges, chosen: tuple[int, ...]) -> Floats:
    """[K] bytes for sessions, less the prefixes that the tasks of a set share."""
    shared = {edges.calls[v].task: edges.calls[v].flow.calls.shared for v in chosen}
    taken = [edges.part.prefix_bytes(tokens) for tokens in shared.values() if tokens > 0]
    return np.maximum(edges.part.room - sum(taken), 0.0)


def _sets(edges: Sequence[Edges], flows: list[int]) -> list[tuple[int, ...]]:
    """Sets of some flows that columns are offered for, larger ones first: those no stricter than two levels.

    One of steps (TPOT and ITL) and one of TTFT; among the flows of all tasks and of some, since memory holds the
    prefixes of a set, and among those alone whose history is kept, or is not.
    """
    calls = edges[0].calls
    steps, ttft = (np.sum([_ease(edge, kinds) for edge in edges], axis=0) for kinds in (("tpot", "itl"), ("ttft",)))
    found = set()
    some = [
        [v for v in flows if calls[v].task in among]
        for among in sets_of_tasks(edges[0].part, {calls[v].task: calls[v].flow.calls.shared for v in flows})
    ]
    dropped = [each.flow.residency == "drop" for each in calls]
    for own_flows in [*some, *([v for v in own if dropped[v] is without] for own in some for without in (True, False))]:
        mine = np.array(own_flows, dtype=np.int64)
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
