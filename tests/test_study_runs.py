"""Runs that are killed, resumed, shared and moved to other processes: the result is always the same."""

import json
import multiprocessing
import os
import random
import re
import signal
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
from studies import POOLS, outcome, problem, two_pools

from codesign import pareto, sweep
from codesign.files import WriteError, write_atomically
from codesign.problem import resolve
from codesign.study.jobs import Job
from codesign.study.store import Store, _digest, fingerprint
from codesign.study.workers import Crew, WorkersError

RATES = ["10/s", "20/s", "30/s"]


def trace(folder, **options):
    front = pareto(problem(), points=12, directory=folder, **options)
    front.write(Path(folder))
    return outcome(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return trace(tmp_path_factory.mktemp("undisturbed"))


def test_a_finished_run_is_found_again(tmp_path, undisturbed, monkeypatch):
    assert trace(tmp_path) == undisturbed
    monkeypatch.setattr("codesign.study.workers.run_job", None)  # nothing is solved any more
    assert trace(tmp_path) == undisturbed


def changed(**fields):
    return lambda run: json.dumps(json.loads(run) | fields)


def resealed(**fields):
    """Fields changed by somebody who also made the checksum right: another version of this program."""

    def change(run):
        document = {name: value for name, value in (json.loads(run) | fields).items() if name != "sha256"}
        return json.dumps(document | {"sha256": _digest(document)})

    return change


def with_objective(value):
    """The text of a run whose objective's value is another, which JSON as such has no word for."""
    return lambda run: re.sub(r'("value": )[0-9.e+-]+', rf"\g<1>{value}", run)


UNBELIEVABLE = {
    "cut off": (lambda run: run[: run.index('"solution"') + 4], "Unterminated"),
    "empty": (lambda run: "", "Expecting value"),
    "another document": (lambda run: "{}", "another key"),
    "a list": (lambda run: "[1, 2]", "another key"),
    "of another run": (changed(key="0" * 64), "another key"),
    "NaN": (with_objective("NaN"), "found NaN"),
    "infinite": (with_objective("-Infinity"), "found -Infinity"),
    "too large": (with_objective("1e999"), "found 1e999"),
    "another number": (with_objective("1.0"), "changed since"),
    "an older format": (resealed(format=3), "found format 3"),
    "no start": (resealed(start=None), ""),
    "no solution": (resealed(solution=[]), ""),
    "nothing else": (lambda run: json.dumps({"key": json.loads(run)["key"]}), "found format None"),
    "deep": (lambda run: "[" * 100_000, "recursion"),
}


@pytest.mark.parametrize("names", [list(UNBELIEVABLE)[::2], list(UNBELIEVABLE)[1::2]], ids=["some", "others"])
def test_a_run_that_is_not_what_was_written_is_solved_again_and_said(tmp_path, undisturbed, names):
    trace(tmp_path)
    runs = sorted((tmp_path / "runs").glob("*.json"))[: len(names)]
    chosen = {path: UNBELIEVABLE[name] for path, name in zip(runs, names, strict=True)}
    for path, (change, _) in chosen.items():
        path.write_text(change(path.read_text()))
    front = pareto(problem(), points=12, directory=tmp_path)
    front.write(tmp_path)
    assert outcome(tmp_path) == undisturbed
    assert len(front.notes) == len(chosen)
    for path, (_, why) in chosen.items():
        assert any(str(path) in note and why in note and note.endswith("solved again") for note in front.notes), why
    assert pareto(problem(), points=12, directory=tmp_path).notes == ()


def test_a_run_that_cannot_be_read_or_is_no_text_is_solved_again(tmp_path):
    settings = {"tasks.short.rate": ["5/s", "15/s"]}
    sweep(two_pools(), settings, directory=tmp_path)
    first, second = sorted((tmp_path / "runs").glob("*.json"))
    first.write_bytes(b"\xff\xfe\x00")
    second.unlink()
    second.mkdir()
    with pytest.raises(WriteError, match="Is a directory"):  # it cannot be replaced either
        sweep(two_pools(), settings, directory=tmp_path)
    second.rmdir()
    found = sweep(two_pools(), settings, directory=tmp_path)
    assert [run.solution.objective.value for run in found.runs] == [2.0, 4.0]


def test_another_problem_gap_or_order_has_other_names():
    instance = resolve(problem())
    job = Job(instance, "cost_per_hour", 0.0, 60.0)
    keys = {job.key}
    keys.add(Job(instance, "power", 0.0, 60.0).key)
    keys.add(Job(instance, "cost_per_hour", 0.01, 60.0).key)
    keys.add(Job(instance, "cost_per_hour", 0.0, 60.0, (("power", 5.0),)).key)
    keys.add(Job(resolve(problem(rates={"short": 40.0, "long": 8.1})), "cost_per_hour", 0.0, 60.0).key)
    dearer = {**POOLS, "l4": (0.91, *POOLS["l4"][1:])}
    keys.add(Job(resolve(problem(dearer)), "cost_per_hour", 0.0, 60.0).key)
    assert len(keys) == 6
    assert Job(resolve(problem()), "cost_per_hour", 0.0, 60.0).key == job.key
    assert Job(instance, "power", 0.0, 60.0).problem_key == job.problem_key


def test_another_solver_is_asked_anew(monkeypatch):
    """What a release that was wrong has found is not believed under a right one."""
    instance = resolve(problem())
    keys = {Job(instance, "cost_per_hour", 0.0, 60.0).key}
    monkeypatch.setattr("codesign.study.jobs.version", lambda name: "1.14.0" if name == "highspy" else version(name))
    keys.add(Job(instance, "cost_per_hour", 0.0, 60.0).key)
    assert len(keys) == 2


def test_fingerprints_tell_arrays_apart():
    import numpy as np

    one = np.arange(5000.0)
    other = one.copy()
    other[2500] += 1e-9
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="canonical"):
        fingerprint(object())


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "a.csv"
    write_atomically(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]
    store = Store(tmp_path)
    assert store.get("missing") is None
    store.put("k", {"x": 1.5})
    assert store.get("k") == {"key": "k", "x": 1.5}


