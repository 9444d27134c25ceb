"""Penalties on matrices take those of each layer."""

import keras
import numpy as np
import pytest

from kopt.regularizers import (
    SRIP,
    NuclearNorm,
    SoftOrthogonal,
    SpectralNorm,
    TotalVariation,
    apply,
)

layers = keras.layers
#: A layer, its input, and its matrices, written down by hand from the kernels.
MATRICES = {
    "dense": (lambda: layers.Dense(5), (4,), lambda k: [k]),
    "convolution": (
        lambda: layers.Conv2D(6, 3),
        (8, 8, 4),
        lambda k: [k.reshape(36, 6)],
    ),
    "transposed": (
        lambda: layers.Conv2DTranspose(5, 3),
        (8, 8, 4),
        lambda k: [k.transpose(0, 1, 3, 2).reshape(36, 5)],
    ),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (8, 8, 4),
        lambda k: [k[:, :, channel].reshape(9, 2) for channel in range(4)],
    ),
    "gates": (
        lambda: layers.LSTM(3),
        (5, 4),
        lambda k: [k[:, 3 * gate : 3 * gate + 3] for gate in range(4)],
    ),
    "outputs first": (
        lambda: layers.EinsumDense("ab,cb->ac", 5),
        (4,),
        lambda k: [k.T],
    ),
}
SINGULAR = {
    SpectralNorm: lambda s: s.max() ** 2,
    NuclearNorm: lambda s: s.sum(),
    SRIP: lambda s: abs(s**2 - 1).max(),
    SoftOrthogonal: lambda s: ((s**2 - 1) ** 2).sum(),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("penalty", SINGULAR)
def test_the_matrices_are_those_of_the_layer(name, penalty):
    make, shape, matrices = MATRICES[name]
    model = keras.Sequential([keras.Input(shape), make()])
    apply(model, {".*": penalty(0.5)})
    (kernel,) = [w for w in model.trainable_weights if w.regularizer is not None]
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    singular = [
        np.linalg.svd(matrix.astype("float64"), compute_uv=False)
        for matrix in matrices(kernel.numpy())
    ]
    expected = 0.5 * sum(SINGULAR[penalty](values) for values in singular)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", [SpectralNorm, SRIP])
def test_many_power_iterations_reach_the_norm_and_few_stay_below(penalty):
    kernel = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    exact, many, few = (float(penalty(1.0, n)(kernel)) for n in (None, 200, 1))
    assert many == pytest.approx(exact, rel=1e-6)
    assert 0.3 * exact < few < exact


@pytest.mark.parametrize("penalty", SINGULAR)
def test_a_bias_is_refused(penalty):
    with pytest.raises(ValueError, match="kernels of at least 2 axes"):
        penalty()(np.ones(3, "float32"))


def test_an_orthogonal_kernel_stays_and_another_one_becomes_so():
    layer = layers.Dense(4, use_bias=False, kernel_regularizer=SoftOrthogonal(1.0))
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.02), lambda y, p: 0 * p, jit_compile=False)
    x, y = np.ones((32, 6)), np.ones((32, 4))
    model.fit(x, y, batch_size=1, epochs=10, verbose=0)
    kernel = layer.kernel.numpy()
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-3)


def test_the_nuclear_norm_lowers_the_rank():
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 6)).astype("float32")
    y = x @ (random.normal(size=(6, 2)) @ random.normal(size=(2, 5))).astype("float32")
    y += random.normal(size=y.shape) / 2

    def values(penalty):
        keras.utils.set_random_seed(0)
        layer = layers.Dense(5, use_bias=False, kernel_regularizer=penalty)
        model = keras.Sequential([keras.Input((6,)), layer])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        model.fit(x, y, batch_size=64, epochs=20, verbose=0)
        return np.linalg.svd(layer.kernel.numpy(), compute_uv=False)

    plain, low = values(None), values(NuclearNorm(0.1))
    assert low[2:].max() < 0.5 * plain[2:].max()
    assert low[1] > 0.7 * plain[1]


def test_total_variation_runs_along_the_window_of_a_convolution():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])
    apply(model, {".*": TotalVariation(0.5)})
    kernel = model.layers[0].kernel.numpy().astype("float64")
    rows, columns = (np.abs(np.diff(kernel, axis=axis)).sum() for axis in (0, 1))
    expected = 0.5 * (rows + columns)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_total_variation_of_weights_without_a_window_asks_for_an_axis():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    apply(model, {".*": TotalVariation()})
    with pytest.raises(ValueError, match="`axis` must be given"):
        _ = model.losses
    with pytest.raises(ValueError, match="`axis` must be given"):
        TotalVariation()(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="must name axes of the weights"):
        TotalVariation(axis=2)(np.ones((2, 3), "float32"))
