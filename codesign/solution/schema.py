"""The solution file: typed, frozen, one JSON document (DESIGN 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codesign.files import write_atomically
from codesign.notebook import html_table
from codesign.problem.instance import ALL_HOURS, NOMINAL, Metric

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Objective(_Frozen):
    """What was minimised, and what is proven about it."""

    name: str
    value: float | None
    unit: str
    bound: float | None
    """Lower bound over every load that replicas of every configuration can keep their promises at, of halves of split
    decode over those of their grid; None where none is known."""
    gap: float | None
    """(value − bound)/|value|, a fraction; None where there is no bound."""
    ceilings: dict[str, float] | None = None
    """What other objectives were held at (a point of a frontier); None where the file's own objective stands."""


class Totals(_Frozen):
    """The whole fleet."""

    cost_per_hour: float
    cost_per_task: float
    energy_per_task_j: float
    power_w: float
    """Mean power at the meter, PUE included."""
    peak_power_w: float
    """Provisioned power at the meter, PUE included."""
    accelerators: dict[str, int]
    """By catalogue id, those in purchase units too."""
    servers: dict[str, int]
    """By hardware; what stands in purchase units is counted in whole units, by theirs."""


class Purchase(_Frozen):
    """One line of the bill of materials."""

    item: str
    """hardware/offer, unit/offer, or the measured pool."""
    kind: Literal["server", "unit", "module", "link", "measured"]
    """A unit is servers of several kinds that are bought as one (`purchase_units`)."""
    count: int
    accelerators: int
    capital_usd: float
    usd_per_hour: float
    price_source: str
    price_date: str


class Precision(_Frozen):
    """Number formats of a pool."""

    weights: str
    activations: str
    kv: str


class Parallelism(_Frozen):
    """How a replica is split over its accelerators."""

    tp: int
    pp: int
    ep: int
    dp: int
    cp: int = 1
    """Groups that share each prompt, in prefill pools."""


class FeedForward(_Frozen):
    """The second kind of accelerator in a split-decode replica: MLPs and experts, no KV."""

    hardware: str
    """Name in the problem file."""
    accelerator: str
    accelerators_per_replica: int
    parallelism: Parallelism
    microbatches: int
    """That go back and forth between the two halves."""


class AttachedUse(_Frozen):
    """Modules of a memory tier that a pool's accelerators have to themselves."""

    tier: str
    """Name in the problem file."""
    holds: Literal["kv", "weights", "experts"]
    """What lies there instead of in the accelerators' own memory: KV caches, all weights, or routed experts."""
    modules_per_accelerator: float
    bandwidth_bytes_per_s: float
    """At which each accelerator reads them: of the modules, or of the link to them."""


class SpeculationUse(_Frozen):
    """Tokens that a pool drafts, and verifies in its steps."""

    method: str
    draft_tokens: int
    """Of each sequence in a step."""
    tokens_per_step: float
    """That a step emits of a sequence, on average over the pool's calls."""
    source: str
    """Of the model's acceptance; tasks may have their own."""


class Utilization(_Frozen):
    """Shares of what a replica offers that are in use, at the fixed point."""

    compute: float | None = None
    bandwidth: float | None = None
    capacity: float | None = None
    link: float | None = None
    slots: float | None = None
    busy: float | None = None
    """Of a prefill queue or a measured pool."""


class Pool(_Frozen):
    """Identical replicas at one operating point.  Figures are the pool's totals, utilisation per replica."""

    pool: str
    group: str
    period: str
    scenario: str = NOMINAL
    role: Literal["prefill", "decode", "colocated", "split-decode", "serve"]
    hardware: str
    """Name in the problem file."""
    accelerator: str
    model: str | None
    precision: Precision | None
    parallelism: Parallelism | None
    """Of a split-decode pool: that of the attention half, `dp` instances of `tp` accelerators."""
    feed_forward: FeedForward | None = None
    """The other half of a split-decode pool."""
    attached: AttachedUse | None = None
    speculation: SpeculationUse | None = None
    """None where a step emits one token of a sequence."""
    tiers: tuple[str, ...] = ()
    link: str | None = None
    batch: float | None
    """Mean active sequences of a replica."""
    prefill_chunk: int | None
    step_limit_s: float | None
    step_time_s: float | None
    utilization_limit: float | None = None
    """ρ that a prefill queue is planned for."""
    wait_limit_s: float | None = None
    wait_s: float | None = None
    replicas: int
    """Serving; spares are counted beside them."""
    replicas_by_rows: int | None = None
    """More replicas, which the limits of its operating point would ask for, where polish found that those it has keep
    every promise; its limits (step, utilisation, wait) then name the point and are not held.  None where they are."""
    spares: int = 0
    accelerators: int
    """Of replicas and spares, both halves of a split-decode pool."""
    cost_per_hour: float
    cost_split: dict[str, float] = {}
    """Of the cost, $/h by what it pays for: prefill, decode, parked_kv, serve (measured pools), idle, redundancy."""
    power_w: float
    """Mean IT power, without PUE."""
    pays_electricity: bool | None = None
    """Whether it stands on servers whose offer excludes electricity; None where its hardware has one kind alone."""
    utilization: Utilization
    binding: str
    calibration: str
    expected_error: float | None


