"""Objectives brought to a size that a solver's absolute tolerances suit, and the problems that no size suits.

HiGHS takes reduced costs within 1e-7 for zero and rows within 1e-7 for kept.  What counts is the size of the plan: a
fleet of 1e-4 $/h beside an offer of 1e5 $/h that nobody needs must not be rounding.  Rates are shares of their flows
already (`FleetData.flow_unit`), limits are shares of themselves.  A power of two changes no digit of a price.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from codesign.candidates.data import FleetData, Floats, SideLimit

_COMFORTABLE = (1.0, 1e5)
"""Objectives of a plan at which nothing is scaled."""
_TYPICAL = 256.0
MOST_COUNTED = 1e7
"""Servers or replicas of a plan up to which double precision keeps a row to a millionth of one of them: a row of 1e7
in doubles is exact to 1e-9, and solvers multiply that by the steps of a factorisation."""


def plan_size(data: FleetData, alone: Floats) -> float:
    """About what a plan costs: all tasks served alone at their cheapest [C], or what limits ask to be bought."""
    size = float(alone[np.isfinite(alone)].sum())
    for limit in data.limits:
        gives = {o: -c for o, c in limit.per_server.items() if c < 0}
        if limit.limit < 0 and gives:
            size = max(size, min(-limit.limit * data.server_price(data.offers[o]) / c for o, c in gives.items()))
    return size


def objective_scale(data: FleetData, alone: Floats) -> float:
    """What to multiply the objective with: a power of two; 1 where a plan has a good size, or costs nothing.

    `alone` [C] is what each task costs served alone at its cheapest.
    """
    size = plan_size(data, alone)
    if size <= 0.0 or _COMFORTABLE[0] <= size <= _COMFORTABLE[1]:
        return 1.0
    return 2.0 ** round(math.log2(_TYPICAL / size))


def spending(data: FleetData, most: float) -> SideLimit:
    """A limit on the objective itself."""
    return SideLimit(
        "objective",
        "",
        most,
        per_server={o: price for o, offer in enumerate(data.offers) if (price := data.server_price(offer))},
        per_watt={h: price for h in range(len(data.hardware)) if (price := data.watt_price(h))},
        per_module={j: price for j in range(len(data.modules)) if (price := data.module_price(j))},
    )


def scaled(data: FleetData, factor: float) -> FleetData:
    """The same fleet problem with its objective times `factor`."""
    if factor == 1.0:
        return data
    return replace(data, usd_weight=data.usd_weight * factor, watt_weight=data.watt_weight * factor)
