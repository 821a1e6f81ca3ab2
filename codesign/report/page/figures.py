"""The figures of a plan as plotly.js reads them.  Colours are names of the page's palette, which has two themes."""

from __future__ import annotations

from typing import Any

from codesign.report.console import money, number
from codesign.report.page.blocks import Figure, label
from codesign.solution import Route, Solution
from codesign.solution.labels import labelled, stage_of

PHASE_COLOURS = {
    "prefill": "blue",
    "decode": "orange",
    "parked_kv": "violet",
    "serve": "green",
    "idle": "grey",
    "redundancy": "red",
}
PHASE_NAMES = {"parked_kv": "parked KV", "serve": "serving"}
TASK_COLOURS = ("blue", "orange", "green", "violet", "red", "teal", "brown", "grey")


def flow(solution: Solution, stage: str) -> Figure:
    """Tasks → prefill pools → decode pools: widths are calls per second; colocated pools take both in one."""
    routes = [route for route in solution.routing if stage_of(route) == stage]
    tasks = list(dict.fromkeys(route.task for route in routes))
    colours = {task: TASK_COLOURS[i % len(TASK_COLOURS)] for i, task in enumerate(tasks)}
    nodes: dict[tuple[str, str], int] = {}

    def node(column: str, name: str) -> int:
        return nodes.setdefault((column, name), len(nodes))

    for task in tasks:
        node("task", task)
    links: dict[tuple[int, int, str], float] = {}

    def add(start: int, end: int, route: Route) -> None:
        key = (start, end, route.task)
        links[key] = links.get(key, 0.0) + route.calls_per_s

    for route in routes:
        if route.prefill_pool == route.decode_pool:
            add(node("task", route.task), node("decode", route.decode_pool), route)
        else:
            first = node("prefill", route.prefill_pool)
            add(node("task", route.task), first, route)
            add(first, node("decode", route.decode_pool), route)
    spec = {
        "data": [
            {
                "type": "sankey",
                "arrangement": "snap",
                "valueformat": ".4~g",
                "valuesuffix": " calls/s",
                "node": {
                    "label": [label(name) for _, name in nodes],
                    "color": [colours[name] if column == "task" else "grey" for column, name in nodes],
                    "pad": 14,
                    "thickness": 16,
                    "line": {"width": 0},
                },
                "link": {
                    "source": [start for start, _, _ in links],
                    "target": [end for _, end, _ in links],
                    "value": list(links.values()),
                    "label": [label(task) for _, _, task in links],
                    "color": [f"{colours[task]}-soft" for _, _, task in links],
                },
            }
        ],
        "layout": {"margin": {"l": 10, "r": 10, "t": 10, "b": 10}},
    }
    when = f" in {stage}" if stage else ""
    total = number(sum(route.calls_per_s for route in routes))
    caption = f"{total} calls/s{when}, from tasks through prefill to decode; widths are calls per second"
    return Figure(caption, spec, height=max(320, 26 * len(nodes)))


def costs(solution: Solution) -> Figure:
    """$/h of each pool, by what it pays for; by role where a pool has no split."""
    pools = sorted(solution.fleet, key=lambda pool: pool.cost_per_hour)
    names = [label(labelled(p.pool, p)) for p in pools]
    traces: list[dict[str, Any]] = []
    for phase, colour in PHASE_COLOURS.items():
        values = [pool.cost_split.get(phase, 0.0) for pool in pools]
        if any(values):
            name = PHASE_NAMES.get(phase, phase)
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": name,
                    "y": names,
                    "x": values,
                    "marker": {"color": colour},
                    "customdata": [money(value) for value in values],
                    "hovertemplate": f"%{{y}}: {name} %{{customdata}} $/h<extra></extra>",
                }
            )
    spec = {
        "data": traces,
        "layout": {
            "barmode": "stack",
            "xaxis": {"title": {"text": "$/h"}},
            "yaxis": {"automargin": True},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
            "margin": {"l": 10, "r": 20, "t": 40, "b": 45},
        },
    }
    return Figure("Cost of each pool, by what it pays for", spec, height=110 + 26 * len(pools))
