"""Solve the files in problems/ again and write their reference solutions to solutions/.

    python scripts/refresh_solutions.py [NAME ...]

NAME is the stem of a problem file (agent-fleet); without one, all are solved. A reference is the answer to
the file as it stands: run this after a change to a problem, or to the model behind it, and read what changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from codesign.planner import solve
from codesign.problem import load_problem

ROOT = Path(__file__).parents[1]
ROBUST = ("price-what-if",)
"""Problems whose reference is bought for all their scenarios."""


def main() -> None:
    """Solve, write, and print one line for each problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = sorted(path.stem for path in (ROOT / "problems").glob("*.yaml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(known))
    names = parser.parse_args().names or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"no problem file {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names:
        problem = load_problem(ROOT / "problems" / f"{name}.yaml")
        solution = solve(problem, robust=name in ROBUST, command=f"scripts/refresh_solutions.py {name}")
        solution.write(ROOT / "solutions" / f"{name}.json")
        objective, seconds = solution.objective, sum(solution.solve.seconds.values())
        found = "no plan" if objective.value is None else f"{objective.value:.6g} {objective.unit}"
        gap = "" if objective.gap is None else f", gap {objective.gap:.2%}"
        print(f"{name}: {solution.status}, {found}{gap}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
