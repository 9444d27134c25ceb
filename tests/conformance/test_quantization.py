"""What holds for every layer class that has a rule for quantization.

A class is tested as soon as its rule is in the table. It is put behind a convolution
and before a dense layer; its constructor's required arguments are found by name.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kopt.quantization import (
    quantization_report,
    quantize_model,
    rule,
    strip_quantization,
)

# `Add.__base__` is the class of all layers that take a list of tensors alike.
MERGING = layers.Add.__base__
ARGUMENTS = {
    "activation": "tanh",
    "dims": (2, 3, 1),
    "filters": 4,
    "kernel_size": 2,
    "pool_size": 2,
    "scale": 0.5,
    "target_shape": (6, 6, 4),
    "units": 4,
}
CLASSES = sorted(rule._RULES, key=lambda one: one.__name__)


@pytest.fixture(params=CLASSES, ids=lambda one: one.__name__)
def layer(request):
    needed = [
        one.name
        for one in inspect.signature(request.param).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    return request.param(**{name: ARGUMENTS[name] for name in needed}, name="tested")


@pytest.fixture
def model(layer):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="before")(inputs)
    if isinstance(layer, MERGING):
        x = [x, layers.Conv2D(4, 3)(inputs), layers.Conv2D(4, 3)(inputs)]
    x = layers.Flatten()(layer(x))
    return keras.Model(inputs, layers.Dense(2, name="after")(x))


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")


@pytest.fixture
def quantized(model, images):
    return quantize_model(model, calibration_data=images)


def test_outputs_change_by_rounding_alone(model, images):
    exact = model(images).numpy()
    rounded = quantize_model(model, calibration_data=images)(images).numpy()
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)


def test_it_is_not_left_float(quantized):
    entry = quantization_report(quantized)["tested"]
    assert entry.state in ("integer", "passes"), entry
    assert quantization_report(quantized)["after"].state == "integer"


def test_gradients_reach_the_weights_in_front_of_it(quantized, images):
    kernel = quantized.get_layer("before").kernel.value
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(quantized(images, training=True) - 1.0))
    assert (tape.gradient(loss, kernel).numpy() != 0).all()


def test_it_comes_back_from_a_file(quantized, images, tmp_path):
    quantized.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.get_layer("tested")) is type(quantized.get_layer("tested"))
    np.testing.assert_array_equal(again(images), quantized(images))


def test_stripping_gives_its_own_class_and_values_back(model, layer, images):
    exact = model(images).numpy()
    kind = type(layer)
    strip_quantization(quantize_model(model, calibration_data=images))
    assert type(layer) is kind
    np.testing.assert_array_equal(model(images).numpy(), exact)
