"""Adaptive clipping and centralization, unit by unit, for every kind of kernel.

A unit is one output with all that feeds it: Brock et al., arXiv:2102.06171, take norms
over the fan-in of each output, and Yong et al., arXiv:2004.01461, centralize over all
axes but that of the outputs. The axes of the kernels are written down here by hand from
Keras's documentation, the references are in float64.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers import _engine

layers = keras.layers
IMAGE = (None, 8, 8, 4)
TOKENS = (None, 5, 4)

#: A layer, what it is built on, and for each of its kernels the axes one unit spans.
KERNELS = {
    "dense": (lambda: layers.Dense(5), (None, 4), [(0,)]),
    "convolution": (lambda: layers.Conv2D(5, 3), IMAGE, [(0, 1, 2)]),
    "groups": (lambda: layers.Conv2D(6, 3, groups=2), IMAGE, [(0, 1, 2)]),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), IMAGE, [(0, 1)]),
    "depthwise twice": (
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
        TOKENS,
        [(0,)],
    ),
    "separable": (lambda: layers.SeparableConv2D(6, 3), IMAGE, [(0, 1), (0, 1, 2)]),
    "transposed 1D": (lambda: layers.Conv1DTranspose(5, 3), TOKENS, [(0, 2)]),
    "transposed 2D": (lambda: layers.Conv2DTranspose(5, 3), IMAGE, [(0, 1, 3)]),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        TOKENS,
        [(0,)],
    ),
    "outputs first": (lambda: layers.EinsumDense("ab,cb->ac", 5), (None, 4), [(1,)]),
    "experts": (
        lambda: layers.EinsumDense("abc,bcd->abd", (5, 6)),
        TOKENS,
        [(1,)],
    ),
    "attention": (
        lambda: layers.MultiHeadAttention(2, 3),
        [TOKENS, TOKENS],
        [(0,), (0,), (0,), (0, 1)],
    ),
    "grouped attention": (
        lambda: layers.GroupQueryAttention(3, 4, 2),
        [TOKENS, TOKENS],
        [(0,), (0,), (0,), (0, 1)],
    ),
    "table": (lambda: layers.Embedding(7, 4), (None, 5), [(1,)]),
    "reversible table": (
        lambda: layers.ReversibleEmbedding(7, 4, tie_weights=False),
        (None, 5),
        [(1,), (0,)],
    ),
    "recurrent": (lambda: layers.LSTM(3), TOKENS, [(0,), (0,)]),
    "both directions": (
        lambda: layers.Bidirectional(layers.GRU(3)),
        TOKENS,
        [(0,), (0,), (0,), (0,)],
    ),
    "recurrent convolution": (
        lambda: layers.ConvLSTM1D(3, 2),
        (None, 2, 5, 4),
        [(0, 1), (0, 1)],
    ),
    "wrapped": (
        lambda: layers.SpectralNormalization(layers.DepthwiseConv2D(3)),
        IMAGE,
        [(0, 1)],
    ),
    "each time": (
        lambda: layers.TimeDistributed(layers.Conv1DTranspose(5, 3)),
        (None, 2, 5, 4),
        [(0, 2)],
    ),
}


def kernels_of(layer):
    names = ("kernel", "embeddings")
    return [w for w in layer.trainable_weights if w.name.endswith(names)]


def built(name):
    make, shape, within = KERNELS[name]
    layer = make()
    layer.build(*(shape if isinstance(shape, list) else [shape]))
    return layer, within


def filled(variables):
    """Other weights, and gradients, from a fixed seed."""
    generator = np.random.default_rng(0)
    for variable in variables:
        variable.assign(generator.normal(size=variable.shape))
    return [generator.normal(size=v.shape).astype("float32") for v in variables]


def taken_off(variables, gradients, **options):
    """What one update of gradient descent takes off each variable."""
    before = [variable.numpy() for variable in variables]
    kopt.SGD(1.0, **options).apply([tf.constant(g) for g in gradients], variables)
    return [b - v.numpy() for b, v in zip(before, variables, strict=True)]


def centralized(gradient, within):
    gradient = gradient.astype("float64")
    return gradient - gradient.mean(within, keepdims=True)


def clipped(gradient, weights, within, ratio):
    """Equation 3 of Brock et al., with their epsilon of 1e-3."""
    gradient, weights = gradient.astype("float64"), weights.astype("float64")
    limit = np.sqrt((weights**2).sum(within, keepdims=True)).clip(1e-3) * ratio
    length = np.sqrt((gradient**2).sum(within, keepdims=True))
    return gradient * np.minimum(1, limit / length)


@pytest.mark.parametrize("name", KERNELS)
def test_centralization_takes_the_mean_off_each_unit(name):
    layer, within = built(name)
    kernels = kernels_of(layer)
    gradients = filled(kernels)
    moved = taken_off(kernels, gradients, gradient_centralization=True)
    for found, gradient, axes in zip(moved, gradients, within, strict=True):
        np.testing.assert_allclose(found, centralized(gradient, axes), atol=2e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_adaptive_clipping_bounds_each_unit_by_its_weights(name):
    layer, within = built(name)
    kernels = kernels_of(layer)
    gradients = filled(kernels)
    weights = [kernel.numpy() for kernel in kernels]
    moved = taken_off(kernels, gradients, agc=0.1)
    given = zip(moved, gradients, weights, within, strict=True)
    for found, gradient, weight, axes in given:
        expected = clipped(gradient, weight, axes, 0.1)
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_each_channel_of_a_depthwise_kernel_is_a_unit():
    layer = layers.DepthwiseConv2D(3)
    layer.build(IMAGE)
    layer.kernel.assign(np.ones(layer.kernel.shape))
    gradient = np.zeros((3, 3, 4, 1), "float32") + np.arange(4.0)[:, None]
    gradient = gradient.astype("float32")
    (moved,) = taken_off([layer.kernel], [gradient], gradient_centralization=True)
    np.testing.assert_allclose(moved, 0, atol=1e-6)
    layer.kernel.assign(np.ones(layer.kernel.shape))
    (moved,) = taken_off([layer.kernel], [gradient], agc=0.1)
    lengths = np.sqrt((moved**2).sum(axis=(0, 1, 3)))
    # Nine weights of one have a norm of 3.
    np.testing.assert_allclose(lengths, [0, 0.3, 0.3, 0.3], rtol=1e-5)


VECTORS = {
    "bias of heads": (lambda: layers.MultiHeadAttention(2, 3), [TOKENS, TOKENS]),
    "bias of gates": (lambda: layers.GRU(3), [TOKENS]),
    "scale over two axes": (lambda: layers.LayerNormalization([-2, -1]), [TOKENS]),
    "slope of each place": (lambda: layers.PReLU(), [TOKENS]),
    "scale": (lambda: layers.BatchNormalization(), [TOKENS]),
}


@pytest.mark.parametrize("name", VECTORS)
def test_what_is_no_kernel_is_one_unit_and_is_not_centralized(name):
    make, shapes = VECTORS[name]
    layer = make()
    layer.build(*shapes)
    names = ("bias", "gamma", "beta", "alpha")
    vectors = [w for w in layer.trainable_weights if w.name in names]
    gradients = filled(vectors)
    moved = taken_off(vectors, gradients, gradient_centralization=True)
    for found, gradient in zip(moved, gradients, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-6)
    weights = [vector.numpy() for vector in vectors]
    moved = taken_off(vectors, gradients, agc=0.1)
    for found, gradient, weight in zip(moved, gradients, weights, strict=True):
        expected = clipped(gradient, weight, None, 0.1)
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.DepthwiseConv2D(1), IMAGE),
        (lambda: layers.EinsumDense("ab,bc->abc", (4, 3)), (None, 4)),
        (lambda: layers.Dense(3), (None, 1)),
    ],
)
def test_units_of_one_weight_are_not_centralized_to_a_standstill(make, shape):
    layer = make()
    layer.build(shape)
    (kernel,) = kernels_of(layer)
    gradients = filled([kernel])
    weights = kernel.numpy()
    moved = taken_off([kernel], gradients, gradient_centralization=True)
    np.testing.assert_allclose(moved[0], gradients[0], rtol=1e-5, atol=1e-6)
    kernel.assign(weights)
    (moved,) = taken_off([kernel], gradients, agc=0.1)
    expected = np.sign(gradients[0]) * np.minimum(
        abs(gradients[0]), 0.1 * abs(weights).clip(1e-3)
    )
    np.testing.assert_allclose(moved, expected, atol=2e-6)


def mobile():
    """Depthwise and transposed kernels, in a model within a model."""
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3, use_bias=False)]
    )
    outer = [keras.Input((8, 8, 4)), inner]
    outer += [layers.Conv2DTranspose(2, 3, use_bias=False, name="up")]
    return keras.Sequential(outer)


#: The axes that a unit of its two kernels spans.
WITHIN = [(0, 1), (0, 1, 3)]


def gradients_of(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return [np.asarray(gradient) for gradient in found]


def of_a_clone(model, path):
    return keras.models.clone_model(model)


def of_a_file(model, path):
    model.compile(kopt.SGD(1.0, gradient_centralization=True), "mse")
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


@pytest.mark.parametrize("made", [lambda m, _: m, of_a_clone, of_a_file])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_knows_the_kernels_of_a_model_however_it_was_made(
    made, jit_compile, tmp_path
):
    model = made(mobile(), tmp_path)
    if jit_compile or not model.compiled:
        optimizer = kopt.SGD(1.0, gradient_centralization=True)
        model.compile(optimizer, "mse", jit_compile=jit_compile)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(4, 8, 8, 4)).astype("float32")
    y = generator.normal(size=(4, 8, 8, 2)).astype("float32")
    gradients = gradients_of(model, x, y)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(x, y, batch_size=4, verbose=0)
    for old, variable, gradient, axes in zip(
        before, model.trainable_variables, gradients, WITHIN, strict=True
    ):
        expected = centralized(gradient, axes)
        np.testing.assert_allclose(old - variable.numpy(), expected, atol=2e-6)


def test_replicas_know_the_kernels_too(two_replicas):
    with two_replicas.scope():
        model = mobile()
        model.compile(kopt.SGD(1.0, gradient_centralization=True), "mse")
    generator = np.random.default_rng(1)
    x = generator.normal(size=(4, 8, 8, 4)).astype("float32")
    y = generator.normal(size=(4, 8, 8, 2)).astype("float32")
    gradients = gradients_of(model, x, y)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(x, y, batch_size=4, verbose=0)
    for old, variable, gradient, axes in zip(
        before, model.trainable_variables, gradients, WITHIN, strict=True
    ):
        expected = centralized(gradient, axes)
        np.testing.assert_allclose(old - variable.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("options", [{"agc": 0.1}, {"gradient_centralization": True}])
def test_rows_of_a_lazy_update_are_units_as_those_of_the_dense_gradient(options):
    def trained(sparse):
        table = layers.Embedding(6, 4)
        table.build(None)
        filled([table.embeddings])
        values = tf.constant(np.random.default_rng(1).normal(size=(3, 4)), "float32")
        rows = tf.IndexedSlices(values, tf.constant([1, 4, 1]), tf.constant([6, 4]))
        optimizer = kopt.SGD(1.0, sparse=sparse, **options)
        optimizer.apply([rows], [table.embeddings])
        return table.embeddings.numpy()

    np.testing.assert_allclose(trained("lazy"), trained("exact"), atol=1e-6)


def test_a_variable_of_no_layer_has_its_outputs_on_the_last_axis():
    variable = keras.Variable(np.zeros((3, 3, 4, 1)), name="kernel")
    (gradient,) = filled([variable])
    (moved,) = taken_off([variable], [gradient], gradient_centralization=True)
    np.testing.assert_allclose(moved, centralized(gradient, (0, 1, 2)), atol=2e-6)


def test_a_layer_of_ones_own_says_where_its_outputs_are():
    class Project(keras.Layer):
        kernel_axes = {"weight": "oi"}  # noqa: RUF012 - as users write it

        def build(self, shape):
            self.weight = self.add_weight(shape=(5, shape[-1]), name="weight")

    layer = Project()
    layer.build((None, 4))
    (gradient,) = filled([layer.weight])
    (moved,) = taken_off([layer.weight], [gradient], gradient_centralization=True)
    np.testing.assert_allclose(moved, centralized(gradient, (1,)), atol=2e-6)


def test_layers_are_looked_for_only_where_an_option_needs_them(monkeypatch):
    monkeypatch.setattr(_engine, "axes_of", lambda variables: 1 / 0)
    layer, _ = built("depthwise")
    gradients = filled([layer.kernel])
    (moved,) = taken_off([layer.kernel], gradients)
    np.testing.assert_allclose(moved, gradients[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "convolution", "depthwise"])
def test_a_kernel_that_nothing_clips_moves_as_without_the_option(name):
    layer, _ = built(name)
    gradients = filled([layer.kernel])
    weights = layer.kernel.numpy()
    (clipped,) = taken_off([layer.kernel], gradients, agc=1e9)
    layer.kernel.assign(weights)
    (plain,) = taken_off([layer.kernel], gradients)
    np.testing.assert_array_equal(clipped, plain)
