"""What the design hangs on: parameters, assumptions, volume, memory prices, workloads.

All of it is asked of the designs that the search tried: the nominal best beside others that differ from it.
An assumption *flips* the design where another of them becomes better by more than a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.architecture.evaluate import Evaluation, Evaluator
from codesign.architecture.part import Assumptions, assumption_ranges
from codesign.architecture.search import Found, Trial
from codesign.architecture.space import Space, Value
from codesign.hardware.chip_cost import chip_cost
from codesign.hardware.tco import annuity_usd_per_hour
from codesign.problem import resolve

FLIP = 0.005
"""Share by which another design must be better."""
_CANDIDATES = 8
_DIFFERENT = 0.1
_FACTORS = (0.25, 0.5, 0.7, 1.4, 2.0, 4.0)
_HALVINGS = 4
"""Of the step between two factors, to find the price at which a design changes: to 3 %."""
_IMPORTANCE_TRIALS = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Flip:
    """What the nominal best design is worth when an assumption moves, and what would then be better."""

    assumption: str
    setting: float
    nominal: float
    value: float
    """Of the nominal best design (or of buying, where that is cheaper)."""
    best_value: float
    """Of the best among the designs tried."""
    best_trial: int
    flips: bool

    @property
    def regret(self) -> float:
        """Share lost by staying with the nominal design."""
        if not np.isfinite(self.best_value) or self.best_value <= 0:
            return 0.0
        return self.value / self.best_value - 1.0


@dataclass(frozen=True)
class BreakEven:
    """When designing pays against buying."""

    entry_price_usd: float | None
    """Price of a chip in its server at which this fleet stops buying it."""
    volume: float | None
    """Chips over which the NRE must be spread for that price; None: no volume is enough."""
    fleets: float | None
    """How many fleets of this size repay the NRE over the chips' life from what they save; None: nothing is saved."""


@dataclass(frozen=True)
class Sensitivity:
    """Everything that was asked."""

    importances: dict[str, float]
    """Share of the variance of good designs' value by parameter (PED-ANOVA); empty with too few trials."""
    assumptions: tuple[Flip, ...]
    memory_prices: tuple[Flip, ...]
    """By kind in ascending order of price, with the prices nearest to today's that flip the design."""
    hit_ratio: tuple[Flip, ...]
    break_even: BreakEven
    regret: dict[str, float]
    """By workload: what the chosen design costs there over the best of the designs for that workload alone."""
    chip_first: float | None
    """Share lost by designing the chip for the first variant of every task before variants are chosen."""


def analyse(space: Space, evaluator: Evaluator, found: Found, progress: Progress | None = None) -> Sensitivity:
    """Ask everything of the best design of a search and of those that differ from it. The search found a design."""

    def tell(text: str) -> None:
        if progress is not None:
            progress(text)

    candidates = different(space, found)
    problem = space.problem
    ranges = assumption_ranges(problem)
    settings = [
        (name, value, nominal)
        for name, (low, nominal, high) in ranges.items()
        for value in (low, high)
        if value != nominal
    ]
    assumptions = []
    for name, value, nominal in settings:
        tell(f"assumption {name}")
        changed = Evaluator(space, Assumptions.of(problem, {name: value}))
        assumptions.append(_flip(changed, candidates, name, value, nominal))
    prices = []
    kinds = {m.kind for design in space.designs(candidates[0].point).values() for m in design.memories}
    for kind in sorted(kinds):
        name = f"memory.{kind}"
        nominal = ranges[name][1]

        def at(price: float, name: str = name, nominal: float = nominal) -> Flip:
            tell(f"price of {name.removeprefix('memory.')}")
            changed = Evaluator(space, Assumptions.of(problem, {name: price}))
            return _flip(changed, candidates, name, price, nominal)

        prices += price_flips(at, nominal)
    tell("hit ratio")
    hits = [
        _flip(Evaluator(_without_cache(space, share), evaluator.assumptions), candidates, "hit ratio", share, 1.0)
        for share in (0.0, 0.5)
    ]
    tell("break-even")
    return Sensitivity(
        importances(space, found),
        tuple(assumptions),
        tuple(prices),
        tuple(hits),
        break_even(space, evaluator, candidates[0].point),
        _regret(evaluator, candidates),
        _chip_first(space, evaluator, candidates),
    )


def different(space: Space, found: Found, count: int = _CANDIDATES) -> list[Trial]:
    """The best trial and the next best that differ from all chosen before by a tenth in some parameter."""
    chosen: list[Trial] = []
    for trial in sorted((t for t in found.trials if t.feasible), key=lambda t: (t.value, t.number)):
        if all(_differ(trial.point, other.point) for other in chosen):
            chosen.append(trial)
        if len(chosen) == count:
            break
    return chosen


def _differ(first: dict[str, Value], second: dict[str, Value]) -> bool:
    for name, value in first.items():
        other = second[name]
        if isinstance(value, str) or isinstance(other, str):
            if value != other:
                return True
        elif abs(value - other) > _DIFFERENT * max(abs(value), abs(other)):
            return True
    return False


def _flip(evaluator: Evaluator, candidates: Sequence[Trial], name: str, value: float, nominal: float) -> Flip:
    values = [item.value for item in evaluator.points([trial.point for trial in candidates])]
    best = int(np.argmin(values))
    flips = values[best] < values[0] * (1.0 - FLIP)
    return Flip(name, value, nominal, values[0], values[best], candidates[best].number, bool(flips))


