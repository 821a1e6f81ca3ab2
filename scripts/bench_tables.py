"""Tables and the plot of the solver benchmark."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
Result = dict[str, Any]

_LARGEST_SHARES = 5


def show(console: Console, part: str, result: Result) -> None:
    """Print a part's table and summary."""
    lines = {
        "columns": _column_lines,
        "scale": _scale_lines,
        "melange": _melange_lines,
        "fleets": _fleet_lines,
        "process": _process_lines,
    }[part](result["rows"])
    table = Table(title=part)
    for heading in lines[0]:
        table.add_column(heading, justify="right")
    for line in lines[1:]:
        table.add_row(*line)
    console.print(table)
    for row in result["rows"]:
        run = row.get("search", row)
        if run.get("where"):
            console.print(f"  {_title(row)}: {_where(run)}", highlight=False)
    if result["summary"]:
        console.print_json(json.dumps(result["summary"]))


def _column_lines(rows: Sequence[Row]) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [
        (
            "series",
            "columns",
            "$/h",
            "gap",
            "s to gap",
            "GB",
            "MILP $/h",
            "gap",
            "loaded s",
            "s to gap",
            "GB",
            "times faster",
        )
    ]
    for r in rows:
        a, b = r["search"], r["milp"]
        faster = ("≥ " if r["speedup_is_least"] else "") + _number(r["speedup"], ".1f") if r["speedup"] else "–"
        found.append(
            (
                r["series"],
                f"{r['columns']:,}",
                _number(a["objective"], ".2f"),
                _number(a["gap"], ".2%"),
                _number(r["seconds_to_goal"], ".2f"),
                _number(a["peak_gb"], ".1f"),
                _number(b["objective"], ".2f") if b["objective"] is not None else b["status"],
                _number(b["gap"], ".2%"),
                _number(b["load_seconds"], ".1f"),
                _number(r["milp_seconds_to_goal"], ".2f"),
                _number(b["peak_gb"], ".1f"),
                faster,
            )
        )
    return found


def _scale_lines(rows: Sequence[Row]) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [
        ("columns", "classes", "accelerators a class", "status", "$/h", "gap", "s to gap", "s in all", "nodes", "GB")
    ]
    for r in rows:
        found.append(
            (
                f"{r['columns']:,}",
                str(r["classes"]),
                f"{r['accelerators_per_class']:g}",
                r["status"],
                _number(r["objective"], ".2f"),
                _number(r["gap"], ".2%"),
                _number(r["seconds_to_goal"], ".2f"),
                _number(r["seconds"], ".2f"),
                str(r["nodes"]),
                _number(r["peak_gb"], ".1f"),
            )
        )
    return found


def _melange_lines(rows: Sequence[Row]) -> list[Sequence[str]]:
    factors = list(rows[0]["sliced"]) if rows else []
    head = [f"{what} ×{f}" for f in factors for what in ("$/h", "s")]
    found: list[Sequence[str]] = [("offers", "classes", "seed", "$/h", "s", "gap", *head)]
    for r in rows:
        cells: list[str] = []
        for f in factors:
            run = r["sliced"][f]
            mark = "" if run["status"] == "optimal" else "*"  # stopped by its time limit
            cells += [_number(run["objective"], ".2f") + mark, _number(run["seconds"], ".2f")]
        a = r["search"]
        own = (_number(a["objective"], ".2f"), _number(a["seconds"], ".2f"), _number(a["gap"], ".2%"))
        found.append((str(r["offers"]), str(r["classes"]), str(r["seed"]), *own, *cells))
    return found


def _fleet_lines(rows: Sequence[Row]) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [
        (
            "fleet",
            "variant",
            "limit s",
            "status",
            "$/h",
            "bound",
            "gap",
            "first plan s",
            "after build s",
            "nodes",
            "columns",
            "GB",
        )
    ]
    for r in rows:
        found.append(
            (
                f"{r['fleet_usd_per_hour']:g} $/h",
                r["variant"],
                f"{r['limit_seconds']:g}",
                r["status"],
                _number(r["objective"], ".2f"),
                _number(r["bound"], ".2f"),
                _number(r["gap"], ".2%"),
                _number(r["first_plan_seconds"], ".2f"),
                _number(r["first_plan_seconds_after_build"], ".2f"),
                str(r["nodes"]),
                f"{r['columns']:,}",
                _number(r["peak_gb"], ".1f"),
            )
        )
    return found


def _process_lines(rows: Sequence[Row]) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [("process", "median s", "least s", "allowed s")]
    keys = ("median_seconds", "least_seconds", "allowed_seconds")
    return found + [(r["process"], *(f"{r[k]:.2f}" for k in keys)) for r in rows]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _title(row: Row) -> str:
    names = ("series", "fleet_usd_per_hour", "variant", "columns", "offers", "classes", "seed")
    return ", ".join(f"{row[n]:,}" if n == "columns" else str(row[n]) for n in names if n in row)


def _where(run: Row) -> str:
    total = sum(run["where"].values()) or 1.0
    largest = list(run["where"].items())[:_LARGEST_SHARES]
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in largest)


def plot(parts: dict[str, Result], path: Path) -> None:
    """Log-log plots of time: against columns, and against offers × classes for the sliced ILP."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install codesign[bench]") from error
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for label, points in _column_curves(parts).items():
        axes[0].loglog(*zip(*sorted(points), strict=True), "o-", label=label)
    for label, points in _pool_curves(parts).items():
        axes[1].loglog(*zip(*sorted(points), strict=True), "o-", label=label)
    for axis, title in zip(axes, ("columns", "offers × classes"), strict=True):
        axis.set(xlabel=title, ylabel="seconds to the goal gap" if title == "columns" else "median seconds")
        axis.grid(True, which="both", alpha=0.3)
        if axis.has_data():
            axis.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


Curves = dict[str, list[tuple[float, float]]]


def _column_curves(parts: dict[str, Result]) -> Curves:
    curves: Curves = {}
    for row in parts.get("columns", {}).get("rows", []):
        for label, key in (("this solver", "seconds_to_goal"), ("one MILP", "milp_seconds_to_goal")):
            if row[key] is not None:
                curves.setdefault(f"{label}, {row['series']}", []).append((row["columns"], row[key]))
    for row in parts.get("scale", {}).get("rows", []):
        if row["seconds_to_goal"] is not None:
            label = f"this solver, {row['classes']} classes of {row['accelerators_per_class']:g} accelerators"
            curves.setdefault(label, []).append((row["columns"], row["seconds_to_goal"]))
    return curves


def _pool_curves(parts: dict[str, Result]) -> Curves:
    times: dict[str, dict[int, list[float]]] = {}
    for row in parts.get("melange", {}).get("rows", []):
        size = row["offers"] * row["classes"]
        times.setdefault("this solver", {}).setdefault(size, []).append(row["search"]["seconds"])
        for factor, run in row["sliced"].items():
            times.setdefault(f"sliced ILP ×{factor}", {}).setdefault(size, []).append(run["seconds"])
    return {
        label: [(size, statistics.median(found)) for size, found in sizes.items()] for label, sizes in times.items()
    }
