"""Workers that are killed at any moment: results are those of an undisturbed run, and nobody waits for the dead."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from codesign.processes import Processes, WorkersError

SIZE = 3_000_000
"""Bytes of each piece and of each result, more than a pipe holds: many kills hit a message on its way."""


def double(piece, tell):
    tell(len(piece))
    time.sleep(piece[0] / 2000)
    return piece + piece


def fail(piece, tell):
    if piece == "bad":
        raise KeyError("no such part")
    return piece


def strange(piece, tell):
    raise StrangeError(1, 2)


class StrangeError(Exception):
    """Cannot be taken apart and put together again."""

    def __init__(self, one, other):
        super().__init__("neither")


def deadly(piece, tell):
    if piece:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def half_a_message(piece, tell):
    """Die with half of a result in the pipe, the first time that this piece is worked on."""
    path, number = piece
    try:
        os.close(os.open(f"{path}/{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return number
    for descriptor in range(3, 64):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, (1000).to_bytes(4, "big") + b"half")
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def forever(piece, tell):
    tell(os.getpid())
    time.sleep(600)


def pieces(count):
    return {number: bytes([number]) * SIZE for number in range(count)}


def test_results_by_key_news_and_workers_that_are_kept():
    heard = {}
    with Processes(2, double) as processes:
        found = dict(processes.run(pieces(4), hear=heard.__setitem__))
        alive = {child.pid for child in multiprocessing.active_children()}
        again = dict(processes.run(pieces(4)))
        assert {child.pid for child in multiprocessing.active_children()} == alive
    assert found == again == {key: piece + piece for key, piece in pieces(4).items()}
    assert heard == dict.fromkeys(range(4), SIZE)
    assert not {child.pid for child in multiprocessing.active_children()} & alive


def test_killed_at_random_moments_results_are_the_same():
    """While workers start, take a piece, work, send a result, idle, and are replaced."""
    draw, done, killed = random.Random(5), threading.Event(), []

    def kill():
        while not done.wait(draw.uniform(0.0, 0.12)):
            children = multiprocessing.active_children()
            if children:
                with_work = draw.choice(children)
                killed.append(with_work.pid)
                with_work.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            with Processes(3, double) as processes:
                try:
                    found = dict(processes.run(pieces(3)))
                except WorkersError:  # four kills of one piece: said, not waited for
                    continue
            assert found == {key: piece + piece for key, piece in pieces(3).items()}
    finally:
        done.set()
        killer.join()
    assert len(killed) > 20


def test_half_a_result_is_no_result(tmp_path):
    with Processes(2, half_a_message) as processes:
        assert dict(processes.run({n: (str(tmp_path), n) for n in range(4)})) == {n: n for n in range(4)}


def test_errors_of_work_are_raised_with_where_they_arose():
    with Processes(2, fail) as processes:
        with pytest.raises(KeyError, match="no such part") as caught:
            dict(processes.run({1: "good", 2: "bad"}))
        assert "in fail" in "".join(caught.value.__notes__)
        assert dict(processes.run({1: "good"})) == {1: "good"}
    with Processes(1, strange) as processes, pytest.raises(RuntimeError, match="StrangeError: neither"):
        dict(processes.run({1: None}))


def test_work_that_is_deadly_is_given_up():
    with Processes(2, deadly) as processes, pytest.raises(WorkersError, match="again and again"):
        dict(processes.run({1: False, 2: True}))


def test_whoever_waits_can_stop():
    def tick():
        if heard:
            raise TimeoutError

    heard = []
    with Processes(1, forever) as processes, pytest.raises(TimeoutError):
        list(processes.run({1: None}, tick, lambda _, news: heard.append(news)))
    assert not alive(heard[0])


def test_workers_do_not_outlive_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from test_processes import forever\nfrom codesign.processes import Processes\n"
        "def told(_, pid):\n    print(pid, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n    list(Processes(1, forever).run({1: None}, hear=told))\n"
    )
    parent = subprocess.run(
        [sys.executable, str(script), os.path.dirname(__file__)], capture_output=True, text=True, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    while alive(int(parent.stdout)):
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_script_without_the_guard_is_told(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_processes import fail\nfrom codesign.processes import Processes\n"
        "print(dict(Processes(1, fail).run({1: 1})))\n"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert "__name__ == '__main__'" in told.stderr
    assert told.returncode == 1
