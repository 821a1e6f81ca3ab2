"""Files of MPS and LP mean the same to HiGHS, SCIP, CBC and GLPK."""

import dataclasses
import gc
import math

import numpy as np
import pytest
from fleets import block, colocated, fleet
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import READERS
from scipy.sparse import csr_array
from test_optimize_brute_force import QUIET

from codesign.candidates.data import Offer
from codesign.export import milp
from codesign.export.formats import FORMATS, LinearProgram, format_program, unique_names
from codesign.optimize.equilibrate import RangeError
from codesign.optimize.fleet import solve_fleet

INF = np.inf


def program(matrix, cost, row_lower, row_upper, lower=0.0, upper=INF, whole=True, offset=0.0, columns=None):
    dense = np.array(matrix, dtype=float)
    m, n = dense.shape
    bound = lambda value, count: np.broadcast_to(np.array(value, dtype=float), count).copy()  # noqa: E731
    return LinearProgram(
        columns or [f"x({j})" for j in range(n)],
        [f"row({i})" for i in range(m)],
        csr_array(dense),
        np.array(cost, dtype=float),
        bound(lower, n),
        bound(upper, n),
        bound(row_lower, m),
        bound(row_upper, m),
        np.broadcast_to(np.array(whole), n).copy(),
        offset,
    )


def optima(one, folder, kind):
    path = folder / f"one.{kind}"
    path.write_text("\n".join(format_program(one, kind)) + "\n", encoding="ascii")
    return {name: read(path) for name, read in READERS.items()}


