"""What colocated replicas carry: of each flow alone, and of pairs of tasks.

A row Σ x/X ≤ 1 over the edges X of flows alone holds for mixes too, as far as the loads that break nothing are convex:
where steps are linear in the batch they are half-spaces. What mixes of two tasks carry less is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from codesign.candidates.context import MomentBook, Slice
from codesign.candidates.data import Bools, Floats, Ints
from codesign.candidates.flows import CallFlow, chain_lengths, chain_moments
from codesign.candidates.kept_mixes import ABOVE, Both, Heights, Seen, crosses
from codesign.candidates.loads import SAFE, Loads, Pooled, batches, most_held
from codesign.candidates.outer import MemoryMixes, Rows, room_alone
from codesign.performance import first_token_seconds, kv_bytes
from codesign.performance.colocated import Calls, Colocated, Steps, Stream, stacked
from codesign.performance.drafts import Accepted, accepted
from codesign.workload.population import answer_lengths

_ALIKE = ("tpot", "itl")
"""Promises of answers: whoever has the same prompts and answers keeps them alike."""
MIXES = (0.3, 0.7)
"""Shares of the first of two flows: deviations add up less than loads do, most so where one is a quarter."""
_ROOM = ("slots", "busy", "capacity")
_GROUPS = 16
"""Of answers of about a length."""
_ANSWERS = {"rough": 12, "close": 30}
"""Points of an answer's length in TPOT, by how closely one looks."""
_ROUNDING = 1.004
"""By how much more a flow may carry alone than by what was seen is likely."""
_MIXED = 0.99
"""Of what rows say of flows together: mixes of more than two are none of those that were looked at."""
STEADY = 4.0
"""Percent more sequences that one percent more calls may bring, at most: beyond it batches and queues run away."""
_FLAT = 0.005
"""What mixes carry more of their parts that is none."""
_LOWER = 1.045
"""By how much memory that mixes take may lie below lines at the few that were seen."""
_OF_MIXES = ("time of mixes",) * (ABOVE - 2) + ("capacity of mixes",) * 2
"""Rows through mixes of one task's calls that are kept or not."""
_BETWEEN = 0.995
"""Of what lies between two such mixes that were seen."""
_APART = 1e-3
"""Shares of mixes that are not the same."""
_NEVER_S = 1e12
_NOTHING = 1e-9
"""Calls/s of what does not come at all."""


@dataclass(frozen=True, eq=False)
class FlowCalls:
    """The calls of one flow on the configurations of a slice."""

    flow: CallFlow
    prompts: tuple[Floats, Floats, Floats]
    """(weight, new, cached tokens) [J] of prompts."""
    first: tuple[Floats, Floats, Floats]
    """The same, finer where nothing is kept, for the tail of TTFT."""
    reload: Floats
    """[K, J] seconds in which a history is read back from a tier."""
    start: Floats
    """[K, 1] seconds that the serving stack adds to each TTFT."""
    prompt_bytes: Floats
    """[K, J] of the session while its prompt is computed."""
    answers: tuple[Floats, Floats, Floats]
    """(weight, context, output) [P] of answers: groups of those of about a length."""
    answer_bytes: Floats
    """[K, P] of the session while it decodes, and its squares."""
    answer_squares: Floats
    kept_bytes: Floats
    """[K, 1] bytes that sessions hold between calls, for each call/s; and their squares."""
    kept_squares: Floats
    moved_bytes: Floats
    """[K] over the replica's busier direction, to and from a tier."""
    accepted: Accepted
    """What steps emit of its answers."""

    @staticmethod
    def of(part: Slice, book: MomentBook, flow: CallFlow) -> FlowCalls:
        """The calls of a flow."""
        prompts, points = flow.calls.prefill_points(flow.residency), flow.calls.population
        first = flow.calls.first_points(flow.residency)
        moments, prompt = book.decode(flow.calls), book.prompt(flow.calls, flow.residency)
        held = flow.calls.held_s if flow.residency == "colocated" else 0.0
        shared = kv_bytes(part.table, np.array([flow.calls.shared]))
        reload = np.zeros((len(part.index), prompts.new.size))
        if flow.tier is not None:
            reload = reload + flow.transfer_seconds(prompt.reload, np.zeros(1))
        order = np.argsort(points.output, kind="stable")
        begin = np.linspace(0, len(order), min(_GROUPS, len(order)), endpoint=False).astype(int)
        stay = (points.weight * np.maximum(points.output, 1e-9))[order]
        total = np.add.reduceat(stay, begin)

        def mean(values: Floats) -> Floats:
            """[..., P] over the tokens of each group."""
            return np.asarray(np.add.reduceat(values[..., order] * stay, begin, axis=-1) / total)

        weight = np.add.reduceat(points.weight[order], begin)
        tokens = np.add.reduceat((points.weight * points.output)[order], begin) / weight
        held_bytes = np.maximum(kv_bytes(part.table, points.context + points.output) - shared, 0.0)
        return FlowCalls(
            flow,
            (prompts.weight, prompts.new, prompts.cached),
            (first.weight, first.new, first.cached),
            reload,
            first_token_seconds(part.table)[:, None],
            prompt.held,
            (weight, mean(points.context), tokens),
            mean(held_bytes),
            mean(held_bytes**2),
            moments.bytes_after[:, None] * held,
            moments.square_after[:, None] * held,
            np.maximum(prompt.arriving, prompt.decode_leaving) * (flow.tier is not None),
            accepted(part.table, flow.calls),
        )

    def take(self, rows: NDArray[np.intp]) -> FlowCalls:
        """Those on some of the configurations."""
        moments = ("answer_bytes", "answer_squares", "kept_bytes", "kept_squares")
        every = ("reload", "start", "prompt_bytes", *moments, "moved_bytes")
        return replace(self, **{name: getattr(self, name)[rows] for name in every})

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.flow.calls.task.name

    def stream(self, part: Slice, chunk: Floats, first: bool = False) -> Stream:
        """Them in chunks of the size [K] of each configuration; `first`: for the tail of TTFT."""
        rows = [np.flatnonzero(chunk == size) for size in np.unique(chunk)]
        prompts = self.first if first else self.prompts
        each = (part.table.take(own) for own in rows)
        found = [
            Stream.of(table, float(chunk[own[0]]), prompts, self.answers, self.accepted)
            for table, own in zip(each, rows, strict=True)
        ]
        return Stream.joined(found).take(np.argsort(np.concatenate(rows))) if len(found) > 1 else found[0]

    @property
    def first_reload(self) -> Floats:
        """[K, J] seconds in which a history is read back, of prompts for the tail of TTFT."""
        if self.flow.residency != "drop":
            return self.reload
        return np.zeros((len(self.reload), len(self.first[0])))


