"""TF-MOT itself beside kopt's own verbs: one Keras 3 model, the same data and steps.

Use `kopt.tfmot` to reproduce a result that was published with TensorFlow Model
Optimization, to go on from one, or to see for yourself whether kopt does as well; it
trains in tf_keras and takes the layers that TF-MOT takes. For new work kopt's own verbs
need neither: they stay in Keras 3 and take any model.

    python examples/tfmot.py            # real images that are installed, a few minutes
    python examples/tfmot.py --quick    # a small part of them, to see that it works

Each row of the table is a TFLite file that was run on the test images.
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
from quickstart_parts.data import SOURCES, Data, load
from rich.console import Console
from rich.table import Table

import kopt

SEED = 1
BATCH_SIZE = 64
SPARSITY = 0.75
CLUSTERS = 16
LOSS = "sparse_categorical_crossentropy"


@dataclass
class Epochs:
    """How long the network learns, and how long each method goes on with it."""

    learn: int = 6
    go_on: int = 3


def main() -> None:
    arguments = parse()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    data = load(arguments.data, train_size=1_000 if arguments.quick else 10_000)
    epochs = Epochs(1, 1) if arguments.quick else Epochs()
    print(f"{data.name}: {data.sizes}, {data.classes} classes")
    table = new_table(data, epochs)
    model = network(data)
    fit(model, data, epochs.learn)

    with tempfile.TemporaryDirectory() as folder:
        for name, library, method in METHODS:
            begun = time.perf_counter()
            path = Path(folder) / "model.tflite"
            method(model, data, epochs.go_on, path)
            took = time.perf_counter() - begun
            add_row(table, name, library, path, data, took)
            print(f"{name}, {library}: {took:.0f} s", flush=True)
    # The width of the table, not of the terminal: it is also read from files.
    Console(width=100).print(table)
    if arguments.quick:
        print("With --quick the figures only show that everything runs.")


def network(data: Data) -> keras.Model:
    """Only layers that TF-MOT knows and no model inside: else it does not quantize."""
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    inputs = keras.Input(data.shape, name="image")
    x = inputs
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(data.classes, activation="softmax")(x))


def fit(model: keras.Model, data: Data, epochs: int) -> None:
    model.compile("adam", LOSS)
    model.fit(*data.train, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)


def in_tf_keras(data: Data, epochs: int) -> kopt.tfmot.Fit:
    """The same training, where TF-MOT does it."""
    return kopt.tfmot.Fit(*data.train, LOSS, epochs=epochs, batch_size=BATCH_SIZE)


def schedule(data: Data, epochs: int) -> kopt.pruning.PolynomialDecay:
    steps = epochs * -(-len(data.train[0]) // BATCH_SIZE)
    return kopt.pruning.PolynomialDecay(0.0, SPARSITY, 0, int(0.7 * steps), frequency=5)


# Each method gets the trained network, goes on with a copy of it, and writes a file.


def untouched(model, data, epochs, path) -> None:
    kopt.export.tflite(model, path)


def trained_on(model, data, epochs, path) -> None:
    fit(copied := copy_of(model), data, epochs)
    kopt.export.tflite(copied, path)


def pruned_by_tfmot(model, data, epochs, path) -> None:
    pruned = kopt.tfmot.prune_low_magnitude(
        model, schedule(data, epochs), train=in_tf_keras(data, epochs)
    )
    kopt.export.tflite(pruned, path)


def pruned_by_kopt(model, data, epochs, path) -> None:
    pruned = kopt.pruning.prune_low_magnitude(copy_of(model), schedule(data, epochs))
    fit(pruned, data, epochs)
    kopt.export.tflite(pruned, path)


def clustered_by_tfmot(model, data, epochs, path) -> None:
    clustered = kopt.tfmot.cluster_weights(
        model, CLUSTERS, train=in_tf_keras(data, epochs)
    )
    kopt.export.tflite(clustered, path)


def clustered_by_kopt(model, data, epochs, path) -> None:
    clustered = kopt.clustering.cluster_weights(copy_of(model), CLUSTERS)
    fit(clustered, data, epochs)
    kopt.export.tflite(kopt.clustering.strip_clustering(clustered), path)


def quantized_by_tfmot(model, data, epochs, path) -> None:
    kopt.tfmot.quantize_model(model, path, train=in_tf_keras(data, epochs))


def quantized_by_kopt(model, data, epochs, path) -> None:
    quantized = kopt.quantization.quantize_model(
        copy_of(model), calibration_data=data.train[0][:512]
    )
    fit(quantized, data, epochs)
    kopt.export.tflite(quantized, path)


METHODS = [
    ("as trained", "Keras", untouched),
    ("trained on", "Keras", trained_on),
    (f"pruned to {SPARSITY:.0%}", "TF-MOT", pruned_by_tfmot),
    (f"pruned to {SPARSITY:.0%}", "kopt", pruned_by_kopt),
    (f"{CLUSTERS} values a kernel", "TF-MOT", clustered_by_tfmot),
    (f"{CLUSTERS} values a kernel", "kopt", clustered_by_kopt),
    ("int8", "TF-MOT", quantized_by_tfmot),
    ("int8", "kopt", quantized_by_kopt),
]


def copy_of(model: keras.Model) -> keras.Model:
    """kopt's own verbs change the model that they are given."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def new_table(data: Data, epochs: Epochs) -> Table:
    plan = f"trained for {epochs.learn} epochs, then {epochs.go_on} with each method"
    table = Table(title=f"{data.name}: {plan}")
    table.add_column("method")
    table.add_column("by")
    for heading in ("accuracy", "KB", "KB gzip", "zeros", "seconds"):
        table.add_column(heading, justify="right")
    return table


def add_row(table: Table, name: str, library: str, path: Path, data: Data, took: float):
    file = kopt.evaluation.measure(path, data.test)
    table.add_row(
        name,
        library,
        f"{file.accuracy:.2%}",
        f"{file.size_kb:.1f}",
        f"{file.gzip_kb:.1f}",
        f"{file.sparsity:.0%}",
        f"{took:.0f}",
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", choices=[*SOURCES, "auto"], default="auto")
    parser.add_argument(
        "--quick", action="store_true", help="little data and one epoch a stage"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
