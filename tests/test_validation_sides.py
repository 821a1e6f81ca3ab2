"""Disaggregated and cached rows: what is read of them, and predictions by hand arithmetic and in limits."""

import dataclasses
import math

import numpy as np
import pytest
from test_validation_rows import ROW

from codesign.performance import decode_attention_seconds, decode_step_seconds, prefill_seconds
from codesign.report.console import make_console, print_report
from codesign.report.validation import validation_report
from codesign.validation.cached import RATIOS, with_hits
from codesign.validation.commands import validate_rows
from codesign.validation.disaggregated import HANDOVER_S
from codesign.validation.engine_load import shared_prefill_seconds, table_of
from codesign.validation.measured import TPOT_AT_SHARE, read_names
from codesign.validation.points import Engines, point_of, points_of
from codesign.validation.predict import predict, stack_default

APART = ROW | {
    "row_id": "D1",
    "disagg": "1",
    "n_accel": "40",
    "tp": "",
    "prefill_workers": "2",
    "prefill_tp": "8",
    "prefill_ep": "8",
    "prefill_dp_attention": "1",
    "prefill_accels": "16",
    "decode_workers": "3",
    "decode_tp": "8",
    "decode_ep": "1",
    "decode_dp_attention": "0",
    "decode_accels": "24",
    "concurrency_or_batch": "48",
    "total_tok_s_per_gpu": "300",
    "output_tok_s_per_gpu": "77",
    "ttft_ms_p50": "500",
    "e2e_ms_p50": "16000",
}
CHAT = ROW | {
    "row_id": "M1",
    "source": "chats",
    "model": "nvidia/Llama-3.1-70B-Instruct-FP8",
    "precision": "fp8, kv cache fp8",
    "n_accel": "1",
    "tp": "1",
    "ep": "1",
    "backend": "vllm 0.14.1",
    "isl": "6000",
    "osl": "500",
    "length_kind": "mean",
    "concurrency_or_batch": "",
    "load_mode": "open poisson at 1/s, prefix cache on",
    "req_s": "1",
    "tpot_ms_p50": "36",
    "itl_ms_p50": "34",
}


def point(row, **changes):
    return point_of({**row, **changes}, read_names())


def predicted(p):
    return {metric: float(values[0]) for metric, values in predict([p]).values.items()}


def test_both_sides_are_read():
    p = point(APART)
    assert p.prompts == Engines(count=2, tp=1, ep=8, dp=8)
    assert (p.engines, p.tp, p.ep, p.dp, p.accelerators) == (3, 8, 1, 1, 40)
    assert (p.slice, p.load, p.concurrency) == ("disaggregated", "closed", 48.0)
    assert p.decode_share == pytest.approx(1 - 500 / 16000)
    # Output tokens per accelerator may be of one side alone; gaps are those of chunks.
    assert set(p.measured) == {
        *("ttft_ms_p50", "tpot_ms_p50", "total_tok_s_per_gpu", "e2e_ms_p50", TPOT_AT_SHARE)
    }
    # Workers follow from accelerators where they are not published, and the other way round.
    fewer = {"prefill_workers": "", "decode_tp": ""}
    assert point(APART, **fewer) == dataclasses.replace(p)
    watts = point(APART, prefill_power_w="640", decode_power_w="9600").measured
    assert (watts["prefill_power_w"], watts["decode_power_w"]) == (640.0, 400.0)


@pytest.mark.parametrize(
    ("changes", "cached"),
    [
        ({}, math.nan),
        ({"load_mode": "open poisson"}, 0.0),
        ({"hit_ratio": "0.75"}, 4500.0),
        ({"hit_ratio": "75"}, 4500.0),
        ({"hit_ratio": "1"}, 5940.0),
        ({"cached_tokens_mean": "1500", "new_tokens_mean": "4500", "hit_ratio": "0.9"}, 1500.0),
        ({"cached_tokens_mean": "3000"}, 3000.0),
        ({"new_tokens_mean": "600"}, 5400.0),
    ],
)
def test_cached_tokens(changes, cached):
    p = point(CHAT, **changes)
    assert p.cached == pytest.approx(cached, nan_ok=True)
    assert p.slice == ("colocated" if cached == 0.0 else "cached")


def test_lengths_that_are_not_published():
    both = {"isl": "", "cached_tokens_mean": "1500", "new_tokens_mean": "500"}
    assert (point(CHAT, **both).isl, point(CHAT, **both).cached) == (2000.0, 1500.0)
    closed = {
        "load_mode": "closed-loop multi-turn chat, prefix cache on",
        "hit_ratio": "0.9",
        "isl": "",
        "osl": "",
        "req_s": "",
        "sessions": "40",
        "output_tok_s": "1600",
        "e2e_ms_p50": "20000",
    }
    # Little's law: 40 chats that take 20 s each are 2 answers a second, of 800 tokens.
    assert point(CHAT, **closed).osl == pytest.approx(800)
    rows = [CHAT | closed, CHAT, CHAT | {"isl": "5000"}, CHAT | {"source": "others", "isl": "9"}]
    points, skipped = points_of(rows, read_names())
    assert (points[0].isl, points[0].cached, skipped) == (5500.0, pytest.approx(4950.0), {})
    assert points_of([CHAT | closed], read_names()) == ([], {"input or output length missing": 1})
    assert point(CHAT, notes="max_num_seqs 128; more").most_running == 128
    assert point(CHAT, notes="max batch size 64 a worker").most_running == 64


