"""A first plan of several periods and scenarios, made of plans of single ones.

The heaviest stage is planned by itself: what it buys is mostly enough for all.  The others take its counts where those
keep their rows, else the best that its columns give there.  Bought is the most that any of them needs, so the joined
search starts from a plan instead of looking for one among as many columns as all stages have together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.identity import alike, same_columns, same_names
from codesign.candidates.stages import PER_TASK, StagePart
from codesign.clock import Clock
from codesign.optimize.fleet import FleetPlan, FleetSolver
from codesign.optimize.search import Start
from codesign.solution.stages import joined_start

_ALONE_SHARE = 0.8
"""Of the time left, for one stage by itself: without its plan there is none of all."""
_OTHERS_SECONDS, _STOPPED_SECONDS = 5.0, 0.5
"""For the counts of one stage in another, and a search among its columns; the same once it is time to stop."""
_ANY_PLAN = 1.0
"""Gap at which a search ends with the first plan that it has."""


def first_plan(candidates: Candidates, clock: Clock, gap: float, known: dict[int, Start]) -> FleetPlan | None:
    """A plan of all stages, from which the search for a better one may start; None when some has none in its time.

    Of status infeasible, without anything, where that is proven of a stage: what it asks for all ask for.  `known` are
    plans of some stages, by their place.
    """
    parts = candidates.stages
    plans = dict(known)
    floor = 0.0
    for i in sorted(range(len(parts)), key=lambda i: -_load(parts, i)):
        if i in plans:
            continue
        plan = _alike(parts, plans, i, clock)
        if plan is None:
            plan = _alone(parts[i], clock, gap)
            if plan is not None and np.isfinite(plan.bound) and parts[i].candidates.instance.objective not in PER_TASK:
                # What all cost is at least what this stage does with a fleet of its own, for its share of the hours.
                floor += parts[i].stage.share * parts[i].stage.probability * max(plan.bound, 0.0)
        if plan is None or not plan.replicas:
            return plan if plan is not None and plan.status == "infeasible" else None
        plans[i] = plan.start
    found = among(candidates, joined_start(parts, [plans[i] for i in range(len(parts))]), clock)
    return None if found is None else replace(found, bound=min(floor, found.objective))


def _load(parts: Sequence[StagePart], i: int) -> float:
    """A stage's tasks per second, each class by its most in any stage."""
    most: dict[str, float] = {}
    for part in parts:
        for task in part.candidates.instance.tasks:
            most[task.name] = max(most.get(task.name, 0.0), task.rate_per_s)
    return sum(task.rate_per_s / (most[task.name] or 1.0) for task in parts[i].candidates.instance.tasks)


def _alone(part: StagePart, clock: Clock, gap: float) -> FleetPlan | None:
    """A plan of one stage by itself; None where the time would not suffice to look for one."""
    candidates, name = part.candidates, part.stage.name or "as stated"
    clock.tell(f"{name}, by itself")
    if clock.stopped() or clock.short(candidates.data.columns):
        return None
    solver = solver_of(candidates, clock)
    return solver.solve(
        gap=gap,
        time_limit=clock.left() * _ALONE_SHARE,
        cancel=clock.cancel,
        progress=lambda what, *_: clock.tell(f"{name}, by itself: {what}"),  # what it costs alone is no plan of all
    )


def solver_of(candidates: Candidates, clock: Clock) -> FleetSolver:
    """A solver of these candidates; how long its preparation takes is noted, since nothing can stop that."""
    options, begun = candidates.instance.options, time.monotonic()
    solver = FleetSolver(candidates.data, options.threads, options.seed)
    clock.pace[0] = (time.monotonic() - begun) / max(candidates.data.columns, 1)
    return solver


def _alike(parts: Sequence[StagePart], plans: dict[int, Start], i: int, clock: Clock) -> FleetPlan | None:
    """A plan of a stage with the columns of one that has a plan: its counts as they are, where they keep the rows."""
    for j, known in plans.items():
        found = among(parts[i].candidates, moved(known, parts[j].candidates, parts[i].candidates), clock)
        if found is not None:
            return found
    return None


def moved(start: Start, of: Candidates, to: Candidates) -> Start:
    """A start of one problem as one of another, as far as that has its columns, offers, groups and modules.

    Of several stages whose columns differ only the columns are taken over.
    """
    place = same_columns([*start.columns, *start.replicas], of, to)
    if of.stages and not alike(of, to):
        return Start(tuple(sorted(place.values())))
    here, there = of.data, to.data

    def counts(word: str, held: dict[int, int]) -> dict[int, int]:
        names, others = ([item.name for item in getattr(data, word)] for data in (here, there))
        return same_names(held, names, others)

    return Start(
        tuple(sorted(place[k] for k in start.columns if k in place)),
        {place[k]: n for k, n in start.replicas.items() if k in place},
        counts("offers", start.servers),
        counts("groups", start.spares),
        counts("modules", start.modules),
    )


def among(candidates: Candidates, start: Start, clock: Clock) -> FleetPlan | None:
    """The counts of a start where they are a plan of these candidates, else another plan with its columns."""
    data, options = candidates.data, candidates.instance.options
    kept = np.array(sorted({*start.columns, *start.replicas}), dtype=np.int64)
    if not len(kept):
        return None
    mask = np.zeros(data.columns, dtype=bool)
    mask[kept] = True
    place = {int(k): n for n, k in enumerate(kept)}
    inside = Start(
        tuple(range(len(kept))),
        {place[k]: n for k, n in start.replicas.items()},
        start.servers,
        start.spares,
        start.modules,
    )
    few = data.keep(mask)
    solver = FleetSolver(few, options.threads, options.seed, prune=False)
    # What is known is worth a moment even where it is time to stop: it may be a plan of all.
    seconds = _STOPPED_SECONDS if clock.stopped() else min(_OTHERS_SECONDS, clock.left())
    cancel = None if clock.stopped() else clock.cancel
    begin = [inside]
    found = solver.solve(gap=_ANY_PLAN, time_limit=seconds, cancel=cancel, start=begin, floor=0.0)
    if not found.replicas:
        return None
    return replace(
        found,
        status="feasible",
        bound=-np.inf,  # its own is that of these columns alone
        replicas={int(kept[k]): n for k, n in found.replicas.items()},
        rates={(int(kept[k]), f): rate for (k, f), rate in found.rates.items()},
        pool=tuple(int(kept[k]) for k in found.pool),
    )
