"""Commands of README.md, docs/, the help and the problem files, run as users run them: `scripts/run_commands.py`."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKDOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def script():
    spec = importlib.util.spec_from_file_location("run_commands", ROOT / "scripts" / "run_commands.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


run_commands = script()
PAGES = {page.name: page for page in run_commands.pages()}
LEFT = {
    "docs/first-plan.md": {
        "report.html": "Simulated request by request",
        "front.html": "click a point to see its plan",
        "deploy/README.md": "",
        "runs/runs.csv": "tasks.chat.rate",
    },
    "README.md": {"plan.json": '"status"', "front.html": "", "mine.yaml": "multiplier"},
    run_commands.HELP: {"fleet.mps": "ENDATA", "problem.schema.json": '"tasks"'},
}
"""What pages leave behind, with words of it."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Where codesign is installed from a wheel; made once for all processes of the tests."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "installed"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return run_commands.installed(shared)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_page_does_what_the_page_says(name, programs, tmp_path):
    runs = list(run_commands.run_page(PAGES[name], programs, tmp_path / "checkout", ci=True))
    assert [f"{ran.text}: exit code {ran.code}\n{ran.said}" for ran in runs if not ran.good] == []
    for file, words in LEFT.get(name, {}).items():
        assert words in (tmp_path / "checkout" / file).read_text(), file


@pytest.mark.parametrize("name", PAGES)
def test_what_does_not_run_says_why_and_every_marker_concerns_a_command(name):
    page = PAGES[name]
    assert page.idle == []
    for command in page.commands:
        for marker in command.markers:
            assert marker.reason is None or len(marker.reason.split()) > 4, command.text
        for other in command.stand_ins.values():
            assert (ROOT / other).is_file(), command.text
    # What does not run here runs elsewhere, on something smaller, with as many arguments; but for our own scripts.
    every = [command for other in PAGES.values() for command in other.commands]
    run = {(command.words[1], len(command.words)) for command in every if not command.reason}
    for command in page.commands:
        if command.reason and not re.match(r"\S*python|\.venv/bin/(pip|pytest)", command.text):
            assert (command.words[1], len(command.words)) in run, command.text


@pytest.mark.parametrize("name", PAGES)
def test_what_is_no_whole_command_names_commands_and_options_that_there_are(name):
    for text in PAGES[name].mentions:
        words = shlex.split(text)
        assert run_commands.parsed(words[1:]) in (None, "MissingParameter"), text


def test_every_block_of_a_page_is_read():
    """No command hides in a block that is not read, such as one marked `bash` or `console`."""
    for path in MARKDOWN:
        text = path.read_text(encoding="utf-8")
        told = {command.text for command in PAGES[path.relative_to(ROOT).as_posix()].commands}
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            assert kind == "sh" or not re.search(r"^\W*(codesign|python) ", block, re.MULTILINE), (path.name, kind)
            if kind == "sh":
                lines = [line for line in block.splitlines() if line and not line.startswith("#")]
                assert all(any(one in line for one in told) for line in lines), path.name


def test_markers_cut_short_and_never_behind_what_the_shell_does():
    command = run_commands.Command("a", "codesign solve p.yaml > plan.json", (run_commands.Marker((), "--gap 50%"),))
    assert command.short == "codesign solve p.yaml --gap 50% > plan.json"
    only = run_commands.Marker(("sweep",), "--gap 50%")
    assert only.concerns(["codesign", "sweep", "p.yaml"])
    assert not only.concerns(["codesign", "solve", "sweep.yaml", "sweep"])
    assert run_commands.Marker((), "a.csv is tests/b.csv").stand_in == ("a.csv", "tests/b.csv")
    assert run_commands.Marker((), "not run, it never ends").reason == "it never ends"


@pytest.mark.parametrize("page", run_commands.problem_pages(), ids=lambda page: page.name)
def test_every_example_of_a_problem_file_is_a_command_with_the_options_that_it_uses(page):
    for command in page.commands:
        assert run_commands.parsed(command.words[1:]) is None, command.text


def test_every_command_has_an_example_in_its_help():
    from typer.testing import CliRunner

    from codesign.cli import COMMANDS, EXAMPLES, app

    assert tuple(EXAMPLES) == COMMANDS
    for name, examples in EXAMPLES.items():
        told = CliRunner().invoke(app, [name, "--help"]).output
        for example in examples:
            assert example in told, name
            assert shlex.split(example)[1] == name


def test_pictures_and_links_of_the_docs_are_there():
    for page in MARKDOWN:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == []
