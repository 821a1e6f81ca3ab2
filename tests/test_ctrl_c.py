"""Ctrl-C of real processes, whatever they are at: an answer within two seconds, with the plan where one is known."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLEET = str(ROOT / "problems" / "agent-fleet.yaml")
WITHIN_SECONDS = 2.0


def interrupted(seconds, *words):
    """(exit code, seconds until it came, standard output and error) of a command interrupted after some seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "codesign", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        time.sleep(seconds)
        assert process.poll() is None, process.communicate()
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, time.monotonic() - sent, out, err
    finally:
        process.kill()


@pytest.mark.parametrize("seconds", [0.15, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_solve(seconds, tmp_path):
    """Imports, enumeration, relaxation, search: exit code 0 with a plan, else 4; never a traceback."""
    target = tmp_path / "plan.json"
    words = ("solve", FLEET, "--gap", "0", "--time-limit", "60s", "--json", "-o", str(target))
    code, waited, out, err = interrupted(seconds, *words)
    assert waited < WITHIN_SECONDS, err
    assert code in (0, 4), err
    assert "Traceback" not in err
    if code == 0:
        assert json.loads(out)["fleet"]
        assert json.loads(target.read_text())["solve"]["stopped_by"] == "interrupt"
    elif out:
        assert json.loads(out)["status"] == "no_solution"


@pytest.mark.parametrize(
    "words",
    [
        ("explain", FLEET),
        ("simulate", FLEET, str(ROOT / "solutions" / "agent-fleet.json"), "--duration", "1000s"),
        ("profile", FLEET, "--batch", ",".join(str(n) for n in range(1, 400))),
    ],
    ids=lambda words: words[0],
)
def test_other_commands_end_with_the_code_of_shells(words):
    """With everything that they have started: pipes are closed when the last process has ended."""
    code, waited, _, err = interrupted(2.0, *words)
    assert waited < WITHIN_SECONDS, err
    assert code == 130
    assert "Traceback" not in err


def test_sweep(tmp_path):
    words = ("sweep", FLEET, "--set", "tasks.coding.rate=10/s,20/s", "-o", str(tmp_path / "runs"), "--workers", "2")
    code, waited, _, err = interrupted(6.0, *words)
    assert waited < WITHIN_SECONDS, err
    assert code in (0, 130), err
    assert "Traceback" not in err
