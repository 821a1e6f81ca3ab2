"""Facts of accelerators and model cards as arrays, one entry per part: computed once, then gathered by index.

All quantities in SI; fields keep the catalogue's words. Unknown peaks and links are 0 here, which the
admissibility masks of :mod:`codesign.performance.footprint` turn into "no".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from codesign.catalog import accelerators as catalogue
from codesign.catalog.schema import Tensors
from codesign.performance.constants import Constants, constants
from codesign.workload.kvcache import kv_elements_per_token_layer, linear_state_elements, state_bytes
from codesign.workload.parameters import (
    elements,
    index_layers,
    linear_attention_matrices,
    precision_bits,
    tensor_bits,
    weight_bits,
)

if TYPE_CHECKING:
    from codesign.catalog import Accelerator, ModelCard

FloatArray = NDArray[np.float64]

PRECISIONS = ("bf16", "fp16", "fp8", "int8", "nvfp4", "mxfp4", "int4")
"""Names behind the precision indices of a configuration table."""

PRECISION_BYTES: FloatArray = np.array([precision_bits(name) / 8.0 for name in PRECISIONS])
"""Stored bytes of one element, block scales included."""

GEMM_CLASSES = ("bf16", "fp8", "nvfp4", "fp8_tensor")
_ACTIVATION_CLASS = {"bf16": 0, "fp16": 0, "fp8": 1, "int8": 1, "nvfp4": 2, "mxfp4": 2, "int4": 2}
GEMM_CLASS = np.array([_ACTIVATION_CLASS[name] for name in PRECISIONS])
"""[activations] → class of the kernels that multiply (weights are converted on the way)."""

TENSOR_CLASS = GEMM_CLASSES.index("fp8_tensor")
"""Class of 8-bit products with one scale a tensor: dense models that were not trained in blocks."""

MOE_CLASSES = ("bf16", "fp8", "nvfp4", "w4a16", "w4a8", "nvfp4_wide")
MOE_CLASS = np.array(
    [
        [activation if PRECISION_BYTES[w] >= 1.0 or activation == 2 else 3 + activation for activation in GEMM_CLASS]
        for w in range(len(PRECISIONS))
    ]
)
"""[weights, activations] → class of the fused expert kernel."""

MOE_WIDE_CLASS = np.array(
    [MOE_CLASSES.index(f"{name}_wide" if f"{name}_wide" in MOE_CLASSES else name) for name in MOE_CLASSES]
)
"""[class] → class of the kernels behind an all-to-all: the same one where they are not known apart."""

KV_CLASSES = ("bf16", "fp8", "nvfp4")
KV_CLASS = GEMM_CLASS

RANK_CLASSES = (2, 4, 8)


def _number(value: float | None) -> float:
    return 0.0 if value is None else float(value)


@dataclass(frozen=True, eq=False)
class AcceleratorArrays:
    """Facts and constants of A accelerators; a constant of c classes has shape [A, c]."""

    peak: FloatArray
    """Dense FLOP/s for activations of each precision [A, precisions]; 0 where the part lacks it."""
    running_peak: FloatArray
    """The same, with the rate of the next wider precision where the part lacks it: never 0."""
    half_peak: FloatArray
    """FLOP/s of what runs in 16 bits whatever the weights (attention, router, head)."""
    index_peak: FloatArray
    """FLOP/s of the sparse indexer: FP8 where there is FP8."""
    bandwidth: FloatArray
    capacity: FloatArray
    """Bytes that the driver offers."""
    weight_bandwidth: FloatArray
    """Of the memory that holds the weights: `bandwidth` where there is no other."""
    weight_capacity: FloatArray
    """Bytes of a memory for weights alone; 0: weights share `capacity`."""
    scaleup: FloatArray
    domain: FloatArray
    mesh_peers: FloatArray
    """Peers among which a full mesh splits the scale-up bandwidth; 0 for switched fabrics and tori."""
    scaleout: FloatArray
    host_step: FloatArray
    host_per_sequence: FloatArray
    prefill_factor: FloatArray
    splits_keys: NDArray[np.bool_]
    """Whether the engine's prefill kernels split the keys of a cached prefix."""
    constants: dict[str, FloatArray]
    """``operator.constant`` → [A, classes of the operator], in seconds, bytes and fractions."""
    tdp: FloatArray
    peak_power: FloatArray

    @staticmethod
    def build(accelerators: Sequence[Accelerator], kernels: Sequence[str] = ()) -> AcceleratorArrays:
        """Arrays of a sequence of catalogue accelerators, each with the kernels of an engine ("": any)."""
        table = constants()
        systems = [table.system(accelerator) for accelerator in accelerators]
        peak = np.array([_peaks(accelerator) for accelerator in accelerators])
        peak *= np.array([[accelerator.derate] for accelerator in accelerators])
        running = _fall_back(peak)
        fp8 = PRECISIONS.index("fp8")
        engine = table.sections["engine"]
        terms = [table.engine_terms(accelerator) for accelerator in accelerators]
        tdp = np.array([tdp_of(accelerator)[0] for accelerator in accelerators])

        def each(value: Callable[[Accelerator], float | None]) -> FloatArray:
            return np.array([_number(value(accelerator)) for accelerator in accelerators])

        derate = each(lambda a: a.derate)
        bandwidth = each(lambda a: a.memory_bandwidth) * derate
        weight_capacity = each(lambda a: a.weight_capacity)
        weight_bandwidth = np.where(weight_capacity > 0, each(lambda a: a.weight_bandwidth) * derate, bandwidth)
        return AcceleratorArrays(
            peak=peak,
            running_peak=running,
            half_peak=running[:, 0],
            index_peak=np.maximum(running[:, fp8], running[:, 0]),
            bandwidth=bandwidth,
            capacity=each(lambda a: a.usable_bytes),
            weight_bandwidth=weight_bandwidth,
            weight_capacity=weight_capacity,
            scaleup=each(lambda a: a.scaleup_bandwidth),
            domain=np.maximum(each(lambda a: a.scaleup_domain), 1.0),
            mesh_peers=each(lambda a: a.scaleup_domain - 1 if "mesh" in (a.scaleup_topology or "") else 0),
            scaleout=each(lambda a: a.scaleout_bandwidth),
            host_step=np.array([(engine["host_step_ms"] + t.get("extra_step_ms", 0.0)) * 1e-3 for t in terms]),
            host_per_sequence=np.full(len(accelerators), engine["host_per_sequence_us"] * 1e-6),
            prefill_factor=np.array([t.get("prefill_factor", 1.0) for t in terms]),
            splits_keys=np.isin(list(kernels or [""] * len(systems)), table.sections["cached_prefix"]["splits_keys"]),
            constants=_operator_constants(
                table, [system for system, _ in systems], kernels or [""] * len(systems)
            ),
            tdp=tdp,
            peak_power=np.array(
                [
                    _number(a.all_in_power) or table.sections["power"]["peak_over_tdp"] * t
                    for a, t in zip(accelerators, tdp, strict=True)
                ]
            ),
        )


