"""Prices in a problem file: offers of accelerators by themselves, and of units in which several kinds come together.

A unit is one purchase: a rack that holds a server of prefill chips and a server of decode chips, say.  Each of its
servers is filled like any other of its kind; what is not filled is paid for all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from codesign.problem import instance as inst
from codesign.problem.errors import FieldError
from codesign.problem.fields import Capital, Count, Flag, Name, Part, PositiveCount, PositiveDuration, written
from codesign.units import Dollars, Fraction, UsdPerHour


class _Terms(Part):
    """What every offer says."""

    rent: UsdPerHour | None = None
    capital: object = None
    life: PositiveDuration = written("4 years")
    """Time over which capital is written off (assumption)."""
    interest: Fraction = written("9%")
    """Cost of capital per year (assumption)."""
    includes_power: Flag | None = None
    """Whether the price pays for electricity; default: rent does, capital does not."""
    min: PositiveCount | None = None
    max: Count | None = None
    periods: Annotated[list[Name], Field(min_length=1)] | None = None
    """Names under `periods` in which it is held (and paid for), the same servers in each; default: all. For other
    numbers in other periods, give one offer for each."""

    @model_validator(mode="after")
    def _consistent(self) -> _Terms:
        if (self.rent is None) == (self.capital is None):
            raise FieldError(
                "neither or both of rent and capital", "one of them, such as rent: 2.05 $/h", words=True
            )
        if self.min is not None and self.max is not None and self.max < self.min:
            raise FieldError(f"max {self.max} below min {self.min}", "max of at least min", words=True)
        return self


class Offer(_Terms):
    """A price: rent per accelerator and hour, or capital over a life."""

    rent: UsdPerHour | None = None
    """Per accelerator."""
    capital: Capital | None = None
    """Purchase price per accelerator, such as 28000 $; or of a server: 4.36 M$/server."""
    hosting: UsdPerHour = 0
    """Space, staff and network of a purchased accelerator, without electricity."""
    min: PositiveCount | None = None
    """Least number of accelerators that is taken, if any is."""
    max: Count | None = None
    """Greatest number of accelerators that is to be had."""


class UnitOffer(_Terms):
    """A price of a whole unit: rent per hour, or capital over a life."""

    rent: UsdPerHour | None = None
    """Of the whole unit."""
    capital: Dollars | None = None
    """Purchase price of the whole unit, such as 3.1 M$."""
    hosting: UsdPerHour = 0
    """Space, staff and network of a purchased unit, without electricity."""
    min: PositiveCount | None = None
    """Least number of units that is taken, if any is."""
    max: Count | None = None
    """Greatest number of units that is to be had."""


class PurchaseUnit(Part):
    """Servers of several kinds that are sold together: prefill chips and decode chips in one rack, say.

    Hardware that a unit holds may also be sold by itself; `offers: {}` says that it is not.
    """

    servers: Annotated[list[Name], Field(min_length=2)]
    """Names under `hardware`: a unit holds one server of each (`server.accelerators` says how large it is), with the
    network that it is sold with."""
    rack: Name | None = None
    """Kind of rack (under `site.racks`) that the unit must stand in, whatever its servers say."""
    offers: Annotated[dict[Name, UnitOffer], Field(min_length=1)]
    """Offers by name."""

    @model_validator(mode="after")
    def _each_once(self) -> PurchaseUnit:
        twice = [name for name in self.servers if self.servers.count(name) > 1]
        if twice:
            raise FieldError(
                f"'{twice[0]}' twice in servers",
                "each hardware once: server.accelerators of the hardware says how many accelerators a unit holds",
                words=True,
            )
        return self


def hardware_offer(name: str, offer: Offer, server_accelerators: int) -> inst.Offer:
    """The offer of a hardware whose servers hold so many accelerators."""
    each = None
    if offer.capital is not None:
        each = offer.capital.amount / (server_accelerators if offer.capital.per_server else 1)
    return _offer(name, offer, offer.rent, each, offer.hosting, 1)


def purchase_unit(name: str, part: PurchaseUnit, accelerators: Mapping[str, int]) -> inst.PurchaseUnit:
    """The unit with its prices per accelerator; `accelerators` of one server, by name of the hardware."""
    size = sum(accelerators[word] for word in part.servers)
    offers = tuple(
        _offer(
            word,
            offer,
            None if offer.rent is None else offer.rent / size,
            None if offer.capital is None else offer.capital / size,
            offer.hosting / size,
            size,
        )
        for word, offer in part.offers.items()
    )
    return inst.PurchaseUnit(name, tuple(part.servers), size, part.rack, offers)


def _offer(
    name: str, terms: _Terms, rent: float | None, capital: float | None, hosting: float, size: int
) -> inst.Offer:
    """Prices are per accelerator; `min` and `max` count things of `size` accelerators."""
    return inst.Offer(
        name=name,
        kind="rent" if capital is None else "capital",
        usd_per_accelerator_hour=rent,
        capital_usd_per_accelerator=capital,
        life_s=None if capital is None else terms.life,
        interest=0.0 if capital is None else terms.interest,
        includes_power=rent is not None if terms.includes_power is None else terms.includes_power,
        min_accelerators=(terms.min or 0) * size,
        max_accelerators=None if terms.max is None else terms.max * size,
        price_source="problem file",
        price_date="",
        periods=None if terms.periods is None else tuple(terms.periods),
        hosting_usd_per_accelerator_hour=hosting,
    )
