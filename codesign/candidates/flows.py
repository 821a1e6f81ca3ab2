"""Commodities and their flows (DESIGN 3.5): what both phases of a call must agree on.

A disaggregated call is a commodity (task, variant, model, KV format, fabric, residency, TTFT level, TPOT
level, time-to-live, stage): its prefill flow serves the task, its decode flow must match it.  A colocated call is one
flow.  Levels come from absolute grids that no SLO moves, so that a tighter SLO only removes flows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from codesign.candidates.data import Floats, Flow
from codesign.candidates.grids import Grids
from codesign.candidates.lengths import TaskCalls
from codesign.performance.drafts import ONE_TOKEN, Accepted, accepted_of
from codesign.performance.queueing import ADMISSION_STEPS
from codesign.problem.instance import Instance, MemoryOption

_TTL_WORTH = 0.005
"""A time-to-live is offered if it keeps this share of the sessions more than the one below."""
_FABRIC_WORTH_S = (0.020, 1.500)
"""A fabric level is offered if the one below would take longer than the first for a long context, and
dropped if it takes longer than the second itself while a faster one exists."""


@dataclass(frozen=True)
class Admission:
    """Seconds that a TTFT counts on until the decode side has admitted a call and ended its first step."""

    usual: float = 0.0
    quick: float = 0.0
    """For a TTFT below `below`: there the usual step would take much of it."""
    below: float = 0.0

    def of(self, ttft_s: float) -> float:
        """Seconds for a limit on the TTFT; what it leaves never falls as the limit rises."""
        return max(self.quick, min(self.usual, ttft_s - (self.below - self.usual)))


@dataclass(frozen=True)
class Reach:
    """What the hardware on offer reaches at its best: levels beyond it would be columns of nothing."""

    steps_s: Mapping[tuple[int, int], tuple[float, float]]
    """By model and drafted tokens, the shortest and the longest step of an empty batch of any configuration."""
    links: Mapping[str, tuple[float, ...]]
    """By vendor, byte/s of the fastest replica of each of its hardware."""


@dataclass(frozen=True)
class Commodity:
    """All that both phases of a call agree on: equal for the same commodity in whatever problem it occurs."""

    task: str
    variant: str
    model: int
    kv: str
    residency: str
    vendor: str
    fabric_bytes_per_s: float
    ttft_level_s: float
    tpot_level_s: float
    ttl_s: float
    drafts: int = 0
    """Tokens that the decode side drafts for each sequence in a step."""
    stage: tuple[str, str] | None = None
    """(period, scenario) where there are several."""


@dataclass(frozen=True)
class CallFlow:
    """One flow, in the planner's words."""

    task: int
    calls: TaskCalls
    model: int
    kv: str
    phase: str
    """prefill | decode | colocated."""
    residency: str
    """Where a session's KV stays between its calls: decode | prefill | colocated | drop | tier:<name>."""
    vendor: str
    """Vendor whose parts may hand KV to one another; empty for colocated."""
    fabric_bytes_per_s: float
    ttft_level_s: float
    """Limit on TTFT's mean and deviation (inf without a task-latency SLO)."""
    tpot_level_s: float
    """Limit on the step time of the decode side (inf for colocated), several tokens in a step or not."""
    admission: Admission
    """What the TTFT counts on for decode admission."""
    tier: MemoryOption | None = None
    """The memory of a tier residency."""
    drafts: int = 0
    """Tokens that the decode side drafts (of colocated flows any number may be)."""
    accepted: Accepted = ONE_TOKEN
    """What its steps then emit."""

    @property
    def token_level_s(self) -> float:
        """Time per token of a call that a task's latency counts on, where its steps keep their level."""
        return self.tpot_level_s / self.accepted.tpot

    def transfer_seconds(self, reload: Floats, send: Floats) -> Floats:
        """Seconds in which bytes `reload` come from where the prefix is kept and `send` go to the decode side."""
        if self.tier is None:
            return np.asarray((reload + send) / self.fabric_bytes_per_s)
        rate = min(self.fabric_bytes_per_s, self.tier.session_bytes_per_s)
        return np.asarray(reload / rate + (reload > 0) * self.tier.latency_s + send / self.fabric_bytes_per_s)

    @property
    def longest_tokens(self) -> float:
        """Of a call when it leaves the pool: with its answer, but for a prefill pool."""
        points = self.calls.population
        tokens = points.context if self.phase == "prefill" else points.context + points.output
        return float(tokens[points.weight > 0].max())

    @property
    def commodity(self) -> Commodity:
        """What its calls are, whichever phase this is."""
        return Commodity(
            self.calls.task.name,
            self.calls.variant.name,
            self.model,
            self.kv,
            self.residency,
            self.vendor,
            self.fabric_bytes_per_s,
            self.ttft_level_s,
            self.tpot_level_s,
            self.calls.ttl_s,
            self.drafts,
        )

    @property
    def name(self) -> str:
        """For people; names of the problem may stand in it, so nothing is read out of it again."""
        return f"{self.calls.task.name} ({self.calls.variant.name}) {self.phase}, KV {self.residency}"


