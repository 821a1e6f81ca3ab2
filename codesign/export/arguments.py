"""A worker in the words of vLLM and of SGLang: their own flags, as lists of arguments.

Both engines count a replica's sequences and prompt tokens differently: vLLM per data-parallel rank and with decode
tokens inside the step's budget, SGLang over the whole replica and with the chunk apart.
"""

from __future__ import annotations

import json
import math

from codesign.export.engine import Worker, engines

_VLLM_QUANTIZATION = {"fp8": "fp8", "int8": "int8_per_channel_weight_only", "nvfp4": "nvfp4_per_token"}
"""Quantized at load; other formats need a checkpoint that has them."""
_SGLANG_QUANTIZATION = {"fp8": "fp8", "int8": "w8a8_int8", "nvfp4": "nvfp4_online"}
_VLLM_KV = {"bf16": "auto", "fp16": "auto", "fp8": "fp8"}
_SGLANG_KV = {"bf16": "auto", "fp16": "auto", "fp8": "fp8_e4m3", "nvfp4": "nvfp4"}
_SGLANG_DRAFTS = {"mtp": "EAGLE", "eagle": "EAGLE", "eagle3": "EAGLE3", "draft-model": "STANDALONE", "ngram": "NGRAM"}
"""MTP layers run as EAGLE does."""
_LOOKUP = 4
"""Longest n-gram that vLLM looks up: that of its documentation's example."""
TRANSFER = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
"""Both ways: a prefill worker reads the prefix that a decode worker kept, and sends the new tokens back."""
OFFLOAD = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
HOST_TIERS = ("ddr5-rdimm", "cxl-ddr5")
"""Tiers of the catalogue that a host addresses as memory; others are drives to it."""
LEADER, RANK = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
"""What LeaderWorkerSet tells each node of a replica, as Kubernetes fills it in."""


def vllm_arguments(worker: Worker, *, ranks: bool = True) -> list[str]:
    """What follows `vllm serve MODEL`; `ranks` says to each node of a larger replica which it is."""
    words = ["--served-model-name", worker.served_name, "--tensor-parallel-size", str(worker.tp)]
    words += ["--pipeline-parallel-size", str(worker.pp)] if worker.pp > 1 else []
    words += ["--data-parallel-size", str(worker.dp)] if worker.dp > 1 else []
    words += ["--enable-expert-parallel"] if worker.experts and worker.ep > 1 else []
    words += _quantization(worker, _VLLM_QUANTIZATION)
    words += ["--kv-cache-dtype", _VLLM_KV[worker.kv]]
    words += ["--max-model-len", str(worker.max_context)]
    words += ["--max-num-seqs", str(worker.max_sequences)]
    if worker.chunk is not None:
        words += ["--enable-chunked-prefill"]
    words += ["--max-num-batched-tokens", str(worker.step_tokens)]
    words += ["--gpu-memory-utilization", f"{worker.memory_fraction:.4g}"]
    words += ["--enable-prefix-caching" if worker.keeps_prefixes else "--disable-prefix-caching"]
    words += ["--speculative-config", json.dumps(vllm_speculation(worker))] if worker.method else []
    words += _vllm_kept(worker, worker.role != "colocated")
    if ranks and worker.nodes > 1:
        words += ["--nnodes", str(worker.nodes), "--node-rank", RANK, "--master-addr", LEADER]
    return words


def vllm_speculation(worker: Worker) -> dict[str, str | int]:
    """What vLLM is told of drafts: names as docs.vllm.ai has them (vllm.config.speculative, read in December 2026)."""
    given: dict[str, str | int] = {"method": worker.method.replace("-", "_")}
    if worker.draft:
        given["model"] = worker.draft
    given["num_speculative_tokens"] = worker.draft_tokens
    if worker.method == "ngram":
        given["prompt_lookup_max"] = _LOOKUP
    return given


def _vllm_kept(worker: Worker, transfer: bool) -> list[str]:
    """Where KV goes besides the accelerators: to another pool, to memory of the host, or both.

    `--kv-offloading-size` sets a connector of its own, so that a pool which also transfers names both.
    """
    if worker.tier and not transfer and worker.tier in HOST_TIERS:
        return ["--kv-offloading-backend", "native", "--kv-offloading-size", f"{worker.tier_bytes / 2**30:.0f}"]
    wanted = [*([TRANSFER] if transfer else []), *([OFFLOAD] if worker.tier else [])]
    if len(wanted) < 2:
        return ["--kv-transfer-config", json.dumps(wanted[0])] if wanted else []
    both = {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"connectors": wanted},
    }
    return ["--kv-transfer-config", json.dumps(both)]


