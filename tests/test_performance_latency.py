"""Step and prefill times: against plain-Python arithmetic, published measurements, and monotonicity."""

import dataclasses
import math

import numpy as np
import pytest
from performance_tables import BF16, FP8, table_from, table_of

from codesign.catalog import accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    calibration,
    decode_attention_seconds,
    decode_step_seconds,
    expected_error,
    fits,
    kv_bytes,
    kv_capacity_bytes,
    precision_supported,
    prefill_attention_seconds,
    prefill_occupancy_seconds,
    prefill_seconds,
    shape_valid,
)
from codesign.performance.confidence import half_width
from codesign.performance.constants import constants
from codesign.performance.profile import EngineProfile

BATCHES = np.array([1.0, 4.0, 16.0, 64.0, 256.0])


# A second, scalar computation of the forms in facts/performance_model.md 2


def pnorm(x, y, p):
    return (x**p + y**p) ** (1 / p)


def gemm(row, part, peak, tokens, inputs, outputs, weight_bytes, input_bytes):
    moved = weight_bytes * inputs * outputs + input_bytes * tokens * inputs + 2 * tokens * outputs
    compute = 2 * (tokens + row["m0"]) * (outputs + row["n0"]) * (inputs + row["k1"]) / (peak * row["e"])
    memory = (moved + row["k0_kb"] * 1e3 * inputs) / (part.memory_bandwidth * row["b"])
    return row["t0_us"] * 1e-6 + pnorm(compute, memory, row["p"])


def grouped_query_layers(part, card, system, tp, tokens, precision):
    """Everything of a GQA model's layers but attention itself, on one rank with experts over the tp ranks."""
    table, bandwidth = constants(), part.memory_bandwidth
    narrow = precision == "fp8"
    peak, size = (part.fp8_flops, 1.0) if narrow else (part.fp16_flops, 2.0)
    # Dense models have one scale a tensor, MoE checkpoints scale blocks.
    kind = "fp8_tensor" if narrow and not card.moe_layers else precision
    main, half = table.row("gemm", system, kind), table.row("gemm", system, "bf16")

    def product(inputs, outputs):
        return gemm(main, part, peak, tokens, inputs, outputs, size, size)

    h, width = card.hidden, card.head_dim
    layer = product(h, (card.heads / tp + 2 * max(1, card.kv_heads / tp)) * width)
    layer += product(card.heads / tp * width, h)
    time = card.layers * layer
    if card.dense_layers:
        f = card.dense_intermediate / tp
        time += card.dense_layers * (product(h, 2 * f) + product(f, h))
    if card.moe_layers:
        row = table.row("moe", system, precision)
        time += card.moe_layers * gemm(half, part, part.fp16_flops, tokens, h, card.experts, 2.0, 2.0)
        active = card.experts * (1 - (1 - card.top_k / card.experts) ** tokens) / tp
        mean = tokens * card.top_k / tp
        # The fullest rank: that of the kernel tables for few tokens, 1.2 and chance for many.
        pairs = mean * min(tp ** row["s"], 3.0, 1.2 + math.sqrt(2 * math.log(tp) / mean))
        compute = 6 * (pairs + active * row["m0"]) * h * (card.expert_intermediate + row["i0"])
        moved = 3 * active * h * card.expert_intermediate * size + 8 * row["a"] * pairs * h
        experts = pnorm(compute / (peak * row["e"]), moved / (bandwidth * row["b"]), row["p"])
        time += card.moe_layers * (row["t0_us"] * 1e-6 + experts)
    if tp > 1:
        row = table.row("all_reduce", system, str(tp))
        message, link = tokens * h * 2, part.scaleup_bandwidth
        one_shot = (tp - 1) * message / (link * row["e1"])
        two_shot = row["lat_us"] * 1e-6 + 2 * (tp - 1) / tp * message / (link * row["e"])
        once = pnorm(row["t0_us"] * 1e-6, min(one_shot, two_shot), row["p"])
        time += 2 * card.layers * once
    moved = 2 * (4 * h * 2 * card.layers + 3 * card.dense_layers * card.dense_intermediate / tp) * tokens
    elementwise = table.sections["elementwise"]
    launches = 5 * card.layers * elementwise["launch_us"] * 1e-6
    return time + launches + moved / (bandwidth * elementwise["b"])


