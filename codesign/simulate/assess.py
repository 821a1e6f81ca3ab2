"""From records of calls to a verdict: each task's percentiles beside the plan's, and what a broken promise lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.check.operation import PoolState, operate_all, stack_seconds, ttft_parts
from codesign.check.plan import ModelledRoute, Plan
from codesign.check.traffic import moved
from codesign.performance import prefill_seconds
from codesign.performance.drafts import accepted
from codesign.performance.queueing import ADMISSION_STEPS
from codesign.problem.instance import SloLevels, TaskClass
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.components import Component
from codesign.simulate.fleet import RECORD, Failure, Outcome
from codesign.simulate.gaps import Told
from codesign.simulate.measured import Queue, queue_pool, queue_task, queues, wait_percentiles, warm_up
from codesign.simulate.pools import PoolView, pool_outcome
from codesign.simulate.report import (
    Percentiles,
    SimulationReport,
    SloOutcome,
    Suspect,
    TaskOutcome,
    TtftParts,
)
from codesign.simulate.sessions import Lengths
from codesign.simulate.statistics import chain_latency, percentile, percentile_interval, warm_up_s

Array = NDArray[np.float64]

_CHAINS = 4000
"""Tasks that are put together from simulated calls to judge task latency."""
_AGAIN = 0.1
"""Share of the prompt work that computes evicted histories again, from which on memory is the reason."""
_PARTS = ("reload", "wait", "prefill", "transfer", "admission")


@dataclass(frozen=True, eq=False)
class _Served:
    """Calls of one task that finished after the warm-up; arrays [n]."""

    task: TaskClass
    route: NDArray[np.int64]
    """Numbers of `routes`."""
    routes: tuple[ModelledRoute, ...]
    fields: dict[str, Array]

    @property
    def ttft(self) -> Array:
        return self.fields["first"] - self.fields["start"]

    @property
    def tpot(self) -> Array:
        """Seconds per output token after the first; calls of one token have none."""
        return (self.fields["end"] - self.fields["first"]) / np.maximum(self.fields["output"] - 1.0, 1.0)

    @property
    def latency(self) -> Array:
        return self.fields["end"] - self.fields["start"]

    def parts(self) -> Array:
        """[5, n] reload, wait, prefill, transfer, admission."""
        f = self.fields
        times = (f["start"], f["ready"], f["queued"], f["computed"], f["sent"], f["first"])
        return np.diff(np.stack(times), axis=0)

    def take(self, which: NDArray[np.bool_]) -> _Served:
        return _Served(self.task, self.route[which], self.routes, {k: v[which] for k, v in self.fields.items()})


def assess(
    plan: Plan,
    parts: list[Component],
    outcomes: list[Outcome],
    duration_s: float,
    seed: int,
    arrivals: Arrivals,
    failures: tuple[Failure, ...],
    samples: int,
) -> SimulationReport:
    """The report of a simulation; `samples` looks at each pool."""
    states = operate_all(plan)
    served = {task.name: _served(task, parts, outcomes) for task in plan.instance.tasks}
    known = queues(plan, duration_s, seed, arrivals)
    warm = max((_warm_up(calls, duration_s) for calls in served.values() if calls), default=0.0)
    warm = max([warm, *(warm_up(queue, duration_s) for queue in known.values())])
    begin = max([warm, *(failure.at_s for failure in failures)])
    views = {
        pool.entry.pool: PoolView(pool, plan.routes_of(pool), states[pool.entry.pool], outcome, begin, duration_s)
        for part, outcome in zip(parts, outcomes, strict=True)
        for pool in part.pools
    }
    tasks = []
    for task in plan.instance.tasks:
        calls = served[task.name]
        if calls is None:
            found = queue_task(task.name, known, begin, duration_s)
            tasks += [found] if found is not None else []
            continue
        # After a failure, those that came before it are not its victims alone: judge who came after.
        since = calls.fields["start"] if failures else calls.fields["end"]
        gaps = _gaps(task, parts, outcomes, begin)
        tasks.append(_task(plan, calls.take(since >= begin), gaps, states, views, duration_s - begin, seed))
    pools = [pool_outcome(views[name]) for name in plan.modelled if name in views]
    pools += [queue_pool(plan, name, queue, begin, duration_s, samples) for name, queue in known.items()]
    finished = sum(len(outcome.records) for outcome in outcomes)
    finished += sum(int((queue.end_s <= duration_s).sum()) for queue in known.values())
    return SimulationReport(
        ok=all(slo.ok for task in tasks for slo in task.slo),
        duration_s=duration_s,
        warm_up_s=warm,
        seed=seed,
        arrivals=arrivals.name,
        calls=finished,
        tasks=tuple(tasks),
        pools=tuple(pools),
        failure="; ".join(f"{f.replicas} of {f.pool} lost at {f.at_s:g} s" for f in failures) or None,
        notes=_notes(known, duration_s, begin),
    )


def _notes(known: Mapping[str, Queue], duration_s: float, begin: float) -> tuple[str, ...]:
    notes = []
    if known:
        notes.append(
            "of measured pools only the rates are known that they sustain: tasks wait where those are exceeded, and no "
            "SLO is judged"
        )
    if begin >= duration_s / 2:
        notes.append("the warm-up takes half of the duration or more: simulate longer")
    return tuple(notes)


def _served(task: TaskClass, parts: list[Component], outcomes: list[Outcome]) -> _Served | None:
    """All finished calls of a task; None where modelled pools serve none of it."""
    routes: list[ModelledRoute] = []
    rows: list[Array] = []
    numbers: list[NDArray[np.int64]] = []
    for part, outcome in zip(parts, outcomes, strict=True):
        for i, route in enumerate(part.routes):
            if route.calls.task.name == task.name:
                found = outcome.records[outcome.records[:, 0] == i]
                rows.append(found)
                numbers.append(np.full(len(found), len(routes)))
                routes.append(route)
    if not routes:
        return None
    table = np.concatenate(rows)
    return _Served(task, np.concatenate(numbers), tuple(routes), dict(zip(RECORD, table.T, strict=True)))


def _gaps(task: TaskClass, parts: list[Component], outcomes: list[Outcome], begin_s: float) -> Told | None:
    """Those between the tokens of a task, from the first look after `begin_s` on; None where it promises none."""
    if not task.itl_slo:
        return None
    times = np.array([sample.time_s for sample in next(iter(outcomes[0].samples.values()))])
    first = min(int(np.searchsorted(times, begin_s)) + 1, times.size - 1)
    rows = []
    for part, outcome in zip(parts, outcomes, strict=True):
        mine = [i for i, route in enumerate(part.routes) if route.calls.task.name == task.name]
        found = outcome.gaps[np.isin(outcome.gaps[:, 1], mine) & (outcome.gaps[:, 0] >= first)]
        rows.append(found[:, [0, 2, 3]] - [first, 0, 0])
    return Told.of(np.concatenate(rows), times.size - first)


def _warm_up(calls: _Served, duration_s: float) -> float:
    """MSER-5 of the latency, and no less than a long call takes: the batch must have filled."""
    if not calls.latency.size:
        return 0.0
    ended = warm_up_s(calls.fields["end"], calls.latency, duration_s)
    return min(max(ended, percentile(calls.latency, 0.95)), duration_s / 2)


def _task(
    plan: Plan,
    calls: _Served,
    gaps: Told | None,
    states: Mapping[str, PoolState],
    views: Mapping[str, PoolView],
    seconds: float,
    seed: int,
) -> TaskOutcome:
    task, fields = calls.task, calls.fields
    rates = np.array([route.calls.rate for route in calls.routes])
    planned = np.array([_planned_parts(route, states) for route in calls.routes])
    offered = float(rates.sum())
    prompts = [route.calls.prompts() for route in calls.routes]
    planned_hit = sum(r * p.mean(p.cached) for r, p in zip(rates, prompts, strict=True)) / sum(
        r * p.mean(p.context) for r, p in zip(rates, prompts, strict=True)
    )
    longest = _chained(calls, seed)
    parts = calls.parts().mean(axis=1) if calls.ttft.size else np.zeros(len(_PARTS))
    good = np.ones(calls.ttft.size, dtype=bool)
    for values, levels in ((calls.ttft, task.ttft_slo), (calls.tpot, task.tpot_slo)):
        good &= values <= min((target for _, target in levels), default=np.inf)
    return TaskOutcome(
        name=task.name,
        calls=int(calls.ttft.size),
        goodput=float(good.sum()) / seconds,
        offered=offered,
        completed=calls.ttft.size / seconds,
        hit_ratio=float(fields["cached"].sum() / fields["context"].sum()) if calls.ttft.size else None,
        planned_hit_ratio=float(planned_hit),
        restarted=int((fields["again"] > 0).sum()),
        ttft=_percentiles(calls.ttft),
        tpot=_percentiles(calls.tpot),
        itl=None if gaps is None else Percentiles(**{f"p{n}": _number(gaps.percentile(n / 100)) for n in (50, 95, 99)}),
        task_latency=_percentiles(longest),
        wait=wait_percentiles(calls.parts()[_PARTS.index("wait")]),
        parts=TtftParts(**dict(zip(_PARTS, parts.tolist(), strict=True))),
        planned_parts=TtftParts(**dict(zip(_PARTS, ((rates @ planned) / offered).tolist(), strict=True))),
        slo=tuple(_slos(plan, calls, gaps, longest, planned, views)),
    )


def _percentiles(values: Array) -> Percentiles:
    return Percentiles(**{f"p{n}": _number(percentile(values, n / 100)) for n in (50, 95, 99)})


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _chained(calls: _Served, seed: int) -> Array:
    """Latencies of whole tasks, put together from simulated calls in the order of their chains and tool waits."""
    task = calls.task
    if not task.task_latency_slo or not calls.latency.size:
        return np.empty(0)
    # Random numbers of its own: the tasks of a class are put together the same way whatever else is simulated.
    rng = np.random.default_rng([seed, 7])
    variant_of = np.array([route.calls.variant.name for route in calls.routes])
    latencies = []
    for name in sorted(set(variant_of)):
        members = np.flatnonzero(variant_of == name)
        which = np.isin(calls.route, members)
        routes = [calls.routes[m] for m in members.tolist()]
        share = sum(r.calls.tasks_per_s for r in routes) / sum(r.calls.tasks_per_s for r in calls.routes)
        count = round(_CHAINS * share)
        if not count or not which.any():
            continue
        first = routes[0].calls
        lengths = Lengths(task, first.population, np.inf, first.variant.calls_factor)
        if task.task_latency_at == "reference":
            number = np.full(count, max(1, round(task.calls.quantile(0.5) * first.variant.calls_factor)))
        else:
            number = lengths.numbers(rng, count)
        chain = np.repeat(np.arange(count), number)
        ordinal = np.arange(chain.size) - np.repeat(np.cumsum(number) - number, number)
        places = lengths.places(ordinal, number[chain], rng.random(count)[chain])
        own = chain_latency(calls.fields["place"][which], calls.latency[which], places, chain, count, rng)
        waits = np.where(ordinal + 1 < number[chain], task.tool_wait.quantiles(rng.random(chain.size)), 0.0)
        latencies.append(own + np.bincount(chain, weights=waits, minlength=count))
    return np.concatenate(latencies) if latencies else np.empty(0)


def _slos(
    plan: Plan,
    calls: _Served,
    gaps: Told | None,
    longest: Array,
    planned: Array,
    views: Mapping[str, PoolView],
) -> list[SloOutcome]:
    task = calls.task
    reported = {t.name: t for t in plan.solution.tasks}.get(task.name)
    achieved = {(str(s.metric), round(s.percentile, 9)): s.achieved for s in (reported.slo if reported else ())}
    found = []
    metrics: tuple[tuple[str, SloLevels, Array | Told | None], ...] = (
        ("ttft", task.ttft_slo, calls.ttft),
        ("tpot", task.tpot_slo, calls.tpot),
        ("itl", task.itl_slo, gaps),
        ("task_latency", task.task_latency_slo, longest),
    )
    for metric, levels, values in metrics:
        for share, target in levels:
            simulated, low, high = _figures(calls, metric, values, share)
            ok = bool(simulated <= target or low <= target)
            found.append(
                SloOutcome.model_validate(
                    {
                        "metric": metric,
                        "percentile": share,
                        "target": target,
                        "planned": achieved.get((metric, round(share, 9))),
                        "simulated": _number(simulated),
                        "low": _number(low),
                        "high": _number(high),
                        "ok": ok,
                        "suspect": _suspect(calls, metric, target, planned, views),
                    }
                )
            )
    return found


def _figures(
    calls: _Served, metric: str, values: Array | Told | None, share: float
) -> tuple[float, float, float]:
    """A percentile and its 95 % confidence interval."""
    if isinstance(values, Told):
        if calls.ttft.size and not values.count.sum():  # answers of one token have no gaps: none is late
            return 0.0, 0.0, 0.0
        return values.percentile(share), *values.interval(share)
    assert values is not None
    order = calls.fields["end"] if metric != "task_latency" else np.arange(values.size, dtype=np.float64)
    return percentile(values, share), *percentile_interval(order, values, share)


def _planned_parts(route: ModelledRoute, states: Mapping[str, PoolState]) -> list[float]:
    """Mean seconds of the parts of a TTFT by the plan's own formulas, its waits and steps as it reports them."""
    before, after = route.prefill.entry, route.decode.entry
    queue, decode = states[before.pool], states[after.pool]
    wait_s = queue.wait_s if before.wait_s is None else before.wait_s
    step_s = decode.step_s if after.step_time_s is None else after.step_time_s
    prompts = route.calls.prompts()
    if queue.colocated is not None:
        weight, rest = ttft_parts(route, queue, decode)
        return [0.0, 0.0, 0.0, 0.0, queue.wait_moments()[0] + float(weight @ rest)]
    bytes_, rate = moved(route, prompts), route.entry.fabric_bytes_per_s or np.nan
    alone = prefill_seconds(route.prefill.table, prompts.new, prompts.cached)[0]
    return [
        stack_seconds(route) + prompts.mean(bytes_.reload) / rate,
        wait_s,
        prompts.mean(alone),
        prompts.mean(bytes_.send) / rate,
        ADMISSION_STEPS * step_s,
    ]


