"""A process that has loaded everything, and has a child for each worker.

To load TensorFlow takes seconds; a fork of a process that has not used it yet takes
none. Each line of the input is the order for one worker, as JSON; each line of the
output the id of its process.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import optuna
from optuna.trial import TrialState

import kopt
from kopt.tuning._trials import search  # noqa: F401 - loaded before any child
from kopt.tuning._workers.queue import Queue
from tests.tuning import redis_server
from tests.tuning.analytic import Analytic, Model, analytic_search


def die(*args, **arguments):
    os.kill(os.getpid(), signal.SIGKILL)


class Saved(Model):
    """A model whose file is half there when its process dies."""

    def save(self, path):
        path.write_text("{")
        if Saved.is_deadly:
            die()
        super().save(path)

    is_deadly = False


class Slow(Analytic):
    def build(self, hp):
        super().build(hp)
        return Saved()


def curve(hp):
    x = hp.Float("x", 0, 1)
    for epoch in range(3):
        time.sleep(random.uniform(0.02, 0.1))
        yield abs(x - 0.3) + 1 / (1 + epoch)


def noisy(hp):
    """As a training whose seed tells: repeats have other scores."""
    for value in curve(hp):
        yield value + random.gauss(0, 0.5)


def after(owner, name, condition=lambda given: True):
    """Die when a method has returned."""
    inherited = getattr(owner, name)

    def method(*args, **arguments):
        found = inherited(*args, **arguments)
        if condition(arguments):
            die()
        return found

    setattr(owner, name, method)


def prepare(moment):
    """Let this process die at a named moment."""
    storage = optuna.storages.RDBStorage
    if moment == "created":
        after(storage, "_create_new_trial")
    elif moment in ("claimed", "buried"):
        state = TrialState.RUNNING if moment == "claimed" else TrialState.FAIL
        after(storage, "set_trial_state_values", lambda given: given["state"] == state)
    elif moment == "writing":
        Saved.is_deadly = True
    elif moment == "told":
        Queue.tell = die
    elif moment == "tables":
        # They are made; what says which version they have is not.
        optuna.storages._rdb.storage._VersionManager._init_alembic = die
    elif moment == "drawing":
        after(optuna.Trial, "suggest_float")


def work(order):
    random.seed()
    prepare(order["moment"])
    storage = order["storage"]
    if storage.startswith("redis"):
        storage = redis_server.storage_at(storage)
    analytic_search(
        Slow(noisy if order["confirm"] else curve),
        Path(order["folder"]),
        storage=storage,
        budget=kopt.tuning.Budget(trials=order["trials"]),
        grace=order["grace"],
        confirm=order["confirm"],
        sampler=kopt.tuning.Random(),
        epochs=3,
    )


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            order = json.loads(line)
            code = 1
            try:
                work(order)
                Path(order["done"]).touch()
                code = 0
            except BaseException as error:
                Path(order["done"]).with_suffix(".error").write_text(repr(error))
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
