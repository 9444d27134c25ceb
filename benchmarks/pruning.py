"""What pruning costs, beside TensorFlow Model Optimization (TF-MOT) in one run.

    python benchmarks/pruning.py [--quick] [--rounds N] [--only CASE]

Cases: `step` (a training step of a small network with and without pruning, and the same
with TF-MOT on the network's tf_keras twin), `refresh` (choosing the masks of 16.8
million weights anew) and `coverage` (which families of keras.applications each can
prune). Everything runs in graph mode, as in `fit` on a processor.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from _applications import FAMILIES, build
from _older_keras import tf_keras, tf_mot
from _timing import CONSOLE, interleaved, machine, table

import kopt

BATCH = 32
SPARSITY = 0.5


def theirs() -> tuple[Any, Any]:
    """TF-MOT's pruning and tf_keras."""
    return tf_mot().sparsity.keras, tf_keras()


def network(library: Any, side: int) -> Any:
    """Five convolutions with batch normalization, from either Keras."""
    layers = library.layers
    model = library.Sequential([library.Input((side, side, 3))])
    for filters in (32, 32, 64, 64, 128):
        strides = 2 if filters > 32 else 1
        model.add(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10))
    return model


def batches(side: int) -> Iterator[Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH, side, side, 3)).astype("float32")
    y = random.integers(0, 10, size=BATCH)
    return iter(tf.data.Dataset.from_tensors((x, y)).cache().repeat())


def stepper(library: Any, model: Any, side: int) -> Callable[[], Any]:
    """One training step a call, as `fit` takes it."""
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(library.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.make_train_function()
    data = batches(side)
    return lambda: model.train_function(data)


def schedule(package: Any) -> Any:
    return package.ConstantSparsity(SPARSITY, begin_step=0, frequency=100)


def step(quick: bool, rounds: int) -> None:
    side = 16 if quick else 32
    tfmot, older = theirs()
    pruned = network(keras, side)
    kopt.pruning.prune_low_magnitude(pruned, schedule(kopt.pruning))
    wrapped = tfmot.prune_low_magnitude(network(older, side), schedule(tfmot))
    with_theirs = stepper(older, wrapped, side)
    callback = tfmot.UpdatePruningStep()
    callback.set_model(wrapped)
    callback.on_train_begin()

    def their_step() -> None:
        callback.on_train_batch_begin(0)
        with_theirs()

    times = interleaved(
        {
            "Keras 3": stepper(keras, network(keras, side), side),
            "kopt": stepper(keras, pruned, side),
            "tf_keras": stepper(older, network(older, side), side),
            "TF-MOT": their_step,
        },
        rounds,
    )
    rows = table(
        f"A training step, batch of {BATCH}, {side} x {side}", "with", "ms", "ratio"
    )
    for name, plain in (("Keras 3", "Keras 3"), ("kopt", "Keras 3")):
        rows.add_row(
            name, f"{1e3 * times[name]:.2f}", f"{times[name] / times[plain]:.3f}"
        )
    for name, plain in (("tf_keras", "tf_keras"), ("TF-MOT", "tf_keras")):
        rows.add_row(
            name, f"{1e3 * times[name]:.2f}", f"{times[name] / times[plain]:.3f}"
        )
    CONSOLE.print(rows)
    CONSOLE.print(
        "The ratio is to the same Keras without pruning, between two renewals."
    )


def refresh(quick: bool, rounds: int) -> None:
    side = 512 if quick else 4096
    inputs = keras.Input((side,))
    layer = keras.layers.Dense(side, use_bias=False)
    model = keras.Model(inputs, layer(inputs))
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(SPARSITY))
    (group,) = model.kopt_pruning.groups
    tfmot, _ = theirs()
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    weight = tf.Variable(layer.kernel.value)
    mask, threshold = tf.Variable(tf.ones_like(weight)), tf.Variable(0.0)
    rule = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(1, tf.int64),
        pruning_vars=[(weight, mask, threshold)],
        pruning_schedule=tfmot.ConstantSparsity(SPARSITY, 1),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )

    @tf.function
    def with_kopt() -> None:
        # What a training step does at the steps that the schedule names.
        group._renew({})

    @tf.function
    def with_theirs() -> None:
        rule.conditional_mask_update()

    times = interleaved({"kopt": with_kopt, "TF-MOT": with_theirs}, rounds, warm_up=1)
    rows = table(
        f"Masks of {side * side / 1e6:.1f} million weights, chosen anew", "with", "ms"
    )
    for name, seconds in times.items():
        rows.add_row(name, f"{1e3 * seconds:.1f}")
    CONSOLE.print(rows)


def coverage(quick: bool, rounds: int) -> None:
    tfmot, older = theirs()
    rows = table("Pruning keras.applications", "family", "kopt", "TF-MOT", "s")
    for family in ["VGG16"] if quick else FAMILIES:
        begun = time.perf_counter()
        ours = pruned_by_kopt(family)
        other = pruned_by_theirs(tfmot, older, family)
        row = (family, ours, other, f"{time.perf_counter() - begun:.0f}")
        # What is known so far stays known if the rest is interrupted.
        CONSOLE.print(*row)
        rows.add_row(*row)
    CONSOLE.print(rows)


def pruned_by_kopt(family: str) -> str:
    keras.utils.clear_session()
    model = build(keras, family)
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(SPARSITY))
    train_a_step(keras, model, [])
    return f"{100 * kopt.pruning.sparsity_report(model).sparsity:.2f} %"


def pruned_by_theirs(tfmot: Any, older: Any, family: str) -> str:
    older.backend.clear_session()
    if not hasattr(older.applications, family):
        return "no such model in tf_keras"
    try:
        model = tfmot.prune_low_magnitude(
            build(older, family), tfmot.ConstantSparsity(SPARSITY, 1)
        )
        train_a_step(older, model, [tfmot.UpdatePruningStep()])
    except (ValueError, AttributeError, TypeError) as error:
        return f"no: {str(error).strip().splitlines()[0][:60]}"
    kernels = [
        weight.numpy()
        for layer in model.layers
        for weight, *_ in getattr(layer, "pruning_vars", [])
    ]
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels)
    return f"{100 * zeros / sum(kernel.size for kernel in kernels):.2f} %"


def train_a_step(library: Any, model: Any, callbacks: list[Any]) -> None:
    model.compile(library.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]), "float32")
    model.fit(x, np.array([0, 1]), batch_size=2, verbose=0, callbacks=callbacks)


CASES = {"step": step, "refresh": refresh, "coverage": coverage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small, same code path")
    parser.add_argument("--rounds", type=int, help="how often everybody is timed")
    parser.add_argument("--only", choices=CASES, help="a single case")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 60)
    CONSOLE.print(machine("tensorflow", "keras", "tf_keras"))
    for name, case in CASES.items():
        if arguments.only in (None, name):
            case(arguments.quick, rounds if name == "step" else min(rounds, 10))


if __name__ == "__main__":
    main()
