"""`codesign schema`: the JSON Schema of problem files."""

from __future__ import annotations

from typing import Annotated

import typer

from codesign.cli.command import InputError, command
from codesign.cli.inputs import unknown
from codesign.cli.options import Json
from codesign.cli.output import show_json


@command()
def schema(
    kind: Annotated[str, typer.Option(metavar="KIND", help="procurement or architecture.")] = "procurement",
    as_json: Json = True,
) -> None:
    """Print the JSON Schema of the problem file, from which editors complete."""
    from codesign.problem import json_schema
    from codesign.problem.architecture import architecture_schema

    schemas = {"procurement": json_schema, "architecture": architecture_schema}
    if kind not in schemas:
        raise InputError(unknown("kind", kind, schemas))
    show_json(schemas[kind]())
