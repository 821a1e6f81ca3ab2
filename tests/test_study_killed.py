"""`kill -9` at random moments, twenty times: what a study leaves behind is what an undisturbed one leaves.

Each run is a process of its own that kills itself with half a file on disk, between a file and its name, or in the
middle of a solve, or that is killed by the clock wherever it happens to be.  All go on in one folder.
"""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from studies import outcome, problem, two_pools

from codesign import pareto, sweep

KILLS = 20
MOMENTS = ("half written", "not yet named", "solving", "clock")


def trace(folder, progress=None):
    pareto(problem(), points=12, directory=folder, progress=progress).write(Path(folder))


def survey(folder, progress=None):
    settings = {"tasks.short.rate": ["5/s", "15/s", "40/s"]}
    found = sweep(
        two_pools(), settings, breakpoints=True, watch="counts", tolerance=0.01, directory=folder, progress=progress
    )
    found.write(Path(folder))


STUDIES = {"pareto": trace, "sweep": survey}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def doomed(study, folder, moment, countdown):
    """The study, ended by SIGKILL at the `countdown`-th occasion."""
    left = [countdown]

    def due():
        left[0] -= 1
        return left[0] == 0

    fsync, replace = os.fsync, os.replace

    def half(descriptor):
        if due():
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)

    def unnamed(source, target):
        if due():
            die()
        replace(source, target)

    def news(_):
        if moment == "solving" and due():
            die()

    if moment == "half written":
        os.fsync = half
    if moment == "not yet named":
        os.replace = unnamed
    STUDIES[study](folder, news)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported: a kill costs what the study costs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["codesign.study.pareto", "codesign.study.sweep", "codesign.optimize.fleet"])
    return context


@pytest.mark.parametrize("study", STUDIES)
def test_killed_twenty_times_it_ends_as_if_undisturbed(study, processes, tmp_path):
    quiet, folder = tmp_path / "quiet", tmp_path / "killed"
    STUDIES[study](quiet)
    folder.mkdir()
    draw = np.random.default_rng(11)
    killed, progress = 0, []
    while killed < KILLS:
        moment = MOMENTS[int(draw.integers(len(MOMENTS)))]
        run = processes.Process(target=doomed, args=(study, folder, moment, int(draw.integers(1, 12))))
        run.start()
        if moment == "clock":
            run.join(float(draw.uniform(0.05, 0.6)))
            run.kill()
        run.join()
        killed += run.exitcode == -signal.SIGKILL
        progress.append(len(list(folder.glob("runs/*.json"))))
    assert progress == sorted(progress)  # nothing that was finished is lost
    assert any(0 < stored < progress[-1] for stored in progress)  # and it was in the middle when it was killed
    STUDIES[study](folder)
    assert outcome(folder) == outcome(quiet)


def test_two_processes_share_a_folder(processes, tmp_path):
    quiet, folder = tmp_path / "quiet", tmp_path / "shared"
    trace(quiet)
    both = [processes.Process(target=trace, args=(folder,)) for _ in range(2)]
    for run in both:
        run.start()
    for run in both:
        run.join()
    assert [run.exitcode for run in both] == [0, 0]
    assert outcome(folder) == outcome(quiet)
    assert not [path for path in (folder / "solutions").iterdir() if path.suffix != ".json"]
