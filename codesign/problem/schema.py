"""The words of a problem file, their types, defaults and meaning. One docstring serves code, JSON Schema and
editors."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, PrivateAttr, create_model, model_validator

from codesign.catalog import Accelerator, ModelCard
from codesign.notebook import html_table
from codesign.problem.distributions import Distribution
from codesign.problem.errors import FieldError
from codesign.problem.fields import (
    Count,
    DistributionSpec,
    Duration,
    FilePath,
    Flag,
    Month,
    Name,
    Number,
    Part,
    Percentiles,
    PositiveCount,
    PositiveDuration,
    PositiveNumber,
    RateSpec,
    TimeToLive,
    TokenCount,
    written,
)
from codesign.problem.future import Period, Risk, Scenario, check_periods, check_scenarios
from codesign.problem.instance import ActivationPrecision, KvPrecision, ObjectiveName, Role, WeightPrecision
from codesign.problem.link_options import LinkChoice
from codesign.problem.memory import Memory
from codesign.problem.offers import Offer, PurchaseUnit
from codesign.problem.speculation import AcceptedDrafts, ModelSpeculation
from codesign.units import (
    Bytes,
    Dollars,
    Fraction,
    KgPerJoule,
    PerSecond,
    UsdPerHour,
    UsdPerJoule,
    Watts,
    parse_quantity,
)

if TYPE_CHECKING:
    from codesign.problem.yaml_lines import Document

    CardFields = Part
    AcceleratorFields = Part
else:

    def _optional_fields(name: str, entry: type, skip: tuple[str, ...]) -> type[Part]:
        """Return a part with every field of a catalogue entry, none of them required."""
        fields = {
            field: (
                (Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation) | None,
                Field(None, description=info.description),
            )
            for field, info in entry.model_fields.items()
            if field not in skip
        }
        doc = f"Fields of a catalogue entry ({entry.__name__}), each of which may be set anew."
        return create_model(name, __base__=Part, __module__=__name__, __doc__=doc, **fields)

    CardFields = _optional_fields("CardFields", ModelCard, ("id",))
    AcceleratorFields = _optional_fields("AcceleratorFields", Accelerator, ("id", "server_accelerators"))


PrecisionFactor = Annotated[PositiveNumber, Field(le=10)]


class Rack(Part):
    """A kind of rack."""

    count: Count
    """Racks of this kind on the site."""
    power: Watts
    """IT power that one rack can feed and cool."""


class Site(Part):
    """The place: power, cooling and the price of energy."""

    power: Watts | None = None
    """Provisioned peak at the meter, PUE included; no limit where absent."""
    pue: Annotated[Number, Field(ge=1, le=10)] = 1.25
    """Power usage effectiveness: power at the meter over IT power (assumption)."""
    electricity: UsdPerJoule = written("0.08 $/kWh")
    """Price of electricity (assumption)."""
    carbon: KgPerJoule = written("380 g/kWh")
    """Carbon intensity of electricity (assumption)."""
    racks: dict[Name, Rack] = Field(default_factory=dict)
    """Kinds of rack by name; hardware names the kind that it needs."""


class PrecisionQuality(Part):
    """What number formats do to a model's quality: factors, 1 where none is given."""

    weights: dict[WeightPrecision, PrecisionFactor] = Field(default_factory=dict)
    activations: dict[ActivationPrecision, PrecisionFactor] = Field(default_factory=dict)
    kv: dict[KvPrecision, PrecisionFactor] = Field(default_factory=dict)


