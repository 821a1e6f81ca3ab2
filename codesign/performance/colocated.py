"""A colocated replica in operation: chunks of prompts inside decode steps (DESIGN 3.4).

A call that decodes sees n = B + 1 sequences: the others, as many as there are on average, and itself. Prompts take the
share φ of all time, and its mean step is

    t = step(n, 0) + r·n + φ·t,    φ = Σ x·(cost(n) + prompt attention),    B = Σ x·E[o·t + backlog],

with x calls/s of a stream on a replica, o steps of an answer (its output tokens, or fewer where steps emit several:
:mod:`~codesign.performance.drafts`), r seconds that a sequence's context adds to a step, and the
cost of a prompt in :mod:`~codesign.performance.chunks`. What came while its own prompt waited and was computed is ahead
of it when it begins to decode: backlog = φ·TTFT/(1 − φ), or what makes all of its steps full ones.

A prompt waits as in Pollaczek's and Khinchine's queue: where another one is computed for what is left of that one, and
for a wait beyond it; else for the end of a step without prompts.

A call's mean step varies with the others (each adds a = dt/dB), with the chunks that it meets (prompts of c chunks cost
c·k, k = φ/Σ x·E[c], in the busy periods of a class that goes first), and with both together, since whoever brings a
prompt decodes after it. Over o tokens its variance is

    (B·E[a²] + a·φ·t/(1 − φ) + g²·Σ x·E[c²]·k²/(1 − φ)²·(o·t + TTFT)/o²)/(1 − ε),

where longer steps make larger batches, and those longer steps: ε = a·B/t is that loop's gain.

Calls that go to the emptiest of n replicas meet a share of those under way (``queueing.share_met``): all of this holds
at that share of x, of what a call sees. Batches vary by 1/n, and what follows calls that leave comes with steps: less
often beside a prompt, whose steps are long, than time would tell.

A gap between two tokens is one step, not their mean: with a whole chunk in x·E[⌊c⌋]·t of all gaps, with the rest of
prompts in 1 − exp(−x·t) of the others, without prompts in what is left.

Arrays are [K, N]: K replicas, each at N loads; further axes come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincc, ndtr

from codesign.performance.chunks import CHUNK_SPREAD, WAIT_SPREAD, on_knots, pieces, prompt_seconds, step_seconds
from codesign.performance.drafts import ONE_TOKEN, Accepted
from codesign.performance.latency import decode_attention_seconds, prefill_attention_seconds
from codesign.performance.queueing import ALIKE, UNEVEN, mean_wait
from codesign.performance.table import ConfigurationTable

Floats = NDArray[np.float64]

_MOST = 0.999
"""Share of all time that prompts take where they take it all: such a replica is overloaded."""
_LARGEST_GAIN = 0.95
_NEARLY_NORMAL = {"rough": 1.0, "close": 50.0}
"""Shape of a gamma distribution from which on it is taken to be nearly normal, by how closely one looks."""
_SELDOM = 0.95
"""Share of calls that meet a prompt from which on all are taken to, where many loads are looked at."""
_INSTANT = 1e-12
"""Seconds; a wait shorter than that is none."""
_LUMPS = 8
"""Kinds of prompts that others wait for, short to long."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Calls that are alike, on each of K replicas."""

    weight: Floats
    """[K, J] of prompts."""
    chunks: Floats
    """[K, J] of a prompt, not whole ones alone."""
    rest: Floats
    """[K, J, Q] what its full chunks leave, on the knots of one."""
    parts: Floats
    """[K, 2, Q] its pieces on average, alone and shared."""
    attention: Floats
    """[K, J] seconds of a prompt's attention."""
    answer_weight: Floats
    """[K, P] of answers."""
    output: Floats
    """[K, P] steps of answers on average: their tokens, where steps emit one."""
    reads: Floats
    """[K, P] r of each."""
    scatter: Floats
    """[K, P] variance of these steps over their mean, by how many tokens steps emit: 0 where they emit one."""

    @staticmethod
    def of(
        table: ConfigurationTable,
        chunk: float,
        prompts: tuple[Floats, Floats, Floats],
        answers: tuple[Floats, Floats, Floats],
        emits: Accepted = ONE_TOKEN,
    ) -> Stream:
        """Calls of `prompts` (weight, new, cached tokens; [J] each) and `answers` (weight, context, output; [P]).

        Steps emit several tokens of them where tokens are drafted.
        """
        weight, new, cached = prompts
        answer_weight, context, output = answers
        chunks = new / chunk
        attention = prefill_attention_seconds(table, new, cached)

        def alike(values: Floats) -> Floats:
            return np.broadcast_to(values, (len(attention), *values.shape))

        return Stream(
            alike(weight),
            alike(chunks),
            alike(on_knots(chunks % 1.0)),
            alike(pieces(new, weight, chunk)),
            attention,
            alike(answer_weight),
            alike(output / emits.tokens),
            decode_attention_seconds(table, context + output / 2.0),
            alike(np.full(output.shape, emits.scatter)),
        )

    @staticmethod
    def joined(streams: Sequence[Stream]) -> Stream:
        """The replicas of one after those of another; points that some do not have count for nothing."""
        return Stream(
            **{
                item.name: stacked(
                    [getattr(s, item.name) for s in streams], 1.0 if item.name in ("chunks", "output") else 0.0
                )
                for item in fields(Stream)
            }
        )

    def take(self, rows: NDArray[np.intp]) -> Stream:
        """Some of the replicas."""
        return Stream(**{item.name: getattr(self, item.name)[rows] for item in fields(Stream)})

    @cached_property
    def tokens(self) -> Floats:
        """[K, 1] E[o]."""
        return np.asarray((self.answer_weight * self.output).sum(axis=1, keepdims=True))

    @cached_property
    def reads_s(self) -> Floats:
        """[K, 1] E[o·r]."""
        return np.asarray((self.answer_weight * self.output * self.reads).sum(axis=1, keepdims=True))

    @cached_property
    def attention_s(self) -> Floats:
        """[K, 1] of a prompt, on average."""
        return np.asarray((self.attention * self.weight).sum(axis=1, keepdims=True))

    def chunks_to(self, power: int) -> Floats:
        """[K, 1] E[chunks^power]."""
        return np.asarray((self.chunks**power * self.weight).sum(axis=1, keepdims=True))

    @cached_property
    def calls(self) -> Calls:
        """Its calls, as they may be asked about at any load."""
        return Calls(
            self.weight[:, None],
            self.chunks[:, None],
            self.rest[:, None],
            (self.attention * (self.chunks % 1.0) / self.chunks)[:, None],
            np.floor(self.chunks)[:, None],
            (self.attention / self.chunks)[:, None],
            self.answer_weight[:, None],
            self.output[:, None],
            self.scatter[:, None],
        )


def stacked(values: Sequence[Floats], empty: float = 0.0) -> Floats:
    """Arrays [K, J, ...] one after another, each filled up to the longest J."""
    longest = max(each.shape[1] for each in values)
    parts = []
    for each in values:
        pad = ((0, 0), (0, longest - each.shape[1]), *((0, 0),) * (each.ndim - 2))
        parts.append(np.pad(each, pad, constant_values=empty) if each.shape[1] < longest else each)
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Calls:
    """Calls that are asked about: on K replicas (or 1: alike on all), each kind at a load of its own (N, or 1)."""

    weight: Floats
    """[K, N, J] of prompts."""
    chunks: Floats
    """[K, N, J]."""
    rest: Floats
    """[K, N, J, Q]."""
    attention: Floats
    """[K, N, J] of what their full chunks leave, seconds."""
    whole: Floats
    """[K, N, J] full chunks, and [K, N, J] seconds of attention of one."""
    whole_attention: Floats
    answer_weight: Floats
    """[K, N, P] of answers."""
    output: Floats
    """[K, N, P] steps of them."""
    scatter: Floats
    """[K, N, P] variance of these steps over their mean."""

    @staticmethod
    def of(streams: Sequence[Stream]) -> Calls:
        """One kind of each of N streams: on all K replicas the same prompts and answers, in chunks of any size."""
        alike = all(np.array_equal(s.chunks, np.broadcast_to(s.chunks[:1], s.chunks.shape)) for s in streams)
        everywhere = ("weight", "answer_weight", "output", "scatter", *(("chunks", "rest", "whole") if alike else ()))

        def each(name: str, empty: float = 0.0) -> Floats:
            values = [getattr(s.calls, name)[: 1 if name in everywhere else None] for s in streams]
            longest = max(v.shape[2] for v in values)
            full = [
                np.pad(v, ((0, 0), (0, 0), (0, longest - v.shape[2]), *((0, 0),) * (v.ndim - 3)), constant_values=empty)
                for v in values
            ]
            return np.concatenate(full, axis=1)

        return Calls(
            each("weight"), each("chunks", 1.0), each("rest"), each("attention"), each("whole"),
            each("whole_attention"), each("answer_weight"), each("output", 1.0), each("scatter"),
        )  # fmt: skip

    def coarse(self) -> Calls:
        """With fewer points of prompts, each the mean of some that are alike."""
        if self.chunks.shape[2] <= _LUMPS:
            return self
        lumps = _Lumps.of(self.chunks, self.weight)
        mass = lumps.total(np.broadcast_to(self.weight, lumps.order.shape))

        def mean(values: Floats) -> Floats:
            more = (1,) * (values.ndim - 3)
            total = lumps.total(values * self.weight.reshape(self.weight.shape + more))
            return np.asarray(total / np.maximum(mass.reshape(mass.shape + more), 1e-300))

        return Calls(
            mass, np.where(mass > 0, mean(self.chunks), 1.0), mean(self.rest), mean(self.attention), mean(self.whole),
            mean(self.whole_attention), self.answer_weight, self.output, self.scatter,
        )  # fmt: skip

    def take(self, rows: NDArray[np.intp]) -> Calls:
        """Those on some of the replicas."""
        every = {item.name: getattr(self, item.name) for item in fields(Calls)}
        return Calls(**{name: each[rows] if len(each) > 1 else each for name, each in every.items()})


