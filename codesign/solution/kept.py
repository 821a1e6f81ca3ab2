"""Where a plan keeps the KV of sessions between calls: by route, and by memory tier."""

from __future__ import annotations

import math

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.flows import CallFlow
from codesign.candidates.kept import flow_traffic
from codesign.optimize.fleet import FleetPlan
from codesign.solution.promises import Way
from codesign.solution.schema import KvUse, MemoryUse


def kv_use(candidates: Candidates, flow: CallFlow, calls_per_s: float) -> KvUse:
    """What the sessions of a commodity hold and move between calls at a rate."""
    one = flow_traffic(candidates.instance, flow)
    return KvUse(
        ttl_s=flow.calls.ttl_s,
        hit_ratio=one.hit_ratio,
        kept_bytes=calls_per_s * one.parked,
        reloaded_bytes_per_s=calls_per_s * one.reload,
        sent_bytes_per_s=0.0 if flow.phase == "colocated" else calls_per_s * one.sent,
        returned_bytes_per_s=calls_per_s * one.returned,
    )


def attached_modules(candidates: Candidates, plan: FleetPlan) -> dict[int, float]:
    """Modules of servers set aside for replicas that have them attached, by module."""
    data = candidates.data
    slots: dict[int, float] = {}
    spares = dict(plan.spares)
    for column, replicas in plan.replicas.items():
        block, i = data.locate([column])[0]
        part = data.blocks[block]
        count = replicas + spares.pop(int(part.group[i]), 0)
        for _, packing, packed in part.take(np.array([i])).places():
            slots[int(packing[0])] = slots.get(int(packing[0]), 0.0) + count * float(packed[0])
    found: dict[int, float] = {}
    for p, taken in slots.items():
        servers = math.ceil(taken / data.packings[p].slots - 1e-9)
        for m, each in data.packings[p].modules.items():
            found[m] = found.get(m, 0.0) + servers * each
    return found


def memory_uses(candidates: Candidates, plan: FleetPlan, routes: list[Way]) -> list[MemoryUse]:
    """Every tier that the plan buys or uses."""
    instance, data = candidates.instance, candidates.data
    servers: dict[str, int] = {}
    for o, count in plan.servers.items():
        for row in data.offers[o].supplies:
            name = data.hardware[row].name
            servers[name] = servers.get(name, 0) + count
    attached = attached_modules(candidates, plan)
    found = []
    for m, tier in enumerate(instance.memory):
        used = read = written = 0.0
        for way in routes:
            if way.flow.tier is not None and way.flow.tier.name == tier.name:
                kept = flow_traffic(instance, way.flow)
                used += way.calls_per_s * kept.parked
                read += way.calls_per_s * kept.reload * (1.0 if way.flow.phase == "colocated" else 2.0)
                written += way.calls_per_s * kept.returned
        bought = plan.modules.get(m, 0)
        if not bought and not used and m not in attached:
            continue
        included = tier.included_bytes_per_server * sum(servers.get(name, 0) for name in tier.hardware)
        modules = bought + included / tier.module_bytes
        shared = modules - attached.get(m, 0.0)
        reads, writes = read / tier.read_bytes_per_s, written / tier.write_bytes_per_s
        busy = max(reads, writes) if tier.duplex else reads + writes
        found.append(
            MemoryUse(
                tier=tier.name,
                modules=bought,
                attached_modules=attached.get(m, 0.0),
                capacity_bytes=modules * tier.module_bytes,
                used_bytes=used,
                read_bytes_per_s=read,
                written_bytes_per_s=written,
                bandwidth_utilization=busy / shared if shared > 1e-9 * modules else None,
            )
        )
    return found
