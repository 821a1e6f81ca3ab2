"""What people give a command, made usable or refused in one message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.cli.command import InputError

if TYPE_CHECKING:
    from codesign.problem import Problem
    from codesign.solution import Solution


def load(path: str) -> Problem:
    """The problem of a file."""
    from codesign.problem import load_problem

    return load_problem(path)


def load_plan(path: str) -> Solution:
    """The solution of a file."""
    from codesign.solution import load_solution

    try:
        return load_solution(path)
    except ValueError as error:
        raise InputError(str(error)) from None


def setting(words: str, option: str, example: str) -> tuple[str, str]:
    """`NAME=VALUE` as both."""
    key, equals, value = words.partition("=")
    if not (key and equals and value):
        raise InputError(f"{option}: found {words!r}; expected a name and a value, such as {example}")
    return key, value


def quantity(text: str | None, kind: str, option: str) -> float | None:
    """A quantity of an option in SI; None where it was not given."""
    if text is None:
        return None
    from codesign.units import UnitError, parse_quantity

    try:
        return parse_quantity(text, kind)
    except UnitError as error:
        raise InputError(f"{option}: found {error.found}; expected {error.expected}") from None


def time_limit_seconds(text: str | None) -> float | None:
    """The value of `--time-limit`, above 0."""
    seconds = quantity(text, "time", "--time-limit")
    if seconds == 0:
        raise InputError(f"--time-limit: found {text!r}; expected a time above 0, such as '60 s'")
    return seconds


def unknown(noun: str, name: str, choices: Any) -> str:
    """The message for a name that is none of the choices."""
    from codesign.catalog import nearest

    near = nearest(name, choices)
    known = ", ".join(near) if near else ", ".join(choices)
    return f"found no {noun} {name!r}; expected {'perhaps' if near else 'one of'} {known}"


def reason_of(error: OSError) -> str:
    """What the system says of a path that cannot be used."""
    return (error.strerror or str(error)).lower()


def output_refused(output: str, noun: str, error: OSError) -> InputError:
    """The message for a folder of results that cannot be written."""
    return InputError(f"--output: found {output!r} ({reason_of(error)}); expected a {noun} to write to")


def made_folder(output: str) -> Path:
    """A folder to write into, made where it is missing and tried before any work is done."""
    from codesign.files import make_folder, probe

    path = Path(output)
    try:
        make_folder(path)
        probe(path / "probe")
    except OSError as error:
        raise output_refused(output, "folder", error) from None
    return path


def writable(output: str, source: str, kind: str = "problem") -> Path:
    """The path of a file to write, tried before any work is done for it; not that of the input."""
    path = Path(output)
    if path.exists() and not path.is_file():
        # A device would be replaced by a file of its name.
        raise InputError(f"--output: found {output!r}, which is no file; expected the path of a file")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise InputError(f"--output: found the {kind} file {output!r}; expected another path")
    from codesign.files import probe, sweep

    try:
        probe(path)
        sweep(path.parent)
    except OSError as error:
        raise InputError(
            f"--output: found {output!r}, which cannot be written ({reason_of(error)}); expected a path in a "
            "directory that exists and takes files"
        ) from None
    return path


def plots_refused(directory: str, error: OSError) -> InputError:
    """The message for a folder of plots that cannot be written."""
    return InputError(f"--plots: found {directory!r} ({reason_of(error)}); expected a directory to write to")
