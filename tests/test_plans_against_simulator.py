"""`scripts/plans_against_simulator.py`: settings by seed, the least count of a stub that knows it, and its tables."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codesign.problem import Problem, resolve

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "plans_against_simulator.py"
spec = importlib.util.spec_from_file_location("plans_against_simulator", SCRIPT)
script = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = script  # dataclasses look their module up
spec.loader.exec_module(script)


class Known:
    """Runs of a pool whose least count is known, by seed."""

    def __init__(self, *needed):
        self.needed = dict(zip(script.SEEDS, needed, strict=True))
        self.runs = []

    def __call__(self, count, seed):
        self.runs.append((count, seed))
        return count >= self.needed[seed]


@pytest.mark.parametrize("needed", [1, 2, 7, 19, 24, 25, 32, 60])
@pytest.mark.parametrize("start", [1, 2, 24, 32])
def test_bisection_finds_the_least_count(start, needed):
    runs = Known(needed, needed, needed)
    assert script.least(start, runs, 64) == needed
    assert len(runs.runs) < 30


@pytest.mark.parametrize(
    ("needed", "found"), [((10, 12, 12), 12), ((10, 10, 14), 10), ((12, 9, 9), 9), ((12, 9, 11), 11), ((9, 10, 11), 10)]
)
def test_most_seeds_decide_at_the_end(needed, found):
    assert script.least(11, Known(*needed), 40) == found


def test_no_count_that_holds_is_said():
    assert script.least(5, Known(21, 21, 21), 20) is None
    assert script.least(20, Known(20, 21, 21), 20) is None
    assert script.least(1, Known(1, 1, 1), 1) == 1


def test_same_seed_same_settings():
    drawn = [script.draw(3, number) for number in range(12)]
    code = f"import json, sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import plans_against_simulator as script; "
    code += "print(json.dumps([str(script.draw(3, n)) + str(script.draw(3, n).replicas) for n in range(12)]))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(other.stdout) == [f"{setting}{setting.replicas}" for setting in drawn]
    assert len({str(setting) for setting in drawn}) == 12
    assert script.draw(3, 0, 1) != drawn[0] != script.draw(4, 0)
    assert [setting.role for setting in drawn[:2]] == ["colocated", "disaggregated"]


def test_settings_are_problem_files():
    for number in range(20):
        setting = script.draw(5, number)
        instance = resolve(Problem.from_dict(setting.document(2.5)))
        assert instance.tasks[0].ttft_slo[0][1] == pytest.approx(setting.ttft[1])
        assert instance.tasks[0].tpot_slo[0][1] == pytest.approx(setting.tpot[1])
        assert 2 <= setting.replicas <= 30


def pool(role, replicas):
    from codesign.solution.schema import Pool, Utilization

    return Pool(
        pool=role, group="g", period="all", role=role, hardware="h", accelerator="h100-sxm", model="m", precision=None,
        parallelism=None, batch=None, prefill_chunk=None, step_limit_s=None, step_time_s=None, replicas=replicas,
        accelerators=2 * replicas, cost_per_hour=0.0, power_w=0.0, utilization=Utilization(), binding="busy",
        calibration="", expected_error=None,
    )  # fmt: skip


class Fleet:
    """A simulator that holds with so many replicas of each pool, and finishes half of the calls that it was given."""

    def __init__(self, *needed):
        self.needed, self.seconds, self.behind = needed, [], 0

    def __call__(self, problem, plan, *, duration_s, seed):
        self.seconds.append(duration_s)
        counts = [pool.replicas for pool in plan.fleet]
        assert [pool.accelerators for pool in plan.fleet] == [2 * count for count in counts]
        ok = all(count >= least for count, least in zip(counts, self.needed, strict=True))
        behind = 0.8 if min(counts) <= self.behind else 1.0
        task = SimpleNamespace(calls=round(4.0 * duration_s / 2), offered=4.0, completed=behind * 4.0)
        return SimpleNamespace(ok=ok, tasks=[task])


def trials(fleet, needed):
    from codesign import load_solution

    plan = load_solution(ROOT / "solutions" / "azure-chat.json")
    route = plan.routing[0].model_copy(update={"calls_per_s": 4.0})
    plan = plan.model_copy(update={"fleet": tuple(fleet), "routing": (route,)})
    return script.Trials(script.draw(1, 0), None, plan, 2000, Fleet(*needed))


@pytest.mark.parametrize(
    ("counts", "needed", "found"),
    [((10, 8), (7, 8), (7, 8)), ((10, 8), (10, 2), (10, 2)), ((10, 8), (3, 3), (3, 3)), ((10, 8), (11, 4), (11, 4))],
)
def test_both_pools_of_a_disaggregated_plan_are_made_smaller(counts, needed, found):
    both = trials([pool("prefill", counts[0]), pool("decode", counts[1])], needed)
    assert both.least() == found


def test_a_colocated_plan_and_one_that_nothing_saves():
    assert trials([pool("colocated", 12)], [9]).least() == (9,)
    assert trials([pool("colocated", 3)], [5]).least() == (5,)
    assert trials([pool("colocated", 3)], [13]).least() is None
    assert trials([pool("prefill", 2), pool("decode", 2)], [9, 1]).least() is None


def test_a_queue_that_grows_without_end_does_not_hold():
    one = trials([pool("colocated", 12)], [5])
    one.run.behind = 7
    assert one.least() == (8,)


def test_a_run_goes_on_until_its_calls_are_counted_and_is_kept():
    one = trials([pool("colocated", 4)], [4])
    assert one.report((4,), 11).tasks[0].calls >= 2000
    assert one.run.seconds == sorted(one.run.seconds)
    assert len(one.run.seconds) > 1
    before = len(one.run.seconds)
    assert one.holds((4,), 11)
    assert len(one.run.seconds) == before


def result(role, planned, least, holds=(True, True, True)):
    slo = {"metric": "tpot", "percentile": 0.95, "target": 0.02, "planned": 0.0185, "simulated": 0.0191, "low": 0.019,
           "high": 0.0192, "ok": all(holds)}  # fmt: skip
    run = {"slo": [slo], "ok": all(holds)}
    return {
        "setting": {"role": role, "words": f"{role}, a model on a part"}, "passed": ["infeasible"], "rate": "2/s",
        "pools": [{"prefill_chunk": None, "batch": 8.0}], "planned": planned, "least": least, "runs": 7,
        "headroom": 0.1, "ratio": least and sum(planned) / sum(least),
        "holds": dict(zip(map(str, script.SEEDS), holds, strict=True)),
        "own": {str(seed): run for seed in script.SEEDS}, "at_least": least and run, "seconds": 2.0,
        "problem": {"kind": "procurement"},
    }  # fmt: skip


def test_the_table_names_what_fails_and_what_is_too_large(tmp_path, monkeypatch, capsys):
    done = {
        "0": result("colocated", [10], [9]),
        "1": result("disaggregated", [8, 4], [6, 2]),
        "2": result("colocated", [4], [5], (True, False, True)),
        "3": result("colocated", [2], None, (False, False, False)),
    }
    asked = {"settings": 5, "seed": 1, "calls": 4000}
    text = script.table({"asked": asked, "done": done})
    assert "| colocated | 3 | 1.11 | 1.11 | 1.11 | 0 | 0 | 2 | 1 |" in text
    assert "| disaggregated | 1 | 1.50 | 1.50 | 1.50 | 1 | 1 | 0 | 0 |" in text
    assert (
        "**2** colocated, a model on a part, 2/s: planned 4 (3.6 by its rows), least 5, ratio 0.80. In 1 of 3" in text
    )
    assert "TPOT p95 promised 0.02, planned 0.0185, simulated 0.0191 (0.019–0.0192)" in text
    assert "**1** disaggregated, a model on a part, 2/s: planned 8+4, least 6+2, ratio 1.50." in text
    assert "Not even four times the plan holds: 3." in text
    script.write(tmp_path, {"asked": asked, "done": done})
    assert json.loads((tmp_path / "table.json").read_text()) == {"asked": asked, "done": done}
    # What is done is not done again; another run is refused.
    seen = []

    def tried(seed, number, calls):
        seen.append((seed, number, calls))
        return result("colocated", [6], [6])

    monkeypatch.setattr(script, "tried", tried)
    words = ["script", "--resume", str(tmp_path), "--settings", "5"]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    script.main()
    assert seen == [(1, 4, 4000)]
    assert "| all | 5 |" in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(sys, "argv", [*words, "--file", "2"])
    capsys.readouterr()
    script.main()
    assert json.loads(capsys.readouterr().out) == {"kind": "procurement"}
    monkeypatch.setattr(sys, "argv", [*words, "--seed", "2"])
    with pytest.raises(SystemExit, match="another run"):
        script.main()


def test_a_small_setting_is_planned_and_tried(monkeypatch):
    """With the true planner and simulator, and few calls."""
    setting = script.Setting(
        role="colocated", model="Llama-3.1-8B", weights="fp8", part="l40s", size=1, context=(1000, 1000),
        output=(40, 40), ttft=("p95", 1.0), tpot=("p95", 0.04), replicas=3.0,
    )  # fmt: skip
    monkeypatch.setattr(script, "draw", lambda seed, number, attempt: setting)
    found = script.tried(1, 0, 2000)
    assert found["planned"] in ([2], (2,), (3,), (4,))
    assert 1 <= found["least"][0] <= found["planned"][0] + 1
    assert math.isclose(found["ratio"], found["planned"][0] / found["least"][0])
    assert all(run["calls"] >= 2000 for run in found["own"].values())
