"""What a pool's money pays for sums to its cost, and spares are redundancy."""

from __future__ import annotations

import pytest

from codesign import solve
from codesign.problem.load import problem_from_data

PROBLEM = {
    "name": "split",
    "models": {"small": {"card": "Llama-3.1-8B"}},
    "tasks": [
        {
            "name": "chat",
            "preset": "chat",
            "rate": "5/s",
            "models": ["small"],
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}}},
    "options": {"max_replica_accelerators": 1, "disaggregation": "always", "gap": "30%", "time_limit": "60 s"},
}


@pytest.mark.parametrize("survive", ["none", "one-server"])
def test_parts_sum_to_the_cost(survive):
    solution = solve(problem_from_data(PROBLEM | {"redundancy": {"survive": survive}}))
    assert solution.fleet
    for pool in solution.fleet:
        assert sum(pool.cost_split.values()) == pytest.approx(pool.cost_per_hour, rel=1e-9)
        assert all(usd > 0 for usd in pool.cost_split.values())
        spare = pool.cost_per_hour * pool.spares / (pool.replicas + pool.spares)
        assert pool.cost_split.get("redundancy", 0.0) == pytest.approx(spare)
        if pool.role == "prefill":
            busy = (pool.cost_per_hour - spare) * pool.utilization.busy
            assert pool.cost_split["prefill"] <= busy * (1 + 1e-9)
            assert "decode" not in pool.cost_split
        if pool.role == "decode":
            assert "prefill" not in pool.cost_split
    assert any("redundancy" in pool.cost_split for pool in solution.fleet) == (survive != "none")


def test_measured_pools_serve_or_idle():
    problem = problem_from_data(
        {
            "name": "measured",
            "tasks": [{"name": "t", "rate": "15/s"}],
            "measured_pools": [{"name": "a", "accelerator": "A", "cost": "4 $/h", "max_rate": {"t": "10/s"}}],
        }
    )
    (pool,) = solve(problem).fleet
    assert pool.cost_split == pytest.approx({"serve": 6.0, "idle": 2.0})  # 15 of 20 tasks/s, for 8 $/h
