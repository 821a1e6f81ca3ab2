"""The calls of one route as weighted points: what a prompt finds cached, computes, and leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.problem.instance import TaskClass, Variant
from codesign.workload.population import (
    CallPopulation,
    call_population,
    held_seconds,
    kept_probability,
    prompt_lengths,
)

if TYPE_CHECKING:
    from codesign.catalog import ModelCard

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prompts:
    """[J] prompts; lengths in tokens."""

    weight: Array
    context: Array
    cached: Array
    """Found in a cache: the shared prefix, or the session's own history."""
    output: Array

    @property
    def new(self) -> Array:
        """[J] tokens to compute: at least the last one, whose logits start the answer."""
        return np.maximum(self.context - self.cached, 1.0)

    def mean(self, values: Array) -> float:
        """Average over prompts of values [J]."""
        return float(self.weight @ values)


@dataclass(frozen=True, eq=False)
class Calls:
    """Calls of one task under one variant and KV policy."""

    task: TaskClass
    variant: Variant
    population: CallPopulation
    policy: str
    """decode | prefill | colocated | drop | tier:<name>: where a session's KV stays between its calls."""
    ttl_s: float
    """For how long it stays there unused."""
    rate: float
    """Calls per second on the route."""
    kept: float
    """P(a session's KV is still there when its next call comes)."""
    held_s: float
    """Mean seconds for which KV stays after a call."""

    @staticmethod
    def of(
        task: TaskClass, variant: Variant, card: ModelCard, policy: str, ttl_s: float, rate: float
    ) -> Calls:
        """Calls of a route.  Contexts beyond the card's limit are cut where the task says so."""
        limit = float(card.max_context) if task.on_overlong == "truncate" else None
        return Calls(
            task,
            variant,
            call_population(task, variant, context_limit=limit),
            policy,
            ttl_s,
            rate,
            kept_probability(task, ttl_s),
            held_seconds(task, ttl_s, variant.calls_factor)[0],
        )

    @property
    def shared(self) -> float:
        """Tokens of the prefix that all sessions of the task share."""
        return self.task.prefix_shared_tokens

    @property
    def tasks_per_s(self) -> float:
        """Tasks per second that these calls make up."""
        return self.rate / self.population.calls_mean

    def held_by(self, role: str) -> float:
        """Seconds for which a replica of a role keeps a session after each call."""
        return self.held_s if self.policy == role else 0.0

    def first_prompts(self) -> Prompts:
        """The same, in more lengths where nothing is kept: for the tail of TTFT."""
        if self.policy != "drop":
            return self.prompts()
        weight, context = prompt_lengths(self.task, self.population)
        return Prompts(weight, context, np.minimum(self.shared, context - 1.0), np.zeros_like(context))

    def prompts(self) -> Prompts:
        """Prompts under the policy: a kept history is found with P(kept), the shared prefix always."""
        points = self.population
        most = points.context - 1.0
        shared = np.minimum(self.shared, most)
        if self.policy == "drop":
            return Prompts(points.weight, points.context, shared, points.output)
        own = np.maximum(np.minimum(points.reusable, most), shared)
        return Prompts(
            np.concatenate((points.weight * self.kept, points.weight * (1.0 - self.kept))),
            np.tile(points.context, 2),
            np.concatenate((own, shared)),
            np.tile(points.output, 2),
        )
