"""The fleet MILP as one Pyomo model: sets, variables, constraint families, objective, in that order.

Each family is one function with its inequality in the docstring and a stable name; ARCHITECTURE.md lists
them and a test holds the list against the built model.  The same model serves column generation (relaxed)
and the final plan (integer); any Pyomo solver can read it, `optimize/highs.py` runs it through its
compiled standard form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyomo.core as pyo
from pyomo.common.gc_manager import PauseGC
from pyomo.core.expr.numeric_expr import LinearExpression

from codesign.candidates.data import ColumnBlock, FleetData, Floats
from codesign.optimize.most import Most, Run, most_counts
from codesign.optimize.pricing import binding_rows
from codesign.optimize.redundancy import most_servers, spared

_Term = tuple[float, Any]

_ENDLESS = 1e6
"""Stands for a count that nothing bounds: a model that needs it proves nothing (`FleetModel.exact`)."""


@dataclass(frozen=True)
class Penalty:
    """Objective per whole task class left unserved, and per whole limit exceeded [L]."""

    shortfall: float
    excess: tuple[float, ...]


class FleetModel:
    """The Pyomo model of a fleet over a subset of its columns.

    `relaxed` drops integrality together with the families that exist only for integers (least servers,
    least replicas, spares, designs, unsplit tasks): what is left is a relaxation of the fleet MILP.
    With a `penalty` demand and limits may be missed at a price: column generation starts from there, and
    infeasibility is explained with it.  `fewest` minimises what is bought and run, whatever it costs.
    """

    def __init__(
        self,
        data: FleetData,
        columns: Sequence[int],
        relaxed: bool,
        penalty: Penalty | None = None,
        fewest: bool = False,
    ) -> None:
        self.data = data
        self.penalty = penalty
        self.fewest = fewest
        self.exact = True
        """Has it every lean plan of its columns?  False where a count had no bound that holds for all of them."""
        self.columns = [int(k) for k in columns]
        self.relaxed = relaxed
        self.place: dict[int, tuple[ColumnBlock, int]] = {
            k: (data.blocks[b], i)
            for k, (b, i) in zip(self.columns, data.locate(self.columns), strict=True)
        }
        # Per share of all of the flow: rates differ by fifteen orders of magnitude between problems, shares do not.
        self.use = {k: block.use.one(i) * data.flow_unit[block.flows] for k, (block, i) in self.place.items()}
        self._all_served: dict[int, float] = {}
        self.flow_keys = [
            (k, int(v))
            for k in self.columns
            for v in np.flatnonzero(self.place[k][0].admissible[self.place[k][1]])
        ]
        with PauseGC():  # 10^5 small objects that all stay: collections would only walk them
            self._build()

    def _build(self) -> None:
        self.pyomo = pyo.ConcreteModel("fleet")
        self._add_variables()
        self._define_demand()
        self._define_commodity()
        self._define_capacity()
        self._define_packing()
        self._define_servers()
        self._define_limit()
        if not self.relaxed:
            self._define_least_servers()
            self._define_least_replicas()
            if not self.data.split_tasks:
                self._define_unsplit()
            if self.data.survive_one_server or self.data.max_designs is not None:
                self._define_designs()
            if self.data.survive_one_server:
                self._define_spares()
            if self.data.max_vendors is not None:
                self._define_vendors()
            self._drop_implied()
        self._define_objective()

    # -- variables -------------------------------------------------------------------------------------

    def _add_variables(self) -> None:
        data, m = self.data, self.pyomo
        whole = pyo.NonNegativeReals if self.relaxed else pyo.NonNegativeIntegers
        m.servers = pyo.Var(range(len(data.offers)), domain=whole)
        m.set_aside = pyo.Var(range(len(data.packings)), domain=whole)
        m.modules = pyo.Var(
            range(len(data.modules)),
            domain=lambda m, j: whole if data.modules[j].whole else pyo.NonNegativeReals,
        )
        m.replicas = pyo.Var(self.columns, domain=whole)
        m.rate = pyo.Var(self.flow_keys, domain=pyo.NonNegativeReals)
        if self.penalty is not None:
            m.shortfall = pyo.Var(range(len(data.tasks)), domain=pyo.NonNegativeReals)
            m.excess = pyo.Var(range(len(data.limits)), domain=pyo.NonNegativeReals)
        if not self.relaxed:
            groups = sorted({self._group(k) for k in self.columns})
            m.spares = pyo.Var(groups, domain=pyo.NonNegativeIntegers)
            if not data.survive_one_server:
                m.spares.fix(0)

    def _group(self, column: int) -> int:
        block, i = self.place[column]
        return int(block.group[i])

    def packed(self, column: int) -> list[tuple[int, float]]:
        """(packing, slots) that a replica occupies: one, or two where it has two kinds of accelerator."""
        block, i = self.place[column]
        found = [(int(block.packing[i]), float(block.packed[i]))]
        if block.other_packing is not None and block.other_packed is not None and block.other_packing[i] >= 0:
            found.append((int(block.other_packing[i]), float(block.other_packed[i])))
        return found

    def _flow(self, column: int, v: int) -> int:
        return int(self.place[column][0].flows[v])

    def unit(self, column: int, v: int) -> float:
        """Calls/s that a share of 1 stands for: `rate` is in shares of all of the flow."""
        return float(self.data.flow_unit[self._flow(column, v)])

    def _most_shares(self, column: int, v: int) -> float:
        """The largest share that the flow can ever have (below 1 where others of its commodity carry more calls)."""
        return float(self.data.calls_bound[self._flow(column, v)]) / self.unit(column, v)

    def most_replicas(self, column: int) -> float:
        """Replicas of a column beyond which no lean plan goes: all that it can serve and limits ask for takes fewer."""
        if not any(c < 0 for limit in self.data.limits for c in limit.per_group.values()):
            return self._replicas_for_all(column)
        demanded = float(self._most.demanded[self._group(column)])
        if not np.isfinite(demanded):
            self.exact = False
            demanded = _ENDLESS
        return self._replicas_for_all(column) + demanded

    def _replicas_for_all(self, column: int) -> float:
        """Replicas that serve all demand this column can serve, plus one."""
        if column not in self._all_served:
            self._all_served[column] = self._count_for_all(column)
        return self._all_served[column]

    def _count_for_all(self, column: int) -> float:
        block, i = self.place[column]
        most = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.where(self.use[column] > 0, self.use[column] / block.limit[i][:, None], 0.0)
        open_flows = [v for v in np.flatnonzero(block.admissible[i]).tolist() if np.isfinite(needed[:, v]).all()]
        for row in range(needed.shape[0]):
            # The flows of a phase share its calls: the worst flow of each task and phase bounds its part of the row.
            by_phase: dict[tuple[int, bool], float] = defaultdict(float)
            for v in open_flows:
                flow = self.data.flows[self._flow(column, v)]
                key = flow.task, flow.serves
                by_phase[key] = max(by_phase[key], needed[row, v] * self._most_shares(column, v))
            most = max(most, sum(by_phase.values()))
        return float(np.ceil(most)) + max(1.0, float(block.min_replicas[i]))

    # -- constraint families ---------------------------------------------------------------------------

    def _define_demand(self) -> None:
        """demand[c]:  Σ tasks_per_call·unit·rate / demand_c = 1   [share of the task's rate; none without demand]."""
        terms: dict[int, list[_Term]] = defaultdict(list)
        for key in self.flow_keys:
            flow = self.data.flows[self._flow(*key)]
            if flow.serves and self.data.demand[flow.task] > 0:
                share = flow.tasks_per_call * self.unit(*key) / float(self.data.demand[flow.task])
                terms[flow.task].append((share, self.pyomo.rate[key]))
        if self.penalty is not None:
            for c in range(len(self.data.tasks)):
                terms[c].append((1.0, self.pyomo.shortfall[c]))
        self.pyomo.demand = pyo.Constraint(
            range(len(self.data.tasks)),
            rule=lambda m, c: _equal(terms[c], 1.0) if self.data.demand[c] > 0 else pyo.Constraint.Skip,
        )

    def _define_commodity(self) -> None:
        """commodity[m]:  Σ decode rate − Σ prefill rate = 0   [share of all its calls]; both phases carry the same."""
        terms: dict[int, list[_Term]] = defaultdict(list)
        for key in self.flow_keys:
            flow = self.data.flows[self._flow(*key)]
            if flow.commodity is not None:
                terms[flow.commodity].append((float(flow.commodity_sign), self.pyomo.rate[key]))
        self.pyomo.commodity = pyo.Constraint(
            range(len(self.data.commodities)),
            rule=lambda m, i: _equal(terms[i], 0.0),
        )

    def _define_capacity(self) -> None:
        """capacity[k, r]:  Σ_v use[k,r,v]·rate[k,v] ≤ limit[k,r]·replicas[k]   [scaled to 1 per replica].

        Rows that another row of the same column implies are left out.
        """
        by_column: dict[int, list[int]] = defaultdict(list)
        for k, v in self.flow_keys:
            by_column[k].append(v)

        def rule(m: Any, k: int, r: int) -> Any:
            block, i = self.place[k]
            scale = abs(float(block.limit[i, r])) or 1.0  # a limit below zero lets no replica run
            terms = [
                (float(self.use[k][r, v]) / scale, m.rate[k, v])
                for v in by_column[k]
                if self.use[k][r, v] != 0
            ]
            if not terms and block.limit[i, r] >= 0:
                return pyo.Constraint.Skip
            terms.append((-float(block.limit[i, r]) / scale, m.replicas[k]))
            return _at_most(terms, 0.0)

        keys = []
        for k in self.columns:
            block, i = self.place[k]
            one = slice(i, i + 1)
            needed = binding_rows(self.use[k][None], block.limit[one], block.admissible[one])
            keys += [(k, int(r)) for r in np.flatnonzero(needed[0])]
        self.pyomo.capacity = pyo.Constraint(keys, rule=rule)

    def _define_packing(self) -> None:
        """packing[p]:  Σ packed·(replicas + spares) ≤ slots_p·set_aside[p]   [accelerators]."""
        terms: dict[int, list[_Term]] = defaultdict(list)
        spared: set[int] = set()
        for k in self.columns:
            group = self._group(k)
            spare = not self.relaxed and group not in spared
            spared.add(group)
            for packing, packed in self.packed(k):
                terms[packing].append((packed, self.pyomo.replicas[k]))
                if spare:
                    terms[packing].append((packed, self.pyomo.spares[group]))
        if self.relaxed:  # whole plans count their spares; relaxations reserve slots for them by the call
            for k, v in self.flow_keys:
                block, i = self.place[k]
                if block.flow_slots is not None:
                    reserved = float(block.flow_slots[block.use.source[i], v]) * self.unit(k, v)
                    terms[int(block.packing[i])].append((reserved, self.pyomo.rate[k, v]))
        self.pyomo.packing = pyo.Constraint(
            range(len(self.data.packings)),
            rule=lambda m, p: _at_most(
                [*terms[p], (-float(self.data.packings[p].slots), m.set_aside[p])] if terms[p] else [],
                0.0,
            ),
        )

    def _define_servers(self) -> None:
        """bought[h]:  Σ_p set_aside[p] ≤ Σ_o servers[o]   [servers of hardware h, from the offers that supply it]."""

        def rule(m: Any, h: int) -> Any:
            aside = [
                (1.0, m.set_aside[p])
                for p, packing in enumerate(self.data.packings)
                if packing.hardware == h
            ]
            bought = [
                (-1.0, m.servers[o]) for o, offer in enumerate(self.data.offers) if h in offer.supplies
            ]
            return _at_most(aside + bought, 0.0)

        self.pyomo.bought = pyo.Constraint(range(len(self.data.hardware)), rule=rule)

    def _define_limit(self) -> None:
        """limit[i]:  Σ coefficient·(servers, set_aside, modules, replicas, watts, rate) / limit_i ≤ 1   (stock …)."""
        members: dict[int, list[int]] = defaultdict(list)
        for k in self.columns:
            members[self._group(k)].append(k)
        carried = self._carried() if any(limit.per_flow for limit in self.data.limits) else {}

        def rule(m: Any, i: int) -> Any:
            limit = self.data.limits[i]
            terms: list[_Term] = [(c / limit.scale, m.servers[o]) for o, c in limit.per_server.items()]
            terms += [(c / limit.scale, m.set_aside[p]) for p, c in limit.per_packing.items()]
            terms += self._power({h: c / limit.scale for h, c in limit.per_watt.items()})
            terms += [
                (c / limit.scale, m.replicas[k]) for g, c in limit.per_group.items() for k in members[g]
            ]
            terms += [(c / limit.scale, m.modules[j]) for j, c in limit.per_module.items()]
            terms += [
                (c * self.unit(*key) / limit.scale, m.rate[key])
                for pair, c in limit.per_flow.items()
                for key in carried.get(pair, ())
            ]
            if self.penalty is not None:
                terms.append((-1.0, m.excess[i]))
            return _at_most(terms, limit.limit / limit.scale)

        self.pyomo.limit = pyo.Constraint(range(len(self.data.limits)), rule=rule)

    def _carried(self) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """Keys of `rate` by (flow, hardware of the column), and by (flow, -1) whatever the hardware."""
        found: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for k, v in self.flow_keys:
            block, i = self.place[k]
            hardware = self.data.packings[int(block.packing[i])].hardware
            for pair in ((self._flow(k, v), hardware), (self._flow(k, v), -1)):
                found[pair].append((k, v))
        return found

    def _define_least_servers(self) -> None:
        """least_servers[o], most_servers[o]:  min_o·taken[o] ≤ servers[o] ≤ M·taken[o]."""
        m, offers = self.pyomo, self.data.offers
        least = [o for o, offer in enumerate(offers) if offer.min_servers > 1]
        if not least:
            return
        ceiling = {o: self._most_servers(o) for o in least}
        m.taken = pyo.Var(least, domain=pyo.Binary)
        m.least_servers = pyo.Constraint(
            least,
            rule=lambda m, o: _at_most([(offers[o].min_servers, m.taken[o]), (-1.0, m.servers[o])], 0.0),
        )
        m.most_servers = pyo.Constraint(
            least, rule=lambda m, o: _at_most([(1.0, m.servers[o]), (-ceiling[o], m.taken[o])], 0.0)
        )

    @cached_property
    def _most(self) -> Most:
        """What lean plans of these columns have at the most."""
        return most_counts(self.data, self._run)

    def _run(self, demanded: Floats) -> Run:
        """What all replicas take that lean plans may run, where limits demand so many more of each group."""
        data = self.data
        replicas: dict[int, float] = defaultdict(float)
        slots: dict[int, float] = defaultdict(float)
        watts: dict[int, float] = defaultdict(float)
        for k in self.columns:
            block, i = self.place[k]
            group = self._group(k)
            spare = data.groups[group].replicas_lost_with_server if data.survive_one_server else 0
            most = self._replicas_for_all(k) + spare + float(demanded[group])
            replicas[group] += most
            for p, packed in self.packed(k):
                # Whole servers for what runs; with n+1 on two of them at the least.
                slots[p] += max(float(np.ceil(most * packed / data.packings[p].slots)), 2.0 if spare else 0.0)
            hardware = data.packings[int(block.packing[i])].hardware
            watts[hardware] += most * float(block.replica_power_w[i])
            watts[hardware] += sum(
                float(block.flow_power_w[block.use.source[i], v]) * float(data.calls_bound[self._flow(k, v)])
                for v in np.flatnonzero(block.admissible[i]).tolist()
            )
        return Run(replicas, slots, watts)

    def _most_servers(self, offer: int) -> float:
        """Servers of an offer beyond which no lean plan of these columns goes."""
        found = float(self._most.servers[offer])
        if not np.isfinite(found):
            self.exact = False
            return _ENDLESS
        return found

    def _define_least_replicas(self) -> None:
        """pooled[k], unpooled[k]:  n₁·open[k] ≤ replicas[k] ≤ M·open[k]   (queues pooled over n₁ replicas)."""
        m = self.pyomo
        least = {k: int(self.place[k][0].min_replicas[self.place[k][1]]) for k in self.columns}
        pooled = [k for k in self.columns if least[k] > 1]
        if not pooled:
            return
        m.open = pyo.Var(pooled, domain=pyo.Binary)
        m.pooled = pyo.Constraint(
            pooled, rule=lambda m, k: _at_most([(least[k], m.open[k]), (-1.0, m.replicas[k])], 0.0)
        )
        m.unpooled = pyo.Constraint(
            pooled,
            rule=lambda m, k: _at_most([(1.0, m.replicas[k]), (-self.most_replicas(k), m.open[k])], 0.0),
        )

    def _define_unsplit(self) -> None:
        """whole[k, v], one_pool[c, phase]:  rate ≤ all of the task's calls·chosen,  Σ chosen ≤ 1 per phase."""
        m = self.pyomo
        m.chosen = pyo.Var(self.flow_keys, domain=pyo.Binary)

        def whole(m: Any, k: int, v: int) -> Any:
            return _at_most([(1.0, m.rate[k, v]), (-self._most_shares(k, v), m.chosen[k, v])], 0.0)

        phases: dict[tuple[int, bool], list[_Term]] = defaultdict(list)
        for key in self.flow_keys:
            flow = self.data.flows[self._flow(*key)]
            phases[flow.task, flow.serves].append((1.0, m.chosen[key]))
        keys = list(phases)
        m.whole = pyo.Constraint(self.flow_keys, rule=whole)
        m.one_pool = pyo.Constraint(range(len(keys)), rule=lambda m, i: _at_most(phases[keys[i]], 1.0))

    def _define_designs(self) -> None:
        """design[k], designs[stage]:  replicas[k] ≤ M_k·used[g],  Σ_g used[g] ≤ D."""
        m = self.pyomo
        groups = sorted({self._group(k) for k in self.columns})
        m.used = pyo.Var(groups, domain=pyo.Binary)
        m.design = pyo.Constraint(
            self.columns,
            rule=lambda m, k: _at_most(
                [(1.0, m.replicas[k]), (-self.most_replicas(k), m.used[self._group(k)])], 0.0
            ),
        )
        if self.data.max_designs is not None:
            stage = {g: self.data.groups[g].stage for g in groups}
            m.designs = pyo.Constraint(
                sorted(set(stage.values())),
                rule=lambda m, s: _at_most([(1.0, m.used[g]) for g in groups if stage[g] == s], self.data.max_designs),
            )

    def _define_spares(self) -> None:
        """spare[g], small_pool[g]:  spares[g] ≥ min(replicas lost with a server, replicas of the group).

        spread[p, g]:  2·used[g] ≤ set_aside[p], since on one server the spares would be lost with the rest.
        reserve[g], usable[p]:  Σ replicas·min(lost, M_g)/M_g ≤ spares[g] and the same of all groups of a packing:
        chords over what limits leave room for, implied by whole counts, and most of what a relaxation knows of spares.
        """
        m = self.pyomo
        members: dict[int, list[int]] = defaultdict(list)
        for k in self.columns:
            members[self._group(k)].append(k)
        groups = sorted(members)
        lost = {g: self.data.groups[g].replicas_lost_with_server for g in groups}
        most = {g: float(sum(self.most_replicas(k) for k in members[g])) for g in groups}
        servers = most_servers(self.data)
        places = [place for place in spared(self.data) if not members.keys().isdisjoint(place.packed)]
        for place in places:
            for g in members.keys() & place.packed.keys():
                room = place.most_replicas(g, float(servers[place.hardware]), lost[g])
                most[g] = min(most[g], max(0.0, room))
        m.small = pyo.Var(groups, domain=pyo.Binary)
        m.spare = pyo.Constraint(
            groups,
            rule=lambda m, g: _at_most(
                [(lost[g], m.used[g]), (-lost[g], m.small[g]), (-1.0, m.spares[g])], 0.0
            ),
        )
        m.small_pool = pyo.Constraint(
            groups,
            rule=lambda m, g: _at_most(
                [(1.0, m.replicas[k]) for k in members[g]] + [(-1.0, m.spares[g]), (most[g], m.small[g])],
                most[g],
            ),
        )
        pairs = {(place.packing, g) for place in places for g in members.keys() & place.packed.keys()}
        m.spread = pyo.Constraint(
            sorted(pairs), rule=lambda m, p, g: _at_most([(2.0, m.used[g]), (-1.0, m.set_aside[p])], 0.0)
        )
        m.reserve = pyo.Constraint(
            groups,
            rule=lambda m, g: _at_most(
                [*((min(1.0, lost[g] / max(most[g], 1.0)), m.replicas[k]) for k in members[g]), (-1.0, m.spares[g])],
                0.0,
            ),
        )

        def usable(m: Any, p: int) -> Any:
            place, room = place_of[p], float(servers[place_of[p].hardware])
            terms = [(size, m.replicas[k]) for g, size in place.packed.items() for k in members.get(g, ())]
            each = place.usable(room) / max(room, 1.0) if np.isfinite(room) else place.slots
            return _at_most([*terms, (-each, m.set_aside[p])], 0.0)

        place_of = {place.packing: place for place in places}
        m.usable = pyo.Constraint(sorted(place_of), rule=usable)

    def _define_vendors(self) -> None:
        """vendor[o,w], vendors:  servers[o] ≤ M_o·trusted[w]  [each vendor w of offer o],  Σ trusted ≤ V."""
        m, data = self.pyomo, self.data
        m.trusted = pyo.Var(sorted({h.vendor for h in data.hardware}), domain=pyo.Binary)
        named = [(o, {data.hardware[row].vendor for row in offer.supplies}) for o, offer in enumerate(data.offers)]
        m.vendor = pyo.Constraint(
            [(o, vendor) for o, vendors in named for vendor in sorted(vendors)],
            rule=lambda m, o, vendor: _at_most(
                [(1.0, m.servers[o]), (-self._most_servers(o), m.trusted[vendor])], 0.0
            ),
        )
        most = float(data.max_vendors or 0)
        m.vendors = pyo.Constraint(rule=_at_most([(1.0, v) for v in m.trusted.values()], most))

    def _drop_implied(self) -> None:
        """Counts that are whole because others are need no integrality: a third of the branching on measured pools.

        With one packing on a hardware all its servers may be set aside for it.  A replica that fills a server of a
        packing of its own, and costs nothing but that server, may as well run in every server: read it rounded up.
        """
        data, m = self.data, self.pyomo
        shared = [p.hardware for p in data.packings]
        limited = {p for limit in data.limits for p in limit.per_packing}
        alone = {p for p, h in enumerate(shared) if shared.count(h) == 1 and p not in limited}
        for p in alone:
            m.set_aside[p].domain = pyo.NonNegativeReals
        if data.survive_one_server or self.fewest:  # where each replica counts, a part of one is fewer
            return
        columns: dict[int, list[int]] = defaultdict(list)
        for k in self.columns:
            places = self.packed(k)
            for p, _ in places:
                # A replica of two kinds of accelerator cannot be read rounded up: its other half shares servers.
                columns[p] += [k] * (1 if len(places) == 1 else 2)
        counted = {g for limit in data.limits for g in limit.per_group}
        metered = {h for limit in data.limits for h in limit.per_watt}
        for p in alone & {p for p, members in columns.items() if len(members) == 1}:
            k = columns[p][0]
            block, i = self.place[k]
            powered = block.replica_power_w[i] != 0 and (data.watt_price(shared[p]) != 0 or shared[p] in metered)
            fills = block.packed[i] == data.packings[p].slots and block.min_replicas[i] <= 1
            if fills and not powered and self._group(k) not in counted:
                m.replicas[k].domain = pyo.NonNegativeReals

    def _define_objective(self) -> None:
        """cost:  Σ server price·servers + Σ module price·modules
        + watt price·(Σ replica power·(replicas + spares) + Σ flow power·rate).
        """
        data, m = self.data, self.pyomo
        if self.fewest:
            m.cost = pyo.Objective(expr=_linear(self._counted()), sense=pyo.minimize)
            return
        terms = [(data.server_price(offer), m.servers[o]) for o, offer in enumerate(data.offers)]
        terms += [(data.module_price(j), m.modules[j]) for j in range(len(data.modules))]
        terms += self._power({h: data.watt_price(h) for h in range(len(data.hardware))})
        if self.penalty is not None:
            terms += [(self.penalty.shortfall, m.shortfall[c]) for c in range(len(data.tasks))]
            terms += [(price, m.excess[i]) for i, price in enumerate(self.penalty.excess)]
        m.cost = pyo.Objective(expr=_linear(terms), sense=pyo.minimize)

    def _counted(self) -> list[_Term]:
        """Servers, of equally many those of fewer accelerators; then modules, then replicas and spares."""
        data, m = self.data, self.pyomo
        accelerators = [sum(data.hardware[h].accelerators for h in offer.supplies) for offer in data.offers]
        terms: list[_Term] = [(1.0 + 1e-3 * n / max(accelerators), m.servers[o]) for o, n in enumerate(accelerators)]
        terms += [(1e-2, m.modules[j]) for j, module in enumerate(data.modules) if module.whole]
        terms += [(1e-4, m.replicas[k]) for k in self.columns]
        terms += [(1e-4, spares) for spares in m.spares.values() if not spares.fixed]
        return terms

    def _power(self, price: dict[int, float]) -> list[_Term]:
        """Mean IT power of everything on some hardware, times a price per watt by hardware."""
        terms: list[_Term] = []
        spared: set[int] = set()
        for k in self.columns:
            block, i = self.place[k]
            watt = price.get(self.data.packings[int(block.packing[i])].hardware, 0.0)
            if watt == 0.0:
                continue
            terms.append((watt * float(block.replica_power_w[i]), self.pyomo.replicas[k]))
            group = int(block.group[i])
            if not self.relaxed and group not in spared:
                spared.add(group)
                terms.append((watt * float(block.replica_power_w[i]), self.pyomo.spares[group]))
        for k, v in self.flow_keys:
            block, i = self.place[k]
            watt = price.get(self.data.packings[int(block.packing[i])].hardware, 0.0)
            if watt != 0.0:
                watts = float(block.flow_power_w[block.use.source[i], v]) * self.unit(k, v)
                terms.append((watt * watts, self.pyomo.rate[k, v]))
        return terms


def _linear(terms: list[_Term]) -> LinearExpression:
    return LinearExpression(
        constant=0.0, linear_coefs=[c for c, _ in terms], linear_vars=[v for _, v in terms]
    )


def _at_most(terms: list[_Term], limit: float) -> Any:
    if not terms:
        return pyo.Constraint.Feasible if limit >= 0 else pyo.Constraint.Infeasible
    return (None, _linear(terms), limit)


def _equal(terms: list[_Term], value: float) -> Any:
    if not terms:
        return pyo.Constraint.Feasible if value == 0 else pyo.Constraint.Infeasible
    return (value, _linear(terms), value)
