"""What bounds are over: columns that hold every load which keeps its promises, beside those that plans are made of.

A column of a plan holds only such loads (an inner approximation of them), a column of a bound holds them all and more
(an outer one), whichever replicas pool a queue and whichever flows share it. Both are half-spaces over what a replica
carries of each flow alone, Σ x/X ≤ 1, which is exact for one flow. Mixes may carry more than their parts: their row is
as much wider, and rows of each task alone stay as they are. Meant are loads that keep their promises whichever of their
tasks come: no pool counts on one task's calls to make another's faster.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codesign.candidates.context import OperatingPoints, Slice
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.flows import CallFlow

Blocks = list[tuple[ColumnBlock, OperatingPoints]]

ROUNDING = 1.003
"""By how much what a flow carries alone is rounded up: it lies between two loads, and plans have it rounded down."""
_NEAR = 1e-3
"""Shares of mixes that are the same: where one of two flows hardly comes, or may not, others are no mixes of them."""
_MINGLED = 1.06
"""By how much calls of which none is kept may fill memory less where they differ, than each by itself."""
_NEVER = 1e-9
"""Calls/s that are none."""
_BULGE = 2.0
"""Of what mixes of two tasks carry beyond their parts, looked at where one brings a third: others carry no more."""


@dataclass(frozen=True)
class Built:
    """The blocks of one role of a slice."""

    inner: Blocks = field(default_factory=list)
    """Of plans."""
    outer: Blocks = field(default_factory=list)
    """Of bounds."""


def bulge(carried: Floats) -> Floats:
    """By how much mixes may exceed what their parts say, where some were seen to carry so many times that."""
    return np.asarray(1.0 + _BULGE * np.maximum(carried - 1.0, 0.0))


def room_alone(part: Slice, flow: CallFlow) -> Floats:
    """[K] bytes for the sessions of a flow on replicas that hold the prefix of its task and of no other."""
    shared = flow.calls.shared
    return np.maximum(part.room - (part.prefix_bytes(shared) if shared > 0 else 0.0), 0.0)


def tasks_of(flows: Sequence[CallFlow]) -> list[str]:
    """The tasks of flows, by name."""
    return sorted({flow.calls.task.name for flow in flows})


def with_parts(
    use: Floats,
    limit: Floats,
    names: Sequence[str],
    mixed: Sequence[int],
    own: Floats,
    flows: Sequence[CallFlow],
    kinds: Sequence[Hashable],
    beside: Floats,
) -> Rows:
    """Rows [n, R, V] that are wider for mixes, and those `mixed` of them once more for parts of the mix alone.

    For the calls of each task, `own` [n, mixed, tasks] wide, since they come with their history or without; and for
    flows of each of the `kinds` [V], which carry as much as one flow does `beside` others [n, mixed, tasks].
    """
    tasks = tasks_of(flows)
    found, limits, labels = [use], [limit], list(names)

    def add(label: str, row: int, members: Bools, wide: Floats) -> None:
        found.append(use[:, row : row + 1] * members)
        limits.append(wide[:, None])
        labels.append(f"{names[row]} of {label}")

    for n, row in enumerate(mixed):
        for t, name in enumerate(tasks):
            mine = np.array([flow.calls.task.name == name for flow in flows])
            own_kinds = dict.fromkeys(kind for kind, member in zip(kinds, mine.tolist(), strict=True) if member)
            if len(tasks) > 1:
                add(name, row, mine, own[:, n, t])
            if np.any(own[:, n, t] > 1.0) and len(own_kinds) > 1:
                for number, kind in enumerate(own_kinds):
                    add(f"{name} ({number})", row, np.array([each == kind for each in kinds]), beside[:, n, t])
        if len(tasks) == 1:
            limits[0] = limits[0].copy()
            limits[0][:, row] = own[:, n, 0] if len(set(kinds)) > 1 else beside[:, n, 0]
    return Rows(tuple(labels), np.concatenate(found, axis=1), np.concatenate(limits, axis=1))


@dataclass(frozen=True, eq=False)
class Mixes:
    """What was seen of mixes of two flows of one task, of n columns: the one that finds less, and the one that more."""

    ends: tuple[int, int]
    theta: Floats
    """[n, S] share of the second in the calls."""
    carried: Floats
    """[n, S, R] what they carry over what the two do alone."""


def task_rows(
    use: Floats,
    names: Sequence[str],
    flows: Sequence[CallFlow],
    alike: Sequence[Hashable],
    found: Floats,
    seen: Mapping[str, Mixes],
    wider: Floats,
    curved: float,
) -> Rows:
    """Rows [n, R', V] from what flows use alone, [n, R, V]: of each task, and `wider` [n, R] ones of all together.

    Of a task's mixes the least that they use, by what share finds its history (`found` [V], 0 to 1), is a curve
    below their parts' where mixes carry more; rows are lines below it at each end and at each mix that was seen, lower
    by `curved`, since between two looks the curve lies lower. Flows that are `alike` [V] are no mixes.
    """
    tasks = [flow.calls.task.name for flow in flows]
    own: list[Floats] = []
    labels: list[str] = []
    for name in tasks_of(flows):
        mine = np.array([task == name for task in tasks])
        mixes = seen.get(name)
        for r, row in enumerate(names):
            if mixes is None:
                own.append(use[:, r] * mine)
                labels.append(f"{row} of {name}")
                continue
            ends = use[:, r, list(mixes.ends)]
            between = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * mixes.theta
            # Where one of the two may not come there are no mixes of them.
            carried = np.where(np.any(ends <= 0, axis=1)[:, None], 1.0, np.maximum(mixes.carried[:, :, r], 1.0))
            theta = np.concatenate([np.zeros((len(use), 1)), mixes.theta, np.ones((len(use), 1))], axis=1)
            height = np.concatenate([ends[:, :1], between / carried, ends[:, 1:]], axis=1)
            apart = np.any(ends <= 0, axis=1) | np.any(np.diff(theta, axis=1) < _NEAR, axis=1)
            even = np.linspace(0.0, 1.0, theta.shape[1])
            lines = supports(np.where(apart[:, None], even, theta), np.where(apart[:, None], 1.0, height))
            chord = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * found
            part = np.clip(use[:, r] / np.where(chord > 0, chord, 1.0), 0.0, 1.0)  # of a mix like it, what a flow uses
            for n, (start, slope) in enumerate(lines):
                line = (start[:, None] + slope[:, None] * found) * part / curved
                alone = use[:, r] / (curved * carried.max(axis=1, keepdims=True)) * (n == 0)
                own.append(np.where(apart[:, None], alone, line) * mine)
                labels.append(f"{row} of {name} ({n})")
            kinds = list(dict.fromkeys(kind for kind, member in zip(alike, mine.tolist(), strict=True) if member))
            for number, kind in enumerate(kinds):
                own.append(use[:, r] * (mine & np.array([each == kind for each in alike])))
                labels.append(f"{row} of {name}, alike ({number})")
    every = np.maximum(np.stack(own, axis=1), 0.0)
    if len(set(tasks)) < 2:
        return Rows(tuple(labels), every, np.ones(every.shape[:2]))
    limit = np.concatenate([wider, np.ones(every.shape[:2])], axis=1)
    return Rows((*names, *labels), np.concatenate([lowered(use, flows, seen), every], axis=1), limit)


def lowered(use: Floats, flows: Sequence[CallFlow], seen: Mapping[str, Mixes]) -> Floats:
    """Rows [n, R, V] of all tasks together, where mixes of one of them carry more than lies between their parts."""
    found = use.copy()
    for name, mixes in seen.items():
        mine = np.array([flow.calls.task.name == name for flow in flows])
        some = np.any(use[:, :, list(mixes.ends)] <= 0, axis=2)  # no mixes where one of the two may not come
        carried = np.where(some, 1.0, np.maximum(mixes.carried[:, :, : use.shape[1]].max(axis=1), 1.0))
        found[:, :, mine] /= (1.0 + 1.5 * (carried - 1.0))[:, :, None]
    return found


@dataclass(frozen=True, eq=False)
class MemoryMixes:
    """What was seen of n columns of the memory that one task's calls take, some of which find their history here."""

    ends: tuple[int, int]
    """A flow that keeps none here, or least, and the one that keeps most."""
    theta: Floats
    """[n, S] share of the second in the calls, 0 and 1 among them."""
    height: Floats
    """[n, S] memory that a call/s of such a mix takes, of all that there is."""
    lower: float
    """By how much the curve may lie below lines at what was seen."""

    @staticmethod
    def of(ends: tuple[int, int], theta: Floats, alone: Floats, mixes: Floats, lower: float) -> MemoryMixes:
        """Those of the most calls/s of either alone [n, 2], and of the mixes [n, S − 2] at `theta`."""
        order = np.argsort(theta, axis=1)
        theta, mixes = (np.take_along_axis(each, order, axis=1) for each in (theta, mixes))
        one = np.ones((len(theta), 1))
        most = np.concatenate([alone[:, :1], mixes, alone[:, 1:]], axis=1)
        theta = np.concatenate([0.0 * one, theta, one], axis=1)
        return MemoryMixes(ends, theta, 1.0 / np.maximum(most, _NEVER), lower)

    def lines(self) -> list[tuple[Floats, Floats]]:
        """(height at 0, slope) [n] of lines below the curve; nothing where flows or mixes are none.

        One at each mix but for the first flow alone: what it takes where slots are full before memory is is no memory.
        """
        bad = np.any(np.diff(self.theta, axis=1) < _NEAR, axis=1) | np.any(self.height >= 1.0 / _NEVER, axis=1)
        even = np.linspace(0.0, 1.0, self.theta.shape[1])
        _, *lines = supports(np.where(bad[:, None], even, self.theta), np.where(bad[:, None], 0.0, self.height))
        return [tuple(np.where(bad, 0.0, each) / self.lower for each in line) for line in lines]  # type: ignore[misc]


def memory_rows(
    alone: Floats,
    least: Floats,
    flows: Sequence[CallFlow],
    alike: Sequence[Hashable],
    role: str,
    wider: Floats,
    mixes: Mapping[str, MemoryMixes],
    share: Floats,
) -> Rows:
    """Rows [n, R, V] of memory from what flows take of it alone, and by what they hold at `least` [n, V] each.

    Calls beside which others keep their history here do not fill the memory, so that their steps are shorter and they
    hold less than where they are alone: of what is kept and what is not together the least counts, and lines below
    what was seen of `mixes`, by the `share` [V] of its history that each flow keeps here. Flows that are not `alike`
    [V] may carry `_MINGLED` times what lies between them, those of several tasks `wider` [n] times that.
    """
    here = np.array([flow.residency == role for flow in flows])
    tasks = np.array([flow.calls.task.name for flow in flows])
    rows, names = [least], ["memory"]
    for name in tasks_of(flows):
        for kept in (False, True):
            mine = (here == kept) & (tasks == name)
            kinds = list(dict.fromkeys(key for key, own in zip(alike, mine.tolist(), strict=True) if own))
            for number, kind in enumerate(kinds):
                rows.append(alone * (mine & np.array([key == kind for key in alike])))
                names.append(f"capacity of {name} ({'kept' if kept else 'not kept'}, {number})")
            if not kept and len(kinds) > 1:
                rows.append(alone * mine / _MINGLED)
                names.append(f"capacity of {name}")
        if name in mixes:
            cold = mixes[name].ends[0]
            # Lines are of one variant: others, and flows that keep nothing but are unlike its, count by the least.
            variant = np.array([flow.calls.variant.name == flows[cold].calls.variant.name for flow in flows])
            like = variant & (here | np.array([key == alike[cold] for key in alike]))
            for number, (start, slope) in enumerate(mixes[name].lines()):
                line = np.maximum(start[:, None] + slope[:, None] * share, 0.0)
                rows.append(np.where(like, line, np.minimum(line, least)) * (tasks == name) * (alone > 0))
                names.append(f"capacity of {name}, mixed ({number})")
    limit = [np.ones(len(alone))] * len(rows)
    if len(set(tasks.tolist())) > 1:
        rows.append(alone * ~here / _MINGLED)
        limit.append(wider)
        names.append("capacity")
    return Rows(tuple(names), np.stack(rows, axis=1), np.stack(limit, axis=1))


def supports(theta: Floats, height: Floats) -> list[tuple[Floats, Floats]]:
    """(height at 0, slope) [n] of lines below points [n, S] from 0 to 1, as near to each as a line can be that is at
    least 0 from 0 to 1."""
    count = theta.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = (height[:, None, :] - height[:, :, None]) / (theta[:, None, :] - theta[:, :, None])
    lines = []
    for i in range(count):
        # Of a curve that bends upwards the slope at an end goes beyond that to the next point.
        if i == 0:
            slope = rise[:, 0, 1:].min(axis=1) - np.maximum(rise[:, 1, 2] - rise[:, 0, 1], 0.0) / 2.0
        elif i == count - 1:
            slope = rise[:, i, :i].max(axis=1) + np.maximum(rise[:, i - 1, i] - rise[:, i - 2, i - 1], 0.0) / 2.0
        else:
            slope = (rise[:, i, :i].max(axis=1) + rise[:, i, i + 1 :].min(axis=1)) / 2.0
        start = np.min(height - slope[:, None] * theta, axis=1)
        # Below nothing at one end, it says nothing there: from nothing at 0, or level.
        up, level = np.min(height / np.maximum(theta, 1e-300), axis=1), height.min(axis=1)
        rises, falls = start < 0, start + slope < 0
        slope = np.where(rises, up, np.where(falls, 0.0, slope))
        lines.append((np.where(rises, 0.0, np.where(falls, level, start)), slope))
    return lines


@dataclass(frozen=True, eq=False)
class Rows:
    """Of n columns."""

    names: tuple[str, ...]
    use: Floats
    """[n, R, V]."""
    limit: Floats
    """[n, R]."""

    def beside(self, other: Rows) -> Rows:
        """These and those of the same columns."""
        use, limit = (np.concatenate([getattr(each, word) for each in (self, other)], axis=1) for word in _PARTS)
        return Rows((*self.names, *other.names), use, limit)


_PARTS = ("use", "limit")


def outer_block(
    part: Slice,
    role: str,
    select: Sequence[int],
    rows: Rows,
    source: Ints,
    admissible: Bools,
    flow_power_w: Floats,
    replica_power_w: Floats,
    pooled: Ints,
    chunk: Floats | None = None,
) -> Blocks:
    """The block of columns `source` [n] of a slice's configurations with such rows; none of no column."""
    some = np.flatnonzero(admissible.any(axis=1) & np.all(rows.limit > 0, axis=1))
    if not len(some):
        return []
    source, open_ = source[some], admissible[some]
    configuration = part.index[source]
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=rows.names,
        use=RowUse.dense(np.where(open_[:, None, :], rows.use[some], 0.0)),
        limit=rows.limit[some],
        admissible=open_,
        flow_power_w=flow_power_w[source],
        replica_power_w=replica_power_w[source],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group(role, configuration),
        min_replicas=pooled[some].astype(np.int64),
    )
    nothing = np.full(len(some), np.nan)
    sizes = nothing if chunk is None else chunk[some]
    return [(block, OperatingPoints(role, configuration, nothing, nothing, nothing, sizes))]
