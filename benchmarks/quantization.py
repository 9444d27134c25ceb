"""Quantization-aware training: what it covers, what a step costs, what accuracy it has.

    python benchmarks/quantization.py [--quick] [--rounds N] [--only CASE]
        [--families NAME,NAME] [--seeds N]

Cases: `coverage` (14 families of keras.applications: one quantized training step, then
the float tensors left inside of the int8 file, without and with representative data),
`steps` (a quantized training step as a multiple of the float one, for kopt and for
TF-MOT on the tf_keras twin, in one run), `accuracy` (Fashion-MNIST or scikit-learn's
digits after 0 to 1000 steps, for both), `corrections` (what `equalize` and
`correct_bias` gain where only the weights are rounded and nothing is trained). TF-MOT
and tf_keras are dependencies of kopt.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _applications import FAMILIES, build
from _older_keras import tf_keras, tf_mot
from _timing import CONSOLE, interleaved, machine, table

import kopt

STEPS = [0, 10, 40, 200, 1000]
BATCH = 64
FASHION = Path("/usr/share/datasets/fashion-mnist")


def coverage(families: list[str]) -> None:
    """Two rows a family, for kopt and for TF-MOT on the tf_keras twin."""
    rows = table(
        "coverage: float tensors inside of the int8 file",
        *("family", "by", "trains a step", "no data", "with data", "what stays float"),
    )
    totals: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    for family in families:
        for library, found in (
            ("kopt", covered(family)),
            ("TF-MOT", covered_by_theirs(family)),
        ):
            totals[library]["trains"] += found["trains"]
            for title in ("no data", "with data"):
                totals[library][title] += found[title] == 0
            # What is known so far stays known if the rest is interrupted.
            CONSOLE.print(family, library, found)
            rows.add_row(family, library, *(str(value) for value in found.values()))
    for library, total in totals.items():
        counts = (f"{total[title]}" for title in ("trains", "no data", "with data"))
        rows.add_row(f"of {len(families)}", library, *counts)
    CONSOLE.print(rows)


def covered(family: str) -> dict[str, Any]:
    keras.utils.clear_session()
    model = build(keras, family, classifier_activation=None)
    x = pictures(model)
    kopt.quantization.quantize_model(model, calibration_data=x)
    found: dict[str, Any] = {"trains": trains_a_step(keras, model, x)}
    islands = kopt.quantization.quantization_report(model).stays_float
    names = collections.Counter(one.layer for one in islands)
    with tempfile.TemporaryDirectory() as folder:
        for title, data in (("no data", None), ("with data", x)):
            report = kopt.export.tflite(
                model, Path(folder) / "m.tflite", None, data, verify=False
            )
            found[title] = len(report.float_tensors)
    found["float"] = ", ".join(f"{n} {name}" for name, n in names.items()) or "nothing"
    return found


def covered_by_theirs(family: str) -> dict[str, Any]:
    older = tf_keras()
    older.backend.clear_session()
    try:
        model = build(older, family, classifier_activation=None)
        x = pictures(model)
        model = tf_mot().quantization.keras.quantize_model(model)
        found: dict[str, Any] = {"trains": trains_a_step(older, model, x)}
        found["no data"] = float_tensors(converted(model, None))
        found["with data"] = float_tensors(converted(model, x))
    except Exception as error:
        # Whatever it is: this library does not get as far.
        reason = str(error).strip().splitlines()[0]
        return {"trains": False, "no data": "-", "with data": "-", "why": reason[:60]}
    return {**found, "why": ""}


def pictures(model: Any) -> np.ndarray:
    shape = (4, *model.input_shape[1:])
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def trains_a_step(package: Any, model: Any, x: np.ndarray) -> bool:
    model.compile(package.optimizers.SGD(1e-5), cross_entropy(package))
    return bool(np.isfinite(float(model.train_on_batch(x, np.arange(len(x))))))


def converted(model: Any, data: np.ndarray | None) -> bytes:
    """A tf_keras model's file of integers, for one picture at a time."""

    @tf.function(autograph=False)
    def predict(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    graph = predict.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:])))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if data is not None:
        converter.representative_dataset = lambda: ([one[None]] for one in data)
    return converter.convert()


