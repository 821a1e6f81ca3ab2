"""The procurement problem that a finished design leaves: the workload, the parts that compete, and the new chips.

It is a problem like any other: the planner solves it in whole servers, `check` verifies the plan, and it can be
written to a file and planned again.
"""

from __future__ import annotations

import copy
from typing import Any

from codesign.architecture.part import Assumptions, hardware_options
from codesign.hardware.chip import Design
from codesign.problem import Problem
from codesign.problem.architecture import ArchitectureProblem
from codesign.problem.instance import HardwareOption

_UNITS = {
    "fp16_flops": "FLOPS",
    "fp8_flops": "FLOPS",
    "fp4_flops": "FLOPS",
    "memory_capacity": "B",
    "memory_bandwidth": "B/s",
    "weight_capacity": "B",
    "weight_bandwidth": "B/s",
    "sram_capacity": "B",
    "tdp": "W",
    "scaleup_bandwidth": "B/s",
    "scaleout_bandwidth": "B/s",
}
_PLAIN = (
    "name",
    "vendor",
    "node",
    "memory_type",
    "status",
    "scaleup_technology",
    "scaleup_domain",
    "scaleup_topology",
    "inherits",
    "derate",
    "byte_energy_factor",
    "flop_energy_factor",
)


def procurement(problem: ArchitectureProblem, index: int, designs: dict[str, Design], given: Assumptions) -> Problem:
    """The procurement problem of workload `index`: what competes, and these chips for sale."""
    stated = problem.problems[index]
    written = copy.deepcopy(stated._document.data) if stated._document else {}
    hardware: dict[str, Any] = {name: written["hardware"][name] for name in problem.compete}
    for name, design in designs.items():
        for option in hardware_options(problem, name, design, given):
            hardware[option.name] = hardware_fields(option)
    changes: dict[str, Any] = {
        "hardware": hardware,
        "objective": problem.objectives[0],
        "name": problem.workloads[index].name,
    }
    if "purchase_units" in written:
        changes["purchase_units"] = {}
    if isinstance(written.get("limits"), dict) and "inventory" in written["limits"]:
        changes["limits.inventory"] = {}
    return stated.replace(changes)


def hardware_fields(option: HardwareOption) -> dict[str, Any]:
    """A hardware option in the words of a problem file, to the last digit."""
    chip, offer = option.accelerator, option.offers[0]
    fields: dict[str, Any] = {name: getattr(chip, name) for name in _PLAIN}
    for name, unit in _UNITS.items():
        value = getattr(chip, name)
        if value is not None:
            fields[name] = f"{float(value)!r} {unit}"
    return fields | {
        "server": {"accelerators": option.server_accelerators},
        "roles": list(option.roles),
        "offers": {
            offer.name: {
                "capital": f"{offer.capital_usd_per_accelerator!r} $",
                "life": f"{offer.life_s!r} s",
                "interest": offer.interest,
                "hosting": f"{offer.hosting_usd_per_accelerator_hour!r} $/h",
            }
        },
    }
