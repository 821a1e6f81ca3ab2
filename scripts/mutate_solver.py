"""Spoil one family of rows at a time, in the model and in the master, and see which of the optimiser's tests fail.

    python scripts/mutate_solver.py                                  every family, both ways: about 20 minutes
    python scripts/mutate_solver.py --families spare reserve --where model
    python scripts/mutate_solver.py --resume                         only what the table does not have yet

The families are those of ARCHITECTURE.md; the master holds the ones marked R, and intervals of counts.  A family is
*dropped*, or *flipped*: at most becomes at least; of an equality, and of an interval with two ends, the signs are
turned (of a commodity those of one phase, since both turned are the same row).  Nothing in the source changes: pytest
loads this file as a plugin that spoils the rows of every model or master once it is built, and counts them, so that a
mutation that touches nothing is an error.

Three kinds of tests are told apart, and the first of each that fails is named in `solutions/mutation/table.md`: those
that compare rows (literally, or of master and model), those of optima by hand, by enumeration or by another solver, and
pinned linear bounds.  A mutation survives if neither an optimum nor a bound fails: exit code 1.  Before, all tests run
once with nothing spoilt: those that fail then are named, and kill nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "solutions" / "mutation" / "table.md"

MUTATIONS = ("flipped", "dropped")
KINDS = {"rows": "rows", "optima": "optimum", "bounds": "linear bound"}
"""Of tests: how they are called, and the heading of their column."""
ROWS = (
    "test_rows_are_those_written_by_hand",
    "test_master_is_the_relaxed_model",
    "test_the_stock_interface_finds_the_same",
)
"""Tests that compare rows with rows; one formulation may hide behind the other's fault."""
BOUNDS = (
    "test_optimize_bounds.py",
    "test_servers_of_all_periods_compete_with_those_of_one",
    "test_relaxation_prices_modules_by_their_capacity",
    "test_a_replica_of_two_kinds_takes_slots_of_both",
    "test_column_generation_reaches_the_whole_linear_program",
)
"""Tests, or files of them, that compare linear programs with what they are by hand."""
TESTS = (
    "tests/test_optimize_families.py",
    "tests/test_optimize_bounds.py",
    "tests/test_optimize_right_answers.py",
    "tests/test_optimize_model.py",
    "tests/test_optimize_master.py",
    "tests/test_optimize_redundancy.py",
    "tests/test_optimize_pricing.py",
    "tests/test_optimize_brute_force.py",
    "tests/test_optimize_whole_milp.py",
    "tests/test_requirements.py",
    "tests/test_optimize_stress.py",
)
"""Those that find most in the least time first."""


@dataclass(frozen=True)
class Mutation:
    """One family of rows, spoilt."""

    family: str
    where: str
    """model | master."""
    kind: str
    """flipped | dropped."""

    def __str__(self) -> str:
        return f"{self.where}:{self.family}:{self.kind}"

    @staticmethod
    def read(text: str) -> Mutation:
        """What `str` wrote."""
        where, family, kind = text.split(":")
        return Mutation(family, where, kind)


@dataclass
class Found:
    """What a run of the tests found."""

    rows: int = 0
    """Rows that were spoilt, over all tests."""
    killed: dict[str, str] = field(default_factory=dict)
    """The first test that failed, by kind of test."""
    tests: dict[str, int] = field(default_factory=dict)
    """Tests that passed before, or in all, by kind."""
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    """All tests that failed."""
    timeout: bool = False
    """Stopped by the clock, kinds that killed nothing until then perhaps unfinished."""

    @property
    def survives(self) -> bool:
        """Has no test of a meaning failed?"""
        return not ("optima" in self.killed or "bounds" in self.killed)


def mutations(families: dict[str, bool]) -> Iterator[Mutation]:
    """All of them; `families` as `listed` gives them."""
    for name, relaxed in families.items():
        for where in ("model", "master") if relaxed else ("model",):
            for kind in MUTATIONS:
                yield Mutation(name, where, kind)
    for kind in MUTATIONS:
        yield Mutation("intervals", "master", kind)


