"""codesign: choose accelerator fleets and chips for AI-agent inference, with proof.

In Python:

    from codesign import load_problem, solve, check

    problem = load_problem("problems/agent-fleet.yaml")
    solution = solve(problem)
    assert check(problem, solution).ok
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign.check import check
    from codesign.planner import explain, solve
    from codesign.problem import Problem, ProblemError, load_problem
    from codesign.simulate import simulate
    from codesign.solution import Solution, load_solution
    from codesign.study.alternatives import alternatives
    from codesign.study.pareto import pareto
    from codesign.study.sweep import sweep

__all__ = [
    "Problem",
    "ProblemError",
    "Solution",
    "alternatives",
    "check",
    "explain",
    "load_problem",
    "load_solution",
    "pareto",
    "simulate",
    "solve",
    "sweep",
]

_HOMES = {
    "Problem": "codesign.problem",
    "ProblemError": "codesign.problem",
    "Solution": "codesign.solution",
    "alternatives": "codesign.study.alternatives",
    "check": "codesign.check",
    "explain": "codesign.planner",
    "load_problem": "codesign.problem",
    "load_solution": "codesign.solution",
    "pareto": "codesign.study.pareto",
    "simulate": "codesign.simulate",
    "solve": "codesign.planner",
    "sweep": "codesign.study.sweep",
}


class _Package(ModuleType):
    """This module, in which `check` and `simulate` are functions even after packages of those names were imported."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds a subpackage in its parent, which would hide the function of that name.
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import codesign` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
