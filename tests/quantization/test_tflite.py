"""TFLite's own integers, from a snapped model without any data, against the model.

What is tested is that the model leaves the converter nothing to guess.
"""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import quantize_model, snapped
from tests.quantization.integers import Integers

pytestmark = [
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated"),
]


def is_changed(layer):
    return hasattr(layer, "quantizer")


def chain(*stack, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *stack])


def convolution(x, filters, size=3, activation=True, **arguments):
    x = layers.Conv2D(filters, size, padding="same", use_bias=False, **arguments)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activation else x


def residual():
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 6)
    x = layers.ReLU()(layers.Add()([x, convolution(x, 6, activation=False)]))
    x = layers.GlobalAveragePooling2D()(convolution(x, 8, strides=2))
    return keras.Model(inputs, layers.Dense(5)(x))


def inception():
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 6)
    branches = [
        convolution(x, 4, 1),
        convolution(x, 4, 3),
        convolution(layers.AveragePooling2D(3, 1, "same")(x), 4, 1),
    ]
    x = convolution(layers.Concatenate()(branches), 6, 1)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def three_from_the_input():
    inputs = keras.Input((8, 8, 3))
    branches = [layers.Conv2D(4, 3, padding="same")(inputs) for _ in range(3)]
    return keras.Model(inputs, layers.Add()(branches))


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    x = layers.Concatenate()(
        [layers.Dense(5, activation="relu")(a), layers.Dense(3)(b)]
    )
    return keras.Model([a, b], layers.Dense(2)(x))


def shared_layer():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same")
    x = conv(layers.BatchNormalization()(conv(inputs)))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def activations(name):
    return chain(layers.Conv2D(6, 3, activation=name), layers.Conv2D(4, 3))


def merged(merge, inputs=2):
    x = keras.Input((8, 8, 4))
    parts = [layers.Dense(4, activation="relu")(x) for _ in range(inputs)]
    return keras.Model(x, layers.Dense(3)(merge(parts)))


def operations(build, shape=(8, 8, 4)):
    """A functional model with operations that are in no layer."""
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def row(*stack):
    return chain(*stack, shape=(16, 3))


def depthwise():
    return chain(
        layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(max_value=6),
        layers.DepthwiseConv2D(3, strides=2),
    )


