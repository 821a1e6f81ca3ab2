"""A command whose surroundings fail it: full disks, readers that leave, closed streams, Ctrl-C at any moment."""

from __future__ import annotations

import ast
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from studies import document
from typer.testing import CliRunner

import codesign
from codesign.cli import app

DATA = Path(__file__).parent / "data"
MAIN = [sys.executable, "-c", "from codesign.__main__ import main; main()"]


def start(*words, **how):
    return subprocess.Popen([*MAIN, *words], text=True, **how)


def process(*words, **how):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.run([*MAIN, *words], text=True, timeout=120, check=False, **how)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with an input of every kind, in which commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.yaml").write_text(json.dumps(document()))
    (tmp_path / "points.csv").write_text(
        "accelerator,model,precision,tp,concurrency,isl,osl,tpot_ms\n"
        + "".join(f"h100-sxm,Llama-3.1-8B,bf16,1,{batch},1000,200,{8 + batch / 16}\n" for batch in (1, 8, 32))
    )
    assert CliRunner().invoke(app, ["solve", "problem.yaml", "-o", "plan.json"]).exit_code == 0
    return tmp_path


# ---- disks that are full

STUDY = ("--workers", "1", "-o", "folder")
WRITING = {
    "init": ("init", "-o", "new.yaml"),
    "solve": ("solve", "problem.yaml", "-o", "new.json"),
    "solve --alternatives": ("solve", "problem.yaml", "--alternatives", "1", "--within", "30%", "-o", "new.json"),
    "pareto": ("pareto", "problem.yaml", "--points", "2", *STUDY),
    "sweep": ("sweep", "problem.yaml", "--set", "tasks.short.rate=5/s,40/s", *STUDY),
    "report": ("report", "plan.json", "-o", "new.html"),
    "export --to vllm": ("export", "exported.json", "--problem", "exported.yaml", "--to", "vllm", "-o", "folder"),
    "export --to mps": ("export", "problem.yaml", "--to", "mps", "-o", "new.mps"),
    "calibrate": ("calibrate", "--bench", "points.csv", "-o", "new.yaml"),
    "simulate --plots": (
        *("simulate", "problem.yaml", "plan.json", "--workers", "1"),
        *("--duration", "2s", "--plots", "folder"),
    ),
}


@pytest.mark.parametrize("what", WRITING)
def test_a_full_disk_is_two_with_the_path(what, files, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("exported.json", "exported.yaml"):
        (files / name).write_bytes((DATA / name).read_bytes())
    monkeypatch.setattr("codesign.files.os.fsync", full)
    words = WRITING[what]
    told = CliRunner().invoke(app, list(words))
    assert told.exit_code == 2, told.output
    target = words[words.index("-o" if "-o" in words else "--plots") + 1]
    assert target.removesuffix(".json") in told.stderr  # `new.alternative-1.json` comes before `new.json`
    assert "(no space left on device); expected" in " ".join(told.stderr.split())
    assert "codesign-partial" not in " ".join(os.listdir(files))
    if words[0] == "solve":
        assert "optimal" in told.stdout  # the answer is not lost


def ways():
    """What a process meets when its disk is full: a limit of the process, and a real one where we may mount it."""
    yield "limit"
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True).returncode == 0:
            subprocess.run(["umount", folder], check=True)
            yield "tmpfs"


