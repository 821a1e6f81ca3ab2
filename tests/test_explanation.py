"""Explanations: entry prices confirmed by solving again, conflicts in the problem's words."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from fleets import block, colocated, fleet

from codesign.candidates.build import build_candidates
from codesign.explanation.parts import entry_prices
from codesign.explanation.prices import RESOURCES, resource_gains
from codesign.explanation.slos import slo_prices
from codesign.explanation.worth import binding_rows
from codesign.optimize.duals import Duals
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.relaxation import relax
from codesign.optimize.sensitivity import fixed_duals
from codesign.optimize.strengthen import strengthened
from codesign.planner import explain, solve
from codesign.problem import Problem, resolve

CHAT = {
    "name": "small-chat",
    "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat",
            "rate": "60/s",
            "models": ["llama"],
            "context": {"p50": 1000, "p90": 2700},
            "output": {"mean": 210},
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "40 ms"}},
        }
    ],
    "hardware": {
        "h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}},
        "h200": {"accelerator": "h200-sxm", "server": {"accelerators": 1}},
        "mi300x": {"accelerator": "mi300x", "server": {"accelerators": 1}},
    },
    "options": {"max_replica_accelerators": 1, "gap": "1%", "time_limit": "20 s"},
}


@pytest.fixture(scope="module")
def problem():
    return Problem.from_dict(CHAT)


def bought(problem):
    """Servers of each hardware that the relaxation buys."""
    data = build_candidates(resolve(problem)).data
    return relax(strengthened(data), time.monotonic() + 30).servers


def test_a_part_enters_at_its_price(problem):
    candidates = build_candidates(resolve(problem))
    plan = solve_fleet(candidates.data, gap=0.01, time_limit=20)
    before = bought(problem)
    entering = [h for h in range(len(before)) if before[h] < 1e-9]
    assert entering
    for h in entering:
        name = candidates.data.hardware[h].name
        price = entry_prices(candidates, plan)[h]
        assert price is not None
        cheaper = problem.replace({f"hardware.{name}.price": f"{price * 0.97:.6f} $/h"})
        dearer = problem.replace({f"hardware.{name}.price": f"{price * 1.03:.6f} $/h"})
        assert bought(cheaper)[h] > 1e-6
        assert bought(dearer)[h] < 1e-9


def test_not_chosen_parts_say_why(problem):
    explanation = explain(problem)
    assert explanation.feasible
    parts = set(CHAT["hardware"])
    used = {line.item.split("/")[0] for line in explanation.solution.purchase}
    assert {part.accelerator for part in explanation.not_chosen} == parts - used
    assert all(part.reason for part in explanation.not_chosen)


def test_conflict_of_power_and_demand(problem):
    tight = problem.replace({"site.power": "2 kW"})
    found = explain(tight)
    assert not found.feasible
    assert {c.limit for c in found.conflicts} == {"site.power", "tasks.chat.rate"}
    needed = next(c.needed for c in found.conflicts if c.limit == "site.power")
    assert needed is not None
    assert solve(tight).status == "infeasible"
    # What the relaxation says would do does, up to whole servers.
    assert solve(problem.replace({"site.power": f"{needed * 1.5 / 1e3:.3f} kW"})).status in ("optimal", "feasible")
    assert solve(problem.replace({"site.power": f"{needed * 0.98 / 1e3:.3f} kW"})).status == "infeasible"


def test_an_slo_that_nothing_meets_says_what_would_do(problem):
    hopeless = problem.replace({"tasks.chat.slo.tpot": {"p95": "0.5 ms"}})
    found = explain(hopeless)
    assert not found.feasible
    conflict = next(c for c in found.conflicts if c.limit == "tasks.chat.slo.tpot.p95")
    assert conflict.needed is not None
    assert np.isfinite(conflict.needed)
    assert [way.verified for way in found.relaxations] == [True]
    eased = problem.replace({"tasks.chat.slo.tpot": {"p95": f"{conflict.needed * 1e3:.3f} ms"}})
    assert solve(eased).status in ("optimal", "feasible")


def relaxed(problem):
    data = build_candidates(resolve(problem)).data
    return relax(strengthened(data), time.monotonic() + 30)


def test_shadow_prices_are_what_solving_again_saves(problem):
    """Of a task's rate and of a limit: the relaxation at a little more and a little less brackets the price."""
    limited = problem.replace({"limits.inventory": {"mi300x": 1}, "options.gap": "1%"})
    found = explain(limited)
    prices = {(p.limit, p.source): p.value for p in found.shadow_prices}
    base = relaxed(limited).value
    tight = strengthened(build_candidates(resolve(limited)).data)  # its rows know the demand, and are held here
    fewer = relax(replace(tight, demand=tight.demand * 0.99), time.monotonic() + 30).value
    assert prices["tasks.chat.rate", "relaxation"] == pytest.approx(base - fewer, rel=0.02)
    full = [name for name in ("mi300x",) if prices[f"limits.inventory.{name}", "relaxation"] > 1e-6]
    assert full
    for name in full:
        more = relaxed(limited.replace({f"limits.inventory.{name}": 2})).value
        less = relaxed(limited.replace({f"limits.inventory.{name}": 0})).value
        price = prices[f"limits.inventory.{name}", "relaxation"]
        assert base - more <= price * (1 + 1e-6)
        assert price <= (less - base) * (1 + 1e-6)
    # With the fleet as it stands rents are paid: fewer calls save nothing, and no further accelerator does.
    assert prices["tasks.chat.rate", "fixed"] == pytest.approx(0.0, abs=1e-9)
    assert prices[f"limits.inventory.{full[0]}", "fixed"] == pytest.approx(0.0, abs=1e-9)


