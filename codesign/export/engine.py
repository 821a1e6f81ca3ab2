"""What an engine has to be told of a pool, gathered from the plan and its problem; no engine's words yet."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from codesign.candidates.configurations import engines as engine_profiles
from codesign.catalog import Accelerator
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    EngineMemory,
    kv_capacity_bytes,
    memory_share,
    rank_sequences,
    step_tokens,
    workspace_bytes,
)
from codesign.problem.instance import Instance, Model
from codesign.solution import Parallelism, Pool, Precision, Route, Solution
from codesign.solution.labels import stage_of


@dataclass(frozen=True)
class Engine:
    """A serving engine in the release that exports are written for."""

    name: str
    version: str
    date: str
    source: str
    images: dict[str, str]
    """By vendor of the accelerator; a vendor that is missing is one that the engine does not run on."""


@cache
def engines() -> dict[str, Engine]:
    """Engines by name."""
    return {name: Engine(name, **entry) for name, entry in _exported()["engines"].items()}


@cache
def _exported() -> dict[str, Any]:
    text = files("codesign.export").joinpath("data/engines.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True)
class Worker:
    """One pool as a deployment: `replicas` engines of `accelerators` each, spares included."""

    pool: str
    slug: str
    """The name as Kubernetes takes it, unique in the plan."""
    role: Literal["prefill", "decode", "colocated"]
    period: str
    model: str
    """Repository on the Hugging Face hub, or the card's id where it has none."""
    served_name: str
    vendor: str
    accelerator: str
    accelerators: int
    """Of one replica."""
    replicas: int
    tp: int
    pp: int
    dp: int
    ep: int
    weights: str
    kv: str
    native: str
    """Format of the weights as released: what differs is quantized at load, or needs its own checkpoint."""
    experts: bool
    max_sequences: int
    """Of a data-parallel rank."""
    chunk: int | None
    step_tokens: int
    """New tokens of a data-parallel rank's step, at most."""
    max_context: int
    memory_fraction: float
    """Of an accelerator's usable memory for all that the engine holds."""
    static_fraction: float
    """The same for weights and caches alone."""
    nodes: int
    """Kubernetes nodes that a replica spans."""
    tier: str
    """Kind of memory beside the accelerators in which the pool parks KV (an id of the catalogue); empty: none."""
    tier_bytes: float
    """Of that memory, for each replica."""
    keeps_prefixes: bool
    """Some route of the pool counts on a prefix that is kept in it."""
    method: str
    """What drafts tokens (speculative decoding); empty: nothing does."""
    draft_tokens: int
    """Of each sequence in a step."""
    draft: str
    """Repository or path of the draft's weights; empty where the model has them, or none are needed."""
    cell: int
    """Pools that hand KV to one another, directly or by others, are one cell."""


def workers(solution: Solution, instance: Instance) -> list[Worker]:
    """The plan's modelled pools, in its order.  Measured pools and split decode have no engine that is known."""
    cells = _cells(solution)
    slugs: dict[str, int] = {}
    found = []
    for pool in solution.fleet:
        if pool.role == "serve" or pool.role == "split-decode":
            continue
        if pool.model is None or pool.precision is None or pool.parallelism is None:
            continue
        routes = _routes(solution, pool)
        model, card = instance.model(pool.model), instance.model(pool.model).card
        part = next(option.accelerator for option in instance.hardware if option.name == pool.hardware)
        replicas = pool.replicas + pool.spares
        ways = pool.parallelism
        tier, held = _parked(solution, instance, pool)
        sequences, tokens, shares = _memory(pool, pool.precision, ways, part, model, instance)
        method, drafts = _drafting(solution, pool, routes)
        found.append(
            Worker(
                pool=pool.pool,
                slug=_slug(pool.pool, slugs),
                role=pool.role,
                period=stage_of(pool),
                model=card.hf_id or card.id,
                served_name=model.name,
                vendor=part.vendor,
                accelerator=pool.accelerator,
                accelerators=pool.accelerators // replicas,
                replicas=replicas,
                tp=ways.tp,
                pp=ways.pp,
                dp=ways.dp,
                ep=ways.ep,
                weights=pool.precision.weights,
                kv=pool.precision.kv,
                native=card.native_precision,
                experts=card.experts > 0,
                max_sequences=sequences,
                chunk=pool.prefill_chunk,
                step_tokens=tokens,
                max_context=_max_context(instance, routes, card.max_context),
                memory_fraction=shares[0],
                static_fraction=shares[1],
                nodes=math.ceil(pool.accelerators / replicas / node_accelerators(part)),
                tier=tier,
                tier_bytes=held / replicas,
                keeps_prefixes=any(route.kv_policy != "drop" for route in routes),
                method=method,
                draft_tokens=drafts,
                draft=_draft(model) if method else "",
                cell=cells[stage_of(pool), pool.pool],
            )
        )
    return found