def float_tensors(content: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        path.write_bytes(content)
        return len(kopt.export.Interpreter(path).contents.float_tensors)


def cross_entropy(package: Any) -> Any:
    return package.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(package: Any, shape: tuple[int, ...], width: int) -> Any:
    """The same small network in Keras 3 and in tf_keras."""
    layers = package.layers

    def block(filters: int, strides: int) -> list:
        return [
            layers.Conv2D(filters, 3, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]

    return package.Sequential(
        [
            layers.InputLayer(shape),
            *block(width, 1),
            *block(2 * width, 2),
            *block(2 * width, 1),
            *block(4 * width, 2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def steps(rounds: int, size: int, batch: int) -> None:
    """Medians of a float step and a quantized step, of both libraries in turns."""
    older = tf_keras()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, size, size, 3)).astype("float32")
    y = generator.integers(0, 10, batch)
    functions = {}
    for name, package in (("kopt", keras), ("TF-MOT", older)):
        for kind in ("float", "quantized"):
            model = network(package, (size, size, 3), 16)
            if kind == "quantized" and name == "kopt":
                kopt.quantization.quantize_model(model, calibration_data=x)
            elif kind == "quantized":
                model = tf_mot().quantization.keras.quantize_model(model)
            functions[name, kind] = training_step(package, model, x, y)
    found = interleaved(functions, rounds)
    rows = table(
        f"training step, {size} x {size}, batch {batch}",
        *("library", "float ms", "quantized ms", "quantized / float"),
    )
    for name in ("kopt", "TF-MOT"):
        exact, rounded = found[name, "float"], found[name, "quantized"]
        rows.add_row(
            name,
            f"{1e3 * exact:.1f}",
            f"{1e3 * rounded:.1f}",
            f"{rounded / exact:.3f}",
        )
    CONSOLE.print(rows)


def training_step(package: Any, model: Any, x: np.ndarray, y: np.ndarray) -> Callable:
    model.compile(package.optimizers.Adam(1e-3), cross_entropy(package))
    model.make_train_function()
    data = iter(tf.data.Dataset.from_tensors((x, y)).repeat().prefetch(2))

    def step() -> None:
        logs = model.train_function(data)
        float(tf.nest.flatten(logs)[0])

    return step


def accuracy(seeds: int, most: int, epochs: int, samples: int) -> None:
    """Both start from the same trained float weights and see the same batches."""
    older = tf_keras()
    name, *parts = images()
    train, test = ((x[:samples], y[:samples]) for x, y in parts)
    checkpoints = [number for number in STEPS if number <= most]
    results: dict[str, list[list[float]]] = collections.defaultdict(list)
    for seed in range(seeds):
        model = trained_float(train, epochs, seed)
        twin = network(older, train[0].shape[1:], 8)
        twin.set_weights(model.get_weights())
        results["float"].append([right(model, test)] * len(checkpoints))
        kopt.quantization.quantize_model(
            model, calibration_data=(train[0][:500], train[1][:500])
        )
        twin = tf_mot().quantization.keras.quantize_model(twin)
        for title, package, one in (("kopt", keras, model), ("TF-MOT", older, twin)):
            one.compile(package.optimizers.Adam(3e-4), cross_entropy(package))
            results[title].append(tuned(one, train, test, checkpoints, seed))
        for title, values in results.items():
            # What is known so far stays known if the rest is interrupted.
            CONSOLE.print(f"seed {seed}, {title}: {percents(values[-1])}")
    rows = table(
        f"accuracy on {name} after steps, mean of {seeds} seeds",
        *("library", *map(str, checkpoints)),
    )
    for title, values in results.items():
        rows.add_row(title, *percents(np.mean(values, axis=0)).split())
    CONSOLE.print(rows)


def trained_float(train: tuple, epochs: int, seed: int) -> keras.Model:
    """To the end, so that what tuning gains is not what the float model still lacks."""
    keras.utils.set_random_seed(seed)
    model = network(keras, train[0].shape[1:], 8)
    decay = keras.optimizers.schedules.CosineDecay(
        3e-3, epochs * -(-len(train[0]) // BATCH)
    )
    model.compile(keras.optimizers.Adam(decay), cross_entropy(keras))
    model.fit(*train, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def corrections(seeds: int, epochs: int, samples: int) -> None:
    """Accuracy with rounded weights, as they are and put right beforehand."""
    name, *parts = images()
    train, test = ((x[:samples], y[:samples]) for x, y in parts)
    results: dict[tuple[str, int], list[list[float]]] = collections.defaultdict(list)
    for seed in range(seeds):
        model = trained_float(train, epochs, seed)
        results["float", 32].append([right(model, test)] * 4)
        for per_channel in (False, True):
            for bits in (8, 4):
                found = []
                for equal, unbiased in ((0, 0), (1, 0), (0, 1), (1, 1)):
                    copy = keras.models.clone_model(model)
                    copy.set_weights(model.get_weights())
                    if equal:
                        kopt.quantization.equalize(copy)
                    if unbiased:
                        kopt.quantization.correct_bias(
                            copy, train[0][:300], bits, per_channel=per_channel
                        )
                    round_weights(copy, bits, per_channel)
                    found.append(right(copy, test))
                scale = "a scale for each " + ("channel" if per_channel else "layer")
                results[scale, bits].append(found)
    rows = table(
        f"accuracy on {name} with rounded weights, mean of {seeds} seeds",
        *("weights", "bits", "as they are", "equalize", "correct_bias", "both"),
    )
    for (title, bits), values in results.items():
        rows.add_row(title, str(bits), *percents(np.mean(values, axis=0)).split())
    CONSOLE.print(rows)


def round_weights(model: keras.Model, bits: int, per_channel: bool) -> None:
    """Round each kernel together with the batch normalization behind it."""
    for layer, behind in itertools.zip_longest(model.layers, model.layers[1:]):
        if not hasattr(layer, "kernel"):
            continue
        kernel = layer.kernel.numpy()
        scale = np.ones(kernel.shape[-1], "float32")
        if isinstance(behind, keras.layers.BatchNormalization):
            deviation = np.sqrt(behind.moving_variance.numpy() + behind.epsilon)
            scale = behind.gamma.numpy() / deviation
        folded = kernel * scale
        axes = tuple(range(kernel.ndim - 1)) if per_channel else None
        step = np.abs(folded).max(axes, keepdims=True) / (2 ** (bits - 1) - 1)
        layer.kernel.assign(np.round(folded / step) * step / scale)


def percents(shares: Iterable[float]) -> str:
    return " ".join(f"{share:.2%}" for share in shares)


def tuned(
    model: Any, train: tuple, test: tuple, checkpoints: list[int], seed: int
) -> list[float]:
    generator, found = np.random.default_rng(seed), []
    for number in range(checkpoints[-1] + 1):
        if number in checkpoints:
            found.append(right(model, test))
        chosen = generator.integers(0, len(train[0]), BATCH)
        model.train_on_batch(train[0][chosen], train[1][chosen])
    return found


def right(model: Any, test: tuple[np.ndarray, np.ndarray]) -> float:
    logits = model.predict(test[0], batch_size=500, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == test[1]))


def images() -> tuple[str, tuple, tuple]:
    """Fashion-MNIST where it is installed, else scikit-learn's digits."""
    if FASHION.is_dir():
        import gzip

        def read(name: str, offset: int) -> np.ndarray:
            content = gzip.decompress((FASHION / name).read_bytes())
            return np.frombuffer(content, np.uint8, offset=offset)

        def split(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
            x = read(f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
            y = read(f"{name}-labels-idx1-ubyte.gz", 8)
            return (x[:count] / 255).astype("float32"), y[:count].astype("int32")

        return "Fashion-MNIST", split("train", 20_000), split("t10k", 10_000)
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    return "digits", (x[:1400], y[:1400]), (x[1400:], y[1400:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small, for CI")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", help="one of the cases")
    parser.add_argument("--families", help="names in keras.applications, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="of trained networks")
    arguments = parser.parse_args()
    quick = arguments.quick
    families = ["MobileNet"] if quick else list(FAMILIES)
    if arguments.families:
        families = arguments.families.split(",")
    cases: dict[str, Callable[[], None]] = {
        "coverage": lambda: coverage(families),
        "steps": lambda: steps(*((3, 16, 8) if quick else (arguments.rounds, 32, 32))),
        "accuracy": lambda: accuracy(
            *((1, 10, 1, 2_000) if quick else (arguments.seeds, 1000, 8, 20_000))
        ),
        "corrections": lambda: corrections(
            *((1, 1, 2_000) if quick else (arguments.seeds, 8, 20_000))
        ),
    }
    if arguments.only:
        cases = {arguments.only: cases[arguments.only]}
    warnings.simplefilter("ignore")
    CONSOLE.print(
        machine("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization")
    )
    for run in cases.values():
        run()


if __name__ == "__main__":
    main()
