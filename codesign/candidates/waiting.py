"""How long a prompt may queue: the longest mean wait on an absolute grid that keeps a flow's TTFT SLOs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.candidates.data import Floats, Ints
from codesign.candidates.flows import CallFlow, task_latency_probability
from codesign.performance.queueing import pooling_factor, worst_wait_deviation, worst_wait_exceeds


@dataclass(frozen=True)
class Queues:
    """[O] queue settings: utilisation ρ and the number of replicas that pool their queue."""

    utilization: Floats
    pooled: Ints
    waits: Floats
    """[W] mean waits, seconds."""

    @staticmethod
    def product(
        utilizations: tuple[float, ...], pools: tuple[int, ...], waits: tuple[float, ...]
    ) -> Queues:
        """Every combination of utilisation and pool."""
        rho, n = np.meshgrid(utilizations, pools, indexing="ij")
        return Queues(rho.ravel(), n.ravel().astype(np.int64), np.array(waits))

    def second_moment_limit(self, queue: Ints, wait: Ints) -> Floats:
        """w·ρ/κ [K]: what Σ x·E[S²] per replica may be, by position of queue and wait."""
        factor = self.utilization / pooling_factor(self.utilization, self.pooled)
        return np.asarray(self.waits[wait] * factor[queue])


def longest_waits(
    flow: CallFlow, queues: Queues, seconds: Floats, weight: Floats, steps: Floats, longest: Floats
) -> NDArray[np.int64]:
    """[K, O] position in `queues.waits` of the longest mean wait that meets the flow's SLOs, -1 where none does.

    At every load within the rows: one that fills the wait's row alone has a worse tail than one that fills both.
    `seconds` [K, J] is the rest of the TTFT of each prompt point, without the flow's admission, `weight` [J]; `steps`
    [K] the decode step that a task-latency SLO counts on; `longest` [K] the largest E[S²]/E[S] of a flow that may come.
    """
    low = np.full((seconds.shape[0], len(queues.pooled)), -1)
    high = np.full_like(low, len(queues.waits) - 1)
    while np.any(low < high):
        middle = (low + high + 1) // 2
        good = _holds(flow, queues, seconds, weight, steps, longest, queues.waits[middle])
        low = np.where(good & (low < high), middle, low)
        high = np.where(~good & (low < high), middle - 1, high)
    return low


def _holds(
    flow: CallFlow,
    queues: Queues,
    seconds: Floats,
    weight: Floats,
    steps: Floats,
    longest: Floats,
    wait: Floats,
) -> NDArray[np.bool_]:
    good = np.ones(wait.shape, dtype=bool)
    for percentile, target in flow.calls.task.ttft_slo:
        late = worst_wait_exceeds(
            target - flow.admission.of(target) - seconds[:, None, :],
            wait[:, :, None],
            queues.utilization[None, :, None],
            queues.pooled[None, :, None],
            longest[:, None, None],
        )
        good &= late @ weight <= 1.0 - percentile + 1e-12
    if not flow.calls.task.task_latency_slo:
        return good
    mean = seconds @ weight
    spread = np.maximum(seconds**2 @ weight - mean**2, 0.0)
    ttft = wait + mean[:, None]
    own = worst_wait_deviation(wait, queues.utilization[None, :], queues.pooled[None, :], longest[:, None])
    deviation = np.sqrt(spread[:, None] + own**2)
    if np.isfinite(flow.ttft_level_s):
        mean_s = ttft + flow.admission.of(flow.ttft_level_s)
        return good & (np.maximum(mean_s, deviation) <= flow.ttft_level_s)
    for percentile, target in flow.calls.task.task_latency_slo:
        in_time = task_latency_probability(flow.calls, ttft, deviation, steps[:, None], target)
        good &= in_time >= percentile - 1e-12
    return good
