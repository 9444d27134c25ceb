"""Learning rates: find one, cycle it, cool down twice, cut it on a plateau.

Trains one image classifier by several schedules of the learning rate, from the same
first weights and for as many steps. Runs offline in a few minutes on two cores:

    python examples/schedules.py            # real data that is installed
    python examples/schedules.py --quick    # a small part of it, to see that it works

The table has the loss and accuracy on validation images at the end of each run. The
picture, with the learning rates and losses over the run, goes to schedules.png.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from quickstart_parts.data import SOURCES, Data, load
from rich.console import Console
from rich.table import Table

import kopt
from kopt.callbacks import (
    FitSchedule,
    LRFinder,
    OneCycle,
    ProgressReport,
    ReduceOnPlateau,
)
from kopt.schedules import WSD, Constant, Cosine, Warmup

SEED = 1
BATCH_SIZE = 64
MOMENTUM = 0.9


@dataclass(frozen=True)
class Budget:
    """How many images there are, for how many epochs, and when the short run ends."""

    images: int = 10_000
    epochs: int = 8
    early: int = 4


QUICK = Budget(images=1_000, epochs=4, early=2)


@dataclass
class Run:
    """What a schedule came to."""

    name: str
    epochs: int
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0


class EachBatch(keras.callbacks.Callback):
    """Notes the learning rate of each batch."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__()
        self.rates = rates

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def main() -> None:
    arguments = parse()
    started = time.perf_counter()
    budget = QUICK if arguments.quick else Budget()
    data = load(arguments.data, train_size=budget.images)
    print(f"{data.name}: {data.sizes}")
    finder = found(data)
    rate = finder.suggestion
    print(
        f"LRFinder suggests {rate:.2g}; at {finder.steepest:.2g} the loss fell fastest"
    )
    runs = [
        trained("constant", data, budget, [FitSchedule(Constant(rate))]),
        trained(
            "warm-up and cosine",
            data,
            budget,
            [FitSchedule(Warmup(Cosine(rate, steps=1.0), steps=0.1))],
        ),
        trained("one cycle, up to the rate", data, budget, [OneCycle(rate)]),
        trained("the rate, cut on a plateau", data, budget, plateau(rate)),
        *two_budgets(data, budget, rate),
    ]
    print_table(runs, f"{data.name}: {data.sizes}")
    draw(finder, runs, arguments.out)
    print(f"{time.perf_counter() - started:.0f} s in all; picture: {arguments.out}")
    if arguments.quick:
        print("With --quick the figures only show that everything runs.")


def network(data: Data) -> keras.Model:
    """Two convolutions, compiled with gradient descent; the same each time."""
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    model = keras.Sequential([keras.Input(data.shape)])
    for filters in (16, 32):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(data.classes, activation="softmax"))
    optimizer = kopt.SGD(0.01, momentum=MOMENTUM, nesterov=True)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def found(data: Data) -> LRFinder:
    finder = LRFinder(start=1e-4, end=10.0)
    network(data).fit(*data.train, BATCH_SIZE, epochs=50, verbose=0, callbacks=[finder])
    return finder


def plateau(rate: float) -> list[keras.callbacks.Callback]:
    """A warm-up; a cut, from the best weights, after each epoch of little gain."""
    return [
        FitSchedule(Warmup(rate, steps=0.05)),
        ReduceOnPlateau(
            "val_loss",
            factor=0.2,
            patience=1,
            min_delta=0.01,
            warmup=1,
            restore_best_weights=True,
        ),
    ]


def trained(
    name: str,
    data: Data,
    budget: Budget,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Run:
    run = Run(name, budget.epochs)
    fit(network(data), data, run, callbacks, epochs=budget.epochs)
    return run


def two_budgets(data: Data, budget: Budget, rate: float) -> list[Run]:
    """One long run at a stable rate, cooled down at its end and once before."""
    steps = -(-len(data.train[0]) // BATCH_SIZE)
    schedule = WSD(rate, budget.epochs * steps, warmup=0.05, decay=steps)
    stable = budget.early - 1
    early = schedule.decay_from(stable * steps, steps)

    long = Run(f"WSD, {budget.epochs} epochs", budget.epochs)
    model = network(data)
    callbacks = [FitSchedule(schedule, epochs=budget.epochs)]
    fit(model, data, long, callbacks, epochs=stable)
    checkpoint = [w.numpy() for w in (*model.weights, *model.optimizer.variables)]
    short = Run(f"WSD, cooled down after {budget.early}", budget.early)
    short.rates, short.losses = [*long.rates], [*long.losses]
    fit(model, data, long, callbacks, epochs=budget.epochs, initial_epoch=stable)

    for variable, value in zip(
        (*model.weights, *model.optimizer.variables), checkpoint, strict=True
    ):
        variable.assign(value)
    callbacks = [FitSchedule(early, epochs=budget.early)]
    fit(model, data, short, callbacks, epochs=budget.early, initial_epoch=stable)
    return [short, long]


def fit(
    model: keras.Model,
    data: Data,
    run: Run,
    callbacks: Sequence[keras.callbacks.Callback],
    **arguments: int,
) -> None:
    history = model.fit(
        *data.train,
        BATCH_SIZE,
        validation_data=data.validation,
        verbose=0,
        callbacks=[*callbacks, EachBatch(run.rates), ProgressReport(run.name)],
        **arguments,
    ).history
    run.losses += history["val_loss"]
    run.accuracy = history["val_accuracy"][-1]


def print_table(runs: Sequence[Run], title: str) -> None:
    table = Table(title=title)
    table.add_column("Schedule")
    for heading in ("epochs", "loss", "accuracy"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            run.name, str(run.epochs), f"{run.losses[-1]:.4f}", f"{run.accuracy:.2%}"
        )
    Console(width=88).print(table)


def draw(finder: LRFinder, runs: Sequence[Run], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    finder.plot(axes[0])
    for run in runs:
        # The longer run with WSD lies under the shorter one up to its cool-down.
        axes[1].plot(
            np.linspace(0, run.epochs, len(run.rates)), run.rates, label=run.name
        )
        axes[2].plot(range(1, run.epochs + 1), run.losses, "o-", label=run.name)
    axes[1].set(xlabel="epoch", ylabel="learning rate")
    axes[2].set(xlabel="epoch", ylabel="loss on validation images", yscale="log")
    axes[2].xaxis.get_major_locator().set_params(integer=True)
    axes[2].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    choices = [*SOURCES, "auto"]
    parser.add_argument(
        "--data", choices=choices, default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="little data and few epochs"
    )
    parser.add_argument("--out", type=Path, default=Path("schedules.png"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
