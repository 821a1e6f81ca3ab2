"""From a design vector to what the planner buys: an accelerator like any other, with its price and server."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from codesign.catalog import Accelerator, accelerators
from codesign.hardware.chip import (
    Design,
    Excess,
    Facts,
    MemorySystem,
    chip_facts,
    limits,
    memory_pj_per_bit,
    power,
    wide_sram_bytes,
)
from codesign.hardware.chip_cost import chip_cost, chip_price_usd
from codesign.problem.architecture import ArchitectureProblem, DesignPart
from codesign.problem.instance import HardwareOption, Offer, Role

_NODE_OF = {"4N": "N5", "4NP": "N5", "N3P": "N3", "N5+N6": "N5", "N3P+N6": "N3"}
"""Process nodes of the catalogue by the chip model's."""


@dataclass(frozen=True)
class Assumptions:
    """The economics in force: the chip model's constants with the problem's in their place, and the rest."""

    facts: Facts
    margin: float
    nre_usd: float
    host_usd: float
    hosting_usd_per_hour: float
    derate: Mapping[str, float] = field(default_factory=dict)
    """By design."""

    @staticmethod
    def of(problem: ArchitectureProblem, changes: Mapping[str, float] | None = None) -> Assumptions:
        """The nominal assumptions of a problem; `changes` by the names of :func:`assumption_ranges`."""
        given = {name: nominal for name, (_, nominal, _) in assumption_ranges(problem).items()}
        given |= dict(changes or {})
        facts: dict[str, Any] = copy.deepcopy(dict(chip_facts()))
        constraints = problem.constraints
        for section, word, value in (
            ("die", "reticle_mm2", constraints.reticle_mm2),
            ("package", "max_reticles", constraints.package_reticles),
            ("cooling", "air_w_per_mm2", constraints.air_w_per_mm2),
            ("cooling", "liquid_w_per_mm2", constraints.liquid_w_per_mm2),
        ):
            if value is not None:
                facts[section][word] = value
        for name, value in given.items():
            section, _, rest = name.partition(".")
            if section == "memory":
                facts["memory"][rest]["usd_per_gb"] = value * 1e9
            elif section == "memory_energy":
                facts["memory"][rest]["pj_per_bit"] = value
            elif section == "wafer":
                facts["node"][rest]["wafer_usd"] = value
            elif section == "defects":
                facts["node"][rest]["defects_per_cm2"] = value
            elif name == "harvest":
                facts["die"]["harvest"] = value
            elif name == "optics":
                facts["link"]["optical"]["usd_per_gbps"] = value
        return Assumptions(
            facts,
            given["margin"],
            given["nre"],
            given["host"],
            given["hosting"],
            {design: given[f"derate.{design}"] for design in problem.designs},
        )


def assumption_ranges(problem: ArchitectureProblem) -> dict[str, tuple[float, float, float]]:
    """(low, nominal, high) of every assumption by name; low = high where there is no range."""
    facts, economics = chip_facts(), problem.economics
    found: dict[str, tuple[float, float, float]] = {}

    def note(name: str, given: Any, default: float, span: Any = None) -> None:
        if given is None:
            low, high = span or (default, default)
            found[name] = (min(low, default), default, max(high, default))
        else:
            found[name] = (
                given.nominal if given.low is None else given.low,
                given.nominal,
                given.nominal if given.high is None else given.high,
            )

    note("margin", economics.margin, 0.0)
    note("nre", economics.nre, facts["nre"]["usd"], facts["nre"]["range"])
    note("host", economics.host, facts["server"]["host_usd_per_accelerator"])
    note("hosting", economics.hosting, facts["server"]["hosting_usd_per_hour"])
    note("harvest", economics.harvest, facts["die"]["harvest"], facts["die"]["harvest_range"])
    note("optics", economics.optics, facts["link"]["optical"]["usd_per_gbps"], facts["link"]["optical"]["usd_range"])
    memories: Mapping[Any, Any] = economics.memory
    wafers: Mapping[Any, Any] = economics.wafer
    defects: Mapping[Any, Any] = economics.defects
    for kind in sorted(_possible(problem, "kind")):
        row = facts["memory"][kind]
        span = [1e-9 * value for value in row["usd_range"]]
        note(f"memory.{kind}", memories.get(kind), 1e-9 * row["usd_per_gb"], span)
        note(f"memory_energy.{kind}", None, row["pj_per_bit"], row["pj_range"])
    for node in sorted(_possible(problem, "node")):
        row = facts["node"][node]
        note(f"wafer.{node}", wafers.get(node), row["wafer_usd"], row["wafer_range"])
        note(f"defects.{node}", defects.get(node), row["defects_per_cm2"], row["defects_range"])
    for name, part in problem.designs.items():
        note(f"derate.{name}", part.efficiency.derate, 1.0)
    return found


