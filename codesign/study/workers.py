"""Who solves the jobs of a study: this thread, local processes, or a Dask cluster; one way through for all.

Each finished job is in the store before anybody waits for the next one.  A worker that dies takes its job with
it; the job goes to another one, a few times.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from types import TracebackType
from typing import Any

from codesign.study.jobs import Finished, Job, Memory, Progress, run_job
from codesign.study.store import Store

_ATTEMPTS = 4
_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0


class StudyCancelledError(Exception):
    """The study was told to stop; what is finished is in the store."""


class WorkersError(RuntimeError):
    """Workers cannot be had, or die whatever job they are given."""


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands."""

    stage: str
    done: int
    planned: int
    """Jobs in all, as far as is known: frontiers find out as they go."""
    seconds: float
    seconds_left: float | None


Tell = Callable[[StudyProgress], None]


@contextmanager
def study(
    planned: int,
    directory: str | Path | None,
    workers: int,
    dask: str | None,
    progress: Tell | None,
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
        progress: Tell | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: found {workers}; expected at least 1")
        self.store, self._workers, self._dask = store, workers, dask
        self._progress, self._cancel = progress, cancel or threading.Event()
        self._memory = Memory()
        self._client: Any = None
        self._executor: Executor | None = None
        self._stop: Any = None
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
        if self._stop is not None and kind is not None:
            self._stop.set()
        if self._client is not None:
            self._client.close()  # and with it what is still waiting
        elif self._executor is not None:
            self._executor.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def complete(self) -> bool:
        """Has nobody told the study to stop?"""
        return not self._cancel.is_set()

    def run(self, jobs: Sequence[Job]) -> list[Finished]:
        """The jobs' results in their order.  Raises StudyCancelledError when told to stop."""
        found: dict[str, Finished | None] = {job.key: self._finished(job.key) for job in jobs}
        missing = {job.key: job for job in jobs if found[job.key] is None}
        self.done += len(found) - len(missing)
        self.planned = max(self.planned, self.done + len(missing))
        self._tell("")
        if missing:
            solve = self._here if self._dask is None and self._workers == 1 else self._elsewhere
            for result in solve(missing):
                found[result.key] = result
        return [finished for job in jobs if (finished := found[job.key]) is not None]

    def _finished(self, key: str) -> Finished | None:
        document = self.store.get(key)
        try:
            return Finished.from_document(document) if document is not None else None
        except (KeyError, ValueError):  # of an older format: solved again
            return None

    def _keep(self, result: Finished) -> Finished:
        self.store.put(result.key, result.to_document())
        self.done += 1
        self._solved += 1
        self._tell("")
        # What the store gives back is what a resumed study sees: the same result, to the last digit.
        return self._finished(result.key) or result

    def _here(self, missing: dict[str, Job]) -> list[Finished]:
        results = []
        for job in missing.values():
            result = run_job(job, self._memory, self._listener(), self._cancel)
            if self._cancel.is_set():
                raise StudyCancelledError
            results.append(self._keep(result))
        return results

    def _elsewhere(self, missing: dict[str, Job]) -> list[Finished]:
        results: list[Finished] = []
        attempts = dict.fromkeys(missing, 0)
        left = dict(missing)
        while left:
            try:
                running = {self._submit(job): key for key, job in left.items()}
                while running:
                    if self._cancel.is_set():
                        raise StudyCancelledError
                    done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        key = running.pop(future)
                        results.append(self._keep(future.result()))
                        del left[key]
            except BrokenProcessPool:
                self._executor = None
                for key in left:
                    attempts[key] += 1
                if max(attempts[key] for key in left) >= _ATTEMPTS:
                    raise WorkersError(
                        "worker processes die again and again: out of memory, or a script that starts a study "
                        "with workers outside `if __name__ == '__main__':`"
                    ) from None
        return results

    def _submit(self, job: Job) -> Future[Finished]:
        if self._executor is None:
            if self._client is not None:
                self._executor = self._client.get_executor(pure=False, retries=_ATTEMPTS)
            else:
                # Processes are spawned: a fork of a process with threads may hang.
                context = multiprocessing.get_context("spawn")
                self._stop = context.Event()
                self._executor = ProcessPoolExecutor(self._workers, context, _begin, (self._stop,))
        return self._executor.submit(_work, job)

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
_STOP: Any = None


def _begin(stop: Any) -> None:
    """Prepare a local worker: Ctrl-C is its parent's to hear, and it does not outlive its parent."""
    global _STOP
    _STOP = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            wait_for_any([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(job: Job) -> Finished:
    return run_job(job, _MEMORY, cancel=_STOP)


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise WorkersError("Dask is not installed; expected: pip install 'codesign[dask]'") from None
    try:
        return Client(address, timeout=_CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise WorkersError(f"no Dask scheduler at {address!r}: {error}") from None
