"""The map of a plan's work: operational intensity × footprint, over the rooflines of the parts that it chose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesign.report.console import number, quantity
from codesign.report.page.blocks import Block, Figure, Text, table
from codesign.report.page.flow import TASK_COLOURS
from codesign.report.page.svg import WIDTH, Drawing, cut, decades, marker, polyline, width_of
from codesign.solution import Pool, Solution
from codesign.solution.labels import stage_of

if TYPE_CHECKING:
    from codesign.problem import Problem
    from codesign.problem.instance import HardwareOption, Instance
    from codesign.workload.profile import PhaseProfile

PARKED_OI = 0.1
"""Where parked KV is drawn: its intensity is 0, which a logarithmic axis has no place for."""
SYMBOLS = {"prefill": ("square", "fill"), "decode": ("circle", "fill"), "parked": ("diamond", "open")}
DASHES = ("none", "7 4", "2 3", "7 3 2 3", "12 5", "12 4 2 4")


@dataclass(frozen=True)
class Work:
    """One phase of a task as one pool does it."""

    pool: Pool
    row: PhaseProfile


def intensity_blocks(solution: Solution, problem: Problem | None) -> Iterator[Block]:
    """The figure and its table; a sentence where the problem file was not found."""
    if all(pool.model is None for pool in solution.fleet):
        return
    if problem is None:
        yield Text(
            "The map of operational intensity and footprint needs the problem file: "
            "codesign report SOLUTION --problem PROBLEM."
        )
        return
    from codesign.problem import resolve

    instance = resolve(problem)
    work = _work(solution, instance)
    yield _figure(solution, instance, work)
    yield Text(
        "Above, the FLOP/s that each chosen part attains at an intensity: left of its corner memory bandwidth binds, "
        "right of it compute. Below, what a request holds; where footprint × batch exceeds the memory of a replica, "
        "capacity binds, however idle the rest is. KV that waits for a tool has no intensity at all."
    )
    rows = [
        [
            f"{w.row.task} {w.row.phase}",
            w.row.model,
            w.pool.pool,
            w.row.regime[w.pool.hardware],
            f"{w.row.batch:,}",
            f"{w.row.operational_intensity:,.3g}" if w.row.operational_intensity else "0",
            quantity(w.row.cf_request_bytes, "bytes", 3),
            number(w.row.context_tokens),
        ]
        for w in work
    ]
    head = ("work", "model", "on", "regime", "batch", "FLOP/byte", "bytes per request", "context tokens")
    yield table("OI and CF at the plan's batch, weights shared by it; the regime is that of nameplate peaks", head,
                rows, words=4)  # fmt: skip


def _work(solution: Solution, instance: Instance) -> list[Work]:
    """Each phase of each (task, variant, model, precision) that the plan routes, on its largest pool."""
    from codesign.workload.profile import profile

    pools = {(stage_of(pool), pool.pool): pool for pool in solution.fleet}
    batches = {_batch(pool) for pool in solution.fleet if pool.model is not None}
    rows: dict[tuple[object, ...], PhaseProfile] = {
        (r.task, r.variant, r.model, tuple(r.precision.values()), r.phase, r.batch): r
        for r in profile(instance, sorted(batches)).phases
        if r.block == "all"
    }
    best: dict[tuple[object, ...], tuple[float, Work]] = {}
    for route in solution.routing:
        for phase, name in (
            ("prefill", route.prefill_pool),
            ("decode", route.decode_pool),
            ("parked", route.decode_pool),
        ):
            pool = pools[(stage_of(route), name)]
            if pool.precision is None or pool.model is None or route.variant is None:
                continue
            formats = (pool.precision.weights, pool.precision.activations, pool.precision.kv)
            row = rows.get((route.task, route.variant, pool.model, formats, phase, _batch(pool)))
            key = (route.task, route.variant, pool.model, formats, phase)
            if row is not None and route.calls_per_s > best.get(key, (0.0,))[0]:
                best[key] = (route.calls_per_s, Work(pool, row))
    order = list(SYMBOLS)
    return sorted((w for _, w in best.values()), key=lambda w: (w.row.task, order.index(w.row.phase)))


def _batch(pool: Pool) -> int:
    """Sequences of a decode step; a prompt is prefilled alone."""
    return max(1, round(pool.batch)) if pool.batch is not None and pool.role != "prefill" else 1


def _figure(solution: Solution, instance: Instance, work: list[Work]) -> Figure:
    """Above, rooflines; below, the footprint of the work; both over the same intensities."""
    caption = "Operational intensity and footprint of the plan's work, over the rooflines of its parts"
    tasks = list(dict.fromkeys(w.row.task for w in work))
    roofs = list(_rooflines(solution, instance))
    left, right = 76.0, WIDTH - 20 - max(46 + width_of(name) for name in [*(r.name for r in roofs), *map(cut, tasks)])
    across = decades([PARKED_OI, 1e5], left, right)
    flops = decades([y for roof in roofs for _, y in roof.points] or [1.0], 268, 14)
    footprint = decades([w.row.cf_request_bytes / 1e9 for w in work] or [1.0], 520, 300)
    drawing = Drawing(568)
    drawing.across(across, 14, 268, "", named=False)
    drawing.upright(flops, left, right, "attainable PFLOP/s")
    drawing.across(across, 300, 520, "FLOP per byte (■ prefill, ● decode, ◇ parked KV, which has none)")
    drawing.upright(footprint, left, right, "GB per request")
    for i, roof in enumerate(roofs):
        path = polyline([(across.place(x), flops.place(y)) for x, y in roof.points])
        drawing.shape(path, roof.colour, "trace", roof.said, f"stroke-dasharray:{roof.dash}")
        y = 26.0 + 18 * i
        drawing.shape(f"M{right + 10:.1f} {y:.1f}h28", roof.colour, "trace", style=f"stroke-dasharray:{roof.dash}")
        drawing.text(right + 44, y + 4, roof.name)
    for i, task in enumerate(tasks):
        colour = TASK_COLOURS[i % len(TASK_COLOURS)]
        drawing.rect(right + 18, 304 + 18 * i, 11, 11, colour)
        drawing.text(right + 44, 314 + 18 * i, cut(task))
        for w in work:
            if w.row.task == task:
                x = across.place(w.row.operational_intensity or PARKED_OI)
                y = footprint.place(w.row.cf_request_bytes / 1e9)
                symbol, kind = SYMBOLS[w.row.phase]
                said = (
                    f"{task} {w.row.phase} on {w.pool.pool}: {w.row.operational_intensity:,.3g} FLOP/byte, "
                    f"{quantity(w.row.cf_request_bytes, 'bytes', 3)} per request at batch {w.row.batch}; "
                    f"regime: {w.row.regime[w.pool.hardware]}"
                )
                drawing.shape(marker(symbol, x, y), colour, kind, said)
    return Figure(caption, drawing.svg(caption))


@dataclass(frozen=True)
class Roofline:
    """What one accelerator of a part attains: (FLOP/byte, PFLOP/s) at its corners."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: str
    dash: str
    said: str


