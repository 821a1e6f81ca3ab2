"""OI and CF of every task class, phase and block; the regime on each accelerator; Little's-law totals.

`profile(instance)` is what `codesign profile` prints: what the workload asks for, before anything is solved.

Phases of a call: `prefill` (new prompt tokens over the cached prefix), `decode` (one output token a step for
a batch), `parked` (KV held during a tool wait, which costs bytes and nothing else). All figures are averages
over the population of calls, not values at mean lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.problem.instance import Instance, Model, SloLevels, TaskClass, Variant
from codesign.problem.speculation import acceptance_of, expected_tokens
from codesign.workload.chain import ChainCall, chain
from codesign.workload.intensity import (
    BLOCKS,
    Block,
    Formats,
    Work,
    block_weight_bytes,
    decode_work,
    prefill_work,
)
from codesign.workload.kvcache import kv_bytes
from codesign.workload.population import CallPopulation, call_population, held_seconds, kept_probability
from codesign.workload.regime import Regime, Unit

Array = NDArray[np.float64]
Phase = Literal["prefill", "decode", "parked"]

DEFAULT_BATCHES = (1, 16, 64)

ASSUMED_TTFT_S = 1.0
ASSUMED_TPOT_S = 0.05
"""Time of a call where the task has no SLO: only for the Little's-law numbers, and named there."""


@dataclass(frozen=True)
class PhaseProfile:
    """One row: a block of a phase of a task's calls, at a batch and in given precisions."""

    task: str
    variant: str
    model: str
    phase: Phase
    block: Block
    precision: dict[str, str]
    """Of weights, activations and kv."""
    batch: int
    """Sequences of a decode step, prompts of a prefill pass, or suspended tasks."""
    context_tokens: float
    """Mean tokens in the cache: after prefill, halfway through decode, after the call (parked)."""
    operational_intensity: float
    """FLOP per byte; 0 for parked KV."""
    cf_request_bytes: float
    """The block's weights over the batch, plus the KV of one request (one copy)."""
    cf_device_bytes: float
    """The same for the whole batch, on one device without sharding: batch × cf_request_bytes."""
    flops_per_call: float
    bytes_per_call: float
    """Bytes moved from memory, with weights shared by the batch."""
    regime: dict[str, Regime]
    """By hardware name, on the smallest unit of it that holds the weights (see `regime.Unit`)."""


@dataclass(frozen=True)
class CapacityProfile:
    """The context at which the memory of the smallest unit is full, at a batch (raw memory, no reserve)."""

    hardware: str
    model: str
    precision: dict[str, str]
    accelerators: int
    """Accelerators in the unit."""
    batch: int
    max_context_tokens: float | None
    """None where nothing that the model holds grows with the context."""


@dataclass(frozen=True)
class TaskTotals:
    """Little's law for a task class, on its first variant and KV precision: what a planner checks first."""

    task_seconds: float
    """Mean time of a task: calls at the loosest times that its SLOs allow, and tool waits."""
    open_tasks: float
    """Rate × task_seconds."""
    resident_kv_bytes: float
    """KV of the open tasks (one copy), each holding the context and output of a mean call."""
    resident_kv_bytes_with_ttl: float
    """The same if KV is dropped at the time-to-live, and held that long after a task's last call."""
    hit_ratio: float
    """Cached over prompt tokens at that time-to-live."""
    model: str
    kv: str
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class SpeculationProfile:
    """What drafting does to a decode step of a task's calls on a model, before it is known whether it pays."""

    task: str
    model: str
    method: str
    draft_tokens: int
    """Of each sequence in a step."""
    tokens_per_step: float
    """That a step emits of a sequence, on average."""
    verified_per_token: float
    """Tokens that steps compute for each that they emit: FLOP grow by as much, what a step reads falls by
    tokens_per_step."""
    source: str
    """Of the acceptance."""


@dataclass(frozen=True)
class Profile:
    """The profile of a problem, as `codesign profile --json` shows it."""

    phases: tuple[PhaseProfile, ...]
    capacity: tuple[CapacityProfile, ...]
    totals: dict[str, TaskTotals]
    """By task."""
    chains: dict[str, tuple[ChainCall, ...]]
    """By task, on its first variant and KV precision: calls of the median task."""
    speculation: tuple[SpeculationProfile, ...] = ()
    """Of models that something drafts for."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, ready for JSON."""
        document: dict[str, Any] = asdict(self)
        return document


