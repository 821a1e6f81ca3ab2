"""The independent witness: plain re-evaluation of a plan from its problem, sharing no optimiser code."""

from codesign.check.report import CheckReport, Violation
from codesign.check.verify import check

__all__ = ["CheckReport", "Violation", "check"]
