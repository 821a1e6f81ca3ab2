"""The plan as the checker reads it: every name looked up in the problem, whatever cannot be is a violation.

Later checks see only pools and routes that mean something, so that one broken name gives one message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codesign.catalog import ModelCard
from codesign.check.calls import Calls
from codesign.check.report import Findings
from codesign.performance import (
    PRECISIONS,
    AttachedMemory,
    ConfigurationTable,
    EngineMemory,
    fits,
    link_bytes_per_s,
    precision_supported,
    shape_valid,
)
from codesign.performance.profile import read_profile
from codesign.performance.split import (
    SplitTable,
    attention_half,
    feed_forward_half,
    split_kv_capacity_bytes,
    split_link_bytes_per_s,
)
from codesign.problem.instance import HardwareOption, Instance, MeasuredPool, MemoryOption, Model, TaskClass
from codesign.solution.schema import Pool, Route, Solution


@dataclass(frozen=True, eq=False)
class ModelledPool:
    """A pool of the performance model."""

    entry: Pool
    option: HardwareOption
    model: Model
    table: ConfigurationTable
    """Its one configuration; of a split-decode pool one attention instance."""
    split: SplitTable | None = None
    """Both halves of a split-decode pool."""
    other: HardwareOption | None = None
    """Hardware of its feed-forward half."""

    @property
    def places(self) -> tuple[tuple[HardwareOption, int], ...]:
        """Accelerators of one replica, by the hardware that they are."""
        if self.split is None or self.other is None:
            return ((self.option, int(self.table.replica_accelerators[0])),)
        first, second = self.split.attention_accelerators[0], self.split.feed_forward_accelerators[0]
        return (self.option, int(first)), (self.other, int(second))

    @property
    def replica_accelerators(self) -> int:
        """Accelerators of one replica."""
        return sum(count for _, count in self.places)

    @property
    def link_bytes_per_s(self) -> float:
        """Scale-out bandwidth of one replica, per direction."""
        if self.split is not None:
            return float(split_link_bytes_per_s(self.split)[0])
        return float(link_bytes_per_s(self.table)[0])

    @property
    def design(self) -> tuple[object, ...]:
        """Accelerator, model, precision, parallelism and role: what makes a hardware group."""
        return (
            self.option.name,
            self.model.name,
            self.entry.precision,
            self.entry.parallelism,
            self.entry.feed_forward,
            self.entry.attached,
            self.entry.speculation and (self.entry.speculation.method, self.entry.speculation.draft_tokens),
            self.entry.role,
        )


@dataclass(frozen=True, eq=False)
class MeasuredUse:
    """A pool known by its measured rates."""

    entry: Pool
    source: MeasuredPool

    @property
    def replica_accelerators(self) -> int:
        """Accelerators of one replica."""
        return self.source.accelerators_per_replica

    @property
    def design(self) -> tuple[object, ...]:
        """What makes a hardware group."""
        return (self.source.name, "serve")


@dataclass(frozen=True, eq=False)
class ModelledRoute:
    """Calls that go through pools of the performance model."""

    entry: Route
    calls: Calls
    prefill: ModelledPool
    decode: ModelledPool
    """The same pool where it is colocated."""
    tier: MemoryOption | None
    """The memory of a policy `tier:<name>`."""

    @property
    def name(self) -> str:
        """For messages."""
        return route_name(self.entry)


@dataclass(frozen=True, eq=False)
class MeasuredRoute:
    """Tasks that a measured pool serves (a call is a whole task there)."""

    entry: Route
    pool: MeasuredUse


@dataclass(frozen=True, eq=False)
class Plan:
    """What is left of a solution after all names were looked up."""

    instance: Instance
    solution: Solution
    modelled: dict[str, ModelledPool]
    """By pool name."""
    measured: dict[str, MeasuredUse]
    routes: tuple[ModelledRoute, ...]
    measured_routes: tuple[MeasuredRoute, ...]

    @property
    def pools(self) -> Iterable[ModelledPool | MeasuredUse]:
        """All pools."""
        return (*self.modelled.values(), *self.measured.values())

    def routes_of(self, pool: ModelledPool) -> list[ModelledRoute]:
        """Routes that a pool serves, in either phase."""
        return [r for r in self.routes if pool in (r.prefill, r.decode)]


def read_plan(instance: Instance, solution: Solution, findings: Findings) -> Plan:
    """Look up every name of a solution."""
    modelled: dict[str, ModelledPool] = {}
    measured: dict[str, MeasuredUse] = {}
    sources = {pool.name: pool for pool in instance.measured_pools}
    for entry in solution.fleet:
        if entry.pool in modelled or entry.pool in measured:
            findings.fail(f"fleet: pool names are unique: {entry.pool}", 1, 2)
        elif entry.replicas < 1 or entry.spares < 0:
            found = f"{entry.replicas} and {entry.spares}"
            findings.fail(f"pool {entry.pool}: replicas and spares", "≥ 1 and ≥ 0", found)
        elif entry.role == "serve":
            if findings.one_of(f"pool {entry.pool}: measured pool", entry.hardware, tuple(sources)):
                measured[entry.pool] = MeasuredUse(entry, sources[entry.hardware])
        else:
            pool = _modelled(instance, entry, findings)
            if pool is not None:
                modelled[entry.pool] = pool
    routes: list[ModelledRoute] = []
    measured_routes: list[MeasuredRoute] = []
    for route in solution.routing:
        if not (np.isfinite(route.calls_per_s) and route.calls_per_s >= 0):
            findings.fail(
                f"route {route_name(route)}: calls per second, finite and ≥ 0", 0.0, route.calls_per_s
            )
        elif route.prefill_pool in measured:
            served = _measured_route(instance, route, measured, findings)
            measured_routes += [served] if served else []
        else:
            pair = _modelled_route(instance, route, modelled, findings)
            routes += [pair] if pair else []
    stages = {(pool.period, pool.scenario) for pool in solution.fleet}
    stages |= {(route.period, route.scenario) for route in solution.routing}
    if len(stages) > 1:
        findings.fail("period and scenario of all pools and routes", "one", str(sorted(stages)))
    plan = Plan(instance, solution, modelled, measured, tuple(routes), tuple(measured_routes))
    for known in plan.pools:
        size = (known.entry.replicas + known.entry.spares) * known.replica_accelerators
        findings.equal(f"pool {known.entry.pool}: accelerators", known.entry.accelerators, size)
    return plan


def route_name(route: Route) -> str:
    """For messages: task (variant), prefill → decode."""
    variant = f" ({route.variant})" if route.variant else ""
    return f"{route.task}{variant} {route.prefill_pool} → {route.decode_pool}"


def _modelled(instance: Instance, entry: Pool, findings: Findings) -> ModelledPool | None:
    """A pool with its configuration, None where it is none of this problem's."""
    name = f"pool {entry.pool}"
    options = {option.name: option for option in instance.hardware}
    models = {model.name: model for model in instance.models}
    known = findings.one_of(f"{name}: hardware", entry.hardware, tuple(options))
    known &= findings.one_of(f"{name}: model", entry.model, tuple(models))
    if entry.precision is None or entry.parallelism is None:
        findings.fail(f"{name}: precision and parallelism", "given", None)
        known = False
    if not known or entry.precision is None or entry.parallelism is None:
        return None
    option, model = options[entry.hardware], models[entry.model or ""]
    chosen = (entry.precision.weights, entry.precision.activations, entry.precision.kv)
    allowed = tuple("/".join(p) for p in model.precisions)
    shape = entry.parallelism
    if not findings.one_of(f"{name}: precision", "/".join(chosen), allowed):
        return None
    if min(shape.tp, shape.pp, shape.ep, shape.dp, shape.cp) < 1:
        findings.fail(f"{name}: parallelism", "at least 1 each", str(shape))
        return None
    sharing = instance.options.max_context_parallel if entry.role == "prefill" else 1
    findings.at_most(f"{name}: context-parallel groups of a {entry.role} replica", shape.cp, sharing)
    findings.one_of(f"{name}: accelerator", entry.accelerator, (option.catalogue_id,))
    if entry.role == "split-decode":
        return _split(instance, entry, option, model, findings)
    reach = option.accelerator.scaleup_domain * instance.options.max_expert_domains
    findings.at_most(f"{name}: tensor and data parallel ranks in scale-up domains", shape.tp * shape.dp, max(reach, 1))
    findings.one_of(f"{name}: role of {option.name}", entry.role, option.roles)
    if _without_peers(option):
        size = shape.tp * shape.pp * shape.dp * shape.cp
        findings.at_most(f"{name}: accelerators of a replica, of cards in servers of one without a link", size, 1)
    memory = _attached(instance, entry, option, model, findings)
    if entry.attached is not None and memory is None:
        return None
    table = ConfigurationTable(
        (option.accelerator,),
        (model.card,),
        *(np.array([value]) for value in (0, 0)),
        *(np.array([PRECISIONS.index(value)]) for value in chosen),
        *(np.array([value]) for value in (shape.tp, shape.pp, shape.ep, shape.dp)),
        cp=np.array([shape.cp]),
        memory=np.array([-1 if memory is None else 0]),
        drafts=np.array([_drafts(entry, model, findings)]),
        speculations=(model.speculation,),
        memories=() if memory is None else (memory,),
        engines=tuple(read_profile(path) for path in instance.options.profiles),
        safety=instance.options.safety,
    )
    if not shape_valid(table)[0]:
        findings.fail(f"{name}: parallelism suits model and accelerator", "a valid shape", str(shape))
        return None
    if not precision_supported(table)[0]:
        findings.fail(f"{name}: precision that the accelerator has", "a supported one", "/".join(chosen))
    if entry.role == "colocated" and not (entry.prefill_chunk or 0) > 0:
        findings.fail(f"{name}: prefill chunk", "> 0 tokens", entry.prefill_chunk)
        return None
    if not fits(table, EngineMemory.of(instance.options, table, entry.role, entry.prefill_chunk))[0]:
        findings.fail(f"{name}: weights leave memory for a KV cache", "> 0 bytes", "≤ 0 bytes")
        return None
    most = instance.options.max_replica_accelerators
    pool = ModelledPool(entry, option, model, table)
    if most is not None:
        findings.at_most(f"{name}: options.max_replica_accelerators", pool.replica_accelerators, most)
    return pool


