"""Colocated replicas: answers, and chunks of prompts in the same steps.

Everything follows from how many sequences decode. Where they are B, a call is one of B + 1. Prompts come first: they
take the share φ of all time, and leave steps of (step(B + 1, 0) + reads)/(1 − φ) on average. B is the smallest number
that steps of that length keep in the batch, with the time for which calls are held up by prompts that came while theirs
was computed: φ·TTFT of work, in the time that prompts leave. Where calls go to the replica with the fewest, all that is
what a call meets, a share of what comes, worked out from how many are under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincc, gammaln, ndtr, xlogy

from codesign.check.calls import Array, Prompts
from codesign.check.plan import ModelledPool, ModelledRoute
from codesign.performance import decode_attention_seconds, decode_step_seconds, prefill_attention_seconds
from codesign.performance.chunks import CHUNK_SPREAD, KNOTS, WAIT_SPREAD
from codesign.performance.drafts import Accepted, accepted
from codesign.performance.queueing import ALIKE, LEAST_MET, MOST_EVEN, UNEVEN, mean_wait
from codesign.workload.population import answer_lengths

_FULL_LOAD = 0.999
_HIGHEST_GAIN = 0.95
_SAME = 1e-12
"""Of a share that two rounds agree on."""
_SHARES = np.array(KNOTS)


@dataclass(frozen=True, eq=False)
class _Traffic:
    """One route's calls on a replica."""

    rate: float
    """Calls/s that come to a replica, as far as a call on it meets them."""
    weight: Array
    """[J] of prompts, [J] their whole chunks, and [J] the share of a chunk that is left."""
    whole: Array
    left: Array
    between: Array
    """[J, Q] how values at what is left come from those at KNOTS."""
    attention: Array
    """[J] attention seconds of a whole prompt."""
    answers: Array
    """[P] weights of answers, [P] their steps (one for a token where none are drafted), and [P] what their contexts add
    to one."""
    tokens: Array
    reads: Array
    emits: Accepted
    """What steps emit of its answers."""

    @staticmethod
    def of(
        pool: ModelledPool, route: ModelledRoute, met: float = 1.0, prompts: Prompts | None = None
    ) -> _Traffic:
        """A route on a pool, whose calls meet a share of each other; perhaps with its prompts in more lengths."""
        calls, points = route.calls, route.calls.population
        emits = accepted(pool.table, calls)
        prompts, chunk = prompts or calls.prompts(), float(pool.entry.prefill_chunk or np.nan)
        whole = np.floor_divide(prompts.new, chunk)
        left = prompts.new / chunk - whole
        return _Traffic(
            rate=met * calls.rate / pool.entry.replicas,
            weight=prompts.weight,
            whole=whole,
            left=left,
            between=np.stack([np.interp(left, _SHARES, one) for one in np.eye(len(_SHARES))], axis=1),
            attention=prefill_attention_seconds(pool.table, prompts.new, prompts.cached)[0],
            answers=points.weight,
            tokens=points.output / emits.tokens,
            reads=decode_attention_seconds(pool.table, points.context + points.output / 2.0)[0],
            emits=emits,
        )

    @property
    def chunks(self) -> Array:
        """[J] of each prompt."""
        return self.whole + self.left

    def cost(self, added: Array) -> Array:
        """[n] seconds that a call's prompt adds to steps, by what KNOTS add ([n, Q]): the dearer of two ways.

        In steps of its own, or at its share of full ones; and its attention.
        """
        alone = added[:, -1] * float(self.weight @ self.whole) + added @ (self.weight @ self.between)
        shared = added[:, -1] * float(self.weight @ self.chunks)
        return np.asarray(np.maximum(alone, shared) + float(self.weight @ self.attention))

    def rest(self, added: Array) -> Array:
        """[n, J] seconds that what whole chunks leave of a prompt adds to a step."""
        return np.asarray(added @ self.between.T + self.attention * self.left / self.chunks)

    def last_step(self, added: Array, mean: Array, full: Array) -> Array:
        """[n, J] seconds of the step with a prompt's rest: an average one and the rest, not beyond a full one."""
        rest = self.rest(added)
        return np.where(self.left > 0, np.minimum(mean[:, None] + rest, full[:, None]), 0.0)


