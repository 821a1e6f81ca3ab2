"""Branch on counts with pricing at every node: servers, and replicas by size, by work and by group.

Fleets buy few, dear units (a rack of 72 accelerators, replicas of 4), so the relaxation's fractional counts are most
of its gap.  Each node holds some counts in intervals; its relaxation is a bound over all columns, and the least
bound of the open nodes is the bound of the whole problem.  Counts are of sums first (all replicas of one size on
one hardware), since a single group's fraction only moves to its neighbours.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from codesign.candidates.data import Bools, FleetData, Floats, SideLimit
from codesign.optimize.duals import Duals
from codesign.optimize.master import Interval
from codesign.optimize.relaxation import Relaxation, first_master, generate

_FRACTIONAL = 1e-6
_ROUNDS_UP = 0.4
"""Fraction from which a plunge rounds a count up."""


@dataclass(frozen=True)
class Unit:
    """A count that every plan has whole: of servers, of servers set aside, or of replicas of some groups."""

    members: SideLimit
    price: float
    """Objective of one, about; weighs how much its rounding moves."""


@dataclass(order=True)
class Node:
    """Intervals of counts, and what is known of the relaxation there."""

    bound: float
    number: int
    intervals: dict[str, tuple[SideLimit, Interval]] = field(compare=False)


class Tree:
    """Best-first search over counts.  The caller supplies incumbents and reads `bound`."""

    def __init__(self, data: FleetData, root: Relaxation, start: Sequence[int]) -> None:
        self.data = data
        self.master, _ = first_master(data, start, duals=root.duals)
        self.bound = root.bound
        self._count = 0
        self._open: list[Node] = []
        self._preferred: Node | None = None
        self._leaf_bound = math.inf
        self._units = _units(data)
        self._branch(Node(root.bound, 0, {}), root)

    def narrow(self, kept: Bools, start: Sequence[int], duals: Duals) -> None:
        """Go on with some of the columns [columns]: the others are proven to be in no better plan."""
        self.data = self.data.keep(kept)
        self.master, _ = first_master(self.data, start, duals=duals)

    def held(self) -> list[int]:
        """Columns that its linear program holds."""
        return self.master.columns

    def step(
        self, cutoff: float, deadline: float, cancelled: Callable[[], bool], plunge: bool = False
    ) -> Relaxation | None:
        """Solve an open node and branch on it; None when nothing below `cutoff` is open.

        The node is that of least bound, or with `plunge` the child nearest to the last one's relaxation: a few
        plunges fix the counts of a whole plan, and their relaxations bring the columns that it needs.
        """
        while self._open and self._open[0].bound < cutoff:
            node = self._preferred if plunge and self._preferred in self._open else self._open[0]
            self._open.remove(node)
            heapq.heapify(self._open)
            relaxation = generate(
                self.master, node.intervals, deadline, stop_above=cutoff, cancelled=cancelled
            )
            if relaxation.infeasible and (relaxation.value >= cutoff or math.isinf(cutoff)):
                continue  # what is missed costs more than any plan: not a basis that misses by rounding
            self._branch(Node(max(node.bound, relaxation.bound), node.number, node.intervals), relaxation)
            self._refresh()
            return relaxation
        self._refresh()
        return None

    def _branch(self, node: Node, relaxation: Relaxation) -> None:
        found = self._dearest_fraction(relaxation) if relaxation.converged else None
        self._preferred = None
        if not relaxation.converged:  # the clock, or a bound beyond the cutoff: the node stays open at its bound
            heapq.heappush(self._open, node)
            return
        if found is None:
            # All counts are whole: what gap is left lies between columns of a group, and the bound stands.
            self._leaf_bound = min(self._leaf_bound, node.bound)
            return
        unit, value = found
        _, (low, high) = node.intervals.get(unit.members.name, (unit.members, (0.0, math.inf)))
        below = (low, float(math.floor(value)))
        above = (float(math.ceil(value)), high)
        for interval in (below, above):
            self._count += 1
            child = Node(
                node.bound, self._count, {**node.intervals, unit.members.name: (unit.members, interval)}
            )
            heapq.heappush(self._open, child)
            if (interval is above) == (value - math.floor(value) >= _ROUNDS_UP):
                self._preferred = child

    def _dearest_fraction(self, relaxation: Relaxation) -> tuple[Unit, float] | None:
        """The count whose rounding moves most money."""
        best, score = None, 0.0
        for unit in self._units:
            value = _count(unit.members, relaxation)
            distance = abs(value - round(value))
            if distance > _FRACTIONAL and distance * unit.price > score:
                best, score = (unit, value), distance * unit.price
        return best

    def _refresh(self) -> None:
        least = min([node.bound for node in self._open[:1]], default=math.inf)
        self.bound = max(self.bound, min(least, self._leaf_bound))


def _count(members: SideLimit, relaxation: Relaxation) -> float:
    """What a relaxation has of a unit."""
    parts: list[tuple[dict[int, float], Floats]] = [
        (members.per_server, relaxation.offers),
        (members.per_packing, relaxation.set_aside),
        (members.per_module, relaxation.modules),
        (members.per_group, relaxation.replicas),
    ]
    return float(sum(c * counts[i] for coefficients, counts in parts for i, c in coefficients.items()))


def _units(data: FleetData) -> list[Unit]:
    """All counts to branch on; sums of many groups weigh more than their parts, since their rounding binds more."""
    server = np.array(
        [
            min((data.server_price(o) for o in data.offers if h in o.supplies), default=0.0)
            for h in range(len(data.hardware))
        ]
    )
    slots = np.array([packing.slots for packing in data.packings], dtype=np.float64)
    size: dict[int, tuple[int, float]] = {}
    price: dict[int, float] = {}
    for block in data.blocks:
        for g, p, packed in zip(block.group.tolist(), block.packing.tolist(), block.packed.tolist(), strict=True):
            if g not in size:
                size[g] = (p, packed)
                price[g] = max(1e-9, server[data.packings[p].hardware] * packed / slots[p])
    units = []
    for h in range(len(data.hardware)):
        members = [o for o, offer in enumerate(data.offers) if h in offer.supplies]
        limit = SideLimit(f"servers {h}", "", 1.0, per_server=dict.fromkeys(members, 1.0))
        units.append(Unit(limit, 4.0 * max(server[h], 1e-9)))
    for p, packing in enumerate(data.packings):
        limit = SideLimit(f"set aside {p}", "", 1.0, per_packing={p: 1.0})
        units.append(Unit(limit, 3.0 * max(server[packing.hardware], 1e-9)))
    for j in [j for j, module in enumerate(data.modules) if module.whole]:
        limit = SideLimit(f"modules {j}", "", 1.0, per_module={j: 1.0})
        units.append(Unit(limit, max(data.module_price(j), 1e-9)))
    sums: dict[tuple[object, ...], list[int]] = {}
    for g, place in sorted(size.items()):
        sums.setdefault(("size", *place), []).append(g)
        sums.setdefault(("work", *place, data.groups[g].work), []).append(g)
        sums.setdefault(("group", g), []).append(g)
    weight = {"size": 3.0, "work": 2.0, "group": 1.0}
    for key, groups in sums.items():
        if key[0] == "group" or len(groups) > 1:
            limit = SideLimit(" ".join(map(str, key)), "", 1.0, per_group=dict.fromkeys(groups, 1.0))
            units.append(Unit(limit, weight[str(key[0])] * price[groups[0]]))
    return units