def _drafts(entry: Pool, model: Model, findings: Findings) -> int:
    """Tokens that a pool drafts in a step: as many as the model's speculation offers, on one stage, in what decodes."""
    use, name = entry.speculation, f"pool {entry.pool}: speculation"
    if use is None:
        return 0
    offered = () if model.speculation is None else model.speculation.draft_tokens
    method = "" if model.speculation is None else model.speculation.method
    known = findings.one_of(f"{name}: method", use.method, (method,))
    known &= findings.one_of(f"{name}: draft_tokens", str(use.draft_tokens), tuple(map(str, offered)))
    known &= findings.one_of(f"{name}: role", entry.role, ("decode", "colocated"))
    if entry.parallelism is not None:
        findings.at_most(f"{name}: pipeline stages", entry.parallelism.pp, 1)
    return use.draft_tokens if known else 0


def _without_peers(option: HardwareOption) -> bool:
    """Is a card alone in its server, with no more than that server's PCIe and a network that nobody bought for it?"""
    peers = option.server_accelerators - 1
    return peers == 0 and option.link is None and option.accelerator.scaleup_topology.lower().startswith("pcie")


def _attached(
    instance: Instance, entry: Pool, option: HardwareOption, model: Model, findings: Findings
) -> AttachedMemory | None:
    """The memory that a pool says its accelerators have beside their own; None where it has none, or may not."""
    use = entry.attached
    if use is None:
        return None
    name = f"pool {entry.pool}: attached"
    tiers = {tier.name: tier for tier in instance.memory if tier.attached is not None}
    if not findings.one_of(f"{name}: tier", use.tier, tuple(tiers)):
        return None
    tier = tiers[use.tier]
    word = "active" if use.holds == "kv" else "weights"
    findings.one_of(f"{name}: holds of {tier.name}", word, tier.holds)
    if use.holds == "experts" and not model.card.experts:
        findings.fail(f"{name}: a model with experts", "experts", model.name)
    if use.holds != "kv" and option.accelerator.weight_capacity is not None:
        findings.fail(f"{name}: hardware without a memory of its own for weights", "none", option.name)
    choices = () if tier.attached is None else tier.attached.modules
    if use.modules_per_accelerator not in choices:
        expected = "one of " + ", ".join(f"{choice:g}" for choice in choices)
        findings.fail(f"{name}: modules_per_accelerator", expected, use.modules_per_accelerator)
        return None
    if tier.max_bytes_per_server is not None:
        findings.one_of(f"{name}: hardware that takes its modules", option.name, tier.hardware)
        needed = use.modules_per_accelerator * option.server_accelerators * tier.module_bytes
        findings.at_most(f"{name}: bytes in one server", needed, tier.max_bytes_per_server)
    memory = AttachedMemory.of(tier, use.modules_per_accelerator, use.holds)
    findings.equal(f"{name}: bandwidth_bytes_per_s", use.bandwidth_bytes_per_s, memory.bandwidth_bytes_per_s)
    return memory


