"""What a chip costs: wafers, yield with harvesting, package, memory, bill of materials, price and NRE. Dollars."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codesign.hardware.chip import Design, Facts, area, chip_facts


@dataclass(frozen=True)
class ChipCost:
    """Bill of materials of one chip in its package, dollars."""

    compute_dies: float
    io_dies: float
    memory: float
    package: float
    yield_loss: float
    """Packages that fail with all that is on them."""
    test: float

    @property
    def bom(self) -> float:
        """The sum."""
        return self.compute_dies + self.io_dies + self.memory + self.package + self.yield_loss + self.test


def dies_per_wafer(die_mm2: float, wafer_mm: float = 300.0) -> float:
    """π(d/2)²/A − πd/√(2A): whole dies on a round wafer (ttm-cas)."""
    return math.pi * (wafer_mm / 2.0) ** 2 / die_mm2 - math.pi * wafer_mm / math.sqrt(2.0 * die_mm2)


def die_yield(die_mm2: float, defects_per_cm2: float, cluster: float = 3.0, harvest: float = 0.0) -> float:
    """Share of dies that sell: negative binomial Y = (1 + A·D0/α)^−α, and of the others the share `harvest`."""
    good = (1.0 + die_mm2 / 100.0 * defects_per_cm2 / cluster) ** -cluster
    return float(good + (1.0 - good) * harvest)


def die_cost_usd(die_mm2: float, node: str, facts: Facts | None = None, harvest: float | None = None) -> float:
    """Dollars of one die that sells."""
    f = facts or chip_facts()
    die, process = f["die"], f["node"][node]
    share = die_yield(
        die_mm2, process["defects_per_cm2"], die["cluster"], die["harvest"] if harvest is None else harvest
    )
    return float(process["wafer_usd"] / dies_per_wafer(die_mm2, die["wafer_mm"]) / share)


def chip_cost(design: Design, facts: Facts | None = None) -> ChipCost:
    """The bill of materials of a design.

    The package is an advanced one where stacks or several dies need an interposer. Its yield falls with its
    area and scraps dies and memory (B200's "yield loss" of some 1,000 $).
    """
    f = facts or chip_facts()
    silicon, rates = area(design, f), f["package"]
    compute = design.dies * die_cost_usd(silicon.compute_dies / design.dies, design.node, f)
    io = design.io
    base = io.dies * die_cost_usd(silicon.io_dies / io.dies, io.node, f) if io else 0.0
    stacked = any(f["memory"][m.kind]["package_mm2"] > 0 for m in design.memories)
    advanced = stacked or design.dies > 1 or io is not None
    kind = "advanced" if advanced else "plain"
    package = rates[f"{kind}_usd"] + rates[f"{kind}_usd_per_mm2"] * silicon.package
    package += rates["bond_usd_per_mm2"] * silicon.compute_dies if io else 0.0
    memory = sum(m.units * m.bytes_per_unit(f) / 1e9 * f["memory"][m.kind]["usd_per_gb"] for m in design.memories)
    # Memory on the board is placed after the package was tested.
    scrapped = compute + base + package + (memory if stacked else 0.0)
    lost = scrapped * (math.exp(f["fitted"]["package_loss_per_mm2"] * silicon.package) - 1.0) if advanced else 0.0
    optics = f["link"][design.scaleup_medium]["usd_per_gbps"] * design.scaleup_bytes_per_s * 8e-9
    return ChipCost(compute, base, memory, package + optics, lost, rates["test_usd"])


def chip_price_usd(bom_usd: float, margin: float, nre_usd: float = 0.0, volume: float = 0.0) -> float:
    """Price of one chip: BOM/(1 − margin), plus the NRE's share where it is spread over a market `volume`.

    With `volume` 0 the NRE is not in the price: it is then a charge of its own, never both.
    """
    return bom_usd / (1.0 - margin) + (nre_usd / volume if volume > 0 else 0.0)