def test_few_clients_of_two_sides_by_hand():
    p = point(APART, concurrency_or_batch="3")
    engine = stack_default(p)
    table = table_of([p], engine)
    side = dataclasses.replace(p, tp=1, ep=8, dp=8)
    ttft = prefill_seconds(table_of([side], engine), p.isl)[0, 0]
    step = decode_step_seconds(table, 1.0)[0, 0] + decode_attention_seconds(table, p.isl + p.osl / 2)[0, 0]
    found = predicted(p)
    assert found["tpot_ms_p50"] == pytest.approx(1e3 * step)
    assert found[TPOT_AT_SHARE] == pytest.approx(1e3 * step)
    assert 1e3 * (ttft + HANDOVER_S) < found["ttft_ms_p50"] < 1e3 * (1.2 * ttft + HANDOVER_S)
    cycle = found["ttft_ms_p50"] * 1e-3 + (p.osl - 1) * step
    assert found["e2e_ms_p50"] == pytest.approx(1e3 * cycle)
    # A run of ten rounds takes half a round more.
    assert found["total_tok_s_per_gpu"] == pytest.approx(3 / cycle * (p.isl + p.osl) / 40 / 1.05, rel=0.01)
    steady = predicted(dataclasses.replace(p, source="somebody"))
    assert steady["total_tok_s_per_gpu"] == pytest.approx(1.05 * found["total_tok_s_per_gpu"])
    # Groups that step together hold prompts back: half of the clients' at most.
    held = predicted(dataclasses.replace(p, engine="tensorrt-llm"))
    assert 0.4 < 1 - held["total_tok_s_per_gpu"] / found["total_tok_s_per_gpu"] < 0.6


def test_prompts_are_the_bottleneck():
    p = point(APART, isl="8192", concurrency_or_batch="20000", prefill_workers="1", prefill_accels="8",
              decode_workers="6", decode_accels="48", n_accel="56")
    side = dataclasses.replace(p, tp=1, ep=8, dp=8)
    most = 1 / shared_prefill_seconds(table_of([side], stack_default(p)), np.array([p.isl]))[0]
    found = predicted(p)
    rate = found["total_tok_s_per_gpu"] * 1.05 * p.accelerators / (p.isl + p.osl)
    assert 0.97 * most < rate < most
    # Those that wait are in front of the prompts: nothing is said of TTFT, and Little's law holds end to end.
    assert math.isnan(found["ttft_ms_p50"])
    assert found["e2e_ms_p50"] == pytest.approx(1e3 * 20000 / rate)
    # Half the prefixes cached, about twice the prompts.
    half = predicted(dataclasses.replace(p, cached=p.isl / 2))
    assert 1.5 < half["total_tok_s_per_gpu"] / found["total_tok_s_per_gpu"] < 2.2


def test_more_clients_never_shorten_steps():
    found = [predicted(point(APART, concurrency_or_batch=str(n))) for n in (1, 8, 64, 512, 4096)]
    for metric in ("tpot_ms_p50", "e2e_ms_p50", "total_tok_s_per_gpu", "prefill_power_w", "decode_power_w"):
        values = [each[metric] for each in found]
        assert values == sorted(values)


def test_cached_prefixes_save_prompts_and_room():
    def tpot(hits):
        return predicted(dataclasses.replace(point(CHAT), cached=hits * 6000))["tpot_ms_p50"]

    assert tpot(0.0) > tpot(0.5) > tpot(0.9)
    new, cached = np.array([600.0]), np.array([5400.0])
    table = table_of([point(CHAT)], stack_default(point(CHAT)))
    whole, part = shared_prefill_seconds(table, new + cached), shared_prefill_seconds(table, new, cached)
    assert shared_prefill_seconds(table, new) < part < whole


def test_hits_that_are_not_published():
    true = dataclasses.replace(point(CHAT), cached=0.8 * 6000)
    rows = []
    for rate in ("0.5", "1", "1.5"):
        tpot = predicted(dataclasses.replace(true, rate_per_s=float(rate)))["tpot_ms_p50"]
        rows.append(CHAT | {"req_s": rate, "tpot_ms_p50": f"{tpot:.9g}"})
    points, _ = points_of(rows, read_names())
    filled, (assumed,) = with_hits(points, stack_default)
    assert (assumed.rows, assumed.ratio) == (3, 0.8)
    assert assumed.median == pytest.approx(0.0, abs=1e-6)
    assert min(assumed.median_low, assumed.median_high, assumed.change) > 0.0
    assert {p.cached for p in filled} == {4800.0}
    # Rows out of the score choose nothing, but are predicted.
    _, (unscored,) = with_hits([dataclasses.replace(points[0], out_of_score="old")], stack_default)
    assert unscored.ratio in RATIOS
    found = validate_rows([*rows, APART], leave_out=False)
    assert {(row.key, row.metric) for row in found.summary if row.by == "slice"} >= {
        ("cached", "tpot_ms_p50"),
        ("disaggregated", "total_tok_s_per_gpu"),
    }
    assert found.to_dict()["assumed_hits"][0]["ratio"] == 0.8
    screen = make_console()
    with screen.capture() as captured:
        print_report(screen, validation_report(found))
    assert "0.80" in captured.get()
    assert "do not validate colocated serving" in " ".join(captured.get().split())
