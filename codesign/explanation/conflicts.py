"""Why a problem has no plan: conflicting requirements in its file's words, and the least that would help."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData
from codesign.explanation.schema import Conflict, Explanation, Relaxation
from codesign.optimize.alone import first_columns
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.infeasible import Infeasibility, diagnose
from codesign.optimize.requirements import (
    TASK,
    Requirement,
    WholeConflict,
    by_the_accelerator,
    filter_requirements,
    limit_as_objective,
    measurable,
    without_limit,
    without_minimum,
    without_task,
)
from codesign.problem.instance import Instance, PurchaseUnit, SloLevels, TaskClass

_FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Multiples of an SLO that are tried to find what it would have to be."""


def explain_infeasible(
    candidates: Candidates, plan: FleetPlan, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> Explanation:
    """Conflicting requirements, and the least relaxation, of a problem without a plan."""
    deadline = time.monotonic() + seconds
    relaxed = np.isfinite(plan.bound)  # then the relaxation has a plan, and whole numbers have none
    found = None if relaxed else diagnose(candidates.data, seconds, tell)
    if found is None:
        return _whole_numbers(candidates, deadline - time.monotonic(), tell)
    if found.unserved:
        conflicts: list[Conflict] = []
        relaxations: list[Relaxation] = []
        for c in found.unserved:
            where, own, _ = _stated(candidates.instance, c)
            for conflict, relaxation in _unserved(where, own, deadline - time.monotonic(), tell):
                conflicts.append(conflict)
                if relaxation is not None:
                    relaxations.append(relaxation)
        return Explanation(False, tuple(conflicts), tuple(relaxations))
    return _limits(candidates.instance, found)


def _stated(instance: Instance, c: int) -> tuple[Instance, int, str]:
    """The instance that states task `c` of the fleet problem, its place there, and in which period and scenario."""
    for stage in instance.stages:
        if c < len(stage.instance.tasks):
            return stage.instance, c, stage.named("")
        c -= len(stage.instance.tasks)
    return instance, c, ""


def _limits(instance: Instance, found: Infeasibility) -> Explanation:
    """What the relaxation cannot keep."""
    alone = {i.limit for i in found.limits}
    conflicts = [Conflict(i.limit, i.unit, i.allowed, i.needed) for i in found.limits]
    # Limits beyond the minimal set that would stand in the way next: they have to give way too.
    conflicts += [Conflict(i.limit, i.unit, i.allowed, None) for i in found.together if i.limit not in alone]
    stated = [_stated(instance, c) for c in found.tasks]
    rates = [(f"tasks.{i.tasks[own].name}.rate{when}", i.tasks[own].rate_per_s) for i, own, when in stated]
    conflicts += [Conflict(name, "tasks/s", rate, None) for name, rate in rates]
    relaxations = [
        Relaxation(i.limit, i.unit, i.allowed, i.needed, "together with the other steps, the rest unchanged")
        for i in found.together
        if i.needed is not None
    ]
    if found.servable < 1.0:
        note = "instead of moving any limit, all tasks of the conflict scaled down alike"
        relaxations += [
            Relaxation(name, "tasks/s", rate, rate * found.servable, note) for name, rate in rates
        ]
    notes = [f"{name}: the clock ended before it was clear whether it takes part" for name in found.undecided]
    notes.append("figures of the relaxation: whole servers and replicas may need a little more")
    return Explanation(False, tuple(conflicts), tuple(relaxations), notes=tuple(notes))


# ---- what only whole numbers feel ------------------------------------------------------------------------------


def _whole_numbers(candidates: Candidates, seconds: float, tell: Callable[[str], None]) -> Explanation:
    """The relaxation has a plan, whole servers, designs and spares have none."""
    options = candidates.instance.options
    found = filter_requirements(
        candidates.data, requirements(candidates), seconds, options.threads, options.seed, tell
    )
    if found is None:
        note = "no conflict: a plan that meets everything turned up while looking for one. Give `solve` more time"
        return Explanation(False, notes=(note,))
    conflicts = tuple(Conflict(r.name, r.unit, r.allowed, needed) for r, needed in found.members)
    return Explanation(False, conflicts, _ways(found), notes=_said(found))


def _said(found: WholeConflict) -> tuple[str, ...]:
    notes = ["fractions of servers, replicas and designs would do: only whole numbers conflict"]
    if not found.proven:
        notes.append("no plan was found in the time of the search; that there is none is not proven")
        notes.append(
            "a plan was found without each of these alone, so each takes part in every conflict; others may do so, too"
            if found.members
            else "in the time of the search no requirement was found without which alone there is a plan"
        )
    notes += [
        f"{name}: it could not be shown in time that it takes part; the conflict may do without it"
        for name in found.undecided
    ]
    if found.unexplored:
        notes.append(f"no time was left for {', '.join(found.unexplored)}")
    return tuple(notes)


def _ways(found: WholeConflict) -> tuple[Relaxation, ...]:
    """Each requirement that may give way alone, the least change first."""
    steps = []
    for r, needed in found.members:
        if needed is not None:
            steps.append((abs(needed / r.allowed - 1.0) if r.allowed and needed else np.inf, r, needed))
    steps.sort(key=lambda step: step[0])
    first, other = "the least change that is enough alone", "enough alone, too"
    return tuple(
        Relaxation(r.name, r.unit, r.allowed, needed, first if n == 0 else other)
        for n, (_, r, needed) in enumerate(steps)
    )


def requirements(candidates: Candidates) -> list[Requirement]:
    """What the file asks for, each with the fleet without it; those that seldom conflict first."""
    instance, data = candidates.instance, candidates.data
    found = [
        Requirement(
            f"tasks.{name}.rate", "tasks/s", float(data.demand[c]), TASK, partial(_without_task, name=name)
        )
        for c, name in enumerate(data.tasks)
    ]
    found += [
        Requirement(
            limit.name,
            limit.unit,
            limit.limit,
            "limit",
            partial(without_limit, name=limit.name),
            measured=partial(limit_as_objective, name=limit.name) if measurable(limit) else None,
        )
        for limit in data.limits
        if not limit.per_flow  # what tiers and ports hold: nobody's wish
    ]
    for offer, sold in zip(data.offers, candidates.sold, strict=True):
        if offer.min_servers > 1 and isinstance(sold, tuple):
            of, price = sold
            whole = isinstance(of, PurchaseUnit)
            size = 1 if whole else data.hardware[offer.hardware].accelerators
            found.append(
                Requirement(
                    f"{'purchase_units' if whole else 'hardware'}.{of.name}.offers.{price.name}.min",
                    "units" if whole else "accelerators",
                    float(offer.min_servers * size),
                    "purchase",
                    partial(without_minimum, offer=offer.name),
                    used=partial(_taken, offer=offer.name, size=size),
                )
            )
    found += [
        Requirement(
            f"hardware.{item.name}.server.accelerators",
            "accelerators",
            float(item.accelerators),
            "purchase",
            partial(by_the_accelerator, hardware=item.name),
            used=lambda data, plan: 1.0,
        )
        for item in {h.name: h for h in data.hardware[: len(instance.hardware)]}.values()
        if item.accelerators > 1 and not any(item.name in unit.hardware for unit in instance.units)
    ]
    found += _structure(data)
    order = ("limit", "purchase", "shape", TASK)
    return sorted(found, key=lambda r: order.index(r.kind))


def _structure(data: FleetData) -> list[Requirement]:
    """Requirements on the fleet's shape."""
    found = []
    if not data.split_tasks:
        found.append(
            Requirement(
                "options.split_tasks",
                "pools a task",
                1.0,
                "shape",
                lambda d: replace(d, split_tasks=True),
                used=_pools_a_task,
            )
        )
    if data.max_vendors is not None:
        found.append(
            Requirement(
                "limits.vendors",
                "vendors",
                float(data.max_vendors),
                "shape",
                lambda d: replace(d, max_vendors=None),
                lambda d, value: replace(d, max_vendors=int(value)),
                _vendors,
            )
        )
    if data.survive_one_server:
        found.append(
            Requirement(
                "redundancy.survive", "servers lost", 1.0, "shape", lambda d: replace(d, survive_one_server=False)
            )
        )
    if data.max_designs is not None:
        found.append(
            Requirement(
                "limits.max_designs",
                "designs",
                float(data.max_designs),
                "shape",
                lambda d: replace(d, max_designs=None),
                lambda d, value: replace(d, max_designs=int(value)),
                _designs,
            )
        )
    return found


def _without_task(data: FleetData, name: str) -> FleetData:
    return without_task(data, data.tasks.index(name))


def _taken(data: FleetData, plan: FleetPlan, offer: str, size: int) -> float:
    """What a plan takes of an offer, in things of which one server or unit has `size`."""
    o = next(i for i, item in enumerate(data.offers) if item.name == offer)
    return float(plan.servers.get(o, 0) * size)


def _groups(data: FleetData, plan: FleetPlan) -> set[int]:
    return {int(data.blocks[b].group[i]) for b, i in data.locate(list(plan.replicas))}


def _designs(data: FleetData, plan: FleetPlan) -> float:
    return float(len(_groups(data, plan)))


def _vendors(data: FleetData, plan: FleetPlan) -> float:
    return float(len({data.hardware[row].vendor for o in plan.servers for row in data.offers[o].supplies}))


def _pools_a_task(data: FleetData, plan: FleetPlan) -> float:
    pools: dict[tuple[int, bool], set[int]] = {}
    for column, f in plan.rates:
        pools.setdefault((data.flows[f].task, data.flows[f].serves), set()).add(column)
    return float(max(map(len, pools.values())))


# ---- tasks that nothing can serve ------------------------------------------------------------------------------


def _unserved(
    instance: Instance, c: int, seconds: float, tell: Callable[[str], None]
) -> list[tuple[Conflict, Relaxation | None]]:
    """What keeps a task from every configuration: its SLOs, or the hardware and models on offer."""
    deadline = time.monotonic() + seconds
    task = instance.tasks[c]
    found: list[tuple[Conflict, Relaxation | None]] = []
    if task.variants:
        for metric in ("ttft", "tpot", "task_latency"):
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
            for metric in ("ttft", "tpot", "task_latency")
            for p, seconds in getattr(task, f"{metric}_slo")
        ]
        bare = replace(task, ttft_slo=(), tpot_slo=(), task_latency_slo=())
        if task.variants and _servable(instance, bare):
            found = [(Conflict(name, "s", target, None), None) for name, target in limits]
        else:
            found = [
                (Conflict(f"tasks.{task.name}: no hardware on offer can serve it", "", 0.0, None), None)
            ]
    return found


def _eased(task: TaskClass, metric: str, factor: float) -> TaskClass:
    levels: SloLevels = getattr(task, f"{metric}_slo")
    eased = tuple((p, seconds * factor) for p, seconds in levels)
    return replace(task, **{f"{metric}_slo": eased})  # type: ignore[arg-type]


def _servable(instance: Instance, task: TaskClass) -> bool:
    """Does any configuration serve the task alone, limits aside?"""
    alone = replace(instance, tasks=(task,), measured_pools=())
    _, _, cost = first_columns(build_candidates(alone).data)
    return bool(np.all(np.isfinite(cost)))
