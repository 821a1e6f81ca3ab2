"""A linear program inside HiGHS: it goes in whole, within range, and every status that comes back is looked at.

HiGHS says in a returned status that it refused a row, dropped a coefficient or changed a bound; nothing raises.  Here
statuses are checked, numbers are scaled into range (`equilibrate`) and counted once they have arrived.  What does not
fit is a `SolverError`, never an answer.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import highspy
import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from codesign.candidates.data import Bools, Floats, Ints
from codesign.optimize import equilibrate as eq

FIRST_VERSION = (1, 15, 0)
"""Of highspy. 1.14.0 calls 11 optimal where 10 is (minimise 2x + y with 2x + y ≥ 10, x binary, y ≥ 9)."""
WRONG_VERSIONS = frozenset({(1, 16, 0)})
"""Later ones that are wrong. 1.16.0's presolve loses optima: 7.42 for 6 (findings/highs-presolve-loses-optimum.sh)."""

AT_ZERO, BASIC = highspy.HighsBasisStatus.kLower, highspy.HighsBasisStatus.kBasic
"""Places in a basis, of columns at their lower bound and of slack rows."""


class SolverError(RuntimeError):
    """HiGHS did not take a model whole, or failed; there is no answer."""


class _Highs(highspy.Highs):
    """Silent from the start: 1.16 prints a banner where callbacks are enabled, which is in the constructor."""

    def enableCallbacks(self) -> None:  # noqa: N802
        self.silent()
        super().enableCallbacks()  # type: ignore[no-untyped-call]


