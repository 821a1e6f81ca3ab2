"""`codesign catalog`: what is known of parts, models and prices, with sources."""

from __future__ import annotations

from typing import Annotated

import typer

from codesign.cli.command import InputError, command
from codesign.cli.inputs import unknown
from codesign.cli.options import Json
from codesign.cli.output import show, show_json


@command()
def catalog(
    section: Annotated[
        str | None,
        typer.Argument(metavar="SECTION", help="accelerators, models, memory, links, workloads or prices."),
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="An entry to show.")] = None,
    as_json: Json = False,
) -> None:
    """List the catalogue, or show an entry with its sources."""
    from codesign.report.catalogue import SECTIONS, cited_sources, entry_report, listing, overview

    if section is None:
        names = {each: list(part.entries()) for each, part in SECTIONS.items()}
        show_json(names) if as_json else show(overview())
        return
    if section not in SECTIONS:
        home = next((each for each, part in SECTIONS.items() if section in part.entries()), None)
        hint = f" (try: codesign catalog {home} {section})" if home else ""
        raise InputError(f"{unknown('section', section, SECTIONS)}{hint}")
    entries = SECTIONS[section].entries()
    if name is None:
        if as_json:
            show_json([entry.model_dump(mode="json") for entry in entries.values()])
        else:
            show(listing(section))
        return
    if name not in entries:
        raise InputError(unknown(SECTIONS[section].noun, name, entries))
    entry = entries[name]
    if as_json:
        cited = {code: source.model_dump(mode="json") for code, source in cited_sources(entry).items()}
        show_json(entry.model_dump(mode="json") | {"cited": cited})
    else:
        show(entry_report(section, entry))
