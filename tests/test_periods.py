"""Periods, growth, existing servers: each flips an optimum that can be worked out by hand, and `check` agrees."""

import pytest

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.planner import explain, solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.solution import Solution

DAY = {"peak": {"hours": "6 h/day"}, "off": {"hours": "18 h/day", "scale": 0.25}}

MEASURED = {
    "name": "hand",
    "site": {"pue": 1.0},
    "tasks": [{"name": "chat", "rate": "40/s"}],
    "measured_pools": [
        {"name": "box", "accelerator": "A", "cost": "1 $/h", "power": "100 W", "max_rate": {"chat": "10/s"}}
    ],
    "periods": DAY,
    "options": {"gap": 0, "threads": 1},
}
"""Four boxes at the peak, one else."""

MODELLED = {
    "name": "modelled",
    "models": {"m": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
    "tasks": [
        {
            "name": "chat", "rate": "60/s", "models": ["m"], "context": {"mean": 1500, "cv": 0.5},
            "output": {"mean": 250}, "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "50 ms"}},
        }
    ],
    "hardware": {"h100": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}},
    "options": {"gap": 0, "threads": 1, "max_replica_accelerators": 1, "disaggregation": "never"},
}  # fmt: skip


def solved(description, changes=None, robust=False):
    problem = Problem.from_dict(description).replace(changes or {})
    plan = solve(problem, robust=robust) if robust else solve(problem)
    assert plan.status == "optimal"
    report = check(problem, plan)
    assert report.ok, report.violations
    return plan


def bought(plan):
    return {line.item: line.count for line in plan.purchase}


def replicas(plan, period):
    return sum(pool.replicas for pool in plan.fleet if pool.period == period)


def servers_of_one_period(scale):
    plan = solved(MODELLED, {"tasks.chat.rate": f"{60 * scale}/s"})
    return sum(bought(plan).values())


# ---- servers are bought once, what runs on them is decided per period -----------------------------------------


def test_servers_are_bought_once_and_run_when_needed():
    plan = solved(MEASURED)
    assert bought(plan) == {"box": 4}
    assert plan.objective.value == pytest.approx(4.0)
    assert plan.totals.peak_power_w == 400.0


def test_power_is_that_of_the_hours():
    """Objective power: four boxes of 100 W for 6 hours, one for 18: 400/4 + 100·3/4 = 175 W."""
    plan = solved(MEASURED, {"objective": "power"})
    assert (replicas(plan, "peak"), replicas(plan, "off")) == (4, 1)
    assert plan.objective.value == pytest.approx(175.0)
    rate = 40 * 0.25 + 10 * 0.75
    per_task = solved(MEASURED, {"objective": "energy_per_task"})
    assert per_task.objective.value == pytest.approx(175.0 / rate)
    carbon = solved(MEASURED, {"objective": "carbon_per_task", "site.carbon": "360 g/kWh"})
    assert carbon.objective.value == pytest.approx(175.0 / rate * 0.36 / 3.6e6)


def test_cost_per_task_divides_by_the_tasks_of_all_hours():
    plan = solved(MEASURED, {"objective": "cost_per_task"})
    assert plan.objective.value == pytest.approx(4.0 / (3600 * (40 * 0.25 + 10 * 0.75)))
    assert plan.totals.cost_per_task == pytest.approx(plan.objective.value)


def test_clean_hours_count_less_carbon():
    """Carbon by period: 400 W at 360 g/kWh a quarter of the time, 100 W at 180 g/kWh the rest."""
    clean = {"periods.off.set": {"site.carbon": "180 g/kWh"}}
    changes = {"objective": "carbon_per_task", "site.carbon": "360 g/kWh"} | clean
    plan = solved(MEASURED, changes)
    expected = (400 * 0.25 * 0.36 + 100 * 0.75 * 0.18) / 3.6e6 / 17.5
    assert plan.objective.value == pytest.approx(expected)


def test_equal_periods_change_nothing():
    alone = solved(MODELLED)
    halves = {"day": {"hours": "12 h/day"}, "night": {"hours": "12 h/day"}}
    both = solved(MODELLED, {"periods": halves})
    assert both.objective.value == pytest.approx(alone.objective.value)
    assert bought(both) == bought(alone)


