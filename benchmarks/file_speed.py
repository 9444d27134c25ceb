"""How fast int8 files are, beside the float file and TensorFlow's own int8 file.

    python benchmarks/file_speed.py [--quick] [--families NAME,NAME] [--side N]
        [--rounds N]

The models of keras.applications are untrained, but their batch normalizations hold the
statistics of a batch, as training leaves them. All files of a model run in turns on one
thread of LiteRT with its XNNPACK delegate; the table has medians.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _timing import CONSOLE, interleaved, machine, table
from ai_edge_litert.interpreter import Interpreter

import kopt

SAMPLES = 4
FAMILIES = "MobileNetV3Large,MobileNetV3Small"


def compare(family: str, side: int, rounds: int) -> list[str]:
    """Milliseconds of each file of a family, and what kopt's gain over TensorFlow's."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    entry = getattr(keras.applications, family)
    model = entry(weights=None, input_shape=(side, side, 3), classes=10)
    x = np.random.default_rng(0).uniform(0, 255, (SAMPLES, side, side, 3))
    x = x.astype("float32")
    with_statistics(model, x)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: runner(file) for name, file in made(model, x, Path(folder))}
        found = interleaved(files, rounds)
    gains = [found["TensorFlow"] / found[name] for name in ("data", "trained")]
    times = [f"{1e3 * seconds:.2f}" for seconds in found.values()]
    return [family, *times, *(f"{gain:.2f}" for gain in gains)]


def with_statistics(model: keras.Model, x: np.ndarray) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)


def made(
    model: keras.Model, x: np.ndarray, folder: Path
) -> Iterator[tuple[str, bytes]]:
    """The files by name; the model is quantized on the way."""
    path = folder / "m.tflite"
    kopt.export.tflite(model, path, verify=False)
    yield "float", path.read_bytes()
    yield "TensorFlow", theirs(model, x, folder)
    kopt.export.tflite(model, path, "int8", x, "int8", verify=False)
    yield "data", path.read_bytes()
    kopt.quantization.quantize_model(model, calibration_data=x)
    kopt.export.tflite(model, path, io_dtype="int8", verify=False)
    yield "trained", path.read_bytes()


def theirs(model: keras.Model, x: np.ndarray, folder: Path) -> bytes:
    """What TensorFlow's converter makes of the model without kopt."""
    kopt.export.saved_model(model, folder / "saved", batch_size=1, verify=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "saved"), signature_keys=["serving_default"]
    )
    (name,) = kopt.export.tflite(model, folder / "m.tflite", verify=False).inputs
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ({name: one[None]} for one in x)
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def runner(content: bytes) -> Callable[[], Any]:
    runtime = Interpreter(model_content=content, num_threads=1)
    runtime.allocate_tensors()
    for entry in runtime.get_input_details():
        values = np.random.default_rng(0).integers(-100, 100, entry["shape"])
        runtime.set_tensor(entry["index"], values.astype(entry["dtype"]))
    return runtime.invoke


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small, for CI")
    parser.add_argument("--families", help="names of keras.applications, with commas")
    parser.add_argument("--side", type=int, help="of the images, 224 by default")
    parser.add_argument("--rounds", type=int, help="30 by default")
    arguments = parser.parse_args()
    quick = arguments.quick
    families = arguments.families or ("MobileNet" if quick else FAMILIES)
    side = arguments.side or (32 if quick else 224)
    rounds = arguments.rounds or (3 if quick else 30)
    warnings.simplefilter("ignore")
    CONSOLE.print(machine("tensorflow", "keras", "ai-edge-litert"))
    rows = table(
        f"ms a picture of {side} x {side}, and TensorFlow's / kopt",
        *("family", "float", "int8, TensorFlow", "int8, data", "int8, trained"),
        *("gain, data", "gain, trained"),
    )
    for family in families.split(","):
        rows.add_row(*compare(family, side, rounds))
    CONSOLE.print(rows)


if __name__ == "__main__":
    main()
