"""Quantities as people write them ("3.35 TB/s", "80 GiB", "50 ms"), held in SI inside.

`parse_quantity` reads one value of a given kind, `format_quantity` writes one for people, and the annotated
types (`Seconds`, `Bytes`, ...) read the fields of a pydantic model. Decimal prefixes mean powers of 1000
(GB), binary ones powers of 1024 (GiB); a small "b" is a bit (Gb/s), a capital "B" a byte. A year has
365 days (8,760 hours), as rental and depreciation terms count it.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

LARGEST = 1e30
"""No quantity of this domain comes near it in SI units; anything above is a slip of the pen."""

_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_JOULES = {"J": 1.0, "Wh": 3.6e3, "kWh": 3.6e6, "MWh": 3.6e9, "GWh": 3.6e12}
_GRAMS = {"g": 1e-3, "kg": 1.0, "t": 1e3}
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "week": 7 * 86400.0,
    "weeks": 7 * 86400.0,
    "year": 365 * 86400.0,
    "years": 365 * 86400.0,
}
_COUNTED = ("", "task", "tasks", "call", "calls", "request", "requests", "req", "session", "sessions")


class UnitError(ValueError):
    """A quantity that can't be read.

    Attributes:
        found: what stood there, as Python would write it, shortened.
        expected: what would be right, in words with an example.
    """

    def __init__(self, value: object, expected: str) -> None:
        self.found = reprlib.repr(value)
        self.expected = expected
        super().__init__(f"found {self.found}: expected {expected}")


@dataclass(frozen=True)
class Kind:
    """How one kind of quantity is read and written.

    `units` maps a written unit (without blanks) to its factor into the stored unit; `bare` says whether a
    number without unit is accepted; `scale` lists (unit as written, factor) for display, ascending; `hints`
    are the units proposed where one is missing.
    """

    noun: str
    examples: tuple[str, ...]
    units: Mapping[str, float]
    scale: tuple[tuple[str, float], ...]
    hints: tuple[str, ...] = ()
    bare: bool = False
    largest: float = LARGEST

    @property
    def expected(self) -> str:
        """What a reader should have written, with examples."""
        return f"{self.noun} such as " + " or ".join(f"'{example}'" for example in self.examples)


def _dollar_units() -> dict[str, float]:
    prefixes = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9}
    return {name: f for p, f in prefixes.items() for name in (f"{p}$", f"${p}")}


def _prefixed(names: tuple[str, ...], factor: float = 1.0, binary: bool = False) -> dict[str, float]:
    prefixes = {**_DECIMAL, **_BINARY} if binary else _DECIMAL
    return {f"{p}{name}": f * factor for p, f in prefixes.items() for name in names}


def _per(numerators: Mapping[str, float], denominators: Mapping[str, float]) -> dict[str, float]:
    return {f"{n}/{d}": fn / fd for n, fn in numerators.items() for d, fd in denominators.items()}


def _display(unit: str, prefixes: str, blank: str = " ") -> tuple[tuple[str, float], ...]:
    return tuple((f"{blank}{p.strip()}{unit}", _DECIMAL[p.strip()]) for p in prefixes)


_HOURS = {name: seconds / 3600.0 for name, seconds in _SECONDS.items() if seconds >= 3600.0}
_BYTE_UNITS = _prefixed(("B",), binary=True)
_DOLLARS = _dollar_units()

KINDS: Mapping[str, Kind] = {
    "time": Kind(
        "a time",
        ("50 ms", "2 s"),
        _SECONDS,
        (
            (" ns", 1e-9),
            (" us", 1e-6),
            (" ms", 1e-3),
            (" s", 1.0),
            (" min", 60.0),
            (" h", 3600.0),
            (" days", 86400.0),
            (" years", 365 * 86400.0),
        ),
        hints=(" ms", " s"),
    ),
    "bytes": Kind(
        "a size", ("80 GB", "141 GiB"), _BYTE_UNITS, _display("B", " kMGTPE"), hints=(" GB", " GiB")
    ),
    "bandwidth": Kind(
        "a bandwidth",
        ("3.35 TB/s", "400 Gb/s"),
        {
            **_prefixed(("B/s", "Bps"), binary=True),
            **_prefixed(("b/s", "bit/s", "bps"), factor=1 / 8, binary=True),
        },
        _display("B/s", " kMGTPE"),
        hints=(" GB/s", " Gb/s"),
    ),
    "flops": Kind(
        "a compute rate",
        ("989 TFLOPS", "1.9 PFLOP/s"),
        _prefixed(("FLOPS", "FLOP/s", "FLOPs", "F", "OPS", "OP/s")),
        _display("FLOPS", " kMGTPE"),
        hints=(" TFLOPS",),
    ),
    "rate": Kind(
        "a rate",
        ("4/s", "240/min"),
        _per(dict.fromkeys(_COUNTED, 1.0), _SECONDS),
        (("/year", 1 / (365 * 86400.0)), ("/day", 1 / 86400.0), ("/h", 1 / 3600.0), ("/s", 1.0)),
        hints=("/s",),
    ),
    "power": Kind(
        "a power", ("700 W", "2 MW"), _prefixed(("W",)), _display("W", " kMG"), hints=(" W", " kW")
    ),
    "tokens": Kind(
        "a number of tokens",
        ("110K", "128Ki", "4096"),
        {
            k: f
            for p, f in {**_DECIMAL, **_BINARY}.items()
            if p in ("", "k", "K", "M", "Ki", "Mi")
            for k in (p, f"{p}token", f"{p}tokens")
        },
        (("", 1.0), ("K", 1e3), ("M", 1e6)),
        bare=True,
    ),
    "dollars": Kind(
        "an amount of money",
        ("25000 $", "4.36 M$"),
        _DOLLARS,
        ((" $", 1.0), (" k$", 1e3), (" M$", 1e6), (" B$", 1e9)),
        hints=(" $",),
    ),
    "usd_per_hour": Kind(
        "a price per hour",
        ("2.05 $/h",),
        _per(_DOLLARS, _HOURS),
        ((" $/h", 1.0), (" k$/h", 1e3), (" M$/h", 1e6)),
        hints=(" $/h",),
    ),
    "usd_per_joule": Kind(
        "an energy price",
        ("0.08 $/kWh",),
        _per(_DOLLARS, _JOULES),
        ((" $/kWh", 1 / 3.6e6),),
        hints=(" $/kWh",),
    ),
    "usd_per_byte": Kind(
        "a price of memory", ("13.8 $/GB",), _per(_DOLLARS, _BYTE_UNITS), ((" $/GB", 1e-9),), hints=(" $/GB",)
    ),
    "kg_per_joule": Kind(
        "a carbon intensity",
        ("380 g/kWh",),
        _per({f"{g}{co2}": f for g, f in _GRAMS.items() for co2 in ("", "CO2", "CO2e")}, _JOULES),
        ((" g/kWh", 1e-3 / 3.6e6),),
        hints=(" g/kWh",),
    ),
    "fraction": Kind(
        "a fraction from 0 to 1",
        ("0.5", "0.5%"),
        {"": 1.0, "%": 0.01},
        (("%", 0.01),),
        bare=True,
        largest=1.0,
    ),
    "hours_per_day": Kind(
        "hours per day",
        ("10 h/day",),
        _per({"h": 1 / 24, "hour": 1 / 24, "hours": 1 / 24}, {"day": 1.0, "d": 1.0}),
        ((" h/day", 1 / 24),),
        hints=(" h/day",),
        largest=1.0,
    ),
}
"""Every kind of quantity, stored as: time s, bytes B, bandwidth B/s, flops FLOP/s, rate 1/s, power W, tokens,
dollars, usd_per_hour, usd_per_joule, usd_per_byte, kg_per_joule, fraction, hours_per_day (a fraction)."""


def _normal_unit(text: str) -> str:
    """The unit without blanks and with one spelling of micro and of dollar."""
    unit = re.sub(r"\s+", "", text)
    return unit.replace("µ", "u").replace("μ", "u").replace("USD", "$").replace("usd", "$")


def _split(text: str) -> tuple[float, str] | None:
    """Number and unit of a written quantity; None when it does not begin with a number."""
    stripped = text.strip()
    dollar_first = stripped.startswith("$")
    match = _NUMBER.match(stripped[1:].lstrip() if dollar_first else stripped)
    if match is None:
        return None
    unit = _normal_unit(match.string[match.end() :])
    if dollar_first:  # "$30M/h" is "30 M$/h"
        head, slash, tail = unit.partition("/")
        unit = f"{head}${slash}{tail}"
    return float(match.group().replace("_", "")), unit


def parse_quantity(value: str | int | float, kind: str) -> float:
    """The value in the stored unit of its kind (SI; money in dollars, `usd_per_hour` in dollars per hour).

    A number without unit is taken for tokens, fractions and zero only.

    Raises:
        UnitError: not a number with a known unit, NaN, infinite, negative, boolean, or beyond any sensible
            size.
        KeyError: no such kind.
    """
    spec = KINDS[kind]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UnitError(value, spec.expected)
    if isinstance(value, str):
        parts = _split(value)
        if parts is None:
            raise UnitError(value, spec.expected)
        number, unit = parts
    else:
        try:
            number, unit = float(value), ""
        except OverflowError:
            raise UnitError(value, f"{spec.expected}, not beyond {LARGEST:g}") from None
    if not math.isfinite(number):
        raise UnitError(value, f"a finite number: {spec.expected}")
    if number < 0:
        raise UnitError(value, f"a value that is not negative: {spec.expected}")
    if unit == "" and not spec.bare:
        if number == 0:
            return 0.0
        raise UnitError(value, "a unit: " + " or ".join(f"'{number:g}{hint}'" for hint in spec.hints))
    if unit not in spec.units:
        raise UnitError(value, spec.expected)
    result = number * spec.units[unit]
    if result > spec.largest:
        limit = "at most 1" if spec.largest == 1.0 else f"at most {spec.largest:g} in SI units"
        raise UnitError(value, f"{spec.expected}, {limit}")
    return result


def format_quantity(value: float, kind: str, digits: int = 4) -> str:
    """The value for people, in the unit that keeps its number short, to `digits` significant digits.

    `parse_quantity` reads the text back to that precision (negative values, as in differences, excepted).
    """
    scale = KINDS[kind].scale
    unit, factor = scale[0]
    if value == 0 or not math.isfinite(value):
        unit, factor = next(((u, f) for u, f in scale if f == 1.0), scale[0])
    else:
        # Rounding decides the unit too: 999.96 GB is "1 TB", not "1000 GB".
        shown = float(f"{abs(value):.{digits}g}")
        for candidate, size in scale:
            if shown >= size * (1 - 1e-12):
                unit, factor = candidate, size
    text = f"{value / factor:.{digits}g}"
    if "e" in text:
        text = f"{float(text):g}"
    return f"{text}{unit}"


@dataclass(frozen=True)
class _KindMark:
    """Stands in the annotation of a quantity, so that a field's kind can be looked up."""

    kind: str


