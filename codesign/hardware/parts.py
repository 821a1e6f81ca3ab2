"""Design vectors of real parts: what the chip model is fitted to and tested on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from codesign.catalog import accelerators
from codesign.hardware.chip import Design, IoDies, MemorySystem


@dataclass(frozen=True)
class Part:
    """A real part as a design, with what is published of it; None where nothing is."""

    id: str
    design: Design
    compute_mm2: float | None
    tdp_w: float | None
    bom_usd: float | None
    sustained_flops: float | None
    """Measured FP16 rate of large matrix products, where the power cap holds it far below the peak."""
    held_out: tuple[str, ...]
    """Of area, tdp and bom: what must not set a constant."""


@lru_cache(maxsize=1)
def real_parts() -> Mapping[str, Part]:
    """Every part of ``data/parts.toml``, by catalogue id."""
    text = files("codesign.hardware").joinpath("data/parts.toml").read_text(encoding="utf-8")
    return {name: _part(name, row) for name, row in tomllib.loads(text).items() if isinstance(row, dict)}


def _part(name: str, row: Mapping[str, object]) -> Part:
    entry = accelerators()[name]
    sixteen = entry.fp16_flops or 0.0
    memory: dict[str, float] = dict(row["memory"])  # type: ignore[call-overload]
    gigabytes = float(row.get("memory_gb", entry.memory_capacity / 1e9))  # type: ignore[arg-type]
    units = sum(memory.values())
    io = row.get("io")
    design = Design(
        node=str(row["node"]),
        fp16_flops=sixteen,
        memories=tuple(
            MemorySystem(kind, count, unit_bytes=gigabytes * 1e9 / units) for kind, count in memory.items()
        ),
        sram_bytes=float(row["sram_mb"]) * 1e6,  # type: ignore[arg-type]
        scaleup_bytes_per_s=float(row["scaleup_gbyte"]) * 1e9,  # type: ignore[arg-type]
        scaleout_bytes_per_s=64e9,
        fp8_ratio=(entry.fp8_flops or 0.0) / sixteen,
        vector_flops=float(row["vector_tflops"]) * 1e12,  # type: ignore[arg-type]
        clock_hz=float(row["clock_ghz"]) * 1e9,  # type: ignore[arg-type]
        enabled=float(row["enabled"]),  # type: ignore[arg-type]
        dies=int(row.get("dies", 1)),  # type: ignore[call-overload]
        io=IoDies(io["node"], io["dies"], io["sram_mb"] * 1e6, io["area_mm2"]) if isinstance(io, dict) else None,
        scaleup_domain=entry.scaleup_domain,
    )
    compute = row.get("compute_mm2", entry.die_area_mm2)
    bom = row.get("bom_usd")
    sustained = row.get("sustained_tflops")
    return Part(
        name,
        design,
        float(compute) if compute is not None else None,  # type: ignore[arg-type]
        entry.tdp,
        float(bom) if bom is not None else None,  # type: ignore[arg-type]
        float(sustained) * 1e12 if sustained is not None else None,  # type: ignore[arg-type]
        tuple(row.get("held_out", ())),  # type: ignore[arg-type]
    )
