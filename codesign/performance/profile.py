"""Engine profiles: what a serving engine adds to kernel times, as defaults by engine and year or calibrated.

A profile has few numbers on purpose: overheads fitted in detail do not transfer to rows that the fit has not
seen (facts/performance_model.md 1). ``data/engines.toml`` holds the defaults with their ranges;
``codesign calibrate`` writes one from a user's own measured points.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codesign.catalog import Accelerator

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EngineProfile:
    """How an engine's steps differ from the sum of their kernels.

    step' = multiplier·(kernels) + host_step_s + per_sequence_s·sequences; prefill' = multiplier·(kernels) +
    host_step_s. A profile without a host step keeps the default of the constants file.
    """

    name: str = "default"
    """What a plan prints: engine and year, or the name of the file's stack."""
    multiplier: float = 1.0
    """Of all kernel times, prefill and decode."""
    host_step_s: float | None = None
    """Seconds per step that the accelerator waits for the host; None: the constants file's default."""
    per_sequence_s: float = 0.0
    """Seconds per step and running sequence (sampling, detokenisation, block tables)."""
    prefill_charge: float = 1.0
    """κ: share of other requests' prefill time that decoding requests wait for; measured 0.7 to 1.05."""
    scheduler_delay_steps: float = 10.0
    """Steps between arrival at a busy engine and the start of the prefill; 3 to 50 when measured."""
    expected_error: float | None = None
    """Relative half width of an 80 % band where points of this very stack set it."""
    accelerators: tuple[str, ...] = ()
    """Catalogue ids of the accelerators that it holds for; empty: all."""
    source: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        """Refuse what no engine can be; raises ValueError that names the field."""
        limits = {
            "multiplier": (0.05, 20.0),
            "per_sequence_s": (0.0, 1.0),
            "prefill_charge": (0.0, 5.0),
            "scheduler_delay_steps": (0.0, 1000.0),
        }
        if self.host_step_s is not None:
            limits["host_step_s"] = (0.0, 10.0)
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name}: found {value!r}; expected a number from {low:g} to {high:g}")

    def applies_to(self, accelerator_id: str) -> bool:
        """Whether the profile holds for an accelerator."""
        return not self.accelerators or accelerator_id in self.accelerators

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, without those that say nothing."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["accelerators"] = list(self.accelerators)
        return {name: value for name, value in values.items() if value not in (None, "", [])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineProfile:
        """A profile from plain values; raises ValueError for a field that it does not know."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"found the field {unknown[0]!r}; expected only {known}")
        return cls(**{**values, "accelerators": tuple(values.get("accelerators", ()))})


DEFAULT_PROFILE = EngineProfile()


@dataclass(frozen=True, eq=False)
class EngineArrays:
    """A profile's numbers for each of A accelerators, [A]."""

    multiplier: FloatArray
    host_step_s: FloatArray
    """NaN where the constants file's default holds."""
    per_sequence_s: FloatArray
    exact: NDArray[np.bool_]
    """Whether the profile names the accelerator: its host step then includes what the vendor's parts add."""

    @classmethod
    def build(cls, accelerators: Sequence[Accelerator], profiles: Sequence[EngineProfile]) -> EngineArrays:
        """The first profile that applies to each accelerator, else the default."""
        chosen = [profile_of(a.id, profiles) for a in accelerators]

        def column(name: str) -> FloatArray:
            values = [getattr(profile, name) for profile in chosen]
            return np.array([np.nan if value is None else value for value in values], dtype=float)

        return cls(
            multiplier=column("multiplier"),
            host_step_s=column("host_step_s"),
            per_sequence_s=column("per_sequence_s"),
            exact=np.array([bool(profile.accelerators) for profile in chosen], dtype=bool),
        )


def profile_of(accelerator_id: str, profiles: Sequence[EngineProfile]) -> EngineProfile:
    """The first profile that applies to an accelerator; the default where none does."""
    return next((p for p in profiles if p.applies_to(accelerator_id)), DEFAULT_PROFILE)


@cache
def engine_defaults() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    """Defaults by engine, newest first: entries of ``data/engines.toml`` with their ranges and sources."""
    text = files("codesign.performance").joinpath("data/engines.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return {
        engine: tuple(sorted(entries, key=lambda entry: -int(entry["since"])))
        for engine, entries in document["engine"].items()
    }


def default_profile(engine: str, year: int | None = None) -> EngineProfile:
    """The default profile of an engine ("vllm", "sglang", "tensorrt-llm", …) as it was in a year.

    An engine that the file does not know gets the entry ``other``; no year means the newest.
    """
    entries = engine_defaults().get(engine) or engine_defaults()["other"]
    entry = entries[0] if year is None else next((e for e in entries if e["since"] <= year), entries[-1])
    return EngineProfile(
        name=f"{engine}-{entry['since']}",
        host_step_s=entry["host_step_ms"] * 1e-3,
        per_sequence_s=entry.get("per_sequence_us", 0.0) * 1e-6,
        scheduler_delay_steps=entry["scheduler_delay_steps"],
        source=entry["source"],
        date=entry["date"],
    )
