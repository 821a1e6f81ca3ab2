"""What an architecture search found: typed, frozen, one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from codesign.architecture.space import Value
from codesign.files import write_atomically
from codesign.solution import Solution

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DesignObjective(_Frozen):
    """The best value found, and what is proven of all designs. Fleets are fractional here; `plans` are whole."""

    name: str
    unit: str
    value: float | None
    second: float | None = None
    """The second objective of the same fleets."""
    search_value: float | None = None
    """What the search alone found; `value` is the best of search, grid and bound."""
    bound: float | None = None
    """No design of the space is worth less; None: not asked for."""
    gap: float | None = None
    """(value − bound)/value."""
    grid_value: float | None = None
    """The least value over the grid; None: not asked for."""
    grid_points: int = 0
    grid_gap: float | None = None
    """(search_value − grid_value)/search_value: positive where the search missed something that the grid has."""
    boxes: int = 0
    baseline: float | None = None
    """Buying alone; None where nothing competes."""


class LimitUse(_Frozen):
    """How much of a limit a design uses."""

    limit: str
    needed: float
    offered: float
    unit: str


class ChipRecord(_Frozen):
    """A designed chip."""

    name: str
    used: bool
    """Whether the fleets buy it."""
    parameters: dict[str, Value]
    """What the search decided."""
    area_mm2: dict[str, float]
    power_w: dict[str, float]
    cost_usd: dict[str, float]
    """Terms of the bill of materials."""
    bom_usd: float
    price_usd: float
    """Of the chip, with margin, and with its share of the NRE where that is spread."""
    capital_usd: float
    """In its server, with host and network."""
    limits: list[LimitUse]


class PlanRecord(_Frozen):
    """The fleet of a workload in whole servers, with the designed chips beside what competes."""

    workload: str
    weight: float
    problem: dict[str, object]
    """Hardware of the procurement problem that this is the plan of."""
    check_ok: bool
    """Whether the independent checker agrees."""
    solution: Solution


class TrialRecord(_Frozen):
    """A trial worth keeping."""

    number: int
    value: float
    second: float | None
    parameters: dict[str, Value]


class FlipRecord(_Frozen):
    """What an assumption does."""

    assumption: str
    setting: float
    nominal: float
    value: float | None
    """Of the nominal best design; None where its fleets cannot serve all (as without a prefix cache)."""
    best_value: float | None
    """None where no design tried can."""
    best_trial: int
    regret: float | None
    flips: bool


class SensitivityRecord(_Frozen):
    """What the design hangs on; asked of the designs that were tried."""

    importances: dict[str, float]
    assumptions: list[FlipRecord]
    memory_prices: list[FlipRecord]
    hit_ratio: list[FlipRecord]
    entry_price_usd: float | None
    break_even_volume: float | None
    break_even_fleets: float | None
    regret: dict[str, float]
    chip_first: float | None


class SearchRecord(_Frozen):
    """How it was searched."""

    sampler: str
    trials: int
    feasible: int
    seed: int
    linear_programs: int
    seconds: dict[str, float]
    versions: dict[str, str] = {}
    """Of the packages that decide an answer; files of earlier versions name none."""


class Origin(_Frozen):
    """What it is the answer to."""

    problem: str
    problem_sha256: str
    workload_sha256: list[str]
    command: str


class ArchitectureSolution(_Frozen):
    """The answer to an architecture problem."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["architecture"] = "architecture"
    status: Literal["optimal", "feasible", "infeasible", "no_solution"]
    """optimal: within the gap asked for of a bound over all designs."""
    objective: DesignObjective
    designs: list[ChipRecord] = []
    plans: list[PlanRecord] = []
    front: list[TrialRecord] = []
    """Designs that none beats in both objectives."""
    history: list[float] = []
    """Best value after each trial."""
    sensitivity: SensitivityRecord | None = None
    reasons: dict[str, int] = {}
    """Broken limits among the trials, by how many."""
    assumptions: dict[str, tuple[float, float, float]] = {}
    """(low, nominal, high) in SI; memory in $/byte."""
    search: SearchRecord
    provenance: Origin

    def to_json(self) -> str:
        """The solution file's text."""
        return self.model_dump_json(indent=2) + "\n"

    def write(self, path: str | Path) -> None:
        """Write the file atomically: readers see the old file or the whole new one."""
        write_atomically(Path(path), self.to_json())


def load_architecture_solution(path: str | Path) -> ArchitectureSolution:
    """Read the file of an architecture solution. Raises ValueError where it is none."""
    try:
        return ArchitectureSolution.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError("\n".join(lines)) from None
