"""Workers of the tests' own, which die when they are told to."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kopt
from kopt.tuning._trials import records
from tests.tuning import redis_server

ROOT = Path(__file__).parents[2]
GRACE = 2.0


class Nursery:
    """Starts workers, and knows which of them live."""

    def __init__(self, folder):
        self._folder = folder
        self._numbers = itertools.count()
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tuning.worker_nursery"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.orders = {}

    def start(self, storage, folder, trials, moment=None, grace=GRACE, confirm=0):
        done = self._folder / f"done-{next(self._numbers)}"
        order = {
            "storage": storage,
            "folder": str(folder),
            "trials": trials,
            "moment": moment,
            "grace": grace,
            "confirm": confirm,
            "done": str(done),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        self.orders[pid] = done
        return pid

    def is_done(self, pid):
        error = self.orders[pid].with_suffix(".error")
        assert not error.exists(), error.read_text()
        return self.orders[pid].exists()

    def lives(self, pid):
        return Path(f"/proc/{pid}").exists()

    def wait(self, pid, seconds=120):
        """Wait for the end of a worker. Returns whether it has done its work."""
        deadline = time.monotonic() + seconds
        while self.lives(pid):
            assert time.monotonic() < deadline, "the worker does not end"
            time.sleep(0.02)
        return self.is_done(pid)

    def close(self):
        self._process.stdin.close()
        for pid in self.orders:
            if self.lives(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


def check(storage, folder, trials):
    """Exactly so many trials count, none twice, and none is left running."""
    if isinstance(storage, str) and storage.startswith("redis"):
        storage = redis_server.storage_at(storage)
    results = kopt.tuning.Results(folder, storage=storage)
    found = results.study.get_trials(deepcopy=False)
    counted = [trial for trial in found if trial.state in records.COUNTED]
    assert len(counted) == trials
    assert len({records.original(trial) for trial in counted}) == trials
    assert all(trial.state.is_finished() for trial in found)
    assert all(len(trial.intermediate_values) == 3 for trial in counted)
    return results
