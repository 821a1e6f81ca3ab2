"""The fleet MILP as a file of MPS or LP with readable names, for any other solver."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codesign.candidates.data import FleetData
from codesign.files import write_atomically
from codesign.optimize.dominance import undominated
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.model import FleetModel
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened

FORMATS = ("mps", "lp")
MOST_COLUMNS = 2000
"""Columns up to which the file holds all that could be in an optimum."""
_RELAX_SECONDS = 60.0


def write_milp(data: FleetData, plan: FleetPlan, path: str | Path, kind: str = "mps") -> int:
    """Write the MILP of a problem with its plan in `kind` of FORMATS; returns how many columns are in it.

    All undominated columns where they are at most MOST_COLUMNS: the file's optimum is then the problem's.  Of more,
    those of the plan and those of least reduced cost: the plan is a solution of the file, whose optimum is no worse.
    """
    tight = strengthened(data)
    columns = np.flatnonzero(undominated(tight))
    if len(columns) > MOST_COLUMNS:
        mask = np.zeros(tight.columns, dtype=bool)
        mask[columns] = True
        reduced = relax(tight.keep(mask), time.monotonic() + _RELAX_SECONDS).reduced_cost
        columns = columns[np.argsort(reduced, kind="stable")[:MOST_COLUMNS]]
    columns = np.union1d(columns, np.array(list(plan.replicas), dtype=np.int64))
    model = FleetModel(tight, columns.tolist(), relaxed=False).pyomo
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"fleet.{kind}"
        model.write(str(written), io_options={"labeler": _names(tight)})
        write_atomically(Path(path), written.read_bytes())
    return len(columns)


def _names(data: FleetData) -> Callable[[Any], str]:
    """A name for each variable and row: its family, and the words of the problem for its numbers."""
    groups = np.concatenate([block.group for block in data.blocks]).tolist()

    def column(k: int) -> str:
        return f"{data.groups[groups[k]].name}#{k}"

    words: dict[str, tuple[Callable[[int], str], ...]] = {
        "replicas": (column,),
        "rate": (column,),
        "open": (column,),
        "chosen": (column,),
        "capacity": (column,),
        "pooled": (column,),
        "unpooled": (column,),
        "whole": (column,),
        "design": (column,),
        "servers": (lambda o: data.offers[o].name,),
        "taken": (lambda o: data.offers[o].name,),
        "least_servers": (lambda o: data.offers[o].name,),
        "most_servers": (lambda o: data.offers[o].name,),
        "spares": (lambda g: data.groups[g].name,),
        "used": (lambda g: data.groups[g].name,),
        "small": (lambda g: data.groups[g].name,),
        "spare": (lambda g: data.groups[g].name,),
        "small_pool": (lambda g: data.groups[g].name,),
        "demand": (lambda c: data.tasks[c],),
        "limit": (lambda i: data.limits[i].name,),
        "bought": (lambda h: data.hardware[h].name,),
        "modules": (lambda m: data.modules[m].name,),
    }

    def name(component: Any) -> str:
        index = component.index()
        if index is None:
            return _plain(component.local_name)
        family = component.parent_component().local_name
        numbers = index if isinstance(index, tuple) else (index,)
        known = words.get(family, ())
        parts = [
            known[i](part) if i < len(known) and isinstance(part, int) else str(part) for i, part in enumerate(numbers)
        ]
        return _plain(f"{family}({','.join(parts)})")

    return name


def _plain(name: str) -> str:
    """What both formats take as a name: no blanks, no operators."""
    return re.sub(r"[^A-Za-z0-9_.#/(),]", "_", name)
