"""Draw a solution: what each pool costs, coloured by role, with its accelerators and what binds.

    python scripts/plot_plan.py solutions/agent-fleet.json solutions/agent-fleet.png

Needs the `plots` extra (matplotlib).
"""

from __future__ import annotations

import argparse

from codesign.solution import load_solution

COLOURS = {"prefill": "#3b6ea8", "decode": "#c8553d", "colocated": "#7a9e48", "serve": "#8a8a8a"}


def main() -> None:
    """Read the solution and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solution", help="solution file (JSON)")
    parser.add_argument("picture", help="PNG to write")
    arguments = parser.parse_args()
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plan = load_solution(arguments.solution)
    pools = sorted(plan.fleet, key=lambda pool: pool.cost_per_hour)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(pools) + 1.4), layout="constrained")
    axes.barh(
        [pool.pool for pool in pools],
        [pool.cost_per_hour for pool in pools],
        color=[COLOURS[pool.role] for pool in pools],
    )
    for row, pool in enumerate(pools):
        text = f" {pool.accelerators} × {pool.accelerator}, {pool.binding} binds"
        axes.text(pool.cost_per_hour, row, text, va="center", fontsize=8)
    axes.set_xlabel("$/h")
    axes.margins(x=0.35)
    axes.spines[["top", "right"]].set_visible(False)
    used = {pool.role for pool in pools}
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for role, colour in COLOURS.items() if role in used]
    axes.legend(handles, [role for role in COLOURS if role in used], loc="lower right", frameon=False)
    objective = plan.objective
    if objective.value is not None and objective.gap is not None:
        axes.set_title(f"{plan.provenance.problem}: {objective.value:,.2f} {objective.unit}, gap {objective.gap:.2%}")
    figure.savefig(arguments.picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
