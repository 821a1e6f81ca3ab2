"""What calls of one task carry together, some of which find their history: lines through where steps, memory cross."""

import numpy as np
import pytest

from codesign.candidates.kept_mixes import Seen, crosses
from codesign.check import check
from codesign.planner import solve
from codesign.problem import Problem

SHARES = np.linspace(0.0, 1.0, 101)


def seen(steps, memory):
    """Both what is sure and what is likely, of one configuration whose curves are given as functions of the share."""

    def look(theta):
        found = steps(theta), memory(theta)
        return found, found

    ends = [look(np.array([end])) for end in (0.0, 1.0)]
    assert crosses(ends[0][0], ends[1][0]).all()
    return Seen.of(ends[0], ends[1], look)[0]


def largest(lines):
    return np.max([start[0] + slope[0] * SHARES for start, slope in lines], axis=0)


def test_straight_curves_are_their_own_lines():
    """0.030 − 0.010·θ of the steps and 0.002 + 0.048·θ of the memory cross at θ = 0.028/0.058, by hand."""
    found = seen(lambda t: 0.030 - 0.010 * t, lambda t: 0.002 + 0.048 * t)
    assert found.theta[0, 2] == pytest.approx(0.028 / 0.058, rel=1e-9)
    taken = np.maximum(0.030 - 0.010 * SHARES, 0.002 + 0.048 * SHARES)
    assert largest(found.above()) == pytest.approx(taken, rel=1e-9)
    assert largest(found.below()) == pytest.approx(taken, rel=1e-9)


@pytest.mark.parametrize("bend", [-0.006, 0.008])
def test_bent_curves_lie_between_the_lines(bend):
    def steps(t):
        return 0.030 - 0.010 * t + bend * t * (t - 1.0)

    def memory(t):
        return 0.002 + 0.048 * t + 2.0 * bend * t * (t - 1.0)

    found, taken = seen(steps, memory), np.maximum(steps(SHARES), memory(SHARES))
    assert np.all(largest(found.above()) >= taken * (1 - 1e-9))
    assert np.all(largest(found.below()) <= taken * (1 + 1e-9))
    assert np.all(largest(found.above()) <= 1.1 * taken)
    assert np.all(largest(found.below()) >= 0.9 * taken)


def test_what_is_no_number_is_no_mix():
    found = seen(lambda t: np.where(t == 1.0, 0.001, 0.03 - 0.01 * t), lambda t: 0.002 + 0.048 * t)
    assert found.mixed.all()
    wild = Seen.of(
        ((np.array([0.03]), np.array([0.002])),) * 2,
        ((np.array([0.02]), np.array([0.05])),) * 2,
        lambda theta: ((np.full(1, np.inf), np.full(1, np.inf)),) * 2,
    )[0]
    assert not wild.mixed.any()
    assert np.isfinite(wild.steps).all()


def test_one_task_on_one_part_is_near_its_bound():
    """Chats on single H100s, some kept and some computed again: 17.6 % apart before mixes were looked at, 3 % now."""
    problem = Problem.from_dict(
        {
            "kind": "procurement",
            "models": {"small": {"card": "gpt-oss-20b"}},
            "tasks": [
                {
                    "name": "chat", "preset": "chat", "rate": "240/s", "models": ["small"],
                    "slo": {"ttft": {"p95": "800 ms"}, "tpot": {"p95": "40 ms"}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "1.78 $/h"}},
            "options": {"max_replica_accelerators": 1, "disaggregation": "never", "gap": "1%", "time_limit": "20 s"},
        }
    )  # fmt: skip
    plan = solve(problem)
    assert check(problem, plan).ok
    assert plan.objective.bound >= 0.95 * plan.objective.value
