"""The bill of materials: known offers at their prices, enough servers, and every limit of the problem."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from codesign.check.packing import servers_needed
from codesign.check.plan import ModelledPool, Plan
from codesign.check.report import Findings
from codesign.hardware.tco import module_usd_per_hour, offer_usd_per_hour
from codesign.performance.energy import peak_power_w
from codesign.problem.instance import (
    HardwareOption,
    Instance,
    LinkOption,
    MeasuredPool,
    MemoryOption,
    Offer,
    PurchaseUnit,
)
from codesign.solution.schema import Purchase


@dataclass
class Bought:
    """What was bought of one hardware option or measured pool, at the problem's prices."""

    count: int = 0
    """Servers; replicas of a measured pool."""
    accelerators: int = 0
    usd_per_hour: float = 0.0
    capital_usd: float = 0.0
    peak_power_w: float = 0.0
    """Provisioned IT power."""
    without_power: int = 0
    """Servers under offers that exclude electricity."""
    usd_without_power: float = 0.0
    """$/h of them."""
    in_units: int = 0
    """Of the servers, those that came in purchase units."""

    @property
    def share_without_power(self) -> float:
        """Share of the servers whose electricity is paid beside the offer."""
        return self.without_power / self.count if self.count else 0.0


@dataclass
class Basket:
    """Everything bought, by name in the problem file."""

    hardware: dict[str, Bought] = field(default_factory=dict)
    measured: dict[str, Bought] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    """Purchase units; their servers, and shares of their price, stand under `hardware`."""
    memory: dict[str, Bought] = field(default_factory=dict)
    """Modules of memory tiers; `without_power` of all, since nothing pays for it but the meter."""

    @property
    def items(self) -> tuple[Bought, ...]:
        """All of it."""
        return (*self.hardware.values(), *self.measured.values(), *self.memory.values())


Item = tuple[HardwareOption, Offer | LinkOption] | tuple[PurchaseUnit, Offer] | MeasuredPool | MemoryOption
"""What a line of the purchase may name: an offer or a network of some hardware, an offer of a purchase unit, a
measured pool, a memory tier."""


def offered(instance: Instance) -> dict[str, Item]:
    """What an instance lets one buy, by the item's name on a purchase."""
    found: dict[str, Item] = {
        f"{option.name}/{offer.name}": (option, offer)
        for option in instance.hardware
        for offer in option.offers
    }
    for option in instance.hardware:
        if option.link is not None:
            found[f"{option.name}/{option.link.name}"] = (option, option.link)
    found |= {f"{unit.name}/{offer.name}": (unit, offer) for unit in instance.units for offer in unit.offers}
    found |= {tier.name: tier for tier in instance.memory}
    return found | {pool.name: pool for pool in instance.measured_pools}


def priced(instance: Instance, line: Purchase) -> Bought | None:
    """A line of the purchase at the problem's prices; None for what it does not offer."""
    source = offered(instance).get(line.item)
    if isinstance(source, MeasuredPool):
        return _measured_line(source, line.count) if line.kind == "measured" else None
    if isinstance(source, MemoryOption):
        return _module_line(source, line.count) if line.kind == "module" else None
    if source is None:
        return None
    of, what = source
    if isinstance(of, PurchaseUnit):
        parts = _unit_lines(instance, of, _offer(source)[1], line.count) if line.kind == "unit" else {}
        return _together(parts.values()) if parts else None
    if isinstance(what, LinkOption):
        return _link_line(of, what, line.count) if line.kind == "link" else None
    return _server_line(of, what, line.count) if line.kind == "server" else None


def check_purchase(plan: Plan, findings: Findings) -> Basket:
    """Price every line of the purchase anew and return what was bought."""
    instance = plan.instance
    items = offered(instance)
    linked: dict[str, int] = defaultdict(int)
    basket = Basket(
        {option.name: Bought() for option in instance.hardware},
        {pool.name: Bought() for pool in instance.measured_pools},
        {unit.name: 0 for unit in instance.units},
        {tier.name: Bought() for tier in instance.memory},
    )
    taken: dict[str, int] = defaultdict(int)
    for line in plan.solution.purchase:
        name = f"purchase {line.item}"
        if line.count < 0:
            findings.fail(f"{name}: count", 0, line.count)
            continue
        bought, source = priced(instance, line), items.get(line.item)
        if bought is None or source is None:
            wanted = f"{name}: an offer, measured pool, memory or link of the problem"
            findings.fail(wanted, ", ".join(items), line.item)
            continue
        if isinstance(source, MeasuredPool):
            _add(basket.measured[line.item], bought)
        elif isinstance(source, MemoryOption):
            _add(basket.memory[line.item], bought)
            findings.one_of(f"{name}: price_date", line.price_date, (source.price_date,))
        else:
            of, what = source
            if isinstance(of, PurchaseUnit):
                basket.units[of.name] += line.count
                for held, part in _unit_lines(instance, of, _offer(source)[1], line.count).items():
                    _add(basket.hardware[held], part)
            else:
                _add(basket.hardware[of.name], bought)
            if isinstance(what, LinkOption):
                linked[of.name] += line.count
            else:
                taken[line.item] += bought.accelerators
            findings.one_of(f"{name}: price_date", line.price_date, (what.price_date,))
        findings.equal(f"{name}: accelerators", line.accelerators, bought.accelerators)
        findings.equal(f"{name}: $/h at the offer's price", line.usd_per_hour, bought.usd_per_hour)
        findings.equal(f"{name}: capital, $", line.capital_usd, bought.capital_usd)
    together: dict[str, int] = defaultdict(int)
    for item, accelerators in taken.items():
        of, offer = _offer(items[item])
        if accelerators:
            findings.at_least(f"offer {item}: min, accelerators", accelerators, offer.min_accelerators)
        # What is to be had of an offer is to be had whatever the network.
        whole = f"{of.hardware if isinstance(of, HardwareOption) else of.name}/{offer.name}"
        together[whole] += accelerators
        if offer.max_accelerators is not None:
            findings.at_most(f"offer {item}: max, accelerators", together[whole], offer.max_accelerators)
    for option in instance.hardware:
        if option.link is not None:
            servers = basket.hardware[option.name].count
            name = f"purchase {option.name}: servers with {option.link.name}"
            findings.equal(name, linked[option.name], servers)
    return basket


