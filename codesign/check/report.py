"""What a check finds: violations, and the comparisons that make them."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from codesign.solution.schema import Violation

LIMIT_TOLERANCE = 1e-6
"""Relative slack of limits and of money: plans are computed in floating point."""
ENERGY_TOLERANCE = 1e-4
"""Relative tolerance of watts and joules."""
REPORT_TOLERANCE = 1e-3
"""Relative tolerance of what a plan reports about its operation (steps, batches, waits, SLOs achieved)."""
SHARE_TOLERANCE = 0.005
"""Absolute tolerance of the utilisations that it reports: they are read in per cent."""


class CheckReport(BaseModel):
    """The verdict on a solution: it is right when nothing is violated."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    violations: tuple[Violation, ...]

    def to_json(self) -> str:
        """The report as one JSON document."""
        return self.model_dump_json(indent=2) + "\n"


class Findings:
    """Collects violations.  Every comparison fails on NaN, so that no figure escapes by being none."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def fail(self, what: str, limit: float | str | None, found: float | str | None) -> None:
        """Record a violation."""
        self._violations.append(Violation(what=what, limit=limit, found=found))

    def at_most(self, what: str, found: float, limit: float, tolerance: float = LIMIT_TOLERANCE) -> None:
        """`found` ≤ `limit`, relative to the limit's size."""
        if not found <= limit + tolerance * abs(limit):
            self.fail(what, limit, found)

    def at_least(self, what: str, found: float, limit: float, tolerance: float = LIMIT_TOLERANCE) -> None:
        """`found` ≥ `limit`, relative to the limit's size."""
        if not found >= limit - tolerance * abs(limit):
            self.fail(what, limit, found)

    def equal(
        self, what: str, found: float | None, expected: float, tolerance: float = LIMIT_TOLERANCE
    ) -> None:
        """`found` is the recomputed figure `expected`, relative to it; None never is."""
        if found is None or not math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-12):
            self.fail(what, expected, found)

    def one_of(self, what: str, found: str | None, allowed: tuple[str, ...]) -> bool:
        """`found` is among the words `allowed`; says whether."""
        if found in allowed:
            return True
        self.fail(what, ", ".join(allowed) or "nothing", found)
        return False

    def take(self, name: str, other: Findings) -> None:
        """Add what another check found, in the name of what it looked at."""
        for violation in other._violations:
            self.fail(f"{name}: {violation.what}", violation.limit, violation.found)

    def report(self) -> CheckReport:
        """The verdict."""
        return CheckReport(ok=not self._violations, violations=tuple(self._violations))
