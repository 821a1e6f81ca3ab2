"""`check`: a solution against its problem, without any of the optimiser's code (DESIGN 3.9)."""

from __future__ import annotations

import re

from codesign.check.accounts import check_accounts
from codesign.check.plan import read_plan
from codesign.check.promises import check_slos
from codesign.check.proof import check_no_plan, check_objective
from codesign.check.purchase import check_enough, check_limits, check_purchase, check_redundancy
from codesign.check.report import CheckReport, Findings
from codesign.check.resources import check_pools
from codesign.check.routing import check_demand, check_measured, check_unsplit
from codesign.problem import Problem, resolve
from codesign.solution.schema import Solution
from codesign.units import UnitError, parse_quantity

_GAP_OPTION = re.compile(r"--gap[ =](\S+)")


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
    instance = resolve(problem)
    findings = Findings()
    if solution.status in ("infeasible", "no_solution"):
        check_no_plan(instance, solution, findings)
        return findings.report()
    plan = read_plan(instance, solution, findings)
    check_demand(plan, findings)
    check_unsplit(plan, findings)
    check_measured(plan, findings)
    states = check_pools(plan, findings)
    check_slos(plan, states, findings)
    basket = check_purchase(plan, findings)
    check_enough(plan, basket, findings)
    check_limits(plan, basket, findings)
    check_redundancy(plan, findings)
    sums = check_accounts(plan, basket, findings)
    asked = gap if gap is not None else _asked_gap(solution.provenance.command, instance.options.gap)
    check_objective(instance, solution, sums, asked, findings)
    return findings.report()


def _asked_gap(command: str, default: float) -> float:
    """The `--gap` of a command line, else the default."""
    found = _GAP_OPTION.search(command)
    try:
        return parse_quantity(found.group(1), "fraction") if found else default
    except UnitError:
        return default
