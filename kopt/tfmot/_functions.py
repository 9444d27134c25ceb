"""Activations, regularizers and constraints in one Keras and in the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cache
from typing import Any

import keras

from kopt._keras.two_versions import is_of_keras
from kopt.tfmot._packages import tf_keras
from kopt.tfmot._rebuilding import Unsupported

# The activations that have one name in both and compute the same. `hard_sigmoid` has
# the name in common and not the slope.
_SAME = {
    "elu",
    "exponential",
    "gelu",
    "linear",
    "mish",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
}
_ALIASES = {"swish": "silu"}


def older_activation(value: Any) -> Any:
    """The activation in tf_keras for one of Keras 3, or for its name or config."""
    function = keras.activations.get(value)
    back = getattr(function, "tf_keras_function", None)
    if back is not None:
        return back
    name = _ALIASES.get(_name(function), _name(function))
    if is_of_keras(function) and name in _SAME:
        # tf_keras has no function of its own for it and would not save TensorFlow's.
        return "swish" if name == "silu" else name
    return _carried(function)


@cache
def _carried(function: Callable) -> Callable:
    """An activation of Keras 3 as tf_keras saves and loads it."""

    @functools.wraps(function)
    def activation(x: Any) -> Any:
        return function(x)

    activation.keras_function = function  # type: ignore[attr-defined]
    name = f"keras3_{_name(function)}"
    activation.__name__ = name
    register = tf_keras().saving.register_keras_serializable("kopt", name)
    carried: Callable = register(activation)
    return carried


def newer_activation(value: Any) -> Any:
    """The activation in Keras 3 for one of tf_keras, or for its name or config."""
    function = tf_keras().activations.get(value)
    carried = getattr(function, "keras_function", None)
    if carried is not None:
        return carried
    name = _ALIASES.get(_name(function), _name(function))
    if name == "hard_sigmoid" and is_of_keras(function):
        return _hard_sigmoid()
    if name in {*_SAME, "leaky_relu", "log_softmax", "relu6"}:
        return name
    raise Unsupported(f"its activation {name} is not known to Keras 3")


@cache
def _hard_sigmoid() -> Callable:
    """The hard sigmoid of tf_keras, which is flatter than the one of Keras 3."""

    @keras.saving.register_keras_serializable("kopt")
    def tf_keras_hard_sigmoid(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    tf_keras_hard_sigmoid.tf_keras_function = "hard_sigmoid"
    return tf_keras_hard_sigmoid


_REGULARIZERS = ("L1", "L2", "L1L2", "OrthogonalRegularizer")
_CONSTRAINTS = ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")


def regularizer(value: Any, source: Any, target: Any) -> Any:
    """The regularizer of the same class and settings."""
    found = source.regularizers.get(value)
    return _rebuilt(found, target.regularizers, _REGULARIZERS, "regularizer")


def constraint(value: Any, source: Any, target: Any) -> Any:
    """The constraint of the same class and settings."""
    found = source.constraints.get(value)
    return _rebuilt(found, target.constraints, _CONSTRAINTS, "constraint")


def _rebuilt(found: Any, module: Any, known: tuple[str, ...], what: str) -> Any:
    if found is None:
        return None
    name = type(found).__name__
    if name not in known or not is_of_keras(type(found)):
        raise Unsupported(f"its {what} {name} is not one that both Keras have")
    return getattr(module, name)(**found.get_config())


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
