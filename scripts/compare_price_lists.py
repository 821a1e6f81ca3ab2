"""What if prices were others?  One plan per price list, and what changes.

    python scripts/compare_price_lists.py PROBLEM.yaml PRICES.csv [-o DIR]

PRICES.csv has the columns list, hardware, usd_per_hour (per accelerator; hardware as the problem file names it). Parts
that a list leaves out keep their price. With `-o` the plans are kept, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from codesign import load_problem, sweep


def price_lists(path: Path) -> dict[str, dict[str, Any]]:
    """Values by dotted path for each list of the file."""
    lists: dict[str, dict[str, Any]] = {"as it stands": {}}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            changes = lists.setdefault(row["list"], {})
            offer = {row["list"]: {"rent": f"{float(row['usd_per_hour'])!r} $/h"}}
            changes[f"hardware.{row['hardware']}.price"] = None
            changes[f"hardware.{row['hardware']}.offers"] = offer
    return lists


def main(arguments: list[str] | None = None) -> int:
    """Plan for each list and print one line per list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("prices", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args(arguments)
    try:
        found = sweep(
            load_problem(asked.problem), [{}], scenarios=price_lists(asked.prices), directory=asked.output
        )
    except (ValueError, KeyError, OSError) as error:
        print(f"{asked.prices}: no column {error}" if isinstance(error, KeyError) else error, file=sys.stderr)
        return 2
    if asked.output is not None:
        found.write(asked.output)
    base = found.runs[0].solution.totals
    for run in found.runs:
        totals = run.solution.totals
        if totals is None:
            print(f"{run.scenario:20} {run.solution.status}")
            continue
        change = f"{totals.cost_per_hour / base.cost_per_hour - 1:+7.1%}" if base else ""
        fleet = ", ".join(f"{n} × {name}" for name, n in sorted(totals.accelerators.items()))
        print(f"{run.scenario:20} {totals.cost_per_hour:12,.2f} $/h {change}  {fleet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
