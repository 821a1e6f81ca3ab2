"""Explanations: entry prices confirmed by solving again, conflicts in the problem's words."""

from __future__ import annotations

import time

import numpy as np
import pytest

from codesign.candidates.build import build_candidates
from codesign.explanation.parts import entry_prices
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import explain, solve
from codesign.problem import Problem, resolve

CHAT = {
    "name": "small-chat",
    "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat",
            "rate": "60/s",
            "models": ["llama"],
            "context": {"p50": 1000, "p90": 2700},
            "output": {"mean": 210},
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}},
        }
    ],
    "hardware": {
        "h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}},
        "h200": {"accelerator": "h200-sxm", "server": {"accelerators": 1}},
        "mi300x": {"accelerator": "mi300x", "server": {"accelerators": 1}},
    },
    "options": {"max_replica_accelerators": 1, "gap": "1%", "time_limit": "20 s"},
}


@pytest.fixture(scope="module")
def problem():
    return Problem.from_dict(CHAT)


def bought(problem):
    """Servers of each hardware that the relaxation buys."""
    data = build_candidates(resolve(problem)).data
    return relax(strengthened(data), time.monotonic() + 30).servers


def test_a_part_enters_at_its_price(problem):
    candidates = build_candidates(resolve(problem))
    plan = solve_fleet(candidates.data, gap=0.01, time_limit=20)
    before = bought(problem)
    entering = [h for h in range(len(before)) if before[h] < 1e-9]
    assert entering
    for h in entering:
        name = candidates.data.hardware[h].name
        price = entry_prices(candidates, plan)[h]
        assert price is not None
        cheaper = problem.replace({f"hardware.{name}.price": f"{price * 0.97:.6f} $/h"})
        dearer = problem.replace({f"hardware.{name}.price": f"{price * 1.03:.6f} $/h"})
        assert bought(cheaper)[h] > 1e-6
        assert bought(dearer)[h] < 1e-9


def test_not_chosen_parts_say_why(problem):
    explanation = explain(problem)
    assert explanation.feasible
    parts = set(CHAT["hardware"])
    used = {line.item.split("/")[0] for line in explanation.solution.purchase}
    assert {part.accelerator for part in explanation.not_chosen} == parts - used
    assert all(part.reason for part in explanation.not_chosen)


def test_conflict_of_power_and_demand(problem):
    tight = problem.replace({"site.power": "2 kW"})
    found = explain(tight)
    assert not found.feasible
    assert {c.limit for c in found.conflicts} == {"site.power", "tasks.chat.rate"}
    needed = next(c.needed for c in found.conflicts if c.limit == "site.power")
    assert needed is not None
    assert solve(tight).status == "infeasible"
    # What the relaxation says would do does, up to whole servers.
    assert solve(problem.replace({"site.power": f"{needed * 1.5 / 1e3:.3f} kW"})).status in ("optimal", "feasible")
    assert solve(problem.replace({"site.power": f"{needed * 0.98 / 1e3:.3f} kW"})).status == "infeasible"


def test_an_slo_that_nothing_meets_says_what_would_do(problem):
    hopeless = problem.replace({"tasks.chat.slo.tpot": {"p95": "0.5 ms"}})
    found = explain(hopeless)
    assert not found.feasible
    conflict = next(c for c in found.conflicts if c.limit == "tasks.chat.slo.tpot.p95")
    assert conflict.needed is not None
    assert np.isfinite(conflict.needed)
    eased = problem.replace({"tasks.chat.slo.tpot": {"p95": f"{conflict.needed * 1e3:.3f} ms"}})
    assert solve(eased).status in ("optimal", "feasible")