@dataclass(frozen=True, eq=False)
class Shared:
    """The steps that answers and prompts share, at n batches: arrays [n] and, where said, [n, Q]."""

    added: Array
    """[n, Q] seconds that KNOTS of a chunk add."""
    batch: Array
    step: Array
    """Mean seconds of the steps of a call."""
    full: Array
    """Seconds of a step with a whole chunk."""
    prompts: Array
    """φ."""
    busy: Array
    """ρ of prompts in full steps."""
    wait: Array
    """Mean seconds in the queue for full steps."""
    own: Array
    """[n, I] seconds of every prompt in steps of its own, and [n, I] such prompts per second, as if one at a time."""
    rate: Array
    quiet: Array
    """Seconds of a step without prompts."""
    while_computing: Array
    """Calls that come while a prompt is computed, over as many as come by chance."""

    @property
    def free(self) -> Array:
        """[n] probability that no prompt is computed when one comes."""
        return np.asarray(np.maximum(1.0 - (self.rate * self.own).sum(axis=1), 0.0))

    @property
    def left(self) -> Array:
        """[n] mean seconds until the end of what runs then: a prompt, as its length makes it likely, or a step."""
        return np.asarray(0.5 * ((self.rate * self.own**2).sum(axis=1) + self.free * self.quiet))

    @property
    def queued(self) -> Array:
        """[n] mean seconds that a prompt waits (Pollaczek and Khinchine, and the safety factor)."""
        inside = 0.5 * (self.rate * self.own**2).sum(axis=1) + (1.0 - self.free) * self.wait
        return np.asarray(WAIT_SPREAD * inside + 0.5 * self.free * self.quiet)

    def first(self, traffic: _Traffic) -> Array:
        """[n] mean seconds to the first token of a route's calls, reloads left out."""
        last = traffic.last_step(self.added, self.step, self.full)
        return np.asarray(self.queued + self.full * float(traffic.weight @ traffic.whole) + last @ traffic.weight)

    def decoding(self, traffic: _Traffic, tokens: Array) -> Array:
        """[n, P] mean seconds of a route's answers of these tokens: no step is longer than a full one.

        Prompts that came before its first token are ahead of a call.
        """
        ahead = (self.prompts * self.first(traffic) / (1.0 - self.prompts))[:, None]
        room = np.maximum(self.full - self.step, 0.0)[:, None] * np.maximum(tokens - 1.0, 0.0)
        return np.asarray(self.step[:, None] * tokens + np.minimum(ahead, room))


@dataclass(frozen=True, eq=False)
class Gaps:
    """What the steps of a replica hold, one by one."""

    quiet: float
    """Variance of steps without prompts by who is in them, s²."""
    full: float
    """The same of steps with a whole chunk, with the safety factor, and by whose it is, s²."""
    whole: float
    """Whole chunks per second."""
    chunks: Array
    """[I] whole chunks per second of each prompt, and [I] attention seconds of one."""
    attention: Array
    large: float
    """Variance of steps with a whole chunk by who is in them alone, s²."""
    rate: Array
    """[I] prompts per second with something left beside whole chunks, and [I] seconds that it adds to a step."""
    rest: Array


