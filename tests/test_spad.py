"""SPAD's direction (arXiv:2510.08544): a prefill chip is cheaper at equal speed, a decode chip cooler."""

import importlib.util
from pathlib import Path

import pytest

from codesign.hardware.chip import power
from codesign.hardware.chip_cost import chip_cost

SCRIPT = Path(__file__).parents[1] / "scripts" / "spad.py"


@pytest.fixture(scope="module")
def spad():
    spec = importlib.util.spec_from_file_location("spad", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_prefill_chip_of_equal_speed_is_much_cheaper(spad):
    chip = spad.prefill_chip()
    assert spad.prefill_s(chip, 16 * 112e9) <= spad.prefill_s(spad.H100, 3.35e12)
    assert chip_cost(chip).bom < 0.7 * chip_cost(spad.H100).bom  # SPAD: −52 %


def test_decode_chip_at_97_percent_of_the_speed_is_cooler(spad):
    chip = spad.decode_chip()
    assert spad.decode_s(chip, 3.35e12) <= spad.decode_s(spad.H100, 3.35e12) / 0.97
    assert power(chip).tdp < 0.85 * power(spad.H100).tdp  # SPAD: −28 %
