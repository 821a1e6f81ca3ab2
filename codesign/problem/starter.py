"""A first problem file from a few answers: commented, complete, and valid as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codesign.catalog import accelerators, default_price, models, nearest, workloads

SLOS = {
    "chat": "{ttft: {p95: 1 s}, tpot: {p95: 50 ms}}",
    "coding": "{ttft: {p95: 4 s}, tpot: {p95: 40 ms}}",
}
"""Latency objectives that a file starts with; they are the user's to set."""
OTHER_SLO = "{ttft: {p95: 3 s}, tpot: {p95: 50 ms}}"


class StarterError(ValueError):
    """An answer that does not fit; the message says what was found and what would be right."""


@dataclass(frozen=True)
class Answers:
    """What a first problem is made of, in the words of the catalogue."""

    name: str = "my-fleet"
    tasks: Mapping[str, str] | None = None
    """Rate by preset ("coding": "2/s")."""
    model: str = "gpt-oss-120b"
    hardware: Sequence[str] = ("h100-sxm", "h200-sxm", "b200-sxm", "mi355x")
    power: str | None = None
    """Of the site, at the meter; None: no limit."""


def starter(answers: Answers) -> str:
    """The text of the problem file.  Raises StarterError for names that the catalogue does not have."""
    tasks = dict(answers.tasks or {"chat": "10/s"})
    _known("model", [answers.model], models())
    _known("workload preset", tasks, workloads())
    _known("accelerator", answers.hardware, accelerators())
    card = models()[answers.model]
    unpriced = [part for part in answers.hardware if default_price(part) is None]
    lines = [
        "# A problem of codesign. What it answers, and how to ask:",
        "#",
        "#   codesign profile FILE                  what the tasks ask for, before anything is bought",
        "#   codesign solve FILE -o plan.json       which accelerators, how many, in which roles",
        "#   codesign report plan.json              the plan as a page (report.html)",
        "#   codesign explain FILE                  what binds, or why there is no plan",
        "#",
        "# Names are entries of `codesign catalog`; `codesign schema` has every field with its default.",
        "",
        "kind: procurement",
        f"name: {_quoted(answers.name)}",
        "objective: cost_per_hour      # or cost_per_task, energy_per_task, power, carbon_per_task",
        "",
        "site:",
        f"  power: {_quoted(answers.power)}" if answers.power else "  # power: 2 MW             # peak at the meter",
        "  pue: 1.25                   # assumption (1.1-1.4)",
        "  electricity: 0.08 $/kWh     # assumption; paid only where a price excludes power",
        "",
        "# `card` is a model of the catalogue; for your own, give `config: path/to/config.json` (Hugging Face).",
        "models:",
        f"  main: {{card: {_quoted(answers.model)}}}",
        "",
        "# A task is a whole chain of calls: `rate` counts tasks. A preset has lengths, calls and waits as published",
        "# (`codesign catalog workloads NAME`); any of them can be set beside it.",
        "tasks:",
    ]
    for preset, rate in tasks.items():
        limit = f"{card.max_context // 1000}K"
        lines += [
            f"  - name: {_quoted(preset)}",
            f"    preset: {_quoted(preset)}",
            f"    rate: {_quoted(rate)}",
            f"    # longer contexts than max_context are compacted ({answers.model} holds {limit} tokens)",
            f"    variants: [{{name: main, model: main, max_context: {limit}}}]",
            f"    slo: {SLOS.get(preset, OTHER_SLO)}",
        ]
    lines += [
        "",
        "# Without offers the catalogue's price stands, with its list and date. Your own: price: 2.05 $/h, or offers.",
        "hardware:",
    ]
    for part in answers.hardware:
        size = accelerators()[part].server_accelerators
        price = ", price: 1 $/h" if part in unpriced else ""
        note = "    # no price is known: 1 $/h stands in for yours" if part in unpriced else ""
        offer = f"{{accelerator: {_quoted(part)}, server: {{accelerators: {size}}}{price}}}"
        lines.append(f"  {_quoted(part)}: {offer}{note}")
    lines += [
        "",
        "# limits:",
        "#   inventory: {h200-sxm: 512}          # accelerators that can be had at all",
        "#   budget: {cost_per_hour: 500 $/h}",
        "# redundancy: {survive: one-server, per: group}",
        "",
        "options:",
        "  gap: 1%                     # stop when the plan is proven to be this near to the best",
        "  time_limit: 60 s",
        "  max_replica_accelerators: 8 # larger replicas are sometimes cheaper, and the search slower",
    ]
    return "\n".join(lines) + "\n"


def _known(kind: str, names: Sequence[str] | Mapping[str, str], catalogue: Mapping[str, object]) -> None:
    for name in names:
        if name not in catalogue:
            near = ", ".join(nearest(name, catalogue)) or ", ".join(catalogue)
            raise StarterError(f"found no {kind} {name!r}; expected {near}")


def _quoted(text: str) -> str:
    """A text as YAML reads it back, plain where that is safe."""
    safe = text and all(c.isalnum() or c in "-_./$ " for c in text) and text[0].isalpha() and not text.endswith(" ")
    special = text.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return text if safe and not special else json.dumps(text)