def test_fixed_prices_are_what_the_bought_fleet_saves():
    """Energy: with counts held a task less saves the joules of its calls, as in arithmetic by hand."""
    columns = block([0], [[[0.5]]], [[1.0]], power=100.0, flow_power=20.0)
    data = fleet([3.0], [colocated(0)], [columns], usd_weight=0.0, watt_weight=1.0, pue=1.25)
    plan = solve_fleet(data, gap=0.0)
    assert plan.replicas == {0: 2}  # 1.5 replicas of work
    assert plan.objective == pytest.approx(1.25 * (2 * 100 + 3 * 20))
    # The whole class is worth 3 calls/s of 20 J; the relaxation adds half a replica's watts per call/s.
    assert fixed_duals(data, plan).demand == pytest.approx([1.25 * 3 * 20])
    assert plan.demand_duals == pytest.approx([1.25 * 3 * (20 + 50)])


def test_more_of_a_resource_is_worth_what_the_relaxation_then_saves(problem):
    candidates = build_candidates(resolve(problem))
    base = relaxed(problem)
    data = candidates.data
    part = max(range(len(data.hardware)), key=lambda h: base.servers[h])
    name = data.hardware[part].name
    accelerator = candidates.instance.hardware[part].accelerator
    seen = 0.0
    fields = (("memory_capacity", "GB"), ("memory_bandwidth", "GB/s"))
    found = resource_gains(candidates, base.duals, name)
    for resource, (field, unit) in zip(RESOURCES, fields, strict=False):
        gains, size = found[resource]
        assert size == getattr(accelerator, field)
        saved = sum(gains.get(data.groups[g].name, 0.0) * n for g, n in enumerate(base.replicas))
        grown = problem.replace({f"hardware.{name}.{field}": f"{size * 1.01 / 1e9:.9f} {unit}"})
        # A price is an upper bound on what a step saves, and close to it for a small one.
        less = base.value - relaxed(grown).value
        assert -1e-9 <= less <= saved * 1.1 + 1e-6
        assert less >= 0.5 * saved - 1e-6
        seen += saved
    assert seen > 0


def test_an_easier_slo_is_worth_what_the_plan_then_saves(problem):
    tight = problem.replace({"tasks.chat.slo.tpot": {"p95": "14.995 ms"}})
    found, notes = slo_prices(build_candidates(resolve(tight)), 60.0)
    by_name = {price.limit: price for price in found if price.value > 0}
    price = by_name["tasks.chat.slo.tpot.p95"]
    assert price.unit == "10 ms"  # over the grid's step limits of 15 and 20 ms
    easier = problem.replace({"tasks.chat.slo.tpot": {"p95": "24.995 ms"}})
    assert price.value == pytest.approx(relaxed(tight).value - relaxed(easier).value, rel=1e-6)
    assert any("steps" in note for note in notes)


def test_reasons_name_what_binds(problem):
    small = problem.replace({"hardware.a10": {"accelerator": "h100-sxm", "memory_capacity": "6 GB", "price": "1 $/h"}})
    reasons = {part.accelerator: part.reason for part in explain(small).not_chosen}
    assert reasons["a10"].startswith("memory: no replica")
    assert any("limited by" in reason for part, reason in reasons.items() if part != "a10")


@pytest.mark.parametrize("price", [1.0, 1e-12, 1e9])
def test_what_binds_does_not_hang_on_the_unit_of_prices(price):
    """Two flows, each limited by a row of its own: at worths 3 and 1 per replica the rows bound 3/4 and 1/4."""
    rows = [[[0.1, 0.0], [0.0, 0.1], [1e-3, 1e-3]]]
    data = fleet([2.0, 2.0], [colocated(0), colocated(1)], [block([0, 1], rows, [[1.0, 1.0, 1.0]])])
    duals = Duals(np.array([0.6, 0.2]) * price, np.zeros(0), np.zeros(0), np.zeros(1))
    assert binding_rows(data, 0, duals) == pytest.approx({"row0": 0.75, "row1": 0.25})
    nothing = Duals(np.zeros(2), np.zeros(0), np.zeros(0), np.zeros(1))
    assert binding_rows(data, 0, nothing) == {}
