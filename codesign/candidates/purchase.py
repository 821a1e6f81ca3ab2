"""What can be bought: servers, their offers, and the limits that hold over them (DESIGN 3.6).

Measured pools are bought like servers that hold one replica each, so that every limit sees both kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from codesign.candidates.data import Hardware, Module, Offer, SideLimit
from codesign.hardware.tco import module_usd_per_hour, offer_usd_per_hour
from codesign.performance.energy import peak_power_w
from codesign.problem.instance import HardwareOption, Instance, MeasuredPool, MemoryOption, PurchaseUnit
from codesign.problem.instance import Offer as Price

_JOULES_PER_WH = 3600.0


Sold = tuple[HardwareOption | PurchaseUnit, Price] | MeasuredPool
"""What an offer sells, and its price in the problem's words."""


@dataclass(frozen=True)
class Market:
    """Hardware options first, then measured pools, in the order of the instance."""

    hardware: tuple[Hardware, ...]
    offers: tuple[Offer, ...]
    """Of hardware options, of purchase units, then measured pools."""
    sold: tuple[Sold, ...]
    """By offer."""
    modules: tuple[Module, ...]
    """Of the instance's memory, in its order."""
    limits: tuple[SideLimit, ...]


def offers_by_option(instance: Instance, offers: tuple[Offer, ...]) -> dict[str, list[int]]:
    """Positions of the offers that bring servers of each hardware option, by its name."""
    found: dict[str, list[int]] = {}
    for o, offer in enumerate(offers):
        for row in offer.supplies:
            if row < len(instance.hardware):
                found.setdefault(instance.hardware[row].name, []).append(o)
    return found


def build_market(instance: Instance) -> Market:
    """Servers, offers and shared limits of an instance.  Servers that fit no rack cannot be bought."""
    hardware = [_server(option, instance) for option in instance.hardware]
    offers: list[Offer] = []
    sold: list[Sold] = []
    stocks: dict[tuple[str, str, str], SideLimit] = {}
    for index, option in enumerate(instance.hardware):
        for price in option.offers:
            sold.append((option, price))
            offers.append(_offer(option, price, (index,)))
            # What is to be had of an offer is to be had whatever the network.
            place = ("hardware", option.hardware, price.name)
            _add_stock(place, price, len(offers) - 1, option.server_accelerators, stocks)
    rows = {(o.name, o.includes_power): index for index, o in enumerate(instance.hardware)}
    for unit in instance.units:
        for price in unit.offers:
            sold.append((unit, price))
            offers.append(_offer(unit, price, tuple(rows[name, price.includes_power] for name in unit.hardware)))
            _add_stock(("purchase_units", unit.name, price.name), price, len(offers) - 1, unit.accelerators, stocks)
    first_measured = len(hardware)
    for pool in instance.measured_pools:
        hardware.append(_measured(pool))
        sold.append(pool)
        offers.append(Offer(pool.name, len(hardware) - 1, pool.cost_usd_per_hour, 0.0, 0))
    limits = [*stocks.values(), *_inventory(instance, hardware, offers, first_measured)]
    modules = [_module(tier, instance) for tier in instance.memory]
    limits += _site(instance, hardware, offers, sold, modules)
    limits += _budget(instance, hardware, offers, modules)
    limits += _churn(instance, sold)
    return Market(tuple(hardware), tuple(offers), tuple(sold), tuple(modules), tuple(limits))


def by_electricity(instance: Instance) -> Instance:
    """The same instance with options split whose offers differ in paying for power: two kinds of server.

    The offers of units count: an option that is sold in units alone has none of its own.  What is split stays as it is.
    """
    split = []
    for option in instance.hardware:
        units = [unit for unit in instance.units if option.name in unit.hardware]
        for included in (True, False) if option.includes_power is None else (option.includes_power,):
            offers = tuple(o for o in option.offers if o.includes_power == included)
            if offers or any(o.includes_power == included for unit in units for o in unit.offers):
                split.append(replace(option, offers=offers, includes_power=included))
    return replace(instance, hardware=tuple(split))


def _server(option: HardwareOption, instance: Instance) -> Hardware:
    site = instance.site
    network = option.link.power_w if option.link else 0.0
    peak = (peak_power_w(option.accelerator) + network) * option.server_accelerators
    electricity = 0.0 if option.includes_power else site.electricity_usd_per_joule * _JOULES_PER_WH * site.pue
    vendor = option.accelerator.vendor
    return Hardware(option.name, option.server_accelerators, peak, electricity, vendor)


def _offer(of: HardwareOption | PurchaseUnit, price: Price, rows: tuple[int, ...]) -> Offer:
    """One server of an option, or one whole unit, at a price per accelerator."""
    size = of.server_accelerators if isinstance(of, HardwareOption) else of.accelerators
    link = of.link if isinstance(of, HardwareOption) else None
    capital = (price.capital_usd_per_accelerator or 0.0) + (link.capital_usd if link else 0.0)
    hourly = offer_usd_per_hour(price) + (module_usd_per_hour(link) if link else 0.0)
    return Offer(
        name=f"{of.name}/{price.name}",
        hardware=rows[0],
        usd_per_hour=hourly * size,
        capital_usd=capital * size,
        min_servers=math.ceil(price.min_accelerators / size),
        also_supplies=rows[1:],
    )


