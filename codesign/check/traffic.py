"""Bytes that one call moves between the pools of its route, and the time that its prompt takes there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.check.calls import Array, Calls, Prompts
from codesign.check.plan import ModelledPool, ModelledRoute
from codesign.performance import kv_bytes, kv_transfer_bytes


@dataclass(frozen=True, eq=False)
class Moved:
    """[J] bytes per prompt, one copy of the cache."""

    reload: Array
    """Kept history that the prompt's side reads: from the decode side, or from a tier."""
    fetch: Array
    """Kept history that the decode side reads from a tier for itself."""
    send: Array
    """From the prompt's side to the decode side."""
    returned: Array
    """New KV that goes back to where the session stays when the call ends: the prefill side, or a tier."""
    from_decode: bool
    """Whether the decode side is where the history is read from."""
    to_prefill: bool
    """Whether what is returned goes to the prompt's side."""

    @property
    def into_prefill(self) -> Array:
        """What arrives at the prompt's side."""
        return self.reload + self.returned if self.to_prefill else self.reload

    @property
    def into_decode(self) -> Array:
        """What arrives at the decode side."""
        return self.send + self.fetch

    @property
    def out_of_decode(self) -> Array:
        """What leaves the decode side."""
        return self.returned + self.reload if self.from_decode else self.returned


def moved(route: ModelledRoute, prompts: Prompts) -> Moved:
    """What a call transfers under its KV policy; the shared prefix is on both sides already.

    A tier is read by each side of a disaggregated call, once by a colocated one.
    """
    table, calls = route.prefill.table, route.calls

    def size(tokens: Array) -> Array:
        return np.asarray(kv_transfer_bytes(table, tokens)[0])

    colocated = route.prefill is route.decode
    whole, there = size(prompts.context), size(prompts.cached)
    common = size(np.minimum(calls.shared, prompts.context))
    end = size(prompts.context + prompts.output)
    nothing = np.zeros_like(whole)
    kept = np.maximum(there - common, 0.0)
    new = np.maximum(whole - there, 0.0)
    if route.tier is not None:
        fetch, send = (nothing, nothing) if colocated else (kept, new)
        return Moved(kept, fetch, send, np.maximum(end - there, 0.0), False, False)
    if colocated:
        return Moved(nothing, nothing, nothing, nothing, False, False)
    if calls.policy == "decode":
        return Moved(kept, nothing, new, nothing, True, False)
    back = np.maximum(end - whole, 0.0) if calls.policy == "prefill" else nothing
    return Moved(nothing, nothing, np.maximum(whole - common, 0.0), back, False, True)


def transfer_seconds(route: ModelledRoute, prompts: Prompts) -> Array:
    """[J] seconds of reload and transfer at the rate that the route counts on."""
    bytes_ = moved(route, prompts)
    rate = route.entry.fabric_bytes_per_s or np.nan
    if route.tier is None:
        return np.asarray((bytes_.reload + bytes_.send) / rate)
    slower = min(rate, route.tier.stripe * route.tier.read_bytes_per_s)
    latency = np.where(bytes_.reload > 0, route.tier.latency_s, 0.0)
    return np.asarray(bytes_.reload / slower + latency + bytes_.send / rate)


def session_bytes(pool: ModelledPool, calls: Calls, tokens: Array) -> Array:
    """[J] bytes that sessions of so many tokens take of a replica, beside the prefix that all share."""
    shared = kv_bytes(pool.table, np.array([calls.shared]))[0, 0]
    return np.asarray(np.maximum(kv_bytes(pool.table, tokens)[0] - shared, 0.0))
