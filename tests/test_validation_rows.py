"""Published rows become points; what cannot be predicted says why."""

import gzip
import math

import pytest

from codesign.catalog import accelerators, models
from codesign.validation.measured import DataError, number, read_names, read_rows, shipped_rows, year
from codesign.validation.points import Skip, engine_of, point_of, points_of

ROW = {
    "row_id": "S1",
    "source": "InferenceX",
    "model": "deepseek-ai/DeepSeek-R1-0528",
    "precision": "fp8",
    "accelerator": "H200",
    "n_accel": "8",
    "tp": "8.0",
    "pp": "1.0",
    "ep": "8.0",
    "dp": "",
    "spec_decode": "none",
    "disagg": "0.0",
    "backend": "sglang v0.5.9",
    "isl": "1024",
    "osl": "1000",
    "length_kind": "nominal; uniform in [0.8,1.0]x nominal",
    "concurrency_or_batch": "16",
    "load_mode": "closed-loop max-concurrency",
    "date": "2026-02-01",
    "tpot_ms_p50": "15.4",
    "ttft_ms_p50": "120",
    "trust": "high",
    "is_latest_for_config": "1",
}


def point(**changes):
    return point_of({**ROW, **changes}, read_names())


def test_a_row_as_a_point():
    p = point()
    assert (p.accelerator, p.model, p.engine, p.year) == ("h200-sxm", "DeepSeek-R1", "sglang", 2026)
    assert (p.weights, p.activations, p.kv) == ("fp8", "fp8", "bf16")
    assert (p.tp, p.pp, p.ep, p.dp) == (8, 1, 8, 1)
    assert (p.isl, p.osl) == pytest.approx((0.9 * 1024, 900))
    assert p.measured == {"tpot_ms_p50": 15.4, "ttft_ms_p50": 120.0}
    assert p.load == "closed"
    assert p.concurrency == 16
    assert not p.out_of_score


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spec_decode": "mtp"}, "speculative decoding"),
        ({"disagg": "1.0"}, "engines of a side"),
        ({"load_mode": "closed-loop, prefix cache on", "isl": "", "hit_ratio": ""}, "length missing"),
        ({"model": "EleutherAI/unheard-of"}, "model not in the names file"),
        ({"accelerator": "GH200"}, "accelerator without a card"),
        ({"tpot_ms_p50": "", "ttft_ms_p50": "-1"}, "none of the predicted metrics"),
        ({"n_accel": ""}, "number of accelerators"),
        ({"load_mode": "mystery"}, "load mode"),
        ({"isl": ""}, "length missing"),
        ({"concurrency_or_batch": "max"}, "concurrency"),
        ({"notes": "do not use"}, "llama.cpp"),
    ],
)
def test_reasons(changes, reason):
    with pytest.raises(Skip, match=reason):
        point(**changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_latest_for_config": "0"}, "newest"),
        ({"trust": "low"}, "trust"),
        ({"source": "Splitwise"}, "host-bound"),
        ({"e2e_ms_p50": "99000"}, "contradict"),
    ],
)
def test_out_of_score_is_still_predicted(changes, reason):
    assert reason in point(**changes).out_of_score


def test_shapes_as_sources_mean_them():
    attention_dp = point(notes="n_accel set to tp; dp_attention")
    assert (attention_dp.tp, attention_dp.ep, attention_dp.dp) == (1, 8, 8)
    # ML.ENERGY: attention over all ranks, experts over all ranks.
    mlenergy = point(tp="1", ep="8", dp="1")
    assert (mlenergy.tp, mlenergy.ep, mlenergy.dp) == (8, 8, 1)
    # Dense models on more accelerators than a replica has: several replicas share the clients.
    dense = point(model="meta-llama/Llama-3.1-70B-Instruct", tp="4", ep="1", precision="bf16")
    assert (dense.tp, dense.concurrency) == (4, 8)
    unpublished = {"tp": "", "ep": "", "notes": "parallelism not published in summary"}
    mlperf = point(
        **unpublished, model="llama2-70b", source="MLPerf-Inference-v4.1", precision="", date="v4.1"
    )
    assert (mlperf.weights, mlperf.kv, mlperf.tp, mlperf.year) == ("fp8", "fp8", 1, 2024)


@pytest.mark.parametrize(
    ("published", "accelerator", "model", "backend", "expected"),
    [
        ("fp8", "B200", "openai/gpt-oss-120b", "trt", ("mxfp4", "fp8", "fp8")),
        ("fp8", "H200", "openai/gpt-oss-120b", "trt", ("mxfp4", "bf16", "bf16")),
        ("fp4", "B200", "deepseek-ai/DeepSeek-R1-0528", "trt", ("nvfp4", "nvfp4", "fp8")),
        ("fp4", "MI355X", "deepseek-ai/DeepSeek-R1-0528", "sglang", ("mxfp4", "mxfp4", "bf16")),
        ("bfloat16", "H100", "Qwen/Qwen3-8B", "vllm", ("bf16", "bf16", "bf16")),
        ("int4", "H100", "Qwen/Qwen3-8B", "vllm", ("int4", "bf16", "bf16")),
        ("fp8", "A100", "Qwen/Qwen3-8B", "vllm", ("fp8", "bf16", "bf16")),
        ("Weight = fp16, KV Cache = fp8", "H100", "Qwen/Qwen3-8B", "vllm", ("bf16", "bf16", "fp8")),
    ],
)
def test_precisions(published, accelerator, model, backend, expected):
    p = point(precision=published, accelerator=accelerator, model=model, backend=backend, ep="1")
    assert (p.weights, p.activations, p.kv) == expected


def test_engines_and_years():
    assert engine_of("trt nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc14") == "tensorrt-llm"
    assert engine_of("vllm nightly") == "vllm"
    assert engine_of("") == "other"
    assert [year({"date": d}) for d in ("2025-12-09", "20260214", "v5.1", "")] == [2025, 2026, 2025, None]


def test_the_shipped_table_is_whole():
    rows = shipped_rows()
    assert 300 <= len(rows) <= 1000
    assert all(row["source"] and row["licence"] and row["source_commit"] for row in rows)
    points, skipped = points_of(rows, read_names())
    assert not skipped
    assert len(points) == len(rows)
    for (kind, _), identifier in read_names().items():
        if identifier:
            assert identifier in (accelerators() if kind == "accelerator" else models())


def test_reading_files(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"# from somewhere\nrow_id,source,model,accelerator,isl\n1,a,b,c,nan\n"))
    (row,) = read_rows(path)
    assert math.isnan(number(row, "isl"))
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(path.read_bytes()[:20])
    columns = tmp_path / "columns.csv"
    columns.write_text("a,b\n1,2\n", encoding="utf-8")
    for bad, words in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "no such file"),
        (broken, "cannot be read"),
        (columns, "no column 'row_id'"),
    ):
        with pytest.raises(DataError, match=words):
            read_rows(bad)
