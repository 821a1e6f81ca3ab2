"""Hand-made fleet problems for the optimiser's tests, and their optimum by brute force.

The brute force shares nothing with codesign.optimize but the meaning of its arrays: it counts replicas and
servers one by one and asks scipy whether the calls fit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from random_fleets import KINDS, Drawing, sizes
from scipy.optimize import linprog

from codesign.candidates.data import (
    ColumnBlock,
    FleetData,
    Flow,
    Group,
    Hardware,
    Offer,
    Packing,
    RowUse,
    SideLimit,
)

TOLERANCE = 1e-9


def block(flows, use, limit, *, packing=0, packed=1.0, group=0, least=1, power=0.0, flow_power=0.0, open_=True):
    """A block of columns: `use` [K, R, V] and `limit` [K, R] as lists, the rest per column or one for all."""
    use, limit = np.array(use, dtype=np.float64), np.array(limit, dtype=np.float64)
    count, rows, width = use.shape

    def whole(value):
        return np.broadcast_to(np.asarray(value, dtype=np.int64), count).copy()

    def real(value, shape):
        return np.broadcast_to(np.asarray(value, dtype=np.float64), shape).copy()

    return ColumnBlock(
        flows=np.array(flows, dtype=np.int64),
        row_names=tuple(f"row{r}" for r in range(rows)),
        use=RowUse.dense(use),
        limit=limit,
        admissible=np.broadcast_to(open_, (count, width)) & (use.max(axis=1) > 0),
        flow_power_w=real(flow_power, (count, width)),
        replica_power_w=real(power, count),
        packing=whole(packing),
        packed=real(packed, count),
        group=whole(group),
        min_replicas=whole(least),
    )


def colocated(task, calls=1.0):
    """A flow that serves both phases of a task's calls."""
    return Flow(f"task{task}", task, True, 1.0 / calls, None, 0)


def phases(task, commodity, calls=1.0):
    """The prefill and the decode flow of a commodity."""
    return (
        Flow(f"prefill{commodity}", task, True, 1.0 / calls, commodity, -1),
        Flow(f"decode{commodity}", task, False, 1.0 / calls, commodity, 1),
    )


def server(name="box", accelerators=1, peak=0.0, electricity=0.0, vendor=""):
    """A kind of server."""
    return Hardware(name, accelerators, peak, electricity, vendor)


def fleet(demand, flows, blocks, *, hardware=None, offers=None, packings=None, groups=None, limits=(), **options):
    """A fleet problem; by default one hardware of one slot at 1 $/h and a group for each column."""
    hardware = hardware or (server(),)
    offers = offers or tuple(Offer(h.name, i, 1.0, 0.0, 0) for i, h in enumerate(hardware))
    packings = packings or tuple(Packing(i, h.accelerators) for i, h in enumerate(hardware))
    if groups is None:
        numbers = {int(g): int(p) for b in blocks for g, p in zip(b.group, b.packing, strict=True)}
        groups = tuple(Group(f"group{g}", packings[numbers.get(g, 0)].hardware, 1) for g in range(max(numbers) + 1))
    demand = np.array(demand, dtype=np.float64)
    commodities = 1 + max([f.commodity for f in flows if f.commodity is not None], default=-1)
    weights = {"usd_weight": 1.0, "watt_weight": 0.0, "pue": 1.0}
    return FleetData(
        tasks=tuple(f"task{c}" for c in range(len(demand))),
        demand=demand,
        calls_bound=np.array([demand[f.task] / f.tasks_per_call for f in flows]),
        flows=tuple(flows),
        commodities=tuple(f"commodity{i}" for i in range(commodities)),
        blocks=tuple(blocks),
        offers=tuple(offers),
        hardware=tuple(hardware),
        packings=tuple(packings),
        groups=tuple(groups),
        limits=tuple(limits),
        **(weights | options),
    )


# ---- brute force -------------------------------------------------------------------------------------------


def brute_force(data):
    """The least objective over all integer fleets in a box that holds an optimum; inf where there is none."""
    columns = _Columns(data)
    if data.split_tasks:
        return _enumerate_replicas(data, columns)
    return _enumerate_choices(data, columns)


