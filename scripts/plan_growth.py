"""Buy quarter by quarter while demand grows: what to order when.

    python scripts/plan_growth.py PROBLEM.yaml --growth 15% [--quarters 8] [-o PURCHASES.csv]

Every quarter is planned for its own demand with the servers of all quarters before in place, at the price they were
bought at; none is given up. That is how fleets are bought in practice. To see what foresight would save, put the
quarters into the problem file as `periods`, which are planned as one.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from codesign import Problem, load_problem, solve
from codesign.problem import resolve
from codesign.units import parse_quantity


def grown(problem: Problem, factor: float, owned: list[dict[str, object]]) -> Problem:
    """The problem with all rates times `factor`, and servers in place that stay."""
    rates = {task.name: task.rate_per_s for task in resolve(problem).tasks}
    changes: dict[str, object] = {f"tasks.{name}.rate": f"{rate * factor!r}/s" for name, rate in rates.items()}
    if owned:
        changes |= {"existing": owned, "limits.churn.servers": "0%"}
    return problem.replace(changes)


def main(arguments: list[str] | None = None) -> int:
    """Plan the quarters in turn; one line per quarter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("--growth", default="15%", help="of demand, each quarter")
    parser.add_argument("--quarters", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, help="a CSV of the purchases")
    asked = parser.parse_args(arguments)
    bought: list[tuple[int, str, int, int, float]] = []
    owned: list[dict[str, object]] = []
    try:
        problem, growth = load_problem(asked.problem), parse_quantity(asked.growth, "fraction")
        owned = list((problem.model_dump(mode="json")).get("existing") or [])
        with_power = {
            f"{o.name}/{offer.name}": offer.includes_power for o in resolve(problem).hardware for offer in o.offers
        }
        for quarter in range(1, asked.quarters + 1):
            plan = solve(grown(problem, (1 + growth) ** (quarter - 1), owned))
            if plan.totals is None:
                print(f"Q{quarter}: {plan.status}; codesign explain says why", file=sys.stderr)
                return 3 if plan.status == "infeasible" else 4
            new = [
                line
                for line in plan.purchase
                if line.kind == "server" and not line.item.split("/")[1].startswith("existing")
            ]
            for line in new:
                hardware = line.item.split("/")[0]
                each = line.usd_per_hour / line.accelerators
                bought.append((quarter, hardware, line.count, line.accelerators, each))
                owned.append(
                    {
                        "hardware": hardware,
                        "servers": line.count,
                        "price": f"{each!r} $/h",
                        "includes_power": with_power[line.item],
                    }
                )
            orders = ", ".join(f"{line.count} × {line.item}" for line in new) or "nothing"
            print(f"Q{quarter}: {plan.totals.cost_per_hour:10,.2f} $/h; order {orders}")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.output is not None:
        with asked.output.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["quarter", "hardware", "servers", "accelerators", "usd_per_accelerator_hour"])
            writer.writerows(bought)
    return 0


if __name__ == "__main__":
    sys.exit(main())
