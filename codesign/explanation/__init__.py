"""Why a plan is as it is, or why there is none, in the words of the problem file."""

from codesign.explanation.conflicts import explain_infeasible
from codesign.explanation.plan import explain_plan
from codesign.explanation.schema import Binding, Conflict, Explanation, NotChosen, Relaxation

__all__ = [
    "Binding",
    "Conflict",
    "Explanation",
    "NotChosen",
    "Relaxation",
    "explain_infeasible",
    "explain_plan",
]
