"""What equalization and bias correction gain on a net of depthwise convolutions."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import correct_bias, equalize
from tests.real.datasets import fashion_mnist

pytestmark = [pytest.mark.real, pytest.mark.thorough]


def normalized(x, layer):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layer(x)))


def network():
    inputs = keras.Input((28, 28, 1))
    first = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)
    x = normalized(inputs, first)
    for filters, strides in [(24, 1), (32, 2), (48, 1)]:
        depthwise = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False
        )
        x = normalized(x, depthwise)
        x = normalized(x, layers.Conv2D(filters, 1, use_bias=False))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def data():
    return fashion_mnist(train=12_000)


@pytest.fixture(scope="module")
def trained(data):
    keras.utils.set_random_seed(0)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(*data.train, batch_size=128, epochs=3, verbose=0)
    return model


@pytest.fixture
def model(trained):
    copy = keras.models.clone_model(trained)
    copy.set_weights(trained.get_weights())
    return copy


def accuracy(model, data):
    scores = model.predict(data.test[0], batch_size=500, verbose=0)
    return float((scores.argmax(axis=-1) == data.test[1]).mean())


def rounded_accuracy(model, data, bits, *, per_channel):
    """With weights on symmetric grids, batch normalizations in them, by NumPy."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer, behind in zip(copy.layers, [*copy.layers[1:], None], strict=True):
        if not hasattr(layer, "kernel"):
            continue
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        scale = np.ones(())
        if isinstance(behind, layers.BatchNormalization):
            scale = behind.gamma.numpy() / np.sqrt(
                behind.moving_variance.numpy() + behind.epsilon
            )
            scale = scale[:, None] if depthwise else scale
        folded = layer.kernel.numpy() * scale
        rows = (0, 1) if depthwise else tuple(range(folded.ndim - 1))
        axis = rows if per_channel else None
        step = np.abs(folded).max(axis=axis, keepdims=True) / (2 ** (bits - 1) - 1)
        layer.kernel.assign(np.round(folded / step) * step / scale)
    return accuracy(copy, data)


def test_bias_correction_wins_back_most_of_what_three_bits_lose(trained, model, data):
    best = accuracy(trained, data)
    plain = rounded_accuracy(model, data, 3, per_channel=True)
    correct_bias(model, data.train[0][:512], bits=3, per_channel=True)
    corrected = rounded_accuracy(model, data, 3, per_channel=True)
    assert best - plain > 0.1
    assert best - corrected < 0.5 * (best - plain)


def test_both_win_back_most_of_what_one_scale_a_layer_loses(trained, model, data):
    best = accuracy(trained, data)
    plain = rounded_accuracy(model, data, 4, per_channel=False)
    equalize(model)
    assert abs(accuracy(model, data) - best) < 5e-4
    correct_bias(model, data.train[0][:512], bits=4, per_channel=False)
    both = rounded_accuracy(model, data, 4, per_channel=False)
    assert best - plain > 0.02
    assert best - both < 0.6 * (best - plain)
