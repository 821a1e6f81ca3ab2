"""An engine that decodes with continuous batching, step by step, prompts chunk by chunk between where it is colocated.

Nothing happens between two changes of the batch, so one event covers a run of steps.  With B sequences, and P prompt
tokens in each step, a step takes base(B, P) + Σ r, where r is what a sequence's own context adds and grows with each of
its tokens: j steps take a·j + s·j·(j−1)/2.  A replica in two halves takes the slowest of such lines, and a run ends
where another becomes the slowest.  Who comes in the middle of a step joins at its end.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpy import Environment, Event

from codesign.simulate.gaps import Gaps
from codesign.simulate.link import Link
from codesign.simulate.memory import KvMemory

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepTable:
    """Seconds and weight bytes of a step by its batch, evaluated once from the performance model."""

    prompt_tokens: Array
    """[P] ascending knots, from 0."""
    seconds: Array
    """[C, P, B + 1] by line, prompt tokens and sequences, without what the contexts add; the slowest line counts."""
    weight_bytes: Array
    """[P, B + 1]."""
    attention: tuple[float, ...] = (1.0,)
    """[C] share of what the contexts add that each line carries."""
    extra_j: Array | None = None
    """[B + 1] joules of a step that its bytes and FLOP do not explain (a second half of other hardware)."""

    def at(self, prompt_tokens: float) -> tuple[Array, Array]:
        """(seconds [C, B + 1], bytes [B + 1]) at a number of prompt tokens, linear between knots."""
        knots = self.prompt_tokens
        after = min(max(int(np.searchsorted(knots, prompt_tokens)), 1), len(knots) - 1) if len(knots) > 1 else 0
        if not after:
            return self.seconds[:, 0], self.weight_bytes[0]
        share = (prompt_tokens - knots[after - 1]) / (knots[after] - knots[after - 1])
        return (
            (1 - share) * self.seconds[:, after - 1] + share * self.seconds[:, after],
            (1 - share) * self.weight_bytes[after - 1] + share * self.weight_bytes[after],
        )


@dataclass(slots=True)
class Work:
    """One call as an engine sees it.  Pairs are (at its first token, more with each token)."""

    call: int
    steps: int
    """Decode steps that are left."""
    held: float
    """Bytes of its session that are on the replica already."""
    prompt_bytes: float
    """Bytes of its prompt's KV."""
    growth: float
    """Bytes that each token adds."""
    attention_s: float
    attention_more: float
    read: float
    read_more: float
    flop: float
    flop_more: float
    new_tokens: float = 0.0
    """Prompt tokens that a colocated engine has to compute."""
    prompt_s: float = 0.0
    """Attention seconds of each of them."""
    prompt_flop: float = 0.0
    """FLOP of each of them."""
    finish: int = 0
    """The step after which it is done."""
    resumed: bool = False
    """It has had its first token before."""
    route: int = 0
    """Number of its route."""


