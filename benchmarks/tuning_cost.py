"""What a search costs beside its trainings: time, memory, and what workers gain.

    python benchmarks/tuning_cost.py [--quick] [--only overhead,memory,workers]
                                     [--rounds N] [--minutes M]

*Overhead*: trials of about ten seconds, real trainings of a small network on
scikit-learn's digits, by `tune` on SQLite and on a PostgreSQL server of its own (where
`initdb` and `pg_ctl` are found) beside a bare loop that builds and fits the same models
with the same callbacks; in turns, medians over rounds. Once in ten long epochs, once in
forty short ones: part of the cost comes with each epoch, when a trial is backed up.

*Memory*: of a worker over 200 short trials.

*Workers*: epochs that `n_jobs=2` trains in some minutes beside `n_jobs=1`, with one
core for each trial. It needs two free cores; the start of the workers counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import tensorflow as tf
from _timing import CONSOLE, machine, table
from sklearn.datasets import load_digits

from kopt.tuning import Budget, Random, Results, tune
from kopt.tuning._workers.resources import memory_in_use
from tests.tuning.postgres import Server, is_installed

# Every trial has one core: what is compared is not how well two cores are used.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

PARTS = ("overhead", "memory", "workers")


def build(hp: Any) -> keras.Model:
    """A network whose training takes the same time whatever is chosen."""
    return _model(
        hp.Float("rate", 1e-4, 1e-2, sampling="log"), hp.Float("dropout", 0.0, 0.5)
    )


def _model(rate: float, dropout: float, filters: int = 16) -> keras.Model:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.Conv2D(2 * filters, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def digits(copies: int = 1) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Training digits, the same ones several times over, and validation digits."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    train = np.tile(x[:1200], (copies, 1, 1, 1)), np.tile(y[:1200], copies)
    return train, (x[1200:], y[1200:])


def callbacks() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.EarlyStopping(patience=99),
    ]


def copies_for(seconds: float) -> int:
    """How often the digits make an epoch of so many seconds."""
    model, (train, validation) = _model(1e-3, 0.2), digits(4)
    model.fit(*train, validation_data=validation, verbose=0)
    started = time.perf_counter()
    model.fit(*train, validation_data=validation, epochs=2, verbose=0)
    return max(1, round(4 * seconds / ((time.perf_counter() - started) / 2)))


def bare(trials: int, epochs: int, copies: int) -> None:
    """The loop that one would write without a tuner."""
    train, validation = digits(copies)
    random = np.random.default_rng(0)
    for _ in range(trials):
        keras.utils.clear_session()
        model = _model(10 ** random.uniform(-4, -2), random.uniform(0, 0.5))
        model.fit(
            *train,
            validation_data=validation,
            epochs=epochs,
            callbacks=callbacks(),
            verbose=0,
        )


def searched(trials: int, epochs: int, copies: int, storage: str | None) -> None:
    train, validation = digits(copies)
    with tempfile.TemporaryDirectory() as folder:
        tune(
            build,
            train,
            objective="val_loss",
            budget=Budget(trials=trials),
            storage=storage,
            name=f"cost {time.time_ns()}",
            directory=folder,
            callbacks=callbacks(),
            validation_data=validation,
            epochs=epochs,
        )


@contextlib.contextmanager
def server() -> Iterator[str | None]:
    """The address of a PostgreSQL server that ends afterwards, if it can be had."""
    if not is_installed():
        yield None
        return
    made = Server()
    made.start()
    try:
        yield made.create("tuning")
    finally:
        made.close()


def overhead(rounds: int, trials: int, seconds: float) -> None:
    """Time of a trial by `tune`, beside the bare loop."""
    with server() as address:
        for epochs in (10, 40):
            copies = copies_for(seconds / epochs)
            ways: dict[str, Callable[[], None]] = {
                "bare loop": lambda: bare(trials, epochs, copies),  # noqa: B023
                "tune, SQLite": lambda: searched(trials, epochs, copies, None),  # noqa: B023
            }
            if address is not None:
                ways["tune, PostgreSQL"] = lambda: searched(
                    trials,
                    epochs,  # noqa: B023
                    copies,  # noqa: B023
                    address,
                )
            compare(ways, rounds, trials, epochs)


def compare(
    ways: dict[str, Callable[[], None]], rounds: int, trials: int, epochs: int
) -> None:
    times: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for place in range(rounds):
        # Everybody comes after everybody.
        for name in names[place % len(names) :] + names[: place % len(names)]:
            started = time.perf_counter()
            ways[name]()
            times[name].append((time.perf_counter() - started) / trials)
            CONSOLE.print(f"round {place + 1}, {name}: {times[name][-1]:.2f} s a trial")
    shown = table(
        f"Seconds a trial of {epochs} epochs, medians of {rounds} rounds of {trials}",
        "way",
        "seconds",
        "more than the bare loop, median of rounds [least, most]",
    )
    for name, taken in times.items():
        pairs = zip(taken, times["bare loop"], strict=True)
        more = [100 * (one / other - 1) for one, other in pairs]
        told = f"{median(more):+.1f} % [{min(more):+.1f}, {max(more):+.1f}]"
        shown.add_row(name, f"{median(taken):.2f}", told)
    CONSOLE.print(shown)


def memory(trials: int) -> None:
    """Memory of a worker, looked at when a trial begins."""
    train, validation = digits()
    seen: list[float] = []

    def look(trial: Any) -> list[keras.callbacks.Callback]:
        seen.append(memory_in_use() / 2**20)
        return []

    with tempfile.TemporaryDirectory() as folder:
        tune(
            build,
            (train[0][:200], train[1][:200]),
            objective="val_loss",
            budget=Budget(trials=trials),
            sampler=Random(),
            directory=folder,
            callbacks=look,
            validation_data=validation,
            epochs=2,
        )
    shown = table(f"Memory over {trials} trials", "trial", "MB")
    for place in sorted({20, 50, 100, 150, 200, trials} & set(range(1, trials + 1))):
        # Garbage comes and goes: the mean of some trials.
        shown.add_row(str(place), f"{np.mean(seen[max(place - 10, 0) : place]):.0f}")
    CONSOLE.print(shown)


def workers(minutes: float, seconds: float) -> None:
    """Epochs that one and two workers train in some minutes."""
    epochs = 10
    copies = copies_for(seconds / epochs)
    train, validation = digits(copies)
    trained = {}
    for jobs in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            tune(
                build,
                train,
                objective="val_loss",
                budget=Budget(minutes=minutes),
                sampler=Random(),
                directory=folder,
                n_jobs=jobs,
                validation_data=validation,
                epochs=epochs,
            )
            taken = time.monotonic() - started
            rows = Results(folder).rows()
        trained[jobs] = sum(row["epochs"] for row in rows) / epochs
        done = sum(row["state"] == "complete" for row in rows)
        CONSOLE.print(
            f"n_jobs={jobs}: {done} trials, with parts of others {trained[jobs]:.1f}, "
            f"in {taken:.0f} s"
        )
    CONSOLE.print(f"n_jobs=2 does {trained[2] / trained[1]:.2f} times as much")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0, help="of the workers")
    options = parser.parse_args()
    parts = options.only.split(",")
    CONSOLE.print(machine("keras", "tensorflow", "optuna"))
    quick = options.quick
    if "overhead" in parts:
        overhead(
            1 if quick else options.rounds, 1 if quick else 3, 0.5 if quick else 10
        )
    if "memory" in parts:
        memory(4 if quick else 200)
    if "workers" in parts:
        workers(0.15 if quick else options.minutes, 1 if quick else 10)


if __name__ == "__main__":
    main()
