"""Objectives as prices of servers and watts: to be minimised, or held below a ceiling.

Every linear objective is  usd·($/h) + watt·(W at the meter).  The MILP minimises it, an ε row bounds it, and
`figure` evaluates a plan with it: one set of coefficients, so a ceiling means the very figure that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from codesign.candidates.data import FleetData, SideLimit
from codesign.problem.instance import Instance, ObjectiveName

if TYPE_CHECKING:
    from codesign.candidates.build import Candidates

_SECONDS_PER_HOUR = 3600.0


def objective_weights(instance: Instance, name: ObjectiveName) -> tuple[float, float]:
    """(per $/h, per watt at the meter beyond what the $ pay for) of an objective."""
    rate = instance.mean_rate()
    return {
        "cost_per_hour": (1.0, 0.0),
        "cost_per_task": (1.0 / (rate * _SECONDS_PER_HOUR), 0.0),
        "energy_per_task": (0.0, 1.0 / rate),
        "power": (0.0, 1.0),
        "carbon_per_task": (0.0, instance.site.carbon_kg_per_joule / rate),
        # These two are found by a search over plans, of which cheap ones are as good as any.
        "max_rate": (1.0, 0.0),
        "slo_scale": (1.0, 0.0),
    }[name]


def weighted(data: FleetData, instance: Instance, name: ObjectiveName) -> FleetData:
    """The same fleet problem under another objective."""
    usd, watt = objective_weights(instance, name)
    return replace(data, usd_weight=usd, watt_weight=watt)


def blended(data: FleetData, instance: Instance, weights: Mapping[ObjectiveName, float]) -> FleetData:
    """The same fleet problem under a weighted sum of objectives."""
    parts = [(weight, *objective_weights(instance, name)) for name, weight in weights.items()]
    usd, watt = (sum(part[0] * part[i] for part in parts) for i in (1, 2))
    return replace(data, usd_weight=usd, watt_weight=watt)


def ceiling(data: FleetData, instance: Instance, name: ObjectiveName, most: float) -> SideLimit:
    """The ε row: an objective held at or below `most` (in its own unit)."""
    priced = weighted(data, instance, name)
    servers = {o: priced.server_price(offer) for o, offer in enumerate(data.offers)}
    watts = {h: priced.watt_price(h) for h in range(len(data.hardware))}
    return SideLimit(
        name,
        name,
        most,
        per_server={o: price for o, price in servers.items() if price},
        per_watt={h: price for h, price in watts.items() if price},
        per_module={j: price for j in range(len(data.modules)) if (price := priced.module_price(j))},
    )


def minimising(
    candidates: Candidates, name: ObjectiveName, ceilings: Mapping[ObjectiveName, float]
) -> Candidates:
    """The same candidates under another objective, with ceilings on further ones."""
    instance = replace(candidates.instance, objective=name)
    rows = [ceiling(candidates.data, instance, other, most) for other, most in ceilings.items()]
    data = weighted(candidates.data, instance, name).with_limits(rows)
    return replace(candidates, instance=instance, data=data)


def figure(
    data: FleetData,
    servers: Mapping[int, int],
    replicas: Mapping[int, int],
    spares: Mapping[int, int],
    rates: Mapping[tuple[int, int], float],
    modules: Mapping[int, float],
) -> float:
    """The objective of `data` for counts by offer, column, group and module, and calls/s by (column, flow)."""
    value = sum(count * data.server_price(data.offers[o]) for o, count in servers.items())
    value += sum(count * data.module_price(j) for j, count in modules.items())
    left = dict(spares)
    for column, count in replicas.items():
        block, i = data.locate([column])[0]
        part = data.blocks[block]
        price = data.watt_price(data.packings[int(part.packing[i])].hardware)
        spare = left.pop(int(part.group[i]), 0)
        flows = part.flow_power(slice(i, i + 1))[0]
        watts = float(part.replica_power_w[i]) * (count + spare)
        watts += sum(float(w) * rates.get((column, f), 0.0) for f, w in zip(part.flows.tolist(), flows, strict=True))
        value += price * watts
    return value
