"""What can be bought: servers, their offers, and the limits that hold over them (DESIGN 3.6).

Measured pools are bought like servers that hold one replica each, so that every limit sees both kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from codesign.candidates.data import Hardware, Module, Offer, SideLimit
from codesign.hardware.tco import module_usd_per_hour, offer_usd_per_hour
from codesign.performance.energy import peak_power_w
from codesign.problem.instance import HardwareOption, Instance, MeasuredPool, MemoryOption

_JOULES_PER_WH = 3600.0


@dataclass(frozen=True)
class Market:
    """Hardware options first, then measured pools, in the order of the instance."""

    hardware: tuple[Hardware, ...]
    offers: tuple[Offer, ...]
    modules: tuple[Module, ...]
    """Of the instance's memory, in its order."""
    limits: tuple[SideLimit, ...]


def offers_by_option(instance: Instance, offers: tuple[Offer, ...]) -> dict[str, list[int]]:
    """Positions of the offers of each hardware option, by its name."""
    found: dict[str, list[int]] = {}
    for o, offer in enumerate(offers):
        if offer.hardware < len(instance.hardware):
            found.setdefault(instance.hardware[offer.hardware].name, []).append(o)
    return found


def build_market(instance: Instance) -> Market:
    """Servers, offers and shared limits of an instance.  Servers that fit no rack cannot be bought."""
    hardware: list[Hardware] = []
    offers: list[Offer] = []
    limits: list[SideLimit] = []
    for index, option in enumerate(instance.hardware):
        hardware.append(_server(option, instance))
        _add_offers(option, index, hardware[-1], offers, limits)
    first_measured = len(hardware)
    for pool in instance.measured_pools:
        hardware.append(_measured(pool))
        offers.append(Offer(pool.name, len(hardware) - 1, pool.cost_usd_per_hour, 0.0, 0))
    limits += _inventory(instance, hardware, offers, first_measured)
    modules = [_module(tier, instance) for tier in instance.memory]
    limits += _site(instance, hardware, offers, modules)
    limits += _budget(instance, hardware, offers, modules)
    limits += _churn(instance, offers)
    return Market(tuple(hardware), tuple(offers), tuple(modules), tuple(limits))


def by_electricity(instance: Instance) -> Instance:
    """The same instance with options split whose offers differ in paying for power: two kinds of server."""
    split = []
    for option in instance.hardware:
        for included in (True, False):
            offers = tuple(o for o in option.offers if o.includes_power == included)
            if offers:
                split.append(replace(option, offers=offers))
    return replace(instance, hardware=tuple(split))


def _server(option: HardwareOption, instance: Instance) -> Hardware:
    site = instance.site
    network = option.link.power_w if option.link else 0.0
    peak = (peak_power_w(option.accelerator) + network) * option.server_accelerators
    racks = [r.name for r in site.racks]
    rack = racks.index(option.rack) if option.rack is not None else None
    per_rack = math.floor(site.racks[rack].power_w / peak + 1e-9) if rack is not None else 0
    pays = not any(o.includes_power for o in option.offers)
    electricity = site.electricity_usd_per_joule * _JOULES_PER_WH * site.pue if pays else 0.0
    vendor = option.accelerator.vendor
    return Hardware(option.name, option.server_accelerators, peak, electricity, rack, per_rack, vendor)


def _add_offers(
    option: HardwareOption, index: int, server: Hardware, offers: list[Offer], limits: list[SideLimit]
) -> None:
    size = option.server_accelerators
    link = option.link
    for offer in option.offers:
        number = len(offers)
        capital = (offer.capital_usd_per_accelerator or 0.0) + (link.capital_usd if link else 0.0)
        hourly = offer_usd_per_hour(offer) + (module_usd_per_hour(link) if link else 0.0)
        offers.append(
            Offer(
                name=f"{option.name}/{offer.name}",
                hardware=index,
                usd_per_hour=hourly * size,
                capital_usd=capital * size,
                min_servers=math.ceil(offer.min_accelerators / size),
            )
        )
        if offer.max_accelerators is not None:
            # What is to be had of an offer is to be had whatever the network.
            name = f"hardware.{option.hardware}.offers.{offer.name}.max"
            known = next((limit for limit in limits if limit.name == name), None)
            if known is None:
                known = SideLimit(name, "accelerators", float(offer.max_accelerators))
                limits.append(known)
            known.per_server[number] = float(size)


def _measured(pool: MeasuredPool) -> Hardware:
    return Hardware(
        pool.name, pool.accelerators_per_replica, pool.power_w, 0.0, None, 0, vendor=pool.accelerator
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
            o: float(hardware[f.hardware].accelerators)
            for o, f in enumerate(offers)
            if f.hardware in members
        }
        limits.append(
            SideLimit(
                f"limits.inventory.{item.name}", "accelerators", float(item.accelerators), per_server
            )
        )
    return limits


def _site(
    instance: Instance, hardware: list[Hardware], offers: list[Offer], modules: list[Module]
) -> list[SideLimit]:
    limits = []
    site = instance.site
    if site.power_w is not None:
        watts = {o: hardware[f.hardware].peak_power_w * site.pue for o, f in enumerate(offers)}
        drawn = {m: item.power_w * site.pue for m, item in enumerate(modules) if item.power_w}
        limits.append(SideLimit("site.power", "W", site.power_w, watts, per_module=drawn))
    for r, rack in enumerate(site.racks):
        # A server that is larger than a rack's power takes more racks than there are: it cannot be bought.
        share = {
            o: 1.0 / hardware[f.hardware].servers_per_rack
            if hardware[f.hardware].servers_per_rack
            else rack.count + 1.0
            for o, f in enumerate(offers)
            if hardware[f.hardware].rack == r
        }
        limits.append(SideLimit(f"site.racks.{rack.name}", "racks", float(rack.count), share))
    return limits


def _churn(instance: Instance, offers: list[Offer]) -> list[SideLimit]:
    """At least 1 − churn of the existing servers stay."""
    share = instance.limits.churn_servers
    known = {
        f"{option.name}/{offer.name}": (offer.max_accelerators or 0) // option.server_accelerators
        for option in instance.hardware
        for offer in option.offers
        if offer.kind == "existing"
    }
    if share is None or not known:
        return []
    kept = {o: -1.0 for o, offer in enumerate(offers) if offer.name in known}
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
