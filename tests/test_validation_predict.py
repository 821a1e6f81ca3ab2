"""Predictions by hand arithmetic; error tables, bands, ranks; the issue's targets where they are met."""

import dataclasses
import json
import math

import numpy as np
import pytest
from test_validation_rows import ROW

from codesign.performance import (
    decode_attention_seconds,
    decode_step_seconds,
    kv_bytes,
    kv_capacity_bytes,
    prefill_seconds,
)
from codesign.performance.confidence import CLASSES, half_width, log_half_width, safety_factor
from codesign.performance.energy import mean_power_w, wall_power_w
from codesign.performance.profile import EngineProfile, default_profile
from codesign.validation.closed_loop import simulate_closed
from codesign.validation.commands import validate, validate_rows
from codesign.validation.compare import Comparison
from codesign.validation.engine_load import shared_prefill_seconds, table_of
from codesign.validation.errors import LEAST_ROWS, bootstrap, error_tables
from codesign.validation.intervals import coverage, weighted_width
from codesign.validation.measured import PREDICTED, TPOT_AT_SHARE, read_names
from codesign.validation.plots import write_plots
from codesign.validation.points import point_of
from codesign.validation.predict import predict
from codesign.validation.ranks import rank_agreement
from codesign.validation.slices import BY_MODEL, BY_PART, GIVEN, slice_of

ENGINE = EngineProfile(name="test", host_step_s=2e-3, prefill_charge=0.8, first_token_s=0.05)


def point(**changes):
    return point_of({**ROW, **changes}, read_names())


def predicted(p, engine=ENGINE):
    found = predict([p], lambda _: engine)
    return {metric: float(values[0]) for metric, values in found.values.items()} | {
        "batch": float(found.batch[0]),
        "bracket": (float(found.ttft_low_ms[0]), float(found.ttft_high_ms[0])),
    }


def test_closed_loop_by_hand():
    p = point()
    table = table_of([p], ENGINE)
    step = decode_step_seconds(table, 16.0)[0, 0]
    step += 16 * decode_attention_seconds(table, p.isl + p.osl / 2)[0, 0]
    tpot = step + 0.8 * 15 / p.osl * shared_prefill_seconds(table, np.array([p.isl]))[0]
    found = predicted(p)
    assert found["batch"] == 16
    assert found["tpot_ms_p50"] == pytest.approx(1e3 * tpot)
    # One client alone: its prefill, and what the stack adds. Sixteen wait for one another, as simulated.
    own = prefill_seconds(table, p.isl)[0, 0]
    alone = predicted(point(concurrency_or_batch="1"))
    assert alone["ttft_ms_p50"] == pytest.approx(1e3 * (0.05 + own), rel=0.05)
    assert found["ttft_ms_p50"] == pytest.approx(simulate_closed(p, table).ttft_ms_p50)
    assert 1.0 < (found["ttft_ms_p50"] - 50) / (1e3 * own) < 2.0
    cycle = 0.05 + own + 1.5 * tpot + (p.osl - 1) * tpot
    assert found["output_tok_s_per_gpu"] == pytest.approx(16 * p.osl / cycle / 8)  # Little's law
    ratio = (p.isl + p.osl) / p.osl
    assert found["total_tok_s_per_gpu"] == pytest.approx(found["output_tok_s_per_gpu"] * ratio)
    low, high = found["bracket"]
    assert low < found["ttft_ms_p50"] < high


def test_memory_limits_the_batch_and_clients_queue():
    p = point(concurrency_or_batch="100000", isl="8192")
    table = table_of([p], ENGINE)
    room = (kv_capacity_bytes(table) / kv_bytes(table, p.isl + p.osl / 2)[:, 0])[0]
    found = predicted(p)
    assert found["batch"] == pytest.approx(room)
    assert found["ttft_ms_p50"] > 10 * predicted(point(isl="8192"))["ttft_ms_p50"]


