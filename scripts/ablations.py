"""Which terms of the performance model matter: errors of time per token with one of them left out at a time.

    python scripts/ablations.py [SERVING.csv.gz ...]

Rows: stacks of 2025 and 2026 on parts with kernels or a relative's (the shipped table without files); nothing is
fitted end to end. The table of facts/performance_model.md 3, for the constants that the package ships.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from codesign.performance import footprint, latency
from codesign.performance.constants import constants
from codesign.performance.profile import EngineProfile
from codesign.validation.commands import validate
from codesign.validation.compare import Comparison, compare
from codesign.validation.points import Point
from codesign.validation.predict import predict, stack_default

EFFICIENCIES = {"e": 0.6, "e1": 0.8, "e_out": 0.8, "b": 0.8, "f": 0.6}
"""What a plain roofline reaches of each peak: compute, links, memory."""
KEPT = (*EFFICIENCIES, "p", "ranks", "t0_us")
HARD = 50.0
"""Exponent at which the smooth maximum is as good as hard."""

Edit = Callable[[str, dict[str, Any]], None]


@contextmanager
def edited(edit: Edit, sections: dict[str, dict[str, float]] | None = None) -> Iterator[None]:
    """Change rows of the constants, and scalars of its sections, for the time of a block."""
    table: Any = constants()
    every = {**table.rows, **table.engine_rows}
    before = {key: dict(row) for key, row in every.items()}
    kept = copy.deepcopy(table.sections)
    try:
        for key, row in every.items():
            edit(key[-3], row)
        for section, values in (sections or {}).items():
            table.sections[section].update(values)
        yield
    finally:
        for key, row in before.items():
            every[key].clear()
            every[key].update(row)
        for section, values in kept.items():
            table.sections[section].clear()
            table.sections[section].update(values)


def no_floors(operator: str, row: dict[str, Any]) -> None:
    """No kernel floor t0."""
    row.update({"t0_us": 0.0} if "t0_us" in row else {})


def no_all_reduce(operator: str, row: dict[str, Any]) -> None:
    """All-reduces take no time."""
    if operator == "all_reduce":
        row.update(t0_us=0.0, lat_us=0.0, e=1e9)
        row.update({"e1": 1e9} if "e1" in row else {})


def bandwidth_all_reduce(operator: str, row: dict[str, Any]) -> None:
    """All-reduces take the time of their bytes alone."""
    if operator == "all_reduce":
        row.update(t0_us=0.0, lat_us=0.0)


def no_padding(operator: str, row: dict[str, Any]) -> None:
    """Experts have no tile padding and no hot rank."""
    if operator.startswith("moe"):
        row.update({name: 0.0 for name in ("m0", "s") if name in row})


def hard_maximum(operator: str, row: dict[str, Any]) -> None:
    """The larger of compute and memory instead of a smooth maximum."""
    row.update({"p": HARD} if "p" in row else {})


def roofline(floor_us: float) -> Edit:
    """0.6 of peak FLOP/s, 0.8 of bandwidth, a floor, and nothing else."""

    def edit(operator: str, row: dict[str, Any]) -> None:
        if operator == "energy":
            return
        for name, value in list(row.items()):
            if isinstance(value, int | float) and name not in KEPT:
                row[name] = 0.0
        fixed = {**EFFICIENCIES, "p": HARD, "t0_us": floor_us}
        fixed.update({"e": 0.8} if operator == "all_reduce" else {})
        row.update({name: value for name, value in fixed.items() if name in row})

    return edit


def patched_experts(replacement: Callable[..., Any]) -> Any:
    """Another count of distinct experts."""
    stack = [patch.object(module, "distinct_experts", replacement) for module in (latency, footprint)]

    @contextmanager
    def both() -> Iterator[None]:
        with stack[0], stack[1]:
            yield

    return both()


def errors(points: list[Point], engine: Callable[[Point], EngineProfile]) -> tuple[float, float, float]:
    """(median, mean, signed median) of time per token, average over sources."""
    found, _ = compare(points, predict(points, engine))
    by_source: dict[str, list[float]] = {}
    for c in found:
        by_source.setdefault(c.point.source, []).append(time_error(c))
    signed = [np.array(values) for values in by_source.values()]
    return tuple(  # type: ignore[return-value]
        float(np.mean([f(s) for s in signed]))
        for f in (lambda s: np.median(np.abs(s)), lambda s: np.mean(np.abs(s)), np.median)
    )


def time_error(c: Comparison) -> float:
    """Error of TPOT, or of its inverse where only a rate was published."""
    return c.error if c.metric == "tpot_ms_p50" else c.measured / c.predicted - 1.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="measured rows (CSV or CSV.gz); without them the shipped table")
    files = parser.parse_args().data
    scored = [c.point for c in validate(files, leave_out=False).comparisons if c.scored]
    points: dict[str, Point] = {}
    for p in scored:
        metric = "tpot_ms_p50" if "tpot_ms_p50" in p.measured else "output_tok_s_per_gpu"
        if p.known_engine and metric in p.measured and p.source not in ("ML.ENERGY-v3", "ML.ENERGY-v2"):
            points[p.row_id] = replace(p, measured={metric: p.measured[metric]})
    rows = list(points.values())
    plain = stack_default
    launch = {"elementwise": {"launch_us": 0.0}, "linear_attention": {"t0_us": 0.0}}
    every = patched_experts(lambda experts, top_k, tokens: experts * np.ones_like(tokens))
    few = patched_experts(lambda experts, top_k, tokens: top_k * np.ones_like(tokens))
    variants: list[tuple[str, Any, Callable[[Point], EngineProfile]]] = [
        ("full", nullcontext(), plain),
        ("no kernel floors t0", edited(no_floors, launch), plain),
        ("no TP all-reduce", edited(no_all_reduce), plain),
        ("all-reduce: bandwidth only", edited(bandwidth_all_reduce), plain),
        ("no prefill interference (κ = 0)", nullcontext(), lambda p: replace(plain(p), prefill_charge=0.0)),
        ("MoE reads all experts", every, plain),
        ("MoE reads top-k experts only", few, plain),
        ("no MoE padding or hot rank", edited(no_padding), plain),
        ("hard maximum for p-norm", edited(hard_maximum), plain),
        ("no host time", nullcontext(), lambda p: replace(plain(p), host_step_s=0.0, per_sequence_s=0.0)),
        ("roofline 0.6 F, 0.8 BW, 3 µs an operator", edited(roofline(3.0)), plain),
        ("roofline without floors", edited(roofline(0.0), launch), plain),
    ]
    apart = [p for p in rows if p.source != "InferenceX-token-position"]
    print(
        f"time per output token, {len(rows)} rows of 2025-2026 stacks, average over sources: median / mean (signed) %"
    )
    print(f"{'variant':44}{'all':>24}{'without token-position':>26}")
    for name, context, engine in variants:
        with context:
            cells = [errors(group, engine) for group in (rows, apart)]
        words = [f"{100 * a:.1f} / {100 * b:.1f} ({100 * c:+.1f})" for a, b, c in cells]
        print(f"{name:44}{words[0]:>24}{words[1]:>26}")


if __name__ == "__main__":
    main()