# The network, and how many operations of each kind its file has.
NETWORKS = {
    "residual": (
        residual,
        {"CONV_2D": 3, "ADD": 1, "MEAN": 1, "FULLY_CONNECTED": 1},
    ),
    "inception": (
        inception,
        {
            "CONV_2D": 5,
            "AVERAGE_POOL_2D": 1,
            "CONCATENATION": 1,
            "RESHAPE": 1,
            "FULLY_CONNECTED": 1,
        },
    ),
    "three from the input": (three_from_the_input, {"CONV_2D": 3, "ADD": 2}),
    "two inputs": (two_inputs, {"FULLY_CONNECTED": 3, "CONCATENATION": 1}),
    "shared layer": (
        shared_layer,
        {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1},
    ),
    "depthwise": (depthwise, {"DEPTHWISE_CONV_2D": 2}),
    "groups and dilation": (
        lambda: chain(
            layers.Conv2D(6, 3, groups=3), layers.Conv2D(4, 2, dilation_rate=2)
        ),
        {"CONV_2D": 2},
    ),
    "normalization alone": (
        lambda: chain(
            layers.BatchNormalization(),
            layers.Conv2D(4, 3),
            layers.ReLU(),
            layers.BatchNormalization(),
            layers.Conv2D(4, 3),
        ),
        {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2},
    ),
    "normalization before a relu": (
        lambda: chain(
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(4, 3),
        ),
        {"MAX_POOL_2D": 1, "DEPTHWISE_CONV_2D": 1, "CONV_2D": 1},
    ),
    "rescaling": (
        lambda: chain(layers.Rescaling(0.5, -1.0), layers.Conv2D(4, 3)),
        {"CONV_2D": 1},
    ),
    "shapes": (
        lambda: chain(
            layers.ZeroPadding2D(),
            layers.Conv2D(4, 3, strides=2),
            layers.Reshape((-1, 4)),
            layers.Permute((2, 1)),
            layers.Flatten(),
            layers.Dense(3),
        ),
        {"PAD": 1, "CONV_2D": 1, "RESHAPE": 2, "TRANSPOSE": 1, "FULLY_CONNECTED": 1},
    ),
    "dense on rows": (
        lambda: chain(
            layers.Dense(4, activation="relu"), layers.Dense(3), shape=(5, 6)
        ),
        {"FULLY_CONNECTED": 2, "RESHAPE": 1},
    ),
    "sigmoid": (lambda: activations("sigmoid"), {"CONV_2D": 2, "LOGISTIC": 1}),
    "tanh": (lambda: activations("tanh"), {"CONV_2D": 2, "TANH": 1}),
    "gelu": (lambda: activations("gelu"), {"CONV_2D": 2, "GELU": 1}),
    "silu": (lambda: activations("silu"), {"CONV_2D": 2, "LOGISTIC": 1, "MUL": 1}),
    "hard_silu": (lambda: activations("hard_silu"), {"CONV_2D": 2, "ADD": 1, "MUL": 2}),
    "leaky_relu": (lambda: activations("leaky_relu"), {"CONV_2D": 2, "LEAKY_RELU": 1}),
    "relu6": (lambda: activations("relu6"), {"CONV_2D": 2}),
    "softmax head": (
        lambda: chain(
            layers.Dense(5, activation="relu"),
            layers.Dense(3, activation="softmax"),
            shape=(6,),
        ),
        {"FULLY_CONNECTED": 2, "SOFTMAX": 1},
    ),
    "softmax layer": (
        lambda: chain(layers.Dense(3), layers.Softmax(), shape=(6,)),
        {"FULLY_CONNECTED": 1, "SOFTMAX": 1},
    ),
    "one dimension": (
        lambda: row(
            layers.Conv1D(5, 3, activation="relu"),
            layers.DepthwiseConv1D(3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv1D(4, 3, strides=2, padding="causal"),
        ),
        {"RESHAPE": 4, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "PAD": 1},
    ),
    "transposed": (
        lambda: chain(
            layers.Conv2DTranspose(5, 3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(4, 3),
        ),
        {"TRANSPOSE_CONV": 1, "CONV_2D": 1},
    ),
    "transposed in one dimension": (
        lambda: row(layers.Conv1DTranspose(5, 3), layers.Conv1D(4, 3)),
        {"RESHAPE": 2, "TRANSPOSE_CONV": 1, "CONV_2D": 1},
    ),
    "separable": (
        lambda: chain(
            layers.SeparableConv2D(6, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(4, 3, strides=2),
        ),
        {"DEPTHWISE_CONV_2D": 2, "CONV_2D": 2},
    ),
    "separable in one dimension": (
        lambda: row(
            layers.SeparableConv1D(6, 3, strides=2, activation="relu"),
            layers.SeparableConv1D(4, 2, dilation_rate=2, padding="same"),
        ),
        {"RESHAPE": 2, "DEPTHWISE_CONV_2D": 2, "CONV_2D": 2},
    ),
    "einsum": (
        lambda: chain(
            layers.EinsumDense("abc,cd->abd", (None, 5), "relu", bias_axes="d"),
            layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
            layers.EinsumDense("abde,dec->abc", (None, 5)),
            shape=(6, 4),
        ),
        {"FULLY_CONNECTED": 3, "RESHAPE": 1},
    ),
    "multiply": (
        lambda: merged(layers.Multiply(), 3),
        {"FULLY_CONNECTED": 4, "MUL": 2},
    ),
    "subtract": (lambda: merged(layers.Subtract()), {"FULLY_CONNECTED": 3, "SUB": 1}),
    "average": (
        lambda: merged(layers.Average(), 3),
        {"FULLY_CONNECTED": 4, "ADD": 2, "MUL": 1},
    ),
    "minimum": (
        lambda: merged(layers.Minimum(), 3),
        {"FULLY_CONNECTED": 4, "MINIMUM": 2},
    ),
    "normalization of inputs": (
        lambda: chain(
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 3.0]),
            layers.Conv2D(4, 3),
        ),
        {"DEPTHWISE_CONV_2D": 1, "CONV_2D": 1},
    ),
    "prelu": (
        lambda: chain(
            layers.Conv2D(4, 3),
            layers.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2]),
            layers.Conv2D(3, 3),
        ),
        {"CONV_2D": 2, "ADD": 1, "MUL": 1},
    ),
    "hard_sigmoid": (
        lambda: activations("hard_sigmoid"),
        {"CONV_2D": 2, "ADD": 1, "MUL": 1},
    ),
    "arithmetic without layers": (
        lambda: operations(
            lambda x: layers.Dense(3)(
                (layers.Dense(4)(x) + layers.Dense(4)(x)) * 2.0 - 1.0
            )
        ),
        {"FULLY_CONNECTED": 3, "ADD": 1, "MUL": 1, "SUB": 1},
    ),
    "sigmoid head": (
        lambda: chain(layers.Dense(3, activation="sigmoid"), shape=(6,)),
        {"FULLY_CONNECTED": 1, "LOGISTIC": 1},
    ),
}
QUICK = ("residual", "softmax head")