def test_batches_and_waves_are_prefilled_together():
    static = point(load_mode="static batch", length_kind="exact")
    table = table_of([static], ENGINE)
    step = decode_step_seconds(table, 16.0)[0, 0]
    step += 16 * decode_attention_seconds(table, static.isl + static.osl / 2)[0, 0]
    found = predicted(static)
    assert found["tpot_ms_p50"] == pytest.approx(1e3 * step)
    wave = predicted(point(length_kind="exact"))
    assert wave["ttft_ms_p50"] == pytest.approx(found["ttft_ms_p50"])
    assert (
        found["ttft_ms_p50"]
        > 3 * predicted(point(load_mode="static", concurrency_or_batch="1"))["ttft_ms_p50"]
    )


def test_an_offline_run_ends():
    changes = {
        "source": "TensorRT-LLM-perf-overview-v1",
        "backend": "trtllm-bench pytorch",
        "load_mode": "offline max throughput (all requests queued)",
        "concurrency_or_batch": "max",
        "length_kind": "exact",
        "isl": "1024",
        "osl": "8192",
        "tpot_ms_p50": "",
        "output_tok_s_per_gpu": "100",
    }
    run = point(**changes)
    assert run.requests == 1500
    assert math.isinf(point(**changes | {"source": "TensorRT-LLM-perf-overview-v0.9"}).requests)

    def rate(requests):
        return predicted(dataclasses.replace(run, requests=requests))["output_tok_s_per_gpu"]

    batch = predicted(run)["batch"]
    # Two full rounds are as fast as many, but for the first step's prompt; a rest of one costs a round more.
    assert rate(2 * batch) == pytest.approx(rate(20 * batch))
    assert rate(2 * batch) == pytest.approx(rate(math.inf), rel=0.02)
    assert 0.5 < rate(batch + 1.0) / rate(2 * batch) < 1.0
    # Fewer requests than places: one round, of those alone.
    assert rate(64.0) < rate(128.0) < rate(batch)


def test_energy_by_hand_and_by_scope():
    energy = {"energy_per_output_token_j": "0.9", "power_scope": "gpu-only (NVML)", "load_mode": "saturated"}
    p = point(**energy, avg_batch_size="15.5")
    assert p.concurrency == 15.5
    found = predicted(p)
    table = table_of([p], ENGINE)
    per_s = found["output_tok_s_per_gpu"] * 8 / p.osl
    watts = mean_power_w(
        table,
        np.array([15.5]),
        np.array([found["tpot_ms_p50"] * 1e-3]),
        np.array([p.isl + p.osl / 2]),
        per_s,
        p.isl,
    )
    assert found["energy_per_output_token_j"] == pytest.approx(watts[0] / (per_s * p.osl))
    wall = predicted(point(**{**energy, "power_scope": "wall"}, avg_batch_size="15.5"))
    expected = wall_power_w(table, watts)[0] / watts[0]
    assert wall["energy_per_output_token_j"] / found["energy_per_output_token_j"] == pytest.approx(expected)


def test_profiles_scale_what_they_say():
    p = point()
    bare = EngineProfile(host_step_s=0.0, accelerators=("h200-sxm",), first_token_s=0.0)
    base = predicted(p, bare)["tpot_ms_p50"]
    assert predicted(p, dataclasses.replace(bare, multiplier=1.5))["tpot_ms_p50"] == pytest.approx(1.5 * base)
    host = dataclasses.replace(bare, host_step_s=3e-3, per_sequence_s=1e-5)
    # The prefills of the others take a host step each too.
    assert base + 3.16 <= predicted(p, host)["tpot_ms_p50"] <= base + 3.16 + 0.06
    assert default_profile("vllm", 2023).host_step_s > default_profile("vllm", 2026).host_step_s
    assert default_profile("unheard-of").name.startswith("unheard-of")


