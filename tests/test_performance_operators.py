"""Single operators against hand arithmetic and brute force."""

import math

import numpy as np
import pytest

from codesign.performance.operators import (
    Gemm,
    all_reduce_seconds,
    causal_pairs,
    distinct_experts,
    distinct_ranks,
    smooth_maximum,
)


def test_smooth_maximum_is_a_sum_at_one_and_a_maximum_far_out():
    x, y = np.array([3.0, 4.0, 0.0, 0.0]), np.array([4.0, 3.0, 2.0, 0.0])
    assert smooth_maximum(x, y, np.ones(4)) == pytest.approx([7, 7, 2, 0])
    assert smooth_maximum(x, y, np.full(4, 2.0)) == pytest.approx([5, 5, 2, 0])
    assert smooth_maximum(x * 1e-9, y * 1e-9, np.full(4, 200.0)) == pytest.approx([4e-9, 4e-9, 2e-9, 0])


def test_gemm_by_hand():
    constants = {
        "gemm.t0": 3e-6,
        "gemm.e": 0.5,
        "gemm.b": 0.8,
        "gemm.p": 1.0,
        "gemm.m0": 10.0,
        "gemm.n0": 100.0,
        "gemm.k0": 500.0,
        "gemm.k1": 64.0,
    }
    arrays = {name: np.array([value]) for name, value in constants.items()}
    one = np.ones(1)
    gemm = Gemm.of(4096 * one, 1024 * one, 32 * one, 1 * one, 2 * one, 1e15 * one, 3e12 * one, 3e12 * one, arrays)
    compute = 2 * (64 + 10) * (1024 + 100) * (4096 + 64) / (1e15 * 0.5)
    memory = (4096 * 1024 * 1 + 64 * 4096 * 2 + 64 * 1024 * 2 + 500 * 4096) / (3e12 * 0.8)
    assert gemm.seconds(np.array([[64.0]]))[0, 0] == pytest.approx(32 * (3e-6 + compute + memory))


def test_distinct_experts_counts_expected_coverage():
    found = distinct_experts(np.array([8.0]), np.array([2.0]), np.array([[0.0], [1.0], [2.0], [1e6]]))
    # Of 8 experts, 2 per token: 8·(1 − 0.75²) = 3.5 after two tokens.
    assert found[:, 0] == pytest.approx([0.0, 2.0, 3.5, 8.0])
    everything = distinct_experts(np.array([4.0]), np.array([4.0]), np.array([[1.0]]))
    assert everything[0, 0] == pytest.approx(4.0)


@pytest.mark.parametrize(("new", "cached", "window"), [(10, 0, math.inf), (7, 5, 4), (3, 0, 100), (50, 20, 30)])
def test_causal_pairs_match_counting(new, cached, window):
    counted = sum(min(position, window) for position in range(cached, cached + new))
    integral = causal_pairs(np.array([[float(new)]]), np.array([[float(cached)]]), np.array([window]))[0, 0]
    # The integral is the count with each token's own key half counted.
    assert integral == pytest.approx(counted, abs=0.5 * new)
    assert causal_pairs(np.array([8.0]), np.array([0.0]), np.array([np.inf]))[0] == 32.0


def test_all_reduce_by_hand_and_nothing_on_one_rank():
    names = {"t0": 3e-6, "e1": 0.5, "e": 0.8, "p": 1.0, "lat": 5e-6}
    arrays = {f"all_reduce.{name}": np.array([value, value]) for name, value in names.items()}
    ranks, link = np.array([8.0, 1.0]), np.full(2, 450e9)
    small = all_reduce_seconds(np.full((1, 2), 1e5), ranks, link, arrays)[0]
    assert small == pytest.approx([3e-6 + 7 * 1e5 / (450e9 * 0.5), 0.0])  # one shot
    large = all_reduce_seconds(np.full((1, 2), 1e7), ranks, link, arrays)[0]
    assert large == pytest.approx([3e-6 + 5e-6 + 2 * 7 / 8 * 1e7 / (450e9 * 0.8), 0.0])
    # Floor and latency grow by log2(n)/3 beyond the 8 ranks of the tables.
    wide = all_reduce_seconds(np.full((1, 2), 1e3), np.array([8.0, 64.0]), link, arrays)[0]
    assert wide[1] > wide[0]


def test_distinct_ranks_counts_expected_coverage():
    # 8 experts on 8 ranks: 8·(1 − (7/8)^8) ranks; one rank has them all.
    found = distinct_ranks(np.array([8.0, 1.0]), np.array([8.0, 8.0]))
    assert found == pytest.approx([8 * (1 - (7 / 8) ** 8), 1.0])
