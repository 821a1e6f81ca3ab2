"""Verify every problem that has SLOs and a plan: what does it cost, do they hold in 20 seeds, how far is the plan off?

    python scripts/verify_problems.py                       every file of problems/
    python scripts/verify_problems.py azure-chat T3         these alone; the others keep their rows

Each problem is planned, simulated, tightened and planned again (`solve --verify`); then the first and the last plan run
in many seeds. Writes solutions/verification/results.json after each problem and solutions/verification/report.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from codesign import load_problem, simulate, solve
from codesign.files import write_atomically
from codesign.planner import PlanProgress, verify
from codesign.problem import Problem, resolve
from codesign.problem.load import problem_kind
from codesign.simulate import SimulationReport
from codesign.solution import Solution

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "solutions" / "verification"
METRICS = ("ttft", "tpot")


def main() -> None:
    """Verify, write, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = {path.stem: path for path in sorted((ROOT / "problems").rglob("*.yaml")) if _promises(path)}
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(files))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--duration", type=float, default=300.0, help="simulated seconds of each seed")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(files))
    if unknown:
        parser.error(f"no problem with SLOs {', '.join(unknown)}; there are {', '.join(files)}")
    known: dict[str, Any] = json.loads((OUT / "results.json").read_text()) if (OUT / "results.json").exists() else {}
    for name in options.names or files:
        known[name] = _verify(name, load_problem(files[name]), options)
        known = {each: known[each] for each in files if each in known}
        OUT.mkdir(parents=True, exist_ok=True)
        write_atomically(OUT / "results.json", json.dumps(known, indent=1) + "\n")
        write_atomically(OUT / "report.md", report(known))
    print(report(known))


def _promises(path: Path) -> bool:
    """Is it a procurement problem with SLOs that the performance model has to keep?"""
    if problem_kind(path) == "architecture":
        return False
    problem = load_problem(path)
    return any(task.slo for task in problem.tasks) and bool(resolve(problem).hardware)


def _verify(name: str, problem: Problem, options: argparse.Namespace) -> dict[str, Any]:
    def tell(news: PlanProgress) -> None:
        print(f"\r\033[K{name}: {news.stage}", end="", file=sys.stderr, flush=True)

    first = solve(problem, progress=tell)
    if not first.fleet:
        return {"status": first.status}
    last = verify(problem, first, progress=tell, workers=options.workers)
    found = last.verification
    assert found is not None
    changed = len(found.rounds) > 1
    before = _seeds(name, problem, first, options)
    after = _seeds(name, problem, last, options) if changed else before
    return {
        "status": first.status,
        "unit": first.objective.unit,
        "before": found.rounds[0].objective,
        "after": found.rounds[-1].objective,
        "rounds": len(found.rounds),
        "stopped": found.stopped,
        "tightened": [words for each in found.rounds for words in each.tightened],
        "seeds": options.seeds,
        "duration_s": options.duration,
        "held_before": _held(before),
        "held_after": _held(after),
        "tasks": _tasks(before),
    }


def _seeds(name: str, problem: Problem, plan: Solution, options: argparse.Namespace) -> list[SimulationReport]:
    found = []
    for seed in range(100, 100 + options.seeds):  # none of those that --verify has looked at
        print(f"\r\033[K{name}: seed {seed}", end="", file=sys.stderr, flush=True)
        found.append(simulate(problem, plan, duration_s=options.duration, seed=seed, workers=options.workers))
    return found


def _held(reports: list[SimulationReport]) -> dict[str, int]:
    """Seeds in which each SLO holds."""
    return {
        f"{task.stage} {task.name} {slo.metric} p{100 * slo.percentile:g}".strip(): sum(
            report.tasks[t].slo[s].ok for report in reports
        )
        for t, task in enumerate(reports[0].tasks)
        for s, slo in enumerate(task.slo)
    }


def _tasks(reports: list[SimulationReport]) -> list[dict[str, Any]]:
    """Planned p95 beside the median and worst simulated one."""
    rows = []
    for t, task in enumerate(reports[0].tasks):
        for s, slo in enumerate(task.slo):
            if slo.metric not in METRICS or slo.percentile != 0.95 or slo.planned is None:
                continue
            values = [report.tasks[t].slo[s].simulated for report in reports]
            seen = [value for value in values if value is not None]
            if seen:
                rows.append(
                    {
                        "task": f"{task.stage} {task.name}".strip(),
                        "metric": slo.metric,
                        "target": slo.target,
                        "planned": slo.planned,
                        "simulated": statistics.median(seen),
                        "worst": max(seen),
                    }
                )
    return rows


def report(known: dict[str, Any]) -> str:
    """The tables in Markdown."""
    plans = {name: found for name, found in known.items() if "tasks" in found}
    lines = [
        "# Plans under simulation",
        "",
        "Written by `scripts/verify_problems.py`. `solve --verify` plans, simulates (3 seeds of 5 min), tightens and",
        "plans again; first and last plan then run in seeds that it has not seen. Distances: |planned/simulated − 1|.",
        "",
        "| problem | unit | first plan | verified | price | plans | seeds | SLOs × seeds held, first | verified |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in plans.items():
        price = found["after"] / found["before"] - 1.0
        held = [f"{sum(h.values())}/{len(h) * found['seeds']}" for h in (found["held_before"], found["held_after"])]
        verdict = held[1] if found["stopped"] is None else f"{held[1]}; stopped: {found['stopped']}"
        lines.append(
            f"| {name} | {found['unit']} | {found['before']:.5g} | {found['after']:.5g} | {price:.1%} "
            f"| {found['rounds']} | {found['seeds']} of {found['duration_s']:g} s | {held[0]} | {verdict} |"
        )
    lines += ["", "What was tightened:", ""]
    lines += [f"- {name}: {'; '.join(found['tightened'])}" for name, found in plans.items() if found["tightened"]]
    lines += [
        "",
        "## Planned and simulated p95 of the first plans (seconds)",
        "",
        "| problem | task | metric | target | planned | simulated, median | worst seed | planned/simulated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in plans.items():
        for row in found["tasks"]:
            lines.append(
                f"| {name} | {row['task']} | {row['metric'].upper()} | {row['target']:.4g} | {row['planned']:.4g} "
                f"| {row['simulated']:.4g} | {row['worst']:.4g} | {row['planned'] / row['simulated']:.0%} |"
            )
    lines += ["", "| metric | classes | median distance | mean | plan above simulation |", "|---|---|---|---|---|"]
    for metric in METRICS:
        ratios = [
            row["planned"] / row["simulated"]
            for found in plans.values()
            for row in found["tasks"]
            if row["metric"] == metric
        ]
        if ratios:
            off = [abs(ratio - 1.0) for ratio in ratios]
            above = sum(ratio > 1.0 for ratio in ratios)
            lines.append(
                f"| {metric.upper()} | {len(off)} | {statistics.median(off):.1%} | {statistics.mean(off):.1%} "
                f"| {above} of {len(ratios)} |"
            )
    without = [f"{name} ({found['status']})" for name, found in known.items() if "tasks" not in found]
    if without:
        lines += ["", f"Without a plan: {', '.join(without)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
