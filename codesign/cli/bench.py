"""`codesign bench`: a measured pool from benchmark results."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from codesign.cli.command import InputError, command, say
from codesign.cli.inputs import quantity, setting
from codesign.cli.options import Json
from codesign.cli.output import show_json


@command()
def bench(
    results: Annotated[
        list[str],
        typer.Argument(metavar="TASK=FILE...", help="Results of vllm bench serve, GuideLLM or InferenceX, by task."),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the measured pool.")],
    accelerator: Annotated[str, typer.Option(metavar="PART", help="What it ran on (any name).")],
    cost: Annotated[str, typer.Option(metavar="23.2$/h", help="Of one such deployment.")],
    accelerators: Annotated[int, typer.Option(min=1, metavar="N", help="Of one such deployment.")] = 1,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC.PERCENTILE=TIME", help="Such as ttft.p99=1s or tpot.p95=50ms; repeatable."),
    ] = None,
    calls: Annotated[
        list[str] | None, typer.Option(metavar="TASK=N", help="Requests of one task; 1 where not said; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn benchmark results into a measured pool: the rate of each task that keeps the SLOs."""
    from codesign.validation.measured import DataError
    from codesign.validation.results import read_results, sustained_rate

    files: dict[str, list[str]] = {}
    for task, path in (setting(words, "TASK=FILE", "chat=run-64.json") for words in results):
        files.setdefault(task, []).append(path)
    promised: dict[str, dict[float, float]] = {"ttft": {}, "tpot": {}}
    for key, value in (setting(words, "--slo", "ttft.p99=1s") for words in slo or ()):
        asked = re.fullmatch(r"(ttft|tpot)\.p(\d\d)", key)
        seconds = quantity(value, "time", "--slo")
        if asked is None or seconds is None:
            raise InputError(f"--slo: found {key!r}; expected ttft or tpot with .p50, .p90, .p95 or .p99")
        promised[asked[1]][int(asked[2]) / 100] = seconds
    per_task: dict[str, float] = {}
    for task, value in (setting(words, "--calls", "coding=33") for words in calls or ()):
        if task not in files or not re.fullmatch(r"\d+(\.\d+)?", value) or not float(value) > 0:
            raise InputError(f"--calls: found {task}={value}; expected a task of the results and a number above 0")
        per_task[task] = float(value)
    quantity(cost, "usd_per_hour", "--cost")
    rates = {}
    try:
        for task, paths in files.items():
            runs = [run for path in paths for run in read_results(path)]
            rates[task] = sustained_rate(runs, promised["ttft"], promised["tpot"]) / per_task.get(task, 1.0)
    except DataError as error:
        raise InputError(str(error)) from None
    for task in [task for task, rate in rates.items() if not rate]:
        say(f"note: no run of {task} keeps the SLOs, so this pool does not serve it")
    pool = {
        "name": name,
        "accelerator": accelerator,
        "accelerators_per_replica": accelerators,
        "cost": cost,
        "max_rate": {task: f"{rate:.6g}/s" for task, rate in rates.items() if rate},
    }
    if not pool["max_rate"]:
        raise InputError("--slo: found no run that keeps the SLOs; expected looser ones, or runs at less load")
    if as_json:
        show_json({"measured_pools": [pool]})
    else:
        typer.echo("measured_pools:\n  - " + json.dumps(pool, ensure_ascii=False))
