"""Architecture problems: files, spaces, evaluation, search with resumption, bounds."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from small_chip import PROBLEM, WORKLOAD

from codesign.architecture.bounds import grid_optimum, lower_bound
from codesign.architecture.evaluate import Evaluator
from codesign.architecture.part import Assumptions, assumption_ranges, hardware_options
from codesign.architecture.procurement import procurement
from codesign.architecture.search import INFEASIBLE, SearchError, search
from codesign.architecture.solution import load_architecture_solution
from codesign.architecture.space import Box, Space
from codesign.check import check
from codesign.hardware.chip import Design, MemorySystem, chip_facts
from codesign.planner import solve
from codesign.problem import ProblemError, resolve
from codesign.problem.architecture import MemoryKind, Node, load_architecture
from codesign.problem.load import problem_kind

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "problems" / "architecture").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.yaml").write_text(WORKLOAD)
    (tmp_path / "chip.yaml").write_text(PROBLEM)
    return tmp_path


@pytest.fixture
def space(folder):
    return Space.of(load_architecture(folder / "chip.yaml"))


def point(fp16=300e12, kind="hbm3e", units=4, sram=16e6):
    return {"chip.fp16": fp16, "chip.memory.0.kind": kind, "chip.memory.0.units": units, "chip.sram": sram}


# ---- files


def test_kinds_of_files_are_told_apart(folder):
    assert problem_kind(folder / "chip.yaml") == "architecture"
    assert problem_kind(folder / "small.yaml") == "procurement"


def test_schema_knows_what_the_chip_model_knows():
    facts = chip_facts()
    assert set(MemoryKind.__args__) - {"none"} == set(facts["memory"])
    assert set(Node.__args__) == set(facts["node"])


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("[50 TFLOPS, 800 TFLOPS]", "[800 TFLOPS, 50 TFLOPS]", "designs.chip.fp16", "end is above its start"),
        ("gddr7, hbm3e", "gddr9, hbm3e", "designs.chip.memory.0.kind", "gddr7"),
        ("compete: [l40s]", "compete: [l40]", "compete", "l40s"),
        ("small.yaml", "none.yaml", "workloads.small.problem", "procurement problem file"),
        ("server: 1", "server: 1\n    efficiency: {inherit: b2000}", "efficiency.inherit", "b200-sxm"),
    ],
)
def test_faults_name_line_field_and_what_would_be_right(folder, old, new, field, expected):
    (folder / "chip.yaml").write_text(PROBLEM.replace(old, new))
    with pytest.raises(ProblemError) as caught:
        load_architecture(folder / "chip.yaml")
    text = str(caught.value)
    assert field in text
    assert expected in text
    assert "chip.yaml:" in text


# ---- space


def test_grid_and_boxes_cover_the_space(space):
    assert {axis.name for axis in space.axes} == set(point())
    assert space.grid_size(3) == 3 * 2 * 2 * 3
    assert len(list(space.grid(3))) == space.grid_size(3)
    boxes = space.boxes()
    assert {box.low["chip.memory.0.kind"] for box in boxes} == {"gddr7", "hbm3e"}
    for axis in ("chip.fp16", "chip.sram", "chip.memory.0.units"):
        first, second = space.split(boxes[0], axis)
        assert first.low == boxes[0].low
        assert second.high == boxes[0].high
        assert first.high[axis] <= second.low[axis]


def test_unlike_memories_are_striped(folder):
    text = PROBLEM.replace("units: {integer: [2, 8]}}", "units: 2}, {kind: lpddr5x, units: 4}, {kind: hbf, units: 1}")
    (folder / "chip.yaml").write_text(text)
    problem = load_architecture(folder / "chip.yaml")
    given = Assumptions.of(problem)
    memories = tuple(MemorySystem(kind, units) for kind, units in (("hbm3e", 2), ("lpddr5x", 4), ("hbf", 1)))
    design = Design("N5", 300e12, memories, 64e6, 64e9, 50e9)
    fast, full = (option.accelerator for option in hardware_options(problem, "chip", design, given))
    # HBM is read in 36 ms: LPDDR delivers 4 · 76.8 GB/s · 36 ms = 11 GB meanwhile. All of it takes 312.5 ms.
    assert fast.memory_capacity == pytest.approx(72e9 + 4 * 76.8e9 * 0.036)
    assert fast.memory_bandwidth == pytest.approx(2e12 + 4 * 76.8e9)
    assert full.memory_capacity == pytest.approx(72e9 + 96e9)
    assert full.memory_bandwidth == pytest.approx(168e9 / 0.3125)
    assert fast.weight_capacity == full.weight_capacity == 512e9


# ---- evaluation


def test_a_design_that_nobody_buys_is_worth_what_buying_is(space):
    evaluator = Evaluator(space, Assumptions.of(space.problem, {"margin": 0.98}))
    found = evaluator.points([point()])[0]
    assert found.used == ()
    assert found.value == pytest.approx(evaluator.baseline.value)


def test_batches_do_not_change_values(space):
    points = [point(fp16=f * 1e12) for f in (100, 300, 600)]
    together = [item.value for item in Evaluator(space).points(points)]
    alone = [Evaluator(space).points([each])[0].value for each in points]
    assert together == pytest.approx(alone, rel=1e-9)


def test_what_cannot_be_made_says_why(space):
    found = Evaluator(space).points([point(fp16=60e12, units=8)])[0]
    assert math.isinf(found.value)
    assert any("shoreline: needs" in reason for reason in found.reasons)


def test_cells_bound_every_point_inside(space):
    evaluator = Evaluator(space)
    low, high = point(fp16=200e12, units=2), point(fp16=500e12, units=5)
    cell = evaluator.cells([Box(low, high)])[0]
    inside = evaluator.points([low, high, point(fp16=300e12, units=3), point(fp16=450e12, units=2)])
    for item in inside:
        assert cell.bound <= item.value * (1 + 1e-9)
    single = evaluator.cells([Box(low, low)])[0]
    assert single.value == pytest.approx(inside[0].value, rel=1e-9)


def test_cutoffs_drop_only_what_is_above_them(space):
    evaluator = Evaluator(space)
    points = list(space.grid(3))
    values = [item.value for item in evaluator.points(points)]
    best = min(values)
    screened = evaluator.points(points, cutoff=best * 1.0001)
    assert min(item.value for item in screened) == pytest.approx(best)
    for item, value in zip(screened, values, strict=True):
        assert item.bound <= value * (1 + 1e-9)


def test_nre_is_charged_once(folder):
    text = PROBLEM.replace("market: {volume: 100000}", "economics: {nre: 20 M$}")
    (folder / "fixed.yaml").write_text(text)
    fixed = Space.of(load_architecture(folder / "fixed.yaml"))
    spread = Space.of(load_architecture(folder / "chip.yaml"))
    free = Evaluator(spread, Assumptions.of(spread.problem, {"nre": 0.0})).points([point()])[0]
    once = Evaluator(fixed, Assumptions.of(fixed.problem, {"nre": 100.0})).points([point()])[0]
    # 100 $ over four years at 9 % are 0.0035 $/h, and 108,000 tasks an hour share them.
    assert once.value - free.value == pytest.approx(100.0 * 0.30867 / 8766 / 108000, rel=2e-3)
    # 20 M$ for one small fleet: it buys.
    dear = Evaluator(fixed).points([point()])[0]
    assert dear.used == ()
    assert dear.value == pytest.approx(Evaluator(fixed).baseline.value)


def test_assumptions_have_ranges_with_the_nominal_inside(space):
    ranges = assumption_ranges(space.problem)
    assert {"margin", "nre", "harvest", "memory.hbm3e", "wafer.N5", "derate.chip"} <= set(ranges)
    assert all(low <= nominal <= high for low, nominal, high in ranges.values())


def test_the_plan_in_whole_servers_is_a_problem_like_any_other(space):
    evaluator = Evaluator(space)
    found = evaluator.points([point()])[0]
    stated = procurement(space.problem, 0, space.designs(point()), evaluator.assumptions)
    chip = next(option for option in resolve(stated).hardware if option.name == "chip")
    direct = hardware_options(space.problem, "chip", space.designs(point())["chip"], evaluator.assumptions)[0]
    assert chip.offers[0].capital_usd_per_accelerator == direct.offers[0].capital_usd_per_accelerator
    assert chip.accelerator.memory_bandwidth == direct.accelerator.memory_bandwidth
    plan = solve(stated)
    assert plan.objective.value >= found.value * (1 - 1e-6)
    assert check(stated, plan).ok


# ---- search


def test_the_same_seed_finds_the_same_and_constraints_are_kept(space):
    first = search(space, Evaluator(space), trials=12)
    second = search(space, Evaluator(space), trials=12)
    assert first == second
    assert len(first.trials) == 12
    for trial in first.trials:
        assert trial.feasible == (trial.value < INFEASIBLE)
    assert first.best is not None


def test_samplers_that_are_missing_are_named(space):
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(SearchError, match="torch"):
            search(space, Evaluator(space), trials=1, sampler="gp")


def test_gaussian_processes_search_too(space):
    pytest.importorskip("torch")
    found = search(space, Evaluator(space), trials=18, sampler="gp")
    assert len(found.trials) == 18
    assert found.best is not None
    assert found == search(space, Evaluator(space), trials=18, sampler="gp")


def test_starts_can_be_made_and_steps_begin_at_the_best(space):
    evaluator = Evaluator(space)
    found = search(space, evaluator, trials=72, seed=1)
    makeable = [evaluator.makeable(trial.point) for trial in found.trials]
    starts = [made for trial, made in zip(found.trials, makeable, strict=True) if trial.number < 14]
    later = [made for trial, made in zip(found.trials, makeable, strict=True) if trial.number >= 14]
    steps = later[1::2]  # a fifth of the trials are starts, then TPE and steps take turns
    assert all(starts)
    assert all(steps)
    best = [min(t.value for t in found.trials if t.feasible and t.number < n) for n in (14, 72)]
    assert best[1] < best[0]


RUN = """
import sys
import tempfile
from codesign.architecture.evaluate import Evaluator
from codesign.architecture.search import search
from codesign.architecture.space import Space
from codesign.problem.architecture import load_architecture
space = Space.of(load_architecture(sys.argv[1]))
found = search(space, Evaluator(space), storage="trials.journal", progress=lambda done, best: print(done, flush=True))
"""


def test_a_killed_search_goes_on_where_it_was(folder):
    place = folder / "chip.yaml"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()  # a batch is done, the next one is running
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    space = Space.of(load_architecture(place))
    resumed = search(space, Evaluator(space), storage="trials.journal")
    assert [trial.number for trial in resumed.trials] == list(range(24))
    whole = search(space, Evaluator(space))
    assert [(t.point, t.value) for t in resumed.trials] == [(t.point, t.value) for t in whole.trials]
    again = Evaluator(space)
    assert search(space, again, storage="trials.journal") == resumed
    assert again.solves == 0


def test_a_storage_of_another_problem_is_refused(folder):
    space = Space.of(load_architecture(folder / "chip.yaml"))
    search(space, Evaluator(space), trials=6, storage="trials.journal")
    (folder / "chip.yaml").write_text(PROBLEM + "# changed\n")
    other = Space.of(load_architecture(folder / "chip.yaml"))
    with pytest.raises(SearchError, match="another version"):
        search(other, Evaluator(other), trials=6, storage="trials.journal")


def test_a_database_that_is_not_there_is_named_without_its_password(space):
    with pytest.raises(SearchError) as caught:
        search(space, Evaluator(space), trials=1, storage="postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def database():
    """URL of a PostgreSQL server of our own, gone after the tests; skipped where none is installed."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if found[-1].name != "initdb":
        pytest.skip("needs PostgreSQL (initdb)")
    # It does not run as root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    place = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if user:
        shutil.chown(place, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program, *words):
        command = [str(found[-1].with_name(program)), *words]
        subprocess.run(command, check=True, cwd=place, capture_output=True, timeout=120, **user)

    data = str(place / "data")
    try:
        run("initdb", "-D", data, "-U", "me", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", str(place / "log"), "-o", options, "start")
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place)


