"""The parts of a fleet that share no pool, each built for its own run: pools, routes, and the calls that they get."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.check.operation import stack_seconds
from codesign.check.plan import ModelledPool, ModelledRoute, Plan
from codesign.check.traffic import session_bytes
from codesign.performance import rank_sequences
from codesign.performance.drafts import accepted
from codesign.performance.split import activation_bytes
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.demand import Demand, room_bytes, split_step_table, step_table
from codesign.simulate.fleet import CallRows, Fleet, ParkedRows, PoolSpec, RouteSpec
from codesign.simulate.sessions import Lengths, Workload, open_sessions


@dataclass(frozen=True, eq=False)
class Component:
    """Pools that routes join, by the names of their pools in order."""

    pools: tuple[ModelledPool, ...]
    routes: tuple[ModelledRoute, ...]

    @property
    def calls_per_s(self) -> float:
        """Calls that it serves."""
        return sum(route.calls.rate for route in self.routes)


@dataclass(frozen=True, eq=False)
class _Group:
    """Routes of a task that a session may take call by call: one home, several prefill pools."""

    number: int
    task: str
    routes: tuple[int, ...]
    """Numbers of the plan's routes."""
    weights: np.ndarray
    tasks_per_s: float


def components(plan: Plan) -> list[Component]:
    """Connected parts, in order of their first pool's name."""
    used = [route for route in plan.routes if route.calls.rate > 0]
    part = {name: {name} for name in plan.modelled}
    for route in used:
        joined = part[route.prefill.entry.pool] | part[route.decode.entry.pool]
        for name in joined:
            part[name] = joined
    found = []
    for names in sorted({tuple(sorted(names)) for names in part.values()}):
        routes = tuple(route for route in used if route.prefill.entry.pool in names)
        if routes:
            found.append(Component(tuple(plan.modelled[name] for name in names), routes))
    return found


def build(plan: Plan, component: Component, horizon_s: float, seed: int, arrivals: Arrivals) -> Fleet:
    """The simulation of one part, everything drawn from the seed and the names of tasks."""
    options = plan.instance.options
    pools = []
    for pool in component.pools:
        entry, routes = pool.entry, plan.routes_of(pool)
        chunk = float(entry.prefill_chunk or 0)
        steps, sent = None, 0.0
        most = int(rank_sequences(pool.table, options.max_sequences)[0])
        most *= 1 if pool.split is not None else int(pool.table.dp[0])
        if pool.split is not None:
            steps, sent = split_step_table(pool.split, most), float(activation_bytes(pool.split)[0])
        elif entry.role != "prefill":
            steps = step_table(pool.table, most, chunk)
        tokens = sum(r.calls.rate * float(r.calls.population.mean(r.calls.population.output)) for r in routes)
        pools.append(
            PoolSpec(
                name=entry.pool,
                role=entry.role,
                replicas=entry.replicas,
                spares=entry.spares,
                lanes=int(pool.table.dp[0] * pool.table.pp[0]),
                steps=steps,
                room_bytes=room_bytes(pool, routes, options),
                link_bytes_per_s=max(pool.link_bytes_per_s - sent * tokens / entry.replicas, 1.0),
                chunk=chunk,
                max_sequences=most,
                activation_bytes=sent,
            )
        )
    rows, parked, entries = _calls(plan, component, horizon_s, seed, arrivals)
    ways = [
        RouteSpec(
            policy="tier" if route.tier is not None else route.calls.policy,
            prefill=route.prefill.entry.pool,
            decode=route.decode.entry.pool,
            stream_bytes_per_s=route.entry.fabric_bytes_per_s or np.inf,
            ttl_s=route.calls.ttl_s,
            always_hits=route.calls.task.prefix_hit is not None,
            demand=Demand(route),
            tier_bytes_per_s=route.tier.session_bytes_per_s if route.tier is not None else np.inf,
            tier_latency_s=route.tier.latency_s if route.tier is not None else 0.0,
            start_s=stack_seconds(route),
            itl=bool(route.calls.task.itl_slo),
        )
        for route in component.routes
    ]
    fleet = Fleet(pools, ways, rows)
    fleet.park(parked)
    for row, time in zip(*entries, strict=True):
        fleet.enter(int(row), float(time))
    return fleet


def _groups(routes: list[ModelledRoute]) -> list[_Group]:
    """Of one task's routes over the whole plan."""
    keys: dict[tuple[str, ...], list[int]] = {}
    for i, route in enumerate(routes):
        calls = route.calls
        key = (calls.variant.name, calls.policy, f"{calls.ttl_s:g}", route.decode.entry.pool)
        keys.setdefault(key if calls.policy == "decode" else (*key, route.prefill.entry.pool), []).append(i)
    found = []
    for number, members in enumerate(keys.values()):
        rates = np.array([routes[i].calls.rate for i in members])
        tasks = sum(routes[i].calls.tasks_per_s for i in members)
        found.append(_Group(number, routes[members[0]].calls.task.name, tuple(members), rates / rates.sum(), tasks))
    return found