def profile(instance: Instance, batches: Sequence[int] = DEFAULT_BATCHES) -> Profile:
    """Compute OI, CF, regimes and Little's-law totals of an instance.

    Tasks without variants (served by measured pools alone) have no model and do not appear. Raises
    ValueError for a batch below 1.
    """
    if any(batch < 1 for batch in batches):
        raise ValueError(f"found batches {tuple(batches)}; expected integers ≥ 1")
    rows = [row for task in instance.tasks for row in _task_rows(instance, task, batches)]
    totals = {task.name: _totals(instance, task) for task in instance.tasks if task.variants}
    used = {variant.model for task in instance.tasks for variant in task.variants}
    capacity = [
        row
        for model in instance.models
        if model.name in used
        for formats in _formats(model)
        for row in _capacity_rows(instance, model, formats, batches)
    ]
    chains = {task.name: _chain(instance, task) for task in instance.tasks if task.variants}
    return Profile(tuple(rows), tuple(capacity), totals, chains, tuple(_speculations(instance)))


def _speculations(instance: Instance) -> Iterator[SpeculationProfile]:
    for task in instance.tasks:
        for name in dict.fromkeys(variant.model for variant in task.variants):
            use = instance.model(name).speculation
            for drafts in () if use is None else use.draft_tokens:
                tokens = expected_tokens(acceptance_of(use, drafts, task))
                source = "problem file" if task.acceptance or use is None else use.source
                method = "" if use is None else use.method
                yield SpeculationProfile(task.name, name, method, drafts, tokens, (drafts + 1) / tokens, source)


def littles_law(rate_per_s: float, seconds: float) -> float:
    """Mean number in the system: arrival rate × mean time in it."""
    return rate_per_s * seconds


def _formats(model: Model) -> list[Formats]:
    return [Formats(*names) for names in model.precisions]


def _population(instance: Instance, task: TaskClass, variant: Variant) -> CallPopulation:
    card = instance.model(variant.model).card
    limit = float(card.max_context) if task.on_overlong == "truncate" else None
    return call_population(task, variant, context_limit=limit)


def _task_rows(instance: Instance, task: TaskClass, batches: Sequence[int]) -> Iterator[PhaseProfile]:
    for variant in task.variants:
        calls = _Calls(task, variant, _population(instance, task, variant))
        model = instance.model(variant.model)
        for formats in _formats(model):
            units = {
                option.name: Unit.smallest(option.accelerator, model.card, formats)
                for option in instance.hardware
            }
            for batch in batches:
                for block in BLOCKS:
                    yield _prefill_row(calls, model, formats, units, batch, block)
                for block in BLOCKS:
                    yield _decode_row(calls, model, formats, units, batch, block)
                yield _parked_row(calls, model, formats, units, batch)


class _Calls:
    """A population with the cached and new tokens that its time-to-live leaves."""

    def __init__(self, task: TaskClass, variant: Variant, population: CallPopulation) -> None:
        self.task, self.variant, self.population = task, variant, population
        self.weight, self.context, self.output = population.weight, population.context, population.output
        self.cached = population.cached(kept_probability(task, task.prefix_ttl_s))
        self.new = self.context - self.cached
        # Sequences in a decode batch are there in proportion to the steps that they take.
        steps = self.weight * self.output
        self.decode_weight = steps / steps.sum() if steps.sum() > 0 else self.weight


def _prefill_row(
    calls: _Calls, model: Model, formats: Formats, units: dict[str, Unit], batch: int, block: Block
) -> PhaseProfile:
    work = prefill_work(model.card, batch, calls.new, calls.cached, formats, block)
    tokens = float(calls.weight @ calls.new)
    return _row(
        calls, model, formats, units, batch, block, "prefill",
        work=Work(work.flops / batch @ calls.weight, work.bytes / batch @ calls.weight),
        lengths=calls.context, weight=calls.weight, tokens=tokens,
    )  # fmt: skip


def _decode_row(
    calls: _Calls, model: Model, formats: Formats, units: dict[str, Unit], batch: int, block: Block
) -> PhaseProfile:
    middle = calls.context + calls.output / 2.0
    step = decode_work(model.card, batch, middle, formats, block)
    steps = calls.weight * calls.output
    if block == "ffn":  # its work knows no context, so it comes without the axis of calls
        step = Work(np.full_like(middle, step.flops), np.full_like(middle, step.bytes))
    return _row(
        calls, model, formats, units, batch, block, "decode",
        work=Work(step.flops / batch @ steps, step.bytes / batch @ steps),
        lengths=middle, weight=calls.decode_weight, tokens=float(steps.sum()),
    )  # fmt: skip


