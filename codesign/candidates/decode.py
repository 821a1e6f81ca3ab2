"""Decode columns: at the edge of what each configuration carries (DESIGN 3.4).

A column is a configuration, what it promises of its steps, and the tasks that it may serve. Its rows are Σ x/X ≤ 1,
with X the most calls/s of each flow alone at which the steps, the slots or the memory are at their limit: those of the
pool's fixed point t = step(b) + r·b at the batch b that a call sees, so no step limit or spread is chosen from a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import combinations, product

import numpy as np

from codesign.candidates.context import (
    MomentBook,
    OperatingPoints,
    Slice,
    Z,
    decode_constant_power,
    decode_power,
    tier_joules,
)
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.edges import MIXES
from codesign.candidates.flows import CallFlow
from codesign.candidates.loads import batches, most_held, within_slots
from codesign.candidates.outer import (
    Blocks,
    Built,
    MemoryMixes,
    Rows,
    bulge,
    memory_rows,
    outer_block,
    room_alone,
    task_rows,
    tasks_of,
)
from codesign.candidates.prefixes import sets_of_tasks
from codesign.performance import decode_step_seconds
from codesign.performance.queueing import EVEN_REPLICAS, batch_swing, normal_quantile, seen_batch

ROW_NAMES = ("time", "slots", "capacity", "link")
_FINER = 4
"""Loads that are looked at here, for one where prompts are computed too."""
_SAFE = 0.9995
"""Of an edge: what lies between two loads is known to about as much."""
_FIRST, _SECOND = MIXES, tuple(1.0 - share for share in MIXES)
"""Of what either of two flows carries alone, what it brings to their mixes."""
_ANY = 2**20
"""Replicas among which calls are even, of which more make no difference."""
_LOWER = 1.015
"""By how much memory that mixes take may lie below lines at what was seen."""
_SEEN = (0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
"""Of what calls carry whose history is kept, beside the rest of what those carry whose history is not."""
_LATELY = 3 * _FINER
"""Loads over which a slope is taken where slots are full."""
_BEYOND_SLOTS = 100.0
"""Times the calls that fill the slots that memory may have room for, at the most."""
_CURVED = 1.009
"""By how much calls of several variants may carry more than lies between them."""
_STEPS = (0, 1, 3)
"""Rows other than that of memory."""
_NOTHING = 1e-9
"""Calls/s of what cannot come."""
_WORTH = 0.002
"""By how much a column must offer more than one that admits more flows, to stand beside it."""

Promise = tuple[tuple[float, float], ...]
"""(deviations of the step above its mean, seconds) that it keeps within."""


def decode_blocks(part: Slice, book: MomentBook, select: list[int]) -> Built:
    """The block of a slice's decode columns, and that of those that bound (none where it has no flows)."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index) or not np.any(part.room > 0):
        return Built()
    power = np.stack([decode_power(part, book, flow) + tier_joules(part, flow) for flow in flows], axis=1)
    few = DecodeEdges(part, book, flows)
    return Built(_inner(part, book, few, power, select), _outer(part, book, few, power, select) if part.bounded else [])


def _inner(part: Slice, book: MomentBook, few: DecodeEdges, power: Floats, select: list[int]) -> Blocks:
    """Columns whose rows keep every promise."""
    flows, found = few.flows, few.columns()
    stays = np.array([flow.residency == "decode" for flow in flows])
    pooled = np.ones(len(found.rows), dtype=np.int64)
    if not stays.all():
        more = DecodeEdges(part, book, flows, EVEN_REPLICAS).columns(~stays)
        found = _Columns(*(np.concatenate([getattr(found, f.name), getattr(more, f.name)]) for f in fields(_Columns)))
        pooled = np.concatenate([pooled, np.full(len(more.rows), EVEN_REPLICAS)])
    if not len(found.rows):
        return []
    configuration = part.index[found.rows]
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=ROW_NAMES,
        use=RowUse.dense(found.use),
        limit=np.ones(found.use.shape[:2]),
        admissible=found.admissible,
        flow_power_w=power[found.rows],
        replica_power_w=decode_constant_power(part)[found.rows],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("decode", configuration),
        min_replicas=pooled,
    )
    nothing = np.full(len(configuration), np.nan)
    return [(block, OperatingPoints("decode", configuration, found.limit_s, nothing, nothing, nothing))]


