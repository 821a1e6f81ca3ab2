"""The fleet problem once more, from the meaning of `FleetData`'s fields, for another solver (SCIP).

Nothing is shared with `codesign.optimize`.  Calls are shares of each task's own, so rates of any size read 0 to 1.
Either-or is said as such: a pool is open or has no replica, an offer is taken or sells no server, a group has as many
spares as it loses replicas or as it runs: indicator constraints, no bound on counts.  The objective is scaled by the
plans found until an optimum is of the size that a solver's tolerances are made for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from pyscipopt import Model, quicksum

COMFORTABLE = (10.0, 1e5)
"""Size of an optimum at which absolute tolerances of 1e-9 are relative ones of 1e-10 or less."""
TYPICAL = 1e3
FEASIBLE = 1e-9
"""What SCIP may miss a row by; rows are scaled to sizes of one."""
MANY = 60
"""Columns above which those that another one beats are left out."""
TINY = 1e-6
"""A share of a server, a replica or a module below which a solver may round what is needed to none of it."""


@dataclass(frozen=True)
class SecondPlan:
    """A plan by the positions of `FleetData`: `status` is optimal, infeasible or unknown (a limit came first)."""

    status: str
    objective: float = math.inf
    bound: float = -math.inf
    replicas: dict[int, int] = field(default_factory=dict)
    rates: dict[tuple[int, int], float] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)
    spares: dict[int, int] = field(default_factory=dict)
    modules: dict[int, float] = field(default_factory=dict)
    set_aside: dict[int, int] = field(default_factory=dict)


def second_optimum(data, seconds=20.0):
    """The optimum of `data` and a plan that has it, or that there is none."""
    kept = np.arange(data.columns)
    if data.columns > MANY:
        kept = worth_having(data)
        data = data.keep(np.isin(np.arange(data.columns), kept))
    scale, worst = TYPICAL / _guess(data), math.inf
    plan = SecondPlan("unknown")
    for _ in range(6):
        plan = _Second(data, scale, worst).solve(seconds)
        size = plan.objective * scale
        if plan.status != "optimal" or size == 0 or COMFORTABLE[0] <= size <= COMFORTABLE[1]:
            break
        # Nothing that costs more than a plan known is in a better one.
        scale, worst = TYPICAL / plan.objective, plan.objective
    return _numbered(plan, kept)


def better_than(data, value, seconds=20.0):
    """A plan that costs less than `value` by more than a relative 1e-6; infeasible where there is none, or unknown.

    Any plan at all where `value` is infinite.  That refutes an answer, and is sooner told than an optimum.
    """
    kept = worth_having(data)
    data = data.keep(np.isin(np.arange(data.columns), kept))
    if not value > 0:
        return SecondPlan("infeasible")
    if math.isinf(value):  # where fractions of servers do not suffice, none are to be counted
        if _Second(data, 0.0, value, whole=False).solve(seconds).status == "infeasible":
            return SecondPlan("infeasible")
        found = _Second(data, 0.0, value)
    else:
        found = _Second(data, TYPICAL / value, value)
        found.model.setObjlimit(TYPICAL * (1 - 1e-6))
    return _numbered(found.solve(seconds), kept)


def _calls(data, f):
    """Calls/s that all of a flow's task takes."""
    return float(data.demand[data.flows[f].task]) / data.flows[f].tasks_per_call


def _numbered(plan, kept):
    return replace(
        plan,
        replicas={int(kept[k]): n for k, n in plan.replicas.items()},
        rates={(int(kept[k]), f): rate for (k, f), rate in plan.rates.items()},
    )