def _split(
    instance: Instance, entry: Pool, option: HardwareOption, model: Model, findings: Findings
) -> ModelledPool | None:
    """A split-decode pool: two halves of one model on two kinds of hardware of one vendor."""
    name, half, shape = f"pool {entry.pool}", entry.feed_forward, entry.parallelism
    options = {item.name: item for item in instance.hardware}
    if half is None or shape is None or entry.precision is None:
        findings.fail(f"{name}: feed_forward", "given for a split-decode pool", None)
        return None
    findings.one_of(f"{name}: options.split_decode", instance.options.split_decode, ("decide",))
    if not findings.one_of(f"{name}: hardware of the feed-forward half", half.hardware, tuple(options)):
        return None
    other = options[half.hardware]
    findings.one_of(f"{name}: accelerator of the feed-forward half", half.accelerator, (other.catalogue_id,))
    vendor = option.accelerator.vendor
    findings.one_of(f"{name}: vendor of the feed-forward half", other.accelerator.vendor, (vendor,))
    for side in (option, other):
        findings.one_of(f"{name}: role of {side.name}", "decode", side.roles)
    ways = half.parallelism
    counts = (shape.tp, shape.dp, ways.tp, ways.ep, ways.dp, half.microbatches)
    if min(counts) < 1 or (shape.pp, shape.ep, ways.pp) != (1, 1, 1):
        findings.fail(f"{name}: parallelism of two halves", "at least 1 each, no pipeline", f"{shape} {ways}")
        return None
    precision = entry.precision
    formats = [PRECISIONS.index(word) for word in (precision.weights, precision.activations, precision.kv)]

    def table(part: HardwareOption, card: ModelCard, tp: int, ep: int, dp: int) -> ConfigurationTable:
        columns = (0, 0, *formats, tp, 1, ep, dp)
        return ConfigurationTable(
            (part.accelerator,),
            (card,),
            *(np.array([value]) for value in columns),
            engines=tuple(read_profile(path) for path in instance.options.profiles),
            safety=instance.options.safety,
        )

    attention = table(option, attention_half(model.card), shape.tp, 1, 1)
    forward = table(other, feed_forward_half(model.card), ways.tp, ways.ep, ways.dp)
    split = SplitTable(attention, forward, np.array([shape.dp]), np.array([half.microbatches]))
    pool = ModelledPool(entry, option, model, attention, split, other)
    for side, (_, size) in zip((option, other), pool.places, strict=True):
        if _without_peers(side):
            findings.at_most(f"{name}: accelerators of a half, of cards in servers of one without a link", size, 1)
    counted = pool.places[1][1]
    findings.equal(f"{name}: accelerators of the feed-forward half", half.accelerators_per_replica, counted)
    for part, word in ((attention, "attention"), (forward, "feed-forward")):
        if not shape_valid(part)[0]:
            findings.fail(f"{name}: parallelism of the {word} half", "a valid shape", f"{shape} {ways}")
            return None
        if not precision_supported(part)[0]:
            findings.fail(f"{name}: precision of the {word} half", "a supported one", str(precision))
    options_ = instance.options
    if not split_kv_capacity_bytes(split, options_)[0] > 0:
        findings.fail(f"{name}: weights leave memory for a KV cache", "> 0 bytes", "≤ 0 bytes")
        return None
    if options_.max_replica_accelerators is not None:
        most = options_.max_replica_accelerators
        findings.at_most(f"{name}: options.max_replica_accelerators", pool.replica_accelerators, most)
    return pool


