"""Simulate the reference plans in many seeds: does every SLO hold in each, and how far is the plan from it?

    python scripts/simulate_seeds.py                        every problem that has a plan of modelled pools, 20 seeds
    python scripts/simulate_seeds.py --seeds 3 problems/azure-chat.yaml

Prints a table by SLO (planned, median and worst simulated figure, seeds in which it held), then the median distance of
planned from simulated p95 over all tasks and problems.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from codesign import load_problem, load_solution, simulate
from codesign.simulate import SimulationReport

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", type=Path, default=sorted((ROOT / "problems").glob("*.yaml")))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--duration", type=float, default=300.0, help="seconds")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    distance: dict[str, list[float]] = {"ttft": [], "tpot": []}
    print(f"{'problem':14} {'task':13} {'SLO':16} {'target':>8} {'planned':>8} {'median':>8} {'worst':>8}  held")
    for path in options.problems:
        solution = ROOT / "solutions" / f"{path.stem}.json"
        if not solution.exists() or not any(pool.role != "serve" for pool in load_solution(solution).fleet):
            continue
        problem, plan = load_problem(path), load_solution(solution)
        reports = []
        for seed in range(options.seeds):
            reports.append(simulate(problem, plan, duration_s=options.duration, seed=seed, workers=options.workers))
            print(f"{path.stem}: seed {seed}: {'holds' if reports[-1].ok else 'broken'}", file=sys.stderr, flush=True)
        _table(path.stem, reports, distance)
    for metric, values in distance.items():
        if values:
            print(f"{metric} p95: planned and simulated differ by {statistics.median(values):.1%} at the median")


def _table(name: str, reports: list[SimulationReport], distance: dict[str, list[float]]) -> None:
    for t, task in enumerate(reports[0].tasks):
        for s, slo in enumerate(task.slo):
            found = [report.tasks[t].slo[s] for report in reports]
            values = [each.simulated or float("inf") for each in found]
            middle = statistics.median(values)
            if slo.metric in distance and slo.percentile == 0.95 and slo.planned:
                distance[slo.metric].append(abs(slo.planned / middle - 1.0))
            print(
                f"{name:14} {task.name:13} {f'{slo.metric} p{100 * slo.percentile:g}':16} {slo.target:8.3f} "
                f"{slo.planned or float('nan'):8.4f} {middle:8.4f} {max(values):8.4f}  "
                f"{sum(each.ok for each in found)}/{len(found)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
