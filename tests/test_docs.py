"""Examples of README.md, docs/ and the problem files: those of the first plan run, all others are known commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from codesign.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST = ROOT / "docs" / "first-plan.md"


def commands(text: str) -> list[list[str]]:
    """The words of every codesign command in a page's shell blocks, with `>` and its file where there are."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and Path(words[0]).name == "codesign":
                    found.append(words[1:])
    return found


def in_problem(path: Path) -> list[list[str]]:
    """The commands that a problem file's comments name."""
    text = "\n".join(line[1:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    told = [re.split(r"\s{4,}", line.strip())[0] for line in lines if line.strip().startswith("codesign ")]
    return [shlex.split(line)[1:] for line in told]


def stated() -> list[tuple[str, list[str]]]:
    pages = [(path.name, words) for path in PAGES for words in commands(path.read_text(encoding="utf-8"))]
    files = sorted((ROOT / "problems").rglob("*.yaml"))
    return pages + [(path.name, words) for path in files for words in in_problem(path)]


@pytest.mark.parametrize(("page", "words"), stated(), ids=str)
def test_every_example_is_a_command_with_the_options_that_it_uses(page, words):
    name, *rest = words[: words.index(">")] if ">" in words else words
    if name not in COMMANDS:
        assert name.startswith("-"), f"{page}: codesign {name}"
        return
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, rest, resilient_parsing=False)


def test_the_first_plan_leads_to_a_deployment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands(FIRST.read_text(encoding="utf-8")):
        arguments, into = (words[: words.index(">")], words[-1]) if ">" in words else (words, None)
        if arguments[0] in ("sweep", "pareto"):
            arguments += ["--workers", "1"]
        told = CliRunner().invoke(app, arguments)
        assert told.exit_code == 0, f"{' '.join(words)}: {told.output}"
        if into is not None:
            (tmp_path / into).write_text(told.stdout)
    assert "Simulated request by request" in (tmp_path / "report.html").read_text()
    assert "click a point to see its plan" in (tmp_path / "front.html").read_text()
    assert (tmp_path / "deploy" / "README.md").is_file()
    assert (tmp_path / "runs" / "runs.csv").is_file()


def test_pictures_and_links_of_the_docs_are_there():
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == []
