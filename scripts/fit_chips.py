"""Fit the few free constants of the chip model to published parts, and show the error on those held out.

    python scripts/fit_chips.py

Writes what stands under [fitted] in codesign/hardware/data/chips.toml. Area: mm² of matrix and vector units
for a thousand operations a clock at N5. Power: pJ/FLOP of both. BOM: loss of packages per mm².
Least squares on logarithms over the parts of parts.toml that are not held out for the quantity.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from codesign.hardware.chip import area, chip_facts, power
from codesign.hardware.chip_cost import chip_cost
from codesign.hardware.parts import Part, real_parts

FILE = Path(__file__).parents[1] / "codesign" / "hardware" / "data" / "chips.toml"
BEGIN = "# BEGIN FITTED\n"
NAMES = {
    "area": ("matrix_mm2_per_kflop", "vector_mm2_per_kflop"),
    "tdp": ("matrix_pj_per_flop", "vector_pj_per_flop"),
    "bom": ("package_loss_per_mm2",),
}
START = {"area": (0.7, 5.0), "tdp": (0.2, 1.0), "bom": (6e-5,)}


def known(part: Part, what: str) -> float | None:
    """The published figure."""
    return {"area": part.compute_mm2, "tdp": part.tdp_w, "bom": part.bom_usd}[what]


def predicted(part: Part, what: str, facts: Any) -> float:
    """The model's figure."""
    if what == "area":
        return area(part.design, facts).compute_dies
    return power(part.design, facts).tdp if what == "tdp" else chip_cost(part.design, facts).bom


def fit(what: str, facts: Any) -> None:
    """Set the constants of one quantity in `facts`."""
    parts = [p for p in real_parts().values() if known(p, what) is not None and what not in p.held_out]

    def residuals(values: np.ndarray) -> list[float]:
        facts["fitted"].update(zip(NAMES[what], (float(v) for v in values), strict=True))
        return [math.log(predicted(p, what, facts) / (known(p, what) or 1.0)) for p in parts]

    start = np.array(START[what])
    found = least_squares(residuals, start, bounds=(0.0, 50.0), x_scale=start)
    residuals(found.x)


def main() -> None:
    """Fit, print every part's error, and write the constants."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    facts: dict[str, Any] = copy.deepcopy(dict(chip_facts()))
    facts["fitted"] = {name: value for what in NAMES for name, value in zip(NAMES[what], START[what], strict=True)}
    for what in NAMES:
        fit(what, facts)
    lines = [f"{name} = {value:.4g}" for name, value in facts["fitted"].items() if isinstance(value, float)]
    text = FILE.read_text(encoding="utf-8")
    head = text[: text.index(BEGIN) + len(BEGIN)]
    tail = text[text.index("\n[sources]\n") + 1 :]
    block = "[fitted]\n" + "\n".join(lines) + '\nsource = "FIT"\ndate = "2026-11"\n\n'
    FILE.write_text(head + block + tail, encoding="utf-8")
    print(f"{'part':16s}" + "".join(f"{what:>22s}" for what in NAMES))
    for part in real_parts().values():
        cells = []
        for what in NAMES:
            true = known(part, what)
            error = "" if true is None else f"{predicted(part, what, facts) / true - 1.0:+.1%} of {true:,.0f}"
            cells.append(error + (" *" if what in part.held_out else "  "))
        print(f"{part.id:16s}" + "".join(f"{cell:>22s}" for cell in cells))
    print("* held out")


if __name__ == "__main__":
    main()
