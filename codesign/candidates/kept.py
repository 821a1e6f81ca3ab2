"""What the KV of sessions between calls takes of memory tiers: bytes parked, read and written (DESIGN 3.5).

A tier holds one copy of each session, whatever the parallelism of the replicas that use it.  The prefix that
all sessions share stays with the replicas.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import Packing, SideLimit
from codesign.candidates.flows import CallFlow
from codesign.candidates.lengths import TaskCalls
from codesign.catalog import ModelCard
from codesign.problem.instance import Instance, MemoryOption
from codesign.workload.kvcache import kv_bytes


@dataclass(frozen=True)
class TierUse:
    """What one call of a phase does to a tier."""

    parked: float
    """Byte·seconds."""
    read: float
    """Bytes."""
    written: float


@dataclass(frozen=True)
class KeptTraffic:
    """What the KV of one call holds and moves between calls, in bytes of one copy."""

    hit_ratio: float
    """Cached tokens over prompt tokens, shared prefixes included."""
    parked: float
    """Byte·seconds until the next call or the end of the time-to-live."""
    reload: float
    """E[bytes] of the kept history, read once by each side of the call that does not keep it."""
    sent: float
    """E[bytes] from the prompt's side to the decode side."""
    returned: float
    """E[bytes] of new KV that go back to where the session is kept."""

    def of_phase(self, phase: str) -> TierUse:
        """The prompt's side parks and reads, the side that ends the call reads for itself and writes."""
        if phase == "prefill":
            return TierUse(self.parked, self.reload, 0.0)
        if phase == "decode":
            return TierUse(0.0, self.reload, self.returned)
        return TierUse(self.parked, self.reload, self.returned)


def kept_traffic(calls: TaskCalls, card: ModelCard, kv: str, residency: str) -> KeptTraffic:
    """Bytes of a task variant's calls under a residency policy, in one KV format."""
    points = calls.population
    kept = 0.0 if residency == "drop" else calls.kept
    elsewhere = residency == "decode" or residency.startswith("tier:")
    shared = np.minimum(calls.shared, points.context - 1.0)
    own = np.maximum(np.minimum(points.reusable, points.context - 1.0), shared)
    mean_cached = float(points.weight @ (kept * own + (1.0 - kept) * shared))

    def size(tokens: np.ndarray) -> np.ndarray:
        return kv_bytes(card, tokens, kv)

    def mean(of_hits: np.ndarray, of_misses: np.ndarray) -> float:
        hits, misses = np.maximum(of_hits, 0.0), np.maximum(of_misses, 0.0)
        return float(points.weight @ (kept * hits + (1.0 - kept) * misses))

    common = size(np.minimum(calls.shared, points.context))
    whole, end = size(points.context), size(points.context + points.output)
    hit, miss = size(own), size(shared)
    returned = 0.0
    if residency == "prefill":
        returned = mean(end - whole, end - whole)
    elif residency.startswith("tier:"):
        returned = mean(end - hit, end - miss)
    return KeptTraffic(
        hit_ratio=mean_cached / float(points.mean(points.context)),
        parked=0.0 if residency == "drop" else calls.held_s * mean(end - common, end - common),
        reload=mean(hit - common, miss - common) if elsewhere else 0.0,
        sent=mean(whole - hit, whole - miss) if elsewhere else mean(whole - common, whole - common),
        returned=returned,
    )


def flow_traffic(instance: Instance, flow: CallFlow) -> KeptTraffic:
    """What one call of a flow's commodity holds and moves between calls."""
    return kept_traffic(flow.calls, instance.models[flow.model].card, flow.kv, flow.residency)


def tier_limits(
    instance: Instance,
    flows: tuple[CallFlow, ...],
    offers: dict[str, list[int]],
    packings: tuple[Packing, ...] = (),
) -> list[SideLimit]:
    """Rows of every tier: capacity, bandwidth, places in servers, modules to be had.

    `offers` are the positions of the offers of each hardware option; modules are numbered as in
    `instance.memory`. Those of servers set aside for replicas that have them attached serve nothing else.
    """
    limits: list[SideLimit] = []
    for m, tier in enumerate(instance.memory):
        uses = {
            f: flow_traffic(instance, flow).of_phase(flow.phase)
            for f, flow in enumerate(flows)
            if flow.tier is not None and flow.tier.name == tier.name
        }
        # Servers of a tier's hardware that an offer brings: a unit may bring several.
        servers = Counter(o for name in tier.hardware for o in offers.get(name, ()))
        included = {o: n * tier.included_bytes_per_server / tier.module_bytes for o, n in servers.items()}
        attached = {p: packing.modules[m] for p, packing in enumerate(packings) if m in packing.modules}
        limits += _rows(m, tier, uses, included, attached)
        if tier.max_bytes_per_server is not None:
            places = (tier.max_bytes_per_server - tier.included_bytes_per_server) / tier.module_bytes
            limits.append(
                SideLimit(
                    f"memory.{tier.name}.max_per_server",
                    "modules",
                    0.0,
                    per_server={o: -n * float(np.floor(places + 1e-9)) for o, n in servers.items()},
                    per_module={m: 1.0},
                )
            )
        if tier.max_modules is not None:
            limits.append(
                SideLimit(
                    f"memory.{tier.name}.max_modules", "modules", float(tier.max_modules), per_module={m: 1.0}
                )
            )
    return limits


def _rows(
    m: int,
    tier: MemoryOption,
    uses: dict[int, TierUse],
    included: dict[int, float],
    attached: dict[int, float],
) -> list[SideLimit]:
    """Use of the flows ≤ the planned share of what modules bought and included offer, less those `attached`."""
    read = {f: use.read for f, use in uses.items()}
    written = {f: use.written for f, use in uses.items()}
    both = {f: read[f] + written[f] * tier.read_bytes_per_s / tier.write_bytes_per_s for f in uses}
    rows = [("capacity", "B", {f: use.parked for f, use in uses.items()}, tier.module_bytes)]
    if tier.duplex:
        rows.append(("read_bandwidth", "B/s", read, tier.read_bytes_per_s))
        rows.append(("write_bandwidth", "B/s", written, tier.write_bytes_per_s))
    else:
        rows.append(("bandwidth", "B/s", both, tier.read_bytes_per_s))
    return [
        SideLimit(
            f"memory.{tier.name}.{word}",
            unit,
            0.0,
            per_server={o: -tier.fill * each * modules for o, modules in included.items() if modules},
            per_packing={p: tier.fill * each * modules for p, modules in attached.items()},
            per_module={m: -tier.fill * each},
            per_flow={(f, -1): use for f, use in flow.items() if use},
        )
        for word, unit, flow, each in rows
    ]
