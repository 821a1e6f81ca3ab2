"""`codesign report`: a plan, a folder of them, or a designed chip, as one self-contained HTML page."""

from codesign.report.page.plans import (
    PlanFile,
    ReportError,
    find_problem,
    read_architecture,
    read_front,
    read_plan,
    read_plans,
)
from codesign.report.page.render import render_architecture, render_report, write_report
from codesign.report.page.simulated import Simulated, read_simulated

__all__ = [
    "PlanFile",
    "ReportError",
    "Simulated",
    "find_problem",
    "read_architecture",
    "read_front",
    "read_plan",
    "read_plans",
    "read_simulated",
    "render_architecture",
    "render_report",
    "write_report",
]
