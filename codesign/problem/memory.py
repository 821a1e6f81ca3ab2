"""Memory tiers in a problem file: which modules may be bought beside the accelerators' own memory, and for what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codesign.catalog import links, memory_tiers
from codesign.problem.errors import FieldError
from codesign.problem.explain import Faults
from codesign.problem.fields import Count, Name, Part, PositiveCount, PositiveDuration, PositiveNumber, written
from codesign.problem.instance import Attached, HardwareOption, MemoryOption
from codesign.units import Bytes, BytesPerSecond, Fraction, Seconds, UsdPerByte, Watts

_PICO = 1e-12


class Attachment(Part):
    """Modules that accelerators have to themselves, for active KV or weights: what every step reads."""

    modules: Annotated[list[PositiveNumber], Field(min_length=1)]
    """Modules for each accelerator, to choose from; below 1 where accelerators share one (0.0625: 16 do). All
    accelerators of a server set aside for such replicas have them."""
    link: Name | None = None
    """Link between an accelerator and its modules, of the catalogue: bandwidth, latency and energy."""
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """Of that link; default: the catalogue's."""

    @model_validator(mode="after")
    def _has_a_link(self) -> Attachment:
        if self.link is None and self.bandwidth is None:
            raise FieldError("neither link nor bandwidth", "link: nvlink-c2c, or bandwidth: 450 GB/s", words=True)
        return self


class Memory(Part):
    """Modules of a memory tier that hold KV between calls (or more, where the tier is fit for it).

    KV in a tier travels over the scale-out network of the replica that reads it: any replica can take up any
    session. What is left out is that of the catalogue's tier.
    """

    tier: Name
    """Kind of memory in the catalogue (`codesign catalog memory`)."""
    price: UsdPerByte | None = None
    """Purchase price; default: the catalogue's, with its date."""
    module: Annotated[Bytes, Field(gt=0)] | None = None
    """Capacity of one module, the unit that is bought."""
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """Of one module, for reads."""
    write_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """Of one module, for writes; default: that for reads."""
    latency: Seconds | None = None
    stripe: PositiveCount = 1
    """Modules over which each session is spread, so that it is read from all of them at once."""
    fill: Annotated[Fraction, Field(gt=0)] = 0.9
    """Share of the capacity that may be in use on average; the rest takes up fluctuation (assumption)."""
    holds: Annotated[list[Literal["parked", "active", "weights"]], Field(min_length=1)] | None = None
    """What may be put there; active KV and weights only where accelerators have modules `attached`."""
    attached: Attachment | None = None
    """How accelerators read what they hold there while they work; absent: nothing but parked KV lies there."""
    power: Watts = 0
    """Of one module, whatever it does; what it moves costs the energy of the catalogue's tier on top."""
    max_per_server: Annotated[Bytes, Field(gt=0)] | None = None
    """Most that one server takes; absent: the modules stand on the network in appliances of their own."""
    included_per_server: Bytes = 0
    """What every server has already, at no price of its own."""
    hardware: Annotated[list[Name], Field(min_length=1)] | None = None
    """Names under `hardware` whose servers take the modules; default: all."""
    max_modules: Count | None = None
    """Modules to be had."""
    life: PositiveDuration = written("4 years")
    """Time over which the price is written off (assumption)."""
    interest: Fraction = written("9%")
    """Cost of capital per year (assumption)."""

    @model_validator(mode="after")
    def _places(self) -> Memory:
        if self.max_per_server is None and (self.included_per_server or self.hardware is not None):
            raise FieldError(
                "included_per_server or hardware without max_per_server",
                "max_per_server: the most that one server takes",
                words=True,
            )
        if self.max_per_server is not None and self.included_per_server > self.max_per_server:
            raise FieldError("included_per_server above max_per_server", "at most max_per_server", words=True)
        return self


