"""Pools within their limits: memory, slots, links, queues and steps, and what they report of themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.check.operation import PoolState, operate, operate_all
from codesign.check.plan import ModelledPool, Plan
from codesign.check.report import REPORT_TOLERANCE, SHARE_TOLERANCE, Findings
from codesign.performance import EngineMemory, kv_bytes, kv_capacity_bytes

_STEADY = 4.0
"""Percent more sequences that one percent more calls may bring: beyond it batches run away."""


def check_pools(plan: Plan, findings: Findings) -> dict[str, PoolState]:
    """Operate every modelled pool, hold it to its limits, and return the states by pool."""
    states = operate_all(plan)
    for name, pool in plan.modelled.items():
        state = states[name]
        _check_limits(pool, state, findings)
        if pool.entry.replicas_by_rows is not None:
            _check_fewer(pool, state, plan, findings)
        _check_longest(pool, plan, findings)
        if plan.routes_of(pool):
            _check_report(pool, state, findings)
    return states


def _check_limits(pool: ModelledPool, state: PoolState, findings: Findings) -> None:
    name, entry = f"pool {pool.entry.pool}", pool.entry
    if not np.isfinite(state.step_s):
        findings.fail(f"{name}: step time at the fixed point", "a finite one", "overloaded")
        return
    for what, share in (
        ("memory at the planning percentile, share of the room", state.memory_share),
        ("sequences at the planning percentile, share of the slots", state.slots_share),
        ("link, share in its busier direction", state.link_share),
    ):
        findings.at_most(f"{name}: {what}", share, 1.0)
    if not state.busy < 1.0:
        findings.fail(f"{name}: load of the prompt queue", 1.0, state.busy)
    if entry.replicas_by_rows is not None:  # its limits name the point: `_check_fewer`
        return
    # Design limits are the planner's own promises: the unlinearised pool must keep them too.
    for word, limit, found in (
        # Of a colocated pool it is what promises of TPOT leave, perhaps of a median: they are checked themselves.
        ("step_limit_s", entry.step_limit_s if entry.role != "colocated" else None, state.step_s),
        ("utilization_limit", entry.utilization_limit, state.busy),
        ("wait_limit_s", entry.wait_limit_s, state.wait_s),
    ):
        if limit is not None:
            findings.at_most(f"{name}: {word}", found, limit)


def _check_fewer(pool: ModelledPool, state: PoolState, plan: Plan, findings: Findings) -> None:
    """A pool of fewer replicas than its operating point asks for: what every pool has to keep beside its promises."""
    name, options, rows = f"pool {pool.entry.pool}", plan.instance.options, pool.entry.replicas_by_rows
    findings.at_least(f"{name}: replicas_by_rows", rows or 0, pool.entry.replicas + 1)
    findings.at_most(f"{name}: options.max_utilization", state.busy, options.max_utilization)
    findings.at_most(f"{name}: memory in 99 of 100 moments, share of the room", state.fullest_share, 1.0)
    if pool.entry.role != "prefill":
        more = [replace(r, calls=replace(r.calls, rate=1.01 * r.calls.rate)) for r in plan.routes_of(pool)]
        fuller = operate(pool, more, options).batch
        findings.at_most(f"{name}: batch under one percent more calls", fuller, 1.01**_STEADY * state.batch)


def _check_longest(pool: ModelledPool, plan: Plan, findings: Findings) -> None:
    """A call that is alone fits into an attention group: engines refuse one that does not."""
    options = plan.instance.options
    memory = EngineMemory.of(options, pool.table, pool.entry.role, pool.entry.prefill_chunk)
    room = float(kv_capacity_bytes(pool.table, memory)[0])
    room /= float(pool.table.dp[0])
    for route in plan.routes_of(pool):
        points = route.calls.population
        answer = 0.0 if pool.entry.role == "prefill" else 1.0
        longest = float((points.context + answer * points.output)[points.weight > 0].max())
        held = float(kv_bytes(pool.table, np.array([longest]))[0, 0])
        findings.at_most(f"pool {pool.entry.pool}: bytes of the longest call of {route.calls.task.name}", held, room)


def _check_report(pool: ModelledPool, state: PoolState, findings: Findings) -> None:
    entry, shares = pool.entry, pool.entry.utilization
    stepping = entry.role != "prefill"
    queueing = entry.role in ("prefill", "colocated")
    if stepping:
        _as_reported(pool, "step_time_s", entry.step_time_s, state.step_s, findings)
        _as_reported(pool, "batch", entry.batch, state.batch, findings)
    if queueing:
        _as_reported(pool, "wait_s", entry.wait_s, state.wait_s, findings)
    for word, reported, found in (
        ("compute", shares.compute, state.compute_share),
        ("bandwidth", shares.bandwidth, state.bandwidth_share),
        ("capacity", shares.capacity, state.memory_share),
        ("link", shares.link, state.link_share),
        ("slots", shares.slots, state.slots_share),
        ("busy", shares.busy, state.busy),
    ):
        if reported is not None and not abs(reported - found) <= SHARE_TOLERANCE:
            findings.fail(f"pool {entry.pool}: utilization.{word} as reported", found, reported)


def _as_reported(
    pool: ModelledPool, word: str, reported: float | None, found: float, findings: Findings
) -> None:
    findings.equal(f"pool {pool.entry.pool}: {word} as reported", reported, found, REPORT_TOLERANCE)
