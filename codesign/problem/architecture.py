"""The words of an architecture problem: which chips to design, against which parts, for which workloads.

A parameter of a design is a value, or free: `{continuous: [a, b]}`, `{integer: [a, b]}`, `{choice: [...]}`.
An assumption of the economics is a value, or a range: `{low, nominal, high}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from codesign.catalog import accelerators
from codesign.problem.errors import FieldError, ProblemError
from codesign.problem.explain import Faults
from codesign.problem.fields import (
    Count,
    FilePath,
    Flag,
    Name,
    Number,
    Part,
    PositiveCount,
    PositiveDuration,
    PositiveNumber,
    ShortForm,
    written,
)
from codesign.problem.instance import Role
from codesign.problem.load import load_problem
from codesign.problem.yaml_lines import Document, read_yaml
from codesign.units import Bytes, BytesPerSecond, Dollars, FlopsPerSecond, Fraction, UsdPerByte, UsdPerHour, Watts

if TYPE_CHECKING:
    from codesign.problem.schema import Problem

Node = Literal["N7", "N6", "N5", "N3"]
MemoryKind = Literal[
    "hbm2e", "hbm3", "hbm3e", "hbm4", "gddr6", "gddr7", "lpddr5x", "hbf", "optical-pool", "none"
]
Medium = Literal["electrical", "optical"]
ArchitectureObjective = Literal["cost_per_task", "cost_per_hour", "energy_per_task", "power"]
Sampler = Literal["tpe", "nsga2", "gp", "random"]

Q = TypeVar("Q")


class Parameter(ShortForm, Generic[Q]):
    """A value, or a free parameter with its range."""

    value: Q | None = None
    """Fixed; the short form is the value alone."""
    continuous: Annotated[list[Q], Field(min_length=2, max_length=2)] | None = None
    """Least and greatest value; searched on a logarithmic scale."""
    integer: Annotated[list[Q], Field(min_length=2, max_length=2)] | None = None
    """Least and greatest whole number."""
    choice: Annotated[list[Q], Field(min_length=1)] | None = None
    """Values to choose from; ascending where they are numbers."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return data if isinstance(data, (dict, Parameter)) else {"value": data}

    @model_validator(mode="after")
    def _one(self) -> Parameter[Q]:
        forms = (self.value, self.continuous, self.integer, self.choice)
        if sum(form is not None for form in forms) != 1:
            raise FieldError(
                "none or several of value, continuous, integer and choice",
                "one of them, such as {continuous: [100 TFLOPS, 2 PFLOPS]}",
                words=True,
            )
        span: Any = self.continuous or self.integer
        if span is not None:
            low, high = span
            if isinstance(low, str) or isinstance(high, str):
                raise FieldError("a range of names", "{choice: [...]}", words=True)
            if not low < high:
                raise FieldError(f"a range from {low} to {high}", "a range whose end is above its start", words=True)
            if self.continuous is not None and not low > 0:
                raise FieldError("a range that starts at 0", "a start above 0", words=True)
            if self.integer is not None and (low != int(low) or high != int(high)):
                raise FieldError(f"a range from {low} to {high}", "whole numbers", words=True)
        return self

    @property
    def free(self) -> bool:
        """Whether the search decides it."""
        return self.value is None


class Uncertain(ShortForm, Generic[Q]):
    """An assumption: a value, or a range around the nominal one."""

    nominal: Q
    low: Q | None = None
    high: Q | None = None
    date: str = ""
    """When it held."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return data if isinstance(data, (dict, Uncertain)) else {"nominal": data}

    @model_validator(mode="after")
    def _ascending(self) -> Uncertain[Q]:
        values: Any = (self.low, self.nominal, self.high)
        known = [value for value in values if value is not None]
        if known != sorted(known):
            raise FieldError("low, nominal and high that do not ascend", "low ≤ nominal ≤ high", words=True)
        return self


class MemoryPart(Part):
    """Memory of a chip: how many units of a kind, and what they may hold."""

    kind: Parameter[MemoryKind]
    """Of the chip model's kinds; `none` leaves it out."""
    units: Parameter[Count]
    """Stacks, devices, packages or ports."""
    holds: list[Literal["weights", "kv"]] = Field(default_factory=list)
    """Default: what the kind allows. Memory for weights alone holds all of them."""
    unit_size: Bytes | None = None
    """Bytes of a unit where they differ from the kind's."""


class IoPart(Part):
    """I/O dies that carry PHYs, links and control."""

    node: Node = "N6"
    dies: PositiveCount = 1
    sram: Bytes = 0


