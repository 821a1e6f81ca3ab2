"""Is this a plan of that fleet problem?  Every row of the fleet MILP, from the problem's numbers and the plan's alone.

It reads `FleetData` as its docstrings define it and shares nothing with whatever made the plan: no model, no solver, no
tightened rows.  A plan is anything with counts and rates by the positions that `FleetData` has (`Judged`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from codesign.candidates.data import FleetData, SideLimit
from codesign.check.report import LIMIT_TOLERANCE


class Judged(Protocol):
    """What a plan has to have.

    Beside it `set_aside` {packing: servers}, without which the fewest that suffice count, and `amounts` {module: any
    number} of modules that do not come in whole numbers.
    """

    @property
    def replicas(self) -> Mapping[int, float]:
        """By column."""

    @property
    def rates(self) -> Mapping[tuple[int, int], float]:
        """Calls/s by (column, flow)."""

    @property
    def servers(self) -> Mapping[int, float]:
        """By offer."""

    @property
    def spares(self) -> Mapping[int, float]:
        """By group."""

    @property
    def modules(self) -> Mapping[int, float]:
        """By module."""

    @property
    def objective(self) -> float:
        """In the objective's unit."""

    @property
    def bound(self) -> float:
        """What no plan can be below."""


@dataclass(frozen=True)
class Unmet:
    """One requirement that a plan does not meet."""

    what: str
    limit: float
    found: float


def fits(data: FleetData, plan: Judged, tolerance: float = LIMIT_TOLERANCE) -> list[Unmet]:
    """Everything that `plan` breaks, each within a relative `tolerance`; empty for a plan of `data`.

    A limit over a sum of signs is relative to what gives: its negative terms and a limit above zero.
    """
    return _Judge(data, plan, tolerance).unmet()


