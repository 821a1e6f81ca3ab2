"""The optimum of a very small fleet problem by trying every count: no solver but the linear program of the calls.

It decides who is right where two solvers differ, and holds the second MILP to what `FleetData` means.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict

import numpy as np
from scipy.optimize import linprog

CLOSE = 1e-9
MOST = 60_000
"""Counts to try: larger problems are none for this."""


class TooManyError(Exception):
    """More counts than can be tried."""


def enumerated(data, seconds=3.0):
    """The least objective, inf where there is no plan.  Raises TooManyError, after so much processor time as well."""
    return _Enumeration(data, time.process_time() + seconds).best()


class _Enumeration:
    def __init__(self, data, end):
        self.data, self.end = data, end
        self.columns = [(block, i) for block in data.blocks for i in range(len(block))]
        self.flows = [
            (k, int(f), v)
            for k, (block, i) in enumerate(self.columns)
            for v, f in enumerate(block.flows)
            if block.admissible[i, v] and self._calls(int(f)) > 0
        ]
        self.amounts = [j for j, module in enumerate(data.modules) if not module.whole]
        self.group = [int(block.group[i]) for block, i in self.columns]
        self.first = {g: self.group.index(g) for g in self.group}

    def _calls(self, f):
        return float(self.data.demand[self.data.flows[f].task]) / self.data.flows[f].tasks_per_call

    def _hardware(self, k):
        block, i = self.columns[k]
        return self.data.packings[int(block.packing[i])].hardware

    def _watts(self, k):
        return float(self.columns[k][0].replica_power_w[self.columns[k][1]])

    def _joules(self, k, v):
        block, i = self.columns[k]
        return float(block.flow_power_w[block.use.source[i], v])

    def _places(self, k):
        block, i = self.columns[k]
        found = [(int(block.packing[i]), float(block.packed[i]))]
        if block.other_packing is not None and block.other_packing[i] >= 0:
            found.append((int(block.other_packing[i]), float(block.other_packed[i])))
        return found

    # -- how many of each are worth trying ---------------------------------------------------------------

    def _most_replicas(self, k):
        block, i = self.columns[k]
        if np.any(block.limit[i] < 0):
            return 0
        load = np.zeros(len(block.limit[i]))
        for task in range(len(self.data.tasks)):
            uses = [
                block.use.one(i)[:, v] * self._calls(f)
                for at, f, v in self.flows
                if at == k and self.data.flows[f].task == task
            ]
            load += np.max(uses, axis=0, initial=0.0)
        open_ = block.limit[i] > 0
        most = math.ceil(np.max(load[open_] / block.limit[i][open_], initial=0.0) - CLOSE)
        floors = [
            math.ceil(-limit.limit / -c)
            for limit in self.data.limits
            if limit.limit < 0 and (c := limit.per_group.get(self.group[k], 0.0)) < 0
        ]
        return max(most, int(block.min_replicas[i]) if most or floors else 0, *floors, 0)

    def _most_given(self, word, item, takes):
        """How many of something that gives to limits are of use at the most."""
        most = 0
        for number, limit in enumerate(self.data.limits):
            c = getattr(limit, word).get(item, 0.0)
            if c < 0:
                most = max(most, math.ceil((takes[number] + max(-limit.limit, 0.0)) / -c - CLOSE))
        return most

    def best(self):
        """The least objective."""
        data = self.data
        replicas = self._boxed([self._most_replicas(k) for k in range(len(self.columns))])
        least = np.array([int(block.min_replicas[i]) for block, i in self.columns])
        replicas = replicas[np.all((replicas == 0) | (replicas >= least), axis=1)]
        chosen = []
        for counts in replicas:
            run = defaultdict(int)
            for k, n in enumerate(counts.tolist()):
                run[self.group[k]] += n
            stages = [data.groups[g].stage for g, n in run.items() if n]
            if data.max_designs is not None and any(stages.count(s) > data.max_designs for s in stages):
                continue
            if self._routes(counts, {}, None) is not None:
                chosen.append((counts, run))
        return min((self._cheapest(counts, run) for counts, run in chosen), default=math.inf)

    def _boxed(self, most):
        if math.prod(n + 1 for n in most) > MOST:
            raise TooManyError
        return np.array(list(itertools.product(*(range(n + 1) for n in most))), dtype=np.int64)

    def _cheapest(self, counts, run):
        """The least objective with these replicas."""
        data = self.data
        spares, slots, spread = {}, defaultdict(float), set()
        if data.survive_one_server:
            spares = {g: min(n, data.groups[g].replicas_lost_with_server) for g, n in run.items() if n}
        for k, n in enumerate(counts.tolist()):
            for p, each in self._places(k) if n else ():
                slots[p] += n * each
                spread.add(p)
        for g, n in spares.items():
            for p, each in self._places(self.first[g]):
                slots[p] += n * each
        least = 2 if data.survive_one_server else 0
        aside = [
            max(math.ceil(slots[p] / packing.slots - CLOSE), least if p in spread else 0)
            for p, packing in enumerate(data.packings)
        ]
        watts = {k: (n + (spares.get(self.group[k], 0) if self.first[self.group[k]] == k else 0)) * self._watts(k)
                 for k, n in enumerate(counts.tolist())}  # fmt: skip
        price = math.fsum(data.watt_price(self._hardware(k)) * w for k, w in watts.items())

        def held(limit):
            taken = math.fsum(limit.per_group.get(self.group[k], 0.0) * n for k, n in enumerate(counts.tolist()))
            return taken + math.fsum(limit.per_watt.get(self._hardware(k), 0.0) * w for k, w in watts.items())

        fixed = [held(limit) for limit in data.limits]
        flows = [
            sum(max(0.0, self._charge(limit, key)) * self._calls(key[1]) for key in self.flows) for limit in data.limits
        ]
        takes = [max(f, 0.0) + most for f, most in zip(fixed, flows, strict=True)]
        for number, limit in enumerate(data.limits):
            takes[number] += sum(max(c, 0.0) * aside[p] for p, c in limit.per_packing.items())
        extra = [self._most_given("per_packing", p, takes) for p in range(len(aside))]
        asides = self._boxed([max(0, e - a) for e, a in zip(extra, aside, strict=True)]) + np.array(aside)
        whole = [j for j, module in enumerate(data.modules) if module.whole]
        modules = self._boxed(self._most_modules(whole, takes))
        with_modules = [
            t + sum(max(limit.per_module.get(j, 0.0), 0.0) * modules[:, i].max(initial=0) for i, j in enumerate(whole))
            for t, limit in zip(takes, data.limits, strict=True)
        ]
        prices = np.array([data.server_price(offer) for offer in data.offers])
        of_modules = np.array([data.module_price(j) for j in whole])
        best = math.inf
        for each_aside in asides:
            needed = np.zeros(len(data.hardware))
            for p, n in enumerate(each_aside.tolist()):
                needed[data.packings[p].hardware] += n
            most = []
            for o, offer in enumerate(data.offers):
                top = max(needed[h] for h in offer.supplies)
                top = max(top, self._most_given("per_server", o, with_modules))
                most.append(int(max(top, offer.min_servers if top else 0)))
            for bought in self._boxed(most):
                if time.process_time() > self.end:
                    raise TooManyError
                if not self._sold(bought, needed):
                    continue
                cost = price + float(prices @ bought)
                if cost >= best:
                    continue
                for items in modules:
                    all_in = cost + float(of_modules @ items)
                    if all_in < best:
                        rooms = {}
                        for number, limit in enumerate(data.limits):
                            used = fixed[number]
                            used += math.fsum(limit.per_server.get(o, 0.0) * int(n) for o, n in enumerate(bought))
                            used += math.fsum(limit.per_packing.get(p, 0.0) * int(n) for p, n in enumerate(each_aside))
                            used += math.fsum(limit.per_module.get(j, 0.0) * int(items[i]) for i, j in enumerate(whole))
                            rooms[number] = limit.limit - used
                        routed = self._routes(counts, rooms, best - all_in)
                        if routed is not None:
                            best = min(best, all_in + routed)
        return best

    def _most_modules(self, whole, takes):
        """Of each kind, what all that takes from it can use; kinds that hold other kinds go by these."""
        most = dict.fromkeys(whole, 0)
        for _ in range(len(whole) + 1):
            for j in whole:
                more = [
                    t + sum(max(c, 0.0) * most[i] for i in whole if (c := limit.per_module.get(i, 0.0)))
                    for t, limit in zip(takes, self.data.limits, strict=True)
                ]
                most[j] = self._most_given("per_module", j, more)
        return [most[j] for j in whole]

    def _sold(self, bought, needed):
        data = self.data
        have, vendors = np.zeros(len(data.hardware)), set()
        for o, n in enumerate(bought.tolist()):
            if 0 < n < data.offers[o].min_servers:
                return False
            for h in data.offers[o].supplies if n else ():
                have[h] += n
                vendors.add(data.hardware[h].vendor)
        return np.all(have >= needed) and (data.max_vendors is None or len(vendors) <= data.max_vendors)

    # -- calls -------------------------------------------------------------------------------------------

    def _charge(self, limit, key):
        k, f, v = key
        each = sum(limit.per_flow.get((f, h), 0.0) for h in (self._hardware(k), -1))
        return each + limit.per_watt.get(self._hardware(k), 0.0) * self._joules(k, v)

    def _routes(self, counts, rooms, budget):
        """The least that calls and amounts cost on these replicas within `rooms` of the limits; None where none do."""
        data = self.data
        options = [None] if data.split_tasks else self._pools(counts)
        found = [self._route(counts, rooms, chosen) for chosen in options]
        values = [value for value in found if value is not None]
        return min(values) if values and (budget is None or min(values) < budget) else None

    def _pools(self, counts):
        """Every choice of one pool for each phase of each task."""
        phases = defaultdict(list)
        for key in self.flows:
            if counts[key[0]]:
                phases[data_phase(self.data, key[1])].append(key)
        return [set(choice) for choice in itertools.product(*phases.values())]

    def _route(self, counts, rooms, chosen):
        if time.process_time() > self.end:
            raise TooManyError
        data = self.data
        width = len(self.flows) + len(self.amounts)
        unit = np.array([*(self._calls(f) for _, f, _ in self.flows), *(1.0 for _ in self.amounts)])
        upper = [(0.0, 1.0 if counts[key[0]] and (chosen is None or key in chosen) else 0.0) for key in self.flows]
        upper += [(0.0, None)] * len(self.amounts)
        rows, ends = [], []
        for k, (block, i) in enumerate(self.columns):
            use = block.use.one(i)
            for r, limit in enumerate(block.limit[i].tolist()):
                row = np.zeros(width)
                for at, (j, _, v) in enumerate(self.flows):
                    if j == k:
                        row[at] = use[r, v] * unit[at]
                if counts[k] and row.any():
                    size = limit * counts[k] or row.max()
                    rows.append(row / size)
                    ends.append(limit * counts[k] / size)
        for number, room in rooms.items():
            limit = data.limits[number]
            row = np.array([*(self._charge(limit, key) for key in self.flows),
                            *(limit.per_module.get(j, 0.0) for j in self.amounts)]) * unit  # fmt: skip
            size = max(np.abs(row).max(initial=0.0), abs(room), abs(limit.limit)) or 1.0
            rows.append(row / size)
            ends.append(room / size)
        equal, sides = [], []
        for c in np.flatnonzero(data.demand > 0).tolist():
            serving = [1.0 if data.flows[f].task == c and data.flows[f].serves else 0.0 for _, f, _ in self.flows]
            equal.append([*serving, *(0.0 for _ in self.amounts)])
            sides.append(1.0)
        for m in range(len(data.commodities)):
            of_m = [data.flows[f] if data.flows[f].commodity == m else None for _, f, _ in self.flows]
            row = [0.0 if flow is None else float(flow.commodity_sign) for flow in of_m]
            equal.append([*row, *(0.0 for _ in self.amounts)])  # flows of one commodity have one unit
            sides.append(0.0)
        cost = [data.watt_price(self._hardware(k)) * self._joules(k, v) for k, _, v in self.flows]
        cost = np.array([*cost, *(data.module_price(j) for j in self.amounts)]) * unit
        if not width:
            good = all(end >= -CLOSE for end in ends) and not any(sides)
            return 0.0 if good else None
        found = linprog(
            cost / (cost.max(initial=0.0) or 1.0),
            A_ub=np.array(rows).reshape(-1, width), b_ub=np.array(ends) + CLOSE,
            A_eq=np.array(equal).reshape(-1, width), b_eq=sides, bounds=upper, method="highs-ds",
        )  # fmt: skip
        return float(cost @ found.x) if found.status == 0 else None


def data_phase(data, f):
    """The task and the phase of a flow."""
    return data.flows[f].task, data.flows[f].serves