class _Columns:
    """Per column over all blocks, as plain arrays."""

    def __init__(self, data):
        self.place = [(b, i) for b in data.blocks for i in range(len(b))]

        def gather(name):
            return np.concatenate([getattr(b, name) for b in data.blocks])

        self.packing, self.packed, self.group = gather("packing"), gather("packed"), gather("group")
        self.least, self.power = gather("min_replicas"), gather("replica_power_w")
        hardware = [data.hardware[data.packings[p].hardware] for p in self.packing]
        self.watt = np.array([_watt_price(data, h) for h in hardware])
        self.keys = [
            (k, v, int(b.flows[v]))
            for k, (b, i) in enumerate(self.place)
            for v in range(len(b.flows))
            if b.admissible[i, v]
        ]

    def __len__(self):
        return len(self.place)

    def use(self, k, v):
        b, i = self.place[k]
        return b.use.one(i)[:, v]

    def limit(self, k):
        b, i = self.place[k]
        return b.limit[i]

    def flow_cost(self, k, v):
        b, i = self.place[k]
        return self.watt[k] * b.flow_power(slice(i, i + 1))[0, v]

    def most(self, data, k):
        """Replicas that carry every call this column could ever get."""
        load = np.zeros(len(self.limit(k)))
        for task in range(len(data.tasks)):
            uses = [
                self.use(k, v) * data.calls_bound[f]
                for key, v, f in self.keys
                if key == k and data.flows[f].task == task
            ]
            load = load + np.max(uses, axis=0, initial=0.0)
        return max(int(self.least[k]), math.ceil(np.max(load / self.limit(k)) - TOLERANCE))


def _structure(data, columns, counts):
    """Which replica counts [N, K] keep to designs and pooling, and what servers and replicas cost [N]."""
    groups = len(data.groups)
    used = np.zeros((len(counts), groups))
    for k in range(len(columns)):
        used[:, columns.group[k]] += counts[:, k]
    allowed = np.all((counts == 0) | (counts >= columns.least), axis=1)
    if data.max_designs is not None:
        allowed &= np.count_nonzero(used, axis=1) <= data.max_designs
    spares = np.zeros_like(used)
    if data.survive_one_server:
        lost = np.array([g.replicas_lost_with_server for g in data.groups])
        spares = np.minimum(used, lost)
    slots = np.zeros((len(counts), len(data.packings)))
    box = np.array([data.packings[p].hardware for p in columns.packing])
    watts = np.zeros((len(counts), len(data.hardware)))
    for k in range(len(columns)):
        slots[:, columns.packing[k]] += counts[:, k] * columns.packed[k]
        watts[:, box[k]] += counts[:, k] * columns.power[k]
    for g in range(groups):
        member = int(np.flatnonzero(columns.group == g)[0]) if np.any(columns.group == g) else None
        if member is not None:
            slots[:, columns.packing[member]] += spares[:, g] * columns.packed[member]
            watts[:, box[member]] += spares[:, g] * columns.power[member]
    aside = np.ceil(slots / np.array([p.slots for p in data.packings]) - TOLERANCE)
    if data.survive_one_server:  # on one server the spares would be lost with what they replace
        aside = np.where(slots > 0, np.maximum(aside, 2), 0)
    needed = np.zeros((len(counts), len(data.hardware)))
    for p, packing in enumerate(data.packings):
        needed[:, packing.hardware] += aside[:, p]
    price = np.array([_watt_price(data, h) for h in data.hardware])
    return allowed, _purchase(data, needed, aside, used, watts) + watts @ price


def _watt_price(data, hardware):
    return data.usd_weight * hardware.electricity_usd_per_wh + data.watt_weight * data.pue


def _purchase(data, needed, aside, used, watts):
    """[N] the cheapest servers that cover `needed` [N, H] within the limits, inf where nothing does."""
    most = [int(needed[:, list(o.supplies)].max(initial=0)) + o.min_servers for o in data.offers]
    baskets = np.array(list(itertools.product(*(range(m + 1) for m in most))), dtype=np.float64)
    least = np.array([o.min_servers for o in data.offers])
    baskets = baskets[np.all((baskets == 0) | (baskets >= least), axis=1)]
    price = baskets @ np.array([data.usd_weight * o.usd_per_hour for o in data.offers])
    order = np.argsort(price, kind="stable")
    baskets, price = baskets[order], price[order]
    bought = np.zeros((len(baskets), len(data.hardware)))
    for o, offer in enumerate(data.offers):
        bought[:, list(offer.supplies)] += baskets[:, [o]]

    if data.max_vendors is not None:
        vendors = sorted({h.vendor for h in data.hardware})
        named = [{data.hardware[h].vendor for h in o.supplies} for o in data.offers]
        of_vendor = np.array([[vendor in of for vendor in vendors] for of in named])
        kept = np.count_nonzero(baskets @ of_vendor, axis=1) <= data.max_vendors
        baskets, price, bought = baskets[kept], price[kept], bought[kept]

    def of(coefficients, width):
        return np.array([coefficients.get(i, 0.0) for i in range(width)])

    cost = np.full(len(needed), np.inf)
    seen = {}
    for n in range(len(needed)):
        key = (*needed[n], *aside[n], *used[n], *watts[n])
        if key not in seen:
            good = np.all(bought >= needed[n] - TOLERANCE, axis=1)
            for limit in data.limits:
                run = of(limit.per_packing, len(data.packings)) @ aside[n]
                run += of(limit.per_group, len(data.groups)) @ used[n]
                run += of(limit.per_watt, len(data.hardware)) @ watts[n]
                spent = baskets @ of(limit.per_server, len(data.offers)) + run
                good &= spent <= limit.limit + TOLERANCE * limit.scale
            seen[key] = price[np.argmax(good)] if good.any() else np.inf
        cost[n] = seen[key]
    return cost


