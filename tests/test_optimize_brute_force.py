"""Random tiny fleets: the MILP finds what enumeration of every integer fleet finds."""

import math

import pytest
from fleets import brute_force, tiny_fleets, with_unit
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from second_milp import second_optimum

from codesign.optimize.fleet import solve_fleet

QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@settings(QUIET, max_examples=200)
@given(tiny_fleets())
def test_whole_milp_is_brute_force(data):
    _is_brute_force(data)


@settings(QUIET, max_examples=60)
@given(tiny_fleets().filter(lambda data: len(data.hardware) > 1), st.sampled_from((0.1, 0.3, 0.6)))
def test_whole_milp_with_purchase_units_is_brute_force(data, share):
    _is_brute_force(with_unit(data, share))


def _is_brute_force(data):
    expected = brute_force(data)
    plan = solve_fleet(data, gap=0.0, threads=1)
    event(plan.status)
    second = second_optimum(data)  # what random fleets with more than this enumeration knows are held against
    if math.isinf(expected):
        assert second.status == "infeasible"
        assert plan.status == "infeasible"
        return
    assert second.objective == pytest.approx(expected, rel=1e-6)
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(expected, rel=1e-6)
    assert plan.gap <= 1e-6
