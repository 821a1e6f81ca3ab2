"""The search over design vectors: Optuna in batches, in a storage that survives a kill and serves many machines.

Every trial is asked for with a sampler seeded by its number, in batches that begin at multiples of their size, so
that a run that was killed and taken up again tries what an uninterrupted one would have tried. Trials that were
running when a process died are evaluated with the rest of their batch: none is lost or repeated.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.architecture.evaluate import Evaluation, Evaluator
from codesign.architecture.space import Axis, Point, Space, Value
from codesign.problem.architecture import ArchitectureProblem, load_architecture
from codesign.processes import Processes, Tell

if TYPE_CHECKING:
    import optuna

INFEASIBLE = 1e12
"""Value of a trial whose chips cannot be made or do not meet the demand; its constraints say by how much."""

_STARTS = 8
_START_SHARE = 0.2
"""Batches of random chips before TPE models them, and at most this share of all trials."""

_STALE_LOCK_SECONDS = 5
"""After which the lock of a process that died with it is taken over: it is held for milliseconds."""

Progress = Callable[[int, float], None]
"""Called with (trials done, best first objective so far)."""


class SearchError(ValueError):
    """A search cannot run as asked: a sampler or storage that is not there."""


@dataclass(frozen=True)
class Trial:
    """One design that was tried."""

    number: int
    point: dict[str, Value]
    value: float
    second: float | None
    feasible: bool


@dataclass(frozen=True)
class Found:
    """What a search tried, by number."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The feasible trial of least first objective (the earliest of equals)."""
        feasible = [trial for trial in self.trials if trial.feasible]
        return min(feasible, key=lambda trial: (trial.value, trial.number)) if feasible else None

    @property
    def front(self) -> tuple[Trial, ...]:
        """Trials that no other beats in both objectives, by the first."""
        feasible = sorted((t for t in self.trials if t.feasible), key=lambda t: (t.value, t.second or 0.0, t.number))
        kept: list[Trial] = []
        for trial in feasible:
            if not kept or (trial.second is not None and trial.second < (kept[-1].second or 0.0)):
                kept.append(trial)
        return tuple(kept)


