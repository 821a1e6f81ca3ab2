"""Scatter plots of predicted or planned against measured: PNG by matplotlib, HTML by plotly (the extra ``plots``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.files import make_folder, write_atomically
from codesign.validation.compare import Comparison
from codesign.validation.errors import WITHIN
from codesign.validation.measured import METRICS
from codesign.validation.ratios import NEAR, PLANNED, PlannedRow

LABELS = {
    "ttft_ms_p50": "TTFT p50, ms",
    "tpot_ms_p50": "TPOT p50, ms",
    "output_tok_s_per_gpu": "output tokens/s per accelerator",
    "total_tok_s_per_gpu": "input + output tokens/s per accelerator",
    "energy_per_output_token_j": "energy per output token, J",
    "itl_ms_p50": "ITL p50, ms",
    "e2e_ms_p50": "end to end p50, ms",
    "prefill_power_w": "W per accelerator for prompts",
    "decode_power_w": "W per accelerator that decodes",
}


class PlotsMissingError(ImportError):
    """matplotlib or plotly is not installed; the message says how to install it."""


@dataclass
class Series:
    """Points of one colour."""

    measured: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    """Lower ends of bands; none where points have no bands."""
    high: list[float] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """What each point is, in HTML."""


@dataclass
class Panel:
    """One scatter plot on equal logarithmic axes."""

    title: str
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def limits(self) -> tuple[float, float]:
        """Both axes' ends; a panel without points has some too."""
        values = [value for each in self.series.values() for value in (*each.measured, *each.found)] or [1.0]
        return 0.8 * min(values), 1.25 * max(values)


def write_plots(comparisons: Sequence[Comparison], directory: str | Path) -> list[Path]:
    """Write ``validation.png`` and ``validation.html`` into a directory, which is made where it is missing.

    Raises PlotsMissingError where the extra is not installed, OSError where nothing can be written.
    """
    scored = [c for c in comparisons if c.scored]
    present = {c.metric for c in scored}
    metrics = [metric for metric in METRICS if metric in present and metric != "total_tok_s_per_gpu"]
    panels = []
    for metric in metrics:
        panel = Panel(LABELS[metric])
        for c in sorted((c for c in scored if c.metric == metric), key=lambda c: c.point.source):
            series = panel.series.setdefault(c.point.source, Series())
            series.measured.append(c.measured)
            series.found.append(c.predicted)
            series.low.append(c.low)
            series.high.append(c.high)
            series.words.append(f"{c.point.row_id}<br>{c.point.pair}<br>{c.point.stack}")
        panels.append(panel)
    return _write(panels, "predicted", ", with its 80 % band", (1 - WITHIN, 1 + WITHIN), Path(directory), "validation")


def write_plan_plots(rows: Sequence[PlannedRow], directory: str | Path) -> list[Path]:
    """Write ``plans.png`` and ``plans.html`` into a directory, which is made where it is missing.

    Accelerators of rows that are planned in the way that they were measured in, one plot for each promise.  Raises
    PlotsMissingError where the extra is not installed, OSError where nothing can be written.
    """
    own = [row for row in rows if row.as_measured]
    panels = []
    for factor in sorted({row.tpot_factor or 0.0 for row in own}):
        group = [row for row in own if (row.tpot_factor or 0.0) == factor]
        planned = sorted((row for row in group if row.status in PLANNED), key=lambda row: (row.role, row.source))
        promise = f"TPOT × {factor:g}" if factor else "no TPOT measured"
        panel = Panel(f"{promise}: {len(planned)} of {len(group)} rows planned")
        for row in planned:
            assert row.planned_accelerators is not None
            series = panel.series.setdefault(f"{row.source}, {row.role}", Series())
            series.measured.append(row.measured_accelerators)
            series.found.append(row.planned_accelerators)
            series.words.append(f"{row.row_id}<br>{row.accelerator} {row.model}<br>{row.stack}")
        panels.append(panel)
    return _write(panels, "planned accelerators", "", NEAR, Path(directory), "plans")


def _write(
    panels: Sequence[Panel], found: str, more: str, band: tuple[float, float], target: Path, name: str
) -> list[Path]:
    make_folder(target)
    return [_png(panels, found, band, target / f"{name}.png"), _html(panels, found + more, target / f"{name}.html")]


def _png(panels: Sequence[Panel], found: str, band: tuple[float, float], path: Path) -> Path:
    try:
        import matplotlib
    except ImportError:
        raise PlotsMissingError("found no matplotlib; expected: pip install 'codesign[plots]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = max(len(panels), 1)
    figure, axes = pyplot.subplots(1, count, figsize=(5.2 * count, 5.0), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=False):
        low, high = panel.limits
        line = [low, high]
        axis.fill_between(line, [v * band[0] for v in line], [v * band[1] for v in line], alpha=0.15, color="grey")
        axis.plot(line, line, color="black", linewidth=0.8)
        for label, series in panel.series.items():
            axis.scatter(series.measured, series.found, s=9, alpha=0.6, label=label)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        axis.set(title=panel.title, xlabel="measured", ylabel=found)
        if panel.series:
            axis.legend(fontsize=6)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_atomically(path, drawn.getvalue())
    pyplot.close(figure)
    return path


def _html(panels: Sequence[Panel], found: str, path: Path) -> Path:
    try:
        from plotly import graph_objects
        from plotly.subplots import make_subplots
    except ImportError:
        raise PlotsMissingError("found no plotly; expected: pip install 'codesign[plots]'") from None
    figure: Any = make_subplots(rows=1, cols=max(len(panels), 1), subplot_titles=[panel.title for panel in panels])
    shown: set[str] = set()
    for column, panel in enumerate(panels, start=1):
        low, high = panel.limits
        figure.add_trace(
            graph_objects.Scatter(x=[low, high], y=[low, high], mode="lines", showlegend=False), 1, column
        )
        for label, series in panel.series.items():
            bands = None
            if series.low:
                bands = {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - y for high, y in zip(series.high, series.found, strict=True)],
                    "arrayminus": [y - low for low, y in zip(series.low, series.found, strict=True)],
                    "thickness": 0.4,
                    "width": 0,
                }
            figure.add_trace(
                graph_objects.Scatter(
                    x=series.measured,
                    y=series.found,
                    mode="markers",
                    name=label,
                    legendgroup=label,
                    showlegend=label not in shown,
                    text=series.words,
                    error_y=bands,
                ),
                1,
                column,
            )
            shown.add(label)
    figure.update_xaxes(type="log", title="measured")
    figure.update_yaxes(type="log", title=found)
    write_atomically(path, figure.to_html(include_plotlyjs=True, full_html=True))
    return path
