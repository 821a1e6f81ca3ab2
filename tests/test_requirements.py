"""Conflicts that only whole numbers feel, in the words of the problem file."""

from __future__ import annotations

import pytest

from codesign.planner import explain, solve
from codesign.problem import Problem


def pools(rates, tasks, **rest):
    """A problem of measured pools: {pool: {task: rate}}, {task: rate}; 1 $/h each."""
    return Problem.from_dict(
        {
            "name": "whole",
            "tasks": [{"name": name, "rate": f"{rate}/s"} for name, rate in tasks.items()],
            "measured_pools": [
                {
                    "name": pool,
                    "accelerator": pool.upper(),
                    "cost": "1 $/h",
                    "max_rate": {task: f"{rate}/s" for task, rate in served.items()},
                }
                for pool, served in rates.items()
            ],
            **rest,
        }
    )


def conflict(problem):
    """{limit: needed} of an infeasible problem, after checking that each needed value does."""
    assert solve(problem).status == "infeasible"
    found = explain(problem)
    assert not found.feasible
    return {c.limit: c.needed for c in found.conflicts}, found


def test_designs_and_the_tasks_that_need_them():
    problem = pools(
        {"a": {"x": 5}, "b": {"y": 5}, "c": {"z": 5}},
        {"x": 1, "y": 1, "z": 1},
        limits={"max_designs": 2, "inventory": {"A": 9, "B": 9, "C": 9}},
    )
    needed, found = conflict(problem)
    assert needed == {"limits.max_designs": 3.0, "tasks.x.rate": None, "tasks.y.rate": None, "tasks.z.rate": None}
    assert [(r.limit, r.needed) for r in found.relaxations] == [("limits.max_designs", 3.0)]
    assert solve(problem.replace({"limits.max_designs": 3})).status == "optimal"
    assert solve(problem.replace({"tasks.z.rate": "0.5/s"})).status == "infeasible"


def test_vendors():
    problem = pools({"a": {"x": 5}, "b": {"y": 5}}, {"x": 1, "y": 1}, limits={"vendors": 1})
    needed, _ = conflict(problem)
    assert needed == {"limits.vendors": 2.0, "tasks.x.rate": None, "tasks.y.rate": None}


def test_tasks_that_must_not_be_split():
    problem = pools(
        {"a": {"x": 1}, "b": {"x": 1}},
        {"x": 3},
        limits={"inventory": {"A": 2, "B": 2}, "max_designs": 4},
        options={"split_tasks": False},
    )
    needed, found = conflict(problem)
    assert needed == {
        "options.split_tasks": 2.0,
        "limits.inventory.A": 3.0,
        "limits.inventory.B": 3.0,
        "tasks.x.rate": pytest.approx(2.0, rel=0.02),
    }
    # Three instead of two is the least change; a task in two pools instead of one is the largest; or fewer tasks.
    limits = ["limits.inventory.A", "limits.inventory.B", "options.split_tasks", "tasks.x.rate"]
    assert sorted(r.limit for r in found.relaxations[:2]) == limits[:2]
    assert [r.limit for r in found.relaxations[2:]] == limits[2:]
    assert all(r.verified for r in found.relaxations)
    assert solve(problem.replace({"tasks.x.rate": f"{needed['tasks.x.rate']}/s"})).status == "optimal"
    assert solve(problem.replace({"limits.inventory.A": 3})).status == "optimal"
    assert solve(problem.replace({"options.split_tasks": True})).status == "optimal"


def test_a_spare_too_many():
    problem = pools(
        {"a": {"x": 1}}, {"x": 1.9}, limits={"inventory": {"A": 2}}, redundancy={"survive": "one-server"}
    )
    needed, found = conflict(problem)
    fewer = pytest.approx(1.0, rel=0.02)
    assert needed == {"redundancy.survive": 0.0, "limits.inventory.A": 3.0, "tasks.x.rate": fewer}
    assert found.notes
    assert solve(problem.replace({"tasks.x.rate": f"{needed['tasks.x.rate']}/s"})).status == "optimal"
    assert solve(problem.replace({"limits.inventory.A": 3})).status == "optimal"
    assert solve(problem.replace({"redundancy.survive": "none"})).status == "optimal"


SERVERS = {
    "name": "servers",
    "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat",
            "rate": "20/s",
            "models": ["llama"],
            "context": {"p50": 1000, "p90": 2700},
            "output": {"mean": 210},
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "offers": {"big": {"rent": "2 $/h", "min": 64}}}},
    "limits": {"budget": {"cost_per_hour": "100 $/h"}},
    "options": {"max_replica_accelerators": 1},
}


def test_a_minimum_above_the_budget():
    problem = Problem.from_dict(SERVERS)
    needed, _ = conflict(problem)
    assert set(needed) == {"hardware.h100.offers.big.min", "limits.budget.cost_per_hour", "tasks.chat.rate"}
    assert needed["limits.budget.cost_per_hour"] == pytest.approx(128.0)
    least = needed["hardware.h100.offers.big.min"]
    assert 8 <= least <= 48
    assert solve(problem.replace({"hardware.h100.offers.big.min": int(least)})).status in ("optimal", "feasible")


def test_servers_larger_than_the_budget():
    problem = Problem.from_dict(SERVERS).replace(
        {"hardware.h100.offers.big.min": 1, "limits.budget.cost_per_hour": "15 $/h"}
    )
    needed, _ = conflict(problem)
    assert set(needed) == {"hardware.h100.server.accelerators", "limits.budget.cost_per_hour", "tasks.chat.rate"}
    assert needed["limits.budget.cost_per_hour"] == pytest.approx(16.0)
    single = problem.replace({"hardware.h100.server.accelerators": 1})
    assert solve(single).status in ("optimal", "feasible")