@dataclass(frozen=True, eq=False)
class _Promises:
    """All promises of a kind: of one flow each."""

    flow: Ints
    """[U] whose."""
    target: Floats
    """[U] seconds."""
    allowed: Floats
    """[U] share of calls or tasks that may take longer."""
    looks: dict[str, tuple[Calls, Floats]]
    """Their calls on K configurations, and [K, U, J] the seconds of reloads, at a rough look and at a close one."""
    late: Callable[[Colocated, Calls, Floats], Floats]
    """[rows, U] the share that is late, each at a load of its own, of calls and reloads of those rows."""

    @staticmethod
    def of(kind: str, calls: Sequence[FlowCalls], streams: Sequence[Stream], whose: Sequence[int]) -> _Promises | None:
        """Those of some calls, with their chunks; None where there are none."""
        made = [
            (v, calls[v].accepted.target(kind, seconds), 1.0 - percentile)
            for v in whose
            for percentile, seconds in getattr(calls[v].flow.calls.task, f"{kind}_slo")
        ]
        if not made:
            return None
        flows = [v for v, _, _ in made]
        target, allowed = (np.array([item[n] for item in made]) for n in (1, 2))
        mine = [calls[v] for v in flows]
        asked = Calls.of([streams[v] for v in flows])
        longest = asked.weight.shape[2]
        reloads = [m.start + (m.first_reload if kind == "ttft" else m.reload) for m in mine]
        reload = np.stack([np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in reloads], axis=1)
        late: Callable[[Colocated, Calls, Floats], Floats]
        if kind == "ttft":

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return pool.ttft_exceeds(here, read, target)

        elif kind == "itl":

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return pool.itl_exceeds(here, target)

        elif kind == "tpot":
            every = [answer_lengths(m.flow.calls.task, m.flow.calls.population) for m in mine]
            lumped = {look: [_lumped(*each, most) for each in every] for look, most in _ANSWERS.items()}
            tokens = [m.accepted.tokens for m in mine]
            answers = {
                look: _stacked([(weight, output / t) for (weight, output), t in zip(each, tokens, strict=True)])
                for look, each in lumped.items()
            }

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return pool.tpot_exceeds(pool.first_s(here), *answers[pool.look], target)

        else:

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return _tasks_late(pool.call_moments(here, read), mine, target)

        coarse = asked.coarse()
        longest_reload = np.repeat(reload.max(axis=2, keepdims=True), coarse.chunks.shape[2], axis=2)
        looks = {"rough": (coarse, longest_reload), "close": (asked, reload)}
        return _Promises(np.array(flows), target, allowed, looks, late)


def _tasks_late(moments: tuple[Floats, Floats], calls: Sequence[FlowCalls], target: Floats) -> Floats:
    """[rows, U] share of tasks that take longer than their target [U], by the moments of a call."""
    mean, variance = np.where(np.isfinite(moments[0]), moments[0], _NEVER_S), moments[1]
    found = np.zeros_like(mean)
    for u, each in enumerate(calls):
        numbers, weights = chain_lengths(each.flow.calls)
        middle, spread = chain_moments(each.flow.calls, numbers, mean[:, u, None], variance[:, u, None])
        found[:, u] = ndtr((middle - target[u]) / spread) @ weights
    return found


