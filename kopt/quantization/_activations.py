"""What the int8 runtime makes of activation functions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import keras


class Activation(NamedTuple):
    """How an activation function is computed in int8.

    Attributes:
        kind: `"none"`; `"fused"`, computed by the layer before it as it stores its
            result; `"fixed"`, an operation of its own whose output range the runtime
            prescribes; `"free"`, of its own with a measured range; `"float"`, none.
        fixed_range: The prescribed range.
    """

    kind: Literal["none", "fused", "fixed", "free", "float"]
    fixed_range: tuple[float, float] | None = None


# LOGISTIC, SOFTMAX: scale 1/256, zero point -128. TANH: scale 1/128, zero point 0.
_PROBABILITY = Activation("fixed", (0.0, 255 / 256))
_SIGNED = Activation("fixed", (-1.0, 127 / 128))

_FUNCTIONS = {
    None: Activation("none"),
    keras.activations.linear: Activation("none"),
    keras.activations.relu: Activation("fused"),
    keras.activations.relu6: Activation("fused"),
    keras.activations.softmax: _PROBABILITY,
    keras.activations.sigmoid: _PROBABILITY,
    keras.activations.tanh: _SIGNED,
    keras.activations.leaky_relu: Activation("free"),
    keras.activations.gelu: Activation("free"),
    keras.activations.silu: Activation("free"),
    keras.activations.hard_silu: Activation("free"),
}


def activation_of(layer: Any) -> Activation:
    """The activation that a layer applies to its result, or that it is."""
    if isinstance(layer, keras.layers.ReLU):
        return _relu(layer)
    if isinstance(layer, keras.layers.Softmax):
        return _PROBABILITY
    if isinstance(layer, keras.layers.LeakyReLU):
        return Activation("free")
    function = getattr(layer, "activation", None)
    if isinstance(function, keras.Layer):
        return activation_of(function)
    try:
        return _FUNCTIONS.get(function, Activation("float"))
    except TypeError:  # A callable that cannot be looked up.
        return Activation("float")


def _relu(layer: keras.layers.ReLU) -> Activation:
    if layer.threshold or layer.max_value not in (None, 6):
        return Activation("float")
    if layer.negative_slope:
        return Activation("free" if layer.max_value is None else "float")
    return Activation("fused")
