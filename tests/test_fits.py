"""`fits` judges plans by the problem's numbers alone: a right one passes, and every row names what breaks it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from fleets import block, colocated, fleet, phases, server

from codesign.candidates.data import Group, Module, Offer, Packing, SideLimit
from codesign.check.fits import fits


@dataclass(frozen=True)
class Plan:
    """What a plan has to have."""

    replicas: dict[int, float]
    rates: dict[tuple[int, int], float]
    servers: dict[int, float]
    spares: dict[int, float] = field(default_factory=dict)
    modules: dict[int, float] = field(default_factory=dict)
    objective: float = 0.0
    bound: float = 0.0
    set_aside: dict[int, float] = field(default_factory=dict)


def problem(**options):
    """One task in both phases at 2 calls/s: prefill on boxes of 4 (two slots), decode half there and half on cards."""
    columns = block([0], [[[0.5]]], [[1.0]], packed=2.0, group=0, least=2, power=100.0, flow_power=10.0)
    pairs = replace(
        block([1], [[[1.0]]], [[1.0]], packing=1, packed=2.0, group=1, power=50.0),
        other_packing=np.array([2]),
        other_packed=np.array([1.0]),
    )
    return fleet(
        [2.0],
        phases(0, 0),
        [columns, pairs],
        hardware=(server("box", 4, 900.0, 1e-3, "a"), server("card", 1, 300.0, 0.0, "b")),
        offers=(Offer("rent", 0, 4.0, 10.0, 2), Offer("cards", 1, 1.0, 5.0, 0)),
        packings=(Packing(0, 4), Packing(0, 4), Packing(1, 1)),
        groups=(Group("first", 0, 2), Group("pair", 0, 2)),
        limits=(
            SideLimit("stock", "servers", 2.0, {0: 1.0, 1: 0.0}),
            SideLimit("capital", "$", 40.0, {0: 10.0, 1: 5.0}, per_module={0: 2.0}),
            SideLimit("least", "servers", -2.0, {1: -1.0}),
            SideLimit("power", "W", 220.0, per_watt={0: 0.5}, per_packing={0: 10.0}, per_group={1: 5.0}),
            SideLimit("memory", "B", 0.0, {1: -1.0}, per_module={0: -3.0}, per_flow={(1, -1): 2.0, (0, 0): 0.5}),
        ),
        modules=(Module("memory", 0.5, power_w=20.0),),
        pue=1.25,
        **options,
    )


def plan(**changes):
    """Two replicas of each, in one box each, and two cards; 2·4 + 2·1 + 0.5 + 0.32 $/h."""
    return replace(
        Plan(
            replicas={0: 2, 1: 2},
            rates={(0, 0): 2.0, (1, 1): 2.0},
            servers={0: 2, 1: 2},
            modules={0: 1},
            objective=2 * 4 + 2 * 1 + 0.5 + 1e-3 * (2 * 100 + 2 * 10 + 2 * 50),
            set_aside={0: 1, 1: 1, 2: 2},
        ),
        **changes,
    )


def test_a_right_plan_fits():
    assert fits(problem(), plan()) == []
    assert fits(problem(), plan(set_aside={})) == []  # the fewest servers that hold what runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rates": {(0, 0): 1.9, (1, 1): 1.9}}, {"demand"}),
        ({"rates": {(0, 0): 2.0, (1, 1): 1.9}}, {"calls of commodity0"}),
        ({"rates": {(0, 0): 2.0, (1, 1): 2.0, (0, 1): 0.1}}, {"decode0 on column 0"}),
        ({"rates": {(0, 0): 2.1, (1, 1): 2.1}}, {"demand", "row0 of column 1", "memory"}),
        ({"replicas": {0: 2}}, {"column 1, which has no replica"}),
        ({"replicas": {0: 1, 1: 2}}, {"replicas 0, whose queues"}),
        ({"replicas": {0: 2, 1: 2.5}, "set_aside": {0: 1, 1: 2, 2: 3}},
         {"replicas 1 in whole", "servers of box", "servers of card"}),
        ({"replicas": {0: 3, 1: 2}}, {"slots in servers 0", "power"}),
        ({"set_aside": {0: 1, 1: 1, 2: 1}}, {"slots in servers 2 of card"}),
        ({"set_aside": {}, "replicas": {0: 2, 1: 3}}, {"servers of box", "servers of card"}),
        ({"servers": {0: 2, 1: 1}}, {"servers of card", "least", "memory"}),
        ({"servers": {0: 1, 1: 2}}, {"servers of rent, which is sold from", "servers of box"}),
        ({"servers": {0: 3, 1: 2}}, {"stock", "capital"}),
        ({"modules": {0: 8}}, {"capital"}),
        ({"modules": {0: 0.8}}, {"modules 0 in whole", "memory"}),
        ({"modules": {}}, {"memory"}),
        ({"modules": {0: float("nan")}}, {"modules 0", "modules 0 in whole", "memory", "capital", "bound"}),
        ({"spares": {0: -1}}, {"spares 0"}),
        ({"spares": {0: 1}, "set_aside": {0: 2, 1: 1, 2: 2}}, {"servers of box", "power"}),
        ({"objective": 10.8}, {"objective"}),
        ({"bound": 10.9}, {"bound"}),
        ({"bound": float("nan")}, {"bound"}),
    ],
)  # fmt: skip
def test_what_breaks_a_row_is_named(changes, words):
    found = {unmet.what for unmet in fits(problem(), plan(**changes))}
    if words != {"objective"}:
        found -= {"objective"}  # other counts cost something else
    for word in words:
        assert any(word in what for what in found), found
    for what in found:
        assert any(word in what for word in words), what


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_vendors": 1}, {"vendors"}),
        ({"max_designs": 1}, {"designs"}),
        ({"survive_one_server": True}, {"spares of first", "spares of pair", "first is spread", "pair is spread"}),
    ],
)
def test_side_conditions_hold(options, words):
    found = {unmet.what for unmet in fits(problem(**options), plan())}
    assert len(found) == len(words), found
    for word in words:
        assert any(word in what for what in found), found


def test_one_pool_for_each_phase():
    """The same calls in two pools, which split tasks may have."""
    twin = block([0], [[[0.5]]], [[1.0]], packed=2.0, group=2, power=100.0, flow_power=10.0)
    for split, expected in ((True, []), (False, ["pools of a phase of task0"])):
        data = problem(split_tasks=split)
        first = replace(data.blocks[0], min_replicas=np.ones(1, int))
        groups = (*data.groups, Group("twin", 0, 2))
        data = replace(data, blocks=(first, data.blocks[1], twin), groups=groups, limits=data.limits[1:3])
        shared = plan(replicas={0: 1, 1: 2, 2: 1}, rates={(0, 0): 1.5, (2, 0): 0.5, (1, 1): 2.0})
        assert [unmet.what for unmet in fits(data, shared)] == expected


def test_a_tolerance_is_relative_to_the_quantity_itself():
    """The same plan a billion times smaller and larger: what is 1e-5 too little is found in each."""
    for size in (1e-9, 1.0, 1e6):
        data = fleet([2.0 * size], [colocated(0)], [block([0], [[[1.0 / size]]], [[1.0]])])
        right = Plan({0: 2}, {(0, 0): 2.0 * size}, {0: 2}, objective=2.0)
        assert fits(data, right) == []
        assert fits(data, replace(right, rates={(0, 0): 2.0 * size * (1 - 1e-5)}))
        assert fits(data, replace(right, rates={(0, 0): 2.0 * size * (1 + 1e-5)}))
