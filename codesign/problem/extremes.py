"""What a value of `max_rate` or `slo_scale` means: the same problem with more demand, or with other SLOs."""

from __future__ import annotations

from dataclasses import replace

from codesign.problem.instance import Instance, TaskClass

EXTREMES = ("max_rate", "slo_scale")
"""Objectives that say how hard the problem may become."""


def at_extreme(instance: Instance, value: float) -> Instance:
    """The instance with its demand times `value` (max_rate), or its SLOs (slo_scale); stages alike."""
    change = _busier if instance.objective == "max_rate" else _with_slos
    return replace(
        instance,
        tasks=tuple(change(task, value) for task in instance.tasks),
        stages=tuple(replace(stage, instance=at_extreme(stage.instance, value)) for stage in instance.stages),
    )


def at_cost(instance: Instance) -> Instance:
    """The problem as it is stated, for its least cost per hour."""
    stages = tuple(replace(stage, instance=at_cost(stage.instance)) for stage in instance.stages)
    return replace(instance, objective="cost_per_hour", stages=stages)


def _busier(task: TaskClass, factor: float) -> TaskClass:
    return replace(task, rate_per_s=task.rate_per_s * factor)


def _with_slos(task: TaskClass, factor: float) -> TaskClass:
    def scaled(levels: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((percentile, seconds * factor) for percentile, seconds in levels)

    return replace(
        task,
        ttft_slo=scaled(task.ttft_slo),
        tpot_slo=scaled(task.tpot_slo),
        itl_slo=scaled(task.itl_slo),
        task_latency_slo=scaled(task.task_latency_slo),
    )
