"""A colocated pool in operation: the fixed point of its batch, and what its calls see there (DESIGN 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import Floats
from codesign.candidates.flows import CallFlow
from codesign.candidates.lengths import PrefillPoints, TaskCalls
from codesign.performance import ConfigurationTable
from codesign.performance.colocated import Colocated, Steps, Stream
from codesign.performance.drafts import accepted
from codesign.performance.queueing import share_met

_ITERATIONS = 400
_LARGEST_BATCH = 1e9
"""Beyond it a batch grows without end."""


@dataclass(frozen=True, eq=False)
class Chunked:
    """Prompts and answers that share the steps of a colocated replica."""

    chunk: float
    replica: Colocated
    """At one load: what a call meets."""
    met: float
    """Share of it of all that comes."""

    @property
    def batch(self) -> float:
        """Sequences that decode, on average."""
        return float(self.replica.batch[0, 0]) / self.met

    @property
    def step_s(self) -> float:
        """Mean step of a call."""
        return float(self.replica.step_s[0, 0])

    @property
    def step_sd_s(self) -> float:
        """Standard deviation of a call's mean step by the other sequences, and by those whose prompts it meets."""
        return float(np.sqrt(self.replica.batch_variance[0, 0]))

    @property
    def full_step_s(self) -> float:
        """Step with a full chunk."""
        return float(self.replica.full_step_s[0, 0])

    @property
    def utilization(self) -> float:
        """Chunks per second times the full step."""
        return float(self.replica.utilization[0, 0]) / self.met

    @property
    def wait_s(self) -> float:
        """Mean wait of a prompt in the queue for full steps."""
        return float(self.replica.wait_s[0, 0])

    def wait_moments(self) -> tuple[float, float]:
        """Mean and variance (s, s²) of a prompt's wait; (inf, 0) where prompts are more than full steps hold."""
        mean, variance = self.replica.wait_moments
        return float(mean[0, 0]), float(variance[0, 0])

    def own_seconds(self, table: ConfigurationTable, flow: CallFlow) -> tuple[Floats, Floats]:
        """(weight [J], seconds [J]) of prompts in steps of their own."""
        calls = _stream(table, flow, self.chunk).calls
        return calls.weight[0, 0], self.replica.own_steps(calls, self.replica.together_s)[0, 0]

    def decode_seconds(self, table: ConfigurationTable, flow: CallFlow) -> Floats:
        """[P] mean seconds of a flow's answers after their first token."""
        calls = _stream(table, flow, self.chunk).calls
        return np.asarray(self.replica.answer_seconds(self.replica.first_s(calls), calls.output)[0, 0])

    def answer_moments(self, table: ConfigurationTable, flow: CallFlow) -> tuple[float, float]:
        """Mean and variance (s, s²) of the time from the first to the last token."""
        mean, variance = self.replica.answer_moments(_stream(table, flow, self.chunk).calls)
        return float(mean[0, 0]), float(variance[0, 0])

    def ttft_tail(
        self, table: ConfigurationTable, flow: CallFlow, reload: Floats
    ) -> Callable[[float], float]:
        """P(TTFT > t) of a flow whose prompts [J] are read back in `reload` seconds before they queue."""
        calls = _of(table, flow.calls.first_points(flow.residency), flow.calls, self.chunk).calls
        ahead = reload if len(reload) == calls.weight.shape[-1] else np.zeros(1)
        return lambda t: float(self.replica.ttft_exceeds(calls, ahead, t)[0, 0])

    def tpot_tail(
        self, table: ConfigurationTable, flow: CallFlow, answers: tuple[Floats, Floats]
    ) -> Callable[[float], float]:
        """P(time per token of a call > t) over answers (weight, tokens; [P] each)."""
        first, emits = self.replica.first_s(_stream(table, flow, self.chunk).calls), accepted(table, flow.calls)
        weight, tokens = answers
        steps = tokens / emits.tokens
        return lambda t: float(self.replica.tpot_exceeds(first, weight, steps, emits.target("tpot", t))[0, 0])

    def itl_tail(self, table: ConfigurationTable, flow: CallFlow) -> Callable[[float], float]:
        """P(gap between two tokens of a flow's answers > t)."""
        calls = _stream(table, flow, self.chunk).calls
        return lambda t: float(self.replica.itl_exceeds(calls, t)[0, 0])


def operate_colocated(
    table: ConfigurationTable,
    flows: tuple[tuple[CallFlow, float], ...],
    replicas: int,
    chunk: float,
    reload: Sequence[Floats] | None = None,
    start: float = 0.0,
    tolerance: float = 1e-12,
) -> Chunked:
    """The fixed point of a pool under its flows (calls/s of the whole pool), within a relative `tolerance`.

    It is the smallest batch that keeps itself, from `start` on: one that fewer calls keep. Histories are read back in
    `reload` seconds. Calls that no replica keeps go to the emptiest; where any stay, all are taken to come by chance.
    """
    streams = [_stream(table, flow, chunk) for flow, _ in flows]
    rates = [np.full((1, 1), rate / replicas) for _, rate in flows]
    even = 1 if any(flow.residency == "colocated" for flow, _ in flows) else replicas
    ahead = [0.0] * len(flows) if reload is None else [
        float(s.weight[0] @ seconds) for s, seconds in zip(streams, reload, strict=True)
    ]

    def at(met: float, batch: float) -> Colocated:
        steps = Steps.at(table, np.full((1, 1), batch), chunk)
        return Colocated(steps, streams, [x * met for x in rates], replicas=even)

    met = float(share_met(start, even))
    batch = start * met
    replica = at(met, batch)
    for _ in range(_ITERATIONS):
        # Little's law.
        decoding = under_way = 0.0
        for x, s, before in zip(rates, streams, ahead, strict=True):
            answer = float(x[0, 0] * replica.answer_moments(s.calls)[0][0, 0])
            decoding += answer
            under_way += answer + float(x[0, 0] * (before + replica.first_s(s.calls)[0, 0]))
        share = float(share_met(under_way, even))
        following = share * decoding
        changed = abs(following - batch) + abs(share - met)
        if changed <= tolerance * following or following > _LARGEST_BATCH:
            break
        batch, met = following, share
        replica = at(met, batch)
    return Chunked(chunk, replica, met)


def _stream(table: ConfigurationTable, flow: CallFlow, chunk: float) -> Stream:
    return _of(table, flow.calls.prefill_points(flow.residency), flow.calls, chunk)


def _of(table: ConfigurationTable, prompts: PrefillPoints, calls: TaskCalls, chunk: float) -> Stream:
    answers = calls.population
    return Stream.of(
        table,
        chunk,
        (prompts.weight, prompts.new, prompts.cached),
        (answers.weight, answers.context, answers.output),
        accepted(table, calls),
    )
