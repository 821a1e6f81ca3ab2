"""Periods and scenarios: one solution taken apart into its stages, and what must hold over all of them.

Each stage is checked by itself like any other plan.  Here: no stage is missing, everybody shares one purchase, its
price is the mean over all hours, budgets hold, and totals and scenarios are what the stages come to.
"""

from __future__ import annotations

from collections.abc import Sequence

from codesign.check.accounts import Sums
from codesign.check.purchase import offered, priced
from codesign.check.report import ENERGY_TOLERANCE, Findings
from codesign.problem.instance import Instance, Risk, Stage
from codesign.solution.schema import Purchase, Solution

_SECONDS_PER_HOUR = 3600.0


def stage_solutions(instance: Instance, solution: Solution, findings: Findings) -> list[Solution]:
    """The solution of each stage (in the instance's order); what belongs to none is a violation."""
    known = {(stage.period, stage.scenario): stage for stage in instance.stages}
    listed = {(entry.period, entry.scenario): entry for entry in solution.stages}
    for key, stage in known.items():
        entry = listed.get(key)
        if entry is None:
            findings.fail(f"stages: {stage.name}", "given", None)
        else:
            findings.equal(f"stages: {stage.name}: share of all hours", entry.share, stage.share)
            findings.equal(f"stages: {stage.name}: probability", entry.probability, stage.probability)
    pools = [pool.pool for pool in solution.fleet]
    for name in sorted({name for name in pools if pools.count(name) > 1}):
        findings.fail(f"fleet: pool names are unique: {name}", 1, pools.count(name))
    for word in ("fleet", "routing", "tasks", "memory"):
        for strange in {(e.period, e.scenario) for e in getattr(solution, word)} - set(known):
            findings.fail(f"{word}: period and scenario of the problem", str(list(known)), str(strange))
    return [_own(stage, solution) for stage in instance.stages]


def _own(stage: Stage, solution: Solution) -> Solution:
    key = (stage.period, stage.scenario)

    def here(entries: Sequence[object]) -> tuple[object, ...]:
        return tuple(e for e in entries if (getattr(e, "period", ""), getattr(e, "scenario", "")) == key)

    return solution.model_copy(
        update={word: here(getattr(solution, word)) for word in ("fleet", "routing", "tasks", "memory")}
        | {
            "totals": next((e.totals for e in solution.stages if (e.period, e.scenario) == key), None),
            "purchase": tuple(
                line.model_copy(
                    update={
                        "usd_per_hour": _price(stage.instance, line),
                        "capital_usd": _capital([stage], line),
                    }
                )
                for line in solution.purchase
                if line.item in offered(stage.instance)
            ),
            "stages": (),
        }
    )


def _price(instance: Instance, line: Purchase) -> float:
    """$/h of a line in a stage: nothing where its item is not held."""
    bought = priced(instance, line)
    return bought.usd_per_hour if bought is not None else 0.0


def _capital(stages: Sequence[Stage], line: Purchase) -> float:
    """$ that a line ties up by the prices of the first stage that knows its item: it is bought before others come."""
    found = (priced(stage.instance, line) for stage in stages)
    return next((bought.capital_usd for bought in found if bought is not None), 0.0)


def check_joined(
    instance: Instance, solution: Solution, sums: Sequence[Sums], findings: Findings
) -> Sums:
    """Purchase, budgets, totals and scenarios over all stages; the figures that the objective is made of."""
    _check_purchase(instance, solution, findings)
    pairs = list(zip(instance.stages, sums, strict=True))
    chance = [(stage.share * stage.probability, stage, found) for stage, found in pairs]
    rate = sum(w * sum(task.rate_per_s for task in stage.instance.tasks) for w, stage, _ in chance)
    cost = sum(w * found.cost_per_hour for w, _, found in chance)
    power = sum(w * found.power_w for w, _, found in chance)
    totals = solution.totals
    if totals is None:
        findings.fail("totals", "given with a plan", None)
    else:
        peak = max((entry.totals.peak_power_w for entry in solution.stages), default=0.0)
        findings.equal("totals.cost_per_hour", totals.cost_per_hour, cost)
        findings.equal("totals.cost_per_task", totals.cost_per_task, cost / (_SECONDS_PER_HOUR * rate))
        findings.equal("totals.energy_per_task_j", totals.energy_per_task_j, power / rate, ENERGY_TOLERANCE)
        findings.equal("totals.power_w", totals.power_w, power, ENERGY_TOLERANCE)
        findings.equal("totals.peak_power_w", totals.peak_power_w, peak)
        counts: dict[str, int] = {}
        items = {item: source for stage in instance.stages for item, source in offered(stage.instance).items()}
        for line in solution.purchase:
            source = items.get(line.item)
            if line.kind in ("server", "unit", "measured") and source is not None:
                name = source[0].name if isinstance(source, tuple) else source.name
                counts[name] = counts.get(name, 0) + line.count
        if totals.servers != counts:
            findings.fail("totals.servers as purchased", str(counts), str(totals.servers))
    by_scenario = {
        name: _scenario(instance, name, [pair for pair in pairs if pair[0].scenario == name])
        for name in dict.fromkeys(stage.scenario for stage in instance.stages)
    }
    budget = instance.limits.cost_usd_per_hour
    for name, found in by_scenario.items():
        if budget is not None:
            findings.at_most(f"limits.budget.cost_per_hour, $/h ({name})", found.cost_per_hour, budget)
    return _measured(instance, by_scenario, solution, findings)


