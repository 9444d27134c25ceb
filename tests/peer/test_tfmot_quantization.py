"""Fake-quantization against TensorFlow Model Optimization's, to the bit."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.quantization import (
    Int8,
    quantize_annotate_layer,
    quantize_apply,
    quantize_model,
    ranges,
)
from kopt.quantization._activation_range import ActivationRange

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def quantizers():
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    # Its import tells other programs to use the old Keras.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    if before is not None:
        os.environ["TF_USE_LEGACY_KERAS"] = before
    return tfmot.quantization.keras.quantizers


class Weights:
    """The layer that a TF-MOT quantizer asks for its variables."""

    def add_weight(self, name, initializer=None, trainable=False, shape=None, **_):
        start = initializer.get_config()["value"] if initializer else 0.0
        return tf.Variable(tf.fill(shape or (), float(start)), trainable=trainable)


def last_value(quantizers, weights, bits, per_axis):
    one = quantizers.LastValueQuantizer(
        num_bits=bits, per_axis=per_axis, symmetric=True, narrow_range=True
    )
    variables = one.build(weights.shape, "kernel", Weights())
    return one(tf.constant(weights), training=True, weights=variables).numpy()


@pytest.mark.parametrize("shape", [(30, 7), (3, 3, 5, 8), (1, 1, 16, 4)])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_axis", [True, False])
def test_weights_are_rounded_to_the_same_bits(quantizers, shape, bits, per_axis):
    random = np.random.default_rng(0)
    weights = random.normal(size=shape) * np.logspace(-3, 3, shape[-1])
    weights = weights.astype("float32")
    weights.flat[:3] = 0.0
    ours = ranges.fake_quantize_weights(weights, [-1] if per_axis else [], bits)
    theirs = last_value(quantizers, weights, bits, per_axis)
    np.testing.assert_array_equal(ours, theirs)


def test_the_8_bit_quantizer_of_convolutions_gives_the_same_bits(quantizers):
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (  # noqa: E501
        default_8bit_quantizers,
    )

    weights = np.random.default_rng(0).normal(size=(3, 3, 6, 9)).astype("float32")
    theirs = default_8bit_quantizers.Default8BitConvWeightsQuantizer()
    variables = theirs.build(weights.shape, "kernel", Weights())
    expected = theirs(tf.constant(weights), training=True, weights=variables)
    np.testing.assert_array_equal(ranges.fake_quantize_weights(weights, [-1]), expected)


def test_a_moving_average_takes_the_same_steps(quantizers):
    theirs = quantizers.MovingAverageQuantizer(
        num_bits=8, per_axis=False, symmetric=False, narrow_range=False
    )
    variables = theirs.build((None, 5), "output", Weights())
    variables["min_var"].assign(-1.5)
    variables["max_var"].assign(2.5)
    # TF-MOT's average has a momentum of 0.999.
    ours = ActivationRange(rate=1.0 - 0.999)
    ours.set_range(-1.5, 2.5)
    random = np.random.default_rng(0)
    for scale in np.logspace(-1, 1, 25):
        batch = (scale * random.normal(size=(16, 5))).astype("float32")
        expected = theirs(tf.constant(batch), training=True, weights=variables)
        result = ours(batch, training=True)
        low, high = float(variables["min_var"]), float(variables["max_var"])
        assert float(ours.low.numpy()) == pytest.approx(low, rel=1e-6)
        assert float(ours.high.numpy()) == pytest.approx(high, rel=1e-6)
        step = (high - low) / 255
        np.testing.assert_allclose(result, expected, atol=1.001 * step)
        assert (np.abs(result - expected) > 0.01 * step).mean() < 0.05


@pytest.mark.slow
def test_before_training_the_model_is_as_good_as_float_where_tf_mot_is_not(quantizers):
    """TF-MOT starts from ranges of -6 to 6; calibrated ranges need no start."""
    import tf_keras
    from sklearn.datasets import load_digits
    from tensorflow_model_optimization.quantization.keras import (
        quantize_model as their_quantize_model,
    )

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")

    def network(package):
        return package.Sequential(
            [
                package.layers.InputLayer((64,)),
                package.layers.Dense(32, activation="relu"),
                package.layers.Dense(10),
            ]
        )

    model, twin = network(keras), network(tf_keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x[:1400], y[:1400], epochs=15, verbose=0)
    twin.set_weights(model.get_weights())
    test = x[1400:]
    exact = model.predict(test, verbose=0).argmax(1)
    theirs = their_quantize_model(twin)
    tf_mot = (theirs.predict(test, verbose=0).argmax(1) == exact).mean()
    quantize_model(model, Int8(), x[:1400])
    ours = (model.predict(test, verbose=0).argmax(1) == exact).mean()
    assert ours >= 0.99
    assert ours > tf_mot


class TestConfigsOfTfMot:
    """A user's `QuantizeConfig` is asked what it says; it sets nothing."""

    @pytest.fixture
    def config(self, quantizers):
        weights = quantizers.LastValueQuantizer(
            num_bits=4, per_axis=False, symmetric=True, narrow_range=True
        )
        outputs = quantizers.MovingAverageQuantizer(
            num_bits=8, per_axis=False, symmetric=False, narrow_range=False
        )

        class Config:
            def get_weights_and_quantizers(self, layer):
                return [(layer.kernel, weights)]

            def get_activations_and_quantizers(self, layer):
                return [(layer.activation, outputs)]

            def get_output_quantizers(self, layer):
                return []

        return Config()

    def test_its_quantizers_round_as_they_do_in_tf_mot(self, quantizers, config):
        dense = quantize_annotate_layer(keras.layers.Dense(4), config)
        model = keras.Sequential([keras.Input((6,)), dense])
        x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
        exact = x @ last_value(quantizers, dense.kernel.numpy(), 4, False)
        quantize_apply(model, calibration_data=x)
        found = model.predict(x, verbose=0)
        one = dense.quantizer.ranges["output"].grid()
        np.testing.assert_allclose(found, exact, atol=0.51 * one.scale)

    def test_a_quantizer_that_kopt_has_no_twin_of_is_called(self, quantizers, config):
        class Mine(quantizers.LastValueQuantizer):
            """Another class: it is run as it is."""

        mine = Mine(num_bits=8, per_axis=False, symmetric=True, narrow_range=True)
        config.get_weights_and_quantizers = lambda layer: [(layer.kernel, mine)]
        dense = quantize_annotate_layer(keras.layers.Dense(4), config)
        model = keras.Sequential([keras.Input((6,)), dense])
        x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
        quantize_apply(model, calibration_data=x)
        model.compile("sgd", "mse")
        # It knows the weights' range from the first training step on.
        model.fit(x, x[:, :4], verbose=0)
        assert isinstance(dense.quantizer.ranges["kernel_quantizer"].quantizer, Mine)
        assert np.ptp(model.predict(x, verbose=0)) > 0
