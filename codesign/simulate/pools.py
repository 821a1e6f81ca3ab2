"""Pools over simulated time: utilisation, energy, and which resource ran out when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.check.operation import PoolState
from codesign.check.plan import ModelledPool, ModelledRoute
from codesign.check.split import split_peaks
from codesign.performance.drafts import accepted
from codesign.performance.energy import idle_power_w, joules_per_byte, joules_per_flop, working_power_w
from codesign.simulate.fleet import Outcome
from codesign.simulate.report import PoolOutcome, Saturation, Series, Use

Array = NDArray[np.float64]

SATURATED = 0.98
"""Share of a resource in use, between two looks, from which on it counts as run out."""
_LASTING = 0.05
"""Share of the time from which on that is worth saying."""


@dataclass(frozen=True, eq=False)
class PoolView:
    """One pool's part of an outcome, with what was planned for it."""

    pool: ModelledPool
    routes: list[ModelledRoute]
    state: PoolState
    outcome: Outcome
    begin_s: float
    """End of the warm-up."""
    duration_s: float

    @property
    def name(self) -> str:
        """Of the pool."""
        return self.pool.entry.pool

    @cached_property
    def looks(self) -> dict[str, Array]:
        """[samples] each field of the samples."""
        samples = self.outcome.samples[self.name]
        return {name: np.array([getattr(s, name) for s in samples], dtype=np.float64) for name in vars(samples[0])}

    @cached_property
    def rates(self) -> dict[str, Array]:
        """[samples] shares in use between each look and the one before."""
        looks = self.looks
        seconds = np.diff(looks["time_s"], prepend=0.0) * looks["replicas"]
        peak, memory = self.peaks
        link = max(self.pool.link_bytes_per_s, 1.0)

        def rate(name: str, offer: float) -> Array:
            return np.diff(looks[name], prepend=0.0) / (seconds * offer)

        return {
            "compute": rate("flop", peak),
            "bandwidth": rate("bytes", memory),
            "capacity": looks["memory_share"],
            "link": rate("link_bytes", link),
            "busy": np.minimum(rate("busy_s", 1.0), 1.0),
        }

    @property
    def peaks(self) -> tuple[float, float]:
        """FLOP/s and bytes/s of a replica."""
        if self.pool.split is not None:
            return split_peaks(self.pool.split)
        parts, size = self.pool.table.part_accelerators, self.pool.replica_accelerators
        return float(parts.peak[0, self.pool.table.activations[0]]) * size, float(parts.bandwidth[0]) * size

    @cached_property
    def after(self) -> NDArray[np.bool_]:
        """[samples] looks after the warm-up."""
        chosen = self.looks["time_s"] > self.begin_s
        return chosen if chosen.any() else np.ones(chosen.size, dtype=bool)

    def mean(self, name: str) -> float:
        """Mean share in use after the warm-up."""
        return float(self.rates[name][self.after].mean())

    @property
    def reads_own_memory(self) -> bool:
        """Whether bytes are read from the accelerators' own memory alone, so that they are a share of its bandwidth."""
        return self.pool.entry.attached is None

    @property
    def batch(self) -> float:
        """Mean sequences of a replica after the warm-up."""
        return float(self.looks["batch"][self.after].mean())

    @property
    def mean_step_s(self) -> float:
        """Mean step after the warm-up, by Little's law of steps."""
        steps = sum(
            r.calls.rate
            * float(r.calls.population.weight @ r.calls.population.output)
            / accepted(self.pool.table, r.calls).tokens
            for r in self.routes
        )
        return self.batch * self.pool.entry.replicas / max(steps, 1e-12)

    @property
    def link_wait_s(self) -> float:
        """Seconds that transfers waited for its links."""
        return float(self.looks["link_wait_s"][-1])

    @property
    def scarcest(self) -> str:
        """What the pool has least of: what ran out, else what is used most."""
        if self.pool.entry.role == "prefill":
            return "compute"
        if self.outcome.preempted.get(self.name, 0) > 0:
            return "capacity"
        most = max(("compute", "bandwidth"), key=self.mean) if self.reads_own_memory else "bandwidth"
        return most if self.mean("capacity") < SATURATED or not self._waits else "capacity"

    @property
    def _waits(self) -> bool:
        return float(self.looks["waiting"][self.after].mean()) > self.pool.entry.replicas

    def use_words(self, name: str) -> str:
        """A resource in use, for a sentence."""
        key = name if name in self.rates else "busy"
        return f"{key} {self.mean(key):.0%} in use"

    def saturated(self) -> tuple[Saturation, ...]:
        """Resources that ran out after the warm-up: when first and for what share of the time."""
        names = ["busy"] if self.pool.entry.role == "prefill" else []
        found = []
        names += ["bandwidth"] if self.reads_own_memory else []
        for name in (*names, "capacity", "link"):
            full = (self.rates[name] >= SATURATED) & self.after
            if full.sum() > _LASTING * self.after.sum():
                first = float(self.looks["time_s"][int(np.argmax(full))])
                share = float(full.sum() / self.after.sum())
                found.append(Saturation(resource=name, from_s=first, share=share))
        return tuple(found)

    def energy_j(self) -> float:
        """Joules over the duration: idle power, base power while it works, and what bytes, FLOP and prompts draw."""
        table, (flop, moved, more) = self.pool.table, self.outcome.energy[self.name]
        replicas = self.pool.entry.replicas + self.pool.entry.spares
        halves = [(table, 1.0)]
        if self.pool.split is not None:
            halves = [(table, float(self.pool.split.groups[0])), (self.pool.split.feed_forward, 1.0)]
        idle, working = (
            sum(count * float(of(half)[0]) for half, count in halves) for of in (idle_power_w, working_power_w)
        )
        busy = self.mean("busy") * float(self.looks["replicas"][self.after].mean())
        above = flop * float(joules_per_flop(table)[0]) + moved * float(joules_per_byte(table)[0]) + more
        return (idle * replicas + working * busy) * self.duration_s + above


def pool_outcome(view: PoolView) -> PoolOutcome:
    """One pool's entry in the report."""
    entry, state, stepping = view.pool.entry, view.state, view.pool.entry.role != "prefill"
    reads = stepping and view.reads_own_memory
    joules = view.energy_j()
    looks, rates = view.looks, view.rates
    return PoolOutcome(
        pool=entry.pool,
        role=entry.role,
        counted_from_s=view.begin_s,
        utilization=Use(
            compute=view.mean("compute"),
            bandwidth=view.mean("bandwidth") if reads else None,
            capacity=view.mean("capacity"),
            link=view.mean("link"),
            busy=view.mean("busy"),
        ),
        planned=Use(
            compute=state.compute_share,
            bandwidth=state.bandwidth_share if reads else None,
            capacity=state.memory_share,
            link=state.link_share,
            busy=state.busy if entry.role != "decode" else None,
        ),
        batch=view.batch if stepping else None,
        planned_batch=state.batch if stepping else None,
        energy_j=joules,
        power_w=joules / view.duration_s,
        planned_power_w=entry.power_w,
        evictions=int(looks["evicted"][-1]),
        preemptions=view.outcome.preempted.get(view.name, 0),
        saturated=view.saturated(),
        series=Series(
            time_s=tuple(looks["time_s"].tolist()),
            replicas=tuple(int(n) for n in looks["replicas"]),
            batch=tuple(looks["batch"].tolist()),
            waiting=tuple(looks["waiting"].tolist()),
            **{name: tuple(rates[name].tolist()) for name in ("busy", "compute", "bandwidth", "capacity", "link")},
        ),
    )
