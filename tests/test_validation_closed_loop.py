"""The simulator against measured closed-loop runs."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest

from codesign.validation.closed_loop import simulate_closed
from codesign.validation.commands import validate


@pytest.fixture(scope="module")
def rows():
    """(simulated, {metric: comparison}) of every measured closed-loop point."""
    found, points = {}, {}
    for comparison in validate((), None, None).comparisons:
        if comparison.point.load == "closed":
            found.setdefault(comparison.point.row_id, {})[comparison.metric] = comparison
            points[comparison.point.row_id] = comparison.point
    simulated = simulate_closed(list(points.values()))
    return [(each, found[each.point.row_id]) for each in simulated]


def errors(rows, metric):
    return [abs(getattr(each, metric) / known[metric].measured - 1.0) for each, known in rows]


def test_tpot_is_as_near_to_measurements_as_the_formula(rows):
    assert len(rows) == 65
    formula = [abs(known["tpot_ms_p50"].predicted / known["tpot_ms_p50"].measured - 1.0) for _, known in rows]
    assert median(errors(rows, "tpot_ms_p50")) < median(formula) + 0.02
    assert median(errors(rows, "tpot_ms_p50")) < 0.16


def test_ttft_is_nearer_than_the_formula_which_has_to_assume_a_delay(rows):
    formula = [abs(known["ttft_ms_p50"].predicted / known["ttft_ms_p50"].measured - 1.0) for _, known in rows]
    assert median(errors(rows, "ttft_ms_p50")) < 0.45 < median(formula)


def test_tpot_rises_with_concurrency(rows):
    series = {}
    for each, _ in rows:
        p = each.point
        key = (p.accelerator, p.isl, p.osl, p.tp, p.ep, p.dp, p.engine, p.weights, p.year)
        series.setdefault(key, []).append((p.concurrency, each.tpot_ms_p50))
    long = [sorted(values) for values in series.values() if len({c for c, _ in values}) > 2]
    assert long
    for values in long:
        for (clients, low), (more, high) in pairwise(values):
            assert more == clients or high > low
