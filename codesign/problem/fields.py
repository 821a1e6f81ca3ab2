"""Types of single fields: whole numbers, flags, names, bounded quantities, distributions and percentiles."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from codesign.problem.distributions import Distribution
from codesign.problem.errors import FieldError
from codesign.units import Dollars, PerSecond, Seconds, Tokens, parse_quantity


class Part(BaseModel):
    """Base of every part of a problem file: frozen, and an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


def written(value: str | float | list[str]) -> Any:
    """Return a default as people write it ("5 min"); it is parsed like a value of the file."""
    return Field(default=value)


class ShortForm(Part):
    """A part that may also be written as a single number or text."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": ["number", "string"]}, handler(core_schema)]}


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,12}\s*", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError(value, "a whole number")
    if isinstance(value, float) and not (math.isfinite(value) and value == int(value)):
        raise FieldError(value, "a whole number")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}(\.\d*)?([eE][+-]?\d{1,3})?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError(value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FieldError(value, "a finite number")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise FieldError(value, "true or false")


def _name(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12:
        value = str(value)
    if not isinstance(value, str):
        raise FieldError(value, "a name")
    if not value.strip() or len(value) > 200 or not value.isprintable():
        raise FieldError(value, "a name of 1 to 200 printable characters")
    return value


def _month(value: Any) -> datetime.date:
    if isinstance(value, datetime.date):
        return value
    match = re.fullmatch(r"\s*(\d{4})-(\d{2})(?:-(\d{2}))?\s*", value) if isinstance(value, str) else None
    if match is not None and 1 <= int(match[2]) <= 12 and 1 <= int(match[3] or 1) <= 31:
        try:
            return datetime.date(int(match[1]), int(match[2]), int(match[3] or 1))
        except ValueError:  # 31 June
            pass
    raise FieldError(value, "a month or day such as 2028-06 or 2028-06-15")


_INTEGER = WithJsonSchema({"type": "integer", "minimum": 0})
_POSITIVE_INTEGER = WithJsonSchema({"type": "integer", "minimum": 1})
Count = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1_000_000_000), _INTEGER]
PositiveCount = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1_000_000_000), _POSITIVE_INTEGER]
Number = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e9)]
PositiveNumber = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1e9)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Name = Annotated[str, BeforeValidator(_name)]
Month = Annotated[
    datetime.date,
    BeforeValidator(_month),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}(-\d{2})?$", "examples": ["2028-06"]}),
]
FilePath = Annotated[str, BeforeValidator(_name)]
Rate = Annotated[PerSecond, Field(gt=0, le=1e9)]
Duration = Annotated[Seconds, Field(le=1e10)]
PositiveDuration = Annotated[Seconds, Field(gt=0, le=1e10)]
TokenCount = Annotated[Tokens, Field(le=1e9)]


def _time_to_live(value: Any) -> float | str:
    return "decide" if value == "decide" else parse_quantity(value, "time")


TimeToLive = Annotated[
    Annotated[float, Field(gt=0, le=1e10)] | Literal["decide"],
    BeforeValidator(_time_to_live),
    WithJsonSchema({"type": "string", "examples": ["5 min", "decide"]}),
]

Q = TypeVar("Q")


class DistributionSpec(ShortForm, Generic[Q]):
    """What is known of a quantity: a number, or some of mean, cv and percentiles (a lognormal is fitted).

    `{mean}` alone is taken as a lognormal with cv 1. With several percentiles the fit is least squares on
    logarithms; with a mean beside them the mean is exact.
    """

    value: Q | None = None
    """The constant; the short form is the number alone."""
    mean: Q | None = None
    """Arithmetic mean."""
    cv: Annotated[float, BeforeValidator(_number), Field(ge=0, le=100)] | None = None
    """Standard deviation over mean."""
    p10: Q | None = None
    p25: Q | None = None
    p50: Q | None = None
    p75: Q | None = None
    p90: Q | None = None
    p95: Q | None = None
    p99: Q | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return data if isinstance(data, (dict, DistributionSpec)) else {"value": data}

    @model_validator(mode="after")
    def _fits(self) -> DistributionSpec[Q]:
        self.distribution()
        return self

    @property
    def quantiles(self) -> dict[float, float]:
        """The percentiles given: {0.9: value}."""
        names = [name for name in type(self).model_fields if re.fullmatch(r"p\d+", name)]
        return {int(n[1:]) / 100: getattr(self, n) for n in names if getattr(self, n) is not None}

    @property
    def spread_is_assumed(self) -> bool:
        """True where only the mean is known."""
        return self.mean is not None and self.mean != 0 and self.cv is None and not self.quantiles

    def distribution(self) -> Distribution:
        """Return the distribution; ValueError where the figures contradict each other."""
        shape = "a number, {mean}, {mean, cv}, {mean, p90} or {p50, p90}"
        mean: Any = self.mean
        value: Any = self.value
        if value is not None:
            if mean is not None or self.cv is not None or self.quantiles:
                raise FieldError("a value beside a mean or percentiles", shape, words=True)
            return Distribution.constant(value)
        if self.cv is not None and (mean is None or self.quantiles):
            raise FieldError("cv without a mean, or beside percentiles", shape, words=True)
        try:
            if self.quantiles:
                return Distribution.from_quantiles(self.quantiles, mean)
            if mean is not None:
                return Distribution.from_mean(mean, 1.0 if self.cv is None else self.cv)
        except ValueError as error:
            raise FieldError(error, f"figures that fit each other: {shape}", words=True) from None
        raise FieldError("no figure", shape, words=True)


class Percentiles(Part):
    """Upper limits in seconds by percentile, such as {p95: 800 ms, p99: 2 s}."""

    p50: PositiveDuration | None = None
    p75: PositiveDuration | None = None
    p80: PositiveDuration | None = None
    p90: PositiveDuration | None = None
    p95: PositiveDuration | None = None
    p98: PositiveDuration | None = None
    p99: PositiveDuration | None = None
    p999: PositiveDuration | None = None
    """99.9 %."""

    @model_validator(mode="after")
    def _ascending(self) -> Percentiles:
        levels = self.levels
        if not levels:
            raise FieldError("no percentile", "at least one, such as {p95: 2 s}", words=True)
        for (p, low), (q, high) in itertools.pairwise(levels):
            if high < low:
                raise FieldError(
                    f"p{100 * q:g} of {high:g} s below p{100 * p:g} of {low:g} s",
                    "limits that rise with the percentile",
                    words=True,
                )
        return self

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """(percentile as a fraction, seconds), ascending."""
        names = [name for name in Percentiles.model_fields if getattr(self, name) is not None]
        return tuple(sorted((float(f"0.{name[1:]}"), getattr(self, name)) for name in names))


class RateSpec(ShortForm):
    """Arrivals: `4/s`, or the rate of the trace in `lengths`: `trace`, `{trace: 10x}` for ten times as
    many."""

    value: Rate | None = None
    trace: PositiveNumber | None = None
    """Factor on the trace's own rate."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if data == "trace":
            return {"trace": 1}
        if isinstance(data, dict):
            factor = data.get("trace")
            return data | {"trace": factor.strip().rstrip("x×")} if isinstance(factor, str) else data
        return data if isinstance(data, RateSpec) else {"value": data}

    @model_validator(mode="after")
    def _one(self) -> RateSpec:
        if (self.value is None) == (self.trace is None):
            raise FieldError(
                "neither or both of value and trace", "a rate such as '4/s', or 'trace'", words=True
            )
        return self


class Capital(ShortForm):
    """A purchase price: `28000 $` (per accelerator), `4.36 M$/server`."""

    amount: Dollars
    per_server: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if isinstance(data, (dict, Capital)):
            return data
        if isinstance(data, str):
            head, slash, unit = data.rpartition("/")
            if slash and unit.strip() in ("server", "accelerator"):
                return {"amount": head, "per_server": unit.strip() == "server"}
        return {"amount": data}
