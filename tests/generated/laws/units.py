"""A unit's gradient is clipped, centralized and penalized by itself.

A unit is one output of a layer with all that feeds it. What feeds an output, the layer
itself says: the weights that its output changes with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import kopt
from tests.generated.description import Description
from tests.generated.law import law


class Linear(NamedTuple):
    """A layer that is linear in its only weight.

    Args:
        kind: Its class in `keras.layers`.
        inputs: The shape of a sample.
        arguments: Its arguments.
        axes: How many of the last axes of its output number units; those before them
            number places.
    """

    kind: str
    inputs: tuple[int, ...]
    arguments: dict[str, Any]
    axes: int = 1

    def build(self) -> keras.Layer:
        layer = getattr(keras.layers, self.kind)(**self.arguments)
        layer.build((None, *self.inputs))
        return layer

    def units(self) -> np.ndarray:
        """The unit that each weight feeds, in the shape of the kernel."""
        layer = self.build()
        kernel = layer.trainable_variables[0]
        x = tf.random.stateless_normal((2, *self.inputs), (1, 2))
        with tf.GradientTape(persistent=True) as tape:
            outputs = layer(x)
            units = outputs.shape[-self.axes :]
            sums = tf.reduce_sum(tf.reshape(outputs, (-1, *units)), axis=0)
            sums = tf.reshape(sums, (-1,))
        # In a loop, since TensorFlow cannot vectorize convolutions in groups.
        jacobian = tape.jacobian(sums, kernel.value, experimental_use_pfor=False)
        feeds = jacobian.numpy() != 0
        assert (feeds.sum(axis=0) == 1).all(), "a weight feeds several units"
        return feeds.argmax(axis=0)


class Inside(NamedTuple):
    """A kernel inside of a larger layer, which counts like that of a small one.

    Args:
        kind: The class of the larger layer.
        inputs: The shape of a sample.
        arguments: Its arguments.
        kernel: The end of the kernel's path.
        like: The small layer, a key of `LINEAR`.
    """

    kind: str
    inputs: tuple[int, ...]
    arguments: dict[str, Any]
    kernel: str
    like: str


_BARE = {"use_bias": False}
_TWO = {"kernel_size": 2, **_BARE}
_HEADS = {"equation": "abc,cde->abde", "output_shape": (None, 2, 3)}
LINEAR = {
    "dense": Linear("Dense", (4,), {"units": 12, **_BARE}),
    "conv1d": Linear("Conv1D", (5, 4), {"filters": 6, **_TWO}),
    "conv1d in groups": Linear("Conv1D", (5, 4), {"filters": 6, "groups": 2, **_TWO}),
    "conv2d": Linear("Conv2D", (4, 4, 4), {"filters": 6, **_TWO}),
    "conv2d in groups": Linear(
        "Conv2D", (4, 4, 4), {"filters": 6, "groups": 2, **_TWO}
    ),
    "depthwise1d": Linear("DepthwiseConv1D", (5, 4), _TWO),
    "depthwise2d": Linear("DepthwiseConv2D", (4, 4, 3), _TWO),
    "depthwise2d by two": Linear(
        "DepthwiseConv2D", (4, 4, 3), {"depth_multiplier": 2, **_TWO}
    ),
    "transposed1d": Linear("Conv1DTranspose", (5, 4), {"filters": 3, **_TWO}),
    "transposed2d": Linear("Conv2DTranspose", (4, 4, 4), {"filters": 3, **_TWO}),
    "transposed3d": Linear("Conv3DTranspose", (3, 3, 3, 2), {"filters": 3, **_TWO}),
    "einsum": Linear(
        "EinsumDense", (5, 4), {"equation": "abc,cd->abd", "output_shape": (None, 3)}
    ),
    "einsum turned": Linear(
        "EinsumDense", (5, 4), {"equation": "abc,dc->abd", "output_shape": (None, 3)}
    ),
    "einsum to heads": Linear("EinsumDense", (5, 4), _HEADS, axes=2),
    "einsum for each place": Linear(
        "EinsumDense",
        (5, 4),
        {"equation": "abc,bcd->abd", "output_shape": (5, 3)},
        axes=2,
    ),
}
INSIDE = {
    "separable": Inside(
        "SeparableConv2D", (4, 4, 3), {"filters": 5, **_TWO}, "depthwise", "depthwise2d"
    ),
    "lstm": Inside("LSTM", (5, 4), {"units": 3}, "cell/kernel", "dense"),
    "attention": Inside(
        "MultiHeadAttention",
        (5, 4),
        {"num_heads": 2, "key_dim": 3},
        "query/kernel",
        "einsum to heads",
    ),
}


@dataclass(frozen=True, repr=False)
class Kernel(Description):
    """A kernel, and what its gradient goes through.

    Args:
        layer: A key of `LINEAR` or `INSIDE`.
        flags: Flags of the optimizer.
        factor: How much longer the gradients of the other units become.
    """

    layer: str = "dense"
    flags: dict[str, Any] = field(default_factory=dict)
    factor: float = 8.0

    def build(self) -> tuple[keras.Layer, keras.Variable, np.ndarray]:
        """The layer, its kernel, and the unit that each weight of it feeds."""
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        if self.layer in LINEAR:
            layer = LINEAR[self.layer].build()
            return layer, layer.trainable_variables[0], LINEAR[self.layer].units()
        inside = INSIDE[self.layer]
        layer = getattr(keras.layers, inside.kind)(**inside.arguments)
        shape = (None, *inside.inputs)
        layer.build(*[shape] * (2 if self.layer == "attention" else 1))
        (kernel,) = [v for v in layer.weights if inside.kernel in v.path]
        return layer, kernel, LINEAR[inside.like].units()


_FLAGS = ({"agc": 0.1}, {"agc": 1.0}, {"gradient_centralization": True})


def _kernels(layers: tuple[str, ...]) -> st.SearchStrategy[Kernel]:
    flags, factors = st.sampled_from(_FLAGS), st.sampled_from((8.0, 0.125))
    return st.builds(Kernel, st.sampled_from(layers), flags, factors)


def update(case: Kernel, kernel: keras.Variable, gradient: np.ndarray) -> np.ndarray:
    """What a step of plain descent takes off the kernel."""
    before = kernel.numpy()
    kopt.SGD(1.0, **case.flags).apply([tf.constant(gradient)], [kernel])
    after = kernel.numpy()
    kernel.assign(before)
    return before - after


@law(_kernels((*LINEAR, *INSIDE)), quick=10)
def a_unit_does_not_depend_on_the_others(case: Kernel) -> None:
    _layer, kernel, units = case.build()
    gradient = np.random.default_rng(0).normal(size=units.shape).astype("float32")
    other = np.where(units == 0, gradient, case.factor * gradient + 1).astype("float32")
    one, two = (update(case, kernel, g)[units == 0] for g in (gradient, other))
    np.testing.assert_allclose(
        one,
        two,
        rtol=1e-5,
        atol=1e-6,
        err_msg="the first unit's step depends on the gradients of others",
    )


@law(_kernels((*LINEAR, *INSIDE)), quick=10)
def a_unit_is_clipped_or_centralized_as_a_whole(case: Kernel) -> None:
    """By the definitions, Brock et al. 2021 and Yong et al. 2020."""
    _layer, kernel, units = case.build()
    gradient = np.random.default_rng(0).normal(size=units.shape).astype("float32")
    weights, expected = kernel.numpy(), gradient.copy()
    for unit in range(units.max() + 1):
        own = units == unit
        if "agc" in case.flags:
            limit = case.flags["agc"] * max(np.linalg.norm(weights[own]), 1e-3)
            expected[own] *= min(1, limit / np.linalg.norm(gradient[own]))
        else:
            expected[own] -= gradient[own].mean()
    found = update(case, kernel, gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@law(_kernels(tuple(LINEAR)), quick=8)
def a_group_of_weights_is_a_unit(case: Kernel) -> None:
    """`GroupLasso`, put on a whole model, adds up the norms of units."""
    layer, kernel, units = case.build()
    model = keras.Sequential([keras.Input(LINEAR[case.layer].inputs), layer])
    penalty = kopt.regularizers.GroupLasso(1.0, scale_by_size=False)
    kopt.regularizers.apply(model, {".*": penalty})
    weights = kernel.numpy()
    norms = [np.linalg.norm(weights[units == u]) for u in range(units.max() + 1)]
    np.testing.assert_allclose(float(sum(model.losses)), sum(norms), rtol=1e-5)
