"""Do replicas fit into the servers that were bought?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def servers_needed(replicas: Mapping[int, int], server: int) -> int:
    """Servers of `server` accelerators that hold `replicas` {accelerators of one: how many}.

    A replica larger than a server takes whole servers; the others are packed by falling size, each into an
    open server that has room for it. That is exact when each size divides the next larger one (Coffman,
    Garey, Johnson 1987), which powers of two do in servers of any size; slots that no replica fits into stay
    empty.
    """
    whole = 0
    free: Counter[int] = Counter()
    """Open servers by the accelerators that they have left."""
    for size, count in sorted(replicas.items(), reverse=True):
        if size > server:
            whole += count * -(-size // server)
            continue
        left = count
        for room in sorted((r for r in free if r >= size), reverse=True):
            left = _fill(free, room, free[room], size, left)
        if left:
            opened = -(-left // (server // size))
            free[server] += opened
            _fill(free, server, opened, size, left)
    return whole + free.total()


def _fill(free: Counter[int], room: int, servers: int, size: int, left: int) -> int:
    """Put replicas into up to `servers` servers with `room` free; returns how many remain."""
    each = room // size
    full, rest = divmod(min(left, servers * each), each)
    for used, number in ((each, full), (rest, 1 if rest else 0)):
        free[room] -= number
        free[room - used * size] += number
    return max(left - servers * each, 0)
