"""The independent witness: right plans pass, altered ones fail, and its own physics by hand."""

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from codesign.check import check
from codesign.check.operation import fixed_point, operate
from codesign.check.packing import servers_needed
from codesign.check.plan import read_plan
from codesign.check.promises import quantile
from codesign.check.report import Findings
from codesign.performance import (
    EngineMemory,
    decode_attention_seconds,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
)
from codesign.planner import solve
from codesign.problem import Problem, resolve
from codesign.solution import Solution


def rewritten(solution, *path_and_value):
    """The solution with the value at a path of keys and positions replaced (a function is applied to it)."""
    *path, last, value = path_and_value
    data = solution.model_dump(mode="json", by_alias=True)
    here = data
    for key in path:
        here = here[key]
    here[last] = value(here[last]) if callable(value) else value
    return Solution.model_validate(data)


def complaints(problem, solution, **options):
    return [violation.what for violation in check(problem, solution, **options).violations]


def shell(**content):
    """A solution with its record, and whatever content a test gives it."""
    fields = {
        "status": "optimal",
        "objective": {"name": "cost_per_hour", "value": None, "unit": "$/h", "bound": None, "gap": None},
        "solve": {
            "seconds": {}, "columns_total": 0, "columns_undominated": 0, "columns_considered": 0, "nodes": 0,
            "rounds": 0, "stopped_by": None, "solver": "none", "versions": {},
        },
        "provenance": {
            "problem": "hand", "problem_sha256": "", "price_list": [], "price_date": "", "command": "",
            "seed": 0,
        },
    }  # fmt: skip
    return Solution.model_validate(fields | content)


# ---- measured pools, by hand -------------------------------------------------------------------------------

MEASURED = {
    "name": "hand",
    "tasks": [{"name": "short", "rate": "9/s"}, {"name": "long", "rate": "3/s"}],
    "measured_pools": [
        {
            "name": "a100",
            "accelerator": "A100-80GB",
            "accelerators_per_replica": 2,
            "cost": "4 $/h",
            "power": "400 W",
            "max_rate": {"short": "20/s", "long": "5/s"},
        },
        {"name": "a10", "accelerator": "A10", "cost": "1 $/h", "max_rate": {"short": "4/s"}},
    ],
    "limits": {"inventory": {"A100-80GB": 4}, "budget": {"cost_per_hour": "6 $/h"}, "max_designs": 2},
    "site": {"power": "1 kW", "pue": 1.25},
}


def measured_pool(name, accelerator, replicas, size, cost, power, busy):
    return {
        "pool": name, "group": f"{name}/serve", "period": "all", "role": "serve", "hardware": name,
        "accelerator": accelerator, "model": None, "precision": None, "parallelism": None, "batch": None,
        "prefill_chunk": None, "step_limit_s": None, "step_time_s": None, "replicas": replicas,
        "accelerators": replicas * size, "cost_per_hour": cost, "power_w": power,
        "utilization": {"busy": busy}, "binding": "measured rate", "calibration": "measured",
        "expected_error": None,
    }  # fmt: skip


def measured_route(task, pool, rate):
    return {
        "period": "all", "task": task, "variant": None, "kv_policy": None, "prefill_pool": pool,
        "decode_pool": pool, "calls_per_s": rate,
    }  # fmt: skip


def measured_task(name, cost, energy):
    return {
        "name": name, "cost_per_task": cost, "marginal_cost_per_task": None, "energy_per_task_j": energy,
        "usd_per_million_tokens": None, "open_tasks": None, "resident_kv_bytes": None, "headroom": None,
        "slo": [],
    }  # fmt: skip


