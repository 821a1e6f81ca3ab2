"""The relaxations of nodes, one after another on one master that stays small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from codesign.candidates.data import FleetData, Floats, Ints
from codesign.optimize.duals import Duals
from codesign.optimize.pricer import Pricer
from codesign.optimize.redundancy import Rows
from codesign.optimize.relaxation import Relaxation, first_master, generate, hold, least_missed

_RECENT = 150
"""Columns that a master is begun anew with."""
_GROWN = 120
"""Columns that it may grow by before."""
_FEW_COLUMNS, _NEAREST = 10_000, 8
"""From so many columns on, a few of each group are priced first in every round."""


class NodeSolver:
    """Solves the relaxation of `data` under one set of rows after another; each starts at the last basis.

    `start` are columns that the first of them will need, `duals` those at which they earn, and `reduced` [columns] is
    what each column loses at the root.
    """

    def __init__(self, data: FleetData, start: Sequence[int], duals: Duals, reduced: Floats) -> None:
        self._data = data
        self._pricer = Pricer(data)
        self._near = _nearest(data, reduced)
        self._master, self._dearer = first_master(data, start, duals=duals)
        self._penalty = self._master.penalty
        self._recent = dict.fromkeys(sorted(start))
        self._room = len(self._master.columns) + _GROWN

    @property
    def held(self) -> list[int]:
        """Columns that the master holds."""
        return self._master.columns

    def relax(
        self,
        rows: Rows,
        deadline: float,
        stop_above: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Relaxation:
        """The relaxation under these rows, or the proof that they leave none; ends early at a bound ≥ `stop_above`."""
        found = self._generate(rows, deadline, stop_above, cancelled)
        while found.converged and found.misses and found.bound < stop_above:
            proof = least_missed(self._master, rows, deadline, cancelled)
            if proof.infeasible:
                return replace(found, infeasible=True, bound=np.inf)
            if proof.misses or not self._dearer:  # missing stays cheaper: the bound holds all the same
                break
            hold(self._master, proof)
            self._penalty = self._dearer.pop(0)
            self._master.set_penalty(self._penalty)
            found = self._generate(rows, deadline, stop_above, cancelled)
        if found.bound < stop_above:
            self._remember(found)
        return found

    def _generate(
        self, rows: Rows, deadline: float, stop_above: float, cancelled: Callable[[], bool]
    ) -> Relaxation:
        return generate(
            self._master,
            rows,
            deadline,
            stop_above=stop_above,
            cancelled=cancelled,
            near=self._near,
            pricer=self._pricer,
        )

    def _remember(self, relaxation: Relaxation) -> None:
        """Columns that ran lately are those that the next nodes need; a master of many others is slow."""
        for k in relaxation.running:
            self._recent.pop(k, None)
            self._recent[k] = None
        if len(self._master.columns) > self._room:
            self._recent = dict.fromkeys(list(self._recent)[-_RECENT:])
            self._master, _ = first_master(self._data, sorted(self._recent), self._penalty, relaxation.duals)
            self._room = len(self._master.columns) + _GROWN


def _nearest(data: FleetData, reduced: Floats) -> tuple[Ints, FleetData, Pricer] | None:
    """The columns of each group that are nearest to running, `reduced` [columns] being what they lose; None for few."""
    if data.columns < _FEW_COLUMNS:
        return None
    group = np.concatenate([block.group for block in data.blocks])
    order = np.lexsort((reduced, group))
    first = np.searchsorted(group[order], group[order])  # where each one's group begins in this order
    kept = np.zeros(data.columns, dtype=bool)
    kept[order[np.arange(len(order)) - first < _NEAREST]] = True
    nearest = data.keep(kept)
    return np.flatnonzero(kept), nearest, Pricer(nearest)
