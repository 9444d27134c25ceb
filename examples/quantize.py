"""Four ways to a smaller file: what each costs in accuracy and saves in size and time.

    python examples/quantize.py            # Fashion-MNIST, a few minutes
    python examples/quantize.py --quick    # a small part, to see that it works

A small CNN and MobileNetV2 are trained, then written as float, with int8 weights
(dynamic range), as int8 after training, and, after an epoch more, as float, as int8
and with int4 weights, the last two with the float network as their teacher. Every
figure is of the TFLite file, run on the test images. The picture goes to quantize.png.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np
from quickstart_parts.data import SOURCES, Data, load
from rich.console import Console
from rich.table import Table

import kopt

matplotlib.use("Agg")
from matplotlib import pyplot

SEED = 1
BATCH_SIZE = 64
SAMPLES = 300  # to calibrate with

AFTER_TRAINING = {
    "float": None,
    "dynamic range": "dynamic",
    "int8, after training": "int8",
}
# Longer training helps by itself: the float network gets it too.
TRAINED_ON = {
    "float, trained on": None,
    "int8, trained on": kopt.quantization.Int8(),
    "int4 weights, trained on": kopt.quantization.Int4Weights(),
}


@dataclass(frozen=True)
class Budget:
    """Images, epochs of float training for each network (0: without it), and after."""

    images: int = 10_000
    cnn: int = 5
    mobile_net: int = 8
    go_on: int = 1
    test: int | None = None


QUICK = Budget(images=256, cnn=1, mobile_net=0, test=100)


@dataclass(frozen=True)
class Row:
    """One file, against the float model and against the model it was made of."""

    network: str
    method: str
    file: kopt.evaluation.Measurement
    as_float: float
    as_own: float
    float_tensors: int


def main() -> None:
    arguments = parse()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    begun = time.perf_counter()
    budget = QUICK if arguments.quick else Budget()
    data = load(arguments.data, train_size=budget.images)
    data = replace(data, test=tuple(part[: budget.test] for part in data.test))
    print(f"{data.name}: {data.sizes}")
    rows = rows_of("CNN", cnn, data, budget.cnn, budget.go_on)
    if budget.mobile_net:
        rows += rows_of(
            "MobileNetV2", mobile_net, in_color(data), budget.mobile_net, budget.go_on
        )
    print_table(rows, data.name)
    draw(rows, data.name, arguments.out)
    print(f"{time.perf_counter() - begun:.0f} s in all; picture: {arguments.out}")
    if arguments.quick:
        print("With --quick the figures only show that everything runs.")


def cnn(data: Data) -> keras.Model:
    layers = keras.layers
    model = keras.Sequential([keras.Input(data.shape)])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(data.classes, activation="softmax"))
    return model


def mobile_net(data: Data) -> keras.Model:
    model = keras.applications.MobileNetV2(
        data.shape, alpha=0.35, weights=None, classes=data.classes
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Its 0.999 is for longer training than this.
            layer.momentum = 0.9
    return model


def in_color(data: Data) -> Data:
    """Three channels and the 32 x 32 that MobileNetV2 needs at least."""

    def larger(part: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        margin = (32 - part[0].shape[1]) // 2
        edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        return np.repeat(np.pad(part[0], edges), 3, axis=-1), part[1]

    parts = (larger(part) for part in (data.train, data.validation, data.test))
    return Data(data.name, *parts)


def fit(model: keras.Model, data: Data, epochs: int, rate: float, label: str) -> None:
    def tell(epoch: int, logs: Any) -> None:
        loss = f"loss {logs['loss']:.3f}"
        print(f"{label:>37}  epoch {epoch + 1}/{epochs}  {loss}", flush=True)

    model.compile(kopt.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(
        *data.train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=[
            kopt.callbacks.FitSchedule(kopt.schedules.Cosine(rate, steps=1.0)),
            keras.callbacks.LambdaCallback(on_epoch_end=tell),
        ],
        verbose=0,
    )


def rows_of(
    name: str, network: Callable[[Data], keras.Model], data: Data, *epochs: int
) -> list[Row]:
    """Train the network, then write it each way."""
    keras.utils.set_random_seed(SEED)
    model = network(data)
    fit(model, data, epochs[0], 3e-3, name)
    expected = classes_of(model.predict(data.test[0], batch_size=500, verbose=0))
    samples, rows = data.train[0][:SAMPLES], []
    for method, quantization in AFTER_TRAINING.items():
        rows.append(row(name, method, model, quantization, samples, data, expected))
    for method, config in TRAINED_ON.items():
        own = trained_on(model, config, data, epochs[1], f"{name}, {method}")
        rows.append(row(name, method, own, None, samples, data, expected))
    return rows


def trained_on(
    model: keras.Model, config: Any, data: Data, epochs: int, label: str
) -> keras.Model:
    """A copy of the network that was trained for longer, quantized or not."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if config is not None:
        samples = data.train[0][:SAMPLES]
        kopt.quantization.quantize_model(copy, config, samples, teacher=True)
    fit(copy, data, epochs, 3e-4, label)
    return copy


def row(
    name: str,
    method: str,
    own: keras.Model,
    quantization: str | None,
    samples: np.ndarray,
    data: Data,
    expected: np.ndarray,
) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        # Compared below, on all test images.
        report = kopt.export.tflite(
            own,
            path,
            quantization,
            samples if quantization == "int8" else None,
            verify=False,
        )
        found = kopt.evaluation.compare(own, path, data.test, batch_size=500)
        predicted = classes_of(kopt.export.Interpreter(path).predict(data.test[0]))
    title = f"{name}, {method}"
    print(f"{title:>37}  accuracy {found.after.accuracy:.2%}", flush=True)
    return Row(
        name,
        method,
        found.after,
        float(np.mean(predicted == expected)),
        found.agreement,
        len(report.float_tensors),
    )


def classes_of(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=-1)


def print_table(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    table.add_column("network")
    table.add_column("file")
    for heading in (
        "accuracy",
        "KB",
        "ms an image",
        "as float model",
        "as own model",
        "float tensors",
    ):
        table.add_column(heading, justify="right")
    for one in rows:
        table.add_row(
            one.network,
            one.method,
            f"{one.file.accuracy:.2%}",
            f"{one.file.size_kb:.0f}",
            f"{one.file.latency_ms:.3f}",
            f"{one.as_float:.2%}",
            f"{one.as_own:.2%}",
            str(one.float_tensors),
        )
    # The width of the table, not of the terminal: it is also read from files.
    Console(width=125).print(table)


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Accuracy against size, a panel a network."""
    names = list(dict.fromkeys(one.network for one in rows))
    methods = list(dict.fromkeys(one.method for one in rows))
    figure, panels = pyplot.subplots(1, len(names), figsize=(11, 4.4), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        for one in (one for one in rows if one.network == name):
            color = f"C{methods.index(one.method)}"
            point = one.file.size_kb, 100 * one.file.accuracy
            panel.scatter(*point, s=90, color=color, label=one.method)
        panel.set(title=name, xlabel="TFLite file (KB)")
        panel.set_xlim(left=0)
        panel.margins(y=0.2)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("accuracy on the test images (%)")
    labels = panels[0, 0].get_legend_handles_labels()
    figure.suptitle(title)
    figure.legend(*labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", choices=[*SOURCES, "auto"], default="auto")
    parser.add_argument("--out", type=Path, default=Path("quantize.png"))
    parser.add_argument("--quick", action="store_true", help="few images, one epoch")
    return parser.parse_args()


if __name__ == "__main__":
    main()
