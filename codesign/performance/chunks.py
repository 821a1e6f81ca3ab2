"""What prompts add to the steps of a colocated replica: alone in chunks of their own, or in chunks that they share.

A step with q prompt tokens in it takes longer than one without by D(q), which bends upwards for a dense model (a few
prompt tokens are free beside its weights) and downwards for a mixture of experts (the first ones touch most experts). A
prompt of p tokens in chunks of s finds steps of its own, ⌊p/s⌋ full ones and one with the rest, or shares them with
others, and then costs p/s of a full one. Which of the two happens depends on the load; the larger is charged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.latency import decode_step_seconds
from codesign.performance.table import ConfigurationTable

Floats = NDArray[np.float64]

KNOTS = (0.0, 1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""[Q] shares of a chunk at which a step is evaluated; linear between them, as in the simulator's step table."""
CHUNK_SPREAD = 1.15
"""Safety factor on the standard deviation of a call's mean step by its chunks, and of steps with one by their batch:
what is worked out at the mean batch leaves out that batches are large just when prompts come. Source: one replica under
Poisson arrivals, simulated in 40 cases (half of them in tests/test_colocated_accounts.py); with less, p95 of TPOT is
below in some by more than noise."""
WAIT_SPREAD = 1.25
"""Safety factor on the second moment of prompts in the wait for them, for the same reason and of that source."""


def step_seconds(table: ConfigurationTable, batch: ArrayLike, chunk: float) -> Floats:
    """Seconds [K, J, Q] of steps with ``batch`` sequences ([J] or [K, J]) and with each of KNOTS of a chunk of tokens.

    Without what each sequence's own context and the prompts' attention add, as in :func:`decode_step_seconds`.
    """
    sequences = np.atleast_1d(np.asarray(batch, dtype=np.float64))
    tokens = np.tile(np.array(KNOTS) * chunk, sequences.shape[-1])
    flat = decode_step_seconds(table, np.repeat(sequences, len(KNOTS), axis=-1), tokens)
    return flat.reshape(flat.shape[0], sequences.shape[-1], len(KNOTS))


def pieces(new_tokens: Floats, weight: Floats, chunk: float) -> Floats:
    """[2, Q] mean number of steps that a prompt brings with each of KNOTS in them: alone, and where chunks are shared.

    ``new_tokens`` [J] have probabilities ``weight`` [J]. A rest between two knots counts as parts of both.
    """
    whole = np.floor(new_tokens / chunk)
    found = np.zeros((2, len(KNOTS)))
    found[0] = weight @ on_knots(new_tokens / chunk - whole)
    found[0, -1] += float(weight @ whole)
    found[1, -1] = float(weight @ new_tokens) / chunk
    return found


def on_knots(share: Floats) -> Floats:
    """[J, Q] weights of KNOTS by which values at shares [J] of a chunk are linear between theirs."""
    knots = np.array(KNOTS)
    after = np.clip(np.searchsorted(knots, share), 1, len(knots) - 1)
    part = (share - knots[after - 1]) / (knots[after] - knots[after - 1])
    found = np.zeros((share.size, knots.size))
    rows = np.arange(share.size)
    found[rows, after - 1] = 1.0 - part
    found[rows, after] = part
    return found


def prompt_seconds(steps: Floats, parts: Floats) -> Floats:
    """Seconds [..., N] that a prompt adds to ``steps`` [..., N, Q]: the larger of its two ``parts`` [..., 2, Q].

    Its attention comes on top, which does not depend on how it is cut.
    """
    added = steps - steps[..., :1]
    return np.asarray((added @ np.swapaxes(parts, -1, -2)).max(axis=-1))
