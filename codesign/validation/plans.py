"""Plans against measurements: how many accelerators are planned for a load that a known number of them carried.

A ratio planned/measured means something where whole numbers do not make it, so the load of :data:`DEPLOYMENTS` equal
deployments is planned at once, accelerators are bought one by one at one price, and what is counted are those that
replicas occupy.  Part, model, precisions and stack are the measured ones and no engine is larger than the largest
measured one; its shape is the planner's to choose.  A ratio near 1 is to be expected where the measured TPOT is
promised: a promise above it lets engines hold more calls, so that a perfect model plans fewer accelerators.  Calls
arrive at random at the measured mean rate, while measured clients send as they are served: that, and the margins that
every plan has, are part of the ratio.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codesign.catalog import accelerators
from codesign.performance.profile import EngineProfile, write_profile
from codesign.planner import solve
from codesign.problem import Problem
from codesign.processes import Processes, Tell
from codesign.solution.schema import Solution
from codesign.validation.deployments import ROLES, Deployment, deployments_of
from codesign.validation.engine_load import MAX_RUNNING
from codesign.validation.measured import placed_rows, read_names
from codesign.validation.points import COLOCATED, DISAGGREGATED
from codesign.validation.predict import given_or_default, predict
from codesign.validation.ratios import NEAR, PLANNED, PlannedRow, PlanSlice, summary_of

FACTORS = (1.0, 1.15, 1.3)
"""Promised TPOT over the measured one, both medians: the model's own error in between decides at 1."""
TTFT_SLACK = 3.0
"""Promised TTFT over the measured one, both medians.  A TTFT is mostly waiting, whose laws differ between clients that
send as they are served and arrivals at random, and the model's own TTFT is off by 1.4 at the median: the promise shall
exclude what nobody would serve and decide nothing else."""
DEPLOYMENTS = 16
"""Measured deployments whose load is planned at once: one engine more or less moves the ratio by 6 % at most."""
GAP, SECONDS = 0.01, 20.0
"""Of each plan: the distance from its bound at which it will do, and the most time that it may take."""

WAYS = {COLOCATED: "never", DISAGGREGATED: "always"}
"""Role → what the option `disaggregation` says of it."""

Progress = Callable[[float], None]
"""Hears which share of the work is done."""