@dataclass(frozen=True)
class FlowBook:
    """All flows of an instance, and the numbers that the optimiser needs of them."""

    flows: tuple[CallFlow, ...]
    numbers: tuple[Flow, ...]
    commodities: tuple[Commodity, ...]
    calls_bound: Floats
    """[F] calls/s if the flow carried its whole task."""

    def select(self, phase: str, model: int, kv: str, vendor: str, drafts: int = 0) -> list[int]:
        """Indices of the flows that a block of columns offers, whose steps draft so many tokens."""
        return [
            f
            for f, flow in enumerate(self.flows)
            if flow.phase == phase
            and flow.model == model
            and flow.kv == kv
            and (phase == "colocated" or flow.vendor == vendor)
            and (phase != "decode" or flow.drafts == drafts)
        ]


def build_flows(
    instance: Instance, grids: Grids, calls: list[list[TaskCalls]], reach: Reach
) -> FlowBook:
    """Flows of every task variant under the instance's options."""
    names = [model.name for model in instance.models]
    flows: list[CallFlow] = []
    for task, variants in enumerate(calls):
        for item in variants:
            model = names.index(item.variant.model)
            for kv in instance.models[model].kv:
                if instance.options.disaggregation != "always":
                    flows += _colocated(instance, grids, task, item, model, kv, reach)
                if instance.options.disaggregation != "never":
                    for vendor in sorted(reach.links):
                        flows += _disaggregated(instance, grids, task, item, model, kv, vendor, reach)
    numbers: list[Flow] = []
    commodities: dict[Commodity, int] = {}
    for flow in flows:
        commodity = None
        sign = 0
        if flow.phase != "colocated":
            commodity = commodities.setdefault(flow.commodity, len(commodities))
            sign = 1 if flow.phase == "decode" else -1
        numbers.append(
            Flow(
                flow.name,
                flow.task,
                flow.phase != "decode",
                1.0 / flow.calls.calls_per_task,
                commodity,
                sign,
            )
        )
    bound = np.array([flow.calls.calls_per_s for flow in flows])
    return FlowBook(tuple(flows), tuple(numbers), tuple(commodities), bound)


def _colocated(
    instance: Instance, grids: Grids, task: int, calls: TaskCalls, model: int, kv: str, reach: Reach
) -> list[CallFlow]:
    links = tuple(each for found in reach.links.values() for each in found)
    return [
        CallFlow(task, kept, model, kv, "colocated", residency, "", fabric, np.inf, np.inf, Admission(), tier)
        for residency, tier, kept in _residencies(instance, grids, calls, ("colocated",))
        for fabric in (_fabrics(grids, calls, links) if tier else (np.inf,))
    ]


