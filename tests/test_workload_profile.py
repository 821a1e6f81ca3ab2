import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from codesign.catalog import Accelerator, accelerators, models
from codesign.problem.distributions import Distribution
from codesign.problem.instance import (
    HardwareOption,
    Instance,
    Limits,
    Model,
    Options,
    Redundancy,
    Site,
    TaskClass,
    Variant,
)
from codesign.workload import Formats, Unit, littles_law, parameter_counts, peak_flops, profile, weight_bytes

CARDS = models()
B200 = accelerators()["b200-sxm"].model_copy(update={"memory_capacity": 192e9})
FP16 = Formats("fp16", "bf16", "bf16")


def task(name: str = "agent", **changes: Any) -> TaskClass:
    base = TaskClass(
        name=name,
        rate_per_s=2.0,
        calls=Distribution.constant(10),
        context=Distribution.constant(8000),
        append=Distribution.constant(1000),
        output=Distribution.constant(500),
        tool_wait=Distribution.constant(4.0),
        prefix_reusable=0.75,
        variants=(Variant("full", "m", None, 1.0, 1.0),),
        ttft_slo=((0.5, 1.0), (0.99, 9.0)),
        tpot_slo=((0.95, 0.03),),
    )
    return dataclasses.replace(base, **changes)


def instance(
    *tasks: TaskClass, card: str = "Llama-3.1-70B", parts: tuple[Accelerator, ...] = (B200,), **model: Any
) -> Instance:
    fields: dict[str, Any] = {"weights": ("fp16",), "activations": ("bf16",), "kv": ("bf16",), **model}
    return Instance(
        name="test",
        objective="cost_per_hour",
        site=Site(None, 1.25, 0.0, 0.0),
        models=(Model("m", CARDS[card], 1.0, **fields),),
        tasks=tasks,
        hardware=tuple(HardwareOption(p.id, p, p.id, 8, None, (), ()) for p in parts),
        measured_pools=(),
        limits=Limits(),
        redundancy=Redundancy(),
        options=Options(),
        price_list_ids=(),
        price_date="",
    )


def rows(problem: Instance, **wanted: Any) -> list[Any]:
    found = profile(problem).phases
    return [row for row in found if all(getattr(row, key) == value for key, value in wanted.items())]


def test_a_b200_of_192_gb_is_full_where_the_paper_says() -> None:
    full = profile(instance(task()), batches=(1, 4, 16)).capacity
    assert [row.accelerators for row in full] == [1, 1, 1]
    tokens = [row.max_context_tokens or 0.0 for row in full]
    assert [round(t / 1000, 1) for t in tokens] == [155.3, 38.8, 9.7]


@pytest.mark.parametrize(
    ("kv", "expected"), [("bf16", [370.6, 92.7, 23.2]), ("fp8", [741.3, 185.3, 46.3])]
)
def test_in_fp8_it_is_full_later(kv: str, expected: list[float]) -> None:
    problem = instance(task(), weights=("fp8",), activations=("fp8",), kv=(kv,))
    full = profile(problem, batches=(1, 4, 16)).capacity
    assert [(row.max_context_tokens or 0) / 1000 for row in full] == pytest.approx(expected, abs=0.06)


def test_ffn_decode_rows_hold_the_intensity_of_the_paper() -> None:
    found = profile(instance(task()), batches=(1, 16, 64, 128)).phases
    ffn = [row.operational_intensity for row in found if row.phase == "decode" and row.block == "ffn"]
    assert [round(value, 1) for value in ffn] == [1.0, 16.0, 63.4, 125.5]


def test_every_phase_block_and_batch_has_a_row() -> None:
    found = profile(instance(task()), batches=(1, 16)).phases
    keys = {(row.phase, row.block, row.batch) for row in found}
    blocks = ("all", "attention", "ffn")
    expected = {(phase, block, b) for phase in ("prefill", "decode") for block in blocks for b in (1, 16)}
    assert keys == expected | {("parked", "all", 1), ("parked", "all", 16)}
    assert len(found) == len(keys)