def price_flips(at: Callable[[float], Flip], nominal: float) -> list[Flip]:
    """What several prices do, and those nearest to the nominal one, below and above, from which the design changes."""
    found = [at(factor * nominal) for factor in _FACTORS]
    for side in (-1, 1):
        away = sorted((flip for flip in found if (flip.setting - nominal) * side > 0), key=lambda flip: flip.setting)
        near = nominal
        for flip in away[::side]:
            if flip.flips:
                far = flip.setting
                for _ in range(_HALVINGS):
                    tried = at((near * far) ** 0.5)
                    near, far = (near, tried.setting) if tried.flips else (tried.setting, far)
                    found += [tried] if tried.flips else []
                break
            near = flip.setting
    return sorted(found, key=lambda flip: flip.setting)


def importances(space: Space, found: Found) -> dict[str, float]:
    """Which parameters tell good designs from others, by share; needs some trials that can be made."""
    import optuna

    from codesign.architecture.search import distribution

    good = [trial for trial in found.trials if trial.feasible]
    if len(good) < _IMPORTANCE_TRIALS or len(space.axes) < 2:
        return {}
    study = optuna.create_study()
    for trial in good:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.point),
                distributions={axis.name: distribution(axis) for axis in space.axes},
                value=trial.value,
            )
        )
    shares = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


def break_even(space: Space, evaluator: Evaluator, point: dict[str, Value]) -> BreakEven:
    """Entry price of the first design at a point, and the volume and number of fleets at which its NRE is repaid."""
    baseline = evaluator.baseline
    problem, given = space.problem, evaluator.assumptions
    if not baseline.feasible:
        return BreakEven(None, None, None)
    design = next(iter(space.designs(point).values()))
    made = chip_cost(design, given.facts).bom / (1.0 - given.margin)
    free = Evaluator(_with_volume(space), replace(given, nre_usd=0.0))
    bare = free.points([point])[0].value

    def saved(extra_usd: float) -> float:
        """Saving over buying when every chip costs so much more."""
        dearer = Evaluator(_with_volume(space), replace(given, nre_usd=0.0, host_usd=given.host_usd + extra_usd))
        return baseline.value - dearer.points([point])[0].value

    entry: float | None = None
    if baseline.value - bare > 1e-6 * baseline.value:
        low, high = 0.0, made
        while saved(high) > 1e-6 * baseline.value and high < 64 * made:
            low, high = high, 2.0 * high
        for _ in range(12):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if saved(middle) > 1e-6 * baseline.value else (low, middle)
        entry = low
    volume = None if entry is None or entry <= 0 else given.nre_usd * len(problem.designs) / entry
    saving = (baseline.value - bare) / evaluator.per_usd_hour
    economics = problem.economics
    charge = annuity_usd_per_hour(given.nre_usd * len(problem.designs), economics.life, economics.interest)
    return BreakEven(
        None if entry is None else made + entry,
        volume,
        charge / saving if saving > 1e-9 else None,
    )


def _with_volume(space: Space) -> Space:
    """The same with the NRE in the price, which the caller sets to zero."""
    problem = space.problem
    changed = problem.model_copy(update={"market": problem.market.model_copy(update={"volume": 1})})
    changed._problems, changed._file, changed._sha256 = problem.problems, problem.file, problem.sha256
    return replace(space, problem=changed)


def _without_cache(space: Space, share: float) -> Space:
    """The same with that share of every task's reusable prefix."""
    problem = space.problem
    workloads = []
    for stated in problem.problems:
        changes = {}
        for task in stated.tasks:
            resolved = next(t for t in resolve(stated).tasks if t.name == task.name)
            if resolved.prefix_reusable > 0:
                changes[f"tasks.{task.name}.prefix.reusable"] = resolved.prefix_reusable * share
        workloads.append(stated.replace(changes) if changes else stated)
    changed = problem.model_copy()
    changed._problems, changed._file, changed._sha256 = tuple(workloads), problem.file, problem.sha256
    return replace(space, problem=changed)


def _regret(evaluator: Evaluator, candidates: Sequence[Trial]) -> dict[str, float]:
    """By workload, the share that the first candidate costs over the best of them there."""
    found = [item for item in evaluator.points([trial.point for trial in candidates]) if item.feasible]
    by_workload = np.array([item.by_workload for item in found])
    names = [workload.name for workload in evaluator.problem.workloads]
    return {name: float(by_workload[0, w] / by_workload[:, w].min() - 1.0) for w, name in enumerate(names)}


def _chip_first(space: Space, evaluator: Evaluator, candidates: Sequence[Trial]) -> float | None:
    """The loss of choosing the chip for every task's first variant, then the variants for that chip."""
    if all(len(task.variants or task.models or ()) < 2 for stated in space.problem.problems for task in stated.tasks):
        return None
    points = [trial.point for trial in candidates]
    first: list[Evaluation] = Evaluator(space, evaluator.assumptions, first_variants=True).points(points)
    chosen = int(np.argmin([item.value for item in first]))
    joint = [item.value for item in evaluator.points(points)]
    return float(joint[chosen] / min(joint) - 1.0)