def _possible(problem: ArchitectureProblem, word: str) -> set[str]:
    """Memory kinds or nodes that any design may take."""
    names: set[str] = set()
    for part in problem.designs.values():
        found: list[Any] = [part.node] if word == "node" else [memory.kind for memory in part.memory]
        for parameter in found:
            names.update([parameter.value] if parameter.value is not None else parameter.choice or [])
        if word == "node" and part.io is not None:
            names.add(part.io.node)
    return names - {"none"}


def design_excesses(
    problem: ArchitectureProblem, design: Design, facts: Facts, larger: Design | None = None
) -> tuple[Excess, ...]:
    """Limits of manufacture and cooling, and the problem's own (TDP, SRAM for the inherited efficiency)."""
    wide = larger or design
    found = list(limits(design, larger, facts))
    constraints = problem.constraints
    if constraints.tdp is not None:
        found.append(Excess("tdp", power(design, facts).tdp, constraints.tdp, "W"))
    balanced = constraints.sram_per_fp16 * 1e6 * design.fp16_flops / 1e12
    found.append(Excess("balance", balanced, max(wide_sram_bytes(wide), 1.0), "B"))
    return tuple(found)


def least_sram_bytes(problem: ArchitectureProblem, fp16_flops: float) -> float:
    """SRAM below which no chip of that many FLOP/s is admitted."""
    return problem.constraints.sram_per_fp16 * 1e6 * fp16_flops / 1e12


def capital_usd(problem: ArchitectureProblem, design: Design, given: Assumptions) -> float:
    """Price of one chip in its server with its share of host and network, dollars."""
    volume = problem.market.volume or 0
    price = chip_price_usd(chip_cost(design, given.facts).bom, given.margin, given.nre_usd, volume)
    network = given.facts["server"]["network_usd_per_gbps"] * design.scaleout_bytes_per_s * 8e-9
    switch = given.facts["scaleup_switch"]
    tiers = 0 if design.scaleup_domain <= 1 else 1 if design.scaleup_domain <= switch["radix"] else 2
    switched = tiers * switch["usd_per_gbps"] * design.scaleup_bytes_per_s * 8e-9
    return float(price + given.host_usd + network + switched)


def hardware_options(
    problem: ArchitectureProblem,
    name: str,
    design: Design,
    given: Assumptions,
    prefix: str = "",
    faster: Design | None = None,
) -> tuple[HardwareOption, ...]:
    """A designed chip as hardware; one option for each way to stripe data over unlike memories.

    With a `faster` design it has that one's performance at the price and power of `design`: the optimistic
    cell of a box. No option where nothing can hold a KV cache.
    """
    part = problem.designs[name]
    runs = faster or design
    offer = Offer(
        name="design",
        kind="capital",
        usd_per_accelerator_hour=None,
        capital_usd_per_accelerator=capital_usd(problem, design, given),
        life_s=problem.economics.life,
        interest=problem.economics.interest,
        includes_power=False,
        min_accelerators=0,
        max_accelerators=None,
        price_source="chip model",
        price_date=str(given.facts["die"]["date"]),
        hosting_usd_per_accelerator_hour=given.hosting_usd_per_hour,
    )
    options = []
    for number, mode in enumerate(_modes(runs, given.facts)):
        chip = _accelerator(part, name, design, runs, mode, given, given.derate[name])
        title = f"{prefix}{name}" + (f"/{number + 1}" if number else "")
        options.append(
            HardwareOption(
                name=title,
                accelerator=chip.model_copy(update={"id": title}),
                catalogue_id=title,
                server_accelerators=part.server,
                rack=None,
                roles=tuple(part.roles or get_args(Role)),
                offers=(offer,),
            )
        )
    return tuple(options)