class Engine:
    """One decode or colocated replica."""

    def __init__(
        self,
        env: Environment,
        table: StepTable,
        memory: KvMemory,
        link: Link,
        max_sequences: int,
        chunk: float,
        news: EngineNews,
        gaps: Gaps | None,
    ) -> None:
        self.env, self.table, self.memory, self.link, self.chunk, self.news = env, table, memory, link, chunk, news
        self.max_sequences, self.gaps = max_sequences, gaps
        self.sessions = 0
        """Sessions whose home this is."""
        self.alive = True
        self.calls = 0
        """Calls that were sent to it, on their way included, or the link would fill behind the one that looks idle."""
        self.batch = 0
        self.waiting: deque[Work] = deque()
        """In line for memory or a slot."""
        self.prefilling: deque[Work] = deque()
        self.busy_s = self.batch_s = self.bytes = self.flop = self.extra_j = 0.0
        self.tokens = self.steps = self.preempted = 0
        self._active: dict[int, Work] = {}
        self._routes: dict[int, int] = {}
        """Sequences by route, where gaps are told."""
        self._finishing: list[tuple[int, int]] = []
        self._sums = [0.0] * 7  # seconds, read, flop and their growth per step; bytes of growth per step
        self._base, self._weights = (rows.tolist() for rows in table.at(0.0))
        self._full = tuple(rows.tolist() for rows in table.at(chunk)) if chunk else (self._base, self._weights)
        self._extra = None if table.extra_j is None else table.extra_j.tolist()
        self._event: Event | None = None
        self._began = 0.0
        self._run = 0
        self._first = self._slope = self._run_weights = self._run_flop = self._run_tokens = 0.0

    def submit(self, work: Work) -> None:
        """Take a call: it starts, or waits for the end of the step, for memory, or for a slot."""
        self.waiting.append(work)
        self.poke()

    def poke(self) -> None:
        """Look at those who wait at the end of the step that runs now."""
        if self._event is None:
            self._form()
            return
        if self._run <= 1:
            return
        through = self._steps_by(self.env.now)
        if through < self._run:
            self._schedule(through)

    def lose(self) -> list[Work]:
        """The replica dies; what it was working on."""
        self._catch_up()
        lost = [*self._active.values(), *self.prefilling, *self.waiting]
        for work in self._active.values():
            self._remove(work)
        self._active.clear()
        self._finishing.clear()
        self.prefilling.clear()
        self.waiting.clear()
        self.batch, self._event, self.alive = 0, None, False
        self.memory.clear(self.env.now)
        return lost

    # ---- a run of steps

    def _duration(self, steps: int) -> float:
        return self._first * steps + self._slope * steps * (steps - 1) / 2

    def _steps_by(self, now: float) -> int:
        """Steps of this run until the first one that ends now or later, at least one."""
        passed, half = now - self._began, self._slope / 2
        lead = self._first - half
        if half > 1e-9 * self._first:
            steps = (math.sqrt(lead * lead + 4 * half * passed) - lead) / (2 * half)
        else:
            steps = passed / self._first
        return max(1, math.ceil(steps - 1e-9))

    def _schedule(self, steps: int) -> None:
        self._run = steps
        env = self.env
        event = env.timeout(max(0.0, self._began + self._duration(steps) - env.now))
        event.callbacks.append(self._boundary)
        self._event = event

    def _catch_up(self) -> None:
        """Account for the steps of this run that have ended, where it is cut short for good."""
        if self._event is not None:
            self._advance(max(0, self._steps_by(self.env.now) - 1))

    def _advance(self, steps: int) -> None:
        sums, batch = self._sums, self.batch
        seconds = self._duration(steps)
        pairs = steps * (steps - 1) / 2
        self.busy_s += seconds
        self.batch_s += batch * seconds
        self.steps += steps
        self.tokens += batch * steps
        self.bytes += steps * self._run_weights + sums[1] * steps + sums[4] * pairs
        self.flop += sums[2] * steps + sums[5] * pairs + self._run_flop * steps
        if self._extra is not None:
            self.extra_j += self._extra[batch] * steps
        if self.gaps is not None:
            self.gaps.add(self._first, self._slope, steps, self._routes)
        sums[0] += sums[3] * steps
        sums[1] += sums[4] * steps
        sums[2] += sums[5] * steps
        if sums[6]:
            self.memory.give(-sums[6] * steps, self.env.now)

    def _boundary(self, event: Event) -> None:
        if event is not self._event:
            return
        self._advance(self._run)
        finishing, active, now = self._finishing, self._active, self.env.now
        while finishing and finishing[0][0] <= self.steps:
            finish, call = heapq.heappop(finishing)
            work = active.get(call)
            if work is not None and work.finish == finish:
                del active[call]
                self._remove(work)
                self.calls -= 1
                self.news.finished(work, self, now)
        if self.prefilling and self._run_tokens:
            self._prompts_done(now)
        self._form()

    def _prompts_done(self, now: float) -> None:
        """Prompts that are through emit their first token and decode from the next step on."""
        budget = self._run_tokens * self._run
        while budget > 1e-9 and self.prefilling:
            work = self.prefilling[0]
            done = min(work.new_tokens, budget)
            work.new_tokens -= done
            budget -= done
            if work.new_tokens > 1e-9:
                return
            self.prefilling.popleft()
            if not work.resumed:
                self.news.first_token(work, self, now)
                work.steps -= 1
            if work.steps > 0:
                self._add(work)
            else:
                self.calls -= 1
                self.news.finished(work, self, now)

    def _form(self) -> None:
        """Admit who can be admitted and run to the next change of the batch."""
        now, joined = self.env.now, self._admit()
        while True:
            prompt, most, flop, extra = self._prompt()
            if not self.batch and not prompt:
                self._event = None
                if self.waiting and self.alive:
                    # Nothing runs and still the first in line does not fit: let it run alone.
                    work = self.waiting.popleft()
                    self.memory.give(work.held - work.prompt_bytes, now)
                    self._start(work)
                    joined.append(work)
                    continue
                return
            steps = min(most, self._finishing[0][0] - self.steps) if self._finishing else most
            if self.batch and not self._grow(steps):
                growth = self._sums[6]
                steps = int((self.memory.room - self.memory.used) / growth) if growth > 0 else steps
                if steps < 1:
                    if self.batch > 1:
                        self._preempt(now)
                        continue
                    steps = 1
            break
        if not prompt:
            base, weights = self._base, self._weights
        elif prompt == self.chunk:
            base, weights = self._full
        else:
            base, weights = self.table.at(prompt)
        self._began = now
        steps = self._pace(base, extra, steps)
        self._run_weights, self._run_flop, self._run_tokens = float(weights[self.batch]), flop, prompt
        for work in joined:
            if not work.resumed and work.call in self._active:
                self.news.first_token(work, self, now + self._first)
        self._schedule(max(steps, 1))

    def _pace(self, base: list[list[float]] | Array, extra: float, steps: int) -> int:
        """Set the time of the first step and what each one adds; for how many of `steps` that holds."""
        batch, seconds, more = self.batch, self._sums[0], self._sums[3]
        if len(base) == 1:
            self._first, self._slope = float(base[0][batch]) + seconds + extra, more
            return steps
        lines = [
            (float(line[batch]) + share * seconds + extra, share * more)
            for line, share in zip(base, self.table.attention, strict=True)
        ]
        self._first, self._slope = first, slope = max(lines)
        for begin, growth in lines:
            if growth > slope:
                steps = min(steps, max(1, math.ceil((first - begin) / (growth - slope))))
        return steps

    def _prompt(self) -> tuple[float, int, float, float]:
        """Prompt tokens of each step now, for how many steps at most, their FLOP and attention seconds a step."""
        if not self.prefilling:
            return 0.0, 1 << 40, 0.0, 0.0
        head = self.prefilling[0]
        whole = int(head.new_tokens / self.chunk)
        if whole:
            return self.chunk, whole, head.prompt_flop * self.chunk, head.prompt_s * self.chunk
        left, flop, seconds = self.chunk, 0.0, 0.0
        for work in self.prefilling:
            part = min(work.new_tokens, left)
            left -= part
            flop += part * work.prompt_flop
            seconds += part * work.prompt_s
            if left <= 0:
                break
        return self.chunk - left, 1, flop, seconds

    def _grow(self, steps: int) -> bool:
        """Is there memory for the tokens of so many steps, once what is parked gives way?"""
        need = self._sums[6] * steps
        memory = self.memory
        return need <= memory.room - memory.used or memory.make_room(need)

    # ---- who is in the batch

    def _admit(self) -> list[Work]:
        joined = []
        waiting, memory, now = self.waiting, self.memory, self.env.now
        while waiting and self.batch + len(self.prefilling) < self.max_sequences:
            work = waiting[0]
            if not memory.take(work.prompt_bytes - work.held, now):
                break
            self._start(waiting.popleft())
            joined.append(work)
        return joined

    def _start(self, work: Work) -> None:
        work.held = work.prompt_bytes
        if self.chunk:
            self.prefilling.append(work)
        else:
            self._add(work)

    def _add(self, work: Work) -> None:
        work.finish = self.steps + work.steps
        self._active[work.call] = work
        heapq.heappush(self._finishing, (work.finish, work.call))
        sums = self._sums
        sums[0] += work.attention_s
        sums[1] += work.read
        sums[2] += work.flop
        sums[3] += work.attention_more
        sums[4] += work.read_more
        sums[5] += work.flop_more
        sums[6] += work.growth
        self.batch += 1
        if self.gaps is not None:
            self._routes[work.route] = self._routes.get(work.route, 0) + 1

    def _remove(self, work: Work) -> None:
        """Out of the batch, at the length that it has now."""
        done = work.steps - (work.finish - self.steps)
        work.steps -= done
        work.held += done * work.growth
        work.attention_s += done * work.attention_more
        work.read += done * work.read_more
        work.flop += done * work.flop_more
        sums = self._sums
        sums[0] -= work.attention_s
        sums[1] -= work.read
        sums[2] -= work.flop
        sums[3] -= work.attention_more
        sums[4] -= work.read_more
        sums[5] -= work.flop_more
        sums[6] -= work.growth
        self.batch -= 1
        if self.gaps is not None:
            self._routes[work.route] -= 1
        if not self.batch:
            self._sums = [0.0] * 7

    def _preempt(self, now: float) -> None:
        """The youngest call gives its memory up and is computed again (vLLM's rule)."""
        call = next(reversed(self._active))
        work = self._active.pop(call)
        self._remove(work)
        self.memory.give(work.held, now)
        self.preempted += 1
        self.calls -= 1
        self.news.preempted(work, self, now)


class EngineNews:
    """What an engine tells; the fleet listens."""

    __slots__ = ("finished", "first_token", "preempted")

    def __init__(
        self,
        finished: Callable[[Work, Engine, float], Any],
        first_token: Callable[[Work, Engine, float], Any],
        preempted: Callable[[Work, Engine, float], Any],
    ) -> None:
        self.finished, self.first_token, self.preempted = finished, first_token, preempted
