"""What each call asks of the pools on its route, from the performance model: one row of numbers a call.

Exact at both ends of a call's decode phase and linear between, which is what attention, reads and held bytes are but
for a window that fills while a call runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.check.calls import Prompts
from codesign.check.plan import ModelledPool, ModelledRoute
from codesign.check.traffic import moved, session_bytes
from codesign.performance import (
    ConfigurationTable,
    EngineMemory,
    decode_attention_seconds,
    decode_flops,
    decode_step_seconds,
    decode_weight_bytes,
    kv_bytes,
    kv_capacity_bytes,
    kv_read_bytes,
    prefill_attention_seconds,
    prefill_flops,
    prefill_seconds,
)
from codesign.performance.energy import (
    joules_per_byte,
    joules_per_flop,
    kv_joules_per_byte,
    prefill_energy_j,
    weight_joules,
)
from codesign.performance.split import SplitTable, split_step_seconds
from codesign.problem.instance import Options
from codesign.problem.speculation import acceptance_of, emitted, expected_tokens
from codesign.simulate.engine import StepTable

Array = NDArray[np.float64]

COLUMNS = (
    "context",
    "cached",
    "output",
    "prefill_s",
    "prefill_j",
    "prefill_flop",
    "prompt_s",
    "reload",
    "send",
    "give_back",
    "prompt_kept",
    "end_kept",
    "begin",
    "end",
    "attention_s",
    "attention_more",
    "read",
    "read_more",
    "flop",
    "flop_more",
    "steps",
)
"""Tokens; seconds, joules and FLOP of the prompt alone on a lane, and its attention seconds inside steps; bytes that
move; bytes of prompt and whole call on the prefill side and on the decode side; what the sequence adds to its first
step, and more with each further one; reads are bytes of the accelerators' own memory that take as much energy; steps of
the answer, fewer than its tokens where a step emits several."""
(
    CONTEXT,
    CACHED,
    OUTPUT,
    PREFILL_S,
    PREFILL_J,
    PREFILL_FLOP,
    PROMPT_S,
    RELOAD,
    SEND,
    GIVE_BACK,
    PROMPT_KEPT,
    END_KEPT,
    BEGIN,
    END,
    ATTENTION_S,
    ATTENTION_MORE,
    READ,
    READ_MORE,
    FLOP,
    FLOP_MORE,
    STEPS,
) = range(len(COLUMNS))

_BLOCK = 1 << 15
_CHUNK_KNOTS = (0.0, 1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


@dataclass(frozen=True, eq=False)
class Demand:
    """Rows of the calls of one route."""

    route: ModelledRoute

    @property
    def shared(self) -> float:
        """Tokens of a prompt that replicas have anyway: the task's shared prefix."""
        return self.route.calls.shared

    def rows(
        self, context: Array, cached: Array, output: Array, rng: np.random.Generator | None = None
    ) -> Array:
        """[n, len(COLUMNS)] of calls with these lengths in tokens ([n] each); drafts are accepted as `rng` draws.

        Without it as many of them as on average.
        """
        rows = np.empty((len(context), len(COLUMNS)))
        for first in range(0, len(context), _BLOCK):
            part = slice(first, first + _BLOCK)
            rows[part] = self._block(context[part], cached[part], output[part], rng)
        return rows

    def _block(self, context: Array, cached: Array, output: Array, rng: np.random.Generator | None) -> Array:
        route, calls = self.route, self.route.calls
        before, after = route.prefill, route.decode
        prompts = Prompts(np.empty(0), context, cached, output)
        new, last = prompts.new, context + output
        steps = self._steps(np.maximum(output, 1.0), rng)
        rows = np.zeros((len(context), len(COLUMNS)))
        rows[:, STEPS] = steps
        rows[:, CONTEXT], rows[:, CACHED], rows[:, OUTPUT] = context, cached, output
        rows[:, PREFILL_FLOP] = prefill_flops(before.table, new, cached)[0]
        rows[:, PREFILL_J] = prefill_energy_j(before.table, new, cached)[0]
        if before.entry.role == "colocated":
            rows[:, PROMPT_S] = prefill_attention_seconds(before.table, new, cached)[0]
            if route.tier is not None:
                bytes_ = moved(route, prompts)
                rows[:, RELOAD], rows[:, GIVE_BACK] = bytes_.reload, bytes_.returned
                rows[:, END_KEPT] = session_bytes(before, calls, last)
        else:
            rows[:, PREFILL_S] = prefill_seconds(before.table, new, cached)[0]
            bytes_ = moved(route, prompts)
            rows[:, RELOAD], rows[:, SEND], rows[:, GIVE_BACK] = bytes_.reload, bytes_.send, bytes_.returned
            rows[:, PROMPT_KEPT] = session_bytes(before, calls, context)
            rows[:, END_KEPT] = session_bytes(before, calls, last)
        rows[:, BEGIN] = session_bytes(after, calls, context)
        rows[:, END] = session_bytes(after, calls, last)
        for column, of in ((ATTENTION_S, decode_attention_seconds), (READ, kv_read_bytes), (FLOP, decode_flops)):
            rows[:, column] = of(after.table, context)[0]
            rows[:, column + 1] = (of(after.table, last)[0] - rows[:, column]) / steps
        if after.split is not None:
            rows[:, ATTENTION_S : ATTENTION_MORE + 1] /= float(after.split.groups[0])
            rows[:, FLOP] += decode_flops(after.split.feed_forward, np.zeros(1))[0, 0]
        rows[:, READ : READ_MORE + 1] *= kv_joules_per_byte(after.table)[0] / joules_per_byte(after.table)[0]
        return rows


    def _steps(self, output: Array, rng: np.random.Generator | None) -> Array:
        """[n] steps of answers of `output` [n] tokens: the first token comes with one of its own."""
        after, task = self.route.decode.table, self.route.calls.task
        if not after.drafts[0]:
            return output
        chances = acceptance_of(after.speculations[0], int(after.drafts[0]), task)
        if rng is None:
            return np.maximum(np.round(1.0 + (output - 1.0) / expected_tokens(chances)), 1.0)
        emits, left, steps = np.cumsum(emitted(chances)), output - 1.0, np.ones_like(output)
        going = np.flatnonzero(left > 0)
        while going.size:
            left[going] -= 1.0 + np.minimum(np.searchsorted(emits, rng.random(going.size)), len(chances))
            steps[going] += 1.0
            going = going[left[going] > 0]
        return steps


