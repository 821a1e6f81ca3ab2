"""Frontiers and sweeps as people see them: tables, an interactive page, a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from codesign.files import write_atomically
from codesign.report.console import amount, line, make_table, number, percent
from codesign.study.axes import AXES
from codesign.study.front import Front, FrontPoint
from codesign.study.settings import measure
from codesign.study.sweep import Sweep, SweepRun, plan_name

_FIGURES = (
    ("value", "objective"),
    ("cost_per_task", "cost, $/task"),
    ("energy_per_task_j", "energy, J/task"),
    ("power_w", "mean power, W"),
)
"""Panels of a sweep's picture."""
_NAMED_LINES = 8
"""Lines up to which a panel of the PNG names them."""


# ---- tables ------------------------------------------------------------------------------------------------


def front_report(front: Front) -> Group:
    """The front as a table, the knee marked."""
    title = f"Frontier of {front.problem}: {len(front.points)} points of {front.solves} solves"
    table = make_table(title, (), (*front.objectives, "bound", "gap"), ("", "accelerators"))
    for point in front.points:
        totals = point.solution.totals
        parts = sorted(totals.accelerators.items(), key=lambda item: -item[1]) if totals else []
        table.add_row(
            *(amount(point.values[name], _unit(name, front)) for name in front.objectives),
            amount(point.bound, _unit(front.objectives[0], front)),
            percent(point.gap, 2),
            "knee" if point.knee else "",
            ", ".join(f"{count} × {name}" for name, count in parts),
        )
    parts_: list[RenderableType] = [table]
    for name, least in front.least.items():
        if name != front.objectives[0]:
            parts_.append(line(f"{name} is at least {amount(least, AXES[name].unit)}, whatever it costs (proven)"))
    if not front.complete:
        parts_.append(line("stopped early: the same command goes on from here"))
    return Group(*parts_)


def sweep_report(sweep: Sweep) -> Group:
    """Runs and breakpoints as tables."""
    table = make_table(
        f"Sweep of {sweep.problem}: {len(sweep.runs)} runs",
        ("run", *sweep.paths),
        ("value", "gap", "$/h", "power"),
        ("status", "plan"),
    )
    scenarios = any(run.scenario for run in sweep.runs)
    for number_, run in enumerate(sweep.runs):
        objective, totals = run.solution.objective, run.solution.totals
        name = f"{number_} {run.scenario}" if scenarios else str(number_)
        table.add_row(
            name,
            *(str(run.settings.get(path, "")) for path in sweep.paths),
            amount(objective.value, objective.unit),
            percent(objective.gap, 2),
            number(totals.cost_per_hour if totals else None),
            amount(totals.power_w if totals else None, "W"),
            run.solution.status,
            plan_name(run.solution, "accelerators") if totals else "",
        )
    parts: list[RenderableType] = [table]
    for b in sweep.breakpoints:
        others = ", ".join(f"{path} = {value}" for path, value in b.others.items())
        where = f" ({others})" if others else ""
        parts.append(line(f"{b.path} between {b.low} and {b.high}{where}: {b.below} becomes {b.above}"))
    if not sweep.complete:
        parts.append(line("stopped early: the same command goes on from here"))
    return Group(*parts)


def _unit(name: str, front: Front) -> str:
    return "" if AXES[name].kind != "linear" else front.units[name]


# ---- the frontier's picture --------------------------------------------------------------------------------


def plot_front(front: Front, directory: Path) -> list[Path]:
    """Write front.html, and front.png where matplotlib is installed; nothing where there is no plan."""
    if not front.points:
        return []
    html = _front_page(front)
    write_atomically(directory / "front.html", html)
    png = _front_png(front, directory / "front.png")
    return [directory / "front.html", *([png] if png else [])]


def inner(front: Front) -> tuple[list[float], list[float]]:
    """The plans as steps (second objective, first objective): what can be had at each ceiling."""
    first, second = front.objectives[:2]
    points = sorted(front.points, key=lambda p: AXES[second].sign * p.values[second])
    xs: list[float] = []
    ys: list[float] = []
    for before, point in zip([None, *points], points, strict=False):
        if before is not None:
            xs.append(point.values[second])
            ys.append(before.values[first])
        xs.append(point.values[second])
        ys.append(point.values[first])
    return xs, ys