def _measured_route(
    instance: Instance, route: Route, measured: dict[str, MeasuredUse], findings: Findings
) -> MeasuredRoute | None:
    name = f"route {route_name(route)}"
    if not findings.one_of(f"{name}: task", route.task, tuple(task.name for task in instance.tasks)):
        return None
    if not findings.one_of(
        f"{name}: decode pool (measured pools serve both phases)", route.decode_pool, (route.prefill_pool,)
    ):
        return None
    pool = measured[route.prefill_pool]
    if not findings.one_of(
        f"{name}: task that the pool can serve",
        route.task,
        tuple(task for task, rate in pool.source.max_rate_per_s.items() if rate > 0),
    ):
        return None
    return MeasuredRoute(route, pool)


def _modelled_route(
    instance: Instance, route: Route, modelled: dict[str, ModelledPool], findings: Findings
) -> ModelledRoute | None:
    name = f"route {route_name(route)}"
    tasks = {task.name: task for task in instance.tasks}
    known = findings.one_of(f"{name}: task", route.task, tuple(tasks))
    known &= findings.one_of(f"{name}: prefill pool", route.prefill_pool, tuple(modelled))
    known &= findings.one_of(f"{name}: decode pool", route.decode_pool, tuple(modelled))
    if not known:
        return None
    variants = {variant.name: variant for variant in tasks[route.task].variants}
    if not findings.one_of(f"{name}: variant", route.variant, tuple(variants)):
        return None
    variant = variants[route.variant or ""]
    prefill, decode = modelled[route.prefill_pool], modelled[route.decode_pool]
    for pool in (prefill, decode):
        known &= findings.one_of(f"{name}: model of {pool.entry.pool}", pool.model.name, (variant.model,))
        formats = pool.entry.precision
        if known and formats is not None:
            factor = pool.model.quality_factor(formats.weights, formats.activations, formats.kv)
            if not variant.admitted(tasks[route.task], factor):
                findings.at_least(
                    f"{name}: min_quality, in the precision of {pool.entry.pool}",
                    variant.quality * factor,
                    tasks[route.task].min_quality,
                )
    known &= _pair(instance, route, prefill, decode, findings)
    if not known:
        return None
    task, card = tasks[route.task], prefill.model.card
    ttl = _time_to_live(task, route, findings)
    calls = Calls.of(task, variant, card, str(route.kv_policy), ttl, route.calls_per_s)
    return ModelledRoute(route, calls, prefill, decode, instance.tier(str(route.kv_policy)))


