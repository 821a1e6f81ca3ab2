"""What n+1 leaves of the servers that are bought: rows that relaxations keep, tighter as counts are bounded.

A group of n replicas keeps min(lost, n) spares, on two servers at least: a concave charge, of which a relaxation can
hold no more than the chord over the values that are left.  Summed over the groups of one packing, u = Σ packed·n slots
run on S servers and the spares take at least min(least, u) slots, where `least` is what losing a server takes from any
of the groups: the least of lost·packed.  So u ≤ usable(S) = max(0, slots·S − least), or where least is more than a
server holds max(slots·S/2, slots·S − least): convex over whole S, and its chord over the servers that are left at a
node of the search is a row of the relaxation there.  Each kind of work in a packing
(model and role) keeps spares of its own, so chords over the slots that a node leaves to each make a second row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import FleetData, Floats, SideLimit
from codesign.optimize.most import widens

Row = tuple[SideLimit, tuple[float, float]]
"""A sum of counts, and the interval that holds it."""
Rows = dict[str, Row]
"""By name."""


def most_servers(data: FleetData, cutoff: float = math.inf) -> Floats:
    """[H] servers of each row of hardware that limits and an objective below `cutoff` leave room for (inf: any)."""
    most = np.full(len(data.hardware), np.inf)
    limits = [limit for limit in data.limits if not widens(limit)]
    for h in range(len(data.hardware)):
        offers = [o for o, offer in enumerate(data.offers) if h in offer.supplies]
        if not offers:
            most[h] = 0.0
            continue
        cheapest = min(data.server_price(data.offers[o]) for o in offers)
        rooms = [(cutoff, cheapest)]
        rooms += [(limit.limit, min(limit.per_server.get(o, 0.0) for o in offers)) for limit in limits]
        counts = [math.floor(room / each + 1e-9) for room, each in rooms if each > 0 and room < np.inf]
        most[h] = min(counts, default=np.inf)
    return most


@dataclass(frozen=True)
class Spared:
    """A packing, what runs in it, and the slots that spares take at the least."""

    packing: int
    hardware: int
    slots: float
    packed: Mapping[int, float]
    """Slots of a replica by group."""
    least: float
    """Slots that the spares of any of the groups take once it runs that much."""

    works: Mapping[str, Mapping[int, float]]
    """The same by kind of work: what each runs needs spares of its own."""
    least_of: Mapping[str, float]
    """`least` by kind of work."""

    def usable(self, servers: float) -> float:
        """Slots that replicas may fill in so many servers, the others being spare."""
        left = max(0.0, self.slots * servers - self.least)
        # What losing a server takes may be more than it holds: replicas whose other half stands there.  Then what runs
        # may be less than that, and has as many spares as it runs.
        return left if self.least <= self.slots else max(0.5 * self.slots * servers, left)

    def slots_of(self, work: str) -> str:
        """Name of the count of slots that a kind of work runs on here."""
        return f"slots {self.packing} {work}"

    def reserve(self, work: str, slots: float) -> float:
        """Slots that the spares of a kind of work take where it runs on so many."""
        return min(self.least_of[work], slots)

    def chord(self, work: str, low: float, high: float) -> tuple[float, float]:
        """(slope, constant) of what `reserve` is at the least between two counts of slots."""
        slope = (self.reserve(work, high) - self.reserve(work, low)) / (high - low) if high > low else 0.0
        return slope, self.reserve(work, low) - slope * low

    def spare_row(self, room: float, held: Mapping[str, tuple[float, float]]) -> tuple[str, SideLimit, float]:
        """Slots run and kept as spares ≤ slots set aside: name, members and bound; works `held` in intervals of slots.

        `room` are the slots that any work can run on (finite).
        """
        coefficients: dict[int, float] = {}
        constant, names = 0.0, []
        for work, groups in self.works.items():
            low, high = held.get(work, (0.0, room))
            high = max(low, min(high, room))
            slope, base = self.chord(work, low, high)
            constant += base
            names.append(f"{low:g}-{high:g}")
            for g, size in groups.items():
                coefficients[g] = size * (1.0 + slope)
        name = f"spares {self.packing} {' '.join(names)}"
        members = SideLimit(name, "", 1.0, per_packing={self.packing: -self.slots}, per_group=coefficients)
        return name, members, -constant

    def most_replicas(self, group: int, servers: float, lost: int) -> float:
        """Replicas of a group that so many servers hold beside its spares."""
        room = math.floor(self.slots * servers / self.packed[group] + 1e-9) if math.isfinite(servers) else math.inf
        return max(room - lost, min(lost, room // 2)) if servers >= 2 else min(room - lost, 0)

    def row(self, low: float, high: float) -> tuple[str, Row]:
        """Slots run ≤ the chord of `usable` over `low` to `high` servers (finite)."""
        base = self.usable(low)
        slope = (self.usable(high) - base) / (high - low) if high > low else 0.0
        name = f"usable {self.packing} {low:g} {high:g}"
        members = SideLimit(name, "", 1.0, per_packing={self.packing: -slope}, per_group=dict(self.packed))
        return name, (members, (-math.inf, base - slope * low))


def spared(data: FleetData) -> list[Spared]:
    """One for each packing that groups run in; none where no loss need be survived."""
    if not data.survive_one_server:
        return []
    packed: dict[int, dict[int, float]] = {}
    for block in data.blocks:
        for rows, packing, slots in block.places():
            keys = np.unique(np.stack([packing, block.group[rows]]), axis=1, return_index=True)[1]
            for p, g, size in zip(*(x[keys].tolist() for x in (packing, block.group[rows], slots)), strict=True):
                packed.setdefault(p, {})[g] = size
    found = []
    for p, groups in sorted(packed.items()):
        works: dict[str, dict[int, float]] = {}
        for g, size in sorted(groups.items()):
            works.setdefault(data.groups[g].work, {})[g] = size
        least = {
            work: min(data.groups[g].replicas_lost_with_server * size for g, size in members.items())
            for work, members in works.items()
        }
        box = data.packings[p]
        found.append(Spared(p, box.hardware, float(box.slots), groups, min(least.values()), works, least))
    return found


def usable_rows(packings: list[Spared], most: Floats, intervals: Mapping[str, Row]) -> Rows:
    """The rows under intervals of servers (by the names of `branch.Unit`) and at most `most` [H] of each hardware."""
    rows: Rows = {}
    for packing in packings:
        bought = intervals.get(f"servers {packing.hardware}", (None, (0.0, math.inf)))[1]
        low, aside = intervals.get(f"set aside {packing.packing}", (None, (0.0, math.inf)))[1]
        high = min(float(most[packing.hardware]), bought[1], aside)
        if math.isfinite(high):
            name, row = packing.row(min(low, high), high)
            rows[name] = row
            names = {work: packing.slots_of(work) for work in packing.works}
            held = {work: intervals[name][1] for work, name in names.items() if name in intervals}
            if held:
                name, members, bound = packing.spare_row(packing.usable(high), held)
                rows[name] = (members, (-math.inf, bound))
    return rows
