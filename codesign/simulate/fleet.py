"""The pools of one connected part of a fleet, and the sessions that walk through them: the discrete-event simulation.

A call arrives, its kept history is read to the prefill side, its prompt queues for a lane and is computed, its KV is
sent to the decode side, joins the batch there and decodes; then its session's KV is parked where the route's policy
says, and the next call follows after the tool wait.  A history that is gone (time-to-live, eviction, a lost replica) is
computed again.  :mod:`simpy` keeps the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from simpy import Environment, Event

from codesign.simulate import demand as column
from codesign.simulate.engine import Engine, EngineNews, StepTable, Work
from codesign.simulate.gaps import Gaps
from codesign.simulate.link import Link, transfer
from codesign.simulate.memory import KvMemory
from codesign.simulate.prefill import PrefillPool, PrefillReplica, Prompt

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

RECORD = (
    "route",
    "place",
    "start",
    "ready",
    "queued",
    "computed",
    "sent",
    "first",
    "end",
    "output",
    "context",
    "cached",
    "expected",
    "hit",
    "again",
)
"""Fields of a finished call: its route, its place in the chain, times (s), tokens, whether it counted on its history
and found it, and how often it was started again."""

_sessions, _calls = attrgetter("sessions"), attrgetter("calls")


@dataclass(frozen=True, eq=False)
class PoolSpec:
    """What a pool is made of; one replica each."""

    name: str
    role: str
    replicas: int
    spares: int
    lanes: int
    """Prompts that a prefill replica works on at a time."""
    steps: StepTable | None
    room_bytes: float
    link_bytes_per_s: float
    """What activations that cross it leave, on average."""
    chunk: float
    max_sequences: int
    activation_bytes: float = 0.0
    """That every decoded token sends from one half of a replica to the other."""


class Anew(Protocol):
    """Rows of the calls of a route at other lengths (:class:`~codesign.simulate.demand.Demand`)."""

    @property
    def shared(self) -> float:
        """Tokens of a prompt that replicas have anyway."""

    def rows(self, context: Array, cached: Array, output: Array) -> Array:
        """[n, columns of :mod:`~codesign.simulate.demand`] of calls with these lengths in tokens ([n] each)."""


@dataclass(frozen=True, eq=False)
class RouteSpec:
    """A way through the fleet."""

    policy: str
    """decode | prefill | colocated | drop | tier: where a session's KV stays between its calls."""
    prefill: str
    decode: str
    stream_bytes_per_s: float
    ttl_s: float
    always_hits: bool
    """The hit ratio is fixed by the problem file, and nothing but an eviction changes it."""
    demand: Anew | None
    """To compute a call anew whose history is gone; None where nothing is reused and nothing preempted."""
    tier_bytes_per_s: float = np.inf
    """Rate at which one session is read from its tier."""
    tier_latency_s: float = 0.0
    start_s: float = 0.0
    """What the serving stack adds to each TTFT: a call reaches the pools so much later than it was sent."""
    itl: bool = False
    """Gaps between the tokens of its answers are promised, and told."""


@dataclass(frozen=True, eq=False)
class CallRows:
    """[n] calls, chain by chain."""

    session: Ints
    route: Ints
    place: Array
    follows: NDArray[np.bool_]
    """Comes after another call of its chain: its history may be parked."""
    expects: NDArray[np.bool_]
    """Counts on finding it (its row is computed so)."""
    gap_s: Array
    values: Array
    """[n, columns of :mod:`~codesign.simulate.demand`]."""


@dataclass(frozen=True, eq=False)
class ParkedRows:
    """[m] sessions whose KV is parked at the start, by descending age."""

    session: Ints
    route: Ints
    age_s: Array
    bytes: Array


@dataclass(frozen=True)
class Failure:
    """Replicas of a pool that are lost at a time."""

    pool: str
    at_s: float
    replicas: int


class TierStore:
    """The memory tiers of the fleet: room for what was planned, and as fast as whoever reads."""

    alive = True

    def __init__(self) -> None:
        self.memory, self.link = KvMemory(np.inf), Link(np.inf)
        self.sessions = 0


