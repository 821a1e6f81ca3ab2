"""Whole random plans: calls shared out at random, pools of random configurations at their edge, and their servers.

Used by `refute_bounds.py`.  A plan's pools carry as much as the accounts of :mod:`~codesign.candidates` allow at their
own number of replicas, so its operating points lie on no grid; what is bought, the spares of n+1 and all limits are the
business of a small MILP over those pools alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.build import Candidates, roles_of, slices_of
from codesign.candidates.context import MomentBook, Slice
from codesign.candidates.data import ColumnBlock, FleetData, Floats, RowUse
from codesign.candidates.decode import DecodeEdges
from codesign.candidates.edges import Edges, FlowCalls, Look
from codesign.candidates.flows import CallFlow
from codesign.candidates.grids import Grids
from codesign.candidates.prefill import PrefillLoads
from codesign.candidates.stages import StagePart
from codesign.candidates.waiting import promises_hold
from codesign.optimize.fleet import FleetPlan
from codesign.optimize.recount import bought
from codesign.performance import PRECISIONS
from codesign.performance.queueing import MOST_EVEN

HALVINGS = 30
_TRIED = 6
"""Configurations of a slice among which that of a pool is drawn."""
_SHARED = 0.6
"""Chance that calls that one pool can carry share it."""
_TWO_WAYS = 0.4
"""Chance that the calls of a task go two ways."""
_IDLE = 0.3
"""Chance that a pool has more replicas than it needs, and by what share at the most."""
_SECONDS = 5.0
_MOST_REPLICAS = 20_000


# ---- loads -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawer:
    """The configurations of one slice in one role, and the flows that they may carry."""

    role: str
    part: Slice
    flows: list[int]
    """Of the stage's book."""

    def most(self, flows: Sequence[CallFlow], shares: Floats, replicas: int, chunks: Sequence[float]) -> Floats:
        """[K] calls/s of a mix, `shares` of each flow, on a replica of so many, whichever of its tasks come.

        Of colocated ones for each size of chunks, [chunks·K].
        """
        book = MomentBook(self.part)
        # Where sessions stay no queue is pooled, nor are calls evened out, whichever come.
        alone = 1 if any(flow.residency == self.role for flow in flows) else replicas
        sizes = len(chunks) if self.role == "colocated" else 1
        most = np.full(sizes * len(self.part.index), np.inf)
        for members in _whichever(flows):
            own = np.where(members, shares, 0.0)[members]
            some = [flow for flow, member in zip(flows, members.tolist(), strict=True) if member]
            most = np.minimum(most, _MOST[self.role](self.part, book, some, own, alone, chunks))
        return most

    def taken(self, rows: NDArray[np.int64]) -> Drawer:
        """The same of some of its configurations."""
        part = self.part
        some = Slice(part.instance, part.grids, part.book, part.configurations, part.index[rows], part.first_group)
        return replace(self, part=some)


def drawers(candidates: Candidates) -> list[Drawer]:
    """One for each slice and role of a stage in which anything may run."""
    assert candidates.configurations is not None
    found = []
    for part in slices_of(candidates.instance, Grids(), candidates.book, candidates.configurations, True):
        kv, hardware = PRECISIONS[int(part.table.kv[0])], part.configurations.hardware[part.index]
        vendor = part.instance.hardware[int(hardware[0])].accelerator.vendor
        model = int(part.configurations.model[part.index[0]])
        for role in roles_of(part):
            allowed = np.array([role in option.roles for option in part.instance.hardware])[hardware]
            select = part.book.select(role, model, kv, vendor, int(part.table.drafts[0]))
            some = np.flatnonzero(allowed & (part.room > 0))
            if len(some) and select:
                found.append(Drawer(role, part, select).taken(some))
    return found


def _room(part: Slice, flows: Sequence[CallFlow]) -> Floats:
    """[K] bytes for sessions beside the prefixes of the tasks of some flows."""
    shared = {flow.calls.task.name: flow.calls.shared for flow in flows}
    return np.asarray(part.room - sum(part.prefix_bytes(tokens) for tokens in shared.values() if tokens > 0))


