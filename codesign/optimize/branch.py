"""Branch on counts of servers, of servers set aside, and of replicas, with pricing at every node.

Fleets buy few, dear units (a rack of 72 accelerators), so the relaxation's fractional counts are most of
its gap.  Each node restricts some counts to intervals; its relaxation is a bound over all columns, and the
least bound of the open nodes is the bound of the whole problem.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.candidates.data import FleetData, SideLimit
from codesign.optimize.master import Interval
from codesign.optimize.relaxation import Relaxation, first_master, generate

_FRACTIONAL = 1e-6
_ROUNDS_UP = 0.4
"""Fraction from which a plunge rounds a count up."""


Unit = tuple[str, int]
"""What is counted: ("per_server", hardware), ("per_packing", packing) or ("per_group", group)."""


@dataclass(order=True)
class Node:
    """Intervals of counts, and what is known of the relaxation there."""

    bound: float
    number: int
    intervals: dict[Unit, tuple[float, float]] = field(compare=False)

    def limits(self, data: FleetData) -> dict[str, tuple[SideLimit, Interval]]:
        """The intervals as sums of counts by name, for the master."""
        found = {}
        for (kind, index), interval in self.intervals.items():
            members = [index]
            if kind == "per_server":
                members = [o for o, offer in enumerate(data.offers) if index in offer.supplies]
            name = f"{kind} {index}"
            ones = dict.fromkeys(members, 1.0)
            found[name] = (replace(SideLimit(name, "", 1.0), **{kind: ones}), interval)  # type: ignore[arg-type]
        return found


class Tree:
    """Best-first search over counts.  The caller supplies incumbents and reads `bound`."""

    def __init__(self, data: FleetData, root: Relaxation, start: Sequence[int]) -> None:
        self.data = data
        self.master, _ = first_master(data, start)
        self.bound = root.bound
        self.exhausted = False
        self._count = 0
        self._open: list[Node] = []
        self._preferred: Node | None = None
        self._leaf_bound = math.inf
        self._share = np.zeros(len(data.groups))
        for block in data.blocks:
            slots = np.array([packing.slots for packing in data.packings])[block.packing]
            self._share[block.group] = block.packed / slots
        self._branch(Node(root.bound, 0, {}), root)

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
                self.master, node.limits(self.data), deadline, stop_above=cutoff, cancelled=cancelled
            )
            if relaxation.infeasible:
                continue
            self._branch(Node(max(node.bound, relaxation.bound), node.number, node.intervals), relaxation)
            self._refresh()
            return relaxation
        self._refresh()
        return None

    def _branch(self, node: Node, relaxation: Relaxation) -> None:
        unit = self._dearest_fraction(relaxation)
        self._preferred = None
        if unit is None:
            # All counts are whole: what gap is left lies between columns of a group, and the bound stands.
            self._leaf_bound = min(self._leaf_bound, node.bound)
            return
        key, value = unit
        low, high = node.intervals.get(key, (0.0, math.inf))
        below = (low, float(math.floor(value)))
        above = (float(math.ceil(value)), high)
        for interval in (below, above):
            self._count += 1
            child = Node(node.bound, self._count, {**node.intervals, key: interval})
            heapq.heappush(self._open, child)
            if (interval is above) == (value - math.floor(value) >= _ROUNDS_UP):
                self._preferred = child

    def _dearest_fraction(self, relaxation: Relaxation) -> tuple[Unit, float] | None:
        """The count whose rounding moves most money: servers, servers set aside, replicas of a group."""
        data = self.data
        server = [
            min((data.server_price(o) for o in data.offers if h in o.supplies), default=0.0)
            for h in range(len(data.hardware))
        ]
        counts: list[tuple[Unit, float, float]] = []
        counts += [(("per_server", h), float(v), server[h]) for h, v in enumerate(relaxation.servers)]
        counts += [
            (("per_packing", p), float(v), server[data.packings[p].hardware])
            for p, v in enumerate(relaxation.set_aside)
        ]
        counts += [
            (("per_group", g), float(v), server[self._hardware(g)] * self._share[g])
            for g, v in enumerate(relaxation.replicas)
            if v > _FRACTIONAL
        ]
        best, score = None, 0.0
        for unit, value, price in counts:
            distance = abs(value - round(value))
            if distance > _FRACTIONAL and distance * max(price, 1e-9) > score:
                best, score = (unit, value), distance * max(price, 1e-9)
        return best

    def _hardware(self, group: int) -> int:
        return self.data.groups[group].hardware

    def _refresh(self) -> None:
        least = min([node.bound for node in self._open[:1]], default=math.inf)
        self.bound = max(self.bound, min(least, self._leaf_bound))
        self.exhausted = not self._open
