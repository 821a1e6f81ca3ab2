"""Fewer replicas for the same calls: counts that the accounts allow where rows ask for more.

Rows of columns are safe for every mix of calls and every size of a pool, so a plan often has a few replicas more than
its own mix needs.  Once it is known, each pool is asked for the fewest with which the accounts of
:mod:`~codesign.solution` keep every promise of every task, small pools are emptied into others, and servers are bought
for the counts that are left.  Counts are lowered one at a time from a plan that holds, and accounts only fall with
them, so that any plan between the two holds as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.edges import STEADY
from codesign.clock import Clock
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.recount import bought, rows_need
from codesign.solution.colocated import operate_colocated
from codesign.solution.counted import counted
from codesign.solution.operation import Known, operate, tier_seconds
from codesign.solution.promises import Way, keeps_slos, ways
from codesign.solution.schema import Polish, PolishedPool, Solution
from codesign.solution.stages import split
from codesign.solution.state import PoolState

_SAVED = 1e-6
"""Relative: a plan that is cheaper by less is as good as the one before, which keeps its margin; and so is a bound."""
_MORE = 0.01
"""Share of more calls for which pools are steady."""
_CLOSE = 1e-8
"""Relative; of the batch that those bring."""
_ROWS_BEYOND = 1.1
"""Of its replicas, what rows may ask of a pool that takes others' calls: accounts do not allow that much more."""
_LOWER_SHARE = 0.7
"""Of the time for all of it, until servers are bought for the first time."""
_NAMED = 3
"""Pools that a note names at the most."""

Counts = tuple[dict[int, int], dict[tuple[int, int], float]]
"""Replicas by column, and calls/s by (column, flow)."""


@dataclass(frozen=True)
class Polished:
    """A cheaper plan, and the candidates whose rows say what its replicas carry."""

    candidates: Candidates
    plan: FleetPlan
    """Without a bound where it costs less than what was thought to be one."""
    before: FleetPlan


def polished(candidates: Candidates, plan: FleetPlan, clock: Clock) -> Polished | None:
    """A plan of the same calls that costs less, by the clock's deadline; None where nothing is saved.

    Nothing is proven by it.  The bound stays, and with it the status; one that the plan lies below is no bound.
    """
    stages = [part.candidates for part in candidates.stages] or [candidates]
    plans = split(candidates.stages, plan) if candidates.stages else [plan]
    counts: list[_Recount] = []
    for alone, part in zip(stages, plans, strict=True):
        # Stages share the time: those that come to nothing leave theirs to the others.
        counts.append(_Recount(alone, part, clock.part(clock.left() * _LOWER_SHARE / (len(stages) - len(counts)))))
        counts[-1].lower()
    best = _bought(candidates, plan, [(own.replicas, own.rates) for own in counts], clock)
    for n, own in enumerate(counts):
        for emptied in own.emptied(clock.part(clock.left() / (len(stages) - n))):
            held = [emptied if m == n else (other.replicas, other.rates) for m, other in enumerate(counts)]
            found = _bought(candidates, plan, held, clock)
            # Where servers cannot be had for it, or cost more, the pool stays.
            if found is not None and (best is None or found.objective < best.objective * (1.0 - _SAVED)):
                best = found
                own.replicas, own.rates = emptied
    if best is None or not best.objective < plan.objective - _SAVED * abs(plan.objective):
        return None
    needed = rows_need(candidates.data, best.rates)
    best = replace(best, by_rows={k: n for k, n in needed.items() if n > best.replicas[k]})
    if best.objective < plan.bound - _SAVED * abs(plan.bound):
        best = replace(best, status="feasible", bound=-np.inf)
    else:
        best = replace(best, bound=min(plan.bound, best.objective))
    return Polished(counted(candidates, best), best, plan)


def _bought(candidates: Candidates, plan: FleetPlan, held: Sequence[Counts], clock: Clock) -> FleetPlan | None:
    """What is bought for the counts and calls of each stage; None where they are the plan's, or nothing was found."""
    replicas: dict[int, int] = {}
    rates: dict[tuple[int, int], float] = {}
    firsts = [(part.columns, part.flows) for part in candidates.stages] or [(0, 0)]
    for (column, flow), (own, calls) in zip(firsts, held, strict=True):
        replicas |= {column + k: n for k, n in own.items()}
        rates |= {(column + k, flow + f): rate for (k, f), rate in calls.items()}
    if replicas == plan.replicas or clock.stopped():
        return None
    options = candidates.instance.options
    return bought(
        candidates.data,
        plan,
        replicas,
        rates,
        seconds=clock.left(),
        threads=options.threads,
        seed=options.seed,
        cancel=clock.cancel,
    )