def _calls(
    plan: Plan, component: Component, horizon_s: float, seed: int, arrivals: Arrivals
) -> tuple[CallRows, ParkedRows, tuple[np.ndarray, np.ndarray]]:
    """Rows of the component's calls, what is parked, and (row, time) of the sessions that enter."""
    mine = {id(route): i for i, route in enumerate(component.routes)}
    rows: list[CallRows] = []
    parked: list[ParkedRows] = []
    first_rows: list[np.ndarray] = []
    entry_times: list[np.ndarray] = []
    sessions = calls_so_far = 0
    for t, task in enumerate(plan.instance.tasks):
        routes = [r for r in plan.routes if r.calls.task.name == task.name and r.calls.rate > 0]
        groups = _groups(routes)
        if not any(id(r) in mine for r in routes):
            continue
        # Every part of the fleet draws the same arrivals of the task, and takes those of its own routes.
        rng = np.random.default_rng([seed, t])
        total = sum(group.tasks_per_s for group in groups)
        trace = arrivals.traces.get(task.name)
        sessions_of = np.empty(0, dtype=np.int64)
        if trace is None:
            times = arrivals.times(total, horizon_s, rng)
        else:
            times, sessions_of = trace.starts(sum(r.calls.rate for r in routes), horizon_s, rng)
        taken = rng.choice(len(groups), times.size, p=[group.tasks_per_s / total for group in groups])
        for group in groups:
            members = [routes[i] for i in group.routes]
            if id(members[0]) not in mine:
                continue
            own = np.random.default_rng([seed, t, 1 + group.number])
            here = taken == group.number
            call_s, limit = _expected(members[0])
            if trace is None:
                given = _workload(members[0], group, times[here], call_s, limit, horizon_s, own)
            else:
                given = trace.workload(
                    times[here], sessions_of[here], call_s, limit, task.prefix_ttl_s, horizon_s
                )
            numbers = np.array([mine[id(r)] for r in members])
            chosen = own.choice(len(members), given.calls.session.size, p=group.weights)
            part, rest = _rows(members, numbers, chosen, given, sessions, own)
            rows.append(part)
            parked.append(rest)
            starts = np.flatnonzero(np.diff(given.calls.session, prepend=-1))
            first_rows.append(calls_so_far + starts)
            entry_times.append(given.entry_s[given.calls.session[starts]])
            calls_so_far += given.calls.session.size
            sessions += int(max(given.entry_s.size, 1 + given.parked.session.max(initial=-1)))
    return (
        CallRows(*(np.concatenate([getattr(part, name) for part in rows]) for name in CallRows.__dataclass_fields__)),
        ParkedRows(
            *(np.concatenate([getattr(part, name) for part in parked]) for name in ParkedRows.__dataclass_fields__)
        ),
        (np.concatenate(first_rows), np.concatenate(entry_times)),
    )


def _expected(route: ModelledRoute) -> tuple[float, float]:
    """(seconds that a call is planned to take, longest prompt in tokens)."""
    calls = route.calls
    limit = calls.variant.max_context or np.inf
    if calls.task.on_overlong == "truncate":
        limit = min(limit, float(route.prefill.model.card.max_context))
    step = route.decode.entry.step_time_s or route.decode.entry.step_limit_s or 0.0
    points = calls.population
    steps = float(points.weight @ points.output) / accepted(route.decode.table, calls).tokens
    call_s = steps * step + (route.prefill.entry.wait_s or 0.0)
    return call_s, limit


def _workload(
    route: ModelledRoute,
    group: _Group,
    starts: np.ndarray,
    call_s: float,
    limit: float,
    horizon_s: float,
    rng: np.random.Generator,
) -> Workload:
    calls = route.calls
    # Those who come back in time are those of the route's own time-to-live, by the gaps that it was planned with.
    task = replace(calls.task, prefix_ttl_s=calls.ttl_s, tool_wait=calls.task.gap)
    lengths = Lengths(task, calls.population, limit, calls.variant.calls_factor)
    return open_sessions(lengths, np.sort(starts), group.tasks_per_s, call_s, horizon_s, rng)


def _rows(
    members: list[ModelledRoute],
    numbers: np.ndarray,
    chosen: np.ndarray,
    given: Workload,
    sessions: int,
    rng: np.random.Generator,
) -> tuple[CallRows, ParkedRows]:
    """What the calls of a group ask of their routes, `chosen` [n] among its members."""
    calls, task, policy = given.calls, members[0].calls.task, members[0].calls.policy
    shared = np.minimum(task.prefix_shared_tokens, np.maximum(calls.context - 1.0, 0.0))
    follows = calls.after_gap & (policy != "drop")
    expects = follows & (calls.in_time | (task.prefix_hit is not None))
    own = np.maximum(np.minimum(calls.reusable, calls.context - 1.0), shared)
    cached = np.where(expects, own, shared)
    values: np.ndarray | None = None
    for m, route in enumerate(members):
        where = np.flatnonzero(chosen == m)
        found = Demand(route).rows(calls.context[where], cached[where], calls.output[where], rng)
        values = np.empty((chosen.size, found.shape[1])) if values is None else values
        values[where] = found
    assert values is not None
    rows = CallRows(
        session=sessions + calls.session,
        route=numbers[chosen],
        place=calls.position,
        follows=follows,
        expects=expects,
        gap_s=calls.gap_s,
        values=values,
    )
    side = members[0].prefill if policy == "prefill" else members[0].decode
    kept = given.parked
    size = session_bytes(side, members[0].calls, kept.context + kept.output)
    parked = ParkedRows(
        sessions + kept.session, np.full(kept.session.size, numbers[0]), kept.age_s, np.asarray(size)
    )  # fmt: skip
    return rows, parked
