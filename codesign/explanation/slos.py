"""What an easier SLO is worth: the relaxation solved again with it.

Step limits and levels come from absolute grids, so these values are steps: nothing for many small easings, then all of
a grid step at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData, Floats
from codesign.optimize.dominance import undominated
from codesign.optimize.relaxation import Relaxation, relax
from codesign.optimize.strengthen import strengthened
from codesign.problem.instance import METRICS, Instance, SloLevels
from codesign.solution.schema import ShadowPrice

_EASED_S = 0.010
_EASED_SHARE = 0.10
_NOISE = 1e-7
"""Relative change of the relaxation's value that counts."""
_SUPPORT = 1e-6


def slo_prices(
    candidates: Candidates, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> tuple[list[ShadowPrice], list[str]]:
    """What 10 ms more of every SLO saves, and 10 % more where 10 ms save nothing; and what to know about it.

    Each is a relaxation over newly enumerated columns.  Those that the time does not suffice for are named.
    """
    deadline = time.monotonic() + seconds
    base, start = _relaxed(candidates.data, np.zeros(0), deadline)
    if not base.converged:
        return [], ["what easier SLOs are worth: the time did not suffice"]
    found: list[ShadowPrice] = []
    late: list[str] = []
    for name, easings in _easings(candidates.instance):
        for unit, instance in easings:
            tell(f"what is it worth: {name}, {unit} more")
            eased = None
            if time.monotonic() < deadline:
                eased, _ = _relaxed(build_candidates(instance, bounded=False).data, start, deadline)
            if eased is None or not eased.converged:
                late.append(name)
                break
            saved = base.value - eased.value
            value = saved if saved > _NOISE * abs(base.value) else 0.0
            fields = {"limit": name, "unit": unit, "value": value, "from": "relaxation"}
            found.append(ShadowPrice.model_validate(fields))
            if value:
                break
    notes = ["prices of SLOs are steps: operating points come from grids, and an SLO between two of them gains nothing"]
    if late:
        notes.append(f"what easier SLOs are worth: no time was left for {', '.join(late)}")
    return found, notes if found or late else []


def _easings(instance: Instance) -> Iterator[tuple[str, list[tuple[str, Instance]]]]:
    """Every SLO of a modelled task by its name in the file, with the instances where it alone is easier."""
    for c, task in enumerate(instance.tasks):
        for metric in METRICS if task.variants else ():
            levels: SloLevels = getattr(task, f"{metric}_slo")
            for i, (percentile, target) in enumerate(levels):
                easings = []
                for unit, eased in (("10 ms", target + _EASED_S), ("10 %", target * (1 + _EASED_SHARE))):
                    changed = (*levels[:i], (percentile, eased), *levels[i + 1 :])
                    easier = replace(task, **{f"{metric}_slo": changed})  # type: ignore[arg-type]
                    tasks = (*instance.tasks[:c], easier, *instance.tasks[c + 1 :])
                    easings.append((unit, replace(instance, tasks=tasks)))
                yield f"tasks.{task.name}.slo.{metric}.p{percentile * 100:g}", easings


def _relaxed(data: FleetData, start: Floats, deadline: float) -> tuple[Relaxation, Floats]:
    """The relaxation, from the columns that bear one of the marks in `start`; and the marks of those it uses."""
    tight = strengthened(data)
    tight = tight.keep(undominated(tight))
    marks = _marks(tight)
    found = relax(tight, deadline, start=np.flatnonzero(np.isin(marks, start)).tolist())
    used = [k for k in found.columns if found.reduced_cost[k] < _SUPPORT]
    return found, marks[used]


def _marks(data: FleetData) -> Floats:
    """[columns] a number that the same configuration and operating point has in every enumeration of one instance."""
    marks = []
    for block in data.blocks:
        weight = np.sqrt(np.arange(2.0, 2.0 + block.limit.shape[1]))
        scale = np.log1p(np.abs(block.limit)) @ weight
        marks.append(scale + math.pi * block.group + math.e * block.use.level + block.min_replicas)
    return np.concatenate(marks) if marks else np.zeros(0)