def test_postgresql_holds_a_search(space, database):
    found = search(space, Evaluator(space), trials=12, storage=database)
    assert len(found.trials) == 12
    again = Evaluator(space)
    assert search(space, again, trials=12, storage=database) == found
    assert again.solves == 0
    in_memory = search(space, Evaluator(space), trials=12)
    assert [(t.point, t.value) for t in found.trials] == [(t.point, t.value) for t in in_memory.trials]


# ---- bounds


def test_bound_grid_and_search_stand_in_order(space):
    evaluator = Evaluator(space)
    found = search(space, evaluator, trials=60).best
    grid = grid_optimum(space, evaluator, 5)
    bound = lower_bound(space, evaluator, min(found.value, grid.value), boxes=120, gap=0.05)
    assert bound.value <= min(found.value, grid.value)
    assert bound.closed
    assert found.value <= grid.value * 1.03


# ---- the files in problems/architecture


def test_command_line_solves_and_says_it_in_json(folder):
    (folder / "chip.yaml").write_text(PROBLEM.replace("seed: 3", "seed: 3, sensitivity: false"))
    script = "from codesign.cli import main; main()"
    command = [sys.executable, "-c", script, "solve", str(folder / "chip.yaml"), "--trials", "6", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["kind"] == "architecture"
    assert document["search"]["versions"]["highspy"] == version("highspy")
    assert document["plans"][0]["check_ok"]
    assert document["objective"]["value"] <= document["objective"]["baseline"]


@pytest.mark.parametrize("name", NAMES)
def test_references_belong_to_their_files(name):
    problem = load_architecture(ROOT / "problems" / "architecture" / f"{name}.yaml")
    found = load_architecture_solution(ROOT / "solutions" / "architecture" / f"{name}.json")
    assert found.provenance.problem_sha256 == problem.sha256, "run scripts/refresh_architectures.py"
    objective = found.objective
    assert objective.value is not None
    if objective.bound is not None:
        assert objective.bound <= objective.value * (1 + 1e-9)
    if objective.baseline is not None:
        assert objective.value <= objective.baseline * (1 + 1e-9)
    assert found.plans
    for plan in found.plans:
        assert plan.check_ok
        assert plan.solution.objective.value is not None


def test_search_on_the_decode_chip_is_near_grid_and_bound():
    objective = load_architecture_solution(ROOT / "solutions" / "architecture" / "decode-chip.json").objective
    assert objective.grid_gap <= 0.03
    assert (objective.search_value - objective.bound) / objective.search_value <= 0.10
