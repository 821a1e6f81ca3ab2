"""A task variant's calls as weighted points: what prefill computes, what decode reads, what is kept and moved.

The points are the call population's quadrature, so every moment that the rows need (E[o·r²], E[S²],
E[T·bytes²], …) is a weighted sum over them and no product of means stands for a mean of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import Floats
from codesign.catalog import ModelCard
from codesign.problem.instance import TaskClass, Variant
from codesign.workload.population import (
    CallPopulation,
    call_population,
    held_seconds,
    kept_probability,
    prompt_lengths,
)


@dataclass(frozen=True)
class PrefillPoints:
    """[J] prompts as a prefill worker sees them under one residency policy."""

    weight: Floats
    context: Floats
    cached: Floats
    """Tokens whose KV is there before the call: the shared prefix, and what the policy kept."""
    output: Floats

    @property
    def new(self) -> Floats:
        """[J] tokens to compute."""
        return np.maximum(self.context - self.cached, 1.0)


@dataclass(frozen=True)
class TaskCalls:
    """The calls of one task under one variant."""

    task: TaskClass
    variant: Variant
    population: CallPopulation
    ttl_s: float
    """Time-to-live of the KV of an idle session."""
    kept: float
    """P(a session's KV is still there when its next call comes)."""
    held_s: float
    """Mean seconds that KV stays after a call, time-to-live of ended tasks included."""

    def kept_for(self, ttl_s: float) -> TaskCalls:
        """The same calls with another time-to-live."""
        held, _ = held_seconds(self.task, ttl_s, self.variant.calls_factor)
        return replace(self, ttl_s=ttl_s, kept=kept_probability(self.task, ttl_s), held_s=held)

    @property
    def calls_per_task(self) -> float:
        """Mean calls of a task under this variant."""
        return self.population.calls_mean

    @property
    def calls_per_s(self) -> float:
        """Calls per second if this variant served the whole task class."""
        return self.task.rate_per_s * self.calls_per_task

    @property
    def shared(self) -> float:
        """Tokens of the prefix that every session of the task shares."""
        return self.task.prefix_shared_tokens

    def reuses(self) -> bool:
        """Is there anything to keep between calls beyond the shared prefix?"""
        points = self.population
        return bool(np.any(points.reusable > np.minimum(self.shared, points.context) + 0.5))

    def first_points(self, residency: str) -> PrefillPoints:
        """The same as `prefill_points`, finer where nothing is kept: for the tail of TTFT."""
        if residency != "drop":
            return self.prefill_points(residency)
        weight, context = prompt_lengths(self.task, self.population)
        return _merged(weight, context, np.minimum(self.shared, context - 1.0), np.zeros_like(context))

    def prefill_points(self, residency: str) -> PrefillPoints:
        """Prompts under a residency policy: kept with P(kept), else only the shared prefix is there."""
        points = self.population
        shared = np.minimum(self.shared, points.context - 1.0)
        if residency == "drop" or not self.reuses():
            return _merged(points.weight, points.context, shared, points.output)
        hit = np.maximum(np.minimum(points.reusable, points.context - 1.0), shared)
        weight = np.concatenate([points.weight * self.kept, points.weight * (1.0 - self.kept)])
        twice = np.concatenate
        return _merged(
            weight,
            twice([points.context, points.context]),
            twice([hit, shared]),
            twice([points.output, points.output]),
        )


def _merged(weight: Floats, context: Floats, cached: Floats, output: Floats) -> PrefillPoints:
    """Points of equal prompt merged; their output becomes its mean (transfers back are linear in it)."""
    keep = weight > 0
    weight, context, cached, output = weight[keep], context[keep], cached[keep], output[keep]
    prompts, where = np.unique(np.stack([context, cached]), axis=1, return_inverse=True)
    total: Floats = np.bincount(where.ravel(), weights=weight).astype(np.float64)
    mean_output: Floats = np.bincount(where.ravel(), weights=weight * output).astype(np.float64) / total
    return PrefillPoints(total, prompts[0], prompts[1], mean_output)


def task_calls(task: TaskClass, cards: Mapping[str, ModelCard]) -> list[TaskCalls]:
    """One entry per admissible variant of a task; `cards` by model name."""
    ttl = task.prefix_ttl_s
    kept = kept_probability(task, ttl)
    entries = []
    for variant in task.variants:
        limit = float(cards[variant.model].max_context) if task.on_overlong == "truncate" else None
        population = call_population(task, variant, context_limit=limit)
        held, _ = held_seconds(task, ttl, variant.calls_factor)
        entries.append(TaskCalls(task, variant, population, ttl, kept, held))
    return entries
