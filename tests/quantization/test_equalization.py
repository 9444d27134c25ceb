import keras
import numpy as np
import pytest

import kopt
from kopt.quantization import equalize
from kopt.quantization._channel_pairs import equal_scales

layers = keras.layers


@pytest.fixture
def random():
    return np.random.default_rng(0)


def uneven(model, random):
    """Weights whose channels differ a hundredfold, and statistics of training."""
    for variable in model.weights:
        if variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
        elif variable.name in ("gamma", "moving_variance"):
            variable.assign(np.exp(random.uniform(-2, 2, variable.shape)))
        elif variable.name == "kernel":
            spread = np.exp(random.uniform(-2, 2, variable.shape[-1]))
            variable.assign(random.normal(0, 0.3, variable.shape) * spread)
    return model


def assert_same_function(model, before, inputs):
    after = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def ranges(layer, normalization, *, outgoing):
    """Largest weights of folded kernels, written for each kind of layer by hand."""
    kernel = layer.kernel.numpy().astype("float64")
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    if depthwise:
        height, width, channels, multiplier = kernel.shape
        kernel = kernel.reshape(height, width, channels * multiplier)
    if normalization is not None:
        scale = 1 / np.sqrt(normalization.moving_variance.numpy() + 1e-3)
        scale = scale * (normalization.gamma.numpy() if normalization.scale else 1)
        kernel = kernel * scale
    largest = [np.abs(kernel[..., i]).max() for i in range(kernel.shape[-1])]
    if outgoing:
        return np.array(largest)
    if depthwise:
        return np.array(largest).reshape(channels, multiplier).max(axis=1)
    return np.array([np.abs(kernel[..., i, :]).max() for i in range(kernel.shape[-2])])


def test_scales_make_both_ranges_the_geometric_mean():
    first, second = np.array([8.0, 0.5, 0.0, 3.0]), np.array([0.5, 2.0, 1.0, 0.0])
    scales = equal_scales(first, second)
    np.testing.assert_allclose(first[:2] / scales[:2], [2, 1])
    np.testing.assert_allclose(second[:2] * scales[:2], [2, 1])
    np.testing.assert_array_equal(scales[2:], 1)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_a_pair_has_the_geometric_mean_of_its_ranges(random, activation):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation=activation),
            layers.Dense(3),
        ]
    )
    uneven(model, random)
    first, second = model.layers
    expected = np.sqrt(
        ranges(first, None, outgoing=True) * ranges(second, None, outgoing=False)
    )
    inputs = random.normal(size=(20, 5)).astype("float32")
    before = model.predict(inputs, verbose=0)
    report = equalize(model)
    np.testing.assert_allclose(ranges(first, None, outgoing=True), expected, rtol=1e-6)
    np.testing.assert_allclose(
        ranges(second, None, outgoing=False), expected, rtol=1e-6
    )
    np.testing.assert_allclose(report.pairs[0].after[0], expected, rtol=1e-6)
    assert report.rounds == 2
    assert_same_function(model, before, inputs)


