"""The problem as the rest of the package sees it: names resolved, SI units, nothing left to look up.

`resolve` builds it from a `Problem`; workload, performance, candidates and optimiser read only this. All
quantities are SI (tokens, seconds, bytes, watts, dollars) except where a name says otherwise
(`usd_per_hour`).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codesign.catalog import Accelerator, ModelCard
    from codesign.problem.distributions import Distribution
    from codesign.problem.speculation import Speculation

ObjectiveName = Literal[
    "cost_per_hour", "cost_per_task", "energy_per_task", "power", "carbon_per_task", "max_rate", "slo_scale"
]
"""max_rate: the largest factor on all rates within the limits; slo_scale: the smallest factor on all SLOs."""
Measure = Literal["expected", "worst-case", "cvar"]
Role = Literal["prefill", "decode", "colocated"]
WeightPrecision = Literal["bf16", "fp16", "fp8", "int8", "nvfp4", "mxfp4", "int4"]
ActivationPrecision = Literal["bf16", "fp8", "nvfp4"]
KvPrecision = Literal["bf16", "fp8", "nvfp4"]
ALL_HOURS, NOMINAL = "all", "nominal"
"""The period of a problem without periods, and the scenario that its file describes."""
EXISTING = "existing"
"""What the offers of servers that are there already are called."""
Metric = Literal["ttft", "tpot", "itl", "task_latency"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""What SLOs are on: the levels of a task stand in `<metric>_slo`."""
SloLevels = tuple[tuple[float, float], ...]
"""(percentile as a fraction, seconds), ascending by percentile."""


@dataclass(frozen=True)
class Rack:
    """A kind of rack on the site: how many there are, and the power that each may draw (watts of IT load)."""

    name: str
    count: int
    power_w: float


@dataclass(frozen=True)
class Site:
    """Power, cooling overhead and the price of a joule. `power_w` is the provisioned peak at the meter, or
    None."""

    power_w: float | None
    pue: float
    electricity_usd_per_joule: float
    carbon_kg_per_joule: float
    racks: tuple[Rack, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model that tasks may use, with the precisions that the planner may choose from."""

    name: str
    card: ModelCard
    quality: float
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    kv: tuple[str, ...]
    activations_follow_weights: bool = False
    """True where the file names no activations: then `activations[i]` belongs to `weights[i]`."""
    precision_quality: tuple[tuple[str, str, float], ...] = ()
    """(weights | activations | kv, format, factor on the quality); formats left out have factor 1."""
    speculation: Speculation | None = None
    """What drafts tokens for it; None: nothing does."""

    @property
    def precisions(self) -> tuple[tuple[str, str, str], ...]:
        """Every (weights, activations, kv) that the planner may choose."""
        pairs = (
            zip(self.weights, self.activations, strict=True)
            if self.activations_follow_weights
            else product(self.weights, self.activations)
        )
        return tuple((w, a, kv) for w, a in pairs for kv in self.kv)

    def quality_factor(self, weights: str, activations: str, kv: str) -> float:
        """Quality in these number formats, relative to the model's."""
        chosen = {("weights", weights), ("activations", activations), ("kv", kv)}
        return prod(factor for kind, name, factor in self.precision_quality if (kind, name) in chosen)


@dataclass(frozen=True)
class Variant:
    """One way of doing a task: a base model, a context limit by compaction, more or fewer calls, a
    quality."""

    name: str
    model: str
    max_context: float | None
    calls_factor: float
    quality: float
    """Of the variant, whatever number formats serve it."""

    def admitted(self, task: TaskClass, precision_factor: float) -> bool:
        """Is its quality enough for a task when number formats multiply it by a factor?"""
        # The product of two decimals must not fall below the threshold that it equals on paper.
        return self.quality * precision_factor >= task.min_quality * (1 - 1e-12)


@dataclass(frozen=True, eq=False)
class JointLengths:
    """A joint histogram of prompt and answer lengths: `input`[n], `output`[n] tokens, `weight`[n] that sums
    to 1."""

    input: NDArray[np.float64]
    output: NDArray[np.float64]
    weight: NDArray[np.float64]

    def __eq__(self, other: object) -> bool:
        """Equal where all figures are."""
        return isinstance(other, JointLengths) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("input", "output", "weight")
        )

    def __hash__(self) -> int:
        return hash((self.input.tobytes(), self.output.tobytes(), self.weight.tobytes()))


