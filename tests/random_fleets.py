"""Random small fleet problems that draw every field of `FleetData`, by kinds: what each kind is about always comes up.

A kind forces its features and lets the others come up now and then.  `Dice` throws numpy's generator; hypothesis has
dice of its own (`fleets.Drawn`), so both draw the same problems.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from second_milp import SecondPlan, second_optimum

from codesign.candidates.data import (
    ColumnBlock,
    FleetData,
    Flow,
    Group,
    Hardware,
    Module,
    Offer,
    Packing,
    RowUse,
    SideLimit,
)

FEATURES = (
    "phases", "own packings", "pairs", "levels", "modules", "chains", "by hardware", "floors", "watts", "energy",
    "included", "periods", "scenarios", "units", "kept", "least purchase", "stock", "vendors", "designs", "n+1",
    "unsplit", "pooling", "wide", "ties", "free", "binding",
)  # fmt: skip
_NOW_AND_THEN = 0.1
_SLOW = {"periods": 0.3, "scenarios": 0.3, "wide": 0.0, "binding": 0.0}
"""Features that come up less often where they are not asked for, by the factor."""


@dataclass(frozen=True)
class Kind:
    """Features that are always drawn, how likely the others are, and columns of each role."""

    always: tuple[str, ...]
    others: float = _NOW_AND_THEN
    columns: tuple[int, int] = (1, 3)


KINDS = {
    "colocated": Kind(()),
    "phases": Kind(("phases",)),
    "own packings": Kind(("own packings",)),
    "two packings": Kind(("pairs", "own packings")),
    "n+1": Kind(("n+1",)),
    "n+1 of pairs": Kind(("n+1", "pairs", "levels")),
    "designs and vendors": Kind(("designs", "vendors")),
    "one pool": Kind(("unsplit",)),
    "minima": Kind(("pooling", "least purchase", "stock")),
    "memory tiers": Kind(("modules", "phases")),
    "memory in servers": Kind(("modules", "included", "vendors", "least purchase")),
    "chains of modules": Kind(("modules", "chains")),
    "floors": Kind(("floors",)),
    "kept servers": Kind(("kept", "vendors", "least purchase")),
    "watts": Kind(("watts", "energy")),
    "periods": Kind(("periods",)),
    "scenarios": Kind(("scenarios", "watts")),
    "purchase units": Kind(("units", "by hardware")),
    "nine orders": Kind(("wide",)),
    "nine orders, all": Kind(("wide", "modules", "floors"), 0.2),
    "rescaled": Kind((), 0.15),
    "ties": Kind(("ties",)),
    "zero prices": Kind(("free", "ties")),
    "at the optimum": Kind(("binding",)),
    "everything": Kind((), 0.4),
    "many columns": Kind((), 0.1, (5, 10)),
    "many columns, nine orders": Kind(("wide",), 0.1, (5, 10)),
    "measured pools": Kind((), 0.15),
    "measured pools, nine orders": Kind(("wide",), 0.15),
    "outer columns": Kind(("outer",)),
}
"""By name."""


class Dice:
    """What a seed draws."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def pick(self, *values):
        """One of the values."""
        return values[int(self._rng.integers(len(values)))]

    def whole(self, low, high):
        """A whole number, both ends included."""
        return int(self._rng.integers(low, high + 1))

    def chance(self, share):
        """Yes in a share of draws."""
        return bool(self._rng.random() < share)

    def between(self, low, high):
        """Any number."""
        return float(self._rng.uniform(low, high))

    def orders(self, low, high):
        """A power of ten, any exponent."""
        return 10.0 ** self.between(low, high)


def kind_of(seed):
    """The kind that a seed draws by itself."""
    return tuple(KINDS)[seed % len(KINDS)]


def random_fleet(seed, kind=None, columns=None):
    """A fleet problem; `columns` of each role, by default those of its kind."""
    dice, name = Dice(seed), kind or kind_of(seed)
    kind = KINDS[name]
    if name.startswith("measured"):
        return Drawing(dice, kind, (2, 6)).measured()
    data = Drawing(dice, kind, columns or kind.columns).fleet()
    if name == "rescaled":
        return rescaled(data, [dice.orders(-9, 6) for _ in data.tasks], 10.0 ** dice.whole(-5, 4))
    return at_the_optimum(dice, data) if "binding" in kind.always else data


def at_the_optimum(dice, data):
    """The same with one limit that the optimum just keeps, or just does not."""
    plan = second_optimum(data)
    if plan.status != "optimal":
        return data
    rows = [limit for limit in data.limits if limit.per_server or limit.per_watt or limit.per_module]
    every = SideLimit("cost", "$/h", 0.0, {o: offer.usd_per_hour for o, offer in enumerate(data.offers)})
    racks = SideLimit("servers", "servers", 0.0, {o: 1.0 for o in range(len(data.offers))})
    watts = SideLimit("drawn", "W", 0.0, per_watt={h: 1.0 for h in range(len(data.hardware))})
    chosen = dice.pick(every, racks, watts, *rows)
    used = consumption(data, plan, chosen)
    less = dice.pick(0.0, 0.0, 0.0, 0.0, 1e-5, 1e-3, 1e-2)
    tight = replace(chosen, name=f"{chosen.name} at the optimum", limit=used - abs(used) * less)
    return replace(data, limits=(*(limit for limit in data.limits if limit is not chosen), tight))


