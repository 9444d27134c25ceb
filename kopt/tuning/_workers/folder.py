"""The folder of a search: its mark, and which of its workers are alive."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# A worker writes its file and locks it a moment later.
_SECONDS_BEFORE_SWEEP = 3600


class Worker:
    """A worker in a folder, from the others' point of view.

    Args:
        folder: The folder of the search.
        mark: The folder's own name, the same for all who see the folder.
        name: The worker's name, with the machine that it runs on.
    """

    def __init__(self, folder: Path, mark: str, name: str):
        self._locks = folder / "workers"
        self.mark = mark
        self.name = name
        self.place = f"{platform.node()}:{folder.resolve()}"

    def has_ended(self, other: str, same_machine: bool = False) -> bool:
        """Whether a worker of this folder is known to have ended.

        Args:
            other: Its name.
            same_machine: Whether all workers of the search run on one machine.
                Otherwise a lock says nothing about a worker on another machine: not
                all shared folders have locks that are shared.
        """
        if not same_machine and machine(other) != machine(self.name):
            return False
        return not _is_held(self._locks / _file_name(other))

    def is_alone(self) -> bool:
        """Whether no other worker of this folder is alive."""
        own = _file_name(self.name)
        return not any(p.name != own and _is_held(p) for p in self._locks.iterdir())


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[Worker]:
    """Join the workers of a folder.

    The system lets go of a worker's lock when its process ends, however it ends.
    """
    locks = folder / "workers"
    locks.mkdir(parents=True, exist_ok=True)
    worker = Worker(folder, _mark(folder), f"{uuid.uuid4().hex[:16]}@{_this_machine()}")
    path = locks / _file_name(worker.name)
    with path.open("a+") as file:
        take(file)
        _sweep(locks)
        try:
            yield worker
        finally:
            path.unlink(missing_ok=True)


def machine(worker: str) -> str:
    """The machine that a worker runs on, from its name."""
    return worker.partition("@")[2]


def mark_of(folder: Path) -> str | None:
    """The mark of a folder, if it has one."""
    path = folder / "workers" / "mark"
    return path.read_text() if path.exists() else None


def _mark(folder: Path) -> str:
    path = folder / "workers" / "mark"
    if not path.exists():
        draft = path.with_name(f".{uuid.uuid4().hex}")
        draft.write_text(uuid.uuid4().hex)
        # Whoever comes first gives the folder its mark, in one step.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


def _this_machine() -> str:
    # Containers of one machine share its kernel, and with it its locks.
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else platform.node()


def _file_name(worker: str) -> str:
    return f"{worker.partition('@')[0]}.lock"


def _is_held(path: Path) -> bool:
    if path.suffix != ".lock":
        return False
    try:
        with path.open("r+") as file:
            return not take(file)
    except FileNotFoundError:
        return False


def _sweep(locks: Path) -> None:
    """Take away the files of workers that were killed."""
    for path in locks.glob("*.lock"):
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > _SECONDS_BEFORE_SWEEP
            if old and not _is_held(path):
                path.unlink()


def take(file: IO[Any]) -> bool:
    """Lock a file until it is closed. Returns whether that was possible."""
    try:
        locks: Any = importlib.import_module("fcntl")
    except ImportError:  # Windows has no fcntl.
        return _taken_on_windows(file)
    try:
        locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
    except OSError:
        return False
    return True


def _taken_on_windows(file: IO[Any]) -> bool:
    locks: Any = importlib.import_module("msvcrt")
    file.seek(0)
    try:
        locks.locking(file.fileno(), locks.LK_NBLCK, 1)
    except OSError:
        return False
    return True
