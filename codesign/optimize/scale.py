"""Objectives brought to a size that a solver's absolute tolerances suit.

HiGHS takes reduced costs within 1e-7 for zero.  In $/h a server costs tens to hundreds, so that is rounding; in $ per
task of a busy site the same server costs 1e-5, and the relaxation stops a third short of its optimum.  A power of two
changes no digit of a price.
"""

from __future__ import annotations

import math
from dataclasses import replace

from codesign.candidates.data import FleetData

_COMFORTABLE = (0.1, 1e4)
"""Prices of the dearest thing to buy or to run at which nothing is scaled."""
_TYPICAL = 256.0


def objective_scale(data: FleetData) -> float:
    """What to multiply the objective with: a power of two; 1 where prices have a good size, or there are none."""
    dearest = max(
        [
            *(data.server_price(offer) for offer in data.offers),
            *(data.module_price(j) for j in range(len(data.modules))),
            *(data.watt_price(h) * row.peak_power_w for h, row in enumerate(data.hardware)),
        ],
        default=0.0,
    )
    if dearest <= 0.0 or _COMFORTABLE[0] <= dearest <= _COMFORTABLE[1]:
        return 1.0
    return 2.0 ** round(math.log2(_TYPICAL / dearest))


def scaled(data: FleetData, factor: float) -> FleetData:
    """The same fleet problem with its objective times `factor`."""
    if factor == 1.0:
        return data
    return replace(data, usd_weight=data.usd_weight * factor, watt_weight=data.watt_weight * factor)
