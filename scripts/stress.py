"""Try to refute "optimal" and "infeasible": random fleets against a second MILP, another solver, and a judge of plans.

    python scripts/stress.py --instances 2000 --seed 1                some of each kind, about a minute
    python scripts/stress.py --instances 100000 --files 3000 --resume solutions/stress    the table of the repository
    python scripts/stress.py --kinds "nine orders" "two packings" --seconds 300

Every instance is solved at gap 0 and once more by SCIP from a formulation of its own (`tests/second_milp.py`); every
plan is judged row by row (`codesign/check/fits.py`).  Some instances take the way of large fleets (column generation
and branching) or start from the plan of another problem; the exported MPS of every 25th of a kind goes to SCIP too.
`--files` adds random problem files, which `codesign check` judges as well.  A disagreement is made as small as it stays
one and written to DIR/found.

The run can be stopped at any time and goes on with the same --instances, --files, --seed, --kinds and --resume; what
was answered wrong is then tried again, by chunks of a hundred.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from codesign.files import write_atomically  # noqa: E402

CHUNK = 100
"""Instances that a worker takes at a time: what a kill loses at the most."""
FILES_CHUNK = 5
SHRUNK = 2
"""Disagreements of one sort that each worker makes small; the others are written as they are."""
LIMIT_S, SHRINK_S = 10.0, 45.0
ORDER = ("all at once", "branching", "all at once", "another first", "all at once", "branching", "all at once")
"""Ways to the answer that the instances of a kind take in turn."""
EXPORTED = 25
COLUMNS = (
    "instances", "six orders", "infeasible", "disagreements", "refused", "tracebacks", "unproven", "second wrong",
    "undecided",
)  # fmt: skip


def main() -> int:
    """Run what is left to do, write the table, say how it went: exit code 1 with disagreements."""
    options = _options()
    run = Run(options)
    stopped = run.go()
    print(run.table())
    if stopped:
        print(f"stopped; the same command with --resume {options.resume} goes on")
    return 1 if run.disagreements() else 0


def _options() -> argparse.Namespace:
    from random_fleets import KINDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=2000, help="random fleets (default 2000)")
    parser.add_argument("--files", type=int, default=0, help="random problem files (default none)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", metavar="KIND", choices=[*KINDS], help="; ".join(KINDS))
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", type=Path, metavar="DIR", help="where state, findings and table are kept")
    options = parser.parse_args()
    options.kinds = options.kinds or [*KINDS]
    return options


class Run:
    """All chunks of a run, those done and those to do."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.asked = {word: getattr(options, word) for word in ("instances", "files", "seed", "kinds")}
        self.done: dict[str, dict[str, Any]] = {}
        self.started = time.monotonic()
        self.seconds = 0.0
        self.torn: Counter[str] = Counter()
        self.folder: Path | None = options.resume
        if self.folder is not None:
            (self.folder / "found").mkdir(parents=True, exist_ok=True)
            self._read()

    def _read(self) -> None:
        assert self.folder is not None
        state = self.folder / "state.json"
        if state.exists():
            known = json.loads(state.read_text())
            if known["asked"] != self.asked:
                sys.exit(f"{state} is of another run ({known['asked']}): ask for the same, or give another --resume")
            self.seconds = known["seconds"]
            # Chunks with a wrong answer are tried again: whoever resumes may have mended what was wrong.
            right = (item for item in known["done"].items() if not _wrong(item[1]["kinds"]))
            self.done = dict(right)

    def _write(self) -> None:
        if self.folder is not None:
            text = json.dumps({"asked": self.asked, "done": self.done, "seconds": self._spent()})
            write_atomically(self.folder / "state.json", text + "\n")
            write_atomically(self.folder / "table.md", self.table())
            write_atomically(self.folder / "table.json", json.dumps(self.summary(), indent=1) + "\n")

    def _spent(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _chunks(self) -> Iterator[tuple[str, int, int]]:
        """(word, first, past the last) of what is not done yet."""
        asked = (("fleets", self.options.instances, CHUNK), ("files", self.options.files, FILES_CHUNK))
        for word, count, size in asked:
            for first in range(0, count, size):
                if f"{word} {first}" not in self.done:
                    yield word, first, min(first + size, count)

    def go(self) -> bool:
        """Work through the chunks; True where the clock or Ctrl-C ended it."""
        todo = self._chunks()
        end = self.started + (self.options.seconds or float("inf"))
        running: dict[Future[dict[str, Any]], tuple[str, int, int]] = {}
        pool = self._pool()
        last, stopped = 0.0, False
        again: list[tuple[str, int, int]] = []
        try:
            while True:
                while len(running) < 2 * self.options.workers and time.monotonic() < end:
                    chunk = again.pop() if again else next(todo, None)
                    if chunk is None:
                        break
                    running[pool.submit(work, chunk, self.options.seed, tuple(self.options.kinds), end)] = chunk
                if not running:
                    break
                finished, _ = wait(running, timeout=2.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    chunk = running.pop(future)
                    try:
                        found = future.result()
                    except BrokenProcessPool:
                        pool = self._pool()
                        again += [c for c in (chunk, *running.values()) if self._torn(c)]
                        running.clear()
                        break
                    if found["whole"]:
                        self._take(chunk, found)
                if time.monotonic() - last > 5.0:
                    last = time.monotonic()
                    self._tell()
                    self._write()
            stopped = time.monotonic() >= end
        except KeyboardInterrupt:
            stopped = True
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        self._write()
        return stopped

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.options.workers, initializer=_quiet)

    def _torn(self, chunk: tuple[str, int, int]) -> bool:
        """May it go again after a process died?  One that dies three times is a finding."""
        name = f"{chunk[0]} {chunk[1]}"
        self.torn[name] += 1
        if self.torn[name] < 3:
            return True
        crash = {"what": "traceback (process died)", "kind": "all", "seed": chunk[1], "detail": f"in {chunk}"}
        counts = Counter({"instances": chunk[2] - chunk[1], "disagreements": 1, "tracebacks": 1})
        self._take(chunk, {"kinds": {"all of a chunk": counts}, "found": [crash]})
        return False

    def _take(self, chunk: tuple[str, int, int], found: dict[str, Any]) -> None:
        for item in found["found"]:
            text = item.pop("text", "")
            if text and self.folder is not None:
                name = "".join(c if c.isalnum() else "-" for c in f"{item['what']}-{item['seed']}").strip("-")
                item["file"] = f"found/{name}.{item['suffix']}"
                write_atomically(self.folder / item["file"], text)
            print(f"{item['what']}: seed {item['seed']} ({item['kind']}): {item['detail']}", file=sys.stderr)
        self.done[f"{chunk[0]} {chunk[1]}"] = {word: found[word] for word in ("kinds", "found")}

    # -- what it came to ---------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Counts by kind, and every disagreement."""
        kinds: dict[str, Counter[str]] = {}
        for chunk in self.done.values():
            for kind, counts in chunk["kinds"].items():
                kinds.setdefault(kind, Counter()).update(counts)
        found = [item for chunk in self.done.values() for item in chunk["found"]]
        spent = {"wall s": round(self._spent()), "versions": _versions()}
        return {"asked": self.asked, **spent, "kinds": kinds, "found": found}

    def disagreements(self) -> int:
        """How many answers were wrong."""
        return _wrong(self.summary()["kinds"])

    def table(self) -> str:
        """Markdown: a line for each kind, the sum, and every sort of disagreement with its first seeds."""
        summary = self.summary()
        total: Counter[str] = sum(summary["kinds"].values(), Counter())
        head = ["kind", *COLUMNS, "optimiser ms", "SCIP ms", "judge ms"]
        lines = [
            f"{total['instances']:,} instances ({total['six orders']:,} with rates and prices over six or more orders "
            f"of magnitude), {total['disagreements']} disagreements at a relative 1e-6, in "
            f"{summary['wall s']:,} s. Seed {self.asked['seed']}. {summary['versions']}.",
            "",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
        ]
        for kind, counts in [*summary["kinds"].items(), ("all", total)]:
            each = [1e3 * counts[word] / max(1, counts["instances"]) for word in ("solve", "second", "judge")]
            cells = [kind, *(f"{counts[word]:,}" for word in COLUMNS), *(f"{ms:.1f}" for ms in each)]
            lines.append("| " + " | ".join(cells) + " |")
        sorts: dict[str, list[str]] = {}
        for item in summary["found"]:
            sorts.setdefault(item["what"], []).append(f"{item['seed']} ({item['kind']})")
        if sorts:
            lines += ["", "| what | times | seeds |", "|---|---|---|"]
            lines += [f"| {what} | {len(seeds)} | {', '.join(seeds[:5])} |" for what, seeds in sorted(sorts.items())]
        return "\n".join(lines) + "\n"

    def _tell(self) -> None:
        summary = self.summary()
        total: Counter[str] = sum(summary["kinds"].values(), Counter())
        asked = self.options.instances + self.options.files
        count, spent = total["instances"], self._spent()
        left = f", {spent / count * (asked - count) / 60:.0f} min left" if count else ""
        wrong = total["disagreements"]
        print(f"{count:,} of {asked:,} in {spent:.0f} s, {wrong} disagreements{left}", file=sys.stderr, flush=True)


def _wrong(kinds: dict[str, Any]) -> int:
    return sum(counts["disagreements"] for counts in kinds.values())


def _versions() -> str:
    from importlib.metadata import version

    packages = {"HiGHS": "highspy", "PySCIPOpt": "pyscipopt"}
    return ", ".join(f"{name} {version(package)}" for name, package in packages.items())


def _quiet() -> None:
    """A worker: no Ctrl-C of its own, behind everything else, one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)


def work(chunk: tuple[str, int, int], seed: int, kinds: tuple[str, ...], end: float) -> dict[str, Any]:
    """Counts by kind and disagreements of one chunk; whole: False where the clock ended it before."""
    word, first, last = chunk
    if word == "files":
        from stress_files import file_case as case
    else:
        case = fleet_case
    counts: dict[str, Counter[str]] = {}
    found: list[dict[str, Any]] = []
    for i in range(first, last):
        if time.monotonic() > end:
            return {"whole": False}
        kind, finding, text, spans = case(seed, i, kinds)
        count = counts.setdefault(kind, Counter())
        count["instances"] += 1
        count["six orders"] += min(spans) >= 6
        count["infeasible"] += finding.status == "infeasible"
        count["disagreements"] += finding.wrong
        sort = finding.what.split(" (")[0]
        count["refused"] += sort == "refused"
        count["tracebacks"] += sort == "traceback"
        count["second wrong"] += sort == "second"
        count["undecided"] += sort == "undecided"
        count["unproven"] += sort == "unproven"
        for name, spent in zip(("solve", "second", "judge"), finding.seconds, strict=True):
            count[name] += spent
        if finding.what:
            item = {"what": finding.what, "kind": kind, "seed": i, "detail": finding.detail[-600:]}
            item |= {"ours": finding.ours, "right": finding.right, "text": text}
            found.append(item | {"suffix": "yaml" if word == "files" else "json"})
    return {"whole": True, "kinds": counts, "found": found}


_shrunk: Counter[str] = Counter()
"""Disagreements that this process has made small, by sort."""


def fleet_case(seed: int, i: int, kinds: tuple[str, ...]) -> tuple[str, Any, str, tuple[float, float]]:
    """The kind of instance `i`, what is found of it, its smallest form as text, and its orders of rates and prices."""
    from disagreements import WAYS, judged, smallest, to_json
    from random_fleets import orders, random_fleet

    kind = kinds[i % len(kinds)]
    data = random_fleet(seed * 10_000_000 + i, kind)
    spans = orders(data)
    solve = WAYS[ORDER[i // len(kinds) % len(ORDER)]]
    finding = judged(data, LIMIT_S, solve, exported=i // len(kinds) % EXPORTED == 0)
    text = ""
    if finding.what and finding.what not in ("undecided", "unproven"):
        _shrunk[finding.what] += 1
        if _shrunk[finding.what] <= SHRUNK:
            data, finding = smallest(data, finding, SHRINK_S, solve)
        text = to_json(data)
    return kind, finding, text, spans


if __name__ == "__main__":
    sys.exit(main())
