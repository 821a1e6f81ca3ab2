"""From a serving fleet's own counters to a plan.

    python scripts/plan_from_metrics.py PROBLEM.yaml METRICS.csv [--percentile 95] [-o PLAN.json]

METRICS.csv is what a Prometheus query over time exports, one sample a line: timestamp (seconds), metric, task, value.
Counters of vLLM are read: request_success_total, prompt_tokens_total, generation_tokens_total, with or without the
prefix "vllm:"; `task` names the task of the problem file that a series belongs to. Series of several replicas add up, a
counter that falls has been restarted. The rate planned for is the percentile of the rates between samples.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from codesign import Problem, load_problem, solve

REQUESTS, PROMPT, GENERATED = "request_success_total", "prompt_tokens_total", "generation_tokens_total"


def increases(path: Path) -> dict[str, dict[str, dict[float, float]]]:
    """Increase since the sample before by task, metric and timestamp, summed over series."""
    series: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["task"], row["metric"].removeprefix("vllm:"), row.get("instance") or "")
            series[key].append((float(row["timestamp"]), float(row["value"])))
    found: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for (task, metric, _), samples in series.items():
        samples.sort()
        for (_, before), (time, now) in itertools.pairwise(samples):
            found[task][metric][time] += now - before if now >= before else now
    return found


def loaded(problem: Problem, path: Path, percentile: float) -> Problem:
    """The problem with rates and mean lengths as measured."""
    changes: dict[str, object] = {}
    for task, metrics in increases(path).items():
        times = sorted(metrics[REQUESTS])
        if len(times) < 2:
            raise ValueError(f"{path}: found {len(times) + 1} samples of {task}; expected at least 3 of {REQUESTS}")
        steps = np.diff(times)
        rates = np.array([metrics[REQUESTS][t] for t in times[1:]]) / steps
        requests = sum(metrics[REQUESTS].values())
        changes[f"tasks.{task}.rate"] = f"{float(np.percentile(rates, percentile))!r}/s"
        changes[f"tasks.{task}.context"] = {"mean": sum(metrics[PROMPT].values()) / requests}
        changes[f"tasks.{task}.output"] = {"mean": sum(metrics[GENERATED].values()) / requests}
    return problem.replace(changes)


def main(arguments: list[str] | None = None) -> int:
    """Plan for what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--percentile", type=float, default=95.0, help="of the rates between samples")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args(arguments)
    try:
        plan = solve(loaded(load_problem(asked.problem), asked.metrics, asked.percentile))
    except (ValueError, KeyError, OSError) as error:
        print(f"{asked.metrics}: no column {error}" if isinstance(error, KeyError) else error, file=sys.stderr)
        return 2
    if asked.output is not None:
        plan.write(asked.output)
    if plan.totals is None:
        print(plan.status, file=sys.stderr)
        return 3 if plan.status == "infeasible" else 4
    print(f"{plan.totals.cost_per_hour:,.2f} $/h: ", end="")
    print(", ".join(f"{count} × {name}" for name, count in plan.totals.accelerators.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
