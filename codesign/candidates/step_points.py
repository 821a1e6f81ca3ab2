"""Step limits and spreads from grids, for pools whose steps are chains of two halves (`candidates/split.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.context import Z
from codesign.candidates.data import Floats
from codesign.candidates.flows import CallFlow
from codesign.candidates.grids import Grids
from codesign.performance.queueing import normal_quantile


@dataclass(frozen=True)
class StepPoints:
    """Step limits and spreads of K configurations: [P] points of the grid, then those of each configuration's own."""

    tau: Floats
    """[K, P] seconds."""
    step: Floats
    """[P] share of the limit that is kept free for the step's fluctuation."""
    memory: Floats
    """[P] the same of the memory."""

    @staticmethod
    def of(grids: Grids, flows: list[CallFlow], empty: Floats) -> StepPoints:
        """Points that some flow tolerates on configurations whose steps take `empty` [K] seconds without a load."""
        points = [
            (tau, step, memory)
            for step in grids.step_spreads
            for memory in grids.memory_spreads
            for tau in step_limits(grids, flows, step, empty)
        ]
        tau, step, memory = np.array(points, dtype=np.float64).reshape(-1, 3).T
        own = own_limits(grids, empty, grids.step_spreads[0])
        count = len(grids.memory_spreads)
        return StepPoints(
            np.concatenate([np.tile(tau, (len(empty), 1)), np.tile(own[:, None], (1, count))], axis=1),
            np.concatenate([step, np.full(count, grids.step_spreads[0])]),
            np.concatenate([memory, grids.memory_spreads]),
        )


def step_limits(grids: Grids, flows: list[CallFlow], spread: float, empty: Floats) -> list[float]:
    """Step limits of the grid that some flow tolerates when `spread` of the step fluctuates.

    The rows plan for a batch that takes the whole step limit, so where memory, slots or prompts bind a shorter
    limit carries more.  All are of the absolute grid, none an SLO's own: a tighter SLO only removes columns.
    `empty` [K] are the steps of the configurations without a load.
    """
    longest = max(longest_step(flow, spread) for flow in flows)
    fastest, slowest = float(empty.min()) / (1 - spread), float(empty.max()) / (1 - spread)
    return [limit for limit in grids.steps(fastest, slowest) if limit <= longest * (1 + 1e-12)]


def own_limits(grids: Grids, empty: Floats, spread: float) -> Floats:
    """[K] the shortest step limit that each configuration can keep, as absolute as its steps are."""
    return np.asarray(empty * (1 + grids.floor_room) / (1 - spread))


def longest_step(flow: CallFlow, spread: float) -> float:
    """Longest step (at the planning percentile) that meets a flow's SLOs of TPOT and ITL and its commodity's level."""
    limits = [flow.tpot_level_s]
    for percentile, seconds in (*flow.calls.task.tpot_slo, *flow.calls.task.itl_slo):
        limits.append(seconds / (1.0 - spread * (1.0 - float(normal_quantile(percentile)) / Z)))
    return float(min(limits))
