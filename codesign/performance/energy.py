"""Power and energy of replicas: base power plus joules per byte and per FLOP (facts/performance_model.md 4).

An accelerator that works draws min(TDP, base + joules_per_byte·bytes/s + joules_per_flop·FLOP/s), one that waits its
idle power: a side that is busy for a share ρ of the time draws idle + ρ·(base − idle) and what it does. System-level
constants
per generation (``data/energy.toml``, written by ``scripts/fit_energy.py``), far above device tables. Others
inherit the base in proportion to their TDP and the joules unchanged. Scope: the accelerator itself (NVML);
:func:`wall_power_w` adds hosts, all-in power adds network, and PUE comes on top of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.constants import constants
from codesign.performance.facts import facts
from codesign.performance.footprint import (
    attached_weight_bytes,
    decode_flops,
    decode_weight_bytes,
    kv_read_bytes,
    kv_transfer_bytes,
    prefill_flops,
)
from codesign.performance.latency import prefill_occupancy_seconds, prefill_seconds
from codesign.performance.parts import AcceleratorArrays
from codesign.performance.replica import replica
from codesign.performance.table import ConfigurationTable

if TYPE_CHECKING:
    from codesign.catalog import Accelerator

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerArrays:
    """Constants of power for each of A accelerators, [A]."""

    base_w: FloatArray
    idle_w: FloatArray
    host_w: FloatArray
    joules_per_byte: FloatArray
    joules_per_flop: FloatArray

    @staticmethod
    def build(accelerators: Sequence[Accelerator], tdp: FloatArray) -> PowerArrays:
        """Of a sequence of catalogue accelerators with their TDP; inherited where a system has no row."""
        facts = energy_constants()
        rows = {row["system"]: row for row in facts["power"]}
        names = constants().sections["systems"]["power"]
        systems = [names[constants().system(accelerator)[0]] for accelerator in accelerators]
        # Hopper's newer parts (H200) and whatever else has no row of its own take the H100's.
        chosen = [rows.get(system, rows["h100_sxm"]) for system in systems]
        byte_factor = np.array([accelerator.byte_energy_factor for accelerator in accelerators])
        flop_factor = np.array([accelerator.flop_energy_factor for accelerator in accelerators])
        return PowerArrays(
            base_w=np.array([row["base_w"] / row["tdp_w"] for row in chosen]) * tdp,
            idle_w=facts["idle"]["watts_over_tdp"] * tdp,
            host_w=facts["host"]["watts_over_tdp"] * tdp,
            joules_per_byte=np.array([row["pj_per_byte"] for row in chosen]) * byte_factor * 1e-12,
            joules_per_flop=np.array([row["pj_per_flop"] for row in chosen]) * flop_factor * 1e-12,
        )


def energy_constants() -> Mapping[str, Any]:
    """The file ``data/energy.toml``."""
    return facts("energy")


def power_arrays(table: ConfigurationTable) -> PowerArrays:
    """The constants of a table's accelerators, computed on first use and kept with it."""
    found: PowerArrays | None = vars(table).get("_power")
    if found is None:
        found = PowerArrays.build(table.accelerators, table.part_accelerators.tdp)
        vars(table)["_power"] = found
    return found


def base_power_w(table: ConfigurationTable) -> FloatArray:
    """Power of a working replica that moves nothing [K], W."""
    return power_arrays(table).base_w[table.accelerator] * table.replica_accelerators


def idle_power_w(table: ConfigurationTable) -> FloatArray:
    """Power of a powered replica without any work [K], W: an assumption, see ``data/energy.toml``."""
    return power_arrays(table).idle_w[table.accelerator] * table.replica_accelerators


def joules_per_byte(table: ConfigurationTable) -> FloatArray:
    """Energy of a byte streamed from the accelerators' own memory [K], J/B."""
    return power_arrays(table).joules_per_byte[table.accelerator]


def kv_joules_per_byte(table: ConfigurationTable) -> FloatArray:
    """Energy of a byte read from a KV cache, wherever that lies [K], J/B."""
    beside = np.where(replica(table).kv_apart, table.part_memories.joules[table.memory], 0.0)
    return joules_per_byte(table) + beside


def weight_joules(table: ConfigurationTable, batch: ArrayLike) -> FloatArray:
    """Energy [K, J] of streaming a step's weights (`decode_weight_bytes`), wherever they lie, J."""
    beside = table.part_memories.joules[table.memory]
    own = decode_weight_bytes(table, batch) * joules_per_byte(table)[:, None]
    return own + attached_weight_bytes(table, batch) * beside[:, None]


def joules_per_flop(table: ConfigurationTable) -> FloatArray:
    """Energy of a floating-point operation [K], J/FLOP."""
    return power_arrays(table).joules_per_flop[table.accelerator]


def tdp_w(table: ConfigurationTable) -> FloatArray:
    """Thermal design power of one accelerator [K], W: the cap of its power."""
    return table.part_accelerators.tdp[table.accelerator]


