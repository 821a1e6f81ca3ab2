"""The solver side by side with what else could solve the same: one run, one machine, tables and a plot.

    python scripts/bench_solver.py                             all parts; half an hour or so with the defaults
    python scripts/bench_solver.py --part melange --seeds 2    one part, fewer instances
    python scripts/bench_solver.py --part columns --columns 1000,10000 --plot times.png --json times.json
    python scripts/bench_solver.py --part scale --columns 10000,100000,1000000 --classes 100
    python scripts/bench_solver.py --part fleets --minutes 10

Parts: `columns` (against the whole model as one Pyomo and HiGHS MILP, to the same true gap), `scale` (alone, on
more columns than that MILP can load), `melange` (against Mélange's sliced ILP in PuLP and CBC: `pip install
codesign[bench]`), `fleets` (three fleets of one shape, plain and redundant), `process` (whole processes).  Every
gap is over all columns.  Each run of `columns`, `scale` and `fleets` has a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from bench_fleets import (
    FULL_FLEET_USD_PER_HOUR,
    VARIANTS,
    data_of,
    random_pools,
    scaled_file,
    slices,
    synthetic_fleet,
)
from bench_runs import Run, in_own_process, run_monolith, run_search, run_sliced, warm_up
from bench_tables import plot, show
from rich.console import Console

from codesign.candidates.data import FleetData
from codesign.problem import load_problem

Row = dict[str, Any]
Result = dict[str, Any]

_DEARER = 1e-6
"""Relative difference of cost that counts."""
_FIRST_PLAN = 1.05
"""A first plan counts when it costs at most this times the final one."""
_PROCESSES = {"help": 0.3, "ten columns": 1.5}
"""Seconds that whole processes may take."""


# ---- parts -------------------------------------------------------------------------------------------------


def columns_part(options: argparse.Namespace) -> Result:
    """This solver and the whole model as one MILP, on growing slices of a problem and on synthetic fleets."""
    seconds = options.seconds or 60.0
    cuts = slices(data_of(load_problem(options.problem)), options.columns, options.seed)
    series: dict[str, dict[int, FleetData | Callable[[], FleetData]]] = {
        options.problem.stem: dict(cuts),
        "synthetic": {
            n: functools.partial(synthetic_fleet, n, options.classes, seed=options.seed) for n in options.columns
        },
    }
    rows = []
    for name, instances in series.items():
        loads = True
        for count, instance in instances.items():
            ours = in_own_process(run_search, instance, seconds, **_common(options))
            goal = max(options.gap, ours.gap) if math.isfinite(ours.gap) else options.gap
            whole = Run("not tried", math.inf)
            if loads:
                whole = in_own_process(run_monolith, instance, seconds, **{**_common(options), "gap": goal})
                loads = whole.status != "did not load"
            rows.append(_compared(name, count, ours, whole, goal, seconds))
            _note(f"{name} {count:,} columns: {ours.status} {ours.seconds:.1f} s, MILP {whole.status}")
    both = [r for r in rows if r["milp"]["status"] not in ("did not load", "not tried")]
    largest = [max((r for r in both if r["series"] == s), key=lambda r: r["columns"], default=None) for s in series]
    return {
        "rows": rows,
        "summary": {
            "largest_loaded": [
                {k: r[k] for k in ("series", "columns", "speedup", "speedup_is_least")} for r in largest if r
            ],
            "never_worse": sum(_at_most(r["search"]["objective"], r["milp"]["objective"], r["goal_gap"]) for r in both),
            "compared": len(both),
        },
    }


def _compared(name: str, count: int, ours: Run, whole: Run, goal: float, limit: float) -> Row:
    mine, theirs = ours.seconds_to_gap(goal), whole.seconds_to_gap(goal)
    least = not math.isfinite(theirs)
    speedup = (limit if least else theirs) / mine if math.isfinite(mine) else None
    return {
        "series": name,
        "columns": count,
        "goal_gap": goal,
        "seconds_to_goal": _finite(mine),
        "milp_seconds_to_goal": _finite(theirs),
        "speedup": speedup if whole.status != "not tried" else None,
        "speedup_is_least": least,
        "search": ours.json(),
        "milp": whole.json(),
    }


def scale_part(options: argparse.Namespace) -> Result:
    """This solver alone on synthetic fleets: seconds, memory, and how time grows with columns."""
    seconds = options.seconds or 180.0
    rows = []
    for size in options.accelerators:
        for count in options.columns:
            instance = functools.partial(
                synthetic_fleet, count, options.classes, seed=options.seed, accelerators=size * options.classes
            )
            run = in_own_process(run_search, instance, seconds, **_common(options))
            rows.append(
                {
                    "columns": count,
                    "classes": options.classes,
                    "accelerators_per_class": size,
                    "seconds_to_goal": _finite(run.seconds_to_gap(options.gap)),
                    **run.json(),
                }
            )
            _note(f"{size:g} a class, {count:,} columns: {run.status} {run.seconds:.1f} s, gap {run.gap:.2%}")
    powers = {}
    for size in options.accelerators:
        mine = [r for r in rows if r["accelerators_per_class"] == size and r["columns"] >= 1e4]
        timed = [(r["columns"], r["seconds_to_goal"]) for r in mine if r["seconds_to_goal"]]
        powers[f"{size:g}"] = _exponent(timed)
    return {"rows": rows, "summary": {"time_grows_with_columns_to_the_power_by_accelerators_per_class": powers}}


def melange_part(options: argparse.Namespace) -> Result:
    """This solver at gap 0 and the sliced ILP on the same random pools, both from the rates to the counts."""
    seconds = options.seconds or 20.0
    warm_up()
    rows = []
    for offers, classes in options.sizes:
        for seed in range(options.seed, options.seed + options.seeds):
            pools = random_pools(offers, classes, seed)
            problem = pools.problem(0.0, seconds, options.threads)
            ours = run_search(problem, 0.0, seconds, options.threads, options.seed)
            sliced = {f: run_sliced(pools, f, seconds, options.threads) for f in options.factors}
            rows.append(
                {
                    "offers": offers,
                    "classes": classes,
                    "seed": seed,
                    "search": ours.json(),
                    "sliced": {
                        str(f): {
                            **run.json(),
                            "seconds_to_as_cheap": _finite(ours.seconds_to_value(run.objective)),
                        }
                        for f, run in sliced.items()
                    },
                }
            )
            _note(f"{offers} offers, {classes} classes, seed {seed}: {ours.seconds:.2f} s")
    return {"rows": rows, "summary": {str(f): _against_sliced(rows, str(f)) for f in options.factors}}


def _against_sliced(rows: Sequence[Row], factor: str) -> Row:
    """Counts of instances, and of sizes by median time, where this solver is behind."""
    pairs = [(row["search"], row["sliced"][factor]) for row in rows]
    sizes = sorted({(row["offers"], row["classes"]) for row in rows})
    medians = []
    for size in sizes:
        here = [r for r in rows if (r["offers"], r["classes"]) == size]
        medians.append(
            (
                statistics.median(r["search"]["seconds"] for r in here),
                statistics.median(r["sliced"][factor]["seconds"] for r in here),
            )
        )
    return {
        "instances": len(pairs),
        "dearer": sum(not _at_most(a["objective"], b["objective"], _DEARER) for a, b in pairs),
        "cheaper": sum(not _at_most(b["objective"], a["objective"], _DEARER) for a, b in pairs),
        "most_saved": max(
            (1 - a["objective"] / b["objective"] for a, b in pairs if a["objective"] and b["objective"]),
            default=0.0,
        ),
        "slower": sum(a["seconds"] > b["seconds"] for a, b in pairs),
        "sizes": len(sizes),
        "slower_sizes": [f"{o}x{c}" for (o, c), (a, b) in zip(sizes, medians, strict=True) if a > b],
    }


def fleets_part(options: argparse.Namespace) -> Result:
    """Fleets of one shape at several sizes: value, bound and true gap at the time limit, columns included."""
    runs = [(options.seconds or 30.0, v) for v in options.variants]
    if options.minutes:
        runs += [(60.0 * options.minutes, v) for v in options.variants if v == "redundant"]
    rows = []
    for seconds, variant in runs:
        for usd in options.fleets:
            instance = functools.partial(scaled_file, options.problem, usd / FULL_FLEET_USD_PER_HOUR, variant)
            run = in_own_process(run_search, instance, seconds, **{**_common(options), "gap": options.fleet_gap})
            first = run.seconds_to_value(_FIRST_PLAN * run.objective)
            rows.append(
                {
                    "fleet_usd_per_hour": usd,
                    "variant": variant,
                    "limit_seconds": seconds,
                    "first_plan_seconds": _finite(first),
                    "first_plan_seconds_after_build": _finite(first - run.load_seconds),
                    **run.json(),
                }
            )
            _note(f"{usd:g} $/h {variant}: {run.status}, gap {run.gap:.2%}")
    return {"rows": rows, "summary": {}}


def process_part(options: argparse.Namespace) -> Result:
    """Median seconds of whole processes: help, and a problem of ten columns."""
    script = Path(sys.executable).with_name("codesign")
    command = [str(script)] if script.exists() else [sys.executable, "-c", "from codesign.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / "ten.yaml"
        problem.write_text(json.dumps(random_pools(10, 4, options.seed).description(0.0, 60.0, options.threads)))
        commands = {
            "help": [*command, "--help"],
            "ten columns": [*command, "solve", str(problem), "-o", str(Path(folder) / "plan.json")],
        }
        rows: list[Row] = []
        for name, words in commands.items():
            spent = [_process_seconds(words) for _ in range(options.repeats)]
            rows.append(
                {
                    "process": name,
                    "median_seconds": statistics.median(spent),
                    "least_seconds": min(spent),
                    "allowed_seconds": _PROCESSES[name],
                }
            )
    return {
        "rows": rows,
        "summary": {"within": sum(r["median_seconds"] <= r["allowed_seconds"] for r in rows)},
    }


def _process_seconds(command: Sequence[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {"gap": options.gap, "threads": options.threads, "seed": options.seed}


def _exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log time against log columns; None with fewer than two points."""
    if len(points) < 2:
        return None
    columns, seconds = np.log(np.array(points, dtype=np.float64)).T
    return float(np.polyfit(columns, seconds, 1)[0])


