"""The solver benchmark at tiny sizes: its instances, its peers, its figures.  Nothing here is a timing test."""

import functools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import bench_fleets  # noqa: E402
import bench_runs  # noqa: E402
import bench_solver  # noqa: E402

from codesign.problem import load_problem  # noqa: E402

TOY = bench_fleets.Pools(
    np.array([1.01, 3.67]), np.array([6.0, 3.0, 15.0, 6.0]), np.array([[2.0, 1, 5, 2], [20, 20, 40, 20]])
)
"""The worked example of Mélange's README, as in problems/melange-toy.yaml."""


def test_search_is_never_dearer_than_slices():
    pytest.importorskip("pulp")
    ours = bench_runs.run_search(TOY.problem(0.0, 10.0, 1), 0.0, 10.0, threads=1)
    assert ours.objective == pytest.approx(4.68)
    sliced = {f: bench_runs.run_sliced(TOY, f, 10.0, threads=1).objective for f in (1, 4)}
    assert sliced == {1: pytest.approx(6.70), 4: pytest.approx(5.69)}
    assert ours.seconds_to_value(sliced[1]) <= ours.seconds_to_gap(0.0) <= ours.seconds


def test_search_and_monolith_agree():
    fleet = bench_fleets.synthetic_fleet(24, 3, hardware=3)
    ours = bench_runs.run_search(fleet, 0.0, 20.0, threads=1)
    whole = bench_runs.run_monolith(fleet, 0.0, 20.0, threads=1)
    assert ours.status == whole.status == "optimal"
    assert ours.objective == pytest.approx(whole.objective, rel=1e-6)
    assert ours.gap <= 1e-6
    assert whole.gap <= 1e-6
    rounding = 0.001 * len(ours.where)  # each is in whole milliseconds
    assert 0 < sum(ours.where.values()) <= ours.seconds * 1.01 + rounding


def test_synthetic_columns_differ_and_none_dominates_another_of_its_part():
    block = bench_fleets.synthetic_fleet(400, 4, hardware=4).blocks[0]
    use = block.use.of(slice(None)) * np.asarray(block.packed)[:, None, None]
    for part in range(4):
        mine = use[block.packing == part]
        flat = mine.reshape(len(mine), -1)
        better = np.all(flat[:, None, :] <= flat[None, :, :], axis=2)
        assert np.count_nonzero(better) == len(mine)  # each only itself


def test_slices_are_nested_and_solvable():
    fleet = bench_fleets.synthetic_fleet(300, 3, hardware=5)
    found = bench_fleets.slices(fleet, [2, 60, 120, 300, 1000], seed=0)
    assert list(found) == [60, 120, 300]
    assert [part.columns for part in found.values()] == [60, 120, 300]
    inside = [{use.tobytes() for use in part.blocks[0].use.of(slice(None))} for part in found.values()]
    assert inside[0] < inside[1] < inside[2]
    assert math.isfinite(bench_runs.run_search(found[60], 0.05, 10.0, threads=1).objective)


def test_pools_are_the_same_for_a_seed_and_serve_every_class():
    first, again = (bench_fleets.random_pools(6, 12, 3) for _ in range(2))
    np.testing.assert_array_equal(first.rate_per_s, again.rate_per_s)
    assert np.all(first.rate_per_s.max(axis=0) > 0)
    assert not np.array_equal(first.usd_per_hour, bench_fleets.random_pools(6, 12, 4).usd_per_hour)


@pytest.mark.parametrize("variant", bench_fleets.VARIANTS)
def test_scaled_fleets_keep_whole_servers(variant):
    problem = load_problem(ROOT / "problems" / "agent-fleet.yaml")
    small = bench_fleets.scaled(problem, 0.1, variant)
    assert small.tasks[0].rate.value == pytest.approx(0.1 * problem.tasks[0].rate.value)
    assert small.limits.inventory["gb200"] % 72 == 0
    assert small.site.power < problem.site.power
    assert (small.redundancy.survive == "one-server") == (variant == "redundant")
    assert small.hardware["h100"].server.accelerators == (1 if variant == "plain" else 8)


def test_run_without_plan_has_no_figures():
    run = bench_runs.Run("no_solution", 1.0)
    assert run.json()["objective"] is None
    assert run.json()["gap"] is None
    assert run.seconds_to_gap(0.5) == run.seconds_to_value(run.objective) == math.inf


def test_stage_and_module_of_a_stack():
    stack = ["threading", "codesign.optimize.highs", "codesign.optimize.relaxation", "codesign.optimize.branch", "x"]
    assert bench_runs._place(stack) == "relaxation: highs"
    assert bench_runs._place(["codesign.optimize.model", "bench_runs"]) == "whole: model"
    assert bench_runs._place(["numpy", "codesign.candidates.build"]) == "candidates"


def test_own_process_reports_its_memory():
    instance = functools.partial(bench_fleets.synthetic_fleet, 8, 2, hardware=2)
    run = bench_runs.in_own_process(bench_runs.run_search, instance, 10.0, gap=0.0, threads=1)
    assert run.status == "optimal"
    assert run.peak_gb > 0


def here(run, instance, seconds, **options):
    """Instead of a process for each run: the same here."""
    return run(instance() if callable(instance) else instance, seconds=seconds, **options)


def test_command_prints_tables_and_writes_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_solver, "in_own_process", here)
    pytest.importorskip("pulp")
    pytest.importorskip("matplotlib")
    figures, picture = tmp_path / "figures.json", tmp_path / "times.png"
    words = "--part columns --columns 30 --classes 2 --seconds 5"
    words += " --part melange --sizes 3x4 --factors 1 --seeds 1 --part fleets --fleets 20 --variants plain --part scale"
    problem = ROOT / "problems" / "melange-toy.yaml"
    files = ["--problem", problem, "--json", figures, "--plot", picture]
    bench_solver.main([*words.split(), *map(str, files)])
    parts = json.loads(figures.read_text())["parts"]
    (row,) = parts["columns"]["rows"]  # two pools are no slice of 30
    assert row["search"]["status"] == row["milp"]["status"] == "optimal"
    assert parts["columns"]["summary"]["never_worse"] == 1
    assert parts["melange"]["summary"]["1"]["dearer"] == 0
    (fleet,) = parts["fleets"]["rows"]
    assert fleet["status"] == "optimal"
    assert fleet["first_plan_seconds"] >= fleet["load_seconds"]
    assert "synthetic" in capsys.readouterr().out
    assert picture.stat().st_size > 0