class ModelUse(CardFields):
    """A model that tasks may use: from the catalogue, a Hugging Face configuration, or defined here.

    Any field of a model card given here replaces that of the card.
    """

    card: Name | None = None
    """Model card of the catalogue."""
    config: FilePath | None = None
    """Path to a Hugging Face config.json, relative to the problem file."""
    definition: CardFields | None = None
    """A model card in full."""
    quality: Annotated[PositiveNumber, Field(le=1000)] = 1.0
    """Score by which `min_quality` of a task admits the model."""
    precision_quality: PrecisionQuality = PrecisionQuality()
    """Factors on the quality by number format, such as {weights: {nvfp4: 0.98}, kv: {fp8: 0.995}}: your own
    evaluation. A precision is admitted where the product meets the task's min_quality."""
    weights: Annotated[list[WeightPrecision], Field(min_length=1)] | None = None
    """Precisions of the weights to choose from; default: FP8 (and BF16) for BF16 models, else as released."""
    activations: Annotated[list[ActivationPrecision], Field(min_length=1)] | None = None
    """Precisions of the activations to choose from; default: they follow the weights."""
    kv: Annotated[list[KvPrecision], Field(min_length=1)] | None = None
    """Precisions of the KV cache to choose from; default: FP8."""
    speculation: ModelSpeculation | None = None
    """What drafts tokens for it (speculative decoding); each decoding pool drafts or not, as the planner decides."""

    @model_validator(mode="after")
    def _one_origin(self) -> ModelUse:
        if sum(origin is not None for origin in (self.card, self.config, self.definition)) > 1:
            raise FieldError("more than one origin", "one of card, config and definition", words=True)
        return self


class Lengths(Part):
    """Prompt and answer lengths together, from a histogram file or straight from a trace. A trace that knows
    sessions also gives calls, append, tool_wait and prefix where the task does not; its rate is that of sessions."""

    histogram: FilePath | None = None
    """Path (relative to the problem file) or catalogue name of a histogram CSV: input_tokens, output_tokens,
    weight."""
    trace: FilePath | None = None
    """Path of a trace (plain or .gz): CSV with TIMESTAMP, ContextTokens, GeneratedTokens; CSV with session,
    timestamp_s, approx_in_tokens, approx_out_tokens, approx_prefix_shared_tokens; or JSON lines with timestamp,
    input_length, output_length, hash_ids (blocks of 512 tokens)."""

    @model_validator(mode="after")
    def _one_origin(self) -> Lengths:
        if (self.histogram is None) == (self.trace is None):
            raise FieldError("neither or both of histogram and trace", "one of them", words=True)
        return self


class Prefix(Part):
    """What calls have in common with earlier ones, and how long it is kept."""

    shared: TokenCount = 0
    """Tokens that all sessions of the task begin with (system prompt, tools)."""
    reusable: Fraction = 0
    """Share of a call's old context that an ideal cache would serve."""
    hit: Fraction | None = None
    """Fixes the hit ratio, which is otherwise an outcome."""
    ttl: TimeToLive = written("5 min")
    """Time for which an idle KV cache is kept; `decide`: the planner chooses for each way of serving the task."""
    idle: dict[Name, Fraction] | None = None
    """Measured share of reuse that comes within a time, such as {1 min: 85.4%, 5 min: 94%, 1 h: 98.6%};
    default: that of tool_wait."""

    @model_validator(mode="after")
    def _consistent(self) -> Prefix:
        if self.ttl == "decide" and self.hit is not None:
            raise FieldError("ttl: decide beside a fixed hit", "a time for ttl, or no hit", words=True)
        self.idle_gap()
        return self

    def idle_gap(self) -> Distribution | None:
        """The distribution behind `idle`; None where it is not given."""
        if self.idle is None:
            return None
        try:
            return Distribution.from_curve({parse_quantity(t, "time"): share for t, share in self.idle.items()})
        except ValueError as error:
            expected = "shares that rise with time, such as {1 min: 85%, 5 min: 94%}"
            raise FieldError(error, expected, words=True) from None


class Variant(Part):
    """One way of doing a task."""

    name: Name
    model: Name
    """Name under `models`."""
    max_context: Annotated[TokenCount, Field(gt=0)] | None = None
    """Longer contexts are compacted to this length."""
    calls_factor: Annotated[PositiveNumber, Field(le=1000)] = 1.0
    """Calls needed, relative to the task's `calls`."""
    quality_factor: Annotated[PositiveNumber, Field(le=1000)] = 1.0
    """Quality, relative to the model's."""


