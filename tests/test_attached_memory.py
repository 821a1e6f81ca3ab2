"""Active KV and weights in memory attached to accelerators: times and room by hand, decisions that bandwidth flips."""

import numpy as np
import pytest

from codesign.catalog import accelerators, models, override
from codesign.check import check
from codesign.export.deploy import deployment
from codesign.hardware.tco import annuity_usd_per_hour
from codesign.performance import (
    PRECISIONS,
    AttachedMemory,
    ConfigurationTable,
    decode_attention_seconds,
    decode_step_seconds,
    decode_weight_bytes,
    fits,
    kv_capacity_bytes,
    weight_bytes,
    workspace_bytes,
)
from codesign.performance.energy import joules_per_byte, kv_joules_per_byte, weight_joules
from codesign.performance.footprint import attached_weight_bytes
from codesign.planner import solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.simulate import simulate
from codesign.solution import Solution

FP8 = PRECISIONS.index("fp8")
TOKEN = 2 * 8 * 128 * 32
"""Bytes of a token of Llama-3.1-8B in FP8: keys and values of 8 heads of 128 in 32 layers."""
MODULE = annuity_usd_per_hour(64 * 13.8, 4 * 365 * 86400, 0.09)
"""$/h of a DIMM of 64 GB."""


def table(card, memory=None, part=None, tp=1, ep=1):
    return ConfigurationTable(
        (part or accelerators()["h100-sxm"],),
        (models()[card],),
        *([value] for value in (0, 0, FP8, FP8, FP8, tp, 1, ep, 1)),
        memory=np.array([-1 if memory is None else 0]),
        memories=() if memory is None else (memory,),
    )


def memory(holds, bandwidth=450e9, latency=0.0, joules=0.0, capacity=1e12):
    return AttachedMemory(holds, capacity, bandwidth, latency, joules)


# ---- by hand -----------------------------------------------------------------------------------------------


def test_active_kv_is_read_as_from_a_part_of_that_bandwidth():
    slow = override(accelerators()["h100-sxm"], {"memory_bandwidth": "450 GB/s"})
    context = np.array([1000.0, 100000.0])
    attached = decode_attention_seconds(table("Llama-3.1-8B", memory("kv")), context)
    assert attached == pytest.approx(decode_attention_seconds(table("Llama-3.1-8B", part=slow), context))
    assert attached[0, 1] > 100000 * TOKEN / 450e9  # no kernel reaches the whole bandwidth
    # Products still read weights from HBM; 32 layers wait for the first byte of their caches.
    plain = decode_step_seconds(table("Llama-3.1-8B"), 4.0)
    floor = decode_step_seconds(table("Llama-3.1-8B", memory("kv")), 4.0) - plain
    late = decode_step_seconds(table("Llama-3.1-8B", memory("kv", latency=1e-5)), 4.0) - plain
    assert late - floor == pytest.approx(32 * 1e-5)


def test_weights_are_read_as_from_a_memory_of_the_part_s_own():
    own = override(accelerators()["h100-sxm"], {"weight_capacity": "1 TB", "weight_bandwidth": "450 GB/s"})
    batch = np.array([1.0, 64.0])
    attached = decode_step_seconds(table("Llama-3.1-8B", memory("weights")), batch)
    assert attached == pytest.approx(decode_step_seconds(table("Llama-3.1-8B", part=own), batch))
    assert attached[0, 0] > weight_bytes(table("Llama-3.1-8B"))[0] / 450e9 / 1.1  # but for the input embedding
    late = decode_step_seconds(table("Llama-3.1-8B", memory("weights", latency=1e-5)), batch)
    assert late - attached == pytest.approx(64 * 1e-5)  # 32 layers of attention, 32 MLPs


