"""One search in a folder at a time."""

from __future__ import annotations

import contextlib
import importlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kopt.tuning._trials.errors import StorageError


@contextlib.contextmanager
def held(folder: Path) -> Iterator[str]:
    """Hold a folder, and yield its name for the trials that run there.

    The system lets go of the lock when the process ends, however it ends. A trial that
    is still marked as running in this folder is therefore dead.

    Raises:
        StorageError: If another process holds it.
    """
    with (folder / "lock").open("a+") as file:
        if not _taken(file):
            raise StorageError(
                f"Another search runs in the folder {str(folder)!r}. Wait for it, end "
                "it, or give this one another `directory=`."
            )
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = uuid.uuid4().hex
            file.write(name)
            file.flush()
        yield name


def _taken(file: IO[str]) -> bool:
    try:
        locks: Any = importlib.import_module("fcntl")
    except ImportError:  # Windows has no fcntl.
        return _taken_on_windows(file)
    try:
        locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
    except OSError:
        return False
    return True


def _taken_on_windows(file: IO[str]) -> bool:
    locks: Any = importlib.import_module("msvcrt")
    # Behind the name, which stays readable.
    file.seek(1000)
    try:
        locks.locking(file.fileno(), locks.LK_NBLCK, 1)
    except OSError:
        return False
    return True
