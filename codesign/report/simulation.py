"""A simulated plan: promises beside what was planned and what happened, pools, and plots over time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType

from codesign.files import make_folder, write_atomically
from codesign.report.console import joules, line, make_table, number, percent, quantity
from codesign.simulate import SimulationReport
from codesign.simulate.report import PoolOutcome, SloOutcome, TaskOutcome

_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "task_latency": "task latency"}
_RESOURCES = ("busy", "compute", "bandwidth", "capacity", "link")


def simulation_report(report: SimulationReport) -> Group:
    """The verdict first, then tasks, where their time goes, and pools."""
    return Group(*_parts(report))


def _parts(report: SimulationReport) -> Iterator[RenderableType]:
    broken = [(task, slo) for task in report.tasks for slo in task.slo if not slo.ok]
    promised = sum(len(task.slo) for task in report.tasks)
    unsure = sum(not slo.sure for task in report.tasks for slo in task.slo)
    length = quantity(report.duration_s, "time")
    stages = dict.fromkeys(task.stage for task in report.tasks if task.stage)
    length += f" of each of {', '.join(stages)}" if stages else ""
    what = f"{report.calls:,} calls in {length}, {report.arrivals}, seed {report.seed}"
    if report.failure:
        what += f"; {report.failure}"
    if broken:
        yield line(f"{len(broken)} of {promised} SLOs do not hold: {what}", "bold red")
    elif unsure:
        yield line(
            f"no SLO is broken, {unsure} of {promised} {'is' if unsure == 1 else 'are'} above the target by less than "
            f"a run of this length can tell: {what}",
            "bold yellow",
        )
        yield line("note: a longer --duration decides", "yellow")
    else:
        yield line(f"ok: all {promised} SLOs hold: {what}", "bold green")
    yield line(f"the first {quantity(report.warm_up_s, 'time', 3)} are warm-up and not counted")
    for note in report.notes:
        yield line(f"note: {note}", "yellow")
    for task, slo in broken:
        found = slo.suspect
        yield line(f"{_name(task)}: {_words(slo)}: {found.pool} lacks {found.resource}: {found.reason}", "red")
    yield ""
    if promised:
        yield _promises(report)
    if report.tasks:
        yield _tasks(report)
        yield _times(report)
    if report.pools:
        yield _pools(report)
        yield from _saturated(report)


def _name(task: TaskOutcome) -> str:
    """With its period, where there are some."""
    return f"{task.name} ({task.stage})" if task.stage else task.name


def _words(slo: SloOutcome) -> str:
    return f"{_METRICS[slo.metric]} p{100 * slo.percentile:g}"


def _promises(report: SimulationReport) -> RenderableType:
    right = ("target", "planned", "simulated", "95 % interval", "simulated/planned")
    table = make_table("Promises", ("task", "SLO"), right, ("holds",))
    for task in report.tasks:
        for slo in task.slo:
            band = "–" if slo.low is None else f"{quantity(slo.low, 'time', 3)} to {quantity(slo.high, 'time', 3)}"
            ratio = slo.simulated / slo.planned if slo.simulated is not None and slo.planned else None
            table.add_row(
                _name(task),
                _words(slo),
                quantity(slo.target, "time"),
                quantity(slo.planned, "time", 3),
                quantity(slo.simulated, "time", 3),
                band,
                percent(ratio),
                ("yes" if slo.sure else "perhaps") if slo.ok else "NO",
            )
    return table


def _tasks(report: SimulationReport) -> RenderableType:
    right = ("calls", "offered 1/s", "done 1/s", "goodput 1/s", "hits", "planned hits", "computed again")
    table = make_table("Tasks", ("task",), right)
    for task in report.tasks:
        table.add_row(
            _name(task),
            f"{task.calls:,}",
            number(task.offered),
            number(task.completed),
            number(task.goodput),
            percent(task.hit_ratio),
            percent(task.planned_hit_ratio),
            f"{task.restarted:,}",
        )
    return table


def _times(report: SimulationReport) -> RenderableType:
    names = ("reload", "wait", "prefill", "transfer", "admission")
    table = make_table("Where a TTFT goes on average: simulated (planned)", ("task",), names)
    for task in report.tasks:
        table.add_row(_name(task), *(_pair(task, name) for name in names))
    return table


def _pair(task: TaskOutcome, name: str) -> str:
    found, planned = getattr(task.parts, name), getattr(task.planned_parts, name)
    return f"{quantity(found, 'time', 3)} ({quantity(planned, 'time', 3)})"


def _pools(report: SimulationReport) -> RenderableType:
    right = ("batch", *_RESOURCES, "power", "evictions", "preemptions")
    table = make_table("Pools: simulated (planned)", ("pool", "role"), right)
    for pool in report.pools:
        batch = "–" if pool.batch is None else f"{number(pool.batch)} ({number(pool.planned_batch)})"
        table.add_row(
            pool.pool,
            pool.role,
            batch,
            *(_share(pool, name) for name in _RESOURCES),
            f"{quantity(pool.power_w, 'power', 3)} ({quantity(pool.planned_power_w, 'power', 3)})",
            f"{pool.evictions:,}",
            f"{pool.preemptions:,}",
        )
    table.caption = f"energy of all pools over the whole time: {joules(sum(p.energy_j for p in report.pools))}"
    return table


def _share(pool: PoolOutcome, name: str) -> str:
    found, planned = getattr(pool.utilization, name), getattr(pool.planned, name)
    if found is None:
        return "–"
    return f"{found:.0%}" if planned is None else f"{found:.0%} ({planned:.0%})"


def _saturated(report: SimulationReport) -> Iterator[RenderableType]:
    for pool in report.pools:
        for found in pool.saturated:
            when = f"first at {quantity(found.from_s, 'time', 3)}, {found.share:.0%} of the time"
            what = "all lanes busy" if found.resource == "busy" else f"no {found.resource} left"
            yield line(f"{pool.pool}: {what}, {when}")


class PlotsMissingError(ImportError):
    """matplotlib is not installed; the message says how to install it."""


def write_plots(report: SimulationReport, directory: str | Path) -> list[Path]:
    """Write `simulation.png` into a directory, which is made where it is missing: each pool over time.

    Raises PlotsMissingError where the extra is not installed, OSError where nothing can be written.
    """
    try:
        import matplotlib
    except ImportError:
        raise PlotsMissingError("found no matplotlib; expected: pip install 'codesign[plots]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    target = Path(directory)
    make_folder(target)
    rows = max(1, len(report.pools))
    figure, axes = pyplot.subplots(rows, 2, figsize=(13, 2.2 * rows), squeeze=False, sharex=True)
    for pool, (shares, counts) in zip(report.pools, axes, strict=False):
        series = pool.series
        for name in _RESOURCES:
            values = getattr(series, name)
            if max(values, default=0.0) > 0:
                shares.plot(series.time_s, values, label=name, linewidth=0.9)
        shares.set_title(pool.pool, loc="left", fontsize=9)
        shares.set_ylim(0, 1.05)
        shares.set_ylabel("share in use", fontsize=8)
        shares.legend(fontsize=7, ncols=5, loc="lower right")
        counts.plot(series.time_s, series.batch, label="running, per replica", linewidth=0.9)
        counts.plot(series.time_s, series.waiting, label="waiting, whole pool", linewidth=0.9)
        counts.legend(fontsize=7, loc="upper right")
        for axis in (shares, counts):
            axis.axvline(pool.counted_from_s, color="grey", linewidth=0.7, linestyle=":")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.tight_layout()
    path = target / "simulation.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    write_atomically(path, drawn.getvalue())
    pyplot.close(figure)
    return [path]
