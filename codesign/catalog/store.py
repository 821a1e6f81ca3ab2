"""Lookups: the catalogue's data files, read when first asked for and then kept."""

import datetime
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from codesign.catalog.schema import (
    Accelerator,
    AcceptanceRecord,
    E,
    Link,
    MemoryTier,
    ModelCard,
    PriceList,
    Source,
    WorkloadPreset,
)

DEFAULT_PRICE_LISTS = ("semianalysis-2026-08-rental", "retail-2026-07")
"""The price of a part is taken from the first of these lists that has it."""


class Price(NamedTuple):
    """A price with where it comes from."""

    usd_per_hour: float
    list_id: str
    date: datetime.date
    verified: bool


def _read(file: str, kind: type[E]) -> Mapping[str, E]:
    text = files("codesign.catalog").joinpath("data", file).read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    return MappingProxyType(
        {name: kind.model_validate({"id": name, **table}) for name, table in tables.items()}
    )


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """Every accelerator, by id."""
    return _read("accelerators.toml", Accelerator)


@cache
def models() -> Mapping[str, ModelCard]:
    """Every model card, by id."""
    return _read("models.toml", ModelCard)


@cache
def acceptance_records() -> Mapping[str, AcceptanceRecord]:
    """Published acceptance of drafted tokens, by id."""
    return _read("speculation.toml", AcceptanceRecord)


@cache
def memory_tiers() -> Mapping[str, MemoryTier]:
    """Every kind of memory, by id."""
    return _read("memory.toml", MemoryTier)


@cache
def links() -> Mapping[str, Link]:
    """Every kind of link, by id."""
    return _read("links.toml", Link)


@cache
def workloads() -> Mapping[str, WorkloadPreset]:
    """Every workload preset, by id."""
    return _read("workloads.toml", WorkloadPreset)


@cache
def price_lists() -> Mapping[str, PriceList]:
    """Every price list, by id."""
    return _read("prices.toml", PriceList)


@cache
def sources() -> Mapping[str, Source]:
    """The sources that entries cite, by code."""
    return _read("sources.toml", Source)


def listed_price(accelerator_id: str, list_id: str) -> Price | None:
    """The price of an accelerator in one list; None where the list does not have it.

    Raises:
        KeyError: no such list.
    """
    prices = price_lists()[list_id]
    if accelerator_id not in prices.entries:
        return None
    return Price(
        usd_per_hour=prices.entries[accelerator_id],
        list_id=list_id,
        date=prices.dates.get(accelerator_id, prices.date),
        verified=accelerator_id not in prices.unverified,
    )


def default_price(accelerator_id: str) -> Price | None:
    """The price by which an accelerator without offers is bought; None where no default list has it."""
    candidates = (listed_price(accelerator_id, list_id) for list_id in DEFAULT_PRICE_LISTS)
    return next((price for price in candidates if price is not None), None)


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """The known names that look most like a (misspelt) one, best first; empty where none is close."""
    by_folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.5)
    return [by_folded[match] for match in found]
