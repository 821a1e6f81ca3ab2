"""The script that spoils row families: it finds what dies, says what touched nothing, and its table is whole."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import mutate_solver  # noqa: E402
from mutate_solver import Found, Mutation, listed, mutations  # noqa: E402


def run(monkeypatch, folder, *words):
    monkeypatch.setattr(sys, "argv", ["mutate_solver.py", "--table", str(folder / "table.md"), *words])
    return mutate_solver.main()


def test_a_family_dropped_makes_a_test_fail(monkeypatch, tmp_path):
    tests = [f"tests/test_optimize_families.py::test_optimum_by_hand[{name}-at once]" for name in ("limit", "spread")]
    assert run(monkeypatch, tmp_path, "--families", "spread", "--kinds", "dropped", "--tests", *tests) == 0
    found = mutate_solver._known(tmp_path / "table.json")["model:spread:dropped"]
    assert found.rows > 0
    assert found.killed == {"optima": "test_optimize_families.py::test_optimum_by_hand[spread-at once]"}
    assert found.tests["optima"] == 1
    assert "| `spread` | model | dropped | – (0) | `optimize_families: optimum_by_hand[spread-at once]` |" in (
        tmp_path / "table.md"
    ).read_text(encoding="utf-8")


def test_a_test_that_fails_anyway_kills_nothing(monkeypatch, tmp_path, capsys):
    def found(mutation, seconds, tests, without=()):
        if mutation is None:
            return Found(failed=["tests/test_x.py::test_broken"])
        assert without == ["tests/test_x.py::test_broken"]
        return Found(rows=1, killed={"optima": "test_x.py::test_sound"})

    monkeypatch.setattr(mutate_solver, "run", found)
    assert run(monkeypatch, tmp_path, "--families", "spread", "--kinds", "dropped") == 0
    assert "left out, since they fail with nothing spoilt: tests/test_x.py::test_broken" in capsys.readouterr().out


def test_a_mutation_that_touches_nothing_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(mutate_solver, "run", lambda *_: Found(rows=0, tests={"optima": 3}))
    assert run(monkeypatch, tmp_path, "--families", "spread", "--kinds", "dropped") == 2
    assert "no row was spoilt by model:spread:dropped" in capsys.readouterr().out


def test_a_survivor_is_said_so(monkeypatch, tmp_path, capsys):
    """A test that compares rows is no proof that anything depends on them."""
    monkeypatch.setattr(mutate_solver, "run", lambda *_: Found(rows=3))
    assert run(monkeypatch, tmp_path, "--families", "spread", "--kinds", "dropped") == 1
    assert "1 survivors model:spread:dropped" in capsys.readouterr().out
    assert Found(rows=3, killed={"rows": "test"}).survives


def test_the_committed_table_has_every_family_both_ways():
    """Whoever adds a family spoils it once."""
    text = mutate_solver.TABLE.read_text(encoding="utf-8")
    rows = {Mutation(*words) for words in re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \|", text, flags=re.MULTILINE)}
    assert rows == set(mutations(listed()))
    assert f"{len(rows)} mutations, 0 survivors." in text
