"""A task's calls from a trace: its sessions in their order, its lengths and reuse, its gaps, at the rate of the plan.

The trace's session starts are stretched or squeezed to the plan's calls per second and go round when they are through;
what happens inside a session keeps its time.  A trace's gaps lie between arrivals, so a call's expected latency is
taken off them.  Nothing is open at the start: the warm-up is longer than with drawn sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.problem.sessions import Requests
from codesign.simulate.sessions import Calls, Ints, Parked, Workload

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replay:
    """The requests of a trace, session by session."""

    requests: Requests

    @cached_property
    def _order(self) -> Ints:
        """Requests by session, in order of arrival."""
        return np.lexsort((self.requests.time_s, self.requests.session))

    @cached_property
    def _begins(self) -> Ints:
        """[sessions] where each begins in that order."""
        return np.flatnonzero(np.diff(self.requests.session[self._order], prepend=-1))

    @cached_property
    def _lengths(self) -> Ints:
        return np.diff(np.append(self._begins, self._order.size))

    @cached_property
    def _starts(self) -> tuple[Array, Ints]:
        """(seconds, session) of the first call of each session, in order of time."""
        first = self.requests.time_s[self._order[self._begins]]
        order = np.argsort(first, kind="stable")
        return first[order] - first[order[0]], order

    @property
    def calls_mean(self) -> float:
        """Calls of a session."""
        return float(self._lengths.mean())

    def starts(self, calls_per_s: float, horizon_s: float, rng: np.random.Generator) -> tuple[Array, Ints]:
        """(seconds, session of the trace) of the sessions that start before the horizon, from a random place on."""
        times, sessions = self._starts
        per_s = calls_per_s / self.calls_mean
        # One round takes as long as so many sessions do at the rate; a trace of no length starts them evenly.
        period = times.size / per_s
        span = float(times[-1]) * times.size / max(times.size - 1, 1)
        at = times * (period / span) if span > 0 else np.arange(times.size) * (period / times.size)
        begin = rng.random() * period
        rounds = np.arange(int(np.ceil((begin + horizon_s) / period)) + 1)
        every = (at[None, :] + period * rounds[:, None]).ravel() - begin
        chosen = (every >= 0) & (every < horizon_s)
        return every[chosen], np.tile(sessions, rounds.size)[chosen]

    def workload(
        self, start_s: Array, session: Ints, call_s: float, limit: float, ttl_s: float, horizon_s: float
    ) -> Workload:
        """Calls of these sessions; prompts beyond the limit are cut to it."""
        count = self._lengths[session]
        chain = np.repeat(np.arange(session.size), count)
        step = np.arange(chain.size) - np.repeat(np.cumsum(count) - count, count)
        row = self._order[self._begins[session][chain] + step]
        found = self.requests
        time = found.time_s[row]
        last = np.append(chain[1:] != chain[:-1], True)
        gap = np.where(last, 0.0, np.maximum(np.append(np.diff(time), 0.0) - call_s, 0.0))
        before = np.concatenate([[0.0], gap[:-1]])
        total = np.cumsum(gap) - gap
        begins = np.cumsum(count) - count
        keep = start_s[chain] + total - total[begins][chain] < horizon_s
        context = np.minimum(found.input[row], limit)
        calls = Calls(
            session=chain[keep],
            position=((step + 0.5) / np.repeat(count, count))[keep],
            context=context[keep],
            reusable=np.minimum(found.cached[row], context)[keep],
            output=np.maximum(np.round(found.output[row]), 1.0)[keep],
            gap_s=gap[keep],
            after_gap=(step > 0)[keep],
            in_time=(before <= ttl_s)[keep],
        )
        nothing = np.empty(0)
        return Workload(calls, start_s, Parked(np.empty(0, dtype=np.int64), nothing, nothing, nothing))
