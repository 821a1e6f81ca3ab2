"""The files in problems/: they load, their reference solutions hold, and solving again gives the same."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from codesign.check import check
from codesign.planner import solve
from codesign.problem import load_problem, resolve
from codesign.solution import load_solution

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CODESIGN_DATA", ROOT / ".." / "shared"))
NAMES = sorted(path.stem for path in (ROOT / "problems").glob("*.yaml"))
INFEASIBLE = {"infeasible"}
SMALL = sorted(set(NAMES) - {"agent-fleet"})


def problem(name):
    return load_problem(ROOT / "problems" / f"{name}.yaml")


def reference(name):
    return load_solution(ROOT / "solutions" / f"{name}.json")


@pytest.mark.parametrize("name", NAMES)
def test_problem_loads_and_resolves(name):
    instance = resolve(problem(name))
    assert instance.name == name
    assert instance.tasks


@pytest.mark.parametrize("name", NAMES)
def test_reference_belongs_to_the_file_as_it_stands(name):
    provenance = reference(name).provenance
    assert provenance.problem_sha256 == problem(name).sha256, f"run scripts/refresh_solutions.py {name}"
    assert provenance.problem == name


MIXED = 0.15


@pytest.mark.parametrize("name", NAMES)
def test_reference_has_the_status_that_its_file_promises(name):
    solution = reference(name)
    withdrawn = solution.polish is not None and solution.polish.note is not None
    assert (solution.status == "infeasible") == (name in INFEASIBLE)
    if withdrawn:
        assert (solution.objective.bound, solution.objective.gap) == (None, None)
    elif solution.status in ("optimal", "feasible"):
        asked = problem(name).options.gap + 1e-9
        # What pools of kept and dropped sessions carry beyond rows is in bounds alone.
        assert solution.objective.gap <= (asked if solution.status == "optimal" else MIXED)
        assert solution.objective.bound <= solution.objective.value * (1 + 1e-9)
    else:
        assert solution.conflicts


@pytest.mark.parametrize("name", sorted(set(NAMES) - INFEASIBLE))
def test_reference_passes_the_independent_check(name):
    result = check(problem(name), reference(name))
    assert result.ok, result.violations


def test_there_is_no_solution_without_a_problem():
    assert sorted(path.stem for path in (ROOT / "solutions").glob("*.json")) == NAMES


@pytest.mark.parametrize("name", SMALL)
def test_solving_again_gives_the_reference(name):
    stated, expected = problem(name), reference(name)
    solution = solve(stated)
    assert solution.status == expected.status
    if expected.objective.value is None:
        assert solution.objective.value is None
    else:
        gap = stated.options.gap
        assert solution.objective.value == pytest.approx(expected.objective.value, rel=gap + 1e-9)
        assert (solution.objective.bound or 0.0) <= expected.objective.value * (1 + 1e-9)


def test_the_fleet_offers_what_the_example_promises():
    instance = resolve(problem("agent-fleet"))
    assert {task.name for task in instance.tasks} == {"chat", "coding", "web-use", "computer-use"}
    assert len(instance.models) >= 2
    dated = [option for option in instance.hardware if all(offer.price_date for offer in option.offers)]
    assert len({option.catalogue_id for option in dated}) >= 10
    assert len({option.accelerator.vendor for option in instance.hardware}) >= 3
    assert instance.site.power_w is not None
    assert instance.limits.cost_usd_per_hour is not None


def test_raw_trace_and_histogram_give_the_same_instance():
    trace = DATA / "measured" / "azure2023_conv.csv.gz"
    if not trace.exists():
        pytest.skip("needs measured/azure2023_conv.csv.gz in CODESIGN_DATA (default ../shared): not there")
    stated = problem("azure-chat")
    raw = resolve(stated.replace({"tasks.chat.lengths": {"trace": str(trace.resolve())}}))
    binned = resolve(stated)
    assert binned.tasks[0].rate_per_s > 100
    assert dataclasses.replace(raw, sha256="") == dataclasses.replace(binned, sha256="")


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"&& \.venv/bin/(pytest.*)$", readme, re.MULTILINE)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_links_of_the_readme_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_figures_of_the_readme_are_those_of_the_reference():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([\w-]+) \| (.*) \|$", readme, re.MULTILINE))
    plan = reference("agent-fleet")
    gap, totals = plan.objective.gap, plan.totals
    assert table["cost"].startswith(f"{totals.cost_per_hour:,.2f} $/h, proven within {100 * gap:.2f} %")
    fleet = sorted(totals.accelerators.items(), key=lambda item: -item[1])
    assert table["fleet"] == ", ".join(f"{count} × {name}" for name, count in fleet)
    assert table["power"].startswith(
        f"{totals.power_w / 1e3:,.0f} kW mean, {totals.peak_power_w / 1e3:,.0f} kW provisioned"
    )
    for task in plan.tasks:
        joules = f"{task.energy_per_task_j / 1e3:.1f} kJ"
        assert table[task.name] == f"{task.cost_per_task:.4f} $ and {joules} per task"
