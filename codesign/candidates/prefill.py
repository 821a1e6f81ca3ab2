"""Prefill columns: operating points (utilisation ρ, mean wait w, pooled replicas n₁) and rows (DESIGN 3.4)."""

from __future__ import annotations

import numpy as np

from codesign.candidates.context import MEMORY_Z, MomentBook, OperatingPoints, Slice, joined, tier_joules
from codesign.candidates.data import Bools, ColumnBlock, Floats, Ints, RowUse
from codesign.candidates.flows import CallFlow
from codesign.candidates.waiting import Queues, longest_waits

ROW_NAMES = ("busy", "wait", "capacity", "capacity spread", "link")


def prefill_blocks(
    part: Slice, book: MomentBook, select: list[int]
) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """The block of a slice's prefill columns (none where it has no flows)."""
    flows = [part.book.flows[f] for f in select]
    if not flows or not len(part.index):
        return []
    grids = part.grids
    largest = part.instance.options.max_utilization
    utilizations = (*(rho for rho in grids.utilizations if rho < largest), largest)
    queues = Queues.product(utilizations, grids.pools, grids.waits_s)
    prompts = [book.prompt(flow.calls, flow.residency) for flow in flows]
    longest = np.max([prompt.busy_square / prompt.busy for prompt in prompts], axis=0)
    waits = np.stack([_waits(part, queues, book, flow, longest) for flow in flows], axis=2)
    keep_k, keep_o, wait = distinct_waits(waits, (waits >= 0) & ~_in_vain(queues, waits, longest, len(grids.pools)))
    if not len(keep_k):
        return []
    capacity = part.room
    use, power = _use(part, book, flows)
    blocks = [
        _block(part, queues, select, (use, power), capacity, spread, waits, keep_k, keep_o, wait)
        for spread in grids.prefill_memory_spreads
    ]
    return joined(blocks)


def distinct_waits(waits: Ints, wanted: Bools) -> tuple[Ints, Ints, Ints]:
    """Columns (k, o, wait position) from longest waits [K, O, V]: one for each distinct wait of some flow `wanted`.

    A wait between two of them admits the same flows as the next one up and offers less: it is dominated.
    """
    first = wanted.copy()
    for v in range(1, waits.shape[2]):
        first[:, :, v] &= np.all((waits[:, :, :v] != waits[:, :, [v]]) | ~wanted[:, :, :v], axis=2)
    k, o, flow = np.nonzero(first)
    return k, o, waits[k, o, flow]


def _in_vain(queues: Queues, waits: Ints, longest: Floats, pools: int) -> Bools:
    """[K, O, V] does a flow wait no longer than it may at this utilisation whatever comes, even in a smaller pool?

    E[S²] of all that comes is at most `longest` [K] times their E[S].
    """
    every = np.broadcast_to(np.arange(len(queues.pooled))[None, :, None], waits.shape)
    limit = queues.second_moment_limit(every, np.maximum(waits, 0))
    never = (waits >= 0) & (limit >= queues.utilization[None, :, None] * longest[:, None, None])
    by_pool = never.reshape(waits.shape[0], -1, pools, waits.shape[2])
    before = np.zeros_like(by_pool)
    before[:, :, 1:] = np.logical_or.accumulate(by_pool, axis=2)[:, :, :-1]
    return np.asarray(before.reshape(waits.shape))


def _waits(part: Slice, queues: Queues, book: MomentBook, flow: CallFlow, longest: Floats) -> Ints:
    """[K, O] longest wait of a flow: what reload, prefill and transfer leave of its TTFT."""
    prompt = book.prompt(flow.calls, flow.residency)
    seconds = prompt.seconds + flow.transfer_seconds(prompt.reload, prompt.send)
    steps = np.full(len(part.index), flow.tpot_level_s)
    waits = longest_waits(flow, queues, seconds, prompt.weight, steps, longest)
    waits[part.link < flow.fabric_bytes_per_s] = -1
    if flow.residency == "prefill":
        waits[:, queues.pooled > 1] = -1  # a session goes back to the replica that keeps its KV
    return waits


def _use(part: Slice, book: MomentBook, flows: list[CallFlow]) -> tuple[Floats, Floats]:
    """[K, R, V] use of the rows and [K, V] joules per call."""
    count = len(part.index)
    use = np.zeros((count, len(ROW_NAMES), len(flows)))
    power = np.zeros((count, len(flows)))
    for v, flow in enumerate(flows):
        prompt, after = book.prompt(flow.calls, flow.residency), book.decode(flow.calls)
        stays = flow.residency == "prefill"
        held = flow.calls.held_s if stays else 0.0
        use[:, 0, v] = prompt.busy
        use[:, 1, v] = prompt.busy_square
        there = prompt.seconds + flow.transfer_seconds(prompt.reload, prompt.send)
        if stays:  # what is here stays while the decode side answers
            there = there + prompt.answer_tokens * flow.tpot_level_s
        use[:, 2, v] = (there * prompt.held) @ prompt.weight + held * after.bytes_after
        use[:, 3, v] = (there * prompt.held**2) @ prompt.weight + held * after.square_after
        use[:, 4, v] = np.maximum(prompt.arriving, prompt.leaving)
        power[:, v] = prompt.energy_j + tier_joules(part, flow)
    return use, power


def _block(
    part: Slice,
    queues: Queues,
    select: list[int],
    rows: tuple[Floats, Floats],
    capacity: Floats,
    spread: float,
    waits: Ints,
    keep_k: Ints,
    keep_o: Ints,
    wait: Ints,
) -> tuple[ColumnBlock, OperatingPoints]:
    use, power = rows
    limit = np.zeros((len(keep_k), len(ROW_NAMES)))
    limit[:, 0] = queues.utilization[keep_o]
    limit[:, 1] = queues.second_moment_limit(keep_o, wait)
    limit[:, 2] = capacity[keep_k] * (1 - spread)
    limit[:, 3] = (capacity[keep_k] * spread / MEMORY_Z) ** 2
    limit[:, 4] = part.link[keep_k]
    chosen = np.flatnonzero(np.all(limit > 0, axis=1))
    keep_k, keep_o, wait = keep_k[chosen], keep_o[chosen], wait[chosen]
    configuration = part.index[keep_k]
    block = ColumnBlock(
        flows=np.array(select, dtype=np.int64),
        row_names=ROW_NAMES,
        use=RowUse(use, np.zeros_like(use), np.zeros(len(ROW_NAMES)), keep_k, np.ones(len(keep_k))),
        limit=limit[chosen],
        admissible=waits[keep_k, keep_o] >= wait[:, None],
        flow_power_w=power,
        replica_power_w=part.base_power_w[keep_k],
        packing=part.configurations.packing[configuration],
        packed=part.configurations.packed[configuration],
        group=part.group("prefill", configuration),
        min_replicas=queues.pooled[keep_o],
    )
    nothing = np.full(len(configuration), np.nan)
    return block, OperatingPoints(
        "prefill", configuration, nothing, queues.utilization[keep_o], queues.waits[wait], nothing
    )