@dataclass(frozen=True, eq=False)
class Colocated:
    """A replica's state, as far as promises need it."""

    shared: Shared
    """At its batch alone."""
    shortest_s: float
    """Step of a call that nobody is beside."""
    others: float
    """Variance of a call's mean step by who is beside it, and whose prompts, s²."""
    chunks: float
    """The same by chunks, of all its steps together, s² for each second from its arrival on."""
    full: float
    """Variance of full steps by who is in them, s²."""
    gaps: Gaps
    met: float
    """Share of the others under way on its replica that a call meets."""
    coming: float
    """Calls/s that it meets."""

    @property
    def batch(self) -> float:
        """Mean sequences that decode."""
        return float(self.shared.batch[0]) / self.met

    @property
    def busy(self) -> float:
        """ρ of prompts in full steps."""
        return float(self.shared.busy[0]) / self.met

    @property
    def step_s(self) -> float:
        """Mean step of a call."""
        return float(self.shared.step[0])

    @property
    def full_step_s(self) -> float:
        """Step with a whole chunk."""
        return float(self.shared.full[0])

    def decoding(self, route: ModelledRoute) -> Array:
        """[P] mean seconds of a route's answers."""
        traffic = _Traffic.of(route.prefill, route)
        return np.asarray(self.shared.decoding(traffic, traffic.tokens)[0])

    def first_token_s(self, route: ModelledRoute) -> float:
        """Mean seconds to a route's first token, reloads left out."""
        return float(self.shared.first(_Traffic.of(route.prefill, route))[0])

    def decoding_moments(self, route: ModelledRoute) -> tuple[float, float]:
        """Mean and variance (s, s²) of the time that a call of a route decodes."""
        traffic, seconds = _Traffic.of(route.prefill, route), self.decoding(route)
        mean = float(traffic.answers @ seconds)
        within = traffic.tokens**2 * self.others + self._met(traffic, traffic.tokens)
        within = within + traffic.emits.scatter * traffic.tokens * self.step_s**2
        return mean, float(traffic.answers @ ((seconds - mean) ** 2 + within))

    def _met(self, traffic: _Traffic, tokens: Array) -> Array:
        """[P] variance of the seconds that answers take, by prompts that came since their own did, s²."""
        return self.chunks * (float(self.shared.first(traffic)[0]) + self.step_s * tokens)

    def late(self, route: ModelledRoute) -> Callable[[float], float]:
        """P(a call's time per token > t): steps gamma above the shortest, by mean and variance at each length."""
        traffic = _Traffic.of(route.prefill, route)
        weight, tokens = answer_lengths(route.calls.task, route.calls.population)
        tokens = np.maximum(tokens / traffic.emits.tokens, 1.0)
        above = np.maximum(self.shared.decoding(traffic, tokens)[0] / tokens - self.shortest_s, 1e-12)
        variance = np.maximum(self.others + self._met(traffic, tokens) / tokens**2, 1e-24)
        top, spread = self.full_step_s, max(float(np.sqrt(self.full)), 1e-12)
        # Calls that prompts come to: all is theirs, the others are alone.
        prompts = self.coming * (float(self.shared.first(traffic)[0]) + self.step_s * tokens)
        square = variance / CHUNK_SPREAD**2 + above**2
        theirs = np.clip(1.0 - np.exp(-prompts), 1.01 * above**2 / square, 1.0)

        def gamma(mean: Array, variance: Array, t: float) -> Array:
            return np.asarray(gammaincc(mean**2 / variance, max(t - self.shortest_s, 0.0) * mean / variance))

        def beyond(t: float) -> float:
            t = traffic.emits.target("tpot", t)
            some = theirs * gamma(above / theirs, square / theirs - (above / theirs) ** 2, t)
            each = np.maximum(gamma(above, variance, t), some)
            return float(weight @ np.minimum(each, ndtr((top - t) / spread)))

        return beyond

    def gap_late(self, route: ModelledRoute) -> Callable[[float], float]:
        """P(a gap between two tokens of a route's answers > t): over the kinds of steps that a token may wait for.

        Whoever decodes meets prompts at their rate in a step, and those that came before its first token. Prompts that
        leave less than a chunk are alone in a step, or with those that came in the same step: a Poisson number, more
        often two where steps are long.
        """
        at, traffic, gaps = self.shared, _Traffic.of(route.prefill, route), self.gaps
        tokens = float(traffic.answers @ traffic.tokens)
        if tokens <= 1.0:
            return lambda t: 0.0
        quiet, step, top = float(at.quiet[0]), self.step_s, self.full_step_s
        longer = float(traffic.answers @ self.decoding(route)) / tokens - quiet
        seconds = step * max(longer / max(step - quiet, 1e-12), 1.0)
        whole = min(seconds * gaps.whole, 1.0)
        coming = float(gaps.rate.sum())
        weight = gaps.rate / max(coming, 1e-300)
        mean, square = float(weight @ gaps.rest), float(weight @ gaps.rest**2)
        n = seconds * coming
        any_ = 1.0 - float(np.exp(-n))
        n *= float(np.sqrt(1.0 + (n * square + whole * (top - quiet) ** 2) / step**2))
        lone = n * float(np.exp(-n))
        two = max(1.0 - float(np.exp(-n)) - lone, 1e-300)
        share = min(1.0 - float(np.exp(-n)) - lone, any_)
        number, of_squares = (n - lone) / two, (n * n + n - lone) / two
        varied = number * (square - mean**2) + (of_squares - number**2) * mean**2
        within = max(float(np.sqrt(gaps.quiet)), 1e-12)
        of_one, of_several = (gaps.quiet + max(v, 0.0) for v in (square - mean**2, varied))
        least, chunk = self.shortest_s, float(at.added[0, -1])
        of_chunk = gaps.chunks / max(gaps.whole, 1e-300)

        def beyond(t: float, above: float, variance: float) -> float:
            above, squared = max(above, 1e-12), max(variance, 1e-24)
            return float(gammaincc(above**2 / squared, max(t, 0.0) * above / squared))

        def late(t: float) -> float:
            far = (quiet + chunk + gaps.attention - t) / max(float(np.sqrt(gaps.large)), 1e-12)
            full = max(float(of_chunk @ ndtr(far)), beyond(t - least - chunk, top - least - chunk, gaps.full))
            # Of lengths between the few that are known, and beyond them, their mean and variance say more.
            known = float(weight @ ndtr((quiet + gaps.rest - t) / within))
            alone = max(known, min(beyond(t - least, quiet - least + mean, of_one), full))
            several = min(beyond(t - least, quiet - least + number * mean, of_several), full)
            empty = beyond(t - least, quiet - least, gaps.quiet)
            ends = (any_ - share) * alone + share * several + (1.0 - any_) * empty
            return whole * full + (1.0 - whole) * ends

        return late

    def prefilling(self, route: ModelledRoute) -> tuple[Array, Array]:
        """(weight [J], seconds [J]) of a route's prompts in steps of their own, beside wait and reload."""
        at, traffic = self.shared, _Traffic.of(route.prefill, route)
        # Whoever comes before the running step ends shares the prompt's last one.
        beside = at.step + at.prompts * at.left
        last = traffic.last_step(at.added, beside, at.full)[0]
        return traffic.weight, traffic.whole * self.full_step_s + last

    def first_late(self, route: ModelledRoute, reload: Array | float) -> Callable[[float], float]:
        """P(TTFT > t): wait, steps of its own, and those who come meanwhile and share the last one.

        In u seconds φ·u of them come, and no more than fill the step: late with all of them, and with a full step.
        """
        prompts = route.calls.first_prompts()
        at, traffic = self.shared, _Traffic.of(route.prefill, route, prompts=prompts)
        if route.calls.policy == "drop":
            reload = 0.0
        last = traffic.last_step(at.added, at.step, at.full)[0]
        first = reload + traffic.whole * self.full_step_s
        factor = 1.0 + float(at.prompts[0])
        full = np.where(traffic.left > 0, self.full_step_s, 0.0)

        def late(t: float) -> float:
            either = self._waits_longer((t - first - last) / factor, factor), self._waits_longer(t - first - full, 1.0)
            return float(traffic.weight @ np.minimum(*either))

        return late

    def _waits_longer(self, seconds: Array, faster: float) -> Array:
        """[J] P(a prompt waits longer than [J] seconds), where the wait beyond a running prompt goes so much faster.

        One that finds another under way waits until that one is through (uniform on its length) and for a wait beyond
        it, of mean w and P(> t) = ρ·exp(−ρt/w); one that finds none waits until a step without prompts ends.
        """
        at = self.shared
        if not float(at.busy[0]) < 1.0:
            return np.ones_like(seconds)
        rho = float(at.while_computing[0] * at.busy[0])
        mean, quiet = WAIT_SPREAD * float(at.wait[0]) / faster, float(at.quiet[0])
        lengths, rates = WAIT_SPREAD * at.own[0], at.rate[0] / WAIT_SPREAD
        t = np.maximum(seconds, 0.0)[:, None]
        inside = np.minimum(t, lengths)
        decay = rho / mean
        through = mean * (np.exp(-decay * (t - inside)) - np.exp(-decay * t))
        late = ((lengths - inside + through) * rates).sum(axis=1)
        late = late + float(at.free[0]) * np.clip(1.0 - t[:, 0] / quiet, 0.0, 1.0)
        return np.where(seconds < 0.0, 1.0, late)

    def wait_moments(self) -> tuple[float, float]:
        """Mean and variance (s, s²) of that wait."""
        at = self.shared
        if not float(at.busy[0]) < 1.0:
            return np.inf, np.inf
        mean, free, beyond = float(at.queued[0]), float(at.free[0]), WAIT_SPREAD * float(at.wait[0])
        lengths, rates = WAIT_SPREAD * at.own[0], at.rate[0] / WAIT_SPREAD
        # E[(left + beyond)²] where a prompt is under way; a third of the square where a step ends.
        square = float((rates * (lengths**3 / 3.0 + lengths**2 * beyond)).sum())
        square += (1.0 - free) * 2.0 * beyond**2 / float(at.while_computing[0] * at.busy[0])
        square += free * float(at.quiet[0]) ** 2 / 3.0
        return mean, square - mean**2


