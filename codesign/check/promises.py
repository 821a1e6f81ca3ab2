"""SLOs: percentiles of TTFT, TPOT, ITL and task latency of each task, over all the routes that its calls take."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr

from codesign.check.operation import PoolState, reload_seconds, stack_seconds, ttft_parts
from codesign.check.plan import ModelledRoute, Plan
from codesign.check.report import REPORT_TOLERANCE, Findings
from codesign.performance.drafts import accepted
from codesign.performance.queueing import wait_exceeds
from codesign.problem.instance import TaskClass

Late = Callable[[float], float]
"""P(value > t)."""
_SEVERAL_DAYS_S = 1e6


def check_slos(plan: Plan, states: Mapping[str, PoolState], findings: Findings) -> None:
    """Every SLO of every task that modelled pools serve holds, and is reported as it is."""
    reported = {task.name: task for task in plan.solution.tasks}
    for task in plan.instance.tasks:
        routes = [r for r in plan.routes if r.calls.task.name == task.name and r.calls.rate > 0]
        if not routes or task.name not in reported:
            continue
        entries = {(str(e.metric), round(e.percentile, 9)): e for e in reported[task.name].slo}
        for metric, levels in _promised(task):
            tails = [_LATE[metric](route, states) for route in routes]
            late = mixture(routes, tails, [_steps(r) if metric == "itl" else 1.0 for r in routes])
            for percentile, target in levels:
                name = f"task {task.name}: {metric} p{100 * percentile:g}, seconds"
                achieved = quantile(late, percentile)
                findings.at_most(name, achieved, target)
                entry = entries.pop((metric, round(percentile, 9)), None)
                if entry is None:
                    findings.fail(f"{name}: reported", "an entry in the task's slo", None)
                    continue
                findings.equal(f"{name}: target as in the problem", entry.target, target)
                findings.equal(f"{name}: achieved as reported", entry.achieved, achieved, REPORT_TOLERANCE)
                findings.at_most(f"{name}: reported", entry.achieved, target)
        for metric, percentile in entries:
            findings.fail(f"task {task.name}: SLO of the problem", None, f"{metric} p{100 * percentile:g}")


def mixture(routes: list[ModelledRoute], tails: list[Late], each: list[float]) -> Late:
    """The tail over all calls of a task, whichever route they take; each counts so many times."""
    rates = [route.calls.rate * count for route, count in zip(routes, each, strict=True)]
    shares = [rate / max(sum(rates), 1e-300) for rate in rates]
    return lambda t: sum(share * late(t) for share, late in zip(shares, tails, strict=True))


def quantile(late: Late, percentile: float) -> float:
    """Least t with P(value > t) ≤ 1 − percentile, by bisection; inf beyond days."""
    allowed = 1.0 - percentile + 1e-12
    low, high = 0.0, _SEVERAL_DAYS_S
    if not late(high) <= allowed:
        return float("inf")
    while high - low > 1e-10 * high:
        middle = 0.5 * (low + high) if low > 0 else min(0.5 * high, 1e-3 * high + 1e-12)
        low, high = (low, middle) if late(middle) <= allowed else (middle, high)
        if high < 1e-9:
            break
    return high


def _steps(route: ModelledRoute) -> float:
    """Of an answer, on average: as many gaps, and one."""
    points = route.calls.population
    return float(points.weight @ points.output) / accepted(route.decode.table, route.calls).tokens


def _promised(task: TaskClass) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
    steps = ("tpot", task.tpot_slo), ("itl", task.itl_slo)
    return ("ttft", task.ttft_slo), *steps, ("task_latency", task.task_latency_slo)


def _ttft(route: ModelledRoute, states: Mapping[str, PoolState]) -> Late:
    queue, decode = states[route.prefill.entry.pool], states[route.decode.entry.pool]
    if queue.colocated is not None:
        late, start = queue.colocated.first_late(route, reload_seconds(route)), stack_seconds(route)
        return lambda t: late(t - start)
    weight, rest = ttft_parts(route, queue, decode)
    return lambda t: float(weight @ wait_exceeds(t - rest, queue.wait_s, queue.busy, queue.servers, queue.skew))


def _tpot(route: ModelledRoute, states: Mapping[str, PoolState]) -> Late:
    decode = states[route.decode.entry.pool]
    if decode.colocated is not None:
        return decode.colocated.late(route)
    step, emits = _step(decode), accepted(route.decode.table, route.calls)
    return lambda t: step(emits.target("tpot", t))


def _itl(route: ModelledRoute, states: Mapping[str, PoolState]) -> Late:
    decode = states[route.decode.entry.pool]
    return _step(decode) if decode.colocated is None else decode.colocated.gap_late(route)


def _step(decode: PoolState) -> Late:
    """Of steps in which nothing but answers is written."""
    deviation = max(decode.step_sd_s, 1e-12)
    return lambda t: float(ndtr((decode.step_s - t) / deviation)) if np.isfinite(decode.step_s) else 1.0


def call_moments(route: ModelledRoute, states: Mapping[str, PoolState]) -> tuple[float, float]:
    """Mean and variance (s, s²) of one call, without the tool wait that may follow it."""
    queue, decode = states[route.prefill.entry.pool], states[route.decode.entry.pool]
    if not (np.isfinite(queue.wait_s) and np.isfinite(decode.step_s)):
        return np.inf, np.inf
    points = route.calls.population
    weight, rest = ttft_parts(route, queue, decode)
    first = float(weight @ rest)
    wait, wait_variance = queue.wait_moments()
    ttft_variance = float(weight @ (rest - first) ** 2) + wait_variance
    if decode.colocated is not None:
        decoding, variance = decode.colocated.decoding_moments(route)
        return wait + first + decoding, ttft_variance + variance
    emits = accepted(route.decode.table, route.calls)
    number = points.output / emits.tokens
    steps = float(points.weight @ number)
    steps_variance = float(points.weight @ (number - steps) ** 2) + emits.scatter * steps
    return wait + first + steps * decode.step_s, ttft_variance + steps_variance * decode.step_s**2


def _task_latency(route: ModelledRoute, states: Mapping[str, PoolState]) -> Late:
    mean, variance = call_moments(route, states)
    calls = route.calls
    numbers, weights = calls.population.calls_values, calls.population.calls_weights
    if calls.task.task_latency_at == "reference":
        numbers = np.array([calls.task.calls.quantile(0.5) * calls.variant.calls_factor])
        weights = np.ones(1)
    if not np.isfinite(mean):
        return lambda t: 1.0
    # The last call is followed by no tool.
    tool, between = calls.task.tool_wait, np.maximum(numbers - 1.0, 0.0)
    spread = np.sqrt(np.maximum(numbers * variance + between * tool.variance, 1e-18))
    middle = numbers * mean + between * tool.mean
    return lambda t: float(weights @ ndtr((middle - t) / spread))


_LATE: dict[str, Callable[[ModelledRoute, Mapping[str, PoolState]], Late]] = {
    "ttft": _ttft,
    "tpot": _tpot,
    "itl": _itl,
    "task_latency": _task_latency,
}
