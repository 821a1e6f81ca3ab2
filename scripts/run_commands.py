"""Every command of the documentation, run as users run it: a process of its own, from an installed wheel.

    python scripts/run_commands.py [-o TABLE.md]          in full, as it stands there (hours)
    python scripts/run_commands.py --ci                   as the tests run it, cut short by the markers beside it
    python scripts/run_commands.py --only docs/gallery    of pages whose name has these words

Commands stand in README.md, docs/*.md, the examples of `codesign … --help` and the comments of problem files. Those of
a page run in its order in one folder, a copy of what the documentation assumes, so one has what another has written.
Of text in backticks only whole commands are run; what lacks an argument, or has FILE for one, is a mention.

A marker stands above a block of commands, in a table's row or in a paragraph, is invisible, and counts for CI alone:

    <!-- ci: --gap 50% -->                            arguments that each command of the block gets
    <!-- ci solve sweep: --gap 50% -->                that its `codesign solve` and `codesign sweep` get
    <!-- ci: run.json is tests/data/run.json -->      a file that stands for another, for these commands
    <!-- ci pip: not run, for the reason given -->    a command that cannot run there

Files that users bring (their own measurements) have the stand-in of the marker in full runs as well.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELP = "codesign --help"
CI_FILES = ("problems", "solutions", "scripts", "tests/data")
CI_SECONDS = 1200.0
"""Longer than any command takes there: what has not ended by then hangs."""
_ITSELF = "pytest|run_commands"
_MARKER = re.compile(r"<!-- ci((?: [\w.-]+)*): (.*?) -->", re.DOTALL)
_PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|…")


@dataclass(frozen=True)
class Marker:
    """What is said of commands in CI: arguments, a file for another, or why they do not run."""

    only: tuple[str, ...]
    text: str

    def concerns(self, words: Sequence[str]) -> bool:
        """Is it said of this command?"""
        return not self.only or any(Path(word).name in self.only for word in words[:3])

    @property
    def reason(self) -> str | None:
        """Why the command does not run."""
        return self.text.removeprefix("not run, ") if self.text.startswith("not run, ") else None

    @property
    def stand_in(self) -> tuple[str, str] | None:
        """(file, the one that stands for it)."""
        found = re.fullmatch(r"(\S+) is (\S+)", self.text)
        return (found[1], found[2]) if found else None


@dataclass(frozen=True)
class Command:
    """One command of a page: words of a shell."""

    page: str
    text: str
    markers: tuple[Marker, ...] = ()
    code: int = 0
    """The exit code that the page promises."""

    @property
    def words(self) -> list[str]:
        """As a shell splits it."""
        return shlex.split(self.text, comments=True)

    @property
    def reason(self) -> str | None:
        """Why it does not run in CI."""
        return next((marker.reason for marker in self.markers if marker.reason), None)

    @property
    def stand_ins(self) -> dict[str, str]:
        """Files, and those that stand for them."""
        return dict(marker.stand_in for marker in self.markers if marker.stand_in)

    @property
    def short(self) -> str:
        """The command as it runs in CI: arguments come before what the shell does with its output."""
        added = [marker.text for marker in self.markers if not marker.reason and not marker.stand_in]
        head, *rest = re.split(r"(?=\s[>|])", self.text, maxsplit=1)
        return " ".join([head.rstrip(), *added]) + "".join(rest)


@dataclass
class Ran:
    """What came of a command."""

    command: Command
    text: str
    code: int | None
    seconds: float
    said: str = ""

    @property
    def good(self) -> bool:
        """Did it do what its page says?"""
        return self.code == self.command.code and "Traceback" not in self.said


@dataclass
class Page:
    """The commands of a page, in order, and what in backticks is none."""

    name: str
    commands: list[Command] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    idle: list[Marker] = field(default_factory=list)
    """Markers that concern no command."""

    def add(self, texts: Sequence[str], markers: Sequence[Marker], inline: bool) -> None:
        """Take up the commands of one block or paragraph, and what its markers say of them."""
        used: set[Marker] = set()
        for text in texts:
            words = shlex.split(text, comments=True)
            if inline and not complete(words):
                self.mentions.append(text)
                continue
            mine = tuple(marker for marker in markers if marker.concerns(words))
            used.update(mine)
            if all(text != other.text for other in self.commands):
                self.commands.append(Command(self.name, text, mine))
        self.idle += [marker for marker in markers if marker not in used]


# ---- reading


def complete(words: Sequence[str]) -> bool:
    """Is it a command that can be run as it stands, not just the name of one?"""
    if any(_PLACEHOLDER.search(word) for word in words):
        return False
    return Path(words[0]).name != "codesign" or parsed(words[1:]) is None


def parsed(words: Sequence[str]) -> str | None:
    """None where the command line takes these words; else the kind of its objection."""
    import typer

    from codesign.cli import COMMANDS, app

    if not words or words[0] not in COMMANDS:
        return None if words and words[0].startswith("-") else "UsageError"
    words = words[: words.index(">")] if ">" in words else words
    try:
        typer.main.get_command(app).commands[words[0]].make_context(words[0], list(words[1:]))  # type: ignore[attr-defined]
    except Exception as error:
        return type(error).__name__
    return None


def read_page(path: Path) -> Page:
    """The commands of a Markdown page."""
    page = Page(path.relative_to(ROOT).as_posix())
    waiting: list[Marker] = []
    for part in re.split(r"(^```.*?^```$)", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        block = re.fullmatch(r"```sh\n(.*?)```", part, re.DOTALL)
        if block:
            page.add(list(_lines(block[1])), waiting, inline=False)
            waiting = []
        elif not part.startswith("```"):
            for unit in re.split(r"\n\s*\n|\n(?=\|)", part):
                waiting += [Marker(tuple(only.split()), " ".join(text.split())) for only, text in _MARKER.findall(unit)]
                rest = _MARKER.sub("", unit).strip()
                if rest:
                    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
                    found = [span for span in spans if re.match(r"(codesign|python scripts/\S+)( |$)", span)]
                    page.add(found, waiting, inline=True)
                    waiting = []
    page.idle += waiting
    return page


def _lines(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        for text in re.split(r"\s&&\s", re.sub(r"\s{2,}#.*", "", line)):
            if text.strip():
                yield text.strip()


def read_problem(path: Path) -> Page:
    """The commands that a problem file's comments name; an exit code other than 0 is said beside them."""
    page = Page(path.relative_to(ROOT).as_posix())
    text = "\n".join(line[1:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip().startswith("codesign "):
            command, *rest = re.split(r"\s{4,}", line.strip(), maxsplit=1)
            code = re.search(r"exit code (\d)", " ".join(rest))
            page.commands.append(Command(page.name, " ".join(command.split()), (), int(code[1]) if code else 0))
    return page


def read_help() -> Page:
    """The examples of all commands' help."""
    from codesign.cli import EXAMPLES

    page = Page(HELP)
    for texts in EXAMPLES.values():
        words = [shlex.split(text) for text in texts]
        markers = [marker for marker in _HELP_MARKERS if any(map(marker.concerns, words))]
        page.add(texts, markers, inline=False)
    return page


_HELP_MARKERS = (
    Marker(("bench",), "run.json is tests/data/commands/run.json"),
    Marker(("calibrate",), "points.csv is tests/data/commands/points.csv"),
    Marker(("pareto",), "problem.yaml is tests/data/commands/small.yaml"),
)
"""Help has no room for markers."""


def pages() -> list[Page]:
    """Pages whose commands run in CI too."""
    return [*map(read_page, [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]), read_help()]


def problem_pages() -> list[Page]:
    """Problem files that name commands, which run in full alone."""
    found = map(read_problem, sorted((ROOT / "problems").rglob("*.yaml")))
    return [page for page in found if page.commands]


# ---- running


def installed(folder: Path) -> Path:
    """The `bin` of an environment that has codesign as a wheel: this one, or one made in the folder."""
    import codesign

    site = Path(sysconfig.get_path("purelib"))
    if Path(codesign.__file__).is_relative_to(site):
        return Path(sys.executable).parent
    made = folder / "venv"
    if not (made / "bin" / "codesign").exists():
        source = folder / "source"
        shutil.copytree(ROOT / "codesign", source / "codesign", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "env": _environment()}
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder / "wheel", source], **quiet)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], **quiet)
        # What codesign depends on is taken from where it is, and found after the wheel.
        own = next((made / "lib").glob("python*/site-packages"))
        (own / "dependencies.pth").write_text(f"{site}\n")
        (wheel,) = (folder / "wheel").glob("*.whl")
        subprocess.run([*pip, "--python", made / "bin" / "python", "install", "-q", "--no-deps", wheel], **quiet)
    return made / "bin"