@dataclass(frozen=True, eq=False)
class _Lumps:
    """Points [..., J] that are alike, together: as many in each, of those that count for something."""

    order: NDArray[np.intp]
    """[..., J] short to long, those that count for nothing last."""
    ends: NDArray[np.intp]
    """[..., L + 1] where each begins, and the last ends."""

    @staticmethod
    def of(chunks: Floats, weight: Floats) -> _Lumps:
        """By chunks [..., J] of prompts."""
        real = np.broadcast_to(weight, chunks.shape) > 0
        order = np.argsort(np.where(real, chunks, np.inf), axis=-1, kind="stable")
        return _Lumps(order, (np.linspace(0.0, 1.0, _LUMPS + 1) * real.sum(axis=-1, keepdims=True)).astype(int))

    def total(self, values: Floats) -> Floats:
        """[..., L, ...] sums of values [..., J, ...]; they may have more than the points where these have one."""
        axis, more = self.order.ndim - 1, (1,) * (values.ndim - self.order.ndim)
        order, ends = (each.reshape(each.shape + more) for each in (self.order, self.ends))
        summed = np.cumsum(np.take_along_axis(values, order, axis=axis), axis=axis)
        summed = np.concatenate([np.zeros_like(summed[(slice(None),) * axis + (slice(0, 1),)]), summed], axis=axis)
        return np.diff(np.take_along_axis(summed, ends, axis=axis), axis=axis)


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of replicas with so many sequences, and with one more; without attention, at each of KNOTS of a chunk."""

    batch: Floats
    """[K, N] others than the call that sees them."""
    seen: Floats
    """[K, N, Q] seconds."""
    more: Floats
    """[K, N, Q]."""
    lone: Floats
    """[K, 1] step of a call that is alone."""

    @staticmethod
    def at(table: ConfigurationTable, batch: Floats, chunk: float) -> Steps:
        """Steps of a call that sees `batch` [K, N] others."""
        seen, more = (step_seconds(table, batch + others, chunk) for others in (1.0, 2.0))
        return Steps(batch, seen, more, step_seconds(table, np.ones(1), chunk)[:, :, 0])

    @staticmethod
    def joined(steps: Sequence[Steps]) -> Steps:
        """The replicas of one after those of another."""
        return Steps(*(np.concatenate([getattr(each, item.name) for each in steps]) for item in fields(Steps)))

    def take(self, rows: NDArray[np.intp]) -> Steps:
        """Those of some of the replicas."""
        return Steps(self.batch[rows], self.seen[rows], self.more[rows], self.lone[rows])



class Colocated:
    """A replica at `steps`, with calls of each stream at a rate [K, N]."""

    def __init__(
        self,
        steps: Steps,
        streams: Sequence[Stream],
        rates: Sequence[Floats],
        look: str = "exact",
        replicas: float = 1.0,
    ) -> None:
        self.steps, self.streams, self.rates = steps, streams, rates
        self.batch = steps.batch
        self.replicas = replicas
        """Over which calls are evened out."""
        self.look = look
        """exact | close | rough: where there are many loads, fewer points and digits say how long prompts wait for one
        another, and at a rough look a normal distribution how long steps are."""
        self._kind: type[np.floating[Any]] = np.float64 if look == "exact" else np.float32
        self._rests: dict[int, tuple[Calls, Floats]] = {}
        self._alone: dict[int, tuple[Calls, Floats]] = {}

    def again(self, rates: Sequence[Floats]) -> Colocated:
        """The same at other rates in the same proportion."""
        found = Colocated(self.steps, self.streams, rates, self.look, self.replicas)
        found._rests = self._rests
        for name in ("_reads_s", "quiet_s", "full_step_s"):  # they depend on proportions alone
            found.__dict__[name] = getattr(self, name)
        return found

    # ---- means

    @cached_property
    def _tokens(self) -> Floats:
        return np.asarray(sum(x * s.tokens for x, s in self._both))

    @property
    def _both(self) -> list[tuple[Floats, Stream]]:
        return list(zip(self.rates, self.streams, strict=True))

    @cached_property
    def _reads_s(self) -> Floats:
        """Mean r of the sequences in the batch."""
        reads = sum(x * s.reads_s for x, s in self._both)
        return np.asarray(reads / np.maximum(self._tokens, 1e-12))

    @cached_property
    def _prompt_attention(self) -> Floats:
        return np.asarray(sum(x * s.attention_s for x, s in self._both))

    @cached_property
    def _chunks(self) -> Floats:
        """Chunks per second."""
        return np.asarray(sum(x * s.chunks_to(1) for x, s in self._both))

    @cached_property
    def _coming(self) -> Floats:
        """[K, N, 1] calls/s."""
        return np.asarray(sum(self.rates))[..., None]

    @cached_property
    def _chunk_squares(self) -> Floats:
        return np.asarray(sum(x * s.chunks_to(2) for x, s in self._both))

    def _share(self, steps: Floats) -> Floats:
        costs = sum(x * prompt_seconds(steps, s.parts) for x, s in self._both)
        return np.minimum(costs + self._prompt_attention, _MOST)

    @cached_property
    def share(self) -> Floats:
        """φ: share of all time that prompts add to steps."""
        return self._share(self.steps.seen)

    @cached_property
    def quiet_s(self) -> Floats:
        """Step without prompts."""
        return np.asarray(self.steps.seen[..., 0] + self._reads_s * (self.batch + 1.0))

    @cached_property
    def step_s(self) -> Floats:
        """t: mean step of a call."""
        return np.asarray(self.quiet_s / (1.0 - self.share))

    @cached_property
    def lone_step_s(self) -> Floats:
        """Step of a call that is alone: none is shorter."""
        return self.steps.lone + self._reads_s

    @cached_property
    def full_step_s(self) -> Floats:
        """Step with a full chunk."""
        return np.asarray(self.quiet_s + self._full_s + self._prompt_attention / np.maximum(self._chunks, 1e-300))

    @property
    def _full_s(self) -> Floats:
        """What a full chunk adds to a step, its attention left out."""
        return np.asarray(self.steps.seen[..., -1] - self.steps.seen[..., 0])

    @cached_property
    def utilization(self) -> Floats:
        """Chunks per second times the full step."""
        return np.asarray(self._chunks * self.full_step_s)

    # ---- prompts

    @cached_property
    def wait_s(self) -> Floats:
        """Mean wait of a prompt in the queue for full steps."""
        squares = self._refilled * self._chunk_squares
        return mean_wait(self._refilled * self.utilization, squares * self.full_step_s**2, 1)

    @cached_property
    def served_s(self) -> Floats:
        """[K, N, I] seconds of all streams' prompts in steps of their own."""
        return np.concatenate([self._alone_s(s.calls) for s in self.streams], axis=-1)

    @cached_property
    def served(self) -> Floats:
        """[K, N, I] share of all time, over these seconds, that such prompts are computed: at most 1 in all."""
        return np.asarray(self._prompts / np.maximum((self._prompts * self.served_s).sum(axis=-1), 1.0)[..., None])

    @cached_property
    def _prompts(self) -> Floats:
        """[K, N, I] of all streams' prompts per second."""
        return np.concatenate([x[..., None] * s.weight[:, None] for x, s in self._both], axis=-1)

    @cached_property
    def _refilled(self) -> Floats:
        """[K, N] of what comes by chance, what comes while a prompt is computed.

        Who goes to the emptiest of many replicas follows one that left, and fewer leave in the long steps of prompts:
        as many in each as in a short one.
        """
        if self.replicas <= 1:
            return np.ones_like(self.step_s)
        computing = (self.served * self.served_s).sum(axis=-1)
        steps = sum(x * (np.ceil(s.chunks) * s.weight).sum(axis=1, keepdims=True) for x, s in self._both)
        seconds = (self._prompts * self.served_s).sum(axis=-1)
        longer = np.maximum(seconds / np.maximum(steps, 1e-300) / self.quiet_s, 1.0)
        follows = (1.0 - 1.0 / np.sqrt(self.replicas)) * self.batch / (1.0 + self.batch) * self._mingled
        return np.asarray(1.0 - follows + follows / (computing + (1.0 - computing) * longer))

    @cached_property
    def _mingled(self) -> Floats:
        """[K, 1 or N] 0 where all answers are alike: calls that came together leave together, and others come so."""
        rate = np.maximum(sum(self.rates), 1e-300)
        mean = self._tokens / rate
        square = sum(x * (s.answer_weight * s.output**2).sum(axis=1, keepdims=True) for x, s in self._both) / rate
        varied = np.maximum(square - mean**2, 0.0)
        return np.asarray(varied / np.maximum(varied + ALIKE * mean**2, 1e-300))

    @cached_property
    def _idle(self) -> Floats:
        return np.asarray(1.0 - (self.served * self.served_s).sum(axis=-1))

    @cached_property
    def together_s(self) -> Floats:
        """What steps hold beside a prompt's rest: their mean, and what came while it waited for the step that ran."""
        left = (self.served * self.served_s**2).sum(axis=-1) + np.maximum(self._idle, 0.0) * self.quiet_s
        return np.asarray(self.step_s + self.share * left / 2.0)

    def own_steps(self, calls: Calls, mean: Floats) -> Floats:
        """[K, N, J] seconds of prompts in full steps, and in a last one where something is left: beside `mean`."""
        rest, full = self._rest(calls), self.full_step_s[..., None]
        last = np.where(calls.chunks % 1.0 > 0, np.minimum(mean[..., None] + rest, full), 0.0)
        return np.asarray(np.floor(calls.chunks) * full + last)

    def _alone_s(self, calls: Calls) -> Floats:
        """[K, N, J] seconds of prompts in steps of their own beside the mean step."""
        if id(calls) not in self._alone:
            self._alone[id(calls)] = calls, self.own_steps(calls, self.step_s)
        return self._alone[id(calls)][1]

    def _rest(self, calls: Calls) -> Floats:
        """[K, N, J] seconds that what full chunks leave adds to a step: the same at all rates."""
        if id(calls) not in self._rests:
            added = self.steps.seen - self.steps.seen[..., :1]
            # Not a product of matrices: those differ in their last bits by how many threads a library takes.
            shape = np.broadcast_shapes(calls.rest.shape[:2], added.shape[:2])
            rest = np.einsum(
                "knjq,knq->knj",
                np.broadcast_to(calls.rest, (*shape, *calls.rest.shape[2:])),
                np.broadcast_to(added, (*shape, added.shape[2])),
            )
            self._rests[id(calls)] = calls, rest + calls.attention
        return self._rests[id(calls)][1]

    @cached_property
    def wait_moments(self) -> tuple[Floats, Floats]:
        """Mean and variance (s, s²) of a prompt's wait; (inf, 0) where prompts are more than full steps hold."""
        loaded = self.utilization < 1.0
        beyond = WAIT_SPREAD * np.where(loaded, self.wait_s, 0.0)
        left = WAIT_SPREAD * (self.served * self.served_s**2).sum(axis=-1) / 2.0
        square = WAIT_SPREAD**2 * (self.served * self.served_s**2 * self.served_s).sum(axis=-1) / 3.0
        mean = left + (1.0 - self._idle) * beyond + self._idle * self.quiet_s / 2.0
        square = square + 2.0 * left * beyond
        square = square + (1.0 - self._idle) * 2.0 * beyond**2 / np.maximum(self._refilled * self.utilization, 1e-12)
        variance = square + self._idle * self.quiet_s**2 / 3.0 - mean**2
        return np.where(loaded, mean, np.inf), np.where(loaded, variance, 0.0)

    def ttft_exceeds(self, calls: Calls, reload: Floats, t: ArrayLike) -> Floats:
        """[K, N] P(TTFT > t) of calls whose prompts are read back in `reload` [K, U, J] seconds before they queue.

        What comes while a prompt waits shares its last step, as far as there is room: each second adds φ.
        """
        alone = self._alone_s(calls)
        room = np.ceil(calls.chunks) * self.full_step_s[..., None] - alone
        left = np.asarray(t, dtype=np.float64)[..., None] - (alone + reload)
        stretched = self._waits_longer(left, 1.0 + self.share)
        late = np.minimum(stretched, self._waits_longer(left - room, np.ones_like(self.share)))
        return np.asarray((late * calls.weight).sum(axis=-1))

    @cached_property
    def _lumped(self) -> tuple[Floats, Floats]:
        """`served` and `served_s` at a few points, with the time and second moments of those that they stand for."""
        chunks = np.concatenate([s.chunks for s in self.streams], axis=-1)
        if chunks.shape[-1] <= _LUMPS or self.look == "exact":
            return self.served, self.served_s
        lumps = _Lumps.of(chunks[:, None], np.concatenate([s.weight for s in self.streams], axis=-1)[:, None])
        time = self.served * self.served_s
        time, square = lumps.total(time), lumps.total(time * self.served_s)
        length = square / np.maximum(time, 1e-300)
        return time / np.maximum(length, 1e-300), length

    def _waits_longer(self, seconds: Floats, stretch: Floats) -> Floats:
        """[K, N, J] P(a prompt waits longer than these seconds [K, N, J]), 1 where they are negative.

        What is left of a running prompt of S seconds is uniform on (0, S), and counts `stretch` [K, N] times; the wait
        beyond it is exponential.
        """
        overloaded = self.utilization >= 1.0
        wait = WAIT_SPREAD * np.where(overloaded, 1.0, self.wait_s)
        served, served_s = (each[..., None, :].astype(self._kind) for each in self._lumped)
        v = np.maximum(seconds, 0.0).astype(self._kind)[..., None]
        stretched = (WAIT_SPREAD * stretch[..., None, None]).astype(self._kind)
        rate = (self._refilled * self.utilization / np.maximum(wait, _INSTANT))[..., None, None].astype(self._kind)
        # ∫ over what is left, up to v or S, of P(the wait beyond it is longer than the rest of v).
        ahead = v - stretched * served_s
        beyond = np.exp(-rate * np.maximum(ahead, 0.0)) - np.exp(-rate * v)
        beyond *= wait[..., None, None].astype(self._kind)
        beyond -= np.minimum(ahead, 0.0)
        step = np.maximum(1.0 - v[..., 0] / (stretch * self.quiet_s)[..., None], 0.0)
        found = np.einsum("knji,kni->knj", beyond, served[:, :, 0]) / stretched[..., 0]
        found = found + self._idle[..., None] * step
        return np.where((seconds < 0) | overloaded[..., None], 1.0, found)

    # ---- answers

    def first_s(self, calls: Calls) -> Floats:
        """[K, N] mean TTFT of calls, reloads left out: what comes in it is ahead of them when they begin to decode."""
        own = (self._alone_s(calls) * calls.weight).sum(axis=-1)
        return np.asarray(self.wait_moments[0] + own)

    def answer_seconds(self, first_s: Floats, output: Floats) -> Floats:
        """[K, N, P] mean seconds of answers of `output` [P] or [U, P] tokens, held up by the prompts ahead of them.

        In full steps at most.
        """
        backlog = self.share * first_s / (1.0 - self.share)
        most = np.maximum(self.full_step_s - self.step_s, 0.0)[..., None] * np.maximum(output - 1.0, 0.0)
        return np.asarray(output * self.step_s[..., None] + np.minimum(backlog[..., None], most))

    def tpot_exceeds(self, first_s: Floats, weight: Floats, output: Floats, t: ArrayLike) -> Floats:
        """[K, N] P(mean step of a call > t) over answers [U, P] of these tokens: gamma above the step of a lone call.

        It has their mean and variance at each length; no call's steps are longer than full ones.
        """
        tokens, lone, limit = np.maximum(output, 1.0), self.lone_step_s, np.asarray(t, dtype=np.float64)
        first_s = np.where(self.utilization < 1.0, first_s, 0.0)  # an overloaded queue is late for certain
        excess = np.maximum(self.answer_seconds(first_s, tokens) / tokens - lone[..., None], 1e-12)
        by_chunks = self.chunk_variance[..., None] * (first_s[..., None] + tokens * self.step_s[..., None])
        variance = np.maximum(self.batch_variance[..., None] + by_chunks / tokens**2, 1e-24)
        above = np.maximum(limit - lone, 0.0)[..., None]
        # Where few prompts come, most calls meet none, and the others more than that many do on average.
        number = self._coming * (first_s[..., None] + tokens * self.step_s[..., None])
        square = variance / CHUNK_SPREAD**2 + excess**2
        some = np.clip(-np.expm1(-number), 1.01 * excess**2 / square, 1.0)
        late = self._gamma_above(above, excess, variance)
        rare = some < (np.inf if self.look == "exact" else _SELDOM)
        if np.any(rare):
            share, mean = some[rare], (excess / some)[rare]
            varied = np.maximum(square[rare] / share - mean**2, 1e-24)
            value = np.broadcast_to(above, late.shape)[rare]
            late[rare] = np.maximum(late[rare], share * self._gamma_above(value, mean, varied))
        full = ndtr((self.full_step_s - limit) / np.maximum(self.full_sd_s, 1e-12))
        late = (np.minimum(late, full[..., None]) * weight).sum(axis=-1)
        return np.where(self.utilization < 1.0, late, 1.0)

    def _gamma_above(self, value: Floats, mean: Floats, variance: Floats) -> Floats:
        """P(gamma of a mean and a variance > value)."""
        shape, scaled = mean**2 / variance, value * mean / variance
        if self.look == "exact":
            return np.asarray(gammaincc(shape, scaled))
        # Wilson's and Hilferty's approximation, where it is one: of 1 % it misses a 500th from a shape of 50 on.
        late = ndtr((1.0 - 1.0 / (9.0 * shape) - np.cbrt(scaled / shape)) * 3.0 * np.sqrt(shape))
        far = (shape < _NEARLY_NORMAL[self.look]) | (scaled <= 0.0)
        late[far] = gammaincc(shape[far], scaled[far])
        return np.asarray(late)

    def call_moments(self, calls: Calls, reload: Floats) -> tuple[Floats, Floats]:
        """[K, N] mean and variance (s, s²) of calls, from their arrival to their last token."""
        rest = self.own_steps(calls, self.together_s) + reload
        mean = (rest * calls.weight).sum(axis=-1)
        square = (rest**2 * calls.weight).sum(axis=-1)
        answers, variance = self.answer_moments(calls)
        first = np.maximum(square - mean**2 + self.wait_moments[1], 0.0)
        return self.wait_moments[0] + mean + answers, first + variance

    def answer_s(self, calls: Calls) -> Floats:
        """[K, N] mean seconds from the first to the last token."""
        return np.asarray((self.answer_seconds(self.first_s(calls), calls.output) * calls.answer_weight).sum(axis=-1))

    def answer_moments(self, calls: Calls) -> tuple[Floats, Floats]:
        """[K, N] mean and variance (s, s²) of the time from the first to the last token."""
        first_s, output, weight = self.first_s(calls), calls.output, calls.answer_weight
        seconds = self.answer_seconds(first_s, output)
        mean = (seconds * weight).sum(axis=-1)
        lengths = ((seconds - mean[..., None]) ** 2 * weight).sum(axis=-1)
        by_chunks = self.chunk_variance[..., None] * (first_s[..., None] + output * self.step_s[..., None])
        varied = output**2 * self.batch_variance[..., None] + by_chunks
        varied = varied + calls.scatter * output * self.step_s[..., None] ** 2
        return mean, lengths + (varied * weight).sum(axis=-1)

    @cached_property
    def _rises(self) -> tuple[Floats, Floats]:
        """What one more sequence does to a call's mean step, prompts in it included, and how much of it comes back."""
        seen, more = self.steps.seen, self.steps.more
        rise = more[..., 0] - seen[..., 0] + self.step_s * (self._share(more) - self.share)
        gain = self.batch * (rise + self._reads_s) / (1.0 - self.share) / self.step_s
        return np.asarray(rise), np.clip(gain, 0.0, _LARGEST_GAIN)

    @cached_property
    def batch_variance(self) -> Floats:
        """Of a call's mean step by the other sequences, and by those whose prompts it meets, seconds²."""
        (rise, _), free = self._rises, 1.0 - self.share
        both = (rise + self._reads_s) / free * self.share * self.step_s / free
        return np.asarray(self._spread(rise) / free**2 + both * self._swing)

    @cached_property
    def chunk_variance(self) -> Floats:
        """Of the sum of a call's steps by the chunks in them, seconds² for each second in which prompts come."""
        cost, free = self.share / np.maximum(self._chunks, 1e-300), 1.0 - self.share
        again = 1.0 + (1.0 / free**2 - 1.0) / self.replicas
        return np.asarray(CHUNK_SPREAD**2 * self._chunk_squares * cost**2 * again * self._loop)

    @cached_property
    def _loop(self) -> Floats:
        """By how much variance grows in the loop of longer steps and larger batches: over all replicas alike."""
        return np.asarray(1.0 + self._rises[1] / (1.0 - self._rises[1]) / self.replicas)

    @cached_property
    def _swing(self) -> Floats:
        """Variance of the number of others over their mean: all of them by 1/n, and what replicas differ by."""
        by_chance, n = 1.0 / (1.0 - self._rises[1]), self.replicas
        uneven = UNEVEN * (1.0 - 1.0 / n) / np.maximum(self.batch, 1e-12)
        return np.asarray(np.minimum(by_chance / n + uneven, by_chance))

    @cached_property
    def full_sd_s(self) -> Floats:
        """Standard deviation of the full step by the batch."""
        rise = self.steps.more[..., -1] - self.steps.seen[..., -1]
        return np.sqrt(self._spread(rise))

    def _spread(self, rise: Floats) -> Floats:
        """Variance of a step by its batch, each sequence of which adds `rise` and its own reads: number, and whose."""
        own = sum(
            x * ((rise[..., None] + s.reads[:, None]) ** 2 * (s.answer_weight * s.output)[:, None]).sum(axis=-1)
            for x, s in self._both
        )
        number = (rise + self._reads_s) ** 2
        whose = np.maximum(own / np.maximum(self._tokens, 1e-12) - number, 0.0)
        return np.asarray(self.batch * (number * self._swing + whose * self._loop))

    # ---- gaps between tokens

    def itl_exceeds(self, calls: Calls, t: ArrayLike) -> Floats:
        """[K, N] P(gap between two tokens of such calls > t [N]): 0 where they have one token.

        A gap is the step of its time. That holds no prompt, a whole chunk, or what whole ones leave: of one prompt, or
        of several that came in the step before (a Poisson number). Each is gamma above such a step of a call that is
        alone, or what the lengths that stand for all make it, and no longer than those with whole chunks.
        """
        limit = np.asarray(t, dtype=np.float64)
        rate, rest = self._ends
        total = np.maximum(rate.sum(axis=-1), 1e-300)
        mean, square = ((rate * rest**power).sum(axis=-1) / total for power in (1, 2))
        met = self._met_s(calls)
        whole = np.minimum(met * self._whole, 1.0)
        number = met * total
        some = -np.expm1(-number)
        # Those that come together came in a long step.
        varied = number * square + whole * (self.full_step_s - self.quiet_s) ** 2
        number = number * np.sqrt(1.0 + varied / self.step_s**2)
        lone = number * np.exp(-number)
        several = np.minimum(-np.expm1(-number) - lone, some)
        each = np.maximum(-np.expm1(-number) - lone, 1e-300)
        together = (number - lone) / each
        spread = together * (square - mean**2) + ((number**2 + number - lone) / each - together**2) * mean**2
        full = self._full_exceeds(limit)
        known = ndtr((self.quiet_s[..., None] + rest - limit[..., None]) / self.quiet_sd_s[..., None])
        varied, spread = (self.quiet_sd_s**2 + np.maximum(v, 0.0) for v in (square - mean**2, spread))
        least = self.lone_step_s
        alone = np.minimum(_above(least, self.quiet_s + mean, np.sqrt(varied), limit), full)
        alone = np.maximum((known * rate).sum(axis=-1) / total, alone)
        shared = np.minimum(_above(least, self.quiet_s + together * mean, np.sqrt(spread), limit), full)
        quiet = _above(least, self.quiet_s, self.quiet_sd_s, limit)
        late = (some - several) * alone + several * shared + (1.0 - some) * quiet
        late = np.where(self.utilization < 1.0, whole * full + (1.0 - whole) * late, 1.0)
        return np.where((calls.output * calls.answer_weight).sum(axis=-1) > 1.0, late, 0.0)

    def _full_exceeds(self, limit: Floats) -> Floats:
        """[K, N] P(step with a whole chunk > limit): chunks after long contexts are other ones than those of chats."""
        added = self.quiet_s + self._full_s
        rates = [x[..., None] * c.weight * c.whole for x, c in zip(self.rates, self._some, strict=True)]
        rate, seconds = np.concatenate(rates, axis=-1), np.concatenate([c.whole_attention for c in self._some], axis=-1)
        deviation = np.maximum(CHUNK_SPREAD * self.full_sd_s, 1e-12)
        known = ndtr((added[..., None] + seconds - limit[..., None]) / deviation[..., None])
        known = (known * rate).sum(axis=-1) / np.maximum(rate.sum(axis=-1), 1e-300)
        alike = _above(self.lone_step_s + self._full_s, self.full_step_s, self._full_gap_sd_s, limit)
        return np.asarray(np.maximum(known, alike))

    def _met_s(self, calls: Calls) -> Floats:
        """[K, N] seconds in which the prompts come that a gap of such calls meets, as many as it has.

        Those of a mean step, and of what came before the first token, which is ahead of them.
        """
        tokens = np.maximum((calls.output * calls.answer_weight).sum(axis=-1), 1e-12)
        added = np.maximum(self.step_s - self.quiet_s, 1e-12)
        return np.asarray(self.step_s * np.maximum((self.answer_s(calls) / tokens - self.quiet_s) / added, 1.0))

    @cached_property
    def _whole(self) -> Floats:
        """[K, N] whole chunks per second."""
        return np.asarray(
            sum(x * (np.floor(s.chunks) * s.weight).sum(axis=1, keepdims=True) for x, s in self._both)
        )

    @cached_property
    def _some(self) -> list[Calls]:
        """Calls of each stream, at few points where many loads are looked at."""
        return [s.calls if self.look == "exact" else s.calls.coarse() for s in self.streams]

    @cached_property
    def _ends(self) -> tuple[Floats, Floats]:
        """[K, N, I] prompts per second of which whole chunks leave something, and seconds that it adds to a step."""
        left = [c.weight * (c.rest[..., 0] < 1.0 - 1e-9) for c in self._some]
        rate = [x[..., None] * each for x, each in zip(self.rates, left, strict=True)]
        return np.concatenate(rate, axis=-1), np.concatenate([self._rest(c) for c in self._some], axis=-1)

    @cached_property
    def quiet_sd_s(self) -> Floats:
        """Standard deviation of the step without prompts by the batch."""
        rise = self.steps.more[..., 0] - self.steps.seen[..., 0]
        return np.maximum(np.sqrt(self._spread(rise)), 1e-12)

    @cached_property
    def _full_gap_sd_s(self) -> Floats:
        """Of the full step, by the batch and by whose chunk it is: those of long prompts have more attention."""
        chunks = np.maximum(self._chunks, 1e-300)
        square = sum(
            x * (s.attention**2 / s.chunks * s.weight).sum(axis=1, keepdims=True) for x, s in self._both
        )
        varied = np.maximum(square / chunks - (self._prompt_attention / chunks) ** 2, 0.0)
        return np.asarray(np.maximum(np.sqrt((CHUNK_SPREAD * self.full_sd_s) ** 2 + varied), 1e-12))


def _above(least: Floats, mean: Floats, deviation: Floats, t: Floats) -> Floats:
    """P(value > t) of values above the `least`, gamma by mean and deviation."""
    excess, variance = np.maximum(mean - least, 1e-12), deviation**2
    return np.asarray(gammaincc(excess**2 / variance, np.maximum(t - least, 0.0) * excess / variance))
