"""Try to refute the bounds: loads and whole plans drawn at random that keep their promises, and what should hold them.

    python scripts/refute_bounds.py                                   the problems of problems/: 100,000 loads
    python scripts/refute_bounds.py problems/azure-chat.yaml --loads 1000 --seed 7
    python scripts/refute_bounds.py --plans 300                       300 plans instead, over problems of every kind

A load is up to four flows in random proportions on replicas of one configuration, in a pool of so many, as large as its
promises, its memory and its queue allow by the accounts that plans are held to, whichever of its tasks come.  The bound
is right only if some column of the bounding problem (`FleetData.outer`) holds it: same configuration, no more replicas
to start with, all its flows admitted, no row exceeded.  Printed are the loads by role, the most that any takes of the
column that holds it best, and the first that none holds: exit code 1.

A plan serves all tasks with such pools, their servers, spares and modules bought at the least cost (`random_plans.py`).
Its image, the same replicas, calls and purchase on the columns that hold its pools best, has to be a plan of the
bounding problem at no higher cost, within each row that bounds are made of: the rows as they are (`check/fits.py`),
tightened to what all demand asks for, those of whole counts with their M (`leaner`: once nothing is left over), calls
that pay for spares, and chords over random intervals of counts that the plan lies in.  No bound may lie above its
cost: neither that of the problem, nor the one over its own configurations alone, which is nearer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pyomo.common.errors import InfeasibleConstraintException
from random_plans import Drawer, Planner, RandomPlan, drawers

from codesign.candidates.build import Candidates, build_candidates
from codesign.candidates.context import ROLES
from codesign.candidates.data import ColumnBlock, FleetData, Floats, Ints, SideLimit
from codesign.candidates.objectives import figure
from codesign.check.fits import fits
from codesign.optimize.fleet import FleetPlan, solve_fleet
from codesign.optimize.highs import CompiledModel
from codesign.optimize.model import FleetModel
from codesign.optimize.redundancy import most_servers, spared, usable_rows
from codesign.optimize.strengthen import strengthened, with_spares
from codesign.problem import Problem, load_problem, resolve

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = ("agent-fleet", "hypotheses/T1", "hypotheses/T5", "azure-chat", "day-night", "coding-agents")
SPARED = {"redundancy": {"survive": "one-server", "per": "group"}}
PLANNED: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("azure-chat", "azure-chat", {}),
    ("azure-chat, n+1", "azure-chat", SPARED),
    ("azure-chat, power", "azure-chat", {"objective": "power"}),
    ("azure-chat, one vendor, n+1", "azure-chat", {"limits.vendors": 1, **SPARED}),
    ("day-night, two periods", "day-night", {}),
    ("day-night, n+1", "day-night", SPARED),
    ("T3, energy, two designs", "hypotheses/T3", {"objective": "energy_per_task", "limits.max_designs": 2}),
    ("T3, tasks unsplit", "hypotheses/T3", {"options.split_tasks": False}),
    ("T4", "hypotheses/T4", {}),
    ("T5, memory tiers", "hypotheses/T5", {}),
    ("T6, four models", "hypotheses/T6", {}),
    ("T9, two tiers, n+1", "hypotheses/T9", SPARED),
    ("coding-agents, tier, levels", "coding-agents", {}),
    ("coding-agents, one vendor", "coding-agents", {"limits.vendors": 1, "limits.inventory": {"b200": 400}}),
)
"""Of whole plans: (name, file, what is changed in it)."""
MOST_FLOWS = 4
POOLS = (1, 2, 3, 4, 5, 7, 9, 14, 30, 70, 300, 1000)
"""Replicas of pools, most of them between those that columns are made for."""
ROUNDING = 1e-9
CLOSE = 1e-6
"""Relative; of objectives that solvers work out."""
TRIES = 12
"""Draws for each plan that is asked for: some find pools that carry nothing, or break a limit."""
GAP = 0.001
BOUND_SECONDS, OWN_SECONDS = 10.0, 1.0
"""For the bound of a problem, and for that over the configurations of one plan."""


# ---- loads -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loads:
    """One mix of flows on K configurations of a slice, each as large as it may be, with chunks of each size."""

    role: str
    flows: list[int]
    """Of the problem."""
    calls: Floats
    """[K, flows] calls/s of a replica; 0 where it carries none."""
    group: Ints
    """[K]."""
    replicas: int


@dataclass
class Tally:
    """What became of the loads of one role."""

    loads: int = 0
    most: float = 0.0
    """Of the column that holds a load best, the most that one takes."""
    refuted: str = ""


def refute(candidates: Candidates, loads: int, seed: int) -> dict[str, Tally]:
    """By role: about so many loads of the configurations of a problem, and whether some column holds each."""
    candidates = candidates.stages[0].candidates if candidates.stages else candidates
    rng = np.random.default_rng(seed)
    found = {role: Tally() for role in ROLES}
    for each in _drawn(candidates, rng, loads):
        tally = found[each.role]
        some = np.flatnonzero(each.calls.sum(axis=1) > 0)
        tally.loads += len(some)
        for k in some.tolist():
            share, _ = held_best(
                candidates.data.outer, int(each.group[k]), each.replicas, each.flows, each.calls[k]
            )
            tally.most = max(tally.most, share)
            if share > 1.0 + ROUNDING and not tally.refuted:
                names = [candidates.data.flows[f].name for f in each.flows]
                where = candidates.data.groups[int(each.group[k])].name
                tally.refuted = f"{where}, {each.replicas} replicas: " + ", ".join(
                    f"{rate:.6g}/s {name}" for rate, name in zip(each.calls[k].tolist(), names, strict=True)
                ) + f" takes {share:.4f} of the best column"
    return found


def held_best(
    blocks: Sequence[ColumnBlock], group: int, replicas: int, flows: Sequence[int], calls: Floats
) -> tuple[float, int]:
    """The share of its scarcest row that a replica's `calls` [flows] take of the column that holds them best, and which
    of all columns that is; (inf, -1) where none admits them."""
    best, column, first = np.inf, -1, 0
    asked = [(f, x) for f, x in zip(flows, calls.tolist(), strict=True) if x > 0]
    for block in blocks:
        if {f for f, _ in asked} <= set(block.flows.tolist()):
            rows = np.flatnonzero((block.group == group) & (block.min_replicas <= replicas))
            place = np.array([int(np.flatnonzero(block.flows == f)[0]) for f, _ in asked])
            rows = rows[block.admissible[np.ix_(rows, place)].all(axis=1)]
            if len(rows):
                taken = block.use.of(rows)[:, :, place] @ np.array([x for _, x in asked])
                shares = (taken / block.limit[rows]).max(axis=1)
                if shares.min() < best:
                    best, column = float(shares.min()), first + int(rows[int(np.argmin(shares))])
        first += len(block)
    return best, column


def _drawn(candidates: Candidates, rng: np.random.Generator, loads: int) -> Iterator[Loads]:
    pools: list[Drawer] = drawers(candidates)
    drawn = 0
    while pools and drawn < loads:
        pool = pools[int(rng.integers(len(pools)))]
        some = rng.permutation(len(pool.flows))[: int(rng.integers(1, MOST_FLOWS + 1))]
        shares = rng.dirichlet(np.full(len(some), 0.7)) + 1e-6
        replicas = int(rng.choice(POOLS))
        chosen = [pool.flows[i] for i in some.tolist()]
        most = pool.most([candidates.book.flows[f] for f in chosen], shares, replicas, pool.part.grids.chunks)
        calls, group = most[:, None] * shares, pool.part.group(pool.role, pool.part.index)
        found = Loads(pool.role, chosen, calls, np.tile(group, len(most) // len(group)), replicas)
        drawn += max(int(np.count_nonzero(calls.sum(axis=1) > 0)), 1)
        yield found


# ---- plans -----------------------------------------------------------------------------------------------------------


@dataclass
class PlanTally:
    """What became of the plans of one problem."""

    plans: int = 0
    drawn: int = 0
    bound: float = -np.inf
    """Of the problem."""
    cheapest: float = np.inf
    most: float = 0.0
    """Of the column that holds a pool best, the most that one takes."""
    nearest: float = np.inf
    """A plan's cost over the bound of its own configurations, the least."""
    leaner: int = 0
    """Images whose rows of whole counts ask for fewer: outer columns carry more, so that none needs as many."""
    refuted: str = ""


