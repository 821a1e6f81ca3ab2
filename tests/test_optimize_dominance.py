"""Dominance pruning: what it drops, and that it changes no optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fleets import block, colocated, fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.candidates.data import RowUse
from codesign.optimize.dominance import undominated
from codesign.optimize.fleet import solve_fleet


def shared(columns, source, level):
    """The block with its columns' use taken from few configurations."""
    u = columns.use
    use = RowUse(u.fixed, u.scaled, u.power, np.array(source), np.array(level, dtype=float))
    return replace(columns, use=use)


def family(limits, least, open_, source=None, level=None):
    """Columns of one configuration (unless `source` says otherwise) that use 1 of two rows per call."""
    count = len(limits)
    columns = block(
        [0, 1], [[[1.0, 2.0], [2.0, 1.0]]] * count, limits, least=least, open_=np.array(open_, dtype=bool)
    )
    return shared(columns, source or [0] * count, level or [1.0] * count)


def data_of(columns, demand=(3.0, 2.0)):
    return fleet(list(demand), [colocated(0), colocated(1)], [columns])


def test_keeps_what_is_better_somewhere():
    both = [True, True]
    limits = [[4.0, 4.0], [4.0, 3.0], [5.0, 3.0], [4.0, 4.0], [4.0, 4.0]]
    least = [1, 1, 1, 2, 1]
    columns = family(limits, least, [both, both, both, both, [True, False]])
    # The second offers less, the fourth needs more replicas, the fifth admits less; the third has a larger row.
    assert undominated(data_of(columns)).tolist() == [True, False, True, False, False]


def test_of_equals_the_first_stays():
    columns = family([[4.0, 4.0]] * 3, [1, 1, 1], [[True, True]] * 3)
    assert undominated(data_of(columns)).tolist() == [True, False, False]


def test_other_configurations_and_levels_are_not_compared():
    columns = family(
        [[4.0, 4.0], [3.0, 3.0], [3.0, 3.0]], [1, 1, 1], [[True, True]] * 3, source=[0, 1, 0], level=[1.0, 1.0, 2.0]
    )
    assert undominated(data_of(columns)).tolist() == [True, True, True]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_pruning_changes_no_optimum(draw):
    count = draw.draw(st.integers(2, 6))
    number = st.integers(1, 6).map(float)
    limits = [[draw.draw(number), draw.draw(number)] for _ in range(count)]
    least = [draw.draw(st.integers(1, 2)) for _ in range(count)]
    open_ = [[True, True]] + [[draw.draw(st.booleans()), True] for _ in range(count - 1)]
    demand = (draw.draw(number), draw.draw(number))
    data = data_of(family(limits, least, open_), demand)
    whole = solve_fleet(data, gap=0.0, threads=1, prune=False)
    pruned = solve_fleet(data, gap=0.0, threads=1, prune=True)
    assert pruned.status == whole.status == "optimal"
    assert pruned.objective == pytest.approx(whole.objective, rel=1e-6)
    assert pruned.columns_undominated <= count
