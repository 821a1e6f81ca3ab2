"""SPAD's direction with this chip model: specialised prefill and decode chips, without a prefix cache and with one.

    python scripts/spad.py

SPAD (arXiv:2510.08544) reports for its prefill chip +8 % speed at −52 % hardware cost of a modelled H100, for its
decode chip 97 % of the speed at −28 % TDP, and for clusters −19 to −41 % cost. Here: chips of equal speed on one
replica first; then fleets of H100-like chips alone against fleets that may have all three, by hit ratio.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from codesign.architecture.evaluate import Evaluator
from codesign.architecture.space import Space
from codesign.catalog import accelerators, models
from codesign.hardware.chip import Design, MemorySystem, power
from codesign.hardware.chip_cost import chip_cost
from codesign.hardware.parts import real_parts
from codesign.performance import ConfigurationTable
from codesign.performance.latency import decode_attention_seconds, decode_step_seconds, prefill_seconds
from codesign.performance.parts import PRECISIONS
from codesign.problem.architecture import load_architecture

H100 = real_parts()["h100-sxm"].design
PROMPT, CONTEXT, BATCH, RANKS = 2048.0, 2048.0, 64.0, 4
SHARES = np.linspace(0.1, 1.5, 141)

WORKLOAD = """
kind: procurement
name: chat
objective: cost_per_task
models: {{llama: {{card: Llama-3.1-70B, weights: [fp8]}}}}
tasks:
  - name: work
    rate: {rate}
    models: [llama]
    calls: {calls}
    context: {context}
    append: {append}
    output: {output}
    prefix: {{reusable: {reusable}, ttl: 10 min}}
    tool_wait: 5 s
    slo: {{ttft: {{p95: {ttft}}}, tpot: {{p95: 50 ms}}}}
hardware:
  h100: {{accelerator: h100-sxm}}
options: {{max_replica_accelerators: 8}}
"""
PROBLEM = """
kind: architecture
name: spad
market: {volume: 100000}
economics: {margin: 0.5}
constraints: {sram_per_fp16: 0.01, reticle_mm2: 920}   # the model makes the H100 itself 10 % too large
workloads: [{name: work, problem: work.yaml}]
designs:
"""
CHIP = """
  {name}:
    roles: [{roles}]
    fp16: {fp16} TFLOPS
    vector_ratio: {vector}
    sram: {sram} MB
    memory: [{{kind: {kind}, units: {units}, unit_size: {size} GB}}]
    scaleup: {{bandwidth: {link} GB/s}}
    efficiency: {{inherit: h100-sxm}}
"""


def table_of(design: Design, bandwidth: float, tp: int) -> ConfigurationTable:
    """One replica of a chip with H100's efficiency: Llama-3.1-70B in FP8."""
    part = accelerators()["h100-sxm"].model_copy(
        update={
            "id": "spad",
            "inherits": "h100-sxm",
            "fp16_flops": design.fp16_flops,
            "fp8_flops": design.fp16_flops * design.fp8_ratio,
            "memory_bandwidth": bandwidth,
        }
    )
    fp8 = PRECISIONS.index("fp8")
    columns = [np.array([value]) for value in (0, 0, fp8, fp8, fp8, tp, 1, 1, 1)]
    return ConfigurationTable([part], [models()["Llama-3.1-70B"]], *columns)


def prefill_s(design: Design, bandwidth: float) -> float:
    """Seconds of one prompt."""
    return float(prefill_seconds(table_of(design, bandwidth, RANKS), np.array([PROMPT]))[0, 0])


def decode_s(design: Design, bandwidth: float) -> float:
    """Seconds of one step."""
    table = table_of(design, bandwidth, RANKS)
    step = decode_step_seconds(table, np.array([BATCH]))[0, 0]
    return float(step + BATCH * decode_attention_seconds(table, np.array([CONTEXT]))[0, 0])


