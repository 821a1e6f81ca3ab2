"""The restricted master of column generation: one linear program in HiGHS that grows and is solved again.

It is the relaxed `FleetModel` (a test holds them against each other) over some columns and, of these, some
flows.  Pyomo would build it anew for every round and node; here columns, flows and intervals of counts are
added to one instance that starts from its last basis, which is what makes a node cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from codesign.candidates.data import Bools, FleetData, Floats, Ints, SideLimit
from codesign.optimize.duals import Duals
from codesign.optimize.model import Penalty
from codesign.optimize.pricing import binding_rows
from codesign.optimize.solver import Solver

Interval = tuple[float, float]

_LEAST_SECONDS = 0.05
"""For a linear program at the end of the time: a few hundred columns, whose duals prove something."""


@dataclass(frozen=True)
class MasterSolution:
    """The optimum over the columns and flows that the master holds."""

    objective: float
    duals: Duals
    """Of the rows of the data; those of intervals come after the limits' (see `Master.limits`)."""
    servers: Floats
    """[O]."""
    set_aside: Floats
    """[P]."""
    modules: Floats
    """[N]."""
    shortfall: Floats
    """[C]."""
    excess: Floats
    """[L]."""
    missed: float
    """By how much an interval is missed at the most."""
    replicas: Floats
    """[held columns], in the order of `Master.columns`."""
    solved: bool
    """At the optimum; else the clock came first, and the duals prove what they prove."""