def noted(solution: Solution, found: Polished, before: Solution) -> Solution:
    """The solution of a polished plan with what polish has done to the solution before it."""
    old, new = _named(found.candidates, found.before, before), _named(found.candidates, found.plan, solution)
    pools = []
    for column, (name, count) in old.items():
        now, left = new.get(column, (name, 0))
        if left != count:
            pools.append(PolishedPool(pool=now, before=count, after=left))
    note = None
    if not math.isfinite(found.plan.bound):
        saved = sorted(pools, key=lambda pool: pool.after - pool.before)
        words = ", ".join(f"{pool.pool} ({pool.before} → {pool.after} replicas)" for pool in saved[:_NAMED])
        more = "" if len(saved) <= _NAMED else f" and {len(saved) - _NAMED} more"
        note = (
            f"The bound {found.before.bound:.6g} {solution.objective.unit} is withdrawn: this plan costs less and "
            f"keeps every promise. It was the least over configurations whose limits ask for more replicas than "
            f"promises need, in {words}{more}."
        )
    return solution.model_copy(update={"polish": Polish(value=found.before.objective, pools=tuple(pools), note=note)})


def _named(candidates: Candidates, plan: FleetPlan, solution: Solution) -> dict[int, tuple[str, int]]:
    """(name, replicas) of a plan's pools by column: solutions list them in its order, one stage after another."""
    firsts = [part.columns for part in candidates.stages] or [0]
    columns = sorted(plan.replicas, key=lambda k: int(np.searchsorted(firsts, k, side="right")))
    return {k: (pool.pool, pool.replicas) for k, pool in zip(columns, solution.fleet, strict=True)}