def listed() -> dict[str, bool]:
    """{family: does the relaxation have it} from the table of ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+? \| `(\w+)`( R)? \| u per .+? \| `.+?` \|$", text, flags=re.MULTILINE)
    return {name: bool(relaxed) for name, relaxed in rows}


# ---- the plugin: rows are spoilt where they are built ----------------------------------------------------------


def pytest_addoption(parser: Any) -> None:
    """Options by which the script tells its runs what to spoil."""
    parser.addoption("--mutation", type=Mutation.read)
    parser.addoption("--found", type=Path)
    parser.addoption("--without", action="append", default=[])


def pytest_configure(config: Any) -> None:
    """Spoil the rows, and watch the tests."""
    if config.getoption("--found", None) is None:
        return
    from hypothesis import Phase, settings

    # The first example that fails is enough: nobody reads the smallest.
    settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutation")
    mutation = config.getoption("--mutation")
    watch = Watch(config.getoption("--found"), mutation is None, frozenset(config.getoption("--without")))

    def spoilt(rows: int) -> None:
        watch.found.rows += rows

    if mutation is not None and mutation.where == "model":
        spoil_model(mutation, spoilt)
    elif mutation is not None:
        spoil_master(mutation, spoilt)
    config.pluginmanager.register(watch, "watch")


class Watch:
    """Notes the first test of each kind that fails, and passes over the others of its kind; or `all_of` them."""

    def __init__(self, path: Path, all_of: bool, without: frozenset[str]) -> None:
        self.path, self.all_of, self.without, self.found = path, all_of, without, Found()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Tests that compare rows are quick."""
        items[:] = [item for item in items if item.nodeid not in self.without]
        items.sort(key=lambda item: kind_of(item.nodeid) != "rows")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: Any) -> None:
        """Tests of a kind that has killed need not run."""
        if not self.all_of and kind_of(item.nodeid) in self.found.killed:
            pytest.skip("killed already")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of a test has ended."""
        kind = kind_of(report.nodeid)
        if report.failed:
            self.found.failed.append(report.nodeid)
            self.found.killed.setdefault(kind, report.nodeid.removeprefix("tests/"))
        elif report.passed and report.when == "call":
            self.found.tests[kind] = self.found.tests.get(kind, 0) + 1
        self.path.write_text(json.dumps(asdict(self.found)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """What was spoilt by the last test counts as well."""
        self.path.write_text(json.dumps(asdict(self.found)))


def kind_of(test: str) -> str:
    """rows | optima | bounds: what a test compares."""
    file, _, name = test.partition("::")
    name = name.split("[")[0]
    if name in ROWS:
        return "rows"
    return "bounds" if name in BOUNDS or Path(file).name in BOUNDS else "optima"


def spoil_model(mutation: Mutation, spoilt: Callable[[int], None]) -> None:
    """Every `FleetModel` gets its family spoilt once it is built."""
    from codesign.optimize.model import FleetModel

    build = FleetModel._build

    def mutated(self: FleetModel) -> None:
        build(self)
        family = self.pyomo.component(mutation.family)
        if family is None:
            return
        spoilt(len(family))
        if mutation.kind == "dropped":
            family.clear()
        for row in family.values():
            if row.equality:
                row.set_value(_turned(mutation.family, row.body) == row.upper)
            else:
                row.set_value((row.upper, row.body, None))

    FleetModel._build = mutated  # type: ignore[method-assign]


def _turned(family: str, body: Any) -> Any:
    from pyomo.core.expr.numeric_expr import LinearExpression
    from pyomo.repn import generate_standard_repn

    form = generate_standard_repn(body)
    coefficients = [abs(c) if family == "commodity" else -c for c in form.linear_coefs]
    return LinearExpression(constant=form.constant, linear_coefs=coefficients, linear_vars=list(form.linear_vars))


def spoil_master(mutation: Mutation, spoilt: Callable[[int], None]) -> None:
    """Every `Master` gets other bounds of its rows, or other signs, as they come in."""
    import numpy as np

    from codesign.optimize.master import Master

    flipped = mutation.kind == "flipped"

    def spoil(master: Master, rows: range) -> None:
        for row in rows:
            low, high = float(master.solver.row_lower[row]), float(master.solver.row_upper[row])
            if not flipped:
                low, high = -np.inf, np.inf
            elif np.isfinite(low) and np.isfinite(high):
                low, high = -high, -low
            else:
                low, high = (high if np.isfinite(high) else -np.inf), (low if np.isfinite(low) else np.inf)
            master.solver.set_row_bounds(np.array([row]), np.array([low]), np.array([high]))
        spoilt(len(rows))

    index, start, extend, restrict = Master._index_flows, Master._start, Master._extend, Master.restrict

    def indexed(self: Master) -> None:
        index(self)
        if mutation.family == "commodity" and flipped:
            self._sign = np.abs(self._sign)
            spoilt(len(self.data.commodities))

    def started(self: Master, *args: Any) -> None:
        start(self, *args)
        firsts = {
            "demand": (self._demand, self._commodities),
            "commodity": (self._commodities, self._packing),
            "packing": (self._packing, self._bought),
            "bought": (self._bought, self._limit),
            "limit": (self._limit, self._rows),
        }
        if mutation.family in firsts and not (mutation.family == "commodity" and flipped):
            spoil(self, range(*firsts[mutation.family]))

    def extended(self: Master, *args: Any) -> None:
        before = self._rows
        extend(self, *args)
        if mutation.family == "capacity":
            spoil(self, range(before, self._rows))

    def restricted(self: Master, intervals: Any) -> None:
        restrict(self, intervals)
        if mutation.family == "intervals":
            for name in intervals:
                row = self._intervals[name][0]
                spoil(self, range(row, row + 1))

    Master._index_flows, Master._start = indexed, started  # type: ignore[method-assign]
    Master._extend, Master.restrict = extended, restricted  # type: ignore[method-assign]


# ---- the script: a run of the tests for each mutation ----------------------------------------------------------


def main() -> int:
    """Run what is asked for, write the table; exit code 1 with survivors, 2 with mutations that touched nothing."""
    families = listed()
    options = _options([*families, "intervals"])
    asked = [
        mutation
        for mutation in mutations(families)
        if mutation.family in options.families and mutation.where in options.where and mutation.kind in options.kinds
    ]
    state = options.table.with_suffix(".json")
    known = _known(state)
    left = [mutation for mutation in asked if not (options.resume and str(mutation) in known)]
    without = sorted(set(run(None, None, options.tests).failed)) if left else []
    if without:
        print(f"left out, since they fail with nothing spoilt: {', '.join(without)}", flush=True)
    for mutation in left:
        found = run(mutation, options.seconds, options.tests, without)
        known[str(mutation)] = found
        print(_row(mutation, found), flush=True)
        options.table.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps({name: asdict(each) for name, each in known.items()}, indent=1) + "\n")
        options.table.write_text(table({m: known[str(m)] for m in mutations(families) if str(m) in known}))
    judged = {mutation: known[str(mutation)] for mutation in asked}
    untouched = [str(mutation) for mutation, found in judged.items() if not found.rows]
    if untouched:
        print(f"no row was spoilt by {', '.join(untouched)}: does the plugin still know where they are built?")
        return 2
    survivors = [str(mutation) for mutation, found in judged.items() if found.survives]
    print(f"{len(judged)} mutations, {len(survivors)} survivors {' '.join(survivors)}".rstrip())
    return 1 if survivors else 0


def _options(families: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", metavar="FAMILY", choices=families, default=families)
    parser.add_argument("--where", nargs="+", choices=("model", "master"), default=["model", "master"])
    parser.add_argument("--kinds", nargs="+", choices=MUTATIONS, default=list(MUTATIONS))
    parser.add_argument("--tests", nargs="+", metavar="TEST", default=list(TESTS), help="pytest's words for them")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each mutation (default 120)")
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table is kept")
    parser.add_argument("--resume", action="store_true", help="keep what the table has")
    return parser.parse_args()


def _known(state: Path) -> dict[str, Found]:
    if not state.exists():
        return {}
    return {name: Found(**found) for name, found in json.loads(state.read_text()).items()}


def run(mutation: Mutation | None, seconds: float | None, tests: list[str], without: Sequence[str] = ()) -> Found:
    """What the tests find of one mutation, or with nothing spoilt, within so long."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "mutate_solver", "-p", "no:cacheprovider"]
        command += ["-p", "no:randomly", "-p", "no:xdist", "--tb=no", f"--found={path}"]
        if mutation is not None:
            command.append(f"--mutation={mutation}")
        for test in without:
            command.append(f"--without={test}")
        started, timeout = time.monotonic(), False
        try:
            done = subprocess.run(
                [*command, *tests], cwd=ROOT, env=_environment(), timeout=seconds, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            timeout = True
        if not path.exists():
            words = "no test ended in time" if timeout else done.stdout + done.stderr
            raise SystemExit(f"{mutation}: {words}")
        if not timeout and done.returncode not in (0, 1):  # anything but tests that pass or fail
            raise SystemExit(f"{mutation}: {done.stdout}{done.stderr}")
        found = Found(**json.loads(path.read_text()))
    found.seconds, found.timeout = time.monotonic() - started, timeout
    return found


def _environment() -> dict[str, str]:
    """This one, with the plugin and the package of this checkout."""
    paths = [str(ROOT / "scripts"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def table(results: dict[Mutation, Found]) -> str:
    """As Markdown."""
    heads = " | ".join(f"killed by ({word})" for word in KINDS.values())
    lines = [
        "# Every family of rows spoilt, in the model and in the master",
        "",
        "By `python scripts/mutate_solver.py`, whose docstring says what is done. The first test of each kind that",
        "fails; in brackets how many passed where none does. Whole counts keep `reserve` and `usable` anyway: dropped,",
        "they change no optimum, and pinned linear bounds hold them. A master that lacks a row, or has a wrong one,",
        "gives bounds that are too low, never false ones (they are worked out over every column from whatever duals",
        "it gives), so optima need not feel it.",
        "",
        f"| family | where | mutation | {heads} | s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(mutation, found) for mutation, found in results.items()]
    survivors = sum(found.survives for found in results.values())
    lines += ["", f"{len(results)} mutations, {survivors} survivors."]
    return "\n".join(lines) + "\n"


def _row(mutation: Mutation, found: Found) -> str:
    cells = [_cell(found, kind) for kind in KINDS]
    return f"| `{mutation.family}` | {mutation.where} | {mutation.kind} | {' | '.join(cells)} | {found.seconds:.0f} |"


def _cell(found: Found, kind: str) -> str:
    if kind in found.killed:
        return f"`{found.killed[kind].removeprefix('test_').replace('.py::test_', ': ').replace('|', '/')}`"
    return f"– ({found.tests.get(kind, 0)}{', then the clock' if found.timeout else ''})"


if __name__ == "__main__":
    sys.exit(main())
