"""Exports: golden files, flags that the engines' own parsers know, and a MILP that another solver agrees on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from readers import READERS
from ruamel.yaml import YAML
from typer.testing import CliRunner

from codesign import load_problem
from codesign.candidates.build import build_candidates
from codesign.catalog import accelerators
from codesign.cli import app
from codesign.export import ENGINES, ExportError, deployment, write_milp
from codesign.export.arguments import sglang_arguments, vllm_arguments, vllm_environment
from codesign.export.engine import engines, node_accelerators, workers
from codesign.export.manifests import dynamo_graph, kubernetes, llmd_values
from codesign.optimize.fleet import solve_fleet
from codesign.problem import resolve
from codesign.problem.load import problem_from_data
from codesign.solution import load_solution

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
GOLDEN = DATA / "exported"


def exported():
    """The plan of the golden files, and its instance."""
    return load_solution(DATA / "exported.json"), resolve(load_problem(DATA / "exported.yaml"))


def own_parser(engine: str) -> argparse.ArgumentParser:
    """A parser of an engine's arguments as its release has them (scripts/engine_arguments.py)."""
    listed = json.loads((DATA / f"{engine}-arguments.json").read_text())
    assert listed["version"] == engines()[engine].version
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)
    for argument in listed["arguments"]:
        takes = {"nothing": 0, "value": None, "values": "+"}[argument["takes"]]
        how = {"action": "store_true"} if takes == 0 else {"nargs": takes, "choices": argument["choices"]}
        parser.add_argument(*argument["flags"], **how)
    return parser


def commands(engine: str) -> dict[str, list[str]]:
    """The words of each exported worker's script."""
    files = deployment(*exported(), engine)
    return {name: shlex.split(text.replace("\\\n", " "), comments=True) for name, text in files.items()
            if name.endswith(".sh") and "router" not in name}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_files_are_the_golden_ones(engine):
    """Renewed by `codesign export tests/data/exported.json --problem tests/data/exported.yaml --to ENGINE -o …`."""
    files = deployment(*exported(), engine)
    golden = {path.name: path.read_text(encoding="utf-8") for path in (GOLDEN / engine).iterdir()}
    assert files == golden


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_is_one_of_the_engines_own(engine):
    parser = own_parser(engine)
    found = commands(engine)
    assert found
    for words in found.values():
        assert words[0] == "exec"
        known, rest = parser.parse_known_args(words[4:])
        assert rest == []
        assert known.tensor_parallel_size if engine == "vllm" else known.tp_size
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser.parse_args(["--kv-cache-type", "fp8"])


def test_manifests_run_the_commands_of_the_scripts():
    files = deployment(*exported(), "vllm")
    for name, words in commands("vllm").items():
        first, service = YAML(typ="safe").load_all(files[name.replace(".sh", ".yaml")])
        container = first["spec"]["template"]["spec"]["containers"][0]
        assert container["command"] + container["args"] == words[1:]
        assert service["spec"]["selector"] == first["spec"]["selector"]["matchLabels"]


def test_dynamo_and_llmd_run_vllm_with_its_own_flags():
    parser = own_parser("vllm")
    parser.add_argument("--disaggregation-mode", choices=["prefill", "decode"])
    seen = set()
    for engine in ("dynamo", "llm-d"):
        for name, text in deployment(*exported(), engine).items():
            if not name.endswith(".yaml") or name == "httproute.yaml":
                continue
            document = YAML(typ="safe").load(text)
            if engine == "dynamo":
                assert document["kind"] == "DynamoGraphDeployment"
                parts = [c["podTemplate"]["spec"]["containers"][0] for c in document["spec"]["components"][1:]]
            else:
                parts = [document[r]["containers"][0] for r in ("prefill", "decode") if document[r]["create"]]
            for part in parts:
                assert parser.parse_known_args(part["args"])[1] == []
                seen.add(engine)
    assert seen == {"dynamo", "llm-d"}


