"""The decode step as a convex function of the batch: chords that lie above the fitted curve (DESIGN 3.4).

A dense step is convex in the batch and one set of chords serves every load.  A mixture-of-experts step
first rises steeply (each token touches new experts) and is not: there an *anchor* says at which batch the
chords are tight, and several anchors compete as columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.optimize.data import Floats
from codesign.performance import ConfigurationTable, decode_step_seconds

BATCHES = np.array([1.0, 4.0, 16.0, 48.0, 128.0, 384.0, 1024.0])
"""Batch points of the chords; more of them bring the rows closer to the curve."""
ANCHORS = (0, 2, 4)
"""Positions in BATCHES at which the chords of a non-convex step are tight."""


@dataclass(frozen=True)
class Chords:
    """[K, S] lines intercept + slope·batch whose maximum lies above the step curve, in seconds."""

    intercept: Floats
    slope: Floats


def step_chords(table: ConfigurationTable, prompt_tokens: float, anchor: int) -> Chords:
    """Chords of the step with `prompt_tokens` new prompt tokens in it, tight at BATCHES[anchor] and above.

    Below the anchor the first line is the flattest that stays above the curve; beyond it slopes never fall.
    """
    step = decode_step_seconds(table, BATCHES, prompt_tokens)
    slopes = np.diff(step, axis=1) / np.diff(BATCHES)
    rising = np.maximum.accumulate(np.maximum(slopes[:, anchor:], 0.0), axis=1)
    if anchor:
        back = (step[:, [anchor]] - step[:, :anchor]) / (BATCHES[anchor] - BATCHES[:anchor])
        first = np.maximum(back.min(axis=1), 0.0)
        rising = np.maximum(rising, first[:, None])
        rising = np.concatenate([first[:, None], rising], axis=1)
    knots = BATCHES[anchor:-1]
    widths = np.diff(BATCHES[anchor:])
    height = step[:, [anchor]]
    body = rising[:, 1:] if anchor else rising
    values = np.concatenate([height, height + np.cumsum(body * widths, axis=1)], axis=1)[:, :-1]
    intercept = values - body * knots
    if anchor:
        intercept = np.concatenate([height - rising[:, :1] * BATCHES[anchor], intercept], axis=1)
    # A curve that first bends the other way: what lies below its chord at batch 1 is covered by the floor.
    return Chords(intercept, rising)


def is_convex(table: ConfigurationTable) -> np.ndarray:
    """[K] does the step of this configuration need a single anchor only (dense models)?"""
    experts = np.array([card.experts for card in table.cards])
    return np.asarray(experts[table.card] == 0)
