"""The typed entries of the catalogue: accelerators, models, memories, links, workloads, price lists.

Every entry is a frozen pydantic model that refuses unknown fields. Quantities are written with their units in
the data files and are SI numbers inside. What a source does not say is either None ("unknown", never zero) or
an assumption that is listed in `assumptions`.
"""

import datetime
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from codesign.units import (
    Bytes,
    BytesPerSecond,
    FlopsPerSecond,
    Seconds,
    UsdPerByte,
    UsdPerHour,
    Watts,
    parse_quantity,
)

UNVERIFIED = "K (unverified)"
"""How a source says that its fact comes from memory and was not looked up."""


def _token_count(value: Any) -> Any:
    """ "128Ki" as an integer; anything else is left to pydantic's own integer check."""
    return round(parse_quantity(value, "tokens")) if isinstance(value, str) else value


Count = Annotated[int, Field(ge=0)]
TokenCount = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(_token_count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["128Ki"]}]}),
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sources = dict[str, str]

USABLE_SHARE = 0.99
"""Of the memory that a part is sold with, what its driver offers where no source says how much: reports of 14 parts
with HBM or GDDR7 give 0.987 to 1.000 (catalogue field `usable_memory`). Of GDDR6, whose error correction lives in the
same chips, they give 0.92 to 0.93."""


class Entry(BaseModel):
    """Base of every catalogue entry: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Source(Entry):
    """Where a fact was read."""

    id: str
    """The code by which entries cite it."""
    text: str
    """Publication, file or page."""
    date: str
    """Publication date, or "consulted" and the month where the source bears none."""


class Accelerator(Entry):
    """One logical accelerator device (of a rack-scale part: one GPU of the rack). Compute rates are dense."""

    id: str
    """Catalogue id, such as `h100-sxm`."""
    name: str
    """Name in the trade."""
    vendor: str
    architecture: str = ""
    node: str | None = None
    """Process node of the compute dies."""
    year: int | None = None
    """First year of general availability, or the year announced."""
    status: str = "ga"
    """ga, sampling, announced or reported, with remarks."""
    fp16_flops: FlopsPerSecond | None = None
    """Dense peak for FP16/BF16 inputs; None where unknown or not supported."""
    fp8_flops: FlopsPerSecond | None = None
    """Dense peak for FP8 inputs."""
    fp4_flops: FlopsPerSecond | None = None
    """Dense peak for 4-bit floating-point inputs (NVFP4, MXFP4)."""
    int8_flops: FlopsPerSecond | None = None
    """Dense peak for INT8 inputs, in operations per second."""
    memory_type: str
    memory_capacity: Bytes
    """Bytes of the memory that holds weights and KV cache, as the part is sold."""
    usable_memory: Bytes | None = None
    """Bytes of it that the driver offers to a process: what CUDA or HIP report as the total (error correction and
    firmware take the rest); None: :data:`USABLE_SHARE` of it, an assumption."""
    memory_bandwidth: BytesPerSecond
    sram_capacity: Bytes | None = None
    """Last-level on-chip memory."""
    tdp: Watts | None = None
    """Thermal design power of the device alone."""
    all_in_power: Watts | None = None
    """IT power with the device's share of host and network, without PUE."""
    scaleup_technology: str = ""
    scaleup_bandwidth: BytesPerSecond
    """Bandwidth of one device into the scale-up network, per direction."""
    scaleup_domain: Annotated[int, Field(ge=1)] = 1
    """Devices in one scale-up network: tensor parallelism does not leave it."""
    scaleup_topology: str = ""
    scaleout_bandwidth: BytesPerSecond
    """Network bandwidth of one device between servers, per direction."""
    server_accelerators: Annotated[int, Field(ge=1)] = 1
    """Devices in the unit that is bought: 8 of an HGX server, 72 of an NVL72 rack, 1 PCIe card."""
    host_accelerators: Annotated[int, Field(ge=1)] | None = None
    """Devices of one host where that unit is a rack of them whose scale-up network joins its hosts: 4 in a tray of an
    NVL72; None: the unit is one host."""
    die_area_mm2: Positive | None = None
    weight_capacity: Bytes | None = None
    """Bytes of a second memory that holds all weights and nothing else (flash beside HBM); None: there is none,
    weights and KV cache share `memory_capacity`."""
    weight_bandwidth: BytesPerSecond | None = None
    """Bandwidth of that second memory."""
    inherits: str | None = None
    """Catalogue id of a relative whose measured efficiencies and energies it takes: for parts that were not built
    or measured."""
    derate: Annotated[float, Field(gt=0, le=1.5)] = 1.0
    """Efficiency over the relative's, of compute and memory alike."""
    byte_energy_factor: Positive = 1.0
    """Energy of a byte from memory over the relative's."""
    flop_energy_factor: Positive = 1.0
    """Energy of an operation over the relative's."""
    sources: Sources = Field(default_factory=dict)
    """Source codes by group of fields (compute, memory, power, link)."""
    date: str = ""
    """Month in which the facts were compiled."""
    confidence: str = ""
    """high, medium or low."""
    assumptions: tuple[str, ...] = ()
    """Values above that no source gives."""
    notes: str = ""

    @model_validator(mode="after")
    def _has_compute(self) -> "Accelerator":
        rates = (self.fp16_flops, self.fp8_flops, self.fp4_flops, self.int8_flops)
        if not any(rates):
            raise ValueError(
                "found no compute rate: expected one of fp16_flops, fp8_flops, fp4_flops, int8_flops"
            )
        if (self.weight_capacity is None) != (self.weight_bandwidth is None):
            raise ValueError("found one of weight_capacity and weight_bandwidth: expected both or neither")
        for field in ("memory_capacity", "memory_bandwidth"):
            if getattr(self, field) <= 0:
                raise ValueError(f"found {field} 0: expected a positive value")
        if self.usable_memory is not None and not 0 < self.usable_memory <= self.memory_capacity:
            raise ValueError(
                f"found usable_memory {self.usable_memory / 2**30:.2f} GiB: expected more than 0 and at most "
                f"memory_capacity, {self.memory_capacity / 2**30:.2f} GiB"
            )
        return self

    @property
    def usable_bytes(self) -> float:
        """Bytes that the driver offers, from the catalogue or by the rule of :data:`USABLE_SHARE`."""
        return self.memory_capacity * USABLE_SHARE if self.usable_memory is None else self.usable_memory