class _Judge:
    def __init__(self, data: FleetData, plan: Judged, tolerance: float) -> None:
        self.data, self.plan, self.tolerance = data, plan, tolerance
        amounts: Mapping[int, float] = getattr(plan, "amounts", {})
        self.modules: Mapping[int, float] = {**plan.modules, **amounts}
        self.found: list[Unmet] = []
        columns = sorted({*plan.replicas, *(k for k, _ in plan.rates)})
        self.place = {
            k: (data.blocks[b], i) for k, (b, i) in zip(columns, data.locate(columns), strict=True)
        }
        self.count: dict[int, float] = {k: plan.replicas.get(k, 0) for k in columns}
        self.calls: dict[int, dict[int, float]] = defaultdict(dict)
        """Rates by column and position of the flow in its block."""
        for (k, f), rate in plan.rates.items():
            block, i = self.place[k]
            position = {int(flow): v for v, flow in enumerate(block.flows)}.get(f, -1)
            self._at_least(f"rate of {data.flows[f].name} on column {k}", rate, 0.0)
            if position < 0 or not block.admissible[i, position]:
                self._at_most(f"{data.flows[f].name} on column {k}, which may not run it", rate, 0.0)
            else:
                self.calls[k][position] = rate
        self.running: dict[int, list[int]] = defaultdict(list)
        """Columns that run by group."""
        for k, n in self.count.items():
            if n:
                self.running[int(self.place[k][0].group[self.place[k][1]])].append(k)
        self.aside = self._set_aside()

    def unmet(self) -> list[Unmet]:
        self._counts()
        self._demand()
        self._capacity()
        self._servers()
        self._structure()
        for limit in self.data.limits:
            self._sum(limit.name, self._terms(limit), limit.limit)
        self._objective()
        return self.found

    # -- comparisons: each fails on NaN ----------------------------------------------------------------

    def _at_most(self, what: str, found: float, limit: float, size: float | None = None) -> None:
        if not found <= limit + self.tolerance * (abs(limit) if size is None else size):
            self.found.append(Unmet(what, limit, found))

    def _at_least(self, what: str, found: float, limit: float, size: float | None = None) -> None:
        if not found >= limit - self.tolerance * (abs(limit) if size is None else size):
            self.found.append(Unmet(what, limit, found))

    def _sum(self, what: str, terms: Iterable[float], limit: float) -> None:
        """Σ terms ≤ limit, relative to what gives."""
        terms = list(terms)
        gives = math.fsum(-x for x in terms if x < 0) + max(limit, 0.0)
        self._at_most(what, math.fsum(terms), limit, gives)

    # -- rows ------------------------------------------------------------------------------------------

    def _counts(self) -> None:
        """Counts are whole and not negative; purchases and pools as large as they must be if there are any."""
        data, plan = self.data, self.plan
        kinds: tuple[tuple[str, Mapping[int, float]], ...] = (
            ("replicas", plan.replicas), ("servers", plan.servers), ("spares", plan.spares),
            ("modules", self.modules), ("servers set aside", self.aside),
        )  # fmt: skip
        for word, counts in kinds:
            for i, n in counts.items():
                self._at_least(f"{word} {i}", n, 0.0)
                divides = word == "modules" and not data.modules[i].whole
                if not (math.isfinite(n) and (divides or n == math.floor(n))):
                    self.found.append(Unmet(f"{word} {i} in whole numbers", round(n) if math.isfinite(n) else 0, n))
        for o, n in plan.servers.items():
            if n:
                self._at_least(f"servers of {data.offers[o].name}, which is sold from", n, data.offers[o].min_servers)
        for k, n in self.count.items():
            block, i = self.place[k]
            if n:
                self._at_least(f"replicas {k}, whose queues are pooled", n, int(block.min_replicas[i]))

    def _demand(self) -> None:
        """Every task is served, and both phases of a commodity carry the same calls."""
        served: dict[int, float] = defaultdict(float)
        phases: dict[int, dict[int, float]] = defaultdict(lambda: {1: 0.0, -1: 0.0})
        for _, f, rate in self._flows():
            flow = self.data.flows[f]
            if flow.serves:
                served[flow.task] += flow.tasks_per_call * rate
            if flow.commodity is not None:
                phases[flow.commodity][flow.commodity_sign] += rate
        for c, demand in enumerate(self.data.demand.tolist()):
            self._at_least(f"demand of {self.data.tasks[c]}", served[c], demand)
            self._at_most(f"demand of {self.data.tasks[c]}", served[c], demand)
        for m, sides in phases.items():
            all_calls = float(self.data.commodity_unit[m])
            self._at_least(f"calls of {self.data.commodities[m]}", sides[1], sides[-1], all_calls)
            self._at_most(f"calls of {self.data.commodities[m]}", sides[1], sides[-1], all_calls)

    def _capacity(self) -> None:
        """Every row of every column, and the columns that nothing may run on."""
        for k, n in self.count.items():
            if not n:
                self._at_most(f"calls on column {k}, which has no replica", sum(self.calls[k].values()), 0.0)
                continue
            block, i = self.place[k]
            positions = list(self.calls[k])
            used = block.use.one(i)[:, positions] @ [self.calls[k][v] for v in positions]
            for r, (found, limit) in enumerate(zip(used.tolist(), block.limit[i].tolist(), strict=True)):
                self._at_most(f"{block.row_names[r]} of column {k}", found, limit * n)

    def _slots(self) -> dict[int, float]:
        """Slots occupied by packing, spares included; columns of one group are alike in them."""
        slots: dict[int, float] = defaultdict(float)
        for k, n in self.count.items():
            for p, each in self._places(k):
                slots[p] += n * each
        for g, columns in self.running.items():
            for p, each in self._places(columns[0]):
                slots[p] += self.plan.spares.get(g, 0) * each
        return slots

    def _set_aside(self) -> Mapping[int, float]:
        """Servers set aside by packing: the plan's own, or the fewest that hold what runs and spread its spares."""
        given: Mapping[int, float] | None = getattr(self.plan, "set_aside", None)
        if given:
            return given
        least = 2 if self.data.survive_one_server else 0
        slots = {p: n / self.data.packings[p].slots for p, n in self._slots().items() if n}
        return {p: max(math.ceil(n - self.tolerance * n), least) for p, n in slots.items()}

    def _servers(self) -> None:
        """Replicas and spares fit into servers set aside, and those into servers bought."""
        data = self.data
        for p, slots in self._slots().items():
            held = self.aside.get(p, 0) * data.packings[p].slots
            self._at_most(f"slots in servers {p} of {data.hardware[data.packings[p].hardware].name}", slots, held)
        bought: dict[int, float] = defaultdict(float)
        for o, n in self.plan.servers.items():
            for h in data.offers[o].supplies:
                bought[h] += n
        needed: dict[int, float] = defaultdict(float)
        for p, n in self.aside.items():
            needed[data.packings[p].hardware] += n
        for h, n in needed.items():
            self._at_most(f"servers of {data.hardware[h].name}", n, bought[h])

    def _structure(self) -> None:
        """Pools per task, designs per stage, spares, vendors."""
        data, plan = self.data, self.plan
        if not data.split_tasks:
            pools: dict[tuple[int, bool], int] = defaultdict(int)
            for _, f, rate in self._flows():
                if rate > self.tolerance * data.calls_bound[f]:
                    pools[data.flows[f].task, data.flows[f].serves] += 1
            for (c, _), n in pools.items():
                self._at_most(f"pools of a phase of {data.tasks[c]}", n, 1)
        for g in plan.spares.keys() - self.running.keys():
            self._at_most(f"spares of {data.groups[g].name}, which does not run", plan.spares[g], 0)
        if data.max_designs is not None:
            stages = [data.groups[g].stage for g in self.running]
            for stage in set(stages):
                self._at_most(f"designs in stage {stage}", stages.count(stage), data.max_designs)
        if data.survive_one_server:
            for g, columns in self.running.items():
                run = sum(self.count[k] for k in columns)
                lost = min(run, data.groups[g].replicas_lost_with_server)
                self._at_least(f"spares of {data.groups[g].name}", plan.spares.get(g, 0), lost)
                for p, _ in self._places(columns[0]):
                    self._at_least(f"servers that {data.groups[g].name} is spread over", self.aside.get(p, 0), 2)
        if data.max_vendors is not None:
            rows = {h for o, n in plan.servers.items() if n for h in data.offers[o].supplies}
            self._at_most("vendors", len({data.hardware[h].vendor for h in rows}), data.max_vendors)

    def _terms(self, limit: SideLimit) -> Iterable[float]:
        """What each thing bought or run adds to a limit."""
        plan = self.plan
        yield from (c * plan.servers.get(o, 0) for o, c in limit.per_server.items())
        yield from (c * self.aside.get(p, 0) for p, c in limit.per_packing.items())
        yield from (c * self.modules.get(j, 0) for j, c in limit.per_module.items())
        yield from (c * self.count[k] for g, c in limit.per_group.items() for k in self.running.get(g, ()))
        yield from self._watts(limit.per_watt)
        if limit.per_flow:
            for k, f, rate in self._flows():
                for h in (self._hardware(k), -1):
                    yield limit.per_flow.get((f, h), 0.0) * rate

    def _watts(self, price: Mapping[int, float]) -> Iterable[float]:
        """Mean IT power of replicas, spares and calls, times a price by the hardware of the column's first packing."""
        for k, n in self.count.items():
            if each := price.get(self._hardware(k), 0.0):
                block, i = self.place[k]
                yield each * float(block.replica_power_w[i]) * n
                for v, rate in self.calls[k].items():
                    yield each * float(block.flow_power_w[block.use.source[i], v]) * rate
        for g, columns in self.running.items():
            block, i = self.place[columns[0]]
            each = price.get(self._hardware(columns[0]), 0.0)
            yield each * float(block.replica_power_w[i]) * self.plan.spares.get(g, 0)

    def _objective(self) -> None:
        """The objective is what is bought and run costs, and no less than its bound."""
        data, plan = self.data, self.plan
        terms = [data.server_price(data.offers[o]) * n for o, n in plan.servers.items()]
        terms += [data.module_price(j) * n for j, n in self.modules.items()]
        terms += self._watts({h: data.watt_price(h) for h in range(len(data.hardware))})
        cost, size = math.fsum(terms), math.fsum(map(abs, terms))
        self._at_least("objective", plan.objective, cost, size)
        self._at_most("objective", plan.objective, cost, size)
        self._at_most("bound", plan.bound, plan.objective, size)

    # -- parts -----------------------------------------------------------------------------------------

    def _flows(self) -> Iterable[tuple[int, int, float]]:
        """(column, flow, calls/s) of everything that runs where it may."""
        for k, calls in self.calls.items():
            for v, rate in calls.items():
                yield k, int(self.place[k][0].flows[v]), rate

    def _places(self, column: int) -> list[tuple[int, float]]:
        """(packing, slots) of a replica: one, or two where it has two kinds of accelerator."""
        block, i = self.place[column]
        places = [(int(block.packing[i]), float(block.packed[i]))]
        if block.other_packing is not None and block.other_packed is not None and block.other_packing[i] >= 0:
            places.append((int(block.other_packing[i]), float(block.other_packed[i])))
        return places

    def _hardware(self, column: int) -> int:
        block, i = self.place[column]
        return self.data.packings[int(block.packing[i])].hardware