@pytest.mark.parametrize("seed", range(3))
def test_local_workers_killed_at_random_moments(tmp_path, undisturbed, seed):
    """While they start, import, take a job, solve it, or hand its result over."""
    draw, done, killed = random.Random(seed), threading.Event(), []

    def kill():
        while not done.wait(draw.choice((0.01, 0.3, 1.0)) * draw.random()) and len(killed) < 6:
            for child in draw.sample(children := multiprocessing.active_children(), min(1, len(children))):
                killed.append(child.pid)
                child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert trace(tmp_path, workers=2) == undisturbed
    finally:
        done.set()
        killer.join()
    assert killed


def test_local_workers_one_of_them_killed(tmp_path, undisturbed):
    killed = []

    def kill_one(news):
        children = multiprocessing.active_children()
        if news.done >= 3 and children and not killed:
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)

    assert trace(tmp_path, workers=2, progress=kill_one) == undisturbed
    assert killed


def test_dask_with_a_worker_killed(tmp_path, undisturbed):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        killed = []

        def kill_one(news):
            if news.done >= 3 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        assert trace(tmp_path, dask=cluster.scheduler_address, progress=kill_one) == undisturbed
        assert killed


def test_no_scheduler_is_said(monkeypatch):
    monkeypatch.setattr("codesign.study.workers._CONNECT_SECONDS", 0.5)
    with pytest.raises(WorkersError, match="no Dask scheduler"), Crew(Store(None), dask="tcp://127.0.0.1:1"):
        pass


def test_cancelled_it_keeps_what_is_done(tmp_path, undisturbed):
    cancel = threading.Event()

    def stop(news):
        if news.done >= 4:
            cancel.set()

    front = pareto(problem(), points=12, directory=tmp_path, progress=stop, cancel=cancel)
    assert not front.complete
    assert 4 <= len(list((tmp_path / "runs").glob("*.json"))) < 24
    assert trace(tmp_path) == undisturbed


def test_progress_counts_up_and_says_what_is_left():
    news = []
    pareto(problem(), points=6, progress=news.append)
    done = [n.done for n in news]
    assert done == sorted(done)
    assert done[-1] >= 6
    assert any(n.seconds_left is not None for n in news)


