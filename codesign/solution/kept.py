"""Where a plan keeps the KV of sessions between calls: by route, and by memory tier."""

from __future__ import annotations

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


def memory_uses(candidates: Candidates, plan: FleetPlan, routes: list[Way]) -> list[MemoryUse]:
    """Every tier that the plan buys or uses."""
    instance, data = candidates.instance, candidates.data
    servers: dict[str, int] = {}
    for o, count in plan.servers.items():
        for row in data.offers[o].supplies:
            name = data.hardware[row].name
            servers[name] = servers.get(name, 0) + count
    found = []
    for m, tier in enumerate(instance.memory):
        used = read = written = 0.0
        for way in routes:
            if way.flow.tier is tier:
                kept = flow_traffic(instance, way.flow)
                used += way.calls_per_s * kept.parked
                read += way.calls_per_s * kept.reload * (1.0 if way.flow.phase == "colocated" else 2.0)
                written += way.calls_per_s * kept.returned
        bought = plan.modules.get(m, 0)
        if not bought and not used:
            continue
        included = tier.included_bytes_per_server * sum(servers.get(name, 0) for name in tier.hardware)
        modules = bought + included / tier.module_bytes
        reads, writes = read / tier.read_bytes_per_s, written / tier.write_bytes_per_s
        busy = max(reads, writes) if tier.duplex else reads + writes
        found.append(
            MemoryUse(
                tier=tier.name,
                modules=bought,
                capacity_bytes=modules * tier.module_bytes,
                used_bytes=used,
                read_bytes_per_s=read,
                written_bytes_per_s=written,
                bandwidth_utilization=busy / modules if modules else None,
            )
        )
    return found