def vllm_environment(worker: Worker) -> dict[str, str]:
    """Variables that LMCache reads beside vLLM's arguments: bytes of a tier for each process of a replica.

    Names and units (GB) as docs.lmcache.ai/api_reference/configurations.html has them (read in November 2026).
    """
    if not worker.tier or (worker.role == "colocated" and worker.tier in HOST_TIERS):
        return {}
    size = f"{worker.tier_bytes / 1e9 / worker.accelerators:.1f}"
    if worker.tier in HOST_TIERS:
        return {"LMCACHE_LOCAL_CPU": "True", "LMCACHE_MAX_LOCAL_CPU_SIZE": size}
    return {"LMCACHE_LOCAL_DISK": "file:///var/lib/lmcache/", "LMCACHE_MAX_LOCAL_DISK_SIZE": size}


def sglang_arguments(worker: Worker) -> list[str]:
    """What follows `python3 -m sglang.launch_server`."""
    words = ["--model-path", worker.model, "--served-model-name", worker.served_name]
    words += ["--tp-size", str(worker.tp * worker.dp)]
    words += ["--pp-size", str(worker.pp)] if worker.pp > 1 else []
    words += ["--attn-dp-size", str(worker.dp)] if worker.dp > 1 else []
    words += ["--ep-size", str(worker.ep)] if worker.experts and worker.ep > 1 else []
    words += _quantization(worker, _SGLANG_QUANTIZATION)
    words += ["--kv-cache-dtype", _SGLANG_KV[worker.kv]]
    words += ["--context-length", str(worker.max_context)]
    words += ["--max-running-requests", str(worker.max_sequences * worker.dp)]  # SGLang divides it over its ranks
    chunk = worker.step_tokens * worker.dp if worker.role == "prefill" else worker.chunk
    words += ["--chunked-prefill-size", str(chunk)] if chunk is not None else []
    words += ["--mem-fraction-static", f"{worker.static_fraction:.4g}"]
    words += [] if worker.keeps_prefixes else ["--disable-radix-cache"]
    words += _sglang_speculation(worker)
    if worker.tier:
        # GB (decimal, whole) for each rank: SGLang's HiCache System Design and Optimization, read in November 2026.
        size = math.ceil(worker.tier_bytes / 1e9 / worker.accelerators)
        words += ["--enable-hierarchical-cache", "--hicache-size", str(size), "--hicache-write-policy", "write_through"]
        words += [] if worker.tier in HOST_TIERS else ["--hicache-storage-backend", "file"]
    if worker.role != "colocated":
        words += ["--disaggregation-mode", worker.role, "--disaggregation-transfer-backend", "nixl"]
    if worker.nodes > 1:
        words += ["--nnodes", str(worker.nodes), "--node-rank", RANK, "--dist-init-addr", f"{LEADER}:20000"]
    return [*words, "--host", "0.0.0.0", "--port", "8000"]


def _sglang_speculation(worker: Worker) -> list[str]:
    """What SGLang is told of drafts: a chain, whose tokens to verify it counts with the one that is sampled anyway.

    Names as docs.sglang.io has them (Speculative Decoding, read in December 2026).
    """
    if not worker.method:
        return []
    words = ["--speculative-algorithm", _SGLANG_DRAFTS[worker.method]]
    words += ["--speculative-draft-model-path", worker.draft] if worker.draft else []
    if worker.method != "ngram":
        words += ["--speculative-num-steps", str(worker.draft_tokens), "--speculative-eagle-topk", "1"]
    return [*words, "--speculative-num-draft-tokens", str(worker.draft_tokens + 1)]


def _quantization(worker: Worker, methods: dict[str, str]) -> list[str]:
    """The flag where weights run in a format that they were not released in, and the engine converts to."""
    if worker.weights == worker.native or worker.weights not in methods:
        return []
    return ["--quantization", methods[worker.weights]]


def obstacle(worker: Worker, engine: str) -> str | None:
    """Why an engine cannot run a worker as planned, or None."""
    known = _SGLANG_KV if engine == "sglang" else _VLLM_KV
    if worker.vendor not in engines()[engine].images:
        return f"{engine} has no image for {worker.vendor}"
    if worker.kv not in known:
        return f"{engine} has no KV cache in {worker.kv}"
    if worker.method in ("eagle", "eagle3") and not worker.draft:
        return f"its drafts of method {worker.method} have no weights: set models.…speculation.checkpoint"
    if engine == "sglang" and worker.method == "ngram" and (worker.vendor != "NVIDIA" or worker.dp > 1):
        return "sglang looks n-grams up on CUDA alone, without data-parallel attention"
    if worker.served_name.startswith("-") or worker.model.startswith("-"):
        return "a model's name that starts with a hyphen would be read as a flag"
    return None


def needs_checkpoint(worker: Worker) -> bool:
    """The plan's format of the weights is neither the released one nor one that engines make at load."""
    plain = {"bf16", "fp16"}
    same = worker.weights == worker.native or {worker.weights, worker.native} <= plain
    return not same and worker.weights not in _VLLM_QUANTIZATION