def _peaks(accelerator: Accelerator) -> list[float]:
    sixteen, eight = _number(accelerator.fp16_flops), _number(accelerator.fp8_flops)
    four, integer = _number(accelerator.fp4_flops), _number(accelerator.int8_flops)
    by_name = {"bf16": sixteen, "fp16": sixteen, "fp8": eight, "int8": integer, "nvfp4": four, "mxfp4": four}
    return [by_name.get(name, 0.0) for name in PRECISIONS]


def _fall_back(peak: FloatArray) -> FloatArray:
    """Fill missing peaks: each precision from the next wider one, 16 bits from whatever the part has.

    A part without 16-bit units is taken to run them at half its 8-bit or a quarter of its 4-bit rate, as
    parts that have both do (an assumption).
    """
    filled = peak.copy()
    equivalent = (peak * np.floor(8.0 * PRECISION_BYTES) / 16.0).max(axis=1, keepdims=True)
    filled[:, :2] = np.where(peak[:, :2] > 0, peak[:, :2], equivalent)
    for wider, names in (("bf16", ("fp8", "int8")), ("fp8", ("nvfp4", "mxfp4", "int4"))):
        for name in names:
            column = PRECISIONS.index(name)
            filled[:, column] = np.where(peak[:, column] > 0, peak[:, column], filled[:, PRECISIONS.index(wider)])
    return filled


def tdp_of(accelerator: Accelerator) -> tuple[float, str]:
    """TDP in W of the device alone, and where it comes from if it is not published ("" where it is).

    What publishes none: its all-in power over what that is of a TDP; else watts per FLOP/s of its dense 16-bit peak; a
    part without 16-bit units takes those of a relative of its architecture at the widest precision that both have, else
    the 16-bit figure at half its 8-bit or a quarter of its 4-bit rate. All of these are assumptions.
    """
    power = constants().sections["power"]
    if accelerator.tdp is not None:
        return float(accelerator.tdp), ""
    if accelerator.all_in_power is not None:
        return float(accelerator.all_in_power / power["peak_over_tdp"]), "from its all-in power"
    peaks = np.array(_peaks(accelerator))
    if not peaks[0] > 0:
        for relative in catalogue().values():
            if relative.architecture == accelerator.architecture and relative.tdp is not None:
                common = np.flatnonzero((peaks > 0) & (np.array(_peaks(relative)) > 0))
                if len(common):
                    of_relative = _peaks(relative)[common[0]]
                    return float(relative.tdp * peaks[common[0]] / of_relative), f"from {relative.id}'s watts per FLOP"
    sixteen = float(_fall_back(peaks[None, :])[0, 0])
    return float(power["tdp_joules_per_flop"]) * sixteen, "from its 16-bit peak"


_CLASSES: dict[str, tuple[str, ...]] = {
    "gemm": GEMM_CLASSES,
    "moe": MOE_CLASSES,
    "prefill_attention": KV_CLASSES,
    "decode_attention": KV_CLASSES,
    "mla_prefill": KV_CLASSES,
    "mla_decode": KV_CLASSES,
    "all_reduce": tuple(str(ranks) for ranks in RANK_CLASSES),
    "mla_absorb": ("",),
    "exchange_low_latency": ("node",),
    "exchange_throughput": ("node",),
    "recurrent_decode": ("",),
    "recurrent_prefill": ("",),
    "sparse_index": ("",),
}
_UNITS = {"t0_us": 1e-6, "lat_us": 1e-6, "k0_kb": 1e3, "r0": 1e3}
_NOT_CONSTANTS = ("ranks", "median_pct", "p90_pct")


