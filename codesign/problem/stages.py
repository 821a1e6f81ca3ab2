"""An instance for each period and scenario: the problem with their changes, the rates and the offers of that time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codesign.problem.errors import Issue, ProblemError
from codesign.problem.future import Period, Scenario, probabilities
from codesign.problem.instance import ALL_HOURS, NOMINAL, Instance, Offer, Risk, Stage
from codesign.problem.load import problem_from_data, set_value
from codesign.problem.yaml_lines import Path_

if TYPE_CHECKING:
    from codesign.problem.schema import Problem

_TIMELESS = ("periods", "scenarios", "risk")


def with_stages(
    problem: Problem, base: Instance, robust: bool, alone: Callable[[Problem], Instance]
) -> Instance:
    """The instance with its stages: every period, in every scenario where `robust`; itself without either.

    `alone` resolves a problem without periods and scenarios.  Raises ProblemError for a change that does not work.
    """
    scenarios = {NOMINAL: None} | {s.name: s for s in problem.scenarios} if robust else {NOMINAL: None}
    if not problem.periods and len(scenarios) == 1:
        return _at(base, None, ALL_HOURS, problem)
    chances = probabilities(problem.scenarios) if robust else {NOMINAL: 1.0}
    periods: dict[str, Period | None] = dict(problem.periods) or {ALL_HOURS: None}
    total = sum(period.weight if period else 1.0 for period in periods.values())
    stages = []
    for scenario in chances:
        for name, period in periods.items():
            stated = _changed(problem, scenarios[scenario], name, period)
            instance = _at(alone(stated), period, name, problem)
            # Budgets hold over all hours, not in each stage.
            limits = replace(instance.limits, capital_usd=None, cost_usd_per_hour=None)
            instance = replace(instance, limits=limits)
            share = (period.weight if period else 1.0) / total
            stages.append(Stage(name, scenario, share, chances[scenario], instance))
    instances = [base, *(stage.instance for stage in stages)]
    dates = [item.price_date for item in instances if item.price_date]
    return replace(
        base,
        stages=tuple(stages),
        risk=Risk(problem.risk.measure, problem.risk.level) if robust else None,
        warnings=tuple(dict.fromkeys(text for item in instances for text in item.warnings)),
        price_list_ids=tuple(sorted({name for item in instances for name in item.price_list_ids})),
        price_date=min(dates, default=""),
    )


def held(offer: Offer, period: str, starts: Any) -> bool:
    """Is an offer held in a period that starts at a date (None: unknown)?"""
    gone = offer.until is not None and starts is not None and starts >= offer.until
    return not gone and (offer.periods is None or period in offer.periods)


def _at(instance: Instance, period: Period | None, name: str, problem: Problem) -> Instance:
    """The instance at a period's rates, with the offers that are held then; an option may have none left."""
    scale = period.scale if period else 1.0
    starts = (period.starts if period else None) or problem.as_of
    return replace(
        instance,
        tasks=tuple(replace(task, rate_per_s=task.rate_per_s * scale) for task in instance.tasks),
        hardware=tuple(
            replace(option, offers=tuple(o for o in option.offers if held(o, name, starts)))
            for option in instance.hardware
        ),
        units=tuple(
            replace(unit, offers=tuple(o for o in unit.offers if held(o, name, starts))) for unit in instance.units
        ),
        sha256=problem.sha256,
    )


def _changed(problem: Problem, scenario: Scenario | None, name: str, period: Period | None) -> Problem:
    """The problem without time, with the changes of a scenario and, on top of them, of a period."""
    document = problem._document
    data: Any = copy.deepcopy(document.data) if document else problem.model_dump(mode="json", exclude_unset=True)
    for word in _TIMELESS:
        data.pop(word, None)
    # Offers may name periods: those names mean something to the whole problem alone.
    sources: list[tuple[Path_, str, Mapping[str, Any]]] = []
    if scenario is not None:
        number = [item.name for item in problem.scenarios].index(scenario.name)
        sources.append((("scenarios", number), f"scenarios.{scenario.name}.set", scenario.set))
    if period is not None:
        sources.append((("periods", name), f"periods.{name}.set", period.set))
    for place, where, changes in sources:
        try:
            for path, value in changes.items():
                set_value(data, path, copy.deepcopy(value))
            changed = problem_from_data(data, problem.file, set(problem.periods))
        except ProblemError as error:
            line = document.line(place) if document else None
            raise ProblemError(
                Issue(problem.file, line, f"{where}: {issue.field}", issue.found, issue.expected)
                for issue in error.issues
            ) from None
    return changed if sources else problem_from_data(data, problem.file, set(problem.periods))
