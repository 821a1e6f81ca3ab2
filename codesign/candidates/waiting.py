"""How busy a queue of prompts may be: the most at which a flow's TTFT keeps its promises, by what jobs are in it.

Of n replicas that pool a queue, the wait depends on their utilisation ρ and on the ratio E[S²]/E[S] of what they serve,
whichever flows that is: a mix of flows has a ratio between theirs. At each ratio the tail rises with ρ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.data import Bools, Floats
from codesign.candidates.flows import CallFlow, task_latency_probability
from codesign.performance.queueing import (
    EXPONENTIAL_SKEW,
    pooling_factor,
    wait_exceeds,
    wait_moment_ratio,
    wait_probability,
)

Places = NDArray[np.intp]

HALVINGS = 12
"""Of the search for a utilisation: to a five-thousandth of it."""


def most_utilization(
    flow: CallFlow,
    pools: Sequence[int],
    ratio: Floats,
    seconds: Floats,
    weight: Floats,
    steps: Floats,
    largest: float,
    skew: Floats | float = EXPONENTIAL_SKEW,
) -> Floats:
    """[K, N, M] the most utilisation, at most `largest`, at which the flow's SLOs hold; 0 where they do at none.

    In queues that `pools` [N] replicas share (ascending), of jobs with E[S²]/E[S] = `ratio` [K, M] seconds. `seconds`
    [K, J] is the rest of the TTFT of each prompt point, without the flow's admission, `weight` [J]; `steps` [K] the
    decode step that a task-latency SLO counts on. `skew` [K, M] is the most E[S]·E[S³]/E[S²]² of jobs of that ratio.
    """
    skewed = np.broadcast_to(skew, ratio.shape)

    def holds(rho: Floats, k: Places, servers: Places, m: Places) -> Bools:
        return promises_hold(flow, rho, servers, ratio[k, m], seconds[k], weight, steps[k], skewed[k, m])

    # Where so many may be as busy as can be, so may more: the fewest are between two numbers, closer every time.
    k, m = np.nonzero(np.ones(ratio.shape, dtype=bool))
    fewest, enough = np.zeros(len(k), dtype=np.int64), np.full(len(k), len(pools))
    numbers = np.array(pools)
    while len(open_ := np.flatnonzero(fewest < enough)):
        middle = (fewest[open_] + enough[open_]) // 2
        good = holds(np.full(len(open_), largest), k[open_], numbers[middle], m[open_])
        enough[open_[good]], fewest[open_[~good]] = middle[good], middle[~good] + 1
    found = np.where(np.arange(len(pools)) >= enough[:, None], largest, 0.0)
    found = np.moveaxis(found.reshape(*ratio.shape, len(pools)), 2, 1)
    k, n, m = np.nonzero(found < largest)
    servers_of = np.array(pools)[n]
    low, high = np.zeros(len(k)), np.full(len(k), largest)
    for _ in range(HALVINGS if len(k) else 0):
        middle = (low + high) / 2.0
        good = holds(middle, k, servers_of, m)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    found[k, n, m] = low
    return found


def promises_hold(
    flow: CallFlow,
    rho: Floats,
    servers: Places,
    ratio: Floats,
    seconds: Floats,
    weight: Floats,
    steps: Floats,
    skew: Floats,
) -> Bools:
    """[E] do the promises hold at a utilisation [E], with `servers` [E] replicas? `seconds` is [E, J]."""
    wait = pooling_factor(rho, servers) * ratio
    good: Bools = np.ones(len(rho), dtype=bool)
    for percentile, target in flow.calls.task.ttft_slo:
        left = target - flow.admission.of(target) - seconds
        late = wait_exceeds(left, wait[:, None], rho[:, None], servers[:, None], skew[:, None])
        good = good & ((late * weight).sum(axis=1) <= 1.0 - percentile + 1e-12)
    if not flow.calls.task.task_latency_slo:
        return good
    mean = (seconds * weight).sum(axis=1)
    spread = np.maximum((seconds**2 * weight).sum(axis=1) - mean**2, 0.0)
    ttft = wait + mean
    square = wait_moment_ratio(rho, skew) * wait**2
    deviation = np.sqrt(spread + square / np.maximum(wait_probability(rho, servers), 1e-300) - wait**2)
    if np.isfinite(flow.ttft_level_s):
        mean_s = ttft + flow.admission.of(flow.ttft_level_s)
        return np.asarray(good & (np.maximum(mean_s, deviation) <= flow.ttft_level_s))
    for percentile, target in flow.calls.task.task_latency_slo:
        in_time = task_latency_probability(flow.calls, ttft, deviation, steps, target)
        good = good & (in_time >= percentile - 1e-12)
    return np.asarray(good)