Precision = Literal["bf16", "fp16", "fp8", "int8", "nvfp4", "mxfp4", "int4"]
Tensors = Literal["attention", "output", "linear", "dense", "shared"]
"""Weights that a quantisation config tells apart: projections into softmax attention (with the sparse indexer), out of
it, of recurrent layers, dense MLPs, shared experts."""


class ModelCard(Entry):
    """The dimensions of a language model, as its configuration gives them; 0 where a feature is absent.

    A card of `kind` dense or moe has attention (or linear attention) and an MLP in each of its layers; in the
    `-hybrid` kinds every layer is one of attention, linear (Mamba) or MLP.
    """

    id: str
    """Catalogue id, such as `DeepSeek-V3.2`."""
    hf_id: str = ""
    """Repository on the Hugging Face hub."""
    kind: Literal["dense", "moe", "dense-hybrid", "moe-hybrid"]
    layers: Annotated[int, Field(ge=1)]
    hidden: Annotated[int, Field(ge=1)]
    """Width of the residual stream."""
    heads: Annotated[int, Field(ge=1)]
    kv_heads: Annotated[int, Field(ge=1)]
    """KV heads of full and sliding attention (of MLA: the query heads, its cache is one latent)."""
    head_dim: Count = 0
    """Width of a head; 0 for MLA, whose widths are `qk_nope`, `qk_rope` and `v_head`."""
    dense_intermediate: Count = 0
    """Inner width of the dense MLP."""
    dense_layers: Count = 0
    """Layers with a dense MLP."""
    moe_layers: Count = 0
    """Layers with routed experts."""
    experts: Count = 0
    """Routed experts of one MoE layer."""
    top_k: Count = 0
    """Routed experts that a token visits."""
    shared_experts: Count = 0
    """Experts that every token visits."""
    expert_intermediate: Count = 0
    """Inner width of one routed expert."""
    shared_intermediate: Count = 0
    """Inner width of one shared expert."""
    attention: Literal["mha", "gqa", "mqa", "mla"]
    q_lora: Count = 0
    kv_lora: Count = 0
    """MLA: width of the latent that is cached (with `qk_rope` more for the position)."""
    qk_nope: Count = 0
    qk_rope: Count = 0
    v_head: Count = 0
    vocab: Annotated[int, Field(ge=1)]
    tied_embeddings: bool = False
    full_attention_layers: Count = 0
    sliding_layers: Count = 0
    """Layers that attend to (and hold) the last `sliding_window` tokens only."""
    sliding_window: TokenCount = 0
    linear_layers: Count = 0
    """Layers with a recurrent state of constant size instead of a KV cache."""
    linear_kind: Literal["deltanet", "kda", "mamba2"] | None = None
    linear_k_heads: Count = 0
    """Key heads (Mamba-2: groups)."""
    linear_v_heads: Count = 0
    """Value heads (Mamba-2: heads)."""
    linear_k_dim: Count = 0
    """Key width of a head (Mamba-2: state size)."""
    linear_v_dim: Count = 0
    linear_state_elements_per_sequence: Count = 0
    """Elements of all layers' states for one sequence; 0: linear_layers · v_heads · k_dim · v_dim."""
    linear_conv_kernel: Count = 0
    """Width of the short convolution before a linear layer: its last inputs but one stay with the state; 0: none."""
    max_context: TokenCount
    gated_mlp: bool = True
    """Three matrices an MLP (gate, up, down) rather than two."""
    gated_attention: bool = False
    """An output gate as wide as the queries (Qwen3-Next), or as the values of MLA (Kimi-K3)."""
    linear_full_gate: bool = False
    """Kimi Delta Attention whose output gate is a matrix of full rank (Kimi-K3)."""
    sparse_topk: TokenCount = 0
    """Tokens that sparse attention reads of the cache; 0: it reads all (DeepSeek sparse attention: 2,048)."""
    sparse_index_bytes_per_token_layer: Count = 0
    """Bytes of the sparse indexer's own key cache: 8 bits an element, and a 32-bit scale for each 128 of them."""
    sparse_index_layers: Count = 0
    """Layers with an index of their own: others use one of theirs (GLM-5.2) or attend to all; 0: all full layers."""
    sparse_index_heads: Count = 0
    sparse_index_dim: Count = 0
    moe_latent: Count = 0
    """Width in which routed experts work when it is not `hidden` (latent MoE); else 0."""
    published_total_parameters: Positive | None = None
    published_active_parameters: Positive | None = None
    native_precision: Precision = "bf16"
    """Format of the weights as released."""
    expert_bits: Positive | None = None
    """Bits per expert weight where it differs from `native_precision` (MXFP4 with scales 4.25, INT4 in groups of 32
    4.5); all that are no experts then stay in 16."""
    kept_16_bit: dict[Precision, tuple[Tensors, ...]] = Field(default_factory=dict)
    """Tensors that releases at a precision leave in 16 bits, by the exceptions of their quantisation config."""
    sources: Sources = Field(default_factory=dict)
    date: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _layers_add_up(self) -> "ModelCard":
        attention = self.full_attention_layers + self.sliding_layers + self.linear_layers
        mlp = self.dense_layers + self.moe_layers
        if self.kind.endswith("hybrid"):
            if attention + mlp != self.layers:
                raise ValueError(
                    f"found {attention} attention and linear and {mlp} MLP layers: "
                    f"expected layers = {self.layers} in all"
                )
        else:
            if attention != self.layers:
                raise ValueError(
                    f"found full_attention_layers + sliding_layers + linear_layers = {attention}: "
                    f"expected layers = {self.layers}"
                )
            if mlp != self.layers:
                raise ValueError(f"found dense_layers + moe_layers = {mlp}: expected layers = {self.layers}")
        return self

    @model_validator(mode="after")
    def _features_are_complete(self) -> "ModelCard":
        needed: dict[str, tuple[str, ...]] = {
            "dense_layers": ("dense_intermediate",),
            "moe_layers": ("experts", "top_k", "expert_intermediate"),
            "shared_experts": ("shared_intermediate",),
            "sliding_layers": ("sliding_window",),
            "linear_layers": (
                "linear_kind",
                "linear_v_heads",
                "linear_k_heads",
                "linear_k_dim",
                "linear_v_dim",
            ),
            "sparse_topk": ("sparse_index_heads", "sparse_index_dim"),
        }
        for feature, fields in needed.items():
            for field in fields:
                if getattr(self, feature) and not getattr(self, field):
                    raise ValueError(
                        f"found {feature} = {getattr(self, feature)} without {field}: expected both"
                    )
        if self.attention == "mla":
            for field in ("kv_lora", "qk_nope", "qk_rope", "v_head"):
                if not getattr(self, field):
                    raise ValueError(f"found attention 'mla' without {field}: expected its width")
        elif not self.head_dim:
            raise ValueError("found no head_dim: expected the width of an attention head")
        elif self.heads % self.kv_heads:
            raise ValueError(f"found kv_heads = {self.kv_heads}: expected a divisor of heads = {self.heads}")
        if self.sparse_index_layers > self.full_attention_layers:
            raise ValueError(
                f"found sparse_index_layers = {self.sparse_index_layers}: "
                f"expected at most full_attention_layers = {self.full_attention_layers}"
            )
        if self.top_k > self.experts:
            raise ValueError(f"found top_k = {self.top_k}: expected at most experts = {self.experts}")
        return self


