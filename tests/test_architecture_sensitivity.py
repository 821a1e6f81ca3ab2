"""What a design hangs on: by hand on invented figures, and solved again on a small problem."""

from dataclasses import replace

import numpy as np
import pytest
from small_chip import PROBLEM, WORKLOAD

from codesign.architecture.evaluate import Evaluator
from codesign.architecture.part import Assumptions, assumption_ranges
from codesign.architecture.search import Found, Trial, search
from codesign.architecture.sensitivity import (
    FLIP,
    Flip,
    _flip,
    _with_volume,
    analyse,
    break_even,
    different,
    importances,
    price_flips,
)
from codesign.architecture.space import Space
from codesign.hardware.chip_cost import chip_cost
from codesign.problem.architecture import load_architecture
from codesign.report.architecture import price_changes


def trial(number, value, feasible=True, **point):
    return Trial(number, point, value, None, feasible)


# ---- by hand -----------------------------------------------------------------------------------------------


def test_candidates_differ_by_a_tenth_in_some_parameter():
    found = Found(
        (
            trial(0, 5.0, speed=100.0, kind="a"),
            trial(1, 4.0, speed=105.0, kind="a"),
            trial(2, 6.0, speed=104.0, kind="b"),
            trial(3, 1.0, feasible=False, speed=9.0, kind="a"),
            trial(4, 4.5, speed=120.0, kind="a"),
        )
    )
    # 100 and 104 are within a tenth of 105 where the kind is the same.
    assert [t.number for t in different(None, found)] == [1, 4, 2]
    assert [t.number for t in different(None, found, count=1)] == [1]


class Values:
    """An evaluator that has the answers."""

    def __init__(self, *values):
        self.values = values

    def points(self, points):
        assert len(points) == len(self.values)
        return [type("Value", (), {"value": value})() for value in self.values]


def test_a_flip_is_another_design_better_by_half_a_per_cent():
    candidates = [trial(7, 1.0, speed=1.0), trial(9, 1.1, speed=2.0)]
    stays = _flip(Values(1.0, 1.0 - 0.9 * FLIP), candidates, "margin", 0.7, 0.5)
    assert not stays.flips
    moved = _flip(Values(1.2, 1.0), candidates, "margin", 0.7, 0.5)
    assert moved.flips
    assert moved.best_trial == 9
    assert moved.regret == pytest.approx(0.2)
    assert _flip(Values(np.inf, np.inf), candidates, "margin", 0.7, 0.5).regret == 0.0


def test_the_price_from_which_a_design_changes_is_closed_in_on():
    """Another design above 2.6 $ and below 0.6 $, 1 $ being nominal: (2, 4) and (0.5, 0.7) are halved 4 times."""
    asked = []

    def at(price):
        asked.append(price)
        flips = price >= 2.6 or price <= 0.6
        return Flip("memory.x", price, 1.0, 1.1 if flips else 1.0, 1.0, 3, flips)

    found = price_flips(at, 1.0)
    settings = [flip.setting for flip in found]
    assert settings == sorted(settings)
    above = min(flip.setting for flip in found if flip.flips and flip.setting > 1)
    below = max(flip.setting for flip in found if flip.flips and flip.setting < 1)
    assert 2.6 <= above < 2.6 * 2 ** (1 / 16)
    assert 0.6 * (0.5 / 0.7) ** (1 / 16) < below <= 0.6
    assert len(asked) == 6 + 2 * 4
    told = type("Told", (), {"memory_prices": found})()
    (words,) = price_changes(told)
    assert words.startswith("x below ")
    assert "or above" in words
    assert not list(price_changes(type("Told", (), {"memory_prices": []})()))


def test_what_never_flips_is_asked_at_the_factors_alone():
    found = price_flips(lambda price: Flip("memory.x", price, 1.0, 1.0, 1.0, 0, False), 1.0)
    assert [flip.setting for flip in found] == [0.25, 0.5, 0.7, 1.4, 2.0, 4.0]


# ---- solved ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(WORKLOAD.replace("rate: 30/s", "rate: 300/s"))
    (folder / "chip.yaml").write_text(PROBLEM)
    return Space.of(load_architecture(folder / "chip.yaml"))


@pytest.fixture(scope="module")
def found(space):
    return search(space, Evaluator(space), trials=40)


def test_importance_goes_to_the_parameter_that_matters(space, found):
    shares = importances(space, found)
    assert sum(shares.values()) == pytest.approx(1.0)
    by_speed = [replace(t, value=abs(t.point["chip.fp16"] - 300e12)) for t in found.trials]
    told = importances(space, Found(tuple(by_speed)))
    assert max(told, key=told.get) == "chip.fp16"
    assert importances(space, Found(found.trials[:5])) == {}


def test_every_setting_is_what_solving_it_again_gives(space, found):
    evaluator = Evaluator(space)
    told = analyse(space, evaluator, found)
    ranges = assumption_ranges(space.problem)
    candidates = different(space, found)
    assert {flip.assumption for flip in told.assumptions} <= set(ranges)
    for flip in (told.assumptions[0], told.memory_prices[0], told.memory_prices[-1]):
        changed = Evaluator(space, Assumptions.of(space.problem, {flip.assumption: flip.setting}))
        values = [item.value for item in changed.points([t.point for t in candidates])]
        assert flip.value == pytest.approx(values[0])
        assert flip.best_value == pytest.approx(min(values))
        assert flip.regret >= 0
    dearer = [flip.value for flip in told.memory_prices if flip.assumption == told.memory_prices[0].assumption]
    assert dearer == sorted(dearer)  # dearer memory never makes the design cheaper
    assert set(told.regret) == {"small"}
    assert told.chip_first is None  # one variant only


def test_chips_are_bought_up_to_the_entry_price(space, found):
    """At the entry price designing saves nothing; a volume's share of the NRE fits under it exactly."""
    evaluator = Evaluator(space)
    point = different(space, found)[0].point
    told = break_even(space, evaluator, point)
    given = evaluator.assumptions
    assert told.entry_price_usd is not None
    assert told.entry_price_usd > 0
    made = chip_cost(space.designs(point)["chip"], given.facts).bom / (1.0 - given.margin)
    extra = told.entry_price_usd - made  # what its maker can add before nobody designs

    def value(share):
        dearer = replace(given, nre_usd=0.0, host_usd=given.host_usd + share * extra)
        return Evaluator(_with_volume(space), dearer).points([point])[0].value

    assert value(0.9) < evaluator.baseline.value * (1 - 1e-4)
    assert value(1.05) == pytest.approx(evaluator.baseline.value, rel=1e-5)
    assert told.volume == pytest.approx(given.nre_usd / extra)
    assert told.fleets > 0
