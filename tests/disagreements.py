"""The optimiser's answer to a fleet problem held against the second MILP's and `fits`; the smallest such problem.

Who is right where two optima differ is no matter of trust: the better plan is judged by `fits`, row by row.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from pyomo.common.errors import InfeasibleConstraintException
from second_milp import FEASIBLE, better_than, read_optimum, second_optimum

from codesign.candidates import data as fields
from codesign.candidates.data import FleetData
from codesign.check.fits import fits
from codesign.export.milp import write_milp
from codesign.optimize import fleet

SAME = 1e-6
"""Relative difference of two optima that is none."""
SCIP_S_OWN = 1e-9
"""Objective, in units of a file, that is none to the solver that reads it."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with an answer, if anything is."""

    what: str
    """Empty, or: false infeasible | too dear | refused (row) | bound | traceback (error) | idle (what) | gave up |
    warning (numpy) | export (another optimum) | second (the second MILP is wrong: a plan that fits says so) |
    undecided (the second MILP ran out of time) | unproven (so did the optimiser, and says so)."""
    detail: str = ""
    ours: str = ""
    right: str = ""
    status: str = ""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Processor time of the optimiser, of the second MILP, of `fits`."""

    @property
    def wrong(self):
        """Is the optimiser wrong?"""
        return bool(self.what) and self.what.split(" (")[0] not in ("second", "undecided", "unproven")


def solved(data, seconds):
    """The optimiser's answer at gap 0."""
    return fleet.solve_fleet(data, gap=0.0, time_limit=seconds, threads=1)


def solved_by_branching(data, seconds):
    """The same on the way that large fleets take: no MILP over all columns at once."""
    with patch.object(fleet, "_SMALL", 0):
        return solved(data, seconds)


def solved_from_another(data, seconds):
    """The same from the plan of a problem that lacks the last limit, by the solver that knows its columns."""
    solver = fleet.FleetSolver(replace(data, limits=data.limits[:-1]), 1, 0)
    known = solver.solve(gap=0.01, time_limit=seconds / 2)
    start = [known.start] if known.replicas else []
    return solver.solve(data, gap=0.0, time_limit=seconds / 2, start=start)


WAYS = {"all at once": solved, "branching": solved_by_branching, "another first": solved_from_another}
"""Ways to the same answer, by name."""


def judged(data, seconds=10.0, solve=None, exported=False):
    """The optimiser's answer to `data` at gap 0, judged; `exported`: and the MILP that it writes for other solvers."""
    start = time.process_time()
    wall = time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RuntimeWarning)
            plan = (solve or solved)(data, seconds)
    except Exception as error:
        detail = "".join(traceback.format_exception(error)[-2:])
        return Finding(f"traceback ({type(error).__name__})", detail, seconds=(time.process_time() - start, 0.0, 0.0))
    had_time = time.monotonic() - wall < 0.8 * seconds
    finding = compared(data, plan, time.process_time() - start, seconds, had_time, exported)
    if not finding.what and said:
        where = f"{said[0].filename}:{said[0].lineno}"
        finding = replace(finding, what="warning (numpy)", detail=f"{where}: {said[0].message}")
    return finding


def challenged(data, plan, spent, seconds=10.0, had_time=True):
    """A plan as in `compared`, of a problem too large for two optima: is there a plan that is better than it says?"""
    start = time.process_time()
    known = plan.objective if plan.status == "optimal" else np.inf
    other = better_than(data, known, seconds)
    theirs = time.process_time()
    what, detail = "", ""
    if other.status == "optimal" and fits(data, other):
        what, detail = "second (refused)", str(fits(data, other))
    elif other.status == "optimal" and plan.status in ("optimal", "infeasible"):
        what = "too dear" if plan.status == "optimal" else "false infeasible"
    elif plan.status in ("optimal", "feasible") and (unmet := fits(data, plan)):
        what, detail = f"refused ({_family(unmet[0].what)})", str(unmet)
    elif plan.status == "optimal" and not known * (1 - SAME) <= plan.bound <= known * (1 + SAME):
        what = "bound"
    elif plan.status in ("feasible", "no_solution"):
        what = "gave up" if had_time else "unproven"
    elif other.status == "unknown":
        what = "undecided"
    elif plan.status == "optimal":
        what, detail = _idle(data, plan)
    spent = (spent, theirs - start, time.process_time() - theirs)
    return Finding(what, detail, _said(plan), _said(other), plan.status, spent)


