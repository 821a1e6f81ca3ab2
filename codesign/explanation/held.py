"""A plan that the user holds, from its solution file, as the optimiser's numbers: so that it is explained itself.

Pools say their group and operating point, routes their commodity and the pools that serve it: columns, counts and rates
follow, and nothing is planned again.  Columns of one operating point differ in what they keep free for fluctuation,
which no file says: taken is one whose rows the pool's calls keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.identity import columns_at
from codesign.check import check
from codesign.clock import Clock
from codesign.optimize.dominance import undominated
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.recount import rows_need
from codesign.optimize.relaxation import relax
from codesign.optimize.search import Start
from codesign.optimize.strengthen import strengthened
from codesign.problem import Problem
from codesign.solution.schema import Pool, Route, Solution, Violation
from codesign.solution.stages import joined_start

_SUPPORT = 1e-6
"""Reduced cost up to which a column of the relaxation may be part of a plan nearby."""
_SAME = 1e-6
"""Relative difference of two levels that are the same."""


class NotThisPlanError(ValueError):
    """A solution that is none of the problem; `violations` where it is a plan of it that breaks its promises."""

    def __init__(self, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


def belongs(problem: Problem, solution: Solution) -> tuple[str, ...]:
    """What to know about a solution of a problem.  Raises NotThisPlanError where it is no plan of it.

    A plan of another file is one of this, too, where every check holds.
    """
    same = solution.provenance.problem_sha256 == problem.sha256
    made = f"it was made from {solution.provenance.problem} by: {solution.provenance.command or '–'}"
    if not solution.fleet:
        if not same:
            raise NotThisPlanError(f"the solution holds no plan, and is not of this problem (sha256 differs); {made}")
        return ()
    report = check(problem, solution)
    if report.ok:
        other = "the plan was made from another file (sha256 differs); it keeps all that this one asks"
        return () if same else (other,)
    count = len(report.violations)
    first = report.violations[0]
    checks = "1 check fails" if count == 1 else f"{count} checks fail, first"
    broken = f"{checks}: {first.what}: limit {first.limit}, found {first.found}"
    if not same:
        strange = "the plan is not of this problem (sha256 differs) and does not hold in it"
        raise NotThisPlanError(f"{strange}: {broken}; {made}")
    raise NotThisPlanError(f"the plan does not hold: {broken}", tuple(report.violations))


def held_plan(candidates: Candidates, solution: Solution, clock: Clock) -> FleetPlan:
    """The plan of a solution among these candidates, with the relaxation's shadow prices.

    Raises NotThisPlanError where a pool runs at no operating point of theirs.
    """
    if not solution.fleet:
        bound = solution.objective.bound
        return FleetPlan(solution.status, np.inf, np.inf if bound is None else bound)
    if candidates.stages:
        parts = [
            _placed(part.candidates, _of_stage(solution, part.stage.period, part.stage.scenario))
            for part in candidates.stages
        ]
        start = joined_start(candidates.stages, [own for own, _ in parts])
        rates = {
            (part.columns + k, part.flows + f): rate
            for part, (_, own) in zip(candidates.stages, parts, strict=True)
            for (k, f), rate in own.items()
        }
    else:
        start, rates = _placed(candidates, solution)
    value = solution.objective.value
    plan = FleetPlan(
        solution.status,
        np.inf if value is None else value,
        -np.inf if solution.objective.bound is None else solution.objective.bound,
        replicas=start.replicas,
        rates=rates,
        servers=start.servers,
        spares=start.spares,
        modules=start.modules,
        by_rows={k: n for k, n in rows_need(candidates.data, rates).items() if n > start.replicas[k]},
    )
    return _priced(candidates, plan, clock)


def _priced(candidates: Candidates, plan: FleetPlan, clock: Clock) -> FleetPlan:
    """The plan with the prices of the relaxation."""
    clock.tell("relaxation")
    tight = strengthened(candidates.data)
    kept = np.flatnonzero(undominated(tight))
    mask = np.zeros(candidates.data.columns, dtype=bool)
    mask[kept] = True
    found = relax(tight.keep(mask), clock.deadline, cancelled=clock.cancel.is_set)
    near = [int(kept[k]) for k in found.columns if found.reduced_cost[k] < _SUPPORT]
    return replace(plan.priced(found.duals), pool=tuple(sorted({*plan.replicas, *near})))


def _of_stage(solution: Solution, period: str, scenario: str) -> Solution:
    """What a solution says of one period in one scenario; purchases are those of all."""

    def mine(entries: tuple[Pool, ...] | tuple[Route, ...]) -> tuple[Pool | Route, ...]:
        return tuple(e for e in entries if (e.period, e.scenario) == (period, scenario))

    return solution.model_copy(update={"fleet": mine(solution.fleet), "routing": mine(solution.routing)})


def _placed(candidates: Candidates, solution: Solution) -> tuple[Start, dict[tuple[int, int], float]]:
    """The counts of a solution without stages, and calls/s by (column, flow)."""
    data = candidates.data
    groups = {group.name: g for g, group in enumerate(data.groups)}
    offers = {offer.name: o for o, offer in enumerate(data.offers)}
    modules = {module.name: m for m, module in enumerate(data.modules)}
    drafts = {pool.pool: pool.speculation.draft_tokens for pool in solution.fleet if pool.speculation is not None}
    replicas: dict[int, int] = {}
    spares: dict[int, int] = {}
    rates: dict[tuple[int, int], float] = {}
    for pool in solution.fleet:
        calls = _calls(candidates, pool, solution.routing, drafts)
        column = _column(candidates, pool, calls)
        replicas[column] = replicas.get(column, 0) + pool.replicas
        if pool.spares:
            spares[groups[pool.group]] = spares.get(groups[pool.group], 0) + pool.spares
        for flow, rate in calls.items():
            rates[column, flow] = rates.get((column, flow), 0.0) + rate
    bought = {offers[line.item]: line.count for line in solution.purchase if line.item in offers}
    beside = {modules[line.item]: line.count for line in solution.purchase if line.kind == "module"}
    return Start(tuple(sorted(replicas)), replicas, bought, spares, beside), rates


def _calls(
    candidates: Candidates, pool: Pool, routes: tuple[Route, ...], drafts: Mapping[str, int]
) -> dict[int, float]:
    """Calls/s by flow that a pool carries; `drafts` tokens in a step of each pool that drafts any."""
    found: dict[int, float] = {}
    for route in routes:
        if pool.role == "serve":
            if pool.pool == route.prefill_pool:
                flow = candidates.first_measured_flow + candidates.data.tasks.index(route.task)
                found[flow] = found.get(flow, 0.0) + route.calls_per_s
            continue
        sides = {"prefill": ("prefill",), "colocated": ("colocated",)}.get(pool.role, ("decode",))
        if pool.pool == (route.prefill_pool if pool.role in ("prefill", "colocated") else route.decode_pool):
            flow = _flow(candidates, pool, route, sides[0], drafts.get(route.decode_pool, 0))
            found[flow] = found.get(flow, 0.0) + route.calls_per_s
    return found


def _flow(candidates: Candidates, pool: Pool, route: Route, phase: str, drafts: int) -> int:
    """The flow of one phase of a route's commodity."""
    vendors = {option.name: option.accelerator.vendor for option in candidates.instance.hardware}
    model = next(m for m, item in enumerate(candidates.instance.models) if item.name == pool.model)
    for f, flow in enumerate(candidates.book.flows):
        if (
            (flow.calls.task.name, flow.calls.variant.name) == (route.task, route.variant)
            and (flow.phase, flow.residency, flow.model) == (phase, route.kv_policy, model)
            and (pool.precision is None or flow.kv == pool.precision.kv)
            and (phase == "colocated" or (flow.vendor, flow.drafts) == (vendors.get(pool.hardware), drafts))
            and _level(flow.fabric_bytes_per_s, route.fabric_bytes_per_s)
            and _level(flow.ttft_level_s, route.ttft_level_s)
            and _level(flow.tpot_level_s, route.tpot_level_s)
            and (route.kv is None or _level(flow.calls.ttl_s, route.kv.ttl_s))
        ):
            return f
    raise NotThisPlanError(
        f"routing: {route.task} from {route.prefill_pool} to {route.decode_pool} is no way that this problem knows: "
        "was the plan made by another version?"
    )


