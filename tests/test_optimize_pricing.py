"""Pricing and bounds: the batched simplex against scipy, and what a relaxation may claim."""

import dataclasses
import time

import numpy as np
import pytest
from fleets import any_fleets, block, colocated, fleet, server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_fleets import random_fleet
from scipy.optimize import linprog
from second_milp import second_optimum

from codesign.candidates.data import Offer, SideLimit
from codesign.optimize import fleet as fleet_module
from codesign.optimize import pricer
from codesign.optimize.branch import Tree
from codesign.optimize.duals import Duals, Gains
from codesign.optimize.fleet import FleetSolver, solve_fleet
from codesign.optimize.highs import CompiledModel, Outcome
from codesign.optimize.model import FleetModel
from codesign.optimize.pricer import lower_bound
from codesign.optimize.pricing import best_ratios, best_values, upper_values
from codesign.optimize.relaxation import relax
from codesign.optimize.search import Search
from codesign.optimize.strengthen import strengthened, with_spares

QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def random_columns(seed, count=60, rows=6, flows=5):
    """Rows in seconds, counts and bytes; some entries zero; some limits zero; some flows earn nothing."""
    draw = np.random.default_rng(seed)
    units = 10.0 ** draw.integers(-3, 13, size=(1, rows, 1))
    use = units * draw.uniform(0.1, 2.0, size=(count, rows, flows))
    use *= draw.random((count, rows, flows)) > 0.3
    use[:, 0] = np.maximum(use[:, 0], 1e-2 * units[0, 0])
    limit = units[:, :, 0] * draw.uniform(0.1, 5.0, size=(count, rows))
    limit[draw.random((count, rows)) < 0.03] = 0.0
    worth = draw.uniform(-0.5, 2.0, size=(count, flows))
    return use, limit, worth


def units(use):
    """Calls/s that a unit of each row carries."""
    with np.errstate(divide="ignore"):
        return 1.0 / use.transpose(2, 1, 0)


def by_scipy(use, limit, worth):
    scale = np.where(use.max(axis=1) > 0, use.max(axis=1), np.maximum(limit, 1.0))
    found = linprog(-worth, A_ub=use / scale[:, None], b_ub=limit / scale, method="highs")
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize("seed", range(4))
def test_best_values_are_those_of_linear_programs(seed):
    use, limit, worth = random_columns(seed)
    expected = [by_scipy(u, b, w) for u, b, w in zip(use, limit, worth, strict=True)]
    assert best_values(use, limit, worth) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_upper_values_are_upper(seed):
    use, limit, worth = random_columns(seed, rows=3)
    exact = best_values(use, limit, worth)
    assert np.all(upper_values(best_ratios(units(use), worth.T), limit.T) >= exact * (1 - 1e-9))


def test_upper_values_of_one_row_are_exact():
    use, limit, worth = random_columns(7, rows=1)
    found = upper_values(best_ratios(units(use), worth.T), limit.T)
    assert found == pytest.approx(best_values(use, limit, worth), rel=1e-9)


@pytest.mark.parametrize("most", [0, 400, 900, 10_000])
def test_values_do_not_depend_on_how_much_is_held(most, monkeypatch):
    """Worked out anew, held, or laid beside what is wider and fills it up to more than may be held (at 900)."""
    draw = np.random.default_rng(5)
    narrow = block(range(8), draw.uniform(0.1, 2.0, (20, 3, 8)), draw.uniform(1.0, 3.0, (20, 3)))
    wide = block(range(15), draw.uniform(0.1, 2.0, (1, 4, 15)), draw.uniform(1.0, 3.0, (1, 4)))
    data = fleet(np.ones(15), [colocated(task) for task in range(15)], [narrow, wide])
    duals = dataclasses.replace(Duals.none(data), demand=draw.uniform(1.0, 50.0, 15))
    gains = Gains(data, duals)
    expected = [best_values(b.use.of(slice(None)), b.limit, gains.of(b, slice(None))) for b in data.blocks]
    monkeypatch.setattr(pricer, "_MOST_HELD", most)
    found = pricer.Pricer(data).values(data, duals, np.zeros(data.columns))
    assert found == pytest.approx(np.concatenate(expected), rel=1e-9)


def test_best_value_by_hand():
    # 3x + 2y, x + y ≤ 4, x + 3y ≤ 6, x ≤ 3: the corner (3, 1).
    use = np.array([[[1.0, 1.0], [1.0, 3.0], [1.0, 0.0]]])
    assert best_values(use, np.array([[4.0, 6.0, 3.0]]), np.array([[3.0, 2.0]])) == pytest.approx([11.0])


