"""What must not change a plan, and which way a plan may change: modelled problems solved to a gap of 0."""

import functools
import itertools
import json
import time
from dataclasses import replace

import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.strengthen import strengthened
from codesign.planner import solve
from codesign.problem import Problem, resolve

TOLERANCE = 1e-6
EDGES_KNOWN = 5e-3
"""To how much the most that a colocated replica carries is known: it is searched for, not taken from a grid."""

AGENT = {
    "name": "agent",
    "rate": "0.5/s",
    "calls": 4,
    "context": {"p50": 8000, "p90": 20000},
    "append": 800,
    "output": {"mean": 250},
    "tool_wait": {"mean": "5 s"},
    "prefix": {"shared": 1000, "reusable": 0.9},
    "models": ["llama"],
    "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "80 ms"}},
}
CHAT = {
    "name": "chat",
    "rate": "6/s",
    "calls": 1,
    "context": {"p50": 800, "p90": 3000},
    "append": 300,
    "output": {"mean": 200},
    "tool_wait": "0 s",
    "models": ["llama"],
    "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}},
}
H100 = {"accelerator": "h100-sxm", "server": {"accelerators": 2}, "offers": {"rent": {"rent": "2.5 $/h"}}}
L40S = {
    "accelerator": "l40s",
    "server": {"accelerators": 1},
    "offers": {"own": {"capital": "28000 $", "life": "4 years"}},
}
BASE = {
    "name": "small",
    "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [AGENT, CHAT],
    "hardware": {"h100": H100, "l40s": L40S},
    "options": {"gap": 0, "time_limit": "60 s", "threads": 1, "max_replica_accelerators": 1},
}
SINGLE = BASE | {"tasks": [AGENT | {"rate": "1/s"}]}
MODES = ("never", "always")
SMALL = {"never": BASE, "always": SINGLE}
"""What is solved to the end in each mode; larger ones are compared by their relaxation."""


@functools.cache
def _solved(description, changes):
    problem = Problem.from_dict(json.loads(description)).replace(json.loads(changes))
    plan = solve(problem)
    if plan.polish is None or plan.polish.note is None:  # else polish went below the bound of the rows
        assert plan.status == "optimal"
        assert plan.objective.gap <= 1e-6  # within which the optimiser takes an objective for its bound
    report = check(problem, plan)
    assert report.ok, report.violations
    return plan


def solved(description, mode="never", **changes):
    """The plan of a description under dotted changes; phases apart always, never, or as decided."""
    changes = {"options.disaggregation": mode} | changes
    return _solved(json.dumps(description), json.dumps(changes))


def cost(*arguments, **changes):
    return solved(*arguments, **changes).objective.value


# ---- prices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_scaled_prices_scale_the_optimum(mode):
    dearer = {
        "hardware.h100.offers.rent.rent": "7.5 $/h",
        "hardware.l40s.offers.own.capital": "84000 $",
        "site.electricity": "0.24 $/kWh",
    }
    assert cost(SMALL[mode], mode, **dearer) == pytest.approx(3 * cost(SMALL[mode], mode), rel=TOLERANCE)


def test_energy_does_not_ask_for_prices():
    power = {"objective": "power"}
    dearer = power | {"hardware.h100.offers.rent.rent": "9 $/h", "site.electricity": "1 $/kWh"}
    assert relaxed(BASE, "decide", **dearer) == pytest.approx(relaxed(BASE, "decide", **power))


def test_cost_per_task_is_cost_per_hour():
    per_task = cost(SINGLE, objective="cost_per_task")
    assert per_task * 3600 * 1.0 == pytest.approx(cost(SINGLE), rel=TOLERANCE)


