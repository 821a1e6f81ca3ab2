"""What the experiments of scripts/hypotheses.py share: findings, plots, and the least cost of a problem."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from codesign.candidates.build import build_candidates
from codesign.candidates.data import SideLimit
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import solve
from codesign.problem import Problem, load_problem, resolve

PROBLEMS = Path(__file__).parents[1] / "problems" / "hypotheses"
_RELAX_SECONDS = 120.0

SUPPORTED, REFUTED = "supported", "not supported"


@dataclass(frozen=True)
class Series:
    """A line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """A picture: axes, lines, points or bars, and levels drawn across."""

    name: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    level: tuple[str, float] | None = None
    """A horizontal line and its name."""
    published: tuple[str, float] | None = None
    """What others report in the same unit, as another horizontal line."""
    upright: tuple[str, float] | None = None
    """A vertical line and its name."""
    kind: Literal["lines", "points", "bars"] = "lines"
    """Points carry their series' name; bars stand on words: x of a series counts them, `words` names them."""
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Whole:
    """A solved plan of whole servers beside the relaxation's optimum of the same setting."""

    setting: str
    least: float
    """The relaxation's optimum."""
    plan: float | None
    """Of the plan; None where the clock ended without one."""
    gap: float | None
    """Within which it is proven."""


@dataclass(frozen=True)
class Finding:
    """What an experiment found.  The verdict is computed from the figures in it."""

    test: str
    question: str
    setting: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    crossover: str
    published: str
    verdict: str
    """supported | not supported | depends on …"""
    because: str
    refuted_by: str
    """The result that would have made the verdict another."""
    plots: Sequence[Plot] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    """The numbers that the verdict rests on."""
    optima: bool = True
    """Whether its costs are optima of relaxations."""
    plans: Sequence[Whole] = ()
    """Plans of whole servers beside those optima."""


def stated(test: str) -> Problem:
    """The problem file of a test."""
    return load_problem(PROBLEMS / f"{test}.yaml")


def least(problem: Problem, changes: Mapping[str, Any] | None = None) -> float:
    """The relaxation's optimum over every configuration, in the problem's objective; inf where there is no plan.

    No whole numbers of servers: differences between two settings are then those of the settings alone.
    """
    found = relax(_data(problem.replace(changes) if changes else problem), time.monotonic() + _RELAX_SECONDS)
    if not found.converged:
        raise RuntimeError(f"{problem.name}: no optimum of the relaxation within {_RELAX_SECONDS:g} s")
    return float("inf") if found.infeasible else found.bound


def whole(setting: str, problem: Problem, changes: Mapping[str, Any] | None = None) -> Whole:
    """A plan of the problem within 5 % of its bound, beside the relaxation's optimum."""
    stated = problem.replace({**(changes or {}), "options.gap": "5%", "options.time_limit": "60 s"})
    found = solve(stated).objective
    return Whole(setting, least(stated), found.value, found.gap)


def servers(problem: Problem, changes: Mapping[str, Any]) -> dict[str, float]:
    """Servers that the relaxation buys, by hardware."""
    data = _data(problem.replace(changes))
    found = relax(data, time.monotonic() + _RELAX_SECONDS)
    return {row.name: float(count) for row, count in zip(data.hardware, found.servers, strict=True)}


def least_at_ratio(problem: Problem, changes: Mapping[str, Any], parts: tuple[str, str], ratio: float) -> float:
    """The same as `least` where servers of two parts are bought as `ratio` of the first to one of the second."""
    data = _data(problem.replace(changes))
    names = [data.hardware[offer.hardware].name for offer in data.offers]
    first, second = ([o for o, name in enumerate(names) if name == part] for part in parts)
    row = dict.fromkeys(first, 1.0) | dict.fromkeys(second, -ratio)
    sides = [SideLimit(f"ratio {s:+.0f}", "servers", 0.0, {o: s * c for o, c in row.items()}) for s in (1.0, -1.0)]
    found = relax(data.with_limits(sides), time.monotonic() + _RELAX_SECONDS)
    return float("inf") if found.infeasible else found.bound


def _data(problem: Problem) -> Any:
    return strengthened(build_candidates(resolve(problem)).data)


def without(problem: Problem, section: str, keep: Sequence[str]) -> dict[str, Any]:
    """Changes that leave only some entries of a section of the problem (hardware, memory)."""
    data = _plain(problem.file)
    return {section: {name: data[section][name] for name in keep}}


@functools.cache
def _plain(file: str) -> Any:
    from codesign.problem.yaml_lines import read_yaml

    return read_yaml(Path(file))[0].data


def percent(value: float) -> str:
    """A share as text."""
    return f"{100 * value:+.1f} %"


def crossing(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Where a curve first passes zero, by straight lines; None where it never does."""
    for (a, u), (b, v) in zip(zip(x, y, strict=True), list(zip(x, y, strict=True))[1:], strict=False):
        if u == 0:
            return a
        if u * v < 0:
            return a + (b - a) * u / (u - v)
    return None