def worth_having(data):
    """Columns but those of which another of their group does everything at least as well, row by row.

    A row that holds all calls that a column may ever get, in one replica, says nothing about it.
    """
    kept = []
    for b, block in enumerate(data.blocks):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(block.admissible[:, None, :], block.use.of(slice(None)) / block.limit[:, :, None], np.inf)
        share = np.where(np.isnan(share), 0.0, share)
        most = np.where(block.admissible[:, None, :], share, 0.0) * [_calls(data, int(f)) for f in block.flows]
        tasks = np.array([data.flows[int(f)].task for f in block.flows])
        load = sum(most[:, :, tasks == c].max(axis=2) for c in np.unique(tasks))
        share = np.where((load <= 1)[:, :, None] & block.admissible[:, None, :], 0.0, share)
        watts = np.where(block.admissible, block.flow_power(slice(None)), np.inf)
        for group in np.unique(block.group):
            for k in (members := np.flatnonzero(block.group == group)):
                better = np.all(share[members] <= share[k], axis=(1, 2)) & np.all(watts[members] <= watts[k], axis=1)
                worse = np.all(share[members] >= share[k], axis=(1, 2)) & np.all(watts[members] >= watts[k], axis=1)
                better &= block.min_replicas[members] <= block.min_replicas[k]
                same = better & worse & (block.min_replicas[members] == block.min_replicas[k])
                if not np.any(better & ~same) and not np.any(same & (members < k)):
                    kept.append(int(data.offsets[b]) + int(k))
    return np.sort(np.array(kept, dtype=np.int64))


def read_optimum(path, seconds=20.0, tolerance=FEASIBLE):
    """(status, optimum) of an exported MILP: optimal, infeasible or unknown."""
    model = _careful(tolerance)
    model.readProblem(str(path))
    model.setParam("limits/time", seconds)
    model.optimize()
    status = model.getStatus()
    if status == "optimal":
        return status, model.getObjVal()
    return ("infeasible", math.inf) if status in ("infeasible", "inforunbd") else ("unknown", math.nan)


def _careful(tolerance=FEASIBLE):
    """SCIP that stops at nothing but the optimum."""
    model = Model()
    model.hideOutput()
    model.setParam("numerics/feastol", tolerance)
    model.setParam("numerics/dualfeastol", tolerance)
    model.setParam("limits/gap", 0.0)
    model.setParam("limits/absgap", 0.0)
    model.setParam("misc/catchctrlc", False)
    model.setParam("timing/clocktype", 1)  # processor time: what is decided is no matter of who else computes
    return model