def _disaggregated(
    instance: Instance, grids: Grids, task: int, calls: TaskCalls, model: int, kv: str, vendor: str, reach: Reach
) -> list[CallFlow]:
    speculation = instance.models[model].speculation
    levels = []
    for drafts in (0, *(speculation.draft_tokens if speculation else ())):
        if (model, drafts) in reach.steps_s or not drafts:
            emits = accepted_of(speculation, drafts, calls)
            steps = reach.steps_s.get((model, drafts), (0.0, 0.0))
            levels += [(*pair, drafts, emits) for pair in latency_levels(grids, calls, steps, emits)]
    return [
        CallFlow(
            task, kept, model, kv, phase, residency, vendor, fabric, ttft, tpot, _admission(grids, tpot), tier,
            drafts, emits,
        )
        for residency, tier, kept in _residencies(instance, grids, calls, ("decode", "prefill"))
        for fabric in _fabrics(grids, calls, reach.links[vendor])
        for ttft, tpot, drafts, emits in levels
        for phase in ("prefill", "decode")
    ]  # fmt: skip


def _residencies(
    instance: Instance, grids: Grids, calls: TaskCalls, replicas: tuple[str, ...]
) -> list[tuple[str, MemoryOption | None, TaskCalls]]:
    """Where KV may stay between calls, and for how long: on `replicas`, in a tier, or nowhere."""
    if not calls.reuses():
        return [("drop", None, calls)]
    places: list[tuple[str, MemoryOption | None]] = [(replica, None) for replica in replicas]
    places += [(f"tier:{tier.name}", tier) for tier in instance.memory if "parked" in tier.holds]
    worth = [kept for kept in _times_to_live(grids, calls) if kept.kept > _TTL_WORTH]
    found = [(name, tier, kept) for name, tier in places for kept in worth]
    return [*found, ("drop", None, calls)]


def _times_to_live(grids: Grids, calls: TaskCalls) -> list[TaskCalls]:
    """The task's time-to-live, or those of the grid that keep more sessions than the one below by a worth."""
    if not calls.task.prefix_ttl_free:
        return [calls]
    found: list[TaskCalls] = []
    for ttl in grids.ttls_s:
        kept = calls.kept_for(ttl)
        if kept.kept - (found[-1].kept if found else 0.0) > _TTL_WORTH:
            found.append(kept)
    return found


def _admission(grids: Grids, tpot: float) -> Admission:
    """What a TPOT level allows to count on until a call's first decode step has ended."""
    usual = _next(grids.admission_s, tpot)
    quick = min(usual, _next(grids.quick_admission_s, tpot))
    return Admission(ADMISSION_STEPS * usual, ADMISSION_STEPS * quick, grids.quick_ttft_s)


def _next(levels: tuple[float, ...], value: float) -> float:
    """The least level that is no less than a value; the value itself above them all."""
    return next((level for level in levels if level >= value), value)


def _fabrics(grids: Grids, calls: TaskCalls, links: tuple[float, ...]) -> tuple[float, ...]:
    """Levels by the task's long contexts alone (an SLO must not move them); 100 KB a token as a scale.

    Slower ones for hardware whose fastest replica (`links`) is not as fast as those.
    """
    points = calls.population
    order = np.argsort(points.context)
    long_context = float(points.context[order][np.searchsorted(np.cumsum(points.weight[order]), 0.9)])
    levels = grids.fabrics_bytes_per_s
    seconds = [long_context * 1e5 / level for level in levels]
    enough, slow = _FABRIC_WORTH_S
    useful = [
        level
        for i, level in enumerate(levels)
        if (i == 0 or seconds[i - 1] > enough)
        and (seconds[i] <= slow or i == len(levels) - 1 or min(links, default=np.inf) < levels[i + 1])
    ]
    slower = [[s for s in grids.slow_fabrics_bytes_per_s if s <= link][-1:] for link in links if link < levels[0]]
    return (*sorted({level for nearest in slower for level in nearest}), *useful)