@dataclass(slots=True)
class _Call:
    """A call under way."""

    row: int
    values: list[float]
    hit: bool
    start: float
    ready: float = 0.0
    queued: float = 0.0
    computed: float = 0.0
    sent: float = 0.0
    first: float = -1.0
    again: int = 0
    prompt: Prompt | None = None
    held: float = 0.0
    """Bytes on the decode side that it has before it joins the batch there."""
    target: Engine | None = None
    generation: int = 0
    """Grows when it is started again: older events of it mean nothing."""


@dataclass
class Sample:
    """State of a pool at one time: means over its replicas, and totals since the start."""

    time_s: float
    replicas: int
    batch: float
    waiting: float
    memory_share: float
    busy_s: float
    flop: float
    bytes: float
    link_bytes: float
    evicted: int
    link_wait_s: float


@dataclass
class Outcome:
    """What happened."""

    records: Array
    """[n, fields of RECORD] finished calls."""
    samples: dict[str, list[Sample]]
    energy: dict[str, tuple[float, ...]]
    """By pool: FLOP and bytes of steps, and joules above the base that neither explains (prompts, second halves)."""
    events: int
    preempted: dict[str, int] = field(default_factory=dict)
    gaps: Array = field(default_factory=lambda: np.empty((0, 4)))
    """[m, 4] number of the look before which they ended, route, bin and how many (:mod:`~codesign.simulate.gaps`); of
    routes in pools where some route promises them."""


def _dated(event: Event) -> tuple[_Call, int]:
    """What an event of a call carries: the call, and its generation when the event was set."""
    value = event.value
    assert isinstance(value, tuple)
    return value