def search(
    space: Space,
    evaluator: Evaluator,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    storage: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Found:
    """Search until the study holds `trials` trials; arguments stand before the problem's own settings.

    Raises SearchError for a sampler or storage that is not available, or a study of another problem.
    """
    where = storage if storage is not None else space.problem.search.storage
    try:
        return _search(space, evaluator, trials, sampler, seed, where, workers, progress, cancelled)
    except OSError as error:
        if where is None:
            raise
        reason, name = (error.strerror or str(error)).lower(), _hidden(where) if "://" in where else where
        raise SearchError(f"found the storage '{name}', which cannot be written ({reason})") from None


def _search(
    space: Space,
    evaluator: Evaluator,
    trials: int | None,
    sampler: str | None,
    seed: int | None,
    storage: str | None,
    workers: int | None,
    progress: Progress | None,
    cancelled: Callable[[], bool],
) -> Found:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wanted = space.problem.search
    total, seeded = trials or wanted.trials, wanted.seed if seed is None else seed
    kind = sampler or wanted.sampler
    distributions = {axis.name: distribution(axis) for axis in space.axes}

    starts = min(_STARTS * wanted.batch, int(_START_SHARE * total))

    def seeded_sampler(number: int) -> Any:
        seed = seeded * 1_000_003 + number
        return _sampler(kind, seed, wanted.batch, starts, distributions, evaluator.makeable)

    first = seeded_sampler(0)  # a missing library is said before any work
    study = optuna.create_study(
        study_name=space.problem.name,
        directions=["minimize"] * len(space.problem.objectives),
        storage=_storage(storage, space.problem.file),
        load_if_exists=True,
        sampler=first,
    )
    _same_problem(study, space)
    own = f"{socket.gethostname()}:{os.getpid()}"
    with _evaluation(space.problem, evaluator, workers or wanted.workers) as evaluate:
        while not cancelled():
            batch = [
                _resumed(study, stale, seeded_sampler(stale.number), distributions) for stale in _stale(study)
            ]
            known = len(study.get_trials(deepcopy=False))
            begun = known % wanted.batch
            room = wanted.batch - begun if begun or not batch else 0
            fresh = max(0, min(room, total - known))
            if not batch and not fresh:
                break
            for trial in batch:
                trial.set_user_attr("owner", own)
            for number in range(known, known + fresh):
                study.sampler = seeded_sampler(number)
                batch.append(study.ask(distributions))
                batch[-1].set_user_attr("owner", own)
            results = evaluate([trial.params for trial in batch])
            for trial, result in zip(batch, results, strict=True):
                _tell(study, trial, result)
            if progress is not None:
                best = _found(study).best
                progress(known + fresh, best.value if best else float("inf"))
    return _found(study)


# ---- trials


def _tell(study: optuna.Study, trial: Any, result: Evaluation) -> None:
    for name, over in result.excess.items():
        trial.set_constraint(name, min(over, INFEASIBLE))
    if not result.excess and not result.feasible:
        trial.set_constraint("demand", 1.0)
    second = INFEASIBLE if result.second is None else result.second
    values = [min(result.value, INFEASIBLE), second][: len(study.directions)]
    trial.set_user_attr("feasible", result.feasible)
    trial.set_user_attr("values", values)
    # A design that nobody buys is worth what buying is; how much too dear it is shows the sampler the way.
    values = [value * (1.0 + result.distance) for value in values]
    study.tell(trial, values)


def _found(study: optuna.Study) -> Found:
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return Found(
        tuple(
            Trial(
                t.number,
                dict(t.params),
                float(t.user_attrs["values"][0]),
                float(t.user_attrs["values"][1]) if len(t.values) > 1 else None,
                bool(t.user_attrs.get("feasible", False)),
            )
            for t in done
        )
    )


def _stale(study: optuna.Study) -> list[Any]:
    """Running trials whose process is gone: of this host, those of processes that no longer live."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if not _alive(str(trial.user_attrs.get("owner", "")))]


def _alive(owner: str) -> bool:
    host, _, pid = owner.rpartition(":")
    if host and host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _resumed(study: optuna.Study, stale: Any, sampler: Any, distributions: dict[str, Any]) -> Any:
    """A trial of a dead process, with the parameters that it lacked when it died.

    They are what it would have got: asked for again of a copy of the study as it was.
    """
    import optuna

    if len(stale.params) < len(distributions):
        shadow = optuna.create_study(directions=study.directions, sampler=sampler)
        shadow.add_trials([t for t in study.get_trials(deepcopy=False) if t.number < stale.number])
        for name, value in shadow.ask(distributions).params.items():
            if name not in stale.params:
                internal = distributions[name].to_internal_repr(value)
                study._storage.set_trial_param(stale._trial_id, name, internal, distributions[name])
    return optuna.trial.Trial(study, stale._trial_id)


def _same_problem(study: optuna.Study, space: Space) -> None:
    """A storage of one problem is not taken for another's."""
    known = study.user_attrs.get("problem_sha256")
    own = [space.problem.sha256, [problem.sha256 for problem in space.problem.problems]]
    if known is None:
        study.set_user_attr("problem_sha256", own)
    elif known != own:
        raise SearchError(
            f"found trials of another version of '{space.problem.name}' in the storage; "
            "expected a storage of its own for each version of the problem"
        )


def distribution(axis: Axis) -> Any:
    """The Optuna distribution of an axis."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.kind == "continuous":
        return FloatDistribution(axis.low, axis.high, log=True)
    if axis.kind == "integer":
        return IntDistribution(int(axis.low), int(axis.high))
    return CategoricalDistribution(axis.choices)


# ---- samplers and storages


def _sampler(
    kind: str,
    seed: int,
    batch: int,
    starts: int,
    distributions: dict[str, Any],
    makeable: Callable[[Point], bool],
) -> Any:
    import optuna

    from codesign.architecture.sampler import MakeableSampler

    seed %= 2**32
    if kind == "gp":
        try:
            import torch  # noqa: F401
        except ImportError:
            raise SearchError(
                "the GP sampler needs torch; expected `pip install 'codesign[gp]'`, or sampler tpe, nsga2 or random"
            ) from None
        return optuna.samplers.GPSampler(seed=seed)
    if kind == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=max(32, 2 * batch), seed=seed)
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Batches are asked for before any of them is told: the liar keeps their members apart.
    tpe = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=False, constant_liar=True, n_startup_trials=starts
    )
    return MakeableSampler(tpe, distributions, makeable, seed, starts)


def _storage(text: str | None, problem_file: str) -> Any:
    """A journal file beside the problem, a database by URL, or memory."""
    if text is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" in text:
        import optuna

        try:
            # Which driver a bare scheme means depends on SQLAlchemy's version.
            url = text.replace("postgresql://", "postgresql+psycopg://", 1)
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except ImportError as error:
            raise SearchError(
                f"found no driver for {text.split('://')[0]} ({error}); expected `pip install 'codesign[postgres]'`"
            ) from None
        except Exception as error:  # SQLAlchemy's errors differ by driver
            words = " ".join(str(error).split())[:200]
            raise SearchError(f"found no database at {_hidden(text)}: {words}") from None
    path = Path(problem_file).parent / text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(str(path), grace_period=_STALE_LOCK_SECONDS)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SearchError(f"found the storage '{text}', which cannot be written ({reason})") from None


def _hidden(url: str) -> str:
    """The URL without its password."""
    head, _, place = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{place}" if head else url


# ---- evaluation, here or in processes


@contextmanager
def _evaluation(
    problem: ArchitectureProblem, evaluator: Evaluator, workers: int
) -> Iterator[Callable[[Sequence[Point]], list[Evaluation]]]:
    if workers <= 1:
        yield evaluator.points
        return
    with Processes(workers, _points) as processes:

        def evaluate(points: Sequence[Point]) -> list[Evaluation]:
            shares = {i: (problem.file, list(points[i::workers])) for i in range(min(workers, len(points)))}
            found = dict(processes.run(shares))
            return [found[i % workers][i // workers] for i in range(len(points))]

        yield evaluate


@cache
def _evaluator(file: str) -> Evaluator:
    """In a worker: what it knows of a problem, kept between batches."""
    return Evaluator(Space.of(load_architecture(file)))


def _points(share: tuple[str, list[Point]], tell: Tell) -> list[Evaluation]:
    file, points = share
    return _evaluator(file).points(points)
