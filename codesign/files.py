"""Files that are replaced whole or not at all, what killed writers leave behind, and JSON from anywhere."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, what is left behind goes by its age
    fcntl = None  # type: ignore[assignment]

_PARTIAL = ".codesign-partial"
"""Ends the names of files that are being written; nothing else is ever swept."""
_NAME_CHARACTERS = 150
"""Of the target in a partial file's name, which file systems end at 255 bytes."""
_OLD_SECONDS = 86_400.0
"""Without locks, a partial file of this age has no writer any more."""


class WriteError(OSError):
    """A file that could not be written, with its path: a full disk, a folder that takes no files."""

    @property
    def reason(self) -> str:
        """What the system says, as part of a sentence."""
        return (self.strerror or "unknown reason").lower()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file (text is UTF-8): readers, and a crash at any moment, see the old one or the whole new one.

    Raises WriteError, which names the file, where the system does not take it.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with _partial(path) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from None


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.  Raises json.JSONDecodeError, also for one that nests deeper than can be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", "", 0) from None


def make_folder(path: Path) -> None:
    """A folder to write into, with its parents, swept.  Raises WriteError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from None
    sweep(path)


def probe(path: Path) -> None:
    """Does the folder of a path take files?  Raises OSError where it does not."""
    with _partial(path) as file:
        os.unlink(file.name)


def sweep(folder: Path) -> None:
    """Remove what killed runs have left half written in a folder; files of writers that live are locked, and stay."""
    for path in folder.glob(f".*{_PARTIAL}"):
        with suppress(OSError), path.open("r+b") as file:  # gone by now, or another user's
            if _abandoned(file):
                path.unlink()


def _partial(path: Path) -> IO[bytes]:
    """A new file beside `path`, hidden and locked."""
    name = path.name.encode()[:_NAME_CHARACTERS].decode(errors="ignore")
    while True:
        file: Any = tempfile.NamedTemporaryFile(  # noqa: SIM115
            "wb", dir=path.parent, prefix=f".{name}.", suffix=_PARTIAL, delete=False
        )
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(file.name), os.fstat(file.fileno())):
                return file  # type: ignore[no-any-return]
        file.close()  # swept before it was locked


def _abandoned(file: IO[bytes]) -> bool:
    """Does no writer hold the file?"""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
        else:
            return True
    return time.time() - os.fstat(file.fileno()).st_mtime > _OLD_SECONDS