def test_ties_end():
    """Limits of zero make every pivot degenerate."""
    use = np.array([[[0.25, 60.0, 0.04, 9.0], [0.5, 90.0, 0.02, 3.0], [0.0, 0.0, 1.0, 0.0]]])
    worth = np.array([[0.75, 150.0, 0.02, 6.0]])
    assert best_values(use, np.array([[0.0, 0.0, 1.0]]), worth) == pytest.approx([0.0], abs=1e-12)


def test_a_flow_that_consumes_nothing_is_refused():
    with pytest.raises(ValueError, match="without consuming"):
        best_values(np.zeros((1, 2, 1)), np.ones((1, 2)), np.ones((1, 1)))


def test_a_negative_limit_serves_nothing():
    assert best_values(np.ones((1, 1, 1)), -np.ones((1, 1)), np.ones((1, 1))) == pytest.approx([0.0])


# ---- the relaxation ----------------------------------------------------------------------------------------


def many_columns(seed, count=120, tasks=3, boxes=3):
    """A fleet of random columns in which no column is best at everything."""
    draw = np.random.default_rng(seed)
    slots = [1, 2, 4][:boxes]
    hardware = tuple(server(f"box{h}", slots[h], 500.0, 1e-3) for h in range(boxes))
    offers = tuple(Offer(f"box{h}", h, slots[h] * (2.0 + h), 0.0, 0) for h in range(boxes))
    box = draw.integers(0, boxes, size=count)
    columns = block(
        range(tasks),
        draw.uniform(0.05, 1.0, size=(count, 3, tasks)) / (1.0 + 0.3 * box[:, None, None]),
        draw.uniform(0.5, 2.0, size=(count, 3)),
        packing=box,
        packed=1.0,
        group=np.arange(count),
        power=draw.uniform(50.0, 300.0, size=count),
        flow_power=draw.uniform(0.0, 30.0, size=(count, tasks)),
    )
    return fleet(draw.uniform(3.0, 9.0, size=tasks), [colocated(c) for c in range(tasks)], [columns],
                 hardware=hardware, offers=offers)  # fmt: skip


def later():
    return time.monotonic() + 30.0


def whole_lp(data):
    """The relaxation with every column in one model."""
    outcome = CompiledModel(FleetModel(data, range(data.columns), relaxed=True).pyomo).run()
    return outcome.objective


@pytest.mark.parametrize("seed", range(3))
def test_column_generation_reaches_the_whole_linear_program(seed):
    data = many_columns(seed)
    found = relax(data, later())
    assert found.value == pytest.approx(whole_lp(data), rel=1e-8)
    assert found.bound == pytest.approx(found.value, rel=1e-8)
    assert len(found.columns) < data.columns


@pytest.mark.parametrize("seed", range(3))
def test_any_duals_give_a_bound(seed):
    data = many_columns(seed)
    draw = np.random.default_rng(seed)
    optimum = whole_lp(data)
    for size in (0.1, 1.0, 10.0, 1000.0):
        duals = Duals(draw.uniform(0, size * optimum, size=3), np.zeros(0), np.zeros(0), np.zeros(len(data.hardware)))
        bound, scaled, reduced = lower_bound(data, duals)
        assert 0 <= bound <= optimum * (1 + 1e-9)
        assert np.all(scaled.demand <= duals.demand * (1 + 1e-12))
        assert np.all(reduced >= -1e-9)


@settings(QUIET, max_examples=60)
@given(any_fleets())
def test_bounds_stay_below_the_optimum(data):
    optimum = second_optimum(data).objective
    loose = relax(data, later())
    tight = relax(strengthened(data), later())
    if np.isfinite(optimum):
        assert not loose.infeasible
        assert not tight.infeasible
        assert loose.bound <= tight.bound + 1e-7 * abs(optimum)
        assert tight.bound <= optimum * (1 + 1e-7)
        assert relax(with_spares(strengthened(data)), later()).bound <= optimum * (1 + 1e-7)


@settings(QUIET, max_examples=60)
@given(any_fleets(), st.integers(0, 2**32), st.sampled_from((1e-3, 1.0, 1e3)))
def test_any_duals_of_any_fleet_give_a_bound(data, seed, size):
    """However far off they are: prices of chains of modules, of rows that something widens, of nothing at all."""
    optimum = second_optimum(data).objective
    if not np.isfinite(optimum):
        return
    rng = np.random.default_rng(seed)

    def prices(count):
        return rng.uniform(0.0, 1.0, count) * (rng.random(count) < 0.7) * size * optimum

    signed = prices(len(data.commodities)) * rng.choice((-1.0, 1.0), len(data.commodities))
    duals = Duals(prices(len(data.tasks)), signed, prices(len(data.limits)), prices(len(data.hardware)))
    assert lower_bound(data, duals)[0] <= optimum * (1 + 1e-9)