# ---- more choice, tighter promises -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "more",
    [{"a100": {"accelerator": "a100-80-sxm"}}, {"mi300x": {"accelerator": "mi300x", "price": "1.9 $/h"}}],
)
def test_another_accelerator_never_raises_cost(mode, more):
    wider = SMALL[mode] | {"hardware": BASE["hardware"] | more}
    assert cost(wider, mode) <= cost(SMALL[mode], mode) * (1 + TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_another_model_never_raises_cost(mode):
    models = SINGLE["models"] | {"oss": {"card": "gpt-oss-20b"}}
    task = SINGLE["tasks"][0] | {"models": ["llama", "oss"]}
    wider = SINGLE | {"models": models, "tasks": [task]}
    assert cost(wider, mode) <= cost(SINGLE, mode) * (1 + TOLERANCE)


def test_both_ways_are_never_dearer_than_one():
    together, apart = (cost(SINGLE, mode) for mode in MODES)
    assert cost(SINGLE, "decide") <= min(together, apart) * (1 + TOLERANCE)


# Each chain tightens from left to right; step limits are those of the absolute grid, whose values alone leave
# no gap between a promise and the columns that keep it.
CHAINS = {
    "ttft": [{"p95": "8 s"}, {"p95": "2 s"}, {"p95": "1 s"}],
    "ttft percentile": [{"p90": "2 s"}, {"p95": "2 s"}, {"p99": "2 s"}],
    "tpot": [{"p95": "320 ms"}, {"p95": "80 ms"}, {"p95": "40 ms"}, {"p95": "20 ms"}],
    "tpot percentile": [{"p50": "40 ms"}, {"p90": "40 ms"}, {"p95": "40 ms"}, {"p99": "40 ms"}],
    "itl": [{"p99": "1 s"}, {"p99": "80 ms"}, {"p99": "40 ms"}, {"p99": "20 ms"}],
    "itl percentile": [{"p50": "60 ms"}, {"p90": "60 ms"}, {"p99": "60 ms"}, {"p999": "60 ms"}],
    "task_latency": [{"p90": "10 min"}, {"p90": "90 s"}, {"p90": "60 s"}, {"p90": "50 s"}],
    "task_latency percentile": [{"p50": "80 s"}, {"p90": "80 s"}, {"p95": "80 s"}],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_tighter_slo_never_lowers_cost(mode, chain):
    metric = chain.split()[0]
    costs = [cost(SINGLE, mode, **{f"tasks.agent.slo.{metric}": slo}) for slo in CHAINS[chain]]
    for loose, tight in itertools.pairwise(costs):
        assert loose <= tight * (1 + TOLERANCE), costs


FINE_CHAINS = {
    "ttft": [{"p95": f"{ms} ms"} for ms in (8000, 4000, 3000, 2000, 1500, 1000, 700, 500)],
    "ttft percentile": [{f"p{p}": "2 s"} for p in (50, 90, 95, 98, 99)],
    "ttft levels": [{"p95": "2 s"}, {"p95": "2 s", "p99": "4 s"}, {"p50": "1 s", "p95": "2 s", "p99": "3 s"}],
    "tpot": [{"p95": f"{ms} ms"} for ms in (640, 320, 160, 80, 40, 20, 10)],
    "tpot percentile": [{f"p{p}": "40 ms"} for p in (50, 90, 95, 98, 99)],
    "itl": [{"p99": f"{ms} ms"} for ms in (1000, 300, 200, 140, 100, 70, 50, 40, 30, 20)],
    "itl percentile": [{f"p{p}": "60 ms"} for p in (50, 90, 95, 98, 99, 999)],
    "task_latency": [{"p90": f"{s} s"} for s in (900, 600, 300, 200, 150, 120, 90, 75, 60, 50)],
    "task_latency percentile": [{f"p{p}": "80 s"} for p in (50, 75, 90, 95)],
}


def relaxed(description, mode, **changes):
    """The relaxation's optimum at twenty times the load: whole servers hide no small step there."""
    problem = Problem.from_dict(description).replace({"options.disaggregation": mode, **changes})
    data = build_candidates(resolve(problem)).data
    found = relax(strengthened(data), time.monotonic() + 60)
    assert found.converged
    return found.value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chain", FINE_CHAINS)
def test_a_tighter_slo_never_lowers_the_relaxation(mode, chain):
    metric = chain.split()[0]
    busy = {"tasks.agent.rate": "20/s"}
    costs = [relaxed(SINGLE, mode, **busy, **{f"tasks.agent.slo.{metric}": slo}) for slo in FINE_CHAINS[chain]]
    known = EDGES_KNOWN if mode != "always" else TOLERANCE
    for loose, tight in itertools.pairwise(costs):
        assert loose <= tight * (1 + known), costs


@pytest.mark.parametrize("mode", MODES)
def test_more_load_never_lowers_cost(mode):
    rates = [{"tasks.agent.rate": f"{rate}/s"} for rate in (0.5, 1, 1.5, 20, 21)]
    costs = [relaxed(BASE, mode, **rate) for rate in rates]
    assert costs == sorted(costs)


# ---- names, order, division --------------------------------------------------------------------------------


def same(description, other, mode):
    """Equal optima; where phases are apart those of the relaxation, which is quicker."""
    value = cost if mode == "never" else relaxed
    assert value(other, mode) == pytest.approx(value(description, mode), rel=TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_names_mean_nothing(mode):
    renamed = json.loads(
        json.dumps(BASE)
        .replace('"llama"', '"zephyr"')
        .replace('"agent"', '"z-agent"')
        .replace('"chat"', '"a-chat"')
        .replace('"h100"', '"z-box"')
        .replace('"l40s": {', '"a-box": {')
    )
    assert renamed["hardware"].keys() == {"z-box", "a-box"}
    same(BASE, renamed, mode)


@pytest.mark.parametrize("mode", MODES)
def test_order_means_nothing(mode):
    turned = {
        "tasks": BASE["tasks"][::-1],
        "hardware": dict(reversed(BASE["hardware"].items())),
        "models": {"unused": {"card": "gpt-oss-20b"}} | BASE["models"],
    }
    same(BASE, BASE | turned, mode)


@pytest.mark.parametrize("mode", MODES)
def test_two_halves_are_a_whole(mode):
    """With a shared prefix they would be two prefixes: each class has its own."""
    whole = AGENT | {"rate": "1/s", "prefix": {"reusable": 0.9}}
    halves = [whole | {"name": name, "rate": "0.5/s"} for name in ("left", "right")]
    same(BASE | {"tasks": [whole]}, BASE | {"tasks": halves}, mode)


@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1e9])
def test_the_unit_of_the_objective_changes_no_plan_and_no_bound(unit):
    """Reduced costs below 1e-7 are zero to a solver: in $ per task of a busy site that would be all of them."""
    problem = Problem.from_dict(SINGLE).replace({"tasks.agent.rate": "20/s"})
    data = build_candidates(resolve(problem)).data
    other = replace(data, usd_weight=data.usd_weight * unit, watt_weight=data.watt_weight * unit)
    mine, theirs = (relax(strengthened(d), time.monotonic() + 60) for d in (data, other))
    assert theirs.value == pytest.approx(mine.value * unit, rel=1e-6)
    assert theirs.bound == pytest.approx(mine.bound * unit, rel=1e-6)
    assert theirs.duals.demand == pytest.approx(mine.duals.demand * unit, rel=1e-5)
    plan, same = (solve_fleet(d, gap=0.01, time_limit=60, threads=1) for d in (data, other))
    assert same.gap <= 0.01
    assert same.objective == pytest.approx(plan.objective * unit, rel=0.01)
    assert same.bound <= plan.objective * unit * (1 + TOLERANCE)
    assert plan.bound <= same.objective / unit * (1 + TOLERANCE)
