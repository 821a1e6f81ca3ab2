"""Local processes that do pieces of work.  Any of them may die at any moment: its piece goes to another one.

Each worker has a pipe of its own and shares nothing else, neither a lock nor a queue, with its siblings or with the
parent: one that is killed holds up nobody, and of a message that it was sending nothing is seen.  A worker does not
outlive its parent, whose end of the pipe closes with it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

_ATTEMPTS = 4
"""Workers that may die of one piece of work."""
_POLL_SECONDS = 0.2
_END_SECONDS = 5.0

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)

Tell = Callable[[Any], None]
"""In a worker: sends news of the piece of work to whoever asked for it."""


class WorkersError(RuntimeError):
    """Workers cannot be had, or die whatever work they are given."""


@dataclass(eq=False)
class _Worker:
    """A process, and what it is at."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    key: Hashable | None = None

    def receive(self) -> tuple[str, Any] | None:
        """Its next message; None where it is dead."""
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self.process.kill()
        self.process.join(_END_SECONDS)
        self.connection.close()


class Processes(Generic[Piece, Result]):
    """Up to `count` processes that do `work(piece, tell)`.  Use it as a context manager.

    Processes are spawned (a fork of a process with threads may hang), so `work` is a function of a module, and a
    script needs the usual `if __name__ == "__main__":`.
    """

    def __init__(self, count: int, work: Callable[[Piece, Tell], Result]) -> None:
        self._count, self._work = count, work
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def __enter__(self) -> Processes[Piece, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, whatever they are at."""
        while self._workers:
            self._workers.pop().end()

    def run(
        self,
        pieces: Mapping[Key, Piece],
        tick: Callable[[], None] = lambda: None,
        hear: Callable[[Key, Any], None] = lambda *_: None,
    ) -> Iterator[tuple[Key, Result]]:
        """The pieces' results as they come in.

        `tick` is called several times a second and may raise; `hear` gets what work tells of itself.  Raises what
        work raises, and WorkersError where a piece is the death of several workers or none comes up.
        """
        waiting, deaths = deque(pieces), dict.fromkeys(pieces, 0)
        left = len(pieces)
        try:
            while left:
                tick()
                self._start(min(self._count, left))
                for worker in self._workers:
                    if worker.ready and worker.key is None and waiting:
                        key = waiting.popleft()
                        worker.key = key
                        try:
                            worker.connection.send(pieces[key])
                        except OSError:
                            worker.process.kill()  # it is dead or as good as: seen below
                for worker in self._heard():
                    message = worker.receive()
                    key = worker.key  # type: ignore[assignment]
                    match message:
                        case None:
                            self._workers.remove(worker)
                            worker.end()
                            if key is not None:
                                waiting.appendleft(key)
                                deaths[key] += 1
                            self._stillborn += not worker.ready
                            if max(deaths.values()) >= _ATTEMPTS or self._stillborn >= _ATTEMPTS * self._count:
                                raise WorkersError(_DYING)
                        case "ready", _:
                            worker.ready = True
                            self._stillborn = 0
                        case "news", news:
                            hear(key, news)
                        case "failed", error:
                            raise error
                        case "done", result:
                            worker.key = None
                            left -= 1
                            yield key, result
        except BaseException:
            self.close()  # nobody waits for what the others are at
            raise

    def _start(self, count: int) -> None:
        """Have `count` processes."""
        while len(self._workers) < count:
            own, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
            try:
                with _deaf_to_interrupts():
                    process.start()
            except OSError as error:  # no more processes, or no more memory, at the moment
                own.close()
                if not self._workers:
                    raise WorkersError(f"no worker process can be started: {error}") from None
                return
            finally:
                theirs.close()
            self._workers.append(_Worker(process, own))

    def _heard(self) -> list[_Worker]:
        """Workers that have said something or died, within a moment."""
        awaited: dict[Any, _Worker] = {}
        for worker in self._workers:
            awaited[worker.connection] = awaited[worker.process.sentinel] = worker
        return list(dict.fromkeys(awaited[each] for each in wait_for_any(list(awaited), _POLL_SECONDS)))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process that is started here never hears Ctrl-C, which is its parent's to answer."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started by the first process otherwise, which lets interrupts in again
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


_DYING = (
    "worker processes die again and again: out of memory, or a script that starts workers outside "
    "`if __name__ == '__main__':`"
)


# ---- in a worker -------------------------------------------------------------------------------------------


def _serve(connection: Connection, work: Callable[[Any, Tell], Any]) -> None:
    """Do the pieces of work that come, one after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def receive() -> None:
        # Always listening: the parent never waits to hand over work, and its end is heard during work.
        try:
            while True:
                pieces.put(connection.recv())
        except BaseException:
            os._exit(1)

    def send(kind: str, content: Any = None) -> None:
        try:
            connection.send((kind, content))
        except OSError:
            os._exit(1)  # nobody is there to hear it

    threading.Thread(target=receive, daemon=True).start()
    send("ready")
    while True:
        piece = pieces.get()
        try:
            result = work(piece, lambda news: send("news", news))
        except Exception as error:
            send("failed", _portable(error))
        else:
            send("done", result)


def _portable(error: Exception) -> Exception:
    """An error as it can be sent to another process, with where it arose."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
