"""The search space: free parameters of an architecture problem as axes, points, and boxes for bounds.

A point maps axis names (`decode.fp16`, `decode.memory.0.units`) to values. All numeric axes but `dies` are
monotone: more of them never makes a chip slower, nor cheaper; that is what bounds on boxes rest on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codesign.hardware.chip import Design, IoDies, MemorySystem
from codesign.problem.architecture import ArchitectureProblem, DesignPart, Parameter

Value = float | int | str
Point = Mapping[str, Value]

_NEVER_ORDERED = ("dies",)
"""Numeric parameters in which cost is not monotone: bounds enumerate them."""


@dataclass(frozen=True)
class Axis:
    """One free parameter."""

    name: str
    kind: str
    """continuous | integer | choice."""
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Value, ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether more of it is never slower nor cheaper."""
        if self.name.rsplit(".", 1)[-1] in _NEVER_ORDERED:
            return False
        return self.kind != "choice" or all(not isinstance(value, str) for value in self.choices)

    def values(self, count: int) -> tuple[Value, ...]:
        """`count` values from end to end (choices: all; integers: at most as many as there are)."""
        if self.kind == "choice":
            return self.choices
        if self.kind == "integer":
            low, high = int(self.low), int(self.high)
            if high - low + 1 <= count:
                return tuple(range(low, high + 1))
            step = (high - low) / (count - 1) if count > 1 else 0.0
            return tuple(dict.fromkeys(round(low + i * step) for i in range(count)))
        if count == 1:
            return (math.sqrt(self.low * self.high),)
        ratio = (self.high / self.low) ** (1.0 / (count - 1))
        return tuple(self.low * ratio**i for i in range(count))


@dataclass(frozen=True)
class Box:
    """A part of the space: every axis between two values; unordered ones at a single value."""

    low: dict[str, Value]
    high: dict[str, Value]

    @property
    def single(self) -> bool:
        """Whether it holds one point."""
        return self.low == self.high


