"""Columns that another column of the same configuration beats in every respect.

Two columns with the same use of every row (same configuration, same level) belong to the same group and
purchase unit and draw the same power.  If one also offers at least as much of every row, admits every flow that
the other does and needs no more replicas to start with, any plan can use it instead, replica for replica:
same objective, same servers, same spares, same designs.  Nothing else is compared, so nothing else is lost.
"""

from __future__ import annotations

import numpy as np

from codesign.candidates.data import Bools, ColumnBlock, FleetData


def undominated(data: FleetData) -> Bools:
    """[columns] True for those that no other column dominates; of equal ones the first stays."""
    parts = [_undominated(block) for block in data.blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _undominated(block: ColumnBlock) -> Bools:
    count = len(block)
    keep = np.ones(count, dtype=bool)
    keys = (block.use.source, block.use.level, block.group, block.packing)
    other = (block.other_packing,) if block.other_packing is not None else ()
    order = np.lexsort((np.arange(count), *other, *keys[::-1]))
    limit, least, power = block.limit[order], block.min_replicas[order], block.replica_power_w[order]
    admissible = np.packbits(block.admissible[order], axis=1)
    run = np.zeros(count, dtype=np.int64)  # columns of one configuration, level and purchase unit stand together
    for key in (*keys, *other):
        run[1:] += key[order][1:] != key[order][:-1]
    run = np.cumsum(run > 0)
    asked = np.zeros(count, dtype=bool)
    left = np.arange(count)
    while len(left):
        # In each run the next column that has not been asked yet: which others of its run does it beat?
        starts = np.flatnonzero(np.diff(run[left], prepend=-1))
        place = np.arange(len(left))
        asking = np.minimum.reduceat(np.where(asked[left], len(left), place), starts)
        lengths = np.diff(np.append(starts, len(left)))
        open_run = np.repeat(asking < len(left), lengths)
        better = left[np.repeat(np.minimum(asking, len(left) - 1), lengths)]
        left, better = left[open_run], better[open_run]
        asked[better] = True
        wins = (left != better) & (least[better] <= least[left]) & (power[better] <= power[left])
        for row in range(limit.shape[1]):
            wins &= limit[better, row] >= limit[left, row]
        wins[wins] = np.all(admissible[left[wins]] & ~admissible[better[wins]] == 0, axis=1)
        keep[order[left[wins]]] = False
        left = left[~wins]
    return keep
