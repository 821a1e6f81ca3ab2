"""Periods and scenarios in a problem file: when something else holds than the rest of the file says, and how likely.

Both change values by their dotted paths (`tasks.coding.rate`), the words of `Problem.replace` and `sweep --set`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from codesign.problem.errors import FieldError
from codesign.problem.fields import Month, Name, Number, Part, PositiveDuration, PositiveNumber
from codesign.problem.instance import NOMINAL, Measure
from codesign.units import Fraction, FractionOfDay

CHANGEABLE = (
    "tasks",
    "site",
    "models",
    "hardware",
    "purchase_units",
    "memory",
    "measured_pools",
    "limits",
    "redundancy",
    "existing",
)
"""Where the paths of `set` may begin."""

Changes = dict[Name, Any]


class _Changing(Part):
    """A part with `set`."""

    set: Changes = Field(default_factory=dict)
    """Values by dotted path, such as {tasks.coding.prefix.reusable: 0.80}."""

    @model_validator(mode="after")
    def _changeable(self) -> _Changing:
        for path in self.set:
            if path.split(".")[0] not in CHANGEABLE:
                raise FieldError(path, "a dotted path that begins with " + ", ".join(CHANGEABLE))
            if path.startswith("limits.budget"):
                raise FieldError(path, "another limit: budgets hold over all periods and scenarios alike")
        return self


class Period(_Changing):
    """Part of the time: some hours of each day, or some years."""

    hours: Annotated[FractionOfDay, Field(gt=0)] | None = None
    """Hours of each day."""
    lasts: PositiveDuration | None = None
    """Length of a phase of growth; beside it `hours` are those of its days."""
    starts: Month | None = None
    """First month, for what exists only until some month."""
    scale: Annotated[PositiveNumber, Field(le=1e6)] = 1.0
    """Factor on the rates of all tasks."""

    @property
    def weight(self) -> float:
        """Its length in a unit that all periods of the file share."""
        return (1.0 if self.hours is None else self.hours) * (1.0 if self.lasts is None else self.lasts)


class Scenario(_Changing):
    """What may come: the file with some values changed, in all periods."""

    name: Name
    probability: Annotated[Fraction, Field(gt=0)] | None = None
    """What is left to 1 is that of the file as it stands; without any, all scenarios and the file are equally
    likely."""


class Risk(Part):
    """What `solve --robust` minimises over the scenarios."""

    measure: Measure = "worst-case"
    """The mean of the objective by probability, its worst value, or the mean of its worst values (CVaR)."""
    level: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    """α of the CVaR: the mean of the worst 1 − α."""


def check_periods(periods: dict[str, Period]) -> dict[str, Period]:
    """The same; raises FieldError where the hours do not add up."""
    timed = [word for word in ("hours", "lasts") if any(getattr(p, word) is not None for p in periods.values())]
    for name, period in periods.items():
        if not timed or any(getattr(period, word) is None for word in timed):
            expected = "hours (10 h/day) or lasts (1 year) in every period, the same words in each"
            raise FieldError(f"period '{name}' without {' and '.join(timed) or 'a length'}", expected, words=True)
    if timed == ["hours"]:
        total = sum(period.weight for period in periods.values())
        if abs(total - 1.0) > 1e-6:
            raise FieldError(f"{24 * total:g} h/day altogether", "hours that add up to 24 h/day", words=True)
    return periods


def check_scenarios(scenarios: list[Scenario]) -> list[Scenario]:
    """The same; raises FieldError where names are not their own or probabilities do not add up."""
    names = [scenario.name for scenario in scenarios]
    if len(set(names)) < len(names) or NOMINAL in names:
        raise FieldError("scenarios " + ", ".join(names), f"names of their own, none of them '{NOMINAL}'", words=True)
    given = [s.probability for s in scenarios if s.probability is not None]
    if given and len(given) < len(scenarios):
        raise FieldError("scenarios with and without probability", "all with, or all without", words=True)
    if sum(given) > 1 + 1e-9:
        raise FieldError(f"probabilities of {sum(given):g} altogether", "at most 1", words=True)
    return scenarios


def probabilities(scenarios: Sequence[Scenario]) -> dict[str, float]:
    """Probability of the file as it stands and of each scenario; impossible ones are left out."""
    given = [s.probability for s in scenarios if s.probability is not None]
    if not given:
        return dict.fromkeys((NOMINAL, *(s.name for s in scenarios)), 1.0 / (len(scenarios) + 1))
    rest = max(0.0, 1.0 - sum(given))
    found = {NOMINAL: rest} | {s.name: s.probability or 0.0 for s in scenarios}
    return {name: share for name, share in found.items() if share > 1e-12}
