"""The decode step as a convex function of the batch: chords that lie above the fitted curve (DESIGN 3.4).

A dense step is convex in the batch and one set of chords serves every load.  A mixture-of-experts step
first rises steeply (each token touches new experts) and is not: there an *anchor* says at which batch the
chords are tight, and several anchors compete as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import Floats
from codesign.candidates.grids import Grids
from codesign.performance import ConfigurationTable, decode_step_seconds


@dataclass(frozen=True)
class Chords:
    """[K, S] lines intercept + slope·batch whose maximum lies above the step curve, in seconds."""

    intercept: Floats
    slope: Floats


def step_chords(
    table: ConfigurationTable, grids: Grids, slots: float, prompt_tokens: float, anchor_batch: float
) -> Chords:
    """Chords of the step with `prompt_tokens` new prompt tokens in it, tight from batch `anchor_batch` on.

    As far as `slots` sequences of each data-parallel rank make a batch.
    """
    most = max(slots * float(table.dp.max()), anchor_batch)
    knots = tuple(b for b, before in zip(grids.batches, (0.0, *grids.batches), strict=False) if before < most)
    return chords(lambda batch: decode_step_seconds(table, batch, prompt_tokens), knots, anchor_batch)


def chords(curve_of: Callable[[Floats], Floats], knots_at: tuple[float, ...], anchor_batch: float) -> Chords:
    """Chords of a curve [K, J] of the batch between `knots_at`, tight from batch `anchor_batch` (one of them) on.

    Below the anchor the first line is the flattest that stays above the curve; beyond it slopes never fall.
    Where the curve bends down between two knots, all lines of the configuration are lifted over it.
    """
    batches = np.array(knots_at)
    anchor = knots_at.index(anchor_batch)
    every = np.unique(np.append(_between(_between(batches)), max(1.0, anchor_batch - 1.0)))
    curve = curve_of(every)
    step = curve[:, np.searchsorted(every, batches)]
    slopes = np.diff(step, axis=1) / np.diff(batches)
    rising = np.maximum.accumulate(np.maximum(slopes[:, anchor:], 0.0), axis=1)
    if anchor:
        below = every < anchor_batch
        back = (step[:, [anchor]] - curve[:, below]) / (anchor_batch - every[below])
        first = np.maximum(back.min(axis=1), 0.0)
        rising = np.maximum(rising, first[:, None])
        rising = np.concatenate([first[:, None], rising], axis=1)
    knots = batches[anchor:-1]
    widths = np.diff(batches[anchor:])
    height = step[:, [anchor]]
    body = rising[:, 1:] if anchor else rising
    values = np.concatenate([height, height + np.cumsum(body * widths, axis=1)], axis=1)[:, :-1]
    intercept = values - body * knots
    if anchor:
        intercept = np.concatenate([height - rising[:, :1] * batches[anchor], intercept], axis=1)
    lines = (intercept[:, :, None] + rising[:, :, None] * every).max(axis=1)
    lift = np.maximum(curve - lines, 0.0).max(axis=1)
    return Chords(intercept + lift[:, None], rising)


def _between(batches: Floats) -> Floats:
    """Batches with the whole number in the (geometric) middle of each two."""
    return np.unique(np.concatenate([batches, np.round(np.sqrt(batches[:-1] * batches[1:]))]))


def is_convex(table: ConfigurationTable) -> np.ndarray:
    """[K] does the step of this configuration need a single anchor only (dense models)?"""
    experts = np.array([card.experts for card in table.cards])
    return np.asarray(experts[table.card] == 0)