def step_table(table: ConfigurationTable, max_sequences: int, chunk: float) -> StepTable:
    """Steps of every batch up to the engine's maximum, with up to a chunk of prompt tokens.

    Weights that lie in attached memory count as bytes of the accelerators' own that take as much energy.
    """
    batches = np.arange(max_sequences + 1, dtype=np.float64)
    knots = np.unique(np.array(_CHUNK_KNOTS) * chunk) if chunk else np.zeros(1)
    return StepTable(
        knots,
        np.stack([decode_step_seconds(table, batches, tokens)[0] for tokens in knots.tolist()])[None],
        np.stack([weight_joules(table, batches + tokens)[0] / joules_per_byte(table)[0] for tokens in knots.tolist()]),
    )


def split_step_table(split: SplitTable, max_sequences: int) -> StepTable:
    """Steps of a replica in two halves: those of the attention half, of the other, and of the chain through both."""
    batches = np.arange(max_sequences + 1, dtype=np.float64)
    m, n = float(split.microbatches[0]), float(split.groups[0])
    halves = (split.attention, split.feed_forward)
    weights = [
        m * count * decode_weight_bytes(half, np.maximum(batches / (m * count), 1.0))[0]
        for half, count in zip(halves, (n, 1.0), strict=True)
    ]
    # An engine's bytes and FLOP are charged at the attention half's joules: the other half's differ.
    moved, computed = (
        float((of(halves[1]) - of(halves[0]))[0]) for of in (joules_per_byte, joules_per_flop)
    )
    token_flop = float(decode_flops(halves[1], np.zeros(1))[0, 0])
    return StepTable(
        np.zeros(1),
        np.stack([curve for curve in split_step_seconds(split, batches)]),
        (weights[0] + weights[1])[None, :],
        attention=(1.0, 0.0, 1.0 / m),
        extra_j=moved * weights[1] + computed * token_flop * batches,
    )


def room_bytes(pool: ModelledPool, routes: list[ModelledRoute], options: Options) -> float:
    """Bytes of a replica for sessions: what weights leave, less each task's shared prefix in every attention group."""
    memory = EngineMemory.of(options, pool.table, pool.entry.role, pool.entry.prefill_chunk)
    room = float(kv_capacity_bytes(pool.table, memory)[0])
    groups = float(pool.table.dp[0])
    if pool.split is not None:
        groups = float(pool.split.groups[0])
        room *= groups
    for tokens in {r.calls.task.name: r.calls.shared for r in routes if r.calls.rate > 0}.values():
        if tokens > 0:
            room -= groups * float(kv_bytes(pool.table, np.array([tokens]))[0, 0])
    return max(room, 1.0)