class TaskLatency(Percentiles):
    """Limits on the time of a whole task."""

    at: Literal["population", "reference"] = "population"
    """Over all tasks with their length distributions, or for a task of mean lengths."""


class Slo(Part):
    """Service-level objectives."""

    ttft: Percentiles | None = None
    """Time to first token of a call."""
    tpot: Percentiles | None = None
    """Time per output token after the first: of a call, on average over its tokens."""
    itl: Percentiles | None = None
    """Inter-token latency: time between two tokens of an answer, over all gaps of all answers. Where prompts are
    computed in the same steps, {p99: 60 ms} holds if steps with them keep it, or if they are fewer than one in 100."""
    task_latency: TaskLatency | None = None
    """Time of a task from start to end, tool waits included."""


class Task(Part):
    """A class of agent tasks: how many arrive, and what their calls look like."""

    name: Name
    preset: Name | None = None
    """Workload of the catalogue that fills the fields left out here."""
    rate: RateSpec
    """Tasks that arrive, such as 4/s; or `trace`."""
    models: Annotated[list[Name], Field(min_length=1)] | None = None
    """Names under `models` that may serve the task (short for `variants`)."""
    calls: DistributionSpec[PositiveNumber] = written(1)
    """LLM calls of one task."""
    context: DistributionSpec[TokenCount] | None = None
    """Tokens in the prompt of a call, history included."""
    append: DistributionSpec[TokenCount] | None = None
    """Tokens of the prompt that are new since the call before; default: all."""
    output: DistributionSpec[TokenCount] | None = None
    """Tokens that a call generates."""
    tool_wait: DistributionSpec[Duration] = written("0 s")
    """Time between two calls of a task: tools, or a person who reads."""
    lengths: Lengths | None = None
    """Measured lengths of calls; they take the place of context and output."""
    prefix: Prefix = Prefix()
    """Reuse of the KV cache."""
    variants: Annotated[list[Variant], Field(min_length=1)] | None = None
    """Ways of doing the task, with other models or shorter contexts."""
    min_quality: Number = 0
    """Variants, and precisions of them, below this quality are not admitted."""
    slo: Slo = Slo()
    """Service-level objectives."""
    speculation: AcceptedDrafts = AcceptedDrafts()
    """Acceptance of drafted tokens on this task's text, whichever model drafts; default: that of the model."""
    on_overlong: Literal["refuse", "truncate"] = "refuse"
    """What to do where contexts exceed the model's: say so as an error, or cut them to fit."""

    @model_validator(mode="after")
    def _one_list(self) -> Task:
        if self.models is not None and self.variants is not None:
            raise FieldError(
                "both models and variants", "one of them (variants name their models)", words=True
            )
        if self.rate.trace is not None and self.lengths is None:
            raise FieldError(
                "a rate from a trace without lengths",
                "lengths with a trace or histogram, or a rate in 1/s",
                words=True,
            )
        return self


class Server(Part):
    """The unit that is bought."""

    accelerators: PositiveCount | None = None
    """Accelerators in one server; default: as the catalogue says."""
    rack: Name | None = None
    """Kind of rack (under `site.racks`) that it must stand in."""


class Hardware(AcceleratorFields):
    """An accelerator that may be bought: from the catalogue, or defined here by its fields.

    Any field of an accelerator given here replaces that of the catalogue.
    """

    accelerator: Name | None = None
    """Accelerator of the catalogue; absent where all fields are given here."""
    server: Server = Server()
    """The unit that is bought."""
    offers: dict[Name, Offer] | None = None
    """Offers by name; default: the catalogue's price. None at all ({}) for what is sold in a purchase unit alone."""
    price: UsdPerHour | None = None
    """Rent per accelerator: short for a single offer."""
    roles: Annotated[list[Role], Field(min_length=1)] | None = None
    """Roles that it may take; default: all."""
    links: Annotated[list[Name], Field(min_length=1)] | None = None
    """Names under `links`: networks that its servers may be bought with, beside that of the accelerator."""

    @model_validator(mode="after")
    def _one_price(self) -> Hardware:
        if self.offers is not None and self.price is not None:
            raise FieldError("both offers and price", "one of them", words=True)
        return self