def _suspect(
    calls: _Served, metric: str, target: float, planned: Array, views: Mapping[str, PoolView]
) -> Suspect:
    """What the calls that break a promise wait for, beyond what was planned; all calls where none breaks it."""
    if not calls.ttft.size:
        route = max(calls.routes, key=lambda r: r.calls.rate)
        view = views[route.prefill.entry.pool]
        return Suspect(pool=view.name, resource=view.scarcest, reason="no call finished")
    decoding = metric in ("tpot", "itl")
    if metric == "task_latency":
        # The metric whose excess over the plan costs a call more seconds.
        first = float((calls.parts().sum(axis=0) - planned[calls.route].sum(axis=1)).mean())
        steps = np.array(
            [
                views[r.decode.entry.pool].state.step_s / accepted(r.decode.table, r.calls).tokens
                for r in calls.routes
            ]
        )
        decoding = float(((calls.tpot - steps[calls.route]) * calls.fields["output"]).mean()) > first
    if metric == "task_latency":
        late = np.ones(calls.ttft.size, dtype=bool)
    else:
        late = (calls.tpot if decoding else calls.ttft) > target
    if not late.any():
        late = np.ones(calls.ttft.size, dtype=bool)
    worst = int(np.argmax(np.bincount(calls.route[late], minlength=len(calls.routes))))
    route = calls.routes[worst]
    before, after = views[route.prefill.entry.pool], views[route.decode.entry.pool]
    mine = calls.take(late & (calls.route == worst))
    counted = calls.take(calls.route == worst)
    missed = counted.fields["expected"].astype(bool) & (counted.fields["hit"] == 0)
    gone = float(missed.mean())
    work = counted.parts()[_PARTS.index("prefill")]
    # What colocated prompts take is not told apart from the steps they share: there the calls count.
    again = float(work[missed].sum() / work.sum()) if work.sum() > 0 else gone
    home = before if route.calls.policy == "prefill" else after
    if again > _AGAIN and route.calls.policy != "drop":
        reason = f"{gone:.1%} of its calls found their history evicted: {again:.0%} of the prompt work is done again"
        return Suspect(pool=home.name, resource="capacity", reason=reason)
    if decoding or route.prefill.entry.role == "colocated":
        what = after.scarcest
        reason = f"steps of {after.mean_step_s * 1e3:.1f} ms on average, {after.use_words(what)}"
        return Suspect(pool=after.name, resource=what, reason=reason)
    spent = mine.parts().mean(axis=1)
    most = int(np.argmax(spent - planned[worst]))
    part = _PARTS[most]
    seconds = f"{spent[most]:.2f} s of {part} where {planned[worst][most]:.2f} s were planned"
    if part in ("reload", "transfer"):
        link = max((before, after), key=lambda view: view.link_wait_s)
        return Suspect(pool=link.name, resource="link", reason=f"{seconds}, {link.use_words('link')}")
    view = after if part == "admission" else before
    what = view.scarcest if part == "admission" else "compute"
    reason = f"{seconds}, {view.use_words('busy' if view is before else what)}"
    return Suspect(pool=view.name, resource=what, reason=reason)
