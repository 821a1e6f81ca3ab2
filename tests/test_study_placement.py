"""Where a frontier looks next, and what a sweep's words mean."""

import math

import pytest

from codesign.problem import ProblemError
from codesign.study.front import volume
from codesign.study.placement import Known, boxes, next_ceilings, staircase
from codesign.study.settings import between, grid, listed, measure, parse_setting, quantity, read_scenario, rows


def test_staircase_keeps_what_nobody_beats():
    known = [Known(math.inf, 1.0, 9.0), Known(3.0, 4.0, 3.0), Known(5.0, 4.0, 5.0), Known(2.0, math.inf, math.inf)]
    assert [(k.first, k.second) for k in staircase(known)] == [(4.0, 3.0), (1.0, 9.0)]


def test_a_solve_without_news_shrinks_its_box():
    ends = [Known(math.inf, 1.0, 9.0), Known(3.0, 4.0, 3.0)]
    assert [(b.low, b.high) for b in boxes(ends)] == [(3.0, 9.0)]
    assert [(b.low, b.high) for b in boxes([*ends, Known(6.0, 4.0, 3.0)])] == [(6.0, 9.0)]
    assert next_ceilings([*ends, Known(6.0, 4.0, 3.0)], 1) == [7.5]
    assert next_ceilings([*ends, Known(6.0, math.inf, math.inf)], 1) == [7.5]  # no plan within the limit: no loop


def test_the_largest_box_goes_first():
    known = [Known(math.inf, 0.0, 10.0), Known(9.0, 1.0, 9.0), Known(0.0, 10.0, 0.0)]
    assert next_ceilings(known, 1) == [4.5]
    assert next_ceilings(known, 2) in ([2.25, 4.5], [4.5, 6.75])


@pytest.mark.parametrize("curve", [((0, 9), (1, 4), (1.0001, 3.9), (5, 2), (6, 1.5), (9, 0)), ((0, 1), (1, 0))])
def test_asking_until_nothing_is_left_finds_every_point_of_a_discrete_front(curve):
    def solve(ceiling):
        first, second = min((y, x) for x, y in curve if x <= ceiling)
        return Known(ceiling, first, second)

    known = [solve(math.inf), solve(curve[0][0])]
    asked = 0
    while ceilings := next_ceilings(known, 3):
        known += [solve(c) for c in ceilings]
        asked += len(ceilings)
        assert asked < 60
    assert [(k.second, k.first) for k in staircase(known)] == sorted(curve)


def test_volume_of_two_objectives_by_hand():
    assert volume([(0.0, 0.5), (0.5, 0.0)]) == pytest.approx(0.75)
    assert volume([(0.0, 1.0), (1.0, 0.0)]) == 0.0
    assert volume([(0.2, 0.2), (0.5, 0.5)]) == pytest.approx(0.64)


def test_volume_of_three_objectives():
    pytest.importorskip("moocore")
    assert volume([(0.5, 0.5, 0.5)]) == pytest.approx(0.125)


def test_settings_as_people_write_them():
    assert parse_setting("tasks.a.rate=2/s,4/s") == ("tasks.a.rate", ["2/s", "4/s"])
    assert parse_setting("tasks.a.rate=2/s..6/s:5")[1] == ["2/s", "3/s", "4/s", "5/s", "6/s"]
    assert parse_setting("x=5%..9%:3")[1] == ["5%", "7%", "9%"]
    assert parse_setting("x=50..200 ms:4")[1] == ["50 ms", "100 ms", "150 ms", "200 ms"]
    assert parse_setting("limits.max_designs=1..3:3")[1] == [1, 2, 3]
    assert parse_setting("models.chat.kv=[fp8],[fp8, bf16]")[1] == [["fp8"], ["fp8", "bf16"]]
    assert parse_setting("options.split_tasks=true,false")[1] == [True, False]


@pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=1/s..2/h:3", "a=1..2:1", "a=[1"])
def test_settings_that_mean_nothing(text):
    with pytest.raises(ValueError, match="found"):
        parse_setting(text)


def test_grid_and_list():
    assert grid({"a": [1, 2], "b": [3, 4]}) == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
    assert listed({"a": [1, 2], "b": [3, 4]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(ValueError, match="different length"):
        listed({"a": [1], "b": [3, 4]})


def test_rows_of_a_dataframe():
    pandas = pytest.importorskip("pandas")
    assert rows(pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_half_way():
    assert between("2/s", "3/s") == "2.5/s"
    assert between("2.05 $/h", "2.10 $/h") == "2.075 $/h"
    assert between(1, 4) == 2
    assert between(1, 2) is None
    assert between("2/s", "3/h") is None
    assert between("fp8", "bf16") is None
    assert measure("2026-11-01") is None
    assert measure(True) is None
    assert quantity(0.1 + 0.2, "/s") == "0.3/s"


def test_scenario_files(tmp_path):
    file = tmp_path / "dear.yaml"
    file.write_text("tasks.a.rate: 2/s\noptions.gap: 1%\n")
    assert read_scenario(file) == ("dear", {"tasks.a.rate": "2/s", "options.gap": "1%"})
    file.write_text("- 1\n")
    with pytest.raises(ValueError, match="expected values by path"):
        read_scenario(file)
    with pytest.raises(ProblemError):
        read_scenario(tmp_path / "missing.yaml")
