"""What a chip on paper is: from a design vector to area, die edge, power, and the limits that it breaks.

Compute, I/O dies and package are terms of their own. Constants come from ``data/chips.toml``, each with source,
date and range; its fitted ones stand on published parts (``data/parts.toml``, ``scripts/fit_chips.py``) and are
tested on others. Areas in mm², edges in mm, everything else SI.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

Facts = Mapping[str, Any]

_BITS = 8.0
_RETICLE_HEIGHT_MM = 33.0
_ASPECT = 2.5
_HALVINGS = 40


@lru_cache(maxsize=1)
def chip_facts() -> Facts:
    """The constants that the package ships, read once."""
    return tomllib.loads(files("codesign.hardware").joinpath("data/chips.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class MemorySystem:
    """Units of one kind of memory on a chip, and which data they may hold."""

    kind: str
    """A key of [memory] in the constants."""
    units: float
    """Stacks, devices, packages or ports."""
    holds: tuple[str, ...] = ()
    """Of weights and kv; empty: what the kind allows."""
    unit_bytes: float | None = None
    """Bytes of a unit where they differ from the kind's."""

    def bytes_per_unit(self, facts: Facts) -> float:
        """Capacity of one unit, bytes."""
        return float(self.unit_bytes or facts["memory"][self.kind]["capacity_gb"] * 1e9)

    def bytes_per_s(self, facts: Facts) -> float:
        """Bandwidth of all units, B/s."""
        return float(self.units * facts["memory"][self.kind]["bandwidth_gbps"] * 1e9)

    def may_hold(self, facts: Facts) -> tuple[str, ...]:
        """What it holds: as the design says, within what the kind can."""
        allowed = tuple(facts["memory"][self.kind]["holds"])
        return tuple(item for item in self.holds if item in allowed) or allowed


@dataclass(frozen=True)
class IoDies:
    """Dies below or beside the compute dies that carry PHYs, links, control and SRAM of their own."""

    node: str
    dies: int
    sram_bytes: float = 0.0
    area_mm2: float | None = None
    """Of all of them where it is known; else the sum of what stands on them."""


@dataclass(frozen=True)
class Design:
    """A chip's design vector."""

    node: str
    fp16_flops: float
    """Dense peak of the matrix units, FLOP/s."""
    memories: tuple[MemorySystem, ...]
    sram_bytes: float
    """On the compute dies."""
    scaleup_bytes_per_s: float
    """Per direction."""
    scaleout_bytes_per_s: float
    """Per direction."""
    fp8_ratio: float = 2.0
    """FP8 peak over the FP16 peak; 0: no such units."""
    fp4_ratio: float = 0.0
    """4-bit peak over the FP16 peak."""
    vector_flops: float = 0.0
    """FP32 peak of the vector units."""
    clock_hz: float | None = None
    """Clock at which the peaks hold; None: the node's. Energy of an operation follows it (`voltage`)."""
    enabled: float | None = None
    """Share of the units on the dies that the product uses; None: the usual share."""
    dies: int = 1
    """Compute dies in the package."""
    io: IoDies | None = None
    """None: PHYs, links and control stand on the compute dies."""
    scaleup_medium: str = "electrical"
    scaleup_domain: int = 8
    cooling: str = "liquid"


@dataclass(frozen=True)
class Area:
    """Silicon of a package by term, mm²."""

    matrix: float
    vector: float
    sram: float
    memory_phy: float
    links: float
    control: float
    die_to_die: float
    compute_dies: float
    """All compute dies together."""
    io_dies: float
    """All I/O dies together; 0 without them."""
    package: float
    """Dies and stacks that stand side by side on the package."""


@dataclass(frozen=True)
class Power:
    """Thermal design power by term, W: every unit busy at its peak."""

    matrix: float
    vector: float
    memory: float
    links: float
    leakage: float

    @property
    def tdp(self) -> float:
        """The sum."""
        return self.matrix + self.vector + self.memory + self.links + self.leakage


@dataclass(frozen=True)
class Excess:
    """How a design stands against a limit of manufacture or cooling: over 1 is too much."""

    limit: str
    """reticle | shoreline | package | cooling | sram | domain."""
    needed: float
    offered: float
    unit: str

    @property
    def over(self) -> float:
        """needed/offered − 1: positive where the limit is broken."""
        return self.needed / self.offered - 1.0 if self.offered > 0 else math.inf

    def __str__(self) -> str:
        return f"{self.limit}: needs {self.needed:.4g} {self.unit}, there are {self.offered:.4g} {self.unit}"


