"""A colocated pool in operation: chunks of prompts inside decode steps (DESIGN 3.4).

A call that decodes sees n = B + 1 sequences: the others, as many as there are on average, and itself. Prompts take the
share φ of all time, and its mean step is

    t = step(n, 0) + r·n + φ·t,    φ = Σ x·(cost(n) + prompt attention),    B = Σ x·E[o·t + backlog],

with x calls/s of a flow on a replica, o output tokens, r seconds that a sequence's context adds to a step, and the cost
of a prompt in :mod:`~codesign.performance.chunks`. What came while its own prompt waited and was computed is ahead of
it when it begins to decode: backlog = φ·TTFT/(1 − φ), or what makes all of its steps full ones.

A prompt waits as in Pollaczek's and Khinchine's queue: where another one is computed for what is left of that one, and
for a wait beyond it; else for the end of a step without prompts.

A call's mean step varies with the others (each adds a = dt/dB), with the chunks that it meets (prompts of c chunks cost
c·k, k = φ/Σ x·E[c], in the busy periods of a class that goes first), and with both together, since whoever brings a
prompt decodes after it. Over o tokens its variance is

    (B·E[a²] + a·φ·t/(1 − φ) + g²·Σ x·E[c²]·k²/(1 − φ)²·(o·t + TTFT)/o²)/(1 − ε),

where longer steps make larger batches, and those longer steps: ε = a·B/t is that loop's gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, ndtr

from codesign.candidates.data import Floats
from codesign.candidates.flows import CallFlow
from codesign.performance import ConfigurationTable, decode_attention_seconds, prefill_attention_seconds
from codesign.performance.chunks import (
    CHUNK_SPREAD,
    WAIT_SPREAD,
    on_knots,
    pieces,
    prompt_seconds,
    step_seconds,
)
from codesign.performance.queueing import mean_wait

_ITERATIONS = 400
_MOST = 0.999
"""Share of all time that prompts take where they take it all: such a pool is overloaded."""
_LARGEST_GAIN = 0.95
_LARGEST_BATCH = 1e9
"""Beyond it a batch grows without end."""


@dataclass(frozen=True, eq=False)
class _Stream:
    """The calls of one flow on one replica."""

    rate: float
    """Calls per second."""
    weight: Floats
    """[J] of prompts."""
    chunks: Floats
    """[J] of a prompt, not whole ones alone."""
    rest: Floats
    """[J, Q] what its full chunks leave, on the knots of one."""
    parts: Floats
    """[2, Q] its pieces on average, alone and shared."""
    attention: Floats
    """[J] seconds of a prompt's attention."""
    answer_weight: Floats
    """[P] of answers."""
    output: Floats
    """[P] tokens of answers."""
    reads: Floats
    """[P] r of each."""

    @staticmethod
    def of(table: ConfigurationTable, flow: CallFlow, rate: float, chunk: float) -> _Stream:
        """Calls of a flow at a rate per replica."""
        prompts, answers = flow.calls.prefill_points(flow.residency), flow.calls.population
        chunks = prompts.new / chunk
        return _Stream(
            rate,
            prompts.weight,
            chunks,
            on_knots(chunks % 1.0),
            pieces(prompts.new, prompts.weight, chunk),
            prefill_attention_seconds(table, prompts.new, prompts.cached)[0],
            answers.weight,
            answers.output,
            decode_attention_seconds(table, answers.context + answers.output / 2.0)[0],
        )


