"""YAML text to plain data, with the line of every value, and with limits that a hostile file runs into.

ruamel.yaml parses and composes; the values are built here from its nodes, since only nodes know their lines,
and since building is where aliases multiply ("YAML bombs").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from codesign.problem.errors import FieldError, Issue, ProblemError, show

MAX_BYTES = 1_000_000
MAX_NODES = 200_000
"""After the expansion of aliases."""
MAX_DEPTH = 30

Path_ = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)$")


@dataclass
class Document:
    """Plain data (dict with string keys, list, str, int, float, bool, None) and where each of it stands."""

    data: Any
    lines: dict[Path_, int] = field(default_factory=dict)
    """Line (from 1) of the value at a path; of its key inside mappings."""

    def line(self, path: Path_) -> int | None:
        """Return the line of `path`, or of its nearest ancestor that has one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def read_yaml(path: Path) -> tuple[Document, bytes]:
    """Return a file's data with its bytes. Whatever is wrong with the file is a ProblemError."""
    name = str(path)

    def fault(found: str, expected: str, line: int | None = None) -> ProblemError:
        return ProblemError([Issue(name, line, "", found, expected)])

    try:
        if path.is_dir():
            raise fault("a directory", "a problem file (YAML)")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise fault("no such file", _nearby(path)) from None
    except (OSError, ValueError) as error:
        raise fault(f"a file that cannot be read ({error})", "a readable problem file (YAML)") from None
    if len(raw) > MAX_BYTES:
        raise fault(f"more than {MAX_BYTES:,} bytes", "a problem file (YAML) of at most 1 MB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise fault(f"bytes that are not UTF-8 text ({error.reason})", "a UTF-8 text file", line) from None
    return parse_yaml(text, name), raw


def _nearby(path: Path) -> str:
    from difflib import get_close_matches

    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return f"an existing file ('{path.parent}' is not a readable directory)"
    near = get_close_matches(path.name, names, n=1)
    return (
        f"an existing file, such as '{path.parent / near[0]}'" if near else "an existing problem file (YAML)"
    )


def parse_yaml(text: str, file: str = "") -> Document:
    """Return the data of one YAML document. Every fault of syntax is a ProblemError with its line."""
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = " ".join(part for part in (error.problem, error.context) if part) or "a syntax error"
        raise ProblemError(
            [
                Issue(
                    file,
                    mark.line + 1 if mark else None,
                    "",
                    f"text that is not YAML ({found})",
                    "valid YAML",
                )
            ]
        ) from None
    except RecursionError:
        raise ProblemError(
            [Issue(file, None, "", "data nested too deeply", f"at most {MAX_DEPTH} levels")]
        ) from None
    except Exception as error:  # the parser raises bare exceptions of many kinds on malformed text
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ProblemError(
            [Issue(file, None, "", f"text that is not YAML ({reason})", "valid YAML")]
        ) from None
    document = Document(None)
    if node is None:
        raise ProblemError([Issue(file, None, "", "an empty file", "a mapping with tasks and hardware")])
    builder = _Builder(file, document)
    document.data = builder.build(node, ())
    if builder.issues:
        raise ProblemError(builder.issues)
    return document


class _Builder:
    """Builds values from nodes, counting what it builds."""

    def __init__(self, file: str, document: Document) -> None:
        self.file = file
        self.document = document
        self.count = 0
        self.issues: list[Issue] = []

    def _stop(self, node: Node, path: Path_, found: str, expected: str) -> ProblemError:
        line = node.start_mark.line + 1
        return ProblemError([*self.issues, Issue(self.file, line, dotted(path), found, expected)])

    def build(self, node: Node, path: Path_) -> Any:
        self.count += 1
        if self.count > MAX_NODES:
            raise self._stop(
                node, path[:1], "aliases that expand without end", f"at most {MAX_NODES:,} values in all"
            )
        if len(path) > MAX_DEPTH:
            raise self._stop(node, path[:1], "data nested too deeply", f"at most {MAX_DEPTH} levels")
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise self._stop(key_node, path, "a key that is a list or mapping", "a word as key")
            if str(key_node.tag) == _TAG + "merge":
                for source in value_node.value if isinstance(value_node, SequenceNode) else [value_node]:
                    if not isinstance(source, MappingNode):
                        raise self._stop(source, path, "a merge (<<) of something else", "a mapping to merge")
                    for key, value in self.build(source, path).items():
                        merged.setdefault(key, value)
                continue
            key = key_node.value
            if key in own:
                self.issues.append(
                    Issue(self.file, line, dotted((*path, key)), "the same key twice", "each key once")
                )
                continue
            self.document.lines[(*path, key)] = line
            own[key] = self.build(value_node, (*path, key))
        return {**merged, **own}

    def _scalar(self, node: Node, path: Path_) -> Any:
        tag, text = str(node.tag).removeprefix(_TAG), str(node.value)
        try:
            return scalar(tag, text)
        except FieldError as error:
            line = node.start_mark.line + 1
            self.issues.append(Issue(self.file, line, dotted(path), error.found, error.expected))
            return None


def scalar(tag: str, text: str) -> Any:
    """Return the value of a scalar with a resolved tag. Dates stay text: the schema knows which field is a
    date."""
    if tag in ("str", "timestamp"):
        return text
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() in ("true", "yes", "on")
    if tag == "int" and _INT.match(text) and len(text) <= 400:
        digits = text.replace("_", "").lower()
        base = 16 if "0x" in digits else 8 if "0o" in digits else 10
        return int(digits, base)
    if tag == "float":
        try:
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower().replace("_", "")))
        except ValueError:
            raise FieldError(text, "a number") from None
    raise FieldError(text, "a number" if tag == "int" else f"a value without the YAML tag {show(tag)}")


def dotted(path: Path_, data: Any = None) -> str:
    """Return `tasks.coding.rate` for a path; list items go by their `name` where `data` has one."""
    words: list[str] = []
    for step in path:
        data = _step(data, step)
        name = data.get("name") if isinstance(step, int) and isinstance(data, dict) else None
        words.append(name if isinstance(name, str) and name else str(step))
    return ".".join(words)


def _step(data: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return data[step] if isinstance(data, list) and 0 <= step < len(data) else None
    return data.get(step) if isinstance(data, dict) else None
