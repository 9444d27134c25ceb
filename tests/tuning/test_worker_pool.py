"""Workers that a search starts on its machine: real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

import kopt
from kopt.tuning._trials import records
from kopt.tuning._trials.errors import ObjectiveError
from kopt.tuning._workers import pool, resources
from tests.tuning.analytic import Analytic, Model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
Budget = kopt.tuning.Budget


class Told(keras_tuner.HyperModel):
    """A training that tells about its process, in a file for each trial."""

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        self.folder = folder
        self.seconds = seconds

    def build(self, hp):
        hp.Float("x", 0, 1)
        return Model()

    def fit(self, hp, model, x, y, callbacks=None):
        import tensorflow as tf

        time.sleep(self.seconds)
        told = {
            "pid": os.getpid(),
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "writeable": x.flags.writeable,
            "variable": os.environ["OMP_NUM_THREADS"],
        }
        self.tell(told)
        return float(x.sum()) + hp.get("x")

    def tell(self, told):
        (self.folder / f"{told['pid']}-{time.time_ns()}").write_text(repr(told))

    def told(self):
        return [eval(path.read_text()) for path in sorted(self.folder.iterdir())]


def search(model, folder, trials, **arguments):
    arguments.setdefault("data", (np.ones(100_000, dtype="float32"), np.ones(3)))
    return kopt.tuning.tune(
        model,
        arguments.pop("data"),
        objective="val_loss",
        budget=Budget(trials=trials),
        directory=folder,
        **{"n_jobs": 2, "sampler": kopt.tuning.Random(), **arguments},
    )


def counted(results):
    trials = results.study.get_trials(deepcopy=False)
    return [t for t in trials if t.state in records.COUNTED]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "told").mkdir()
    return Told(tmp_path / "told", seconds=0.3)


def test_processes_share_cores_and_arrays_and_do_exactly_so_many_trials(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(pool, "TRIALS_OF_A_PROCESS", 3)
    results = search(model, tmp_path / "run", 8)
    assert len(counted(results)) == 8
    assert all(100_000 <= row["score"] <= 100_001 for row in results.rows())
    told = model.told()
    each = max(resources.cores() // 2, 1)
    assert {one["threads"] for one in told} == {each}
    assert {one["variable"] for one in told} == {str(each)}
    assert not any(one["writeable"] for one in told)
    # Two at a time, and each replaced after three trials.
    pids = [one["pid"] for one in told]
    assert len(set(pids)) >= 3
    assert max(pids.count(pid) for pid in set(pids)) <= 3
    assert os.getpid() not in pids
    # What they needed is gone.
    assert [path.name for path in (tmp_path / "run" / "workers").iterdir()] == ["mark"]
    # The same call in this process trains nothing.
    again = search(model, tmp_path / "run", 8, n_jobs=1)
    assert len(model.told()) == 8
    assert again.best_score == results.best_score


class Deadly(Told):
    """The first two trials take their process with them."""

    def fit(self, hp, model, x, y, callbacks=None):
        if len(list(self.folder.iterdir())) < 2:
            self.tell({"pid": os.getpid()})
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(hp, model, x, y)


def test_a_worker_that_dies_is_replaced_and_its_trial_runs_again(tmp_path):
    (tmp_path / "told").mkdir()
    results = search(Deadly(tmp_path / "told"), tmp_path / "run", 4)
    assert len(counted(results)) == 4
    assert [row["state"] for row in results.rows()].count("cut off") == 2


class Unlogged(Analytic):
    def fit(self, hp, model, *args, **kwargs):
        return {"val_mae": 1.0}


def curve(hp):
    return [hp.Float("x", 0, 1)]


def test_an_error_of_a_worker_is_raised_where_it_was_started(tmp_path):
    with pytest.raises(ObjectiveError, match=r"'val_loss' is not logged.*'val_mae'"):
        search(Unlogged(curve), tmp_path, 4)
    left = {path.suffix for path in (tmp_path / "workers").iterdir()}
    # The other one was ended by hand, as its lock says.
    assert left <= {"", ".lock"}


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=pytest.mark.thorough)], ids=str
)
def test_workers_that_are_killed_lose_nothing(model, tmp_path, kills, monkeypatch):
    chance = np.random.default_rng(0)
    pools = []
    started = pool.Pool._start

    def start(self, place):
        pools.append(self)
        started(self, place)

    monkeypatch.setattr(pool.Pool, "_start", start)
    # Of so many kills, many hit a worker that has just been started.
    monkeypatch.setattr(pool, "_DEATHS", 99)
    killed = []

    def kill():
        while len(killed) < kills:
            time.sleep(chance.uniform(0.3, 3))
            if pools and (pids := pools[-1].pids()):
                os.kill(int(chance.choice(pids)), signal.SIGKILL)
                killed.append(True)

    killer = threading.Thread(target=kill)
    killer.start()
    results = search(model, tmp_path / "run", 20 * kills, n_jobs=3)
    killer.join()
    assert len(killed) == kills
    found = counted(results)
    assert len(found) == len({records.original(trial) for trial in found}) == 20 * kills
    assert all(trial.state.is_finished() for trial in results.study.trials)


SCRIPT = """
import sys
from pathlib import Path
from tests.tuning.test_worker_pool import Told, search

search(Told(Path(sys.argv[1]), seconds=0.5), sys.argv[2], 500)
"""


def test_workers_end_with_the_process_that_has_started_them(tmp_path):
    folder = tmp_path / "told"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while len({path.name.partition("-")[0] for path in folder.iterdir()}) < 2:
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    pids = {int(path.name.partition("-")[0]) for path in folder.iterdir()}
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
