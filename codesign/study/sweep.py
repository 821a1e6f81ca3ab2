"""Sweeps: the same problem with fields set to one value after another, as one tidy table.

Where the plan changes between two neighbours, bisection finds the value at which it does: a breakpoint costs a
handful of runs, not a finer grid.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codesign.files import make_folder, write_atomically
from codesign.notebook import html_table
from codesign.problem import Problem, resolve
from codesign.problem.extremes import EXTREMES
from codesign.solution.schema import Solution
from codesign.study.front import csv_text
from codesign.study.jobs import Finished, Job, limits_of
from codesign.study.settings import Settings, between, differing, grid, listed, measure, rows
from codesign.study.workers import Crew, Hear, study

_ROUNDS = 20
"""Bisections of one interval, at most."""
WATCHED = ("accelerators", "pools", "counts")


@dataclass(frozen=True)
class SweepRun:
    """One run: what was set, and what came of it."""

    settings: Mapping[str, Any]
    scenario: str
    """Empty where the sweep has none."""
    solution: Solution
    key: str
    refined: str = ""
    """The path along which bisection placed it; empty for a run that was asked for."""

    @property
    def file(self) -> str:
        """Name of its solution file within the folder of the sweep."""
        return f"solutions/{self.key[:16]}.json"


@dataclass(frozen=True)
class Breakpoint:
    """Between `low` and `high` of a path the plan changes."""

    path: str
    low: Any
    high: Any
    below: str
    above: str
    others: Mapping[str, Any]
    """What the other paths are set to, and the scenario."""


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, in the order asked for; runs placed by bisection after them."""

    problem: str
    paths: tuple[str, ...]
    runs: tuple[SweepRun, ...]
    breakpoints: tuple[Breakpoint, ...]
    complete: bool
    """False where the study was cancelled."""
    notes: tuple[str, ...] = ()
    """Stored runs that were not believed."""

    def header(self) -> list[str]:
        """Columns of runs.csv."""
        names: dict[str, None] = {}
        for row in self._records():
            names.update(dict.fromkeys(row))
        return list(names)

    def rows(self) -> list[list[Any]]:
        """Rows of runs.csv: inputs and outputs; no figure where a run has no plan."""
        header = self.header()
        return [[row.get(name) for name in header] for row in self._records()]

    def _records(self) -> list[dict[str, Any]]:
        parts = sorted({name for run in self.runs if run.solution.totals for name in run.solution.totals.accelerators})
        scenarios = any(run.scenario for run in self.runs)
        records = []
        for number, run in enumerate(self.runs):
            row: dict[str, Any] = {"run": number}
            if scenarios:
                row["scenario"] = run.scenario
            row |= {path: _cell(run.settings.get(path)) for path in self.paths}
            records.append(row | {"refined": bool(run.refined)} | outputs(run.solution, parts) | {"solution": run.file})
        return records

    def to_dataframe(self) -> Any:
        """One row per run, as a pandas DataFrame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.rows(), columns=self.header())

    def to_dict(self) -> dict[str, Any]:
        """The document of `codesign sweep --json`."""
        return {
            "problem": self.problem,
            "paths": list(self.paths),
            "runs": [dict(zip(self.header(), row, strict=True)) for row in self.rows()],
            "breakpoints": [
                {
                    "path": b.path,
                    "low": b.low,
                    "high": b.high,
                    "below": b.below,
                    "above": b.above,
                    "others": dict(b.others),
                }
                for b in self.breakpoints
            ],
            "complete": self.complete,
        }

    def write(self, directory: Path, parquet: bool = False) -> list[Path]:
        """Write runs.csv (and runs.parquet), breakpoints.csv and a solution file per run."""
        make_folder(directory / "solutions")
        for run in self.runs:
            run.solution.write(directory / run.file)
        files = [directory / "runs.csv", directory / "breakpoints.csv"]
        write_atomically(files[0], csv_text(self.header(), self.rows()))
        header = ["path", "low", "high", "below", "above", "others"]
        table = [[b.path, b.low, b.high, b.below, b.above, json.dumps(dict(b.others))] for b in self.breakpoints]
        write_atomically(files[1], csv_text(header, table))
        if parquet:
            files.append(directory / "runs.parquet")
            frame = self.to_dataframe()
            for path in self.paths:  # a column of a Parquet file has one type
                frame[path] = frame[path].astype(str)
            write_atomically(files[-1], frame.to_parquet())
        return files

    def _repr_html_(self) -> str:
        shown = ["run", *self.paths, "status", "value", "gap", "cost_per_hour", "power_w", "plan"]
        header = self.header()
        keep = [header.index(name) for name in shown if name in header]
        table = [[row[i] for i in keep] for row in self.rows()]
        return html_table(f"Sweep of {self.problem}: {len(self.runs)} runs", [header[i] for i in keep], table)


def sweep(
    problem: Problem,
    settings: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Any,
    *,
    together: bool = False,
    scenarios: Mapping[str, Mapping[str, Any]] | None = None,
    breakpoints: bool = False,
    watch: str = "accelerators",
    tolerance: float = 0.02,
    directory: str | Path | None = None,
    workers: int = 1,
    dask: str | None = None,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Hear | None = None,
    cancel: threading.Event | None = None,
) -> Sweep:
    """Plan the problem once for each setting of its fields.

    `settings`: values by path (a grid, or with `together` first values with first values), or one mapping of paths
    per run (a list, a DataFrame).  Each `scenarios` entry (values by path) is combined with all of them.  With
    `breakpoints`, changes of the plan (of what `watch` names) along a numeric path are located to `tolerance`, a
    share of that path's range.  The rest is as in `pareto`.  Raises ProblemError for a value that no problem takes.
    """
    if watch not in WATCHED:
        raise ValueError(f"watch: found {watch!r}; expected one of {', '.join(WATCHED)}")
    wanted = (listed(settings) if together else grid(settings)) if isinstance(settings, Mapping) else rows(settings)
    search = _Sweep(problem, dict(scenarios or {"": {}}), gap, time_limit_s)
    asked = [(name, dict(run)) for name in search.scenarios for run in wanted]
    jobs = [search.job(name, run) for name, run in asked]  # all faults before any work
    breaks: list[Breakpoint] = []
    with study(len(jobs), directory, workers, dask, progress, cancel) as crew:
        search.note(asked, search.solve(crew, jobs))
        if breakpoints:
            breaks = search.bisect(crew, watch, tolerance)
    paths = tuple(dict.fromkeys(path for run in wanted for path in run))
    if not crew.complete:
        for (name, run), job in zip(asked, jobs, strict=True):
            search.note_stored(name, run, job.key, crew)
    return Sweep(str(problem.name), paths, tuple(search.runs), tuple(breaks), crew.complete, crew.notes)


class _Sweep:
    """Runs so far, and the search for breakpoints."""

    def __init__(
        self,
        problem: Problem,
        scenarios: dict[str, Mapping[str, Any]],
        gap: float | None,
        time_limit_s: float | None,
    ) -> None:
        self.problem, self.scenarios = problem, scenarios
        self._gap, self._time_limit_s = gap, time_limit_s
        self.runs: list[SweepRun] = []

    def job(self, scenario: str, settings: Settings) -> Job:
        changed = self.problem.replace({**self.scenarios[scenario], **settings})
        instance = resolve(changed)
        asked_gap, seconds = limits_of(instance, self._gap, self._time_limit_s)
        words = [f"{path}={value}" for path, value in settings.items()]
        return Job(
            instance,
            instance.objective,
            asked_gap,
            seconds,
            command=" ".join(["codesign sweep:", *([f"({scenario})"] if scenario else []), *words]),
        )

    @staticmethod
    def solve(crew: Crew, jobs: list[Job]) -> list[Finished]:
        """Solve `jobs`: of those with the same columns the first by itself, the others from its plan.

        What a job starts from is part of its name, so `jobs` is changed where that becomes known.
        """
        anchors: dict[str, int] = {}
        for number, job in enumerate(jobs):
            anchors.setdefault(job.columns_key, number)
        starts = {
            jobs[number].columns_key: result.start
            for number, result in zip(anchors.values(), crew.run([jobs[n] for n in anchors.values()]), strict=True)
        }
        for number, job in enumerate(jobs):
            if number != anchors[job.columns_key] and job.objective not in EXTREMES:
                jobs[number] = replace(job, start=(starts[job.columns_key],))
        return crew.run(jobs)

    def note(
        self, asked: Sequence[tuple[str, Settings]], finished: Sequence[Finished], along: Sequence[str] = ()
    ) -> None:
        for (name, run), result, path in zip(asked, finished, along or [""] * len(asked), strict=True):
            self.runs.append(SweepRun(run, name, result.solution, result.key, path))

    def note_stored(self, scenario: str, settings: Settings, key: str, crew: Crew) -> None:
        """After a cancelled study: a run that was finished all the same."""
        finished = crew.finished(key)
        if finished is not None and all(run.key != key for run in self.runs):
            self.note([(scenario, settings)], [finished])

    def bisect(self, crew: Crew, watch: str, tolerance: float) -> list[Breakpoint]:
        """Locate changes of the plan between neighbours that differ in one numeric path."""
        width = {path: tolerance * (high - low) for path, (low, high) in self._spans().items()}
        for _ in range(_ROUNDS):
            asked, along = [], []
            for path, a, b in self._changes(watch):
                if path not in width or abs(_number(b, path) - _number(a, path)) <= width[path]:
                    continue
                middle = between(a.settings[path], b.settings[path])
                if middle is not None:
                    asked.append((a.scenario, {**a.settings, path: middle}))
                    along.append(path)
            if not asked:
                break
            crew.planned = max(crew.planned, crew.done + len(asked))
            self.note(asked, crew.run([self.job(name, run) for name, run in asked]), along)
        return [
            Breakpoint(
                path,
                a.settings[path],
                b.settings[path],
                plan_name(a.solution, watch),
                plan_name(b.solution, watch),
                {**({"scenario": a.scenario} if a.scenario else {}), **_without(a.settings, path)},
            )
            for path, a, b in self._changes(watch)
        ]

    def _spans(self) -> dict[str, tuple[float, float]]:
        """Least and greatest number of each path that holds numbers of one unit in all runs."""
        found: dict[str, tuple[float, float]] = {}
        for path in self.runs[0].settings if self.runs else ():
            measured = [measure(run.settings.get(path)) for run in self.runs]
            numbers = [m[0] for m in measured if m is not None]
            units = {m[1] for m in measured if m is not None}
            if len(numbers) == len(measured) and len(units) == 1 and max(numbers) > min(numbers):
                found[path] = (min(numbers), max(numbers))
        return found

    def _changes(self, watch: str) -> list[tuple[str, SweepRun, SweepRun]]:
        """Neighbours along one numeric path whose plans differ."""
        found = []
        for path in self._spans():
            lines: dict[str, list[SweepRun]] = {}
            for run in self.runs:
                if run.refined not in ("", path):
                    continue
                others = json.dumps([run.scenario, _without(run.settings, path)], sort_keys=True, default=str)
                lines.setdefault(others, []).append(run)
            for line in lines.values():
                line.sort(key=lambda run: _number(run, path))
                for a, b in itertools.pairwise(line):
                    changed = differing(dict(a.settings), dict(b.settings))
                    if changed and plan_name(a.solution, watch) != plan_name(b.solution, watch):
                        found.append((path, a, b))
        return found


def outputs(solution: Solution, accelerators: Sequence[str]) -> dict[str, Any]:
    """A solution's figures as columns of a table; None where there is no plan."""
    objective, totals = solution.objective, solution.totals
    row: dict[str, Any] = {
        "status": solution.status,
        "objective": objective.name,
        "value": objective.value,
        "bound": objective.bound,
        "gap": objective.gap,
        "stopped_by": solution.solve.stopped_by,
        "plan": plan_name(solution, "accelerators"),
    }
    for name in ("cost_per_hour", "cost_per_task", "energy_per_task_j", "power_w", "peak_power_w"):
        row[name] = getattr(totals, name) if totals else None
    for name in accelerators:
        row[f"accelerators.{name}"] = totals.accelerators.get(name, 0) if totals else None
    for task in solution.tasks:
        row[f"tasks.{task.name}.cost_per_task"] = task.cost_per_task
        row[f"tasks.{task.name}.energy_per_task_j"] = task.energy_per_task_j
    return row


def plan_name(solution: Solution, watch: str) -> str:
    """What of a plan is watched, as text: parts bought, pools run, or parts with their numbers."""
    if solution.totals is None:
        return solution.status
    if watch == "counts":
        return " + ".join(f"{n} × {name}" for name, n in sorted(solution.totals.accelerators.items()))
    if watch == "pools":
        pools = {f"{p.hardware}/{p.model}/{p.role}" if p.model else p.pool for p in solution.fleet}
        return " + ".join(sorted(pools))
    return " + ".join(sorted(name for name, n in solution.totals.accelerators.items() if n))


def _number(run: SweepRun, path: str) -> float:
    found = measure(run.settings[path])
    assert found is not None
    return found[0]


def _without(settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != path}


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