def bought(item, count, size, usd):
    return {
        "item": item, "kind": "measured", "count": count, "accelerators": count * size, "capital_usd": 0.0,
        "usd_per_hour": count * usd, "price_source": "problem file", "price_date": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def measured_problem():
    return Problem.from_dict(MEASURED)


@pytest.fixture(scope="module")
def measured_plan():
    """One a100 (8 short and 3 long: 8/20 + 3/5 = 1) and one a10 (1 short of 4): 5 $/h for 12 tasks/s."""
    return shell(
        objective={"name": "cost_per_hour", "value": 5.0, "unit": "$/h", "bound": 5.0, "gap": 0.0},
        totals={
            "cost_per_hour": 5.0, "cost_per_task": 5.0 / 12 / 3600, "energy_per_task_j": 500.0 / 12,
            "power_w": 500.0, "peak_power_w": 500.0, "accelerators": {"A100-80GB": 2, "A10": 1},
            "servers": {"a100": 1, "a10": 1},
        },
        purchase=[bought("a100", 1, 2, 4.0), bought("a10", 1, 1, 1.0)],
        fleet=[
            measured_pool("a100", "A100-80GB", 1, 2, 4.0, 400.0, 1.0),
            measured_pool("a10", "A10", 1, 1, 1.0, 0.0, 0.25),
        ],
        routing=[
            measured_route("short", "a100", 8.0),
            measured_route("short", "a10", 1.0),
            measured_route("long", "a100", 3.0),
        ],
        tasks=[
            measured_task("short", (4.0 * 0.4 + 1.0) / 9 / 3600, 500.0 * 0.4 / 9),
            measured_task("long", 4.0 * 0.6 / 3 / 3600, 500.0 * 0.6 / 3),
        ],
    )  # fmt: skip


def test_a_right_measured_plan_passes(measured_problem, measured_plan):
    report = check(measured_problem, measured_plan)
    assert report.ok, report.violations
    assert report.violations == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("fleet", 0, "replicas", 0), "replicas and spares"),
        (("fleet", 0, "accelerators", 1), "accelerators"),
        (("fleet", 0, "power_w", 300.0), "mean IT power"),
        (("fleet", 0, "hardware", "h100"), "measured pool"),
        (("fleet", 1, "pool", "a100"), "unique"),
        (("routing", 0, "calls_per_s", 8.001), "Σ rate/max_rate"),
        (("routing", 0, "calls_per_s", 7.9), "tasks served per second"),
        (("routing", 1, "calls_per_s", 1.1), "tasks served per second"),
        (("routing", 1, "calls_per_s", -1.0), "calls per second"),
        (("routing", 1, "calls_per_s", math.inf), "calls per second"),
        (("routing", 2, "prefill_pool", "a10"), "decode pool"),
        (("routing", 1, "task", "other"), "task"),
        (("routing", 1, "period", "night"), "period"),
        (("purchase", 0, "count", 0), "replicas and spares bought"),
        (("purchase", 0, "count", -1), "count"),
        (("purchase", 0, "usd_per_hour", 3.9), "$/h at the offer's price"),
        (("purchase", 0, "item", "h100/spot"), "an offer, measured pool, memory or link"),
        (("totals", "cost_per_hour", 4.9), "totals.cost_per_hour"),
        (("totals", "cost_per_task", 1e-4), "totals.cost_per_task"),
        (("totals", "energy_per_task_j", 40.0), "totals.energy_per_task_j"),
        (("totals", "power_w", 499.0), "totals.power_w"),
        (("totals", "peak_power_w", 400.0), "totals.peak_power_w"),
        (("totals", "servers", {"a100": 1}), "totals.servers"),
        (("totals", None), "totals"),
        (("tasks", 0, "cost_per_task", 1e-5), "sum over tasks"),
        (("tasks", 0, "energy_per_task_j", 1.0), "sum over tasks"),
        (("tasks", 0, "name", "long"), "tasks of the solution"),
        (("fleet", 0, "cost_per_hour", 3.0), "sum of the pools"),
        (("objective", "value", 4.9), "objective.value"),
        (("objective", "value", None), "objective.value"),
        (("objective", "value", math.nan), "objective.value"),
        (("objective", "bound", 5.1), "bound ≤ value"),
        (("objective", "bound", 4.5), "objective.gap"),
        (("objective", "bound", None), "status optimal: bound"),
        (("objective", "name", "power"), "objective.name"),
        (("objective", "unit", "W"), "objective.unit"),
    ],
)
def test_an_altered_measured_plan_fails(measured_problem, measured_plan, change, complaint):
    found = complaints(measured_problem, rewritten(measured_plan, *change))
    assert any(complaint in what for what in found), found


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks.long.rate": "3.1/s"}, "task long"),
        ({"limits.inventory": {"A100-80GB": 1}}, "limits.inventory.A100-80GB"),
        ({"limits.budget.cost_per_hour": "4.9 $/h"}, "limits.budget.cost_per_hour"),
        ({"limits.max_designs": 1}, "limits.max_designs"),
        ({"limits.vendors": 1}, "limits.vendors"),
        ({"site.power": "0.4 kW"}, "site.power"),
        ({"redundancy.survive": "one-server"}, "survive the loss"),
        ({"options.split_tasks": False}, "split_tasks"),
        ({"objective": "power"}, "objective.name"),
    ],
)
def test_a_plan_fails_a_problem_that_asks_for_more(measured_problem, measured_plan, changes, complaint):
    found = complaints(measured_problem.replace(changes), measured_plan)
    assert any(complaint in what for what in found), found


