"""`codesign pareto` and `codesign sweep`: files, exit codes, clean JSON; and the package from Python."""

import json
import subprocess
import sys
import threading

import pytest
from studies import document, modelled, problem
from typer.testing import CliRunner

from codesign import load_problem, pareto, solve, sweep
from codesign.cli import app
from codesign.report.progress import StudyView
from codesign.report.studies import inner, outer, plot_front
from codesign.study.workers import StudyProgress


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "problem.yaml"
    path.write_text(json.dumps(document()))
    return str(path)


def run(*words):
    return CliRunner().invoke(app, [*words])


def test_pareto_leaves_tables_solutions_and_pictures(file, tmp_path):
    folder = tmp_path / "front"
    result = run("pareto", file, "--points", "8", "--workers", "1", "-o", str(folder))
    assert result.exit_code == 0, result.output
    head, *rows = (folder / "front.csv").read_text().splitlines()
    assert head == "cost_per_task,energy_per_task,bound,gap,status,knee,solution"
    assert all((folder / row.split(",")[-1]).is_file() for row in rows)
    assert (folder / "front.html").stat().st_size < 6_000_000
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "knee" in result.output
    for row in rows:
        assert run("check", file, str(folder / row.split(",")[-1])).exit_code == 0


def test_pareto_json_is_the_front(file, tmp_path):
    result = run("pareto", file, "--points", "4", "--workers", "1", "-o", str(tmp_path / "front"), "--json")
    front = json.loads(result.stdout)
    assert front["objectives"][0] == {"name": "cost_per_task", "unit": "$/task"}
    assert front == json.loads((tmp_path / "front" / "front.json").read_text())


def test_sweep_leaves_a_table_and_pictures(file, tmp_path):
    folder = tmp_path / "sweep"
    words = ("--set", "tasks.short.rate=5/s..40/s:3", "--set", "tasks.long.rate=2/s,8/s")
    result = run("sweep", file, *words, "--workers", "1", "-o", str(folder))
    assert result.exit_code == 0, result.output
    head, *rows = (folder / "runs.csv").read_text().splitlines()
    assert head.startswith("run,tasks.short.rate,tasks.long.rate,refined,status,")
    assert len(rows) == 6
    assert (folder / "runs.html").is_file()
    assert (folder / "runs.png").is_file()


def test_a_parquet_file_has_what_the_table_has(file, tmp_path):
    pandas = pytest.importorskip("pandas")
    words = ("--set", "tasks.short.rate=5/s,40/s", "--parquet", "--workers", "1")
    assert run("sweep", file, *words, "-o", str(tmp_path / "s")).exit_code == 0
    table, frame = pandas.read_csv(tmp_path / "s" / "runs.csv"), pandas.read_parquet(tmp_path / "s" / "runs.parquet")
    assert list(table.columns) == list(frame.columns)
    assert list(frame["tasks.short.rate"]) == ["5/s", "40/s"]
    assert list(frame["value"]) == pytest.approx(list(table["value"]))


