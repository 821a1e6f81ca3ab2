"""Rows that n+1 leaves to relaxations: by hand, and held by every whole plan of small packings."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from fleets import block, colocated, fleet, server

from codesign.candidates.data import Group, Offer, Packing, SideLimit
from codesign.optimize.fleet import solve_fleet
from codesign.optimize.redundancy import most_servers, spared, usable_rows

SIZES = (1, 2, 4, 8)


def boxes(limits=(), **options):
    """One kind of server of 8 slots; groups of each size, two of them prefilling, two decoding."""
    blocks = [block([0], [[[1.0]]], [[1.0]], packed=size, group=g) for g, size in enumerate(SIZES)]
    data = fleet(
        [1.0], [colocated(0)], blocks, hardware=(server("box", 8),), offers=(Offer("rent", 0, 4.0, 0.0, 0),),
        limits=limits, survive_one_server=True, **options,
    )  # fmt: skip
    groups = [Group(str(s), 0, max(1, 8 // s), 0, "m/prefill" if s < 3 else "m/decode") for s in SIZES]
    return data.__class__(**{**vars_of(data), "packings": (Packing(0, 8),), "groups": tuple(groups)})


def vars_of(data):
    return {name: getattr(data, name) for name in data.__dataclass_fields__}


def test_most_servers_by_hand():
    inventory = SideLimit("inventory", "accelerators", 30.0, {0: 8.0})
    assert most_servers(boxes()) == [math.inf]
    assert most_servers(boxes((inventory,))) == [3.0]  # 30 accelerators are three servers of 8
    assert most_servers(boxes((inventory,)), cutoff=9.0) == [2.0]  # and 9 $/h two at 4 $/h
    places = SideLimit("places", "modules", 0.0, {0: -8.0}, per_module={0: 1.0})  # servers give: no limit on them
    assert most_servers(boxes((places,))) == [math.inf]


def test_slots_that_spares_leave_by_hand():
    (packing,) = spared(boxes())
    assert packing.least == 8.0  # a group of any size loses a whole server
    assert [packing.usable(s) for s in range(5)] == [0.0, 0.0, 8.0, 16.0, 24.0]
    _, (members, interval) = packing.row(2.0, 4.0)
    # u ≤ 8 + 8·(S − 2): the chord is exact from two servers on.
    assert (members.per_packing, interval) == ({0: -8.0}, (-math.inf, -8.0))
    assert packing.row(0.0, 4.0)[1][0].per_packing == {0: -6.0}
    assert packing.chord("m/decode", 0.0, 32.0) == (0.25, 0.0)
    assert packing.chord("m/decode", 8.0, 32.0) == (0.0, 8.0)
    assert packing.chord("m/decode", 0.0, 5.0) == (1.0, 0.0)
    # Decode holds 8 to 24 slots and spares 8 for sure; prefill anything up to 24 and a third of that.
    _, members, bound = packing.spare_row(24.0, {"m/decode": (8.0, 24.0)})
    assert members.per_group == pytest.approx({0: 4 / 3, 1: 8 / 3, 2: 4.0, 3: 8.0})
    assert (members.per_packing, bound) == ({0: -8.0}, -8.0)
    assert packing.most_replicas(2, 4.0, 2) == 6.0  # 32 slots are 8 replicas of 4, two of them spares
    assert packing.most_replicas(0, 1.0, 8) == 0.0


@pytest.mark.parametrize(("low", "high"), [(0, 2), (2, 2), (0, 4), (2, 3), (3, 4)])
@pytest.mark.parametrize("held", [None, (0, 4), (5, 12), (8, 24), (4, 4)])
def test_whole_plans_keep_the_rows(low, high, held):
    data = boxes()
    (packing,) = spared(data)
    decode = SideLimit(packing.slots_of("m/decode"), "", 1.0, per_group=dict(packing.works["m/decode"]))
    intervals = {"set aside 0": (SideLimit("set aside 0", "", 1.0, per_packing={0: 1.0}), (low, high))}
    if held is not None:
        intervals[decode.name] = (decode, held)
    rows = usable_rows([packing], np.array([math.inf]), intervals)
    assert len(rows) == (1 if held is None else 2)
    lost = [group.replicas_lost_with_server for group in data.groups]
    plans = 0
    for counts in itertools.product(range(5), repeat=4):
        run = sum(n * size for n, size in zip(counts, SIZES, strict=True))
        spare = sum(min(n, most) * size for n, most, size in zip(counts, lost, SIZES, strict=True))
        servers = max(2 if run else 0, math.ceil((run + spare) / 8), low)
        decoding = 4 * counts[2] + 8 * counts[3]
        if servers > high or (held and not held[0] <= decoding <= held[1]):
            continue
        plans += 1
        for members, (_, most) in rows.values():
            found = sum(c * counts[g] for g, c in members.per_group.items())
            found += members.per_packing[0] * servers
            assert found <= most + 1e-9, (counts, members.name)
    assert plans


def test_pairs_that_lose_more_than_a_server_holds_keep_their_servers():
    """Attention on 1 of 8 slots, experts on both slots of a server: losing one of eight replicas' attention loses all.

    One replica and its spare stand in two servers of each kind; spares were asked for as if eight ran.
    """
    pair = replace(
        block([0], [[[1.0]]], [[1.0]], packing=0, packed=1.0),
        other_packing=np.array([1]),
        other_packed=np.array([2.0]),
    )
    data = fleet(
        [1.0],
        [colocated(0)],
        [pair],
        hardware=(server("attention", 8), server("experts", 2)),
        offers=(Offer("a", 0, 8.0, 0.0, 0), Offer("f", 1, 5.0, 0.0, 0)),
        packings=(Packing(0, 8), Packing(1, 2)),
        groups=(Group("g", 0, 8),),
        limits=(SideLimit("stock", "servers", 3.0, per_server={1: 1.0}),),
        survive_one_server=True,
    )
    plan = solve_fleet(data, gap=0.0, threads=1)
    assert (plan.status, plan.objective, plan.servers) == ("optimal", pytest.approx(26.0), {0: 2, 1: 2})