def _offer(item: Item) -> tuple[HardwareOption | PurchaseUnit, Offer]:
    """Of an item that is known to be one."""
    assert isinstance(item, tuple)
    of, offer = item
    assert isinstance(offer, Offer)
    return of, offer


def check_enough(plan: Plan, basket: Basket, findings: Findings) -> None:
    """Replicas and spares pack into the servers bought."""
    for option in plan.instance.hardware:
        bought = basket.hardware[option.name]
        kinds = {None: bought.count, True: bought.without_power, False: bought.count - bought.without_power}
        for kind, count in kinds.items():
            pools = [pool for pool in plan.modelled.values() if kind in (None, pool.entry.pays_electricity)]
            needed = sum(servers_by_modules(option, pools).values())
            words = {None: "", True: " whose electricity is paid apart", False: " with electricity included"}
            name = f"hardware {option.name}: servers{words[kind]} for its replicas and spares"
            findings.at_least(name, count, needed)
    for source in plan.instance.measured_pools:
        needed = sum(p.entry.replicas + p.entry.spares for p in plan.measured.values() if p.source is source)
        name = f"measured pool {source.name}: replicas and spares bought"
        findings.at_least(name, basket.measured[source.name].count, needed)


def servers_by_modules(option: HardwareOption, pools: Iterable[ModelledPool]) -> dict[tuple[str, float], int]:
    """Servers of a hardware that pools need, by the (tier, modules) that their accelerators have attached.

    Replicas with other modules, or with none, stand in other servers.
    """
    kinds: dict[tuple[str, float], dict[int, int]] = {}
    for pool in pools:
        use = pool.entry.attached
        key = ("", 0.0) if use is None else (use.tier, use.modules_per_accelerator)
        for part, size in pool.places:
            if part is option:
                sizes = kinds.setdefault(key, defaultdict(int))
                sizes[size] += pool.entry.replicas + pool.entry.spares
    return {key: servers_needed(sizes, option.server_accelerators) for key, sizes in kinds.items()}


def check_limits(plan: Plan, basket: Basket, findings: Findings) -> None:
    """Inventory, capital, site power, racks, designs, vendors."""
    instance = plan.instance
    limits, site = instance.limits, instance.site
    for item in limits.inventory:
        found = sum(basket.hardware[name].accelerators for name in item.hardware)
        found += sum(basket.measured[name].accelerators for name in item.measured)
        findings.at_most(f"limits.inventory.{item.name}, accelerators", found, item.accelerators)
    if limits.capital_usd is not None:
        capital = sum(bought.capital_usd for bought in basket.items)
        findings.at_most("limits.budget.capital, $", capital, limits.capital_usd)
    if site.power_w is not None:
        findings.at_most("site.power, W", provisioned_power_w(plan, basket), site.power_w)
    for rack in site.racks:
        used = 0.0
        for of, count in _standing(plan, basket):
            if of.rack == rack.name and count:
                parts = _held(instance, of) if isinstance(of, PurchaseUnit) else [of]
                peak = sum(_peak_power_w(option) * option.server_accelerators for option in parts)
                each = math.floor(rack.power_w / peak + 1e-9)
                used += count / each if each else math.inf
        findings.at_most(f"site.racks.{rack.name}, racks", used, rack.count)
    existing = {
        f"{option.name}/{offer.name}": (offer.max_accelerators or 0) // option.server_accelerators
        for option in instance.hardware
        for offer in option.offers
        if offer.kind == "existing"
    }
    if limits.churn_servers is not None and existing:
        kept = sum(line.count for line in plan.solution.purchase if line.item in existing)
        least = (1.0 - limits.churn_servers) * sum(existing.values())
        findings.at_least("limits.churn.servers: existing servers that stay", kept, least)
    if limits.max_designs is not None:
        designs = len({pool.design for pool in plan.pools})
        findings.at_most("limits.max_designs", designs, limits.max_designs)
    if limits.max_vendors is not None:
        vendors = {o.accelerator.vendor for o in instance.hardware if basket.hardware[o.name].count}
        # A measured accelerator's name is free text: it stands for its vendor.
        vendors |= {p.accelerator for p in instance.measured_pools if basket.measured[p.name].count}
        findings.at_most("limits.vendors", len(vendors), limits.max_vendors)