def mobile(scale=True, center=True):
    """An inverted bottleneck, as in MobileNet, with ReLU without a maximum."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 1, use_bias=False, name="expand"),
            layers.BatchNormalization(scale=scale, center=center, name="expand_bn"),
            layers.ReLU(),
            layers.ZeroPadding2D(1),
            layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
            layers.BatchNormalization(scale=scale, center=center, name="depthwise_bn"),
            layers.ReLU(negative_slope=0.1),
            layers.Dropout(0.5),
            layers.Conv2D(4, 1, name="project"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, name="scores"),
        ]
    )


@pytest.mark.parametrize(("scale", "center"), [(True, True), (False, False)])
def test_chains_are_equal_on_both_sides_of_every_pair(random, scale, center):
    model = uneven(mobile(scale, center), random)
    inputs = random.normal(size=(20, 8, 8, 3)).astype("float32")
    before = model.predict(inputs, verbose=0)
    report = equalize(model)
    assert_same_function(model, before, inputs)
    get = model.get_layer
    expand = ranges(get("expand"), get("expand_bn"), outgoing=True)
    depthwise = get("depthwise"), get("depthwise_bn")
    np.testing.assert_allclose(ranges(*depthwise, outgoing=False), expand, rtol=3e-3)
    np.testing.assert_allclose(
        ranges(get("project"), None, outgoing=False),
        ranges(*depthwise, outgoing=True),
        rtol=3e-3,
    )
    scores = np.abs(get("scores").kernel.numpy()).reshape(16, 4, 3).max(axis=(0, 2))
    np.testing.assert_allclose(
        ranges(get("project"), None, outgoing=True), scores, rtol=3e-3
    )
    assert [pair.first for pair in report.pairs] == [
        get(name).path for name in ("expand", "depthwise", "project")
    ]
    assert list(report.skipped) == [get("scores").path]


def test_the_report_has_the_ranges_before(random):
    model = uneven(mobile(), random)
    get = model.get_layer
    before = ranges(get("expand"), get("expand_bn"), outgoing=True)
    taken = ranges(get("depthwise"), get("depthwise_bn"), outgoing=False)
    pair = equalize(model).pairs[0]
    np.testing.assert_allclose(pair.before[0], before, rtol=1e-6)
    np.testing.assert_allclose(pair.before[1], taken, rtol=1e-6)
    np.testing.assert_allclose(pair.after[0] * pair.scales, before, rtol=1e-6)
    assert "expand" in str(pair) and "6 channels" in str(pair)


def test_nested_models_and_transposed_convolutions_are_equalized(random):
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2DTranspose(5, 2, activation="relu")]
    )
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(4, 3)(inner(inputs))
    model = uneven(keras.Model(inputs, x), random)
    data = random.normal(size=(5, 4, 4, 3)).astype("float32")
    before = model.predict(data, verbose=0)
    report = equalize(model)
    first, second = inner.layers[0].kernel.numpy(), model.layers[-1].kernel.numpy()
    made = np.abs(first).max(axis=(0, 1, 3))
    np.testing.assert_allclose(np.abs(second).max(axis=(0, 1, 2)), made, rtol=1e-6)
    assert len(report.pairs) == 1
    assert_same_function(model, before, data)


def skipped(model):
    """The one reason given for the first layer, after a look that nothing changed."""
    weights = model.get_weights()
    report = equalize(model)
    assert report.pairs == ()
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    return next(iter(report.skipped.values()))


@pytest.mark.parametrize(
    "between",
    [
        layers.ReLU(max_value=6.0),
        layers.ReLU(threshold=0.1),
        layers.Activation("gelu"),
        layers.BatchNormalization(),
        layers.Softmax(),
    ],
)
def test_functions_that_are_not_homogeneous_stand_in_the_way(between):
    between = type(between).from_config(between.get_config())
    stack = [layers.Dense(3, activation="relu"), between, layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *stack])
    assert "is not homogeneous" in skipped(model)


def test_an_activation_inside_of_a_layer_stands_in_the_way():
    stack = [layers.Dense(3, activation="tanh"), layers.Dense(2)]
    assert "'tanh'" in skipped(keras.Sequential([keras.Input((3,)), *stack]))


def test_branches_and_shared_layers_are_left():
    inputs = keras.Input((3,))
    x = layers.Dense(3, activation="relu")(inputs)
    assert "more than one" in skipped(
        keras.Model(inputs, layers.Add()([layers.Dense(3)(x), x]))
    )
    shared = layers.Dense(3)
    model = keras.Model(inputs, shared(shared(inputs)))
    assert "more than once" in skipped(model)
    with_operation = keras.Model(inputs, layers.Dense(2)(shared(inputs) + 1.0))
    assert skipped(with_operation)


def test_grouped_convolutions_are_left():
    stack = [layers.Conv2D(4, 1), layers.Conv2D(4, 1, groups=2)]
    model = keras.Sequential([keras.Input((2, 2, 3)), *stack])
    assert "in groups" in skipped(model)


def test_quantized_models_are_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    kopt.quantization.quantize_model(model)
    with pytest.raises(ValueError, match="before `quantize_model`"):
        equalize(model)