def _outer(part: Slice, book: MomentBook, few: DecodeEdges, power: Floats, select: list[int]) -> Blocks:
    """Columns that hold every load which keeps its promises, on few replicas and on any number of even ones."""
    flows, count = few.flows, len(part.index)
    stays = np.array([flow.residency == "decode" for flow in flows])
    constant = decode_constant_power(part)
    found: Blocks = []
    # The more there are, the less batches swing: each stands for all numbers up to the next.
    several = () if stays.all() else ((2, EVEN_REPLICAS - 1), (EVEN_REPLICAS, _ANY))
    for pooled, most in ((1, 1), *several):
        edges = few if most == 1 else DecodeEdges(part, book, flows, most)
        rows, open_ = edges.holding()
        admits = open_ if pooled == 1 else open_ & ~stays
        least = np.full(count, pooled)
        found += outer_block(part, "decode", select, rows, np.arange(count), admits, power, constant, least)
    return found


def promise_of(flow: CallFlow) -> Promise:
    """What a flow needs of the steps: its task's TPOT and ITL, and the level that its commodity counts on.

    A step may take as much longer than a promise of TPOT as it emits several tokens; gaps are steps.
    """
    task = flow.calls.task
    pairs = [
        (float(normal_quantile(percentile)), flow.accepted.target(metric, seconds))
        for metric in ("tpot", "itl")
        for percentile, seconds in getattr(task, f"{metric}_slo")
    ]
    if np.isfinite(flow.tpot_level_s):
        pairs.append((Z, flow.tpot_level_s))
    return tuple(sorted({pair for pair in pairs if not any(_tighter(other, pair) for other in pairs)}))


