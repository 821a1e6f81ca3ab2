"""What colocated replicas carry with chunks of one size: of each flow alone, and of pairs of tasks.

A row Σ x/X ≤ 1 over the edges X of flows alone holds for mixes too, as far as the loads that break nothing are convex:
where steps are linear in the batch they are half-spaces. What mixes of two tasks carry less is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from codesign.candidates.context import MEMORY_Z, MomentBook, Slice
from codesign.candidates.data import Bools, Floats, Ints
from codesign.candidates.flows import CallFlow, chain_lengths, chain_moments
from codesign.candidates.loads import SAFE, Loads, batches
from codesign.candidates.outer import bulge, room_alone, tasks_of
from codesign.performance import kv_bytes
from codesign.performance.colocated import Calls, Colocated, Steps, Stream, stacked
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
_ROUNDING = 1.008
"""By how much more a flow may carry alone than was found: promises are looked at closely twice."""
_MIXED = 0.99
"""Of what rows say of flows together: mixes of more than two are none of those that were looked at."""
STEADY = 4.0
"""Percent more sequences that one percent more calls may bring, at most: beyond it batches and queues run away."""
_NEVER_S = 1e12
_NOTHING = 1e-9
"""Calls/s of what does not come at all."""


@dataclass(frozen=True, eq=False)
class FlowCalls:
    """The calls of one flow on the configurations of a slice."""

    flow: CallFlow
    prompts: tuple[Floats, Floats, Floats]
    """(weight, new, cached tokens) [J] of prompts."""
    reload: Floats
    """[K, J] seconds in which a history is read back from a tier."""
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

    @staticmethod
    def of(part: Slice, book: MomentBook, flow: CallFlow) -> FlowCalls:
        """The calls of a flow."""
        prompts, points = flow.calls.prefill_points(flow.residency), flow.calls.population
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
            reload,
            prompt.held,
            (weight, mean(points.context), tokens),
            mean(held_bytes),
            mean(held_bytes**2),
            moments.bytes_after[:, None] * held,
            moments.square_after[:, None] * held,
            np.maximum(prompt.arriving, prompt.decode_leaving) * (flow.tier is not None),
        )

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.flow.calls.task.name

    def stream(self, part: Slice, chunk: float) -> Stream:
        """Them in chunks."""
        return Stream.of(part.table, chunk, self.prompts, self.answers)


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
    def of(
        kind: str, calls: Sequence[FlowCalls], streams: Sequence[Stream], whose: Sequence[int]
    ) -> _Promises | None:
        """Those of some calls, with their chunks; None where there are none."""
        made = [
            (v, seconds, 1.0 - percentile)
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
        reload = np.stack([np.pad(m.reload, ((0, 0), (0, longest - m.reload.shape[1]))) for m in mine], axis=1)
        late: Callable[[Colocated, Calls, Floats], Floats]
        if kind == "ttft":

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return pool.ttft_exceeds(here, read, target)

        elif kind == "itl":

            def late(pool: Colocated, here: Calls, read: Floats) -> Floats:
                return pool.itl_exceeds(here, target)

        elif kind == "tpot":
            every = [answer_lengths(m.flow.calls.task, m.flow.calls.population) for m in mine]
            answers = {look: _stacked([_lumped(*each, most) for each in every]) for look, most in _ANSWERS.items()}

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


class Edges:
    """The most calls/s of flows on K configurations with chunks of one size."""

    def __init__(self, part: Slice, calls: Sequence[FlowCalls], chunk: float) -> None:
        self.part, self.calls, self.chunk = part, calls, chunk
        self._count = len(part.index)
        gaps = any(each.flow.calls.task.itl_slo for each in calls)
        self.kinds: tuple[str, ...] = ("tpot", "ttft", "task_latency", *(["itl"] if gaps else []))
        """Of promises: those on gaps between tokens cost problems without them no row."""
        self.row_names = (*self.kinds, *_ROOM)
        """Of `rows`."""
        self._steps = Steps.at(part.table, batches(part.slots * part.table.dp.astype(np.float64)), chunk)
        self._streams = [each.stream(part, chunk) for each in calls]
        self.like = _like(calls)
        differ = sorted(set(self.like))
        alone = self._loads([(v,) for v in differ], [np.ones((self._count, 1))])
        place = np.array([differ.index(v) for v in self.like])
        self._alone = alone.take(self._rows(place))
        self._bytes = self._held([(v,) for v in range(len(calls))], self._alone)
        self.replica = self._room_for(self._alone)
        """[K, V] of slots and busy: the most of each flow that slots, and the queue of prompts, hold."""
        between = _between(calls, differ)
        asked = [n for n, v in enumerate(differ) if v not in between]
        loads = alone.take(self._rows(np.array(asked)))
        self.promises = {
            kind: self._spread(self._of_like(kind, loads), [differ[n] for n in asked], between) for kind in self.kinds
        }
        """[K, U, V] by kind: the most of flow v at which flow u keeps its promises; inf where it has none."""

    def _rows(self, places: Ints) -> NDArray[np.intp]:
        """Rows of some of the mixes of loads, [places·K]."""
        return (places[:, None] * self._count + np.arange(self._count)).ravel()

    @cached_property
    def open(self) -> Bools:
        """[K, V] does a flow that comes alone keep its promises, and has it the memory and the link?"""
        flows = np.arange(len(self.calls))
        own = np.min([kept[:, flows, flows] for kept in self.promises.values()], axis=0)
        needed = np.array([c.flow.fabric_bytes_per_s if c.flow.tier is not None else 0.0 for c in self.calls])
        held = np.stack([self.part.hold(c.flow) for c in self.calls], axis=1) & (self.capacity(self.part.room) > 0)
        return np.asarray((own > 0) & held & (self.part.link[:, None] >= needed))

    def capacity(self, room: Floats) -> Floats:
        """[K, V] the most of each flow that `room` [K] bytes hold."""
        return self._by_flow(self._alone.until(self._bytes, np.tile(room, len(self.calls))))

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
                self.capacity(room),
            ],
            axis=1,
        )
        tasks, like = {self.calls[v].task for v in chosen}, {self.like[v] for v in chosen}
        together = [
            n
            for n, (a, b) in enumerate(self._pairs)
            if {self.calls[a].task, self.calls[b].task} <= tasks
            and (self.calls[a].task != self.calls[b].task or {self.like[a], self.like[b]} <= like)
        ]
        if together:
            less = np.minimum(self._mixed(room)[0, together].min(axis=0), 1.0)
            most = most * (_MIXED * less)[:, :, None]
        open_ &= np.all(most > 0, axis=1)
        return np.where(open_[:, None, :], 1.0 / np.where(most > 0, most, np.inf), 0.0), open_

    def holding(self) -> tuple[Floats, Floats, Floats, Bools]:
        """What loads that keep their promises use at least: [K, R, V], how much wider mixes are [K, R], those of one
        task [K, R, tasks], and [K, V] who may come.

        Of each flow alone, with its own promises and no other task's prefix.
        """
        rooms = {each.flow.calls.shared: room_alone(self.part, each.flow) for each in self.calls}
        held = {shared: self.capacity(room) for shared, room in rooms.items()}
        memory = np.stack([held[each.flow.calls.shared][:, v] for v, each in enumerate(self.calls)], axis=1)
        own = [self._own(kind) for kind in self.kinds]
        most = _ROUNDING / SAFE * np.stack([*own, self.replica["slots"], self.replica["busy"], memory], axis=1)
        names = tasks_of([each.flow for each in self.calls])
        wider = np.ones((self._count, most.shape[1], len(names) + 1))
        for room in rooms.values() if self._pairs else ():
            carried = bulge(self._mixed(room)[1])
            for n, (a, b) in enumerate(self._pairs):
                place = names.index(self.calls[a].task) if self.calls[a].task == self.calls[b].task else -1
                wider[..., place] = np.maximum(wider[..., place], carried[n])
        open_ = self.open & np.all(most > 0, axis=1)
        use = np.where(open_[:, None, :], 1.0 / np.where(most > 0, most, np.inf), 0.0)
        return use, wider.max(axis=2), wider[..., :-1], open_

    def _own(self, kind: str) -> Floats:
        """[K, V] the most of each flow at which it keeps its own promises of a kind."""
        flows = np.arange(len(self.calls))
        return np.asarray(self.promises[kind][:, flows, flows])

    def mixed(self, shares: Floats, room: Floats) -> Floats:
        """[K] the most of a mix of the flows, `shares` [V] of it, that keeps every promise, in `room` [K] bytes."""
        every = tuple(range(len(self.calls)))
        loads = self._loads([every], [np.full((self._count, 1), share) for share in shares.tolist()])
        kept = [self._kept(_Promises.of(kind, self.calls, self._streams, every), loads) for kind in self.kinds]
        most = np.min([*(each.min(axis=1) for each in kept), *self._room_of(loads).values()], axis=0)
        most = np.minimum(most, loads.until(self._held([every], loads), room)) / SAFE
        moved = sum(share * each.moved_bytes for share, each in zip(shares.tolist(), self.calls, strict=True))
        most = np.minimum(most, self.part.link / np.maximum(moved, 1e-300))
        return np.asarray(np.where(self.open.all(axis=1) & (room > 0), most, 0.0))

    # ---- mixes of two tasks

    @cached_property
    def _least(self) -> Floats:
        """[K, V] the most of each flow at which all flows keep their promises."""
        kept = [np.where(self.open[:, :, None], each, np.inf).min(axis=1) for each in self.promises.values()]
        return np.asarray(np.min([*kept, *self.replica.values()], axis=0))

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Two flows each, one after another for each of MIXES.

        Neighbouring tasks, as the flows of which most is carried, and calls of one task that find their history least
        often and most often.
        """
        carried = np.mean(np.where(self.open, self._least, 0.0), axis=0)
        tasks: dict[str, list[int]] = {}
        for v, each in enumerate(self.calls):
            tasks.setdefault(each.task, []).append(v)
        chosen = [max(flows, key=lambda v: float(carried[v])) for _, flows in sorted(tasks.items())]
        alike = [sorted({self.like[v] for v in flows}, key=self._found) for flows in tasks.values()]
        found = [*pairwise(chosen), *((own[0], own[-1]) for own in alike if len(own) > 1)]
        return [pair for pair in found for _ in MIXES]

    def _found(self, v: int) -> float:
        """Share of a flow's sessions that find their history."""
        flow = self.calls[v].flow
        return 0.0 if flow.residency == "drop" else float(flow.calls.kept)

    @cached_property
    def _parts(self) -> list[Floats]:
        """[pairs·K, 1] the share of what is carried of each of the two."""
        least = np.where(np.isfinite(self._least) & (self._least > 0), self._least, _NOTHING)
        parts: tuple[list[Floats], list[Floats]] = ([], [])
        for n, pair in enumerate(self._pairs):
            share = MIXES[n % len(MIXES)]
            for part, v, own in zip(parts, pair, (share, 1.0 - share), strict=True):
                part.append(least[:, v] * own)
        return [np.concatenate(part)[:, None] for part in parts]

    @cached_property
    def _pair_loads(self) -> Loads:
        return self._loads(self._pairs, self._parts)

    @cached_property
    def _mixed_promises(self) -> Floats:
        """[2, pairs, K, R − 1] what mixes carry over what rows say: promises, slots, the queue.

        First the least, by the promises of any flow of their tasks; then by those of their own flows, over what each
        carries with its own.
        """
        loads, shape = self._pair_loads, (len(self._pairs), self._count)
        found = np.ones((2, *shape, len(self.kinds) + 2))
        for first in range(0, len(self._pairs), len(MIXES)):
            mixes = np.arange(first, first + len(MIXES))
            tasks = {self.calls[v].task for v in self._pairs[first]}
            flows = [u for u, each in enumerate(self.calls) if each.task in tasks]
            own = loads.take(self._rows(mixes))
            for r, kind in enumerate(self.kinds):
                asked = [u for u in flows if u == self.like[u] or kind not in _ALIKE]
                kept = self._kept(_Promises.of(kind, self.calls, self._streams, asked), own)
                for n, edges in zip(mixes.tolist(), kept.reshape(len(MIXES), self._count, -1), strict=True):
                    pair = [self.like[v] if kind in _ALIKE else v for v in self._pairs[n]]
                    both = edges[:, pair].min(axis=1)
                    found[1, n, :, r] = self._over(n, both, self._own(kind))
                    for u in asked:
                        over = self._over(n, edges[:, u], self.promises[kind][:, u])
                        found[0, n, :, r] = np.minimum(found[0, n, :, r], np.where(self.open[:, u], over, 1.0))
        for r, (row, edges) in enumerate(self._room_of(loads).items()):
            for n in range(len(self._pairs)):
                found[:, n, :, len(self.kinds) + r] = self._over(n, edges.reshape(shape)[n], self.replica[row])
        return found

    def _mixed(self, room: Floats) -> Floats:
        """[2, pairs, K, R] the same with the memory of `room` [K] bytes."""
        held = self._pair_loads.until(self._pair_bytes, np.tile(room, len(self._pairs)))
        held, alone = held.reshape(len(self._pairs), self._count), self.capacity(room)
        memory = np.stack([self._over(n, held[n], alone) for n in range(len(self._pairs))])
        return np.concatenate([self._mixed_promises, np.stack([memory, memory])[..., None]], axis=3)

    @cached_property
    def _pair_bytes(self) -> Floats:
        return self._held(self._pairs, self._pair_loads)

    def _over(self, pair: int, edge: Floats, alone: Floats) -> Floats:
        """[K] an edge [K] of a pair's mix over what lies between those of its flows alone [K, V]."""
        rows = slice(pair * self._count, (pair + 1) * self._count)
        with np.errstate(divide="ignore", invalid="ignore"):
            used = sum(part[rows, 0] / alone[:, v] for part, v in zip(self._parts, self._pairs[pair], strict=True))
            return np.where((used > 0) & np.isfinite(used), edge * used, 1.0)

    # ---- loads

    def _loads(self, mixes: Sequence[tuple[int, ...]], rates: Sequence[Floats]) -> Loads:
        """Loads of mixes of flows, [mixes·K]: the n-th flow of each at `rates[n]` ([mixes·K, 1], or [K, 1] alike)."""
        rows = np.tile(np.arange(self._count), len(mixes))
        streams = [Stream.joined([self._streams[mix[n]] for mix in mixes]) for n in range(len(mixes[0]))]
        full = [np.tile(rate, (len(rows) // len(rate), 1)) for rate in rates]
        return Loads.of(self._steps.take(rows), streams, full)

    def _held(self, mixes: Sequence[tuple[int, ...]], loads: Loads) -> Floats:
        """[mixes·K, N] bytes that mixes hold, and that they exceed seldom."""
        pool, mean, square = loads.replica, 0.0, 0.0
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
        return np.asarray(mean + MEMORY_Z * np.sqrt(square))

    def _room_of(self, loads: Loads) -> dict[str, Floats]:
        """[rows] the most of a mix that slots and the queue of prompts hold."""
        most = np.full(len(loads.rate), self.part.instance.options.max_utilization)
        busy = np.minimum(loads.until(loads.replica.utilization, most), loads.steady(STEADY))
        return {"slots": loads.sure[:, loads.full], "busy": busy}

    def _room_for(self, loads: Loads) -> dict[str, Floats]:
        return {row: self._by_flow(edges) for row, edges in self._room_of(loads).items()}

    def _by_flow(self, edges: Floats) -> Floats:
        """[V·K, ...] as [K, V, ...]."""
        return np.swapaxes(edges.reshape(len(self.calls), self._count, *edges.shape[1:]), 0, 1)

    def _of_like(self, kind: str, loads: Loads) -> Floats:
        """[rows, U] the most of a mix at which each flow keeps its promises of a kind."""
        whose = sorted(set(self.like)) if kind in _ALIKE else range(len(self.calls))
        most = self._kept(_Promises.of(kind, self.calls, self._streams, whose), loads)
        # Answers are written alike wherever a history comes from; how long that takes is each one's own.
        return most[:, self.like] if kind in _ALIKE else most

    def _kept(self, asked: _Promises | None, loads: Loads) -> Floats:
        """[rows, U] the most of a mix at which each flow asked about keeps its promises; inf for others."""
        most = np.full((len(loads.rate), len(self.calls)), np.inf)
        if asked is not None:
            where: NDArray[np.intp] = np.tile(np.arange(self._count), len(loads.rate) // self._count)
            looks = {look: (calls.take(where), reload[where]) for look, (calls, reload) in asked.looks.items()}
            edges = loads.edges(lambda pool: asked.late(pool, *looks[pool.look]), asked.allowed)
            for n, u in enumerate(asked.flow.tolist()):
                most[:, u] = np.minimum(most[:, u], edges[:, n])
        return most

    def _spread(self, kept: Floats, asked: Sequence[int], between: dict[int, tuple[int, int, float]]) -> Floats:
        """[K, U, V] of all flows from those `asked` about, [asked·K, U]."""
        found = np.full((self._count, len(self.calls), len(self.calls)), np.inf)
        found[:, :, list(asked)] = np.moveaxis(kept.reshape(len(asked), self._count, -1), 0, 2)
        with np.errstate(divide="ignore"):
            for v, (cold, warm, share) in between.items():
                found[:, :, v] = 1.0 / ((1.0 - share) / found[:, :, cold] + share / found[:, :, warm])
        return found[:, :, self.like]


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