def test_roles_change_by_period():
    """One task by day and another by night share servers: as dear as the dearer of them, not as both together."""
    other = MODELLED["tasks"][0] | {"name": "batch", "rate": "8/s", "context": {"mean": 9000, "cv": 0.5}}
    tasks = [MODELLED["tasks"][0], other]
    quiet = {"tasks.chat.rate": "0.01/s"}
    idle = {"tasks.batch.rate": "0.01/s"}
    periods = {"day": {"hours": "12 h/day", "set": idle}, "night": {"hours": "12 h/day", "set": quiet}}
    together = solved(MODELLED, {"tasks": tasks, "periods": periods, "options.gap": 0.02})
    day = solved(MODELLED, {"tasks": tasks, "options.gap": 0.02} | idle)
    night = solved(MODELLED, {"tasks": tasks, "options.gap": 0.02} | quiet)
    always = solved(MODELLED, {"tasks": tasks, "options.gap": 0.02})
    assert together.objective.value == pytest.approx(max(day.objective.value, night.objective.value), rel=0.02)
    assert together.objective.value < 0.85 * always.objective.value


# ---- offers by period: the flip, by hand ----------------------------------------------------------------------

OFFERS = {"reserved": {"rent": "2 $/h"}, "on-demand": {"rent": "3 $/h", "periods": ["peak"]}}


@pytest.mark.parametrize(("hours", "cheaper"), [(6, "on-demand"), (12, "on-demand"), (18, "reserved")])
def test_on_demand_pays_for_short_peaks_alone(hours, cheaper):
    """A server for the peak costs 3 $ for its hours or 2 $ for all: they meet at 16 hours a day."""
    most, least = servers_of_one_period(1.0), servers_of_one_period(0.25)
    assert most > least
    changes = {
        "hardware.h100.price": None,
        "hardware.h100.offers": OFFERS,
        "periods": {"peak": {"hours": f"{hours} h/day"}, "off": {"hours": f"{24 - hours} h/day", "scale": 0.25}},
    }
    plan = solved(MODELLED, changes)
    extra = most - least
    expected = {"h100/reserved": least, "h100/on-demand": extra} if cheaper == "on-demand" else {"h100/reserved": most}
    assert bought(plan) == expected
    assert plan.objective.value == pytest.approx(2 * least + min(2, 3 * hours / 24) * extra)


def test_growth_buys_later_where_prices_fall():
    """Year one needs `least` servers, year two `most`. Owned from the start 2 $/h; rented in year two at 1.5 $/h."""
    most, least = servers_of_one_period(1.0), servers_of_one_period(0.25)
    changes = {
        "hardware.h100.price": None,
        "hardware.h100.offers": {"now": {"rent": "2 $/h"}, "later": {"rent": "1.5 $/h", "periods": ["y2"]}},
        "periods": {"y1": {"lasts": "1 year", "scale": 0.25}, "y2": {"lasts": "1 year"}},
    }
    plan = solved(MODELLED, changes)
    assert bought(plan) == {"h100/now": least, "h100/later": most - least}
    assert plan.objective.value == pytest.approx(2 * least + 0.75 * (most - least))
    # At 4.5 $/h in year two buying everything at once is as cheap as 2.25 for half the time is dear.
    dear = solved(MODELLED, changes | {"hardware.h100.offers.later.rent": "4.5 $/h"})
    assert bought(dear) == {"h100/now": most}


# ---- what exists ----------------------------------------------------------------------------------------------

EXISTING = {"existing": [{"hardware": "h100", "servers": 2, "price": "0.5 $/h", "includes_power": True}]}


def test_existing_servers_come_first_as_far_as_they_go():
    needed = servers_of_one_period(1.0)
    assert needed > 2
    plan = solved(MODELLED, EXISTING)
    assert bought(plan) == {"h100/existing": 2, "h100/price": needed - 2}
    assert plan.objective.value == pytest.approx(2 * 0.5 + 2 * (needed - 2))


def test_churn_keeps_what_would_be_given_up():
    """At 3 $/h nobody would keep them; with churn of half one has to stay."""
    dear = {"existing": [EXISTING["existing"][0] | {"price": "3 $/h"}]}
    needed = servers_of_one_period(1.0)
    assert bought(solved(MODELLED, dear)) == {"h100/price": needed}
    kept = solved(MODELLED, dear | {"limits.churn": {"servers": "50%"}})
    assert bought(kept) == {"h100/existing": 1, "h100/price": needed - 1}


def test_existing_servers_leave_on_their_day():
    years = {"y1": {"lasts": "1 year", "starts": "2027-01"}, "y2": {"lasts": "1 year", "starts": "2028-01"}}
    gone = {"existing": [EXISTING["existing"][0] | {"until": "2028-01"}], "periods": years}
    rents = {"a": {"rent": "2 $/h"}, "b": {"rent": "2 $/h", "periods": ["y2"]}}
    offers = {"hardware.h100.price": None, "hardware.h100.offers": rents}
    plan = solved(MODELLED, gone | offers)
    needed = servers_of_one_period(1.0)
    assert bought(plan) == {"h100/existing": 2, "h100/a": needed - 2, "h100/b": 2}
    assert plan.objective.value == pytest.approx(2 * 0.5 / 2 + 2 * (needed - 2) + 2 * 2 / 2)