def memory_option(
    name: str, part: Memory, hardware: tuple[HardwareOption, ...], faults: Faults
) -> MemoryOption | None:
    """The tier with all figures filled in; what neither the file nor the catalogue knows is noted in `faults`.

    All options of `hardware` take modules unless the file says which.
    """
    entry = memory_tiers()[part.tier]
    module = part.module or entry.capacity
    price = entry.price if part.price is None else part.price
    read = part.bandwidth or entry.bandwidth
    holds = tuple(part.holds or entry.holds)
    known = True
    for word, value, example in (
        ("price", price, "a price such as 13.8 $/GB: the catalogue has none for this tier"),
        ("module", module, "a capacity such as 64 GB: the catalogue has none for this tier"),
        ("bandwidth", read, "a bandwidth such as 38 GB/s: the catalogue has none for this tier"),
    ):
        if value is None:
            faults.add(("memory", name, word), "nothing", example, words=True)
            known = False
    unfit = [word for word in holds if word != "weights"] if "weights" in entry.holds else []
    if unfit and len(entry.holds) == 1:
        faults.add(("memory", name, "holds"), ", ".join(unfit), f"weights: {entry.notes}", words=True)
    worked = [word for word in holds if word != "parked"]
    if part.holds is not None and worked and part.attached is None:
        expected = "attached: {link: nvlink-c2c, modules: [4]}, how an accelerator reads them"
        faults.add(("memory", name, "holds"), f"{' and '.join(worked)} without attached", expected, words=True)
    if part.attached is not None and not worked:
        expected = "holds: [parked, active], or weights: what accelerators keep in modules of their own"
        faults.add(("memory", name, "attached"), "modules for nothing but parked KV", expected, words=True)
    if part.attached is not None and module is not None:
        _check_places(name, part, part.attached, module, hardware, faults)
    if not known or module is None or price is None or read is None:
        return None
    return MemoryOption(
        name=name,
        tier=part.tier,
        holds=holds,
        module_bytes=module,
        read_bytes_per_s=read,
        write_bytes_per_s=part.write_bandwidth or (None if part.bandwidth else entry.write_bandwidth) or read,
        duplex=entry.bandwidth_direction == "each direction",
        stripe=part.stripe,
        latency_s=(entry.latency or 0.0) if part.latency is None else part.latency,
        joules_per_byte=_joules_per_byte(entry.energy_pj_per_bit),
        power_w=part.power,
        capital_usd=price * module,
        life_s=part.life,
        interest=part.interest,
        fill=part.fill,
        hardware=()
        if part.max_per_server is None
        else tuple(o.name for o in hardware if part.hardware is None or o.hardware in part.hardware),
        max_bytes_per_server=part.max_per_server,
        included_bytes_per_server=part.included_per_server,
        max_modules=part.max_modules,
        price_source=f"catalogue: {entry.id}" if part.price is None else "problem file",
        price_date=entry.price_date if part.price is None else "",
        attached=_attached(part.attached),
    )


def _attached(part: Attachment | None) -> Attached | None:
    if part is None:
        return None
    entry = links()[part.link] if part.link is not None else None
    bandwidth = part.bandwidth or (entry.bandwidth if entry else 0.0)
    return Attached(
        modules=tuple(sorted(set(part.modules))),
        link_bytes_per_s=bandwidth,
        link_latency_s=(entry.latency or 0.0) if entry else 0.0,
        link_joules_per_byte=_joules_per_byte(entry.energy_pj_per_bit if entry else None),
    )


def _check_places(
    name: str,
    part: Memory,
    attached: Attachment,
    module_bytes: float,
    hardware: tuple[HardwareOption, ...],
    faults: Faults,
) -> None:
    """Each choice of modules fits into some server that takes them."""
    if part.max_per_server is None:
        return
    takers = [o for o in hardware if part.hardware is None or o.hardware in part.hardware]
    fewest = min((o.server_accelerators for o in takers), default=1)
    for place, modules in enumerate(attached.modules):
        if modules * fewest * module_bytes > part.max_per_server * (1 + 1e-9):
            most = part.max_per_server / module_bytes / fewest
            expected = f"at most {most:g} modules for each accelerator, as max_per_server has room for"
            faults.add(("memory", name, "attached", "modules", place), modules, expected)


def _joules_per_byte(picojoules_per_bit: float | None) -> float:
    return 8.0 * _PICO * (picojoules_per_bit or 0.0)
