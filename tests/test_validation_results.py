"""Results of benchmark tools: read in their own shapes, fitted as points, and turned into measured pools."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from codesign import solve
from codesign.cli import app
from codesign.problem.load import problem_from_text
from codesign.validation.bench import read_bench
from codesign.validation.commands import calibrate
from codesign.validation.measured import DataError
from codesign.validation.results import read_results, sustained_rate

STACK = {"accelerator": "h200-sxm", "model": "Llama-3.1-70B", "precision": "fp8", "tp": 4}


def vllm(concurrency: int, tpot_ms: float, **more):
    """A result as vllm bench serve 0.33.0 writes it: 100 requests of 1,000 in and 200 out."""
    return {
        "model_id": "meta-llama/Llama-3.1-70B",
        "max_concurrency": concurrency,
        "duration": 50.0,
        "completed": 100,
        "total_input_tokens": 100_000,
        "total_output_tokens": 20_000,
        "request_throughput": concurrency / (0.2 + 0.199 * tpot_ms),
        "mean_ttft_ms": 200.0,
        "median_ttft_ms": 180.0,
        "p99_ttft_ms": 400.0,
        "mean_tpot_ms": tpot_ms,
        "median_tpot_ms": tpot_ms,
        "p99_tpot_ms": 1.2 * tpot_ms,
        **more,
    }


def guidellm(rate: float):
    """A report in GuideLLM 0.8.1's shape, with what is read of it."""

    def spread(middle: float) -> dict:
        percentiles = {"p50": middle, "p90": 1.5 * middle, "p95": 2 * middle, "p99": 3 * middle}
        return {"successful": {"mean": middle, "median": middle, "percentiles": percentiles}}

    metrics = {
        "requests_per_second": spread(rate),
        "request_concurrency": spread(8.0),
        "prompt_token_count": spread(512.0),
        "output_token_count": spread(128.0),
        "time_to_first_token_ms": spread(100.0),
        "inter_token_latency_ms": spread(20.0),
        "time_per_output_token_ms": spread(99.0),
    }
    return {"metadata": {}, "benchmarks": [{"metrics": metrics}]}


def inferencex(concurrency: int):
    """A row in the shape of InferenceX's published benchmarks."""
    return {
        "hardware": "b200", "framework": "sglang", "model": "dsr1", "precision": "fp8", "disagg": False,
        "decode_tp": 8, "decode_ep": 1, "decode_dp_attention": False, "num_decode_gpu": 8,
        "isl": 1024, "osl": 1024, "conc": concurrency,
        "metrics": {"median_tpot": 0.01, "p99_tpot": 0.012, "median_ttft": 0.1, "p99_ttft": 0.8,
                    "tput_per_gpu": 200.0, "output_tput_per_gpu": 100.0},
    }  # fmt: skip


def written(tmp_path, name, document):
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def test_a_vllm_result_in_our_words(tmp_path):
    (run,) = read_results(written(tmp_path, "a.json", vllm(16, 25.0)))
    assert (run.isl, run.osl, run.concurrency) == (1000.0, 200.0, 16.0)
    assert run.ttft_s == {0.5: pytest.approx(0.18), 0.99: pytest.approx(0.4)}
    assert run.tpot_s[0.99] == pytest.approx(0.03)
    assert run.stack["model"] == "Llama-3.1-70B"  # by its name on the hub


def test_an_open_load_counts_by_littles_law(tmp_path):
    open_load = vllm(16, 25.0, max_concurrency=None, request_throughput=2.0)
    (run,) = read_results(written(tmp_path, "a.json", open_load))
    assert run.concurrency == pytest.approx(2.0 * (0.2 + 199 * 0.025))


def test_guidellms_time_per_token_is_that_between_tokens(tmp_path):
    (run,) = read_results(written(tmp_path, "a.json", guidellm(4.0)))
    assert run.tpot_s[0.5] == pytest.approx(0.02)
    assert run.tpot_s[0.95] == pytest.approx(0.04)
    assert (run.isl, run.osl, run.requests_per_s, run.concurrency) == (512.0, 128.0, 4.0, 8.0)