def test_experts_alone_are_read_from_there():
    hbm, beside = table("Qwen3-30B-A3B"), table("Qwen3-30B-A3B", memory("experts"))
    routed = attached_weight_bytes(beside, np.array([1.0]))[0, 0]
    # 48 layers, 8 of 128 experts of three matrices of 2048 x 768, one byte each.
    assert routed == pytest.approx(48 * 8 * 3 * 2048 * 768, rel=1e-9)
    assert routed < decode_weight_bytes(beside, np.array([1.0]))[0, 0]
    assert decode_step_seconds(beside, 1.0)[0, 0] > routed / 450e9 > decode_step_seconds(hbm, 1.0)[0, 0] / 2
    late = decode_step_seconds(table("Qwen3-30B-A3B", memory("experts", latency=1e-5)), 1.0)
    assert late - decode_step_seconds(beside, 1.0) == pytest.approx(48 * 1e-5)
    assert attached_weight_bytes(hbm, np.array([1.0]))[0, 0] == 0.0


def test_room_by_hand():
    part = 79.18 * 2**30 * 0.9 - 0.7e9
    kv = table("Llama-3.1-8B", memory("kv"))
    assert kv_capacity_bytes(kv)[0] == pytest.approx(0.9e12)
    weights = table("Llama-3.1-70B", memory("weights"))
    assert kv_capacity_bytes(weights)[0] == pytest.approx(part - workspace_bytes(weights)[0])
    assert not fits(table("Llama-3.1-405B", memory("kv")))[0]  # its weights have no place
    assert not fits(table("Llama-3.1-405B", memory("weights", capacity=400e9)))[0]
    experts = table("Qwen3-30B-A3B", memory("experts"))
    everything = 48 * 128 * 3 * 2048 * 768
    inside = weight_bytes(experts)[0] - everything
    assert kv_capacity_bytes(experts)[0] == pytest.approx(part - inside - workspace_bytes(experts)[0])


def test_joules_of_the_tier_come_on_top():
    own = joules_per_byte(table("Qwen3-30B-A3B"))[0]
    assert kv_joules_per_byte(table("Qwen3-30B-A3B", memory("kv", joules=5e-11)))[0] == pytest.approx(own + 5e-11)
    beside = table("Qwen3-30B-A3B", memory("experts", joules=5e-11))
    batch = np.array([4.0])
    streamed, routed = decode_weight_bytes(beside, batch)[0, 0], attached_weight_bytes(beside, batch)[0, 0]
    assert weight_joules(beside, batch)[0, 0] == pytest.approx(streamed * own + routed * 5e-11)


def test_modules_and_link_make_the_bandwidth():
    tier = resolve(agents("450 GB/s")).memory[0]
    assert AttachedMemory.of(tier, 16, "kv").bandwidth_bytes_per_s == 450e9  # 16 x 38 GB/s would be 608
    four = AttachedMemory.of(tier, 4, "kv")
    assert (four.capacity_bytes, four.bandwidth_bytes_per_s) == (256e9, 4 * 38e9)
    assert (four.latency_s, four.joules_per_byte) == pytest.approx((90e-9, 8 * 6e-12))
    linked = resolve(agents(None, link="pcie5-x16")).memory[0]
    assert AttachedMemory.of(linked, 16, "kv").bandwidth_bytes_per_s == 64e9
    assert AttachedMemory.of(linked, 16, "kv").joules_per_byte == pytest.approx(8 * 12e-12)


# ---- decisions ---------------------------------------------------------------------------------------------


def agents(bandwidth, link=None, redundancy="none", holds=("active",), **more):
    """One call a second of 100,000 tokens (6.6 GB), whose sessions come back after 60 s."""
    attached = {"modules": [16]} | ({"bandwidth": bandwidth} if bandwidth else {"link": link})
    one = {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}
    return Problem.from_dict(
        {
            "name": "active",
            "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "agent",
                    "rate": "0.05/s",
                    "calls": 20,
                    "context": 100000,
                    "append": 2000,
                    "output": 30,
                    "tool_wait": "60 s",
                    "prefix": {"shared": 0, "reusable": 0.95, "ttl": "90 s"},
                    "models": ["llama"],
                    "slo": {"ttft": {"p95": "20 s"}, "tpot": {"p95": "200 ms"}},
                }
            ],
            "hardware": {"p": one | {"roles": ["prefill"]}, "d": one | {"roles": ["decode"]}},
            "memory": {
                "ddr5": {
                    "tier": "ddr5-rdimm",
                    "module": "64 GB",
                    "max_per_server": "1024 GB",
                    "hardware": ["d"],
                    "holds": list(holds),
                    "attached": attached,
                }
                | more
            },
            "redundancy": {"survive": redundancy},
            "options": {"max_replica_accelerators": 1, "disaggregation": "always", "gap": "2%"},
        }
    )