def _row(
    calls: _Calls,
    model: Model,
    formats: Formats,
    units: dict[str, Unit],
    batch: int,
    block: Block,
    phase: Phase,
    *,
    work: Work,
    lengths: Array,
    weight: Array,
    tokens: float,
) -> PhaseProfile:
    card = model.card
    weights = block_weight_bytes(card, formats, block)
    has_kv = block != "ffn"
    kv = float(kv_bytes(card, lengths, formats.kv) @ weight) if has_kv else 0.0
    # With prefill and decode on different accelerators, the KV of the new tokens crosses once.
    crossing = float(kv_bytes(card, calls.new, formats.kv) @ calls.weight) if has_kv else 0.0
    mixers = card.full_attention_layers + card.sliding_layers + card.linear_layers
    mlps = card.dense_layers + card.moe_layers
    reduces = {"all": mixers + mlps, "attention": mixers, "ffn": mlps}[block]
    regime: dict[str, Regime] = {
        name: unit.regime(
            float(work.flops),
            float(work.bytes),
            unit.footprint(block, batch, lengths, weight),
            unit.allreduce_bytes(tokens, reduces),
            crossing,
        )
        for name, unit in units.items()
    }
    return PhaseProfile(
        task=calls.task.name,
        variant=calls.variant.name,
        model=model.name,
        phase=phase,
        block=block,
        precision=asdict(formats),
        batch=batch,
        context_tokens=float(lengths @ weight),
        operational_intensity=float(work.intensity),
        cf_request_bytes=weights / batch + kv,
        cf_device_bytes=weights + batch * kv,
        flops_per_call=float(work.flops),
        bytes_per_call=float(work.bytes),
        regime=regime,
    )


def _parked_row(
    calls: _Calls, model: Model, formats: Formats, units: dict[str, Unit], batch: int
) -> PhaseProfile:
    lengths = calls.context + calls.output
    kv = float(kv_bytes(model.card, lengths, formats.kv) @ calls.weight)
    return PhaseProfile(
        task=calls.task.name,
        variant=calls.variant.name,
        model=model.name,
        phase="parked",
        block="all",
        precision=asdict(formats),
        batch=batch,
        context_tokens=float(lengths @ calls.weight),
        operational_intensity=0.0,
        cf_request_bytes=kv,
        cf_device_bytes=batch * kv,
        flops_per_call=0.0,
        bytes_per_call=0.0,
        # Waiting consumes bytes held and nothing else.
        regime={name: "capacity" for name in units},
    )


def _capacity_rows(
    instance: Instance, model: Model, formats: Formats, batches: Sequence[int]
) -> Iterator[CapacityProfile]:
    for option in instance.hardware:
        unit = Unit.smallest(option.accelerator, model.card, formats)
        for batch, tokens in zip(batches, unit.max_context(np.asarray(batches, dtype=float)), strict=True):
            yield CapacityProfile(
                hardware=option.name,
                model=model.name,
                precision=asdict(formats),
                accelerators=unit.size,
                batch=batch,
                max_context_tokens=float(tokens) if np.isfinite(tokens) else None,
            )


def _totals(instance: Instance, task: TaskClass) -> TaskTotals:
    variant = task.variants[0]
    model = instance.model(variant.model)
    calls = _population(instance, task, variant)
    ttft, tpot = _slo_seconds(task.ttft_slo), _slo_seconds(task.tpot_slo)
    assumptions = []
    if ttft is None:
        ttft = ASSUMED_TTFT_S
        assumptions.append(f"no TTFT SLO: {ASSUMED_TTFT_S:g} s assumed")
    if tpot is None:
        tpot = ASSUMED_TPOT_S
        assumptions.append(f"no TPOT SLO: {1000 * ASSUMED_TPOT_S:g} ms assumed")
    call_seconds = ttft + tpot * float(calls.mean(calls.output))
    waiting = (calls.calls_mean - 1.0) * task.tool_wait.mean
    seconds = calls.calls_mean * call_seconds + waiting
    held, _ = held_seconds(task, task.prefix_ttl_s, variant.calls_factor)
    kv = float(calls.mean(kv_bytes(model.card, calls.context + calls.output, model.kv[0])))
    cached = calls.cached(kept_probability(task, task.prefix_ttl_s))
    return TaskTotals(
        task_seconds=seconds,
        open_tasks=littles_law(task.rate_per_s, seconds),
        resident_kv_bytes=littles_law(task.rate_per_s, seconds) * kv,
        resident_kv_bytes_with_ttl=littles_law(task.rate_per_s, calls.calls_mean * (call_seconds + held))
        * kv,
        hit_ratio=float(calls.mean(cached) / calls.mean(calls.context)),
        model=model.name,
        kv=model.kv[0],
        assumptions=tuple(assumptions),
    )


def _chain(instance: Instance, task: TaskClass) -> tuple[ChainCall, ...]:
    model = instance.model(task.variants[0].model)
    return chain(_population(instance, task, task.variants[0]), model.card, model.kv[0])


def _slo_seconds(levels: SloLevels) -> float | None:
    """Seconds of the lowest percentile: the one nearest to the mean, and an upper estimate of it."""
    return levels[0][1] if levels else None