def outer(front: Front) -> tuple[list[float], list[float]]:
    """The proof as steps: at each ceiling of the second objective, no plan has a first one below this."""
    second = AXES[front.objectives[1]]
    widest = max((second.sign * p.values[second.name] for p in front.points), default=0.0)
    known = sorted(
        (second.sign * p.ceilings[second.name] if p.ceilings else widest, p.bound)
        for p in front.proofs
        if set(p.ceilings) <= {second.name}
    )
    xs: list[float] = []
    ys: list[float] = []
    start = min((second.sign * p.values[second.name] for p in front.points), default=0.0)
    for i, (ceiling, _) in enumerate(known):
        bound = max(b for _, b in known[i:])
        end = min(ceiling, widest)
        if end >= start:
            xs += [second.sign * start, second.sign * end]
            ys += [bound, bound]
            start = end
    return xs, ys


def _label(name: str) -> str:
    return f"{name}, {AXES[name].unit}"


def _hover(point: FrontPoint) -> str:
    totals = point.solution.totals
    parts = sorted(totals.accelerators.items(), key=lambda item: -item[1]) if totals else []
    fleet = "<br>".join(f"{count} × {escape(name)}" for name, count in parts)
    return f"gap {100 * point.gap:.2f} %<br>{fleet}<br>{point.file}"


def _front_page(front: Front) -> str:
    import plotly.graph_objects as go

    first, second = front.objectives[:2]
    hover = [_hover(p) for p in front.points]
    x, y = [p.values[second] for p in front.points], [p.values[first] for p in front.points]
    marks = {
        "size": [14 if p.knee else 8 for p in front.points],
        "symbol": ["diamond" if p.knee else "circle" for p in front.points],
    }
    figure = go.Figure()
    if len(front.objectives) == 2:
        for name, (xs, ys), dash in (("plans", inner(front), "solid"), ("proof", outer(front), "dot")):
            figure.add_scatter(x=xs, y=ys, mode="lines", name=name, line={"dash": dash}, hoverinfo="skip")
        figure.add_scatter(x=x, y=y, mode="markers", name="points", marker=marks, text=hover, hoverinfo="x+y+text")
        figure.update_xaxes(title=_label(second))
        figure.update_yaxes(title=_label(first))
    else:
        third = front.objectives[2]
        z = [p.values[third] for p in front.points]
        sizes = [7 if p.knee else 4 for p in front.points]
        shades = {**marks, "size": sizes, "color": y, "colorbar": {"title": _label(first)}}
        figure.add_scatter3d(x=x, y=z, z=y, mode="markers", marker=shades, text=hover, hoverinfo="x+y+z+text")
        axes = {"xaxis": second, "yaxis": third, "zaxis": first}
        figure.update_layout(scene={axis: {"title": {"text": _label(name)}} for axis, name in axes.items()})
    figure.update_layout(title=f"Frontier of {escape(front.problem)}", template="plotly_white")
    return page(figure)


def page(figure: Any) -> str:
    """A plotly figure as one self-contained page, the same for the same figure."""
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="figure"))


def _front_png(front: Front, path: Path) -> Path | None:
    made = canvas(7.0, 4.6)
    if made is None:
        return None
    axes = made.subplots()
    first, second = front.objectives[:2]
    x, y = [p.values[second] for p in front.points], [p.values[first] for p in front.points]
    if len(front.objectives) == 2:
        axes.plot(*inner(front), label="plans", linewidth=1.2)
        axes.plot(*outer(front), label="proof: nothing below", linestyle=":", linewidth=1.2)
        axes.scatter(x, y, s=14)
    else:
        third = front.objectives[2]
        shown = axes.scatter(x, y, s=18, c=[p.values[third] for p in front.points])
        made.colorbar(shown, label=_label(third))
    if front.knee is not None:
        axes.scatter([front.knee.values[second]], [front.knee.values[first]], marker="D", s=50, label="knee")
    axes.set_xlabel(_label(second))
    axes.set_ylabel(_label(first))
    axes.set_title(f"Frontier of {front.problem}".replace("$", r"\$"))
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return save(made, path)


# ---- the sweep's picture -----------------------------------------------------------------------------------


