"""`scripts/stress.py` as it is run: it counts, goes on where it was stopped, and keeps what it finds, made small."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from disagreements import Finding, judged, load, smallest, solved, to_json
from fleets import block, colocated, fleet, server
from random_fleets import random_fleet

from codesign.candidates.data import Offer, SideLimit

ROOT = Path(__file__).parents[1]
STRESS = [sys.executable, str(ROOT / "scripts" / "stress.py")]


def run(folder, *words):
    return subprocess.run(
        [*STRESS, "--resume", str(folder), *words], capture_output=True, text=True, cwd=folder, timeout=300
    )


def test_it_goes_on_where_it_was_stopped(tmp_path):
    words = ["--instances", "300", "--seed", "9", "--workers", "1"]
    running = subprocess.Popen([*STRESS, "--resume", str(tmp_path), *words], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    state = tmp_path / "state.json"
    for _ in range(600):
        if state.exists() and json.loads(state.read_text())["done"]:
            break
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert "goes on" in said
    done = json.loads(state.read_text())["done"]
    assert 0 < len(done) < 3
    finished = run(tmp_path, *words)
    assert "Traceback" not in finished.stderr, finished.stderr
    table = json.loads((tmp_path / "table.json").read_text())
    assert sum(counts["instances"] for counts in table["kinds"].values()) == 300
    assert {name: json.loads(state.read_text())["done"][name] for name in done} == done  # nothing was done again
    assert f"| all | {300} |" in (tmp_path / "table.md").read_text()
    known = json.loads(state.read_text())
    spoilt, kind = next((name, kind) for name, chunk in known["done"].items() for kind in chunk["kinds"])
    known["done"][spoilt]["kinds"][kind]["disagreements"] = 1
    state.write_text(json.dumps(known))
    mended = run(tmp_path, *words)  # what was answered wrong is tried again
    assert (mended.returncode, f"| all | {300} |" in mended.stdout) == (0, True)
    assert not json.loads(state.read_text())["done"][spoilt]["kinds"][kind]["disagreements"]
    other = run(tmp_path, "--instances", "200")
    assert other.returncode == 1
    assert "another run" in other.stderr


def test_it_says_so_where_kinds_are_unknown(tmp_path):
    refused = run(tmp_path, "--kinds", "no such kind")
    assert refused.returncode == 2
    assert "nine orders" in refused.stderr


def wrong(data, seconds):
    """An optimiser that forgets limits on servers set aside."""
    limits = tuple(limit for limit in data.limits if not limit.per_packing)
    return solved(replace(data, limits=limits), seconds)


def test_what_is_wrong_is_found_and_made_small(tmp_path):
    """Of a fleet of two tasks with many limits the one row is left that the optimiser forgets."""
    columns = block([0, 1], [[[1.0, 0.5]], [[0.7, 0.9]]], [[1.0], [1.0]], packing=[0, 1], group=[0, 1])
    data = fleet(
        [2.0, 1.3],
        [colocated(0), colocated(1)],
        [columns],
        hardware=(server("box"), server("card")),
        offers=(Offer("box", 0, 3.0, 40.0, 2), Offer("card", 1, 1.1, 0.0, 0), Offer("again", 0, 3.3, 0.0, 0)),
        limits=(
            SideLimit("stock", "servers", 40.0, {0: 1.0, 1: 1.0}),
            SideLimit("racks", "servers", 1.0, per_packing={1: 1.0}),
        ),
        max_designs=2,
    )
    assert not judged(data).what
    finding = judged(data, solve=wrong)
    assert finding.what == "refused (racks)"
    assert finding.wrong
    small, again = smallest(data, finding, 30.0, wrong)
    assert again.what == finding.what
    assert [limit.name for limit in small.limits] == ["racks"]
    assert (len(small.tasks), small.columns, small.max_designs) == (1, 1, None)
    path = tmp_path / "found.json"
    path.write_text(to_json(small))
    assert judged(load(path), solve=wrong).what == finding.what
    assert not judged(load(path)).what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"status": "infeasible", "objective": float("inf"), "replicas": {}, "rates": {}}, "false infeasible"),
        ({"objective": 0.0, "bound": 0.0}, "refused (objective)"),
        ({"bound": 1e9, "status": "feasible"}, "refused (bound)"),
        ({"bound": 0.0}, "bound"),
        ({"status": "feasible"}, "gave up"),
    ],
)
def test_every_sort_of_wrong_answer_has_its_name(change, what):
    data = random_fleet(0, "colocated")
    assert judged(data).status == "optimal"
    finding = judged(data, solve=lambda data, seconds: replace(solved(data, seconds), **change))
    assert finding.what == what


def test_a_dearer_plan_idle_servers_and_errors_are_found():
    data = fleet([1.0], [colocated(0)], [block([0], [[[1.0]]], [[1.0]])])

    def dearer(data, seconds):
        plan = solved(data, seconds)
        return replace(plan, servers={0: 2}, objective=2.0, bound=2.0)

    assert judged(data, solve=dearer).what == "too dear"
    free = replace(data, offers=(replace(data.offers[0], usd_per_hour=0.0),))
    assert judged(free, solve=lambda data, s: replace(solved(data, s), servers={0: 2})).what == "idle (servers)"

    def broken(data, seconds):
        raise ZeroDivisionError

    assert judged(data, solve=broken).what == "traceback (ZeroDivisionError)"
    assert not Finding("second (refused)").wrong  # that is not the optimiser's fault
