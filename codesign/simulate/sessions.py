"""The sessions of a task: chains of calls with their lengths, their tool waits and what they leave in a cache.

Lengths come from the class's distributions themselves, not from the points that the planner integrates over. As in
:mod:`codesign.workload.population`, contexts grow along a chain, and its first call is one of the shortest 1/N: the
j-th call of a chain of n takes its context from that place in the order of all contexts.

A simulation starts in the middle of things: the sessions that are open at its start are drawn from the stationary state
of the plan (a gap is found open in proportion to its length), and so is what is parked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.problem.distributions import Distribution
from codesign.problem.instance import TaskClass
from codesign.workload.population import CallPopulation, reusable_tokens

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_GRID = 512
"""Contexts, and a sixteenth as many appends, at which the reusable share of a history is found."""


@dataclass(frozen=True, eq=False)
class Calls:
    """[n] calls, chain by chain in order; what follows a chain's last row here is beyond the horizon, or nothing."""

    session: Ints
    position: Array
    """Place of the call in its chain, 0 to 1."""
    context: Array
    reusable: Array
    """Prompt tokens that a cache can hold."""
    output: Array
    gap_s: Array
    """Tool wait after the call."""
    after_gap: NDArray[np.bool_]
    """Another call of the same chain came before it."""
    in_time: NDArray[np.bool_]
    """The gap before it was no longer than the time-to-live."""


@dataclass(frozen=True, eq=False)
class Parked:
    """[m] sessions whose KV is parked at the start."""

    session: Ints
    """Numbers of chains of `Calls`, or beyond them: those whose next call is past the horizon."""
    age_s: Array
    """Seconds since the call before ended; negative where it has yet to end."""
    context: Array
    output: Array


@dataclass(frozen=True, eq=False)
class Workload:
    """What one group of routes is given."""

    calls: Calls
    entry_s: Array
    """[s] when each chain's first call here comes."""
    parked: Parked


