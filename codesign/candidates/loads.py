"""How much a colocated replica carries of each flow alone before something is broken: a promise, its memory, its slots.

Loads of a flow are followed from an empty replica to a full one, through the batches that they keep, and what binds is
found between two of them. A row Σ x/X ≤ 1 over these edges holds for mixes as well, as far as the loads that break
nothing are convex (steps that are linear in the batch make them half-spaces); what mixes of two tasks carry less is
taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from codesign.candidates.context import MEMORY_Z
from codesign.candidates.data import Bools, Floats
from codesign.performance.chunks import prompt_seconds
from codesign.performance.colocated import Colocated, Steps, Stream
from codesign.performance.queueing import calls_met

_LIGHT, _HEAVY = 8, 52
"""Loads of a replica that is nearly always empty, and of one with several sequences."""
_BEYOND = 8
"""Loads of more sequences than there are slots, which tell where a few more calls lead to."""
_BEYOND_SLOTS = 100.0
"""Times a load at which slots are full, which memory may leave room for at the most."""
_EMPTIEST, _FEW = 1e-3, 0.5
"""Batches at which they begin."""
_HALVINGS, _SECANTS, _LOOKS = 5, 1, 2
"""Of the search for an edge: by halves, then as deviations of a normal distribution at first and at closer sight."""
_ASIDE, _CLOSE, _INSIDE, _FAR = 0.02, 0.005, 0.02, 8.0
"""Deviations by which promises are kept for safety, and aimed at below that; share of an interval that is left at its
ends; deviations that are certain."""
_MEDIANS = 0.25
"""Share of calls that may be late, from which on it may fall for a while where the load rises: answers that no prompt
meets become fewer, and those that prompts hold up longer."""
_NEAR = 3
"""Loads on both sides over which a slope is taken, wider than kinks are."""
SAFE = 0.995
"""Of an edge: steps have kinks where kernels take another tile, and are known to about as much between two loads."""
_ENDLESS = 1e12
"""Calls that wait where more prompts come than are computed."""
_ROUNDS = 5
"""Of the number of calls that keep a batch, with those that the prompts before them hold up."""

Beyond = Literal["slots", "in proportion", "as last"]
"""How what rises with the load is thought to go on where slots are full."""


def batches(most: Floats, finer: int = 1) -> Floats:
    """[K, N] batches from a replica that is nearly empty to one with `most` [K] sequences, and beyond; or `finer`."""
    few = np.minimum(_FEW, most / 2.0)[:, None]
    light = _EMPTIEST * (few / _EMPTIEST) ** np.linspace(0.0, 1.0, _LIGHT * finer, endpoint=False)
    heavy = few * (most[:, None] / few) ** np.linspace(0.0, 1.0, _HEAVY * finer)
    return np.concatenate([light, heavy, most[:, None] * np.geomspace(1.0, 6.0, _BEYOND + 1)[1:]], axis=1)


def within_slots(batch: Floats) -> Floats:
    """[K, N] those of `batches` that slots hold."""
    return np.asarray(batch[:, : batch.shape[1] - _BEYOND])


def _normal(share: Floats) -> Floats:
    """Deviations of a normal distribution below which a share lies."""
    return np.asarray(ndtri(np.clip(share, 1e-15, 1.0 - 1e-15)))


@dataclass(frozen=True, eq=False)
class Loads:
    """Loads of one mix of streams, from light to heavy."""

    streams: tuple[Stream, ...]
    mix: tuple[Floats, ...]
    """[K, 1] calls/s of each stream for one of the mix."""
    steps: Steps
    rate: Floats
    """[K, N] calls/s of the mix, as many as a call meets."""
    even: float = 1.0
    """Replicas over which calls are evened out, as far as steps vary."""

    @property
    def full(self) -> int:
        """Number of the load that takes all slots."""
        return int(self.rate.shape[1]) - 1 - _BEYOND

    @cached_property
    def _calls(self) -> Floats:
        """[K, N] calls under way, on a replica to which they come by chance."""
        pool = self.replica
        first = sum(x * pool.first_s(s.calls) for x, s in zip(pool.rates, self.streams, strict=True))
        return np.asarray(self.steps.batch + np.where(np.isfinite(first), first, _ENDLESS))

    def over(self, replicas: int, reload: Floats | None = None) -> Pooled:
        """What each of some replicas carries whose calls go to the emptiest, where they see what they do here.

        Their histories are read back in `reload` [K, 1] seconds.
        """
        if replicas <= 1:
            return Pooled(self, np.ones_like(self.rate))
        met = self._calls if reload is None else self._calls + self.rate * reload
        return Pooled(self, calls_under_way(met, replicas) / met)

    @staticmethod
    def of(steps: Steps, streams: Sequence[Stream], mix: Sequence[Floats]) -> Loads:
        """Loads that keep the batches of `steps`; of prompts without answers, which keep none, shares of all time."""
        unit = Colocated(steps, streams, mix)
        tokens = sum(m * s.tokens for m, s in zip(mix, streams, strict=True))
        cost = sum(m * (s.attention_s + prompt_seconds(steps.seen, s.parts)) for m, s in zip(mix, streams, strict=True))
        batch, answers = steps.batch, np.broadcast_to(tokens > 0, steps.batch.shape)
        decode = tokens * unit.quiet_s
        rate = batch / np.where(answers, decode + batch * cost, cost * (1.0 + batch))
        steps = replace(steps, batch=np.where(answers, batch, 0.0))
        found = Colocated(steps, streams, [rate * m for m in mix])
        for _ in range(_ROUNDS):
            found = found.again([rate * m for m in mix])
            held = sum(m * _held_up(found, s) for m, s in zip(mix, streams, strict=True))
            middle = decode + held + batch * cost
            more = 2.0 * batch / (middle + np.sqrt(np.maximum(middle**2 - 4.0 * held * cost * batch, 0.0)))
            rate = np.where(answers, more, rate)
        return Loads(tuple(streams), tuple(mix), steps, rate)

    def take(self, rows: NDArray[np.intp]) -> Loads:
        """Those of some of the replicas."""
        streams = tuple(stream.take(rows) for stream in self.streams)
        return Loads(streams, tuple(m[rows] for m in self.mix), self.steps.take(rows), self.rate[rows], self.even)

    def at(self, place: Floats, look: str) -> Colocated:
        """The replica at U loads of each configuration, `place` [K, U] among them; between two, what is between."""
        last = self.rate.shape[1] - 1
        before = np.clip(np.floor(place), 0, last - 1).astype(np.int64)
        share = np.clip(place - before, 0.0, 1.0)

        def some(values: Floats) -> Floats:
            shape = place.shape + (1,) * (values.ndim - 2)
            low, high = (np.take_along_axis(values, n.reshape(shape), axis=1) for n in (before, before + 1))
            return np.asarray(low + share.reshape(shape) * (high - low))

        steps = Steps(some(self.steps.batch), some(self.steps.seen), some(self.steps.more), self.steps.lone)
        rate = some(self.rate)
        return Colocated(steps, self.streams, [rate * m for m in self.mix], look, self.even)

    def edges(self, late: Callable[[Colocated], Floats], allowed: Floats) -> tuple[Floats, Floats]:
        """[K, U] the last loads at which shares `late` [K, U] are at most `allowed` [U]; −1 where none is so light.

        First those that were seen to be, then where by what was seen they end.  Shares rise with the load, of promises
        of medians not always, so that the first load that breaks one is looked for step by step. Close to the edge they
        rise as those of a normal distribution.
        """
        shape, last = (len(self.rate), len(allowed)), float(self.full)
        low, high = np.zeros(shape), np.full(shape, last)
        wanted = ndtri(allowed) - _ASIDE
        below, above = np.full(shape, -_FAR), _normal(late(self.at(high, "rough")))
        whole = above <= wanted
        above = np.where(whole, _FAR, above)
        steps = 2**_HALVINGS if np.any(allowed > _MEDIANS) else 0
        for place in np.linspace(0.0, last, steps + 1)[1:-1]:
            found = _normal(late(self.at(np.full(shape, place), "rough")))
            good = (found <= wanted) & (low >= place - 1.5 * last / steps)
            low, below = np.where(good, place, low), np.where(good, found, below)
            first = ~good & (high >= last)
            high, above = np.where(first, place, high), np.where(first, found, above)
        whole &= high >= last
        for number in range(_HALVINGS if steps else 0, _HALVINGS + _SECANTS + _LOOKS):
            part = np.full(shape, 0.5)
            if number >= _HALVINGS:
                aim = (wanted - _CLOSE - below) / np.maximum(above - below, 1e-9)
                # What seemed to keep its promise when it is full is asked there.
                part = np.where(whole & (above >= _FAR), 1.0, np.clip(aim, _INSIDE, 1.0 - _INSIDE))
            middle = low + part * (high - low)
            look = "rough" if number < _HALVINGS + _SECANTS else "close"
            found = _normal(late(self.at(middle, look)))
            good = found <= wanted
            low, below = np.where(good, middle, low), np.where(good, found, below)
            high, above = np.where(good, high, middle), np.where(good, above, found)
        part = (ndtri(allowed) - below) / np.maximum(above - below, 1e-9)
        likely = low + np.clip(part, 0.0, 1.0) * (high - low)
        none: Bools = low <= 0.0
        if np.any(none):
            lightest = _normal(late(self.at(np.zeros(shape), "rough")))
            likely = np.where(none & (lightest > ndtri(allowed)), -1.0, likely)
        return np.where(none, -1.0, low), likely

    def steady(self, most: float) -> Floats:
        """[K] the last load before one percent more calls brings more than `most` percent more sequences."""
        rate, batch = np.log(self.rate), np.log(np.maximum(self.steps.batch, _EMPTIEST))
        near = 2 * _NEAR
        grown = (rate[:, near:] - rate[:, :-near]) * most - (batch[:, near:] - batch[:, :-near])
        wild = grown < 0.0
        first = np.where(wild.any(axis=1), np.argmax(wild, axis=1) + _NEAR, self.full)
        return np.asarray(np.minimum(first, self.full))

    @property
    def replica(self) -> Colocated:
        """The replica at all of them."""
        return Colocated(self.steps, self.streams, [self.rate * m for m in self.mix], replicas=self.even)


@dataclass(frozen=True, eq=False)
class Pooled:
    """What comes to each of several replicas at these loads, whose calls meet fewer than are there."""

    loads: Loads
    more: Floats
    """[K, N] all that comes, and is under way, over what calls meet."""

    @cached_property
    def sure(self) -> Floats:
        """[K, N] calls/s that keep no larger batch either: where steps have kinks, several batches keep themselves."""
        return np.minimum.accumulate((self.loads.rate * self.more)[:, ::-1], axis=1)[:, ::-1]

    def take(self, rows: NDArray[np.intp]) -> Pooled:
        """Those of some of the replicas."""
        return Pooled(self.loads.take(rows), self.more[rows])

    def rates(self, place: Floats) -> Floats:
        """[K, U] the most calls/s up to loads at `place` [K, U]: inf where that is inf, and 0 where it is negative."""
        before = np.clip(place, 0.0, self.sure.shape[1] - 2.0).astype(np.int64)
        low, high = (np.take_along_axis(self.sure, n, axis=1) for n in (before, before + 1))
        found = low + np.clip(place - before, 0.0, 1.0) * (high - low)
        return np.where(place < 0.0, 0.0, np.where(np.isfinite(place), SAFE * found, np.inf))

    def until(self, value: Floats, most: Floats, beyond: Beyond = "slots") -> Floats:
        """[K] the most calls/s at which a value [K, N] that rises with the load is no more than `most` [K].

        Where it is less once slots are full: what they hold, or `beyond` them as if it rose in proportion to the load,
        or as fast as it did last.
        """
        last = self.loads.full
        good = value[:, : last + 1] <= most[:, None]
        low = np.where(good.all(axis=1), last + 1, np.argmin(good, axis=1)) - 1
        rows = np.arange(len(value))
        here, there = np.maximum(low, 0), np.minimum(low + 1, last)
        gap = np.maximum(value[rows, there] - value[rows, here], 1e-12 * value[rows, there])
        part = np.clip((most - value[rows, here]) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)
        start, end = self.sure[rows, here], self.sure[rows, there]
        most_of_all = start
        if beyond == "in proportion":
            most_of_all = start * np.clip(most / np.maximum(value[rows, last], 1e-300), 1.0, _BEYOND_SLOTS)
        if beyond == "as last":
            full = value[:, last]
            more, rate = (each[:, last] - each[:, last - _NEAR] for each in (value, self.sure))
            left = np.maximum(most - full, 0.0) / np.maximum(more, 1e-12 * np.maximum(full, 1e-300))
            most_of_all = start + np.minimum(left * np.maximum(rate, 0.0), _BEYOND_SLOTS * start)
        return np.where(low < 0, 0.0, np.where(low >= last, most_of_all, SAFE * (start + part * (end - start))))

    def held(self, moments: tuple[Floats, Floats], room: Floats, beyond: Beyond) -> Floats:
        """[K] the most calls/s whose bytes, of mean and variance `moments` [K, N] at what is met, `room` [K] holds.

        Where loads are light what each call holds hardly changes from one to the next, their deviation does.
        """
        rate = self.loads.rate
        share = rate * self.more / most_held(moments[0] / rate, moments[1] / rate, room[:, None])
        return self.until(share, np.ones(len(share)), beyond)

    def steady(self, most: float) -> Floats:
        """[K] the most calls/s before one percent more of them brings more than `most` percent more sequences."""
        return np.asarray(self.sure[np.arange(len(self.sure)), self.loads.steady(most)])


def most_held(mean: Floats, square: Floats, room: Floats) -> Floats:
    """The most calls/s whose bytes exceed `room` seldom, where one holds `mean` and `square` bytes and bytes².

    Their number is Poisson: what is held has that mean and that variance for each.  inf where they hold nothing.
    """
    deviation = MEMORY_Z * np.sqrt(square)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = (np.sqrt(deviation**2 + 4.0 * mean * room) - deviation) / (2.0 * mean)
    return np.where(mean > 0, root**2, np.inf)


def calls_under_way(met: Floats, replicas: int) -> Floats:
    """How many calls are on each of some replicas on average, where they go to the emptiest and meet so many others."""
    calls = np.geomspace(_EMPTIEST, 1e5, 1500)
    others = np.maximum.accumulate(calls_met(calls, replicas))
    # The number rises by less and less with those that are met: between two, it is at least what is between theirs.
    found = np.interp(met, others, calls)
    return np.asarray(np.maximum(np.where(met > others[-1], met, found), met))


def _held_up(found: Colocated, stream: Stream) -> Floats:
    """[K, N] mean seconds for which calls are held up when they begin to decode."""
    return np.asarray(found.answer_s(stream.calls) - stream.tokens * found.step_s)
