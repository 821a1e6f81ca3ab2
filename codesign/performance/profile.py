"""Engine profiles: what a serving engine adds to kernel times, as defaults by engine and year or calibrated.

A profile has few numbers on purpose: overheads fitted in detail do not transfer to rows that the fit has not
seen (facts/performance_model.md 1). ``data/engines.toml`` holds the defaults with their ranges;
``codesign calibrate`` writes one from a user's own measured points.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.files import write_atomically
from codesign.performance.constants import generation
from codesign.performance.facts import facts

if TYPE_CHECKING:
    from codesign.catalog import Accelerator

FloatArray = NDArray[np.float64]


KERNEL_ENGINES = ("vllm", "sglang", "tensorrt-llm")
"""Engines whose own kernels the constants file tells apart."""

MAX_PROFILE_BYTES = 100_000
"""A profile is a few lines: anything larger is some other file."""


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
    first_token_s: float | None = None
    """Seconds of a request's time to first token beside waits, prefill, transfers and steps: HTTP, tokenising,
    scheduling, detokenising. None: what was measured of the engine on the accelerator's generation (0.04 to 0.25)."""
    kernels: str = ""
    """Engine whose own attention and all-reduce kernels run ("vllm", "sglang", "tensorrt-llm"); empty: those that
    stand for all."""
    expected_error: float | None = None
    """Relative half width of an 80 % band where points of this very stack set it."""
    accelerators: tuple[str, ...] = ()
    """Catalogue ids of the accelerators that it holds for; empty: all."""
    source: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        """Refuse what no engine can be; raises ValueError that names the field."""
        if self.kernels not in ("", *KERNEL_ENGINES):
            raise ValueError(f"kernels: found {self.kernels!r}; expected one of {', '.join(KERNEL_ENGINES)}")
        limits = {
            "multiplier": (0.05, 20.0),
            "per_sequence_s": (0.0, 1.0),
            "prefill_charge": (0.0, 5.0),
        }
        for name, limit in {"host_step_s": 10.0, "first_token_s": 100.0, "expected_error": 10.0}.items():
            if getattr(self, name) is not None:
                limits[name] = (0.0, limit)
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and low <= value <= high):
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
        named = values.get("accelerators", ())
        if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
            raise ValueError(f"accelerators: found {named!r}; expected a list of catalogue ids")
        return cls(**{**values, "accelerators": tuple(named)})


DEFAULT_PROFILE = EngineProfile()


@dataclass(frozen=True, eq=False)
class EngineArrays:
    """A profile's numbers for each of A accelerators, [A]."""

    multiplier: FloatArray
    host_step_s: FloatArray
    """NaN where the constants file's default holds."""
    per_sequence_s: FloatArray
    first_token_s: FloatArray
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
            first_token_s=np.array([_first_token_s(p, a) for p, a in zip(chosen, accelerators, strict=True)]),
            exact=np.array([bool(profile.accelerators) for profile in chosen], dtype=bool),
        )


def profile_of(accelerator_id: str, profiles: Sequence[EngineProfile]) -> EngineProfile:
    """The first profile that applies to an accelerator; the default where none does."""
    return next((p for p in profiles if p.applies_to(accelerator_id)), DEFAULT_PROFILE)


def engine_defaults() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    """Defaults by engine, newest first: entries of ``data/engines.toml`` with their ranges and sources."""
    return {
        engine: tuple(sorted(entries, key=lambda entry: -int(entry["since"])))
        for engine, entries in facts("engines")["engine"].items()
    }


def first_token_constants() -> Sequence[Mapping[str, Any]]:
    """Entries of ``data/engines.toml``, each of an engine on a generation; the last, of none, holds for all others."""
    entries: Sequence[Mapping[str, Any]] = facts("engines")["first_token"]
    return entries


def _first_token_s(profile: EngineProfile, accelerator: Accelerator) -> float:
    """The profile's own, else what was measured of its engine on the accelerator's generation, else the default."""
    if profile.first_token_s is not None:
        return profile.first_token_s
    wanted = profile.kernels, generation(accelerator)
    entries = first_token_constants()
    found = next((e for e in entries if (e["engine"], e["generation"]) == wanted), entries[-1])
    return float(found["ms"]) * 1e-3


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
        kernels=engine if engine in KERNEL_ENGINES else "",
        source=entry["source"],
        date=entry["date"],
    )


def read_profile(path: str | Path) -> EngineProfile:
    """The profile of a file (YAML or JSON) as ``codesign calibrate`` writes it.

    Raises ValueError that names the file and says what was found and what would be right.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    name = str(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{name}: found no readable file ({reason}); expected an engine profile") from None
    if len(content) > MAX_PROFILE_BYTES:
        raise ValueError(f"{name}: found {len(content):,} bytes; expected an engine profile of a few lines")
    try:
        values = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"{name}: found what is no YAML ({words}); expected an engine profile") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{name}: found {type(values).__name__}; expected an engine profile: names and values"
        )
    try:
        return EngineProfile.from_dict(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None


def write_profile(profile: EngineProfile, path: str | Path) -> None:
    """Write a profile as JSON where the path ends so, else as YAML; raises WriteError."""
    target = Path(path)
    if target.suffix == ".json":
        write_atomically(target, json.dumps(profile.to_dict(), indent=2) + "\n")
        return
    from ruamel.yaml import YAML

    writer = YAML()
    writer.width = 110
    text = io.StringIO("# An engine profile: see codesign/performance/profile.py for what each number means.\n")
    text.seek(0, io.SEEK_END)
    writer.dump(profile.to_dict(), text)
    write_atomically(target, text.getvalue())
