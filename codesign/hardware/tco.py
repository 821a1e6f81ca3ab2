"""Cost of ownership of an accelerator for an hour, from a rental or a purchase offer.

Electricity is not in it: where an offer's ``includes_power`` is false, the planner prices the energy that a
plan draws (:func:`electricity_usd_per_hour`), since that depends on the operating point and not on the offer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign.problem.instance import LinkOption, MemoryOption, Offer

HOURS_PER_YEAR = 8766.0
"""Mean Gregorian-Julian year, 365.25 days."""
SECONDS_PER_HOUR = 3600.0


def annuity_usd_per_hour(capital_usd: float, life_s: float, interest: float) -> float:
    """Constant hourly payment that repays ``capital_usd`` over ``life_s`` at ``interest`` per year.

    C·i/(1 − (1+i)^−years) a year; C/years where interest is 0. Raises ValueError for a life that is not
    positive or a negative interest.
    """
    if life_s <= 0:
        raise ValueError(f"found a life of {life_s} s; expected a positive time such as '4 years'")
    if interest < 0:
        raise ValueError(f"found an interest of {interest}; expected a fraction per year, at least 0")
    years = life_s / (HOURS_PER_YEAR * SECONDS_PER_HOUR)
    factor = interest / (1.0 - (1.0 + interest) ** -years) if interest > 0 else 1.0 / years
    return capital_usd * factor / HOURS_PER_YEAR


def offer_usd_per_hour(offer: Offer) -> float:
    """Price of one accelerator for an hour under an offer, without the electricity that it excludes.

    Rent, and the price of keeping what exists, as they stand; capital as its annuity over the offer's life, plus
    hosting. Raises ValueError when the offer lacks the field that its kind needs.
    """
    if offer.kind != "capital":
        if offer.usd_per_accelerator_hour is None:
            raise ValueError(f"offer '{offer.name}' is a rent without a price per accelerator and hour")
        return offer.usd_per_accelerator_hour
    if offer.capital_usd_per_accelerator is None or offer.life_s is None:
        raise ValueError(f"offer '{offer.name}' is a purchase without a price or a life")
    capital = annuity_usd_per_hour(offer.capital_usd_per_accelerator, offer.life_s, offer.interest)
    return capital + offer.hosting_usd_per_accelerator_hour


def module_usd_per_hour(option: MemoryOption | LinkOption) -> float:
    """Price of one memory module, or of one accelerator's network, for an hour: its annuity."""
    return annuity_usd_per_hour(option.capital_usd, option.life_s, option.interest)


def electricity_usd_per_hour(it_power_w: float, pue: float, usd_per_joule: float) -> float:
    """Price of running ``it_power_w`` for an hour, with the cooling that PUE stands for."""
    return it_power_w * pue * usd_per_joule * SECONDS_PER_HOUR
