"""What `simulate` hands back: typed, frozen, one JSON document."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from codesign.problem.instance import Metric


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Percentiles(_Frozen):
    """Seconds."""

    p50: float | None
    p95: float | None
    p99: float | None


class TtftParts(_Frozen):
    """Mean seconds of the parts that a time to first token is the sum of."""

    reload: float
    """The kept history on its way to the prefill side."""
    wait: float
    """For a lane, or for memory on the prefill side."""
    prefill: float
    transfer: float
    admission: float
    """To the end of the first decode step; in a colocated pool all of it."""


class Suspect(_Frozen):
    """What stands between a promise and a better figure: for one that is broken, the culprit."""

    pool: str
    resource: str
    """compute | bandwidth | capacity | link: what that pool has too little of."""
    reason: str


class SloOutcome(_Frozen):
    """One promise under simulation."""

    metric: Metric
    percentile: float
    target: float
    planned: float | None
    simulated: float | None
    low: float | None
    """95 % confidence interval (None: too few values)."""
    high: float | None
    ok: bool
    """False where the interval lies above the target (without one: the simulated value)."""
    suspect: Suspect

    @property
    def sure(self) -> bool:
        """Whether the run tells that it holds, or that it does not."""
        return not self.ok or (self.simulated is not None and self.simulated <= self.target)


class TaskOutcome(_Frozen):
    """One task class, in one period."""

    name: str
    stage: str = ""
    """Period and scenario; empty where the plan has none."""
    calls: int
    """Finished after the warm-up."""
    goodput: float
    """Calls per second that met every TTFT and TPOT target."""
    offered: float
    """Calls per second that the plan routes."""
    completed: float
    """Calls per second that finished."""
    hit_ratio: float | None
    """Cached over prompt tokens."""
    planned_hit_ratio: float | None
    restarted: int
    """Calls that were computed again: preempted, or on a replica that was lost."""
    ttft: Percentiles
    tpot: Percentiles
    itl: Percentiles | None = None
    """Of all gaps between two tokens, where the task promises some."""
    task_latency: Percentiles
    wait: Percentiles
    """Of prompts, for a lane or memory; of whole tasks on measured pools, beyond what was measured."""
    parts: TtftParts
    planned_parts: TtftParts
    slo: tuple[SloOutcome, ...]


class Use(_Frozen):
    """Shares of what a replica offers that were in use."""

    compute: float | None = None
    bandwidth: float | None = None
    capacity: float | None = None
    link: float | None = None
    busy: float | None = None
    """Time in which lanes compute prompts, or steps run."""


class Saturation(_Frozen):
    """A resource that ran out."""

    resource: str
    from_s: float
    """When first."""
    share: float
    """Of the time after the warm-up."""


class Series(_Frozen):
    """State over time: means over replicas between two looks."""

    time_s: tuple[float, ...]
    replicas: tuple[int, ...]
    batch: tuple[float, ...]
    waiting: tuple[float, ...]
    busy: tuple[float, ...]
    compute: tuple[float, ...]
    bandwidth: tuple[float, ...]
    capacity: tuple[float, ...]
    link: tuple[float, ...]


class PoolOutcome(_Frozen):
    """One pool."""

    pool: str
    role: str
    stage: str = ""
    counted_from_s: float
    """Where the warm-up ends, or after the last failure."""
    utilization: Use
    planned: Use
    batch: float | None
    planned_batch: float | None
    energy_j: float
    """Over the whole duration."""
    power_w: float
    planned_power_w: float
    evictions: int
    preemptions: int
    saturated: tuple[Saturation, ...]
    series: Series


class SimulationReport(_Frozen):
    """A plan under simulation."""

    ok: bool
    """Every SLO holds at its percentile."""
    duration_s: float
    warm_up_s: float
    """The longest, where periods are simulated one by one."""
    seed: int
    arrivals: str
    calls: int
    """Finished over the whole duration."""
    tasks: tuple[TaskOutcome, ...]
    pools: tuple[PoolOutcome, ...]
    failure: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> SimulationReport:
        """The report that `codesign simulate --json` wrote to a file. Raises ValueError where it is none."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "document"
            raise ValueError(
                f"{path}: {where}: {first['msg'].lower()}; expected the output of `codesign simulate --json`"
            ) from None

    def to_json(self) -> str:
        """One JSON document."""
        return self.model_dump_json(indent=2) + "\n"
