"""The catalogue as lists, and one entry with everything that is known of it and where that was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from codesign import catalog
from codesign.catalog import Accelerator, Entry, Link, MemoryTier, ModelCard, PriceList, WorkloadPreset
from codesign.performance.parts import tdp_of
from codesign.report.console import line, make_table, quantity
from codesign.units import quantity_kind
from codesign.workload.parameters import parameter_counts


@dataclass(frozen=True)
class Section:
    """One kind of entry: where it comes from and what a list of it shows."""

    noun: str
    """Of one entry."""
    entries: Callable[[], Mapping[str, Any]]
    left: tuple[str, ...]
    right: tuple[str, ...]
    last: tuple[str, ...]
    row: Callable[[Any], tuple[str, ...]]


def overview() -> Group:
    """Every section with its entries' names."""
    table = make_table("Catalogue", ("section",), ("entries",), ("names",))
    for name, section in SECTIONS.items():
        names = list(section.entries())
        table.add_row(name, str(len(names)), ", ".join(names))
    return Group(table, "codesign catalog SECTION lists one, codesign catalog SECTION NAME shows an entry.")


def listing(name: str) -> Group:
    """The table of a section."""
    section = SECTIONS[name]
    table = make_table(name.capitalize(), section.left, section.right, section.last)
    for entry in section.entries().values():
        table.add_row(*section.row(entry))
    return Group(table, f"codesign catalog {name} NAME shows an entry with its sources.")


def cited_sources(entry: Entry) -> dict[str, catalog.Source]:
    """The sources that an entry names by code, by code."""
    texts = getattr(entry, "sources", {}).values()
    if isinstance(entry, PriceList):
        texts = (entry.source, *entry.basis.values())
    known = catalog.sources()
    words = [word for text in texts for word in re.split(r"[^\w.+-]+", text)]
    return {word: known[word] for word in words if word in known}


def entry_report(name: str, entry: Entry) -> Group:
    """One entry: fields in units, what they mean, sources by group of fields, assumptions and notes."""
    return Group(*_entry(name, entry))


_APART = ("sources", "assumptions", "notes", "entries", "dates", "basis", "unverified")


def _entry(name: str, entry: Entry) -> Iterator[RenderableType]:
    table = make_table(SECTIONS[name].noun, ("field", "value", "meaning"))
    for field, info in type(entry).model_fields.items():
        value = getattr(entry, field)
        if field in _APART or value in ("", 0, None, False):
            continue
        kind = quantity_kind(info.annotation, tuple(info.metadata))
        shown = quantity(value, kind) if kind else _words(value)
        meaning = (info.description or "").split("\n")[0]
        table.add_row(field, shown, Text(meaning, style="dim"))
    for field, value, meaning in _derived(entry):
        table.add_row(field, value, Text(meaning, style="dim"))
    yield table
    if isinstance(entry, PriceList):
        yield _prices(entry)
    by_group: Mapping[str, str] = getattr(entry, "sources", {})
    if by_group:
        groups = make_table("Sources", ("of", "source"))
        for group, text in by_group.items():
            groups.add_row(group, text)
        yield groups
    cited = cited_sources(entry)
    if cited:
        codes = make_table("Codes", ("code", "publication", "date"))
        for code, source in cited.items():
            codes.add_row(code, source.text, source.date)
        yield codes
    for assumption in getattr(entry, "assumptions", ()):
        yield line(f"Assumption: {assumption}", "yellow")
    notes = getattr(entry, "notes", "")
    if notes:
        yield line(f"Note: {notes}")