def mean_power_w(
    table: ConfigurationTable,
    batch: FloatArray,
    step_seconds: FloatArray,
    context: FloatArray,
    prompts_per_s: ArrayLike = 0.0,
    prompt_tokens: ArrayLike = 1.0,
    busy: ArrayLike = 1.0,
) -> FloatArray:
    """Mean power [K] of a replica, W, that decodes ``batch`` sequences and prefills prompts between.

    All arguments are [K]; it works for a share ``busy`` of the time and waits in the rest of it. While it works, per
    accelerator min(TDP, base + joules/byte·bytes/s + joules/FLOP·FLOP/s); the weights that a prefill streams are
    counted once per 4,096 prompt tokens.
    """
    prompts = np.asarray(prompts_per_s, dtype=float) + np.zeros_like(batch)
    tokens = np.asarray(prompt_tokens, dtype=float) + np.zeros_like(batch)
    weights = weight_joules(table, np.stack([batch, np.full_like(batch, 4096.0)], axis=1))
    read = batch * kv_read_bytes(table, context[:, None])[:, 0] * kv_joules_per_byte(table)
    moving = (weights[:, 0] + read) / step_seconds + prompts * tokens / 4096.0 * weights[:, 1]
    flop = batch / step_seconds * decode_flops(table, context[:, None])[:, 0]
    flop_per_s = flop + prompts * prefill_flops(table, tokens[:, None])[:, 0]
    dynamic = moving + joules_per_flop(table) * flop_per_s
    ceiling = tdp_w(table) * table.replica_accelerators
    idle, share = idle_power_w(table), np.asarray(busy, dtype=float)
    return np.asarray(idle + share * (np.minimum(ceiling, base_power_w(table) + dynamic) - idle))


def working_power_w(table: ConfigurationTable) -> FloatArray:
    """What a replica that works but moves nothing draws above one that waits [K], W."""
    return np.maximum(base_power_w(table) - idle_power_w(table), 0.0)


def prefill_power_w(
    table: ConfigurationTable, prompts_per_s: ArrayLike, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0
) -> FloatArray:
    """Mean power [K] of a replica that prefills alone, W: idle, and of each prompt its seconds and its energy.

    All arguments are [K]. Without prompts it is the idle power; see :func:`wall_power_w` for the wall's scope.
    """
    rate, new, cached = (np.asarray(value, dtype=float) + np.zeros(len(table)) for value in
                         (prompts_per_s, new_tokens, cached_tokens))  # fmt: skip
    seconds = prefill_occupancy_seconds(table, new[:, None], cached[:, None])[:, 0]
    joules = prefill_energy_j(table, new[:, None], cached[:, None])[:, 0]
    return np.asarray(idle_power_w(table) + rate * (seconds * working_power_w(table) + joules))


def wall_power_w(table: ConfigurationTable, accelerator_watts: FloatArray) -> FloatArray:
    """Power of a replica at the wall [K], W, from that of its accelerators: hosts, fans and losses added."""
    return accelerator_watts + power_arrays(table).host_w[table.accelerator] * table.replica_accelerators


def peak_power_w(accelerator: Accelerator) -> float:
    """Power to provision for one accelerator with its share of host and network, W, without PUE.

    The catalogue's all-in figure, else 1.5 times TDP (published figures are 1.23 to 1.96 times), else TDP
    itself is taken from 16-bit FLOP/s: the last two are assumptions.
    """
    return float(AcceleratorArrays.build((accelerator,)).peak_power[0])


def prefill_energy_j(table: ConfigurationTable, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0) -> FloatArray:
    """Energy of one prefill above the base power [K, J], J: seconds × (min(TDP, base + …) − base).

    Counted over the accelerators of one attention group and stage at a time (replica/(pp·dp)), which is what
    a prefill keeps busy. Context-parallel groups stream weights and keys each for itself.
    """
    groups = table.cp[:, None]
    busy = table.tp[:, None] * groups
    seconds = prefill_seconds(table, new_tokens, cached_tokens)
    total = np.asarray(new_tokens, dtype=float) + np.asarray(cached_tokens, dtype=float)
    # Weights of the group that prefills: experts touched by its tokens, everything else once.
    # (A step of pp·new tokens sends `new` through each stage, pp times.)
    stages = table.pp[:, None]
    weights = weight_joules(table, np.asarray(new_tokens, dtype=float) * stages / groups)
    weights = weights / (stages * table.dp[:, None])
    dynamic = (weights + kv_transfer_bytes(table, total) * kv_joules_per_byte(table)[:, None]) * groups
    dynamic = dynamic + prefill_flops(table, new_tokens, cached_tokens) * joules_per_flop(table)[:, None]
    above = tdp_w(table) - power_arrays(table).base_w[table.accelerator]
    ceiling = np.maximum(above, 0.0)[:, None] * busy
    return np.asarray(np.minimum(dynamic, seconds * ceiling))
