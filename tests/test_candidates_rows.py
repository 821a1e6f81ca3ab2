"""Rows of columns against hand arithmetic from the performance functions, and what a prefix hit pays for."""

import numpy as np
import pytest

from codesign.candidates.build import build_candidates
from codesign.candidates.context import MEMORY_Z
from codesign.candidates.grids import Grids
from codesign.candidates.moments import prompt_moments
from codesign.candidates.step import step_chords
from codesign.performance import (
    EngineMemory,
    decode_attention_seconds,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
    kv_transfer_bytes,
    link_bytes_per_s,
    prefill_occupancy_seconds,
    prefill_seconds,
)
from codesign.performance.queueing import mean_wait, normal_quantile, poisson_mean_within, wait_exceeds
from codesign.problem import Problem, resolve
from codesign.problem.instance import Options
from codesign.solution.colocated import operate_colocated
from codesign.workload.population import answer_lengths, held_seconds, kept_probability

Z = float(normal_quantile(0.95))
GRIDS = Grids()
KNOTS = [batch for batch in GRIDS.batches if batch <= 1024]

PROBLEM = {
    "name": "rows",
    "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}, "oss": {"card": "gpt-oss-20b"}},
    "tasks": [
        {
            "name": "agent",
            "rate": "2/s",
            "calls": 4,
            "context": {"p50": 8000, "p90": 20000},
            "append": 800,
            "output": {"mean": 250},
            "tool_wait": {"mean": "20 s"},
            "prefix": {"shared": 1000, "reusable": 0.9, "ttl": "60 s"},
            "models": ["llama", "oss"],
            "slo": {"ttft": {"p95": "3 s"}, "tpot": {"p95": "60 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm"}},
    "options": {"max_replica_accelerators": 2},
}


@pytest.fixture(scope="module")
def candidates():
    return build_candidates(resolve(Problem.from_dict(PROBLEM)))


def some(candidates, role, model, residency, count=12):
    """(block, position, place of the flow, table, operating points, flow) of columns that admit a flow."""
    found = []
    for block, points in zip(candidates.data.blocks, candidates.points, strict=True):
        if points.role != role:
            continue
        for v, f in enumerate(block.flows.tolist()):
            flow = candidates.book.flows[f]
            if candidates.instance.models[flow.model].name != model or flow.residency != residency:
                continue
            for i in np.flatnonzero(block.admissible[:, v])[:: max(1, len(block) // 3)].tolist():
                table = candidates.table(int(points.configuration[i]))
                found.append((block, i, v, table, points, flow))
    assert found, (role, model, residency)
    return found[:: max(1, len(found) // count)]


def row(block, name, i, v):
    """(use, limit) of a row by name; of several the one that takes most of a flow."""
    rows = [r for r, own in enumerate(block.row_names) if own == name]
    return max((block.use.one(i)[r, v], block.limit[i, r]) for r in rows)


def mean(weight, values):
    return float(np.sum(weight * values))


def room(candidates, table, role):
    """Bytes of a replica for sessions: without the weights, and the one prefix that all sessions share."""
    options = candidates.instance.options
    free = kv_capacity_bytes(table, EngineMemory.of(options, table, role))[0]
    return free - kv_bytes(table, np.array([1000.0]))[0, 0] * table.dp[0]


def session(table, tokens):
    """Bytes of a session of its own."""
    return kv_bytes(table, tokens)[0] - kv_bytes(table, np.array([1000.0]))[0, 0]


def prompts(flow, hit):
    """(weight, context, cached, output) by hand: hits with the probability that the prefix is still there."""
    points, task = flow.calls.population, flow.calls.task
    kept = kept_probability(task, task.prefix_ttl_s) if hit else 0.0
    found = np.maximum(np.minimum(points.reusable, points.context - 1), 1000.0)
    weight = np.concatenate([points.weight * kept, points.weight * (1 - kept)])
    twice = [np.concatenate([a, a]) for a in (points.context, points.output)]
    return weight, twice[0], np.concatenate([found, np.full_like(found, 1000.0)]), twice[1]


# ---- the step curve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_tokens", [0.0, 1024.0])
@pytest.mark.parametrize("anchor", GRIDS.anchors)
def test_chords_lie_above_the_curve(candidates, anchor, prompt_tokens):
    """Dense (llama) and mixture of experts (oss), at every whole batch between the knots."""
    table = candidates.configurations.table
    chords = step_chords(table, GRIDS, 1000.0, prompt_tokens, anchor)
    batches = np.unique(np.concatenate([np.arange(1.0, 129.0), np.geomspace(129, 1024, 60)]))
    curve = decode_step_seconds(table, batches, prompt_tokens)
    lines = chords.intercept[:, :, None] + chords.slope[:, :, None] * batches
    above = lines.max(axis=1)
    # A curve that bends down between two knots may stand above their chord by a whisker.
    assert np.all(above >= curve * (1 - 2e-3))
    knots = [b for b in KNOTS if b >= anchor]
    at_knots = decode_step_seconds(table, np.array(knots), prompt_tokens)
    tight = (chords.intercept[:, :, None] + chords.slope[:, :, None] * np.array(knots)).max(axis=1)
    dense = np.array([table.cards[c].experts == 0 for c in table.card])
    assert tight[dense] == pytest.approx(at_knots[dense], rel=1e-9)
    assert tight[:, 0] == pytest.approx(at_knots[:, 0], rel=0.04)
    assert np.all(chords.slope >= 0)


# ---- decode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["decode", "prefill", "drop"])
def test_decode_rows_are_the_edges_of_a_pool_s_fixed_point(candidates, residency):
    """As many calls as a row's use allows, alone on a replica: its steps, memory or slots are at their limit."""
    for block, i, v, table, points, flow in some(candidates, "decode", "llama", residency):
        calls, limit = flow.calls.population, float(points.step_limit_s[i])
        w, o = calls.weight, calls.output
        own = decode_attention_seconds(table, calls.context + o / 2)[0]

        def at(rate, w=w, o=o, own=own, table=table, n=float(block.min_replicas[i])):
            """(mean step, its deviation) with so many calls/s."""
            t = 0.0
            for _ in range(300):
                batch = rate * mean(w, o) * t
                seen = max(batch, 1.0) if n >= 4 else batch + 1  # calls go to the emptiest of several
                t = float(decode_step_seconds(table, np.array([seen]))[0, 0]) + mean(w, o * own) / mean(w, o) * seen
            more = seen + np.sqrt(batch)
            rise = np.diff(decode_step_seconds(table, np.array([seen, more]))[0])[0] / (more - seen)
            swing = 1 / (1 - min(batch * rise / t + rate * mean(w, o * own), 0.95)) / n
            swing = max(swing, min(batch, 1.0) if n >= 4 else 1.0)
            return t, float(np.sqrt(swing * t * rate * mean(w, o * (rise + own) ** 2)))

        rates = {name: 1 / row(block, name, i, v)[0] for name in ("time", "slots", "capacity")}
        step, deviation = at(rates["time"])
        assert 0.97 * limit <= step + Z * deviation <= limit * (1 + 1e-6)
        slots = float(poisson_mean_within(1024))
        assert 0.9 * slots <= rates["slots"] * mean(w, o) * at(rates["slots"])[0] <= slots * (1 + 1e-6)
        end = session(table, calls.context + o)
        seconds = o * at(rates["capacity"])[0]
        seconds = seconds + (held_seconds(flow.calls.task, 60.0)[0] if residency == "decode" else 0.0)
        taken = rates["capacity"] * mean(w, seconds * end)
        taken += MEMORY_Z * np.sqrt(rates["capacity"] * mean(w, seconds * end**2))
        if rates["capacity"] < 0.9 * rates["slots"]:
            assert 0.97 * room(candidates, table, "decode") <= taken <= room(candidates, table, "decode") * (1 + 1e-6)


# ---- prefill -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["decode", "prefill", "drop"])
def test_prefill_rows_by_hand(candidates, residency):
    for block, i, v, table, _, flow in some(candidates, "prefill", "llama", residency):
        w, context, cached, o = prompts(flow, hit=residency != "drop")
        busy = prefill_occupancy_seconds(table, np.maximum(context - cached, 1), cached)[0]
        assert row(block, "busy", i, v) == pytest.approx((mean(w, busy), candidates.instance.options.max_utilization))
        use, limit = row(block, "ttft", i, v)
        rho, n = limit / use * mean(w, busy), float(block.min_replicas[i])
        rest = prefill_seconds(table, np.maximum(context - cached, 1), cached)[0] + flow.transfer_seconds(
            *(bytes_of(flow, table, context, cached, residency))
        )

        def late(rho, w=w, busy=busy, rest=rest, n=n, flow=flow):
            """P(TTFT > 3 s) of the flow alone at a utilisation."""
            wait = mean_wait(n * rho, n * rho * mean(w, busy**2) / mean(w, busy), n)
            return mean(w, wait_exceeds(3.0 - flow.admission.of(3.0) - rest, wait, rho, n))

        assert late(min(rho, 0.999)) <= 0.05 + 1e-9
        if len(block.flows[block.admissible[i]]) == 1 and rho < 0.92:
            assert late(1.01 * rho) > 0.05
        moved, there, shared = (kv_transfer_bytes(table, x)[0] for x in (context, cached, np.full(len(o), 1e3)))
        back = kv_transfer_bytes(table, context + o)[0] - moved
        send = moved - (there if residency == "decode" else shared)
        sent = mean(w, send)
        arriving = {"decode": mean(w, there - shared), "prefill": mean(w, back), "drop": 0.0}[residency]
        use, limit = row(block, "link", i, v)
        assert use == pytest.approx(max(sent, arriving))
        assert limit == pytest.approx(link_bytes_per_s(table)[0])
        assert limit >= flow.fabric_bytes_per_s
        seconds = prefill_seconds(table, np.maximum(context - cached, 1), cached)[0]
        end = session(table, context + o)
        held = held_seconds(flow.calls.task, 60.0)[0] if residency == "prefill" else 0.0
        reload = there - shared if residency == "decode" else 0.0
        present = seconds + (reload + send) / flow.fabric_bytes_per_s
        if residency == "prefill":  # the session's KV waits here for the answer
            present = present + o * flow.tpot_level_s
        use, limit = row(block, "capacity", i, v)
        calls = limit / use
        filled = mean(w, present * session(table, context)) + held * mean(w, end)
        square = mean(w, present * session(table, context) ** 2) + held * mean(w, end**2)
        assert 0.8 * room(candidates, table, "prefill") <= calls * filled + MEMORY_Z * np.sqrt(calls * square)
        assert calls * filled + MEMORY_Z * np.sqrt(calls * square) <= room(candidates, table, "prefill") * (1 + 1e-9)


def bytes_of(flow, table, context, cached, residency):
    """(bytes that a prompt reads back, bytes that it sends) [J]."""
    moved, there, shared = (kv_transfer_bytes(table, x)[0] for x in (context, cached, np.full(len(context), 1e3)))
    kept = residency == "decode"
    return (there - shared if kept else np.zeros_like(there)), moved - (there if kept else shared)


def test_columns_keep_the_ttft_of_the_flows_that_they_admit(candidates):
    """Of mixes of the flows that a column admits, as many calls as its rows allow: each keeps its own TTFT."""
    rng = np.random.default_rng(0)
    for block, i, _, table, _, _ in some(candidates, "prefill", "llama", "drop", count=12):
        served = np.flatnonzero(block.admissible[i])
        use, limit = block.use.one(i)[:2, served], block.limit[i, :2]
        flows = [candidates.book.flows[f] for f in block.flows[served]]
        n = float(block.min_replicas[i])
        moments = [prompt_moments(table, flow.calls, flow.residency) for flow in flows]
        busy, square = (np.array([getattr(m, word)[0] for m in moments]) for word in ("busy", "busy_square"))
        for mix in rng.dirichlet(np.full(len(served), 0.3), 20):
            calls = mix * np.min(limit / (use @ mix))
            rho, wait = calls @ busy, mean_wait(n * calls @ busy, n * calls @ square, n)
            for flow, m in zip(flows, moments, strict=True):
                rest = m.seconds[0] + flow.transfer_seconds(m.reload[0], m.send[0])
                for percentile, target in flow.calls.task.ttft_slo:
                    left = target - flow.admission.of(target) - rest
                    assert m.weight @ wait_exceeds(left, wait, rho, n) <= 1 - percentile + 1e-9


# ---- colocated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["colocated", "drop"])
def test_colocated_rows_are_the_edges_of_the_accounts(candidates, residency):
    """As many calls as a row's use allows, alone on replicas: their promise, memory or queue is at its limit."""
    for block, i, v, table, points, flow in some(candidates, "colocated", "llama", residency):
        if not row(block, "tpot", i, v)[0]:
            continue  # one through mixes, whose rows are others
        served = block.flows[block.admissible[i]].tolist()
        shared = {candidates.book.flows[f].calls.task.name: candidates.book.flows[f].calls.shared for f in served}
        prefixes = sum(kv_bytes(table, np.array([tokens]))[0, 0] for tokens in shared.values())
        free = kv_capacity_bytes(table, EngineMemory.of(Options(), table, "colocated", points.chunk[i]))[0] - prefixes
        kept = {"tpot": [], "ttft": []}
        for name in ("busy", "capacity", "tpot", "ttft"):
            n, chunk = int(block.min_replicas[i]), float(points.chunk[i])
            pool = operate_colocated(table, ((flow, n / row(block, name, i, v)[0]),), n, chunk)
            if name == "busy":
                assert pool.utilization <= 0.93
                more = operate_colocated(table, ((flow, 1.15 * n / row(block, name, i, v)[0]),), n, chunk)
                assert more.utilization > 0.93 or more.batch > 1.3 * pool.batch
            elif name == "capacity":
                full = row(block, name, i, v)[0] > max(row(block, other, i, v)[0] for other in ("slots", "busy"))
                assert 0.8 * full * free <= held(table, flow, pool, residency) <= free * (1 + 1e-6)
            for task in {candidates.book.flows[f].calls.task for f in served} if name in kept else ():
                for percentile, target in getattr(task, f"{name}_slo"):
                    kept[name].append(late(name, table, flow, task, pool)(target) / (1 - percentile))
        for shares in kept.values():
            assert max(shares, default=1.0) <= 1.0 + 1e-6


def held(table, flow, pool, residency):
    """Bytes that the calls of a colocated replica hold, and that they exceed seldom."""
    calls, rate = flow.calls.population, float(pool.replica.rates[0][0, 0]) / pool.met
    w, context, cached, _ = prompts(flow, hit=residency == "colocated")
    end = session(table, calls.context + calls.output)
    computed = np.ceil((context - cached) / pool.chunk) * pool.full_step_s
    seconds = [calls.weight * pool.decode_seconds(table, flow), w * computed]
    kept = held_seconds(flow.calls.task, 60.0)[0] if residency == "colocated" else 0.0
    seconds.append(calls.weight * kept)
    bytes_ = [end, session(table, context), end]
    moments = [rate * sum(float(s @ b**n) for s, b in zip(seconds, bytes_, strict=True)) for n in (1, 2)]
    return moments[0] + MEMORY_Z * np.sqrt(moments[1])


def late(name, table, flow, task, pool):
    if name == "ttft":
        return pool.ttft_tail(table, flow, np.zeros(1))
    return pool.tpot_tail(table, flow, answer_lengths(task, flow.calls.population))


# ---- commodities: no free lunch ----------------------------------------------------------------------------


def test_both_phases_of_a_commodity_say_the_same(candidates):
    numbers, flows = candidates.data.flows, candidates.book.flows
    for commodity in range(len(candidates.data.commodities)):
        pair = [f for f, number in enumerate(numbers) if number.commodity == commodity]
        assert [flows[f].phase for f in pair] == ["prefill", "decode"]
        assert [numbers[f].commodity_sign for f in pair] == [-1, 1]
        assert [numbers[f].serves for f in pair] == [True, False]
        words = ("calls", "model", "kv", "residency", "vendor", "fabric_bytes_per_s", "ttft_level_s")
        assert all(getattr(flows[pair[0]], word) == getattr(flows[pair[1]], word) for word in words)
        assert flows[pair[0]].tpot_level_s == flows[pair[1]].tpot_level_s


def uses(candidates, role, residency, name):
    """[columns, flows] use of a row by the flows of a residency, over all blocks of a role."""
    found = []
    for block, points in zip(candidates.data.blocks, candidates.points, strict=True):
        if points.role == role:
            members = [v for v, f in enumerate(block.flows) if candidates.book.flows[f].residency == residency]
            use = block.use.of(slice(None))[:, block.row_names.index(name)]
            found.append(use[:, members].ravel())
    return np.concatenate(found)


PAYS = {
    "decode": ("decode", "capacity"),
    "prefill": ("prefill", "capacity"),
    "colocated": ("colocated", "capacity"),
}


@pytest.mark.parametrize("residency", PAYS)
def test_who_counts_a_hit_keeps_the_bytes(candidates, residency):
    """Fewer prompt tokens than `drop`, and more bytes held where the policy says, on every column."""
    works = "colocated" if residency == "colocated" else "prefill"
    role, name = PAYS[residency]
    compared = [(works, "drop", works, "busy")]
    if role != "colocated":  # there what is held while a call runs is more as well where steps are longer
        compared.append((role, residency, role, name))
    for more, less, of, what in compared:
        other = residency if less == "drop" else "drop"
        high, low = uses(candidates, more, less, what), uses(candidates, of, other, what)
        both = (high > 0) & (low > 0)  # not every column admits both
        assert both.any()
        assert np.all(high[both] > low[both])


def test_a_prefix_kept_at_decode_crosses_the_link_twice(candidates):
    """Prefill reads it and sends back the new tokens alone; a call that drops its prefix sends everything."""
    points = next(iter(candidates.calls[0])).prefill_points("decode")
    kept = mean(points.weight, points.cached) - 1000.0
    everything = mean(points.weight, points.context) - 1000.0
    link, whole = (uses(candidates, "prefill", r, "link") for r in ("decode", "drop"))
    assert link == pytest.approx(whole * max(kept, everything - kept) / everything, rel=0.02)


def test_nothing_kept_hits_nothing():
    forgetful = Problem.from_dict(PROBLEM).replace({"tasks.agent.prefix.ttl": "1 ns"})
    found = build_candidates(resolve(forgetful))
    assert {flow.residency for flow in found.book.flows} == {"drop"}


def test_a_task_without_reuse_has_no_choice():
    fresh = Problem.from_dict(PROBLEM).replace({"tasks.agent.prefix.reusable": 0})
    found = build_candidates(resolve(fresh))
    assert {flow.residency for flow in found.book.flows} == {"drop"}
