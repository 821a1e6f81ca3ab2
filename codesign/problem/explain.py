"""Schema errors in the user's words: pydantic's reports become issues with line, dotted field and nearest
names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from codesign.catalog import nearest
from codesign.problem.errors import FieldError, Issue, ProblemError, one_of, show
from codesign.problem.yaml_lines import Document, Path_, dotted
from codesign.units import KINDS, UnitError, quantity_kind

_TYPES = {
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "dict_type": "a mapping of names",
    "mapping_type": "a mapping of names",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date such as 2026-11-01",
    "date_parsing": "a date such as 2026-11-01",
    "date_from_datetime_parsing": "a date such as 2026-11-01",
    "date_from_datetime_inexact": "a date such as 2026-11-01",
    "too_short": "at least one",
}


@dataclass
class Faults:
    """Collects what is wrong with one problem."""

    file: str
    document: Document
    issues: list[Issue] = field(default_factory=list)

    def add(self, path: Path_, found: object, expected: str, *, words: bool = False) -> None:
        """Note a fault at `path`; `found` is quoted as a value unless it is `words` of ours."""
        line = self.document.line(path)
        text = str(found) if words else show(found)
        self.issues.append(Issue(self.file, line, dotted(path, self.document.data), text, expected))

    def add_message(self, path: Path_, message: str, value: object) -> None:
        """Note a fault that a validator put into words, `found …: expected …` in our own form."""
        match = re.search(r"found (.*?)[:;] expected (.*)", message, re.DOTALL)
        found, expected = match.groups() if match else (show(value), message)
        self.add(path, " ".join(found.split()), " ".join(expected.split()), words=True)

    def add_unknown(
        self, path: Path_, name: object, choices: Iterable[str], also: Iterable[str] = ()
    ) -> None:
        """Note a name that is not among `choices` (which are listed) or `also` (which are not)."""
        known = [str(choice) for choice in choices]
        near = nearest(name, [*known, *also]) if isinstance(name, str) else []
        self.add(path, name, one_of(known, near))

    def add_validation(self, error: ValidationError, root: type[BaseModel], prefix: Path_ = ()) -> None:
        """Note all that a schema found, at their places below `prefix`."""
        details = error.errors(include_url=False)
        misspelt = self._misspelt(details, root)
        for item in details:
            loc = tuple(item["loc"])
            if item["type"] == "missing" and loc in misspelt.values():
                continue
            self._add_detail(item, root, prefix, misspelt.get(loc))

    def raise_if_any(self) -> None:
        """Raise a ProblemError with all that was noted, if anything was."""
        if self.issues:
            raise ProblemError(self.issues)

    def _misspelt(self, details: list[ErrorDetails], root: type[BaseModel]) -> dict[Path_, Path_]:
        """Unknown fields by the path of the known one they look like; so a missing field is not named
        twice."""
        pairs: dict[Path_, Path_] = {}
        for item in details:
            if item["type"] == "extra_forbidden":
                *parent, name = item["loc"]
                near = nearest(str(name), _fields(root, tuple(parent)), count=1)
                if near and SequenceMatcher(None, str(name).casefold(), near[0]).ratio() >= 0.65:
                    pairs[tuple(item["loc"])] = (*parent, near[0])
        return pairs

    def _add_detail(
        self, item: ErrorDetails, root: type[BaseModel], prefix: Path_, meant: Path_ | None
    ) -> None:
        kind, loc, context = item["type"], tuple(item["loc"]), item.get("ctx", {})
        path = self._existing((*prefix, *loc))
        found: object = item["input"]
        if kind == "missing":
            self.add((*path, loc[-1]), "nothing", _wanted(root, loc), words=True)
        elif kind == "extra_forbidden":
            fields = _fields(root, loc[:-1])
            near = [str(meant[-1])] if meant else []
            self.add(path, f"the unknown field '{loc[-1]}'", one_of(list(fields), near), words=True)
        elif kind == "literal_error":
            choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            self.add_unknown(path, found, choices)
        elif kind == "value_error":
            cause = context.get("error")
            if isinstance(cause, (FieldError, UnitError)):
                self.add(path, cause.found, cause.expected, words=True)
            else:
                self.add_message(path, str(cause), found)
        elif kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
            limit = next(iter(context.values()))
            word = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}[next(iter(context))]
            self.add(path, self._raw(path, found), f"a value {word} {limit:g} (in SI units)")
        else:
            self.add(path, found, _TYPES.get(kind, item["msg"][:1].lower() + item["msg"][1:]))

    def _existing(self, path: Path_) -> Path_:
        """The part of a path that stands in the data: validators add steps of their own."""
        data = self.document.data
        for depth, step in enumerate(path):
            inside = isinstance(data, dict) and step in data
            if not inside and not (isinstance(data, list) and isinstance(step, int) and step < len(data)):
                return path[:depth]
            data = data[step]
        return path

    def _raw(self, path: Path_, default: object) -> object:
        data = self.document.data
        for step in path:
            data = data[step]
        return default if isinstance(data, (dict, list)) else data


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for arg in get_args(annotation) for part in _parts(arg)]
    return [] if annotation is type(None) else [annotation]


def _at(annotation: Any, loc: Path_) -> tuple[Any, FieldInfo | None]:
    """The annotation (and field) that `loc` leads to; (None, None) where it leads nowhere."""
    info: FieldInfo | None = None
    for step in loc:
        parts = _parts(annotation)
        annotation = None
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel) and step in part.model_fields:
                info = part.model_fields[str(step)]
                annotation = info.annotation
            elif get_origin(part) in (list, dict, tuple):
                info = None
                annotation = get_args(part)[-1 if get_origin(part) is dict else 0]
        if annotation is None:
            return None, None
    return annotation, info


def _fields(root: type[BaseModel], loc: Path_) -> list[str]:
    """Names of the fields that may stand at `loc`."""
    annotation, _ = _at(root, loc)
    parts = _parts(annotation)
    models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return [name for model in models for name in model.model_fields]


def _wanted(root: type[BaseModel], loc: Path_) -> str:
    """What a missing field would hold."""
    annotation, info = _at(root, loc)
    metadata = tuple(info.metadata) if info else ()
    kind = quantity_kind(annotation, metadata)
    if kind:
        return KINDS[kind].expected
    description = (info.description or "").split("\n")[0].rstrip(".") if info else ""
    return f"{loc[-1]}: {description}" if description else f"the field '{loc[-1]}'"
