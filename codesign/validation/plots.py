"""Scatter plots of predicted against measured: PNG by matplotlib, HTML by plotly (the extra ``plots``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codesign.files import make_folder, write_atomically
from codesign.validation.compare import Comparison
from codesign.validation.errors import WITHIN
from codesign.validation.measured import METRICS

LABELS = {
    "ttft_ms_p50": "TTFT p50, ms",
    "tpot_ms_p50": "TPOT p50, ms",
    "output_tok_s_per_gpu": "output tokens/s per accelerator",
    "total_tok_s_per_gpu": "input + output tokens/s per accelerator",
    "energy_per_output_token_j": "energy per output token, J",
}


class PlotsMissingError(ImportError):
    """matplotlib or plotly is not installed; the message says how to install it."""


def write_plots(comparisons: Sequence[Comparison], directory: str | Path) -> list[Path]:
    """Write ``validation.png`` and ``validation.html`` into a directory, which is made where it is missing.

    Raises PlotsMissingError where the extra is not installed, OSError where nothing can be written.
    """
    scored = [c for c in comparisons if c.scored]
    target = Path(directory)
    make_folder(target)
    return [_png(scored, target / "validation.png"), _html(scored, target / "validation.html")]


def _metrics(comparisons: Sequence[Comparison]) -> list[str]:
    present = {c.metric for c in comparisons}
    return [metric for metric in METRICS if metric in present and metric != "total_tok_s_per_gpu"]


def _limits(group: Sequence[Comparison]) -> tuple[float, float]:
    values = [value for c in group for value in (c.measured, c.predicted)]
    return 0.8 * min(values), 1.25 * max(values)


def _by_source(group: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for comparison in group:
        found.setdefault(comparison.point.source, []).append(comparison)
    return dict(sorted(found.items()))


def _png(comparisons: Sequence[Comparison], path: Path) -> Path:
    try:
        import matplotlib
    except ImportError:
        raise PlotsMissingError("found no matplotlib; expected: pip install 'codesign[plots]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = _metrics(comparisons)
    figure, axes = pyplot.subplots(1, max(len(metrics), 1), figsize=(5.2 * max(len(metrics), 1), 5.0))
    for axis, metric in zip([axes] if len(metrics) <= 1 else list(axes), metrics, strict=False):
        group = [c for c in comparisons if c.metric == metric]
        low, high = _limits(group)
        line = [low, high]
        axis.fill_between(
            line, [v * (1 - WITHIN) for v in line], [v * (1 + WITHIN) for v in line], alpha=0.15, color="grey"
        )
        axis.plot(line, line, color="black", linewidth=0.8)
        for source, members in _by_source(group).items():
            measured, predicted = [c.measured for c in members], [c.predicted for c in members]
            axis.scatter(measured, predicted, s=9, alpha=0.6, label=source)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        axis.set(title=LABELS[metric], xlabel="measured", ylabel="predicted")
        axis.legend(fontsize=6)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_atomically(path, drawn.getvalue())
    pyplot.close(figure)
    return path


def _html(comparisons: Sequence[Comparison], path: Path) -> Path:
    try:
        from plotly import graph_objects
        from plotly.subplots import make_subplots
    except ImportError:
        raise PlotsMissingError("found no plotly; expected: pip install 'codesign[plots]'") from None
    metrics = _metrics(comparisons)
    figure: Any = make_subplots(
        rows=1, cols=max(len(metrics), 1), subplot_titles=[LABELS[m] for m in metrics]
    )
    for column, metric in enumerate(metrics, start=1):
        group = [c for c in comparisons if c.metric == metric]
        low, high = _limits(group)
        figure.add_trace(
            graph_objects.Scatter(x=[low, high], y=[low, high], mode="lines", showlegend=False), 1, column
        )
        for source, members in _by_source(group).items():
            figure.add_trace(
                graph_objects.Scatter(
                    x=[c.measured for c in members],
                    y=[c.predicted for c in members],
                    mode="markers",
                    name=source,
                    legendgroup=source,
                    showlegend=column == 1,
                    text=[f"{c.point.row_id}<br>{c.point.pair}<br>{c.point.stack}" for c in members],
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": [c.high - c.predicted for c in members],
                        "arrayminus": [c.predicted - c.low for c in members],
                        "thickness": 0.4,
                        "width": 0,
                    },
                ),
                1,
                column,
            )
    figure.update_xaxes(type="log", title="measured")
    figure.update_yaxes(type="log", title="predicted, with its 80 % band")
    write_atomically(path, figure.to_html(include_plotlyjs=True, full_html=True))
    return path
