"""Worst case and CVaR over scenarios as rows of the fleet problem (Rockafellar and Uryasev 2000).

Each scenario's objective v_s is linear in what is bought and run.  With a level η and the excess z_s above it:

    min  η + Σ_s p_s·z_s/(1 − α)        v_s − η − z_s ≤ 0        η, z ≥ 0

is the mean of the worst 1 − α; without the z it is the worst case.  η and z are modules that come in any amount.
What is bought is the same in all scenarios, and both measures move by it alone: the least price that an item has in any
scenario stays its price, and the rows hold what scenarios charge on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codesign.candidates.data import FleetData, Module, SideLimit
from codesign.candidates.stages import StagePart
from codesign.problem.instance import Instance


def weighed(data: FleetData, instance: Instance, parts: Sequence[StagePart]) -> FleetData:
    """The joined problem `data` of the stages under the instance's risk measure; its mean is what it has already."""
    risk = instance.risk
    if risk is None or risk.measure == "expected":
        return data
    chances = {part.stage.scenario: part.stage.probability for part in parts}
    unit = data.usd_weight or data.watt_weight
    level = len(data.modules)
    modules = [Module("level of risk", 1.0, whole=False)]
    rows = []
    values = {
        scenario: _value(data, [part for part in parts if part.stage.scenario == scenario], chance, unit)
        for scenario, chance in chances.items()
    }
    servers = _common([value.per_server for value in values.values()], len(data.offers))
    bought = _common([value.per_module for value in values.values()], len(data.modules))
    for scenario, chance in chances.items():
        value = values[scenario]
        row = replace(
            value,
            per_server=_beyond(value.per_server, servers),
            per_module=_beyond(value.per_module, bought),
        )
        if not (row.per_server or row.per_module or row.per_watt):
            continue
        above = {level: -1.0}
        if risk.measure == "cvar":
            above[level + len(modules)] = -1.0
            weight = chance / sum(chances.values()) / (1.0 - risk.level)
            modules.append(Module(f"above it in {scenario}", weight, whole=False))
        rows.append(replace(row, name=f"risk ({scenario})", per_module=row.per_module | above))
    return replace(
        data,
        offers=tuple(replace(o, usd_per_hour=price) for o, price in zip(data.offers, servers, strict=True)),
        hardware=tuple(replace(row, hours_share=0.0) for row in data.hardware),
        modules=(
            *(replace(m, usd_per_hour=p, power_w=0.0) for m, p in zip(data.modules, bought, strict=True)),
            *modules,
        ),
        limits=(*data.limits, *rows),
        usd_weight=unit,
        watt_weight=0.0,
    )


def _common(prices: Sequence[dict[int, float]], count: int) -> list[float]:
    """The least price of each of `count` items over the scenarios."""
    return [min(price.get(item, 0.0) for price in prices) for item in range(count)]


def _beyond(prices: dict[int, float], common: Sequence[float]) -> dict[int, float]:
    """What is charged on top of the common price; rounding aside."""
    return {i: p - common[i] for i, p in prices.items() if p - common[i] > 1e-12 * abs(p)}


def _value(data: FleetData, parts: Sequence[StagePart], chance: float, unit: float) -> SideLimit:
    """A scenario's objective over `unit` as a row without a limit."""
    servers: dict[int, float] = {}
    modules: dict[int, float] = {}
    watts: dict[int, float] = {}
    for part in parts:
        own, weight = part.candidates.data, part.weight / chance
        for o, offer in zip(part.offers, own.offers, strict=True):
            price = data.usd_weight * offer.usd_per_hour * weight / unit
            servers[o] = servers.get(o, 0.0) + price
        for m, module in zip(part.modules, own.modules, strict=True):
            price = data.usd_weight * (module.usd_per_hour + module.power_w * module.electricity_usd_per_wh)
            price += data.watt_weight * data.pue * module.power_w
            modules[m] = modules.get(m, 0.0) + price * weight / unit
        for h in range(part.hardware, part.hardware + len(own.hardware)):
            if price := data.watt_price(h) / chance / unit:
                watts[h] = price
    return SideLimit(
        "", "", 0.0, {o: p for o, p in servers.items() if p}, per_watt=watts, per_module=modules
    )
