"""How many servers, modules and servers set aside a plan can have a use for: the M of rows that have one.

A plan is *lean* where nothing bought can be left out.  Some optimum is lean, since nothing has a price below zero; so
rows may cut off plans that are not.  In a lean plan a server holds replicas or spares, is the least that its offer
sells, or is what keeps a limit that it widens: servers kept by a limit on churn, memory that stands in servers.  What
such a limit can ask for is bounded by all that can be charged to it, item by item to a fixed point.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.data import FleetData, Floats, SideLimit
from codesign.optimize.duals import full_replicas

_ROUNDS = 12
"""Limits that widen one another further than this grow without end."""
_ROUNDING = 1e-9
_ENDLESS = 1e15
"""A count that bounds nothing: more than a fleet can have, and than double precision counts one by one."""


@dataclass(frozen=True)
class Most:
    """Counts that no lean plan exceeds; inf where items widen one another's limits without end."""

    servers: Floats
    """[O]."""
    set_aside: Floats
    """[P]."""
    modules: Floats
    """[N]."""
    demanded: Floats
    """[G] replicas of each group that limits demand beyond what serves the calls."""


@dataclass(frozen=True)
class Run:
    """What all replicas that a lean plan may run take."""

    replicas: Mapping[int, float]
    """By group, spares included."""
    slots: Mapping[int, float]
    """Whole servers that they fill, by packing."""
    watts: Mapping[int, float]
    """Mean IT power by hardware, flows included."""


def most_counts(data: FleetData, run: Callable[[Floats], Run]) -> Most:
    """What lean plans have at the most; `run` says what replicas take where limits demand so many more [G]."""
    found = Most(*(np.zeros(len(items)) for items in (data.offers, data.packings, data.modules, data.groups)))
    widened = [limit for limit in data.limits if widens(limit)]
    closed = [limit for limit in data.limits if not widens(limit)]
    before = found
    for _ in range(_ROUNDS):
        following = _next(data, found, run(found.demanded), widened, closed)
        if all(np.array_equal(getattr(found, f.name), getattr(following, f.name)) for f in fields(Most)):
            return found
        before, found = found, following
    return Most(*(_endless(getattr(before, f.name), getattr(found, f.name)) for f in fields(Most)))


def most_of_all(data: FleetData) -> Most:
    """What lean plans have at the most of anything, over all columns."""
    columns = np.arange(data.columns, dtype=np.int64)

    def gather(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(block, name) for block in data.blocks] or [np.zeros(0, dtype=np.int64)])

    group, packing, power = gather("group"), gather("packing"), gather("replica_power_w")
    lost = np.array([g.replicas_lost_with_server for g in data.groups], dtype=np.float64)
    hardware = np.array([p.hardware for p in data.packings], dtype=np.int64)
    slots = np.array([p.slots for p in data.packings], dtype=np.float64)
    served = np.ceil(full_replicas(data, columns)) + np.maximum(1, gather("min_replicas"))
    spare = lost[group] if data.survive_one_server else np.zeros(len(group))
    calls_w = _most_call_watts(data)

    def run(demanded: Floats) -> Run:
        most = served + spare + demanded[group]
        aside = np.zeros(len(data.packings))
        for first, block in zip(data.offsets.tolist(), data.blocks, strict=False):
            for rows, places, taken in block.places():
                each = np.ceil(most[first + rows] * taken / slots[places])
                np.add.at(aside, places, np.maximum(each, np.where(spare[first + rows] > 0, 2.0, 0.0)))
        drawn = np.where(power > 0, most, 0.0) * power  # of what draws nothing, any number draws nothing
        watts = np.bincount(hardware[packing], drawn, len(data.hardware)) + calls_w
        replicas = np.bincount(group, most, len(data.groups))
        return Run(*(dict(enumerate(each.tolist())) for each in (replicas, aside, watts)))

    return most_counts(data, run)


def _most_call_watts(data: FleetData) -> Floats:
    """[H] watts if every column of a row of hardware carried all calls that it may carry."""
    found = np.zeros(len(data.hardware))
    for block in data.blocks:
        drawn = (block.flow_power(slice(None)) * block.admissible) @ data.calls_bound[block.flows]
        np.add.at(found, [data.packings[p].hardware for p in block.packing.tolist()], drawn)
    return found


def _endless(before: Floats, after: Floats) -> Floats:
    return np.where(after > before, np.inf, after)


def widens(limit: SideLimit) -> bool:
    """Does something that is bought or run widen this limit?"""
    kinds = ("per_server", "per_packing", "per_group", "per_watt", "per_module", "per_flow")
    return any(c < 0 for kind in kinds for c in getattr(limit, kind).values())


def _charged(data: FleetData, limit: SideLimit, run: Run) -> float:
    """The most that replicas, their power and calls charge to a limit."""
    total = sum(c * run.replicas.get(g, 0.0) for g, c in limit.per_group.items() if c > 0)
    total += sum(c * run.watts.get(h, 0.0) for h, c in limit.per_watt.items() if c > 0)
    dearest: dict[tuple[int, bool], float] = defaultdict(float)
    for (f, _), c in limit.per_flow.items():
        flow = data.flows[f]  # the flows of a task share its calls: the dearest of each phase bounds them all
        key = flow.task, flow.serves
        dearest[key] = max(dearest[key], c * float(data.calls_bound[f]))
    return float(total + sum(dearest.values()))


def _next(data: FleetData, now: Most, run: Run, widened: list[SideLimit], closed: list[SideLimit]) -> Most:
    """One more round: what each widened limit can ask for under the counts known so far."""
    held = {"per_server": now.servers, "per_packing": now.set_aside, "per_module": now.modules}
    asked = {kind: np.zeros(len(counts)) for kind, counts in (*held.items(), ("per_group", now.demanded))}
    for limit in widened:
        load = _charged(data, limit, run) - limit.limit
        for kind, counts in held.items():
            load += sum(c * counts[i] for i, c in getattr(limit, kind).items() if c > 0)
        if load <= 0:
            continue
        for kind, need in asked.items():
            for i, c in getattr(limit, kind).items():
                if c < 0:
                    count = load / -c
                    whole = kind != "per_module" or data.modules[i].whole
                    need[i] += math.ceil(count - _ROUNDING) if whole and count < _ENDLESS else count
    set_aside = asked["per_packing"]
    for p, count in run.slots.items():
        set_aside[p] += count
    servers = asked["per_server"]
    for o, offer in enumerate(data.offers):
        rows = [[p for p, item in enumerate(data.packings) if item.hardware == h] for h in offer.supplies]
        servers[o] += max((float(set_aside[members].sum()) for members in rows), default=0.0)
        servers[o] = max(servers[o], offer.min_servers)
    for limit in closed:
        for kind in held:
            for i, c in getattr(limit, kind).items():
                if c > 0 and limit.limit >= 0:
                    most = limit.limit / c * (1 + _ROUNDING)
                    whole = kind != "per_module" or data.modules[i].whole
                    asked[kind][i] = min(asked[kind][i], math.floor(most + _ROUNDING) if whole else most)
    found = (servers, set_aside, asked["per_module"], asked["per_group"])
    return Most(*(np.where(counts < _ENDLESS, counts, np.inf) for counts in found))