class LinearModel:
    """One linear program in one HiGHS instance, with or without whole numbers; minimised.

    Rows and columns count from 0 in the order in which they were given; all numbers are the caller's, unscaled.
    Infinite bounds are ±inf. Every method raises SolverError where HiGHS refuses, drops or changes what it is given.
    """

    def __init__(self, **options: bool | int | float | str) -> None:
        """`options`: of HiGHS, by name."""
        require_version()
        self.highs: Any = _Highs()  # type: ignore[no-untyped-call]
        self._rows, self._columns, self._nonzeros = 0, 0, 0
        self._row_scale, self._column_scale = np.ones(0), np.ones(0)
        self.row_lower, self.row_upper = np.zeros(0), np.zeros(0)
        self._empty = np.ones(0, dtype=bool)
        self._whole = np.zeros(0, dtype=bool)
        for name, value in options.items():
            self.set_option(name, value)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._rows

    @property
    def columns(self) -> int:
        """How many there are."""
        return self._columns

    @property
    def is_mip(self) -> bool:
        """Must any column be whole?"""
        return bool(self._whole.any())

    def set_option(self, name: str, value: bool | int | float | str) -> None:
        """An option of HiGHS."""
        done(self.highs.setOptionValue(name, value), f"the option {name} = {value!r}")

    # ---- the model -----------------------------------------------------------------------------------------

    def load(
        self,
        matrix: csr_array | csc_array | coo_array,
        cost: Floats,
        lower: Floats,
        upper: Floats,
        row_lower: Floats,
        row_upper: Floats,
        whole: Bools | None = None,
        offset: float = 0.0,
    ) -> None:
        """Put a model in place of what there is: minimise cost · x + offset, rows within bounds.

        `matrix` [m, n]; `cost`, `lower`, `upper`, `whole` [n]; `row_lower`, `row_upper` [m].
        """
        entries = _entries(matrix)
        m, n = entries.shape
        whole = np.zeros(n, dtype=bool) if whole is None else np.asarray(whole, dtype=bool)
        _check_bounds(row_lower, row_upper)
        _check_bounds(lower, upper)
        if not np.isfinite(offset):
            raise SolverError(f"the objective's constant is {offset}")
        try:
            scales = eq.equilibrate(entries, row_lower, row_upper, whole)
        except eq.RangeError as error:
            raise SolverError(f"the model's numbers are too far apart for double precision: {error}") from None
        row, column = entries.coords
        scaled = csr_array((entries.data * scales.rows[row] * scales.columns[column], (row, column)), shape=(m, n))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = n, m
        lp.col_cost_ = _checked_cost(cost * scales.columns)
        lp.offset_ = float(offset)
        lp.col_lower_, lp.col_upper_ = _checked(lower / scales.columns), _checked(upper / scales.columns)
        lp.row_lower_, lp.row_upper_ = _checked(row_lower * scales.rows), _checked(row_upper * scales.rows)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = n, m
        lp.a_matrix_.start_ = scaled.indptr
        lp.a_matrix_.index_ = scaled.indices
        lp.a_matrix_.value_ = scaled.data
        if whole.any():
            kinds = highspy.HighsVarType
            lp.integrality_ = [kinds.kInteger if w else kinds.kContinuous for w in whole.tolist()]
        done(self.highs.passModel(lp), "a model", crossed=_crossed(lower, upper) or _crossed(row_lower, row_upper))
        self._rows, self._columns, self._nonzeros = m, n, scaled.nnz
        self._row_scale, self._column_scale = scales.rows, scales.columns
        self.row_lower, self.row_upper = np.array(row_lower), np.array(row_upper)
        self._whole = whole.copy()
        self._empty = np.ones(m, dtype=bool)
        self._empty[row] = False
        self._count("a model")

    def add_rows(self, lower: Floats, upper: Floats, matrix: csr_array | coo_array | None = None) -> None:
        """Rows after those that there are; `matrix` [new rows, columns], without one they are empty."""
        n = len(lower)
        if not n:
            return
        entries = _entries(coo_array((n, self._columns)) if matrix is None else matrix)
        _check_bounds(lower, upper)
        row, column = entries.coords
        value = entries.data * self._column_scale[column]
        scale = eq.row_scales(n, row, np.abs(value), eq.largest_bound(lower, upper))
        value = value * scale[row]
        if not eq.in_range(np.abs(value)).all():
            self._grow(entries, lower, upper)
            return
        scaled = csr_array((value, (row, column)), shape=(n, self._columns))
        status = self.highs.addRows(
            n,
            _checked(lower * scale),
            _checked(upper * scale),
            scaled.nnz,
            scaled.indptr[:-1].astype(np.int32),
            scaled.indices.astype(np.int32),
            scaled.data,
        )
        done(status, "new rows", crossed=_crossed(lower, upper))
        self._rows += n
        self._nonzeros += scaled.nnz
        self._row_scale = np.concatenate([self._row_scale, scale])
        self.row_lower = np.concatenate([self.row_lower, lower])
        self.row_upper = np.concatenate([self.row_upper, upper])
        self._empty = np.concatenate([self._empty, np.bincount(row, minlength=n) == 0])
        self._count("new rows")

    def add_columns(
        self, cost: Floats, lower: Floats, upper: Floats, matrix: csc_array | csr_array | coo_array
    ) -> None:
        """Columns that need not be whole, after those that there are; `matrix` [rows, new columns]."""
        n = len(cost)
        if not n:
            return
        entries = _entries(matrix)
        _check_bounds(lower, upper)
        row, column = entries.coords
        fresh = self._empty[row]
        if fresh.any():
            self._first_entries(row[fresh], np.abs(entries.data[fresh]))
        value = entries.data * self._row_scale[row]
        scale = eq.column_scales(n, column, np.abs(value))
        value = value * scale[column]
        if not eq.in_range(np.abs(value)).all():
            self._grow(entries, lower, upper, cost)
            return
        scaled = csc_array((value, (row, column)), shape=(self._rows, n))
        status = self.highs.addCols(
            n,
            _checked_cost(cost * scale),
            _checked(lower / scale),
            _checked(upper / scale),
            scaled.nnz,
            scaled.indptr[:-1].astype(np.int32),
            scaled.indices.astype(np.int32),
            scaled.data,
        )
        done(status, "new columns", crossed=_crossed(lower, upper))
        self._columns += n
        self._nonzeros += scaled.nnz
        self._column_scale = np.concatenate([self._column_scale, scale])
        self._whole = np.concatenate([self._whole, np.zeros(n, dtype=bool)])
        self._count("new columns")

    def set_costs(self, columns: Ints, cost: Floats) -> None:
        """Other costs of some columns."""
        columns = np.asarray(columns, dtype=np.int32)
        scaled = _checked_cost(np.asarray(cost, dtype=np.float64) * self._column_scale[columns])
        done(self.highs.changeColsCost(len(columns), columns, scaled), "other costs")

    def set_row_bounds(self, rows: Ints, lower: Floats, upper: Floats) -> None:
        """Other bounds of some rows."""
        rows = np.asarray(rows, dtype=np.int32)
        _check_bounds(lower, upper)
        scale = self._row_scale[rows]
        status = self.highs.changeRowsBounds(len(rows), rows, _checked(lower * scale), _checked(upper * scale))
        done(status, "other bounds of rows")
        self.row_lower[rows], self.row_upper[rows] = lower, upper

    def set_bounds(self, columns: Ints, lower: Floats, upper: Floats) -> None:
        """Other bounds of some columns."""
        columns = np.asarray(columns, dtype=np.int32)
        _check_bounds(lower, upper)
        scale = self._column_scale[columns]
        status = self.highs.changeColsBounds(
            len(columns), columns, _checked(lower / scale), _checked(upper / scale)
        )
        done(status, "other bounds")

    def relax(self, columns: Ints) -> None:
        """Let some columns be other than whole."""
        columns = np.asarray(columns, dtype=np.int32)
        kinds = np.full(len(columns), highspy.HighsVarType.kContinuous.value, dtype=np.uint8)
        done(self.highs.changeColsIntegrality(len(columns), columns, kinds), "columns that need not be whole")
        self._whole[columns] = False

    def _first_entries(self, row: Ints, size: Floats) -> None:
        """Choose the scales of rows that get their first entries."""
        rows, position = np.unique(row, return_inverse=True)
        lower, upper = self.row_lower[rows], self.row_upper[rows]
        scale = eq.row_scales(len(rows), position, size, eq.largest_bound(lower, upper))
        self._empty[rows] = False
        other = np.flatnonzero(scale != self._row_scale[rows])
        if len(other):
            self._row_scale[rows[other]] = scale[other]
            self.set_row_bounds(rows[other], lower[other], upper[other])

    def _grow(self, entries: coo_array, lower: Floats, upper: Floats, cost: Floats | None = None) -> None:
        """New rows, or columns at a cost, that need other scales of what there is: the model is given anew."""
        lp = self.highs.getLp()
        row, column, value = self.held()
        costs = np.asarray(lp.col_cost_) / self._column_scale
        bounds = [np.asarray(b) * self._column_scale for b in (lp.col_lower_, lp.col_upper_)]
        limits = [self.row_lower, self.row_upper]
        whole = self._whole
        at = (0, self._columns)
        if cost is None:
            at = (self._rows, 0)
            limits = [np.concatenate(pair) for pair in zip(limits, (lower, upper), strict=True)]
        else:
            costs = np.concatenate([costs, cost])
            bounds = [np.concatenate(pair) for pair in zip(bounds, (lower, upper), strict=True)]
            whole = np.concatenate([whole, np.zeros(len(cost), dtype=bool)])
        all_of_it = coo_array(
            (
                np.concatenate([value, entries.data]),
                (np.concatenate([row, entries.coords[0] + at[0]]), np.concatenate([column, entries.coords[1] + at[1]])),
            ),
            shape=(len(limits[0]), len(costs)),
        )
        found = self.highs.getBasis()
        known = (list(found.col_status), list(found.row_status)) if found.valid else None
        self.load(all_of_it, costs, bounds[0], bounds[1], limits[0], limits[1], whole, float(lp.offset_))
        if known is not None:
            self.start_at(*known)

    def _count(self, what: str) -> None:
        """Did all of it arrive?"""
        arrived = self.highs.getNumRow(), self.highs.getNumCol(), self.highs.getNumNz()
        sent = self._rows, self._columns, self._nonzeros
        if arrived != sent:
            raise SolverError(f"HiGHS did not take {what} whole: (rows, columns, nonzeros) {sent} became {arrived}")

    # ---- where to start ------------------------------------------------------------------------------------

    def basis(self) -> tuple[list[Any], list[Any]] | None:
        """Status in the basis of columns and of rows, if there is one."""
        found = self.highs.getBasis()
        return (list(found.col_status), list(found.row_status)) if found.valid else None

    def start_at(self, columns: list[Any], rows: list[Any]) -> None:
        """A basis to start from, by `highspy.HighsBasisStatus`; later columns are at zero, later rows slack."""
        start = highspy.HighsBasis()
        start.col_status = columns + [AT_ZERO] * (self._columns - len(columns))
        start.row_status = rows + [BASIC] * (self._rows - len(rows))
        start.valid = True
        # A warning says that the basis had to be completed: where to start decides no answer.
        done(self.highs.setBasis(start), "a basis to start from", hint=True)

    def held(self) -> tuple[Ints, Ints, Floats]:
        """(row, column, coefficient) of the matrix in the caller's numbers."""
        held = self.highs.getLp().a_matrix_
        sparse = csc_array if held.format_ == highspy.MatrixFormat.kColwise else csr_array
        parts = (np.asarray(held.value_), np.asarray(held.index_), np.asarray(held.start_))
        matrix = sparse(parts, shape=(self._rows, self._columns)).tocoo()
        row, column = matrix.coords
        return row, column, matrix.data / (self._row_scale[row] * self._column_scale[column])


