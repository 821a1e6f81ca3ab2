"""The best use of one replica of every column at once: batched exact linear programs.

Given a worth for each flow, column k's subproblem is  max w·x  s.t.  use[k]·x ≤ limit[k], x ≥ 0:
a handful of rows, so a dense tableau simplex runs on all columns together in numpy.  The optimal value
is the column's *value per replica*; it is what column generation and the dual bound need (DESIGN 3.7).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.candidates.data import Bools, ColumnBlock, Floats

_TOLERANCE = 1e-11
_CHUNK_DOUBLES = 250_000
"""Entries worked on at a time: a few megabytes stay in the cache through all steps."""


def chunks(block: ColumnBlock, count: int | None = None) -> Iterator[slice]:
    """Slices of a block's columns (or of `count` things of their size) whose dense rows fit the cache."""
    _, rows, flows = block.use.shape
    return parts(len(block) if count is None else count, rows * flows)


def parts(count: int, entries: int) -> Iterator[slice]:
    """Slices of `count` things of so many entries each that fit the cache."""
    size = max(1, _CHUNK_DOUBLES // max(1, entries))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def binding_rows(use: Floats, limit: Floats, admissible: Bools) -> Bools:
    """[K, R] rows of columns that no other row of the same column implies; use [K, R, V], limit [K, R].

    Row r implies row q where it charges each admissible flow at least as much of its limit.  Most rows are implied:
    of a dozen, two to four are left.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(admissible[:, None, :], use / limit[:, :, None], 0.0)
    share = np.nan_to_num(share, nan=0.0, posinf=np.inf)
    needed = np.ones(limit.shape, dtype=bool)
    for row in range(limit.shape[1]):
        as_much = np.all(share >= share[:, row, None, :], axis=2)
        more = as_much & np.any(share > share[:, row, None, :], axis=2)
        as_much[:, row:] = False  # of equal rows the first one stays
        needed[:, row] = ~(more | as_much).any(axis=1)
    return np.asarray(needed | np.any(limit < 0, axis=1)[:, None])


def best_ratios(units: Floats, worth: Floats) -> Floats:
    """[R, K] the most that a unit of each row can earn if it alone limits: max worth·units over flows that earn.

    `units` [V, R, K] are the calls/s that a unit of each row carries (1/use, inf where the flow spares the row) and
    `worth` is [V, K]; inf where a flow earns that spares the row.
    """
    with np.errstate(invalid="ignore"):  # nan where a flow spares a row and earns nothing: no ratio
        return np.asarray(np.fmax.reduce(worth[:, None, :] * units, axis=0, initial=0.0))


def upper_values(ratios: Floats, limit: Floats) -> Floats:
    """An upper bound [K] on columns' values: the least over their rows of what the row alone would let them earn.

    `ratios` [R, K] as from `best_ratios`, `limit` [R, K].  Cheap: no simplex.
    """
    with np.errstate(invalid="ignore"):  # nan where a flow spares a row of limit 0: that row bounds nothing
        found = np.fmin.reduce(ratios * limit, axis=0, initial=np.inf)
    # A column with a limit below zero serves nothing.
    return np.asarray(np.where(ratios.max(axis=0, initial=0.0) > 0, np.maximum(found, 0.0), 0.0))


def best_values(use: Floats, limit: Floats, worth: Floats) -> Floats:
    """Optimal values [K] of  max worth·x, use·x ≤ limit, x ≥ 0  for use [K,R,V], limit [K,R], worth [K,V].

    Limits must be ≥ 0 (the slack basis is feasible); a column with a negative limit can serve nothing.
    Raises ValueError when a column is unbounded, since then a row is missing from the model.
    """
    return best_mixes(use, limit, worth)[0]


def best_mixes(use: Floats, limit: Floats, worth: Floats) -> tuple[Floats, Floats]:
    """Optimal values [K] and solutions [K, V], calls/s of each flow, of the same problems."""
    columns, rows, flows = use.shape
    values, mixes = np.zeros(columns), np.zeros((columns, flows))
    usable = np.flatnonzero(np.all(limit >= 0, axis=1) & np.any(worth > 0, axis=1))
    chunk = max(1, _CHUNK_DOUBLES // ((rows + 1) * (rows + flows + 1)))
    for start in range(0, len(usable), chunk):
        index = usable[start : start + chunk]
        earning = np.flatnonzero(np.any(worth[index] > 0, axis=0))
        pairs = np.ix_(index, earning)
        found = _simplex(use[index][:, :, earning], limit[index], worth[pairs])
        values[index], mixes[pairs] = found
    return values, mixes


def _simplex(use: Floats, limit: Floats, worth: Floats) -> tuple[Floats, Floats]:
    columns, rows, flows = use.shape
    # Rows differ by 15 orders of magnitude (bytes against seconds); each is scaled by its limit or largest use.
    scale = np.where(limit > 0, limit, np.maximum(use.max(axis=2), 1.0))
    tableau = np.zeros((columns, rows + 1, flows + rows + 1))
    tableau[:, :rows, :flows] = use / scale[:, :, None]
    tableau[:, np.arange(rows), flows + np.arange(rows)] = 1.0
    tableau[:, :rows, -1] = limit / scale
    # Flows are scaled too, so that entering columns are comparable and steps well conditioned.
    width = np.maximum(tableau[:, :rows, :flows].max(axis=1), 1e-300)
    tableau[:, :rows, :flows] /= width[:, None, :]
    gain = np.maximum(worth, 0.0) / width
    top = np.maximum(gain.max(axis=1), 1e-300)
    tableau[:, rows, :flows] = -gain / top[:, None]
    values, mixes = np.zeros(columns), np.zeros((columns, flows + rows))
    active = np.arange(columns)
    basis = np.broadcast_to(flows + np.arange(rows), (columns, rows)).copy()
    for iteration in range(40 * (rows + flows)):
        reduced = tableau[:, rows, :-1]
        if iteration < 20 * (rows + flows):
            enter = np.argmin(reduced, axis=1)
        else:  # Bland's rule ends the cycling that ties can cause
            enter = np.argmax(reduced < -_TOLERANCE, axis=1)
        here = np.arange(len(active))
        finished = reduced[here, enter] >= -_TOLERANCE
        if finished.any():
            done = active[finished]
            values[done] = tableau[finished, rows, -1] * top[done]
            mixes[done[:, None], basis[finished]] = tableau[finished, :rows, -1]
            keep = ~finished
            tableau, active, enter, basis = tableau[keep], active[keep], enter[keep], basis[keep]
            if not len(active):
                return values, mixes[:, :flows] / width
            here = np.arange(len(active))
        pivot_column = tableau[here, :rows, enter]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(pivot_column > _TOLERANCE, tableau[:, :rows, -1] / pivot_column, np.inf)
        leave = np.argmin(ratio, axis=1)
        if not np.all(np.isfinite(ratio[here, leave])):
            raise ValueError("a column serves a flow without consuming any of its rows")
        pivot_row = tableau[here, leave, :] / pivot_column[here, leave][:, None]
        factor = tableau[here, :, enter]
        factor[here, leave] = 0.0
        tableau -= factor[:, :, None] * pivot_row[:, None, :]
        tableau[here, leave, :] = pivot_row
        basis[here, leave] = enter
    raise ValueError("batched simplex did not finish: the rows are degenerate beyond its tolerance")
