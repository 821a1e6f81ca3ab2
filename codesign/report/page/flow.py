"""Where the calls go: tasks → prefill → decode, ribbons as wide as the calls per second that they carry."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from codesign.report.console import number
from codesign.report.page.blocks import Figure
from codesign.report.page.svg import WIDTH, Drawing, cut, width_of
from codesign.solution import Solution
from codesign.solution.labels import stage_of

TASK_COLOURS = ("blue", "orange", "green", "violet", "red", "teal", "brown", "grey")
NODE = 14.0
GAP = 12.0
"""Least space between two nodes of a column."""


@dataclass
class _Node:
    """A bar of the diagram, or (`name` empty) the place that a ribbon keeps where it passes a column."""

    name: str
    column: int
    into: list[_Ribbon] = field(default_factory=list)
    out: list[_Ribbon] = field(default_factory=list)
    y: float = 0.0

    @property
    def load(self) -> float:
        return max(sum(r.load for r in self.into), sum(r.load for r in self.out))


@dataclass
class _Ribbon:
    task: str
    start: _Node
    end: _Node
    load: float = 0.0
    y_start: float = 0.0
    y_end: float = 0.0


def flow(solution: Solution, stage: str) -> Figure:
    """The diagram of a stage's routes; a pool that does both phases takes its calls in one."""
    routes = [route for route in solution.routing if stage_of(route) == stage]
    tasks = list(dict.fromkeys(route.task for route in routes))
    nodes: dict[tuple[int, str, str], _Node] = {}
    ribbons: dict[tuple[str, int, int], _Ribbon] = {}
    apart = any(route.prefill_pool != route.decode_pool for route in routes)

    def node(column: int, name: str, passing: str = "") -> _Node:
        return nodes.setdefault((column, name, passing), _Node("" if passing else name, column))

    def add(task: str, start: _Node, end: _Node, load: float) -> None:
        key = (task, id(start), id(end))
        if key not in ribbons:
            ribbons[key] = _Ribbon(task, start, end)
            start.out.append(ribbons[key])
            end.into.append(ribbons[key])
        ribbons[key].load += load

    last = 2 if apart else 1
    for task in tasks:
        node(0, task)
    for route in routes:
        ways = [node(0, route.task)]
        if route.prefill_pool != route.decode_pool:
            ways.append(node(1, route.prefill_pool))
        elif apart:
            ways.append(node(1, route.decode_pool, passing=route.task))
        ways.append(node(last, route.decode_pool))
        for start, end in pairwise(ways):
            add(route.task, start, end, route.calls_per_s)
    when = f" in {stage}" if stage else ""
    total = number(sum(route.calls_per_s for route in routes))
    caption = f"{total} calls/s{when}, from tasks through prefill to decode; widths are calls per second"
    columns = [[n for n in nodes.values() if n.column == c] for c in range(last + 1)]
    return Figure(caption, _drawn(columns, tasks, apart).svg(caption))


def _drawn(columns: list[list[_Node]], tasks: list[str], apart: bool) -> Drawing:
    height = max(260.0, 24.0 * max(len(column) for column in columns))
    top = 26.0
    scale = min(
        (height - GAP * (len(column) - 1)) / load for column in columns if (load := sum(n.load for n in column)) > 0
    )
    left = min(220.0, 12 + max(width_of(cut(n.name)) for n in columns[0]))
    right = WIDTH - min(340.0, 12 + max(width_of(cut(n.name)) for n in columns[-1]))
    places = [left + (right - NODE - left) * i / (len(columns) - 1) for i in range(len(columns))]
    for i, column in enumerate(columns):
        if i:
            column.sort(key=_middle)
        y = top + (height - GAP * (len(column) - 1) - scale * sum(n.load for n in column)) / 2
        for n in column:
            n.y = y
            y += scale * n.load + GAP
    for column in columns:
        for n in column:
            y = n.y
            for ribbon in sorted(n.out, key=lambda r: r.end.y):
                ribbon.y_start = y + scale * ribbon.load / 2
                y += scale * ribbon.load
            y = n.y
            for ribbon in sorted(n.into, key=lambda r: r.start.y):
                ribbon.y_end = y + scale * ribbon.load / 2
                y += scale * ribbon.load
    drawing = Drawing(height + top + 10)
    titles = ("tasks", "prefill", "decode, or both") if apart else ("tasks", "prefill and decode")
    for i, (x, title) in enumerate(zip(places, titles, strict=True)):
        anchor = "start" if i == len(places) - 1 else "end" if i == 0 else "middle"
        drawing.text(
            x + (0 if anchor == "start" else NODE if anchor == "end" else NODE / 2), 14, title, anchor, "quiet"
        )
    for column in columns:
        for ribbon in (r for n in column for r in n.out):
            x1, x2 = places[ribbon.start.column] + NODE, places[ribbon.end.column]
            if not ribbon.start.name:
                x1 -= NODE  # it passes this column as one ribbon
            middle = (x1 + x2) / 2
            path = (
                f"M{x1:.1f} {ribbon.y_start:.1f}C{middle:.1f} {ribbon.y_start:.1f} {middle:.1f} {ribbon.y_end:.1f} "
                f"{x2:.1f} {ribbon.y_end:.1f}"
            )
            colour = TASK_COLOURS[tasks.index(ribbon.task) % len(TASK_COLOURS)]
            there = ribbon.end.name or next(iter(ribbon.end.out)).end.name
            here = ribbon.start.name or ribbon.task
            said = f"{ribbon.task}: {number(ribbon.load)} calls/s, {here} → {there}"
            drawing.shape(path, colour, "ribbon", said, f"stroke-width:{max(1.0, scale * ribbon.load):.1f}")
    for i, column in enumerate(columns):
        for n in column:
            if not n.name:
                continue
            colour = TASK_COLOURS[tasks.index(n.name) % len(TASK_COLOURS)] if i == 0 else "grey"
            said = f"{n.name}: {number(n.load)} calls/s"
            drawing.rect(places[i], n.y, NODE, max(1.0, scale * n.load), colour, said)
            y = n.y + scale * n.load / 2 + 4
            if i == 0:
                drawing.text(places[i] - 6, y, cut(n.name), "end", "node")
            else:
                drawing.text(
                    places[i] + NODE + 6, y, cut(n.name), "start", "node halo" if i < len(columns) - 1 else "node"
                )
    return drawing


def _middle(node: _Node) -> float:
    """Mean height of what flows into a node: columns in this order have few crossings."""
    load = sum(r.load for r in node.into)
    return sum(r.load * r.start.y for r in node.into) / load if load else 0.0
