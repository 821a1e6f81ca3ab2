"""The chip model against published parts, arithmetic by hand, and what must never change."""

import math
from dataclasses import replace

import pytest

from codesign.hardware.chip import (
    Design,
    IoDies,
    MemorySystem,
    area,
    at_clock,
    chip_facts,
    limits,
    power,
    sram_needed_bytes,
    sustained_share,
    voltage,
)
from codesign.hardware.chip_cost import chip_cost, chip_price_usd, die_cost_usd, die_yield, dies_per_wafer
from codesign.hardware.parts import real_parts

DECODE = Design(
    node="N5",
    fp16_flops=500e12,
    memories=(MemorySystem("hbm3e", 8),),
    sram_bytes=64e6,
    scaleup_bytes_per_s=450e9,
    scaleout_bytes_per_s=50e9,
    vector_flops=40e12,
)


def broken(design):
    return {excess.limit for excess in limits(design) if excess.over > 0}


# ---- real parts that set no constant of the quantity


@pytest.mark.parametrize("name", ["l4", "l40s", "rtx-pro-6000-se", "mi355x"])
def test_area_of_held_out_parts_within_a_quarter(name):
    part = real_parts()[name]
    assert "area" in part.held_out
    assert area(part.design).compute_dies == pytest.approx(part.compute_mm2, rel=0.25)


@pytest.mark.parametrize("name", ["l40s", "rtx-pro-6000-se", "mi355x"])
def test_tdp_of_held_out_parts_within_a_quarter(name):
    part = real_parts()[name]
    assert "tdp" in part.held_out
    assert power(part.design).tdp == pytest.approx(part.tdp_w, rel=0.25)


def test_l4_draws_nearly_twice_its_tdp_at_its_rated_clock_which_its_cap_does_not_let_it_keep():
    # Asked ±25 %; short of it by 61 points, and by more for every form of the model that was tried without the L4.
    part = real_parts()["l4"]
    assert "tdp" in part.held_out
    assert power(part.design).tdp / part.tdp_w - 1.0 == pytest.approx(0.86, abs=0.02)
    # What the curve of voltage and clock leaves of the peak under 72 W is what matrix products are measured to reach.
    kept = sustained_share(part.design, part.tdp_w)
    assert kept == pytest.approx(part.sustained_flops / part.design.fp16_flops, rel=0.25)
    measured = at_clock(part.design, part.sustained_flops / part.design.fp16_flops)
    assert power(measured).tdp == pytest.approx(part.tdp_w, rel=0.25)


@pytest.mark.parametrize("name", ["h200-sxm", "mi355x"])
def test_bill_of_materials_of_held_out_parts_within_thirty_percent(name):
    part = real_parts()[name]
    assert "bom" in part.held_out
    assert chip_cost(part.design).bom == pytest.approx(part.bom_usd, rel=0.30)


def test_constants_were_fitted_to_other_parts():
    for what in ("area", "tdp", "bom"):
        fitted = [p for p in real_parts().values() if what not in p.held_out]
        assert len(fitted) >= 3


# ---- by hand


def test_dies_and_yield_of_the_h100():
    # facts/cost_energy.md 2: 63.5 dies a wafer, yield 0.487 at 0.10 defects/cm²; 518 $ at a 16,000 $ wafer.
    assert dies_per_wafer(814.0) == pytest.approx(63.5, abs=0.1)
    assert die_yield(814.0, 0.10) == pytest.approx(0.487, abs=0.001)
    assert die_cost_usd(814.0, "N5", harvest=0.0) == pytest.approx(518, rel=0.005)
    # Harvesting 70 % of the rest: 0.846, about the published 300 $ a die.
    assert die_yield(814.0, 0.10, harvest=0.7) == pytest.approx(0.487 + 0.513 * 0.7, abs=0.001)
    assert die_cost_usd(814.0, "N5") == pytest.approx(300, rel=0.02)


def test_price_carries_the_nre_once():
    assert chip_price_usd(4000.0, 0.5) == 8000.0
    assert chip_price_usd(4000.0, 0.5, nre_usd=3e8, volume=100_000) == 11_000.0
    assert chip_price_usd(4000.0, 0.5, nre_usd=3e8, volume=0) == 8000.0


def test_memory_terms_by_hand():
    facts = chip_facts()
    cost, watts = chip_cost(DECODE), power(DECODE)
    assert cost.memory == pytest.approx(8 * 36 * facts["memory"]["hbm3e"]["usd_per_gb"])
    assert watts.memory == pytest.approx(8e12 * 8 * facts["memory"]["hbm3e"]["pj_per_bit"] * 1e-12)
    assert area(DECODE).memory_phy == pytest.approx(8 * (11.0 + 552.7 / 138.2))


