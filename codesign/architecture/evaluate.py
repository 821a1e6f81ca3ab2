"""What designs are worth: the relaxation of the fleet problem with designed chips beside the parts that compete.

Designs are evaluated in batches: columns of all are built at once (the builders are vectorised over
accelerators), then each is priced with its own. One pricing of all columns at the duals of an earlier
optimum gives every design a valid lower bound first (DESIGN 3.7), so that those above a cutoff need no LP.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from codesign.architecture.part import (
    Assumptions,
    capital_usd,
    design_excesses,
    hardware_options,
    raised_sram,
)
from codesign.architecture.space import Box, Point, Space
from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.data import Bools, FleetData, Floats
from codesign.candidates.flows import Commodity
from codesign.hardware.chip import Excess
from codesign.hardware.tco import annuity_usd_per_hour
from codesign.optimize.duals import Duals, affordable, column_costs
from codesign.optimize.model import Penalty
from codesign.optimize.pricer import column_values
from codesign.optimize.relaxation import Relaxation, relax
from codesign.optimize.strengthen import strengthened
from codesign.problem import resolve
from codesign.problem.architecture import ArchitectureProblem
from codesign.problem.instance import HardwareOption, Instance

_SECONDS = 120.0
"""For one relaxation; they take tenths of a second."""
_SECONDS_PER_HOUR = 3600.0
_TIE = 1e-9
_MISSED = 1e3
"""Price of a task that is not served, in fleets of bought parts."""
_OF_BLOCK = 8
"""Columns of each block that a linear program starts from."""


@dataclass(frozen=True)
class Evaluation:
    """What a point of the space (or the cell of a box) is worth."""

    value: float
    """Weighted first objective over the workloads; inf where designs are not feasible or demand is not met."""
    second: float | None = None
    """The second objective of the same fleets."""
    distance: float = 0.0
    """How much too dear designs are that no fleet buys: by least reduced cost of their columns over cost; where none is
    bought, the share of what a fleet of them alone costs above the value, or 1 + those where they cannot serve all.
    It leads a search over designs that are all worth what buying is; with a cutoff nobody asks for it."""
    bound: float = -np.inf
    """A lower bound on the value; the value itself where it was solved."""
    excess: Mapping[str, float] = field(default_factory=dict)
    """By `design.limit`: positive where broken."""
    reasons: tuple[str, ...] = ()
    """Broken limits in words."""
    by_workload: tuple[float, ...] = ()
    used: tuple[str, ...] = ()
    """Designs that the fleets buy."""

    @property
    def feasible(self) -> bool:
        """Whether every limit holds and all demand is met."""
        return bool(np.isfinite(self.value))


@dataclass(frozen=True)
class _Item:
    """One set of hardware to evaluate beside the parts that compete."""

    options: dict[str, tuple[HardwareOption, ...]]
    """By design."""
    excess: dict[str, float]
    reasons: tuple[str, ...]

    @property
    def possible(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class _Alone:
    """The optimum of a workload's fleet without designs."""

    value: float
    second: float
    duals: Duals
    commodities: tuple[Hashable, ...]

    def duals_for(self, data: FleetData) -> Duals:
        """These prices for data with further hardware.

        Commodities of a vendor who sells nothing yet get the highest price of their like from those who do: any
        price proves what it proves, and this one says what a finished prompt is worth to a fleet that buys.
        """
        known = dict(zip(self.commodities, self.duals.commodity.tolist(), strict=True))
        alike: dict[Hashable, float] = {}
        for item, price in known.items():
            alike[_without_vendor(item)] = max(price, alike.get(_without_vendor(item), -np.inf))
        prices = [known.get(item, alike.get(_without_vendor(item), 0.0)) for item in data.commodities]
        return replace(self.duals, commodity=np.array(prices), bought=np.zeros(len(data.hardware)))


