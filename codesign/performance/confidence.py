"""How far a prediction can be trusted: where its constants come from, and the 80 % band around it.

Bands are symmetric in the logarithm: a prediction p stands for [p·e^−h, p·e^h]. The half widths h stand in
``data/intervals.toml`` by class of prediction; ``scripts/fit_intervals.py`` writes them from measured rows
and tests them on accelerator–model pairs that did not set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.performance.constants import calibration_key, constants
from codesign.performance.facts import facts
from codesign.performance.profile import profile_of
from codesign.performance.table import ConfigurationTable

FloatArray = NDArray[np.float64]

KNOWN, INHERITED, UNCALIBRATED = "known_kernels", "inherited", "uncalibrated_engine"
UNMEASURED = "unmeasured_generation"
CLASSES = (KNOWN, INHERITED, UNCALIBRATED, UNMEASURED)
"""Kernels of that part and model family were fitted; they come from a relative; the serving stack is not one
that the kernels stand for; nothing was measured on the part's generation, neither kernels nor serving."""

NORMAL_80 = 1.2815515655446004
"""Half width of the central 80 % of a normal distribution, in standard deviations."""


def calibration(table: ConfigurationTable) -> list[str]:
    """For each accelerator of the table ``kernel-fit:<system>`` or ``inherited:<system>``.

    Followed by ``+<profile>`` where an engine profile other than the default holds for it.
    """
    keys = []
    for accelerator in table.accelerators:
        profile = profile_of(accelerator.id, table.engines)
        suffix = f"+{profile.name}" if profile.name != "default" else ""
        keys.append(calibration_key(accelerator) + suffix)
    return keys


def is_inherited(table: ConfigurationTable) -> NDArray[np.bool_]:
    """Whether a configuration's constants come from a relative [K].

    Either the accelerator's kernels were never measured, or the model has linear attention, whose operator
    was never fitted, or it reads attached memory, which no kernel was measured with.
    """
    measured = np.array([calibration_key(a).startswith("kernel-fit:") for a in table.accelerators])
    linear = table.part_cards.values["linear"][table.card] > 0
    return np.asarray(~measured[table.accelerator] | linear | (table.memory >= 0), dtype=bool)


def half_width(quantity: str, kind: str) -> float:
    """Half width h of the 80 % band in the logarithm, of ``time``, ``ttft`` or ``energy``, for a class."""
    return float(intervals()["half_width"][quantity][kind])


def intervals() -> Mapping[str, Any]:
    """The file ``data/intervals.toml``."""
    return facts("intervals")


def log_half_width(table: ConfigurationTable, quantity: str = "time") -> FloatArray:
    """Half width of the 80 % band [K] in the logarithm; a user's own profile brings its own."""
    width = np.where(is_inherited(table), half_width(quantity, INHERITED), half_width(quantity, KNOWN))
    unmeasured = np.array([not constants().has_rows(accelerator) for accelerator in table.accelerators])
    width = np.where(unmeasured[table.accelerator], half_width(quantity, UNMEASURED), width)
    for index, accelerator in enumerate(table.accelerators):
        own = profile_of(accelerator.id, table.engines).expected_error
        if own is not None and quantity == "time":
            width = np.where(table.accelerator == index, np.log1p(own), width)
    return width


def expected_error(table: ConfigurationTable) -> FloatArray:
    """Half width of the 80 % band of times relative to the prediction [K]: e^h − 1."""
    return np.expm1(log_half_width(table))


def safety_factor(table: ConfigurationTable, percentile: float, quantity: str = "time") -> FloatArray:
    """Factor [K] on predicted times that a share ``percentile`` (0 to 1) of such predictions stays below.

    1 at the median; errors are taken as normal in the logarithm, with the 80 % band that unseen rows gave.

    Raises ValueError for a percentile that is none.
    """
    from scipy.special import ndtri

    if not 0.0 < percentile < 1.0:
        raise ValueError(f"found the percentile {percentile!r}; expected a number between 0 and 1")
    return np.asarray(np.exp(ndtri(percentile) * log_half_width(table, quantity) / NORMAL_80))
