"""Columns of bounds hold every load that keeps its promises; what is proven over them holds for every plan."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fleets import block, colocated, fleet

from codesign.candidates.build import build_candidates, slices_of
from codesign.candidates.context import MomentBook
from codesign.candidates.edges import Edges, FlowCalls, Look
from codesign.candidates.grids import Grids
from codesign.candidates.outer import MemoryMixes, bulge, memory_rows, supports
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.performance.colocated import Calls, Stream
from codesign.planner import solve
from codesign.problem import Problem, load_problem, resolve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from refute_bounds import refute, refute_plans  # noqa: E402

AGENTS = {
    "name": "agents",
    "models": {"small": {"card": "gpt-oss-20b"}},
    "tasks": [
        {
            "name": "chat", "preset": "chat", "rate": "24/s", "models": ["small"],
            "slo": {"ttft": {"p95": "800 ms"}, "tpot": {"p95": "40 ms"}},
        },
        {
            "name": "reports", "rate": "0.1/s", "models": ["small"], "context": {"p50": 20000, "p90": 60000},
            "output": {"mean": 1500}, "on_overlong": "truncate",
            "slo": {"ttft": {"p95": "30 s"}, "tpot": {"p95": "100 ms"}},
        },
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}},
    "options": {"gap": 0, "threads": 1, "max_replica_accelerators": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def agents():
    return build_candidates(resolve(Problem.from_dict(AGENTS)))


def test_random_loads_do_not_refute_the_bound(agents):
    found = refute(agents, 150, seed=3)
    assert {role for role, tally in found.items() if tally.loads} == {"prefill", "decode", "colocated"}
    assert not [tally.refuted for tally in found.values() if tally.refuted]


def test_random_plans_do_not_refute_the_bound(agents):
    found = refute_plans(agents, 5, seed=4)
    assert (found.plans, found.refuted) == (5, "")
    assert 0.0 < found.bound <= found.cheapest
    assert found.most > 0.8


def test_random_plans_refute_columns_that_hold_less(agents):
    narrow = tuple(replace(block, limit=0.7 * block.limit) for block in agents.data.outer)
    assert refute_plans(replace(agents, data=replace(agents.data, outer=narrow)), 5, seed=4).refuted


IDLE = {
    "models": {"m": {"card": "gpt-oss-120b", "kv": ["fp8"]}},
    "tasks": [
        {
            "name": "web", "preset": "web-use", "rate": "16/s", "append": {"p50": "1K", "p90": "8K"},
            "variants": [{"name": "v", "model": "m", "max_context": "128K"}], "on_overlong": "truncate",
            "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {"h200": {"accelerator": "h200-sxm"}},
    "options": {"disaggregation": "always", "max_replica_accelerators": 4},
}  # fmt: skip
"""Its prompts are so unlike that queues are idle most of the time."""


def test_long_prompts_beside_short_ones_carry_more_where_queues_are_idle():
    """Short ones make the tail of waits shorter: 1.4 % more long prompts are held than without them."""
    found = refute(build_candidates(resolve(Problem.from_dict(IDLE))), 300, seed=3)
    assert found["prefill"].loads > 50
    assert not found["prefill"].refuted


def test_two_promises_meet_beyond_the_line_between_their_ends():
    """Each of two flows takes half as much of the other's promise as of its own: 2/3 of each fit beside one another."""
    look = SimpleNamespace(like=[0, 1, 2])
    calls = [SimpleNamespace(task=task) for task in ("a", "b", "b")]
    own = {"tpot": np.array([[[1.0, 2.0, 1.0], [2.0, 1.0, 9.0], [9.0, 9.0, np.inf]]])}
    edges = SimpleNamespace(look=look, calls=calls, kinds=("tpot",), promises=own, _count=1)
    edges._own = lambda promises, kind: promises[kind][:, [0, 1, 2], [0, 1, 2]]
    assert Edges.corners(edges).tolist() == [[pytest.approx(4 / 3)]]
    own["tpot"][0, 0, 1] = 1.0  # the first promise is stricter than the second's own: it alone counts
    assert Edges.corners(edges).tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["azure-chat", "hypotheses/T3", "hypotheses/T4", "hypotheses/T5"])
