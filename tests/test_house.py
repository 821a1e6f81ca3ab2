"""One direction of import: no room knows one to its right (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import codesign

ROOMS = (
    ("units", "interrupts", "files", "notebook", "startup", "processes"),
    ("catalog",),
    ("problem",),
    ("workload", "hardware"),
    ("performance",),
    ("candidates",),
    ("optimize",),
    ("solution",),
    ("check",),
    ("simulate",),
    (
        "clock", "staged", "planning", "explanation", "robustness", "extremes", "verification", "polish",
        "witnesses", "planner",
    ),
    ("study", "architecture"),
    ("validation",),
    ("report", "export"),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
ROOT = Path(codesign.__file__).parent


def imported(path: Path) -> set[str]:
    """Rooms of this package that a module imports, for types or at run time."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "codesign":
                names = [f"codesign.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("codesign.")}
    return found


def test_imports_run_in_one_direction():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room != "__init__":
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in imported(path) if RANK[name] > RANK[room]]
    assert wrong == []