def test_optimal_needs_the_gap_that_was_asked_for(measured_problem, measured_plan):
    wide = measured_plan.model_copy(
        update={"objective": measured_plan.objective.model_copy(update={"bound": 4.9, "gap": 0.02})}
    )
    assert complaints(measured_problem, wide) == ["status optimal: gap"]
    assert check(measured_problem, wide, gap=0.03).ok
    assert check(measured_problem, rewritten(wide, "status", "feasible")).ok
    told = rewritten(wide, "provenance", "command", "codesign solve hand.yaml --gap 2% -o s.json")
    assert check(measured_problem, told).ok


def test_spares_survive_a_server(measured_problem, measured_plan):
    survive = measured_problem.replace({"redundancy.survive": "one-server", "limits": {}, "site": {}})
    plan = measured_plan
    for pool in (0, 1):
        plan = rewritten(plan, "fleet", pool, "spares", 1)
    found = complaints(survive, plan)
    assert not any("survive" in what for what in found)
    assert any("replicas and spares bought" in what for what in found)


@pytest.mark.parametrize("status", ["infeasible", "no_solution"])
def test_no_plan_holds_no_plan(measured_problem, measured_plan, status):
    assert check(measured_problem, shell(status=status)).ok
    found = complaints(measured_problem, measured_plan.model_copy(update={"status": status}))
    for word in ("purchase", "fleet", "routing", "tasks", "totals", "objective.value", "objective.gap"):
        assert f"status {status}: {word}" in found


def test_a_plan_without_content_is_none(measured_problem):
    assert not check(measured_problem, shell(status="feasible")).ok


# ---- modelled plans, solved --------------------------------------------------------------------------------

MODELLED = {
    "name": "modelled",
    "models": {"chat": {"card": "gpt-oss-120b"}},
    "tasks": [
        {
            "name": "chat",
            "rate": "20/s",
            "calls": 1,
            "context": {"p50": 1500, "p90": 6000},
            "append": 500,
            "output": {"mean": 300},
            "tool_wait": "0 s",
            "models": ["chat"],
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}, "task_latency": {"p90": "30 s"}},
        }
    ],
    "hardware": {
        "h100": {
            "accelerator": "h100-sxm",
            "offers": {"own": {"capital": "28000 $"}, "rent": {"rent": "9 $/h"}},
        },
        "mi300x": {"accelerator": "mi300x"},
    },
    "options": {"gap": "5%", "time_limit": "20 s"},
}


def modelled(**options):
    return Problem.from_dict(MODELLED | {"options": MODELLED["options"] | options})