def _environment(programs: Path | None = None) -> dict[str, str]:
    """Of a user who has not heard of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "COLUMNS")}
    return kept | ({"PATH": f"{programs}{os.pathsep}{kept['PATH']}"} if programs else {})


def run_page(page: Page, programs: Path, folder: Path, ci: bool) -> Iterator[Ran]:
    """Run a page's commands in a folder made for it."""
    if ci:
        for name in CI_FILES:
            shutil.copytree(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(programs.parent)
    else:
        unneeded = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info", "build")
        shutil.copytree(ROOT, folder, ignore=unneeded, dirs_exist_ok=True)
    done: set[str] = set()
    for command in page.commands:
        text = command.short if ci else command.text
        plain = text.replace(".venv/bin/codesign", "codesign")
        if ci and (command.reason or plain in done):
            continue
        done.add(plain)
        yield _run(command, text, programs, folder, ci)


def _run(command: Command, text: str, programs: Path, folder: Path, ci: bool) -> Ran:
    hidden: dict[Path, bytes | None] = {}
    for name, other in command.stand_ins.items():
        path = folder / name
        if ci or not path.exists():
            hidden[path] = path.read_bytes() if path.exists() else None
            path.write_bytes((ROOT / other).read_bytes())
    started = time.monotonic()
    code: int | None = None
    try:
        told = subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env=_environment(programs),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CI_SECONDS if ci else None,
            check=False,
        )
        code, said = told.returncode, told.stdout[-3000:] + told.stderr[-3000:]
    except subprocess.TimeoutExpired:
        said = f"not done after {CI_SECONDS:.0f} s"
    finally:
        for path, content in hidden.items():
            path.unlink() if content is None else path.write_bytes(content)
    return Ran(command, text, code, time.monotonic() - started, said)