class Evaluator:
    """Evaluates designs of one problem under one set of assumptions."""

    def __init__(self, space: Space, assumptions: Assumptions | None = None, first_variants: bool = False) -> None:
        self.space, self.problem = space, space.problem
        self.assumptions = assumptions or Assumptions.of(space.problem)
        self._instances = [_instance(self.problem, i, first_variants) for i in range(len(self.problem.problems))]
        weights = np.array([workload.weight for workload in self.problem.workloads])
        self._weights = weights / weights.sum()
        self._duals: list[list[Duals]] = [[] for _ in self._instances]
        self._baseline: Evaluation | None = None
        self._bought_alone: dict[int, _Alone | None] = {}
        self._common: dict[int, Candidates] = {}
        self.solves = 0
        """Linear programs solved so far."""

    # ---- what to evaluate

    def points(self, points: Sequence[Point], cutoff: float = np.inf) -> list[Evaluation]:
        """Evaluate points; those proven not to be below `cutoff` come back with their bound and value inf."""
        return self._evaluate([self._point(point, number) for number, point in enumerate(points)], cutoff)

    def cells(self, boxes: Sequence[Box], cutoff: float = np.inf) -> list[Evaluation]:
        """Evaluate optimistic cells: best performance of each box at its least price, power and needs.

        No point of a box has a value below that of its cell.
        """
        return self._evaluate([self._cell(box, number) for number, box in enumerate(boxes)], cutoff)

    @property
    def per_usd_hour(self) -> float:
        """Weighted objective of a dollar an hour in every workload's fleet; 0 where no dollars are minimised."""
        pairs = zip(self._weights.tolist(), self._instances, strict=True)
        return float(sum(weight * _per_usd_hour(instance) for weight, instance in pairs))

    @property
    def baseline(self) -> Evaluation:
        """Buying alone: no chip is designed. Not feasible where nothing competes."""
        if self._baseline is None:
            if not self.problem.compete:
                self._baseline = Evaluation(np.inf, reasons=("no part competes",))
            else:
                self._baseline = self._solve([_Item({}, {}, ())], np.inf)[0]
        return self._baseline

    def _alone(self, w: int) -> _Alone | None:
        """The fleet without designs in a workload; None where no part competes or those that do can't serve it."""
        if w not in self._bought_alone:
            found = None
            if self.problem.compete:
                data, _ = self._built(w, [])
                fleet = self._relaxed(data)
                if not fleet.infeasible:
                    found = _Alone(fleet.value, self._other(w, data, fleet), fleet.duals, data.commodities)
            self._bought_alone[w] = found
        return self._bought_alone[w]

    def makeable(self, point: Point) -> bool:
        """Whether every chip of a point keeps the limits of manufacture and cooling. Costs no linear program."""
        facts = self.assumptions.facts
        return all(
            excess.over <= _TIE
            for design in self.space.designs(point).values()
            for excess in design_excesses(self.problem, design, facts)
        )

    def _point(self, point: Point, number: int) -> _Item:
        options: dict[str, tuple[HardwareOption, ...]] = {}
        excess: dict[str, float] = {}
        reasons: list[str] = []
        for name, design in self.space.designs(point).items():
            found = design_excesses(self.problem, design, self.assumptions.facts)
            _note(name, found, excess, reasons)
            options[name] = hardware_options(self.problem, name, design, self.assumptions, f"{number}:")
            if not options[name]:
                excess[f"{name}.memory"] = 1.0
                reasons.append(f"{name}: memory: none that may hold a KV cache")
        return _Item(options, excess, tuple(reasons))

    def _cell(self, box: Box, number: int) -> _Item:
        options: dict[str, tuple[HardwareOption, ...]] = {}
        excess: dict[str, float] = {}
        reasons: list[str] = []
        large = self.space.designs(box.high)
        for name, small in self.space.designs(box.low).items():
            least = raised_sram(self.problem, small)
            _note(name, design_excesses(self.problem, small, self.assumptions.facts, large[name]), excess, reasons)
            options[name] = hardware_options(
                self.problem, name, least, self.assumptions, f"{number}:", faster=large[name]
            )
            if not options[name]:
                reasons.append(f"{name}: memory: none that may hold a KV cache")
        return _Item(options, excess, tuple(reasons))

    def cell_price_usd(self, box: Box) -> float:
        """Price of the chips at a box's low end: what splitting it may raise."""
        return sum(
            capital_usd(self.problem, raised_sram(self.problem, design), self.assumptions)
            for design in self.space.designs(box.low).values()
        )

    # ---- evaluation

    def _evaluate(self, items: list[_Item], cutoff: float) -> list[Evaluation]:
        """Values with the charge of NRE where it is the fleet's: then every subset of designs is tried."""
        possible = [i for i, item in enumerate(items) if item.possible]
        results = [Evaluation(np.inf, bound=np.inf, excess=item.excess, reasons=item.reasons) for item in items]
        if not possible:
            return results
        if self.problem.market.volume is not None:
            for i, found in zip(possible, self._solve([items[i] for i in possible], cutoff), strict=True):
                results[i] = found
            return results
        names = list(self.problem.designs)
        subsets = [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]
        parts = [
            replace(items[i], options={name: items[i].options[name] for name in subset})
            for i in possible
            for subset in subsets
        ]
        charges = [self._charge(len(subset)) for _ in possible for subset in subsets]
        tried = self._solve(parts, cutoff, charges)
        for k, i in enumerate(possible):
            group = tried[k * len(subsets) : (k + 1) * len(subsets)]
            best = min(group, key=lambda item: item.value)
            buy = self.baseline
            if buy.value <= best.value and buy.feasible:
                best = replace(buy, excess=best.excess, distance=best.distance)
            results[i] = replace(best, bound=min(*(g.bound for g in group), buy.value, best.value))
        return results

    def _charge(self, designs: int) -> float:
        """NRE of some designs in the weighted objective, as a charge of the fleet over the chips' life."""
        economics = self.problem.economics
        hourly = annuity_usd_per_hour(self.assumptions.nre_usd * designs, economics.life, economics.interest)
        return hourly * self.per_usd_hour

    def _solve(self, items: list[_Item], cutoff: float, charges: Sequence[float] = ()) -> list[Evaluation]:
        """Weighted values of hardware sets, each beside the competing parts."""
        charge = np.array(charges or [0.0] * len(items))
        bounds = np.zeros(len(items)) + charge
        built = [self._built(w, items) for w in range(len(self._instances))]
        if np.isfinite(cutoff):
            for w, (data, masks) in enumerate(built):
                bounds += self._weights[w] * self._screen(w, data, masks)
        open_items = np.flatnonzero(~(bounds >= cutoff)).tolist()
        priced = [self._priced(w, data) if open_items else None for w, (data, _) in enumerate(built)]
        results = [
            Evaluation(np.inf, bound=bound, excess=item.excess)
            for bound, item in zip(bounds.tolist(), items, strict=True)
        ]
        for i in open_items:
            found = self._solved(i, items[i], built, priced, float(charge[i]))
            if not np.isfinite(cutoff) and found.feasible and not found.used and items[i].options:
                found = replace(found, distance=self._apart(i, items[i], built, found))
            results[i] = found
        return results

    def _apart(self, index: int, item: _Item, built: list[tuple[FleetData, list[Bools]]], found: Evaluation) -> float:
        """How far a fleet of the designs alone is above the value found, d/(1 + d); 1 + the least reduced costs where
        they cannot serve all."""
        names = [o.name for options in item.options.values() for o in options]
        values = []
        for data, masks in built:
            own = data.keep(masks[index] & np.isin(_column_hardware(data), names))
            fleet = self._relaxed(own) if own.columns else None
            if fleet is None or fleet.infeasible:
                return 1.0 + found.distance
            values.append(fleet.value)
        return max(0.0, 1.0 - found.value / float(np.dot(self._weights, values)))

    def _priced(self, w: int, data: FleetData) -> tuple[Duals, Floats] | None:
        """The prices of buying alone, and [columns] relative reduced costs at them."""
        alone = self._alone(w)
        if alone is None:
            return None
        duals = affordable(data, alone.duals_for(data))
        costs = column_costs(data, duals)
        values = column_values(data, duals, costs, exact_below=0.0)
        return duals, np.asarray((costs - values) / np.maximum(costs, 1e-300))

    def _solved(
        self,
        index: int,
        item: _Item,
        built: list[tuple[FleetData, list[Bools]]],
        priced: list[tuple[Duals, Floats] | None],
        charge: float,
    ) -> Evaluation:
        values, seconds, used = [], [], set()
        distances = {name: np.inf for name in item.options}
        for w, ((data, masks), prices) in enumerate(zip(built, priced, strict=True)):
            mask, alone = masks[index], self._alone(w)
            own = data.keep(mask)
            if alone is not None and prices is not None and np.min(prices[1][mask]) >= -_TIE:
                # No column of a design earns what it costs at the prices of buying alone: so that is the optimum.
                values.append(alone.value)
                seconds.append(alone.second)
                near = prices[1][mask]
            else:
                if alone is None or prices is None:
                    found = self._relaxed(own)
                else:
                    found = self._relaxed(own, alone.value, prices[0], _promising(own, prices[1][mask]))
                if found.infeasible or not own.columns:
                    excess = {**item.excess, "demand": float(found.shortfall.sum() + found.excess.sum())}
                    return Evaluation(np.inf, bound=np.inf, excess=excess, reasons=("demand is not met",))
                values.append(found.value)
                self._keep(w, found.duals)
                seconds.append(self._other(w, own, found))
                bought = {data.hardware[h].name for h in np.flatnonzero(found.servers > 1e-9)}
                used |= {n for n, options in item.options.items() if bought & {o.name for o in options}}
                near = found.reduced_cost / np.maximum(column_costs(own, found.duals), 1e-300)
            homes = _column_hardware(own)
            for name, options in item.options.items():
                mine = np.isin(homes, [o.name for o in options])
                distances[name] = min(distances[name], float(np.min(near[mine], initial=1.0)))
        value = float(np.dot(self._weights, values)) + charge
        second = float(np.dot(self._weights, seconds)) if len(self.problem.objectives) > 1 else None
        return Evaluation(
            value,
            second,
            sum(max(0.0, distances[n]) for n in distances if n not in used),
            value,
            item.excess,
            (),
            tuple(values),
            tuple(n for n in self.problem.designs if n in used),
        )

    def _relaxed(
        self, data: FleetData, value: float = 0.0, duals: Duals | None = None, start: Sequence[int] = ()
    ) -> Relaxation:
        """The relaxation's optimum, from `start` columns that are promising at the `duals` of a fleet of `value`."""
        self.solves += 1
        if len(start):
            price = _MISSED * value
            penalty = Penalty(price, (price,) * len(data.limits))
            found = relax(data, time.monotonic() + _SECONDS, start=start, penalty=penalty, duals=duals)
            if not found.infeasible:  # else the price of missing demand may be what was too low
                return found
        return relax(data, time.monotonic() + _SECONDS)

    def _other(self, w: int, data: FleetData, found: Relaxation) -> float:
        """The second objective of the fleet that the relaxation found."""
        if len(self.problem.objectives) < 2:
            return 0.0
        rate = sum(task.rate_per_s for task in self._instances[w].tasks)
        usd, watts = _totals(data, found)
        return {
            "cost_per_hour": usd,
            "cost_per_task": usd / (rate * _SECONDS_PER_HOUR),
            "energy_per_task": watts / rate,
            "power": watts,
        }[self.problem.objectives[1]]

    def _built(self, w: int, items: Iterable[_Item]) -> tuple[FleetData, list[Bools]]:
        """Columns of a workload with the hardware of all items, and which of them each item may use."""
        base = self._instances[w]
        items = list(items)
        extra = tuple(o for item in items for options in item.options.values() for o in options)
        # Items of subsets share options: each is built once.
        unique = {option.name: option for option in (*base.hardware, *extra)}
        if w not in self._common and base.hardware:
            self._common[w] = build_candidates(base, bounded=False)
        instance = replace(base, hardware=tuple(unique.values()))
        data = strengthened(build_candidates(instance, known=self._common.get(w), bounded=False).data)
        homes = _column_hardware(data)
        common = {option.name for option in base.hardware}
        masks = []
        for item in items:
            allowed = common | {o.name for options in item.options.values() for o in options}
            masks.append(np.isin(homes, list(allowed)))
        return data, masks

    # ---- bounds from earlier duals

    def _keep(self, w: int, duals: Duals) -> None:
        self._duals[w] = [*self._duals[w][-1:], duals]

    def _screen(self, w: int, data: FleetData, masks: list[Bools]) -> Floats:
        """[items] the best lower bound that earlier duals prove for each item's columns."""
        best = np.zeros(len(masks))
        for known in self._duals[w]:
            if len(known.commodity) != len(data.commodities):
                continue
            duals = affordable(data, replace(known, bought=np.zeros(len(data.hardware))))
            costs = column_costs(data, duals)
            values = column_values(data, duals, costs, exact_below=0.0)
            limits = sum(
                float(sigma) * limit.limit / limit.scale for sigma, limit in zip(duals.limit, data.limits, strict=True)
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(values > 0, costs / values, np.inf)
            for i, mask in enumerate(masks):
                factor = min(1.0, float(np.min(ratio[mask], initial=np.inf))) * (1 - 1e-9)
                best[i] = max(best[i], factor * float(duals.demand.sum()) - limits)
        return best


def _without_vendor(commodity: Hashable) -> Hashable:
    """A commodity as it would be of no vendor."""
    return replace(commodity, vendor="") if isinstance(commodity, Commodity) else commodity


def _promising(data: FleetData, relative: Floats) -> list[int]:
    """The columns of least relative reduced cost, a few of each block: what a fleet is likely to hold."""
    chosen: list[int] = []
    for b, block in enumerate(data.blocks):
        order = np.argsort(relative[data.offsets[b] : data.offsets[b + 1]], kind="stable")[:_OF_BLOCK]
        chosen += (order[order < len(block)] + data.offsets[b]).tolist()
    return chosen


def _column_hardware(data: FleetData) -> NDArray[np.str_]:
    """[columns] the name of the hardware that each column runs on."""
    names = np.array([data.hardware[p.hardware].name for p in data.packings] or [""])
    return np.concatenate([np.zeros(0, dtype=names.dtype), *(names[b.packing] for b in data.blocks)])


def _totals(data: FleetData, found: Relaxation) -> tuple[float, float]:
    """($/h, W at the meter) of the relaxation's fleet."""
    watts = np.zeros(len(data.hardware))
    columns = sorted({*found.running, *(k for k, _ in found.rates)})
    for k, (b, i) in zip(columns, data.locate(columns), strict=True):
        block = data.blocks[b]
        flow = block.flow_power(slice(i, i + 1))[0]
        drawn = float(block.replica_power_w[i]) * found.running.get(k, 0.0)
        drawn += sum(float(flow[v]) * found.rates.get((k, v), 0.0) for v in range(len(flow)))
        watts[data.packings[int(block.packing[i])].hardware] += drawn
    cheapest = np.full(len(data.hardware), np.inf)
    for offer in data.offers:
        cheapest[offer.hardware] = min(cheapest[offer.hardware], offer.usd_per_hour)
    bought = np.flatnonzero(found.servers > 0)
    usd = float(np.dot(cheapest[bought], found.servers[bought]))
    usd += sum(h.electricity_usd_per_wh * float(w) for h, w in zip(data.hardware, watts, strict=True))
    return usd, float(watts.sum()) * data.pue


def _note(name: str, found: Iterable[Excess], excess: dict[str, float], reasons: list[str]) -> None:
    for item in found:
        excess[f"{name}.{item.limit}"] = item.over
        if item.over > 1e-9:
            reasons.append(f"{name}: {item}")


def _per_usd_hour(instance: Instance) -> float:
    """Objective of a dollar an hour."""
    rate = sum(task.rate_per_s for task in instance.tasks)
    per_task = 1.0 / (rate * _SECONDS_PER_HOUR)
    return {"cost_per_hour": 1.0, "cost_per_task": per_task}.get(instance.objective, 0.0)


def _instance(problem: ArchitectureProblem, index: int, first_variants: bool) -> Instance:
    """A workload's instance with the parts that compete and nothing else to buy."""
    found = resolve(problem.problems[index])
    tasks = found.tasks
    if first_variants:
        tasks = tuple(replace(task, variants=task.variants[:1]) for task in tasks)
    return replace(
        found,
        objective=problem.objectives[0],
        tasks=tasks,
        hardware=tuple(option for option in found.hardware if option.name in problem.compete),
        units=(),
        limits=replace(found.limits, inventory=()),
    )
