"""Train, tune, prune, quantize and export an image classifier, and show what each gave.

Runs offline in a few minutes on two cores:

    python examples/quickstart.py            # real data that is installed
    python examples/quickstart.py --quick    # a small part of it, to see that it works

Every row of the table that it prints is a TFLite file that was run on the test images,
which no training and no choice ever saw. The picture goes to quickstart.png.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
from quickstart_parts.data import SOURCES, Data, load
from quickstart_parts.report import Row, draw, print_table

import kopt
from kopt.callbacks import ProgressReport

SEED = 1
BATCH_SIZE = 64
SPARSITY = 0.75


@dataclass
class Budget:
    """How long each stage may train, in epochs."""

    train: int = 6
    search_trials: int = 4
    search: int = 2
    prune: int = 4
    quantize: int = 2


QUICK = Budget(train=1, search_trials=2, search=1, prune=1, quantize=1)


def main() -> None:
    arguments = parse()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    started = time.perf_counter()
    budget = QUICK if arguments.quick else Budget()
    data = load(arguments.data, train_size=1_000 if arguments.quick else 10_000)
    print(f"{data.name}: {data.sizes}, {data.classes} classes")
    rows = []

    with tempfile.TemporaryDirectory() as folder:

        def report(name: str, model: keras.Model, **options: object) -> None:
            rows.append(measured(name, model, data, Path(folder), **options))

        baseline = network(data)
        fit(baseline, data, budget.train, keras.optimizers.Adam(1e-3), "Keras Adam")
        report("Keras Adam", baseline)

        ours = network(data, drop_path=0.1, factor=1e-6)
        train_with_kopt(ours, data, budget.train, "kopt AdamW")
        report("kopt: AdamW, warm-up + cosine, DropPath, GroupLasso", ours)

        found = search(data, budget, Path(folder))
        report(f"best of {budget.search_trials} from Keras Tuner", found)

        # The choice is made on validation data; the table shows test data.
        best = max(ours, found, key=lambda model: validation_accuracy(model, data))
        prune(best, data, budget.prune)
        report(f"the better one, pruned to {SPARSITY:.0%}", best)

        best = quantize(best, data, budget.quantize)
        report("and quantized to int8", best, quantization="int8")

    title = f"{data.name}: {data.sizes}"
    print_table(rows, title)
    draw(rows, title, arguments.out)
    print(f"{time.perf_counter() - started:.0f} s in all; picture: {arguments.out}")
    if arguments.quick:
        print("With --quick the figures only show that everything runs.")


def network(data: Data, drop_path: float = 0.0, factor: float = 0.0) -> keras.Model:
    """A small residual network; with kopt's layers and penalties where asked for."""
    layers = keras.layers
    keras.utils.set_random_seed(SEED)

    def convolution(x, filters, strides=1):
        penalty = kopt.regularizers.GroupLasso(factor) if factor else None
        x = layers.Conv2D(
            filters,
            3,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_regularizer=penalty,
        )(x)
        # Keras's momentum of 0.99 lags behind in runs as short as these.
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input(data.shape)
    x = layers.ReLU()(convolution(inputs, 16, strides=2))
    for filters in (32, 64):
        x = layers.ReLU()(convolution(x, filters, strides=2))
        branch = convolution(x, filters)
        if drop_path:
            branch = kopt.layers.DropPath(drop_path)(branch)
        x = layers.ReLU()(layers.Add()([x, branch]))
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(data.classes, activation="softmax")(x)
    return keras.Model(inputs, outputs)


def fit(model, data, epochs, optimizer, label, callbacks=()) -> None:
    """The same training for every row: the same data, batches and number of epochs."""
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        *data.train,
        validation_data=data.validation,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=[*callbacks, ProgressReport(label)],
        verbose=0,
    )


def train_with_kopt(model, data, epochs, label, rate=3e-3) -> None:
    """AdamW at a rate that rises over 10 % of the run and then falls to zero."""
    schedule = kopt.schedules.Warmup(kopt.schedules.Cosine(rate, steps=1.0), steps=0.1)
    fit(
        model,
        data,
        epochs,
        kopt.AdamW(rate, weight_decay=1e-2),
        label,
        callbacks=[kopt.callbacks.FitSchedule(schedule)],
    )


def search(data: Data, budget: Budget, folder: Path) -> keras.Model:
    """The best network of a short random search, trained as long as the others."""
    space = kopt.tuning.HyperCNN(
        data.shape, classes=data.classes, widths=(8, 12), depths=(2, 3), seed=SEED
    )
    tuner = keras_tuner.RandomSearch(
        space,
        objective=kopt.tuning.objective("val_accuracy"),
        max_trials=budget.search_trials,
        seed=SEED,
        directory=folder,
        project_name="search",
    )
    tuner.search(
        *data.train,
        validation_data=data.validation,
        epochs=budget.search,
        callbacks=[ProgressReport("search")],
        verbose=0,
    )
    (best,) = tuner.get_best_hyperparameters()
    model = space.build(best)
    space.fit(
        best,
        model,
        *data.train,
        validation_data=data.validation,
        epochs=budget.train,
        callbacks=[ProgressReport("best found")],
        verbose=0,
    )
    return model


def prune(model: keras.Model, data: Data, epochs: int) -> None:
    """Zero the smallest weights step by step while training goes on."""
    steps = epochs * -(-len(data.train[0]) // BATCH_SIZE)
    kopt.pruning.prune_low_magnitude(
        model,
        kopt.pruning.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=SPARSITY,
            begin_step=0,
            end_step=int(0.7 * steps),  # the rest is for the weights that are left
            frequency=10,
        ),
        scope="global",  # more where it hurts less
    )
    train_with_kopt(model, data, epochs, "pruning", rate=3e-3)


def quantize(model: keras.Model, data: Data, epochs: int) -> keras.Model:
    """Train on with the rounding of int8 in place. The zeros stay zeros."""
    quantized = kopt.quantization.quantize_model(
        model, calibration_data=data.train[0][:512]
    )
    train_with_kopt(quantized, data, epochs, "quantization-aware", rate=3e-4)
    return quantized


def measured(name, model, data, folder, quantization=None) -> Row:
    """A row of the table: the model as a TFLite file, run on the test images."""
    path = folder / f"{len(list(folder.glob('*.tflite')))}.tflite"
    kopt.export.tflite(model, path, quantization=quantization)
    return Row(name, kopt.evaluation.compare(model, path, data.test))


def validation_accuracy(model: keras.Model, data: Data) -> float:
    return kopt.evaluation.measure(model, data.validation, batch_size=256).accuracy


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--data",
        choices=[*SOURCES, "auto"],
        default="auto",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--quick", action="store_true", help="little data and one epoch a stage"
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart.png"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