def area(design: Design, facts: Facts | None = None) -> Area:
    """Silicon of a design.

    Matrix and vector units go by operations a clock (their area does not shrink with a lower clock), logic by
    the node, PHYs do not shrink, their controllers do (facts/cost_energy.md 3 and 4).
    """
    f = facts or chip_facts()
    node, fit, die = f["node"][design.node], f["fitted"], f["die"]
    clock = design.clock_hz or node["clock_ghz"] * 1e9
    enabled = design.enabled or die["enabled"]
    logic = node["logic"] / enabled / clock / 1e3
    matrix = fit["matrix_mm2_per_kflop"] * design.fp16_flops * logic
    vector = fit["vector_mm2_per_kflop"] * design.vector_flops * logic
    io = design.io
    edge = f["node"][io.node] if io else node
    sram = design.sram_bytes / 1e6 * node["sram_mm2_per_mb"]
    io_sram = io.sram_bytes / 1e6 * edge["sram_mm2_per_mb"] if io else 0.0
    phy = sum(
        m.units * (kind["phy_mm2"] + kind["controller_mtr"] / edge["mtr_per_mm2"])
        for m in design.memories
        for kind in (f["memory"][m.kind],)
    )
    links = f["link"][design.scaleup_medium]["mm2_per_gbyte"] * design.scaleup_bytes_per_s / 1e9
    links += f["scaleout"]["mm2_per_gbyte"] * design.scaleout_bytes_per_s / 1e9
    control = die["control_mm2"]
    between = die["stacked_mm2"] * design.dies if io else die["die_to_die_mm2"] * design.dies * (design.dies > 1)
    compute = matrix + vector + sram + between + (0.0 if io else phy + links + control)
    io_area = (io.area_mm2 or phy + links + control + io_sram) if io else 0.0
    stacks = sum(m.units * f["memory"][m.kind]["package_mm2"] for m in design.memories)
    # Compute dies stand on the I/O dies where there are such: the larger of the two takes the place.
    return Area(
        matrix,
        vector,
        sram + io_sram,
        phy,
        links,
        control,
        between,
        compute,
        io_area,
        max(compute, io_area) + stacks,
    )


def voltage(design: Design, facts: Facts | None = None) -> float:
    """Supply voltage over that of the node's nominal clock: 1 + slope·(f/f₀ − 1), not below the floor."""
    f = facts or chip_facts()
    nominal = f["node"][design.node]["clock_ghz"] * 1e9
    curve = f["voltage"]
    return float(max(curve["floor"], 1.0 + curve["slope"] * ((design.clock_hz or nominal) / nominal - 1.0)))


def power(design: Design, facts: Facts | None = None) -> Power:
    """Power with every unit at its peak: the TDP that cooling and supply are built for.

    The energy of an operation goes with the square of the voltage that its clock needs (P ~ f·V²).
    """
    f = facts or chip_facts()
    fit, silicon = f["fitted"], area(design, f)
    scale = f["node"][design.node]["energy"] * voltage(design, f) ** 2
    memory = sum(m.bytes_per_s(f) * _BITS * f["memory"][m.kind]["pj_per_bit"] for m in design.memories)
    links = 2.0 * _BITS * design.scaleup_bytes_per_s * f["link"][design.scaleup_medium]["pj_per_bit"]
    links += 2.0 * _BITS * design.scaleout_bytes_per_s * f["scaleout"]["pj_per_bit"]
    return Power(
        matrix=fit["matrix_pj_per_flop"] * scale * design.fp16_flops * 1e-12,
        vector=fit["vector_pj_per_flop"] * scale * design.vector_flops * 1e-12,
        memory=memory * 1e-12,
        links=links * 1e-12,
        leakage=f["leakage"]["w_per_mm2"] * (silicon.compute_dies + silicon.io_dies),
    )


def at_clock(design: Design, share: float, facts: Facts | None = None) -> Design:
    """The same silicon at `share` of its clock; memories and links keep their rates."""
    f = facts or chip_facts()
    clock = design.clock_hz or f["node"][design.node]["clock_ghz"] * 1e9
    return replace(
        design,
        fp16_flops=design.fp16_flops * share,
        vector_flops=design.vector_flops * share,
        clock_hz=clock * share,
    )