def check_redundancy(plan: Plan, basket: Basket, findings: Findings) -> None:
    """Each group has spares for the replicas that one lost server takes with it (all of them, if fewer), elsewhere."""
    if plan.instance.redundancy.survive != "one-server":
        return
    groups = defaultdict(list)
    for pool in plan.pools:
        groups[pool.design].append(pool)
    for members in groups.values():
        first = members[0]
        lost = 1
        if isinstance(first, ModelledPool):
            lost = max(1, *(part.server_accelerators // size for part, size in first.places))
        replicas = sum(pool.entry.replicas for pool in members)
        spares = sum(pool.entry.spares for pool in members)
        name = f"group {first.entry.group}: spares that survive the loss of one server"
        findings.at_least(name, spares, min(lost, replicas))
        if isinstance(first, ModelledPool):
            for part, _ in first.places:
                name = f"group {first.entry.group}: servers of {part.name}, one of which may be lost"
                findings.at_least(name, basket.hardware[part.name].count, 2)


def provisioned_power_w(plan: Plan, basket: Basket) -> float:
    """Peak at the meter, PUE included."""
    return sum(bought.peak_power_w for bought in basket.items) * plan.instance.site.pue


def _server_line(option: HardwareOption, offer: Offer, count: int) -> Bought:
    accelerators = count * option.server_accelerators
    usd_per_hour = accelerators * offer_usd_per_hour(offer)
    return Bought(
        count=count,
        accelerators=accelerators,
        usd_per_hour=usd_per_hour,
        capital_usd=accelerators * (offer.capital_usd_per_accelerator or 0.0),
        peak_power_w=accelerators * _peak_power_w(option),
        without_power=0 if offer.includes_power else count,
        usd_without_power=0.0 if offer.includes_power else usd_per_hour,
    )


def _standing(plan: Plan, basket: Basket) -> Iterator[tuple[HardwareOption | PurchaseUnit, int]]:
    """Everything that takes a place in a rack, and how many: units, and servers that stand in none."""
    for option in plan.instance.hardware:
        bought = basket.hardware[option.name]
        yield option, bought.count - bought.in_units
    for unit in plan.instance.units:
        yield unit, basket.units[unit.name]


def _held(instance: Instance, unit: PurchaseUnit) -> list[HardwareOption]:
    """The hardware of which a unit holds a server each."""
    options = {option.name: option for option in instance.hardware}
    return [options[name] for name in unit.hardware]


def _unit_lines(instance: Instance, unit: PurchaseUnit, offer: Offer, count: int) -> dict[str, Bought]:
    """What a number of units brings of each hardware; the price is divided by the servers' provisioned power."""
    lines = {option.name: _server_line(option, offer, count) for option in _held(instance, unit)}
    total = _together(lines.values())
    for line in lines.values():
        share = line.peak_power_w / total.peak_power_w if total.peak_power_w else 1.0 / len(lines)
        for word in ("usd_per_hour", "capital_usd", "usd_without_power"):
            setattr(line, word, share * getattr(total, word))
        line.in_units = count
    return lines


def _together(lines: Iterable[Bought]) -> Bought:
    total = Bought()
    for line in lines:
        _add(total, line)
    return total


def _peak_power_w(option: HardwareOption) -> float:
    """Provisioned power of one accelerator with the network that it was bought with."""
    return peak_power_w(option.accelerator) + (option.link.power_w if option.link else 0.0)


def _link_line(option: HardwareOption, link: LinkOption, servers: int) -> Bought:
    accelerators = servers * option.server_accelerators
    return Bought(
        usd_per_hour=accelerators * module_usd_per_hour(link), capital_usd=accelerators * link.capital_usd
    )


def _measured_line(pool: MeasuredPool, count: int) -> Bought:
    return Bought(
        count=count,
        accelerators=count * pool.accelerators_per_replica,
        usd_per_hour=count * pool.cost_usd_per_hour,
        peak_power_w=count * pool.power_w,
    )


def _module_line(tier: MemoryOption, count: int) -> Bought:
    return Bought(
        count=count,
        usd_per_hour=count * module_usd_per_hour(tier),
        capital_usd=count * tier.capital_usd,
        peak_power_w=count * tier.power_w,
        without_power=count,
    )


def _add(total: Bought, line: Bought) -> None:
    for name, value in vars(line).items():
        setattr(total, name, getattr(total, name) + value)
