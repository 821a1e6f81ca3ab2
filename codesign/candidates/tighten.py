"""Rows made stricter for pools that broke a promise under simulation (DESIGN 3.9): more z, less ρ, w or link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.candidates.data import ColumnBlock, Ints
from codesign.problem.instance import Instance

_LOADS = ("prefill", "decode", "colocated")


def tightened(instance: Instance, block: ColumnBlock, role: str, model: str, hardware: Ints) -> ColumnBlock:
    """The block with the instance's tightenings in its limits; the block itself where none concerns it.

    `hardware` [K] is the option of each column. A spread row reads Σ variance ≤ (room/z)², so a factor f on z divides
    its limit by f². Rows of prefill, decode and colocated columns are loads, of which fluctuation takes about half: f
    there divides by √f. A wait grows faster than the load of a prefill queue: f on it is √f on the load.
    """
    factors: dict[str, np.ndarray] = {}

    def scale(row: str, chosen: np.ndarray, factor: float) -> None:
        if factor != 1.0:
            factors.setdefault(row, np.ones(len(block)))[chosen] *= factor

    for found in instance.options.tightening:
        if found.role != role or found.model != model:
            continue
        names = np.array([found.hardware is None or option.name == found.hardware for option in instance.hardware])
        chosen = names[hardware]
        scale("link", chosen, found.link)
        if role in _LOADS:
            for row in ("tpot", "itl", "time", "capacity"):
                scale(row, chosen, found.z**-0.5)
            for row in ("time", "tpot", "itl", "ttft", "task_latency", "busy"):
                scale(row, chosen, found.utilization)
            scale("ttft", chosen, found.wait if role == "colocated" else found.wait**0.5)
            continue
        scale("spread", chosen, found.z**-2)
        scale("capacity spread", chosen, found.z**-2)
    if not any(row in block.row_names for row in factors):
        return block
    limit = block.limit.copy()
    for row, factor in factors.items():
        if row in block.row_names:
            limit[:, block.row_names.index(row)] *= factor
    return replace(block, limit=limit)
