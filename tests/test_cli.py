"""The command line: exit codes, messages, clean JSON, and the tables that people read."""

import _thread
import importlib
import io
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from codesign import planner
from codesign.cli import app
from codesign.planner import PlanProgress
from codesign.report.console import amount, money, number, print_report, worth
from codesign.report.plan import headline, parallelism, plan_report
from codesign.report.progress import ProgressView
from codesign.solution import Solution, load_solution

check_room = importlib.import_module("codesign.check")

PROBLEM = """\
kind: procurement
name: two-tasks
tasks:
  - {name: short, rate: 9/s}
  - {name: long, rate: 3/s}
measured_pools:
  - {name: a100, accelerator: A100, cost: 3.67 $/h, max_rate: {short: 20/s, long: 5/s}}
"""

MODELLED = """\
name: modelled
models: {small: {card: Llama-3.1-8B}}
tasks:
  - {name: chat, preset: chat, rate: 2/s, models: [small], slo: {ttft: {p95: 1 s}, tpot: {p95: 50 ms}}}
hardware: {h100: {accelerator: h100-sxm}, l4: {accelerator: l4}}
"""

FLEET = {
    "pool": "h200-coder-decode",
    "group": "h200/coder/decode",
    "period": "all",
    "role": "decode",
    "hardware": "h200",
    "accelerator": "h200-sxm",
    "model": "coder",
    "precision": {"weights": "fp8", "activations": "fp8", "kv": "fp8"},
    "parallelism": {"tp": 8, "pp": 1, "ep": 8, "dp": 2},
    "batch": 41.7,
    "prefill_chunk": None,
    "step_limit_s": 0.03,
    "step_time_s": 0.0214,
    "replicas": 3,
    "spares": 1,
    "accelerators": 64,
    "cost_per_hour": 131.2,
    "power_w": 61000.0,
    "utilization": {"compute": 0.21, "bandwidth": 0.64, "capacity": 0.97},
    "binding": "capacity",
    "calibration": "kernel-fit:h200_sxm",
    "expected_error": 0.15,
}

SOLUTION = {
    "status": "optimal",
    "objective": {"name": "cost_per_hour", "value": 157.44, "unit": "$/h", "bound": 157.0, "gap": 0.00279},
    "totals": {
        "cost_per_hour": 157.44,
        "cost_per_task": 0.0437,
        "energy_per_task_j": 91234.0,
        "power_w": 91234.0,
        "peak_power_w": 140000.0,
        "accelerators": {"h200-sxm": 72},
        "servers": {"h200": 9},
    },
    "purchase": [
        {
            "item": "h200/rent",
            "kind": "server",
            "count": 9,
            "accelerators": 72,
            "capital_usd": 0.0,
            "usd_per_hour": 147.6,
            "price_source": "semianalysis-2026-08-rental",
            "price_date": "2026-08-01",
        }
    ],
    "fleet": [
        FLEET,
        FLEET
        | {
            "pool": "h200-coder-prefill",
            "role": "prefill",
            "batch": None,
            "step_limit_s": None,
            "step_time_s": None,
            "wait_s": 0.12,
            "spares": 0,
            "utilization": {"busy": 0.7},
            "binding": "wait",
            "expected_error": None,
        },
    ],
    "routing": [
        {
            "period": "all",
            "task": "coding",
            "variant": "full",
            "kv_policy": policy,
            "prefill_pool": "h200-coder-prefill",
            "decode_pool": "h200-coder-decode",
            "calls_per_s": calls,
        }
        for policy, calls in (("decode", 30.0), ("drop", 10.0))
    ],
    "tasks": [
        {
            "name": "coding",
            "cost_per_task": 0.0437,
            "marginal_cost_per_task": 0.041,
            "energy_per_task_j": 91234.0,
            "usd_per_million_tokens": {"new_input": 0.31, "cached_input": None, "output": 2.2},
            "open_tasks": 4000.0,
            "resident_kv_bytes": 15e12,
            "headroom": 0.03,
            "slo": [
                {"metric": "ttft", "percentile": 0.95, "target": 4.0, "achieved": 3.1},
                {"metric": "tpot", "percentile": 0.99, "target": 0.03, "achieved": 0.031},
            ],
        }
    ],
    "shadow_prices": [{"limit": "site.power", "unit": "$/h per W", "value": 0.0021, "from": "relaxation"}],
    "solve": {
        "seconds": {"build": 1.5, "optimize": 10.0},
        "columns_total": 248286,
        "columns_undominated": 248286,
        "columns_considered": 200,
        "nodes": 12,
        "rounds": 30,
        "stopped_by": None,
        "solver": "HiGHS",
        "versions": {"highspy": "1.16.0"},
    },
    "provenance": {
        "problem": "agents [bold]",
        "problem_sha256": "0" * 64,
        "price_list": ["semianalysis-2026-08-rental"],
        "price_date": "2026-08-01",
        "command": "codesign solve p.yaml",
        "seed": 0,
        "warnings": ["coding: no measured tool_wait, an assumption"],
    },
}

