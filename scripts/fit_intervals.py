"""Write the half widths of the 80 % bands from measured rows, tested on accelerator-model pairs left out.

    python scripts/fit_intervals.py [SERVING.csv.gz ENERGY.csv.gz]

Without files the shipped table is used. Prints rows, pairs and cross-validated coverage by quantity and
class; run it after every change of the constants.
"""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

from codesign.performance.confidence import CLASSES, UNMEASURED
from codesign.validation.commands import validate

TARGET = Path(__file__).parents[1] / "codesign" / "performance" / "data" / "intervals.toml"
HEAD = """\
# Half widths, in the logarithm, of 80 % bands around predictions, by class.
# Written by scripts/fit_intervals.py.
# unmeasured_generation: rows of each generation predicted without anything that was measured on it; no narrower
# than others.
# time: TPOT and its inverse, throughput; ttft: time to first token; energy: joules per output token.
# Beside each: rows and pairs (accelerator, model) that set it, and the share of rows that widths set by other
# pairs cover.

schema_version = 1
"""


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="measured rows (CSV or CSV.gz); without them the shipped table")
    files = parser.parse_args().data
    found = validate(files).coverage
    lines = [HEAD, f'date = "{datetime.date.today().isoformat()[:7]}"']
    for quantity in ("time", "ttft", "energy"):
        entries = {c.kind: c for c in found if c.quantity == quantity}
        # Without rows of its own (joules of inherited parts), a class has the band of an uncalibrated engine.
        for kind in ("inherited", "unmeasured_generation"):
            entries.setdefault(kind, entries["uncalibrated_engine"])
        lines.append(f"\n[half_width.{quantity}]")
        # Nobody knows less of a generation that was measured than of one that was not.
        widest = max(entries.values(), key=lambda c: c.half_width).half_width
        entries[UNMEASURED] = replace(entries[UNMEASURED], half_width=widest)
        for kind in CLASSES:
            c = entries[kind]
            lines.append(
                f"{kind} = {c.half_width:.3f}  # {c.rows} rows, {c.pairs} pairs, "
                f"covered {c.covered:.2f} of rows, {c.covered_pairs:.2f} of pairs"
            )
            print(
                f"{quantity:8}{kind:22}{c.half_width:6.3f}  "
                f"rows {c.rows:5} pairs {c.pairs:3} covered {c.covered:.2f} of rows, {c.covered_pairs:.2f} of pairs"
            )
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
