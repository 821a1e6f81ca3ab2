"""The planning scripts that people copy: each run as they would run it, on a small problem."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from studies import modelled

from codesign import load_solution

ROOT = Path(__file__).parents[1]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "problem.yaml"
    path.write_text(json.dumps(modelled()._document.data))
    return str(path)


def write(path, rows):
    with path.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return str(path)


def trace(path, per_second):
    head = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
    rows = [
        [f"2026-11-01 00:{s // 60:02d}:{s % 60:02d}.{i:03d}0000", 900 + 7 * i, 150 + 3 * i]
        for s in range(120)
        for i in range(per_second)
    ]
    return write(path, [head, *rows])


def test_replanning_keeps_most_of_last_nights_fleet(file, tmp_path, capsys):
    run = script("replan_nightly").main
    first, second = tmp_path / "mon.json", tmp_path / "tue.json"
    assert run([file, trace(tmp_path / "mon.csv", 12), "--task", "chat", "-o", str(first)]) == 0
    words = [file, trace(tmp_path / "tue.csv", 3), "--task", "chat", "--last", str(first), "-o", str(second)]
    assert run([*words, "--churn", "0%"]) == 0
    monday, tuesday = load_solution(first).totals, load_solution(second).totals
    assert sum(tuesday.servers.values()) >= sum(monday.servers.values())  # less demand, yet nothing may go
    assert tuesday.cost_per_hour == pytest.approx(monday.cost_per_hour, rel=1e-6)
    assert run([*words, "--churn", "100%"]) == 0
    assert load_solution(second).totals.cost_per_hour < monday.cost_per_hour
    assert "last night" in capsys.readouterr().out
    assert run([file, str(tmp_path / "none.csv"), "--task", "chat", "-o", str(second)]) == 2


def test_price_lists_change_the_plan(file, tmp_path, capsys):
    rows = [["list", "hardware", "usd_per_hour"], ["spring", "l40s", "4"], ["sale", "h100", "0.5"]]
    assert script("compare_price_lists").main([file, write(tmp_path / "p.csv", rows), "-o", str(tmp_path / "o")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["as it stands", "spring", "sale"]
    assert "l40s" in lines[0]
    assert "h100-sxm" in lines[2]
    assert (tmp_path / "o" / "runs.csv").is_file()
    assert script("compare_price_lists").main([file, write(tmp_path / "q.csv", [["a"], ["b"]])]) == 2


def test_growth_orders_each_quarter(file, tmp_path, capsys):
    table = tmp_path / "orders.csv"
    assert script("plan_growth").main([file, "--growth", "60%", "--quarters", "4", "-o", str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    costs = [float(line.split()[1].replace(",", "")) for line in lines]
    assert costs == sorted(costs)
    with table.open() as orders:
        rows = list(csv.DictReader(orders))
    assert {row["quarter"] for row in rows} >= {"1"}
    spent = sum(int(row["accelerators"]) * float(row["usd_per_accelerator_hour"]) for row in rows)
    assert spent == pytest.approx(costs[-1], rel=1e-3)  # nothing that was ordered ever goes


def test_counters_become_a_load_by_hand(file, tmp_path, capsys):
    module = script("plan_from_metrics")
    rows = [["timestamp", "metric", "task", "value"]]
    for i, requests in enumerate((0, 60, 180, 240)):  # 1/s, 2/s, 1/s
        rows.append([60 * i, "vllm:request_success_total", "chat", requests])
        rows.append([60 * i, "vllm:prompt_tokens_total", "chat", requests * 900])
        rows.append([60 * i, "vllm:generation_tokens_total", "chat", requests * 150])
    rows.append([240, "vllm:request_success_total", "chat", 30])  # restarted: 30 more, not 210 fewer
    from codesign import load_problem

    metrics = write(tmp_path / "m.csv", rows)
    found = module.loaded(load_problem(file), Path(metrics), 100.0)
    task = found.tasks[0]
    assert task.rate.value == pytest.approx(2.0)
    assert module.increases(Path(metrics))["chat"]["request_success_total"][240.0] == 30.0
    assert module.main([file, metrics, "-o", str(tmp_path / "plan.json")]) == 0
    assert "$/h" in capsys.readouterr().out
    assert load_solution(tmp_path / "plan.json").totals is not None


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    """As it stands there, on a small problem in the place of the large one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    data = modelled()._document.data
    small = data | {"tasks": [data["tasks"][0] | {"name": "coding"}]}
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems" / "agent-fleet.yaml").write_text(json.dumps(small))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["busier"].objective.value > names["solution"].objective.value
    assert "optimal" in capsys.readouterr().out