def _tighter(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Does keeping the one keep the other, which is another one?"""
    return one != other and one[0] >= other[0] and one[1] <= other[1]


def _both(one: Promise, other: Promise) -> Promise:
    """Whoever keeps it keeps either."""
    every = {*one, *other}
    return tuple(sorted(pair for pair in every if not any(_tighter(mine, pair) for mine in every)))


def implies(strict: Promise, loose: Promise) -> bool:
    """Does whoever keeps the one keep the other?"""
    return all(any(pair == mine or _tighter(mine, pair) for mine in strict) for pair in loose)


@dataclass(frozen=True, eq=False)
class _Columns:
    use: Floats
    """[n, R, V] of the rows, whose limits are 1."""
    admissible: Bools
    rows: Ints
    """[n] configurations of the slice."""
    limit_s: Floats
    """[n] longest step promised (nan: none is)."""


@dataclass(frozen=True, eq=False)
class _Load:
    """Batches of K configurations under M mixes of calls, from light to heavy: [K, M, N] each."""

    rate: Floats
    """Calls/s."""
    step_s: Floats
    deviation_s: Floats
    active: tuple[Floats, Floats]
    """Mean and variance of the bytes of sequences that decode."""


class DecodeEdges:
    """The most calls/s of flows on the configurations of a slice."""

    def __init__(self, part: Slice, book: MomentBook, flows: Sequence[CallFlow], replicas: int = 1) -> None:
        self.part, self.flows, self.replicas = part, flows, replicas
        kinds: dict[tuple[str, str], int] = {}
        self.kind = [kinds.setdefault((f.calls.task.name, f.calls.variant.name), len(kinds)) for f in flows]
        """[V] of answers: whose prompts were computed where makes no difference to them."""
        first = [self.kind.index(m) for m in range(len(kinds))]
        moments = [book.decode(flows[v].calls) for v in first]
        self._tasks = [flows[v].calls.task.name for v in first]
        self._tokens = np.array([m.steps for m in moments])
        self._moments = {
            word: np.stack([getattr(m, word) for m in moments], axis=1)
            for word in ("attention", "attention_square", "bytes_steps", "square_steps")
        }
        held = [f.calls.held_s if f.residency == "decode" else 0.0 for f in flows]
        own = [book.decode(f.calls) for f in flows]
        self._kept = (
            np.stack([m.bytes_after * s for m, s in zip(own, held, strict=True)], axis=1),
            np.stack([m.square_after * s for m, s in zip(own, held, strict=True)], axis=1),
        )
        """[K, V] bytes and bytes² that sessions of a call/s hold between calls."""
        moved = [book.prompt(f.calls, f.residency) for f in flows]
        self._link = np.stack([np.maximum(p.decode_arriving, p.decode_leaving) for p in moved], axis=1)
        fabric = np.array([f.fabric_bytes_per_s for f in flows])
        fitting = np.stack([part.hold(flow) for flow in flows], axis=1)
        self._reached = (part.link[:, None] >= fabric) & fitting
        self._batch = within_slots(batches(part.slots * part.table.dp.astype(np.float64), _FINER))
        self._seen = seen_batch(self._batch, replicas)
        self._step = decode_step_seconds(part.table, self._seen)
        # Over as much as batches vary: steps have kinks.
        more = np.sqrt(self._batch)
        self._slope = (decode_step_seconds(part.table, self._seen + more) - self._step) / more
        self._alone = self._load(np.eye(len(kinds))[None])

    # ---- loads

    def _load(self, mix: Floats) -> _Load:
        """Loads of M mixes of kinds, [K or 1, M, kinds] calls/s of each for one of the mix."""
        tokens = np.maximum((mix * self._tokens).sum(axis=-1), 1e-300)[..., None]
        of = {word: (mix * each[:, None, :]).sum(axis=-1)[..., None] for word, each in self._moments.items()}
        batch, slope = self._batch[:, None], self._slope[:, None]
        step = self._step[:, None] + of["attention"] / tokens * self._seen[:, None]
        calls = batch / tokens  # in the batch at a time
        variance = calls * (tokens * slope**2 + 2.0 * slope * of["attention"] + of["attention_square"])
        gain = batch * (slope + of["attention"] / tokens) / step
        variance = variance * batch_swing(gain, batch, self.replicas)
        active = calls * of["bytes_steps"], calls * of["square_steps"]
        return _Load(calls / step, step, np.sqrt(np.maximum(variance, 0.0)), active)

    def _until(self, rate: Floats, share: Floats) -> Floats:
        """[K, M] the most calls/s at which a share [K, M, N] that rises with the load is no more than 1."""
        good = share <= 1.0
        count = share.shape[-1]
        low = np.where(good.all(axis=-1), count, np.argmin(good, axis=-1)) - 1
        here, there = (np.clip(n, 0, count - 1)[..., None] for n in (low, low + 1))
        value, above = (np.take_along_axis(share, n, axis=-1)[..., 0] for n in (here, there))
        start, end = (np.take_along_axis(rate, n, axis=-1)[..., 0] for n in (here, there))
        with np.errstate(invalid="ignore"):  # without room nothing is held: no load keeps that
            part = np.nan_to_num(np.clip((1.0 - value) / np.maximum(above - value, 1e-12), 0.0, 1.0))
        return np.where(low < 0, 0.0, np.where(low >= count - 1, start, _SAFE * (start + part * (end - start))))

    def _on_time(self, load: _Load, promise: Promise) -> Floats:
        """[K, M] the most of each mix at which steps keep a promise."""
        share = np.zeros_like(load.rate)
        for deviations, seconds in promise:
            share = np.maximum(share, (load.step_s + deviations * load.deviation_s) / seconds)
        return self._until(load.rate, share)

    def _held(self, load: _Load, kept: tuple[Floats, Floats], room: Floats, as_last: bool = False) -> Floats:
        """[K, M] the most of each mix that `room` [K] bytes hold, with what a call/s keeps between calls [K, M].

        Where slots are full before memory is, as if what is held rose in proportion to the calls from there, or as fast
        `as_last`.
        """
        mean, square = (active / load.rate + own[..., None] for active, own in zip(load.active, kept, strict=True))
        with np.errstate(divide="ignore"):
            share = load.rate / most_held(mean, square, np.maximum(room, 0.0)[:, None, None])
        found, full = self._until(load.rate, share), np.maximum(share[..., -1], _NOTHING)
        if as_last:
            more, rate = (each[..., -1] - each[..., -1 - _LATELY] for each in (share, load.rate))
            left = np.maximum(1.0 - full, 0.0) / np.maximum(more, 1e-12 * full)
            return found + np.minimum(left * np.maximum(rate, 0.0), _BEYOND_SLOTS * found)
        with np.errstate(over="ignore"):
            return found * np.maximum(1.0 / full, 1.0)

    @cached_property
    def _slots(self) -> Floats:
        """[K, kinds]."""
        return self._alone.rate[..., -1]

    def _room_edges(self, room: Floats) -> Floats:
        """[K, V] the most of each flow alone in `room` [K] bytes."""
        load = self._alone
        every = _Load(
            load.rate[:, self.kind],
            load.step_s,
            load.deviation_s,
            (load.active[0][:, self.kind], load.active[1][:, self.kind]),
        )
        return self._held(every, self._kept, room)

    # ---- mixes of two kinds

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Two kinds of different tasks each, one after another for each of MIXES."""
        answering = [m for m in range(len(self._tasks)) if self._tokens[m] > 0]
        some = [(a, b) for a, b in combinations(answering, 2) if self._tasks[a] != self._tasks[b]]
        return [pair for pair in some for _ in MIXES]

    def _parts(self, edges: Floats) -> Floats:
        """[K, pairs, kinds] shares of what is carried of each of two kinds alone, `edges` [K, kinds]."""
        mix = np.zeros((len(edges), len(self._pairs), edges.shape[1]))
        for n, (one, other) in enumerate(self._pairs):
            share = MIXES[n % len(MIXES)]
            for m, part in ((one, share), (other, 1.0 - share)):
                mix[:, n, m] = np.where(np.isfinite(edges[:, m]) & (edges[:, m] > 0), edges[:, m], 1e-9) * part
        return mix

    def _mixed_time(self, promise: Promise, edges: Floats) -> Floats:
        """[K, pairs] what mixes of two kinds carry within a promise, over what rows say."""
        return self._on_time(self._load(self._parts(edges)), promise)

    def _mixed_memory(self, room: Floats, edges: Floats) -> Floats:
        """[K, pairs] the same in `room` [K] bytes, each kind as its flow of the fewest calls/s, `edges` [K, V]."""
        heaviest = [
            min((v for v, kind in enumerate(self.kind) if kind == m), key=lambda v: float(edges[:, v].sum()))
            for m in range(len(self._tasks))
        ]
        mix = self._parts(edges[:, heaviest])
        mean, square = ((mix * each[:, None, heaviest]).sum(axis=-1) for each in self._kept)
        return self._held(self._load(mix), (mean, square), room)

    def _apart(self, room: Floats, edges: Floats) -> Floats:
        """[K] the most that mixes of two tasks hold in `room` [K] bytes, of each the flow that keeps least, over what
        the flows do alone, `edges` [K, V]."""
        kept = self._kept[0].mean(axis=0)
        answering = [v for v, kind in enumerate(self.kind) if self._tokens[kind] > 0]
        of = {name: [v for v in answering if self._tasks[self.kind[v]] == name] for name in tasks_of(self.flows)}
        least = [min(own, key=kept.__getitem__) for own in of.values() if own]
        return np.asarray(self._carried(list(combinations(least, 2)), room, edges).max(axis=(1, 2), initial=1.0))

    def _held_mixes(self) -> tuple[dict[str, MemoryMixes], Floats]:
        """(what was seen of the calls of each task that are kept here and are not, [V] what each keeps of the most)."""
        kept, found, share = self._kept[0].mean(axis=0), {}, np.zeros(len(self.flows))
        for kind, name in enumerate(self._tasks):
            mine = [v for v, own in enumerate(self.kind) if own == kind]
            if self._tokens[kind] <= 0 or name in found or not mine:
                continue
            cold, warm = min(mine, key=kept.__getitem__), max(mine, key=kept.__getitem__)
            if kept[warm] <= kept[cold]:
                continue
            share[mine] = (kept[mine] - kept[cold]) / (kept[warm] - kept[cold])
            room = room_alone(self.part, self.flows[cold])
            within = np.minimum(self._room_edges(room)[:, [cold, warm]], self._slots[:, [kind]])
            parts = np.array([(1.0 - share, share) for share in _SEEN])
            rates = within[:, None] * parts  # [K, S, 2]
            total = np.maximum(rates.sum(axis=2), _NOTHING)
            part = rates / total[..., None]
            mix = np.zeros((len(total), len(parts), len(self._tasks)))
            mix[..., kind] = 1.0
            held = tuple((part * each[:, None, [cold, warm]]).sum(axis=2) for each in self._kept)
            most = self._held(self._load(mix), (held[0], held[1]), room, as_last=True)
            found[name] = MemoryMixes.of((cold, warm), part[:, 1:-1, 1], most[:, [0, -1]], most[:, 1:-1], _LOWER)
        return found, share

    def _holding_least(self) -> Floats:
        """[K, V] what a call/s of each flow takes at least of the memory for its task.

        On a replica for itself, in steps that read no more for a sequence than those of any flow.
        """
        tokens = np.maximum(self._tokens, 1e-300)
        reads = (self._moments["attention"] / tokens).min(axis=1, keepdims=True)
        step = self._step[:, :1] + reads * self._seen[:, :1]
        held = [
            kept + (self._moments[word] * step)[:, self.kind]
            for kept, word in zip(self._kept, ("bytes_steps", "square_steps"), strict=True)
        ]
        room = np.stack([room_alone(self.part, flow) for flow in self.flows], axis=1)
        return 1.0 / np.maximum(most_held(held[0], held[1], room), _NOTHING)

    def _carried(self, pairs: Sequence[tuple[int, int]], room: Floats, edges: Floats) -> Floats:
        """[K, pairs, MIXES] what mixes of two flows carry in `room` [K] over what they do alone, `edges` [K, V]."""
        count = len(edges)
        if not pairs:
            return np.ones((count, 0, len(MIXES)))
        some = np.where(np.isfinite(edges) & (edges > 0), edges, _NOTHING)
        mix = np.zeros((count, len(pairs) * len(MIXES), len(self._tasks)))
        kept = [np.zeros(mix.shape[:2]) for _ in self._kept]
        for n, (pair, m) in enumerate(product(pairs, range(len(MIXES)))):
            for v, parts in zip(pair, (_FIRST, _SECOND), strict=True):
                mix[:, n, self.kind[v]] += some[:, v] * parts[m]
                for held, each in zip(kept, self._kept, strict=True):
                    held[:, n] += some[:, v] * parts[m] * each[:, v]
        return self._held(self._load(mix), (kept[0], kept[1]), room).reshape(count, len(pairs), len(MIXES))

    # ---- columns

    def holding(self) -> tuple[Rows, Bools]:
        """Rows of what loads that keep their promises use at least, and [K, V] who may come.

        Of each flow alone, with its own promises and no other task's prefix.
        """
        kept = [promise_of(flow) for flow in self.flows]
        on_time = {promise: self._on_time(self._alone, promise) for promise in set(kept)}
        own = np.stack([on_time[promise][:, kind] for promise, kind in zip(kept, self.kind, strict=True)], axis=1)
        rooms = {flow.calls.shared: room_alone(self.part, flow) for flow in self.flows}
        held = {shared: self._room_edges(room) for shared, room in rooms.items()}
        memory = np.stack([held[flow.calls.shared][:, v] for v, flow in enumerate(self.flows)], axis=1)
        use, open_ = self._rows(own / _SAFE**2, self._slots[:, self.kind] / _SAFE, memory / _SAFE**2)
        together = {_both(one, other) for one in set(kept) for other in set(kept)}
        one = np.ones((len(use), 1))
        steps = [self._mixed_time(promise, self._on_time(self._alone, promise)) for promise in together]
        wider = np.ones((len(use), len(_STEPS)))
        wider[:, 0] = bulge(np.concatenate([one, *steps], axis=1).max(axis=1))
        variants = len(set(self.kind)) > len(set(self._tasks))
        rows = task_rows(
            use[:, _STEPS] / (_CURVED if variants else 1.0), [ROW_NAMES[r] for r in _STEPS], self.flows,
            self.kind, np.zeros(len(self.flows)), {}, wider, 1.0,
        )  # fmt: skip
        kinds = [
            (kind, flow.calls.held_s if flow.residency == "decode" else 0.0)
            for kind, flow in zip(self.kind, self.flows, strict=True)
        ]
        apart = bulge(self._apart(self.part.room, self._room_edges(self.part.room)))
        least = np.where(open_, self._holding_least(), 0.0)
        mixes, share = self._held_mixes()
        memory_taken = memory_rows(use[:, 2], least, self.flows, kinds, "decode", apart, mixes, share)
        return rows.beside(memory_taken), open_

    def mixed(self, shares: Floats, room: Floats) -> Floats:
        """[K] the most of a mix of the flows, `shares` [V] of it, that keeps every promise, in `room` [K] bytes."""
        mix = np.zeros((1, 1, len(self._tasks)))
        np.add.at(mix[0, 0], self.kind, shares)
        load = self._load(mix)
        mean, square = ((kept @ shares)[:, None] for kept in self._kept)
        promise: Promise = ()
        for flow in self.flows:
            promise = _both(promise, promise_of(flow))
        most = np.minimum(self._on_time(load, promise), self._held(load, (mean, square), room))[:, 0] / _SAFE
        most = np.minimum(most, load.rate[:, 0, -1])
        most = np.minimum(most, self.part.link / np.maximum(self._link @ shares, 1e-300))
        return np.asarray(np.where(self._reached.all(axis=1) & (room > 0), most, 0.0))

    def columns(self, among: Bools | None = None) -> _Columns:
        """Those that offer more than a column which admits more flows; of flows `among` [V] alone."""
        flow_promises = [promise_of(flow) for flow in self.flows]
        promises = sorted(set(flow_promises), key=lambda p: (sum(implies(p, other) for other in set(flow_promises)), p))
        on_time = {promise: self._on_time(self._alone, promise) for promise in promises}
        mixed = {promise: self._mixed_time(promise, on_time[promise]) for promise in promises}
        shared = {flow.calls.task.name: flow.calls.shared for flow in self.flows}
        found: list[tuple[Floats, Bools, Ints, float]] = []
        wider: dict[Promise, tuple[Floats, Bools]] = {}
        for tasks in sorted(sets_of_tasks(self.part, shared), key=lambda some: -len(some)):
            room = self._room(shared, tasks)
            memory = self._room_edges(room)
            held = self._mixed_memory(room, memory)
            pairs = [n for n, pair in enumerate(self._pairs) if {self._tasks[m] for m in pair} <= tasks]
            served = np.array([flow.calls.task.name in tasks for flow in self.flows])
            served = served if among is None else served & among
            stricter: tuple[Floats, Bools] | None = None
            for promise in promises[::-1]:
                admits = served & np.array([implies(promise, other) for other in flow_promises])
                less = [mixed[promise][:, pairs].min(axis=1, initial=1.0), held[:, pairs].min(axis=1, initial=1.0)]
                use, open_ = self._rows(
                    (on_time[promise] * less[0][:, None])[:, self.kind],
                    self._slots[:, self.kind],
                    memory * less[1][:, None],
                )
                open_ &= admits
                use = np.where(open_[:, None, :], use, 0.0)
                needed: Bools = np.any(open_, axis=1)
                for other in (stricter, wider.get(promise)):
                    if other is not None:
                        within = np.all(~open_ | other[1], axis=1)
                        offered: Bools = np.all((other[0] <= use * (1.0 + _WORTH)) | ~open_[:, None, :], axis=(1, 2))
                        needed &= ~(within & offered)
                stricter = use, open_
                wider.setdefault(promise, stricter)
                rows = np.flatnonzero(needed)
                limit = min((seconds for _, seconds in promise), default=np.nan)
                found.append((use[rows], open_[rows], rows, limit))
        return _Columns(
            np.concatenate([use for use, _, _, _ in found]),
            np.concatenate([open_ for _, open_, _, _ in found]),
            np.concatenate([rows for _, _, rows, _ in found]),
            np.concatenate([np.full(len(rows), limit) for _, _, rows, limit in found]),
        )

    def _rows(self, on_time: Floats, slots: Floats, memory: Floats) -> tuple[Floats, Bools]:
        """([K, R, V] use of the rows, [K, V] who may come) from the most [K, V] of each flow."""
        answers = self._tokens[self.kind] > 0
        most = [on_time, slots, memory]
        open_ = self._reached & np.all([np.where(answers, edge > 0, True) for edge in most], axis=0)
        use = np.zeros((len(memory), len(ROW_NAMES), len(self.flows)))
        for r, edge in enumerate(most):
            use[:, r] = np.where(open_ & answers & (edge > 0), 1.0 / np.where(edge > 0, edge, 1.0), 0.0)
        use[:, 3] = np.where(open_, self._link / self.part.link[:, None], 0.0)
        return use, open_

    def _room(self, shared: dict[str, float], tasks: set[str]) -> Floats:
        taken = [self.part.prefix_bytes(shared[task]) for task in tasks if shared.get(task, 0.0) > 0]
        return np.asarray(np.maximum(self.part.room - sum(taken), 0.0))