def refute_plans(candidates: Candidates, plans: int, seed: int) -> PlanTally:
    """Whole plans of a problem: is the image of each a plan of what bounds are over, and is no bound above its cost?"""
    rng = np.random.default_rng(seed)
    planner, found = Planner(candidates, rng), PlanTally()
    data = candidates.data
    found.bound = solve_fleet(data, gap=GAP, time_limit=BOUND_SECONDS, threads=1).bound
    tight = strengthened(data.bounding)
    while found.plans < plans and found.drawn < plans * TRIES and not found.refuted:
        found.drawn += 1
        drawn = planner.draw()
        if drawn is None:
            continue
        found.plans += 1
        cost = drawn.plan.objective
        found.cheapest = min(found.cheapest, cost)
        image, share = _image(data, drawn)
        found.most = max(found.most, share)
        if image is None:
            found.refuted = f"a pool takes {share:.4f} of the best column"
            break
        broken, leaner = _broken(data, tight, image, cost, rng)
        found.leaner += leaner
        own = solve_fleet(_of_groups(drawn), gap=GAP, time_limit=OWN_SECONDS, threads=1)
        for name, bound in (("its own configurations", own.bound), ("the problem", found.bound)):
            if bound > cost * (1.0 + CLOSE):
                broken = broken or f"the bound of {name}, {bound:.9g}, lies above"
        if own.status == "infeasible":
            broken = broken or "its own configurations are called infeasible"
        found.nearest = min(found.nearest, cost / own.bound if own.bound > 0 else np.inf)
        if broken:
            names = ", ".join(f"{pool.replicas} × {data.groups[pool.group].name}" for pool in drawn.pools)
            found.refuted = f"{names} at {cost:.9g}: {broken}"
    return found


