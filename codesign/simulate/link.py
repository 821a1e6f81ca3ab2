"""Links between replicas: each direction of a replica's links serves transfers in the order in which they come.

A transfer holds each end for bytes over its full rate, one after the other and without blocking others that wait for
another receiver, and takes bytes over the rate that its route counts on: a link carries several streams at once until
their sum is its rate.
"""

from __future__ import annotations


class Link:
    """The scale-out links of one replica, both directions."""

    __slots__ = ("free_in", "free_out", "moved_in", "moved_out", "rate", "waited_s")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        """Bytes per second, each way."""
        self.free_in = self.free_out = 0.0
        """When a direction has sent all that it was given."""
        self.moved_in = self.moved_out = 0.0
        self.waited_s = 0.0
        """Seconds for which transfers waited for these links."""


def transfer(sender: Link, receiver: Link, size: float, stream_rate: float, now: float) -> float:
    """When a transfer of `size` bytes that is asked for now has arrived; `stream_rate` is one stream's."""
    if size <= 0:
        return now
    leaves = max(now, sender.free_out)
    sender.free_out = leaves + size / sender.rate
    lands = max(leaves, receiver.free_in)
    receiver.free_in = lands + size / receiver.rate
    sender.waited_s += leaves - now
    receiver.waited_s += lands - leaves
    sender.moved_out += size
    receiver.moved_in += size
    return lands + size / min(stream_rate, sender.rate, receiver.rate)