@dataclass(frozen=True, eq=False)
class Chunked:
    """Prompts and answers that share the steps of a colocated replica, at their fixed point."""

    chunk: float
    steps: Floats
    """[Q] steps that a call sees with each of KNOTS of a chunk in them, without attention."""
    batch: float
    """B: sequences that decode, on average."""
    step_s: float
    """t: mean step of a call."""
    full_step_s: float
    """Step with a full chunk."""
    share: float
    """φ: share of all time that prompts add to steps."""
    utilization: float
    """Chunks per second times the full step."""
    wait_s: float
    """Mean wait of a prompt in the queue for full steps."""
    served_s: Floats
    """[I] seconds of all prompts in steps of their own."""
    served: Floats
    """[I] share of all time, over these seconds, that such prompts are computed: calls per second, at most 1 in all."""
    quiet_s: float
    """Step without prompts."""
    together_s: float
    """What steps hold beside a prompt's rest: their mean, and what came while it waited for the step that ran."""
    lone_step_s: float
    """Step of a call that is alone: none is shorter."""
    batch_variance: float
    """Of a call's mean step by the other sequences, and by those whose prompts it meets, seconds²."""
    chunk_variance: float
    """Of the sum of a call's steps by the chunks in them, seconds² for each second in which prompts come."""
    full_sd_s: float
    """Standard deviation of the full step by the batch."""

    def answers(self, table: ConfigurationTable, flow: CallFlow) -> Answers:
        """How a flow's calls decode."""
        return self.answers_of(_Stream.of(table, flow, 0.0, self.chunk))

    def answers_of(self, stream: _Stream) -> Answers:
        """The same of a flow whose figures are known: its prompt's mean wait, and its steps, make its TTFT."""
        own = _own_steps(self.steps, stream, self.step_s, self.full_step_s)
        return Answers(self, self.wait_moments()[0] + float(stream.weight @ own), stream.answer_weight, stream.output)

    def own_seconds(self, table: ConfigurationTable, flow: CallFlow) -> tuple[Floats, Floats]:
        """(weight [J], seconds [J]) of prompts in steps of their own."""
        stream = _Stream.of(table, flow, 0.0, self.chunk)
        return stream.weight, _own_steps(self.steps, stream, self.together_s, self.full_step_s)

    def ttft_tail(
        self, table: ConfigurationTable, flow: CallFlow, reload: Floats | float
    ) -> Callable[[float], float]:
        """P(TTFT > t) of a flow whose prompts [J] are read back in `reload` seconds before they queue.

        What comes while a prompt waits shares its last step, as far as there is room: each second adds φ.
        """
        stream = _Stream.of(table, flow, 0.0, self.chunk)
        alone = _own_steps(self.steps, stream, self.step_s, self.full_step_s)
        room = np.ceil(stream.chunks) * self.full_step_s - alone
        before = alone + reload

        def tail(t: float) -> float:
            stretched = self._waits_longer(t - before, 1.0 + self.share)
            return float(stream.weight @ np.minimum(stretched, self._waits_longer(t - before - room, 1.0)))

        return tail

    def _waits_longer(self, seconds: Floats, stretch: float) -> Floats:
        """[J] P(a prompt waits longer than these seconds [J]), 1 where they are negative.

        What is left of a running prompt of S seconds is uniform on (0, S), and counts `stretch` times; the wait beyond
        it is exponential.
        """
        if self.utilization >= 1.0:
            return np.ones_like(seconds)
        v = np.maximum(seconds, 0.0)[:, None]
        longest = WAIT_SPREAD * stretch * self.served_s
        # ∫ over what is left, up to v or S, of P(the wait beyond it is longer than the rest of v).
        rate = self.utilization / (WAIT_SPREAD * self.wait_s)
        beyond = np.exp(-rate * np.maximum(v - longest, 0.0)) - np.exp(-rate * v)
        late = np.maximum(longest - v, 0.0) + WAIT_SPREAD * self.wait_s * beyond
        idle = 1.0 - float(self.served @ self.served_s)
        step = np.maximum(1.0 - v[:, 0] / (stretch * self.quiet_s), 0.0)
        found = late @ self.served / (WAIT_SPREAD * stretch) + idle * step
        return np.where(seconds < 0, 1.0, found)

    def wait_moments(self) -> tuple[float, float]:
        """Mean and variance (s, s²) of that wait; (inf, 0) where prompts are more than full steps hold."""
        if self.utilization >= 1.0:
            return np.inf, 0.0
        beyond, idle = WAIT_SPREAD * self.wait_s, 1.0 - float(self.served @ self.served_s)
        left = WAIT_SPREAD * float(self.served @ self.served_s**2) / 2.0
        square = WAIT_SPREAD**2 * float(self.served @ self.served_s**3) / 3.0
        mean = left + (1.0 - idle) * beyond + idle * self.quiet_s / 2.0
        square += 2.0 * left * beyond + (1.0 - idle) * 2.0 * beyond**2 / max(self.utilization, 1e-12)
        return mean, square + idle * self.quiet_s**2 / 3.0 - mean**2


