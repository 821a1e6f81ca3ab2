"""What bounds are over: columns that hold every load which keeps its promises, beside those that plans are made of.

A column of a plan holds only such loads (an inner approximation of them), a column of a bound holds them all and more
(an outer one), whichever replicas pool a queue and whichever flows share it. Both are half-spaces over what a replica
carries of each flow alone, Σ x/X ≤ 1, which is exact for one flow. Mixes may carry more than their parts: their row is
as much wider, and rows of each task alone stay as they are. Meant are loads that keep their promises whichever of their
tasks come: no pool counts on one task's calls to make another's faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from codesign.candidates.context import OperatingPoints, Slice
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.flows import CallFlow

Blocks = list[tuple[ColumnBlock, OperatingPoints]]

ROUNDING = 1.003
"""By how much what a flow carries alone is rounded up: it lies between two loads, and plans have it rounded down."""
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


def with_tasks(
    use: Floats, limit: Floats, names: Sequence[str], mixed: Sequence[int], own: Floats, flows: Sequence[CallFlow]
) -> _Rows:
    """Rows [n, R, V] that are wider for mixes, and of those `mixed` one for each task, to which others bring nothing.

    `own` [n, mixed, tasks] is how wide these are: a task's calls come with their history or without.
    """
    tasks = tasks_of(flows)
    if len(tasks) < 2:
        limit = limit.copy()
        limit[:, list(mixed)] = own[:, :, 0]
        return _Rows(tuple(names), use, limit)
    mine = np.array([[flow.calls.task.name == name for flow in flows] for name in tasks], dtype=np.float64)
    return _Rows(
        (*names, *(f"{names[row]} of {name}" for row in mixed for name in tasks)),
        np.concatenate([use, *(use[:, row : row + 1] * mine[None] for row in mixed)], axis=1),
        np.concatenate([limit, own.reshape(len(own), -1)], axis=1),
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    names: tuple[str, ...]
    use: Floats
    """[n, R, V]."""
    limit: Floats
    """[n, R]."""


def outer_block(
    part: Slice,
    role: str,
    select: Sequence[int],
    rows: _Rows,
    source: Ints,
    admissible: Bools,
    flow_power_w: Floats,
    replica_power_w: Floats,
    pooled: Ints,
    chunk: float = np.nan,
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
    return [(block, OperatingPoints(role, configuration, nothing, nothing, nothing, np.full(len(some), chunk)))]
