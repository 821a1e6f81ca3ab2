"""The simulator against measured closed-loop runs: TTFT and TPOT (p50) against concurrency.

    python scripts/validate_simulation.py

Prints each measured point beside the simulated figure and what `codesign validate`
predicts (TTFT: the same; TPOT: a formula), then median errors by concurrency. Measured:
InferenceX (DeepSeek-R1 on B200, H200, MI300X; Apache-2.0, SemiAnalysis), as shipped with the package.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from codesign.validation.closed_loop import simulate_closed
from codesign.validation.commands import validate
from codesign.validation.engine_load import table_of
from codesign.validation.points import COLOCATED
from codesign.validation.predict import stack_default

METRICS = ("ttft_ms_p50", "tpot_ms_p50")


def main() -> None:
    """Simulate and print."""
    measured = defaultdict(dict)
    points = {}
    for found in validate((), None, None).comparisons:
        if found.point.load == "closed" and found.point.slice == COLOCATED:
            measured[found.point.row_id][found.metric] = found
            points[found.point.row_id] = found.point
    errors = defaultdict(list)
    print(f"{'part':10} {'isl':>6} {'osl':>6} {'clients':>7}   {'TTFT ms: measured, simulated, formula':38} TPOT ms")
    for point in points.values():
        result = simulate_closed(point, table_of([point], stack_default(point)))
        cells = []
        for metric in METRICS:
            row = measured[point.row_id][metric]
            simulated = getattr(result, metric)
            cells.append(f"{row.measured:10.1f} {simulated:10.1f} {row.predicted:10.1f}")
            for clients in (int(point.concurrency), 0):
                errors[metric, clients, "simulated"].append(abs(simulated / row.measured - 1.0))
                errors[metric, clients, "formula"].append(abs(row.predicted / row.measured - 1.0))
        size = f"{point.isl:6.0f} {point.osl:6.0f} {point.concurrency:7.0f}"
        print(f"{point.accelerator:10} {size}   {cells[0]:38} {cells[1]}")
    print(f"\n{'median absolute error':22} {'clients':>8} {'rows':>5} {'simulated':>10} {'formula':>9}")
    for metric, clients, kind in sorted(errors):
        if kind == "simulated":
            own, other = errors[metric, clients, kind], errors[metric, clients, "formula"]
            name = clients or "all"
            print(
                f"{metric:22} {name:>8} {len(own):5} {statistics.median(own):10.1%} {statistics.median(other):9.1%}"
            )


if __name__ == "__main__":
    main()
