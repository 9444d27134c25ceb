import keras
import numpy as np
import pytest

import kopt
from kopt.quantization import correct_bias

layers = keras.layers


@pytest.fixture
def random():
    return np.random.default_rng(0)


def grid(kernel, bits, axis=None):
    """Kernels on a symmetric grid, rounded in float64."""
    bound = np.abs(kernel).max(axis=axis, keepdims=axis is not None)
    step = bound / (2 ** (bits - 1) - 1)
    return np.round(kernel / step) * step


def randomized(model, random):
    for variable in model.weights:
        if variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(random.normal(0, 0.2, variable.shape))
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 2, variable.shape))
    return model


@pytest.mark.parametrize("per_channel", [True, False])
def test_biases_lose_the_mean_error_of_each_layer_in_turn(random, per_channel):
    stack = [layers.Dense(6, activation="relu"), layers.Dense(4, activation="tanh")]
    model = randomized(keras.Sequential([keras.Input((5,)), *stack]), random)
    x = random.uniform(size=(70, 5)).astype("float32")
    k1, b1, k2, b2 = (one.astype("float64") for one in model.get_weights())
    axis = 0 if per_channel else None
    q1, q2 = grid(k1, 3, axis), grid(k2, 3, axis)
    error_1 = (x @ q1 - x @ k1).mean(axis=0)
    hidden = np.maximum(x @ k1 + b1, 0)
    rough = np.maximum(x @ q1 + b1 - error_1, 0)
    error_2 = (rough @ q2 - hidden @ k2).mean(axis=0)
    uncorrected = np.maximum(x @ q1 + b1, 0) @ q2 - hidden @ k2
    report = correct_bias(model, x, bits=3, per_channel=per_channel)
    found = model.get_weights()
    np.testing.assert_array_equal(found[0], k1)
    np.testing.assert_array_equal(found[2], k2)
    np.testing.assert_allclose(found[1], b1 - error_1, atol=1e-5)
    np.testing.assert_allclose(found[3], b2 - error_2, atol=1e-5)
    np.testing.assert_allclose(report.layers[0].before, error_1, atol=1e-5)
    np.testing.assert_allclose(
        report.layers[1].before, uncorrected.mean(axis=0), atol=1e-5
    )
    for layer in report.layers:
        np.testing.assert_allclose(layer.after, 0, atol=1e-5)
        assert np.abs(layer.before).max() > 0.01


def test_a_batch_normalization_takes_what_a_layer_without_a_bias_cannot(random):
    stack = [
        layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        layers.BatchNormalization(),
    ]
    model = randomized(keras.Sequential([keras.Input((6, 6, 2)), *stack]), random)
    x = random.uniform(size=(40, 6, 6, 2)).astype("float32")
    wanted = model.predict(x, verbose=0).mean(axis=(0, 1, 2))
    kernel, mean = stack[0].kernel.numpy(), stack[1].moving_mean.numpy()
    report = correct_bias(model, x, bits=4)
    assert not report.skipped and len(report.layers) == 1
    np.testing.assert_allclose(
        stack[1].moving_mean.numpy(), mean + report.layers[0].before, atol=1e-6
    )
    stack[0].kernel.assign(grid(kernel.astype("float64"), 4, (0, 1)))
    np.testing.assert_allclose(
        model.predict(x, verbose=0).mean(axis=(0, 1, 2)), wanted, atol=1e-5
    )


def test_one_scale_a_kernel_is_that_of_the_kernel_with_its_normalization(random):
    stack = [layers.Conv2D(4, 1, use_bias=False), layers.BatchNormalization()]
    model = randomized(keras.Sequential([keras.Input((3, 3, 3)), *stack]), random)
    x = random.uniform(size=(40, 3, 3, 3)).astype("float32")
    kernel = stack[0].kernel.numpy().astype("float64")
    scale = stack[1].gamma.numpy() / np.sqrt(stack[1].moving_variance.numpy() + 1e-3)
    error = ((x @ (grid(kernel * scale, 4) / scale)) - x @ kernel).mean(axis=(0, 1, 2))
    report = correct_bias(model, x, bits=4, per_channel=False)
    np.testing.assert_allclose(report.layers[0].before, error.reshape(-1), atol=1e-5)


def test_models_with_several_inputs_and_shared_layers_are_corrected(random):
    shared = layers.Dense(3)
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    model = keras.Model(
        inputs, layers.Add()([shared(inputs["a"]), shared(inputs["b"])])
    )
    data = {name: random.uniform(size=(50, 4)).astype("float32") for name in "ab"}
    wanted = model.predict(data, verbose=0).mean(axis=0)
    correct_bias(model, data, bits=3)
    kernel = shared.kernel.numpy()
    shared.kernel.assign(grid(kernel.astype("float64"), 3, 0))
    np.testing.assert_allclose(
        model.predict(data, verbose=0).mean(axis=0), wanted, atol=1e-5
    )


def test_a_layer_that_has_no_bias_is_named():
    stack = [layers.Dense(3, use_bias=False), layers.ReLU(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *stack])
    report = correct_bias(model, np.ones((10, 4), "float32"), bits=4)
    assert "no bias" in report.skipped[stack[0].path]
    assert [layer.layer for layer in report.layers] == [stack[2].path]
    assert "no bias" in str(report) and "mean error" in str(report)


def test_an_exception_leaves_the_model_as_it_was(random, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    weights = model.get_weights()
    classes = [type(layer) for layer in model.layers]
    original = kopt.quantization.bias_correction._OutputMeans.measure
    calls = []

    def failing(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(
        kopt.quantization.bias_correction._OutputMeans, "measure", failing
    )
    with pytest.raises(KeyboardInterrupt):
        correct_bias(model, random.normal(size=(10, 4)).astype("float32"), bits=3)
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    assert [type(layer) for layer in model.layers] == classes


def test_wrong_arguments_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    data = np.ones((10, 4), "float32")
    with pytest.raises(ValueError, match="`bits` must be at most 16"):
        correct_bias(model, data, bits=17)
    with pytest.raises(ValueError, match="`bits` must be a whole number of at least 2"):
        correct_bias(model, data, bits=1)
    with pytest.raises(ValueError, match="NaN"):
        correct_bias(model, np.full((10, 4), np.nan, "float32"))
    kopt.quantization.quantize_model(model)
    with pytest.raises(ValueError, match="before `quantize_model`"):
        correct_bias(model, data)
