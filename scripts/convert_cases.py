"""Turn a case of measured throughput into a problem file of measured pools.

    python scripts/convert_cases.py CASE -o PROBLEM.yaml [--name NAME] [--rate 35/s] [--no-inventory]

Three shapes of case are known, told apart by what the file holds:

- JSON with `gpu_info` (Mélange): request buckets by size, a cost per GPU and its rate in each bucket.
  One task per bucket, one pool per GPU.
- JSON with `candidates` (llm-d's Inferno): for each server, the accelerator profiles that could serve all
  of it. One task per server, one pool per (server, profile) that is bought whole; tasks are not split.
- CSV with `gpus_per_replica, requests_per_s` (AIConfigurator): replica shapes of one model. One task, whose
  `--rate` the file does not know; one pool per row, which costs 1 $/h per GPU: the objective counts GPUs.

Cases carry no headroom, and their optimum is known to the cent: the gap asked for is 0.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

WHOLE_RATE = "1/s"
"""Rate of a task that pools serve whole: any will do, since a pool's `max_rate` is the same."""


def main() -> int:
    """Read the case, write the problem, say where."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("case", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="default: standard output")
    parser.add_argument("--name", help="name of the problem; default: from the file")
    parser.add_argument("--rate", help="arrivals of the single task of a CSV case, such as 35/s")
    parser.add_argument("--no-inventory", action="store_true", help="leave the case's limits out")
    parser.add_argument("--note", help="where the figures come from; default: the case's own `source`")
    arguments = parser.parse_args()
    try:
        name = arguments.name or arguments.case.stem.replace("_", "-")
        problem = convert(arguments.case, arguments.rate, not arguments.no_inventory) | {"name": name}
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"{arguments.case}: cannot be read: {error}")
    except (KeyError, TypeError, ValueError) as error:
        parser.error(f"{arguments.case}: not a case of a known shape: {error}")
    note = arguments.note or source_of(arguments.case)
    comment = f"Written by scripts/convert_cases.py from {arguments.case.name}.\n{note}".rstrip()
    text = to_yaml(problem, comment)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    return 0


def convert(case: Path, rate: str | None = None, inventory: bool = True) -> dict[str, Any]:
    """Return the problem data of a case file; ValueError or KeyError where its shape is not known."""
    text = case.read_text(encoding="utf-8")
    if case.suffix == ".csv":
        return from_replica_table(list(csv.DictReader(io.StringIO(text))), rate)
    data = json.loads(text)
    if "gpu_info" in data:
        return from_buckets(data)
    if "candidates" in data:
        return from_choices(data, inventory)
    raise ValueError("expected JSON with gpu_info or candidates, or CSV with gpus_per_replica")


def source_of(case: Path) -> str:
    """Return what a JSON case says of its origin and meaning, wrapped for a comment."""
    if case.suffix == ".csv":
        return ""
    data = json.loads(case.read_text(encoding="utf-8"))
    facts = (f"{word.capitalize()}: {data[word]}." for word in ("source", "meaning") if word in data)
    return "\n".join(textwrap.fill(fact, 100) for fact in facts)


def from_buckets(data: dict[str, Any]) -> dict[str, Any]:
    """Mélange: `workload_distribution` and `tputs` are matrices over the same buckets."""
    shares = {
        f"in{row}-out{column}": share
        for row, line in enumerate(data["workload_distribution"])
        for column, share in enumerate(line)
        if share > 0
    }

    def rates(matrix: list[list[float]]) -> dict[str, str]:
        cells = {f"in{i}-out{j}": x for i, line in enumerate(matrix) for j, x in enumerate(line)}
        return {name: per_second(cells[name]) for name in shares if cells[name] > 0}

    total = data["total_request_rate"]
    return problem_data(
        [{"name": name, "rate": per_second(share * total)} for name, share in shares.items()],
        [pool(gpu, gpu, 1, info["cost"], rates(info["tputs"])) for gpu, info in data["gpu_info"].items()],
    )


def from_choices(data: dict[str, Any], inventory: bool) -> dict[str, Any]:
    """Inferno: each candidate serves its whole server, at the cost and units of all its replicas."""
    pools = [
        pool(f"{server} on {profile}", choice["type"], choice["units"], choice["cost"], {server: WHOLE_RATE})
        for server, profiles in data["candidates"].items()
        for profile, choice in profiles.items()
    ]
    tasks = [{"name": server, "rate": WHOLE_RATE} for server in data["candidates"]]
    return problem_data(tasks, pools, data["capacity"] if inventory else {}, split_tasks=False)


def from_replica_table(rows: list[dict[str, str]], rate: str | None) -> dict[str, Any]:
    """AIConfigurator: every row is a shape of replica with the rate that it sustains."""
    if rate is None:
        raise ValueError("a table of replicas needs --rate, such as --rate 35/s")
    pools = [
        pool(
            f"{row['mode']}-{row['gpus_per_replica']}gpu-{number:02d}",
            "GPU",
            int(row["gpus_per_replica"]),
            float(row["gpus_per_replica"]),
            {"requests": per_second(float(row["requests_per_s"]))},
        )
        for number, row in enumerate(rows, start=1)
    ]
    return problem_data([{"name": "requests", "rate": rate}], pools)


def problem_data(
    tasks: list[dict[str, Any]],
    pools: list[dict[str, Any]],
    inventory: dict[str, int] | None = None,
    split_tasks: bool = True,
) -> dict[str, Any]:
    """Assemble the file's data in the order in which people read it."""
    return {
        "kind": "procurement",
        "name": "measured",
        "objective": "cost_per_hour",
        "tasks": tasks,
        "measured_pools": pools,
        **({"limits": {"inventory": inventory}} if inventory else {}),
        "options": {"split_tasks": split_tasks, "gap": 0},
    }


def pool(
    name: str, accelerator: str, accelerators: int, cost: float, rates: dict[str, str]
) -> dict[str, Any]:
    """One measured pool; cost in $/h per replica."""
    return {
        "name": name,
        "accelerator": accelerator,
        "accelerators_per_replica": accelerators,
        "cost": f"{cost:.12g} $/h",
        "max_rate": rates,
    }


def per_second(rate: float) -> str:
    """Write a rate; 12 digits, so that 0.1 × 30 is 3."""
    return f"{rate:.12g}/s"


def to_yaml(data: dict[str, Any], comment: str) -> str:
    """Write the problem as YAML, its innermost mappings on one line."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 200
    document = CommentedMap(data)
    document.yaml_set_start_comment(comment)
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