def complaints(asked, solution):
    return [violation.what for violation in check(asked, solution).violations]


def rewritten(solution, changes):
    data = solution.model_dump(mode="json", by_alias=True)
    for path, value in changes.items():
        here = data
        *way, last = path
        for key in way:
            here = here[key]
        here[last] = value
    return Solution.model_validate(data)


@pytest.fixture(scope="module")
def fast():
    asked = agents("450 GB/s")
    return asked, solve(asked)


def test_histories_are_read_where_they_are_kept_if_that_is_fast_enough(fast):
    """6.6 GB take 15 ms at 450 GB/s and 330 ms at 20 GB/s: too much of a step of 200 ms.

    60 of 66.6 GB·min a call wait for tools.  An H100 has room for 9 such sessions, with 1 TB of DDR5 for 146; one
    call a second keeps 59 on average.  Without them all but a few are computed anew: 3 s of an H100 each.
    """
    asked, plan = fast
    assert not complaints(asked, plan)
    pool = next(pool for pool in plan.fleet if pool.attached)
    assert (pool.role, pool.attached.holds, pool.tiers) == ("decode", "kv", ("hbm", "ddr5"))
    assert "unmeasured" in pool.calibration
    there = sum(route.calls_per_s for route in plan.routing if route.decode_pool == pool.pool)
    assert there > 0.7
    kept = sum(r.kv.kept_bytes for r in plan.routing if r.decode_pool == pool.pool and r.kv_policy == "decode")
    assert 60e9 < kept < pool.replicas * 0.95 * 16 * 64e9
    modules = 16 * pool.replicas
    assert (plan.memory[0].modules, plan.memory[0].attached_modules) == (modules, modules)
    accelerators = sum(pool.accelerators for pool in plan.fleet)
    assert plan.objective.value == pytest.approx(2 * accelerators + modules * MODULE)

    slow_problem = agents("20 GB/s")
    slow = solve(slow_problem)
    assert not complaints(slow_problem, slow)
    assert not any(pool.attached for pool in slow.fleet)
    assert not slow.memory
    assert plan.objective.value < 0.6 * slow.objective.value


def test_alterations_fail(fast):
    asked, plan = fast
    at = next(i for i, pool in enumerate(plan.fleet) if pool.attached)
    line = next(i for i, entry in enumerate(plan.purchase) if entry.kind == "module")
    cases = {
        "memory at the planning percentile": {("fleet", at, "attached"): None},
        "modules_per_accelerator": {("fleet", at, "attached", "modules_per_accelerator"): 8.0},
        "holds of ddr5": {("fleet", at, "attached", "holds"): "weights"},
        "bandwidth_bytes_per_s": {("fleet", at, "attached", "bandwidth_bytes_per_s"): 608e9},
        "attached: tier": {("fleet", at, "attached", "tier"): "hbf"},
        "modules attached to accelerators": {("purchase", line, "count"): 8},
        "attached_modules": {("memory", 0, "attached_modules"): 0.0},
    }
    for what, change in cases.items():
        assert any(what in text for text in complaints(asked, rewritten(plan, change))), what
    slower = agents("64 GB/s")
    assert any("step_limit_s" in text or "fixed point" in text for text in complaints(slower, plan))


def test_spares_have_their_modules():
    asked = agents("450 GB/s", redundancy="one-server")
    plan = solve(asked)
    assert not complaints(asked, plan)
    standing = sum(pool.replicas + pool.spares for pool in plan.fleet if pool.attached)
    assert any(pool.spares for pool in plan.fleet if pool.attached)
    assert plan.memory[0].modules == 16 * standing