# ---- sweeps ------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination():
    found = sweep(problem(), {"tasks.short.rate": RATES, "tasks.long.rate": ["1/s", "2/s"]})
    assert [(r.settings["tasks.short.rate"], r.settings["tasks.long.rate"]) for r in found.runs][:3] == [
        ("10/s", "1/s"),
        ("10/s", "2/s"),
        ("20/s", "1/s"),
    ]
    assert len(found.runs) == 6
    values = [run.solution.objective.value for run in found.runs]
    assert values[0] <= values[1]
    assert values[0] <= values[2] <= values[4]


def test_breakpoints_by_hand():
    found = sweep(
        two_pools(), {"tasks.short.rate": ["5/s", "15/s", "40/s"]}, breakpoints=True, watch="counts", tolerance=0.001
    )
    at = [(b.below, b.above) for b in found.breakpoints]
    assert at == [("1 × SMALL", "2 × SMALL"), ("2 × SMALL", "1 × LARGE")]
    for b, exact in zip(found.breakpoints, (10.0, 20.0), strict=True):
        low, high = (float(v.removesuffix("/s")) for v in (b.low, b.high))
        assert low <= exact <= high
        assert high - low <= 0.001 * 35 + 1e-9
    assert len(found.runs) <= 3 + 2 * 10  # ten halvings each
    assert [run.refined for run in found.runs][:3] == ["", "", ""]


def test_a_list_a_table_and_scenarios():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"tasks.short.rate": ["5/s", "15/s"], "options.gap": [0.0, 0.01]})
    listed = sweep(two_pools(), table)
    assert [run.solution.objective.value for run in listed.runs] == pytest.approx([2.0, 4.0])
    together = sweep(two_pools(), {"tasks.short.rate": ["5/s", "15/s"], "options.gap": [0.0, 0.01]}, together=True)
    assert [r.solution.objective for r in together.runs] == [r.solution.objective for r in listed.runs]
    dear = {"base": {}, "dear": {"measured_pools.small.cost": "6 $/h"}}
    both = sweep(two_pools(), {"tasks.short.rate": ["5/s"]}, scenarios=dear)
    assert [(run.scenario, run.solution.objective.value) for run in both.runs] == [("base", 2.0), ("dear", 5.0)]
    assert both.to_dataframe()["scenario"].tolist() == ["base", "dear"]
    assert "<td>dear" not in both._repr_html_()
    assert both._repr_html_().count("<tr>") == 3


def test_a_sweep_of_what_no_price_can_express():
    most = two_pools().replace({"objective": "max_rate", "limits.budget.cost_per_hour": "5 $/h"})
    found = sweep(most, {"limits.budget.cost_per_hour": ["5 $/h", "10 $/h"]})
    assert [run.solution.objective.value for run in found.runs] == pytest.approx([10.0, 20.0], rel=0.01)


def test_a_run_without_a_plan_is_a_row():
    found = sweep(two_pools(), {"limits.inventory": [{"SMALL": 1, "LARGE": 0}, {"SMALL": 0, "LARGE": 0}]})
    rows = [dict(zip(found.header(), row, strict=True)) for row in found.rows()]
    assert [row["status"] for row in rows] == ["optimal", "infeasible"]
    assert rows[1]["cost_per_hour"] is None
    assert rows[0]["limits.inventory"] == '{"SMALL": 1, "LARGE": 0}'


def test_a_sweep_is_one_tidy_table(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas

    found = sweep(two_pools(), {"tasks.short.rate": ["5/s", "15/s"]}, directory=tmp_path)
    found.write(tmp_path, parquet=True)
    table = pandas.read_csv(tmp_path / "runs.csv")
    assert table["cost_per_hour"].tolist() == [2.0, 4.0]
    assert table["accelerators.SMALL"].tolist() == [1, 2]
    assert all((tmp_path / name).is_file() for name in table["solution"])
    assert pandas.read_parquet(tmp_path / "runs.parquet")["value"].tolist() == [2.0, 4.0]