class AcceptanceRecord(Entry):
    """Published acceptance of drafted tokens (speculative decoding) for some models on some text."""

    id: str
    method: Literal["mtp", "eagle", "eagle3", "draft-model", "ngram"]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Ids of model cards."""
    checkpoint: str = ""
    """Repository of the draft's weights on the Hugging Face hub; empty where the model has them itself."""
    draft_tokens: Annotated[int, Field(ge=1)]
    """Drafted in each step where it was measured."""
    acceptance: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    """By position, each where those before it were accepted."""
    accepted_length: Annotated[float, Field(ge=1)] | None = None
    """Mean tokens that a step emits."""
    text: str
    """What was generated."""
    source: str
    date: str
    license: str
    notes: str = ""

    @model_validator(mode="after")
    def _one_figure(self) -> "AcceptanceRecord":
        if bool(self.acceptance) == (self.accepted_length is not None):
            raise ValueError("found neither or both of acceptance and accepted_length: expected one of them")
        return self


class MemoryTier(Entry):
    """A kind of memory beside or below the accelerator: the value that is used, and the published range."""

    id: str
    name: str
    year: int | None = None
    unit: str
    """What one unit is: a stack, a DIMM, a drive."""
    capacity: Bytes | None = None
    """Bytes of one unit."""
    capacity_range: str = ""
    bandwidth: BytesPerSecond | None = None
    """Bandwidth of one unit, in the direction of `bandwidth_direction`."""
    bandwidth_range: str = ""
    bandwidth_direction: str = ""
    """`read + write` (shared), `each direction` (both at once), `read` (then `write_bandwidth` is its own)."""
    write_bandwidth: BytesPerSecond | None = None
    """Bandwidth of one unit for writes, where it differs."""
    holds: tuple[Literal["parked", "active", "weights"], ...] = ("parked",)
    """What it is fit to hold: KV between calls, KV that decode steps read, weights (no KV where it cannot bear
    the writes)."""
    energy_pj_per_bit: NonNegative | None = None
    energy_range: str = ""
    latency: Seconds | None = None
    price: UsdPerByte | None = None
    price_date: str = ""
    """Date of the price with its range: memory prices move by factors within a year."""
    sources: Sources = Field(default_factory=dict)
    date: str = ""
    confidence: str = ""
    assumptions: tuple[str, ...] = ()
    notes: str = ""


