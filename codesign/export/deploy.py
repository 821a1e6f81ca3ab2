"""A plan as a folder of files for one engine: commands, manifests, router weights, and a page that says how."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesign.export.arguments import (
    HOST_TIERS,
    needs_checkpoint,
    obstacle,
    sglang_arguments,
    vllm_arguments,
    vllm_environment,
)
from codesign.export.engine import Engine, Worker, engines, workers
from codesign.export.manifests import dynamo_graph, kubernetes, llmd_values, route_manifest
from codesign.files import make_folder, write_atomically
from codesign.problem.instance import Instance
from codesign.solution import Solution
from codesign.solution.labels import stage_of

ENGINES = ("vllm", "sglang", "dynamo", "llm-d")


class ExportError(ValueError):
    """A plan that cannot be exported; the message says what was found and what would be right."""


@dataclass(frozen=True)
class Weight:
    """Share of a task's calls that take one way, which a router is to keep."""

    period: str
    task: str
    model: str
    prefill: str
    decode: str
    cell: int
    kv_policy: str
    share: float


def deployment(solution: Solution, instance: Instance, engine: str) -> dict[str, str]:
    """The files of a plan for an engine of ENGINES: text by relative path, the same for the same plan.

    Pools that the engine cannot run stay out, and README.md says which and why.  Raises ExportError where no
    pool is left.
    """
    if engine not in ENGINES:
        raise ExportError(f"found no engine {engine!r}; expected one of {', '.join(ENGINES)}")
    made_for = engines()[engine]
    every = workers(solution, instance)
    left_out = {w.pool: why for w in every if (why := obstacle(w, engine)) is not None}
    reasons = {
        "serve": "known by measured rates alone, not by an engine",
        "split-decode": "attention and feed-forward layers apart: no arguments of an engine are known for it",
    }
    left_out |= {pool.pool: reasons[pool.role] for pool in solution.fleet if pool.role in reasons}
    left_out |= {
        pool.pool: f"keeps its {use.holds} in {use.modules_per_accelerator:g} × {use.tier} attached to each "
        "accelerator: no arguments of an engine are known for it"
        for pool in solution.fleet
        if (use := pool.attached) is not None
    }
    left_out |= {
        pool.pool: f"{pool.parallelism.cp} groups share each prompt: no arguments of an engine are known for it"
        for pool in solution.fleet
        if pool.parallelism is not None and pool.parallelism.cp > 1
    }
    runs = [worker for worker in every if worker.pool not in left_out]
    if not runs:
        why = "; ".join(f"{pool}: {reason}" for pool, reason in left_out.items()) or f"status {solution.status}"
        raise ExportError(f"found no pool that {engine} can run ({why}); expected at least one")
    weights = routing_weights(solution, runs)
    files = dict(_engine_files(made_for, runs, weights))
    files["routing.json"] = json.dumps([vars(weight) for weight in weights], indent=1) + "\n"
    files["README.md"] = _readme(solution, made_for, runs, weights, left_out)
    return dict(sorted(files.items()))


def routing_weights(solution: Solution, runs: Sequence[Worker]) -> list[Weight]:
    """Shares of each task's calls in its period, over the ways whose pools are all among the workers."""
    known = {(worker.period, worker.pool): worker for worker in runs}
    found = []
    for route in solution.routing:
        stage = stage_of(route)
        prefill, decode = known.get((stage, route.prefill_pool)), known.get((stage, route.decode_pool))
        if prefill is None or decode is None:
            continue
        total = sum(r.calls_per_s for r in solution.routing if (stage_of(r), r.task) == (stage, route.task))
        found.append(
            Weight(
                stage,
                route.task,
                decode.served_name,
                prefill.slug,
                decode.slug,
                decode.cell,
                route.kv_policy or "",
                round(route.calls_per_s / total, 6),
            )
        )
    return found


def _engine_files(engine: Engine, runs: Sequence[Worker], weights: Sequence[Weight]) -> Iterator[tuple[str, str]]:
    cells = list(dict.fromkeys(worker.cell for worker in runs))
    if engine.name == "dynamo":
        for cell in cells:
            yield f"cell-{cell}.yaml", dynamo_graph(engine, cell, [w for w in runs if w.cell == cell])
        return
    if engine.name == "llm-d":
        for worker in runs:
            yield f"{worker.slug}-values.yaml", llmd_values(engine, worker)
        yield "httproute.yaml", route_manifest([(w.task, w.cell, w.share) for w in weights])
        return
    for worker in runs:
        arguments = sglang_arguments(worker) if engine.name == "sglang" else vllm_arguments(worker)
        command = _command(engine.name, worker) + arguments
        follower = [*command, "--headless"] if engine.name == "vllm" else command
        yield f"{worker.slug}.sh", _script(engine.name, worker, command, follower)
        yield f"{worker.slug}.yaml", kubernetes(engine, worker, command, follower)
    if engine.name == "sglang":
        for cell in cells:
            yield f"router-cell-{cell}.sh", _sglang_router(cell, [w for w in runs if w.cell == cell])


def _command(engine: str, worker: Worker) -> list[str]:
    return ["python3", "-m", "sglang.launch_server"] if engine == "sglang" else ["vllm", "serve", worker.model]


