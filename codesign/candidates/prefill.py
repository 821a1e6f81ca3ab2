"""Prefill columns: how many replicas pool their queue, and which flows share it, at the edge of TTFTs (DESIGN 3.4).

A queue's wait depends on its utilisation ρ and on the ratio r = E[S²]/E[S] of what it serves. The most utilisation at
which a promise holds falls with r, so what a pool carries is bounded by a line Σ x·(α·E[S] + β·E[S²]) ≤ 1 with
α + β·r ≥ 1/ρ(r) for all ratios that its flows can have together. Of flows with one ratio the line is exact: no
utilisation and no wait is chosen from a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.candidates.context import MEMORY_Z, MomentBook, OperatingPoints, Slice, tier_joules
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.flows import CallFlow
from codesign.candidates.moments import PromptMoments
from codesign.candidates.outer import ROUNDING, Blocks, Built, outer_block, room_alone, tasks_of, with_parts
from codesign.candidates.waiting import HALVINGS, most_utilization
from codesign.performance import first_token_seconds
from codesign.performance.energy import working_power_w

ROW_NAMES = ("busy", "ttft", "capacity", "link")
_GROUPS = 6
"""Of flows of about one ratio."""
_WORTH = 0.005
"""By how much a column must leave more than one of fewer replicas, or for more flows, to be offered beside it."""
_SAFE = 0.998
"""Of an edge: between the ratios at which it was looked for, lines are taken for it."""
_STEEPEST = 0.05
"""Of a line's height at the least ratio, what does not depend on the ratio is at least so much."""
_ALIKE = 1.003
"""What columns that bound may leave more, to stand for fewer replicas as well."""
_ANY = 2**20
"""Replicas that pool a queue, of which more make no difference."""
_BENT = (1, 2, 4, 8, 16, 64)
"""Replicas of queues, and"""
_LOOKS = 5
"""ratios, at which lines are compared with curves;"""
_BELOW = np.array([0.97, 0.9, 0.8, 0.65])
"""of the ratio of a flow, where others bring it down;"""
_CURVED = 1.3
"""of what they lie above them there they may lie elsewhere;"""
_NEAR = 1.008
"""and so much between flows that no look comes between."""
_END = 1e-6
"""Of the way from one ratio to another: what is no longer between them."""
_NEVER = 1e6
"""1/ρ where a promise is kept at no utilisation, as far as the order of flows goes."""


