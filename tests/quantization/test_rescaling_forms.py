"""Rescalings and normalizations by constants, in integers."""

import collections
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from kopt.export._file_contents import read
from kopt.quantization import _rescaling_forms, quantization_report, quantize_model
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled


def computed(layer, x):
    # Of its quantizer the form asks whether what comes out is a mask.
    layer.build(x.shape)
    ranges = dict.fromkeys(_rescaling_forms.between(layer, 1))
    layer.quantizer = SimpleNamespace(
        output_limit=None, ranges=ranges, rounded=lambda role, values: values
    )
    return _rescaling_forms.rescaling(layer, x)


KINDS = {
    "numbers": lambda: layers.Rescaling(1 / 127.5, -1.0),
    "channels": lambda: layers.Rescaling([0.5, 2.0, -1.0], [0.0, 1.0, 2.0]),
    "normalization": lambda: layers.Normalization(
        mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0]
    ),
    "normalization by numbers": lambda: layers.Normalization(
        axis=None, mean=100.0, variance=3000.0
    ),
    "normalization back": lambda: layers.Normalization(
        mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], invert=True
    ),
}


@pytest.mark.parametrize("shape", [(5, 3), (5, 6, 7, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_form_computes_what_the_layer_computes(random, shape, kind):
    layer = KINDS[kind]()
    x = random.uniform(0, 255, shape).astype("float32")
    np.testing.assert_allclose(computed(layer, x), layer(x), rtol=1e-4, atol=1e-5)


def test_rescaling_takes_images_of_integers(random):
    layer = layers.Rescaling(1 / 255)
    x = random.integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    np.testing.assert_allclose(computed(layer, x), layer(x), rtol=1e-5)


def behind(first, layer, shape):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(first(inputs)))


def by_number(**arguments):
    return layers.Normalization(axis=None, mean=100.0, variance=3000.0, **arguments)


def operations(path):
    found = read(path.read_bytes()).operations
    return collections.Counter(one.name for one in found if "QUANT" not in one.name)


IN_FRONT = {
    "convolution": (layers.Conv2D, (4, 3), {}, (8, 8, 3), {"CONV_2D": 1}),
    "rows": (layers.Dense, (4,), {}, (6,), {"FULLY_CONNECTED": 1}),
    "padding": (
        layers.Conv2D,
        (4, 3),
        {"padding": "same"},
        (8, 8, 3),
        {"MUL": 1, "ADD": 1, "CONV_2D": 1},
    ),
}


@pytest.mark.parametrize("kind", sampled(IN_FRONT, {"convolution"}))
def test_a_normalization_of_the_input_goes_into_the_weights(kind, random, tmp_path):
    follower, sizes, options, shape, wanted = IN_FRONT[kind]
    model = behind(by_number(), follower(*sizes, **options), shape)
    x = random.uniform(0, 255, (40, *shape)).astype("float32")
    steps, report = steps_apart(model, x, tmp_path / "m.tflite", io_dtype="int8")
    assert steps.max() < 3
    assert report.float_tensors == ()
    assert operations(tmp_path / "m.tflite") == wanted


@pytest.mark.slow
def test_a_normalization_that_was_adapted_goes_into_the_weights(random, tmp_path):
    x = random.uniform(0, 255, (40, 8, 8, 1)).astype("float32")
    first = layers.Normalization()
    first.adapt(x)
    model = behind(first, layers.Conv2D(4, 3), (8, 8, 1))
    steps, _ = steps_apart(model, x, tmp_path / "m.tflite", io_dtype="int8")
    assert steps.max() < 3
    assert operations(tmp_path / "m.tflite") == {"CONV_2D": 1}


FLOAT = {
    "sizes": ({"mean": [0.001, 1000.0], "variance": [1e-6, 1.0]}, "differ too much"),
    "distance": ({"mean": [1000.0, 0.0], "variance": [1.0, 1.0]}, "differ too much"),
    "axis": ({"axis": 1, "mean": [1.0, 2.0], "variance": [1.0, 2.0]}, "other axes"),
}


@pytest.mark.parametrize("kind", FLOAT)
def test_channels_without_a_common_grid_stay_float(kind, random):
    arguments, reason = FLOAT[kind]
    first = layers.Normalization(**arguments)
    shape = (2, 2) if "axis" in arguments else (2,)
    model = behind(first, layers.Dense(3), shape)
    x = first.mean + np.sqrt(first.variance) * random.normal(size=(50, *shape))
    x = np.asarray(x, "float32").reshape(50, *shape)
    exact = model.predict(x, verbose=0)
    quantize_model(model, calibration_data=x)
    (float_one,) = quantization_report(model).stays_float
    assert reason in float_one.note
    # Behind it there are the usual 8 bits.
    assert np.abs(model.predict(x, verbose=0) - exact).max() < 0.05 * np.ptp(exact)
