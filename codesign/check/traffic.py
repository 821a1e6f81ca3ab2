"""Bytes that one call moves between the pools of its route, and the time that its prompt takes there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.check.calls import Array, Calls, Prompts
from codesign.check.plan import ModelledPool, ModelledRoute
from codesign.performance import kv_bytes, kv_transfer_bytes


@dataclass(frozen=True, eq=False)
class Moved:
    """[J] bytes per prompt, by direction seen from the prefill side."""

    reload: Array
    """Kept history, read from the decode side."""
    send: Array
    """To the decode side."""
    give_back: Array
    """The answer's KV, from the decode side to where the session stays."""


def moved(route: ModelledRoute, prompts: Prompts) -> Moved:
    """What a disaggregated call transfers under its KV policy; the shared prefix is on both sides already."""
    table, calls = route.prefill.table, route.calls

    def size(tokens: Array) -> Array:
        return np.asarray(kv_transfer_bytes(table, tokens)[0])

    whole = size(prompts.context)
    common = size(np.minimum(calls.shared, prompts.context))
    nothing = np.zeros_like(whole)
    if calls.policy == "decode":
        kept = size(prompts.cached)
        return Moved(np.maximum(kept - common, 0.0), np.maximum(whole - kept, 0.0), nothing)
    back = nothing
    if calls.policy == "prefill":
        back = np.maximum(size(prompts.context + prompts.output) - whole, 0.0)
    return Moved(nothing, np.maximum(whole - common, 0.0), back)


def transfer_seconds(route: ModelledRoute, prompts: Prompts) -> Array:
    """[J] seconds of reload and transfer at the rate that the route counts on."""
    bytes_ = moved(route, prompts)
    return np.asarray((bytes_.reload + bytes_.send) / (route.entry.fabric_bytes_per_s or np.nan))


def session_bytes(pool: ModelledPool, calls: Calls, tokens: Array) -> Array:
    """[J] bytes that sessions of so many tokens take of a replica, beside the prefix that all share."""
    shared = kv_bytes(pool.table, np.array([calls.shared]))[0, 0]
    return np.asarray(np.maximum(kv_bytes(pool.table, tokens)[0] - shared, 0.0))