def test_the_bound_lies_below_what_plans_are_made_of_and_near_it(name):
    data = build_candidates(resolve(load_problem(ROOT / "problems" / f"{name}.yaml"))).data
    inner, outer = (relax(strengthened(each), time.monotonic() + 60) for each in (data, data.bounding))
    assert outer.converged
    assert 0.97 * inner.value <= outer.bound <= inner.value * (1 + 1e-9)


def test_most_agents_in_one_pool_of_many_replicas_cost_what_fewer_do():
    """Six replicas that pool a queue: grids of four and eight called 31.2 $/h optimal, and 20.8 impossible."""
    solution = solve(load_problem(ROOT / "problems" / "hypotheses" / "T3.yaml"))
    assert (solution.status, solution.objective.value) == ("optimal", pytest.approx(20.8))
    assert solution.objective.bound == pytest.approx(20.8)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.7, 0.85, 1.0])
def test_sessions_beside_calls_that_bring_their_history_take_what_they_hold(agents, kept):
    """One call in so many is of a session that is kept: columns of plans carry nearly what the accounts hold."""
    (part,) = slices_of(agents.instance, Grids(), agents.book, agents.configurations, True)[:1]
    chats = [f for f in part.book.flows if f.phase == "colocated" and agents.instance.tasks[f.task].name == "chat"]
    flows = [next(f for f in chats if f.residency == residency) for residency in ("drop", "colocated")]
    look = Look.at(part, [FlowCalls.of(part, MomentBook(part), flow) for flow in flows], [16384.0])
    edges, shares = Edges(look), np.array([1.0 - kept, kept])
    use, open_ = edges.rows((0, 1), part.room)
    assert open_.all()
    assert edges.mixed_names.count("capacity") == 3
    most = 1.0 / np.max(use @ shares, axis=1)
    true = edges.mix(shares, part.room)
    assert np.all(most <= true)
    assert np.all(most >= 0.96 * true)


def test_a_promise_that_only_the_fullest_load_breaks_is_not_kept_there(agents):
    (part,) = slices_of(agents.instance, Grids(), agents.book, agents.configurations, True)[:1]
    flow = next(f for f in part.book.flows if f.phase == "colocated")
    loads = Look.at(part, [FlowCalls.of(part, MomentBook(part), flow)], [16384.0]).alone
    fullest = loads.steps.batch[:, loads.full, None]
    seen, likely = loads.edges(lambda pool: np.where(pool.batch < 0.99 * fullest, 0.01, 0.2), np.array([0.05]))
    assert np.all(seen < loads.full)
    assert np.all(likely < loads.full)


def test_prompts_of_few_kinds_keep_them_beside_those_of_many():
    def stream(points):
        one = np.ones((1, points))
        chunks = np.linspace(0.1, 3.0, points)[None]
        rest, parts, answer = np.zeros((1, points, 2)), np.zeros((1, 2, 2)), one[:, :1]
        return Stream(one / points, chunks, rest, parts, 0.0 * one, answer, answer, answer, 0.0 * answer)

    coarse = Calls.of([stream(3), stream(60)]).coarse()
    counted = coarse.weight[0, 0] > 0
    assert coarse.chunks[0, 0, counted].tolist() == pytest.approx([0.1, 1.55, 3.0])
    assert coarse.weight.sum(axis=2) == pytest.approx(np.ones((1, 2)))


# ---- lines below curves --------------------------------------------------------------------------------------------


def test_lines_touch_a_curve_that_bends_upwards_at_each_point():
    theta = np.array([[0.0, 0.4, 0.8, 1.0]])
    height = 1.0 + theta**2
    for i, (start, slope) in enumerate(supports(theta, height)):
        line = start[:, None] + slope[:, None] * np.linspace(0.0, 1.0, 101)
        assert np.all(line <= 1.0 + np.linspace(0.0, 1.0, 101) ** 2 + 0.005)
        assert start[0] + slope[0] * theta[0, i] == pytest.approx(height[0, i], rel=0.02)