def table(runs: Sequence[Ran]) -> str:
    """The runs as a Markdown table."""
    lines = ["| page | command | exit code | seconds |", "|---|---|---|---|"]
    for ran in runs:
        text = ran.text.replace("|", "\\|")
        code = f"{ran.code}" if ran.good else f"**{ran.code}** (expected {ran.command.code})"
        lines.append(f"| {ran.command.page} | `{text}` | {code} | {ran.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all that was asked for; 1 where a command did not do what its page says."""
    parser = argparse.ArgumentParser(description="Run every command of the documentation.")
    parser.add_argument("--ci", action="store_true", help="cut short by the markers beside the commands")
    parser.add_argument("--only", default="", help="pages whose name has these words")
    parser.add_argument("--skip", default=_ITSELF, help="commands that this finds (default: the test suite, and this)")
    parser.add_argument("-o", "--output", type=Path, help="write the table here")
    asked = parser.parse_args()
    runs: list[Ran] = []
    with tempfile.TemporaryDirectory() as temporary:
        programs = installed(Path(temporary))
        for page in pages() + ([] if asked.ci else problem_pages()):
            if asked.only not in page.name:
                continue
            page.commands = [each for each in page.commands if not re.search(asked.skip, each.text)]
            folder = Path(tempfile.mkdtemp(dir=temporary))
            for ran in run_page(page, programs, folder, asked.ci):
                print(f"{ran.code} {ran.seconds:7.1f} s  {page.name}: {ran.text}", flush=True)
                if not ran.good:
                    print(ran.said, flush=True)
                runs.append(ran)
                if asked.output is not None:
                    asked.output.write_text(table(runs), encoding="utf-8")
    bad = [ran for ran in runs if not ran.good]
    print(f"{len(runs)} commands, {len(bad)} of them not as their page says")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
