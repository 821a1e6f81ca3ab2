"""Instances of the solver benchmark: drawn at random from fixed seeds, or cut from a problem file.

Rates of measured pools come from a roofline of random parts: prompts at their FLOP/s, tokens at their
bandwidth, batches from their memory and the TPOT target.  The parts are invented; only their spread is that
of the catalogue.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.build import build_candidates
from codesign.candidates.data import ColumnBlock, FleetData, Flow, Group, Hardware, Offer, Packing, RowUse, SideLimit
from codesign.optimize.relaxation import relax
from codesign.problem import Problem, load_problem, resolve

Floats = NDArray[np.float64]

FULL_FLEET_USD_PER_HOUR = 2325.0
"""What problems/agent-fleet.yaml costs as it stands, about: the fleets are fractions of it."""

_TPOT_S = 0.04
_EFFICIENCY = 0.5
_EIGHT_SERVERS_W = 120e3
"""At the meter, of 8 accelerators each."""
_PROMPT_TOKENS = (32.0, 65536.0)
_OUTPUT_TOKENS = (16.0, 2048.0)


# ---- measured pools: offers × classes ----------------------------------------------------------------------


@dataclass(frozen=True)
class Pools:
    """Offers of whole replicas and the classes of requests that they serve."""

    usd_per_hour: Floats
    """[G] of a replica."""
    demand_per_s: Floats
    """[C] requests per second."""
    rate_per_s: Floats
    """[G, C] of a replica that serves one class alone; 0 where it cannot."""

    def description(self, gap: float, seconds: float, threads: int) -> dict[str, Any]:
        """The same as the data of a problem file."""
        classes = [f"class{c}" for c in range(len(self.demand_per_s))]
        tasks = [
            {"name": name, "rate": f"{rate!r}/s"}
            for name, rate in zip(classes, self.demand_per_s.tolist(), strict=True)
        ]
        pools = [
            {
                "name": f"offer{g}",
                "accelerator": f"part{g}",
                "cost": f"{price!r} $/h",
                "max_rate": {n: f"{r!r}/s" for n, r in zip(classes, rates, strict=True) if r > 0},
            }
            for g, (price, rates) in enumerate(zip(self.usd_per_hour.tolist(), self.rate_per_s.tolist(), strict=True))
        ]
        options = {"gap": gap, "time_limit": f"{seconds} s", "threads": threads}
        return {"name": "pools", "tasks": tasks, "measured_pools": pools, "options": options}

    def problem(self, gap: float, seconds: float, threads: int) -> Problem:
        """The same as a problem."""
        return Problem.from_dict(self.description(gap, seconds, threads))


def random_pools(offers: int, classes: int, seed: int) -> Pools:
    """Offers of 1 to 8 random parts that serve one model, and buckets of (prompt, output) lengths."""
    rng = np.random.default_rng([seed, offers, classes])
    parameters = rng.choice([8e9, 14e9, 32e9, 70e9])  # one byte each
    kv_bytes_per_token = 65e3 * math.sqrt(parameters / 8e9)
    bandwidth = 10 ** rng.uniform(11.5, 12.9, offers)
    flops = bandwidth * rng.uniform(150, 400, offers)
    memory = bandwidth * rng.uniform(0.02, 0.05, offers) * (bandwidth / 1e12) ** -0.25
    price = (bandwidth / 1e12) ** 0.85 * rng.uniform(0.75, 1.35, offers)
    parts = np.minimum(2.0 ** np.ceil(np.log2(np.maximum(parameters / (0.6 * memory), 1.0))), 8.0)
    parts = np.minimum(parts * rng.choice([1.0, 1.0, 2.0], offers), 8.0)
    parts[0], memory[0] = 8.0, max(memory[0], 64e9)  # one offer that serves every class
    bandwidth[0] = max(bandwidth[0], 2e12)
    together = parts**0.93
    rows = math.ceil(math.sqrt(classes))
    prompt, output = np.meshgrid(
        np.geomspace(*_PROMPT_TOKENS, rows), np.geomspace(*_OUTPUT_TOKENS, math.ceil(classes / rows))
    )
    prompt, output = prompt.ravel()[:classes], output.ravel()[:classes]
    resident = kv_bytes_per_token * (prompt + output / 2)
    stream = (0.8 * bandwidth * together)[:, None]
    room = (0.9 * memory * parts - parameters)[:, None]
    batch = np.floor(np.minimum(room, _TPOT_S * stream - parameters) / resident[None, :])
    batch = np.clip(batch, 0.0, 256.0)
    with np.errstate(divide="ignore"):
        decode = output * (parameters + batch * resident) / stream / batch
    prefill = 2 * parameters * prompt[None, :] / (_EFFICIENCY * flops * together)[:, None]
    noise = np.exp(rng.normal(0.0, 0.06, (offers, classes)))
    rate = np.where(batch >= 1, noise / (decode + prefill), 0.0)
    price = price * parts
    share = rng.dirichlet(np.full(classes, 0.6)) + 1e-4
    alone = np.min(
        np.where(rate > 0, price[:, None] / np.where(rate > 0, rate, 1.0), np.inf), axis=0
    )  # $/h per request/s
    spend = 10 ** rng.uniform(1.3, 2.5)
    return Pools(price, share * spend / float(share @ alone), rate)


# ---- many columns ------------------------------------------------------------------------------------------


def synthetic_fleet(
    columns: int, classes: int, hardware: int = 40, levels: int = 4, seed: int = 0, accelerators: float = 200.0
) -> FleetData:
    """Columns on servers of 8 with rows of time and memory; within a part none is the better in every class.

    Configurations stand at `levels` operating points each, where longer steps save time and take memory.  What a
    configuration gains in one class it loses in others, and what it gains in time it pays in memory: so dominance
    removes none, and each differs from the next by far more than a grid step.  All classes ask for the work of about
    `accelerators` of speed 1; inventories and power grow with them.
    """
    rng = np.random.default_rng([seed, classes, hardware])
    speed = rng.lognormal(0.0, 0.6, hardware)
    price = 2.5 * speed**0.9 * rng.uniform(0.8, 1.25, hardware)
    work = accelerators / classes * rng.lognormal(0.0, 0.7, classes)  # accelerators of speed 1 for all of a class
    seconds = work / speed[:, None] * rng.lognormal(0.0, 0.25, (hardware, classes))
    filled = seconds * rng.uniform(0.5, 1.1, (hardware, classes))
    count = math.ceil(columns / levels)
    source = np.arange(columns) % count
    owner = np.arange(count) % hardware
    size = 2.0 ** rng.integers(0, 4, count)
    shape = rng.integers(0, 4, count)
    fixed, stepped = np.zeros((count, 2, classes)), np.zeros((count, 2, classes))
    for part in np.array_split(np.arange(count), max(1, count * classes // 4_000_000)):
        lean = rng.normal(0.0, 0.2, (len(part), classes))
        lean -= lean.mean(axis=1, keepdims=True)
        time_row = seconds[owner[part]] * np.exp(lean) / size[part, None] ** 0.95
        memory_row = filled[owner[part]] * np.exp(-0.6 * lean) / size[part, None] ** 1.05
        fixed[part, 0], stepped[part, 0] = 0.7 * time_row, 0.3 * time_row
        fixed[part, 1], stepped[part, 1] = 0.4 * memory_row, 0.6 * memory_row
    kinds, group = np.unique(np.stack([owner, size.astype(np.int64), shape]), axis=1, return_inverse=True)
    block = ColumnBlock(
        flows=np.arange(classes),
        row_names=("time", "memory"),
        use=RowUse(
            fixed, stepped, np.array([-1.0, 1.0]), source, np.geomspace(0.5, 2.0, levels)[np.arange(columns) // count]
        ),
        limit=np.ones((columns, 2)),
        admissible=np.ones((columns, classes), dtype=bool),
        flow_power_w=np.zeros((count, classes)),
        replica_power_w=np.zeros(columns),
        packing=owner[source].astype(np.int64),
        packed=np.asarray(size[source], dtype=np.float64),
        group=group.ravel()[source].astype(np.int64),
        min_replicas=np.ones(columns, dtype=np.int64),
    )
    peak = 700.0 * speed**0.7
    flows = tuple(Flow(f"class{c}", c, True, 1.0, None, 0) for c in range(classes))
    size_of = accelerators / 200.0
    limits = [SideLimit(f"inventory {h}", "accelerators", 64.0 * size_of, {h: 8.0}) for h in range(hardware)]
    limits.append(SideLimit("power", "W", 200e3 * size_of, {h: 8.0 * float(peak[h]) for h in range(hardware)}))
    return FleetData(
        tasks=tuple(flow.name for flow in flows),
        demand=np.ones(classes),
        calls_bound=np.ones(classes),
        flows=flows,
        commodities=(),
        blocks=(block,),
        offers=tuple(Offer(f"rent{h}", h, 8.0 * float(price[h]), 0.0, 0) for h in range(hardware)),
        hardware=tuple(Hardware(f"part{h}", 8, 8.0 * float(peak[h]), 0.0, None, 0) for h in range(hardware)),
        packings=tuple(Packing(h, 8) for h in range(hardware)),
        groups=tuple(Group(f"part{h}/{s}/{i}", int(h), max(1, 8 // int(s))) for h, s, i in kinds.T.tolist()),
        limits=tuple(limits),
        usd_weight=1.0,
        watt_weight=0.0,
        pue=1.25,
    )


def slices(data: FleetData, counts: list[int], seed: int, seconds: float = 60.0) -> dict[int, FleetData]:
    """Nested slices of a fleet's columns: those that the relaxation of the whole uses, and random others.

    The first make every slice solvable.  Counts below theirs or above `data.columns` are left out.
    """
    needed = np.array(sorted(_support(data, seconds)), dtype=np.int64)
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(data.columns), needed))
    found = {}
    for count in counts:
        if len(needed) <= count <= data.columns:
            kept = np.zeros(data.columns, dtype=bool)
            kept[np.concatenate([needed, others[: count - len(needed)]])] = True
            found[count] = data.keep(kept)
    return found


def _support(data: FleetData, seconds: float) -> set[int]:
    found = relax(data, time.monotonic() + seconds)
    tight = [k for k in found.columns if found.reduced_cost[k] <= 1e-6]
    return set(tight or found.columns)


# ---- fleets of one shape at several sizes ------------------------------------------------------------------


VARIANTS = ("plain", "servers", "redundant")
"""Accelerators bought one by one; in whole servers; in servers, n+1 and at most 6 designs."""


def scaled(problem: Problem, factor: float, variant: str) -> Problem:
    """The problem with rates and limits times `factor`, and room for eight servers on top.

    Rounding down would leave a small fleet without racks: inventories keep two servers of each part, power and
    racks what eight servers draw.  With redundancy limits double first, since small fleets spare as much as they
    run.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: one of {', '.join(VARIANTS)}")
    instance = resolve(problem)
    room = factor * (2.0 if variant == "redundant" else 1.0)
    changes: dict[str, Any] = {f"tasks.{task.name}.rate": f"{task.rate_per_s * factor!r}/s" for task in instance.tasks}
    size = {option.name: option.server_accelerators for option in instance.hardware}
    for name, count in problem.limits.inventory.items():
        server = size.get(name, 8)
        changes[f"limits.inventory.{name}"] = max(2, math.ceil(count * room / server)) * server
    if problem.site.power is not None:
        changes["site.power"] = f"{problem.site.power * room + _EIGHT_SERVERS_W!r} W"
    for name, rack in problem.site.racks.items():
        changes[f"site.racks.{name}.count"] = math.ceil(rack.count * room) + 8
    budget = problem.limits.budget
    if budget.cost_per_hour is not None:
        changes["limits.budget.cost_per_hour"] = f"{budget.cost_per_hour * room + 300.0!r} $/h"
    if budget.capital is not None:
        changes["limits.budget.capital"] = f"{budget.capital * room!r} $"
    for name, hardware in problem.hardware.items():
        for label, offer in (hardware.offers or {}).items():
            if offer.min is not None:
                changes[f"hardware.{name}.offers.{label}.min"] = max(1, round(offer.min * factor))
        if variant == "plain":
            changes[f"hardware.{name}.server.accelerators"] = 1
    if variant == "redundant":
        changes["redundancy.survive"] = "one-server"
        changes["limits.max_designs"] = 6
    return problem.replace(changes)


def scaled_file(path: Path, factor: float, variant: str) -> Problem:
    """The same from a problem file: what another process is told, since problems are not pickled."""
    return scaled(load_problem(path), factor, variant)


def data_of(problem: Problem) -> FleetData:
    """The optimiser's numbers of a problem."""
    return build_candidates(resolve(problem)).data