def rescaled(data, factors, price):
    """The same problem in other units: so many times the tasks of each class, that much less use each; other money."""
    by_flow = np.array([factors[flow.task] for flow in data.flows])

    def block(part):
        by = by_flow[part.flows]
        use = replace(part.use, fixed=part.use.fixed / by, scaled=part.use.scaled / by)
        return replace(part, use=use, flow_power_w=part.flow_power_w / by)

    def limit(row):
        return replace(row, per_flow={(f, h): c / by_flow[f] for (f, h), c in row.per_flow.items()})

    return replace(
        data,
        demand=data.demand * factors,
        calls_bound=data.calls_bound * by_flow,
        blocks=tuple(map(block, data.blocks)),
        limits=tuple(map(limit, data.limits)),
        usd_weight=data.usd_weight * price,
        watt_weight=data.watt_weight * price,
    )


def orders(data):
    """(of rates, of prices): factors of ten between the least and the most that are not nothing."""
    prices = [offer.usd_per_hour for offer in data.offers] + [module.usd_per_hour for module in data.modules]
    found = []
    for values in (data.demand, prices):
        some = [value for value in values if value > 0]
        found.append(math.log10(max(some) / min(some)) if some else 0.0)
    return tuple(found)


def consumption(data, plan, limit):
    """Left side of a limit under a plan."""
    columns = [(block, i) for block in data.blocks for i in range(len(block))]
    first = {}
    for k, (block, i) in enumerate(columns):
        first.setdefault(int(block.group[i]), k)

    def hardware(k):
        block, i = columns[k]
        return data.packings[int(block.packing[i])].hardware

    def watts(k):
        return limit.per_watt.get(hardware(k), 0.0) * float(columns[k][0].replica_power_w[columns[k][1]])

    terms = [c * plan.servers.get(o, 0) for o, c in limit.per_server.items()]
    terms += [c * plan.set_aside.get(p, 0) for p, c in limit.per_packing.items()]
    terms += [c * plan.modules.get(j, 0) for j, c in limit.per_module.items()]
    for k, n in plan.replicas.items():
        block, i = columns[k]
        terms.append((limit.per_group.get(int(block.group[i]), 0.0) + watts(k)) * n)
    terms += [watts(first[g]) * n for g, n in plan.spares.items()]
    for (k, f), rate in plan.rates.items():
        block, i = columns[k]
        v = block.flows.tolist().index(f)
        each = sum(limit.per_flow.get((f, h), 0.0) for h in (hardware(k), -1))
        each += limit.per_watt.get(hardware(k), 0.0) * float(block.flow_power_w[block.use.source[i], v])
        terms.append(each * rate)
    return math.fsum(terms)


@dataclass
class _Role:
    """Columns of one role: which flows they run, and what a replica needs of a row for all of a flow's calls."""

    word: str
    flows: list[int]
    need: np.ndarray
    """[S, R, V]."""
    source: np.ndarray
    level: np.ndarray
    power: np.ndarray
    scaled: float
    """Share of use that goes with the level."""
    offered: np.ndarray
    """[K, R]."""
    size: np.ndarray
    """[R]."""
    admissible: np.ndarray
    packing: list[int]
    packed: list[float]
    other: list[int]
    other_packed: list[float]
    group: list[int]
    least: list[int]
    watts: list[float]
    flow_watts: np.ndarray
    """[S, V] if all of the task's calls run there."""