def test_figures_of_a_row_by_hand() -> None:
    weights = weight_bytes(CARDS["Llama-3.1-70B"], "fp16")
    (decode,) = rows(instance(task()), phase="decode", block="all", batch=16)
    assert decode.context_tokens == 8250  # prompt and half of the output
    assert decode.cf_request_bytes == pytest.approx(weights / 16 + 8250 * 327_680)
    assert decode.cf_device_bytes == pytest.approx(weights + 16 * 8250 * 327_680)
    (attention,) = rows(instance(task()), phase="decode", block="attention", batch=16)
    assert attention.bytes_per_call == pytest.approx(500 * 8250 * 327_680)
    assert attention.operational_intensity == pytest.approx(8.0)
    (parked,) = rows(instance(task()), phase="parked", batch=16)
    assert parked.cf_request_bytes == 8500 * 327_680
    assert parked.operational_intensity == 0


def test_prefill_computes_what_is_new() -> None:
    (cached,) = rows(instance(task()), phase="prefill", block="ffn", batch=1)
    (whole,) = rows(instance(task(prefix_reusable=0.0)), phase="prefill", block="ffn", batch=1)
    assert cached.flops_per_call == pytest.approx(0.25 * whole.flops_per_call)


def test_averages_are_over_the_population_not_at_its_mean() -> None:
    spread = task(context=Distribution.from_mean(8000, cv=1.5), prefix_reusable=0.0)
    (flat,) = rows(instance(task(prefix_reusable=0.0)), phase="prefill", block="attention", batch=1)
    (wide,) = rows(instance(spread), phase="prefill", block="attention", batch=1)
    assert wide.context_tokens == pytest.approx(flat.context_tokens)
    assert wide.flops_per_call == pytest.approx((1 + 1.5**2) * flat.flops_per_call, rel=1e-3)


def test_regimes_cross_as_the_paper_says() -> None:
    long = task(context=Distribution.constant(20_000))
    regime = {
        (row.phase, row.batch): row.regime["b200-sxm"]
        for row in profile(instance(long)).phases
        if row.block == "all"
    }
    assert regime["decode", 1] == "bandwidth"
    assert regime["decode", 16] == "capacity"  # full at 9.7K tokens
    assert regime["prefill", 1] == "compute"
    assert regime["parked", 1] == "capacity"
    at_border = [
        rows(instance(task(context=Distribution.constant(c))),
             phase="decode", block="all", batch=1)[0].regime["b200-sxm"]
        for c in (155_000, 155_100)  # and half of 500 tokens of output
    ]  # fmt: skip
    assert at_border == ["bandwidth", "capacity"]


def test_slow_links_bind() -> None:
    slow = B200.model_copy(update={"id": "slow-net", "scaleout_bandwidth": 1e8})
    slow_scaleup = accelerators()["h100-sxm"].model_copy(update={"id": "slow-up", "scaleup_bandwidth": 1e9})
    found = rows(instance(task(), parts=(B200, slow, slow_scaleup)), phase="prefill", block="all", batch=1)
    assert found[0].regime == {"b200-sxm": "compute", "slow-net": "link", "slow-up": "link"}
    # Experts exchange activations only between accelerators: a single one has no such bytes.
    (ffn,) = rows(instance(task(), parts=(slow,)), phase="prefill", block="ffn", batch=1)
    assert ffn.regime == {"slow-net": "compute"}


def test_unit_is_the_smallest_that_holds_the_weights() -> None:
    h100 = accelerators()["h100-sxm"]
    llama, kimi = CARDS["Llama-3.1-70B"], CARDS["Kimi-K2"]
    assert Unit.smallest(B200, llama, FP16).size == 1
    assert Unit.smallest(h100, llama, FP16).size == 2
    never = Unit.smallest(h100, kimi, FP16)
    assert never.size == 8
    assert never.max_context(1) == 0
    problem = instance(task(), card="Kimi-K2", parts=(h100,))
    assert {row.regime["h100-sxm"] for row in rows(problem, phase="decode", block="all")} == {"capacity"}


