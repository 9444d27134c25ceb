"""Layers that the file computes by the runtime's own operation."""

import collections

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export._file_contents import read
from kopt.export._runtime_forms import runtime_forms
from tests.sampling import sampled

LAYERS = {
    "square": (lambda: layers.UpSampling2D(), (4, 5, 2)),
    "oblong": (lambda: layers.UpSampling2D((2, 3)), (4, 5, 2)),
    "channels first": (
        lambda: layers.UpSampling2D(data_format="channels_first"),
        (2, 4, 5),
    ),
    "bilinear": (lambda: layers.UpSampling2D(interpolation="bilinear"), (4, 5, 2)),
    "sequences": (lambda: layers.UpSampling1D(3), (5, 2)),
    "embedding": (lambda: layers.Embedding(9, 2), (5,)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_runtimes_form_computes_the_same(kind, random):
    make, shape = LAYERS[kind]
    inputs = keras.Input(shape)
    layer = make()
    model = keras.Model(inputs, layer(inputs))
    x = random.integers(0, 9, (3, *shape)).astype("float32")
    exact = np.asarray(model(x))
    with runtime_forms(model):
        np.testing.assert_array_equal(np.asarray(model(x)), exact)
    assert "call" not in vars(layer)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_upsampling_is_one_resize(quantization, random, tmp_path):
    x = random.normal(size=(40, 4, 4, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(4, 1),
            layers.UpSampling2D(),
            layers.Conv2D(2, 3),
        ]
    )
    path = tmp_path / "m.tflite"
    data = None if quantization is None else x
    kopt.export.tflite(model, path, quantization, data)
    found = collections.Counter(one.name for one in read(path.read_bytes()).operations)
    assert found["RESIZE_NEAREST_NEIGHBOR"] == 1
    assert not {"TILE", "RESHAPE"} & found.keys()


def test_a_layer_that_computes_something_else_is_left_alone(random):
    class Doubled(layers.UpSampling2D):
        def call(self, inputs):
            return 2.0 * super().call(inputs)

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, Doubled()(inputs))
    x = random.normal(size=(2, 4, 4, 3)).astype("float32")
    exact = np.asarray(model(x))
    with runtime_forms(model):
        np.testing.assert_array_equal(np.asarray(model(x)), exact)


def with_hard_silu(kind):
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 1, activation="hard_silu" if kind == "argument" else None)
    x = first(inputs)
    if kind == "layer":
        x = layers.Activation("hard_silu")(x)
    if kind == "operation":
        x = keras.ops.hard_silu(x)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def with_prelu(slope, shared=(1, 2)):
    inputs = keras.Input((8, 8, 3))
    slopes = layers.PReLU(
        alpha_initializer=keras.initializers.Constant(slope), shared_axes=shared
    )
    return keras.Model(inputs, layers.Conv2D(2, 1)(slopes(layers.Conv2D(4, 1)(inputs))))


IN_PARTS = {
    "hard-silu": (lambda: with_hard_silu("layer"), "HARD_SWISH", 5.0),
    "hard-silu as an argument": (lambda: with_hard_silu("argument"), "HARD_SWISH", 5.0),
    "hard-silu alone": (lambda: with_hard_silu("operation"), "HARD_SWISH", 5.0),
    "hard-silu of small values": (lambda: with_hard_silu("layer"), "HARD_SWISH", 1e-4),
    "slopes": (lambda: with_prelu(0.2), "PRELU", 1.0),
    "slopes below zero": (lambda: with_prelu(-0.5), "PRELU", 1.0),
    "slopes of places": (lambda: with_prelu(0.2, None), "PRELU", 1.0),
}


@pytest.mark.parametrize("kind", sampled(IN_PARTS, {"hard-silu"}))
def test_an_activation_is_parts_that_delegates_take(kind, random, tmp_path):
    make, whole, size = IN_PARTS[kind]
    keras.utils.set_random_seed(0)
    model = make()
    x = random.normal(size=(40, 8, 8, 3)).astype("float32") * np.float32(size)
    exact = model.predict(x, verbose=0)
    path = tmp_path / "m.tflite"
    report = kopt.export.tflite(model, path, "int8", x, "int8")
    assert whole not in {one.name for one in read(path.read_bytes()).operations}
    assert kopt.export.check(path, "xnnpack").passed
    # Each of up to four roundings in a row moves a value by up to half a step.
    assert report.mean_difference < 2 * np.ptp(exact) / 255
    np.testing.assert_array_equal(model.predict(x, verbose=0), exact)


@pytest.mark.slow
def test_a_slope_above_one_keeps_the_runtimes_operation(random, tmp_path):
    x = random.normal(size=(40, 8, 8, 3)).astype("float32")
    path = tmp_path / "m.tflite"
    assert kopt.export.tflite(with_prelu(1.5), path, "int8", x).verified
    assert "PRELU" in {one.name for one in read(path.read_bytes()).operations}


@pytest.mark.slow
def test_a_stateful_network_is_looked_at_in_its_own_batches(random, tmp_path):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(3, 2, 4)),
            layers.SimpleRNN(4, stateful=True),
            layers.PReLU(),
            layers.Dense(2, activation="hard_silu"),
        ]
    )
    x = random.normal(size=(16, 2, 4)).astype("float32")
    path = tmp_path / "m.tflite"
    assert kopt.export.tflite(model, path, "int8", x, batch_size=3).verified
    assert not np.any(model.layers[0].states[0])


AVERAGING = {
    "layer normalization": (layers.LayerNormalization, ()),
    "group normalization": (lambda: layers.GroupNormalization(2), ()),
    "chosen pool": (lambda: layers.GlobalAveragePooling2D(name="pool"), ("pool",)),
    "chosen window": (lambda: layers.AveragePooling2D(2, name="pool"), ("pool",)),
}


@pytest.mark.parametrize("kind", AVERAGING)
def test_what_averages_in_float_does_so_in_the_file(kind, random, tmp_path):
    # A converter took the average of integers for one on their grid: the means of a
    # normalization were rounded to steps of what it normalizes.
    make, chosen = AVERAGING[kind]
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(4, 3, name="conv"), make(), layers.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 2)), *stack, layers.Dense(3)])
    x = random.normal(size=(50, 6, 6, 2)).astype("float32")
    config = kopt.quantization.Int8(float_layers=list(chosen))
    kopt.quantization.quantize_model(model, config, calibration_data=x)
    path = tmp_path / "m.tflite"
    assert kopt.export.tflite(model, path, verify=x).max_lsb <= 1.01
    contents = kopt.export.Interpreter(path).contents
    averages = [
        one for one in contents.operations if one.name in ("MEAN", "AVERAGE_POOL_2D")
    ]
    assert averages
    for one in averages:
        assert contents.tensors[one.outputs[0]].is_float
