"""Conflicts that only whole numbers feel: a deletion filter over named requirements, by real solves.

The relaxation has a plan, and whole servers, designs and spares have none.  Each requirement knows the fleet
without it; those that can be left out while there is still no plan are.  Every solve stops at its first plan or
its time limit, and what the clock left unproven is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.data import FleetData
from codesign.optimize.alone import whole_columns
from codesign.optimize.fleet import FleetPlan, solve_fleet
from codesign.optimize.relaxation import relax

_MANY = 3000
"""Columns beyond which the filter works on the most promising ones: then `infeasible` is proven for those alone."""
_PER_FLOW = 3
_FIRST_PLAN = 0.99
"""Gap at which a solve that asks for any plan stops: at once."""
_NEAR = 0.005
"""Gap of a solve that asks how little would do."""
_FILTER_SHARE = 0.7
"""Of the time, for finding the conflict; the rest asks what its members would have to be."""
_SLOT, _LEAST_SECONDS = 0.3, 0.5
"""Of the time left, for one solve, and the least that makes sense."""
TASK = "task"


@dataclass(frozen=True)
class Requirement:
    """Something of the problem file that could give way."""

    name: str
    unit: str
    allowed: float
    kind: str
    """Those of a kind are left out together first.  TASK: without any there is nothing to plan."""
    without: Callable[[FleetData], FleetData]
    """The fleet without it."""
    at: Callable[[FleetData, float], FleetData] | None = None
    """The fleet with another value of it (None: it stands or falls as a whole)."""
    used: Callable[[FleetData, FleetPlan], float] | None = None
    """The value of it that a plan needs: a plan of the fleet without it is one of the fleet with that value."""
    measured: Callable[[FleetData], FleetData] | None = None
    """With `used`: the fleet whose objective is by how much it would have to give way."""
    of: str = ""
    """The shared limit whose row it is part of, where that has another name."""
    choices: tuple[float, ...] = ()
    """With `at`: the values, ascending, between which nothing changes."""


@dataclass(frozen=True)
class WholeConflict:
    """Requirements that no plan meets together."""

    members: tuple[tuple[Requirement, float | None], ...]
    """Each with the least value found that makes a plan possible if it alone gives way; None if none was found."""
    undecided: tuple[str, ...]
    """Members that the conflict may do without, for all that could be shown in the time.  Of the others a plan shows
    that it may not."""
    unexplored: tuple[str, ...]
    """Requirements that no time was left for."""
    proven: bool
    """That the members conflict, over every column.  Else no plan was found in the time, and the members are those
    without which alone one was: they take part in every conflict that there is, beside others."""


def filter_requirements(
    data: FleetData,
    requirements: Sequence[Requirement],
    seconds: float,
    threads: int = 2,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    proven: bool = False,
) -> WholeConflict | None:
    """A minimal conflict among requirements; None where a plan turns up that meets all of them.

    `proven`: that none does is known already.  Where it is proven that there is no plan, a requirement goes when there
    is provably none without it (beside those that stayed until then).  Each solve has a part of the time left.
    """
    return Filter(data, requirements, seconds, threads, seed, tell, proven).run()


class Filter:
    """Finds the conflict, and what each of its members would have to be."""

    def __init__(
        self,
        data: FleetData,
        requirements: Sequence[Requirement],
        seconds: float,
        threads: int,
        seed: int,
        tell: Callable[[str], None],
        proven: bool = False,
    ) -> None:
        self.known = proven
        self.all = tuple(requirements)
        self.seconds, self.deadline = seconds, time.monotonic() + seconds
        self.threads, self.seed, self.tell = threads, seed, tell
        self.whole = data.columns <= _MANY
        self.data = data if self.whole else _promising(data, self.deadline)
        self.needed_by_plan: set[str] = set()
        self.unexplored: list[str] = []

    def run(self) -> WholeConflict | None:
        """The conflict; None where a plan turns up that meets all requirements."""
        self.tell("which requirements conflict")
        # What is left out of a large fleet's columns may be part of a plan: none among the others proves nothing.
        proven = self.known and self.whole
        if self.whole and not self.known:  # of a large fleet the solve before has shown that no plan is found soon
            first = self._solve(self.all)
            if first is not None and first.replicas:
                return None
            proven = first is not None and first.status == "infeasible"
        kinds = [[r for r in self.all if r.kind == kind] for kind in dict.fromkeys(r.kind for r in self.all)]
        core = list(self.all)
        if proven:
            for part in kinds:
                core = self._shrink(core, part)
        else:
            core = [r for part in sorted(kinds, key=len) for r in self._indispensable(part)]
        members: list[tuple[Requirement, float | None]] = []
        for requirement in core:
            self.tell(f"what would it have to be: {requirement.name}")
            members.append((requirement, None if requirement.kind == TASK else self.needed(requirement)))
        undecided = tuple(r.name for r in core if r.name not in self.needed_by_plan)
        return WholeConflict(tuple(members), undecided, tuple(self.unexplored), proven)

    def _shrink(self, core: list[Requirement], part: list[Requirement]) -> list[Requirement]:
        """The core without what it can provably spare of a part: all of it at once, or half by half."""
        if not part:
            return core
        self._tell_of(part)
        rest = [r for r in core if r not in part]
        possible = True  # without a task there is nothing to serve
        if any(r.kind == TASK for r in rest):
            plan = self._solve(rest, _FILTER_SHARE)
            if plan is not None and plan.status == "infeasible":
                return rest
            possible = plan is not None and bool(plan.replicas)
        if len(part) == 1:
            if possible:
                self.needed_by_plan.add(part[0].name)
            return core
        half = len(part) // 2
        return self._shrink(self._shrink(core, part[:half]), part[half:])

    def _indispensable(self, part: list[Requirement]) -> list[Requirement]:
        """Those of a part without which alone a plan is found: each takes part in every conflict that there is."""
        self._tell_of(part)
        rest = [r for r in self.all if r not in part]
        served = any(r.kind == TASK for r in rest)
        plan = self._solve(rest, _FILTER_SHARE if self.needed_by_plan else 1.0) if served else None
        if served and plan is None:
            self.unexplored += [r.name for r in part]
            return []
        if served and plan is not None and not plan.replicas:  # none without all of them, so none without one of them
            return []
        if len(part) == 1:
            if served:
                self.needed_by_plan.add(part[0].name)
            return part if served else []
        half = len(part) // 2
        return self._indispensable(part[:half]) + self._indispensable(part[half:])

    def _tell_of(self, part: list[Requirement]) -> None:
        self.tell(f"does it take part: {part[0].name}" + (f" and {len(part) - 1} more" if part[1:] else ""))

    def _fleet(self, kept: Iterable[Requirement]) -> FleetData:
        """The fleet under some of the requirements."""
        stay = {r.name for r in kept}
        data = self.data
        for requirement in self.all:
            if requirement.name not in stay:
                data = requirement.without(data)
        return data

    def _solve(self, kept: Iterable[Requirement], share: float = 1.0) -> FleetPlan | None:
        return self._plan(self._fleet(kept), _FIRST_PLAN, share)

    def _plan(self, data: FleetData, gap: float, share: float = 1.0) -> FleetPlan | None:
        """A plan or none; None where a share of the time is spent."""
        left = self.deadline - time.monotonic()
        if left <= (1.0 - share) * self.seconds:
            return None
        limit = max(_LEAST_SECONDS, left * _SLOT)
        return solve_fleet(data, gap=gap, time_limit=limit, threads=self.threads, seed=self.seed)

    def needed(self, requirement: Requirement) -> float | None:
        """The least value found of one requirement while all others hold, with a plan to show for it."""
        others = [r for r in self.all if r is not requirement]
        if requirement.measured is not None:
            assert requirement.used is not None
            plan = self._plan(requirement.measured(self.data), _NEAR)
            return requirement.used(self.data, plan) if plan is not None and plan.replicas else None
        if requirement.choices:
            return least_choice(requirement, self._fleet(others), lambda data: self._plan(data, _FIRST_PLAN))
        plan = self._solve(others)
        if plan is None or not plan.replicas:
            return None
        if requirement.used is None:
            return 0.0
        low, high = requirement.allowed, requirement.used(self.data, plan)  # a plan at `high`, none at `low`
        while requirement.at is not None and high - low > 1:
            middle = float(np.floor((low + high) / 2))
            found = self._plan(requirement.at(self._fleet(others), middle), _FIRST_PLAN)
            if found is None:
                break
            low, high = (low, min(middle, requirement.used(self.data, found))) if found.replicas else (middle, high)
        return high


def least_choice(
    requirement: Requirement, others: FleetData, plan: Callable[[FleetData], FleetPlan | None]
) -> float | None:
    """The least of a requirement's choices for which `plan` finds one; more of it never takes one away.

    The first choice is mostly enough; else the choices are halved.
    """
    def does(choice: int) -> bool:
        assert requirement.at is not None
        found = plan(requirement.at(others, requirement.choices[choice]))
        return found is not None and bool(found.replicas)

    if does(0):
        return requirement.choices[0]
    low, high = 1, len(requirement.choices)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle + 1, high)
    return requirement.choices[high] if high < len(requirement.choices) else None


def _promising(data: FleetData, deadline: float) -> FleetData:
    """The fleet with the relaxation's columns and those that serve a flow in few whole replicas."""
    found = relax(data, time.monotonic() + (deadline - time.monotonic()) * (1.0 - _FILTER_SHARE))
    mask = np.zeros(data.columns, dtype=bool)
    mask[found.columns] = True
    mask[whole_columns(data, _PER_FLOW)] = True
    return data.keep(mask)