def _add_stock(
    place: tuple[str, str, str], price: Price, offer: int, size: int, stocks: dict[tuple[str, str, str], SideLimit]
) -> None:
    """What is to be had of an offer, in accelerators; offers of one place (section, name, offer's name) share it."""
    if price.max_accelerators is None:
        return
    section, of, name = place
    limit = SideLimit(f"{section}.{of}.offers.{name}.max", "accelerators", float(price.max_accelerators))
    stocks.setdefault(place, limit).per_server[offer] = float(size)


def _measured(pool: MeasuredPool) -> Hardware:
    return Hardware(
        pool.name, pool.accelerators_per_replica, pool.power_w, 0.0, vendor=pool.accelerator
    )


def _module(tier: MemoryOption, instance: Instance) -> Module:
    electricity = instance.site.electricity_usd_per_joule * _JOULES_PER_WH * instance.site.pue
    return Module(tier.name, module_usd_per_hour(tier), tier.capital_usd, tier.power_w, electricity)


def _inventory(
    instance: Instance, hardware: list[Hardware], offers: list[Offer], first_measured: int
) -> list[SideLimit]:
    limits = []
    options: dict[str, set[int]] = {}
    for i, option in enumerate(instance.hardware):
        options.setdefault(option.name, set()).add(i)
    pools = {p.name: first_measured + i for i, p in enumerate(instance.measured_pools)}
    for item in instance.limits.inventory:
        members = {pools[n] for n in item.measured}.union(*(options.get(n, ()) for n in item.hardware))
        per_server = {
            o: float(sum(hardware[row].accelerators for row in f.supplies if row in members))
            for o, f in enumerate(offers)
            if members.intersection(f.supplies)
        }
        limits.append(
            SideLimit(
                f"limits.inventory.{item.name}", "accelerators", float(item.accelerators), per_server
            )
        )
    return limits


def _site(
    instance: Instance, hardware: list[Hardware], offers: list[Offer], sold: list[Sold], modules: list[Module]
) -> list[SideLimit]:
    limits = []
    site = instance.site
    peak = [sum(hardware[row].peak_power_w for row in offer.supplies) for offer in offers]
    if site.power_w is not None:
        watts = {o: each * site.pue for o, each in enumerate(peak)}
        drawn = {m: item.power_w * site.pue for m, item in enumerate(modules) if item.power_w}
        limits.append(SideLimit("site.power", "W", site.power_w, watts, per_module=drawn))
    for rack in site.racks:
        share = {}
        for o, item in enumerate(sold):
            if not isinstance(item, MeasuredPool) and item[0].rack == rack.name:
                each = math.floor(rack.power_w / peak[o] + 1e-9)
                # What draws more than a rack's power takes more racks than there are: it cannot be bought.
                share[o] = 1.0 / each if each else rack.count + 1.0
        limits.append(SideLimit(f"site.racks.{rack.name}", "racks", float(rack.count), share))
    return limits


def _churn(instance: Instance, sold: list[Sold]) -> list[SideLimit]:
    """At least 1 − churn of the existing servers stay."""
    share = instance.limits.churn_servers
    known = {
        o: (item[1].max_accelerators or 0) // item[0].server_accelerators
        for o, item in enumerate(sold)
        if isinstance(item, tuple) and isinstance(item[0], HardwareOption) and item[1].kind == "existing"
    }
    if share is None or not known:
        return []
    kept = dict.fromkeys(known, -1.0)
    return [SideLimit("limits.churn.servers", "servers", -(1.0 - share) * sum(known.values()), kept)]


def _budget(
    instance: Instance, hardware: list[Hardware], offers: list[Offer], modules: list[Module]
) -> list[SideLimit]:
    limits = []
    if instance.limits.capital_usd is not None:
        capital = {o: f.capital_usd for o, f in enumerate(offers) if f.capital_usd > 0}
        paid = {m: item.capital_usd for m, item in enumerate(modules)}
        budget = instance.limits.capital_usd
        limits.append(SideLimit("limits.budget.capital", "$", budget, capital, per_module=paid))
    if instance.limits.cost_usd_per_hour is not None:
        hourly = {o: f.usd_per_hour for o, f in enumerate(offers) if f.usd_per_hour > 0}
        power = {
            h: item.electricity_usd_per_wh
            for h, item in enumerate(hardware)
            if item.electricity_usd_per_wh
        }
        bought = {m: i.usd_per_hour + i.power_w * i.electricity_usd_per_wh for m, i in enumerate(modules)}
        limits.append(
            SideLimit(
                "limits.budget.cost_per_hour",
                "$/h",
                instance.limits.cost_usd_per_hour,
                hourly,
                per_watt=power,
                per_module=bought,
            )
        )
    return limits
