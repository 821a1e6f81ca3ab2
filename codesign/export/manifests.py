"""Manifests: a Kubernetes Deployment, Dynamo's graph, the values of llm-d's chart, and a route with weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from codesign.export.arguments import vllm_arguments, vllm_environment
from codesign.export.engine import Engine, Worker

_RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Google": "google.com/tpu"}
"""Extended resource that a vendor's device plugin offers."""
_LLMD_ACCELERATORS = {"NVIDIA": "nvidia", "AMD": "amd", "Google": "google"}
LWS = "leaderworkerset.x-k8s.io/v1"
"""Of LeaderWorkerSet 0.9 (lws.sigs.k8s.io), which llm-d uses for replicas of several nodes, too."""
PART_LABEL = "codesign/accelerator"
"""Node label that tells parts of one vendor apart: `kubectl label node NODE codesign/accelerator=h200-sxm`."""


def kubernetes(engine: Engine, worker: Worker, command: Sequence[str], follower: Sequence[str]) -> str:
    """The worker's replicas and the Service in front of them.

    A Deployment, or a LeaderWorkerSet where a replica spans nodes: its first node runs `command` and answers, the
    others run `follower`.
    """
    labels = {"app": worker.slug}
    meta: dict[str, Any] = {"name": worker.slug, "labels": labels}
    template = _template(engine, worker, command)
    answers = dict(labels)
    if worker.nodes == 1:
        spec = {"replicas": worker.replicas, "selector": {"matchLabels": labels}, "template": template}
        pods = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    else:
        group = {
            "size": worker.nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": template,
            "workerTemplate": _template(engine, worker, follower),
        }
        spec = {"replicas": worker.replicas, "leaderWorkerTemplate": group}
        pods = {"apiVersion": LWS, "kind": "LeaderWorkerSet", "metadata": meta, "spec": spec}
        answers["leaderworkerset.sigs.k8s.io/worker-index"] = "0"
    service = {"selector": answers, "ports": [{"port": 8000, "targetPort": 8000}]}
    return _yaml(pods, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": worker.slug}, "spec": service})


def _template(engine: Engine, worker: Worker, command: Sequence[str]) -> dict[str, Any]:
    """Pods of one node of the worker."""
    container = {
        "name": "engine",
        "image": engine.images[worker.vendor],
        "command": list(command[:1]),
        "args": list(command[1:]),
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {_RESOURCES[worker.vendor]: str(worker.accelerators // worker.nodes)}},
        **_environment(engine, worker),
    }
    spec = {"nodeSelector": {PART_LABEL: worker.accelerator}, "containers": [container]}
    return {"metadata": {"labels": {"app": worker.slug}}, "spec": spec}


def _environment(engine: Engine, worker: Worker) -> dict[str, Any]:
    """The `env` of a container that runs vLLM, where it needs one."""
    known = {} if engine.name == "sglang" else vllm_environment(worker)
    return {"env": [{"name": name, "value": value} for name, value in known.items()]} if known else {}


def dynamo_graph(engine: Engine, cell: int, members: Sequence[Worker]) -> str:
    """A DynamoGraphDeployment: a frontend that routes by KV overlap, and the cell's pools as components."""
    image = engine.images["NVIDIA"]
    frontend = {"name": "main", "image": image, "command": ["python3"],
                "args": ["-m", "dynamo.frontend", "--router-mode", "kv"]}  # fmt: skip
    components: list[dict[str, Any]] = [
        {"name": "Frontend", "type": "frontend", "replicas": 1, "podTemplate": {"spec": {"containers": [frontend]}}}
    ]
    for worker in members:
        split = worker.role != "colocated"
        # Dynamo's operator tells the nodes of a replica their ranks itself.
        arguments = ["--model", worker.model, *vllm_arguments(worker, ranks=False)]
        container = {
            "name": "main",
            "image": image,
            "command": ["python3", "-m", "dynamo.vllm"],
            "args": arguments + (["--disaggregation-mode", worker.role] if split else []),
            "resources": {"limits": {"nvidia.com/gpu": str(worker.accelerators // worker.nodes)}},
            **_environment(engine, worker),
        }
        components.append(
            {
                "name": worker.slug,
                "type": worker.role if split else "worker",
                "replicas": worker.replicas,
                **({"multinode": {"nodeCount": worker.nodes}} if worker.nodes > 1 else {}),
                "podTemplate": {
                    "spec": {"nodeSelector": {PART_LABEL: worker.accelerator}, "containers": [container]}
                },
            }
        )
    return _yaml(
        {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": f"cell-{cell}"},
            "spec": {"components": components},
        }
    )


def llmd_values(engine: Engine, worker: Worker) -> str:
    """Values of the llm-d-modelservice chart for one pool; releases of a cell share its labels, and so its pool."""
    container = {
        "name": "vllm",
        "image": engine.images[worker.vendor],
        "modelCommand": "vllmServe",
        "args": vllm_arguments(worker, ranks=False),
        "mountModelVolume": True,
        "resources": {"limits": {}, "requests": {}},
        **_environment(engine, worker),
    }
    local = max(1, worker.dp // worker.nodes)
    part: dict[str, Any] = {
        "create": True,
        "replicas": worker.replicas,
        "parallelism": {"tensor": worker.tp, "data": worker.dp, "dataLocal": local, "workers": worker.nodes},
        "acceleratorTypes": {"labelKey": PART_LABEL, "labelValues": [worker.accelerator]},
        "containers": [container],
    }
    prefill = worker.role == "prefill"
    return _yaml(
        {
            "fullnameOverride": worker.slug,
            **({"multinode": True} if worker.nodes > 1 else {}),
            "modelArtifacts": {
                "name": worker.served_name,
                "uri": f"hf://{worker.model}",
                "labels": {"llm-d.ai/inferenceServing": "true", "llm-d.ai/model": f"cell-{worker.cell}"},
            },
            "accelerator": {"type": _LLMD_ACCELERATORS[worker.vendor]},
            "routing": {"proxy": {"enabled": worker.role == "decode", "connector": "nixlv2"}},
            "prefill" if prefill else "decode": part,
            "decode" if prefill else "prefill": {"create": False, "replicas": 0},
        }
    )


def route_manifest(shares: Sequence[tuple[str, int, float]]) -> str:
    """A Gateway API route: requests with the header `x-task: NAME` go to the cells' pools by weight (per mille)."""
    tasks: dict[str, dict[int, float]] = {}
    for task, cell, share in shares:
        tasks.setdefault(task, {})
        tasks[task][cell] = tasks[task].get(cell, 0.0) + share
    rules = [
        {
            "matches": [{"headers": [{"name": "x-task", "value": task}]}],
            "backendRefs": [
                {
                    "group": "inference.networking.k8s.io",
                    "kind": "InferencePool",
                    "name": f"cell-{cell}",
                    "weight": round(1000 * share),
                }
                for cell, share in cells.items()
            ],
        }
        for task, cells in tasks.items()
    ]
    return _yaml(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "codesign"},
            "spec": {"parentRefs": [{"name": "inference-gateway"}], "rules": rules},
        }
    )


def _yaml(*documents: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 120
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    writer.dump_all(documents, text)
    return text.getvalue()