def _whichever(flows: Sequence[CallFlow]) -> Iterator[NDArray[np.bool_]]:
    """[flows] which come: all, those of each task, each alone."""
    tasks = np.array([flow.calls.task.name for flow in flows])
    every = [np.ones(len(flows), dtype=bool)]
    every += [tasks == name for name in np.unique(tasks)] + [row == 1 for row in np.eye(len(flows))]
    yield from {members.tobytes(): members for members in every}.values()


def _prefill(
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunks: Sequence[float]
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
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunks: Sequence[float]
) -> Floats:
    return DecodeEdges(part, book, flows, replicas).mixed(shares, _room(part, flows))


def _colocated(
    part: Slice, book: MomentBook, flows: list[CallFlow], shares: Floats, replicas: int, chunks: Sequence[float]
) -> Floats:
    look = Look.at(part, [FlowCalls.of(part, book, flow) for flow in flows], chunks)
    return Edges(look, min(replicas, MOST_EVEN)).mix(shares, _room(look.part, flows))


_MOST = {"prefill": _prefill, "decode": _decode, "colocated": _colocated}


# ---- plans -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Replicas of one configuration, and what all of them carry."""

    flows: tuple[int, ...]
    """Of the whole problem."""
    calls: Floats
    """[flows] calls/s."""
    group: int
    replicas: int
    packing: int
    packed: float
    replica_power_w: float
    flow_power_w: Floats
    """[flows] J per call."""

    @property
    def block(self) -> ColumnBlock:
        """A column that carries this and nothing else, on so many replicas and more."""
        count = len(self.flows)
        each = self.calls / self.replicas
        return ColumnBlock(
            flows=np.array(self.flows, dtype=np.int64),
            row_names=tuple(f"calls {n}" for n in range(count)),
            use=RowUse.dense(np.eye(count)[None]),
            limit=each[None] * (1.0 + 1e-12),
            admissible=np.ones((1, count), dtype=bool),
            flow_power_w=self.flow_power_w[None],
            replica_power_w=np.array([self.replica_power_w]),
            packing=np.array([self.packing]),
            packed=np.array([self.packed]),
            group=np.array([self.group]),
            min_replicas=np.array([self.replicas]),
        )


@dataclass(frozen=True)
class RandomPlan:
    """Pools, and the cheapest purchase for them: column k of `data` is pool k."""

    pools: list[Pool]
    data: FleetData
    plan: FleetPlan