@dataclass(frozen=True, eq=False)
class Answers:
    """How the calls of one flow decode in a colocated pool."""

    pool: Chunked
    first_s: float
    """Their mean TTFT, reloads left out: what comes in it is ahead of them when they begin to decode."""
    weight: Floats
    """[P] of answers."""
    output: Floats
    """[P] their tokens."""

    @property
    def mean_s(self) -> float:
        """Mean seconds from the first to the last token."""
        return float(self.weight @ self.seconds(self.output))

    @property
    def variance(self) -> float:
        """Variance of these seconds, seconds²."""
        lengths = float(self.weight @ (self.seconds(self.output) - self.mean_s) ** 2)
        varied = self.output**2 * self.pool.batch_variance + self._by_chunks(self.output)
        return lengths + float(self.weight @ varied)

    def seconds(self, output: Floats) -> Floats:
        """[P] mean seconds of answers of these tokens, held up by the prompts ahead of them, in full steps at most."""
        pool = self.pool
        backlog = pool.share * self.first_s / (1.0 - pool.share)
        most = max(pool.full_step_s - pool.step_s, 0.0) * np.maximum(output - 1.0, 0.0)
        return np.asarray(output * pool.step_s + np.minimum(backlog, most))

    def tpot_tail(self, weight: Floats, output: Floats) -> Callable[[float], float]:
        """P(mean step of a call > t) over answers [P] of these tokens: gamma above the step of a call that is alone.

        It has their mean and variance at each length; no call's steps are longer than full ones.
        """
        pool, tokens = self.pool, np.maximum(output, 1.0)
        excess = np.maximum(self.seconds(tokens) / tokens - pool.lone_step_s, 1e-12)
        variance = np.maximum(pool.batch_variance + self._by_chunks(tokens) / tokens**2, 1e-24)
        shape, scale = excess**2 / variance, variance / excess

        def tail(t: float) -> float:
            late = gammaincc(shape, max(t - pool.lone_step_s, 0.0) / scale)
            full = ndtr((pool.full_step_s - t) / max(pool.full_sd_s, 1e-12))
            return float(weight @ np.minimum(late, full))

        return tail

    def _by_chunks(self, output: Floats) -> Floats:
        """[P] variance of seconds by the prompts that a call meets: all that come from its own arrival on."""
        return self.pool.chunk_variance * (self.first_s + output * self.pool.step_s)


def _own_steps(steps: Floats, stream: _Stream, mean: float, full: float) -> Floats:
    """Seconds [J] of prompts in full steps, and in a last one where something is left: beside what a mean one holds."""
    left = stream.chunks % 1.0
    rest = stream.rest @ (steps - steps[0]) + stream.attention * left / stream.chunks
    return np.floor(stream.chunks) * full + np.where(left > 0, np.minimum(mean + rest, full), 0.0)


def operate_colocated(
    table: ConfigurationTable, flows: tuple[tuple[CallFlow, float], ...], replicas: int, chunk: float
) -> Chunked:
    """The fixed point of a pool under its flows (calls/s of the whole pool)."""
    load = _Load(table, [_Stream.of(table, flow, rate / replicas, chunk) for flow, rate in flows], chunk)
    state = load.at(0.0)
    for _ in range(_ITERATIONS):
        batch = load.batch(state)
        if abs(batch - state.batch) <= 1e-12 * batch or batch > _LARGEST_BATCH:
            break
        state = load.at(batch)
    return state


