"""Labels of what a solution holds: the period and scenario of a pool, a route or a task, and names told apart."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.problem.instance import stage_name
from codesign.solution.schema import MemoryUse, Pool, Route, TaskResult


def stage_of(item: MemoryUse | Pool | Route | TaskResult) -> str:
    """`peak`, `peak, ddr5-35`; empty where a problem has neither periods nor scenarios."""
    return stage_name(item.period, item.scenario)


def labelled(name: str, item: MemoryUse | Pool | Route | TaskResult) -> str:
    """A name with its stage behind it, where there is one."""
    stage = stage_of(item)
    return f"{name} ({stage})" if stage else name


def told_apart(names: Sequence[str]) -> list[str]:
    """The names in their order, with a number behind those that occur more than once; all of them different."""
    counts: dict[str, int] = {}
    taken = {name for name in names if names.count(name) == 1}
    found = []
    for name in names:
        label = name
        while names.count(name) > 1 and (label == name or label in taken):
            counts[name] = counts.get(name, 0) + 1
            label = f"{name}-{counts[name]}"
        taken.add(label)
        found.append(label)
    return found