def _image(data: FleetData, drawn: RandomPlan) -> tuple[FleetPlan | None, float]:
    """The same plan on the columns that bounds are over, and the most that a replica takes of one; None where none
    holds a pool."""
    replicas: dict[int, int] = {}
    rates: dict[tuple[int, int], float] = {}
    most = 0.0
    for k, pool in enumerate(drawn.pools):
        count = drawn.plan.replicas[k]
        share, column = held_best(data.outer, pool.group, count, pool.flows, pool.calls / count)
        most = max(most, share)
        if share > 1.0 + ROUNDING:
            return None, most
        replicas[column] = replicas.get(column, 0) + count
        for f, x in zip(pool.flows, pool.calls.tolist(), strict=True):
            rates[column, f] = rates.get((column, f), 0.0) + x
    return replace(drawn.plan, replicas=replicas, rates=rates), most


def _broken(
    data: FleetData, tight: FleetData, image: FleetPlan, cost: float, rng: np.random.Generator
) -> tuple[str, bool]:
    """What of the bounding problem a plan does not keep, and whether only fewer of its replicas keep it."""
    modules = {**image.modules, **image.amounts}
    priced = figure(data.bounding, image.servers, image.replicas, image.spares, image.rates, modules)
    if priced > cost * (1.0 + CLOSE):
        return f"its image costs {priced:.9g}", False
    whole = replace(image, objective=priced, bound=-np.inf)
    for name, rows in (("", data.bounding), ("tightened: ", tight)):
        if unmet := fits(rows, whole):
            return f"{name}{unmet[0].what}: {unmet[0].found:.9g} > {unmet[0].limit:.9g}", False
    for name, sides in _chords(tight, image, rng).items():
        members, (_, most) = sides
        total = sum(c * image.set_aside.get(p, 0) for p, c in members.per_packing.items())
        group = _groups(tight, image)
        total += sum(members.per_group.get(group[k], 0.0) * n for k, n in image.replicas.items())
        if total > most + CLOSE * max(abs(most), 1.0):
            return f"{name}: {total:.9g} > {most:.9g}", False
    if not _kept(with_spares(tight), image, relaxed=True):
        return "the relaxation with calls that pay for spares", False
    if _kept(tight, image, relaxed=False):
        return "", False
    # M is what a plan has where nothing can be left out, and of outer columns fewer do.
    return ("", True) if _kept(tight, image, relaxed=False, leaner=True) else ("rows of whole counts", False)


def _groups(data: FleetData, image: FleetPlan) -> dict[int, int]:
    """The group of each column that a plan runs."""
    columns = list(image.replicas)
    return {k: int(data.blocks[b].group[i]) for k, (b, i) in zip(columns, data.locate(columns), strict=True)}


def _chords(
    data: FleetData, image: FleetPlan, rng: np.random.Generator
) -> dict[str, tuple[SideLimit, tuple[float, float]]]:
    """The rows that nodes have of n+1 where random intervals hold the counts of a plan; none without n+1."""
    packings, groups = spared(data), _groups(data, image)
    bought: dict[int, float] = {}
    for o, n in image.servers.items():
        for h in data.offers[o].supplies:
            bought[h] = bought.get(h, 0.0) + n
    none = SideLimit("", "", 1.0)
    held: dict[str, tuple[SideLimit, tuple[float, float]]] = {}

    def around(count: float) -> tuple[float, float]:
        return float(np.floor(count * rng.uniform(0.0, 1.0))), float(np.ceil(count * rng.uniform(1.0, 2.0)))

    for place in packings:
        held[f"servers {place.hardware}"] = none, around(bought.get(place.hardware, 0.0))
        held[f"set aside {place.packing}"] = none, around(float(image.set_aside.get(place.packing, 0)))
        for work, sizes in place.works.items():
            slots = sum(sizes.get(groups[k], 0.0) * n for k, n in image.replicas.items())
            held[place.slots_of(work)] = none, around(slots)
    return {**usable_rows(packings, most_servers(data), {}), **usable_rows(packings, most_servers(data), held)}