def test_an_inferencex_row_names_its_own_stack(tmp_path):
    (point,) = read_bench(written(tmp_path, "a.json", [inferencex(16)]))
    assert (point.accelerator, point.model, point.weights, point.tp) == ("b200-sxm", "DeepSeek-R1", "fp8", 8)
    assert point.measured["tpot_ms_p50"] == pytest.approx(10.0)
    assert point.measured["output_tok_s_per_gpu"] == pytest.approx(100.0)


def test_a_slower_stack_is_recognised(tmp_path):
    """Points that the default model predicts, each 20 % slower: the fit says so, and predicts them."""
    loads = (4, 16, 64)
    files = [written(tmp_path, f"{c}.json", vllm(c, 25.0)) for c in loads]
    predicted = calibrate(files, "first", STACK).before_ms
    slow = [written(tmp_path, f"s{c}.json", vllm(c, 1.2 * ms)) for c, ms in zip(loads, predicted, strict=True)]
    found = calibrate(slow, "slow", STACK)
    assert found.slower == pytest.approx(0.2, abs=0.02)
    assert found.median_after < 0.05
    words = [f"{key}={value}" for key, value in STACK.items()]
    flags = [flag for word in words for flag in ("--stack", word)]
    told = CliRunner().invoke(app, ["calibrate", *(f for p in slow for f in ("--bench", str(p))), *flags])
    assert told.exit_code == 0, told.output
    assert "20 % slower than the model" in told.output


def test_the_rate_is_that_of_the_fastest_run_within_the_promises(tmp_path):
    runs = [run for c, ms in ((4, 20.0), (16, 30.0), (64, 60.0))
            for run in read_results(written(tmp_path, f"{c}.json", vllm(c, ms)))]  # fmt: skip
    assert sustained_rate(runs, {}, {}) == pytest.approx(64 / (0.2 + 0.199 * 60))
    assert sustained_rate(runs, {0.99: 0.5}, {0.99: 0.04}) == pytest.approx(16 / (0.2 + 0.199 * 30))
    assert sustained_rate(runs, {0.99: 0.1}, {}) == 0.0
    with pytest.raises(DataError, match=r"p95.*p50, p99"):
        sustained_rate(runs, {0.95: 1.0}, {})


def test_results_become_a_measured_pool_that_is_planned_with(tmp_path):
    path = written(tmp_path, "chat.json", vllm(16, 25.0))
    words = ["bench", f"chat={path}", "--name", "ours", "--accelerator", "H200", "--accelerators", "4"]
    told = CliRunner().invoke(app, [*words, "--cost", "8.2 $/h", "--slo", "tpot.p99=40ms", "--calls", "chat=2"])
    assert told.exit_code == 0, told.output
    problem = problem_from_text("tasks: [{name: chat, rate: 10/s}]\n" + told.stdout)
    rate = 16 / (0.2 + 0.199 * 25) / 2
    assert solve(problem).fleet[0].replicas == math.ceil(10 / rate)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"request_throughput": 1, "total_output_tokens": 5}, "completed"),
        ({"benchmarks": [{"metrics": {}}]}, "prompt_token_count"),
        ([inferencex(4) | {"disagg": True}], "disaggregated"),
        ([1, 2], "no result"),
        ("x", "no result"),
    ],
)
def test_what_is_no_result_is_said(document, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_results(written(tmp_path, "bad.json", document))


@pytest.mark.parametrize("words", [["--slo", "ttft=1s"], ["--slo", "ttft.p99=1"], ["--calls", "x=2"], ["--cost", "5"]])
def test_wrong_flags_exit_2(words, tmp_path):
    path = written(tmp_path, "chat.json", vllm(16, 25.0))
    good = ["bench", f"chat={path}", "--name", "a", "--accelerator", "b", "--cost", "1 $/h"]
    told = CliRunner().invoke(app, [*good, *words])
    assert told.exit_code == 2
    assert "expected" in told.output