def test_sizes_and_roles_are_the_plans():
    solution, instance = exported()
    by_name = {worker.pool: worker for worker in workers(solution, instance)}
    decode = by_name["h200-coder-decode"]
    assert (decode.replicas, decode.accelerators, decode.max_context) == (4, 8, 128_000)  # a spare runs too
    assert decode.cell == by_name["h200-coder-prefill"].cell != by_name["h200-chat-colocated"].cell
    words = commands("vllm")["h200-coder-decode.sh"]
    assert words[words.index("--max-num-seqs") + 1] == "1024"  # of each of four ranks
    assert "--enable-expert-parallel" in words
    assert "--quantization" not in words  # released in FP8
    words = commands("vllm")["h200-chat-colocated.sh"]
    assert words[words.index("--quantization") + 1] == "fp8"
    assert words[words.index("--max-num-batched-tokens") + 1] == str(2048 + 1024)
    words = commands("sglang")["h200-coder-prefill.sh"]
    assert words[words.index("--tp-size") + 1] == "8"  # one rank of attention each, all eight share the experts
    assert words[words.index("--disaggregation-mode") + 1] == "prefill"


def test_weights_are_the_plans_shares():
    solution, instance = exported()
    files = deployment(solution, instance, "llm-d")
    shares = {(w["task"], w["decode"]): w["share"] for w in json.loads(files["routing.json"])}
    assert shares == {
        ("coding", "h200-coder-decode"): 1.0,
        ("chat", "h200-chat-colocated"): 0.75,
        ("chat", "tpu-chat-colocated"): 0.25,
    }
    rules = YAML(typ="safe").load(files["httproute.yaml"])["spec"]["rules"]
    assert [backend["weight"] for backend in rules[1]["backendRefs"]] == [750, 250]


def test_what_an_engine_cannot_run_is_said():
    readme = deployment(*exported(), "sglang")["README.md"]
    assert "tpu-chat-colocated is not exported: sglang has no image for Google" in readme
    measured = load_solution(ROOT / "solutions" / "melange-toy.json")
    instance = resolve(load_problem(ROOT / "problems" / "melange-toy.yaml"))
    with pytest.raises(ExportError, match="measured rates alone"):
        deployment(measured, instance, "vllm")


