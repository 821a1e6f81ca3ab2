"""KV between calls: bytes by hand, where it stays as a decision that prices flip, and a check that nothing is free."""

import math

import numpy as np
import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.hardware.tco import annuity_usd_per_hour
from codesign.performance import kv_capacity_bytes
from codesign.planner import solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.problem.distributions import Distribution
from codesign.solution import Solution

TOKEN = 2 * 8 * 128 * 32
"""Bytes of a token of Llama-3.1-8B in FP8: keys and values of 8 heads of 128 in 32 layers."""
DDR5 = {"tier": "ddr5-rdimm", "price": "13.8 $/GB", "module": "64 GB", "max_per_server": "4 TB"}
NVME = {"tier": "nvme-ssd", "price": "0.2 $/GB", "max_per_server": "30 TB"}


def task(**changes):
    return {
        "name": "agent",
        "rate": "2/s",
        "calls": 20,
        "context": 40000,
        "append": 1000,
        "output": 200,
        "tool_wait": "60 s",
        "prefix": {"shared": 1000, "reusable": 0.95, "ttl": "90 s"},
        "models": ["llama"],
        "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
    } | changes


def problem(agent=None, memory=None, disaggregation="never", **changes):
    return Problem.from_dict(
        {
            "name": "tiers",
            "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [agent or task()],
            "hardware": {
                "h100": {"accelerator": "h100-sxm", "server": {"accelerators": 8}, "price": "2 $/h"}
            },
            "memory": memory or {},
            "options": {"max_replica_accelerators": 1, "disaggregation": disaggregation},
        }
        | changes
    )


def policies(solution):
    """Share of the calls by residency policy."""
    total = sum(route.calls_per_s for route in solution.routing)
    shares = {}
    for route in solution.routing:
        shares[route.kv_policy] = shares.get(route.kv_policy, 0.0) + route.calls_per_s / total
    return shares


def complaints(asked, solution):
    return [violation.what for violation in check(asked, solution).violations]


def rewritten(solution, changes):
    """The solution with values at paths of keys and positions replaced."""
    data = solution.model_dump(mode="json", by_alias=True)
    for path, value in changes.items():
        here = data
        *way, last = path
        for key in way:
            here = here[key]
        here[last] = value
    return Solution.model_validate(data)


@pytest.fixture(scope="module")
def with_ddr5():
    asked = problem(memory={"ddr5": DDR5})
    return asked, solve(asked)


# ---- by hand -----------------------------------------------------------------------------------------------


def test_bytes_of_a_kept_session_by_hand(with_ddr5):
    """20 calls of 40,000 tokens, 1,000 of them shared; all gaps are 60 s and the time-to-live is 90 s."""
    _, solution = with_ddr5
    route = next(r for r in solution.routing if r.kv_policy == "tier:ddr5")
    held = 0.95 * 60 + 0.05 * 90  # after the last of 20 calls nobody comes
    assert route.kv.kept_bytes == pytest.approx(route.calls_per_s * held * (40200 - 1000) * TOKEN)
    # 0.95 of the prompt tokens are reusable: the first call's 1,000, and of each of 19 others the same share.
    cached = (0.95 * 40000 - 0.05 * 1000) / 0.95
    cached = min(cached, 39000)
    assert route.kv.hit_ratio == pytest.approx((0.95 * cached + 0.05 * 1000) / 40000)
    assert route.kv.reloaded_bytes_per_s == pytest.approx(route.calls_per_s * 0.95 * (cached - 1000) * TOKEN)
    new = 0.95 * (40200 - cached) + 0.05 * (40200 - 1000)
    assert route.kv.returned_bytes_per_s == pytest.approx(route.calls_per_s * new * TOKEN)
    assert route.kv.sent_bytes_per_s == 0.0


