"""Branch on counts with pricing at every node: servers, and replicas by size, by work and by group.

Fleets buy few, dear units (a rack of 72 accelerators, replicas of 4), so the relaxation's fractional counts are most
of its gap.  Each node holds some counts in intervals; its relaxation is a bound over all columns, and the least
bound of the open nodes is the bound of the whole problem.  Counts are of sums first (all replicas of one size on
one hardware), since a single group's fraction only moves to its neighbours.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.candidates.data import Bools, FleetData, Floats, SideLimit
from codesign.optimize.counts import FRACTIONAL, PseudoCosts, Side, Split, fractions, units
from codesign.optimize.duals import Duals, slot_prices
from codesign.optimize.master import Interval
from codesign.optimize.most import most_of_all
from codesign.optimize.node import NodeSolver
from codesign.optimize.redundancy import Rows, most_servers, spared, usable_rows
from codesign.optimize.relaxation import Relaxation


@dataclass(order=True)
class Node:
    """Intervals of counts, and what is known of the relaxation there."""

    bound: float
    number: int
    intervals: dict[str, tuple[SideLimit, Interval]] = field(compare=False)
    side: Side | None = field(default=None, compare=False)
    """How it came out of its parent."""


def _most_counted(data: FleetData) -> dict[str, float]:
    """By name of a count (`counts.units`), what no lean plan exceeds: without it a tree need not end."""
    most = most_of_all(data)
    found = {}
    for h in range(len(data.hardware)):
        found[f"servers {h}"] = float(sum(most.servers[o] for o, f in enumerate(data.offers) if h in f.supplies))
    for p in range(len(data.packings)):
        found[f"set aside {p}"] = float(most.set_aside[p])
    for j in range(len(data.modules)):
        found[f"modules {j}"] = float(most.modules[j])
    return found


@dataclass(frozen=True, eq=False)
class Leaf:
    """Intervals under which a relaxation has whole counts only."""

    bound: float
    intervals: Rows
    relaxation: Relaxation
    final: bool = False
    """Has a MILP said all that it can?"""

    def keep(self, kept: Bools) -> Leaf:
        """The same with some of the columns [columns] alone."""
        relaxation = self.relaxation
        return replace(self, relaxation=replace(relaxation, reduced_cost=relaxation.reduced_cost[kept]))


class Tree:
    """Best-first search over counts.  The caller supplies incumbents and reads `bound`.

    `data` holds the columns that can still matter, `reduced` [columns] what each of them loses at the root.
    """

    def __init__(self, data: FleetData, root: Relaxation, start: Sequence[int], reduced: Floats) -> None:
        self.data = data
        self._solver = NodeSolver(data, start, root.duals, reduced)
        self.bound = root.bound
        self._count = 0
        self._open: list[Node] = []
        self.landed = False
        """Did the last step end a dive?"""
        self._children: list[Node] = []
        self._gains = PseudoCosts()
        self.leaf: Leaf | None = None
        """Where no count is left to split: the caller says by `settle` what is known of it."""
        self._settled: list[Leaf] = []
        """Leaves by what is known of them."""
        self._units = units(data)
        self._spared = spared(data)
        self._slot_price = slot_prices(data, Duals.none(data))
        self._most = _most_counted(data)
        self._branch(Node(root.bound, 0, {}), root)

    def narrow(self, kept: Bools, start: Sequence[int], duals: Duals, reduced: Floats) -> None:
        """Go on with some of the columns [columns]: the others are proven to be in no better plan."""
        self.data = self.data.keep(kept)
        self._settled = [leaf.keep(kept) for leaf in self._settled]
        self._solver = NodeSolver(self.data, start, duals, reduced[kept])

    def held(self) -> list[int]:
        """Columns that its linear program holds."""
        return self._solver.held

    def step(
        self, cutoff: float, deadline: float, cancelled: Callable[[], bool], dive: bool = False
    ) -> Relaxation | None:
        """Solve an open node and branch on it; None when nothing below `cutoff` is open.

        The node is that of least bound, or in a `dive` the nearer child of the last one, else its other child: a few
        steps fix the counts of nearly a plan, and say which columns it needs.  `landed` tells that a dive has ended.
        """
        self.landed = False
        if self.leaf is not None:
            self.settle(self.leaf.bound)
        while self._open and self._open[0].bound < cutoff:
            node = self._next(cutoff, dive)
            self._open.remove(node)
            heapq.heapify(self._open)
            if any(low > self._most.get(name, math.inf) for name, (_, (low, _)) in node.intervals.items()):
                continue  # more of something than any lean plan has, and some optimum is lean
            relaxation = self._solver.relax(self._rows(node, cutoff), deadline, cutoff, cancelled)
            if node.side is not None and relaxation.converged and math.isfinite(cutoff):
                self._gains.learn(node.side, min(relaxation.value, cutoff))
            bound = max(node.bound, relaxation.bound)  # inf where it is proven that nothing keeps the node's rows
            if bound >= cutoff:
                continue
            self._children = self._branch(Node(bound, node.number, node.intervals), relaxation)
            self.landed = dive and not self._children
            self._refresh()
            return relaxation
        self._refresh()
        return None

    def _next(self, cutoff: float, dive: bool) -> Node:
        """The node to solve: a child of the last one in a dive, or that of least bound."""
        while self._children:
            child = self._children.pop(0)
            if dive and child in self._open and child.bound < cutoff:
                return child
        return self._open[0]

    def _rows(self, node: Node, cutoff: float) -> Rows:
        """The node's intervals, no more of anything than lean plans have, and what that leaves once spares are kept."""
        intervals = {
            name: (members, (low, min(high, self._most.get(name, math.inf))))
            for name, (members, (low, high)) in node.intervals.items()
        }
        if not self._spared:
            return intervals
        return {**intervals, **usable_rows(self._spared, most_servers(self.data, cutoff), intervals)}

    def _branch(self, node: Node, relaxation: Relaxation) -> list[Node]:
        """Open the node's children, the nearer one first; none where there is nothing to split."""
        if not relaxation.converged:  # the clock, or a bound beyond the cutoff: the node stays open at its bound
            heapq.heappush(self._open, node)
            return []
        found = max(
            [*fractions(self._units, relaxation), *self._spares_missing(node, relaxation)],
            key=lambda split: split.score(self._gains),
            default=None,
        )
        if found is None:
            return self._leave(node, relaxation)
        members = found.members
        _, (low, high) = node.intervals.get(members.name, (members, (0.0, math.inf)))
        children = []
        for up, interval in enumerate([(low, found.below), (found.above, high)]):
            self._count += 1
            side = Side(members.name, bool(up), found.distance(bool(up)), found.price, relaxation.value)
            intervals = {**node.intervals, members.name: (members, interval)}
            children.append(Node(node.bound, self._count, intervals, side))
            heapq.heappush(self._open, children[-1])
        return children[::-1] if found.rounds_up else children

    def _leave(self, node: Node, relaxation: Relaxation) -> list[Node]:
        """All counts are whole: what gap is left lies between columns of a group.

        What runs is set apart from all else: without the other groups few columns are left, which a MILP can settle.
        """
        running = tuple(np.flatnonzero(relaxation.replicas > FRACTIONAL).tolist())
        others = dict.fromkeys((g for g in range(len(self.data.groups)) if g not in running), 1.0)
        members = SideLimit(f"all but {' '.join(map(str, running))}", "", 1.0, per_group=others)
        if not others or members.name in node.intervals:
            self.leaf = Leaf(node.bound, node.intervals, relaxation)
            return []
        children = []
        for interval in ((0.0, 0.0), (1.0, math.inf)):
            self._count += 1
            children.append(Node(node.bound, self._count, {**node.intervals, members.name: (members, interval)}))
            heapq.heappush(self._open, children[-1])
        return children

    def settle(self, bound: float, final: bool = False) -> None:
        """The last leaf has no plan below `bound`; `final`: asking again would tell no more."""
        assert self.leaf is not None
        self._settled.append(replace(self.leaf, bound=max(bound, self.leaf.bound), final=final))
        self.leaf = None
        self._refresh()

    def reopen(self, cutoff: float) -> Leaf | None:
        """The leaf of least bound of which more may be learnt, once more as `leaf`; None where none is below it."""
        open_ = [leaf for leaf in self._settled if not leaf.final and leaf.bound < cutoff]
        if not open_:
            return None
        least = min(open_, key=lambda leaf: leaf.bound)
        self._settled.remove(least)
        self.leaf = least
        return least

    def _spares_missing(self, node: Node, relaxation: Relaxation) -> Iterator[Split]:
        """Kinds of work of whose spares the relaxation misses some, split where the chord comes near the truth."""
        for place in self._spared:
            price = self._slot_price[place.packing]
            for work, groups in place.works.items():
                slots = sum(size * relaxation.replicas[g] for g, size in groups.items())
                if slots <= FRACTIONAL:
                    continue
                members = SideLimit(place.slots_of(work), "", 1.0, per_group=dict(groups))
                low, high = node.intervals.get(members.name, (members, (0.0, math.inf)))[1]
                slope, base = place.chord(work, low, high) if math.isfinite(high) else (0.0, place.reserve(work, low))
                missing = place.reserve(work, slots) - (slope * slots + base)
                if missing > FRACTIONAL:
                    above = max(low, min(math.floor(slots + FRACTIONAL), place.least_of[work] - 1.0)) + 1.0
                    yield Split(members, above - 1.0, above, slots, price, missing)

    def _refresh(self) -> None:
        leaves = [*self._settled, *([self.leaf] if self.leaf is not None else [])]
        known = [node.bound for node in self._open[:1]] + [leaf.bound for leaf in leaves]
        self.bound = max(self.bound, min(known, default=math.inf))