def colocated(
    pool: ModelledPool,
    routes: Sequence[ModelledRoute],
    fixed_point: Callable[[Callable[[Array], Array], float], float],
    reload: Callable[[ModelledRoute], Array],
) -> Colocated | None:
    """The state of a pool under its routes, whose histories are read back in `reload` [J] seconds.

    None where it is overloaded. Calls that no replica keeps go to the replica with the fewest, and meet fewer others
    than are there: the least share of them that has them under way for as long as it is worked out with. Where some
    stay with their replica, all are taken to come by chance.
    """
    even = 1 if any(route.calls.policy == "colocated" for route in routes) else pool.entry.replicas

    def state(met: float) -> Colocated | None:
        return _at_share(pool, routes, fixed_point, met, even)

    if even == 1:
        return state(1.0)
    before = [float(route.calls.prompts().weight @ reload(route)) for route in routes]

    def share(met: float) -> float:
        """What share calls meet where they are under way for as long as they are at a share."""
        found = state(met)
        if found is None:
            return 1.0
        calls = sum(
            route.calls.rate / even * (seconds + found.first_token_s(route) + found.decoding_moments(route)[0])
            for route, seconds in zip(routes, before, strict=True)
        )
        return max(_others(calls, even) / calls, LEAST_MET) if np.isfinite(calls) else 1.0

    low, high = LEAST_MET, share(LEAST_MET)
    while high - low > _SAME * high:  # both below it: the share rises with itself
        following = share(high)
        bent = following - 2.0 * high + low
        guess = low - (high - low) ** 2 / bent if bent < 0.0 else 1.0
        guess = min(max(guess, following), 1.0)
        beyond = share(guess)
        if beyond <= guess:
            high = following
            if guess > following and share(following) > following:
                high = float(brentq(lambda met: share(met) - met, following, guess, xtol=_SAME))
            break
        low, high = guess, beyond
    return state(high)


