"""Arguments and options that several commands share, each said once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from codesign.cli.inputs import quantity, time_limit_seconds

ProblemFile = Annotated[str, typer.Argument(metavar="PROBLEM", help="The problem file (YAML).")]
SolutionFile = Annotated[str, typer.Argument(metavar="SOLUTION", help="The solution file (JSON).")]
RecordedProblem = Annotated[
    str | None,
    typer.Option("--problem", metavar="PROBLEM", help="The problem file, where the recorded command does not name it."),
]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON document.")]
Folder = Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder of the results.")]
Plots = Annotated[str | None, typer.Option(metavar="DIR", help="Write plots here (needs the extra `plots`).")]


@dataclass(frozen=True)
class StudyOptions:
    """How the many plans of a study are made: options of `pareto` and `sweep`."""

    gap: Annotated[
        str | None, typer.Option(metavar="1%", help="For each plan: stop at this distance from the bound.")
    ] = None
    time_limit: Annotated[str | None, typer.Option(metavar="20s", help="For each plan: stop after this time.")] = None
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Local processes; default: as many as there are cores, up to 8."),
    ] = None
    dask: Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="A Dask scheduler, in place of them.")] = (
        None
    )

    def arguments(self) -> dict[str, Any]:
        """As keywords of a study. Raises :class:`~codesign.cli.command.InputError` for what is no quantity."""
        return {
            "gap": quantity(self.gap, "fraction", "--gap"),
            "time_limit_s": time_limit_seconds(self.time_limit),
            "workers": self.workers or _cores(),
            "dask": self.dask,
        }


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
