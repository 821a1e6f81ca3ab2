"""Grids: refined ones hold the old ones, and fit together."""

from __future__ import annotations

from dataclasses import fields

import pytest

from codesign.candidates.build import build_candidates
from codesign.candidates.grids import Grids
from codesign.problem import Problem, resolve


def test_refined_grids_hold_the_old_ones():
    old, new = Grids(), Grids().refined()
    for item in fields(Grids):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if not isinstance(before, tuple):  # what bounds a grid
            assert before == after
            continue
        assert set(before) <= set(after), item.name
        assert list(after) == sorted(after)
        assert len(after) > len(before), item.name
    assert set(new.anchors) <= set(new.batches)


@pytest.mark.parametrize("card", ["Llama-3.1-8B", "gpt-oss-20b"])
def test_refined_grids_only_add_columns(card):
    problem = Problem.from_dict(
        {
            "models": {"m": {"card": card}},
            "tasks": [
                {
                    "name": "chat",
                    "rate": "5/s",
                    "models": ["m"],
                    "context": {"p50": 1000, "p90": 2700},
                    "output": {"mean": 200},
                    "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm"}},
            "options": {"max_replica_accelerators": 1},
        }
    )
    instance = resolve(problem)
    coarse = build_candidates(instance).data.columns
    fine = build_candidates(instance, grids=Grids().refined()).data.columns
    assert 0 < coarse < fine
