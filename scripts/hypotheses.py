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

from codesign.files import write_atomically

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
OPTIMA = "least costs over every configuration, without whole servers (optima of the relaxation)"
INTRODUCTION = """# Hypotheses of arXiv 2601.22001, tested

The paper is a position paper: it has no tool and no measured result, and its full text was not available. Each test
below is a problem in [`problems/hypotheses/`](../../problems/hypotheses/) that anyone can run again with
`python scripts/hypotheses.py`. Least costs are optima of the relaxation over every configuration (no whole servers), so
that two settings differ by their setting alone; plans of whole servers stand beside them, with what is proven of each.
Performance is modelled: calibrated on kernels where there are measurements, inherited from a relative where there are
none (SPAD's chip). Prices are of the dates named.
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
        ordered = {test: known[test] for test in TESTS if test in known}
        write_atomically(store, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
        write_atomically(arguments.output / "report.md", report(ordered))


def plain(value: Any) -> Any:
    """What JSON can hold: infinities become text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else None
    return value


def whole_row(entry: dict[str, Any]) -> str:
    """A row of the report for a plan of whole servers."""
    plan = "none in time" if entry["plan"] is None else amount(entry["plan"])
    gap = "–" if entry["gap"] is None else f"{100 * entry['gap']:.1f} %"
    return f"| {entry['setting']} | {amount(entry['least'])} | {plan} | {gap} |"


def amount(value: Any) -> str:
    """A cost with four digits; words for what is none."""
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def report(found: dict[str, Any]) -> str:
    """The report as Markdown: verdicts first, then each test."""
    lines = [INTRODUCTION, "| test | question | verdict |", "|---|---|---|"]
    lines += [f"| [{name}](#{name.lower()}) | {f['question']} | **{f['verdict']}** |" for name, f in found.items()]
    for name, f in found.items():
        lines += ["", f"## {name}", "", f"**{f['question']}**", "", f"Setting: {f['setting']}", ""]
        lines += ["| " + " | ".join(f["header"]) + " |", "|" + "---|" * len(f["header"])]
        lines += ["| " + " | ".join(row) + " |" for row in f["rows"]]
        if f["optima"]:
            lines += ["", f"Costs in this table are {OPTIMA}."]
        if f["plans"]:
            lines += ["", "Plans of whole servers beside them:", "", "| setting | least | plan | proven within |"]
            lines += ["|---|---|---|---|", *(whole_row(entry) for entry in f["plans"])]
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

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for number, series in enumerate(plot.series):
        if plot.kind == "points":
            axes.plot(series.x, series.y, marker="os^Dv<>P"[number % 8], markersize=6, linestyle="", label=series.name)
        elif plot.kind == "bars":
            width = 0.8 / len(plot.series)
            places = [x + width * (number - (len(plot.series) - 1) / 2) for x in series.x]
            axes.bar(places, series.y, width, label=series.name)
        else:
            axes.plot(series.x, series.y, marker="o", markersize=3, label=series.name)
    for mark, style in ((plot.level, "--"), (plot.published, ":")):
        if mark is not None:
            axes.axhline(mark[1], color="#555555", linestyle=style, linewidth=1, label=mark[0])
    if plot.upright is not None:
        axes.axvline(plot.upright[1], color="#555555", linestyle="-.", linewidth=1, label=plot.upright[0])
    if plot.words:
        axes.set_xticks(range(len(plot.words)), plot.words, rotation=20, ha="right", fontsize=8)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
