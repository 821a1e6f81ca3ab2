"""Measured pools under random arrivals: all that is known of them is the rate that a replica sustains under its SLO.

So there is no TTFT to simulate, but there is a queue: a task takes 1/max_rate of a replica's time, and one that finds
every replica that busy waits. The wait comes on top of what was measured.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.check.plan import MeasuredRoute, Plan
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.report import Percentiles, PoolOutcome, Series, TaskOutcome, TtftParts, Use
from codesign.simulate.statistics import percentile, warm_up_s

Array = NDArray[np.float64]

_STREAM = 1 << 20
"""Sets the random numbers of measured pools apart from those of modelled ones."""


@dataclass(frozen=True, eq=False)
class Queue:
    """One measured pool; arrays [n] over its tasks in order of arrival."""

    routes: tuple[MeasuredRoute, ...]
    route: NDArray[np.int64]
    """Numbers of `routes`."""
    arrival_s: Array
    start_s: Array
    end_s: Array

    @property
    def wait_s(self) -> Array:
        """Seconds until a replica was free for it."""
        return self.start_s - self.arrival_s


def queues(plan: Plan, duration_s: float, seed: int, arrivals: Arrivals) -> dict[str, Queue]:
    """What happens in each measured pool of a plan, by name."""
    given: dict[str, list[tuple[MeasuredRoute, Array]]] = {name: [] for name in plan.measured}
    for t, task in enumerate(plan.instance.tasks):
        routes = [r for r in plan.measured_routes if r.entry.task == task.name and r.entry.calls_per_s > 0]
        if not routes:
            continue
        rates = np.array([route.entry.calls_per_s for route in routes])
        rng = np.random.default_rng([seed, t, _STREAM])
        trace = arrivals.traces.get(task.name)
        if trace is None:
            times = arrivals.times(float(rates.sum()), duration_s, rng)
        else:
            times, _ = trace.starts(float(rates.sum()) * trace.calls_mean, duration_s, rng)
        chosen = rng.choice(len(routes), times.size, p=rates / rates.sum())
        for i, route in enumerate(routes):
            given[route.pool.entry.pool].append((route, times[chosen == i]))
    return {name: _served(parts, plan.measured[name].entry.replicas) for name, parts in given.items() if parts}


def _served(parts: list[tuple[MeasuredRoute, Array]], replicas: int) -> Queue:
    """First come, first served by the replica that is free first."""
    routes = tuple(route for route, _ in parts)
    arrival = np.concatenate([times for _, times in parts])
    number = np.repeat(np.arange(len(parts)), [times.size for _, times in parts])
    order = np.argsort(arrival, kind="stable")
    arrival, number = arrival[order], number[order]
    service = np.array([1.0 / r.pool.source.max_rate_per_s[r.entry.task] for r in routes])[number]
    free = [0.0] * replicas
    start = np.empty(arrival.size)
    for i, (now, seconds) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True)):
        begins = max(now, free[0])
        heapq.heapreplace(free, begins + seconds)
        start[i] = begins
    return Queue(routes, number, arrival, start, start + service)


def warm_up(queue: Queue, duration_s: float) -> float:
    """When its start no longer shows in the waits."""
    if not queue.arrival_s.size:
        return 0.0
    return min(warm_up_s(queue.arrival_s, queue.wait_s, duration_s), duration_s / 2)


def queue_pool(plan: Plan, name: str, queue: Queue, begin_s: float, duration_s: float, samples: int) -> PoolOutcome:
    """A measured pool's entry in the report."""
    use = plan.measured[name]
    times = duration_s * np.arange(1, samples + 1) / samples
    load = sum(r.entry.calls_per_s / use.source.max_rate_per_s[r.entry.task] for r in queue.routes)
    # Busy seconds until each time: of all that has started, what has passed of it.
    done = np.array([float(np.maximum(np.minimum(queue.end_s, t) - queue.start_s, 0.0).sum()) for t in times])
    busy = np.diff(done, prepend=0.0) / (duration_s / samples * use.entry.replicas)
    started = np.searchsorted(queue.start_s, times, side="right")
    waiting = np.searchsorted(queue.arrival_s, times, side="right") - started
    running = started - np.searchsorted(np.sort(queue.end_s), times, side="right")
    after = times > begin_s
    watts = use.source.power_w * (use.entry.replicas + use.entry.spares)
    nothing = (0.0,) * samples
    return PoolOutcome(
        pool=name,
        role=use.entry.role,
        counted_from_s=begin_s,
        utilization=Use(busy=float(busy[after].mean()) if after.any() else float(busy.mean())),
        planned=Use(busy=load / use.entry.replicas),
        batch=None,
        planned_batch=None,
        energy_j=watts * duration_s,
        power_w=watts,
        planned_power_w=use.entry.power_w,
        evictions=0,
        preemptions=0,
        saturated=(),
        series=Series(
            time_s=tuple(times.tolist()),
            replicas=(use.entry.replicas,) * samples,
            batch=tuple((running / use.entry.replicas).tolist()),
            waiting=tuple(waiting.astype(np.float64).tolist()),
            busy=tuple(busy.tolist()),
            compute=nothing,
            bandwidth=nothing,
            capacity=nothing,
            link=nothing,
        ),
    )


def queue_task(task: str, found: dict[str, Queue], begin_s: float, duration_s: float) -> TaskOutcome | None:
    """A task that measured pools serve; None where they serve none of it."""
    waits: list[Array] = []
    offered = 0.0
    for queue in found.values():
        numbers = [i for i, route in enumerate(queue.routes) if route.entry.task == task]
        offered += sum(queue.routes[i].entry.calls_per_s for i in numbers)
        waits.append(queue.wait_s[np.isin(queue.route, numbers) & _counted(queue, begin_s, duration_s)])
    if offered == 0.0:
        return None
    values = np.concatenate(waits)
    nothing = Percentiles(p50=None, p95=None, p99=None)
    none = TtftParts(reload=0.0, wait=0.0, prefill=0.0, transfer=0.0, admission=0.0)
    return TaskOutcome(
        name=task,
        calls=values.size,
        goodput=values.size / (duration_s - begin_s),
        offered=offered,
        completed=values.size / (duration_s - begin_s),
        hit_ratio=None,
        planned_hit_ratio=None,
        restarted=0,
        ttft=nothing,
        tpot=nothing,
        task_latency=nothing,
        wait=wait_percentiles(values),
        parts=none.model_copy(update={"wait": float(values.mean()) if values.size else 0.0}),
        planned_parts=none,
        slo=(),
    )


def _counted(queue: Queue, begin_s: float, duration_s: float) -> NDArray[np.bool_]:
    return (queue.end_s >= begin_s) & (queue.end_s <= duration_s)


def wait_percentiles(values: Array) -> Percentiles:
    """Of waits in seconds; None of none."""
    if not values.size:
        return Percentiles(p50=None, p95=None, p99=None)
    return Percentiles(**{f"p{n}": percentile(values, n / 100) for n in (50, 95, 99)})
