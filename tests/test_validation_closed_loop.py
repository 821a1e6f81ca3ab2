"""The simulator against measured closed-loop runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest

from codesign.performance import kv_bytes, kv_capacity_bytes
from codesign.validation.closed_loop import simulate_closed
from codesign.validation.commands import validate
from codesign.validation.engine_load import table_of
from codesign.validation.predict import stack_default


@pytest.fixture(scope="module")
def rows():
    """(point, simulated, {metric: comparison}) of every measured closed-loop point."""
    found, points = {}, {}
    for comparison in validate((), None, None).comparisons:
        if comparison.point.load == "closed" and comparison.point.slice == "colocated":
            found.setdefault(comparison.point.row_id, {})[comparison.metric] = comparison
            points[comparison.point.row_id] = comparison.point
    return [
        (point, simulate_closed(point, table_of([point], stack_default(point))), found[name])
        for name, point in points.items()
    ]


def errors(rows, metric):
    return [abs(getattr(each, metric) / known[metric].measured - 1.0) for _, each, known in rows]


def test_tpot_is_as_near_to_measurements_as_the_formula(rows):
    assert len(rows) == 65
    formula = [abs(known["tpot_ms_p50"].predicted / known["tpot_ms_p50"].measured - 1.0) for *_, known in rows]
    assert median(errors(rows, "tpot_ms_p50")) < median(formula) + 0.02
    assert median(errors(rows, "tpot_ms_p50")) < 0.16


def test_ttft_is_what_the_simulator_says(rows):
    assert all(known["ttft_ms_p50"].predicted == pytest.approx(each.ttft_ms_p50) for _, each, known in rows)
    assert median(errors(rows, "ttft_ms_p50")) < 0.25


def test_clients_beyond_the_memory_wait_for_a_place(rows):
    point, _, _ = rows[0]
    table = table_of([point], stack_default(point))
    room = float(kv_capacity_bytes(table)[0] / kv_bytes(table, point.isl + point.osl)[0, 0])
    crowd = simulate_closed(replace(point, concurrency=3.0 * room), table)
    assert crowd.ttft_ms_p50 > 0.2 * point.osl * crowd.tpot_ms_p50


def test_tpot_rises_with_concurrency(rows):
    series = {}
    for p, each, _ in rows:
        key = (p.accelerator, p.isl, p.osl, p.tp, p.ep, p.dp, p.engine, p.weights, p.year)
        series.setdefault(key, []).append((p.concurrency, each.tpot_ms_p50))
    long = [sorted(values) for values in series.values() if len({c for c, _ in values}) > 2]
    assert long
    for values in long:
        for (clients, low), (more, high) in pairwise(values):
            assert more == clients or high > low