@dataclass(frozen=True)
class _Mode:
    """What a way of placing data offers: bytes and bytes/s of the main memory, and of one for weights alone."""

    capacity: float
    bandwidth: float
    weight_capacity: float | None
    weight_bandwidth: float | None


def _modes(design: Design, facts: Facts) -> list[_Mode]:
    """Ways to place data, by the longest time to read all of it once.

    Data striped so that every memory is read in time T fill min(C, BW·T) of each: T from the time of the
    memory that is read soonest (all bandwidth, least capacity) to that of the slowest (all capacity).
    """
    flash = [m for m in design.memories if m.may_hold(facts) == ("weights",)]
    main = [m for m in design.memories if "kv" in m.may_hold(facts)]
    if not main:
        return []
    weights = _striped(flash, max(_seconds(m, facts) for m in flash), facts) if flash else (None, None)
    times = sorted({_seconds(m, facts) for m in main})
    return [_Mode(*_striped(main, time, facts), *weights) for time in times]


def _seconds(memory: MemorySystem, facts: Facts) -> float:
    return memory.units * memory.bytes_per_unit(facts) / memory.bytes_per_s(facts)


def _striped(memories: list[MemorySystem], seconds: float, facts: Facts) -> tuple[float, float]:
    """(bytes, bytes/s) of data that all memories together deliver in `seconds`."""
    held = sum(min(m.units * m.bytes_per_unit(facts), m.bytes_per_s(facts) * seconds) for m in memories)
    return held, held / seconds


def _accelerator(
    part: DesignPart, name: str, design: Design, runs: Design, mode: _Mode, given: Assumptions, derate: float
) -> Accelerator:
    relative = accelerators()[part.efficiency.inherit]
    facts = given.facts
    kinds = {kind.replace("-", ""): kind for kind in facts["memory"]}
    like = kinds.get(relative.memory_type.lower().replace("-", ""), "hbm3e")
    node = _NODE_OF.get(relative.node or "", relative.node or "N5")
    rate = runs.fp16_flops
    return Accelerator.model_construct(
        **relative.model_dump()
        | {
            "id": name,
            "name": name,
            "vendor": part.vendor,
            "architecture": "",
            "node": design.node,
            "status": "designed",
            "fp16_flops": rate,
            "fp8_flops": rate * runs.fp8_ratio or None,
            "fp4_flops": rate * runs.fp4_ratio or None,
            "int8_flops": None,
            "memory_type": "+".join(m.kind for m in design.memories),
            "memory_capacity": mode.capacity,
            "usable_memory": None,
            "memory_bandwidth": mode.bandwidth,
            "weight_capacity": mode.weight_capacity,
            "weight_bandwidth": mode.weight_bandwidth,
            "sram_capacity": wide_sram_bytes(design),
            "tdp": power(design, facts).tdp,
            "all_in_power": None,
            "scaleup_technology": runs.scaleup_medium,
            "scaleup_topology": "switched",
            "scaleup_bandwidth": runs.scaleup_bytes_per_s,
            "scaleup_domain": runs.scaleup_domain,
            "scaleout_bandwidth": runs.scaleout_bytes_per_s,
            "server_accelerators": part.server,
            "die_area_mm2": None,
            "inherits": relative.id,
            "derate": derate,
            "byte_energy_factor": memory_pj_per_bit(design, facts) / facts["memory"][like]["pj_per_bit"],
            "flop_energy_factor": facts["node"][design.node]["energy"] / facts["node"][node]["energy"],
            "sources": {},
            "assumptions": (),
            "notes": "",
        }
    )


def raised_sram(problem: ArchitectureProblem, design: Design) -> Design:
    """The design with at least the SRAM that any admitted chip of its FLOP/s has."""
    lacking = least_sram_bytes(problem, design.fp16_flops) - wide_sram_bytes(design)
    return replace(design, sram_bytes=design.sram_bytes + lacking) if lacking > 0 else design
