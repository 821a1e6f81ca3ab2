"""The tensor parallelism that a system of unpublished shape is taken to run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from codesign.catalog import Accelerator, ModelCard, accelerators, models
from codesign.performance import PRECISIONS, ConfigurationTable, kv_capacity_bytes, memory_share

FREE_SHARE = 0.25
"""Share of memory that a replica leaves for its KV cache."""


def assumed_tp(card: ModelCard, accelerator: Accelerator, weights: str, count: int) -> int:
    """Smallest power of two up to ``count`` accelerators that leaves a quarter of memory to the KV cache.

    What throughput benchmarks do; the largest one where none does.
    """
    return _assumed_tp(card.id, accelerator.id, weights, count)


@lru_cache(maxsize=256)
def _assumed_tp(card: str, accelerator: str, weights: str, count: int) -> int:
    part = accelerators()[accelerator]
    sizes = 2 ** np.arange(int(np.log2(min(count, max(part.scaleup_domain, 1)))) + 1)
    zeros, ones = np.zeros_like(sizes), np.ones_like(sizes)
    precision = np.full_like(sizes, PRECISIONS.index(weights))
    table = ConfigurationTable(
        (part,), (models()[card],), zeros, zeros, precision, precision, precision, sizes, ones, ones, ones
    )
    memory = part.usable_bytes * memory_share(table)[0] * sizes
    roomy = kv_capacity_bytes(table) >= FREE_SHARE * memory
    return int(sizes[np.argmax(roomy)] if roomy.any() else sizes[-1])
