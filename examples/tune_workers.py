"""One machine, several workers: the same search, as wide as they are many.

A small network learns handwritten digits; a trial uses little more than one core:

    python examples/tune_workers.py            # about two minutes on two cores
    python examples/tune_workers.py --quick    # to see that it works

The table has the trials a minute of one worker and of several, and what each search
found. Kill anything while it runs, and run it again with the same `--folder`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import kopt


def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Digits for training and for validation."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, validation = order[:800], order[800:]
    return (x[train], y[train]), (x[validation], y[validation])


def build(hp: Any) -> keras.Model:
    """A network as one writes it for Keras Tuner."""
    model = keras.Sequential([keras.Input((64,))])
    for layer in range(hp.Int("layers", 1, 2)):
        units = hp.Int(f"units_{layer}", 16, 64, step=16)
        model.add(keras.layers.Dense(units, activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    trials, epochs = (6, 2) if arguments.quick else (40, 20)
    train, validation = data()

    table = Table("workers", "seconds", "trials", "best accuracy", "ended by")
    for workers in (1, arguments.workers):
        started = time.perf_counter()
        results = kopt.tuning.tune(
            build,
            train,
            objective="val_accuracy",
            budget=kopt.tuning.Budget(trials=trials),
            validation_data=validation,
            epochs=epochs,
            directory=folder / f"{workers} workers",
            n_jobs=workers,
        )
        table.add_row(
            str(workers),
            f"{time.perf_counter() - started:.0f}",
            str(sum(row["state"] == "complete" for row in results.rows())),
            f"{results.best_score:.3f}",
            results.why()[-1],
        )
    Console().print(table)


if __name__ == "__main__":
    main()
