"""Configurations per second that the performance model evaluates, decode and prefill counted as one.

Every configuration is evaluated in full: per-rank shapes built, memory checked, one decode step with the
attention of its batch, one prefill. Blocks of the table are spread over threads (numpy releases the GIL).

    python scripts/bench_performance.py --configurations 400000 --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from codesign.catalog import accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    decode_attention_seconds,
    decode_step_seconds,
    kv_capacity_bytes,
    prefill_seconds,
)

ACCELERATORS = (
    "a100-80-sxm",
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "gb200-nvl72",
    "mi300x",
    "mi355x",
    "tpu-v6e",
)
MODELS = ("Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-235B-A22B", "DeepSeek-V3.2", "gpt-oss-120b", "Gemma-3-27B")
PRECISION_SETS = (
    ("bf16", "bf16", "bf16"),
    ("fp8", "fp8", "fp8"),
    ("fp8", "bf16", "fp8"),
    ("int4", "bf16", "bf16"),
)
SHAPES = tuple(
    (tp, pp, ep, dp)
    for tp, pp, dp in itertools.product((1, 2, 4, 8), (1, 2, 4), (1, 2, 4, 8))
    for ep in (1, tp * dp)
)


def build(count: int) -> ConfigurationTable:
    """``count`` configurations: the product of parts, precisions and shapes, repeated."""
    parts = itertools.product(range(len(ACCELERATORS)), range(len(MODELS)), PRECISION_SETS, SHAPES)
    rows = np.array([(a, m, *(PRECISIONS.index(p) for p in ps), *shape) for a, m, ps, shape in parts])
    columns = np.resize(rows, (count, rows.shape[1])).T
    return ConfigurationTable(
        [accelerators()[name] for name in ACCELERATORS], [models()[name] for name in MODELS], *columns
    )


def evaluate(table: ConfigurationTable) -> float:
    """One decode step of 64 sequences at 4K tokens and one prefill of 2K behind 8K; returns a checksum."""
    capacity = kv_capacity_bytes(table)
    step = decode_step_seconds(table, 64.0) + 64.0 * decode_attention_seconds(table, 4096.0)
    prefill = prefill_seconds(table, 2048.0, 8192.0)
    return float(step.sum() + prefill.sum() + (capacity > 0).sum())


def main() -> None:
    """Print configurations per second."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=int, default=400_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block", type=int, default=4096, help="configurations evaluated at a time")
    arguments = parser.parse_args()
    table = build(arguments.configurations)
    table.take(slice(0, 1))  # per-part arrays, as any table has them after its first use
    blocks = [slice(i, i + arguments.block) for i in range(0, len(table), arguments.block)]
    start = time.perf_counter()
    with ThreadPoolExecutor(arguments.threads) as pool:
        list(pool.map(lambda block: evaluate(table.take(block)), blocks))
    seconds = time.perf_counter() - start
    print(f"{len(table):,} configurations in {seconds:.2f} s: {len(table) / seconds:,.0f} configurations/s")


if __name__ == "__main__":
    main()