@pytest.mark.parametrize(
    ("part", "system", "model", "precision", "tp"),
    [
        ("h100-sxm", "hopper", "Llama-3.1-8B", "bf16", 1),
        ("h200-sxm", "hopper", "Llama-3.1-70B", "fp8", 8),
        ("b200-sxm", "blackwell", "Qwen3-235B-A22B", "fp8", 4),
    ],
)
@pytest.mark.parametrize("tokens", [1, 32])
def test_decode_and_prefill_by_hand(part, system, model, precision, tp, tokens):
    table = table_of((part, model, (precision,) * 3, (tp, 1, tp if "Qwen" in model else 1, 1)))
    a, card = accelerators()[part], models()[model]
    layers = grouped_query_layers(a, card, system, tp, tokens, precision)
    half = constants().row("gemm", system, "bf16")

    def head(rows):
        return gemm(half, a, a.fp16_flops, rows, card.hidden, card.vocab / tp, 2.0, 2.0)

    kv, row = 2.0 if precision == "bf16" else 1.0, constants().row("decode_attention", system, precision)
    heads = max(1, card.kv_heads / tp)
    per_token = 2 * card.head_dim * kv / (a.memory_bandwidth * row["b"])
    floor = row["t0_us"] * 1e-6 + row["b0"] * per_token * (4096 + row["s0"])
    step = layers + card.layers * floor + head(tokens) + 1e-3
    assert decode_step_seconds(table, tokens)[0, 0] == pytest.approx(step)

    grouped = card.heads / tp / heads
    flop = 4 * heads * 3000 * card.head_dim * (grouped + row["g0"]) / (a.fp16_flops * row["f"])
    attention = card.layers * pnorm(heads * per_token * (3000 + row["s0"]), flop, row["p"])
    assert decode_attention_seconds(table, 3000.0)[0, 0] == pytest.approx(attention)

    row, cached = constants().row("prefill_attention", system, precision), 500
    pairs, queries = 2 * (tokens * cached + tokens**2 / 2), card.heads / tp * tokens
    filled = (queries + row["w0"]) * pairs / tokens
    compute = 2 * (filled * (card.head_dim + row["d0"]) + queries * row["r0"] * 1e3)
    moved = tokens * card.heads / tp * card.head_dim * 4 + (tokens + cached) * 2 * heads * card.head_dim * kv
    rate = a.memory_bandwidth * row["b"]
    attention = row["t0_us"] * 1e-6 + pnorm(compute / (a.fp16_flops * row["e"]), moved / rate, row["p"])
    prefill = layers + card.layers * attention + head(1) + 1e-3
    assert prefill_seconds(table, tokens, cached)[0, 0] == pytest.approx(prefill)


def test_latent_attention_by_hand():
    table = table_of(("h200-sxm", "DeepSeek-V3", FP8, (8, 1, 1, 1)))
    a, row = accelerators()["h200-sxm"], constants().row("mla_decode", "hopper", "fp8")
    # 576 elements of a token, shared by all heads and hence on every rank; 1088 per head and token.
    memory = (10_000 + row["s0"]) * 576 / (a.memory_bandwidth * row["b"])
    compute = 10_000 * 1088 * (16 + row["h0"]) / (a.fp16_flops * row["f"])
    assert decode_attention_seconds(table, 10_000.0)[0, 0] == pytest.approx(61 * pnorm(memory, compute, row["p"]))


# Published measurements


@pytest.mark.parametrize(
    ("part", "tp", "isl", "osl", "tokens_per_s"),
    [
        # TensorRT-LLM performance overview v0.17 (2025-02, Apache-2.0): Llama-3.1-70B FP8, output tokens/s.
        ("h100-sxm", 2, 500, 2000, 4972.6),
        ("h100-sxm", 4, 500, 2000, 9836.7),
        ("h100-sxm", 4, 2048, 2048, 5480.0),
        ("h200-sxm", 1, 1000, 1000, 2823.4),
        ("h200-sxm", 2, 5000, 500, 1025.4),
        ("h200-sxm", 4, 20000, 2000, 1199.7),
    ],
)
def test_saturated_throughput_is_near_the_published(part, tp, isl, osl, tokens_per_s):
    table = table_of((part, "Llama-3.1-70B", FP8, (tp, 1, 1, 1)))
    middle = isl + osl / 2
    batch = min(1024.0, (kv_capacity_bytes(table)[:, None] / kv_bytes(table, middle))[0, 0])
    step = decode_step_seconds(table, batch) + batch * decode_attention_seconds(table, middle)
    # Prompts are prefilled several at a time: a lone short one pays floors that a batch of 4K tokens shares.
    together = max(4096.0, isl)
    prefill = prefill_seconds(table, together) * isl / together
    predicted = batch * osl / (batch * prefill + osl * step)[0, 0]
    assert predicted == pytest.approx(tokens_per_s, rel=0.3)


