"""TensorFlow's functions inside a model of tf_keras, as operations of Keras 3.

They have the arguments of TensorFlow, in TensorFlow's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from kopt.tfmot._rebuilding import Unsupported


def _reduction(operation: Callable) -> Callable:
    return lambda input_tensor, axis=None, keepdims=False: operation(
        input_tensor, axis=axis, keepdims=keepdims
    )


def _matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False
) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _getitem(tensor: Any, key: Any) -> Any:
    keys = key if isinstance(key, (list, tuple)) else [key]
    return tensor[tuple(_slice(part) for part in keys)]


def _slice(part: Any) -> Any:
    # The form in which tf_keras keeps a slice.
    if isinstance(part, Mapping):
        return slice(part["start"], part["stop"], part["step"])
    return part


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    if conjugate:
        raise Unsupported("it conjugates what it transposes")
    return ops.transpose(a, perm)


FUNCTIONS: dict[str, Callable] = {
    "__operators__.add": lambda x, y: ops.add(x, y),
    "__operators__.getitem": _getitem,
    "cast": lambda x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(
        t, clip_value_min, clip_value_max
    ),
    "compat.v1.squeeze": lambda input, axis=None, squeeze_dims=None: ops.squeeze(
        input, squeeze_dims if axis is None else axis
    ),
    "compat.v1.transpose": _transpose,
    "concat": lambda values, axis: ops.concatenate(values, axis),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "linalg.matmul": _matmul,
    "math.abs": lambda x: ops.abs(x),
    "math.add": lambda x, y: ops.add(x, y),
    "math.exp": lambda x: ops.exp(x),
    "math.log": lambda x: ops.log(x),
    "math.maximum": lambda x, y: ops.maximum(x, y),
    "math.minimum": lambda x, y: ops.minimum(x, y),
    "math.multiply": lambda x, y: ops.multiply(x, y),
    "math.negative": lambda x: ops.negative(x),
    "math.pow": lambda x, y: ops.power(x, y),
    "math.reduce_max": _reduction(ops.max),
    "math.reduce_mean": _reduction(ops.mean),
    "math.reduce_min": _reduction(ops.min),
    "math.reduce_sum": _reduction(ops.sum),
    "math.sigmoid": lambda x: ops.sigmoid(x),
    "math.sqrt": lambda x: ops.sqrt(x),
    "math.square": lambda x: ops.square(x),
    "math.subtract": lambda x, y: ops.subtract(x, y),
    "math.tanh": lambda x: ops.tanh(x),
    "math.truediv": lambda x, y: ops.true_divide(x, y),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate),
    "nn.relu": lambda features: ops.relu(features),
    "nn.relu6": lambda features: ops.relu6(features),
    "nn.silu": lambda features, beta=1.0: ops.multiply(
        features, ops.sigmoid(ops.multiply(features, beta))
    ),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=axis),
    "reshape": lambda tensor, shape: ops.reshape(tensor, tuple(shape)),
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
}


def check(symbol: str) -> None:
    """Raise `Unsupported` if a function of TensorFlow is not known here."""
    if symbol not in FUNCTIONS:
        raise Unsupported(
            f"the bridge does not know the function tf.{symbol} in Keras 3; it knows "
            f"{', '.join(FUNCTIONS)}"
        )


def apply(symbol: str, args: tuple, kwargs: Mapping[str, Any]) -> Any:
    """The result of a function of TensorFlow on symbolic tensors of Keras 3."""
    named = {key: value for key, value in kwargs.items() if key != "name"}
    try:
        return FUNCTIONS[symbol](*args, **named)
    except TypeError as error:
        raise Unsupported(
            f"tf.{symbol} is called with {args} {named}: {error}"
        ) from None


def apply_carried(layer: Any, args: tuple) -> Any:
    """The result of the operation of Keras 3 that a layer of tf_keras carries."""
    tensors = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
    positional, named = layer.placed(tensors)
    # A copy: an operation belongs to the graph in which it was made.
    saving = keras.saving
    copy = saving.deserialize_keras_object(
        saving.serialize_keras_object(layer.keras_operation)
    )
    return copy(*positional, **named)
