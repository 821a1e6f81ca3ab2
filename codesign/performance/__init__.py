"""Seconds, bytes and joules of one replica, for many configurations at once.

Times in :mod:`~codesign.performance.latency`, bytes, FLOPs and admissibility in
:mod:`~codesign.performance.footprint`, power in :mod:`~codesign.performance.energy`, trust in
:mod:`~codesign.performance.confidence`, waiting in :mod:`~codesign.performance.queueing`. The constants with
their sources stand in ``data/constants.toml``.
"""

from codesign.performance.attached import AttachedMemory
from codesign.performance.confidence import calibration, expected_error
from codesign.performance.engine_memory import EngineMemory, memory_share, rank_sequences, step_tokens, workspace_bytes
from codesign.performance.footprint import (
    bandwidth_share,
    decode_flops,
    decode_weight_bytes,
    fits,
    kv_bytes,
    kv_capacity_bytes,
    kv_read_bytes,
    kv_transfer_bytes,
    link_bytes_per_s,
    precision_supported,
    prefill_flops,
    shape_valid,
    weight_bytes,
)
from codesign.performance.latency import (
    cached_prefill_range,
    decode_attention_seconds,
    decode_step_seconds,
    first_token_seconds,
    prefill_attention_seconds,
    prefill_occupancy_seconds,
    prefill_seconds,
)
from codesign.performance.parts import PRECISIONS
from codesign.performance.table import ConfigurationTable

__all__ = [
    "PRECISIONS",
    "AttachedMemory",
    "ConfigurationTable",
    "EngineMemory",
    "bandwidth_share",
    "cached_prefill_range",
    "calibration",
    "decode_attention_seconds",
    "decode_flops",
    "decode_step_seconds",
    "decode_weight_bytes",
    "expected_error",
    "first_token_seconds",
    "fits",
    "kv_bytes",
    "kv_capacity_bytes",
    "kv_read_bytes",
    "kv_transfer_bytes",
    "link_bytes_per_s",
    "memory_share",
    "precision_supported",
    "prefill_attention_seconds",
    "prefill_flops",
    "prefill_occupancy_seconds",
    "prefill_seconds",
    "rank_sequences",
    "shape_valid",
    "step_tokens",
    "weight_bytes",
    "workspace_bytes",
]
