"""Every bias of a file is in the steps that its operation counts in.

The runtime multiplies the scales of an operation's input and kernel, and takes the bias
to be in these steps, whatever scale the file gives it (TensorFlow Lite 8-bit
quantization specification, "bias").
"""

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export import Interpreter
from kopt.export._own_biases import _PLACES, with_own_biases

X = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
IMAGES = np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype("float32")


def twice(random):
    """A layer that is called on what it made itself."""
    inputs = keras.Input((8,))
    layer = layers.Dense(8, activation="relu")
    model = keras.Model(inputs, layers.Dense(3)(layer(layer(inputs))))
    layer.bias.assign(random.normal(size=8))
    return model, X


def two_sizes(random):
    """A layer that is called on two inputs, of which one is larger."""
    one, other = keras.Input((8,)), keras.Input((8,))
    layer = layers.Dense(6, activation="relu")
    larger = layers.Rescaling(20.0)(other)
    model = keras.Model([one, other], layers.Add()([layer(one), layer(larger)]))
    layer.bias.assign(random.normal(size=6))
    return model, [X, X[::-1]]


def equal_layers(random):
    """Two layers whose biases are the same numbers."""
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(8)]
    )
    bias = random.normal(size=8)
    for layer in model.layers:
        layer.bias.assign(bias)
    return model, X


def convolutions(random):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.DepthwiseConv2D(2),
            layers.Conv2DTranspose(4, 2),
        ]
    )
    bias = random.normal(size=4)
    for layer in model.layers:
        layer.bias.assign(bias)
    return model, IMAGES


def constant_dense(random):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(3)]
    )
    for layer in model.layers:
        layer.bias.assign(np.full(layer.bias.shape, 10.0))
    return model, X


def constant_beta(random):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(5, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    )
    model.layers[1].beta.assign(np.ones(5))
    return model, IMAGES


def constant_einsum(random):
    layer = layers.EinsumDense("ab,bcd->acd", (2, 4), bias_axes="cd")
    model = keras.Sequential([keras.Input((8,)), layer, layers.Flatten()])
    layer.bias.assign(np.full((2, 4), 3.0))
    return model, X


def constant_gates(random):
    """A recurrent layer whose bias holds two in its rows, one of them one number."""
    model = keras.Sequential(
        [keras.Input(batch_shape=(32, 3, 4)), layers.GRU(3, stateful=True)]
    )
    model.layers[0].cell.bias.assign([[1.5] * 9, [-0.5] * 9])
    return model, random.normal(size=(32, 3, 4)).astype("float32")


MODELS = [
    twice,
    two_sizes,
    equal_layers,
    convolutions,
    constant_dense,
    constant_beta,
    constant_einsum,
    constant_gates,
]


def biases_with_steps(path):
    """Each bias with the product of its operation's scales."""
    contents = Interpreter(path).contents
    for operation in contents.operations:
        places = _PLACES.get(operation.name)
        if places and len(operation.inputs) > places[2]:
            found = [contents.tensors[operation.inputs[place]] for place in places]
            yield found[2], found[0].scales * found[1].scales


@pytest.mark.parametrize("mode", ["int8", "int16x8", "aware"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_bias_is_what_the_layer_has(make, mode, random, tmp_path):
    keras.utils.set_random_seed(0)
    model, x = make(random)
    path = tmp_path / "m.tflite"
    options = {"quantization": mode, "representative_data": x}
    if mode == "aware":
        kopt.quantization.quantize_model(model, calibration_data=x)
        options = {}
    if keras.tree.flatten(model.inputs)[0].shape[0]:
        options["batch_size"] = len(x)
    report = kopt.export.tflite(model, path, verify=x, **options)
    for bias, steps in biases_with_steps(path):
        np.testing.assert_allclose(bias.scales, steps, rtol=1e-4)
    if mode == "aware":
        # What goes through the gates of three steps is rounded more often.
        assert report.max_lsb <= (2.01 if make is constant_gates else 1.01)
    else:
        # A bias in wrong steps was 3 to 80 % off.
        expected = np.asarray(model.predict(x, verbose=0))
        assert report.mean_difference < 0.02 * expected.std()


def test_a_file_in_which_nothing_is_shared_stays_as_it_is(tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    kopt.export.tflite(model, tmp_path / "m.tflite", "int8", X)
    content = (tmp_path / "m.tflite").read_bytes()
    assert with_own_biases(content) is content


def test_a_constant_bias_of_a_float_file_is_exact(tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    model.layers[0].bias.assign(np.full(3, 0.3))
    kopt.export.tflite(model, tmp_path / "m.tflite")
    tensors = Interpreter(tmp_path / "m.tflite").tensors
    biases = [one.data for one in tensors if one.data is not None and one.shape == (3,)]
    np.testing.assert_array_equal(biases[0], np.full(3, 0.3, "float32"))