@pytest.mark.parametrize(
    ("part", "shape", "concurrency", "isl", "osl", "tpot_ms"),
    [
        # InferenceX (SemiAnalysis, Apache-2.0), DeepSeek-R1 FP8, TPOT p50; lengths are 0.9 × nominal.
        ("h200-sxm", (8, 1, 8, 1), 32, 1024, 1024, 25.32),
        ("h200-sxm", (8, 1, 8, 1), 16, 1024, 8192, 19.59),
        ("h200-sxm", (8, 1, 1, 1), 4, 1024, 1024, 13.81),
        ("b200-sxm", (8, 1, 1, 1), 64, 1024, 1024, 21.80),
        ("mi300x", (8, 1, 1, 1), 4, 8192, 1024, 19.43),
    ],
)
def test_time_per_token_is_near_the_published(part, shape, concurrency, isl, osl, tpot_ms):
    table = table_of((part, "DeepSeek-R1", FP8, shape))
    isl, osl = 0.9 * isl, 0.9 * osl
    step = decode_step_seconds(table, concurrency)
    step = step + concurrency * decode_attention_seconds(table, isl + osl / 2)
    together = max(4096.0, isl)
    interference = (concurrency - 1) / osl * prefill_seconds(table, together) * isl / together
    assert 1e3 * (step + interference)[0, 0] == pytest.approx(tpot_ms, rel=0.3)


# Shapes, monotonicity, parallelism


def everything(precisions, shapes):
    """Every accelerator with every model: admissible or not, numbers must be numbers."""
    rows = [(a, m, precisions, shape) for a in accelerators() for m in models() for shape in shapes]
    return table_from(list(accelerators().values()), list(models().values()), rows)


@pytest.mark.parametrize("precisions", [BF16, FP8, ("nvfp4", "nvfp4", "nvfp4"), ("int4", "bf16", "fp8")])
def test_finite_positive_and_monotone_for_the_whole_catalogue(precisions):
    table = everything(precisions, [(1, 1, 1, 1), (8, 1, 8, 1), (2, 4, 1, 1), (1, 1, 8, 8)])
    step = decode_step_seconds(table, BATCHES)
    attention = decode_attention_seconds(table, np.array([0.0, 100.0, 1e4, 1e6]))
    prefill = prefill_seconds(table, np.array([1.0, 100.0, 1e4, 1e5]))
    behind = prefill_seconds(table, np.full(4, 1000.0), np.array([0.0, 1e3, 1e4, 1e5]))
    for name, times in (("step", step), ("prefill", prefill), ("behind", behind)):
        assert np.isfinite(times).all(), name
        assert (times > 0).all(), name
        assert (np.diff(times, axis=1) >= -1e-12 * times[:, 1:]).all(), name
    assert np.isfinite(attention).all()
    assert (attention >= 0).all()
    assert (np.diff(attention, axis=1) >= 0).all()
    masks = [shape_valid(table), precision_supported(table), fits(table)]
    assert all(mask.shape == (len(table),) and mask.dtype == bool for mask in masks)


def test_arguments_broadcast_and_selections_agree():
    table = everything(FP8, [(2, 1, 1, 1), (4, 2, 1, 1)]).take(slice(0, 300))
    points = np.array([1.0, 8.0, 200.0])
    wide = np.broadcast_to(points, (len(table), 3))
    for function in (decode_step_seconds, decode_attention_seconds, prefill_seconds, kv_bytes):
        full = function(table, points)
        assert full.shape == (len(table), 3)
        np.testing.assert_array_equal(full, function(table, wide))
        np.testing.assert_array_equal(full[:, 1:2], function(table, 8.0))
        picked = np.array([7, 3, 250])
        np.testing.assert_allclose(full[picked], function(table.take(picked), points), rtol=1e-14)
    each = np.linspace(1.0, 50.0, len(table))[:, None]
    own = decode_step_seconds(table, each)
    assert own.shape == (len(table), 1)
    assert own[9, 0] == pytest.approx(decode_step_seconds(table.take([9]), each[9])[0, 0], rel=1e-14)