def _derived(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """What follows from an entry."""
    if isinstance(entry, ModelCard):
        counts = parameter_counts(entry)
        yield "total parameters", f"{counts.total:,}", "Computed from the dimensions above."
        yield "active parameters", f"{counts.active:,}", "Of one token; computed."
    if isinstance(entry, Accelerator):
        watts, source = tdp_of(entry)
        if source:
            meaning = f"Not published: {source} (assumption; set hardware.NAME.tdp)."
            yield "tdp", f"~{quantity(watts, 'power', 2)}", meaning
        price = catalog.default_price(entry.id)
        if price is not None:
            note = "" if price.verified else ", unverified"
            yield "price", f"{price.usd_per_hour:g} $/h", f"By default: {price.list_id}, {price.date}{note}."


def _prices(prices: PriceList) -> Table:
    table = make_table("Entries", ("accelerator",), ("$/h",), ("date", "basis"))
    for accelerator, price in prices.entries.items():
        basis = prices.basis.get(accelerator, "")
        if accelerator in prices.unverified:
            basis = f"{basis} (unverified)".strip()
        table.add_row(accelerator, f"{price:.3f}", str(prices.dates.get(accelerator, prices.date)), basis)
    return table


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _accelerator(part: Accelerator) -> tuple[str, ...]:
    price = catalog.default_price(part.id)
    return (
        part.id,
        part.vendor,
        quantity(part.memory_capacity, "bytes"),
        quantity(part.memory_bandwidth, "bandwidth"),
        quantity(part.fp16_flops, "flops").removesuffix("FLOPS"),
        quantity(part.fp8_flops, "flops").removesuffix("FLOPS"),
        quantity(part.fp4_flops, "flops").removesuffix("FLOPS"),
        _tdp(part),
        str(part.scaleup_domain),
        "–" if price is None else f"{price.usd_per_hour:.2f}",
        str(part.year or "–"),
        part.status.split(maxsplit=1)[0],
    )


def _tdp(part: Accelerator) -> str:
    """As published, else marked as the assumption that plans would take."""
    watts, source = tdp_of(part)
    return quantity(watts, "power") if not source else f"~{quantity(watts, 'power', 2)}"


def _model(card: ModelCard) -> tuple[str, ...]:
    counts = parameter_counts(card)
    return (
        card.id,
        card.kind,
        card.attention,
        f"{counts.total / 1e9:,.1f}",
        f"{counts.active / 1e9:,.1f}",
        str(card.layers),
        quantity(card.max_context, "tokens"),
        card.native_precision,
    )


def _memory(tier: MemoryTier) -> tuple[str, ...]:
    return (
        tier.id,
        tier.unit,
        quantity(tier.capacity, "bytes"),
        quantity(tier.bandwidth, "bandwidth"),
        "–" if tier.energy_pj_per_bit is None else f"{tier.energy_pj_per_bit:g}",
        quantity(tier.latency, "time"),
        quantity(tier.price, "usd_per_byte"),
        tier.price_date or "–",
        tier.confidence,
    )


def _link(link: Link) -> tuple[str, ...]:
    return (
        link.id,
        link.kind,
        link.unit,
        quantity(link.bandwidth, "bandwidth"),
        "–" if link.energy_pj_per_bit is None else f"{link.energy_pj_per_bit:g}",
        quantity(link.latency, "time"),
        "–" if link.usd_per_gbps is None else f"{link.usd_per_gbps:g}",
        link.confidence,
    )


def _workload(preset: WorkloadPreset) -> tuple[str, ...]:
    fields = preset.task_fields()
    return (
        preset.id,
        *(_words(fields[field]) for field in ("calls", "context", "append", "output", "tool_wait", "prefix")),
        "assumption" if preset.assumption else "sourced",
    )


def _price_list(prices: PriceList) -> tuple[str, ...]:
    basis = "yes" if prices.includes_power else "no"
    return prices.id, str(prices.date), basis, str(len(prices.entries)), prices.source


SECTIONS: Mapping[str, Section] = {
    "accelerators": Section(
        "accelerator",
        catalog.accelerators,
        ("id", "vendor"),
        ("memory", "bandwidth", "FP16 FLOPS", "FP8", "FP4", "TDP", "domain", "$/h", "year"),
        ("status",),
        _accelerator,
    ),
    "models": Section(
        "model",
        catalog.models,
        ("id", "kind", "attention"),
        ("total B", "active B", "layers", "context"),
        ("released in",),
        _model,
    ),
    "memory": Section(
        "memory",
        catalog.memory_tiers,
        ("id", "unit"),
        ("capacity", "bandwidth", "pJ/bit", "latency", "price"),
        ("price date", "confidence"),
        _memory,
    ),
    "links": Section(
        "link",
        catalog.links,
        ("id", "kind", "unit"),
        ("bandwidth", "pJ/bit", "latency", "$/(Gb/s)"),
        ("confidence",),
        _link,
    ),
    "workloads": Section(
        "workload",
        catalog.workloads,
        ("id", "calls", "context", "append", "output", "tool wait", "prefix", "grounds"),
        (),
        (),
        _workload,
    ),
    "prices": Section(
        "price list",
        catalog.price_lists,
        ("id", "date", "with power"),
        ("entries",),
        ("source",),
        _price_list,
    ),
}
