"""A search for the best fleet: the best plan and bound so far, and MILPs over some columns that look for better."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pyomo.common.errors import InfeasibleConstraintException

from codesign.candidates.data import FleetData, Ints, SideLimit
from codesign.optimize.highs import CompiledModel, Outcome
from codesign.optimize.lean import Held
from codesign.optimize.lp import SolverError
from codesign.optimize.model import FleetModel
from codesign.optimize.scale import spending

Progress = Callable[[str, float, float], None]
"""Called with (stage, incumbent objective or inf, global bound)."""

_INSIDE = 1 - 1e-9
"""Of the gap asked for: what nodes are given up at, so that the gap reported is not above it by rounding."""
_EXACT = 1e-6
"""Relative tolerance within which an objective is its bound: that of the rows."""
_POLISH_SHARE = 0.03
"""Of the time left, for the MILP over the columns of a plan just found."""
_ADOPT_SECONDS = 2.0
_WHOLE = 1e-6
"""A count this far above a whole one is that one."""
_NOTHING = 1e-9
"""Objective, in units in which a plan costs about a hundred, that is none."""
_SAME = 1e-8
"""Relative difference of objectives that cost the same."""
_TIDIED, _TIDY_SECONDS = 400, 2.0
"""Columns up to which plans of one cost are looked for among all of them, and for how long."""
_MERGE_SECONDS = 3.0
"""For plans of fewer pools."""


@dataclass(frozen=True)
class Start:
    """What a plan of a similar problem buys and runs: where a search may start."""

    columns: tuple[int, ...]
    """Those of the plan and of its relaxation."""
    replicas: dict[int, int] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)
    spares: dict[int, int] = field(default_factory=dict)
    modules: dict[int, int] = field(default_factory=dict)


@dataclass
class Search:
    """What is known of the best fleet of `data` while it is looked for."""

    data: FleetData
    gap: float
    deadline: float
    threads: int
    seed: int
    cancel: threading.Event
    progress: Progress | None
    best: FleetModel | None = None
    values: dict[int, float] = field(default_factory=dict)
    objective: float = np.inf
    bound: float = -np.inf
    nodes: int = 0
    considered: int = 0
    keeps: bool = True
    """Are plans over `data` plans?  Of columns that hold more than loads that keep their promises they are none."""
    prover: Search | None = None
    """Of the columns that bounds are over, where those of `data` are fewer; its plans are none of `data`."""

    @property
    def proof(self) -> Search:
        """What MILPs for bounds are asked of: itself, or its prover with what is known by now."""
        if self.prover is None:
            return self
        self.prover.objective, self.prover.bound, self.prover.deadline = self.objective, self.bound, self.deadline
        return self.prover

    def tell(self, stage: str, incumbent: float, bound: float) -> None:
        """Report progress, if anybody listens: never worse than what is known."""
        if self.progress is not None:
            self.progress(stage, min(incumbent, self.objective), max(bound, self.bound))

    def closed(self) -> bool:
        """Is the gap that was asked for reached?"""
        allowed = max(self.gap, _EXACT) * abs(self.objective) + _NOTHING
        return bool(np.isfinite(self.objective) and self.objective - self.bound <= allowed)

    def cutoff(self) -> float:
        """Objective from which a plan no longer matters: the gap asked for below the best, less what rounding takes."""
        return self.objective - self.gap * _INSIDE * abs(self.objective) if np.isfinite(self.objective) else np.inf

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def running(self) -> list[tuple[int, float]]:
        """(column, sum of the shares of its flows) of what the best plan uses."""
        if self.best is None:
            return []
        rates: dict[int, float] = {}
        for k, v in self.best.flow_keys:
            rates[k] = rates.get(k, 0.0) + self.values.get(id(self.best.pyomo.rate[k, v]), 0.0)
        return [(k, rate) for k, rate in rates.items() if rate > 1e-9]

    def used(self) -> Ints:
        """Columns that the best plan uses: a MILP over them alone is small, and drops idle replicas and servers."""
        return np.array([k for k, _ in self.running()], dtype=np.int64)

    def over(self) -> bool:
        """Is there nothing to do, or no time to do it?"""
        return self.closed() or self.left() <= 0 or self.cancel.is_set()

    def raise_bound(self, bound: float) -> None:
        """Note a bound that holds for every column that could improve the plan."""
        self.bound = max(self.bound, min(bound, self.objective))

    def seek(self, columns: Ints, stage: str, share: float) -> None:
        """Look for a better plan among some columns for a share of the time left, then for a better one of its kind."""
        before = self.objective
        self.milp(columns, stage, share)
        if self.objective < before and not self.over():
            self.milp(self.used(), stage, _POLISH_SHARE)

    def adopt(self, start: Start, worse: float = -_SAME) -> None:
        """Take the counts of a similar plan where they keep the rows of this problem and cost less than the best.

        `worse`: the share of the best's objective by which they may cost more.
        """
        model = FleetModel(self.data, sorted(start.replicas), relaxed=False)
        counts: dict[int, float] = {}
        for name in ("servers", "modules", "replicas", "spares"):
            held: dict[int, int] = getattr(start, name)
            for index, variable in model.pyomo.component(name).items():
                if name != "modules" or self.data.modules[index].whole:
                    counts[id(variable)] = float(held.get(index, 0))
        try:
            compiled = CompiledModel(model.pyomo, self.threads, self.seed)
        except InfeasibleConstraintException:
            return
        compiled.hold(counts)
        compiled.tighten()  # these rates are the plan's
        outcome = compiled.run(time_limit=_ADOPT_SECONDS, cancel=self.cancel)
        rounding = _NOTHING if worse > 0 else 0.0
        most = self.objective + worse * abs(self.objective) + rounding if self.best is not None else np.inf
        if outcome.values and outcome.objective <= most:
            self.best, self.values, self.objective = model, {**outcome.values, **counts}, outcome.objective

    def milp(
        self,
        columns: Ints,
        stage: str,
        share: float = 1.0,
        complete: bool = False,
        gap: float | None = None,
        under: Sequence[SideLimit] = (),
        tight: bool = False,
    ) -> Outcome:
        """A MILP over some columns, `under` further limits; keeps its plan when it is the best so far.

        `complete`: every column that could improve the plan is among them, so the MILP's bound is global.
        `gap`: its own, whatever is proven; without one it ends as soon as the plan is good enough.  `tight`: held to
        smaller tolerances.
        """
        data = self.data.with_limits(under) if under else self.data
        model = FleetModel(data, columns.tolist(), relaxed=False)
        try:
            compiled = CompiledModel(model.pyomo, self.threads, self.seed)
        except InfeasibleConstraintException:  # these columns leave a task without any flow
            return Outcome("infeasible", np.inf, np.inf, 0, {}, {})
        if tight:
            compiled.tighten()
        stops = self.keeps and gap is None and self.bound > 0 and self.gap < 1
        good_enough = self.bound / (1 - self.gap * _INSIDE) if stops else -np.inf
        outcome = _run(
            compiled,
            tight=tight,
            gap=gap or (self.gap if complete else self.gap * 0.5),
            time_limit=max(0.2, self.left() * share),
            good_enough=good_enough,
            proven=np.inf if self.keeps else self.cutoff(),
            progress=lambda incumbent, bound: self.tell(stage, incumbent, bound if complete else -np.inf),
            cancel=self.cancel,
        )
        self.nodes += outcome.nodes
        self.considered = max(self.considered, len(columns))
        if self.keeps and outcome.values and outcome.objective < self.objective:
            settled = settle(compiled, model, outcome)
            if settled is None and not tight:  # whole numbers were so to HiGHS's tolerance alone
                return self.milp(columns, stage, share, complete, gap, under, tight=True)
            if settled is None:
                outcome = replace(outcome, status="no_solution", objective=np.inf, values={})
            elif settled.objective < self.objective:
                self.best, self.values, self.objective = model, settled.values, settled.objective
        if not model.exact:  # some M may have cut off the best plan
            status = "no_solution" if outcome.status == "infeasible" else outcome.status
            outcome = replace(outcome, status=status, bound=-np.inf)
        return outcome

    def tidy(self) -> None:
        """Of plans that cost the same, the one of the fewest servers: what nobody uses is not bought.

        Where something has no price the MILP is indifferent to it, and plans within a gap may hold what a closer look
        drops.  Over all columns where they are few, else over those of the plan.
        """
        if self.best is None:
            return
        data = self.data
        free = any(data.server_price(offer) == 0 for offer in data.offers) or any(
            data.module_price(j) == 0 for j in range(len(data.modules))
        )
        if not free and not Held(data, self.best, self.values).idle():
            return
        self._fewest(np.arange(data.columns) if data.columns <= _TIDIED else self.used())

    def merge(self) -> None:
        """Of plans that cost the same, one of fewer pools: what a small one does the others often have room for."""
        deadline = time.monotonic() + _MERGE_SECONDS
        for k, _ in sorted(self.running(), key=lambda item: item[1]):
            others = self.used()
            if k in others and len(others) > 1 and time.monotonic() < deadline and not self.cancel.is_set():
                self._fewest(others[others != k], self._bought())

    def _bought(self) -> int:
        """Servers of the best plan."""
        assert self.best is not None
        return sum(round(self.values.get(id(v), v.value or 0.0)) for v in self.best.pyomo.servers.values())

    def _fewest(self, columns: Ints, most_servers: float = math.inf) -> None:
        """Take the plan of the fewest servers over some columns, if it costs no more and has no more than so many."""
        data = self.data
        most = self.objective * (1.0 + _SAME)
        try:
            model = FleetModel(data.with_limits([spending(data, most)]), columns.tolist(), relaxed=False, fewest=True)
            compiled = CompiledModel(model.pyomo, self.threads, self.seed)
        except (InfeasibleConstraintException, SolverError):  # what costs next to nothing stays as it was found
            return
        compiled.tighten()
        outcome = _run(compiled, tight=True, time_limit=_TIDY_SECONDS, cancel=self.cancel)
        settled = settle(compiled, model, outcome) if outcome.values else None
        if settled is None:
            return
        m, values = model.pyomo, settled.values

        def counts(family: Any) -> dict[int, int]:
            found = {i: values.get(id(v), v.value or 0.0) for i, v in family.items()}
            return {i: math.ceil(n - _WHOLE) for i, n in found.items() if n > _WHOLE}

        replicas = counts(m.replicas)
        servers = counts(m.servers)
        if sum(servers.values()) > most_servers:
            return
        start = Start(tuple(replicas), replicas, servers, counts(m.spares), counts(m.modules))
        self.adopt(start, worse=2 * _SAME)


def _run(compiled: CompiledModel, time_limit: float, tight: bool = False, **options: Any) -> Outcome:
    """One run, and a second one without presolve where nothing is possible with it, or at `tight` tolerances.

    Seen with 1.16: presolve fixes a count that misses its row by half a tolerance, and then finds no plan; at 1e-9 it
    calls 4 servers optimal where 3 keep all rows exactly.  What both prove is believed.
    """
    deadline = time.monotonic() + time_limit
    first = compiled.run(time_limit=time_limit, **options)
    if not (tight or first.status == "infeasible"):
        return first
    compiled.solver.set_option("presolve", "off")
    second = compiled.run(time_limit=max(0.2, deadline - time.monotonic()), **options)
    better, other = sorted([second, first], key=lambda outcome: outcome.objective)
    doubted = better.status == "infeasible" and other.status != "infeasible"
    status = "no_solution" if doubted else better.status
    return replace(better, status=status, bound=min(first.bound, second.bound), nodes=first.nodes + second.nodes)


def settle(compiled: CompiledModel, model: FleetModel, outcome: Outcome) -> Outcome | None:
    """An exactly integer plan: counts rounded, rates solved again on what runs; None where that leaves no plan."""
    m = model.pyomo
    counts = {k: outcome.values.get(id(m.replicas[k]), m.replicas[k].value or 0.0) for k in model.columns}
    # A replica may be fractional only where it is read rounded up.
    idle = {id(m.rate[k, v]) for k, v in model.flow_keys if counts[k] <= _WHOLE}
    settled = compiled.settle(outcome.values, idle)
    return settled if settled.status == "optimal" else None