def _enumerate_replicas(data, columns):
    box = [range(columns.most(data, k) + 1) for k in range(len(columns))]
    counts = np.array(list(itertools.product(*box)), dtype=np.float64)
    allowed, cost = _structure(data, columns, counts)
    possible = allowed & np.isfinite(cost) & _each_task_alone(data, columns, counts)
    counts, cost = counts[possible], cost[possible]
    order = np.argsort(cost, kind="stable")
    counts, cost = counts[order], cost[order]
    routing = _Routing(data, columns)
    hopeless = np.zeros(len(counts), dtype=bool)
    # More of everything serves more: where the largest fleets fail, all within them do.
    for n in np.argsort(-counts.sum(axis=1), kind="stable")[:3]:
        if not hopeless[n] and not np.isfinite(routing.cost(counts[n])):
            hopeless |= np.all(counts <= counts[n], axis=1)
    best = np.inf
    for n in range(len(counts)):
        if cost[n] >= best:
            break
        if hopeless[n]:
            continue
        routed = routing.cost(counts[n])
        if np.isfinite(routed):
            best = min(best, cost[n] + routed)
        else:
            hopeless |= np.all(counts <= counts[n], axis=1)
    return float(best)


def _each_task_alone(data, columns, counts):
    """[N] could each phase of each task be carried if it were alone?  Necessary, and cheap."""
    good = np.ones(len(counts), dtype=bool)
    for task, demand in enumerate(data.demand):
        served = np.zeros(len(counts))
        for k in range(len(columns)):
            alone = [
                data.flows[f].tasks_per_call * _alone(columns, k, v)
                for key, v, f in columns.keys
                if key == k and data.flows[f].task == task and data.flows[f].serves
            ]
            served += counts[:, k] * max(alone, default=0.0) * len(alone)
        good &= served >= demand * (1 - TOLERANCE)
    return good


def _alone(columns, k, v):
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(columns.use(k, v) > 0, columns.limit(k) / columns.use(k, v), np.inf)
    return float(most.min())


class _Routing:
    """The linear program of the calls for given replicas: its least cost, inf where they do not fit."""

    def __init__(self, data, columns):
        self._columns = columns
        width = len(columns.keys)
        self._price = np.array([columns.flow_cost(k, v) for k, v, _ in columns.keys])
        rows, self._limits = [], []
        for k in range(len(columns)):
            for r, limit in enumerate(columns.limit(k)):
                row = np.array([columns.use(j, v)[r] if j == k else 0.0 for j, v, _ in columns.keys])
                rows.append(row / limit)
                self._limits.append((k, 1.0))
        for task, demand in enumerate(data.demand):
            flows = [data.flows[f] for *_, f in columns.keys]
            shares = [f.tasks_per_call / demand if f.serves and f.task == task else 0.0 for f in flows]
            rows.append(-np.array(shares))
            self._limits.append((None, -1.0))
        self._balance = np.array(
            [
                [float(data.flows[f].commodity_sign * (data.flows[f].commodity == c)) for *_, f in columns.keys]
                for c in range(len(data.commodities))
            ]
        ).reshape(len(data.commodities), width)
        self._matrix = np.array(rows).reshape(len(rows), width)

    def cost(self, counts):
        limits = [value if k is None else counts[k] for k, value in self._limits]
        if not self._matrix.shape[1]:
            return np.inf
        found = linprog(
            self._price,
            A_ub=self._matrix,
            b_ub=np.array(limits) + TOLERANCE,
            A_eq=self._balance,
            b_eq=np.zeros(len(self._balance)),
            method="highs-ds",
        )
        return found.fun if found.status == 0 else np.inf


