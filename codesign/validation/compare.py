"""Predictions beside measurements: one entry per row and metric, with its band and its class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.catalog import accelerators, models
from codesign.performance.confidence import INHERITED, KNOWN, UNCALIBRATED, UNMEASURED, half_width
from codesign.performance.constants import constants
from codesign.validation.measured import PREDICTED, TPOT_AT_SHARE
from codesign.validation.points import Point
from codesign.validation.predict import Prediction

QUANTITY = {
    "ttft_ms_p50": "ttft",
    "tpot_ms_p50": "time",
    "output_tok_s_per_gpu": "time",
    "total_tok_s_per_gpu": "time",
    "energy_per_output_token_j": "energy",
    "itl_ms_p50": "time",
    "e2e_ms_p50": "time",
    "prefill_power_w": "energy",
    "decode_power_w": "energy",
    TPOT_AT_SHARE: "time",
}
"""Metric → which kind of band it has."""

DOES_NOT_FIT = "does not fit in memory as described"


@dataclass(frozen=True)
class Comparison:
    """One metric of one row: what was measured, what is predicted, and the 80 % band."""

    point: Point
    metric: str
    measured: float
    predicted: float
    low: float
    high: float
    kind: str
    """Class of the prediction: known_kernels, inherited or uncalibrated_engine."""
    calibration: str
    bracket: tuple[float, float] | None = None
    """Of a TTFT: the bracket of prefill alone and prefill behind everyone else, ms."""

    @property
    def scored(self) -> bool:
        """Whether it counts in the error tables."""
        return not self.point.out_of_score

    @property
    def error(self) -> float:
        """Predicted over measured, less one: positive where the figure is predicted too high."""
        return self.predicted / self.measured - 1.0

    @property
    def log_error(self) -> float:
        """Logarithm of measured over predicted."""
        return math.log(self.measured / self.predicted)

    @property
    def covered(self) -> bool:
        """Whether the band holds the measurement."""
        return self.low <= self.measured <= self.high


def class_of(point: Point, calibration: str) -> str:
    """The class of a point's predictions."""
    if not constants().has_rows(accelerators()[point.accelerator]):
        return UNMEASURED
    if calibration.startswith("inherited:") or models()[point.model].linear_layers:
        return INHERITED
    return KNOWN if point.known_engine else UNCALIBRATED


def compare(points: Sequence[Point], prediction: Prediction) -> tuple[list[Comparison], dict[str, int]]:
    """Comparisons of all published metrics, and the points that cannot run at all, by reason."""
    found: list[Comparison] = []
    skipped = 0
    for index, point in enumerate(points):
        if not prediction.fits[index]:
            skipped += 1
            continue
        calibration = prediction.calibration[index]
        kind = class_of(point, calibration)
        for metric in PREDICTED:
            measured, predicted = point.measured.get(metric), float(prediction.values[metric][index])
            if measured is None or not predicted > 0.0:
                continue
            factor = math.exp(half_width(QUANTITY[metric], kind))
            bracket = None
            if metric == "ttft_ms_p50":
                bracket = float(prediction.ttft_low_ms[index]), float(prediction.ttft_high_ms[index])
            found.append(
                Comparison(
                    point=point,
                    metric=metric,
                    measured=measured,
                    predicted=predicted,
                    low=predicted / factor,
                    high=predicted * factor,
                    kind=kind,
                    calibration=calibration,
                    bracket=bracket,
                )
            )
    return found, {DOES_NOT_FIT: skipped} if skipped else {}
