"""Plan tonight's fleet from today's trace, changing little of last night's.

    python scripts/replan_nightly.py PROBLEM.yaml TRACE.csv --task chat --last LAST.json --churn 20% -o TONIGHT.json

The trace gives the task its rate and its lengths. Servers of last night's plan are there already, at what they cost;
at most `--churn` of them may be given up. Without `--last` this is the first night. Exit codes as `codesign solve`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codesign import Problem, Solution, load_problem, load_solution, solve
from codesign.problem import resolve


def from_trace(problem: Problem, task: str, trace: Path) -> Problem:
    """The problem with a task's rate and lengths from a trace."""
    lengths = {"trace": str(trace.resolve())}
    return problem.replace({f"tasks.{task}.lengths": lengths, f"tasks.{task}.rate": "trace"})


def after(problem: Problem, last: Solution, churn: str) -> Problem:
    """The problem with last night's servers in place."""
    offers = {f"{o.name}/{offer.name}": offer for o in resolve(problem).hardware for offer in o.offers}
    existing = [
        {
            "hardware": line.item.split("/")[0],
            "servers": line.count,
            "price": f"{line.usd_per_hour / line.accelerators!r} $/h",
            # What was kept already says so itself; else the offer does.
            "includes_power": offers[line.item].includes_power if line.item in offers else True,
        }
        for line in last.purchase
        if line.kind == "server"
    ]
    return problem.replace({"existing": existing, "limits.churn.servers": churn})


def main(arguments: list[str] | None = None) -> int:
    """Plan, write, and say what changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--task", required=True, help="the task that the trace is of")
    parser.add_argument("--last", help="last night's solution file")
    parser.add_argument("--churn", default="20%", help="share of last night's servers that may go")
    parser.add_argument("-o", "--output", required=True, type=Path)
    asked = parser.parse_args(arguments)
    try:
        problem = from_trace(load_problem(asked.problem), asked.task, asked.trace)
        last = load_solution(asked.last) if asked.last else None
        plan = solve(after(problem, last, asked.churn) if last else problem)
    except ValueError as error:  # a ProblemError is one, with a line for each fault
        print(error, file=sys.stderr)
        return 2
    plan.write(asked.output)
    if plan.totals is None:
        print(f"{plan.status}: {', '.join(plan.conflicts)}", file=sys.stderr)
        return 3 if plan.status == "infeasible" else 4
    print(f"{plan.totals.cost_per_hour:,.2f} $/h, within {plan.objective.gap or 0.0:.2%} of the least possible")
    before = last.totals.servers if last is not None and last.totals is not None else {}
    for name in sorted({*before, *plan.totals.servers}):
        old, new = before.get(name, 0), plan.totals.servers.get(name, 0)
        print(f"{name:24} {old:5} servers last night, {new:5} tonight ({new - old:+d})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
