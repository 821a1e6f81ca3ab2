"""Solve a fleet problem: relaxation, incumbents, and a gap that counts every column.

The bound is the relaxation's over *all* columns, or the MILP's where every column that could improve the
plan is inside it (reduced-cost fixing proves the others away).  A restricted MILP's own gap never shows.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.candidates.data import Bools, FleetData, Floats, Ints
from codesign.optimize.alone import whole_columns
from codesign.optimize.branch import Leaf, Tree
from codesign.optimize.dominance import undominated
from codesign.optimize.duals import Duals, affordable
from codesign.optimize.lean import NO_SHARE, Held
from codesign.optimize.model import FleetModel
from codesign.optimize.pricer import Pricer
from codesign.optimize.redundancy import most_servers, usable_rows
from codesign.optimize.redundancy import spared as packings_spared
from codesign.optimize.relaxation import Relaxation, relax, shut_columns, sides_of
from codesign.optimize.scale import MOST_COUNTED, objective_scale, plan_size, scaled, sized
from codesign.optimize.search import Progress, Search, Start
from codesign.optimize.strengthen import strengthened, with_spares

_SMALL = 40_000
"""Row entries up to which the whole problem goes to the MILP at once."""
_RESTRICTED = (60, 120)
"""Columns of the first MILPs, which look for plans."""
_WHOLE = 1e-6
"""A count this far above a whole one is that one."""
_POLISH_SECONDS = 2.0
_FIRST_PLAN_SHARE = 0.1
_PLAN_SHARE = 0.06
"""Of the time left, for one MILP: while there is no plan yet, and once there is one."""
_NODE_SHARE = 0.06
"""The same where a dive ended."""
_LEAF_SHARE = 0.1
"""The same where all counts are whole."""
_LEAF_AGAIN_SHARE = 0.5
"""The same once nothing else is left to do."""
_DIVE, _BETWEEN_DIVES = 20, 16
"""Nodes of a dive at the most, and nodes of least bound before the next."""
_AT_HAND, _AT_HAND_PER_GROUP = 60, 4
"""Columns, over all and of one group, among which a plan is sought where a dive ended."""
_NEARBY_SHARE, _NEARBY_GAP = 0.25, 0.1
"""For the plans nearby: of the time left, and the gap of their MILP as a share of the one asked for."""
_NARROWS = 0.5
"""The tree goes on with the survivors alone once they are fewer than this share of its columns."""
_ASKED = 60
"""Nodes without a plan after which a MILP over all columns is asked, where they are few; then after four times more."""
_SMALLER = 1e-5
"""Of the size that a plan was thought to have: what costs less is solved again at its own."""
_ROUNDING = 1e-9
"""Relative difference of objectives that are the same plan's at two sizes."""
_FINER = 0.5
"""Of the gap asked for, beside what plans' own columns prove: where bounds over more than those leave it open."""
_NOTHING_LEFT = 1e-12
_IN_SUPPORT = 1e-6
_SURVIVORS = 1500
"""Columns up to which a MILP over all that could improve the plan is tried as a proof."""


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
    """By module, of those that come in whole numbers."""
    amounts: dict[int, float] = field(default_factory=dict)
    """By module, of those that come in any amount."""
    set_aside: dict[int, int] = field(default_factory=dict)
    """Servers by packing."""
    server_duals: tuple[float, ...] = ()
    """By row of hardware: what one more of its servers would be worth before its price."""
    pool: tuple[int, ...] = ()
    """Columns of the plan and of its relaxation: where solving a similar problem may start."""
    columns_undominated: int = 0
    columns_considered: int = 0
    nodes: int = 0
    rounds: int = 0
    stopped_by: str | None = None
    """time limit | interrupt, where one of them ended the search."""
    by_rows: dict[int, int] = field(default_factory=dict)
    """Replicas that the rows of a column ask for, by column, where the accounts let the plan have fewer."""

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

    def priced(self, duals: Duals) -> FleetPlan:
        """The same with the prices of a relaxation."""
        return replace(
            self,
            demand_duals=tuple(duals.demand.tolist()),
            commodity_duals=tuple(duals.commodity.tolist()),
            limit_duals=tuple(duals.limit.tolist()),
            server_duals=tuple(duals.bought.tolist()),
        )

    def holding(self, other: FleetPlan) -> FleetPlan:
        """This plan's proof and prices, with all that another one buys and runs."""
        held = ("replicas", "rates", "servers", "spares", "modules", "amounts", "set_aside", "by_rows")
        return replace(self, **{name: getattr(other, name) for name in held})

    @property
    def gap(self) -> float:
        """(value − bound)/|value|, over every column enumerated."""
        if not np.isfinite(self.objective):
            return float("inf")
        return max(0.0, (self.objective - self.bound) / max(abs(self.objective), 1e-12))


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
        asked = Search(tight, gap, deadline, self._threads, self._seed, cancel or threading.Event(), progress)
        size = plan_size(tight)
        plan = _sought(asked, size, [self._inside(plan) for plan in start], floor)
        if plan.status == "feasible" and plan.stopped_by != "interrupt" and 0 < plan.objective < _SMALLER * size:
            # To a solver of absolute tolerances its price was rounding: once more, at its own size.
            again = _sought(asked, plan.objective, [plan.start], floor)
            if again.objective <= plan.objective * (1.0 + _ROUNDING):
                plan = again
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
        return replace(data, blocks=self._tight.blocks, outer=self._outer)

    def _tighten(self, data: FleetData) -> None:
        tight = strengthened(data)
        self._data = data
        self._kept = np.flatnonzero(undominated(tight)) if self._prune else np.arange(data.columns)
        self._tight = _only(tight, self._kept)
        self._outer = strengthened(data.bounding).blocks if data.outer else ()