class Existing(Part):
    """Servers that are there already: they are kept at a price, or given up."""

    hardware: Name
    """Name under `hardware`."""
    servers: PositiveCount
    price: UsdPerHour = 0
    """Of keeping one accelerator, per hour."""
    includes_power: Flag = False
    """Whether the price pays for electricity."""
    until: Month | None = None
    """Month in which they are gone (2028-06): periods that start then or later do not have them."""


class MeasuredPool(Part):
    """Replicas known by measurement instead of the performance model."""

    name: Name
    accelerator: Name
    """Free text; `limits.inventory` may name it."""
    accelerators_per_replica: PositiveCount = 1
    cost: UsdPerHour
    """Per replica."""
    power: Watts = 0
    """Per replica, IT power."""
    max_rate: dict[Name, Annotated[PerSecond, Field(le=1e9)]]
    """Sustained rate per replica under the SLO, for each task alone; absent or 0: cannot serve it."""


class Budget(Part):
    """Limits on money."""

    capital: Dollars | None = None
    """Of purchases."""
    cost_per_hour: UsdPerHour | None = None
    """Of everything."""


class Churn(Part):
    """How much of what exists may be given up."""

    servers: Fraction | None = None
    """Share of all existing servers; no limit where absent."""


class Limits(Part):
    """What may be bought and spent."""

    inventory: dict[Name, Count] = Field(default_factory=dict)
    """Accelerators to be had, by name under `hardware`, catalogue id, or accelerator of measured pools."""
    budget: Budget = Budget()
    max_designs: PositiveCount | None = None
    """Kinds of hardware group in the fleet, at most."""
    vendors: PositiveCount | None = None
    """Vendors in the fleet, at most."""
    churn: Churn = Churn()
    """Change of the existing fleet."""


class Redundancy(Part):
    """What the fleet must survive at full demand."""

    survive: Literal["none", "one-server"] = "none"
    per: Literal["group"] = "group"


class Options(Part):
    """How to plan, and how long to try."""

    disaggregation: Literal["decide", "never", "always"] = "decide"
    """Whether prefill and decode have pools of their own."""
    split_decode: Literal["never", "decide"] = "never"
    """Whether decode replicas may have attention on one accelerator and feed-forward layers on another."""
    split_tasks: Flag = True
    """false: every task is served by one pool."""
    gap: Fraction = written("0.5%")
    """Distance from the bound at which a plan counts as optimal."""
    time_limit: PositiveDuration = written("60 s")
    seed: Count = 0
    threads: PositiveCount = 2
    memory_fraction: Annotated[Fraction, Field(gt=0)] | None = None
    """Share of an accelerator's usable memory that the engine is given, weights, activations and graphs included (of
    what these leave, where the engine counts so: TensorRT-LLM). Default: the engine's own, 0.9."""
    memory_reserve: Bytes = written("0.7 GB")
    """Memory per accelerator for the runtime: drivers, communication, workspaces of libraries."""
    max_sequences: PositiveCount | None = None
    """Sequences in one data-parallel rank of a replica, at most, as engines count them; what their sampling takes of
    memory grows with it. Default: 1024 on accelerators with 70 GiB or more, else 256."""
    max_utilization: Annotated[Fraction, Field(gt=0, lt=1)] = 0.93
    """Share of the time for which queues of prompts are planned to be busy, at most: a margin for rates that rise."""
    max_replica_accelerators: PositiveCount | None = None
    max_context_parallel: PositiveCount = 1
    """Groups of accelerators that may share one prompt in a prefill replica (context parallelism: tokens are divided,
    keys and values go round), at most; 1: none do. Shortens the TTFT of prompts of 100K tokens and more."""
    max_expert_domains: PositiveCount = 1
    """Scale-up domains that the experts of one replica may lie in, at most: tokens go to experts over the scale-out
    network then (attention data parallelism with wide expert parallelism)."""
    profiles: list[str] = Field(default_factory=list)
    """Engine profiles (files that `codesign calibrate` writes), relative to the problem file; the first that
    names an accelerator holds for it."""
    safety: Literal["p50", "p60", "p70", "p80", "p90", "p95"] = "p50"
    """Percentile of the model's own prediction error at which the plan's times are taken; p50 is the median."""