def prefill_blocks(part: Slice, book: MomentBook, select: list[int]) -> Built:
    """The block of a slice's prefill columns, and that of those that bound (none where it has no flows)."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index):
        return Built()
    loads = PrefillLoads.of(part, book, flows)
    edges = _Edges.of(part, book, flows)
    outer = _outer(part, loads, _Alone.of(part, book, flows), select) if part.bounded else []
    return Built(_inner(part, loads, edges, select), outer)


def _inner(part: Slice, loads: PrefillLoads, edges: _Edges, select: list[int]) -> Blocks:
    """Columns whose rows keep every promise."""
    found = list(edges.columns())
    if not found:
        return []
    use, spread_bytes = loads.with_deviation(part.room)
    rows = np.concatenate([each.rows for each in found])
    line = np.concatenate([each.line for each in found], axis=1)
    admissible = np.concatenate([each.admissible for each in found])
    pooled = np.repeat([each.pooled for each in found], [len(each.rows) for each in found])
    largest = part.instance.options.max_utilization
    limit = np.stack(
        [
            np.full(len(rows), largest),
            1.0 / line[0],
            (part.room - spread_bytes / 2.0)[rows],
            part.link[rows],
        ],
        axis=1,
    )
    some = np.flatnonzero(np.all(limit > 0, axis=1))
    if not len(some):
        return []
    rows, line, admissible, pooled, limit = rows[some], line[:, some], admissible[some], pooled[some], limit[some]
    configuration = part.index[rows]
    scaled = np.zeros_like(use)
    scaled[:, 1] = edges.square
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=ROW_NAMES,
        use=RowUse(use, scaled, np.array([0.0, 1.0, 0.0, 0.0]), rows, line[1] / line[0]),
        limit=limit,
        admissible=admissible,
        flow_power_w=loads.joules,
        replica_power_w=part.idle_power_w[rows],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("prefill", configuration),
        min_replicas=pooled.astype(np.int64),
    )
    nothing = np.full(len(configuration), np.nan)
    return [(block, OperatingPoints("prefill", configuration, nothing, np.full(len(rows), largest), nothing, nothing))]


@dataclass(frozen=True, eq=False)
class PrefillLoads:
    """What a call/s of each flow takes of a replica."""

    mean: Floats
    """[K, R, V] of the rows, with the mean of its bytes."""
    square: Floats
    """[K, V] variance of its bytes, times z²."""
    joules: Floats
    """[K, V] per call, beside what a replica draws that waits."""

    @staticmethod
    def of(part: Slice, book: MomentBook, flows: list[CallFlow]) -> PrefillLoads:
        """Those of some flows."""
        count = len(part.index)
        use = np.zeros((count, len(ROW_NAMES), len(flows)))
        square, joules = np.zeros((count, len(flows))), np.zeros((count, len(flows)))
        for v, flow in enumerate(flows):
            prompt, after = book.prompt(flow.calls, flow.residency), book.decode(flow.calls)
            stays = flow.residency == "prefill"
            held = flow.calls.held_s if stays else 0.0
            use[:, 0, v] = use[:, 1, v] = prompt.busy
            there = prompt.seconds + flow.transfer_seconds(prompt.reload, prompt.send)
            if stays:  # what is here stays while the decode side answers
                there = there + prompt.answer_tokens * flow.token_level_s
            use[:, 2, v] = (there * prompt.held) @ prompt.weight + held * after.bytes_after
            square[:, v] = (there * prompt.held**2) @ prompt.weight + held * after.square_after
            use[:, 3, v] = np.maximum(prompt.arriving, prompt.leaving)
            joules[:, v] = prompt.energy_j + prompt.busy * working_power_w(part.table) + tier_joules(part, flow)
        return PrefillLoads(use, MEMORY_Z**2 * square, joules)

    def filling(self, room: Floats) -> Floats:
        """[K, V] √ of the calls/s of a flow that fills `room` [K or K, V] alone: mean·x + √(square·x) = room."""
        room = room.reshape(len(self.mean), -1)
        mean = np.maximum(self.mean[:, 2], 1e-300)
        return np.asarray((np.sqrt(self.square + 4.0 * mean * room) - np.sqrt(self.square)) / (2.0 * mean))

    def with_deviation(self, room: Floats) -> tuple[Floats, Floats]:
        """[K, R, V] use of the rows, and [K] bytes that memory of `room` [K] keeps free for fluctuation.

        Memory is mean + z·√variance ≤ room, whose tangent at a deviation σ is mean + z²·variance/(2σ) ≤ room − σ/2:
        safe everywhere, and off by the square of how far the deviation is from σ.
        """
        use, root = self.mean.copy(), self.filling(room)
        spread = np.clip(np.median(np.sqrt(self.square) * root, axis=1), 1e-3 * room, room)
        use[:, 2] += self.square / (2.0 * np.maximum(spread, 1.0))[:, None]
        return use, spread


def _outer(part: Slice, loads: PrefillLoads, alone: _Alone, select: list[int]) -> Blocks:
    """Columns that hold every load which keeps its promises: mixes of bytes deviate by less than their parts do."""
    flows = [part.book.flows[f] for f in select]
    filled = loads.filling(np.stack([room_alone(part, flow) for flow in flows], axis=1)) ** 2
    busy = loads.mean[:, 0]
    pooled, rows, inverse, wider, apart = alone.columns()
    use = np.zeros((len(rows), len(ROW_NAMES), len(flows)))
    use[:, 0], use[:, 1], use[:, 3] = busy[rows], busy[rows] * inverse, loads.mean[rows, 3]
    with np.errstate(divide="ignore"):
        use[:, 2] = 1.0 / (ROUNDING * filled[rows])
    open_ = np.all(np.isfinite(use), axis=1)
    use[~np.isfinite(use)] = 0.0
    largest = np.full(len(rows), part.instance.options.max_utilization)
    limit = np.stack([largest, wider, np.ones(len(rows)), part.link[rows]], axis=1)
    tasks = len(tasks_of(flows))
    mixed, beside = apart[:, None, :tasks], apart[:, None, tasks:]
    own = with_parts(use, limit, ROW_NAMES, (1,), mixed * beside, flows, alone.kinds, beside)
    return outer_block(part, "prefill", select, own, rows, open_, loads.joules, part.idle_power_w, pooled)


@dataclass(frozen=True, eq=False)
class _Alone:
    """The most utilisation of queues of one flow each, and how much busier mixes may be: never less than either is."""

    pools: Sequence[int]
    inverse: Floats
    """[N, K, V] 1/ρ of each flow in queues that so many replicas pool, or any number up to the next; inf for none."""
    wider: Floats
    """[N, K] by how much rows Σ x·E[S]/ρ ≤ 1 are wider for mixes."""
    own: Floats
    """[N, K, 2·tasks] the same of flows of one task, then of flows of one kind beside any others."""
    kinds: list[int]
    """[V] of prompts, which those of one kind share."""

    @staticmethod
    def of(part: Slice, book: MomentBook, flows: list[CallFlow]) -> _Alone:
        """Those of a slice."""
        pools = part.grids.pools
        most = [*np.array(pools)[_next(pools)][:-1].tolist(), _ANY]
        inverse = np.full((len(pools), len(part.index), len(flows)), np.inf)
        first: dict[tuple[Any, ...], int] = {}
        for v, (flow, prompt) in enumerate(zip(flows, _prompts(book, flows), strict=True)):
            known = first.setdefault(_promised(flow, prompt), v)
            if known < v:
                inverse[:, :, v] = inverse[:, :, known]
                continue
            own = _inverse(part, book, flow, most, (prompt.busy_square / prompt.busy)[:, None])[:, :, 0]
            inverse[:, :, v] = own
        wider = _wider(part, book, flows, sorted(set(first.values())))
        kinds = [id(prompt) for prompt in _prompts(book, flows)]
        count = len(tasks_of(flows))
        return _Alone(pools, inverse, wider[..., : count + 1].max(axis=2), np.delete(wider, count, axis=2), kinds)

    def columns(self) -> tuple[Ints, Ints, Floats, Floats, Floats]:
        """([n] replicas, [n] configurations, [n, V] 1/ρ, [n] and [n, 2·tasks] wider) of columns.

        One for all numbers of replicas that are alike.
        """
        count = self.inverse.shape[1]
        found: list[tuple[Ints, Ints, Floats, Floats, Floats]] = []
        held, wider, apart = self.inverse[-1], self.wider[-1], self.own[-1]
        for n in range(len(self.pools) - 1, -1, -1):  # those of more replicas hold what fewer carry, and little more
            least = np.full(count, self.pools[n], dtype=np.int64)
            last = np.ones(count, dtype=bool)
            if n > 0:
                mine, own = self.inverse[n - 1], self.wider[n - 1]
                carried = np.isfinite(held) & (mine <= held * _ALIKE)
                last = ~np.all(carried | np.isinf(mine), axis=1)
                last |= (wider < own) | np.any(apart < self.own[n - 1], axis=1)
            rows = np.flatnonzero(last)
            found.append((least[rows], rows, held[rows], wider[rows], apart[rows]))
            if n > 0:
                held, wider = np.where(last[:, None], mine, held), np.where(last, own, wider)
                apart = np.where(last[:, None], self.own[n - 1], apart)
        return tuple(np.concatenate([each[i] for each in found]) for i in range(5))  # type: ignore[return-value]


def _prompts(book: MomentBook, flows: Sequence[CallFlow]) -> list[PromptMoments]:
    return [book.prompt(flow.calls, flow.residency) for flow in flows]


def _first_token_rest(part: Slice, flow: CallFlow, prompt: PromptMoments) -> Floats:
    """[K, J] seconds of a TTFT beside the wait and the admission to decode."""
    moved = flow.transfer_seconds(prompt.reload, prompt.send)
    return np.asarray(prompt.seconds + moved + first_token_seconds(part.table)[:, None])


def _inverse(part: Slice, book: MomentBook, flow: CallFlow, pools: Sequence[int], ratio: Floats) -> Floats:
    """[N, K, M] the least 1/ρ at which a flow may keep its promises at ratios [K, M]; inf where it keeps none.

    A session goes back to the replica that keeps its KV: then no queue is pooled.
    """
    # Columns that bound take waits as exponential: jobs of very different lengths make them longer, never shorter.
    prompt, largest = book.prompt(flow.calls, flow.residency), part.instance.options.max_utilization
    seconds = _first_token_rest(part, flow, prompt)
    steps = np.full(len(ratio), flow.token_level_s)
    mine = pools[:1] if flow.residency == "prefill" else pools
    found = most_utilization(flow, mine, ratio, seconds, prompt.weight, steps, largest)
    found = np.where(found > 0, np.minimum(found + largest * 0.5**HALVINGS, largest), 0.0)
    found[(part.link < flow.fabric_bytes_per_s) | ~part.hold(flow)] = 0.0
    inverse = np.full((len(pools), *ratio.shape), np.inf)
    with np.errstate(divide="ignore"):
        inverse[: len(mine)] = 1.0 / np.moveaxis(found, 1, 0)
    return inverse


def _next(pools: Sequence[int]) -> Ints:
    """[N] the place of the number of replicas that stands for all from each to the next: of neighbours itself."""
    last = len(pools) - 1
    return np.array([min(n if pools[min(n + 1, last)] == pools[n] + 1 else n + 1, last) for n in range(last + 1)])


def _wider(part: Slice, book: MomentBook, flows: Sequence[CallFlow], distinct: Sequence[int]) -> Floats:
    """[N, K, 2·tasks + 1] by how much lines between any two flows, at their own ratios and 1/ρ, lie above what holds
    for both: of each task, then of different ones; and how much more a flow of each carries beside others than alone.

    Whoever shares a queue keeps the promises of all, so between two flows the larger of their curves counts. The more
    pool a queue, the less curves bend: some numbers stand for all up to the next.  A queue that is idle half of its
    time has the shorter a tail the shorter what joins it, so that a few short prompts let more long ones in.
    """
    ratio = np.stack([prompt.busy_square / prompt.busy for prompt in _prompts(book, flows)], axis=1)
    least, most = ratio.min(axis=1, keepdims=True), ratio.max(axis=1, keepdims=True)
    looked = least * (most / least) ** np.linspace(0.0, 1.0, _LOOKS + 2)[1:-1]
    at = {v: np.concatenate([ratio[:, v : v + 1], looked, ratio[:, v : v + 1] * _BELOW], axis=1) for v in distinct}
    curves = {v: _inverse(part, book, flows[v], _BENT, at[v]) for v in distinct}
    tasks = [tasks_of(flows).index(flow.calls.task.name) for flow in flows]
    count = max(tasks) + 1
    wider = np.ones((len(_BENT), len(ratio), 2 * count + 1))

    def widen(place: int, carried: Floats, inside: Bools, holds: Floats) -> None:
        above = np.where(inside & np.isfinite(carried), carried / holds, 1.0)
        wider[..., place] = np.maximum(wider[..., place], above.max(axis=2))

    for a in distinct:
        own = curves[a][:, :, :1]
        with np.errstate(invalid="ignore"):
            share = (at[a][:, 1:] - least) / np.where(ratio[:, a, None] > least, ratio[:, a, None] - least, np.nan)
            widen(count + 1 + tasks[a], share * own, (share > 0) & (share < 1.0 - _END), curves[a][:, :, 1:])
        for b in distinct:
            place = tasks[a] if tasks[a] == tasks[b] else count
            apart = ratio[:, b] - ratio[:, a]
            share = (looked - ratio[:, a, None]) / np.where(apart > 0, apart, np.nan)[:, None]
            inside = (share > _END) & (share < 1.0 - _END)
            if not inside.any():
                continue
            holds = np.maximum(curves[a], curves[b])[:, :, 1 : _LOOKS + 1]
            with np.errstate(invalid="ignore"):
                widen(place, (1.0 - share) * own + share * curves[b][:, :, :1], inside, holds)
    level = np.searchsorted(_BENT, part.grids.pools, side="right") - 1
    near = np.ones((len(ratio), wider.shape[2]))
    near[most[:, 0] > (1.0 + _END) * least[:, 0], : count + 1] = _NEAR
    return np.asarray((1.0 + _CURVED * (wider[level] - 1.0)) * near)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of one number of replicas."""

    rows: Ints
    """[n] configurations of the slice."""
    line: Floats
    """[2, n] α and β."""
    admissible: Bools
    """[n, V]."""
    pooled: int