@cache
def require_version() -> None:
    """Refuse a HiGHS that is known to be wrong."""
    found = version("highspy")
    numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdecimal())
    if numbers < FIRST_VERSION or numbers in WRONG_VERSIONS:
        wanted = [f">={_written(FIRST_VERSION)}", *(f"!={_written(wrong)}" for wrong in sorted(WRONG_VERSIONS))]
        raise SolverError(
            f"highspy {found} is known to call wrong points optimal; install another one: "
            f"pip install 'highspy{','.join(wanted)}'"
        )


def _written(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def done(status: Any, what: str, hint: bool = False, crossed: bool = False) -> None:
    """Did HiGHS take it?  Warnings count as refusals: they say that something was changed or left out.

    Harmless are those of a mere `hint`, and that the bounds given have `crossed`, which a run calls infeasible.
    """
    if status == highspy.HighsStatus.kOk or (status == highspy.HighsStatus.kWarning and (hint or crossed)):
        return
    said = "refused" if status == highspy.HighsStatus.kError else "changed"
    raise SolverError(f"HiGHS {version('highspy')} {said} {what}")


def _entries(matrix: Any) -> coo_array:
    """[m, n] without zeros; each place once."""
    entries = coo_array(matrix)
    entries.sum_duplicates()
    entries.eliminate_zeros()
    if not np.isfinite(entries.data).all():
        raise SolverError("a coefficient is not a finite number")
    return entries


def _check_bounds(lower: Floats, upper: Floats) -> None:
    if np.isnan(lower).any() or np.isnan(upper).any() or np.isposinf(lower).any() or np.isneginf(upper).any():
        raise SolverError("a bound is not a number, or infinite on the wrong side")


def _crossed(lower: Floats, upper: Floats) -> bool:
    return bool((np.asarray(lower) > np.asarray(upper)).any())


def _checked(bounds: Floats) -> Floats:
    """Scaled bounds that HiGHS does not take for infinite where they are not."""
    size = np.abs(bounds[np.isfinite(bounds)]).max(initial=0.0)
    if size >= eq.BOUND:
        raise SolverError(f"a bound of {size:.3g} is too large to be told from an infinite one")
    return bounds


def _checked_cost(cost: Floats) -> Floats:
    if not np.isfinite(cost).all() or (np.abs(cost) >= eq.COST).any():
        raise SolverError("a cost is not finite, or too large to be told from an infinite one")
    return cost
