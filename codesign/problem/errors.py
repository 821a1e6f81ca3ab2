"""What is wrong with a problem, in words: file, line, field, what was found, what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SHOWN = 60


@dataclass(frozen=True)
class Issue:
    """One fault. `file` is empty for a problem built in code, `line` (from 1) None where no line is known."""

    file: str
    line: int | None
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.file and self.line else "")
        head = ": ".join(part for part in (place, self.field) if part)
        return f"{head}: found {self.found}; expected {self.expected}"


class ProblemError(ValueError):
    """A problem cannot be used. `issues` holds every fault found; the message has one line for each."""

    def __init__(self, issues: Iterable[Issue]) -> None:
        order = {issue: (issue.file, issue.line or 0) for issue in issues}
        self.issues: tuple[Issue, ...] = tuple(sorted(order, key=lambda issue: order[issue]))
        super().__init__("\n".join(map(str, self.issues)))


class FieldError(ValueError):
    """A value is not what its field takes; for validators, which do not know where they stand.

    `found` is quoted as a value unless it is `words` of ours.
    """

    def __init__(self, found: object, expected: str, *, words: bool = False) -> None:
        self.found = str(found) if words else show(found)
        self.expected = expected
        super().__init__(f"found {self.found}; expected {expected}")


def show(value: object) -> str:
    """Return a value as a message quotes it: on one line, cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a mapping with {len(value)} fields" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def one_of(choices: Sequence[str], near: Sequence[str] = ()) -> str:
    """Return `'rate' (did you mean it?)`-style advice: the nearest names first, else the whole list if
    short."""
    if near:
        return " or ".join(f"'{name}'" for name in near[:3]) + " (the nearest known name)"
    if not choices:
        return "a name that is defined (none is)"
    listed = sorted(choices)
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    return "one of " + ", ".join(listed[:12]) + more