def _sought(asked: Search, size: float, start: Sequence[Start], floor: float) -> FleetPlan:
    """The best fleet of what is asked for, in units of the objective and of amounts that suit a plan of `size`."""
    data, units = sized(asked.data, size)
    factor = objective_scale(data, size)

    def tell(stage: str, incumbent: float, bound: float) -> None:
        if asked.progress is not None:
            asked.progress(stage, incumbent / factor, bound / factor)

    search = replace(asked, data=scaled(data, factor), progress=tell, bound=floor * factor)
    if data.outer:
        search.prover = replace(search, data=search.data.bounding, progress=None, keeps=False)
    plan = _solve(search, start).divided(factor)
    return replace(
        plan,
        amounts={j: amount * float(units[j]) for j, amount in plan.amounts.items()},
        # Per whole limit, as the problem's own rows have it.
        limit_duals=tuple(
            dual * own.scale / row.scale
            for dual, own, row in zip(plan.limit_duals, asked.data.limits, data.limits, strict=False)
        ),
    )


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


def _solve(search: Search, start: Sequence[Start]) -> FleetPlan:
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
        progress=lambda value, bound: search.tell("relaxation", np.inf, -np.inf if search.prover else bound),
        cancelled=search.cancel.is_set,
        start=known,
    )
    root = relaxation
    if search.prover is not None:
        root = relax(
            search.prover.data,
            search.deadline,
            progress=lambda value, bound: search.tell("relaxation", np.inf, bound),
            cancelled=search.cancel.is_set,
        )
    if root.infeasible:
        return FleetPlan("infeasible", np.inf, np.inf, rounds=root.rounds)
    search.bound = max(search.bound, root.bound)
    if relaxation.infeasible:  # of these columns; nothing is known of operating points between them
        return FleetPlan("no_solution", np.inf, max(0.0, search.bound), rounds=relaxation.rounds)
    infeasible = False
    if search.best is not None:  # the same with what this problem's own relaxation would run
        columns = np.union1d(nearby, _promising(data, relaxation, _RESTRICTED[0])).astype(np.int64)
        search.milp(columns, "plans nearby", share=_NEARBY_SHARE, gap=search.gap * _NEARBY_GAP)
        if search.closed():
            return _read(search, relaxation, None)
    if _entries(data) <= _SMALL:
        outcome = search.milp(np.arange(data.columns), "plan", complete=search.prover is None)
        if search.prover is not None and not search.over():
            outcome = search.proof.milp(np.arange(search.prover.data.columns), "proof", complete=True)
            if not search.closed() and outcome.bound < search.cutoff():
                search.milp(np.arange(data.columns), "plan", gap=search.gap * _FINER)
        infeasible = outcome.status == "infeasible" and search.best is None
        search.raise_bound(outcome.bound)
    else:
        spared, root = _with_spares(search.proof.data, root, search)
        search.raise_bound(root.bound)
        relaxation = root if search.prover is None else _with_spares(data, relaxation, search)[1]
        for size in _RESTRICTED:
            if not search.over():
                share = _PLAN_SHARE if search.best is not None else _FIRST_PLAN_SHARE
                columns = np.union1d(_promising(data, relaxation, size), np.array(known, dtype=np.int64))
                search.seek(columns, "plan", share)
        if search.best is None and not search.over():
            search.seek(np.array(whole_columns(data, 1), dtype=np.int64), "plan", _FIRST_PLAN_SHARE)
        if not search.over():
            infeasible = _branch_and_prove(spared, root, search, relaxation)
        if search.prover is not None and search.best is not None and not search.over():
            _improve(search, relaxation)
    if search.best is not None and not search.closed():
        # What the plan uses, solved once more for itself: idle replicas and servers go.
        search.deadline = max(search.deadline, time.monotonic() + _POLISH_SECONDS)
        search.milp(search.used(), "polish", share=1.0)
    if search.best is None:
        status = "infeasible" if infeasible else "no_solution"
        # Nothing has a price below zero.
        bound = np.inf if infeasible else max(0.0, search.bound)
        return FleetPlan(status, np.inf, bound, columns_considered=search.considered, nodes=search.nodes)
    stopped = None
    if not search.closed() and search.over():
        stopped = "interrupt" if search.cancel.is_set() else "time limit"
    return _read(search, relaxation, stopped)


