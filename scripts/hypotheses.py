"""Run the hypotheses of the source paper as experiments, and write one report with a plot for each.

    python scripts/hypotheses.py                 all of them, into solutions/hypotheses/
    python scripts/hypotheses.py T4 T12          some of them, beside what is there

T1 to T12 are those of problems/hypotheses/ (what each asks stands in its file). Every verdict is computed from the
figures beside it, and names the result that would have refuted it. Needs the `plots` extra (matplotlib).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hypotheses_cards as cards
import hypotheses_fleets as fleets
import hypotheses_tiers as tiers
from hypotheses_lab import Plot

ROOT = Path(__file__).parents[1]
TESTS = {
    "T1": fleets.t1,
    "T2": cards.t2,
    "T3": fleets.t3,
    "T4": fleets.t4,
    "T5": tiers.t5,
    "T6": cards.t6,
    "T7": cards.t7,
    "T8": tiers.t8,
    "T9": tiers.t9,
    "T10": tiers.t10,
    "T11": fleets.t11,
    "T12": fleets.t12,
}
INTRODUCTION = """# Hypotheses of arXiv 2601.22001, tested

The paper is a position paper: it has no tool and no measured result, and its full text was not available. Each test
below is a problem in [`problems/hypotheses/`](../../problems/hypotheses/) that anyone can run again with
`python scripts/hypotheses.py`. Least costs are optima of the relaxation over every configuration (no whole servers), so
that two settings differ by their setting alone; T1 also solves a plan. Performance is modelled: calibrated on kernels
where there are measurements, inherited from a relative where there are none (SPAD's chip). Prices are of the dates
named.
"""


def main() -> None:
    """Run the chosen tests and write results.json, the pictures and report.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="T1 … T12; all by default")
    parser.add_argument("--output", "-o", type=Path, default=ROOT / "solutions" / "hypotheses", help="directory")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tests) - set(TESTS))
    if unknown:
        parser.error(f"found {', '.join(unknown)}; expected some of {', '.join(TESTS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    store = arguments.output / "results.json"
    known: dict[str, Any] = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for name in arguments.tests or TESTS:
        started = time.monotonic()
        finding = TESTS[name]()
        print(f"{name}: {finding.verdict} ({time.monotonic() - started:.0f} s)", flush=True)
        for plot in finding.plots:
            draw(plot, arguments.output / f"{name}-{plot.name}.png")
        known[name] = plain(asdict(finding))
    ordered = {name: known[name] for name in TESTS if name in known}
    store.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (arguments.output / "report.md").write_text(report(ordered), encoding="utf-8")


def plain(value: Any) -> Any:
    """What JSON can hold: infinities become text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else None
    return value


def report(found: dict[str, Any]) -> str:
    """The report as Markdown: verdicts first, then each test."""
    lines = [INTRODUCTION, "| test | question | verdict |", "|---|---|---|"]
    lines += [f"| [{name}](#{name.lower()}) | {f['question']} | **{f['verdict']}** |" for name, f in found.items()]
    for name, f in found.items():
        lines += ["", f"## {name}", "", f"**{f['question']}**", "", f"Setting: {f['setting']}", ""]
        lines += ["| " + " | ".join(f["header"]) + " |", "|" + "---|" * len(f["header"])]
        lines += ["| " + " | ".join(row) + " |" for row in f["rows"]]
        lines += [
            "",
            f"- Crossover: {f['crossover']}.",
            f"- Published: {f['published']}",
            f"- Verdict: **{f['verdict']}**. {f['because']}",
            f"- Would have refuted it: {f['refuted_by']}",
        ]
        lines += [line for plot in f["plots"] for line in ("", f"![{plot['name']}]({name}-{plot['name']}.png)")]
    return "\n".join(lines) + "\n"


def draw(plot: Plot, path: Path) -> None:
    """One picture as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for series in plot.series:
        axes.plot(series.x, series.y, marker="o", markersize=3, label=series.name)
    if plot.level is not None:
        name, value = plot.level
        axes.axhline(value, color="#888888", linestyle="--", linewidth=1, label=name)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