def latency_levels(
    grids: Grids, calls: TaskCalls, steps_s: tuple[float, float], emits: Accepted = ONE_TOKEN
) -> list[tuple[float, float]]:
    """(TTFT level, step level) pairs that a task's commodities may have, the TTFT loosest for each step.

    Without a task-latency SLO TTFT needs no level, and the TPOT level is the admission step that the TTFT
    counts on.  With one, each TPOT level takes the longest TTFT level that still fits the task's latency.
    `steps_s` are the shortest and the longest step of an empty batch of any configuration, which `emits` its tokens.
    """
    task = calls.task
    limits = [emits.target(metric, t) for metric in ("tpot", "itl") for _, t in getattr(task, f"{metric}_slo")]
    target = min(limits, default=np.inf)
    if not task.task_latency_slo:
        levels = grids.admissions(steps_s[1])
        if min((seconds for _, seconds in task.ttft_slo), default=np.inf) < grids.quick_ttft_s:
            levels = [*grids.quick_admission_s, *levels]
        first = next((level for level in levels if level >= target), levels[-1])
        return [(np.inf, level) for level in levels if level <= first]
    # Levels above the first that reaches the target of steps add no decode column and cost latency.
    levels = grids.tpot_levels(*steps_s)
    useful = next((i for i, level in enumerate(levels) if level >= target), len(levels) - 1)
    # A mean or deviation of the TTFT beyond this would break the TTFT's own SLO: a higher level adds nothing.
    enough = min((seconds / (1.0 - p) ** 0.5 for p, seconds in task.ttft_slo), default=np.inf)
    pairs: list[tuple[float, float]] = []
    for tpot in levels[: useful + 1][::-1]:
        fitting = [t for t in grids.ttft_levels_s if task_latency_holds(calls, t, t, tpot / emits.tpot)]
        if fitting and (not pairs or max(fitting) > pairs[-1][0]):
            pairs.append((max(fitting), tpot))
            if max(fitting) >= enough:
                break
    return pairs


def task_latency_holds(calls: TaskCalls, ttft_mean: float, ttft_sd: float, tpot: float) -> bool:
    """Do all task-latency SLOs hold when each call's TTFT and TPOT are as given?"""
    return all(
        bool(task_latency_probability(calls, ttft_mean, ttft_sd, tpot, seconds) >= percentile - 1e-12)
        for percentile, seconds in calls.task.task_latency_slo
    )


def task_latency_probability(
    calls: TaskCalls,
    ttft_mean: Floats | float,
    ttft_sd: Floats | float,
    tpot: Floats | float,
    limit: float,
) -> Floats:
    """P(task latency ≤ limit), composed from means and variances along the chain (DESIGN 3.5).

    At `population` the number of calls follows its distribution; at `reference` it is the median number.
    """
    points = calls.population
    output = float(points.weight @ points.output)
    output_variance = max(0.0, float(points.weight @ points.output**2) - output**2)
    mean = np.asarray(ttft_mean + output * np.asarray(tpot), dtype=np.float64)
    variance = np.asarray(ttft_sd**2 + output_variance * np.asarray(tpot) ** 2, dtype=np.float64)
    numbers, weights = chain_lengths(calls)
    probability = np.zeros(np.broadcast(mean, variance).shape)
    for count, weight in zip(numbers.tolist(), weights.tolist(), strict=True):
        middle, spread = chain_moments(calls, count, mean, variance)
        probability = probability + weight * ndtr((limit - middle) / spread)
    return np.asarray(probability, dtype=np.float64)


def chain_lengths(calls: TaskCalls) -> tuple[Floats, Floats]:
    """([n] numbers of calls, [n] probabilities) over which a task-latency SLO is taken."""
    if calls.task.task_latency_at == "reference":
        return np.array([calls.task.calls.quantile(0.5) * calls.variant.calls_factor]), np.ones(1)
    return calls.population.calls_values, calls.population.calls_weights


def chain_moments(
    calls: TaskCalls, count: Floats | float, call_mean: Floats | float, call_variance: Floats | float
) -> tuple[Floats, Floats]:
    """Mean and deviation (s) of a task of `count` calls that take `call_mean` s, with `call_variance` s², each.

    Tools run between calls: none follows the last one, so `count` calls have `count` − 1 waits.
    """
    waits, wait = np.maximum(np.asarray(count, dtype=np.float64) - 1.0, 0.0), calls.task.tool_wait
    variance = count * np.asarray(call_variance) + waits * wait.variance
    return np.asarray(count * np.asarray(call_mean) + waits * wait.mean), np.sqrt(np.maximum(variance, 1e-18))