class Lengths:
    """Sampler of the calls of a task under one variant."""

    def __init__(self, task: TaskClass, population: CallPopulation, limit: float, calls_factor: float) -> None:
        self.task, self.population, self.limit, self.factor = task, population, limit, calls_factor
        self._joint = task.lengths
        if self._joint is not None:
            order = np.argsort(self._joint.input, kind="stable")
            self._order, self._cumulative = order, np.cumsum(self._joint.weight[order])
        middle = (np.arange(_GRID) + 0.5) / _GRID
        few = (np.arange(_GRID // 16) + 0.5) / (_GRID // 16)
        self.first_share = 1.0 / population.calls_mean
        context, _ = self._prompts(middle, np.random.default_rng(0))
        appended = self._appends(few)
        self._fraction = self._history_fraction(
            np.repeat(context, few.size), np.tile(appended, _GRID), np.repeat(middle < self.first_share, few.size)
        )

    def numbers(self, rng: np.random.Generator, n: int) -> Ints:
        """[n] calls of chains."""
        if self.population.calls_mean == 1.0:
            return np.ones(n, dtype=np.int64)
        real = np.maximum(self.task.calls.quantiles(rng.random(n)) * self.factor, 1.0)
        whole = np.floor(real)
        return np.asarray(whole + (rng.random(n) < real - whole), dtype=np.int64)

    def places(self, number: Ints, of: Ints, shift: Array) -> Array:
        """Places (0 to 1) of the calls `number` (from 0) of chains of `of` calls; `shift` is the chain's own."""
        first = self.first_share
        later = first + (1.0 - first) * (number - 1 + shift) / np.maximum(of - 1, 1)
        return np.where(number == 0, first * shift, np.minimum(later, 1.0 - 1e-9))

    def draw(self, rng: np.random.Generator, place: Array, first: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
        """(context, reusable, output) [n] of calls at places of their chains."""
        context, output = self._prompts(place, rng)
        appended = np.minimum(self._appends(rng.random(place.size)), context)
        shared = np.minimum(self.task.prefix_shared_tokens, np.maximum(context - 1.0, 0.0))
        history = np.clip(context - np.maximum(appended, 1.0), 0.0, None)
        floor = np.where(first, shared, np.minimum(shared, history))
        own = np.where(first, 0.0, history - floor)
        return context, floor + self._fraction * own, np.maximum(np.round(output), 1.0)

    def _prompts(self, place: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        if self._joint is not None:
            found = np.minimum(np.searchsorted(self._cumulative, place), self._order.size - 1)
            rows = self._order[found]
            context, output = self._joint.input[rows], self._joint.output[rows]
        else:
            context = self.task.context.quantiles(place)
            output = self.task.output.quantiles(rng.random(place.size))
        return np.maximum(np.minimum(context, self.limit), 1.0), output

    def _appends(self, p: Array) -> Array:
        if self._joint is not None and self.population.calls_mean == 1.0:
            return np.zeros(p.size)
        return self.task.append.quantiles(p)

    def _history_fraction(self, context: Array, appended: Array, first: NDArray[np.bool_]) -> float:
        """The share of a later call's history that it reuses, which meets the class's reusable share."""
        task = self.task
        shared = np.minimum(task.prefix_shared_tokens, np.maximum(context - 1.0, 0.0))
        share = task.prefix_reusable if task.prefix_hit is None else task.prefix_hit
        appended = np.minimum(appended, context)
        weight = np.full(context.size, 1.0 / context.size)
        reusable = reusable_tokens(context, appended, weight, first, shared, share)
        history = np.clip(context - np.maximum(appended, 1.0), 0.0, None)
        floor = np.where(first, shared, np.minimum(shared, history))
        own = float(np.where(first, 0.0, history - floor).sum())
        return float((reusable - floor).sum()) / own if own > 0 else 0.0


def open_sessions(
    lengths: Lengths, starts_s: Array, tasks_per_s: float, call_s: float, horizon_s: float, rng: np.random.Generator
) -> Workload:
    """Chains that start at `starts_s`, those that are open at time 0, and what is parked then.

    `call_s` is a call's expected latency: it decides how many of the open sessions are inside a call.
    """
    task = lengths.task
    ttl = task.prefix_ttl_s
    population = lengths.numbers(rng, 20_000)
    again = float(population.mean()) - 1.0
    cycle = call_s + task.tool_wait.mean
    count = int(rng.poisson(tasks_per_s * again * cycle)) if again > 0 else 0
    waits = size_biased(task.tool_wait, rng.random(count))
    inside = rng.random(count) < call_s / max(cycle, 1e-12)
    waits = np.where(inside, task.tool_wait.quantiles(rng.random(count)), waits)
    passing = rng.random(count)
    left = np.where(inside, waits + passing * call_s, passing * waits)
    chance = (population - 1.0) / max(float((population - 1.0).sum()), 1e-12)
    of = rng.choice(population, count, p=chance) if count else np.zeros(0, dtype=np.int64)
    number = 1 + np.floor(rng.random(count) * (of - 1)).astype(np.int64)
    shift = rng.random(count)
    age = waits - left
    held = age < ttl  # those inside a call hold their KV as well, with a time-to-live that starts when it ends
    ended = int(rng.poisson(tasks_per_s * ttl))
    enters = left < horizon_s
    late = np.flatnonzero(held & ~enters)
    soon = np.flatnonzero(enters)
    entry = np.concatenate([starts_s, left[soon]])
    fresh = starts_s.size
    all_of = np.concatenate([lengths.numbers(rng, fresh), of[soon]])
    all_number = np.concatenate([np.zeros(fresh, dtype=np.int64), number[soon]])
    all_shift = np.concatenate([rng.random(fresh), shift[soon]])
    entry_in_time = np.concatenate([np.zeros(fresh, dtype=bool), waits[soon] <= ttl])
    calls = _chains(lengths, entry, all_of, all_number, all_shift, entry_in_time, horizon_s, rng)
    # What is parked: open sessions after their last call, and ended ones that the server does not know have ended.
    with_entry = fresh + np.flatnonzero(held[soon])
    ended_of = lengths.numbers(rng, ended)
    session = np.concatenate([with_entry, entry.size + np.arange(late.size + ended)])
    ages = np.concatenate([age[soon][held[soon]], age[late], rng.random(ended) * ttl])
    before_of = np.concatenate([of[soon][held[soon]], of[late], ended_of])
    before = np.concatenate([number[soon][held[soon]], number[late], ended_of]) - 1
    before_shift = np.concatenate([shift[soon][held[soon]], shift[late], rng.random(ended)])
    context, _, output = lengths.draw(rng, lengths.places(before, before_of, before_shift), before == 0)
    return Workload(calls, entry, Parked(session.astype(np.int64), ages, context, output))


def _chains(
    lengths: Lengths,
    entry_s: Array,
    of: Ints,
    number: Ints,
    shift: Array,
    entry_in_time: NDArray[np.bool_],
    horizon_s: float,
    rng: np.random.Generator,
) -> Calls:
    """Rows of chains from their call `number` on, as far as they can come before the horizon if calls took no time."""
    count = of - number
    session = np.repeat(np.arange(of.size), count)
    starts = np.cumsum(count) - count
    step = np.arange(session.size) - np.repeat(starts, count)
    gap = lengths.task.tool_wait.quantiles(rng.random(session.size))
    total = np.cumsum(gap) - gap
    earliest = entry_s[session] + total - total[starts][session] if session.size else total
    keep = earliest < horizon_s
    ordinal = number[session] + step
    in_time = np.empty(session.size, dtype=bool)
    in_time[1:] = gap[:-1] <= lengths.task.prefix_ttl_s
    in_time[starts[count > 0]] = entry_in_time[count > 0]
    place = lengths.places(ordinal, of[session], shift[session])[keep]
    context, reusable, output = lengths.draw(rng, place, ordinal[keep] == 0)
    return Calls(
        session[keep], place, context, reusable, output, gap[keep], ordinal[keep] > 0, in_time[keep]
    )  # fmt: skip


def size_biased(distribution: Distribution, p: Array) -> Array:
    """[n] quantiles of the distribution that an observer at a random time finds: density ∝ x·f(x)."""
    if distribution.kind == "constant" or distribution.mean == 0:
        return np.full(p.size, distribution.value)
    if distribution.kind == "lognormal":
        return Distribution.lognormal(distribution.mu + distribution.sigma**2, distribution.sigma).quantiles(p)
    values, weights = np.array(distribution.values), np.array(distribution.weights)
    return Distribution.empirical(values, weights * values).quantiles(p)