@dataclass(frozen=True)
class Space:
    """All free parameters of a problem."""

    problem: ArchitectureProblem
    axes: tuple[Axis, ...]

    @staticmethod
    def of(problem: ArchitectureProblem) -> Space:
        """The space of a problem, axes in the order of its file."""
        axes = []
        for name, part in problem.designs.items():
            for path, parameter in parameters(part):
                if parameter.free:
                    axes.append(_axis(f"{name}.{path}", parameter))
        return Space(problem, tuple(axes))

    def designs(self, point: Point) -> dict[str, Design]:
        """The design vector of every chip at a point."""
        return {name: _design(name, part, point) for name, part in self.problem.designs.items()}

    def grid(self, count: int) -> Iterator[dict[str, Value]]:
        """Every combination of `count` values an axis."""
        names = [axis.name for axis in self.axes]
        for values in itertools.product(*(axis.values(count) for axis in self.axes)):
            yield dict(zip(names, values, strict=True))

    def grid_size(self, count: int) -> int:
        """How many points that grid has."""
        return math.prod(len(axis.values(count)) for axis in self.axes)

    def boxes(self) -> list[Box]:
        """Boxes that cover the space: one for each combination of what has no order."""
        fixed = [axis for axis in self.axes if not axis.ordered]
        ordered = [axis for axis in self.axes if axis.ordered]
        found = []
        for values in itertools.product(*(_all_values(axis) for axis in fixed)):
            chosen = dict(zip((axis.name for axis in fixed), values, strict=True))
            ends = {axis.name: _ends(axis) for axis in ordered}
            low = {axis.name: chosen.get(axis.name, ends.get(axis.name, (0, 0))[0]) for axis in self.axes}
            high = {axis.name: chosen.get(axis.name, ends.get(axis.name, (0, 0))[1]) for axis in self.axes}
            found.append(Box(low, high))
        return found

    def middle(self, box: Box) -> dict[str, Value]:
        """A design in the middle of a box; of choices and whole numbers the upper of two."""
        point = {}
        for axis in self.axes:
            low, high = box.low[axis.name], box.high[axis.name]
            if low == high:
                point[axis.name] = low
            elif axis.kind == "choice":
                point[axis.name] = axis.choices[(axis.choices.index(low) + axis.choices.index(high) + 1) // 2]
            elif axis.kind == "integer":
                point[axis.name] = (int(low) + int(high) + 1) // 2
            else:
                point[axis.name] = math.sqrt(float(low) * float(high))
        return point

    def split(self, box: Box, name: str) -> tuple[Box, ...]:
        """The box cut in two on an axis: integers and choices between two values, others at the geometric mean."""
        axis = next(axis for axis in self.axes if axis.name == name)
        low, high = box.low[name], box.high[name]
        if axis.kind == "choice":
            first, last = axis.choices.index(low), axis.choices.index(high)
            middle = (first + last) // 2
            ends: tuple[Value, Value] = (axis.choices[middle], axis.choices[middle + 1])
        elif axis.kind == "integer":
            middle = (int(low) + int(high)) // 2
            ends = (middle, middle + 1)
        else:
            mean = math.sqrt(float(low) * float(high))
            ends = (mean, mean)
        return (
            Box(box.low, {**box.high, name: ends[0]}),
            Box({**box.low, name: ends[1]}, box.high),
        )


def parameters(part: DesignPart) -> list[tuple[str, Parameter[Any]]]:
    """(path, parameter) of everything that may be free in a design."""
    found: list[tuple[str, Parameter[Any]]] = [
        (name, getattr(part, name))
        for name in ("node", "dies", "fp16", "fp8_ratio", "fp4_ratio", "vector_ratio", "sram", "scaleout")
    ]
    for i, memory in enumerate(part.memory):
        found += [(f"memory.{i}.kind", memory.kind), (f"memory.{i}.units", memory.units)]
    found += [(f"scaleup.{name}", getattr(part.scaleup, name)) for name in ("bandwidth", "medium", "domain")]
    return found


def _axis(name: str, parameter: Parameter[Any]) -> Axis:
    if parameter.continuous is not None:
        return Axis(name, "continuous", float(parameter.continuous[0]), float(parameter.continuous[1]))
    if parameter.integer is not None:
        return Axis(name, "integer", float(parameter.integer[0]), float(parameter.integer[1]))
    choices = tuple(parameter.choice or ())
    if all(not isinstance(value, str) for value in choices):
        choices = tuple(sorted(choices))
    return Axis(name, "choice", choices=choices)


def _all_values(axis: Axis) -> tuple[Value, ...]:
    if axis.kind == "choice":
        return axis.choices
    return tuple(range(int(axis.low), int(axis.high) + 1))


def _ends(axis: Axis) -> tuple[Value, Value]:
    if axis.kind == "choice":
        return axis.choices[0], axis.choices[-1]
    if axis.kind == "integer":
        return int(axis.low), int(axis.high)
    return axis.low, axis.high


def _design(name: str, part: DesignPart, point: Point) -> Design:
    values: dict[str, Any] = {
        path: point[f"{name}.{path}"] if parameter.free else parameter.value for path, parameter in parameters(part)
    }
    memories = []
    for i, memory in enumerate(part.memory):
        kind, units = str(values[f"memory.{i}.kind"]), float(values[f"memory.{i}.units"])
        if kind != "none" and units > 0:
            memories.append(MemorySystem(kind, units, tuple(memory.holds), memory.unit_size))
    io = IoDies(part.io.node, part.io.dies, part.io.sram) if part.io else None
    fp16 = float(values["fp16"])
    return Design(
        node=str(values["node"]),
        fp16_flops=fp16,
        memories=tuple(memories),
        sram_bytes=float(values["sram"]),
        scaleup_bytes_per_s=float(values["scaleup.bandwidth"]),
        scaleout_bytes_per_s=float(values["scaleout"]),
        fp8_ratio=float(values["fp8_ratio"]),
        fp4_ratio=float(values["fp4_ratio"]),
        vector_flops=fp16 * float(values["vector_ratio"]),
        dies=int(values["dies"]),
        io=io,
        scaleup_medium=str(values["scaleup.medium"]),
        scaleup_domain=int(values["scaleup.domain"]),
        cooling=part.cooling,
    )