def _with_spares(data: FleetData, found: Relaxation, search: Search) -> tuple[FleetData, Relaxation]:
    """The problem that bounds are of, and its relaxation: where servers may fail, one that pays for spares."""
    spared = with_spares(data)
    if spared is data:
        return data, found
    rows = usable_rows(packings_spared(data), most_servers(data), {})
    cancelled, start = search.cancel.is_set, _held(found)
    found = relax(spared, search.deadline, start=start, cancelled=cancelled, duals=found.duals, intervals=rows)
    return spared, found


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


def _branch_and_prove(spared: FleetData, root: Relaxation, search: Search, near: Relaxation) -> bool:
    """Close the gap: branch on counts, look for plans below the nodes, prove by a MILP over the survivors.

    `spared` is the problem that the bounds are of (its columns are those of the search's proof), `near` the relaxation
    of those that plans are made of.  Returns True where no plan exists.
    """
    kept = np.flatnonzero(_survivors(root, search))
    ceiling = search.cutoff()
    tree = Tree(_only(spared, kept), root, _positions(kept, _held(root)), root.reduced_cost[kept])
    plans = None if search.prover is None else _Counterparts(search, near)
    turn, steps, ask = -1, 0, _ASKED
    while not search.over():
        steps += 1
        node = tree.step(search.cutoff(), search.deadline, search.cancel.is_set, dive=turn < 0)
        if tree.leaf is not None:
            if plans is not None:
                search.seek(plans.of(tree.leaf.relaxation), "branching", _NODE_SHARE)
            _settle(search, tree, tree.leaf, kept)
            ceiling = min(ceiling, search.cutoff())
        search.raise_bound(min(tree.bound, ceiling))
        if node is None:
            break
        search.nodes += 1
        search.tell("branching", np.inf, search.bound)
        if search.best is None and steps == ask and len(kept) <= _SURVIVORS:
            # Nodes may be many where whole numbers rule all plans out, and few columns say so at once.
            ask *= 4
            outcome = search.proof.milp(kept, "proof", _LEAF_SHARE, complete=True)
            if outcome.status == "infeasible":
                return True
            ceiling = min(ceiling, search.cutoff())
        turn = turn - 1 if turn < 0 else turn + 1
        if tree.landed or turn <= -_DIVE:
            # The plan's own columns and those at hand where the dive ended: few, and never worse.
            if plans is None:
                at_hand = [int(kept[k]) for k in _at_hand(tree.data, node.reduced_cost, node.running)]
            else:
                at_hand = plans.of(node).tolist()
            columns = {k for k, _ in search.running()} | set(at_hand)
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
    if search.best is None and math.isinf(tree.bound):  # every node is closed by a proof of its own
        return True
    survivors = np.flatnonzero(_survivors(root, search))
    if len(survivors) > _SURVIVORS:
        while not search.over() and (leaf := tree.reopen(search.cutoff())) is not None:
            _settle(search, tree, leaf, kept, again=True)
            ceiling = min(ceiling, search.cutoff())
            search.raise_bound(min(tree.bound, ceiling))
        return search.best is None and math.isinf(tree.bound)
    outcome = search.proof.milp(survivors, "proof", complete=True)
    search.raise_bound(min(outcome.bound, search.cutoff()) if search.best is not None else outcome.bound)
    return outcome.status == "infeasible" and search.best is None


