"""What runs beside what, which tensors stay in 16 bits, ranks across nodes, and prefixes in the cache."""

import math

import numpy as np
import pytest
from performance_tables import FP8, table_of

from codesign.catalog import accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    cached_prefill_range,
    decode_step_seconds,
    prefill_seconds,
)
from codesign.performance.constants import constants
from codesign.performance.footprint import decode_flops, weight_bytes
from codesign.performance.latency import _exchange, _experts, _mixture
from codesign.performance.profile import EngineProfile
from codesign.performance.replica import replica
from codesign.workload.parameters import parameter_counts, tensor_bits
from codesign.workload.parameters import weight_bytes as card_bytes

FP4 = ("nvfp4",) * 3


def tokens(*values):
    return np.array(values, dtype=float)[:, None]


def test_shared_experts_run_beside_the_routed_ones():
    r = replica(table_of(("h200-sxm", "DeepSeek-V3", FP8, (8, 1, 8, 1))))
    shared = [r.gemms[name] for name in ("shared_up", "shared_down")]

    def parts(n):
        each = tokens(n)
        return _experts(r, each, r.hot(each))[0, 0] * 58, sum(g.seconds(each)[0, 0] for g in shared)

    # One token: floors and weights of 8 experts hide what the shared one takes.
    routed, beside = parts(1)
    assert _mixture(r, tokens(1), tokens(1))[0, 0] == pytest.approx(max(routed, beside))
    # Many: both want all of the accelerator, and only floors overlap.
    routed, beside = parts(8192)
    floors = 58 * (r.moe["moe.t0"][0] + sum(g.floor[0] for g in shared))
    assert _mixture(r, tokens(8192), tokens(8192))[0, 0] == pytest.approx(routed + beside - floors)
    # Behind an all-to-all they run while tokens travel.
    wide = replica(table_of(("h200-sxm", "DeepSeek-V3", FP8, (1, 1, 8, 8))))
    each, group = tokens(16), tokens(128)
    hot = wide.hot(group)
    alone = 58 * (_experts(wide, group, hot) + _exchange(wide, group, hot))[0, 0]
    assert _mixture(wide, each, group)[0, 0] == pytest.approx(alone)


def test_skew_falls_with_tokens():
    r = replica(table_of(("h200-sxm", "DeepSeek-V3", FP8, (1, 1, 32, 32))))
    few, some, many = r.hot(tokens(1, 512, 1e9))[:, 0]
    assert few == r.moe["hot"][0]
    assert some == pytest.approx(1.2 + math.sqrt(2 * math.log(32) / (512 * 8 / 32)))
    assert many == pytest.approx(1.2, abs=1e-3)
    # The fullest rank never has less to do for more tokens.
    load = np.geomspace(1, 1e6, 200)
    assert (np.diff(load * r.hot(tokens(*load))[:, 0]) > 0).all()
    alone = replica(table_of(("h200-sxm", "DeepSeek-V3", FP8, (8, 1, 1, 1))))
    assert (alone.hot(tokens(1, 1e6)) == 1.0).all()


def test_ranks_across_nodes_pay_for_each_hop():
    """Two nodes of 8: an all-reduce in each, then two hops and an eighth of the message over the port of a rank."""
    table = table_of(("h100-sxm", "DeepSeek-V3", FP8, (16, 1, 16, 1)), ("h100-sxm", "DeepSeek-V3", FP8, (8, 1, 8, 1)))
    r, message = replica(table), np.array([[1e6]])
    found = r.all_reduce_seconds(message, r.tp, r.rank_class)[0]
    far, part = constants().row("exchange_low_latency", "hopper", "nodes"), accelerators()["h100-sxm"]
    hops = 2 * (far["cross_us"] + far["t0_us"]) * 1e-6
    over = 1e6 / 8 * 2 / 2 / (part.scaleout_bandwidth * far["e_out"])
    assert found[0] - found[1] == pytest.approx(hops + over)
    # So a step of one token takes longer on two nodes than on one, though each rank reads half of the weights.
    assert decode_step_seconds(table, 1.0)[0, 0] > decode_step_seconds(table, 1.0)[1, 0]


def test_tensors_that_stay_in_16_bits():
    """NVFP4 releases of DeepSeek leave what projects into attention in 16 bits, its output in 4."""
    card = models()["DeepSeek-V3"]
    usual = card.model_copy(update={"kept_16_bit": {}})
    part = accelerators()["b200-sxm"]
    index = PRECISIONS.index("nvfp4")
    rows = np.array([[0, m, index, index, index, 8, 1, 8, 1] for m in (0, 1)])
    table = ConfigurationTable((part,), (card, usual), *rows.T)
    kept = 61 * (7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256)
    assert card_bytes(card, "nvfp4") - card_bytes(usual, "nvfp4") == pytest.approx(kept * (16 - 4.5) / 8)
    assert card_bytes(card, "fp8") == card_bytes(usual, "fp8") == parameter_counts(card).total
    on_rank = 61 * (7168 * 1536 + 1536 * 16 * 192 + 7168 * 576 + 512 * 16 * 256)
    assert np.diff(weight_bytes(table))[0] == pytest.approx(-on_rank * (16 - 4.5) / 8)
    assert decode_flops(table, 1000.0)[0, 0] == decode_flops(table, 1000.0)[1, 0]
    # 4-bit products of one token are slower than 16-bit ones: packing costs more than the bytes that it saves.
    wide, narrow = (replica(table).gemms["qkv"].seconds(tokens(1))[0, m] for m in (0, 1))
    assert wide < narrow
    wide, narrow = (replica(table).gemms["qkv"].seconds(tokens(16384))[0, m] for m in (0, 1))
    assert wide > narrow
    out = replica(table).gemms["output"].seconds(tokens(1))[0]
    assert out[0] == out[1]
    assert tensor_bits(models()["Kimi-K2"], "int4", "shared") == 16.0
    assert tensor_bits(models()["Kimi-K2"], "fp8", "shared") == 8.0


def test_a_prompt_behind_a_cached_prefix():
    columns = np.array([0, 0, *[PRECISIONS.index("fp8")] * 3, 1, 1, 1, 1])[:, None]
    part, card = accelerators()["h200-sxm"], models()["Llama-3.1-70B"]
    plain, splitting = (
        ConfigurationTable((part,), (card,), *columns, engines=(EngineProfile(kernels=name),))
        for name in ("tensorrt-llm", "vllm")
    )
    for table in (plain, splitting):
        least, most = cached_prefill_range(table, [100.0, 2000.0], 30000.0)
        found = prefill_seconds(table, [100.0, 2000.0], 30000.0)
        assert found == pytest.approx(most if table is plain else least)
        assert (least < most).all()
        # Without a prefix there is nothing to split, and the range closes for long prompts behind it.
        whole = cached_prefill_range(table, 2000.0, 0.0)
        assert whole[0] == pytest.approx(whole[1])
        assert most[0, 0] / least[0, 0] > most[0, 1] / least[0, 1]
        for grid in ((np.geomspace(1, 1e5, 60), 2000.0), (np.full(60, 500.0), np.geomspace(1, 1e5, 60))):
            assert (np.diff(prefill_seconds(table, *grid)[0]) > 0).all()
