"""KV memory of one replica: bytes of running calls, and sessions that are parked between their calls.

Parked sessions are a cache: each expires after its time-to-live, and the one parked longest gives way first when
running calls need room.  Running calls never give way here; who has to wait or is preempted, the engine decides.
"""

from __future__ import annotations

from collections import OrderedDict


class KvMemory:
    """Bytes in use of `room`, with what is parked in order of parking, one queue for each time-to-live."""

    __slots__ = ("_area", "_last", "_parked", "evicted", "room", "used")

    def __init__(self, room: float) -> None:
        self.room = room
        self.used = 0.0
        """Bytes of running calls and parked sessions; may exceed the room only for a call that is alone."""
        self.evicted = 0
        """Parked sessions that gave way before they expired."""
        self._parked: dict[float, OrderedDict[int, tuple[float, float]]] = {}
        self._area = 0.0
        self._last = 0.0

    def take(self, size: float, now: float) -> bool:
        """Take bytes for a running call, parked sessions giving way; False (and nothing taken) where they lack."""
        self._expire(now)
        if size > self.room - self.used and not self.make_room(size):
            return False
        self.used += size
        return True

    def make_room(self, size: float) -> bool:
        """Evict what is parked until `size` bytes are free; says whether they are."""
        while size > self.room - self.used:
            oldest = None
            for queue in self._parked.values():
                if queue:
                    held = next(iter(queue.values()))
                    if oldest is None or held[1] < oldest[0]:
                        oldest = held[1], queue
            if oldest is None:
                return False
            _, (freed, _) = oldest[1].popitem(last=False)
            self.used -= freed
            self.evicted += 1
        return True

    def give(self, size: float, now: float) -> None:
        """Bytes of a running call are free again."""
        self._expire(now)
        self.used -= size

    def park(self, session: int, size: float, ttl_s: float, now: float) -> None:
        """A call's bytes stay with its session; they were taken before."""
        self._parked.setdefault(ttl_s, OrderedDict())[session] = (size, now)

    def resume(self, session: int, ttl_s: float, now: float) -> float | None:
        """Bytes of a parked session, which are a running call's from now on; None where it is gone."""
        self._expire(now)
        queue = self._parked.get(ttl_s)
        found = queue.pop(session, None) if queue else None
        return None if found is None else found[0]

    def clear(self, now: float) -> None:
        """All is lost."""
        self._expire(now)
        self._parked.clear()
        self.used = 0.0

    def area(self, now: float) -> float:
        """Byte·seconds in use so far."""
        self._expire(now)
        return self._area

    def _expire(self, now: float) -> None:
        """Sessions whose time is over leave, each at its own time as far as the byte·seconds go."""
        self._area += self.used * (now - self._last)
        self._last = now
        for ttl, queue in self._parked.items():
            while queue:
                session, (size, since) = next(iter(queue.items()))
                if since + ttl >= now:
                    break
                del queue[session]
                self.used -= size
                self._area -= size * (now - since - ttl)