def _operator_constants(table: Constants, systems: Sequence[str], kernels: Sequence[str]) -> dict[str, FloatArray]:
    arrays: dict[str, FloatArray] = {}
    for operator, classes in _CLASSES.items():
        rows = [
            [table.row(operator, system, key, engine) for key in classes]
            for system, engine in zip(systems, kernels, strict=True)
        ]
        names = [
            name for name, value in rows[0][0].items() if isinstance(value, float | int) and name not in _NOT_CONSTANTS
        ]
        for name in names:
            values = [[float(row[name]) * _UNITS.get(name, 1.0) for row in by_class] for by_class in rows]
            arrays[f"{operator}.{name.removesuffix('_us').removesuffix('_kb')}"] = np.array(values)
    return arrays


@dataclass(frozen=True, eq=False)
class CardArrays:
    """Shapes of C model cards as floats [C], with the derived widths that the operators need."""

    values: dict[str, FloatArray]
    """Fields of the card and widths derived from them, by name (see ``_card_values``)."""
    expert_bytes: FloatArray
    """Stored bytes of a routed expert's element [C, precisions]."""
    other_bytes: FloatArray
    """Stored bytes of any other linear layer's element [C, precisions]."""
    kept: dict[Tensors, NDArray[np.bool_]]
    """Tensors that stay in 16 bits at a precision of the others [C, precisions]."""

    @staticmethod
    def build(cards: Sequence[ModelCard]) -> CardArrays:
        """Arrays of a sequence of model cards."""
        columns = [_card_values(card) for card in cards]
        bits = np.array([[weight_bits(card, name) for name in PRECISIONS] for card in cards])
        return CardArrays(
            values={name: np.array([column[name] for column in columns]) for name in columns[0]},
            expert_bytes=bits[:, :, 0] / 8.0,
            other_bytes=bits[:, :, 1] / 8.0,
            kept={
                name: np.array([[tensor_bits(c, p, name) > weight_bits(c, p)[1] for p in PRECISIONS] for c in cards])
                for name in get_args(Tensors)
            },
        )


def _card_values(card: ModelCard) -> dict[str, float]:
    mla = card.attention == "mla"
    attention_layers = card.full_attention_layers + card.sliding_layers
    moe = card.moe_layers > 0
    return {
        "layers": card.layers,
        "hidden": card.hidden,
        "heads": card.heads,
        "kv_heads": max(card.kv_heads, 1),
        "head_dim": card.head_dim,
        "vocab": card.vocab,
        "untied": 0.0 if card.tied_embeddings else 1.0,
        "block_scales": float(card.native_precision == "fp8" or moe),
        "mla": float(mla),
        "q_lora": card.q_lora,
        "kv_lora": card.kv_lora,
        "qk_nope": card.qk_nope,
        "qk_rope": card.qk_rope,
        "v_head": card.v_head,
        "gated_q": 2.0 if card.gated_attention else 1.0,
        "gated_mla": float(mla and card.gated_attention),
        "full": card.full_attention_layers,
        "sliding": card.sliding_layers,
        "window": card.sliding_window,
        "attention_layers": attention_layers,
        "linear": card.linear_layers,
        "dense": card.dense_layers,
        "moe": card.moe_layers,
        "mixers": attention_layers + card.linear_layers,
        "mlp_inputs": 2.0 if card.gated_mlp else 1.0,
        "dense_width": card.dense_intermediate if card.dense_layers else 0,
        "experts": max(card.experts, 1) if moe else 1,
        "top_k": card.top_k if moe else 0,
        "expert_hidden": (card.moe_latent or card.hidden) if moe else 0,
        "expert_width": card.expert_intermediate if moe else 0,
        "shared_width": card.shared_intermediate * card.shared_experts if moe else 0,
        "latent": card.moe_latent if moe else 0,
        "kv_elements": kv_elements_per_token_layer(card) if attention_layers else 0,
        "state_elements": linear_state_elements(card) if card.linear_layers else 0,
        "state_bytes": state_bytes(card) if card.linear_layers else 0.0,
        # All input projections of a linear layer as one product of the same elements.
        "linear_inputs": elements(linear_attention_matrices(card)[:-1]) / card.hidden,
        "values": card.linear_v_heads * card.linear_v_dim,
        "state_heads": max(card.linear_v_heads, 1),
        # Share of full layers that have an index of their own.
        "sparse": index_layers(card) / max(card.full_attention_layers, 1) if card.sparse_topk else 0.0,
        "attended": card.sparse_topk if card.sparse_topk else np.inf,
        "index_bytes": card.sparse_index_bytes_per_token_layer,
        "index_heads": card.sparse_index_heads,
        "index_dim": card.sparse_index_dim,
    }
