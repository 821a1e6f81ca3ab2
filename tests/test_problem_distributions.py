"""Distributions: hand arithmetic, exact moments of the quadrature, and the limits of what fits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.problem import Distribution

SHAPES = st.one_of(
    st.builds(Distribution.from_mean, st.floats(1e-3, 1e6), st.floats(0.01, 20)),
    st.builds(
        lambda low, ratio: Distribution.from_quantiles({0.5: low, 0.9: low * ratio}),
        st.floats(1e-3, 1e6),
        st.floats(1, 100),
    ),
    st.lists(st.floats(0.1, 1e6), min_size=1, max_size=50).map(Distribution.empirical),
)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.integers(2, 20))
def test_points_keep_mean_and_second_moment(shape: Distribution, n: int) -> None:
    values, weights = shape.points(n)
    assert len(values) <= n
    assert (values >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert values @ weights == pytest.approx(shape.mean, rel=1e-9)
    if shape.kind == "lognormal":
        assert values**2 @ weights == pytest.approx(shape.second_moment, rel=1e-6)


def test_lognormal_by_hand() -> None:
    shape = Distribution.from_quantiles({0.5: 110e3, 0.9: 300e3})
    sigma = math.log(300 / 110) / 1.2815515655446004
    assert shape.sigma == pytest.approx(sigma)
    assert shape.mean == pytest.approx(110e3 * math.exp(sigma**2 / 2))
    assert shape.quantile(0.9) == pytest.approx(300e3)
    assert shape.variance == pytest.approx(shape.second_moment - shape.mean**2)


def test_mean_and_percentile_are_both_met() -> None:
    shape = Distribution.from_quantiles({0.9: 937}, mean=446)
    assert shape.mean == pytest.approx(446)
    assert shape.quantile(0.9) == pytest.approx(937)


def test_three_percentiles_are_fitted_on_logarithms() -> None:
    exact = Distribution.lognormal(2.0, 0.7)
    fitted = Distribution.from_quantiles({p: exact.quantile(p) for p in (0.5, 0.9, 0.99)})
    assert (fitted.mu, fitted.sigma) == pytest.approx((2.0, 0.7))


def test_a_mean_alone_has_cv_one() -> None:
    assert Distribution.from_mean(2242).variance == pytest.approx(2242**2)


@pytest.mark.parametrize(
    "shape",
    [Distribution.constant(3.0), Distribution.lognormal(1.0, 0.8), Distribution.empirical([1, 2, 3, 10])],
)
def test_limited_moments_against_integration(shape: Distribution) -> None:
    x = np.linspace(0, 8, 400_001)
    tail = 1 - shape.cdf(x)
    assert shape.limited_mean(8.0) == pytest.approx(np.trapezoid(tail, x), rel=1e-4)
    assert shape.limited_second_moment(8.0) == pytest.approx(np.trapezoid(2 * x * tail, x), rel=1e-4)
    assert shape.limited_mean(math.inf) == pytest.approx(shape.mean)
    assert shape.limited_second_moment(math.inf) == pytest.approx(shape.second_moment)


def test_empirical_quantile_and_cdf() -> None:
    shape = Distribution.empirical([3, 1, 2], [1, 1, 2])
    assert [shape.quantile(p) for p in (0.2, 0.25, 0.5, 0.75, 0.9)] == [1, 1, 2, 2, 3]
    assert shape.cdf(np.array([0.5, 1.0, 2.5, 3.0])).tolist() == [0, 0.25, 0.75, 1]


def test_few_distinct_values_are_kept_as_they_are() -> None:
    values, weights = Distribution.empirical([0, 0, 0, 1]).points(7)
    assert values @ weights == pytest.approx(0.25)
    assert values**2 @ weights == pytest.approx(0.25)


def test_scaled() -> None:
    for shape in (Distribution.constant(3), Distribution.from_mean(3), Distribution.empirical([1, 5])):
        assert shape.scaled(2.0).mean == pytest.approx(6)
        assert shape.scaled(2.0).variance == pytest.approx(4 * shape.variance)


@pytest.mark.parametrize(
    ("quantiles", "mean"),
    [({0.5: 3, 0.9: 2}, None), ({0.9: 100}, 10), ({0.9: 1}, 10), ({0.9: 1}, None), ({}, 1), ({0.5: -1}, 1)],
)
def test_figures_that_no_lognormal_has(quantiles: dict[float, float], mean: float | None) -> None:
    with pytest.raises(ValueError, match=r"."):
        Distribution.from_quantiles(quantiles, mean)