def compared(data, plan, spent, seconds=10.0, had_time=True, exported=False):
    """A plan of `data` that took `spent` seconds, and was free to take more, beside the second MILP and `fits`."""
    start = time.process_time()
    other = second_optimum(data, seconds)
    theirs = time.process_time()
    what, detail = _verdict(data, plan, other, had_time)
    if data.outer and what in ("", "gave up", "unproven", "false infeasible"):
        what, detail = _around(data, plan, other, had_time, seconds)
    if what in ("second (refused)", "second (too dear)") and plan.status == "optimal":
        # Counts of a million are beyond its tolerances in one go: is there a plan better than the one in hand?
        again = challenged(data, plan, spent, seconds, had_time)
        what, detail = again.what, again.detail
    if exported and not what and plan.status in ("optimal", "infeasible"):
        what, detail = _exported(data, plan, seconds)
    spent = (spent, theirs - start, time.process_time() - theirs)
    return Finding(what, detail, _said(plan), _said(other), plan.status, spent)


def _around(data, plan, other, had_time, seconds):
    """What a plan says whose bound is over more columns than plans are made of, beside the optima of both."""
    wider = second_optimum(data.bounding, seconds)
    if wider.status == "unknown" or other.status == "unknown":
        return "undecided", ""
    least = wider.objective if wider.status == "optimal" else np.inf
    margin = SAME * abs(least) if np.isfinite(least) else 0.0
    if plan.bound > least + margin:
        return "bound", f"{plan.bound:.9g} over columns whose optimum is {least:.9g}"
    if plan.status == "infeasible":
        return ("false infeasible", "") if np.isfinite(least) else ("", "")
    if plan.status == "optimal" and plan.objective > least + margin:
        return "too dear", ""
    truth = other.objective if other.status == "optimal" else np.inf
    best = plan.objective if plan.replicas or plan.status in ("optimal", "feasible") else np.inf
    if other.status == "infeasible" and plan.status == "no_solution" and np.isfinite(least):
        return "", ""  # none found among plans' own columns, which proves nothing
    close = best <= truth + SAME * abs(truth) if np.isfinite(truth) else not np.isfinite(best)
    if not (close and plan.bound >= least - margin if np.isfinite(least) else plan.status == "infeasible"):
        return ("gave up" if had_time else "unproven"), ""
    return "", ""


def _said(plan):
    return f"{plan.status} {plan.objective:.9g}, at least {plan.bound:.9g}"


def _verdict(data, plan, other, had_time):
    found = plan.status in ("optimal", "feasible")
    unmet = fits(data, plan) if found else []
    if unmet:
        word = min((item.what for item in unmet), key=lambda what: (what.startswith(("objective", "bound")), what))
        return f"refused ({_family(word)})", str(unmet)
    truth = other.objective if other.status == "optimal" else np.inf
    margin = SAME * abs(truth) if np.isfinite(truth) else 0.0
    known = other.status == "optimal" and not fits(data, other)
    if other.status == "optimal" and not known:
        return "second (refused)", str(fits(data, other))
    if found and other.status == "infeasible":
        return "second (infeasible)", ""
    if known and plan.status == "infeasible":
        return "false infeasible", ""
    if known and plan.bound > truth + margin:
        return "too dear" if plan.status == "optimal" else "bound", ""
    if known and plan.status == "optimal" and plan.objective > truth + margin:
        return "too dear", ""
    if found and known and plan.objective < truth - margin:
        return "second (too dear)", ""
    if plan.status == "optimal" and plan.bound < plan.objective - SAME * abs(plan.objective):
        return "bound", "optimal, and its own bound is lower"
    if plan.status not in ("infeasible", "optimal"):
        return ("gave up" if had_time else "unproven"), ""
    if other.status == "unknown":
        return "undecided", ""
    return _idle(data, plan) if plan.status == "optimal" else ("", "")


