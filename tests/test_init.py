"""`codesign init`: what it writes loads, resolves, and holds the answers; three commands lead from it to a report."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from codesign import load_problem
from codesign.catalog import accelerators, models, workloads
from codesign.cli import app
from codesign.problem import resolve
from codesign.problem.load import problem_from_text
from codesign.problem.starter import Answers, StarterError, starter


def run(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("preset", list(workloads()))
def test_every_preset_starts_a_problem(preset):
    instance = resolve(problem_from_text(starter(Answers(tasks={preset: "1/s"}))))
    assert instance.tasks[0].name == preset
    assert instance.tasks[0].rate_per_s == 1.0


def test_every_model_and_part_starts_a_problem():
    for model in models():
        resolve(problem_from_text(starter(Answers(model=model))))
    instance = resolve(problem_from_text(starter(Answers(hardware=tuple(accelerators())))))
    assert [option.catalogue_id for option in instance.hardware] == list(accelerators())


@pytest.mark.parametrize("name", ["null", "5", "a: b", '"x', "ünïcode #1", " x", "-", "{}"])
def test_any_name_is_read_back(name):
    assert problem_from_text(starter(Answers(name=name))).name == name


def test_names_that_the_catalogue_lacks_are_refused():
    with pytest.raises(StarterError, match="h200-sxm"):
        starter(Answers(hardware=("h200",)))


def test_three_commands_lead_to_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--task", "chat=5/s", "--model", "Llama-3.1-8B", "--hardware", "h100-sxm", "--power", "100 kW"]
    told = run("init", *flags)
    assert told.exit_code == 0, told.output
    problem = load_problem("problem.yaml")
    assert resolve(problem).site.power_w == 1e5
    told = run("solve", "problem.yaml", "-o", "plan.json", "--gap", "30%", "--time-limit", "60s")
    assert told.exit_code == 0, told.output
    told = run("report", "plan.json")
    assert told.exit_code == 0, told.output
    assert "Why: operational intensity" in (tmp_path / "report.html").read_text()


def test_a_file_is_not_written_over_unless_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    told = run("init", "-o", str(path))
    assert told.exit_code == 2
    assert "--force" in told.output
    assert path.read_text() == "mine"
    assert run("init", "-o", str(path), "--force").exit_code == 0


@pytest.mark.parametrize(
    "words", [["--task", "coding"], ["--task", "coding=fast"], ["--model", "gpt"], ["--power", "much"]]
)
def test_wrong_answers_exit_2_and_write_nothing(words, tmp_path):
    path = tmp_path / "problem.yaml"
    told = run("init", "-o", str(path), *words)
    assert told.exit_code == 2
    assert "expected" in told.output
    assert not path.exists()
