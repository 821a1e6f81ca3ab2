"""Tiny problems whose right answer is found by trying every operating point with the accounts of the checker.

One kind of card at one price and one model of one precision: a plan is a number of replicas of each role and a chunk
size.  Those are tried one by one, by other code than the planner's, so that its plan, the best that was tried and its
bound have to stand in that order, and within what a few replicas' rounding leaves.
"""

from __future__ import annotations

import time

import pytest

from codesign.candidates.build import build_candidates
from codesign.candidates.grids import Grids
from codesign.check.plan import read_plan
from codesign.check.promises import check_slos
from codesign.check.report import Findings
from codesign.check.resources import check_pools
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import solve
from codesign.problem import Problem, resolve

CHUNKS = Grids().chunks
ABOUT = " as reported"
"""What a plan says of itself is not asked."""


def task(name, rate, context, output, ttft, tpot):
    slo = {"ttft": {"p95": ttft}, "tpot": {"p95": tpot}}
    return {"name": name, "rate": rate, "models": ["m"], "context": context, "output": output, "slo": slo}


def problem(tasks, disaggregation, part="l40s"):
    return Problem.from_dict(
        {
            "models": {"m": {"card": "Llama-3.1-8B", "weights": ["fp8"], "kv": ["fp8"]}},
            "tasks": tasks,
            "hardware": {
                "h": {
                    "accelerator": part, "server": {"accelerators": 1},
                    "offers": {"rent": {"rent": "1 $/h", "includes_power": True}},
                }
            },
            "options": {
                "max_replica_accelerators": 1, "disaggregation": disaggregation, "gap": 0, "threads": 1,
                "time_limit": "20 s",
            },
        }
    )  # fmt: skip


def chat(rate):
    return task("chat", rate, {"p50": 1500, "p90": 4000}, {"mean": 250}, "2 s", "60 ms")


def reports(rate):
    return task("reports", rate, {"p50": 8000, "p90": 20000}, {"mean": 800}, "20 s", "100 ms")


PROMPTS = task("prompts", "200/s", 1024, 1, "500 ms", "1 s")
EDGES_KNOWN = 5e-3
"""To how much the planner and the checker know an edge alike."""


def holds(instance, solution, counts, chunk, nearly):
    """Do the accounts of the checker keep every promise and limit with so many replicas, by role?  Or nearly?"""
    fleet = tuple(
        pool.model_copy(
            update={
                "replicas": counts[pool.role],
                "replicas_by_rows": counts[pool.role] + 1,  # by its accounts, not by its operating point
                "accelerators": counts[pool.role],
                "prefill_chunk": chunk if pool.role == "colocated" else None,
            }
        )
        for pool in solution.fleet
    )
    findings = Findings()
    plan = read_plan(instance, solution.model_copy(update={"fleet": fleet}), findings)
    check_slos(plan, check_pools(plan, findings), findings)
    broken = [item for item in findings.report().violations if ABOUT not in item.what]
    numbers = [(item.found, item.limit) for item in broken]
    return all(nearly and isinstance(most, float) and found <= most * (1 + EDGES_KNOWN) for found, most in numbers)


def shared(solution):
    """The solution with all calls in its first pool: brute force is over one that all tasks share."""
    first = solution.fleet[0]
    own = {"prefill_pool": first.pool, "decode_pool": first.pool}
    routing = tuple(way.model_copy(update=own) for way in solution.routing)
    return solution.model_copy(update={"fleet": (first,), "routing": routing})


def judged(solution, keeps):
    """Bound, the least number of replicas that keeps by any way of using them, and plan, in this order and near.

    A plan may stand where the checker's accounts hold nearly, a bound no higher than where they hold.
    """
    assert solution.status in ("optimal", "feasible")
    planned = round(solution.objective.value)
    nearly, well = planned, planned
    assert keeps(planned, True)
    while keeps(nearly - 1, True):
        nearly -= 1
    while well > nearly and keeps(well - 1, False):
        well -= 1
    while not keeps(well, False):
        well += 1
    assert solution.objective.bound * (1 - 1e-9) <= well
    assert planned - max(1, 0.05 * planned) <= nearly <= planned
    assert solution.objective.bound >= well - max(1, 0.05 * well)


@pytest.mark.parametrize(
    "tasks",
    [[chat("60/s")], [PROMPTS], [chat("30/s"), reports("1/s")]],
    ids=["chat", "first token", "two"],
)
def test_colocated_plans_are_the_fewest_replicas_over_all_chunk_sizes(tasks):
    asked = problem(tasks, "never")
    instance, plan = resolve(asked), shared(solve(asked))
    # The plan's own size of chunks first: mostly it is the best.
    sizes = sorted(CHUNKS, key=lambda chunk: chunk != plan.fleet[0].prefill_chunk)

    def keeps(count, nearly):
        return any(holds(instance, plan, {"colocated": count}, chunk, nearly) for chunk in sizes)

    judged(plan, keeps)


@pytest.mark.parametrize("tasks", [[chat("60/s")], [reports("4/s")]], ids=["chat", "long"])
def test_plans_apart_are_the_fewest_replicas_over_both_roles(tasks):
    asked = problem(tasks, "always")
    instance, plan = resolve(asked), solve(asked)
    counts = {pool.role: pool.replicas for pool in plan.fleet}
    assert sorted(counts) == sorted(pool.role for pool in plan.fleet) == ["decode", "prefill"]

    def keeps(count, nearly):
        splits = sorted(range(1, count), key=lambda n: abs(n - counts["prefill"]))
        return any(holds(instance, plan, {"prefill": n, "decode": count - n}, None, nearly) for n in splits)

    judged(plan, keeps)


# ---- more operating points -----------------------------------------------------------------------------------------


def bound(options, grids=None, disaggregation="decide"):
    """The bound of chats on one kind of server over all operating points that options and grids allow."""
    asked = problem([chat("60/s"), reports("1/s")], disaggregation, part="h100-sxm").replace(
        {"hardware.h.server.accelerators": 4, "options.max_replica_accelerators": 2} | options
    )
    data = build_candidates(resolve(asked), grids=grids).data
    found = relax(strengthened(data.bounding), time.monotonic() + 60)
    assert found.converged
    return found.bound


@pytest.mark.parametrize(
    ("fewer", "more"),
    [
        ({"options.max_replica_accelerators": 1}, {"options.max_replica_accelerators": 4}),
        ({"options.max_utilization": 0.5}, {"options.max_utilization": 0.97}),
        ({"options.max_sequences": 16}, {"options.max_sequences": 1024}),
        ({"options.memory_fraction": 0.8}, {"options.memory_fraction": 0.95}),
    ],
)
def test_more_of_an_option_never_raises_the_bound(fewer, more):
    assert bound(more) <= bound(fewer) * (1 + 1e-9)


def test_more_roles_and_sizes_of_chunks_never_raise_the_bound():
    few, some = (Grids(chunks=sizes) for sizes in (CHUNKS[1:2], CHUNKS[1:3]))
    bounds = [bound({}, grids, "never") for grids in (few, some, Grids())]
    assert bounds[1] <= bounds[0] * (1 + 1e-9)
    assert bounds[2] <= bounds[1] * (1 + 1e-9)
    assert bound({}) <= bounds[2] * (1 + 1e-9)


def test_finer_pools_raise_the_bound_and_leave_it_below_plans():
    """A column of the bound stands for all numbers of replicas up to the next: of more, each gives less."""
    pools = Grids().pools
    coarse, fine = (bound({}, grids, "always") for grids in (Grids(pools=pools[::4]), Grids()))
    assert coarse <= fine * (1 + 1e-9)
