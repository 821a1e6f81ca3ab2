"""The period and scenario of a pool, a route or a task, as one label."""

from __future__ import annotations

from codesign.problem.instance import ALL_HOURS, NOMINAL
from codesign.solution.schema import MemoryUse, Pool, Route, TaskResult


def stage_of(item: MemoryUse | Pool | Route | TaskResult) -> str:
    """`peak`, `peak, ddr5-35`; empty where a problem has neither periods nor scenarios."""
    return ", ".join(word for word in (item.period, item.scenario) if word not in (ALL_HOURS, NOMINAL))


def labelled(name: str, item: MemoryUse | Pool | Route | TaskResult) -> str:
    """A name with its stage behind it, where there is one."""
    stage = stage_of(item)
    return f"{name} ({stage})" if stage else name