def comparison(measured, predicted, **changes):
    p = dataclasses.replace(point(), **changes)
    return Comparison(
        p, "tpot_ms_p50", measured, predicted, predicted / 1.3, predicted * 1.3, CLASSES[0], "k"
    )


def test_error_tables_by_hand():
    rows = [comparison(10, 11), comparison(10, 7)]
    rows += [comparison(10, 12, source="other"), comparison(10, 10, source="third")] * LEAST_ROWS
    rows.append(comparison(10, 99, out_of_score="host-bound"))
    table = {(row.by, row.key): row for row in error_tables(rows)}
    own = table["source", "InferenceX"]
    assert (own.count, own.median, own.mean, own.signed) == pytest.approx((2, 0.2, 0.2, -0.1))
    assert (own.within_20, own.covered, own.p90) == pytest.approx((0.5, 0.5, 0.28))
    macro = table["all", GIVEN]  # sources of many rows weigh the same, those of few do not count
    assert (macro.count, macro.sources) == (2 * LEAST_ROWS, 2)
    assert macro.median == pytest.approx(0.1)
    assert (macro.median_low, macro.median_high) == pytest.approx((0.1, 0.1))


def test_intervals_of_averages_by_drawing_again():
    low, high = bootstrap([np.linspace(0.0, 0.4, 21), np.full(30, 0.3)])
    # The median of 21 even errors deviates by about 0.4·√(1/(4·23)) = 0.042; half of it in the average of two.
    assert low == pytest.approx(0.25 - 1.28 * 0.021, abs=0.01)
    assert high == pytest.approx(0.25 + 1.28 * 0.021, abs=0.01)


def test_slices():
    assert slice_of(point()) == GIVEN
    assert slice_of(dataclasses.replace(point(), accelerator="mi355x")) == BY_PART
    assert slice_of(dataclasses.replace(point(), model="Kimi-K2.5")) == BY_MODEL
    assert slice_of(dataclasses.replace(point(), held_out="part")) == BY_PART


def test_what_is_held_out_counts_in_slices_alone():
    rows, held = [comparison(10, 11)], [comparison(10, 15, held_out="part")]
    table = {(row.by, row.key): row for row in error_tables(rows, held)}
    assert (table["slice", GIVEN].median, table["slice", BY_PART].median) == pytest.approx((0.1, 0.5))
    assert table["source", "InferenceX"].count == 1


def test_generations_left_out(shipped):
    errors = {}
    for c in shipped.held_out:
        assert c.kind == "unmeasured_generation"
        if c.scored and c.metric == "tpot_ms_p50" and c.point.source == "InferenceX":
            errors.setdefault(c.point.accelerator, []).append(abs(c.error))
    assert np.median(errors["h200-sxm"]) <= 0.15
    assert np.median(errors["b200-sxm"]) <= 0.15


def test_widths_weigh_pairs_and_are_tested_on_others():
    sizes = np.array([0.1] * 90 + [0.5] * 2 + [0.2] * 2)
    pairs = np.array(["a"] * 90 + ["b"] * 2 + ["c"] * 2)
    assert weighted_width(sizes, pairs) == 0.5  # a third of the weight, however few the rows
    rows = [
        comparison(10 * math.exp(size), 10, model=model)
        for model, size in (("DeepSeek-R1", 0.1), ("Llama-3.1-8B", 0.2), ("Qwen3-8B", 0.3))
        for _ in range(10)
    ]
    (found,) = coverage(rows)
    assert (found.pairs, found.rows) == (3, 30)
    assert found.covered == pytest.approx(2 / 3)  # the widest pair is not covered by the other two
    assert half_width("time", "known_kernels") < half_width("ttft", "known_kernels")


