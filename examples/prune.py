"""Accuracy against sparsity, pattern by pattern, and what the zeros save in a file.

Trains one image classifier, prunes copies of it while they train on, and exports each
as a dense and as a sparse TFLite file. Runs offline in a few minutes on two cores:

    python examples/prune.py            # real data that is installed
    python examples/prune.py --quick    # a small part of it, to see that it works

The table has the accuracy on test images of each sparse file, the sizes of both files,
and how long each takes for an image. The picture goes to prune.png.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from quickstart_parts.data import SOURCES, Data, load
from rich.console import Console
from rich.table import Table

import kopt

SEED = 1
BATCH_SIZE = 64
SPARSITIES = (0.5, 0.75, 0.9, 0.95, 0.99)

# TFLite stores a kernel as (outputs, inputs): its 1 x 4 block is four inputs of one
# output, `block_size=(4, 1)`.
PATTERNS: dict[str, dict[str, Any]] = {
    "single weights, each kernel alike": {},
    "single weights, where it hurts least": dict(scope="global"),
    "blocks of 4 inputs (1 x 4)": dict(block_size=(4, 1)),
    "blocks of 16 inputs (1 x 16)": dict(block_size=(16, 1)),
    "2 of every 4 inputs": dict(sparsity_m_by_n=(2, 4)),
    "whole filters and units, taken out": dict(structure="filters"),
}


@dataclass(frozen=True)
class Budget:
    """How long the network trains, in epochs, and how many images it sees."""

    images: int = 10_000
    train: int = 5
    prune: int = 3
    sparsities: tuple[float, ...] = SPARSITIES


QUICK = Budget(images=1_000, train=1, prune=1, sparsities=(0.9,))


@dataclass(frozen=True)
class Row:
    """One pruned network, as a dense and as a sparse file."""

    pattern: str
    sparsity: float
    accuracy: float
    dense: kopt.evaluation.Measurement
    sparse: kopt.evaluation.Measurement


def main() -> None:
    arguments = parse()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    started = time.perf_counter()
    budget = QUICK if arguments.quick else Budget()
    data = load(arguments.data, train_size=budget.images)
    print(f"{data.name}: {data.sizes}")
    keras.utils.set_random_seed(SEED)
    trained = network(data)
    fit(trained, data, budget.train, rate=3e-3)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured("not pruned", trained, data, Path(folder))]
        for pattern, options in PATTERNS.items():
            for sparsity in sparsities_of(options, budget):
                model = pruned(trained, data, budget, sparsity, options)
                rows.append(measured(pattern, model, data, Path(folder)))
                progress(rows[-1])
    title = f"{data.name}: {data.sizes}"
    print_table(rows, title)
    draw(rows, title, arguments.out)
    print(f"{time.perf_counter() - started:.0f} s in all; picture: {arguments.out}")
    if arguments.quick:
        print("With --quick the figures only show that everything runs.")


def network(data: Data) -> keras.Model:
    """Three convolutions and two dense layers, which hold most of the weights."""
    layers = keras.layers
    model = keras.Sequential([keras.Input(data.shape)])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu", name="hidden"))
    model.add(layers.Dense(data.classes, activation="softmax", name="classes"))
    return model


def fit(model: keras.Model, data: Data, epochs: int, rate: float) -> None:
    schedule = kopt.schedules.Warmup(kopt.schedules.Cosine(rate, steps=1.0), steps=0.1)
    model.compile(
        kopt.AdamW(rate, weight_decay=1e-2), "sparse_categorical_crossentropy"
    )
    callbacks = [kopt.callbacks.FitSchedule(schedule)]
    model.fit(
        *data.train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )


def pruned(
    trained: keras.Model,
    data: Data,
    budget: Budget,
    sparsity: float,
    options: Mapping[str, Any],
) -> keras.Model:
    """A copy of the network, pruned step by step while it trains on."""
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    steps = budget.prune * -(-len(data.train[0]) // BATCH_SIZE)
    schedule = kopt.pruning.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=0,
        end_step=int(0.6 * steps),  # the rest is for the weights that are left
        frequency=max(1, steps // 40),
    )
    kopt.pruning.prune_low_magnitude(model, schedule, layers=prunable(model), **options)
    fit(model, data, budget.prune, rate=3e-3)
    return kopt.pruning.strip_pruning(model)


def prunable(model: keras.Model) -> list[keras.Layer]:
    """All but the first convolution and the last layer: few weights, much needed."""
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return kernels[1:-1]


def sparsities_of(options: Mapping[str, Any], budget: Budget) -> tuple[float, ...]:
    if "sparsity_m_by_n" not in options:
        return budget.sparsities
    zeros, group = options["sparsity_m_by_n"]
    return (zeros / group,)


def measured(pattern: str, model: keras.Model, data: Data, folder: Path) -> Row:
    report = kopt.pruning.sparsity_report(model)
    names = {layer.name for layer in prunable(model)}
    chosen = [w for w in report.weights if w.path.split("/")[-2] in names]
    share = sum(w.zeros for w in chosen) / sum(w.size for w in chosen)
    if "structure" in PATTERNS.get(pattern, {}):
        model = kopt.pruning.remove_filters(model)
    paths = {sparse: folder / f"sparse_{sparse}.tflite" for sparse in (False, True)}
    for sparse, path in paths.items():
        kopt.export.tflite(model, path, sparse=sparse, verify=data.test[0][:200])
    dense, sparse = (
        kopt.evaluation.measure(path, data.test, runs=300) for path in paths.values()
    )
    return Row(pattern, share, sparse.accuracy or 0.0, dense, sparse)


def progress(row: Row) -> None:
    print(
        f"{row.pattern:>37}  {row.sparsity:4.0%} zeros  accuracy {row.accuracy:.2%}",
        flush=True,
    )


def print_table(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    table.add_column("Pattern")
    for column in (
        "zeros",
        "accuracy",
        "KB",
        "KB gzip",
        "KB sparse",
        "ms dense",
        "ms sparse",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.pattern,
            f"{row.sparsity:.0%}",
            f"{row.accuracy:.2%}",
            f"{row.dense.size_kb:.0f}",
            f"{row.dense.gzip_kb:.0f}",
            f"{row.sparse.size_kb:.0f}",
            f"{row.dense.latency_ms:.4f}",
            f"{row.sparse.latency_ms:.4f}",
        )
    Console(width=120).print(table)


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Accuracy, size and latency against sparsity, a line for each pattern."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    quantities = {
        "accuracy (%)": lambda row: 100 * row.accuracy,
        "sparse file (KB)": lambda row: row.sparse.size_kb,
        "sparse file, ms an image": lambda row: row.sparse.latency_ms,
    }
    patterns = list(dict.fromkeys(row.pattern for row in rows[1:]))
    for ax, (label, value) in zip(axes, quantities.items(), strict=True):
        ax.axhline(value(rows[0]), color="0.6", linestyle=":", label="not pruned")
        for pattern in patterns:
            chosen = [row for row in rows if row.pattern == pattern]
            x = [100 * row.sparsity for row in chosen]
            ax.plot(x, [value(row) for row in chosen], "o-", label=pattern)
        ax.set(xlabel="zeros (%)", ylabel=label)
        ax.set_ylim(bottom=0 if ax is not axes[0] else None)
    axes[0].legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    choices = [*SOURCES, "auto"]
    parser.add_argument(
        "--data", choices=choices, default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="little data, one sparsity, one epoch"
    )
    parser.add_argument("--out", type=Path, default=Path("prune.png"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
