"""Agent tasks become calls, and model cards become parameters, FLOPs, bytes and footprint."""

from codesign.workload.intensity import (
    Formats,
    Work,
    cf_device,
    cf_request,
    decode_work,
    distinct_experts,
    prefill_work,
)
from codesign.workload.kvcache import kv_bytes, kv_read_bytes, kv_replication, max_context_tokens
from codesign.workload.parameters import ParameterCounts, parameter_counts, precision_bits, weight_bytes
from codesign.workload.population import CallPopulation, call_population, held_seconds, kept_probability
from codesign.workload.profile import Profile, littles_law, profile
from codesign.workload.regime import Unit, peak_flops

__all__ = [
    "CallPopulation",
    "Formats",
    "ParameterCounts",
    "Profile",
    "Unit",
    "Work",
    "call_population",
    "cf_device",
    "cf_request",
    "decode_work",
    "distinct_experts",
    "held_seconds",
    "kept_probability",
    "kv_bytes",
    "kv_read_bytes",
    "kv_replication",
    "littles_law",
    "max_context_tokens",
    "parameter_counts",
    "peak_flops",
    "precision_bits",
    "prefill_work",
    "profile",
    "weight_bytes",
]