def _at_most(value: float | None, other: float | None, tolerance: float) -> bool:
    """Is the value (None: no plan) at most the other, up to a relative tolerance?"""
    if other is None:
        return True
    return value is not None and value <= other * (1 + tolerance)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- command line ------------------------------------------------------------------------------------------


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "columns": columns_part,
    "scale": scale_part,
    "melange": melange_part,
    "fleets": fleets_part,
    "process": process_part,
}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    default = Path(__file__).parents[1] / "problems" / "agent-fleet.yaml"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--part", action="append", choices=list(PARTS), help="one of them; may be repeated (default: all)")
    add("--problem", type=Path, default=default, help="for slices and fleets")
    add("--seconds", type=float, help="limit of a run (default: columns 60, scale 180, melange 20, fleets 30)")
    add("--minutes", type=float, help="redundant fleets once more for this long")
    add("--gap", type=_fraction, default=0.01, help="goal of columns and scale (default 1%%)")
    add("--fleet-gap", type=_fraction, default=0.001, help="gap at which a fleet's run ends (default 0.1%%)")
    add("--columns", type=_list(int), default=[100, 300, 1000, 3000, 10_000, 30_000, 100_000])
    add("--classes", type=int, default=12, help="of synthetic fleets")
    add("--accelerators", type=_list(float), default=[2.0, 20.0, 200.0], help="a class, of synthetic fleets of scale")
    add("--sizes", type=_list(_size), default=[(4, 12), (8, 20), (16, 30), (24, 40), (48, 60)])
    add("--factors", type=_list(int), default=[1, 4, 8], help="slice factors")
    add("--fleets", type=_list(float), default=[20.0, 150.0, 1500.0], help="$/h, about")
    add("--variants", type=_list(_variant), default=["plain", "redundant"], help=", ".join(VARIANTS))
    add("--seeds", type=int, default=3, help="instances of each size")
    add("--seed", type=int, default=0, help="the first of them")
    add("--threads", type=int, default=2)
    add("--repeats", type=int, default=7, help="of whole processes")
    add("--json", type=Path, help="write all figures here")
    add("--plot", type=Path, help="write a log-log plot here")
    return parser.parse_args(words)


def _list(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [kind(item) for item in text.split(",")]


def _fraction(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _size(text: str) -> tuple[int, int]:
    offers, classes = text.split("x")
    return int(offers), int(classes)


def _variant(text: str) -> str:
    if text not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{text!r}: one of {', '.join(VARIANTS)}")
    return text


def machine() -> Row:
    """What the times depend on."""
    versions = {}
    for package in ("codesign", "numpy", "pyomo", "highspy", "pulp"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def main(words: Iterable[str] | None = None) -> None:
    """Run the parts asked for, print their tables, write JSON and plot."""
    options = arguments(None if words is None else list(words))
    console = Console()
    console = Console(width=max(console.width, 150))
    parts: dict[str, Result] = {}
    for name in options.part or list(PARTS):
        parts[name] = PARTS[name](options)
        show(console, name, parts[name])
        if options.json:  # after each part: a long benchmark that is stopped has shown something
            options.json.write_text(json.dumps({"machine": machine(), "parts": parts}, indent=1) + "\n")
    if options.plot:
        plot(parts, options.plot)


if __name__ == "__main__":
    main()