def sustained_share(design: Design, cap_w: float, facts: Facts | None = None) -> float:
    """Share of its clock that a chip keeps with every unit busy under a power cap: 1 where its peak fits.

    0 where memory, links and leakage alone take the cap.
    """
    f = facts or chip_facts()
    if power(design, f).tdp <= cap_w:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if power(at_clock(design, middle, f), f).tdp <= cap_w else (low, middle)
    return low


def memory_pj_per_bit(design: Design, facts: Facts | None = None) -> float:
    """Energy of a bit read, by bandwidth over the kinds of memory, pJ."""
    f = facts or chip_facts()
    rates = [(m.bytes_per_s(f), f["memory"][m.kind]["pj_per_bit"]) for m in design.memories]
    total = sum(rate for rate, _ in rates)
    return float(sum(rate * energy for rate, energy in rates) / total) if total > 0 else 0.0


def sram_needed_bytes(design: Design, facts: Facts | None = None, larger: Design | None = None) -> float:
    """SRAM that keeps memories and matrix units busy, bytes.

    Little's law, double-buffered: 2·bandwidth·latency (what makes flash need buffers); and square tiles of
    32-bit sums whose traffic a memory of that bandwidth can feed, 4·(FP8 FLOP/s / bandwidth)² (Kung 1986).
    With a `larger` design the tiles are fed by its bandwidth: no design between the two needs less.
    """
    f = facts or chip_facts()
    flight = sum(2.0 * m.bytes_per_s(f) * f["memory"][m.kind]["latency_s"] for m in design.memories)
    bandwidth = sum(m.bytes_per_s(f) for m in (larger or design).memories)
    tiles = 4.0 * (design.fp16_flops * max(1.0, design.fp8_ratio) / bandwidth) ** 2 if bandwidth > 0 else math.inf
    return float(flight + tiles)


def limits(design: Design, larger: Design | None = None, facts: Facts | None = None) -> tuple[Excess, ...]:
    """Every limit with what the design needs and what there is.

    With a `larger` design (no parameter smaller) needs are those of `design`, and what area offers (die edge,
    cooled surface) is that of `larger`: then a limit that is broken is so for all designs between the two.
    """
    f = facts or chip_facts()
    wide = larger or design
    silicon, offered = area(design, f), area(wide, f)
    reticle = f["die"]["reticle_mm2"]
    die = max(silicon.compute_dies / wide.dies, silicon.io_dies / design.io.dies if design.io else 0.0)
    edges_of = offered.io_dies if wide.io else offered.compute_dies
    count = wide.io.dies if wide.io else wide.dies
    edge = _perimeter_mm(min(edges_of / count, reticle), count)
    surface = max(offered.compute_dies, offered.io_dies)
    surface = min(surface, reticle * count) if larger else surface
    link = f["link"][design.scaleup_medium]
    return (
        Excess("reticle", die, reticle, "mm²"),
        Excess("shoreline", _edge_needed_mm(design, f), edge, "mm"),
        Excess("package", silicon.package, f["package"]["max_reticles"] * reticle, "mm²"),
        Excess("cooling", power(design, f).tdp, f["cooling"][f"{design.cooling}_w_per_mm2"] * surface, "W"),
        Excess("sram", sram_needed_bytes(design, f, wide), wide_sram_bytes(wide), "B"),
        Excess("domain", design.scaleup_domain, link["max_domain"], "chips"),
    )


def wide_sram_bytes(design: Design) -> float:
    """SRAM of all dies, bytes."""
    return design.sram_bytes + (design.io.sram_bytes if design.io else 0.0)


def _perimeter_mm(die_mm2: float, dies: int) -> float:
    """Edge of dies in a row, joined at their short sides: as tall as the reticle, at most 2.5 times their width."""
    height = min(_RETICLE_HEIGHT_MM, math.sqrt(_ASPECT * die_mm2))
    return 2.0 * (dies * height + die_mm2 / height)


def _edge_needed_mm(design: Design, facts: Facts) -> float:
    memory = sum(m.units * facts["memory"][m.kind]["edge_mm"] for m in design.memories)
    scaleup = facts["link"][design.scaleup_medium]["edge_mm_per_gbyte"] * design.scaleup_bytes_per_s / 1e9
    return float(memory + scaleup + facts["scaleout"]["edge_mm_per_gbyte"] * design.scaleout_bytes_per_s / 1e9)