class Master:
    """A growing linear program.  Columns are those of `data`; `penalty` prices missed demand and limits."""

    def __init__(self, data: FleetData, penalty: Penalty) -> None:
        self.data = data
        self.columns: list[int] = []
        self._where: dict[int, int] = {}
        self._own_rows: dict[int, Ints] = {}
        self._replica_var: list[int] = []
        self._rate_keys: list[tuple[int, int]] = []
        self._rate_vars: list[int] = []
        self._held: set[tuple[int, int]] = set()
        self._watt = np.array([data.watt_price(h) for h in range(len(data.hardware))])
        self._hardware = np.array([p.hardware for p in data.packings], dtype=np.int64)
        self._index_flows()
        self.solver = Solver(threads=1, presolve="off")
        # Rows are scaled to one replica already; scaling them again makes the first programs four times as slow.
        self.solver.set_option("simplex_scale_strategy", 0)
        # Columns that enter keep a basis primal feasible: left to choose, HiGHS needs a third of the iterations.
        self.solver.set_option("simplex_strategy", 0)
        self._intervals: dict[str, tuple[int, SideLimit]] = {}
        self._slacks: list[int] = []
        self.penalty = penalty
        self._start(penalty)

    # ---- building ------------------------------------------------------------------------------------------

    def _index_flows(self) -> None:
        data = self.data
        # A rate is held in shares of all of its flow: of demands a billion times apart no row is rounding to another.
        self._unit = data.flow_unit
        demand = np.where(data.demand > 0, data.demand, np.inf)
        self._share = np.array(
            [
                f.tasks_per_call * unit / float(demand[f.task]) if f.serves else 0.0
                for f, unit in zip(data.flows, self._unit.tolist(), strict=True)
            ]
        )
        self._task = np.array([f.task for f in data.flows], dtype=np.int64)
        self._commodity = np.array([-1 if f.commodity is None else f.commodity for f in data.flows], dtype=np.int64)
        self._sign = np.array([float(f.commodity_sign) for f in data.flows])
        hardware, groups = len(data.hardware), len(data.groups)
        self._limit_watt = np.zeros((len(data.limits), hardware))
        self._limit_group = np.zeros((len(data.limits), groups))
        self._limit_flow: list[tuple[int, Floats]] = []
        for i, limit in enumerate(data.limits):
            for h, c in limit.per_watt.items():
                self._limit_watt[i, h] = c / limit.scale
            for g, c in limit.per_group.items():
                self._limit_group[i, g] = c / limit.scale
            if limit.per_flow:
                charge = np.zeros((hardware, len(data.flows)))
                for (flow, h), c in limit.per_flow.items():
                    charge[slice(None) if h < 0 else h, flow] += c / limit.scale
                self._limit_flow.append((i, charge * self._unit))

    def _start(self, penalty: Penalty) -> None:
        """Rows that all columns share, and what is bought or missed."""
        data = self.data
        sizes = [len(data.tasks), len(data.commodities), len(data.packings), len(data.hardware), len(data.limits)]
        self._demand, self._commodities, self._packing, self._bought, self._limit = (
            int(x) for x in np.concatenate([[0], np.cumsum(sizes)[:-1]])
        )
        rows = int(sum(sizes))
        lower, upper = np.full(rows, -np.inf), np.zeros(rows)
        lower[: self._packing] = 0.0
        lower[: self._commodities] = upper[: self._commodities] = np.where(data.demand > 0, 1.0, 0.0)
        upper[self._limit :] = [limit.limit / limit.scale for limit in data.limits]
        self.solver.add_rows(lower, upper)
        entries: list[tuple[int, int, float]] = []
        costs: list[float] = []

        def variable(cost: float, rows: Sequence[tuple[int, float]]) -> None:
            entries.extend((row, len(costs), value) for row, value in rows)
            costs.append(cost)

        def limited(kind: str, index: int) -> list[tuple[int, float]]:
            members = enumerate(data.limits)
            return [
                (self._limit + i, getattr(limit, kind)[index] / limit.scale)
                for i, limit in members
                if index in getattr(limit, kind)
            ]

        for o, offer in enumerate(data.offers):
            given = [(self._bought + h, -1.0) for h in offer.supplies]
            variable(data.server_price(offer), [*given, *limited("per_server", o)])
        for p, packing in enumerate(data.packings):
            own = [(self._packing + p, -float(packing.slots)), (self._bought + packing.hardware, 1.0)]
            variable(0.0, [*own, *limited("per_packing", p)])
        for j in range(len(data.modules)):
            variable(data.module_price(j), limited("per_module", j))
        for c in range(len(data.tasks)):
            variable(penalty.shortfall, [(self._demand + c, 1.0)])
        for i in range(len(data.limits)):
            variable(penalty.excess[i], [(self._limit + i, -1.0)])
        self._offers, self._packings = 0, len(data.offers)
        self._modules = self._packings + len(data.packings)
        self._shortfalls = self._modules + len(data.modules)
        self._excesses = self._shortfalls + len(data.tasks)
        self._rows = rows
        self._count = 0
        row, column, value = (np.array(x) for x in zip(*entries, strict=True))
        self._add(np.array(costs), row.astype(np.int64), column.astype(np.int64), value.astype(np.float64))

    def _add(self, cost: Floats, row: Ints, column: Ints, value: Floats) -> None:
        """Variables ≥ 0 with entries in rows that exist; `column` counts from the first new one."""
        matrix = coo_array((value, (row, column)), shape=(self._rows, len(cost)))
        self.solver.add_columns(cost, np.zeros(len(cost)), np.full(len(cost), np.inf), matrix)
        self._count += len(cost)

    def set_penalty(self, penalty: Penalty) -> None:
        """Other prices for missed demand and limits."""
        self.penalty = penalty
        tasks, limits = len(self.data.tasks), len(self.data.limits)
        columns = [*range(self._shortfalls, self._shortfalls + tasks), *range(self._excesses, self._excesses + limits)]
        prices = [penalty.shortfall] * tasks + list(penalty.excess) + [self._slack_price] * len(self._slacks)
        self.solver.set_costs(np.array([*columns, *self._slacks], dtype=np.int64), np.array(prices))

    @property
    def _slack_price(self) -> float:
        """Of missing an interval of counts by one."""
        return max(self.penalty.shortfall, 0.0, *self.penalty.excess)

    def held(self) -> tuple[Ints, Bools]:
        """The columns held [n] and the flows that each carries [n, widest block], as `extend` takes them."""
        widest = max((len(block.flows) for block in self.data.blocks), default=0)
        flows = np.zeros((len(self.columns), widest), dtype=bool)
        for k, v in self._rate_keys:
            flows[self._where[k], v] = True
        return np.array(self.columns, dtype=np.int64), flows

    def extend(self, columns: Ints, flows: Bools) -> int:
        """Hold these columns with these flows [n, widest block]; what is held already is not added twice.

        Returns the number of new variables.
        """
        before = self._count
        block_of = np.searchsorted(self.data.offsets, columns, side="right") - 1
        for b in np.unique(block_of):
            here = np.flatnonzero(block_of == b)
            local = columns[here] - self.data.offsets[b]
            width = len(self.data.blocks[b].flows)
            self._extend(int(b), columns[here], local, flows[here, :width])
        return self._count - before

    def _extend(self, b: int, columns: Ints, local: Ints, flows: Bools) -> None:
        block = self.data.blocks[b]
        new = np.array([i for i, k in enumerate(columns.tolist()) if k not in self._where], dtype=np.int64)
        if len(new):
            own = local[new]
            needed = binding_rows(block.use.of(own), block.limit[own], block.admissible[own])
            count = int(np.count_nonzero(needed))
            self.solver.add_rows(np.full(count, -np.inf), np.zeros(count))
            places = np.where(needed, self._rows - 1 + np.cumsum(needed).reshape(needed.shape), -1)
            self._rows += count
            for n, i in enumerate(new.tolist()):
                k = int(columns[i])
                self._where[k] = len(self.columns)
                self.columns.append(k)
                self._own_rows[k] = places[n]
                self._replica_var.append(self._count + n)
            self._add_replicas(b, own, places)
        keys = [
            (i, v)
            for i, v in zip(*(x.tolist() for x in np.nonzero(flows & block.admissible[local])), strict=True)
            if (int(columns[i]), v) not in self._held
        ]
        if keys:
            self._add_rates(b, columns, local, keys)

    def _add_replicas(self, b: int, local: Ints, places: Ints) -> None:
        """Replicas of some columns, with what they bring to their own rows, at `places` [n, R], and to shared ones."""
        block = self.data.blocks[b]
        n = len(local)
        limit = block.limit[local]
        scale = _row_scale(limit)
        mine, r = np.nonzero(places >= 0)
        row, column, value = [places[mine, r]], [mine], [-(limit / scale)[mine, r]]
        hardware = self._hardware[block.packing[local]]
        power = block.replica_power_w[local]

        def entry(rows: Any, members: Any, values: Any) -> None:
            row.append(np.asarray(rows, dtype=np.int64))
            column.append(np.asarray(members, dtype=np.int64))
            value.append(np.asarray(values, dtype=np.float64))

        entry(self._packing + block.packing[local], np.arange(n), block.packed[local])
        if block.other_packing is not None and block.other_packed is not None:
            pairs = np.flatnonzero(block.other_packing[local] >= 0)
            entry(self._packing + block.other_packing[local][pairs], pairs, block.other_packed[local][pairs])
        shared = self._limit_group[:, block.group[local]] + self._limit_watt[:, hardware] * power[None, :]
        i, j = np.nonzero(shared)
        entry(self._limit + i, j, shared[i, j])
        for at, limit_row in self._intervals.values():
            own = np.array([limit_row.per_group.get(int(g), 0.0) for g in block.group[local]])
            entry(np.full(np.count_nonzero(own), at), np.flatnonzero(own), own[own != 0])
        self._add(
            self._watt[hardware] * power, np.concatenate(row), np.concatenate(column), np.concatenate(value)
        )

    def _add_rates(self, b: int, columns: Ints, local: Ints, keys: list[tuple[int, int]]) -> None:
        block = self.data.blocks[b]
        at, v = (np.array(x, dtype=np.int64) for x in zip(*keys, strict=True))
        use = np.empty((len(keys), block.use.shape[1]))
        for start in range(0, len(columns), 256):
            inside = (at >= start) & (at < start + 256)
            use[inside] = block.use.of(local[start : start + 256])[at[inside] - start, :, v[inside]]
        flow = block.flows[v]
        unit = self._unit[flow]
        value = use * unit[:, None] / _row_scale(block.limit[local][at])
        hardware = self._hardware[block.packing[local]][at]
        power = block.flow_power_w[block.use.source[local][at], v] * unit
        places = np.array([self._own_rows[int(k)] for k in columns.tolist()])[at]
        n, r = np.nonzero((value != 0) & (places >= 0))
        row, column, entries = [places[n, r]], [n], [value[n, r]]
        serving = np.flatnonzero(self._share[flow])
        row.append(self._demand + self._task[flow[serving]])
        column.append(serving)
        entries.append(self._share[flow[serving]])
        paired = np.flatnonzero(self._commodity[flow] >= 0)
        row.append(self._commodities + self._commodity[flow[paired]])
        column.append(paired)
        entries.append(self._sign[flow[paired]])
        if block.flow_slots is not None:
            reserved = block.flow_slots[block.use.source[local][at], v] * unit
            row.append(self._packing + block.packing[local][at])
            column.append(np.arange(len(keys)))
            entries.append(reserved)
        shared = self._limit_watt[:, hardware] * power[None, :]
        for i, charge in self._limit_flow:
            shared[i] += charge[hardware, flow]
        limits, members = np.nonzero(shared)
        row.append(self._limit + limits)
        column.append(members)
        entries.append(shared[limits, members])
        named = [(int(columns[m]), w) for m, w in keys]
        self._held.update(named)
        self._rate_keys += named
        self._rate_vars += list(range(self._count, self._count + len(keys)))
        self._add(
            self._watt[hardware] * power, np.concatenate(row), np.concatenate(column), np.concatenate(entries)
        )

    # ---- intervals of counts -------------------------------------------------------------------------------

    def restrict(self, intervals: Mapping[str, tuple[SideLimit, Interval]]) -> None:
        """Hold sums of counts within intervals, by name; a name's coefficients never change, others are freed."""
        fresh = {name: members for name, (members, _) in intervals.items() if name not in self._intervals}
        if fresh:
            self._add_intervals(fresh)
        if not self._intervals:
            return
        rows = np.array([row for row, _ in self._intervals.values()], dtype=np.int64)
        asked = [intervals[name][1] if name in intervals else (-np.inf, np.inf) for name in self._intervals]
        low, high = np.array(asked, dtype=np.float64).T
        changed = (low != self.solver.row_lower[rows]) | (high != self.solver.row_upper[rows])
        self.solver.set_row_bounds(rows[changed], low[changed], high[changed])

    def _add_intervals(self, sums: Mapping[str, SideLimit]) -> None:
        row: list[int] = []
        column: list[int] = []
        value: list[float] = []
        group = self._groups().tolist() if self.columns else []
        for n, members in enumerate(sums.values()):
            parts = [
                (self._offers, members.per_server),
                (self._packings, members.per_packing),
                (self._modules, members.per_module),
            ]
            entries = [(first + i, c) for first, coefficients in parts for i, c in coefficients.items()]
            if members.per_group:
                held = zip(self._replica_var, group, strict=True)
                entries += [(at, members.per_group[g]) for at, g in held if g in members.per_group]
            row += [n] * len(entries)
            column += [at for at, _ in entries]
            value += [c for _, c in entries]
        places = (np.array(row, dtype=np.int64), np.array(column, dtype=np.int64))
        count = len(sums)
        matrix = coo_array((np.array(value, dtype=np.float64), places), shape=(count, self._count))
        self.solver.add_rows(np.full(count, -np.inf), np.full(count, np.inf), matrix)
        self._intervals |= {name: (self._rows + n, members) for n, (name, members) in enumerate(sums.items())}
        # Columns that the master does not hold yet may be what keeps to the interval: it is missed at a price.
        self._slacks += range(self._count, self._count + 2 * count)
        rows = np.repeat(np.arange(self._rows, self._rows + count), 2)
        self._rows += count
        sign = np.tile([1.0, -1.0], count)
        self._add(np.full(2 * count, self._slack_price), rows, np.arange(2 * count, dtype=np.int64), sign)

    def _groups(self) -> Ints:
        """[held columns] group of each."""
        return np.array(
            [self.data.blocks[b].group[i] for b, i in self.data.locate(self.columns)], dtype=np.int64
        )

    # ---- solving -------------------------------------------------------------------------------------------

    def solve(self, intervals: Sequence[str] = (), seconds: float = np.inf) -> MasterSolution:
        """The optimum; duals of `intervals` follow those of the limits, upper side first, each ≥ 0."""
        run = self.solver.run(max(_LEAST_SECONDS, seconds))
        if run.feasible:
            values, dual = self.solver.values(), self.solver.duals()
        else:  # stopped before its first point: no duals are duals too, and prove what they prove
            values, dual = np.zeros(self._count), np.zeros(self._rows)
        data = self.data
        limit = np.maximum(0.0, -dual[self._limit : self._limit + len(data.limits)])
        sides: list[float] = []
        for name in intervals:
            found = dual[self._intervals[name][0]]
            sides += [max(0.0, -found), max(0.0, found)]
        duals = Duals(
            dual[self._demand : self._commodities],
            dual[self._commodities : self._packing] / data.commodity_unit,
            np.concatenate([limit, sides]),
            np.maximum(0.0, -dual[self._bought : self._limit]),
        )
        return MasterSolution(
            run.objective,
            duals,
            values[self._offers : self._packings],
            values[self._packings : self._modules],
            values[self._modules : self._shortfalls],
            values[self._shortfalls : self._excesses],
            values[self._excesses : self._excesses + len(data.limits)],
            float(values[self._slacks].max(initial=0.0)),
            values[self._replica_var] if self.columns else np.zeros(0),
            run.status == "optimal",
        )

    def rates(self) -> dict[tuple[int, int], float]:
        """Calls/s by (column, position of the flow in its block) at the last solution, where not zero."""
        values = self.solver.values().tolist()
        offsets, blocks = self.data.offsets, self.data.blocks
        found = {}
        for (k, v), at in zip(self._rate_keys, self._rate_vars, strict=True):
            if values[at] > 0:
                flow = blocks[int(np.searchsorted(offsets, k, side="right")) - 1].flows[v]
                found[k, v] = values[at] * float(self._unit[flow])
        return found


def _row_scale(limit: Floats) -> Floats:
    """What rows are divided by: what a replica offers; a limit below zero lets none run."""
    return np.where(limit == 0, 1.0, np.abs(limit))