class ScaleUp(Part):
    """The chip's scale-up network."""

    bandwidth: Parameter[BytesPerSecond]
    """Per direction."""
    medium: Parameter[Medium] = written("electrical")
    domain: Parameter[PositiveCount] = written(8)
    """Chips in one scale-up network."""


class Efficiency(Part):
    """Whose measured efficiency an unbuilt chip takes."""

    inherit: Name = "b200-sxm"
    """An accelerator of the catalogue."""
    derate: Uncertain[Annotated[PositiveNumber, Field(le=1.5)]] = written(1)
    """Efficiency over the relative's (assumption)."""


class DesignPart(Part):
    """A chip to be designed."""

    roles: Annotated[list[Role], Field(min_length=1)] | None = None
    """Roles that it may take; default: all."""
    vendor: Name = "own"
    """Vendor whose parts it exchanges KV caches with."""
    node: Parameter[Node] = written("N5")
    dies: Parameter[PositiveCount] = written(1)
    """Compute dies in a package."""
    io: IoPart | None = None
    """I/O dies; default: everything stands on the compute dies."""
    fp16: Parameter[FlopsPerSecond]
    """Dense FP16 peak of the matrix units."""
    fp8_ratio: Parameter[Number] = written(2)
    """FP8 peak over the FP16 peak; 0: none."""
    fp4_ratio: Parameter[Number] = written(0)
    """4-bit peak over the FP16 peak; 0: none."""
    vector_ratio: Parameter[Number] = written(0.034)
    """FP32 vector peak over the FP16 matrix peak (assumption: B200's)."""
    sram: Parameter[Bytes]
    """On the compute dies."""
    memory: Annotated[list[MemoryPart], Field(min_length=1)]
    scaleup: ScaleUp
    scaleout: Parameter[BytesPerSecond] = written("50 GB/s")
    """Network per chip and direction."""
    server: PositiveCount = 8
    """Chips in the server that is bought."""
    cooling: Literal["air", "liquid"] = "liquid"
    efficiency: Efficiency = Efficiency()


class Market(Part):
    """Who pays for the design."""

    volume: PositiveCount | None = None
    """Chips over which the NRE is spread (stated, not searched for). Absent: this fleet pays all of it, once."""


class Economics(Part):
    """Prices and assumptions; what is absent is the chip model's own, with its range and date."""

    margin: Uncertain[Annotated[Fraction, Field(lt=1)]] = written(0.3)
    """Of the maker: price = BOM/(1 − margin). 0.3 in-house (assumption), 0.65–0.88 merchants."""
    nre: Uncertain[Dollars] | None = None
    """Cost of the design of each chip, once."""
    life: PositiveDuration = written("4 years")
    """Over which chips (and NRE as a charge of the fleet) are written off (assumption)."""
    interest: Fraction = written("9%")
    host: Uncertain[Dollars] | None = None
    """Of the server, per chip."""
    hosting: Uncertain[UsdPerHour] | None = None
    """Space and staff, per chip."""
    memory: dict[MemoryKind, Uncertain[UsdPerByte]] = Field(default_factory=dict)
    """Price of memory by kind."""
    wafer: dict[Node, Uncertain[Dollars]] = Field(default_factory=dict)
    """Price of a wafer by node."""
    defects: dict[Node, Uncertain[PositiveNumber]] = Field(default_factory=dict)
    """Defects per cm² by node."""
    harvest: Uncertain[Fraction] | None = None
    """Share of defective dies that sell."""
    optics: Uncertain[PositiveNumber] | None = None
    """$ per Gb/s of optical scale-up, each direction."""


class Constraints(Part):
    """What a chip must keep, beside the limits of manufacture."""

    tdp: Watts | None = None
    reticle_mm2: PositiveNumber | None = None
    package_reticles: PositiveNumber | None = None
    air_w_per_mm2: PositiveNumber | None = None
    liquid_w_per_mm2: PositiveNumber | None = None
    sram_per_fp16: Annotated[Number, Field(le=1e6)] = 0.02
    """Least MB of SRAM per TFLOPS of FP16 for which the relative's efficiency is taken to hold (assumption: B200 has
    0.056, H100 0.05)."""


class Workload(Part):
    """A procurement problem that the chips must serve."""

    name: Name
    problem: FilePath
    """Path of the problem file, relative to this one. Its hardware stands for what can be bought."""
    weight: PositiveNumber = 1
    set: dict[str, Any] = Field(default_factory=dict)
    """Values changed in it, by dotted path."""


