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
    "activation": lambda: "tanh",
    "axes": lambda: 2,
    "cell": lambda: layers.LSTMCell(4),
    "dims": lambda: (2, 1),
    "equation": lambda: "abc,cd->abd",
    "filters": lambda: 4,
    "head_dim": lambda: 3,
    "height": lambda: 4,
    "key_dim": lambda: 3,
    "kernel_size": lambda: 2,
    "layer": lambda: layers.LSTM(4),
    "n": lambda: 3,
    "num_heads": lambda: 2,
    "num_key_value_heads": lambda: 2,
    "num_query_heads": lambda: 4,
    "output_shape": lambda: (36, 4),
    "pool_size": lambda: 2,
    "scale": lambda: 0.5,
    "target_shape": lambda: (72, 2),
    "units": lambda: 4,
    "width": lambda: 4,
}
# What a layer may take, the first that it does.
SHAPES = [(6, 6, 4), (36, 4), (144,), (6, 2, 3, 4)]
SEQUENCE = (12, 12)
OVER_TIME = {layers.ConvLSTM1D: (3, 12, 4), layers.ConvLSTM2D: (2, 6, 6, 2)}
ATTENDING = (layers.MultiHeadAttention, layers.GroupQueryAttention)
# Those of tests/quantization: tables take whole numbers, through which no gradient
# comes, the cell is met in its layers, and one in 3D stays float, as it says.
ELSEWHERE = {"Embedding", "ReversibleEmbedding", "ConvLSTMCell", "ConvLSTM3D"}
CLASSES = sorted(
    (one for one in rule._RULES if one.__name__ not in ELSEWHERE),
    key=lambda one: one.__name__,
)


def made(kind):
    needed = [
        one.name
        for one in inspect.signature(kind).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    arguments = {name: ARGUMENTS[name]() for name in needed}
    if kind is layers.GroupNormalization:
        arguments["groups"] = 2  # the default has more than there are channels
    return kind(**arguments, name="tested")


def is_recurrent(layer):
    return hasattr(layer, "state_size") or isinstance(layer, layers.Bidirectional)


def shapes_for(layer):
    """What it may be given: a layer may take an image and not know what to do."""
    if type(layer) in OVER_TIME:
        return [OVER_TIME[type(layer)]]
    if is_recurrent(layer) or isinstance(layer, (*ATTENDING, layers.Attention)):
        return [SEQUENCE]
    return SHAPES


def called(layer, x):
    if isinstance(layer, ATTENDING):
        return layer(x, x)
    if isinstance(layer, layers.Attention):
        return layer([x, x])
    if is_recurrent(layer) and not isinstance(
        layer, (layers.RNN, layers.Bidirectional)
    ):
        return layers.RNN(layer)(x)  # a cell
    if not isinstance(layer, MERGING):
        return layer(x)
    others = 1 if isinstance(layer, (layers.Subtract, layers.Dot)) else 2
    return layer([x, *(layers.Dense(x.shape[-1])(x) for _ in range(others))])


def surrounded(kind):
    """A layer of a kind behind a convolution and before a dense layer."""
    errors = []
    for shape in shapes_for(made(kind)):
        layer, inputs = made(kind), keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, name="before")(inputs)
        try:
            x = called(layer, layers.Reshape(shape)(x))
        except (ValueError, TypeError, IndexError) as error:
            errors.append(error)
            continue
        x = layers.Dense(2, name="after")(layers.Flatten()(x))
        return keras.Model(inputs, x), layer
    raise ExceptionGroup(f"{kind} takes none of {SHAPES}", errors)


@pytest.fixture(params=CLASSES, ids=lambda one: one.__name__)
def both(request):
    keras.utils.set_random_seed(0)
    return surrounded(request.param)


@pytest.fixture
def model(both):
    return both[0]


@pytest.fixture
def layer(both):
    return both[1]


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


def test_it_is_left_float_only_where_its_rule_says_so(quantized, layer):
    entry = quantization_report(quantized)["tested"]
    states = ("integer", "passes")
    if rule.rule_for(layer).role == "float":
        states = ("float",)
    assert entry.state in states, entry
    assert quantization_report(quantized)["after"].state == "integer"


@pytest.mark.slow
def test_gradients_reach_the_weights_in_front_of_it(quantized, images):
    kernel = quantized.get_layer("before").kernel.value
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(quantized(images, training=True) - 1.0))
    assert (tape.gradient(loss, kernel).numpy() != 0).all()


@pytest.mark.slow
def test_it_comes_back_from_a_file(quantized, images, tmp_path):
    quantized.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    kinds = [type(one) for one in again.layers]
    assert kinds == [type(one) for one in quantized.layers]
    np.testing.assert_array_equal(again(images), quantized(images))


@pytest.mark.slow
def test_stripping_gives_its_own_class_and_values_back(model, layer, images):
    exact = model(images).numpy()
    kind = type(layer)
    strip_quantization(quantize_model(model, calibration_data=images))
    assert type(layer) is kind
    np.testing.assert_array_equal(model(images).numpy(), exact)
