import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.layers import DropConnect
from tests.reference.layers import masked_dense

LAYERS = {
    "Dense": (lambda: keras.layers.Dense(3), (5, 4)),
    "Dense on steps": (lambda: keras.layers.Dense(3), (5, 7, 4)),
    "Dense on images": (lambda: keras.layers.Dense(3), (5, 3, 2, 4)),
    "Dense, softmax": (lambda: keras.layers.Dense(3, "softmax"), (5, 4)),
    "EinsumDense": (
        lambda: keras.layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"),
        (5, 7, 4),
    ),
    "Conv1D": (lambda: keras.layers.Conv1D(3, 2, padding="causal"), (5, 7, 4)),
    "Conv2D": (lambda: keras.layers.Conv2D(3, 3, strides=2), (5, 6, 6, 4)),
    "Conv2DTranspose": (lambda: keras.layers.Conv2DTranspose(3, 3), (5, 6, 6, 4)),
    "DepthwiseConv2D": (lambda: keras.layers.DepthwiseConv2D(3), (5, 6, 6, 4)),
    "SeparableConv2D": (lambda: keras.layers.SeparableConv2D(3, 3), (5, 6, 6, 4)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    make, shape = LAYERS[request.param]
    return make(), np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture(params=["batch", "row"])
def mode(request):
    return request.param


def drawn_kernels(layer, rows):
    """The dropped kernel of each row that a Dense layer's next call will draw."""
    state = layer.seed_generator.state.numpy()
    size = layer.layer.kernel.shape[0]
    bias = layer.layer.bias.numpy()
    # A one in each place in turn, times the kernel, shows the kernel.
    probes = np.broadcast_to(np.eye(size, dtype="float32"), (rows, size, size))
    outputs = np.array(layer(probes, training=True))
    layer.seed_generator.state.assign(state)
    return outputs - bias


def test_nothing_dropped_is_the_layer_inside(case, mode):
    inside, values = case
    layer = DropConnect(inside, 0.0, mode)
    np.testing.assert_allclose(
        layer(values, training=True), inside(values), rtol=1e-5, atol=1e-6
    )


def test_everything_dropped_leaves_the_bias(case, mode):
    inside, values = case
    layer = DropConnect(inside, 1.0, mode)
    layer.build(values.shape)
    inside.bias.assign(np.arange(1.0, inside.bias.shape[0] + 1))
    zeros = np.zeros_like(values)
    np.testing.assert_allclose(layer(values, training=True), inside(zeros), rtol=1e-6)


def test_the_bias_is_dropped_where_asked(case, mode):
    inside, values = case
    layer = DropConnect(inside, 1.0, mode, drop_bias=True)
    layer.build(values.shape)
    bias = np.arange(1.0, inside.bias.shape[0] + 1)
    inside.bias.assign(0 * bias)
    without = np.array(inside(np.zeros_like(values)))
    inside.bias.assign(bias)
    np.testing.assert_allclose(layer(values, training=True), without)


def test_training_leaves_the_weights_inside_as_they_are(case, mode):
    inside, values = case
    layer = DropConnect(inside, 0.5, mode)
    layer.build(values.shape)
    before = [weight.numpy() for weight in inside.weights]
    layer(values, training=True)
    assert [weight.path for weight in layer.weights] == [
        weight.path for weight in inside.weights
    ]
    for weight, value in zip(inside.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    np.testing.assert_array_equal(layer(values), inside(values))


def test_row_mode_draws_for_each_sample(case):
    inside, values = case
    same = np.repeat(values[:1], 6, axis=0)
    outputs = np.array(DropConnect(inside, 0.5, "row", seed=1)(same, training=True))
    assert len(np.unique(outputs.reshape(6, -1), axis=0)) == 6


def test_batch_mode_draws_once_for_all_samples(case):
    inside, values = case
    same = np.repeat(values[:1], 6, axis=0)
    layer = DropConnect(inside, 0.5, "batch", seed=1)
    first, second = (np.array(layer(same, training=True)) for _ in range(2))
    np.testing.assert_allclose(first, np.repeat(first[:1], 6, axis=0), rtol=1e-5)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (5, 2, 3, 4)])
def test_dense_equals_the_formula_for_the_masks_it_drew(mode, shape):
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = DropConnect(
        keras.layers.Dense(6, bias_initializer="ones"), 0.5, mode, seed=3
    )
    layer.build(shape)
    kernels = drawn_kernels(layer, rows=5)
    expected = masked_dense(values, kernels, np.ones((5, 6)))
    np.testing.assert_allclose(layer(values, training=True), expected, rtol=1e-5)


def test_gradients_reach_the_weights_that_were_kept(mode):
    layer = DropConnect(keras.layers.Dense(6), 0.5, mode, seed=3)
    values = np.ones((5, 4), "float32")
    layer.build(values.shape)
    kernels = drawn_kernels(layer, rows=5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(values, training=True))
    gradient = tape.gradient(loss, layer.layer.kernel.value)
    # Each survivor's slope is 1 / (1 - 0.5) for each of the rows that kept it.
    np.testing.assert_allclose(gradient, 2.0 * (kernels != 0).sum(axis=0), rtol=1e-6)


def test_the_regularizer_inside_sees_all_weights(mode):
    dense = keras.layers.Dense(6, kernel_regularizer=keras.regularizers.L2(1.0))
    layer = DropConnect(dense, 0.9, mode)
    layer(np.ones((5, 4)), training=True)
    (loss,) = layer.losses
    assert float(loss) == pytest.approx(float((dense.kernel.numpy() ** 2).sum()))


def test_activity_regularizer_inside_counts_once(mode):
    dense = keras.layers.Dense(6, activity_regularizer=keras.regularizers.L2(1.0))
    layer = DropConnect(dense, 0.5, mode)
    outputs = np.array(layer(np.ones((5, 4)), training=True))
    (loss,) = layer.losses
    assert float(loss) == pytest.approx((outputs**2).sum() / 5, rel=1e-5)


def test_activity_regularizer_of_a_convolution_belongs_on_the_outside():
    inside = keras.layers.Conv1D(2, 2, activity_regularizer="l2")
    with pytest.raises(ValueError, match="Give it to DropConnect instead"):
        DropConnect(inside, mode="row")


def test_takes_the_float_type_of_the_layer_inside():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = DropConnect(keras.layers.Dense(3, dtype="float32"))
    assert layer(np.ones((2, 4)), training=True).dtype == "float32"
    assert layer(keras.Input((4,))).dtype == "float32"


def test_a_layer_that_fails_keeps_its_weights():
    def fail(values):
        raise ZeroDivisionError

    layer = DropConnect(keras.layers.Dense(3, activation=fail), 0.5)
    layer.build((2, 4))
    kernel = layer.layer.kernel
    with pytest.raises(ZeroDivisionError):
        layer.call(np.ones((2, 4), "float32"), training=True)
    assert layer.layer.kernel is kernel


def test_a_layer_without_a_kernel_is_refused():
    with pytest.raises(ValueError, match="BatchNormalization 'norm' has none"):
        DropConnect(keras.layers.BatchNormalization(name="norm")).build((None, 4))


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match="`layer` must be a Keras layer"):
        DropConnect(keras.ops.relu)


def test_from_config_leaves_the_config_alone():
    config = DropConnect(keras.layers.Dense(3)).get_config()
    DropConnect.from_config(config)
    assert "layer" in config
    DropConnect.from_config(config)
