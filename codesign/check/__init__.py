"""The independent witness: plain re-evaluation of a plan from its problem, sharing no optimiser code."""

from codesign.check.report import CheckReport
from codesign.check.verify import check, check_resolved
from codesign.solution.schema import Violation

__all__ = ["CheckReport", "Violation", "check", "check_resolved"]
