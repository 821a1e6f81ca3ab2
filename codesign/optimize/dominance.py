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
    order = np.lexsort((np.arange(count), block.use.level, block.use.source))
    source, level = block.use.source[order], block.use.level[order]
    limit, least, power = block.limit[order], block.min_replicas[order], block.replica_power_w[order]
    same_unit = np.stack([block.group, block.packing], axis=1)[order]
    for distance in range(1, count):
        near, far = slice(0, count - distance), slice(distance, count)
        alike = (source[near] == source[far]) & (level[near] == level[far]) & keep[order[near]] & keep[order[far]]
        alike &= np.all(same_unit[near] == same_unit[far], axis=1)
        pairs = np.flatnonzero(alike)
        if not len(pairs):
            if not np.any((source[near] == source[far]) & (level[near] == level[far])):
                break  # sorted: no two columns further apart are alike either
            continue
        a, b = pairs, pairs + distance
        for better, worse in ((a, b), (b, a)):
            wins = np.all(limit[better] >= limit[worse], axis=1) & (least[better] <= least[worse])
            wins &= power[better] <= power[worse]
            wins &= keep[order[better]] & keep[order[worse]]
            better, worse = better[wins], worse[wins]
            covered = np.all(block.admissible[order[better]] >= block.admissible[order[worse]], axis=1)
            keep[order[worse[covered]]] = False
    return keep
