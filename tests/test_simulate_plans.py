"""`simulate` on plans: the reference solutions hold, thin ones do not, and it says why; the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign import load_problem, load_solution, simulate
from codesign.cli import app
from codesign.planner import solve
from codesign.problem import Problem
from codesign.problem.sessions import read_trace_requests
from codesign.simulate import Arrivals, Failure, Replay, SimulationError, server_lost

AZURE = ("problems/azure-chat.yaml", "solutions/azure-chat.json")
FLEET = ("problems/agent-fleet.yaml", "solutions/agent-fleet.json")


@cache
def plan(files):
    return load_problem(files[0]), load_solution(files[1])


@cache
def azure(seed=0):
    return simulate(*plan(AZURE), duration_s=300.0, seed=seed)


@cache
def fleet_of_8_seconds():
    return simulate(*plan(FLEET), duration_s=8.0)


def changed(solution, pool, **fields):
    """A solution with other fields in one pool, counts of accelerators kept true."""
    fleet = []
    for entry in solution.fleet:
        if entry.pool == pool:
            size = entry.accelerators // (entry.replicas + entry.spares)
            entry = entry.model_copy(update=fields)
            entry = entry.model_copy(update={"accelerators": size * (entry.replicas + entry.spares)})
        fleet.append(entry)
    return solution.model_copy(update={"fleet": tuple(fleet)})


def prefill_of(solution):
    return next(pool for pool in solution.fleet if pool.role == "prefill")


def test_the_reference_plan_holds_and_is_near_what_was_planned():
    report = azure()
    assert report.ok
    (chat,) = report.tasks
    assert chat.completed == pytest.approx(chat.offered, rel=0.05)
    for slo in chat.slo:
        assert slo.simulated == pytest.approx(slo.planned, rel=0.25)
        assert slo.low <= slo.simulated <= slo.high
    assert sum(vars(chat.parts).values()) == pytest.approx(chat.ttft.p50, rel=0.5)
    for pool in report.pools:
        assert pool.power_w == pytest.approx(pool.planned_power_w, rel=0.1)


def test_a_tenth_of_the_replicas_less_fails_and_names_the_pool():
    problem, solution = plan(AZURE)
    pool = prefill_of(solution)
    thin = changed(solution, pool.pool, replicas=int(0.9 * pool.replicas))
    report = simulate(problem, thin, duration_s=90.0)
    assert not report.ok
    broken = [slo for slo in report.tasks[0].slo if not slo.ok]
    assert {slo.metric for slo in broken} == {"ttft"}
    assert {(slo.suspect.pool, slo.suspect.resource) for slo in broken} == {(pool.pool, "compute")}
    assert "wait" in broken[0].suspect.reason
    saturated = {found.resource for entry in report.pools if entry.pool == pool.pool for found in entry.saturated}
    assert "busy" in saturated


def test_same_seed_same_result_in_another_process():
    code = (
        "from codesign import load_problem, load_solution, simulate\n"
        f"report = simulate(load_problem({AZURE[0]!r}), load_solution({AZURE[1]!r}), duration_s=300.0)\n"
        "print(report.to_json(), end='')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout == azure().to_json()
    assert azure(1).tasks != azure().tasks


@pytest.mark.parametrize("threads", ["1", "2"])
def test_same_seed_same_result_whatever_the_threads_of_a_library(threads):
    """Products of vectors of 10,000 elements, as many as calls are drawn, differ in their last bits by them."""
    code = (
        "from codesign import load_problem, load_solution, simulate\n"
        f"report = simulate(load_problem({FLEET[0]!r}), load_solution({FLEET[1]!r}), duration_s=8.0)\n"
        "print(report.to_json(), end='')"
    )
    env = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert said == fleet_of_8_seconds().to_json()


def test_parts_of_the_fleet_in_processes_give_the_same():
    problem, solution = plan(FLEET)
    apart = simulate(problem, solution, duration_s=8.0, workers=2)
    heard = []
    together = simulate(problem, solution, duration_s=8.0, workers=1, progress=heard.append)
    assert apart.to_json() == together.to_json()
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1.0)


def test_bursts_make_prompts_wait():
    bursty = simulate(*plan(AZURE), duration_s=90.0, arrivals=Arrivals(4.0))
    assert bursty.arrivals == "gamma arrivals of CV 4"
    assert bursty.tasks[0].parts.wait > 2 * azure().tasks[0].parts.wait


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Two sessions of two calls and one of a single call, ten seconds apart."""
    path = tmp_path_factory.mktemp("trace") / "sessions.csv"
    path.write_text(
        "session,timestamp_s,approx_in_tokens,approx_out_tokens,approx_prefix_shared_tokens\n"
        "a,0,1000,50,0\nb,10,2000,60,0\na,14,1500,20,1000\nc,20,3000,70,0\nb,400,2500,80,2000\n"
    )
    return path


