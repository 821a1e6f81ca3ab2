"""The state of a pool in operation, and the memory that its sessions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.data import Floats
from codesign.candidates.flows import CallFlow
from codesign.performance import ConfigurationTable, EngineMemory, kv_bytes, kv_capacity_bytes
from codesign.performance.drafts import accepted
from codesign.performance.queueing import EXPONENTIAL_SKEW, wait_moment_ratio, wait_probability
from codesign.problem.instance import Options
from codesign.solution.colocated import Chunked


@dataclass(frozen=True)
class PoolState:
    """One pool at its fixed point; shares are per replica."""

    column: int
    role: str
    table: ConfigurationTable
    """Of the accelerators that hold KV caches: one replica, or one attention instance of a split one."""
    replicas: int
    flows: tuple[tuple[CallFlow, float], ...]
    """(flow, calls/s of the whole pool)."""
    step_s: float
    """Mean step time (0 for prefill)."""
    step_sd_s: float
    batch: float
    utilization: float
    """ρ of the prompt queue."""
    wait_s: float
    queue_servers: int
    shares: dict[str, float]
    """compute, bandwidth, capacity, link, slots, busy: what is in use."""
    fullest: float
    """Share of the memory for sessions that is exceeded one time in a hundred, as rows plan for it: what finds none
    waits, and no account of a TTFT counts on that."""
    chunked: Chunked | None = None
    """Of a colocated pool: prompts in its steps."""
    skew: float = EXPONENTIAL_SKEW
    """E[S]·E[S³]/E[S²]² of what the prompt queue serves."""

    def decode_seconds(self, flow: CallFlow) -> Floats:
        """[P] mean seconds of a flow's answers after their first token."""
        if self.chunked is not None:
            return self.chunked.decode_seconds(self.table, flow)
        return flow.calls.population.output / accepted(self.table, flow.calls).tokens * self.step_s

    def wait_moments(self) -> tuple[float, float]:
        """Mean and variance (s, s²) of a prompt's wait: those of its tail, and the probability of waiting."""
        if self.chunked is not None:
            return self.chunked.wait_moments()
        waits = max(float(wait_probability(self.utilization, self.queue_servers)), 1e-12)
        ratio = float(wait_moment_ratio(self.utilization, self.skew))
        return self.wait_s, ratio * self.wait_s**2 / waits - self.wait_s**2

    @property
    def binding(self) -> str:
        """The share that is nearest to its limit."""
        return max(self.shares, key=lambda name: self.shares[name])


def session_room(
    options: Options,
    table: ConfigurationTable,
    role: str,
    flows: tuple[tuple[CallFlow, float], ...],
    chunk: float | None = None,
) -> float:
    """Bytes for sessions in a replica of a role, less the prefixes that its tasks share."""
    room = float(kv_capacity_bytes(table, EngineMemory.of(options, table, role, chunk))[0])
    for tokens in {flow.calls.task.name: flow.calls.shared for flow, _ in flows}.values():
        if tokens > 0:
            room -= float(kv_bytes(table, np.array([tokens]))[0, 0]) * float(table.dp[0])
    return max(room, 1.0)