def _rooflines(solution: Solution, instance: Instance) -> Iterator[Roofline]:
    """Attainable FLOP/s of one accelerator of each chosen part, at the widest activations that it runs here."""
    from codesign.workload.regime import peak_flops

    options = {option.name: option for option in instance.hardware}
    chosen: dict[tuple[str, str], HardwareOption] = {}
    for pool in solution.fleet:
        if pool.precision is not None and pool.hardware in options:
            chosen.setdefault((pool.hardware, pool.precision.activations), options[pool.hardware])
    hardware = list(dict.fromkeys(name for name, _ in chosen))
    for (name, activations), option in chosen.items():
        i = hardware.index(name)
        peak = peak_flops(option.accelerator, activations)
        bandwidth = option.accelerator.memory_bandwidth
        ridge = peak / bandwidth
        yield Roofline(
            f"{cut(name, 24)} {activations}",
            tuple((oi, min(peak, oi * bandwidth) / 1e15) for oi in (PARKED_OI, ridge, 1e5)),
            TASK_COLOURS[-1 - i % len(TASK_COLOURS)],
            DASHES[i % len(DASHES)],
            f"{name} ({activations}): corner at {ridge:,.0f} FLOP/byte, "
            f"{quantity(bandwidth, 'bandwidth', 3)}, {quantity(peak, 'flops', 3)}",
        )
