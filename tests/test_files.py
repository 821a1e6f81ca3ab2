"""Files that are whole or not there: what killed writers leave is swept, what disks refuse is said."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codesign.files import WriteError, make_folder, parse_json, probe, sweep, write_atomically

DIES = """\
import os, signal, sys
from pathlib import Path
from codesign import files
moment = sys.argv[2]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, {"writing": "fsync", "renaming": "replace"}[moment], die)
files.write_atomically(Path(sys.argv[1]), "content")
"""


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def dead_writer(path, moment):
    subprocess.run([sys.executable, "-c", DIES, str(path), moment], check=False)


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_what_a_killed_writer_leaves_is_swept(tmp_path, moment):
    dead_writer(tmp_path / "plan.json", moment)
    assert len(hidden(tmp_path)) == 1
    (tmp_path / ".bashrc").write_text("not ours")
    sweep(tmp_path)
    assert hidden(tmp_path) == [".bashrc"]


def test_a_live_writer_keeps_its_file(tmp_path, monkeypatch):
    """A sweep between any two steps of a write: the file arrives all the same."""
    real = {name: getattr(os, name) for name in ("fsync", "chmod", "replace")}
    swept = []

    def sweeping(name):
        def step(*given):
            thread = threading.Thread(target=sweep, args=(tmp_path,))
            thread.start()
            thread.join()
            swept.append(name)
            return real[name](*given)

        return step

    for name in real:
        monkeypatch.setattr(os, name, sweeping(name))
    write_atomically(tmp_path / "a", "whole")
    assert swept == ["fsync", "chmod", "replace"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_writers_and_sweepers_at_once(tmp_path):
    """The moment between a file's name and its lock too."""
    done = threading.Event()

    def clean():
        while not done.is_set():
            sweep(tmp_path)

    sweepers = [threading.Thread(target=clean) for _ in range(3)]
    for thread in sweepers:
        thread.start()
    try:
        for number in range(300):
            write_atomically(tmp_path / "a", str(number))
            assert (tmp_path / "a").read_text() == str(number)
    finally:
        done.set()
        for thread in sweepers:
            thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_locks_age_decides(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    dead_writer(tmp_path / "plan.json", "writing")
    (left,) = hidden(tmp_path)
    monkeypatch.setattr("codesign.files.fcntl.flock", unsupported)
    sweep(tmp_path)
    assert hidden(tmp_path) == [left]
    os.utime(tmp_path / left, (0, 0))
    sweep(tmp_path)
    assert hidden(tmp_path) == []
    write_atomically(tmp_path / "a", "still written")
    assert (tmp_path / "a").read_text() == "still written"


def test_a_file_that_is_too_large_is_named_and_the_old_one_stays(tmp_path):
    path = tmp_path / "plan.json"
    write_atomically(path, "old")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, usual[1]))
    try:
        with pytest.raises(WriteError) as caught:
            write_atomically(path, "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert caught.value.filename == str(path)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError) as caught:
        make_folder(tmp_path / "file" / "runs")
    assert caught.value.filename == str(tmp_path / "file" / "runs")
    with pytest.raises(WriteError, match="No such file"):
        write_atomically(tmp_path / "none" / "a", "x")


def test_names_of_any_length_and_kind(tmp_path):
    for name in ("é" * 120, "a" * 250, "with space", ".hidden", "-o"):
        write_atomically(tmp_path / name, "x")
        probe(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 5
    write_atomically(Path(os.path.relpath(tmp_path / "relative")), b"bytes")


def test_json_that_nests_too_deeply_is_a_fault_of_the_file():
    with pytest.raises(json.JSONDecodeError, match="Nested too deeply"):
        parse_json("[" * 100_000)
    assert parse_json(b'{"a": [1, 2.5]}') == {"a": [1, 2.5]}
