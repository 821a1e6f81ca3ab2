"""Who solves the jobs of a study: this thread, local processes, or a Dask cluster; one way through for all.

Each finished job is in the store before anybody waits for the next one.  A worker that dies takes its job with
it; the job goes to another one, a few times.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from codesign.processes import Processes, Tell, WorkersError
from codesign.study.jobs import Finished, Job, Memory, Progress, run_job
from codesign.study.store import Store

_RETRIES = 4
_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0


class StudyCancelledError(Exception):
    """The study was told to stop; what is finished is in the store."""


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands."""

    stage: str
    done: int
    planned: int
    """Jobs in all, as far as is known: frontiers find out as they go."""
    seconds: float
    seconds_left: float | None


Hear = Callable[[StudyProgress], None]


@contextmanager
def study(
    planned: int,
    directory: str | Path | None,
    workers: int,
    dask: str | None,
    progress: Hear | None,
    cancel: threading.Event | None,
) -> Iterator[Crew]:
    """A crew for a study of about `planned` jobs; with a directory finished ones are kept there, under `runs`.

    A study that is told to stop leaves the block early: `Crew.complete` says so.
    """
    store = Store(Path(directory) / "runs" if directory is not None else None)
    with Crew(store, workers, dask, progress, cancel) as crew, suppress(StudyCancelledError):
        crew.planned = planned
        yield crew


class Crew:
    """Runs jobs.  Use it as a context manager; `run` may be called any number of times."""

    def __init__(
        self,
        store: Store,
        workers: int = 1,
        dask: str | None = None,
        progress: Hear | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: found {workers}; expected at least 1")
        self.store, self._workers, self._dask = store, workers, dask
        self._progress, self._cancel = progress, cancel or threading.Event()
        self._memory = Memory()
        self._processes: Processes[Job, Finished] = Processes(workers, _work)
        self._client: Any = None
        self._started = time.monotonic()
        self._solved = 0
        self.done = 0
        self.planned = 0

    def __enter__(self) -> Crew:
        if self._dask is not None:
            self._client = _dask_client(self._dask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.close()
        if self._client is not None:
            self._client.close()  # and with it what is still waiting

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever asked for the study should know of its store."""
        return tuple(dict.fromkeys(self.store.notes))

    @property
    def complete(self) -> bool:
        """Has nobody told the study to stop?"""
        return not self._cancel.is_set()

    def run(self, jobs: Sequence[Job]) -> list[Finished]:
        """The jobs' results in their order.  Raises StudyCancelledError when told to stop."""
        found: dict[str, Finished | None] = {job.key: self.finished(job.key) for job in jobs}
        missing = {job.key: job for job in jobs if found[job.key] is None}
        self.done += len(found) - len(missing)
        self.planned = max(self.planned, self.done + len(missing))
        self._tell("")
        if missing:
            if self._client is not None:
                solve = self._on_dask
            else:
                solve = self._here if self._workers == 1 else self._in_processes
            for result in solve(missing):
                kept = self._keep(result)
                found[kept.key] = kept
        return [finished for job in jobs if (finished := found[job.key]) is not None]

    def finished(self, key: str) -> Finished | None:
        """The result that the store has of a job; None where it has none to believe."""
        document = self.store.get(key)
        try:
            return Finished.from_document(document) if document is not None else None
        except (KeyError, TypeError, ValueError) as error:  # of another version
            self.store.doubt(key, error)
            return None

    def _keep(self, result: Finished) -> Finished:
        self.store.put(result.key, result.to_document())
        self.done += 1
        self._solved += 1
        self._tell("")
        # What the store gives back is what a resumed study sees: the same result, to the last digit.
        return self.finished(result.key) or result

    def _here(self, missing: dict[str, Job]) -> Iterator[Finished]:
        for job in missing.values():
            result = run_job(job, self._memory, self._listener(), self._cancel)
            self._heed()
            yield result

    def _in_processes(self, missing: dict[str, Job]) -> Iterator[Finished]:
        for _, result in self._processes.run(missing, self._heed):
            yield result

    def _on_dask(self, missing: dict[str, Job]) -> Iterator[Finished]:
        from distributed import KilledWorker

        executor = self._client.get_executor(pure=False, retries=_RETRIES)
        try:
            running = [executor.submit(_work, job) for job in missing.values()]
            while running:
                self._heed()
                done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    running.remove(future)
                    yield future.result()
        except (CancelledError, KilledWorker, OSError) as error:
            said = ": ".join(filter(None, (type(error).__name__, str(error))))
            raise WorkersError(f"the Dask cluster at {self._dask} has lost jobs ({said})") from None

    def _heed(self) -> None:
        """Stop where somebody has said so."""
        if self._cancel.is_set():
            raise StudyCancelledError

    def _listener(self) -> Progress:
        def hear(stage: str, incumbent: float, bound: float) -> None:
            self._tell(stage)

        return hear

    def _tell(self, stage: str) -> None:
        if self._progress is None:
            return
        seconds = time.monotonic() - self._started
        left = None
        if self._solved and self.planned > self.done:
            left = seconds / self._solved * (self.planned - self.done)
        self._progress(StudyProgress(stage, self.done, self.planned, seconds, left))


# ---- in a worker -------------------------------------------------------------------------------------------

_MEMORY = Memory()
"""Of a worker process: spares the enumeration of candidates between jobs of one problem."""


def _work(job: Job, tell: Tell | None = None) -> Finished:
    return run_job(job, _MEMORY)


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise WorkersError("Dask is not installed; expected: pip install 'codesign[dask]'") from None
    # A scheduler that goes away is our message to give; the library logs a traceback of it.
    logging.getLogger("distributed.batched").setLevel(logging.ERROR)
    try:
        return Client(address, timeout=_CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise WorkersError(f"no Dask scheduler at {address!r}: {error}") from None