def _enumerate_choices(data, columns):
    """One pool per task and phase: all assignments, each with just the replicas that it needs."""
    options = []
    for task in range(len(data.tasks)):
        ways = []
        for key in columns.keys:
            flow = data.flows[key[2]]
            if flow.task != task or not flow.serves:
                continue
            if flow.commodity is None:
                ways.append((key,))
            ways += [
                (key, other)
                for other in columns.keys
                if flow.commodity is not None
                and data.flows[other[2]].commodity == flow.commodity
                and not data.flows[other[2]].serves
            ]
        options.append(ways)
    counts, routed = [], []
    for choice in itertools.product(*options):
        loads = [np.zeros(len(columns.limit(k))) for k in range(len(columns))]
        cost = 0.0
        for k, v, f in itertools.chain(*choice):
            loads[k] = loads[k] + columns.use(k, v) * data.calls_bound[f]
            cost += columns.flow_cost(k, v) * data.calls_bound[f]
        need = [math.ceil(np.max(load / columns.limit(k)) - TOLERANCE) for k, load in enumerate(loads)]
        counts.append([max(n, int(columns.least[k])) if n else 0 for k, n in enumerate(need)])
        routed.append(cost)
    if not counts:
        return float("inf")
    allowed, cost = _structure(data, columns, np.array(counts, dtype=np.float64))
    return float(np.min(np.where(allowed, cost + np.array(routed), np.inf)))


# ---- random tiny fleets ------------------------------------------------------------------------------------

_PRICES = (1.0, 1.5, 2.0, 3.2, 7.0)
_USES = (0.2, 0.5, 0.7, 1.0, 1.3)