@pytest.fixture(scope="module", params=["always", "never"])
def solved(request):
    problem = modelled(disaggregation=request.param)
    return problem, solve(problem)


def test_a_solved_plan_passes(solved):
    problem, plan = solved
    report = check(problem, plan)
    assert plan.fleet
    assert report.ok, report.violations
    assert {route.prefill_pool == route.decode_pool for route in plan.routing} == {
        problem.options.disaggregation == "never"
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("fleet", 0, "replicas", lambda n: n - 1), "pool"),
        (("fleet", 0, "parallelism", "tp", 3), "parallelism"),
        (("fleet", 0, "parallelism", "tp", 0), "parallelism"),
        (("fleet", 0, "precision", "weights", "bf16"), "precision"),
        (("fleet", 0, "model", "other"), "model"),
        (("fleet", 0, "hardware", "b200"), "hardware"),
        (("fleet", 0, "accelerator", "b200-sxm"), "accelerator"),
        (("fleet", 0, "power_w", lambda w: 0.99 * w), "mean IT power"),
        (("fleet", 0, "utilization", "capacity", lambda u: u + 0.1), "utilization.capacity as reported"),
        (("fleet", 0, "precision", None), "precision and parallelism"),
        (("routing", 0, "calls_per_s", lambda x: 1.01 * x), "tasks served per second"),
        (("routing", 0, "calls_per_s", lambda x: 100 * x), "pool"),
        (("routing", 0, "variant", "other"), "variant"),
        (("routing", 0, "kv_policy", None), "kv_policy"),
        (("routing", 0, "decode_pool", "nowhere"), "decode pool"),
        (("purchase", 0, "count", lambda n: n - 1), "servers for its replicas"),
        (("purchase", 0, "usd_per_hour", lambda c: 0.99 * c), "offer's price"),
        (("totals", "cost_per_hour", lambda c: 0.999 * c), "totals.cost_per_hour"),
        (("totals", "energy_per_task_j", lambda j: 0.999 * j), "totals.energy_per_task_j"),
        (("tasks", 0, "slo", 0, "achieved", lambda s: 0.99 * s), "achieved as reported"),
        (("tasks", 0, "slo", 1, "achieved", lambda s: 0.99 * s), "achieved as reported"),
        (("tasks", 0, "slo", 2, "achieved", lambda s: 0.99 * s), "achieved as reported"),
        (("tasks", 0, "slo", 0, "target", 3.0), "target as in the problem"),
        (("tasks", 0, "slo", lambda entries: entries[1:]), "reported"),
        (("tasks", 0, "cost_per_task", lambda c: 0.99 * c), "sum over tasks"),
        (("objective", "value", lambda c: 0.99 * c), "objective.value"),
    ],
)
def test_an_altered_modelled_plan_fails(solved, change, complaint):
    problem, plan = solved
    found = complaints(problem, rewritten(plan, *change))
    assert any(complaint in what for what in found), found


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks.chat.slo.ttft": {"p95": "20 ms"}}, "ttft p95, seconds"),
        ({"tasks.chat.slo.tpot": {"p95": "1 ms"}}, "tpot p95, seconds"),
        ({"tasks.chat.slo.task_latency": {"p90": "1 s"}}, "task_latency p90, seconds"),
        ({"tasks.chat.rate": "21/s"}, "tasks served per second"),
        ({"tasks.chat.rate": "2000/s"}, "tasks served per second"),
        ({"options.max_sequences": 1}, "sequences at the planning percentile"),
        ({"options.memory_reserve": "78 GB"}, "memory"),
        ({"site.power": "1 kW"}, "site.power"),
        ({"limits.inventory": {"h100": 0, "mi300x": 0}}, "limits.inventory"),
    ],
)
def test_a_modelled_plan_fails_a_stricter_problem(solved, changes, complaint):
    problem, plan = solved
    found = complaints(problem.replace(changes), plan)
    assert any(complaint in what for what in found), found