class Drawing:
    """One problem being drawn."""

    def __init__(self, dice, kind, columns):
        self.dice, self.kind, self.count = dice, kind, columns
        self.on = {word: word in kind.always or self._now_and_then(word) for word in FEATURES}
        if self.on["chains"]:
            self.on["modules"] = True
        if self.on["scenarios"]:
            self.on["periods"] = False
        self.groups: list[Group] = []

    def _now_and_then(self, word):
        factor = _SLOW.get(word, 1.0) if self.kind.others < 0.3 else 1.0 if word not in ("wide", "binding") else 0.2
        return self.dice.chance(self.kind.others * factor)

    # -- the problem -------------------------------------------------------------------------------------

    def fleet(self):
        """Everything."""
        on, dice = self.on, self.dice
        self.stages = 1
        if on["periods"] or on["scenarios"]:
            self.stages = dice.whole(2, 3 if self.count[1] < 4 else 2)
            self.count = (1, 1 if self.stages == 3 else 2)
        self.stretched = on["wide"] and dice.chance(0.7)  # by six orders and more, rates and prices
        self.tasks = dice.whole(2 if self.stretched else 1, 2 if self.stages > 1 else 3)
        self._draw_hardware()
        self._draw_flows()
        roles = self._roles()
        demand = self._demands()
        shares = [self.dice.between(0.3, 1.0) for _ in range(self.stages)]
        blocks = tuple(self._block(role, s, demand) for s in range(self.stages) for role in roles)
        busy = [np.ones(self.tasks)] + [
            np.array([dice.pick(0.2, 0.5, 1.0, 1.3, 0.0 if dice.chance(0.3) else 1.0) for _ in range(self.tasks)])
            for _ in range(self.stages - 1)
        ]
        objective = self._objective()
        width, height = len(self.flows), len(self.packings)
        data = FleetData(
            tasks=tuple(f"task{c}|{s}" for s in range(self.stages) for c in range(self.tasks)),
            demand=np.concatenate([demand * factor for factor in busy]),
            calls_bound=np.array(
                [factor[flow.task] * demand[flow.task] / flow.tasks_per_call for factor in busy for flow in self.flows]
            ),
            flows=tuple(self._flow(flow, s) for s in range(self.stages) for flow in self.flows),
            commodities=tuple(f"c{m}|{s}" for s in range(self.stages) for m in range(self.commodities)),
            blocks=blocks,
            offers=tuple(self._offers()),
            hardware=tuple(
                replace(row, hours_share=shares[s] if self.stages > 1 else 1.0)
                for s in range(self.stages)
                for row in self.hardware
            ),
            packings=tuple(
                replace(packing, hardware=packing.hardware + s * len(self.hardware))
                for s in range(self.stages)
                for packing in self.packings
            ),
            groups=tuple(
                replace(group, hardware=group.hardware + s * len(self.hardware), stage=s)
                for s in range(self.stages)
                for group in self.groups
            ),
            limits=(),
            modules=tuple(self._modules()),
            max_designs=dice.whole(1, 3) if on["designs"] else None,
            max_vendors=dice.pick(1, 1, 2) if on["vendors"] else None,
            survive_one_server=on["n+1"],
            split_tasks=not on["unsplit"],
            pue=dice.pick(1.0, 1.25),
            **objective,
        )
        self.width, self.height = width, height
        data = replace(data, limits=tuple(self._limits(data)))
        if "outer" in self.kind.always:
            data = replace(data, outer=tuple(self._around(block) for block in data.blocks))
        return self._at_risk(data) if on["scenarios"] and dice.chance(0.7) else data

    def _around(self, block):
        """Columns that hold all that a block's do, and often more."""
        dice = self.dice
        fewer = np.array([dice.pick(0, 0, 1) for _ in range(len(block))], dtype=np.int64)
        wider = np.array([dice.pick(1.0, 1.0, 1.02, 1.3) for _ in range(len(block))])
        least = np.maximum(block.min_replicas - fewer, 1)
        return replace(block, limit=block.limit * wider[:, None], min_replicas=least)

    def _demands(self):
        """[tasks] per second."""
        dice = self.dice
        if self.stretched:
            apart = [dice.orders(-9, -4), dice.orders(2, 6)]
            dice.pick(apart.sort, apart.reverse)()
            return np.array([*apart, dice.orders(-9, 6)])[: self.tasks]
        if self.on["wide"]:
            return np.array([dice.orders(-9, 6) for _ in range(self.tasks)])
        return np.array([dice.pick(1.7, 1.0, 0.5, dice.between(0.3, 3.0)) for _ in range(self.tasks)])

    def _price(self, usual):
        if self.on["free"] and self.dice.chance(0.5):
            return 0.0
        if self.stretched:
            self.priced += 1
            if self.priced <= 2:
                return self.dice.orders(-4, -2) if self.priced % 2 == self.cheap_first else self.dice.orders(4, 5)
        if self.on["wide"]:
            return self.dice.orders(-4, 5)
        return self.dice.pick(1.0, 2.0) if self.on["ties"] else usual

    def _objective(self):
        if self.on["energy"]:
            return {"usd_weight": self.dice.pick(0.0, 1.0), "watt_weight": self.dice.pick(1.0, 0.01)}
        return {"usd_weight": self.dice.pick(1.0, 1.0, 1.0, 1e-5, 40.0), "watt_weight": 0.0}

    # -- servers -----------------------------------------------------------------------------------------

    def _draw_hardware(self):
        dice = self.dice
        several = self.on["units"] or self.on["pairs"] or self.stretched
        count = dice.pick(2, 2, 3) if several else dice.pick(1, 2, 2, 3)
        self.priced, self.cheap_first = 0, dice.pick(0, 1)
        self.hardware = [
            Hardware(
                f"box{h}",
                dice.pick(1, 2, 4, 8),
                0.0 if self.on["free"] and dice.chance(0.3) else dice.pick(300.0, 1000.0),
                dice.pick(1e-3, 2e-4) if self.on["watts"] else 0.0,
                f"v{h % 2}" if self.on["vendors"] or dice.chance(0.5) else "",
            )
            for h in range(count)
        ]
        self.module_count = dice.whole(1, 2) + self.on["chains"] if self.on["modules"] else 0
        self.packings = [Packing(h, row.accelerators) for h, row in enumerate(self.hardware)]
        if self.on["own packings"]:
            for _ in range(dice.whole(1, 2)):
                h = dice.whole(0, count - 1)
                slots = self.hardware[h].accelerators
                self.packings.append(Packing(h, 3 if slots == 4 and dice.chance(0.6) else slots))
        if self.on["modules"] and dice.chance(0.6):
            h = dice.whole(0, count - 1)
            self.packings.append(Packing(h, self.hardware[h].accelerators, {0: float(dice.pick(1, 2, 8))}))

    def _offers(self):
        """Of each kind of server, then what only some features sell."""
        dice, on, width = self.dice, self.on, len(self.hardware)

        def everywhere(*rows):
            return [row + s * width for s in range(self.stages) for row in rows]

        def offer(name, rows, price, least=0):
            capital = 0.0 if dice.chance(0.3) else dice.pick(40.0, 100.0)
            return Offer(name, rows[0], price, capital, least, tuple(rows[1:]))

        found = []
        for h, row in enumerate(self.hardware):
            found.append(offer(f"rent{h}", everywhere(h), self._price(dice.between(0.6, 3.5) * row.accelerators)))
            if on["ties"] and dice.chance(0.5):
                found.append(replace(found[-1], name=f"again{h}"))
        if on["least purchase"]:
            h = dice.whole(0, width - 1)
            least = dice.whole(2, 4)
            found.append(offer("reserved", everywhere(h), 0.7 * found[h if not on["ties"] else 0].usd_per_hour, least))
        if on["units"]:
            rows = [0, dice.pick(*range(1, width))]
            price = sum(next(f for f in found if f.name == f"rent{h}").usd_per_hour for h in rows)
            found.append(offer("unit", everywhere(*rows), self._price(dice.pick(0.5, 0.7, 0.95) * price)))
        if self.stages > 1 and dice.chance(0.4):  # by the hour
            h, s = dice.whole(0, width - 1), dice.whole(0, self.stages - 1)
            found.append(offer("spot", [h + s * width], self._price(0.4 * found[0].usd_per_hour)))
        if on["kept"]:
            h = dice.whole(0, width - 1)
            found.append(offer("existing", everywhere(h), self._price(dice.pick(0.0, 0.5, 3.0)), dice.pick(0, 0, 2)))
        return found

    def _modules(self):
        dice = self.dice
        chained = range(1, self.module_count) if self.on["chains"] else ()
        return [
            Module(
                f"module{j}",
                0.0 if dice.chance(0.2) or (j in chained and dice.chance(0.4)) else self._price(dice.between(0.1, 1.0)),
                capital_usd=dice.pick(0.0, 5.0),
                power_w=dice.pick(0.0, 0.0, 20.0),
                electricity_usd_per_wh=dice.pick(1e-3, 2e-4) if self.on["watts"] else 0.0,
                whole=dice.chance(0.8),
            )
            for j in range(self.module_count)
        ]

    # -- calls -------------------------------------------------------------------------------------------

    def _draw_flows(self):
        dice, flows = self.dice, []
        both = not self.on["phases"] or dice.chance(0.4)
        calls = [float(dice.pick(1, 2, 5)) for _ in range(self.tasks)]
        self.together, self.first, self.second = [], [], []
        if both:
            for c in range(self.tasks):
                self.together.append(len(flows))
                flows.append(Flow(f"task{c}", c, True, 1.0 / calls[c], None, 0))
        self.commodities = 0
        if self.on["phases"]:
            for c in range(self.tasks):
                for _ in range(2 if self.tasks == 1 and dice.chance(0.3) else 1):
                    m, self.commodities = self.commodities, self.commodities + 1
                    self.first.append(len(flows))
                    self.second.append(len(flows) + 1)
                    flows.append(Flow(f"prefill{m}", c, True, 1.0 / calls[c], m, -1))
                    flows.append(Flow(f"decode{m}", c, False, 1.0 / calls[c], m, 1))
        self.flows = flows

    def _flow(self, flow, s):
        commodity = None if flow.commodity is None else flow.commodity + s * self.commodities
        return replace(flow, name=f"{flow.name}|{s}", task=flow.task + s * self.tasks, commodity=commodity)

    # -- columns -----------------------------------------------------------------------------------------

    def _roles(self):
        roles = []
        if self.together:
            roles.append(self._role("colocated", self.together, self.dice.whole(*self.count) + (not self.first)))
        if self.first:
            roles.append(self._role("prefill", self.first, self.dice.whole(1, max(1, self.count[1] - 1))))
            roles.append(self._role("decode", self.second, self.dice.whole(1, max(1, self.count[1] - 1))))
        if self.on["pairs"] and not any(p >= 0 for role in roles for p in role.other):
            self._pair(roles[-1], 0)
        return roles

    def _need(self, shape):
        """Replicas that all of a flow's calls ask for."""
        if self.on["wide"]:
            high = self.dice.pick(2.0, 2.0, 2.0, 3.0, 4.0, 6.0)
            return np.array([self.dice.orders(-4, high) for _ in range(math.prod(shape))]).reshape(shape)
        usual = (0.2, 0.5, 0.7, 1.0, 1.3, 2.6)
        ties = self.on["ties"]
        draws = [self.dice.pick(*usual) if ties else self.dice.between(0.15, 2.0) for _ in range(math.prod(shape))]
        return np.array(draws).reshape(shape)

    def _role(self, word, flows, count):
        dice = self.dice
        shared = self.on["levels"] and count > 1
        sources = dice.whole(1, count - 1) if shared else count
        source = np.array([k % sources for k in range(count)]) if shared else np.arange(count)
        rows, width = dice.whole(1, 3), len(flows)
        need = self._need((sources, rows, width))
        for s in range(sources):
            for r in range(1, rows):
                for v in range(width):
                    if dice.chance(0.25):
                        need[s, r, v] = 0.0
        size = np.array([dice.orders(-3, 12) if self.on["wide"] else dice.pick(1.0, 1.0, 1e9) for _ in range(rows)])
        offered = np.array([[dice.pick(1.0, dice.between(0.7, 1.6)) for _ in range(rows)] for _ in range(count)])
        if rows > 1 and dice.chance(0.03):
            offered[dice.whole(0, count - 1), rows - 1] = 0.0
        if self.kind.others > 0.3 and dice.chance(0.02):
            offered[dice.whole(0, count - 1), rows - 1] *= -1.0  # it offers less than nothing: it may not run
        role = _Role(
            word, flows, need, source,
            np.array([dice.pick(0.5, 1.0, 2.0) if shared else 1.0 for _ in range(count)]),
            np.array([dice.pick(0.0, 1.0, 2.0) if shared else 0.0 for _ in range(rows)]),
            dice.pick(0.0, 0.5, 1.0) if shared else 0.0,
            offered, size,
            np.array([[dice.chance(0.94) for _ in flows] for _ in range(count)]),
            [], [], [], [], [],
            [dice.pick(1, 2, 3) if self.on["pooling"] else 1 for _ in range(count)],
            [],
            np.array([[dice.pick(0.0, dice.between(0.0, 60.0)) for _ in flows] for _ in range(sources)]),
        )  # fmt: skip
        for k in range(count):
            p = dice.whole(0, len(self.packings) - 1)
            role.packing.append(p)
            role.packed.append(float(dice.pick(*sizes(self.packings[p].slots))))
            role.other.append(-1)
            role.other_packed.append(0.0)
            if self.on["pairs"] and dice.chance(0.5):
                self._pair(role, k)
            role.watts.append(dice.pick(0.0, 100.0, 400.0) if self.on["watts"] or self.on["energy"] else 0.0)
        for k in range(count):
            self._join(role, k)
        if self.on["ties"] and dice.chance(0.4):
            self._copy(role, dice.whole(0, count - 1))
        return role

    def _pair(self, role, k):
        """A second kind of accelerator, on any servers but the first kind's own."""
        others = [p for p in range(len(self.packings)) if p != role.packing[k]]
        if others:
            p = self.dice.pick(*others)
            role.other[k] = p
            role.other_packed[k] = float(self.dice.pick(*sizes(self.packings[p].slots)))
            if len(role.group) > k:
                self._join(role, k)

    def _join(self, role, k):
        """Its group: an own one, or that of a column that is alike."""
        alike = ("packing", "packed", "other", "other_packed")
        for j in range(min(k, len(role.group))):
            if all(getattr(role, word)[j] == getattr(role, word)[k] for word in alike) and self.dice.chance(0.5):
                number, role.watts[k] = role.group[j], role.watts[j]
                break
        else:
            number = len(self.groups)
            row = self.hardware[self.packings[role.packing[k]].hardware]
            lost = max(1, row.accelerators // int(role.packed[k])) if self.dice.chance(0.7) else self.dice.whole(1, 3)
            h = self.packings[role.packing[k]].hardware
            self.groups.append(Group(f"g{number}", h, lost, 0, f"m/{role.word}", role.word))
        if len(role.group) > k:
            role.group[k] = number
        else:
            role.group.append(number)

    def _copy(self, role, k):
        """The same column again, in its group."""
        for word in ("source", "level", "offered", "admissible"):
            values = getattr(role, word)
            setattr(role, word, np.concatenate([values, values[k : k + 1]]))
        for word in ("packing", "packed", "other", "other_packed", "group", "least", "watts"):
            getattr(role, word).append(getattr(role, word)[k])

    def _block(self, role, s, demand):
        calls = np.array([demand[self.flows[f].task] / self.flows[f].tasks_per_call for f in role.flows])
        whole = role.need * role.size[:, None] / calls
        pairs = any(p >= 0 for p in role.other)
        step = s * len(self.packings)
        used = np.array([np.any(role.need[source] > 0, axis=0) for source in role.source])
        return ColumnBlock(
            flows=np.array(role.flows, dtype=np.int64) + s * len(self.flows),
            row_names=tuple(f"row{r}" for r in range(len(role.size))),
            use=RowUse(whole * (1 - role.scaled), whole * role.scaled, role.power, role.source, role.level),
            limit=role.offered * role.size,
            admissible=role.admissible & used,
            flow_power_w=role.flow_watts / calls * bool(self.on["watts"] or self.on["energy"]),
            replica_power_w=np.array(role.watts),
            packing=np.array(role.packing, dtype=np.int64) + step,
            packed=np.array(role.packed),
            group=np.array(role.group, dtype=np.int64) + s * len(self.groups),
            min_replicas=np.array(role.least, dtype=np.int64),
            other_packing=np.array([p + step if p >= 0 else -1 for p in role.other], dtype=np.int64) if pairs else None,
            other_packed=np.array(role.other_packed) if pairs else None,
        )

    # -- limits ------------------------------------------------------------------------------------------

    def _limits(self, data):
        """Of every kind that is on, of the size of what a plan takes that comes to mind first."""
        plan = crude(data)
        found = []
        for limit in self._rows(data):
            used = consumption(data, plan, limit)
            if limit.name.startswith("memory") or limit.name.startswith("places"):
                found.append(limit)
                continue
            factor = self.dice.pick(0.5, 0.9, 1.0, 1.5, 2.5) if used > 0 else self.dice.pick(0.3, 1.0, 1.5, 3.0)
            whole = limit.unit in ("servers", "replicas", "modules")
            size = used * factor or float(self.dice.pick(0.0, 1.0, 2.0))
            if limit.name.startswith("least") or limit.name.startswith("kept"):
                size = -abs(size) or -1.0
            found.append(replace(limit, limit=float(math.floor(size)) if whole else size))
        return found

    def _rows(self, data):
        """The limits' members."""
        dice, on = self.dice, self.on
        offers, modules, rows = range(len(data.offers)), range(len(data.modules)), range(len(data.hardware))

        def servers_of(h):
            return {o: float(data.hardware[h].accelerators) for o in offers if h in data.offers[o].supplies}

        peak = {o: sum(data.hardware[h].peak_power_w for h in data.offers[o].supplies) for o in offers}
        if on["stock"]:
            yield SideLimit("inventory", "accelerators", 0.0, servers_of(dice.pick(*rows)))
            yield SideLimit("stock", "servers", 0.0, {dice.pick(*offers): 1.0})
            if dice.chance(0.3):
                drawn = {j: data.modules[j].power_w for j in modules if data.modules[j].power_w}
                yield SideLimit("power", "W", 0.0, peak, per_module=drawn)
            if dice.chance(0.3):
                capital = {o: data.offers[o].capital_usd for o in offers if data.offers[o].capital_usd}
                each = {j: data.modules[j].capital_usd for j in modules}
                yield SideLimit("capital", "$", 0.0, capital, per_module=each)
        if on["watts"]:
            electricity = {h: data.hardware[h].electricity_usd_per_wh for h in rows}
            price = {o: data.offers[o].usd_per_hour for o in offers}
            if dice.chance(0.5):
                yield SideLimit("budget", "$/h", 0.0, price, per_watt=electricity)
            if dice.chance(0.5):
                yield SideLimit("drawn", "W", 0.0, per_watt={h: 1.0 for h in rows if dice.chance(0.8)})
        if on["by hardware"]:
            f = dice.whole(0, len(data.flows) - 1)
            each = 1.0 / (data.calls_bound[f] or 1.0)
            members = {(f, h): each for h in rows if dice.chance(0.7)}
            if dice.chance(0.3):
                members[f, -1] = 0.3 * each
            yield SideLimit("region", "share", 0.0, per_flow=members)
        if on["own packings"] and dice.chance(0.4):
            p = dice.whole(0, len(data.packings) - 1)
            yield SideLimit("racks", "servers", 0.0, per_packing={p: 1.0})
        if dice.chance(0.1):
            members = {g: 1.0 for g in range(len(data.groups)) if dice.chance(0.6)}
            yield SideLimit("pools", "replicas", 0.0, per_group=members)
        if on["kept"]:
            kept = [o for o in offers if data.offers[o].name == "existing"] or list(offers)
            yield SideLimit("kept", "servers", 0.0, {o: -1.0 for o in kept})
        if on["floors"]:
            yield from self._floors(data)
        if on["modules"]:
            yield from self._tiers(data)

    def _floors(self, data):
        """Sums that must be large enough."""
        dice = self.dice
        offers, groups, packings = range(len(data.offers)), range(len(data.groups)), range(len(data.packings))
        word = dice.pick("servers", "servers", "replicas", "aside", "mixed")
        if word in ("servers", "mixed"):
            members = {o: -float(dice.pick(1, 2)) for o in offers if dice.chance(0.6)} or {0: -1.0}
            yield SideLimit("least bought", "servers", 0.0, members)
        if word in ("replicas", "mixed"):
            members = {g: -1.0 for g in groups if dice.chance(0.6)} or {0: -1.0}
            yield SideLimit("least run", "replicas", 0.0, per_group=members)
        if word in ("aside", "mixed"):
            yield SideLimit("least aside", "servers", 0.0, per_packing={dice.pick(*packings): -1.0})
        if dice.chance(0.4):  # what runs somewhere needs servers bought elsewhere
            o, g = dice.pick(*offers), dice.pick(*groups)
            yield SideLimit("places of replicas", "", 0.0, {o: -float(dice.pick(1, 2, 3))}, per_group={g: 1.0})

    def _tiers(self, data):
        """Memory that flows use: modules, servers and servers set aside give and take it."""
        dice, modules = self.dice, range(len(data.modules))
        size = dice.pick(1.0, 1e12)
        for word in ("capacity", "bandwidth")[: dice.whole(1, 2)]:
            uses = {
                (f, -1): dice.between(0.3, 4.0) * size / (data.calls_bound[f] or 1.0)
                for f in range(len(data.flows))
                if dice.chance(0.7)
            }
            giving = [j for j in modules if j == 0 or (not self.on["chains"] and dice.chance(0.5))]
            gives = {j: -0.9 * size * dice.pick(1.0, 2.0) for j in giving}
            share = 0.7 if self.on["included"] else 0.25
            included = {o: -0.5 * size for o in range(len(data.offers)) if dice.chance(share)}
            if self.on["included"] and included and dice.chance(0.5):
                gives = {}
            attached = {p: 0.9 * size * n for p, item in enumerate(data.packings) for n in item.modules.values()}
            if dice.chance(0.15):
                attached = {p: -each for p, each in attached.items()}  # servers set aside bring some instead
            yield SideLimit(f"memory.{word}", "B", 0.0, included, attached, per_module=gives, per_flow=uses)
        if dice.chance(0.5):
            places = {o: -float(dice.pick(1, 2, 6)) for o in range(len(data.offers))}
            yield SideLimit("places", "modules", 0.0, places, per_module={0: 1.0})
        if self.on["chains"]:
            for j in modules[1:]:  # each holds so many of the one before
                holds = float(dice.pick(2, 3, 4))
                yield SideLimit(f"places in {j}", "modules", 0.0, per_module={j - 1: 1.0, j: -holds})
        if dice.chance(0.3):
            yield SideLimit("modules", "modules", 0.0, per_module={modules[-1]: 1.0})

    def _at_risk(self, data):
        """The worst of the scenarios, or the mean above a level, instead of the mean."""
        dice, width = self.dice, len(self.hardware)
        level = len(data.modules)
        tail = dice.chance(0.5)
        modules = [Module("level of risk", 1.0, whole=False)]
        limits = list(data.limits)
        for s in range(self.stages):
            watts = {h: data.watt_price(h) for h in range(s * width, (s + 1) * width) if data.watt_price(h)}
            dearer = [(o, offer.usd_per_hour * dice.pick(0.0, 0.2)) for o, offer in enumerate(data.offers)]
            extra = {o: price for o, price in dearer if price and dice.chance(0.7)}
            above = {level: -1.0}
            if tail:
                above[level + len(modules)] = -1.0
                modules.append(Module(f"above it in {s}", 1.0 / self.stages / 0.4, whole=False))
            if watts or extra:
                limits.append(SideLimit(f"risk {s}", "", 0.0, extra, per_watt=watts, per_module=above))
        return replace(
            data,
            hardware=tuple(replace(row, hours_share=0.0) for row in data.hardware),
            modules=(*data.modules, *modules),
            limits=tuple(limits),
            usd_weight=1.0,
            watt_weight=0.0,
        )

    # -- measured pools ----------------------------------------------------------------------------------

    def measured(self):
        """Servers that hold one replica each, of measured rate."""
        dice = self.dice
        self.stretched = self.on["wide"] and dice.chance(0.7)
        self.priced, self.cheap_first = 0, dice.pick(0, 1)
        self.tasks = tasks = dice.whole(2 if self.stretched else 1, 3)
        count = dice.whole(*self.count)
        demand = self._demands()
        need = self._need((count, tasks)) * (1.0 if self.on["wide"] else dice.pick(1.0, 5.0, 20.0))
        open_ = np.array([[dice.chance(0.8) for _ in range(tasks)] for _ in range(count)])
        hardware = [
            Hardware(f"pool{k}", dice.pick(1, 2, 8), dice.pick(0.0, 400.0), 0.0, f"v{k % 2}") for k in range(count)
        ]
        offers = [Offer(f"pool{k}", k, self._price(dice.between(1.0, 9.0)), 0.0, 0) for k in range(count)]
        self.stages, self.hardware, self.packings = 1, hardware, []
        if self.on["units"] and count > 1:
            offers.append(Offer("unit", 0, self._price(0.8 * sum(o.usd_per_hour for o in offers[:2])), 0.0, 0, (1,)))
        if self.on["least purchase"]:
            offers.append(Offer("reserved", 0, 0.6 * offers[0].usd_per_hour, 0.0, dice.whole(2, 4)))
        if self.on["kept"]:
            offers.append(Offer("existing", count - 1, self._price(0.5), 0.0, 0))
        for word in ("modules", "own packings"):
            self.on[word] = False
        data = FleetData(
            tasks=tuple(f"task{c}" for c in range(tasks)),
            demand=demand,
            calls_bound=demand.copy(),
            flows=tuple(Flow(f"task{c}", c, True, 1.0, None, 0) for c in range(tasks)),
            commodities=(),
            blocks=(
                ColumnBlock(
                    flows=np.arange(tasks),
                    row_names=("measured rate",),
                    use=RowUse.dense(np.where(open_, need / demand, 0.0)[:, None, :]),
                    limit=np.ones((count, 1)),
                    admissible=open_,
                    flow_power_w=np.zeros((count, tasks)),
                    replica_power_w=np.array([row.peak_power_w for row in hardware]),
                    packing=np.arange(count),
                    packed=np.array([float(row.accelerators) for row in hardware]),
                    group=np.arange(count),
                    min_replicas=np.ones(count, dtype=np.int64),
                ),
            ),
            offers=tuple(offers),
            hardware=tuple(hardware),
            packings=tuple(Packing(k, row.accelerators) for k, row in enumerate(hardware)),
            groups=tuple(Group(f"pool{k}/serve", k, 1) for k in range(count)),
            limits=(),
            max_designs=dice.whole(1, 3) if self.on["designs"] else None,
            max_vendors=1 if self.on["vendors"] else None,
            survive_one_server=self.on["n+1"],
            split_tasks=not self.on["unsplit"],
            pue=1.0,
            **self._objective(),
        )
        self.groups = list(data.groups)
        return replace(data, limits=tuple(self._limits(data)))


def sizes(slots):
    """Replica sizes that divide one another: within a server, or two servers."""
    if slots == 3:
        return (3,)
    return tuple(size for size in (1, 2, 4, 8) if size <= slots) + ((2 * slots,) if slots > 1 else ())


def crude(data):
    """Counts of the plan that comes to mind first: each phase of a task on the first column that may run it."""
    columns = [(block, i) for block in data.blocks for i in range(len(block))]
    load, rates = {}, {}
    for c in range(len(data.tasks)):
        done = None
        for k, (block, i) in enumerate(columns):
            for v in np.flatnonzero(block.admissible[i]).tolist():
                flow = data.flows[int(block.flows[v])]
                mine = flow.task == c and (done is None if flow.serves else flow.commodity == done and done is not None)
                if mine and np.all(block.limit[i] > 0):
                    done = -1 if flow.commodity is None else flow.commodity if flow.serves else -2
                    rate = float(data.demand[c]) / flow.tasks_per_call
                    rates[k, int(block.flows[v])] = rate
                    load[k] = load.get(k, 0.0) + block.use.one(i)[:, v] * rate
    replicas, slots = {}, defaultdict(float)
    for k, used in load.items():
        block, i = columns[k]
        replicas[k] = max(int(block.min_replicas[i]), math.ceil(np.max(used / block.limit[i]) - 1e-9), 1)
        slots[int(block.packing[i])] += replicas[k] * block.packed[i]
        if block.other_packing is not None and block.other_packing[i] >= 0:
            slots[int(block.other_packing[i])] += replicas[k] * block.other_packed[i]
    aside = {p: math.ceil(n / data.packings[p].slots) for p, n in slots.items()}
    servers = {}
    for h in range(len(data.hardware)):
        needed = sum(n for p, n in aside.items() if data.packings[p].hardware == h)
        have = sum(n for o, n in servers.items() if h in data.offers[o].supplies)
        of = [o for o, offer in enumerate(data.offers) if h in offer.supplies]
        if needed > have and of:
            servers[of[0]] = servers.get(of[0], 0) + needed - have
    modules = {j: 2 for j in range(len(data.modules))}
    return SecondPlan("crude", 0.0, 0.0, replicas, rates, servers, {}, modules, aside)