def _improve(search: Search, near: Relaxation) -> None:
    """Look for a better plan where bounds leave a gap that plans' own columns may close."""
    own = replace(search, prover=None, bound=near.bound, gap=search.gap * _FINER)
    _branch_and_prove(with_spares(search.data), near, own, near)
    search.best, search.values, search.objective = own.best, own.values, own.objective
    search.nodes, search.considered = own.nodes, own.considered


class _Counterparts:
    """Columns that plans are made of, where bounds are over others: the best at the prices of a node."""

    def __init__(self, search: Search, near: Relaxation) -> None:
        self._kept = np.flatnonzero(_survivors(near, search))
        self._few = _only(search.data, self._kept)
        self._pricer = Pricer(self._few)

    def of(self, node: Relaxation) -> Ints:
        """Those of configurations that a node runs, and others that earn most at its prices."""
        duals = affordable(self._few, node.duals)
        costs = self._pricer.costs(self._few, duals)
        reduced = costs - self._pricer.values(self._few, duals, costs, exact_below=0.0)
        group = np.concatenate([b.group for b in self._few.blocks])
        run = np.flatnonzero(node.replicas > 0)
        order = np.argsort(reduced, kind="stable")
        first = [order[group[order] == g][:_AT_HAND_PER_GROUP] for g in run.tolist()]
        at_hand = _at_hand(self._few, reduced, dict.fromkeys(int(k) for some in first for k in some))
        return self._kept[np.array(sorted(at_hand), dtype=np.int64)]


def _settle(search: Search, tree: Tree, leaf: Leaf, kept: Ints, again: bool = False) -> None:
    """What the best plan under a leaf's intervals costs, by a MILP over the columns that it could use; `kept` are those
    of the tree among those of the proof.  `again`: with most of the time left, and what this tells no more is left."""
    found = leaf.relaxation
    allowed = ~shut_columns(tree.data, leaf.intervals) & (found.reduced_cost <= search.cutoff() - found.bound)
    columns = kept[np.flatnonzero(allowed)]
    if not 0 < len(columns) <= _SURVIVORS:
        tree.settle(leaf.bound if len(columns) else np.inf, final=again)
        return
    sides = [side for members, interval in leaf.intervals.values() for side in sides_of(members, interval)]
    under = [side for side in sides if side is not None]
    share = _LEAF_AGAIN_SHARE if again else _LEAF_SHARE
    outcome = search.proof.milp(columns, "leaf", share, gap=search.gap, under=under)
    tree.settle(outcome.bound, final=again and outcome.bound <= leaf.bound)


def _at_hand(data: FleetData, reduced: Floats, running: Iterable[int]) -> list[int]:
    """Columns that a node's relaxation runs, and those that cost least beyond what they earn there, `reduced`."""
    group = np.concatenate([b.group for b in data.blocks])
    chosen = dict.fromkeys(running)
    seen: dict[int, int] = {}
    for k in np.argsort(reduced, kind="stable").tolist():
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