# ---- the fleet without, or with another value ----------------------------------------------------------------


def without_limit(data: FleetData, name: str) -> FleetData:
    """The fleet without the shared limit of that name."""
    return replace(data, limits=tuple(limit for limit in data.limits if limit.name != name))


def without_task(data: FleetData, task: int) -> FleetData:
    """The fleet with nothing to do for one task (the last one must stay)."""
    number = {c: n for n, c in enumerate(c for c in range(len(data.tasks)) if c != task)}
    gone = np.array([flow.task == task for flow in data.flows])
    flows = tuple(
        replace(flow, task=number.get(flow.task, 0), serves=flow.serves and flow.task != task) for flow in data.flows
    )
    blocks = tuple(replace(b, admissible=b.admissible & ~gone[b.flows][None, :]) for b in data.blocks)
    return replace(
        data,
        tasks=tuple(name for c, name in enumerate(data.tasks) if c != task),
        demand=np.delete(data.demand, task),
        calls_bound=np.where(gone, 0.0, data.calls_bound),
        flows=flows,
        blocks=blocks,
    )


def without_minimum(data: FleetData, offer: str) -> FleetData:
    """The fleet where the offer of that name may be taken in any number."""
    return replace(data, offers=tuple(replace(o, min_servers=0) if o.name == offer else o for o in data.offers))


