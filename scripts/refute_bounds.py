"""Try to refute the bounds: loads drawn at random that keep their promises, and columns that should hold them.

    python scripts/refute_bounds.py                                   the problems of problems/: 100,000 loads
    python scripts/refute_bounds.py problems/azure-chat.yaml --loads 1000 --seed 7

A load is up to four flows in random proportions on replicas of one configuration, in a pool of so many, as large as its
promises, its memory and its queue allow by the accounts that plans are held to, whichever of its tasks come.  The bound
is right only if some column of the bounding problem (`FleetData.outer`) holds it: same configuration, no more replicas
to start with, all its flows admitted, no row exceeded.  Printed are the loads by role, the most that any takes of the
column that holds it best, and the first that none holds: exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.build import Candidates, build_candidates, roles_of, slices_of
from codesign.candidates.context import ROLES, MomentBook, Slice
from codesign.candidates.data import ColumnBlock, Floats, Ints
from codesign.candidates.decode import DecodeEdges
from codesign.candidates.edges import Edges, FlowCalls, Look
from codesign.candidates.flows import CallFlow
from codesign.candidates.grids import Grids
from codesign.candidates.prefill import PrefillLoads
from codesign.candidates.waiting import promises_hold
from codesign.performance import PRECISIONS
from codesign.performance.queueing import MOST_EVEN
from codesign.problem import load_problem, resolve

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = ("agent-fleet", "coding-agents", "azure-chat", "day-night", "hypotheses/T1", "hypotheses/T5")
MOST_FLOWS = 4
POOLS = (1, 2, 3, 4, 5, 7, 9, 14, 30, 70, 300, 1000)
"""Replicas of pools, most of them between those that columns are made for."""
HALVINGS = 30
ROUNDING = 1e-9


@dataclass(frozen=True)
class Loads:
    """One mix of flows on K configurations of a slice, each as large as it may be."""

    role: str
    flows: list[int]
    """Of the problem."""
    calls: Floats
    """[K, flows] calls/s of a replica; 0 where it carries none."""
    group: Ints
    """[K]."""
    replicas: int


@dataclass
class Tally:
    """What became of the loads of one role."""

    loads: int = 0
    most: float = 0.0
    """Of the column that holds a load best, the most that one takes."""
    refuted: str = ""


def refute(candidates: Candidates, loads: int, seed: int) -> dict[str, Tally]:
    """By role: about so many loads of the configurations of a problem, and whether some column holds each."""
    candidates = candidates.stages[0].candidates if candidates.stages else candidates
    rng = np.random.default_rng(seed)
    found = {role: Tally() for role in ROLES}
    for each in _drawn(candidates, rng, loads):
        tally = found[each.role]
        some = np.flatnonzero(each.calls.sum(axis=1) > 0)
        tally.loads += len(some)
        for k in some.tolist():
            share = least_taken(candidates.data.outer, each, k)
            tally.most = max(tally.most, share)
            if share > 1.0 + ROUNDING and not tally.refuted:
                names = [candidates.data.flows[f].name for f in each.flows]
                where = candidates.data.groups[int(each.group[k])].name
                tally.refuted = f"{where}, {each.replicas} replicas: " + ", ".join(
                    f"{rate:.6g}/s {name}" for rate, name in zip(each.calls[k].tolist(), names, strict=True)
                ) + f" takes {share:.4f} of the best column"
    return found


def least_taken(blocks: Sequence[ColumnBlock], load: Loads, k: int) -> float:
    """The share of its scarcest row that a load takes of the column that holds it best; inf where none admits it."""
    best = np.inf
    asked = [(f, x) for f, x in zip(load.flows, load.calls[k].tolist(), strict=True) if x > 0]
    for block in blocks:
        if block.flows[0] > max(load.flows) or not {f for f, _ in asked} <= set(block.flows.tolist()):
            continue
        rows = np.flatnonzero((block.group == load.group[k]) & (block.min_replicas <= load.replicas))
        place = np.array([int(np.flatnonzero(block.flows == f)[0]) for f, _ in asked])
        rows = rows[block.admissible[np.ix_(rows, place)].all(axis=1)]
        if len(rows):
            taken = block.use.of(rows)[:, :, place] @ np.array([x for _, x in asked])
            best = min(best, float((taken / block.limit[rows]).max(axis=1).min()))
    return best


def _drawn(candidates: Candidates, rng: np.random.Generator, loads: int) -> Iterator[Loads]:
    assert candidates.configurations is not None
    slices = slices_of(candidates.instance, Grids(), candidates.book, candidates.configurations, True)
    pools = []
    for part in slices:
        kv, hardware = PRECISIONS[int(part.table.kv[0])], part.configurations.hardware[part.index]
        vendor = part.instance.hardware[int(hardware[0])].accelerator.vendor
        model = int(part.configurations.model[part.index[0]])
        for role in roles_of(part):
            allowed = np.array([role in option.roles for option in part.instance.hardware])[hardware]
            select = part.book.select(role, model, kv, vendor, int(part.table.drafts[0]))
            if allowed.any() and select and np.any(part.room > 0):
                own = Slice(part.instance, part.grids, part.book, part.configurations, part.index[allowed], 0)
                pools.append((role, own, select))
    drawn = 0
    draws = {"prefill": _prefill, "decode": _decode, "colocated": _colocated}
    while pools and drawn < loads:
        role, part, select = pools[int(rng.integers(len(pools)))]
        some = rng.permutation(len(select))[: int(rng.integers(1, MOST_FLOWS + 1))]
        shares = rng.dirichlet(np.full(len(some), 0.7)) + 1e-6
        replicas = int(rng.choice(POOLS))
        chosen = [select[i] for i in some.tolist()]
        flows = [part.book.flows[f] for f in chosen]
        book, chunk = MomentBook(part), float(rng.choice(part.grids.chunks))
        most = np.full(len(part.index), np.inf)
        # Where sessions stay no queue is pooled, nor are calls evened out, whichever come.
        alone = 1 if any(flow.residency == role for flow in flows) else replicas
        for members in _whichever(flows):
            own = np.where(members, shares, 0.0)[members]
            some = [flow for flow, member in zip(flows, members.tolist(), strict=True) if member]
            most = np.minimum(most, draws[role](part, book, some, own, alone, chunk))
        calls = most[:, None] * shares
        found = Loads(role, chosen, calls, part.group(role, part.index), replicas)
        drawn += max(int(np.count_nonzero(calls.sum(axis=1) > 0)), 1)
        yield found


def _room(part: Slice, flows: Sequence[CallFlow]) -> Floats:
    """[K] bytes for sessions beside the prefixes of the tasks of some flows."""
    shared = {flow.calls.task.name: flow.calls.shared for flow in flows}
    return np.asarray(part.room - sum(part.prefix_bytes(tokens) for tokens in shared.values() if tokens > 0))


def _whichever(flows: Sequence[CallFlow]) -> Iterator[NDArray[np.bool_]]:
    """[flows] which come: all, those of each task, each alone."""
    tasks = np.array([flow.calls.task.name for flow in flows])
    yield np.ones(len(flows), dtype=bool)
    yield from (tasks == name for name in np.unique(tasks))
    yield from (row == 1 for row in np.eye(len(flows)))


def _prefill(
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunk: float
) -> Floats:
    """[K] the most of a mix, `shares` of each flow, on a replica of so many that pool their queue; the others alike."""
    loads, prompts = PrefillLoads.of(part, book, flows), [book.prompt(f.calls, f.residency) for f in flows]
    square = sum(share * prompt.busy_square for share, prompt in zip(shares, prompts, strict=True))
    busy = loads.mean[:, 0] @ shares
    low, high = np.zeros(len(busy)), np.full(len(busy), part.instance.options.max_utilization)
    n = np.full(len(busy), replicas)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        good = np.ones(len(busy), dtype=bool)
        for flow, prompt in zip(flows, prompts, strict=True):
            seconds = prompt.seconds + flow.transfer_seconds(prompt.reload, prompt.send)
            steps = np.full(len(busy), flow.token_level_s)
            good &= promises_hold(flow, middle, n, square / busy, seconds, prompt.weight, steps)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    room, mean, spread = _room(part, flows), loads.mean[:, 2] @ shares, loads.square @ shares
    with np.errstate(invalid="ignore"):
        root = (np.sqrt(spread + 4.0 * mean * room) - np.sqrt(spread)) / (2.0 * np.maximum(mean, 1e-300))
    most = np.where(room > 0, np.minimum(low / busy, root**2), 0.0)
    most = np.minimum(most, part.link / np.maximum(loads.mean[:, 3] @ shares, 1e-300))
    fits = np.all([part.hold(f) & (part.link >= f.fabric_bytes_per_s) for f in flows], axis=0)
    return np.asarray(np.where(fits, most, 0.0))


def _decode(
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunk: float
) -> Floats:
    return DecodeEdges(part, book, flows, replicas).mixed(shares, _room(part, flows))


def _colocated(
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunk: float
) -> Floats:
    look = Look.at(part, [FlowCalls.of(part, book, flow) for flow in flows], [chunk])
    return Edges(look, min(replicas, MOST_EVEN)).mix(shares, _room(part, flows))


def main() -> int:
    """Draw, print, and say by the exit code whether a bound was refuted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("problems", nargs="*", type=Path, help="default: those of problems/")
    parser.add_argument("--loads", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    files = args.problems or [ROOT / "problems" / f"{name}.yaml" for name in PROBLEMS]
    refuted = False
    print(f"{'problem':<18} {'role':<10} {'loads':>8}  most of the best column")
    for number, file in enumerate(files):
        candidates = build_candidates(resolve(load_problem(file)))
        found = refute(candidates, args.loads // len(files), args.seed + number)
        for role, tally in found.items():
            if tally.loads:
                print(f"{file.stem:<18} {role:<10} {tally.loads:>8,}  {tally.most:.4f}", flush=True)
            if tally.refuted:
                refuted = True
                print(f"  refuted: {tally.refuted}")
    return int(refuted)


if __name__ == "__main__":
    sys.exit(main())