class _Recount:
    """The counts of one stage while they fall, each set known to keep all promises."""

    def __init__(self, candidates: Candidates, plan: FleetPlan, clock: Clock) -> None:
        self._candidates, self._plan, self._clock = candidates, plan, clock
        self.replicas, self.rates = dict(plan.replicas), dict(plan.rates)
        self._states: Known = {}
        self._tasks: dict[tuple[object, ...], bool] = {}
        self._price = {k: self._replica_price(k) for k in plan.replicas if self._modelled(k)}
        """Of the pools that accounts say anything of: a measured one has its rates and nothing else."""

    @cached_property
    def _before(self) -> set[int]:
        """Which states are those of the plan."""
        return {id(state) for state in operate(self._candidates, self._plan, self._states).values()}

    @cached_property
    def _holds(self) -> bool:
        """Do the accounts of the plan itself hold?  Asked for where anything could be left out."""
        return self._keeps(self._plan.replicas, self._plan.rates)

    def lower(self) -> None:
        """The fewest replicas of each pool beside the others, dearest first."""
        for k in sorted(self._price, key=lambda k: -self._price[k] * self.replicas[k]):
            self._fewest(k, self.replicas, self.rates)

    def emptied(self, clock: Clock) -> Iterator[Counts]:
        """Counts and calls after one pool less, whose calls another one takes for fewer replicas' worth; the cheapest
        pool first.  Whoever likes them takes them over."""
        self._clock = clock
        for k in sorted(self._price, key=lambda k: self._price[k] * self.replicas[k]):
            for other in sorted((self._price.keys() & self.replicas.keys()) - {k}, key=lambda j: self._price[j]):
                if self._over():
                    return
                moved = self._moved(k, other) if self._may_take(other, k) else None
                if moved is not None:
                    yield moved
                if k not in self.replicas:
                    break

    def _moved(self, column: int, other: int) -> Counts | None:
        """All calls of a pool moved to another one, which grows by less than the first costs; None where it cannot."""
        rates: dict[tuple[int, int], float] = {}
        for (k, f), rate in self.rates.items():
            key = (other, f) if k == column else (k, f)
            rates[key] = rates.get(key, 0.0) + rate
        worth, each = self._price[column] * self.replicas[column], self._price[other]
        grown = max(math.ceil(worth / each * (1.0 - 1e-9)) - 1, 0) if each > 0 else 0
        replicas = {k: n + (grown if k == other else 0) for k, n in self.replicas.items() if k != column}
        rows = rows_need(self._candidates.data, {key: rate for key, rate in rates.items() if key[0] == other})
        if rows[other] > _ROWS_BEYOND * replicas[other] + 1.0 or not (self._holds and self._keeps(replicas, rates)):
            return None
        self._fewest(other, replicas, rates, low=self.replicas[other] - 1)
        return replicas, rates

    def _fewest(
        self, column: int, replicas: dict[int, int], rates: dict[tuple[int, int], float], low: int = 0
    ) -> None:
        """Lower one count, which holds, as far as all promises hold; `low` is too few.

        Most pools have none too many, or a few: one less comes first, then two, four and so on.
        """
        high, step = replicas[column], 1
        while high - low > 1 and not self._over() and self._holds:
            middle = max(high - step, (low + high) // 2)
            if self._keeps({**replicas, column: middle}, rates):
                high, step = middle, 2 * step
            else:
                low, step = middle, high  # from here on by halves
        replicas[column] = high

    def _over(self) -> bool:
        return self._clock.stopped() is not None

    def _keeps(self, replicas: dict[int, int], rates: dict[tuple[int, int], float]) -> bool:
        """Do the accounts of all pools and tasks hold with these counts?"""
        candidates = self._candidates
        plan = replace(self._plan, replicas=replicas, rates=rates)
        # Beyond a pool's capacity there is no fixed point, and figures say so.
        with np.errstate(all="ignore"):
            states = operate(candidates, plan, self._states)
            if not all(self._within(state) and self._steady(state, rates) for state in states.values()):
                return False
            routes = ways(candidates, plan, states)
            return all(
                self._promised(c, [way for way in routes if way.flow.task == c])
                for c in range(len(candidates.instance.tasks))
            )

    def _within(self, state: PoolState) -> bool:
        """Has a pool the memory, slots, links and time that its calls take?  One that is as it was has them by rows."""
        if id(state) in self._before:
            return True
        shares = state.shares
        held = state.fullest <= 1.0 and all(shares.get(name, 0.0) <= 1.0 for name in ("slots", "link"))
        busy = shares.get("busy", 0.0) <= self._candidates.instance.options.max_utilization
        ends = bool(np.isfinite([state.step_s, state.batch, state.wait_s]).all())
        return held and busy and ends

    def _steady(self, state: PoolState, rates: dict[tuple[int, int], float]) -> bool:
        """Do a few more calls bring a few more sequences, and not many?  Where they do, rows of colocated pools end."""
        if id(state) in self._before or not state.step_s > 0:
            return True
        if state.chunked is not None:
            flows = tuple((flow, rate * (1.0 + _MORE)) for flow, rate in state.flows)
            reload = [tier_seconds(flow, state.table) for flow, _ in flows]
            batch = operate_colocated(
                state.table, flows, state.replicas, state.chunked.chunk, reload, state.batch, _CLOSE
            ).batch
        else:
            more = {(k, f): rate * (1.0 + _MORE) for (k, f), rate in rates.items() if k == state.column}
            plan = replace(self._plan, replicas={state.column: state.replicas}, rates=more)
            batch = operate(self._candidates, plan, self._states)[state.column].batch
        return bool(batch <= state.batch * (1.0 + _MORE) ** STEADY)

    def _promised(self, task: int, routes: Sequence[Way]) -> bool:
        key = (task, *((id(way.prefill), id(way.decode), way.flow.commodity, way.calls_per_s) for way in routes))
        if key not in self._tasks:
            instance = self._candidates.instance
            self._tasks[key] = not routes or keeps_slos(self._candidates, instance.tasks[task], list(routes))
        return self._tasks[key]

    def _may_take(self, column: int, other: int) -> bool:
        """May a pool run all that another one of its role and model does?"""
        data = self._candidates.data
        (b, i), (c, j) = data.locate([column, other])
        mine, theirs = data.groups[int(data.blocks[b].group[i])], data.groups[int(data.blocks[c].group[j])]
        block = data.blocks[b]
        flows = {f for k, f in self.rates if k == other}
        able = set(block.flows[block.admissible[i]].tolist())
        return (mine.role, mine.work) == (theirs.role, theirs.work) and flows <= able

    def _modelled(self, column: int) -> bool:
        return self._candidates.points[self._candidates.data.locate([column])[0][0]] is not None

    def _replica_price(self, column: int) -> float:
        """Objective of a replica: its slots in the cheapest servers, and what it draws."""
        data = self._candidates.data
        b, i = data.locate([column])[0]
        block = data.blocks[b]
        price = float(block.replica_power_w[i]) * data.watt_price(data.packings[int(block.packing[i])].hardware)
        for _, packing, packed in block.take(np.array([i])).places():
            row = data.packings[int(packing[0])].hardware
            offers = [o for o in data.offers if row in o.supplies]
            server = min((data.server_price(o) * data.shares(o)[row] for o in offers), default=0.0)
            price += float(packed[0]) * server / data.hardware[row].accelerators
        return price