def _level(value: float, said: float | None) -> bool:
    """Is a level what a route says of it (None: unlimited)?"""
    return bool(np.isinf(value)) if said is None else abs(value - said) <= _SAME * abs(said)


def _column(candidates: Candidates, pool: Pool, calls: dict[int, float]) -> int:
    """The column that a pool runs: of those at its operating point the one whose rows its calls fill least."""
    chunk = None if pool.prefill_chunk is None else float(pool.prefill_chunk)
    point = (pool.step_limit_s, pool.utilization_limit, pool.wait_limit_s, chunk)
    most = max(pool.replicas, pool.replicas_by_rows or 0)
    best: tuple[float, int] | None = None
    for column in columns_at(candidates, pool.group, point, pool.pays_electricity):
        block, i = candidates.data.locate([column])[0]
        part = candidates.data.blocks[block]
        place = {int(f): v for v, f in enumerate(part.flows)}
        if part.min_replicas[i] > most or not all(f in place and part.admissible[i, place[f]] for f in calls):
            continue
        rates = np.zeros(len(part.flows))
        for f, rate in calls.items():
            rates[place[f]] = rate
        load = part.use.one(i) @ rates / np.where(part.limit[i] > 0, part.limit[i], np.inf) / max(pool.replicas, 1)
        fullest = float(load.max(initial=0.0))
        if best is None or fullest < best[0]:
            best = fullest, column
    if best is None:
        raise NotThisPlanError(
            f"fleet: {pool.pool} ({pool.group}) runs at no operating point that this problem has: "
            "was the plan made by another version?"
        )
    return best[1]