class Planner:
    """Draws whole plans of one problem."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self.candidates, self.rng = candidates, rng
        alone = StagePart(None, candidates, 1.0, (), (), 0, 0, 0, 0, 0, 0, 0)  # type: ignore[arg-type]
        self._stages = [(part, drawers(part.candidates)) for part in candidates.stages or (alone,)]

    def draw(self) -> RandomPlan | None:
        """A plan; None where one of its pools could carry nothing, or limits leave no purchase for them."""
        pools: list[Pool] = []
        for part, own in self._stages:
            found = self._stage(part, own)
            if found is None:
                return None
            pools += found
        data = replace(self.candidates.data, blocks=tuple(pool.block for pool in pools))
        replicas = {k: pool.replicas for k, pool in enumerate(pools)}
        rates = {
            (k, f): x for k, pool in enumerate(pools) for f, x in zip(pool.flows, pool.calls.tolist(), strict=True)
        }
        nothing = FleetPlan("feasible", np.inf, -np.inf)
        plan = bought(data, nothing, replicas, rates, seconds=_SECONDS, threads=1)
        return None if plan is None else RandomPlan(pools, data, plan)

    def _stage(self, part: StagePart, own: list[Drawer]) -> list[Pool] | None:
        calls = self._routed(part.candidates, own)
        pools = []
        for drawer, flows in self._shared(part.candidates, own, calls):
            pool = self._pool(part, drawer, flows, np.array([calls[f] for f in flows]))
            if pool is None:
                return None
            pools.append(pool)
        return pools

    def _routed(self, candidates: Candidates, own: list[Drawer]) -> dict[int, float]:
        """Calls/s by flow: each task's one way or two, each way a colocated flow or both phases of a commodity."""
        rng, data = self.rng, candidates.data
        able = {f for drawer in own for f in drawer.flows}
        found: dict[int, float] = {}
        for task, rate in enumerate(data.demand.tolist()):
            if not rate > 0:
                continue
            phases: dict[int, list[int]] = {}
            for f in sorted(able):
                flow = data.flows[f]
                if flow.task == task:
                    phases.setdefault(-1 - f if flow.commodity is None else flow.commodity, []).append(f)
            ways = [fs for key, fs in phases.items() if len(fs) == (1 if key < 0 else 2)]
            together = [way for way in ways if len(way) == 1]
            apart = [way for way in ways if len(way) == 2]
            two = data.split_tasks and rng.random() < _TWO_WAYS
            share = rng.uniform(0.05, 0.95) if two else 1.0
            for part in (share, 1.0 - share) if two else (1.0,):
                # As often together as apart: of the one there are few ways, of the other many.
                kind = together if together and (not apart or rng.random() < 0.5) else apart
                for f in kind[int(rng.integers(len(kind)))]:
                    found[f] = found.get(f, 0.0) + part * rate / data.flows[f].tasks_per_call
        return found

    def _shared(
        self, candidates: Candidates, own: list[Drawer], calls: dict[int, float]
    ) -> list[tuple[Drawer, list[int]]]:
        """Flows by the pool that carries them."""
        found: list[tuple[Drawer, list[int]]] = []
        for f in self.rng.permutation(sorted(calls)).tolist():
            for drawer, flows in found:
                if f in drawer.flows and candidates.data.split_tasks and self.rng.random() < _SHARED:
                    flows.append(f)
                    break
            else:
                able = [drawer for drawer in own if f in drawer.flows]
                found.append((able[int(self.rng.integers(len(able)))], [f]))
        return found

    def _pool(self, part: StagePart, drawer: Drawer, flows: list[int], calls: Floats) -> Pool | None:
        """Replicas of a random configuration for some calls: as few as carry them, or a few more."""
        rng, book = self.rng, part.candidates.book
        which = [book.flows[f] for f in flows]
        shares, total = calls / calls.sum(), float(calls.sum())
        chunk = [float(rng.choice(drawer.part.grids.chunks))]
        tried = drawer.taken(rng.permutation(len(drawer.part.index))[:_TRIED])
        alone = tried.most(which, shares, 1, chunk)
        configurations = tried.part.configurations
        packed = configurations.packed[tried.part.index].astype(np.float64)
        able = np.flatnonzero((alone > 0) & (np.ceil(total / np.maximum(alone, 1e-300)) < _MOST_REPLICAS))
        if not len(able):
            return None
        fewest = able[int(np.argmin(np.ceil(total / alone[able]) * packed[able]))]
        k = int(fewest if rng.random() < 0.5 else rng.choice(able))
        one = tried.taken(np.array([k]))
        replicas = math.ceil(total / float(alone[k]) * (1.0 - 1e-12))
        # More replicas carry more each, so fewer may do: a count is taken once it has been seen to.
        while replicas > 1:
            fewer = max(math.ceil(total / float(one.most(which, shares, replicas, chunk)[0])), 1)
            if fewer >= replicas:
                break
            while fewer < replicas and total / fewer > float(one.most(which, shares, fewer, chunk)[0]):
                fewer += max((replicas - fewer) // 2, 1)
            if fewer >= replicas:
                break
            replicas = fewer
        if rng.random() < _IDLE:
            replicas += int(replicas * rng.uniform(0.0, _IDLE))
        index = int(one.part.index[0])
        group = int(one.part.group(drawer.role, one.part.index)[0]) + part.groups
        watts = self._power.get(group)
        whole = [f + part.flows for f in flows]
        if watts is None or not all(f in watts[1] for f in whole):
            return None
        return Pool(
            tuple(whole),
            calls,
            group,
            replicas,
            int(configurations.packing[index]) + part.packings,
            float(configurations.packed[index]),
            watts[0],
            np.array([watts[1][f] for f in whole]),
        )

    @cached_property
    def _power(self) -> dict[int, tuple[float, dict[int, float]]]:
        """Watts of a replica, and J per call by flow, of each group that plans have columns of: all of one have the
        same."""
        found: dict[int, tuple[float, dict[int, float]]] = {}
        for block in self.candidates.data.blocks:
            groups, first = np.unique(block.group, return_index=True)
            joules = block.flow_power(first)
            for g, k, row in zip(groups.tolist(), first.tolist(), joules.tolist(), strict=True):
                own = found.setdefault(g, (float(block.replica_power_w[k]), {}))
                own[1].update(zip(block.flows.tolist(), row, strict=True))
        return found