def _guess(data):
    """A price of the middle."""
    prices = [data.server_price(offer) for offer in data.offers]
    prices += [data.watt_price(h) * row.peak_power_w for h, row in enumerate(data.hardware)]
    prices = sorted(price for price in prices if price > 0)
    return prices[len(prices) // 2] if prices else 1.0


class _Second:
    def __init__(self, data, scale, worst, whole=True):
        self.data, self.scale, self.worst, self.whole = data, scale, worst, whole
        self.model = model = _careful()
        self.cost = []
        self._count_all()
        self._share_calls()
        self._serve()
        self._fit_servers()
        self._choose()
        for limit in data.limits:
            self._hold(limit)
        model.setObjective(quicksum(price * x for price, x in self.cost), "minimize")

    # -- what is counted ---------------------------------------------------------------------------------

    def _whole(self, price=0.0):
        x = self.model.addVar(vtype="I" if self.whole else "C", lb=0, ub=None)
        self._charge(price, x)
        return x

    def _charge(self, price, x):
        if price * self.scale > 0:
            self.cost.append((price * self.scale, x))
        if price > self.worst * (1 + 1e-6):
            self.model.chgVarUb(x, 0)

    def _yes(self):
        return self.model.addVar(vtype="B" if self.whole else "C", lb=0, ub=1)

    def _at_most(self, terms, limit):
        """Σ c·x ≤ limit, divided by its largest number."""
        terms = [(c, x) for c, x in terms if c]
        size = max([abs(limit), *(abs(c) for c, _ in terms)], default=0.0)
        if not terms:
            if limit < 0:
                self.model.addCons(quicksum([self._none()]) >= 1)
            return
        self.model.addCons(quicksum(c / size * x for c, x in terms) <= limit / size)

    def _none(self):
        return self.model.addVar(vtype="C", lb=0, ub=0)

    def _only_if(self, x, yes):
        """x = 0 unless `yes`."""
        if self.whole:
            self.model.addConsIndicator(x <= 0, binvar=yes, activeone=False)

    def _count_all(self):
        data = self.data
        self.columns = [(block, i) for block in data.blocks for i in range(len(block))]
        self.servers = [self._whole(data.server_price(offer)) for offer in data.offers]
        self.aside = [self._whole() for _ in data.packings]
        self.modules = []
        for j, module in enumerate(data.modules):
            if module.whole:
                self.modules.append(self._whole(data.module_price(j)))
            else:
                self.modules.append(self.model.addVar(lb=0, ub=None))
                if data.module_price(j):
                    self.cost.append((data.module_price(j) * self.scale, self.modules[j]))
        self.replicas, self.open, self.members = [], [], defaultdict(list)
        for k, (block, i) in enumerate(self.columns):
            n, yes = self._whole(), None
            self._charge(data.watt_price(self._hardware(k)) * float(block.replica_power_w[i]), n)
            if self._chooses(block, i):
                yes = self._yes()
                self._only_if(n, yes)
                self.model.addCons(n >= max(1, int(block.min_replicas[i])) * yes)
            if np.any(block.limit[i] < 0):  # it offers less than nothing
                self.model.chgVarUb(n, 0)
            self.replicas.append(n)
            self.open.append(yes)
            self.members[int(block.group[i])].append(k)
        self.spares = {}
        if data.survive_one_server:
            for g, columns in self.members.items():
                block, i = self.columns[columns[0]]
                watts = float(block.replica_power_w[i])
                self.spares[g] = self._whole(data.watt_price(self._hardware(columns[0])) * watts)

    def _chooses(self, block, i):
        """Must it be said whether a column runs at all?  Of many columns only where something depends on it."""
        data = self.data
        if len(self.columns) <= MANY or data.survive_one_server or data.max_designs is not None:
            return True
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.nan_to_num(block.use.one(i) / block.limit[i][:, None], posinf=1.0)
        most = [share[:, v].max() * self._all_calls(int(block.flows[v])) for v in np.flatnonzero(block.admissible[i])]
        return block.min_replicas[i] > 1 or min(most, default=1.0) < TINY

    def _hardware(self, k):
        block, i = self.columns[k]
        return self.data.packings[int(block.packing[i])].hardware

    def _places(self, k):
        block, i = self.columns[k]
        places = [(int(block.packing[i]), float(block.packed[i]))]
        if block.other_packing is not None and block.other_packing[i] >= 0:
            places.append((int(block.other_packing[i]), float(block.other_packed[i])))
        return places

    def _all_calls(self, f):
        return _calls(self.data, f)

    # -- calls -------------------------------------------------------------------------------------------

    def _share_calls(self):
        """share[k, f]: of the calls that all of the task takes."""
        self.share = {}
        for k, (block, i) in enumerate(self.columns):
            watt = self.data.watt_price(self._hardware(k))
            for v in np.flatnonzero(block.admissible[i]).tolist():
                f = int(block.flows[v])
                if not self._all_calls(f):
                    continue
                y = self.model.addVar(lb=0, ub=1)
                self.share[k, f] = y
                if self.open[k] is not None:
                    self.model.addCons(y <= self.open[k])
                joules = float(block.flow_power_w[block.use.source[i], v])
                if watt * joules:
                    self.cost.append((watt * joules * self._all_calls(f) * self.scale, y))

    def _serve(self):
        data = self.data
        served, phases = defaultdict(list), defaultdict(list)
        for (_, f), y in self.share.items():
            flow = data.flows[f]
            if flow.serves:
                served[flow.task].append(y)
            if flow.commodity is not None:
                phases[flow.commodity].append((flow.commodity_sign * self._all_calls(f), y))
        for c in np.flatnonzero(data.demand > 0).tolist():
            self.model.addCons(quicksum([self._none(), *served[c]]) == 1)
        for terms in phases.values():
            size = max(abs(c) for c, _ in terms)
            self.model.addCons(quicksum(c / size * y for c, y in terms) == 0)
        for k, (block, i) in enumerate(self.columns):
            if np.any(block.limit[i] < 0):
                continue
            use = block.use.one(i)
            for r, limit in enumerate(block.limit[i].tolist()):
                terms = [
                    (float(use[r, v]) * self._all_calls(int(f)), self.share[k, int(f)])
                    for v, f in enumerate(block.flows)
                    if (k, int(f)) in self.share and use[r, v]
                ]
                if terms:  # in replicas
                    if limit == 0:
                        self._at_most(terms, 0.0)
                    else:
                        self.model.addCons(quicksum(c / limit * y for c, y in terms) <= self.replicas[k])

    # -- servers -----------------------------------------------------------------------------------------

    def _fit_servers(self):
        data = self.data
        slots = defaultdict(list)
        for k in range(len(self.columns)):
            for p, each in self._places(k):
                slots[p].append((each, self.replicas[k]))
                if data.survive_one_server:  # on one server spares are lost with what they replace
                    self.model.addCons(self.aside[p] >= 2 * self.open[k])
        for g, spares in self.spares.items():
            columns = self.members[g]
            for p, each in self._places(columns[0]):
                slots[p].append((each, spares))
            if not self.whole:
                continue
            many = self._yes()
            self.model.addConsIndicator(-spares <= -data.groups[g].replicas_lost_with_server, binvar=many)
            run = quicksum(self.replicas[k] for k in columns)
            self.model.addCons(spares <= run)  # no more than run is of use
            self.model.addConsIndicator(run - spares <= 0, binvar=many, activeone=False)
        for p, terms in slots.items():
            self.model.addCons(quicksum(c * x for c, x in terms) <= data.packings[p].slots * self.aside[p])
        for h in range(len(data.hardware)):
            aside = [self.aside[p] for p, packing in enumerate(data.packings) if packing.hardware == h]
            bought = [self.servers[o] for o, offer in enumerate(data.offers) if h in offer.supplies]
            self.model.addCons(quicksum([self._none(), *aside]) <= quicksum([self._none(), *bought]))

    def _choose(self):
        """What is taken at all: offers, designs, vendors, pools of a task."""
        data = self.data
        for o, offer in enumerate(data.offers):
            if offer.min_servers > 1:
                taken = self._yes()
                self._only_if(self.servers[o], taken)
                self.model.addCons(self.servers[o] >= offer.min_servers * taken)
        if data.max_designs is not None:
            stages = defaultdict(list)
            for g, columns in self.members.items():
                used = self._yes()
                stages[data.groups[g].stage].append(used)
                for k in columns:
                    self.model.addCons(self.open[k] <= used)
            for used in stages.values():
                self.model.addCons(quicksum(used) <= data.max_designs)
        if data.max_vendors is not None:
            trusted = {vendor: self._yes() for vendor in sorted({row.vendor for row in data.hardware})}
            for o, offer in enumerate(data.offers):
                for vendor in {data.hardware[h].vendor for h in offer.supplies}:
                    self._only_if(self.servers[o], trusted[vendor])
            self.model.addCons(quicksum(trusted.values()) <= data.max_vendors)
        if not data.split_tasks:
            pools = defaultdict(list)
            for (_, f), y in self.share.items():
                chosen = self._yes()
                self.model.addCons(y <= chosen)
                pools[data.flows[f].task, data.flows[f].serves].append(chosen)
            for chosen in pools.values():
                self.model.addCons(quicksum(chosen) <= 1)

    def _hold(self, limit):
        """A shared limit; where it gives nothing by itself, whoever takes needs somebody who gives."""
        counts = [(c, self.servers[o], None) for o, c in limit.per_server.items()]
        counts += [(c, self.aside[p], None) for p, c in limit.per_packing.items()]
        counts += [(c, self.replicas[k], self.open[k]) for g, c in limit.per_group.items() for k in self.members[g]]
        modules = [(c, self.modules[j], self.data.modules[j].whole) for j, c in limit.per_module.items()]
        counts += [(c, x, None) for c, x, whole in modules if whole]
        shares = []
        for (k, f), y in self.share.items():
            block, i = self.columns[k]
            v = int(np.flatnonzero(block.flows == f)[0])
            each = sum(limit.per_flow.get((f, h), 0.0) for h in (self._hardware(k), -1))
            each += limit.per_watt.get(self._hardware(k), 0.0) * float(block.flow_power_w[block.use.source[i], v])
            shares.append((each * self._all_calls(f), y))
        for k, (block, i) in enumerate(self.columns):
            watts = limit.per_watt.get(self._hardware(k), 0.0) * float(block.replica_power_w[i])
            counts.append((watts, self.replicas[k], self.open[k]))
            if self.spares and k == self.members[int(block.group[i])][0]:
                counts.append((watts, self.spares[int(block.group[i])], None))
        counts, shares = [c for c in counts if c[0]], [s for s in shares if s[0]]
        amounts = [(c, x) for c, x, whole in modules if not whole and c]
        terms = [(c, x) for c, x, _ in counts] + shares + amounts
        self._at_most(terms, limit.limit)
        if limit.limit <= 0 and all(c > 0 for c, _ in amounts):
            givers = [(-c, x) for c, x, _ in counts if c < 0]
            most = max((c for c, _ in givers), default=0.0)
            if limit.limit < 0 and -limit.limit < TINY * most:
                self.model.addCons(quicksum(x for _, x in givers) >= 1)
            takers = [*shares, *((c, yes) for c, _, yes in counts if yes is not None)]
            for y in (y for c, y in takers if 0 < c < TINY * most):
                self.model.addCons(quicksum(x for _, x in givers) >= y)

    # -- solving -----------------------------------------------------------------------------------------

    def solve(self, seconds):
        self.model.setParam("limits/time", seconds)
        try:
            self.model.optimize()
        except Exception:  # PySCIPOpt knows no other kind: SCIP has seen a number too large, and knows nothing
            return SecondPlan("unknown")
        status = self.model.getStatus()
        if status in ("infeasible", "inforunbd"):
            return SecondPlan("infeasible")
        if status != "optimal":
            return SecondPlan("unknown")
        best = self.model.getBestSol()

        def count(x):
            return round(best[x])

        def counts(variables):
            items = variables.items() if isinstance(variables, dict) else enumerate(variables)
            return {i: count(x) for i, x in items if count(x)}

        replicas = counts(self.replicas)
        rates = {
            (k, f): best[y] * self._all_calls(f) for (k, f), y in self.share.items() if best[y] > 0 and k in replicas
        }
        modules = {
            j: count(x) if self.data.modules[j].whole else max(best[x], 0.0)
            for j, x in enumerate(self.modules)
            if best[x] > 0
        }
        plan = SecondPlan(
            "optimal", 0.0, 0.0, replicas, rates, counts(self.servers), counts(self.spares),
            {j: n for j, n in modules.items() if n}, counts(self.aside),
        )  # fmt: skip
        value = self._value(plan)
        return SecondPlan(**{**vars(plan), "objective": value, "bound": value})

    def _value(self, plan):
        """What the plan costs, summed from its counts."""
        data = self.data
        value = [data.server_price(data.offers[o]) * n for o, n in plan.servers.items()]
        value += [data.module_price(j) * n for j, n in plan.modules.items()]
        for k, n in plan.replicas.items():
            block, i = self.columns[k]
            value.append(data.watt_price(self._hardware(k)) * float(block.replica_power_w[i]) * n)
        for g, n in plan.spares.items():
            block, i = self.columns[self.members[g][0]]
            value.append(data.watt_price(self._hardware(self.members[g][0])) * float(block.replica_power_w[i]) * n)
        for (k, f), rate in plan.rates.items():
            block, i = self.columns[k]
            v = int(np.flatnonzero(block.flows == f)[0])
            value.append(data.watt_price(self._hardware(k)) * float(block.flow_power_w[block.use.source[i], v]) * rate)
        return math.fsum(value)