@dataclass(frozen=True, eq=False)
class _Edges:
    """The most utilisation of queues by the ratio of what they serve."""

    square: Floats
    """[K, V] E[S²] of a call."""
    pools: Sequence[int]
    group: Ints
    """[V] of flows of about one ratio, ascending."""
    least: Floats
    """[K, G] least ratio of each group, seconds."""
    between: Floats
    """[K, G−1] ratios half-way from one group to the next."""
    inverse: Floats
    """[V, K, N, 2G−1] 1/ρ at which each flow keeps its promises: at the largest ratio of each group, then between."""

    @staticmethod
    def of(part: Slice, book: MomentBook, flows: list[CallFlow]) -> _Edges:
        """Those of a slice."""
        prompts = [book.prompt(flow.calls, flow.residency) for flow in flows]
        busy = np.stack([prompt.busy for prompt in prompts], axis=1)
        square = np.stack([prompt.busy_square for prompt in prompts], axis=1)
        ratio = square / busy
        group = _grouped(ratio)
        members = [ratio[:, group == g] for g in range(int(group.max()) + 1)]
        least, most = (np.stack([of(each, axis=1) for each in members], axis=1) for of in (np.min, np.max))
        between = (most[:, :-1] + least[:, 1:]) / 2.0
        looked = np.concatenate([most, between], axis=1)
        skew = _most_skew(prompts, ratio, looked)
        pools, largest = part.grids.pools, part.instance.options.max_utilization
        inverse = np.full((len(flows), len(part.index), len(pools), looked.shape[1]), np.inf)
        first: dict[tuple[Any, ...], int] = {}
        for v, (flow, prompt) in enumerate(zip(flows, prompts, strict=True)):
            known = first.setdefault(_promised(flow, prompt), v)
            if known < v:
                inverse[v] = inverse[known]
                continue
            seconds = _first_token_rest(part, flow, prompt)
            steps = np.full(len(part.index), flow.token_level_s)
            # A session goes back to the replica that keeps its KV: no queue is pooled.
            mine = pools[:1] if flow.residency == "prefill" else pools
            found = most_utilization(flow, mine, looked, seconds, prompt.weight, steps, largest, skew)
            found = np.where(found < largest, _SAFE * found, found)
            found[(part.link < flow.fabric_bytes_per_s) | ~part.hold(flow)] = 0.0
            with np.errstate(divide="ignore"):
                inverse[v, :, : len(mine)] = 1.0 / found
        return _Edges(square, pools, group, least, between, inverse)

    def columns(self) -> Iterator[_Columns]:
        """Columns that leave more than those of fewer replicas, than those for more flows, and than stricter ones."""
        smaller: dict[tuple[int, tuple[int, ...]], _Offer] = {}
        for i, pooled in enumerate(self.pools):
            wider: dict[int, _Offer] = {}
            for groups in self._choices():
                inverse = self.inverse[:, :, i][:, :, self._asked(groups)]
                members = np.flatnonzero(np.isin(self.group, groups))
                alike = {inverse[v].tobytes(): v for v in members[::-1].tolist()}
                order = sorted(alike.values(), key=lambda v: -float(np.minimum(inverse[v], _NEVER).sum()))
                stricter: _Offer | None = None
                for n, strict in enumerate(order):
                    bound = inverse[strict]
                    seen: Bools = (inverse[order[:n]] == bound).all(axis=2).any(axis=0)
                    fresh: Bools = np.isfinite(bound).all(axis=1) & ~seen
                    if not fresh.any():
                        continue
                    admits = np.zeros((len(bound), len(self.group)), dtype=bool)
                    admits[:, members] = (np.all(inverse[members] <= bound, axis=2) & fresh).T
                    offer = _Offer(self.least, self._line(bound, groups), admits, groups)
                    known = (stricter, wider.get(strict), smaller.get((strict, groups)))
                    needed = fresh & admits.any(axis=1)
                    for other_offer in known:
                        if other_offer is not None:
                            needed &= ~offer.no_better_than(other_offer)
                    rows = np.flatnonzero(needed)
                    if len(rows):
                        yield _Columns(rows, offer.line[:, rows], admits[rows], pooled)
                    stricter = offer.where(needed, stricter)
                    wider.setdefault(strict, offer.where(needed, None))
                    smaller[strict, groups] = offer.where(needed, smaller.get((strict, groups)))

    def _choices(self) -> list[tuple[int, ...]]:
        """Groups of flows that share a queue, larger choices first: all, those of short prompts, and each alone."""
        count = int(self.group.max()) + 1
        return [*(tuple(range(last)) for last in range(count, 1, -1)), *((g,) for g in range(count))]

    def _asked(self, groups: tuple[int, ...]) -> list[int]:
        """Which of the ratios that were looked at lie from the first of the groups to the last."""
        count = self.least.shape[1]
        return [*groups, *(count + g for g in groups[:-1])]

    def _line(self, inverse: Floats, groups: tuple[int, ...]) -> Floats:
        """[2, K] α and β of a line above `inverse` [K, asked] at all ratios from the first group's to the last's."""
        if len(groups) == 1:
            return np.stack([inverse[:, 0], np.zeros(len(inverse))])
        first, last, end = groups[0], groups[-1], len(groups) - 1
        own = np.concatenate([self.least[:, first : last + 1], self.between[:, first:last]], axis=1)
        known = np.isfinite(inverse).all(axis=1, keepdims=True)
        needed = np.where(known, inverse, 1.0)
        apart = own[:, end] - own[:, 0]  # groups are in the order of most configurations
        slope = np.where(apart > 0, (needed[:, end] - needed[:, 0]) / np.where(apart > 0, apart, 1.0), 0.0)
        height = np.max(needed - slope[:, None] * own, axis=1)
        height = np.maximum(height, _STEEPEST * needed[:, 0])
        slope = np.maximum(np.max((needed - height[:, None]) / own, axis=1), 0.0)
        return np.stack([height, slope])