def test_lines_stay_below_points_that_bend_downwards_and_above_nothing():
    theta = np.array([[0.0, 0.3, 0.7, 1.0], [0.0, 0.1, 0.2, 1.0]])
    height = np.array([[1.0, 1.6, 1.9, 2.0], [5.0, 0.2, 0.1, 0.1]])
    for start, slope in supports(theta, height):
        line = start[:, None] + slope[:, None] * theta
        assert np.all(line <= height + 1e-12)
        assert np.all(line >= -1e-12)


def test_what_mixes_carry_more_is_doubled_and_what_they_carry_less_is_none():
    assert bulge(np.array([0.8, 1.0, 1.1])).tolist() == pytest.approx([1.0, 1.0, 1.2])


def test_lines_of_memory_say_nothing_of_calls_of_another_variant():
    """What calls of the small model hold in mixes with kept sessions is no figure of the large one's."""

    def flow(variant, residency):
        calls = SimpleNamespace(task=SimpleNamespace(name="chat"), variant=SimpleNamespace(name=variant))
        return SimpleNamespace(calls=calls, residency=residency)

    flows = [flow("small", "drop"), flow("small", "decode"), flow("large", "drop"), flow("large", "decode")]
    alone, least = np.array([[0.10, 0.50, 0.30, 0.90]]), np.array([[0.01, 0.40, 0.02, 0.05]])
    seen = MemoryMixes((0, 1), np.array([[0.0, 0.5, 1.0]]), np.array([[0.10, 0.30, 0.50]]), 1.0)
    rows = memory_rows(
        alone, least, flows, ["cold", "warm", "cold of large", "warm of large"], "decode", np.ones(1), {"chat": seen},
        np.array([0.0, 1.0, 0.0, 1.0]),
    )  # fmt: skip
    mixed = rows.use[0, [n for n, name in enumerate(rows.names) if "mixed" in name]]
    assert mixed[:, :2] == pytest.approx(np.tile([0.10, 0.50], (len(mixed), 1)))
    assert len(mixed) == 2
    assert mixed[:, 2:] == pytest.approx(np.tile(least[0, 2:], (len(mixed), 1)))


# ---- what the optimiser makes of them ------------------------------------------------------------------------------


def bounded(wider):
    """A task of 10 calls/s on columns of 3 a replica, whose bound is over columns of so many times that."""
    columns = block([0], [[[1.0]]], [[3.0]])
    data = fleet([10.0], [colocated(0)], [columns])
    return replace(data, outer=(replace(columns, limit=columns.limit * wider),))


@pytest.mark.parametrize(
    ("wider", "status", "bound"), [(1.0, "optimal", 4.0), (1.1, "optimal", 4.0), (1.7, "feasible", 2.0)]
)
def test_a_plan_is_optimal_where_no_operating_point_makes_a_cheaper_one(wider, status, bound):
    plan = solve_fleet(bounded(wider), gap=0.0, threads=1)
    assert (plan.status, plan.objective) == (status, pytest.approx(4.0))
    assert plan.bound == pytest.approx(bound)


@pytest.mark.parametrize(("wider", "status"), [(1.0, "infeasible"), (1.7, "no_solution")])
def test_infeasible_is_said_of_all_operating_points(wider, status):
    """Three servers are in stock, and four are needed by the columns that plans are made of."""
    data = bounded(wider)
    offers = tuple(replace(offer, usd_per_hour=offer.usd_per_hour) for offer in data.offers)
    from codesign.candidates.data import SideLimit

    stock = SideLimit("stock", "servers", 3.0, per_server={0: 1.0})
    assert solve_fleet(replace(data, offers=offers, limits=(stock,)), gap=0.0, threads=1).status == status