# ---- limits over all hours, and in each period ----------------------------------------------------------------


def test_designs_are_limited_in_each_period():
    pools = [
        MEASURED["measured_pools"][0],
        {"name": "small", "accelerator": "B", "cost": "0.3 $/h", "power": "10 W", "max_rate": {"chat": "3/s"}},
    ]
    plan = solved(MEASURED, {"measured_pools": pools, "limits.max_designs": 1, "objective": "power"})
    for period in ("peak", "off"):
        assert len({pool.group for pool in plan.fleet if pool.period == period}) == 1


def test_budget_holds_on_the_average_of_all_hours():
    offers = {"hardware.h100.price": None, "hardware.h100.offers": OFFERS, "periods": DAY}
    free = solved(MODELLED, offers)
    exact = solved(MODELLED, offers | {"limits.budget.cost_per_hour": f"{free.objective.value + 1e-6} $/h"})
    assert exact.objective.value == pytest.approx(free.objective.value)
    less = {"limits.budget.cost_per_hour": f"{0.9 * free.objective.value} $/h"}
    short = solve(Problem.from_dict(MODELLED).replace(offers | less))
    assert short.status == "infeasible"


def test_inventory_holds_in_each_period_and_its_row_stands_once():
    instance = resolve(Problem.from_dict(MODELLED).replace({"periods": DAY, "limits.inventory": {"h100": 9}}))
    data = build_candidates(instance).data
    assert [limit.name for limit in data.limits] == ["limits.inventory.h100"]
    assert data.offers[0].supplies == (0, 1)


def test_infeasible_in_a_later_period_says_which():
    """A task that nothing serves stands in both periods: the explanation must find it in each."""
    nobody = {"tasks": [{"name": "chat", "rate": "40/s"}, {"name": "orphan", "rate": "1/s"}]}
    plan = solve(Problem.from_dict(MEASURED).replace(nobody))
    assert plan.status == "infeasible"
    assert any("tasks.orphan" in conflict for conflict in plan.conflicts)
    short = explain(Problem.from_dict(MEASURED).replace({"limits.inventory": {"A": 2}}))
    assert {c.limit for c in short.conflicts} == {"limits.inventory.A", "tasks.chat.rate (peak)"}


# ---- the witness, and the words of the file -------------------------------------------------------------------


def rewritten(plan, change):
    data = plan.model_dump(mode="json", by_alias=True)
    change(data)
    return Solution.model_validate(data)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d["purchase"][0].update(count=3), "servers"),
        (lambda d: d["fleet"][-1].update(period="peak"), "peak"),
        (lambda d: d["totals"].update(cost_per_hour=1.0), "totals.cost_per_hour"),
        (lambda d: d["stages"][0].update(share=0.5), "share of all hours"),
        (lambda d: d.update(stages=d["stages"][:1]), "stages: off"),
        (lambda d: d["routing"][-1].update(period="night"), "period and scenario of the problem"),
    ],
)
def test_check_sees_through_the_periods(change, complaint):
    problem = Problem.from_dict(MEASURED)
    wrong = rewritten(solve(problem), change)
    found = [violation.what for violation in check(problem, wrong).violations]
    assert any(complaint in what for what in found), found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"periods": {"a": {"hours": "10 h/day"}}}, r"periods: found 10 h/day altogether"),
        ({"periods": {"a": {"hours": "24 h/day"}, "b": {"lasts": "1 year"}}}, r"period 'a' without"),
        ({"periods": {"a": {"hours": "24 h/day", "set": {"options.gap": 0.1}}}}, r"found 'options.gap'"),
        ({"periods": {"a": {"hours": "24 h/day", "set": {"tasks.chat.rate": "x"}}}}, r"periods.a.set: tasks.chat.rate"),
        ({"hardware.h100.offers": {"o": {"rent": "1 $/h", "periods": ["pek"]}}}, r"periods.0: found 'pek'"),
        ({"existing": [{"hardware": "h10", "servers": 1}]}, r"existing.0.hardware: found 'h10'; expected 'h100'"),
        ({"existing": [{"hardware": "h100", "servers": 1, "until": "2028-13"}]}, r"expected a month or day such as"),
    ],
)  # fmt: skip
def test_faults_name_their_field(changes, message):
    with pytest.raises(ProblemError, match=message):
        resolve(Problem.from_dict(MODELLED).replace({"periods": DAY} | changes))
