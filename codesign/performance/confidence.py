"""How far a prediction can be trusted: where its constants come from, and the error to expect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.performance.constants import calibration_key, constants
from codesign.performance.table import ConfigurationTable

FloatArray = NDArray[np.float64]


def calibration(table: ConfigurationTable) -> list[str]:
    """For each accelerator of the table ``kernel-fit:<system>`` or ``inherited:<system>``."""
    return [calibration_key(accelerator) for accelerator in table.accelerators]


def expected_error(table: ConfigurationTable) -> FloatArray:
    """Expected relative error of predicted times [K]: a mean absolute error on rows never seen.

    Larger for inherited constants, and for models with linear attention, whose operator was never fitted.
    """
    error = table.part_accelerators.expected_error[table.accelerator]
    linear = table.part_cards.values["linear"][table.card] > 0
    return np.where(linear, np.maximum(error, constants().sections["error"]["uncalibrated_operator"]), error)
