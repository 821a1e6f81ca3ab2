"""Write what serving stacks add to each TTFT, by engine and generation, from rows that are never scored.

    python scripts/fit_first_token.py SERVING.csv.gz

The rows: InferenceX runs that are not the newest of their configuration (closed loops of DeepSeek-R1 with at
most 64 clients, 2025-2026; the newest are scored, these never). The constant of an engine on a generation is
the number of milliseconds that, added to what the simulator says of clients' waits and prefills, gives the
least mean error in the logarithm; its range holds those whose error is at most a tenth larger. Engines and
generations without such rows take the median of the constants. This is the one constant of the model that
end-to-end rows choose. Prints the error of each before and after.
"""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np

from codesign.catalog import accelerators
from codesign.performance.constants import generation
from codesign.performance.profile import EngineProfile
from codesign.validation.measured import read_names, read_rows, text
from codesign.validation.points import Point, points_of
from codesign.validation.predict import predict, stack_default

TARGET = Path(__file__).parents[1] / "codesign" / "performance" / "data" / "engines.toml"
BEGIN, END = "# BEGIN FITTED FIRST TOKEN\n", "# END FITTED FIRST TOKEN\n"
HEAD = """\
# What a serving stack adds to each TTFT beside waits, prefill, transfers and steps, by engine and generation:
# written by scripts/fit_first_token.py from InferenceX runs (up to 64 clients) that are not the newest of their
# configuration and never scored, given what the simulator predicts of the rest. range_ms: constants whose error is
# at most a tenth larger. The last entry, the median of the others, holds for every engine and generation without
# rows of its own (its range: all of theirs).
"""
NOT_SCORED = "not the newest run of its configuration"
STEP_MS = 2.0
ALIKE = 1.1
"""Over the least error: constants with no more are as good, and make the range."""
LONGEST_MS = 600.0
MOST_CLIENTS = 64
"""Beyond, a TTFT is mostly waiting for other clients, and what is left of it says little of the stack."""


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="all measured serving rows (CSV or CSV.gz)")
    rows = [row for row in read_rows(parser.parse_args().data) if text(row, "source") == "InferenceX"]
    points, _ = points_of(rows, read_names())
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        usable = point.load == "closed" and point.concurrency <= MOST_CLIENTS and "ttft_ms_p50" in point.measured
        if point.out_of_score == NOT_SCORED and usable:
            key = point.engine, generation(accelerators()[point.accelerator])
            groups.setdefault(key, []).append(point)
    date = datetime.date.today().isoformat()[:7]
    lines, constants, ranges = [HEAD], [], []
    for (engine, part), members in sorted(groups.items()):
        measured = np.array([point.measured["ttft_ms_p50"] for point in members])
        bare = predict(members, _without).values["ttft_ms_p50"]
        grid = np.arange(0.0, LONGEST_MS, STEP_MS)
        errors = np.abs(np.log((bare[None, :] + grid[:, None]) / measured)).mean(axis=1)
        ms = float(grid[np.argmin(errors)])
        nearly = grid[errors <= ALIKE * errors.min()]
        constants.append(ms)
        ranges += [float(nearly.min()), float(nearly.max())]
        before, after = (float(np.median(np.abs((bare + c) / measured - 1.0))) for c in (0.0, ms))
        print(f"{engine:14} {part:12} {len(members):4} rows  {ms:5.0f} ms  median error {before:.1%} -> {after:.1%}")
        lines.append(_entry(engine, part, ms, ranges[-2:], len(members), date))
    lines.append(_entry("", "", float(np.median(constants)), [min(ranges), max(ranges)], 0, date))
    text_ = TARGET.read_text(encoding="utf-8")
    head, tail = text_[: text_.index(BEGIN) + len(BEGIN)], text_[text_.index(END) :]
    TARGET.write_text(head + "\n".join(lines) + "\n" + tail, encoding="utf-8")


def _without(point: Point) -> EngineProfile:
    return replace(stack_default(point), first_token_s=0.0)


def _entry(engine: str, part: str, ms: float, span: list[float], rows: int, date: str) -> str:
    return (
        f'[[first_token]]\nengine = "{engine}"\ngeneration = "{part}"\nms = {ms:g}\n'
        f'range_ms = [{span[0]:.0f}, {span[1]:.0f}]\nrows = {rows}\nsource = "InferenceX-older"\ndate = "{date}"\n'
    )


if __name__ == "__main__":
    main()
