"""Cases of measured throughput with optima known from elsewhere, and the script that reads such cases."""

import csv
import importlib.util
import json
import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from codesign.planner import solve
from codesign.problem import Problem, load_problem

ROOT = Path(__file__).parents[1]
CASES = Path(os.environ.get("CODESIGN_DATA", ROOT / ".." / "shared")) / "cases"

_spec = importlib.util.spec_from_file_location("convert_cases", ROOT / "scripts" / "convert_cases.py")
assert _spec is not None
assert _spec.loader is not None
convert_cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(convert_cases)


def problem(name):
    return load_problem(ROOT / "problems" / f"{name}.yaml")


def optimum(problem):
    """Solve to a gap of 0 and return the solution."""
    solution = solve(problem)
    assert solution.status == "optimal"
    assert solution.objective.gap == pytest.approx(0, abs=1e-9)
    return solution


# Mélange's own slices of 2 to 16 reach 5.69 $/h; both GPUs are full to the last request in the optimum.
@pytest.mark.parametrize(
    ("name", "usd_per_hour"),
    [("melange-toy", 4.68), ("inferno-small", 35767.0), ("inferno-small-unlimited", 33327.0)],
)
def test_optimum_to_the_cent(name, usd_per_hour):
    assert optimum(problem(name)).objective.value == pytest.approx(usd_per_hour, abs=0.005)


def test_melange_buys_one_of_each():
    assert optimum(problem("melange-toy")).totals.accelerators == {"A10G": 1, "A100-80GB": 1}


def test_inferno_keeps_within_the_inventory():
    limited = problem("inferno-small")
    used = optimum(limited).totals.accelerators
    assert all(used.get(name, 0) <= limit for name, limit in limited.limits.inventory.items())
    free = optimum(problem("inferno-small-unlimited")).totals.accelerators
    assert any(free.get(name, 0) > limit for name, limit in limited.limits.inventory.items())


def test_inferno_serves_each_task_from_one_pool():
    routing = optimum(problem("inferno-small")).routing
    assert sorted(route.task for route in routing) == sorted({route.task for route in routing})


@pytest.mark.parametrize(
    ("rate", "gpus"), [(5, 6), (10, 10), (20, 20), (35, 34), (50, 48), (100, 96)]
)  # AIConfigurator's own recommendation: 6, 12, 22, 38, 48, 96
def test_fewest_gpus(rate, gpus):
    solution = optimum(problem("aiconfigurator-mix").replace({"tasks.requests.rate": f"{rate}/s"}))
    assert sum(solution.totals.accelerators.values()) == gpus
    assert solution.objective.value == pytest.approx(gpus, abs=0.005)


@pytest.mark.parametrize(
    ("case", "name", "options"),
    [
        ("melange_toy.json", "melange-toy", {}),
        ("inferno_small.json", "inferno-small", {}),
        ("inferno_small.json", "inferno-small-unlimited", {"inventory": False}),
        ("aiconfigurator_candidates.csv", "aiconfigurator-mix", {"rate": "35/s"}),
    ],
)
def test_problem_files_are_what_the_script_makes_of_the_cases(case, name, options):
    path = CASES / case
    if not path.exists():
        pytest.skip(f"needs {case} in CODESIGN_DATA/cases (default ../shared/cases), which is not there")
    text = (ROOT / "problems" / f"{name}.yaml").read_text(encoding="utf-8")
    assert convert_cases.convert(path, **options) | {"name": name} == YAML(typ="safe").load(text)


def test_buckets_become_tasks(tmp_path):
    case = tmp_path / "case.json"
    data = {
        "gpu_info": {"small": {"cost": 1, "tputs": [[4, 0]]}, "big": {"cost": 2.5, "tputs": [[8, 2]]}},
        "workload_distribution": [[0.9, 0.1]],
        "total_request_rate": 30.0,
    }
    case.write_text(json.dumps(data), encoding="utf-8")
    made = Problem.from_dict(convert_cases.convert(case))
    assert [task.rate.value for task in made.tasks] == [27.0, 3.0]
    assert made.measured_pools[0].max_rate == {"in0-out0": 4.0}  # a rate of 0: cannot serve it
    assert made.measured_pools[1].max_rate == {"in0-out0": 8.0, "in0-out1": 2.0}
    # small alone cannot serve the second bucket; 27/8 + 3/2 = 4.875 big ones could serve everything. Two big
    # ones have 0.5 left for the first bucket, 4 of 27, and 23/4 takes six small ones: 2 × 2.5 + 6 × 1.
    assert optimum(made).objective.value == pytest.approx(11.0)


def test_choices_become_pools(tmp_path):
    case = tmp_path / "case.json"
    choices = {
        "a": {
            "G": {"type": "G", "units": 3, "cost": 30.0, "numReplicas": 3},
            "2xG": {"type": "G", "units": 4, "cost": 28.0, "numReplicas": 2},
        },
        "b": {
            "G": {"type": "G", "units": 2, "cost": 20.0, "numReplicas": 2},
            "H": {"type": "H", "units": 1, "cost": 25.0, "numReplicas": 1},
        },
    }
    case.write_text(json.dumps({"candidates": choices, "capacity": {"G": 5, "H": 4}}), encoding="utf-8")
    limited = Problem.from_dict(convert_cases.convert(case))
    free = Problem.from_dict(convert_cases.convert(case, inventory=False))
    assert optimum(free).objective.value == pytest.approx(48.0)  # a on 2xG, b on G: six G
    assert optimum(limited).objective.value == pytest.approx(50.0)  # five G: a and b on G


def test_replica_shapes_become_pools(tmp_path):
    case = tmp_path / "case.csv"
    with case.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["mode", "gpus_per_replica", "requests_per_s"])
        writer.writerows([["agg", 1, 1.0], ["disagg", 4, 5.0]])
    made = Problem.from_dict(convert_cases.convert(case, rate="7/s"))
    assert optimum(made).objective.value == pytest.approx(6.0)  # 4 + 1 + 1


@pytest.mark.parametrize("text", ["{}", "[]", '{"gpu_info": 3}', "not json"])
def test_other_files_are_refused(tmp_path, text):
    case = tmp_path / "case.json"
    case.write_text(text, encoding="utf-8")
    with pytest.raises((ValueError, KeyError, TypeError)):
        convert_cases.convert(case)
