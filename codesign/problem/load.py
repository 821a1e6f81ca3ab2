"""From a file, or from data built in code, to a validated `Problem`; every fault of it at once."""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from codesign.problem.errors import Issue, ProblemError, show
from codesign.problem.explain import Faults
from codesign.problem.references import check_references
from codesign.problem.schema import Problem
from codesign.problem.yaml_lines import MAX_DEPTH, MAX_NODES, Document, dotted, parse_yaml, read_yaml


def problem_kind(path: str | Path) -> str:
    """The `kind` that a problem file states: "procurement" where it states none. Raises ProblemError."""
    document, _ = read_yaml(Path(path))
    data = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    return str(kind) if kind is not None else "procurement"


def load_problem(path: str | Path) -> Problem:
    """Return the problem in a YAML file. Whatever is wrong is a ProblemError: file, line, field, found,
    expected."""
    place = Path(path)
    document, raw = read_yaml(place)
    return _validated(document, str(place), hashlib.sha256(raw).hexdigest())


def problem_from_text(text: str, file: str = "") -> Problem:
    """Return the problem that a file with this text would give; faults and relative paths go by `file`."""
    return _validated(parse_yaml(text, file), file, hashlib.sha256(text.encode()).hexdigest())


def problem_from_data(data: Mapping[str, Any], file: str = "", periods: Collection[str] = ()) -> Problem:
    """Return the problem that a file with this data would give; relative paths go by the directory of
    `file`. Offers may name `periods` beside those of the data."""
    plain = _Plain().copy(data, ())
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True)
    return _validated(Document(plain), file, hashlib.sha256(text.encode()).hexdigest(), periods)


def replaced(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    """Return a problem with the values at dotted paths changed (see `Problem.replace`)."""
    document = problem._document
    data: Any = (
        copy.deepcopy(document.data) if document else problem.model_dump(mode="json", exclude_unset=True)
    )
    for path, value in changes.items():
        set_value(data, path, copy.deepcopy(value))  # a later path may lead into it
    return problem_from_data(data, problem.file)


def _validated(document: Document, file: str, sha256: str, periods: Collection[str] = ()) -> Problem:
    faults = Faults(file, document)
    if not isinstance(document.data, dict):
        faults.add((), document.data, "a mapping with tasks and hardware or measured_pools")
        faults.raise_if_any()
    problem: Problem | None = None
    try:
        problem = Problem.model_validate(document.data)
    except ValidationError as error:
        faults.add_validation(error, Problem)
    check_references(document.data, faults, periods)
    faults.raise_if_any()
    assert problem is not None
    problem._document, problem._file, problem._sha256 = document, file, sha256
    return problem


class _Plain:
    """Copies data built in code into what a YAML file can hold."""

    def __init__(self) -> None:
        self.count = 0

    def copy(self, value: Any, path: tuple[str | int, ...]) -> Any:
        self.count += 1
        if self.count > MAX_NODES or len(path) > MAX_DEPTH:
            raise ProblemError(
                [Issue("", None, dotted(path[:1]), "data nested too deeply", "a problem's data")]
            )
        if isinstance(value, Mapping):
            return {str(key): self.copy(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, (*path, i)) for i, item in enumerate(value)]
        if isinstance(value, datetime.date):
            return value.isoformat()
        if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a DataFrame is the list of its rows
            return self.copy(value.to_dict("records"), path)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if callable(getattr(value, "item", None)) and getattr(value, "ndim", 1) == 0:
            return value.item()
        raise ProblemError(
            [Issue("", None, dotted(path), show(value), "text, a number, a list or a mapping")]
        )


def set_value(data: Any, path: str, value: Any) -> None:
    """Set the value at a dotted path in place; names may hold dots themselves, the longest name wins."""
    words = path.split(".")

    def fault(found: str, expected: str) -> ProblemError:
        return ProblemError([Issue("", None, path, found, expected)])

    here = data
    while True:
        if isinstance(here, list):
            by_name = {
                str(item["name"]): i
                for i, item in enumerate(here)
                if isinstance(item, dict) and "name" in item
            }
            choices: dict[str, Any] = {str(i): i for i in range(len(here))} | by_name
        elif isinstance(here, dict):
            choices = {key: key for key in here}
        else:
            raise fault(f"'{words[0]}' below a single value", "a path to a field")
        size = next((n for n in range(len(words), 0, -1) if ".".join(words[:n]) in choices), 0)
        if size == 0 and isinstance(here, list):
            raise fault(f"no item '{words[0]}'", "one of " + ", ".join(by_name))
        step = choices[".".join(words[:size])] if size else words[0]
        words = words[max(size, 1) :]
        if not words:
            here[step] = value
            return
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
        here = here[step]