def _validator(kind: str) -> Callable[[Any, ValidationInfo], float]:
    def validate(value: Any, info: ValidationInfo) -> float:
        # `codesign.catalog.override` names fields that already hold SI numbers.
        si_fields = info.context.get("si_fields", ()) if isinstance(info.context, Mapping) else ()
        if info.field_name in si_fields and isinstance(value, float):
            return value
        return parse_quantity(value, kind)

    return validate


def _schema(kind: str) -> WithJsonSchema:
    spec = KINDS[kind]
    text = {"type": "string", "examples": list(spec.examples), "description": spec.expected}
    if not spec.bare:
        return WithJsonSchema({"anyOf": [text, {"type": "number", "const": 0}]})
    number: dict[str, Any] = {"type": "number", "minimum": 0}
    if spec.largest == 1.0:
        number["maximum"] = 1
    return WithJsonSchema({"anyOf": [text, number]})


Seconds = Annotated[float, _KindMark("time"), BeforeValidator(_validator("time")), _schema("time")]
Bytes = Annotated[float, _KindMark("bytes"), BeforeValidator(_validator("bytes")), _schema("bytes")]
BytesPerSecond = Annotated[
    float, _KindMark("bandwidth"), BeforeValidator(_validator("bandwidth")), _schema("bandwidth")
]
FlopsPerSecond = Annotated[float, _KindMark("flops"), BeforeValidator(_validator("flops")), _schema("flops")]
PerSecond = Annotated[float, _KindMark("rate"), BeforeValidator(_validator("rate")), _schema("rate")]
Watts = Annotated[float, _KindMark("power"), BeforeValidator(_validator("power")), _schema("power")]
Tokens = Annotated[float, _KindMark("tokens"), BeforeValidator(_validator("tokens")), _schema("tokens")]
Dollars = Annotated[float, _KindMark("dollars"), BeforeValidator(_validator("dollars")), _schema("dollars")]
UsdPerHour = Annotated[
    float, _KindMark("usd_per_hour"), BeforeValidator(_validator("usd_per_hour")), _schema("usd_per_hour")
]
UsdPerJoule = Annotated[
    float, _KindMark("usd_per_joule"), BeforeValidator(_validator("usd_per_joule")), _schema("usd_per_joule")
]
UsdPerByte = Annotated[
    float, _KindMark("usd_per_byte"), BeforeValidator(_validator("usd_per_byte")), _schema("usd_per_byte")
]
KgPerJoule = Annotated[
    float, _KindMark("kg_per_joule"), BeforeValidator(_validator("kg_per_joule")), _schema("kg_per_joule")
]
Fraction = Annotated[
    float, _KindMark("fraction"), BeforeValidator(_validator("fraction")), _schema("fraction")
]
FractionOfDay = Annotated[
    float, _KindMark("hours_per_day"), BeforeValidator(_validator("hours_per_day")), _schema("hours_per_day")
]


def quantity_kind(annotation: object, metadata: tuple[object, ...] = ()) -> str | None:
    """The kind of quantity that an annotation holds ("time" of `Seconds | None`), None for other types.

    Of a pydantic field, pass `field.annotation` and `tuple(field.metadata)`.
    """
    for mark in metadata:
        if isinstance(mark, _KindMark):
            return mark.kind
    for part in get_args(annotation):
        kind = part.kind if isinstance(part, _KindMark) else quantity_kind(part)
        if kind is not None:
            return str(kind)
    return None
