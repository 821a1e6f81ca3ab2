import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from codesign.units import (
    KINDS,
    Fraction,
    PerSecond,
    Seconds,
    Tokens,
    UnitError,
    format_quantity,
    parse_quantity,
    quantity_kind,
)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("50 ms", "time", 0.05),
        ("3µs", "time", 3e-6),
        ("12 min", "time", 720),
        ("4 years", "time", 4 * 8760 * 3600),
        ("200 days", "time", 200 * 86400),
        ("80 GB", "bytes", 80e9),
        ("80 GiB", "bytes", 80 * 2**30),
        ("3.35 TB/s", "bandwidth", 3.35e12),
        ("400 Gb/s", "bandwidth", 50e9),
        ("400 Gbps", "bandwidth", 50e9),
        ("1 GiB/s", "bandwidth", 2**30),
        ("989 TFLOPS", "flops", 989e12),
        ("1.9 PFLOP/s", "flops", 1.9e15),
        ("20 PF", "flops", 20e15),
        ("1979 TOPS", "flops", 1979e12),
        ("4/s", "rate", 4),
        ("4 tasks/s", "rate", 4),
        ("240 / min", "rate", 4),
        ("1000/h", "rate", 1000 / 3600),
        ("2 MW", "power", 2e6),
        ("110K", "tokens", 110_000),
        ("128Ki", "tokens", 131_072),
        ("1M tokens", "tokens", 1e6),
        (4096, "tokens", 4096),
        ("30 M$", "dollars", 30e6),
        ("$30M", "dollars", 30e6),
        ("25000 $", "dollars", 25_000),
        ("25 kUSD", "dollars", 25_000),
        ("2.05 $/h", "usd_per_hour", 2.05),
        ("$2.05/h", "usd_per_hour", 2.05),
        ("48 $/day", "usd_per_hour", 2),
        ("0.08 $/kWh", "usd_per_joule", 0.08 / 3.6e6),
        ("13.8 $/GB", "usd_per_byte", 13.8e-9),
        ("380 g/kWh", "kg_per_joule", 0.38 / 3.6e6),
        ("0.38 kgCO2e/kWh", "kg_per_joule", 0.38 / 3.6e6),
        (0.5, "fraction", 0.5),
        ("0.5%", "fraction", 0.005),
        ("100%", "fraction", 1),
        ("10 h/day", "hours_per_day", 10 / 24),
        (0, "power", 0),
        ("1e9 B", "bytes", 1e9),
        ("1_000 W", "power", 1000),
    ],
)
def test_reads_what_people_write(text, kind, value):
    assert parse_quantity(text, kind) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("80 parsecs", "bytes", r"found '80 parsecs': expected a size such as '80 GB' or '141 GiB'"),
        (50, "time", r"found 50: expected a unit: '50 ms' or '50 s'"),
        ("50", "rate", r"found '50': expected a unit: '50/s'"),
        (25000, "dollars", r"expected a unit: '25000 \$'"),
        ("80 Gb", "bytes", "expected a size"),
        (True, "tokens", "found True: expected a number of tokens"),
        (None, "time", "found None"),
        ([1], "time", "expected a time"),
        (math.nan, "tokens", "finite"),
        (math.inf, "tokens", "finite"),
        ("1e999 s", "time", "finite"),
        ("nan s", "time", "expected a time"),
        (-1, "tokens", "not negative"),
        ("-4/s", "rate", "not negative"),
        ("", "time", "expected a time"),
        ("fast", "rate", "expected a rate"),
        (96, "fraction", "at most 1"),
        ("25 h/day", "hours_per_day", "at most 1"),
        (10**400, "tokens", "not beyond"),
        ("1e40 B", "bytes", "at most 1e"),
    ],
)
def test_says_what_was_found_and_what_would_be_right(value, kind, message):
    with pytest.raises(UnitError, match=message) as caught:
        parse_quantity(value, kind)
    assert caught.value.found in str(caught.value)
    assert caught.value.expected in str(caught.value)


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(UnitError) as caught:
        parse_quantity("x" * 100_000, "time")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(value=st.floats(min_value=1e-15, max_value=1e25))
def test_formatting_round_trips(kind, value):
    if value > KINDS[kind].largest:
        value = 1 / value
    text = format_quantity(value, kind)
    assert parse_quantity(text, kind) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (3.35e12, "bandwidth", "3.35 TB/s"),
        (0.0123, "time", "12.3 ms"),
        (1.24e6, "power", "1.24 MW"),
        (999.96e9, "bytes", "1 TB"),
        (0, "power", "0 W"),
        (4 * 365 * 86400, "time", "4 years"),
        (2.05, "usd_per_hour", "2.05 $/h"),
        (4.36e6, "dollars", "4.36 M$"),
        (0.005, "fraction", "0.5%"),
        (110_000, "tokens", "110K"),
        (4, "rate", "4/s"),
        (-2e6, "power", "-2 MW"),
    ],
)
def test_writes_for_people(value, kind, text):
    assert format_quantity(value, kind) == text


class Example(BaseModel):
    model_config = ConfigDict(frozen=True)
    ttft: Seconds
    rate: PerSecond | None = None
    length: Tokens = 0
    hit: Fraction = 0.5


def test_fields_read_quantities_and_refuse_numbers_without_unit():
    example = Example.model_validate({"ttft": "50 ms", "rate": "240/min", "length": "4Ki", "hit": "96%"})
    assert (example.ttft, example.rate, example.length, example.hit) == (0.05, 4.0, 4096.0, 0.96)
    with pytest.raises(ValidationError, match="expected a unit: '50 ms'"):
        Example.model_validate({"ttft": 50})


def test_schema_offers_examples_to_editors():
    ttft = Example.model_json_schema()["properties"]["ttft"]
    assert ttft["anyOf"][0]["examples"] == ["50 ms", "2 s"]
    assert ttft["anyOf"][1] == {"type": "number", "const": 0}


def test_the_kind_of_a_field_can_be_looked_up():
    fields = Example.model_fields
    kinds = {name: quantity_kind(field.annotation, tuple(field.metadata)) for name, field in fields.items()}
    assert kinds == {"ttft": "time", "rate": "rate", "length": "tokens", "hit": "fraction"}
    assert quantity_kind(float) is None
