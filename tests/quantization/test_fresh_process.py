"""Files of every kind of quantized model, read by a process that made none of them."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from kopt.quantization import (
    Int4Weights,
    Int8,
    quantize_annotate_layer,
    quantize_apply,
    quantize_model,
)

pytestmark = pytest.mark.slow


def functional(build, shape):
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def dense():
    return functional(
        lambda x: layers.Dense(3)(layers.Dense(4, "relu")(x)),
        (6,),
    )


def convolutions():
    inside = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.SeparableConv2D(3, 3), layers.PReLU()]
    )
    return functional(
        lambda x: layers.GlobalAveragePooling2D()(
            layers.BatchNormalization()(inside(layers.Rescaling(0.5)(x)))
        ),
        (6, 6, 2),
    )


def operations():
    return functional(
        lambda x: layers.Dense(3)(ops.relu(layers.Dense(4)(x) * 2.0 + 1.0)), (6,)
    )


def recurrent():
    def build(x):
        x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
        return layers.LSTM(3)(x)

    return functional(build, (3, 4))


def attention():
    return functional(
        lambda x: layers.Dense(3)(layers.MultiHeadAttention(2, 4)(x, x)), (5, 6)
    )


def annotated():
    return functional(
        lambda x: layers.Dense(3)(quantize_annotate_layer(layers.Dense(4))(x)), (6,)
    )


KINDS = {
    "dense": lambda x: quantize_model(dense(), calibration_data=x),
    "convolutions": lambda x: quantize_model(convolutions(), calibration_data=x),
    "operations": lambda x: quantize_model(operations(), calibration_data=x),
    "recurrent": lambda x: quantize_model(recurrent(), calibration_data=x),
    "attention": lambda x: quantize_model(attention(), calibration_data=x),
    "int4": lambda x: quantize_model(dense(), Int4Weights(), x),
    "learned ranges": lambda x: quantize_model(dense(), Int8(learned_ranges=True), x),
    "annotated": lambda x: quantize_apply(annotated(), calibration_data=x),
    "taught": lambda x: quantize_model(dense(), None, x, teacher=True),
}
SHAPES = {
    "convolutions": (6, 6, 2),
    "recurrent": (3, 4),
    "attention": (5, 6),
}

READER = """
    import json
    import keras, numpy as np, tensorflow as tf
    import kopt

    for name in json.load(open("names.json")):
        x = np.load(f"{name}.npy")
        model = keras.saving.load_model(f"{name}.keras")
        assert kopt.quantization.is_quantized(model), name
        built = keras.models.model_from_json(open(f"{name}.json").read())
        built.load_weights(f"{name}.weights.h5")
        served = tf.saved_model.load(name)
        np.savez(
            f"{name}.npz",
            keras=model.predict(x, verbose=0),
            weights=built.predict(x, verbose=0),
            saved_model=served.serve(x),
        )
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """By model and file, what it predicts here and in another process."""
    folder, here = tmp_path_factory.mktemp("files"), {}
    random = np.random.default_rng(0)
    for name, make in KINDS.items():
        keras.utils.set_random_seed(0)
        x = random.normal(size=(8, *SHAPES.get(name, (6,)))).astype("float32")
        model = make(x)
        np.save(folder / f"{name}.npy", x)
        model.save(folder / f"{name}.keras")
        (folder / f"{name}.json").write_text(model.to_json())
        model.save_weights(folder / f"{name}.weights.h5")
        model.export(folder / name, verbose=False)
        here[name] = model.predict(x, verbose=0)
    (folder / "names.json").write_text(json.dumps(list(KINDS)))
    package = Path(kopt.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READER)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(package)},
        check=True,
    )
    there = {name: dict(np.load(folder / f"{name}.npz")) for name in KINDS}
    return here, there


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("file", ["keras", "weights", "saved_model"])
def test_a_file_means_the_same_to_another_process(name, file, outputs):
    here, there = outputs
    np.testing.assert_array_equal(there[name][file], here[name])
