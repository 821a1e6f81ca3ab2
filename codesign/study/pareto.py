"""Pareto frontiers by ε-constraints: ends first, then points where the curve bends, each with its own bound.

The first objective is minimised while the others are held at ceilings; what is left of them is then lowered at
the same first objective.  Frontiers of three objectives are slices at levels of the third.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from codesign.optimize.search import Start
from codesign.problem import Problem, resolve
from codesign.problem.instance import Instance, ObjectiveName
from codesign.study.axes import AXES, SAFETY_LEVELS, Axis, independent, parse_axes, settled
from codesign.study.front import Front, FrontPoint, Proof, dominates, unit_box
from codesign.study.jobs import Finished, Job, limits_of
from codesign.study.placement import Known, even_ceilings, next_ceilings, staircase
from codesign.study.workers import Crew, Hear, study

_PER_ROUND = 6
"""Share of the points that are placed at once: 1/6 of them, two at least."""
_SLO_RATIO = 1.05
"""The least feasible scale of the SLOs is found to this ratio."""
_SLO_PROBES = (1.0, 0.5, 0.25, 0.125, 0.0625)
_SLICES = (3, 8)
"""Least and most levels of a third objective."""

_BLENDS, _POINTS_PER_BLEND = 12, 4
"""Weighted sums that are solved between the ends: at most, and one for so many points."""
_NEAREST = 2
"""Plans on either side of a ceiling whose configurations are combined."""

Held = dict[str, float]
"""Ceilings by axis; inside a frontier every axis is minimised."""


@dataclass(frozen=True)
class _Ask:
    """Minimise an axis under ceilings."""

    axis: Axis
    ceilings: Held
    blend: Mapping[str, float] = field(default_factory=dict)
    """Weights by axis of a sum that is minimised instead: plans to start from."""


@dataclass(frozen=True)
class _Answer:
    """What came of it: values of the axes (None: no plan), and a bound on the axis that was minimised."""

    ask: _Ask
    values: dict[str, float] | None
    bound: float
    result: Finished


_Rounds = Generator[list[_Ask], list[_Answer], None]


def pareto(
    problem: Problem,
    objectives: Sequence[str] = ("cost", "energy"),
    points: int = 20,
    *,
    directory: str | Path | None = None,
    workers: int = 1,
    dask: str | None = None,
    gap: float | None = None,
    time_limit_s: float | None = None,
    progress: Hear | None = None,
    cancel: threading.Event | None = None,
) -> Front:
    """The frontier of two or three objectives of a procurement problem.

    `gap` and `time_limit_s` are for each point.  With a `directory` every finished solve is kept there at once
    and found again by the next run.  `workers` above 1 are local processes (a script then needs the usual
    `if __name__ == "__main__":`); `dask` is a scheduler's address.  The result depends on none of these.
    Raises ProblemError and ValueError for input that cannot be used.
    """
    if points < 2:
        raise ValueError(f"points: found {points}; expected at least 2")
    asked = parse_axes(objectives)
    instance = resolve(problem)
    frontier = _Frontier(problem, instance, asked, limits_of(instance, gap, time_limit_s))
    with study(points, directory, workers, dask, progress, cancel) as crew:
        frontier.search(crew, points)
    return frontier.front(crew.complete, crew.notes)


class _Frontier:
    """The search: rounds of questions, and the answers so far."""

    def __init__(
        self, problem: Problem, instance: Instance, asked: tuple[Axis, ...], limits: tuple[float, float]
    ) -> None:
        self.problem, self.instance, self.asked = problem, instance, asked
        self.axes = independent(asked)
        self.gap, self.time_limit_s = limits
        self.answers: list[_Answer] = []
        # A third axis that changes the problem makes the slices: each is enumerated once.
        rest = sorted(self.axes[1:], key=lambda axis: axis.kind != "linear")
        self.axes = (self.axes[0], *rest)

    def search(self, crew: Crew, points: int) -> None:
        """Ask until the points are found or nothing is left to search."""
        if len(self.axes) == 1:
            self._run(crew, [_line_end(self.axes[0])])
        elif len(self.axes) == 2:
            self._run(crew, [self._slice({}, points)])
        else:
            self._run(crew, [self._ends(self.axes[2], {})])
            levels = self._levels(self.axes[2], points)
            each = max(2, round(points / max(1, len(levels))))
            self._run(crew, [self._slice({self.axes[2].name: level}, each) for level in levels])

    def _run(self, crew: Crew, searches: list[_Rounds]) -> None:
        """Drive searches side by side, a round of all at a time."""
        waiting = [(search, next(search, None)) for search in searches]
        while active := [(search, asks) for search, asks in waiting if asks]:
            questions = [ask for _, asks in active for ask in asks]
            finished = crew.run([self._job(ask) for ask in questions])
            answers = [self._answer(ask, result) for ask, result in zip(questions, finished, strict=True)]
            self.answers += answers
            waiting, start = [], 0
            for search, asks in active:
                part = answers[start : start + len(asks)]
                start += len(asks)
                try:
                    waiting.append((search, search.send(part)))
                except StopIteration:
                    continue

    # ---- questions ------------------------------------------------------------------------------------------

    def _ends(self, axis: Axis, fixed: Held) -> _Rounds:
        """The least value of `axis`, and the least first objective at it and without it."""
        first = self.axes[0]
        if axis.kind == "robustness":
            yield [_Ask(first, {**fixed, axis.name: -level}) for level in SAFETY_LEVELS]
        elif axis.kind == "slo_scale":
            probes = yield [_Ask(first, {**fixed, axis.name: scale}) for scale in _SLO_PROBES]
            good = [p.ask.ceilings[axis.name] for p in probes if p.values is not None]
            low = max((s for s in _SLO_PROBES if s < min(good, default=0.0)), default=0.0)
            high = min(good, default=0.0)
            while low > 0 and high / low > _SLO_RATIO:
                middle = math.sqrt(low * high)
                (probe,) = yield [_Ask(first, {**fixed, axis.name: middle})]
                low, high = (low, middle) if probe.values is not None else (middle, high)
        else:
            # One after another: the plan of each end is one to start from at the next.
            yield [_Ask(first, dict(fixed))]
            (end,) = yield [_Ask(axis, dict(fixed))]
            if end.values is not None:
                yield [_Ask(first, {**fixed, axis.name: end.values[axis.name]})]

    def _slice(self, fixed: Held, points: int) -> _Rounds:
        """A frontier of the first two axes with the others fixed."""
        first, second = self.axes[:2]
        answers: list[_Answer] = []

        def ask(ceilings: Sequence[float]) -> list[_Ask]:
            return [_Ask(first, {**fixed, second.name: ceiling}) for ceiling in ceilings]

        ends = self._ends(second, fixed)
        questions = next(ends, None)
        while questions:
            found = yield questions
            answers += found
            try:
                questions = ends.send(found)
            except StopIteration:
                break
        if second.kind == "robustness":
            return
        if second.kind == "linear":
            blends = self._blends(fixed, [a.values for a in answers if a.values is not None], points)
            if blends:
                answers += yield blends
        asked, most = 0, points + points // 4 + 4
        while True:
            known = [
                Known(
                    a.ask.ceilings.get(second.name, math.inf),
                    a.values[first.name] if a.values else math.inf,
                    a.values[second.name] if a.values else math.inf,
                )
                for a in answers
            ]
            wanted = min(points - len(staircase(known)), max(2, points // _PER_ROUND), most - asked)
            ceilings = next_ceilings(known, wanted) if wanted > 0 else []
            if not ceilings:
                return
            asked += len(ceilings)
            answers += yield ask(ceilings)

    def _blends(self, fixed: Held, ends: Sequence[dict[str, float]], points: int) -> list[_Ask]:
        """Weighted sums between the ends: no ceiling hampers their search, so they make good starts for all others.

        Their bounds hold for all others, too: w·first + v·second is at least so much, whatever the ceiling.
        """
        if not ends:
            return []
        first, second = self.axes[:2]
        spans = [max(end[axis.name] for end in ends) - min(end[axis.name] for end in ends) for axis in (first, second)]
        if not all(spans):
            return []
        count = min(_BLENDS, points // _POINTS_PER_BLEND)
        shares = [(i + 1) / (count + 1) for i in range(count)]
        weights = [{first.name: (1 - share) / spans[0], second.name: share / spans[1]} for share in shares]
        return [_Ask(first, dict(fixed), blend) for blend in weights]

    def _levels(self, axis: Axis, points: int) -> list[float]:
        """Where to cut the third axis, from its ends."""
        values = sorted({a.values[axis.name] for a in self.answers if a.values is not None})
        if not values or axis.kind == "robustness":
            return values
        count = min(max(round(math.sqrt(points / 2)), _SLICES[0]), _SLICES[1])
        if axis.kind == "slo_scale":
            return even_ceilings(values[0], values[-1], count)
        return even_ceilings(values[0], values[-1], count) if values[-1] > values[0] else values[:1]

    # ---- jobs and answers -----------------------------------------------------------------------------------

    def _job(self, ask: _Ask) -> Job:
        changes = {name: AXES[name].sign * v for name, v in ask.ceilings.items() if AXES[name].kind != "linear"}
        instance = settled(self.instance, changes)
        ceilings: dict[ObjectiveName, float] = {}
        for name, most in ask.ceilings.items():
            axis = AXES[name]
            if axis.objective is not None and math.isfinite(most):
                ceilings[axis.objective] = most / axis.factor(instance)
        objective = ask.axis.objective
        assert objective is not None
        then = [a.objective for a in self.axes if a is not ask.axis and a.objective is not None]
        job = Job(instance, objective, self.gap, self.time_limit_s, tuple(ceilings.items()), tuple(then), point=True)
        goal = " + ".join(f"{weight!r} {name}" for name, weight in ask.blend.items()) or ask.axis.name
        words = [f"minimise {goal}", *(f"{n} <= {AXES[n].sign * v!r}" for n, v in ask.ceilings.items())]
        command = f"codesign pareto: {', '.join(words)}"
        floor = self._floor(job.problem_key, ask) / ask.axis.factor(instance)
        blend: dict[ObjectiveName, float] = {}
        for name, weight in ask.blend.items():
            axis = AXES[name]
            if axis.objective is not None:
                blend[axis.objective] = weight * axis.factor(instance)
        start = self._near(job.problem_key, ask)
        return replace(job, start=start, floor=floor, command=command, blend=tuple(blend.items()))

    def _floor(self, problem_key: str, ask: _Ask) -> float:
        """The best bound of the answers under wider ceilings."""
        wider = (
            a.bound
            for a in self.answers
            if a.ask.axis is ask.axis
            and a.result.problem_key == problem_key
            and all(name in ask.ceilings and ask.ceilings[name] <= most for name, most in a.ask.ceilings.items())
        )
        found = max((bound for bound in wider if math.isfinite(bound)), default=-math.inf)
        return max(found, self._hull(problem_key, ask.ceilings)) if ask.axis is self.axes[0] else found

    def _hull(self, problem_key: str, ceilings: Held) -> float:
        """What weighted sums prove of the first axis under some ceilings."""
        best = -math.inf
        for answer in self.answers:
            asked, bound = answer.ask, answer.result.sum_bound
            narrower = all(name in ceilings and ceilings[name] <= most for name, most in asked.ceilings.items())
            if bound is None or not narrower or answer.result.problem_key != problem_key:
                continue
            others = {name: weight for name, weight in asked.blend.items() if name != self.axes[0].name}
            if all(name in ceilings for name in others):
                rest = sum(weight * ceilings[name] for name, weight in others.items())
                best = max(best, (bound - rest) / asked.blend[self.axes[0].name])
        return best

    def _near(self, problem_key: str, ask: _Ask) -> tuple[Start, ...]:
        """The plans nearest to a question, on either side of each of its ceilings."""
        plans = [a for a in self.answers if a.values is not None and a.result.problem_key == problem_key]
        chosen: dict[str, Start] = {}
        for name, most in ask.ceilings.items():
            if AXES[name].kind != "linear":
                continue
            by_distance = sorted(plans, key=lambda a: abs((a.values or {})[name] - most))
            for side in (True, False):
                nearest = [a for a in by_distance if ((a.values or {})[name] <= most) is side]
                chosen |= {a.result.key: a.result.start for a in nearest[:_NEAREST]}
        if not chosen:
            chosen = {a.result.key: a.result.start for a in plans[-2 * _NEAREST :]}
        return tuple(chosen.values())

    def _answer(self, ask: _Ask, result: Finished) -> _Answer:
        solution = result.solution
        objective = solution.objective
        bound = -math.inf if objective.bound is None else objective.bound * ask.axis.factor(self.instance)
        if solution.totals is None:
            return _Answer(ask, None, math.inf if solution.status == "infeasible" else bound, result)
        values = {
            axis.name: axis.of(solution, self.instance)
            if axis.kind == "linear"
            else ask.ceilings.get(axis.name, axis.sign * _as_it_stands(axis, self.instance))
            for axis in self.axes
        }
        return _Answer(ask, values, bound, result)

    # ---- the front ------------------------------------------------------------------------------------------

    def front(self, complete: bool, notes: tuple[str, ...]) -> Front:
        """What is found so far, as a front."""
        names = [axis.name for axis in self.axes]
        plans = [a for a in self.answers if a.values is not None]
        rows = [(tuple(a.values[n] for n in names), a) for a in plans if a.values is not None]
        rows.sort(key=lambda item: (item[0], item[1].result.key))
        kept: list[tuple[tuple[float, ...], _Answer]] = []
        for values, answer in rows:
            twin = any(values == other for other, _ in kept)
            if not twin and not any(dominates(other, values) for other, _ in rows):
                kept.append((values, answer))
        proofs = [a for a in self.answers if a.ask.axis is self.axes[0]]
        points = [self._point(values, answer, proofs) for values, answer in kept]
        return Front(
            problem=str(self.problem.name),
            problem_sha256=self.instance.sha256,
            objectives=tuple(axis.name for axis in self.asked),
            units={axis.name: axis.unit for axis in self.asked},
            points=tuple(_with_knee(points, self.axes)),
            proofs=tuple(_proofs(proofs)),
            least={
                a.ask.axis.name: a.bound
                for a in reversed(self.answers)
                if not a.ask.ceilings and math.isfinite(a.bound)
            },
            gap_asked=self.gap,
            solves=len({a.result.key for a in self.answers}),
            complete=complete,
            status=self._status(points),
            notes=notes,
        )

    def _status(self, points: Sequence[FrontPoint]) -> str:
        if points:
            return "optimal" if all(point.gap <= self.gap + 1e-9 for point in points) else "feasible"
        # Wider ceilings admit whatever narrower ones do: where the widest are infeasible, all are.
        return self.answers[0].result.solution.status if self.answers else "no_solution"

    def _point(self, values: tuple[float, ...], answer: _Answer, proofs: list[_Answer]) -> FrontPoint:
        mine = dict(zip((axis.name for axis in self.axes), values, strict=True))
        # A bound under wider ceilings holds under these: take the best of all that cover the point.
        bound = max(
            (
                p.bound
                for p in proofs
                if all(most >= mine[n] * (1 - math.copysign(1e-9, mine[n])) for n, most in p.ask.ceilings.items())
            ),
            default=-math.inf,
        )
        bound = max(bound, self._hull(answer.result.problem_key, mine))
        first = self.axes[0].name
        solution = answer.result.solution
        shown = {
            axis.name: axis.of(solution, self.instance) if axis.kind == "linear" else axis.sign * mine[axis.name]
            for axis in self.asked
        }
        held = {n: AXES[n].sign * v for n, v in answer.ask.ceilings.items() if AXES[n].kind != "linear"}
        return FrontPoint(shown, min(bound, mine[first]), solution, answer.result.key, held)


def _line_end(axis: Axis) -> _Rounds:
    """The whole frontier of objectives that always move together: one point."""
    yield [_Ask(axis, {})]


def _as_it_stands(axis: Axis, instance: Instance) -> float:
    return 1.0 if axis.kind == "slo_scale" else instance.options.safety


def _proofs(answers: Sequence[_Answer]) -> list[Proof]:
    """Bounds that say something that no other one covers."""
    found: dict[tuple[tuple[str, float], ...], float] = {}
    for answer in answers:
        if math.isfinite(answer.bound):
            key = tuple((n, AXES[n].sign * v) for n, v in answer.ask.ceilings.items() if math.isfinite(v))
            found[key] = max(found.get(key, -math.inf), answer.bound)
    return [Proof(dict(key), bound) for key, bound in sorted(found.items())]


def _with_knee(points: list[FrontPoint], axes: Sequence[Axis]) -> list[FrontPoint]:
    if len(points) < 3:
        return points
    rows = [[axis.sign * p.values[axis.name] for axis in axes] for p in points]
    best = [min(row[i] for row in rows) for i in range(len(axes))]
    worst = [max(row[i] for row in rows) for i in range(len(axes))]
    sums = [sum(unit_box(row, best, worst)) for row in rows]
    knee = sums.index(min(sums))
    return [replace(point, knee=True) if i == knee else point for i, point in enumerate(points)]