def _survivors(root: Relaxation, search: Search) -> Bools:
    """Columns that a plan cheap enough to matter could use: reduced cost within its distance from the bound."""
    allowance = search.cutoff() - root.bound
    if not np.isfinite(allowance):
        return np.ones(len(root.reduced_cost), dtype=bool)
    return np.asarray(root.reduced_cost <= allowance + 1e-9 * abs(search.objective))


def _positions(kept: Ints, columns: list[int]) -> list[int]:
    """Positions of `columns` among the `kept` ones (ascending); those that were not kept are left out."""
    place = {int(k): i for i, k in enumerate(kept.tolist())}
    return [place[k] for k in columns if k in place]


def _read(search: Search, relaxation: Relaxation | None, stopped: str | None) -> FleetPlan:
    """The best plan as found, with shadow prices where there was a relaxation."""
    search.tidy()
    search.merge()
    model = search.best
    assert model is not None
    found = plan_of(search.data, model, search.values, search.objective)
    # Beyond it a row in double precision is no longer exact to one of them, and nothing is proven.
    counted = max([*found.replicas.values(), *found.servers.values()], default=0) <= MOST_COUNTED
    found = replace(
        found,
        status="optimal" if search.closed() and counted else "feasible",
        bound=max(0.0, min(search.bound, found.objective)),  # nothing has a price below zero
        columns_considered=search.considered,
        nodes=search.nodes,
        stopped_by=stopped,
    )
    if relaxation is None:
        return found
    pool = tuple(sorted({*found.pool, *_held(relaxation)}))
    return replace(found.priced(relaxation.duals), pool=pool, rounds=relaxation.rounds)


def plan_of(data: FleetData, model: FleetModel, values: Mapping[int, float], objective: float) -> FleetPlan:
    """What the values of a model's variables (by their ids) buy and run, without a proof; `objective` is theirs."""
    m = model.pyomo

    def whole(variable: object) -> int:
        return round(values.get(id(variable), 0.0))

    # Some replicas are whole only because their servers are (FleetModel): what they run on is there.
    replicas = {k: math.ceil(values.get(id(m.replicas[k]), 0.0) - _WHOLE) for k in model.columns}
    shares = {(k, v): values.get(id(m.rate[k, v]), 0.0) for k, v in model.flow_keys}
    rates = {
        (k, int(model.place[k][0].flows[v])): share * model.unit(k, v)
        for (k, v), share in shares.items()
        if share > NO_SHARE
    }
    amounts = Held(data, model, values).exact_amounts()
    added = (data.module_price(j) * (n - values.get(id(m.modules[j]), 0.0)) for j, n in amounts.items())
    left_out = sum(
        share * model.unit(k, v) * data.watt_price(data.packings[int(block.packing[i])].hardware)
        * float(block.flow_power_w[block.use.source[i], v])
        for (k, v), share in shares.items()
        if 0 < share <= NO_SHARE
        for block, i in (model.place[k],)
    )
    objective = objective + sum(added) - left_out
    if objective <= _NOTHING_LEFT * left_out:  # all of it was rounding, and so is what is left
        objective = 0.0
    return FleetPlan(
        status="feasible",
        objective=objective,
        bound=-np.inf,
        replicas={k: n for k, n in replicas.items() if n},
        rates={key: x for key, x in rates.items() if x > 0 and replicas[key[0]]},
        servers={o: whole(m.servers[o]) for o in m.servers if whole(m.servers[o])},
        spares={g: whole(m.spares[g]) for g in m.spares if whole(m.spares[g])},
        modules={j: whole(m.modules[j]) for j in m.modules if data.modules[j].whole and whole(m.modules[j])},
        amounts=amounts,
        set_aside={p: n for p in m.set_aside if (n := math.ceil(values.get(id(m.set_aside[p]), 0.0) - _WHOLE))},
        pool=tuple(sorted(k for k, n in replicas.items() if n)),
    )
