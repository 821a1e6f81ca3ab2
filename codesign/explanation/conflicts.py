"""Why a problem has no plan: conflicting requirements in its file's words, and the least that would help.

What conflicts follows from proofs where there are any.  What would help is only said to do so where a plan of the
relaxed problem was found; it is then what that plan takes, in whole servers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from codesign.candidates.build import Candidates
from codesign.clock import Clock
from codesign.explanation.asked import rate_name, requirements, stated
from codesign.explanation.least import Least
from codesign.explanation.schema import Conflict, Explanation, Relaxation
from codesign.explanation.unserved import eased, unserved
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.infeasible import Infeasibility, diagnose
from codesign.optimize.requirements import TASK, Requirement, WholeConflict, filter_requirements

_FIND_SHARE = 0.4
"""Of the time, for finding what conflicts; the rest for what would help."""
_CHANGES = "the rest unchanged"


@dataclass(frozen=True)
class _Found:
    """What conflicts: by the relaxation, else by whole numbers alone."""

    fractions: Infeasibility | None
    whole: WholeConflict | None


def conflict_names(
    candidates: Candidates, plan: FleetPlan, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> tuple[str, ...]:
    """The fields that conflict in a problem without a plan; nothing of what would help."""
    found = _conflict(candidates, plan, max(seconds, 1.0), tell)
    if found.fractions is not None and found.fractions.unserved:
        return tuple(c.limit for c in _nobody_serves(candidates, found.fractions, seconds, tell)[0])
    return tuple(r.name for r in _members(candidates, found))


def explain_infeasible(candidates: Candidates, plan: FleetPlan, clock: Clock) -> Explanation:
    """Conflicting requirements, and the least relaxation, of a problem without a plan."""
    status = plan.status
    found = _conflict(candidates, plan, clock.left() * _FIND_SHARE, clock.tell)
    if found.fractions is None and found.whole is None:
        note = "no conflict: a plan that meets everything turned up while looking for one. Give `solve` more time"
        return Explanation(False, status=status, notes=(note,))
    if found.fractions is not None and found.fractions.unserved:
        conflicts, ways = _nobody_serves(candidates, found.fractions, clock.left() * _FIND_SHARE, clock.tell)
        ways = eased(candidates.instance, ways, clock)
        notes = ["what is not verified serves the task by itself; no plan of all was found in the time"]
        said = tuple(notes) if any(not way.verified for way in ways) else ()
        return Explanation(False, tuple(conflicts), tuple(ways), status=status, notes=said)
    least = Least(candidates, clock)
    members = _members(candidates, found)
    needed = {r.name: value for r, value in found.whole.members} if found.whole is not None else {}
    if found.fractions is not None:
        hopeless = {c.limit for c in found.fractions.limits if c.needed is None}
        for r in members:
            if r.kind != TASK and r.name not in hopeless:
                needed[r.name] = least.alone(r)
    ways = _each_alone(members, needed)
    if found.fractions is not None and not ways:
        ways = _together(candidates, found.fractions, members, least)
    slower = _rates(candidates, members, least)
    if len(slower) == 1:
        needed[slower[0].limit] = slower[0].needed
    ways += slower
    conflicts = [_conflict_of(r, needed.get(r.name)) for r in members]
    notes = _said(found, plan.status)
    if any(not way.verified for way in ways):
        notes.append("what is not verified is a figure of the relaxation: whole servers need that much at least")
    if not ways:
        notes.append("no change of these alone, or together, was found in the time that makes a plan possible")
    return Explanation(False, tuple(conflicts), tuple(ways), status=status, notes=tuple(notes))


def _conflict(candidates: Candidates, plan: FleetPlan, seconds: float, tell: Callable[[str], None]) -> _Found:
    options, proven = candidates.instance.options, plan.status == "infeasible"
    relaxed = math.isfinite(plan.bound)  # then the relaxation that bounds has a plan, and whole numbers may have none
    fractions = None
    if not (relaxed and proven):
        fractions = diagnose(candidates.data.bounding if proven else candidates.data, seconds, tell)
    if fractions is not None:
        return _Found(fractions, None)
    asked = requirements(candidates)
    whole = filter_requirements(candidates.data, asked, seconds, options.threads, options.seed, tell, proven)
    return _Found(None, whole)


def _members(candidates: Candidates, found: _Found) -> list[Requirement]:
    """The requirements that conflict: limits first, then rates."""
    if found.whole is not None:
        return [r for r, _ in found.whole.members]
    if found.fractions is None:
        return []
    rates = {rate_name(candidates.instance, c) for c in found.fractions.tasks}
    # Limits beyond the minimal set that would stand in the way next have to give way too.
    limits = [c.limit for c in (*found.fractions.limits, *found.fractions.together)]
    asked = {r.name: r for r in requirements(candidates)}
    members: dict[str, Requirement] = {}
    for name in limits:
        for r in asked.values():
            if r.name == name or (r.of == name):
                members[r.name] = r
    return [*members.values(), *(r for name, r in asked.items() if name in rates)]


def _conflict_of(r: Requirement, needed: float | None) -> Conflict:
    return Conflict(r.name, r.unit, r.allowed, needed if needed is None else _enough(needed, r))


def _each_alone(members: list[Requirement], needed: dict[str, float | None]) -> list[Relaxation]:
    """Each requirement that may give way alone, the least change first."""
    steps = []
    for r in members:
        value = needed.get(r.name)
        if value is not None:
            change = abs(value / r.allowed - 1.0) if r.allowed and value else math.inf
            steps.append((change, r, _enough(value, r)))
    steps.sort(key=lambda step: step[0])
    first, other = "the least change that is enough alone", "enough alone, too"
    return [
        Relaxation(r.name, r.unit, r.allowed, value, first if n == 0 else other, verified=True)
        for n, (_, r, value) in enumerate(steps)
    ]


def _together(
    candidates: Candidates, found: Infeasibility, members: list[Requirement], least: Least
) -> list[Relaxation]:
    """Limits of which none is enough alone, moved together: what a plan takes, else what the relaxation does."""
    known = {r.name: r for r in members}
    values = least.together([name for name, r in known.items() if r.measured is not None])
    if values:
        note = f"together with the other steps, {_CHANGES}" if len(values) > 1 else f"alone, {_CHANGES}"
        return [
            Relaxation(name, known[name].unit, known[name].allowed, _enough(value, known[name]), note, verified=True)
            for name, value in values.items()
        ]
    note = "together with the other steps, the rest unchanged; not verified"
    found_limits = [c for c in found.together if c.needed is not None and c.limit in known]
    return [
        Relaxation(c.limit, c.unit, c.allowed, least.buyable(c.limit, c.needed or 0.0), note) for c in found_limits
    ]


def _rates(candidates: Candidates, members: list[Requirement], least: Least) -> list[Relaxation]:
    """All tasks of the conflict scaled down alike, as far as it takes."""
    rates = {r.name: r for r in members if r.kind == TASK}
    places = [c for c in range(len(candidates.data.tasks)) if rate_name(candidates.instance, c) in rates]
    factor = least.rates(places)
    if factor is None:
        return []
    note = "instead of moving any limit" + (", all tasks of the conflict scaled down alike" if len(rates) > 1 else "")
    return [
        Relaxation(r.name, r.unit, r.allowed, _digits(r.allowed * factor, up=False), note, verified=True)
        for r in rates.values()
    ]


_COUNTED = ("accelerators", "servers", "racks", "units", "vendors", "designs", "pools a task", "servers lost")


def _enough(value: float, r: Requirement) -> float:
    """A value that does, as it can be bought and written: whole things, and figures of four digits."""
    if r.unit in _COUNTED:
        return float(math.ceil(value - 1e-6))
    return _digits(value, up=value > r.allowed)


def _digits(value: float, up: bool, digits: int = 4) -> float:
    """Rounded to some digits, up or down."""
    if not value:
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    whole = value / step
    return float(f"{(math.ceil(whole - 1e-9) if up else math.floor(whole + 1e-9)) * step:.{digits}g}")


def _nobody_serves(
    candidates: Candidates, found: Infeasibility, seconds: float, tell: Callable[[str], None]
) -> tuple[list[Conflict], list[Relaxation]]:
    """Tasks that no configuration serves: their SLOs, or that there is no hardware for them."""
    conflicts: list[Conflict] = []
    ways: list[Relaxation] = []
    for c in found.unserved:
        where, own, _ = stated(candidates.instance, c)
        for conflict, way in unserved(where, own, seconds, tell):
            conflicts.append(conflict)
            if way is not None:
                ways.append(way)
    return conflicts, ways


def _said(found: _Found, status: str) -> list[str]:
    notes = []
    if status == "no_solution":
        notes.append("no plan was found in the time; that there is none is not proven")
    if found.fractions is not None:
        undecided = found.fractions.undecided
        return [*notes, *(f"{name}: the clock ended before it was clear whether it takes part" for name in undecided)]
    whole = found.whole
    assert whole is not None
    notes.append("fractions of servers, replicas and designs would do: only whole numbers conflict")
    if not whole.proven:
        notes.append(
            "a plan was found without each of these alone, so each takes part in every conflict; others may do so, too"
            if whole.members
            else "in the time of the search no requirement was found without which alone there is a plan"
        )
    notes += [
        f"{name}: it could not be shown in time that it takes part; the conflict may do without it"
        for name in whole.undecided
    ]
    if whole.unexplored:
        notes.append(f"no time was left for {', '.join(whole.unexplored)}")
    return notes