def _time_to_live(task: TaskClass, route: Route, findings: Findings) -> float:
    """That of the route, which only a task that leaves it to the planner may choose."""
    name = f"route {route_name(route)}: time-to-live of idle KV, s"
    ttl = task.prefix_ttl_s if route.kv is None else route.kv.ttl_s
    if not (np.isfinite(ttl) and ttl >= 0):
        findings.fail(name, "finite and ≥ 0", ttl)
        return 0.0
    if not task.prefix_ttl_free:
        findings.equal(name, ttl, task.prefix_ttl_s)
    return ttl


def _pair(
    instance: Instance, route: Route, prefill: ModelledPool, decode: ModelledPool, findings: Findings
) -> bool:
    """Can these two pools serve the two phases of one call?"""
    name = f"route {route_name(route)}"
    tiers = tuple(f"tier:{item.name}" for item in instance.memory if "parked" in item.holds)
    if "colocated" in (prefill.entry.role, decode.entry.role):
        good = findings.one_of(
            f"{name}: decode pool of a colocated call", decode.entry.pool, (prefill.entry.pool,)
        )
        good &= findings.one_of(f"{name}: kv_policy", route.kv_policy, ("colocated", "drop", *tiers))
        if instance.options.disaggregation == "always":
            findings.fail(f"{name}: options.disaggregation", "always", "colocated")
        return good and (route.kv_policy not in tiers or _carried(name, route, prefill, decode, findings))
    good = findings.one_of(f"{name}: role of the prefill pool", prefill.entry.role, ("prefill",))
    good &= findings.one_of(f"{name}: role of the decode pool", decode.entry.role, ("decode", "split-decode"))
    good &= findings.one_of(f"{name}: kv_policy", route.kv_policy, ("decode", "prefill", "drop", *tiers))
    vendor = prefill.option.accelerator.vendor
    findings.one_of(f"{name}: vendor of the decode pool", decode.option.accelerator.vendor, (vendor,))
    formats = [pool.entry.precision.kv for pool in (prefill, decode) if pool.entry.precision]
    findings.one_of(f"{name}: KV format of the decode pool", formats[1], (formats[0],))
    if instance.options.disaggregation == "never":
        findings.fail(f"{name}: options.disaggregation", "never", "disaggregated")
    return _carried(name, route, prefill, decode, findings) and good


def _carried(
    name: str, route: Route, prefill: ModelledPool, decode: ModelledPool, findings: Findings
) -> bool:
    """Do the links of both replicas carry the transfer rate that the route counts on?"""
    rate = route.fabric_bytes_per_s
    if rate is None or not rate > 0:
        findings.fail(f"{name}: transfer rate, byte/s", "> 0", rate)
        return False
    slowest = min(pool.link_bytes_per_s for pool in (prefill, decode))
    findings.at_most(f"{name}: transfer rate that both replicas' links carry, byte/s", rate, slowest)
    return True