def test_sweep_with_scenarios_and_breakpoints(file, tmp_path):
    scenario = tmp_path / "dear.yaml"
    scenario.write_text("measured_pools.l4.cost: 2 $/h\n")
    words = ("--scenario", str(scenario), "--set", "tasks.short.rate=5/s..40/s:2", "--breakpoints")
    result = run("sweep", file, *words, "--workers", "1", "-o", str(tmp_path / "s"), "--json")
    found = json.loads(result.stdout)
    assert {r["scenario"] for r in found["runs"]} == {"dear"}
    assert found["breakpoints"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pareto", "{}", "-o", "{o}", "--objectives", "cost,beauty"), "--objectives: found 'beauty'"),
        (("pareto", "{}", "-o", "{}"), "--output"),
        (("pareto", "{}", "-o", "{o}", "--dask", "tcp://127.0.0.1:1"), "no Dask scheduler"),
        (("sweep", "{}", "-o", "{o}"), "expected one, such as --set"),
        (("sweep", "{}", "-o", "{o}", "--set", "tasks.short.rate"), "expected path=v1,v2"),
        (("sweep", "{}", "-o", "{o}", "--set", "tasks.short.rate=5 bananas"), "5 bananas"),
        (("sweep", "{}", "-o", "{o}", "--set", "tasks.nobody.rate=5/s"), "tasks.nobody.rate"),
        (("sweep", "{}", "-o", "{o}", "--set", "name=a", "--watch", "stars"), "--watch"),
    ],
)
def test_bad_input_is_two(file, tmp_path, words, message, monkeypatch):
    monkeypatch.setattr("codesign.study.workers._CONNECT_SECONDS", 0.2)
    result = run(*(word.format(file, o=tmp_path / "o") for word in words))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_infeasible_is_three(tmp_path):
    path = tmp_path / "none.yaml"
    path.write_text(json.dumps(document() | {"limits": {"inventory": dict.fromkeys(["A100", "H100", "L4"], 0)}}))
    path.write_text(json.dumps(document() | {"limits": {"budget": {"cost_per_hour": "1 $/h"}}}))
    assert run("pareto", str(path), "--workers", "1", "-o", str(tmp_path / "o")).exit_code == 3


def test_the_pictures_steps_by_hand():
    front = pareto(problem(), points=60)
    xs, ys = inner(front)
    assert ys == sorted(ys, reverse=True)
    low, bounds = outer(front)
    assert low == sorted(low)
    assert bounds == sorted(bounds, reverse=True)
    best = {x: y for x, y in zip(xs, ys, strict=True)}
    for x, bound in zip(low, bounds, strict=True):
        have = min((y for at, y in best.items() if at <= x * (1 + 1e-9)), default=float("inf"))
        assert bound <= have * (1 + 1e-9)


def test_names_in_pictures_are_only_words(tmp_path):
    hostile = problem().replace({"name": "<script>alert(1)</script>"})
    plot_front(pareto(hostile, points=2), tmp_path)
    assert "<script>alert(1)" not in (tmp_path / "front.html").read_text()
    assert "<script>" not in pareto(hostile, points=2)._repr_html_()


def test_the_status_line():
    from rich.console import Console

    view = StudyView(Console(), "points")
    assert view.text().startswith("reading")
    view(StudyProgress("plan", 3, 20, 12.0, 68.0))
    assert view.text() == "3 of about 20 points  plan  0 s  about 68 s left"


# ---- from Python -------------------------------------------------------------------------------------------


def test_import_loads_nothing_heavy():
    heavy = "numpy", "scipy", "pyomo", "highspy", "pydantic", "pandas", "optuna", "plotly", "matplotlib", "distributed"
    code = f"import sys, codesign; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_threads_do_not_meet():
    rates = ["8/s", "17/s", "26/s", "35/s"]
    alone = [solve(problem().replace({"tasks.short.rate": rate})).objective.value for rate in rates]
    found = {}

    def work(rate):
        found[rate] = solve(problem().replace({"tasks.short.rate": rate})).objective.value

    threads = [threading.Thread(target=work, args=(rate,)) for rate in rates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[rate] for rate in rates] == alone


def test_python_prints_nothing(capfd):
    pareto(problem(), points=3)
    sweep(problem(), {"tasks.short.rate": ["8/s"]})
    solve(modelled())
    assert capfd.readouterr() == ("", "")


def test_tables_in(tmp_path):
    pandas = pytest.importorskip("pandas")
    pools = pandas.DataFrame(
        [{"name": "x", "accelerator": "X", "cost": "2 $/h", "max_rate": {"short": "10/s", "long": "4/s"}}]
    )
    found = solve(problem().replace({"measured_pools": pools}))
    assert found.totals is not None
    assert set(found.totals.accelerators) == {"X"}


def test_solutions_and_problems_in_a_notebook(file):
    solution = solve(load_problem(file))
    assert "<table>" in solution._repr_html_()
    assert "cost_per_hour" in solution._repr_html_()
    assert "small" in load_problem(file)._repr_html_()