def test_each_pool_reports_what_it_does(solved):
    problem, plan = solved
    for position, pool in enumerate(plan.fleet):
        words = ["wait_s"] if pool.role == "prefill" else ["step_time_s", "batch"]
        for word in words:
            if getattr(pool, word):
                altered = rewritten(plan, "fleet", position, word, lambda value: 0.9 * value)
                assert f"pool {pool.pool}: {word} as reported" in complaints(problem, altered)


def test_pools_keep_their_design_limits(solved):
    problem, plan = solved
    for position, pool in enumerate(plan.fleet):
        if pool.replicas_by_rows is not None:  # polished: they name its operating point
            continue
        for word in ("step_limit_s", "utilization_limit", "wait_limit_s"):
            # The step limit of a colocated pool is what promises of TPOT leave: they are held themselves.
            if getattr(pool, word) is not None and (pool.role, word) != ("colocated", "step_limit_s"):
                altered = rewritten(plan, "fleet", position, word, 1e-9)
                assert f"pool {pool.pool}: {word}" in complaints(problem, altered)


def test_phases_of_a_call_stay_apart_or_together(solved):
    problem, plan = solved
    other = {"always": "never", "never": "always"}[problem.options.disaggregation]
    found = complaints(problem.replace({"options.disaggregation": other}), plan)
    assert any("options.disaggregation" in what for what in found)


def test_purchase_keeps_offers_and_racks(solved):
    problem, plan = solved
    line = plan.purchase[0]
    hardware, offer = line.item.split("/")
    place = f"hardware.{hardware}"
    many, few = line.accelerators + 1, line.accelerators - 1
    if hardware == "h100":
        found = complaints(problem.replace({f"{place}.offers.{offer}.min": many}), plan)
        assert f"offer {line.item}: min, accelerators" in found
        found = complaints(problem.replace({f"{place}.offers.{offer}.max": few}), plan)
        assert f"offer {line.item}: max, accelerators" in found
    racks = {"site.racks": {"air": {"count": 1, "power": "1 kW"}}, f"{place}.server": {"rack": "air"}}
    assert "site.racks.air, racks" in complaints(problem.replace(racks), plan)


def test_electricity_is_paid_beside_offers_that_exclude_it(solved):
    problem, plan = solved
    dear = problem.replace({"site.electricity": "8 $/kWh"})
    excluded = {"own"} & {line.item.split("/")[1] for line in plan.purchase}
    assert ("totals.cost_per_hour" in complaints(dear, plan)) == bool(excluded)


def test_vendors_do_not_exchange_kv(solved):
    problem, plan = solved
    if problem.options.disaggregation == "never":
        return
    route = plan.routing[0]
    position = next(i for i, pool in enumerate(plan.fleet) if pool.pool == route.decode_pool)
    hardware, accelerator = {"h100": ("mi300x", "mi300x")}.get(
        plan.fleet[position].hardware, ("h100", "h100-sxm")
    )
    altered = rewritten(plan, "fleet", position, "hardware", hardware)
    altered = rewritten(altered, "fleet", position, "accelerator", accelerator)
    assert any("vendor of the decode pool" in what for what in complaints(problem, altered))


def test_a_role_that_the_hardware_lacks_fails(solved):
    problem, plan = solved
    lacking = {"prefill": "colocated", "decode": "colocated", "colocated": "decode"}[plan.fleet[0].role]
    found = complaints(problem.replace({f"hardware.{plan.fleet[0].hardware}.roles": [lacking]}), plan)
    assert any("role" in what for what in found)


def test_spares_of_modelled_pools():
    problem = modelled(disaggregation="never", gap="50%").replace({"redundancy.survive": "one-server"})
    plan = solve(problem)
    assert check(problem, plan).ok, check(problem, plan).violations
    position = next(i for i, pool in enumerate(plan.fleet) if pool.spares)
    found = complaints(problem, rewritten(plan, "fleet", position, "spares", lambda n: n - 1))
    assert any("survive the loss" in what for what in found), found


