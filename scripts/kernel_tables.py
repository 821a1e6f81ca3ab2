"""Kernel tables of ``aiconfigurator-core`` as arrays in SI units: what each kernel did and how long it took.

The tables (Apache-2.0, NVIDIA) are a development dependency: ``pip download aiconfigurator-core --no-deps``,
unzip the wheel, and name its folder ``aiconfigurator_core/systems/data``. Latencies there are ms a call; the
message of an all-reduce is in elements; the KV length of a decode kernel is isl + step.
``silicon_sample.csv`` (measured serving rows) is never read.

Each loader keeps the shapes that models of the catalogue have (its docstring says which), of the newest
version of a backend that has the class, and where one backend timed the same call with several kernels the
fastest one, as its autotuner would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from codesign.catalog import accelerators

FloatArray = NDArray[np.float64]

GENERATIONS = {
    "ampere": ("a100_sxm",),
    "ada": ("l40s",),
    "hopper": ("h100_sxm", "h200_sxm"),
    "blackwell": ("b200_sxm", "gb200"),
    "blackwell_ultra": ("b300_sxm", "gb300"),
}
"""Systems of the tables that share one set of constants."""

PARTS = {
    "a100_sxm": "a100-80-sxm",
    "l40s": "l40s",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200-nvl72",
    "gb300": "gb300-nvl72",
}
"""System → accelerator of the catalogue, to whose peaks the fractions refer."""

BACKENDS = ("trtllm", "sglang", "vllm")

_DTYPES = {"bfloat16": "bf16", "float16": "bf16", "fp8_block": "fp8", "fp8": "fp8_tensor"}
_MOE_DTYPES = {**_DTYPES, "w4a16_mxfp4": "w4a16", "w4a8_mxfp4_mxfp8": "w4a8", "nvfp4": "nvfp4"}
_BYTES = {"bf16": 2.0, "nvfp4": 0.5625, "w4a16": 0.53125, "w4a8": 0.53125}

Frames = Iterator[tuple[str, str, pd.DataFrame]]


@dataclass(frozen=True, eq=False)
class KernelTable:
    """Rows of one operator on one system (or several, joined) by one backend, in one class."""

    operator: str
    system: str
    backend: str
    version: str
    key: str
    """Data type, or number of ranks."""
    columns: dict[str, FloatArray]
    """Facts of each call and of the part: ``peak``, ``half``, ``index`` (FLOP/s), ``bandwidth``, ``link``."""
    seconds: FloatArray

    def __len__(self) -> int:
        """Rows."""
        return len(self.seconds)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> KernelTable:
        """Some of the rows."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return replace(self, columns=columns, seconds=self.seconds[index])