def _stacked(lengths: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """[1, U, P] weights and tokens of answers."""
    return stacked([w[None] for w, _ in lengths])[None], stacked([o[None] for _, o in lengths], 1.0)[None]


def _lumped(weight: Floats, output: Floats, most: int) -> tuple[Floats, Floats]:
    """(weight, tokens) of answers at fewer points: those of what is divided by their tokens."""
    if len(weight) <= most:
        return weight, output
    order = np.argsort(output, kind="stable")
    begin = np.linspace(0, len(weight), most, endpoint=False).astype(int)
    mass = np.add.reduceat(weight[order], begin)
    inverse = np.add.reduceat((weight / np.maximum(output, 1.0))[order], begin)
    return mass, mass / np.maximum(inverse, 1e-300)


@dataclass(frozen=True, eq=False)
class Look:
    """Loads of flows on K configurations with chunks of some size, alone and in pairs, and where promises break."""

    part: Slice
    calls: Sequence[FlowCalls]
    chunk: Floats
    """[K]."""
    streams: Sequence[Stream]
    steps: Steps
    alone: Loads
    """Of flows that differ, one after another."""
    places: dict[str, tuple[Floats, Floats]]
    """[asked·K, U] by kind: the last load of a flow at which flow u keeps its promises; inf where it has none.

    As seen, and where it is likely.
    """

    @staticmethod
    def at(part: Slice, calls: Sequence[FlowCalls], chunks: Sequence[float]) -> Look:
        """A look at calls that come to each replica by chance.

        At all configurations of a slice with chunks of one size, then with those of the next.
        """
        every = np.tile(np.arange(len(part.index)), len(chunks))
        chunk = np.repeat(np.array(chunks), len(part.index))
        batch = batches(part.slots * part.table.dp.astype(np.float64))
        steps = Steps.joined([Steps.at(part.table, batch, size) for size in chunks])
        part, calls = replace(part, index=part.index[every], chunk=chunk), [each.take(every) for each in calls]
        streams = [each.stream(part, chunk) for each in calls]
        alone = [(v,) for v in sorted(set(_like(calls)))]
        loads = _loads(steps, streams, alone, [np.ones((len(every), 1))])
        return Look(part, calls, chunk, streams, steps, loads, {})._asked()

    def _asked(self) -> Look:
        loads = self.alone.take(self.rows(np.array(self.asked)))
        return replace(self, places={kind: self._of_like(kind, loads) for kind in self.kinds})

    def take(self, rows: NDArray[np.intp]) -> Look:
        """At some of the configurations."""
        own, asked = (
            (np.arange(count)[:, None] * self.count + rows).ravel() for count in (len(self.differ), len(self.asked))
        )
        return Look(
            replace(self.part, index=self.part.index[rows], chunk=self.chunk[rows]),
            [each.take(rows) for each in self.calls],
            self.chunk[rows],
            [each.take(rows) for each in self.streams],
            self.steps.take(rows),
            self.alone.take(own),
            {kind: (seen[asked], likely[asked]) for kind, (seen, likely) in self.places.items()},
        )

    def evened(self, flows: Ints, replicas: int) -> Look:
        """At some of the flows, where batches vary as over so many replicas."""
        calls = [self.calls[v] for v in flows]
        like = np.array(self.like)[flows]
        streams, differ = [self.streams[v] for v in flows], sorted(set(_like(calls)))
        loads = self.alone.take(self.rows(np.array([self.differ.index(v) for v in like[differ]])))
        loads = replace(loads, streams=(Stream.joined([streams[v] for v in differ]),), even=float(replicas))
        return replace(self, calls=calls, streams=streams, alone=loads)._asked()

    @cached_property
    def count(self) -> int:
        """K."""
        return len(self.part.index)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Of promises: those on gaps between tokens cost problems without them no row."""
        gaps = any(each.flow.calls.task.itl_slo for each in self.calls)
        return ("tpot", "ttft", "task_latency", *(["itl"] if gaps else []))

    @cached_property
    def like(self) -> list[int]:
        """[V] the first flow with the same prompts and answers."""
        return _like(self.calls)

    @cached_property
    def differ(self) -> list[int]:
        """Flows of which none is like another."""
        return sorted(set(self.like))

    @cached_property
    def between(self) -> dict[int, tuple[int, int, float]]:
        """Those of them that are a mix of two others."""
        return _between(self.calls, self.differ)

    @cached_property
    def asked(self) -> list[int]:
        """Numbers of those that are not, whose promises are looked at."""
        return [n for n, v in enumerate(self.differ) if v not in self.between]

    @cached_property
    def alone_bytes(self) -> tuple[Floats, Floats]:
        """[V·K, N] bytes that each flow holds on average, and their variance."""
        place = np.array([self.differ.index(v) for v in self.like])
        return self.bytes_of([(v,) for v in range(len(self.calls))], self.alone.take(self.rows(place)))

    @cached_property
    def pair_bytes(self) -> tuple[Floats, Floats]:
        """[pairs·K, N] the same of mixes."""
        return self.bytes_of(self.pairs, self.pair_loads)

    def rows(self, places: Ints) -> NDArray[np.intp]:
        """Rows of some of the mixes of loads, [places·K]."""
        return (places[:, None] * self.count + np.arange(self.count)).ravel()

    def reload(self, mixes: Sequence[tuple[int, ...]], rates: Sequence[Floats]) -> Floats | None:
        """[mixes·K, 1] seconds in which histories of one of each mix are read back; None where there are none."""
        if all(each.flow.tier is None for each in self.calls):
            return None
        own = [(each.reload * each.prompts[0]).sum(axis=1, keepdims=True) for each in self.calls]
        total = sum(np.concatenate([own[mix[n]] for mix in mixes]) * rates[n] for n in range(len(mixes[0])))
        return np.asarray(total)

    # ---- mixes of two tasks

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Two flows each, one after another for each of MIXES.

        Neighbouring tasks, as the flows of which most is carried, and calls of one task that find their history least
        often and most often.
        """
        edges = self._edges
        carried = np.mean(np.where(edges.open, edges.least, 0.0), axis=0)
        tasks: dict[str, list[int]] = {}
        for v, each in enumerate(self.calls):
            tasks.setdefault(each.task, []).append(v)
        chosen = [max(flows, key=lambda v: float(carried[v])) for _, flows in sorted(tasks.items())]
        alike = [sorted({self.like[v] for v in flows}, key=self.found) for flows in tasks.values()]
        found = [*pairwise(chosen), *((own[0], own[-1]) for own in alike if len(own) > 1)]
        return [pair for pair in found for _ in MIXES]

    def found(self, v: int) -> float:
        """Share of a flow's sessions that find their history."""
        flow = self.calls[v].flow
        return 0.0 if flow.residency == "drop" else float(flow.calls.kept)

    @cached_property
    def _edges(self) -> Edges:
        return Edges(self)

    @cached_property
    def parts(self) -> list[Floats]:
        """[pairs·K, 1] what there is of each of the two: shares of what is carried of it alone.

        Of one task's calls whose history is kept here, and of those whose is not: where memory and what else there is
        are full at once, as far as flows alone tell, and half of that way from the first alone.
        """
        least = self._edges.least
        least = np.where(np.isfinite(least) & (least > 0), least, _NOTHING)
        memory = np.maximum(self._edges.capacity(self.part.room), _NOTHING)
        parts: tuple[list[Floats], list[Floats]] = ([], [])
        for n, (one, other) in enumerate(self.pairs):
            share = MIXES[n % len(MIXES)]
            first, second = least[:, one] * share, least[:, other] * (1.0 - share)
            if self.calls[one].task == self.calls[other].task and self.calls[other].flow.residency == "colocated":
                each, both = (1.0 / values[:, [one, other]] for values in (least, memory))
                turn = each[:, 0] * both[:, 1] - each[:, 1] * both[:, 0]
                with np.errstate(divide="ignore", invalid="ignore"):
                    corner = (both[:, 1] - each[:, 1]) / turn, (each[:, 0] - both[:, 0]) / turn
                    way = (n % len(MIXES) + 1) / len(MIXES)
                    mixed = corner[0] * way, (1.0 - corner[0] * way * both[:, 0]) / both[:, 1]
                inside = np.isfinite(turn) & np.all([part > _NOTHING for part in (*corner, *mixed)], axis=0)
                first, second = np.where(inside, mixed[0], first), np.where(inside, mixed[1], second)
            for part, own in zip(parts, (first, second), strict=True):
                part.append(own)
        return [np.concatenate(part)[:, None] for part in parts]

    @cached_property
    def pair_loads(self) -> Loads:
        """Of mixes of two flows, one after another."""
        return _loads(self.steps, self.streams, self.pairs, self.parts)

    @cached_property
    def pair_places(self) -> dict[str, Floats]:
        """[pairs·K, U] by kind: the last load of a mix at which flow u keeps its promises; inf where it has none."""
        found = {kind: np.full((len(self.pairs) * self.count, len(self.calls)), np.inf) for kind in self.kinds}
        for first in range(0, len(self.pairs), len(MIXES)):
            rows = self.rows(np.arange(first, first + len(MIXES)))
            tasks = {self.calls[v].task for v in self.pairs[first]}
            own = self.pair_loads.take(rows)
            for kind in self.kinds:
                asked = [
                    u
                    for u, each in enumerate(self.calls)
                    if each.task in tasks and (u == self.like[u] or kind not in _ALIKE)
                ]
                found[kind][rows], _ = self._kept(_Promises.of(kind, self.calls, self._streams_of(kind), asked), own)
        return found

    # ---- loads

    def kept(self, kind: str, loads: Loads, whose: Sequence[int]) -> Floats:
        """[rows, U] the last load of a mix at which each of some flows keeps its promises of a kind; inf for others."""
        return self.likely(kind, loads, whose)[0]

    def likely(self, kind: str, loads: Loads, whose: Sequence[int]) -> tuple[Floats, Floats]:
        """The same as seen, and where it is likely."""
        return self._kept(_Promises.of(kind, self.calls, self._streams_of(kind), whose), loads)

    def bytes_of(self, mixes: Sequence[tuple[int, ...]], loads: Loads) -> tuple[Floats, Floats]:
        """[mixes·K, N] bytes that mixes hold on average, and their variance (Poisson)."""
        pool, mean, square = loads.replica, np.zeros(1), np.zeros(1)
        for n, (stream, rate) in enumerate(zip(loads.streams, pool.rates, strict=True)):
            calls = [self.calls[mix[n]] for mix in mixes]
            answers = stacked([c.answer_bytes for c in calls])[:, None]
            answer_squares = stacked([c.answer_squares for c in calls])[:, None]
            prompts = stacked([c.prompt_bytes for c in calls])[:, None]
            kept = np.concatenate([c.kept_bytes for c in calls])
            squares = np.concatenate([c.kept_squares for c in calls])
            seconds = pool.answer_seconds(pool.first_s(stream.calls), stream.calls.output) * stream.calls.answer_weight
            computed = np.ceil(stream.calls.chunks) * stream.calls.weight * pool.full_step_s[..., None]
            mean = mean + rate * ((seconds * answers).sum(axis=-1) + (computed * prompts).sum(axis=-1) + kept)
            square = square + rate * (
                (seconds * answer_squares).sum(axis=-1) + (computed * prompts**2).sum(axis=-1) + squares
            )
        return mean, square

    @cached_property
    def _first_streams(self) -> list[Stream]:
        return [each.stream(self.part, self.chunk, first=True) for each in self.calls]

    def _streams_of(self, kind: str) -> Sequence[Stream]:
        """Of all flows, as a kind of promise needs them."""
        return self._first_streams if kind == "ttft" else self.streams

    def _of_like(self, kind: str, loads: Loads) -> tuple[Floats, Floats]:
        """[rows, U] the last load of a mix at which each flow keeps its promises of a kind, as seen and likely."""
        whose = sorted(set(self.like)) if kind in _ALIKE else range(len(self.calls))
        most = self._kept(_Promises.of(kind, self.calls, self._streams_of(kind), whose), loads)
        # Answers are written alike wherever a history comes from; how long that takes is each one's own.
        return (most[0][:, self.like], most[1][:, self.like]) if kind in _ALIKE else most

    def _kept(self, asked: _Promises | None, loads: Loads) -> tuple[Floats, Floats]:
        """[rows, U] the last load of a mix at which each flow asked about keeps its promises; inf for others.

        As seen, and where it is likely.
        """
        most = np.full((2, len(loads.rate), len(self.calls)), np.inf)
        if asked is not None:
            where: NDArray[np.intp] = np.tile(np.arange(self.count), len(loads.rate) // self.count)
            looks = {look: (calls.take(where), reload[where]) for look, (calls, reload) in asked.looks.items()}
            edges = loads.edges(lambda pool: asked.late(pool, *looks[pool.look]), asked.allowed)
            for n, u in enumerate(asked.flow.tolist()):
                most[:, :, u] = np.minimum(most[:, :, u], [each[:, n] for each in edges])
        return most[0], most[1]


class Edges:
    """The most calls/s of flows on each of `replicas` of K configurations with chunks of some size."""

    def __init__(self, look: Look, replicas: int = 1, wider: Edges | None = None, flows: Ints | None = None) -> None:
        self.look, self.replicas = look, replicas
        self.part, self.calls, self.chunk, self.kinds = look.part, look.calls, look.chunk, look.kinds
        self.wider = self if wider is None else wider
        """Edges that tell what mixes of flows carry less: perhaps of more flows, among which these have numbers."""
        self.flows = np.arange(len(look.calls)) if flows is None else flows
        self.row_names = (*self.kinds, *_ROOM)
        """Of what binds one flow alone."""
        self._count = look.count
        self._rooms: dict[bytes, Floats] = {}
        self._mixes: dict[bytes, Floats] = {}
        alone = self._over([(v,) for v in look.differ], look.alone, [np.ones((len(look.alone.rate), 1))])
        place = np.array([look.differ.index(v) for v in look.like])
        self._alone = alone.take(look.rows(place))
        self.replica = {row: self._by_flow(edges) for row, edges in self._room_of(self._alone).items()}
        """[K, V] of slots and busy: the most of each flow that slots, and the queue of prompts, hold."""
        asked = alone.take(look.rows(np.array(look.asked)))
        self.promises, self._likely = (
            {kind: self._spread(asked.rates(places[n])) for kind, places in look.places.items()} for n in range(2)
        )
        """[K, U, V] by kind: the most of flow v at which flow u keeps its promises; inf where it has none."""

    def _over(self, mixes: Sequence[tuple[int, ...]], loads: Loads, rates: Sequence[Floats]) -> Pooled:
        return loads.over(self.replicas, self.look.reload(mixes, rates))

    @cached_property
    def open(self) -> Bools:
        """[K, V] does a flow that comes alone keep its promises, and has it the memory and the link?"""
        flows = np.arange(len(self.calls))
        own = np.min([kept[:, flows, flows] for kept in self.promises.values()], axis=0)
        return np.asarray((own > 0) & self._fits)

    @cached_property
    def _fits(self) -> Bools:
        """[K, V] has a flow the memory and the link?"""
        needed = np.array([c.flow.fabric_bytes_per_s if c.flow.tier is not None else 0.0 for c in self.calls])
        held = np.stack([self.part.hold(c.flow) for c in self.calls], axis=1) & (self.capacity(self.part.room) > 0)
        return np.asarray(held & (self.part.link[:, None] >= needed))

    def capacity(self, room: Floats) -> Floats:
        """[K, V] the most of each flow that `room` [K] bytes hold."""
        return self._by_flow(self._alone.held(self.look.alone_bytes, np.tile(room, len(self.calls)), "in proportion"))

    def rows(self, chosen: tuple[int, ...], room: Floats) -> tuple[Floats, Bools]:
        """([K, R, V] what a call/s of each flow takes of the rows, [K, V] which may come) for a set of flows.

        They keep the promises of all flows of the set, in `room` [K] bytes.
        """
        members = np.zeros(len(self.calls), dtype=bool)
        members[list(chosen)] = True
        open_ = self.open & members
        most = np.stack(
            [
                *(np.where(open_[:, :, None], self.promises[kind], np.inf).min(axis=1) for kind in self.kinds),
                self.replica["slots"],
                self.replica["busy"],
                self._in_room(room),
            ],
            axis=1,
        )
        calls, like = self.wider.calls, self.wider.look.like
        tasks, alike = {self.calls[v].task for v in chosen}, {like[self.flows[v]] for v in chosen}
        together = [
            n
            for n, (a, b) in enumerate(self.wider.look.pairs)
            if {calls[a].task, calls[b].task} <= tasks
            and (calls[a].task != calls[b].task or {like[a], like[b]} <= alike)
        ]
        if together:
            most = most * (_MIXED * self.wider.mixed(room)[together].min(axis=0))[:, :, None]
        open_ &= np.all(most > 0, axis=1)
        use = np.where(open_[:, None, :], 1.0 / np.where(most > 0, most, np.inf), 0.0)
        return self._through_mixes(self._bent(use, tasks, room), chosen, open_), open_

    @property
    def mixed_names(self) -> tuple[str, ...]:
        """Of `rows`: memory may have several."""
        names, kept = (*self.row_names, *("capacity",) * (len(MIXES) * bool(self._kept_here))), self.kept_mixes
        return (*names, *(_OF_MIXES if kept else ()))

    @cached_property
    def _kept_here(self) -> dict[str, list[int]]:
        """Numbers of the pairs of each task's calls that find no history, and that find it here most often."""
        look = self.look
        found: dict[str, list[int]] = {}
        if self.wider is self:
            for n, (cold, warm) in enumerate(look.pairs):
                one_task = self.calls[cold].task == self.calls[warm].task
                kept = self.calls[warm].flow.residency == "colocated" and look.found(cold) == 0.0 < look.found(warm)
                if one_task and kept:
                    found.setdefault(self.calls[warm].task, []).append(n)
        return found

    def _bent(self, use: Floats, tasks: set[str], room: Floats) -> Floats:
        """Rows [K, R', V] with memory's replaced by several, where the calls of a task whose history is kept, and those
        whose is not, need less together: steps of all are shorter than where one kind fills all the room.

        What mixes need of memory is taken to be no more than what lies between two that were looked at; of one task,
        since of several there would be a row for each choice.
        """
        if not self._kept_here:
            return use
        found = np.concatenate([use, np.zeros((self._count, len(MIXES), len(self.calls)))], axis=1)
        mine = [task for task in sorted(tasks) if task in self._kept_here]
        if not mine:
            return found
        row, carried = len(self.row_names) - 1, self._in_mixes(room)
        task = max(mine, key=lambda name: float(carried[self._kept_here[name]].mean()))
        own = self._kept_here[task]
        cold, warm = self.look.pairs[own[0]]
        ends = use[:, row, [cold, warm]]
        parts = [part.reshape(-1, self._count)[own].T for part in self.look.parts]
        theta, more = parts[1] / (parts[0] + parts[1]), np.maximum(carried[own].T, 1.0)
        order = np.argsort(theta, axis=1)
        theta, more = (np.take_along_axis(each, order, axis=1) for each in (theta, more))
        height = (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * theta) / more
        theta = np.concatenate([np.zeros((self._count, 1)), theta, np.ones((self._count, 1))], axis=1)
        height = np.concatenate([ends[:, :1], height, ends[:, 1:]], axis=1)
        apart = np.diff(theta, axis=1)
        bent = np.all(ends > 0, axis=1) & np.all(apart > _APART, axis=1) & (more.max(axis=1) > 1.0 + _FLAT)
        slope = np.diff(height, axis=1) / np.where(apart > _APART, apart, 1.0)
        start = height[:, :-1] - slope * theta[:, :-1]
        members = [v for v, each in enumerate(self.calls) if each.task == task]
        share = np.array(
            [self.look.found(v) * (self.calls[v].flow.residency == "colocated") for v in members]
        ) / self.look.found(warm)
        lines = start[:, :, None] + slope[:, :, None] * share
        alone = use[:, row][:, members]
        lines = np.maximum(lines + np.maximum(alone - lines.max(axis=1), 0.0)[:, None], 0.0)
        rows = [row, *range(len(self.row_names), found.shape[1])]
        for r, line in zip(rows, np.moveaxis(lines, 1, 0), strict=True):
            new = use[:, row].copy()
            new[:, members] = np.where(alone > 0, line, 0.0)
            found[:, r] = np.where(bent[:, None], new, found[:, r])
        return found

    def _through_mixes(self, use: Floats, chosen: tuple[int, ...], open_: Bools) -> Floats:
        """Rows [K, R', V] with those of mixes in place of all others, of sets of one task's calls, kept or not."""
        if not self.kept_mixes:
            return use
        found = np.concatenate([use, np.zeros((self._count, len(_OF_MIXES), len(self.calls)))], axis=1)
        tasks = {self.calls[v].task for v in chosen}
        if len(tasks) > 1 or not tasks <= self.kept_mixes.keys():
            return found
        cold, warm, seen, _ = self.kept_mixes[tasks.pop()]
        share = self.shares_kept(cold, warm)
        if not {cold, warm} <= set(chosen) or np.any(np.isnan(share[list(chosen)])):
            return found
        own = np.where(np.isnan(share), 0.0, share)
        lines = np.stack([start[:, None] + slope[:, None] * own for start, slope in seen.above()], axis=1)
        # Alone, each takes as much as it does by the rows of the set, which are as wide as its mixes let them be.
        most = [np.where(open_[:, :, None], self.promises[kind], np.inf).min(axis=1) for kind in self.kinds]
        room = self._in_room(room_alone(self.part, self.calls[cold].flow))
        alone = 1.0 / np.maximum(np.min([*most, *self.replica.values(), room], axis=0), _NOTHING)
        lines = np.maximum(lines + np.maximum(alone - lines.max(axis=1), 0.0)[:, None], 0.0) / _BETWEEN
        with_both = (seen.mixed & open_[:, cold] & open_[:, warm])[:, None, None]
        lines = np.where(open_[:, None, :], lines, 0.0)
        found[:, : use.shape[1]] = np.where(with_both, 0.0, use)
        found[:, use.shape[1] :] = np.where(with_both, lines, 0.0)
        return found

    def shares_kept(self, cold: int, warm: int) -> Floats:
        """[V] how much each flow finds here of what the second of two does; nan of what is no mix of them."""
        like, flows = self.look.like, [each.flow for each in self.calls]
        found = np.full(len(flows), np.nan)
        for v, flow in enumerate(flows):
            if flow.task == flows[cold].task and flow.calls.variant.name == flows[cold].calls.variant.name:
                if flow.residency == "colocated":
                    found[v] = self.look.found(v) / self.look.found(warm)
                elif like[v] == like[cold]:
                    found[v] = 0.0
        return found

    @cached_property
    def least_by_flow(self) -> Floats:
        """[K, U, V] the most of flow v at which flow u keeps its promises, in the slots and the queue."""
        kept = np.min(list(self.promises.values()), axis=0)
        return np.asarray(np.minimum(kept, np.min(list(self.replica.values()), axis=0)[:, None]))

    @cached_property
    def least(self) -> Floats:
        """[K, V] the most of each flow at which all flows keep their promises."""
        kept = [np.where(self.open[:, :, None], each, np.inf).min(axis=1) for each in self.promises.values()]
        return np.asarray(np.min([*kept, *self.replica.values()], axis=0))

    # ---- mixes of two tasks

    @cached_property
    def _pairs(self) -> Pooled:
        return self._over(self.look.pairs, self.look.pair_loads, self.look.parts)

    @cached_property
    def _mixed_promises(self) -> Floats:
        """[pairs, K, R − 1] the same of promises, slots and the queue."""
        pairs, like = self.look.pairs, self.look.like
        shape = (len(pairs), self._count)
        found = np.ones((*shape, len(self.kinds) + 2))
        for r, kind in enumerate(self.kinds):
            kept = self._pairs.rates(self.look.pair_places[kind]).reshape(*shape, len(self.calls))
            for n, pair in enumerate(pairs):
                tasks = {self.calls[v].task for v in pair}
                for u, each in enumerate(self.calls):
                    if each.task in tasks and (u == like[u] or kind not in _ALIKE):
                        less = self._less(n, kept[n, :, u], self.promises[kind][:, u])
                        found[n, :, r] = np.minimum(found[n, :, r], np.where(self.open[:, u], less, 1.0))
        for r, (row, edges) in enumerate(self._room_of(self._pairs).items()):
            for n in range(len(pairs)):
                found[n, :, len(self.kinds) + r] = self._less(n, edges.reshape(shape)[n], self.replica[row])
        return found

    def mixed(self, room: Floats) -> Floats:
        """[pairs, K, R] what mixes carry over what rows say in the memory of `room` [K] bytes, at most 1."""
        key = room.tobytes()
        if key not in self._mixes:
            self._mixes[key] = self._mixed(room)
        return self._mixes[key]

    def _in_room(self, room: Floats) -> Floats:
        """[K, V] the most of each flow that `room` [K] bytes hold: many sets of flows leave the same."""
        key = room.tobytes()
        if key not in self._rooms:
            self._rooms[key] = self.capacity(room)
        return self._rooms[key]

    def _mixed(self, room: Floats) -> Floats:
        memory = np.minimum(self._in_mixes(room), 1.0)
        return np.concatenate([self._mixed_promises, memory[..., None]], axis=2)

    def _in_mixes(self, room: Floats) -> Floats:
        """[pairs, K] what mixes carry in `room` [K] bytes over what lies between those of their flows alone."""
        pairs = self.look.pairs
        held = self._pairs.held(self.look.pair_bytes, np.tile(room, len(pairs)), "in proportion")
        held, alone = held.reshape(len(pairs), self._count), self._in_room(room)
        return np.stack([self._carried(n, held[n], alone) for n in range(len(pairs))])

    def _less(self, pair: int, edge: Floats, alone: Floats) -> Floats:
        """[K] an edge [K] of a pair's mix over what lies between those of its flows alone [K, V], at most 1."""
        return np.minimum(self._carried(pair, edge, alone), 1.0)

    def _carried(self, pair: int, edge: Floats, alone: Floats) -> Floats:
        rows = slice(pair * self._count, (pair + 1) * self._count)
        flows = self.look.pairs[pair]
        with np.errstate(divide="ignore", invalid="ignore"):
            used = sum(part[rows, 0] / alone[:, v] for part, v in zip(self.look.parts, flows, strict=True))
            return np.where((used > 0) & np.isfinite(used) & np.isfinite(edge), edge * used, 1.0)

    # ---- what loads use at least

    def holding(self) -> tuple[Floats, Bools]:
        """([K, R, V] what a call/s of each flow takes at least of each row, with its own promises, [K, V] who may)."""
        most = np.stack([*(self._own(self._likely, kind) for kind in self.kinds), *self._held_alone()], axis=1)
        open_ = self._fits & np.all(most > 0, axis=1)
        return np.where(open_[:, None, :], SAFE / (_ROUNDING * np.where(most > 0, most, np.inf)), 0.0), open_

    def beside(self, task: str) -> Floats:
        """[K, R, V] what a call/s of each flow takes at least of the promises of a task that comes; 0 of none.

        Whichever of its flows comes: by the one that leaves most.
        """
        mine = np.array([each.task == task for each in self.calls])
        who = (self.open & mine)[:, :, None]
        most = np.stack([np.where(who, self._likely[kind], 0.0).max(axis=1) for kind in self.kinds], axis=1)
        return np.where(most > 0, SAFE / (_ROUNDING * np.where(most > 0, most, np.inf)), 0.0)

    def carried_beside(self, task: str) -> Floats:
        """[K, R] the most that mixes of it and another task carry over what their flows do with its promises."""
        found, count = np.ones((self._count, len(self.kinds))), len(self.look.pairs)
        for r, kind in enumerate(self.kinds):
            edges = self._pairs.rates(self.look.pair_places[kind]).reshape(count, self._count, len(self.calls))
            for n, (a, b) in enumerate(self.look.pairs):
                for u in {a, b} if self.calls[a].task != self.calls[b].task else ():
                    if self.calls[u].task == task:
                        asked = self.look.like[u] if kind in _ALIKE else u
                        own = self._carried(n, edges[n][:, asked], self.promises[kind][:, u])
                        found[:, r] = np.maximum(found[:, r], own)
        return found

    def holding_least(self) -> Floats:
        """[K, V] what a call/s of each flow takes at least of the memory for its task.

        On a replica for itself, in steps that read no more for a sequence than those of any flow.
        """
        look, shape = self.look, (len(self.calls), self._count)
        place = look.rows(np.array([look.differ.index(v) for v in look.like]))
        light = look.alone.rate[place, 0].reshape(shape)
        held = [(each[:, 0].reshape(shape) / light).T for each in look.alone_bytes]
        kept = [
            np.concatenate([getattr(each, word) for each in self.calls], axis=1)
            for word in ("kept_bytes", "kept_squares")
        ]
        reads = np.concatenate([s.reads_s / np.maximum(s.tokens, _NOTHING) for s in look.streams], axis=1)
        faster = (look.steps.lone + reads.min(axis=1, keepdims=True)) / (look.steps.lone + reads)
        least = [each + (whole - each) * faster for whole, each in zip(held, kept, strict=True)]
        room = np.stack([room_alone(self.part, each.flow) for each in self.calls], axis=1)
        return np.where(self._fits, 1.0 / np.maximum(most_held(least[0], least[1], room), _NOTHING), 0.0)

    @cached_property
    def kept_mixes(self) -> dict[str, tuple[int, int, Seen, Seen]]:
        """By task whose history may be kept here: flows that keep none of it and most, what their mixes take of the
        replica, and what they take at least."""
        found: dict[str, tuple[int, int, Seen, Seen]] = {}
        for task, own in self._kept_here.items() if self.closely else ():
            pair = self.look.pairs[own[0]]
            room = room_alone(self.part, self.calls[pair[0]].flow)
            memory = self._in_room(room)
            sure, likely = (self._alone_takes(each, memory, pair) for each in (self.promises, self._likely))
            rows = np.flatnonzero(crosses(*sure))
            if not len(rows):
                continue
            edges = self if len(rows) == self._count else Edges(self.look.take(rows))
            ends = [tuple((steps[rows], held[rows]) for steps, held in both) for both in zip(sure, likely, strict=True)]
            look = partial(edges._mix_takes, pair, room[rows])
            seen, least = (each.among(self._count, rows) for each in Seen.of(ends[0], ends[1], look))  # type: ignore[arg-type]
            found[task] = (*pair, seen, least.times(SAFE / _ROUNDING))
        return found

    @property
    def closely(self) -> bool:
        """Are mixes looked at closely?  Gaps between tokens are known less well of them: rows are safer without."""
        return self.part.closely and "itl" not in self.kinds

    def holding_mixes(self) -> Rows:
        """What a call/s of each flow takes at least of rows through mixes of one task's calls that are kept or not."""
        names, rows = [], []
        for task, (cold, warm, _, least) in self.kept_mixes.items():
            share = self.shares_kept(cold, warm)
            for number, (start, slope) in enumerate(least.below()):
                line = start[:, None] + slope[:, None] * np.where(np.isnan(share), 0.0, share)
                rows.append(np.where(least.mixed[:, None] & ~np.isnan(share), np.maximum(line, 0.0), 0.0))
                names.append(f"mixes of {task} ({number})")
        shape = (self._count, len(rows), len(self.calls))
        return Rows(tuple(names), np.stack(rows, axis=1) if rows else np.zeros(shape), np.ones(shape[:2]))

    def _alone_takes(self, promises: dict[str, Floats], memory: Floats, flows: tuple[int, int]) -> list[Heights]:
        """(steps, memory) that a call/s of each flow takes alone, with its own promises."""
        most = np.min([*(self._own(promises, kind) for kind in self.kinds), *self.replica.values()], axis=0)
        with np.errstate(divide="ignore"):
            return [(1.0 / most[:, v], 1.0 / memory[:, v]) for v in flows]

    def _mix_takes(self, pair: tuple[int, int], room: Floats, theta: Floats) -> Both:
        """(steps, memory) that a call/s of a mix of two takes, `theta` [K] of it of the second: surely, likely."""
        look = self.look
        rates = [1.0 - theta[:, None], theta[:, None]]
        loads = _loads(look.steps, look.streams, [pair], rates)
        pooled = self._over([pair], loads, rates)
        kept = [
            look.likely(kind, loads, sorted({look.like[v] if kind in _ALIKE else v for v in pair}))
            for kind in self.kinds
        ]
        rooms = list(self._room_of(pooled).values())
        memory = pooled.held(look.bytes_of([pair], loads), room, "in proportion")
        most = [[*(pooled.rates(places[n]).min(axis=1) for places in kept), *rooms] for n in range(2)]
        with np.errstate(divide="ignore"):
            sure, likely = (1.0 / np.min(each, axis=0) for each in most)
            held = 1.0 / memory
        return (sure, held), (likely, held)

    def held_mixes(self) -> dict[str, MemoryMixes]:
        """What one task's calls take of the memory of theirs, some of which find their history here, by task."""
        look, found = self.look, {}
        for task, own in self._kept_here.items():
            cold, warm = look.pairs[own[0]]
            room = room_alone(self.part, self.calls[cold].flow)
            alone = self._alone.held(look.alone_bytes, np.tile(room, len(self.calls)), "as last")
            ends = self._by_flow(alone)[:, [cold, warm]]
            rows = look.rows(np.array(own))
            some = look.pair_bytes[0][rows], look.pair_bytes[1][rows]
            edge = self._pairs.take(rows).held(some, np.tile(room, len(own)), "as last")
            parts = [part.reshape(-1, self._count)[own].T for part in look.parts]
            mixes = edge.reshape(len(own), self._count).T * (parts[0] + parts[1])
            theta = parts[1] / (parts[0] + parts[1])
            found[task] = MemoryMixes.of((cold, warm), theta, ends, mixes, _LOWER)
        return found

    @cached_property
    def carried(self) -> Floats:
        """[pairs, K, R] what mixes carry that keep the promises of both, over what their flows do with their own."""
        pairs, like = self.look.pairs, self.look.like
        found = np.ones((len(pairs), self._count, len(self.row_names)))
        if not pairs:
            return found
        alone = [self._own(self.promises, kind) for kind in self.kinds] + self._held_alone()
        edges = [self._pairs.rates(self.look.pair_places[kind]).reshape(*found.shape[:2], -1) for kind in self.kinds]
        rooms = [edge.reshape(found.shape[:2]) for edge in self._room_of(self._pairs).values()]
        memory = self._pairs.held(self.look.pair_bytes, np.tile(self.part.room, len(pairs)), "in proportion")
        for n, pair in enumerate(pairs):
            for r, kind in enumerate(self.kinds):
                asked = [like[v] if kind in _ALIKE else v for v in pair]
                found[n, :, r] = self._carried(n, edges[r][n][:, asked].min(axis=1), alone[r])
            for r, edge in enumerate([*rooms, memory.reshape(found.shape[:2])], len(self.kinds)):
                own = self.capacity(self.part.room) if r == len(self.row_names) - 1 else alone[r]
                found[n, :, r] = self._carried(n, edge[n], own)
        return found

    def corners(self) -> Floats:
        """[K, kinds] the most that two tasks carry over lines between what each carries alone, by kind of promise.

        Alone a flow ends at its own promise; beside others each keeps its own, which are lines of their own: two of
        them meet beyond the line between their ends, wherever neither promise is the stricter one for both.
        """
        found = np.ones((self._count, len(self.kinds)))
        tasks = [each.task for each in self.calls]
        distinct = [v for v in range(len(tasks)) if v == self.look.like[v]]
        apart = [(a, b) for n, a in enumerate(distinct) for b in distinct[n + 1 :] if tasks[a] != tasks[b]]
        if not apart:
            return found
        one, other = (np.array(each) for each in zip(*apart, strict=True))
        for r, kind in enumerate(self.kinds):
            most = self.promises[kind]
            own = self._own(self.promises, kind)
            with np.errstate(divide="ignore", invalid="ignore"):
                first, second = own[:, other] / most[:, one, other], own[:, one] / most[:, other, one]
                beyond = (2.0 - first - second) / (1.0 - first * second)
            met = (first < 1.0) & (second < 1.0) & np.isfinite(own[:, one]) & np.isfinite(own[:, other])
            found[:, r] = np.max(np.where(met, beyond, 1.0), axis=1)
        return found

    def _own(self, promises: dict[str, Floats], kind: str) -> Floats:
        """[K, V] the most of each flow at which it keeps its own promises of a kind."""
        flows = np.arange(len(self.calls))
        return np.asarray(promises[kind][:, flows, flows])

    def _held_alone(self) -> list[Floats]:
        """[K, V] the most of each flow that slots, the queue, and memory without other tasks' prefixes hold."""
        rooms = {each.flow.calls.shared: self.capacity(room_alone(self.part, each.flow)) for each in self.calls}
        memory = np.stack([rooms[each.flow.calls.shared][:, v] for v, each in enumerate(self.calls)], axis=1)
        return [self.replica["slots"], self.replica["busy"], memory]

    def mix(self, shares: Floats, room: Floats) -> Floats:
        """[K] the most of a mix of the flows, `shares` [V] of it, that keeps every promise, in `room` [K] bytes."""
        look, every = self.look, tuple(range(len(self.calls)))
        rates = [np.full((self._count, 1), share) for share in shares.tolist()]
        loads = replace(_loads(look.steps, look.streams, [every], rates), even=float(self.replicas))
        pooled = self._over([every], loads, rates)
        kept = [look.kept(kind, loads, every) for kind in self.kinds]
        most = np.min([*(pooled.rates(p).min(axis=1) for p in kept), *self._room_of(pooled).values()], axis=0)
        most = np.minimum(most, pooled.held(look.bytes_of([every], loads), room, "slots")) / SAFE
        moved = sum(share * each.moved_bytes for share, each in zip(shares.tolist(), self.calls, strict=True))
        most = np.minimum(most, self.part.link / np.maximum(moved, _NOTHING))
        return np.asarray(np.where(self.open.all(axis=1) & (room > 0), most, 0.0))

    # ---- loads

    def _room_of(self, pooled: Pooled) -> dict[str, Floats]:
        """[rows] the most of a mix that slots and the queue of prompts hold."""
        loads, more = pooled.loads, pooled.more
        most = np.full(len(more), self.part.instance.options.max_utilization)
        busy = np.minimum(pooled.until(loads.replica.utilization * more, most), pooled.steady(STEADY))
        slots = np.broadcast_to(loads.steps.batch[:, loads.full], len(more))
        return {"slots": pooled.until(loads.steps.batch * more, slots * (1.0 + 1e-12)), "busy": busy}

    def _by_flow(self, edges: Floats) -> Floats:
        """[V·K, ...] as [K, V, ...]."""
        return np.swapaxes(edges.reshape(len(self.calls), self._count, *edges.shape[1:]), 0, 1)

    def _spread(self, kept: Floats) -> Floats:
        """[K, U, V] of all flows from those that were asked about, [asked·K, U]."""
        look = self.look
        found = np.full((self._count, len(self.calls), len(self.calls)), np.inf)
        asked = [look.differ[n] for n in look.asked]
        found[:, :, asked] = np.moveaxis(kept.reshape(len(asked), self._count, -1), 0, 2)
        with np.errstate(divide="ignore"):
            for v, (cold, warm, share) in look.between.items():
                found[:, :, v] = 1.0 / ((1.0 - share) / found[:, :, cold] + share / found[:, :, warm])
        return found[:, :, look.like]


def _loads(steps: Steps, streams: Sequence[Stream], mixes: Sequence[tuple[int, ...]], rates: Sequence[Floats]) -> Loads:
    """Loads of mixes of flows, [mixes·K]: the n-th flow of each at `rates[n]` ([mixes·K, 1], or [K, 1] alike)."""
    rows = np.tile(np.arange(len(steps.batch)), len(mixes))
    mixed = [Stream.joined([streams[mix[n]] for mix in mixes]) for n in range(len(mixes[0]))]
    full = [np.tile(rate, (len(rows) // len(rate), 1)) for rate in rates]
    return Loads.of(steps.take(rows), mixed, full)


def _like(calls: Sequence[FlowCalls]) -> list[int]:
    """[V] the first flow with the same prompts and answers: wherever their history is kept for the same time."""
    first: dict[tuple[Any, ...], int] = {}
    found = []
    for v, each in enumerate(calls):
        calls_of = each.flow.calls
        key = (each.flow.task, calls_of.variant.name, each.flow.residency == "drop", calls_of.ttl_s)
        found.append(first.setdefault(key, v))
    return found


def _between(calls: Sequence[FlowCalls], among: Sequence[int]) -> dict[int, tuple[int, int, float]]:
    """Flows that are a mix of two others, with the share of the second: they differ in their time-to-live alone.

    Where more sessions are kept, prompts that find their history are more of all prompts.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for v in among:
        flow = calls[v].flow
        alike.setdefault((flow.task, flow.calls.variant.name, flow.residency == "drop"), []).append(v)
    found = {}
    for members in alike.values():
        kept = [calls[v].flow.calls.kept for v in members]
        order = np.argsort(kept, kind="stable").tolist()
        cold, warm = order[0], order[-1]
        for n in order[1:-1]:
            found[members[n]] = (members[cold], members[warm], (kept[n] - kept[cold]) / (kept[warm] - kept[cold]))
    return found