def by_the_accelerator(data: FleetData, hardware: str) -> FleetData:
    """The fleet where one hardware is bought by the accelerator: its servers hold one each."""
    kinds = {i for i, item in enumerate(data.hardware) if item.name == hardware}
    size = next(data.hardware[h].accelerators for h in kinds)
    mine = {o for o, offer in enumerate(data.offers) if kinds & set(offer.supplies)}
    packings = {p for p, packing in enumerate(data.packings) if packing.hardware in kinds}

    def share(coefficients: dict[int, float], members: set[int]) -> dict[int, float]:
        return {i: c / size if i in members else c for i, c in coefficients.items()}

    return replace(
        data,
        offers=tuple(
            replace(
                o,
                usd_per_hour=o.usd_per_hour / size,
                capital_usd=o.capital_usd / size,
                # The least number of accelerators that asks for as many whole servers.
                min_servers=max(0, (o.min_servers - 1) * size + 1),
            )
            if i in mine
            else o
            for i, o in enumerate(data.offers)
        ),
        hardware=tuple(
            replace(item, accelerators=1, peak_power_w=item.peak_power_w / size) if i in kinds else item
            for i, item in enumerate(data.hardware)
        ),
        packings=tuple(replace(p, slots=1) if i in packings else p for i, p in enumerate(data.packings)),
        groups=tuple(replace(g, replicas_lost_with_server=1) if g.hardware in kinds else g for g in data.groups),
        limits=tuple(
            replace(
                limit,
                per_server=share(limit.per_server, mine),
                per_packing=share(limit.per_packing, packings),
            )
            for limit in data.limits
        ),
    )
