"""Small problems for the tests of frontiers and sweeps, and their front by enumeration of every fleet."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

from codesign.problem import Problem

POOLS = {
    # name: ($/h, W, {task: most per second})
    "a100": (3.67, 400, {"short": 20, "long": 5}),
    "h100": (5.0, 500, {"short": 31, "long": 9}),
    "l4": (0.9, 90, {"short": 3, "long": 0.5}),
    "thrifty": (9.0, 200, {"short": 12, "long": 4}),
}
RATES = {"short": 40.0, "long": 8.0}


def document(pools=POOLS, rates=RATES, **options):
    """The data of a problem of measured pools alone: solved in milliseconds."""
    return {
        "name": "small",
        "tasks": [{"name": name, "rate": f"{rate}/s"} for name, rate in rates.items()],
        "measured_pools": [
            {"name": n, "accelerator": n.upper(), "cost": f"{c} $/h", "power": f"{w} W", "max_rate": _rates(most)}
            for n, (c, w, most) in pools.items()
        ],
        "options": {"gap": 0, "time_limit": "60 s", "threads": 1} | options,
    }


def problem(pools=POOLS, rates=RATES, **options) -> Problem:
    """That problem."""
    return Problem.from_dict(document(pools, rates, **options))


def two_pools():
    """At 2 $/h for 10/s and 5 $/h for 50/s: one small pool up to 10/s, two up to 20/s, then the large one."""
    return problem({"small": (2.0, 100, {"short": 10}), "large": (5.0, 300, {"short": 50})}, {"short": 5.0})


def modelled(**changes) -> Problem:
    """A modelled problem small enough to solve in a second or two."""
    task = {
        "name": "chat",
        "rate": "6/s",
        "calls": 1,
        "context": {"p50": 800, "p90": 3000},
        "append": 300,
        "output": {"mean": 200},
        "models": ["llama"],
        "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "60 ms"}},
    }
    hardware = {
        "h100": {"accelerator": "h100-sxm", "server": {"accelerators": 2}, "price": "2.5 $/h"},
        "l40s": {"accelerator": "l40s", "server": {"accelerators": 1}, "price": "0.8 $/h"},
    }
    return Problem.from_dict(
        {
            "name": "chat",
            "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [task],
            "hardware": hardware,
            "options": {"gap": "1%", "threads": 1, "max_replica_accelerators": 1, "disaggregation": "never"},
        }
        | changes
    )


def enumerated_front(pools=POOLS, rates=RATES, pue=1.25) -> list[tuple[float, float]]:
    """($/task, J/task) of every fleet that nobody beats, cheapest first: each count of each pool is tried."""
    names = list(pools)
    most = [
        int(np.ceil(sum(rates[t] / pools[n][2][t] for t in rates if pools[n][2].get(t)))) + 1 for n in names
    ]
    total = sum(rates.values())
    fleets = sorted(
        (
            sum(k * pools[n][0] for k, n in zip(counts, names, strict=True)) / 3600 / total,
            sum(k * pools[n][1] for k, n in zip(counts, names, strict=True)) * pue / total,
            counts,
        )
        for counts in itertools.product(*(range(m + 1) for m in most))
    )
    front: list[tuple[float, float]] = []
    for cost, energy, counts in fleets:
        if (not front or energy < front[-1][1] - 1e-12) and _serves(counts, names, pools, rates):
            front.append((cost, energy))
    return front


def _serves(counts, names, pools, rates):
    """Can these replicas carry all tasks?  Σ rate/most ≤ replicas, by linear programming."""
    flows = [(p, t) for p, n in enumerate(names) for t in rates if pools[n][2].get(t)]
    load = np.array([[(q == p) / pools[names[q]][2][t] for q, t in flows] for p in range(len(names))])
    demand = np.array([[float(t == task) for _, t in flows] for task in rates])
    found = linprog(np.zeros(len(flows)), load, np.array(counts) + 1e-9, demand, list(rates.values()), method="highs")
    return found.status == 0


def _rates(most):
    return {task: f"{rate}/s" for task, rate in most.items()}


def outcome(folder):
    """All that a study leaves behind, but for the seconds that solving took."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix in (".json", ".csv") and "runs" not in path.relative_to(folder).parts[:-1]:
            text = path.read_text()
            if path.parent.name == "solutions":
                document = json.loads(text)
                document["solve"]["seconds"] = None
                text = json.dumps(document)
            found[str(path.relative_to(folder))] = text
    return found