@dataclass(frozen=True, eq=False)
class _Offer:
    """What columns of K configurations leave, and for whom."""

    least: Floats
    """[K, G] seconds."""
    line: Floats
    """[2, K]; inf where none is offered."""
    admits: Bools
    """[K, V]."""
    groups: tuple[int, ...]

    def no_better_than(self, other: _Offer) -> Bools:
        """[K] does another offer admit these flows too, and leave them about as much?"""
        ratios = self.least[:, list(self.groups)]
        mine, theirs = (o.line[0][:, None] + o.line[1][:, None] * ratios for o in (self, other))
        return np.asarray(np.all(theirs <= mine * (1.0 + _WORTH), axis=1) & np.all(other.admits | ~self.admits, axis=1))

    def where(self, chosen: Bools, other: _Offer | None) -> _Offer:
        """This one for some configurations, the other (or none) for the rest."""
        line = np.full_like(self.line, np.inf) if other is None else other.line
        admits = np.zeros_like(self.admits) if other is None else other.admits
        return _Offer(
            self.least, np.where(chosen, self.line, line), np.where(chosen[:, None], self.admits, admits), self.groups
        )


def _promised(flow: CallFlow, prompt: PromptMoments) -> tuple[Any, ...]:
    """What the most utilisation of a flow follows from."""
    task = flow.calls.task
    latency = (flow.ttft_level_s, flow.tpot_level_s, flow.drafts) if task.task_latency_slo else ()
    return (
        task.name,
        id(prompt),
        flow.fabric_bytes_per_s,
        flow.tier.name if flow.tier else "",
        flow.residency == "prefill",
        flow.admission,
        latency,
    )