def test_hostile_names_stay_words(tmp_path):
    """A shell, a manifest and a table read a name as text."""
    text = (DATA / "exported.json").read_text().replace('"h200-coder-decode"', json.dumps("$(rm -rf /)|`x`\n../x"))
    text = text.replace('"coding"', json.dumps("'; reboot #"))
    (tmp_path / "plan.json").write_text(text)
    problem = load_problem(DATA / "exported.yaml")
    renamed = resolve(problem.replace({"tasks.coding.name": "'; reboot #"}))
    files = deployment(load_solution(tmp_path / "plan.json"), renamed, "vllm")
    assert "rm-rf-x-x.sh" in files
    assert all("/" not in name for name in files)
    assert not any(line.startswith("#") and "reboot" in line for line in files["rm-rf-x-x.sh"].splitlines()[1:])
    route = deployment(load_solution(tmp_path / "plan.json"), renamed, "llm-d")["httproute.yaml"]
    assert YAML(typ="safe").load(route)["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] == "'; reboot #"


def test_the_command_writes_a_folder(tmp_path):
    words = ["export", str(DATA / "exported.json"), "--problem", str(DATA / "exported.yaml"), "--to", "vllm"]
    told = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    script = tmp_path / "out" / "h200-coder-decode.sh"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    told = CliRunner().invoke(app, [*words[:-1], "tgi", "-o", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert "vllm, sglang, dynamo, llm-d" in told.output


# ---- replicas of several nodes, and KV in memory beside the accelerators


def worker_of(pool: str, **changes):
    return dataclasses.replace({w.pool: w for w in workers(*exported())}[pool], **changes)


def test_a_replica_of_several_nodes_is_a_leader_and_its_workers():
    wide = worker_of("h200-coder-decode", nodes=2, accelerators=16, dp=8)
    for name, arguments, serve in (
        ("vllm", vllm_arguments(wide), ["vllm", "serve", wide.model]),
        ("sglang", sglang_arguments(wide), ["python3", "-m", "sglang.launch_server"]),
    ):
        known, rest = own_parser(name).parse_known_args(arguments)
        assert rest == []
        assert (known.nnodes, known.node_rank) == ("2", "$(LWS_WORKER_INDEX)")
        follower = [*serve, *arguments, "--headless"]
        pods, service = YAML(typ="safe").load_all(kubernetes(engines()[name], wide, [*serve, *arguments], follower))
        assert pods["kind"] == "LeaderWorkerSet"
        assert pods["spec"]["replicas"] == wide.replicas
        group = pods["spec"]["leaderWorkerTemplate"]
        assert group["size"] == 2
        first, other = (group[f"{who}Template"]["spec"]["containers"][0] for who in ("leader", "worker"))
        assert first["resources"]["limits"] == {"nvidia.com/gpu": "8"}
        assert other["args"][:-1] == first["args"]
        assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


def test_charts_know_replicas_of_several_nodes():
    wide = worker_of("h200-coder-decode", nodes=2, accelerators=16, dp=8)
    values = YAML(typ="safe").load(llmd_values(engines()["llm-d"], wide))
    assert values["multinode"] is True
    assert values["decode"]["parallelism"] == {"tensor": wide.tp, "data": 8, "dataLocal": 4, "workers": 2}
    graph = YAML(typ="safe").load(dynamo_graph(engines()["dynamo"], 0, [wide]))
    part = graph["spec"]["components"][1]
    assert part["multinode"] == {"nodeCount": 2}
    container = part["podTemplate"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert "--node-rank" not in container["args"]  # the operator gives ranks


def test_a_rack_is_many_nodes():
    assert node_accelerators(accelerators()["gb200-nvl72"]) == 4
    assert node_accelerators(accelerators()["h200-sxm"]) == 8


def test_kv_in_host_memory_is_the_engines_own_offloading():
    """1.6 TB for a replica of eight: 1,490 GiB in all to vLLM, 200 GB a rank to SGLang and LMCache."""
    both = worker_of("h200-coder-prefill", tier="ddr5-rdimm", tier_bytes=1.6e12)
    alone = dataclasses.replace(both, role="colocated", chunk=2048)
    for worker in (both, alone):
        known, rest = own_parser("sglang").parse_known_args(sglang_arguments(worker))
        assert rest == []
        assert (known.hicache_size, known.enable_hierarchical_cache) == ("200", True)
    known, rest = own_parser("vllm").parse_known_args(vllm_arguments(alone))
    assert rest == []
    assert (known.kv_offloading_size, known.kv_offloading_backend) == ("1490", "native")
    assert vllm_environment(alone) == {}
    config = json.loads(own_parser("vllm").parse_known_args(vllm_arguments(both))[0].kv_transfer_config)
    assert config["kv_connector"] == "MultiConnector"
    parts = [each["kv_connector"] for each in config["kv_connector_extra_config"]["connectors"]]
    assert parts == ["NixlConnector", "LMCacheConnectorV1"]
    assert vllm_environment(both) == {"LMCACHE_LOCAL_CPU": "True", "LMCACHE_MAX_LOCAL_CPU_SIZE": "200.0"}
    drives = dataclasses.replace(both, tier="nvme-ssd")
    assert vllm_environment(drives)["LMCACHE_MAX_LOCAL_DISK_SIZE"] == "200.0"
    assert "--hicache-storage-backend" in sglang_arguments(drives)


def test_tiers_of_a_plan_go_to_those_who_read_them(tmp_path):
    """A quarter of what is parked belongs to chat: so does a quarter of the modules, shared by its replicas."""
    document = json.loads((DATA / "exported.json").read_text())
    kv = {"ttl_s": 300.0, "hit_ratio": 0.9, "reloaded_bytes_per_s": 1.0, "sent_bytes_per_s": 1.0,
          "returned_bytes_per_s": 1.0}  # fmt: skip
    for route in document["routing"]:
        kept = {"h200-coder-prefill": 3e12, "h200-chat-colocated": 1e12}.get(route["prefill_pool"])
        if kept:
            route |= {"kv_policy": "tier:host", "kv": {**kv, "kept_bytes": kept}}
    document["memory"] = [{"tier": "host", "modules": 100, "capacity_bytes": 6.4e12, "used_bytes": 4e12,
                           "bandwidth_utilization": 0.1}]  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(document))
    memory = "memory:\n  host: {tier: ddr5-rdimm, price: 13.8 $/GB, module: 64 GB}\n"
    text = (DATA / "exported.yaml").read_text() + memory
    (tmp_path / "problem.yaml").write_text(text)
    found = {w.pool: w for w in workers(load_solution(tmp_path / "plan.json"),
                                        resolve(load_problem(tmp_path / "problem.yaml")))}  # fmt: skip
    reader, chat = found["h200-coder-prefill"], found["h200-chat-colocated"]
    assert reader.tier == "ddr5-rdimm"
    assert reader.tier_bytes * reader.replicas == pytest.approx(4.8e12)
    assert chat.tier_bytes * chat.replicas == pytest.approx(1.6e12)
    assert found["h200-coder-decode"].tier == ""


# ---- the MILP


SMALL = {
    "name": "small",
    "models": {"small": {"card": "Llama-3.1-8B"}},
    "tasks": [
        {
            "name": "chat",
            "preset": "chat",
            "rate": "5/s",
            "models": ["small"],
            "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {
        "h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}},
        "l40s": {"accelerator": "l40s", "server": {"accelerators": 1}, "price": "0.8 $/h"},
    },
    "limits": {"inventory": {"h100": 3}},
    "options": {"max_replica_accelerators": 1, "disaggregation": "never", "gap": 0},
}


@pytest.mark.parametrize("kind", ["mps", "lp"])
@pytest.mark.parametrize("which", ["measured", "modelled"])
def test_other_solvers_find_the_same_optimum(kind, which, tmp_path):
    problem = (
        load_problem(ROOT / "problems" / "melange-toy.yaml") if which == "measured" else problem_from_data(SMALL)
    )
    candidates = build_candidates(resolve(problem), bounded=False)  # what is written has no columns of bounds
    plan = solve_fleet(candidates.data, gap=0.0, time_limit=60.0)
    assert plan.status == "optimal"
    path = tmp_path / f"fleet.{kind}"
    written = write_milp(candidates.data, plan, path, kind)
    assert written.columns > 0
    optimum = pytest.approx(plan.objective * written.factor, rel=1e-6)
    assert {name: read(path) for name, read in READERS.items()} == dict.fromkeys(READERS, optimum)


@pytest.mark.parametrize("kind", ["mps", "lp"])
def test_a_fresh_process_writes_the_milp(kind, tmp_path):
    """Pyomo's own writers are registered by `pyomo.environ`, which another test may have imported here."""
    out = tmp_path / f"fleet.{kind}"
    words = ["export", str(ROOT / "problems" / "melange-toy.yaml"), "--to", kind, "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", "from codesign.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert READERS["CBC"](out) == pytest.approx(4.68)


def test_a_plan_names_the_problem_whose_milp_is_meant(tmp_path, monkeypatch):
    """A MILP is made from the problem file: the one of the plan, while it is that very file."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "problems" / "melange-toy.yaml").read_text(encoding="utf-8")
    Path("toy.yaml").write_text(text, encoding="utf-8")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, list(words))

    assert run("solve", "toy.yaml", "-o", "plan.json").exit_code == 0
    told = run("export", "plan.json", "--to", "mps", "-o", "a.mps")
    assert told.exit_code == 0, told.output
    assert READERS["GLPK"](Path("a.mps")) == pytest.approx(4.68)
    Path("toy.yaml").rename("moved.yaml")
    told = run("export", "plan.json", "--to", "mps", "-o", "b.mps")
    assert told.exit_code == 2
    assert "plan.json is a solution; its MILP is made from the problem file" in told.output
    assert "--problem FILE" in told.output
    assert run("export", "plan.json", "--problem", "moved.yaml", "--to", "lp", "-o", "b.lp").exit_code == 0
    assert READERS["SCIP"](Path("b.lp")) == pytest.approx(4.68)
    Path("moved.yaml").write_text(text + "# changed\n", encoding="utf-8")
    told = run("export", "plan.json", "--problem", "moved.yaml", "--to", "lp", "-o", "c.lp")
    assert told.exit_code == 2
    assert "sha256 differs" in told.output
    told = run("export", "plan.json", "--to", "mps", "-o", "plan.json")
    assert told.exit_code == 2
    assert "expected another path" in told.output


def test_names_in_the_file_are_the_problems(tmp_path):
    out = tmp_path / "toy.lp"
    source = str(ROOT / "problems" / "melange-toy.yaml")
    told = CliRunner().invoke(app, ["export", source, "--to", "lp", "-o", str(out)])
    assert told.exit_code == 0, told.output
    text = out.read_text()
    assert "servers(A100_80GB)" in text
    assert "demand(in0_out0)" in text
