"""The generator draws every field of a fleet problem, set and unset, and every kind comes with and without a plan."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from disagreements import from_json, to_json
from random_fleets import KINDS, kind_of, orders, random_fleet

from codesign.candidates.data import (
    ColumnBlock,
    FleetData,
    Flow,
    Group,
    Hardware,
    Module,
    Offer,
    Packing,
    RowUse,
    SideLimit,
)

DRAWS = 200
ALWAYS = {
    FleetData: "tasks demand calls_bound flows blocks offers hardware packings groups",
    ColumnBlock: "flows row_names use limit packed",
    RowUse: "fixed",
    Flow: "name tasks_per_call",
    SideLimit: "name unit",
    Offer: "name",
    Module: "name",
    Hardware: "name accelerators",
    Packing: "slots",
    Group: "name work",
}
"""What no problem is without."""
DERIVED = {ColumnBlock: "flow_slots", SideLimit: "size"}
"""What the optimiser adds for itself: no problem has it, and no plan is judged by it."""


@pytest.fixture(scope="module")
def drawn():
    """Everything of 200 problems, by its class."""
    found = {kind: [] for kind in ALWAYS}
    for seed in range(DRAWS):
        data = random_fleet(seed)
        found[FleetData].append(data)
        found[ColumnBlock] += data.blocks
        found[Flow] += data.flows
        found[RowUse] += [block.use for block in data.blocks]
        for kind, parts in (
            (SideLimit, data.limits), (Offer, data.offers), (Module, data.modules), (Hardware, data.hardware),
            (Packing, data.packings), (Group, data.groups),
        ):  # fmt: skip
            found[kind] += parts
    return found


def is_set(kind, word, value):
    """Does a field say more than nothing, or than what is usual?"""
    usual = {"pue": 1.0, "hours_share": 1.0, "usd_weight": 1.0, "replicas_lost_with_server": 1, "min_replicas": 1}
    usual |= {"split_tasks": True, "whole": True, "level": 1.0, "min_servers": 0, "admissible": True}
    if value is None:
        return False
    if word == "other_packing":
        return bool(np.any(value >= 0))
    if word == "commodity":
        return True
    if word == "source":
        return len(np.unique(value)) < len(value)  # shared configurations
    if isinstance(value, np.ndarray):
        return bool(np.any(value != usual.get(word, 0)))
    if isinstance(value, tuple | dict | str):
        return bool(value)
    return value != usual.get(word, 0)


@pytest.mark.parametrize("kind", ALWAYS, ids=lambda kind: kind.__name__)
def test_every_field_is_drawn_set_and_unset(drawn, kind):
    words = {field.name for field in fields(kind)} - set(DERIVED.get(kind, "").split())
    always = set(ALWAYS[kind].split())
    assert always <= words  # a field that is gone is no exception any more
    for word in sorted(words):
        seen = Counter(is_set(kind, word, getattr(item, word)) for item in drawn[kind])
        assert seen[True] >= 3, f"{kind.__name__}.{word} is never drawn"
        assert word in always or seen[False] >= 3, f"{kind.__name__}.{word} is always drawn"


def test_limits_have_both_signs(drawn):
    """Every sort of coefficient but that of flows and watts comes negative, and so does the limit itself."""
    for word in ("per_server", "per_packing", "per_group", "per_module"):
        assert any(c < 0 for limit in drawn[SideLimit] for c in getattr(limit, word).values()), word
        assert any(c > 0 for limit in drawn[SideLimit] for c in getattr(limit, word).values()), word
    assert any(limit.limit < 0 for limit in drawn[SideLimit])
    chains = [
        (data, j)
        for data in drawn[FleetData]
        for j in range(len(data.modules))
        if {np.sign(limit.per_module.get(j, 0.0)) for limit in data.limits} >= {-1.0, 1.0}
    ]
    assert len(chains) >= 10  # a module that takes places here gives some there


def test_rates_and_prices_span_nine_orders_within_problems(drawn):
    spans = [orders(data) for data in drawn[FleetData]]
    assert sum(rates >= 6 and prices >= 6 for rates, prices in spans) >= 0.05 * DRAWS
    assert max(rates for rates, _ in spans) >= 9
    assert max(prices for _, prices in spans) >= 8


def test_kinds_are_what_they_are_called():
    assert len(KINDS) >= 12
    assert {kind_of(seed) for seed in range(len(KINDS))} == set(KINDS)
    wide = [name for name, kind in KINDS.items() if "wide" in kind.always]
    assert len(wide) / len(KINDS) >= 0.05


def test_a_seed_is_a_problem_and_a_problem_is_text():
    for seed in range(2 * len(KINDS)):
        once = to_json(random_fleet(seed))
        assert once == to_json(random_fleet(seed)) == to_json(from_json(once))
