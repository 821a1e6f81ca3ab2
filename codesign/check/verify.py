"""`check`: a solution against its problem, without any of the optimiser's code (DESIGN 3.9)."""

from __future__ import annotations

import shlex
from itertools import pairwise

from codesign.check.accounts import Sums, check_accounts
from codesign.check.memory import check_memory
from codesign.check.plan import read_plan
from codesign.check.promises import check_slos
from codesign.check.proof import check_no_plan, check_objective
from codesign.check.purchase import check_enough, check_limits, check_purchase, check_redundancy
from codesign.check.report import CheckReport, Findings
from codesign.check.resources import check_pools
from codesign.check.routing import check_demand, check_measured, check_unsplit
from codesign.check.stages import check_joined, stage_solutions
from codesign.problem import Instance, Problem, resolve
from codesign.problem.extremes import EXTREMES, at_extreme
from codesign.solution.schema import Solution
from codesign.units import UnitError, parse_quantity


def check(problem: Problem, solution: Solution, *, gap: float | None = None) -> CheckReport:
    """Evaluate a plan anew from its problem and list everything that does not hold.

    Parameters
    ----------
    gap:
        The gap that was asked for (a fraction), which `status: optimal` has to meet; by default the one on
        the solution's command line, else the problem's.

    Demand, resources at the fixed point of the unlinearised model, SLOs, purchase, limits, cost, energy and
    proof are recomputed; violated limits and misreported figures are violations alike. Raises ProblemError
    for a problem that cannot be resolved.
    """
    return check_resolved(resolve(problem, robust=bool(solution.scenarios)), solution, gap)


def check_resolved(instance: Instance, solution: Solution, gap: float | None = None) -> CheckReport:
    """The same against a problem that is resolved already: with scenarios where the solution has any."""
    findings = Findings()
    if solution.status in ("infeasible", "no_solution"):
        check_no_plan(instance, solution, findings)
        return findings.report()
    if instance.objective in EXTREMES:
        instance = at_extreme(instance, solution.objective.value or 0.0)
    evaluate = _check_stages if instance.stages else _check_plan
    sums = evaluate(instance, solution, findings)
    asked = gap if gap is not None else _asked_gap(solution.provenance.command, instance.options.gap)
    check_objective(instance, solution, sums, asked, findings)
    return findings.report()


def _check_stages(instance: Instance, solution: Solution, findings: Findings) -> Sums:
    """Every period and scenario by itself, and what they share."""
    sums = []
    for stage, own in zip(instance.stages, stage_solutions(instance, solution, findings), strict=True):
        found = Findings()
        sums.append(_check_plan(stage.instance, own, found))
        findings.take(stage.name, found)
    return check_joined(instance, solution, sums, findings)


def _check_plan(instance: Instance, solution: Solution, findings: Findings) -> Sums:
    """Everything about a plan but its objective and proof."""
    plan = read_plan(instance, solution, findings)
    check_demand(plan, findings)
    check_unsplit(plan, findings)
    check_measured(plan, findings)
    states = check_pools(plan, findings)
    check_slos(plan, states, findings)
    basket = check_purchase(plan, findings)
    check_enough(plan, basket, findings)
    check_limits(plan, basket, findings)
    check_memory(plan, basket, findings)
    check_redundancy(plan, basket, findings)
    return check_accounts(plan, basket, findings)


def _asked_gap(command: str, default: float) -> float:
    """The `--gap` of a command line, else the default."""
    try:
        words = shlex.split(command)
        given = [after for word, after in pairwise(words) if word == "--gap"]
        given += [word.removeprefix("--gap=") for word in words if word.startswith("--gap=")]
        return parse_quantity(given[-1], "fraction") if given else default
    except (UnitError, ValueError):
        return default