def test_rank_agreement_compares_what_a_planner_would():
    rows = [
        comparison(10, 10),
        comparison(20, 30, accelerator="b200-sxm"),
        comparison(10.5, 5, accelerator="mi300x"),  # within 10 % of the first: no order to get right
        comparison(99, 1, isl=77.0),  # another load
    ]
    (found,) = rank_agreement(rows)
    assert (found.pairs, found.agreed) == (2, 1.0)


def test_safety_factors():
    table = table_of([point(), point(accelerator="MI300X")], EngineProfile())
    assert safety_factor(table, 0.5) == pytest.approx([1.0, 1.0])
    assert np.log(safety_factor(table, 0.9)) == pytest.approx(log_half_width(table))
    with pytest.raises(ValueError, match="between 0 and 1"):
        safety_factor(table, 1.0)
    own = EngineProfile(name="mine", accelerators=("h200-sxm",), expected_error=0.08)
    mine = log_half_width(table_of([point(), point(accelerator="MI300X")], own))
    assert mine[0] == pytest.approx(math.log(1.08))
    assert mine[1] == pytest.approx(log_half_width(table)[1])


@pytest.fixture(scope="module")
def shipped():
    return validate()


def test_the_shipped_rows_validate(shipped):
    document = shipped.to_dict()
    text = json.dumps(document)
    assert "row_id" in text
    assert {row["metric"] for row in document["rows"]} == set(PREDICTED) - {"prefill_power_w", "decode_power_w"}
    for row in document["rows"]:
        assert 0 < row["low"] < row["predicted"] < row["high"]
    assert not document["skipped"]


def test_targets_that_hold(shipped):
    ranks = {(row.source, row.metric): row for row in shipped.ranks}
    pairs = sum(row.pairs for row in ranks.values())
    assert sum(row.pairs * row.agreed for row in ranks.values()) / pairs >= 0.82
    stacks = [row.median_after for row in shipped.user_calibration]
    assert np.median(stacks) <= 0.07
    first = {row.key: row for row in shipped.summary if row.metric == "ttft_ms_p50" and row.by in ("source", "all")}
    assert first["InferenceX"].median <= 0.25
    assert first[GIVEN].median <= 0.30
    energy = [row for row in shipped.summary if row.by == "source" and row.key == "ML.ENERGY-v3"]
    assert [row.median <= 0.15 for row in energy] == [True]
    # Offline throughput, and TensorRT-LLM's newest table alone.
    rates = [r for r in shipped.summary if r.by == "source" and r.metric == "output_tok_s_per_gpu"]
    offline = {r.key: r.median for r in rates if r.key.startswith(("TensorRT-LLM", "MLPerf"))}
    assert np.mean(list(offline.values())) <= 0.12
    assert offline["TensorRT-LLM-perf-overview-v1"] <= 0.12
    # What agents run on; multi-turn rows at the hit ratio that explains them best.
    slices = {(row.key, row.metric): row.median for row in shipped.summary if row.by == "slice"}
    assert slices["disaggregated", TPOT_AT_SHARE] <= 0.10
    assert slices["disaggregated", "tpot_ms_p50"] <= 0.13
    assert slices["disaggregated", "total_tok_s_per_gpu"] <= 0.15
    assert slices["cached", "tpot_ms_p50"] <= 0.08
    assert slices["cached", "itl_ms_p50"] <= 0.12
    two_nodes = [c for c in shipped.comparisons if c.point.tp == 16 and c.metric == "tpot_ms_p50"]
    assert len(two_nodes) == 5
    assert max(abs(c.error) for c in two_nodes) <= 0.20


def test_unknown_rows_are_counted():
    found = validate_rows(
        [ROW, {**ROW, "accelerator": "GH200"}, {**ROW, "n_accel": "1", "tp": "1", "ep": "1"}], leave_out=False
    )
    assert found.skipped == {"accelerator without a card": 1, "does not fit in memory as described": 1}


def test_plots(shipped, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    for path in write_plots(shipped.comparisons, tmp_path / "plots"):
        assert path.stat().st_size > 10_000
