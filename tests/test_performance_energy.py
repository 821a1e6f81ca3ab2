"""Power and energy against the figures of facts/performance_model.md 4."""

import numpy as np
import pytest
from performance_tables import FP8, table_of

from codesign.catalog import accelerators
from codesign.performance import (
    decode_flops,
    decode_weight_bytes,
    kv_read_bytes,
    kv_transfer_bytes,
    prefill_flops,
    prefill_seconds,
)
from codesign.performance.energy import (
    base_power_w,
    energy_constants,
    idle_power_w,
    joules_per_byte,
    joules_per_flop,
    mean_power_w,
    peak_power_w,
    prefill_energy_j,
    prefill_power_w,
    tdp_w,
    wall_power_w,
)


def rows():
    return {row["system"]: row for row in energy_constants()["power"]}


def test_base_power_is_inherited_by_tdp():
    table = table_of(
        ("h100-sxm", "Llama-3.1-70B", FP8, (8, 1, 1, 1)),
        ("l40s", "Llama-3.1-8B", FP8, (1, 1, 1, 1)),
        ("a100-40-sxm", "Llama-3.1-8B", FP8, (1, 1, 1, 1)),
    )
    h100, a100 = rows()["h100_sxm"], rows()["a100_sxm"]
    assert base_power_w(table) == pytest.approx(
        [8 * h100["base_w"], h100["base_w"] * 350 / 700, a100["base_w"]]
    )
    assert joules_per_byte(table) * 1e12 == pytest.approx([h100["pj_per_byte"]] * 2 + [a100["pj_per_byte"]])
    assert joules_per_flop(table) * 1e12 == pytest.approx([h100["pj_per_flop"]] * 2 + [a100["pj_per_flop"]])
    assert tdp_w(table) == pytest.approx([700, 350, 400])
    assert (idle_power_w(table) < base_power_w(table)).all()


def test_mean_power_by_hand():
    table = table_of(("h100-sxm", "Llama-3.1-8B", ("bf16", "bf16", "bf16"), (1, 1, 1, 1)))
    batch, step, context = np.array([16.0]), np.array([0.012]), np.array([2000.0])
    moved = decode_weight_bytes(table, 16.0)[0, 0] + 16 * kv_read_bytes(table, 2000.0)[0, 0]
    flop = 16 * decode_flops(table, 2000.0)[0, 0]
    h100 = rows()["h100_sxm"]
    expected = h100["base_w"] + (moved * h100["pj_per_byte"] + flop * h100["pj_per_flop"]) * 1e-12 / step[0]
    found = mean_power_w(table, batch, step, context)
    assert found[0] == pytest.approx(expected)
    # Prompts between the steps cost more; a replica never draws more than its TDP; the wall sees the host too.
    busy = mean_power_w(table, batch, step, context, prompts_per_s=1.0, prompt_tokens=1000.0)
    assert found[0] < busy[0] <= 700
    assert mean_power_w(table, batch, step, context, 1e3, 1000.0)[0] == pytest.approx(700)
    assert wall_power_w(table, found)[0] > found[0] + 200


def test_a_side_without_load_and_one_with_little():
    """An H100 of 700 W waits at 0.11 of them, 77 W, and works from 345.8 W on. Eight without prompts: 616 W, and 0.38
    of TDP each for their host. With prompts for 5 % of the time, 5 % of 268.8 W each, and what the prompts take."""
    table = table_of(("h100-sxm", "Llama-3.1-70B", FP8, (8, 1, 1, 1)))
    assert prefill_power_w(table, 0.0, 2000.0)[0] == pytest.approx(8 * 77.0)
    assert wall_power_w(table, prefill_power_w(table, 0.0, 2000.0))[0] == pytest.approx(8 * 77.0 + 8 * 266.0)
    seconds = float(prefill_seconds(table, np.array([2000.0]))[0, 0])
    rate = 0.05 / seconds
    joules = float(prefill_energy_j(table, np.array([2000.0]))[0, 0])
    by_hand = 8 * (77.0 + 0.05 * (345.8 - 77.0)) + rate * joules
    assert prefill_power_w(table, rate, 2000.0)[0] == pytest.approx(by_hand)
    assert by_hand < 0.05 * 8 * 700 + 0.95 * 8 * 77 + 1.0  # idle but for the 5 %, in which no TDP is exceeded
    still = mean_power_w(table, np.array([1.0]), np.array([0.01]), np.array([1000.0]), busy=0.0)
    assert still[0] == pytest.approx(8 * 77.0)


def test_peak_power_is_all_in_where_known():
    assert peak_power_w(accelerators()["h100-sxm"]) == pytest.approx(1370)
    assert peak_power_w(accelerators()["a100-80-sxm"]) == pytest.approx(600)  # 1.5 × 400 W
    assert all(peak_power_w(part) > 0 for part in accelerators().values())


def test_prefill_energy_is_dynamic_and_capped_at_tdp():
    table = table_of(
        ("h100-sxm", "Llama-3.1-70B", FP8, (4, 1, 1, 1)), ("h200-sxm", "DeepSeek-V3", FP8, (1, 1, 8, 8))
    )
    tokens = np.array([1.0, 512.0, 16384.0])
    energy = prefill_energy_j(table, tokens)
    assert (np.diff(energy, axis=1) > 0).all()
    h100 = rows()["h100_sxm"]
    ceiling = prefill_seconds(table, tokens) * (700 - h100["base_w"]) * table.tp[:, None]
    assert (energy <= ceiling * (1 + 1e-12)).all()
    assert energy[0, 2] == pytest.approx(ceiling[0, 2])  # a long prompt runs at TDP
    moved = decode_weight_bytes(table, 1.0)[0, 0] + kv_transfer_bytes(table, 1.0)[0, 0]
    flop = prefill_flops(table, 1.0)[0, 0]
    assert energy[0, 0] == pytest.approx((moved * h100["pj_per_byte"] + flop * h100["pj_per_flop"]) * 1e-12)