def test_tensor_parallelism_splits_heads_until_they_run_out():
    shapes = [(tp, 1, 1, 1) for tp in (1, 2, 4, 8, 16)]
    dense = table_of(*[("gb200-nvl72", "Llama-3.1-70B", FP8, shape) for shape in shapes])
    long = decode_attention_seconds(dense, 1e6)[:, 0]
    assert long[:4] * [1, 2, 4, 8] == pytest.approx(np.full(4, long[0]), rel=1e-6)
    # From 8 KV heads on only query heads are split: less than half is gained.
    assert 0.5 * long[3] < long[4] <= long[3]
    latent = table_of(*[("gb200-nvl72", "DeepSeek-V3", FP8, shape) for shape in [*shapes[:4], (1, 1, 8, 8)]])
    shared = decode_attention_seconds(latent, 1e6)[:, 0]
    assert shared[3] > shared[0] / 4  # every rank reads the whole latent
    assert shared[4] == pytest.approx(shared[0] / 8)  # data parallelism divides it
    assert shared[4] < shared[3]


def test_pipeline_shares_work_and_adds_hops():
    table = table_of(("h100-sxm", "Llama-3.1-70B", FP8, (4, 1, 1, 1)), ("h100-sxm", "Llama-3.1-70B", FP8, (4, 2, 1, 1)))
    one, two = decode_attention_seconds(table, 8192.0)[:, 0]
    assert two == pytest.approx(one / 2)
    # Twice the sequences are in flight, the latency of one token is that of the same layers.
    steps = decode_step_seconds(table, np.array([[32.0], [64.0]]))[:, 0]
    assert steps[1] == pytest.approx(steps[0], rel=0.2)
    latency = prefill_seconds(table, 4096.0)[:, 0]
    assert latency[1] > latency[0]
    assert prefill_occupancy_seconds(table, 4096.0)[:, 0] == pytest.approx(latency / [1, 2])


def test_prompt_tokens_join_the_step():
    table = table_of(("h100-sxm", "Llama-3.1-70B", FP8, (4, 1, 1, 1)))
    assert decode_step_seconds(table, 32.0, 0.0) == pytest.approx(decode_step_seconds(table, 32.0))
    mixed = decode_step_seconds(table, 32.0, np.array([0.0, 512.0, 2048.0]))[0]
    assert (np.diff(mixed) > 0).all()
    alone = prefill_seconds(table, 2048.0)[0, 0]
    # A mixed step of one sequence is about a prefill, whose attention is counted apart.
    one = (decode_step_seconds(table, 1.0, 2047.0) + prefill_attention_seconds(table, 2048.0))[0, 0]
    assert one == pytest.approx(alone, rel=0.05)


def test_sliding_windows_and_sparse_attention_read_less():
    table = table_of(
        ("h200-sxm", "gpt-oss-120b", ("mxfp4", "bf16", "fp8"), (1, 1, 1, 1)),
        ("h200-sxm", "DeepSeek-V3.2", FP8, (1, 1, 8, 8)),
        ("h200-sxm", "DeepSeek-V3", FP8, (1, 1, 8, 8)),
        ("h200-sxm", "Nemotron-H-56B", BF16, (8, 1, 1, 1)),
    )
    time = decode_attention_seconds(table, np.array([0.0, 2048.0, 100_000.0, 200_000.0]))
    growth = (time[:, 3] - time[:, 2]) / 100_000
    full = models()["gpt-oss-120b"].full_attention_layers
    window = (time[0, 1] - time[0, 0]) / 2048
    assert growth[0] < 1.1 * full * window / full
    assert time[1, 2] < 0.5 * time[2, 2]  # V3.2 against V3 at 100K tokens
    assert growth[1] > 0  # the index is read whole
    assert time[3, 0] > 0  # a recurrent state is read at any length
    new = prefill_seconds(table, 4096.0, np.array([0.0, 120_000.0]))
    assert new[1, 1] - new[1, 0] < 0.5 * (new[2, 1] - new[2, 0])