def test_modules_are_bought_whole_at_their_annuity(with_ddr5):
    _, solution = with_ddr5
    memory = solution.memory[0]
    line = next(line for line in solution.purchase if line.kind == "module")
    assert (line.item, line.count) == ("ddr5", memory.modules)
    assert memory.modules == math.ceil(memory.used_bytes / (0.9 * 64e9))
    assert line.capital_usd == pytest.approx(memory.modules * 64 * 13.8)
    assert line.usd_per_hour == pytest.approx(
        memory.modules * annuity_usd_per_hour(64 * 13.8, 4 * 365 * 86400, 0.09)
    )
    servers = solution.totals.servers["h100"]
    assert solution.totals.cost_per_hour == pytest.approx(servers * 16 + line.usd_per_hour)
    # Dimms of 64 GB at 38 GB/s; a call reads what it reuses once, since one replica serves both its phases.
    kept = [route.kv for route in solution.routing if route.kv_policy == "tier:ddr5"]
    moved = sum(kv.reloaded_bytes_per_s + kv.returned_bytes_per_s for kv in kept)
    assert memory.bandwidth_utilization == pytest.approx(moved / (memory.modules * 38e9))


def test_both_sides_of_a_disaggregated_call_read_the_tier():
    found = build_candidates(resolve(problem(memory={"ddr5": DDR5 | {"stripe": 2}}, disaggregation="always")))
    limits = {limit.name: limit for limit in found.data.limits}
    flows = [(f, flow) for f, flow in enumerate(found.book.flows) if flow.residency == "tier:ddr5"]
    one = {phase: next(f for f, flow in flows if flow.phase == phase) for phase in ("prefill", "decode")}
    cached = min((0.95 * 40000 - 0.05 * 1000) / 0.95, 39000)
    read = 0.95 * (cached - 1000) * TOKEN
    written = (0.95 * (40200 - cached) + 0.05 * 39200) * TOKEN
    bandwidth, capacity = limits["memory.ddr5.bandwidth"], limits["memory.ddr5.capacity"]
    assert bandwidth.per_flow[one["prefill"], -1] == pytest.approx(read)
    assert bandwidth.per_flow[one["decode"], -1] == pytest.approx(read + written)
    assert capacity.per_flow[one["prefill"], -1] == pytest.approx(61.5 * 39200 * TOKEN)
    assert (one["decode"], -1) not in capacity.per_flow
    assert capacity.per_module == {0: pytest.approx(-0.9 * 64e9)}
    assert limits["memory.ddr5.max_per_server"].per_server == {0: -62.0}
    # Reload from two modules at once is as fast as the transfer level allows, and counts in the TTFT.
    flow = found.book.flows[one["prefill"]]
    assert flow.fabric_bytes_per_s == 25e9
    assert flow.transfer_seconds(np.array([50e9]), np.array([25e9])) == pytest.approx(3.0 + 90e-9)


def test_an_idle_curve_is_met_at_its_points():
    gap = Distribution.from_curve({60.0: 0.854, 300.0: 0.94, 3600.0: 0.986})
    for seconds, share in ((60.0, 0.854), (300.0, 0.94), (3600.0, 0.986)):
        assert gap.cdf(seconds) == pytest.approx(share)
    assert gap.cdf(1e6) == pytest.approx(0.986)
    # E[min(gap, 300 s)] = ∫ P(gap > t) dt, with log-linear probabilities.
    times = np.linspace(1e-6, 300.0, 400001)
    below = np.interp(np.log(times), np.log([0.6, 60.0, 300.0]), [0.0, 0.854, 0.94], left=0.0)
    assert gap.limited_mean(300.0) == pytest.approx(np.trapezoid(1 - below, times), rel=2e-3)
    with pytest.raises(ValueError, match="falls"):
        Distribution.from_curve({60.0: 0.9, 300.0: 0.8})


# ---- decisions ---------------------------------------------------------------------------------------------


