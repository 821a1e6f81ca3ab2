"""`codesign report`: a plan, or a folder of them, as one self-contained HTML page."""

from codesign.report.page.plans import PlanFile, ReportError, find_problem, read_plan, read_plans
from codesign.report.page.render import render_report, write_report

__all__ = ["PlanFile", "ReportError", "find_problem", "read_plan", "read_plans", "render_report", "write_report"]