class MemoryUse(_Frozen):
    """One memory tier."""

    tier: str
    """Name in the problem file."""
    modules: int
    """Bought; what servers include comes on top."""
    attached_modules: float = 0.0
    """Of these and of what servers include: those that accelerators have to themselves."""
    capacity_bytes: float
    """Of all modules, included ones too."""
    used_bytes: float
    """Mean bytes of KV between calls."""
    read_bytes_per_s: float = 0.0
    written_bytes_per_s: float = 0.0
    bandwidth_utilization: float | None
    """By KV between calls, of the modules that are not attached."""
    period: str = ALL_HOURS
    scenario: str = NOMINAL


class KvUse(_Frozen):
    """What the KV of a route's sessions holds and moves between calls: one copy, shared prefixes left out."""

    ttl_s: float
    """Time-to-live of an idle session's KV."""
    hit_ratio: float
    """Cached tokens over prompt tokens, shared prefixes included."""
    kept_bytes: float
    """Mean bytes that wait for a session's next call."""
    reloaded_bytes_per_s: float
    """Kept history that the prompt's side reads from elsewhere (from a tier the decode side reads it too)."""
    sent_bytes_per_s: float
    """From the prompt's side to the decode side."""
    returned_bytes_per_s: float
    """New KV that goes back to where the session is kept."""


class Route(_Frozen):
    """Calls of one task that take one way through the fleet."""

    period: str
    scenario: str = NOMINAL
    task: str
    variant: str | None
    kv_policy: str | None
    """decode | prefill | colocated | drop | tier:<name>: where a session's KV stays between its calls."""
    kv: KvUse | None = None
    prefill_pool: str
    decode_pool: str
    calls_per_s: float
    fabric_bytes_per_s: float | None = None
    ttft_level_s: float | None = None
    tpot_level_s: float | None = None


class SloResult(_Frozen):
    """One promise, and what the fixed point achieves."""

    metric: Metric
    percentile: float
    """0–1."""
    target: float
    achieved: float


class TokenPrices(_Frozen):
    """Dollars per million tokens, by kind; None where a task has no such tokens."""

    new_input: float | None
    cached_input: float | None
    output: float | None


class TaskResult(_Frozen):
    """One task class under the plan, in one period and scenario."""

    name: str
    period: str = ALL_HOURS
    scenario: str = NOMINAL
    cost_per_task: float
    marginal_cost_per_task: float | None
    energy_per_task_j: float
    usd_per_million_tokens: TokenPrices | None
    open_tasks: float | None
    resident_kv_bytes: float | None
    headroom: float | None
    """Share by which its rate could grow on its pools before a row is full."""
    slo: tuple[SloResult, ...]


class ShadowPrice(_Frozen):
    """What one more unit of a limit is worth."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    limit: str
    unit: str
    value: float
    """Objective saved per unit."""
    source: Literal["fixed", "relaxation"] = Field(alias="from")


class SolveRecord(_Frozen):
    """How the answer was found."""

    seconds: dict[str, float]
    columns_total: int
    columns_undominated: int
    columns_considered: int
    nodes: int
    rounds: int
    stopped_by: str | None
    """time limit | interrupt, where one of them ended the search; None where it came to its end."""
    solver: str
    versions: dict[str, str]


class Provenance(_Frozen):
    """What the plan rests on."""

    problem: str
    problem_sha256: str
    price_list: tuple[str, ...]
    price_date: str
    command: str
    seed: int
    warnings: tuple[str, ...] = ()


class StageTotals(_Frozen):
    """The whole fleet in one period of one scenario."""

    period: str
    scenario: str
    share: float
    """Of all hours."""
    probability: float
    """Of the scenario."""
    totals: Totals


class Scenario(_Frozen):
    """The objective if a scenario comes."""

    name: str
    probability: float
    value: float


class Robustness(_Frozen):
    """What it costs to be ready for the scenarios."""

    measure: Literal["expected", "worst-case", "cvar"]
    level: float
    """α of the CVaR."""
    nominal: float | None
    """Objective in the nominal scenario under this plan."""
    nominal_optimum: float | None
    """Objective of the plan that knows the nominal scenario alone."""
    price: float | None
    """(nominal − nominal_optimum)/nominal_optimum: what being ready costs if nothing happens."""
    unprepared: dict[str, float] = {}
    """By scenario, the share of all demand that the nominal plan's purchase could serve in it (relaxation)."""


