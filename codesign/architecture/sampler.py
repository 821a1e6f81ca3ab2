"""A sampler that knows what can be made: Optuna's TPE between random starts and small steps from the best.

Few points of a design space are chips: most break the reticle, the die's edge or the package. Those limits cost
microseconds and fleets cost tens of milliseconds, so starts and steps are drawn again until a chip can be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

_DRAWS = 400
"""Tries to draw a chip that can be made; then the last stands, and its limits say by how much it cannot."""
_STEPS = (0.2, 0.05, 0.0125)
"""Deviations of a step as shares of a parameter's range."""
_FRONT = 0.5
"""Chance that a step starts from the front."""
_OTHER_CHOICE = 0.1
"""Chance that a step takes another choice."""

Makeable = Callable[[Mapping[str, Any]], bool]


class MakeableSampler(BaseSampler):
    """Random makeable chips for `starts` trials, then `inner` and steps from the front in turn."""

    def __init__(
        self, inner: BaseSampler, axes: Mapping[str, BaseDistribution], makeable: Makeable, seed: int, starts: int
    ) -> None:
        self._inner, self._axes, self._makeable, self._starts = inner, axes, makeable, starts
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """All parameters where this sampler draws; else what the inner one models."""
        if self._own(trial):
            return dict(self._axes)
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """A start, a step, or what the inner sampler says."""
        if not self._own(trial):
            return self._inner.sample_relative(study, trial, search_space)
        leaders = _leaders(study, self._axes) if trial.number >= self._starts else _Leaders([], [])
        point: dict[str, Any] = {}
        for _ in range(_DRAWS):
            parent = self._parent(leaders)
            step = float(self._rng.choice(_STEPS))
            point = {name: self._draw(axis, parent and parent[name], step) for name, axis in search_space.items()}
            if self._makeable(point):
                break
        return point

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        """A parameter that no joint draw covers."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def _parent(self, leaders: _Leaders) -> dict[str, Any] | None:
        """Of the front or, every other time, the best with some choices, the better the likelier; None before any."""
        if not leaders.front:
            return None
        if self._rng.random() < _FRONT:
            return leaders.front[int(self._rng.integers(len(leaders.front)))]
        weights = 1.0 / np.arange(1, len(leaders.by_choices) + 1)
        return leaders.by_choices[int(self._rng.choice(len(weights), p=weights / weights.sum()))]

    def _own(self, trial: FrozenTrial) -> bool:
        return trial.number < self._starts or trial.number % 2 == 1

    def _draw(self, axis: Any, parent: Any, step: float) -> Any:
        if isinstance(axis, CategoricalDistribution):
            if parent is not None and self._rng.random() >= _OTHER_CHOICE:
                return parent
            return axis.choices[int(self._rng.integers(len(axis.choices)))]
        if isinstance(axis, IntDistribution):
            if parent is None:
                return int(self._rng.integers(axis.low, axis.high + 1))
            moved = parent + self._rng.normal(0.0, max(step * (axis.high - axis.low), 0.5))
            return int(np.clip(round(moved), axis.low, axis.high))
        assert isinstance(axis, FloatDistribution)
        low, high = math.log(axis.low), math.log(axis.high)
        if parent is None:
            return float(math.exp(self._rng.uniform(low, high)))
        moved = math.log(parent) + self._rng.normal(0.0, step * (high - low))
        return float(np.clip(math.exp(moved), axis.low, axis.high))


@dataclass(frozen=True)
class _Leaders:
    """Parameters of the trials that steps start from."""

    front: list[dict[str, Any]]
    """Those that no other beats in all objectives."""
    by_choices: list[dict[str, Any]]
    """The best in the first objective for each combination of choices, best first: another kind of memory wants other
    numbers, and is worse until it has them."""


def _leaders(study: Study, axes: Mapping[str, BaseDistribution]) -> _Leaders:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted(
        ((tuple(t.values), t.number, t.params) for t in done if t.user_attrs.get("feasible")),
        key=lambda item: item[:2],
    )
    choices = [name for name, axis in axes.items() if isinstance(axis, CategoricalDistribution)]
    front: list[dict[str, Any]] = []
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    least = math.inf
    for values, _, params in ranked:
        best.setdefault(tuple(params[name] for name in choices), params)
        if not front or (len(values) > 1 and values[1] < least):
            front.append(params)
            least = values[-1]
    return _Leaders(front, list(best.values()))
