"""Problem files: schema, loading with errors that name file, line and field, names resolved."""

import codesign.startup  # noqa: F401 - before anything that imports SciPy
from codesign.problem.distributions import Distribution
from codesign.problem.errors import Issue, ProblemError
from codesign.problem.instance import Instance
from codesign.problem.load import load_problem
from codesign.problem.resolve import resolve
from codesign.problem.schema import Problem, json_schema

__all__ = [
    "Distribution",
    "Instance",
    "Issue",
    "Problem",
    "ProblemError",
    "json_schema",
    "load_problem",
    "resolve",
]
