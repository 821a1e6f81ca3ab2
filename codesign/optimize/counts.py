"""Counts that every plan has whole, and which of their splits to branch on.

Counts are of sums first (all replicas of one size on one hardware, all that can serve a task), since a single group's
fraction only moves to its neighbours.  Which split moves a bound is learned from those that were tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import FleetData, Floats, SideLimit
from codesign.optimize.relaxation import Relaxation

FRACTIONAL = 1e-6
"""A count this far from a whole one is split."""
_NO_GAIN = 1e-3
"""Of the price of one: what a side that moved nothing counts for, so that the other side still matters."""
_ROUNDS_UP = 0.4
"""Fraction from which a dive rounds a count up."""


@dataclass(frozen=True)
class Unit:
    """A count that every plan has whole: of servers, of servers set aside, or of replicas of some groups."""

    members: SideLimit
    price: float
    """Objective of one, about; weighs how much its rounding moves."""
    least: float = 1.0
    """The least that a plan has where it has any."""


@dataclass(frozen=True)
class Split:
    """A sum of counts that is at most `below` or at least `above` in every plan, and `value` in a relaxation."""

    members: SideLimit
    below: float
    above: float
    value: float
    price: float
    """Objective of one, about."""
    missing: float = 0.0
    """What the relaxation misses by where the sum is whole and its spares are not all there."""

    def distance(self, up: bool) -> float:
        """How far the sum has to move on a side."""
        moved = self.above - self.value if up else self.value - self.below
        return max(moved, self.missing, FRACTIONAL)

    def score(self, gains: PseudoCosts) -> float:
        """How much both sides are expected to raise the objective."""
        down, up = (gains.expected(self.members.name, up, self.distance(up), self.price) for up in (False, True))
        return max(down, _NO_GAIN * self.price) * max(up, _NO_GAIN * self.price)

    @property
    def rounds_up(self) -> bool:
        """Is the relaxation nearer to the upper side?"""
        return self.value - self.below >= _ROUNDS_UP * (self.above - self.below)


@dataclass(frozen=True)
class Side:
    """One side of a split, and what it was split at."""

    name: str
    up: bool
    distance: float
    """By how much the count of the parent's relaxation moves at the least."""
    price: float
    value: float
    """Objective of the parent's relaxation."""


class PseudoCosts:
    """What splits have moved the relaxation by: the best guide to what they will."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], tuple[float, int]] = {}
        self._all, self._seen = 1.0, 1

    def learn(self, side: Side, value: float) -> None:
        """A relaxation on one side of a split has this objective."""
        gain = max(0.0, value - side.value) / side.distance
        total, count = self._known.get((side.name, side.up), (0.0, 0))
        self._known[side.name, side.up] = (total + gain, count + 1)
        if 0 < side.price < math.inf:  # of what has no price the gain says nothing of what others would add
            self._all += gain / side.price
            self._seen += 1

    def expected(self, name: str, up: bool, distance: float, price: float) -> float:
        """Objective that a side is expected to add; by its price and what others added where it was never tried."""
        total, count = self._known.get((name, up), (0.0, 0))
        each = total / count if count else price * self._all / self._seen
        return each * distance


def fractions(counted: list[Unit], relaxation: Relaxation) -> Iterator[Split]:
    """Splits of the counts that are not whole."""
    for unit in counted:
        value = count(unit.members, relaxation)
        below, above = (math.floor(value), math.ceil(value)) if value >= unit.least else (0.0, unit.least)
        if min(value - below, above - value) > FRACTIONAL:
            yield Split(unit.members, float(below), float(above), value, unit.price)


def count(members: SideLimit, relaxation: Relaxation) -> float:
    """What a relaxation has of a unit."""
    parts: list[tuple[dict[int, float], Floats]] = [
        (members.per_server, relaxation.offers),
        (members.per_packing, relaxation.set_aside),
        (members.per_module, relaxation.modules),
        (members.per_group, relaxation.replicas),
    ]
    return float(sum(c * counts[i] for coefficients, counts in parts for i, c in coefficients.items()))


def units(data: FleetData) -> list[Unit]:
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
    found = []
    for h in range(len(data.hardware)):
        members = [o for o, offer in enumerate(data.offers) if h in offer.supplies]
        limit = SideLimit(f"servers {h}", "", 1.0, per_server=dict.fromkeys(members, 1.0))
        found.append(Unit(limit, 4.0 * max(server[h], 1e-9)))
    for p, packing in enumerate(data.packings):
        limit = SideLimit(f"set aside {p}", "", 1.0, per_packing={p: 1.0})
        # Spares stand on a server of their own, so with n+1 one server alone runs nothing.
        weight, least = (5.0, 2.0) if data.survive_one_server else (3.0, 1.0)
        found.append(Unit(limit, weight * max(server[packing.hardware], 1e-9), least))
    for j in [j for j, module in enumerate(data.modules) if module.whole]:
        limit = SideLimit(f"modules {j}", "", 1.0, per_module={j: 1.0})
        found.append(Unit(limit, max(data.module_price(j), 1e-9)))
    sums: dict[tuple[object, ...], list[int]] = {}
    for g, place in sorted(size.items()):
        sums.setdefault(("size", *place), []).append(g)
        sums.setdefault(("work", *place, data.groups[g].work), []).append(g)
        sums.setdefault(("anywhere", data.groups[g].work), []).append(g)
        sums.setdefault(("group", g), []).append(g)
    for phase, able in _serving(data).items():
        sums[("serving", *phase)] = able
    weights = {"serving": 3.0, "anywhere": 3.0, "size": 3.0, "work": 2.0, "group": 1.0}
    known: set[tuple[int, ...]] = set()
    for key, groups in sums.items():
        if (key[0] == "group" or len(groups) > 1) and tuple(groups) not in known:
            known.add(tuple(groups))
            limit = SideLimit(" ".join(map(str, key)), "", 1.0, per_group=dict.fromkeys(groups, 1.0))
            found.append(Unit(limit, weights[str(key[0])] * float(np.median([price[g] for g in groups]))))
    return found


def _serving(data: FleetData) -> dict[tuple[int, bool], list[int]]:
    """Groups that can serve a phase of a task, by task and whether the phase completes it: a plan has one at least."""
    able: dict[tuple[int, bool], set[int]] = {}
    for block in data.blocks:
        for v, f in enumerate(block.flows.tolist()):
            key = (data.flows[f].task, data.flows[f].serves)
            able.setdefault(key, set()).update(block.group[block.admissible[:, v]].tolist())
    return {key: sorted(groups) for key, groups in sorted(able.items()) if groups}