def _kept(data: FleetData, image: FleetPlan, relaxed: bool, leaner: bool = False) -> bool:
    """Is there a solution of the fleet model with the calls and counts of a plan, whatever its other variables are?

    `leaner`: with no more of anything.
    """
    model = FleetModel(data, sorted(image.replicas), relaxed=relaxed)
    m = model.pyomo
    rates = {(k, v): image.rates.get((k, int(model.place[k][0].flows[v])), 0.0) for k, v in model.flow_keys}
    counts: dict[int, float] = {}
    for name in ("replicas", "servers", "set_aside") if relaxed else ("replicas", "servers", "set_aside", "spares"):
        own = getattr(image, name)
        counts |= {id(variable): float(own.get(i, 0)) for i, variable in getattr(m, name).items()}
    modules = {**image.modules, **image.amounts}
    counts |= {id(variable): float(modules.get(j, 0)) for j, variable in m.modules.items()}
    try:
        compiled = CompiledModel(m)
    except InfeasibleConstraintException:
        return False
    compiled.hold({id(m.rate[k, v]): rate / model.unit(k, v) for (k, v), rate in rates.items()})
    compiled.within({key: (0.0 if leaner else count, count) for key, count in counts.items()})
    return compiled.run(time_limit=10.0).status in ("optimal", "feasible")


def _of_groups(drawn: RandomPlan) -> FleetData:
    """The problem whose plans are made of the pools of one, and whose bounds are over their configurations."""
    groups = np.array(sorted({pool.group for pool in drawn.pools}))
    outer = [block.take(np.flatnonzero(np.isin(block.group, groups))) for block in drawn.data.outer]
    return replace(drawn.data, outer=tuple(block for block in outer if len(block)))


# ---- command ---------------------------------------------------------------------------------------------------------


def main() -> int:
    """Draw, print, and say by the exit code whether a bound was refuted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("problems", nargs="*", type=Path, help="default: those of problems/")
    parser.add_argument("--loads", type=int, default=100_000)
    parser.add_argument("--plans", type=int, help="so many whole plans instead of loads")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.plans is not None:
        named = [(file.stem, load_problem(file)) for file in args.problems]
        return _plans(named or list(_planned()), args.plans, args.seed)
    return _loads(args.problems or [_file(name) for name in PROBLEMS], args.loads, args.seed)


def _file(name: str) -> Path:
    return ROOT / "problems" / f"{name}.yaml"


def _planned() -> Iterator[tuple[str, Problem]]:
    for name, file, changes in PLANNED:
        problem = load_problem(_file(file))
        yield name, problem.replace(changes) if changes else problem


def _loads(files: Sequence[Path], loads: int, seed: int) -> int:
    refuted = False
    print(f"{'problem':<18} {'role':<10} {'loads':>8}  most of the best column")
    for number, file in enumerate(files):
        candidates = build_candidates(resolve(load_problem(file)))
        for role, tally in refute(candidates, loads // len(files), seed + number).items():
            if tally.loads:
                print(f"{file.stem:<18} {role:<10} {tally.loads:>8,}  {tally.most:.4f}", flush=True)
            if tally.refuted:
                refuted = True
                print(f"  refuted: {tally.refuted}")
    return int(refuted)


def _plans(problems: Sequence[tuple[str, Problem]], plans: int, seed: int) -> int:
    refuted, left = False, plans
    print(f"{'problem':<28} {'plans':>5} {'drawn':>5}  {'bound':>10} {'cheapest':>10}  "
          f"{'cost/own bound':>14}  {'of a column':>11}  {'leaner':>6} {'s':>5}")  # fmt: skip
    for number, (name, problem) in enumerate(problems):
        begun = time.monotonic()
        candidates = build_candidates(resolve(problem))
        # Where limits leave few plans, those after it have more.
        found = refute_plans(candidates, -(-left // (len(problems) - number)), seed + number)
        left -= found.plans
        print(
            f"{name:<28} {found.plans:>5} {found.drawn:>5}  {found.bound:>10.6g} {found.cheapest:>10.6g}  "
            f"{found.nearest:>14.4f}  {found.most:>11.4f}  {found.leaner:>6} {time.monotonic() - begun:>5.0f}",
            flush=True,
        )
        if found.refuted:
            refuted = True
            print(f"  refuted: {found.refuted}", flush=True)
    print(f"{plans - left} plans")
    return int(refuted)


if __name__ == "__main__":
    sys.exit(main())
