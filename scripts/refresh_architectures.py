"""Solve the files in problems/architecture/ again and write their reference solutions and plots.

    python scripts/refresh_architectures.py [NAME ...] [--plots-only]

Writes solutions/architecture/NAME.json and NAME.png (the `plots` extra). Their workloads are procurement problems;
the plan of each stands inside the solution, checked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from codesign.architecture.solution import ArchitectureSolution, load_architecture_solution
from codesign.architecture.solve import solve_architecture
from codesign.problem.architecture import load_architecture

ROOT = Path(__file__).parents[1]
PROBLEMS, SOLUTIONS = ROOT / "problems" / "architecture", ROOT / "solutions" / "architecture"


def draw(found: ArchitectureSolution, picture: Path) -> None:
    """Search history against bound, grid and buying; what the chips cost; what an assumption does."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    objective = found.objective
    left.plot(found.history, color="#3b6ea8", label="best of the search")
    for value, label, style in (
        (objective.baseline, "buying alone", "--"),
        (objective.grid_value, "grid optimum", ":"),
        (objective.bound, "lower bound", "-."),
    ):
        if value is not None:
            left.axhline(value, color="#8a8a8a", linestyle=style, label=label)
    left.set_xlabel("trial")
    left.set_ylabel(objective.unit)
    left.legend(frameon=False)
    bottoms = [0.0] * len(found.designs)
    names = [chip.name for chip in found.designs]
    for term in found.designs[0].cost_usd:
        values = [chip.cost_usd[term] for chip in found.designs]
        middle.bar(names, values, bottom=bottoms, label=term.replace("_", " "))
        bottoms = [bottom + value for bottom, value in zip(bottoms, values, strict=True)]
    middle.set_ylabel("bill of materials, $")
    middle.legend(frameon=False, fontsize=8)
    told = found.sensitivity
    rows = [row for row in told.assumptions if row.value is not None] if told else []
    rows = sorted(rows, key=lambda row: abs(row.value - (objective.value or 0.0)))
    rows = rows[-12:]
    base = objective.value or 1.0
    colours = ["#c8553d" if row.flips else "#7a9e48" for row in rows]
    labels = [f"{row.assumption} {'↑' if row.setting > row.nominal else '↓'}" for row in rows]
    right.barh(labels, [100 * (row.value / base - 1) for row in rows], color=colours)
    right.set_xlabel("at the end of the range, change in % (red flips)")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{found.provenance.problem}: {found.status}")
    figure.savefig(picture, dpi=100, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Solve, write, draw, and print one line for each problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.stem for path in PROBLEMS.glob("*.yaml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(known))
    parser.add_argument("--plots-only", action="store_true", help="draw the solutions as they stand")
    given = parser.parse_args()
    for name in given.names or known:
        if not given.plots_only:
            command = f"scripts/refresh_architectures.py {name}"
            solve_architecture(load_architecture(PROBLEMS / f"{name}.yaml"), command=command).write(
                SOLUTIONS / f"{name}.json"
            )
        found = load_architecture_solution(SOLUTIONS / f"{name}.json")
        draw(found, SOLUTIONS / f"{name}.png")
        objective = found.objective
        gap = "" if objective.gap is None else f", gap {objective.gap:.2%}"
        print(f"{name}: {found.status}, {objective.value:.6g} {objective.unit}{gap}", flush=True)


if __name__ == "__main__":
    main()