def test_a_price_on_a_task_without_demand_proves_nothing():
    """A task of another period may have none; a bound of 1.2011 stood above an optimum of 1.2."""
    flows = [colocated(0), colocated(1)]
    data = fleet([1.7, 0.0], flows, [block([0], [[[0.5]]], [[1.0]]), block([1], [[[0.5]]], [[1.0]])])
    duals = Duals(np.array([0.85, 0.66]), np.zeros(0), np.zeros(0), np.zeros(1))
    assert lower_bound(data, duals)[0] == pytest.approx(0.85)


@settings(QUIET, max_examples=40)
@given(any_fleets())
def test_strengthening_keeps_the_optimum(data):
    assert second_optimum(strengthened(data)).objective == pytest.approx(second_optimum(data).objective, rel=1e-6)


def test_a_bound_at_the_deadline_is_still_a_bound():
    data = many_columns(1)
    first = relax(data, time.monotonic() - 1.0)
    assert first.rounds == 1
    assert first.bound <= whole_lp(data) * (1 + 1e-9)


# ---- solving again ------------------------------------------------------------------------------------------


@settings(QUIET, max_examples=40)
@given(any_fleets(), st.sampled_from(["prices", "rates", "limits", "epsilon"]))
def test_solving_again_is_solving_anew(data, change):
    """Prices, rates, limits or an ε row change: the solver that knows the first problem finds what a new one finds."""
    solver = FleetSolver(data, threads=1)
    first = solver.solve(gap=0.0)
    changed = {
        "prices": lambda: dataclasses.replace(
            data,
            offers=tuple(
                dataclasses.replace(o, usd_per_hour=2.5 * o.usd_per_hour + n) for n, o in enumerate(data.offers)
            ),
        ),
        "rates": lambda: dataclasses.replace(data, demand=data.demand * 0.6, calls_bound=data.calls_bound * 0.6),
        "limits": lambda: dataclasses.replace(
            data, limits=tuple(dataclasses.replace(item, limit=item.limit * 1.5) for item in data.limits)
        ),
        "epsilon": lambda: data.with_limits(
            [SideLimit("servers", "servers", 6.0, per_server=dict.fromkeys(range(len(data.offers)), 1.0))]
        ),
    }[change]()
    again, anew = solver.solve(changed, gap=0.0, start=[first.start]), solve_fleet(changed, gap=0.0, threads=1)
    assert again.status == anew.status
    if anew.status == "optimal":
        assert again.objective == pytest.approx(anew.objective, rel=1e-6)
        assert again.bound <= anew.objective * (1 + 1e-9)


def test_a_solver_knows_its_columns():
    with pytest.raises(ValueError, match="other columns"):
        FleetSolver(many_columns(1)).solve(many_columns(2))


# ---- restricted MILPs, branching ---------------------------------------------------------------------------


@settings(QUIET, max_examples=25)
@given(any_fleets())
def test_branching_reaches_the_same_optimum(data):
    """What the whole MILP finds at once the path for large problems finds too; its bound never lies."""
    whole = solve_fleet(data, gap=0.0, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet_module, "_SMALL", 0)
        parts = solve_fleet(data, gap=0.0, threads=1)
    assert parts.status == whole.status
    if whole.status == "optimal":
        assert parts.objective == pytest.approx(whole.objective, rel=1e-6)
        assert parts.bound <= whole.objective * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gap", [0.0, 0.02])
def test_large_path_on_many_columns(monkeypatch, seed, gap):
    data = many_columns(seed, count=40, tasks=2)
    whole = solve_fleet(data, gap=0.0, threads=1)
    monkeypatch.setattr(fleet_module, "_SMALL", 0)
    monkeypatch.setattr(fleet_module, "_RESTRICTED", (4, 6))
    parts = solve_fleet(data, gap=gap, threads=1)
    assert whole.status == parts.status == "optimal"
    assert parts.bound <= whole.objective * (1 + 1e-9)
    assert whole.objective * (1 - 1e-9) <= parts.objective <= whole.objective * (1 + gap + 1e-6)
    assert parts.gap <= max(gap, 1e-6)


@pytest.mark.parametrize(("seed", "kind"), [(38, "memory tiers"), (66, "minima")])
def test_a_leaf_that_its_share_of_the_time_leaves_open_is_asked_again(seed, kind, monkeypatch):
    """A search of 30 s ended after 8 s with a gap of 6 %: each of its leaves had been tried for a tenth of the time."""
    monkeypatch.setattr(fleet_module, "_SMALL", 0)
    monkeypatch.setattr(fleet_module, "_RESTRICTED", (2, 3))
    monkeypatch.setattr(fleet_module, "_SURVIVORS", 6)
    asked = []

    def milp(self, columns, stage, share=1.0, **options):
        if stage == "leaf":
            asked.append(share)
            if share == fleet_module._LEAF_SHARE:
                return Outcome("no_solution", np.inf, -np.inf, 0, {}, {})
        return whole(self, columns, stage, share, **options)

    whole = Search.milp
    monkeypatch.setattr(Search, "milp", milp)
    data = random_fleet(seed, kind, (5, 9))
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert len(set(asked)) == 2
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(second_optimum(data).objective, rel=1e-6)


