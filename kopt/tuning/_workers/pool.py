"""The workers of one machine: started, watched, restarted and replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kopt.tuning._trials.errors import SearchError, StorageError
from kopt.tuning._workers import process, resources
from kopt.tuning._workers.folder import take
from kopt.tuning._workers.parcel import packed

# A process is replaced after so many trials: what libraries leak does not add up.
TRIALS_OF_A_PROCESS = 200
_SECONDS_BETWEEN_LOOKS = 0.1
# Deaths of workers in a row, without a trial that was begun.
_DEATHS = 5


class Pool:
    """Workers of one search on this machine.

    Each is a new process, never a fork: what TensorFlow holds in this one does not
    survive a fork. If this process ends, they end with it.

    Args:
        parts: The arguments of the tuner that each worker makes.
        workers: How many.
        folder: The folder of the search.
        begun: How many trials have begun until now.
        spent: Seconds that the search has used before.
        look: Called again and again while the workers run.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        workers: int,
        folder: Path,
        begun: Callable[[], int],
        spent: float,
        look: Callable[[], None] = lambda: None,
    ):
        self._workers = workers
        self._folder = folder / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)
        _sweep(self._folder)
        self._arrays = self._folder / f"{uuid.uuid4().hex}.arrays"
        self._parts = parts
        self._devices = resources.gpus(os.environ)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._begun = begun
        self._look = look
        self._last_begun = begun()
        self._deaths = 0
        # Of this machine: all of its processes have one such clock.
        self._origin = time.monotonic() - spent

    def run(self) -> None:
        """Run the search to its end.

        Raises:
            The error of the first worker that has one.
        """
        with self._arrays.open("ab") as held:
            take(held)
            try:
                self._parcel = packed(self._parts, self._arrays)
                for place in range(self._workers):
                    self._start(place)
                while self._running:
                    for place, worker in list(self._running.items()):
                        code = worker.poll()
                        if code is not None:
                            self._ended(place, code)
                    self._look()
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            finally:
                self._stop()
                self._arrays.unlink(missing_ok=True)

    def pids(self) -> list[int]:
        """The processes that run."""
        return [worker.pid for worker in self._running.values()]

    def _start(self, place: int) -> None:
        environment = resources.environment(
            place, self._workers, self._devices, os.environ
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", process.START],
            stdin=subprocess.PIPE,
            env=environment,
            # An interruption from the keyboard is for this process alone.
            start_new_session=True,
        )
        self._running[place] = worker
        settings = {
            "parcel": self._parcel,
            "arrays": str(self._arrays),
            "error": str(self._error(place)),
            "cores": resources.cores_of_each(self._workers),
            "memory": resources.memory_of_each(self._workers),
            "trials": TRIALS_OF_A_PROCESS,
            "origin": self._origin,
        }
        # A worker reads the second part when it has loaded all it needs.
        threading.Thread(target=_feed, args=(worker, settings), daemon=True).start()

    def _ended(self, place: int, code: int) -> None:
        worker = self._running.pop(place)
        _close(worker)
        if code == process.DONE:
            return
        if code == process.ERROR:
            raise self._error_of(place)
        if code != process.REPLACE:
            begun, before = self._begun(), self._last_begun
            self._deaths = self._deaths + 1 if begun == before else 1
            self._last_begun = begun
            if self._deaths >= _DEATHS:
                raise SearchError(
                    f"{_DEATHS} workers in a row ended without having begun a trial, "
                    f"the last one with the exit code {code}. What they wrote to the "
                    "standard error says why. n_jobs=1 runs the search in this process."
                )
            logging.getLogger("kopt.tuning").warning(
                "A worker ended with the exit code %s. Another one takes its place.",
                code,
            )
        self._start(place)

    def _error(self, place: int) -> Path:
        return self._arrays.with_suffix(f".{place}.error")

    def _error_of(self, place: int) -> BaseException:
        path = self._error(place)
        if not path.exists():
            return StorageError(
                f"A worker ended with an error, and could not leave it in {path}. Give "
                "a `directory` that can be written to."
            )
        error: BaseException = pickle.loads(path.read_bytes())
        path.unlink()
        return error

    def _stop(self) -> None:
        for worker in self._running.values():
            worker.kill()
        for worker in self._running.values():
            worker.wait()
            _close(worker)
        self._running.clear()
        for place in range(self._workers):
            self._error(place).unlink(missing_ok=True)


def _feed(worker: subprocess.Popen[bytes], settings: Mapping[str, Any]) -> None:
    # A worker that dies meanwhile is looked at like any other that died.
    with contextlib.suppress(BrokenPipeError, ValueError):
        assert worker.stdin is not None
        worker.stdin.write(pickle.dumps((sys.path, sys.argv)))
        worker.stdin.write(pickle.dumps(settings))
        worker.stdin.flush()


def _close(worker: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        if worker.stdin is not None:
            worker.stdin.close()


def _sweep(folder: Path) -> None:
    """Take away what killed processes have left."""
    for path in folder.glob("*.arrays"):
        with path.open("ab") as file:
            if take(file):
                path.unlink(missing_ok=True)
