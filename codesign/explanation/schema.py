"""What an explanation consists of."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.solution.schema import ShadowPrice, Solution


@dataclass(frozen=True)
class Conflict:
    """A requirement that takes part in the infeasibility; `needed` is what it must be if it alone gives way."""

    limit: str
    unit: str
    allowed: float
    needed: float | None


@dataclass(frozen=True)
class Relaxation:
    """One step of the least relaxation that makes a plan possible (all steps together, unless its note says else)."""

    limit: str
    unit: str
    allowed: float
    needed: float
    note: str
    verified: bool = False
    """That a plan of the relaxed problem was found."""


@dataclass(frozen=True)
class Binding:
    """What is full."""

    what: str
    detail: str


@dataclass(frozen=True)
class NotChosen:
    """A part that was offered and not bought."""

    accelerator: str
    reason: str
    enters_at_price: float | None
    """$ per accelerator-hour below which the relaxation would buy it."""


@dataclass(frozen=True)
class Explanation:
    """Either conflicts and relaxations, or what binds and why not the other parts."""

    feasible: bool
    conflicts: tuple[Conflict, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    binding: tuple[Binding, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    not_chosen: tuple[NotChosen, ...] = ()
    solution: Solution | None = None
    status: str = "infeasible"
    """Of a problem without a plan: infeasible (proven), or no_solution (none found, none proven impossible)."""
    notes: tuple[str, ...] = ()
    """What the figures do not say themselves: where a clock cut the search short, where grids make steps."""
