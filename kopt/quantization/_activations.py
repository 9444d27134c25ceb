"""What the int8 runtime makes of activation functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from kopt.quantization.ranges import AtMost
from kopt.quantization.rule import float_class_of


class Activation(NamedTuple):
    """How an activation function is computed in int8.

    Attributes:
        kind: `"none"`; `"fused"`, computed by the layer before it as it stores its
            result; `"fixed"`, an operation of its own whose output range the runtime
            prescribes; `"free"`, of its own with a measured range; `"float"`, none.
        fixed_range: The prescribed range.
        inner: Names of ranges between the operations that the function is made of,
            with those that are known beforehand.
        form: `function(values, quantizer) -> values` in the place of the activation,
            which rounds to a range of `inner` by `quantizer.rounded(name, values)`.
    """

    kind: Literal["none", "fused", "fixed", "free", "float"]
    fixed_range: tuple[float, float] | None = None
    inner: tuple[str, ...] | Mapping[str, tuple[float, float] | AtMost] = ()
    form: Callable[..., Any] | None = None


def hard_sigmoid(values: Any, quantizer: Any) -> Any:
    """`relu6(x + 3) / 6`, which the runtime has no operation of its own for."""
    return quantizer.rounded("shifted", ops.relu6(values + 3.0)) * (1.0 / 6.0)


def hard_silu(values: Any, quantizer: Any) -> Any:
    """`x * clip(x / 6 + 1/2, 0, 1)`, as two products and a sum.

    The runtime has an operation for it, but no delegate takes that in int8. In a file
    the grids cut off where the function does.
    """
    sixth = quantizer.rounded("sixth", values * (1.0 / 6.0))
    grid = quantizer.grids.get("sixth") if quantizer.snapped else None
    if grid is None:
        return values * quantizer.rounded("gate", ops.clip(sixth + 0.5, 0.0, 1.0))
    if max(-grid.low, grid.high) < 0.5 * _GATE_STEP:
        # The gate is always 1/2, and delegates do not take a sum with so small terms.
        return values * 0.5
    return values * quantizer.rounded("gate", sixth + 0.5)


# LOGISTIC, SOFTMAX: scale 1/256, zero point -128. TANH: scale 1/128, zero point 0.
_PROBABILITY = Activation("fixed", (0.0, 255 / 256))
_SIGNED = Activation("fixed", (-1.0, 127 / 128))

# A grid on which 0, 1/2 and 1 are points, and one of the same steps for what is half
# of that away.
_GATE_STEP = 1 / 254
_HARD_SILU = Activation(
    "free",
    None,
    {
        "sixth": AtMost(-128 * _GATE_STEP, 127 * _GATE_STEP),
        "gate": (0.0, 255 * _GATE_STEP),
    },
    hard_silu,
)

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
    keras.activations.hard_silu: _HARD_SILU,
    keras.activations.hard_sigmoid: Activation(
        "free", None, ("shifted",), hard_sigmoid
    ),
}

# Operations that stand in a functional model without a layer, by their class's name.
_OPERATIONS = {
    "Relu6": Activation("fused"),
    "Softmax": _PROBABILITY,
    "Sigmoid": _PROBABILITY,
    "Tanh": _SIGNED,
    "LeakyRelu": Activation("free"),
    "Gelu": Activation("free"),
    "Silu": Activation("free"),
    "HardSilu": _HARD_SILU,
    "HardSigmoid": Activation("free", None, ("shifted",), hard_sigmoid),
}


def activation_of(layer: Any) -> Activation:
    """The activation that a layer applies to its result, or that it is."""
    if not isinstance(layer, keras.Layer):
        return _of_operation(layer)
    if isinstance(layer, keras.layers.ReLU):
        return _relu(layer)
    if isinstance(layer, keras.layers.Softmax):
        return _PROBABILITY
    if isinstance(layer, (keras.layers.LeakyReLU, keras.layers.PReLU)):
        return Activation("free")
    return of_function(getattr(layer, "activation", None))


def softmax_axis(layer: Any) -> int | None:
    """The axis of a layer or operation that is a softmax; None of any other."""
    kind = float_class_of(layer)
    if kind.__name__ == "Softmax":
        axis = layer.axis
        return axis if isinstance(axis, int) else axis[0]
    is_one = kind is keras.layers.Activation and (
        layer.activation is keras.activations.softmax
    )
    return -1 if is_one else None


def of_function(function: Any) -> Activation:
    """An activation function, or a layer in the place of one."""
    if isinstance(function, keras.Layer):
        return activation_of(function)
    try:
        return _FUNCTIONS.get(function, Activation("float"))
    except TypeError:  # A callable that cannot be looked up.
        return Activation("float")


def _of_operation(operation: Any) -> Activation:
    name = float_class_of(operation).__name__
    if name in ("Relu", "ReLU"):
        return _relu(operation) if name == "ReLU" else Activation("fused")
    return _OPERATIONS.get(name, Activation("none"))


def _relu(layer: Any) -> Activation:
    if layer.threshold or layer.max_value not in (None, 6):
        return Activation("float")
    if layer.negative_slope:
        return Activation("free" if layer.max_value is None else "float")
    return Activation("fused")
