"""Links in a problem file: networks that servers may be bought with in place of those that they are sold with."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from codesign.catalog import Accelerator, links
from codesign.problem.errors import FieldError
from codesign.problem.explain import Faults
from codesign.problem.fields import Name, Part, PositiveCount, PositiveDuration, written
from codesign.problem.instance import HardwareOption, LinkOption
from codesign.units import BytesPerSecond, Dollars, Fraction, Watts

_GBPS = 1e9 / 8.0


class LinkChoice(Part):
    """A network for each accelerator of a server; hardware that lists it may be bought with it or as it is sold.

    What is left out is that of the catalogue's link.
    """

    link: Name
    """Kind of link in the catalogue (`codesign catalog links`)."""
    network: Literal["scaleout", "scaleup"] = "scaleout"
    """Which network of the accelerator it replaces."""
    ports: PositiveCount = 1
    """Links of this kind for each accelerator."""
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """Of one port, per direction."""
    domain: PositiveCount | None = None
    """Accelerators in one scale-up network; default: as the hardware is sold."""
    price: Dollars | None = None
    """Purchase price for each accelerator, on top of the hardware's; default: the catalogue's $ per Gb/s."""
    power: Watts | None = None
    """For each accelerator, whatever is sent; default: the catalogue's energy per bit at full rate."""
    life: PositiveDuration = written("4 years")
    """Time over which the price is written off (assumption)."""
    interest: Fraction = written("9%")
    """Cost of capital per year (assumption)."""

    @model_validator(mode="after")
    def _domain_of_scaleup(self) -> LinkChoice:
        if self.domain is not None and self.network != "scaleup":
            raise FieldError("domain of a scale-out network", "network: scaleup, or no domain", words=True)
        return self


def link_option(name: str, part: LinkChoice, faults: Faults) -> LinkOption | None:
    """The network with all figures filled in; a price that nobody knows is noted in `faults`."""
    entry = links()[part.link]
    bandwidth = part.ports * (part.bandwidth or entry.bandwidth)
    price = part.price
    if price is None and entry.usd_per_gbps is not None:
        price = entry.usd_per_gbps * bandwidth / _GBPS
    if price is None:
        expected = "a price such as 800 $ per accelerator: the catalogue has none for this link"
        faults.add(("links", name, "price"), "nothing", expected, words=True)
        return None
    watts = 8e-12 * (entry.energy_pj_per_bit or 0.0) * bandwidth if part.power is None else part.power
    return LinkOption(
        name=name,
        technology=entry.name,
        network=part.network,
        bandwidth_bytes_per_s=bandwidth,
        domain=part.domain,
        capital_usd=price,
        life_s=part.life,
        interest=part.interest,
        power_w=watts,
        price_source="problem file" if part.price is not None else f"catalogue: {entry.id}",
        price_date="" if part.price is not None else entry.price_date,
    )


def within_server(option: HardwareOption, host_accelerators: int) -> HardwareOption:
    """The hardware in servers as they are bought: links that end at a host of so many join no more than one server.

    Those of rack-scale parts, whose scale-up network joins hosts, go on; in a full mesh a part of the server has that
    part of the links.
    """
    part: Accelerator = option.accelerator
    domain = min(part.scaleup_domain, option.server_accelerators)
    if part.scaleup_domain > host_accelerators or domain == part.scaleup_domain:
        return option
    changes: dict[str, object] = {"scaleup_domain": domain}
    if "mesh" in part.scaleup_topology:
        peers = max(domain - 1, 1) / (part.scaleup_domain - 1)
        changes["scaleup_bandwidth"] = part.scaleup_bandwidth * peers
    return replace(option, accelerator=part.model_copy(update=changes))


def with_link(option: HardwareOption, link: LinkOption) -> HardwareOption:
    """The same hardware with another network: an option of its own, named after both."""
    part: Accelerator = option.accelerator
    changes: dict[str, object] = {"scaleout_bandwidth": link.bandwidth_bytes_per_s}
    if link.network == "scaleup":
        changes = {
            "scaleup_bandwidth": link.bandwidth_bytes_per_s,
            "scaleup_technology": link.technology,
            "scaleup_domain": link.domain or part.scaleup_domain,
            "scaleup_topology": "switched",
        }
    return HardwareOption(
        name=f"{option.name}+{link.name}",
        accelerator=part.model_copy(update=changes),
        catalogue_id=option.catalogue_id,
        server_accelerators=option.server_accelerators,
        rack=option.rack,
        roles=option.roles,
        # Servers that are there already have their network.
        offers=tuple(offer for offer in option.offers if offer.kind != "existing"),
        base=option.name,
        link=link,
    )