def scrambled(model, random):
    """Statistics and offsets as training leaves them, not zeros and ones."""
    for variable in model.variables:
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(random.uniform(0.5, 2.0, variable.shape))
        elif variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(random.normal(0.0, 0.2, variable.shape))
    return model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in NETWORKS
    ],
)
def test_a_network_is_all_integers_and_computes_what_the_model_does(name, random):
    build, operations = NETWORKS[name]
    model = scrambled(build(), random)
    data = [
        random.normal(size=(48, *one.shape[1:])).astype("float32")
        for one in model.inputs
    ]
    inputs = data if len(data) > 1 else data[0]
    quantize_model(model, calibration_data=inputs)
    expected = model.predict(inputs, verbose=0)
    file = Integers(model)
    assert file.float_tensors == []
    assert file.operations == operations
    steps = np.abs(file(*data) - expected) / file.step
    assert steps.max() < 3.5
    assert steps.mean() < 0.6


@pytest.fixture
def small(random, images):
    model = chain(
        layers.Conv2D(6, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(),
        layers.ReLU(name="relu"),
        layers.Flatten(),
        layers.Dense(4, name="dense"),
    )
    return quantize_model(scrambled(model, random), calibration_data=images)


def test_ranges_in_the_file_are_those_of_the_model(small):
    file = Integers(small)
    found = [one["quantization"] for one in file.tensors if one["dtype"] == np.int8]
    for layer in small.layers:
        for one in layer.quantizer.ranges.values() if is_changed(layer) else ():
            grid = one.grid()
            # The converter divides in double precision, the model in single.
            assert any(
                scale == pytest.approx(grid.scale, rel=2e-7)
                and zero_point == grid.zero_point
                for scale, zero_point in found
            ), (layer.name, grid, found)


@pytest.mark.parametrize("end", [1.0, 0.5, 3.0])
def test_a_range_with_zero_right_between_two_integers_is_the_same(random, end):
    model = chain(layers.Dense(3, name="dense"), shape=(6,))
    x = random.uniform(-end, end, size=(32, 6)).astype("float32")
    x[0, :2] = -end, end
    quantize_model(model, calibration_data=x)
    expected = model.layers[0].quantizer.ranges["input_0"].grid()
    scale, zero_point = Integers(model).inputs[0]["quantization"]
    assert scale == pytest.approx(expected.scale, rel=2e-7)
    assert zero_point == expected.zero_point


def test_weights_in_the_file_are_those_of_the_model_on_grids_per_channel(small):
    file = Integers(small)
    dense = small.get_layer("dense")
    (stored,) = [one for one in file.tensors if tuple(one["shape"]) == (4, 216)]
    scales = stored["quantization_parameters"]["scales"]
    assert len(scales) == 4
    numbers = file.interpreter.get_tensor(stored["index"]).astype("float32")
    bounds = np.abs(dense.kernel.numpy()).max(axis=0)
    np.testing.assert_allclose(scales, bounds / 127, rtol=1e-6)
    with snapped(small):
        expected = dense.kernel.numpy().T
    np.testing.assert_allclose(numbers * scales[:, None], expected, atol=1e-6)


def test_weights_that_are_zero_are_zero_in_the_file(small):
    dense = small.get_layer("dense")
    mask = np.random.default_rng(1).random((216, 4)) < 0.3
    mask[:, 2] = False  # a unit without any weights
    dense.kernel.assign(dense.kernel.numpy() * mask)
    file = Integers(small)
    (stored,) = [one for one in file.tensors if tuple(one["shape"]) == (4, 216)]
    numbers = file.interpreter.get_tensor(stored["index"])
    assert (stored["quantization_parameters"]["zero_points"] == 0).all()
    assert (numbers[~mask.T] == 0).all()
    assert np.isfinite(file(np.zeros((1, 8, 8, 3)))).all()


def test_a_layer_that_is_always_zero_converts(images):
    model = chain(layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(2, 3))
    model.layers[0].bias.assign([-1e3] * 4)
    quantize_model(model, calibration_data=images)
    file = Integers(model)
    assert file.float_tensors == []
    np.testing.assert_array_equal(
        file(images[:2]), model.predict(images[:2], verbose=0)
    )


@pytest.mark.slow
def test_a_float_island_is_float_alone(images):
    model = chain(layers.Conv2D(4, 3), layers.LayerNormalization(), layers.Conv2D(4, 3))
    quantize_model(model, calibration_data=images)
    file = Integers(model)
    assert file.float_tensors
    assert file.operations["CONV_2D"] == 2
    kernels = [one for one in file.tensors if tuple(one["shape"])[1:3] == (3, 3)]
    assert all(one["dtype"] == np.int8 for one in kernels if len(one["shape"]) == 4)
