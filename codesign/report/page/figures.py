"""Where the money of a plan goes: a bar for each pool."""

from __future__ import annotations

from codesign.report.console import money
from codesign.report.page.blocks import Figure
from codesign.report.page.svg import FONT, WIDTH, Drawing, cut, linear, width_of
from codesign.solution import Solution
from codesign.solution.labels import labelled

PHASE_COLOURS = {
    "prefill": "blue",
    "decode": "orange",
    "parked_kv": "violet",
    "serve": "green",
    "idle": "grey",
    "redundancy": "red",
}
PHASE_NAMES = {"parked_kv": "parked KV", "serve": "serving"}
ROW = 24.0


def costs(solution: Solution) -> Figure:
    """$/h of each pool, dearest first, by what it pays for."""
    caption = "Cost of each pool, by what it pays for"
    pools = sorted(solution.fleet, key=lambda pool: -pool.cost_per_hour)
    names = [cut(labelled(pool.pool, pool)) for pool in pools]
    used = [phase for phase in PHASE_COLOURS if any(pool.cost_split.get(phase, 0.0) for pool in pools)]
    left, top = 16 + max(width_of(name) for name in names), 30.0
    bottom = top + ROW * len(pools)
    scale = linear([sum(pool.cost_split.get(p, 0.0) for p in used) for pool in pools], left, WIDTH - 20, zero=True)
    drawing = Drawing(bottom + 48)
    drawing.legend([(PHASE_NAMES.get(phase, phase), PHASE_COLOURS[phase]) for phase in used], left, 12)
    drawing.across(scale, top, bottom, "$/h")
    for i, (pool, name) in enumerate(zip(pools, names, strict=True)):
        y = top + ROW * i
        drawing.text(left - 8, y + (ROW + FONT) / 2 - 2, name, "end", "node")
        start = 0.0
        for phase in used:
            value = pool.cost_split.get(phase, 0.0)
            if value:
                x = scale.place(start)
                said = f"{name}: {PHASE_NAMES.get(phase, phase)} {money(value)} $/h"
                drawing.rect(x, y + 3, scale.place(start + value) - x, ROW - 6, PHASE_COLOURS[phase], said)
            start += value
    return Figure(caption, drawing.svg(caption))