def prefill_chip() -> Design:
    """GDDR7 of 512 bits and 64 GB, with the least matrix units that prefill as fast as the H100."""
    base = replace(
        H100,
        memories=(MemorySystem("gddr7", 16, unit_bytes=4e9),),
        sram_bytes=32e6,
        vector_flops=H100.vector_flops / 2.0,
    )
    chips = [replace(base, fp16_flops=H100.fp16_flops * share) for share in SHARES]
    target = prefill_s(H100, 3.35e12)
    return next(chip for chip in chips if prefill_s(chip, 16 * 112e9) <= target)


def decode_chip() -> Design:
    """The H100's memory and vector units, with the least matrix units that decode at 97 % of its speed."""
    chips = [
        replace(H100, fp16_flops=H100.fp16_flops * share, vector_flops=H100.vector_flops * max(share, 0.5))
        for share in SHARES
    ]
    target = decode_s(H100, 3.35e12) / 0.97
    return next(chip for chip in chips if decode_s(chip, 3.35e12) <= target)


def _chip(name: str, roles: str, design: Design) -> str:
    memory = design.memories[0]
    return CHIP.format(
        name=name,
        roles=roles,
        fp16=design.fp16_flops / 1e12,
        vector=design.vector_flops / design.fp16_flops,
        sram=design.sram_bytes / 1e6,
        kind=memory.kind,
        units=int(memory.units),
        size=(memory.unit_bytes or 16e9) / 1e9,
        link=design.scaleup_bytes_per_s / 1e9,
    )


def fleets(designs: dict[str, tuple[str, Design]], **work: object) -> tuple[float, tuple[str, ...]]:
    """$ a task of the best fleet of these chips, and which of them it buys."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "work.yaml").write_text(WORKLOAD.format(**work))
        text = PROBLEM + "".join(_chip(name, roles, design) for name, (roles, design) in designs.items())
        (place / "spad.yaml").write_text(text)
        found = Evaluator(Space.of(load_architecture(place / "spad.yaml"))).points([{}])[0]
    return found.value, found.used


def main() -> None:
    """Print both comparisons."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    prefill, decode = prefill_chip(), decode_chip()
    bom, tdp = chip_cost(H100).bom, power(H100).tdp
    print("| chip | FP16 TFLOPS | BOM | TDP | prefill speed | decode speed |")
    print("|---|---|---|---|---|---|")
    for name, chip, rate in (("prefill", prefill, 16 * 112e9), ("decode", decode, 3.35e12)):
        speeds = prefill_s(H100, 3.35e12) / prefill_s(chip, rate), decode_s(H100, 3.35e12) / decode_s(chip, rate)
        print(
            f"| {name} | {chip.fp16_flops / 1e12:,.0f} | {chip_cost(chip).bom / bom - 1:+.0%} | "
            f"{power(chip).tdp / tdp - 1:+.0%} | {speeds[0]:.0%} | {speeds[1]:.0%} |"
        )
    general = {"general": ("prefill, decode, colocated", H100)}
    all_three = general | {"prefill": ("prefill", prefill), "decode": ("decode", decode)}
    print("\n| workload | hit ratio bound | H100-like alone, $/task | all three, $/task | saving | bought |")
    print("|---|---|---|---|---|---|")
    chat = {"rate": "100/s", "calls": 1, "context": 2048, "append": 2048, "output": 256, "ttft": "1 s"}
    agent = {"rate": "5/s", "calls": 30, "context": "60K", "append": 2000, "output": 300, "ttft": "8 s"}
    for name, work, hits in (("chat", chat, (0.0,)), ("coding agent", agent, (0.0, 0.5, 0.8, 0.95))):
        for hit in hits:
            alone, _ = fleets(general, reusable=hit, **work)
            best, used = fleets(all_three, reusable=hit, **work)
            print(f"| {name} | {hit:.2f} | {alone:.5f} | {best:.5f} | {1 - best / alone:.1%} | {', '.join(used)} |")


if __name__ == "__main__":
    main()