def test_residency_follows_the_price_of_memory(with_ddr5):
    """HBM of a rented H100 costs 2 $/h / 62 GB = 32 $/h for a terabyte, DDR5 at 13.8 $/GB 0.5 $/h."""
    _, cheap = with_ddr5
    dear_problem = problem(memory={"ddr5": DDR5 | {"price": "10000 $/GB"}})
    dear = solve(dear_problem)
    assert policies(cheap)["tier:ddr5"] > 0.6
    assert "tier:ddr5" not in policies(dear)
    assert set(policies(dear)) <= {"colocated", "drop"}
    assert not dear.memory
    assert not complaints(dear_problem, dear)
    # Keeping everything in HBM takes at least its bytes over the room of an accelerator.
    table = build_candidates(resolve(dear_problem)).table(0)
    room = kv_capacity_bytes(table)[0]
    kept = sum(route.kv.kept_bytes for route in dear.routing)
    assert dear.totals.servers["h100"] * 8 >= kept / room
    # The tier saves more than half of it: its bytes need no accelerators.
    assert cheap.objective.value < 0.5 * dear.objective.value
    worth = cheap.objective.value - cheap.memory[0].modules * annuity_usd_per_hour(
        64 * 13.8, 4 * 365 * 86400, 0.09
    )
    at = worth + cheap.memory[0].modules * annuity_usd_per_hour(64 * 10000, 4 * 365 * 86400, 0.09)
    assert at > dear.objective.value  # the same plan at the dear price loses


def test_kv_is_dropped_where_nobody_comes_back_in_time():
    asked = problem(task(tool_wait="10 min", prefix={"shared": 1000, "reusable": 0.95, "ttl": "5 min"}))
    solution = solve(asked)
    assert policies(solution) == {"drop": pytest.approx(1.0)}  # a hit ratio of nothing is worth no memory
    assert all(route.kv.hit_ratio == pytest.approx(1000 / 40000) for route in solution.routing)
    assert not complaints(asked, solution)


@pytest.mark.parametrize(("ttft", "tier"), [("1 s", "nvme"), ("260 ms", "ddr5")])
def test_the_tier_follows_the_time_to_first_token(ttft, tier):
    """2.5 GB come from one drive at 14 GB/s in 178 ms, from one DIMM at the 25 GB/s of the level in 100 ms.

    With 3,000 tokens to compute, transfer and admission a TTFT of 260 ms has no room for the drive.
    """
    slo = {"ttft": {"p90": ttft}, "tpot": {"p95": "50 ms"}}
    asked = problem(task(slo=slo), {"ddr5": DDR5, "nvme": NVME}, disaggregation="always")
    solution = solve(asked)
    used = {route.kv_policy for route in solution.routing if route.kv_policy.startswith("tier:")}
    assert used == {f"tier:{tier}"}
    assert [entry.tier for entry in solution.memory] == [tier]
    assert not complaints(asked, solution)


def test_the_time_to_live_follows_the_price_of_memory():
    agent = task(
        tool_wait={"p50": "30 s", "p90": "600 s"}, prefix={"shared": 1000, "reusable": 0.95, "ttl": "decide"}
    )
    mean = {}
    for price in ("13.8 $/GB", "2000 $/GB"):
        asked = problem(agent, {"ddr5": DDR5 | {"price": price}})
        solution = solve(asked)
        assert not complaints(asked, solution)
        total = sum(route.calls_per_s for route in solution.routing)
        mean[price] = sum(route.calls_per_s * route.kv.ttl_s for route in solution.routing) / total
        for route in solution.routing:  # the hit ratio is what the time-to-live keeps
            kept = resolve(asked).tasks[0].tool_wait.cdf(route.kv.ttl_s) if route.kv_policy != "drop" else 0.0
            cached = 1000 + 0.95 * kept * (min((38000 - 50) / 0.95, 39000) - 1000)
            assert route.kv.hit_ratio == pytest.approx(cached / 40000)
    assert mean["13.8 $/GB"] > 200 > mean["2000 $/GB"]


# ---- conservation ------------------------------------------------------------------------------------------


def test_the_plan_passes_and_conserves(with_ddr5):
    asked, solution = with_ddr5
    assert not complaints(asked, solution)
    kept = sum(r.kv.kept_bytes for r in solution.routing if r.kv_policy == "tier:ddr5")
    assert solution.memory[0].used_bytes == pytest.approx(kept, rel=1e-9)