def test_faster_parts_are_never_slower():
    base = accelerators()["b200-sxm"]
    twice = {"memory_bandwidth": 2.0, "fp8_flops": 2.0, "fp16_flops": 2.0, "scaleup_bandwidth": 2.0}
    for field, factor in twice.items():
        faster = base.model_copy(update={"id": "faster", field: getattr(base, field) * factor})
        parts = [base, faster]
        cards = [models()[m] for m in ("Llama-3.1-70B", "DeepSeek-V3.2", "gpt-oss-120b", "Qwen3-Next-80B-A3B")]
        shape = (4, 1, 1, 1)
        rows = [(p.id, c.id, FP8, shape) for p in parts for c in cards]
        table = table_from(parts, cards, rows)
        for times in (
            decode_step_seconds(table, BATCHES),
            decode_attention_seconds(table, np.array([1e3, 1e5])),
            prefill_seconds(table, np.array([100.0, 1e4])),
        ):
            assert (times[4:] <= times[:4] * (1 + 1e-12)).all(), field


# Constants


def test_every_constant_names_its_source_and_date():
    table = constants()
    known = set(table.sections["sources"])
    for key, row in {**table.rows, **table.engine_rows}.items():
        assert row["source"] in known, key
        assert row["date"], key
        numbers = [value for value in row.values() if isinstance(value, int | float)]
        assert all(math.isfinite(value) and value >= 0 for value in numbers), key
    for name, section in table.sections.items():
        if name != "sources":
            assert section["source"] in known, name
            assert section["date"], name
    with pytest.raises(KeyError, match="no row for gemm"):
        table.row("gemm", "hopper", "fp2")


def test_engines_run_their_own_kernels():
    table = constants()
    own = table.row("decode_attention", "hopper", "bf16", "tensorrt-llm")
    assert own["source"] == "AIC-trtllm"
    assert own is not table.row("decode_attention", "hopper", "bf16")
    # Where an engine has no row of its own, the one for all; for parts without kernels, a relative's.
    assert table.row("gemm", "hopper", "bf16", "tensorrt-llm") is table.row("gemm", "hopper", "bf16")
    assert table.row("decode_attention", "cdna", "bf16", "tensorrt-llm") is own
    plain = table_of(("h200-sxm", "Llama-3.1-8B", BF16, (1, 1, 1, 1)))
    engine = dataclasses.replace(plain, engines=(EngineProfile(kernels="tensorrt-llm"),))
    assert decode_attention_seconds(engine, 5000.0) != decode_attention_seconds(plain, 5000.0)
    assert prefill_seconds(engine, 5000.0) == prefill_seconds(plain, 5000.0)
    with pytest.raises(ValueError, match="kernels: found 'llama'"):
        EngineProfile(kernels="llama")


def test_calibration_says_what_was_measured():
    rows = [(a, "Llama-3.1-8B", BF16, (1, 1, 1, 1)) for a in ("h100-sxm", "gb200-nvl72", "mi300x", "tpu-v6e")]
    table = table_of(*rows, ("h100-sxm", "Qwen3-Next-80B-A3B", BF16, (4, 1, 1, 1)))
    assert calibration(table) == [
        "kernel-fit:hopper",
        "kernel-fit:blackwell",
        "inherited:hopper",
        "inherited:hopper",
    ]
    kinds = ("known_kernels", "known_kernels", "inherited", "unmeasured_generation", "inherited")
    assert expected_error(table) == pytest.approx([np.expm1(half_width("time", kind)) for kind in kinds])
    assert PRECISIONS[0] == "bf16"
    assert isinstance(table.take([True, False, False, False, False]), ConfigurationTable)


def test_missing_units_fall_back():
    parts = [accelerators()[name] for name in ("a100-80-sxm", "groq3-lpu", "rubin-cpx")]
    table = table_from(parts, [models()["Llama-3.1-8B"]], [(p.id, "Llama-3.1-8B", BF16, (1, 1, 1, 1)) for p in parts])
    running = table.part_accelerators.running_peak
    at = PRECISIONS.index
    assert running[0, at("fp8")] == parts[0].fp16_flops  # W8A8 asked of a part without FP8: its 16-bit rate
    assert running[1, at("bf16")] == parts[1].fp8_flops / 2
    assert running[2, at("bf16")] == parts[2].fp4_flops / 4