@dataclass(frozen=True)
class TaskClass:
    """A class of agent tasks. Without `variants` it is served by measured pools alone (its lengths mean
    nothing)."""

    name: str
    rate_per_s: float
    calls: Distribution
    context: Distribution
    """Tokens in the prompt of a call, history included."""
    append: Distribution
    """Tokens of that prompt that are new since the call before."""
    output: Distribution
    tool_wait: Distribution
    """Seconds between the end of a call and the start of the next one."""
    lengths: JointLengths | None = None
    """Where given: input and output lengths of a call together; `context` and `output` are its marginals."""
    prefix_shared_tokens: float = 0.0
    prefix_reusable: float = 0.0
    prefix_hit: float | None = None
    prefix_ttl_s: float = 300.0
    """Time-to-live of idle KV; where the planner decides it, the one that profiles show."""
    prefix_ttl_free: bool = False
    """Whether the planner decides the time-to-live."""
    idle_gap: Distribution | None = None
    """Seconds between a call's end and the use of its KV; None: the tool wait."""
    variants: tuple[Variant, ...] = ()
    min_quality: float = 0.0
    """Least quality of a variant in the number formats of every pool that serves it."""
    ttft_slo: SloLevels = ()
    tpot_slo: SloLevels = ()
    itl_slo: SloLevels = ()
    task_latency_slo: SloLevels = ()
    task_latency_at: Literal["population", "reference"] = "population"
    on_overlong: Literal["refuse", "truncate"] = "refuse"
    acceptance: tuple[float, ...] = ()
    """Of drafted tokens on its text, by position; empty: those of the model. Later positions have the last."""

    @property
    def unpromised(self) -> TaskClass:
        """The same without any SLO."""
        return replace(self, ttft_slo=(), tpot_slo=(), itl_slo=(), task_latency_slo=())

    @property
    def gap(self) -> Distribution:
        """Seconds for which the KV of a call waits until the next one wants it."""
        return self.tool_wait if self.idle_gap is None else self.idle_gap


@dataclass(frozen=True)
class Offer:
    """One way to get an accelerator. Numbers of accelerators bound what is taken from this offer."""

    name: str
    kind: Literal["rent", "capital", "existing"]
    usd_per_accelerator_hour: float | None
    """Rent, or what keeping an existing one costs; None for capital offers."""
    capital_usd_per_accelerator: float | None
    """Price of purchase; None for rent."""
    life_s: float | None
    interest: float
    """Per year, as a fraction."""
    includes_power: bool
    """True where the price pays for electricity too."""
    min_accelerators: int
    """0, or the least number that is taken if any is."""
    max_accelerators: int | None
    price_source: str
    price_date: str
    """ISO date, or empty where the file gives none."""
    periods: tuple[str, ...] | None = None
    """In which it is held; None: in all."""
    until: datetime.date | None = None
    """Day from which it is not held any more."""
    hosting_usd_per_accelerator_hour: float = 0.0
    """Space, staff and network of a purchased accelerator; 0 for rent."""


@dataclass(frozen=True)
class LinkOption:
    """A network that servers may be bought with, for each of their accelerators."""

    name: str
    technology: str
    network: Literal["scaleout", "scaleup"]
    bandwidth_bytes_per_s: float
    """Per direction."""
    domain: int | None
    """Accelerators in the scale-up network; None: as the hardware is sold."""
    capital_usd: float
    """On top of the hardware's price."""
    life_s: float
    interest: float
    power_w: float
    """On top of the hardware's, whatever is sent."""
    price_source: str
    price_date: str


@dataclass(frozen=True)
class HardwareOption:
    """An accelerator in the server that is bought, with its offers and the roles it may take."""

    name: str
    accelerator: Accelerator
    catalogue_id: str
    """The id that `limits.inventory` may use; the option's own name for an inline definition."""
    server_accelerators: int
    rack: str | None
    roles: tuple[Role, ...]
    offers: tuple[Offer, ...]
    base: str = ""
    """Name in the problem file, where the option is that hardware with another network."""
    link: LinkOption | None = None
    """That network."""
    includes_power: bool | None = None
    """Whether whatever offers it pays for its electricity; None for an option as the file has it, whose offers may
    differ."""

    @property
    def hardware(self) -> str:
        """Name of the hardware in the problem file, whatever network it is bought with."""
        return self.base or self.name

    @property
    def peers_in_host(self) -> bool:
        """Are the peers of a card those of its host, over PCIe?"""
        return "pcie" in self.accelerator.scaleup_topology.lower()

    @property
    def unlinked(self) -> bool:
        """Does no link join its cards: alone in its host, and without a network that was bought?"""
        return self.peers_in_host and self.server_accelerators == 1 and self.link is None


