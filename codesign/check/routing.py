"""Demand: every task's calls are routed, by as many pools as the problem allows."""

from __future__ import annotations

from codesign.check.plan import Plan
from codesign.check.report import Findings


def check_demand(plan: Plan, findings: Findings) -> None:
    """Tasks served per second are the tasks that arrive: none left out, none counted twice."""
    served = {task.name: 0.0 for task in plan.instance.tasks}
    for route in plan.routes:
        served[route.calls.task.name] += route.calls.tasks_per_s
    for measured in plan.measured_routes:
        served[measured.entry.task] += measured.entry.calls_per_s
    for task in plan.instance.tasks:
        findings.equal(f"task {task.name}: tasks served per second", served[task.name], task.rate_per_s)


def check_unsplit(plan: Plan, findings: Findings) -> None:
    """With `split_tasks: false` each phase of a task has one pool."""
    if plan.instance.options.split_tasks:
        return
    for task in plan.instance.tasks:
        mine = [r for r in plan.solution.routing if r.task == task.name and r.calls_per_s > 0]
        for phase, pools in (
            ("prefill", {r.prefill_pool for r in mine}),
            ("decode", {r.decode_pool for r in mine}),
        ):
            findings.at_most(
                f"task {task.name}: pools of one task ({phase}) with split_tasks: false", len(pools), 1
            )


def check_measured(plan: Plan, findings: Findings) -> None:
    """Σ rate/max_rate ≤ replicas of each measured pool (DESIGN 4.3), and the share that it reports."""
    for name, pool in plan.measured.items():
        rates = pool.source.max_rate_per_s
        load = sum(
            route.entry.calls_per_s / rates[route.entry.task]
            for route in plan.measured_routes
            if route.pool is pool
        )
        findings.at_most(f"pool {name}: Σ rate/max_rate against its replicas", load, pool.entry.replicas)
        reported = pool.entry.utilization.busy
        if reported is not None:
            findings.equal(f"pool {name}: utilization.busy", reported, load / pool.entry.replicas, 1e-6)
