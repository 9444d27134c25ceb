"""Three workers on PostgreSQL, one of which is killed: the search ends all the same.

The script starts a server of its own where PostgreSQL's programs are found, and three
workers of which it kills one in the middle of a trial:

    python examples/tune_postgres.py            # about a minute
    python examples/tune_postgres.py --quick    # fewer trials

Give `--storage postgresql+psycopg://user@host:5432/tuning` to use a server that runs.
On several machines, each starts `examples/tune_postgres.py --storage ... --worker`.
The table has the trials with the worker that ran them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import kopt


def build(hp: Any) -> keras.Model:
    """A network as one writes it for Keras Tuner."""
    model = keras.Sequential([keras.Input((64,))])
    model.add(keras.layers.Dense(hp.Int("units", 16, 128, step=16), "relu"))
    model.add(keras.layers.Dropout(hp.Float("dropout", 0, 0.5)))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def search(storage: str, folder: Path, trials: int) -> kopt.tuning.Results:
    """What each worker runs: the same call, with the same storage and name."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, validation = order[:800], order[800:]
    return kopt.tuning.tune(
        build,
        (x[train], y[train]),
        objective="val_accuracy",
        budget=kopt.tuning.Budget(trials=trials),
        storage=storage,
        name="digits",
        directory=folder,
        validation_data=(x[validation], y[validation]),
        epochs=10,
    )


def program(name: str) -> str | None:
    """A program of PostgreSQL, where Debian has it or on the path."""
    found = [str(p) for p in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    return max(found, default=shutil.which(name))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server of this example's own; its address."""
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    assert initdb and pg_ctl
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The server refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = user if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        subprocess.run(
            [*prefix, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )

    data = str(folder / "pg")
    # "trust": only this machine reaches it, and only for the minute of the example.
    run(initdb, "-D", data, "-U", "tuner", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    run(pg_ctl, "-D", data, "-o", options, "-w", "-l", f"{data}.log", "start")
    try:
        yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
    finally:
        run(pg_ctl, "-D", data, "-w", "-m", "immediate", "stop")


def three_workers(storage: str, folder: Path, trials: int) -> None:
    """Start three workers, kill the first one that has begun, wait for the others."""
    command = [sys.executable, __file__, "--worker", "--storage", storage]
    command += ["--folder", str(folder), "--trials", str(trials)]
    workers = [subprocess.Popen(command) for _ in range(3)]
    victim, begun = None, 0
    while victim is None:
        if all(worker.poll() is not None for worker in workers):
            raise SystemExit("All workers ended before three trials had begun.")
        time.sleep(0.2)
        with contextlib.suppress(ValueError):  # There is no study yet.
            rows = kopt.tuning.Results(folder, name="digits", storage=storage).rows()
            begun = len(rows)
        if begun >= 3:
            victim = workers.pop(0)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    print(f"Process {victim.pid} was killed after {begun} trials had begun.")
    codes = [worker.wait() for worker in workers]
    assert codes == [0, 0], codes


def show(storage: str, folder: Path) -> None:
    """The trials, each with its worker."""
    results = kopt.tuning.Results(folder, name="digits", storage=storage)
    table = Table("trial", "state", "accuracy", "worker", "reason")
    for row, trial in zip(results.rows(), results.study.trials, strict=True):
        score = "" if row["score"] is None else f"{row['score']:.3f}"
        worker = trial.user_attrs.get("kopt:worker", "")[:4]
        table.add_row(str(row["number"]), row["state"], score, worker, row["reason"])
    Console().print(table)
    print(results.why()[-1], f"Best: {results.best_score:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--storage")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    trials = arguments.trials or (6 if arguments.quick else 20)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory())
        folder = arguments.folder or Path(made) / "run"
        storage = arguments.storage
        if storage is None and program("initdb") is None:
            print("PostgreSQL is not installed, and no `--storage` was given.")
            return
        if storage is None:
            Path(made).chmod(0o755)
            place = Path(made) / "server"
            place.mkdir()
            storage = stack.enter_context(server(place))
        if arguments.worker:
            search(storage, folder, trials)
        else:
            three_workers(storage, folder, trials)
            show(storage, folder)


if __name__ == "__main__":
    main()