def test_parked_sessions_take_the_modules_that_are_not_attached():
    """Both at once: bytes kept in the tier, and modules that accelerators have to themselves, in one row."""
    asked = agents("450 GB/s", holds=("active", "parked"), max_modules=40)
    plan = solve(asked)
    assert not complaints(asked, plan)
    found = plan.memory[0]
    free = (found.modules - found.attached_modules) * 64e9
    assert found.used_bytes <= 0.9 * free * (1 + 1e-6)
    assert found.modules <= 40


def big(bandwidth):
    """A model of 671 GB: two servers of 8 H100 hold it, or one with DIMMs beside its accelerators."""
    return Problem.from_dict(
        {
            "name": "weights",
            "models": {"big": {"card": "DeepSeek-V3.2", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "chat",
                    "rate": "0.05/s",
                    "context": 4000,
                    "output": 100,
                    "models": ["big"],
                    "slo": {"ttft": {"p95": "10 s"}, "tpot": {"p95": "60 ms"}},
                }
            ],
            "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 8}, "price": "2 $/h"}},
            "memory": {
                "ddr5": {
                    "tier": "ddr5-rdimm",
                    "max_per_server": "8 TB",
                    "holds": ["weights"],
                    "attached": {"modules": [12], "bandwidth": bandwidth},
                }
            },
            "options": {"max_replica_accelerators": 16, "disaggregation": "never", "gap": "2%"},
        }
    )


def test_weights_lie_beside_the_accelerators_if_prompts_can_wait_for_them():
    """A chunk of a prompt touches all experts: 671 GB at 8 x 450 GB/s take 0.19 s, at 8 x 64 GB/s 1.3 s.

    Prompts are rare, so the mean step is little longer than one without: 70 ms there, of 60 ms.
    """
    asked = big("450 GB/s")
    plan = solve(asked)
    assert not complaints(asked, plan)
    assert plan.fleet[0].attached.holds in ("weights", "experts")
    assert plan.totals.servers == {"h100": 1}
    assert plan.objective.value == pytest.approx(16 + 8 * 12 * MODULE)
    assert plan.fleet[0].step_time_s > 30e9 / (8 * 450e9)
    slow = solve(big("64 GB/s"))
    assert slow.totals.servers == {"h100": 2}
    assert slow.objective.value == pytest.approx(32.0)
    assert not complaints(big("64 GB/s"), slow)


def test_what_comes_after_the_plan(fast):
    asked, plan = fast
    report = simulate(asked, plan, duration_s=300.0, seed=1)
    pool = next(pool for pool in report.pools if pool.planned.bandwidth is None and pool.role == "decode")
    assert pool.power_w == pytest.approx(pool.planned_power_w, rel=0.5)
    assert 0 < pool.utilization.capacity < 1
    instance = resolve(asked)
    files = deployment(plan, instance, "vllm")
    assert "keeps its kv in 16 × ddr5 attached to each accelerator" in files["README.md"]


# ---- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attached": None}, "memory.ddr5.holds: found active without attached; expected attached: {link: nvlink-c2c"),
        ({"holds": ["parked"]}, "memory.ddr5.attached: found modules for nothing but parked KV"),
        ({"attached": {"modules": [4]}}, "memory.ddr5.attached: found neither link nor bandwidth"),
        ({"attached": {"modules": [4], "link": "nvlink9"}}, "memory.ddr5.attached.link: found 'nvlink9'"),
        ({"attached": {"modules": [32], "link": "nvlink-c2c"}}, "memory.ddr5.attached.modules.0: found 32"),
        ({"attached": {"modules": [0], "link": "nvlink-c2c"}}, "memory.ddr5.attached.modules.0: found 0"),
    ],
)
def test_words_of_attached_memory(changes, message):
    with pytest.raises(ProblemError) as error:
        resolve(agents("450 GB/s", **changes))
    assert message in str(error.value)
