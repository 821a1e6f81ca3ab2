"""Parts on paper: whose efficiency they take, what a derate and a memory for weights alone do."""

from dataclasses import dataclass

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.performance import ConfigurationTable
from codesign.performance.constants import calibration_key
from codesign.performance.energy import joules_per_byte, joules_per_flop
from codesign.performance.footprint import kv_capacity_bytes, weight_bytes
from codesign.performance.latency import decode_step_seconds, prefill_seconds
from codesign.performance.parts import PRECISIONS

B200 = accelerators()["b200-sxm"]
FP8 = PRECISIONS.index("fp8")


@dataclass
class Case:
    table: ConfigurationTable

    def step(self, batch):
        return float(decode_step_seconds(self.table, np.array([batch]))[0, 0])


def case(part, card="Llama-3.1-70B"):
    names = [np.array([value]) for value in (0, 0, FP8, FP8, FP8, 1, 1, 1, 1)]
    return Case(ConfigurationTable([part], [models()[card]], *names))


def twin(**changes):
    return B200.model_copy(update={"id": "own", "architecture": "", "inherits": "b200-sxm"} | changes)


def test_a_twin_is_as_fast_as_its_relative_and_says_where_it_has_that_from():
    assert calibration_key(B200) == "kernel-fit:blackwell"
    assert calibration_key(twin()) == "inherited:blackwell"
    for batch in (1.0, 64.0):
        assert case(twin()).step(batch) == pytest.approx(case(B200).step(batch), rel=1e-12)


def test_a_derate_of_compute_and_memory_is_half_the_peak_and_bandwidth():
    peaks = {name: getattr(B200, name) / 2 for name in ("fp16_flops", "fp8_flops", "fp4_flops", "memory_bandwidth")}
    for batch in (1.0, 512.0):
        assert case(twin(derate=0.5)).step(batch) == pytest.approx(case(twin(**peaks)).step(batch), rel=1e-12)


def test_energy_factors_scale_bytes_and_operations():
    plain, cheap = case(twin()).table, case(twin(byte_energy_factor=0.5, flop_energy_factor=2.0)).table
    assert joules_per_byte(cheap)[0] == pytest.approx(0.5 * joules_per_byte(plain)[0])
    assert joules_per_flop(cheap)[0] == pytest.approx(2.0 * joules_per_flop(plain)[0])


def test_weights_in_a_memory_of_their_own_leave_the_rest_to_the_cache():
    flash = case(twin(weight_capacity=512e9, weight_bandwidth=1.6e12)).table
    plain = case(twin()).table
    gain = kv_capacity_bytes(flash)[0] - kv_capacity_bytes(plain)[0]
    assert gain == pytest.approx(weight_bytes(plain)[0])
    # 70 GB of weights at 1.6 instead of 7.7 TB/s.
    slower = Case(flash).step(1.0) - Case(plain).step(1.0)
    assert slower == pytest.approx(weight_bytes(plain)[0] * (1 / 1.6e12 - 1 / 7.7e12), rel=0.25)
    # A long prompt multiplies while its weights stream: it pays a part of that.
    prompts = [prefill_seconds(table, np.array([8192.0]))[0, 0] for table in (plain, flash)]
    assert 0.0 < prompts[1] - prompts[0] < weight_bytes(plain)[0] / 1.6e12


def test_weights_that_do_not_fit_their_memory_fit_nowhere():
    assert kv_capacity_bytes(case(twin(weight_capacity=60e9, weight_bandwidth=1.6e12)).table)[0] == 0.0


def test_a_memory_for_weights_needs_both_figures():
    with pytest.raises(ValueError, match="weight_capacity and weight_bandwidth"):
        type(B200).model_validate(B200.model_dump() | {"weight_capacity": "512 GB"}, context={
            "si_fields": frozenset(B200.model_dump())})
