"""A frontier of cost and energy beside weighted sums of the two, and its time per point beside cold solves.

    python scripts/bench_frontier.py                                   50 points of problems/agent-fleet.yaml
    python scripts/bench_frontier.py PROBLEM.yaml --points 20 --gap 2% --time-limit 10s -o DIR

Both have the same gap, limit and workers.  Volumes are shares of the box between the best and the worst values of all
plans.  A cold solve has the ceilings of its point, nothing to start from, and ends at the gap that the point reached;
the enumeration of candidates is left out on both sides.  Writes DIR/front.csv and so on, and DIR/bench.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codesign import load_problem, pareto
from codesign.files import write_atomically
from codesign.problem import resolve
from codesign.problem.instance import ObjectiveName
from codesign.study.axes import AXES
from codesign.study.front import Front, unit_box, volume
from codesign.study.jobs import Finished, Job, Memory, run_job
from codesign.study.workers import StudyProgress, study
from codesign.units import parse_quantity

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("cost_per_hour", "energy_per_task")


def main() -> None:
    """Run both, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", nargs="?", type=Path, default=ROOT / "problems" / "agent-fleet.yaml")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--gap", default="1.5%")
    parser.add_argument("--time-limit", default="15s")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cold", type=int, default=4, metavar="N", help="points that are solved cold")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "solutions" / "frontier")
    options = parser.parse_args()
    problem = load_problem(options.problem)
    gap, limit = parse_quantity(options.gap, "fraction"), parse_quantity(options.time_limit, "time")
    started = time.monotonic()
    front = pareto(problem, NAMES, options.points, workers=options.workers, gap=gap, time_limit_s=limit, progress=tell)
    seconds = time.monotonic() - started
    front.write(options.output)
    jobs = weighted_sums(front, Job(resolve(problem), NAMES[0], gap, limit), options.points)
    started = time.monotonic()
    with study(len(jobs), None, options.workers, None, tell, None) as crew:
        sums = crew.run(jobs)
    plain = time.monotonic() - started
    warm, cold = times(front, Job(resolve(problem), NAMES[0], gap, limit), options.cold)
    ours, theirs = volumes(front, sums, jobs[0])
    lines = [
        f"{problem.name}: {', '.join(NAMES)}; asked for {options.points} points at {options.gap} in "
        f"{options.time_limit} a solve, {options.workers} workers.",
        "",
        "| | frontier | weighted sums |",
        "|---|---:|---:|",
        f"| solves | {front.solves} | {len(jobs)} |",
        f"| points | {len(front.points)} | {len({s.solution.objective.value for s in sums})} |",
        f"| seconds | {seconds:.0f} | {plain:.0f} |",
        f"| hypervolume | {ours:.4f} | {theirs:.4f} |",
        f"| widest gap | {max(p.gap for p in front.points):.2%} | |",
        f"| median gap | {statistics.median(p.gap for p in front.points):.2%} | |",
        f"| optimise seconds a point, median | {warm:.1f} | |",
        f"| the same cold, median of {options.cold} | {cold:.1f} | |",
    ]
    write_atomically(options.output / "bench.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def tell(news: StudyProgress) -> None:
    """Progress on standard error."""
    print(f"\r\033[K{news.done}/{news.planned} {news.stage}", end="", file=sys.stderr, flush=True)


def weighted_sums(front: Front, job: Job, count: int) -> list[Job]:
    """Jobs of evenly spread weights, scaled by the front's ranges."""
    spans = [max(p.values[n] for p in front.points) - min(p.values[n] for p in front.points) for n in NAMES]
    shares = [i / (count - 1) for i in range(count)]
    objectives = [AXES[name].objective for name in NAMES]

    def blend(share: float) -> tuple[tuple[ObjectiveName, float], ...]:
        weights = zip(objectives, (1 - share, share), spans, strict=True)
        return tuple((o, weight / span) for o, weight, span in weights if o and weight)

    return [replace(job, blend=blend(share)) for share in shares]


def times(front: Front, job: Job, count: int) -> tuple[float, float]:
    """Median seconds of optimisation of the front's points, and of some of them solved from nothing to their gaps."""
    warm = statistics.median(point.solution.solve.seconds["optimize"] for point in front.points)
    spread = front.points[:: max(1, len(front.points) // count)][:count]
    memory, found = Memory(), []
    for point in spread:
        ceilings = dict(point.solution.objective.ceilings or {})
        limits = {"gap": max(point.gap, 1e-4), "time_limit_s": 4 * job.time_limit_s}
        asked = replace(job, ceilings=tuple(ceilings.items()), **limits)
        memory.prepared(asked)
        started = time.monotonic()
        run_job(asked, memory)
        found.append(time.monotonic() - started)
    return warm, statistics.median(found)


def volumes(front: Front, sums: Sequence[Finished], job: Job) -> tuple[float, float]:
    """Hypervolume of the front and of the sums in the box of all."""
    ours = [[p.values[n] for n in NAMES] for p in front.points]
    plans = [s.solution for s in sums if s.solution.totals is not None]
    theirs = [[AXES[n].of(plan, job.instance) for n in NAMES] for plan in plans]
    best, worst = ([limit(column) for column in zip(*ours, *theirs, strict=True)] for limit in (min, max))
    both = [volume([unit_box(row, best, worst) for row in rows]) for rows in (ours, theirs)]
    return both[0], both[1]


if __name__ == "__main__":
    main()