class BrokenPromise(_Frozen):
    """An SLO that did not hold under simulation, in the seed where it was worst."""

    stage: str
    """Period and scenario, empty where there are none."""
    task: str
    metric: Metric
    percentile: float
    target: float
    simulated: float | None
    """None where no call finished."""
    pool: str
    resource: str
    reason: str


class VerifyRound(_Frozen):
    """One plan that was simulated."""

    objective: float | None
    bound: float | None
    """Of the rows as they were tightened for this round."""
    broken: tuple[BrokenPromise, ...]
    tightened: tuple[str, ...]
    """What the next round asks for, in words."""


class Verification(_Frozen):
    """What `solve --verify` saw."""

    ok: bool
    """Every SLO of the last plan held in every seed."""
    seeds: tuple[int, ...]
    duration_s: float
    price: float | None
    """Objective of the last plan over that of the first, less one."""
    rounds: tuple[VerifyRound, ...]
    stopped: str | None = None
    """Why it ended, where not all promises hold."""


class Alternative(_Frozen):
    """Another plan at almost the same objective (`solve --alternatives`)."""

    what: str
    """What makes it different."""
    value: float
    """Its objective."""
    extra: float
    """By how much that exceeds the best plan's, a fraction."""
    difference: float
    """Share of the money that goes to other parts, models or roles than in the best plan."""
    accelerators: dict[str, int]
    solution: str | None = None
    """Its own solution file, beside this one."""


class PolishedPool(_Frozen):
    """One pool that polish has changed."""

    pool: str
    """As in the fleet; one that was emptied into others as it was named before."""
    before: int
    """Replicas in the plan that was searched."""
    after: int


class Polish(_Frozen):
    """What was saved after the search: rows are safe for any mix of calls, and this plan's needs fewer replicas."""

    value: float
    """Objective before it."""
    pools: tuple[PolishedPool, ...]
    note: str | None = None
    """Why the bound was withdrawn, where the plan costs less than it: `objective.bound` and `gap` are then null."""


class Violation(_Frozen):
    """One thing that a plan gets wrong."""

    what: str
    """Which requirement of which part of the plan."""
    limit: float | str | None
    """What the problem or the recomputation allows."""
    found: float | str | None
    """What the plan has."""


class Solution(_Frozen):
    """A plan with its proof."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["optimal", "feasible", "infeasible", "no_solution"]
    objective: Objective
    totals: Totals | None = None
    purchase: tuple[Purchase, ...] = ()
    fleet: tuple[Pool, ...] = ()
    memory: tuple[MemoryUse, ...] = ()
    routing: tuple[Route, ...] = ()
    tasks: tuple[TaskResult, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    stages: tuple[StageTotals, ...] = ()
    """Periods and scenarios; none where there is one."""
    scenarios: tuple[Scenario, ...] = ()
    robustness: Robustness | None = None
    verification: Verification | None = None
    alternatives: tuple[Alternative, ...] = ()
    """Cheapest first."""
    polish: Polish | None = None
    """None where nothing was saved."""
    conflicts: tuple[str, ...] = ()
    """Why there is no plan, in the problem file's words (status infeasible)."""
    violations: tuple[Violation, ...] = ()
    """What the plan found breaks, so that it is none (status no_solution): a fault of codesign."""
    solve: SolveRecord
    provenance: Provenance

    def to_json(self) -> str:
        """The solution file's text."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    def write(self, path: str | Path) -> None:
        """Write the solution file atomically: readers see the old file or the whole new one."""
        write_atomically(Path(path), self.to_json())

    def _repr_html_(self) -> str:
        objective = self.objective
        value = "no plan" if objective.value is None else f"{objective.value:.6g} {objective.unit}"
        gap = "" if objective.gap is None else f", within {100 * objective.gap:.2f} % of the bound"
        title = f"{self.provenance.problem}: {self.status}, {objective.name} {value}{gap}"
        names = ("pool", "role", "accelerator", "model", "replicas", "accelerators", "cost_per_hour", "power_w")
        return html_table(title, names, [[getattr(pool, name) for name in names] for pool in self.fleet])

    def to_dataframe(self) -> Any:
        """The fleet as a pandas DataFrame, one row per pool (pandas must be installed)."""
        import pandas

        return pandas.json_normalize([pool.model_dump() for pool in self.fleet])


def load_solution(path: str | Path) -> Solution:
    """Read a solution file.  Raises ValueError with one line per fault where it is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    try:
        return Solution.model_validate_json(text)
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError("\n".join(lines)) from None
