"""Agent tasks become calls, and model cards become parameters, FLOPs, bytes and footprint."""

from codesign.workload.kvcache import kv_bytes, kv_read_bytes, kv_replication, max_context_tokens
from codesign.workload.parameters import ParameterCounts, parameter_counts, precision_bits, weight_bytes
from codesign.workload.population import CallPopulation, call_population, held_seconds, kept_probability

__all__ = [
    "CallPopulation",
    "ParameterCounts",
    "call_population",
    "held_seconds",
    "kept_probability",
    "kv_bytes",
    "kv_read_bytes",
    "kv_replication",
    "max_context_tokens",
    "parameter_counts",
    "precision_bits",
    "weight_bytes",
]
