"""Cost of ownership by hand."""

import dataclasses

import pytest

from codesign.hardware.tco import annuity_usd_per_hour, electricity_usd_per_hour, offer_usd_per_hour
from codesign.problem.instance import Offer

YEAR = 365.25 * 86400.0
RENT = Offer("reserved", "rent", 2.05, None, None, 0.0, True, 0, None, "list", "2026-08-01")
BUY = Offer("own", "capital", None, 60_500.0, 4 * YEAR, 0.09, False, 0, None, "list", "2026-08-01")


def test_rent_is_the_price():
    assert offer_usd_per_hour(RENT) == 2.05


def test_capital_is_an_annuity():
    # 9 % over 4 years: 0.30867 of the price a year.
    yearly = 60_500 * 0.09 / (1 - 1.09**-4)
    assert yearly == pytest.approx(60_500 * 0.308669, rel=1e-5)
    assert offer_usd_per_hour(BUY) == pytest.approx(yearly / 8766)
    hosted = dataclasses.replace(BUY, hosting_usd_per_accelerator_hour=0.25)
    assert offer_usd_per_hour(hosted) == pytest.approx(yearly / 8766 + 0.25)


def test_no_interest_is_straight_line_and_continuous():
    assert annuity_usd_per_hour(8766.0, 2 * YEAR, 0.0) == pytest.approx(0.5)
    assert annuity_usd_per_hour(8766.0, 2 * YEAR, 1e-9) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("life", "interest"), [(0.0, 0.09), (-1.0, 0.09), (YEAR, -0.1)])
def test_impossible_terms_are_refused(life, interest):
    with pytest.raises(ValueError, match="expected"):
        annuity_usd_per_hour(1.0, life, interest)


@pytest.mark.parametrize(
    "offer",
    [
        dataclasses.replace(RENT, usd_per_accelerator_hour=None),
        dataclasses.replace(BUY, life_s=None),
        dataclasses.replace(BUY, capital_usd_per_accelerator=None),
    ],
)
def test_incomplete_offers_are_refused(offer):
    with pytest.raises(ValueError, match=offer.name):
        offer_usd_per_hour(offer)


def test_electricity_includes_cooling():
    # 1 kW at PUE 1.25 and 0.08 $/kWh.
    assert electricity_usd_per_hour(1000.0, 1.25, 0.08 / 3.6e6) == pytest.approx(0.1)
