"""A unit's gradient is clipped, centralized and penalized by itself.

A unit is one output of a layer with all that feeds it. What feeds an output, the layer
itself says: the weights that its output changes with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import kopt
from tests.generated.description import Description
from tests.generated.law import law

#: Layers that are linear in a kernel: shape of the input, arguments.
KERNELS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "Dense": ((4,), {"units": 3}),
    "EinsumDense": ((5, 4), {"equation": "abc,cd->abd", "output_shape": (None, 3)}),
    "Conv1D": ((5, 4), {"filters": 6, "kernel_size": 2}),
    "Conv2D": ((4, 4, 4), {"filters": 6, "kernel_size": 2}),
    "DepthwiseConv1D": ((5, 4), {"kernel_size": 2}),
    "DepthwiseConv2D": ((4, 4, 3), {"kernel_size": 2}),
    "Conv1DTranspose": ((5, 4), {"filters": 3, "kernel_size": 2}),
    "Conv2DTranspose": ((4, 4, 4), {"filters": 3, "kernel_size": 2}),
}
_VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "Conv1D": ({}, {"groups": 2}),
    "Conv2D": ({}, {"groups": 2}),
    "DepthwiseConv1D": ({}, {"depth_multiplier": 2}),
    "DepthwiseConv2D": ({}, {"depth_multiplier": 2}),
    "EinsumDense": (
        {},
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 3)},
        {"equation": "abc,dc->abd"},
        {"equation": "abc,bcd->abd", "output_shape": (5, 3)},
    ),
}


@dataclass(frozen=True, repr=False)
class Kernel(Description):
    """A layer with one kernel, and what its gradient goes through.

    Args:
        kind: A key of `KERNELS`.
        options: More arguments of the layer.
        flags: Flags of the optimizer.
        factor: How much longer the gradients of the other units become.
    """

    kind: str = "Dense"
    options: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    factor: float = 8.0

    def build(self) -> tuple[keras.Layer, np.ndarray]:
        """The layer, and the unit that each of its weights feeds."""
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        shape, arguments = KERNELS[self.kind]
        arguments = {**arguments, "use_bias": False, **self.options}
        arguments = {
            k: v for k, v in arguments.items() if k != "use_bias" or _biased(self.kind)
        }
        layer = getattr(keras.layers, self.kind)(**arguments)
        x = tf.random.stateless_normal((2, *shape), (1, 2))
        with tf.GradientTape(persistent=True) as tape:
            outputs = layer(x)
            flat = tf.reshape(outputs, (-1, *_unit_shape(self, outputs)))
            sums = tf.reshape(tf.reduce_sum(flat, axis=0), (-1,))
        kernel = layer.trainable_variables[0]
        jacobian = (
            tape.jacobian(sums, kernel.value, experimental_use_pfor=False).numpy() != 0
        )
        assert (jacobian.sum(axis=0) == 1).all(), "a weight feeds several units"
        return layer, jacobian.argmax(axis=0)


def _biased(kind: str) -> bool:
    return kind != "EinsumDense"


def _unit_shape(case: Kernel, outputs: tf.Tensor) -> tuple[int, ...]:
    """The axes of an output that count units; the others are positions."""
    if case.options.get("equation") == "abc,cde->abde":
        return tuple(outputs.shape[-2:])
    return tuple(outputs.shape[1:] if _each_position(case) else outputs.shape[-1:])


def _each_position(case: Kernel) -> bool:
    return case.options.get("equation") == "abc,bcd->abd"


@st.composite
def _kernels(draw: Any) -> Kernel:
    kind = draw(st.sampled_from(sorted(KERNELS)))
    options = draw(st.sampled_from(_VARIANTS.get(kind, ({},))))
    flags = draw(
        st.sampled_from(({"agc": 0.1}, {"gradient_centralization": True}, {"agc": 1.0}))
    )
    return Kernel(kind, options, flags, draw(st.sampled_from((8.0, 0.125))))


def updates(case: Kernel, layer: keras.Layer, gradient: np.ndarray) -> np.ndarray:
    kernel = layer.trainable_variables[0]
    before = kernel.numpy()
    kopt.SGD(1.0, **case.flags).apply([tf.constant(gradient)], [kernel])
    after = kernel.numpy()
    kernel.assign(before)
    return before - after


@law(_kernels(), quick=12)
def a_unit_does_not_depend_on_the_others(case: Kernel) -> None:
    layer, units = case.build()
    gradient = np.random.default_rng(0).normal(size=units.shape).astype("float32")
    other = np.where(units == 0, gradient, case.factor * gradient + 1).astype("float32")
    one, two = (updates(case, layer, g) for g in (gradient, other))
    np.testing.assert_allclose(
        one[units == 0],
        two[units == 0],
        rtol=1e-5,
        atol=1e-6,
        err_msg="the first unit's step depends on the gradients of others",
    )


@law(_kernels(), quick=6)
def a_unit_is_clipped_or_centralized_as_a_whole(case: Kernel) -> None:
    """By the definitions, Brock et al. 2021 and Yong et al. 2020."""
    layer, units = case.build()
    gradient = np.random.default_rng(0).normal(size=units.shape).astype("float32")
    weights = layer.trainable_variables[0].numpy()
    expected = gradient.copy()
    for unit in range(units.max() + 1):
        own = units == unit
        if "agc" in case.flags:
            norm = max(np.linalg.norm(weights[own]), 1e-3)
            expected[own] *= min(
                1, case.flags["agc"] * norm / np.linalg.norm(gradient[own])
            )
        else:
            expected[own] -= gradient[own].mean()
    np.testing.assert_allclose(
        updates(case, layer, gradient), expected, rtol=1e-5, atol=1e-6
    )


@law(_kernels(), quick=6)
def a_group_of_weights_is_a_unit(case: Kernel) -> None:
    """`GroupLasso`, put on a whole model, adds up the norms of units."""
    layer, units = case.build()
    model = keras.Sequential([keras.Input(KERNELS[case.kind][0]), layer])
    penalty = kopt.regularizers.GroupLasso(1.0, scale_by_size=False)
    kopt.regularizers.apply(model, {".*": penalty})
    weights = layer.trainable_variables[0].numpy()
    norms = [np.linalg.norm(weights[units == u]) for u in range(units.max() + 1)]
    np.testing.assert_allclose(float(sum(model.losses)), sum(norms), rtol=1e-5)