def test_latents_are_kept_once_per_unit_by_attention_data_parallelism() -> None:
    formats = Formats("fp8", "fp8", "fp8")
    card = CARDS["DeepSeek-V3"]
    unit = Unit.smallest(B200, card, formats)
    assert unit.size == 4
    attention = 61 * parameter_counts(card).attention_per_layer + parameter_counts(card).index
    spare = 4 * 192e9 - weight_bytes(card, "fp8") - 3 * attention
    assert unit.max_context(64) == pytest.approx(spare / (64 * 35_136))


def test_peaks_fall_back_to_a_wider_format() -> None:
    a100, h100 = accelerators()["a100-40-sxm"], accelerators()["h100-sxm"]
    assert peak_flops(a100, "fp8") == a100.fp16_flops
    assert peak_flops(h100, "nvfp4") == h100.fp8_flops
    assert peak_flops(h100, "bf16") == h100.fp16_flops


def test_littles_law_of_the_design() -> None:
    # 4 coding tasks/s of 1,000 s are 4,000 open tasks, 15 TB of MLA cache at FP8 (DESIGN 3.6).
    assert littles_law(4.0, 1000.0) == 4000
    coding = task(
        rate_per_s=4.0,
        calls=Distribution.constant(40),
        context=Distribution.constant(106_000),
        tool_wait=Distribution.constant(0.0),
        ttft_slo=((0.95, 10.0),),
        tpot_slo=((0.95, 0.03),),
    )
    totals = profile(instance(coding, card="DeepSeek-V3", kv=("fp8",))).totals["agent"]
    assert totals.task_seconds == pytest.approx(1000)
    assert totals.open_tasks == pytest.approx(4000)
    assert totals.resident_kv_bytes == pytest.approx(15e12, rel=0.01)
    assert not totals.assumptions


def test_totals_by_hand() -> None:
    totals = profile(instance(task())).totals["agent"]
    # Ten calls of 1 s and 500 · 30 ms (the SLO of the lowest percentile), nine waits of 4 s.
    assert totals.task_seconds == pytest.approx(10 * (1 + 15) + 9 * 4)
    assert totals.open_tasks == pytest.approx(2 * 196)
    assert totals.resident_kv_bytes == pytest.approx(392 * 8500 * 327_680)
    # With a time-to-live of 5 minutes the last call's KV outlives its task.
    assert totals.resident_kv_bytes_with_ttl == pytest.approx(2 * (196 + 300) * 8500 * 327_680)
    assert totals.hit_ratio == pytest.approx(0.75)


def test_missing_slos_are_assumed_and_named() -> None:
    totals = profile(instance(task(ttft_slo=(), tpot_slo=()))).totals["agent"]
    assert totals.task_seconds == pytest.approx(10 * (1 + 25) + 36)
    assert len(totals.assumptions) == 2


def test_the_document_is_json() -> None:
    found = profile(instance(task(), task("measured", variants=()), card="Qwen3-Next-80B-A3B"))
    text = json.dumps(found.to_dict(), allow_nan=False)
    document = json.loads(text)
    assert set(document) == {"phases", "capacity", "totals", "chains"}
    assert set(document["totals"]) == {"agent"}
    assert {
        "task", "model", "phase", "block", "precision", "batch", "context_tokens", "operational_intensity",
        "cf_request_bytes", "cf_device_bytes", "flops_per_call", "bytes_per_call", "regime",
    } <= set(document["phases"][0])  # fmt: skip


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_card_has_a_profile(name: str) -> None:
    parts = tuple(accelerators().values())
    found = profile(instance(task(), card=name, parts=parts), batches=(1, 64))
    for row in found.phases:
        figures = (row.cf_request_bytes, row.cf_device_bytes, row.flops_per_call, row.bytes_per_call)
        assert np.all(np.isfinite(figures))
        assert set(row.regime) == set(accelerators())
        assert row.cf_device_bytes == pytest.approx(row.batch * row.cf_request_bytes)


def test_a_batch_is_at_least_one() -> None:
    with pytest.raises(ValueError, match=r"found batches \(0,\); expected integers ≥ 1"):
        profile(instance(task()), batches=(0,))
