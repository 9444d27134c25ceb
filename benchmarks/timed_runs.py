"""How near a run of some minutes ends to its time, beside other work on the machine.

    python benchmarks/timed_runs.py [--quick] [--runs 20] [--minutes 2] [--at-once 1]

Each run trains a small convolutional network on Fashion-MNIST's sizes, with validation
and a checkpoint after each epoch, along a cosine of `minutes`, in a process of its own.
Beside them two processes work and rest in turns, for half a second to five seconds. A
row is a run: how far its end is from the end of the time, from the call of `fit` to its
return, and what is left of the learning rate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RATE = 0.01
IMAGES, VALIDATION, BATCH = 12_000, 4_000, 64


def work_and_rest(seed: int) -> None:
    """Other work: a processor is wanted, and then it is not."""
    chance = random.Random(seed)
    while True:
        end = time.monotonic() + chance.uniform(0.5, 5.0)
        while time.monotonic() < end:
            sum(range(10_000))
        time.sleep(chance.uniform(0.5, 5.0))


def train(minutes: float, seed: int) -> dict[str, float]:
    """One run; what it took and where its curve ended."""
    import keras
    import numpy as np

    import kopt

    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    images = generator.random((IMAGES + VALIDATION, 28, 28, 1), "float32")
    labels = generator.integers(0, 10, len(images))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kopt.Adam(RATE), loss, metrics=["accuracy"])
    curve = kopt.callbacks.FitSchedule(
        kopt.schedules.Cosine(RATE, steps=1.0), minutes=minutes
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = keras.callbacks.ModelCheckpoint(f"{folder}/model.keras")
        begun = time.perf_counter()
        history = model.fit(
            images[:IMAGES],
            labels[:IMAGES],
            BATCH,
            epochs=100_000,
            verbose=0,
            validation_data=(images[IMAGES:], labels[IMAGES:]),
            callbacks=[curve, checkpoint],
        )
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "epochs": len(history.epoch),
        "rate": float(model.optimizer.learning_rate.numpy()),
    }


def run(minutes: float, seed: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(seed), "--minutes", str(minutes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run, for CI")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(train(arguments.minutes, arguments.one)))
        return
    if arguments.quick:
        arguments.runs, arguments.minutes = 1, 0.2
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=work_and_rest, args=(k,), daemon=True) for k in (0, 1)
    ]
    for other in others:
        other.start()
    print(f"{'run':>4}{'epochs':>8}{'end':>9}{'rate left':>12}")
    within = 0
    with ThreadPoolExecutor(arguments.at_once) as pool:
        seeds = range(arguments.runs)
        found = pool.map(lambda seed: run(arguments.minutes, seed), seeds)
        for seed, row in enumerate(found):
            away = row["seconds"] / (60.0 * arguments.minutes) - 1.0
            within += abs(away) <= 0.02
            left = row["rate"] / RATE
            print(f"{seed:4}{row['epochs']:8}{away:+9.2%}{left:12.2e}", flush=True)
    print(f"{within} of {arguments.runs} ended within 2 % of {arguments.minutes:g} min")
    for other in others:
        other.terminate()


if __name__ == "__main__":
    main()