class Link(Entry):
    """A kind of link between devices: the value that is used, and the published range."""

    id: str
    name: str
    kind: Literal["electrical", "optical"]
    year: int | None = None
    unit: str
    """What one unit is: all links of a GPU, a port, a chiplet."""
    bandwidth: BytesPerSecond
    """Bandwidth of one unit, in the direction of `bandwidth_direction`."""
    bandwidth_range: str = ""
    bandwidth_direction: str = "per direction"
    energy_pj_per_bit: NonNegative | None = None
    energy_range: str = ""
    latency: Seconds | None = None
    usd_per_gbps: NonNegative | None = None
    """Dollars for one Gb/s of injection bandwidth."""
    price_date: str = ""
    sources: Sources = Field(default_factory=dict)
    date: str = ""
    confidence: str = ""
    assumptions: tuple[str, ...] = ()
    notes: str = ""


Written = str | int | float
"""A value in the words of a problem file: a number, or a text with a unit."""


class WorkloadPreset(Entry):
    """An agent workload: how its calls look, in the words of a task of the problem file.

    A distribution is written by what is known of it, such as {p50, p90} or {mean, p90}.
    """

    id: str
    name: str
    calls: dict[str, Written]
    """LLM calls of one task."""
    context: dict[str, Written]
    """Tokens in the prompt of a call, cached ones included."""
    append: dict[str, Written]
    """Tokens that are new in the prompt of a call."""
    output: dict[str, Written]
    """Tokens generated by a call."""
    tool_wait: dict[str, Written]
    """Time between two calls of a task (tool, or a person who reads)."""
    prefix: dict[str, Written]
    """`shared`: tokens of a prefix that sessions share; `reusable`: fraction of the context seen before."""
    assumption: bool = False
    """Weakly grounded as a whole: use it as a placeholder for one's own numbers."""
    sources: Sources
    """Source by field."""
    date: str
    assumptions: tuple[str, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _values_parse(self) -> "WorkloadPreset":
        kinds = {"context": "tokens", "append": "tokens", "output": "tokens", "tool_wait": "time"}
        for field, kind in kinds.items():
            for value in getattr(self, field).values():
                parse_quantity(value, kind)
        for value in self.calls.values():
            if isinstance(value, str) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"found calls of {value!r}: expected a positive number")
        parse_quantity(self.prefix["shared"], "tokens")
        parse_quantity(self.prefix["reusable"], "fraction")
        return self

    def task_fields(self) -> dict[str, dict[str, Written]]:
        """The fields that a task of a problem file takes over from this preset."""
        names = ("calls", "context", "append", "output", "tool_wait", "prefix")
        return {name: dict(getattr(self, name)) for name in names}


