"""`codesign report`: a plan, or a folder of them, as one self-contained HTML page."""

from codesign.report.page.plans import PlanFile, ReportError, find_problem, read_front, read_plan, read_plans
from codesign.report.page.render import render_report, write_report
from codesign.report.page.simulated import Simulated, read_simulated

__all__ = [
    "PlanFile",
    "ReportError",
    "Simulated",
    "find_problem",
    "read_front",
    "read_plan",
    "read_plans",
    "read_simulated",
    "render_report",
    "write_report",
]
