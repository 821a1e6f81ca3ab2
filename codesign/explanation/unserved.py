"""Tasks that no configuration serves, whatever the limits: what their SLOs would have to be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from codesign.candidates.build import build_candidates
from codesign.clock import Clock, StoppedError
from codesign.explanation.schema import Conflict, Relaxation
from codesign.optimize.alone import first_columns
from codesign.planning import ANY_PLAN, enumerated, plan_fleet
from codesign.problem.instance import METRICS, Instance, SloLevels, TaskClass, Variant
from codesign.workload.population import call_population

_FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Multiples of an SLO that are tried to find what it would have to be."""
_SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the longest prompt that are tried to find what fits into a replica."""
_VERIFY_SHARE = 0.4
"""Of the time left, for a plan under one relaxation."""


def unserved(
    instance: Instance, c: int, seconds: float, tell: Callable[[str], None]
) -> list[tuple[Conflict, Relaxation | None]]:
    """What keeps a task from every configuration: its SLOs, or the hardware and models on offer."""
    deadline = time.monotonic() + seconds
    task = instance.tasks[c]
    found: list[tuple[Conflict, Relaxation | None]] = []
    if task.variants:
        for metric in METRICS:
            levels: SloLevels = getattr(task, f"{metric}_slo")
            if not levels:
                continue
            tell(f"tasks.{task.name}.slo.{metric}: what would it have to be")
            for factor in _FACTORS:
                if time.monotonic() > deadline or not _servable(instance, _eased(task, metric, 100.0)):
                    break
                if _servable(instance, _eased(task, metric, factor)):
                    percentile, target = levels[0]
                    name = f"tasks.{task.name}.slo.{metric}.p{percentile * 100:g}"
                    note = "the only change needed for this task; found on a grid of multiples"
                    found.append(
                        (
                            Conflict(name, "s", target, target * factor),
                            Relaxation(name, "s", target, target * factor, note),
                        )
                    )
                    break
    if not found:
        limits = [
            (f"tasks.{task.name}.slo.{metric}.p{p * 100:g}", seconds)
            for metric in METRICS
            for p, seconds in getattr(task, f"{metric}_slo")
        ]
        if task.variants and _servable(instance, task.unpromised):
            found = [(Conflict(name, "s", target, None), None) for name, target in limits]
        else:
            found = [(_too_long(instance, task, deadline), None)]
    return found


def _too_long(instance: Instance, task: TaskClass, deadline: float) -> Conflict:
    """How long prompts may be for a call to fit into a replica on offer; or that nothing serves it at any length."""
    longest = max((_longest_prompt(task, variant) for variant in task.variants), default=0.0)
    for share in _SHARES:
        if time.monotonic() > deadline:
            break
        variants = tuple(
            replace(variant, max_context=share * _longest_prompt(task, variant)) for variant in task.variants
        )
        if variants and _servable(instance, replace(task.unpromised, variants=variants)):
            name = f"tasks.{task.name}.context: longest prompt whose KV fits{_unlinked(instance)}"
            return Conflict(name, "tokens", longest, share * longest)
    return Conflict(f"tasks.{task.name}: no hardware on offer can serve it", "", 0.0, None)


def _unlinked(instance: Instance) -> str:
    """Which cards on offer serve by themselves alone, in words to add."""
    names = sorted({option.name for option in instance.hardware if option.unlinked})
    return f" ({', '.join(names)}: no link joins cards in servers of one)" if names else ""


def _longest_prompt(task: TaskClass, variant: Variant) -> float:
    return float(call_population(task, variant).context.max())


def eased(instance: Instance, ways: list[Relaxation], clock: Clock) -> list[Relaxation]:
    """The relaxations, verified where a plan of the problem is found under each and the first one of other tasks."""
    found: list[Relaxation] = []
    for way in ways:
        others = {other.limit.rsplit(".slo.", 1)[0]: other for other in reversed(ways)}
        chosen = {**others, way.limit.rsplit(".slo.", 1)[0]: way}
        clock.tell(f"is there a plan at {way.limit} of {way.needed:.4g} s")
        try:
            candidates = enumerated(_under(instance, list(chosen.values())), clock)
            plan = plan_fleet(candidates, ANY_PLAN, clock.part(clock.left() * _VERIFY_SHARE))
        except StoppedError:
            return [*found, *ways[len(found) :]]
        found.append(replace(way, verified=bool(plan.replicas)))
    return found


def _under(instance: Instance, ways: list[Relaxation]) -> Instance:
    """The instance, and each of its stages, with SLOs as relaxed."""
    tasks = []
    for task in instance.tasks:
        for way in ways:
            for metric in METRICS:
                if way.limit.startswith(f"tasks.{task.name}.slo.{metric}."):
                    task = _eased(task, metric, way.needed / way.allowed)
        tasks.append(task)
    stages = tuple(replace(stage, instance=_under(stage.instance, ways)) for stage in instance.stages)
    return replace(instance, tasks=tuple(tasks), stages=stages)


def _eased(task: TaskClass, metric: str, factor: float) -> TaskClass:
    levels: SloLevels = getattr(task, f"{metric}_slo")
    eased = tuple((p, seconds * factor) for p, seconds in levels)
    return replace(task, **{f"{metric}_slo": eased})  # type: ignore[arg-type]


def _servable(instance: Instance, task: TaskClass) -> bool:
    """Does any configuration serve the task alone, limits aside?"""
    alone = replace(instance, tasks=(task,), measured_pools=())
    _, _, cost = first_columns(build_candidates(alone, bounded=False).data)
    return bool(np.all(np.isfinite(cost)))