def plot_sweep(sweep: Sweep, directory: Path) -> list[Path]:
    """Write runs.html, and runs.png where matplotlib is installed: a panel by path and figure."""
    panels = [(path, key, label) for path in sweep.paths for key, label in _FIGURES]
    planned = [run for run in sweep.runs if run.solution.totals]
    if not panels or not planned:
        return []
    write_atomically(directory / "runs.html", page(_sweep_page(sweep, planned)))
    png = _sweep_png(sweep, planned, directory / "runs.png")
    return [directory / "runs.html", *([png] if png else [])]


def _lines(sweep: Sweep, runs: Sequence[SweepRun], path: str, key: str) -> dict[str, tuple[list[Any], list[float]]]:
    """A line for each setting of the other paths: (values of the path, figures), in order where they are numbers."""
    found: dict[str, list[tuple[Any, float]]] = {}
    for run in runs:
        if run.refined not in ("", path):
            continue
        others = [f"{p} = {v}" for p, v in run.settings.items() if p != path]
        name = ", ".join([*([run.scenario] if run.scenario else []), *others])
        place = measure(run.settings.get(path))
        x = place[0] if place is not None else str(run.settings.get(path))
        found.setdefault(name, []).append((x, _figure(run, key)))
    lines = {}
    for name, points in found.items():
        if all(isinstance(x, float) for x, _ in points):
            points.sort()
        lines[name] = ([x for x, _ in points], [y for _, y in points])
    return lines


def _figure(run: SweepRun, key: str) -> float:
    value = run.solution.objective.value if key == "value" else getattr(run.solution.totals, key)
    return math.nan if value is None else float(value)


def _path_label(sweep: Sweep, path: str) -> str:
    units = {found[1] for run in sweep.runs if (found := measure(run.settings.get(path))) is not None}
    unit = units.pop() if len(units) == 1 else ""
    return f"{path}, {unit}" if unit else path


def _sweep_page(sweep: Sweep, runs: Sequence[SweepRun]) -> Any:
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=len(_FIGURES), cols=len(sweep.paths), shared_xaxes="columns", vertical_spacing=0.04)
    for column, path in enumerate(sweep.paths, 1):
        for row, (key, label) in enumerate(_FIGURES, 1):
            for number_, (name, (xs, ys)) in enumerate(_lines(sweep, runs, path, key).items()):
                colour = qualitative.Plotly[number_ % len(qualitative.Plotly)]
                style = {"name": escape(name), "line": {"color": colour}, "showlegend": bool(name) and row == 1}
                figure.add_scatter(x=xs, y=ys, mode="lines+markers", legendgroup=name, row=row, col=column, **style)
            if column == 1:
                figure.update_yaxes(title=label, row=row, col=column)
        figure.update_xaxes(title=escape(_path_label(sweep, path)), row=len(_FIGURES), col=column)
    return figure.update_layout(
        title=f"Sweep of {escape(sweep.problem)}", template="plotly_white", height=240 * len(_FIGURES)
    )


def _sweep_png(sweep: Sweep, runs: Sequence[SweepRun], path: Path) -> Path | None:
    made = canvas(4.2 * len(sweep.paths) + 1.0, 2.1 * len(_FIGURES))
    if made is None:
        return None
    grid = made.subplots(len(_FIGURES), len(sweep.paths), squeeze=False, sharex="col")
    for column, name in enumerate(sweep.paths):
        for row, (key, label) in enumerate(_FIGURES):
            axes = grid[row][column]
            for other, (xs, ys) in _lines(sweep, runs, name, key).items():
                axes.plot(xs, ys, marker=".", label=other.replace("$", r"\$"))
            if column == 0:
                axes.set_ylabel(label.replace("$", r"\$"))
            if row == 0 and 1 < len(axes.lines) <= _NAMED_LINES:
                axes.legend(fontsize="x-small")
        grid[-1][column].set_xlabel(_path_label(sweep, name).replace("$", r"\$"))
    made.suptitle(f"Sweep of {sweep.problem}".replace("$", r"\$"))
    return save(made, path)


# ---- matplotlib, where it is installed -----------------------------------------------------------------------


def canvas(width: float, height: float) -> Any | None:
    """A matplotlib figure of so many inches that no other thread sees; None where the extra is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, drawn.getvalue())
    return path
