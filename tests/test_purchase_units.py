"""Servers of several kinds as one purchase: where a shared rack wins, where it does not, and who pays for it."""

import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.performance.energy import peak_power_w
from codesign.planner import explain, solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.problem.schema import json_schema
from codesign.solution import Solution

UNIT = {"servers": ["rtx", "h200"], "offers": {"rent": {"rent": "14 $/h"}}}


def problem(rate="2/s", units=None, **changes):
    """A prefill chip and a decode chip: 4 and 12 $/h for a server of four, 14 $/h for one of each in a rack.

    20 calls/s of 16,000 tokens at 2 tasks/s; nine tenths of the old context are reusable.
    """
    return Problem.from_dict(
        {
            "name": "rack",
            "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "agent",
                    "rate": rate,
                    "calls": 10,
                    "context": 16000,
                    "append": 1000,
                    "output": 300,
                    "tool_wait": "10 s",
                    "prefix": {"reusable": 0.9, "ttl": "60 s"},
                    "models": ["llama"],
                    "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "40 ms"}},
                }
            ],
            "hardware": {
                "rtx": {
                    "accelerator": "rtx-pro-6000-se",
                    "server": {"accelerators": 4},
                    "roles": ["prefill"],
                    "offers": {"rent": {"rent": "1 $/h"}},
                },
                "h200": {
                    "accelerator": "h200-sxm",
                    "server": {"accelerators": 4},
                    "offers": {"rent": {"rent": "3 $/h"}},
                },
            },
            "purchase_units": {"pair": UNIT} if units is None else units,
            "options": {"max_replica_accelerators": 1, "gap": "1%"},
        }
        | changes
    )


def complaints(asked, solution):
    return [violation.what for violation in check(asked, solution).violations]


def altered(solution, **changes):
    return Solution.model_validate(solution.model_dump(mode="json", by_alias=True) | changes)


@pytest.fixture(scope="module")
def shared():
    asked = problem()
    return asked, solve(asked)


def test_a_shared_rack_wins_where_both_kinds_of_slot_are_full(shared):
    """Four H200s alone do not carry 2 tasks/s, and a second server of four costs 24 $/h; with four prefill chips
    beside them they do: for 12 + 4 $/h apart, for 14 $/h in one rack."""
    asked, solution = shared
    assert solution.status == "optimal"
    assert solution.totals.servers == {"pair": 1}
    assert solution.totals.accelerators == {"rtx-pro-6000-se": 4, "h200-sxm": 4}
    assert solution.totals.cost_per_hour == pytest.approx(14.0)
    assert [(e.item, e.kind, e.count, e.accelerators) for e in solution.purchase] == [("pair/rent", "unit", 1, 8)]
    assert {(p.hardware, p.role) for p in solution.fleet} >= {("rtx", "prefill"), ("h200", "decode")}
    assert complaints(asked, solution) == []
    decode_only = solve(problem(units={}, limits={"inventory": {"rtx": 0, "h200": 4}}))
    assert decode_only.status == "infeasible"


def test_a_shared_rack_loses_where_one_kind_of_slot_would_stand_empty():
    """At half the rate four H200s carry both phases: 12 $/h, and the rack's prefill chips would be 2 $/h too many."""
    asked = problem("1/s")
    solution = solve(asked)
    assert solution.status == "optimal"
    assert solution.totals.servers == {"h200": 1}
    assert solution.totals.cost_per_hour == pytest.approx(12.0)
    assert complaints(asked, solution) == []


def test_a_shared_rack_loses_where_it_is_dearer_than_its_servers():
    """The same task: 12 + 4 $/h apart against 16.1 $/h."""
    asked = problem(units={"pair": UNIT | {"offers": {"rent": {"rent": "16.1 $/h"}}}})
    solution = solve(asked)
    assert solution.totals.servers == {"rtx": 1, "h200": 1}
    assert solution.totals.cost_per_hour == pytest.approx(16.0)
    assert complaints(asked, solution) == []


def test_what_is_sold_in_a_rack_alone_is_bought_there():
    """`offers: {}`: no server of either kind by itself. Capital of a unit is written off like any other."""
    asked = problem(
        "4/s",
        units={"pair": UNIT | {"offers": {"own": {"capital": "300000 $", "hosting": "2 $/h", "max": 3}}}},
    ).replace({"hardware.rtx.offers": {}, "hardware.h200.offers": {}})
    solution = solve(asked)
    assert set(solution.totals.servers) == {"pair"}
    line = solution.purchase[0]
    assert line.capital_usd == pytest.approx(300000 * line.count)
    years = 4 * 365 * 86400 / (8766 * 3600)
    annuity = 0.09 / (1 - 1.09**-years) / 8766
    assert line.usd_per_hour == pytest.approx(line.count * (300000 * annuity + 2))
    # Capital does not pay for power: pools of both kinds pay for what they draw.
    assert solution.totals.cost_per_hour > line.usd_per_hour
    assert complaints(asked, solution) == []
    none = solve(asked.replace({"purchase_units.pair.offers.own.max": 1}))
    assert none.status == "infeasible"


def test_the_price_of_a_rack_is_divided_by_provisioned_power(shared):
    asked, solution = shared
    options = {option.name: option for option in resolve(asked).hardware}
    watts = {name: 4 * peak_power_w(option.accelerator) for name, option in options.items()}
    for name, own in watts.items():
        paid = sum(pool.cost_per_hour for pool in solution.fleet if pool.hardware == name)
        assert paid == pytest.approx(14.0 * own / sum(watts.values()))
    assert solution.totals.peak_power_w == pytest.approx(1.25 * sum(watts.values()))


