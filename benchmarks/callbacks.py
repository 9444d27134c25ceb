"""What callbacks cost: the time of training with each, beside that without any.

    python benchmarks/callbacks.py            # some minutes
    python benchmarks/callbacks.py --quick    # to see that it works

A small convolutional network on noise, with Adam. In each round every callback trains
for as many batches, in an order that is drawn anew; the first batch, which traces the
step and the probe, does not count. The table has medians over the rounds, and of the
rounds' ratios: of the time that passed, and of the time that the processors worked,
which other programs do not disturb as much.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from _timing import CONSOLE, machine, table

import kopt
from kopt import callbacks
from kopt.schedules import Cosine

BATCH = 64
X = np.random.default_rng(0).normal(size=(BATCH * 4, 32, 32, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 10, len(X))


class Seconds(keras.callbacks.Callback):
    """The times from the end of the first batch to the end of training."""

    def __init__(self) -> None:
        super().__init__()
        self.begin: np.ndarray | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.begin is None:
            self.begin = now()

    def on_train_end(self, logs: dict | None = None) -> None:
        assert self.begin is not None
        self.taken = now() - self.begin


def now() -> np.ndarray:
    """The time on the clock, and the work of the processors, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def network() -> keras.Model:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(X.shape[1:])])
    for filters in (32, 64, 64):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(kopt.Adam(1e-3), "sparse_categorical_crossentropy")
    return model


CASES: dict[str, Callable[[], list[keras.callbacks.Callback]]] = {
    "none": list,
    "FitSchedule": lambda: [callbacks.FitSchedule(Cosine(1e-3, steps=1.0))],
    "OneCycle": lambda: [callbacks.OneCycle(1e-3)],
    "SpikeGuard": lambda: [callbacks.SpikeGuard()],
    "SpikeGuard, both z-scores": lambda: [
        callbacks.SpikeGuard(loss_z=10.0, gradient_z=10.0)
    ],
    "GradientMonitor, every 100": lambda: [callbacks.GradientMonitor((X, Y))],
}


def seconds(model: keras.Model, case: str, batches: int) -> np.ndarray:
    """Both times of a step."""
    timer = Seconds()
    epochs = -(-batches * BATCH // len(X))
    with warnings.catch_warnings(action="ignore"):
        model.fit(
            X, Y, BATCH, epochs=epochs, verbose=0, callbacks=[*CASES[case](), timer]
        )
    return timer.taken / (epochs * len(X) // BATCH - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few batches, two rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=[*CASES], default=[*CASES])
    arguments = parser.parse_args()
    cases = list(dict.fromkeys(["none", *arguments.only]))
    rounds = 2 if arguments.quick else arguments.rounds
    batches = 20 if arguments.quick else arguments.batches
    models = {case: network() for case in cases}
    found: dict[str, list[np.ndarray]] = {case: [] for case in cases}
    generator = random.Random(0)
    for _ in range(rounds):
        order = list(cases)
        generator.shuffle(order)
        for case in order:
            found[case].append(seconds(models[case], case, batches))
    columns = ("callback", "ms a step", "ratio", "ms of work", "ratio")
    shown = table("A training step with callbacks", *columns)
    for case, values in found.items():
        times = 1e3 * np.median(values, axis=0)
        ratios = np.median(np.array(values) / np.array(found["none"]), axis=0)
        cells = [
            f"{one:.{digits}f}"
            for pair in zip(times, ratios, strict=True)
            for one, digits in zip(pair, (2, 3), strict=True)
        ]
        shown.add_row(case, *cells)
    CONSOLE.print(shown)
    CONSOLE.print(machine("tensorflow", "keras"))


if __name__ == "__main__":
    main()
