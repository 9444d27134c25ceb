"""Which units optax clips and centralizes, as docs/moving.md says."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.sampling import sampled

pytestmark = pytest.mark.peer
layers = keras.layers

#: A layer, what it is built on, and whether optax's units are kopt's.
KERNELS = {
    "dense": (lambda: layers.Dense(5), (None, 4), True),
    "convolution": (lambda: layers.Conv2D(5, 3), (None, 8, 8, 4), True),
    "in 3D": (lambda: layers.Conv3D(5, 2), (None, 4, 4, 4, 3), True),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (None, 5, 4),
        True,
    ),
    "in 1D": (lambda: layers.Conv1D(5, 3), (None, 8, 4), False),
    "output": (
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 5)),
        (None, 5, 2, 3),
        False,
    ),
    "transposed": (lambda: layers.Conv2DTranspose(5, 3), (None, 8, 8, 4), False),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (None, 8, 8, 4), False),
    "embedding": (lambda: layers.Embedding(7, 4), (None, 5), False),
}


def layer_and_gradient(name):
    make, shape, _ = KERNELS[name]
    layer = make()
    layer.build(shape)
    kernel = layer.trainable_weights[0]
    generator = np.random.default_rng(0)
    kernel.assign(generator.normal(size=kernel.shape))
    return layer, kernel, generator.normal(size=kernel.shape).astype("float32")


@pytest.mark.parametrize(
    "name", sampled(KERNELS, ["dense", "transposed", "embedding"], pytest.mark.slow)
)
def test_adaptive_clipping_of_optax_has_the_units_of_kopt_or_not(name):
    optax = pytest.importorskip("optax")
    _layer, kernel, gradient = layer_and_gradient(name)
    before = kernel.numpy()
    clip = optax.adaptive_grad_clip(0.1)
    expected, _ = clip.update(gradient, clip.init(before), before)
    kopt.SGD(1.0, agc=0.1).apply([tf.constant(gradient)], [kernel])
    same = np.allclose(before - kernel.numpy(), expected, atol=1e-5)
    assert same == KERNELS[name][2]


def test_optax_centralizes_each_input_of_a_dense_kernel():
    optax = pytest.importorskip("optax")
    centralize = optax.centralize()
    gradient = layer_and_gradient("dense")[2]
    found, _ = centralize.update(gradient, centralize.init(gradient))
    np.testing.assert_allclose(found, gradient - gradient.mean(1, keepdims=True))