@st.composite
def tiny_fleets(draw):
    """2 to 4 columns on 1 or 2 kinds of server for 1 to 3 tasks, with any of the side conditions."""
    pick = st.sampled_from
    tasks = draw(st.integers(1, 3))
    demand = [draw(pick((1.7, 1.0, 0.5))) for _ in range(tasks)]
    calls = [draw(pick((1.0, 2.0))) for _ in range(tasks)]
    hardware = tuple(
        server(f"box{h}", draw(pick((1, 2, 4))), draw(pick((300.0, 1000.0))), draw(pick((0.0, 1e-3))), f"v{h}")
        for h in range(draw(pick((2, 1, 2))))
    )
    packings = [Packing(h, box.accelerators) for h, box in enumerate(hardware)]
    if draw(st.integers(0, 2)) == 2:  # its own servers, a size outside the chain: 3 of 4 slots
        packings.append(Packing(0, 3 if hardware[0].accelerators == 4 else hardware[0].accelerators))
    offers = [Offer(f"rent{h}", h, draw(pick(_PRICES)), 0.0, 0) for h in range(len(hardware))]
    if draw(st.booleans()):
        least = draw(st.integers(2, 3))
        offers.append(Offer("reserved", 0, 0.7 * offers[0].usd_per_hour, 50.0, least))
    electric = draw(pick((False, False, True)))  # a budget that pays for power: of replicas alone, here
    flows = []
    kinds = draw(pick(("both", "apart", "together")))
    together = [colocated(c, calls[c]) for c in range(tasks)] if kinds != "apart" else []
    apart = [phases(c, c, calls[c]) for c in range(tasks)] if kinds != "together" else []
    flows += together
    prefill = [len(flows) + 2 * c for c in range(len(apart))]
    decode = [len(flows) + 2 * c + 1 for c in range(len(apart))]
    flows += [flow for pair in apart for flow in pair]
    blocks = []
    groups = []

    def add(members, count):
        packing = [draw(st.integers(0, len(packings) - 1)) for _ in range(count)]
        packed = [draw(pick(sizes(packings[p].slots))) for p in packing]
        number = []
        for k in range(count):
            same = k and packing[k] == packing[0] and packed[k] == packed[0] and draw(st.booleans())
            if same:
                number.append(number[0])
                continue
            box = packings[packing[k]].hardware
            number.append(len(groups))
            groups.append(Group(f"g{len(groups)}", box, max(1, hardware[box].accelerators // int(packed[k]))))
        use = [
            [[draw(pick(_USES)) for _ in members], [draw(pick((0.0, *_USES))) for _ in members]] for _ in range(count)
        ]
        open_ = np.array([[draw(st.integers(0, 15)) < 15 for _ in members] for _ in range(count)])
        same_power = {}
        power = [same_power.setdefault(g, draw(pick((0.0, 100.0, 400.0)))) for g in number]
        blocks.append(
            block(
                members,
                use,
                [[draw(pick((0.7, 1.0, 2.1))), draw(pick((1.0, 1.5)))] for _ in range(count)],
                packing=packing,
                packed=packed,
                group=number,
                least=[draw(pick((1, 1, 1, 2, 3))) for _ in range(count)],
                power=power,
                flow_power=[[0.0 if electric else draw(pick((0.0, 50.0))) for _ in members] for _ in range(count)],
                open_=open_,
            )
        )

    if together:
        add(range(tasks), draw(st.integers(1, 2)) + (not apart))
    if apart:
        add(prefill, 1)
        add(decode, 1 + (not together and draw(st.booleans())))
    limits = []
    if draw(pick((False, False, True))):
        size = hardware[0].accelerators
        members = {o: float(size) for o, offer in enumerate(offers) if offer.hardware == 0}
        limits.append(SideLimit("inventory", "accelerators", float(size * draw(pick((6, 4, 2, 1, 0)))), members))
    if electric or draw(pick((False, False, False, True))):
        members = {o: offer.usd_per_hour for o, offer in enumerate(offers)}
        watts = {h: 1e-3 for h in range(len(hardware))} if electric else {}
        limits.append(SideLimit("budget", "$/h", draw(pick((60.0, 30.0, 20.0, 9.0))), members, per_watt=watts))
    if draw(pick((False, False, False, True))):
        members = {o: hardware[offer.hardware].peak_power_w for o, offer in enumerate(offers)}
        limits.append(SideLimit("power", "W", draw(pick((20000.0, 9000.0, 5000.0, 2000.0))), members))
    return fleet(
        demand,
        flows,
        blocks,
        hardware=hardware,
        offers=offers,
        packings=packings,
        groups=groups,
        limits=limits,
        usd_weight=1.0,
        watt_weight=draw(pick((0.0, 0.0, 0.01))),
        pue=1.25,
        max_designs=draw(pick((None, None, None, None, 3, 2, 1))),
        max_vendors=draw(pick((None, None, None, 1))),
        survive_one_server=draw(pick((False, False, True))),
        split_tasks=draw(pick((True, True, False))),
    )


def with_unit(data, share):
    """The same where a server of each of the first two kinds also comes as one purchase, cheaper by a share."""
    apart = [next(o for o, offer in enumerate(data.offers) if offer.hardware == h) for h in (0, 1)]
    number = len(data.offers)
    both = [data.offers[o] for o in apart]
    unit = Offer(
        "pair/rent",
        0,
        (1 - share) * sum(o.usd_per_hour for o in both),
        sum(o.capital_usd for o in both),
        0,
        also_supplies=(1,),
    )
    limits = tuple(
        replace(limit, per_server=limit.per_server | {number: sum(limit.per_server.get(o, 0.0) for o in apart)})
        for limit in data.limits
    )
    return replace(data, offers=(*data.offers, unit), limits=limits)


# ---- everything that random fleets draw, for hypothesis ------------------------------------------------------

PLAIN = tuple(name for name in KINDS if name not in ("at the optimum", "outer columns") and "measured" not in name)
"""Kinds that need no solver to be drawn."""
NARROW = tuple(name for name in PLAIN if "wide" not in KINDS[name].always and name != "rescaled")
"""Kinds of one order of magnitude: figures may be compared absolutely."""


class Drawn:
    """Dice that hypothesis throws: what `random_fleets.Dice` throws from a seed."""

    def __init__(self, draw):
        self._draw = draw

    def pick(self, *values):
        return values[self._draw(st.integers(0, len(values) - 1))]

    def whole(self, low, high):
        return self._draw(st.integers(low, high))

    def chance(self, share):
        return self._draw(st.integers(0, 999)) >= 1000 * (1 - share)

    def between(self, low, high):
        return low + (high - low) * self._draw(st.integers(0, 1000)) / 1000

    def orders(self, low, high):
        return 10.0 ** self.between(low, high)


@st.composite
def any_fleets(draw, kinds=PLAIN):
    """A fleet of any of these kinds, with one or two columns of each role."""
    return Drawing(Drawn(draw), KINDS[draw(st.sampled_from(kinds))], (1, 2)).fleet()
