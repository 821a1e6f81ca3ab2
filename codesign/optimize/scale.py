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
from codesign.optimize.alone import first_columns, least_cost, replicas_needed
from codesign.optimize.most import most_of_all

_COMFORTABLE = (1.0, 1e5)
"""Objectives of a plan at which nothing is scaled."""
_TYPICAL = 256.0
_MOST_TYPICAL = 2.0**20
"""Objectives of plans that count that much or more: above it an absolute gap is below a digit of double precision."""
MOST_COUNTED = 1e7
"""Servers or replicas of a plan up to which double precision keeps a row to a millionth of one of them: a row of 1e7
in doubles is exact to 1e-9, and solvers multiply that by the steps of a factorisation."""


def plan_size(data: FleetData) -> float:
    """About what a plan costs: all tasks served alone at their cheapest, or what limits ask to be bought."""
    size = 0.0
    # A limit may also pay for what a plan holds (memory that stands in servers), and then says too little by itself.
    for prices in (None, _passed_on(data, loose=True), _passed_on(data, loose=False)):
        alone = first_columns(data, prices)[2]
        size = max(size, float(alone[np.isfinite(alone)].sum()))
    if not size > 0:  # a plan may cost nothing: what counts is the least that another one costs
        size = least_cost(data)
    for limit in data.limits:
        gives = {o: -c for o, c in limit.per_server.items() if c < 0}
        if limit.limit < 0 and gives:
            size = max(size, min(-limit.limit * data.server_price(data.offers[o]) / c for o, c in gives.items()))
    if not size > 0:  # it may buy what columns do not take, or nothing that costs anything
        known = [*map(data.server_price, data.offers), *map(data.module_price, range(len(data.modules)))]
        size = min((price for price in known if price > 0), default=0.0)
    return size


def _passed_on(data: FleetData, loose: bool) -> Floats:
    """[L] prices of limits that something with a price fills: modules of memory, the level of a measure of risk.

    `loose`: of what comes in any amount alone.
    """
    sigma = np.zeros(len(data.limits))
    for i, limit in enumerate(data.limits):
        filling = {j: -c for j, c in limit.per_module.items() if c < 0 and not (loose and data.modules[j].whole)}
        prices = [data.module_price(j) / c for j, c in filling.items()]
        sigma[i] = min(prices, default=0.0) * limit.scale
    return sigma


def sized(data: FleetData, size: float) -> tuple[FleetData, Floats]:
    """The same with modules that come in any amount in units of a plan of `size` [N], and the rows that they widen.

    The level of a measure of risk is as large as a plan is dear, be that a billionth of what one server would add; of
    what limits hold to less than a plan's worth of it, that much.
    """
    units = np.ones(len(data.modules))
    loose = [j for j, m in enumerate(data.modules) if not m.whole and data.module_price(j) > 0]
    if not (loose and size > 0):
        return data, units
    most = most_of_all(data).modules
    units[loose] = [min(size / data.module_price(j), most[j]) if most[j] > 0 else 1.0 for j in loose]
    limits = []
    for limit in data.limits:
        given = [-c * units[j] for j, c in limit.per_module.items() if j in loose and c < 0]
        members = {j: c * float(units[j]) for j, c in limit.per_module.items()}
        own = max(given, default=0.0) if limit.limit == 0 else 0.0
        limits.append(replace(limit, per_module=members, size=own))
    modules = tuple(
        replace(
            m,
            usd_per_hour=m.usd_per_hour * float(u),
            capital_usd=m.capital_usd * float(u),
            power_w=m.power_w * float(u),
        )
        for m, u in zip(data.modules, units.tolist(), strict=True)
    )
    return replace(data, modules=modules, limits=tuple(limits)), units


def objective_scale(data: FleetData, size: float | None = None) -> float:
    """What to multiply the objective with: a power of two; 1 where a plan has a good size, or costs nothing.

    `size`: of a plan, where it is known.
    """
    size = plan_size(data) if size is None else size
    # Reduced costs within a tolerance of zero are so for each of what a plan counts: all of it must not be rounding.
    counted = min(fewest_counted(data), _MOST_TYPICAL)
    if size <= 0.0 or max(_COMFORTABLE[0], counted) <= size <= _COMFORTABLE[1]:
        return 1.0
    return 2.0 ** round(math.log2(max(_TYPICAL, counted) / size))


def fewest_counted(data: FleetData) -> float:
    """About how many replicas, servers or modules a plan counts at the least, if only by order of magnitude."""
    fewest = np.full(len(data.flows), np.inf)
    for block in data.blocks:
        for _, need in replicas_needed(block):
            np.minimum.at(fewest, block.flows, need.min(axis=0, initial=np.inf))
    able = np.isfinite(fewest)
    found = float((fewest[able] * data.calls_bound[able]).max(initial=0.0))
    for limit in data.limits:
        kinds = (limit.per_server, limit.per_packing, limit.per_group)
        given = [-c for coefficients in kinds for c in coefficients.values() if c < 0]
        if limit.limit < 0 and given:
            found = max(found, -limit.limit / max(given))
    return found


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