@dataclass(frozen=True)
class PlanValidation:
    """Everything that plans against measurements gave."""

    rows: tuple[PlannedRow, ...]
    summary: tuple[PlanSlice, ...]
    left_out: dict[str, int]
    """Measured rows that are no deployments, by reason."""
    deployments: int
    """Measured rows that are."""
    sampled: int
    """Of these, the ones that were planned for: fewer where a limit was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: rows, summary, and what stands behind them."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "summary": [asdict(each) for each in self.summary],
            "left_out": self.left_out,
            "deployments": self.deployments,
            "sampled": self.sampled,
            "planned_at_once": DEPLOYMENTS,
            "ttft_slack": TTFT_SLACK,
            "near": NEAR,
        }


def validate_plans(
    data: Sequence[str | Path] = (),
    names: str | Path | None = None,
    profile: EngineProfile | None = None,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> PlanValidation:
    """Plan the measured deployments of files, each colocated and disaggregated at each of :data:`FACTORS`.

    Without `data` the table that ships with the package is taken; `names` adds to the shipped names, and `profile`
    replaces the stacks' defaults where it holds.  With a `limit` that many of the rows are planned, evenly spaced;
    `workers` are processes.  Raises :class:`~codesign.validation.measured.DataError` for a file that cannot be used.
    """
    known = read_names() | (read_names(names) if names is not None else {})
    placed = [row for path in data for row in placed_rows(path)] if data else placed_rows()
    found, left_out = deployments_of(placed, known)
    chosen = found
    if limit is not None and limit < len(found):
        chosen = [found[i * len(found) // limit] for i in range(limit)]
    engine = given_or_default(profile)
    rows = planned([(deployment, engine(deployment.point)) for deployment in chosen], workers, progress)
    return PlanValidation(
        rows=tuple(rows),
        summary=tuple(summary_of(rows)),
        left_out=dict(sorted(left_out.items())),
        deployments=len(found),
        sampled=len(chosen),
    )


def planned(
    asked: Sequence[tuple[Deployment, EngineProfile]], workers: int = 1, progress: Progress | None = None
) -> list[PlannedRow]:
    """The plans of deployments, each with its engine profile, in their order."""
    found: dict[int, list[PlannedRow]] = {}

    def take(done: Iterable[tuple[int, list[PlannedRow]]]) -> None:
        for place, rows in done:
            found[place] = rows
            if progress is not None:
                progress(len(found) / len(asked))

    if workers > 1 and len(asked) > 1:
        with Processes(min(workers, len(asked)), _work) as processes:
            take(processes.run(dict(enumerate(asked))))
    else:
        take((place, plan_deployment(*each)) for place, each in enumerate(asked))
    return [row for place in range(len(asked)) for row in found[place]]


def _work(asked: tuple[Deployment, EngineProfile], _: Tell) -> list[PlannedRow]:
    return plan_deployment(*asked)


def plan_deployment(deployment: Deployment, engine: EngineProfile) -> list[PlannedRow]:
    """A deployment planned in each role at each promise; once a role where no TPOT was measured."""
    predicted = predicted_time(deployment, engine)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "engine.json"  # problems name profiles by their files
        write_profile(engine, profile)
        for role in ROLES:
            for factor in FACTORS if deployment.tpot_s is not None else (None,):
                solution = solve(problem_of(deployment, role, factor, profile))
                rows.append(_row(deployment, role, factor, solution, predicted))
    return rows


def predicted_time(deployment: Deployment, engine: EngineProfile) -> float:
    """Predicted over measured time per token of the measured engine at its own load: how far off the model is.

    TPOT, or the reciprocal of the throughput where no TPOT was measured; NaN where the engine would not fit.
    """
    point = deployment.point
    if deployment.role == DISAGGREGATED:
        engine = replace(engine, prefill_charge=0.0)  # no prompt comes between its steps
    found = predict([point], lambda _: engine)
    if not found.fits[0]:
        return math.nan
    if deployment.tpot_s is not None:
        return float(found.values["tpot_ms_p50"][0]) / (1e3 * deployment.tpot_s)
    tokens_per_s = deployment.calls_per_s * point.osl / deployment.accelerators
    return tokens_per_s / float(found.values["output_tok_s_per_gpu"][0])


def problem_of(deployment: Deployment, role: str, factor: float | None, profile: str | Path) -> Problem:
    """The problem of least accelerators for :data:`DEPLOYMENTS` times a deployment's load.

    `factor` is promised over measured TPOT, `profile` the file of an engine profile.
    """
    point = deployment.point
    slo: dict[str, dict[str, str]] = {}
    if deployment.ttft_s is not None:
        slo["ttft"] = {"p50": f"{TTFT_SLACK * deployment.ttft_s:.9g} s"}
    if factor is not None and deployment.tpot_s is not None:
        slo["tpot"] = {"p50": f"{factor * deployment.tpot_s:.9g} s"}
    return Problem.from_dict(
        {
            "name": point.row_id,
            "site": {"electricity": "0 $/kWh"},
            "models": {
                "model": {
                    "card": point.model,
                    "weights": [point.weights],
                    "activations": [point.activations],
                    "kv": [point.kv],
                }
            },
            "tasks": [
                {
                    "name": "calls",
                    "rate": f"{DEPLOYMENTS * deployment.calls_per_s:.9g}/s",
                    "models": ["model"],
                    "context": point.isl,
                    "output": point.osl,
                    "slo": slo,
                }
            ],
            "hardware": {
                "part": {
                    "accelerator": point.accelerator,
                    "server": {"accelerators": 1},
                    # Bought one by one, and joined as in the servers that were measured.
                    "scaleup_domain": accelerators()[point.accelerator].scaleup_domain,
                    "offers": {"each": {"rent": "1 $/h", "includes_power": True}},
                }
            },
            "options": {
                "disaggregation": WAYS[role],
                "max_replica_accelerators": deployment.engine_accelerators,
                "max_sequences": int(MAX_RUNNING),
                "profiles": [str(profile)],
                "gap": GAP,
                "time_limit": f"{SECONDS:g} s",
                "threads": 1,
            },
        }
    )


def _row(
    deployment: Deployment, role: str, factor: float | None, solution: Solution, predicted: float
) -> PlannedRow:
    point = deployment.point
    count = None
    if solution.status in PLANNED:
        count = sum(pool.accelerators for pool in solution.fleet) / DEPLOYMENTS
    return PlannedRow(
        row_id=point.row_id,
        role=role,
        measured_role=deployment.role,
        tpot_factor=factor,
        measured_accelerators=deployment.accelerators,
        planned_accelerators=count,
        status=solution.status,
        ratio=None if count is None else count / deployment.accelerators,
        source=point.source,
        accelerator=point.accelerator,
        model=point.model,
        precision=point.weights,
        stack=point.stack,
        isl=point.isl,
        osl=point.osl,
        concurrency=point.concurrency,
        calls_per_s=deployment.calls_per_s,
        predicted_time=None if math.isnan(predicted) else predicted,
        engine=(point.tp, point.pp, point.dp),
        planned_engine=_planned_engine(solution),
    )


def _planned_engine(solution: Solution) -> tuple[int, int, int] | None:
    decoding = [pool for pool in solution.fleet if pool.role != "prefill"]
    if not decoding:
        return None
    shape = max(decoding, key=lambda pool: pool.accelerators).parallelism
    return None if shape is None else (shape.tp, shape.pp, shape.dp)
