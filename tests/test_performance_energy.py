"""Power and energy against the figures of facts/performance_model.md 4."""

import numpy as np
import pytest
from performance_tables import FP8, table_of

from codesign.catalog import accelerators
from codesign.performance import decode_weight_bytes, kv_transfer_bytes, prefill_flops, prefill_seconds
from codesign.performance.energy import (
    base_power_w,
    joules_per_byte,
    joules_per_flop,
    peak_power_w,
    prefill_energy_j,
    tdp_w,
)


def test_base_power_is_inherited_by_tdp():
    table = table_of(
        ("h100-sxm", "Llama-3.1-70B", FP8, (8, 1, 1, 1)),
        ("l40s", "Llama-3.1-8B", FP8, (1, 1, 1, 1)),
        ("a100-40-sxm", "Llama-3.1-8B", FP8, (1, 1, 1, 1)),
    )
    assert base_power_w(table) == pytest.approx([8 * 328, 328 * 350 / 700, 154])
    assert joules_per_byte(table) == pytest.approx([54e-12, 54e-12, 116e-12])
    assert joules_per_flop(table) == pytest.approx([1.56e-12, 1.56e-12, 1.54e-12])
    assert tdp_w(table) == pytest.approx([700, 350, 400])


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
    ceiling = prefill_seconds(table, tokens) * (700 - 328) * table.tp[:, None]
    assert (energy <= ceiling * (1 + 1e-12)).all()
    assert energy[0, 2] == pytest.approx(ceiling[0, 2])  # a long prompt runs at TDP
    moved = decode_weight_bytes(table, 1.0)[0, 0] + kv_transfer_bytes(table, 1.0)[0, 0]
    assert energy[0, 0] == pytest.approx(moved * 54e-12 + prefill_flops(table, 1.0)[0, 0] * 1.56e-12)