def test_a_trace_is_replayed_at_the_plan_s_rate_with_its_lengths_and_gaps(trace):
    replay = Replay(read_trace_requests(trace))
    times, sessions = replay.starts(10.0, 600.0, np.random.default_rng(0))
    # 10 calls/s of 5/3 calls a session, in the trace's order.
    assert times.size == pytest.approx(600 * 10 * 3 / 5, abs=3)
    assert np.all(np.diff(times) >= 0)
    assert np.all(np.diff(sessions[:30]) % 3 == 1)
    given = replay.workload(np.array([0.0, 1.0, 2.0]), np.array([0, 1, 2]), 2.0, 2400.0, 300.0, 1000.0)
    calls = given.calls
    assert calls.session.tolist() == [0, 0, 1, 1, 2]
    assert calls.context.tolist() == [1000, 1500, 2000, 2400, 2400]
    assert calls.reusable.tolist() == [0, 1000, 0, 2000, 0]
    assert calls.gap_s.tolist() == [12, 0, 388, 0, 0]  # the expected latency is taken off
    assert calls.in_time.tolist()[1::2] == [True, False]  # one gap is longer than the time-to-live
    assert not given.parked.session.size


def test_the_measured_trace_bursts_more_than_poisson():
    path = os.environ.get("CODESIGN_DATA")
    if not path:
        pytest.skip("CODESIGN_DATA is not set")
    replay = Replay(read_trace_requests(Path(path) / "measured" / "azure2023_conv.csv.gz"))
    report = simulate(*plan(AZURE), duration_s=300.0, arrivals=Arrivals(traces={"chat": replay}))
    assert report.arrivals == "Poisson arrivals, chat from a trace"
    chat = report.tasks[0]
    planned = simulate(*plan(AZURE), duration_s=300.0).tasks[0]
    assert chat.parts.prefill == pytest.approx(planned.parts.prefill, rel=0.15)
    assert chat.parts.wait > planned.parts.wait


def test_a_lost_server_is_borne_by_spares_only():
    problem, solution = plan(AZURE)
    pool = prefill_of(solution)
    lost = server_lost(problem, solution, pool.pool, 45.0)
    assert lost == Failure(pool.pool, 45.0, 8)
    bare = simulate(problem, solution, duration_s=300.0, failures=[lost])
    assert not bare.ok
    assert "lost at 45 s" in bare.failure
    spared = simulate(problem, changed(solution, pool.pool, spares=8), duration_s=300.0, failures=[lost])
    assert spared.ok
    assert spared.calls == pytest.approx(azure().calls, rel=0.02)


def test_what_cannot_be_simulated_is_said():
    problem, solution = plan(AZURE)
    with pytest.raises(SimulationError, match="duration"):
        simulate(problem, solution, duration_s=0.0)
    with pytest.raises(SimulationError, match="no pool 'nowhere'"):
        simulate(problem, solution, failures=[Failure("nowhere", 1.0, 1)])
    with pytest.raises(SimulationError, match="within 10 s"):
        simulate(problem, solution, duration_s=10.0, failures=[Failure(prefill_of(solution).pool, 20.0, 1)])
    with pytest.raises(SimulationError, match="does not fit"):
        simulate(load_problem(FLEET[0]), solution)
    with pytest.raises(SimulationError, match="status infeasible"):
        simulate(load_problem("problems/infeasible.yaml"), load_solution("solutions/infeasible.json"))