def _others(calls: float, replicas: int) -> float:
    """Others that a call meets on its replica, where so many are under way on each of several on average.

    Over how many there are in all, N (Poisson): rows of n, each with who is before and behind it in its line.
    """
    replicas = min(replicas, MOST_EVEN)
    mean = calls * replicas
    most = int(mean + 12.0 * np.sqrt(mean) + 20.0) + replicas
    number = np.arange(max(int(mean - 12.0 * np.sqrt(mean)), 0), most + 1)
    chance = np.exp(xlogy(number, mean) - mean - gammaln(number + 1.0))  # Poisson
    lines = float(chance @ (number * np.maximum(number / replicas - 1.0, 0.0))) / mean
    uneven = UNEVEN * (1.0 - 1.0 / replicas) * float(chance @ (number >= replicas)) / calls
    return min(lines + uneven, calls)


def _at_share(
    pool: ModelledPool,
    routes: Sequence[ModelledRoute],
    fixed_point: Callable[[Callable[[Array], Array], float], float],
    met: float,
    even: int,
) -> Colocated | None:
    """The state where calls meet a share of the others."""
    load = _Load(pool, [_Traffic.of(pool, route, met) for route in routes], met, even)
    if not load.tokens:  # nothing is decoded: prompts alone, which may be too many all the same
        state = load.state(0.0)
        return state if state.busy < 1.0 else None

    def stay(seconds: Array) -> Array:
        """Seconds for which a token's sequence stays in the batch, where they are so many."""
        return load.kept(load.at(load.tokens * seconds)) / load.tokens

    # No token is sooner there.  (In an empty replica it may be later than in a fuller one: a mixture of experts reads
    # most of them for the first prompt.)
    seconds = fixed_point(stay, float(load.steps(np.ones(1))[0, 0]))
    if not np.isfinite(seconds):
        return None
    return load.state(load.tokens * seconds)


