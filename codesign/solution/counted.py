"""Candidates whose rows say what the replicas of a plan carry by their accounts, where rows alone ask for more."""

from __future__ import annotations

from dataclasses import replace

from codesign.candidates.build import Candidates, rejoined
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.recount import carried
from codesign.solution.stages import split


def counted(candidates: Candidates, plan: FleetPlan) -> Candidates:
    """The candidates in which the counts of a plan carry its calls; the same where they do by rows."""
    if not plan.by_rows:
        return candidates
    if candidates.stages:
        plans = split(candidates.stages, plan)
        parts = [counted(part.candidates, own) for part, own in zip(candidates.stages, plans, strict=True)]
        return rejoined(candidates.instance, parts)
    few = {k: plan.replicas[k] for k in plan.by_rows}
    return replace(candidates, data=carried(candidates.data, plan.rates, few))