def test_limits_see_what_a_rack_holds():
    """Inventory in accelerators, racks by the unit's own power, stock in whole units, memory of both servers."""
    asked = problem(
        units={"pair": UNIT | {"rack": "liquid", "offers": {"rent": {"rent": "14 $/h", "min": 2, "max": 5}}}},
        site={"racks": {"liquid": {"count": 3, "power": "12 kW"}}, "power": "100 kW"},
        limits={"inventory": {"h200": 16}, "vendors": 1},
        memory={"ddr5": {"tier": "ddr5-rdimm", "price": "10 $/GB", "module": "64 GB", "max_per_server": "640 GB"}},
    )
    data = build_candidates(resolve(asked)).data
    assert [offer.name for offer in data.offers] == ["rtx/rent", "h200/rent", "pair/rent"]
    unit = data.offers[2]
    assert (unit.supplies, unit.min_servers, unit.usd_per_hour) == ((0, 1), 2, pytest.approx(14.0))
    limits = {limit.name: limit for limit in data.limits}
    assert limits["limits.inventory.h200"].per_server == {1: 4.0, 2: 4.0}
    stock = limits["purchase_units.pair.offers.rent.max"]
    assert (stock.limit, stock.per_server) == (40.0, {2: 8.0})
    both = data.hardware[0].peak_power_w + data.hardware[1].peak_power_w
    assert limits["site.racks.liquid"].per_server == {2: pytest.approx(1.0 / int(12000 / both))}
    assert limits["site.power"].per_server[2] == pytest.approx(1.25 * both)
    assert limits["memory.ddr5.max_per_server"].per_server == {0: -10.0, 1: -10.0, 2: -20.0}


def test_check_sees_through_a_rack_that_does_not_hold_the_plan(shared):
    asked, solution = shared
    line = solution.purchase[0].model_dump(mode="json")
    none = line | {"count": 0, "accelerators": 0, "usd_per_hour": 0.0}
    nothing = complaints(asked, altered(solution, purchase=[none]))
    assert any("hardware h200: servers for its replicas" in what for what in nothing)
    assert any("hardware rtx: servers for its replicas" in what for what in nothing)
    cheap = complaints(asked, altered(solution, purchase=[line | {"usd_per_hour": 10.0}]))
    assert any("purchase pair/rent: $/h at the offer's price" in what for what in cheap)
    alone = complaints(asked, altered(solution, purchase=[line | {"item": "h200/rent", "kind": "server"}]))
    assert any("hardware rtx: servers for its replicas" in what for what in alone)
    named = complaints(asked, altered(solution, purchase=[line | {"kind": "server"}]))
    assert any("an offer, measured pool, memory or link of the problem" in what for what in named)
    one_rack = asked.replace({"site.racks": {"air": {"count": 1, "power": "4 kW"}}, "purchase_units.pair.rack": "air"})
    assert any("site.racks.air" in what for what in complaints(one_rack, solution))


def test_a_rack_stands_in_every_period():
    periods = {"day": {"hours": "12 h/day"}, "night": {"hours": "12 h/day", "scale": 0.4}}
    asked = problem("1/s", periods=periods).replace(
        {"tasks.agent.prefix": {}, "hardware.h200.roles": ["decode"], "tasks.agent.context": 3000}
    )
    solution = solve(asked)
    assert solution.totals.servers == {"pair": 1}
    assert solution.totals.accelerators == {"rtx-pro-6000-se": 4, "h200-sxm": 4}
    assert solution.totals.cost_per_hour == pytest.approx(14.0)
    assert complaints(asked, solution) == []


def test_explain_knows_what_a_rack_part_would_be_worth_by_itself():
    asked = problem("1/s").replace({"hardware.rtx.offers": {}})
    found = {item.accelerator: item for item in explain(asked).not_chosen}
    assert set(found) == {"rtx"}
    assert "purchase unit" in found["rtx"].reason
    assert 0 < found["rtx"].enters_at_price < 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purchase_units.pair.servers": ["rtx", "h20"]}, "purchase_units.pair.servers.1: found 'h20'"),
        ({"purchase_units.pair.servers": ["rtx"]}, "purchase_units.pair.servers"),
        ({"purchase_units.pair.servers": ["rtx", "rtx"]}, "found 'rtx' twice in servers; expected each hardware once"),
        ({"purchase_units.pair.rack": "wet"}, "purchase_units.pair.rack: found 'wet'"),
        ({"purchase_units.pair.offers": {}}, "purchase_units.pair.offers"),
        ({"purchase_units.h200": UNIT}, "purchase_units.h200: found 'h200'; expected a name that no hardware has"),
        ({"purchase_units.pair.offers.rent.capital": "1 M$"}, "found neither or both of rent and capital"),
        ({"purchase_units": {}, "hardware.rtx.offers": {}}, "hardware.rtx.offers: found no offers; expected an offer"),
        ({"purchase_units.pair.offers.rent.periods": ["noon"]}, "offers.rent.periods.0: found 'noon'"),
    ],
)
def test_words_of_units(changes, message):
    with pytest.raises(ProblemError) as error:
        resolve(problem().replace(changes))
    assert message in str(error.value)


def test_the_schema_of_the_file_knows_units():
    schema = json_schema()
    assert "purchase_units" in schema["properties"]
    assert "one server of each" in schema["$defs"]["PurchaseUnit"]["properties"]["servers"]["description"]
