"""The second MILP finds what enumeration finds, in any units: it is trusted where the optimiser is held against it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from disagreements import solved
from enumeration import TooManyError, enumerated
from fleets import block, colocated, fleet, server
from random_fleets import KINDS, random_fleet, rescaled
from second_milp import better_than, second_optimum, worth_having

from codesign.candidates.data import Group, Module, Offer, Packing, SideLimit
from codesign.check.fits import fits

TRIED_S = 0.3
"""Processor time after which a problem is too large to be enumerated here."""


def close(found, expected):
    """Equal within a relative 1e-6, infinite ones too."""
    return found == expected or abs(found - expected) <= 1e-6 * abs(expected)


def test_it_finds_what_enumeration_finds():
    compared = 0
    for number, (kind, drawn) in enumerate(KINDS.items()):
        if "wide" in drawn.always:  # too many counts to try
            continue
        for seed in range(100 * number, 100 * number + 2):
            data = random_fleet(seed, kind, (1, 2))
            try:
                expected = enumerated(data, TRIED_S)
            except TooManyError:
                continue
            plan = second_optimum(data)
            assert plan.status == ("optimal" if math.isfinite(expected) else "infeasible"), (kind, seed)
            assert close(plan.objective, expected), (kind, seed)
            if plan.replicas:
                assert fits(data, plan) == [], (kind, seed)
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_units_change_no_optimum(seed):
    """Tasks that come a billion times as seldom, or a million times as often, in another money."""
    data = random_fleet(seed, tuple(KINDS)[seed % 8])
    expected = second_optimum(data)
    for power in (1e-9, 1e6):
        factors = [power if c % 2 else 1 / power**0.5 for c in range(len(data.tasks))]
        other = rescaled(data, factors, 1e-4)
        assert close(second_optimum(other).objective, 1e-4 * expected.objective)
        assert close(solved(other, 20.0).objective, 1e-4 * expected.objective)


def test_better_than_is_the_optimum_seen_from_below_and_above():
    for seed in range(8):
        data = random_fleet(seed, tuple(KINDS)[seed % 8])
        optimum = second_optimum(data)
        if optimum.status == "infeasible":
            assert better_than(data, math.inf).status == "infeasible"
            continue
        assert better_than(data, optimum.objective).status == "infeasible"
        if optimum.objective > 0:
            found = better_than(data, optimum.objective * 1.01)
            assert found.status == "optimal"
            assert close(found.objective, optimum.objective)
        assert fits(data, better_than(data, math.inf)) == []


def test_what_is_worth_having_by_hand():
    """Of two that carry everything the first stays, of two that do not the one that carries more."""
    columns = block([0], [[[0.5]], [[0.1]], [[2.0]], [[3.0]]], [[1.0]] * 4, group=[0, 0, 1, 1])
    data = fleet([1.0], [colocated(0)], [columns], groups=(Group("large", 0, 1), Group("small", 0, 1)))
    assert worth_having(data).tolist() == [0, 2]


def test_optima_by_hand():
    """A replica in two halves that shares servers; memory that stands in servers; a chain of modules."""
    boxes = (server("box", 8), server("card", 4))
    pair = replace(
        block([0], [[[1.0]]], [[1.0]], packed=8.0),
        other_packing=np.array([1]),
        other_packed=np.array([5.0]),
    )
    offers = (Offer("boxes", 0, 100.0, 0.0, 0), Offer("cards", 1, 10.0, 0.0, 0))
    data = fleet([2.0], [colocated(0)], [pair], hardware=boxes, offers=offers, packings=(Packing(0, 8), Packing(1, 4)))
    assert second_optimum(data).objective == pytest.approx(230.0)  # 10 slots of 4 are three cards' servers
    memory = SideLimit("memory", "B", 0.0, {0: -4.0}, per_flow={(0, -1): 3.0})
    single = fleet([5.0], [colocated(0)], [block([0], [[[0.1]]], [[1.0]])], limits=(memory,))
    assert second_optimum(single).objective == pytest.approx(4.0)  # 15 bytes at 4 a server
    chain = (
        SideLimit("memory", "B", 0.0, per_module={0: -4.0}, per_flow={(0, -1): 3.0}),
        SideLimit("places", "", 0.0, per_module={0: 1.0, 1: -3.0}),
    )
    modules = (Module("dimm", 0.5), Module("drawer", 2.0))
    single = fleet([5.0], [colocated(0)], [block([0], [[[0.1]]], [[1.0]])], limits=chain, modules=modules)
    assert second_optimum(single).objective == pytest.approx(1.0 + 4 * 0.5 + 2 * 2.0)
