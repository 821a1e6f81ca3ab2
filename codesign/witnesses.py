"""No plan leaves that a witness refuses: `fits` on the numbers of the MILP, `check` on the problem's own meaning."""

from __future__ import annotations

from dataclasses import replace

from codesign.candidates.build import Candidates
from codesign.candidates.objectives import figure
from codesign.check import check_resolved
from codesign.check.fits import fits
from codesign.optimize.fleet import FleetPlan
from codesign.problem.extremes import EXTREMES
from codesign.problem.instance import Instance
from codesign.solution.schema import Solution, Violation


def witnessed(
    instance: Instance, candidates: Candidates, plan: FleetPlan, solution: Solution, gap: float
) -> Solution:
    """The solution of a plan where both witnesses accept it, else that there is none and what they found.

    `instance` is the problem as it was resolved, `gap` (a fraction) what `optimal` has to meet.  What is refused has
    status `no_solution`, no fleet and its `violations`: it is our fault, and never a plan.
    """
    if not plan.replicas:
        return solution
    if instance.objective in EXTREMES:  # found among plans of least cost, whose value is another one
        value = figure(candidates.data, plan.servers, plan.replicas, plan.spares, plan.rates, plan.modules)
        plan = replace(plan, objective=value, bound=0.0)
    found = [Violation(what=item.what, limit=item.limit, found=item.found) for item in fits(candidates.data, plan)]
    found += check_resolved(instance, solution, gap).violations
    return refused(solution, tuple(found)) if found else solution


def refused(solution: Solution, violations: tuple[Violation, ...]) -> Solution:
    """A solution without a plan, for a plan that breaks something."""
    objective = solution.objective.model_copy(update={"value": None, "gap": None})
    return Solution(
        status="no_solution",
        objective=objective,
        violations=violations,
        solve=solution.solve,
        provenance=solution.provenance,
    )
