"""One small fleet for each row family, with its optimum by hand: without the family, or with its sign turned, another.

`scripts/mutate_solver.py` does both to every family.
"""

import pytest
from fleets import block, colocated, fleet, phases, server

from codesign.candidates.data import Group, Offer, SideLimit
from codesign.check.fits import fits
from codesign.optimize import fleet as search
from codesign.optimize.fleet import solve_fleet


def one(demand=1.0, slots=1, packed=1.0, price=1.0, limits=(), **options):
    """A task on one column of which a replica serves 1/s."""
    return fleet(
        [demand],
        [colocated(0)],
        [block([0], [[[1.0]]], [[1.0]], packed=packed)],
        hardware=(server("box", slots),),
        offers=(Offer("rent", 0, price, 0.0, 0),),
        groups=(Group("g", 0, max(1, int(slots // packed))),),
        limits=limits,
        **options,
    )


def servers_of_two_slots():
    """2.3/s take 3 replicas of 2 slots, hence 2 servers of 4 at 4 $/h."""
    return one(demand=2.3, slots=4, packed=2.0, price=4.0)


def prefill_and_decode():
    """2 calls/s: 0.2 replicas of prefill and 2 of decode, which completes no task by itself: 3 servers."""
    columns = [block([0], [[[0.1]]], [[1.0]], group=0), block([1], [[[1.0]]], [[1.0]], group=1)]
    return fleet([2.0], phases(0, 0), columns)


def cheap_and_dear(demand, dear, **options):
    """A column on cheap servers, of which there is one, and one on dear servers."""
    columns = [block([0], [[[1.0]]], [[1.0]], packing=p, group=p) for p in (0, 1)]
    return fleet(
        [demand],
        [colocated(0)],
        columns,
        hardware=(server("cheap"), server("dear")),
        offers=(Offer("cheap", 0, 1.0, 0.0, 0), Offer("dear", 1, dear, 0.0, 0)),
        limits=(SideLimit("stock", "servers", 1.0, {0: 1.0}),),
        **options,
    )


def reserved():
    """Three servers at the least at half the price: where one is needed, that one is rented."""
    data = one()
    return fleet(
        [1.0], data.flows, data.blocks, offers=(Offer("rent", 0, 1.0, 0.0, 0), Offer("reserved", 0, 0.5, 0.0, 3))
    )


def pooled_or_large():
    """5/s: five small replicas, of which three at the least, or two large ones that serve 4/s for 3 $ each.

    A large and a small one would cost 4 $.
    """
    columns = [
        block([0], [[[1.0]]], [[1.0]], packing=0, group=0, least=3),
        block([0], [[[1.0]]], [[4.0]], packing=1, group=1),
    ]
    return fleet(
        [5.0],
        [colocated(0)],
        columns,
        hardware=(server("small"), server("large")),
        offers=(Offer("small", 0, 1.0, 0.0, 0), Offer("large", 1, 3.0, 0.0, 0)),
    )


def specialists(joint, **options):
    """Two tasks, a column for each at 1 $/h, and one for both; hardware of a vendor each."""
    columns = [
        block([0], [[[1.0]]], [[1.0]], packing=0, group=0),
        block([1], [[[1.0]]], [[1.0]], packing=1, group=1),
        block([0, 1], [[[0.5, 0.5]]], [[1.0]], packing=2, group=2),
    ]
    return fleet(
        [1.0, 1.0],
        [colocated(0), colocated(1)],
        columns,
        hardware=tuple(server(f"box{h}", vendor=f"v{h}") for h in range(3)),
        offers=tuple(Offer(f"rent{h}", h, price, 0.0, 0) for h, price in enumerate((1.0, 1.0, joint))),
        **options,
    )


def two_works_of_a_group(first, second):
    """A group of two columns, a task each, on servers of 4 slots: losing one loses 4 replicas."""
    columns = block(
        [0, 1], [[[1.0, 0.0]], [[0.0, 1.0]]], [[1.0], [1.0]], group=[0, 0], open_=[[True, False], [False, True]]
    )
    return fleet(
        [float(first), float(second)],
        [colocated(0), colocated(1)],
        [columns],
        hardware=(server("box", 4),),
        groups=(Group("g", 0, 4),),
        survive_one_server=True,
    )


OPTIMA = {
    "demand, capacity, packing, bought": (servers_of_two_slots(), 8.0),
    "commodity": (prefill_and_decode(), 3.0),
    "limit": (cheap_and_dear(3.0, 10.0), 1.0 + 2 * 10.0),
    "least_servers, most_servers": (reserved(), 1.0),
    "pooled, unpooled": (pooled_or_large(), 5.0),
    # 1.5/s would take one server of each kind.
    "whole, one_pool": (cheap_and_dear(1.5, 2.0, split_tasks=False), 2 * 2.0),
    "design, designs": (specialists(5.0, max_designs=1), 5.0),
    "vendor, vendors": (specialists(5.0, max_vendors=1), 5.0),
    # 5 replicas and 4 spares take 3 servers of 4 slots; with 3 spares, as many as `reserve` asks for, they took 2.
    "spare, small_pool": (two_works_of_a_group(3, 2), 3.0),
    "spread": (one(slots=4, survive_one_server=True), 2.0),
    "reserve, usable": (one(survive_one_server=True), 2.0),
}  # fmt: skip


@pytest.mark.parametrize("way", ["at once", "by branching"])
@pytest.mark.parametrize("family", OPTIMA)
def test_optimum_by_hand(family, way, monkeypatch):
    data, optimum = OPTIMA[family]
    if way == "by branching":
        monkeypatch.setattr(search, "_SMALL", 0)
    plan = solve_fleet(data, gap=0.0, time_limit=10.0, threads=1)
    assert (plan.status, plan.objective, plan.bound) == ("optimal", pytest.approx(optimum), pytest.approx(optimum))
    assert not fits(data, plan)
