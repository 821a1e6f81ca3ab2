"""Solve a fleet problem: relaxation, incumbents, and a gap that counts every column.

The bound is the relaxation's over *all* columns, or the MILP's where every column that could improve the
plan is inside it (reduced-cost fixing proves the others away).  A restricted MILP's own gap never shows.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyomo.environ as pyo
from pyomo.common.errors import InfeasibleConstraintException

from codesign.candidates.data import Bools, FleetData, Ints
from codesign.optimize.branch import Tree
from codesign.optimize.dominance import undominated
from codesign.optimize.highs import CompiledModel, Outcome
from codesign.optimize.model import FleetModel
from codesign.optimize.redundancy import most_servers, usable_rows
from codesign.optimize.redundancy import spared as packings_spared
from codesign.optimize.relaxation import Relaxation, relax, whole_columns
from codesign.optimize.scale import objective_scale, scaled
from codesign.optimize.strengthen import strengthened, with_spares

Progress = Callable[[str, float, float], None]
"""Called with (stage, incumbent objective or inf, global bound)."""

_SMALL = 40_000
"""Row entries up to which the whole problem goes to the MILP at once."""
_RESTRICTED = (60, 120)
"""Columns of the first MILPs, which look for plans."""
_INSIDE = 1 - 1e-9
"""Of the gap asked for: what nodes are given up at, so that the gap reported is not above it by rounding."""
_EXACT, _WHOLE = 1e-6, 1e-6
"""Relative tolerance within which an objective is its bound: that of the rows."""
_POLISH_SECONDS = 2.0
_FIRST_PLAN_SHARE = 0.1
_PLAN_SHARE = 0.06
"""Of the time left, for one MILP: while there is no plan yet, and once there is one."""
_NODE_SHARE, _POLISH_SHARE = 0.06, 0.03
"""The same where a dive ended, and for the columns of a plan just found."""
_DIVE, _BETWEEN_DIVES = 20, 16
"""Nodes of a dive at the most, and nodes of least bound before the next."""
_AT_HAND, _AT_HAND_PER_GROUP = 60, 4
"""Columns, over all and of one group, among which a plan is sought where a dive ended."""
_NEARBY_SHARE, _NEARBY_GAP = 0.25, 0.1
"""For the plans nearby: of the time left, and the gap of their MILP as a share of the one asked for."""
_ADOPT_SECONDS = 2.0
_NARROWS = 0.5
"""The tree goes on with the survivors alone once they are fewer than this share of its columns."""
_IN_SUPPORT = 1e-6
_SURVIVORS = 1500
"""Columns up to which a MILP over all that could improve the plan is tried as a proof."""


@dataclass(frozen=True)
class Start:
    """What a plan of a similar problem buys and runs: where a search may start."""

    columns: tuple[int, ...]
    """Those of the plan and of its relaxation."""
    replicas: dict[int, int] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)
    spares: dict[int, int] = field(default_factory=dict)
    modules: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetPlan:
    """The best plan found and what is proven about it.  All figures in objective units."""

    status: str
    """optimal | feasible | infeasible | no_solution."""
    objective: float
    bound: float
    replicas: dict[int, int] = field(default_factory=dict)
    """By column."""
    rates: dict[tuple[int, int], float] = field(default_factory=dict)
    """Calls/s by (column, flow index)."""
    servers: dict[int, int] = field(default_factory=dict)
    """By offer."""
    spares: dict[int, int] = field(default_factory=dict)
    """By group."""
    demand_duals: tuple[float, ...] = ()
    commodity_duals: tuple[float, ...] = ()
    limit_duals: tuple[float, ...] = ()
    modules: dict[int, int] = field(default_factory=dict)
    """By module."""
    server_duals: tuple[float, ...] = ()
    """By row of hardware: what one more of its servers would be worth before its price."""
    pool: tuple[int, ...] = ()
    """Columns of the plan and of its relaxation: where solving a similar problem may start."""
    columns_undominated: int = 0
    columns_considered: int = 0
    nodes: int = 0
    rounds: int = 0
    stopped_by: str | None = None
    """clock | interrupt, where one of them ended the search."""

    @property
    def start(self) -> Start:
        """Where solving a similar problem may start."""
        return Start(self.pool, self.replicas, self.servers, self.spares, self.modules)

    def divided(self, factor: float) -> FleetPlan:
        """The same with its objective, and with it all prices, divided by `factor`."""
        return replace(
            self,
            objective=self.objective / factor,
            bound=self.bound / factor,
            demand_duals=tuple(price / factor for price in self.demand_duals),
            commodity_duals=tuple(price / factor for price in self.commodity_duals),
            limit_duals=tuple(price / factor for price in self.limit_duals),
            server_duals=tuple(price / factor for price in self.server_duals),
        )

    @property
    def gap(self) -> float:
        """(value − bound)/|value|, over every column enumerated."""
        if not np.isfinite(self.objective):
            return float("inf")
        return max(0.0, (self.objective - self.bound) / max(abs(self.objective), 1e-12))


@dataclass
class _Search:
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

    def tell(self, stage: str, incumbent: float, bound: float) -> None:
        if self.progress is not None:
            self.progress(stage, min(incumbent, self.objective), max(bound, self.bound))

    def closed(self) -> bool:
        allowed = max(self.gap, _EXACT) * abs(self.objective)
        return bool(np.isfinite(self.objective) and self.objective - self.bound <= allowed)

    def cutoff(self) -> float:
        """Objective from which a plan no longer matters: the gap asked for below the best, less what rounding takes."""
        return self.objective - self.gap * _INSIDE * abs(self.objective) if np.isfinite(self.objective) else np.inf

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def running(self) -> list[tuple[int, float]]:
        """(column, calls/s) of what the best plan uses."""
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

    def adopt(self, start: Start) -> None:
        """Take the counts of a similar plan where they keep the rows of this problem and cost less than the best."""
        model = FleetModel(self.data, sorted(start.replicas), relaxed=False)
        counts: dict[int, float] = {}
        for name in ("servers", "modules", "replicas", "spares"):
            held: dict[int, int] = getattr(start, name)
            for index, variable in model.pyomo.component(name).items():
                variable.fix(held.get(index, 0))
                counts[id(variable)] = variable.value
        try:
            compiled = CompiledModel(model.pyomo, self.threads, self.seed)
        except InfeasibleConstraintException:
            return
        outcome = compiled.run(time_limit=_ADOPT_SECONDS, cancel=self.cancel)
        if outcome.values and outcome.objective < self.objective:
            self.best, self.values, self.objective = model, {**outcome.values, **counts}, outcome.objective

    def milp(
        self, columns: Ints, stage: str, share: float = 1.0, complete: bool = False, gap: float | None = None
    ) -> Outcome:
        """A MILP over some columns; keeps its plan when it is the best so far.

        `complete`: every column that could improve the plan is among them, so the MILP's bound is global.
        `gap`: its own, whatever is proven; without one it ends as soon as the plan is good enough.
        """
        model = FleetModel(self.data, columns.tolist(), relaxed=False)
        try:
            compiled = CompiledModel(model.pyomo, self.threads, self.seed)
        except InfeasibleConstraintException:  # these columns leave a task without any flow
            return Outcome("infeasible", np.inf, np.inf, 0, {}, {})
        if self.best is not None:
            compiled.start_from(_carry(self.best, self.values, model))
        stops = gap is None and self.bound > 0 and self.gap < 1
        good_enough = self.bound / (1 - self.gap * _INSIDE) if stops else -np.inf
        outcome = compiled.run(
            gap=gap or (self.gap if complete else self.gap * 0.5),
            time_limit=max(0.2, self.left() * share),
            good_enough=good_enough,
            progress=lambda incumbent, bound: self.tell(stage, incumbent, bound if complete else -np.inf),
            cancel=self.cancel,
        )
        self.nodes += outcome.nodes
        self.considered = max(self.considered, len(columns))
        if outcome.values and outcome.objective < self.objective:
            objective, values = _settle(compiled, outcome)
            if objective < self.objective:
                self.best, self.values, self.objective = model, values, objective
        return outcome


class FleetSolver:
    """Solves a fleet problem again and again while its prices, rates, limits or ε rows change, columns unchanged.

    What does not depend on the change is kept: the tightened rows and the undominated columns as long as rates stay.
    Every solve prices all columns anew, so each has a bound of its own, and no result depends on what was solved
    before.  Several threads may solve at once as long as rates stay.
    """

    def __init__(self, data: FleetData, threads: int = 2, seed: int = 0, prune: bool = True) -> None:
        self._threads, self._seed, self._prune = threads, seed, prune
        self._tighten(data)

    def solve(
        self,
        data: FleetData | None = None,
        *,
        gap: float = 0.005,
        time_limit: float = 60.0,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        start: Sequence[Start] = (),
        floor: float = -np.inf,
    ) -> FleetPlan:
        """The best fleet of `data`: the solver's own, or one with the same blocks and other numbers beside them.

        `start` are plans of similar problems: their columns are combined first, and the best of those that are plans of
        this problem is one to improve on.  `floor` is a bound that is known already.  Raises ValueError for other
        blocks.
        """
        deadline = time.monotonic() + time_limit
        data = self._data if data is None else data
        if len(data.blocks) != len(self._data.blocks) or any(
            mine is not theirs for mine, theirs in zip(self._data.blocks, data.blocks, strict=True)
        ):
            raise ValueError("these are other columns: make a FleetSolver of them")
        tight = self._tightened(data)
        factor = objective_scale(tight)

        def tell(stage: str, incumbent: float, bound: float) -> None:
            if progress is not None:
                progress(stage, incumbent / factor, bound / factor)

        search = _Search(
            scaled(tight, factor), gap, deadline, self._threads, self._seed, cancel or threading.Event(), tell
        )
        search.bound = floor * factor
        plan = _solve(search, [self._inside(plan) for plan in start]).divided(factor)
        return replace(
            plan,
            replicas={int(self._kept[k]): n for k, n in plan.replicas.items()},
            rates={(int(self._kept[k]), f): rate for (k, f), rate in plan.rates.items()},
            pool=tuple(int(self._kept[k]) for k in plan.pool),
            columns_undominated=len(self._kept),
        )

    def _inside(self, start: Start) -> Start:
        """A start by the positions of its columns among those kept; columns alone where the plan needs another one."""
        place = {int(k): i for i, k in enumerate(self._kept.tolist())}
        columns = tuple(place[k] for k in start.columns if k in place)
        if not all(k in place for k in start.replicas):
            return Start(columns)
        return replace(start, columns=columns, replicas={place[k]: n for k, n in start.replicas.items()})

    def _tightened(self, data: FleetData) -> FleetData:
        """Rows tightened for the rates, dominated columns dropped; as they were where rates are."""
        rates = ("demand", "calls_bound")
        if not all(np.array_equal(getattr(self._data, name), getattr(data, name)) for name in rates):
            self._tighten(data)
        return replace(data, blocks=self._tight.blocks)

    def _tighten(self, data: FleetData) -> None:
        tight = strengthened(data)
        self._data = data
        self._kept = np.flatnonzero(undominated(tight)) if self._prune else np.arange(data.columns)
        self._tight = _only(tight, self._kept)


def solve_fleet(
    data: FleetData,
    gap: float = 0.005,
    time_limit: float = 60.0,
    threads: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    prune: bool = True,
) -> FleetPlan:
    """The least-objective fleet with a bound over every column of `data`.

    Returns a plan with status infeasible when that is proven, no_solution when a limit came first.  `prune`
    drops dominated columns first, which changes no optimum.
    """
    deadline = time.monotonic() + time_limit
    solver = FleetSolver(data, threads, seed, prune)
    left = max(deadline - time.monotonic(), 0.0)
    return solver.solve(gap=gap, time_limit=left, progress=progress, cancel=cancel)


def _solve(search: _Search, start: Sequence[Start]) -> FleetPlan:
    """The search over the columns that it holds, from plans of similar problems."""
    data = search.data
    known = sorted({k for plan in start for k in plan.columns})
    for plan in start:
        if plan.replicas:
            search.adopt(plan)
    nearby = np.array(sorted({k for plan in start for k in plan.replicas}), dtype=np.int64)
    if search.best is not None:
        # What plans nearby run is few columns, so all their counts are weighed against one another in seconds.  That
        # tells neighbours apart which are closer to one another than any bound is to them.
        search.milp(nearby, "plans nearby", share=_NEARBY_SHARE, gap=search.gap * _NEARBY_GAP)
        if search.closed():
            return _read(search, None, None)
    relaxation = relax(
        data,
        search.deadline,
        progress=lambda value, bound: search.tell("relaxation", np.inf, bound),
        cancelled=search.cancel.is_set,
        start=known,
    )
    if relaxation.infeasible:
        return FleetPlan(
            "infeasible", np.inf, np.inf, rounds=relaxation.rounds
        )
    search.bound = max(search.bound, relaxation.bound)
    infeasible = False
    if search.best is not None:  # the same with what this problem's own relaxation would run
        columns = np.union1d(nearby, _promising(data, relaxation, _RESTRICTED[0])).astype(np.int64)
        search.milp(columns, "plans nearby", share=_NEARBY_SHARE, gap=search.gap * _NEARBY_GAP)
        if search.closed():
            return _read(search, relaxation, None)
    if _entries(data) <= _SMALL:
        outcome = search.milp(np.arange(data.columns), "plan", complete=True)
        infeasible = outcome.status == "infeasible"
        search.raise_bound(outcome.bound)
    else:
        spared = with_spares(data)
        if spared is not data:
            relaxation = relax(
                spared,
                search.deadline,
                start=_held(relaxation),
                cancelled=search.cancel.is_set,
                duals=relaxation.duals,
                intervals=usable_rows(packings_spared(data), most_servers(data), {}),
            )
            search.raise_bound(relaxation.bound)
        for size in _RESTRICTED:
            if not search.over():
                share = _PLAN_SHARE if search.best is not None else _FIRST_PLAN_SHARE
                columns = np.union1d(_promising(data, relaxation, size), np.array(known, dtype=np.int64))
                search.seek(columns, "plan", share)
        if search.best is None and not search.over():
            search.seek(np.array(whole_columns(data, 1), dtype=np.int64), "plan", _FIRST_PLAN_SHARE)
        if not search.over():
            infeasible = _branch_and_prove(spared, relaxation, search)
    if search.best is not None and not search.closed():
        # What the plan uses, solved once more for itself: idle replicas and servers go.
        search.deadline = max(search.deadline, time.monotonic() + _POLISH_SECONDS)
        search.milp(search.used(), "polish", share=1.0)
    if search.best is None:
        status = "infeasible" if infeasible else "no_solution"
        return FleetPlan(
            status, np.inf, search.bound, columns_considered=search.considered, nodes=search.nodes
        )
    stopped = None
    if not search.closed():
        stopped = "interrupt" if search.cancel.is_set() else "clock"
    return _read(search, relaxation, stopped)


def _entries(data: FleetData) -> int:
    """Entries that all columns' own rows have: what a MILP over all of them has to carry."""
    return sum(block.use.shape[1] * int(np.count_nonzero(block.admissible)) for block in data.blocks)


