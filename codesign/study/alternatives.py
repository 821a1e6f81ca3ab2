"""Plans that cost almost the same and differ as much as they can: what a buyer takes into a negotiation.

Two ways to find them: rules that a buyer would try (another vendor, no disaggregation, fewer kinds), and a search
that spends as little as it can on what the plans so far have bought, within the allowed cost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import FleetData, Offer, SideLimit
from codesign.candidates.objectives import ceiling, figure
from codesign.clock import PlanProgress
from codesign.optimize.fleet import FleetPlan, FleetSolver
from codesign.problem import Issue, Problem, ProblemError, resolve
from codesign.problem.extremes import EXTREMES
from codesign.solution.build import build_solution
from codesign.solution.schema import Alternative, Solution
from codesign.witnesses import witnessed

_SAME = 0.02
"""Plans that differ by less are one."""
_UNUSED_PRICE = 0.05
"""Of its price, what a part costs that no plan has bought yet, while the others cost theirs."""
_TIME_SHARE = 0.5
"""Of the time limit, for each alternative."""

Progress = Callable[[PlanProgress], None]


@dataclass(frozen=True)
class Alternatives:
    """The best plan, whose `alternatives` sum up the others, and the others in full."""

    best: Solution
    plans: tuple[Solution, ...]


def alternatives(
    problem: Problem,
    count: int = 5,
    within: float = 0.02,
    *,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    command: str = "",
) -> Alternatives:
    """Up to `count` plans whose objective is at most (1 + `within`) times the best plan's, as different as can be.

    Each is a plan of the problem like the best one: checked alike, and with the same bound.  `time_limit_s` holds for
    the best plan; each alternative takes up to half of it.  Raises ProblemError.
    """
    started = time.monotonic()
    instance = resolve(problem)
    if instance.objective in EXTREMES:
        expected = "cost, energy, carbon or power, which alternatives can be held to"
        raise ProblemError([Issue(problem.file, None, "objective", instance.objective, expected)])
    candidates = build_candidates(instance)
    options = candidates.instance.options
    asked = options.gap if gap is None else gap
    limit = options.time_limit_s if time_limit_s is None else time_limit_s

    solver = FleetSolver(candidates.data, options.threads, options.seed)

    def plan_of(data: FleetData, seconds: float, stage: str, *near: FleetPlan) -> FleetPlan:
        def hear(_: str, incumbent: float, bound: float) -> None:
            if progress is not None:
                progress(PlanProgress(stage, None, None, None, time.monotonic() - started))

        hear(stage, np.inf, -np.inf)
        starts = [plan.start for plan in near]
        return solver.solve(data, gap=asked, time_limit=seconds, progress=hear, cancel=cancel, start=starts)

    def told(plan: FleetPlan) -> Solution:
        seconds = {"optimize": time.monotonic() - started}
        solution = build_solution(candidates, plan, str(problem.name), command, seconds)
        # A plan close to the best is held to the row that says how close; its objective and proof are the problem's.
        return witnessed(instance, candidates, plan, solution, asked)

    best = plan_of(candidates.data, limit, "best plan")
    first = told(best)
    if not first.fleet:
        return Alternatives(first, ())
    most = best.objective + within * abs(best.objective)
    found: list[tuple[str, Solution]] = []
    for what, data in _proposals(candidates, first, most, lambda: [s for _, s in found], count):
        if cancel is not None and cancel.is_set():
            break
        plan = plan_of(data, limit * _TIME_SHARE, what, best)
        if plan.replicas:
            value = _value(candidates.data, plan)
            if value <= most * (1 + 1e-9):
                solution = told(_as_plan_of(best, plan, value, asked))
                if solution.fleet:
                    found.append((what, solution))
    chosen = _most_different(first, found, count)
    summary = tuple(
        Alternative(
            what=what,
            value=_known(plan),
            extra=_known(plan) / _known(first) - 1.0,
            difference=difference(first, plan),
            accelerators=plan.totals.accelerators if plan.totals else {},
        )
        for what, plan in chosen
    )
    return Alternatives(first.model_copy(update={"alternatives": summary}), tuple(plan for _, plan in chosen))


def difference(one: Solution, other: Solution) -> float:
    """Share of the money that goes elsewhere: to another part, model or role.  0 for the same, 1 for nothing alike."""
    a, b = _spending(one), _spending(other)
    return 1.0 - sum(min(share, b.get(key, 0.0)) for key, share in a.items())


def _spending(solution: Solution) -> dict[tuple[str, str | None, str], float]:
    total = sum(pool.cost_per_hour for pool in solution.fleet) or 1.0
    shares: dict[tuple[str, str | None, str], float] = {}
    for pool in solution.fleet:
        key = (pool.hardware, pool.model, pool.role)
        shares[key] = shares.get(key, 0.0) + pool.cost_per_hour / total
    return shares


def _proposals(
    candidates: Candidates, best: Solution, most: float, so_far: Callable[[], list[Solution]], count: int
) -> Iterator[tuple[str, FleetData]]:
    """(what is different, the fleet problem that makes it so)."""
    data = candidates.data
    spent: dict[str, float] = {}
    for pool in best.fleet:
        spent[pool.hardware] = spent.get(pool.hardware, 0.0) + pool.cost_per_hour
    by_spending = sorted(spent, key=lambda name: -spent[name])
    vendor = {item.name: item.vendor for item in data.hardware}
    vendors = list(dict.fromkeys(vendor[name] for name in by_spending))
    for name in vendors:
        if len(set(vendor.values())) > 1:
            theirs = {hardware for hardware, by in vendor.items() if by == name}
            yield f"nothing from {name}", data.with_limits([_no_servers(data, theirs)])
    roles = {group.role for group in data.groups}
    used = {pool.role for pool in best.fleet}
    if used & {"prefill", "decode"} and "colocated" in roles:
        yield "no disaggregation", data.with_limits([_no_groups(data, ("prefill", "decode"))])
    if "colocated" in used and {"prefill", "decode"} <= roles:
        yield "prefill and decode apart everywhere", data.with_limits([_no_groups(data, ("colocated",))])
    for kinds in range(len(by_spending) - 1, 0, -1):
        kept = set(by_spending[:kinds])
        word = "kind" if kinds == 1 else "kinds"
        yield f"{kinds} {word} of hardware alone", data.with_limits([_no_servers(data, set(vendor) - kept)])
        if kinds <= len(by_spending) - 2:
            break
    yield f"no {by_spending[0]}", data.with_limits([_no_servers(data, {by_spending[0]})])
    row = ceiling(data, candidates.instance, candidates.instance.objective, most)
    for _ in range(count):
        bought = {pool.hardware for plan in (best, *so_far()) for pool in plan.fleet}
        yield "as little as possible of the plans above", _elsewhere(data, bought).with_limits([row])


def _no_servers(data: FleetData, forbidden: set[str]) -> SideLimit:
    rows = {o: 1.0 for o, offer in enumerate(data.offers) if _named(data, offer) & forbidden}
    return SideLimit("alternative", "servers", 0.0, per_server=rows)


def _named(data: FleetData, offer: Offer) -> set[str]:
    """Names of the hardware that an offer brings."""
    return {data.hardware[row].name for row in offer.supplies}


def _no_groups(data: FleetData, roles: tuple[str, ...]) -> SideLimit:
    rows = {g: 1.0 for g, group in enumerate(data.groups) if group.role in roles}
    return SideLimit("alternative", "replicas", 0.0, per_group=rows)


def _elsewhere(data: FleetData, bought: set[str]) -> FleetData:
    """The problem of spending as little as can be on some hardware."""
    offers = tuple(
        replace(
            offer,
            usd_per_hour=max(offer.usd_per_hour, 1e-3)
            * (1.0 if _named(data, offer) <= bought else _UNUSED_PRICE),
        )
        for offer in data.offers
    )
    free = tuple(replace(item, electricity_usd_per_wh=0.0) for item in data.hardware)
    return replace(data, offers=offers, hardware=free, usd_weight=1.0, watt_weight=0.0)


def _as_plan_of(best: FleetPlan, plan: FleetPlan, value: float, gap: float) -> FleetPlan:
    """A plan under the problem's own objective, with the bound of all its plans."""
    bound = min(best.bound, value)
    mine = replace(
        plan, objective=value, bound=bound, demand_duals=(), commodity_duals=(), limit_duals=(), stopped_by=None
    )
    return replace(mine, status="optimal" if mine.gap <= gap else "feasible")


def _most_different(
    best: Solution, found: list[tuple[str, Solution]], count: int
) -> list[tuple[str, Solution]]:
    """Greedily the plan that differs most from all chosen, while it is another plan at all."""
    chosen: list[tuple[str, Solution]] = []
    left = list(found)
    while left and len(chosen) < count:
        apart = [min(difference(other, plan) for other in (best, *(s for _, s in chosen))) for _, plan in left]
        furthest = max(range(len(left)), key=lambda i: (apart[i], -i))
        if apart[furthest] < _SAME:
            break
        chosen.append(left.pop(furthest))
    return sorted(chosen, key=lambda item: _known(item[1]))


def _value(data: FleetData, plan: FleetPlan) -> float:
    return figure(data, plan.servers, plan.replicas, plan.spares, plan.rates, plan.modules)


def _known(solution: Solution) -> float:
    value = solution.objective.value
    assert value is not None
    return value
