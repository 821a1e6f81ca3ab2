"""What it costs to be ready for scenarios, and what happens to a plan that is not."""

from __future__ import annotations

from dataclasses import replace

from codesign.candidates.build import Candidates
from codesign.candidates.data import SideLimit
from codesign.clock import Clock
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.model import Penalty
from codesign.optimize.relaxation import relax
from codesign.problem.instance import NOMINAL
from codesign.solution.schema import Robustness, Solution

_HARD = 1e4
"""Price of exceeding a limit, in tasks left unserved."""


def robustness(
    candidates: Candidates, solution: Solution, nominal: Candidates, plan: FleetPlan, clock: Clock
) -> Robustness:
    """The price of robustness of a `solution` over scenarios, beside the `plan` for the nominal problem alone.

    What the unprepared fleet can serve is asked until the clock's deadline; what is not known then stays open.
    """
    risk = candidates.instance.risk
    assert risk is not None
    prepared = next((s.value for s in solution.scenarios if s.name == NOMINAL), None)
    optimum = plan.objective if plan.replicas else None
    price = None
    if prepared is not None and optimum:
        price = (prepared - optimum) / optimum
    return Robustness(
        measure=risk.measure,
        level=risk.level,
        nominal=prepared,
        nominal_optimum=optimum,
        price=price,
        unprepared=_served(candidates, nominal, plan, clock) if plan.replicas else {},
    )


def _served(
    candidates: Candidates, nominal: Candidates, plan: FleetPlan, clock: Clock
) -> dict[str, float]:
    """By scenario, the share of its tasks (each class counts alike) that the nominal plan's purchase can serve.

    At least so much, where the clock ends first; nothing where it has ended.
    """
    if clock.stopped() or clock.short(candidates.data.columns):
        return {}
    clock.tell("the nominal plan in the scenarios")
    data = candidates.data
    servers = {nominal.data.offers[o].name: count for o, count in plan.servers.items()}
    modules = {nominal.data.modules[m].name: count for m, count in plan.modules.items()}
    fixed = [
        SideLimit(f"bought {offer.name}", "servers", float(servers.get(offer.name, 0)), {o: 1.0})
        for o, offer in enumerate(data.offers)
    ]
    fixed += [
        SideLimit(f"bought {m.name}", "modules", float(modules.get(m.name, 0)), per_module={j: 1.0})
        for j, m in enumerate(data.modules)
        if m.whole
    ]
    # Offers that must be taken anew in no scenario: what the nominal plan keeps of the existing fleet is enough.
    limits = tuple(limit for limit in data.limits if limit.limit >= 0)
    held = replace(data, usd_weight=0.0, watt_weight=0.0, limits=(*limits, *fixed))
    penalty = Penalty(1.0, (_HARD,) * len(held.limits))
    found = relax(held, clock.deadline, penalty=penalty, cancelled=clock.cancel.is_set)
    served: dict[str, float] = {}
    for name in dict.fromkeys(part.stage.scenario for part in candidates.stages):
        parts = [part for part in candidates.stages if part.stage.scenario == name]
        short = sum(
            part.stage.share * found.shortfall[part.tasks + c]
            for part in parts
            for c in range(len(part.candidates.data.tasks))
        )
        tasks = len(parts[0].candidates.data.tasks)
        served[name] = float(max(0.0, 1.0 - short / tasks))
    return served
