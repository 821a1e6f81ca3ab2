"""The fleet MILP as a file of MPS or LP with readable names, for any other solver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.candidates.data import FleetData
from codesign.export.formats import LinearProgram, format_program
from codesign.files import write_atomically
from codesign.optimize.dominance import undominated
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.highs import standard_form
from codesign.optimize.model import FleetModel
from codesign.optimize.relaxation import relax
from codesign.optimize.scale import objective_scale, scaled
from codesign.optimize.strengthen import strengthened

MOST_COLUMNS = 2000
"""Columns up to which the file holds all that could be in an optimum."""
_RELAX_SECONDS = 60.0


@dataclass(frozen=True)
class WrittenMilp:
    """What a file holds."""

    columns: int
    factor: float
    """A power of two that its objective is that of the problem times; its name says so where it is not 1."""


def write_milp(data: FleetData, plan: FleetPlan, path: str | Path, kind: str = "mps") -> WrittenMilp:
    """Write the MILP of a problem with its plan in `kind` of FORMATS.

    All undominated columns where they are at most MOST_COLUMNS: the file's optimum is then the problem's.  Of more,
    those of the plan and those of least reduced cost: the plan is a solution of the file, whose optimum is no worse.
    Objectives of a size that solvers' absolute tolerances do not suit are multiplied by a power of two.

    Raises RangeError where its coefficients are too far apart for other solvers, InfeasibleConstraintException (of
    Pyomo) where a row cannot be kept by any values.
    """
    tight = strengthened(data)
    columns = np.flatnonzero(undominated(tight))
    if len(columns) > MOST_COLUMNS:
        mask = np.zeros(tight.columns, dtype=bool)
        mask[columns] = True
        reduced = relax(tight.keep(mask), time.monotonic() + _RELAX_SECONDS).reduced_cost
        columns = columns[np.argsort(reduced, kind="stable")[:MOST_COLUMNS]]
    columns = np.union1d(columns, np.array(list(plan.replicas), dtype=np.int64))
    factor = objective_scale(tight)
    model = FleetModel(scaled(tight, factor), columns.tolist(), relaxed=False)
    form = standard_form(model.pyomo)
    named = _names(tight)
    # Variables and rows know their families through weak references: `model` has to live until all have their names.
    lines = format_program(
        LinearProgram(
            [named(variable) for variable in form.columns],
            [named(constraint) for constraint, _ in form.rows],
            form.matrix,
            form.cost,
            form.lower,
            form.upper,
            form.row_lower,
            form.row_upper,
            form.whole,
            form.offset,
            _objective(factor),
        ),
        kind,
    )
    write_atomically(Path(path), "".join(f"{line}\n" for line in lines).encode("ascii"))
    return WrittenMilp(len(columns), factor)


def _objective(factor: float) -> str:
    """A name of letters that all readers take."""
    power = round(math.log2(factor))
    return "cost" if not power else f"cost_times_2_to_{power}" if power > 0 else f"cost_by_2_to_{-power}"


_OF_COLUMNS = ("replicas", "rate", "open", "chosen", "capacity", "pooled", "unpooled", "whole", "design")
_OF_OFFERS = ("servers", "taken", "least_servers", "most_servers")
_OF_GROUPS = ("spares", "used", "small", "spare", "small_pool")
"""Families of variables and rows by what their first number counts."""


def _names(data: FleetData) -> Callable[[Any], str]:
    """A name for each variable and row: its family, and the words of the problem for its numbers."""
    groups = np.concatenate([block.group for block in data.blocks]).tolist()
    columns = [f"{data.groups[g].name}#{k}" for k, g in enumerate(groups)]
    offers = [offer.name for offer in data.offers]
    pools = [group.name for group in data.groups]
    words: dict[str, list[str]] = {
        "demand": list(data.tasks),
        "limit": [limit.name for limit in data.limits],
        "bought": [row.name for row in data.hardware],
        "modules": [module.name for module in data.modules],
    }
    words |= dict.fromkeys(_OF_COLUMNS, columns) | dict.fromkeys(_OF_OFFERS, offers) | dict.fromkeys(_OF_GROUPS, pools)

    def name(component: Any) -> str:
        index = component.index()
        if index is None:
            return str(component.local_name)
        family = component.parent_component().local_name
        numbers = index if isinstance(index, tuple) else (index,)
        parts = [str(number) for number in numbers]
        if family in words and isinstance(numbers[0], int):
            parts[0] = words[family][numbers[0]]
        return f"{family}({','.join(parts)})"

    return name