class _Load:
    def __init__(self, pool: ModelledPool, traffic: list[_Traffic], met: float, even: int) -> None:
        self.pool, self.traffic, self.met, self.even = pool, traffic, met, even
        self.tokens = sum(t.rate * float(t.answers @ t.tokens) for t in traffic)
        self.reads = sum(t.rate * float(t.answers @ (t.tokens * t.reads)) for t in traffic)
        self.reads /= max(self.tokens, 1e-12)
        self.chunks = sum(t.rate * float(t.weight @ t.chunks) for t in traffic)
        self.squares = sum(t.rate * float(t.weight @ t.chunks**2) for t in traffic)
        self.attention = sum(t.rate * float(t.weight @ t.attention) for t in traffic)

    def steps(self, sequences: Array) -> Array:
        """[n, Q] steps of so many sequences with each of KNOTS of a chunk, reads left out."""
        tokens = _SHARES * float(self.pool.entry.prefill_chunk or np.nan)
        n, q = len(sequences), len(tokens)
        return decode_step_seconds(self.pool.table, np.repeat(sequences, q), np.tile(tokens, n)).reshape(n, q)

    def prompts(self, steps: Array) -> Array:
        """φ at steps [n, Q]."""
        added = steps - steps[:, :1]
        return np.asarray(np.minimum(sum(t.rate * t.cost(added) for t in self.traffic), _FULL_LOAD))

    def kept(self, at: Shared) -> Array:
        """[n] sequences that steps keep in the batch, by Little's law."""
        return np.asarray(sum(t.rate * (at.decoding(t, t.tokens) @ t.answers) for t in self.traffic))

    def at(self, batch: Array) -> Shared:
        """The steps at each of these batches [n]."""
        steps = self.steps(batch + 1.0)
        added = steps - steps[:, :1]
        quiet = steps[:, 0] + self.reads * (batch + 1.0)
        prompts = self.prompts(steps)
        mean = quiet / (1.0 - prompts)
        full = quiet + added[:, -1] + self.attention / self.chunks
        own = [t.whole * full[:, None] + t.last_step(added, mean, full) for t in self.traffic]
        seconds, rate = np.concatenate(own, axis=1), np.concatenate([t.rate * t.weight for t in self.traffic])
        # Prompts that would take more than all time share their steps.
        one = rate / np.maximum(seconds @ rate, 1.0)[:, None]
        fewer = self._while_computing(batch, quiet, seconds @ rate, (one * seconds).sum(axis=1))
        wait = mean_wait(fewer * self.chunks * full, fewer * self.squares * full**2, 1)
        return Shared(added, batch, mean, full, prompts, self.chunks * full, wait, seconds, one, quiet, fewer)

    def _while_computing(self, batch: Array, quiet: Array, seconds: Array, computing: Array) -> Array:
        """[n] calls that come while a prompt is computed, over as many as would by chance.

        `seconds` [n] of prompts' steps come in a second, `computing` [n] of it. Calls that follow those that leave come
        with the steps, of which such ones are fewer than their time tells; unless all answers are alike: then they come
        as others did before.
        """
        steps = sum(t.rate * float(t.weight @ np.ceil(t.chunks)) for t in self.traffic)
        slower = np.maximum(seconds / steps / quiet, 1.0)
        calls = sum(t.rate for t in self.traffic)
        mean = self.tokens / calls
        square = sum(t.rate * float(t.answers @ t.tokens**2) for t in self.traffic) / calls
        unlike = max(square - mean**2, 0.0)
        mingled = unlike / max(unlike + ALIKE * mean**2, 1e-300)
        followers = (1.0 - self.even**-0.5) * mingled * batch / (1.0 + batch)
        of_steps = (1.0 / slower) / (computing / slower + 1.0 - computing)
        return np.asarray(1.0 + followers * (of_steps - 1.0))

    def state(self, batch: float) -> Colocated:
        """The state at a batch, with what varies there."""
        at = self.at(np.array([batch]))
        step, free = float(at.step[0]), 1.0 - float(at.prompts[0])
        steps = self.steps(np.array([batch + 1.0, batch + 2.0]))
        # One more sequence makes a call's steps longer, and those with prompts in them too.
        longer = float(steps[1, 0] - steps[0, 0]) + step * float(np.diff(self.prompts(steps))[0])
        each = (longer + self.reads) / free
        gain = np.clip(batch * each / step, 0.0, _HIGHEST_GAIN)
        # All replicas swing alike, each by one in n; beyond that they differ by less than a call.
        loop = float(1.0 + gain / (1.0 - gain) / self.even)
        chance = float(1.0 / (1.0 - gain))
        swing = min(chance / self.even + UNEVEN * (1.0 - 1.0 / self.even) / max(batch, 1e-12), chance)
        # Whoever brings a prompt decodes after it: the two go up together.
        together = each * (1.0 - free) * step / free
        chunk = CHUNK_SPREAD * (1.0 - free) / self.chunks
        # Prompts that come while others are computed: as many more on one replica alone, on many replicas elsewhere.
        behind = 1.0 + (free**-2 - 1.0) / self.even
        return Colocated(
            shared=at,
            shortest_s=float(self.steps(np.ones(1))[0, 0]) + self.reads,
            others=float(self._by_sequences(batch, longer, swing, loop) / free**2 + swing * together),
            chunks=float(loop * self.squares * chunk**2 * behind),
            full=float(self._by_sequences(batch, float(steps[1, -1] - steps[0, -1]), swing, loop)),
            gaps=self._gaps(at, batch, swing, loop, steps),
            met=self.met,
            coming=sum(t.rate for t in self.traffic),
        )

    def _gaps(self, at: Shared, batch: float, swing: float, loop: float, steps: Array) -> Gaps:
        """Steps one by one, by those with one more sequence [2, Q]."""
        quiet, full = (self._by_sequences(batch, float(steps[1, q] - steps[0, q]), swing, loop) for q in (0, -1))
        squares = sum(t.rate * float(t.weight @ (t.attention**2 / t.chunks)) for t in self.traffic)
        by_chunk = max(squares / self.chunks - (self.attention / self.chunks) ** 2, 0.0)
        return Gaps(
            quiet=float(quiet),
            full=CHUNK_SPREAD**2 * float(full) + by_chunk,
            chunks=np.concatenate([t.rate * t.weight * t.whole for t in self.traffic]),
            attention=np.concatenate([t.attention / t.chunks for t in self.traffic]),
            large=CHUNK_SPREAD**2 * float(full),
            whole=sum(t.rate * float(t.weight @ t.whole) for t in self.traffic),
            rate=np.concatenate([t.rate * t.weight * (t.left > 0) for t in self.traffic]),
            rest=np.concatenate([t.rest(at.added)[0] for t in self.traffic]),
        )

    def _by_sequences(self, batch: float, longer: float, swing: float, loop: float) -> float:
        """Variance of a step by its sequences, each of which makes it longer by so much and by its reads.

        Their number varies by `swing` over its mean, and who they are by `loop` over that of calls that come by chance.
        """
        tokens = max(self.tokens, 1e-12)
        square = sum(t.rate * float((t.answers * t.tokens) @ (longer + t.reads) ** 2) for t in self.traffic) / tokens
        of_number = (longer + self.reads) ** 2
        return batch * (swing * of_number + loop * max(square - of_number, 0.0))
