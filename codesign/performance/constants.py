"""The fitted constants of ``data/constants.toml``, and the system that each accelerator takes them from.

The file holds a row per operator, system and class with its source and date; this module only finds rows. A
row that a system lacks is inherited: KV precisions from the next wider one of the same system (the kernel
converts), everything else from the systems in ``fallback``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from codesign.catalog import accelerators

if TYPE_CHECKING:
    from codesign.catalog import Accelerator

Row = Mapping[str, Any]

_NARROWER_KV = {"nvfp4": ("nvfp4", "fp8", "bf16"), "fp8": ("fp8", "bf16"), "bf16": ("bf16",)}
_KEYED_BY_KV = ("prefill_attention", "decode_attention", "mla_prefill", "mla_decode")


@dataclass(frozen=True)
class Constants:
    """Rows of the constants file by operator, and its sections of scalars."""

    rows: Mapping[tuple[str, str, str], Row]
    """(operator, system, class) → row; the class is a dtype, a number of ranks, or empty."""
    sections: Mapping[str, Row]
    """By name of the section: engine, elementwise, attention, expert_parallel, pipeline, memory, …"""
    engine_rows: Mapping[tuple[str, str, str, str], Row]
    """(engine, operator, system, class) → row of a kernel of the engine's own."""

    def row(self, operator: str, system: str, key: str = "", engine: str = "") -> Row:
        """The row of an operator for a system and class, inherited where the system has none.

        An engine's own row comes before the one that stands for all engines on the same system.

        Raises KeyError when no system has such a row.
        """
        keys = _NARROWER_KV.get(key, (key,)) if operator in _KEYED_BY_KV else (key,)
        if key.endswith("_wide"):
            keys = (key, key.removesuffix("_wide"))  # a generation's own kernels come before another's wide ones
        for candidate in (system, *self.sections["systems"]["fallback"]):
            for wider in keys:
                found = self.engine_rows.get((engine, operator, candidate, wider))
                found = self.rows.get((operator, candidate, wider)) if found is None else found
                if found is not None:
                    return found
        raise KeyError(f"constants.toml has no row for {operator}, class '{key}', in any system")

    def system(self, accelerator: Accelerator) -> tuple[str, bool]:
        """(system whose constants an accelerator uses, whether they were measured on that part)."""
        systems = self.sections["systems"]
        if accelerator.inherits is not None:
            relative = accelerators()[accelerator.inherits]
            return self.system(relative)[0], False
        if accelerator.id in systems["measured"]:
            return systems["measured"][accelerator.id], True
        return systems["architecture"].get(accelerator.architecture, systems["default"]), False


@lru_cache(maxsize=1)
def constants() -> Constants:
    """The constants that the package ships, read once."""
    text = files("codesign.performance").joinpath("data/constants.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    rows: dict[tuple[str, str, str], Row] = {}
    engine_rows: dict[tuple[str, str, str, str], Row] = {}
    for operator, entries in document.items():
        if isinstance(entries, list):
            for entry in entries:
                key = operator, entry["system"], str(entry.get("dtype", entry.get("ranks", "")))
                if "engine" in entry:
                    engine_rows[entry["engine"], *key] = entry
                else:
                    rows[key] = entry
    sections = {name: entry for name, entry in document.items() if isinstance(entry, dict)}
    return Constants(rows=rows, sections=sections, engine_rows=engine_rows)


def calibration_key(accelerator: Accelerator) -> str:
    """``kernel-fit:<system>`` where kernels of that part were measured, else ``inherited:<system>``."""
    system, measured = constants().system(accelerator)
    return f"{'kernel-fit' if measured else 'inherited'}:{system}"
