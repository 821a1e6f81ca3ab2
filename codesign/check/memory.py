"""Conservation of KV between calls: what prompts find cached was kept, held and moved by somebody.

For each route the bytes that its sessions keep, reload, send and return are recomputed from its policy; for
each memory tier their sums stay within the modules that were bought and the servers that hold them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codesign.check.plan import ModelledRoute, Plan
from codesign.check.purchase import Basket, servers_by_modules
from codesign.check.report import Findings
from codesign.check.traffic import moved
from codesign.performance import kv_transfer_bytes
from codesign.problem.instance import MemoryOption
from codesign.solution.schema import MemoryUse


@dataclass
class _Load:
    """What routes ask of one tier."""

    kept: float = 0.0
    """Bytes."""
    read: float = 0.0
    """Bytes per second."""
    written: float = 0.0


def check_memory(plan: Plan, basket: Basket, findings: Findings) -> None:
    """Every route's KV is accounted for, and every tier carries what is put into it."""
    loads = {tier.name: _Load() for tier in plan.instance.memory}
    for route in plan.routes:
        _check_route(route, findings)
        if route.tier is not None:
            _add(loads[route.tier.name], route)
    reported = {entry.tier: entry for entry in plan.solution.memory}
    for name in reported.keys() - loads.keys():
        findings.fail(f"memory {name}: a tier of the problem", ", ".join(loads) or "none", name)
    for tier in plan.instance.memory:
        _check_tier(plan, basket, tier, loads[tier.name], reported.get(tier.name), findings)


def kept_bytes(route: ModelledRoute) -> float:
    """Mean bytes of one copy that a route's sessions keep between calls, beside the prefix that all share."""
    calls = route.calls
    if calls.policy == "drop":
        return 0.0
    points, table = calls.population, route.prefill.table
    end = kv_transfer_bytes(table, points.context + points.output)[0]
    common = kv_transfer_bytes(table, np.minimum(calls.shared, points.context))[0]
    return calls.rate * calls.held_s * float(points.weight @ np.maximum(end - common, 0.0))


def _check_route(route: ModelledRoute, findings: Findings) -> None:
    """The figures of the route's `kv`, each from what its policy keeps."""
    name, entry = f"route {route.name}: kv", route.entry.kv
    if entry is None:
        findings.fail(f"{name}: what it keeps and moves", "given", None)
        return
    calls, prompts = route.calls, route.calls.prompts()
    bytes_ = moved(route, prompts)
    hit = prompts.mean(prompts.cached) / prompts.mean(prompts.context)
    for word, found, expected in (
        ("hit_ratio", entry.hit_ratio, hit),
        ("kept_bytes", entry.kept_bytes, kept_bytes(route)),
        ("reloaded_bytes_per_s", entry.reloaded_bytes_per_s, calls.rate * prompts.mean(bytes_.reload)),
        ("sent_bytes_per_s", entry.sent_bytes_per_s, calls.rate * prompts.mean(bytes_.send)),
        ("returned_bytes_per_s", entry.returned_bytes_per_s, calls.rate * prompts.mean(bytes_.returned)),
    ):
        if not abs(found - expected) <= 1e-6 * abs(expected) + 1e-9:
            findings.fail(f"{name}.{word}: what its policy keeps and moves", expected, found)


def _add(load: _Load, route: ModelledRoute) -> None:
    calls, prompts = route.calls, route.calls.prompts()
    bytes_ = moved(route, prompts)
    load.kept += kept_bytes(route)
    load.read += calls.rate * prompts.mean(bytes_.reload + bytes_.fetch)
    load.written += calls.rate * prompts.mean(bytes_.returned)


def _check_tier(
    plan: Plan, basket: Basket, tier: MemoryOption, load: _Load, entry: MemoryUse | None, findings: Findings
) -> None:
    name = f"memory {tier.name}"
    bought = basket.memory[tier.name].count
    servers = sum(basket.hardware[option].count for option in tier.hardware)
    modules = bought + servers * tier.included_bytes_per_server / tier.module_bytes
    capacity = modules * tier.module_bytes
    attached = attached_modules(plan, tier)
    shared = modules - attached
    reads, writes = load.read / tier.read_bytes_per_s, load.written / tier.write_bytes_per_s
    busy = max(reads, writes) if tier.duplex else reads + writes
    planned = f"of the {tier.fill:.0%} that may be planned"
    findings.at_most(f"{name}: modules attached to accelerators", attached, modules)
    findings.at_most(f"{name}: bytes kept, {planned}", load.kept, tier.fill * max(shared, 0.0) * tier.module_bytes)
    findings.at_most(f"{name}: modules' worth of bandwidth, {planned}", busy, tier.fill * max(shared, 0.0))
    if tier.max_bytes_per_server is not None:
        free = tier.max_bytes_per_server - tier.included_bytes_per_server
        places = servers * math.floor(free / tier.module_bytes + 1e-9)
        findings.at_most(f"{name}: modules in the servers bought", bought, places)
    if tier.max_modules is not None:
        findings.at_most(f"{name}: max_modules", bought, tier.max_modules)
    if entry is None:
        if bought or load.kept or attached:
            findings.fail(f"{name}: reported", "an entry under memory", None)
        return
    findings.equal(f"{name}: modules as bought", entry.modules, bought)
    findings.equal(f"{name}: attached_modules", entry.attached_modules, attached)
    findings.equal(f"{name}: capacity_bytes", entry.capacity_bytes, capacity)
    findings.equal(f"{name}: used_bytes", entry.used_bytes, load.kept)
    findings.equal(f"{name}: read_bytes_per_s", entry.read_bytes_per_s, load.read)
    findings.equal(f"{name}: written_bytes_per_s", entry.written_bytes_per_s, load.written)
    if shared > 1e-9 * modules:
        findings.equal(f"{name}: bandwidth_utilization", entry.bandwidth_utilization, busy / shared)


def attached_modules(plan: Plan, tier: MemoryOption) -> float:
    """Modules of a tier that accelerators have to themselves: those of all slots of the servers set aside for them.

    Offers that differ in paying for electricity are servers of their own.
    """
    found = 0.0
    for option in plan.instance.hardware:
        for kind in (None, True, False):
            pools = [pool for pool in plan.modelled.values() if pool.entry.pays_electricity is kind]
            for (name, modules), servers in servers_by_modules(option, pools).items():
                if name == tier.name:
                    found += servers * modules * option.server_accelerators
    return found
