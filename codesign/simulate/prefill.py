"""A pool of prefill replicas: prompts in the order in which they are ready, one at a time on each lane.

A replica has a lane for each of its attention groups and pipeline stages, since so many prompts are under way in it at
once.  Service times are known when a prompt is ready, so the lane that is free first is the one that a common queue
would give it, and its whole stay is one event.  Sessions whose KV stays here go back to their replica.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from simpy import Environment, Event

from codesign.simulate.link import Link
from codesign.simulate.memory import KvMemory

_sessions = attrgetter("sessions")


@dataclass(slots=True)
class Prompt:
    """A prompt to compute."""

    call: int
    seconds: float
    """Alone on a lane."""
    held: float
    """Bytes of its session that are on the replica already."""
    bytes: float
    """Bytes of its KV there."""
    home: PrefillReplica | None
    """Where it has to go; None where any replica will do."""
    place: PrefillReplica | None = None
    """Where it went."""
    start: float = 0.0
    cancelled: bool = False


class PrefillReplica:
    """One replica of a prefill pool."""

    __slots__ = ("alive", "busy_s", "flop", "lanes", "link", "memory", "running", "sessions")

    def __init__(self, lanes: int, memory: KvMemory, link: Link) -> None:
        self.lanes = [0.0] * lanes
        """When each lane is free; a heap."""
        self.memory, self.link = memory, link
        self.sessions = 0
        """Sessions whose home this is."""
        self.alive = True
        self.busy_s = self.flop = 0.0
        """Of all lanes."""
        self.running: dict[int, Prompt] = {}


class PrefillPool:
    """Replicas that share one queue, but for sessions that are at home on one of them."""

    def __init__(self, env: Environment, replicas: list[PrefillReplica], done: Callable[[Prompt, float], None]) -> None:
        self.env, self.replicas, self._done = env, replicas, done
        self.lost: list[PrefillReplica] = []
        """Replicas that died: their work counts, nothing goes to them."""
        self._blocked: deque[Prompt] = deque()
        """In line for memory."""

    @property
    def blocked(self) -> int:
        """Prompts that wait for memory."""
        return len(self._blocked)

    def submit(self, prompt: Prompt) -> None:
        """Put a prompt on the lane that will take it first, or in line for memory."""
        if self._blocked or not self._place(prompt):
            self._blocked.append(prompt)

    def retry(self) -> None:
        """Memory may have become free."""
        blocked = self._blocked
        while blocked and self._place(blocked[0]):
            blocked.popleft()

    def lose(self, replica: PrefillReplica) -> list[Prompt]:
        """A replica dies; the prompts that were on it or going to it."""
        replica.alive = False
        self.replicas.remove(replica)
        self.lost.append(replica)
        lost = list(replica.running.values())
        for prompt in lost:
            prompt.cancelled = True
        lost += [prompt for prompt in self._blocked if prompt.home is replica]
        self._blocked = deque(prompt for prompt in self._blocked if prompt.home is not replica)
        replica.running.clear()
        replica.memory.clear(self.env.now)
        return lost

    def emptiest(self) -> PrefillReplica:
        """Where a new session goes: the replica that is home to the fewest."""
        return min(self.replicas, key=_sessions)

    def _place(self, prompt: Prompt) -> bool:
        now = self.env.now
        replica = prompt.home
        if replica is None:
            best = float("inf")
            for candidate in self.replicas:
                if candidate.lanes[0] < best:
                    best, replica = candidate.lanes[0], candidate
            assert replica is not None
        extra = prompt.bytes - prompt.held
        if not replica.memory.take(extra, now):
            if replica.running or replica.memory.used > prompt.bytes:
                return False
            replica.memory.give(-extra, now)  # alone, and still larger than the memory
        start = max(now, replica.lanes[0])
        end = start + prompt.seconds
        heapq.heapreplace(replica.lanes, end)
        prompt.place, prompt.start = replica, start
        prompt.held = prompt.bytes
        replica.running[prompt.call] = prompt
        event = self.env.timeout(end - now, prompt)
        event.callbacks.append(self._finish)
        return True

    def _finish(self, event: Event) -> None:
        prompt = event.value
        assert isinstance(prompt, Prompt)
        if prompt.cancelled:
            return
        assert prompt.place is not None
        del prompt.place.running[prompt.call]
        prompt.place.busy_s += prompt.seconds
        self._done(prompt, self.env.now)