class _Load:
    """What calls ask of a replica, and the steps that follow from a batch."""

    def __init__(self, table: ConfigurationTable, streams: list[_Stream], chunk: float) -> None:
        self.table, self.streams, self.chunk = table, streams, chunk
        self.tokens = sum(s.rate * float(s.answer_weight @ s.output) for s in streams)
        reads = sum(s.rate * float(s.answer_weight @ (s.output * s.reads)) for s in streams)
        self.reads_s = reads / max(self.tokens, 1e-12)
        """Mean r of the sequences in the batch."""
        self.prompt_attention = sum(s.rate * float(s.weight @ s.attention) for s in streams)
        self.chunks = sum(s.rate * float(s.weight @ s.chunks) for s in streams)
        self.chunk_squares = sum(s.rate * float(s.weight @ s.chunks**2) for s in streams)
        self.lone_step_s = float(step_seconds(table, np.ones(1), chunk)[0, 0, 0]) + self.reads_s

    def batch(self, state: Chunked) -> float:
        """Sequences that a state's steps keep in the batch (Little's law)."""
        return sum(s.rate * state.answers_of(s).mean_s for s in self.streams)

    def at(self, batch: float) -> Chunked:
        """All that follows from a batch of so many others."""
        seen, more = step_seconds(self.table, np.array([batch + 1.0, batch + 2.0]), self.chunk)[0]
        decode = float(seen[0]) + self.reads_s * (batch + 1.0)
        share = self._share(seen)
        step = decode / (1.0 - share)
        full = decode + float(seen[-1] - seen[0]) + self.prompt_attention / self.chunks
        busy = self.chunks * full
        wait = float(mean_wait(busy, self.chunk_squares * full**2, 1))
        seconds = np.concatenate([_own_steps(seen, s, step, full) for s in self.streams])
        rates = np.concatenate([s.rate * s.weight for s in self.streams])
        served = rates / max(float(rates @ seconds), 1.0)
        left = float(served @ seconds**2 + max(1.0 - float(served @ seconds), 0.0) * decode) / 2.0
        # What one more sequence does to a call's mean step, prompts in it included, and how much of that comes back.
        rise = float(more[0] - seen[0]) + step * (self._share(more) - share)
        free = 1.0 - share
        gain = min(max(batch * (rise + self.reads_s) / free / step, 0.0), _LARGEST_GAIN)
        both = (rise + self.reads_s) / free * share * step / free
        cost = share / self.chunks
        return Chunked(
            chunk=self.chunk,
            steps=seen,
            batch=batch,
            step_s=step,
            full_step_s=full,
            share=share,
            utilization=busy,
            wait_s=wait,
            served_s=seconds,
            served=served,
            quiet_s=decode,
            together_s=step + share * left,
            lone_step_s=self.lone_step_s,
            batch_variance=(self._spread(batch, rise) / free**2 + both) / (1.0 - gain),
            chunk_variance=CHUNK_SPREAD**2 * self.chunk_squares * cost**2 / free**2 / (1.0 - gain),
            full_sd_s=float(np.sqrt(self._spread(batch, float(more[-1] - seen[-1])) / (1.0 - gain))),
        )

    def _share(self, steps: Floats) -> float:
        """φ at steps [Q]."""
        costs = sum(s.rate * float(prompt_seconds(steps, s.parts)) for s in self.streams)
        return min(costs + self.prompt_attention, _MOST)

    def _spread(self, batch: float, rise: float) -> float:
        """Variance of a step by a Poisson batch, each sequence of which adds `rise` and its own reads."""
        own = sum(s.rate * float((s.answer_weight * s.output) @ (rise + s.reads) ** 2) for s in self.streams)
        return batch / max(self.tokens, 1e-12) * own
