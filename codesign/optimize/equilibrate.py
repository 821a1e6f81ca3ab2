"""Powers of two that bring a linear program's coefficients into the range in which HiGHS reads them as they are.

HiGHS takes a coefficient below 1e-9 for zero without a word, refuses one from 1e15 on, takes bounds and costs from 1e20
on for infinite, and holds rows to an absolute tolerance, so that a row of small numbers binds nothing.  Multiplying by
powers of two is exact: what comes back is what was meant, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from codesign.candidates.data import Bools, Floats, Ints

SMALLEST, LARGEST = 2.0**-29, 2.0**49
"""Range of |coefficient| as HiGHS gets it: 1.9e-9 to 5.6e14."""
BOUND = COST = 2.0**60
"""What finite bounds and costs stay below, 1.2e18."""
_USUAL = (0.5, 2.0**10)
"""Rows whose bound lies here stay as they are."""
_ROUNDS = 20


class RangeError(ValueError):
    """Numbers that no scaling brings into the range."""


@dataclass(frozen=True)
class Scales:
    """What rows are multiplied by and columns are counted in: scaled a = row · a · column, scaled x = x / column."""

    rows: Floats
    columns: Floats


def equilibrate(matrix: coo_array, lower: Floats, upper: Floats, whole: Bools) -> Scales:
    """Scales of all rows and, where rows alone do not do, of the columns that need not be whole.

    `matrix` [m, n] without explicit zeros; `lower`, `upper` [m] of the rows. Raises RangeError.
    """
    m, n = matrix.shape
    row, column = matrix.coords
    size = np.abs(matrix.data)
    bound = largest_bound(lower, upper)
    ones = np.ones(n)
    scales = row_scales(m, row, size, bound)
    if not in_range(size * scales[row]).all():
        ones = _column_scales(m, n, row, column, np.log2(size), whole)
        scales = row_scales(m, row, size * ones[column], bound)
        outside = ~in_range(size * ones[column] * scales[row])
        if outside.any():
            worst = np.flatnonzero(outside)[0]
            own = size[row == row[worst]]
            raise RangeError(
                f"a row holds coefficients from {own.min():.3g} to {own.max():.3g}, which do not fit between "
                f"{SMALLEST:.2g} and {LARGEST:.2g} together"
            )
    beyond = bound[bound * scales >= BOUND]
    if len(beyond):
        raise RangeError(f"a row's limit of {beyond[0]:.3g} is too large beside its coefficients")
    return Scales(scales, ones)


def in_range(size: Floats) -> Bools:
    """Which |coefficients| HiGHS reads as they are."""
    return np.asarray((size >= SMALLEST) & (size <= LARGEST))


def largest_bound(lower: Floats, upper: Floats) -> Floats:
    """[m] the larger finite |bound| of each row, 0 where it has none."""
    finite = [np.where(np.isfinite(b), np.abs(b), 0.0) for b in (lower, upper)]
    return np.maximum(*finite)


def row_scales(m: int, row: Ints, size: Floats, bound: Floats) -> Floats:
    """[m] for entries of |size| in rows: the bound about 1, unless a coefficient would leave the range.

    A row holds to an absolute tolerance, so what counts is the number that it is held to.  A large coefficient beside
    a usual bound is no reason to scale: the others would pass for rounding.  Where the bound is 0 the smallest
    coefficient counts if it is large, else the largest if it is small.
    """
    low, high = np.full(m, np.inf), np.zeros(m)
    np.minimum.at(low, row, size)
    np.maximum.at(high, row, size)
    held = high > 0
    usual = np.clip(np.where(held, high, 1.0), None, np.maximum(1.0, np.where(held, low, 1.0)))
    counts = np.where(bound > 0, np.where(held, np.maximum(bound, np.minimum(high, 1.0)), bound), usual)
    power = np.where((counts >= _USUAL[0]) & (counts <= _USUAL[1]), 0.0, -np.rint(np.log2(counts)))
    least = np.ceil(np.log2(SMALLEST) - np.log2(low, where=held, out=np.zeros(m)))
    most = np.floor(np.log2(LARGEST) - np.log2(high, where=held, out=np.zeros(m)))
    return np.asarray(np.exp2(np.where(held, np.minimum(np.maximum(power, least), most), power)))


def column_scales(n: int, column: Ints, size: Floats) -> Floats:
    """[n] for entries of |size| in columns: 1 where all are in range, else their middle about 1."""
    low, high = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(low, column, size)
    np.maximum.at(high, column, size)
    out = (high > LARGEST) | (low < SMALLEST)
    middle = np.log2(low, where=out, out=np.zeros(n)) + np.log2(high, where=out, out=np.zeros(n))
    return np.asarray(np.exp2(-np.rint(middle / 2)))


def _column_scales(m: int, n: int, row: Ints, column: Ints, power: Floats, whole: Bools) -> Floats:
    """[n] by geometric means of the extremes of rows and columns in turn; 1 for what must be whole."""
    rows, columns = np.zeros(m), np.zeros(n)
    for _ in range(_ROUNDS):
        rows = -_middle(m, row, power + columns[column])
        columns = np.where(whole, 0.0, -_middle(n, column, power + rows[row]))
    return np.asarray(np.exp2(np.rint(columns)))


def _middle(count: int, index: Ints, power: Floats) -> Floats:
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, index, power)
    np.maximum.at(high, index, power)
    return np.where(np.isfinite(low), (low + high) / 2, 0.0)