@pytest.fixture(params=list(ways()))
def disk(request, tmp_path):
    """A folder on a full disk, and how to start a process that finds it so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limit":
        yield folder, {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))}
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=True)
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1024))
    yield folder, {}
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(disk, files):
    folder, how = disk
    told = process("solve", "problem.yaml", "-o", f"{folder}/plan.json", **how)
    assert told.returncode == 2, told.stderr
    assert f"{folder}/plan.json: cannot be written" in told.stderr
    assert "optimal" in told.stdout
    words = ("--set", "tasks.short.rate=5/s..40/s:9", "--workers", "2")
    told = process("sweep", "problem.yaml", *words, "-o", f"{folder}/s", **how)
    assert told.returncode == 2, told.stderr
    assert f"{folder}/s/runs/" in told.stderr
    assert "Traceback" not in told.stderr
    assert not list(folder.rglob(".*"))


def test_only_one_module_writes_files():
    """Else a full disk, or a kill, would leave half a file there, or a message without a path."""
    writes = set()
    root = Path(codesign.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [a.value for a in node.args if isinstance(a, ast.Constant)]
            opens = name in ("open", "fdopen") and any(str(mode)[:1] in "wxa" and len(str(mode)) < 4 for mode in given)
            if opens or name in ("write_text", "write_bytes", "NamedTemporaryFile", "mkstemp", "to_csv", "write_html"):
                writes.add(str(path.relative_to(root)))
    assert writes == {"files.py"}


# ---- streams


def test_a_reader_that_leaves(files):
    """`codesign … | head -1`: what was asked for is done, without a word."""
    read, write = os.pipe()
    os.close(read)
    told = process("solve", "problem.yaml", "-o", "again.json", stdout=write)
    os.close(write)
    assert (told.returncode, told.stderr.splitlines()[-1]) == (141, "wrote again.json")
    assert "Traceback" not in told.stderr
    assert (files / "again.json").is_file()
    for words in (("--help",), ("schema",), ("catalog", "accelerators"), ("--version",), ("sweep", "--help")):
        read, write = os.pipe()
        os.close(read)
        told = process(*words, stdout=write)
        os.close(write)
        assert (told.returncode, told.stderr) == (141, ""), words


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_streams_that_are_closed(closed, files):
    shell = {0: "<&-", 1: ">&-", 2: "2>&-"}[closed]
    words = " ".join([sys.executable, "-c", "'from codesign.__main__ import main; main()'"])
    command = f"{words} solve problem.yaml -o again.json {shell} && {words} init -o new.yaml {shell}"
    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "Traceback" not in told.stderr
    assert json.loads((files / "again.json").read_text()) | {"solve": 0} == json.loads(
        (files / "plan.json").read_text()
    ) | {"solve": 0, "provenance": json.loads((files / "again.json").read_text())["provenance"]}


def test_standard_output_on_a_full_disk(files):
    with open("/dev/full", "w") as full:
        told = process("solve", "problem.yaml", "--json", stdout=full)
    assert told.returncode == 2
    assert "standard output: cannot be written (no space left on device)" in told.stderr
    assert "Traceback" not in told.stderr
    with open("/dev/full", "w") as full:
        assert process("solve", "problem.yaml", stderr=full).returncode == 0


# ---- faults of ours, and Ctrl-C


@pytest.mark.parametrize("where", ["codesign.cli.solve", "codesign.planner"])
def test_a_fault_of_ours_is_one_line_wherever_it_is(where, files):
    code = f"import sys; sys.modules[{where!r}] = None; from codesign.__main__ import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", code, "solve", "problem.yaml"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert told.stderr.startswith("codesign: unexpected ModuleNotFoundError: ")
    assert "please report it" in told.stderr
    assert told.stderr.count("\n") == 1
    told = subprocess.run(
        [sys.executable, "-c", code, "solve", "problem.yaml", "--debug"], capture_output=True, text=True, check=False
    )
    assert (told.returncode, "Traceback" in told.stderr) == (1, True)


def test_interrupted_at_any_moment_there_is_no_traceback(files):
    """From the command line's first statement on; a sweep has processes, which hear the same Ctrl-C."""
    begun = "import sys; from codesign.__main__ import main; print('begun', file=sys.stderr, flush=True); main()"
    words = ("sweep", "problem.yaml", "--set", "tasks.short.rate=5/s..40/s:40", "--workers", "2")
    for number in range(8):
        command = [sys.executable, "-c", begun, *words, "-o", f"s{number}"]
        run = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert run.stderr.readline() == "begun\n"
        time.sleep(0.05 + 0.3 * number)
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=60)
        assert "Traceback" not in said, (number, said)
        assert run.returncode in (0, 130, -signal.SIGINT), (number, run.returncode, said)


@pytest.mark.parametrize("where", ["typer", "codesign.cli.solve", "codesign.planner"])
def test_an_interrupt_that_a_library_makes_an_error_of_is_one(where, files):
    """Pydantic 2.14 does while it builds a model (a SchemaError whose text is the KeyboardInterrupt)."""
    code = f"""
import os, signal, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == {where!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ValueError("swallowed") from None
sys.meta_path.insert(0, Interrupted())
from codesign.__main__ import main
main()
"""
    for words in (("solve", "problem.yaml"), ("solve", "problem.yaml", "--debug")):
        told = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert (told.returncode, told.stderr) == (4, "codesign: interrupted\n")


# ---- files that are none of ours

FOREIGN = {
    "empty": b"",
    "bytes": bytes(range(256)),
    "another alphabet": "name: café".encode("latin-1"),
    "two bytes a letter": json.dumps(document()).encode("utf-16"),
    "deep": b"a: " + b"[" * 300,
    "a list": b"[1, 2, 3]",
    "a number": b"1e999",
    "no value": b"null",
    "an alias of itself": b"a: &a [*a]\n",
    "a tag": b"!!python/object/apply:os.system ['true']",
    "two documents": b"a: 1\n---\nb: 2\n",
}
READING = (
    "solve {}",
    "explain {}",
    "profile {}",
    "check {} plan.json",
    "check problem.yaml {}",
    "simulate problem.yaml {} --duration 2s",
    "simulate problem.yaml plan.json --duration 2s --trace short={}",
    "report {} -o new.html",
    "report plan.json -o new.html --problem {}",
    "report plan.json -o new.html --simulated {}",
    "export {} --to vllm -o new",
    "export {} --to mps -o new.mps",
    "export plan.json --problem {} --to vllm -o new",
    "sweep {} --set tasks.short.rate=1/s,2/s -o new",
    "sweep problem.yaml --scenario {} --workers 1 -o new",
    "pareto {} -o new",
    "calibrate --bench {}",
    "bench short={} --name a --accelerator b --cost 1$/h",
    "validate --data {}",
    "validate --names {}",
    "validate --profile {}",
)


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_is_something_else_is_two_for_every_command(what, files):
    (files / "foreign").write_bytes(FOREIGN[what])
    for command in READING:
        told = CliRunner().invoke(app, command.format("foreign").split())
        assert told.exit_code == 2, (command, told.output)
        assert told.exception is None or isinstance(told.exception, SystemExit)


@pytest.mark.parametrize("section", ["fleet", "routing", "tasks", "totals", "purchase", "solve", "provenance"])
def test_a_plan_without_one_of_its_parts_is_no_fault_of_ours(section, files):
    plan = json.loads((files / "plan.json").read_text())
    for value in (None, [], {}, "x", -1, float("nan")):
        (files / "part.json").write_text(json.dumps(plan | {section: value}))
        for command in (
            "check problem.yaml part.json",
            "simulate problem.yaml part.json --duration 1s --workers 1",
            "report part.json -o new.html --problem problem.yaml",
            "export part.json --problem problem.yaml --to vllm -o new",
        ):
            told = CliRunner().invoke(app, command.split())
            assert told.exit_code in (0, 2, 5), (command, value, told.output)
