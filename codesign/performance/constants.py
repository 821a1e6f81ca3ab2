"""The fitted constants of ``data/constants.toml``, and the system that each accelerator takes them from.

The file holds a row per operator, system and class with its source and date; this module only finds rows. A
row that a system lacks is inherited: KV precisions from the next wider one of the same system (the kernel
converts), everything else from the systems in ``fallback``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesign.catalog import accelerators
from codesign.performance.facts import facts, replaced

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

    def engine_terms(self, accelerator: Accelerator) -> Row:
        """What engines add on an accelerator's generation, beside what they add everywhere; empty: nothing known."""
        entry: Row = self.sections["engine"]["generation"].get(generation(accelerator), {})
        return entry

    def has_rows(self, accelerator: Accelerator) -> bool:
        """Whether anything was measured on an accelerator's generation: kernels, or serving rows."""
        known = {accelerators()[part].architecture for part in self.sections["systems"]["measured"]}
        return generation(accelerator) in known | set(self.sections["engine"]["generation"])


def generation(accelerator: Accelerator) -> str:
    """Architecture that an accelerator's constants are keyed by: its own, or that of the relative that it names."""
    while accelerator.inherits is not None:
        accelerator = accelerators()[accelerator.inherits]
    return accelerator.architecture


_MADE: tuple[Mapping[str, Any], Constants] | None = None


def constants() -> Constants:
    """The constants that the package ships, read once (or what :func:`~codesign.performance.facts.replaced` says)."""
    global _MADE
    document = facts("constants")
    if _MADE is None or _MADE[0] is not document:
        _MADE = document, _constants(document)
    return _MADE[1]


def _constants(document: Mapping[str, Any]) -> Constants:
    rows: dict[tuple[str, str, str], Row] = {}
    engine_rows: dict[tuple[str, str, str, str], Row] = {}
    for operator, entries in document.items():
        if isinstance(entries, list):
            for entry in entries:
                key = operator, entry["system"], _class(entry)
                if "engine" in entry:
                    engine_rows[entry["engine"], *key] = entry
                else:
                    rows[key] = entry
    sections = {name: entry for name, entry in document.items() if isinstance(entry, dict)}
    return Constants(rows=rows, sections=sections, engine_rows=engine_rows)


@contextmanager
def without_generation(architecture: str) -> Iterator[None]:
    """Nothing of what was measured on a generation: its kernels come from the next of `fallback`, its own terms go.

    `architecture` is the catalogue's word (Hopper, Blackwell, CDNA3). Raises KeyError where nothing was measured on it.
    """
    document = facts("constants")
    systems, engine = document["systems"], document["engine"]
    measured = {part: name for part, name in systems["measured"].items() if _architecture(part) == architecture}
    if not measured and architecture not in engine["generation"]:
        raise KeyError(f"nothing was measured on {architecture}")
    gone = set(measured.values())
    kept = [name for name in systems["fallback"] if name not in gone]
    donors = {name: kept[0] if name in gone else name for name in systems["fallback"]}
    changed: dict[str, Any] = dict(document)
    for operator, rows in document.items():
        if isinstance(rows, list):
            # What no other generation was measured for (all-to-all between nodes: Hopper alone) stays.
            others = {_class(row) for row in rows if row["system"] not in gone}
            changed[operator] = [row for row in rows if row["system"] not in gone or _class(row) not in others]
    changed["systems"] = {
        **systems,
        "fallback": kept,
        "default": donors[systems["default"]],
        "measured": {part: name for part, name in systems["measured"].items() if part not in measured},
        "architecture": {key: donors[name] for key, name in systems["architecture"].items()},
    }
    terms = {key: entry for key, entry in engine["generation"].items() if key != architecture}
    changed["engine"] = {**engine, "generation": terms}
    engines = facts("engines")
    first = [entry for entry in engines["first_token"] if entry["generation"] != architecture]
    with replaced(constants=changed, engines={**engines, "first_token": first}):
        yield


def measured_generations() -> tuple[str, ...]:
    """Generations that anything was measured on: kernels, or serving rows."""
    sections = constants().sections
    parts = [_architecture(part) for part in sections["systems"]["measured"]]
    return tuple(dict.fromkeys([*parts, *sections["engine"]["generation"]]))


def _class(row: Row) -> str:
    return str(row.get("dtype", row.get("ranks", "")))


def _architecture(part: str) -> str:
    return accelerators()[part].architecture


def calibration_key(accelerator: Accelerator) -> str:
    """``kernel-fit:<system>`` where kernels of that part were measured, else ``inherited:<system>``."""
    system, measured = constants().system(accelerator)
    return f"{'kernel-fit' if measured else 'inherited'}:{system}"
