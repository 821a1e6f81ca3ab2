"""Per-call coefficients of every configuration: the moments that fill the rows, for one task variant.

Arrays are [K] over configurations; J (prompt points) is summed away.  Built once per task variant and
shared by all operating points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import Floats
from codesign.candidates.lengths import TaskCalls
from codesign.performance import (
    ConfigurationTable,
    decode_attention_seconds,
    decode_flops,
    kv_bytes,
    kv_read_bytes,
    kv_transfer_bytes,
    prefill_attention_seconds,
    prefill_occupancy_seconds,
    prefill_seconds,
)
from codesign.performance.drafts import accepted
from codesign.performance.energy import joules_per_flop, kv_joules_per_byte, prefill_energy_j


@dataclass(frozen=True)
class DecodeMoments:
    """What one call's decode phase asks of a replica, per step second where a step is involved."""

    steps: float
    """E[n]: steps of an answer, one for each of its tokens where none are drafted."""
    attention: Floats
    """E[n·r], seconds: r is what the sequence adds to each step."""
    attention_square: Floats
    """E[n·r²], seconds²."""
    bytes_steps: Floats
    """E[n·bytes]: times the step time gives byte·seconds while active."""
    square_steps: Floats
    """E[n·bytes²]."""
    bytes_after: Floats
    """E[bytes] that the session holds when the call ends."""
    square_after: Floats
    read_j: Floats
    """Joules of a call's KV reads and FLOPs."""


@dataclass(frozen=True)
class PromptMoments:
    """What one call's prompt asks under one residency policy."""

    weight: Floats
    """[J] of the prompt points."""
    seconds: Floats
    """[K, J] prefill alone on a replica."""
    new_tokens: Floats
    """[J]."""
    answer_tokens: Floats
    """[J] mean output."""
    busy: Floats
    """E[S], seconds of a replica (pipeline stages overlap)."""
    busy_square: Floats
    busy_cube: Floats
    attention: Floats
    """E[prefill attention seconds]."""
    held: Floats
    """[K, J] bytes of the prompt's session while it is computed and sent."""
    reload: Floats
    """[K, J] bytes that the prompt's side reads from where the prefix is kept (decode side or a tier)."""
    send: Floats
    """[K, J] bytes sent to the decode side."""
    arriving: Floats
    """[K] E[bytes] into the prompt's side: reload, and the output's KV where it goes back there."""
    leaving: Floats
    """[K] E[bytes] out of the prompt's side."""
    decode_arriving: Floats
    """[K] E[bytes] into the decode side: what is sent, and its own read of a tier."""
    decode_leaving: Floats
    """[K] E[bytes] out of the decode side: reload, output given back, or what it writes to a tier."""
    energy_j: Floats


def decode_moments(table: ConfigurationTable, calls: TaskCalls) -> DecodeMoments:
    """Moments of the decode phase of a task variant on every configuration of a table."""
    points = calls.population
    weight, output = points.weight, points.output
    middle = points.context + output / 2.0
    attention = decode_attention_seconds(table, middle)
    shared = _shared_bytes(table, calls)
    held = np.maximum(kv_bytes(table, points.context + output) - shared, 0.0)
    joules = kv_read_bytes(table, middle) * kv_joules_per_byte(table)[:, None]
    joules = joules + decode_flops(table, middle) * joules_per_flop(table)[:, None]
    stay = weight * output / accepted(table, calls).tokens
    return DecodeMoments(
        steps=float(stay.sum()),
        attention=attention @ stay,
        attention_square=attention**2 @ stay,
        bytes_steps=held @ stay,
        square_steps=held**2 @ stay,
        bytes_after=held @ weight,
        square_after=held**2 @ weight,
        read_j=joules @ stay,
    )


def prompt_moments(table: ConfigurationTable, calls: TaskCalls, residency: str) -> PromptMoments:
    """Moments of the prompts of a task variant under a residency policy on every configuration.

    With a tier both sides read the kept prefix from it, and the side that ends the call writes what is new.
    """
    points = calls.prefill_points(residency)
    weight = points.weight
    seconds = prefill_seconds(table, points.new, points.cached)
    occupied = prefill_occupancy_seconds(table, points.new, points.cached)
    shared = _shared_bytes(table, calls)
    held = np.maximum(kv_bytes(table, points.context) - shared, 0.0)
    common = np.minimum(calls.shared, points.context)
    moved = kv_transfer_bytes(table, points.context)
    there = kv_transfer_bytes(table, points.cached)
    base = kv_transfer_bytes(table, common)
    after = kv_transfer_bytes(table, points.context + points.output)
    nothing = np.zeros_like(moved)
    tier = residency.startswith("tier:")
    own = np.maximum(there - base, 0.0) if residency == "decode" or tier else nothing
    send = np.maximum(moved - (there if residency == "decode" or tier else base), 0.0)
    back = np.maximum(after - moved, 0.0) if residency == "prefill" else nothing
    fetched = own if tier else nothing
    written = np.maximum(after - there, 0.0) if tier else nothing
    return PromptMoments(
        weight=weight,
        seconds=seconds,
        new_tokens=points.new,
        answer_tokens=points.output,
        busy=occupied @ weight,
        busy_square=occupied**2 @ weight,
        busy_cube=occupied**3 @ weight,
        attention=prefill_attention_seconds(table, points.new, points.cached) @ weight,
        held=held,
        reload=own,
        send=send,
        arriving=(own + back) @ weight,
        leaving=send @ weight,
        decode_arriving=(send + fetched) @ weight,
        decode_leaving=(written if tier else own + back) @ weight,
        energy_j=prefill_energy_j(table, points.new, points.cached) @ weight,
    )


def _shared_bytes(table: ConfigurationTable, calls: TaskCalls) -> Floats:
    """[K, 1] bytes of the prefix that sessions share: held once per replica, not by each session."""
    return kv_bytes(table, np.array([calls.shared]))