def _exported(data, plan, seconds):
    """The exported MILP as SCIP reads it has the plan's optimum, which the second MILP has already agreed to.

    At one tolerance of two: at 1e-9 SCIP called 704.8 optimal where 702.1 keeps all rows, and found it at 1e-6.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            factor = write_milp(data, plan, f"{folder}/fleet.mps").factor
            for tolerance in (FEASIBLE, SAME):
                status, value = read_optimum(f"{folder}/fleet.mps", seconds, tolerance)
                if status == plan.status and _same(value / factor, plan.objective, SCIP_S_OWN / factor):
                    return "", ""
    except InfeasibleConstraintException:  # a row without a term: there is no file to write, and the command says why
        return ("", "") if plan.status == "infeasible" else ("export (no plan)", "")
    except Exception as error:
        return f"traceback (export, {type(error).__name__})", "".join(traceback.format_exception(error)[-2:])
    if status == "unknown":
        return "undecided", "the exported file"
    return "export (another optimum)", f"{status} {value / factor:.9g}"


def _same(one, other, rounding):
    return one == other or abs(one - other) <= SAME * abs(other) + rounding


_FAMILIES = (
    "objective", "bound", "demand", "calls", "slots", "servers", "spares", "replicas", "modules", "pools", "designs",
    "vendors", "rate", "row",
)  # fmt: skip


def _family(what):
    """The row without its numbers and names."""
    words = "".join(" " if c.isdigit() or c in "|." else c for c in what).split()
    return words[0] if words and words[0] in _FAMILIES else " ".join(words) or what


def _idle(data, plan):
    """Something that could be left out of a plan as it is, at no other price.

    What a tolerance forgives is not idle: of 34,739 replicas that 34,738.02 are needed of, none is.
    """
    bare = dict(
        replicas=plan.replicas, rates=plan.rates, servers=plan.servers, spares=plan.spares, modules=plan.modules,
        objective=plan.objective, bound=plan.bound, amounts=plan.amounts,
    )  # fmt: skip
    running = {k for k, _ in plan.rates}
    broken = _broken(data, _Bare(**bare))
    for word in ("servers", "replicas", "spares", "modules"):
        for i, n in bare[word].items():
            least = 0
            if word == "servers":
                least = data.offers[i].min_servers
            elif word == "replicas":
                block, position = data.blocks[(at := data.locate([i])[0])[0]], at[1]
                least = max(int(block.min_replicas[position]), 1 if i in running else 0)
            fewer = n - 1 if n - 1 >= least else 0
            counts = {j: fewer if j == i else m for j, m in bare[word].items() if j != i or fewer}
            less = _Bare(**(bare | {word: counts}))
            if not fits(data, less) and _broken(data, less) <= broken:
                return f"idle ({word})", f"{word} {i}: {n}, and {fewer} do"
    return "", ""


def _broken(data, plan):
    """What a plan breaks by no more than rounding."""
    return {unmet.what for unmet in fits(data, plan, 1e-12)}


@dataclass(frozen=True)
class _Bare:
    replicas: dict
    rates: dict
    servers: dict
    spares: dict
    modules: dict
    objective: float
    bound: float
    amounts: dict


# ---- smaller problems ------------------------------------------------------------------------------------------


def smallest(data, finding, budget=60.0, solve=None):
    """(problem, finding): what is left of `data` when everything goes whose absence leaves the finding."""
    exported = "export" in finding.what
    end = time.monotonic() + budget
    going = True
    while going and time.monotonic() < end:
        going = False
        for step in _steps(data):
            if time.monotonic() > end:
                break
            try:
                smaller = step()
            except (IndexError, ValueError):
                continue
            if smaller is None:
                continue
            again = judged(smaller, 2.0, solve, exported)
            if again.what == finding.what:
                data, finding, going = smaller, again, True
                break
    return data, finding


def _steps(data):
    """Ways to make a problem smaller, the largest first; each a function, so that only what is asked for is made."""
    for c in range(len(data.tasks) if len(data.tasks) > 1 else 0):
        yield lambda c=c: without_task(data, c)
    for i in range(len(data.limits)):
        yield lambda i=i: replace(data, limits=(*data.limits[:i], *data.limits[i + 1 :]))
    for k in range(data.columns if data.columns > 1 else 0):
        yield lambda k=k: _without_column(data, k)
    for o in range(len(data.offers) if len(data.offers) > 1 else 0):
        yield lambda o=o: without_offer(data, o)
    for j in range(len(data.modules)):
        yield lambda j=j: _without_module(data, j)
    yield lambda: _unused(data)
    yield lambda: _unused_flows(data)
    plain = {
        "max_designs": None, "max_vendors": None, "survive_one_server": False, "split_tasks": True, "watt_weight": 0.0,
        "pue": 1.0, "usd_weight": 1.0,
    }  # fmt: skip
    for word, value in plain.items():
        if getattr(data, word) != value:
            yield lambda word=word, value=value: replace(data, **{word: value})
    for i, limit in enumerate(data.limits):
        for word in ("per_server", "per_packing", "per_group", "per_watt", "per_module", "per_flow"):
            for key in getattr(limit, word):
                yield lambda i=i, word=word, key=key: _without_member(data, i, word, key)
    for b, block in enumerate(data.blocks):
        if block.other_packing is not None:
            yield lambda b=b: _changed(data, b, other_packing=None, other_packed=None)
        for word, value in (("replica_power_w", 0.0), ("flow_power_w", 0.0), ("min_replicas", 1), ("packed", 1.0)):
            if np.any(getattr(block, word) != value):
                yield lambda b=b, word=word, value=value: _changed(
                    data, b, **{word: np.full_like(getattr(data.blocks[b], word), value)}
                )
        for r in range(block.use.shape[1] if block.use.shape[1] > 1 else 0):
            yield lambda b=b, r=r: _without_row(data, b, r)
        for k, v in np.argwhere(block.admissible).tolist():
            yield lambda b=b, k=k, v=v: _closed(data, b, k, v)
    for o, offer in enumerate(data.offers):
        if offer.min_servers > 1:
            yield lambda o=o: _other_offer(data, o, min_servers=0)
        if offer.also_supplies:
            yield lambda o=o: _other_offer(data, o, also_supplies=())
    yield lambda: _rounded(data, 1)
    yield lambda: _rounded(data, 2)
    yield lambda: _rounded(data, 3)


def _keys(mapping, gone):
    """Positions after `gone` one lower, and it itself away."""
    return {i - (i > gone): value for i, value in mapping.items() if i != gone}


def without_offer(data, o):
    """The same with one offer less."""
    limits = tuple(replace(limit, per_server=_keys(limit.per_server, o)) for limit in data.limits)
    return replace(data, offers=(*data.offers[:o], *data.offers[o + 1 :]), limits=limits)


def _without_module(data, j):
    limits = tuple(replace(limit, per_module=_keys(limit.per_module, j)) for limit in data.limits)
    packings = tuple(replace(p, modules=_keys(p.modules, j)) for p in data.packings)
    return replace(data, modules=(*data.modules[:j], *data.modules[j + 1 :]), limits=limits, packings=packings)


def _without_column(data, k):
    mask = np.ones(data.columns, dtype=bool)
    mask[k] = False
    kept = data.keep(mask)
    return replace(kept, blocks=tuple(block for block in kept.blocks if len(block)))


def without_task(data, c):
    """The same with one task less, its flows and commodities with it."""
    flows = [f for f, flow in enumerate(data.flows) if flow.task != c]
    commodities = sorted({data.flows[f].commodity for f in flows} - {None})
    place, number = {f: i for i, f in enumerate(flows)}, {m: i for i, m in enumerate(commodities)}
    blocks = []
    for block in data.blocks:
        keep = np.array([int(f) in place for f in block.flows], dtype=bool)
        if keep.any():
            blocks.append(_narrowed(block, keep, [place[int(f)] for f in block.flows[keep]]))
    return replace(
        data,
        tasks=(*data.tasks[:c], *data.tasks[c + 1 :]),
        demand=np.delete(data.demand, c),
        calls_bound=data.calls_bound[flows],
        flows=tuple(
            replace(
                data.flows[f],
                task=data.flows[f].task - (data.flows[f].task > c),
                commodity=None if data.flows[f].commodity is None else number[data.flows[f].commodity],
            )
            for f in flows
        ),
        commodities=tuple(data.commodities[m] for m in commodities),
        blocks=tuple(blocks),
        limits=tuple(
            replace(limit, per_flow={(place[f], h): x for (f, h), x in limit.per_flow.items() if f in place})
            for limit in data.limits
        ),
    )


def _narrowed(block, keep, flows):
    use = replace(block.use, fixed=block.use.fixed[:, :, keep], scaled=block.use.scaled[:, :, keep])
    return replace(
        block,
        flows=np.array(flows, dtype=np.int64),
        use=use,
        admissible=block.admissible[:, keep],
        flow_power_w=block.flow_power_w[:, keep],
    )


def _unused(data):
    """Groups, packings and rows of hardware that nothing is left of; None where all are of use."""
    places = [place for block in data.blocks for place in block.places()]
    packings = sorted({int(p) for _, packing, _ in places for p in packing})
    groups = sorted({int(g) for block in data.blocks for g in block.group})
    rows = sorted({data.packings[p].hardware for p in packings} | {h for o in data.offers for h in o.supplies})
    if len(packings) == len(data.packings) and len(groups) == len(data.groups) and len(rows) == len(data.hardware):
        return None
    packing, group, row = ({old: new for new, old in enumerate(kept)} for kept in (packings, groups, rows))
    blocks = []
    for block in data.blocks:
        other = block.other_packing
        blocks.append(
            replace(
                block,
                packing=np.array([packing[int(p)] for p in block.packing], dtype=np.int64),
                group=np.array([group[int(g)] for g in block.group], dtype=np.int64),
                other_packing=None
                if other is None
                else np.array([packing[int(p)] if p >= 0 else -1 for p in other], dtype=np.int64),
            )
        )
    return replace(
        data,
        blocks=tuple(blocks),
        packings=tuple(replace(data.packings[p], hardware=row[data.packings[p].hardware]) for p in packings),
        groups=tuple(replace(data.groups[g], hardware=row.get(data.groups[g].hardware, 0)) for g in groups),
        hardware=tuple(data.hardware[h] for h in rows),
        offers=tuple(
            replace(o, hardware=row[o.hardware], also_supplies=tuple(row[h] for h in o.also_supplies))
            for o in data.offers
        ),
        limits=tuple(
            replace(
                limit,
                per_packing={packing[p]: c for p, c in limit.per_packing.items() if p in packing},
                per_group={group[g]: c for g, c in limit.per_group.items() if g in group},
                per_watt={row[h]: c for h, c in limit.per_watt.items() if h in row},
                per_flow={(f, row.get(h, -1)): c for (f, h), c in limit.per_flow.items() if h in row or h < 0},
            )
            for limit in data.limits
        ),
    )


def _unused_flows(data):
    """Flows that no column is open to, and configurations that no column has; None where all are of use."""
    blocks = []
    for block in data.blocks:
        sources, source = np.unique(block.use.source, return_inverse=True)
        keep = block.admissible.any(axis=0)
        use = replace(block.use, fixed=block.use.fixed[sources], scaled=block.use.scaled[sources], source=source)
        block = replace(block, use=use, flow_power_w=block.flow_power_w[sources])
        blocks.append(_narrowed(block, keep, block.flows[keep]))
    used = sorted({int(f) for block in blocks for f in block.flows})
    place = {f: i for i, f in enumerate(used)}
    numbers = {m: i for i, m in enumerate(sorted({data.flows[f].commodity for f in used} - {None}))}
    number = numbers | {None: None}
    found = replace(
        data,
        calls_bound=data.calls_bound[used],
        flows=tuple(replace(data.flows[f], commodity=number[data.flows[f].commodity]) for f in used),
        commodities=tuple(data.commodities[m] for m in sorted(numbers)),
        blocks=tuple(
            replace(block, flows=np.array([place[int(f)] for f in block.flows], dtype=np.int64)) for block in blocks
        ),
        limits=tuple(
            replace(limit, per_flow={(place[f], h): c for (f, h), c in limit.per_flow.items() if f in place})
            for limit in data.limits
        ),
    )
    return None if to_json(found) == to_json(data) else found


def _without_member(data, i, word, key):
    limit = data.limits[i]
    members = {k: c for k, c in getattr(limit, word).items() if k != key}
    return replace(data, limits=(*data.limits[:i], replace(limit, **{word: members}), *data.limits[i + 1 :]))


def _changed(data, b, **parts):
    return replace(data, blocks=(*data.blocks[:b], replace(data.blocks[b], **parts), *data.blocks[b + 1 :]))


def _without_row(data, b, r):
    block = data.blocks[b]
    use = replace(
        block.use,
        fixed=np.delete(block.use.fixed, r, axis=1),
        scaled=np.delete(block.use.scaled, r, axis=1),
        power=np.delete(block.use.power, r),
    )
    left = np.any(use.fixed[use.source] + use.scaled[use.source] > 0, axis=1)
    names = (*block.row_names[:r], *block.row_names[r + 1 :])
    return _changed(
        data, b, use=use, row_names=names, limit=np.delete(block.limit, r, axis=1), admissible=block.admissible & left
    )


def _closed(data, b, k, v):
    admissible = data.blocks[b].admissible.copy()
    admissible[k, v] = False
    return _changed(data, b, admissible=admissible)


def _other_offer(data, o, **parts):
    return replace(data, offers=(*data.offers[:o], replace(data.offers[o], **parts), *data.offers[o + 1 :]))


def _rounded(data, digits):
    """Numbers of few digits; calls that flows can carry stay those of the tasks.  None where they are so already."""

    def short(x):
        return float(f"{x:.{digits - 1}e}") if np.isfinite(x) else x

    def all_short(values):
        return np.array([short(x) for x in np.ravel(values)], dtype=np.float64).reshape(np.shape(values))

    blocks = tuple(
        replace(
            block,
            use=replace(block.use, fixed=all_short(block.use.fixed), scaled=all_short(block.use.scaled)),
            limit=all_short(block.limit),
            flow_power_w=all_short(block.flow_power_w),
            replica_power_w=all_short(block.replica_power_w),
        )
        for block in data.blocks
    )
    demand = all_short(data.demand)
    rounded = replace(
        data,
        blocks=blocks,
        demand=demand,
        calls_bound=np.array([demand[flow.task] / flow.tasks_per_call for flow in data.flows]),
        offers=tuple(replace(o, usd_per_hour=short(o.usd_per_hour)) for o in data.offers),
        modules=tuple(replace(m, usd_per_hour=short(m.usd_per_hour)) for m in data.modules),
        hardware=tuple(replace(h, hours_share=short(h.hours_share)) for h in data.hardware),
        limits=tuple(
            replace(
                limit,
                limit=short(limit.limit),
                **{
                    word: {key: short(c) for key, c in getattr(limit, word).items()}
                    for word in ("per_server", "per_packing", "per_group", "per_watt", "per_module", "per_flow")
                },
            )
            for limit in data.limits
        ),
    )
    return None if to_json(rounded) == to_json(data) else rounded


# ---- problems as text --------------------------------------------------------------------------------------------


def to_json(data):
    """A problem as JSON, to the last digit."""
    return json.dumps(_plain(data), indent=1)


def from_json(text):
    """The problem again."""
    return _built(json.loads(text))


def _plain(value):
    if dataclasses.is_dataclass(value):
        parts = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"": type(value).__name__} | parts
    if isinstance(value, np.ndarray):
        return {"": "array", "dtype": str(value.dtype), "shape": value.shape, "values": value.ravel().tolist()}
    if isinstance(value, dict):
        return {"": "dict", "items": [[_plain(k), _plain(v)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _built(value):
    if isinstance(value, list):
        return tuple(_built(item) for item in value)
    if not isinstance(value, dict):
        return value
    word = value[""]
    if word == "array":
        return np.array(value["values"], dtype=value["dtype"]).reshape(value["shape"])
    if word == "dict":
        return {_built(k): _built(v) for k, v in value["items"]}
    kind = getattr(fields, word)
    return kind(**{name: _built(part) for name, part in value.items() if name})


def load(path):
    """A problem from a file that the stress run wrote."""
    with open(path) as file:
        found = from_json(file.read())
    assert isinstance(found, FleetData)
    return found