def _most_skew(prompts: Sequence[PromptMoments], ratio: Floats, looked: Floats) -> Floats:
    """[K, M] the most E[S]·E[S³]/E[S²]² of mixes of flows (ratios [K, V]) whose ratio E[S²]/E[S] is `looked` [K, M].

    E[S³]/E[S] of a mix is as linear in the flows' shares of the time as its ratio is, so at each ratio the most lies
    on a line between two flows: that of each flow alone at its own.
    """
    cube = np.stack([prompt.busy_cube / prompt.busy for prompt in prompts], axis=1)
    kinds = list({id(prompt): v for v, prompt in enumerate(prompts)}.values())
    most = np.zeros_like(looked)
    for a in kinds:
        for b in kinds:
            low, high = ratio[:, a, None], ratio[:, b, None]
            apart = np.maximum(high - low, 1e-300)
            share = np.clip((looked - low) / apart, 0.0, 1.0)
            line = (1.0 - share) * cube[:, a, None] + share * cube[:, b, None]
            between = (low <= looked * (1.0 + _END)) & (looked <= high * (1.0 + _END))
            most = np.where(between, np.maximum(most, line), most)
    return np.asarray(most / looked**2)


def _grouped(ratio: Floats) -> Ints:
    """[V] groups of flows by their ratios [K, V], in the order of these: neighbours share one where there are many."""
    typical = np.exp(np.log(ratio).mean(axis=0))
    distinct, group = np.unique(np.round(np.log(typical), 9), return_inverse=True)
    group = group.ravel()
    if len(distinct) > _GROUPS:
        group = (group * _GROUPS) // len(distinct)
    return np.asarray(group, dtype=np.int64)