@dataclass(frozen=True)
class PurchaseUnit:
    """Servers of several hardware options that are bought as one."""

    name: str
    hardware: tuple[str, ...]
    """Options, by name; a unit holds one server of each."""
    accelerators: int
    """Of all kinds together."""
    rack: str | None
    offers: tuple[Offer, ...]
    """Prices per accelerator, whatever its kind; numbers of accelerators are those of whole units."""


@dataclass(frozen=True)
class Attached:
    """Modules that accelerators have to themselves, for what decode steps and prefills read."""

    modules: tuple[float, ...]
    """Choices of modules for each accelerator; below 1: a share of one."""
    link_bytes_per_s: float
    """Between an accelerator and its modules."""
    link_latency_s: float
    link_joules_per_byte: float


@dataclass(frozen=True)
class MemoryOption:
    """Modules of a memory tier that may be bought beside the accelerators' own memory."""

    name: str
    """In the problem file."""
    tier: str
    """Id in the catalogue."""
    holds: tuple[str, ...]
    """parked | active | weights."""
    module_bytes: float
    read_bytes_per_s: float
    """Of one module."""
    write_bytes_per_s: float
    duplex: bool
    """Reads and writes at the same time, each at its full rate."""
    stripe: int
    """Modules over which a session is spread, and read from at once."""
    latency_s: float
    joules_per_byte: float
    power_w: float
    """Of one module, whatever it does."""
    capital_usd: float
    """Of one module."""
    life_s: float
    interest: float
    """Per year, as a fraction."""
    fill: float
    """Share of the capacity that is planned to be in use on average."""
    hardware: tuple[str, ...]
    """Options whose servers take the modules; none: appliances of their own."""
    max_bytes_per_server: float | None
    included_bytes_per_server: float
    """Bytes that every such server has already, at no price."""
    max_modules: int | None
    price_source: str
    price_date: str
    attached: Attached | None = None
    """How accelerators read active KV or weights there; None: they do not."""

    @property
    def session_bytes_per_s(self) -> float:
        """Rate at which one session is read."""
        return self.stripe * self.read_bytes_per_s


@dataclass(frozen=True)
class MeasuredPool:
    """A replica known by its measured rates: tasks per second of each task alone, under its SLO."""

    name: str
    accelerator: str
    accelerators_per_replica: int
    cost_usd_per_hour: float
    """Per replica."""
    power_w: float
    """Per replica."""
    max_rate_per_s: dict[str, float]
    """By task; tasks that the pool cannot serve are absent."""

    def __hash__(self) -> int:
        return hash((self.name, self.accelerator, tuple(sorted(self.max_rate_per_s.items()))))


@dataclass(frozen=True)
class InventoryLimit:
    """At most `accelerators` over the hardware options and measured accelerators that the name stands for."""

    name: str
    accelerators: int
    hardware: tuple[str, ...]
    """Names of hardware options."""
    measured: tuple[str, ...]
    """Names of measured pools."""


@dataclass(frozen=True)
class Limits:
    """What may be bought and spent."""

    inventory: tuple[InventoryLimit, ...] = ()
    capital_usd: float | None = None
    cost_usd_per_hour: float | None = None
    max_designs: int | None = None
    max_vendors: int | None = None
    churn_servers: float | None = None
    """Share of the existing servers that may be given up."""


@dataclass(frozen=True)
class Redundancy:
    """What the fleet survives: nothing, or the loss of one server in each group."""

    survive: Literal["none", "one-server"] = "none"
    per: Literal["group"] = "group"


@dataclass(frozen=True)
class Tightening:
    """How much stricter pools of one kind are planned than their rows ask for, since a simulation broke a promise."""

    role: str
    """Of pools: prefill | decode | colocated | split-decode."""
    model: str
    hardware: str | None
    """Of a split replica, that of its attention half; None: all."""
    z: float = 1.0
    """Factor ≥ 1 on the quantile at which steps and memory are planned."""
    utilization: float = 1.0
    """Factor ≤ 1 on ρ of prompt queues."""
    wait: float = 1.0
    """Factor ≤ 1 on their mean wait."""
    link: float = 1.0
    """Share of the links that may be used."""