class Problem(Part):
    """A procurement problem: which fleet to buy for these tasks. Build it with `load_problem` or
    `Problem.from_dict`."""

    kind: Literal["procurement"] = "procurement"
    name: Name = "unnamed"
    as_of: datetime.date | None = None
    """Date of the plan: prices older than `max_price_age` are flagged; no date, no flags."""
    max_price_age: PositiveDuration = written("200 d")
    objective: ObjectiveName = "cost_per_hour"
    price_list: Name | None = None
    """Price list of the catalogue that comes first for hardware without offers."""
    site: Site = Site()
    models: dict[Name, ModelUse] = Field(default_factory=dict)
    tasks: Annotated[list[Task], Field(min_length=1)]
    hardware: dict[Name, Hardware] = Field(default_factory=dict)
    purchase_units: dict[Name, PurchaseUnit] = Field(default_factory=dict)
    """Servers of several kinds of hardware that are bought together, by name."""
    links: dict[Name, LinkChoice] = Field(default_factory=dict)
    """Networks that servers may be bought with, by name; hardware says which it takes."""
    memory: dict[Name, Memory] = Field(default_factory=dict)
    """Memory tiers that may be bought, by name."""
    measured_pools: list[MeasuredPool] = Field(default_factory=list)
    limits: Limits = Limits()
    redundancy: Redundancy = Redundancy()
    existing: list[Existing] = Field(default_factory=list)
    """The fleet that is there already."""
    periods: Annotated[dict[Name, Period], AfterValidator(check_periods)] = Field(default_factory=dict)
    """Hours of the day, or years of growth: servers are bought once, everything else is decided per period."""
    scenarios: Annotated[list[Scenario], AfterValidator(check_scenarios)] = Field(default_factory=list)
    """What may come instead of what this file says; `solve --robust` buys for all of them."""
    risk: Risk = Risk()
    """What `solve --robust` minimises over the scenarios."""
    options: Options = Options()

    _document: Document | None = PrivateAttr(None)
    _file: str = PrivateAttr("")
    _sha256: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Path of the file it was read from; empty for a problem built in code."""
        return self._file

    @property
    def sha256(self) -> str:
        """Of the file's bytes; of the canonical JSON of its data where it is no file's."""
        return self._sha256

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """Return the problem that a file with this data would give. Raises ProblemError."""
        from codesign.problem.load import problem_from_data

        return problem_from_data(data)

    def replace(self, changes: Mapping[str, Any]) -> Problem:
        """Return a new problem with some values changed: `{"tasks.coding.rate": "6/s"}`. Raises ProblemError.

        Paths are dotted; items of lists go by their name or position.
        """
        from codesign.problem.load import replaced

        return replaced(self, changes)

    def _repr_html_(self) -> str:
        title = f"{self.name}: {self.kind}, least {self.objective}"
        rows: list[list[Any]] = [["task", task.name] for task in self.tasks]
        rows += [["hardware", name] for name in self.hardware]
        rows += [["measured pool", pool.name] for pool in self.measured_pools]
        return html_table(title, ["kind", "name"], rows)


OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the problem file, for editors."""
    schema = Problem.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "codesign problem"} | schema