def test_energy_follows_the_square_of_the_voltage_that_a_clock_needs():
    # 10 % above the node's 1.85 GHz: V = 1 + 0.6·0.1 = 1.06, energy 1.1236; same silicon at half the clock: V = 0.7.
    nominal = power(DECODE)
    fast = power(replace(DECODE, clock_hz=1.1 * 1.85e9))
    assert voltage(DECODE) == 1.0
    assert fast.matrix == pytest.approx(1.06**2 * nominal.matrix)
    assert fast.memory == nominal.memory
    half = at_clock(DECODE, 0.5)
    assert power(half).matrix == pytest.approx(0.5 * 0.7**2 * nominal.matrix)
    assert area(half).compute_dies == pytest.approx(area(DECODE).compute_dies)
    assert voltage(at_clock(DECODE, 0.1)) == chip_facts()["voltage"]["floor"]


def test_a_cap_leaves_the_clock_at_which_it_is_drawn():
    cap = 0.8 * power(DECODE).tdp
    share = sustained_share(DECODE, cap)
    assert power(at_clock(DECODE, share)).tdp == pytest.approx(cap)
    assert sustained_share(DECODE, 2.0 * power(DECODE).tdp) == 1.0
    assert sustained_share(DECODE, 1.0) == pytest.approx(0.0, abs=1e-9)


def test_area_adds_up_and_io_dies_take_what_does_not_shrink():
    one = area(DECODE)
    parts = one.matrix + one.vector + one.sram + one.memory_phy + one.links + one.control + one.die_to_die
    assert one.compute_dies == pytest.approx(parts)
    split = area(replace(DECODE, io=IoDies("N6", 2)))
    assert split.io_dies == pytest.approx(split.memory_phy + split.links + split.control)
    assert split.compute_dies < one.compute_dies


def test_flash_needs_buffers():
    # 2 · 1.6 TB/s · 10 µs = 32 MB a stack.
    plain, flash = DECODE, replace(DECODE, memories=(*DECODE.memories, MemorySystem("hbf", 2)))
    tiles = [4 * (1e15 / rate) ** 2 for rate in (8e12, 11.2e12)]
    assert sram_needed_bytes(flash) - sram_needed_bytes(plain) == pytest.approx(64e6 + tiles[1] - tiles[0])
    assert flash.memories[1].may_hold(chip_facts()) == ("weights",)


# ---- limits, each with its reason


def test_limits_break_one_by_one():
    assert broken(DECODE) == set()
    assert "reticle" in broken(replace(DECODE, fp16_flops=3000e12))
    assert "shoreline" in broken(replace(DECODE, memories=(MemorySystem("hbm3e", 16),)))
    assert "sram" in broken(replace(DECODE, sram_bytes=1e6))
    assert "domain" in broken(replace(DECODE, scaleup_domain=256))
    assert "domain" not in broken(replace(DECODE, scaleup_domain=256, scaleup_medium="optical"))
    assert "package" in broken(replace(DECODE, dies=8, fp16_flops=8000e12, memories=(MemorySystem("hbm3e", 24),)))
    hot = replace(DECODE, fp16_flops=900e12, vector_flops=300e12, clock_hz=6e9, cooling="air")
    assert "cooling" in broken(hot)
    assert broken(replace(hot, cooling="liquid")) <= {"cooling"}


def test_reasons_are_sentences():
    texts = [str(excess) for excess in limits(replace(DECODE, fp16_flops=3000e12)) if excess.over > 0]
    assert any(text.startswith("reticle: needs ") and "858 mm²" in text for text in texts)


@pytest.mark.parametrize(
    "change",
    [
        {"fp16_flops": 600e12},
        {"vector_flops": 60e12},
        {"sram_bytes": 128e6},
        {"scaleup_bytes_per_s": 900e9},
        {"scaleout_bytes_per_s": 100e9},
        {"memories": (MemorySystem("hbm3e", 9),)},
    ],
)
def test_more_of_anything_costs_area_watts_and_dollars(change):
    more = replace(DECODE, **change)
    assert area(more).compute_dies > area(DECODE).compute_dies
    assert power(more).tdp > power(DECODE).tdp
    assert chip_cost(more).bom > chip_cost(DECODE).bom


def test_limits_between_two_designs_break_only_where_all_between_break():
    large = replace(DECODE, fp16_flops=900e12, sram_bytes=200e6)
    for share in (0.0, 0.3, 0.7, 1.0):
        between = replace(
            DECODE,
            fp16_flops=DECODE.fp16_flops + share * (large.fp16_flops - DECODE.fp16_flops),
            sram_bytes=DECODE.sram_bytes + share * (large.sram_bytes - DECODE.sram_bytes),
        )
        over = {excess.limit: excess.over for excess in limits(between)}
        for excess in limits(DECODE, large):
            assert excess.over <= over[excess.limit] + 1e-12


def test_smaller_dies_yield_better_and_two_halves_cost_less_than_one_large_die():
    assert die_yield(400, 0.1) > die_yield(800, 0.1)
    assert 2 * die_cost_usd(400, "N5") < die_cost_usd(800, "N5")
    assert math.isclose(die_yield(400, 0.0), 1.0)