class Bound(Part):
    """How hard to look for what the search missed."""

    grid: Count = 0
    """Values of each continuous parameter on the exact grid; 0: no grid."""
    boxes: Count = 0
    """Boxes that branch and bound may open for the lower bound; 0: no bound."""
    gap: Fraction = written("5%")
    """Stop when the bound is this close."""


class Search(Part):
    """How to search."""

    sampler: Sampler = "tpe"
    trials: PositiveCount = 200
    batch: PositiveCount = 8
    """Trials asked for at once and evaluated together."""
    seed: Count = 0
    workers: PositiveCount = 1
    """Processes that evaluate a batch."""
    storage: str | None = None
    """A journal file (relative to the problem file) or a database URL; default: in memory."""
    bound: Bound = Bound()
    sensitivity: Flag = True
    """Whether to say which parameters and assumptions matter."""


class ArchitectureProblem(Part):
    """Which chips to build (or buy) for agent workloads. Read it with `load_architecture`."""

    kind: Literal["architecture"]
    name: Name = "unnamed"
    objectives: Annotated[list[ArchitectureObjective], Field(min_length=1, max_length=2)] = written(["cost_per_task"])
    """The first is what fleets are planned for; both are figures of that fleet."""
    designs: Annotated[dict[Name, DesignPart], Field(min_length=1, max_length=3)]
    compete: list[Name] = Field(default_factory=list)
    """Parts that can be bought instead or beside: names under `hardware` of every workload's problem."""
    market: Market = Market()
    economics: Economics = Economics()
    constraints: Constraints = Constraints()
    workloads: Annotated[list[Workload], Field(min_length=1)]
    search: Search = Search()

    _file: str = PrivateAttr("")
    _sha256: str = PrivateAttr("")
    _problems: tuple[Problem, ...] = PrivateAttr(())

    @property
    def file(self) -> str:
        """Path of the file it was read from."""
        return self._file

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return self._sha256

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The workloads' procurement problems, with their changes, in order."""
        return self._problems


def load_architecture(path: str | Path) -> ArchitectureProblem:
    """The architecture problem in a file, with its workloads' problems. Raises ProblemError with every fault."""
    import hashlib

    place = Path(path)
    document, raw = read_yaml(place)
    faults = Faults(str(place), document)
    if not isinstance(document.data, dict):
        faults.add((), document.data, "a mapping with designs and workloads")
        faults.raise_if_any()
    problem: ArchitectureProblem | None = None
    try:
        problem = ArchitectureProblem.model_validate(document.data)
    except ValidationError as error:
        faults.add_validation(error, ArchitectureProblem)
    faults.raise_if_any()
    assert problem is not None
    problem._file, problem._sha256 = str(place), hashlib.sha256(raw).hexdigest()
    _check(problem, document, faults)
    problem._problems = tuple(_workload(problem, i, faults) for i in range(len(problem.workloads)) if not faults.issues)
    faults.raise_if_any()
    return problem


def _check(problem: ArchitectureProblem, document: Document, faults: Faults) -> None:
    for name, design in problem.designs.items():
        if design.efficiency.inherit not in accelerators():
            path = ("designs", name, "efficiency", "inherit")
            faults.add_unknown(path, design.efficiency.inherit, list(accelerators()))
    if len(set(problem.objectives)) < len(problem.objectives):
        faults.add(("objectives",), "an objective twice", "different objectives", words=True)
    names = [workload.name for workload in problem.workloads]
    for i, name in enumerate(names):
        if name in names[:i]:
            faults.add(("workloads", i, "name"), f"the name '{name}' twice", "a name of its own", words=True)


def _workload(problem: ArchitectureProblem, index: int, faults: Faults) -> Problem:
    """The procurement problem of a workload; faults of its file are raised as they are."""
    workload = problem.workloads[index]
    place = Path(problem.file).parent / workload.problem
    if not place.is_file():
        faults.add(("workloads", index, "problem"), workload.problem, "a path to a procurement problem file")
        faults.raise_if_any()
    loaded = load_problem(place)
    if workload.set:
        try:
            loaded = loaded.replace(workload.set)
        except ProblemError as error:
            for issue in error.issues:
                faults.add(("workloads", index, "set"), f"{issue.field}: {issue.found}", issue.expected, words=True)
            faults.raise_if_any()
    for i, name in enumerate(problem.compete):
        if name not in loaded.hardware:
            faults.add_unknown(("compete", i), name, list(loaded.hardware))
    return loaded


def architecture_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of architecture problem files, for editors."""
    schema = ArchitectureProblem.model_json_schema(mode="validation")
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "codesign architecture problem"}
    return title | schema