@dataclass(frozen=True)
class Options:
    """How to plan and how long to try."""

    disaggregation: Literal["decide", "never", "always"] = "decide"
    split_decode: Literal["never", "decide"] = "never"
    split_tasks: bool = True
    gap: float = 0.005
    time_limit_s: float = 60.0
    seed: int = 0
    threads: int = 2
    memory_fraction: float | None = None
    """None: the engine's default."""
    memory_reserve_bytes: float = 0.7e9
    max_sequences: int | None = None
    """None: the engines' default for so much memory."""
    max_utilization: float = 0.93
    max_replica_accelerators: int | None = None
    max_context_parallel: int = 1
    max_expert_domains: int = 1
    profiles: tuple[str, ...] = ()
    """Paths of engine profiles."""
    safety: float = 0.5
    """Percentile (0–1) of the prediction error that the plan's times are taken at."""
    tightening: tuple[Tightening, ...] = ()
    """Set by `solve --verify`, never by a file."""


@dataclass(frozen=True)
class Risk:
    """What is minimised over scenarios: the expected value, the worst, or the mean of the worst ones (CVaR)."""

    measure: Measure
    level: float
    """α of the CVaR: it is the mean of the worst 1 − α."""


def stage_name(period: str, scenario: str) -> str:
    """A period in a scenario for people; empty for the problem as it stands, all the time."""
    words = ((period, ALL_HOURS), (scenario, NOMINAL))
    return ", ".join(word for word, usual in words if word != usual)


@dataclass(frozen=True)
class Stage:
    """A period in a scenario: everything but what is bought is decided anew in it."""

    period: str
    """`all` without periods."""
    scenario: str
    """`nominal` for the problem as its file says."""
    share: float
    """Of all hours."""
    probability: float
    """Of the scenario."""
    instance: Instance
    """The problem in this stage, with the offers that are held in it."""

    @property
    def name(self) -> str:
        """For limits and messages: the period, and the scenario where it is not the nominal one."""
        return stage_name(self.period, self.scenario)

    def named(self, what: str) -> str:
        """What belongs to the stage, with the stage behind it; as it is where the stage is the problem as it stands."""
        return f"{what} ({self.name})" if self.name else what


@dataclass(frozen=True)
class Instance:
    """A whole procurement problem, resolved."""

    name: str
    objective: ObjectiveName
    site: Site
    models: tuple[Model, ...]
    tasks: tuple[TaskClass, ...]
    hardware: tuple[HardwareOption, ...]
    measured_pools: tuple[MeasuredPool, ...]
    limits: Limits
    redundancy: Redundancy
    options: Options
    price_list_ids: tuple[str, ...]
    price_date: str
    """The oldest date among the prices in use (ISO), or empty."""
    memory: tuple[MemoryOption, ...] = ()
    units: tuple[PurchaseUnit, ...] = ()
    warnings: tuple[str, ...] = ()
    """For people: stale prices, assumptions in use, unverified facts."""
    sha256: str = ""
    """Of the problem file; of its canonical JSON where there is no file."""
    stages: tuple[Stage, ...] = ()
    """What is planned for one by one; none: the instance itself, all the time."""
    risk: Risk | None = None
    """How the stages' scenarios are weighed; None without scenarios."""

    def mean_rate(self, scenario: str | None = None) -> float:
        """Tasks per second over all hours, in a scenario (None: the first that is planned for)."""
        if not self.stages:
            return sum(task.rate_per_s for task in self.tasks)
        wanted = scenario or self.stages[0].scenario
        return sum(
            stage.share * task.rate_per_s
            for stage in self.stages
            if stage.scenario == wanted
            for task in stage.instance.tasks
        )

    def model(self, name: str) -> Model:
        """Return the model of that name (KeyError where there is none)."""
        return {model.name: model for model in self.models}[name]

    def tier(self, policy: str) -> MemoryOption | None:
        """The memory of a residency policy `tier:<name>`; None for the other policies and unknown names."""
        return {f"tier:{item.name}": item for item in self.memory}.get(policy)