def _script(engine: str, worker: Worker, command: Sequence[str], follower: Sequence[str]) -> str:
    lines = [
        "#!/bin/sh",
        f"# {worker.replicas} of these, each on {worker.accelerators} x {worker.accelerator}: {worker.role}",
    ]
    if worker.nodes > 1:
        lines += [
            f"# Runs on each of the {worker.nodes} nodes of a replica: set LWS_LEADER_ADDRESS to its first node, and",
            "# LWS_WORKER_INDEX to 0 there, to 1, 2, ... on the others.",
        ]
    known = {} if engine == "sglang" else vllm_environment(worker)
    lines += [f"export {name}={shlex.quote(value)}" for name, value in known.items()]
    if worker.nodes > 1 and list(follower) != list(command):
        lines += ['if [ "${LWS_WORKER_INDEX:?}" != 0 ]; then', f"  exec {_lines(follower)}", "fi"]
    return "\n".join([*lines, f"exec {_lines(command)}"]) + "\n"


def _lines(command: Sequence[str]) -> str:
    """The command with a flag and its value on each line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--"):
            lines.append([])
        named = re.fullmatch(r"\$\((LWS_[A-Z_]+)\)(:\d+)?", word)
        lines[-1].append(f'"${{{named[1]}:?}}{named[2] or ""}"' if named else shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)


def _sglang_router(cell: int, members: Sequence[Worker]) -> str:
    words = ["python3", "-m", "sglang_router.launch_router", "--policy", "cache_aware"]
    if any(worker.role == "prefill" for worker in members):
        words.append("--pd-disaggregation")
        for worker in members:
            words += [f"--{worker.role}", f"http://{worker.slug}:8000"]
    else:
        words += ["--worker-urls", *(f"http://{worker.slug}:8000" for worker in members)]
    return f"#!/bin/sh\n# The router of cell {cell}\nexec {_lines(words)}\n"


def _readme(
    solution: Solution, engine: Engine, runs: Sequence[Worker], weights: Sequence[Weight], left_out: Mapping[str, str]
) -> str:
    made = solution.provenance
    lines = [
        f"# {_text(made.problem)} on {engine.name} {engine.version}",
        "",
        f"Made by codesign from the plan of problem {made.problem_sha256[:12]} (status {solution.status}). Flags are "
        f"those of {engine.source} ({engine.date}). Image tags are not verified: set those of your registry.",
        "",
        "| pool | role | replicas | accelerators each | model | TP PP DP EP | weights | KV | cell |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {w.slug} | {w.role} | {w.replicas} | {w.accelerators} × {_text(w.accelerator)} | {_text(w.model)} | "
        f"{w.tp} {w.pp} {w.dp} {w.ep} | {w.weights} | {w.kv} | {w.cell} |"
        for w in runs
    ]
    lines += [
        "",
        "Pools of one cell hand KV caches to one another. Route each task as follows (`routing.json` has the figures):",
        "",
        "| task | period | prefill | decode | KV between calls | share |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_text(w.task)} | {_text(w.period)} | {w.prefill} | {w.decode} | {w.kv_policy} | {100 * w.share:.3g} % |"
        for w in weights
    ]
    notes = [f"- {_text(pool)} is not exported: {reason}." for pool, reason in left_out.items()]
    notes += [
        f"- {w.slug} needs a checkpoint with {w.weights} weights (released in {w.native})."
        for w in runs
        if needs_checkpoint(w)
    ]
    if engine.name == "vllm" and any(w.role != "colocated" for w in runs):
        notes.append("- vLLM itself brings no router between prefill and decode: take `--to llm-d` or `--to dynamo`.")
    notes += [
        f"- A replica of {w.slug} spans {w.nodes} nodes: its manifest needs LeaderWorkerSet (lws.sigs.k8s.io)."
        for w in runs
        if w.nodes > 1 and engine.name != "dynamo"
    ]
    notes += [
        f"- {w.slug} drafts {w.draft_tokens} tokens a step ({w.method}): compare the engine's own acceptance with that "
        "of the plan, which its promises and its cost depend on."
        for w in runs
        if w.method and w.role != "prefill"
    ]
    notes += [_residency(engine, w) for w in runs if w.tier]
    if notes:
        lines += ["", "Notes:", "", *notes]
    return "\n".join(lines) + "\n"


def _residency(engine: Engine, worker: Worker) -> str:
    """How a pool's tier is set up, and what the plan takes for granted of it."""
    how = "HiCache" if engine.name == "sglang" else "LMCache"
    if engine.name != "sglang" and worker.role == "colocated" and worker.tier in HOST_TIERS:
        how = "vLLM's own offloading"
    size = f"{worker.tier_bytes / 1e9:,.0f} GB of {worker.tier} for each replica"
    return (
        f"- {worker.slug} parks KV by {how} in {size}. The plan lets any replica read any session's KV: route a "
        "session back to its replica, or give the cache a shared backend (LMCache's server, HiCache's mooncake). "
        "Engines do not offload every kind of attention: try yours first."
    )


def _text(name: str) -> str:
    """A name inside a table of Markdown."""
    return "".join(f"\\{c}" if c in "\\|<>[]`*_#" else " " if c in "\r\n" else c for c in name)


def write_files(files: Mapping[str, str], directory: str | Path) -> None:
    """Write each file atomically into a directory, which is made where it is missing; scripts can be run."""
    target = Path(directory)
    make_folder(target)
    for name, text in files.items():
        write_atomically(target / name, text)
        if name.endswith(".sh"):
            (target / name).chmod(0o755)