def _memory(
    pool: Pool, precision: Precision, ways: Parallelism, part: Accelerator, model: Model, instance: Instance
) -> tuple[int, int, tuple[float, float]]:
    """(sequences, tokens of a step, shares of memory with and without activations) of a rank, as they are planned."""
    formats = (precision.weights, precision.activations, precision.kv)
    shape = (ways.tp, ways.pp, ways.ep, ways.dp)
    columns = [np.array([n]) for n in (0, 0, *(PRECISIONS.index(name) for name in formats), *shape)]
    table = ConfigurationTable(
        (part,),
        (model.card,),
        *columns,
        cp=np.array([ways.cp]),
        drafts=np.array([pool.speculation.draft_tokens if pool.speculation else 0]),
        speculations=(model.speculation,),
        engines=engine_profiles(instance),
    )
    memory = EngineMemory.of(instance.options, table, pool.role, pool.prefill_chunk)
    usable = float(table.part_accelerators.capacity[0])
    share, of_free = (float(values[0]) for values in memory_share(table, memory.fraction))
    if of_free:
        room = float(kv_capacity_bytes(table, memory)[0]) / float(table.replica_accelerators[0])
        share = 1.0 - room / share * (1.0 - share) / usable
    beside = (float(workspace_bytes(table, memory)[0]) + memory.runtime_bytes) / usable
    sequences = rank_sequences(table, instance.options.max_sequences)
    tokens = step_tokens(table, sequences, pool.role, pool.prefill_chunk)
    return int(sequences[0]), int(tokens[0]), (share, share - beside)
def _drafting(solution: Solution, pool: Pool, routes: Sequence[Route]) -> tuple[str, int]:
    """(method, tokens) that a pool drafts; prompts pass through what drafts too, so a prefill pool of one has it."""
    after = {route.decode_pool for route in routes} if pool.role == "prefill" else {pool.pool}
    use = [p.speculation for p in solution.fleet if p.pool in after and stage_of(p) == stage_of(pool) and p.speculation]
    return (use[0].method, max(u.draft_tokens for u in use)) if use else ("", 0)


def _draft(model: Model) -> str:
    """Where the draft's weights are."""
    use = model.speculation
    if use is None:
        return ""
    return use.checkpoint or ((use.card.hf_id or use.card.id) if use.card is not None else "")


def node_accelerators(part: Accelerator) -> int:
    """Accelerators of one Kubernetes node: a rack of one server has many nodes."""
    return int(_exported()["nodes"].get(part.id, part.server_accelerators))


def _parked(solution: Solution, instance: Instance, pool: Pool) -> tuple[str, float]:
    """The tier that a pool's prompts are reloaded from, and its bytes: the tier's capacity by what routes keep in it.

    The side that computes prompts keeps them, since the engines look prefixes up there. Where a pool uses several
    tiers, the one that keeps most is taken, with the bytes of all.
    """
    tiers = {option.name: option.tier for option in instance.memory}
    kept: dict[str, float] = {}
    for use in solution.memory:
        if (use.period, use.scenario) != (pool.period, pool.scenario):
            continue
        here = [
            r for r in solution.routing if stage_of(r) == stage_of(pool) and r.kv_policy == f"tier:{use.tier}" and r.kv
        ]
        total = sum(r.kv.kept_bytes for r in here if r.kv)
        own = sum(r.kv.kept_bytes for r in here if r.kv and r.prefill_pool == pool.pool)
        if own:
            kept[tiers[use.tier]] = kept.get(tiers[use.tier], 0.0) + use.capacity_bytes * own / total
    return (max(kept, key=lambda tier: kept[tier]), sum(kept.values())) if kept else ("", 0.0)


def _routes(solution: Solution, pool: Pool) -> list[Route]:
    return [
        route
        for route in solution.routing
        if stage_of(route) == stage_of(pool) and pool.pool in (route.prefill_pool, route.decode_pool)
    ]


def _max_context(instance: Instance, routes: Sequence[Route], card: int) -> int:
    """The longest context that the pool's routes bring: their variants' limits, else the card's."""
    tasks = {task.name: task for task in instance.tasks}
    limits = [
        variant.max_context or card
        for route in routes
        for variant in tasks[route.task].variants
        if variant.name == route.variant
    ]
    return min(card, math.ceil(max(limits, default=card)))


def _cells(solution: Solution) -> dict[tuple[str, str], int]:
    """A number for each set of pools that routes connect, in the order of the fleet."""
    parent = {(stage_of(pool), pool.pool): (stage_of(pool), pool.pool) for pool in solution.fleet}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent[key] != key:
            key = parent[key]
        return key

    for route in solution.routing:
        first, second = root((stage_of(route), route.prefill_pool)), root((stage_of(route), route.decode_pool))
        parent[second] = first
    numbers: dict[tuple[str, str], int] = {}
    return {key: numbers.setdefault(root(key), len(numbers)) for key in parent}


def _slug(name: str, taken: dict[str, int]) -> str:
    """A DNS label: lower-case letters, digits and hyphens, at most 50, with a number where two would be equal."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "pool"
    label = plain
    while label in taken:
        taken[plain] += 1
        label = f"{plain}-x{taken[plain]}"
    taken[label] = taken.get(label, 1)
    return label