class PriceList(Entry):
    """Prices of one kind from one source at one date."""

    id: str
    date: datetime.date
    source: str
    currency: Literal["USD"] = "USD"
    includes_power: bool
    """Whether electricity and hosting are in the price (then no electricity is added)."""
    entries: dict[str, UsdPerHour]
    """Price of one accelerator for an hour, by catalogue id."""
    dates: dict[str, datetime.date] = Field(default_factory=dict)
    """Date of an entry that differs from the list's own."""
    basis: dict[str, str] = Field(default_factory=dict)
    """What the price of an entry is: tier, region, term, range."""
    unverified: tuple[str, ...] = ()
    """Entries that come from memory and were not looked up."""
    notes: str = ""

    @model_validator(mode="after")
    def _remarks_have_prices(self) -> "PriceList":
        strangers = ({*self.dates} | {*self.basis} | {*self.unverified}) - {*self.entries}
        if strangers:
            raise ValueError(f"found remarks on {sorted(strangers)}: expected ids of `entries`")
        return self


E = TypeVar("E", bound=Entry)


def override(entry: E, changes: Mapping[str, Any]) -> E:
    """A copy of an entry with some fields set anew, in the words of a data file, and validated as a whole.

    `override(accelerators()["h200-sxm"], {"memory_capacity": "192 GB"})`; what isn't named keeps its value.

    Raises:
        pydantic.ValidationError: an unknown field, an unreadable value, or fields that contradict each other.
    """
    si_fields = frozenset(entry.model_dump()) - frozenset(changes)
    return type(entry).model_validate(
        merged(entry, changes), context=MappingProxyType({"si_fields": si_fields})
    )


def merged(entry: Entry, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry with some set anew; of a memory of another size a driver offers the same share."""
    kept = entry.model_dump()
    usable, capacity = kept.get("usable_memory"), changes.get("memory_capacity")
    if usable is not None and capacity is not None:
        size = parse_quantity(capacity, "bytes") if isinstance(capacity, str) else float(capacity)
        kept["usable_memory"] = usable / kept["memory_capacity"] * size
    return kept | dict(changes)