# ---- the physics by hand -----------------------------------------------------------------------------------


def test_decode_pool_of_equal_calls_by_hand():
    """Constant lengths: B = x·o·t, t = step(B) + B·r, and every session holds the same bytes."""
    problem = Problem.from_dict(
        MODELLED
        | {
            "tasks": [
                {**MODELLED["tasks"][0], "context": 1500, "output": 300, "slo": {"tpot": {"p95": "40 ms"}}}
            ]
        }
    )
    problem = problem.replace({"options.disaggregation": "always"})
    instance, solution = resolve(problem), solve(problem)
    findings = Findings()
    plan = read_plan(instance, solution, findings)
    assert findings.report().ok
    pool = next(pool for pool in plan.modelled.values() if pool.entry.role == "decode")
    routes = plan.routes_of(pool)
    state = operate(pool, routes, instance.options)
    rate = sum(route.calls.rate for route in routes) / pool.entry.replicas
    assert state.batch == pytest.approx(rate * 300 * state.step_s)
    own = float(decode_attention_seconds(pool.table, np.array([1650.0]))[0, 0])
    seen = state.batch + 1 if pool.entry.replicas < 4 else max(state.batch, 1)  # a call sees itself
    step = float(decode_step_seconds(pool.table, np.array([seen]))[0, 0])
    assert state.step_s == pytest.approx(step + seen * own)
    each = float(kv_bytes(pool.table, np.array([1800.0]))[0, 0])
    room = float(kv_capacity_bytes(pool.table, EngineMemory.of(instance.options, pool.table, "decode"))[0])
    bytes95 = each * (state.batch + 1.6448536 * math.sqrt(state.batch))
    assert state.memory_share == pytest.approx(bytes95 / room, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda t: 0.01 + 0.5 * t, 0.02),
        (lambda t: 0.01 + 0 * t, 0.01),
        # Two roots, 0.02 and 0.5: an engine that starts idle settles at the smaller.
        (lambda t: t + (t - 0.02) * (t - 0.5), 0.02),
        (lambda t: 0.01 + 1.0 * t, math.inf),
    ],
)
def test_fixed_point(step, expected):
    assert fixed_point(step, 0.01) == pytest.approx(expected, rel=1e-9)


def test_quantile_of_a_known_tail():
    assert quantile(lambda t: math.exp(-t / 2.0), 0.95) == pytest.approx(2.0 * math.log(20.0))
    assert quantile(lambda t: 1.0 if t < 0.3 else 0.0, 0.5) == pytest.approx(0.3)
    assert quantile(lambda t: 1.0, 0.5) == math.inf


@pytest.mark.parametrize(
    ("replicas", "server", "servers"),
    [
        ({}, 8, 0),
        ({4: 3}, 8, 2),
        ({1: 17}, 8, 3),
        ({8: 2, 4: 1, 2: 1, 1: 2}, 8, 3),
        ({4: 1, 2: 3, 1: 1}, 8, 2),
        ({16: 2}, 8, 4),
        ({64: 1, 8: 1}, 72, 1),
        ({32: 3}, 72, 2),  # two of 32 leave 8 slots empty
        ({32: 3, 8: 6}, 72, 2),  # which replicas of 8 may use
        ({32: 3, 8: 7}, 72, 3),
        ({5: 2, 3: 1}, 8, 2),
    ],
)
def test_packing_by_hand(replicas, server, servers):
    assert servers_needed(replicas, server) == servers


def test_the_witness_shares_no_optimiser_code():
    allowed = (
        "check",
        "hardware",
        "performance",
        "problem",
        "solution.schema",
        "units",
        "workload",
        "catalog",
    )
    room = Path(sys.modules["codesign.check"].__file__).parent
    for file in room.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                if module.startswith("codesign") and (file.name, module) != ("fits.py", "codesign.candidates.data"):
                    assert module.removeprefix("codesign.").startswith(allowed), f"{file.name}: {module}"