def test_a_leaf_that_waits_keeps_the_columns_of_its_tree():
    """Columns are dropped while it waits; what was known of each of them goes with them."""
    data = many_columns(2, count=40, tasks=2)
    root = relax(data, time.monotonic() + 30)
    tree = Tree(data, root, root.columns, root.reduced_cost)
    while tree.leaf is None:
        assert tree.step(np.inf, time.monotonic() + 30, lambda: False) is not None
    tree.settle(-np.inf)
    kept = np.arange(data.columns) % 2 == 0
    tree.narrow(kept, [], root.duals, root.reduced_cost)
    leaf = tree.reopen(np.inf)
    assert len(leaf.relaxation.reduced_cost) == tree.data.columns == np.count_nonzero(kept)
    tree.settle(-np.inf, final=True)
    assert tree.reopen(np.inf) is None  # nothing more is to be learnt of it
    assert tree.bound <= leaf.bound


def test_the_gap_counts_columns_outside_the_restricted_milp(monkeypatch):
    """Two tasks, each 1.1 replicas of its own column; a third column serves both with whole servers to spare.

    The relaxation likes the two special columns (0.9 $ each per whole replica), so a MILP restricted to them
    is solved to a gap of 0 at 4 servers, while the third does with 3: the plan must not be called optimal.
    """
    columns = block(
        [0, 1],
        [[[1.0, 0.0]], [[0.0, 1.0]], [[1.05, 1.05]]],
        [[1.0], [1.0], [1.0]],
        group=[0, 1, 2],
        open_=np.array([[True, False], [False, True], [True, True]]),
    )
    data = fleet([1.1, 1.1], [colocated(0), colocated(1)], [columns])
    restricted = data.keep(np.array([True, True, False]))
    alone = solve_fleet(restricted, gap=0.0, threads=1)
    assert (alone.objective, alone.gap) == (pytest.approx(4.0), pytest.approx(0.0))
    assert solve_fleet(data, gap=0.0, threads=1).objective == pytest.approx(3.0)
    # The large path, stopped after its restricted MILPs of the columns that the relaxation likes.
    monkeypatch.setattr(fleet_module, "_SMALL", 0)
    monkeypatch.setattr(fleet_module, "_RESTRICTED", (2,))
    monkeypatch.setattr(fleet_module, "_promising", lambda data, relaxation, size: np.array([0, 1]))
    monkeypatch.setattr(fleet_module, "_branch_and_prove", lambda spared, root, search, near: False)
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert plan.objective == pytest.approx(4.0)
    assert plan.status == "feasible"
    assert plan.bound <= 3.0 * (1 + 1e-9)
    assert plan.gap > 0.01


def test_dear_alternatives_do_not_look_infeasible():
    """One cheap server of stock, the rest at ten thousand times the price: dear is not impossible."""
    columns = block([0], [[[1.0]], [[1.0]]], [[1.0], [1.0]], packing=[0, 1], group=[0, 1])
    hardware = (server("cheap"), server("dear"))
    offers = (Offer("cheap", 0, 1.0, 0.0, 0), Offer("dear", 1, 1e4, 0.0, 0))
    data = fleet([3.0], [colocated(0)], [columns], hardware=hardware, offers=offers)
    from codesign.candidates.data import SideLimit

    stocked = dataclasses.replace(data, limits=(SideLimit("stock", "", 1.0, {0: 1.0}),))
    plan = solve_fleet(stocked, gap=0.0, threads=1)
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(1.0 + 2e4)


def test_no_columns_at_all_serve_no_task():
    data = fleet([1.0], [colocated(0)], [block([0], [[[1.0]]], [[1.0]])])
    assert solve_fleet(dataclasses.replace(data, blocks=()), gap=0.0, threads=1).status == "infeasible"


def test_the_clock_proves_nothing(monkeypatch):
    """A search that is stopped at once calls no plan optimal and no problem infeasible without proof."""
    data = many_columns(2)
    optimum = solve_fleet(data, gap=0.0, threads=1).objective
    monkeypatch.setattr(fleet_module, "_SMALL", 0)
    for limit in (0.0, 0.05, 0.2):
        plan = solve_fleet(data, gap=0.0, time_limit=limit, threads=1)
        assert plan.status in ("optimal", "feasible", "no_solution")
        assert plan.bound <= optimum * (1 + 1e-9)
