"""What LRFinder suggests beside the best of eight learning rates, on real data.

    python benchmarks/learning_rates.py [--quick] [--seeds 3]
        [--tasks images text table]

Each network is trained with Adam along a cosine at eight rates, and at what a sweep
suggests. Prints accuracies on validation data as differences from the best, in points.
The data are those of `benchmarks/_tasks.py`.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from _tasks import TASKS, Part, Task

import kopt

#: So many that a point is not the luck of a few photos.
PHOTOS = 10_000
RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
RULES = ("suggestion", "steepest", "valley")


def network(task: Task, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = task.build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kopt.Adam(0.001), loss, metrics=["accuracy"])
    return model


def swept(task: Task, train: Part, seed: int) -> kopt.callbacks.LRFinder:
    finder = kopt.callbacks.LRFinder()
    model = network(task, seed)
    model.fit(*train, task.batch, epochs=50, verbose=0, callbacks=[finder])
    return finder


def accuracy(
    task: Task, train: Part, validation: Part, rate: float, seed: int
) -> float:
    """In percent, after a run along a cosine."""
    model = network(task, seed)
    curve = kopt.callbacks.FitSchedule(kopt.schedules.Cosine(rate, steps=1.0))
    model.fit(*train, task.batch, epochs=task.epochs, verbose=0, callbacks=[curve])
    return 100.0 * model.evaluate(*validation, batch_size=1000, verbose=0)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small run, for CI")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    tried = RATES
    if arguments.quick:
        arguments.tasks, arguments.seeds, tried = ["table"], 1, [1e-3, 1e-2]
    rates = "".join(f"{rate:8.0e}" for rate in tried)
    print(f"task    seed   best{rates}   " + "   ".join(RULES))
    for name in arguments.tasks:
        task = TASKS[name]
        if name == "images":
            task = replace(task, validation=PHOTOS)
        train, validation = task.data()
        if arguments.quick:
            train = tuple(part[:2000] for part in train)
        for seed in range(arguments.seeds):
            finder = swept(task, train, seed)
            found = [accuracy(task, train, validation, rate, seed) for rate in tried]
            best = max(found)
            row = f"{name:8}{seed:4}{best:7.2f}"
            row += "".join(f"{one - best:8.2f}" for one in found)
            for rule in RULES:
                rate = getattr(finder, rule)
                reached = accuracy(task, train, validation, rate, seed)
                row += f"   {rate:.1e} {reached - best:+.2f}"
            print(row, flush=True)
            if folder := os.environ.get("KOPT_CURVES"):
                curve = np.stack([finder.learning_rates, finder.losses])
                np.save(f"{folder}/{name}-{seed}.npy", curve)


if __name__ == "__main__":
    main()
