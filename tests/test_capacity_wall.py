"""The memory capacity wall on a real part and a real agent preset: memory full, FLOPs and bandwidth idle.

Coding agents on H200s whose KV stays in HBM between calls, and nowhere else. Kept for an hour, sessions that wait fill
the memory of every pool; kept for the preset's five minutes the plan as a whole still idles, though its decode pool
has an MBU above 30 %. On a part with twice the memory (MI355X) the wall is gone at five minutes: one more GB is worth
nothing there, and one more GB/s something.
"""

import time
from dataclasses import replace

import numpy as np
import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.check.plan import read_plan
from codesign.check.report import Findings
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import solve
from codesign.problem import Problem, resolve
from codesign.solution.build import build_solution
from codesign.workload.intensity import Formats, prefill_work

IDLE = 0.30


def problem(part="h200-sxm", ttl="1 h"):
    return Problem.from_dict(
        {
            "name": "wall",
            "models": {"coder": {"card": "Qwen3-Coder-480B-A35B", "weights": ["fp8"], "kv": ["fp8"]}},
            "tasks": [
                {
                    "name": "coding",
                    "preset": "coding",
                    "rate": "0.5/s",
                    "prefix": {"ttl": ttl},
                    "models": ["coder"],
                    "on_overlong": "truncate",
                    "slo": {"ttft": {"p95": "4 s"}, "tpot": {"p95": "40 ms"}},
                }
            ],
            "hardware": {"gpu": {"accelerator": part}},
            "options": {"max_replica_accelerators": 8, "gap": "3%"},
        }
    )


def least(asked):
    """$/h of the relaxation over every configuration."""
    found = relax(strengthened(build_candidates(resolve(asked)).data), time.monotonic() + 60)
    assert found.converged
    return found.bound


def saved(asked, field, unit, share=0.01):
    """Of 1 % more of a memory's field: (share of the cost saved over share added, and the amount added to a part)."""
    amount = getattr(resolve(asked).hardware[0].accelerator, field) / 1e9
    better = least(asked.replace({f"hardware.gpu.{field}": f"{amount * (1 + share)} {unit}"}))
    return (1 - better / least(asked)) / share, amount * share


def shares(asked, solution):
    """By pool: (accelerators, MFU, MBU). A prefill pool reads its weights once a prompt, and its prompts' KV."""
    plan = read_plan(resolve(asked), solution, Findings())
    found = {}
    for name, pool in plan.modelled.items():
        use, precision = pool.entry.utilization, pool.entry.precision
        moved = use.bandwidth
        if pool.entry.role == "prefill":
            formats = Formats(precision.weights, precision.activations, precision.kv)
            bytes_per_s = 0.0
            for route in plan.routes_of(pool):
                prompts = route.calls.prompts()
                work = prefill_work(pool.model.card, 1, prompts.new, prompts.cached, formats)
                bytes_per_s += route.calls.rate * prompts.mean(work.bytes)
            moved = bytes_per_s / (pool.option.accelerator.memory_bandwidth * pool.entry.accelerators)
        found[name] = (pool.entry.accelerators, use.compute, moved)
    return found


def mean(found, place):
    return sum(pool[0] * pool[place] for pool in found.values()) / sum(pool[0] for pool in found.values())


@pytest.fixture(scope="module")
def wall():
    asked = problem()
    solution = solve(asked)
    assert [violation.what for violation in check(asked, solution).violations] == []
    return asked, solution


def test_where_capacity_binds_flops_and_bandwidth_idle_in_every_pool(wall):
    asked, solution = wall
    assert {pool.binding for pool in solution.fleet} == {"capacity"}
    found = shares(asked, solution)
    assert all(mfu < IDLE and mbu < IDLE for _, mfu, mbu in found.values())
    assert mean(found, 1) < IDLE / 4
    assert mean(found, 2) < IDLE * 2 / 3


def test_one_more_gb_is_worth_more_than_one_more_gb_per_s(wall):
    """In $ per unit and in shares: 1 % more GB saves 1 % of the cost or more, 1 % more GB/s a tenth of that or less."""
    asked, _ = wall
    memory, gigabytes = saved(asked, "memory_capacity", "GB")
    bandwidth, rate = saved(asked, "memory_bandwidth", "GB/s")
    assert memory > 1.0
    assert 0 <= bandwidth < memory / 10
    assert memory / gigabytes > 100 * bandwidth / rate


def test_a_plan_without_capacity_rows_is_cheaper_and_fails_the_check(wall):
    asked, solution = wall
    candidates = build_candidates(resolve(asked))
    blocks = []
    for block in candidates.data.blocks:
        rows = np.array([name.startswith("capacity") for name in block.row_names])
        blocks.append(replace(block, limit=np.where(rows[None, :], 1e6 * block.limit, block.limit)))
    blind = replace(candidates, data=replace(candidates.data, blocks=tuple(blocks)))
    plan = build_solution(blind, solve_fleet(blind.data, gap=0.05, time_limit=20.0), asked.name, "", {})
    assert plan.totals.cost_per_hour < 0.6 * solution.totals.cost_per_hour
    assert any("memory" in violation.what for violation in check(asked, plan).violations)


def test_at_five_minutes_the_plan_idles_but_not_each_pool():
    asked = problem(ttl="5 min")
    solution = solve(asked)
    assert [violation.what for violation in check(asked, solution).violations] == []
    found = shares(asked, solution)
    assert mean(found, 1) < IDLE
    assert mean(found, 2) < IDLE
    full = [pool.pool for pool in solution.fleet if pool.binding == "capacity"]
    assert {pool.role for pool in solution.fleet if pool.pool in full} >= {"decode"}
    assert max(found[name][2] for name in full) > IDLE
    assert saved(asked, "memory_capacity", "GB")[0] > 4 * saved(asked, "memory_bandwidth", "GB/s")[0]


def test_twice_the_memory_takes_the_wall_away():
    asked = problem("mi355x", "5 min")
    (memory, _), (bandwidth, _) = (saved(asked, "memory_capacity", "GB"), saved(asked, "memory_bandwidth", "GB/s"))
    assert memory == pytest.approx(0.0, abs=1e-3)
    assert bandwidth > 0.3
    kept_long = problem("mi355x", "1 h")
    assert saved(kept_long, "memory_capacity", "GB")[0] > saved(kept_long, "memory_bandwidth", "GB/s")[0]