CASES = {
    # GLPK caps integers of MPS at 1 where no bound is said, SCIP too.
    "integers without an upper bound": (program([[3.0]], [2.0], 10.0, INF), 8.0),
    "integers below zero": (program([[1.0, 2.0]], [1.0, 1.0], -7.0, INF, lower=[-INF, -2.0], upper=[INF, 5.0]), -12.0),
    "a constant": (program([[1.0]], [2.0], 3.0, INF, offset=-100.5), -94.5),
    "a constant alone": (program(np.zeros((0, 0)), [], [], [], offset=3.5), 3.5),
    "an equation": (program([[2.0, 3.0]], [1.0, 5.0], 12.0, 12.0, whole=[True, False]), 6.0),
    "rows of two bounds": (program([[2.0, 2.0], [1.0, -1.0]], [-1.0, 1.0], [3.0, -1.0], [7.0, 1.0]), -1.0),
    "rows without bounds": (program([[1.0], [5.0]], [1.0], [2.0, -INF], [INF, INF]), 2.0),
    "free columns": (
        program([[1.0, 1.0]], [0.0, 1.0], -4.5, INF, lower=[0.0, -INF], upper=[2.0, INF], whole=False),
        -6.5,
    ),
    "columns below a bound alone": (
        program([[1.0, -1.0]], [-1.0, -1.0], 0.0, 0.0, lower=-INF, upper=[-1.5, -2.0], whole=[False, True]),
        4.0,
    ),
    "integers within bounds that are not whole": (
        program([[1.0, 1.0]], [1.0, 2.0], 3.5, INF, lower=[0.5, 0.25], upper=[2.5, 9.75]),
        6.0,
    ),
    "fixed columns": (program([[1.0, 1.0]], [1.0, 3.0], 4.0, INF, lower=[0.0, 2.0], upper=[INF, 2.0]), 8.0),
    "a column without rows": (program([[0.0, 1.0]], [1.0, 1.0], 1.0, INF, lower=[3.0, 0.0]), 4.0),
    "a column without anything": (program([[0.0, 1.0]], [0.0, 1.0], 1.0, INF), 1.0),
    "an impossible row without columns": (program([[0.0], [1.0]], [1.0], [1.0, 0.0], INF), None),
    "impossible whole numbers": (program([[2.0]], [1.0], 1.0, 1.0), None),
    "small numbers": (program([[3e-10, 1e-12]], [2.0, 0.01], 3e-9, INF, whole=False), 20.0),
    "large numbers": (program([[1e15, 2e15]], [2.0, 3.0], 5e15, INF), 8.0),
    "many orders": (
        program([[1e-4, 1e4, 0], [0, 1, -1e-3]], [1e-6, 1e3, 1e-3], [1.0, 0], [INF, INF], whole=[False, True, False]),
        0.01,
    ),
    "long decimals": (program([[1 / 3, 0.3]], [0.7, 1 / 7], 2 / 3, 2 / 3, whole=False), 2 / 21 / 0.3),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_four_readers_find_the_optimum(case, kind, tmp_path):
    one, right = CASES[case]
    expected = None if right is None else pytest.approx(right, rel=1e-7)
    assert optima(one, tmp_path, kind) == dict.fromkeys(READERS, expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_names_of_any_letters_stay_apart(kind, tmp_path):
    """Commodities with `/`, blanks, operators, other alphabets, reserved words, and what differs in those alone."""
    names = ["a/b", "a b", "a|b", "a_b", "größe", "サーバー", "サーバ１", "free", "e1", "2x", ".5", "-inf"]
    names += ["x" * 300, "x" * 299, "", "constant", "st", "end", "cost", "rate(a:b,c)", "3 e1", "\\", "inf", "Bounds"]
    names += ["MARKER", "RHS", "BOUND", "ENDATA", "x_2x", "Subject To"]
    n = len(names)
    one = program(np.eye(n), np.ones(n), np.arange(n) + 0.5, INF, columns=names, offset=7.0)
    one = dataclasses.replace(one, rows=names)
    right = pytest.approx(7.0 + sum(range(1, n + 1)), rel=1e-9)
    assert optima(one, tmp_path, kind) == dict.fromkeys(READERS, right)


def test_names_are_kept_where_they_can_be():
    assert unique_names(["rate(h200#3,1)", "a/b", "a|b"]) == ["rate(h200#3,1)", "a_b", "a_b~2"]


@settings(QUIET, max_examples=40)
@given(st.integers(0, 100_000))
def test_random_programs_are_read_alike(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    m, n = int(random.integers(1, 5)), int(random.integers(1, 6))
    low = random.choice([-INF, -3.0, 0.0, 0.5, 2.0], n)
    high = np.maximum(np.where(np.isfinite(low), low, 0.0), random.choice([1.0, 2.5, 4.0, 9.0, INF], n))
    high = np.where(low == 0.5, np.maximum(high, 1.0), high)
    matrix = random.integers(-2, 5, (m, n)) * 10.0 ** random.integers(-3, 4, (m, 1))
    size = np.abs(matrix).max(axis=1)
    size = np.where(size > 0, size, 1.0)
    row_low = random.choice([-INF, -2.0, 1.0, 3.0], m) * size
    row_high = np.maximum(row_low, random.choice([0.0, 4.0, INF], m) * size)
    cost = np.where(np.isinf(low) & np.isinf(high), 0.0, np.where(np.isinf(low), -1.0, 1.0)) * random.integers(0, 5, n)
    one = program(matrix, cost, row_low, row_high, low, high, random.random(n) < 0.6, float(random.integers(-5, 5)))
    found = {
        (kind, name): value
        for kind in FORMATS
        for name, value in optima(one, tmp_path_factory.mktemp("read"), kind).items()
    }
    first = found["mps", "HiGHS"]
    assert found == dict.fromkeys(found, first if first is None else pytest.approx(first, rel=1e-6, abs=1e-6))


def test_what_does_not_fit_is_not_written():
    with pytest.raises(ValueError, match=r"x\(0\) has no value"):
        list(format_program(program([[1.0]], [1.0], 1.0, INF, lower=1.2, upper=1.8), "mps"))
    with pytest.raises(RangeError):
        list(format_program(program([[1e-30, 1.0]], [1.0, 1.0], 1.0, INF), "mps"))


def test_names_do_not_wait_for_the_garbage_collector(tmp_path, monkeypatch):
    """Pyomo's variables know their families through weak references alone: the model lives until all have names."""
    names = milp._names

    def swept(data):
        gc.collect()
        return names(data)

    monkeypatch.setattr(milp, "_names", swept)
    data = fleet([2.0], [colocated(0)], [block([0], [[[1.0]]], [[1.0]])])
    assert milp.write_milp(data, solve_fleet(data, threads=1), tmp_path / "fleet.mps").columns == 1
    assert "servers(box)" in (tmp_path / "fleet.mps").read_text()


@pytest.mark.parametrize("kind", ["mps", "lp"])
@pytest.mark.parametrize("price", [3e-10, 0.5, 4e9])
def test_an_objective_of_any_size_is_read_right(price, kind, tmp_path):
    """Two servers at a billionth of a dollar: to SCIP's tolerance that was nothing."""
    data = fleet([2.0], [colocated(0)], [block([0], [[[1.0]]], [[1.0]])], offers=(Offer("rent", 0, price, 0.0, 0),))
    path = tmp_path / f"fleet.{kind}"
    written = milp.write_milp(data, solve_fleet(data, threads=1), path, kind)
    power = round(math.log2(written.factor))
    assert written.factor == 2.0**power
    names = {3e-10: f"cost_times_2_to_{power}", 0.5: "cost", 4e9: f"cost_by_2_to_{-power}"}
    assert names[price] in path.read_text()
    for name, read in READERS.items():
        assert read(path) / written.factor == pytest.approx(2 * price, rel=1e-9), name