def _promising(data: FleetData, relaxation: Relaxation, size: int) -> Ints:
    """Columns of least reduced cost: most from the master, the best of each group beside them."""
    reduced = relaxation.reduced_cost
    group = np.concatenate([b.group for b in data.blocks])
    master = np.array(relaxation.columns)
    master = master[np.argsort(reduced[master], kind="stable")][: size * 2 // 3]
    chosen = set(master.tolist())
    seen: dict[int, int] = {}
    for k in np.argsort(reduced, kind="stable").tolist():
        if len(chosen) >= size:
            break
        seen[int(group[k])] = seen.get(int(group[k]), 0) + 1
        if seen[int(group[k])] <= 3:
            chosen.add(k)
    return np.array(sorted(chosen), dtype=np.int64)


def _held(relaxation: Relaxation) -> list[int]:
    """Columns that the relaxation runs or nearly does."""
    return [k for k in relaxation.columns if k in relaxation.running or relaxation.reduced_cost[k] < _IN_SUPPORT]


def _branch_and_prove(spared: FleetData, root: Relaxation, search: _Search) -> bool:
    """Close the gap: branch on counts, look for plans below the nodes, prove by a MILP over the survivors.

    `spared` is the problem that the bounds are of (its columns are those of the search).  Returns True where no
    plan exists.
    """
    kept = np.flatnonzero(_survivors(root, search))
    ceiling = search.cutoff()
    tree = Tree(_only(spared, kept), root, _positions(kept, _held(root)), root.reduced_cost[kept])
    turn = -1
    while not search.over():
        node = tree.step(search.cutoff(), search.deadline, search.cancel.is_set, dive=turn < 0)
        search.raise_bound(min(tree.bound, ceiling))
        if node is None:
            break
        search.nodes += 1
        search.tell("branching", np.inf, search.bound)
        turn = turn - 1 if turn < 0 else turn + 1
        if tree.landed or turn <= -_DIVE:
            # The plan's own columns and those at hand where the dive ended: few, and never worse.
            columns = {k for k, _ in search.running()} | {int(kept[k]) for k in _at_hand(tree.data, node)}
            search.seek(np.array(sorted(columns), dtype=np.int64), "branching", _NODE_SHARE)
            ceiling = min(ceiling, search.cutoff())
            left = _survivors(root, search)[kept]
            if np.count_nonzero(left) < _NARROWS * len(left):
                tree.narrow(
                    left,
                    _positions(np.flatnonzero(left), [k for k in tree.held() if left[k]]),
                    root.duals,
                    root.reduced_cost[kept],
                )
                kept = kept[left]
            turn = 1
        if turn >= _BETWEEN_DIVES:
            turn = -1
    if search.over():
        return False
    survivors = np.flatnonzero(_survivors(root, search))
    if len(survivors) > _SURVIVORS:
        return False
    outcome = search.milp(survivors, "proof", complete=True)
    search.raise_bound(min(outcome.bound, search.cutoff()) if search.best is not None else outcome.bound)
    return outcome.status == "infeasible" and search.best is None


def _at_hand(data: FleetData, node: Relaxation) -> list[int]:
    """Columns that a node's relaxation runs, and those that cost least beyond what they earn there."""
    group = np.concatenate([b.group for b in data.blocks])
    chosen = dict.fromkeys(node.running)
    seen: dict[int, int] = {}
    for k in np.argsort(node.reduced_cost, kind="stable").tolist():
        if len(chosen) >= _AT_HAND:
            break
        g = int(group[k])
        seen[g] = seen.get(g, 0) + 1
        if seen[g] <= _AT_HAND_PER_GROUP:
            chosen[k] = None
    return list(chosen)


def _only(data: FleetData, columns: Ints) -> FleetData:
    mask = np.zeros(data.columns, dtype=bool)
    mask[columns] = True
    return data.keep(mask)


def _survivors(root: Relaxation, search: _Search) -> Bools:
    """Columns that a plan cheap enough to matter could use: reduced cost within its distance from the bound."""
    allowance = search.cutoff() - root.bound
    if not np.isfinite(allowance):
        return np.ones(len(root.reduced_cost), dtype=bool)
    return np.asarray(root.reduced_cost <= allowance + 1e-9 * abs(search.objective))


def _positions(kept: Ints, columns: list[int]) -> list[int]:
    """Positions of `columns` among the `kept` ones (ascending); those that were not kept are left out."""
    place = {int(k): i for i, k in enumerate(kept.tolist())}
    return [place[k] for k in columns if k in place]


def _carry(old: FleetModel, values: dict[int, float], new: FleetModel) -> dict[int, float]:
    """The incumbent's values under the new model's variables."""
    carried: dict[int, float] = {}
    for variable in old.pyomo.component_objects(pyo.Var):
        twin = new.pyomo.component(variable.local_name)
        if twin is None:
            continue
        for index in variable:
            value = values.get(id(variable[index]), 0.0)
            if value and index in twin:
                carried[id(twin[index])] = value
    return carried


def _settle(compiled: CompiledModel, outcome: Outcome) -> tuple[float, dict[int, float]]:
    """The objective and values of an exactly integer plan: counts rounded, rates solved again."""
    settled = compiled.settle(outcome.values)
    if not settled.values:
        return outcome.objective, outcome.values
    return settled.objective, settled.values


def _read(search: _Search, relaxation: Relaxation | None, stopped: str | None) -> FleetPlan:
    """The best plan as found, with shadow prices where there was a relaxation."""
    model, values = search.best, search.values
    assert model is not None
    m = model.pyomo

    def whole(variable: object) -> int:
        return round(values.get(id(variable), 0.0))

    # Some replicas are whole only because their servers are (FleetModel): what they run on is there.
    replicas = {k: math.ceil(values.get(id(m.replicas[k]), 0.0) - _WHOLE) for k in model.columns}
    rates = {
        (k, int(model.place[k][0].flows[v])): values.get(id(m.rate[k, v]), 0.0)
        for k, v in model.flow_keys
    }
    used = {k for k, n in replicas.items() if n}
    found = FleetPlan(
        status="optimal" if search.closed() else "feasible",
        objective=search.objective,
        bound=min(search.bound, search.objective),
        replicas={k: n for k, n in replicas.items() if n},
        rates={key: x for key, x in rates.items() if x > 0 and replicas[key[0]]},
        servers={o: whole(m.servers[o]) for o in m.servers if whole(m.servers[o])},
        spares={g: whole(m.spares[g]) for g in m.spares if whole(m.spares[g])},
        modules={j: whole(m.modules[j]) for j in m.modules if whole(m.modules[j])},
        pool=tuple(sorted(used)),
        columns_considered=search.considered,
        nodes=search.nodes,
        stopped_by=stopped,
    )
    if relaxation is None:
        return found
    duals = relaxation.duals
    return replace(
        found,
        demand_duals=tuple(duals.demand.tolist()),
        commodity_duals=tuple(duals.commodity.tolist()),
        limit_duals=tuple(duals.limit.tolist()),
        server_duals=tuple(duals.bought.tolist()),
        pool=tuple(sorted(used | set(_held(relaxation)))),
        rounds=relaxation.rounds,
    )
