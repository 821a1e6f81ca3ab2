"""Prefixes that the sessions of a task share, in the memory of a pool: those of the tasks that it serves, once each.

A linear row cannot know which tasks a pool serves in the end, so a column has its memory for a set of tasks and admits
no others: all tasks, each alone, and halves of halves between them, ordered by the size of their prefixes.  That is
fewer than two sets a task, and only those whose prefixes leave noteworthy more memory than a larger set's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.context import OperatingPoints, Slice, joined
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints
from codesign.candidates.flows import CallFlow


@dataclass(frozen=True)
class Memory:
    """What K configurations have for KV."""

    index: Ints
    """[K] their numbers among all configurations."""
    room: Floats
    """[K] bytes of a replica that its weights leave."""
    prefix: Callable[[float], Floats]
    """[K] bytes that a prefix of so many tokens takes of it."""


def by_prefixes(
    item: tuple[ColumnBlock, OperatingPoints], flows: Sequence[CallFlow], memory: Memory, worth: float
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """The columns of a block, whose memory holds no prefix, for each set of tasks that they may serve (none, or one).

    `flows` are those of the block. A set is offered beside a larger one where it leaves a share `worth` more memory.
    """
    block, points = item
    tokens = {flow.calls.task.name: flow.calls.shared for flow in flows if flow.calls.shared > 0}
    if not tokens or not len(block):
        return [item]
    order = sorted(tokens, key=lambda name: (tokens[name], name))
    place = np.array([order.index(f.calls.task.name) if f.calls.task.name in tokens else -1 for f in flows])
    where = np.zeros(int(memory.index.max()) + 1, dtype=np.int64)
    where[memory.index] = np.arange(len(memory.index))
    position = where[points.configuration]
    capacity = block.row_names.index("capacity")
    sizes = np.stack([memory.prefix(tokens[name]) for name in order])
    others = place < 0
    bare = others.any() & (memory.room >= (1.0 + worth) * (memory.room - sizes.sum(axis=0)))
    found = []
    for first, last, kept in (*_sets(sizes, memory.room, worth), (0, 0, bare)):
        own = (place >= first) & (place < last)
        taken = sizes[first:last].sum(axis=0)[position]
        # Tasks without a prefix have columns with more memory, or those of all tasks.
        alone = kept if last == first else ~bare & (last - first == len(order))
        needed = block.admissible & (own | (others & alone[position][:, None]))
        rows = np.flatnonzero(kept[position] & (taken < block.limit[:, capacity]) & needed.any(axis=1))
        if len(rows):
            limit = block.limit[rows]
            limit[:, capacity] -= taken[rows]
            part = block.take(rows)
            admissible = part.admissible & (own | others)
            found.append((replace(part, limit=limit, admissible=admissible), points.take(rows)))
    return joined(found)


def sets_of_tasks(part: Slice, shared: Mapping[str, float]) -> list[set[str]]:
    """All tasks, each alone, those without a prefix, and halves of halves of the others by the size of their prefixes.

    The latter where all prefixes (`shared` tokens, by task) take noteworthy memory.
    """
    found = [set(shared), *({task} for task in shared)] if len(shared) > 1 else [set(shared)]
    taken = np.sum([part.prefix_bytes(tokens) for tokens in shared.values() if tokens > 0], axis=0)
    if not np.any(taken > part.grids.prefix_worth * part.room):
        return found
    found.append({task for task, tokens in shared.items() if tokens == 0})
    parts = [sorted((task for task, tokens in shared.items() if tokens > 0), key=lambda task: (shared[task], task))]
    while parts:
        some = parts.pop()
        found.append(set(some))
        if len(some) > 2:
            parts += [some[: len(some) // 2], some[len(some) // 2 :]]
    return [tasks for n, tasks in enumerate(found) if tasks and tasks not in found[:n]]


def _sets(sizes: Floats, room: Floats, worth: float) -> Iterator[tuple[int, int, Bools]]:
    """(first, end, [K] offered) of sets of consecutive tasks, whose prefixes take `sizes` [tasks, K] of `room` [K]."""

    def halves(first: int, last: int, above: Floats) -> Iterator[tuple[int, int, Bools]]:
        taken = sizes[first:last].sum(axis=0)
        kept = (taken < room) & (room - taken >= (1.0 + worth) * (room - above))
        yield first, last, kept
        if last - first > 1:
            middle = (first + last) // 2
            for half in ((first, middle), (middle, last)):
                yield from halves(*half, np.where(kept, taken, above))

    yield from halves(0, len(sizes), np.full(len(room), np.inf))