HEAVY = ("pyomo", "highspy", "optuna", "scipy", "scipy.optimize", "pandas", "matplotlib", "numpy")


def solution(**changes: Any) -> Solution:
    return Solution.model_validate_json(json.dumps(SOLUTION | changes))


def without_plan(status: str) -> Solution:
    objective = SOLUTION["objective"] | {"value": None, "gap": None}  # type: ignore[operator]
    empty: dict[str, Any] = {key: [] for key in ("purchase", "fleet", "routing", "tasks", "shadow_prices")}
    return solution(status=status, objective=objective, totals=None, **empty)


@pytest.fixture
def problem(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    path.write_text(PROBLEM)
    return str(path)


@pytest.fixture
def modelled(tmp_path: Path) -> str:
    path = tmp_path / "modelled.yaml"
    path.write_text(MODELLED)
    return str(path)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def process(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from codesign.cli import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )


def planned(monkeypatch: pytest.MonkeyPatch, result: Solution) -> list[dict[str, Any]]:
    """The planner returns `result`; its arguments are kept."""
    calls: list[dict[str, Any]] = []

    def solve(problem: Any, **options: Any) -> Solution:
        calls.append(options)
        options["progress"](PlanProgress("plan", 160.0, 157.0, 0.02, 1.0))
        return result

    monkeypatch.setattr(planner, "solve", solve)
    return calls


def text_of(renderable: Any, width: int = 160) -> str:
    file = io.StringIO()
    print_report(Console(file=file, width=width, markup=False, emoji=False, highlight=False), renderable)
    return file.getvalue()


# ---- light imports


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom codesign.cli import main\nsys.argv = ['codesign', '--help']\n"
        f"try: main()\nfinally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert result.stderr.strip() == "[]"
    for command in ("solve", "check", "explain", "profile", "catalog", "schema"):
        assert command in result.stdout


def test_a_plan_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Neither the simulator nor explanations, nor scipy.stats, which Pyomo asks for as soon as SciPy is there."""
    toy = Path(__file__).parents[1] / "problems" / "melange-toy.yaml"
    code = (
        "import sys\nfrom codesign.cli import main\n"
        f"sys.argv = ['codesign', 'solve', {str(toy)!r}, '-o', {str(tmp_path / 's.json')!r}]\n"
        "idle = ('scipy.stats', 'codesign.simulate', 'codesign.explanation.plan', 'codesign.problem.architecture')\n"
        "try: main()\nfinally: print([m for m in idle if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1] == "[]"


def test_a_command_is_imported_when_it_is_asked_for() -> None:
    code = (
        "import sys\nfrom codesign.cli import main, COMMANDS\nsys.argv = ['codesign', 'check', '--help']\n"
        "try: main()\nfinally: print([c for c in COMMANDS if f'codesign.cli.{c}' in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert result.stderr.strip() == "['check']"


def test_a_wrong_command_is_told_the_right_one() -> None:
    result = run("sovle")
    assert result.exit_code == 2
    assert "'solve'" in result.output


def test_the_options_of_all_studies_are_the_same() -> None:
    pareto, sweep = (run(command, "--help").output for command in ("pareto", "sweep"))
    for option in ("--gap", "--time-limit", "--workers", "--dask", "--debug"):
        assert option in pareto
        assert option in sweep


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, codesign; print([m for m in ('numpy', 'pydantic', 'typer', 'rich') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_check_is_the_function_whatever_was_imported_first() -> None:
    code = (
        "import codesign.check, codesign; from codesign import check, load_problem, solve; "
        "print(callable(check), callable(codesign.check), callable(solve), 'solve' in dir(codesign))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "True True True True", result.stderr
    with pytest.raises(AttributeError, match="solv3"):
        _ = importlib.import_module("codesign").solv3


# ---- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "{p}", "--gap", "5 parsecs"], "--gap: found '5 parsecs'; expected a fraction"),
        (["solve", "{p}", "--gap", "nan"], "--gap: found"),
        (["solve", "{p}", "--gap=-1%"], "--gap: found"),
        (["solve", "{p}", "--time-limit", "60"], "expected a unit: '60 ms' or '60 s'"),
        (["solve", "{p}", "--time-limit", "0 s"], "expected a time above 0"),
        (["solve", "{p}", "-o", "{d}/none/s.json"], "cannot be written (no such file or directory)"),
        (["solve", "{p}", "-o", "{p}"], "found the problem file"),
        (["solve", "{p}", "-o", "{d}"], "which is no file"),
        (["solve", "{p}", "-o", os.devnull], "which is no file"),
        (["solve", "{d}/none.yaml"], "none.yaml"),
        (["solve", "{d}"], "expected"),
        (["explain", "{d}/none.yaml", "--json"], "none.yaml"),
        (["check", "{p}", "{d}/none.json"], "cannot be read"),
        (["check", "{p}", "{p}"], "Invalid JSON"),
        (["profile", "{p}", "--batch", "1,x"], "--batch: found '1,x'"),
        (["profile", "{p}", "--batch", "0"], "--batch: found '0'"),
        (["profile", "{p}", "--batch", "9" * 5000], "--batch: found"),
        (["catalog", "acclerators"], "expected perhaps accelerators"),
        (["catalog", "h100-sxm"], "try: codesign catalog accelerators h100-sxm"),
        (["catalog", "models", "DeepSeek-V3.3"], "DeepSeek-V3.2"),
        (["solve"], "PROBLEM"),
        (["solve", "{p}", "--gaps", "1%"], "--gap"),
        (["solv", "{p}"], "solv"),
    ],
)
def test_bad_input_is_one_clear_message(
    words: list[str], message: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = planned(monkeypatch, solution())
    result = run(*(word.format(p=problem, d=tmp_path) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert not calls


def test_all_faults_of_a_file_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(PROBLEM.replace("rate: 9/s", "rate: 4 parsecs").replace("cost:", "coost:"))
    result = process("solve", str(path), "--json")
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert any(line.startswith(f"{path}:4: tasks.short.rate: found '4 parsecs'") for line in lines)
    assert any(line.startswith(f"{path}:7: ") and "'cost'" in line for line in lines)
    assert "Traceback" not in result.stderr


def test_unexpected_errors_are_one_line_and_debug_shows_the_rest(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Solution:
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr(planner, "solve", broken)
    result = run("solve", problem)
    assert result.exit_code == 1
    assert result.stderr.startswith("codesign: unexpected RuntimeError: a bug of two lines (a fault of codesign")
    assert "please report it" in result.stderr
    assert result.stderr.count("\n") == 1
    assert isinstance(run("solve", problem, "--debug").exception, RuntimeError)


# ---- solve


@pytest.mark.parametrize(
    ("status", "code"), [("optimal", 0), ("feasible", 0), ("infeasible", 3), ("no_solution", 4)]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_exit_codes_and_the_solution_file(
    status: str, code: int, as_json: bool, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = solution(status=status) if code == 0 else without_plan(status)
    calls = planned(monkeypatch, expected)
    target = tmp_path / "s.json"
    words = ["solve", problem, "-o", str(target), "--gap", "0.1%", "--time-limit", "60s"]
    result = run(*words, *(["--json"] if as_json else []))
    assert result.exit_code == code, result.output
    assert load_solution(target) == expected
    assert calls[0]["gap"] == pytest.approx(0.001)
    assert calls[0]["time_limit_s"] == 60.0
    assert calls[0]["command"] == f"codesign solve {problem} --gap 0.1% --time-limit 60s"
    if as_json:
        assert json.loads(result.stdout)["status"] == status
    else:
        assert headline(expected).split()[0] in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json", "two.yaml"]


def test_ctrl_c_gives_the_best_plan_so_far(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def solve(_: Any, *, cancel: threading.Event, **__: Any) -> Solution:
        _thread.interrupt_main()
        assert cancel.wait(20)
        stopped = SOLUTION["solve"] | {"stopped_by": "interrupt"}  # type: ignore[operator]
        return solution(status="feasible", solve=stopped)

    monkeypatch.setattr(planner, "solve", solve)
    result = run("solve", problem)
    assert result.exit_code == 0
    assert "stopped by Ctrl-C: the plan is within 0.28 % of the bound" in result.stderr
    assert "stopped by Ctrl-C" in result.stdout


def test_what_a_library_prints_does_not_reach_standard_output(problem: str) -> None:
    code = (
        "import os, sys\nfrom codesign import planner, cli\nfrom codesign.solution import Solution\n"
        "def solve(*a, **k):\n    os.write(1, b'transformNewIntegerFeasibleSolution')\n"
        f"    return Solution.model_validate_json({json.dumps(SOLUTION)!r})\n"
        f"planner.solve = solve\nsys.argv = ['codesign', 'solve', {problem!r}, '--json']\ncli.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["schema_version"] == 1
    assert "transformNewInteger" in result.stderr


def test_solve_and_check_a_measured_problem(problem: str, tmp_path: Path) -> None:
    target = tmp_path / "s.json"
    solved = process("solve", problem, "-o", str(target), "--json", "--gap", "0")
    assert solved.returncode == 0, solved.stderr
    document = json.loads(solved.stdout)
    assert document["status"] == "optimal"
    assert document["totals"]["cost_per_hour"] == pytest.approx(2 * 3.67)  # 9/20 + 3/5 = 1.05 replicas
    assert json.loads(target.read_text()) == document
    checked = process("check", problem, str(target), "--json")
    assert (checked.returncode, json.loads(checked.stdout)) == (0, {"ok": True, "violations": []})


def test_the_plan_shows_what_a_planner_pastes_into_a_report() -> None:
    text = text_of(plan_report(solution()))
    assert text.index("Little's law") < text.index("Fleet") < text.index("Tasks") < text.index("Totals")
    for words in (
        "agents [bold]: cost_per_hour 157.44 $/h, optimal within 0.28 % over 248,286 configurations",
        "4,000", "15 TB", "64 × h200-sxm", "3 + 1", "TP8 EP8 DP2", "fp8/fp8/fp8", "41.7",
        "21.4 ms", "30 ms", "97 %", "capacity",
        "kernel-fit:h200_sxm, expected error ±15 %: h200-coder-decode", "h200/rent", "147.60",
        "semianalysis-2026-08-rental", "2026-08-01", "75 %", "0.0437", "91.23 kJ", "2.20", "p95", "3.1 s",
        "met", "MISSED", "140 kW", "9 × h200", "site.power", "0.0021 $/h per W", "no measured tool_wait",
        "11.5 s (build 1.5, optimize 10.0)",
    ):  # fmt: skip
        assert words in text, words


def test_headlines_claim_no_more_than_is_proven() -> None:
    stopped = SOLUTION["solve"] | {"stopped_by": "time limit"}  # type: ignore[operator]
    feasible = headline(solution(status="feasible", solve=stopped))
    assert "feasible, not proven optimal, within 0.28 %" in feasible
    assert "stopped by the time limit" in feasible
    assert "infeasible" in headline(without_plan("infeasible"))
    assert "no plan found" in headline(without_plan("no_solution"))
    assert "at least 157.00 $/h" in headline(without_plan("no_solution"))
    assert "site.power" in text_of(
        plan_report(without_plan("infeasible").model_copy(update={"conflicts": ("site.power",)}))
    )


def test_progress_names_stage_incumbent_bound_gap_and_seconds() -> None:
    file = io.StringIO()
    with ProgressView(Console(file=file, force_terminal=True, width=120), "$/h") as view:
        view(PlanProgress("branching", 1240.5, 1238.0, 0.00202, 3.0))
        assert view.text() == "branching  best 1,240.50 $/h  bound 1,238.00 $/h  gap 0.2 %  0 s"
    quiet = io.StringIO()
    with ProgressView(Console(file=quiet), "$/h") as view:
        view(PlanProgress("branching", None, None, None, 3.0))
    assert "branching" in file.getvalue()
    assert quiet.getvalue() == ""


def test_figures() -> None:
    assert [money(x) for x in (None, 0.0, 1240.494, 0.00412)] == ["–", "0.00", "1,240.49", "0.00412"]
    assert amount(2e6, "W") == "2 MW"
    assert amount(91234.0, "J/task") == "91.23 kJ/task"
    assert amount(343.3, "accelerators") == "344 accelerators"
    assert amount(0.600661, "tasks/s") == "0.6007 tasks/s"
    assert worth(0.8, "accelerators", "$/h") == "0.8 $/h per accelerator"
    assert [number(x) for x in (None, 92838.4, 48.294)] == ["–", "92,838", "48.29"]
    assert parallelism(solution().fleet[0]) == "TP8 EP8 DP2"


# ---- check, explain


@pytest.mark.parametrize("ok", [True, False])
def test_check_reports_violations(
    ok: bool, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "s.json"
    solution().write(target)
    found = [] if ok else [SimpleNamespace(what="demand of coding", limit=4.0, found=3.9)]
    monkeypatch.setattr(
        check_room, "check", lambda *_: SimpleNamespace(ok=ok, violations=found), raising=False
    )
    result = run("check", problem, str(target), "--json")
    assert result.exit_code == (0 if ok else 5)
    assert json.loads(result.stdout) == {"ok": ok, "violations": [vars(violation) for violation in found]}
    assert "sha256 differs" in result.stderr
    result = run("check", problem, str(target))
    assert ("every check holds" if ok else "demand of coding") in result.stdout


def test_explain_infeasible(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = planner.Explanation(
        feasible=False,
        conflicts=(
            planner.Conflict("site.power", "W", 90e3, None),
            planner.Conflict("limits.inventory.h200", "accelerators", 32, 48),
        ),
        relaxations=(planner.Relaxation("site.power", "W", 90e3, 120e3, "with 48 h200"),),
        binding=(),
        shadow_prices=(),
        not_chosen=(),
        solution=None,
    )
    monkeypatch.setattr(planner, "explain", lambda *_, **__: explanation)
    result = run("explain", problem)
    assert result.exit_code == 0
    for words in ("site.power", "90 kW", "120 kW", "+33.3 %", "48 accelerators", "with 48 h200"):
        assert words in result.stdout
    document = json.loads(run("explain", problem, "--json").stdout)
    assert set(document) == {"status", "conflicts", "relaxations"}
    assert document["conflicts"][0] == {"limit": "site.power", "unit": "W", "allowed": 90e3, "needed": None}


def test_explain_feasible(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = planner.Explanation(
        feasible=True,
        conflicts=(),
        relaxations=(),
        binding=(planner.Binding("h200-coder-decode", "capacity, 97 %"),),
        shadow_prices=solution().shadow_prices,
        not_chosen=(
            planner.NotChosen("mi300x", "too dear", 1.02),
            planner.NotChosen("l4", "too small", None),
        ),
        solution=solution(),
    )
    monkeypatch.setattr(planner, "explain", lambda *_, **__: explanation)
    result = run("explain", problem)
    assert result.exit_code == 0
    for words in ("capacity, 97 %", "0.0021 $/h per W", "mi300x", "1.020", "too small", "optimal within"):
        assert words in result.stdout
    document = json.loads(run("explain", problem, "--json").stdout)
    assert set(document) == {"binding", "shadow_prices", "not_chosen"}
    assert document["shadow_prices"][0]["from"] == "relaxation"
    assert document["not_chosen"][1] == {"accelerator": "l4", "reason": "too small", "enters_at_price": None}


# ---- profile, catalog, schema


def test_profile(modelled: str) -> None:
    document = json.loads(run("profile", modelled, "--batch", "1,16", "--json").stdout)
    assert {row["batch"] for row in document["phases"]} == {1, 16}
    assert {row["phase"] for row in document["phases"]} == {"prefill", "decode", "parked"}
    assert set(document["phases"][0]["regime"]) == {"h100", "l4"}
    assert document["totals"]["chat"]["open_tasks"] > 0
    text = run("profile", modelled).stdout
    assert text.index("Little's law") < text.index("prefill")
    assert "batch 64" in text


def test_profile_of_measured_pools_alone(problem: str) -> None:
    assert "nothing to profile" in " ".join(run("profile", problem).stdout.split())


@pytest.mark.parametrize(
    ("section", "name", "words"),
    [
        ("accelerators", "h200-sxm", ("151.4 GB", "4.8 TB/s", "semianalysis-2026-08-rental", "Codes")),
        ("models", "DeepSeek-V3.2", ("mla", "total parameters", "Sources")),
        ("memory", "ddr5-rdimm", ("13.8 $/GB", "Sources")),
        ("links", "nvlink5", ("900 GB/s", "Assumption: energy_pj_per_bit")),
        ("workloads", "coding", ("p50 110K, p90 300K", "VLLM-SWE")),
        ("prices", "retail-2026-07", ("unverified", "2026-07")),
    ],
)
def test_catalog_sections_and_entries(section: str, name: str, words: tuple[str, ...]) -> None:
    assert name in run("catalog", section).stdout
    assert name in json.loads(run("catalog", "--json").stdout)[section]
    assert name in [entry["id"] for entry in json.loads(run("catalog", section, "--json").stdout)]
    assert json.loads(run("catalog", section, name, "--json").stdout)["cited"]
    text = " ".join(run("catalog", section, name).stdout.split())
    for word in words:
        assert word in text


def test_catalog_overview() -> None:
    text = run("catalog").stdout
    assert "accelerators" in text
    assert "gpt-oss-120b" in text


def test_schema_is_a_json_schema() -> None:
    document = json.loads(run("schema").stdout)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "tasks" in document["properties"]


def test_version() -> None:
    lines = [line.split() for line in run("--version").stdout.splitlines()]
    assert [name for name, _ in lines] == ["codesign", "highspy", "pyomo"]
    assert dict(lines) == {name: version(name) for name in ("codesign", "highspy", "pyomo")}


def test_a_solver_that_is_known_to_be_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way out and no traceback, once a solver is needed."""
    (tmp_path / "problem.yaml").write_text(PROBLEM, encoding="utf-8")
    from codesign.optimize import lp

    monkeypatch.setattr(lp, "version", lambda _: "1.14.0")
    lp.require_version.cache_clear()
    assert run("solve", "--help").exit_code == 0
    told = run("solve", str(tmp_path / "problem.yaml"))
    lp.require_version.cache_clear()
    assert told.exit_code == 1
    assert "pip install 'highspy>=1.15.0,!=1.16.0'" in told.stderr
    assert "unexpected" not in told.stderr


def test_file_descriptor_1_holds_the_json_alone(tmp_path: Path) -> None:
    """HiGHS 1.16 greets there, and every release prints a stray line now and then."""
    (tmp_path / "problem.yaml").write_text(PROBLEM, encoding="utf-8")
    code = "from codesign.cli import main; main()"
    with (tmp_path / "out").open("wb") as out:
        words = [sys.executable, "-c", code, "solve", str(tmp_path / "problem.yaml"), "--json"]
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "out").read_bytes())["status"] == "optimal"
    assert b"Running HiGHS" not in done.stderr


def test_python_gets_a_plan_and_standard_output_nothing(tmp_path: Path) -> None:
    (tmp_path / "problem.yaml").write_text(PROBLEM, encoding="utf-8")
    code = "import codesign, sys; codesign.solve(codesign.load_problem(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(tmp_path / "problem.yaml")]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