def test_a_hit_that_nobody_kept_fails(with_ddr5):
    asked, solution = with_ddr5
    tiered = next(i for i, r in enumerate(solution.routing) if r.kv_policy == "tier:ddr5")
    dropped = rewritten(solution, {("routing", tiered, "kv_policy"): "drop"})
    found = complaints(asked, dropped)
    assert any("kv.hit_ratio: what its policy keeps" in what for what in found)
    assert any("busy" in what or "queue" in what for what in found)  # all of it would have to be computed again


def test_altered_bytes_and_modules_fail(with_ddr5):
    asked, solution = with_ddr5
    tiered = next(i for i, r in enumerate(solution.routing) if r.kv_policy == "tier:ddr5")
    kv = solution.routing[tiered].kv
    line = next(i for i, entry in enumerate(solution.purchase) if entry.kind == "module")
    cases = {
        "hit_ratio: what its policy": {("routing", tiered, "kv", "hit_ratio"): kv.hit_ratio + 0.01},
        "kept_bytes: what its policy": {("routing", tiered, "kv", "kept_bytes"): kv.kept_bytes * (1 - 1e-5)},
        "reloaded_bytes_per_s": {("routing", tiered, "kv", "reloaded_bytes_per_s"): 0.0},
        "time-to-live": {("routing", tiered, "kv", "ttl_s"): 61.0},
        "kv: ": {("routing", tiered, "kv"): None},
        "kv_policy": {("routing", tiered, "kv_policy"): "tier:nvme"},
        "bytes kept, of the 90%": {("purchase", line, "count"): solution.purchase[line].count - 2},
        "modules as bought": {("memory", 0, "modules"): 1},
        "used_bytes": {("memory", 0, "used_bytes"): 0.0},
    }
    for what, change in cases.items():
        assert any(what in text for text in complaints(asked, rewritten(solution, change))), what


def test_servers_hold_no_more_modules_than_they_take(with_ddr5):
    _, solution = with_ddr5
    small = problem(memory={"ddr5": DDR5 | {"max_per_server": "64 GB"}})
    assert any("modules in the servers bought" in what for what in complaints(small, solution))
    plan = solve(small)
    assert plan.memory[0].modules <= plan.totals.servers["h100"]
    assert not complaints(small, plan)


def test_what_servers_include_is_used_for_nothing():
    asked = problem(memory={"ddr5": DDR5 | {"price": "10000 $/GB", "included_per_server": "1 TB"}})
    solution = solve(asked)
    assert policies(solution)["tier:ddr5"] > 0.5
    assert solution.memory[0].modules == 0
    assert solution.memory[0].capacity_bytes == pytest.approx(1e12 * solution.totals.servers["h100"])
    assert not complaints(asked, solution)


# ---- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ({"tier": "ddr4"}, "memory.m.tier: found 'ddr4'"),
        ({"tier": "optical-pool"}, "memory.m.price: found nothing; expected a price such as 13.8 "),
        ({"tier": "hbf", "price": "1.5 $/GB", "holds": ["parked"]}, "memory.m.holds: found parked"),
        ({"tier": "ddr5-rdimm", "hardware": ["h100"]}, "memory.m: found included_per_server or hardware"),
        ({"tier": "ddr5-rdimm", "max_per_server": "1 TB", "hardware": ["b200"]}, "memory.m.hardware.0: found 'b200'"),
    ],
)
def test_words_of_memory(memory, message):
    with pytest.raises(ProblemError) as error:
        resolve(problem(memory={"m": memory}))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ({"reusable": 0.9, "ttl": "whenever"}, "prefix.ttl: found 'whenever'"),
        ({"hit": 0.9, "ttl": "decide"}, "found ttl: decide beside a fixed hit"),
        ({"reusable": 0.9, "idle": {"1 min": 0.9, "5 min": 0.8}}, "expected shares that rise with time"),
    ],
)
def test_words_of_the_prefix(prefix, message):
    with pytest.raises(ProblemError) as error:
        problem(task(prefix=prefix))
    assert message in str(error.value)