def test_a_measured_pool_is_a_queue_of_its_measured_rates():
    """One replica, tasks of 1/20 s at 14/s: M/D/1 at 70 %, mean wait ρ·S/(2(1−ρ)) = 58 ms."""
    pool = {"name": "box", "accelerator": "GPU", "accelerators_per_replica": 1, "cost": "1 $/h"}
    pool["max_rate"] = {"t": "20/s"}
    problem = Problem.from_dict({"name": "m", "tasks": [{"name": "t", "rate": "14/s"}], "measured_pools": [pool]})
    solution = solve(problem)
    waits = []
    for seed in range(8):
        report = simulate(problem, solution, duration_s=600.0, seed=seed)
        ((task,), (found,)) = report.tasks, report.pools
        waits.append(task.parts.wait)
        assert found.utilization.busy == pytest.approx(0.7, rel=0.06)
        assert found.planned.busy == pytest.approx(0.7)
        assert task.completed == pytest.approx(14.0, rel=0.06)
    assert np.mean(waits) == pytest.approx(0.05 * 0.7 / 0.6, rel=0.06)
    assert report.ok
    assert task.ttft.p95 is None
    assert "no SLO is judged" in report.notes[0]


def test_every_task_of_measured_pools_is_served():
    problem, solution = plan(("problems/inferno-small.yaml", "solutions/inferno-small.json"))
    report = simulate(problem, solution, duration_s=300.0)
    assert {task.name for task in report.tasks} == {task.name for task in problem.tasks}
    for task in report.tasks:
        assert task.completed == pytest.approx(task.offered, rel=0.35)
    for found in report.pools:
        assert found.role == "serve"
        assert found.utilization.busy == pytest.approx(found.planned.busy, rel=0.2)


def test_each_period_is_simulated_by_itself():
    problem, solution = plan(("problems/day-night.yaml", "solutions/day-night.json"))
    report = simulate(problem, solution, duration_s=5.0)
    assert [(task.stage, task.name) for task in report.tasks] == [
        (stage, task) for stage in ("day", "night") for task in ("chat", "reports")
    ]
    assert {pool.stage for pool in report.pools} == {"day", "night"}
    offered = {(task.stage, task.name): task.offered for task in report.tasks}
    assert offered["day", "chat"] == pytest.approx(5 * offered["night", "chat"])
    night = simulate(problem, solution, duration_s=5.0, stage="night")
    assert night.tasks == tuple(task for task in report.tasks if task.stage == "night")
    assert night.pools == tuple(pool for pool in report.pools if pool.stage == "night")
    with pytest.raises(SimulationError, match="expected one of day, night"):
        simulate(problem, solution, stage="dawn")
    lost = server_lost(problem, solution, "night/h100-small-colocated-1", 2.0)
    again = simulate(problem, solution, duration_s=5.0, stage="night", failures=[lost])
    assert again.failure == "1 of night/h100-small-colocated-1 lost at 2 s"


# ---- the command


def test_command_in_json_has_the_agreed_fields():
    found = CliRunner().invoke(app, ["simulate", *AZURE, "--duration", "30s", "--workers", "1", "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["ok"] is True
    (task,) = document["tasks"]
    assert {"name", "slo", "goodput"} <= task.keys()
    assert {"metric", "percentile", "target", "simulated"} <= task["slo"][0].keys()
    assert {"pool", "utilization", "energy_j"} <= document["pools"][0].keys()


def test_command_shows_the_verdict_and_exits_5_when_a_promise_breaks(tmp_path):
    _, solution = plan(AZURE)
    pool = prefill_of(solution)
    path = tmp_path / "thin.json"
    changed(solution, pool.pool, replicas=int(0.85 * pool.replicas)).write(path)
    found = CliRunner().invoke(app, ["simulate", AZURE[0], str(path), "--duration", "60s", "--workers", "1"])
    assert found.exit_code == 5
    assert f"{pool.pool} lacks compute" in found.stdout
    assert "Where a TTFT goes" in found.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fail", "nowhere@1s"], "found no pool 'nowhere'"),
        (["--fail", "nowhere"], "expected a pool and a time"),
        (["--duration", "soon"], "--duration: found"),
        (["--burstiness", "1000"], "coefficient of variation"),
        (["--trace", "chat"], "expected a task and a file"),
        (["--trace", "chats=here.csv"], "found no task 'chats'"),
        (["--trace", "chat=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_command_refuses_bad_input(options, message):
    found = CliRunner().invoke(app, ["simulate", *AZURE, *options])
    assert found.exit_code == 2
    assert message in found.stderr