def _check_purchase(instance: Instance, solution: Solution, findings: Findings) -> None:
    """Every item is known somewhere; its price is the mean over all hours of what each stage charges."""
    known = dict.fromkeys(item for stage in instance.stages for item in offered(stage.instance))
    items = [line.item for line in solution.purchase]
    for line in solution.purchase:
        if line.item not in known:
            findings.fail(f"purchase {line.item}: an offer of the problem", ", ".join(known), line.item)
        expected = sum(s.share * s.probability * _price(s.instance, line) for s in instance.stages)
        findings.equal(f"purchase {line.item}: $/h, mean over all hours", line.usd_per_hour, expected)
        findings.equal(f"purchase {line.item}: capital, $", line.capital_usd, _capital(instance.stages, line))
        if items.count(line.item) > 1:
            findings.fail(f"purchase {line.item}: lines", 1, items.count(line.item))
    if instance.limits.capital_usd is not None:
        capital = sum(line.capital_usd for line in solution.purchase)
        findings.at_most("limits.budget.capital, $", capital, instance.limits.capital_usd)


def _scenario(instance: Instance, name: str, pairs: Sequence[tuple[Stage, Sums]]) -> Sums:
    """Means over a scenario's periods, per task of that scenario."""
    rate = instance.mean_rate(name)
    cost = sum(stage.share * found.cost_per_hour for stage, found in pairs)
    power = sum(stage.share * found.power_w for stage, found in pairs)
    carbon = sum(s.share * found.power_w * s.instance.site.carbon_kg_per_joule for s, found in pairs)
    return Sums(cost, cost / (_SECONDS_PER_HOUR * rate), power / rate, power, carbon / rate)


def _measured(
    instance: Instance, by_scenario: dict[str, Sums], solution: Solution, findings: Findings
) -> Sums:
    """Each figure under the risk measure; the scenarios' values are compared with those reported."""
    if instance.risk is None:
        return next(iter(by_scenario.values()))
    chances = {stage.scenario: stage.probability for stage in instance.stages}
    total = sum(chances.values())
    weights = [chances[name] / total for name in by_scenario]
    figures = {
        word: risk_measure([getattr(found, word) for found in by_scenario.values()], weights, instance.risk)
        for word in vars(next(iter(by_scenario.values())))
    }
    words = {"energy_per_task": "energy_per_task_j", "power": "power_w", "carbon_per_task": "carbon_per_task_kg"}
    word = words.get(instance.objective, instance.objective)
    reported = {entry.name: entry.value for entry in solution.scenarios}
    for name, found in by_scenario.items():
        value = getattr(found, word)
        findings.equal(f"scenario {name}: {instance.objective}", reported.get(name), value, ENERGY_TOLERANCE)
    return Sums(**figures)


def risk_measure(values: Sequence[float], weights: Sequence[float], risk: Risk) -> float:
    """Mean, worst, or mean of the worst 1 − α: the least of η + E[max(v − η, 0)]/(1 − α), at one of the values."""
    if risk.measure == "expected":
        return sum(weight * value for value, weight in zip(values, weights, strict=True))
    if risk.measure == "worst-case":
        return max(values)
    return min(
        level + sum(w * max(v - level, 0.0) for v, w in zip(values, weights, strict=True)) / (1.0 - risk.level)
        for level in values
    )