class Fleet:
    """Pools, and the calls that go through them."""

    def __init__(self, pools: list[PoolSpec], routes: list[RouteSpec], rows: CallRows) -> None:
        self.env = Environment()
        self.routes, self.rows, self.specs = routes, rows, {spec.name: spec for spec in pools}
        self._values = rows.values
        self._session, self._route = rows.session.tolist(), rows.route.tolist()
        self._gap, self._place = rows.gap_s.tolist(), rows.place.tolist()
        self._output = rows.values[:, column.OUTPUT].tolist()
        self._follows, self._expects = rows.follows.tolist(), rows.expects.tolist()
        same = np.append(rows.session[1:] == rows.session[:-1], False) if len(rows.session) else np.zeros(0, bool)
        self._next = np.where(same, np.arange(1, len(rows.session) + 1), -1).tolist()
        self._home: dict[int, Engine | PrefillReplica | TierStore] = {}
        self._store = TierStore()
        self.engines: dict[str, list[Engine]] = {}
        self.prefills: dict[str, PrefillPool] = {}
        self._lost: dict[str, list[Engine]] = {spec.name: [] for spec in pools}
        """Engines that died: their work counts, nothing goes to them."""
        self._spares: dict[str, int] = {}
        self._under_way: dict[int, _Call] = {}
        self._records: list[tuple[float, ...]] = []
        self._samples: dict[str, list[Sample]] = {spec.name: [] for spec in pools}
        self._prompt_energy = dict.fromkeys(self.specs, 0.0)
        self._gaps = Gaps()
        self._told: list[Array] = []
        self._watched = {route.decode for route in routes if route.itl}
        self._turn = 0
        self._events = 0
        self._news = EngineNews(self._finished, self._first_token, self._preempted)
        for spec in pools:
            self._spares[spec.name] = spec.spares
            if spec.role == "prefill":
                replicas = [self._prefill_replica(spec) for _ in range(spec.replicas)]
                self.prefills[spec.name] = PrefillPool(self.env, replicas, self._prompt_done)
            else:
                self.engines[spec.name] = [self._engine(spec) for _ in range(spec.replicas)]

    # ---- set up

    def _prefill_replica(self, spec: PoolSpec) -> PrefillReplica:
        return PrefillReplica(spec.lanes, KvMemory(spec.room_bytes), Link(spec.link_bytes_per_s))

    def _engine(self, spec: PoolSpec) -> Engine:
        assert spec.steps is not None
        memory, link = KvMemory(spec.room_bytes), Link(spec.link_bytes_per_s)
        gaps = self._gaps if spec.name in self._watched else None
        return Engine(self.env, spec.steps, memory, link, spec.max_sequences, spec.chunk, self._news, gaps)

    def enter(self, row: int, at_s: float) -> None:
        """A session's first call here comes at a time."""
        self._after(at_s - self.env.now, self._arrive, row)

    def park(self, parked: ParkedRows) -> None:
        """Fill the caches with what is parked at the start."""
        order = np.argsort(-parked.age_s, kind="stable")
        for i in order.tolist():
            route = self.routes[int(parked.route[i])]
            if route.policy == "drop":
                continue
            session, size = int(parked.session[i]), float(parked.bytes[i])
            memory = self._home_of(session, route).memory
            if memory.take(size, 0.0):
                memory.park(session, size, route.ttl_s, -float(parked.age_s[i]))

    def fail(self, failure: Failure) -> None:
        """Lose replicas at a time."""
        self._after(failure.at_s, self._lose, failure)

    def run(self, horizon_s: float, samples: int, progress: Callable[[float], None] | None = None) -> Outcome:
        """Run to the horizon, looking at every pool at `samples` times."""
        for i in range(1, samples + 1):
            self.env.run(until=horizon_s * i / samples)
            self._sample()
            if progress is not None:
                progress(i / samples)
        energy: dict[str, tuple[float, ...]] = {}
        for name in self.specs:
            if name in self.prefills:
                energy[name] = 0.0, 0.0, self._prompt_energy[name]
            else:
                engines = [*self.engines[name], *self._lost[name]]
                energy[name] = tuple(sum(getattr(e, word) for e in engines) for word in ("flop", "bytes", "extra_j"))
        return Outcome(
            np.array(self._records, dtype=np.float64).reshape(-1, len(RECORD)),
            self._samples,
            energy,
            self._events,
            {n: sum(e.preempted for e in [*engines, *self._lost[n]]) for n, engines in self.engines.items()},
            np.concatenate(self._told),
        )

    # ---- the way of a call

    def _after(self, delay: float, callback: Callable[[Event], None], value: object) -> None:
        event = self.env.timeout(delay if delay > 0 else 0.0, value)
        event.callbacks.append(callback)
        self._events += 1

    def _home_of(self, session: int, route: RouteSpec) -> Engine | PrefillReplica | TierStore:
        home = self._store if route.policy == "tier" else self._home.get(session)
        if home is self._store and session not in self._home:
            home.sessions += 1
            self._home[session] = home
        if home is None or not home.alive:
            home = (
                self.prefills[route.prefill].emptiest() if route.policy == "prefill" else self._emptiest(route.decode)
            )
            home.sessions += 1
            self._home[session] = home
        return home

    def _emptiest(self, pool: str) -> Engine:
        return min(self.engines[pool], key=_sessions)

    def _least_loaded(self, pool: str) -> Engine:
        return min(self.engines[pool], key=_calls)

    def _arrive(self, event: Event) -> None:
        row = event.value
        assert isinstance(row, int)
        sent_s = self.env.now - self.routes[self._route[row]].start_s
        call = _Call(row, self._values[row].tolist(), False, sent_s)
        self._under_way[row] = call
        self._begin(call)

    def _begin(self, call: _Call) -> None:
        """Find the session's home and history, and read the latter to where the prompt is computed."""
        row, now = call.row, self.env.now
        route = self.routes[self._route[row]]
        values, held, home = call.values, 0.0, None
        call.hit = call.again == 0 and self._expects[row] and route.policy != "drop"
        if route.policy != "drop":
            session = self._session[row]
            home = self._home_of(session, route)
            if self._follows[row] and call.again == 0:
                found = home.memory.resume(session, route.ttl_s, now)
                held = found or 0.0
                if isinstance(home, TierStore):  # it is copied, not moved
                    home.memory.give(held, now)
                    held = 0.0
                if found is None and call.hit and not route.always_hits:
                    call.hit = False
                    values = self._anew(call, 0.0)
        if route.policy == "colocated" or route.prefill == route.decode:
            engine = home if route.policy == "colocated" else self._least_loaded(route.decode)
            assert isinstance(engine, Engine)
            call.target = engine
            engine.calls += 1
            if route.policy == "tier" and values[column.RELOAD] > 0:
                arrived = self._read_tier(engine.link, call, route)
                self._after(arrived - now, self._reloaded, (call, call.generation))
                return
            self._join(call, held)
            return
        if route.policy == "tier" and values[column.RELOAD] > 0:
            pool = self.prefills[route.prefill].replicas
            self._turn = (self._turn + 1) % len(pool)
            arrived = self._read_tier(pool[self._turn].link, call, route)
            self._after(arrived - now, self._ready, (call, call.generation))
            return
        if route.policy == "decode":
            assert isinstance(home, Engine)
            call.target, call.held = home, held
            if values[column.RELOAD] > 0:
                pool = self.prefills[route.prefill].replicas
                self._turn = (self._turn + 1) % len(pool)
                arrived = transfer(
                    home.link, pool[self._turn].link, values[column.RELOAD], route.stream_bytes_per_s, now
                )
                self._after(arrived - now, self._ready, (call, call.generation))
                return
        self._prompt(call, held if route.policy == "prefill" else 0.0)

    def _read_tier(self, link: Link, call: _Call, route: RouteSpec) -> float:
        """When a call's history has come from its tier over a replica's links."""
        rate = min(route.stream_bytes_per_s, route.tier_bytes_per_s)
        arrived = transfer(self._store.link, link, call.values[column.RELOAD], rate, self.env.now)
        return arrived + route.tier_latency_s

    def _reloaded(self, event: Event) -> None:
        call, generation = _dated(event)
        if call.generation != generation:
            return
        assert call.target is not None
        if call.target.alive:
            self._join(call, 0.0)
        else:
            self._again(call)

    def _join(self, call: _Call, held: float) -> None:
        """Prompt and answer on one replica, whose history is there."""
        assert call.target is not None
        call.ready = call.queued = call.computed = call.sent = self.env.now
        call.target.submit(self._work(call, held, colocated=True))

    def _anew(self, call: _Call, generated: float) -> list[float]:
        """The row of a call whose history is gone and that has `generated` tokens already."""
        route = self.routes[self._route[call.row]]
        assert route.demand is not None
        values = call.values
        context = values[column.CONTEXT] + generated
        shared = min(route.demand.shared, context - 1.0)
        left = max(values[column.OUTPUT] - generated, 1.0)
        row = route.demand.rows(np.array([context]), np.array([shared]), np.array([left]))[0]
        call.values = row.tolist()
        return call.values

    def _ready(self, event: Event) -> None:
        call, generation = _dated(event)
        if call.generation == generation:
            self._prompt(call, 0.0)

    def _prompt(self, call: _Call, held: float) -> None:
        route, values = self.routes[self._route[call.row]], call.values
        call.ready = self.env.now
        home = self._home.get(self._session[call.row]) if route.policy == "prefill" else None
        assert home is None or isinstance(home, PrefillReplica)
        prompt = Prompt(call.row, values[column.PREFILL_S], held, values[column.PROMPT_KEPT], home)
        call.prompt = prompt
        self.prefills[route.prefill].submit(prompt)

    def _prompt_done(self, prompt: Prompt, now: float) -> None:
        """Send the KV to the decode side; where the session stays here, its bytes stay too."""
        call = self._under_way[prompt.call]
        route, values = self.routes[self._route[call.row]], call.values
        place = prompt.place
        assert place is not None
        place.flop += values[column.PREFILL_FLOP]
        self._prompt_energy[route.prefill] += values[column.PREFILL_J]
        call.queued, call.computed = prompt.start, now
        if call.target is None or not call.target.alive:
            home = self._home_of(self._session[call.row], route) if route.policy == "decode" else None
            call.target = home if isinstance(home, Engine) else self._least_loaded(route.decode)
            call.held = 0.0
        call.target.calls += 1
        arrived = transfer(place.link, call.target.link, values[column.SEND], route.stream_bytes_per_s, now)
        if route.policy == "tier":  # the decode side read the history for itself in the meantime
            self._read_tier(call.target.link, call, route)
        self._after(arrived - now, self._sent, (call, call.generation))

    def _sent(self, event: Event) -> None:
        call, generation = _dated(event)
        if call.generation != generation:
            return
        route = self.routes[self._route[call.row]]
        prompt = call.prompt
        assert prompt is not None
        assert prompt.place is not None
        if route.policy != "prefill" and prompt.place.alive:
            prompt.place.memory.give(prompt.held, self.env.now)
            if self.prefills[route.prefill].blocked:
                self.prefills[route.prefill].retry()
        call.sent = self.env.now
        assert call.target is not None
        if not call.target.alive:
            self._again(call)
            return
        call.target.submit(self._work(call, call.held, colocated=False))

    def _work(self, call: _Call, held: float, colocated: bool) -> Work:
        v = call.values
        steps = max(int(v[column.STEPS]), 1)
        work = Work(
            call.row,
            steps,
            held,
            v[column.BEGIN],
            (v[column.END] - v[column.BEGIN]) / steps,
            v[column.ATTENTION_S],
            v[column.ATTENTION_MORE],
            v[column.READ],
            v[column.READ_MORE],
            v[column.FLOP],
            v[column.FLOP_MORE],
        )
        work.resumed, work.route = call.first >= 0, self._route[call.row]
        if colocated:
            new = max(v[column.CONTEXT] - v[column.CACHED], 1.0)
            work.new_tokens = new
            work.prompt_s = v[column.PROMPT_S] / new
            work.prompt_flop = v[column.PREFILL_FLOP] / new
        return work

    # ---- what engines tell

    def _first_token(self, work: Work, engine: Engine, at_s: float) -> None:
        self._under_way[work.call].first = at_s

    def _preempted(self, work: Work, engine: Engine, now: float) -> None:
        call = self._under_way[work.call]
        values = call.values
        written = (values[column.STEPS] - work.steps) * (values[column.OUTPUT] / values[column.STEPS])
        self._restart(call, written)

    def _again(self, call: _Call) -> None:
        """Its replica is gone: all over again."""
        self._restart(call, 0.0)

    def _restart(self, call: _Call, generated: float) -> None:
        call.again += 1
        call.generation += 1
        call.hit = False
        self._drop_prompt(call)
        call.target, call.held = None, 0.0
        self._anew(call, generated)
        self._begin(call)

    def _drop_prompt(self, call: _Call) -> None:
        """Free what a call that starts again still has on the prefill side."""
        prompt, call.prompt = call.prompt, None
        route = self.routes[self._route[call.row]]
        stays = route.policy == "prefill" or (prompt is not None and call.sent < call.computed)
        if prompt is not None and prompt.place is not None and prompt.place.alive and stays and not prompt.cancelled:
            prompt.place.memory.give(prompt.held, self.env.now)

    def _finished(self, work: Work, engine: Engine, now: float) -> None:
        row = work.call
        call = self._under_way.pop(row)
        route, values = self.routes[self._route[row]], call.values
        session, following = self._session[row], self._next[row]
        if route.policy in ("decode", "colocated"):
            engine.memory.park(session, work.held, route.ttl_s, now)
        else:
            engine.memory.give(work.held, now)
        if route.policy == "prefill":
            self._give_back(call, route, engine, session, now)
        if route.policy == "tier":
            transfer(engine.link, self._store.link, values[column.GIVE_BACK], route.stream_bytes_per_s, now)
            self._store.memory.take(values[column.END_KEPT], now)
            self._store.memory.park(session, values[column.END_KEPT], route.ttl_s, now)
        self._records.append(
            (
                self._route[row],
                self._place[row],
                call.start,
                call.ready,
                call.queued,
                call.computed,
                call.sent,
                call.first,
                now,
                self._output[row],
                values[column.CONTEXT],
                values[column.CACHED],
                self._expects[row],
                call.hit,
                call.again,
            )
        )
        if following >= 0:
            start_s = self.routes[self._route[following]].start_s
            self._after(self._gap[row] + start_s, self._arrive, following)
        elif route.policy != "drop":
            home = self._home.pop(session, None)
            if home is not None:
                home.sessions -= 1

    def _give_back(self, call: _Call, route: RouteSpec, engine: Engine, session: int, now: float) -> None:
        """The answer's KV goes to the replica that keeps the session."""
        prompt = call.prompt
        assert prompt is not None
        assert prompt.place is not None
        home, values = prompt.place, call.values
        if not home.alive:
            return
        transfer(engine.link, home.link, values[column.GIVE_BACK], route.stream_bytes_per_s, now)
        if home.memory.take(values[column.END_KEPT] - prompt.held, now):
            home.memory.park(session, values[column.END_KEPT], route.ttl_s, now)
        else:
            home.memory.give(prompt.held, now)
        if self.prefills[route.prefill].blocked:
            self.prefills[route.prefill].retry()

    # ---- failures

    def _lose(self, event: Event) -> None:
        failure = event.value
        assert isinstance(failure, Failure)
        spec, name = self.specs[failure.pool], failure.pool
        lost: list[int] = []
        for _ in range(failure.replicas):
            if name in self.prefills:
                pool = self.prefills[name]
                if len(pool.replicas) == 1 and not self._spares[name]:
                    break
                lost += [prompt.call for prompt in pool.lose(pool.replicas[0])]
                if self._spares[name]:
                    pool.replicas.append(self._prefill_replica(spec))
            else:
                engines = self.engines[name]
                if len(engines) == 1 and not self._spares[name]:
                    break
                engine = engines.pop(0)
                self._lost[name].append(engine)
                lost += [work.call for work in engine.lose()]
                if self._spares[name]:
                    engines.append(self._engine(spec))
            self._spares[name] = max(0, self._spares[name] - 1)
        for row in lost:
            self._again(self._under_way[row])

    # ---- looking

    def _sample(self) -> None:
        for name in self.specs:
            look = self._look_prefill if name in self.prefills else self._look_engines
            self._samples[name].append(look(name))
        gaps, number = self._gaps.take(), len(self._told)
        self._told.append(np.insert(gaps, 0, number, axis=1))

    def _look_prefill(self, name: str) -> Sample:
        now, pool = self.env.now, self.prefills[name]
        up, every = pool.replicas, [*pool.replicas, *pool.lost]
        running = [prompt for replica in up for prompt in replica.running.values()]
        started = [prompt for prompt in running if prompt.start <= now]
        lanes = self.specs[name].lanes
        return Sample(
            time_s=now,
            replicas=len(up),
            batch=len(started) / len(up),
            waiting=float(len(running) - len(started) + pool.blocked),
            memory_share=sum(r.memory.used for r in up) / len(up) / self.specs[name].room_bytes,
            busy_s=(sum(r.busy_s for r in every) + sum(now - prompt.start for prompt in started)) / lanes,
            flop=sum(r.flop for r in every),
            bytes=0.0,
            link_bytes=sum(max(r.link.moved_in, r.link.moved_out) for r in every),
            evicted=sum(r.memory.evicted for r in every),
            link_wait_s=sum(r.link.waited_s for r in every),
        )

    def _look_engines(self, name: str) -> Sample:
        up, sent = self.engines[name], self.specs[name].activation_bytes
        every = [*up, *self._lost[name]]
        return Sample(
            time_s=self.env.now,
            replicas=len(up),
            batch=sum(e.batch for e in up) / len(up),
            waiting=float(sum(len(e.waiting) + len(e.prefilling) for e in up)),
            memory_share=sum(e.memory.used for e in up) / len(up) / self.specs[name].room_bytes,
            busy_s=sum(e.busy_s for e in every),
            flop=sum(e.flop for e in every),
            bytes=sum(e.bytes for e in every),
            link_bytes=sum(max(e.link.moved_in, e.link.moved_out) + sent * e.tokens for e in every),
            evicted=sum(e.memory.evicted for e in every),
            link_wait_s=sum(e.link.waited_s for e in every),
        )