def joined(tables: list[KernelTable], rows: int, seed: int) -> KernelTable:
    """At most ``rows`` rows, the same number drawn of each table, with the peaks of their own parts."""
    generator = np.random.default_rng(seed)
    each = max(rows // len(tables), 1)
    drawn = [t.take(np.sort(generator.permutation(len(t))[:each])) for t in tables]
    columns = {name: np.concatenate([t.columns[name] for t in drawn]) for name in drawn[0].columns}
    seconds = np.concatenate([t.seconds for t in drawn])
    versions = sorted({t.version for t in tables})
    return replace(
        tables[0],
        system="+".join(t.system for t in tables),
        version="+".join(versions),
        columns=columns,
        seconds=seconds,
    )


@cache
def load(folder: Path, operator: str, system: str, backend: str) -> tuple[KernelTable, ...]:
    """The tables of an operator on a system by a backend, one for each class; none where there is no file."""
    part = accelerators()[PARTS[system]]
    half = float(part.fp16_flops or 0.0)
    eight = float(part.fp8_flops or half)
    peaks = {"fp8": eight, "fp8_tensor": eight, "w4a8": eight, "nvfp4": float(part.fp4_flops or half)}
    tables = []
    for key, version, frame in LOADERS[operator](folder, system, backend):
        calls = frame.groupby([c for c in frame if c != "ms"], as_index=False)["ms"].min()
        calls = calls[np.isfinite(calls["ms"]) & (calls["ms"] > 0)]
        columns = {c: calls[c].to_numpy(dtype=float) for c in calls if c != "ms"}
        facts = {
            "peak": half
            if operator.startswith(("mla", "prefill", "decode"))
            else peaks.get(key.removesuffix("_wide"), half),
            "half": half,
            "index": eight,
            "bandwidth": float(part.memory_bandwidth or 0.0),
            "link": float(part.scaleup_bandwidth or 0.0),
            "scaleout": float(part.scaleout_bandwidth or 0.0),
        }
        columns |= {name: np.full(len(calls), value) for name, value in facts.items()}
        seconds = calls["ms"].to_numpy(dtype=float) * 1e-3
        tables.append(KernelTable(operator, system, backend, version, key, columns, seconds))
    return tuple(tables)


def _versions(folder: Path, system: str, kind: str, backend: str, name: str) -> list[tuple[str, pd.DataFrame]]:
    """Every version of a table, newest first."""

    def order(path: Path) -> tuple[int, ...]:
        digits = "".join(c if c.isdigit() else " " for c in path.parent.name)
        return tuple(int(part) for part in digits.split())

    found = sorted((folder / system / kind / backend).glob(f"*/{name}_perf.parquet"), key=order, reverse=True)
    return [(path.parent.name, pd.read_parquet(path)) for path in found]


def _gemm(folder: Path, system: str, backend: str) -> Frames:
    """N, K ≥ 256: what a rank of a model multiplies."""
    for version, data in _versions(folder, system, "gemm", backend, "gemm")[:1]:
        data = data[(data.n >= 256) & (data.k >= 256)]
        for dtype, rows in data.groupby("gemm_dtype"):
            key = _DTYPES.get(str(dtype), str(dtype))
            if key in ("bf16", "fp8", "fp8_tensor", "nvfp4"):
                facts = {"m": rows.m, "n": rows.n, "k": rows.k, "size": _BYTES.get(key, 1.0)}
                yield key, version, pd.DataFrame({**facts, "ms": rows.latency})


def _attention(name: str) -> Callable[[Path, str, str], Frames]:
    prefill = name == "context_attention"

    def frames(folder: Path, system: str, backend: str) -> Frames:
        """Heads of 64, 128, 256; at most 16 query heads per KV head; prompts of 16 tokens to 128K in all."""
        for version, data in _versions(folder, system, "attention", backend, name)[:1]:
            kv_heads = data.num_key_value_heads.where(data.num_key_value_heads > 0, data.num_heads)
            length = data.isl + data.step
            window = data.window_size if "window_size" in data else pd.Series(0, index=data.index)
            keep = data.head_dim.isin((64, 128, 256)) & (data.num_heads <= 16 * kv_heads) & (window == 0)
            keep &= (data.num_heads >= 2) | ~pd.Series(prefill, index=data.index)
            if prefill:
                keep &= (data.isl >= 16) & (data.batch_size <= 64) & (data.batch_size * data.isl <= 131072)
            frame = pd.DataFrame(
                {
                    "batch": data.batch_size,
                    "length": length,
                    "heads": data.num_heads,
                    "kv_heads": kv_heads,
                    "dim": data.head_dim,
                    "ms": data.latency,
                }
            )[keep]
            cache_dtype, query_dtype = data.kv_cache_dtype[keep], data.attn_dtype[keep]
            for key, names in (("bf16", ("bfloat16", "float16")), ("fp8", ("fp8",))):
                rows = cache_dtype.isin(names)
                # Where 8-bit caches were timed with 8-bit queries too, engines run those.
                narrow = rows & (query_dtype == "fp8")
                chosen = frame[narrow if narrow.any() else rows]
                if len(chosen):
                    yield key, version, chosen.assign(size=2.0 if key == "bf16" else 1.0)

    return frames


def _mla(name: str) -> Callable[[Path, str, str], Frames]:
    def frames(folder: Path, system: str, backend: str) -> Frames:
        """Prompts of 16 tokens or more in batches of at most 64; every decode row."""
        for version, data in _versions(folder, system, "mla", backend, name)[:1]:
            if name == "context_mla":
                data = data[(data.isl >= 16) & (data.batch_size <= 64)]
            for dtype, rows in data.groupby("kv_cache_dtype"):
                key = "bf16" if str(dtype) in ("bfloat16", "float16") else "fp8"
                facts = {
                    "batch": rows.batch_size,
                    "length": rows.isl + rows.step,
                    "heads": rows.num_heads,
                    "size": 2.0 if key == "bf16" else 1.0,
                }
                yield key, version, pd.DataFrame({**facts, "ms": rows.latency})

    return frames


def _moe(folder: Path, system: str, backend: str) -> Frames:
    """Gated experts under the skewed ("power law") distributions, two experts or more on a rank."""
    seen: set[str] = set()
    for version, data in _versions(folder, system, "moe", backend, "moe"):
        keep = data.distribution.str.startswith("power_law_1.2")
        keep &= ~data.kernel_source.str.contains("nongated|situ") & (data.num_experts >= 2 * data.moe_ep_size)
        for dtype, rows in data[keep].groupby("moe_dtype"):
            key = _MOE_DTYPES.get(str(dtype), "")
            if not key or key in seen or len(rows) < 150:
                continue
            seen.add(key)
            facts = {
                "tokens": rows.num_tokens,
                "hidden": rows.hidden_size,
                "width": rows.inter_size / rows.moe_tp_size,
                "top_k": rows.topk,
                "experts": rows.num_experts,
                "ep": rows.moe_ep_size,
                "size": _BYTES.get(key, 1.0),
            }
            yield key, version, pd.DataFrame({**facts, "ms": rows.latency})
    yield from _wide_moe(folder, system, backend)


def _wide_moe(folder: Path, system: str, backend: str) -> Frames:
    """TensorRT-LLM's experts behind an all-to-all in 4 bits, another kernel; placed evenly, none of them twice."""
    versions = _versions(folder, system, "moe", backend, "wideep_moe") if backend == "trtllm" else []
    for version, data in versions[:1]:
        keep = data.distribution.str.startswith("power_law_1.2_eplb") & (data.num_slots == data.num_experts)
        rows = data[keep & (data.moe_dtype == "nvfp4") & (data.num_experts >= 2 * data.moe_ep_size)]
        facts = {
            "tokens": rows.num_tokens,
            "hidden": rows.hidden_size,
            "width": rows.inter_size / rows.moe_tp_size,
            "top_k": rows.topk,
            "experts": rows.num_experts,
            "ep": rows.moe_ep_size,
            "size": _BYTES["nvfp4"],
        }
        if len(rows):
            yield "nvfp4_wide", version, pd.DataFrame({**facts, "ms": rows.latency})


def _all_reduce(folder: Path, system: str, backend: str) -> Frames:
    """Messages of 2 kB to 128 MB (a token of 1,024 elements to 8K tokens of 8K), in captured graphs."""
    for version, data in _versions(folder, system, "comm", backend, "custom_allreduce")[:1]:
        if "backend" in data:
            data = data[data.backend.str.endswith("graph")]
        size = 2.0 * data.message_size
        data = data[(size >= 2e3) & (size <= 1.4e8)]
        for ranks, rows in data.groupby("num_gpus"):
            # Eight ranks of an NVL72 span trays and take another algorithm: no class of their own here.
            if ranks > (4 if system.startswith("gb") else 8):
                continue
            facts = {"bytes": 2.0 * rows.message_size, "ranks": rows.num_gpus}
            yield str(ranks), version, pd.DataFrame({**facts, "ms": rows.latency})


def _exchange(low_latency: bool) -> Callable[[Path, str, str], Frames]:
    name = "wideep_deepep_ll" if low_latency else "wideep_deepep_normal"
    tokens, unit = "num_token", "avg_t_us" if low_latency else "transmit_us"

    def frames(folder: Path, system: str, backend: str) -> Frames:
        """Dispatch plus combine of DeepEP, the best number of multiprocessors; 8 ranks a node (NVL72: 4)."""
        per_node = 4 if system.startswith("gb") else 8
        for version, data in _versions(folder, system, "comm", backend, name):
            data = data[(data.num_experts >= 32) & (data.num_topk >= 4)]
            if len(data):
                ms = (data[f"dispatch_{unit}"] + data[f"combine_{unit}"]) * 1e-3
                facts = {
                    "tokens": data[tokens],
                    "hidden": data.hidden_size,
                    "top_k": data.num_topk,
                    "nodes": data.node_num,
                    "per_node": per_node,
                }
                key = "nodes" if data.node_num.max() > 1 else "node"
                yield key, version, pd.DataFrame({**facts, "ms": ms})

    return frames


def _recurrent(phase: str) -> Callable[[Path, str, str], Frames]:
    def frames(folder: Path, system: str, backend: str) -> Frames:
        """Gated delta rule: the recurrent or chunked kernel with its short convolution; at most 8 prompts."""
        for version, data in _versions(folder, system, "linear_attention", backend, "gdn")[:1]:
            data = data[data.phase == phase]
            if phase == "context":
                data = data[(data.batch_size <= 8) & (data.seq_len >= 64)]
            shape = ["batch_size", "seq_len", "num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim"]
            conv = data.kernel_source.str.contains("conv1d")
            rule = data[~conv].groupby(shape).latency.min()
            total = (rule + data[conv].groupby(shape).latency.min()).dropna().reset_index()
            if len(total):
                facts = {
                    "batch": total.batch_size,
                    "length": total.seq_len.where(total.seq_len > 0, 1) if phase == "context" else 1.0,
                    "state": total.num_v_heads * total.head_k_dim * total.head_v_dim,
                    "values": total.num_v_heads * total.head_v_dim,
                }
                yield "", version, pd.DataFrame({**facts, "ms": total.latency})

    return frames


def _index(folder: Path, system: str, backend: str) -> Frames:
    """Logits of the sparse indexer (64 heads of 128, FP8) and the selection, queries × keys."""
    found = [
        _versions(folder, system, "sparse_attention", backend, name)
        for name in ("glm5_mqa_logits_module", "glm5_topk_module")
    ]
    if not all(found):
        return
    (version, logits), (_, select) = found[0][0], found[1][0]
    shape = ["batch_size", "isl", "step"]
    total = logits.groupby(shape).latency.min() + select.groupby(shape).latency.mean()
    total = total.dropna().reset_index()
    total = total[(total.isl + total.step > 2048) & (total.batch_size * total.isl <= 131072)]
    facts = {
        "queries": total.batch_size * total.isl,
        "keys": total.step + 0.5 * total.isl,
        "stored": total.batch_size * (total.step + total.isl),
        "heads": 64.0,
    }
    yield "", version, pd.DataFrame({**facts, "ms": total.latency})


def _absorb(folder: Path, system: str, backend: str) -> Frames:
    """Both batched products of an MLA decode step that absorb the up-projections, 16-bit."""
    for version, data in _versions(folder, system, "mla_bmm", backend, "mla_bmm")[:1]:
        data = data[(data.bmm_dtype == "bfloat16") & (data.num_tokens <= 8192)]
        total = data.groupby(["num_tokens", "num_heads", "op_name"]).latency.min().unstack()
        both = total.sum(axis=1, skipna=False).dropna().reset_index(name="ms")
        yield "", version, pd.DataFrame({"m": both.num_tokens, "heads": both.num_heads, "ms": both["ms"]})


LOADERS: dict[str, Callable[[Path, str, str], Frames]] = {
    "gemm": _gemm,
    "prefill_attention": _attention("context_attention"),
    "decode_attention": _attention("generation_attention"),
    "mla_prefill": _mla("context_mla"),
    "mla_decode": _mla("generation_mla"),
    "mla_absorb": _absorb,
    "moe": _moe,
    "all_reduce": _all_reduce,
    "exchange_low_latency": _exchange(True),
    "exchange_throughput": _exchange(False),
    "recurrent_decode": _recurrent("generation"),
    "recurrent_prefill": _recurrent("context"),
    "sparse_index": _index,
}
