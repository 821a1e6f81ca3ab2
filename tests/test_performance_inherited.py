"""Parts on paper: whose efficiency they take, what a derate and a memory for weights alone do."""

from dataclasses import dataclass

import numpy as np
import pytest

from codesign.catalog import accelerators, models
from codesign.performance import ConfigurationTable
from codesign.performance.confidence import log_half_width
from codesign.performance.constants import calibration_key, constants, generation, without_generation
from codesign.performance.energy import joules_per_byte, joules_per_flop
from codesign.performance.footprint import kv_capacity_bytes, weight_bytes
from codesign.performance.latency import decode_step_seconds, prefill_seconds
from codesign.performance.parts import PRECISIONS, AcceleratorArrays, tdp_of
from codesign.problem import Problem, ProblemError, resolve

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


def donor(part):
    """The measured part that an inherited one takes its constants from: of its own generation where that has rows."""
    table = constants()
    if table.sections["engine"]["generation"].get(generation(part)):
        return accelerators()[{"CDNA2": "mi250x", "CDNA3": "mi300x"}[generation(part)]]
    system, _ = table.system(part)
    return accelerators()[next(name for name, of in table.sections["systems"]["measured"].items() if of == system)]


def ratio_of_peaks(parts, precision, tp):
    """The largest factor by which a peak that a step may bind on is higher on the first part than on the second."""
    table = case_of(parts, precision, tp)
    a = table.part_accelerators
    peaks = [a.running_peak[:, precision], a.half_peak, a.index_peak, a.bandwidth]
    if tp > 1:
        peers = np.where(a.mesh_peers > 0, a.mesh_peers / (tp - 1), 1.0)
        peaks.append(a.scaleup / np.maximum(peers, 1.0))
    return max(1.0, *(peak[0] / peak[1] for peak in peaks))


def case_of(parts, precision, tp, card="Llama-3.1-70B"):
    each = np.ones(2, dtype=int)
    columns = (np.arange(2), 0 * each, *3 * (precision * each,), tp * each, each, each, each)
    return ConfigurationTable(list(parts), [models()[card]], *columns)


@pytest.mark.parametrize("precision", [PRECISIONS.index("bf16"), FP8], ids=["bf16", "fp8"])
@pytest.mark.parametrize("card", ["Llama-3.1-70B", "DeepSeek-R1", "gpt-oss-120b"])
def test_an_inherited_part_is_never_slower_than_its_donor_by_more_than_a_ratio_of_peaks(card, precision):
    measured = constants().sections["systems"]["measured"]
    heirs = [part for name, part in accelerators().items() if name not in measured and donor(part) is not part]
    assert {"mi355x", "mi325x", "rubin-nvl72", "tpu-v7x", "trn3", "h100-pcie"} <= {part.id for part in heirs}
    for part in heirs:
        for tp in (1, 8):
            if tp > min(part.scaleup_domain, donor(part).scaleup_domain):
                continue
            pair = donor(part), part
            table, most = case_of(pair, precision, tp, card), ratio_of_peaks(pair, precision, tp)
            for batch in (1.0, 64.0, 1024.0):
                steps = decode_step_seconds(table, batch, [0.0])[:, 0]
                assert steps[1] <= most * steps[0] * (1 + 1e-9), (part.id, tp, batch)
            for tokens in (16.0, 8192.0):
                prompts = prefill_seconds(table, tokens)[:, 0]
                assert prompts[1] <= most * prompts[0] * (1 + 1e-9), (part.id, tp, tokens)


def test_host_terms_belong_to_the_generation_that_they_were_measured_on():
    parts = [accelerators()[name] for name in ("mi300x", "mi325x", "mi250x", "mi355x", "b200-sxm", "tpu-v7x")]
    arrays = AcceleratorArrays.build(parts)
    assert arrays.host_step == pytest.approx([11e-3, 11e-3, 11e-3, 1e-3, 1e-3, 1e-3])
    assert arrays.prefill_factor == pytest.approx([1.6, 1.6, 1.6, 1.0, 1.0, 1.0])
    on_paper = parts[0].model_copy(update={"id": "own", "architecture": "", "inherits": "mi300x"})
    assert AcceleratorArrays.build([on_paper]).host_step == pytest.approx([11e-3])
    assert [constants().has_rows(part) for part in parts] == [True, True, True, False, True, False]


def test_a_generation_without_rows_has_the_widest_band():
    def width(name):
        return float(log_half_width(case(accelerators()[name]).table)[0])

    assert width("b200-sxm") < width("h100-pcie") <= width("mi300x") < width("mi355x") == width("tpu-v7x")


def test_a_generation_can_be_left_out():
    before = case(accelerators()["h200-sxm"]).step(16.0)
    with without_generation("Hopper"):
        assert calibration_key(accelerators()["h200-sxm"]) == "inherited:blackwell"
        assert not constants().has_rows(accelerators()["h100-sxm"])
        # All-to-all between nodes was measured on Hopper alone: nothing else could stand for it.
        left = {key for key, row in constants().rows.items() if row["system"] == "hopper"}
        assert left == {(f"exchange_{kind}", "hopper", "nodes") for kind in ("low_latency", "throughput")}
        assert case(accelerators()["h200-sxm"]).step(16.0) != before
    assert case(accelerators()["h200-sxm"]).step(16.0) == before
    with pytest.raises(KeyError, match="nothing was measured on CDNA4"), without_generation("CDNA4"):
        pass


def test_a_tdp_that_nobody_published_follows_from_peaks():
    # Rubin CPX: 20 PFLOP/s of NVFP4, at the 1,800 W of 35 that Rubin draws.
    watts, source = tdp_of(accelerators()["rubin-cpx"])
    assert (watts, source) == (pytest.approx(1800.0 * 20 / 35), "from rubin-nvl72's watts per FLOP")
    assert tdp_of(accelerators()["tpu-v5p"]) == (pytest.approx(459.0), "from its 16-bit peak")
    assert tdp_of(accelerators()["sn40l"]) == (pytest.approx(630 / 1.5), "from its all-in power")
    assert tdp_of(B200) == (1000.0, "")


def test_power_that_binds_needs_a_tdp():
    task = {"name": "t", "rate": "2/s", "context": 1000, "output": 200, "models": ["m"]}
    base = {"models": {"m": {"card": "gpt-oss-120b"}}, "tasks": [task]}

    def problem(**changes):
        hardware = {"x": {"accelerator": "rubin-cpx", "price": "5 $/h"} | changes}
        return Problem.from_dict({**base, "hardware": hardware})

    assert any("no TDP of rubin-cpx is published" in text for text in resolve(problem()).warnings)
    with pytest.raises(ProblemError, match=r"hardware\.x.*no TDP of rubin-cpx.*site\.power.*tdp: 800 W"):
        resolve(problem().replace({"site.power": "1 MW"}))
    resolve(problem(tdp="880 W").replace({"site.power": "1 MW"}))
